"""What an NVIDIA GPU needs: products by cuBLAS, kernels, random numbers.

backend.use("cupy") imports this file; on a CPU nothing does. Nothing here changes what is computed,
except for rounding and for the random numbers of training steps. All of it can be recorded in a
CUDA graph, see graphs.py: nothing is copied between host and device. Products and sums share memory
of their own, so streams that use them must wait for each other.
"""

import contextlib
import ctypes
import functools
import glob
import itertools
import math
import operator
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import backend
from .backend import Array, UserError
from .context import use_value

tf32 = False        # whether products of float32 round their inputs to TensorFloat-32


# Matrix products. cupy's own cannot be recorded in a graph, because it calls cuBLAS with a
# workspace that is allocated at the call. Here cuBLAS gets one of ours.

WORKSPACE = 32 << 20        # bytes, the size that NVIDIA recommends for the H100
PROGRAMS = {"float32": "S", "float64": "D"}


@functools.cache
def _cublas():
    """Return the library of cuBLAS. Raises UserError if it is not found."""
    with contextlib.suppress(Exception):        # a part of newer cupy, which knows where CUDA lies
        from cuda import pathfinder
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    version = backend.xp.cuda.runtime.runtimeGetVersion() // 1000        # the one that cupy uses
    names = [f"libcublas.so.{version}", f"cublas64_{version}.dll"]
    folders = [os.path.join(path, "nvidia", "*", folder) for path in sys.path
               for folder in ("lib", os.path.join("lib", "*"), "bin", os.path.join("bin", "*"))]
    files = [file for folder in folders for name in names
             for file in glob.glob(os.path.join(folder, name))]
    for name in [*names, *files]:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise UserError("the cupy backend needs NVIDIA's cuBLAS, which was not found: install it by "
                    "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', by your CUDA version")


@functools.cache
def _handle():
    """Return a handle of cuBLAS for the current device."""
    handle = ctypes.c_void_p()
    _check(_cublas().cublasCreate_v2(ctypes.byref(handle)))
    return handle


@functools.cache
def _workspace():
    return backend.xp.cuda.memory.alloc(WORKSPACE)


def allocate() -> None:
    """Make the memory that all products and sums share, if that has not been done yet.

    Otherwise the first of them would take it from the memory pool of that moment.
    """
    _workspace()
    _finished()


def _check(status):
    """Raise MemoryError or RuntimeError if a function of cuBLAS has failed."""
    if status == 3:         # CUBLAS_STATUS_ALLOC_FAILED
        raise MemoryError("the GPU has no memory left for cuBLAS")
    if status:
        raise RuntimeError(f"cuBLAS has failed with status {status}")


def product(a: Array, b: Array, out: Array | None = None, exact: bool = False) -> Array:
    """Return the matrix product over the last two axes, in `out`, a contiguous array, if given.

    The axes before the last two broadcast. `exact` products do not round to TensorFloat-32. Other
    dtypes than float32 and float64 are left to cupy.
    """
    xp = backend.xp
    if a.ndim < 2 or b.ndim < 2 or a.dtype != b.dtype or a.dtype.name not in PROGRAMS:
        return xp.matmul(a, b, out=out)
    (m, k), (rows, n), batch = a.shape[-2:], b.shape[-2:], ()
    if a.ndim > 2 or b.ndim > 2:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if k != rows:
        raise ValueError(f"products need (..., n, k) and (..., k, m), got {a.shape} and {b.shape}")
    c = xp.empty((*batch, m, n), a.dtype) if out is None else out
    if 0 in (*batch, m, n, k):
        c.fill(0)
    else:
        count = math.prod(batch)
        _multiply(_stack(a, batch, count), _stack(b, batch, count), c.reshape(count, m, n),
                  tf32 and not exact)
    return c


def _stack(a, batch, count):
    """Return the matrices a, broadcast to the axes `batch`, as (count, rows, columns), or (1, ...).

    Their rows or their columns are contiguous.
    """
    if a.ndim == 2 or a.shape[:-2] == (1,) * (a.ndim - 2):
        a = a.reshape(1, *a.shape[-2:])
    elif a.shape[:-2] == batch:
        a = a.reshape(count, *a.shape[-2:])
    else:
        a = backend.xp.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(count, *a.shape[-2:])
    return a if _layout(a) else backend.xp.ascontiguousarray(a)


def _layout(a):
    """Return (transposed, leading dimension) of matrices (count, rows, columns) for cuBLAS.

    None stands for a layout that cuBLAS does not have. The stride of an axis of size 1 is not used.
    """
    (_, rows, columns), (_, by_row, by_column) = a.shape, [s // a.itemsize for s in a.strides]
    if (columns == 1 or by_column == 1) and (rows == 1 or by_row >= columns):
        return 0, by_row if rows > 1 else columns
    if (rows == 1 or by_row == 1) and (columns == 1 or by_column >= rows):
        return 1, by_column if columns > 1 else rows
    return None


def _multiply(a, b, c, rounded):
    """Fill c (count, m, n) with the products of a (count or 1, m, k) and b (count or 1, k, n).

    cuBLAS has matrices whose columns are contiguous. For it the memory of c is that of the
    transpose, which is b^T a^T.
    """
    count, m, n = c.shape
    k = a.shape[2]
    (a_transposed, lda), (b_transposed, ldb) = _layout(a), _layout(b)
    number = ctypes.c_float if c.dtype == "float32" else ctypes.c_double
    one, zero = number(1), number(0)
    _use_current_stream(rounded)

    def operand(x, leading):
        if count == 1:
            return _address(x), leading
        distance = x.strides[0] // x.itemsize if len(x) > 1 else 0      # from matrix to matrix
        return _address(x), leading, ctypes.c_longlong(distance)
    gemm = getattr(_cublas(), f"cublas{PROGRAMS[c.dtype.name]}gemm"
                   + ("_v2" if count == 1 else "StridedBatched"))
    _check(gemm(_handle(), b_transposed, a_transposed, n, m, k, ctypes.byref(one),
                *operand(b, ldb), *operand(a, lda), ctypes.byref(zero), *operand(c, n),
                *(() if count == 1 else (count,))))


def _address(a):
    return ctypes.c_void_p(a.data.ptr)


def place(a: Array) -> int:
    """Return the address of an array; it is 0 if the array is empty."""
    return _address(a).value or 0


_last = None        # the stream and the precision that cuBLAS has


def _use_current_stream(rounded):
    """Give cuBLAS the current stream and precision, if it has others."""
    global _last
    stream = backend.xp.cuda.get_current_stream().ptr
    if (stream, rounded) != _last:
        _check(_cublas().cublasSetMathMode(_handle(), 3 if rounded else 0))     # 3: TensorFloat-32
        _check(_cublas().cublasSetStream_v2(_handle(), ctypes.c_void_p(stream)))
        # cublasSetStream returns to cuBLAS's own workspace
        _check(_cublas().cublasSetWorkspace_v2(_handle(), ctypes.c_void_p(_workspace().ptr),
                                               ctypes.c_size_t(WORKSPACE)))
        _last = stream, rounded


C_NAMES = {"bool": "bool", "int8": "signed char", "int16": "short", "int32": "int",
           "int64": "long long", "uint8": "unsigned char", "uint16": "unsigned short",
           "uint32": "unsigned", "uint64": "unsigned long long", "float32": "float",
           "float64": "double"}


@functools.cache
def _processors():
    """Return the number of multiprocessors of the current device."""
    return backend.xp.cuda.Device().attributes["MultiProcessorCount"]


# Sums over rows. cupy adds up a column in one thread. Here a block of 32 x 32 threads adds up some
# of the rows of 32 columns, and the block that is the last to finish adds up what the others have
# found. The order of a sum does not depend on which one that is. TERM is what is added up.

SUMS = """
extern "C" __global__ void column_sums(const T* a, const T* b, int rows, int n, int groups,
                                       T* partial, unsigned* finished, T* y) {
    __shared__ T sums[32][32];
    __shared__ bool is_last;
    const int sample = blockIdx.x / groups, c = blockIdx.x % groups * 32 + threadIdx.x;
    const long long first = (long long)sample * rows * n + c;
    T sum = 0;
    if (c < n)
        for (int r = blockIdx.y * 32 + threadIdx.y; r < rows; r += gridDim.y * 32)
            sum += TERM;
    for (int round = 0; round < 2; ++round) {
        sums[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0)
            for (int k = 1; k < 32; ++k)
                sum += sums[k][threadIdx.x];
        const bool writes = threadIdx.y == 0 && c < n;
        if (round == 1 || gridDim.y == 1) {
            if (writes)
                y[(long long)sample * n + c] = sum;
            return;
        }
        T* mine = partial + (long long)blockIdx.x * gridDim.y * 32 + threadIdx.x;
        if (writes)
            mine[blockIdx.y * 32] = sum;
        __threadfence();                    // before the next line, others see what was written
        __syncthreads();
        if (threadIdx.x == 0 && threadIdx.y == 0)       // the counter returns to 0
            is_last = atomicInc(finished + blockIdx.x, gridDim.y - 1) == gridDim.y - 1;
        __syncthreads();
        if (!is_last)
            return;
        sum = 0;
        if (c < n)
            for (int k = threadIdx.y; k < gridDim.y; k += 32)
                sum += __ldcg(mine + k * 32);           // not from a cache of this processor
    }
}"""


@functools.cache
def _compile_sums(dtype, has_b):
    term = "a[first + (long long)r * n]" + (" * b[first + (long long)r * n]" if has_b else "")
    head = f"typedef {C_NAMES[dtype]} T;\n#define TERM {term}\n"
    return backend.xp.RawKernel(head + SUMS, "column_sums")


@functools.cache
def _finished():
    """Return the counters of blocks that have finished; they are 0 between launches."""
    return backend.xp.zeros(2 * _processors(), np.uint32)


def column_sums(a: Array, b: Array | None = None) -> Array:
    """Return the sums of the rows of a, or of a * b: (rows, n) -> (n,), (m, rows, n) -> (m, n)."""
    xp = backend.xp
    (*batch, rows, n), count = a.shape, 1 if a.ndim == 2 else len(a)
    y = xp.empty((*batch, n), a.dtype)
    if y.size:
        groups = -(-n // 32)
        blocks = max(1, min(-(-rows // 64), 2 * _processors() // (groups * count)))
        a, b = (v if v is None else xp.ascontiguousarray(v) for v in (a, b))
        _compile_sums(a.dtype.name, b is not None)((groups * count, blocks), (32, 32), (
            a, a if b is None else b, np.int32(rows), np.int32(n), np.int32(groups),
            xp.empty((blocks > 1) * groups * count * blocks * 32, a.dtype), _finished(), y))
    return y


# Elementwise functions

THREADS = 512       # in a block. With cupy's 128, blocks take longer to start than to run.


@functools.cache
def _inputs(source):
    """List the declarations of a kernel's inputs."""
    return [declared.strip() for declared in source[0].split(",")]


@functools.cache
def _compile(source, constants=()):
    """Return the kernel of a source; `constants` are the values of its inputs of type int32.

    They are compiled in, because a division by a constant is a multiplication.
    """
    _, outputs, code, name, preamble = source
    sizes = [each for each in _inputs(source) if each.startswith("int32 ")]
    code = "".join(f"const int {each.split()[1]} = {n};\n"
                   for each, n in zip(sizes, constants)) + code
    inputs = ", ".join([each for each in _inputs(source) if each not in sizes])
    return backend.xp.ElementwiseKernel(inputs, outputs, code, name, preamble=preamble)


def launch(function: Callable, *args: Any) -> None:
    """Run the CUDA kernel of a function with the decorator backend.kernel.

    An array that is declared as raw is read as a contiguous one.
    """
    arrays, constants = [], []
    for kind, a in itertools.zip_longest(_inputs(function.source), args, fillvalue=""):
        if kind.startswith("int32 "):
            constants.append(a)
        else:
            arrays.append(backend.xp.ascontiguousarray(a) if kind.startswith("raw ") else a)
    arrays, _ = _in_memory_order(tuple(arrays))
    if _waiting.get() is not None and not constants:
        _waiting.get().append((function.source, arrays))
    else:
        _compile(function.source, tuple(constants))(*arrays, block_size=THREADS)


# Several launches as one

# (source, arguments) of the launches in together(), or None outside it
_waiting = ContextVar("waiting", default=None)
TABLE = 64              # the most launches that become one: CUDA takes 4 kB of arguments


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Make the launches of the context at its end, those of the same kernel as one launch.

    They must have the same numbers and raw arrays. The other arrays must be contiguous; each launch
    has its own, of any size. Launches with other arrays are made one by one.
    """
    waiting = []
    with use_value(_waiting, waiting):
        yield
    groups = {}
    for source, args in waiting:
        raw = [each.startswith("raw ") for each in _inputs(source)]
        types = tuple([a.dtype.name if isinstance(a, backend.xp.ndarray) else None for a in args])
        own = tuple([i for i, dtype in enumerate(types) if dtype and not any(raw[i:i + 1])])
        size = args[-1].size
        if all(args[i].size == size and args[i].flags.c_contiguous for i in own):
            rest = tuple([place(a) if types[i] else a for i, a in enumerate(args)
                          if i not in own])
            groups.setdefault((source, own, types, rest), []).append(args)
        else:
            _compile(source)(*args, block_size=THREADS)
    for (source, own, types, _), calls in groups.items():
        for i in range(0, len(calls), TABLE):
            _launch_table(source, own, types, calls[i:i + TABLE])


def _launch_table(source, own, types, calls):
    """Run a kernel once for all `calls`, whose arguments `own` are arrays of their own."""
    n, sizes = len(calls), [call[-1].size for call in calls]
    table = np.zeros(1, [("sizes", np.int64, n), ("arrays", np.uint64, (len(own), n))])
    table["sizes"] = sizes
    table["arrays"] = [[place(call[i]) for call in calls] for i in own]
    kernel, numbers = _compile_table(source, own, types, n)
    rest = [number(a) if number else a for i, (a, number) in enumerate(zip(calls[0], numbers))
            if i not in own]
    blocks = min(-(-max(sizes) // THREADS), 4 * _processors())
    kernel((max(1, blocks), n), (THREADS,), (table, *rest))


@functools.cache
def _compile_table(source, own, types, n):
    """Return (kernel, [the dtype of each argument that is a number, None for arrays])."""
    _, outputs, code, name, preamble = source
    T = types[own[-1]]          # an output has the type T
    parameters, lines, numbers = [], [], []
    for i, declared in enumerate([*_inputs(source), *outputs.split(",")]):
        *_, kind, variable = declared.split()
        dtype = types[i] or (T if kind == "T" else kind)
        c = C_NAMES[dtype]
        numbers.append(None if types[i] else np.dtype(dtype).type)
        if i in own:
            lines.append(f"{c}& {variable} = (({c}*)table.arrays[{own.index(i)}][k])[i];")
        else:
            parameters.append(f"{c}{'*' if types[i] else ''} {variable}")
    text = f"""
        typedef {C_NAMES[T]} T;
        struct Table {{ long long sizes[{n}]; unsigned long long arrays[{len(own)}][{n}]; }};
        {preamble}
        extern "C" __global__ void {name}({", ".join(["Table table", *parameters])}) {{
            const int k = blockIdx.y;
            for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < table.sizes[k];
                 i += blockDim.x * gridDim.x) {{
                {" ".join(lines)}
                {code};
            }}
        }}"""
    return backend.xp.RawKernel(text, name), numbers


# Arrays whose axes are not in the order of memory, as those of images

SIGNS = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/"}


def elementwise(f: Callable, *args: Any) -> Array:
    """Return f(*args) in the memory order of the largest array.

    cupy's own functions return arrays in the standard order. For images this costs a copy at the
    next convolution.
    """
    args, axes = _in_memory_order(args)
    if f in SIGNS:
        y = _compile(("T a, T b", "T y", f"y = a {SIGNS[f]} b", f.__name__, ""))(
            *args, block_size=THREADS)
    else:
        y = f(*args)
    return _in_standard_order(y, axes)


def has_short_axis(x: Array, axis: Any) -> bool:
    """Return whether `axis` is one axis of a contiguous array, of at most 64 numbers."""
    return isinstance(axis, int) and x.ndim > 0 and x.shape[axis] <= 64 and x.flags.c_contiguous


def share(g: Array, x: Array, y: Array, axis: int) -> Array:
    """Return g / n where x equals its maximum y along an axis, at n places, and 0 elsewhere.

    g and y have the size 1 along the axis, which one thread reads from end to end: see
    has_short_axis.
    """
    n, step = x.shape[axis], math.prod(x.shape[axis % x.ndim + 1:])
    return _share(x, g, y, n, step, backend.xp.empty(x.shape, x.dtype))


# The index i counts the maxima. The numbers of each are `step` apart.
@backend.kernel("raw T x, T g, T y, int32 n, int32 step", "raw T shares", """
                const long long first = i / step * step * n + i % step;
                int equal = 0;
                for (int k = 0; k < n; ++k)
                    equal += x[first + (long long)k * step] == y;
                const T share = g * (1 / T(equal));
                for (int k = 0; k < n; ++k) {
                    const long long at = first + (long long)k * step;
                    shares[at] = share * T(x[at] == y);
                }""")
def _share(x, g, y, n, step, shares):
    g, y = (a.reshape(-1, 1, step) for a in (g, y))
    top = x.reshape(-1, n, step) == y
    shares.reshape(-1, n, step)[...] = top * (g * (1 / top.sum(1, keepdims=True).astype(g.dtype)))


def order_for_sum(a: Array, axis: Any) -> Array:
    """Return the array, with its axes in memory order if all of them are summed over.

    cupy adds up a whole array that is contiguous in 2 us, and another one in up to 50.
    """
    if axis is None or isinstance(axis, tuple) and len(axis) == a.ndim:
        (a,), _ = _in_memory_order((a,))
    return a


def join_floats(n: int, *arrays: Array) -> tuple[Array, ...]:
    """Return the arrays as contiguous ones of complex numbers, see backend.join_floats.

    A complex number stands for two floats of 4 or 8 bytes, which are added as such, or for four of
    4 bytes, which can only be copied. It is the largest one that the length of the last axis, and
    the places of the arrays in memory, allow.
    """
    arrays = tuple(map(backend.xp.ascontiguousarray, arrays))
    itemsize = arrays[0].itemsize
    # each run of channels, which is the first array's last axis, and each array begin at a multiple
    offsets = [arrays[0].shape[-1] * itemsize, *map(place, arrays)]
    for dtype in (np.dtype("complex128"), np.dtype("complex64")):
        if itemsize < dtype.itemsize <= n * itemsize and not any(
                offset % dtype.itemsize for offset in offsets):
            return tuple(a.view(dtype) for a in arrays)
    return arrays


def _in_standard_order(y, axes):
    """Return y, whose axes are those that _in_memory_order returned, with the axes of its input."""
    return y if axes is None else y.transpose([axes.index(i) for i in range(y.ndim)])


def _in_memory_order(args):
    """Return (args, axes): the arrays with their axes in the memory order of the largest one.

    Of equally large ones the first decides. An array that is broadcast, such as the gradient of a
    mean, has no order of its own. If the arrays differ in their number of axes, or if the one that
    decides is contiguous, they are returned as they are, and axes is None.
    """
    arrays = [a for a in args if isinstance(a, backend.xp.ndarray) and a.ndim]
    if len({a.ndim for a in arrays}) != 1:
        return args, None
    largest = max((a for a in arrays if 0 not in a.strides), key=lambda a: a.size,
                  default=arrays[0])
    if largest.flags.c_contiguous:
        return args, None
    axes = sorted(range(largest.ndim), key=lambda i: -largest.strides[i])
    return [a.transpose(axes) if getattr(a, "ndim", 0) else a for a in args], axes


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Return the arrays joined along an axis, in the memory order of the largest.

    cupy's own function returns the standard order, and copies from the host if there are more than
    eight arrays. Raises ValueError if there is no such axis or if the shapes differ in another one.
    """
    arrays, axes = _in_memory_order(arrays)
    n = arrays[0].ndim
    if not -n <= axis < n:
        raise ValueError(f"arrays of {n} axes have no axis {axis}")
    axis = axis % n if axes is None else axes.index(axis % n)
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1:]
    if any(a.ndim != n or (a.shape[:axis], a.shape[axis + 1:]) != (before, after) for a in arrays):
        raise ValueError(f"arrays of shapes {[a.shape for a in arrays]} do not join")
    parts = [0, *itertools.accumulate(a.shape[axis] for a in arrays)]
    y = backend.xp.empty((*before, parts[-1], *after), arrays[0].dtype)
    for a, begin, end in zip(arrays, parts, parts[1:]):
        y[(*[slice(None)] * axis, slice(begin, end))] = a
    return _in_standard_order(y, axes)


# Single numbers, which are arguments of kernels: nothing is copied from the host

def write(values: Sequence[float | Array], array: Array | None) -> Array:
    """Write numbers, or arrays of one, to `array`, or to a new float64 array, and return it.

    Raises ValueError for an array of more than one number.
    """
    array = backend.xp.empty(len(values), np.float64) if array is None else array
    arrays = [v for v in values if isinstance(v, backend.xp.ndarray)]
    if any(v.size != 1 for v in arrays):
        raise ValueError(f"numbers and arrays of one are written, got {[v.shape for v in arrays]}")
    kinds = tuple([value.dtype.name if isinstance(value, backend.xp.ndarray) else None
                   for value in values])
    _compile_write(kinds, array.dtype.name)((1,), (1,), (
        *[np.float64(v) if kind is None else v for v, kind in zip(values, kinds)], array))
    return array


@functools.cache
def _compile_write(kinds, dtype):
    parameters = [f"double x{i}" if kind is None else f"const {C_NAMES[kind]}* x{i}"
                  for i, kind in enumerate(kinds)]
    lines = [f"y[{i}] = {'*' * (kind is not None)}x{i};" for i, kind in enumerate(kinds)]
    return backend.xp.RawKernel(
        f'extern "C" __global__ void write({", ".join(parameters)}, {C_NAMES[dtype]}* y) '
        f'{{ {" ".join(lines)} }}', "write")


def is_float(value: Any) -> bool:
    """Return whether a value is an array of one float32 or float64."""
    return isinstance(value, backend.xp.ndarray) and value.size == 1 and (
        value.dtype.name in ("float32", "float64"))


def add_up(values: list[Array], total: Array | None) -> Array:
    """Add up to TABLE arrays of one number to `total`, or to 0, one after the other; return it."""
    total = backend.xp.zeros((), values[0].dtype) if total is None else total
    values = [v if v.dtype == total.dtype else v.astype(total.dtype) for v in values]
    table = np.zeros(1, [("n", np.int64), ("values", np.uint64, TABLE)])
    table["n"], table["values"][0, :len(values)] = len(values), [place(v) for v in values]
    _compile_add_up(total.dtype.name)((1,), (1,), (table, total))
    return total


@functools.cache
def _compile_add_up(dtype):
    kind = C_NAMES[dtype]
    return backend.xp.RawKernel(f"""
        struct Table {{ long long n; const {kind}* values[{TABLE}]; }};
        extern "C" __global__ void add_up(Table table, {kind}* total) {{
            {kind} sum = *total;
            for (int i = 0; i < table.n; ++i)
                sum += *table.values[i];
            *total = sum;
        }}""", "add_up")


# Random numbers: Philox4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).
# It maps a counter of four words and a key of two words to four random words, without a state.

PHILOX = """
__device__ unsigned int philox(unsigned long long key, unsigned int draw, unsigned long long i) {
    unsigned int c[4] = {(unsigned int)(i >> 2), (unsigned int)(i >> 34), draw, 0};
    unsigned int k0 = (unsigned int)key, k1 = (unsigned int)(key >> 32);
    for (int round = 0; round < 10; ++round) {
        unsigned int high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
        unsigned int high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c[i & 3];
}
"""


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """Return the random words of Philox4x32-10: counter (4, n) of words, key of 64 bits -> (4, n).

    This is the algorithm in numpy, for reading and for tests.
    """
    c = [np.asarray(word, np.uint64) for word in counter]
    k0, k1, word = key & 0xFFFFFFFF, key >> 32, np.uint64(0xFFFFFFFF)
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), second & word,
             (first >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), first & word]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c).astype(np.uint32)


def _draw(key, draw, shape):
    """Return the words of a draw, as the function of C does."""
    blocks = np.arange(-(-math.prod(shape) // 4), dtype=np.uint64)
    low, high = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    words = philox([low, high, np.full_like(low, draw), 0 * low], int(key))
    return backend.xp.asarray(words.T.reshape(-1)[:math.prod(shape)].reshape(shape))


@backend.kernel("uint64 key, uint32 draw", "uint32 y", "y = philox(key, draw, i)", PHILOX)
def _words(key, draw, y):
    y[...] = _draw(key, draw, y.shape)


# 2^-24 and 2^-32 are exact in float32

@backend.kernel("uint64 key, uint32 draw, float32 low, float32 span", "float32 y",
                "y = low + span * ((philox(key, draw, i) >> 8) * 5.9604644775390625e-8f)",
                PHILOX)
def _uniform(key, draw, low, span, y):
    y[...] = (_draw(key, draw, y.shape) >> 8).astype("float32") * 2.0 ** -24 * span + low


# Box and Muller 1958, with u1 in (0, 1]
@backend.kernel("uint64 key, uint32 draw", "float32 y", """
                float u1 = (philox(key, draw, i) + 1.0f) * 2.3283064365386963e-10f;
                float u2 = philox(key, draw + 1, i) * 2.3283064365386963e-10f;
                y = sqrtf(-2 * logf(u1)) * cospif(2 * u2)""", PHILOX)
def _normal(key, draw, y):
    xp = backend.xp
    u1 = (_draw(key, draw, y.shape).astype("float32") + 1.0) * 2.0 ** -32
    u2 = _draw(key, draw + 1, y.shape).astype("float32") * 2.0 ** -32
    y[...] = xp.sqrt(-2.0 * xp.log(u1)) * xp.cos(2.0 * math.pi * u2)


@backend.kernel("uint64 key, uint32 draw, uint32 bound", "bool y",
                "y = philox(key, draw, i) < bound", PHILOX)
def _bernoulli(key, draw, bound, y):
    y[...] = _draw(key, draw, y.shape) < bound


@backend.kernel("uint64 key, uint32 draw, uint32 bound, T x, T factor", "bool keep, T y",
                "keep = philox(key, draw, i) < bound; y = x * (keep ? factor : T(0))", PHILOX)
def _drop(key, draw, bound, x, factor, keep, y):
    keep[...] = _draw(key, draw, y.shape) < bound
    y[...] = x * (keep * factor).astype(x.dtype)


def _bound(p):
    """Return the number below which a random word is with probability p."""
    return min(round(p * 2 ** 32), 2 ** 32 - 1)


class Philox:
    """A source of random arrays on the device, with the methods of Random that training uses.

    seed   an integer of 64 bits, or an array of shape () of uint64 on the device: a recorded step
           draws other numbers at each launch if the array has another value

    The n-th draw depends on the seed and on n alone, and that of drop() on the order of its array
    in memory too. Floats are float32.
    """

    def __init__(self, seed: int | Array) -> None:
        self.seed = seed if isinstance(seed, backend.xp.ndarray) else np.uint64(seed)
        self.draws = 0

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape from the uniform distribution U(low, high)."""
        return self._fill(_uniform, shape, np.float32, float(low), float(high) - float(low))

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape from N(0, 1)."""
        return self._fill(_normal, shape, np.float32)

    def bernoulli(self, p: float, shape: tuple[int, ...]) -> Array:
        """Draw a boolean array of this shape; each element is True with probability p."""
        return self._fill(_bernoulli, shape, bool, _bound(p))

    def drop(self, p: float, factor: float, x: Array) -> tuple[Array, Array]:
        """Return (keep, y): `keep` is True with probability p, and y = factor * x there, else 0.

        The elements of `keep` are drawn in the order of x in memory.
        """
        xp = backend.xp
        keep, y = xp.empty_like(x, dtype=bool), xp.empty_like(x)
        self.draws += 2
        return keep, _drop(self.seed, self.draws, _bound(p), x, factor, keep, y)

    def integers(self, high: int, shape: tuple[int, ...]) -> Array:
        """Draw an array of this shape of integers from 0 to high - 1, all equally likely."""
        words = self._fill(_words, shape, np.uint32)
        return (words.astype(np.uint64) * int(high) >> 32).astype(np.int64)

    def permutation(self, n: int) -> Array:
        """Draw a random order of the integers from 0 to n - 1."""
        return backend.xp.argsort(self._fill(_words, (n,), np.uint32))

    def _fill(self, draw, shape, dtype, *numbers):
        self.draws += 2         # a draw of normals takes two words for each number
        return draw(self.seed, self.draws, *numbers, backend.xp.empty(shape, dtype))
