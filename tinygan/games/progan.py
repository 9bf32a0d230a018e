"""Progressive growing of GANs (Karras et al. 2018): ProGAN."""

from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..data import Split, as_floats
from ..networks.growing import Growing
from ..numbers import check_whole, is_whole
from ..resampling import avg_pool, upsample
from ..tensor import Tensor
from .checks import check_images, check_weights
from .wgan_gp import WGANGP


class ProGAN(WGANGP):
    """WGAN-GP with networks that grow: a stage of the training (section 2).

        L = E D(G(z)) - E D(x) + lam E (|dD/dx_hat|_2 - 1)^2 + drift E D(x)^2       (appendix A.1)

    L is the critic's loss. Without its last term, D's scores may drift away from zero.

    Each stage is a game with the same G and D, and has twice the resolution of the one before. In
    its first `fade` iterations the weight alpha of its new layers rises from 0 to 1 (figure 2). D
    sees data as a G of this resolution and this alpha can draw it. A stage has new optimisers, as
    in the published code, and a new average of G's weights; there the average goes on.

    G, D    networks of the class networks.growing.Growing; the game sets them to its stage
    stage   the number of the stage, from 0
    fade    the number of iterations in which alpha rises, at most those of the stage; in stage 0
            alpha is always 1

    Raises UserError for other networks, for a stage that they do not have, for a negative lam or
    drift, and if D has batch normalisation, and ValueError for a fade that is no number of
    iterations.
    """

    minibatch = ("images",)
    unused = "zeros"        # parameters of later stages, and of layers that have faded out

    def __init__(self, G: Growing, D: Growing, z_size: int = 64, stage: int = 0, fade: int = 400,
                 lam: float = 10.0, drift: float = 0.001, n_critic: int = 1, **choices) -> None:
        check_weights(drift=drift)
        check_whole(fade, 0, "the number of iterations in which layers are faded in")
        for network in (G, D):
            if not isinstance(network, Growing):
                raise UserError("ProGAN takes networks that grow, of the class "
                                f"networks.growing.Growing, got a {type(network).__name__}")
        if (G.shape, G.stages) != (D.shape, D.stages):
            raise UserError("G and D must be for the same images and have the same number of "
                            f"resolutions, but G is for {G.shape} and has {G.stages}, and D is for "
                            f"{D.shape} and has {D.stages}")
        if not is_whole(stage, 0) or stage >= G.stages:
            raise UserError(f"networks of {G.stages} resolutions have the stages 0 to "
                            f"{G.stages - 1}, got {stage!r}")
        G.stage = D.stage = stage
        self.stage, self.fade, self.drift = stage, fade, float(drift)
        super().__init__(G, D, z_size, lam, n_critic, **choices)
        self.begin(0)

    def begin(self, i: int) -> None:
        """Set alpha to its value in iteration i."""
        for network in (self.G, self.D):
            network.alpha[...] = min(i / self.fade, 1.0) if self.stage and self.fade else 1.0

    def generate(self, z: Tensor) -> Tensor:
        """Return G(z). Raises UserError if another game has set G to its stage."""
        if self.G.stage != self.stage:
            raise UserError(f"G is at stage {self.G.stage} since a game of this stage was made of "
                            f"it: make the game of stage {self.stage} again to go back to it")
        return self.G(z)

    def real(self, x: Tensor) -> Tensor:
        """Return (1 - alpha) x at the resolution before + alpha x at the present one."""
        new = pixelate(x, self.D.block)
        return self.D.blend(pixelate(x, 2 * self.D.block), new) if self.stage else new

    def d_terms(self, x: Tensor, z: Tensor, fake: Tensor, out_real: Tensor,
                out_fake: Tensor) -> list[Tensor]:
        """Return [drift E D(x)^2]."""
        return [self.drift * (out_real ** 2).mean()]

    def check_minibatch(self, x: Any) -> None:
        """Raise UserError unless the minibatch has images in [0, 1] of the shape that G draws."""
        super().check_minibatch(x)
        check_images(x, self.G.shape)

    def reference_images(self, split: Split) -> Array:
        """Return the split's images, as floats, at the resolution of the stage."""
        images = Tensor(backend.xp.asarray(as_floats(split.images)))
        return backend.to_numpy(pixelate(images, self.D.block).data)


def pixelate(x: Tensor, block: int) -> Tensor:
    """Return images (N, C, H, W) whose blocks of block x block pixels have their mean."""
    return upsample(avg_pool(x, block), block)
