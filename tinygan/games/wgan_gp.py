"""Improved training of Wasserstein GANs (Gulrajani et al. 2017)."""

from .game import Game
from .losses import Wasserstein
from .penalties import GradientPenalty


class WGANGP(Game):
    """WGAN whose critic is held to slope 1 by a penalty instead of clipping (eq. 3, Algorithm 1):

        L = E D(G(z)) - E D(x) + lam E (|dD/dx_hat|_2 - 1)^2,  x_hat = eps x + (1 - eps) G(z)

    with eps ~ U(0, 1), one for each sample, and the norm over all of a sample's dimensions (see
    penalties.gradient_penalty). W, the critic's estimate, is then in the data's own units, but may
    exceed the distance: between two points theta apart it is theta + theta^2 / (2 lam).

    Raises ValueError for a negative lam, and UserError if the critic has batch normalisation: the
    penalty is one sample's, and with it D(x_hat) would depend on the other samples (section 4,
    "No critic batch normalization").
    """

    loss = Wasserstein()

    def __init__(self, G, D, z_size=128, lam=10.0, n_critic=5, penalties=(), **choices):
        super().__init__(G, D, z_size, penalties=[GradientPenalty(lam), *penalties],
                         d_steps=n_critic, **choices)
