"""Optimisers: opt.step(grads) moves the parameters, in place.

`lr` and SGD's `momentum` are numbers or schedules: functions of t, the number of steps taken
before (see schedules.py). All minimise; g is the gradient, t counts from 1 in the equations.
"""

import math
from collections.abc import Iterable

from . import backend
from .schedules import at
from .tensor import Tensor


class Optimizer:
    """What the optimisers share. `parameters` is a list of Tensors, of which one that comes twice
    counts once; `state` holds, for each of the kept averages, one array for each parameter.

    Raises TypeError where `parameters` is no list of Tensors, ValueError if it is empty, if a
    Tensor in it is no leaf, and for a learning rate that is not a finite number of at least 0; a
    schedule's is checked at each step.
    """

    averages = ()       # their names

    def __init__(self, parameters, lr):
        if not isinstance(parameters, Iterable) or type(parameters) is Tensor:
            raise TypeError("an optimiser takes a list of Tensors, such as net.parameters() or "
                            f"[p], got a {type(parameters).__name__}")
        parameters = list(parameters)
        if not parameters:
            raise ValueError("an optimiser needs at least one parameter, got an empty list: a "
                             "Module finds Tensors and Modules that are set on self")
        for p in parameters:
            if type(p) is not Tensor:
                raise TypeError(f"an optimiser moves Tensors, got a {type(p).__name__} among them")
            if p.parents != ():
                raise ValueError(f"an optimiser moves leaves, but a Tensor of shape {p.shape} was "
                                 "computed: make it one by Tensor(p.data.copy())")
        self.parameters = list(dict.fromkeys(parameters))
        self.lr = lr if callable(lr) else _checked(lr, "lr", 0, math.inf)
        self.t = 0
        self.state = {name: [backend.xp.zeros_like(p.data) for p in self.parameters]
                      for name in self.averages}

    def step(self, grads):
        """Move each parameter by its gradient; `grads` in the order of `parameters`.

        Raises ValueError if their number or a shape differs from the parameters', or if a
        parameter's array is not contiguous.
        """
        grads = list(grads)
        if any(type(g) is not Tensor for g in grads):
            raise TypeError("step takes Tensors, as grad() returns them, got "
                            f"{[type(g).__name__ for g in grads]}")
        if [g.shape for g in grads] != [p.shape for p in self.parameters]:
            raise ValueError(f"the optimiser moves parameters of shapes "
                             f"{[p.shape for p in self.parameters]}, got gradients of shapes "
                             f"{[g.shape for g in grads]}: ask grad() for opt.parameters")
        moved = [_flat(p.data, *arrays) for p, *arrays
                 in zip(self.parameters, *self.state.values(), [g.data for g in grads])]
        lr = _checked(at(self.lr, self.t), f"lr at step {self.t}", 0, math.inf)
        self.t += 1
        for p, *averages, g in moved:
            # an update goes over its arrays many times: in pieces, they stay in the cache
            backend.in_pieces(len(p), 8 * p.itemsize, lambda piece: self.update(
                lr, p[piece], g[piece], *[a[piece] for a in averages]))
        for p in self.parameters:
            p.touch()


def _checked(value, name, low, high):
    """`value` as a float from `low` to below `high`; raises ValueError for another."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number < high:
        raise ValueError(f"an optimiser's {name} is a number from {low} to below {high}, "
                         f"got {value!r}")
    return number


def _flat(*arrays):
    """The arrays as rows of numbers, in the order in which the first lies in memory: views, but for
    the last (a gradient), which is copied where it lies in another order."""
    axes = sorted(range(arrays[0].ndim), key=lambda i: -arrays[0].strides[i])
    arrays = [a.transpose(axes) for a in arrays]
    if not all(a.flags.c_contiguous for a in arrays[:-1]):
        raise ValueError("the optimiser moves contiguous arrays: make a parameter's so, before the "
                         "optimiser is built, by p.data = backend.xp.ascontiguousarray(p.data)")
    return [a.reshape(-1) for a in arrays]


class SGD(Optimizer):
    """v <- momentum v - lr g,  p <- p + v: stochastic gradient descent with momentum (Polyak 1964,
    in the form of Sutskever et al. 2013, eq. 1-2)."""

    averages = ("v",)

    def __init__(self, parameters, lr, momentum=0.0):
        super().__init__(parameters, lr)
        self.momentum = momentum if callable(momentum) else _checked(momentum, "momentum", 0, 1)

    def step(self, grads):
        self._momentum = _checked(at(self.momentum, self.t), f"momentum at step {self.t}", 0, 1)
        super().step(grads)

    def update(self, lr, p, g, v):
        v *= self._momentum
        v -= lr * g
        p += v


class RMSProp(Optimizer):
    """s <- rho s + (1 - rho) g^2,  p <- p - lr g / (sqrt(s) + eps) (Tieleman and Hinton 2012,
    lecture 6.5, where rho is .9; rho = .99 and eps, outside the root, as in PyTorch)."""

    averages = ("s",)

    def __init__(self, parameters, lr=1e-3, rho=0.99, eps=1e-8):
        super().__init__(parameters, lr)
        self.rho, self.eps = _checked(rho, "rho", 0, 1), _checked(eps, "eps", 0, math.inf)

    def update(self, lr, p, g, s):
        s *= self.rho
        s += (1 - self.rho) * g * g
        p -= lr * g / (backend.xp.sqrt(s) + self.eps)


class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
    p <- p - lr m' / (sqrt(v') + eps) with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    (Kingma and Ba 2015, Algorithm 1). The default beta1 = .5 is the GAN literature's, not the
    paper's .9 (Radford et al. 2016)."""

    averages = ("m", "v")

    def __init__(self, parameters, lr=2e-4, betas=(0.5, 0.999), eps=1e-8):
        super().__init__(parameters, lr)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"Adam's betas are two numbers, got {betas!r}") from None
        self.betas = _checked(beta1, "beta1", 0, 1), _checked(beta2, "beta2", 0, 1)
        self.eps = _checked(eps, "eps", 0, math.inf)

    def update(self, lr, p, g, m, v):
        beta1, beta2 = self.betas
        _follow(m, g, beta1)
        _follow(v, g * g, beta2)
        # both corrections as numbers, so that m' and v' are never written out
        root = backend.xp.sqrt(v) * (1 / math.sqrt(1 - beta2 ** self.t)) + self.eps
        p -= lr / (1 - beta1 ** self.t) * m / root


def _follow(average, value, beta):
    """average <- beta average + (1 - beta) value, in place."""
    if beta < 0.5:      # of a value far below the average, average + (value - average) rounds to 0
        average *= beta
        average += (1 - beta) * value
    else:
        average += (1 - beta) * (value - average)
