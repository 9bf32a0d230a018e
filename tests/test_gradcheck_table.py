"""Tests of check_grads with a table of mistakes and one of functions that are hard to measure.

The errors of several entries may cancel along a random direction, so a mistake may pass by chance:
check_grads must find each mistake with each of 20 seeds. A right function may be rejected where its
values are rounded coarsely or a step leaves its domain: each must pass with each of 5 seeds.
"""

import numpy as np
import pytest

from tinygan import Tensor, backend, check_grads, grad, nn, op, ops, resampling
from tinygan.conv import conv2d, conv_weight
from tinygan.random import rng
from tinygan.tensor import broadcast_to, restore_axes

pytestmark = pytest.mark.numpy_only("the arithmetic is the same on each backend")


# Inputs in the tables are a shape (normal numbers), an array, or a function of a random generator.

def draw_inputs(inputs, seed):
    """Return the arrays of an entry's inputs, drawn with `seed`."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=i) if type(i) is tuple else i(rng) if callable(i) else i
            for i in inputs]


def positive(size, *shape):
    """Return a function that draws numbers from size to 2 size."""
    return lambda rng: size * rng.uniform(1, 2, shape)


def off_zero(size, *shape):
    """Return a function that draws numbers of absolute values from size to 2 size."""
    return lambda rng: size * rng.uniform(1, 2, shape) * rng.choice([-1, 1], shape)


def around(centre, spread, *shape):
    """Return a function that draws normal numbers."""
    return lambda rng: centre + spread * rng.normal(size=shape)


def apart(*shape):
    """Return a function that draws numbers from -2 to 2, not close to each other or to 0."""
    n = int(np.prod(shape))
    return lambda rng: ((rng.permutation(n) - n // 2 + rng.uniform(0.4, 0.6, n)) * (4 / n)
                        ).reshape(shape)


def off_one(*shape):
    """Return a function that draws numbers that are not close to -1, 0 or 1."""
    return lambda rng: rng.choice([-1.5, -0.5, 0.5, 1.5], shape) + rng.uniform(-0.3, 0.3, shape)


def all_sizes(*shape):
    """Return a function that draws positive numbers from 1e-6 to 1e3."""
    return lambda rng: 10 ** rng.uniform(-6, 3, shape)


def invertible(n):
    """Return a function that draws an invertible matrix."""
    return lambda rng: 4 * np.eye(n) + 0.5 * rng.normal(size=(n, n))


# Operations with given rules

def unary(forward, rule):
    """Return an operation of one input with the value forward(array) and the rule rule(g, x, y)."""
    return lambda x: op(forward(x.data), (x, lambda g, y: rule(g, x, y)))


def binary(forward, rule_a, rule_b):
    """Return an operation of two inputs, whose rules are called with (g, a, b, y)."""
    return lambda a, b: op(forward(a.data, b.data), (a, lambda g, y: rule_a(g, a, b, y)),
                           (b, lambda g, y: rule_b(g, a, b, y)))


def linear(forward, rule):
    """Return an operation of one input whose rule depends on g only."""
    return unary(forward, lambda g, x, y: rule(g))


def multiply(x, factor, claimed):
    """Return factor * x, with a rule whose derivative is `claimed`."""
    return op(x.data * factor, (x, lambda g, y: g * claimed))


def swap_entries(x, i, j):
    """Return x with the entries i and j of its flat view exchanged."""
    order = np.arange(x.size)
    order[[i, j]] = order[[j, i]]
    return x.reshape(x.size)[order].reshape(x.shape)


def bump(amount, index, *shape):
    """Return an array of ones, with `amount` added at index."""
    factors = np.ones(shape)
    factors[index] += amount
    return factors


def flip_kernels(w):
    """Return a convolution's kernels, rotated by 180 degrees."""
    return w[:, :, ::-1, ::-1]


def convolve(rule_x, rule_w):
    """Return the convolution by 3x3 kernels that keeps the size, with rules as in binary()."""
    return binary(lambda x, w: conv2d(Tensor(x), Tensor(w), padding=1).data, rule_x, rule_w)


def correct_rule_x(g, x, w, y):
    return conv2d(g, flip_kernels(w.transpose(1, 0, 2, 3)), padding=1)


def correct_rule_w(g, x, w, y):
    return conv_weight(x, g, (3, 3), (1, 1), (1, 1))


def apply_dense(rule_w, rule_b):
    """Return the operation x w^T + b with a right rule of x; the others are called with (g, x)."""
    return lambda x, w, b: op(x.data @ w.data.T + b.data, (x, lambda g, y: g @ w),
                              (w, lambda g, y: rule_w(g, x)), (b, lambda g, y: rule_b(g, x)))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x):
    return np.log(softmax(x))


def logsumexp(x):
    return np.log(np.exp(x).sum(1))


def normalise(axes, with_mean, with_deviation, count=0):
    """Return the operation (x - mean) / deviation over `axes`.

    Its rule takes the mean or the deviation as a constant if with_mean or with_deviation is False,
    and divides by n + count in a mean over n numbers.
    """
    def rule(g, x, y):
        n = g.size / g.sum(axes).size
        along_mean = g.mean(axes, keepdims=True) if with_mean else 0.0
        along_y = y * (g * y).sum(axes, keepdims=True) * (1 / (n + count))
        deviation = x.data.std(axes, keepdims=True)
        return (g - along_mean - (along_y if with_deviation else 0.0)) * (1 / deviation)
    return unary(lambda x: (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True), rule)


def max_pool(x):
    """Return the largest number of each 2x2 block."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def select(swap):
    """Return the operation "a where a is positive, else b"; `swap` exchanges the gradients."""
    def f(a, b):
        mask = a.data > 0
        to_a, to_b = (~mask, mask) if swap else (mask, ~mask)
        return op(np.where(mask, a.data, b.data), (a, lambda g, y: g * to_a),
                  (b, lambda g, y: g * to_b))
    return f


UPPER = np.triu(np.ones((5, 5)))                # x @ UPPER is cumsum(x, 1)
UPPER_4 = np.triu(np.ones((4, 4)))
MIX = np.random.default_rng(0).normal(size=(4, 4))
CYCLE = [1, 2, 0]        # a permutation that is not its own inverse
LABELS = np.array([2, 0, 1, 1])
ONE_HOT = np.eye(3)[LABELS]


# Mistakes in the first derivative

WRONG = {
    # name: (function, its inputs)

    # constant factors
    "factor 1.001": (lambda x: multiply(x, 2.0, 2.002), [(3, 4)]),
    "factor 0.999 of a sum": (linear(np.sum, lambda g: broadcast_to(g * 0.999, (4, 3, 5, 5))),
                              [(4, 3, 5, 5)]),
    "factor -1": (unary(np.tanh, lambda g, x, y: g * (y * y - 1.0)), [(2,)]),
    "factor 2 forgotten": (unary(np.square, lambda g, x, y: g * x), [(4, 3)]),
    "factor 0": (lambda x: multiply(x, 2.0, 0.0), [(2,)]),
    "mean without 1/n": (linear(np.mean, lambda g: broadcast_to(g, (3, 4))), [(3, 4)]),
    "variance with n instead of n - 1": (
        unary(lambda x: x.var(ddof=1), lambda g, x, y: g * (x - x.mean()) * (2 / 5)), [(5,)]),
    "square loss without the mean over the batch": (
        unary(lambda x: (x * x).sum(1).mean(), lambda g, x, y: g * x * 2.0), [(4, 3)]),
    "cross entropy without the mean over the batch": (
        lambda x, labels: op(-log_softmax(x.data)[range(4), labels].mean(),
                             (x, lambda g, y: g * (softmax(x.data) - ONE_HOT))),
        [(4, 3), LABELS]),

    # signs
    "negation not negated": (linear(np.negative, lambda g: g), [(2, 2)]),
    "sum with the wrong sign": (
        linear(lambda x: x.sum(1), lambda g: broadcast_to(-g.reshape(3, 1), (3, 4))), [(3, 4)]),
    "difference with + on the right": (
        binary(np.subtract, lambda g, a, b, y: g, lambda g, a, b, y: g), [(2,), (2,)]),
    "differences along an axis": (
        linear(lambda x: np.diff(x, axis=0),
               lambda g: ops.pad(g, [(0, 1), (0, 0)]) - ops.pad(g, [(1, 0), (0, 0)])), [(5, 2)]),
    "sine": (unary(np.sin, lambda g, x, y: g * -np.cos(x.data)), [(3, 4)]),
    "reciprocal": (unary(np.reciprocal, lambda g, x, y: g * y * y), [off_zero(0.5, 3)]),
    "quotient": (binary(np.divide, lambda g, a, b, y: g / b, lambda g, a, b, y: g * y / b),
                 [(3, 4), positive(0.5, 3, 4)]),

    # rearrangements that are not undone
    "transpose": (linear(np.transpose, lambda g: g), [(3, 3)]),
    "transpose of a 10x10 matrix": (linear(np.transpose, lambda g: g), [(10, 10)]),
    "height and width": (linear(lambda x: x.swapaxes(2, 3), lambda g: g), [(4, 3, 5, 5)]),
    "flip": (linear(lambda x: x[::-1], lambda g: g), [(2,)]),
    "flip along the other axis": (linear(lambda x: x[::-1], lambda g: g[:, ::-1]), [(4, 4)]),
    "roll, undone the wrong way": (
        linear(lambda x: np.roll(x, 1), lambda g: g[[4, 0, 1, 2, 3]]), [(5,)]),
    "roll of images, undone the wrong way": (
        linear(lambda x: np.roll(x, 1, 3), lambda g: g[..., [4, 0, 1, 2, 3]]), [(4, 3, 5, 5)]),
    "quarter turn, undone the wrong way": (
        linear(np.rot90, lambda g: g.T[::-1]), [(4, 4)]),
    "permutation, done twice": (linear(lambda x: x[CYCLE], lambda g: g[CYCLE]), [(3, 2)]),
    "channel permutation, done twice": (
        linear(lambda x: x[:, CYCLE], lambda g: g[:, CYCLE]), [(2, 3, 4, 4)]),
    "reshape in the other order": (
        linear(lambda x: x.reshape(4, 3), lambda g: g.T), [(3, 4)]),

    # two entries exchanged
    "the first two exchanged": (lambda x: op(x.data, (x, lambda g, y: swap_entries(g, 0, 1))),
                                [(100,)]),
    "the last two exchanged": (lambda x: op(x.data, (x, lambda g, y: swap_entries(g, 98, 99))),
                               [(10, 10)]),
    "two far apart exchanged": (lambda x: op(x.data, (x, lambda g, y: swap_entries(g, 3, 91))),
                                [(4, 25)]),
    "the first two of a sum of squares exchanged": (
        unary(lambda x: (x * x).sum(), lambda g, x, y: swap_entries(g * x * 2.0, 0, 1)),
        [apart(100)]),
    "two far apart of a sum of squares exchanged": (
        unary(lambda x: (x * x).sum(), lambda g, x, y: swap_entries(g * x * 2.0, 7, 288)),
        [apart(4, 3, 5, 5)]),
    "two entries exchanged": (linear(lambda x: 3 * x, lambda g: g[::-1] * 3.0), [(2,)]),

    # sums and copies
    "sum over the wrong axis": (
        linear(lambda x: x.sum(0), lambda g: broadcast_to(g.reshape(4, 1), (4, 4))), [(4, 4)]),
    "sum over the wrong axis of three": (
        linear(lambda x: x.sum(1), lambda g: broadcast_to(g.reshape(3, 3, 1), (3, 3, 3))),
        [(3, 3, 3)]),
    "copies: the first one's gradient": (
        binary(np.add, lambda g, a, b, y: g, lambda g, a, b, y: g[0]), [(4, 3), (3,)]),
    "copies: the last one's gradient": (
        linear(lambda x: x.repeat(3, 1), lambda g: g[:, -1:]), [(4, 1)]),
    "copies: the mean of their gradients": (
        binary(np.add, lambda g, a, b, y: g, lambda g, a, b, y: g.mean(0)), [(4, 3), (3,)]),
    "copies of a number: the first one's gradient": (
        binary(np.multiply, lambda g, a, b, y: g * b, lambda g, a, b, y: (g * a)[0, :1]),
        [(3, 4), (1,)]),
    "sums of all pairs, exchanged": (
        binary(np.add.outer, lambda g, a, b, y: g.sum(0), lambda g, a, b, y: g.sum(1)),
        [(4,), (4,)]),
    "cumsum, not reversed": (linear(lambda x: x.cumsum(1), lambda g: g @ UPPER), [(3, 5)]),
    "cumsum without the number itself": (
        linear(lambda x: x.cumsum(1), lambda g: g @ (UPPER.T - np.eye(5))), [(3, 5)]),
    "cumprod, not reversed": (
        unary(lambda x: x.cumprod(1), lambda g, x, y: (g * y) @ UPPER_4 / x),
        [positive(0.7, 3, 4)]),
    "cumprod as cumsum": (
        linear(lambda x: x.cumprod(1), lambda g: g @ UPPER_4.T), [positive(0.7, 3, 4)]),
    "centring that is not its own adjoint": (
        linear(lambda x: x - x.mean(0), lambda g: g), [(4, 3)]),

    # softmax
    "softmax, plain sum": (
        unary(softmax, lambda g, x, y: y * (g - g.sum(1, keepdims=True))), [(3, 4)]),
    "softmax, plain mean": (
        unary(softmax, lambda g, x, y: y * (g - g.mean(1, keepdims=True))), [(3, 4)]),
    "softmax, diagonal only": (unary(softmax, lambda g, x, y: g * y * (1.0 - y)), [(3, 4)]),
    "softmax, sum over the wrong axis": (
        unary(softmax, lambda g, x, y: y * (g - (g * y).sum(0, keepdims=True))), [(4, 4)]),
    "log_softmax, plain mean": (
        unary(log_softmax, lambda g, x, y: g - g.mean(1, keepdims=True)), [(3, 4)]),
    "log_softmax, a mean instead of the sum": (
        unary(log_softmax, lambda g, x, y: g - ops.exp(y) * g.mean(1, keepdims=True)), [(3, 4)]),
    "logsumexp, plain mean": (
        linear(logsumexp, lambda g: broadcast_to(g.reshape(3, 1) * 0.25, (3, 4))), [(3, 4)]),
    "logsumexp, plain sum": (
        linear(logsumexp, lambda g: broadcast_to(g.reshape(3, 1), (3, 4))), [(3, 4)]),

    # normalisation
    "batch norm with a constant mean": (normalise(0, False, True), [(5, 4)]),
    "batch norm with a constant deviation": (normalise(0, True, False), [(5, 4)]),
    "batch norm with both constant": (normalise(0, False, False), [(5, 4)]),
    "batch norm with n - 1": (normalise(0, True, True, -1), [(5, 4)]),
    "batch norm of images with a constant mean": (normalise((0, 2, 3), False, True),
                                                  [(4, 3, 5, 5)]),
    "layer norm with a constant mean": (normalise(1, False, True), [(3, 4)]),
    "layer norm of images with a constant deviation": (normalise((1, 2, 3), True, False),
                                                       [(2, 3, 2, 2)]),
    "unit vectors with a constant length": (
        unary(lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
              lambda g, x, y: g * (1 / np.linalg.norm(x.data, axis=1, keepdims=True))), [(3, 4)]),
    "norm, not divided by it": (unary(np.linalg.norm, lambda g, x, y: g * x), [(3, 4)]),

    # products of matrices
    "matmul, missing transpose on the right": (
        binary(np.matmul, lambda g, a, b, y: g @ b, lambda g, a, b, y: a.T @ g), [(3, 3), (3, 3)]),
    "matmul, missing transpose on the left": (
        binary(np.matmul, lambda g, a, b, y: g @ b.T, lambda g, a, b, y: a @ g), [(3, 3), (3, 3)]),
    "matmul, gradients of the factors exchanged": (
        binary(np.matmul, lambda g, a, b, y: a.T @ g, lambda g, a, b, y: g @ b.T),
        [(4, 4), (4, 4)]),
    "matmul of batches, the first one's gradient": (
        binary(np.matmul, lambda g, a, b, y: g @ b.T, lambda g, a, b, y: (a.T @ g)[0]),
        [(4, 3, 3), (3, 3)]),
    "product, gradients exchanged": (
        binary(np.multiply, lambda g, a, b, y: g * a, lambda g, a, b, y: g * b), [(2,), (2,)]),
    "outer product, transposed": (
        binary(np.outer, lambda g, a, b, y: (g * b.reshape(4, 1)).sum(0),
               lambda g, a, b, y: (g * a.reshape(1, 4)).sum(1)), [(4,), (4,)]),
    "diagonal of a matrix only": (
        linear(lambda x: x @ MIX, lambda g: g * np.diag(MIX)), [(3, 4)]),
    "x x^T, one of two terms twice": (
        unary(lambda x: x @ x.T, lambda g, x, y: (g * 2.0) @ x), [(4, 3)]),
    "quadratic form of a matrix that is not symmetric": (
        unary(lambda x: x @ MIX @ x, lambda g, x, y: g * 2.0 * (MIX @ x.reshape(4, 1)).reshape(4)),
        [(4,)]),
    "trace, gradient to the whole matrix": (
        linear(np.trace, lambda g: broadcast_to(g, (3, 3))), [(3, 3)]),
    "trace, along the other diagonal": (
        linear(np.trace, lambda g: g * np.eye(3)[::-1].copy()), [(3, 3)]),
    "diagonal, put into the first column": (
        linear(np.diagonal, lambda g: ops.pad(g.reshape(3, 1), [(0, 0), (0, 2)])), [(3, 3)]),
    "diagonal matrix, sums of rows": (linear(np.diag, lambda g: g.sum(1)), [(3,)]),
    "inverse without transposes": (
        unary(np.linalg.inv, lambda g, x, y: -(y @ g @ y)), [invertible(3)]),
    "determinant without the transpose": (
        unary(np.linalg.det, lambda g, x, y: g * y * np.linalg.inv(x.data)), [invertible(3)]),

    # convolutions and images
    "convolution, kernel not flipped": (
        convolve(lambda g, x, w, y: conv2d(g, w.transpose(1, 0, 2, 3), padding=1), correct_rule_w),
        [(2, 2, 4, 4), (2, 2, 3, 3)]),
    "convolution, channels not exchanged": (
        convolve(lambda g, x, w, y: conv2d(g, flip_kernels(w), padding=1), correct_rule_w),
        [(2, 2, 4, 4), (2, 2, 3, 3)]),
    "convolution, weight gradient flipped": (
        convolve(correct_rule_x, lambda g, x, w, y: flip_kernels(correct_rule_w(g, x, w, y))),
        [(2, 2, 4, 4), (2, 2, 3, 3)]),
    "convolution, weight gradient with the channels permuted": (
        convolve(correct_rule_x, lambda g, x, w, y: correct_rule_w(g, x, w, y)[CYCLE]),
        [(2, 2, 4, 4), (3, 2, 3, 3)]),
    "convolution, weight gradient of the first image": (
        convolve(correct_rule_x, lambda g, x, w, y: correct_rule_w(g[:1], x[:1], w, y)),
        [(3, 2, 4, 4), (2, 2, 3, 3)]),
    "bias of images, a mean instead of the sum": (
        binary(lambda x, b: x + b[:, None, None], lambda g, x, b, y: g,
               lambda g, x, b, y: g.mean((2, 3)).sum(0)), [(2, 3, 4, 4), (3,)]),
    "padding off by one": (linear(lambda x: np.pad(x, (1, 2)), lambda g: g[2:-1]), [(5,)]),
    "padding of images off by one": (
        linear(lambda x: np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]),
               lambda g: g[:, :, 1:-1, 2:]), [(4, 3, 5, 5)]),
    "slice off by one": (linear(lambda x: x[1:4], lambda g: ops.pad(g, [(2, 1)])), [(6,)]),
    "average pooling without 1/k^2": (
        linear(lambda x: resampling.avg_pool(Tensor(x), 2).data,
               lambda g: resampling.upsample(g, 2)),
        [(2, 3, 4, 4)]),
    "max pooling, gradient to the whole block": (
        linear(max_pool, lambda g: resampling.upsample(g, 2)), [apart(2, 3, 4, 4)]),
    "upsampling without the sum": (
        linear(lambda x: resampling.upsample(Tensor(x), 2).data,
               lambda g: g[:, :, ::2, ::2]),
        [(2, 3, 3, 3)]),

    # order and branches
    "max, gradient to the smallest entry": (
        unary(np.max, lambda g, x, y: g * (x.data == x.data.min())), [apart(5)]),
    "max, gradient to the next row": (
        unary(lambda x: x.max(1), lambda g, x, y: restore_axes(g, x, 1) * np.roll(
            x.data == x.data.max(1, keepdims=True), 1, axis=1)), [apart(3, 4)]),
    "median, gradient to all entries": (
        linear(np.median, lambda g: broadcast_to(g * 0.2, (5,))), [apart(5)]),
    "sort, gradient left in sorted order": (linear(np.sort, lambda g: g), [apart(20)]),
    "sort, gradient sorted once more": (
        unary(np.sort, lambda g, x, y: g[np.argsort(x.data)]), [apart(20)]),
    "maximum, exchanged": (
        lambda x: binary(np.maximum, lambda g, a, b, y: g * (a.data < b.data),
                         lambda g, a, b, y: g * (a.data >= b.data))(x[0], x[1]), [apart(2, 4)]),
    "clip, exchanged": (
        unary(lambda x: np.clip(x, -1, 1), lambda g, x, y: g * (abs(x.data) > 1)), [off_one(3, 4)]),
    "where, exchanged": (select(swap=True), [off_zero(0.5, 3, 4), (3, 4)]),
    "leaky ReLU, slopes exchanged": (
        unary(lambda x: np.maximum(x, 0.2 * x),
              lambda g, x, y: g * np.where(x.data > 0, 0.2, 1.0)), [off_one(3, 4)]),
    "absolute value without the sign": (linear(abs, lambda g: g), [off_one(3, 4)]),
    "wrong where x < 0": (
        unary(lambda x: x ** 3, lambda g, x, y: g * x * abs(x) * 3.0), [off_one(3, 4)]),

    # one entry of many
    "one of 100 entries wrong by 1e-3": (
        unary(lambda x: (x * x).sum(),
              lambda g, x, y: g * x * (2 * bump(1e-3, (3, 7), 10, 10))), [off_one(10, 10)]),
    "one of 300 entries wrong by 1e-3": (
        linear(np.sum, lambda g: g * bump(1e-3, (2, 1, 4, 0), 4, 3, 5, 5)), [(4, 3, 5, 5)]),
    "the first entry of two wrong": (linear(np.sum, lambda g: g * bump(0.1, 0, 2)), [(2,)]),
    "the last row left out": (
        linear(lambda x: 2 * x, lambda g: g * np.array([[2.0], [2.0], [0.0]])), [(3, 4)]),

    # one of several inputs or outputs, dependences not recorded
    "wrong in the second of three inputs": (
        lambda a, b, c: op(a.data * b.data * c.data, (a, lambda g, y: g * b * c),
                           (b, lambda g, y: g * a * c * 1.01), (c, lambda g, y: g * a * b)),
        [(3, 4), (3, 4), (3, 4)]),
    "one of two outputs ignored": (lambda x: (x * 2.0, op(x.data * 3.0)), [(3, 4)]),
    "the second of two outputs wrong": (lambda x: (x * x, multiply(x, 3.0, 3.03)), [(3, 4)]),
    "dependence not recorded": (lambda x: op(np.sin(x.data)), [(2,)]),
    "dependence recorded for one factor of two": (lambda x: x * Tensor(x.data), [(3, 4)]),
    "dependence on the second input not recorded": (
        lambda a, b: op(a.data * b.data, (a, lambda g, y: g * b)), [(3, 4), (3, 4)]),

    # elementary functions
    "x^n with the exponent n instead of n - 1": (
        unary(lambda x: x ** 3, lambda g, x, y: g * x ** 3 * 3.0), [(3, 4)]),
    "log with 1/x^2": (unary(np.log, lambda g, x, y: g / (x * x)), [positive(0.5, 3, 4)]),
    "square root, multiplied instead of divided": (
        unary(np.sqrt, lambda g, x, y: g * 0.5 * y), [positive(0.5, 3)]),
    "sigmoid with 1 + y": (
        unary(lambda x: 1 / (1 + np.exp(-x)), lambda g, x, y: g * y * (1.0 + y)), [(3, 4)]),
    "angle, exchanged": (
        binary(np.arctan2, lambda g, a, b, y: -g * a / (a * a + b * b),
               lambda g, a, b, y: g * b / (a * a + b * b)), [off_zero(0.5, 3), positive(0.5, 3)]),
    "hypotenuse, exchanged": (
        binary(np.hypot, lambda g, a, b, y: g * b / y, lambda g, a, b, y: g * a / y),
        [positive(0.5, 3), positive(0.5, 3)]),

    # right for a batch of 1 only
    "bias, gradient of the first sample": (
        apply_dense(lambda g, x: g.T @ x, lambda g, x: g[0]), [(4, 3), (2, 3), (2,)]),
    "weight, gradient of the first sample": (
        apply_dense(lambda g, x: g[:1].T @ x[:1], lambda g, x: g.sum(0)), [(4, 3), (2, 3), (2,)]),
    "weight, a mean over the batch instead of the sum": (
        apply_dense(lambda g, x: g.T @ x * 0.25, lambda g, x: g.sum(0)), [(4, 3), (2, 3), (2,)]),
}


# Mistakes in the second derivative only

def order_2(forward, slope, slope_rule):
    """Return an elementwise function whose derivative slope(x) is right, with the given rule."""
    return unary(forward, lambda g, x, y: g * unary(slope, slope_rule)(x))


def square(g_factor, x_factor):
    """Return the operation x^2, whose rule 2 g x has the derivatives g_factor x and x_factor g."""
    def gradient(g, x):
        return op(2 * g.data * x.data, (g, lambda h, y: h * x * g_factor),
                  (x, lambda h, y: h * g * x_factor))
    return unary(np.square, lambda g, x, y: gradient(g, x))


WRONG_AT_ORDER_2 = {
    # the first derivative as a constant
    "square": (unary(np.square, lambda g, x, y: g * (2 * x.data)), [(3, 4)]),
    "logarithm": (unary(np.log, lambda g, x, y: g * (1 / x.data)), [positive(0.5, 3)]),
    "exponential": (unary(np.exp, lambda g, x, y: g * y.data), [(2,)]),
    "softmax": (
        unary(softmax, lambda g, x, y: (g - (g * y.data).sum(1, keepdims=True)) * y.data),
        [(3, 4)]),
    "norm": (unary(np.linalg.norm, lambda g, x, y: g * x * (1 / y.data)), [(3, 4)]),
    "batch norm, deviation constant in the rule": (normalise(0, True, True), [(5, 4)]),
    "matmul, the right matrix constant in the left one's rule": (
        binary(np.matmul, lambda g, a, b, y: g @ b.data.T, lambda g, a, b, y: a.T @ g),
        [(3, 4), (4, 2)]),

    # a wrong factor or sign
    "cube, second derivative 9x": (
        order_2(lambda x: x ** 3, lambda x: 3 * x * x, lambda g, x, y: g * x * 9.0), [(3, 4)]),
    "tanh, second derivative of the other sign": (
        order_2(np.tanh, lambda x: 1 - np.tanh(x) ** 2, lambda g, x, y: g * ops.tanh(x) * y * 2.0),
        [(3, 4)]),
    "square, 1.001 in x": (square(2.0, 2.002), [(3, 4)]),
    "wrong where x < 0": (
        order_2(lambda x: x ** 3, lambda x: 3 * x * x, lambda g, x, y: g * abs(x) * 6.0),
        [off_one(3, 4)]),
    "one of 100 entries": (
        order_2(np.square, lambda x: 2 * x, lambda g, x, y: g * (2 * bump(0.1, 42, 100))),
        [(100,)]),

    # a wrong rearrangement
    "logsumexp, second derivative diagonal only": (
        unary(logsumexp, lambda g, x, y: restore_axes(g, x, 1) * unary(
            softmax, lambda h, x, p: h * p * (1.0 - p))(x)), [(3, 4)]),
    "square of a square matrix, transposed": (
        order_2(np.square, lambda x: 2 * x, lambda g, x, y: g.T * 2.0), [(3, 3)]),
    "two entries exchanged": (
        order_2(np.square, lambda x: 2 * x, lambda g, x, y: swap_entries(g, 5, 60) * 2.0),
        [(100,)]),

    # right in x but wrong in the cotangent
    "the cotangent as a constant": (
        lambda x: op(2 * x.data, (x, lambda g, y: Tensor(2 * g.data))), [(3, 4)]),
    "1.01 in the cotangent": (square(2.02, 2.0), [(3, 4)]),
    "the cotangent flipped": (
        lambda x: op(2 * x.data, (x, lambda g, y: linear(lambda a: 2 * a,
                                                         lambda h: h[::-1] * 2.0)(g))), [(5,)]),
}


# Modules

class WrongInTraining(nn.Module):
    """A Module with the same values in both modes, but a wrong rule in training."""

    def forward(self, x):
        return multiply(x, 2.0, 2.02 if self.training else 2.0)


class WrongInEvaluation(nn.Module):
    """A Module with the same values in both modes, but a wrong rule in evaluation."""

    def forward(self, x):
        return multiply(x, 2.0, 2.0 if self.training else 2.02)


class OtherInTraining(nn.Module):
    """A Module with other values in training, where its rule is that of evaluation."""

    def forward(self, x):
        return multiply(x, 1.5, 1.0) if self.training else x


class OtherInEvaluation(nn.Module):
    """A Module that uses a moving average in evaluation, where its rule ignores it."""

    def __init__(self):
        self.average = backend.xp.full((), 1.5, "float32")

    def forward(self, x):
        return x * x if self.training else multiply(x, self.average, 1.0)


class NotRecordedInEvaluation(nn.Module):
    def forward(self, x):
        return ops.tanh(x) if self.training else op(np.tanh(x.data))


class Scale(nn.Module):
    """The base of Modules that compute x * weight, with one weight for each of n features."""

    def __init__(self, n=4):
        self.weight = Tensor(nn.normal(1.0)((n,), n, n))


class ScaleWithAFactor(Scale):
    def forward(self, x):
        return x * multiply(self.weight, 1.0, 1.01)


class ScaleFlipped(Scale):
    def forward(self, x):
        return x * linear(lambda w: w[::-1], lambda g: g)(self.weight)


class ScaleByTheFirstSample(Scale):
    def forward(self, x):
        return binary(np.multiply, lambda g, x, w, y: g * w, lambda g, x, w, y: (g * x)[0])(
            x, self.weight)


class ScaleNotRecorded(Scale):
    def forward(self, x):
        return x * self.weight.data


class ScaleWrongInTraining(Scale):
    def forward(self, x):
        return x * multiply(self.weight, 1.0, 1.01 if self.training else 1.0)


class ScaleWrongInEvaluation(Scale):
    def forward(self, x):
        return x * multiply(self.weight, 1.0, 1.0 if self.training else 1.01)


class ScaleOnceOfTwice(Scale):
    """A Module that uses its weight twice, and does not record the second use."""

    def forward(self, x):
        return ops.tanh(x * self.weight) * self.weight.data


class SecondOrderInEvaluation(nn.Module):
    """A Module whose first derivative is a constant in evaluation."""

    def forward(self, x):
        return x * x if self.training else unary(np.square, lambda g, x, y: g * (2 * x.data))(x)


class DenseTransposed(nn.Module):
    """A dense layer whose rule lacks the transpose of its square weight."""

    def __init__(self):
        self.weight = Tensor(nn.normal(1.0)((4, 4), 4, 4))

    def forward(self, x):
        return binary(lambda x, w: x @ w.T, lambda g, x, w, y: g @ w, lambda g, x, w, y: x.T @ g)(
            x, self.weight)


WRONG_MODULES = {
    # name: (function that makes the Module, its inputs)
    "wrong in training": (WrongInTraining, [(3, 4)]),
    "wrong in training, given in evaluation": (lambda: WrongInTraining().eval(), [(3, 4)]),
    "wrong in evaluation": (WrongInEvaluation, [(3, 4)]),
    "other values in training, with a wrong rule": (OtherInTraining, [(3, 4)]),
    "other values in evaluation, with a wrong rule": (OtherInEvaluation, [(3, 4)]),
    "not recorded in evaluation": (NotRecordedInEvaluation, [(2, 3)]),
    "wrong in evaluation, inside": (
        lambda: nn.Sequential(nn.Dense(4, 3), nn.Sequential(nn.Tanh(), WrongInEvaluation()),
                              nn.Dropout(0.5)), [(5, 4)]),
    "wrong in training, inside": (
        lambda: nn.Sequential(nn.Dense(4, 3), nn.BatchNorm(3), WrongInTraining(), nn.Tanh()),
        [(5, 4)]),
    "parameter with a factor": (ScaleWithAFactor, [(5, 4)]),
    "parameter flipped": (ScaleFlipped, [(5, 4)]),
    "parameter with the gradient of the first sample": (ScaleByTheFirstSample, [(5, 4)]),
    "parameter not recorded": (ScaleNotRecorded, [(5, 4)]),
    "parameter transposed": (DenseTransposed, [(5, 4)]),
    "parameter wrong in training": (ScaleWrongInTraining, [(5, 4)]),
    "parameter wrong in evaluation": (ScaleWrongInEvaluation, [(5, 4)]),
    "parameter recorded once of twice": (ScaleOnceOfTwice, [(5, 4)]),
    "parameter wrong in a network": (
        lambda: nn.Sequential(nn.Dense(3, 4), nn.Tanh(), ScaleWithAFactor(), nn.Dense(4, 1)),
        [(5, 3)]),
    "second order wrong in evaluation": (SecondOrderInEvaluation, [(3, 4)]),
}


# Right functions

EDGES = {
    # name: a function of positive numbers, whose derivatives are infinite at 0
    "log": ops.log,
    "sqrt": ops.sqrt,
    "1/x": lambda x: 1 / x,
    "x^-1.5": lambda x: x ** -1.5,
}


def gradient_penalty(x, w):
    """Return (|dD/dx| - 1)^2 of a small critic: the function contains a gradient."""
    (slope,) = grad((ops.tanh(x @ w) ** 2).sum(), [x], create_graph=True)
    return ((ops.norm(slope, 1) - 1.0) ** 2).mean()


def squared_gradient_norm(x, w):
    """Return the squared gradient norm of a critic at its data, as in R1."""
    (slope,) = grad(ops.softplus(x @ w).sum(), [x], create_graph=True)
    return (slope * slope).sum(1).mean()


def repeat(f, n):
    """Return the function that applies f n times."""
    def apply_n_times(x):
        for _ in range(n):
            x = f(x)
        return x
    return apply_n_times


def gan_loss(real, fake):
    return ops.softplus(-real).mean() + ops.softplus(fake).mean()


def relativistic_loss(real, fake):
    return (ops.softplus(fake.mean() - real) + ops.softplus(fake - real.mean())).mean()


def near_30(rng):
    """Draw numbers near 30 or -30."""
    return around(30, 1, 3, 4)(rng) * rng.choice([-1, 1], (3, 4))


RIGHT = {
    # close to the edge of a domain
    **{f"{name} at {distance}": (f, [positive(distance, 3)])
       for name, f in EDGES.items() for distance in (1e-3, 1e-5, 1e-8, 1e-12)},
    "log(1 - x) at 1e-3 from 1": (
        lambda x: ops.log(1 - x), [lambda rng: 1 - positive(1e-3, 3)(rng)]),
    "log(1 - x) at 1e-5 from 1": (
        lambda x: ops.log(1 - x), [lambda rng: 1 - positive(1e-5, 3)(rng)]),

    # small inputs
    "x^2 at 1e-8": (lambda x: x ** 2, [off_zero(1e-8, 3)]),
    "x^3 at 1e-8": (lambda x: x ** 3, [off_zero(1e-8, 3)]),
    "tanh at 1e-8": (ops.tanh, [off_zero(1e-8, 3)]),
    "exp at 1e-8": (ops.exp, [off_zero(1e-8, 3)]),
    "norm at 1e-3": (lambda x: ops.norm(x, 1), [off_zero(1e-3, 2, 3)]),
    "norm at 1e-8": (lambda x: ops.norm(x, 1), [off_zero(1e-8, 2, 3)]),
    "x^2 at 0": (lambda x: x ** 2, [np.zeros(3)]),
    "x^4 at 0": (lambda x: x ** 4, [np.zeros(3)]),

    # large inputs and large values
    "x^2 at 1e6": (lambda x: x * x, [off_zero(1e6, 3)]),
    "sum at 1e6": (lambda x: x.sum(), [off_zero(1e6, 3, 4)]),
    "mean at 1e6": (lambda x: x.mean(), [positive(1e6, 3, 4)]),
    "variance around 1e6": (lambda x: ((x - x.mean()) ** 2).mean(), [around(1e6, 1, 3, 4)]),
    "x + 1e6": (lambda x: x + 1e6, [(3, 4)]),
    "tanh(x) + 1e6": (lambda x: ops.tanh(x) + 1e6, [(3, 4)]),
    "exp(20x)": (lambda x: ops.exp(x * 20.0), [(3, 4)]),
    "sum of 10,000": (lambda x: x.sum(), [(100, 100)]),
    "mean square of 10,000": (lambda x: (x * x).mean(), [(100, 100)]),

    # all sizes in one array
    "x^2 of mixed sizes": (lambda x: x * x, [all_sizes(3, 4)]),
    "tanh of mixed sizes": (ops.tanh, [all_sizes(3, 4)]),
    "log of mixed sizes": (ops.log, [all_sizes(3, 4)]),
    "1/x of mixed sizes": (lambda x: 1 / x, [all_sizes(3, 4)]),
    "product of mixed sizes": (lambda a, b: a * b, [all_sizes(3, 4), (3, 4)]),

    # gradients that are 0 or tiny
    "zero times x": (lambda x: x * 0.0, [(3, 4)]),
    "a constant": (lambda x: Tensor(np.ones(3)), [(3, 4)]),
    "an unused input": (lambda a, b: a * a, [(3, 4), (3, 4)]),
    "clip beyond its bounds": (lambda x: ops.clip(x, -0.5, 0.5), [off_zero(1, 3, 4)]),
    "the sum of softmax": (lambda x: ops.exp(ops.log_softmax(x)).sum(), [(3, 4)]),

    # saturated functions
    "softplus at 30 and -30": (ops.softplus, [near_30]),
    "sigmoid at 30 and -30": (ops.sigmoid, [near_30]),
    "sigmoid at 30": (ops.sigmoid, [around(30, 1, 3)]),
    "log_sigmoid at 30 and -30": (ops.log_sigmoid, [near_30]),
    "log_softmax of logits 100 apart": (
        ops.log_softmax, [lambda rng: rng.normal(size=(3, 4)) + [0, 100, -100, 200]]),

    # kinks nearby
    "abs at 1e-4": (abs, [off_zero(1e-4, 3)]),
    "ReLU at 1e-4": (lambda x: ops.relu(x) * x + x, [off_zero(1e-4, 3)]),
    "max of entries 1e-3 apart": (
        lambda x: x.max(), [lambda rng: 1 + 1e-3 * rng.permutation(4)]),
    "maximum": (ops.maximum, [(3, 4), (3, 4)]),
    "clip": (lambda x: ops.clip(x, -0.5, 0.5) * x, [(3, 4)]),
    "where": (lambda a, b: ops.where(a.data > 0, a * b, b), [(3, 4), (3, 4)]),
    "leaky ReLU of a product": (lambda x, w: ops.leaky_relu(x @ w), [(8, 4), (4, 16)]),

    # losses and penalties of games
    "loss of GAN": (gan_loss, [(8, 1), (8, 1)]),
    "loss of GAN at scores 20 and -20": (gan_loss, [around(20, 1, 8, 1), around(-20, 1, 8, 1)]),
    "loss of hinge": (lambda a, b: ops.relu(1 - a).mean() + ops.relu(1 + b).mean(),
                      [(8, 1), (8, 1)]),
    "loss of LSGAN": (lambda a, b: ((a - 1) ** 2).mean() + (b ** 2).mean(), [(8, 1), (8, 1)]),
    "loss of RaGAN": (relativistic_loss, [(8, 1), (8, 1)]),
    "gradient penalty": (gradient_penalty, [(4, 3), (3, 5)]),
    "squared gradient norm": (squared_gradient_norm, [(4, 3), (3, 1)]),
    "cross entropy, with integers": (ops.cross_entropy, [(4, 3), LABELS]),

    # shapes and depth
    "an input without axes": (lambda x: x ** 3, [()]),
    "a number that scales": (lambda s, x: s * x, [(), (3, 4)]),
    "one entry": (lambda x: ops.exp(x), [(1,)]),
    "30 times tanh": (repeat(ops.tanh, 30), [(3, 4)]),
    "20 residual layers": (repeat(lambda x: x + ops.tanh(x) * 0.5, 20), [(3, 4)]),
}


class Tied(nn.Module):
    """A Module that uses a weight three times, the third time without a transpose."""

    def __init__(self):
        self.layer = nn.Dense(4, 4)
        self.same = nn.Dense(4, 4)
        self.same.weight = self.layer.weight

    def forward(self, x):
        return self.same(ops.tanh(self.layer(x))) @ self.layer.weight


def critic():
    return nn.Sequential(nn.Dense(4, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 1))


RIGHT_MODULES = {
    "LayerNorm around 1e6": (lambda: nn.LayerNorm(4), [around(1e6, 1, 5, 4)]),
    "LayerNorm around 1e6, spread 10": (lambda: nn.LayerNorm(4), [around(1e6, 10, 5, 4)]),
    "LayerNorm of images around 1e6": (
        lambda: nn.LayerNorm((3, 2, 2)), [around(1e6, 1, 2, 3, 2, 2)]),
    "LayerNorm of images around 1e6, spread 10": (
        lambda: nn.LayerNorm((3, 2, 2)), [around(1e6, 10, 2, 3, 2, 2)]),
    "BatchNorm": (lambda: nn.BatchNorm(4), [(5, 4)]),
    "BatchNorm of images": (lambda: nn.BatchNorm(3), [(2, 3, 4, 4)]),
    "BatchNorm of a tiny variance": (lambda: nn.BatchNorm(4), [around(3, 1e-4, 5, 4)]),
    "BatchNorm in evaluation": (lambda: nn.BatchNorm(4).eval(), [(5, 4)]),
    "Dropout": (lambda: nn.Dropout(0.5), [(5, 4)]),
    "Dropout in evaluation": (lambda: nn.Dropout(0.5).eval(), [(5, 4)]),
    "Dropout and BatchNorm in a network": (
        lambda: nn.Sequential(nn.Dense(4, 6), nn.BatchNorm(6), nn.LeakyReLU(), nn.Dropout(0.5),
                              nn.Dense(6, 1)), [(8, 4)]),
    "GaussianNoise": (lambda: nn.GaussianNoise(0.5), [(5, 4)]),
    "ReLU network": (critic, [(8, 4)]),
    "Maxout": (lambda: nn.Maxout(4, 3, 5), [(5, 4)]),
    "tied weights": (Tied, [(3, 4)]),
    "weight norm Dense": (lambda: nn.weight_norm(nn.Dense(4, 3)), [(5, 4)]),
    "spectral norm Dense": (lambda: nn.spectral_norm(nn.Dense(4, 3)), [(5, 4)]),
    "spectral norm Conv2d": (
        lambda: nn.spectral_norm(nn.Conv2d(3, 2, (3, 2), 2)), [(2, 3, 5, 6)]),
    "spectral norm ConvTranspose2d": (
        lambda: nn.spectral_norm(nn.ConvTranspose2d(3, 2, (3, 2), 2)), [(2, 3, 3, 4)]),
    "spectral norm Dense in evaluation": (
        lambda: nn.spectral_norm(nn.Dense(4, 3)).eval(), [(5, 4)]),
    "spectral norm Conv2d in evaluation": (
        lambda: nn.spectral_norm(nn.Conv2d(3, 2, (3, 2), 2)).eval(), [(2, 3, 5, 6)]),
    "spectral norm ConvTranspose2d in evaluation": (
        lambda: nn.spectral_norm(nn.ConvTranspose2d(3, 2, (3, 2), 2)).eval(), [(2, 3, 3, 4)]),
}


# The tests

def return_it(f):
    """Return a function that returns f; entries for Modules have functions that make them."""
    return lambda: f


def check(make, inputs, order, seed):
    """Call check_grads for an entry of a table, with weights and inputs drawn with `seed`."""
    rng.seed(seed)          # a Module's weights
    check_grads(make(), *draw_inputs(inputs, seed), order=order, seed=seed)


def finds_mistake(make, inputs, order, seed):
    """Return whether check_grads finds the mistake."""
    try:
        check(make, inputs, order, seed)
    except AssertionError as error:
        return "not smooth" not in str(error)       # a message about a kink does not count
    return False


def assert_found(make, inputs, order):
    missed = [seed for seed in range(20) if not finds_mistake(make, inputs, order, seed)]
    assert not missed, f"not found with {len(missed)} of 20 seeds: {missed}"


def assert_passes(make, inputs, order, seeds):
    for seed in range(seeds):
        try:
            check(make, inputs, order, seed)
        except AssertionError as error:
            raise AssertionError(f"rejected with seed {seed}: {error}") from None


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_found_with_every_seed(name):
    f, inputs = WRONG[name]
    assert_found(return_it(f), inputs, order=1)


@pytest.mark.parametrize("name", WRONG_AT_ORDER_2)
def test_a_mistake_at_second_order_is_found_with_every_seed(name):
    """The first derivative is right, so only the check of the second order can find it."""
    f, inputs = WRONG_AT_ORDER_2[name]
    assert_passes(return_it(f), inputs, order=1, seeds=3)
    assert_found(return_it(f), inputs, order=2)


@pytest.mark.parametrize("name", WRONG_MODULES)
def test_a_mistake_in_a_module_is_found_with_every_seed(name):
    assert_found(*WRONG_MODULES[name], order=2)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_passes_with_every_seed(name):
    f, inputs = RIGHT[name]
    assert_passes(return_it(f), inputs, order=2, seeds=5)


@pytest.mark.parametrize("name", RIGHT_MODULES)
def test_a_right_module_passes_with_every_seed(name):
    assert_passes(*RIGHT_MODULES[name], order=2, seeds=5)
