"""Differentiable functions of Tensors, in addition to Python's own operators.

Each function has a forward line and, below it, one derivative rule per input, as in tensor.py. The
functions are elementwise unless their docstrings say otherwise. A function with a kink, a point
where its derivative jumps, states the value that its rule uses there.

A private function with the decorator backend.kernel fills its last argument, an array. On a CPU its
lines of numpy compute it. On a GPU the C code in the decorator does, for one element y of the
array; T is the type of the elements.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from . import backend
from .backend import Array, UserError
from .numbers import is_real, is_whole
from .tensor import (Axis, DtypeError, NoTensorError, Tensor, as_array, op, reduction_axis,
                     restore_axes, sum_to)


# Exponentials and roots

def exp(x: Tensor) -> Tensor:
    """Return the exponential e^x."""
    return op(backend.xp.exp(array_of(x)), (x, lambda g, y: g * y))


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm.

    log(sigmoid(x)) and log(softmax(x)) lose precision: use log_sigmoid and log_softmax.
    """
    return op(backend.xp.log(array_of(x)), (x, lambda g, y: g / x))


def sqrt(x: Tensor) -> Tensor:
    """Return the square root. Its derivative is infinite at 0: for a norm use `norm`."""
    return op(backend.xp.sqrt(array_of(x)), (x, lambda g, y: g * 0.5 / y))


def norm(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the Euclidean norm |x|_2 = sqrt(sum x^2) over `axis`.

    If squares could overflow or underflow, x is divided by its largest absolute value first.

    The gradient x / |x| and all its derivatives are defined as 0 at x = 0. So a penalty on the norm
    of a gradient has a finite derivative where that gradient is 0.
    """
    def rule(g, y):
        g, y = restore_axes(g, x, axis), restore_axes(y, x, axis)
        nonzero = y.data != 0       # NaN is not 0, and the gradient is NaN there
        # x / y is computed first, because its entries are at most 1 and g / y could overflow
        return where(nonzero, g, 0.0) * (x / where(nonzero, y, 1.0))
    (x,) = as_tensors(x)
    axis = reduction_axis(x, axis, keepdims)
    return op(_norm(x.data, axis, keepdims), (x, rule))


def _norm(x, axis, keepdims):
    """Return the norm of an array."""
    xp = backend.xp
    with np.errstate(over="ignore"):
        total = (x * x).sum(axis, keepdims=keepdims)
    # on numpy only: reading the minimum back from a GPU would stall it
    if not x.size or xp is np and 1e-30 < total.min() and total.max() < 1e30:
        return xp.sqrt(total)
    limits = xp.finfo(x.dtype)
    unit = xp.clip(abs(x).max(axis, keepdims=True), limits.tiny, limits.max)
    ratios = x / unit
    total = (ratios * ratios).sum(axis, keepdims=keepdims)
    return xp.sqrt(total) * unit.reshape(total.shape)


# The logistic functions. log_sigmoid is not the logarithm of sigmoid, which would lose precision,
# and would be -inf for large negative x.

def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)), computed as exp(min(x, 0)) / (1 + exp(-|x|)), without overflow."""
    return op(fill(_sigmoid, x), (x, sigmoid_rule))


def sigmoid_rule(g: Tensor, y: Tensor) -> Tensor:
    """Return g y (1 - y), the rule of y = sigmoid(x); see games.checks.activation_of."""
    return g * y * (1.0 - y)


@backend.kernel("T x", "T y", "y = exp(x < 0 ? x : T(0)) / (1 + exp(-abs(x)))")
def _sigmoid(x, y):
    xp = backend.xp
    xp.divide(xp.exp(xp.minimum(x, 0.0)), 1.0 + xp.exp(-abs(x)), out=y)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)), without overflow."""
    return op(fill(_softplus, x), (x, lambda g, y: _times_sigmoid(g, x, 1.0)))


@backend.kernel("T x", "T y", "y = (x > 0 ? x : T(0)) + log1p(exp(-abs(x)))")
def _softplus(x, y):
    xp = backend.xp
    xp.add(xp.maximum(x, 0.0), xp.log1p(xp.exp(-abs(x))), out=y)


def log_sigmoid(x: Tensor) -> Tensor:
    """Return log(1 / (1 + exp(-x))), computed as min(x, 0) - log1p(exp(-|x|)), without overflow."""
    return op(fill(_log_sigmoid, x), (x, lambda g, y: _times_sigmoid(g, x, -1.0)))


@backend.kernel("T x", "T y", "y = (x < 0 ? x : T(0)) - log1p(exp(-abs(x)))")
def _log_sigmoid(x, y):
    xp = backend.xp
    xp.subtract(xp.minimum(x, 0.0), xp.log1p(xp.exp(-abs(x))), out=y)


def _times_sigmoid(g, x, sign):
    """Return g * sigmoid(sign * x), where `sign` is 1 or -1.

    The derivative of sigmoid(x) is sigmoid(x) sigmoid(-x) here. The form y (1 - y) of `sigmoid`
    takes no second exponential, but is 0 for large x, where y rounds to 1.
    """
    return op(_multiply_sigmoid(g.data, x.data, sign, backend.xp.empty_like(x.data)),
              (g, lambda h, y: _times_sigmoid(h, x, sign)),
              (x, lambda h, y: _times_sigmoid(h * y * sign, x, -sign)))


@backend.kernel("T g, T x, T sign", "T y", """
                T a = sign * x;
                y = g * exp(a < 0 ? a : T(0)) / (1 + exp(-abs(a)))""")
def _multiply_sigmoid(g, x, sign, y):
    _sigmoid(sign * x, y)
    y *= g


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return op(backend.xp.tanh(array_of(x)), (x, tanh_rule))


def tanh_rule(g: Tensor, y: Tensor) -> Tensor:
    """Return g (1 - y^2), the rule of y = tanh(x); see games.checks.activation_of."""
    return g * (1.0 - y * y)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return x - log sum exp x along `axis`. The maximum is subtracted first, to avoid overflow.

    Raises ValueError unless `axis` is an axis of x with at least one number.
    """
    (x,), xp = as_tensors(x), backend.xp
    axis = _softmax_axis(x, axis, keepdims=True)
    shifted = x.data - x.data.max(axis, keepdims=True)
    return op(shifted - xp.log(xp.exp(shifted).sum(axis, keepdims=True)),
              (x, lambda g, y: g - exp(y) * g.sum(axis, keepdims=True)))


def _softmax_axis(x, axis, keepdims):
    """Return the axis as reduction_axis() does; raise what log_softmax() raises."""
    n = max(x.ndim, 1)
    if not is_whole(axis, -n) or axis >= n or x.ndim and not x.shape[axis]:
        raise ValueError("softmax, log_softmax and logsumexp need one axis with at least one "
                         f"number along it, got axis {axis!r} of {x.shape}")
    return reduction_axis(x, axis, keepdims)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return exp(x) / sum exp(x) along `axis`. Raises ValueError as log_softmax does."""
    (x,), xp = as_tensors(x), backend.xp
    axis = _softmax_axis(x, axis, keepdims=True)
    y = xp.exp(x.data - x.data.max(axis, keepdims=True))
    y /= y.sum(axis, keepdims=True)
    return op(y, (x, lambda g, y: y * (g - (g * y).sum(axis, keepdims=True))))


def logsumexp(x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
    """Return log sum exp x along `axis`. The maximum is subtracted first, to avoid overflow.

    Raises ValueError as log_softmax does.
    """
    (x,), xp = as_tensors(x), backend.xp
    along = _softmax_axis(x, axis, keepdims)
    most = x.data.max(along, keepdims=True)
    total = xp.exp(x.data - most).sum(along, keepdims=keepdims)
    # exp(log_softmax(x)) is exact where exp(x - y) is not: y is rounded, and may be large
    return op(xp.log(total) + most.reshape(total.shape),
              (x, lambda g, y: restore_axes(g, x, along) * exp(log_softmax(x, axis))))


def cross_entropy(logits: Tensor, labels: Array) -> Tensor:
    """Return the mean cross-entropy -1/m sum_i log softmax(logits_i)[labels_i] of a batch of m.

    logits (m, classes); labels (m,), an array of whole numbers from 0 to classes - 1. Raises
    UserError for other shapes and types and, on the CPU, for labels outside this range.
    """
    shape = getattr(labels, "shape", None)
    if logits.ndim != 2 or shape != logits.shape[:1] or not len(logits):
        raise UserError("cross_entropy needs logits (m, classes) and an array of m labels, at "
                        f"least one, got logits {logits.shape} and a {type(labels).__name__} of "
                        f"shape {shape}")
    one_hot = mark_labels(labels, logits.shape[1])
    # where() and not a product, because log_softmax may be -inf at the other classes
    return -where(one_hot, log_softmax(logits), 0.0).sum() * (1 / len(labels))


def mark_labels(labels: Array, classes: int) -> Array:
    """Return booleans (m, classes), True at the label of each row (one-hot codes).

    Raises UserError unless the labels are an array (m,) of whole numbers and, on the CPU, unless
    they are from 0 to classes - 1.
    """
    if not isinstance(labels, backend.xp.ndarray) or labels.ndim != 1 or (
            labels.dtype.kind not in "iu"):
        raise UserError("labels are an array (m,) of whole numbers, got a "
                        f"{type(labels).__name__} of shape {getattr(labels, 'shape', ())} and "
                        f"dtype {getattr(labels, 'dtype', 'unknown')}")
    marks = labels[:, None] == backend.xp.arange(classes)
    # on numpy only: reading the result back from a GPU would stall it
    if backend.xp is np and not marks.any(1).all():
        raise UserError(f"labels of {classes} classes are from 0 to {classes - 1}, got "
                        f"{labels.min()} to {labels.max()}: give the network as many classes as "
                        "the data has")
    return marks


# Piecewise linear functions

def relu(x: Tensor) -> Tensor:
    """Return max(x, 0). The derivative at 0 is 0.

    Where x <= 0 the gradient is 0 * g, which is NaN if g is infinite, as in sqrt(relu(x)).
    """
    return op(fill(_relu, x), (x, lambda g, y: _scale_negative(g, y, 0.0)))


# In C, x < 0 is false for a NaN, so a NaN stays NaN; x > 0 ? x : 0 would make it 0.
@backend.kernel("T x", "T y", "y = x < 0 ? T(0) : x")
def _relu(x, y):
    backend.xp.clip(x, 0.0, math.inf, out=y)        # three times as fast as maximum


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """Return max(x, slope x) for a number 0 <= slope <= 1. The derivative at 0 is `slope`.

    Raises ValueError for a slope outside [0, 1].
    """
    slope = check_slope(slope)
    if slope == 0:
        return relu(x)          # the product 0 * x would be NaN for an infinite x
    return op(fill(_leaky_relu, x, slope), (x, lambda g, y: _scale_negative(g, x, slope)))


def check_slope(slope: float) -> float:
    """Return the slope of leaky_relu as a number. Raises ValueError unless it is in [0, 1]."""
    slope = _number(slope, "the slope of leaky_relu")
    if not 0 <= slope <= 1:
        raise ValueError(f"leaky_relu needs a slope in [0, 1], got {slope}")
    return slope


@backend.kernel("T x, T slope", "T y", "y = x < 0 ? slope * x : x")
def _leaky_relu(x, slope, y):
    xp = backend.xp
    xp.multiply(x, slope, out=y)
    xp.maximum(y, x, out=y)


def _scale_negative(g, x, slope):
    """Return g where x > 0 and slope * g elsewhere; as a linear map of g it is its own adjoint."""
    return op(_times_slope(g.data, x.data, slope, backend.xp.empty_like(x.data)),
              (g, lambda h, y: _scale_negative(h, x, slope)), (x, None))


@backend.kernel("T g, T x, T slope", "T y", "y = x > 0 ? g : slope * g")
def _times_slope(g, x, slope, y):
    # a product with an array of the factors 1 and `slope` is ten times as fast as where()
    xp = backend.xp
    xp.greater(x, 0.0, out=y, casting="unsafe")
    if slope:
        xp.clip(y, slope, 1.0, out=y)
    y *= g


def maximum(a: Tensor | Array | float, b: Tensor | Array | float) -> Tensor:
    """Return the larger of a and b. Where they are equal, each gets half the gradient.

    The gradient of the smaller one is 0 * g, which is NaN if g is infinite.
    """
    return _extremum(backend.xp.maximum, a, b)


def minimum(a: Tensor | Array | float, b: Tensor | Array | float) -> Tensor:
    """Return the smaller of a and b. Where they are equal, each gets half the gradient."""
    return _extremum(backend.xp.minimum, a, b)


def _extremum(f, a, b):
    a, b = as_tensors(a, b)

    def weight(x, y):
        return backend.xp.where(a.data == b.data, 0.5, x.data == y.data)
    return op(f(a.data, b.data),
              (a, lambda g, y: sum_to(g * weight(a, y), a.shape)),
              (b, lambda g, y: sum_to(g * weight(b, y), b.shape)))


def clip(x: Tensor, low: float, high: float) -> Tensor:
    """Return x limited to [low, high]. The derivative is 1 inside and at the bounds.

    Raises ValueError if low > high.
    """
    low, high = _number(low, "a bound of clip"), _number(high, "a bound of clip")
    if not low <= high:
        raise ValueError(f"clip needs bounds low <= high, got {low} and {high}")
    return op(backend.xp.clip(array_of(x), low, high),
              (x, lambda g, y: where((x.data >= low) & (x.data <= high), g, 0.0)))


def where(mask: Array, a: Tensor | Array | float, b: Tensor | Array | float) -> Tensor:
    """Return a where the array `mask` is true and b elsewhere.

    One of a and b must be a Tensor; the other may be a number or an array. Raises TypeError if the
    mask is not an array of booleans.
    """
    if getattr(mask, "dtype", None) != bool or type(mask) is Tensor:
        raise TypeError("where takes an array of booleans as its mask, such as x.data > 0, got "
                        f"{type(mask).__name__}")
    a, b = as_tensors(a, b)
    mask = mask.copy() if mask.size == 1 else mask      # as other constants, see tensor.as_array
    return op(backend.xp.where(mask, a.data, b.data),
              (a, lambda g, y: sum_to(where(mask, g, 0.0), a.shape)),
              (b, lambda g, y: sum_to(where(mask, 0.0, g), b.shape)))


def _number(value, what):
    """Return `value` as a float; a Tensor raises TypeError, because it would get no gradient."""
    if is_real(value):
        return float(value)
    raise TypeError(f"{what} is a number, got {type(value).__name__}")


# Joining

def concat(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the Tensors xs joined along `axis`.

    Raises ValueError if xs is empty or if the shapes differ in another axis, and TypeError if xs is
    one Tensor.
    """
    if type(xs) is Tensor:
        raise TypeError("concat takes a list of Tensors, as in concat([x, y], axis), got a Tensor")
    if not (xs := list(xs)):
        raise ValueError("concat needs at least one Tensor, got none")
    xs = as_tensors(*xs)
    try:
        joined = backend.concatenate([x.data for x in xs], operator.index(axis))
    except (TypeError, ValueError):
        shapes = [x.shape for x in xs]
        raise ValueError("concat needs Tensors whose shapes differ at most in the axis along which "
                         f"they are joined, got {shapes} and axis {axis!r:.40}") from None
    ends = [0, *itertools.accumulate(x.shape[axis] for x in xs)]
    return op(joined, *[(x, functools.partial(concat_rule, axis, a, b))
                        for x, a, b in zip(xs, ends, ends[1:])])


def concat_rule(axis: int, start: int, end: int, g: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of one input of concat(), its slice of g."""
    return g[(slice(None),) * (axis % g.ndim) + (slice(start, end),)]


def pad(x: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Return x padded with zeros by widths[i] = (before, after) along each axis i.

    Raises ValueError for other widths.
    """
    try:
        pairs = [(operator.index(before), operator.index(after)) for before, after in widths]
    except (TypeError, ValueError):
        pairs = None
    if pairs is None or len(pairs) != x.ndim or any(n < 0 for pair in pairs for n in pair):
        raise ValueError("pad needs two whole numbers, (before, after), of at least 0 for each "
                         f"axis of {x.shape}, got {widths}")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pairs, x.shape))
    return op(backend.xp.pad(x.data, pairs), (x, lambda g, y: g[inside]))


# Products

def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Return x w^T + b, the output of a dense layer.

    x (m, n_in), w (n_out, n_in), b (n_out,). This is one operation and not three, so that the
    gradients of x and w are one matrix product each. Dense has w in the memory layout (n_in,
    n_out), with which the product x w^T is a quarter faster; the gradient of w has this layout too.
    Raises ValueError for other shapes.
    """
    x, w, b = as_tensors(x, w, b, optional=1)
    if w.ndim != 2:
        raise ValueError(f"a dense layer has weights (n_out, n_in), got {w.shape}")
    check_bias(b, w.shape[0])
    if x.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"a dense layer with weights {w.shape} (n_out, n_in) needs an input "
                         f"(m, {w.shape[1]}), got {x.shape}")
    y = backend.product(x.data, w.data.T)
    if b is not None:
        backend.add_to(b.data, y)
    return op(y, (x, lambda g, y: g @ w), (w, lambda g, y: (x.T @ g).T),
              (b, lambda g, y: g.sum(0)))


# Operands

def array_of(x: Tensor) -> Array:
    """Return the array of a Tensor x. Raises NoTensorError for anything else."""
    if type(x) is not Tensor:
        raise NoTensorError()
    return x.data


def fill(f: Callable, x: Tensor, *numbers: float) -> Array:
    """Return the array that f(x.data, *numbers, array) fills, for a Tensor x."""
    return f(array_of(x), *numbers, backend.xp.empty_like(x.data))


def check_bias(b: Tensor | None, n: int) -> None:
    """Raise ValueError unless b is None or has shape (n,).

    The forward line would broadcast another shape, but the gradient would have the wrong shape.
    """
    if b is not None and b.shape != (n,):
        raise ValueError(f"the bias of {n} outputs has shape ({n},), got {b.shape}")


def as_tensors(*xs: Tensor | Array | float | None, optional: int = 0) -> list[Tensor | None]:
    """Return xs as Tensors of one dtype; at least one of them must be a Tensor.

    Numbers and constant arrays are converted. The last `optional` of xs may be None, which stays
    None. Raises TypeError for any other None, if two Tensors have different dtypes, and for bytes,
    which are images that were not scaled.
    """
    for x in xs[:len(xs) - optional]:
        if x is None:
            raise TypeError("an operation got None in place of a Tensor: the function that "
                            "computed it may lack a return")
    dtypes = {x.data.dtype for x in xs if type(x) is Tensor}
    if len(dtypes) != 1:
        raise DtypeError() if dtypes else NoTensorError()
    (dtype,) = dtypes
    for x in xs:
        if isinstance(x, backend.xp.ndarray) and x.dtype == np.uint8:
            raise TypeError(f"bytes of shape {x.shape} would enter as numbers from 0 to "
                            "255: scale images by data.as_floats(x)")
    return [x if type(x) is Tensor or x is None else Tensor(as_array(x, dtype)) for x in xs]
