"""Normalisation over the batch and over a sample."""

from .. import backend, ops
from ..backend import UserError
from ..tensor import Tensor
from .init import zeros
from .module import Module


class BatchNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, per channel (Ioffe and Szegedy 2015, Alg. 1).

    In training, mean and variance are the batch's, over all axes but the channels', and the running
    averages move towards them by the fraction `momentum` (towards the unbiased variance, as in
    Alg. 2); in evaluation the running averages stand in, so that no image depends on its
    neighbours. (m, n) or (N, n, H, W), shape kept. Raises ValueError in training where a channel
    has one value.
    """

    def __init__(self, n, eps=1e-5, momentum=0.1):
        self.n, self.eps, self.momentum = n, eps, momentum
        self.weight = Tensor(zeros(n) + 1.0)
        self.bias = Tensor(zeros(n))
        self.running_mean = zeros(n)
        self.running_var = zeros(n) + 1.0

    def forward(self, x):
        if x.ndim not in (2, 4) or x.shape[1] != self.n:
            raise ValueError(f"BatchNorm({self.n}) needs (m, {self.n}) or (N, {self.n}, H, W), "
                             f"got {x.shape}")
        if not self.training:
            r = (self.running_var + self.eps) ** -0.5
            return ops.scale(x, self.weight * r, self.bias - self.weight * (self.running_mean * r))
        count = x.size // self.n
        if count < 2:
            raise UserError(f"BatchNorm in training needs more than one value for each channel, "
                             f"got {x.shape}: use a larger batch, or evaluation")
        centred, mean = ops.centre(x)
        var = ops.channel_sum(centred, centred) * (1 / count)
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var.data * (count / (count - 1)) - self.running_var)
        return ops.scale(centred, self.weight * (var + self.eps) ** -0.5, self.bias)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, for each sample, over its last axes, of `shape`
    (Ba et al. 2016, eq. 3). Weight and bias have that shape."""

    def __init__(self, shape, eps=1e-5):
        self.shape, self.eps = (shape,) if isinstance(shape, int) else tuple(shape), eps
        self.weight = Tensor(zeros(self.shape) + 1.0)
        self.bias = Tensor(zeros(self.shape))

    def forward(self, x):
        if x.shape[-len(self.shape):] != self.shape:
            raise ValueError(f"LayerNorm({self.shape}) needs an input whose last axes are "
                             f"{self.shape}, got {x.shape}")
        axes = tuple(range(-len(self.shape), 0))
        centred = x - x.mean(axes, keepdims=True)
        var = (centred * centred).mean(axes, keepdims=True)
        return centred / ops.sqrt(var + self.eps) * self.weight + self.bias
