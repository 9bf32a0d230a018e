"""f-GAN: a generator that minimises an f-divergence from the data (Nowozin et al. 2016)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..backend import Array, UserError
from ..nn import Module
from ..ops import exp, log_sigmoid
from ..tensor import Tensor
from .gan import GAN
from .losses import Loss

LOG_2 = math.log(2)


class Divergence(NamedTuple):
    """The functions of a divergence D_f(P || Q) = E_Q f(p(x) / q(x))                   (eq. 2).

    f            a convex function of the ratio u = p / q, for numpy arrays (table 1)
    activation   g_f, an increasing function of a score v whose values t lie in the domain of f*
                 (table 2)
    conjugate    f*(g_f(v)) as a function of v; f*(t) = sup_u (u t - f(u)) is the conjugate of f
                 (eq. 3)
    """

    f: Callable[[np.ndarray], np.ndarray]
    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]


DIVERGENCES = {
    "kl": Divergence(                   # KL(P || Q)
        lambda u: u * np.log(u),
        lambda v: v,
        lambda v: exp(v - 1)),                  # f*(t) = exp(t - 1)
    "reverse_kl": Divergence(           # KL(Q || P)
        lambda u: -np.log(u),
        lambda v: -exp(-v),
        lambda v: v - 1),                       # f*(t) = -1 - log(-t)
    "pearson": Divergence(              # Pearson's chi^2
        lambda u: (u - 1) ** 2,
        lambda v: v,
        lambda v: v ** 2 / 4 + v),              # f*(t) = t^2 / 4 + t, for t >= -2
    "neyman": Divergence(               # Neyman's chi^2, of the paper's supplement
        lambda u: (1 - u) ** 2 / u,
        lambda v: 1 - exp(-v),
        lambda v: 2 - 2 * exp(-v / 2)),         # f*(t) = 2 - 2 sqrt(1 - t)
    "hellinger": Divergence(            # the squared Hellinger distance
        lambda u: (np.sqrt(u) - 1) ** 2,
        lambda v: 1 - exp(-v),
        lambda v: exp(v) - 1),                  # f*(t) = t / (1 - t)
    "jensen_shannon": Divergence(       # twice the Jensen-Shannon divergence
        lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
        lambda v: LOG_2 + log_sigmoid(v),
        lambda v: -LOG_2 - log_sigmoid(-v)),    # f*(t) = -log(2 - exp(t))
    "gan": Divergence(                  # the same minus log 4: the GAN of Goodfellow et al. 2014
        lambda u: u * np.log(u) - (u + 1) * np.log(u + 1),
        log_sigmoid,
        lambda v: -log_sigmoid(-v)),            # f*(t) = -log(1 - exp(t))
}


@dataclass(frozen=True)
class FDivergence(Loss):
    """The bound on an f-divergence that D raises, and G lowers (Nowozin et al. 2016).

        F = E T(x) - E f*(T(G(z))) <= D_f(P || Q),  T(x) = g_f(D(x))                (eq. 4 and 7)

    P is the distribution of the data, and Q that of samples. For an optimal D, T(x) is
    f'(p(x) / q(x)), and F is the divergence (eq. 5). F is logged.

    divergence   a name in DIVERGENCES
    saturating   whether G minimises F itself. If not, G maximises E T(G(z)), whose gradient is
                 larger where D rejects samples (section 3.2); with "gan" this is the
                 non-saturating loss

    In "kl", "reverse_kl", "neyman" and "hellinger" F has an exponential of the score. It can become
    infinite in training. Pearson's f* holds for t of -2 and more, where all optimal scores lie; at
    a lower score the saturating loss pushes G to still lower ones. Raises UserError for another
    divergence.
    """

    divergence: str = "pearson"
    saturating: bool = False

    def __post_init__(self):
        if self.divergence not in [*DIVERGENCES]:       # a list has no hash
            raise UserError(f"the divergence must be one of {', '.join(DIVERGENCES)}, got "
                            f"{self.divergence!r:.60}")

    def activation(self, v: Tensor) -> Tensor:
        """Return T = g_f(v) for scores v."""
        return DIVERGENCES[self.divergence].activation(v)

    def conjugate(self, v: Tensor) -> Tensor:
        """Return f*(T) for scores v."""
        return DIVERGENCES[self.divergence].conjugate(v)

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -F."""
        return self.conjugate(a_fake).mean() - self.activation(a_real).mean()

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return -E T(G(z)), or -E f*(T(G(z))) if `saturating`."""
        return -(self.conjugate if self.saturating else self.activation)(a_fake).mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return E f*(T(x)), or E T(x) if `saturating`."""
        return (self.activation if self.saturating else self.conjugate)(a_real).mean()

    def summarise(self, a_real: Tensor, a_fake: Tensor) -> dict[str, Array]:
        """Return the mean scores and F."""
        return {**super().summarise(a_real, a_fake), "F": -self.d(a_real, a_fake).data}


class FGAN(GAN):
    """The game of an f-divergence between data and samples (section 2.3), see FDivergence.

    D returns the paper's V(x), any real number. The paper's experiments on images have uniform
    noise, as GAN has.

    divergence   a name in DIVERGENCES. It is ignored if a loss is given, such as
                 loss=FDivergence("kl", saturating=True)

    Raises UserError for another divergence.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 100, divergence: str = "pearson",
                 loss: Loss | None = None, **choices) -> None:
        super().__init__(G, D, z_size, loss=loss or FDivergence(divergence), **choices)
