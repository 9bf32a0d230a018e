"""Tests of check_grads: it finds wrong derivatives, says where they are, and accepts right ones."""

import functools
import re
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, channels, check_grads, nn, op, ops, to_numpy
from tinygan.random import Random, rng

from helpers import device, error_of, normal, positive, tensor

EVEN, ODD = normal(3, 4), normal(3, 4, seed=1)


def get_error(f, *arrays, **settings):
    """Return the message of the AssertionError that check_grads raises for f."""
    with pytest.raises(AssertionError) as raised:
        check_grads(f, *arrays, **settings)
    return str(raised.value)


def read_numbers(message):
    """Read the message's numbers: measured, claimed, absolute error, relative error."""
    found = re.search(r"is (\S+) as measured, (\S+) by its rule: off by (\S+), (\S+) of", message)
    return [float(group) for group in found.groups()]


def multiply(x, factor, claimed):
    """Return factor * x, with a rule whose derivative is `claimed`."""
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
def test_kinks_near_the_input_do_no_harm(seed):
    """Among the 8 x (16 + 16) ReLUs of a network at random inputs, one is often within 1e-4 of 0.

    The widest step of the measurement then crosses the kink.
    """
    net = nn.Sequential(nn.Dense(4, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 1))
    rng.seed(seed)
    check_grads(net, normal(8, 4, seed=seed), seed=seed)


@pytest.mark.parametrize("distance", [1e-3, 3e-5, 3e-6, 3e-7])
def test_a_kink_at_some_distance_does_no_harm(distance):
    check_grads(lambda x: ops.relu(x) + x, np.array([distance, -distance, 1.0]))


# Wrong functions

def test_a_wrong_factor_is_found_and_the_message_tells_its_size():
    """The message contains the measured derivative, the claimed one, and their difference."""
    message = get_error(lambda x: multiply(x, 3.0, 3.03), EVEN)
    assert message.startswith("order 1, input 0 (shape (3, 4)):")
    measured, claimed, off, relative = read_numbers(message)
    assert claimed == pytest.approx(1.01 * measured, rel=1e-6)
    assert off == pytest.approx(abs(claimed - measured), rel=0.05)          # printed to two digits
    # <error, d> is at most |error| |d|, the error is 1 % of the gradient, and |d|^2 = 12
    assert 0 < relative <= 0.0101 * 12 ** 0.5


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-4, 0.5, 2, -1, 0, np.nan, np.inf])
def test_wrong_factors_of_any_size_are_found(factor):
    assert "order 1, input 0" in get_error(lambda x: multiply(x, 1.0, float(factor)), EVEN)


def test_a_rule_that_is_right_to_first_order_only_is_found():
    """The first derivative 2x is a constant, so the second derivative is 0 instead of 2."""
    def square(x):
        return op(x.data * x.data, (x, lambda g, y: g * Tensor(2 * x.data)))
    check_grads(square, EVEN, order=1)
    assert get_error(square, EVEN, order=2).startswith("order 2, input 0")


def test_a_rule_that_is_right_to_second_order_only_is_found():
    def derivative(x):      # 3 x^2, with its own derivative 6x as a constant
        return op(3 * x.data ** 2, (x, lambda g, y: g * Tensor(6 * x.data)))

    def cube(x):
        return op(x.data ** 3, (x, lambda g, y: g * derivative(x)))
    check_grads(cube, EVEN, order=2)
    assert get_error(cube, EVEN, order=3).startswith("order 3, input 0")


def test_a_rule_with_a_wrong_derivative_by_the_cotangent_is_found():
    """The rule's value is right, but it uses the cotangent g as a constant."""
    def f(x):
        return op(x.data * 2.0, (x, lambda g, y: Tensor(g.data * 2.0)))
    check_grads(f, EVEN, order=1)
    assert "order 2, the cotangent of order 1" in get_error(f, EVEN)


def test_one_wrong_entry_among_many_is_found():
    x = normal(100, 100)
    assert abs(x[37, 59]) > 0.1
    error = np.ones((100, 100))
    error[37, 59] = 1.001

    def square(x):
        return op(x.data * x.data, (x, lambda g, y: g * x * (2.0 * backend.xp.asarray(error))))
    assert "order 1, input 0 (shape (100, 100))" in get_error(square, x)


def test_a_dependence_that_is_not_recorded_is_found():
    message = get_error(lambda x: op(x.data * 2.0), EVEN)
    measured, claimed, _, relative = read_numbers(message)
    assert claimed == 0 and measured != 0 and relative == pytest.approx(1)


@pytest.mark.parametrize("wrong", range(3))
def test_the_message_names_the_input_with_the_wrong_gradient(wrong):
    claims = [2.0 if i != wrong else 2.1 for i in range(3)]

    def f(*xs):
        return sum(multiply(x, 2.0, claim) for x, claim in zip(xs, claims))
    assert f"order 1, input {wrong} " in get_error(f, EVEN, ODD, normal(3, 4, seed=2))


def test_a_wrong_gradient_of_one_of_several_outputs_is_found():
    for wrong in range(2):
        claims = [2.0 if i != wrong else 2.1 for i in range(2)]
        assert "order 1" in get_error(lambda x: tuple(multiply(x, 2.0, c) for c in claims), EVEN)


def test_a_gradient_of_another_shape_is_found():
    def f(a, b):        # the rule of b lacks the sum over the copies of b
        return op(a.data + b.data, (a, lambda g, y: g), (b, lambda g, y: g))
    assert "of shape (4,), got shape (3, 4)" in error_of(check_grads, f, EVEN, normal(4))


class WrongDense(nn.Dense):
    """A dense layer whose weight gradient is 1 % too large."""

    def forward(self, x):
        return x @ multiply(self.weight, 1.0, 1.01).T + self.bias


def test_the_message_names_the_parameter_with_the_wrong_gradient():
    message = get_error(nn.Sequential(WrongDense(4, 3), nn.Tanh(), nn.Dense(3, 2)), EVEN)
    assert message.startswith("order 1, parameter 0.weight (shape (3, 4), in training)")
    message = get_error(nn.Sequential(nn.Dense(4, 3), nn.Tanh(), WrongDense(3, 2)), EVEN)
    assert message.startswith("order 1, parameter 2.weight (shape (2, 3), in training)")


def test_shared_parameters_are_checked_over_all_their_uses():
    layer, tied = nn.Dense(4, 4), nn.Dense(4, 4)
    tied.weight = layer.weight
    check_grads(nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), tied), EVEN)


def test_the_tolerance_can_be_set():
    check_grads(lambda x: multiply(x, 1.0, 1.0001), EVEN, order=1, tolerance=1e-2)


# What cannot be measured

@pytest.mark.parametrize("f, x", [(ops.relu, np.zeros(3)), (abs, np.array([1.0, 0.0])),
                                  (lambda x: x.max(), np.ones(3)),
                                  (lambda x: ops.clip(x, -1, 1), np.array([1.0, 0.5]))],
                         ids=["relu", "abs", "max", "clip"])
def test_the_message_says_that_the_input_lies_on_a_kink(f, x):
    message = get_error(f, x)
    assert message.startswith("order 1, input 0 ") and "the function is not smooth" in message
    assert "off the kink" in message


def test_the_message_names_the_input_that_lies_on_a_kink():
    message = get_error(lambda a, b: a + ops.relu(b), EVEN, np.zeros((3, 4)))
    assert message.startswith("order 1, input 1 ") and "the function is not smooth" in message


@pytest.mark.parametrize("f", [
    lambda x: x * 3.0 - x - x - x, lambda x: channels.centre(x)[0].sum(0),
    lambda x: ops.exp(ops.log_softmax(x)).sum(1) - 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_function_that_is_0_up_to_rounding_passes(f, seed):
    """Its gradient is rounding as well, and so is what a measurement finds."""
    check_grads(f, normal(4, 3, seed=seed), order=3, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_mistake_of_a_tiny_function_is_found(seed):
    """Its values are not rounding: they do not change by their own size with a tiny step."""
    def f(x):
        return op(1e-16 * x.data ** 2, (x, lambda g, y: g * x * 1e-16))     # without the factor 2
    assert "order 1, input 0" in get_error(f, normal(4, 3, seed=seed), seed=seed)


def test_a_function_with_other_values_at_every_call_is_reported():
    random = Random(0)

    def f(x):
        return x * random.normal(x.shape)
    assert "the same values at every call" in get_error(f, EVEN)


# Inputs, and what check_grads leaves unchanged

def test_integers_are_passed_to_the_function_unchanged():
    labels = backend.xp.asarray(np.array([3, 0, 1]))
    seen = []

    def f(x, labels, y):
        seen.append(labels)
        return ops.cross_entropy(x * y, labels)
    check_grads(f, EVEN, labels, ODD)
    assert all(type(l) is backend.xp.ndarray and l.dtype == labels.dtype for l in seen)
    assert all((to_numpy(l) == to_numpy(labels)).all() for l in seen)
    # the message counts the integers as an input too
    assert "input 2 " in get_error(lambda x, l, y: x + multiply(y, 1.0, 2.0), EVEN, labels, ODD)


def test_order_1_does_not_check_the_second_order():
    """The rule of the rule is not called."""
    called = []

    def f(x):
        def inner(g):
            return op(g.data * 2.0, (g, lambda h, y: called.append("inner") or h * 2.0))
        return op(x.data * 2.0, (x, lambda g, y: inner(g)))
    check_grads(f, EVEN, order=1)
    assert not called
    check_grads(f, EVEN, order=2)
    assert called


def test_check_grads_does_not_change_the_module():
    """Weights, buffers, modes and the random stream of dropout masks stay the same."""
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


def test_check_grads_does_not_change_the_arrays():
    x = backend.xp.asarray(EVEN)
    check_grads(lambda x: x * x, x)
    assert (to_numpy(x) == EVEN).all()


def test_dropout_and_batch_norm_can_be_checked():
    """Every call sees the same dropout masks and the same running averages."""
    net = nn.Sequential(nn.Dense(4, 6), nn.Dropout(0.5), nn.BatchNorm(6), nn.Tanh())
    check_grads(net, normal(8, 4))
    check_grads(net.eval(), normal(8, 4))


def test_a_bias_of_0_is_moved_away_from_the_kink():
    """An input of zeros (MNIST's black pixels) and biases of 0 would put every ReLU on its kink."""
    check_grads(nn.Sequential(nn.Dense(4, 6), nn.ReLU(), nn.Dense(6, 1)), np.zeros((2, 4)), order=1)


def test_the_same_seed_gives_the_same_check():
    messages = {get_error(lambda x: multiply(x, 1.0, 1.01), EVEN, seed=seed) for seed in (0, 0, 1)}
    assert len(messages) == 2


class Shuffled(nn.Module):
    """A layer with a buffer of integers."""

    def __init__(self):
        self.order = backend.xp.asarray(np.array([2, 0, 1]))

    def forward(self, x):
        return x[:, self.order] ** 2


def test_each_call_has_the_buffers_of_the_first():
    class Counting(nn.Module):
        def __init__(self):
            self.seen = backend.xp.zeros(1)

        def forward(self, x):
            self.seen += 1.0
            return x * x * self.seen
    check_grads(Counting(), [1.0, 2.0])


def test_the_error_names_the_buffers_that_forward_changes():
    """The result depends on them, and the rule treats them as constants."""
    class Centring(nn.Module):
        def __init__(self, changes):
            self.mean, self.changes = backend.xp.zeros(2), changes

        def forward(self, x):
            if self.changes:
                self.mean += x.data.mean(0)
            return multiply(x - self.mean, 1.0, 1.0 if self.changes else 1.1)
    x = normal(3, 2)
    message = get_error(Centring(True), x, training=True)
    assert "(forward changes the buffers mean: if its result depends on them" in message
    assert "check with training=False)" in message
    assert "buffers" not in get_error(Centring(False), x, training=True)


def test_buffers_of_integers_stay_integers():
    check_grads(Shuffled(), normal(4, 3))


def test_lists_become_float_arrays_and_one_float_array_is_required():
    check_grads(lambda x: x * x, [1, 2, 3])
    assert "at least one array of floats" in error_of(
        check_grads, lambda x: x, np.arange(3))


# Tensors that would go unchecked

def test_a_function_that_holds_a_tensor_is_refused():
    """The function may hold it in a closure, a default argument, a partial or a method.

    It may be a leaf or computed, and of either dtype.
    """
    w, half = tensor(normal(4)), tensor(normal(4), "float32")
    net = nn.Dense(4, 3)
    product = w * 2.0
    for f in (lambda x: x * w, lambda x, w=w: x * w, lambda x: x * product, functools.partial(
            lambda w, x: x + w, w), lambda x: x * half, net.forward, lambda x: net(x),
            lambda x: ops.maximum(x, w)):
        message = error_of(check_grads, f, EVEN)
        assert "would not be checked" in message and "pass it as an input" in message
    check_grads(lambda x: x * w.data + ops.maximum(x, 0.1) * Tensor(w.data), EVEN)  # constants


def test_a_module_that_hides_a_parameter_is_refused():
    for hide in (lambda w: {w}, lambda w: [w], lambda w: {"w": w}, lambda w: (lambda x: x * w),
                 lambda w: types.SimpleNamespace(w=w)):
        net = nn.Sequential(nn.Tanh())
        net.hidden = hide(tensor(normal(4)))
        assert "not found there" in error_of(check_grads, net, EVEN)

    w = tensor(normal(4))

    class Around(nn.Module):        # hidden in a variable around the class
        def forward(self, x):
            return x * w
    assert "would not be checked" in error_of(check_grads, Around(), EVEN)


class WrongInOneMode(nn.Module):
    """A Module with a wrong rule in one mode: training if `wrong` is True, else evaluation."""

    def __init__(self, wrong):
        self.wrong = wrong

    def forward(self, x):
        return multiply(x, 2.0, 2.2 if self.training == self.wrong else 2.0)


@pytest.mark.parametrize("wrong, mode", [(True, "training"), (False, "evaluation")])
def test_a_module_is_checked_in_both_modes(wrong, mode):
    for net in (WrongInOneMode(wrong), WrongInOneMode(wrong).eval()):
        assert f"in {mode}" in get_error(net, EVEN)
        assert f"in {mode}" in get_error(net, EVEN, training=wrong)
        check_grads(net, EVEN, training=not wrong)


class WrongForBatches(nn.Module):
    """A bias whose gradient is that of the first example only."""

    def __init__(self):
        self.bias = Tensor(backend.xp.zeros(4, "float32"))

    def forward(self, x):
        return op(x.data + self.bias.data, (x, lambda g, y: g), (self.bias, lambda g, y: g[0]))


def test_a_batch_of_one_is_extended_to_a_batch_of_two():
    assert "parameter bias" in get_error(WrongForBatches(), EVEN[:1])
    check_grads(nn.Dense(4, 3), EVEN[:1])
    check_grads(nn.BatchNorm(4), EVEN[:1])              # it refuses a single example

    class Single(nn.Module):
        """A Module that accepts only a batch of one."""

        def forward(self, x):
            return x.reshape(2, 2) ** 2
    check_grads(Single(), EVEN[:1])


def test_spectral_norm_is_checked_with_constant_u_and_v():
    """Power iterations in training would change u and v, which are constants to the derivative."""
    net = nn.Sequential(nn.spectral_norm(nn.Dense(4, 3)), nn.Tanh(), nn.Dropout(0.3))
    check_grads(net, EVEN)
    check_grads(net, EVEN, training=True)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("f", [
    lambda x: op(x.data.mean(), (x, lambda g, y: g * Tensor(backend.xp.ones(x.shape)))),
    lambda x: op(x.data.sum(), (x, lambda g, y: -g * Tensor(backend.xp.ones(x.shape)))),
    lambda x: op(x.data[::-1], (x, lambda g, y: g)),
    lambda x: op(x.data * x.data, (x, lambda g, y: exchange(g * x * 2.0)))],
    ids=["mean without 1/n", "sum with the other sign", "a flip", "two entries exchanged"])
def test_errors_of_equal_size_in_several_entries_do_not_cancel(f, seed):
    """With directions of entries +-1 each of these mistakes passed for about half of the seeds."""
    assert "order 1" in get_error(f, normal(4), seed=seed)


def exchange(x):
    index = backend.xp.asarray(np.array([1, 0, 2, 3]))
    return op(x.data[index], (x, lambda g, y: exchange(g)))


@pytest.mark.parametrize("f", [ops.log, ops.sqrt, lambda x: 1 / x, lambda x: x ** -1.5])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
def test_inputs_near_the_edge_of_a_domain_can_be_checked(f, size):
    """A step out of the domain gives NaN, and check_grads takes a smaller step."""
    check_grads(f, size * np.array([1.0, 2.5, 7.0]))


@pytest.mark.parametrize("seed", range(5))
def test_an_infinite_step_hides_no_missing_gradient(seed):
    """The widest steps of the second number give log 0."""
    def log(x):
        with np.errstate(divide="ignore"):
            data = backend.xp.log(backend.xp.maximum(x.data, 0.0))
        return op(data, (x, lambda g, y: g * 0.0))
    assert "0 by its rule" in get_error(log, np.array([1.0, 5e-5]), seed=seed)


def test_a_function_that_is_nowhere_finite_is_reported():
    with np.errstate(invalid="ignore"):
        assert "not finite near this input" in get_error(ops.log, np.array([-1.0, -2.0]))


@pytest.mark.parametrize("size, offset", [(1e-8, 0), (1.0, 1e6), (1e3, 0), (1.0, -1e5)])
def test_very_small_and_very_large_inputs_can_be_checked(size, offset):
    x = offset + size * normal(2, 3)
    for f in (lambda x: x ** 2, lambda x: x ** 3, ops.tanh, ops.norm, nn.LayerNorm(3),
              lambda x: (x - x.mean()) ** 2):
        check_grads(f, x)


def test_a_large_constant_hides_no_error():
    check_grads(lambda x: ops.tanh(x) + 1e6, EVEN)
    get_error(lambda x: multiply(ops.tanh(x), 1.0, 1.01) + 1e6, EVEN)


@pytest.mark.parametrize("x", [2e-9, -2e-9])
def test_a_kink_nearby_is_told_from_rounding(x):
    """Steps that are narrow enough to miss the kink have larger rounding errors."""
    check_grads(lambda x: abs(x) + 1000.0, np.array([x]), order=1)
    assert "order 1" in get_error(lambda x: multiply(abs(x), 1.0, 1.1) + 1000.0, np.array([x]))


@pytest.mark.parametrize("f, x", [
    (lambda a: op(a.data * 1e160, (a, lambda g, y: g * 3e160)), np.ones(2)),
    (lambda a: a * a * 1e160, np.ones(2))])
def test_a_gradient_whose_square_overflows_is_refused(f, x):
    """Every difference would lie within a tolerance that is infinite."""
    with pytest.raises(AssertionError, match="too large to be checked: scale f or its inputs down"):
        check_grads(f, device(x))


def test_numbers_of_numpy_are_checked_as_numbers():
    check_grads(lambda a: a * a, np.int64(3))
    with pytest.raises(AssertionError, match="input 0"):
        check_grads(lambda a: op(a.data * 1.0, (a, lambda g, y: g * 2.0)), np.int64(3))


def test_check_grads_takes_functions_and_whole_orders():
    assert "as in nn.ReLU()" in error_of(check_grads, nn.ReLU, normal(2))
    for order in (0, 1.5, "2"):
        assert f"got {order!r}" in error_of(check_grads, ops.exp, normal(2), order=order)


class Remembering(nn.Module):
    """A layer that stores its labels, and has a queue that grows and an array that becomes None."""

    def __init__(self):
        self.first = backend.xp.zeros(2)
        self.table, self.queue = tensor(np.ones((5, 3)), "float32"), backend.xp.zeros((0, 3))

    def forward(self, x, y):
        self.labels, self.first = y, None
        self.queue = backend.xp.concatenate([self.queue, x.data])[-5:]
        return x * self.table[y]


def test_arrays_that_forward_stores_may_change_their_shape():
    layer, labels = Remembering(), device(np.array([0, 1]))
    check_grads(layer, normal(2, 3), labels)
    layer(tensor(np.ones((2, 3)), "float32"), labels)
    check_grads(layer, normal(4, 3), device(np.array([0, 1, 2, 3])))
    assert layer.labels is labels and layer.queue.shape == (2, 3)


def test_an_input_that_forward_has_stored_is_no_buffer():
    """It was an array in an earlier call, and is a Tensor here."""
    class Scaling(nn.Module):
        def forward(self, x, factor):
            self.factor = factor
            return x * factor
    layer = Scaling()
    layer(tensor(normal(2, 3)), device(normal(3)))
    check_grads(layer, normal(2, 3), normal(3))
