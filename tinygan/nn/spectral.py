"""Spectral normalisation (Miyato et al. 2018)."""

from .. import backend
from ..random import rng


def spectral_norm(layer):
    """Have a Dense, Conv2d or ConvTranspose2d layer compute with W / sigma(W) (Miyato et al. 2018,
    eq. 8), and return it. Raises TypeError for another layer.

    sigma(W), the largest singular value, is that of the matrix with a row for each output (for a
    convolution (c_out, c_in kh kw), the kernel opened out), estimated by one power iteration in
    each forward pass in training, none in evaluation (Algorithm 1 has one for each update; for each
    pass is PyTorch's way):

        v <- W^T u / |W^T u|,   u <- W v / |W v|,   sigma = u^T W v

    from the u of the pass before. u and v are constants to the derivative: d sigma / dW = u v^T. W
    becomes the parameter weight_orig; u and v are the buffers weight_u (c_out,) and weight_v
    (n_in,) or (c_in kh kw,), as torch.nn.utils.spectral_norm has them.

    A Dense layer then has the Lipschitz constant 1. A convolution need not: its windows overlap,
    each pixel lies in up to n = ceil(kh / stride) ceil(kw / stride) of them, and its constant is at
    most sqrt(n); a transposed one's, whose every pixel goes out through the whole kernel,
    sqrt(kh kw).
    """
    if not hasattr(layer, "outputs_first"):
        raise TypeError("spectral_norm takes a Dense, Conv2d or ConvTranspose2d layer, "
                        f"got {type(layer).__name__}")
    if hasattr(layer, "weight_u"):
        return layer                # once is enough
    layer._changes.append((spectral_norm, {}))
    vars(layer)["weight_orig"] = vars(layer).pop("weight")
    w = _matrix(layer)
    layer.weight_u = _unit(rng.normal((len(w),)))
    layer.weight_v = backend.xp.zeros(w.shape[1], "float32")
    for _ in range(15):         # PyTorch's number: evaluation may come before any training
        power_iteration(layer)
    return layer


def weight_of(layer):
    """Return what a layer computes with: its weight, normalised if it is under spectral_norm."""
    if not hasattr(layer, "weight_u"):
        return layer.weight
    if layer.training:
        power_iteration(layer)
    w, axes = _matrix(layer), layer.outputs_first
    # u v^T, laid out as the weight: constants that nothing overwrites
    v = _as_in_memory(layer).reshape(-1)
    uv = backend.xp.multiply(layer.weight_u[:, None], v, out=backend.xp.empty_like(w))
    shape = [layer.weight_orig.shape[i] for i in axes]
    uv = uv.reshape(shape).transpose(sorted(range(len(axes)), key=lambda i: axes[i]))
    return layer.weight_orig / (layer.weight_orig * uv).sum()


def power_iteration(layer):
    """Move u and v of a layer under spectral_norm one power iteration on, for its weight as it is
    now (Miyato et al. 2018, Algorithm 1)."""
    w, v = _matrix(layer), _as_in_memory(layer)
    v[...] = _unit(layer.weight_u @ w).reshape(v.shape)
    layer.weight_u[...] = _unit(w @ v.reshape(-1))


def _unit(v):
    return v / (backend.xp.sqrt((v * v).sum()) + 1e-12)


def _matrix(layer):
    """The array of a layer's weight as a matrix with a row for each output."""
    w = layer.weight_orig.data.transpose(layer.outputs_first)
    return w.reshape(len(w), -1)


def _as_in_memory(layer):
    """A view of weight_v, with its axes as those of the weight lie in memory."""
    if len(layer.outputs_first) == 2:
        return layer.weight_v
    return layer.weight_v.reshape(layer.c_in, *layer.kernel).transpose(1, 2, 0)
