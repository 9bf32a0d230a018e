"""Weight normalisation (Salimans and Kingma 2016)."""

from .. import ops
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
    for other, array in ("spectral_norm", "weight_u"), ("weight_norm", "weight_g"):
        if other != norm and hasattr(layer, array):
            raise TypeError(f"this {type(layer).__name__} is under {other}: choose one of the two")


def normalised_weight(layer: Module) -> Tensor:
    """Return the weight g v / |v| of a layer under weight_norm."""
    return layer.weight_v * (_norms(layer) ** -1 * layer.weight_g)


def _norms(layer):
    """Return |v| for each output, with the number of axes of the weight."""
    return ops.norm(layer.weight_v, layer.outputs_first[1:], keepdims=True)
