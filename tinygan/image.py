"""Arrays to pictures: a grid of images as one array, and that as a PNG file."""

import contextlib
import math
import os
import struct
import zlib

import numpy as np

from . import backend
from .backend import UserError


def save_grid(path, images, columns=None, gap=2, scale=1):
    """Save `images` side by side as a PNG: `save_png` of `grid`."""
    save_png(path, grid(images, columns, gap, scale))


def grid(images, columns=None, gap=2, scale=1):
    """One uint8 picture, (H', W') or (H', W', 3), of N images in reading order.

    images    (N, H, W), (N, 1, H, W) or (N, 3, H, W), on any device: uint8, or floats of which 0 is
              black and 1 is white (beyond them is clipped, NaN is black)
    columns   default: ceil(sqrt(N)), the squarest
    gap       black pixels between neighbours
    scale     enlarges each pixel to scale x scale, for small images on large screens

    Raises UserError if the shape or the dtype is none of these.
    """
    images = backend.to_numpy(images)
    shape = images.shape
    if len(shape) == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise UserError(f"an array of shape {shape} is no batch of images: "
                        "give (N, H, W), (N, 1, H, W) or (N, 3, H, W), none of them 0")
    n, channels, height, width = images.shape
    columns = math.isqrt(n - 1) + 1 if columns is None else columns     # isqrt: ceil(sqrt) exactly
    if columns < 1 or gap < 0 or scale < 1:
        raise UserError(f"no grid has {columns} columns, a gap of {gap} and a scale of {scale}: "
                        "give at least 1, 0 and 1")
    rows = -(-n // columns)
    # Every cell is an image with its gap below and to the right; the outermost gaps are cut off.
    cells = np.pad(_to_uint8(images), ((0, rows * columns - n), (0, 0), (0, gap), (0, gap)))
    cells = cells.reshape(rows, columns, channels, height + gap, width + gap)
    h, w = rows * (height + gap), columns * (width + gap)
    picture = cells.transpose(0, 3, 1, 4, 2).reshape(h, w, channels)[:h - gap, :w - gap]
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return picture if channels == 3 else picture[:, :, 0]


def _to_uint8(images):
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(f"images of dtype {images.dtype} have no agreed white: "
                        "give uint8 (white is 255) or floats (white is 1)")
    return np.rint(np.nan_to_num(images, nan=0.0).clip(0, 1) * 255).astype(np.uint8)


def save_png(path, pixels):
    """Save uint8 `pixels`, (H, W) grey or (H, W, 3) red-green-blue, as a PNG file.

    The file appears at `path` complete or not at all. Raises UserError if the shape or the dtype is
    another, OSError if the file cannot be written.
    """
    pixels = np.asarray(pixels)
    rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or rgb):
        raise UserError(f"an array of shape {pixels.shape} and dtype {pixels.dtype} is no picture: "
                        "give uint8, (H, W) for grey or (H, W, 3) for colour")
    height, width = pixels.shape[:2]
    # 8 bits a sample; grey is colour type 0, RGB 2; then the only compression and filter methods
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if rgb else 0, 0, 0, 0)
    # each row begins with the number of its filter: 0, none
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))
    png = (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
           + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b""))

    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(png)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
