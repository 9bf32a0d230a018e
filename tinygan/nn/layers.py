"""Layers with weights, and the functions between them."""

import math

from .. import backend, ops
from ..conv import conv2d, conv_transpose2d, kernel_pair, padding_pair, stride_pair
from ..tensor import Tensor, is_whole
from .init import glorot, initial, zeros
from .module import Module
from .spectral import weight_of


class Dense(Module):
    """x W^T + b. (m, n_in) -> (m, n_out); weight (n_out, n_in), bias (n_out,) or None."""

    outputs_first = 0, 1        # the weight's axes: that of the outputs, then those of the inputs

    def __init__(self, n_in, n_out, bias=True, init=glorot):
        self.n_in, self.n_out = n_in, n_out
        self.weight = Tensor(initial(init, (n_out, n_in), n_in, n_out))
        self.bias = Tensor(zeros(n_out)) if bias else None

    def forward(self, x):
        return ops.linear(x, weight_of(self), self.bias)


class Maxout(Module):
    """max_j (x W_j^T + b_j) over j = 1 ... pieces, elementwise (Goodfellow et al. 2013, section 3).

    (m, n_in) -> (m, n_out); weight (pieces * n_out, n_in), piece by piece.
    """

    def __init__(self, n_in, n_out, pieces, init=glorot):
        if pieces < 1:
            raise ValueError(f"Maxout is the largest of at least 1 pieces, got {pieces}")
        self.n_in, self.n_out, self.pieces = n_in, n_out, pieces
        self.weight = Tensor(initial(init, (pieces * n_out, n_in), n_in, n_out))
        self.bias = Tensor(zeros(pieces * n_out))

    def forward(self, x):
        return ops.linear(x, self.weight, self.bias).reshape(-1, self.pieces, self.n_out).max(1)


class Conv2d(Module):
    """Convolution, see conv.conv2d. (N, c_in, H, W) -> (N, c_out, OH, OW).

    `kernel`, `stride` and `padding` are numbers or (vertical, horizontal);
    weight (c_out, c_in, kh, kw), bias (c_out,) or None.
    """

    outputs_first = 0, 2, 3, 1      # the weight's axes: the outputs', the others as in memory

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0, bias=True, init=glorot):
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.kernel_first(
            initial(init, (c_out, c_in, *self.kernel), c_in * area, c_out * area)))
        self.bias = Tensor(zeros(c_out)) if bias else None

    def forward(self, x):
        return conv2d(x, weight_of(self), self.bias, self.stride, self.padding)


class ConvTranspose2d(Module):
    """Transposed convolution, see conv.conv_transpose2d. (N, c_in, H, W) -> (N, c_out, H', W') with
    H' = (H - 1) stride - 2 padding + kh + output_padding.

    weight (c_in, c_out, kh, kw): a convolution's that leads the other way; bias (c_out,) or None.
    """

    outputs_first = 1, 2, 3, 0

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0, output_padding=0, bias=True,
                 init=glorot):
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        self.output_padding = padding_pair(output_padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.kernel_first(
            initial(init, (c_in, c_out, *self.kernel), c_in * area, c_out * area)))
        self.bias = Tensor(zeros(c_out)) if bias else None

    def forward(self, x):
        return conv_transpose2d(x, weight_of(self), self.bias, self.stride, self.padding,
                                self.output_padding)


class ReLU(Module):
    def forward(self, x):
        return ops.relu(x)


class LeakyReLU(Module):
    def __init__(self, slope=0.2):
        self.slope = slope

    def forward(self, x):
        return ops.leaky_relu(x, self.slope)


class Tanh(Module):
    def forward(self, x):
        return ops.tanh(x)


class Sigmoid(Module):
    def forward(self, x):
        return ops.sigmoid(x)


class AvgPool2d(Module):
    """The mean of each size x size block, see ops.avg_pool."""

    def __init__(self, size):
        if not is_whole(size, 1):
            raise ValueError(f"AvgPool2d takes the side of a block, a whole number, got {size}")
        self.size = size

    def forward(self, x):
        return ops.avg_pool(x, self.size)


class Upsample(Module):
    """Each pixel becomes factor x factor pixels, see ops.upsample."""

    def __init__(self, factor=2):
        if not is_whole(factor, 1):
            raise ValueError(f"Upsample takes a whole number of at least 1, got {factor}")
        self.factor = factor

    def forward(self, x):
        return ops.upsample(x, self.factor)


class Flatten(Module):
    """(m, ...) -> (m, n)."""

    def forward(self, x):
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(Module):
    """(m, ...) -> (m, *shape): Reshape(64, 7, 7), without the batch. Raises ValueError for a shape
    that is not of whole numbers above 0, and in forward for samples of another size."""

    def __init__(self, *shape):
        if not all(is_whole(n, 1) for n in shape):
            raise ValueError("Reshape takes the sizes of a sample's axes, whole numbers above 0, "
                             f"such as Reshape(64, 7, 7), got {shape}")
        self.shape = shape

    def forward(self, x):
        if math.prod(x.shape[1:]) != math.prod(self.shape):
            raise ValueError(f"Reshape({', '.join(map(str, self.shape))}) needs samples of "
                             f"{math.prod(self.shape)} numbers, got a batch {x.shape}")
        return x.reshape(len(x), *self.shape)
