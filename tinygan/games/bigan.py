"""Adversarial feature learning: BiGAN (Donahue et al. 2017), and ALI (Dumoulin et al. 2017)."""

from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..nn import GaussianSample, Module, RandomRows, Sequential, use_random
from ..ops import sigmoid
from ..random import Random, check_source
from ..tensor import Tensor
from .checks import last_activation, last_layer
from .game import Game, require
from .gan import GAN


class BiGAN(GAN):
    """The GAN with an encoder E beside G; D tells the pairs (x, E(x)) and (G(z), z) apart.

        min_{G, E} max_D E_x[log D(x, E(x))] + E_z[log(1 - D(G(z), z))]             (eq. 3)

    If D is optimal, the value is lowest where both pairs have the same distribution, and then E and
    G invert each other (theorem 2). E and G are one player; nothing else compares x with G(E(x)).
    Because D's real input depends on E, their loss has a term of the data too, the loss's g_real().

    G, E   Modules: G from z (m, z_size) to samples, E from samples to numbers a (m, z_size)
    D      a Module of two inputs, D(x, z), which returns logits (m, 1)

    z ~ U(-1, 1), and encode(), the E(x) of the equation, is 2 sigmoid(a) - 1, which has the same
    range, as in the published code (jeffdonahue/bigan). Both terms of the loss of G and E are
    non-saturating there and here; that code halves all losses, and this class does not. Raises
    UserError for an E that ends in a sigmoid or a tanh.
    """

    minibatch = ("x",)
    g_players = "G", "E"

    def __init__(self, G: Module, E: Module, D: Module, z_size: int = 50, **choices) -> None:
        self.E = E
        super().__init__(G, D, z_size, **choices)

    def check(self, before_training: bool = False) -> None:
        super().check(before_training)
        self.check_encoder()

    def check_encoder(self) -> None:
        """Raise UserError if E ends in a sigmoid or a tanh."""
        if last_activation(self.E) is not None:
            raise UserError("E ends in a sigmoid or a tanh, but its output must be any real "
                            "number: remove it")

    def latent(self, m: int, rng: Random) -> Any:
        """Draw z ~ U(-1, 1), (m, z_size)."""
        check_source(rng, "latent")
        return Tensor(rng.uniform(-1, 1, (m, self.z_size)))

    def encode(self, x: Tensor) -> Tensor:
        """Return E(x) = 2 sigmoid(a) - 1, (m, z_size)."""
        return 2 * sigmoid(self.E(x)) - 1

    def real(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return (x, E(x))."""
        return x, self.encode(x)

    def fake(self, x: Any, z: Any) -> tuple[Tensor, Tensor]:
        """Return (G(z), z)."""
        return self.generate(z), z

    def infer(self, x: Array) -> Array:
        """Return E(x) for samples x; E is in evaluation mode, or its average if one is kept."""
        with self.use_averages(), use_random(RandomRows(x)):
            return self.encode(Tensor(x)).data

    # Pictures

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Tensor]:
        """Draw noise for about n / 2 samples, and take n / 4 images from `split`.

        Raises UserError if there is no data set to take them from.
        """
        images = require(split, "images").floats(slice(max(n // 4, 1)))
        return self.latent(max(n // 2, 1), rng), Tensor(images)

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return pairs of an image x and G(E(x)), followed by samples, in rows of eight."""
        z, x = z
        again = self.sample_images(Tensor(self.infer(self.scale_images(x.data))))
        pairs = backend.xp.stack([x.data, again], 1).reshape(-1, *x.shape[1:])
        return backend.xp.concatenate([pairs, self.sample_images(z)]), 8


class ALI(BiGAN):
    """The same game with z ~ N(0, I) and an encoder that draws from q(z | x) (eq. 1-4).

        z_hat = mu(x) + sigma(x) eps,  eps ~ N(0, I)

    E returns z_hat itself: its last layer is nn.GaussianSample, which gets mu and log sigma. In
    evaluation mode E returns mu(x). Adversarially learned inference was published at the same time
    as BiGAN. Raises UserError for an E, made as a Sequential, that ends in another layer.
    """

    latent = Game.latent        # z ~ N(0, I)

    def check_encoder(self) -> None:
        """Raise UserError if E is a Sequential that does not end in nn.GaussianSample."""
        last = last_layer(self.E)
        if isinstance(self.E, Sequential) and not isinstance(last, GaussianSample):
            raise UserError("ALI's encoder draws its output, but E ends in another layer: end it "
                            "in nn.Dense(n, 2 * z_size), nn.GaussianSample()")

    def encode(self, x: Tensor) -> Tensor:
        """Return z_hat, (m, z_size)."""
        return self.E(x)
