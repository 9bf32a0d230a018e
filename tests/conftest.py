"""Fixtures that run every test on each backend.

The backends are numpy, the stand-in device (standin.py), and cupy if there is a GPU. A test with
one of these marks runs once, with numpy as the backend:

    @pytest.mark.host                   the test uses no arrays of a backend
    @pytest.mark.numpy_only(reason)     the test would show nothing more on another backend
"""

import gc
import os
import signal
import sys
import tempfile
import warnings

import pytest

# tinygan reads these variables when it is imported; the tests must not depend on their values.
for name in ("TINYGAN_BACKEND", "TINYGAN_DATA"):
    os.environ.pop(name, None)

# A job in the background may ignore Ctrl-C, and so would the processes that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python is told to keep no compiled modules, the processes of the tests share them in a
# temporary folder: to compile tinygan takes each of them 0.06 s, and the test files take 4 s.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    _compiled = tempfile.TemporaryDirectory()
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = _compiled.name
    sys.dont_write_bytecode = False

# To wait until a file is on the disk takes a few per cent of the time of the suite. A file that is
# not there yet would be missing only after a power cut.
os.fsync = lambda handle: None

import standin
from parallel import pytest_runtestloop     # a hook of pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")     # tinygan warns on import where numpy has no OpenBLAS
    from tinygan import backend, rng


def _why_no_gpu():
    """Return None if cupy works, else the reason why it does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # cupy warns on import where it finds no CUDA
            backend.use("cupy")
    except backend.UserError as error:
        return str(error)
    finally:
        backend.use("numpy")
    return None


WHY_NO_GPU = _why_no_gpu()
BACKENDS = ["numpy", "standin"] + (["cupy"] if WHY_NO_GPU is None else [])


def pytest_configure(config):
    config.addinivalue_line("markers", "host: uses no arrays of a backend; runs once")
    config.addinivalue_line("markers", "numpy_only(reason): runs on numpy only")


def pytest_collection_finish():
    """Exclude the imported modules and collected tests from garbage collection.

    This saves 6 % of the time of the suite.
    """
    gc.freeze()


def pytest_generate_tests(metafunc):
    marks = metafunc.definition
    if not (marks.get_closest_marker("host") or marks.get_closest_marker("numpy_only")):
        metafunc.parametrize("backend_name", BACKENDS, indirect=True)


@pytest.fixture(autouse=True)
def backend_name(request):
    """Use the backend of this test, and seed the global random stream with 0."""
    name = getattr(request, "param", "numpy")
    backend.use(standin if name == "standin" else name)
    rng.seed(0)
    standin.transfers.reset()
    yield name
    backend.use("numpy")


@pytest.fixture(scope="session")
def why_no_gpu():
    """Return None if the suite also runs on cupy, else the reason why it does not."""
    return WHY_NO_GPU
