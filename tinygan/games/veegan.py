"""VEEGAN (Srivastava et al. 2017): the game with an encoder that is to recover the noise."""

from typing import Any

from ..backend import UserError
from ..nn import Module, current_random
from ..tensor import Tensor, no_grad
from .bigan import BiGAN
from .checks import check_weights
from .game import Game
from .losses import ReverseKL


class VEEGAN(BiGAN):
    """The game of BiGAN's pairs, with a loss for noise that E does not recover from samples.

        min_{G, E} E_z[-D(G(z), z)] + lam E_z |z - E(G(z))|^2                       (Algorithm 1)

    If G maps much noise to few modes, E cannot tell from G(z) which z it was, and the second term
    is large. D is trained as in BiGAN, by the pairs (x, z_hat) and (G(z), z):

        z_hat = E(x) + sigma eps,  eps ~ N(0, I)

    If z has more dimensions than the data, E(x) fills only a part of the space of z. With sigma = 0
    D could then tell the pairs apart by z alone. For an optimal D the first term is a divergence
    between the two kinds of pairs, see losses.ReverseKL. E is the paper's reconstructor F. Only the
    second term trains it: D's score of (x, z_hat) depends on E, too, but Algorithm 1 leaves it out.

    G, E    Modules: G from z (m, z_size) to samples, E from samples to noise (m, z_size)
    D       a Module of two inputs, D(x, z), which returns logits (m, 1)
    lam     the weight of the second term, in the paper 1
    sigma   the standard deviation of z_hat around E(x)

    z ~ N(0, I). The second term without lam is logged as "z error". Raises UserError for an E that
    ends in a sigmoid or a tanh, for a negative lam or sigma, and in a step if E(x) has another
    shape than z.
    """

    loss = ReverseKL()
    latent = Game.latent        # z ~ N(0, I)

    def __init__(self, G: Module, E: Module, D: Module, z_size: int = 50, lam: float = 1.0,
                 sigma: float = 1.0, **choices) -> None:
        check_weights(lam=lam, sigma=sigma)
        self.lam, self.sigma = float(lam), float(sigma)
        super().__init__(G, E, D, z_size, **choices)

    def encode(self, x: Tensor) -> Tensor:
        """Return E(x), (m, z_size). Raises UserError for another shape."""
        code, shape = self.E(x), (len(x), self.z_size)
        if code.shape != shape:
            raise UserError(f"E must return numbers of the shape of z, {shape}, got {code.shape}")
        return code

    def real(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return (x, z_hat), a constant."""
        with no_grad():
            code = self.encode(x)
            return x, code + self.sigma * current_random().normal(code.shape)

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """Return [lam E |z - E(G(z))|^2]."""
        error = ((z - self.encode(fake[0])) ** 2).sum() / len(z)
        self.log("z error", error)
        return [self.lam * error]
