"""Least squares generative adversarial networks (Mao et al. 2017)."""

from .game import Game
from .losses import LeastSquares


class LSGAN(Game):
    """D regresses on 1 for real samples and 0 for generated ones, G wants its samples at 1 (eq. 2
    with a = 0, b = c = 1: eq. 9).

    A sample on the right side of D but far from the data still has a gradient. The paper's factors
    1/2 are left out.
    """

    loss = LeastSquares()
