"""The hinge loss (Lim and Ye 2017, Geometric GAN; Tran et al. 2017)."""

from ..ops import relu
from .game import Game


class Hinge(Game):
    """D separates real from generated samples by a margin of 1 on each side of 0, as a support
    vector machine does: samples beyond the margin have no say. G moves its own along D's slope."""

    def d_loss(self, x, z):
        """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
        real, fake = self.scores(x, z)
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def g_loss(self, x, z):
        """-E D(G(z))."""
        return -self.D(self.G(z)).mean()
