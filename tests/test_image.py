"""Pictures: grids against their definition, PNG files against a reader written here."""

import struct
import zlib

import numpy as np
import pytest

from tinygan import backend
from tinygan.backend import UserError
from tinygan.image import grid, save_grid, save_png

rng = np.random.default_rng(0)


def read_png(path):
    """The pixels of an 8-bit PNG with unfiltered rows; asserts what RFC 2083 demands."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        size, = struct.unpack(">I", data[at:at + 4])
        kind, content = data[at + 4:at + 8], data[at + 8:at + 8 + size]
        assert data[at + 8 + size:at + 12 + size] == struct.pack(">I", zlib.crc32(kind + content))
        chunks.append((kind, content))
        at += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", chunks[0][1])
    assert depth == 8 and colour in (0, 2) and methods == [0, 0, 0] and chunks[2][1] == b""
    rows = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape((height, width, 3) if colour == 2 else (height, width))


@pytest.mark.host
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (28, 28), (1, 1, 3), (4, 9, 3), (300, 2, 3)])
def test_png_reads_back(tmp_path, shape):
    pixels = rng.integers(256, size=shape, dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    assert np.array_equal(read_png(tmp_path / "a.png"), pixels)
    save_png(str(tmp_path / "a.png"), pixels[::-1, ::-1])       # replaces; any memory order
    assert np.array_equal(read_png(tmp_path / "a.png"), pixels[::-1, ::-1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.host
@pytest.mark.parametrize("pixels", [
    np.zeros((2, 2)), np.zeros((2, 2), np.int64), np.zeros(4, np.uint8), np.zeros((0, 2), np.uint8),
    np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)])
def test_png_refuses(tmp_path, pixels):
    with pytest.raises(UserError) as error:
        save_png(tmp_path / "a.png", pixels)
    assert str(pixels.shape) in str(error.value) and str(pixels.dtype) in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.host
def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    old, new = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    save_png(tmp_path / "a.png", old)

    def fail(*args):
        raise OSError("no space left")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_png(tmp_path / "a.png", new)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(read_png(tmp_path / "a.png"), old)


@pytest.mark.host
def test_save_into_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_png(tmp_path / "absent" / "a.png", np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("n, columns, rows, used", [
    (1, None, 1, 1), (2, None, 1, 2), (4, None, 2, 2), (5, None, 2, 3), (9, None, 3, 3),
    (10, None, 3, 4), (64, None, 8, 8), (5, 1, 5, 1), (5, 2, 3, 2), (3, 10, 1, 10)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap, scale", [(2, 1), (0, 1), (1, 3)])
def test_every_image_is_in_its_place(n, columns, rows, used, channels, gap, scale):
    height, width = 3, 5
    images = rng.integers(1, 256, size=(n, channels, height, width), dtype=np.uint8)
    picture = grid(backend.xp.asarray(images), columns, gap, scale)
    assert type(picture) is np.ndarray and picture.dtype == np.uint8
    expected = np.zeros((rows * (height + gap) - gap, used * (width + gap) - gap, channels),
                        np.uint8)
    for i, image in enumerate(images):
        top, left = i // used * (height + gap), i % used * (width + gap)
        expected[top:top + height, left:left + width] = image.transpose(1, 2, 0)
    expected = np.kron(expected, np.ones((scale, scale, 1), np.uint8))
    assert np.array_equal(picture, expected if channels == 3 else expected[:, :, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_values(dtype):
    """Bytes survive x / 255; the rest is clipped, and rounded to the nearest."""
    levels = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(grid(backend.xp.asarray((levels / 255).astype(dtype))), levels[0])
    values = [-0.1, 1.1, -np.inf, np.inf, np.nan, 0.4 / 255, 0.6 / 255, 254.6 / 255]
    picture = grid(backend.xp.asarray(np.array([[values]], dtype)))
    assert picture.tolist() == [[0, 255, 0, 255, 0, 0, 1, 255]]


def test_three_axes_are_grey_images():
    images = rng.random((3, 4, 5), np.float32)
    one, other = backend.xp.asarray(images), backend.xp.asarray(images[:, None])
    assert np.array_equal(grid(one), grid(other))


@pytest.mark.parametrize("shape", [
    (4,), (4, 4), (0, 1, 4, 4), (2, 2, 4, 4), (2, 4, 4, 3), (2, 1, 0, 4), (1, 2, 1, 4, 4)])
def test_grid_refuses_shapes(shape):
    with pytest.raises(UserError) as error:
        grid(backend.xp.zeros(shape))
    assert f"shape {shape}" in str(error.value)


@pytest.mark.host
def test_grid_refuses_the_rest():
    with pytest.raises(UserError, match="int64.*uint8"):
        grid(np.zeros((1, 2, 2), np.int64))
    for wrong in {"columns": 0}, {"gap": -1}, {"scale": 0}:
        with pytest.raises(UserError, match="grid"):
            grid(np.zeros((1, 2, 2)), **wrong)


def test_save_grid(tmp_path):
    images = backend.xp.asarray(rng.random((7, 3, 4, 4), np.float32))
    save_grid(tmp_path / "a.png", images, columns=2, gap=1, scale=2)
    assert np.array_equal(read_png(tmp_path / "a.png"), grid(images, 2, 1, 2))
