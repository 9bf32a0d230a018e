"""Tensor and grad(): reverse-mode differentiation whose derivatives are themselves differentiable.

An operation computes its output and notes, for each input, one rule: given the gradient `g` of some
scalar L with respect to the output y, return the gradient of L with respect to that input (the
vector-Jacobian product g^T dy/dx). `grad` walks from y back to the xs, newest tensor first, and
applies the rules. As a rule is written in the same operations, its result can be differentiated
again: that is all there is to double backprop.

    x = Tensor([1.0, 2.0])
    y = (x * x).sum()
    (g,) = grad(y, [x], create_graph=True)     # 2x
    (h,) = grad(g.sum(), [x])                  # 2
"""

import contextlib
import itertools
import operator
import threading
from collections.abc import Iterable

import numpy as np

from . import backend

_clock = itertools.count()      # every Tensor gets the next number: older means computed earlier


def now():
    """Return the age that a Tensor made now would have."""
    return next(_clock)


class _State(threading.local):
    recording = True            # of each thread on its own


_state = _State()


class _Node:
    """What a Tensor consists of. A new Tensor is filled in as a _Node and then turned into a
    Tensor, because an assignment to a Tensor's data is noted (see Tensor.touch)."""

    __slots__ = ("data", "parents", "age", "touched", "base")


class Tensor(_Node):
    """An array of float32 or float64, and how it was computed.

    data      the array, of the current backend
    parents   ((input, rule), ...): what it was computed from; () for a leaf, which Tensor(...)
              makes; None for a result that was not recorded
    age       when it was made, as a count of what was made or written to before
    touched   when its data was last written to, in the same count
    base      the Tensor whose array its own is a view of, or None

    There is no `requires_grad` and no `.grad`: what is differentiated is said where grad() is
    called. Arithmetic works between Tensors of one dtype, with Python numbers, and with constant
    arrays, which take the Tensor's dtype. Operations keep their inputs' arrays, not copies: grad()
    refuses to compute with a Tensor that was written to since (see touch), but it cannot see that a
    constant array was.

    Comparisons by <, <=, > and >= give arrays of booleans. A Tensor of one number has a truth value
    and converts to float.

    Raises TypeError for data of another dtype, or for an array of another backend.
    """

    __slots__ = ()
    __array_ufunc__ = None      # so that array * tensor comes to Tensor.__rmul__, not to numpy

    def __new__(cls, data):
        x = _Node()
        x.data, x.parents, x.base = as_array(data), (), None
        x.age = x.touched = next(_clock)
        x.__class__ = Tensor
        return x

    def __setattr__(self, name, value):
        if name == "data":
            if (not isinstance(value, backend.xp.ndarray)
                    or value.dtype != np.float32 and value.dtype != np.float64):
                what = f"{value.dtype} array" if hasattr(value, "dtype") else type(value).__name__
                raise TypeError(f"a Tensor's data is a {backend.xp.__name__} array of float32 or "
                                f"float64, got a {what}: an update of a parameter p by a gradient "
                                "g is p.data -= lr * g.data")
            self.touch()
        super().__setattr__(name, value)

    def touch(self):
        """Note that data is written to now, so that grad() refuses results computed before.

        An assignment to data (x.data = a, x.data -= a) does this by itself; what writes into the
        array (x.data[0] = a, or a function's out=x.data) has to call it.
        """
        self.touched = next(_clock)

    shape = property(lambda x: x.data.shape)
    ndim = property(lambda x: x.data.ndim)
    size = property(lambda x: x.data.size)
    dtype = property(lambda x: x.data.dtype)

    def numpy(self):
        """The values as a numpy array on the host."""
        return backend.to_numpy(self.data)

    def item(self):
        """The value of a one-element Tensor as a Python float. Raises ValueError for another."""
        if self.size != 1:
            raise ValueError(f"a Tensor of shape {self.shape} is not one number: sum or average "
                             "it first, or take x.numpy()")
        return self.data.item()

    def __float__(self):
        return self.item()

    def __bool__(self):
        return bool(self.item())

    def __format__(self, spec):
        return format(self.item(), spec) if spec else str(self)

    def __len__(self):
        if not self.shape:
            raise TypeError("a Tensor of shape () has no length and no entries: take x.item()")
        return self.shape[0]

    def __iter__(self):
        return map(self.__getitem__, range(len(self)))

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Tensor does not become an array by itself, which would lose its "
                        "gradient: take x.numpy(), or x.data on the backend; several Tensors are "
                        "joined by ops.concat")

    def __reduce__(self):       # a copy's age is the copying process's
        return _copied, (self.data, self.parents == ())

    def __repr__(self):
        return f"Tensor({np.array2string(self.numpy(), separator=', ', prefix='Tensor(')})"

    # Comparisons, which have no gradient. Tensors are keys of dictionaries, by identity.

    def __lt__(a, b):
        return _apply(operator.lt, a, b)

    def __le__(a, b):
        return _apply(operator.le, a, b)

    def __gt__(a, b):
        return _apply(operator.gt, a, b)

    def __ge__(a, b):
        return _apply(operator.ge, a, b)

    def __eq__(a, b):
        raise TypeError("== of a Tensor could ask for equal numbers or for the same Tensor: write "
                        "x.data == y, which gives an array, or x is y")

    __hash__ = object.__hash__

    # Arithmetic. Each operation is its forward line and, below it, one rule per input.

    def __neg__(x):
        return op(-x.data, (x, lambda g, y: -g))

    def __add__(a, b):
        return op(_apply(operator.add, a, b),
                  (a, lambda g, y: sum_to(g, a.shape)),
                  (b, lambda g, y: sum_to(g, b.shape)))

    def __sub__(a, b):
        return op(_apply(operator.sub, a, b),
                  (a, lambda g, y: sum_to(g, a.shape)),
                  (b, lambda g, y: sum_to(-g, b.shape)))

    def __mul__(a, b):
        return op(_apply(operator.mul, a, b),
                  (a, lambda g, y: sum_to(g * b, a.shape)),
                  (b, lambda g, y: sum_to(g * a, b.shape)))

    def __truediv__(a, b):
        return op(_apply(operator.truediv, a, b),
                  (a, lambda g, y: sum_to(g / b, a.shape)),
                  (b, lambda g, y: sum_to(-(g * y) / b, b.shape)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(b, a):         # here and below, the operand on the left is a constant
        return op(_apply(operator.sub, a, b), (b, lambda g, y: sum_to(-g, b.shape)))

    def __rtruediv__(b, a):
        return op(_apply(operator.truediv, a, b), (b, lambda g, y: sum_to(-(g * y) / b, b.shape)))

    def __pow__(x, n):
        """x ** n, elementwise, for a number n."""
        if not isinstance(n, (int, float, np.integer, np.floating)):
            raise TypeError(f"the exponent of ** is a number, got {type(n).__name__}: "
                            "for a Tensor exponent write exp(n * log(x))")
        n = n.item() if isinstance(n, np.generic) else n
        # The factor n = 0 stands alone: 0 * x ** -1 would be NaN at x = 0.
        return op(x.data ** n, (x, lambda g, y: g * (n * x ** (n - 1)) if n else g * 0.0))

    def __abs__(x):
        return op(abs(x.data), (x, lambda g, y: g * backend.xp.sign(x.data)))

    def __matmul__(a, b):
        """Matrix product over the last two axes; the axes before them broadcast."""
        b = b if type(b) is Tensor else Tensor(as_array(b, a.dtype))
        return op(_apply(_matmul, a, b, need="(..., n, k) @ (..., k, m) is needed"),
                  (a, lambda g, y: sum_to(g @ b.T, a.shape)),
                  (b, lambda g, y: sum_to(a.T @ g, b.shape)))

    def __rmatmul__(b, a):
        return Tensor(as_array(a, b.dtype)) @ b

    # Sums. `axis` is None (all), a number or a tuple of numbers.

    def sum(x, axis=None, keepdims=False):
        return op(x.data.sum(axis, keepdims=keepdims),
                  (x, lambda g, y: broadcast_to(restore_axes(g, x, axis), x.shape)))

    def mean(x, axis=None, keepdims=False):
        total = x.sum(axis, keepdims)
        if x.size == 0 and total.size:
            raise ValueError(f"there is no mean of no numbers: the Tensor has shape {x.shape}")
        return total * (total.size / (x.size or 1))

    def max(x, axis=None, keepdims=False):
        """The largest entry; equal maxima share the gradient equally."""
        def rule(g, y):
            top = (x.data == restore_axes(y, x, axis).data).astype(x.dtype)
            return restore_axes(g, x, axis) * (top / top.sum(axis, keepdims=True))
        if x.size == 0 and x.data.sum(axis).size:
            raise ValueError(f"there is no largest of no numbers: the Tensor has shape {x.shape}")
        return op(x.data.max(axis, keepdims=keepdims), (x, rule))

    # The same numbers in another shape.

    def reshape(x, *shape):
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        try:
            data = x.data.reshape(shape)
        except (TypeError, ValueError):
            raise ValueError(f"a Tensor of shape {x.shape}, {x.size} numbers, has no shape {shape}"
                             ) from None
        return _view(backend.channels_last(data) if data.ndim == 4 else data, x,
                     lambda g, y: g.reshape(x.shape))

    def transpose(x, *axes):
        """Axes in the order `axes`; reversed if none are given."""
        axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        axes = axes or tuple(reversed(range(x.ndim)))
        try:
            data = x.data.transpose(axes)
        except (TypeError, ValueError):
            raise ValueError(f"transpose of a Tensor of shape {x.shape} needs each of its {x.ndim} "
                             f"axes once, got {axes}") from None
        back = tuple(sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim))
        return _view(data, x, lambda g, y: g.transpose(*back))

    @property
    def T(x):
        """The last two axes exchanged."""
        return x.transpose(*range(x.ndim - 2), -1, -2)

    def __getitem__(x, index):
        return _view(x.data[index], x, lambda g, y: _scatter(g, index, x.shape))


def op(data, *parents):
    """The Tensor of array `data`, computed from `parents`, pairs (input, rule).

    A rule is called as rule(g, y) with Tensors: g is the gradient with respect to the output y; it
    returns the gradient with respect to its input, of the input's shape, computed by differentiable
    operations. It is handed y rather than closing over it, so that a Tensor never refers to itself
    and memory is freed as soon as the last reference goes. Inputs that are no Tensors are
    constants. An input whose values a rule needs, but which gets no gradient, has the rule None.
    """
    y = _Node()
    # numpy's reductions, and arithmetic on 0-d arrays, give scalars of numpy's own
    y.data = data if type(data) is backend.xp.ndarray else backend.xp.asarray(data)
    if _state.recording:
        parents = tuple([p for p in parents if type(p[0]) is Tensor])
        y.parents = parents or None
    else:
        y.parents = None
    y.base = None
    y.age = y.touched = next(_clock)
    y.__class__ = Tensor
    return y


def _view(data, x, rule):
    """Return the Tensor of `data`, which may be a view of the array of its input x."""
    y = op(data, (x, rule))
    _Node.base.__set__(y, x)
    return y


def _copied(data, leaf):
    """Return a copy of a Tensor: a leaf's is a leaf, that of any other is a constant."""
    return Tensor(data) if leaf else op(data)


def grad(y, xs, grad_y=None, create_graph=False, unused="error"):
    """The gradients of y with respect to each of xs, as a list of Tensors; nothing is stored.

    y             the Tensor to differentiate; of one element unless grad_y is given
    xs            Tensors that y was computed from, leaves or not
    grad_y        the gradient arriving at y, of y's shape (default 1): returned is grad_y^T dy/dx
    create_graph  record the computation, so that the gradients can be differentiated again
    unused        what to do about an x that y does not depend on: "error" or "zeros"

    Only tensors on a path from the xs to y are visited: no other gradient is computed.
    Raises TypeError for a y or xs that are no Tensors and for a rule that does not return one;
    ValueError for a y of several elements without grad_y, a grad_y of another shape, an unused x,
    and a Tensor that has been written to since an operation on the path used it.
    """
    if unused not in ("error", "zeros"):
        raise ValueError(f"unused is \"error\" or \"zeros\", got {unused!r}")
    if type(y) is not Tensor:
        raise TypeError(f"grad differentiates a Tensor y, got a {type(y).__name__}")
    if not isinstance(xs, Iterable) or type(xs) is Tensor:
        raise TypeError("grad takes a list of Tensors to differentiate by, such as grad(y, [x]) or "
                        f"grad(y, net.parameters()), got a {type(xs).__name__}")
    xs = list(xs)
    for x in xs:
        if type(x) is not Tensor:
            raise TypeError(f"grad differentiates by Tensors, got a {type(x).__name__} among them")
    if grad_y is None:
        if y.size != 1:
            raise ValueError(f"grad of a y of shape {y.shape} needs grad_y of that shape: "
                             "sum or average y to one number, or pass grad_y")
        grad_y = backend.xp.ones(y.shape, y.dtype)
    grad_y = grad_y if type(grad_y) is Tensor else Tensor(as_array(grad_y, y.dtype))
    if grad_y.shape != y.shape:
        raise ValueError(f"grad_y has shape {grad_y.shape}, but y has shape {y.shape}")

    wanted = set(xs)
    on_path = set(xs)
    order = _ancestors(y, oldest=min((x.age for x in xs), default=y.age))
    for t in order:
        for parent, rule in t.parents or ():
            if parent in on_path and rule is not None:
                on_path.add(t)
                break

    gradient = {y: grad_y} if y in on_path else {}
    with _recorded(create_graph):
        for t in reversed(order):
            if t in gradient and t.parents:
                _check_touched(t, t.age)
                g = gradient[t] if t in wanted else gradient.pop(t)
                for parent, rule in t.parents:
                    if parent.touched > t.age or parent.base is not None:
                        _check_touched(parent, t.age)
                    if parent in on_path and rule is not None:
                        term = rule(g, t)
                        if type(term) is not Tensor:
                            raise TypeError("a rule returns a Tensor, got "
                                            f"{type(term).__name__}: compute it by operations on g")
                        gradient[parent] = gradient[parent] + term if parent in gradient else term

    for i, x in enumerate(xs):
        if x not in gradient:
            if unused != "zeros":
                raise ValueError(f"y does not depend on xs[{i}] (shape {x.shape}): leave it out, "
                                 "or pass unused=\"zeros\" for a gradient of zeros")
            gradient[x] = Tensor(backend.xp.zeros(x.shape, x.dtype))
    return [gradient[x] for x in xs]


def _check_touched(t, age):
    """Raise ValueError if t, or what it is a view of, has been written to since `age`."""
    while t is not None:
        if t.touched > age:
            raise ValueError(
                f"y was computed from a Tensor of shape {t.shape} that has been written to since, "
                "by an optimiser's step or by hand, so that its gradient would mix old and new "
                "numbers: compute y after the step that moves what it depends on, or take all "
                "gradients before the first step")
        t = t.base


def _ancestors(y, oldest):
    """y and all it was computed from, oldest first; nothing older than `oldest` can matter."""
    seen, stack = {y}, [y]
    while stack:
        for parent, _ in stack.pop().parents or ():
            if parent not in seen and parent.age >= oldest:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=operator.attrgetter("age"))


@contextlib.contextmanager
def _recorded(yes):
    before, _state.recording = _state.recording, yes
    try:
        yield
    finally:
        _state.recording = before


def no_grad():
    """Context in which operations record nothing: their results are constants to grad()."""
    return _recorded(False)


# Broadcasting and its adjoint: numpy stretches axes of size 1 and adds axes in front; the gradient
# of what was copied is the sum over the copies.

def broadcast_to(x, shape):
    """x stretched to `shape` as numpy broadcasts."""
    return _view(backend.xp.broadcast_to(x.data, shape), x, lambda g, y: sum_to(g, x.shape))


def sum_to(x, shape):
    """x summed over the axes in which it is larger than `shape`: the adjoint of broadcast_to."""
    if x.shape == shape:
        return x
    added = x.ndim - len(shape)
    stretched = tuple(i for i in range(added, x.ndim) if shape[i - added] == 1 != x.shape[i])
    return x.sum(tuple(range(added)) + stretched).reshape(shape)


def restore_axes(g, x, axis):
    """g, a reduction of x over `axis`, with the reduced axes back as axes of size 1."""
    if x.ndim == 0:         # numpy lets the one number be reduced over axis 0
        return g.reshape(())
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [i % x.ndim for i in axes]
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _scatter(g, index, shape):
    """Zeros of `shape` with g added at `index`: the adjoint of x[index]."""
    data = backend.xp.zeros(shape, g.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(isinstance(i, (int, slice, type(None), type(...))) for i in parts):
        data[index] = g.data
    else:                                   # an index array may name an entry more than once
        backend.xp.add.at(data, index, g.data)
    return op(data, (g, lambda h, y: h[index]))


# What may enter an operation.

class DtypeError(TypeError):
    """float32 and float64 Tensors in one operation."""

    def __init__(self):
        super().__init__("float32 and float64 Tensors do not mix: convert one of them")


def as_array(data, dtype=None):
    """`data` as a float array of the current backend, of `dtype` if given; see Tensor for what it
    may be and what is raised. Python numbers and lists become float32."""
    xp = backend.xp
    if type(data) is Tensor:
        data = data.data
    if isinstance(data, np.generic):        # a scalar of numpy's own: an array with no axes
        data = xp.asarray(data)
    elif isinstance(data, (int, float)):
        return xp.full((), data, dtype or np.float32)       # made on the device, not copied there
    elif isinstance(data, (list, tuple)):
        return xp.asarray(np.asarray(data, dtype or np.float32))
    if not isinstance(data, xp.ndarray):
        raise TypeError(f"a {type(data).__module__}.{type(data).__name__} cannot enter a "
                        f"computation on {xp.__name__} arrays: "
                        "convert it with backend.xp.asarray first")
    if dtype is not None:
        return data if data.dtype == dtype else data.astype(dtype)
    if data.dtype != np.float32 and data.dtype != np.float64:
        raise TypeError(f"a Tensor holds float32 or float64, got {data.dtype}: convert it with "
                        ".astype(\"float32\"), and scale images to [0, 1] first")
    return data


def _apply(f, a, b, need="sizes must be equal or 1, counted from the last axis"):
    """The array f(a, b) of two operands of which one at least is a Tensor."""
    if type(a) is not Tensor:
        a, b = _constant(a, b.dtype), b.data
    elif type(b) is not Tensor:
        a, b = a.data, _constant(b, a.dtype)
    elif a.dtype == b.dtype:
        a, b = a.data, b.data
    else:
        raise DtypeError()
    try:
        return f(a, b)
    except ValueError:
        shapes = " and ".join(str(getattr(c, "shape", "()")) for c in (a, b))
        raise ValueError(f"{f.__name__.strip('_')} of shapes {shapes}: {need}") from None


def _constant(c, dtype):
    # A Python number takes the dtype of the array it meets; a numpy scalar would impose its own.
    return c if type(c) is float or type(c) is int else as_array(c, dtype)


def _matmul(a, b):
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError
    return a @ b if a.ndim > 2 or b.ndim > 2 else backend.product(a, b)


def is_whole(value, least):
    """Return whether `value` is a whole number of at least `least`."""
    return isinstance(value, (int, np.integer)) and value >= least
