"""StarGAN: one G for translations between several domains (Choi et al. 2018)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..nn import Module
from ..numbers import is_whole
from ..ops import cross_entropy
from ..random import Random, check_source
from ..tensor import Tensor
from .acgan import class_logits
from .checks import check_weights
from .game import Game, require
from .losses import Wasserstein
from .penalties import GradientPenalty, Penalty
from .translation import ImageTranslation, draw_rows, join_pictures


class StarGAN(ImageTranslation):
    """The game whose G draws an image x in the domain c that it is told; D also names the domain.

        L_D = -L_adv + lam_cls L_cls^r                                              (eq. 5)
        L_G = L_adv + lam_cls L_cls^f + lam_rec L_rec                               (eq. 6)
        L_adv = E D(x) - E D(G(x, c)) - lam_gp E (|grad D(x_hat)|_2 - target)^2     (eq. 8)
        L_cls^r = -E log D_cls(c' | x),  L_cls^f = -E log D_cls(c | G(x, c))        (eq. 2-3)
        L_rec = E |x - G(G(x, c), c')|_1                                            (eq. 4)

    c' is the domain of x, and c a random one, which may be c' too: uniform here, and the domain of
    another image of the minibatch in the published code. |.|_1 is a mean over all pixels.

    G, D      Modules: G(x, c) returns images, D returns (scores, the logits of the domains
              (m, classes)); scores may be a map (m, 1, h, w)
    classes   the number of domains
    lam_rec   the weight of L_rec; 20 for images in [0, 1] is the paper's 10 for images in [-1, 1]
    lam_identity   the weight of E |x - G(x, c')|_1, a term that the paper does not have. The
                   paper's terms are also satisfied by a G that exchanges contents one-to-one, such
                   as one that draws a 7 for each 3 in the other domains
    lam_gp    the weight of the gradient penalty, which is that of the sum over a map of scores, as
              in the published code. Give 0 with another loss than Wasserstein()
    target    the norm at which the penalty is 0. The target 2 and lam_gp 2.5 are the paper's 1 and
              10 for images in [-1, 1], where gradients are half as large as for images in [0, 1]

    A minibatch is a pair (x, c'). D has n_critic steps for each of G; in the published code, G's
    step uses the last minibatch of D's, here it draws its own. L_rec is logged, and L_cls^r as
    "L_cls". Raises UserError for negative weights, and in a step if D returns no logits.
    """

    minibatch = "images", "domains"
    group = None            # a row of the pictures is an image and its outputs
    loss = Wasserstein()
    reference_images = Game.reference_images        # images of all domains

    def __init__(self, G: Module, D: Module, classes: int, lam_cls: float = 1.0,
                 lam_rec: float = 20.0, lam_identity: float = 0.0, lam_gp: float = 2.5,
                 target: float = 2.0, n_critic: int | Callable = 5,
                 penalties: Sequence[Penalty] = (), adversarial: bool = True, **choices) -> None:
        check_weights(lam_cls=lam_cls, lam_rec=lam_rec, lam_identity=lam_identity, lam_gp=lam_gp,
                      target=target)
        penalties = [*([GradientPenalty(lam_gp, target)] if lam_gp else []), *penalties]
        super().__init__(G, D, adversarial, penalties=penalties, d_steps=n_critic, **choices)
        if not is_whole(classes, 1):
            raise UserError(f"classes must be a whole number of at least 1, got {classes!r}")
        self.classes = classes
        self.lam_cls, self.lam_rec, self.lam_identity = lam_cls, lam_rec, lam_identity

    def latent(self, m: int, rng: Random) -> Array:
        """Draw the domains c, (m,)."""
        check_source(rng, "latent")
        return rng.integers(self.classes, (m,))

    def real(self, x: Any) -> Tensor:
        """Return the images of a minibatch (images, domains)."""
        return x[0]

    def fake(self, x: Any, z: Any) -> Tensor:
        """Return G(x, c)."""
        return self.generate((x[0], z))

    def d_terms(self, x: Any, z: Any, fake: Any, out_real: Any, out_fake: Any) -> list[Tensor]:
        """List lam_cls L_cls^r."""
        on_data = cross_entropy(class_logits(out_real, x[1]), x[1])
        self.log("L_cls", on_data)
        return [self.lam_cls * on_data]

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List lam_cls L_cls^f and lam_rec L_rec, and the identity term if it has a weight."""
        x, c = x
        again = abs(x - self.generate((fake, c))).mean()
        self.log("L_rec", again)
        terms = [lam * term for lam, term in (
            (self.lam_cls, cross_entropy(class_logits(out_fake, z), z)),
            (self.lam_rec, again)) if lam]
        if self.lam_identity:
            terms.append(self.lam_identity * abs(x - self.generate((x, c))).mean())
        return terms

    def translate_all(self, images: np.ndarray) -> np.ndarray:
        """Return the outputs in each domain for the first image, then for the second, and so on."""
        domains = np.tile(np.arange(self.classes), len(images))
        return self.translate(images.repeat(self.classes, 0), domains)

    # Inputs and pictures

    def inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Array]:
        """Choose n images of the split and a domain for each, at random."""
        return super().inputs(split, n, rng), self.latent(n, rng)

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Array]:
        """Choose about n / (classes + 1) images of the split; each is an input for every domain."""
        split = require(split, "images")
        chosen = draw_rows(split, max(n // (self.classes + 1), 1), rng)
        images = split.floats(chosen).repeat(self.classes, 0)
        return Tensor(images), backend.xp.tile(backend.xp.arange(self.classes), len(chosen))

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return rows of an image and its translation into each domain."""
        images, k = z[0].data, self.classes
        drawn = self.sample(z).reshape(-1, k, *images.shape[1:])
        return join_pictures(images[::k], *drawn.swapaxes(0, 1)), k + 1
