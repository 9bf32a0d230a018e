"""Precision and recall of samples (Kynkäänniemi et al. 2019)."""

import numpy as np

from .. import cpu
from ..backend import Array
from ..numbers import check_whole
from .features import as_features, slices


def compute_precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """Return (precision, recall) of features real (n, d) and fake (m, d).

    Precision, the share of samples that look real, is the share of generated points that lie within
    the real set. Recall, the share of real images that G could have generated, is the share of real
    points that lie within the generated set (Kynkäänniemi et al. 2019, eq. 1-2). A point lies
    within a set if it is no farther from one of the members than that member's k-th nearest
    neighbour in the set. Squared distances are compared up to rounding: 1e-12 of the sum of both
    points' squared distances from the mean of the real ones.

    Compare the values with those of two sets of real images, which are below 1 too. Raises
    ValueError for a k below 1, for k rows or fewer and for numbers that are not finite.
    """
    check_whole(k, 1, "the k of the k-th nearest neighbour")
    real, fake = as_features(k + 1, real, fake)
    centre = real.mean(0)           # distances are computed more precisely near the origin
    real, fake = real - centre, fake - centre
    return _share_within(fake, real, k), _share_within(real, fake, k)


def _share_within(points, members, k, piece=1000):
    """Return the share of points that lie within the set of members."""
    squared_radii, inside = [], []
    for rows in slices(len(members), piece):
        squares, _ = _squares(members[rows], members)
        # index k, not k - 1: the nearest point to a member is the member itself
        squared_radii.append(np.partition(squares, k, axis=1)[:, k])
    squared_radii = np.concatenate(squared_radii)
    for rows in slices(len(points), piece):
        squares, error = _squares(points[rows], members)
        inside.append((squares <= squared_radii + error).any(1))
    return float(np.concatenate(inside).mean())


def _squares(x, y):
    """Return |x - y|^2 for all pairs of rows, and bounds of the rounding errors."""
    sums = (x * x).sum(1)[:, None] + (y * y).sum(1)
    return sums - 2 * cpu.product(x, y.T), 1e-12 * sums
