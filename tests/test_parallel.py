"""Tests of parallel.py: the tests of several files run in processes and are reported as usual."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import parallel

pytestmark = [pytest.mark.host, pytest.mark.skipif(
    parallel.PROCESSES == 1, reason="one core: the tests run in one process")]
ALL = """
    import os
    import pytest

    def test_passes():
        print(os.getpid(), file=open("process", "w"))

    def test_fails():
        print("the output")
        assert 1 + 1 == 3

    @pytest.mark.skip(reason="the reason")
    def test_skipped():
        pass

    @pytest.fixture
    def broken():
        raise ValueError("the fixture")

    def test_has_an_error(broken):
        pass
"""


def start_suite(folder, *args, **files):
    """Start pytest in a folder with these test files; return the process."""
    shutil.copy(parallel.__file__, folder)
    (folder / "conftest.py").write_text("from parallel import pytest_runtestloop")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.Popen([sys.executable, "-m", "pytest", *args], cwd=folder, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_suite(folder, *args, **files):
    """Run the test files and return (exit status, output, whether another process ran them)."""
    process = start_suite(folder, *args, **files)
    out, _ = process.communicate(timeout=120)
    written = folder / "process"
    return process.returncode, out, written.exists() and int(written.read_text()) != process.pid


@pytest.mark.parametrize("args, apart", [([], True), (["test_all.py", "test_one.py"], False)])
def test_all_outcomes_are_reported(args, apart, tmp_path):
    """Without arguments the tests run in processes of their own, and the report is the same."""
    status, out, was_apart = run_suite(tmp_path, *args, test_all=ALL, test_one="def test(): pass")
    assert status == 1 and was_apart == apart
    assert "collected 5 items" in out and "test_all.py .FsE " in out
    for words in ("assert (1 + 1) == 3", "the output", "ValueError: the fixture", "[100%]",
                  "1 failed, 2 passed, 1 skipped, 1 error"):
        assert words in out


@pytest.mark.parametrize("fault, status, words", [
    ("import nowhere", 2, "No module named 'nowhere'"),
    ("import os\ndef test(): os._exit(0)", 3, "python -m pytest tests -v"),
    ("import pytest\ndef test(): pytest.exit('in the middle')", 3, "in the middle")])
def test_a_file_that_does_not_end_is_an_error(fault, status, words, tmp_path):
    found, out, _ = run_suite(tmp_path, test_all=ALL, test_fault=fault)
    assert found == status and words in out


def test_a_test_that_did_not_run_is_an_error(tmp_path):
    fault = "import os\nif 'conftest' in str(os.sys.argv): pass\ndef test(): pass"
    """A file that has fewer tests in the process than in the main one."""
    status, out, _ = run_suite(tmp_path, test_fault="""
        import multiprocessing
        if not multiprocessing.parent_process():
            def test_only_here(): pass
        def test(): pass
    """)
    assert status == 3 and "did not run: ['test_fault.py::test_only_here']" in out


def test_ctrl_c_ends_all_processes(tmp_path):
    process = start_suite(tmp_path, test_all=ALL, test_slow="""
        import os, time
        def test():
            print(os.getpid(), file=open("slow", "w"), flush=True)
            time.sleep(100)
    """)
    while not (tmp_path / "slow").exists() or not (tmp_path / "slow").read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "KeyboardInterrupt" in out
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "slow").read_text()), 0)
