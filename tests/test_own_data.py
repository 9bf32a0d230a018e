"""Images of the user's own: files that numpy wrote are loaded, or refused with one sentence."""

import pathlib
import re
import textwrap

import numpy as np
import pytest

from tinygan import UserError
from tinygan.data import Minibatches, Split, as_floats, count_shared, mnist, own, tasks
from tinygan.random import rng

from test_data import idx, nobodys_home, refused, small_files, write    # nobodys_home is autouse

host = pytest.mark.host

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


def numbered(n, *shape, dtype=np.uint8):
    """Return n images; all pixels of image i are i or, of floats, (i + 1) / n."""
    images = np.empty((n, *shape), dtype)
    values = np.arange(n) if dtype == np.uint8 else (np.arange(n) + 1) / n
    images[...] = values.reshape(-1, *[1] * len(shape))
    return images


def saved(path, images, labels=None, save=np.savez):
    """Save these arrays with the function `save` of numpy; return the path."""
    arrays = {"images": images} | ({} if labels is None else {"labels": labels})
    if save is np.save:
        np.save(path, images)
    else:
        save(path, **arrays)
    return path


def parts(data):
    return data.train, data.valid, data.test


@pytest.mark.parametrize("save, name", [(np.save, "a.npy"), (np.savez, "a.npz"),
                                        (np.savez_compressed, "a.npz")])
@pytest.mark.parametrize("shape, expected", [
    ((4, 5), (1, 4, 5)), ((1, 4, 5), (1, 4, 5)), ((3, 4, 5), (3, 4, 5)), ((3, 1, 1), (3, 1, 1))])
def test_every_image_is_there_once(tmp_path, save, name, shape, expected):
    path = saved(tmp_path / name, numbered(57, *shape), save=save)
    data = own.load(path)
    assert [len(part.images) for part in parts(data)] == [47, 5, 5]
    assert all(part.labels is None for part in parts(data))
    images = np.concatenate([part.images for part in parts(data)])
    assert type(images) is np.ndarray and images.shape == (57, *expected)
    assert images.dtype == np.uint8
    assert (images == images[:, :1, :1, :1]).all()
    assert sorted(images[:, 0, 0, 0]) == list(range(57))
    assert str(path) in data.source and "\n" not in data.source
    assert "57" in data.source.replace(str(path), "")


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4", ">f8"])
def test_values_are_kept(tmp_path, dtype):
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(30, 3, 4, 4), dtype=np.uint8)
    if dtype != np.uint8:
        images = (images / 255).astype(dtype)
    images[0], images[1] = 0, 1         # the ends of the range of floats
    ids = np.arange(30)
    data = own.load_arrays(saved(tmp_path / "a.npz", images, ids))
    for part in parts(data):
        assert part.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        assert np.array_equal(part.images, images[part.labels].astype(part.images.dtype))


@host
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">i4", np.uint16])
@pytest.mark.parametrize("n", [3, 9, 10, 11, 19, 20, 100, 250])
def test_labels_stay_with_their_images(tmp_path, n, dtype):
    labels = (np.arange(n) * 7 % 251).astype(dtype)     # all different
    data = own.load_arrays(saved(tmp_path / "a.npz", numbered(n, 2, 2), labels))
    tenth = n // 10
    assert [len(part.images) for part in parts(data)] == [n - 2 * tenth, tenth, tenth]
    found = []
    for part in parts(data):
        assert part.images.shape[1:] == (1, 2, 2) and part.labels.shape == (len(part.images),)
        assert part.labels.dtype == labels.dtype
        assert part.labels.tolist() == labels[part.images[:, 0, 0, 0]].tolist()
        found += part.labels.tolist()
    assert sorted(found) == sorted(labels.tolist())


def test_always_the_same_order(tmp_path):
    """The order is random, but the same for all files of the same length."""
    def order(*args):
        data = own.load_arrays(saved(tmp_path / "a.npz", *args))
        return [part.images[:, 0, 0, 0].tolist() for part in parts(data)]

    first = order(numbered(100, 3, 3))
    before = rng.state
    rng.normal((5,))
    drawn = rng.state
    assert order(numbered(100, 3, 3)) == first
    assert order(numbered(100, 1, 7, 2), np.arange(100)) == first
    assert rng.state == drawn != before         # nothing is drawn from tinygan.rng
    # Of the numbers 0 to 99 in a random order, the mean of a tenth has the expectation 49.5 and a
    # standard deviation of about 8.7; in sorted order it would be 94.5. Neighbours are random too.
    assert all(abs(np.mean(part) - 49.5) < 30 for part in first[1:])
    steps = np.diff(first[0])
    assert 0.3 < (steps > 0).mean() < 0.7 and (steps == 1).sum() < 10


@host
@pytest.mark.parametrize("n, sizes", [(1, [1, 0, 0]), (5, [5, 0, 0]), (10, [8, 1, 1])])
def test_few_images(tmp_path, n, sizes):
    data = own.load(saved(tmp_path / "a.npz", numbered(n, 4, 6, dtype=np.float32)))
    assert [part.images.shape for part in parts(data)] == [(size, 1, 4, 6) for size in sizes]
    assert all(part.images.dtype == np.float32 for part in parts(data))


@host
def test_names_do_not_matter(tmp_path):
    arrays = {"y": np.arange(20), "x": numbered(20, 4, 4)}
    for path in tmp_path / "a.npz", tmp_path / "b.dat":
        with open(path, "wb") as file:
            np.savez(file, **arrays)
        data = own.load(path)
        assert np.array_equal(data.train.images[:, 0, 0, 0], data.train.labels)


# Where the data is

@host
def test_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGAN_DATA", str(saved(tmp_path / "env.npz", numbered(20, 4, 4))))
    assert len(own.load().train.images) == 16
    other = saved(tmp_path / "flag.npz", numbered(30, 4, 4))
    for path in other, str(other):
        assert len(own.load(path).train.images) == 24
    folder = write(tmp_path / "folder", small_files(60))
    assert len(own.load(folder).train.images) == 50
    monkeypatch.setenv("TINYGAN_DATA", str(folder))
    assert len(own.load().train.images) == 50
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "absent"))
    refused(own.load, "there is no file or folder", tmp_path / "absent")
    monkeypatch.setenv("TINYGAN_DATA", "")
    assert "sample" in own.load().source


@host
def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saved(tmp_path / "a.npz", numbered(20, 4, 4))
    assert len(own.load("~/a.npz").train.images) == 16
    assert len(own.load(pathlib.Path("~", "a.npz")).train.images) == 16


@host
def test_a_folder_is_mnists(tmp_path):
    data = own.load(write(tmp_path, small_files(12)))
    assert [len(part.images) for part in parts(data)] == [10, 2, 5]
    assert data.train.labels.tolist() == list(range(10))


@host
def test_nothing_there(tmp_path):
    refused(lambda: own.load(tmp_path / "absent.npz"), tmp_path / "absent.npz")
    refused(lambda: own.load_arrays(tmp_path / "absent.npz"), tmp_path / "absent.npz")
    refused(lambda: own.load(tmp_path), tmp_path)


# Refusals

def refuses(path, *words):
    """Check that load and load_arrays refuse a file with one message, which has `words` in it."""
    message = refused(lambda: own.load(path), path)
    assert refused(lambda: own.load_arrays(path)) == message
    for word in words:
        assert word in message.replace(str(path), ""), message      # the path does not count


@host
@pytest.mark.parametrize("content", [
    b"", b"a text", b"\0,\xff", b"1,\xff", b"1,\0", b"\x93NUMPY\1\0", b"PK\3\4 and no more"])
def test_damaged(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refuses(tmp_path / "a.npz", "damaged")


@host
@pytest.mark.parametrize("arrays", [
    {"x": np.zeros(4)}, {"x": np.zeros((4, 4))}, {"x": np.array(3)},
    {"x": np.zeros((1, 2, 1, 4, 4))}, {"labels": np.arange(4)},
    {"train": np.zeros((4, 4, 4)), "test": np.zeros((2, 1, 4, 4))},
    {"x": np.zeros((4, 4, 4)), "y": np.arange(4), "z": np.arange(4)}])
def test_not_one_array_of_images(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    refuses(tmp_path / "a.npz", "one array of images", "labels",
            *(f"{name} {array.shape}" for name, array in arrays.items()))
    if len(arrays) == 1:
        np.save(tmp_path / "a.npy", *arrays.values())
        refuses(tmp_path / "a.npy", f"holds {[*arrays.values()][0].shape} ")


@host
def test_no_arrays(tmp_path):
    np.savez(tmp_path / "a.npz")
    refuses(tmp_path / "a.npz")


@host
@pytest.mark.parametrize("shape", [
    (6, 4, 5, 3), (6, 4, 5, 1), (6, 2, 4, 5), (6, 5, 4, 5), (6, 0, 4, 5)])
def test_shapes(tmp_path, shape):
    """The message says how to move channels that come last."""
    refuses(saved(tmp_path / "a.npz", np.zeros(shape, np.uint8)), "transpose(0, 3, 1, 2)",
            str(shape))


@host
@pytest.mark.parametrize("shape", [(0, 4, 5), (0, 1, 4, 5), (6, 1, 0, 5), (6, 4, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_empty_images(tmp_path, shape, dtype):
    refuses(saved(tmp_path / "a.npz", np.zeros(shape, dtype)), "none of which is 0",
            str(shape) if len(shape) == 4 else str((shape[0], 1, *shape[1:])))


def follow(message, images):
    """Return the value of the expression with which the message ends, for these images."""
    return eval(re.search(r"images[\[.].*$", message)[0], {"images": images})


@host
@pytest.mark.parametrize("shape", [(20, 4, 6, 8), (20, 6, 8, 4), (20, 4, 6, 5), (20, 5, 6, 4)])
def test_four_channels(tmp_path, shape):
    """The message names RGBA, and its advice gives images with the same colours."""
    path, channel = tmp_path / "a.npz", 1 if shape[1] == 4 else 3
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    fixed = follow(refused(lambda: own.load(saved(path, images)), path, shape, "RGBA", "alpha"),
                   images)
    assert np.array_equal(fixed, np.moveaxis(images, channel, 1)[:, :3])
    assert own.load(saved(path, fixed)).train.images.shape[1:] == fixed.shape[1:]


@host
@pytest.mark.parametrize("shape", [(48, 64, 3), (48, 64, 4), (6, 5, 3)])
def test_a_single_picture(tmp_path, shape):
    """A colour picture (H, W, 3) is not taken for narrow grey images, which must have 4 axes."""
    path = tmp_path / "a.npy"
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    np.save(path, images)
    refuses(path, str(shape), "one colour picture", "images[:, None]")
    np.save(path, images[:, None])
    assert own.load(path).train.images.shape[1:] == (1, *shape[1:])


# Pixels at a wrong scale

@host
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["images", "x_train", "x_test"])
def test_pixels_divided_by_255_too_often(tmp_path, dtype, name):
    """Bytes of 0 and 1 and floats of 0 and 1/255 are refused, as they would be black.

    Each array loads after multiplication by 255, or if its numbers are twice as large.
    """
    path, white = tmp_path / "a.npz", 255 if dtype == np.uint8 else 1
    good = numbered(20, 4, 4)

    def file_of(images):
        names = {"x_train": good, "x_test": good} if name != "images" else {}
        np.savez(path, **names | {name: images})
        return path

    black = np.zeros((20, 4, 4), dtype)
    refuses(file_of(black), "at most 0,", f"{white} is white", "give other images")
    mask = (numbered(20, 4, 4) % 2 * (white / 255)).astype(dtype)
    refuses(file_of(mask), f"at most {mask.max():g},", f"{white} is white", "images * 255")
    data = own.load(file_of(mask * 255))
    found = (data.test if name == "x_test" else data.train).images
    assert np.array_equal(np.unique(found), [0, white])
    own.load(file_of(mask * 2))
    mixed = black.copy()
    mixed[7, 2, 2] = white              # all images but one are black
    own.load(file_of(mixed))


@host
def test_mnists_files_of_a_wrong_scale(tmp_path):
    names, bits = list(mnist.FILES), np.random.default_rng(0).integers(2, size=(17, 28, 28))
    for name in names[0], names[2]:
        folder = write(tmp_path / name, small_files(12, 17))
        (folder / name).write_bytes(idx(np.uint8(np.resize(bits, (12 if name == names[0] else 17,
                                                                  28, 28)))))
        refused(lambda: own.load(folder), folder / name, "at most 1,", "images * 255")


@host
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, ">u4"])
def test_dtypes(tmp_path, dtype):
    refuses(saved(tmp_path / "a.npz", np.zeros((6, 4, 4), dtype)), str(np.dtype(dtype)), "uint8",
            "floats")


@host
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value, told", [
    (-0.25, "-0.25"), (1.5, "1.5"), (255, "255"), (np.nan, "nan"), (np.inf, "inf"),
    (-np.inf, "-inf")])
def test_floats_beyond_0_and_1(tmp_path, dtype, value, told):
    images = np.full((6, 4, 4), 0.5, dtype)
    images[2, 1, 3] = value
    refuses(saved(tmp_path / "a.npz", images), told,
            "0 (black) to 1 (white)" if np.isfinite(value) else "neither NaN nor infinite")


@host
@pytest.mark.parametrize("count", [0, 1, 5, 7, 12])
def test_labels_of_another_number(tmp_path, count):
    refuses(saved(tmp_path / "a.npz", numbered(6, 4, 4), np.zeros(count, int)), "6 images",
            f"labels of shape ({count},)")


@host
def test_a_set_of_labels_without_any(tmp_path):
    """A further array may be empty, as it is a set of its own."""
    np.savez(tmp_path / "a.npz", images=numbered(20, 4, 4), labels=np.arange(20),
             targets=np.arange(0))
    assert all(len(part["targets"]) == 0 for part in parts(own.load(tmp_path / "a.npz")))


@host
def test_labels_under_another_name_among_several_arrays(tmp_path):
    """Either array could be the labels, so the user is asked to rename one of them."""
    np.savez(tmp_path / "a.npz", images=numbered(20, 4, 4), y=np.arange(20), ids=np.arange(20))
    data = own.load(tmp_path / "a.npz")
    with pytest.raises(UserError, match="rename one of the arrays 'y', 'ids' .* to \"labels\""):
        data.train.require("labels")
    np.savez(tmp_path / "b.npz", images=numbered(20, 4, 4))
    with pytest.raises(UserError, match="give a data set that has them"):
        own.load(tmp_path / "b.npz").train.require("labels")


@host
@pytest.mark.parametrize("labels", [np.zeros(6), np.zeros((6, 1), int), np.zeros(6, bool)])
def test_labels_of_another_kind(tmp_path, labels):
    refuses(saved(tmp_path / "a.npz", numbered(6, 4, 4), labels))


@host
def test_negative_labels(tmp_path):
    """Negative labels, which would count from the end as indices, are refused."""
    refuses(saved(tmp_path / "a.npz", numbered(6, 4, 4), np.arange(6) - 2), "label -2")


@host
def test_names_of_several_lines(tmp_path):
    np.savez(tmp_path / "a.npz", **{"a\nb": np.zeros(3)})
    refuses(tmp_path / "a.npz")


@host
@pytest.mark.parametrize("labelled", [True, False])
def test_a_split_by_names(tmp_path, labelled):
    """x_train and x_test, the names of Keras's mnist.npz, stay apart and in their order."""
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1).repeat(4, 1).repeat(4, 2)
    arrays = {"x_train": images[:14], "x_test": images[14:]}
    if labelled:
        arrays |= {"y_train": np.arange(14), "y_test": np.arange(14, 20)}
    np.savez(tmp_path / "mnist.npz", **arrays)
    data = own.load(tmp_path / "mnist.npz")
    for split, numbers in zip(data, (range(12), range(12, 14), range(14, 20))):
        assert split.images.shape == (len(numbers), 1, 4, 4)
        assert list(split.images[:, 0, 0, 0]) == list(numbers)
        assert split.labels is None if not labelled else list(split.labels) == list(numbers)
    np.savez(tmp_path / "mnist.npz", **{**arrays, "x_test": images[14:, :3]})
    refuses(tmp_path / "mnist.npz", "(14, 1, 4, 4) to train", "one size")
    if labelled:
        for name in "y_train", "y_test":
            np.savez(tmp_path / "mnist.npz", **{k: a for k, a in arrays.items() if k != name})
            refuses(tmp_path / "mnist.npz", "one of y_train and y_test")


@host
def test_place_loads_the_same_data_again(tmp_path, monkeypatch):
    """The `place` of a data set, also of the bundled sample, is valid in any working directory."""
    np.save(tmp_path / "a.npy", numbered(10, 4, 4))
    monkeypatch.chdir(tmp_path)
    place = own.load("a.npy").place
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert own.load(place).place == place and own.load("sample").place == "sample"


# Pictures and tables

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a"
KAGGLE = b"label,pixel0,pixel1\n5,0,255\n"


def said(path, what, *words):
    """Check that the message says what `path` is and how to convert it; return the message."""
    message = refused(lambda: own.load(path), path, what, "convert to .npz", *words)
    heading = re.search('README "(.*)"', message)[1]
    assert f"\n## {heading}\n" in README
    assert "damaged" not in message and "idx3" not in message
    return message


@host
@pytest.mark.parametrize("name, content, what", [
    ("a.png", PNG, "a PNG picture"), ("a", PNG, "a PNG picture"), ("a.npz", PNG, "a PNG picture"),
    ("a.jpg", JPEG, "a JPEG picture"), ("a.png", JPEG, "a JPEG picture"),
    ("a.gif", GIF, "a GIF picture"), ("a.WEBP", b"RIFF", "a WebP picture"),
    ("a.jpeg", b"", "a JPEG picture"), ("a.csv", KAGGLE, "a CSV table"), ("a.csv", b"", "a CSV"),
    ("a.tsv", KAGGLE.replace(b",", b"\t"), "a TSV table"), ("a.txt", KAGGLE, "text such as CSV"),
    ("a.npz", KAGGLE.replace(b"\n", b"\r\n"), "text such as CSV"),
    ("a", KAGGLE.replace(b",", b"\t"), "text such as CSV"), ("a", b"5;0;255\n", "such as CSV")])
def test_a_picture_or_a_table(tmp_path, name, content, what):
    """Pictures and tables are recognised by their first bytes, or else by their name."""
    path = tmp_path / name
    path.write_bytes(content + bytes(100) * (what.endswith("picture")))
    assert refused(lambda: own.load_arrays(path)) == said(path, what)


@host
@pytest.mark.parametrize("save", [np.save, np.savez])
@pytest.mark.parametrize("name", ["a.png", "a.csv"])
def test_arrays_under_another_name(tmp_path, save, name):
    with open(tmp_path / name, "wb") as file:
        save(file, numbered(20, 4, 4))
    assert len(own.load(tmp_path / name).train.images) == 16


@host
@pytest.mark.parametrize("name, what", [
    ("cat.png", "a PNG picture"), ("CAT.JPG", "a JPEG picture"), ("cats/cat.gif", "a GIF picture"),
    ("train.csv", "a CSV table")])
def test_a_folder_of_pictures_or_tables(tmp_path, name, what):
    folder = tmp_path / "folder"
    (folder / name).parent.mkdir(parents=True)
    (folder / "notes").write_text("a, b")
    refused(lambda: own.load(folder), *mnist.FILES)     # no picture: the four files are missing
    (folder / name).touch()
    said(folder, what, repr(pathlib.Path(name).name), "four files")
    files = small_files()
    for missing in files:       # one of the four files is there: the others are missing
        for path in folder.glob("*-ubyte"):
            path.unlink()
        write(folder, {missing: files[missing]})
        refused(lambda: own.load(folder), "there is no file", *mnist.FILES)
    write(folder, files)
    assert len(own.load(folder).train.images) == 10


def readme_lines(word):
    """Return the code block with `word` on the pages on a user's own images."""
    sections = [page.split(f"\n## {heading}\n")[1].split("\n## ")[0] for page, heading in (
        (README, "Your own images"), (EXAMPLES, "A CSV table"), (EXAMPLES, "Images to translate"))]
    (block,) = [b for b in re.findall(r"(?:^    .*\n)+", "".join(sections), re.M) if word in b]
    return textwrap.dedent(block)


@host
def test_readme_converts_a_csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    labels, pixels = np.arange(30) % 10, draw.integers(256, size=(30, 784))
    names = ["label"] + [f"pixel{i}" for i in range(784)]
    rows = [",".join(map(str, row)) for row in [names, *np.column_stack([labels, pixels])]]
    pathlib.Path("train.csv").write_text("\n".join(rows) + "\n")
    exec(readme_lines("csv"), {})
    with np.load("digits.npz") as arrays:
        assert np.array_equal(arrays["images"], pixels.reshape(30, 28, 28))
    data = own.load("digits.npz")
    assert data.train.images.shape == (24, 1, 28, 28) and data.train.images.dtype == np.uint8
    for part in parts(data):
        for image, label in zip(part.images, part.labels):
            (row,) = np.flatnonzero((pixels == image.ravel()).all(1))
            assert labels[row] == label


@host
def test_readme_converts_pictures(tmp_path, monkeypatch):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed, with which the "
                                "README's lines make images of pictures")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    pathlib.Path("cats").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"cats/{i:02}.png")
    Image.fromarray(images[0, ..., 0]).resize((50, 40)).save("cats/20.jpg")         # grey
    Image.fromarray(np.resize(images, (9, 9, 4))).save("cats/21.png")               # RGBA
    exec(readme_lines("cats"), {})
    with np.load("cats.npz") as arrays:
        assert arrays["images"].shape == (22, 3, 32, 32)
        assert np.array_equal(arrays["images"][:20], images.transpose(0, 3, 1, 2))
    assert own.load("cats.npz").train.images.dtype == np.uint8
    # the README's change for grey images
    exec(readme_lines("cats").replace('"RGB"', '"L"').replace(".transpose(0, 3, 1, 2)", ""), {})
    assert own.load("cats.npz").train.images.shape[1:] == (1, 32, 32)


@host
def test_readme_makes_pairs_of_two_folders(tmp_path, monkeypatch):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed, with which the "
                                "README's lines make images of pictures")
    monkeypatch.chdir(tmp_path)
    for folder, grey in (("before", 0), ("after", 100)):
        pathlib.Path(folder).mkdir()
        for i in range(20):
            Image.new("RGB", (40, 30), (grey + i,) * 3).save(f"{folder}/{i:02}.png")
    exec(readme_lines("pairs"), {})
    data = own.load("pairs.npz")
    tasks.check_pairs(data)
    for part in parts(data):
        assert part.images.shape[1:] == (3, 32, 32)
        assert (part["targets"] == part.images + 100).all()


# Maps of classes, and images in their order

@host
def test_images_in_the_order_of_their_file(tmp_path):
    images = numbered(30, 4, 4)
    for arrays in (dict(images=images, targets=images), dict(x=images, y=np.arange(30)),
                   dict(x_train=images[:20], x_test=images[20:])):
        np.savez(tmp_path / "a.npz", **arrays)
        assert np.array_equal(own.load_images(tmp_path / "a.npz"), images[:, None])
    assert np.array_equal(own.load_images(saved(tmp_path / "a.npy", images, save=np.save)),
                          images[:, None])
    np.savez(tmp_path / "a.npz", x_train=images[:20], x_test=images[20:] / np.float32(255))
    loaded = own.load_images(tmp_path / "a.npz")
    np.testing.assert_allclose(loaded * 255, images[:, None], rtol=1e-6)
    maps = np.arange(30).reshape(30, 1, 1) % 5
    np.savez(tmp_path / "maps.npz", maps=maps)
    assert (own.load_images(tmp_path / "maps.npz").argmax(1) == maps).all()


@host
def test_maps_have_the_classes_that_are_asked_for(tmp_path):
    path = tmp_path / "maps.npz"
    np.savez(path, maps=np.full((20, 2, 2), 1))
    assert own.load_images(path, 4).shape == (20, 4, 2, 2)
    assert own.load(path, 4).train.images[:, 1].min() == 255
    np.savez(path, maps=np.arange(80).reshape(20, 2, 2) % 2 * 3)        # half of the classes
    assert own.load_images(path).shape == (20, 4, 2, 2)
    said_of = [(dict(maps=np.full((20, 2, 2), 7)), 4, "classes 7 to 7", "from 0 to 3"),
               (dict(maps=np.full((20, 2, 2), -1)), None, "classes -1 to -1"),
               (dict(maps=np.full((20, 2, 2), 256)), None, "classes 256 to 256", "at most 255"),
               (dict(maps=np.zeros((20, 2, 2), int)), None, "class 0 alone"),
               *[(dict(maps=np.arange(80).reshape(20, 2, 2) % 2 * high), None, "of 2 classes",
                  f"up to {high}", "numpy.unique") for high in (4, 255)],
               (dict(maps=np.zeros((20, 2, 2))), None, "float64", "the classes of pixels"),
               (dict(maps=np.ones((20, 2, 2), int), images=numbered(20, 2, 2)), None, "both"),
               (dict(images=numbered(20, 2, 2), targets=np.full((20, 2, 2), 2.0)), None,
                "the array 'targets'", "from 2.0 to 2.0")]
    for arrays, classes, *words in said_of:
        np.savez(path, **arrays)
        refused(lambda: own.load_arrays(path, classes), *words)


@host
def test_labels_in_a_column_are_named(tmp_path):
    """Keras has them so for CIFAR-10."""
    path = tmp_path / "cifar.npz"
    np.savez(path, x_train=numbered(40, 8, 8), x_test=numbered(20, 8, 8),
             y_train=np.ones((40, 1), int), y_test=np.ones((20, 1), int))
    refused(lambda: own.load_arrays(path), "40 images and labels of shape (40, 1)",
            "one whole number for each")


@host
@pytest.mark.parametrize("n, m", [(1000, 998), (40, 39), (40, 38), (30, 300)])
def test_arrays_of_other_lengths_are_no_pairs(tmp_path, n, m):
    """1,000 and 998 images have 800 each in their training parts, but in other orders."""
    np.savez(tmp_path / "a.npz", images=np.full((n, 2, 2), 1.0), targets=np.full((m, 2, 2), 1.0))
    refused(lambda: tasks.check_pairs(own.load(tmp_path / "a.npz")), f"({n}, 1, 2, 2)",
            f"({m}, 1, 2, 2)")


@pytest.mark.host
def test_images_in_two_sets_are_found_in_any_dtype():
    """Bytes and floats of the same pixels are the same image."""
    images = np.random.default_rng(0).integers(256, size=(60, 8, 8), dtype=np.uint8)
    for others in (images[:10], as_floats(images[:10])):
        assert count_shared(others, images) == count_shared(images, others) == 10


@pytest.mark.host
def test_minus_zero_is_zero_and_other_shapes_are_other_images():
    zeros = np.zeros((3, 1, 4, 4), np.float32)
    assert count_shared(zeros, -zeros) == 3
    assert count_shared(zeros, zeros.reshape(3, 2, 8)) == 0


@pytest.mark.host
def test_a_sixth_of_each_array_is_held_out():
    """An array that is a set of its own may have another length."""
    split = Split(images=numbered(12, 1, 2, 2), labels=np.arange(12), other=np.arange(30))
    rest, sixth = split.hold_out()
    assert rest["labels"].tolist() == list(range(10)) and sixth["labels"].tolist() == [10, 11]
    assert rest["other"].tolist() == list(range(25)) and len(sixth["other"]) == 5
    assert (sixth.images == split.images[10:]).all() and type(rest) is type(sixth) is Split


@pytest.mark.host
def test_classes_are_counted_from_0():
    assert Split(labels=np.array([1, 0, 2, 1])).count_classes() == 3
    for labels, words in (([-1, 0, 1], "the label -1"), ([0.0, 1.0], "dtype float64"),
                          ([0, 2], "no training image has the label 1")):
        refused(Split(labels=np.array(labels)).count_classes, words)


@pytest.mark.host
def test_floats_just_above_1_are_shown(tmp_path):
    np.save(tmp_path / "a.npy", np.linspace(0, 1 + 1e-12, 40).reshape(10, 2, 2))
    refused(lambda: own.load(tmp_path / "a.npy"), "to 1.000000000001")


@pytest.mark.host
@pytest.mark.parametrize("odd", [np.ones(9), np.array(2), np.arange(9)[:, None]])
def test_an_array_that_is_neither_images_nor_labels_is_named(odd, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=numbered(9, 4, 4), labels=np.arange(9), weights=odd)
    assert refused(lambda: own.load(path)).endswith("leave out or convert 'weights'")


@pytest.mark.host
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels.idx1-ubyte"])
def test_one_of_the_four_files_is_not_the_data(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    assert "give the folder" in refused(lambda: own.load(tmp_path / name))


@pytest.mark.host
def test_labels_in_the_place_of_m_are_refused():
    with pytest.raises(TypeError, match="labels=labels"):
        Minibatches(np.full((4, 2, 2), 9, np.uint8), np.arange(4), 2)


@host
def test_maps_with_an_axis_of_channels_are_refused(tmp_path):
    np.savez(tmp_path / "maps.npz", maps=np.arange(80).reshape(20, 1, 2, 2) % 3)
    refused(lambda: own.load_arrays(tmp_path / "maps.npz"), "maps of shape (20, 1, 2, 2)")
