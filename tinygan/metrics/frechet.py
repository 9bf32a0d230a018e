"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

import math

import numpy as np

from ..backend import Array
from .features import as_features


def frechet_distance(x: Array, y: Array) -> float:
    """Return the squared Fréchet (2-Wasserstein) distance of features x (n, d) and y (m, d).

    It is the distance between the Gaussians with the means and covariances of x and of y (Heusel et
    al. 2017, eq. 6). Raises ValueError for fewer than two rows and for numbers that are not finite.

    It is biased: for two samples of the same distribution it is above 0, and the smaller they are,
    the larger it is. Compare it therefore with the distance between two sets of real images.
    """
    moments = []
    for features in as_features(2, x, y):
        mean = features.mean(0)
        # with X = Q R, the covariance X^T X / (n - 1) is R^T R / (n - 1)
        r = np.linalg.qr(features - mean, mode="r")
        moments += [mean, r.T / math.sqrt(len(features) - 1)]
    return _distance(*moments)


def frechet_gaussians(mean_1: np.ndarray, cov_1: np.ndarray,
                      mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """Return the squared Fréchet distance between N(mu_1, C_1) and N(mu_2, C_2).

        |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))        (Dowson and Landau 1982)

    The covariances C_1 and C_2 may be singular.
    """
    roots = []
    for cov in (cov_1, cov_2):
        values, vectors = np.linalg.eigh(np.atleast_2d(cov))
        roots.append(vectors * np.sqrt(values.clip(0)))
    return _distance(mean_1, roots[0], mean_2, roots[1])


def _distance(mean_1, a, mean_2, b):
    """Return the distance for C_1 = A A^T and C_2 = B B^T.

    The trace of (C_1 C_2)^(1/2) is the sum of the singular values of A^T B. Computed in this way it
    takes no square root of C_1 C_2, which rounding may give negative eigenvalues.
    """
    cross = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    difference = np.subtract(mean_1, mean_2)
    return float((difference ** 2).sum() + (a * a).sum() + (b * b).sum() - 2 * cross)
