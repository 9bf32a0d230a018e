"""Least squares generative adversarial networks (Mao et al. 2017)."""

from .game import Game
from .losses import LeastSquares


class LSGAN(Game):
    """The GAN with the least squares loss (eq. 2 with a = 0, b = c = 1: eq. 9).

    D's target is 1 for real samples and 0 for generated ones; G's target for its samples is 1. A
    sample that D takes for real but that is far from the data still has a gradient. The paper's
    factors 1/2 are left out.
    """

    loss = LeastSquares()
