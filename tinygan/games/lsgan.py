"""Least squares generative adversarial networks (Mao et al. 2017)."""

from .game import Game
from .losses import LeastSquares


class LSGAN(Game):
    """The GAN with the least squares loss (eq. 9), see losses.LeastSquares.

    A sample whose score lies far above 1, on the right side of D's decision boundary but far from
    it, still has a gradient. With the GAN's loss it vanishes there.
    """

    loss = LeastSquares()
