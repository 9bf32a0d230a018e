"""Improved training of Wasserstein GANs (Gulrajani et al. 2017)."""

from collections.abc import Callable, Sequence

from ..nn import Module
from .game import Game
from .losses import Wasserstein
from .penalties import GradientPenalty, Penalty


class WGANGP(Game):
    """WGAN with a gradient penalty instead of weight clipping (eq. 3, Algorithm 1).

        L = E D(G(z)) - E D(x) + lam E (|dD/dx_hat|_2 - 1)^2,  x_hat = eps x + (1 - eps) G(z)

    L is the critic's loss. eps ~ U(0, 1) is drawn for each sample, and the norm is over all of a
    sample's dimensions (see penalties.gradient_penalty). The critic's estimate W is in the units of
    the data. At the critic's optimum it exceeds the distance: if all data lie at one point and all
    samples at another, theta apart, it is theta + theta^2 / (2 lam).

    Raises UserError for a negative lam, and if the critic has batch normalisation, because D(x_hat)
    would then depend on the other samples (section 4, "No critic batch normalization").
    """

    loss = Wasserstein()

    def __init__(self, G: Module, D: Module, z_size: int = 128, lam: float = 10.0,
                 n_critic: int | Callable = 5, penalties: Sequence[Penalty] = (),
                 **choices) -> None:
        super().__init__(G, D, z_size, penalties=[GradientPenalty(lam), *penalties],
                         d_steps=n_critic, **choices)
