"""Mixtures of Gaussians in the plane, the toy data on which mode collapse is easiest to see.

The ring and the grid are those of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..numbers import check_whole, is_number, is_whole
from ..random import Random, check_random, rng


class Mixture(NamedTuple):
    """A mixture of K equally likely Gaussians of the same width.

        p(x) = 1/K sum_k N(x; mu_k, std^2 I)

    modes   (K, 2) float32, the centres mu_k, on the host
    std     the standard deviation along each axis
    """

    modes: np.ndarray
    std: float

    def sample(self, n: int, rng: Random = rng) -> Array:
        """Draw n points, (n, 2) float32, on the current backend."""
        check_random(rng, "a mixture")
        centres = backend.xp.asarray(self.modes)[rng.integers(len(self.modes), (n,))]
        return centres + float(self.std) * rng.normal((n, 2))

    def minibatches(self, m: int, rng: Random = rng) -> "FreshPoints":
        """Return an endless stream of minibatches of m fresh points."""
        return FreshPoints(self, m, rng)


class FreshPoints:
    """An endless stream of minibatches of m points, which next() draws from a mixture.

    Raises UserError unless m is a whole number of at least 1.
    """

    def __init__(self, mixture: Mixture, m: int, rng: Random = rng) -> None:
        if not is_whole(m, 1):
            raise UserError(f"a minibatch has a whole number of points, at least 1, got {m!r}")
        check_random(rng, "a mixture")
        self.mixture, self.m, self.rng = mixture, m, rng

    def __iter__(self):
        return self

    def __next__(self):
        return self.mixture.sample(self.m, self.rng)

    @property
    def state(self) -> dict[str, Any]:
        """Return the state of the stream's own Random; a checkpoint keeps that of tinygan.rng."""
        return {} if self.rng is rng else {"rng": self.rng.state}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if state.keys() != self.state.keys():
            raise UserError("the saved stream drew from another Random: give minibatches() the "
                            "same arguments as then")
        if state:
            self.rng.state = state["rng"]


def ring(modes: int = 8, radius: float = 1.0, std: float = 0.01) -> Mixture:
    """Return K = `modes` Gaussians on a circle around 0.

        mu_k = radius (cos 2 pi k/K, sin 2 pi k/K),  k = 0 ... K-1

    The angle has k/K and not k/(K-1): an angle of 2 pi would repeat the first mode, and only K-1
    modes would be left. Raises ValueError unless `modes` is a whole number of at least 1, for a
    radius that is not finite, and for a std that is not finite or is below 0.
    """
    check_whole(modes, 1, "the number of modes of a ring")
    angles = [2 * math.pi * k / modes for k in range(modes)]
    centres = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    return _make_mixture(centres, std)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """Return K = side^2 Gaussians on a square grid around 0.

    Neighbours are `spacing` apart: by default, the centres are {-4, -2, 0, 2, 4}^2. Raises
    ValueError unless `side` is a whole number of at least 1, for a spacing that is not finite, and
    for a std that is not finite or is below 0.
    """
    check_whole(side, 1, "the number of modes on a grid's side")
    axis = [spacing * (i - (side - 1) / 2) for i in range(side)]
    return _make_mixture([(a, b) for a in axis for b in axis], std)


def _make_mixture(centres, std):
    """Return the Mixture. Raises ValueError for numbers that are not finite or a std below 0."""
    centres = np.array(centres, np.float32)
    if not (np.isfinite(centres).all() and is_number(std, 0) and std < math.inf):
        raise ValueError("a mixture has finite centres and a finite standard deviation of at least "
                         f"0, got {std!r:.60} and centres up to {abs(centres).max()}")
    return Mixture(centres, std)
