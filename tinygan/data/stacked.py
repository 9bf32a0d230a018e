"""Stacked MNIST (Metz et al. 2017): three random digits as the channels of an image.

Each of the 1,000 triples of digits is a mode, which can be counted.
"""

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..random import Random, check_random, rng
from .minibatches import Minibatches, ZipMinibatches


class StackedMinibatches(ZipMinibatches):
    """An endless stream of minibatches of m stacked images, (m, 3, H, W).

    images   (N, 1, H, W), as Minibatches takes them
    m        the size of a minibatch
    rng      the Random from which the orders are drawn (default: `tinygan.rng`)

    The three channels are three streams over the same images, each with an order of its own. So a
    triple of images hardly ever comes twice. Raises UserError for images of several channels.
    """

    def __init__(self, images: Any, m: int, rng: Random = rng) -> None:
        _check_grey(images)
        super().__init__(*[Minibatches(images, m, rng) for _ in range(3)])

    def __next__(self) -> Array:
        return backend.xp.concatenate(super().__next__(), 1)


def draw_stacked(images: np.ndarray, n: int, rng: Random = rng) -> np.ndarray:
    """Draw n stacked images (n, 3, H, W) of images (N, 1, H, W), both on the host.

    Each channel is one of the images, all of which are equally likely. Raises UserError for images
    of several channels and for no images, and TypeError for an rng that is no Random.
    """
    check_random(rng, "draw_stacked")
    _check_grey(images)
    return np.asarray(images)[backend.to_numpy(rng.integers(len(images), (n, 3)))][:, :, 0]


def _check_grey(images):
    shape = np.shape(images)
    if len(shape) != 4 or shape[1] != 1 or not shape[0]:
        raise UserError("stacked images are made of grey images (N, 1, H, W), at least one, got "
                        f"the shape {shape}")
