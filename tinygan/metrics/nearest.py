"""Nearest neighbours: whether samples are copies of training images, and classification by them."""

import math

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..data import as_floats
from ..data.arrays import check_units
from .features import slices


def find_nearest(samples: Array, images: Array,
                 piece: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each sample, the index of the nearest image and the distance to it.

        argmin_j |s_i - x_j|,  by |s - x|^2 = |s|^2 - 2 s.x + |x|^2

    samples   (n, ...), uint8 pixels, which are scaled to [0, 1], or floats in the same units
    images    (N, ...), likewise
    piece     the number of images that are compared at a time

    The distance is the Euclidean distance between all numbers of two images. It is computed in
    float64, so that a copy is distinguished from an image that differs by one grey level, if the
    numbers of the images lie within 1e5 of each other. Both results are host arrays (n,). Raises
    ValueError if there is no sample or no image, if their shapes differ, and for a `piece` below 1;
    and UserError for numbers that flatten() refuses and for images in different units, see
    data.arrays.check_units.
    """
    backend.check_arrays(samples, images)
    if not len(samples) or not len(images) or samples.shape[1:] != images.shape[1:]:
        raise ValueError(f"samples of shape {samples.shape} have no nearest neighbours among "
                         f"images of shape {images.shape}: give at least one sample and one image, "
                         "of the same shape")
    check_units(samples, images)
    xp, points, origin = backend.xp, flatten(samples), find_origin(images)
    s = points - origin
    best = xp.full(len(s), math.inf)
    index = xp.zeros(len(s), "int64")
    for rows in slices(len(images), piece):
        x = flatten(images[rows]) - origin
        squares = (x * x).sum(1) - 2 * backend.product(s, x.T)     # |s|^2 does not matter
        j = squares.argmin(1)
        square = squares[xp.arange(len(s)), j]
        index = xp.where(square < best, rows.start + j, index)
        best = xp.minimum(square, best)
    host = backend.to_numpy(index)
    # the squares above cancel each other in part, so the distance is computed anew
    difference = points - flatten(images[host if isinstance(images, np.ndarray) else index])
    return host, backend.to_numpy(xp.sqrt((difference * difference).sum(1)))


def nearest_accuracy(points: Array, labels: np.ndarray, known: Array,
                     known_labels: np.ndarray) -> float:
    """Return the share of `points` (n, ...) whose nearest point of `known` has the same label.

    This is the accuracy of a 1-nearest-neighbour classifier (Cover and Hart 1967). Raises
    ValueError unless there is one label for each point, labels (n,) and known_labels (N,).
    """
    backend.check_arrays(labels, known_labels)
    if labels.shape != (len(points),) or known_labels.shape != (len(known),):
        raise ValueError(f"{len(points)} points and {len(known)} known points need one label each, "
                         f"got labels of shapes {labels.shape} and {known_labels.shape}")
    index, _ = find_nearest(points, known)
    return float((known_labels[index] == labels).mean())


def find_origin(images: Array) -> Array:
    """Return a point amid the images, (numbers of an image,): the median of a hundred of them.

    Distances by |s - x|^2 = |s|^2 - 2 s.x + |x|^2 are differences of large numbers, which lose
    digits, unless the points are near the origin.
    """
    return backend.xp.median(flatten(images[::math.ceil(len(images) / 100)]), 0)


def flatten(images: Array) -> Array:
    """Return the images as rows of float64, with uint8 pixels scaled to [0, 1].

    Raises UserError for another dtype than uint8 and floats and for numbers that are not finite or
    too large to be squared.
    """
    x = backend.xp.asarray(images)
    x = (x if x.dtype == "float64" else as_floats(x)).reshape(len(x), -1).astype("float64")
    if not (abs(x) < 1e100).all():              # squares are finite; this is False for NaN
        raise UserError("the images contain NaN or infinite numbers, or huge ones, so they "
                        "cannot be compared: look for NaN in the data or in the network that drew "
                        "them")
    return x
