"""The relativistic discriminator (Jolicoeur-Martineau 2019)."""

from .game import Game
from .losses import Relativistic, RelativisticAverage


class RSGAN(Game):
    """D's network C scores samples, and D is the probability that a real one looks more real than a
    generated one, D = sigmoid(C(x) - C(G(z))): for G it is not enough that its samples look more
    real, real ones have to look less so (section 4, RSGAN)."""

    loss = Relativistic()


class RaGAN(Game):
    """The relativistic average GAN: each sample is compared not with one of the other kind but with
    their mean score (section 4, RaSGAN)."""

    loss = RelativisticAverage()
