"""Optimisers: opt.step(grads) updates the parameters in place so as to minimise a loss.

`lr` and SGD's `momentum` are numbers or schedules, functions of the number of steps taken so far
(see schedules.py). In the equations g is the gradient, p a parameter, and t counts steps from 1.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from . import backend, pytorch
from .backend import Array
from .nn.module import Module, check_names, find_inside
from .numbers import is_number
from .schedules import value_at
from .tensor import Tensor


class Optimizer:
    """The base class of the optimisers.

    parameters   a list of Tensors; a Tensor that occurs twice counts once
    lr           the learning rate, a number or a schedule
    state        {name: [one array per parameter]} of the arrays that the optimiser keeps, such as
                 Adam's m and v or SGD's velocity
    t            the number of steps taken

    A subclass names these arrays in `state_names` and defines update(), and numbers() if there are
    more numbers than the learning rate that depend on t. Attributes that are arrays, made in the
    constructor and written to in place, are saved as well. A subclass names in `untracked` other
    attributes that a checkpoint need not keep, such as work arrays.

    Raises TypeError if `parameters` is not a list of Tensors. Raises ValueError if it is empty, if
    one of its Tensors is not a leaf, and for a learning rate that is not a finite number of at
    least 0. The learning rate of a schedule is checked at each step.
    """

    state_names = ()
    untracked = ()
    changing = "parameters", "state", "t", "_numbers"       # the attributes that training changes

    def __init__(self, parameters: Iterable[Tensor], lr: float | Callable) -> None:
        check_names(type(self), "state_names", "untracked", "changing")
        self.parameters = _check_parameters(parameters)
        self.lr = lr if callable(lr) else _check_number(lr, "lr", 0, math.inf)
        self.t = 0
        self._numbers = None        # the numbers of the current step, on a GPU in an array
        self.state = {name: [backend.xp.zeros_like(p.data) for p in self.parameters]
                      for name in self.state_names}

    def __getattr__(self, name):
        if name == "zero_grad":
            raise AttributeError(f"an optimiser has no {name}: {pytorch.MODULE[name]}")
        return object.__getattribute__(self, name)      # raises Python's own error

    def step(self, grads: Iterable[Tensor]) -> None:
        """Update each parameter by its gradient; `grads` are in the order of `parameters`.

        Raises TypeError for a gradient that is no Tensor. Raises ValueError if the number or the
        shapes of the gradients differ from the parameters', if a parameter's shape or dtype has
        changed, or if its array is read-only or not contiguous. Nothing has changed then. Raises
        TypeError if update() of a subclass returns a value or changes nothing in its first step.
        """
        if type(grads) is Tensor:
            raise TypeError("step takes a list of gradients, as in opt.step(grad(loss, "
                            f"opt.parameters)), got a Tensor of shape {grads.shape}")
        grads = list(grads)
        self._check_gradients(grads)
        flat = [_flatten_in_memory_order(p.data, *arrays) for p, *arrays
                 in zip(self.parameters, *self.state.values(), [g.data for g in grads])]
        # An update() of this file is one kernel, which computes each number by itself. That of
        # another class may be several, or may need a whole array.
        elementwise = type(self).update.__module__ == __name__
        if elementwise and any(a.dtype != p.dtype for p, *state, _ in flat for a in state):
            raise ValueError("an optimiser's arrays have the dtype of its parameters, but a "
                             "parameter's array was replaced by one of another dtype: make a new "
                             "optimiser")
        if not backend.capturing:       # else graphs.CapturedStep calls it before each launch
            self.advance()
        for p in self.parameters:       # before the updates, of which one may fail
            p.touch()
        if not elementwise:
            self._update_by_subclass(flat)
            return
        with backend.together():        # kernels in it may not use what another of them computes
            for p, *state, g in flat:
                # update() is a series of short operations, which read its arrays several times;
                # small pieces stay in the cache meanwhile. There are up to 8 arrays: p, g, the
                # state and those that update() makes.
                backend.run_in_pieces(len(p), 8 * p.itemsize, lambda piece: self.update(
                    self._numbers, p[piece], g[piece], *[a[piece] for a in state]), short=True)

    def _update_by_subclass(self, flat):
        """Call update() for each (p, *state, g) of `flat`.

        Raises TypeError if it returns a value, and if the first step changes nothing in place,
        although there are gradients and the first of the numbers, the learning rate, is not 0.
        """
        is_first = self.t == 1 and not backend.capturing
        before = [[a.copy() for a in arrays[:-1]] for arrays in flat] if is_first else []
        returned = [self.update(self._numbers, p, g, *state) for p, *state, g in flat]
        changed = any(bool((a != b).any()) for arrays, then in zip(flat, before)
                      for a, b in zip(arrays, then))
        must_change = is_first and all(self._numbers[:1]) and any(bool(g.any()) for *_, g in flat)
        if must_change and not changed or any(each is not None for each in returned):
            raise TypeError(f"update() of {type(self).__name__} changes the array p in place and "
                            "returns nothing: write p -= step or p[...] = values, since p = p - "
                            "step makes another array")

    def _check_gradients(self, grads):
        if any(type(g) is not Tensor for g in grads):
            raise TypeError("step takes Tensors, as grad() returns them, got "
                            f"{[type(g).__name__ for g in grads]}")
        shapes = [p.shape for p in self.parameters]
        if any([a.shape for a in arrays] != shapes for arrays in self.state.values()):
            raise ValueError("the arrays in an optimiser's state have the shapes of its "
                             "parameters, but these differ: make another array an attribute of its "
                             "own, and if a parameter's array was replaced, make a new optimiser")
        if [g.shape for g in grads] != shapes:
            raise ValueError(f"the optimiser has parameters of shapes {shapes}, got gradients of "
                             f"shapes {[g.shape for g in grads]}: ask grad() for opt.parameters")

    def prepare(self) -> None:
        """Make the array of numbers that recorded steps read on a GPU."""
        if backend.cuda is not None and self._numbers is None:
            self._numbers = backend.cuda.write(self.numbers(), None)

    def arrays(self) -> dict[str, Array]:
        """Return {name: array} of all arrays that a checkpoint keeps, not copied.

        They are those of `state`, as m.0 or m.1, and attributes that are arrays.
        """
        kept = {f"{name}.{i}": a for name, arrays in self.state.items()
                for i, a in enumerate(arrays)}
        return kept | {name: value for name, value in vars(self).items()
                       if isinstance(value, backend.xp.ndarray)
                       and name not in (*self.changing, *self.untracked)}

    def advance(self) -> None:
        """Count a step, and compute the numbers that it needs; step() calls this method.

        On a GPU they are written to an array, so that a step that was recorded has them too.
        """
        numbers = self.numbers()
        if not isinstance(numbers, (tuple, list)):
            raise TypeError(f"numbers() of {type(self).__name__} returns a tuple of numbers, got a "
                            f"{type(numbers).__name__}")
        self.t += 1
        if backend.cuda is None:
            self._numbers = numbers
        else:
            self._numbers = backend.cuda.write(numbers, self._numbers)

    def numbers(self) -> tuple[float, ...]:
        """Return the numbers of the next step, after self.t steps; by default the learning rate."""
        return (_check_number(value_at(self.lr, self.t), f"lr at step {self.t}", 0, math.inf),)

    def update(self, numbers: Any, p: Array, g: Array, *state: Array) -> None:
        """Update the array p in place by the gradient g, and the arrays of `state` with it.

        All are one-dimensional: p has the numbers of a parameter, and g and the others those that
        belong to them. (The optimisers of this file, which compute each number by itself, get
        pieces of them, on several threads.) g must not be written to. `numbers` are what numbers()
        returned, on a GPU as an array of float64.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update(numbers, p, g, ...), "
                                  "which changes p in place")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

        v <- momentum v - lr g
        p <- p + v              (Polyak 1964, in the form of Sutskever et al. 2013, eq. 1-2)

    Raises ValueError for a momentum outside [0, 1).
    """

    state_names = ("v",)

    def __init__(self, parameters: Iterable[Tensor], lr: float | Callable,
                 momentum: float | Callable = 0.0) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum if callable(momentum) else _check_number(
            momentum, "momentum", 0, 1)

    def numbers(self):
        return *super().numbers(), _check_number(value_at(self.momentum, self.t),
                                                 f"momentum at step {self.t}", 0, 1)

    def update(self, numbers, p, g, v):
        _sgd(numbers, g, p, v)


@backend.kernel("raw float64 numbers, T g", "T p, T v",
                "v = T(numbers[1]) * v - T(numbers[0]) * g; p += v")
def _sgd(numbers, g, p, v):
    lr, momentum = numbers
    v *= momentum
    v -= lr * g
    p += v


class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5).

        s <- rho s + (1 - rho) g^2
        p <- p - lr g / (sqrt(s) + eps)

    The lecture has rho = 0.9. The default rho = 0.99 and the eps outside the root are PyTorch's.
    Raises ValueError for a rho outside [0, 1) and for a negative eps.
    """

    state_names = ("s",)

    def __init__(self, parameters: Iterable[Tensor], lr: float | Callable = 1e-3,
                 rho: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(parameters, lr)
        self.rho, self.eps = _check_number(rho, "rho", 0, 1), _check_number(eps, "eps", 0, math.inf)

    def update(self, numbers, p, g, s):
        _rmsprop(numbers, g, self.rho, 1 - self.rho, self.eps, p, s)


@backend.kernel("raw float64 numbers, T g, T rho, T rest, T eps", "T p, T s",
                "s = rho * s + rest * g * g; p -= T(numbers[0]) * g / (sqrt(s) + eps)")
def _rmsprop(numbers, g, rho, rest, eps, p, s):
    (lr,) = numbers
    s *= rho
    s += rest * g * g
    p -= lr * g / (backend.xp.sqrt(s) + eps)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, Algorithm 1).

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr m' / (sqrt(v') + eps),  m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)

    With a `weight_decay`, g is the gradient of loss + weight_decay/2 |p|^2, as in PyTorch's Adam.
    The default beta1 = 0.5 is usual for GANs (Radford et al. 2016); the paper has 0.9. Raises
    ValueError for a beta outside [0, 1) and for a negative eps or weight_decay.
    """

    state_names = ("m", "v")

    def __init__(self, parameters: Iterable[Tensor], lr: float | Callable = 2e-4,
                 betas: tuple[float, float] = (0.5, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"Adam's betas are two numbers, got {betas!r}") from None
        self.betas = _check_number(beta1, "beta1", 0, 1), _check_number(beta2, "beta2", 0, 1)
        self.eps = _check_number(eps, "eps", 0, math.inf)
        self.weight_decay = _check_number(weight_decay, "weight_decay", 0, math.inf)

    def numbers(self):
        # the bias corrections are scalar factors, so the arrays m' and v' are not needed
        (lr,), (beta1, beta2), t = super().numbers(), self.betas, self.t + 1
        return lr / (1 - beta1 ** t), 1 / math.sqrt(1 - beta2 ** t)

    def update(self, numbers, p, g, m, v):
        beta1, beta2 = self.betas
        _adam(numbers, g, beta1, 1 - beta1, beta2, 1 - beta2, self.eps, self.weight_decay, p, m, v)


# The factors 1 - beta are arguments, because in float32 their difference would lose digits.
@backend.kernel("raw float64 numbers, T g, T beta1, T rest1, T beta2, T rest2, T eps, T decay",
                "T p, T m, T v", """
                T d = g + decay * p;
                m = beta1 < 0.5 ? beta1 * m + rest1 * d : m + rest1 * (d - m);
                v = beta2 < 0.5 ? beta2 * v + rest2 * d * d : v + rest2 * (d * d - v);
                p -= T(numbers[0]) * m / (sqrt(v) * T(numbers[1]) + eps)""")
def _adam(numbers, g, beta1, rest1, beta2, rest2, eps, decay, p, m, v):
    rate, correction = numbers
    if decay:
        g = g + decay * p
    _move_average(m, g, beta1, rest1)
    _move_average(v, g * g, beta2, rest2)
    root = backend.xp.sqrt(v) * correction + eps
    p -= rate * m / root


def _move_average(average, value, beta, rest):
    """Compute average <- beta average + rest value in place, with rest = 1 - beta."""
    if beta < 0.5:      # the form below would lose a value that is far smaller than the average
        average *= beta
        average += rest * value
    else:
        average += rest * (value - average)


# What the optimisers share

def list_optimisers(game: Module) -> list[Optimizer]:
    """List the optimisers among the attributes of a game, also those in lists and dictionaries."""
    return [*find_inside(list(vars(game).values()), (Optimizer,))]


def _check_parameters(parameters):
    """Return the parameters as a list, each once; raise an error unless they are leaves."""
    if not isinstance(parameters, Iterable) or type(parameters) is Tensor:
        raise TypeError("an optimiser takes a list of Tensors, such as net.parameters() or [p], "
                        f"got {type(parameters).__name__}")
    parameters = list(parameters)
    if not parameters:
        raise ValueError("an optimiser needs at least one parameter, got an empty list: a Module "
                         "finds Tensors and Modules that are set on self")
    for p in parameters:
        if type(p) is not Tensor:
            raise TypeError(f"an optimiser updates Tensors, got {type(p).__name__} among them" + (
                ": it has no groups of parameters, but one learning rate; for two rates make two "
                "optimisers, see tinygan/runs/README.md"
                if isinstance(p, dict) else ""))
        if p.parents != ():
            raise ValueError(f"an optimiser updates leaves, but a Tensor of shape {p.shape} was "
                             "computed: make it a leaf by Tensor(p.data.copy())")
    return list(dict.fromkeys(parameters))


def _check_number(value, name, low, high):
    """Return `value` as a float if low <= value < high, else raise ValueError."""
    if not is_number(value, low) or float(value) >= high:
        raise ValueError(f"an optimiser's {name} must be a number of at least {low} and less than "
                         f"{high}, got {value!r}")
    return float(value)


def _flatten_in_memory_order(*arrays):
    """Return the arrays as one-dimensional arrays in the memory order of the first.

    They are views. Only the last one, a gradient, is copied if its memory order differs.
    """
    if not arrays[0].flags.c_contiguous:
        axes = sorted(range(arrays[0].ndim), key=lambda i: -arrays[0].strides[i])
        arrays = [a.transpose(axes) for a in arrays]
    if not getattr(arrays[0].flags, "writeable", True):         # cupy's arrays are all writeable
        raise ValueError("the optimiser cannot write to a parameter whose array is read-only: "
                         "write p.data = p.data.copy(), and make a new optimiser")
    if not arrays[0].flags.c_contiguous:
        raise ValueError("the optimiser needs parameters that are contiguous arrays: write p.data "
                         "= backend.xp.ascontiguousarray(p.data) where they are not, and make a "
                         "new optimiser")
    if not all(a.flags.c_contiguous for a in arrays[1:-1]):
        raise ValueError("the optimiser's arrays have another memory order than its parameters: "
                         "give an array new numbers in place, as in p.data[...] = values or "
                         "opt.state[name][i][...] = values, or make a new optimiser")
    return [a.reshape(-1) for a in arrays]
