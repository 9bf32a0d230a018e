"""Layers: functions with parameters.

A Module's attributes are what it is made of: a Tensor is a parameter, an array a buffer (a number
that is kept but not learned, such as a running mean), and a Module, or each Module in a list or a
dictionary, is a part. A Tensor that was computed (the output that a layer keeps, say) is none of
these. That is all the bookkeeping there is. Shapes, names and layouts are PyTorch's, so that
weights go back and forth.
"""

import contextlib
import math
import threading
import types
from collections.abc import Collection

import numpy as np

from . import backend, ops
from .backend import UserError, rng
from .conv import conv2d, conv_transpose2d, kernel_pair, padding_pair, stride_pair
from .tensor import Tensor, no_grad


class Module:
    """Something with parameters that maps Tensors to Tensors: subclasses define forward(x)."""

    training = True     # dropout and batch normalisation differ between training and evaluation
    notes = ()          # the names of attributes that are neither parameters, buffers nor parts

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            _refuse(value, f"the class attribute {cls.__name__}.{name}",
                    "set it on self, in __init__, so that it is found")

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def parts(self):
        """List (name, Module) of each part, in the order in which they were set: an attribute's
        name, with the place in a list or the key in a dictionary after a dot. Raises TypeError for
        a Module, Tensor or array that would be left out: in a set or another collection, or a
        Tensor or array in a list or a dictionary, or any of them as a function's own variable. Name
        an attribute in `notes` to have it passed over."""
        return [part for name, value in vars(self).items() if name not in self.notes
                for part in _parts(f"{type(self).__name__}.{name}", name, value)]

    def modules(self, prefix=""):
        """(prefix of its names, Module) of this Module and everything inside it."""
        yield prefix, self
        for name, part in self.parts():
            yield from part.modules(f"{prefix}{name}.")

    def named_arrays(self, kind):
        """{name: attribute} of all parameters or buffers, as `kind` is Tensor or xp.ndarray."""
        return {prefix + name: value for prefix, module in self.modules()
                for name, value in vars(module).items() if name not in module.notes
                and isinstance(value, kind) and (kind is not Tensor or value.parents == ())}

    def parameters(self):
        """The list of parameters; one that is shared by two parts comes once."""
        return list(dict.fromkeys(self.named_arrays(Tensor).values()))

    def train(self, training=True):
        """Switch to training, or with train(False) to evaluation; returns self."""
        for _, module in self.modules():
            module.training = training
        return self

    def eval(self):
        """Switch to evaluation; returns self."""
        return self.train(False)

    def state_dict(self):
        """{name: numpy array} of all parameters and buffers, copied to the host.

        In PyTorch: module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}).
        """
        return {name: backend.to_numpy(array).copy(order="C")
                for name, array in self.arrays().items()}

    def load_state_dict(self, state):
        """Copy the arrays of `state`, anything numpy can read, into the parameters and buffers.

        Raises UserError if a name is missing or unknown or a shape differs; then nothing has
        changed. PyTorch's `num_batches_tracked`, which no computation reads, is passed over.
        """
        arrays = self.arrays()
        state = {name: array for name, array in state.items()
                 if name.rpartition(".")[2] != "num_batches_tracked"}
        if missing := sorted(arrays.keys() - state.keys()):
            raise UserError(f"the weights lack {', '.join(missing)}: "
                            "they belong to another network")
        if unknown := sorted(state.keys() - arrays.keys()):
            raise UserError(f"no place for weights {', '.join(unknown)}: "
                            "they belong to another network")
        for name, array in arrays.items():
            if np.shape(state[name]) != array.shape:
                raise UserError(f"weights {name} have shape {np.shape(state[name])}, the "
                                f"network's have {array.shape}: they belong to another network")
        for name, array in arrays.items():
            array[...] = backend.xp.asarray(np.asarray(state[name]), dtype=array.dtype)
        self.touch()

    def touch(self):
        """Note that the parameters' arrays are written to now: see Tensor.touch."""
        for p in self.parameters():
            p.touch()

    def arrays(self):
        """{name: array} of all parameters and buffers, themselves."""
        parameters = {name: p.data for name, p in self.named_arrays(Tensor).items()}
        buffers = self.named_arrays(backend.xp.ndarray)
        return {**parameters, **buffers}

    def summary(self, *shape):
        """A table of the layers: for an input of `shape` (without the batch), each one's output
        shape and its number of parameters."""
        rows = []
        with evaluating(self), no_grad():
            y = _trace(self, Tensor(backend.xp.zeros((1, *shape), "float32")), "", rows)
        rows += [("", "", y.shape[1:], sum(p.size for p in self.parameters()))]
        width = max(len(f"{name} {layer}") for name, layer, _, _ in rows)
        lines = [f"{f'{name} {layer}':{width}}  {'x'.join(map(str, out)):>12} {count:>12,}"
                 for name, layer, out, count in rows]
        head = f"{'layer':{width}}  {'output':>12} {'parameters':>12}"
        return "\n".join([head, *lines])

    def __repr__(self):
        settings = [f"{name}={value}" for name, value in vars(self).items()
                    if isinstance(value, (int, float, tuple)) and name != "training"]
        return f"{type(self).__name__}({', '.join(settings)})"


def _parts(place, name, value):
    """(name, Module) of what is found in an attribute's value; `place` is for messages."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(item, Module):
                _refuse(item, f"{place}[{key!r}]", "set it as an attribute of its own")
            yield from _parts(f"{place}[{key!r}]", f"{name}.{key}", item)
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            _refuse(cell.cell_contents, f"a variable of the function {place}",
                    "set it as an attribute of its own and use that", arrays=False)
    elif isinstance(value, Collection) and not isinstance(value, (str, bytes, np.ndarray, Tensor)):
        for item in value:
            _refuse(item, f"an entry of the {type(value).__name__} {place}",
                    "keep Modules in a list or a dictionary, Tensors and arrays as attributes")


def _refuse(value, place, mend, arrays=True):
    """Raise TypeError if `value` would be a part, a parameter or, where `arrays` are meant too, a
    buffer in another place."""
    if isinstance(value, (Module, Tensor, *([backend.xp.ndarray] if arrays else []))):
        raise TypeError(f"{place} is a {type(value).__name__} that nothing finds there: {mend}")


@contextlib.contextmanager
def evaluating(module):
    """Context in which `module` is in evaluation; afterwards every part is as it was."""
    before = [(part, part.training) for _, part in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for part, training in before:
            part.training = training


def _trace(layer, x, name, rows):
    """layer(x), with a row for each layer that it consists of."""
    if getattr(type(layer), "forward", None) is Sequential.forward:     # which no heir overrides
        for i, part in enumerate(layer.layers):
            x = _trace(part, x, f"{name}.{i}".lstrip("."), rows)
        return x
    y = layer(x)
    parameters = layer.parameters() if isinstance(layer, Module) else []
    what = layer if isinstance(layer, Module) else getattr(layer, "__name__", repr(layer))
    rows.append((name, what, y.shape[1:], sum(p.size for p in parameters)))
    return y


class Sequential(Module):
    """The layers one after the other: Modules, or functions of one Tensor such as ops.relu.
    Parameter names are "0.weight", "0.bias", "1.weight", ... Raises TypeError for another layer."""

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not callable(layer) or isinstance(layer, type):
                raise TypeError(f"layer {i} of Sequential is a Module or a function of one Tensor, "
                                f"got {layer if isinstance(layer, type) else type(layer)}")
        self.layers = list(layers)

    def parts(self):
        return [(name.removeprefix("layers."), part) for name, part in super().parts()]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


# Initialisers: init(shape, fan_in, fan_out) gives the array of initial weights, where fan_in inputs
# reach each output and each input reaches fan_out outputs.

def uniform(a):
    """U(-a, a)."""
    return lambda shape, fan_in, fan_out: rng.uniform(-a, a, shape)


def normal(std):
    """N(0, std^2)."""
    return lambda shape, fan_in, fan_out: rng.normal(shape) * float(std)


def constant(value):
    return lambda shape, fan_in, fan_out: backend.xp.full(shape, value, "float32")


def glorot(shape, fan_in, fan_out):
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)): keeps the variance of signals and gradients
    through layers that are linear near 0 (Glorot and Bengio 2010, eq. 16)."""
    return uniform(math.sqrt(6 / (fan_in + fan_out)))(shape, fan_in, fan_out)


def he(shape, fan_in, fan_out):
    """N(0, 2 / fan_in): the same for ReLU layers, which halve the signal (He et al. 2015,
    eq. 10)."""
    return normal(math.sqrt(2 / fan_in))(shape, fan_in, fan_out)


# Layers with weights

class Dense(Module):
    """x W^T + b. (m, n_in) -> (m, n_out); weight (n_out, n_in), bias (n_out,) or None."""

    def __init__(self, n_in, n_out, bias=True, init=glorot):
        self.n_in, self.n_out = n_in, n_out
        self.weight = Tensor(init((n_out, n_in), n_in, n_out))
        self.bias = _zeros(n_out) if bias else None

    def forward(self, x):
        return ops.linear(x, _weight(self), self.bias)


class Maxout(Module):
    """max_j (x W_j^T + b_j) over j = 1 ... pieces, elementwise (Goodfellow et al. 2013, section 3).

    (m, n_in) -> (m, n_out); weight (pieces * n_out, n_in), piece by piece.
    """

    def __init__(self, n_in, n_out, pieces, init=glorot):
        if pieces < 1:
            raise ValueError(f"Maxout is the largest of at least 1 pieces, got {pieces}")
        self.n_in, self.n_out, self.pieces = n_in, n_out, pieces
        self.weight = Tensor(init((pieces * n_out, n_in), n_in, n_out))
        self.bias = _zeros(pieces * n_out)

    def forward(self, x):
        return ops.linear(x, self.weight, self.bias).reshape(-1, self.pieces, self.n_out).max(1)


class Conv2d(Module):
    """Convolution, see conv.conv2d. (N, c_in, H, W) -> (N, c_out, OH, OW).

    `kernel`, `stride` and `padding` are numbers or (vertical, horizontal);
    weight (c_out, c_in, kh, kw), bias (c_out,) or None.
    """

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0, bias=True, init=glorot):
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.kernel_first(
            init((c_out, c_in, *self.kernel), c_in * area, c_out * area)))
        self.bias = _zeros(c_out) if bias else None

    def forward(self, x):
        return conv2d(x, _weight(self), self.bias, self.stride, self.padding)


class ConvTranspose2d(Module):
    """Transposed convolution, see conv.conv_transpose2d. (N, c_in, H, W) -> (N, c_out, H', W') with
    H' = (H - 1) stride - 2 padding + kh + output_padding.

    weight (c_in, c_out, kh, kw): a convolution's that leads the other way; bias (c_out,) or None.
    """

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0, output_padding=0, bias=True,
                 init=glorot):
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel_pair(kernel)
        self.stride, self.padding = stride_pair(stride), padding_pair(padding)
        self.output_padding = padding_pair(output_padding)
        area = math.prod(self.kernel)
        self.weight = Tensor(backend.kernel_first(
            init((c_in, c_out, *self.kernel), c_in * area, c_out * area)))
        self.bias = _zeros(c_out) if bias else None

    def forward(self, x):
        return conv_transpose2d(x, _weight(self), self.bias, self.stride, self.padding,
                                self.output_padding)


def _zeros(n):
    return Tensor(backend.xp.zeros(n, "float32"))


# Normalisation

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
    if not isinstance(layer, (Dense, Conv2d, ConvTranspose2d)):
        raise TypeError("spectral_norm takes a Dense, Conv2d or ConvTranspose2d layer, "
                        f"got {type(layer).__name__}")
    if hasattr(layer, "weight_u"):
        return layer                # once is enough
    layer.weight_orig = vars(layer).pop("weight")
    w = _matrix(layer)
    layer.weight_u = _unit(rng.normal((len(w),)))
    layer.weight_v = backend.xp.zeros(w.shape[1], "float32")
    for _ in range(15):         # PyTorch's number: evaluation may come before any training
        power_iteration(layer)
    return layer


def _weight(layer):
    """What a layer computes with: its weight, normalised if spectral_norm has been asked for."""
    if not hasattr(layer, "weight_u"):
        return layer.weight
    if layer.training:
        power_iteration(layer)
    w, axes = _matrix(layer), _outputs_first(layer)
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
    w = layer.weight_orig.data.transpose(_outputs_first(layer))
    return w.reshape(len(w), -1)


def _outputs_first(layer):
    """The axes of its weight: that of the outputs, then the others as they lie in memory."""
    if isinstance(layer, ConvTranspose2d):
        return 1, 2, 3, 0
    return (0, 2, 3, 1) if isinstance(layer, Conv2d) else (0, 1)


def _as_in_memory(layer):
    """A view of weight_v, with its axes as those of the weight lie in memory."""
    if isinstance(layer, Dense):
        return layer.weight_v
    return layer.weight_v.reshape(layer.c_in, *layer.kernel).transpose(1, 2, 0)


class BatchNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, per channel (Ioffe and Szegedy 2015, Alg. 1).

    In training, mean and variance are the batch's, over all axes but the channels', and the running
    averages move towards them by the fraction `momentum` (towards the unbiased variance, as in
    Alg. 2); in evaluation the running averages stand in, so that no image depends on its
    neighbours. (m, n) or (N, n, H, W), shape kept. Raises ValueError in training where a channel
    has one value.
    """

    def __init__(self, n, eps=1e-5, momentum=0.1):
        self.n, self.eps, self.momentum = n, eps, momentum
        self.weight = Tensor(backend.xp.ones(n, "float32"))
        self.bias = _zeros(n)
        self.running_mean = backend.xp.zeros(n, "float32")
        self.running_var = backend.xp.ones(n, "float32")

    def forward(self, x):
        if x.ndim not in (2, 4) or x.shape[1] != self.n:
            raise ValueError(f"BatchNorm({self.n}) needs (m, {self.n}) or (N, {self.n}, H, W), "
                             f"got {x.shape}")
        if not self.training:
            r = (self.running_var + self.eps) ** -0.5
            return ops.scale(x, self.weight * r, self.bias - self.weight * (self.running_mean * r))
        count = x.size // self.n
        if count < 2:
            raise UserError(f"BatchNorm in training needs more than one value for each channel, "
                             f"got {x.shape}: use a larger batch, or evaluation")
        centred, mean = ops.centre(x)
        var = ops.channel_sum(centred, centred) * (1 / count)
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var.data * (count / (count - 1)) - self.running_var)
        return ops.scale(centred, self.weight * (var + self.eps) ** -0.5, self.bias)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, for each sample, over its last axes, of `shape`
    (Ba et al. 2016, eq. 3). Weight and bias have that shape."""

    def __init__(self, shape, eps=1e-5):
        self.shape, self.eps = (shape,) if isinstance(shape, int) else tuple(shape), eps
        self.weight = Tensor(backend.xp.ones(self.shape, "float32"))
        self.bias = _zeros(self.shape)

    def forward(self, x):
        if x.shape[-len(self.shape):] != self.shape:
            raise ValueError(f"LayerNorm({self.shape}) needs an input whose last axes are "
                             f"{self.shape}, got {x.shape}")
        axes = tuple(range(-len(self.shape), 0))
        centred = x - x.mean(axes, keepdims=True)
        var = (centred * centred).mean(axes, keepdims=True)
        return centred / ops.sqrt(var + self.eps) * self.weight + self.bias


# Layers with noise

class _Drawing(threading.local):
    source = rng        # of each thread on its own


_drawing = _Drawing()


@contextlib.contextmanager
def drawing_from(source):
    """Context in which this thread's layers draw from `source`: a Random, or any object whose
    bernoulli(p, shape) gives dropout's masks and normal(shape) noise. The same source again gives
    the same numbers, so that a step of training is a function of its inputs."""
    before, _drawing.source = _drawing.source, source
    try:
        yield
    finally:
        _drawing.source = before


class Dropout(Module):
    """In training, sets each number to 0 with probability p and divides the rest by 1 - p; in
    evaluation, nothing (Srivastava et al. 2014, section 10: "inverted" dropout). Any shape."""

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout needs a probability 0 <= p < 1 of dropping, got {p}")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = _drawing.source.bernoulli(1 - self.p, x.shape)
        return x * (keep.astype(x.dtype) * (1 / (1 - self.p)))


class GaussianNoise(Module):
    """In training, adds N(0, sigma^2) to each number; in evaluation, nothing. Any shape. sigma is a
    buffer, so that it may change from step to step."""

    def __init__(self, sigma):
        if not sigma >= 0:
            raise ValueError(f"GaussianNoise needs a standard deviation of at least 0, got {sigma}")
        self.sigma = backend.xp.full((), sigma, "float32")

    def forward(self, x):
        return x + _drawing.source.normal(x.shape) * self.sigma if self.training else x


# Layers without weights

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
        self.size = size

    def forward(self, x):
        return ops.avg_pool(x, self.size)


class Upsample(Module):
    """Each pixel becomes factor x factor pixels, see ops.upsample."""

    def __init__(self, factor=2):
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
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError("Reshape takes the sizes of a sample's axes, whole numbers above 0, "
                             f"such as Reshape(64, 7, 7), got {shape}")
        self.shape = shape

    def forward(self, x):
        if math.prod(x.shape[1:]) != math.prod(self.shape):
            raise ValueError(f"Reshape({', '.join(map(str, self.shape))}) needs samples of "
                             f"{math.prod(self.shape)} numbers, got a batch {x.shape}")
        return x.reshape(len(x), *self.shape)
