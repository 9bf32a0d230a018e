"""Nearest neighbours: whether samples are copies."""

import math

from .. import backend


def nearest(samples, images, piece=4096):
    """For each of the `samples` (n, ...), the index of the image nearest to it among `images`
    (N, ...), and its distance, the Euclidean one between all their numbers:

        argmin_j |s_i - x_j|,  by |s - x|^2 = |s|^2 - 2 s.x + |x|^2

    Both float, in the same units, or uint8 pixels, which are scaled to [0, 1]; returns two host
    arrays (n,). Of equals the first. Raises ValueError if there is no image or the shapes differ.
    """
    if len(images) == 0 or samples.shape[1:] != images.shape[1:]:
        raise ValueError(f"samples of shape {samples.shape} have no neighbours among images of "
                         f"shape {images.shape}: give images of the same size, one at least")
    xp, s = backend.xp, _flat(samples)
    best = xp.full(len(s), math.inf, "float32")
    index = xp.zeros(len(s), "int64")
    for start in range(0, len(images), piece):
        x = _flat(images[start:start + piece])
        squares = (x * x).sum(1) - 2 * backend.product(s, x.T)     # without |s|^2, which all share
        j = squares.argmin(1)
        square = squares[xp.arange(len(s)), j]
        index = xp.where(square < best, start + j, index)
        best = xp.minimum(square, best)
    index = backend.to_numpy(index)
    difference = s - _flat(images[index])       # exactly now, where the squares had cancelled
    return index, backend.to_numpy(xp.sqrt((difference * difference).sum(1)))


def _flat(images):
    x = backend.xp.asarray(images).reshape(len(images), -1)
    return x.astype("float32") / 255 if x.dtype == "uint8" else x.astype("float32")
