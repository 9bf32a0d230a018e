"""Spectral normalisation (Miyato et al. 2018)."""

from .. import backend
from ..random import rng
from ..tensor import Tensor
from .module import Module
from .weights import check_layer, normalised_weight


def spectral_norm(layer: Module) -> Module:
    """Make a layer compute with W / sigma(W) (Miyato et al. 2018, eq. 8), and return the layer.

    `layer` is a Dense, Conv2d, ConvTranspose2d or Embedding, or a layer of your own with a weight
    (n_out, n_in) whose class has outputs_first = 0, 1. Others, and those under weight_norm, raise
    TypeError. A forward() of your own takes the weight from effective_weight(self).

    sigma(W) is the largest singular value of W as a matrix with one row per output (for an
    Embedding, per class); for a convolution the matrix is (c_out, c_in kh kw). It is estimated by
    power iteration:

        v <- W^T u / |W^T u|,   u <- W v / |W v|,   sigma = u^T W v

    Each forward pass in training mode makes one iteration from the last u. (Algorithm 1 makes one
    per update; the published code and PyTorch make one per pass.) Evaluation mode makes none.
    Derivatives treat u and v as constants: d sigma / dW = u v^T. As in
    torch.nn.utils.spectral_norm, W becomes the parameter weight_orig, to which another weight must
    be assigned, and u and v are the buffers weight_u (c_out,) and weight_v, (n_in,) or (c_in kh
    kw,).

    Once the iteration has converged, a Dense layer has the Lipschitz constant 1. The Lipschitz
    constant of a convolution may be larger, because its windows overlap: a pixel lies in up to
    n = ceil(kh / stride) ceil(kw / stride) windows, and the constant is at most sqrt(n). For a
    transposed convolution it is at most sqrt(kh kw), because each pixel contributes to kh kw
    pixels.

    A weight of zeros becomes NaN, as in PyTorch: 0 / 0. Both norms have 1e-12 added, so the sigma
    of numbers below about 1e-9 is too small; numbers above about 1e18 overflow in the squares.
    """
    check_layer(layer, "spectral_norm")
    if hasattr(layer, "weight_u"):
        return layer                # it is normalised already
    layer._changes += ((spectral_norm, {}),)
    vars(layer)["weight_orig"] = vars(layer).pop("weight")
    w = _matrix(layer)
    u = rng.normal((len(w),))
    layer.weight_u = _normalise(u, u)
    layer.weight_v = backend.xp.zeros(w.shape[1], "float32")
    for _ in range(15):         # PyTorch's number; the layer may be evaluated before training
        power_iteration(layer)
    return layer


def effective_weight(layer: Module) -> Tensor:
    """Return the weight that a layer computes with, after spectral_norm, weight_norm or equalise.

    In training mode, a layer under spectral_norm makes a power iteration first.
    """
    if "weight" in vars(layer):     # a plain layer; hasattr() takes 1 us for what is missing
        return layer.weight
    if hasattr(layer, "weight_g"):
        return normalised_weight(layer)
    if hasattr(layer, "weight_raw"):
        return layer.weight_raw * layer.weight_scale
    if not hasattr(layer, "weight_u"):
        return layer.weight
    if layer.training:
        power_iteration(layer)
    w, axes = _matrix(layer), layer.outputs_first
    # sigma = u^T W v = sum over i, j of W_ij u_i v_j. `uv` has the u_i v_j in the weight's shape,
    # and for speed in its memory order. It is a new array: later iterations do not change it.
    v = _v_in_memory_order(layer).reshape(-1)
    uv = backend.xp.multiply(layer.weight_u[:, None], v, out=backend.xp.empty_like(w))
    shape = [layer.weight_orig.shape[i] for i in axes]
    uv = uv.reshape(shape).transpose(sorted(range(len(axes)), key=lambda i: axes[i]))
    sigma = (layer.weight_orig * uv).sum()
    return layer.weight_orig / sigma


def power_iteration(layer: Module) -> None:
    """Make one power iteration (Miyato et al. 2018, Algorithm 1).

    It updates u and v of a layer under spectral_norm, for the layer's present weight.
    """
    w, v = _matrix(layer), _v_in_memory_order(layer)
    # v <- W^T u / |W^T u|, as the row u^T W
    _normalise(backend.product(layer.weight_u[None], w, exact=True).reshape(v.shape), v)
    # u <- W v / |W v|
    _normalise(backend.product(w, v.reshape(-1, 1), exact=True)[:, 0], layer.weight_u)


def _normalise(v, y):
    """Write v / |v| to y, and return y."""
    flat = v.reshape(-1)
    return _divide_by_root(v, backend.dot(flat, flat), y)


@backend.kernel("P v, P square", "T y", "y = T(v) / (sqrt(T(square)) + T(1e-12))")
def _divide_by_root(v, square, y):
    y[...] = v / (backend.xp.sqrt(square) + 1e-12)


def _matrix(layer):
    """Return the array of a layer's weight as a matrix with one row per output."""
    w = layer.weight_orig.data.transpose(layer.outputs_first)
    return w.reshape(len(w), -1)


def _v_in_memory_order(layer):
    """Return a view of weight_v whose axes are in the memory order of the weight's input axes."""
    if len(layer.outputs_first) == 2:
        return layer.weight_v
    return layer.weight_v.reshape(layer.c_in, *layer.kernel).transpose(1, 2, 0)
