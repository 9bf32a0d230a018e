"""Layers of style-based generators (Karras et al. 2019): styles, noise, a learned input."""

from .. import backend
from ..channels import affine_power, scale
from ..conv import conv2d
from ..tensor import Tensor, broadcast_to
from .init import make_weights, normal, zeros
from .layers import Dense
from .module import Module
from .noise import current_random
from .norm import check_eps, normalise_each
from .weights import equalise


class PixelNorm(Module):
    """Each pixel's vector of features divided by its root mean square (Karras et al. 2018).

        x / sqrt(1/n sum_j x_j^2 + eps), the sum over the n features or channels  (section 4.2)

    (m, n) or (N, n, H, W), and so is the result. Raises ValueError for a negative eps.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        check_eps(eps)
        self.eps = float(eps)

    def forward(self, x: Tensor) -> Tensor:
        return x * affine_power((x * x).mean(1, keepdims=True), 1.0, self.eps, -0.5)


class AdaIN(Module):
    """Adaptive instance normalisation by a style (Karras et al. 2019, eq. 1).

        y_s (x - mean) / sqrt(var + eps) + y_b,  (y_s - 1, y_b) = A(w)

    x is (N, n, H, W), and so is the result; mean and variance are those of each channel of each
    image. w is (N, w_size). A, the attribute `style`, is a learned affine map with an equalised
    learning rate. Raises UserError for images of one pixel, and ValueError unless there is a w for
    each image, and for a negative eps.
    """

    conditional = True      # Sequential gives it the second input, w

    def __init__(self, n: int, w_size: int, eps: float = 1e-8) -> None:
        check_eps(eps)
        self.n, self.eps = n, float(eps)
        self.style = equalise(Dense(w_size, 2 * n), gain=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.n or len(w) != len(x):
            raise ValueError(f"AdaIN({self.n}) needs images (N, {self.n}, H, W) and a style for "
                             f"each, got {x.shape} and {w.shape}")
        y = self.style(w)
        centred, r = normalise_each(x, self.eps)
        return scale(centred, r * (1 + y[:, :self.n]), y[:, self.n:])


class AddNoise(Module):
    """Images plus noise, which each channel weights by a number of its own.

        x + B e,  e ~ N(0, 1) for each pixel of each image      (Karras et al. 2019, section 2)

    x is (N, n, H, W), and so is the result. All channels of a pixel have the same noise e. B is the
    parameter weight (n,), which begins with 0. Noise is added in evaluation mode too; Game.sample
    draws the same noise for the same input. Raises ValueError for other shapes.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.weight = Tensor(zeros(n))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.n:
            raise ValueError(f"AddNoise({self.n}) needs images (N, {self.n}, H, W), got {x.shape}")
        noise = current_random().normal((len(x), 1, *x.shape[2:])).astype(x.dtype, copy=False)
        # as a convolution of one pixel, B e has the memory layout of x
        return x + conv2d(Tensor(noise), self.weight.reshape(self.n, 1, 1, 1))


class LearnedInput(Module):
    """The same learned image for each sample, with which a style-based generator begins.

    (m, ...) -> (m, n, height, width); of its input only the number m matters. The parameter weight
    (n, height, width) is drawn from N(0, 1), as in Karras et al. 2020; in Karras et al. 2019 it
    begins with 1.
    """

    def __init__(self, n: int, height: int, width: int) -> None:
        self.shape = n, height, width
        weight = make_weights(normal(1.0), self.shape, 1, 1)
        self.weight = Tensor(backend.to_channels_last(weight[None])[0])

    def forward(self, x: Tensor) -> Tensor:
        return broadcast_to(self.weight, (len(x), *self.shape))
