"""Generative adversarial nets (Goodfellow et al. 2014)."""

from ..ops import log_sigmoid, sigmoid
from ..tensor import Tensor, no_grad
from .game import Game


class GAN(Game):
    """The two-player minimax game (eq. 1)

        min_G max_D V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

    D returns the logit a of its probability D(x) = sigmoid(a) that x is real; so
    log D(x) = log_sigmoid(a) and log(1 - D(x)) = log_sigmoid(-a), neither computed in two steps.

    g_loss       "saturating": the loss that Algorithm 1 prints, log(1 - D(G(z)));
                 "non-saturating": -log D(G(z)), which section 3 recommends, as the gradient of the
                 other vanishes while D rejects every sample
    z ~ U(-sqrt 3, sqrt 3) in the published code and here: mean 0, variance 1.

    The published code (goodfeli/adversarial) halves D's loss; here that is a learning rate of half the
    size.
    """

    def __init__(self, G, D, z_size=100, g_loss="non-saturating"):
        super().__init__(G, D, z_size)
        if g_loss not in ("saturating", "non-saturating"):
            raise ValueError(f"g_loss is \"saturating\" or \"non-saturating\", got {g_loss!r}")
        self.saturating = g_loss == "saturating"

    def noise(self, m, rng, i):
        return Tensor(rng.uniform(-3 ** .5, 3 ** .5, (m, self.z_size)))

    def d_loss(self, x, z):
        return self._d_loss(self.D(x), self.D(self.fake(z)))

    def g_loss(self, x, z):
        return self._g_loss(self.D(self.G(z)))

    def losses(self, x, z):
        on_x, on_fake = self.D(x), self.D(self.G(z))
        return self._d_loss(on_x, on_fake), self._g_loss(on_fake)

    def _d_loss(self, on_x, on_fake):
        self.seen = {"D(x)": _mean_probability(on_x), "D(G(z))": _mean_probability(on_fake)}
        return -(log_sigmoid(on_x).mean() + log_sigmoid(-on_fake).mean())

    def _g_loss(self, on_fake):
        return log_sigmoid(-on_fake).mean() if self.saturating else -log_sigmoid(on_fake).mean()


def _mean_probability(logits):
    with no_grad():
        return sigmoid(logits).mean().data
