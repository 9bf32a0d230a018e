"""Images of the user's own, in an .npz or .npy file as numpy saves them."""

import os

import numpy as np

from ..backend import Random, UserError, to_numpy
from ..files import read_arrays
from . import mnist
from .mnist import Split


def load(path=None):
    """The images at `path`, or else at that which the environment variable TINYGAN_DATA names: an
    .npz or .npy file (see load_arrays), a folder (see mnist.load, also for what it is without
    either), or "sample", the bundled digits. Raises UserError if it is none of them, or there is
    something wrong with it."""
    path = path or os.environ.get("TINYGAN_DATA")
    if path == "sample":
        return mnist.load_sample()
    if path and os.path.isfile(os.path.expanduser(path)):
        return load_arrays(os.path.expanduser(path))
    return mnist.load(path)


def load_arrays(path):
    """The images in an .npy file, or an .npz file with one array of images and, where there are
    any, one of labels.

    Images are (N, H, W), grey, or (N, C, H, W) with C = 1 or 3: bytes, 0 to 255, or floats, 0 to 1;
    labels are whole numbers, (N,). In an order that is random, but always the same, eight tenths
    are for training, and one each for validation and test. But if the arrays are named x_train,
    x_test and, for labels, y_train and y_test, that is the split, and the last sixth of the
    training images is for validation. Raises UserError if anything is else.
    """
    arrays = read_arrays(path)
    if {"x_train", "x_test"} <= arrays.keys() <= {"x_train", "x_test", "y_train", "y_test"}:
        train, test = (_split(path, arrays[f"x_{part}"], arrays.get(f"y_{part}"))
                       for part in ("train", "test"))
        if train.images.shape[1:] != test.images.shape[1:]:
            raise UserError(f"{path} has images {train.images.shape} to train and "
                            f"{test.images.shape} to test: give both of one size")
        n = len(train.images) - len(train.images) // 6
        return _data(path, _part(train, slice(n)), _part(train, slice(n, None)), test)
    images = [a for a in arrays.values() if a.ndim in (3, 4)]
    labels = [a for a in arrays.values() if a.ndim == 1 and a.dtype.kind in "iu"]
    if len(images) != 1 or len(images) + len(labels) != len(arrays) or len(labels) > 1:
        shapes = ", ".join(f"{name if name.isprintable() else repr(name)} {a.shape} {a.dtype}"
                           .strip() for name, a in arrays.items())
        raise UserError(f"{path} holds {shapes or 'nothing'}: give one array of images, (N, H, W) "
                        "or (N, C, H, W), and at most one of labels, whole numbers (N,)")
    whole = _split(path, images[0], labels[0] if labels else None)
    n = len(whole.images)
    order, tenth = to_numpy(Random(0).permutation(n)), n // 10
    return _data(path, *(_part(whole, order[chosen]) for chosen in (
        slice(n - 2 * tenth), slice(n - 2 * tenth, n - tenth), slice(n - tenth, n))))


def _split(path, images, labels):
    """The Split of these arrays, if they are what they should be."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise UserError(f"{path} holds images of shape {images.shape}: give (N, C, H, W) with C = "
                        "1 or 3; channels that come last go there by images.transpose(0, 3, 1, 2)")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise UserError(f"{path} holds images of dtype {images.dtype}: give bytes, by "
                            "images.astype(numpy.uint8) if they are 0 to 255, or floats from 0 to 1"
                            )
        if not (images.min() >= 0 and images.max() <= 1):       # not so either if one is NaN
            raise UserError(f"{path} holds numbers from {images.min():g} to {images.max():g}: give "
                            "floats from 0 (black) to 1 (white), or bytes")
        images = images.astype(np.float32)
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise UserError(f"{path} holds {len(images)} images but {len(labels)} labels of dtype "
                        f"{labels.dtype}: give a whole number for each, or no labels")
    return Split(images, labels)


def _part(split, chosen):
    return Split(split.images[chosen], None if split.labels is None else split.labels[chosen])


def _data(path, train, valid, test):
    n = sum(len(split.images) for split in (train, valid, test))
    return mnist.MNIST(train, valid, test, f"the {n} images of {path}", os.path.abspath(path))
