"""How numpy is made fast: threads, pieces that fit into the cache, products, memory that is kept.

Nothing here changes what is computed. A reader of the mathematics may skip this file.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import os
import pathlib
import warnings

import numpy as np

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


def in_pieces(n, size, work):
    """Return [work(slice), ...] over range(n), of which each item takes `size` bytes, in pieces
    that fit into the cache, several at once if THREADS > 1.

    The pieces do not depend on the number of threads, and so neither do the results.
    """
    if n * size < CACHE // 8:       # too small to be worth a thread's attention
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
    """Return the matrix product of two 2-D arrays; a large one in a part for each thread (on which
    its rounding depends, as it does with the product's own threads)."""
    (m, k), n = a.shape, b.shape[1]
    if k == 1:
        return a * b                            # ten times as fast as BLAS
    count = min(THREADS, m * k * n >> 20)       # fewer multiplications are not worth a thread
    if count < 2:
        return a @ b
    c, size = np.empty((m, n), a.dtype), max(m, n)
    parts = [slice(i * size // count, (i + 1) * size // count) for i in range(count)]
    if m > n:
        _at_once(lambda rows: np.matmul(a[rows], b, out=c[rows]), parts)
    else:
        _at_once(lambda columns: np.matmul(a, b[:, columns], out=c[:, columns]), parts)
    return c


@functools.cache
def _threads():
    if hasattr(os, "register_at_fork"):     # a forked process has none of its parent's threads
        os.register_at_fork(after_in_child=_threads.cache_clear)
    return concurrent.futures.ThreadPoolExecutor(THREADS)
