"""Spatially-adaptive normalisation: layers that take a map of classes beside their input."""

from .. import ops
from ..resampling import resize
from ..tensor import Tensor
from .layers import Conv2d
from .module import Module
from .norm import InstanceNorm2d


class SPADE(Module):
    """A normalisation whose gain and shift depend on the place (Park et al. 2019, eq. 1-3).

        norm(x) (1 + gamma(a)) + beta(a)

    The 1 is that of the published code; eq. 1 has gamma(a) alone. x is (N, n, H, W), and so is the
    result; a (N, classes, H', W') are planes, which are resized to H x W by their nearest pixels.
    gamma and beta are two convolutions that share a first one with `hidden` channels. `norm` has no
    weights of its own: BatchNorm(n, affine=False) is that of the equations, and InstanceNorm2d(n)
    the default. Raises ValueError unless there is one map for each x.
    """

    conditional = True

    def __init__(self, n: int, classes: int, hidden: int = 128, norm: Module | None = None) -> None:
        self.norm = InstanceNorm2d(n) if norm is None else norm
        self.shared = Conv2d(classes, hidden, 3, padding=1)
        self.gamma, self.beta = (Conv2d(hidden, n, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        if len(a) != len(x):
            raise ValueError(f"SPADE needs one map for each of {len(x)} images, got {len(a)}")
        hidden = ops.relu(self.shared(resize(a, x.shape[2:])))
        return self.norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


class JoinMap(Module):
    """The input joined with a map: (N, n, H, W) and (N, k, H', W') -> (N, n + k, H, W).

    The map is resized to H x W by its nearest pixels.
    """

    conditional = True

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        return ops.concat([x, resize(a, x.shape[2:])], 1)
