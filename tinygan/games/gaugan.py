"""GauGAN: semantic image synthesis with spatially-adaptive normalization (Park et al. 2019)."""

from typing import Any

import numpy as np

from ..backend import Array, UserError, to_numpy
from ..nn import Module
from ..ops import concat
from ..random import Random
from ..tensor import Tensor
from .checks import check_weights
from .game import Game
from .losses import Hinge
from .translation import PairTranslation, join_pictures
from .views import Pack


class GauGAN(PairTranslation):
    """The hinge game from maps of classes to images, with feature matching.

        L_D = E max(0, 1 - D(a, b)) + E max(0, 1 + D(a, G(z, a)))
        L_G = -E D(a, G(z, a)) + lam/k sum_i E |f_i(a, b) - f_i(a, G(z, a))|
                                                            (Wang et al. 2018, pix2pixHD, eq. 4)

    z ~ N(0, I), f_i are the outputs of the layers of D's k scales, and |.| is a mean over numbers.

    G   a Module of two inputs: G(z, a) takes noise (m, z_size) and maps, planes (m, classes, H, W)
        of 0 and 1, such as networks.spade.generator()
    D   a Module from maps and images, joined as channels, to (scores, features): scores are a map
        with a channel for each scale, and features a tuple of Tensors. The sum of the terms f_i is
        divided by the number of scales, as in the published code
    lam the weight of the features

    The features are those of images that no view has changed. Their term, without lam, is logged as
    "features". The paper's encoder of images, which replaces z by a code of a given style, is left
    out, and so are the features of a VGG network, which the published code matches too. Raises
    UserError for a negative lam, for views.Pack with the features, and in G's step if D returns no
    features.
    """

    loss = Hinge()
    latent = Game.latent        # z ~ N(0, I)

    def __init__(self, G: Module, D: Module, z_size: int = 256, lam: float = 10.0,
                 **choices) -> None:
        super().__init__(G, D, z_size=z_size, **choices)
        check_weights(lam=lam)
        if lam and any(isinstance(view, Pack) for view in self.views):
            raise UserError("GauGAN's features are those of single images: leave views.Pack out, "
                            "or give lam=0")
        self.lam = lam

    def fake(self, x: Any, z: Any) -> Tensor:
        """Return a and G(z, a), joined."""
        return concat([x[0], self.generate((z, x[0]))], 1)

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the term of the features; none if lam is 0."""
        if not self.lam:
            return []
        real = self.discriminate(self.real(x))
        if self.views:      # random views would change b and G(z, a) in different ways
            out_fake = self.discriminate(fake)
        distance = sum(abs(a - b).mean() for a, b in
                       zip(features_in(real), features_in(out_fake))) * (1 / out_fake[0].shape[1])
        self.log("features", distance)
        return [self.lam * distance]

    def translate(self, images: np.ndarray, *conditions: np.ndarray) -> np.ndarray:
        """Return G's outputs for maps on the host, with the same noise at each call."""
        z = to_numpy(Random(0).normal((len(images), self.z_size)))
        return self.compute(self.generate, z, images)

    # Inputs and pictures

    def inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Tensor]:
        """Draw noise, and n maps from the split."""
        return self.latent(n, rng), super().inputs(split, n, rng)

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple:
        """Draw noise and about n / 4 maps from the split; return them and the true images."""
        a, b = super().fixed_inputs(split, n, rng)
        return (self.latent(len(a), rng), a), b

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return triples (map, output, truth), four in a row."""
        inputs, b = z
        return join_pictures(inputs[1].data, self.sample(inputs), b.data), 12


def features_in(outputs: Any) -> tuple[Tensor, ...]:
    """Return the features among D's outputs. Raises UserError if there are none."""
    if not isinstance(outputs, tuple) or len(outputs) != 2 or (
            not isinstance(outputs[1], tuple) or not outputs[1]):
        raise UserError("D must return (scores, features), features a tuple of Tensors: take "
                        "networks.patch.MultiScale of discriminators with leaky ReLUs, or give "
                        "lam=0")
    return outputs[1]
