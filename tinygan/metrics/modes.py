"""Which modes of a mixture the samples reach (VEEGAN, Srivastava et al. 2017, section 4.1), and how
evenly (PacGAN, Lin et al. 2018)."""

import math
from typing import NamedTuple

import numpy as np

from .. import backend


class Coverage(NamedTuple):
    """modes     modes that are the nearest to at least one high-quality sample
    quality   the share of high-quality samples: those within 3 standard deviations of a mode
    kl        reverse KL, sum_k p_k log(p_k K) for the shares p_k of the high-quality samples that
              are nearest to mode k: 0 if all K are as likely, log K if there is one, infinite if
              there is no such sample
    """

    modes: int
    quality: float
    kl: float

    def __str__(self):
        return f"modes {self.modes}  HQ {100 * self.quality:.1f} %  reverse KL {self.kl:.4f}"


def coverage(points, mixture):
    """The Coverage of `mixture` (data.mixtures.Mixture) by samples `points` (n, 2).

    True samples are of high quality with probability 1 - exp(-9/2) = 98.89 %, and their reverse KL
    is about (K - 1) / 2n: a higher share than that is a generator which is too narrow. Raises
    ValueError if there are no points.
    """
    points = backend.to_numpy(points)
    if len(points) == 0:
        raise ValueError("the modes that samples cover need at least one sample")
    distances = np.linalg.norm(points[:, None] - mixture.modes, axis=2)         # (n, K)
    good = distances.argmin(1)[distances.min(1) <= 3 * mixture.std]
    p = np.bincount(good, minlength=len(mixture.modes)) / max(len(good), 1)
    p = p[p > 0]
    kl = float((p * np.log(p * len(mixture.modes))).sum()) if len(p) else math.inf
    return Coverage(len(p), len(good) / len(points), kl)
