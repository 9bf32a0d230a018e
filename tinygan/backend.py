"""The array library `xp`: numpy on the CPU or cupy on an NVIDIA GPU.

cupy has numpy's interface. All other files use `backend.xp`, looked up at each call, so the same
code runs on both:

    tinygan.use("cupy")            # or the environment variable TINYGAN_BACKEND=cupy
    a = backend.xp.zeros((2, 3))   # an array on the GPU
    backend.to_numpy(a)            # a copy on the host

Choose the backend before building anything: existing arrays stay where they are.

To launch a GPU's kernel takes longer than to run it on the arrays of a small network. A function
with the decorator `kernel` has a CUDA kernel beside its lines of numpy, and so takes one launch in
place of several. Everything else that only a GPU needs is in cuda.py, which is imported with cupy,
and in graphs.py, which records training steps.
"""

import contextlib
import functools
import os
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import cpu

VERSION = "0.1.0"       # of tinygan

xp = np
cuda = None             # the module cuda.py if the backend is cupy
capturing = False       # whether a training step is being recorded, see graphs.CapturedStep
Array = np.ndarray      # in type hints: an array of the current backend, numpy's or cupy's


class UserError(ValueError):
    """An error that the user can correct: the message says what was wrong and what to do.

    Scripts print the message as one line and exit with a non-zero status.
    """


def use(library: str | types.ModuleType) -> None:
    """Choose the array library: "numpy", "cupy", or a module with the interface of cupy.

    "cupy-tf32" is cupy with matrix products of float32 that round their inputs to 10 bits of
    mantissa (TensorFloat-32), which is faster on NVIDIA's GPUs since Ampere. Raises UserError for
    an unknown name, and for cupy if cupy or a GPU is missing.
    """
    global xp, cuda
    if library == "numpy":
        xp, cuda = np, None
    elif library in ("cupy", "cupy-tf32"):
        xp = _import_cupy()
        from . import cuda as module
        cuda, module.tf32 = module, library == "cupy-tf32"
    elif hasattr(library, "asnumpy"):
        xp, cuda = library, None
    else:
        raise UserError(f"unknown backend {library!r}: choose \"numpy\" (CPU), \"cupy\" (GPU) or "
                        "\"cupy-tf32\"")


def get_name() -> str:
    """Return the name of the backend in the form that use() takes."""
    return "cupy-tf32" if cuda is not None and cuda.tf32 else xp.__name__


def _import_cupy():
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            f"the cupy backend needs cupy ({error}): pip install 'cupy-cuda12x[ctk]' or "
            "'cupy-cuda13x[ctk]', by your CUDA version, or choose the numpy backend") from None
    try:
        cupy.zeros(1) + 1
    except Exception as error:      # no driver, no device, wrong CUDA: many exception classes
        raise UserError(
            f"cupy is installed but no GPU answers ({error}): check the driver with nvidia-smi, "
            "and that cupy is for your CUDA version and has its libraries (pip install "
            "'cupy-cuda12x[ctk]'), or choose the numpy backend") from None
    return cupy


def to_numpy(array: Array) -> np.ndarray:
    """Return `array` as a numpy array on the host; a numpy array is returned as it is.

    Raises TypeError for a masked array and for anything but an array.
    """
    check_arrays(array)
    return array if isinstance(array, np.ndarray) else xp.asnumpy(array)


def check_arrays(*arrays: Any) -> None:
    """Raise TypeError for anything but an array of numpy or the backend, and for a masked array."""
    refuse_masked(*arrays)
    for array in arrays:
        if not isinstance(array, (np.ndarray, xp.ndarray)):
            advice = "x.numpy()" if hasattr(array, "numpy") else "numpy.asarray(x)"
            raise TypeError(f"an array is needed, not a {type(array).__name__}: give {advice}")


def refuse_masked(*arrays: Any) -> None:
    """Raise TypeError if one of the arrays is a masked array of numpy."""
    if any(isinstance(array, np.ma.MaskedArray) for array in arrays):
        raise TypeError("a masked array's mask would be ignored: give array.filled(x), where x "
                        "replaces masked numbers")


def run_in_pieces(n: int, size: int, work: Callable[[slice], Any], short: bool = False) -> list:
    """Return [work(slice), ...] for slices that cover range(n), whose items take `size` bytes each.

    On the CPU the slices fit into the cache; see cpu.run_in_pieces, also for `short`. On a GPU a
    slice takes up to 4 GB, because some kernels count in 32 bits. There an item of more than 16 GB
    raises UserError.
    """
    if xp is np:
        return cpu.run_in_pieces(n, size, work, short)
    if size > 1 << 34:
        raise UserError(f"the convolution of one image needs {size / 2 ** 30:.0f} GB, but on a GPU "
                        "it may need 16 at most: use smaller images, kernels or fewer channels")
    step = max(1, (1 << 32) // max(1, size))
    return [work(slice(i, min(i + step, n))) for i in range(0, max(1, n), step)]


def widen(a: Array, *rows: Array | None) -> list[Array | None]:
    """Return [a, *rows] with longer rows, see cpu.widen; on a GPU as they are."""
    return cpu.widen(a, *rows) if xp is np else [a, *rows]


def join_floats(n: int, *arrays: Array) -> tuple[Array, ...]:
    """Return contiguous arrays with up to n floats of the last axis as one number, on a GPU.

    A kernel moves a number of 16 bytes in the time of one of 4 bytes.
    """
    return arrays if cuda is None else cuda.join_floats(n, *arrays)


def order_for_sum(a: Array, axis: Any) -> Array:
    """Return the array with its axes in the order in which a GPU adds up fastest over `axis`."""
    return a if cuda is None else cuda.order_for_sum(a, axis)


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Return the arrays joined along an axis, in their memory order."""
    return (xp if cuda is None else cuda).concatenate(arrays, axis)


def product(a: Array, b: Array, out: Array | None = None, exact: bool = False) -> Array:
    """Return the matrix product over the last two axes, in `out` if it is given.

    The axes before the last two broadcast. With "cupy-tf32", an `exact` product is computed as with
    "cupy".
    """
    if cuda is not None:
        return cuda.product(a, b, out, exact)
    if a.ndim > 2 or b.ndim > 2 or xp is not np or out is not None:
        return xp.matmul(a, b, out=out)
    return cpu.product(a, b)


def power(x: Array, n: float) -> Array:
    """Return x ** n elementwise."""
    return cpu.power(x, n) if xp is np else x ** n


def kernel(inputs: str, outputs: str, code: str, preamble: str = "") -> Callable:
    """Give an elementwise function a CUDA kernel that computes the same on cupy.

    The function takes arrays and numbers: the `inputs`, and then the `outputs`, which it fills or
    updates. Both are declared as in cupy.ElementwiseKernel, `code` is the line of C for one
    element, and `preamble` are functions that it calls. The last output is returned.
    """
    def decorate(function):
        @functools.wraps(function)
        def call(*args):
            if cuda is None:
                function(*args)
            else:
                cuda.launch(call, *args)
            return args[-1]
        call.source = inputs, outputs, code, function.__name__.strip("_"), preamble
        return call
    return decorate


def together() -> contextlib.AbstractContextManager:
    """Return a context at whose end, on a GPU, all kernels called in it are launched.

    Calls of one kernel become one launch, see cuda.together. Kernels in the context must not use
    each other's results.
    """
    return contextlib.nullcontext() if cuda is None else cuda.together()


@kernel("P p, T factor, T rate", "T average", "average += rate * (T(p) * factor - average)")
def move_average(p: Array, factor: float, rate: float, average: Array) -> Array:
    """Update an exponential moving average of factor * p in place.

        average <- average + rate (factor p - average)
    """
    average += rate * (p * factor - average)


@kernel("T x", "T y", "y += x")
def add_to(x: Array, y: Array) -> Array:
    """Add x, which broadcasts, to y in place."""
    y += x


def dot(a: Array, b: Array) -> Array:
    """Return the sum of the products of two vectors (n,), as an array of one number."""
    if cuda is None:
        return (a * b).sum()
    return cuda.product(a[None], b[:, None], exact=True).reshape(())


def to_channels_last(images: Array) -> Array:
    """Return the array (N, C, H, W) with the memory layout (N, H, W, C); im2col.py says why."""
    return xp.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def to_inputs_first(weights: Array) -> Array:
    """Return the matrix (n_out, n_in) with the memory layout (n_in, n_out); ops.linear says why."""
    return xp.ascontiguousarray(weights.T).T


def to_kernel_first(weights: Array) -> Array:
    """Return the array (O, C, kh, kw) with the memory layout (kh, kw, C, O); im2col.py says why."""
    return xp.ascontiguousarray(weights.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


try:
    use(os.environ.get("TINYGAN_BACKEND") or "numpy")
except UserError as error:      # raised during an import, where no script could catch it
    raise SystemExit(f"TINYGAN_BACKEND: {error}") from None
