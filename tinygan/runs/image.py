"""Pictures as files: a grid of images as a PNG, and several PNGs as one animated PNG."""

import math
import os
import struct
import zlib
from collections.abc import Iterable

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..files import atomic_write
from ..numbers import is_number, is_whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def save_grid(path: str | os.PathLike, images: Array, columns: int | None = None, gap: int = 2,
              scale: int = 1, group: int | None = None) -> None:
    """Save `images` as one PNG file, in a grid as make_grid() makes it."""
    save_png(path, make_grid(images, columns, gap, scale, group))


def make_grid(images: Array, columns: int | None = None, gap: int = 2,
              scale: int = 1, group: int | None = None) -> np.ndarray:
    """Return N images in reading order as one uint8 picture, (H', W') or (H', W', 3).

    images    (N, H, W), (N, 1, H, W) or (N, 3, H, W), on any device: uint8, or floats, of which 0
              is black and 1 is white (values outside [0, 1] are clipped, NaN is black)
    columns   the number of images in a row (default: ceil(sqrt(N)), the squarest grid)
    gap       the number of black pixels between neighbours
    scale     enlarges each pixel to scale x scale pixels, for small images on large screens
    group     the number of neighbours in a row that belong together, or None: the gap beside each
              group is four times as wide

    Raises UserError for another shape or dtype, and unless columns, gap, scale and group are whole
    numbers of at least 1, 0, 1 and 1.
    """
    images = backend.to_numpy(images)
    shape = images.shape
    if len(shape) == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise UserError(f"an array of shape {shape} is no batch of grey or colour images: give an "
                        "array (N, H, W), (N, 1, H, W) or (N, 3, H, W) that is not empty (to "
                        "scripts by --data); a game of other samples defines pictures()")
    n, channels, height, width = images.shape
    columns = math.isqrt(n - 1) + 1 if columns is None else columns     # exactly ceil(sqrt(n))
    group = columns if group is None else group
    if not (is_whole(columns, 1) and is_whole(gap, 0) and is_whole(scale, 1)
            and is_whole(group, 1)):
        raise UserError(f"a grid cannot have {columns} columns, a gap of {gap}, a scale of {scale} "
                        f"and groups of {group}: give whole numbers of at least 1, 0, 1 and 1")
    rows = -(-n // columns)
    # a cell is an image with the gaps below and to the right; the outermost gaps are cut off
    cells = np.pad(_to_uint8(images), ((0, rows * columns - n), (0, 0), (0, gap), (0, gap)))
    cells = cells.reshape(rows, columns, channels, height + gap, width + gap)
    h, w = rows * (height + gap), columns * (width + gap)
    picture = cells.transpose(0, 3, 1, 4, 2).reshape(h, w, channels)[:h - gap, :w - gap]
    ends = np.arange(group, columns, group) * (width + gap)
    picture = np.insert(picture, np.repeat(ends, 3 * gap), 0, axis=1)
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return picture if channels == 3 else picture[:, :, 0]


def _to_uint8(images):
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(f"images of dtype {images.dtype} do not say which number is white: give "
                        "uint8 (white is 255) or floats (white is 1)")
    return np.rint(np.nan_to_num(images, nan=0.0).clip(0, 1) * 255).astype(np.uint8)


def save_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Save uint8 `pixels`, (H, W) for grey or (H, W, 3) for RGB, as a PNG file.

    The write is atomic. Raises UserError for another shape or dtype, and OSError if the file cannot
    be written.
    """
    pixels = np.asarray(pixels)
    rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or rgb):
        raise UserError(f"an array of shape {pixels.shape} and dtype {pixels.dtype} is no picture: "
                        "give uint8, (H, W) for grey or (H, W, 3) for colour")
    height, width = pixels.shape[:2]
    # 8 bits a number; colour type 0 is grey, 2 is RGB; compression and filter method are always 0;
    # not interlaced
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if rgb else 0, 0, 0, 0)
    # each row begins with the number of its filter, here 0 for no filter
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))
    png = (SIGNATURE + _make_chunk(b"IHDR", header)
           + _make_chunk(b"IDAT", zlib.compress(rows.tobytes())) + _make_chunk(b"IEND", b""))
    with atomic_write(path) as file:
        file.write(png)


def save_animation(path: str | os.PathLike, pictures: Iterable[str | os.PathLike],
                   seconds: float = 0.1, rest: float = 2.0) -> None:
    """Save PNG files as one animated PNG (APNG), which browsers play in an endless loop.

    pictures   the paths of files by save_png(), in the order in which they are shown
    seconds    how long each picture but the last is shown, from 0 to 65 s
    rest       how long the last picture is shown, from 0 to 65 s

    A viewer that does not know APNG shows the last picture. Pictures that are damaged are left out,
    and those whose size or colour type is not that of the last undamaged picture. Raises TypeError
    for a single path, ValueError for other times and if no picture is left, and OSError if a file
    cannot be read or written.
    """
    if isinstance(pictures, (str, os.PathLike)):
        raise TypeError(f"an animation has a list of paths, got {pictures!r:.60} alone")
    for t in seconds, rest:
        if not is_number(t, 0) or t > 65:
            raise ValueError(f"a picture is shown for 0 to 65 seconds, got {t!r}")
    frames = []
    for picture in pictures:
        with open(picture, "rb") as file:
            if frame := _read_chunks(file.read()):
                frames.append(frame)
    if not frames:
        raise ValueError("an animation needs at least one picture that is not damaged")
    header = frames[-1][b"IHDR"]
    frames = [frame for frame in frames if frame[b"IHDR"] == header]
    # The default image, IDAT, is what a plain PNG viewer shows. With no fcTL before it, it is not
    # part of the animation (https://wiki.mozilla.org/APNG_Specification).
    parts = [_make_chunk(b"IHDR", header), _make_chunk(b"acTL", struct.pack(">II", len(frames), 0)),
             _make_chunk(b"IDAT", frames[-1][b"IDAT"])]
    for i, frame in enumerate(frames):
        delay = round(1000 * (seconds if i + 1 < len(frames) else rest))        # in 1/1000 s
        # the whole width and height, at (0, 0); no disposal and no blending
        control = header[:8] + struct.pack(">IIHHBB", 0, 0, delay, 1000, 0, 0)
        # each chunk begins with a sequence number; fcTL and fdAT chunks share one count from 0
        parts.append(_make_chunk(b"fcTL", struct.pack(">I", 2 * i) + control))
        parts.append(_make_chunk(b"fdAT", struct.pack(">I", 2 * i + 1) + frame[b"IDAT"]))
    with atomic_write(path) as file:
        file.write(SIGNATURE + b"".join(parts) + _make_chunk(b"IEND", b""))


def _read_chunks(png):
    """Return {kind: content} of a PNG file's chunks, or None if the file is damaged.

    Contents of chunks of the same kind are joined.
    """
    chunks, at = {}, len(SIGNATURE)
    while at + 12 <= len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        content = png[at + 8:at + 8 + size]
        if png[at:at + 12 + size] != _make_chunk(kind, content):
            return None
        chunks[kind] = chunks.get(kind, b"") + content
        at += 12 + size
    whole = png.startswith(SIGNATURE) and {b"IHDR", b"IDAT", b"IEND"} <= chunks.keys()
    return chunks if whole else None


def _make_chunk(kind, content):
    """Return a chunk of a PNG file: its length, its kind, its content and its checksum."""
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
