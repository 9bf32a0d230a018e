"""Data sets of named arrays: checks of their contents, and pixels as floats."""

from typing import NamedTuple

import numpy as np

from .. import backend
from ..backend import Array, UserError

LARGEST = float(np.finfo(np.float32).max)


class Split(dict):
    """A part of a data set: a dictionary of arrays by name, with one example in each row.

    images   uint8, or float32 in [0, 1]: (N, C, H, W)
    labels   whole numbers (N,); may be missing

    There may be further arrays under other names, such as split["targets"]. An array that belongs
    to the images row by row has N rows too; an array that is a set of its own may have another
    number of rows.
    """

    @property
    def images(self) -> np.ndarray:
        """Return the images."""
        return self["images"]

    @property
    def labels(self) -> np.ndarray | None:
        """Return the labels, or None if there are none."""
        return self.get("labels")

    def require(self, name: str) -> np.ndarray:
        """Return the array `name`. Raises UserError if there is none."""
        if name in self:
            return self[name]
        if name == "labels":
            others = [repr(other) for other, a in self.items() if a.ndim == 1]
            raise UserError("this script needs images with labels: " + (
                f"rename one of the arrays {', '.join(others)} of the data to \"labels\"" if others
                else "give a data set that has them, such as MNIST, by --data"))
        raise UserError(f"the data has no array {name!r}: give an .npz file that has it beside "
                        "\"images\" (or \"maps\") by --data, or a --task that makes it, if the "
                        "script has this flag")

    def count_classes(self) -> int:
        """Return the number of classes, if the labels are 0, 1, ... without gaps.

        Raises UserError if there are no labels, or if no image has one of the labels: a network
        that is given labels would have a class that it never saw.
        """
        labels = self.require("labels")
        check_labels(labels, len(labels), "the data has")
        found = np.unique(labels)
        missing = np.setdiff1d(np.arange(len(found)), found)
        if len(missing):
            raise UserError(f"the labels go up to {found[-1]}, but no training image has the label "
                            f"{missing[0]}: give labels from 0 on, without gaps, and enough "
                            "images of each")
        return len(found)

    def floats(self, chosen: slice | np.ndarray, name: str = "images") -> Array:
        """Return rows of the images `name` as float32 in [0, 1], on the current backend."""
        return backend.xp.asarray(as_floats(self[name][chosen]))

    def part(self, chosen: slice | np.ndarray) -> "Split":
        """Return the Split of the rows `chosen`, a slice or an array of indices, of each array."""
        return Split({name: array[chosen] for name, array in self.items()})

    def hold_out(self) -> tuple["Split", "Split"]:
        """Split off the last sixth of each array for validation: return (the rest, the sixths)."""
        rest, sixth = Split(), Split()
        for name, array in self.items():
            rest[name], sixth[name] = np.split(array, [len(array) - len(array) // 6])
        return rest, sixth


class DataSet(NamedTuple):
    """A data set in three parts."""

    train: Split
    valid: Split
    test: Split
    source: str             # a text for the user that says where the data came from
    place: str              # the value of --data that loads the same data again


def count_shared(images: np.ndarray, others: np.ndarray) -> int:
    """Return how many of the images are among the others, pixel by pixel."""
    if images.dtype != others.dtype:
        images, others = as_floats(images), as_floats(others)
    if images.shape[1:] != others.shape[1:]:
        return 0

    def key(image):
        return hash((image + image.dtype.type(0)).tobytes())    # + 0 makes -0 the same as 0
    there = {key(image) for image in others}
    return sum(key(image) in there for image in images)


def as_floats(images: Array) -> Array:
    """Return images as float32: uint8 pixels are divided by 255, floats keep their values.

    Raises UserError for another dtype, which does not say what number is white, and TypeError for
    anything but an array and for a masked one.
    """
    backend.check_arrays(images)
    _check_dtype(images, "as_floats got")
    # to float32 first: numpy divides uint8 by an int in float64
    floats = images.astype(np.float32)
    return floats / 255 if images.dtype == np.uint8 else floats


def check_images(images: Array, whose: str) -> None:
    """Raise UserError for a data set that as_floats would scale wrongly or could not convert.

    What is refused: a dtype other than uint8 and floats, an array that is empty or has fewer than
    two dimensions, uint8 pixels of which none exceeds 1, NaN, and floats that float32 cannot hold.
    The check is for whole data sets: a single minibatch may well be black. `whose` begins the
    message, such as "a.npz holds".
    """
    _check_dtype(images, whose)
    if images.ndim < 2 or images.size == 0:
        raise UserError(f"{whose} images of shape {images.shape}: give an array (N, ...) of two or "
                        "more dimensions, none of which is 0")
    if images.dtype == np.uint8:
        check_white(images, whose, 255)
        return
    low, high = float(images.min()), float(images.max())
    if not -LARGEST <= low <= high <= LARGEST:      # min() and max() are NaN if any number is NaN
        raise UserError(f"{whose} numbers from {low:g} to {high:g}: give numbers that float32 can "
                        "hold, neither NaN nor infinite")


def check_white(images: Array, whose: str, white: int) -> None:
    """Raise UserError for pixels that are black because they were divided by 255 twice.

    `white` is the value of a white pixel: 255 for bytes, 1 for floats. Pixels of which none exceeds
    white / 255 are refused. `whose` begins the message.
    """
    high = float(images.max())
    if high / white * 255 < 1.5:        # not 1: 1/255 is not exact in floats
        fix = f"give images * 255 if {high:g} stands for white" if high else "give other images"
        raise UserError(f"{whose} pixels of at most {high:g}, which is black where {white} is "
                        f"white: {fix}")


def check_scale(images: Array, who: str) -> None:
    """Raise UserError for floats whose mean is NaN or outside [-0.5, 1.5].

    It is the mean that counts, because a G that ends in no sigmoid may draw some pixels outside
    [0, 1]. So bright images in [-1, 1] are not found. `who` begins the message, such as "the
    classifier".
    """
    if images.dtype != np.uint8 and not -0.5 <= (mean := float(images.mean())) <= 1.5:
        raise UserError(f"{who} takes pixels from 0 to 1, but the mean of these is {mean:.3g}: " + (
            "G has diverged, or the data has NaN" if np.isnan(mean) else
            "scale the images, as a game's sample_images() does, unless G has diverged"))


def check_pixels(images: Array, who: str) -> None:
    """Raise UserError for images that check_units() or check_scale() refuses."""
    check_units(images)
    check_scale(images, who)


def check_units(*sets: Array) -> None:
    """Raise UserError for sets of images that are not in the same units.

    Bytes are pixels from 0 to 255. If the largest of all bytes is 1, they are refused: the images
    would be nearly black. Floats beside bytes are refused if check_scale() does not take them.
    """
    of_bytes = [images for images in sets if images.dtype == np.uint8 and images.size]
    if of_bytes and max(int(images.max()) for images in of_bytes) == 1:
        raise UserError("images of bytes have pixels from 0 to 255, but the largest of these is 1: "
                        "give images * 255 if it stands for white, or floats if the images are "
                        "black")
    for images in sets if of_bytes else ():
        if images.dtype.kind == "f":
            check_scale(images, "a comparison with images of bytes")


def check_labels(labels: Array, n: int, whose: str) -> None:
    """Raise UserError for labels that are not n whole numbers of at least 0, one for each image.

    `whose` begins the message.
    """
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise UserError(f"{whose} {n} images and labels of shape {labels.shape} and dtype "
                        f"{labels.dtype}: give one whole number for each image, or no labels")
    if n and labels.min() < 0:
        raise UserError(f"{whose} the label {labels.min()}: give whole numbers of at least 0, or "
                        "no labels")


def _check_dtype(images, whose):
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"{whose} images of dtype {images.dtype}: convert pixels from 0 to 255 to "
                        "bytes by images.astype(numpy.uint8), and pixels from 0 to 1 or other "
                        "numbers to floats by images.astype(numpy.float32); divide those from 0 "
                        "to 65535 by 65535")
