"""What the metrics share: the form of features, float64 on the host, and rows in pieces."""

from collections.abc import Iterator

import numpy as np

from .. import backend
from ..backend import Array
from ..numbers import check_whole

LIMIT = 1e20        # twelfth powers of smaller numbers are finite, as KID's deviation needs


def as_features(least: int, *sets: Array) -> list[np.ndarray]:
    """Return sets of features, (n, d) each, as float64 on the host.

    Raises ValueError if one is not a matrix of numbers below LIMIT with at least `least` rows and
    one column, or if their numbers d of features differ.
    """
    sets = [backend.to_numpy(x) for x in sets]
    if any(x.dtype.kind not in "fiub" for x in sets):
        raise ValueError(f"features are real numbers, got {[str(x.dtype) for x in sets]}")
    sets = [x.astype(np.float64, copy=False) for x in sets]
    for x in sets:
        if x.ndim != 2 or len(x) < least or not x.shape[1]:
            raise ValueError(f"features are a matrix (n, d) with n of at least {least} here and d "
                             f"of at least 1, got the shape {x.shape}")
        if not (abs(x) < LIMIT).all():        # this is False for NaN
            raise ValueError("the features contain NaN or infinite numbers, or huge ones, so they "
                             "cannot be compared: look for NaN in the images or in the network "
                             "that computed them")
    if len({x.shape[1] for x in sets}) > 1:
        raise ValueError("sets of features are compared feature by feature, but their shapes are "
                         f"{[x.shape for x in sets]}")
    return sets


def check_logits(logits: np.ndarray) -> None:
    """Raise FloatingPointError if a classifier's logits contain NaN or infinity.

    They say nothing of the class, but argmax would return one.
    """
    if not (logits < np.inf).all():         # minus infinity is the logarithm of the probability 0
        raise FloatingPointError("the classifier's outputs are NaN or infinite: train it again, "
                                 "with a smaller learning rate")


def slices(n: int, piece: int) -> Iterator[slice]:
    """Yield slices that cover n rows in their order, with `piece` rows each but for the last.

    Raises ValueError unless `piece` is a whole number of at least 1.
    """
    check_whole(piece, 1, "the number of rows of a piece")
    for start in range(0, n, piece):
        yield slice(start, start + piece)
