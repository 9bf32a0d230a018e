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
    """Without arguments the tests run in processes of their own, with the same outcomes."""
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
    """A file that has fewer tests in the process than in the main one."""
    status, out, _ = run_suite(tmp_path, test_fault="""
        import multiprocessing
        if not multiprocessing.parent_process():
            def test_only_here(): pass
        def test(): pass
    """)
    assert status == 3 and "did not run: ['test_fault.py::test_only_here']" in out


SLOW = """
    import os, time
    def test():
        print(os.getpid(), file=open("slow", "w"), flush=True)
        time.sleep(100)
"""


def wait_for_number(path):
    """Wait until the file at `path` has a whole number, and return it."""
    limit = time.monotonic() + 60
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return int(path.read_text())


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGKILL"])
def test_the_processes_of_the_tests_end_with_their_parent(number, tmp_path):
    """The output ends when the last process that writes to it has ended; the slow test takes 100 s.
    """
    process = start_suite(tmp_path, test_all=ALL, test_slow=SLOW)
    wait_for_number(tmp_path / "slow")
    process.send_signal(getattr(signal, number))
    process.communicate(timeout=50)
    assert process.returncode == (2 if number == "SIGINT" else -signal.SIGKILL)
