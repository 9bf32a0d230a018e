"""One array library behind the name `xp`: numpy on the CPU, cupy on an NVIDIA GPU.

Everything above computes with `backend.xp`, looked up at each call, so that the same code runs on
both (cupy has numpy's interface):

    tinygan.use("cupy")            # or the environment variable TINYGAN_BACKEND=cupy
    a = backend.xp.zeros((2, 3))   # lives on the GPU
    backend.to_numpy(a)            # a copy on the host

Choose before anything is built: arrays do not move when the backend changes.
"""

import os

import numpy as np

from . import cpu

VERSION = "0.1.0"       # of tinygan

xp = np


class UserError(ValueError):
    """What was asked for cannot be done; the message says what was wrong and what to do instead.

    Scripts print it as one line and exit with a non-zero status.
    """


def use(library):
    """Compute with `library` from now on: "numpy", "cupy", or a module with numpy's interface and
    an `asnumpy` function (as cupy has; the tests bring one).

    Raises UserError for an unknown name, and for cupy where it or a GPU is missing.
    """
    global xp
    if library == "numpy":
        xp = np
    elif library == "cupy":
        xp = _working_cupy()
    elif hasattr(library, "asnumpy"):
        xp = library
    else:
        raise UserError(f"unknown backend {library!r}: choose \"numpy\" (CPU) or \"cupy\" (GPU)")


def _working_cupy():
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            f"the cupy backend needs cupy ({error}): pip install 'cupy-cuda12x[ctk]' or "
            "'cupy-cuda13x[ctk]', by your CUDA version, or choose the numpy backend") from None
    try:
        cupy.zeros(1) + 1
    except Exception as error:      # no driver, no device, wrong CUDA: each its own exception class
        raise UserError(
            f"cupy is installed but no GPU answers ({error}): check the driver with nvidia-smi, "
            "and that cupy is for your CUDA version and has its libraries (pip install "
            "'cupy-cuda12x[ctk]'), or choose the numpy backend") from None
    return cupy


def to_numpy(array):
    """`array` as a numpy array on the host (the same one if it is there already)."""
    if isinstance(array, np.ndarray):
        return array
    if not isinstance(array, xp.ndarray):
        raise TypeError(f"to_numpy takes an array, got a {type(array).__name__}: a Tensor has "
                        ".numpy()")
    return xp.asnumpy(array)


def in_pieces(n, size, work):
    """Return [work(slice), ...] over range(n), of which each item takes `size` bytes: on the CPU in
    pieces, see cpu.in_pieces; on a GPU in one."""
    return cpu.in_pieces(n, size, work) if xp is np else [work(slice(0, n))]


def product(a, b):
    """Return the matrix product of two 2-D arrays."""
    return cpu.product(a, b) if xp is np else a * b if a.shape[1] == 1 else a @ b


def channels_last(images):
    """The same (N, C, H, W) array, lying in memory as (N, H, W, C): see conv.py for why."""
    return xp.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def kernel_first(weights):
    """The same (O, C, kh, kw) array, lying in memory as (kh, kw, C, O): see conv.py for why."""
    return xp.ascontiguousarray(weights.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


try:
    use(os.environ.get("TINYGAN_BACKEND") or "numpy")
except UserError as error:      # nobody importing this could catch it in time to say it in a line
    raise SystemExit(f"TINYGAN_BACKEND: {error}") from None
