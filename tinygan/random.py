"""Seeded random numbers for initial weights, data order, noise and dropout masks."""

import math
from typing import Any

import numpy as np

from . import backend
from .backend import Array
from .numbers import check_whole, is_number


class Random:
    """A seeded stream of random arrays on the current backend.

    Numbers are drawn on the host and copied to the device, so that they are the same on every
    backend. Floats are float32. The methods raise ValueError for bounds, probabilities and counts
    that have no meaning.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Restart the stream from `seed`, a whole number of at least 0; others raise ValueError."""
        check_whole(seed, 0, "a seed")
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape from the uniform distribution U(low, high)."""
        low, high = float(low), float(high)     # a numpy float64 would make the result float64
        if not 0 <= high - low < math.inf:
            raise ValueError(f"a uniform distribution has finite bounds low <= high, got {low} and "
                             f"{high}")
        return backend.xp.asarray(self._generator.random(shape, np.float32) * (high - low) + low)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape from N(0, 1)."""
        return backend.xp.asarray(self._generator.standard_normal(shape, np.float32))

    def bernoulli(self, p: float, shape: tuple[int, ...]) -> Array:
        """Draw a boolean array of this shape; each element is True with probability p."""
        if not is_number(p, 0) or p > 1:
            raise ValueError(f"a probability is a number from 0 to 1, got {p!r:.60}")
        return backend.xp.asarray(self._generator.random(shape, np.float32) < p)

    def integers(self, high: int, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape of integers from 0 to high - 1, all equally likely."""
        check_whole(high, 1, "the `high` of integers from 0 to high - 1")
        return backend.xp.asarray(self._generator.integers(high, size=shape))

    def permutation(self, n: int) -> Array:
        """Draw a random order of the integers from 0 to n - 1."""
        check_whole(n, 0, "the n of an order of the integers from 0 to n - 1")
        return backend.xp.asarray(self._generator.permutation(n))

    def key(self) -> int:
        """Draw a seed for another stream: Random(key) gives the same numbers each time."""
        return int(self._generator.integers(2**63))

    @property
    def state(self) -> dict[str, Any]:
        """Return the stream's state as plain Python values; assign it to continue from there."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state


def check_random(rng: Any, who: str) -> None:
    """Raise TypeError unless rng is a Random; `who` names in the message what draws from it."""
    if not isinstance(rng, Random):
        raise TypeError(f"{who} needs a tinygan.random.Random, such as tinygan.rng, got "
                        f"{type(rng).__name__}")


def check_source(source: Any, who: str) -> None:
    """Raise TypeError for a stream of another library, whose methods take other arguments.

    The same holds for a value of a built-in type, such as a seed. Any other object is accepted.
    """
    if type(source).__module__.partition(".")[0] in ("numpy", "cupy", "random", "builtins"):
        check_random(source, who)


rng = Random(0)     # the default stream for all that is drawn: weights, data order, noise, masks
