"""The coverage of a mixture's modes by samples.

The number of modes and the share of high-quality samples are those of VEEGAN (Srivastava et al.
2017, section 4.1); the reverse KL, which tells how evenly the modes are covered, is that of PacGAN
(Lin et al. 2018).
"""

import math
from typing import NamedTuple

import numpy as np

from .. import backend
from ..backend import Array
from ..data.mixtures import Mixture


class Coverage(NamedTuple):
    """The coverage of a mixture's K modes by samples.

    modes     the number of modes that are the nearest mode of at least one high-quality sample
    quality   the share of high-quality samples: those within 3 standard deviations of a mode
    kl        the reverse KL, sum_k p_k log(p_k K), where p_k is the share of mode k: of the
              high-quality samples, those that are nearest to it. It is 0 if all shares are equal,
              log K if only one mode is covered, and infinite if no sample is of high quality
    """

    modes: int
    quality: float
    kl: float

    def __str__(self):
        return f"modes {self.modes}  HQ {100 * self.quality:.1f} %  reverse KL {self.kl:.4f}"


def measure_coverage(points: Array, mixture: Mixture) -> Coverage:
    """Return the Coverage of `mixture` by samples `points` (n, 2).

    Samples of the mixture itself are of high quality with probability 1 - exp(-9/2) = 98.89 %, and
    their reverse KL is about (K - 1) / 2n. A higher share of high-quality samples means that the
    generator's modes are too narrow. Raises ValueError if there are no points.
    """
    points = backend.to_numpy(points)
    if len(points) == 0:
        raise ValueError("the coverage of modes can only be measured with at least one sample")
    distances = np.linalg.norm(points[:, None] - mixture.modes, axis=2)         # (n, K)
    good = distances.argmin(1)[distances.min(1) <= 3 * mixture.std]
    p = np.bincount(good, minlength=len(mixture.modes)) / max(len(good), 1)
    p = p[p > 0]
    kl = float((p * np.log(p * len(mixture.modes))).sum()) if len(p) else math.inf
    return Coverage(len(p), len(good) / len(points), kl)
