"""The R1 penalty: Which training methods for GANs do actually converge? (Mescheder et al. 2018)."""

from ..nn import Module
from . import penalties
from .gan import GAN


class R1(GAN):
    """The GAN with a zero-centred gradient penalty on real data (eq. 9).

        R1 = gamma / 2 E_x |dD/dx|^2, added to D's loss; D is the logit

    At the equilibrium, where samples and data have the same distribution, the penalty makes D
    constant on the data, so that G gets no gradient. Near it the game converges (Theorem 4.1).

    z is drawn as for the GAN. Raises ValueError for a negative gamma. Raises UserError if D has
    batch normalisation, because the penalty uses the gradient of each sample's own score.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 100, gamma: float = 10.0,
                 **choices) -> None:
        super().__init__(G, D, z_size, penalties=[penalties.R1(gamma),
                                                  *choices.pop("penalties", ())], **choices)
