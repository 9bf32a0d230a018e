"""Mixtures of Gaussians in the plane, the toy data on which mode collapse is easiest to see.

They are the ring and the grid on which VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018)
were measured.
"""

import math
from typing import NamedTuple

import numpy as np

from .. import backend, random


class Mixture(NamedTuple):
    """K equally likely Gaussians of one width:

        p(x) = 1/K sum_k N(x; mu_k, std^2 I)

    modes   (K, 2) float32, the centres mu_k, on the host
    std     standard deviation along each axis
    """

    modes: np.ndarray
    std: float

    def sample(self, n, rng=None):
        """n points, (n, 2) float32, on the current backend (rng: default `tinygan.rng`)."""
        rng = random.rng if rng is None else rng
        centres = backend.xp.asarray(self.modes)[rng.integers(len(self.modes), (n,))]
        return centres + self.std * rng.normal((n, 2))

    def minibatches(self, m, rng=None):
        """Return minibatches of m fresh points without end (rng: default `tinygan.rng`)."""
        return FreshPoints(self, m, rng)


class FreshPoints:
    """Minibatches of `m` points of a mixture without end, each drawn from `rng` when it is asked
    for."""

    state = ()      # all that a resumed run needs is rng's: see runs.checkpoint.save

    def __init__(self, mixture, m, rng=None):
        self.mixture, self.m, self.rng = mixture, m, rng

    def __iter__(self):
        return self

    def __next__(self):
        return self.mixture.sample(self.m, self.rng)


def ring(modes=8, radius=1.0, std=0.01):
    """K = `modes` Gaussians on a circle: mu_k = radius (cos 2 pi k/K, sin 2 pi k/K), k = 0 ... K-1.

    k/K, not k/(K-1): an angle of 2 pi would repeat the first mode, and leave K-1 of them.
    """
    angles = [2 * math.pi * k / modes for k in range(modes)]
    centres = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    return Mixture(np.array(centres, np.float32), std)


def grid(side=5, spacing=2.0, std=0.05):
    """K = side^2 Gaussians, `spacing` apart on a square around 0: mu = {-4, -2, 0, 2, 4}^2."""
    axis = [spacing * (i - (side - 1) / 2) for i in range(side)]
    return Mixture(np.array([(a, b) for a in axis for b in axis], np.float32), std)
