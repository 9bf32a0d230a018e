"""CycleGAN: unpaired image-to-image translation (Zhu et al. 2017)."""

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..nn import Module, RandomRows, use_random
from ..numbers import is_whole
from ..ops import concat
from ..random import Random, check_source
from ..tensor import Tensor
from .checks import check_weights
from .game import require
from .losses import LeastSquares, RelativisticAverage
from .translation import ImageTranslation, draw_rows, join_pictures


class CycleGAN(ImageTranslation):
    """Two GANs between sets of images x and y that are not paired: G: x -> y and F: y -> x.

        L = L_GAN(G, D) + L_GAN(F, D_x) + lam L_cyc                                 (eq. 3)
        L_cyc = E |F(G(x)) - x|_1 + E |G(F(y)) - y|_1                               (eq. 2)
        L_identity = E |G(y) - y|_1 + E |F(x) - x|_1                                (section 5.2)

    L_GAN is the least-squares loss, and |.|_1 a mean over all pixels. Without L_cyc nothing ties
    G(x) to x. In D's step, on average half of the generated images are replaced by earlier ones
    from a pool of `pool` images of each set (section 4; Shrivastava et al. 2017). An image is put
    at a random place of its pool; in the published code the first images fill it in order, and no
    image is replaced before it is full.

    G, F, D, D_x   Modules: the translators, and the discriminators of y and of x, whose scores
                   have the same shape
    x_shape, y_shape   the shapes (C, H, W) of an image x and an image y
    lam_forward, lam_backward   the weights of the two terms of L_cyc; 20 for images in [0, 1] is
                   the paper's lam = 10 for images in [-1, 1]
    lam_identity   the weight of L_identity; the paper uses 0, or 5 (here 10) where colours must be
                   kept
    pool           the number of images in each pool

    The losses here are L / 2, because L_GAN is the mean of the two games and not their sum; to Adam
    it makes no difference. L_cyc is logged. A pool's images are buffers of the game, so a run that
    is resumed has the same. The images G(x) and F(y) of a step have the same place in their pools
    and are replaced together; in the published code each pool draws for itself.

    Raises UserError for negative weights, for a pool of less than one image, for lam_identity with
    images of two shapes, for penalties and RelativisticAverage, which would mix D and D_x, and in a
    step for a minibatch larger than the pool and for generated images of other shapes.
    """

    minibatch = "images x", "images y"
    loss = LeastSquares()
    d_players, g_players = ("D", "D_x"), ("G", "F")

    def __init__(self, G: Module, F: Module, D: Module, D_x: Module,
                 x_shape: tuple[int, int, int], y_shape: tuple[int, int, int],
                 lam_forward: float = 20.0, lam_backward: float = 20.0,
                 lam_identity: float = 0.0, pool: int = 50, adversarial: bool = True,
                 **choices) -> None:
        self.F, self.D_x = F, D_x
        super().__init__(G, D, adversarial, **choices)
        check_weights(lam_forward=lam_forward, lam_backward=lam_backward, lam_identity=lam_identity)
        self.lam_forward, self.lam_backward = lam_forward, lam_backward
        self.lam_identity = lam_identity
        if lam_identity and tuple(x_shape) != tuple(y_shape):
            raise UserError("the identity loss compares G(y) with y and F(x) with x, but x has the "
                            f"shape {tuple(x_shape)} and y {tuple(y_shape)}: give images of one "
                            "shape, or lam_identity=0 (without --identity)")
        if self.penalties:
            raise UserError("CycleGAN takes no penalties, which would mix the gradients of D and "
                            "D_x: leave them out")
        if isinstance(self.loss, RelativisticAverage):
            raise UserError("RelativisticAverage would mix the mean scores of D and D_x: give "
                            "CycleGAN another loss, such as losses.Relativistic()")
        if not is_whole(pool, 1):
            raise UserError(f"a pool has a whole number of images, at least 1, got {pool!r}")
        self.old_y, self.old_x = (backend.xp.zeros((pool, *shape), "float32")
                                  for shape in (y_shape, x_shape))
        self.filled = backend.xp.zeros(pool, "bool")

    def latent(self, m: int, rng: Random) -> Any:
        """Draw the places of m images in the pools, and whether D gets the old images there."""
        if m > len(self.filled):
            raise UserError(f"a minibatch of {m} is larger than the pool of {len(self.filled)} "
                            "images: choose a smaller --batch-size, or a larger `pool`")
        check_source(rng, "latent")
        return rng.permutation(len(self.filled))[:m], rng.bernoulli(0.5, (m,))

    def real(self, x: Any) -> Any:
        """Return (y, x)."""
        return x[1], x[0]

    def fake(self, x: Any, z: Any) -> Any:
        """Return (G(x), F(y))."""
        return self.generate(x[0]), self.F(x[1])

    def discriminate(self, inputs: Any) -> Tensor:
        """Return the scores of D for images y, followed by those of D_x for images x."""
        return concat([self.D(inputs[0]), self.D_x(inputs[1])])

    def replay(self, fake: Any, z: Any) -> Any:
        """Return the generated images, half of them exchanged for those in the pools.

        An image whose place in the pool is empty is put there and returned. For a place that has
        been filled, one is exchanged for the image there with a probability of 1/2.
        """
        place, exchange = z
        filled = self.filled[place]
        gets_old, is_stored = (a[:, None, None, None]
                               for a in (exchange & filled, exchange | ~filled))
        replayed = []
        for pool, new in zip((self.old_y, self.old_x), fake):
            if new.shape[1:] != pool.shape[1:]:
                raise UserError(f"CycleGAN was made for images {pool.shape[1:]}, but a network "
                                f"returned {new.shape[1:]}: correct x_shape and y_shape, or the "
                                "network")
            old = pool[place]
            replayed.append(Tensor(backend.xp.where(gets_old, old, new.data)))
            pool[place] = backend.xp.where(is_stored, new.data, old)
        self.filled[place] = True
        return tuple(replayed)

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the terms of lam L_cyc and of L_identity that have a weight."""
        (x, y), (fake_y, fake_x), G, F = x, fake, self.generate, self.F
        there, back = abs(F(fake_y) - x).mean(), abs(G(fake_x) - y).mean()
        self.log("L_cyc", there + back)
        terms = [lam / 2 * term for lam, term in
                 ((self.lam_forward, there), (self.lam_backward, back)) if lam]
        if self.lam_identity:
            same = abs(G(y) - y).mean() + abs(F(x) - x).mean()
            terms.append(self.lam_identity / 2 * same)
        return terms

    def translate_back(self, images: np.ndarray) -> np.ndarray:
        """Return F's outputs for images y on the host, as translate() returns G's for images x."""
        return self.compute(lambda x: self.F(x), images)    # compute() may replace self.F

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Tensor]:
        """Draw about n / 6 images of each set from the split."""
        split = require(split, "targets")
        return tuple(Tensor(split.floats(draw_rows(split, 2 * max(n // 12, 1), rng, name), name))
                     for name in ("images", "targets"))

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return rows of x, G(x), F(G(x)), y, F(y), G(F(y)), two of each in a row."""
        x, y = z
        with self.use_averages(), use_random(RandomRows(z)):
            G, F = self.generate, self.F
            fake_y, fake_x = G(x), F(y)
            shown = x, fake_y, F(fake_y), y, fake_x, G(fake_x)
        return join_pictures(*(t.data for t in shown)), 12
