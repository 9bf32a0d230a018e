"""Wasserstein GAN (Arjovsky et al. 2017)."""

from .. import backend
from .game import Game
from .losses import Wasserstein


class WGAN(Game):
    """D, here the critic, measures how far apart data and samples are: over all D of slope at most
    1 (eq. 2, the Kantorovich-Rubinstein duality)

        W = sup E_x[D(x)] - E_z[D(G(z))]

    and G descends that. The slope is bounded, up to a factor that depends on the network, by
    clipping each of the critic's weights to [-c, c] after each of its steps (Algorithm 1).

    n_critic   critic steps per iteration: a number, or a function of the iteration such as
               `warm_up`, the published code's

    D returns scores, which have no zero point and no scale: only their difference says anything. It
    is reported as W, the critic's estimate of the distance, in units that the clipping sets.
    Raises ValueError for a c that is not above 0.
    """

    loss = Wasserstein()

    def __init__(self, G, D, z_size=100, c=0.01, n_critic=5, **choices):
        super().__init__(G, D, z_size, d_steps=n_critic, **choices)
        if not c > 0:
            raise ValueError(f"weights are clipped to [-c, c] with c above 0, got {c}")
        self.c = c

    def after_d_step(self):
        """w <- clip(w, -c, c), Algorithm 1, for each of the critic's parameters w (gains and biases
        too, as in the published code)."""
        for w in self.d_parameters():
            backend.xp.clip(w.data, -self.c, self.c, out=w.data)
            w.touch()


def warm_up(i):
    """Return the published code's number of critic steps (martinarjovsky/WassersteinGAN, main.py):
    5, but 100 in the first 25 iterations and in every 500th, to keep the critic near its
    optimum."""
    return 100 if i < 25 or i % 500 == 0 else 5
