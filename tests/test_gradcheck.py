"""check_grads itself: it must find what is wrong, say where, and not complain of what is right."""

import functools
import re
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, check_grads, nn, op, ops, to_numpy
from tinygan.random import Random, rng

from helpers import error_of, normal, positive, tensor

EVEN, ODD = normal(3, 4), normal(3, 4, seed=1)


def complaint(f, *arrays, **settings):
    """The message with which check_grads rejects f."""
    with pytest.raises(AssertionError) as raised:
        check_grads(f, *arrays, **settings)
    return str(raised.value)


def numbers(message):
    """measured, claimed, their distance, and that relative to the gradient."""
    found = re.search(r"is (\S+) as measured, (\S+) by its rule: off by (\S+), (\S+) of", message)
    return [float(group) for group in found.groups()]


def times(x, factor, claimed):
    """factor * x, whose rule says `claimed`."""
    return op(x.data * factor, (x, lambda g, y: g * claimed))


# Right functions

@pytest.mark.parametrize("f, arrays", [
    (lambda x: x ** 3, [EVEN]),
    (lambda a, b: a / b, [EVEN, positive(3, 4)]),
    (lambda x: x * 0.0, [EVEN]),                                    # a gradient of zeros
    (lambda x: x * 1e8, [EVEN]),
    (lambda x: x * 1e-8, [EVEN]),
    (lambda x: ops.exp(x * 20.0), [EVEN]),                          # entries from 1e-20 to 1e15
    (lambda x: (x, x * x), [EVEN]),                                 # several outputs
    (lambda a, b: a * 2.0, [EVEN, ODD]),                            # an input that is not used
    (lambda x: x.sum(), [normal(30, 40)]),
    (lambda x: x ** 2, [np.array(3.0)]),                            # no axes
])
def test_right_functions_pass(f, arrays):
    check_grads(f, *arrays, order=3)


def test_float32_arrays_and_tensors_are_checked_in_float64():
    seen = []

    def f(x):
        seen.append(x.dtype)
        return x * x
    check_grads(f, EVEN.astype("float32"))
    check_grads(f, tensor(EVEN, "float32"))
    assert set(seen) == {np.dtype("float64")}


@pytest.mark.parametrize("seed", range(25))
def test_kinks_nearby_are_stepped_around(seed):
    """A ReLU network at random inputs: among 8 x (16 + 16) units one is often within 1e-4 of its
    kink, where the widest measurement sees both sides."""
    net = nn.Sequential(nn.Dense(4, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 1))
    rng.seed(seed)
    check_grads(net, normal(8, 4, seed=seed), seed=seed)


@pytest.mark.parametrize("distance", [1e-3, 3e-5, 3e-6, 3e-7])
def test_a_kink_at_a_distance(distance):
    check_grads(lambda x: ops.relu(x) + x, np.array([distance, -distance, 1.0]))


# Wrong functions

def test_a_wrong_factor_is_found_and_its_size_told():
    """The message holds the measured value, the claimed one, and how far apart they are."""
    message = complaint(lambda x: times(x, 3.0, 3.03), EVEN)
    assert message.startswith("order 1, input 0 (shape (3, 4)):")
    measured, claimed, off, relative = numbers(message)
    assert claimed == pytest.approx(1.01 * measured, rel=1e-6)
    assert off == pytest.approx(abs(claimed - measured), rel=0.05)          # printed to two digits
    # <error, d> is at most |error| |d|, the error is 1% of the gradient, and |d|^2 = 12
    assert 0 < relative <= 0.0101 * 12 ** 0.5


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-4, 0.5, 2, -1, 0, np.nan, np.inf])
def test_wrong_factors_large_and_small(factor):
    assert "order 1, input 0" in complaint(lambda x: times(x, 1.0, float(factor)), EVEN)


def test_a_rule_that_is_right_at_first_order_only():
    """2x as a constant: the first derivative is right, and its derivative, 2, is missing."""
    def square(x):
        return op(x.data * x.data, (x, lambda g, y: g * Tensor(2 * x.data)))
    check_grads(square, EVEN, order=1)
    assert complaint(square, EVEN, order=2).startswith("order 2, input 0")


def test_a_rule_that_is_right_to_second_order_only():
    def slope(x):       # 3 x^2, with its derivative 6x as a constant
        return op(3 * x.data ** 2, (x, lambda g, y: g * Tensor(6 * x.data)))

    def cube(x):
        return op(x.data ** 3, (x, lambda g, y: g * slope(x)))
    check_grads(cube, EVEN, order=2)
    assert complaint(cube, EVEN, order=3).startswith("order 3, input 0")


def test_a_rule_that_is_wrong_in_the_cotangent():
    """The value is right, but g enters as a constant: the rule is a function of g as well."""
    def f(x):
        return op(x.data * 2.0, (x, lambda g, y: Tensor(g.data * 2.0)))
    check_grads(f, EVEN, order=1)
    assert "order 2, the cotangent of order 1" in complaint(f, EVEN)


def test_one_wrong_element_among_many():
    x = normal(100, 100)
    assert abs(x[37, 59]) > 0.1
    error = np.ones((100, 100))
    error[37, 59] = 1.001

    def square(x):
        return op(x.data * x.data, (x, lambda g, y: g * x * (2.0 * backend.xp.asarray(error))))
    assert "order 1, input 0 (shape (100, 100))" in complaint(square, x)


def test_a_dependence_that_is_not_recorded():
    message = complaint(lambda x: op(x.data * 2.0), EVEN)
    measured, claimed, _, relative = numbers(message)
    assert claimed == 0 and measured != 0 and relative == pytest.approx(1)


@pytest.mark.parametrize("wrong", range(3))
def test_the_wrong_one_of_several_inputs_is_named(wrong):
    claims = [2.0 if i != wrong else 2.1 for i in range(3)]

    def f(*xs):
        return sum(times(x, 2.0, claim) for x, claim in zip(xs, claims))
    assert f"order 1, input {wrong} " in complaint(f, EVEN, ODD, normal(3, 4, seed=2))


def test_the_wrong_one_of_several_outputs_is_found():
    for wrong in range(2):
        claims = [2.0 if i != wrong else 2.1 for i in range(2)]
        assert "order 1" in complaint(lambda x: tuple(times(x, 2.0, c) for c in claims), EVEN)


def test_a_gradient_of_another_shape_is_named():
    def f(a, b):        # without the sum over the copies of b
        return op(a.data + b.data, (a, lambda g, y: g), (b, lambda g, y: g))
    message = complaint(f, EVEN, normal(4))
    assert "input 1" in message and "(3, 4)" in message and "(4,)" in message


class WrongDense(nn.Dense):
    """Its weight gradient is 1% too large."""

    def forward(self, x):
        return x @ times(self.weight, 1.0, 1.01).T + self.bias


def test_the_wrong_parameter_of_a_module_is_named():
    message = complaint(nn.Sequential(WrongDense(4, 3), nn.Tanh(), nn.Dense(3, 2)), EVEN)
    assert message.startswith("order 1, parameter 0.weight (shape (3, 4), in training)")
    message = complaint(nn.Sequential(nn.Dense(4, 3), nn.Tanh(), WrongDense(3, 2)), EVEN)
    assert message.startswith("order 1, parameter 2.weight (shape (2, 3), in training)")


def test_the_gradient_of_a_shared_parameter_is_that_of_all_its_uses():
    layer, tied = nn.Dense(4, 4), nn.Dense(4, 4)
    tied.weight = layer.weight
    check_grads(nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), tied), EVEN)


def test_the_tolerance_is_the_callers():
    check_grads(lambda x: times(x, 1.0, 1.0001), EVEN, order=1, tolerance=1e-2)


# What cannot be measured

@pytest.mark.parametrize("f, x", [(ops.relu, np.zeros(3)), (abs, np.array([1.0, 0.0])),
                                  (lambda x: x.max(), np.ones(3)),
                                  (lambda x: ops.clip(x, -1, 1), np.array([1.0, 0.5]))],
                         ids=["relu", "abs", "max", "clip"])
def test_a_kink_at_the_input_is_called_one(f, x):
    message = complaint(f, x)
    assert message.startswith("order 1, input 0 ") and "the function is not smooth" in message
    assert "off the kink" in message


def test_the_input_that_lies_on_a_kink_is_named():
    message = complaint(lambda a, b: a + ops.relu(b), EVEN, np.zeros((3, 4)))
    assert message.startswith("order 1, input 1 ") and "the function is not smooth" in message


def test_a_function_that_differs_at_every_call_is_reported():
    random = Random(0)

    def f(x):
        return x * random.normal(x.shape)
    assert "the same values at every call" in complaint(f, EVEN)


# What enters and what is left alone

def test_integers_are_passed_on_as_they_are():
    labels = backend.xp.asarray(np.array([3, 0, 1]))
    seen = []

    def f(x, labels, y):
        seen.append(labels)
        return ops.cross_entropy(x * y, labels)
    check_grads(f, EVEN, labels, ODD)
    assert all(type(l) is backend.xp.ndarray and l.dtype == labels.dtype for l in seen)
    assert all((to_numpy(l) == to_numpy(labels)).all() for l in seen)
    # and the float after it keeps its number
    assert "input 2 " in complaint(lambda x, l, y: x + times(y, 1.0, 2.0), EVEN, labels, ODD)


def test_order_1_looks_no_further():
    """The rule's own rule, of order 2, is never called."""
    called = []

    def f(x):
        def inner(g):
            return op(g.data * 2.0, (g, lambda h, y: called.append("inner") or h * 2.0))
        return op(x.data * 2.0, (x, lambda g, y: inner(g)))
    check_grads(f, EVEN, order=1)
    assert not called
    check_grads(f, EVEN, order=2)
    assert called


def test_the_checked_module_is_left_as_it_was():
    """Weights, buffers, modes and the stream of dropout masks: the check works on a copy."""
    net = nn.Sequential(nn.Dense(4, 6), nn.BatchNorm(6), nn.Tanh(), nn.Dropout(0.5), nn.Dense(6, 1))
    net(tensor(normal(8, 4), "float32"))
    net.layers[2].eval()
    attributes = [(part, dict(vars(part))) for _, part in net.modules()]
    state, random = net.state_dict(), rng.state
    check_grads(net, normal(8, 4))
    for part, before in attributes:
        assert vars(part).keys() == before.keys()
        assert all(vars(part)[name] is value for name, value in before.items())
    assert all((value == state[name]).all() and value.dtype == np.float32
               for name, value in net.state_dict().items())
    assert rng.state == random


def test_the_arrays_that_are_checked_are_left_as_they_were():
    x = backend.xp.asarray(EVEN)
    check_grads(lambda x: x * x, x)
    assert (to_numpy(x) == EVEN).all()


def test_dropout_and_batchnorm_are_the_same_at_every_call():
    """Masks would be drawn anew, and running averages would move: neither is a wrong derivative."""
    net = nn.Sequential(nn.Dense(4, 6), nn.Dropout(0.5), nn.BatchNorm(6), nn.Tanh())
    check_grads(net, normal(8, 4))
    check_grads(net.eval(), normal(8, 4))


def test_a_bias_of_zero_is_moved_off_the_kink():
    """Inputs of zeros (MNIST's black pixels) with a bias of zeros put every unit on its kink."""
    check_grads(nn.Sequential(nn.Dense(4, 6), nn.ReLU(), nn.Dense(6, 1)), np.zeros((2, 4)), order=1)


def test_the_same_seed_repeats_the_check():
    messages = {complaint(lambda x: times(x, 1.0, 1.01), EVEN, seed=seed) for seed in (0, 0, 1)}
    assert len(messages) == 2


class Shuffled(nn.Module):
    """A layer with a buffer of whole numbers."""

    def __init__(self):
        self.order = backend.xp.asarray(np.array([2, 0, 1]))

    def forward(self, x):
        return x[:, self.order] ** 2


def test_whole_numbers_in_buffers_stay_whole():
    check_grads(Shuffled(), normal(4, 3))


def test_lists_are_floats_and_something_must_be():
    check_grads(lambda x: x * x, [1, 2, 3])
    assert "at least one array of floats" in error_of(
        check_grads, lambda x: x, np.arange(3))


# What nobody would see

def test_a_tensor_that_the_function_holds_is_refused():
    """By a closure, a global, a default argument, a computed one; in either dtype."""
    w, half = tensor(normal(4)), tensor(normal(4), "float32")
    net = nn.Dense(4, 3)
    product = w * 2.0
    for f in (lambda x: x * w, lambda x, w=w: x * w, lambda x: x * product, functools.partial(
            lambda w, x: x + w, w), lambda x: x * half, net.forward, lambda x: net(x),
            lambda x: ops.maximum(x, w)):
        message = error_of(check_grads, f, EVEN)
        assert "unchecked" in message and "pass it as an input" in message
    check_grads(lambda x: x * w.data + ops.maximum(x, 0.1) * Tensor(w.data), EVEN)  # constants


def test_a_module_that_hides_a_parameter_is_refused():
    for hide in (lambda w: {w}, lambda w: [w], lambda w: {"w": w}, lambda w: (lambda x: x * w)):
        net = nn.Sequential(nn.Tanh())
        net.hidden = hide(tensor(normal(4)))
        assert "nothing finds there" in error_of(check_grads, net, EVEN)

    class Around(nn.Module):        # where nothing can look
        def __init__(self):
            self.scale = types.SimpleNamespace(w=tensor(normal(4)))

        def forward(self, x):
            return x * self.scale.w
    assert "unchecked" in error_of(check_grads, Around(), EVEN)


class InMode(nn.Module):
    """Its rule is wrong in one mode."""

    def __init__(self, wrong, factor=1.0):
        self.wrong, self.factor = wrong, factor

    def forward(self, x):
        return times(x, 2.0, 2.2 if self.training == self.wrong else 2.0)


@pytest.mark.parametrize("wrong, mode", [(True, "training"), (False, "evaluation")])
def test_a_module_is_checked_in_both_modes(wrong, mode):
    for net in (InMode(wrong), InMode(wrong).eval()):
        assert f"in {mode}" in complaint(net, EVEN)
        assert f"in {mode}" in complaint(net, EVEN, training=wrong)
        check_grads(net, EVEN, training=not wrong)


class OfOne(nn.Module):
    """Its bias takes the gradient of the first example alone."""

    def __init__(self):
        self.bias = Tensor(backend.xp.zeros(4, "float32"))

    def forward(self, x):
        return op(x.data + self.bias.data, (x, lambda g, y: g), (self.bias, lambda g, y: g[0]))


def test_a_batch_of_one_is_checked_as_a_batch_of_two():
    assert "parameter bias" in complaint(OfOne(), EVEN[:1])
    check_grads(nn.Dense(4, 3), EVEN[:1])
    check_grads(nn.BatchNorm(4), EVEN[:1])              # which takes no single example

    class Single(nn.Module):
        """Takes a batch of one and no other."""

        def forward(self, x):
            return x.reshape(2, 2) ** 2
    check_grads(Single(), EVEN[:1])


def test_spectral_norm_is_checked_with_u_and_v_at_rest():
    """In training a power iteration moves them with the weights, which no derivative follows."""
    net = nn.Sequential(nn.spectral_norm(nn.Dense(4, 3)), nn.Tanh(), nn.Dropout(0.3))
    check_grads(net, EVEN)
    check_grads(net, EVEN, training=True)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("f", [
    lambda x: op(x.data.mean(), (x, lambda g, y: g * Tensor(backend.xp.ones(x.shape)))),
    lambda x: op(x.data.sum(), (x, lambda g, y: -g * Tensor(backend.xp.ones(x.shape)))),
    lambda x: op(x.data[::-1], (x, lambda g, y: g)),
    lambda x: op(x.data * x.data, (x, lambda g, y: exchanged(g * x * 2.0)))],
    ids=["mean without 1/n", "sum with the other sign", "a flip", "two entries exchanged"])
def test_errors_of_equal_size_do_not_cancel(f, seed):
    """Along directions of +-1 each of these passed for half of the seeds or so."""
    assert "order 1" in complaint(f, normal(4), seed=seed)


def exchanged(x):
    index = backend.xp.asarray(np.array([1, 0, 2, 3]))
    return op(x.data[index], (x, lambda g, y: exchanged(g)))


@pytest.mark.parametrize("f", [ops.log, ops.sqrt, lambda x: 1 / x, lambda x: x ** -1.5])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
def test_near_the_edge_of_a_domain(f, size):
    """A step beyond it gives NaN, and closer points are taken."""
    check_grads(f, size * np.array([1.0, 2.5, 7.0]))


@pytest.mark.parametrize("size, offset", [(1e-8, 0), (1.0, 1e6), (1e3, 0), (1.0, -1e5)])
def test_very_small_and_very_large_inputs(size, offset):
    x = offset + size * normal(2, 3)
    for f in (lambda x: x ** 2, lambda x: x ** 3, ops.tanh, ops.norm, nn.LayerNorm(3),
              lambda x: (x - x.mean()) ** 2):
        check_grads(f, x)


def test_a_large_constant_hides_no_error():
    check_grads(lambda x: ops.tanh(x) + 1e6, EVEN)
    complaint(lambda x: times(ops.tanh(x), 1.0, 1.01) + 1e6, EVEN)
