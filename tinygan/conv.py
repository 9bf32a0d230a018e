"""Convolution: one trilinear form with three faces.

For images x, weights w and outputs y let

    T(x, w, y) = sum over n, o, i, j, c, a, b of
                 x[n, c, s i + a - p, s j + b - p]  w[o, c, a, b]  y[n, o, i, j]

with stride s, padding p and x = 0 outside the image. Its three partial gradients are

    conv2d(x, w)            = dT/dy     what a convolutional layer computes
    conv_transpose2d(y, w)  = dT/dx     what a transposed one computes, and conv2d's x gradient
    conv_weight(x, y)       = dT/dw     the weight gradient of both

and T being linear in each argument, the derivatives of each are the other two: the triple is closed
under differentiation to every order. (Goodfellow et al. 2016, Deep Learning, section 9.5.)

x is (N, C, H, W), w is (O, C, kh, kw), y is (N, O, OH, OW) with OH = (H + 2p - kh) // s + 1. In
memory, images lie channels last, as (N, H, W, C): then a row of a kernel's window is one stretch of
kw * C numbers, and the windows become the rows of a matrix product by copying whole stretches.
numpy's elementwise operations keep an array's memory order, so the layout travels through a
network (cupy's return to the other, which costs a copy at the next convolution).
Weights lie kernel first, as (kh, kw, C, O): that is already the matrix to multiply with.
"""

import math
import operator

from . import backend
from .ops import channel_sum, check_bias, tensors
from .tensor import op


def conv2d(x, w, bias=None, stride=1, padding=0):
    """y[n, o, i, j] = bias[o] + sum_{c, a, b} x[n, c, s i + a - p, s j + b - p] w[o, c, a, b].

    x (N, C, H, W); w (O, C, kh, kw); bias (O,); stride and padding a number or (vertical,
    horizontal). Returns (N, O, OH, OW). Raises ValueError where channels differ or the kernel does
    not fit.
    """
    x, w, bias = tensors(x, w, bias)
    stride, padding = stride_pair(stride), padding_pair(padding)
    _check(x, w, 1, "conv2d")
    check_bias(bias, w.shape[0])
    _output_size(x.shape[2:], w.shape[2:], stride, padding)
    return op(_conv(x.data, w.data, bias, stride, padding),
              (x, lambda g, y: _transposed(g, w, None, stride, padding, x.shape[2:])),
              (w, lambda g, y: conv_weight(x, g, w.shape[2:], stride, padding)),
              (bias, lambda g, y: channel_sum(g)))


def conv_transpose2d(y, w, bias=None, stride=1, padding=0, output_padding=0):
    """x[n, c, h, v] = bias[c] + sum of y[n, o, i, j] w[o, c, a, b] over all o, i, j, a, b
    with s i + a - p = h and s j + b - p = v.

    y (N, O, OH, OW); w (O, C, kh, kw); bias (C,). Returns (N, C, H, W) with
    H = (OH - 1) s - 2p + kh + output_padding, where 0 <= output_padding < s settles which of the
    sizes is meant that a convolution of stride s takes to OH.
    """
    y, w, bias = tensors(y, w, bias)
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
    return op(_conv_transpose(y.data, w.data, bias, stride, padding, size),
              (y, lambda g, x: conv2d(g, w, None, stride, padding)),
              (w, lambda g, x: conv_weight(g, y, w.shape[2:], stride, padding)),
              (bias, lambda g, x: channel_sum(g)))


def conv_weight(x, y, kernel, stride, padding):
    """w[o, c, a, b] = sum_{n, i, j} x[n, c, s i + a - p, s j + b - p] y[n, o, i, j],
    of size `kernel`."""
    return op(_conv_weight(x.data, y.data, kernel, stride, padding),
              (x, lambda g, w: _transposed(y, g, None, stride, padding, x.shape[2:])),
              (y, lambda g, w: conv2d(x, g, None, stride, padding)))


# The three on arrays. Each is, for some images at a time, one product of matrices with a row of
# windows per output pixel; it is made and used while it is in the cache.

def _conv(x, w, bias, stride, padding):
    o, c, kh, kw = w.shape
    size = _output_size(x.shape[2:], (kh, kw), stride, padding)
    matrix = w.transpose(2, 3, 1, 0).reshape(kh * kw * c, o)
    y = backend.xp.empty((len(x), *size, o), x.dtype)

    def some(images):
        rows = _windows(x[images], (kh, kw), stride, padding, size)
        columns = backend.xp.matmul(rows, matrix, out=y[images].reshape(len(rows), o))
        if bias is not None:
            columns += bias.data
    _in_pieces(y, len(matrix), some)
    return y.transpose(0, 3, 1, 2)


def _conv_weight(x, y, kernel, stride, padding):
    c, o = x.shape[1], y.shape[1]
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))

    def some(images):
        rows = _windows(x[images], kernel, stride, padding, y.shape[1:3])
        return rows.T @ y[images].reshape(len(rows), o)
    matrix = sum(_in_pieces(y, math.prod(kernel) * c, some))
    return matrix.reshape(*kernel, c, o).transpose(3, 2, 0, 1)


def _conv_transpose(y, w, bias, stride, padding, size):
    # what each window is made of, added up where it comes from
    (o, c, kh, kw), (sh, sw), (ph, pw), (h, v) = w.shape, stride, padding, size
    n, _, oh, ow = y.shape
    y = backend.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))
    kernel = w.transpose(2, 3, 1, 0)
    x = backend.xp.empty((n, h, v, c), y.dtype)
    rows = max(h + ph, (oh - 1) * sh + kh)
    steps = max(-(-(v + pw) // sw), ow - 1 + -(-kw // sw))

    def some(images):
        pixels = y[images].reshape(-1, o)
        frame = backend.xp.zeros((len(pixels) // (oh * ow), rows, steps, sw * c), y.dtype)
        for a in range(kh):
            # the next `stride` columns of all windows lie side by side: one stretch to add
            for b in range(0, kw, sw):
                columns = pixels @ kernel[a, b:b + sw].reshape(-1, o).T
                part = frame[:, a:a + sh * oh:sh, b // sw:b // sw + ow, :columns.shape[1]]
                part += columns.reshape(part.shape)
        frame = frame.reshape(-1, rows, steps * sw, c)[:, ph:ph + h, pw:pw + v]
        x[images] = frame if bias is None else frame + bias.data
    _in_pieces(y, (sh + 1) * sw * c + o, some)      # frame, columns and pixels
    return x.transpose(0, 3, 1, 2)


def _windows(x, kernel, stride, padding, size):
    """Every kernel-sized window of images x (N, C, H, W) as a row of (pixels, kh kw C)."""
    (n, c, h, v), (kh, kw), (sh, sw), (ph, pw) = x.shape, kernel, stride, padding
    frame = backend.xp.zeros((n, h + 2 * ph, v + 2 * pw, c), x.dtype)
    frame[:, ph:ph + h, pw:pw + v] = x.transpose(0, 2, 3, 1)
    by_image, by_row, by_column, _ = frame.strides      # that of a single channel may be anything
    windows = backend.xp.lib.stride_tricks.as_strided(
        frame, (n, *size, kh, kw * c),
        (by_image, sh * by_row, sw * by_column, by_row, frame.itemsize))
    return windows.reshape(-1, kh * kw * c)


def _in_pieces(y, columns, some):
    """[some(images), ...] for slices of the images, so many that a matrix with a row for each pixel
    of y (N, OH, OW, O), and so many columns, stays in the cache."""
    return backend.in_pieces(len(y), math.prod(y.shape[1:3]) * columns * y.itemsize, some)


# Sizes

def pair(v):
    """A whole number or a pair of them as a pair: (vertical, horizontal)."""
    try:
        a, b = v if isinstance(v, (tuple, list)) else (v, v)
        return operator.index(a), operator.index(b)
    except (TypeError, ValueError):
        raise ValueError(f"a whole number or two, (vertical, horizontal), are needed, got {v!r}"
                         ) from None


def kernel_pair(v):
    """The size of a kernel as a pair; at least 1 each way."""
    return _at_least(1, v, "a kernel is at least 1x1")


def stride_pair(v):
    """A stride as a pair; at least 1 each way."""
    return _at_least(1, v, "a stride is at least 1")


def padding_pair(v):
    """A padding as a pair; at least 0 each way."""
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
