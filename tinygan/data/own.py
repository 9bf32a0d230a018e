"""Images of your own, in an .npz or .npy file as numpy saves them."""

import os
import pathlib
import re

import numpy as np

from ..backend import UserError, to_numpy
from ..files import read_arrays
from ..random import Random
from . import mnist, picture, tasks
from .arrays import DataSet, Split, as_floats, check_images, check_labels, check_white

KINDS = {       # file types that are recognised, but not read, by their suffix
    ".png": "a PNG picture", ".jpg": "a JPEG picture", ".jpeg": "a JPEG picture",
    ".gif": "a GIF picture", ".bmp": "a BMP picture", ".webp": "a WebP picture",
    ".tif": "a TIFF picture", ".tiff": "a TIFF picture",
    ".csv": "a CSV table", ".tsv": "a TSV table"}
BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}
NAMED = {"sample": mnist.load_sample, "scenes": tasks.load_scenes,
         "balloons": picture.load_balloons}       # data sets that need no path
ADVICE = 'convert to .npz, see README "Your own images"'


def load(path: str | os.PathLike | None = None, classes: int | None = None) -> DataSet:
    """Return the data set at `path`; by default that at TINYGAN_DATA, or else MNIST.

    `path`, or the environment variable TINYGAN_DATA, is an .npz or .npy file (see load_arrays), a
    folder with four files of MNIST's format (see mnist.load), or "sample", the bundled digits.
    "half:PATH" is the task `half` made from the data at PATH; tasks.py lists the tasks. "scenes" is
    the task that needs no data, and "balloons" is the picture of picture.py. `classes` is for files
    of maps (see load_arrays). Raises UserError if `path` is none of these, or if its content is
    refused.
    """
    given, path = path, path or os.environ.get("TINYGAN_DATA")
    task, source = tasks.split_place(str(path or ""))
    if task:
        if not source and not given:
            raise UserError(f"TINYGAN_DATA is {path!r}, a task without data: add a path after the "
                            "colon")
        return tasks.make_task(task, load(source))
    if path in NAMED:
        return NAMED[path]()
    place = os.path.expanduser(path or "")
    if os.path.isfile(place):
        if re.search(r"[-.]idx[13]-ubyte(\.gz)?$", place):
            raise UserError(f"{path} is one of four files of MNIST's format: give the folder that "
                            "holds them")
        return load_arrays(place, classes)
    if os.path.isdir(place):
        _check_folder(pathlib.Path(place))
    return mnist.load(path)


def load_arrays(path: str | os.PathLike, classes: int | None = None) -> DataSet:
    """Return the images, and the labels if there are any, in an .npz or .npy file.

    images   (N, H, W), which are grey, or (N, C, H, W) with C = 1 or 3; bytes from 0 to 255, or
             floats from 0 to 1
    labels   (N,) whole numbers of at least 0

    The file decides how the images are split:

    - An .npy file is one array of images, and an .npz file may hold one such array and one of
      labels, under any names. They are put in a random order that is always the same; eight tenths
      are for training, and a tenth each for validation and test.
    - An .npz file may also hold several arrays of images and of labels, under any names, if one of
      them is named "images". The labels of these images must be named "labels". Each array is split
      as above. Arrays of equal length are put in the same order: they belong together row by row.
      An array of another length is a set of its own.
    - Instead of "images" an .npz file may have "maps", (N, H, W) whole numbers from 0, the classes
      of pixels. They become the images, with a plane of 0 and 255 for each class. There are
      `classes` planes, by default as many as the largest class needs; then at least half of the
      classes must occur.
    - An .npz file with the arrays x_train and x_test and, for labels, y_train and y_test has its
      own split. The last sixth of its training images is for validation.

    Raises UserError for any other content.
    """
    parts = _read_parts(path, classes)
    if len(parts) == 2:
        train, test = parts
        return _make_data_set(path, *train.hold_out(), test)

    def rows(a, part):
        """Return the rows of array a for part 0, 1 or 2, in an order that its length determines."""
        n, tenth = len(a), len(a) // 10
        ends = 0, n - 2 * tenth, n - tenth, n
        return a[to_numpy(Random(0).permutation(n))[ends[part]:ends[part + 1]]]
    return _make_data_set(path, *(Split({name: rows(a, part) for name, a in parts[0].items()})
                                  for part in range(3)))


def load_images(path: str | os.PathLike, classes: int | None = None) -> np.ndarray:
    """Return the images in an .npz or .npy file in their order there, those of x_train first.

    The file is read as by load_arrays, with the same errors. If x_train and x_test have different
    dtypes, both become floats.
    """
    images = [part.images for part in _read_parts(path, classes)]
    if len({a.dtype for a in images}) > 1:
        images = [as_floats(a) for a in images]
    return np.concatenate(images)


def _read_parts(path, classes):
    """Return [a Split of the whole file], or [train, test] of a file that has its own split."""
    if kind := _guess_kind(path):
        raise UserError(f"{path} is {kind}, not an .npz or .npy file of images: {ADVICE}")
    arrays = read_arrays(path)
    if {"x_train", "x_test"} <= arrays.keys() <= {"x_train", "x_test", "y_train", "y_test"}:
        train, test = (_make_split(path, {"images": arrays[f"x_{part}"],
                                          "labels": arrays.get(f"y_{part}")})
                       for part in ("train", "test"))
        if train.images.shape[1:] != test.images.shape[1:]:
            raise UserError(f"{path} has images {train.images.shape} to train and "
                            f"{test.images.shape} to test: give images of one size")
        if (train.labels is None) != (test.labels is None):
            raise UserError(f"{path} has only one of y_train and y_test: give both or neither")
        return [train, test]
    shapes = ", ".join(f"{name if name.isprintable() else repr(name)} {a.shape} {a.dtype}".strip()
                       for name, a in arrays.items()) or "nothing"
    if has_maps := "maps" in arrays:
        if "images" in arrays:
            raise UserError(f"{path} has both \"images\" and \"maps\", which take the place of "
                            "images: leave one of them out, or rename it")
        arrays = {"images": _as_planes(path, arrays.pop("maps"), classes), **arrays}
    images = {name: a for name, a in arrays.items() if a.ndim in (3, 4)}
    labels = {name: a for name, a in arrays.items() if a.ndim == 1 and a.dtype.kind in "iu"}
    others = [repr(name) for name in arrays if name not in images and name not in labels]
    if len(images) == 1 and len(labels) <= 1 and not others:
        arrays = {"images": next(iter(images.values())),
                  "labels": next(iter(labels.values()), None)}
    elif "images" not in images or others:
        odd = f"; leave out or convert {', '.join(others)}" if others and images else ""
        raise UserError(f"{path} holds {shapes}: give one array of images, (N, H, W) "
                        "or (N, C, H, W), and at most one of labels, whole numbers (N,); if there "
                        f"are several, name one array of images \"images\"{odd}")
    return [_make_split(path, arrays, has_maps)]


def _make_split(path, arrays, maps=False):
    """Check a dictionary of arrays and return their Split; entries that are None are left out.

    With `maps`, the images are planes of classes already.
    """
    arrays = {name: a for name, a in arrays.items() if a is not None}
    labels = {name for name, a in arrays.items() if a.ndim == 1 or name == "labels"}
    several = len(arrays) - len(labels) > 1
    split = Split({
        name: a if name in labels or maps and name == "images" else
        _as_images(f"the array {name!r} in {path}" if several else path, a)
        for name, a in arrays.items()})
    for name, a in split.items():
        if name in labels:
            check_labels(a, len(split.images) if name == "labels" else len(a), f"{path} holds")
    return split


def _as_planes(path, maps, classes):
    """Check maps of classes (N, H, W) and return their planes, uint8 (N, classes, H, W).

    `classes` may be None: then the maps decide it.
    """
    if maps.ndim != 3 or maps.dtype.kind not in "iu" or not maps.size:
        raise UserError(f"{path} holds maps of shape {maps.shape} and dtype {maps.dtype}: give "
                        "(N, H, W) whole numbers, the classes of pixels")
    low, high = int(maps.min()), int(maps.max())
    if low < 0 or high > (255 if classes is None else classes - 1):
        raise UserError(f"{path} holds maps of the classes {low} to {high}: give classes from 0 to "
                        f"{'at most 255' if classes is None else classes - 1}")
    if classes is None and high == 0:
        raise UserError(f"{path} holds maps of the class 0 alone: give maps of at least two "
                        "classes")
    if classes is None and 2 * (found := (np.bincount(maps.ravel()) > 0).sum()) <= high:
        raise UserError(f"{path} holds maps of {found} classes, but with numbers up to {high}: "
                        "number the classes from 0 on, as numpy.unique(maps, "
                        "return_inverse=True)[1].reshape(maps.shape) does")
    return tasks.to_planes(maps, classes or high + 1)


def _as_images(path, images):
    """Check an array of images and return it as (N, C, H, W), uint8 or float32.

    `path` is the name of the file, or of the array in it, for messages.
    """
    shape = images.shape
    if images.ndim == 3:
        # taken for (N, H, W), a colour picture (H, W, C) would be H narrow grey images
        if shape[2] in (3, 4) and shape[1] > shape[2]:
            raise UserError(f"{path} holds an array of shape {shape}, which looks like one colour "
                            "picture, (H, W, C): give an array of pictures, (N, C, H, W); or, if "
                            "these are narrow grey images, give images[:, None]")
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        if images.ndim == 4 and 4 in (shape[1], shape[3]) and shape[3] not in (1, 3):
            fix = "[:, :3]" if shape[1] == 4 else "[..., :3].transpose(0, 3, 1, 2)"
            raise UserError(f"{path} holds images of shape {shape}, which have 4 channels, like "
                            f"RGBA: drop the alpha channel by images{fix}")
        raise UserError(f"{path} holds images of shape {shape}: give (N, C, H, W) with C = 1 or 3; "
                        "if the channels come last, move them by images.transpose(0, 3, 1, 2)")
    check_images(images, f"{path} holds")
    if images.dtype != np.uint8:
        if images.min() < 0 or images.max() > 1:
            # str() of a numpy number has the digits that tell it from its neighbours
            raise UserError(f"{path} holds numbers from {images.min()!s} to {images.max()!s}: "
                            "give floats from 0 (black) to 1 (white), or bytes")
        check_white(images, f"{path} holds", 1)
        images = images.astype(np.float32)
    return images


def _make_data_set(path, train, valid, test):
    n = sum(len(split.images) for split in (train, valid, test))
    source = f"the {n} images of {path}, {len(train.images)} of them to train on"
    return DataSet(train, valid, test, source, os.path.abspath(path))


# Pictures and tables

def _guess_kind(path):
    """Return what the file at `path` seems to be, such as "a PNG picture", if not numpy's.

    The beginning of its content counts more than its name. Returns None if it is neither a picture
    nor a table.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1000)
    except OSError:         # read_arrays will raise UserError
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
    """Raise UserError for a folder of pictures or tables that has none of MNIST's four files.

    The message names the first of them, which may lie in a sub-folder.
    """
    if any(mnist.find(folder, name) for name in mnist.FILES):
        return
    for pattern in ("*", "*/*"):
        for path in sorted(folder.glob(pattern)):
            if kind := KINDS.get(path.suffix.lower()):
                raise UserError(f"{folder} has none of MNIST's four files, but {kind}, "
                                f"{path.name!r}: {ADVICE}")
