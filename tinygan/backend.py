"""The ground: one array library behind the name `xp`, and the one random stream.

Everything above computes with `backend.xp`, looked up at each call, so that the same code runs on
the CPU (numpy) and on an NVIDIA GPU (cupy, which has numpy's interface):

    tinygan.use("cupy")            # or the environment variable TINYGAN_BACKEND=cupy
    a = backend.xp.zeros((2, 3))   # lives on the GPU
    backend.to_numpy(a)            # a copy on the host

Choose before anything is built: arrays do not move when the backend changes.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import os
import pathlib
import warnings

import numpy as np

VERSION = "0.1.0"       # of tinygan

# Arrays of megabytes come and go with each operation. The C library would return each to the system
# and have fresh, zeroed pages mapped in for the next, which costs more than the arithmetic; glibc
# can be told to keep what is freed, up to 1 GB. (The numbers are those of malloc.h; 32 MB is the
# most that older versions take.)
with contextlib.suppress(AttributeError, OSError, TypeError):       # another C library
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32 << 20)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 1 << 30)

CACHE = 1 << 21     # bytes that a piece of work may take; pieces of 1 MB were slower


# tinygan's own threads share out the parts of a layer, copies as well as products: see in_pieces.
# Threads of each product would compete with them for the cores, and so a product runs on one.
# Importing tinygan therefore sets the OpenBLAS threads of the whole process to one.

def _keep_products_to_one_thread():
    """Set the OpenBLAS that numpy has loaded to one thread; return whether one was found."""
    # OpenBLAS's functions are found through numpy's module, which is linked to it; but on Windows
    # only in its own file.
    libs = pathlib.Path(np.__file__).parent.parent / "numpy.libs"
    for file in np._core._multiarray_umath.__file__, *libs.glob("*openblas*.dll"):
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_",
                     "scipy_openblas_set_num_threads", "openblas_set_num_threads"):
            with contextlib.suppress(AttributeError, OSError):
                getattr(ctypes.CDLL(str(file)), name)(1)
                return True
    return False


def _choose_threads():
    """Return how many threads tinygan works on: as many as the environment allows OpenBLAS, else
    one for each usable core; but one where the products have threads of their own."""
    if not _keep_products_to_one_thread():
        warnings.warn("tinygan finds no OpenBLAS in numpy that it can set to one thread, so matrix "
                      "products keep their own threads and all else runs on one, which may be "
                      "slow: to have it run on several, install a numpy with OpenBLAS (such as "
                      "pip's for Linux and Windows)")
        return 1
    has_affinity = hasattr(os, "sched_getaffinity")
    threads = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS":      # the second overrules the first
        said = os.environ.get(name, "").strip()
        if said.isdecimal() and int(said) >= 1:
            threads = int(said)
    return min(threads, 8)      # layers of this size have no work for more


THREADS = _choose_threads()

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
    """[work(slice), ...] over range(n), of which each item takes `size` bytes: on the CPU in pieces
    that fit into the cache, several at once if THREADS > 1; on a GPU in one.

    The pieces do not depend on the number of threads, and so neither do the results.
    """
    if xp is not np or n * size < CACHE // 8:       # too small to be worth a thread's attention
        return [work(slice(0, n))]
    count = min(n, -(-n * size // CACHE // 4) * 4)  # fours, to be shared out evenly
    pieces = [slice(i * n // count, (i + 1) * n // count) for i in range(count)]
    return _at_once(work, pieces)


def _at_once(work, pieces):
    results, todo = [None] * len(pieces), iter(range(len(pieces)))

    def some():
        for i in todo:      # whoever is free takes the next
            results[i] = work(pieces[i])
    helpers = [_threads().submit(some) for _ in range(min(THREADS, len(pieces)) - 1)]
    try:
        some()
    finally:
        for helper in helpers:
            if not helper.cancel():     # what has not begun by now finds nothing left to do
                helper.result()
    return results


def product(a, b):
    """The matrix product of two 2-D arrays; a large one in a part for each thread (on which its
    rounding depends, as it does with the product's own threads)."""
    (m, k), n = a.shape, b.shape[1]
    if k == 1:
        return a * b                            # ten times as fast as BLAS
    count = min(THREADS, m * k * n >> 20)       # fewer multiplications are not worth a thread
    if xp is not np or count < 2:
        return a @ b
    c, size = np.empty((m, n), a.dtype), max(m, n)
    parts = [slice(i * size // count, (i + 1) * size // count) for i in range(count)]
    if m > n:
        _at_once(lambda rows: np.matmul(a[rows], b, out=c[rows]), parts)
    else:
        _at_once(lambda columns: np.matmul(a, b[:, columns], out=c[:, columns]), parts)
    return c


def channels_last(images):
    """The same (N, C, H, W) array, lying in memory as (N, H, W, C): see conv.py for why."""
    return xp.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def kernel_first(weights):
    """The same (O, C, kh, kw) array, lying in memory as (kh, kw, C, O): see conv.py for why."""
    return xp.ascontiguousarray(weights.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


@functools.cache
def _threads():
    if hasattr(os, "register_at_fork"):     # a forked process has none of its parent's threads
        os.register_at_fork(after_in_child=_threads.cache_clear)
    return concurrent.futures.ThreadPoolExecutor(THREADS)


class Random:
    """A seeded stream of random arrays, float32 unless said otherwise, on the current backend.

    Numbers are drawn on the host and copied over, so every backend sees the same ones.
    """

    def __init__(self, seed=0):
        self.seed(seed)

    def seed(self, seed):
        """Begin the stream of `seed` (an integer >= 0)."""
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low, high, shape):
        """U(low, high)."""
        low, high = float(low), float(high)     # a numpy float64 would make the array one
        return xp.asarray(self._generator.random(shape, np.float32) * (high - low) + low)

    def normal(self, shape):
        """N(0, 1)."""
        return xp.asarray(self._generator.standard_normal(shape, np.float32))

    def bernoulli(self, p, shape):
        """True with probability p."""
        return xp.asarray(self._generator.random(shape, np.float32) < p)

    def integers(self, high, shape):
        """Whole numbers 0 ... high - 1, each as likely."""
        return xp.asarray(self._generator.integers(high, size=shape))

    def permutation(self, n):
        """The numbers 0 ... n - 1 in random order."""
        return xp.asarray(self._generator.permutation(n))

    def key(self):
        """A number to seed another stream with: Random(key) starts at the same place each time."""
        return int(self._generator.integers(2**63))

    @property
    def state(self):
        """Where the stream is, as plain Python values; assign it back to continue from there."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, state):
        self._generator.bit_generator.state = state


rng = Random(0)     # the one stream: initial weights, data order and noise all come from it

try:
    use(os.environ.get("TINYGAN_BACKEND") or "numpy")
except UserError as error:      # nobody importing this could catch it in time to say it in a line
    raise SystemExit(f"TINYGAN_BACKEND: {error}") from None
