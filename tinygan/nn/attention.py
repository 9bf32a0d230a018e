"""Self-attention between the pixels of an image (Zhang et al. 2019, SAGAN).

A convolution combines neighbouring pixels. Self-attention combines all pixels of an image in one
layer. How much each pixel counts for another is computed from the features of the two.
"""

from .. import ops, resampling
from ..numbers import check_whole, is_whole
from ..tensor import Tensor
from .init import zeros
from .layers import Conv2d
from .module import Module
from .spectral import spectral_norm


class SelfAttention2d(Module):
    """The self-attention of Zhang et al. 2019, section 3.

        s_ij = f(x_i)^T g(x_j),   beta_ji = exp(s_ij) / sum_i exp(s_ij)     (eq. 1)
        o_j = v(sum_i beta_ji h(x_i))                                       (eq. 2)
        y_j = gamma o_j + x_j                                               (eq. 3)

    (N, channels, H, W) -> the same shape. Pixel j of the output attends to each pixel i of the
    input with the weight beta_ji, and the weights of a j add up to 1. f, g, h and v are 1x1
    convolutions without biases, with spectral normalisation unless `normalised` is False. gamma is
    a parameter that begins at 0, so the layer begins as the identity.

    f and g have channels / 8 outputs. As in the published code, h has channels / 2, and f and h are
    reduced by max pooling of `pool` x `pool` pixels, so there are fewer i than j. In the paper's
    text h has channels / 8, and nothing is pooled, as with pool=1.

    Raises ValueError unless `channels` is a multiple of 8 and `pool` at least 1, and in forward for
    images smaller than `pool`.
    """

    def __init__(self, channels: int, pool: int = 2, normalised: bool = True) -> None:
        if not is_whole(channels, 8) or channels % 8:
            raise ValueError("SelfAttention2d computes with an eighth of the channels: give a "
                             f"multiple of 8, got {channels!r}")
        check_whole(pool, 1, "SelfAttention2d's pool")
        self.channels, self.pool = channels, pool
        norm = spectral_norm if normalised else lambda layer: layer
        self.f, self.g, self.h, self.v = (
            norm(Conv2d(c_in, c_out, 1, bias=False)) for c_in, c_out in
            [(channels, channels // 8), (channels, channels // 8), (channels, channels // 2),
             (channels // 2, channels)])
        self.gamma = Tensor(zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        h = _flatten(resampling.max_pool(self.h(x), self.pool))
        o = (h @ self.attend(x).T).reshape(len(x), self.channels // 2, *x.shape[2:])
        return self.gamma * self.v(o) + x

    def attend(self, x: Tensor) -> Tensor:
        """Return beta (N, H W, K): row j has the weights with which pixel j attends.

        The K columns are the pixels i after pooling, row by row. In training mode f and g make a
        power iteration, as in forward.
        """
        f = _flatten(resampling.max_pool(self.f(x), self.pool))
        return ops.softmax(_flatten(self.g(x)).T @ f)


def _flatten(x):
    """Return images (N, C, H, W) as (N, C, H W)."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
