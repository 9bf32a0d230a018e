"""The relativistic discriminator (Jolicoeur-Martineau 2019)."""

from ..ops import softplus
from .game import Game


class RSGAN(Game):
    """D's network C scores samples, and D is the probability that a real one looks more real than a
    generated one, D = sigmoid(C(x) - C(G(z))): for G it is not enough that its samples look more
    real, real ones have to look less so (section 4, RSGAN). -log sigmoid(a) = softplus(-a)."""

    def d_loss(self, x, z):
        """-E log sigmoid(C(x) - C(G(z))), x and z in pairs."""
        real, fake = self.scores(x, z)
        return softplus(fake - real).mean()

    def g_loss(self, x, z):
        """-E log sigmoid(C(G(z)) - C(x))."""
        return softplus(self.D(x) - self.D(self.G(z))).mean()


class RaGAN(Game):
    """The relativistic average GAN: each sample is compared not with one of the other kind but with
    their mean score (section 4, RaSGAN). The published code halves both losses; the paper's
    equations do not."""

    def d_loss(self, x, z):
        """-E log sigmoid(C(x) - E C(G(z))) - E log(1 - sigmoid(C(G(z)) - E C(x)))."""
        return self._compare(*self.scores(x, z))

    def g_loss(self, x, z):
        """The same with the roles exchanged, both terms of it."""
        return self._compare(self.D(self.G(z)), self.D(x))

    def _compare(self, high, low):
        return (softplus(-(high - low.mean())).mean() + softplus(low - high.mean()).mean())
