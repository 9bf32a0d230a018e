"""Maximum mean discrepancy (Gretton et al. 2012), and with it KID, the Kernel Inception Distance
(Bińkowski et al. 2018)."""

import numpy as np

from .. import backend


def cubic(x, y):
    """k(x, y) = (x.y / d + 1)^3 for all pairs of x (n, d) and y (m, d), as KID has it."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd2(x, y, kernel=cubic):
    """The unbiased estimate of the squared discrepancy (Gretton et al. 2012, eq. 3),

        mean over i != j of k(x_i, x_j) + of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)

    of features x (n, d) and y (m, d), at least two each: its expectation is 0 for one distribution,
    so that it may be negative. `kernel` gives the matrix for all pairs.
    """
    x, y = _features(x), _features(y)
    kxx, kyy, n, m = kernel(x, x), kernel(y, y), len(x), len(y)
    return float((kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy))
                 / (m * (m - 1)) - 2 * kernel(x, y).mean())


def kid(x, y, rng, subsets=100, size=1000):
    """KID as it is published: the mean and the standard deviation of mmd2 over random subsets of
    `size` features of each (fewer if there are fewer), drawn by `rng`, a Random."""
    x, y = _features(x), _features(y)

    def some(features):
        order = backend.to_numpy(rng.permutation(len(features)))
        return features[order[:size]]
    values = [mmd2(some(x), some(y)) for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def _features(x):
    return np.asarray(backend.to_numpy(x), np.float64)
