"""Gradients of every operation and layer against finite differences, to second order.

check_grads measures in float64 with an error of about 1e-10. Its tolerance 1e-7 is far above that,
and far below the error of any wrong rule, which is of the size of the gradient itself.
"""

import numpy as np
import pytest

from tinygan import Tensor, backend, channels, check_grads, grad, nn, ops, resampling
from tinygan.conv import conv2d, conv_transpose2d, conv_weight, padding_pair, stride_pair
from tinygan.tensor import broadcast_to, sum_to

from helpers import normal, positive, tensor

EVEN, ODD = normal(3, 4), normal(3, 4, seed=1)
IMAGES = normal(2, 3, 5, 6)

MATRICES = normal(5, 4, seed=3), normal(2, 3, seed=4)
OPERATIONS = {
    # name: (function, its inputs)
    "neg": (lambda x: -x, [EVEN]),
    "add": (lambda a, b: a + b, [EVEN, ODD]),
    "add number": (lambda x: 2 + x + 3.0, [EVEN]),
    "sub": (lambda a, b: a - b, [EVEN, ODD]),
    "number sub": (lambda x: 2 - x, [EVEN]),
    "mul": (lambda a, b: a * b, [EVEN, ODD]),
    "mul itself": (lambda x: x * x * x, [EVEN]),
    "div": (lambda a, b: a / b, [EVEN, positive(3, 4)]),
    "number div": (lambda x: 2 / x, [positive(3, 4)]),
    "abs": (abs, [EVEN]),
    "power 3": (lambda x: x ** 3, [EVEN]),
    "power 1 at 0": (lambda x: x ** 1, [np.zeros(3)]),
    "power 2 at 0": (lambda x: x ** 2, [np.zeros(3)]),
    "power 0": (lambda x: x ** 0 + x, [np.zeros(3)]),
    "power -1.5": (lambda x: x ** -1.5, [positive(3, 4)]),
    "matmul": (lambda a, b: a @ b, [EVEN, normal(4, 2)]),
    "matmul batches": (lambda a, b: a @ b, [normal(2, 1, 3, 4), normal(5, 4, 2)]),
    "matmul itself": (lambda x: x @ x.T @ x, [EVEN]),
    "matmul constant": (lambda x: (x @ np.eye(4).tolist()) * ([[1, 2, 3]] @ x), [EVEN]),
    "sum": (lambda x: x.sum() * x, [EVEN]),
    "sum axis": (lambda x: x.sum(1) * x.sum(-1), [EVEN]),
    "sum axes": (lambda x: x.sum((0, -1)) ** 2, [normal(2, 3, 4)]),
    "sum keepdims": (lambda x: x.sum(0, keepdims=True) * x, [EVEN]),
    "mean": (lambda x: x.mean() * x, [EVEN]),
    "mean axes": (lambda x: x.mean((1, 2), keepdims=True) * x, [normal(2, 3, 4)]),
    "max": (lambda x: x.max() * x, [EVEN]),
    "max axis": (lambda x: x.max(1) ** 2, [EVEN]),
    "max axes keepdims": (lambda x: x.max((0, 2), keepdims=True) * x, [normal(2, 3, 4)]),
    "reshape": (lambda x: x.reshape(2, -1) ** 2, [EVEN]),
    "reshape tuple": (lambda x: x.reshape((6, 2)) ** 2, [EVEN]),
    "transpose": (lambda x: x.transpose() ** 2, [normal(2, 3, 4)]),
    "transpose axes": (lambda x: x.transpose(1, -1, 0) ** 2, [normal(2, 3, 4)]),
    "T": (lambda x: x.T ** 2, [normal(2, 3, 4)]),
    "slice": (lambda x: x[1:, ::2] ** 2, [EVEN]),
    "slice backwards": (lambda x: x[::-1, -1] ** 2, [EVEN]),
    "index new axis": (lambda x: x[..., None, 1] ** 2, [EVEN]),
    "index number": (lambda x: x[1] ** 2, [EVEN]),
    "broadcast_to": (lambda x: broadcast_to(x, (2, 3, 4)) ** 2, [normal(3, 1)]),
    "sum_to": (lambda x: sum_to(x, (3, 1)) ** 2, [normal(2, 3, 4)]),
    "exp": (ops.exp, [EVEN]),
    "log": (ops.log, [positive(3, 4)]),
    "sqrt": (ops.sqrt, [positive(3, 4)]),
    "norm": (ops.norm, [EVEN]),
    "norm axis": (lambda x: ops.norm(x, 1), [EVEN]),
    "norm axes keepdims": (lambda x: ops.norm(x, (1, 2), keepdims=True) * x, [normal(2, 3, 4)]),
    "tanh": (ops.tanh, [EVEN]),
    "sigmoid": (ops.sigmoid, [3 * EVEN]),
    "softplus": (ops.softplus, [3 * EVEN]),
    "log_sigmoid": (ops.log_sigmoid, [3 * EVEN]),
    "log_softmax": (ops.log_softmax, [EVEN]),
    "softmax": (ops.softmax, [EVEN]),
    "log_softmax axis": (lambda x: ops.log_softmax(x, 0), [EVEN]),
    "logsumexp": (ops.logsumexp, [EVEN]),
    "logsumexp keepdims": (lambda x: ops.logsumexp(x, 0, keepdims=True) * x, [EVEN]),
    "cross_entropy": (ops.cross_entropy, [EVEN, np.array([3, 0, 1])]),
    "relu": (lambda x: ops.relu(x) * x, [EVEN]),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.3) * x, [EVEN]),
    "maximum": (lambda a, b: ops.maximum(a, b) ** 2, [EVEN, ODD]),
    "maximum broadcast": (lambda a, b: ops.maximum(a, b) ** 2, [EVEN, normal(3, 1, seed=2)]),
    "minimum": (lambda a, b: ops.minimum(a, b) ** 2, [EVEN, ODD]),
    "maximum number": (lambda x: ops.maximum(x, 0.1) ** 2, [EVEN]),
    "clip": (lambda x: ops.clip(x, -0.5, 0.5) * x, [EVEN]),
    "where": (lambda a, b: ops.where(a.data > 0, a * b, b), [EVEN, ODD]),
    "where broadcast": (lambda a, b: ops.where(a.data > 0, b, a) ** 2, [EVEN, normal(4)]),
    "concat": (lambda a, b: ops.concat([a, b, a]) ** 2, [EVEN, normal(1, 4)]),
    "concat last axis": (lambda a, b: ops.concat([a, b], -1) ** 2, [EVEN, normal(3, 2)]),
    "pad": (lambda x: ops.pad(x, [(1, 0), (2, 3)]) ** 2, [EVEN]),
    "resample": (lambda x: resampling.resample(x, *map(backend.xp.asarray, MATRICES)) ** 2,
                 [normal(2, 3, 4, 3)]),
    "reflection_pad": (lambda x: resampling.reflection_pad(x, 2) ** 2, [IMAGES]),
    "resize": (lambda x: resampling.resize(x, (3, 9), resampling.bilinear) ** 2, [IMAGES]),
    "upsample": (lambda x: resampling.upsample(x, 3) ** 2, [IMAGES]),
    "avg_pool": (lambda x: resampling.avg_pool(x, 2) ** 2, [IMAGES]),
    "avg_pool that overlaps": (lambda x: resampling.avg_pool(x, 3, 2, 1) ** 2, [IMAGES]),
    "max_pool": (lambda x: resampling.max_pool(x, 2) ** 2, [IMAGES]),
    "scale": (channels.scale, [EVEN, normal(4), normal(4, seed=1)]),
    "scale images": (channels.scale, [IMAGES, normal(3), normal(3, seed=1)]),
    "channel_sum": (lambda x: channels.channel_sum(x) ** 2, [IMAGES]),
    "channel_sum of a product": (channels.channel_sum, [IMAGES, normal(*IMAGES.shape, seed=1)]),
    "channel_sum of rows": (lambda x: channels.channel_sum(x, x * x), [EVEN]),
    "channel_sum of squares": (lambda x: channels.channel_sum(x, x) ** 2, [IMAGES]),
    "scale each": (channels.scale, [IMAGES, normal(2, 3), normal(2, 3, seed=1)]),
    "scale each row": (channels.scale, [EVEN, normal(3, 4), normal(3, 4, seed=1)]),
    "channel_sum of each": (lambda x: channels.channel_sum(x, each=True) ** 2, [IMAGES]),
    "channel_sum of each product": (lambda x, y: channels.channel_sum(x, y, each=True),
                                    [IMAGES, normal(*IMAGES.shape, seed=1)]),
    "channel_sum of each square": (lambda x: channels.channel_sum(x, x, True) ** 2, [IMAGES]),
    "affine_power": (lambda x: channels.affine_power(x * x, 0.5, 0.1, -0.5, 2.0), [EVEN]),
    "centre": (lambda x: channels.centre(x)[0] * x, [EVEN]),
    "centre each": (lambda x: channels.centre(x, each=True)[0] ** 2, [IMAGES]),
    "centre images": (lambda x: channels.centre(x)[0] ** 2, [IMAGES]),
    "linear": (ops.linear, [EVEN, normal(2, 4), normal(2)]),
    "linear without bias": (ops.linear, [EVEN, normal(2, 4)]),
}

LAYERS = {
    "Dense": (lambda: nn.Dense(4, 3), (5, 4)),
    "Dense without bias": (lambda: nn.Dense(4, 3, bias=False), (5, 4)),
    "Maxout": (lambda: nn.Maxout(4, 3, 5), (5, 4)),
    "Conv2d": (lambda: nn.Conv2d(3, 2, (3, 2), stride=(2, 1), padding=(0, 1)), (2, 3, 5, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1, output_padding=(1, 0)),
                        (2, 3, 3, 4)),
    "BatchNorm 1-D": (lambda: nn.BatchNorm(4), (5, 4)),
    "BatchNorm 2-D": (lambda: nn.BatchNorm(3), (2, 3, 5, 6)),
    "BatchNorm evaluating": (lambda: nn.BatchNorm(3).eval(), (2, 3, 5, 6)),
    "BatchNorm without running averages": (
        lambda: nn.BatchNorm(3, track_running_stats=False).eval(), (2, 3, 5, 6)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3), (2, 3, 5, 6)),
    "InstanceNorm2d with weights": (lambda: nn.InstanceNorm2d(3, affine=True), (2, 3, 5, 6)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (5, 4)),
    "LayerNorm of images": (lambda: nn.LayerNorm((3, 2, 2)), (2, 3, 2, 2)),
    "weight norm Dense": (lambda: nn.weight_norm(nn.Dense(4, 3)), (5, 4)),
    "weight norm Conv2d": (lambda: nn.weight_norm(nn.Conv2d(3, 2, (3, 2), 2)), (2, 3, 5, 6)),
    "weight norm ConvTranspose2d": (
        lambda: nn.weight_norm(nn.ConvTranspose2d(3, 2, (3, 2), 2), learn_norms=False),
        (2, 3, 3, 4)),
    "spectral norm Dense": (lambda: nn.spectral_norm(nn.Dense(4, 3)).eval(), (5, 4)),
    "spectral norm Conv2d": (lambda: nn.spectral_norm(nn.Conv2d(3, 2, (3, 2), 2)).eval(),
                             (2, 3, 5, 6)),
    "spectral norm ConvTranspose2d": (
        lambda: nn.spectral_norm(nn.ConvTranspose2d(3, 2, (3, 2), 2)).eval(), (2, 3, 3, 4)),
    "Dropout": (lambda: nn.Dropout(0.5), (5, 4)),
    "GaussianNoise": (lambda: nn.GaussianNoise(0.5), (5, 4)),
    "ReLU": (nn.ReLU, (5, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), (5, 4)),
    "Tanh": (nn.Tanh, (5, 4)),
    "Sigmoid": (nn.Sigmoid, (5, 4)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 3, 5, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 3, 5, 6)),
    "Upsample": (lambda: nn.Upsample(2), (2, 3, 3, 2)),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(1), (2, 3, 3, 2)),
    "Residual": (lambda: nn.Residual(nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU())),
                 (2, 3, 4, 3)),
    "Residual with a shortcut": (lambda: nn.Residual(nn.Conv2d(3, 2, 3, 1, 1),
                                                     nn.Conv2d(3, 2, 1, bias=False)), (2, 3, 4, 3)),
    "Flatten, Reshape": (lambda: nn.Sequential(nn.Flatten(), nn.Reshape(2, 9)), (2, 3, 3, 2)),
    "a convolutional critic": (lambda: nn.Sequential(
        nn.Conv2d(1, 3, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(),
        nn.Flatten(), nn.Dense(16, 1)), (3, 1, 8, 8)),
    "a convolutional generator": (lambda: nn.Sequential(
        nn.Dense(5, 12), nn.BatchNorm(12), nn.ReLU(), nn.Reshape(3, 2, 2),
        nn.ConvTranspose2d(3, 2, 4, 2, 1), nn.BatchNorm(2), nn.ReLU(),
        nn.ConvTranspose2d(2, 1, 4, 2, 1), nn.Sigmoid()), (4, 5)),
}

BROADCASTS = [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 4), (3, 1)),
              ((1, 1), (2, 3, 4)), ((5,), ())]

# Image, kernel, stride, padding: also sizes that the stride does not divide, 1x1 kernels, and
# kernels as large as the image.
CONVOLUTIONS = [((5, 6), (3, 3), 1, 0), ((7, 7), (4, 4), 2, 1), ((8, 6), (4, 4), 2, 1),
                ((6, 9), (2, 3), (3, 2), (1, 0)), ((4, 5), (1, 1), 1, 0),
                ((4, 5), (1, 1), 1, (1, 0)), ((5, 5), (1, 1), 2, 0),
                ((4, 3), (4, 3), 1, 0), ((5, 4), (2, 2), 3, 1), ((4, 4), (2, 2), 1, 3),
                ((7, 5), (5, 5), 2, 2), ((3, 4), (1, 2), 1, (1, 0)), ((4, 3), (3, 2), 1, (2, 2))]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    f, arrays = OPERATIONS[name]
    check_grads(f, *arrays)


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes(seed):
    """Elementwise functions, broadcasting and sums are right for random shapes and axes."""
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 5, size=seed % 5).tolist())
    other = tuple(n if random.random() < 0.5 else 1 for n in shape)
    other = other[random.integers(len(shape) + 1):]
    axes = tuple(i for i in range(len(shape)) if random.random() < 0.5)
    for f in (ops.exp, ops.sigmoid, ops.softplus, ops.leaky_relu, lambda x: (x * x).sum(axes),
              lambda x: x.mean(axes, keepdims=True) * x, lambda x: x.transpose() ** 3):
        check_grads(f, normal(*shape, seed=seed))
    for f in (lambda a, b: a / b, lambda a, b: a * b + b, ops.maximum):
        check_grads(f, normal(*shape, seed=seed), positive(*other, seed=seed))
        check_grads(f, normal(*other, seed=seed), positive(*shape, seed=seed))


@pytest.mark.parametrize("name", [*OPERATIONS, *LAYERS])
def test_float32_in_float32_out_at_both_orders(name):
    if name in OPERATIONS:
        f, arrays = OPERATIONS[name]
        xs = [tensor(a, "float32") if a.dtype.kind == "f" else backend.xp.asarray(a)
              for a in arrays]
        parameters = []
    else:
        layer, shape = LAYERS[name]
        f, xs = layer(), [tensor(normal(*shape), "float32")]
        parameters = f.parameters()
    wanted = [x for x in xs if type(x) is Tensor] + parameters
    y = f(*xs)
    first = grad((y * y).sum(), wanted, create_graph=True)
    second = grad(sum((g * g).sum() for g in first), wanted, unused="zeros")
    assert {t.dtype.name for t in (y, *first, *second)} == {"float32"}


def test_batch_norm_to_third_order():
    check_grads(nn.BatchNorm(3), IMAGES, order=3)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    layer, shape = LAYERS[name]
    check_grads(layer(), normal(*shape))


@pytest.mark.parametrize("a, b", BROADCASTS)
@pytest.mark.parametrize("f", [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b,
                               lambda a, b: a / b], ids=["add", "sub", "mul", "div"])
def test_broadcasting(f, a, b):
    check_grads(f, normal(*a), positive(*b))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("image, kernel, stride, padding", CONVOLUTIONS)
def test_convolutions_to_third_order(image, kernel, stride, padding, channels, backend_name):
    """To first order on other backends than numpy, as derivatives are the same three operations."""
    order = 3 if backend_name == "numpy" else 1
    x, w = normal(2, channels, *image), normal(3, channels, *kernel)
    y = normal(*conv2d(tensor(x), tensor(w), None, stride, padding).shape)
    stride, padding = stride_pair(stride), padding_pair(padding)
    # the output_padding with which the transposed convolution has the size of the image
    extra = [n - ((m - 1) * s - 2 * p + k)
             for n, m, s, p, k in zip(image, y.shape[2:], stride, padding, kernel)]
    check_grads(lambda x, w, b: conv2d(x, w, b, stride, padding), x, w, normal(3), order=order)
    check_grads(lambda y, w, b: conv_transpose2d(y, w, b, stride, padding, extra),
                y, w, normal(channels), order=order)
    check_grads(lambda x, y: conv_weight(x, y, kernel, stride, padding), x, y, order=order)
