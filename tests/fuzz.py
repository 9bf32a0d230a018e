"""Fuzz the functions that read files. This script is run by hand.

    python tests/fuzz.py --cases 30000 --seed 0
    python tests/fuzz.py --cases 1 --seed 4711 --reader load        repeat one case

The files are of three kinds: IDX files, plain and gzipped, for mnist.read_idx; .npy and .npz files,
plain and compressed, for files.read_arrays; checkpoints of a small game for checkpoint.read,
checkpoint.restore and tinygan.load. Some files have random changes of their bytes. Others are
well-formed files with valid checksums and wrong content: .npy headers with other shapes and dtypes,
and checkpoints with random changes of the arrays or of the entry "about".

Each case has its own seed; the first is --seed. The script counts the files that were read and
those that were refused. A case fails on an exception other than UserError (a warning counts as
one), on a message that is not one line, and if it takes more than 5 seconds of processor time or
64 MB of memory. The script exits with status 1 if a case failed.
"""

import argparse
import collections
import copy
import functools
import gzip
import io
import json
import math
import pathlib
import random
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import tinygan
from tinygan import checkpoint, files, games, nn, ops, optim, schedules
from tinygan.backend import UserError
from tinygan.data import Minibatches, mnist
from tinygan.games import WGANGP, losses, views

import numpy as np

# The limits of a case. To measure the memory makes a call ten times as slow: a description of more
# than 10,000 parts is refused after 0.1 s without it and up to 1.2 s with it.
SECONDS, MEMORY = 5.0, 64 << 20


class Failure(Exception):
    """An error of a reader."""


def attempt(call, most=MEMORY):
    """Return "read" if call() returns, or "refused" if it raises a UserError.

    Raises Failure for another exception, for a UserError whose message is not one line, and if the
    call takes more than SECONDS or `most` bytes.
    """
    message = "a line"
    tracemalloc.start()
    start = time.process_time()
    try:
        call()
        outcome = "read"
    except UserError as error:
        outcome, message = "refused", str(error)
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error}"[:200]) from error
    finally:
        seconds, memory = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if len(message.splitlines()) != 1:
        raise Failure(f"a message of {len(message.splitlines())} lines: {message[-120:]!r}")
    if seconds > SECONDS or memory > most:
        raise Failure(f"{outcome} after {seconds:.1f} s with {memory >> 20} MB")
    return outcome


# Bytes

# Values for a 4-byte field.
FIELDS = [0, 1, 2, 8, 12, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 1 << 16, 1 << 20, 1 << 27, 1 << 30,
          (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def mutate(draw, content, other=b""):
    """Return `content` with one to eight random changes.

    A change flips a bit, overwrites a byte or a 4-byte field, removes some bytes, cuts off the end,
    or inserts some bytes of `content` or of `other`.
    """
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        n = len(content)
        # Half of the changes are near the start or the end, where file formats have their headers.
        at = draw.choice([draw.randrange(n + 1), draw.randrange(n + 1),
                          min(draw.randrange(130), n), max(n - 1 - draw.randrange(130), 0)])
        match draw.randrange(8):
            case 0 | 1: content[at:at + 1] = bytes(b ^ 1 << draw.randrange(8)
                                                   for b in content[at:at + 1])
            case 2: content[at:at + 1] = draw.randbytes(1)
            case 3 | 4:
                value = draw.choice(FIELDS + [draw.getrandbits(32)])
                content[at:at + 4] = struct.pack(draw.choice(["<I", ">I"]), value)
            case 5: del content[at:at + draw.choice([1, 2, 4, 8, 64])]
            case 6:
                source = draw.choice([content, other or content])
                start = draw.randrange(len(source) + 1)
                piece = source[start:start + draw.choice([1, 4, 16, 64, 1000])]
                content[at:at + draw.choice([0, len(piece)])] = piece
            case 7:
                if draw.randrange(3) == 0:
                    del content[at:]
    return bytes(content)


def make_idx(array):
    """Return the content of an IDX file with this array."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def make_idx_case(draw):
    """Return a damaged IDX file, plain or gzipped."""
    good = make_idx(np.arange(60, dtype=np.uint8).reshape(3, 5, 4))
    packed = gzip.compress(good, mtime=0)
    return draw.choice([lambda: mutate(draw, good, packed),
                        lambda: mutate(draw, packed, good),
                        lambda: gzip.compress(mutate(draw, good, packed), mtime=0)])()


# Files of arrays

def make_npy(array):
    """Return the content of an .npy file with this array."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def make_npy_with_header(header, content=bytes(24), version=1):
    """Return the content of an .npy file with this text as its header."""
    header = header.encode("latin1", "replace") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


def make_npz(members, compression=zipfile.ZIP_STORED):
    """Return the content of an .npz file, given {name: content of an .npy file}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, compression)
    return file.getvalue()


@functools.cache
def make_valid_arrays():
    """Return {name: content of a valid .npy file}."""
    arrays = {"a": np.arange(12, dtype="f4").reshape(3, 4), "b": np.arange(9, dtype=">i2"),
              "c": np.asfortranarray(np.eye(4, dtype=bool)), "d": np.array(2.5)}
    return {name: make_npy(array) for name, array in arrays.items()}


# Texts for the entries "shape" and "descr" of an .npy header.
SHAPES = ["()", "(3,)", "(0, 3)", "(3, 0)", "(-1,)", "(-3, -1)", "(1.0,)", "(True,)", "3", "None",
          "(10**15,)", f"({10**15},)", f"({10**30}, 0)", "(" + "1," * 70 + ")", "[3]", "('3',)",
          "(1 << 40,)", "(" * 300, "(3,)" * 3, "{}", "(65536, 65536, 65536, 65536)", "(2,) + (3,)"]
TYPES = ["'<f8'", "'>i2'", "'|b1'", "'|O'", "'|O8'", "'<U6'", "'|S3'", "'|V8'", "'<M8[s]'", "'<c8'",
         "'<f16'", "'<f3'", "'f'", "''", "None", "3", "[('x', '<f8')]", "('<f8', (3,))",
         "'<f8,<f8'",
         "{'names': ['x'], 'formats': ['<f8']}", "'(1000000,1000000)f8'", "'|S1000000000'", "'\\q'",
         "[('x', '|O', (2,))]", "[('', '|V8')] * 3", "'3f8'"]


def make_npy_case(draw):
    """Return an .npy file that is valid, has changed bytes, or has a random header."""
    match draw.randrange(4):
        case 0: return draw.choice(list(make_valid_arrays().values()))
        case 1: return mutate(draw, draw.choice(list(make_valid_arrays().values())))
    parts = [f"'descr': {draw.choice(TYPES)}",
             f"'fortran_order': {draw.choice(['True', 'False', 'False', '0', 'None'])}",
             f"'shape': {draw.choice(SHAPES)}"]
    if draw.randrange(8) == 0:
        parts[draw.randrange(3)] = draw.choice(["", "'x': 1", "**{}", "3", "'descr': '<f8'"])
    content = bytes(draw.choice([0, 8, 24, 24, 1000]))
    return make_npy_with_header("{" + ", ".join(parts) + "}", content, draw.choice([1, 1, 2, 3]))


@functools.cache
def make_zip_bomb(compression):
    """Return a small .npz file with 80 MB of zeros (1 kB if `compression` is none)."""
    zeros = np.zeros(80 << 20 if compression else 1000, np.uint8)
    return make_npz({"a": make_npy(zeros)}, compression)


def make_arrays_case(draw):
    """Return an .npy file, or an .npz file of any compression."""
    compression = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED,
                               zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    match draw.randrange(4):
        case 0: return make_npy_case(draw)
        case 1: return make_npz({name: make_npy_case(draw) for name in "ab"}, compression)
        case 2:
            content = bytearray(make_zip_bomb(compression))
            if draw.randrange(2):       # another size in the zip file's directory
                at = content.rfind(b"PK\1\2") + 24
                content[at:at + 4] = struct.pack("<I", draw.choice(FIELDS))
            return draw.choice([bytes(content), mutate(draw, content)])
    return mutate(draw, make_npz(make_valid_arrays(), compression), make_valid_arrays()["a"])


# Checkpoints

def make_parts():
    """Return a small game, its optimisers and its data stream.

    The description of the game has every kind of entry.
    """
    act = nn.ReLU()
    G = nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), act, nn.Reshape(1, 2, 2),
                      nn.ConvTranspose2d(1, 1, 3, 1, 1), nn.Sigmoid())
    D = nn.Sequential(nn.spectral_norm(nn.Conv2d(1, 2, 2)), act, ops.tanh, nn.Dropout(0.2),
                      nn.Flatten(), nn.Maxout(2, 2, 2), nn.Dense(2, 1))
    game = WGANGP(G, D, 3, n_critic=games.warm_up, loss=losses.Hinge(),
                  views=[views.InstanceNoise(schedules.linear(0.5, 0.0, 30))])
    game.keep_average()
    opts = {"d_opt": optim.SGD(game.d_parameters(), schedules.exponential(0.1, 0.9),
                               schedules.linear(0.5, 0.7, 30)),
            "g_opt": optim.Adam(game.g_parameters(), 1e-3)}
    return game, opts, Minibatches(np.zeros((10, 1, 2, 2), np.float32), 3)


@functools.cache
def make_checkpoint():
    """Return a valid checkpoint: the content of the file, its entry "about", and its arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, checkpoint.NAME)
        checkpoint.save(path, *make_parts(), {"step": 7, "settings": {"lr": 0.1}},
                        {"log": np.zeros((2, 3))})
        arrays = files.read_arrays(path)
        return path.read_bytes(), bytes(arrays.pop("about")).decode(), arrays


DEEP = "a place for deep nesting"       # change_about() replaces this text by deeply nested JSON
# Values and keys that change_about() puts into a checkpoint's entry "about".
VALUES = [
    None, True, -1, 0, 1.5, 7, 1 << 31, 1 << 63, 10**18, 10**400, -(10**18), 1e308, math.inf,
    math.nan, "", "x", "a\nb", "a\rb\x85c", "\x1b[2J", "\0", "\ud800", "name" * 3000, "float64",
    "O", "S200000000", "U100000000", "f4,f4", "(9999,9999)f8", "M8[s]",
    [], {}, [[]], [-1], [-1, -5],
    [1 << 31, 1 << 31], [0, 1 << 62], [10**30], [0, 10**400], [1] * 70, [1.5], ["3"], [None], DEEP,
    *[{"class": name, "arguments": arguments} for name in (
        "tinygan.nn.layers.Dense", "tinygan.nn.module.Module", "tinygan.nn.module.Sequential",
        "tinygan.games.gan.GAN", "tinygan.nn.noise.GaussianNoise", "tinygan.tensor.Tensor",
        "tinygan.backend.UserError", "tinygan.schedules.linear", "tinygan.runs.run.Run",
        "tinygan.ops.relu", "tinygan.no\nsuch", "os.system", "GAN", 3, ["a"])
      for arguments in ({}, {"n_in": 3, "n_out": 4}, {"*layers": {"tuple": []}})],
    {"class": "tinygan.nn.layers.Dense"}, {"class": "tinygan.nn.layers.Dense", "arguments": 3},
    {"class": "tinygan.nn.layers.Dense", "arguments": {"n_in": 10**9, "n_out": 10**9}},
    {"class": "tinygan.nn.norm.LayerNorm", "arguments": {"shape": {"tuple": [10**5, 10**5]}}},
    {"class": "tinygan.nn.norm.BatchNorm", "arguments": {"n": -5}},
    *[{"function": name} for name in (
        "tinygan.ops.relu", "tinygan.resampling.upsample", "tinygan.games.wgan.warm_up",
        "tinygan.nn.init.glorot", "tinygan.networks.dcgan.generator", "tinygan.files.read_arrays",
        "tinygan.backend.use", "tinygan.runs.command.main", "tinygan.nn.module._inside",
        "tinygan.backend.os.system", "os.system", "relu", "", 3)],
    *[{"again": number} for number in (0, 1, 2, 5, 99, -1, 1.0, "0", 10**20)],
    {"tuple": []}, {"tuple": 3}, {"tuple": [1, {"again": 3}]}, {"dictionary": {}},
    {"dictionary": {"a\nb": {"again": 3}}}, {"dictionary": 3}, {"array": "data.order"},
    {"array": "game.G.0.weight"}, {"array": "nothing"}, {"array": [1]}, {"tensor": "log"},
    {"tensor": "data.order"}, {"array": "log", "tuple": []},
    ["tinygan.nn.spectral.spectral_norm", {}], ["tinygan.ops.relu", {}],
    ["tinygan.games.game.Game.keep_average", {"decay": 0.5}],
    [["tinygan.games.game.Game.keep_average", {"decay": 7}]]]
KEYS = ["training", "G", "D", "class", "arguments", "changes", "function", "again", "tuple",
        "dictionary", "array", "tensor", "__class__", "a\nb", "", "game", "order", "about", "t",
        "*layers", "**choices", "*", "**", "loss", "penalties", "views", "n_in", "z_size", "state"]


def list_places(part):
    """Yield (container, key) of every value inside a JSON value."""
    for key in part if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], (dict, list)):
            yield from list_places(part[key])


def change_about(draw, text):
    """Return the JSON `text` with one to three values replaced, removed, renamed or added."""
    about = json.loads(text)
    for _ in range(draw.choice([1, 1, 2, 3])):
        root = draw.choice([about, *(about.get(key) for key in (
            "game", "game", "game", "rng", "data", "optimisers"))])
        found = list(list_places(root if isinstance(root, dict) else about))
        if draw.randrange(4) == 0:      # change only the first entry of `root`
            found = found[:1]
        if not found:
            break
        container, key = draw.choice(found)
        value = container[key]
        match draw.randrange(6):
            case 0 | 1: container[key] = copy.deepcopy(draw.choice(VALUES))
            case 2: del container[key]
            case 3:
                if isinstance(value, (int, float)):
                    container[key] = draw.choice([-value, value + 1, value * 10**6, str(value)])
                elif isinstance(value, list):
                    container[key] = draw.choice([value * 2, value[:-1], value[::-1], [value]])
                else:
                    container[key] = [value]
            case 4:
                other, where = draw.choice(found)
                container[key] = copy.deepcopy(other[where])    # without a copy: maybe a cycle
            case 5:
                if isinstance(container, dict):
                    container[draw.choice(KEYS)] = copy.deepcopy(
                        draw.choice([value, draw.choice(VALUES)]))
    n = draw.choice([10, 100, 300, 900, 1000, 3000, 100_000])
    deep = draw.choice(["[" * n + "]" * n, '{"a":' * n + "1" + "}" * n])
    return json.dumps(about).replace(json.dumps(DEEP), deep)


# Arrays that make_checkpoint_case() puts in the place of another one.
ARRAYS = [lambda: np.array(3), lambda: np.array(300_000_000), lambda: np.array(10**15),
          lambda: np.zeros(0), lambda: np.zeros((0, 5)), lambda: np.full((2, 2), np.nan),
          lambda: np.full(4, 1e300), lambda: np.ones((3, 4), bool), lambda: np.zeros((1,) * 32),
          lambda: np.arange(10)[::-1], lambda: np.zeros(3, np.longdouble)]


def make_checkpoint_case(draw):
    """Return a checkpoint with changed bytes, or with changes in "about", the arrays, or both."""
    content, text, arrays = make_checkpoint()
    if draw.randrange(4) == 0:
        return mutate(draw, content)
    arrays = dict(arrays)
    if draw.randrange(3):
        text = change_about(draw, text)
    arrays["about"] = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    if draw.randrange(3) == 0:
        name = draw.choice([*arrays, *["about"] * 9])
        match draw.randrange(6):
            case 0: arrays[name] = draw.choice(ARRAYS)()
            case 1: arrays[name] = arrays[name].T[..., None]
            case 2: arrays[name] = arrays[name].astype(draw.choice(["f2", ">f8", "i1", "?", "u8"]))
            case 3: del arrays[name]
            case 4: arrays[draw.choice(["x", "a\nb", "game.a\nb", "game.", "file"])] = arrays[name]
            case 5: arrays[name] = arrays[name].reshape(-1)[:-1]
    return make_npz({name: make_npy(array) for name, array in arrays.items()})


def restore(path):
    """Restore a checkpoint into the game of make_parts()."""
    checkpoint.restore(checkpoint.read(path), *_make_parts_once())


_make_parts_once = functools.cache(make_parts)

READERS = {     # name: (a function that makes a file, a function that reads it)
    "idx": (make_idx_case, lambda path: mnist.read_idx(path, 3)),
    "arrays": (make_arrays_case, files.read_arrays),
    "read": (make_checkpoint_case, checkpoint.read),
    "load": (make_checkpoint_case, lambda path: tinygan.load(path.parent)),
    "restore": (make_checkpoint_case, restore),
}


def main():
    """Run the cases and print the counts and the failures."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000,
                        help="number of cases for each reader (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case (default: 0)")
    parser.add_argument("--reader", choices=READERS, help="test this reader only")
    args = parser.parse_args()
    try:
        # A reader that asks for too much memory gets a MemoryError; the machine does not run out.
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except ImportError:     # Windows has no resource module
        pass
    warnings.simplefilter("error")
    files.LIMIT = 16 << 20      # larger files are refused
    failures = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, checkpoint.NAME)
        for name in [args.reader] if args.reader else READERS:
            make, read = READERS[name]
            path.write_bytes(make_checkpoint()[0])
            try:
                read(path)      # fills caches, whose time and memory must not count for a case
            except UserError:
                pass
            counts = collections.Counter()
            for seed in range(args.seed, args.seed + args.cases):
                path.write_bytes(make(random.Random(seed)))
                try:
                    counts[attempt(lambda: read(path))] += 1
                except Failure as failure:
                    counts["failed"] += 1
                    failures[name].append((seed, failure))
            print(f"{name:10}", *(f"{outcome} {counts[outcome]}" for outcome in
                                  ("read", "refused", "failed")), flush=True)
    for name, found in failures.items():
        for seed, failure in found[:20]:
            print(f"{name}, seed {seed}: {failure}")
        if len(found) > 20:
            print(f"{name}: {len(found) - 20} more")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
