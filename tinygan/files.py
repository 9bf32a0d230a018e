"""Files: written whole or not at all, and read without believing what they say of themselves."""

import contextlib
import io
import math
import os
import stat
import warnings

import numpy as np

from .backend import UserError

LIMIT = 1 << 31     # bytes that what is compressed may unpack to


@contextlib.contextmanager
def replaced(path):
    """Context that gives a binary file to write. Where it ends well that becomes the file at
    `path`; else, and if the process is killed at any moment, the old one is left as it was. (Then
    `path`.tmp may be left too, which the next attempt replaces.) A device or a pipe is written to
    as it is."""
    path = os.path.realpath(path)       # what a link leads to, not the link
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            yield file
        return
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            if os.path.exists(path):        # who could not read the old one cannot read this
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())     # on the disk, before it has the name
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def read_arrays(path):
    """{name: array of numbers} of the .npz file at `path`, or {"": array} of an .npy file, which
    its content tells, not its name.

    Raises UserError if it is neither, or damaged, or holds anything but numbers: nothing of it is
    executed, and no more is read than there is, and of what is compressed than LIMIT.
    """
    import zipfile      # here, as it takes 8 ms: more than the rest of this file

    try:
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            if file.read(2) != b"PK":
                file.seek(0)
                return {"": _array(file, size)}
            arrays, left = {}, max(size, LIMIT)
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in arrays:
                        raise ValueError(f"{name!r} comes twice")
                    # others unpack without a limit
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(f"{name!r} is compressed in another way than numpy's")
                    left -= member.file_size
                    if left < 0:
                        raise UserError(f"{path} unpacks to more than {LIMIT} bytes: save it "
                                        "uncompressed, by np.savez or np.save")
                    with archive.open(member) as content:
                        arrays[name] = _array(content, member.file_size)
            return arrays
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}): check that it is a file "
                        "that you may read") from None
    except Exception as error:      # zipfile and numpy have a dozen kinds of them for bad content
        reason = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} is damaged, or no .npy or .npz file of numbers ({reason[0]})"
                        ) from None


def _array(file, size):
    """The array in an .npy file that is said to have `size` bytes."""
    content = bytearray()
    while piece := file.read(min(1 << 20, size + 1 - len(content))):    # one more shows a lie
        content += piece
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes where it says {size}")
    header = io.BytesIO(content[:1 << 16])
    version = np.lib.format.read_magic(header)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format")
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")                  # such as of headers that Python 2 wrote
        shape, fortran, dtype = read[version[0]](header)
    if dtype.kind not in "biuf":
        raise ValueError(f"no numbers but {dtype}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - header.tell():
        raise ValueError(f"{size - header.tell()} bytes for {dtype} of shape {shape}")
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(
        shape, order="F" if fortran else "C")
