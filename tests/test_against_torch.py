"""Comparison with PyTorch, where it is installed: operations, layers, optimisers, losses, training.

Both sides compute in float64 unless a test says otherwise, so they differ by rounding only. Sums
have some hundred terms of at most some thousands, each rounded by 2e-16 of its size. The tolerance
1e-10 is above that, and far below the error of a wrong formula, which is of the size of the terms.
"""

import inspect

import numpy as np
import pytest

from tinygan import Tensor, channels, grad, nn, ops, optim, resampling
from tinygan.channels import affine_power, centre, channel_sum, scale
from tinygan.conv import conv2d, conv_transpose2d
from tinygan.games import (ALI, GAN, LSGAN, R1, R3GAN, RSGAN, VEEGAN, WGAN, WGANGP, BiGAN, Hinge,
                           InfoGAN, PacGAN, ProjectionDiscriminator, ProjectionGAN, RaGAN,
                           UnrolledGAN, gradient_penalty, losses, penalties)
from tinygan.loop import d_step, g_step
from tinygan.nn import use_random
from tinygan.random import Random
from tinygan.tensor import broadcast_to, sum_to

from helpers import to_float64
from test_readme import BLOCKS

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: nothing was compared with it (pip install torch)")
F = torch.nn.functional

pytestmark = pytest.mark.numpy_only("PyTorch is on the host; the backends are compared elsewhere")

CLOSE = dict(rtol=1e-10, atol=1e-10)


def both(f):
    """Return f twice: as tinygan's function and as PyTorch's."""
    return f, f


def mask(x, threshold):
    """Return x > threshold; for tinygan, whose masks are arrays, as an array."""
    return x.data > threshold if isinstance(x, Tensor) else x > threshold


# name: (tinygan's function, PyTorch's function, shapes of the inputs). A shape is a word with one
# letter for each axis. Equal letters are equal sizes, drawn from 1 to 5; "1" is the size 1; "." is
# a shape without axes. "+" after a shape stands for positive entries.
OPERATIONS = {
    "neg": (*both(lambda x: -x), "ab"),
    "add": (*both(lambda a, b: a + b), "ab ab"),
    "add broadcast": (*both(lambda a, b: a + b), "a1c bc"),
    "add a scalar": (*both(lambda a, b: a + b), ". ab"),
    "add number": (*both(lambda x: 2 + x + 3.0), "ab"),
    "sub": (*both(lambda a, b: a - b), "ab ab"),
    "sub broadcast": (*both(lambda a, b: a - b), "1b a1"),
    "sub number": (*both(lambda x: 2 - x - 3.0), "ab"),
    "mul": (*both(lambda a, b: a * b), "ab ab"),
    "mul broadcast": (*both(lambda a, b: a * b), "a1c bc"),
    "mul number": (*both(lambda x: 2 * x * 3.0), "ab"),
    "div": (*both(lambda a, b: a / b), "ab ab+"),
    "div broadcast": (*both(lambda a, b: a / b), "bc a1c+"),
    "div number": (*both(lambda x: 2 / x / 3.0), "ab+"),
    "power 0": (*both(lambda x: x ** 0 * x), "ab"),
    "power 1": (*both(lambda x: x ** 1), "ab"),
    "power 3": (*both(lambda x: x ** 3), "ab"),
    "power -1.5": (*both(lambda x: x ** -1.5), "ab+"),
    "abs": (*both(abs), "ab"),
    "matmul": (*both(lambda a, b: a @ b), "ab bc"),
    "matmul batches": (*both(lambda a, b: a @ b), "a1bc dce"),
    "sum": (*both(lambda x: x.sum()), "abc"),
    "sum axes": (lambda x: x.sum((0, -1)), lambda x: x.sum((0, -1)), "abc"),
    "sum keepdims": (lambda x: x.sum(1, keepdims=True), lambda x: x.sum(1, keepdim=True), "abc"),
    "mean": (*both(lambda x: x.mean()), "abc"),
    "mean axes": (*both(lambda x: x.mean((0, 2))), "abc"),
    "max": (lambda x: x.max(), lambda x: x.amax(), "ab"),
    "max axis": (lambda x: x.max(-1), lambda x: x.amax(-1), "abc"),
    "max axes keepdims": (lambda x: x.max((0, 2), keepdims=True),
                          lambda x: x.amax((0, 2), keepdim=True), "abc"),
    "reshape": (*both(lambda x: x.reshape(-1, x.shape[0])), "abc"),
    "transpose": (lambda x: x.transpose(), lambda x: x.permute(2, 1, 0), "abc"),
    "transpose axes": (lambda x: x.transpose(1, -1, 0), lambda x: x.permute(1, -1, 0), "abc"),
    "T": (lambda x: x.T, lambda x: x.mT, "abc"),
    "slice": (*both(lambda x: x[:-1, ::2]), "ab"),
    "index": (*both(lambda x: x[..., None, 0]), "abc"),
    "index array": (*both(lambda x: x[[0, -1, 0]]), "ab"),
    "index mask": (*both(lambda x: x[mask(x, 0.1)]), "ab"),
    "broadcast_to": (lambda x: broadcast_to(x, (2, *x.shape[:-1], 3)),
                     lambda x: x.broadcast_to((2, *x.shape[:-1], 3)), "ab1"),
    "sum_to": (lambda x: sum_to(x, (x.shape[1], 1)), lambda x: x.sum_to_size(x.shape[1], 1), "abc"),
    "exp": (ops.exp, torch.exp, "ab"),
    "log": (ops.log, torch.log, "ab+"),
    "sqrt": (ops.sqrt, torch.sqrt, "ab+"),
    "norm": (ops.norm, torch.linalg.vector_norm, "ab"),
    "norm axes": (lambda x: ops.norm(x, (1, 2)),
                  lambda x: torch.linalg.vector_norm(x, dim=(1, 2)), "abc"),
    "norm keepdims": (lambda x: ops.norm(x, 0, keepdims=True),
                      lambda x: torch.linalg.vector_norm(x, dim=0, keepdim=True), "abc"),
    "tanh": (ops.tanh, torch.tanh, "ab"),
    "sigmoid": (ops.sigmoid, torch.sigmoid, "ab"),
    "softplus": (ops.softplus, F.softplus, "ab"),
    "log_sigmoid": (ops.log_sigmoid, F.logsigmoid, "ab"),
    "softmax": (ops.softmax, lambda x: F.softmax(x, -1), "abc"),
    "log_softmax": (ops.log_softmax, lambda x: F.log_softmax(x, -1), "abc"),
    "log_softmax axis": (lambda x: ops.log_softmax(x, 0), lambda x: F.log_softmax(x, 0), "abc"),
    "logsumexp": (ops.logsumexp, lambda x: torch.logsumexp(x, -1), "abc"),
    "logsumexp keepdims": (lambda x: ops.logsumexp(x, 0, keepdims=True),
                           lambda x: torch.logsumexp(x, 0, keepdim=True), "abc"),
    "cross_entropy": (lambda x: ops.cross_entropy(x, np.arange(len(x.data)) % x.shape[1]),
                      lambda x: F.cross_entropy(x, torch.arange(len(x)) % x.shape[1]), "ab"),
    "relu": (ops.relu, F.relu, "ab"),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3), "ab"),
    "maximum": (ops.maximum, torch.maximum, "ab b"),
    "minimum": (ops.minimum, torch.minimum, "a1 ab"),
    "clip": (lambda x: ops.clip(x, -0.5, 0.7), lambda x: x.clamp(-0.5, 0.7), "ab"),
    "where": (lambda a, b: ops.where(mask(a, 0), b, a),
              lambda a, b: torch.where(a > 0, b, a), "ab b"),
    "concat": (lambda a, b: ops.concat([a, b, a]), lambda a, b: torch.cat([a, b, a]), "ab cb"),
    "concat axis": (lambda a, b: ops.concat([a, b], -1),
                    lambda a, b: torch.cat([a, b], -1), "ab ac"),
    "pad": (lambda x: ops.pad(x, [(1, 0), (2, 3)]), lambda x: F.pad(x, (2, 3, 1, 0)), "ab"),
    "upsample": (lambda x: resampling.upsample(x, 3), lambda x: F.interpolate(x, scale_factor=3),
                 "abcd"),
    "avg_pool": (lambda x: resampling.avg_pool(ops.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1)]), 2),
                 lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2), "abcd"),
    "avg_pool that overlaps": (
        lambda x: resampling.avg_pool(ops.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1)]), 3, 2, 1),
        lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 3, 2, 1, count_include_pad=False), "abcd"),
    "reflection_pad": (lambda x: resampling.reflection_pad(x, min(x.shape[2:]) - 1),
                       lambda x: F.pad(x, [min(x.shape[2:]) - 1] * 4, "reflect"), "abcd"),
    "resize": (lambda x: resampling.resize(x, (3, 7)), lambda x: F.interpolate(x, (3, 7)), "abcd"),
    "resize by interpolation": (lambda x: resampling.resize(x, (3, 7), resampling.bilinear),
                                lambda x: F.interpolate(x, (3, 7), mode="bilinear"), "abcd"),
    "scale": (scale, lambda x, w, b: x * w[:, None, None] + b[:, None, None], "abcd b b"),
    "channel_sum": (channel_sum, lambda x, y: (x * y).sum((0, 2, 3)), "abcd abcd"),
    "channel_sum of squares": (lambda x: channel_sum(x, x), lambda x: (x * x).sum((0, 2, 3)),
                               "abcd"),
    "scale each": (scale, lambda x, w, b: x * w[..., None, None] + b[..., None, None],
                   "abcd ab ab"),
    "channel_sum of each": (lambda x, y: channel_sum(x, y, each=True),
                            lambda x, y: (x * y).sum((2, 3)), "abcd abcd"),
    "affine_power": (lambda x: affine_power(x * x, 0.5, 0.1, -0.5, 2.0),
                     lambda x: 2 * (0.5 * x * x + 0.1) ** -0.5, "ab"),
    "centre": (lambda x: centre(x)[0], lambda x: x - x.mean((0, 2, 3), keepdim=True), "abcd"),
    "centre each": (lambda x: centre(x, each=True)[0],
                    lambda x: x - x.mean((2, 3), keepdim=True), "abcd"),
    "linear": (ops.linear, F.linear, "ab cb c"),
    "linear without bias": (ops.linear, F.linear, "ab cb"),
}


def draw_arrays(shapes, random):
    """Yield one random array for each word of `shapes`."""
    sizes = {letter: int(random.integers(1, 6)) for letter in "abcde"} | {"1": 1}
    for word in shapes.split():
        x = random.normal(size=[sizes[letter] for letter in word.strip(".+")])
        yield abs(x) + 0.5 if "+" in word else x


def compare(ours, theirs, arrays, random):
    """Assert equal values, and equal first- and second-order gradients of random contractions."""
    y = theirs(*map(torch.from_numpy, arrays))
    c = random.normal(size=y.shape)
    d = [random.normal(size=x.shape) for x in arrays]
    for name, a, b in zip(["value", "first order", "second order"],
                          run_ours(ours, arrays, c, d), run_theirs(theirs, arrays, c, d)):
        assert len(a) == len(b)
        for i, (p, q) in enumerate(zip(a, b)):
            assert p.shape == tuple(q.shape)
            np.testing.assert_allclose(p.numpy(), q.numpy(force=True), **CLOSE,
                                       err_msg=f"{name}, input {i}")


def run_ours(f, arrays, c, d):
    """Return three lists for f in tinygan: its value, its first- and its second-order gradients.

    The first-order gradients are those of <f, c>, the second-order gradients those of the scalar
    products of the first-order gradients with d.
    """
    xs, c = [Tensor(a) for a in arrays], Tensor(c)
    y = f(*xs)
    gs = grad(y, xs, grad_y=c, create_graph=True)
    contraction = sum((g * e).sum() for g, e in zip(gs, d))
    return [y], gs, grad(contraction, [*xs, c], unused="zeros")


def run_theirs(f, arrays, c, d):
    """Return the same for f in PyTorch."""
    *xs, c = [torch.tensor(a, requires_grad=True) for a in (*arrays, c)]
    y = f(*xs)
    gs = torch.autograd.grad(y, xs, grad_outputs=c, create_graph=True)
    contraction = sum((g * torch.from_numpy(e)).sum() for g, e in zip(gs, d))
    return [y], gs, torch.autograd.grad(contraction, [*xs, c], materialize_grads=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    ours, theirs, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    for _ in range(8):
        compare(ours, theirs, list(draw_arrays(shapes, random)), random)


def test_no_function_of_ops_is_left_out():
    functions = {name for module in (ops, channels)
                 for name, f in inspect.getmembers(module, inspect.isfunction)
                 if f.__module__ == module.__name__ and not name.startswith("_")}
    others = {"array_of", "as_tensors", "check_bias", "check_slope", "concat_rule", "fill",
              "mark_labels", "sigmoid_rule", "tanh_rule"}
    assert functions - others <= {name.split()[0] for name in OPERATIONS}


@pytest.mark.parametrize("ours, theirs, arrays", [
    (abs, abs, [np.zeros(3)]),
    (ops.relu, F.relu, [np.zeros(3)]),
    (lambda x: ops.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3), [np.zeros(3)]),
    (lambda x: x.max(1), lambda x: x.amax(1), [np.array([[1.0, 3, 3, 3], [2, 2, 0, 1]])]),
    (ops.maximum, torch.maximum, [np.ones(3), np.ones(3)]),
    (ops.minimum, torch.minimum, [np.ones(3), np.ones(3)]),
    (ops.norm, torch.linalg.vector_norm, [np.zeros(3)]),
], ids=["abs", "relu", "leaky_relu", "max", "maximum", "minimum", "norm"])
def test_derivatives_at_kinks(ours, theirs, arrays):
    """That of clip is left out: PyTorch's at the bounds is 1 in version 2.13 and 0 in 2.14."""
    xs, ts = [Tensor(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    c = np.arange(1.0, 1 + y.size).reshape(y.shape)
    gs, hs = grad(y, xs, grad_y=c), torch.autograd.grad(t, ts, grad_outputs=torch.from_numpy(c))
    for p, q in zip(gs, hs, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), **CLOSE)


# Convolution

@pytest.mark.parametrize("seed", range(20))
def test_convolutions_of_random_geometry(seed):
    """Strides, paddings, kernels and images may differ between the two axes."""
    random = np.random.default_rng(seed)
    kernel, stride = random.integers(1, 5, 2), random.integers(1, 4, 2)
    padding = random.integers(0, 3, 2)
    extra = [int(random.integers(s)) for s in stride]
    image = random.integers(1, 8, 2) + np.maximum(kernel - 2 * padding, 0)
    # large enough for the transposed convolution to have an output
    small = random.integers(1, 4, 2) + 2 * padding // stride
    stride, padding = tuple(stride.tolist()), tuple(padding.tolist())
    n, c_in, c_out = random.integers(1, 4, 3)
    compare(lambda x, w: conv2d(x, w, None, stride, padding),
            lambda x, w: F.conv2d(x, w, None, stride, padding),
            [random.normal(size=size) for size in ((n, c_in, *image), (c_out, c_in, *kernel))],
            random)
    compare(lambda y, w: conv_transpose2d(y, w, None, stride, padding, extra),
            lambda y, w: F.conv_transpose2d(y, w, None, stride, padding, extra),
            [random.normal(size=size) for size in ((n, c_in, *small), (c_in, c_out, *kernel))],
            random)


# Layers

LAYERS = {
    "Dense": (lambda: nn.Dense(4, 3), lambda: torch.nn.Linear(4, 3), (5, 4)),
    "Dense without bias": (lambda: nn.Dense(4, 3, bias=False),
                           lambda: torch.nn.Linear(4, 3, bias=False), (5, 4)),
    "Conv2d": (lambda: nn.Conv2d(3, 2, (4, 3), (2, 1), (1, 0)),
               lambda: torch.nn.Conv2d(3, 2, (4, 3), (2, 1), (1, 0)), (2, 3, 7, 6)),
    "Conv2d without bias": (lambda: nn.Conv2d(3, 2, 3, 2, 1, bias=False),
                            lambda: torch.nn.Conv2d(3, 2, 3, 2, 1, bias=False), (2, 3, 7, 6)),
    "Conv2d of one channel": (lambda: nn.Conv2d(1, 2, 3), lambda: torch.nn.Conv2d(1, 2, 3),
                              (2, 1, 7, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, (4, 3), (2, 1), (1, 0), (1, 0)),
                        lambda: torch.nn.ConvTranspose2d(3, 2, (4, 3), (2, 1), (1, 0), (1, 0)),
                        (2, 3, 4, 5)),
    "ConvTranspose2d of one channel": (
        lambda: nn.ConvTranspose2d(1, 1, 4, 2, 1),
        lambda: torch.nn.ConvTranspose2d(1, 1, 4, 2, 1), (2, 1, 4, 5)),
    "ConvTranspose2d without bias": (lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1, bias=False),
                                     lambda: torch.nn.ConvTranspose2d(3, 2, 4, 2, 1, bias=False),
                                     (2, 3, 4, 5)),
    "BatchNorm 1-D": (lambda: nn.BatchNorm(4), lambda: torch.nn.BatchNorm1d(4), (5, 4)),
    "BatchNorm 2-D": (lambda: nn.BatchNorm(3), lambda: torch.nn.BatchNorm2d(3), (2, 3, 4, 5)),
    "BatchNorm settings": (lambda: nn.BatchNorm(3, eps=0.1, momentum=0.4),
                           lambda: torch.nn.BatchNorm2d(3, eps=0.1, momentum=0.4), (2, 3, 4, 5)),
    "BatchNorm without running averages": (
        lambda: nn.BatchNorm(3, track_running_stats=False),
        lambda: torch.nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 5)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3), lambda: torch.nn.InstanceNorm2d(3),
                       (2, 3, 4, 5)),
    "InstanceNorm2d with weights": (lambda: nn.InstanceNorm2d(3, affine=True),
                                    lambda: torch.nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 5)),
    "LayerNorm": (lambda: nn.LayerNorm(4), lambda: torch.nn.LayerNorm(4), (5, 4)),
    "LayerNorm of images": (lambda: nn.LayerNorm((3, 4, 5), eps=0.1),
                            lambda: torch.nn.LayerNorm((3, 4, 5), eps=0.1), (2, 3, 4, 5)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), lambda: torch.nn.AvgPool2d(2), (2, 3, 5, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), lambda: torch.nn.MaxPool2d(2), (2, 3, 5, 6)),
    "Upsample": (lambda: nn.Upsample(3), lambda: torch.nn.Upsample(scale_factor=3), (2, 3, 4, 5)),
    "Upsample bilinear": (
        lambda: nn.Upsample(2, "bilinear"),
        lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        (2, 3, 4, 5)),
    "PixelNorm": (nn.PixelNorm, lambda: torch.nn.RMSNorm(4, 1e-8, False), (5, 4)),
    "ReLU": (nn.ReLU, torch.nn.ReLU, (5, 4)),
    "LeakyReLU": (nn.LeakyReLU, lambda: torch.nn.LeakyReLU(0.2), (5, 4)),
    "Tanh": (nn.Tanh, torch.nn.Tanh, (5, 4)),
    "Sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, (5, 4)),
    "Dropout of nothing": (lambda: nn.Dropout(0), lambda: torch.nn.Dropout(0), (5, 4)),
    "Flatten": (nn.Flatten, torch.nn.Flatten, (2, 3, 4, 5)),
    "Reshape": (lambda: nn.Reshape(3, 5, 4), lambda: torch.nn.Unflatten(1, (3, 5, 4)), (2, 60)),
}


def set_same_weights(ours, theirs, random):
    """Give both the same random weights and (positive) variances, in float64.

    The weights are copied by name, so that this also tests the names.
    """
    to_float64(ours), theirs.double()
    with torch.no_grad():
        for name, array in theirs.state_dict().items():
            if array.ndim:                                      # all but num_batches_tracked
                values = torch.from_numpy(random.normal(size=array.shape))
                array.copy_(values.abs() + 0.5 if name.endswith("var") else values)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(ours, theirs, x):
    """Return the output of each, and its gradients with respect to x and all parameters."""
    parameters = ours.named_arrays(Tensor)
    assert list(parameters) == [name for name, _ in theirs.named_parameters()]
    a, b = Tensor(x), torch.tensor(x, requires_grad=True)
    y, t = ours(a), theirs(b)
    c = np.cos(np.arange(y.size)).reshape(y.shape)
    return (y, grad(y, [a, *parameters.values()], grad_y=c),
            t, torch.autograd.grad(t, [b, *theirs.parameters()], grad_outputs=torch.from_numpy(c)))


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    """Output, gradients and buffers agree for four batches in training and one in evaluation."""
    random = np.random.default_rng(0)
    make_ours, make_theirs, shape = LAYERS[name]
    ours, theirs = set_same_weights(make_ours(), make_theirs(), random)
    for batch in range(5):
        if batch == 4:
            ours.eval(), theirs.eval()
        x = random.normal(1.0, 2.0, shape)
        y, gs, t, ts = gradients(ours, theirs, x)
        np.testing.assert_allclose(y.numpy(), t.detach().numpy(), **CLOSE)
        for g, h in zip(gs, ts, strict=True):
            np.testing.assert_allclose(g.numpy(), h.numpy(), **CLOSE)
    expected = {k: v for k, v in theirs.state_dict().items() if v.ndim}
    assert list(ours.state_dict()) == list(expected)
    for key, value in ours.state_dict().items():
        np.testing.assert_allclose(value, expected[key].numpy(), **CLOSE)


# Spectral normalisation

SPECTRAL = {    # tinygan's layer, PyTorch's layer, shape of the input
    "Dense": (lambda: nn.Dense(4, 3), lambda: torch.nn.Linear(4, 3), (5, 4)),
    "Conv2d": (lambda: nn.Conv2d(3, 2, (4, 3), 2, 1), lambda: torch.nn.Conv2d(3, 2, (4, 3), 2, 1),
               (2, 3, 7, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, (4, 3), 2, 1),
                        lambda: torch.nn.ConvTranspose2d(3, 2, (4, 3), 2, 1), (2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("training", [False, True])
def test_spectral_norm(name, training):
    """With the same weight, u and v, the outputs, the gradients and the next u and v agree.

    In training PyTorch's older function is compared. Its newer one (in `parametrizations`) updates
    u and v in the other order than the paper and tinygan, so it is compared in evaluation.
    """
    random = np.random.default_rng(0)
    make_ours, make_theirs, shape = SPECTRAL[name]
    ours, theirs = nn.spectral_norm(make_ours()), make_theirs()
    ours.weight_v += 0.1        # so that v fits neither u nor the weight
    state = {key: torch.from_numpy(value) for key, value in ours.state_dict().items()}
    if training:
        theirs = torch.nn.utils.spectral_norm(theirs)
        theirs.load_state_dict(state)
        ours, theirs = to_float64(ours), theirs.double()
        u, v, weight = theirs.weight_u, theirs.weight_v, theirs.weight_orig
    else:
        ours, theirs = to_float64(ours), theirs.double()
        theirs = torch.nn.utils.parametrizations.spectral_norm(theirs)
        parametrization = theirs.parametrizations.weight
        u, v, weight = parametrization[0]._u, parametrization[0]._v, parametrization.original
        with torch.no_grad():
            u.copy_(state["weight_u"]), v.copy_(state["weight_v"])
            weight.copy_(state["weight_orig"]), theirs.bias.copy_(state["bias"])
    ours.train(training), theirs.train(training)
    for _ in range(3):
        x = random.normal(size=shape)
        a, b = Tensor(x), torch.tensor(x, requires_grad=True)
        y, t = ours(a), theirs(b)
        np.testing.assert_allclose(y.numpy(), t.detach().numpy(), **CLOSE)
        c = random.normal(size=y.shape)
        gs = grad(y, [a, ours.weight_orig, ours.bias], grad_y=c)
        ts = torch.autograd.grad(t, [b, weight, theirs.bias], grad_outputs=torch.from_numpy(c))
        for g, h in zip(gs, ts, strict=True):
            np.testing.assert_allclose(g.numpy(), h.numpy(), **CLOSE)
        np.testing.assert_allclose(ours.weight_u, u.numpy(), **CLOSE)
        np.testing.assert_allclose(ours.weight_v, v.numpy(), **CLOSE)


@pytest.mark.parametrize("name", SPECTRAL)
def test_weight_norm(name):
    """The outputs and the gradients agree; the axis of the outputs is another in one layer."""
    make_ours, make_theirs, shape = SPECTRAL[name]
    ours = nn.weight_norm(make_ours())
    ours.weight_g.data *= 1.5       # so that it is not |v|
    theirs = torch.nn.utils.parametrizations.weight_norm(
        make_theirs(), dim=int(name == "ConvTranspose2d"))
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in ours.state_dict().items()})
    ours, theirs = to_float64(ours), theirs.double()
    x = np.random.default_rng(0).normal(size=shape)
    a, b = Tensor(x), torch.tensor(x, requires_grad=True)
    y, t = ours(a), theirs(b)
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), **CLOSE)
    c = np.random.default_rng(1).normal(size=y.shape)
    gs = grad(y, [a, ours.weight_g, ours.weight_v, ours.bias], grad_y=c)
    weight = theirs.parametrizations.weight
    ts = torch.autograd.grad(t, [b, weight.original0, weight.original1, theirs.bias],
                             grad_outputs=torch.from_numpy(c))
    for g, h in zip(gs, ts, strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), **CLOSE)


# Layers with styles

def test_a_layer_with_a_style():
    """An equalised convolution, noise, leaky ReLU and AdaIN, with equalised weights of the style.

    The noise is the first draw of the stream.
    """
    random = np.random.default_rng(0)
    layer = to_float64(nn.Sequential(
        nn.equalise(nn.Conv2d(3, 4, 3, padding=1), gain=1.5, lr_multiplier=0.1), nn.AddNoise(4),
        nn.LeakyReLU(0.2), nn.AdaIN(4, 5)))
    for name, p in layer.named_arrays(Tensor).items():
        p.data[...] = random.normal(size=p.shape)
    x, w = random.normal(size=(2, 3, 5, 6)), random.normal(size=(2, 5))
    with nn.use_random(Random(1)):
        y = layer(Tensor(x), Tensor(w))
    noise = torch.from_numpy(Random(1).normal((2, 1, 5, 6))).double()
    p = {name: torch.tensor(a.numpy(), requires_grad=True)
         for name, a in layer.named_arrays(Tensor).items()}
    t = F.conv2d(torch.from_numpy(x), p["0.weight_raw"] * (0.1 * 1.5 / 27 ** 0.5),
                 p["0.bias"] * 0.1, padding=1)
    t = F.leaky_relu(t + p["1.weight"][:, None, None] * noise, 0.2)
    style = F.linear(torch.from_numpy(w), p["3.style.weight_raw"] / 5 ** 0.5, p["3.style.bias"])
    t = (F.instance_norm(t, eps=1e-8) * (1 + style[:, :4, None, None]) + style[:, 4:, None, None])
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), **CLOSE)
    c = random.normal(size=y.shape)
    gs = grad(y, layer.parameters(), grad_y=c)
    names = nn.module.find_names(layer)
    ts = torch.autograd.grad(t, [p[names[q]] for q in layer.parameters()],
                             grad_outputs=torch.from_numpy(c))
    for g, h in zip(gs, ts, strict=True):
        np.testing.assert_allclose(g.numpy(), h.numpy(), **CLOSE)


# Self-attention

@pytest.mark.parametrize("pool", [1, 2])
def test_self_attention(pool):
    """A layer equals PyTorch's attention of one head, with softmax(q k^T) v and no scale."""
    random = np.random.default_rng(0)
    layer = to_float64(nn.SelfAttention2d(8, pool, normalised=False))
    for p in layer.parameters():
        p.data[...] = random.normal(size=p.shape)
    x = random.normal(size=(2, 8, 4, 6))
    y = layer(Tensor(x))
    f, g, h, v, gamma = p = [torch.tensor(p.numpy(), requires_grad=True) for p in (
        *(part.weight for part in (layer.f, layer.g, layer.h, layer.v)), layer.gamma)]
    s = torch.from_numpy(x)
    keys, values = (F.max_pool2d(F.conv2d(s, w), pool).flatten(2).mT for w in (f, h))
    o = F.scaled_dot_product_attention(F.conv2d(s, g).flatten(2).mT, keys, values, scale=1.0)
    t = gamma * F.conv2d(o.mT.unflatten(2, (4, 6)), v) + s
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), **CLOSE)
    c = random.normal(size=y.shape)
    gs = grad(y, [*(part.weight for part in (layer.f, layer.g, layer.h, layer.v)), layer.gamma],
              grad_y=c)
    for ours, theirs in zip(gs, torch.autograd.grad(t, p, torch.from_numpy(c)), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), **CLOSE)


# Optimisers

@pytest.mark.parametrize("ours, theirs", [
    (lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    (lambda p: optim.RMSProp(p, 0.01), lambda p: torch.optim.RMSprop(p, 0.01)),
    (lambda p: optim.RMSProp(p, 0.01, rho=0.9, eps=1e-3),
     lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=1e-3)),
    (lambda p: optim.Adam(p, 0.01), lambda p: torch.optim.Adam(p, 0.01, betas=(0.5, 0.999))),
    (lambda p: optim.Adam(p, 0.01, betas=(0.9, 0.99), eps=1e-3),
     lambda p: torch.optim.Adam(p, 0.01, betas=(0.9, 0.99), eps=1e-3)),
    (lambda p: optim.Adam(p, 0.01, weight_decay=0.1),
     lambda p: torch.optim.Adam(p, 0.01, betas=(0.5, 0.999), weight_decay=0.1)),
], ids=["SGD", "momentum", "RMSProp", "RMSProp settings", "Adam", "Adam settings", "Adam decay"])
def test_optimisers_make_the_same_steps(ours, theirs):
    """Parameters agree after each of fifty float32 steps on the gradients of a small network.

    A step rounds each parameter, of size 2 at most, once or twice by 6e-8 of its size, and rounding
    of the averages changes the step by as little: less than 2e-5 in fifty steps. The parameters
    change by a thousand times that.
    """
    net = nn.Sequential(nn.Dense(3, 8), nn.Tanh(), nn.Dense(8, 1))
    parameters = net.parameters()
    copies = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in parameters]
    start = [p.numpy().copy() for p in parameters]
    opt, other = ours(parameters), theirs(copies)
    random = np.random.default_rng(0)
    for _ in range(50):
        x = Tensor(np.float32(random.normal(size=(16, 3))))
        error = net(x) - ops.exp(x[:, :1])
        grads = grad((error * error).mean(), parameters)
        opt.step(grads)
        for q, g in zip(copies, grads):
            q.grad = torch.tensor(g.numpy())
        other.step()
        for p, q in zip(parameters, copies):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=0, atol=2e-5)
    assert all(abs(p.numpy() - s).max() > 2e-2 for p, s in zip(parameters, start))


# Double backpropagation, as in gradient penalties

CRITICS = {
    "dense": (lambda: nn.Sequential(nn.Dense(4, 8), nn.LeakyReLU(), nn.Dense(8, 8), nn.LeakyReLU(),
                                    nn.Dense(8, 1)),
              lambda: torch.nn.Sequential(
                  torch.nn.Linear(4, 8), torch.nn.LeakyReLU(0.2), torch.nn.Linear(8, 8),
                  torch.nn.LeakyReLU(0.2), torch.nn.Linear(8, 1)), (6, 4)),
    "convolutional": (lambda: nn.Sequential(nn.Conv2d(1, 3, 4, 2, 1), nn.LeakyReLU(),
                                            nn.Conv2d(3, 4, 3, 2), nn.LayerNorm((4, 1, 2)),
                                            nn.LeakyReLU(), nn.Flatten(), nn.Dense(8, 1)),
                      lambda: torch.nn.Sequential(
                          torch.nn.Conv2d(1, 3, 4, 2, 1), torch.nn.LeakyReLU(0.2),
                          torch.nn.Conv2d(3, 4, 3, 2), torch.nn.LayerNorm((4, 1, 2)),
                          torch.nn.LeakyReLU(0.2), torch.nn.Flatten(), torch.nn.Linear(8, 1)),
                      (5, 1, 7, 10)),
}


@pytest.mark.parametrize("name", CRITICS)
def test_parameter_gradient_of_a_gradient_penalty(name):
    """The penalty is mean (|grad_x D(x)| - 1)^2 (Gulrajani et al. 2017, eq. 3)."""
    random = np.random.default_rng(0)
    make_ours, make_theirs, shape = CRITICS[name]
    ours, theirs = set_same_weights(make_ours(), make_theirs(), random)
    x = random.normal(size=shape)
    a, b = Tensor(x), torch.tensor(x, requires_grad=True)

    (slope,) = grad(ours(a).sum(), [a], create_graph=True)
    norms = ops.norm(slope, tuple(range(1, a.ndim)))
    penalty = ((norms - 1.0) ** 2).mean()
    gs = grad(penalty, ours.parameters(), unused="zeros")

    (t_slope,) = torch.autograd.grad(theirs(b).sum(), [b], create_graph=True)
    t_penalty = ((t_slope.flatten(1).norm(dim=1) - 1.0) ** 2).mean()
    ts = torch.autograd.grad(t_penalty, list(theirs.parameters()), materialize_grads=True)

    np.testing.assert_allclose(penalty.item(), t_penalty.item(), **CLOSE)
    assert sum(bool(g.numpy().any()) for g in gs) >= 3      # some biases do not change dD/dx
    for g, t in zip(gs, ts, strict=True):
        np.testing.assert_allclose(g.numpy(), t.numpy(), **CLOSE)


def make_mnist_critics():
    return (nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 128, 4, 2, 1),
                          nn.LeakyReLU(), nn.Flatten(), nn.Dense(128 * 7 * 7, 1)),
            torch.nn.Sequential(torch.nn.Conv2d(1, 64, 4, 2, 1), torch.nn.LeakyReLU(0.2),
                                torch.nn.Conv2d(64, 128, 4, 2, 1), torch.nn.LeakyReLU(0.2),
                                torch.nn.Flatten(), torch.nn.Linear(128 * 7 * 7, 1)))


def compare_gradients(gs, ts):
    """Compare gradients with a tolerance relative to the largest number of all.

    They are sums of thousands of terms that may cancel.
    """
    size = max(t.abs().max().item() for t in ts)
    for g, t in zip(gs, ts, strict=True):
        np.testing.assert_allclose(g.numpy(), t.numpy(), rtol=0, atol=1e-12 * size)


def test_gradient_penalty_of_the_mnist_critic():
    """The value of gradient_penalty and its gradients by all parameters of the critic agree."""
    random = np.random.default_rng(0)
    ours, theirs = make_mnist_critics()
    theirs.double(), to_float64(ours).load_state_dict(theirs.state_dict())
    x, fake = random.uniform(size=(3, 1, 28, 28)), random.normal(size=(3, 1, 28, 28))
    eps = random.uniform(size=3)
    penalty = gradient_penalty(ours, Tensor(x), Tensor(fake), Tensor(eps))
    eps = eps[:, None, None, None]
    between = torch.tensor(eps * x + (1 - eps) * fake, requires_grad=True)
    (slope,) = torch.autograd.grad(theirs(between).sum(), [between], create_graph=True)
    t_penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    assert penalty.item() == pytest.approx(t_penalty.item(), rel=1e-12)
    gs = grad(penalty, ours.parameters(), unused="zeros")
    compare_gradients(gs, torch.autograd.grad(t_penalty, list(theirs.parameters()),
                                              materialize_grads=True))
    assert [bool(g.numpy().any()) for g in gs] == [True, False] * 3     # by weights, not by biases


def test_r1_of_the_mnist_discriminator():
    """D's loss with the penalty and its gradients by all parameters of D agree."""
    random = np.random.default_rng(0)
    ours, theirs = make_mnist_critics()
    theirs.double(), to_float64(ours).load_state_dict(theirs.state_dict())
    x, z = random.uniform(size=(3, 1, 28, 28)), random.normal(size=(3, 1, 28, 28))
    loss = R1(nn.Sequential(), ours, gamma=5.0).d_loss(Tensor(x), Tensor(z))    # G returns z
    real = torch.tensor(x, requires_grad=True)
    scores = theirs(real)
    (slope,) = torch.autograd.grad(scores.sum(), [real], create_graph=True)
    t_loss = (F.softplus(-scores).mean() + F.softplus(theirs(torch.from_numpy(z))).mean()
              + 5.0 / 2 * (slope ** 2).sum((1, 2, 3)).mean())
    assert loss.item() == pytest.approx(t_loss.item(), rel=1e-12)
    compare_gradients(grad(loss, ours.parameters()),
                      torch.autograd.grad(t_loss, list(theirs.parameters())))


def test_losses_of_the_projection_gan():
    """Both losses and their gradients agree, with conditional batch normalisation in G, R1 on D."""
    random = np.random.default_rng(0)
    G = nn.Sequential(nn.Dense(3, 4), nn.ConditionalBatchNorm(4, 3), nn.Tanh())
    phi = nn.Sequential(nn.Dense(4, 6), nn.Tanh())
    D = ProjectionDiscriminator(phi, 6, 3, normalised=False)
    for p in (*G.parameters(), *D.parameters()):
        p.data = random.normal(size=p.shape)
    game = ProjectionGAN(G, D, 3, 3, penalties=[penalties.R1(2.0)])
    norm = G.layers[1].norm
    norm.running_mean, norm.running_var = (a.astype("float64") for a in (norm.running_mean,
                                                                         norm.running_var))
    x, z = random.normal(size=(5, 4)), random.normal(size=(5, 3))
    y, labels = np.array([0, 2, 1, 1, 0]), np.array([2, 2, 0, 1, 0])

    t = {name: torch.tensor(p.numpy(), requires_grad=True)
         for net in (G, D) for name, p in net.named_arrays(Tensor).items()
         for name in [("G." if net is G else "D.") + name]}

    def t_G(z, y):
        h = z @ t["G.0.weight"].T + t["G.0.bias"]
        h = F.batch_norm(h, None, None, training=True)
        return torch.tanh(h * F.embedding(y, t["G.1.weight.weight"])
                          + F.embedding(y, t["G.1.bias.weight"]))

    def t_D(x, y):
        h = torch.tanh(x @ t["D.phi.0.weight"].T + t["D.phi.0.bias"])
        return (h @ t["D.psi.weight"].T + t["D.psi.bias"]
                + (F.embedding(y, t["D.embedding.weight"]) * h).sum(1, keepdim=True))

    real = torch.tensor(x, requires_grad=True)
    t_y, t_labels, t_z = torch.from_numpy(y), torch.from_numpy(labels), torch.from_numpy(z)
    a, b = t_D(real, t_y), t_D(t_G(t_z, t_labels).detach(), t_labels)
    (slope,) = torch.autograd.grad(a.sum(), [real], create_graph=True)
    t_d_loss = (F.relu(1 - a).mean() + F.relu(1 + b).mean()
                + 2.0 / 2 * (slope ** 2).sum(1).mean())
    t_g_loss = -t_D(t_G(t_z, t_labels), t_labels).mean()
    for loss, t_loss, net, prefix in (
            (game.d_loss((Tensor(x), y), (Tensor(z), labels)), t_d_loss, D, "D."),
            (game.g_loss((Tensor(x), y), (Tensor(z), labels)), t_g_loss, G, "G.")):
        assert loss.item() == pytest.approx(t_loss.item(), rel=1e-12)
        names = [prefix + name for name in net.named_arrays(Tensor)]
        compare_gradients(grad(loss, net.parameters()),
                          torch.autograd.grad(t_loss, [t[name] for name in names]))


def compare_losses(game, inputs, losses, peers):
    """Compare both losses of a game and their gradients with PyTorch's.

    losses   PyTorch's (d_loss, g_loss)
    peers    {parameter's name in the game: PyTorch's tensor}
    """
    parameters = game.named_arrays(Tensor)
    names = {id(p): name for name, p in parameters.items()}
    for loss, t_loss, ps in zip((game.d_loss(*inputs), game.g_loss(*inputs)), losses,
                                (game.d_parameters(), game.g_parameters())):
        assert loss.item() == pytest.approx(t_loss.item(), rel=1e-12)
        compare_gradients(grad(loss, ps), torch.autograd.grad(
            t_loss, [peers[names[id(p)]] for p in ps], retain_graph=True))


def draw_weights(game, random):
    """Draw the parameters of a game in float64; return {name: PyTorch's tensor} of the same."""
    for p in game.parameters():
        p.data = random.normal(size=p.shape)
    return {name: torch.tensor(p.numpy(), requires_grad=True)
            for name, p in game.named_arrays(Tensor).items()}


def test_losses_of_the_infogan():
    """Both losses and their gradients agree, with Q's negative log-likelihood by PyTorch."""
    random = np.random.default_rng(0)
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(7, 4), nn.Tanh())
    D = nn.Heads(nn.Sequential(nn.Dense(4, 6), nn.Tanh()), nn.Dense(6, 1), nn.Dense(6, 5))
    game = InfoGAN(G, D, 2, 3, 2, lam=0.7)
    t = draw_weights(game, random)
    x, z, c = random.normal(size=(5, 4)), random.uniform(-1, 1, (5, 4)), np.array([0, 2, 1, 1, 0])

    def linear(x, name):
        return F.linear(x, t[name + ".weight"], t[name + ".bias"])

    def t_D(x):
        h = torch.tanh(linear(x, "D.trunk.0"))
        return linear(h, "D.heads.0"), linear(h, "D.heads.1")
    t_x, t_z, t_c = map(torch.from_numpy, (x, z, c))
    fake = torch.tanh(linear(torch.cat([t_z, F.one_hot(t_c, 3).double()], 1), "G.1"))
    losses = []
    for images in (fake.detach(), fake):
        b, q = t_D(images)
        # GaussianNLLLoss with variance 1 is the mean of (c - mean)^2 / 2 over all numbers
        nll = torch.nn.GaussianNLLLoss()(q[:, 3:], t_z[:, 2:], torch.ones(5, 2))
        losses.append((b, 0.7 * (F.cross_entropy(q[:, :3], t_c) - np.log(3) + 2 * nll)))
    (b, d_term), (b_g, g_term) = losses
    ones, zeros = torch.ones(5, 1).double(), torch.zeros(5, 1).double()
    bce = F.binary_cross_entropy_with_logits
    compare_losses(game, (Tensor(x), (Tensor(z), c)), (
        bce(t_D(t_x)[0], ones) + bce(b, zeros) + d_term, bce(b_g, ones) + g_term), t)


@pytest.mark.parametrize("kind", [BiGAN, ALI, VEEGAN])
def test_losses_of_the_bigan(kind):
    """Both losses and their gradients agree, for a pair as input of D; what is drawn is given."""
    random = np.random.default_rng(0)
    last = [nn.Dense(6, 4), nn.GaussianSample()] if kind is ALI else [nn.Dense(6, 2)]
    game = kind(nn.Sequential(nn.Dense(2, 4), nn.Tanh()),
                nn.Sequential(nn.Dense(4, 6), nn.Tanh(), *last),
                nn.Sequential(nn.Join(), nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 1)), 2)
    t = draw_weights(game, random)
    x, z, eps = (random.normal(size=size) for size in ((5, 4), (5, 2), (5, 2)))

    class Given:        # the source of the layers' random numbers
        def normal(self, shape):
            return eps

    def linear(x, name):
        return F.linear(x, t[name + ".weight"], t[name + ".bias"])

    def t_D(x, z):
        return linear(torch.tanh(linear(torch.cat([x, z], 1), "D.1")), "D.3")
    t_x, t_z = torch.from_numpy(x), torch.from_numpy(z)
    code = linear(torch.tanh(linear(t_x, "E.0")), "E.2")
    fake = torch.tanh(linear(t_z, "G.0"))
    again = linear(torch.tanh(linear(fake, "E.0")), "E.2")
    code = (code[:, :2] + torch.exp(code[:, 2:]) * torch.from_numpy(eps) if kind is ALI else
            code + torch.from_numpy(eps) if kind is VEEGAN else torch.tanh(code / 2))
    ones, zeros = torch.ones(5, 1).double(), torch.zeros(5, 1).double()
    bce = F.binary_cross_entropy_with_logits
    with use_random(Given()):
        compare_losses(game, (Tensor(x), Tensor(z)), (
            bce(t_D(t_x, code.detach()), ones) + bce(t_D(fake.detach(), t_z), zeros),
            2 * F.mse_loss(again, t_z) - t_D(fake, t_z).mean() if kind is VEEGAN else
            bce(t_D(t_x, code), zeros) + bce(t_D(fake, t_z), ones)), t)


# Whole training steps

def mean_softplus(a):
    return F.softplus(a).mean()


def squared_slopes(D, x):
    """Return |dD/dx|^2 for each row of x, which is a constant."""
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return (g * g).sum(1)


def gan_d(D, x, y, eps=None):
    return mean_softplus(-D(x)) + mean_softplus(D(y))


def gan_g(D, x, y):
    return mean_softplus(-D(y))


def ragan_d(D, x, y, eps=None):
    a, b = D(x), D(y)
    return mean_softplus(b.mean() - a) + mean_softplus(b - a.mean())


def wgan_g(D, x, y):
    return -D(y).mean()


def wgan_gp_d(D, x, y, eps):
    slopes = squared_slopes(D, eps[:, None] * x + (1 - eps[:, None]) * y).sqrt()
    return D(y).mean() - D(x).mean() + 10 * ((slopes - 1) ** 2).mean()


def unrolled_g(D, x, y, k=3, eta=0.1):
    theta = dict(D.named_parameters())

    def minus_value():
        return gan_d(lambda a: torch.func.functional_call(D, theta, a), x, y)
    for _ in range(k):
        slopes = torch.autograd.grad(minus_value(), list(theta.values()), create_graph=True)
        theta = {name: p - eta * g for (name, p), g in zip(theta.items(), slopes)}
    return -minus_value()


def pairs(loss):
    """Return the loss for a D of two samples at once."""
    return lambda D, x, y, *rest: loss(D, x.reshape(-1, 8), y.reshape(-1, 8), *rest)


# name: (the game with its settings, D's loss and G's loss of D, data x and samples y)
TRAINED = {
    "gan": (lambda *nets: GAN(*nets, 3), gan_d, gan_g),
    "saturating": (lambda *nets: GAN(*nets, 3, losses.Saturating()), gan_d,
                   lambda D, x, y: -mean_softplus(D(y))),
    "lsgan": (lambda *nets: LSGAN(*nets, 3),
              lambda D, x, y, eps: ((D(x) - 1) ** 2).mean() + (D(y) ** 2).mean(),
              lambda D, x, y: ((D(y) - 1) ** 2).mean()),
    "hinge": (lambda *nets: Hinge(*nets, 3),
              lambda D, x, y, eps: F.relu(1 - D(x)).mean() + F.relu(1 + D(y)).mean(), wgan_g),
    "rsgan": (lambda *nets: RSGAN(*nets, 3), lambda D, x, y, eps: mean_softplus(D(y) - D(x)),
              lambda D, x, y: mean_softplus(D(x) - D(y))),
    "ragan": (lambda *nets: RaGAN(*nets, 3), ragan_d, lambda D, x, y: ragan_d(D, y, x)),
    "wgan": (lambda *nets: WGAN(*nets, 3, c=0.9, n_critic=2),
             lambda D, x, y, eps: D(y).mean() - D(x).mean(), wgan_g),
    "wgan_gp": (lambda *nets: WGANGP(*nets, 3, n_critic=2), wgan_gp_d, wgan_g),
    "r1": (lambda *nets: R1(*nets, 3, gamma=3.0),
           lambda D, x, y, eps: gan_d(D, x, y) + 1.5 * squared_slopes(D, x).mean(), gan_g),
    "r3gan": (lambda *nets: R3GAN(*nets, 3, gamma=3.0),
              lambda D, x, y, eps: mean_softplus(D(y) - D(x)) + 1.5 * (
                  squared_slopes(D, x).mean() + squared_slopes(D, y).mean()),
              lambda D, x, y: mean_softplus(D(x) - D(y))),
    "unrolled": (lambda *nets: UnrolledGAN(*nets, 3, k=3, eta=0.1), gan_d, unrolled_g),
    "pacgan": (lambda *nets: PacGAN(*nets, 3, k=2), pairs(gan_d), pairs(gan_g)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_gives_the_same_weights(name):
    """The weights and running averages of G and D agree after each step of ten iterations.

    Two layers have no bias: its gradient would be 0 up to rounding, before batch normalisation and
    in losses of differences of scores, and Adam would make steps of the rounding errors.
    """
    random, rng = np.random.default_rng(0), Random(0)
    make, *t_losses = TRAINED[name]
    n = 8 if name == "pacgan" else 4
    G, t_G = set_same_weights(
        nn.Sequential(nn.Dense(3, 8, bias=False), nn.BatchNorm(8), nn.Tanh(), nn.Dense(8, 4)),
        torch.nn.Sequential(torch.nn.Linear(3, 8, bias=False), torch.nn.BatchNorm1d(8),
                            torch.nn.Tanh(), torch.nn.Linear(8, 4)), random)
    D, t_D = set_same_weights(
        nn.Sequential(nn.Dense(n, 8), nn.Tanh(), nn.Dense(8, 1, bias=False)),
        torch.nn.Sequential(torch.nn.Linear(n, 8), torch.nn.Tanh(),
                            torch.nn.Linear(8, 1, bias=False)), random)
    game = make(G, D)
    opts = [optim.Adam(player.parameters(), 0.01) for player in (D, G)]
    t_opts = [torch.optim.Adam(player.parameters(), 0.01, betas=(0.5, 0.999))
              for player in (t_D, t_G)]
    start = [a.copy() for net in (G, D) for a in net.state_dict().values()]
    for i in range(10):
        for player in [0] * game.d_steps + [1]:
            x, z = random.normal(size=(6, 4)), to_float64(game.latent(6, rng))
            loss = (d_step, g_step)[player](game, opts[player], Tensor(x), z, 0)
            eps = Random(0).uniform(0, 1, (6,)).astype("float64")      # of the step's seed 0
            x, z, eps = map(torch.from_numpy, (x, z.numpy(), eps))
            t_loss = (t_losses[1](t_D, x, t_G(z)) if player else
                      t_losses[0](t_D, x, t_G(z).detach(), eps))
            t_opts[player].zero_grad()
            t_loss.backward()
            t_opts[player].step()
            if name == "wgan" and not player:
                with torch.no_grad():
                    for p in t_D.parameters():
                        p.clamp_(-0.9, 0.9)
            assert loss.item() == pytest.approx(t_loss.item(), rel=1e-10)
            for net, t_net in ((G, t_G), (D, t_D)):
                expected = t_net.state_dict()
                for key, value in net.state_dict().items():
                    np.testing.assert_allclose(value, expected[key].numpy(), **CLOSE)
    end = [a for net in (G, D) for a in net.state_dict().values()]
    assert all(abs(a - b).max() > 0.01 for a, b in zip(start, end))


# Weights saved by one library and loaded by the other

def make_networks():
    ours = nn.Sequential(
        nn.Conv2d(2, 3, 4, 2, 1), nn.BatchNorm(3), nn.LeakyReLU(),
        nn.ConvTranspose2d(3, 2, 4, 2, 1), nn.LayerNorm((2, 6, 8)), nn.Flatten(),
        nn.Dense(96, 5), nn.BatchNorm(5), nn.Tanh(),
        nn.Sequential(nn.Dense(5, 2), nn.Sigmoid()))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 4, 2, 1), torch.nn.BatchNorm2d(3), torch.nn.LeakyReLU(0.2),
        torch.nn.ConvTranspose2d(3, 2, 4, 2, 1), torch.nn.LayerNorm((2, 6, 8)), torch.nn.Flatten(),
        torch.nn.Linear(96, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(),
        torch.nn.Sequential(torch.nn.Linear(5, 2), torch.nn.Sigmoid()))
    return ours, theirs


def compare_outputs(ours, theirs, random):
    """Compare outputs in evaluation and in float32.

    Six layers compute sums of about a hundred numbers of size 1, and each sum is rounded by some
    1e-6. The sigmoid at the end divides the error by at least four.
    """
    x = np.float32(random.normal(size=(7, 2, 6, 8)))
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.eval()(Tensor(x)).numpy(), expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-2        # the comparison means nothing if all outputs are alike


def test_weights_trained_in_tinygan_load_in_pytorch():
    random = np.random.default_rng(0)
    ours, theirs = make_networks()
    opt = optim.Adam(ours.parameters(), lr=0.01)
    for _ in range(10):                 # so that no weight, bias or buffer is at its initial value
        x = Tensor(np.float32(random.normal(0.5, 2.0, (8, 2, 6, 8))))
        opt.step(grad((ours(x)[:, 0] - ours(x)[:, 1]).sum(), opt.parameters))
    state = ours.state_dict()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    compare_outputs(ours, theirs, random)


def test_weights_trained_in_pytorch_load_in_tinygan():
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    ours, theirs = make_networks()
    for _ in range(10):
        y = theirs(torch.from_numpy(np.float32(random.normal(0.5, 2.0, (8, 2, 6, 8)))))
        grads = torch.autograd.grad((y[:, 0] - y[:, 1]).sum(), list(theirs.parameters()))
        with torch.no_grad():
            for p, g in zip(theirs.parameters(), grads):
                p -= 0.01 * g
    state = theirs.state_dict()
    assert state["1.num_batches_tracked"] == 10     # a count that nothing uses
    ours.load_state_dict(state)
    compare_outputs(ours, theirs, random)


def test_the_readmes_code_loads_weights_into_pytorch():
    """The README's critic and its copy in PyTorch give the same scores."""
    make_critic = next(block for block in BLOCKS if "critic = " in block)
    load_weights = next(block for block in BLOCKS if "import torch" in block)
    assert len([line for line in load_weights.splitlines() if line]) <= 6
    names = {}
    exec(make_critic, names)
    exec(load_weights, names)
    x = names["x"].numpy()
    np.testing.assert_allclose(names["peer"](torch.from_numpy(x)).detach().numpy(),
                               names["critic"](names["x"]).numpy(), atol=1e-5)  # float32
