"""Layers that draw random numbers, and the sources from which they draw."""

import contextlib
import zlib
from contextvars import ContextVar
from typing import Any

from .. import backend, ops
from ..backend import Array, UserError
from ..context import use_value
from ..nested import flatten_nested
from ..numbers import is_number
from ..random import Random, check_source, rng
from ..tensor import Tensor, op
from .module import Module


_source = ContextVar("source", default=rng)


def use_random(source: Any) -> contextlib.AbstractContextManager:
    """Make this thread's layers, views and penalties draw from `source` inside the context.

    `source` is a Random, or an object with those of its methods that they use, such as bernoulli(p,
    shape) for dropout masks, normal(shape) for noise and uniform(low, high, shape) for the eps of a
    gradient penalty. If it has drop(p, factor, x), dropout uses that, see cuda.Philox. Given a
    source with the same seed, a training step draws the same numbers again. Raises TypeError for a
    stream of numpy's or Python's, whose methods take other arguments.
    """
    check_source(source, "use_random")
    return use_value(_source, source)


def current_random() -> Any:
    """Return the source from which this thread's layers, views and penalties draw."""
    return _source.get()


class Dropout(Module):
    """Dropout (Srivastava et al. 2014, section 10: "inverted" dropout), for inputs of any shape.

    In training mode it sets each number to 0 with probability p (the paper's p is the probability
    that a number is kept) and divides the others by 1 - p. In evaluation mode it returns its input,
    unless `always` is set: then its masks are part of G's noise (Isola et al. 2017, section 3.1).
    Raises ValueError for a p outside [0, 1).
    """

    def __init__(self, p: float = 0.5, always: bool = False) -> None:
        if not is_number(p, 0) or p >= 1:
            raise ValueError(f"Dropout needs a dropout probability 0 <= p < 1, got {p!r}")
        self.p, self.always = float(p), always

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training or self.always) or self.p == 0:
            return x
        source, kept, factor = _source.get(), 1 - self.p, 1 / (1 - self.p)
        if hasattr(source, "drop"):         # on a GPU, in one launch
            keep, y = source.drop(kept, factor, x.data)
            return op(y, (x, lambda g, y: _drop(g, keep, factor)))
        return _drop(x, source.bernoulli(kept, x.shape), factor)


def _drop(x, keep, factor):
    """Return factor * x where `keep` is true, else 0: a linear map of x, its own adjoint."""
    return op(_scale_kept(x.data, keep, factor, backend.xp.empty_like(x.data)),
              (x, lambda g, y: _drop(g, keep, factor)))


@backend.kernel("T x, bool keep, T factor", "T y", "y = x * (keep ? factor : T(0))")
def _scale_kept(x, keep, factor, y):
    backend.xp.multiply(keep, factor, out=y, dtype=y.dtype)
    y *= x


class GaussianNoise(Module):
    """Additive noise N(0, sigma^2) in training mode, for inputs of any shape.

    In evaluation mode it returns its input. sigma is a buffer, so a checkpoint saves its current
    value. Raises ValueError for a negative sigma.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = backend.xp.zeros((), "float32")
        self.set(sigma)

    def set(self, sigma: float) -> None:
        """Change sigma. Raises ValueError for anything but a number of at least 0."""
        if not is_number(sigma, 0):
            raise ValueError("GaussianNoise needs a standard deviation of at least 0, got "
                             f"{sigma!r}")
        self.sigma[...] = float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        return x + _source.get().normal(x.shape) * self.sigma if self.training else x


class GaussianSample(Module):
    """A sample of N(mu, sigma^2), from inputs (mu, log sigma): (m, 2 n) -> (m, n).

        mu + sigma eps,  eps ~ N(0, I)      (Kingma and Welling 2014, section 2.4)

    So the sample has derivatives with respect to mu and sigma. In evaluation mode the result is mu.
    Raises ValueError for an odd number of inputs.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] % 2:
            raise ValueError("GaussianSample needs n means and n logarithms of standard "
                             f"deviations for each sample, (m, 2 n), got {x.shape}")
        n = x.shape[1] // 2
        mu, log_sigma = x[:, :n], x[:, n:]
        if not self.training:
            return mu
        return mu + ops.exp(log_sigma) * _source.get().normal(mu.shape)


class RandomRows:
    """A source for use_random whose numbers for sample i depend on input i alone.

    inputs   nested Tensors and arrays (m, ...). They are read at the first draw, so a network that
             draws nothing costs no transfer from a GPU

    Its methods draw arrays whose first axis is m, or k m with k rows for each sample in order. For
    a shape (1, ...) they draw (m, ...). They raise UserError for other shapes.
    """

    def __init__(self, inputs: Any) -> None:
        self.inputs, self.rows = inputs, None

    def bernoulli(self, p: float, shape: tuple[int, ...]) -> Array:
        """Draw booleans (m, ...), each True with probability p."""
        return self._draw(shape, Random.bernoulli, p)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draw numbers (m, ...) from N(0, 1)."""
        return self._draw(shape, Random.normal)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Draw numbers (m, ...) from U(low, high)."""
        return self._draw(shape, Random.uniform, low, high)

    def integers(self, high: int, shape: tuple[int, ...]) -> Array:
        """Draw integers (m, ...) from 0 to high - 1."""
        return self._draw(shape, Random.integers, high)

    def _draw(self, shape, draw, *numbers):
        if self.rows is None:
            arrays = [backend.to_numpy(a.data if type(a) is Tensor else a)
                      for a in flatten_nested(self.inputs)]
            self.rows = [Random(zlib.crc32(b"".join(a[i].tobytes() for a in arrays)))
                         for i in range(len(arrays[0]))] or [Random(0)]     # of no samples
        m = len(self.rows)
        shape = (m, *shape[1:]) if shape[:1] == (1,) else shape     # a row for each sample
        if not shape or shape[0] % m:
            raise UserError(f"a layer draws an array {shape} while {m} samples are computed in "
                            "evaluation mode, where each sample has random numbers of its own: "
                            f"draw ({m}, ...), or define sample() in the class of the game")
        each = shape[0] // m, *shape[1:]
        return backend.xp.concatenate([draw(row, *numbers, each) for row in self.rows])
