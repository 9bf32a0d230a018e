"""GauGAN: semantic image synthesis with spatially-adaptive normalization (Park et al. 2019)."""

from typing import Any

from ..backend import UserError
from ..nn import Module
from ..tensor import Tensor
from .losses import Hinge
from .translation import PairTranslation


class GauGAN(PairTranslation):
    """The hinge game from maps of classes to images, with feature matching.

        L_D = E max(0, 1 - D(a, b)) + E max(0, 1 + D(a, G(a)))
        L_G = -E D(a, G(a)) + lam sum_i E |f_i(a, b) - f_i(a, G(a))|_1
                                                            (Wang et al. 2018, pix2pixHD, eq. 4)

    f_i are the outputs of D's layers.

    G   a Module from maps, planes (m, classes, H, W) of 0 and 1, to images, such as
        networks.spade.generator()
    D   a Module from maps and images, joined as channels, to (scores, features): scores are a map
        with a channel for each scale, and features a tuple of Tensors. The sum of the terms f_i is
        divided by the number of scales, as in the published code
    lam the weight of the features

    The published code also matches the features of a VGG network, which is left out. Raises
    UserError for a negative lam, and in G's step if D returns no features.
    """

    loss = Hinge()

    def __init__(self, G: Module, D: Module, lam: float = 10.0, **choices) -> None:
        super().__init__(G, D, **choices)
        if not lam >= 0:
            raise UserError(f"the weight lam must be at least 0, got {lam}: choose another")
        self.lam = lam

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the term of the features; none if lam is 0."""
        if not self.lam:
            return []
        real = self.outputs(self.real(x))
        distance = sum(abs(a - b).mean() for a, b in
                       zip(features_in(real), features_in(out_fake))) * (1 / out_fake[0].shape[1])
        self.logged = {**self.logged, "features": distance.data}
        return [self.lam * distance]


def features_in(outputs: Any) -> tuple[Tensor, ...]:
    """Return the features among D's outputs. Raises UserError if there are none."""
    if not isinstance(outputs, tuple) or len(outputs) != 2 or not isinstance(outputs[1], tuple):
        raise UserError("D must return (scores, features), features a tuple of Tensors: take "
                        "networks.patch.MultiScale, or give lam=0")
    return outputs[1]
