"""Spectral normalization for generative adversarial networks (Miyato et al. 2018)."""

from collections.abc import Callable

from ..nn import Conv2d, ConvTranspose2d, Dense, Maxout, Module
from .checks import refuse
from .hinge import Hinge


class SNGAN(Hinge):
    """The hinge game (eq. 16-17) with spectral normalisation of D's dense and convolutional layers.

    nn.spectral_norm needs neither samples nor a penalty to bound the Lipschitz constant of D's
    layers.

    n_dis    D's steps in an iteration: in the paper 5 for its residual networks, and 1 or 5 for its
             plain ones (table 1)

    Raises UserError for a dense or convolutional layer of D without spectral norm, and for a
    Maxout. For the standard loss, eq. 15, use GAN(G, D) with a spectrally normalised D.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 128, n_dis: int | Callable = 5,
                 **choices) -> None:
        super().__init__(G, D, z_size, d_steps=n_dis, **choices)

    def check(self, before_training: bool = False) -> None:
        super().check(before_training)
        for D in [getattr(self, name) for name in self.d_players if hasattr(self, name)]:
            refuse(D, lambda layer: (
                isinstance(layer, (Dense, Maxout, Conv2d, ConvTranspose2d))
                and not hasattr(layer, "weight_u")),
               "its weight is not normalised: wrap a dense or convolutional layer as "
               "nn.spectral_norm(layer), replace a Maxout, or use Hinge")
