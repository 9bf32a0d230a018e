"""What several test files use: random numpy arrays, and their Tensors on the backend under test."""

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
