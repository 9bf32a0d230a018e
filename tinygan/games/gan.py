"""Generative adversarial nets (Goodfellow et al. 2014)."""

from ..random import Random, check_source
from ..tensor import Tensor
from .game import Game
from .losses import NonSaturating


class GAN(Game):
    """The two-player minimax game (eq. 1).

        min_G max_D V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

    The network D returns the logit a of the probability D(x) = sigmoid(a) that x is real. The
    default loss is the non-saturating one, which section 3 recommends. Algorithm 1 uses the
    saturating one, losses.Saturating().

    G, D   Modules: G from (m, z_size) to samples, D from samples to logits (m, 1)

    z ~ U(-sqrt 3, sqrt 3), with mean 0 and variance 1, as in the published code
    (goodfeli/adversarial). That code halves D's loss; this class does not. To train as that code
    does, halve D's learning rate if the optimiser is SGD (see examples/gan_mnist.py).
    """

    loss = NonSaturating()

    def latent(self, m: int, rng: Random) -> Tensor:
        """Draw z ~ U(-sqrt 3, sqrt 3), (m, z_size)."""
        check_source(rng, "latent")
        return Tensor(rng.uniform(-3 ** 0.5, 3 ** 0.5, (m, self.z_size)))
