"""The hinge loss (Lim and Ye 2017, Geometric GAN; Tran et al. 2017)."""

from . import losses
from .game import Game


class Hinge(Game):
    """D separates real from generated samples by a margin of 1 on each side of 0, as a support
    vector machine does: samples beyond the margin have no say. G moves its own along D's slope."""

    loss = losses.Hinge()
