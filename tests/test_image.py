"""Pictures: grids against their definition; PNG and APNG files against readers written here."""

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest

from tinygan import backend
from tinygan.backend import UserError
from tinygan.runs.image import make_grid, save_animation, save_grid, save_png

rng = np.random.default_rng(0)


def read_chunks(path):
    """Return [(kind, content)] of the chunks of a PNG file; assert their checksums."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        size, = struct.unpack(">I", data[at:at + 4])
        kind, content = data[at + 4:at + 8], data[at + 8:at + 8 + size]
        assert data[at + 8 + size:at + 12 + size] == struct.pack(">I", zlib.crc32(kind + content))
        chunks.append((kind, content))
        at += 12 + size
    return chunks


def decode(header, content):
    """Return the pixels of an 8-bit picture with unfiltered rows, from its IHDR and its data."""
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", header)
    assert depth == 8 and colour in (0, 2) and methods == [0, 0, 0]
    rows = np.frombuffer(zlib.decompress(content), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape((height, width, 3) if colour == 2 else (height, width))


def read_png(path):
    """Return the pixels of an 8-bit PNG with unfiltered rows; assert that it obeys RFC 2083.

    Chunks of unknown ancillary kinds, whose names begin with a small letter, are skipped, as a
    plain PNG decoder does.
    """
    chunks = [(kind, content) for kind, content in read_chunks(path) if kind[:1].isupper()]
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"] and chunks[2][1] == b""
    return decode(chunks[0][1], chunks[1][1])


@pytest.mark.host
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (28, 28), (1, 1, 3), (4, 9, 3), (300, 2, 3)])
def test_png_reads_back(tmp_path, shape):
    pixels = rng.integers(256, size=shape, dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    assert np.array_equal(read_png(tmp_path / "a.png"), pixels)
    assert len(read_chunks(tmp_path / "a.png")) == 3
    save_png(str(tmp_path / "a.png"), pixels[::-1, ::-1])       # replaces it; another memory order
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
    picture = make_grid(backend.xp.asarray(images), columns, gap, scale)
    assert type(picture) is np.ndarray and picture.dtype == np.uint8
    expected = np.zeros((rows * (height + gap) - gap, used * (width + gap) - gap, channels),
                        np.uint8)
    for i, image in enumerate(images):
        top, left = i // used * (height + gap), i % used * (width + gap)
        expected[top:top + height, left:left + width] = image.transpose(1, 2, 0)
    expected = np.kron(expected, np.ones((scale, scale, 1), np.uint8))
    assert np.array_equal(picture, expected if channels == 3 else expected[:, :, 0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("columns, group, starts", [
    (6, 3, [0, 6, 12, 24, 30, 36]), (5, 2, [0, 6, 18, 24, 36]), (3, 5, [0, 6, 12])])
def test_groups_are_apart(columns, group, starts, channels):
    """Images 4 wide are 2 apart, and 4 * 2 between groups."""
    images = rng.integers(1, 256, size=(2 * columns, channels, 3, 4), dtype=np.uint8)
    picture = make_grid(backend.xp.asarray(images), columns, 2, group=group)
    picture = picture.reshape(*picture.shape[:2], channels)
    assert picture.shape[:2] == (8, starts[-1] + 4)
    for i, image in enumerate(images):
        left, top = starts[i % columns], i // columns * 5
        assert (picture[top:top + 3, left:left + 4] == image.transpose(1, 2, 0)).all()
    assert (picture > 0).any(2).sum() == 2 * columns * 12        # all else is black


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_values(dtype):
    """Bytes survive x / 255; floats are clipped to [0, 1] and rounded to the nearest byte."""
    levels = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(make_grid(backend.xp.asarray((levels / 255).astype(dtype))), levels[0])
    values = [-0.1, 1.1, -np.inf, np.inf, np.nan, 0.4 / 255, 0.6 / 255, 254.6 / 255]
    picture = make_grid(backend.xp.asarray(np.array([[values]], dtype)))
    assert picture.tolist() == [[0, 255, 0, 255, 0, 0, 1, 255]]


def test_three_axes_are_grey_images():
    images = rng.random((3, 4, 5), np.float32)
    one, other = backend.xp.asarray(images), backend.xp.asarray(images[:, None])
    assert np.array_equal(make_grid(one), make_grid(other))


@pytest.mark.parametrize("shape", [
    (4,), (4, 4), (0, 1, 4, 4), (2, 2, 4, 4), (2, 4, 4, 3), (2, 1, 0, 4), (1, 2, 1, 4, 4)])
def test_grid_refuses_shapes(shape):
    with pytest.raises(UserError) as error:
        make_grid(backend.xp.zeros(shape))
    assert f"shape {shape}" in str(error.value)


@pytest.mark.host
def test_grid_refuses_the_rest():
    with pytest.raises(UserError, match="int64.*uint8"):
        make_grid(np.zeros((1, 2, 2), np.int64))
    for wrong in ({"columns": 0}, {"gap": -1}, {"scale": 0}, {"group": 0}, {"columns": 1.5},
                  {"gap": 0.5}, {"scale": 1.9}, {"group": 1.5}):
        with pytest.raises(UserError, match="grid"):
            make_grid(np.zeros((1, 2, 2)), **wrong)


def test_save_grid(tmp_path):
    images = backend.xp.asarray(rng.random((7, 3, 4, 4), np.float32))
    save_grid(tmp_path / "a.png", images, columns=2, gap=1, scale=2)
    assert np.array_equal(read_png(tmp_path / "a.png"), make_grid(images, 2, 1, 2))


# Animations

def read_apng(path):
    """Return (frames, delays, plays, sequence numbers) of an APNG.

    The delays are in seconds; the animation plays `plays` times, or for ever if that is 0; the
    sequence numbers are in the order of the file. Asserts everything else that
    https://wiki.mozilla.org/APNG_Specification demands.
    """
    chunks = read_chunks(path)
    kinds = [kind for kind, _ in chunks]
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND" and chunks[-1][1] == b""
    assert kinds.count(b"IHDR") == kinds.count(b"IEND") == kinds.count(b"acTL") == 1
    assert set(kinds) <= {b"IHDR", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND"}
    assert kinds.index(b"acTL") < kinds.index(b"IDAT")
    header = chunks[0][1]
    width, height = struct.unpack(">II", header[:8])
    count, plays = struct.unpack(">II", dict(chunks)[b"acTL"])

    data, controls, sequence = [], [], []
    for kind, content in chunks:
        if kind in (b"fcTL", b"fdAT"):      # both kinds share one count
            sequence.append(struct.unpack(">I", content[:4])[0])
        if kind == b"fcTL":
            controls.append(struct.unpack(">IIIIHHBB", content[4:]))
            data.append([])
        elif kind == b"IDAT" and controls:  # after the first fcTL, it is the first frame
            assert len(controls) == 1
            data[-1].append(content)
        elif kind == b"fdAT":
            assert b"IDAT" in kinds[:kinds.index(b"fdAT")]
            data[-1].append(content[4:])
    assert len(controls) == count >= 1 and all(data)
    frames, delays, canvas = [], [], None
    for (w, h, x, y, delay, per, disposal, blending), content in zip(controls, data):
        assert x + w <= width and y + h <= height and min(w, h) > 0
        assert canvas is not None or (w, h, x, y) == (width, height, 0, 0)
        assert disposal == 0 and blending in (0, 1)     # blending replaces: there is no alpha
        pixels = decode(struct.pack(">II", w, h) + header[8:], b"".join(content))
        if canvas is None:
            canvas = np.zeros_like(pixels)
        canvas[y:y + h, x:x + w] = pixels
        frames.append(canvas.copy())
        delays.append(Fraction(delay, per or 100))
    return frames, delays, plays, sequence


def save_pictures(folder, *pictures):
    """Save each picture as a PNG file and return the list of paths."""
    paths = [folder / f"{i}.png" for i in range(len(pictures))]
    for path, pixels in zip(paths, pictures):
        save_png(path, pixels)
    return paths


def draw_pictures(n, shape):
    return [rng.integers(256, size=shape, dtype=np.uint8) for _ in range(n)]


def equal(frames, pictures):
    return len(frames) == len(pictures) and all(map(np.array_equal, frames, pictures))


@pytest.mark.host
@pytest.mark.parametrize("n", [1, 2, 3, 30])
@pytest.mark.parametrize("shape", [(5, 7), (4, 9, 3), (1, 1)])
def test_animation_reads_back(tmp_path, n, shape):
    """It has all pictures in order, each for 0.1 s and the last for 2 s, and plays for ever."""
    pictures = draw_pictures(n, shape)
    paths = save_pictures(tmp_path, *pictures)
    save_animation(tmp_path / "all.png", paths)
    frames, delays, plays, _ = read_apng(tmp_path / "all.png")
    assert equal(frames, pictures) and plays == 0
    assert delays == [Fraction(1, 10)] * (n - 1) + [2]
    assert all(equal([read_png(path)], [pixels]) for path, pixels in zip(paths, pictures))
    save_animation(str(tmp_path / "all.png"), [str(path) for path in paths[::-1]])
    assert equal(read_apng(tmp_path / "all.png")[0], pictures[::-1])
    assert len(list(tmp_path.iterdir())) == n + 1


@pytest.mark.host
@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_viewer_without_animation_shows_the_last_picture(tmp_path, n):
    pictures = draw_pictures(n, (5, 7))
    save_animation(tmp_path / "all.png", save_pictures(tmp_path, *pictures))
    assert np.array_equal(read_png(tmp_path / "all.png"), pictures[-1])
    kinds = [kind for kind, _ in read_chunks(tmp_path / "all.png")]
    assert kinds.index(b"IDAT") < kinds.index(b"fcTL")      # so it is not a frame as well


@pytest.mark.host
@pytest.mark.parametrize("n", [1, 2, 30])
def test_sequence_numbers_count_from_0(tmp_path, n):
    """Each frame has two chunks, fcTL and fdAT; both kinds share one count, without gaps."""
    save_animation(tmp_path / "all.png", save_pictures(tmp_path, *draw_pictures(n, (5, 7))))
    assert read_apng(tmp_path / "all.png")[3] == list(range(2 * n))


@pytest.mark.host
@pytest.mark.parametrize("seconds, rest", [
    (0.5, 3), (1 / 3, 0.04), (2 / 3, 0.0126), (0, 0), (1, 60)])
def test_animation_delays(tmp_path, seconds, rest):
    paths = save_pictures(tmp_path, *draw_pictures(4, (2, 2)))
    save_animation(tmp_path / "all.png", paths, seconds, rest)
    *others, last = read_apng(tmp_path / "all.png")[1]
    # times are rounded to 1/1000 s
    assert len(others) == 3 and all(abs(delay - seconds) <= 0.0005 for delay in others)
    assert abs(last - rest) <= 0.0005


@pytest.mark.host
def test_animation_refuses(tmp_path):
    """A path alone would be taken for a list of letters."""
    path, = save_pictures(tmp_path, *draw_pictures(1, (2, 2)))
    for alone in path, str(path):
        with pytest.raises(TypeError, match="a list of paths"):
            save_animation(tmp_path / "all.png", alone)
    for wrong in -1, 66, float("nan"), float("inf"), "1":
        for times in ((wrong, 1), (1, wrong)):
            with pytest.raises(ValueError, match="for 0 to 65 seconds"):
                save_animation(tmp_path / "all.png", [path], *times)
    assert not (tmp_path / "all.png").exists()


@pytest.mark.host
@pytest.mark.parametrize("other", [(5, 8), (6, 7), (7, 5), (5, 7, 3)])
def test_animation_leaves_out_what_is_unlike_the_last(tmp_path, other):
    """Pictures whose size or colour type is not that of the last picture are left out."""
    a, b, c = draw_pictures(3, (5, 7))
    x, y = draw_pictures(2, other)
    a, b, c, x, y = save_pictures(tmp_path, a, b, c, x, y)
    for pictures, like in [([x, a, y, b, x, c], [a, b, c]), ([a, x, b, y], [x, y]), ([a, x], [x])]:
        save_animation(tmp_path / "all.png", pictures)
        frames, delays, _, sequence = read_apng(tmp_path / "all.png")
        assert equal(frames, [read_png(path) for path in like])
        assert np.array_equal(read_png(tmp_path / "all.png"), read_png(like[-1]))
        assert len(delays) == len(like) and delays[-1] == 2
        assert sequence == list(range(2 * len(like)))


def change_byte(content, kind, at, value):
    """Return a PNG file's content with a byte of its first chunk of this kind changed."""
    at += content.index(kind) + 4
    return content[:at] + bytes([value]) + content[at + 1:]


DAMAGE = {
    "empty": lambda content: b"",
    "a text": lambda content: b"a text that is longer than the header of a PNG file",
    "no picture": lambda content: content[:8],
    "half a header": lambda content: content[:20],
    "no data": lambda content: content[:33],
    "half its data": lambda content: content[:60],
    "a wrong byte": lambda content: change_byte(content, b"IDAT", 30, 99),
    "a wrong header": lambda content: change_byte(content, b"IHDR", 8, 16),
}


@pytest.mark.host
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("damage", DAMAGE)
def test_animation_leaves_out_what_is_damaged(tmp_path, damage, place):
    pictures = draw_pictures(3, (9, 9))
    paths = save_pictures(tmp_path, *pictures)
    paths[place].write_bytes(DAMAGE[damage](paths[place].read_bytes()))
    save_animation(tmp_path / "all.png", paths)
    del pictures[place]
    frames, _, _, sequence = read_apng(tmp_path / "all.png")
    assert equal(frames, pictures) and sequence == [0, 1, 2, 3]
    assert np.array_equal(read_png(tmp_path / "all.png"), pictures[-1])


@pytest.mark.host
def test_failed_animation_leaves_the_old_one(tmp_path, monkeypatch):
    paths = save_pictures(tmp_path, *draw_pictures(2, (3, 3)))
    save_animation(tmp_path / "all.png", paths)
    old = (tmp_path / "all.png").read_bytes()
    with pytest.raises(FileNotFoundError):
        save_animation(tmp_path / "all.png", [*paths, tmp_path / "absent.png"])
    assert (tmp_path / "all.png").read_bytes() == old and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(FileNotFoundError):
        save_animation(tmp_path / "absent" / "all.png", paths)

    def fail(*args):
        raise OSError("no space left")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_animation(tmp_path / "all.png", paths[::-1])
    assert (tmp_path / "all.png").read_bytes() == old and len(list(tmp_path.iterdir())) == 3
