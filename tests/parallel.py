"""Run all tests in a process for each core, at most four, a file at a time.

This is for the command without arguments. With arguments, such as `tests` or -x, pytest runs the
tests one after another in its own process, where a debugger or a measure of coverage sees them.
"""

import contextlib
import io
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import pytest

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PROCESSES = min(CORES, 4)       # with four, all other files are done before the slowest one
SLOWEST = ["test_examples.py", "test_trials.py"]    # they begin first: no core waits for them


def pytest_runtestloop(session):
    """Run the files in processes of their own and report their tests as if they had run here."""
    options = session.config.invocation_params.args or os.environ.get("PYTEST_ADDOPTS")
    if session.testsfailed or options or PROCESSES == 1:
        return None         # pytest's own loop
    files = sorted({item.path for item in session.items},
                   key=lambda path: (path.name not in SLOWEST, path))
    missing = {item.nodeid for item in session.items}
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"),
                             end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(run_file, path) for path in files]):
                for report in future.result():
                    missing.discard(report["nodeid"])
                    log(session.config, report)
        except BrokenProcessPool:
            pytest.exit("a process crashed or was killed: `python -m pytest tests -v` shows in "
                        "which test", returncode=3)
        except BaseException:       # Ctrl-C, too
            for process in multiprocessing.active_children():
                process.kill()
            raise
    assert not missing, f"these tests did not run: {sorted(missing)}"
    return True


def end_with_parent():
    """Begin to wait for the end of the process that has started this one, and end with it."""
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)
    threading.Thread(target=wait, daemon=True).start()


def run_file(path):
    """Run the tests of a file and return their reports as dictionaries."""
    recorder = Recorder()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            status = pytest.main([str(path), "-p", "no:cacheprovider"], plugins=[recorder])
        except Exception as error:
            raise RuntimeError(f"pytest failed in {path}") from error
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status!r} in {path}:\n{output.getvalue()}")
    return recorder.reports


class Recorder:
    """A plugin that keeps the reports of the tests."""

    def pytest_configure(self, config):
        self.config, self.reports = config, []

    def pytest_runtest_logreport(self, report):
        self.reports.append(self.config.hook.pytest_report_to_serializable(
            config=self.config, report=report))


def log(config, data):
    """Report a test's setup, call or teardown to pytest."""
    report = config.hook.pytest_report_from_serializable(config=config, data=data)
    if report.when == "setup":
        config.hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
    config.hook.pytest_runtest_logreport(report=report)
    if report.when == "teardown":
        config.hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
