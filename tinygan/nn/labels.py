"""Layers that take labels beside their input: embeddings, joined labels, conditional batch norm.

Labels are an array (m,) of whole numbers from 0 to classes - 1. A layer with the attribute
`conditional` is called as layer(x, labels); Sequential passes labels on to such layers.
"""

from collections.abc import Callable

from .. import ops
from ..backend import Array
from ..channels import scale
from ..tensor import Tensor, broadcast_to
from .init import constant, make_weights, normal
from .module import Module
from .norm import BatchNorm
from .spectral import effective_weight


def one_hot(labels: Array, classes: int, dtype: str = "float32") -> Tensor:
    """Return labels (m,) as rows (m, classes) with a 1 at the label and 0 elsewhere.

    Raises UserError for other labels, as ops.mark_labels does.
    """
    return Tensor(ops.mark_labels(labels, classes).astype(dtype))


class Embedding(Module):
    """A vector of n numbers for each class: labels (m,) -> (m, n); weight (classes, n)."""

    outputs_first = 0, 1        # spectral_norm treats the weight as a matrix (classes, n)

    def __init__(self, classes: int, n: int, init: Callable = normal(1.0)) -> None:
        self.classes, self.n = classes, n
        self.weight = Tensor(make_weights(init, (classes, n), classes, n))

    def forward(self, labels: Array) -> Tensor:
        weight = effective_weight(self)
        return one_hot(labels, self.classes, weight.dtype) @ weight


class JoinLabels(Module):
    """The input joined with the labels' one-hot codes as further features or channels.

    (m, n) -> (m, n + classes); (N, C, H, W) -> (N, C + classes, H, W), where each number of the
    code fills a plane.
    """

    conditional = True

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def forward(self, x: Tensor, labels: Array) -> Tensor:
        code = one_hot(labels, self.classes, x.dtype)
        if x.ndim == 4:
            code = broadcast_to(code.reshape(*code.shape, 1, 1), (*code.shape, *x.shape[2:]))
        return ops.concat([x, code], 1)


class Branches(Module):
    """Two networks, for the input and for the labels' one-hot codes, with joined outputs.

    samples maps (m, n) to (m, a), labels maps the codes (m, classes) to (m, b); the result is
    (m, a + b).
    """

    conditional = True

    def __init__(self, classes: int, samples: Module, labels: Module) -> None:
        self.classes, self.samples, self.labels = classes, samples, labels

    def forward(self, x: Tensor, labels: Array) -> Tensor:
        code = one_hot(labels, self.classes, x.dtype)
        return ops.concat([self.samples(x), self.labels(code)], 1)


class ConditionalBatchNorm(Module):
    """Batch normalisation with a gain and a shift for each class.

    The layer is that of Miyato and Koyama 2018, after Dumoulin et al. 2017, A learned
    representation for artistic style. (De Vries et al. 2017 compute gain and shift from a text.)

        (x - mean) / sqrt(var + eps) * weight[label] + bias[label], for each channel

    x is (m, n) or (N, n, H, W), and so is the result; weight and bias are (classes, n). Mean,
    variance and running averages are those of BatchNorm, over all classes.
    """

    conditional = True

    def __init__(self, n: int, classes: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.n, self.classes = n, classes
        self.norm = BatchNorm(n, eps, momentum, affine=False)
        self.weight = Embedding(classes, n, init=constant(1.0))
        self.bias = Embedding(classes, n, init=constant(0.0))

    def forward(self, x: Tensor, labels: Array) -> Tensor:
        return scale(self.norm(x), self.weight(labels), self.bias(labels))
