"""Weight normalisation (Salimans and Kingma 2016)."""

from .. import ops
from ..tensor import Tensor
from .module import Module


def weight_norm(layer: Module, learn_norms: bool = True) -> Module:
    """Make a layer compute with w = g v / |v| for each output, and return the layer.

    This is eq. 2 of Salimans and Kingma 2016: |w| is g, whatever v is. `layer` is one that
    spectral_norm takes too. A forward() of your own takes the weight from effective_weight(self).

    The gradient of v is orthogonal to v, so v grows with each step, and its direction changes less
    and less: the layer's learning rate falls by itself (section 2.1).

    As in PyTorch's weight_norm, the weight becomes the parameters weight_v, which is v, and
    weight_g, which is g, with the weight's number of axes and size 1 in all but that of the
    outputs. At first g is |v|, so the layer computes as before. With learn_norms=False, g is a
    buffer, which is not trained. An output whose weights are all 0 becomes NaN.

    Raises TypeError for another layer, and for one under spectral_norm.
    """
    if not hasattr(layer, "outputs_first") or hasattr(layer, "weight_u"):
        raise TypeError("weight_norm takes a Dense, Conv2d, ConvTranspose2d or Embedding layer "
                        "without spectral_norm, or one whose class sets outputs_first = 0, 1 for a "
                        f"weight (n_out, n_in), got {type(layer).__name__}")
    if hasattr(layer, "weight_g"):
        return layer                # it is normalised already
    layer._changes += ((weight_norm, {"learn_norms": learn_norms}),)
    vars(layer)["weight_v"] = vars(layer).pop("weight")
    g = _norms(layer).data
    layer.weight_g = Tensor(g) if learn_norms else g
    return layer


def normalised_weight(layer: Module) -> Tensor:
    """Return the weight g v / |v| of a layer under weight_norm."""
    return layer.weight_v * (_norms(layer) ** -1 * layer.weight_g)


def _norms(layer):
    """Return |v| for each output, with the number of axes of the weight."""
    return ops.norm(layer.weight_v, layer.outputs_first[1:], keepdims=True)
