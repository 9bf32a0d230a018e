"""Which training methods for GANs do actually converge? (Mescheder et al. 2018)"""

from ..tensor import grad
from .game import normalises_the_batch, refuse
from .gan import GAN


class R1(GAN):
    """The GAN with zero-centred gradients on real data (eq. 9): to D's loss comes

        R1 = gamma / 2 E_x |dD/dx|^2

    where D is the logit. Where samples and data agree D is then flat and G at rest, so that the
    game converges near its equilibrium (Theorem 4.1).

    Raises UserError if D has batch normalisation: the penalty is one sample's.
    """

    def __init__(self, G, D, z_size=100, g_loss="non-saturating", gamma=10.0):
        super().__init__(G, D, z_size, g_loss)
        refuse(D, normalises_the_batch, "a gradient penalty is one sample's and rules out "
               "normalisation over the batch: leave it out, or use nn.LayerNorm")
        self.gamma = gamma

    def d_loss(self, x, z):
        """The GAN's, and gamma / 2 E |dD/dx|^2 at the same D(x)."""
        real, fake = self.scores(x, z)
        return self._d_loss(real, fake) + self.gamma / 2 * slope_squared(x, real)

    def losses(self, x, z):
        real, fake = self.D(x), self.D(self.G(z))
        self.saw(real, fake)
        return (self._d_loss(real, fake) + self.gamma / 2 * slope_squared(x, real),
                self._g_loss(fake))


def slope_squared(x, y):
    """1/m sum |dy/dx|^2 for y computed from the m samples x, to be differentiated."""
    (g,) = grad(y.sum(), [x], create_graph=True)
    return (g * g).sum() * (1 / len(x.data))
