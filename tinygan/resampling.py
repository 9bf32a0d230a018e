"""Resampling: the linear maps of images that act on their rows and on their columns.

    y[n, c] = A x[n, c] B^T,    A (H', H), B (W', W)

Padding by reflection, enlarging, shrinking, pooling by means, cropping and flipping are this one
operation with different matrices. Row i of A has the weights of the rows of x in row i of y. The
gradient with respect to x is A^T g B, which is the operation with the transposed matrices. So it
can be differentiated to every order. Each direction is a matrix product, whose time grows with the
third power of an image's side: this is for small images. max_pool alone is not linear.
"""

from collections.abc import Callable

import numpy as np

from . import backend
from .backend import Array
from .numbers import check_whole, is_whole
from .ops import as_tensors
from .tensor import Tensor, op


def resample(x: Tensor, rows: Array, columns: Array) -> Tensor:
    """Return rows x columns^T for each channel of images x.

    x (N, C, H, W); rows (H', H) and columns (W', W), constant arrays. Returns (N, C, H', W'). A
    pixel that is infinite or NaN spreads over the result. Raises ValueError for other shapes.
    """
    (x,) = as_tensors(x)
    if x.ndim != 4 or rows.shape[1:] != x.shape[2:3] or columns.shape[1:] != x.shape[3:]:
        raise ValueError(f"matrices {rows.shape} and {columns.shape} resample images (N, C, "
                         f"{rows.shape[-1]}, {columns.shape[-1]}), got {x.shape}")
    return op(_resample(x.data, rows, columns), (x, lambda g, y: resample(g, rows.T, columns.T)))


def _resample(x, rows, columns):
    n, c, h, w = x.shape
    x = x.transpose(0, 2, 3, 1)                 # as it lies in memory, see im2col.py
    rows, columns = rows.astype(x.dtype, copy=False), columns.astype(x.dtype, copy=False)
    x = backend.product(rows, x.reshape(n, h, w * c), exact=True).reshape(n * len(rows), w, c)
    y = backend.product(columns, x, exact=True)
    return y.reshape(n, len(rows), len(columns), c).transpose(0, 3, 1, 2)


# The matrices: float64 arrays (pixels of the result, pixels of the image), for one direction

def select(index: Array, n: int) -> Array:
    """Return the matrix whose row i selects the pixel index[i] of n, and is 0 if there is none."""
    return (index[:, None] == backend.xp.arange(n)).astype("float64")


def reflect(n: int, before: int, after: int) -> Array:
    """Return the matrix that pads n pixels by their mirror images; the edge is not repeated.

    Raises ValueError unless before and after are from 0 to n - 1.
    """
    if not all(is_whole(width, 0) and width < n for width in (before, after)):
        raise ValueError(f"a padding by reflection of {n} pixels is from 0 to {n - 1} wide, got "
                         f"{before} and {after}")
    index = abs(backend.xp.arange(-before, n + after))
    return select(n - 1 - abs(n - 1 - index), n)


def nearest(n: int, size: int) -> Array:
    """Return the matrix that resizes n pixels to `size`: pixel i is pixel floor(i n / size)."""
    return select(backend.xp.arange(size) * n // size, n)


def bilinear(n: int, size: int) -> Array:
    """Return the matrix that resizes n pixels to `size` by linear interpolation.

    The centre of pixel i lies at (i + 1/2) n / size - 1/2 among the centres 0 ... n - 1. Shrinking
    by it interpolates too, and so leaves pixels out.
    """
    xp = backend.xp
    centres = ((xp.arange(size) + 0.5) * (n / size) - 0.5).clip(0, n - 1)
    return (1 - abs(centres[:, None] - xp.arange(n))).clip(0, None)


def area(n: int, size: int) -> Array:
    """Return the matrix that shrinks n pixels to `size` of equal width, each a mean over its area.

    Pixel i covers the pixels from i n / size to (i + 1) n / size, of which the first and the last
    may count in part.
    """
    xp = backend.xp
    edges, pixels = xp.arange(size + 1) * n / size, xp.arange(n)
    shared = (xp.minimum(edges[1:, None], pixels + 1) - xp.maximum(edges[:-1, None], pixels))
    return shared.clip(0, None) * (size / n)


def average(n: int, size: int, stride: int, padding: int = 0) -> Array:
    """Return the matrix of the means of `size` pixels, `stride` apart.

    Window i covers the pixels from i stride - padding on. Pixels outside the image do not count.
    Pixels at the end that do not fill a window are left out.
    """
    first = backend.xp.arange((n + 2 * padding - size) // stride + 1)[:, None] * stride - padding
    pixels = backend.xp.arange(n)
    inside = (first <= pixels) & (pixels < first + size)
    return inside / inside.sum(1, keepdims=True)


# Operations on images (N, C, H, W)

def reflection_pad(x: Tensor, width: int) -> Tensor:
    """Return images with their mirror images around them, `width` pixels on each side.

    Raises ValueError unless the width is from 0 to the image's size less 1.
    """
    x, h, w = _check_images(x, "reflection_pad")
    return resample(x, reflect(h, width, width), reflect(w, width, width))


def resize(x: Tensor, size: tuple[int, int], matrix: Callable = nearest) -> Tensor:
    """Return images resized to `size` (H', W'), by the matrix nearest or bilinear.

    Raises ValueError for a size below 1.
    """
    x, h, w = _check_images(x, "resize")
    if np.shape(size) != (2,) or not all(is_whole(n, 1) for n in size):
        raise ValueError(f"images are resized to two whole numbers of at least 1, got {size}")
    if (h, w) == tuple(size):
        return x
    return resample(x, matrix(h, size[0]), matrix(w, size[1]))


def upsample(x: Tensor, factor: int, matrix: Callable = nearest) -> Tensor:
    """Return images enlarged by the matrix nearest or bilinear.

    (N, C, H, W) -> (N, C, factor H, factor W). By `nearest`, each pixel becomes factor x factor
    pixels. Raises ValueError unless the factor is a whole number of at least 1.
    """
    x, h, w = _check_images(x, "upsample")
    check_whole(factor, 1, "upsample's factor")
    return resize(x, (h * factor, w * factor), matrix)


def avg_pool(x: Tensor, size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """Return the means of size x size pixels, `stride` apart (default: size).

    (N, C, H, W) -> (N, C, OH, OW) with OH = (H + 2 padding - size) // stride + 1. Pixels outside
    the image do not count (PyTorch's count_include_pad=False), and pixels that do not fill a window
    are left out. Raises ValueError unless size and stride are at least 1, the padding is at most
    half the size, and the window fits into the padded image.
    """
    x, h, w = _check_images(x, "avg_pool")
    stride = size if stride is None else stride
    if not (is_whole(size, 1) and is_whole(stride, 1) and is_whole(padding, 0)
            and 2 * padding <= size <= min(h, w) + 2 * padding):
        raise ValueError(f"avg_pool of size {size}, stride {stride} and padding {padding} does not "
                         f"fit into an image of {h}x{w}: give whole numbers, size from 1 to "
                         f"{min(h, w) + 2 * padding}, stride at least 1, padding at most half the "
                         "size")
    if size == stride == 1:
        return x
    return resample(x, average(h, size, stride, padding), average(w, size, stride, padding))


def max_pool(x: Tensor, size: int) -> Tensor:
    """Return the maxima of blocks of size x size pixels.

    (N, C, H, W) -> (N, C, H // size, W // size). Pixels at the end that do not fill a block are
    left out. Equal maxima of a block share its gradient equally. Raises ValueError unless the size
    is from 1 to that of the image.
    """
    x, h, w = _check_images(x, "max_pool")
    if not is_whole(size, 1) or size > min(h, w):
        raise ValueError(f"max_pool of size {size} does not fit into an image of {h}x{w}: give a "
                         f"whole number from 1 to {min(h, w)}")
    if size == 1:
        return x
    n, m = h // size, w // size
    if (h, w) != (n * size, m * size):
        x = x[:, :, :n * size, :m * size]
    return x.reshape(*x.shape[:2], n, size, m, size).max((3, 5))


def _check_images(x, name):
    """Return x as a Tensor, and the height and width of its images."""
    (x,) = as_tensors(x)
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(f"{name} needs images (N, C, H, W) of at least one pixel, got {x.shape}")
    return x, *x.shape[2:]
