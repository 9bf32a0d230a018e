"""The three functions of conv.py on arrays, by products of matrices (im2col).

T, x, w and y are those of conv.py: conv() is dT/dy, conv_transpose() dT/dx and conv_weight() dT/dw.

The kernel-sized windows of x become the rows of a matrix, which is multiplied by the weights as a
matrix. The memory layouts make this cheap:

- In memory, images lie channels last, as (N, H, W, C). A row of a window is then one contiguous run
  of kw * C numbers, and a window is copied as kh such runs. numpy's elementwise operations keep the
  layout of their inputs, so it is kept throughout a network. (On cupy, arithmetic and the kernels
  keep it. Its other operations return to the standard layout, which costs a copy.)
- In memory, weights lie kernel first, as (kh, kw, C, O), which is the layout of the matrix.

Each function works on a few images at a time, so few that their matrix of windows stays in the
processor's cache.

With stride 1, x and y can change places in T: T(x, w, y) with padding p is T(y, w', x) with
padding k - 1 - p, where w' is w turned by 180 degrees, with O and C exchanged. So a convolution
is also a transposed convolution, and each function takes the faster of two ways, from n channels
to m:

- A convolution copies n numbers for each pixel of the result and each place in the kernel, and
  multiplies each of them by m weights.
- A transposed convolution computes m numbers for each pixel of the input and each place in the
  kernel, by n multiplications each, and adds them up.
"""

import functools
import math
import operator

import numpy as np

from . import backend
from .backend import Array

Size = tuple[int, int]      # (vertical, horizontal)

COPY, ADD = 64, 128     # the time to copy a number, or to add one to another, in multiplications


def conv(x: Array, w: Array, bias: Array | None, stride: Size, padding: Size) -> Array:
    """Return dT/dy plus the bias."""
    (o, c), kernel, image = w.shape[:2], w.shape[2:], x.shape[2:]
    size = _output_size(image, kernel, stride, padding)
    if _can_turn(kernel, stride, padding) and not _is_copying_faster(kernel, c, image, o, size):
        return conv_transpose(x, _turn(w), bias, stride, _pad_turned(kernel, padding), size)
    matrix = backend.xp.ascontiguousarray(w.transpose(2, 3, 1, 0))
    matrix = matrix.reshape(math.prod(kernel) * c, o)
    y = backend.xp.empty((len(x), *size, o), x.dtype)

    def work(piece):
        rows = _windows(x[piece], kernel, stride, padding, size)
        columns = _multiply(rows, matrix, y[piece].reshape(len(rows), o))
        if bias is not None:
            columns, row = backend.widen(columns, bias)
            backend.add_to(row, columns)
    _in_pieces(y, len(matrix), work)
    return y.transpose(0, 3, 1, 2)


def conv_weight(x: Array, y: Array, kernel: Size, stride: Size, padding: Size) -> Array:
    """Return dT/dw, weights of the size `kernel`."""
    (c, *image), (o, *size) = x.shape[1:], y.shape[1:]
    if _can_turn(kernel, stride, padding) and not _is_copying_faster(
            kernel, c, image, o, size, COPY):       # than copying the windows of y
        turned = conv_weight(y, x, kernel, stride, _pad_turned(kernel, padding))
        return backend.to_kernel_first(_turn(turned))
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))

    def work(piece):
        rows = _windows(x[piece], kernel, stride, padding, y.shape[1:3])
        return _multiply(rows.T, y[piece].reshape(len(rows), o))
    matrix = functools.reduce(operator.add, _in_pieces(y, math.prod(kernel) * c, work))
    return matrix.reshape(*kernel, c, o).transpose(3, 2, 0, 1)


def conv_transpose(y: Array, w: Array, bias: Array | None, stride: Size, padding: Size,
                   size: Size) -> Array:
    """Return dT/dx plus the bias, images of `size` (H, W).

    Each pixel of y times the kernel is added to the pixel's window in the image (col2im), unless
    a convolution is faster.
    """
    (o, c), kernel = w.shape[:2], w.shape[2:]
    if _can_turn(kernel, stride, padding) and _is_copying_faster(kernel, o, y.shape[2:], c, size):
        return conv(y, _turn(w), bias, stride, _pad_turned(kernel, padding))
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))
    kernel = w.transpose(2, 3, 1, 0)
    x = backend.xp.empty((len(y), *size, c), y.dtype)
    # One product for all windows means fewer launches on a GPU. On a CPU it means planes: they are
    # faster to add than rows if there are few channels, but mostly empty if the kernel exceeds y.
    is_sparse = math.prod(size) > 4 * math.prod(stride) * math.prod(y.shape[1:3])
    add = _add_columns if backend.xp is np and (c > 3 or is_sparse) else _add_products
    add(y, kernel, bias, stride, padding, x)
    return x.transpose(0, 3, 1, 2)


def _output_size(image, kernel, stride, padding):
    size = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, kernel, stride, padding))
    if min(size) < 1:
        raise ValueError(f"a kernel of {kernel} does not fit into an image of {tuple(image)} with "
                         f"padding {padding}: use a smaller kernel or more padding")
    return size


def _can_turn(kernel, stride, padding):
    """Return whether x and y can change places in T."""
    return stride == (1, 1) and padding[0] < kernel[0] and padding[1] < kernel[1]


def _turn(w):
    """Return the weights for T with x and y in each other's place."""
    return w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)


def _pad_turned(kernel, padding):
    """Return the padding for T with x and y in each other's place."""
    return kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]


def _is_copying_faster(kernel, n, image, m, size, other=ADD):
    """Return whether copying windows of the input is faster than the other way.

    The input has n channels of size `image`, the result m channels of `size`. The other way adds
    up windows of the result, or copies them (`other` is then COPY).
    """
    if math.prod(kernel) == 1 or math.prod(size) == 1:      # the windows are long runs
        return True
    return n * math.prod(size) * (COPY + m) <= m * math.prod(image) * (other + n)


def _add_products(y, kernel, bias, stride, padding, x):
    """Fill x (n, ih, iw, c) with the sums of the windows that one product with y computes.

    y (n, oh, ow, o), kernel (kh, kw, c, o). Each pixel of y times the kernel is a window.
    """
    (_, oh, ow, o), (kh, kw, c, _), (_, ih, iw, _) = y.shape, kernel.shape, x.shape

    def work(piece):
        windows = _multiply(y[piece].reshape(-1, o), kernel.reshape(-1, o).T)
        image, windows = backend.join_floats(2, x[piece], windows)
        _add_windows(windows, ih, iw, image.shape[3], oh, ow, kh, kw, *stride, *padding, image)
        if bias is not None:
            backend.add_to(bias, x[piece])
    # for each pixel of y: its o numbers, and those of windows or image, whichever has more
    _in_pieces(y, o + max(kh * kw, -(-ih * iw // (oh * ow))) * c, work)


def _add_columns(y, kernel, bias, stride, padding, x):
    """Fill x as _add_products does, by smaller products, whose results stay in the cache.

    There is a product for each row of the kernel and each sw of its columns, where sw is the
    horizontal stride. The rows of the image are divided into blocks of sw pixels, and window j
    begins with block j. Columns b ... b + sw - 1 of the window fill block j + b // sw, so one slice
    adds them for all windows: of kw = 4 columns at sw = 2, the first two to block j, the others to
    block j + 1.
    """
    (_, oh, ow, o), (kh, kw, c, _), (_, ih, iw, _) = y.shape, kernel.shape, x.shape
    (sh, sw), (ph, pw) = stride, padding
    rows = max(ih + ph, (oh - 1) * sh + kh)
    blocks = max(-(-(iw + pw) // sw), ow - 1 + -(-kw // sw))

    def work(piece):
        pixels = y[piece].reshape(-1, o)
        frame = backend.xp.zeros((len(x[piece]), rows, blocks, sw * c), y.dtype)
        for a in range(kh):
            for b in range(0, kw, sw):
                columns = _multiply(pixels, kernel[a, b:b + sw].reshape(-1, o).T)
                part = frame[:, a:a + sh * oh:sh, b // sw:b // sw + ow, :columns.shape[1]]
                part += columns.reshape(part.shape)
        frame = frame.reshape(-1, rows, blocks * sw, c)[:, ph:ph + ih, pw:pw + iw]
        x[piece] = frame if bias is None else frame + bias
    # for each pixel of y: sh sw c numbers of `frame`, sw c of `columns`, o of `pixels`
    _in_pieces(y, (sh + 1) * sw * c + o, work)


def _windows(x, kernel, stride, padding, size):
    """Return the kernel-sized windows of images x (N, C, H, W) as rows: (pixels, kh kw C)."""
    x = x.transpose(0, 2, 3, 1)
    n, ih, iw, c = x.shape
    if kernel == stride == (1, 1) and padding == (0, 0):
        return x.reshape(n * ih * iw, c)
    # numbers are copied in runs: of a row of the result if the columns of y are contiguous, else of
    # a row of the kernel
    order = "F" if backend.xp is np and c < 3 and size[1] > kernel[1] * c else "C"
    y = backend.xp.empty((n * math.prod(size), math.prod(kernel) * c), x.dtype, order)
    wide_x, wide_y = backend.join_floats(4, x, y)
    _copy_windows(wide_x, ih, iw, wide_x.shape[3], *size, *kernel, *stride, *padding, wide_y)
    return y


# An image is (ih, iw) with c channels, there are (oh, ow) windows of size (kh, kw), (sh, sw) is the
# stride and (ph, pw) the padding. In C, i is the place in the output. Each division of n takes one
# coordinate from it, and what is left at the end is the number of the image.
SIZES = ", ".join(f"int32 {name}" for name in "ih iw c oh ow kh kw sh sw ph pw".split())


@backend.kernel(f"raw T x, {SIZES}", "T y", """
                unsigned n = i;
                int channel = n % c; n /= c;
                int b = n % kw; n /= kw;
                int a = n % kh; n /= kh;
                int column = int(n % ow) * sw + b - pw; n /= ow;
                int row = int(n % oh) * sh + a - ph; n /= oh;
                bool inside = row >= 0 && row < ih && column >= 0 && column < iw;
                y = inside ? x[(((long long)n * ih + row) * iw + column) * c + channel] : T(0)
                """)
def _copy_windows(x, ih, iw, c, oh, ow, kh, kw, sh, sw, ph, pw, y):
    """Fill y (n oh ow, kh kw c) with the windows of x (n, ih, iw, c)."""
    frame = backend.xp.zeros((len(x), ih + 2 * ph, iw + 2 * pw, c), x.dtype)
    frame[:, ph:ph + ih, pw:pw + iw] = x
    # the channels' stride is not used: with one channel, numpy may set it to any value
    by_image, by_row, by_column, _ = frame.strides
    shape = len(x), oh, ow, kh, kw * c
    y.reshape(shape)[...] = backend.xp.lib.stride_tricks.as_strided(
        frame, shape, (by_image, sh * by_row, sw * by_column, by_row, frame.itemsize))


@backend.kernel(f"raw T windows, {SIZES}", "T x", """
                unsigned n = i;
                int channel = n % c; n /= c;
                int column = n % iw + pw; n /= iw;
                int row = n % ih + ph; n /= ih;
                T sum = 0;
                for (int a = row % sh, k = row / sh; a < kh && k >= 0; a += sh, --k)
                    for (int b = column % sw, j = column / sw; b < kw && j >= 0; b += sw, --j)
                        if (k < oh && j < ow)
                            sum += windows[(((((long long)n * oh + k) * ow + j) * kh + a) * kw + b)
                                           * c + channel];
                x = sum
                """)
def _add_windows(windows, ih, iw, c, oh, ow, kh, kw, sh, sw, ph, pw, x):
    """Fill x (n, ih, iw, c) with the sums of the windows (n oh ow, kh kw c): col2im.

    The image is divided into sh sw planes, one for each place in a block of (sh, sw) pixels. Pixel
    (a, b) of all windows makes a plane too, and is added to the plane (a % sh, b % sw), a // sh
    rows and b // sw columns further on. All planes have (rows, columns), with zeros beyond the
    windows, so a plane is added to another one as one long row, `start` numbers further on.
    """
    rows = max(-(-(ih + ph) // sh), oh + (kh - 1) // sh)
    columns = max(-(-(iw + pw) // sw), ow + (kw - 1) // sw)
    planes = backend.xp.zeros((kh, kw, c, len(x), rows, columns), x.dtype)
    planes[..., :oh, :ow] = windows.reshape(len(x), oh, ow, kh, kw, c).transpose(3, 4, 5, 0, 1, 2)
    planes = planes.reshape(kh, kw, c, len(x) * rows * columns)
    frame = backend.xp.zeros((sh, sw, *planes.shape[2:]), x.dtype)
    for a in range(kh):
        for b in range(kw):
            start = a // sh * columns + b // sw
            frame[a % sh, b % sw, :, start:] += planes[a, b, :, :planes.shape[3] - start]
    frame = frame.reshape(sh, sw, c, len(x), rows, columns).transpose(3, 4, 0, 5, 1, 2)
    frame = frame.reshape(len(x), rows * sh, columns * sw, c)
    x[...] = frame[:, ph:ph + ih, pw:pw + iw]


def _multiply(a, b, out=None):
    """Return the product of two matrices, computed by this thread."""
    if backend.xp is not np:
        return backend.product(a, b, out)
    multiply = np.multiply if a.shape[1] == 1 else np.matmul    # an outer product, see cpu.product
    return multiply(a, b, out=out)


def _in_pieces(y, columns, work):
    """Return [work(piece), ...] for slices of the images of y (N, OH, OW, O).

    A slice has `columns` numbers for each pixel; backend.run_in_pieces says how many images it has.
    """
    return backend.run_in_pieces(len(y), math.prod(y.shape[1:3]) * columns * y.itemsize, work)
