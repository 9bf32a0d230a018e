"""Layers that draw random numbers in training."""

import contextlib
import threading

from .. import backend
from ..random import rng
from .module import Module


class _Drawing(threading.local):
    source = rng        # of each thread on its own


_drawing = _Drawing()


@contextlib.contextmanager
def drawing_from(source):
    """Context in which this thread's layers draw from `source`: a Random, or any object whose
    bernoulli(p, shape) gives dropout's masks and normal(shape) noise. The same source again gives
    the same numbers, so that a step of training is a function of its inputs."""
    before, _drawing.source = _drawing.source, source
    try:
        yield
    finally:
        _drawing.source = before


class Dropout(Module):
    """In training, sets each number to 0 with probability p and divides the rest by 1 - p; in
    evaluation, nothing (Srivastava et al. 2014, section 10: "inverted" dropout). Any shape."""

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout needs a probability 0 <= p < 1 of dropping, got {p}")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = _drawing.source.bernoulli(1 - self.p, x.shape)
        return x * (keep.astype(x.dtype) * (1 / (1 - self.p)))


class GaussianNoise(Module):
    """In training, adds N(0, sigma^2) to each number; in evaluation, nothing. Any shape. sigma is a
    buffer, so that it may change from step to step."""

    def __init__(self, sigma):
        self.sigma = backend.xp.zeros((), "float32")
        self.set(sigma)

    def set(self, sigma):
        """Change sigma. Raises ValueError for a negative one."""
        if not sigma >= 0:
            raise ValueError(f"GaussianNoise needs a standard deviation of at least 0, got {sigma}")
        self.sigma[...] = float(sigma)

    def forward(self, x):
        return x + _drawing.source.normal(x.shape) * self.sigma if self.training else x
