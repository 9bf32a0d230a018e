"""Initial weights: init(shape, fan_in, fan_out) gives the array of a layer's initial weights, where
fan_in inputs reach each output and each input reaches fan_out outputs."""

import contextlib
import math
import threading
from dataclasses import dataclass

from .. import backend
from ..random import rng


class _Blank(threading.local):
    left = None             # how many numbers may still be made, in blank()


_blank = _Blank()


@contextlib.contextmanager
def blank(numbers):
    """Context in which layers begin with zeros and nothing is drawn: for networks whose weights are
    to be read from a file. They may have `numbers` weights together; ValueError if they have
    more."""
    before, _blank.left = _blank.left, numbers
    try:
        yield
    finally:
        _blank.left = before


def initial(init, shape, fan_in, fan_out):
    """Return a layer's initial weights, of `shape`: init(shape, fan_in, fan_out)."""
    return zeros(shape) if _blank.left is not None else init(shape, fan_in, fan_out)


def zeros(shape):
    """Return initial weights of zeros, such as a bias."""
    if _blank.left is not None:
        _blank.left -= math.prod(shape) if isinstance(shape, tuple) else shape
        if _blank.left < 0:
            raise ValueError("the networks have more weights than there are in the file")
    return backend.xp.zeros(shape, "float32")


@dataclass(frozen=True)
class uniform:
    """U(-a, a)."""

    a: float

    def __call__(self, shape, fan_in, fan_out):
        return rng.uniform(-self.a, self.a, shape)


@dataclass(frozen=True)
class normal:
    """N(0, std^2)."""

    std: float

    def __call__(self, shape, fan_in, fan_out):
        return rng.normal(shape) * float(self.std)


@dataclass(frozen=True)
class constant:
    """`value` everywhere."""

    value: float

    def __call__(self, shape, fan_in, fan_out):
        return backend.xp.full(shape, self.value, "float32")


def glorot(shape, fan_in, fan_out):
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)): keeps the variance of signals and gradients
    through layers that are linear near 0 (Glorot and Bengio 2010, eq. 16)."""
    return uniform(math.sqrt(6 / (fan_in + fan_out)))(shape, fan_in, fan_out)


def he(shape, fan_in, fan_out):
    """N(0, 2 / fan_in): the same for ReLU layers, which halve the signal (He et al. 2015,
    eq. 10)."""
    return normal(math.sqrt(2 / fan_in))(shape, fan_in, fan_out)
