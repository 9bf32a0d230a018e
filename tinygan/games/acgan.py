"""Conditional image synthesis with auxiliary classifier GANs (Odena et al. 2017)."""

from typing import Any

from ..backend import Array, UserError
from ..nn import Module
from ..ops import cross_entropy
from ..tensor import Tensor
from .checks import check_weights
from .conditional import ConditionalGAN


class ACGAN(ConditionalGAN):
    """The GAN whose D also names the class of each image (eq. 2-3).

        L_S = E log P(real | x) + E log P(fake | G(z, y))
        L_C = E log P(y | x) + E log P(y | G(z, y))

    D maximises L_S + L_C and G maximises L_C - L_S. Here G maximises E log P(real | G(z, y)) in
    place of -L_S, the non-saturating loss. D does not get the label: it returns (scores (m, 1),
    logits of the classes (m, classes)), for example by nn.Heads.

    lam        the weight of L_C, in the paper 1
    on_fakes   whether D's L_C has its second term, as in the paper; well-known implementations
               leave it out, because early samples teach D wrong classes

    The first term of -L_C, D's loss on the classes of the data, is logged as "class loss". Raises
    UserError for a negative lam, and in a step if D returns no logits.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 100, classes: int = 10, lam: float = 1.0,
                 on_fakes: bool = True, **choices) -> None:
        super().__init__(G, D, z_size, classes, **choices)
        check_weights(lam=lam)
        self.lam, self.on_fakes = lam, on_fakes

    def real(self, x: Any) -> Tensor:
        """Return the images of a minibatch (images, labels)."""
        return x[0]

    def fake(self, x: Any, z: Any) -> Tensor:
        """Return G(z, y)."""
        return self.generate(z)

    def d_terms(self, x: Any, z: Any, fake: Any, out_real: Any, out_fake: Any) -> list[Tensor]:
        """List the terms of -L_C: on data, and on samples if `on_fakes`."""
        on_data = cross_entropy(class_logits(out_real, x[1]), x[1])
        self.log("class loss", on_data)
        terms = [self.lam * on_data]
        if self.on_fakes:
            terms.append(self.lam * cross_entropy(class_logits(out_fake, z[1]), z[1]))
        return terms

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the term of -L_C that depends on G."""
        return [self.lam * cross_entropy(class_logits(out_fake, z[1]), z[1])]


def class_logits(outputs: Any, labels: Array) -> Tensor:
    """Return the class logits among D's outputs.

    Raises UserError if there are none, or if there is not one row for each label.
    """
    if not isinstance(outputs, tuple) or len(outputs) < 2:
        raise UserError("D must return (scores, class logits): give it two heads, such as "
                        "nn.Heads(trunk, nn.Dense(n, 1), nn.Dense(n, classes))")
    if len(outputs[1]) != len(labels):
        raise UserError(f"D returned the class logits of {len(outputs[1])} images for "
                        f"{len(labels)} labels: leave views.Pack out")
    return outputs[1]
