"""Weights computed from other parameters: weight normalisation, equalised learning rates."""

import math

from .. import ops
from ..numbers import is_number
from ..random import rng
from ..tensor import Tensor
from .module import Module


def weight_norm(layer: Module, learn_norms: bool = True) -> Module:
    """Make a layer compute with w = g v / |v| for each output, and return the layer.

    This is eq. 2 of Salimans and Kingma 2016: |w| is g, whatever v is. `layer` is one that
    spectral_norm takes too. A forward() of your own takes the weight from effective_weight(self).

    The gradient of v is orthogonal to v. So gradient descent makes v longer with each step, and
    steps of one size turn it less and less (section 2.1).

    As in PyTorch's weight_norm, the weight becomes the parameters weight_v, which is v, and
    weight_g, which is g, with the weight's number of axes and size 1 in all but that of the
    outputs. (That axis is 1 in ConvTranspose2d; PyTorch's needs dim=1 there.) At first g is |v|, so
    the layer computes as before. With learn_norms=False, g is a buffer, which is not trained. An
    output whose weights are all 0 becomes NaN.

    Raises TypeError for another layer, for one under spectral_norm, and for one that is under
    weight_norm with the other learn_norms.
    """
    check_layer(layer, "weight_norm")
    if hasattr(layer, "weight_g"):          # it is normalised already
        if (type(layer.weight_g) is Tensor) != learn_norms:
            raise TypeError(f"this {type(layer).__name__} is under weight_norm already, with "
                            f"learn_norms={not learn_norms}: call weight_norm once")
        return layer
    layer._changes += ((weight_norm, {"learn_norms": learn_norms}),)
    vars(layer)["weight_v"] = vars(layer).pop("weight")
    g = _norms(layer).data
    layer.weight_g = Tensor(g) if learn_norms else g
    return layer


def check_layer(layer: Module, norm: str) -> None:
    """Raise TypeError for a layer whose weight `norm`, the name of a function, cannot normalise."""
    if not hasattr(layer, "outputs_first"):
        raise TypeError(f"{norm} takes a Dense, Conv2d, ConvTranspose2d or Embedding layer, or one "
                        "whose class sets outputs_first = 0, 1 for a weight (n_out, n_in), got "
                        f"{type(layer).__name__}")
    for other, array in (("spectral_norm", "weight_u"), ("weight_norm", "weight_g"),
                         ("equalise", "weight_raw")):
        if other != norm and hasattr(layer, array):
            raise TypeError(f"this {type(layer).__name__} is under {other}: choose one of the two")


def normalised_weight(layer: Module) -> Tensor:
    """Return the weight g v / |v| of a layer under weight_norm."""
    return layer.weight_v * (_norms(layer) ** -1 * layer.weight_g)


def _norms(layer):
    """Return |v| for each output, with the number of axes of the weight."""
    return ops.norm(layer.weight_v, layer.outputs_first[1:], keepdims=True)


def equalise(layer: Module, gain: float = math.sqrt(2), lr_multiplier: float = 1.0) -> Module:
    """Give a layer an equalised learning rate, and return the layer.

        w_hat = c w,  c = lr_multiplier gain / sqrt(fan_in),  w ~ N(0, 1 / lr_multiplier^2)

    This is section 4.1 of Karras et al. 2018, which has w / c; the published code has c w. w is the
    parameter, w_hat what the layer computes with, and fan_in the number of weights of an output. So
    w_hat begins as N(0, gain^2 / fan_in). It replaces the initial weights that the layer has.

    A step of Adam does not depend on the scale of the gradient, so each w changes by about the
    learning rate. Then w_hat changes in proportion to its own size, in all layers alike. With an
    lr_multiplier this change is so many times as large, and the bias learns so many times as fast
    (Karras et al. 2019, appendix C).

    `layer` is one that spectral_norm takes too. w becomes the parameter weight_raw. A forward() of
    your own takes weight and bias from effective_weight(self) and effective_bias(self); self.bias
    is the bias before the lr_multiplier. Raises TypeError for another layer, for one under
    spectral_norm or weight_norm, and for one that is equalised with other numbers, and ValueError
    for numbers that are not above 0.
    """
    check_layer(layer, "equalise")
    for name, number in ("gain", gain), ("lr_multiplier", lr_multiplier):
        if not is_number(number, 0) or not number:
            raise ValueError(f"the {name} of equalise is a number above 0, got {number!r}")
    change = equalise, {"gain": gain, "lr_multiplier": lr_multiplier}
    if hasattr(layer, "weight_raw"):
        if change not in layer._changes:
            raise TypeError(f"this {type(layer).__name__} is equalised already, with another gain "
                            "or lr_multiplier: call equalise once")
        return layer
    layer._changes += (change,)
    weight = vars(layer).pop("weight")
    fan_in = weight.size // weight.shape[layer.outputs_first[0]]
    weight.data[...] = rng.normal(weight.shape) / lr_multiplier
    weight.touch()
    vars(layer)["weight_raw"] = weight
    layer.weight_scale = gain / math.sqrt(fan_in) * lr_multiplier
    layer.bias_scale = lr_multiplier
    return layer


def effective_bias(layer: Module) -> Tensor | None:
    """Return the bias that a layer computes with, after equalise, or None without one."""
    bias, scale = getattr(layer, "bias", None), vars(layer).get("bias_scale", 1.0)
    return bias if bias is None or scale == 1 else bias * scale
