"""Images of the user's own, in an .npz or .npy file as numpy saves them."""

import os
import pathlib

import numpy as np

from ..backend import UserError, to_numpy
from ..files import read_arrays
from ..random import Random
from . import mnist
from .arrays import DataSet, Split, check_images, check_labels, check_white

KINDS = {       # what holds images too but is not read here, by the end of its name
    ".png": "a PNG picture", ".jpg": "a JPEG picture", ".jpeg": "a JPEG picture",
    ".gif": "a GIF picture", ".bmp": "a BMP picture", ".webp": "a WebP picture",
    ".tif": "a TIFF picture", ".tiff": "a TIFF picture",
    ".csv": "a CSV table", ".tsv": "a TSV table"}
BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}
ADVICE = 'convert to .npz, see README "Your own images"'


def load(path=None):
    """Return the images at `path`, or else at that which the environment variable TINYGAN_DATA
    names: an .npz or .npy file (see load_arrays), a folder (see mnist.load, also for what it is
    without either), or "sample", the bundled digits.

    Raises UserError if it is none of them, or there is something wrong with it.
    """
    path = path or os.environ.get("TINYGAN_DATA")
    if path == "sample":
        return mnist.load_sample()
    if path and os.path.isfile(os.path.expanduser(path)):
        return load_arrays(os.path.expanduser(path))
    if path and os.path.isdir(os.path.expanduser(path)):
        _check_folder(pathlib.Path(os.path.expanduser(path)))
    return mnist.load(path)


def load_arrays(path):
    """Return the images in an .npy file, or an .npz file with one array of images and, where there
    are any, one of labels.

    Images are (N, H, W), grey, or (N, C, H, W) with C = 1 or 3: bytes, 0 to 255, or floats, 0 to 1;
    labels are whole numbers from 0, (N,). In an order that is random, but always the same, eight
    tenths are for training, and one each for validation and test. But if the arrays are named
    x_train, x_test and, for labels, y_train and y_test, that is the split, and the last sixth of
    the training images is for validation.

    An .npz file may have further arrays of images and labels, under any names, beside one that is
    named "images": those with as many rows belong to it row by row, others are sets for themselves.
    Raises UserError if anything is else.
    """
    if kind := _kind(path):
        raise UserError(f"{path} is {kind}, not an .npz or .npy file of images: {ADVICE}")
    arrays = read_arrays(path)
    if {"x_train", "x_test"} <= arrays.keys() <= {"x_train", "x_test", "y_train", "y_test"}:
        train, test = (_split(path, {"images": arrays[f"x_{part}"],
                                     "labels": arrays.get(f"y_{part}")})
                       for part in ("train", "test"))
        if train.images.shape[1:] != test.images.shape[1:]:
            raise UserError(f"{path} has images {train.images.shape} to train and "
                            f"{test.images.shape} to test: give both of one size")
        if (train.labels is None) != (test.labels is None):
            raise UserError(f"{path} has one of y_train and y_test: give both or neither")
        n = len(train.images) - len(train.images) // 6
        return _data(path, train.part(slice(n)), train.part(slice(n, None)), test)
    images = {name: a for name, a in arrays.items() if a.ndim in (3, 4)}
    labels = {name: a for name, a in arrays.items() if a.ndim == 1 and a.dtype.kind in "iu"}
    if len(images) == 1 and len(labels) <= 1 and len(arrays) == len(images) + len(labels):
        named = {"images": next(iter(images.values())), "labels": next(iter(labels.values()), None)}
    elif "images" in images and len(arrays) == len(images) + len(labels):
        named = arrays
    else:
        shapes = ", ".join(f"{name if name.isprintable() else repr(name)} {a.shape} {a.dtype}"
                           .strip() for name, a in arrays.items())
        raise UserError(f"{path} holds {shapes or 'nothing'}: give one array of images, (N, H, W) "
                        "or (N, C, H, W), and at most one of labels, whole numbers (N,); of "
                        "several, name one \"images\"")
    whole = _split(path, named)

    def rows(a, part):
        """Those of the array for part 0, 1 or 2; arrays of equal length are in one order."""
        n, tenth = len(a), len(a) // 10
        ends = 0, n - 2 * tenth, n - tenth, n
        return a[to_numpy(Random(0).permutation(n))[ends[part]:ends[part + 1]]]
    return _data(path, *(Split({name: rows(a, part) for name, a in whole.items()})
                         for part in range(3)))


def _split(path, arrays):
    """Return the Split of these arrays, some of which may be None; UserError if they are not what
    they should be."""
    split = Split({name: _pictures(path, a) if a.ndim > 1 else a
                   for name, a in arrays.items() if a is not None})
    for name, a in split.items():
        if a.ndim == 1:
            check_labels(a, len(split.images) if name == "labels" else len(a), f"{path} holds")
    return split


def _pictures(path, images):
    """Return images as (N, C, H, W), bytes or float32; UserError if they are not what they should
    be."""
    shape = images.shape
    if images.ndim == 3:
        # taken for grey images, each row of the picture would be one
        if shape[2] in (3, 4) and shape[1] > shape[2]:
            raise UserError(f"{path} holds an array of shape {shape}, which looks like one colour "
                            "picture, (H, W, C): give many, (N, C, H, W); grey images so narrow "
                            "go as images[:, None]")
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        if images.ndim == 4 and 4 in (shape[1], shape[3]) and shape[3] not in (1, 3):
            fix = "[:, :3]" if shape[1] == 4 else "[..., :3].transpose(0, 3, 1, 2)"
            raise UserError(f"{path} holds images of shape {shape}, which have 4 channels, as RGBA "
                            f"has: drop the alpha channel, by images{fix}")
        raise UserError(f"{path} holds images of shape {shape}: give (N, C, H, W) with C = 1 or 3; "
                        "channels that come last go there by images.transpose(0, 3, 1, 2)")
    check_images(images, f"{path} holds")
    if images.dtype != np.uint8:
        if images.min() < 0 or images.max() > 1:
            raise UserError(f"{path} holds numbers from {images.min():g} to {images.max():g}: give "
                            "floats from 0 (black) to 1 (white), or bytes")
        check_white(images, f"{path} holds", 1)
        images = images.astype(np.float32)
    return images


def _data(path, train, valid, test):
    n = sum(len(split.images) for split in (train, valid, test))
    return DataSet(train, valid, test, f"the {n} images of {path}", os.path.abspath(path))


# Pictures and tables

def _kind(path):
    """Return what the file at `path` is, such as "a PNG picture"; None if no picture or table.

    Its content decides before its name does.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1000)
    except OSError:         # read_arrays says which
        return None
    if start.startswith((b"PK", b"\x93NUMPY")):        # .npz, .npy
        return None
    for beginning, suffix in BEGINNINGS.items():
        if start.startswith(beginning):
            return KINDS[suffix]
    line = start.split(b"\n")[0].strip().replace(b"\t", b",").decode("latin-1")
    is_table = ("," in line or ";" in line) and line.isascii() and line.isprintable()
    return KINDS.get(pathlib.Path(path).suffix.lower(), "text such as CSV" if is_table else None)


def _check_folder(folder):
    """Refuse a folder with pictures or tables, also one folder deeper, but no file of MNIST's.

    Raises UserError that names the first of them.
    """
    if any(mnist.find(folder, name) for name in mnist.FILES):
        return
    for pattern in ("*", "*/*"):
        for path in sorted(folder.glob(pattern)):
            if kind := KINDS.get(path.suffix.lower()):
                raise UserError(f"{folder} has none of MNIST's four files, but {kind}, "
                                f"{path.name!r}: {ADVICE}")
