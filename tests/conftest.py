"""Every test runs on each backend: on numpy, on the stand-in device (standin.py), and on cupy where
a GPU answers. The exceptions carry a mark, and run on numpy alone:

    @pytest.mark.host                   the test touches no array of a backend
    @pytest.mark.numpy_only(reason)     it does, but another backend would show nothing more
"""

import gc
import os
import warnings

import pytest

for name in ("TINYGAN_BACKEND", "TINYGAN_DATA"):    # before tinygan reads them: the developer's own
    os.environ.pop(name, None)                      # settings are no part of a test

import standin

with warnings.catch_warnings():
    warnings.simplefilter("ignore")     # tinygan warns on import where numpy has no OpenBLAS
    from tinygan import backend, rng


def _why_no_gpu():
    """None where cupy works, else what keeps it from working."""
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
    config.addinivalue_line("markers", "host: touches no array of a backend; runs once")
    config.addinivalue_line("markers", "numpy_only(reason): runs on numpy alone")


def pytest_collection_finish():
    """Keep what was imported and collected out of garbage collection: 6 % of the tests' time."""
    gc.freeze()


def pytest_generate_tests(metafunc):
    marks = metafunc.definition
    if not (marks.get_closest_marker("host") or marks.get_closest_marker("numpy_only")):
        metafunc.parametrize("backend_name", BACKENDS, indirect=True)


@pytest.fixture(autouse=True)
def backend_name(request):
    """The backend of this test; it is in use, and the one random stream stands at its beginning."""
    name = getattr(request, "param", "numpy")
    backend.use(standin if name == "standin" else name)
    rng.seed(0)
    standin.transfers.reset()
    yield name
    backend.use("numpy")


@pytest.fixture(scope="session")
def why_no_gpu():
    """None where the suite runs on cupy as well, else the reason why it does not."""
    return WHY_NO_GPU
