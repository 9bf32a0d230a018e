"""Data sets of named arrays: what these may hold, and pixels as floats."""

from typing import NamedTuple

import numpy as np

from ..backend import UserError

LARGEST = float(np.finfo(np.float32).max)


class Split(dict):
    """A part of a data set: named arrays, each with an example in each row.

    images   uint8, or float32 in [0, 1]: (N, C, H, W)
    labels   whole numbers (N,), or None where the data has none

    Others have names of their own, as in split["targets"]: as many rows where they belong to the
    images, or another number where they are a set for themselves.
    """

    images = property(lambda split: split["images"])
    labels = property(lambda split: split.get("labels"))

    def part(self, chosen):
        """Return the Split of the rows `chosen`, a slice or an array of numbers, of each array."""
        return Split({name: array[chosen] for name, array in self.items()})


class DataSet(NamedTuple):
    """A data set in three parts."""

    train: Split
    valid: Split
    test: Split
    source: str             # a sentence for the user: where it came from
    place: str              # what to give as --data to have the same again


def as_floats(images):
    """Return the array as float32 in its units: bytes (uint8, pixels) over 255, floats as they are.

    Raises UserError for another dtype, which does not say what number is white.
    """
    _check_dtype(images, "as_floats got")
    # to float32 first: numpy divides uint8 by an int in float64
    floats = images.astype(np.float32)
    return floats / 255 if images.dtype == np.uint8 else floats


def check_images(images, whose):
    """Refuse a data set of which as_floats would make numbers at a wrong scale, or no numbers.

    It is for whole data sets, as a minibatch may well be black. `whose` begins the message: "a.npz
    holds". Raises UserError for a dtype other than uint8 and floats, an array that is empty or has
    fewer than two dimensions, bytes that never exceed 1, NaN, and floats beyond those of float32.
    """
    _check_dtype(images, whose)
    if images.ndim < 2 or images.size == 0:
        raise UserError(f"{whose} images of shape {images.shape}: give (N, ...), two dimensions or "
                        "more, none of which is 0")
    if images.dtype == np.uint8:
        check_white(images, whose, 255)
        return
    low, high = float(images.min()), float(images.max())
    if not -LARGEST <= low <= high <= LARGEST:      # NaN is the minimum where one number is NaN
        raise UserError(f"{whose} numbers from {low:g} to {high:g}: give numbers that float32 can "
                        "hold, neither NaN nor infinite")


def check_white(images, whose, white):
    """Refuse pixels that never exceed white / 255: divided by 255 once too often they are black.

    Raises UserError, whose message begins with `whose`.
    """
    high = float(images.max())
    if high / white * 255 < 1.5:        # not 1: 1/255 is not exact in floats
        fix = f"give images * 255 if {high:g} stands for white" if high else "give other images"
        raise UserError(f"{whose} pixels of at most {high:g}, which is black where {white} is "
                        f"white: {fix}")


def check_labels(labels, n, whose):
    """Refuse labels that are not one whole number from 0 for each of n images.

    Raises UserError, whose message begins with `whose`.
    """
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise UserError(f"{whose} {n} images and labels of shape {labels.shape} and dtype "
                        f"{labels.dtype}: give one whole number for each image, or no labels")
    if labels.min() < 0:
        raise UserError(f"{whose} the label {labels.min()}: give whole numbers from 0, or no "
                        "labels")


def _check_dtype(images, whose):
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"{whose} images of dtype {images.dtype}: give bytes, by "
                        "images.astype(numpy.uint8), if they are pixels from 0 to 255, or floats, "
                        "by images.astype(numpy.float32), from 0 to 1 if they are pixels")
