"""The GAN is dead; long live the GAN! A modern GAN baseline (Huang et al. 2024): R3GAN."""

from collections.abc import Sequence

from ..nn import Module
from .game import Game
from .losses import Relativistic
from .penalties import R1, R2, Penalty


class R3GAN(Game):
    """The relativistic game with zero-centred penalties on data and on samples (eq. 2-3).

        L = E softplus(-(D(x) - D(G(z))))
        D minimises L + gamma/2 E |dD/dx|^2 at x + gamma/2 E |dD/dx|^2 at G(z)
        G minimises E softplus(-(D(G(z)) - D(x)))

    The paper's eq. 2 is a minimax game in which D gives samples, and not data, the higher scores;
    G's loss here is the non-saturating one of the published code. Each sample is compared with a
    real one. So G gains nothing by moving all samples across one boundary of D, as it can with the
    GAN's loss, and modes that it has dropped still count. The loss alone need not converge; with R1
    or R2 it does near the equilibrium (proposition 2). In the paper's experiments training diverged
    with R1 alone and succeeded with both.

    The default gamma is for data in [0, 1]. For data in [-1, 1] the gradients are half as large, so
    that four times the gamma has the same effect. Raises UserError for a negative gamma, and if D
    has batch normalisation.
    """

    loss = Relativistic()

    def __init__(self, G: Module, D: Module, z_size: int = 100, gamma: float = 1.0,
                 penalties: Sequence[Penalty] = (), **choices) -> None:
        super().__init__(G, D, z_size, penalties=[R1(gamma), R2(gamma), *penalties], **choices)
