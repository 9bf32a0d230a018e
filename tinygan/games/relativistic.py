"""The relativistic discriminator (Jolicoeur-Martineau 2019)."""

from .game import Game
from .losses import Relativistic, RelativisticAverage


class RSGAN(Game):
    """The relativistic standard GAN (section 4, RSGAN).

    sigmoid(D(x) - D(G(z))) is the probability that x is more realistic than G(z). D(x), the paper's
    C(x), is the score that the Module D returns. G's gradient depends on both scores: it raises
    D(G(z)) relative to D(x).
    """

    loss = Relativistic()


class RaGAN(Game):
    """The relativistic average GAN (section 4, RaSGAN).

    Each score is compared with the mean score of the other kind.
    """

    loss = RelativisticAverage()
