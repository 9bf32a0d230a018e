"""Perceptual path length (Karras et al. 2019, section 4.1)."""

import numpy as np

from ..backend import Array
from ..numbers import is_number
from .features import as_features


def measure_path_length(start: Array, end: Array, eps: float) -> float:
    """Return the mean of |end - start|^2 / eps^2 over short pieces of paths.

    start, end   features (n, d) of images from the two ends of n pieces, such as G(z(t)) and
                 G(z(t + eps)), where z(t) goes from one noise vector to another as t goes from 0
                 to 1
    eps          the length of a piece in t

    As in the published code, the smallest and the largest hundredth of the pieces are left out. The
    paper's features are those of another network, so its values cannot be compared with those of
    this project's classifier. eps is 1e-4 there; the difference of two float32 images is too
    inexact for that, and 0.01 is better. Raises ValueError for an eps that is not above 0 and
    finite, and for features that are no matrices of one shape.
    """
    if not is_number(eps, 0) or not 0 < eps < np.inf:
        raise ValueError(f"eps is a finite number above 0, got {eps!r}")
    start, end = as_features(1, start, end)
    if len(start) != len(end):
        raise ValueError(f"a piece has two ends, but there are features of {len(start)} and "
                         f"{len(end)}")
    lengths = ((end - start) ** 2).sum(1) / eps ** 2
    low = np.percentile(lengths, 1, method="lower")
    high = np.percentile(lengths, 99, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())
