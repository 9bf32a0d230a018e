"""Convolution, transposed convolution and the weight gradient, from one trilinear form.

For images x, weights w and outputs y let

    T(x, w, y) = sum over n, o, i, j, c, a, b of
                 x[n, c, s i + a - p, s j + b - p]  w[o, c, a, b]  y[n, o, i, j]

with stride s, padding p and x = 0 outside the image. The partial derivatives of T are

    conv2d(x, w)            = dT/dy     the output of a convolutional layer
    conv_transpose2d(y, w)  = dT/dx     the output of a transposed convolutional layer, and the
                                        gradient of conv2d with respect to x
    conv_weight(x, y)       = dT/dw     the gradient of both with respect to w

T is linear in each argument. So the derivatives of each of the three functions are the other two
functions, to every order (Goodfellow et al. 2016, Deep Learning, section 9.5).

As usual in deep learning, the kernel is not turned: this is a cross-correlation.

convolve_by_sums() is the simple version: it computes dT/dy as written above, in a few lines. Read
it first; the tests compare the fast functions with it.

x is (N, C, H, W), w is (O, C, kh, kw), y is (N, O, OH, OW) with OH = (H + 2p - kh) // s + 1.

The fast functions use im2col: the kernel-sized windows of x become the rows of a matrix, which is
multiplied by the weights as a matrix. The memory layouts make this cheap:

- In memory, images lie channels last, as (N, H, W, C). A row of a window is then one contiguous run
  of kw * C numbers, and a window is copied as kh such runs. numpy's elementwise operations keep the
  layout of their inputs, so it is kept throughout a network. (On cupy, arithmetic and the kernels
  keep it. Its other operations return to the standard layout, which costs a copy.)
- In memory, weights lie kernel first, as (kh, kw, C, O), which is the layout of the matrix.
"""

import functools
import math
import operator

import numpy as np

from . import backend
from .ops import as_tensors, channel_sum, check_bias
from .tensor import Tensor, op

Pair = int | tuple[int, int]        # a number for both directions, or (vertical, horizontal)


def convolve_by_sums(x: np.ndarray, w: np.ndarray, stride: Pair = 1,
                     padding: Pair = 0) -> np.ndarray:
    """Return conv2d(x, w) of arrays, computed by the definition; slow, for reading and for tests.

    y[n, o, i, j] = sum over c, a, b of x[n, c, s i + a - p, s j + b - p] w[o, c, a, b]
    """
    (s, t), (p, q) = stride_pair(stride), padding_pair(padding)
    x = np.pad(x, [(0, 0), (0, 0), (p, p), (q, q)])
    (N, C, H, W), (O, _, kh, kw) = x.shape, w.shape
    y = np.zeros((N, O, (H - kh) // s + 1, (W - kw) // t + 1), x.dtype)
    for n, o, i, j in np.ndindex(y.shape):
        for c, a, b in np.ndindex(C, kh, kw):
            y[n, o, i, j] += x[n, c, s * i + a, t * j + b] * w[o, c, a, b]
    return y


def conv2d(x: Tensor, w: Tensor, bias: Tensor | None = None, stride: Pair = 1,
           padding: Pair = 0) -> Tensor:
    """Return the convolution of images x with the kernels w.

        y[n, o, i, j] = bias[o] + sum over c, a, b of
                        x[n, c, s i + a - p, s j + b - p] w[o, c, a, b]

    x (N, C, H, W); w (O, C, kh, kw); bias (O,). stride s and padding p are numbers or pairs
    (vertical, horizontal). Returns (N, O, OH, OW). Raises ValueError for other shapes, for a stride
    below 1 or a padding below 0, and if the kernel is larger than the padded image.
    """
    x, w, bias = as_tensors(x, w, bias, optional=1)
    stride, padding = stride_pair(stride), padding_pair(padding)
    _check(x, w, 1, "conv2d")
    check_bias(bias, w.shape[0])
    return op(_conv(x.data, w.data, bias, stride, padding),
              (x, lambda g, y: _transposed(g, w, None, stride, padding, x.shape[2:])),
              (w, lambda g, y: conv_weight(x, g, w.shape[2:], stride, padding)),
              (bias, lambda g, y: channel_sum(g)))


def conv_transpose2d(y: Tensor, w: Tensor, bias: Tensor | None = None, stride: Pair = 1,
                     padding: Pair = 0, output_padding: Pair = 0) -> Tensor:
    """Return the transposed convolution of y with the kernels w.

        x[n, c, k, l] = bias[c] + sum of y[n, o, i, j] w[o, c, a, b]
                        over all o, i, j, a, b with s i + a - p = k and s j + b - p = l

    y (N, O, OH, OW); w (O, C, kh, kw); bias (C,). Returns (N, C, H, W) with
    H = (OH - 1) s - 2p + kh + output_padding. A convolution of stride s maps s different image
    sizes to OH; 0 <= output_padding < s chooses one of them. Raises ValueError for an
    output_padding outside this range, for other shapes, and if the result would be empty.
    """
    y, w, bias = as_tensors(y, w, bias, optional=1)
    stride, padding = stride_pair(stride), padding_pair(padding)
    extra = padding_pair(output_padding)
    _check(y, w, 0, "conv_transpose2d")
    check_bias(bias, w.shape[1])
    if any(e >= s for e, s in zip(extra, stride)):
        raise ValueError(f"output_padding {extra} must be below the stride {stride}")
    size = tuple((n - 1) * s - 2 * p + k + e
                 for n, s, p, k, e in zip(y.shape[2:], stride, padding, w.shape[2:], extra))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d of an image {y.shape[2:]} by a kernel {w.shape[2:]} "
                         f"with stride {stride} and padding {padding} would have size {size}: "
                         "use a larger image or kernel, or less padding")
    return _transposed(y, w, bias, stride, padding, size)


def _transposed(y, w, bias, stride, padding, size):
    """Return the transposed convolution whose result has `size` (H, W)."""
    return op(_conv_transpose(y.data, w.data, bias, stride, padding, size),
              (y, lambda g, x: conv2d(g, w, None, stride, padding)),
              (w, lambda g, x: conv_weight(g, y, w.shape[2:], stride, padding)),
              (bias, lambda g, x: channel_sum(g)))


def conv_weight(x: Tensor, y: Tensor, kernel: tuple[int, int], stride: tuple[int, int],
                padding: tuple[int, int]) -> Tensor:
    """Return dT/dw: conv2d's gradient with respect to w, if its output's gradient is y.

    x (N, C, H, W), y (N, O, OH, OW) and the kernel's size (kh, kw) -> (O, C, kh, kw). The shapes
    are not checked: they are those of a convolution.

        w[o, c, a, b] = sum over n, i, j of x[n, c, s i + a - p, s j + b - p] y[n, o, i, j]
    """
    return op(_conv_weight(x.data, y.data, kernel, stride, padding),
              (x, lambda g, w: _transposed(y, g, None, stride, padding, x.shape[2:])),
              (y, lambda g, w: conv2d(x, g, None, stride, padding)))


# The three functions on arrays. Each works on a few images at a time, so few that their matrix of
# windows stays in the processor's cache.
#
# With stride 1, x and y can change places in T: T(x, w, y) with padding p is T(y, w', x) with
# padding k - 1 - p, where w' is w turned by 180 degrees, with O and C exchanged. So a convolution
# is also a transposed convolution, and each function takes the faster of two ways, from n channels
# to m:
#
# - A convolution copies n numbers for each pixel of the result and each place in the kernel, and
#   multiplies each of them by m weights.
# - A transposed convolution computes m numbers for each pixel of the input and each place in the
#   kernel, by n multiplications each, and adds them up.

COPY, ADD = 64, 128     # the time to copy a number, or to add one to another, in multiplications


def _conv(x, w, bias, stride, padding):
    (o, c), kernel, image = w.shape[:2], w.shape[2:], x.shape[2:]
    size = _output_size(image, kernel, stride, padding)
    if _can_turn(kernel, stride, padding) and not _is_copying_faster(kernel, c, image, o, size):
        return _conv_transpose(x, _turn(w), bias, stride, _pad_turned(kernel, padding), size)
    matrix = backend.xp.ascontiguousarray(w.transpose(2, 3, 1, 0))
    matrix = matrix.reshape(math.prod(kernel) * c, o)
    y = backend.xp.empty((len(x), *size, o), x.dtype)

    def work(piece):
        rows = _windows(x[piece], kernel, stride, padding, size)
        columns = _multiply(rows, matrix, y[piece].reshape(len(rows), o))
        if bias is not None:
            columns, row = backend.widen(columns, bias.data)
            backend.add_to(row, columns)
    _in_pieces(y, len(matrix), work)
    return y.transpose(0, 3, 1, 2)


def _conv_weight(x, y, kernel, stride, padding):
    (c, *image), (o, *size) = x.shape[1:], y.shape[1:]
    if _can_turn(kernel, stride, padding) and not _is_copying_faster(
            kernel, c, image, o, size, COPY):       # than copying the windows of y
        turned = _conv_weight(y, x, kernel, stride, _pad_turned(kernel, padding))
        return backend.to_kernel_first(_turn(turned))
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))

    def work(piece):
        rows = _windows(x[piece], kernel, stride, padding, y.shape[1:3])
        return _multiply(rows.T, y[piece].reshape(len(rows), o))
    matrix = functools.reduce(operator.add, _in_pieces(y, math.prod(kernel) * c, work))
    return matrix.reshape(*kernel, c, o).transpose(3, 2, 0, 1)


def _conv_transpose(y, w, bias, stride, padding, size):
    """Return dT/dx plus the bias, images of `size` (H, W).

    Each pixel of y times the kernel is added to the pixel's window in the image (col2im), unless
    a convolution is faster.
    """
    (o, c), kernel = w.shape[:2], w.shape[2:]
    if _can_turn(kernel, stride, padding) and _is_copying_faster(kernel, o, y.shape[2:], c, size):
        return _conv(y, _turn(w), bias, stride, _pad_turned(kernel, padding))
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))
    kernel = w.transpose(2, 3, 1, 0)
    x = backend.xp.empty((len(y), *size, c), y.dtype)
    # One product for all windows means fewer launches on a GPU. On a CPU it means planes: they are
    # faster to add than rows if there are few channels, but mostly empty if the kernel exceeds y.
    is_sparse = math.prod(size) > 4 * math.prod(stride) * math.prod(y.shape[1:3])
    add = _add_columns if backend.xp is np and (c > 3 or is_sparse) else _add_products
    add(y, kernel, bias, stride, padding, x)
    return x.transpose(0, 3, 1, 2)


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
            backend.add_to(bias.data, x[piece])
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
        x[piece] = frame if bias is None else frame + bias.data
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


# Sizes

def pair(v: Pair) -> tuple[int, int]:
    """Return a number, or a pair of numbers, as a pair (vertical, horizontal).

    Raises ValueError for anything else.
    """
    try:
        a, b = v if isinstance(v, (tuple, list)) else (v, v)
        return operator.index(a), operator.index(b)
    except (TypeError, ValueError):
        raise ValueError(f"give a whole number or a pair (vertical, horizontal), not {v!r}"
                         ) from None


def kernel_pair(v: Pair) -> tuple[int, int]:
    """Return the size of a kernel as a pair. Raises ValueError for a size below 1."""
    return _at_least(1, v, "a kernel is at least 1x1")


def stride_pair(v: Pair) -> tuple[int, int]:
    """Return a stride as a pair. Raises ValueError for a stride below 1."""
    return _at_least(1, v, "a stride is at least 1")


def padding_pair(v: Pair) -> tuple[int, int]:
    """Return a padding as a pair. Raises ValueError for a padding below 0."""
    return _at_least(0, v, "a padding is at least 0")


def _at_least(least, v, rule):
    if min(numbers := pair(v)) < least:
        raise ValueError(f"{rule}, got {numbers}")
    return numbers


def _output_size(image, kernel, stride, padding):
    size = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(image, kernel, stride, padding))
    if min(size) < 1:
        raise ValueError(f"a kernel of {kernel} does not fit into an image of {tuple(image)} with "
                         f"padding {padding}: use a smaller kernel or more padding")
    return size


def _check(images, w, axis, name):
    if images.ndim != 4 or w.ndim != 4 or images.shape[1] != w.shape[axis]:
        raise ValueError(f"{name} with weights {w.shape} needs images (N, {w.shape[axis]}, H, W), "
                         f"got {images.shape}")
    kernel_pair(w.shape[2:])        # refuses a kernel without numbers
