"""Nearest neighbours: whether samples are copies."""

import math

import numpy as np

from .. import backend
from ..data import as_floats


def find_nearest(samples, images, piece=4096):
    """For each of the `samples` (n, ...), the index of the image nearest to it among `images`
    (N, ...), and its distance, the Euclidean one between all their numbers:

        argmin_j |s_i - x_j|,  by |s - x|^2 = |s|^2 - 2 s.x + |x|^2

    in float64, so that a copy is found among images which differ from it by a grey level. Both
    float, in the same units, or uint8 pixels, which are scaled to [0, 1]; returns two host arrays
    (n,). Raises ValueError if there is no sample or no image, or the shapes differ.
    """
    if not len(samples) or not len(images) or samples.shape[1:] != images.shape[1:]:
        raise ValueError(f"samples of shape {samples.shape} have no neighbours among images of "
                         f"shape {images.shape}: give images of the same size, one at least")
    xp, s = backend.xp, flat(samples)
    best = xp.full(len(s), math.inf)
    index = xp.zeros(len(s), "int64")
    for start in range(0, len(images), piece):
        x = flat(images[start:start + piece])
        squares = (x * x).sum(1) - 2 * backend.product(s, x.T)     # without |s|^2, which all share
        j = squares.argmin(1)
        square = squares[xp.arange(len(s)), j]
        index = xp.where(square < best, start + j, index)
        best = xp.minimum(square, best)
    host = backend.to_numpy(index)
    # exactly now, where the squares had cancelled
    difference = s - flat(images[host if isinstance(images, np.ndarray) else index])
    return host, backend.to_numpy(xp.sqrt((difference * difference).sum(1)))


def flat(images):
    """The images as rows of float64, pixels scaled to [0, 1]."""
    x = backend.xp.asarray(images)
    return (as_floats(x) if x.dtype == "uint8" else x).reshape(len(x), -1).astype("float64")
