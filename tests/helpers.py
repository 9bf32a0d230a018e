"""Helpers of several test files."""

import tracemalloc

import numpy as np

from tinygan import Tensor, backend


def normal(*shape, seed=0):
    """Return an array of this shape from a standard normal distribution."""
    return np.random.default_rng(seed).normal(size=shape)


def positive(*shape, seed=0):
    """Return an array of numbers of at least 0.5."""
    return abs(normal(*shape, seed=seed)) + 0.5


def tensor(array, dtype=None):
    """Return an array as a Tensor on the current backend."""
    return Tensor(backend.xp.asarray(np.asarray(array, dtype)))


def error_of(f, *args, **kwargs):
    """Call f and return the message of the ValueError or TypeError that it raises."""
    try:
        f(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return str(error)
    raise AssertionError("nothing was raised")


def peak_memory(call):
    """Return the largest number of bytes that Python and numpy held during call()."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
