"""Parzen windows: the log-likelihood by which Goodfellow et al. 2014 compare generators
(section 5), after Breuleux et al. 2009."""

import math
from typing import NamedTuple

import numpy as np

from .. import backend
from .nearest import find_nearest, flat

SIGMAS = np.logspace(-1, 0, 10)


class Parzen(NamedTuple):
    """mean     of the log-likelihood of the test points, in nats
    error    its standard error, std / sqrt(n)
    sigma    the width that fits the validation points best
    """

    mean: float
    error: float
    sigma: float


def parzen_log_likelihood(samples, valid, test, sigmas=SIGMAS):
    """The Parzen of `test` (n, ...) under a Gaussian window on each of `samples` (N, ...), its
    width the one of `sigmas` that gives the `valid` points the largest mean log-likelihood.

    The original protocol (goodfeli/adversarial, parzen_ll.py) has N = 10,000 samples, the first
    1,000 validation images, all 10,000 test images, pixels in [0, 1]. It does not tell how real
    samples look: centres of k-means clusters score above the training images (Theis et al. 2016),
    as do other smooth averages.
    """
    sigma = sigmas[log_likelihood(valid, samples, sigmas).mean(1).argmax()]
    (ll,) = log_likelihood(test, samples, [sigma])
    return Parzen(float(ll.mean()), float(ll.std() / math.sqrt(len(ll))), float(sigma))


def log_likelihood(points, centres, sigmas, piece=500):
    """log p of each point x (n, ...) for p = 1/N sum_i N(s_i, sigma^2 I) with centres s_i (N, ...),
    for each of `sigmas` (k,):

        log 1/N sum_i exp(-|x - s_i|^2 / 2 sigma^2) - d log(sigma sqrt(2 pi))

    in float64, a host array (k, n). The largest exponent is taken out of the sum, which would else
    underflow.
    """
    xp, s = backend.xp, flat(centres)
    d, squares, parts = s.shape[1], (s * s).sum(1), []
    for start in range(0, len(points), piece):
        x = flat(points[start:start + piece])
        # |x - s|^2 = |x|^2 + |s|^2 - 2 x.s, one product for all pairs
        distances = (x * x).sum(1)[:, None] + squares - 2 * backend.product(x, s.T)
        least = distances.min(1)
        distances -= least[:, None]
        parts.append(xp.stack([
            xp.log(xp.exp(distances * (-0.5 / sigma ** 2)).mean(1)) - least * (0.5 / sigma ** 2)
            for sigma in sigmas]))
    scale = [d * math.log(sigma * math.sqrt(2 * math.pi)) for sigma in sigmas]
    return backend.to_numpy(xp.concatenate(parts, 1)) - np.array(scale)[:, None]


def centroids(images, k, rng, iterations=5):
    """The centres (k, ...) of k clusters of images (N, ...) by k-means (Lloyd 1982), from k images
    that `rng`, a Random, chooses; float32, on the host. A cluster that has lost its members
    keeps its centre. As windows they score above the images themselves, which is why they are
    printed beside the samples (Theis et al. 2016, section 3.5)."""
    images = np.asarray(images, np.float32)
    centres = images[backend.to_numpy(rng.permutation(len(images)))[:k]]
    for _ in range(iterations):
        index, _ = find_nearest(images, centres)
        order = np.argsort(index, kind="stable")
        present, starts = np.unique(index[order], return_index=True)
        sums = np.add.reduceat(images[order].reshape(len(images), -1), starts, axis=0)
        counts = np.diff([*starts, len(images)])
        centres[present] = (sums / counts[:, None]).reshape(-1, *images.shape[1:])
    return centres
