"""Fast numpy on a CPU: threads, pieces that fit the cache, products, powers, long rows, memory.

Nothing here changes what is computed, except for rounding. A reader of the mathematics may skip
this file.
"""

import contextlib
import contextvars
import ctypes
import functools
import os
import pathlib
import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

# Each operation allocates arrays of megabytes, and they are freed soon after. By default, the C
# library returns their memory to the system and requests fresh, zeroed pages for the next array,
# which costs more than the arithmetic. glibc can be told to keep up to 1 GB of freed memory. (The
# parameters are -1 and -3 in malloc.h. 32 MB is the largest mmap threshold that older
# versions of glibc accept.)
with contextlib.suppress(AttributeError, OSError, TypeError):       # not glibc
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32 << 20)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 1 << 30)

CACHE = 1 << 21     # the largest piece of work, in bytes; pieces of 1 MB were slower


# tinygan has threads of its own, which share all the work of a layer: copies as well as matrix
# products (see run_in_pieces). If OpenBLAS split each product over several threads too, both kinds
# of threads would compete for the cores. Importing tinygan therefore sets OpenBLAS to one thread,
# for the whole process.

def _keep_products_to_one_thread():
    """Set numpy's OpenBLAS to one thread; return whether an OpenBLAS was found."""
    # numpy's extension module is linked to OpenBLAS, so that the functions of OpenBLAS are found
    # through the module. On Windows they are found only in the file of OpenBLAS itself.
    libs = pathlib.Path(np.__file__).parent.parent / "numpy.libs"
    for file in np._core._multiarray_umath.__file__, *libs.glob("*openblas*.dll"):
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_",
                     "scipy_openblas_set_num_threads", "openblas_set_num_threads"):
            with contextlib.suppress(AttributeError, OSError):
                getattr(ctypes.CDLL(str(file)), name)(1)
                return True
    return False


def _choose_threads():
    """Return the number of tinygan's threads.

    It is the number that the environment variables of OpenBLAS allow, or else the number of usable
    cores, and at most 8. It is 1 if OpenBLAS cannot be set to one thread: the products then have
    threads of their own.
    """
    if not _keep_products_to_one_thread():
        warnings.warn("tinygan found no OpenBLAS in numpy that it can set to one thread: matrix "
                      "products keep their own threads and everything else runs on one thread, "
                      "which may be slow. To use several threads, install a numpy with OpenBLAS "
                      "(such as pip's for Linux and Windows)")
        return 1
    has_affinity = hasattr(os, "sched_getaffinity")
    threads = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS":      # the second takes precedence
        value = os.environ.get(name, "").strip()
        if value.isdecimal() and int(value) >= 1:
            threads = int(value)
    return min(threads, 8)      # layers of this size do not keep more threads busy


THREADS = _choose_threads()


def run_in_pieces(n: int, size: int, work: Callable[[slice], Any],
                  short: bool = False) -> list[Any]:
    """Return [work(slice), ...] for slices that divide range(n) into pieces.

    Each of the n items takes `size` bytes, and a piece holds as many items as fit into the cache.
    Up to THREADS pieces are computed at the same time. The pieces do not depend on the number of
    threads, and neither do the results.

    short   whether work() is a series of short operations of numpy. Between two of them a thread
            waits for Python's global interpreter lock, so small pieces take longer on several
            threads than on one
    """
    if n * size < (2 * CACHE if short else CACHE // 8):     # too little to be shared among threads
        return [work(slice(0, n))]
    count = min(n, -(-n * size // CACHE // 4) * 4)  # a multiple of 4: equal shares for the threads
    pieces = [slice(i * n // count, (i + 1) * n // count) for i in range(count)]
    return _run_parallel(work, pieces)


def _run_parallel(work, pieces):
    """Return [work(piece), ...], computed by this thread and up to THREADS - 1 others."""
    results, left = [None] * len(pieces), len(pieces)
    todo, done = iter(range(len(pieces))), queue.SimpleQueue()

    def take_pieces():
        for i in todo:      # all threads share `todo`: one that is free takes the next piece
            try:
                results[i] = work(pieces[i])
                done.put(None)
            except BaseException as error:
                done.put(error)
    for _ in range(min(THREADS, len(pieces)) - 1):
        # in a copy of this thread's context, which has numpy's settings for errors
        _start_threads().put(functools.partial(contextvars.copy_context().run, take_pieces))
    try:
        for i in todo:
            left -= 1
            results[i] = work(pieces[i])
    finally:        # after an error too: no thread may write to an array when the caller goes on
        left -= len([*todo])                    # the pieces that no thread will take any more
        errors = [done.get() for _ in range(left)]      # of the pieces that other threads took
    for error in errors:
        if error is not None:
            raise error
    return results


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the matrix product of two 2-D arrays.

    A large product is divided into one part for each thread. Its rounding then depends on the
    number of threads, as it does with OpenBLAS's own threads.
    """
    (m, k), n = a.shape, b.shape[1]
    if k == 1:
        return a * b                            # an outer product: ten times as fast as BLAS
    # 2^22 multiplications or more for each thread: fewer gain less than the handover takes
    count = min(THREADS, m * k * n >> 22)
    if count < 2:
        return a @ b
    c, size = np.empty((m, n), a.dtype), max(m, n)
    parts = [slice(i * size // count, (i + 1) * size // count) for i in range(count)]
    if m > n:
        _run_parallel(lambda rows: np.matmul(a[rows], b, out=c[rows]), parts)
    else:
        _run_parallel(lambda columns: np.matmul(a, b[:, columns], out=c[:, columns]), parts)
    return c


def power(x: np.ndarray, n: float) -> np.ndarray:
    """Return x ** n elementwise.

    For whole numbers n it is computed from |x|, because numpy takes some 60 times as long for a
    negative base as for a positive one. numpy has fast code for the exponents -1, 0, 1 and 2.
    """
    if n in (-1, 0, 1, 2) or n % 1:
        return x ** n
    y = abs(x) ** n
    return np.copysign(y, x) if n % 2 else y


@functools.cache
def _start_threads():
    """Return the queue of functions that THREADS - 1 threads call, which the first call starts."""
    # Handing them work and waiting for its end took 35 us on a virtual machine with two cores;
    # with the threads of concurrent.futures it was 105.
    if hasattr(os, "register_at_fork"):     # a forked process does not inherit its parent's threads
        os.register_at_fork(after_in_child=_start_threads.cache_clear)
    calls = queue.SimpleQueue()
    for i in range(1, THREADS):
        threading.Thread(target=_call_all, args=(calls,), name=f"tinygan-{i}", daemon=True).start()
    return calls


def _call_all(calls):
    """Call the functions in the queue one after the other, for ever."""
    while True:
        calls.get()()


WIDE = 512          # numpy's loop over so many numbers takes longer than its start


def widen(a: np.ndarray, *rows: np.ndarray | None) -> list[np.ndarray | None]:
    """Return [a, *rows] with rows that are k times as long, on which numpy is faster.

    a (..., m, n), rows (..., n) -> (..., m / k, k n), (..., k n): k rows of a lie side by side in
    one, and each of `rows`, which broadcast over a, is repeated k times. Operations on them have
    the same results as before, side by side, and take half to a third of the time if n is small. k
    is the largest divisor of m for which k n is at most WIDE; it is 1 for small arrays.
    """
    *_, m, n = a.shape
    k = 1 if a.size < 1 << 15 else _find_divisor(m, WIDE // n)
    if k == 1:
        return [a, *rows]
    # this repeat() takes a fifth of np.tile's time
    return [a.reshape(*a.shape[:-2], m // k, k * n), *[
        None if row is None else row[..., None, :].repeat(k, -2).reshape(*row.shape[:-1], k * n)
        for row in rows]]


@functools.cache
def _find_divisor(m, most):
    """Return the largest divisor of m that is at most `most`, or 1."""
    return next((k for k in range(most, 1, -1) if m % k == 0), 1)
