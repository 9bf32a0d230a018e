"""Images of the user's own, in an .npz or .npy file as numpy saves them."""

import os

import numpy as np

from ..backend import Random, UserError, to_numpy
from ..files import read_arrays
from . import mnist
from .mnist import Split


def load(path=None):
    """The images at `path`, or else at that which the environment variable TINYGAN_DATA names: an
    .npz or .npy file (see load_arrays), or a folder (see mnist.load, also for what it is without
    either). Raises UserError if it is neither, or there is something wrong with it."""
    path = path or os.environ.get("TINYGAN_DATA")
    if path and os.path.isfile(os.path.expanduser(path)):
        return load_arrays(os.path.expanduser(path))
    return mnist.load(path)


def load_arrays(path):
    """The images in an .npy file, or an .npz file with one array of images and, where there are
    any, one of labels.

    Images are (N, H, W), grey, or (N, C, H, W) with C = 1 or 3: bytes, 0 to 255, or floats, 0 to 1;
    labels are whole numbers, (N,). In an order that is random, but always the same, eight tenths
    are for training, and one each for validation and test. Raises UserError if anything is else.
    """
    arrays = read_arrays(path)
    images = [a for a in arrays.values() if a.ndim in (3, 4)]
    labels = [a for a in arrays.values() if a.ndim == 1 and a.dtype.kind in "iu"]
    if len(images) != 1 or len(labels) > 1:
        shapes = ", ".join(f"{name} {a.shape}".strip() for name, a in arrays.items())
        raise UserError(f"{path} holds {shapes or 'nothing'}: give one array of images, (N, H, W) "
                        "or (N, C, H, W), and at most one of labels, (N,)")
    (images,), labels = images, labels[0] if labels else None
    if images.ndim == 3:
        images = images[:, None]
    if images.shape[1] not in (1, 3) or images.size == 0:
        raise UserError(f"{path} holds images of shape {images.shape}: give (N, C, H, W) with C = "
                        "1 or 3; channels that come last go there by images.transpose(0, 3, 1, 2)")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise UserError(f"{path} holds images of dtype {images.dtype}: give bytes (uint8, 0 to "
                            "255) or floats (0 to 1)")
        if not (images.min() >= 0 and images.max() <= 1):       # not so either if one is NaN
            raise UserError(f"{path} holds numbers from {images.min():g} to {images.max():g}: give "
                            "floats from 0 (black) to 1 (white), or bytes")
        images = images.astype(np.float32)
    if labels is not None and len(labels) != len(images):
        raise UserError(f"{path} holds {len(images)} images but {len(labels)} labels: give one for "
                        "each")
    order, tenth = to_numpy(Random(0).permutation(len(images))), len(images) // 10

    def part(start, stop):
        some = order[start:stop]
        return Split(images[some], None if labels is None else labels[some])
    n = len(images)
    return mnist.MNIST(part(0, n - 2 * tenth), part(n - 2 * tenth, n - tenth), part(n - tenth, n),
                       f"the {n} images of {path}")
