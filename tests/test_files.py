"""Tests of files.py: atomic writes, and reading of valid, damaged and malicious files."""

import errno
import os
import pathlib
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest

from tinygan import files
from tinygan.backend import UserError
from tinygan.files import atomic_write, read_arrays, write_text

from fuzz import attempt, make_npy, make_npy_with_header, make_npz, mutate
from helpers import peak_memory

pytestmark = pytest.mark.host


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_refused(path, *words):
    """Assert that the reader refuses `path` in one line with its path, once, and `words`."""
    with pytest.raises(UserError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.count(str(path)) == 1
    for word in words:
        assert word in message.replace(str(path), ""), message      # outside the path


# Writing

@pytest.mark.parametrize("old", [None, b"", b"old and longer than the new one"])
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_the_file_has_the_written_bytes(tmp_path, old, kind):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with atomic_write(kind(path)) as file:
        file.write(b"one\n")
        file.write(b"two\r\n\0")
        assert not path.exists() if old is None else path.read_bytes() == old
    assert path.read_bytes() == b"one\ntwo\r\n\0" and list_names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes, and other permissions")
def test_pipes_and_permissions_are_kept(tmp_path):
    """A pipe is written to and not replaced; a replaced file keeps its permissions."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as file:
        file.write(b"through")
    assert (os.read(reader, 100) == b"through" and pipe.is_fifo()
            and list_names(tmp_path) == ["pipe"])
    os.close(reader)
    (tmp_path / "mine").write_bytes(b"old")
    (tmp_path / "mine").chmod(0o600)
    with atomic_write(tmp_path / "mine") as file:
        file.write(b"new")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "mine").read_bytes() == b"new"


@pytest.mark.parametrize("error", [
    ValueError("x"), OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt(), SystemExit(1),
    MemoryError()])
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("moment", ["first", "between", "last", "to the disk", "to its name"])
def test_an_error_leaves_the_old_file(tmp_path, monkeypatch, error, old, moment):
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
        with atomic_write(path) as file:
            for part in "first", "between", "last":
                if part == moment:
                    fail()
                file.write(bytes(100_000))      # more than the buffer, so it is partly written
    assert caught.value is error
    assert list_names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_a_full_disk_raises(tmp_path):
    """If the disk is full when the buffer is written at the end, ENOSPC is raised.

    Every write to /dev/full fails.
    """
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == os.path.realpath(tmp_path / "file")     # not that of file.tmp
    assert list_names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_an_error_of_a_device_names_it():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError) as caught, atomic_write("/dev/full") as file:
        file.write(b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_tmp_file_of_a_killed_process_is_overwritten(tmp_path):
    path, stale = tmp_path / "file", tmp_path / "file.tmp"
    stale.write_bytes(b"half of something, longer than what comes now")
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and list_names(tmp_path) == ["file"]
    stale.write_bytes(b"half")
    with pytest.raises(ValueError):
        with atomic_write(path) as file:
            raise ValueError
    assert path.read_bytes() == b"whole" and list_names(tmp_path) == ["file"]


def test_the_bytes_are_on_disk_before_the_file_is_renamed(tmp_path, monkeypatch):
    """Without fsync, a power cut could leave an empty file in place of the old one."""
    order, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        fsync(handle)
        order.append(os.fstat(handle).st_size)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *args: order.append("named") or replace(*args))
    with atomic_write(tmp_path / "file") as file:
        file.write(bytes(10))           # still in the buffer when the block ends
    assert order == [10, "named"]


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        with atomic_write(tmp_path / "absent" / "file"):
            pass
    assert caught.value.__context__ is None         # there was no other error before
    assert caught.value.filename == str(tmp_path / "absent" / "file")       # and no other name
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        with atomic_write(tmp_path / "folder") as file:
            file.write(b"new")
    assert list_names(tmp_path) == ["folder"]


# Reading

def is_same(a, b):
    """Return whether two arrays have the same dtype (with its byte order), shape and bytes."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def random_numbers(dtype, shape):
    """Return random numbers of any dtype; some floats are NaN or infinite."""
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
        c = np.asarray(random_numbers(dtype, shape), dtype)
        for array in c, np.asfortranarray(c), np.repeat(c, 2, axis=-1)[..., ::2] if shape else c:
            np.save(tmp_path / "a.npy", array)
            (name, found), = read_arrays(tmp_path / "a.npy").items()
            assert name == "" and is_same(found, array)
        arrays = {"c": c, "of fortran's": np.asfortranarray(c), "é.1/x": c.T}
        for save in np.savez, np.savez_compressed:
            save(tmp_path / "a.npz", **arrays)
            found = read_arrays(tmp_path / "a.npz")
            assert list(found) == list(arrays)
            assert all(is_same(found[name], arrays[name]) for name in arrays)


def test_the_format_is_known_by_the_content(tmp_path):
    array = np.arange(3)
    (tmp_path / "a.npz").write_bytes(make_npy(array))
    (tmp_path / "b.npy").write_bytes(make_npz({"x": make_npy(array)}))
    assert is_same(read_arrays(tmp_path / "a.npz")[""], array)
    assert is_same(read_arrays(str(tmp_path / "b.npy"))["x"], array)


def test_header_versions(tmp_path):
    path = tmp_path / "a"
    for version, dtype, reason in (1, "'<f4'", None), (2, "'<f4'", None), (3, "'<f4'", "version"):
        header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': (2, 3), }}"
        path.write_bytes(make_npy_with_header(header, bytes(24), version))
        if reason:
            assert_refused(path, reason)       # only arrays with named fields need version 3
        else:
            assert is_same(read_arrays(path)[""], np.zeros((2, 3), np.float32))


# Refusing

class Malicious:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_nothing_is_executed(tmp_path, save):
    array = np.empty(1, object)
    array[0] = Malicious(tmp_path / "caught")
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array)
    assert_refused(path, "object")
    assert not (tmp_path / "caught").exists()
    with np.errstate(all="ignore"):     # numpy's unpickling does create the folder
        loaded = np.load(path, allow_pickle=True)
        if save is not np.save:
            with loaded:
                loaded["arr_0"]
    assert (tmp_path / "caught").exists()


@pytest.mark.parametrize("array", [
    np.array(["text"]), np.array([b"text"]), np.zeros(3, "f4,i4"), np.zeros((2, 2), "V8"),
    np.array(["2020-01-01"], "M8[D]"), np.zeros(2, "m8[s]"), np.zeros(2, complex),
    np.zeros((3, 0), "U4"), np.zeros(0, object)])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert_refused(tmp_path / "a.npy", "no numbers")
    np.savez(tmp_path / "a.npz", fine=np.zeros(2), other=array)
    assert_refused(tmp_path / "a.npz", "no numbers")


def test_other_files_are_refused(tmp_path):
    assert_refused(tmp_path, "cannot read", "directory")
    assert_refused(tmp_path / "absent.npy", "cannot read", "No such file")
    path = tmp_path / "file"
    assert_refused(path / "below.npy", "cannot read")
    for content in (b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"a text\nof lines\n",
                    b"\x93NUMPY", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0\xff\xff{",
                    b"\x93NUMPY\2\0\xff\xff\xff\xff{", make_npy(np.zeros(3)) + b"!",
                    make_npy_with_header(
                        "{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -1)}"),
                    make_npy_with_header(
                        "{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}"),
                    make_npy_with_header("{" + " " * 20_000 + "}"), make_npz({"a": b"no array"}),
                    make_npz({"a": make_npy(np.zeros(3)), "readme": b"text"})):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # pytest makes errors of warnings, programs do not
            assert_refused(path, "damaged, or is not an .npy or .npz file")


def test_truncated_files_are_refused(tmp_path):
    path, array = tmp_path / "file", np.arange(6.0).reshape(2, 3)
    npy = make_npy(array)
    for content in npy, make_npz({"a": npy}), make_npz({"a": npy}, zipfile.ZIP_DEFLATED):
        for size in range(len(content)):
            path.write_bytes(content[:size])
            assert_refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_bit_is_refused(tmp_path, compression):
    """An array with a changed bit does not have its checksum, and is refused.

    A few bits do not matter, such as those after the end of the compressed data.
    """
    path, array = tmp_path / "file", np.arange(20.0)
    content = make_npz({"a": make_npy(array)}, compression)
    harmless = 0
    start = 30 + len("a.npy")                       # of the zip's local header
    end = content.rindex(b"PK\x01\x02")             # the start of the zip's directory
    for at in range(start, end):
        for bit in 1, 128:
            wrong = bytes([content[at] ^ bit])
            path.write_bytes(content[:at] + wrong + content[at + 1:])
            try:
                assert is_same(read_arrays(path)["a"], array)
                harmless += 1
            except UserError:
                pass
    assert harmless <= 7        # bits of one byte, and none in a file without compression
    assert harmless == 0 or compression != zipfile.ZIP_STORED


@pytest.mark.parametrize("twice", [("a.npy", "a.npy"), ("a.npy", "a")])
def test_two_arrays_of_one_name_are_refused(tmp_path, twice):
    content = make_npz({"a": make_npy(np.zeros(1)), "b": make_npy(np.ones(1))})
    if twice[1] == "a":
        content = content.replace(b"b.npy", b"a\0npy")      # zipfile ends a name at its first 0
    else:
        content = content.replace(b"b.npy", b"a.npy")
    (tmp_path / "file").write_bytes(content)
    assert_refused(tmp_path / "file", "('a' comes twice)")


# Wrong sizes. A reader may use a few MB before it refuses a file, as it reads pieces of 1 MB.
FEW_MB = 4 << 20


def change_sizes(content, size, packed=None):
    """Return a zip file of one member with other sizes in its headers.

    The member is said to have `size` bytes and, if `packed` is given, that many compressed ones.
    """
    content = bytearray(content)
    for at in 22, content.rindex(b"PK\x01\x02") + 24:
        content[at:at + 4] = struct.pack("<I", size)
        if packed is not None:
            content[at - 4:at] = struct.pack("<I", packed)
    return bytes(content)


def test_a_header_with_a_huge_shape_is_refused(tmp_path):
    path = tmp_path / "file"
    for shape in f"({10**15},)", "(1000000, 1000000, 1000)", f"({10**40}, 3)", "(2000000000,)":
        for version in 1, 2:
            claim = make_npy_with_header(
                f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}", bytes(100),
                version)
            for content in [claim] + [
                    change_sizes(make_npz({"a": claim}, compression), size, packed)
                    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    for size in (len(claim), 2_000_000_000, (1 << 32) - 2)
                    for packed in (None, 2_000_000_000)]:
                path.write_bytes(content)
                assert peak_memory(lambda: assert_refused(path)) < FEW_MB


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_is_larger_than_its_header_says_is_refused(tmp_path, compression):
    """A member of 16 MB of zeros whose header says 200 bytes is refused."""
    path = tmp_path / "file"
    content = make_npz({"a": make_npy(np.zeros(16 << 20, np.uint8))}, compression)
    path.write_bytes(change_sizes(content, 200))
    assert path.stat().st_size < 50_000
    assert peak_memory(lambda: assert_refused(path)) < FEW_MB


def test_the_limit_for_compressed_arrays(tmp_path, monkeypatch):
    """The compressed arrays of a file may have LIMIT bytes in total; a larger file is not read.

    Arrays without compression may be larger: they have no more bytes than the file itself.
    """
    path, array = tmp_path / "file", np.zeros(50_000, np.uint8)
    member = make_npy(array)
    size = 3 * len(member)
    path.write_bytes(make_npz({"a": member, "b": member, "c": member}, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(files, "LIMIT", size)
    assert all(is_same(found, array) for found in read_arrays(path).values())
    monkeypatch.setattr(files, "LIMIT", size - 1)
    assert_refused(path, f"more than {size - 1} bytes", "np.savez")
    for content in (member, make_npz({"a": member, "b": member, "c": member})):
        path.write_bytes(content)
        assert all(is_same(found, array) for found in read_arrays(path).values())
    zeros = make_npy(np.zeros(20 << 20, np.uint8))
    path.write_bytes(make_npz({"bomb": zeros}, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(files, "LIMIT", 1 << 20)
    assert path.stat().st_size < 50_000
    assert peak_memory(lambda: assert_refused(path, "more than")) < 1 << 19    # less than one piece


@pytest.mark.parametrize("which", ["npy", "npz", "compressed npz", "npz of damaged arrays"])
def test_fuzz(tmp_path, which):
    """For any bytes the reader returns arrays of numbers or raises a UserError of one line.

    `python tests/fuzz.py` has many more cases.
    """
    path = tmp_path / "file"
    a = make_npy(np.arange(12, dtype=">f4").reshape(3, 4))
    b = make_npy(np.asfortranarray(np.eye(3, dtype=int)))

    def content(draw):
        if which == "npz of damaged arrays":
            return make_npz({"a": mutate(draw, a, b), "b": b})
        compression = zipfile.ZIP_DEFLATED if "compressed" in which else zipfile.ZIP_STORED
        return mutate(draw, a if which == "npy" else make_npz({"a": a, "b": b}, compression), b)

    def read():
        for array in read_arrays(path).values():
            assert type(array) is np.ndarray and array.dtype.kind in "biuf"

    outcomes = []
    for seed in range(300):
        path.write_bytes(content(random.Random(seed)))
        outcomes.append(attempt(read, FEW_MB))
    assert min(outcomes.count("read"), outcomes.count("refused")) > 15      # both occur


def test_a_link_stays_a_link(tmp_path):
    """The file that the link points to is replaced."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["file"]


def test_a_text_is_written_as_it_is(tmp_path):
    write_text(tmp_path / "text", "Fréchet\n1\n")
    assert (tmp_path / "text").read_bytes() == "Fréchet\n1\n".encode()
