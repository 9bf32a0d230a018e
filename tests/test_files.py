"""Files: written whole or not at all; read back as they were saved, or refused in a sentence."""

import errno
import os
import pathlib
import random
import struct
import zipfile

import numpy as np
import pytest

from tinygan import files
from tinygan.backend import UserError
from tinygan.files import read_arrays, replaced

from helpers import peak_memory
from fuzz import attempt, mutated, npy, npy_of, npz

pytestmark = pytest.mark.host


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(path, *words):
    """`path` is refused with one sentence that names it and has `words` in it."""
    with pytest.raises(UserError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.count(str(path)) == 1
    for word in words:
        assert word in message.replace(str(path), ""), message      # not in the path's own words


# Writing

@pytest.mark.parametrize("old", [None, b"", b"old and longer than the new one"])
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_what_was_written_is_the_file(tmp_path, old, kind):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with replaced(kind(path)) as file:
        file.write(b"one\n")
        file.write(b"two\r\n\0")
        assert not path.exists() if old is None else path.read_bytes() == old
    assert path.read_bytes() == b"one\ntwo\r\n\0" and names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes with names, and other rights")
def test_what_is_no_plain_file_stays_what_it_is(tmp_path):
    """A pipe and a device are written to, not replaced; and a file keeps its permissions."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replaced(pipe) as file:
        file.write(b"through")
    assert os.read(reader, 100) == b"through" and pipe.is_fifo() and names(tmp_path) == ["pipe"]
    os.close(reader)
    (tmp_path / "mine").write_bytes(b"old")
    (tmp_path / "mine").chmod(0o600)
    with replaced(tmp_path / "mine") as file:
        file.write(b"new")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "mine").read_bytes() == b"new"


@pytest.mark.parametrize("error", [
    ValueError("x"), OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt(), SystemExit(1),
    MemoryError()])
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("moment", ["first", "between", "last", "to the disk", "to its name"])
def test_failure_leaves_the_old_file(tmp_path, monkeypatch, error, old, moment):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail(*args):
        raise error
    if moment == "to the disk":
        monkeypatch.setattr(os, "fsync", fail)
    if moment == "to its name":
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)) as caught:
        with replaced(path) as file:
            for part in "first", "between", "last":
                if part == moment:
                    fail()
                file.write(bytes(100_000))      # more than a buffer: some of it is in the file
    assert caught.value is error
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_a_full_disk(tmp_path):
    """The error that closing would meet, with bytes still in the buffer, is the one that is told;
    /dev/full takes no byte."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        with replaced(tmp_path / "file") as file:
            file.write(b"new")
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_what_a_killed_process_left_does_no_harm(tmp_path):
    path, stale = tmp_path / "file", tmp_path / "file.tmp"
    stale.write_bytes(b"half of something, longer than what comes now")
    with replaced(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and names(tmp_path) == ["file"]
    stale.write_bytes(b"half")
    with pytest.raises(ValueError):
        with replaced(path) as file:
            raise ValueError
    assert path.read_bytes() == b"whole" and names(tmp_path) == ["file"]


def test_it_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    """Else a power cut could leave an empty file where the old one was."""
    order, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        fsync(handle)
        order.append(os.fstat(handle).st_size)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *args: order.append("named") or replace(*args))
    with replaced(tmp_path / "file") as file:
        file.write(bytes(10))           # it is still in the buffer when the block ends
    assert order == [10, "named"]


def test_no_place_to_write(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        with replaced(tmp_path / "absent" / "file"):
            pass
    assert caught.value.__context__ is None         # nothing else went wrong on the way
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        with replaced(tmp_path / "folder") as file:
            file.write(b"new")
    assert names(tmp_path) == ["folder"]


# Reading

def same(a, b):
    """The same array, down to the order of the bytes and the bits of a NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def numbers(dtype, shape):
    """Random numbers of any dtype, of which the floats have some that are not finite."""
    draw = np.random.default_rng(0)
    array = draw.integers(-100, 100, shape).astype(np.float64) / 7
    if np.dtype(dtype).kind == "f":
        array = np.where(draw.random(shape) < 0.2, np.nan, array)
        array = np.where(draw.random(shape) < 0.1, -np.inf, array)
        return array.astype(dtype)
    return abs(array).astype(dtype) if np.dtype(dtype).kind == "u" else array.astype(dtype)


DTYPES = ["?", "i1", "u1", "<i2", ">i2", ">u2", "i4", ">u4", "i8", ">i8", "u8", "f2", ">f2", "f4",
          ">f4", "f8", ">f8", "g"]
SHAPES = [(), (1,), (7,), (0,), (0, 3), (3, 0), (2, 3), (1, 1, 1), (4, 3, 2), (2, 1, 3, 2)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_what_numpy_saved(tmp_path, dtype):
    for shape in SHAPES:
        c = np.asarray(numbers(dtype, shape), dtype)
        for array in c, np.asfortranarray(c), np.repeat(c, 2, axis=-1)[..., ::2] if shape else c:
            np.save(tmp_path / "a.npy", array)
            (name, found), = read_arrays(tmp_path / "a.npy").items()
            assert name == "" and same(found, array)
        arrays = {"c": c, "of fortran's": np.asfortranarray(c), "é.1/x": c.T}
        for save in np.savez, np.savez_compressed:
            save(tmp_path / "a.npz", **arrays)
            found = read_arrays(tmp_path / "a.npz")
            assert list(found) == list(arrays)
            assert all(same(found[name], arrays[name]) for name in arrays)


def test_its_content_tells_what_it_is(tmp_path):
    array = np.arange(3)
    (tmp_path / "a.npz").write_bytes(npy(array))
    (tmp_path / "b.npy").write_bytes(npz({"x": npy(array)}))
    assert same(read_arrays(tmp_path / "a.npz")[""], array)
    assert same(read_arrays(str(tmp_path / "b.npy"))["x"], array)


def test_header_versions(tmp_path):
    path = tmp_path / "a"
    for version, dtype, reason in (1, "'<f4'", None), (2, "'<f4'", None), (3, "'<f4'", "version"):
        header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': (2, 3), }}"
        path.write_bytes(npy_of(header, bytes(24), version))
        if reason:
            refused(path, reason)       # what it is for, names of fields, is no number
        else:
            assert same(read_arrays(path)[""], np.zeros((2, 3), np.float32))


# Refusing

class Bait:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_nothing_is_executed(tmp_path, save):
    array = np.empty(1, object)
    array[0] = Bait(tmp_path / "caught")
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array)
    refused(path, "object")
    assert not (tmp_path / "caught").exists()
    with np.errstate(all="ignore"):     # and that would have happened:
        loaded = np.load(path, allow_pickle=True)
        if save is not np.save:
            with loaded:
                loaded["arr_0"]
    assert (tmp_path / "caught").exists()


@pytest.mark.parametrize("array", [
    np.array(["text"]), np.array([b"text"]), np.zeros(3, "f4,i4"), np.zeros((2, 2), "V8"),
    np.array(["2020-01-01"], "M8[D]"), np.zeros(2, "m8[s]"), np.zeros(2, complex),
    np.zeros((3, 0), "U4"), np.zeros(0, object)])
def test_nothing_but_numbers(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", "no numbers")
    np.savez(tmp_path / "a.npz", fine=np.zeros(2), other=array)
    refused(tmp_path / "a.npz", "no numbers")


def test_no_file_of_arrays(tmp_path):
    refused(tmp_path, "cannot read", "directory")
    refused(tmp_path / "absent.npy", "cannot read", "No such file")
    path = tmp_path / "file"
    refused(path / "below.npy", "cannot read")
    for content in (b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"a text\nof lines\n",
                    b"\x93NUMPY", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0\xff\xff{",
                    b"\x93NUMPY\2\0\xff\xff\xff\xff{", npy(np.zeros(3)) + b"!",
                    npy_of("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -1)}"),
                    npy_of("{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}"),
                    npy_of("{" + " " * 20_000 + "}"), npz({"a": b"no array"}),
                    npz({"a": npy(np.zeros(3)), "readme": b"text"})):
        path.write_bytes(content)
        refused(path, "damaged, or no .npy or .npz file")


def test_truncated(tmp_path):
    path, array = tmp_path / "file", np.arange(6.0).reshape(2, 3)
    for content in npy(array), npz({"a": npy(array)}), npz({"a": npy(array)}, zipfile.ZIP_DEFLATED):
        for size in range(len(content)):
            path.write_bytes(content[:size])
            refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_no_wrong_bit_gets_through(tmp_path, compression):
    """An .npz has a checksum for each array; bits that nothing depends on, such as those after the
    end of a compressed one, change nothing."""
    path, array = tmp_path / "file", np.arange(20.0)
    content = npz({"a": npy(array)}, compression)
    harmless = 0
    start = 30 + len("a.npy")                       # of the zip's local header
    end = content.rindex(b"PK\x01\x02")             # here the directory begins
    for at in range(start, end):
        for bit in 1, 128:
            wrong = bytes([content[at] ^ bit])
            path.write_bytes(content[:at] + wrong + content[at + 1:])
            try:
                assert same(read_arrays(path)["a"], array)
                harmless += 1
            except UserError:
                pass
    assert harmless <= 7        # of one byte, and none where nothing is compressed
    assert harmless == 0 or compression != zipfile.ZIP_STORED


@pytest.mark.parametrize("twice", [("a.npy", "a.npy"), ("a.npy", "a")])
def test_a_name_that_comes_twice(tmp_path, twice):
    content = npz({"a": npy(np.zeros(1)), "b": npy(np.ones(1))})
    if twice[1] == "a":
        content = content.replace(b"b.npy", b"a\0npy")      # zipfile ends a name at its first 0
    else:
        content = content.replace(b"b.npy", b"a.npy")
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", "('a' comes twice)")


# A file's claims. What a refused one may take: some pieces of 1 MB, in which files are read.
FEW = 4 << 20


def lie(content, size, packed=None):
    """A zip file of one member, now said to have `size` bytes and, if given, `packed` in the
    file."""
    content = bytearray(content)
    for at in 22, content.rindex(b"PK\x01\x02") + 24:
        content[at:at + 4] = struct.pack("<I", size)
        if packed is not None:
            content[at - 4:at] = struct.pack("<I", packed)
    return bytes(content)


def test_a_header_that_claims_too_much(tmp_path):
    path = tmp_path / "file"
    for shape in f"({10**15},)", "(1000000, 1000000, 1000)", f"({10**40}, 3)", "(2000000000,)":
        for version in 1, 2:
            claim = npy_of(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}",
                           bytes(100), version)
            for content in [claim] + [
                    lie(npz({"a": claim}, compression), size, packed)
                    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    for size in (len(claim), 2_000_000_000, (1 << 32) - 2)
                    for packed in (None, 2_000_000_000)]:
                path.write_bytes(content)
                assert peak_memory(lambda: refused(path)) < FEW


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_more_than_it_says(tmp_path, compression):
    """16 MB of zeros in a few kB that are said to be 200 bytes."""
    path = tmp_path / "file"
    path.write_bytes(lie(npz({"a": npy(np.zeros(16 << 20, np.uint8))}, compression), 200))
    assert path.stat().st_size < 50_000
    assert peak_memory(lambda: refused(path)) < FEW


def test_limit(tmp_path, monkeypatch):
    """What is compressed unpacks to LIMIT at most, all of a file together; what is larger is not
    read at all. What is not compressed is as large as the file, and may be larger."""
    path, array = tmp_path / "file", np.zeros(50_000, np.uint8)
    member = npy(array)
    size = 3 * len(member)
    path.write_bytes(npz({"a": member, "b": member, "c": member}, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(files, "LIMIT", size)
    assert all(same(found, array) for found in read_arrays(path).values())
    monkeypatch.setattr(files, "LIMIT", size - 1)
    refused(path, f"more than {size - 1} bytes", "np.savez")
    for content in (member, npz({"a": member, "b": member, "c": member})):
        path.write_bytes(content)
        assert all(same(found, array) for found in read_arrays(path).values())
    path.write_bytes(npz({"bomb": npy(np.zeros(20 << 20, np.uint8))}, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(files, "LIMIT", 1 << 20)
    assert path.stat().st_size < 50_000
    assert peak_memory(lambda: refused(path, "more than")) < 1 << 19    # not one piece


@pytest.mark.parametrize("which", ["npy", "npz", "compressed npz", "npz of damaged arrays"])
def test_fuzz(tmp_path, which):
    """Whatever the bytes, the reader answers with arrays of numbers or with a UserError of one
    line; `python tests/fuzz.py` tries many more."""
    path = tmp_path / "file"
    a = npy(np.arange(12, dtype=">f4").reshape(3, 4))
    b = npy(np.asfortranarray(np.eye(3, dtype=int)))

    def content(draw):
        if which == "npz of damaged arrays":
            return npz({"a": mutated(draw, a, b), "b": b})
        compression = zipfile.ZIP_DEFLATED if "compressed" in which else zipfile.ZIP_STORED
        return mutated(draw, a if which == "npy" else npz({"a": a, "b": b}, compression), b)

    def read():
        for array in read_arrays(path).values():
            assert type(array) is np.ndarray and array.dtype.kind in "biuf"

    outcomes = []
    for seed in range(300):
        path.write_bytes(content(random.Random(seed)))
        outcomes.append(attempt(read, FEW))
    assert min(outcomes.count("read"), outcomes.count("refused")) > 15      # both ways are taken


def test_a_link_stays_a_link(tmp_path):
    """What it leads to is replaced."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    with replaced(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["file"]
