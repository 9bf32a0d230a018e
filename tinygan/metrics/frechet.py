"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

import math

import numpy as np

from ..backend import Array
from .features import as_features


def frechet_distance(x: Array, y: Array) -> float:
    """Return the squared Fréchet (2-Wasserstein) distance of features x (n, d) and y (m, d).

        |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))        (Dowson and Landau 1982)

    It is the distance between the Gaussians with the means mu and covariances C of x and of y
    (Heusel et al. 2017, eq. 6). Raises ValueError for fewer than two rows and for numbers that are
    not finite.

    It is biased: for two samples of the same distribution it is above 0, and the smaller they are,
    the larger it is. Compare it therefore with the distance between two sets of real images.
    """
    x, y = as_features(2, x, y)
    # C = A^T A: with X - mean = Q R, the covariance is R^T R / (n - 1)
    a, b = (np.linalg.qr(features - features.mean(0), mode="r") / math.sqrt(len(features) - 1)
            for features in (x, y))
    # The trace of (C_1 C_2)^(1/2) is the sum of the singular values of A B^T. Computed in this way
    # it takes no square root of C_1 C_2, which rounding may give negative eigenvalues.
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    difference = x.mean(0) - y.mean(0)
    # of equal sets, rounding may leave a number below 0
    return max(float((difference ** 2).sum() + (a * a).sum() + (b * b).sum() - 2 * cross), 0.0)
