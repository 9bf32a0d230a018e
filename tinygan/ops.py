"""The differentiable functions that Python has no operator for.

Each is its forward line and, below it, one derivative rule per input, as in tensor.py. Elementwise
unless said otherwise. Where a function has a kink, the value its rule takes there is stated.
"""

import math
import operator

import numpy as np

from . import backend
from .tensor import (DtypeError, Tensor, as_array, broadcast_to, is_whole, op, restore_axes,
                     sum_to)


# Exponentials and roots

def exp(x):
    return op(backend.xp.exp(x.data), (x, lambda g, y: g * y))


def log(x):
    """The natural logarithm. For log sigmoid and log softmax use the functions below."""
    return op(backend.xp.log(x.data), (x, lambda g, y: g / x))


def sqrt(x):
    """The square root; its derivative is infinite at 0. For a norm use `norm`."""
    return op(backend.xp.sqrt(x.data), (x, lambda g, y: g * 0.5 / y))


def norm(x, axis=None, keepdims=False):
    """|x|_2 over `axis`: sqrt(sum x^2). Where squares could be too large or too small for their
    dtype, x is divided by its largest entry first.

    The gradient x / |x| is taken as 0 at x = 0, and so are all its derivatives: a penalty on the
    norm of a gradient stays finite where that gradient vanishes.
    """
    def rule(g, y):
        g, y = restore_axes(g, x, axis), restore_axes(y, x, axis)
        alive = y.data > 0
        # x / y has entries up to 1, where g / y could overflow, and its derivative sooner
        return where(alive, g, 0.0) * (x / where(alive, y, 1.0))
    xp = backend.xp
    if x.size == 0:
        return op(x.data.sum(axis, keepdims=keepdims), (x, rule))
    with np.errstate(over="ignore"):
        total = (x.data * x.data).sum(axis, keepdims=keepdims)
    if xp is np and 1e-30 < total.min() and total.max() < 1e30:         # a GPU would be waited for
        return op(xp.sqrt(total), (x, rule))
    limits = xp.finfo(x.dtype)
    unit = xp.clip(abs(x.data).max(axis, keepdims=True), limits.tiny, limits.max)
    ratios = x.data / unit
    total = (ratios * ratios).sum(axis, keepdims=keepdims)
    return op(xp.sqrt(total) * unit.reshape(total.shape), (x, rule))


# The logistic family: all from softplus, so that no sigmoid is ever passed to a logarithm

def sigmoid(x):
    """1 / (1 + exp(-x)), as exp(min(x, 0)) / (1 + exp(-|x|)), which cannot overflow."""
    xp = backend.xp
    return op(xp.exp(xp.minimum(x.data, 0.0)) / (1.0 + xp.exp(-abs(x.data))),
              (x, lambda g, y: g * y * (1.0 - y)))


def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    xp = backend.xp
    return op(xp.maximum(x.data, 0.0) + xp.log1p(xp.exp(-abs(x.data))),
              (x, lambda g, y: g * sigmoid(x)))


def log_sigmoid(x):
    """log(1 / (1 + exp(-x))) = -softplus(-x)."""
    return -softplus(-x)


def tanh(x):
    return op(backend.xp.tanh(x.data), (x, lambda g, y: g * (1.0 - y * y)))


def log_softmax(x, axis=-1):
    """x - log sum exp x along `axis`, shifted by the maximum so that nothing overflows."""
    xp = backend.xp
    shifted = x.data - x.data.max(axis, keepdims=True)
    return op(shifted - xp.log(xp.exp(shifted).sum(axis, keepdims=True)),
              (x, lambda g, y: g - exp(y) * g.sum(axis, keepdims=True)))


def cross_entropy(logits, labels):
    """-1/m sum_i log softmax(logits_i)[labels_i]: the mean over a batch of m.

    logits (m, classes); labels (m,) integers 0 ... classes - 1.
    """
    shape = getattr(labels, "shape", None)
    if (logits.ndim != 2 or type(labels) is Tensor or shape != logits.shape[:1]
            or labels.dtype.kind not in "iu"):
        raise ValueError(f"cross_entropy needs logits (m, classes) and an array of m whole numbers "
                         f"as labels, got {logits.shape} and {type(labels).__name__} of shape "
                         f"{shape}")
    if not len(labels):
        raise ValueError("cross_entropy is a mean over a batch: there is none of no examples")
    one_hot = labels[:, None] == backend.xp.arange(logits.shape[1])
    if backend.xp.__name__ == "numpy" and not one_hot.any(1).all():     # a GPU would be waited for
        raise ValueError(f"cross_entropy with {logits.shape[1]} classes needs labels from 0 to "
                         f"{logits.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    return -(log_softmax(logits) * one_hot).sum() * (1 / len(labels))


# Piecewise linear functions

def relu(x):
    """max(x, 0), with derivative 0 at 0."""
    return op(backend.xp.clip(x.data, 0.0, math.inf), (x, lambda g, y: _sloped(g, y, 0.0)))


def leaky_relu(x, slope=0.2):
    """max(x, slope x) for a number 0 <= slope <= 1, with derivative `slope` at 0."""
    xp, slope = backend.xp, _number(slope, "the slope of leaky_relu")
    if not 0 <= slope <= 1:
        raise ValueError(f"leaky_relu needs a slope in [0, 1], got {slope}")
    y = xp.multiply(x.data, slope, out=xp.empty_like(x.data))
    return op(xp.maximum(y, x.data, out=y), (x, lambda g, y: _sloped(g, x, slope)))


def _sloped(g, x, slope):
    """g where x > 0, slope * g elsewhere: in g its own adjoint. (where() is ten times slower.)"""
    xp = backend.xp
    mask = xp.greater(x.data, 0.0, out=xp.empty_like(g.data), casting="unsafe")
    if slope:
        xp.clip(mask, slope, 1.0, out=mask)
    mask *= g.data
    return op(mask, (g, lambda h, y: _sloped(h, x, slope)), (x, None))


def maximum(a, b):
    """The larger of a and b; where they are equal, each takes half the gradient."""
    return _extremum(backend.xp.maximum, a, b)


def minimum(a, b):
    """The smaller of a and b; where they are equal, each takes half the gradient."""
    return _extremum(backend.xp.minimum, a, b)


def _extremum(f, a, b):
    a, b = tensors(a, b)

    def share(x, y):
        return backend.xp.where(a.data == b.data, 0.5, x.data == y.data)
    return op(f(a.data, b.data),
              (a, lambda g, y: sum_to(g * share(a, y), a.shape)),
              (b, lambda g, y: sum_to(g * share(b, y), b.shape)))


def clip(x, low, high):
    """x limited to [low, high], numbers, with derivative 1 inside and at the bounds."""
    low, high = _number(low, "a bound of clip"), _number(high, "a bound of clip")
    if not low <= high:
        raise ValueError(f"clip needs bounds low <= high, got {low} and {high}")
    return op(backend.xp.clip(x.data, low, high),
              (x, lambda g, y: g * ((x.data >= low) & (x.data <= high))))


def where(mask, a, b):
    """a where the array `mask` is true, b elsewhere. Of a and b, one may be a number. Raises
    TypeError for a mask that is no array of booleans."""
    if getattr(mask, "dtype", None) != bool or type(mask) is Tensor:
        raise TypeError("where takes an array of booleans as its mask, such as x.data > 0, got a "
                        f"{type(mask).__name__}")
    a, b = tensors(a, b)
    return op(backend.xp.where(mask, a.data, b.data),
              (a, lambda g, y: sum_to(where(mask, g, 0.0), a.shape)),
              (b, lambda g, y: sum_to(where(mask, 0.0, g), b.shape)))


def _number(value, what):
    """Return `value` as a float. A Tensor is refused, since it would get no gradient."""
    if type(value) is float or isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    raise TypeError(f"{what} is a number, got a {type(value).__name__}")


# Joining and enlarging

def concat(xs, axis=0):
    """The tensors xs one after the other along `axis`. Raises ValueError if there are none, or
    their shapes differ in another axis."""
    try:
        xs = tensors(*xs) if len(xs) else [None]
        joined = backend.xp.concatenate([x.data for x in xs], operator.index(axis))
    except DtypeError:
        raise
    except (AttributeError, TypeError, ValueError):
        shapes = [getattr(x, "shape", None) for x in xs]
        raise ValueError("concat needs Tensors whose shapes differ at most in the axis along which "
                         f"they are joined, got {shapes} and axis {axis!r:.40}") from None
    ends = [0]
    for x in xs:
        ends.append(ends[-1] + x.shape[axis])

    def part(start, end):           # the rule of one input: its stretch of the gradient
        return lambda g, y: g[(slice(None),) * (axis % g.ndim) + (slice(start, end),)]
    return op(joined, *[(x, part(*ends[i:i + 2])) for i, x in enumerate(xs)])


def pad(x, widths):
    """x with zeros around it: widths[i] = (before, after) for each axis i. Raises ValueError for
    other widths."""
    try:
        pairs = [(operator.index(before), operator.index(after)) for before, after in widths]
    except (TypeError, ValueError):
        pairs = None
    if pairs is None or len(pairs) != x.ndim or any(n < 0 for pair in pairs for n in pair):
        raise ValueError("pad needs two whole numbers, (before, after), of at least 0 for each "
                         f"axis of {x.shape}, got {widths}")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pairs, x.shape))
    return op(backend.xp.pad(x.data, pairs), (x, lambda g, y: g[inside]))


def upsample(x, factor):
    """Nearest neighbour: each pixel becomes factor x factor pixels. (N, C, H, W)."""
    n, c, h, w = _image_shape(x, "upsample")
    if not is_whole(factor, 1):
        raise ValueError(f"upsample needs a whole number of at least 1 as factor, got {factor}")
    copies = broadcast_to(x.reshape(n, c, h, 1, w, 1), (n, c, h, factor, w, factor))
    return copies.reshape(n, c, h * factor, w * factor)


def avg_pool(x, size):
    """The mean of each size x size block of pixels; rows and columns left over are dropped.
    (N, C, H, W) -> (N, C, H // size, W // size)."""
    n, c, h, w = _image_shape(x, "avg_pool")
    if not is_whole(size, 1) or size > min(h, w):
        raise ValueError(f"avg_pool of size {size} does not fit into an image of {h}x{w}: give a "
                         f"whole number from 1 to {min(h, w)}")
    h, w = h // size, w // size
    return x[:, :, :h * size, :w * size].reshape(n, c, h, size, w, size).mean((3, 5))


def check_bias(b, n):
    """Raise ValueError unless b is None or of shape (n,): another would broadcast, one way only."""
    if b is not None and b.shape != (n,):
        raise ValueError(f"the bias of {n} outputs has shape ({n},), got {b.shape}")


def _image_shape(x, name):
    if x.ndim != 4:
        raise ValueError(f"{name} needs images (N, C, H, W), got {x.shape}")
    return x.shape


# For each channel of (m, n) or of images (N, n, H, W). Channels lie last in the images' memory (see
# conv.py), so both are a matrix with a column for each, whose sums are products with a row of ones.

def scale(x, w, b=None):
    """x * w + b for each channel; w and b (n,)."""
    x, w, b = tensors(x, w, b)
    check_bias(b, w.shape[0])
    if x.ndim not in (2, 4) or x.shape[1] != w.shape[0]:
        n = w.shape[0]
        raise ValueError(f"{n} channels need (m, {n}) or (N, {n}, H, W), got {x.shape}")
    y = _columns(x.data) * w.data
    if b is not None:
        y += b.data
    return op(_like(y, x), (x, lambda g, y: scale(g, w)),
              (w, lambda g, y: channel_sum(g, x)), (b, lambda g, y: channel_sum(g)))


def channel_sum(x, y=None):
    """The sum of x, or of x * y, over all axes but that of the channels: (n,)."""
    if y is None:
        return op(_sums(_columns(x.data)), (x, lambda g, _: broadcast_to(_row(g, x), x.shape)))
    if y is x:
        return op(_sums(_columns(x.data), _columns(x.data)), (x, lambda g, _: scale(x, g * 2.0)))
    return op(_sums(_columns(x.data), _columns(y.data)),
              (x, lambda g, _: scale(y, g)), (y, lambda g, _: scale(x, g)))


def centre(x):
    """x - mean for each channel: (the Tensor, the array mean). Its own adjoint."""
    a = _columns(x.data)
    mean = _sums(a) * (1 / len(a))
    return op(_like(a - mean, x), (x, lambda g, y: centre(g)[0])), mean


def _columns(a):
    return a if a.ndim == 2 else a.transpose(0, 2, 3, 1).reshape(-1, a.shape[1])


def _like(columns, x):
    if x.ndim == 2:
        return columns
    n, c, h, w = x.shape
    return columns.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _row(v, x):
    return v.reshape(1, -1, *[1] * (x.ndim - 2))


ROWS = 1 << 16      # as many float32, added one after another, can cost four digits of seven


def _sums(a, b=None):
    ones, einsum = backend.xp.ones, backend.xp.einsum
    pieces = [slice(i, i + ROWS) for i in range(0, max(len(a), 1), ROWS)]
    return sum(ones(len(a[i]), a.dtype) @ a[i] if b is None else einsum("ij,ij->j", a[i], b[i])
               for i in pieces)


# Products

def linear(x, w, b=None):
    """x w^T + b: what a dense layer computes. x (m, n_in), w (n_out, n_in), b (n_out,).

    One operation rather than three, so that each gradient is one product laid out as its parameter.
    """
    x, w, b = tensors(x, w, b)
    check_bias(b, w.shape[0])
    if x.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"a dense layer with weights {w.shape} (n_out, n_in) needs an input "
                         f"(m, {w.shape[1]}), got {x.shape}")
    y = backend.product(x.data, w.data.T)
    if b is not None:
        y += b.data
    return op(y, (x, lambda g, y: g @ w), (w, lambda g, y: g.T @ x), (b, lambda g, y: g.sum(0)))


def tensors(*xs):
    """xs, of which one at least must be a Tensor, with numbers and constant arrays among them as
    Tensors of its dtype. None, for what is left out, stays. Raises TypeError if dtypes differ."""
    dtypes = {x.dtype for x in xs if type(x) is Tensor}
    if len(dtypes) != 1:
        raise DtypeError() if dtypes else TypeError("this takes Tensors: wrap an array, Tensor(x)")
    (dtype,) = dtypes
    return [x if type(x) is Tensor or x is None else Tensor(as_array(x, dtype)) for x in xs]
