"""Atomic writes, and reading of array files from untrusted sources."""

import contextlib
import io
import math
import os
import stat
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from .backend import UserError

LIMIT = 1 << 31     # bytes to which the arrays of a compressed file may unpack, all together
PIECE = 1 << 16     # bytes read at a time


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` atomically when the context ends without an error.

    After an error, or if the process is killed at any moment, `path` is as it was before. A killed
    process may leave `path`.tmp behind; the next write replaces it. If `path` is a symbolic link,
    the file that it points to is replaced. If it is a device or a pipe, the context writes to it
    directly.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        try:
            with open(path, "wb") as file:
                yield file
        except OSError as error:
            if error.errno:
                error.filename = error.filename or path
            raise
        return
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            if os.path.exists(path):        # keep its permissions: it may be private
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            yield file
            file.flush()
            # before the file gets its name: a power cut could otherwise leave an empty `path`
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename in (temporary, None):
            error.filename = path           # the name that the user knows
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text to a file, in UTF-8 and atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read an .npz file as {name: array}, or an .npy file as {"": array}.

    The content of the file decides which of the two it is, not its name. The file is not trusted:
    pickled objects are refused, so nothing is executed; no more bytes are read than the file has;
    and compressed arrays may unpack to LIMIT bytes at most (to the size of the file, if that is
    larger).

    Raises UserError if the file cannot be read, is damaged, has another format, or holds anything
    but integers, floats and booleans.
    """
    import zipfile      # imported here because it takes 8 ms, more than the rest of this file

    try:
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            if file.read(2) != b"PK":
                file.seek(0)
                return {"": _read_array(file, size)}
            arrays, left = {}, max(size, LIMIT)
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in arrays:
                        raise ValueError(f"{name!r} comes twice")
                    # zipfile unpacks other methods without a limit on the memory
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(f"{name!r} has a compression that numpy does not write")
                    left -= member.file_size
                    if left < 0:
                        raise UserError(f"{path} unpacks to more than {LIMIT} bytes: save it "
                                        "uncompressed, by np.savez or np.save")
                    with archive.open(member) as content:
                        arrays[name] = _read_array(content, member.file_size)
            return arrays
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}): check that it is a file "
                        "that you may read") from None
    except Exception as error:      # zipfile and numpy raise a dozen types for damaged content
        reason = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} is damaged, or is not an .npy or .npz file of numbers "
                        f"({reason[0]})") from None


def read_at_most(file: BinaryIO, size: int) -> bytearray:
    """Read up to `size` bytes in small pieces, so that a false size takes no memory."""
    content = bytearray()
    while piece := file.read(min(PIECE, size - len(content))):
        content += piece
    return content


def _read_array(file, size):
    """Return the array of an open .npy file, which is claimed to have `size` bytes.

    Raises an Exception of some type if the claim or the content is wrong.
    """
    content = read_at_most(file, size + 1)      # a byte more, to notice a file that is too long
    if len(content) != size:
        raise ValueError(f"it claims to have {size} bytes, but has "
                         f"{'more' if len(content) > size else len(content)}")
    header = io.BytesIO(content[:1 << 16])
    version = np.lib.format.read_magic(header)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format is not supported")
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # numpy warns of headers that Python 2 wrote
        shape, fortran, dtype = read[version[0]](header)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds no numbers, but values of dtype {dtype}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - header.tell():
        raise ValueError(f"it has {size - header.tell()} bytes for an array of shape {shape} and "
                         f"dtype {dtype}")
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(
        shape, order="F" if fortran else "C")
