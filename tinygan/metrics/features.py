"""The form of features that the metrics compare: float64 on the host, one row for each image."""

import numpy as np

from .. import backend
from ..backend import Array


def as_features(x: Array, least: int) -> np.ndarray:
    """Return features x (n, d) as float64 on the host.

    Raises ValueError if x is not a matrix of finite numbers with at least `least` rows.
    """
    x = np.asarray(backend.to_numpy(x), np.float64)
    if x.ndim != 2 or len(x) < least:
        raise ValueError(f"features are a matrix (n, d) with n of at least {least} here, got the "
                         f"shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("the features contain NaN or infinite numbers, so they cannot be compared:"
                         " look for NaN in the images or in the network that computed them")
    return x
