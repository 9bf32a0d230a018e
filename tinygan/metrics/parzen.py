"""Parzen windows: the log-likelihood by which Goodfellow et al. 2014 compare generators.

See section 5 of that paper; the method is that of Breuleux et al. 2011.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import backend
from ..backend import Array
from ..data import as_floats
from ..data.arrays import check_units
from ..numbers import is_number, is_whole
from ..random import Random, check_random
from .features import slices
from .nearest import find_nearest, find_origin, flatten

SIGMAS = np.logspace(-1, 0, 10)


class Parzen(NamedTuple):
    """A log-likelihood of test points under Parzen windows.

    mean     the mean over the n test points, in nats
    error    the standard error of the mean, std / sqrt(n)
    sigma    the width of the windows, which fits the validation points best
    valid    the mean log-likelihood of the validation points, in nats
    """

    mean: float
    error: float
    sigma: float
    valid: float


def parzen_log_likelihood(samples: Array, valid: Array, test: Array,
                          sigmas: Sequence[float] | np.ndarray = SIGMAS) -> Parzen:
    """Return the log-likelihood of `test` (n, ...) under Gaussian windows on `samples` (N, ...).

    The width of the windows is the one of `sigmas` that gives the points `valid` the largest mean
    log-likelihood.

    The original protocol (goodfeli/adversarial, parzen_ll.py) takes N = 10,000 samples, the first
    1,000 validation images and all 10,000 test images, with pixels in [0, 1]. The result does not
    tell how real samples look: centres of k-means clusters (Theis et al. 2016) and other smooth
    averages have larger log-likelihoods than the training images. Raises ValueError for fewer than
    two test points, whose standard error is unknown, and as log_likelihood does.
    """
    if len(test) < 2:
        raise ValueError("the standard error of a mean needs at least 2 test points, got "
                         f"{len(test)}")
    means = log_likelihood(valid, samples, sigmas).mean(1)
    sigma = sigmas[means.argmax()]
    (ll,) = log_likelihood(test, samples, [sigma])
    return Parzen(float(ll.mean()), float(ll.std() / math.sqrt(len(ll))), float(sigma),
                  float(means.max()))


def log_likelihood(points: Array, centres: Array, sigmas: Sequence[float] | np.ndarray,
                   piece: int = 500) -> np.ndarray:
    """Return log p of n points for each of k `sigmas`, a host array (k, n) of float64.

    With centres s_i (N, ...), p is 1/N sum_i N(s_i, sigma^2 I), so that a point x (d numbers) has

        log p(x) = log 1/N sum_i exp(-|x - s_i|^2 / (2 sigma^2)) - d log(sigma sqrt(2 pi))

    The largest exponential is factored out of the sum, which would underflow otherwise. `piece`
    points are computed at a time. Squared distances are rounded, so for a sigma of 1e-7 times the
    size of the numbers the result is wrong by some nats. Raises ValueError if there is no point,
    centre or sigma, if the shapes of a point and a centre differ, unless each sigma is from 1e-50
    to 1e50, and for a `piece` below 1; and UserError as find_nearest does.
    """
    backend.check_arrays(points, centres)
    if not len(points) or not len(centres) or points.shape[1:] != centres.shape[1:]:
        raise ValueError("windows need at least one point and one centre of the same shape, got "
                         f"points {points.shape} and centres {centres.shape}")
    widths = sigmas if isinstance(sigmas, (list, tuple, np.ndarray)) and np.ndim(sigmas) else []
    if not len(widths) or not all(is_number(s, 0) and 1e-50 <= float(s) <= 1e50 for s in widths):
        raise ValueError("windows need a list of at least one width, each a number from 1e-50 to "
                         f"1e50, got {sigmas!r:.60}")
    check_units(points, centres)
    sigmas = [float(sigma) for sigma in widths]         # the square of a float16 may be 0
    xp, origin = backend.xp, find_origin(centres)
    s = flatten(centres) - origin
    d, squares, parts = s.shape[1], (s * s).sum(1), []
    for rows in slices(len(points), piece):
        x = flatten(points[rows]) - origin
        # |x - s|^2 = |x|^2 + |s|^2 - 2 x.s, by one matrix product for all pairs
        distances = (x * x).sum(1)[:, None] + squares - 2 * backend.product(x, s.T)
        xp.maximum(distances, 0, out=distances)         # rounding may make them negative
        least = distances.min(1)
        distances -= least[:, None]
        parts.append(xp.stack([
            xp.log(xp.exp(distances * (-0.5 / sigma ** 2)).mean(1)) - least * (0.5 / sigma ** 2)
            for sigma in sigmas]))
    scale = [d * math.log(sigma * math.sqrt(2 * math.pi)) for sigma in sigmas]
    return backend.to_numpy(xp.concatenate(parts, 1)) - np.array(scale)[:, None]


def find_centroids(images: Array, k: int, rng: Random, iterations: int = 5) -> np.ndarray:
    """Return the centres of k clusters of images (N, ...), a host array (k, ...) of float32.

    The images are uint8 pixels, which are scaled to [0, 1], or floats. The clusters are found by
    k-means (Lloyd 1982), beginning with k images that `rng` chooses. A cluster without members
    keeps its centre. With windows on the centres, the log-likelihood is larger than with windows on
    the images themselves (Theis et al. 2016, section 3.5). For comparison, examples/evaluate.py can
    print it beside that of the samples. Raises ValueError for a k that is no whole number from 1 to
    N and for a number of iterations below 0.
    """
    check_random(rng, "find_centroids")
    images = as_floats(backend.to_numpy(images))
    if not is_whole(k, 1) or k > len(images) or not is_whole(iterations, 0):
        raise ValueError(f"{k} clusters cannot be found among {len(images)} images in {iterations} "
                         f"iterations: give a whole number from 1 to {len(images)}, and of "
                         "iterations at least 0")
    centres = images[backend.to_numpy(rng.permutation(len(images)))[:k]]
    for _ in range(iterations):
        index, _ = find_nearest(images, centres)
        order = np.argsort(index, kind="stable")
        present, starts = np.unique(index[order], return_index=True)
        sums = np.add.reduceat(images[order].reshape(len(images), -1), starts, axis=0)
        counts = np.diff([*starts, len(images)])
        centres[present] = (sums / counts[:, None]).reshape(-1, *images.shape[1:])
    return centres
