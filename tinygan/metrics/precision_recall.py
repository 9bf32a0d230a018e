"""Precision and recall of samples (Kynkäänniemi et al. 2019)."""

import numpy as np

from .. import backend


def compute_precision_recall(real, fake, k=3):
    """(precision, recall) of features real (n, d) and fake (m, d), more than k each (Kynkäänniemi
    et al. 2019, eq. 1-2): the share of generated samples that look real, and of real ones that G
    could have made. A point belongs to a set if it is no farther from one of its members than that
    member's k-th nearest neighbour in the set.

    Compare with the values of two sets of real images, which are below 1.
    """
    real, fake = (np.asarray(backend.to_numpy(x), np.float64) for x in (real, fake))
    return _share_within(fake, real, k), _share_within(real, fake, k)


def _share_within(points, members, k, piece=1000):
    """The share of points that belong to the set of members."""
    # the nearest to a member is itself, at distance 0
    radius = np.concatenate([np.partition(_squares(members[i:i + piece], members), k, axis=1)[:, k]
                             for i in range(0, len(members), piece)])
    return float(np.mean([inside for i in range(0, len(points), piece) for inside in
                          (_squares(points[i:i + piece], members) <= radius).any(1)]))


def _squares(x, y):
    """|x - y|^2 for all pairs."""
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * backend.product(x, y.T)
    return squares.clip(0)
