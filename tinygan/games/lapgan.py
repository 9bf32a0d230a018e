"""LAPGAN: a Laplacian pyramid of adversarial networks (Denton et al. 2015)."""

from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..networks import pyramid
from ..nn import RandomRows, use_random
from ..random import Random, check_source
from ..tensor import Tensor
from .checks import (check_images, last_activation, refuse_number, refuse_sigmoid,
                     refuse_tanh)
from .gan import GAN


class LAPGAN(GAN):
    """The conditional GANs of all levels of a Laplacian pyramid.

        min_{G_k} max_{D_k} E log D_k(h_k, l_k) + E log(1 - D_k(G_k(z_k, l_k), l_k))    (eq. 2)

    I_k are the images of the data at 1/2^k of their size, l_k = u(I_{k+1}) is the next smaller
    image, enlarged, and h_k = I_k - l_k are the details that l_k lacks. D_k sees the sum of details
    and l_k, as in the paper: I_k for the data, and l_k + G_k(z_k, l_k) for a sample. The coarsest
    level K has no l: it is a GAN of small images.

    In training, every l_k comes from the data, and no two levels share weights. So each level is
    trained as if it were alone. The paper trains each level by itself; here a step trains all, and
    a loss is the mean over the levels. So the gradient of a level is 1 / (K + 1) of what it is for
    the level alone, which makes no difference to Adam, but does to gradient descent. Samples are
    drawn through all levels, from the coarsest to the finest: see networks.pyramid.Generator.

    G, D     networks.pyramid.Generator and Discriminator, with the networks of all K + 1 levels,
             the finest first
    z_size   the number of noise variables in level K

    z_k ~ U(-1, 1), which is a plane of the image's size in the levels 0 to K - 1. The default loss
    of G_k is the non-saturating one. Both are those of the published code. Images lie in [0, 1];
    the published code standardises them. The paper's pyramid of images with labels is left out.

    A penalty takes the gradient with respect to the images of all levels. R1(gamma) squares the
    gradient of the mean of K + 1 scores: it has the effect of R1(gamma / (K + 1)) in a level alone.
    The norm in WGAN-GP's penalty is that of the gradients of all levels together, so that with it
    the levels depend on each other.

    Raises UserError for other networks, if G and D have different numbers of levels, for a G_K that
    ends in a tanh and another G_k that ends in a sigmoid, because details may be negative, and for
    images of another shape or outside [0, 1].
    """

    minibatch = ("images",)

    def __init__(self, G: pyramid.Generator, D: pyramid.Discriminator, z_size: int = 100,
                 **choices) -> None:
        if not isinstance(G, pyramid.Generator) or not isinstance(D, pyramid.Discriminator):
            raise UserError("LAPGAN takes a networks.pyramid.Generator and a "
                            f"networks.pyramid.Discriminator, got a {type(G).__name__} and a "
                            f"{type(D).__name__}")
        if len(G.levels) != len(D.levels):
            raise UserError(f"G has {len(G.levels)} levels, and D {len(D.levels)}: give both a "
                            "network for each level")
        self.group = len(G.levels)
        super().__init__(G, D, z_size, **choices)

    def check(self, before_training: bool = False) -> None:
        super().check(before_training)
        *fine, coarsest = self.G.levels
        refuse_tanh("G_K", coarsest)
        for k, G in enumerate(fine):
            if last_activation(G) == "sigmoid":
                raise UserError(f"G_{k} ends in a sigmoid, but details are also negative: leave it "
                                "out, or end G_k in a tanh")
        if self.d_returns_scores:
            for D in self.D.levels:
                refuse_sigmoid(last_activation(D))

    def latent(self, m: int, rng: Random) -> tuple[Tensor, ...]:
        """Draw (z_0, ..., z_K) ~ U(-1, 1): planes (m, 1, H / 2^k, W / 2^k), and (m, z_size)."""
        check_source(rng, "latent")
        planes = [(m, 1, height, width) for _, height, width in self.G.shapes[:-1]]
        return tuple([Tensor(rng.uniform(-1, 1, shape)) for shape in (*planes, (m, self.z_size))])

    def real(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (I_0, ..., I_K), the images at all resolutions: I_k = h_k + l_k."""
        return pyramid.make_gaussian(x, len(self.G.levels))

    def fake(self, x: Tensor, z: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return l_k + G_k(z_k, l_k) for each level, with the blurred images l_k of the data."""
        blurred = map(pyramid.up, self.real(x)[1:])
        return self.generate((*zip(z, blurred), z[-1]))

    def sample(self, z: tuple) -> Array:
        """Return the finest images that G draws, ~I_0 of eq. 5; see networks.pyramid.Generator."""
        refuse_number(z)
        return self.sample_levels(z)[0]

    def sample_levels(self, z: tuple) -> list[Array]:
        """Return the images that G draws in all levels, [~I_0, ..., ~I_K]."""
        with self.use_averages(), use_random(RandomRows(z)):
            return [image.data for image in self.generate(z)]

    def check_minibatch(self, x: Any) -> None:
        """Raise UserError unless the minibatch has images in [0, 1] of the shape that G draws."""
        super().check_minibatch(x)
        check_images(x, self.G.shapes[0])

    # Pictures

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, ...]:
        """Draw the noise of about n / (K + 1) samples: each has a picture for every level."""
        return self.latent(4 * max(n // self.group // 4, 1), rng)

    def pictures(self, z: tuple) -> tuple[Array, int]:
        """Return the images of all levels side by side, the coarsest first; four groups in a row.

        Coarse images have their pixels enlarged.
        """
        images = [image.repeat(2 ** k, 2).repeat(2 ** k, 3)
                  for k, image in enumerate(self.sample_levels(z))]
        shown = backend.xp.stack(images[::-1], 1)
        return shown.reshape(-1, *shown.shape[2:]), 4 * self.group
