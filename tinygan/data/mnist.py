"""MNIST: 70,000 handwritten digits of 28x28 grey pixels (LeCun, Cortes, Burges).

    data = mnist.load()
    data.train.images       uint8 (50000, 1, 28, 28), 0 is the black background
    data.train.labels       uint8 (50000,), 0 ... 9
    data.source             a text for the user that says where the data came from

The training images are split 50,000 / 10,000 into training and validation, as in Goodfellow et al.
(2014). The files come from a folder that the user names, or else from the cache, or else from the
network. If the download fails, the sample of 10,000 images beside this file takes their place:
everything runs, but the results are worse.
"""

import contextlib
import gzip
import hashlib
import math
import os
import pathlib
import queue
import struct
import sys
import tempfile
import threading
import zlib

import numpy as np

from ..backend import UserError
from ..files import PIECE, read_at_most
from .arrays import DataSet, Split, check_images

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")
TIMEOUT = 10                # seconds to wait for an answer of a mirror
LIMIT = 1 << 28             # the largest array or download in bytes: five times MNIST

FILES = {                   # name: number of dimensions, md5 of the decompressed content
    "train-images-idx3-ubyte": (3, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (1, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (3, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (1, "27ae3e4e09519cfbb04c329615203637"),
}


def load(folder: str | os.PathLike | None = None) -> DataSet:
    """Return MNIST, or data of its format, from the first of these places.

    1. `folder`. It may hold any data in MNIST's format; the last sixth of the training images is
       for validation
    2. the user's cache
    3. the network (11 MB, which are then kept in the cache)
    4. the bundled sample; `source` says why the download failed

    Raises UserError if a file in the folder of (1) is missing or wrong. The other places raise no
    error.
    """
    if folder:
        folder = pathlib.Path(os.path.expanduser(folder))
        paths = [_require(folder, name) for name in FILES]
        train, test = _read_split(*paths[:2]), _read_split(*paths[2:])
        if train.images.shape[1:] != test.images.shape[1:]:
            sizes = [_format_shape(split.images.shape[2:]) for split in (train, test)]
            raise UserError(f"{paths[0]} holds images of {sizes[0]} pixels, but {paths[2]} of "
                            f"{sizes[1]}: give files that belong together")
    else:
        folder = _cache_folder()
        try:
            arrays = [_load_official(folder, name) for name in FILES]
        except OSError as error:
            return load_sample(" ".join(f"because {error}".split()))
        train, test = _make_split(*arrays[:2]), _make_split(*arrays[2:])
    return DataSet(*train.hold_out(), test, f"the four files in {folder}", os.path.abspath(folder))


def load_sample(why: str = "") -> DataSet:
    """Return the bundled sample: MNIST's first 10,000 training images.

    They are split 8,000 / 1,000 / 1,000. `why`, such as "because ...", is a reason for taking the
    sample that is added to `source`.
    """
    here = pathlib.Path(__file__).parent
    whole = _read_split(here / "sample-images-idx3-ubyte.gz", here / "sample-labels-idx1-ubyte.gz")
    parts = (whole.part(slice(*ends)) for ends in [(8000,), (8000, 9000), (9000, None)])
    reason = f", {why}" if why else ""
    return DataSet(*parts, f"the bundled sample, 10,000 of MNIST's 70,000 images{reason}; for the "
                   "full set give --data DIR, a folder with its four files", "sample")


def _make_split(images, labels):
    return Split(images=images[:, None], labels=labels)     # (N, 1, 28, 28): one channel, grey


# Files: a folder that the user names

def find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Return the path of the file `name` in `folder`, or None if it is not there.

    Its name may have ".idx" for "-idx", and may end in ".gz". Raises UserError if the folder cannot
    be read.
    """
    for base in (name, name.replace("-idx", ".idx")):
        for path in (folder / base, folder / f"{base}.gz"):
            if os.path.isfile(path):
                return path
    try:        # isfile() is also False for a folder that may not be read or searched
        os.listdir(folder)
        os.lstat(folder / name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check that it is a folder "
                        "that you may read, or give another by --data") from None
    return None


def _require(folder, name):
    """Return the path of the file `name` in `folder`; raise UserError if it is not there."""
    if path := find(folder, name):
        return path
    what = f"no file {name} in {folder}" if os.path.isdir(folder) else f"no file or folder {folder}"
    raise UserError(f"there is {what}: give --data (or TINYGAN_DATA) a folder with the four files "
                    f"{', '.join(FILES)}, uncompressed or as .gz; or an .npz or .npy file of "
                    "images")


def _read_split(images_path, labels_path):
    """Return the Split in two IDX files; raise UserError if they do not belong together."""
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise UserError(f"{images_path} holds {len(images)} images but {labels_path} holds "
                        f"{len(labels)} labels: give two files that belong together")
    check_images(images, f"{images_path} holds")
    return _make_split(images, labels)


def read_idx(path: str | os.PathLike, ndim: int) -> np.ndarray:
    """Return the uint8 array of `ndim` dimensions (3: images, 1: labels) in an IDX file.

    An IDX file begins with a header of big-endian 32-bit numbers: first 0x0800 + ndim, where 08
    stands for unsigned bytes, and then the shape. The elements follow, last dimension fastest. The
    file may be compressed with gzip, which its content shows, not its name.

    Raises UserError for any other content. The header is not trusted: the content is read in small
    pieces, and at most one byte more than the header announces.
    """
    head_size = 4 + 4 * ndim
    kind = "images" if ndim == 3 else "labels"
    try:
        with open(path, "rb") as file:
            content = gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file
            head = content.read(head_size)
            if len(head) < head_size:
                raise UserError(f"{path} holds {len(head)} bytes, but the header of an IDX file of "
                                f"{kind} alone has {head_size}: fetch it again")
            magic, *shape = struct.unpack(f">{1 + ndim}I", head)
            if magic != 0x800 + ndim:
                raise UserError(f"{path} begins with 0x{magic:08x}, but an IDX file of {kind} "
                                f"begins with 0x{0x800 + ndim:08x}: give a file of {kind}")
            size = math.prod(shape)
            if not 0 < size <= LIMIT:
                raise UserError(f"the header of {path} gives the shape {_format_shape(shape)}: "
                                f"give an array of at least 1 and at most {LIMIT} bytes")
            data = read_at_most(content, size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}): fetch it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check that it is a file that "
                        "you may read") from None
    if len(data) != size:
        found = f"only {len(data)}" if len(data) < size else "more"
        raise UserError(f"{path} should hold {size} bytes after its header of {head_size}, as the "
                        f"header says, but holds {found}: fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _format_shape(shape):
    return "x".join(map(str, shape))


# Files: the official ones, in the cache or from the network

def _cache_folder():
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base, "tinygan", "mnist")


def _load_official(cache, name):
    """Return the array in the official file `name`, after downloading it if it is not in `cache`.

    Raises OSError if no mirror sends it or the cache cannot be written.
    """
    path = cache / f"{name}.gz"
    try:
        return _read_verified(path, name)
    except UserError:               # missing or damaged
        return _download(path, name)


def _read_verified(path, name):
    """Return the array in the file at `path`; raise UserError if it is not the official `name`."""
    ndim, md5 = FILES[name]
    array = read_idx(path, ndim)
    # the array determines the content of its IDX file, so the file need not be unpacked twice
    content = hashlib.md5(struct.pack(f">{1 + ndim}I", 0x800 + ndim, *array.shape),
                          usedforsecurity=False)
    content.update(array)
    if content.hexdigest() != md5:
        raise UserError(f"{path} does not have the md5 {md5} of the official {name}")
    return array


def _download(path, name):
    """Download the official file `name` to `path` and return its array.

    Raises OSError if no mirror sends it or it cannot be written.
    """
    import http.client      # imported here because it takes a tenth of the import of tinygan

    path.parent.mkdir(parents=True, exist_ok=True)
    # a unique temporary name, as other processes may be downloading the same file
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    os.close(handle)
    problems = []
    try:
        for mirror in MIRRORS:
            try:
                _transfer(f"{mirror}{name}.gz", temporary)
                array = _read_verified(temporary, name)
                os.replace(temporary, path)
                return array
            except UserError:
                problems.append(f"{mirror} sent something else")
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None)         # of a URLError: an OSError
                problems.append(f"{mirror}: {getattr(reason, 'strerror', None) or error}")
        raise ConnectionError(f"{name}.gz could not be downloaded ({', '.join(problems)})")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _transfer(url, path):
    """Save the content of `url` at `path`, with the progress on standard error."""
    terminal = sys.stderr.isatty()
    print(f"downloading {url}", end="" if terminal else "\n", file=sys.stderr, flush=True)
    try:
        with _open(url) as response, open(path, "wb") as file:
            total = response.length             # None if the server does not announce it
            while piece := response.read(PIECE):
                file.write(piece)
                if file.tell() > LIMIT:
                    raise UserError(f"{url} sends more than {LIMIT} bytes")
                if terminal and total:
                    print(f"\rdownloading {url} {100 * file.tell() // total:3d} %", end="",
                          file=sys.stderr, flush=True)
    finally:
        if terminal:
            print(file=sys.stderr)


def _open(url):
    """Return the response of `url`; raise TimeoutError after TIMEOUT seconds without one.

    urlopen's own timeout is not enough: it starts anew with each address of a mirror. A mirror has
    many addresses, and behind a firewall that drops packets their timeouts add up to minutes.
    """
    import urllib.error     # imported here for the reason given in _download
    import urllib.request

    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.urlopen(url, timeout=TIMEOUT))
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()       # an HTTPError keeps the connection open
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
