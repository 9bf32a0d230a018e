"""Layers with weights, activations, pooling and reshaping."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend, ops, resampling
from ..conv import Pair, conv2d, conv_transpose2d, kernel_pair, padding_pair, stride_pair
from ..numbers import check_whole, is_whole
from ..tensor import Tensor
from .init import glorot, make_weights, zeros
from .module import Composite, Module, call_part
from .spectral import effective_weight
from .weights import effective_bias


class Dense(Module):
    """The affine map x W^T + b, also called a fully connected layer.

    (m, n_in) -> (m, n_out); weight (n_out, n_in), bias (n_out,) or None.
    """

    outputs_first = 0, 1        # the order of the weight's axes that puts the outputs first

    def __init__(self, n_in: int, n_out: int, bias: bool = True, init: Callable = glorot) -> None:
        self.n_in, self.n_out = n_in, n_out
        self.weight = Tensor(backend.to_inputs_first(
            make_weights(init, (n_out, n_in), n_in, n_out)))
        self.bias = _make_bias(bias, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, effective_weight(self), effective_bias(self))


def _make_bias(bias, n):
    """Return a bias of n zeros, or None without one."""
    if not isinstance(bias, (bool, np.bool_)):
        raise TypeError(f"a layer's bias is True or False, got {bias!r:.60}")
    return Tensor(zeros(n)) if bias else None


class Maxout(Module):
    """The elementwise maximum of several affine maps (Goodfellow et al. 2013, section 3).

        max_j (x W_j^T + b_j),  j = 1 ... pieces

    (m, n_in) -> (m, n_out); weight (pieces * n_out, n_in), the rows of piece 1 first. Raises
    ValueError for fewer than one piece.
    """

    def __init__(self, n_in: int, n_out: int, pieces: int, init: Callable = glorot) -> None:
        check_whole(pieces, 1, "the number of Maxout's pieces")
        self.n_in, self.n_out, self.pieces = n_in, n_out, pieces
        self.weight = Tensor(backend.to_inputs_first(
            make_weights(init, (pieces * n_out, n_in), n_in, n_out)))
        self.bias = Tensor(zeros(pieces * n_out))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias).reshape(-1, self.pieces, self.n_out).max(1)


class Conv2d(Module):
    """A convolutional layer; conv.conv2d has the equation.

    (N, c_in, H, W) -> (N, c_out, OH, OW); weight (c_out, c_in, kh, kw), bias (c_out,) or None.
    `kernel`, `stride` and `padding` are numbers or pairs (vertical, horizontal).
    """

    outputs_first = 0, 2, 3, 1      # outputs first, then the others in memory order

    def __init__(self, c_in: int, c_out: int, kernel: Pair, stride: Pair = 1, padding: Pair = 0,
                 bias: bool = True, init: Callable = glorot) -> None:
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.to_kernel_first(
            make_weights(init, (c_out, c_in, *self.kernel), c_in * area, c_out * area)))
        self.bias = _make_bias(bias, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, effective_weight(self), effective_bias(self), self.stride, self.padding)


class ConvTranspose2d(Module):
    """A transposed convolutional layer; conv.conv_transpose2d has the equation.

    (N, c_in, H, W) -> (N, c_out, H', W'), H' = (H - 1) stride - 2 padding + kh + output_padding;
    weight (c_in, c_out, kh, kw), the weight of a convolution from c_out to c_in channels;
    bias (c_out,) or None.
    """

    outputs_first = 1, 2, 3, 0

    def __init__(self, c_in: int, c_out: int, kernel: Pair, stride: Pair = 1, padding: Pair = 0,
                 output_padding: Pair = 0, bias: bool = True, init: Callable = glorot) -> None:
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        self.output_padding = padding_pair(output_padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.to_kernel_first(
            make_weights(init, (c_in, c_out, *self.kernel), c_in * area, c_out * area)))
        self.bias = _make_bias(bias, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return conv_transpose2d(x, effective_weight(self), effective_bias(self), self.stride,
                                self.padding, self.output_padding)


class ReLU(Module):
    """max(x, 0), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """max(x, slope x), elementwise. Raises ValueError for a slope outside [0, 1]."""

    def __init__(self, slope: float = 0.2) -> None:
        self.slope = ops.check_slope(slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class AvgPool2d(Module):
    """The mean of each size x size block of pixels, see resampling.avg_pool.

    Raises ValueError unless `size` is a whole number of at least 1.
    """

    def __init__(self, size: int) -> None:
        check_whole(size, 1, "AvgPool2d's size, the side of a block,")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return resampling.avg_pool(x, self.size)


class MaxPool2d(Module):
    """The maximum of each size x size block of pixels, see resampling.max_pool.

    As in AvgPool2d, the blocks lie side by side: the stride is `size`, and there is no padding.
    Raises ValueError unless `size` is a whole number of at least 1.
    """

    def __init__(self, size: int) -> None:
        check_whole(size, 1, "MaxPool2d's size, the side of a block,")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return resampling.max_pool(x, self.size)


class Upsample(Module):
    """Enlargement by a whole number `factor`: (N, C, H, W) -> (N, C, factor H, factor W).

    The mode is "nearest", for nearest-neighbour interpolation, or "bilinear", see resampling.py.
    Raises ValueError unless `factor` is a whole number of at least 1, and for another mode.
    """

    def __init__(self, factor: int = 2, mode: str = "nearest") -> None:
        check_whole(factor, 1, "Upsample's factor")
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f'Upsample\'s mode is "nearest" or "bilinear", got {mode!r}')
        self.factor, self.mode = factor, mode

    def forward(self, x: Tensor) -> Tensor:
        matrix = resampling.nearest if self.mode == "nearest" else resampling.bilinear
        return resampling.upsample(x, self.factor, matrix)


class ReflectionPad2d(Module):
    """Images with their mirror images around them, `width` pixels on each side.

    (N, C, H, W) -> (N, C, H + 2 width, W + 2 width); the edge pixels are not repeated. Raises
    ValueError unless the width is a whole number of at least 0.
    """

    def __init__(self, width: int) -> None:
        check_whole(width, 0, "ReflectionPad2d's width")
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return resampling.reflection_pad(x, self.width)


class Flatten(Module):
    """A reshape of each sample to one axis: (m, ...) -> (m, n)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(Module):
    """A reshape of each sample: Reshape(64, 7, 7) maps (m, 3136) to (m, 64, 7, 7).

    Raises ValueError for a shape that is not whole numbers above 0, and in forward for samples with
    another number of elements.
    """

    def __init__(self, *shape: int) -> None:
        if not all(is_whole(n, 1) for n in shape):
            raise ValueError("Reshape takes the sizes of a sample's axes, whole numbers above 0, "
                             f"such as Reshape(64, 7, 7), got {shape}")
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        if math.prod(x.shape[1:]) != math.prod(self.shape):
            raise ValueError(f"Reshape({', '.join(map(str, self.shape))}) needs samples of "
                             f"{math.prod(self.shape)} numbers, got a batch {x.shape}")
        return x.reshape(len(x), *self.shape)


class Join(Module):
    """Two inputs joined as features or channels: (m, n, ...) and (m, k, ...) -> (m, n + k, ...).

    In a Sequential it joins the second input of the Sequential to its own, for example a code
    (m, k) to the features of an image.
    """

    conditional = True      # Sequential gives it the second input

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return ops.concat([x, other], 1)


class Skip(Composite):
    """A skip connection: the output of `inner` joined with its input, concat(inner(x), x).

    (m, n, ...) -> (m, k + n, ...), for an inner that maps (m, n, ...) to (m, k, ...).
    """

    def __init__(self, inner: Module) -> None:
        self.inner = inner

    def forward(self, x: Tensor, *conditions: Any) -> Tensor:
        self.refuse_unused(conditions)
        return ops.concat([call_part(self.inner, x, conditions), x], 1)


class Residual(Composite):
    """A residual block: shortcut(x) + inner(x) (He et al. 2016, eq. 1-2).

    Without a shortcut, inner keeps the shape of x. Raises ValueError in forward if the shapes of
    the two terms differ.
    """

    def __init__(self, inner: Module, shortcut: Module | None = None) -> None:
        self.inner, self.shortcut = inner, shortcut

    def forward(self, x: Tensor, *conditions: Any) -> Tensor:
        self.refuse_unused(conditions)
        short = x if self.shortcut is None else call_part(self.shortcut, x, conditions)
        y = call_part(self.inner, x, conditions)
        if y.shape != short.shape:
            raise ValueError(f"a residual block adds outputs of one shape, got {short.shape} by "
                             f"the shortcut and {y.shape} by inner: give a shortcut that maps x to "
                             "inner's shape")
        return short + y
