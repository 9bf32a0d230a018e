"""What several test files use: random arrays, Tensors on the backend under test, errors, memory."""

import tracemalloc

import numpy as np

from tinygan import Tensor, backend


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def positive(*shape, seed=0):
    return abs(normal(*shape, seed=seed)) + 0.5


def tensor(array, dtype=None):
    return Tensor(backend.xp.asarray(np.asarray(array, dtype)))


def error_of(f, *args, **kwargs):
    """The message of the ValueError or TypeError that f raises."""
    try:
        f(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return str(error)
    raise AssertionError("nothing was raised")


def peak_memory(call):
    """The most bytes that Python and numpy held at a time during call()."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
