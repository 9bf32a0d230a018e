"""pix2pix: image-to-image translation with conditional adversarial networks (Isola et al. 2017)."""

from typing import Any

from ..nn import Module
from ..tensor import Tensor
from .checks import check_weights
from .losses import NonSaturating
from .translation import PairTranslation


class Pix2Pix(PairTranslation):
    """The GAN that is given an image a and draws b; D sees the pair.

        G* = arg min_G max_D L_cGAN(G, D) + lam L_L1(G)                             (eq. 4)
        L_cGAN = E log D(a, b) + E log(1 - D(a, G(a)))                              (eq. 1)
        L_L1 = E |b - G(a)|_1                                                       (eq. 3)

    |.|_1 is the mean over all pixels. L_L1 alone blurs details, which D corrects. The noise is
    dropout in G, which stays on when samples are drawn (section 3.1).

    G, D          Modules: G from images to images, D from pairs, joined as channels, to scores,
                  such as a map of them (m, 1, h, w): the loss is the mean over the map
    lam           the weight of L_L1; 200 for images in [0, 1] is the paper's 100 for images in
                  [-1, 1]
    conditional   False shows D only b and G(a): L_GAN, eq. 2
    adversarial   False leaves L_cGAN out of G's loss: L1 alone

    G's loss is the non-saturating one. The paper divides D's loss by 2, which this class does not:
    to Adam it makes no difference. L_L1 is logged as "L1". Raises UserError for a negative lam.
    """

    loss = NonSaturating()

    def __init__(self, G: Module, D: Module, lam: float = 200.0, conditional: bool = True,
                 adversarial: bool = True, **choices) -> None:
        super().__init__(G, D, adversarial, **choices)
        check_weights(lam=lam)
        self.lam, self.conditional = lam, conditional

    def real(self, x: Any) -> Tensor:
        """Return a and b, joined, or b alone if not `conditional`."""
        return super().real(x) if self.conditional else x[1]

    def fake(self, x: Any, z: Any) -> Tensor:
        """Return a and G(a), joined, or G(a) alone if not `conditional`."""
        return super().fake(x, z) if self.conditional else self.generate(x[0])

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List lam L_L1; nothing if lam is 0."""
        output = fake[:, x[0].shape[1]:] if self.conditional else fake
        distance = abs(x[1] - output).mean()
        self.log("L1", distance)
        return [self.lam * distance] if self.lam else []
