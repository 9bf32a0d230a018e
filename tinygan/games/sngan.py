"""Spectral normalization for generative adversarial networks (Miyato et al. 2018)."""

from ..nn import Conv2d, ConvTranspose2d, Dense, Maxout
from .game import refuse
from .hinge import Hinge


class SNGAN(Hinge):
    """The hinge game (eq. 16-17) with a D all of whose weights are normalised by
    nn.spectral_norm, which bounds its slope; no data or penalty is needed for that.

    n_dis    discriminator steps per iteration: the paper's 5 for CIFAR-10 with ResNets, 1 for the
             smaller networks

    Raises UserError if a layer of D has a weight without spectral norm. (Other losses on such a D
    are other games: GAN(G, D) with a spectrally normalised D is the paper's eq. 1 with it.)
    """

    def __init__(self, G, D, z_size=128, n_dis=5, **choices):
        super().__init__(G, D, z_size, d_steps=n_dis, **choices)

    def check(self, to_play=False):
        super().check(to_play)
        for name in self.d_players:
            refuse(getattr(self, name), lambda layer: (
                isinstance(layer, (Dense, Maxout, Conv2d, ConvTranspose2d))
                and not hasattr(layer, "weight_u")),
               "its weight is not normalised: wrap it as nn.spectral_norm(layer), or play Hinge")
