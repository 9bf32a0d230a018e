"""Arrays to pictures: a grid of images as one array, that as a PNG file, and several that move."""

import math
import struct
import zlib

import numpy as np

from .. import backend
from ..backend import UserError
from ..files import replaced

SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
    png = (SIGNATURE + _chunk(b"IHDR", header)
           + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b""))
    with replaced(path) as file:
        file.write(png)


def save_animation(path, pictures, seconds=0.1, rest=2.0):
    """Save the PNG files `pictures`, paths of files by save_png in the order in which to show them,
    as one animated PNG (APNG), which begins anew without end: each is shown for `seconds`, the last
    for `rest`.

    Pictures that are damaged, or of another size or kind than the last good one, are left out.
    Browsers play it; what knows only PNG shows the first. A time is at most 65 s. Raises ValueError
    if there is no picture, OSError if a file cannot be read or written.
    """
    frames = []
    for picture in pictures:
        with open(picture, "rb") as file:
            if frame := _content(file.read()):
                frames.append(frame)
    if not frames:
        raise ValueError("an animation needs at least one picture that is whole")
    header = frames[-1][b"IHDR"]
    frames = [frame for frame in frames if frame[b"IHDR"] == header]
    parts = [_chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    for i, frame in enumerate(frames):
        delay = round(1000 * (seconds if i + 1 < len(frames) else rest))        # in 1/1000 s
        # a sequence number; width and height, at (0, 0); neither disposal nor blending
        control = header[:8] + struct.pack(">IIHHBB", 0, 0, min(delay, 65535), 1000, 0, 0)
        parts.append(_chunk(b"fcTL", struct.pack(">I", max(2 * i - 1, 0)) + control))
        # the first frame is the picture itself; those after it are data that only APNG knows
        parts.append(_chunk(b"fdAT", struct.pack(">I", 2 * i) + frame[b"IDAT"]) if i else
                     _chunk(b"IDAT", frame[b"IDAT"]))
    with replaced(path) as file:
        file.write(SIGNATURE + b"".join(parts) + _chunk(b"IEND", b""))


def _content(png):
    """{kind: content} of a PNG file's chunks, the same kind's joined; None if it is damaged."""
    chunks, at = {}, len(SIGNATURE)
    while at + 12 <= len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        content = png[at + 8:at + 8 + size]
        if png[at:at + 12 + size] != _chunk(kind, content):
            return None
        chunks[kind] = chunks.get(kind, b"") + content
        at += 12 + size
    whole = png.startswith(SIGNATURE) and {b"IHDR", b"IDAT", b"IEND"} <= chunks.keys()
    return chunks if whole else None


def _chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
