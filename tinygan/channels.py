"""Operations on each channel of x, which is (m, n) or images (m, n, H, W).

They make normalisation and biases fast. For images they are

    scale(x, w, b)         x * w[:, None, None] + b[:, None, None]
    channel_sum(x, y)      (x * y).sum((0, 2, 3))
    centre(x)[0]           x - x.mean((0, 2, 3), keepdims=True)

and for (m, n) the same along the first axis. Channels lie last in the memory of images (see
im2col.py), so x is a matrix with one column per channel in both cases. The column sums of x are a
product with a row of ones, which is faster than sum(); on a GPU they are a kernel of cuda.py. With
`each`, the operations are on each channel of each sample: there is a matrix for each sample, and
the sums are over the axes (2, 3), or of (m, n) over no axis. numpy is slow on short rows, so
backend.widen() views several rows as one, and repeats the factors of the channels to match.
"""

import functools
import operator

from . import backend
from .backend import Array
from .ops import array_of, as_tensors, fill
from .tensor import Tensor, broadcast_to, op


def scale(x: Tensor, w: Tensor | Array, b: Tensor | Array | None = None) -> Tensor:
    """Return x * w + b for each channel, with w and b of shape (n,), or (m, n) for each sample.

    Raises ValueError for other shapes.
    """
    x, w, b = as_tensors(x, w, b, optional=1)
    if w.ndim not in (1, 2):
        raise ValueError(f"the factors of channels are (n,), or (m, n) for each sample, got "
                         f"{w.shape}")
    if b is not None and b.shape != w.shape:
        raise ValueError(f"factors {w.shape} need a bias of that shape, got {b.shape}")
    each = w.ndim == 2
    if x.ndim not in (2, 4) or w.shape != (x.shape[:2] if each else x.shape[1:2]):
        n = w.shape[-1]
        raise ValueError(f"{n} channels need (m, {n}) or (N, {n}, H, W), got {x.shape}"
                         + (f" and {len(w)} rows of factors" if each else ""))
    a, factors, shifts = backend.widen(_columns(x.data, each), _beside(w.data),
                               None if b is None else _beside(b.data))
    y = backend.xp.empty_like(a)
    if b is None:
        _scale(a, factors, y)
    else:
        _scale_and_shift(a, factors, shifts, y)
    return op(_like(y, x), (x, lambda g, y: scale(g, w)),
              (w, lambda g, y: channel_sum(g, x, each)),
              (b, lambda g, y: channel_sum(g, each=each)))


@backend.kernel("T x, T w", "T y", "y = x * w")
def _scale(x, w, y):
    backend.xp.multiply(x, w, out=y)


@backend.kernel("T x, T w, T b", "T y", "y = x * w + b")
def _scale_and_shift(x, w, b, y):
    backend.xp.multiply(x, w, out=y)
    y += b


def channel_sum(x: Tensor, y: Tensor | None = None, each: bool = False) -> Tensor:
    """Return the sum of x, or of x * y, over all axes but the channels', as (n,).

    With `each`, it is the sum over each sample, (m, n). Raises ValueError if the shapes differ.
    """
    x, y = as_tensors(x, y, optional=1)
    if y is None:
        return op(_sums(_columns(x.data, each)),
                  (x, lambda g, _: broadcast_to(_row(g, x), x.shape)))
    if x.shape != y.shape:
        raise ValueError("the products of two arrays are summed over each channel if they have one "
                         f"shape, got {x.shape} and {y.shape}")
    total = _sums(_columns(x.data, each), _columns(y.data, each))
    if y is x:
        return op(total, (x, lambda g, _: scale(x, g * 2.0)))
    return op(total, (x, lambda g, _: scale(y, g)), (y, lambda g, _: scale(x, g)))


def centre(x: Tensor, each: bool = False) -> tuple[Tensor, Array]:
    """Return (x - mean, sum) for each channel; the sum is an array without gradient.

    Mean and sum are those over all axes but the channels', (n,), or with `each` over each sample,
    (m, n). The operation x - mean is its own adjoint. Raises ValueError for a mean of no numbers.
    """
    a = _columns(array_of(x), each)
    total, count = _sums(a), a.shape[-2]
    if not count:
        raise ValueError(f"the mean of no numbers is undefined: the Tensor has shape {x.shape}")
    a, totals = backend.widen(a, _beside(total))
    y = _subtract_mean(a, totals, 1 / count, backend.xp.empty_like(a))
    return op(_like(y, x), (x, lambda g, y: centre(g, each)[0])), total


@backend.kernel("T x, T total, T share", "T y", "y = x - total * share")
def _subtract_mean(x, total, share, y):
    backend.xp.subtract(x, total * share, out=y)


def _columns(a, each=False):
    """Return the array a as a matrix with one column per channel, or one for each sample."""
    if a.ndim == 2:
        return a[:, None] if each else a
    if a.ndim != 4:
        raise ValueError(f"channels are those of (m, n) or of images (N, n, H, W), got {a.shape}")
    n, c, h, w = a.shape
    return a.transpose(0, 2, 3, 1).reshape(*((n, h * w) if each else (n * h * w,)), c)


def _like(columns, x):
    """Return a matrix with one column per channel in the shape of x: the inverse of _columns."""
    if x.ndim == 2:
        return columns.reshape(x.shape)
    n, c, h, w = x.shape
    return columns.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _beside(v):
    """Return numbers of each channel (n,), or (m, n), in a shape that broadcasts over _columns."""
    return v if v.ndim == 1 else v[:, None]


def _row(v, x):
    """Return the Tensor v, (n,) or (m, n), in a shape that broadcasts over the channels of x."""
    return v.reshape(*v.shape, *[1] * (x.ndim - 2))


ROWS = 1 << 10      # a float32 sum of so many rows loses 2 of 7 digits; of 2^16 rows it loses 4


def _sums(a, b=None):
    """Return the column sums of a, or of a * b, added up in pieces of ROWS rows."""
    if backend.cuda is not None:
        return backend.cuda.column_sums(a, b)
    xp, n = backend.xp, a.shape[-1]
    a, b = [None if v is None else backend.widen(v)[0] for v in (a, b)]

    def sum_piece(i):
        rows = ..., slice(i, i + ROWS), slice(None)
        if b is None:
            return xp.ones(a[rows].shape[-2], a.dtype) @ a[rows]
        return xp.einsum("...ij,...ij->...j", a[rows], b[rows])
    # reduce() and not sum(), which begins with 0 + the first
    total = functools.reduce(operator.add, map(sum_piece, range(0, max(a.shape[-2], 1), ROWS)))
    if a.shape[-1] == n:
        return total
    # widen() has put several rows of a side by side: add up their sums
    return total.reshape(*total.shape[:-1], -1, n).sum(-2)


def affine_power(x: Tensor, a: float, b: float, n: float, c: float = 1.0) -> Tensor:
    """Return c (a x + b)^n for numbers a, b, c and n; a x + b must be above 0.

    Normalisation layers compute 1 / sqrt(var + eps) by it, in one operation.
    """
    return op(fill(_affine_power, x, a, b, n, c),
              (x, lambda g, y: g * affine_power(x, a, b, n - 1, c * n) * a))


@backend.kernel("T x, T a, T b, T power, T c", "T y", "y = c * pow(a * x + b, power)")
def _affine_power(x, a, b, power, c, y):
    xp = backend.xp
    xp.multiply(x, a, out=y)
    y += b
    xp.power(y, power, out=y)
    y *= c
