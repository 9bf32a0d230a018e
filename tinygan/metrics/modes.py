"""The coverage of modes by samples, of a mixture of Gaussians and of stacked MNIST.

The number of modes and the share of high-quality samples are those of VEEGAN (Srivastava et al.
2017). The reverse KL, which tells how evenly the modes are covered, is that of PacGAN (Lin et al.
2018): log K minus the entropy, which its published code prints. The modes of stacked MNIST are
those of Metz et al. 2017, section 3.3.
"""

import math
from typing import NamedTuple

import numpy as np

from .. import backend
from ..backend import Array
from ..data.mixtures import Mixture
from ..nn import Module
from .classifier import classify


class Coverage(NamedTuple):
    """The coverage of a mixture's K modes by samples.

    modes     the number of modes that are the nearest mode of at least one high-quality sample
    quality   the share of high-quality samples: those within 3 standard deviations of a mode
    kl        the reverse KL, sum_i p_i log(K p_i), where p_i is the share of mode i: of the
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
    their reverse KL is about (K - 1) / (2 n). A higher share of high-quality samples means that the
    generator's modes are too narrow. Raises ValueError if there are no points, if they do not lie
    in the plane, and for numbers that are not finite.
    """
    points = backend.to_numpy(points)
    if len(points) == 0:
        raise ValueError("the coverage of modes can only be measured with at least one sample")
    if points.shape[1:] != mixture.modes.shape[1:]:
        raise ValueError(f"the coverage of modes is that of points (n, 2), got {points.shape}")
    if points.dtype.kind not in "fiu":
        raise ValueError(f"points have real numbers as coordinates, got {points.dtype}")
    if not np.isfinite(points).all():
        raise ValueError("some of the points are NaN or infinite: look for NaN in the network that "
                         "drew them")
    distances = np.linalg.norm(points[:, None] - mixture.modes, axis=2)         # (n, K)
    good = distances.argmin(1)[distances.min(1) <= 3 * mixture.std]
    modes, kl = count_modes(good, len(mixture.modes))
    return Coverage(modes, len(good) / len(points), kl)


def count_modes(found: np.ndarray, k: int) -> tuple[int, float]:
    """Return how many of k modes occur in `found`, and the reverse KL of their shares.

    found   the mode of each sample, (n,) whole numbers below k

    With p_i the share of mode i, the reverse KL is sum_i p_i log(k p_i), which is infinite if there
    are no samples. For samples of the uniform distribution it is about (k - 1) / (2 n). Raises
    ValueError for a mode below 0, for one of k or above and for other arrays.
    """
    backend.check_arrays(found)
    if found.ndim != 1 or len(found) and found.dtype.kind not in "iu":
        raise ValueError("the modes of samples are whole numbers (n,), got an array of "
                         f"{found.dtype} of shape {found.shape}")
    if len(found) and not 0 <= found.min() <= found.max() < k:
        raise ValueError(f"the {k} modes are numbered from 0 to {k - 1}, got numbers from "
                         f"{found.min()} to {found.max()}")
    p = np.bincount(found.astype(int), minlength=k) / max(len(found), 1)
    p = p[p > 0]
    return len(p), float((p * np.log(p * k)).sum()) if len(p) else math.inf


class StackedCoverage(NamedTuple):
    """The coverage of the 1,000 triples of digits by stacked images.

    modes        the number of triples that occur
    kl           the reverse KL of their shares from the uniform distribution
    confidence   the mean probability of the most probable digit, over all channels. It shows
                 whether the modes are digits: a classifier scatters blurred images over the classes
    """

    modes: int
    kl: float
    confidence: float

    def __str__(self):
        return f"modes {self.modes}  KL {self.kl:.4f}  confidence {self.confidence:.3f}"


def measure_stacked(net: Module, images: Array) -> StackedCoverage:
    """Return the StackedCoverage of images (n, 3, 28, 28), by a classifier `net` of digits.

    Raises ValueError for other shapes.
    """
    if images.shape[1:] != (3, 28, 28):
        raise ValueError("the modes of stacked MNIST are those of images (n, 3, 28, 28), got the "
                         f"shape {images.shape}")
    p = np.stack([classify(net, images[:, channel:channel + 1]).p for channel in range(3)], 1)
    modes, kl = count_modes(p.argmax(2) @ [100, 10, 1], 1000)
    return StackedCoverage(modes, kl, float(p.max(2).mean()))
