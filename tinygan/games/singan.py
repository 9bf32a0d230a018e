"""SinGAN: a generative model of a single image (Shaham et al. 2019)."""

from collections.abc import Callable, Sequence
from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..data import Split, as_floats
from ..networks import single_image
from ..nn import Module
from ..numbers import is_whole
from ..random import Random, check_source
from ..tensor import Tensor, no_grad
from .checks import check_images, check_weights
from .game import Game
from .losses import Wasserstein
from .penalties import GradientPenalty, Penalty


class SinGAN(Game):
    """The GAN of scale n of a single image, which learns the image's patches of this scale.

        min_{G_n} max_{D_n} L_adv(G_n, D_n) + alpha L_rec(G_n)                          (eq. 4)
        L_rec = |G_n(0, l_n^rec) - x_n|^2,  L_rec = |G_N(z*) - x_N|^2 at scale N        (eq. 5)

    x_n is the image at scale n, and G_n(z_n, l_n) is its generator, which adds details to an image
    l_n: see networks.single_image.Generator. Scale N, the coarsest, is trained first. In each later
    game the coarser scales are as they were left. L_adv is the loss of WGAN-GP. D_n scores patches
    of an image and does not know where they are, so samples may have them at other places.

    L_rec makes the noise (z*, 0, ..., 0) of the scales N, ..., 0 become the image. l_n^rec is what
    the coarser scales draw of it, enlarged. z_n has the standard deviation sigma_n, which is a
    tenth of the root mean square of x_n - l_n^rec, the details that are missing (section 2.2).

    G        a networks.single_image.Generator, with the generators of all scales
    D        D_n, from images to maps of scores, such as networks.single_image.discriminator()
    scale    n, from 0, the finest
    alpha    the weight of L_rec, a mean over all pixels
    lam      the weight of the gradient penalty, whose norm is over the colours of a pixel, as in
             the published code

    For images in [0, 1], alpha = 20 and lam = 0.05 have the effect of the published 10 and 0.1 for
    images in [-1, 1]. A minibatch is the image x_0, (1, C, H, W).

    Raises UserError for another G, a scale that it does not have, negative weights, before the
    training of a scale if a coarser one has no sigma_n yet, and for images of another shape or
    outside [0, 1].
    """

    minibatch = ("images",)
    loss = Wasserstein()

    def __init__(self, G: single_image.Generator, D: Module, scale: int = 0, alpha: float = 20.0,
                 lam: float = 0.05, d_steps: int | Callable = 3, g_steps: int | Callable = 3,
                 penalties: Sequence[Penalty] = (), **choices) -> None:
        check_weights(alpha=alpha)
        if not isinstance(G, single_image.Generator):
            raise UserError("SinGAN takes a networks.single_image.Generator, got a "
                            f"{type(G).__name__}")
        self.N = len(G.shapes) - 1
        if not is_whole(scale, 0) or scale > self.N:
            raise UserError(f"G has the scales 0 to {self.N}, got {scale!r}")
        self.scale, self.alpha = scale, float(alpha)
        super().__init__(G, D, 0, penalties=[GradientPenalty(lam, per_pixel=True), *penalties],
                         d_steps=d_steps, g_steps=g_steps, **choices)
        self.blurred = backend.xp.zeros((1, *G.shapes[scale]), "float32")       # l_n^rec
        self.begin(0)

    def begin(self, i: int) -> None:
        """Compute l_n^rec anew: another game may have trained the coarser scales."""
        if self.scale < self.N:
            with no_grad():
                coarser = self.generate(self.fixed_noise()[1:])
                self.blurred[...] = single_image.enlarge(coarser, self.blurred.shape[2:]).data

    def check(self, before_training: bool = False) -> None:
        super().check(before_training)
        if before_training and not self.G.sigma[self.scale + 1:].all():
            raise UserError(f"the scales coarser than {self.scale} have not all been trained: "
                            f"begin with scale {self.N}, and train one after the other")

    def g_parameters(self) -> list[Tensor]:
        """List the parameters of psi_n, the network of this scale."""
        return self.G.psi[self.scale].parameters()

    # The noise and the image

    def latent(self, m: int, rng: Random, size: tuple[int, int] | None = None
               ) -> tuple[Tensor, ...]:
        """Draw noise N(0, I) of the scales n, ..., N, for m images of `size` (H, W).

        By default they have the size of x_n. An image of another size has the same scales.
        """
        check_source(rng, "latent")
        shapes = self.G.shapes[self.scale:]
        if size is not None:
            shapes = single_image.rescale(shapes, size)
        return tuple([Tensor(rng.normal((m, *shape))) for shape in shapes])

    def fixed_noise(self) -> tuple[Tensor, ...]:
        """Return the noise (0, ..., 0, z*), from which the image is reconstructed."""
        z_star = self.G.z_star
        zeros = [Tensor(backend.xp.zeros((1, *shape), z_star.dtype))
                 for shape in self.G.shapes[self.scale:-1]]
        return (*zeros, Tensor(z_star))

    def vary(self, m: int, rng: Random, start: int) -> tuple[Tensor, ...]:
        """Draw the noise of m variants of the image, which differ from it from scale `start` on.

        The noise of coarser scales is that of fixed_noise() (section 3). Raises ValueError unless
        `start` is one of the scales n, ..., N.
        """
        if not is_whole(start, self.scale) or start > self.N:
            raise ValueError(f"a variant starts at a scale from {self.scale} to {self.N}, got "
                             f"{start!r}")
        count = start + 1 - self.scale
        return (*self.latent(m, rng)[:count], *[Tensor(backend.xp.repeat(fixed.data, m, 0))
                                                for fixed in self.fixed_noise()[count:]])

    def real(self, x: Tensor) -> Tensor:
        """Return x_n."""
        return single_image.shrink(x, self.G.shapes[self.scale][1:])

    def fake(self, x: Tensor, z: tuple[Tensor, ...]) -> Tensor:
        """Set sigma_n, which is the same in all steps; return ~x_n."""
        if self.scale < self.N:
            missing = self.real(x).data - self.blurred
            self.G.sigma[self.scale] = 0.1 * backend.xp.sqrt((missing ** 2).mean())
        return self.generate(z)

    def reconstruct(self) -> Tensor:
        """Return what the fixed noise becomes at this scale: G_n(0, l_n^rec), or G_N(z*)."""
        noise = self.fixed_noise()
        if self.scale == self.N:
            return self.generate(noise)
        return self.G.refine(self.scale, noise[0], Tensor(self.blurred))

    def g_terms(self, x: Tensor, z: tuple, fake: Tensor, out_fake: Tensor) -> list[Tensor]:
        """Return [alpha L_rec]."""
        L_rec = ((self.reconstruct() - self.real(x)) ** 2).mean()
        self.log("L_rec", L_rec)
        return [self.alpha * L_rec]

    def check_minibatch(self, x: Any) -> None:
        """Raise UserError unless the minibatch has images in [0, 1] of the shape of x_0."""
        super().check_minibatch(x)
        check_images(x, self.G.shapes[0])

    def reference_images(self, split: Split) -> Array:
        """Return the split's images, as floats, at this scale."""
        images = Tensor(backend.xp.asarray(as_floats(split.images)))
        return backend.to_numpy(self.real(images).data)
