"""The R1 penalty: Which training methods for GANs do actually converge? (Mescheder et al. 2018)."""

from collections.abc import Sequence

from ..nn import Module
from .gan import GAN
from .penalties import R1 as R1Penalty, Penalty


class R1(GAN):
    """The GAN with a zero-centred gradient penalty on real data (eq. 9).

        R1 = gamma / 2 E_x |dD/dx|^2, added to D's loss; D is the logit

    At the equilibrium, where samples and data have the same distribution, the penalty makes D's
    gradient 0 at the data, also in directions that leave the manifold of the data. So G gets no
    gradient there. If training begins near the equilibrium, gradient descent converges to it, under
    the assumptions of Theorem 4.1.

    The default gamma is the paper's, for data in [-1, 1]. (The published code has 10 without the
    factor 1/2, which is gamma = 20.) For data in [0, 1], where gradients are twice as large, 2.5
    has the same effect. z is uniform, as for the GAN; in the published code it is normal. Raises
    UserError for a negative gamma, and if D has batch normalisation.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 100, gamma: float = 10.0,
                 penalties: Sequence[Penalty] = (), **choices) -> None:
        super().__init__(G, D, z_size, penalties=[R1Penalty(gamma), *penalties], **choices)
