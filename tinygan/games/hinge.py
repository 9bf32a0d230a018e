"""The hinge loss (Lim and Ye 2017, Geometric GAN; Tran et al. 2017)."""

from . import losses
from .game import Game


class Hinge(Game):
    """The GAN with the hinge loss, see losses.Hinge.

    D separates real and generated samples by a margin, as a support vector machine does.
    """

    loss = losses.Hinge()
