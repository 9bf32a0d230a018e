"""The maximum mean discrepancy, MMD (Gretton et al. 2012), and KID (Bińkowski et al. 2018).

KID, the Kernel Inception Distance, is the mean of the squared MMD over random subsets.
"""

from collections.abc import Callable

import numpy as np

from .. import backend
from ..backend import Array
from ..numbers import is_whole
from ..random import Random, check_random
from .features import as_features


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return KID's kernel (x.y / d + 1)^3 for all pairs of rows of x (n, d) and y (m, d)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd2(x: Array, y: Array,
         kernel: Callable[[np.ndarray, np.ndarray], np.ndarray] = cubic_kernel) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al. 2012, eq. 3).

        mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j)
        - 2 mean over i, j of k(x_i, y_j)

    for features x (n, d) and y (m, d). `kernel` returns the matrix of k for all pairs. The
    expectation is 0 if both are samples of the same distribution, so that the estimate may be
    negative. Raises ValueError for fewer than two rows and for numbers that are not finite.
    """
    x, y = as_features(2, x, y)
    kxx, kyy, n, m = kernel(x, x), kernel(y, y), len(x), len(y)
    return float((kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy))
                 / (m * (m - 1)) - 2 * kernel(x, y).mean())


def kid(x: Array, y: Array, rng: Random, subsets: int = 100,
        size: int = 1000) -> tuple[float, float]:
    """Return KID of features x (n, d) and y (m, d), and its standard deviation.

    They are the mean and the standard deviation of mmd2 over random subsets, as published. `rng`
    draws each subset: `size` rows of x and of y, or all rows of one that has fewer. If neither has
    more, the standard deviation is 0 but for rounding. Raises ValueError as mmd2 does, and unless
    there are a subset and two rows in it.
    """
    check_random(rng, "kid")
    x, y = as_features(2, x, y)
    if not is_whole(subsets, 1) or not is_whole(size, 2):
        raise ValueError("KID needs a whole number of subsets, at least 1, and of rows in each, at "
                         f"least 2, got {subsets} of {size}")

    def draw_subset(features):
        order = backend.to_numpy(rng.permutation(len(features)))
        return features[order[:size]]
    values = [mmd2(draw_subset(x), draw_subset(y)) for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))
