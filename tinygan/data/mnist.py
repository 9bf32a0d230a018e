"""MNIST: 70,000 handwritten digits of 28x28 grey pixels (LeCun, Cortes, Burges).

    data = mnist.load()
    data.train.images       uint8 (50000, 1, 28, 28), 0 is the black background
    data.train.labels       uint8 (50000,), 0 ... 9
    data.source             a sentence for the user: where it came from

The training images are split 50,000 / 10,000 as in Goodfellow et al. (2014). They come from a
folder of the user's, else from the cache, else from the network; where that fails, from the sample
of 10,000 images beside this file, so that everything runs, only not as well.
"""

import contextlib
import gzip
import hashlib
import http.client
import math
import os
import pathlib
import queue
import struct
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zlib

import numpy as np

from ..backend import UserError
from .arrays import DataSet, Split, check_images

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")
TIMEOUT = 10                # seconds without an answer after which a mirror is given up
LIMIT = 1 << 28             # bytes: five times MNIST, and no file's claim makes us hold more
PIECE = 1 << 16             # bytes read at a time

FILES = {                   # name: number of dimensions, md5 of the content (decompressed)
    "train-images-idx3-ubyte": (3, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (1, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (3, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (1, "27ae3e4e09519cfbb04c329615203637"),
}


def load(folder=None):
    """MNIST, from the first of these:

    1. `folder`, or else the one that the environment variable TINYGAN_DATA names. It may hold any
       data in MNIST's format; the last sixth of the training images is for validation
    2. the user's cache
    3. the network (11 MB, which the cache keeps)
    4. the bundled sample; `source` says why

    Raises UserError if a file in the folder of (1) is missing or wrong; the others do not fail.
    """
    folder = folder or os.environ.get("TINYGAN_DATA")
    if folder:
        folder = pathlib.Path(os.path.expanduser(folder))
        paths = [_find(folder, name) for name in FILES]
        train, test = _read(*paths[:2]), _read(*paths[2:])
        if train.images.shape[1:] != test.images.shape[1:]:
            raise UserError(f"{paths[0]} holds images of {_times(train.images.shape[2:])} pixels, "
                            f"{paths[2]} of {_times(test.images.shape[2:])}: give files that "
                            "belong together")
    else:
        folder = _cache()
        try:
            arrays = [_official(folder, name) for name in FILES]
        except OSError as error:
            return load_sample(" ".join(f"because {error}".split()))
        train, test = _digits(*arrays[:2]), _digits(*arrays[2:])
    n = len(train.labels) - len(train.labels) // 6
    return DataSet(train.part(slice(n)), train.part(slice(n, None)), test,
                   f"the four files in {folder}", os.path.abspath(folder))


def load_sample(why="as asked"):
    """The first 10,000 training images, split 8,000 / 1,000 / 1,000; they come with tinygan: this
    needs no network. `why` goes into `source`."""
    here = pathlib.Path(__file__).parent
    whole = _read(here / "sample-images-idx3-ubyte.gz", here / "sample-labels-idx1-ubyte.gz")
    parts = (whole.part(slice(*ends)) for ends in [(8000,), (8000, 9000), (9000, None)])
    return DataSet(*parts, f"the bundled sample, 10,000 of MNIST's 70,000 images, {why}; for the "
                   "full set give --data DIR, a folder with its four files", "sample")


def _digits(images, labels):
    return Split(images=images[:, None], labels=labels)     # (N, 1, 28, 28): one channel, grey


# Files: a folder of the user's

def find(folder, name):
    """Return the path of the file `name` in `folder`, under any of the names it is known by.

    None if it is not there.
    """
    for base in (name, name.replace("-idx", ".idx")):
        for path in (folder / base, folder / f"{base}.gz"):
            if os.path.isfile(path):
                return path
    return None


def _find(folder, name):
    """Return the path of the file `name` in `folder`; UserError if it is not there."""
    if path := find(folder, name):
        return path
    what = f"no file {name} in {folder}" if os.path.isdir(folder) else f"no file or folder {folder}"
    raise UserError(f"there is {what}: --data (or TINYGAN_DATA) wants a folder with the four files "
                    f"{', '.join(FILES)}, each as it is or as .gz; or an .npz or .npy file of "
                    "images")


def _read(images_path, labels_path):
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise UserError(f"{images_path} holds {len(images)} images but {labels_path} holds "
                        f"{len(labels)} labels: give two files that belong together")
    check_images(images, f"{images_path} holds")
    return _digits(images, labels)


def read_idx(path, ndim):
    """The uint8 array of `ndim` dimensions (3: images, 1: labels) in the IDX file at `path`.

    An IDX file is a header of big-endian 32-bit numbers, 0x0800 + ndim (08: of unsigned bytes) and
    then the shape, followed by the bytes, last dimension fastest. It may be compressed with gzip,
    which its content tells, not its name.

    Raises UserError if it is anything else. What the header claims is not believed: content is read
    piece by piece, and no more of it than the one byte that shows there is too much.
    """
    head_size = 4 + 4 * ndim
    kind = "images" if ndim == 3 else "labels"
    try:
        with open(path, "rb") as file:
            content = gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file
            head = content.read(head_size)
            if len(head) < head_size:
                raise UserError(f"{path} holds {len(head)} bytes, where the header alone of an IDX "
                                f"file of {kind} has {head_size}: fetch it again")
            magic, *shape = struct.unpack(f">{1 + ndim}I", head)
            if magic != 0x800 + ndim:
                raise UserError(f"{path} begins with 0x{magic:08x}, where an IDX file of {kind} "
                                f"begins with 0x{0x800 + ndim:08x}: give a file of {kind}")
            size = math.prod(shape)
            if not 0 < size <= LIMIT:
                raise UserError(f"{path} says that its shape is {_times(shape)}: give a file of at "
                                f"least 1 and at most {LIMIT} bytes")
            data = bytearray()
            while piece := content.read(min(PIECE, size + 1 - len(data))):
                data += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}): fetch it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check that it is a file that "
                        "you may read") from None
    if len(data) != size:
        found = f"only {len(data)}" if len(data) < size else "more"
        raise UserError(f"{path} should hold {size} bytes after its header of {head_size}, as that "
                        f"says, but holds {found}: fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _times(shape):
    return "x".join(map(str, shape))


# Files: the official ones, in the cache or from the network

def _cache():
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base, "tinygan", "mnist")


def _official(cache, name):
    """The array in the official file `name`: from the cache, or downloaded into it.

    Raises OSError if no mirror sends it or the cache cannot be written.
    """
    path = cache / f"{name}.gz"
    try:
        return _verified(path, name)
    except UserError:               # not there, or damaged
        return _download(path, name)


def _verified(path, name):
    """The array in the file at `path`; UserError unless it is that of the official file `name`."""
    ndim, md5 = FILES[name]
    array = read_idx(path, ndim)
    # an array has one IDX file, so its checksum needs no second pass over the compressed file
    content = hashlib.md5(struct.pack(f">{1 + ndim}I", 0x800 + ndim, *array.shape),
                          usedforsecurity=False)
    content.update(array)
    if content.hexdigest() != md5:
        raise UserError(f"{path} has not the md5 {md5} of the official {name}")
    return array


def _download(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    # under a name of its own until complete: other processes may be downloading the same
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    os.close(handle)
    problems = []
    try:
        for mirror in MIRRORS:
            try:
                _transfer(f"{mirror}{name}.gz", temporary)
                array = _verified(temporary, name)
                os.replace(temporary, path)
                return array
            except UserError:
                problems.append(f"{mirror} sent something else")
            except (OSError, http.client.HTTPException) as error:
                problems.append(f"{mirror}: {error}")
        raise ConnectionError(f"{name}.gz could not be downloaded ({', '.join(problems)})")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _transfer(url, path):
    """Save what `url` sends, telling on stderr how far it is."""
    terminal = sys.stderr.isatty()
    print(f"downloading {url}", end="" if terminal else "\n", file=sys.stderr, flush=True)
    try:
        with _open(url) as response, open(path, "wb") as file:
            total = response.length             # None where the server does not say
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
    """urlopen that gives up after TIMEOUT. Its own timeout starts anew with each address of a
    mirror, and there are many: behind a firewall that drops packets they add up to minutes."""
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.urlopen(url, timeout=TIMEOUT))
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()       # it holds the connection
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
