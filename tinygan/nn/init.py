"""Initial weights: init(shape, fan_in, fan_out) returns the array of a layer's initial weights.

fan_in is the number of inputs that each output depends on, and fan_out the number of outputs that
each input contributes to. Convolutions count both as if the stride were 1.
"""

import contextlib
import math
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from .. import backend
from ..backend import Array
from ..context import use_value
from ..numbers import is_whole
from ..random import rng
from ..tensor import Tensor


# inside skip_init(): the number of weights that may still be made
_left = ContextVar("left", default=None)


def skip_init(limit: float) -> contextlib.AbstractContextManager:
    """Make layers' weights zeros inside the context instead of calling their `init`.

    This is for networks whose weights will be read from a file. Raises ValueError if the networks
    have more than `limit` weights in total.
    """
    return use_value(_left, limit)


def make_weights(init: Callable, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Return a layer's initial weights: init(shape, fan_in, fan_out), or zeros in skip_init().

    They are a new array, even if `init` returns one that the caller has. Raises ValueError for
    sizes that are not whole numbers of at least 1, and TypeError for an `init` that is no function,
    such as nn.normal without its standard deviation, or that returns another array than it should.
    """
    if not callable(init) or isinstance(init, type):
        raise TypeError("a layer's initial weights are those of a function such as nn.he, got "
                        f"{init!r:.60}")
    if not all(is_whole(n, 1) for n in shape):
        raise ValueError("the sizes of a layer are whole numbers of at least 1, but its weights "
                         f"would have the shape {shape}")
    if _left.get() is None:
        weights = init(shape, fan_in, fan_out)
        if type(weights) is Tensor:
            raise TypeError("a layer's init returns an array, got a Tensor: return its .data")
        weights = backend.xp.array(weights)
        if weights.shape != tuple(shape) or weights.dtype not in (np.float32, np.float64):
            raise TypeError("a layer's init returns an array of float32 or float64 of the shape "
                            f"{tuple(shape)}, got {weights.dtype} of shape {weights.shape}")
        return weights
    _left.set(_left.get() - math.prod(shape))
    if _left.get() < 0:
        raise ValueError("the networks have more weights than there are in the file")
    return backend.xp.zeros(shape, "float32")


def zeros(*shape: int) -> Array:
    """Return zeros of these sizes, a layer's initial bias; raise what make_weights() raises."""
    return make_weights(constant(0.0), shape, 1, 1)


@dataclass(frozen=True)
class uniform:
    """The uniform distribution U(-a, a)."""

    a: float

    def __call__(self, shape, fan_in, fan_out):
        return rng.uniform(-self.a, self.a, shape)


@dataclass(frozen=True)
class normal:
    """The normal distribution N(0, std^2)."""

    std: float

    def __call__(self, shape, fan_in, fan_out):
        return rng.normal(shape) * float(self.std)


@dataclass(frozen=True)
class constant:
    """The same number, `value`, in every entry."""

    value: float

    def __call__(self, shape, fan_in, fan_out):
        return backend.xp.full(shape, self.value, "float32")


def glorot(shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Draw from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16).

    This roughly keeps the variance of signals and gradients from layer to layer, for activations
    that are linear near 0.
    """
    return uniform(math.sqrt(6 / (fan_in + fan_out)))(shape, fan_in, fan_out)


def he(shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Draw from N(0, 2 / fan_in) (He et al. 2015, eq. 10).

    This keeps the mean square of signals in networks of ReLUs, each of which halves it.
    """
    return normal(math.sqrt(2 / fan_in))(shape, fan_in, fan_out)
