"""PacGAN: the power of two samples in generative adversarial networks (Lin et al. 2018)."""

from collections.abc import Sequence

from ..nn import Module
from .game import Game
from .losses import NonSaturating
from .views import Pack, View


class PacGAN(Game):
    """The GAN whose D decides on k samples at once: all real, or all generated (section 2).

        max_D E log D(x_1, ..., x_k) + E log(1 - D(G(z_1), ..., G(z_k)))

    k samples of a G that has lost modes are more alike than k real ones, and D sees it. Nothing
    else changes. D has k times the features or channels as its input, see views.Pack, and a
    minibatch of m samples is one of m / k packs. In the published code it is one of m packs, which
    are k times as many samples. The paper's symbol for k is m. Raises UserError for a k below 1,
    and in a step if m is no multiple of k.
    """

    loss = NonSaturating()

    def __init__(self, G: Module, D: Module, z_size: int = 100, k: int = 2,
                 views: Sequence[View] = (), **choices) -> None:
        super().__init__(G, D, z_size, views=[*views, Pack(k)], **choices)
