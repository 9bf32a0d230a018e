"""The hinge loss (Lim and Ye 2017, Geometric GAN; Tran et al. 2017)."""

from . import losses
from .game import Game


class Hinge(Game):
    """The GAN with the hinge loss, see losses.Hinge.

    D separates real and generated samples by the margin [-1, 1], as a support vector machine does.
    Samples beyond the margin do not contribute to D's gradient. G maximises D's score of its
    samples.
    """

    loss = losses.Hinge()
