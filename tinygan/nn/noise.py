"""Layers that draw random numbers in training mode."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from .. import backend
from ..random import rng
from ..tensor import Tensor
from .module import Module


class _Current(threading.local):    # one for each thread
    source = rng


_current = _Current()


@contextlib.contextmanager
def use_random(source: Any) -> Iterator[None]:
    """Make this thread's layers draw their random numbers from `source` inside the context.

    `source` is a Random, or an object with its methods bernoulli(p, shape), for dropout masks, and
    normal(shape), for noise. Given a source with the same seed, a training step draws the same
    numbers again.
    """
    before, _current.source = _current.source, source
    try:
        yield
    finally:
        _current.source = before


class Dropout(Module):
    """Dropout (Srivastava et al. 2014, section 10: "inverted" dropout), for inputs of any shape.

    In training mode it sets each number to 0 with probability p and divides the others by 1 - p. In
    evaluation mode it returns its input. Raises ValueError for a p outside [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout needs a dropout probability 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = _current.source.bernoulli(1 - self.p, x.shape)
        return x * (keep.astype(x.dtype) * (1 / (1 - self.p)))


class GaussianNoise(Module):
    """Additive noise N(0, sigma^2) in training mode, for inputs of any shape.

    In evaluation mode it returns its input. sigma is a buffer, so a checkpoint saves its current
    value. Raises ValueError for a negative sigma.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = backend.xp.zeros((), "float32")
        self.set(sigma)

    def set(self, sigma: float) -> None:
        """Change sigma. Raises ValueError for a negative value."""
        if not sigma >= 0:
            raise ValueError(f"GaussianNoise needs a standard deviation of at least 0, got {sigma}")
        self.sigma[...] = float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        return x + _current.source.normal(x.shape) * self.sigma if self.training else x
