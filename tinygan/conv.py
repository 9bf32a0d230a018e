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

The functions on arrays, which are fast, are in im2col.py.
"""

import functools
import operator

import numpy as np

from . import im2col
from .channels import channel_sum
from .ops import as_tensors, check_bias
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
    return op(im2col.conv(x.data, w.data, _data(bias), stride, padding),
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
    return op(im2col.conv_transpose(y.data, w.data, _data(bias), stride, padding, size),
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
    return op(im2col.conv_weight(x.data, y.data, kernel, stride, padding),
              (x, lambda g, w: _transposed(y, g, None, stride, padding, x.shape[2:])),
              (y, lambda g, w: conv2d(x, g, None, stride, padding)))


def _data(bias):
    return None if bias is None else bias.data


# Sizes

def pair(v: Pair, least: int, rule: str) -> tuple[int, int]:
    """Return a number, or a pair of numbers, as a pair (vertical, horizontal).

    Raises ValueError for anything else, and with the text `rule` for a number below `least`.
    """
    try:
        a, b = v if isinstance(v, (tuple, list)) else (v, v)
        numbers = operator.index(a), operator.index(b)
    except (TypeError, ValueError):
        raise ValueError(f"give a whole number or a pair (vertical, horizontal), not {v!r}"
                         ) from None
    if min(numbers) < least:
        raise ValueError(f"{rule}, got {numbers}")
    return numbers


kernel_pair = functools.partial(pair, least=1, rule="a kernel is at least 1x1")
stride_pair = functools.partial(pair, least=1, rule="a stride is at least 1")
padding_pair = functools.partial(pair, least=0, rule="a padding is at least 0")


def _check(images, w, axis, name):
    if images.ndim != 4 or w.ndim != 4 or images.shape[1] != w.shape[axis]:
        raise ValueError(f"{name} with weights {w.shape} needs images (N, {w.shape[axis]}, H, W), "
                         f"got {images.shape}")
    kernel_pair(w.shape[2:])        # refuses a kernel without numbers
