"""Reverse-mode differentiation (backprop) whose results can be differentiated again.

Each operation computes its output y and records one rule per input. A rule takes the gradient g of
a scalar L with respect to y and returns the gradient of L with respect to the input: the
vector-Jacobian product g^T dy/dx. grad() starts at y, visits the Tensors that y was computed from,
newest first, and applies their rules. The rules are written with the same operations, so their
results are Tensors that can be differentiated too. Double backprop needs nothing else.

    x = Tensor([1.0, 2.0])
    y = (x * x).sum()
    (g,) = grad(y, [x], create_graph=True)     # 2x
    (h,) = grad(g.sum(), [x])                  # 2
"""

import contextlib
import copy
import itertools
import operator
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import backend, pytorch
from .backend import Array
from .context import use_value
from .numbers import is_real

_clock = itertools.count()      # each new Tensor takes the next number as its age

Axis = int | tuple[int, ...] | None


def now() -> int:
    """Return the next age, a number above the age of every existing Tensor."""
    return next(_clock)


_recording = ContextVar("recording", default=True)      # whether operations are recorded


class _Node:
    """Hold the attributes of a Tensor.

    An operation fills in a _Node and then changes its class to Tensor. This skips
    Tensor.__setattr__, which would check and record each assignment.
    """

    __slots__ = ("data", "parents", "age", "touched", "base")

    data: Array
    parents: tuple | None
    age: int
    touched: int
    base: "Tensor | None"


class Tensor(_Node):
    """An array of float32 or float64 that records how it was computed.

    data      the array, on the current backend
    parents   ((input, rule), ...) of the operation that computed it; () for a leaf, which is made
              by Tensor(...); None if it was not recorded, or had no inputs
    age       a counter value: the Tensor is newer than all Tensors with a smaller age
    touched   the counter value when `data` was last written
    base      the Tensor whose array this one's array may be a view of; None if there is none

    There is no `requires_grad` and no `.grad`: the call grad(y, xs) names the xs. Arithmetic works
    between Tensors of one dtype, with Python numbers, and with constant arrays, which are converted
    to the Tensor's dtype. Tensor(a) keeps the array a itself, and operations keep their inputs'
    arrays, without copying, except those of indices and of constants of one number. A later write
    to such an array would change the gradient, so grad() raises an error if a Tensor was written to
    after an operation on the path from an x to y used it (see touch). It cannot detect a write to a
    constant array of several numbers, or a write made through another Tensor that shares the array,
    such as x.reshape(...) or Tensor(x.data).

    There is no arithmetic in place: x -= a gives the name x to a new Tensor, and does not change a
    parameter. p.data -= a does.

    The comparisons <, <=, > and >= return arrays of booleans. A Tensor with one element has a truth
    value and converts to float.

    Raises TypeError for data of another dtype and for an array of another backend.
    """

    __slots__ = ()
    __array_ufunc__ = None      # makes numpy leave array * tensor to Tensor.__rmul__

    def __init_subclass__(cls):
        raise TypeError(f"{cls.__name__} cannot be a subclass of Tensor, because operations return "
                        "Tensors: write functions of Tensors, or a Module with one")

    def __new__(cls, data):
        x = _Node()
        x.data, x.parents, x.base = as_array(data), (), None
        x.age = x.touched = next(_clock)
        x.__class__ = Tensor
        return x

    def touch(self) -> None:
        """Record that `data` has been written to, so that grad() refuses older results.

        An assignment to data (x.data = a, x.data -= a) calls this method. Code that writes into the
        array itself (x.data[0] = a, or out=x.data) must call it.
        """
        self.touched = next(_clock)

    shape = property(lambda x: x.data.shape)
    ndim = property(lambda x: x.data.ndim)
    size = property(lambda x: x.data.size)
    dtype = property(lambda x: x.data.dtype)

    def numpy(self) -> np.ndarray:
        """Return the values as a numpy array on the host: on a CPU `data` itself, not a copy."""
        return backend.to_numpy(self.data)

    def item(self) -> float:
        """Return the value of a Tensor with one element.

        Raises ValueError if it has another number of elements.
        """
        if self.size != 1:
            raise ValueError(f"a Tensor of shape {self.shape} is not one number: sum or average "
                             "it first, or take x.numpy()")
        return self.data.item()

    # Arithmetic. Each operation has a forward line and, below it, one rule per input.

    def __neg__(x):
        return op(-x.data, (x, lambda g, y: -g))

    def __add__(a, b):
        return op(_apply(operator.add, a, b),
                  (a, lambda g, y: sum_to(g, a.shape)),
                  (b, lambda g, y: sum_to(g, b.shape)))

    def __sub__(a, b):
        return op(_apply(operator.sub, a, b),
                  (a, lambda g, y: sum_to(g, a.shape)),
                  (b, lambda g, y: -sum_to(g, b.shape)))

    def __mul__(a, b):
        b = b if type(b) is Tensor else _constant(b, a.dtype)   # the rules use b too
        return op(_apply(operator.mul, a, b),
                  (a, lambda g, y: sum_to(g * b, a.shape)),
                  (b, lambda g, y: sum_to(g * a, b.shape)))

    def __truediv__(a, b):
        b = b if type(b) is Tensor else _constant(b, a.dtype)
        return op(_apply(operator.truediv, a, b),
                  (a, lambda g, y: sum_to(g / b, a.shape)),
                  (b, lambda g, y: -sum_to(g * y / b, b.shape)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(b, a):         # in __r...__, the left operand a is a constant
        return Tensor.__sub__(a, b)

    def __rtruediv__(b, a):
        return Tensor.__truediv__(a, b)

    def __pow__(x, n):
        """Return x^n elementwise, for a number n."""
        if not is_real(n):
            raise TypeError(f"the exponent of ** is a number, got {type(n).__name__}: "
                            "for a Tensor exponent write exp(n * log(x))")
        n = float(n)

        def rule(g, y):
            if n == 0:          # 0 * x ** -1 is NaN at x = 0
                return g * 0.0
            return g * (n * (x if n == 2 else x ** (n - 1)))        # x is x ** 1, but faster
        return op(backend.power(x.data, n), (x, rule))

    def __abs__(x):
        """Return |x|. The derivative at 0 is 0."""
        return op(abs(x.data), (x, lambda g, y: g * backend.xp.sign(x.data)))

    def __matmul__(a, b):
        """Return the matrix product over the last two axes; the other axes broadcast."""
        b = b if type(b) is Tensor else Tensor(as_array(b, a.dtype))
        return op(_apply(_matmul, a, b, need="(..., n, k) @ (..., k, m) is needed"),
                  (a, lambda g, y: sum_to(g @ b.T, a.shape)),
                  (b, lambda g, y: sum_to(a.T @ g, b.shape)))

    def __rmatmul__(b, a):
        # the rule needs the .T of a Tensor, which exchanges two axes; numpy's reverses all of them
        return Tensor(as_array(a, b.dtype)) @ b

    # Reductions. `axis` is None (all axes), a number or a tuple of numbers.

    def sum(x, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Return the sum over `axis`.

        On a CPU, float32 sums over the first axis of 10^6 rows may lose 5 of 7 digits, because
        numpy adds the rows one after the other. Sums over the axes (2, 3) of images lose as much,
        because channels lie last in memory.
        """
        axis = reduction_axis(x, axis, keepdims)
        return op(backend.order_for_sum(x.data, axis).sum(axis, keepdims=keepdims),
                  (x, lambda g, y: broadcast_to(restore_axes(g, x, axis), x.shape)))

    def mean(x, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Return the mean over `axis`. Raises ValueError for a mean of no numbers."""
        total = x.sum(axis, keepdims)
        if x.size == 0 and total.size:
            raise ValueError(f"the mean of no numbers is undefined: the Tensor has shape {x.shape}")
        return total * (total.size / (x.size or 1))

    def max(x, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Return the maximum over `axis`. Equal maxima share the gradient equally.

        Raises ValueError for a maximum of no numbers.
        """
        axis = reduction_axis(x, axis, keepdims)

        def rule(g, y):
            return _share(restore_axes(g, x, axis), x, restore_axes(y, x, axis), axis)
        if x.size == 0 and x.data.sum(axis).size:
            raise ValueError("the maximum of no numbers is undefined: the Tensor has shape "
                             f"{x.shape}")
        return op(x.data.max(axis, keepdims=keepdims), (x, rule))

    # Changes of shape

    def reshape(x, *shape: int | tuple[int, ...]) -> "Tensor":
        """Return the same numbers in another shape, given as numbers or as one tuple.

        Raises ValueError if the number of elements differs.
        """
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        try:
            data = x.data.reshape(shape)
        except (TypeError, ValueError):
            raise ValueError(f"a Tensor of shape {x.shape} with {x.size} numbers cannot be reshaped"
                             f" to {shape}") from None
        if data.ndim == 4:          # images; im2col.py says why their channels lie last in memory
            data = backend.to_channels_last(data)
        return _view(data, x, lambda g, y: g.reshape(x.shape))

    def transpose(x, *axes: int | tuple[int, ...]) -> "Tensor":
        """Return x with its axes in the order `axes`; without arguments, in reverse order.

        Raises ValueError if `axes` does not name each axis once.
        """
        axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        axes = axes or tuple(reversed(range(x.ndim)))
        try:
            data = x.data.transpose(axes)
        except (TypeError, ValueError):
            raise ValueError(f"transpose of a Tensor of shape {x.shape} needs each of its {x.ndim} "
                             f"axes once, got {axes}") from None
        back = sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim)    # the inverse of `axes`
        return _view(data, x, lambda g, y: g.transpose(*back))

    @property
    def T(x) -> "Tensor":
        """x with its last two axes exchanged."""
        if x.ndim < 2:
            raise ValueError(f".T exchanges two axes, but this Tensor has the shape {x.shape}")
        return _view(x.data.swapaxes(-1, -2), x, lambda g, y: g.T)

    def __getitem__(x, index):
        def rule(g, y):
            return _scatter(g, index, x.shape)
        if _is_basic(index):
            return _view(x.data[index], x, rule)
        index = copy.deepcopy(index)        # an array in it may change before the rule uses it
        return op(x.data[index], (x, rule))

    # What Python and numpy ask of a Tensor

    def __setattr__(self, name, value):
        if name == "data":
            if not isinstance(value, backend.xp.ndarray):
                raise TypeError(f"a Tensor's data is a {backend.xp.__name__} array, got "
                                f"{type(value).__name__}: to update a parameter p by a gradient g, "
                                "write p.data -= lr * g.data")
            value = as_array(value)     # refuses other dtypes
            self.touch()
        elif name in pytorch.TENSOR:
            raise AttributeError(f"a Tensor has no {name}: {pytorch.TENSOR[name]}")
        super().__setattr__(name, value)

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
        raise TypeError("numpy cannot convert a Tensor to an array, because its gradient would be "
                        "lost: functions of Tensors are in tinygan.ops, such as ops.exp and "
                        "ops.concat; x.numpy() or, on the backend, x.data is an array")

    def __array_function__(self, function, types, args, kwargs):
        if function in (np.shape, np.ndim, np.size) and args:
            return function(self.data, *args[1:], **kwargs)
        raise TypeError(f"numpy's {function.__name__} takes arrays, not Tensors: use a method such "
                        "as x.mean() or a function such as ops.concat, or x.numpy() where no "
                        "gradient is needed")

    def __reduce__(self):       # for copy and pickle; the copy gets an age of its own
        return _rebuild, (self.data, self.parents == ())

    def __deepcopy__(self, memo):       # cupy's own would lose the memory order
        if id(self.data) not in memo:   # two Tensors may share an array
            memo[id(self.data)] = self.data.copy("K")
        return _rebuild(memo[id(self.data)], self.parents == ())

    def __repr__(self):
        return f"Tensor({np.array2string(self.numpy(), separator=', ', prefix='Tensor(')})"

    def __getattr__(x, name):
        if name in pytorch.TENSOR:
            raise AttributeError(f"a Tensor has no {name}: {pytorch.TENSOR[name]}")
        return object.__getattribute__(x, name)     # raises Python's own error

    # Comparisons return arrays, which have no gradient. Tensors are hashed by identity, so that
    # they can be keys of dictionaries.

    def __lt__(a, b):
        return _apply(operator.lt, a, b)

    def __le__(a, b):
        return _apply(operator.le, a, b)

    def __gt__(a, b):
        return _apply(operator.gt, a, b)

    def __ge__(a, b):
        return _apply(operator.ge, a, b)

    def __eq__(a, b):
        raise TypeError("== is ambiguous for a Tensor: write x.data == y.data to compare the "
                        "numbers, which gives an array, or x is y to ask for the same Tensor")

    __hash__ = object.__hash__


def _is_basic(index):
    """Return whether an index has integers, slices, None and ... only; others copy the entries."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(i, (int, np.integer, slice, type(None), type(...)))
               and not isinstance(i, bool) for i in parts)


def _share(g, x, y, axis):
    """Return g, shared equally by the entries of x that equal y, and 0 at the other entries.

    y is the maximum of x over `axis`; g and y have size 1 along `axis`. The result is
    g * top / top.sum(axis, keepdims=True) with top = (x == y), which is linear in g.
    """
    def shares(g):
        if backend.cuda is not None and backend.cuda.has_short_axis(x.data, axis):
            return backend.cuda.share(g, x.data, y.data, axis)
        top = backend.xp.empty_like(x.data)
        backend.xp.equal(x.data, y.data, out=top, casting="unsafe")
        top *= g * (1 / top.sum(axis, keepdims=True))
        return top
    return op(shares(g.data), (x, None), (y, None),
              (g, lambda h, _: sum_to(h * shares(backend.xp.ones_like(y.data)), g.shape)))


def op(data: Array, *parents: tuple) -> Tensor:
    """Return the Tensor of the array `data`, computed from `parents`, pairs (input, rule).

    grad() calls a rule as rule(g, y) with two Tensors: g is the gradient with respect to the output
    y. The rule returns the gradient with respect to its input, in the input's shape, computed with
    differentiable operations. The rule gets y as an argument and must not close over it: a Tensor
    that refers to itself would not be freed with its last reference. Inputs that are not Tensors
    are constants. The rule None marks an input that gets no gradient here, but whose values
    another rule uses: grad() raises an error if they have changed.

    Raises TypeError if `data` is a Tensor or a masked array, or has another dtype than the first
    Tensor among the inputs (without inputs: than float32 and float64), if the parents are not such
    pairs, and if there are inputs and none of them is a Tensor.
    """
    _check_op(data, parents)
    y = _Node()
    # numpy returns scalars, not arrays, from reductions and from arithmetic on 0-d arrays
    y.data = data if type(data) is backend.xp.ndarray else backend.xp.asarray(data)
    tensors = tuple([p for p in parents if type(p[0]) is Tensor])
    if tensors:
        dtype = tensors[0][0].data.dtype
        if y.data.dtype is not dtype and y.data.dtype != dtype:
            _refuse_dtype(y.data, dtype)
    elif parents:           # an array as an input would fit: it has an attribute `data` too
        raise NoTensorError()
    else:
        as_array(y.data)    # raises TypeError for another dtype
    y.parents = tensors if tensors and _recording.get() else None
    y.base = None
    y.age = y.touched = next(_clock)
    y.__class__ = Tensor
    return y


def _view(data, x, rule):
    """Return the Tensor of `data`, computed from x, whose array it may be a view of."""
    y = op(data, (x, rule))
    _Node.base.__set__(y, x)        # y.base = x, faster than by Tensor.__setattr__
    return y


def _rebuild(data, is_leaf):
    """Return the copy of a Tensor: a leaf for a leaf, else a constant."""
    return Tensor(data) if is_leaf else op(data)


def grad(y: Tensor, xs: Iterable[Tensor], grad_y: Tensor | Array | None = None,
         create_graph: bool = False, unused: str = "error") -> list[Tensor]:
    """Return the gradient of y with respect to each x in xs. Nothing is stored in the Tensors.

    y             the Tensor to differentiate; it has one element unless grad_y is given
    xs            Tensors that y was computed from, leaves or not
    grad_y        the gradient with respect to y, in y's shape (default 1); the result is
                  grad_y^T dy/dx
    create_graph  record the computation, so that the gradients can be differentiated again
    unused        for an x that y does not depend on: "error" raises ValueError, "zeros" returns
                  zeros

    Only the rules on a path from an x to y are applied; no other gradient is computed. The results
    may share memory, as the gradients of a and b in a + b do: do not write into their arrays.

    Raises TypeError if y or an x is not a Tensor, if xs is one, if a rule does not return one of
    its input's dtype, and for a Tensor grad_y of another dtype than y's. Raises ValueError if y has
    several elements and no grad_y is given, if grad_y or what a rule returns has another shape, for
    another `unused`, if y depends on no x and an operation before it was not recorded, and if a
    Tensor has been written to after an operation on the path used it.
    """
    xs = _check_grad(y, xs, unused)
    grad_y = _as_gradient(grad_y, y)
    if not create_graph:
        grad_y = Tensor(grad_y.data)        # without its graph: it may itself be returned

    # which Tensors lie on a path from an x to y, and which of them were computed from another one,
    # so that their rules are applied
    wanted, on_path, inner = set(xs), set(xs), set()
    order = ancestors([y], oldest=min((x.age for x in xs), default=y.age))
    for t in order:
        for parent, rule in t.parents or ():
            if parent in on_path and rule is not None:
                on_path.add(t)
                inner.add(t)
                break
    if y not in on_path:
        _refuse_unrecorded(order)

    # from y on, newest first: each rule gives a term of the gradient with respect to its input
    gradient = {y: grad_y} if y in on_path else {}
    with set_recording(create_graph):
        for t in reversed(order):
            if t not in gradient or t not in inner:
                continue
            _refuse_written(t, t.age)
            g = gradient[t] if t in wanted else gradient.pop(t)
            for parent, rule in t.parents:
                if parent.touched > t.age or parent.base is not None:
                    _refuse_written(parent, t.age)
                if parent in on_path and rule is not None:
                    term = rule(g, t)
                    if (type(term) is not Tensor or term.data.shape != parent.data.shape
                            or term.data.dtype != parent.data.dtype):
                        _refuse_term(term, parent)
                    gradient[parent] = gradient[parent] + term if parent in gradient else term

    for i, x in enumerate(xs):
        if x not in gradient:
            if unused != "zeros":
                raise UnusedError(i, x.shape)
            gradient[x] = Tensor(backend.xp.zeros(x.shape, x.dtype))
    return [gradient[x] for x in xs]


def ancestors(ys: Iterable[Tensor], oldest: int = 0) -> list[Tensor]:
    """List ys and the Tensors of age `oldest` or above that they were computed from, oldest first.

    A result is newer than its inputs. So a Tensor older than every x depends on none of them, and
    when grad() reaches a Tensor, newest first, all terms of its gradient have been added already.
    """
    stack = list(ys)
    seen = set(stack)
    while stack:
        for parent, _ in stack.pop().parents or ():
            if parent not in seen and parent.age >= oldest:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=operator.attrgetter("age"))


def set_recording(recording: bool) -> contextlib.AbstractContextManager:
    """Record operations inside the context, or with False record none."""
    return use_value(_recording, recording)


def no_grad() -> contextlib.AbstractContextManager:
    """Record no operations inside the context: their results are constants for grad()."""
    return set_recording(False)


def enable_grad() -> contextlib.AbstractContextManager:
    """Record operations inside the context, also within no_grad()."""
    return set_recording(True)


# Broadcasting and its adjoint. (The adjoint of a linear operation y = A x is A^T; its rule is
# g -> A^T g.) numpy repeats the numbers along axes of size 1 and along new axes in front. The
# gradient of a repeated number is the sum over its copies.

def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x broadcast to `shape` by numpy's rules."""
    return _view(backend.xp.broadcast_to(x.data, shape), x, lambda g, y: sum_to(g, x.shape))


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x summed over the axes that broadcasting repeats: the adjoint of broadcast_to."""
    if x.shape == shape:
        return x
    added = x.ndim - len(shape)
    stretched = tuple(i for i in range(added, x.ndim) if shape[i - added] == 1 != x.shape[i])
    return x.sum(tuple(range(added)) + stretched).reshape(shape)


def restore_axes(g: Tensor, x: Tensor, axis: Axis) -> Tensor:
    """Return g with the axes that a reduction of x over `axis` removed put back as size 1."""
    if x.ndim == 0:
        return g.reshape(())
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [i % x.ndim for i in axes]
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def reduction_axis(x: Tensor, axis: Axis, keepdims: bool) -> Axis:
    """Return the axis of a reduction of x in a form that cupy takes too.

    numpy alone allows axis 0 for a 0-d x. Raises TypeError for a list of axes, and for a `keepdims`
    such as that in x.sum(2, 3).
    """
    if isinstance(axis, list):
        raise TypeError(f"several axes are a tuple, {tuple(axis)}, got the list {axis}")
    if not isinstance(keepdims, bool):
        raise TypeError(f"keepdims is True or False, got {keepdims!r}: give several axes as a "
                        f"tuple, such as ({axis!r}, {keepdims!r})")
    return () if x.ndim == 0 and axis in (0, -1) else axis


def _scatter(g, index, shape):
    """Return zeros of `shape` with g added at `index`: the adjoint of x[index]."""
    data = backend.xp.zeros(shape, g.dtype)
    if _is_basic(index):
        data[index] = g.data
    else:                                   # an index array may contain an index twice
        backend.xp.add.at(data, index, g.data)
    return op(data, (g, lambda h, y: h[index]))


# What op() and grad() refuse

def _check_op(data, parents):
    """Raise TypeError for arguments that op() does not take."""
    for p in parents:
        if type(p) is not tuple or len(p) != 2 or not (p[1] is None or callable(p[1])):
            raise TypeError("op takes the array of the result, and a pair (input, rule) for each "
                            "input, as in op(x.data ** 2, (x, lambda g, y: g * 2 * x))")
    # numpy's scalars are the results of reductions: they have no mask
    if type(data) is not backend.xp.ndarray and not isinstance(data, np.generic):
        if type(data) is Tensor:
            raise TypeError("op takes the array of the result, got a Tensor: compute it from "
                            "x.data")
        backend.refuse_masked(data)


def _refuse_dtype(data, dtype):
    """Raise TypeError for the result of an operation whose inputs have another dtype."""
    raise TypeError(f"op got a result of {data.dtype}, computed from a Tensor of {dtype}, but both "
                    "must have the same dtype: convert constant arrays in the computation to "
                    "x.data.dtype")


def _check_grad(y, xs, unused):
    """Return xs as a list; raise an error for arguments that grad() does not take."""
    if unused not in ("error", "zeros"):
        raise ValueError(f"unused is \"error\" or \"zeros\", got {unused!r}")
    if type(y) is not Tensor:
        raise TypeError(f"grad differentiates a Tensor y, got {type(y).__name__}")
    if not isinstance(xs, Iterable) or type(xs) is Tensor:
        raise TypeError("grad takes xs as a list of Tensors, such as grad(y, [x]) or "
                        f"grad(y, net.parameters()), got {type(xs).__name__}")
    xs = list(xs)
    for x in xs:
        if type(x) is not Tensor:
            raise TypeError(f"grad's xs are Tensors, got {type(x).__name__} among them")
    return xs


def _as_gradient(grad_y, y):
    """Return grad_y, or 1 if it is None, as a Tensor of y's shape; raise an error for others."""
    if grad_y is None:
        if y.size != 1:
            raise ValueError(f"grad of a y of shape {y.shape} needs grad_y of that shape: "
                             "sum or average y to one number, or pass grad_y")
        grad_y = backend.xp.ones(y.shape, y.dtype)
    grad_y = grad_y if type(grad_y) is Tensor else Tensor(as_array(grad_y, y.dtype))
    if grad_y.dtype != y.dtype:
        raise DtypeError()
    if grad_y.shape != y.shape:
        raise ValueError(f"grad_y has shape {grad_y.shape}, but y has shape {y.shape}")
    return grad_y


def _refuse_unrecorded(order):
    """Raise ValueError if the computation of a Tensor in `order` was not recorded."""
    for t in order:
        if t.parents is None:
            raise ValueError(
                f"y does not depend on xs, because the computation of a Tensor of shape "
                f"{t.shape} on the way was not recorded: pass create_graph=True to the grad() "
                "that returned it, or compute it outside no_grad() or in enable_grad()")


def _refuse_written(t, age):
    """Raise ValueError if t, or a Tensor that it is a view of, was written to after `age`."""
    while t is not None:
        if t.touched > age:
            raise ValueError(
                f"a Tensor of shape {t.shape} in the computation of y has been written to since, "
                "by an optimiser's step or by hand, so y's gradient would mix old and new numbers: "
                "compute y again after the write, or take all gradients before it")
        t = t.base


def _refuse_term(term, x):
    """Raise an error for what the rule of x returned: no Tensor of x's shape and dtype."""
    if type(term) is not Tensor:
        raise TypeError(f"a rule returns a Tensor, got {type(term).__name__}: compute it by "
                        "operations on g")
    if term.shape == x.shape:
        raise TypeError("a rule returns the gradient with respect to its input, of dtype "
                        f"{x.dtype}, got {term.dtype}: convert the constants in the rule")
    raise ValueError("a rule returns the gradient with respect to its input, of shape "
                     f"{x.shape}, got shape {term.shape}: tensor.sum_to(g, x.shape) adds up over "
                     "the axes along which x was broadcast")


class UnusedError(ValueError):
    """The y of grad() does not depend on the x number `i`."""

    def __init__(self, i: int, shape: tuple[int, ...]) -> None:
        super().__init__(f"y does not depend on xs[{i}] (shape {shape}): leave it out, or pass "
                         "unused=\"zeros\" for a gradient of zeros")
        self.i = i


# Operands

class DtypeError(TypeError):
    """An operation got both float32 and float64 Tensors."""

    def __init__(self) -> None:
        super().__init__("float32 and float64 Tensors do not mix: make all from arrays of one "
                         "dtype, such as Tensor(a.astype(\"float32\"))")


class NoTensorError(TypeError):
    """An operation got arrays or numbers only."""

    def __init__(self) -> None:
        super().__init__("at least one argument must be a Tensor: wrap an array as Tensor(x)")


def as_array(data: Any, dtype: Any = None) -> Array:
    """Return `data` as a float array on the current backend, converted to `dtype` if given.

    `data` is a Tensor, an array, a number or a list of numbers. Without a dtype, Python numbers and
    lists become float32; numpy scalars and arrays must already be float32 or float64. With a dtype,
    an array of one number is copied: it may be a setting, such as the factor of a term, that a game
    changes before a derivative rule uses the copy. Raises TypeError for other data.
    """
    xp = backend.xp
    if type(data) is Tensor:
        data = data.data
    if isinstance(data, np.generic):        # a numpy scalar becomes a 0-d array, without a copy
        data = xp.full((), data, data.dtype)
    elif isinstance(data, (int, float)):
        return xp.full((), data, dtype or np.float32)       # avoids a copy from host to device
    elif isinstance(data, (list, tuple)):
        if backend.capturing:
            raise TypeError("a list of numbers is copied from the host, which a recorded step "
                            "cannot do: make it an array before the step")
        with contextlib.suppress(ValueError):       # raised for rows of different lengths
            array = np.asarray(data)
            if array.dtype.kind in "fiub":          # numbers, not texts or None
                return xp.asarray(array.astype(dtype or np.float32))
        raise TypeError("a list must hold numbers of at most 64 bits, in rows of equal length, got "
                        f"{data!r:.60}")
    if not isinstance(data, xp.ndarray):
        is_array = hasattr(data, "__array__") or hasattr(data, "__cuda_array_interface__")
        raise TypeError(f"a {type(data).__module__}.{type(data).__name__} cannot enter a "
                        f"computation on {xp.__name__} arrays: "
                        + ("convert it with backend.xp.asarray first" if is_array else
                           "it is neither a Tensor, an array nor a real number"))
    if type(data) is not xp.ndarray:        # a subclass, whose operators may mean something else
        backend.refuse_masked(data)
        data = xp.asarray(data)
    if data.dtype.kind not in "fiub":
        raise TypeError(f"an array in a computation holds real numbers, got {data.dtype}")
    if dtype is not None:
        return data if data.dtype == dtype and data.size != 1 else data.astype(dtype)
    if data.dtype != np.float32 and data.dtype != np.float64:
        raise TypeError(f"a Tensor holds float32 or float64, got {data.dtype}: convert it with "
                        ".astype(\"float32\"), and scale images to [0, 1] first")
    return data


def _apply(f, a, b, need="counted from the last axis, sizes must be equal or 1"):
    """Return the array f(a, b) for two operands, at least one of them a Tensor."""
    if type(a) is not Tensor:
        a, b = _constant(a, b.dtype), b.data
    elif type(b) is not Tensor:
        a, b = a.data, _constant(b, a.dtype)
    elif a.dtype == b.dtype:
        a, b = a.data, b.data
    else:
        raise DtypeError()
    try:
        if backend.cuda is None or f is _matmul:
            return f(a, b)
        return backend.cuda.elementwise(f, a, b)
    except ValueError:
        shapes = " and ".join(str(getattr(c, "shape", "()")) for c in (a, b))
        raise ValueError(f"{f.__name__.strip('_')} of shapes {shapes}: {need}") from None


def _constant(c, dtype):
    # numpy gives a Python number the dtype of the array, but keeps the dtype of its own scalars.
    return c if type(c) is float or type(c) is int else as_array(c, dtype)


def _matmul(a, b):
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError        # _apply() writes the message
    return backend.product(a, b)
