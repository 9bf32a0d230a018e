"""MNIST's files, good and bad; mirrors with faults; minibatches; mixtures against their density."""

import errno
import gzip
import hashlib
import http.server
import io
import math
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tinygan import Tensor, backend
from tinygan.backend import UserError, to_numpy
from tinygan.data import Minibatches, ZipMinibatches, as_floats, load, mixtures, mnist
from tinygan.random import Random, rng

from fuzz import make_idx as idx
from helpers import peak_memory

host = pytest.mark.host


@pytest.fixture(autouse=True)
def nobodys_home(monkeypatch, tmp_path):
    """Keep each test from the user's cache and data and from the network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ())


# Small data sets of MNIST's format

def small_files(n=12, n_test=5, seed=0):
    """Return {official name: content} of a data set with n training images.

    Image i has the label (i + seed) % 10.
    """
    pixels = np.random.default_rng(seed).integers(256, size=(n + n_test, 28, 28), dtype=np.uint8)
    labels = ((np.arange(n + n_test) + seed) % 10).astype(np.uint8)
    return dict(zip(mnist.FILES, map(idx, (pixels[:n], labels[:n], pixels[n:], labels[n:]))))


def write(folder, files):
    """Write files, {name: content}, into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def refused(call, *words):
    """Return the message of the UserError of call(); it must be one line that has `words` in it."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    return message


# A folder that the user names

@host
@pytest.mark.parametrize("rename", [
    lambda name: name,
    lambda name: name.replace("-idx", ".idx"),
    lambda name: name + ".gz",
    lambda name: name.replace("-idx", ".idx") + ".gz",
])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_folder(tmp_path, rename, compress):
    files = small_files()
    # the content shows whether a file is compressed, so every name may have either content
    folder = write(tmp_path / "data", {rename(k): compress(v) for k, v in files.items()})
    data = mnist.load(folder)
    for split, n in (data.train, 10), (data.valid, 2), (data.test, 5):
        assert split.images.shape == (n, 1, 28, 28) and split.images.dtype == np.uint8
        assert split.labels.shape == (n,) and split.labels.dtype == np.uint8
    pixels = np.concatenate([data.train.images, data.valid.images]).tobytes()
    assert pixels == files["train-images-idx3-ubyte"][16:]
    assert data.test.images.tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert list(data.train.labels) + list(data.valid.labels) == [i % 10 for i in range(12)]
    assert str(folder) in data.source


@host
def test_a_folder_of_four_files(tmp_path):
    assert len(mnist.load(write(tmp_path / "folder", small_files(60))).train.labels) == 50
    absent = tmp_path / "absent"
    refused(lambda: mnist.load(absent), "there is no file or folder", absent)


@host
@pytest.mark.parametrize("name", mnist.FILES)
def test_folder_lacks_a_file(tmp_path, name):
    folder = write(tmp_path, small_files())
    (folder / name).unlink()
    refused(lambda: mnist.load(folder),
            f"no file {name} in {folder}", "--data", ".gz", *mnist.FILES)


def deny(monkeypatch, folder, *functions):
    """Make these functions of the module os raise PermissionError in `folder`.

    File modes would not do: the tests may run as root.
    """
    def denied(name, function):
        def call(path, *args, **kwargs):
            inside = str(path).startswith(f"{folder}{os.sep}")
            if inside or name == "listdir" and str(path) == str(folder):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args, **kwargs)
        return call
    for name in functions:
        monkeypatch.setattr(os, name, denied(name, getattr(os, name)))


@host
@pytest.mark.parametrize("functions", [
    ["listdir"], ["stat", "lstat"], ["listdir", "stat", "lstat"]])
@pytest.mark.parametrize("read", [mnist.load, load])
def test_folder_without_permission(tmp_path, monkeypatch, read, functions):
    """The message for a folder that may not be listed or searched does not say "no file"."""
    folder = write(tmp_path / "data", small_files())
    (folder / "t10k-labels-idx1-ubyte").unlink()
    deny(monkeypatch, folder, *functions)
    message = refused(lambda: read(folder), f"{folder} cannot be read (Permission denied)",
                      "--data")
    assert "no file" not in message


@host
def test_folder_within_one_without_permission(tmp_path, monkeypatch):
    deny(monkeypatch, tmp_path / "closed", "listdir", "stat", "lstat")
    folder = tmp_path / "closed" / "data"
    refused(lambda: load(folder), f"{folder} cannot be read (Permission denied)")


@host
def test_files_in_a_folder_that_may_be_searched_but_not_listed(tmp_path, monkeypatch):
    folder = write(tmp_path / "data", small_files())
    deny(monkeypatch, folder, "listdir")
    assert len(load(folder).train.labels) == 10


@host
def test_folder_of_other_data(tmp_path):
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    files = small_files()

    def load_with(name, content):
        return lambda: mnist.load(write(tmp_path, files | {name: content}))

    refused(load_with(images, idx(np.full((12, 32, 20), 9, np.uint8))),
            tmp_path / images, "32x20", tmp_path / "t10k-images-idx3-ubyte", "28x28")
    refused(load_with(labels, idx(np.zeros(11, np.uint8))), tmp_path / images, tmp_path / labels,
            "12 images", "11 labels")
    refused(load_with(labels, files[images]), tmp_path / labels, "0x00000803", "0x00000801")


# The IDX reader

@host
def test_read_idx_refuses(tmp_path):
    path = tmp_path / "file"
    good = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

    def read(content):
        path.write_bytes(content)
        return lambda: mnist.read_idx(path, 3)

    assert np.array_equal(read(good)(), np.arange(24).reshape(2, 3, 4))
    refused(read(b""), path, "holds 0 bytes", "fetch")
    refused(read(good[:15]), path, "holds 15 bytes", "16")
    refused(read(b"<!DOCTYPE html>\n"), path, "0x3c21444f", "0x00000803", "images")
    refused(read(good[:-1]), path, "24 bytes", "only 23", "fetch")
    refused(read(good + b"!"), path, "24 bytes", "holds more", "fetch")
    refused(read(idx(np.zeros((0, 28, 28), np.uint8))), path, "0x28x28")
    refused(read(struct.pack(">4I", 0x803, 60000, 280, 28)), path, "60000x280x28", mnist.LIMIT)
    packed = gzip.compress(good)
    refused(read(packed[:-9]), path, "damaged gzip", "fetch")                       # cut short
    refused(read(packed[:-8] + b"\0\0\0\0" + packed[-4:]), path, "damaged gzip")    # its CRC
    refused(read(packed[:10] + b"\xff" + packed[11:]), path, "damaged gzip")        # its blocks
    refused(read(packed + b"!"), path, "damaged gzip")
    refused(lambda: mnist.read_idx(tmp_path, 3), tmp_path, "cannot be read")
    refused(lambda: mnist.read_idx(tmp_path / "absent", 3), tmp_path / "absent", "cannot be read")


@host
def test_read_idx_holds_no_more_than_there_is(tmp_path):
    """A header that claims 256 MB, and 64 MB of zeros in a 64 kB file, do not take that memory."""
    path = tmp_path / "file"
    # 1 MB: a few pieces of files.PIECE bytes (64 kB), and gzip's buffers
    path.write_bytes(struct.pack(">4I", 0x803, 1 << 14, 128, 128) + bytes(100))
    assert peak_memory(lambda: refused(lambda: mnist.read_idx(path, 3), "only 100")) < 1 << 20
    with gzip.open(path, "wb", 6) as file:
        file.write(struct.pack(">4I", 0x803, 1, 28, 28))
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert peak_memory(lambda: refused(lambda: mnist.read_idx(path, 3), "more")) < 1 << 20


@host
def test_read_idx_fuzz(tmp_path):
    """For any bytes, read_idx returns an array of the stated kind or raises UserError."""
    draw = random.Random(0)
    path = tmp_path / "file"
    good = idx(np.arange(60, dtype=np.uint8).reshape(3, 5, 4))
    read, wrong = 0, 0

    def attempt():
        nonlocal read, wrong
        try:
            array = mnist.read_idx(path, 3)
            assert array.dtype == np.uint8 and array.ndim == 3 and array.size > 0
            read += 1
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            wrong += 1

    def mutate(content):
        content = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            match draw.randrange(4):
                case 0: content[at] = draw.randrange(256)
                case 1: content[at:at + draw.randint(1, 8)] = b"" if at else b"\0"
                case 2: content[at:at] = draw.randbytes(draw.randint(1, 8))
                case 3: content[at % 16] ^= 1 << draw.randrange(8)
        return bytes(content)

    def fuzz():
        for i in range(300):
            path.write_bytes([mutate(good), gzip.compress(mutate(good)),
                              mutate(gzip.compress(good))][i % 3])
            attempt()

    assert peak_memory(fuzz) < 1 << 21      # the 1 MB from above and the memory of the test itself
    assert read >= 20 and wrong >= 150      # both outcomes occur


# The cache and the mirrors

SLOW = "hangs", "stalls"
complete = sorted(f"{name}.gz" for name in mnist.FILES)


@pytest.fixture
def mirrors(monkeypatch):
    """Run two mirrors on this machine, whose official files are those of small_files().

    Attributes of the server: `first` and `second` name the fault with which each mirror answers,
    `requests` lists the paths that were requested, and `sent` has the fault of each response that
    was sent to its end.
    """
    files = small_files()
    monkeypatch.setattr(mnist, "FILES", {
        name: (ndim, hashlib.md5(files[name]).hexdigest())
        for name, (ndim, _) in mnist.FILES.items()})
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            which, name = self.path.lstrip("/").split("/")
            body = gzip.compress(files[name.removesuffix(".gz")])
            missing = 0
            fault = getattr(self.server, which)
            if fault in SLOW and name != complete[2]:
                fault = None                # one slow file is enough
            match fault:
                case "404": return self.send_error(404)
                case "hangs": return released.wait(10)
                case "stalls": body, missing = body[:-20], 20
                case "closes": return self.connection.shutdown(socket.SHUT_RDWR)
                case "cut": body, missing = body[:-20], 20
                case "empty": body = b""
                case "wrong": body = gzip.compress(small_files(seed=1)[name.removesuffix(".gz")])
                case "page": body = b"<html>Please log in to this network</html>"
                case "endless": body = bytes(1 << 25)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + missing))
            self.end_headers()
            self.wfile.write(body)
            self.server.sent.append(fault)
            if fault == "stalls":
                released.wait(10)

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        first = second = None

        def handle_error(self, request, client_address):
            pass                            # the client hangs up on "endless", rightly

    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.sent = [], []
    root = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(mnist, "MIRRORS", (f"{root}/first/", f"{root}/second/"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path):
    """Return the names of the files in the cache."""
    folder = tmp_path / "cache" / "tinygan" / "mnist"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@host
def test_download_then_cache(mirrors, tmp_path, capsys):
    data = mnist.load()
    assert [len(split.labels) for split in data[:3]] == [10, 2, 5]
    assert data.train.images.tobytes() == small_files()["train-images-idx3-ubyte"][16:][:7840]
    assert mirrors.requests == [f"/first/{name}.gz" for name in mnist.FILES]
    assert cached(tmp_path) == complete
    lines = capsys.readouterr().err.splitlines()    # not a terminal: one line for each file
    assert lines == [f"downloading {mnist.MIRRORS[0]}{name}.gz" for name in mnist.FILES]

    again = mnist.load()
    assert len(mirrors.requests) == 4 and capsys.readouterr().err == ""
    assert again.train.images.tobytes() == data.train.images.tobytes()
    assert again.source == data.source and "cache" in data.source


@host
def test_progress_on_a_terminal(mirrors, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    mnist.load()
    assert terminal.getvalue().count("100 %\n") == 4


@host
@pytest.mark.parametrize("fault", [
    "404", "hangs", "stalls", "closes", "cut", "empty", "wrong", "page", "endless"])
def test_second_mirror(mirrors, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(mnist, "TIMEOUT", 0.5 if fault in SLOW else 10)
    monkeypatch.setattr(mnist, "LIMIT", 20000)
    mirrors.first = fault
    assert len(mnist.load().train.labels) == 10
    assert len(mirrors.requests) == (5 if fault in SLOW else 8)
    assert cached(tmp_path) == complete


@host
@pytest.mark.parametrize("fault, reason", [
    ("404", "404"), ("hangs", "timed out"), ("stalls", "timed out"), ("closes", "onnection"),
    ("cut", "something else"), ("wrong", "something else"), ("endless", "something else")])
def test_no_mirror(mirrors, tmp_path, monkeypatch, fault, reason):
    monkeypatch.setattr(mnist, "TIMEOUT", 0.5 if fault in SLOW else 10)
    monkeypatch.setattr(mnist, "LIMIT", 20000)
    mirrors.first = mirrors.second = fault
    # the bundled sample is larger than the limit that this test sets
    monkeypatch.setattr(mnist, "load_sample", lambda why: why)
    why = mnist.load()
    assert why.count(reason) >= 2 and all(mirror in why for mirror in mnist.MIRRORS)
    assert "train-images-idx3-ubyte.gz could not be downloaded" in why and "\n" not in why
    assert len(mirrors.requests) == 2       # both mirrors failed with the first file
    assert "endless" not in mirrors.sent    # the endless file was not read to its end
    assert cached(tmp_path) == []


@host
def test_why_a_mirror_was_not_reached_is_told_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ["http://127.0.0.1:1/", "http://localhost:1/"])
    monkeypatch.setattr(mnist, "_cache_folder", lambda: tmp_path)
    monkeypatch.setattr(mnist, "load_sample", lambda why: why)
    why = mnist.load()
    assert "127.0.0.1:1/: Connection refused, http://localhost:1/: Connection refused" in why


@host
def test_only_a_download_imports_http():
    """Its modules would make the import of tinygan an eighth longer."""
    code = "import sys, tinygan; print({'http.client', 'urllib.request'} & {*sys.modules})"
    root = pathlib.Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root,
                          check=True).stdout == "set()\n"


@host
def test_connecting_has_one_time_limit(monkeypatch):
    """A download is given up after TIMEOUT, even if urlopen tries many addresses."""
    connected = threading.Event()
    monkeypatch.setattr(mnist, "TIMEOUT", 0.1)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://nowhere/",))
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: connected.wait(5))
    start = time.monotonic()
    assert "nowhere/: timed out" in mnist.load().source
    assert time.monotonic() - start < 4
    connected.set()


@host
def test_no_mirror_gives_the_sample():
    data = mnist.load()
    assert [len(split.images) for split in data[:3]] == [8000, 1000, 1000]
    assert "sample" in data.source and "could not be downloaded" in data.source
    assert "--data" in data.source and "\n" not in data.source


@host
def test_the_source_of_the_sample_is_true_however_it_was_chosen():
    """A run that fell back to the sample loads it by its `place` when it is resumed."""
    for data in load("sample"), load(load().place):
        assert "bundled sample, 10,000 of MNIST's 70,000 images; for" in data.source
        assert "asked" not in data.source and "download" not in data.source
    assert "images, because train-images" in load().source


@host
def test_cache_that_is_damaged(mirrors, tmp_path):
    mnist.load()
    folder = tmp_path / "cache" / "tinygan" / "mnist"
    (folder / complete[0]).write_bytes(b"")
    (folder / complete[1]).write_bytes((folder / complete[3]).read_bytes())
    mirrors.requests.clear()
    assert len(mnist.load().test.labels) == 5
    assert sorted(mirrors.requests) == [f"/first/{name}" for name in complete[:2]]


@host
def test_cache_that_cannot_be_written(mirrors, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    data = mnist.load()
    assert len(data.train.images) == 8000
    assert str(tmp_path / "cache") in data.source and mirrors.requests == []


@host
def test_interrupted_download_leaves_nothing(mirrors, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(mnist.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mnist.load()
    assert cached(tmp_path) == []


@host
def test_two_downloads_at_once(mirrors, tmp_path):
    sizes = []
    threads = [threading.Thread(target=lambda: sizes.append(len(mnist.load().train.labels)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [10] * 4 and cached(tmp_path) == complete


@host
def test_sample():
    data = mnist.load_sample()
    for split, n in (data.train, 8000), (data.valid, 1000), (data.test, 1000):
        assert split.images.shape == (n, 1, 28, 28) and split.labels.shape == (n,)
        assert set(split.labels) == set(range(10))
        # All of MNIST has the mean 0.1307. The mean of one image has a standard deviation of 0.04,
        # and images of the same writer follow each other: sets of 60 writers may differ by 0.01.
        assert abs(split.images.mean() / 255 - 0.1307) < 0.01
        assert split.images.max(axis=(1, 2, 3)).min() > 128
    assert "\n" not in data.source and "--data" in data.source
    folder = pathlib.Path(mnist.__file__).parent
    assert sum(path.stat().st_size for path in folder.glob("sample-*")) < 1.8e6
    licence = (folder / "LICENSE-MNIST.txt").read_text()
    assert "https://creativecommons.org/licenses/by-sa/3.0/" in licence and "LeCun" in licence


# Minibatches

def numbered(n):
    """Return n images; all pixels of image i are i."""
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1).repeat(2, axis=2).repeat(3, axis=3)


def numbers(x):
    """Return the numbers of the numbered images in the minibatch x."""
    x = to_numpy(x)
    assert (x == x[:, :, :1, :1]).all()
    return [round(float(value) * 255) for value in x[:, 0, 0, 0]]


def test_minibatch_is_float32_on_the_device_in_0_1():
    x = next(Minibatches(np.array([[0], [51], [255]], np.uint8), 3, Random(0)))
    assert type(x) is type(backend.xp.zeros(1)) and x.dtype == np.float32 and x.shape == (3, 1)
    # 51/255 is not exact in float32: the tolerance is half a unit in the last place
    assert np.allclose(sorted(to_numpy(x)[:, 0]), [0, 0.2, 1], rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minibatch_of_points_is_not_scaled(dtype):
    points = np.array([[-300, 4], [0.5, 6]], dtype)
    x = next(Minibatches(points, 2, Random(0)))
    assert x.dtype == np.float32
    assert np.array_equal(to_numpy(x)[to_numpy(x)[:, 0].argsort()], points)


def test_minibatch_from_device_data():
    points = mixtures.ring().sample(10, Random(0))
    assert next(Minibatches(points, 4, Random(0))).shape == (4, 2)


def test_labels_come_with_their_images():
    batches = Minibatches(numbered(10), 3, Random(0), labels=np.arange(10) + 50)
    for _ in range(7):
        x, labels = next(batches)
        assert [n + 50 for n in numbers(x)] == to_numpy(labels).tolist()


@pytest.mark.parametrize("labels", [
    np.arange(9), np.arange(11), np.arange(10.0), np.arange(10) > 4, np.arange(10)[:, None],
    np.eye(10, dtype=int), [], list("abcdefghij"), np.float32(3), np.arange(10).astype(object)])
def test_labels_that_are_no_whole_numbers(labels):
    """Labels are refused unless there is one whole number for each image."""
    refused(lambda: Minibatches(numbered(10), 3, labels=labels), "10 images", "labels of shape",
            np.shape(labels), np.asarray(labels).dtype)


def test_floats_in_a_tuple_have_two_dimensions():
    """Floats (N,) are no labels; as (N, 1) they are numbers that belong to the images."""
    values = np.arange(10, dtype=np.float32) / 4
    refused(lambda: Minibatches((numbered(10), values), 3), "floats of shape (10,)", "a[:, None]")
    x, y = next(Minibatches((numbered(10), values[:, None]), 10))
    assert y.shape == (10, 1) and (4 * to_numpy(y)[:, 0] == numbers(x)).all()


def test_labels_below_0():
    """Negative labels, which would count from the end as indices, are refused."""
    for to in np.asarray, backend.xp.asarray:
        refused(lambda: Minibatches(numbered(10), 3, labels=to(np.arange(10) - 3)), "label -3")


# Pixels at a wrong scale, and arrays without usable numbers

def pixels(*shape):
    """Return random bytes; image 0 is all 0, image 1 all 255."""
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    images[0], images[1] = 0, 255
    return images


def to_float(images, dtype):
    return (images / 255).astype(dtype)


@pytest.mark.parametrize("form", [
    lambda images: images, lambda images: to_float(images, np.float16),
    lambda images: to_float(images, np.float64), lambda images: to_float(images, ">f4"),
    lambda images: to_float(images, ">f8"), lambda images: to_float(images, np.longdouble),
    lambda images: to_float(images, np.float32).tolist(), list, np.asfortranarray,
    lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),     # read-only
    lambda images: images[::-1, :, ::-1][::-1, :, ::-1], lambda images: backend.xp.asarray(images),
    lambda images: backend.xp.asarray(images / 255)])
def test_every_form_of_images_is_the_same(form):
    """The same images in any dtype, memory layout or container give the same minibatches."""
    images = pixels(12, 1, 4, 4)
    batches, expected = (Minibatches(x, 5, Random(0)) for x in (form(images), images))
    for _ in range(4):
        x, same = next(batches), next(expected)
        assert type(x) is type(backend.xp.zeros(1)) and x.dtype == np.float32
        # 1e-3: half a unit in the last place of float16 is 5e-4 near 1
        assert np.allclose(to_numpy(x), to_numpy(same), rtol=0, atol=1e-3)
    assert to_numpy(same).max() == 1


@pytest.mark.parametrize("dtype", [
    bool, np.int8, np.int16, np.int64, np.uint16, np.uint32, ">i4", np.complex64, object, str,
    "M8[s]", "V3"])
def test_images_of_another_dtype(dtype):
    """Images of other dtypes are refused: the dtype does not say which number is white."""
    images = pixels(10, 1, 4, 4).astype(np.int64).astype(dtype)
    refused(lambda: Minibatches(images, 4), images.dtype, "astype(numpy.uint8)",
            "astype(numpy.float32)")
    refused(lambda: as_floats(images), images.dtype)
    if images.dtype.kind in "biuc":
        refused(lambda: Minibatches(backend.xp.asarray(images), 4), "images of dtype")


def test_integers_in_a_list_have_another_dtype():
    refused(lambda: Minibatches(pixels(10, 2).tolist(), 4), "int64")


@pytest.mark.parametrize("to", [np.asarray, lambda a: backend.xp.asarray(a)],
                         ids=["host", "device"])
def test_bytes_that_never_exceed_1(to):
    """A data set of such bytes is refused, a minibatch of black images is not."""
    masks = pixels(10, 1, 4, 4) // 128
    refused(lambda: Minibatches(to(masks), 4), "at most 1,", "255 is white", "images * 255")
    refused(lambda: Minibatches(to(masks * 0), 4), "at most 0,")
    x = next(Minibatches(to(masks * 255), 10, Random(0)))
    assert np.array_equal(np.unique(to_numpy(x)), [0, 1])
    next(Minibatches(to(masks * 2), 4))

    dark = np.zeros((10, 1, 4, 4), np.uint8)
    dark[3] = 255
    seen = [float(to_numpy(x).max()) for x, _ in zip(Minibatches(to(dark), 2, Random(0)), range(5))]
    assert sorted(seen) == [0, 0, 0, 0, 1]
    assert (to_numpy(as_floats(backend.xp.asarray(dark[:2]))) == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e39, -1e300])
@pytest.mark.parametrize("place", [0, -1])
def test_numbers_that_float32_cannot_hold(dtype, number, place):
    """One such number anywhere is refused; the largest float32 is accepted."""
    if abs(number) < math.inf and np.dtype(dtype).itemsize < 8:
        number = math.copysign(math.inf, number)
    points = np.ones((30, 2), dtype)
    points[place] = number
    refused(lambda: Minibatches(points, 4), f"{number:g}", "float32", "NaN")
    largest = np.full((4, 2), np.finfo(np.float32).max)
    assert np.array_equal(to_numpy(next(Minibatches(largest, 4))), largest)


def test_no_number_that_is_not_finite_on_the_device():
    refused(lambda: Minibatches(backend.xp.asarray([[1, math.nan]] * 4), 2), "nan")


@pytest.mark.parametrize("shape", [(), (10,), (0,), (0, 28, 28), (10, 0), (10, 1, 0, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_without_examples_or_numbers(shape, dtype):
    refused(lambda: Minibatches(np.ones(shape, dtype), 1), f"shape {shape}", "(N, ...)")


class NoArray:
    """An object that numpy fails to convert, with an error of two lines."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not this\none")


@pytest.mark.parametrize("images, words", [
    ([[1.0, 2.0], [3.0]], "inhomogeneous"), (NoArray(), "not this one"),
    (Tensor([[1.0, 2.0]]), "a Tensor"), ((numbered(10), np.arange(9)), "ZipMinibatches"),
    (None, "object"), ({1.0}, "object"), (iter([1.0]), "object"), ("images.npz", "<U10")])
def test_images_that_are_no_array(images, words):
    refused(lambda: Minibatches(images, 1), words)


def test_masked_arrays_are_refused():
    """numpy's own functions would use some masks and ignore others."""
    images = np.ma.masked_greater(to_float(numbered(9), np.float32), 0.01)
    labels = np.ma.masked_less(np.arange(10), 3)
    for call in (lambda: Minibatches(images, 1), lambda: as_floats(images),
                 lambda: Minibatches(numbered(10), 3, labels=labels)):
        with pytest.raises(TypeError, match="mask would be ignored"):
            call()


@host
def test_looking_at_all_of_the_data_takes_little_memory():
    """No copy is made of uint8 or float32 arrays, which may have gigabytes."""
    for images in pixels(4000, 1, 28, 28), to_float(pixels(1000, 1, 28, 28), np.float32):
        assert peak_memory(lambda: Minibatches(images, 64)) < 1 << 18   # the order takes 32 kB


@pytest.mark.parametrize("n, m", [(10, 3), (12, 4), (5, 5), (7, 1), (9, 8)])
def test_epoch_takes_each_at_most_once(n, m):
    batches = Minibatches(numbered(n), m, Random(0))
    epochs = []
    for epoch in range(4):
        epochs.append([])
        for _ in range(n // m):
            assert batches.epoch == epoch
            x = next(batches)
            assert x.shape == (m, 1, 2, 3)
            epochs[-1] += numbers(x)
        assert len(set(epochs[-1])) == n // m * m and set(epochs[-1]) <= set(range(n))
    assert batches.epoch == 4
    # a new order, which is the same with a probability of 1/60 or less
    assert epochs[0] != epochs[1] or m == 1
    assert iter(batches) is batches


def test_every_example_has_its_turn():
    """The examples left over are others in each epoch."""
    batches = Minibatches(numbered(10), 9, Random(0))
    left_out = [set(range(10)) - set(numbers(next(batches))) for _ in range(100)]
    # a given example is never left out with probability 0.9^100 = 3e-5
    assert set.union(*left_out) == set(range(10))


def test_same_seed_same_order():
    def order(seed):
        batches = Minibatches(numbered(50), 7, Random(seed))
        return [numbers(next(batches)) for _ in range(20)]
    assert order(1) == order(1) != order(2)


def test_order_comes_from_the_one_stream_by_default():
    def order():
        rng.seed(3)
        return numbers(next(Minibatches(numbered(50), 50)))
    before = rng.state
    first = order()
    assert first == order()
    rng.state = before


@pytest.mark.parametrize("done", [0, 1, 3, 4, 6, 8])       # 4 make an epoch
def test_state(done):
    batches = Minibatches(numbered(30), 7, Random(0))
    for _ in range(done):
        next(batches)
    state = batches.state
    assert type(state["order"]) is np.ndarray
    assert type(state["position"]) is int and type(state["epoch"]) is int
    expected = [(numbers(next(batches)), batches.epoch) for _ in range(10)]

    resumed = Minibatches(numbered(30), 7, Random(99))
    resumed.state = {name: np.array(value) if name in ("order", "position", "epoch") else value
                     for name, value in state.items()}      # arrays, as an .npz file holds them
    assert [(numbers(next(resumed)), resumed.epoch) for _ in range(10)] == expected


def test_a_state_of_a_stream_with_another_random_is_refused():
    """Its order would go on from other random numbers."""
    own, shared = Minibatches(numbered(30), 7, Random(0)), Minibatches(numbered(30), 7)
    for stream, other in ((own, shared), (shared, own)):
        with pytest.raises(UserError, match="drew from another Random"):
            stream.state = other.state
    own.state = own.state
    refused(lambda: setattr(own, "state", {**own.state, "order": np.arange(30.0)}), "is damaged")


@pytest.mark.parametrize("wrong", [
    {}, [], None, {"order": None}, {"order": 3}, {"order": [0] * 10}, {"position": 1.5},
    {"position": 9}, {"position": -1}, {"position": None}, {"epoch": -1}, {"epoch": "x"},
    {"sum": [0]}, {"order": np.arange(10)[:, None]}])
def test_a_damaged_state_changes_nothing(wrong):
    stream = Minibatches(numbered(10), 2)
    next(stream)
    before = stream.state
    state = {**before, **wrong} if wrong else wrong
    for each, its in ((stream, state), (ZipMinibatches(stream), [state]),
                      (ZipMinibatches(stream, Minibatches(numbered(10), 2)), [before]),
                      (ZipMinibatches(stream, Minibatches(numbered(10), 2)),
                       [{**before, "position": 4}, state])):
        with pytest.raises(UserError, match="damaged|not those of the saved run|of 2 streams"):
            each.state = its
        now = stream.state
        assert (now.pop("order") == before["order"]).all()
        assert now == {name: value for name, value in before.items() if name != "order"}


def test_labels_of_bytes_stay_whole_numbers():
    """Bytes are the labels' dtype in MNIST's files; only bytes of two axes or more are pixels."""
    labels = backend.xp.arange(10, dtype="uint8")
    _, drawn = next(Minibatches(numbered(10), 10, labels=labels))
    assert drawn.dtype == "uint8" and sorted(to_numpy(drawn).tolist()) == list(range(10))


@pytest.mark.parametrize("given, name", [
    (lambda: load("sample").train, "Split"), (lambda: load("sample"), "Split"),
    (lambda: None, "NoneType"), (lambda: "data", "str"), (lambda: {}, "dict")])
def test_what_is_no_array_is_named(given, name):
    refused(lambda: Minibatches(given(), 2), f"got a {name}", ".train.images")


def test_minibatches_refuse():
    for m in 11, 0, -1:
        refused(lambda: Minibatches(numbered(10), m),
                f"a minibatch of {m} cannot be drawn from 10 training examples: choose m "
                "(--batch-size) from 1 to 10")
    for m in 2, 0:
        refused(lambda: Minibatches(numbered(10)[9:], m),
                f"a minibatch of {m} cannot be drawn from 1 training example: choose m "
                "(--batch-size) of 1")
    for none in (), (np.arange(0),):
        refused(lambda: Minibatches(none, 1), "there are no training examples")
    state = Minibatches(numbered(10), 2, Random(0)).state
    batches = Minibatches(numbered(20), 2, Random(0))
    with pytest.raises(UserError, match="10 examples.* 20"):
        batches.state = state
    other = numbered(20)
    other[7] = other[8]
    with pytest.raises(UserError, match="not those of the saved run"):
        Minibatches(other, 2, Random(0)).state = batches.state


def test_points_of_a_mixture_are_float32_whatever_its_width_is():
    assert mixtures.ring(std=np.float64(0.1)).sample(3, Random(0)).dtype == "float32"


def test_float64_bounds_keep_float32():
    assert Random(0).uniform(np.float64(0), np.float64(1), (2,)).dtype == "float32"


# Mixtures

@host
def test_modes():
    ring, grid = mixtures.ring(), mixtures.grid()
    assert ring.modes.shape == (8, 2) and grid.modes.shape == (25, 2)
    assert ring.std == 0.01 and grid.std == 0.05
    # on the circle, one every 45 degrees: neighbours are 2 sin(pi/8) apart, to float32 rounding
    assert np.allclose(np.hypot(*ring.modes.T), 1, atol=1e-6)
    gaps = np.hypot(*(ring.modes - np.roll(ring.modes, 1, axis=0)).T)
    assert np.allclose(gaps, 2 * math.sin(math.pi / 8), atol=1e-6)
    levels = {-4, -2, 0, 2, 4}
    assert {tuple(mode) for mode in grid.modes.tolist()} == {(a, b) for a in levels for b in levels}
    assert np.allclose(mixtures.ring(3, radius=2.0).modes[0], [2, 0])


@pytest.mark.parametrize("mixture", [mixtures.ring(), mixtures.grid()], ids=["ring", "grid"])
def test_sample_follows_the_density(mixture):
    """Every statistic is within 4 standard errors of its value.

    For about 100 statistics, one in 160 seeds has one that is not; the seed here is fixed.
    """
    n, k = 50000, len(mixture.modes)
    points = mixture.sample(n, Random(0))
    assert type(points) is type(backend.xp.zeros(1))
    assert points.dtype == np.float32 and points.shape == (n, 2)
    points = to_numpy(points).astype(np.float64)
    distances = np.linalg.norm(points[:, None] - mixture.modes, axis=2)
    nearest = distances.argmin(axis=1)

    # high quality is within 3 std of the nearest mode: in the plane 1 - exp(-9/2) = 98.89 %
    p = 1 - math.exp(-4.5)
    share = (distances.min(axis=1) < 3 * mixture.std).mean()
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)
    offsets = points - mixture.modes[nearest]   # 2n numbers: the error of std is std/sqrt(4n)
    assert abs(offsets.std() - mixture.std) < 4 * mixture.std / math.sqrt(4 * n)
    for mode in range(k):
        mine = points[nearest == mode]
        assert abs(len(mine) - n / k) < 4 * math.sqrt(n / k * (1 - 1 / k))
        error = mixture.std / math.sqrt(len(mine))
        assert (abs(mine.mean(axis=0) - mixture.modes[mode]) < 4 * error).all()
        assert (abs(mine.std(axis=0) - mixture.std) < 4 * error / math.sqrt(2)).all()


def test_minibatches_of_a_mixture_are_fresh():
    batches = mixtures.grid().minibatches(5, Random(0))
    first, second = to_numpy(next(batches)), to_numpy(next(batches))
    assert first.shape == second.shape == (5, 2) and not np.array_equal(first, second)


def test_minibatches_of_a_mixture_go_on_with_their_rng():
    """The state of a stream with a Random of its own has that of the Random."""
    batches = mixtures.ring().minibatches(5, Random(0))
    next(batches)
    state = batches.state
    expected = to_numpy(next(batches))
    again = mixtures.ring().minibatches(5, Random(1))
    again.state = state
    assert again.m == 5 and np.array_equal(to_numpy(next(again)), expected)
    assert mixtures.ring().minibatches(5).state == {}       # it draws from tinygan.rng
    default, before = mixtures.ring().minibatches(5), rng.state
    for stream, other in ((default, state), (again, {})):
        with pytest.raises(UserError, match="drew from another Random: give minibatches"):
            stream.state = other
    assert rng.state == before
    default.state = {}


@pytest.mark.parametrize("make", [
    lambda rng: Minibatches(np.ones((6, 2)), 2, rng), lambda rng: mixtures.ring().sample(5, rng),
    lambda rng: mixtures.ring().minibatches(5, rng)])
@pytest.mark.parametrize("rng", [np.random.default_rng(0), np.arange(6)])     # labels, perhaps
def test_only_a_random_draws_data(make, rng):
    with pytest.raises(TypeError, match="needs a tinygan.random.Random, .* got "
                       f"{type(rng).__name__}"):
        make(rng)


@host
def test_a_stream_of_empty_minibatches_of_points_is_refused():
    with pytest.raises(UserError, match="at least 1, got 0"):
        mixtures.ring().minibatches(0)


def test_sample_repeats_with_its_seed():
    first, same, other = (to_numpy(mixtures.ring().sample(9, Random(seed))) for seed in (0, 0, 1))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_zipped_minibatches_take_no_state_of_other_streams():
    x = np.ones((6, 2))
    one, two = (ZipMinibatches(*[Minibatches(x, 2) for _ in range(n)]) for n in (1, 2))
    for stream, other in ((one, two), (two, one)):
        with pytest.raises(ValueError):
            stream.state = other.state


@host
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_a_failed_download_leaves_no_file_open(tmp_path, monkeypatch):
    def fail(url, path):
        raise OSError("no network")
    monkeypatch.setattr(mnist, "_transfer", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConnectionError):
        mnist._download(tmp_path / "images.gz", "images")
    assert len(os.listdir("/proc/self/fd")) == before and not list(tmp_path.iterdir())
