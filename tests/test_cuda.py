"""Tests of cuda.py that need no GPU.

The C of the kernels is compiled for the CPU and compared with the lines of numpy beside it. cuBLAS
is imitated. What needs a GPU is in gpu.py.
"""

import contextlib
import copy
import ctypes
import inspect
import itertools
import math
import operator
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, conv, cuda, grad, im2col, nn, ops, optim
from tinygan.runs.record import Means

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
// a macro, since the C libraries of 2025 and later have a function of this name
#define cospif(x) (float)cos(3.14159265358979323846 * (double)(x))
"""


def to_cpu(source, t):
    """Return the C++ of a kernel with the type T = t, and (dtype, whether raw) of its arguments.

    Each argument is an array of n elements or of one, or any array if it is declared as raw.
    """
    inputs, outputs, code, name, preamble = source
    arguments, lines, types = [], [], []
    for declared in f"{inputs}, {outputs}".split(","):
        *raw, kind, variable = declared.split()
        kind = C_TYPES.get(kind, t)
        types.append((kind, bool(raw)))
        arguments.append(f"{kind}* {variable}{'' if raw else '_'}, long long step_{variable}")
        if not raw:
            lines.append(f"{kind}& {variable} = {variable}_[i * step_{variable}];")
    text = "\n".join([f"namespace {name}_{t} {{", f"using T = {t};", preamble,
                      f'extern "C" void {name}_{t}(long long n, {", ".join(arguments)}) {{',
                      "for (long long i = 0; i < n; ++i) {", *lines, code, ";}}}"])
    return text, [(next(dtype for dtype, c in C_TYPES.items() if c == kind), is_raw)
                  for kind, is_raw in types]


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

    def make(name, t, declared):
        def call(*args):
            arrays = [a if isinstance(a, np.ndarray) else np.array([a], dtype)
                      for a, (dtype, _) in zip(args, declared)]
            assert [a.dtype for a in arrays] == [dtype for dtype, _ in declared]
            n = max(a.size for a, (_, is_raw) in zip(arrays, declared) if not is_raw)
            getattr(library, f"{name}_{t}")(ctypes.c_longlong(n), *[
                value for a in arrays for value in (ctypes.c_void_p(a.ctypes.data),
                                                    ctypes.c_longlong(a.size > 1))])
        return call
    return {(name, t): make(name, t, declared) for (name, t), (_, declared) in made.items()}


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


def maximum_cases(dtype):
    """Yield (x, its maximum along an axis, the sizes of the kernel `share`): many are equal."""
    for shape, axis in (((6, 5, 40), 1), ((7, 3), 0), ((4, 2, 3, 5), 3), ((9,), 0)):
        x = np.floor(2 * draw(dtype, *shape))
        x.flat[0] = math.nan
        yield x, x.max(axis, keepdims=True), (shape[axis], math.prod(shape[axis + 1:]))


def make_cases(name, dtype):
    """List arguments for a kernel, the outputs last."""
    a, b, c, d = (draw(dtype, 1000, seed=seed) for seed in range(4))
    empty = np.zeros(1000, dtype)
    a[:3] = 0.0, math.nan, -math.inf
    numbers = np.array([0.01, 0.7])
    one = np.array([0.1], dtype)
    streams = [(np.array(key, np.uint64), n) for key, n in ((0, 1), (2 ** 63 - 25, 7))]
    return {
        "relu": [(a, empty)], "sigmoid": [(a, empty), (40 * a, empty)],
        "softplus": [(a, empty), (40 * a, empty)], "log_sigmoid": [(a, empty), (40 * a, empty)],
        "share": [(x, draw(dtype, *y.shape), y, *sizes, np.empty_like(x))
                  for x, y, sizes in maximum_cases(dtype)],
        "drop": [(*stream, 2 ** 30, a, 1.25, empty > 0, empty) for stream in streams],
        "scale_kept": [(a, b > 0, 1.25, empty)], "divide_by_root": [(b, one, empty)],
        "leaky_relu": [(a, 0.2, empty), (a, 0.0, empty), (a, 1.0, empty)],
        "times_slope": [(b, a, 0.2, empty), (b, a, 0.0, empty)],
        "multiply_sigmoid": [(b, a, 1.0, empty), (b, 40 * a, -1.0, empty)],
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
    assert len(KERNELS) == 26
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
    names = [declared.split()[1] for declared in im2col.SIZES.split(",")]
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


C_PLACES = """
struct Place { int x, y; };
static Place blockIdx, blockDim, gridDim;
static thread_local Place threadIdx;
static void kernel(void** args);
"""
C_BLOCKS = C_PLACES + """
static void run_block(void** args) {
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
            kernel(args);
}
"""
C_THREADS = C_PLACES + """
#include <barrier>
#include <thread>
#include <vector>
static std::barrier<>* meeting;
static void run_block(void** args) {
    std::barrier<> all(blockDim.x * blockDim.y);
    meeting = &all;
    std::vector<std::thread> threads;
    for (int i = 0; i < blockDim.x * blockDim.y; ++i)
        threads.emplace_back([=] {
            threadIdx = {i % blockDim.x, i / blockDim.x};
            kernel(args);
        });
    for (auto& thread : threads)
        thread.join();
}
#define __shared__ static
#define __syncthreads() meeting->arrive_and_wait()
#define __threadfence()
#define __ldcg(address) (*(address))
static unsigned atomicInc(unsigned* a, unsigned most) {
    unsigned before = *a;
    *a = before >= most ? 0 : before + 1;
    return before;
}
"""


class Imitation:
    """numpy with the kernels of cupy, compiled for the CPU.

    The blocks run one after the other, and so do their threads, unless they wait for each other.
    """

    def __init__(self, folder):
        self.folder, self.launched = folder, []         # (name, blocks along y)

    def __getattr__(self, name):
        return getattr(np, name)

    def compile(self, name, text):
        path = self.folder / f"{name}{len(list(self.folder.iterdir()))}"
        path.with_suffix(".cpp").write_text(C_HEAD + text)
        subprocess.run([COMPILER, "-std=c++20", "-pthread", "-O1", "-w", "-shared", "-fPIC", "-o",
                        path.with_suffix(".so"), path.with_suffix(".cpp")], check=True)
        return ctypes.CDLL(str(path.with_suffix(".so")))

    def RawKernel(self, text, name):
        parameters = text[text.index(f" {name}(") + len(name) + 2:]
        kinds = [each.strip().rpartition(" ")[0]
                 for each in parameters[:parameters.index(") {")].split(",")]
        given = ", ".join(f"({kind})args[{i}]" if kind.endswith("*") else f"*({kind}*)args[{i}]"
                          for i, kind in enumerate(kinds))
        # static, so that the C library's function of the same name, write, is not called
        text = text.replace('extern "C" __global__', "static")
        blocks = C_THREADS if "__syncthreads" in text else C_BLOCKS
        library = self.compile(name, blocks + text + f"""
            static void kernel(void** args) {{ {name}({given}); }}
            extern "C" void run(int gx, int gy, int bx, int by, void** args) {{
                gridDim = {{gx, gy}}, blockDim = {{bx, by}};
                for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
                    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
                        run_block(args);
            }}""")

        def launch(grid, block, args):
            self.launched.append((name, *grid[1:]))
            args = [a if isinstance(a, np.ndarray) else np.array([a]) for a in args]
            library.run(*(*grid, 1)[:2], *(*block, 1)[:2],
                        (ctypes.c_void_p * len(args))(*[a.ctypes.data for a in args]))
        return launch

    def ElementwiseKernel(self, inputs, outputs, code, name, preamble=""):
        library = self.compile(name, "".join(
            to_cpu((inputs, outputs, code, name, preamble), t)[0] for t in ("float", "double")))

        def launch(*args, block_size):
            dtype = next(a.dtype for a in args if isinstance(a, np.ndarray))
            args = np.broadcast_arrays(*[np.asarray(a, dtype) for a in args])
            arrays = [np.ascontiguousarray(a) for a in args] + [np.empty(args[0].shape, dtype)]
            getattr(library, f"{name}_{C_TYPES[dtype.name]}")(ctypes.c_longlong(arrays[-1].size), *[
                value for a in arrays for value in (ctypes.c_void_p(a.ctypes.data),
                                                    ctypes.c_longlong(1))])
            return arrays[-1]
        return launch


@pytest.fixture
def imitation(monkeypatch, tmp_path):
    """Use cuda.py with kernels that are compiled for the CPU."""
    if COMPILER is None:
        pytest.skip("no C++ compiler, which compiles the CUDA kernels for the CPU")
    xp = Imitation(tmp_path)
    monkeypatch.setattr(backend, "cuda", cuda)
    monkeypatch.setattr(backend, "xp", xp)
    monkeypatch.setattr(cuda, "_processors", lambda: 1)
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    # not the caches of what a GPU keeps, such as the memory of cuBLAS
    compiled = [f for name, f in inspect.getmembers(cuda) if name.startswith("_compile")]
    for f in compiled:
        f.cache_clear()
    yield xp
    for f in compiled:
        f.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_launched_together_do_what_they_do_alone(dtype, monkeypatch, imitation):
    """The launches of each kernel are one, if their numbers are the same; arrays may broadcast."""
    def alone(source, sizes=()):
        function = KERNELS[source[3]]
        return lambda *args, block_size: imitation.launched.append(
            (source[3], function.__wrapped__(*args)))

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
    monkeypatch.setattr(cuda, "_compile", alone)
    monkeypatch.setattr(cuda, "TABLE", 2)
    found = compute(cuda.together)
    assert imitation.launched == [("add_to", None), ("adam", 2), ("adam", 1), ("adam", 1),
                                  ("move_average", 2)]
    monkeypatch.setattr(backend, "cuda", None)
    monkeypatch.setattr(backend, "xp", np)
    for mine, its in zip(compute(contextlib.nullcontext), found, strict=True):
        for x, y in zip(mine, its):
            assert np.allclose(x, y, rtol=32 * np.finfo(dtype).eps, atol=0)


def test_what_waits_in_one_thread_does_not_wait_in_another(imitation, monkeypatch):
    monkeypatch.setattr(cuda, "_compile", lambda source, sizes=(): lambda *args, block_size:
                        KERNELS[source[3]].__wrapped__(*args))
    y = np.zeros(3, "float32")
    with cuda.together():
        thread = threading.Thread(target=KERNELS["add_to"], args=(np.ones(3, "float32"), y))
        thread.start()
        thread.join()
        assert (y == 1).all()


def test_an_update_of_ones_own_sees_what_a_kernel_has_computed(imitation, monkeypatch):
    """Only the kernels of tinygan's optimisers wait for those of the other parameters."""
    class Clipped(optim.SGD):
        def update(self, numbers, p, g, v):
            super().update(numbers, p, g, v)
            np.clip(p, -0.01, 0.01, out=p)
    monkeypatch.setattr(cuda, "_compile", lambda source, sizes=(): lambda *args, block_size:
                        KERNELS[source[3]].__wrapped__(*args))
    monkeypatch.setattr(cuda, "write", lambda values, array: np.array(values))
    for kind, expected in ((Clipped, -0.01), (optim.SGD, -0.5)):
        ps = [Tensor(np.zeros(n, "float32")) for n in (1, 2)]
        kind(ps, 0.5).step([Tensor(np.ones(n, "float32")) for n in (1, 2)])
        assert all((p.data == np.float32(expected)).all() for p in ps)
    assert imitation.launched == [("sgd", 2)]       # of two parameters


@pytest.mark.parametrize("f", cuda.SIGNS, ids=operator.attrgetter("__name__"))
def test_arithmetic(f, imitation):
    """It is that of numpy, bit for bit, in the memory order of images."""
    for dtype in ("float32", "float64"):
        x = draw(dtype, 2, 4, 5, 3).transpose(0, 3, 1, 2)
        for a, b in ((x, x[:, ::-1]), (x, 0.3), (2, x), (x, draw(dtype, 3, 1, 1)[None])):
            y = cuda.elementwise(f, a, b)
            assert (y == f(a, b)).all() and y.dtype == dtype and y.strides == x.strides


def check_column_sums(xp, shape, dtype):
    """Sums of small whole numbers are exact, and are the same each time, in any memory order."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-4, 5, shape).astype(dtype) for _ in range(2))
    x, y = xp.asarray(a), xp.asarray(b, order="F")
    assert (backend.to_numpy(cuda.column_sums(x)) == a.sum(-2)).all()
    assert (backend.to_numpy(cuda.column_sums(x, y)) == (a * b).sum(-2)).all()
    noise = xp.asarray(generator.normal(size=shape).astype(dtype))
    assert (cuda.column_sums(noise) == cuda.column_sums(noise)).all()


def test_column_sums(imitation, monkeypatch):
    """(300, 3) has two blocks, the second of which adds up what both have found.

    On more processors (150, 33) has two groups of columns, and (2, 130, 4) two samples, of several
    blocks each.
    """
    for shape in ((0, 3), (3, 0), (300, 3), (70, 33), (2, 3, 4)):
        check_column_sums(imitation, shape, "float32")
    assert ("column_sums", 2) in imitation.launched
    monkeypatch.setattr(cuda, "_processors", lambda: 20)
    cuda._finished.cache_clear()
    for shape in ((150, 33), (2, 130, 4)):
        check_column_sums(imitation, shape, "float32")
    cuda._finished.cache_clear()


def check_write(xp):
    """Numbers and arrays of one of any dtype enter the array in their order."""
    values = (0.1, xp.full(1, 2.5, "float32"), xp.full((), -3.0), 4, xp.full((1, 1), 5, "int64"),
              xp.full((), True), xp.full((), 7, "uint8"))
    expected = [0.1, 2.5, -3, 4, 5, 1, 7]
    assert cuda.write(values, None).tolist() == expected
    single = cuda.write(values, xp.zeros(7, "float32"))
    assert single.tolist() == np.float32(expected).tolist()
    with pytest.raises(ValueError, match="arrays of one"):
        cuda.write([xp.zeros(2)], None)


def check_add_up(xp):
    """The sum has the bits of one addition after the other, in groups of any size."""
    for dtype in ("float32", "float64"):
        numbers = draw(dtype, 150)
        total, expected = None, np.zeros((), dtype)
        for n in numbers:
            expected = expected + n
        for begin, end in ((0, 64), (64, 65), (65, 128), (128, 150)):
            total = cuda.add_up([xp.asarray(n) for n in numbers[begin:end]], total)
        assert total.item() == expected and total.shape == ()
    assert cuda.add_up([xp.full((), 0.5), xp.full((), 0.25, "float32")], None).item() == 0.75


def test_values_are_written_together(imitation):
    check_write(imitation)
    assert imitation.launched == [("write",)] * 2


def test_numbers_are_added_up_in_their_order(imitation):
    check_add_up(imitation)


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
        assert 1 <= len(values) <= 4 and {v.dtype.kind for v in values} == {"f"}
        assert total is None or isinstance(total, np.ndarray)
        for value in values:
            total = value + (0.0 if total is None else total)
        return np.asarray(total)
    numbers = [{"loss": np.array(v), "right": np.array(v > 0), "count": np.array(i),
                "mixed": np.array(v) if i % 5 < 3 else float(v),
                **({"nats": float(v)} if i % 3 == 0 else {})}
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
    assert [list(result[1]) for result in results] == [list(numbers[0])] * 3    # the log's columns


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
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(8, dtype="float32"), 4)
    for x, y in ((a, a.T), (a.T, a), (a, np.broadcast_to(a.T, (2, 4, 3))), (windows, windows.T),
                 (windows.T, windows)):
        assert (cuda.product(x, y) == x @ y).all()


def test_products_of_other_sizes_are_refused(cublas):
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(5, 6\)"):
        cuda.product(np.ones((3, 4), "float32"), np.ones((5, 6), "float32"))


def test_products_round_only_if_that_was_chosen(cublas, monkeypatch):
    """With "cupy" no product rounds to TensorFloat-32, and with "cupy-tf32" no exact one."""
    rounded, a = [], np.ones((2, 2), "float32")
    monkeypatch.setattr(cuda, "_use_current_stream", rounded.append)
    for tf32 in False, True:
        monkeypatch.setattr(cuda, "tf32", tf32)
        cuda.product(a, a)
        cuda.product(a, a, exact=True)
    assert rounded == [False, False, True, False]


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
    assert "(unsigned int)(i >> 34)" in cuda.PHILOX         # for arrays that no test can hold


def test_draws_depend_on_the_seed_and_on_their_number():
    """A seed in an array gives the numbers of the seed; each draw has other numbers."""
    source, again = cuda.Philox(5), cuda.Philox(np.array(5, np.uint64))
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


@pytest.mark.parametrize("word, normal, uniform", [
    (0, math.sqrt(64 * math.log(2)), -1), (2 ** 32 - 1, 0, 3 - 2 ** -22)])
def test_the_least_and_the_largest_word_give_finite_numbers(word, normal, uniform, monkeypatch):
    """Among 10^5 numbers they hardly ever occur. The logarithm of 0 would be infinite."""
    monkeypatch.setattr(cuda, "_draw", lambda key, draw, shape: np.full(shape, word, np.uint32))
    source = cuda.Philox(0)
    assert source.normal((1,))[0] == pytest.approx(normal, rel=1e-6)        # that of float32
    assert source.uniform(-1, 3, (1,))[0] == uniform
    assert source.integers(7, (1,))[0] == (6 if word else 0)


@pytest.mark.parametrize("axis", [0, 1, -2, -1, np.int64(1), None, (0, 2)])
def test_the_gradient_of_a_maximum_on_a_gpu_is_that_on_a_cpu(axis, monkeypatch):
    """The kernel has short axes of contiguous arrays, and the general lines the others."""
    def derivatives():
        x = Tensor(np.floor(2 * draw("float64", 70, 3, 4)))
        w = Tensor(draw("float64", *x.max(axis).shape, seed=1))
        (g,) = grad((x.max(axis) * w).sum(), [x], create_graph=True)
        return [g.data, *[h.data for h in grad((g ** 3).sum(), [w])]]
    expected, calls = derivatives(), []

    def launch(function, *args):
        calls.append(function)
        function.__wrapped__(*args)
    monkeypatch.setattr(backend, "cuda", types.SimpleNamespace(
        launch=launch, share=cuda.share, has_short_axis=cuda.has_short_axis,
        elementwise=lambda f, *args: f(*args), order_for_sum=lambda a, axis: a))
    for x, y in zip(derivatives(), expected, strict=True):
        assert (x == y).all()
    assert len(calls) == 2 * (type(axis) is int and axis != 0)


def test_dropout_of_a_philox_draws_the_masks_of_bernoulli():
    """The mask and the product are one kernel; another draw of the stream has another mask."""
    x, layer = Tensor(draw("float32", 50, 40)), nn.Dropout(0.3)
    with nn.use_random(cuda.Philox(5)):
        first, second = layer(x), layer(x)
    source = cuda.Philox(5)
    for y in (first, second):
        keep = source.bernoulli(0.7, x.shape)
        assert (y.data == x.data * (keep * np.float32(1 / 0.7))).all()
        (g,) = grad((y * x.data).sum(), [x])
        assert (g.data == y.data).all()
    assert (first.data != second.data).any()


# Other functions

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
