"""Layers that compare the samples of a minibatch, so that D can see that G's are alike."""

from collections.abc import Callable

from .. import ops
from ..backend import UserError
from ..numbers import is_whole
from ..tensor import Tensor, broadcast_to
from .init import make_weights, normal
from .module import Module


class MinibatchDiscrimination(Module):
    """Each sample joined with its closeness to the others (Salimans et al. 2016, section 3.2).

        M_i = f(x_i) T,  c_b(x_i, x_j) = exp(-|M_i,b - M_j,b|_1),
        o(x_i)_b = 1/(m - 1) sum_{j != i} c_b(x_i, x_j)

    (m, n) -> (m, n + kernels), the features f(x_i) and then o(x_i); weight (n, kernels * dims), the
    paper's tensor T. Real and generated samples are in minibatches of their own.

    The paper's sum also has j = i, whose term is always 1, and no factor 1/(m - 1). With the factor
    o(x_i) lies between 0 and 1 for any m, so that it does not outweigh f(x_i) at the beginning. The
    published code has the sum without j = i, normalises T's columns, and scales T and shifts o by
    what it finds in the first minibatch.
    """

    def __init__(self, n: int, kernels: int = 100, dims: int = 5,
                 init: Callable = normal(0.05)) -> None:
        self.n, self.kernels, self.dims = n, kernels, dims
        self.weight = Tensor(make_weights(init, (n, kernels * dims), n, kernels * dims))

    def forward(self, x: Tensor) -> Tensor:
        M = (x @ self.weight).reshape(len(x), 1, self.kernels, self.dims)
        distances = abs(M - M.reshape(1, len(x), self.kernels, self.dims)).sum(3)
        o = (ops.exp(-distances).sum(1) - 1) * (1 / max(len(x) - 1, 1))
        return ops.concat([x, o], 1)


class MinibatchStddev(Module):
    """Each sample joined with the standard deviation of its group (Karras et al. 2018, section 3).

    The standard deviation over the samples of a group is computed for each feature and pixel, and
    its mean is one number for the group, which fills a further feature or channel:
    (m, n) -> (m, n + 1), (N, C, H, W) -> (N, C + 1, H, W).

    group   the number of samples in a group, or None for the whole minibatch. The samples i, i +
            m/group, i + 2 m/group ... are a group, as in the published code

    Raises UserError for a group below 2, and in forward for a minibatch that cannot be divided.
    """

    def __init__(self, group: int | None = None, eps: float = 1e-8) -> None:
        if group is not None and not is_whole(group, 2):
            raise UserError(f"a group has at least 2 samples, got {group!r}")
        self.group, self.eps = group, eps

    def forward(self, x: Tensor) -> Tensor:
        size = self.group or len(x)
        if x.ndim < 2:
            raise UserError(f"MinibatchStddev takes (m, n) or (N, C, H, W), got {x.shape}")
        if size < 2:
            raise UserError(f"a minibatch of {len(x)} has no two samples to compare: choose a "
                            "batch size of at least 2")
        if len(x) % size:
            raise UserError(f"a minibatch of {len(x)} cannot be divided into groups of {size}: "
                            "choose a batch size that is a multiple of it")
        groups = x.reshape(size, len(x) // size, -1)
        centred = groups - groups.mean(0)
        stddev = ops.sqrt((centred * centred).mean(0) + self.eps).mean(1)      # one for each group
        feature = broadcast_to(stddev.reshape(1, -1, *[1] * (x.ndim - 1)),
                               (size, len(x) // size, 1, *x.shape[2:]))
        return ops.concat([x, feature.reshape(len(x), 1, *x.shape[2:])], 1)
