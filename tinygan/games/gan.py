"""Generative adversarial nets (Goodfellow et al. 2014)."""

from ..ops import log_sigmoid, sigmoid
from ..tensor import Tensor, no_grad
from .game import Game


class GAN(Game):
    """The two-player minimax game (eq. 1)

        min_G max_D V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

    The network D returns the logit a of the probability D(x) = sigmoid(a) that x is real; so that
    log D(x) = log_sigmoid(a) and log(1 - D(x)) = log_sigmoid(-a), neither computed in two steps.

    G, D     Modules: G from (m, z_size) to samples, D from samples to logits (m, 1)
    g_loss   "saturating", as Algorithm 1 prints it, or "non-saturating", as section 3 recommends:
             where D rejects every sample the gradient of the first vanishes

    z ~ U(-sqrt 3, sqrt 3), as in the published code (goodfeli/adversarial): mean 0, variance 1.
    That code halves D's loss; here that is half the learning rate. Raises ValueError for another
    g_loss.
    """

    def __init__(self, G, D, z_size=100, g_loss="non-saturating"):
        if g_loss not in ("saturating", "non-saturating"):
            raise ValueError(f"g_loss is \"saturating\" or \"non-saturating\", got {g_loss!r}")
        super().__init__(G, D, z_size)
        self.saturating = g_loss == "saturating"

    def latent(self, m, rng):
        return Tensor(rng.uniform(-3 ** 0.5, 3 ** 0.5, (m, self.z_size)))

    def d_loss(self, x, z):
        """-1/m sum [log D(x) + log(1 - D(G(z)))]: Algorithm 1's, with the sign to descend it."""
        return self._d_loss(x, *self.scores(x, z))

    def g_loss(self, x, z):
        """1/m sum log(1 - D(G(z))), Algorithm 1; or the non-saturating -log D(G(z)), section 3."""
        return self._g_loss(self.D(self.G(z)))

    def losses(self, x, z):
        """Both from one forward pass, as the published code has it."""
        a_real, a_fake = self.D(x), self.D(self.G(z))
        self.saw(a_real, a_fake)
        return self._d_loss(x, a_real, a_fake), self._g_loss(a_fake)

    def saw(self, a_real, a_fake):
        """Note the mean probabilities D(x) and D(G(z))."""
        with no_grad():
            super().saw(sigmoid(a_real), sigmoid(a_fake))

    def _d_loss(self, x, a_real, a_fake):
        return -(log_sigmoid(a_real).mean() + log_sigmoid(-a_fake).mean())

    def _g_loss(self, a_fake):
        return log_sigmoid(-a_fake).mean() if self.saturating else -log_sigmoid(a_fake).mean()
