"""Which training methods for GANs do actually converge? (Mescheder et al. 2018)"""

from ..tensor import grad
from .gan import GAN
from .game import refuse_batch_norm


class R1(GAN):
    """The GAN with zero-centred gradients on real data (eq. 9): to D's loss comes

        R1 = gamma / 2 E_x |dD/dx|^2

    where D is the logit. Where samples and data agree D is then flat and G at rest, so that the
    game converges near its equilibrium (Theorem 4.1).

    z is the GAN's here. Raises ValueError for a negative gamma, and UserError if D has batch
    normalisation: the penalty is one sample's.
    """

    def __init__(self, G, D, z_size=100, g_loss="non-saturating", gamma=10.0):
        super().__init__(G, D, z_size, g_loss)
        refuse_batch_norm(D)
        if not gamma >= 0:
            raise ValueError(f"the penalty's weight gamma is at least 0, got {gamma}")
        self.gamma = gamma

    def _d_loss(self, x, a_real, a_fake):
        return super()._d_loss(x, a_real, a_fake) + self.gamma / 2 * slope_squared(x, a_real)


def slope_squared(x, y):
    """1/m sum |dy/dx|^2 for y computed from the m samples x, to be differentiated."""
    (g,) = grad(y.sum(), [x], create_graph=True)
    return (g * g).sum() * (1 / len(x.data))
