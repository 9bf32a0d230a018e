"""Tests of cuda.py that need no GPU.

The C of the kernels is compiled for the CPU and compared with the lines of numpy beside it. cuBLAS
and the recording of graphs are imitated. What needs a GPU is in gpu.py.
"""

import contextlib
import copy
import ctypes
import dataclasses
import functools
import inspect
import itertools
import math
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, conv, cuda, grad, loop, nn, ops, play, rng, schedules
from tinygan.games import GAN, losses, penalties
from tinygan.runs.record import Means

from test_contract import GAMES, M, each_game, make_parts, read_state

pytestmark = pytest.mark.host
COMPILER = shutil.which("c++")


# Kernels

KERNELS = {f.source[3]: f for name, module in sorted(sys.modules.items())
           if name.partition(".")[0] == "tinygan" and module is not None
           for _, f in inspect.getmembers(module, inspect.isfunction) if hasattr(f, "source")}
C_TYPES = {"bool": "bool", "int32": "int", "uint32": "unsigned int", "uint64": "unsigned long long",
           "float32": "float", "float64": "double"}
C_HEAD = """
#include <cmath>
#define __device__ static
using std::abs, std::exp, std::log1p, std::sqrt;
static unsigned int __umulhi(unsigned int a, unsigned int b) {
    return (unsigned int)(((unsigned long long)a * b) >> 32);
}
static float cospif(float x) { return (float)cos(3.14159265358979323846 * (double)x); }
"""


def to_cpu(source, t):
    """Return the C++ of a kernel with the type T = t, and the types of its arguments.

    Each argument is an array of n elements or of one, or any array if it is declared as raw.
    """
    inputs, outputs, code, name, preamble = source
    arguments, lines, types = [], [], []
    for declared in f"{inputs}, {outputs}".split(","):
        *raw, kind, variable = declared.split()
        types.append(C_TYPES.get(kind, t))
        arguments.append(f"{types[-1]}* {variable}{'' if raw else '_'}, long long step_{variable}")
        if not raw:
            lines.append(f"{types[-1]}& {variable} = {variable}_[i * step_{variable}];")
    text = "\n".join([f"namespace {name}_{t} {{", f"using T = {t};", preamble,
                      f'extern "C" void {name}_{t}(long long n, {", ".join(arguments)}) {{',
                      "for (long long i = 0; i < n; ++i) {", *lines, code, ";}}}"])
    return text, [next(dtype for dtype, c in C_TYPES.items() if c == kind) for kind in types]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return {(name, T): function} of the kernels, compiled for the CPU."""
    folder = tmp_path_factory.mktemp("kernels")
    made = {(name, t): to_cpu(f.source, t) for name, f in KERNELS.items()
            for t in ("float", "double")}
    (folder / "kernels.cpp").write_text(C_HEAD + "\n".join(text for text, _ in made.values()))
    subprocess.run([COMPILER, "-O1", "-w", "-shared", "-fPIC", "-o", folder / "kernels.so",
                    folder / "kernels.cpp"], check=True)
    library = ctypes.CDLL(str(folder / "kernels.so"))

    def make(name, t, dtypes):
        def call(*args):
            arrays = [a if isinstance(a, np.ndarray) else np.array([a], dtype)
                      for a, dtype in zip(args, dtypes)]
            assert [a.dtype for a in arrays] == dtypes
            getattr(library, f"{name}_{t}")(ctypes.c_longlong(args[-1].size), *[
                value for a in arrays for value in (ctypes.c_void_p(a.ctypes.data),
                                                    ctypes.c_longlong(a.size > 1))])
        return call
    return {(name, t): make(name, t, dtypes) for (name, t), (_, dtypes) in made.items()}


def draw(dtype, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def window_cases(dtype):
    """Yield (images (n, ih, iw, c), windows (n oh ow, kh kw c), sizes)."""
    for n, ih, iw, c, (kh, kw), (sh, sw), (ph, pw) in (
            (2, 5, 7, 3, (3, 2), (1, 1), (0, 0)), (3, 6, 6, 1, (4, 4), (2, 2), (1, 1)),
            (2, 7, 4, 2, (3, 3), (2, 3), (2, 1)), (1, 4, 4, 5, (1, 1), (3, 2), (0, 0)),
            (2, 3, 3, 2, (5, 5), (2, 2), (3, 3))):
        oh, ow = (ih + 2 * ph - kh) // sh + 1, (iw + 2 * pw - kw) // sw + 1
        yield (draw(dtype, n, ih, iw, c), draw(dtype, n * oh * ow, kh * kw * c, seed=1),
               (ih, iw, c, oh, ow, kh, kw, sh, sw, ph, pw))


def make_cases(name, dtype):
    """List arguments for a kernel, the outputs last."""
    a, b, c, d = (draw(dtype, 1000, seed=seed) for seed in range(4))
    empty = np.zeros(1000, dtype)
    a[:3] = 0.0, math.nan, -math.inf
    numbers = np.array([0.01, 0.7])
    one = np.array([0.1], dtype)
    streams = [(np.array([key], np.uint64), n) for key, n in ((0, 1), (2 ** 63 - 25, 7))]
    return {
        "relu": [(a, empty)], "sigmoid": [(a, empty), (40 * a, empty)],
        "softplus": [(a, empty), (40 * a, empty)], "log_sigmoid": [(a, empty), (40 * a, empty)],
        "mark_equal": [(a, np.where(b > 0, a, c), empty)],
        "share_among": [(b, (c > 0).astype(dtype), 1 + abs(d), empty), (one, c, one, empty)],
        "scale_kept": [(a, b > 0, 1.25, empty)], "divide_by_root": [(b, one, empty)],
        "leaky_relu": [(a, 0.2, empty), (a, 0.0, empty), (a, 1.0, empty)],
        "times_slope": [(b, a, 0.2, empty), (b, a, 0.0, empty)],
        "scale": [(b, one, empty), (b, c, empty)],
        "scale_and_shift": [(b, one, c, empty), (b, c, d, empty)],
        "move_average": [(b, 0.5, 0.1, c)], "add_to": [(b, c), (one, c)],
        "subtract_mean": [(b, one, 0.5, empty), (b, c, 0.5, empty)],
        "affine_power": [(abs(b), 0.5, 0.01, -0.5, 1.0, empty),
                         (abs(b), 2.0, 1.0, -1.5, -0.5, empty)],
        "sgd": [(numbers, b, c, d)], "rmsprop": [(numbers[:1], b, 0.9, 0.1, 1e-8, c, abs(d))],
        "adam": [(numbers, b, b1, 1 - b1, b2, 1 - b2, 1e-8, decay, c, draw(dtype, 1000, seed=9),
                  abs(d))
                 for b1, b2, decay in ((0.5, 0.999, 0.0), (0.0, 0.9, 0.1), (0.9, 0.3, 0.0))],
        "copy_windows": [(x, *sizes, np.zeros_like(y)) for x, y, sizes in window_cases(dtype)],
        "add_windows": [(y, *sizes, np.zeros_like(x)) for x, y, sizes in window_cases(dtype)],
        "words": [(*stream, np.zeros(1001, np.uint32)) for stream in streams],
        "bernoulli": [(*stream, 2 ** 30, np.zeros(1001, bool)) for stream in streams],
        "uniform": [(*stream, -1.5, 4.0, np.zeros(1001, np.float32)) for stream in streams],
        "normal": [(*stream, np.zeros(1001, np.float32)) for stream in streams]}[name]


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, which compiles the CUDA kernels for "
                    "the CPU: they were not compared with numpy here")
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_computes_what_its_lines_of_numpy_compute(name, compiled):
    """All outputs agree up to rounding, also where an input is zero, NaN or infinite.

    A dozen roundings of numbers of about 1 leave an error below 32 units in the last place; the
    tail of a normal distribution at u1 = 2^-32 loses more, as the cosine does.
    """
    function = KERNELS[name]
    count = function.source[1].count(",") + 1
    for dtype in ("float32", "float64") if "T " in function.source[0] else ("float32",):
        tolerance = (1e-5 if name == "normal" else 32 * np.finfo(dtype).eps)
        for args in make_cases(name, dtype):
            mine, its = ([a.copy() if isinstance(a, np.ndarray) else a for a in args]
                         for _ in range(2))
            with np.errstate(all="ignore"):
                function(*mine)
            compiled[name, C_TYPES[dtype]](*its)
            for x, y in zip(mine[-count:], its[-count:]):
                assert np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True), args
            for x, y in zip(mine[:-count], args[:-count]):          # inputs stay as they are
                assert not isinstance(x, np.ndarray) or x.tobytes() == y.tobytes()


def test_every_kernel_has_cases():
    assert len(KERNELS) == 25
    for name in KERNELS:
        assert make_cases(name, "float32")


def test_sizes_are_compiled_in(monkeypatch):
    """The inputs of type int32 are constants in the code, and the kernel does not take them."""
    made = []

    def compile_kernel(*args, **keywords):
        made.append(args)
        return lambda *args, block_size: made.append(args)
    monkeypatch.setattr(backend, "xp", types.SimpleNamespace(
        ElementwiseKernel=compile_kernel, ndarray=np.ndarray,
        ascontiguousarray=np.ascontiguousarray))
    x, y, sizes = next(window_cases("float32"))
    cuda._compile.cache_clear()
    for _ in range(2):                  # it is compiled once
        cuda.launch(KERNELS["copy_windows"], x, *sizes, y)
    cuda._compile.cache_clear()
    (inputs, _, code, _), *calls = made
    assert inputs == "raw T x" and len(calls) == 2 and all(a is x and b is y for a, b in calls)
    names = [declared.split()[1] for declared in conv.SIZES.split(",")]
    for name, value in zip(names, sizes, strict=True):
        assert f"const int {name} = {value};" in code


@pytest.mark.parametrize("dtype, n, wide", [
    ("float32", 4, "complex128"), ("float32", 2, "complex64"), ("float64", 4, "complex128"),
    ("float64", 2, "complex128"), ("float32", 1, "float32")])
def test_floats_side_by_side_are_joined(dtype, n, wide, monkeypatch):
    """Arrays with a multiple of 2 or 4 floats, at a place in memory that is one too, are joined."""
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    memory = np.zeros(1000, "complex128").view(dtype)
    x, y = memory[:160].reshape(2, 5, 16), memory[160:320].reshape(5, 32)
    joined = cuda.join_floats(n, x, y)
    assert [a.dtype for a in joined] == [wide] * 2
    for a, b in zip(joined, (x, y)):
        assert np.shares_memory(a, b) and (a.view(dtype) == b).all()
    assert cuda.join_floats(n, memory[:30].reshape(10, 3), y)[0].dtype == dtype     # odd
    assert cuda.join_floats(n, x, memory[1:161].reshape(5, 32))[0].dtype == dtype   # displaced


C_BLOCKS = """
#define __global__
struct Place { int x, y; };
static Place blockIdx, threadIdx, blockDim, gridDim;
"""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, which compiles the CUDA kernels for "
                    "the CPU: launches for several arrays at once were not compared with numpy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_launched_together_do_what_they_do_alone(dtype, monkeypatch, tmp_path):
    """The launches of each kernel are one, if their numbers are the same; arrays may broadcast.

    The kernel for a table of arrays is compiled for the CPU and run for each block and thread.
    """
    launched = []

    def compile_raw(text, name):
        path = tmp_path / f"{name}{len(launched)}"
        parameters = text[text.index(f"{name}(Table table") + len(name) + 12:]
        parameters = parameters[:parameters.index(") {")]
        names = [each.split()[-1] for each in parameters.split(",")[1:]]
        path.with_suffix(".cpp").write_text(C_HEAD + C_BLOCKS + text + f"""
            extern "C" void run(int blocks, int arrays, int threads, Table* table{parameters}) {{
                gridDim = {{blocks, arrays}}, blockDim = {{threads, 1}};
                for (blockIdx.y = 0; blockIdx.y < arrays; ++blockIdx.y)
                    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
                        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
                            {name}({", ".join(["*table", *names])});
            }}""")
        subprocess.run([COMPILER, "-O1", "-w", "-shared", "-fPIC", "-o", path.with_suffix(".so"),
                        path.with_suffix(".cpp")], check=True)
        library = ctypes.CDLL(str(path.with_suffix(".so")))

        def run(grid, block, args):
            launched.append((name, grid[1]))
            library.run(*grid, *block, *[
                ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else
                (ctypes.c_float if a.dtype == "float32" else ctypes.c_double)(a) for a in args])
        return run

    def alone(source, sizes=()):
        function = KERNELS[source[3]]
        return lambda *args, block_size: launched.append((source[3], function.__wrapped__(*args)))

    def draw_all(shape):
        return [abs(draw(dtype, shape, seed=seed)) for seed in range(4)]
    sets = [draw_all(n) for n in (1, 700, 3000, 1)]
    numbers, row = np.array([0.01, 0.7]), draw(dtype, 5)

    def compute(context):
        mine, table = copy.deepcopy(sets), np.ones((3, 5), dtype)
        with context():
            for i, (p, g, m, v) in enumerate(mine):
                KERNELS["adam"](numbers, g, 0.5, 0.5, 0.9, 0.1, 1e-8, 0.1 * (i == 3), p, m, v)
            for p, *_ in sets[:2]:
                KERNELS["move_average"](p, 0.5, 0.1, p2 := p.copy())
                mine.append([p2])
            KERNELS["add_to"](row, table)
        return [*mine, [table]]
    expected = compute(contextlib.nullcontext)
    monkeypatch.setattr(backend, "cuda", cuda)
    monkeypatch.setattr(backend, "xp", types.SimpleNamespace(
        RawKernel=compile_raw, ndarray=np.ndarray, ascontiguousarray=np.ascontiguousarray))
    monkeypatch.setattr(cuda, "_compile", alone)
    monkeypatch.setattr(cuda, "_processors", lambda: 1)
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    monkeypatch.setattr(cuda, "TABLE", 2)
    cuda._compile_table.cache_clear()
    found = compute(cuda.together)
    cuda._compile_table.cache_clear()
    assert launched == [("add_to", None), ("adam", 2), ("adam", 1), ("adam", 1),
                        ("move_average", 2)]
    for mine, its in zip(expected, found, strict=True):
        for x, y in zip(mine, its):
            assert np.allclose(x, y, rtol=32 * np.finfo(dtype).eps, atol=0)


def test_an_array_is_summed_in_memory_order_if_all_axes_are():
    """The order of the elements does not change the sum; which axes remain does."""
    w = backend.to_kernel_first(draw("float32", 2, 3, 4, 5))
    for axis in (None, (0, 1, 2, 3)):
        assert cuda.order_for_sum(w, axis).flags.c_contiguous
        assert sorted(cuda.order_for_sum(w, axis).ravel()) == sorted(w.ravel())
    for axis in (0, (1, 2), (0, 1, 2)):
        assert cuda.order_for_sum(w, axis) is w


def test_means_do_not_depend_on_when_the_sums_are_read(monkeypatch):
    """On a GPU, logged arrays wait until there are many, and measured numbers do not."""
    def add_up(values, total):
        assert 1 <= len(values) <= 4
        for value in values:
            total = value + (0.0 if total is None else total)
        return np.asarray(total)
    numbers = [{"loss": np.array(v), **({"nats": float(v)} if i % 3 == 0 else {})}
               for i, v in enumerate(draw("float32", 11))]
    results = []
    for name, every in ((None, 1), (cuda, 100), (cuda, 3)):
        monkeypatch.setattr(backend, "cuda", name)
        monkeypatch.setattr(cuda, "add_up", add_up)
        monkeypatch.setattr(cuda, "TABLE", 4)
        means = Means()
        for i, values in enumerate(numbers):
            means.add(values)
            if i % every == 0:
                assert means.sums.keys() == means.counts.keys()
        results.append(({n: float(v) for n, v in means.sums.items()}, means.take(), means.sums))
    assert results[0] == results[1] == results[2] and results[0][2] == {}


def test_a_kernel_is_launched_on_images_in_their_memory_order(monkeypatch):
    """Arguments that are images are passed as (N, H, W, C), and so as contiguous arrays.

    Raw arrays are made contiguous. Beside arrays with fewer axes images stay as they are. The
    weights of a convolution, whose memory order is another one, keep it too.
    """
    seen = []
    monkeypatch.setattr(cuda, "_compile", lambda source, sizes=(): lambda *args, block_size:
                        seen.append(args))
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    monkeypatch.setattr(backend, "cuda", cuda)
    x = backend.to_channels_last(np.ones((2, 3, 4, 5), "float32"))
    ops.leaky_relu(Tensor(x))
    assert [a.shape for a in seen[0] if isinstance(a, np.ndarray)] == [(2, 4, 5, 3)] * 2
    assert all(a.flags.c_contiguous for a in seen[0] if isinstance(a, np.ndarray))
    with np.errstate(all="ignore"):     # no kernel fills the windows: they hold any numbers
        conv.conv2d(*(Tensor(np.ones(shape, "float32")) for shape in ((2, 3, 4, 5), (1, 3, 2, 2))))
    assert [a.shape for a in seen[1]] == [(2, 4, 5, 3), (2 * 3 * 4, 12)]
    assert seen[1][0].flags.c_contiguous
    y = cuda.elementwise(np.add, x, x)
    assert y.shape == x.shape and y.strides == x.strides
    w = backend.to_kernel_first(np.ones((2, 3, 4, 5), "float32"))
    assert cuda.elementwise(np.add, w, w).strides == w.strides
    bias = np.ones((3, 1, 1), "float32")
    assert (cuda.elementwise(np.add, x, bias) == 2).all()


@pytest.mark.parametrize("axis", [0, 1, 3, -1])
def test_arrays_are_joined_in_memory_order(axis):
    """The result is that of numpy, and images keep their channels last in memory."""
    images = [backend.to_channels_last(draw("float32", 2, 3, 4, 5, seed=i)) for i in range(10)]
    y = cuda.concatenate(images, axis)
    assert (y == np.concatenate(images, axis)).all()
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    rows = [draw("float32", 2, n) for n in (3, 0, 1)]
    assert (cuda.concatenate(rows, 1) == np.concatenate(rows, 1)).all()


@pytest.mark.parametrize("shapes, axis", [([(2, 3), (2, 1)], 0), ([(2, 3), (1, 3)], 1),
                                          ([(2, 3), (2,)], 0), ([(2, 3)], 2), ([()], 0),
                                          ([(3,), ()], 0), ([(), (3,)], 0)])
def test_arrays_that_do_not_join_are_refused(shapes, axis, monkeypatch):
    """Also where an assignment would broadcast, and with the sentence of ops.concat."""
    monkeypatch.setattr(backend, "cuda", cuda)
    with pytest.raises(ValueError, match="shapes differ at most in the axis"):
        ops.concat([Tensor(np.ones(shape, "float32")) for shape in shapes], axis)


# Products

class Library:
    """An imitation of cuBLAS's gemm and gemmStridedBatched: columns are contiguous."""

    def __getattr__(self, name):
        kind = {"S": ctypes.c_float, "D": ctypes.c_double}[name.removeprefix("cublas")[0]]
        assert name[7:] in ("gemm_v2", "gemmStridedBatched")

        def read(pointer, transposed, rows, columns, leading, step, i):
            """Return op(A) of the matrix i as an array that shares memory with it."""
            if transposed:
                rows, columns = columns, rows
            assert leading >= max(rows, 1)
            address = pointer.value + i * step * ctypes.sizeof(kind)
            size = leading * (columns - 1) + rows
            memory = np.ctypeslib.as_array((kind * size).from_address(address))
            matrix = np.lib.stride_tricks.as_strided(
                memory, (rows, columns), (memory.itemsize, leading * memory.itemsize))
            return matrix.T if transposed else matrix

        def multiply(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            none = ctypes.c_longlong()
            return multiply_many(handle, ta, tb, m, n, k, alpha, a, lda, none, b, ldb, none, beta,
                                 c, ldc, none, 1)

        def multiply_many(handle, ta, tb, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c,
                          ldc, step_c, count):
            assert alpha._obj.value == 1 and beta._obj.value == 0
            for i in range(count):
                read(c, 0, m, n, ldc, step_c.value, i)[...] = (
                    read(a, ta, m, k, lda, step_a.value, i)
                    @ read(b, tb, k, n, ldb, step_b.value, i))
            return 0
        return multiply if name.endswith("gemm_v2") else multiply_many


@pytest.fixture
def cublas(monkeypatch):
    library = Library()
    monkeypatch.setattr(cuda, "_cublas", lambda: library)
    monkeypatch.setattr(cuda, "_handle", lambda: None)
    monkeypatch.setattr(cuda, "_use_current_stream", lambda rounded: None)
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))


def layouts(a):
    """Yield arrays with the values of a in several memory layouts."""
    yield a
    yield np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)
    wide[..., 1:-2] = a
    yield wide[..., 1:-2]
    tall = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    tall[..., ::2] = a
    yield tall[..., ::2]


@pytest.mark.parametrize("a, b", [
    ((3, 4), (4, 5)), ((1, 4), (4, 5)), ((3, 1), (1, 5)), ((3, 4), (4, 1)), ((1, 1), (1, 1)),
    ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((1, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (2, 6, 4, 5)), ((2, 6, 3, 4), (6, 4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_any_layout(a, b, dtype, cublas):
    """Sums of four products of small whole numbers are exact."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-4, 5, shape).astype(dtype) for shape in (a, b))
    for x, y in itertools.product(layouts(a), layouts(b)):
        c = cuda.product(x, y)
        assert (c == a @ b).all() and c.shape == (a @ b).shape and c.dtype == dtype
        out = np.full_like(c, 9)
        assert cuda.product(x, y, out) is out and (out == c).all()


def test_products_of_broadcast_arrays(cublas):
    """Rows that share their memory have a stride that cuBLAS does not take."""
    a = np.broadcast_to(np.arange(4, dtype="float32"), (3, 4))
    for x, y in ((a, a.T), (a.T, a), (a, np.broadcast_to(a.T, (2, 4, 3)))):
        assert (cuda.product(x, y) == x @ y).all()


def test_products_of_other_sizes_are_refused(cublas):
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(5, 6\)"):
        cuda.product(np.ones((3, 4), "float32"), np.ones((5, 6), "float32"))


# Random numbers

def test_philox_gives_the_published_words():
    """The test vectors are those of Random123, the authors' library (kat_vectors)."""
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    ones = 0xFFFFFFFF
    for counter, key, words in (
            ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
            ([ones] * 4, ones << 32 | ones, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
            (pi, 0x299F31D0A4093822, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])):
        assert cuda.philox([[c] for c in counter], key)[:, 0].tolist() == words


def test_draws_depend_on_the_seed_and_on_their_number():
    """A seed in an array gives the numbers of the seed; each draw has other numbers."""
    source, again = cuda.Philox(5), cuda.Philox(np.array([5], np.uint64))
    first, second = source.uniform(0, 1, (3, 4)), source.uniform(0, 1, (3, 4))
    assert (first == again.uniform(0, 1, (3, 4))).all() and not (first == second).any()
    assert not (first == cuda.Philox(6).uniform(0, 1, (3, 4))).any()
    # normals use two words for each number, and the next draw uses others
    n, source = 10 ** 4, cuda.Philox(5)
    normal, uniform = source.normal((n,)), source.uniform(0, 2 * math.pi, (n,))
    assert abs(np.corrcoef(normal, np.cos(uniform))[0, 1]) < 5 / math.sqrt(n)
    # a longer draw begins with the numbers of a shorter one: nothing depends on the shape
    assert (cuda.Philox(5).uniform(0, 1, (12,)) == first.reshape(-1)).all()


def test_draws_have_their_distributions():
    """Means and variances of 10^5 numbers lie within five standard errors; normals pass a
    Kolmogorov-Smirnov test at the level 0.001."""
    source, n = cuda.Philox(0), 10 ** 5
    for x, mean, variance, kurtosis in (
            (source.uniform(-1, 3, (n,)), 1, 16 / 12, 1.8), (source.normal((n,)), 0, 1, 3),
            (source.bernoulli(0.3, (n,)), 0.3, 0.21, 0.37 / 0.21),
            (source.integers(7, (n,)), 3, 4, 1.75)):
        assert abs(x.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(x.astype(float).var() - variance) < 5 * variance * math.sqrt(max(
            kurtosis - 1, 1) / n)
    x = source.uniform(-1, 3, (n,))
    assert x.dtype == np.float32 and -1 <= x.min() and x.max() < 3
    x = np.sort(source.normal((n,)).astype(float))
    cdf = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    distance = max(abs(cdf - np.arange(n) / n).max(), abs(cdf - np.arange(1, n + 1) / n).max())
    assert distance < 1.95 / math.sqrt(n)
    assert set(source.integers(7, (n,)).tolist()) == set(range(7))
    assert sorted(source.permutation(50).tolist()) == list(range(50))
    assert source.bernoulli(1.0, (1000,)).all() and not source.bernoulli(0.0, (1000,)).any()


# Recorded steps

class Aside:
    """An imitation of cuda.Aside whose recorded functions are called again at each launch."""

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass

    def record(self, f):
        def launch():
            backend.capturing = True
            try:
                f()
            finally:
                backend.capturing = False
        return launch


class CapturedStep(cuda.CapturedStep):
    """A step whose launches change no host state and find no logged values of earlier steps."""

    def _record(self, x, z):
        super()._record(x, z)
        if (run := self.form.run) is not None:
            def launch():
                logged, stale = self.game.logged, self.game.averages_are_stale
                averages = (self.game.averages or {}).values()
                touched = [(p, p.touched) for owner in (*self.optimisers, *averages)
                           for p in (owner.parameters if owner in self.optimisers else
                                     owner.parameters())]
                self.game.logged = {name: value * math.nan for name, value in logged.items()}
                run()
                self.game.logged, self.game.averages_are_stale = logged, stale
                for p, age in touched:
                    p.touched = age
            self.form.run = launch


@pytest.fixture
def recording(monkeypatch):
    """Let play() record its steps, with cuda.Philox as the source of their random numbers."""
    def write(values, array):
        array = np.empty(len(values)) if array is None else array
        array[:] = [float(value) for value in values]
        return array
    monkeypatch.setattr(cuda, "Aside", Aside)
    monkeypatch.setattr(cuda, "write", write)
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    monkeypatch.setattr(loop, "make_source", cuda.Philox)
    monkeypatch.setattr(loop, "prepare", CapturedStep)


def keep_steps(monkeypatch, kind):
    """Return a list of the steps of a class that play() makes from now on."""
    steps = []

    def prepare(*args):
        steps.append(kind(*args))
        return steps[-1]
    monkeypatch.setattr(loop, "prepare", prepare)
    return steps


def train(entry, order, iterations=7):
    """Train and return all losses and logged values, and the state at the end."""
    game, optimisers, data = make_parts(entry)
    for opt in optimisers.values():
        opt.lr = schedules.exponential(1e-2, 0.5)
    game.keep_average(0.5)
    if order == "simultaneous":
        game.d_steps = game.g_steps = 1
    values = [(d_loss.item(), g_loss.item(), {name: float(v) for name, v in game.logged.items()})
              for _, d_loss, g_loss in play(game, data, *optimisers.values(), M, rng, iterations,
                                            order=order)]
    return values, read_state(game, optimisers, data)


@each_game
@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_a_recorded_step_does_what_the_step_does(entry, order, monkeypatch, recording, capsys):
    """Losses, logged values, weights, buffers and optimisers are the same, bit for bit.

    The learning rate falls at each step, and no schedule is read during a launch.
    """
    recorded = train(entry, order)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, order)
    assert capsys.readouterr().err == ""


def test_a_recorded_step_reads_no_schedule(monkeypatch, recording):
    """What a recorded step reads from the host keeps the value that it had then."""
    game, optimisers, data = make_parts(GAMES["gan"])
    asked = []

    def lr(t):
        assert not backend.capturing
        asked.append(t)
        return 1e-3
    optimisers["d_opt"].lr = lr
    for _ in play(game, data, *optimisers.values(), M, rng, 8):
        pass
    assert asked == list(range(8)) and optimisers["d_opt"].t == 8


def test_a_broadcast_or_smaller_array_does_not_decide_the_memory_order():
    """The gradient of a mean is such an array; images have their channels last in memory."""
    images = np.ones((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    mean = np.broadcast_to(np.float32(2.0), images.shape)
    def multiply(a, b):
        return np.ascontiguousarray(a * b)      # as cupy returns it
    factors = np.full((2, 1, 1, 1), 2, np.float32)          # such as one eps for each image
    for pair in ((mean, images), (images, mean), (factors, images), (images, factors)):
        y = cuda.elementwise(multiply, *pair)
        assert (y == 2).all() and y.strides == images.strides
    assert cuda.elementwise(np.negative, mean).shape == mean.shape


def test_cublas_without_memory_is_out_of_memory():
    cuda._check(0)
    with pytest.raises(MemoryError):
        cuda._check(3)
    with pytest.raises(RuntimeError, match="status 7"):
        cuda._check(7)


class Weighted(losses.NonSaturating):
    """A loss with a number of its own, which may change."""

    def __init__(self):
        vars(self)["weight"] = 1.0


@pytest.mark.parametrize("change", [
    lambda game, opt: setattr(game, "share", np.float32(0.5)),
    lambda game, opt: setattr(game, "sizes", (3, 4)),
    lambda game, opt: setattr(game, "hidden", 2),
    lambda game, opt: setattr(game, "loss", losses.Hinge()),
    lambda game, opt: vars(game.loss).update(weight=0.5),
    lambda game, opt: game.penalties.append(penalties.R2(3.0)),
    lambda game, opt: vars(game.penalties[0]).update(gamma=3.0),
    lambda game, opt: vars(game.penalties[1].penalty).update(gamma=3.0),
    lambda game, opt: game.D.layers.__setitem__(1, nn.Tanh()),      # neither has a number
    lambda game, opt: opt.state.update(v=[a.copy("K") for a in opt.state["v"]]),
    lambda game, opt: setattr(opt, "betas", (0.4, 0.99)),
    lambda game, opt: game.D.eval(),
    lambda game, opt: setattr(opt.parameters[0], "data", opt.parameters[0].data.copy("K"))])
def test_what_a_recorded_step_would_not_see_is_recorded_anew(change, recording):
    game, optimisers, _ = make_parts(GAMES["r1"])
    game.share, game.sizes, game.loss = np.float32(0.25), (3, 3), Weighted()
    game.penalties.append(penalties.Lazy(penalties.R2(1.0), 1))
    game.D.layers[1], game.hidden = nn.ReLU(), 1
    vars(game)["untracked"] = *game.untracked, "hidden"
    step = cuda.CapturedStep(loop.d_step, game, optimisers["d_opt"])

    def call():
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.noise(M, rng, 0), 0)
        return step.form.run is not None
    assert [call() for _ in range(5)] == [False] * 3 + [True] * 2
    change(game, optimisers["d_opt"])
    assert [call() for _ in range(5)] == [False] * 3 + [True] * 2


def test_a_launch_tells_the_host_what_has_changed(recording):
    """Gradients of older results are refused, and the statistics of averages are measured anew."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    game.keep_average(0.5)
    step = CapturedStep(loop.g_step, game, optimisers["g_opt"])
    for i in range(6):
        averaged = game.averages["G"].parameters()
        y, average = (sum((p * p).sum() for p in own) for own in (game.g_parameters(), averaged))
        game.averages_are_stale = False
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.noise(M, rng, 0), i)
        assert game.averages_are_stale
        for result, own in ((y, game.g_parameters()), (average, averaged)):
            with pytest.raises(ValueError, match="written to since"):
                grad(result, own)
    assert step.form.run is not None


def test_results_of_a_step_that_was_not_recorded_are_copies(recording, monkeypatch):
    """An array of the step's memory pool would keep the pool's memory."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    losses, logged = [], []

    def d_step(*args):
        losses.append(loop.d_step(*args))
        logged.append(game.logged)
        return losses[-1]
    step = CapturedStep(d_step, game, optimisers["d_opt"])
    found = step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.noise(M, rng, 0), 0)
    assert found.item() == losses[0].item() and not np.shares_memory(found.data, losses[0].data)
    assert game.logged == logged[0] and game.logged is not logged[0]


def test_a_recorded_step_copies_no_list(monkeypatch):
    monkeypatch.setattr(backend, "capturing", True)
    with pytest.raises(TypeError, match="before the step"):
        Tensor([1.0, 2.0])


def test_other_shapes_are_recorded_anew(recording, monkeypatch):
    """A minibatch of another size is another form, and the first one is not recorded again."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    step, recorded = cuda.CapturedStep(loop.d_step, game, optimisers["d_opt"]), []
    record = Aside.record
    monkeypatch.setattr(Aside, "record", lambda self, f: recorded.append(1) or record(self, f))
    for i, m in enumerate([4] * 6 + [6] * 6 + [4] * 2):
        x = Tensor(rng.uniform(0, 1, (m, 1, 4, 4)))
        step(x, game.noise(m, rng, i), i)
        assert len(recorded) == (i >= 3) + (i >= 9)


class Fading(GAN):
    """A game that changes a number between its steps, in the first four iterations."""

    share = 0.0

    def begin(self, i):
        self.share = min(i, 4) / 4

    def g_terms(self, x, z, fake, out_fake):
        return [self.share * (fake * fake).mean()]


class Untracked(Fading):
    """The same game, whose number is not tracked, because it is set anew in each iteration."""

    untracked = ("share",)


def test_untracked_numbers_are_seen_by_recorded_steps(recording, monkeypatch):
    """A subclass's `untracked` adds to those of its bases."""
    assert set(Untracked.untracked) == {"logged", "averages_are_stale", "share"}
    entry = dataclasses.replace(GAMES["gan"], game=Untracked)
    recorded = train(entry, "alternating", 12)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 12)


def test_a_number_that_changes_between_steps(recording, monkeypatch):
    """The step is recorded when the number has its last value; it never has an old one."""
    entry = dataclasses.replace(GAMES["gan"], game=Fading)
    recorded = train(entry, "alternating", 12)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 12)


class Sometimes(GAN):
    """A game with a further term in every third iteration of D."""

    untracked = ("due",)

    def begin(self, i):
        self.due = i % 3 == 0

    def d_terms(self, x, z, fake, out_real, out_fake):
        if not self.due:
            return []
        term = (out_real * out_real).mean()
        self.logged = {**self.logged, "term": term.data}
        return [term]


TWO = dict(z_size=5, penalties=[penalties.Lazy(penalties.R1(1.0), 2),
                                penalties.Lazy(penalties.R2(1.0), 3)])


@pytest.mark.parametrize("entry, forms", [
    (dataclasses.replace(GAMES["gan"], game=Sometimes), 2), (GAMES["lazy"], 2),
    (dataclasses.replace(GAMES["lazy"], settings=TWO), 4)], ids=["term", "penalty", "penalties"])
def test_each_form_of_a_step_is_recorded_once(entry, forms, recording, monkeypatch):
    """Steps with and without the term have a recording each, and are played WARM_UP times."""
    steps = keep_steps(monkeypatch, CapturedStep)
    recorded = train(entry, "alternating", 30)
    # D's and G's steps, which both get the numbers, and the simultaneous step, which is not used
    assert [[(form.calls, form.run is not None) for form in step.forms] for step in steps] == [
        [(3, True)] * forms, [(3, True)] * forms, []]
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 30)


class Cycling(GAN):
    """A game that changes a number in each iteration, to one of `period` numbers."""

    period = 1

    def begin(self, i):
        self.place = i % self.period


@pytest.mark.parametrize("more", [0, 1])
def test_so_many_forms_are_kept(more, recording, monkeypatch, capsys):
    """With one more, each form has been forgotten when it comes again."""
    steps = keep_steps(monkeypatch, CapturedStep)
    monkeypatch.setattr(Cycling, "period", CapturedStep.FORMS + more)
    entry = dataclasses.replace(GAMES["gan"], game=Cycling)
    recorded = train(entry, "alternating", 32)
    assert {form.run is not None for step in steps for form in step.forms} == {not more}
    assert ("change again and again" in capsys.readouterr().err) == bool(more)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 32)


def make_numbered_step():
    """Return (step, call): call(n) does D's step of a game whose number `place` is n."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    step = CapturedStep(loop.d_step, game, optimisers["d_opt"])

    def call(n):
        game.place = n
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.noise(M, rng, 0), 0)
        return step.form
    return step, call


def test_the_form_that_is_used_is_kept(recording):
    """Rare forms replace each other, and not the one that is used between them."""
    step, call = make_numbered_step()
    for _ in range(4):
        form = call(0)
    for n in range(1, 2 * step.FORMS):
        assert call(n) is not form and call(0) is form and form.run is not None


def test_a_recorded_form_is_kept_when_no_more_are_recorded(recording, capsys):
    step, call = make_numbered_step()
    for _ in range(4):
        form = call(0)
    for n in range(1, 2 * step.STARTS):
        call(n)
        assert call(0) is form and form.run is not None
    assert "change again and again" in capsys.readouterr().err


class Restless(GAN):
    """A game that changes a number before each step."""

    def begin(self, i):
        self.share = float(i)


class Counting(GAN):
    """A game that changes a number in its step."""

    count = 0

    def after_d_step(self):
        self.count = self.count + 1


class Replacing(GAN):
    """A game that replaces an array in its step."""

    def after_d_step(self):
        p = self.d_parameters()[0]
        p.data = p.data * 1.0


@pytest.mark.parametrize("kind, why", [(Counting, "it changes or replaces count"),
                                       (Replacing, "it changes or replaces D."),
                                       (Restless, "change again and again"),
                                       (None, "RuntimeError: a copy")])
def test_a_step_that_cannot_be_recorded_is_played(kind, why, recording, monkeypatch, capsys):
    """One line says why, and the results are those of the step."""
    entry, tried = GAMES["gan"], []
    if kind is None:
        def record(self, f):
            tried.append(1)
            raise RuntimeError("a copy from the device")
        monkeypatch.setattr(Aside, "record", record)
    else:
        entry = dataclasses.replace(entry, game=kind)
    recorded = train(entry, "alternating", 30)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if why in line]) >= 1 and len(lines) <= 2, lines
    assert len(tried) <= 2              # once for each player
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 30)
