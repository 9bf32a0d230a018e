"""Normalisation: by the batch, by the image, by the sample."""

from .. import backend
from ..backend import UserError
from ..channels import affine_power, centre, channel_sum, scale
from ..numbers import is_number
from ..tensor import Tensor
from .init import zeros
from .module import Module


class BatchNorm(Module):
    """Batch normalisation of n channels (Ioffe and Szegedy 2015, Alg. 1).

        (x - mean) / sqrt(var + eps) * weight + bias, for each channel

    x is (m, n) or (N, n, H, W), and so is the result. In training mode, mean and variance are those
    of the batch, over all axes but the channels'. The running averages then move the fraction
    `momentum` of the way to the batch's mean and unbiased variance (Alg. 2). In evaluation mode the
    running averages are used, so the output for one image does not depend on the other images.

    With affine=False there are no weight and no bias. With track_running_stats=False there are no
    running averages, and the batch's mean and variance are used in evaluation mode too. Raises
    UserError for a batch with one value per channel if its mean and variance are used, and
    ValueError for other shapes, a negative eps and a momentum outside [0, 1].
    """

    def __init__(self, n: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True,
                 track_running_stats: bool = True) -> None:
        check_eps(eps)
        if not is_number(momentum, 0) or momentum > 1:
            raise ValueError(f"BatchNorm needs a momentum from 0 to 1, got {momentum!r}")
        self.n, self.eps, self.momentum = n, float(eps), float(momentum)
        self.weight = Tensor(zeros(n) + 1.0) if affine else None
        self.bias = Tensor(zeros(n)) if affine else None
        self.running_mean = zeros(n) if track_running_stats else None
        self.running_var = zeros(n) + 1.0 if track_running_stats else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (2, 4) or x.shape[1] != self.n:
            raise ValueError(f"BatchNorm({self.n}) needs (m, {self.n}) or (N, {self.n}, H, W), "
                             f"got {x.shape}")
        tracked = self.running_mean is not None
        if tracked and not self.training:
            r = (self.running_var + self.eps) ** -0.5       # one scale and shift of x, below
            if self.weight is None:
                return scale(x, r, -self.running_mean * r)
            return scale(x, self.weight * r, self.bias - self.weight * (self.running_mean * r))
        count = x.size // self.n
        if count < 2:
            raise UserError("BatchNorm by the batch needs more than one value for each channel, "
                            f"got {x.shape}: use a larger batch"
                            + (", or evaluation mode" if tracked else ""))
        # the lines of Algorithm 1: mean, variance, normalise, scale and shift
        centred, total = centre(x)                                  # x - mean, count * mean
        squares = channel_sum(centred, centred)                     # count * variance
        if tracked:
            backend.move_average(total, 1 / count, self.momentum, self.running_mean)
            backend.move_average(squares.data, 1 / (count - 1), self.momentum, self.running_var)
        r = affine_power(squares, 1 / count, self.eps, -0.5)        # 1 / sqrt(variance + eps)
        return scale(centred, r if self.weight is None else self.weight * r, self.bias)


class InstanceNorm2d(Module):
    """Instance normalisation of each channel of each image (Ulyanov et al. 2016, eq. 3).

        (x - mean) / sqrt(var + eps) * weight + bias

    x is (N, n, H, W), and so is the result; mean and variance are those over H and W, in training
    and in evaluation mode. So a channel that is constant becomes 0, but for the rounding error of
    its mean, which is divided by sqrt(eps). With affine=True there are a weight and a bias (n,).
    Raises UserError for images of one pixel, which would all become 0, and ValueError for other
    shapes and for a negative eps.
    """

    def __init__(self, n: int, eps: float = 1e-5, affine: bool = False) -> None:
        check_eps(eps)
        self.n, self.eps = n, float(eps)
        self.weight = Tensor(zeros(n) + 1.0) if affine else None
        self.bias = Tensor(zeros(n)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.n:
            raise ValueError(f"InstanceNorm2d({self.n}) needs images (N, {self.n}, H, W), "
                             f"got {x.shape}")
        y = scale(*normalise_each(x, self.eps))
        return y if self.weight is None else scale(y, self.weight, self.bias)


def normalise_each(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x - mean (N, n, H, W) and 1 / sqrt(var + eps) (N, n), for each channel of each image.

    Raises UserError for images of one pixel.
    """
    count = x.shape[2] * x.shape[3]
    if count == 1:
        raise UserError("instance normalisation needs images of more than one pixel, because one "
                        f"pixel minus its mean is 0, got {x.shape}: leave the layer out here")
    centred, _ = centre(x, each=True)           # each: over each sample alone
    squares = channel_sum(centred, centred, each=True)
    return centred, affine_power(squares, 1 / count, eps, -0.5)


class LayerNorm(Module):
    """Layer normalisation of each sample over its last axes (Ba et al. 2016, eq. 3).

        (x - mean) / sqrt(var + eps) * weight + bias

    `shape` is the shape of these axes; weight and bias have it too. x is (..., *shape), and so is
    the result. Raises ValueError for other shapes and for a negative eps.
    """

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        check_eps(eps)
        self.shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        self.eps = float(eps)
        weight, bias = zeros(*self.shape) + 1.0, zeros(*self.shape)
        if len(self.shape) == 3:        # images: channels last in memory, see im2col.py
            weight, bias = (backend.to_channels_last(v[None])[0] for v in (weight, bias))
        self.weight, self.bias = Tensor(weight), Tensor(bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-len(self.shape):] != self.shape:
            raise ValueError(f"LayerNorm({self.shape}) needs an input whose last axes are "
                             f"{self.shape}, got {x.shape}")
        axes = tuple(range(-len(self.shape), 0))
        centred = x - x.mean(axes, keepdims=True)
        var = (centred * centred).mean(axes, keepdims=True)
        r = affine_power(var, 1.0, self.eps, -0.5)      # 1 / sqrt(var + eps)
        return centred * r * self.weight + self.bias


def check_eps(eps: float) -> None:
    """Raise ValueError unless eps, which is added to a variance, is a number of at least 0."""
    if not is_number(eps, 0):
        raise ValueError(f"the eps of a normalisation is a number of at least 0, got {eps!r}")
