"""The relativistic discriminator (Jolicoeur-Martineau 2019)."""

from .game import Game
from .losses import Relativistic, RelativisticAverage


class RSGAN(Game):
    """The relativistic standard GAN (section 4, RSGAN).

    D is the probability that a real sample is more realistic than a generated one,
    D = sigmoid(C(x) - C(G(z))), where the network C (here the Module D) scores single samples. G's
    gradient depends on both scores: it raises C(G(z)) relative to C(x).
    """

    loss = Relativistic()


class RaGAN(Game):
    """The relativistic average GAN (section 4, RaSGAN).

    Each score is compared with the mean score of the other kind.
    """

    loss = RelativisticAverage()
