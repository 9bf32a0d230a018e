"""Which training methods for GANs do actually converge? (Mescheder et al. 2018)"""

from . import penalties
from .gan import GAN


class R1(GAN):
    """The GAN with zero-centred gradients on real data (eq. 9): to D's loss comes

        R1 = gamma / 2 E_x |dD/dx|^2

    where D is the logit. Where samples and data agree D is then flat and G at rest, so that the
    game converges near its equilibrium (Theorem 4.1).

    z is the GAN's here. Raises ValueError for a negative gamma, and UserError if D has batch
    normalisation: the penalty is one sample's.
    """

    def __init__(self, G, D, z_size=100, gamma=10.0, **choices):
        super().__init__(G, D, z_size, penalties=[penalties.R1(gamma),
                                                  *choices.pop("penalties", ())], **choices)
