"""Seeded random numbers, from which initial weights, data order, noise and masks come."""

import numpy as np

from . import backend


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
        return backend.xp.asarray(self._generator.random(shape, np.float32) * (high - low) + low)

    def normal(self, shape):
        """N(0, 1)."""
        return backend.xp.asarray(self._generator.standard_normal(shape, np.float32))

    def bernoulli(self, p, shape):
        """True with probability p."""
        return backend.xp.asarray(self._generator.random(shape, np.float32) < p)

    def integers(self, high, shape):
        """Whole numbers 0 ... high - 1, each as likely."""
        return backend.xp.asarray(self._generator.integers(high, size=shape))

    def permutation(self, n):
        """The numbers 0 ... n - 1 in random order."""
        return backend.xp.asarray(self._generator.permutation(n))

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
