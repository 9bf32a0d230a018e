"""Tasks from image to image that are made from digits, or drawn by formulas, with known answers.

A task makes a data set from another. Every split has "images", the inputs. In pairs, "targets" are
the outputs, row by row; a task of several domains has "labels", the domains, and in the validation
and test parts "truths" (N, domains, C, H, W), each image in every domain. If the other data set has
labels, they become the array "digits" (not in the training part of `outline`).

    half       a digit whose lower half is black -> the digit (a pair)
    coarse     the mosaic of a digit's 4x4 means -> the digit (a pair)
    outline    digits, and the outlines of other digits; pairs in the validation and test parts
    styles     digits in one of four domains: unchanged, dilated, dilated twice, their outlines
    colours    digits in one of five colours
    scenes     maps of six classes -> scenes in which each class has its texture (a pair). They are
               drawn without any other data

load("half:PATH") loads the data set at PATH and makes the task from it. No image of the training
part is in another part. In the training parts of `outline`, `styles` and `colours`, each image is
in one domain only.
"""

from collections.abc import Callable

import numpy as np

from ..backend import UserError
from .arrays import DataSet, Split

COLOURS = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
CLASSES = 6         # of a scene's map: the textures of draw_scenes


# Images of digits, (N, C, H, W); images of another shape raise ValueError

def dilate(images: np.ndarray) -> np.ndarray:
    """Return the images with each pixel replaced by the largest of its 3x3 neighbours."""
    return _morph(np.max, images)


def erode(images: np.ndarray) -> np.ndarray:
    """Return the images with each pixel replaced by the smallest of its 3x3 neighbours."""
    return _morph(np.min, images)


def _morph(extremum, images):
    """Return the maximum or minimum over 3x3 pixels; the edge pixels are repeated outside."""
    _check_images(images)
    for axis in (2, 3):
        padded = np.pad(images, [(1, 1) if i == axis else (0, 0) for i in range(4)], "edge")
        images = extremum(np.lib.stride_tricks.sliding_window_view(padded, 3, axis), axis=-1)
    return images


def outline(images: np.ndarray) -> np.ndarray:
    """Return the outlines of shapes: the dilated image minus the eroded one."""
    return dilate(images) - erode(images)


def hide_lower_half(images: np.ndarray) -> np.ndarray:
    """Return the images with a black lower half."""
    _check_images(images)
    images = images.copy()
    images[:, :, images.shape[2] // 2:] = 0
    return images


def coarsen(images: np.ndarray) -> np.ndarray:
    """Return the images with each block of 4x4 pixels replaced by its mean, for bytes rounded down.

    Raises UserError if 4 does not divide the height and the width.
    """
    _check_images(images)
    n, c, h, w = images.shape
    if h % 4 or w % 4:
        raise UserError(f"the task coarse takes images whose sides are multiples of 4, not {h}x{w} "
                        "pixels: pad the images, or choose another task")
    means = images.reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5)).astype(images.dtype)
    return means.repeat(4, 2).repeat(4, 3)


def _check_images(images):
    """Raise ValueError unless the images have four axes."""
    if images.ndim != 4:
        raise ValueError(f"the images of a task are (N, C, H, W), got {images.shape}")


STYLES: list[Callable] = [lambda images: images, dilate,
                          lambda images: dilate(dilate(images)), outline]
PAINTS: list[Callable] = [
    lambda images, c=colour[None, :, None, None]: (images * c).astype(images.dtype)
    for colour in COLOURS]


# Tasks: functions of the name of a part, such as "train", and its images, that return its arrays

def _pair(change):
    """Return the task whose inputs are the changed images, and whose targets the images."""
    return lambda part, images: {"images": change(images), "targets": images}


def _unpair(change):
    """Return the task of images, and of changed images that are not paired in training."""
    def task(part, images):
        half = len(images) // 2
        x, y = (images[:half], images[half:]) if part == "train" else (images, images)
        return {"images": x, "targets": change(y)}
    return task


def _mix(changes):
    """Return the task of images in the domains `changes`.

    Image i is in the domain i modulo the number of domains.
    """
    def task(part, images):
        labels = np.arange(len(images)) % len(changes)
        truths = np.stack([change(images) for change in changes], 1)
        mixed = {"images": truths[np.arange(len(images)), labels], "labels": labels}
        return mixed if part == "train" else {**mixed, "truths": truths}
    return task


TASKS = {"half": _pair(hide_lower_half), "coarse": _pair(coarsen), "outline": _unpair(outline),
         "styles": _mix(STYLES), "colours": _mix(PAINTS)}


# Scenes

def draw_maps(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n maps of classes, (n, size, size) whole numbers: the cells nearest to six points."""
    points = rng.uniform(0, size, (n, 6, 2, 1, 1))
    classes = rng.integers(CLASSES, size=(n, 6))
    y, x = np.mgrid[:size, :size]
    nearest = ((points[:, :, 0] - y) ** 2 + (points[:, :, 1] - x) ** 2).argmin(1)
    return np.take_along_axis(classes, nearest.reshape(n, -1), 1).reshape(n, size, size)


def draw_scenes(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene for each map: grey images, uint8 (n, 1, size, size).

    The classes are horizontal, vertical and diagonal waves of four pixels, a chequerboard of 2x2
    pixels, noise, and grey. A scene has one phase for each of its waves.
    """
    n, size, _ = maps.shape
    y, x = np.mgrid[:size, :size]
    phase = rng.uniform(0, 4, (6, n, 1, 1))         # three are used; fewer draws change the scenes
    shift = rng.integers(4, size=(2, n, 1, 1))

    def wave(t):
        return 0.5 + 0.45 * np.sin(np.pi / 2 * t)
    textures = [wave(y + phase[0]), wave(x + phase[1]), wave((x + y) / 2 ** 0.5 + phase[2]),
                0.1 + 0.8 * (((y + shift[0]) // 2 + (x + shift[1]) // 2) % 2),
                rng.uniform(0, 1, (n, size, size)), np.full((n, size, size), 0.5)]
    scenes = sum(texture * (maps == k) for k, texture in enumerate(textures))
    return (255 * scenes).round().astype(np.uint8)[:, None]


def to_planes(maps: np.ndarray, classes: int = CLASSES) -> np.ndarray:
    """Return maps (n, H, W) as planes, uint8 (n, classes, H, W): 255 for the pixel's class.

    Raises ValueError unless the maps are whole numbers below `classes`.
    """
    if maps.ndim != 3 or maps.dtype.kind not in "iu" or not (
            (0 <= maps) & (maps < classes)).all():
        low, high = (maps.min(), maps.max()) if maps.size else (0, 0)
        raise ValueError(f"maps are whole numbers (n, H, W) from 0 to {classes - 1}, got {low} to "
                         f"{high} of {maps.dtype}, of shape {maps.shape}")
    return (255 * (maps[:, None] == np.arange(classes)[:, None, None])).astype(np.uint8)


def load_scenes(size: int = 32) -> DataSet:
    """Return scenes and their maps: 4,000 to train, 500 to validate and 500 to test."""
    def make(n, seed):
        rng = np.random.default_rng(seed)
        maps = draw_maps(n, size, rng)
        return Split(images=to_planes(maps), targets=draw_scenes(maps, rng))
    return DataSet(make(4000, 0), make(500, 1), make(500, 2), "5,000 scenes drawn by formulas",
                   "scenes")


def split_place(place: str) -> tuple[str, str]:
    """Return (task, PATH) of a place "task:PATH", or ("", place) of one that names no task."""
    task, colon, path = place.partition(":")
    return (task, path) if colon and task in TASKS else ("", place)


def make_task(name: str, data: DataSet) -> DataSet:
    """Return the task `name` of TASKS, made from `data`.

    Raises UserError for data that has tasks of its own, or other images than the task takes.
    """
    if "targets" in data.train or split_place(data.place)[0]:
        raise UserError(f"the task {name} is made from images alone, but {data.place} has "
                        "outputs of its own: give --task none, or other data")
    splits = {}
    for part in ("train", "valid", "test"):
        split = getattr(data, part)
        if split.images.shape[1] != 1:
            raise UserError("the tasks are made from grey images, not from images of "
                            f"{split.images.shape[1]} channels: give others by --data, or data "
                            "with targets of its own and --task none")
        splits[part] = made = Split(TASKS[name](part, split.images))
        if split.labels is not None and len(made.images) == len(split.labels):
            made["digits"] = split.labels
    return DataSet(**splits, source=f"the task {name}, made from {data.source}",
                   place=f"{name}:{data.place}")


def check_pairs(data: DataSet) -> None:
    """Raise UserError unless images and targets have the same number, height and width.

    Two arrays of different lengths have been shuffled and split each in its own way, even if as
    many are left of both in one part.
    """
    splits = data[:3]
    images, targets = ((sum(len(split.require(name)) for split in splits),
                        *data.train[name].shape[1:]) for name in ("images", "targets"))
    if images[0] != targets[0] or images[2:] != targets[2:]:
        raise UserError(f"the data has inputs {images} and targets {targets}: give as many of "
                        "both, of the same height and width")
