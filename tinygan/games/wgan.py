"""Wasserstein GAN (Arjovsky et al. 2017)."""

from collections.abc import Callable

from .. import backend
from ..nn import Module
from ..numbers import is_number
from .game import Game
from .losses import Wasserstein


class WGAN(Game):
    """The GAN that minimises an estimate of the Wasserstein distance between data and samples.

    D is called the critic. By the Kantorovich-Rubinstein duality (eq. 2) the distance is

        W = sup E_x[D(x)] - E_z[D(G(z))]

    over all D with a Lipschitz constant of at most 1. The critic maximises this difference and G
    minimises it. The Lipschitz constant is bounded by clipping each of the critic's weights to
    [-c, c] after each of its steps (Algorithm 1); the bound depends on the network.

    n_critic   the critic's steps in an iteration: a number, or a function of the iteration such as
               `warm_up`, which is the published code's

    The critic's scores have no natural zero and no natural scale; only their difference has a
    meaning. It is logged as W, in units that depend on c. Raises ValueError unless c > 0.
    """

    loss = Wasserstein()

    def __init__(self, G: Module, D: Module, z_size: int = 100, c: float = 0.01,
                 n_critic: int | Callable = 5, **choices) -> None:
        super().__init__(G, D, z_size, d_steps=n_critic, **choices)
        if not is_number(c, 0) or c == 0:
            raise ValueError(f"weights are clipped to [-c, c] with a number c above 0, got {c!r}")
        self.c = c

    def after_d_step(self) -> None:
        """Clip each of the critic's parameters: w <- clip(w, -c, c) (Algorithm 1).

        The gains of normalisation and the biases are clipped too, as in the published code. So are
        parameters that no optimiser has, because the Lipschitz constant depends on them as well.
        """
        for w in self.d_parameters():
            backend.xp.clip(w.data, -self.c, self.c, out=w.data)
            w.touch()


def warm_up(i: int) -> int:
    """Return the published code's number of critic steps in iteration i.

    It is 5, but 100 in the first 25 iterations and in every 500th, to keep the critic near its
    optimum (martinarjovsky/WassersteinGAN, main.py).
    """
    return 100 if i < 25 or i % 500 == 0 else 5
