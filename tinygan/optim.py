"""Optimisers: opt.step(grads) moves the parameters, in place.

`lr` and SGD's `momentum` are numbers or schedules: functions of t, the number of steps taken
before. All minimise; g is the gradient, t counts from 1 in the equations.
"""

import math
from dataclasses import dataclass

from . import backend


class Optimizer:
    """What the optimisers share. `parameters` is a list of Tensors, of which one that comes twice
    counts once; `state` holds, for each of the kept averages, one array for each parameter."""

    averages = ()       # their names

    def __init__(self, parameters, lr):
        self.parameters = list(dict.fromkeys(parameters))
        self.lr = lr
        self.t = 0
        self.state = {name: [backend.xp.zeros_like(p.data) for p in self.parameters]
                      for name in self.averages}

    def step(self, grads):
        """Move each parameter by its gradient; `grads` in the order of `parameters`.

        Raises ValueError if their number or a shape differs from the parameters', or if a
        parameter's array is not contiguous.
        """
        grads = list(grads)
        if [g.shape for g in grads] != [p.shape for p in self.parameters]:
            raise ValueError(f"the optimiser moves parameters of shapes "
                             f"{[p.shape for p in self.parameters]}, got gradients of shapes "
                             f"{[g.shape for g in grads]}: ask grad() for opt.parameters")
        moved = [_flat(p.data, *arrays) for p, *arrays
                 in zip(self.parameters, *self.state.values(), [g.data for g in grads])]
        lr = at(self.lr, self.t)
        self.t += 1
        for p, *averages, g in moved:
            # an update goes over its arrays many times: in pieces, they stay in the cache
            backend.in_pieces(len(p), 8 * p.itemsize, lambda piece: self.update(
                lr, p[piece], g[piece], *[a[piece] for a in averages]))


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
        self.momentum = momentum

    def step(self, grads):
        self._momentum = at(self.momentum, self.t)
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
        self.rho, self.eps = rho, eps

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
        self.betas, self.eps = betas, eps

    def update(self, lr, p, g, m, v):
        beta1, beta2 = self.betas
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        # both corrections as numbers, so that m' and v' are never written out
        root = backend.xp.sqrt(v) * (1 / math.sqrt(1 - beta2 ** self.t)) + self.eps
        p -= lr / (1 - beta1 ** self.t) * m / root


# Schedules: functions of t, the number of steps taken, that can be saved with a run

def at(value, t):
    """The value at step t of a number or schedule."""
    return value(t) if callable(value) else value


@dataclass(frozen=True)
class linear:
    """From `start` to `end` in `steps` equal parts, and `end` from there on."""
    start: float
    end: float
    steps: float

    def __call__(self, t):
        return self.start + (self.end - self.start) * min(t / self.steps, 1)


@dataclass(frozen=True)
class exponential:
    """start * rate^t, but not below `floor`."""
    start: float
    rate: float
    floor: float = 0.0

    def __call__(self, t):
        return max(self.start * self.rate ** t, self.floor)


@dataclass(frozen=True)
class cosine:
    """From `start` to `end` along half a cosine (Loshchilov and Hutter 2017, eq. 5)."""
    start: float
    steps: float
    end: float = 0.0

    def __call__(self, t):
        fraction = (1 + math.cos(math.pi * min(t / self.steps, 1))) / 2
        return self.end + (self.start - self.end) * fraction
