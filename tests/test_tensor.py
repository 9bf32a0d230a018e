"""Tests of Tensor and grad(): derivatives, refused arguments, run time and memory."""

import array
import contextvars
import copy
import gc
import math
import operator
import pickle
import re
import statistics
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from tinygan import (Tensor, backend, channels, enable_grad, grad, nn, no_grad, op, ops, optim,
                     pytorch, resampling, to_numpy)
from tinygan.conv import conv2d
from tinygan.nn import (BatchNorm, Conv2d, ConvTranspose2d, Dense, Flatten, GaussianNoise,
                        LeakyReLU, Maxout, Reshape, Sequential, spectral_norm)
from tinygan.nested import map_nested
from tinygan.tensor import as_array, broadcast_to, sum_to

import standin
from helpers import device, error_of, normal, positive, tensor


def test_second_derivative_of_a_polynomial():
    x = tensor([1.0, -2.0, 0.5])
    (g,) = grad((x ** 3).sum(), [x], create_graph=True)
    (h,) = grad(g.sum(), [x], create_graph=True)
    (k,) = grad(h.sum(), [x])
    np.testing.assert_allclose(g.numpy(), 3 * x.numpy() ** 2, rtol=1e-15)
    np.testing.assert_allclose(h.numpy(), 6 * x.numpy(), rtol=1e-15)
    np.testing.assert_allclose(k.numpy(), [6, 6, 6], rtol=1e-15)


@pytest.mark.parametrize("n", [-4, -3, -1, 0, 1, 2, 3, 4, 7])
def test_a_whole_power_is_a_product(n):
    """On a CPU that of a negative number is computed from the absolute value."""
    x = [-1.5, -0.3, 0.7, 2.0]
    y = (tensor(x) ** n).numpy()
    # float64: seven factors, or a division, round by 1e-15 at most
    np.testing.assert_allclose(y, [math.prod([a] * abs(n)) ** (1 if n > 0 else -1) for a in x],
                               rtol=1e-14)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
    with np.errstate(divide="ignore"):
        y, expected = (tensor(special) ** n).numpy(), special ** n
    np.testing.assert_array_equal(y, expected)
    assert (np.signbit(y) == np.signbit(expected))[:-1].all()


@pytest.mark.parametrize("n", [-1.5, 0.5, 2.5])
def test_a_power_that_is_not_whole_is_nan_for_negative_numbers(n):
    with np.errstate(invalid="ignore"):
        y = (tensor([-2.0, 2.0]) ** n).numpy()
    # float64: numpy's power is off by at most four roundings of 2e-16
    assert np.isnan(y[0]) and y[1] == pytest.approx(2.0 ** n, rel=1e-15)


def test_grad_y_is_the_cotangent_and_is_differentiable():
    x, c = tensor(normal(3)), tensor(normal(3, seed=1))
    (g,) = grad(ops.exp(x), [x], grad_y=c, create_graph=True)
    (by_c,) = grad(g.sum(), [c])
    np.testing.assert_allclose(g.numpy(), c.numpy() * np.exp(x.numpy()), rtol=1e-14)
    np.testing.assert_allclose(by_c.numpy(), np.exp(x.numpy()), rtol=1e-14)


def test_xs_may_contain_intermediate_tensors_and_y_itself():
    x = tensor([3.0])
    y = x * x
    z = y * 2.0
    dx, dy, dz = grad(z, [x, y, z])
    assert (dx.item(), dy.item(), dz.item()) == (12.0, 2.0, 1.0)


def test_a_tensor_used_on_many_paths_gets_the_sum():
    x = tensor([2.0])
    y = x * x + x * 3.0 + x
    assert grad(y, [x])[0].item() == 2 * 2 + 4


def test_only_rules_on_paths_to_the_xs_are_called():
    """grad calls neither the rules of other inputs nor those of operations before the xs."""
    x, w = tensor([1.0]), tensor([1.0])
    called = []

    def multiply(name, a, b):
        """Return a * b, with rules that append their names to `called`."""
        return ops.op(a.data * b.data, (a, lambda g, y: called.append(name + "0") or g * b),
                      (b, lambda g, y: called.append(name + "1") or g * a))
    hidden = multiply("first", x, w)
    y = multiply("second", hidden, w)
    grad(y, [hidden])
    assert called == ["second0"]


def test_a_second_call_on_the_same_graph_gives_the_same_gradient():
    x = tensor(normal(3))
    y = ops.tanh(x).sum()
    first, second = grad(y, [x])[0].numpy(), grad(y, [x])[0].numpy()
    assert (first == second).all()


def test_transpose_accepts_a_tuple():
    x = tensor(normal(2, 3, 4))
    assert x.transpose((1, 2, 0)).shape == x.transpose(1, 2, 0).shape == (3, 4, 2)


def test_no_grad_makes_constants():
    x = tensor([2.0])
    with no_grad():
        y = x * x
    assert y.parents is None and "does not depend" in error_of(grad, y, [x])


def test_a_gradient_that_was_not_recorded_has_no_derivative():
    """Without create_graph=True the penalty is a constant: its gradient is refused, and not 0.

    A part of y may be a constant, such as samples for D's step.
    """
    w, x = tensor([2.0]), tensor([3.0])
    (g,) = grad((w * x * x).sum(), [x])
    for unused in ("error", "zeros"):
        with pytest.raises(ValueError, match=r"create_graph=True .* outside no_grad"):
            grad((g * g).sum(), [w], unused=unused)
    assert grad((g * w).sum(), [w, x], unused="zeros")[0].item() == g.item()
    assert grad(x.sum(), [w], unused="zeros")[0].item() == 0


@pytest.mark.parametrize("name", [
    "backward", "grad", "requires_grad", "detach", "to", "view", "copy", "dim", "var", "clip"])
def test_names_of_pytorch_are_answered(name):
    """The error says what to write; other missing names have Python's usual error."""
    with pytest.raises(AttributeError, match=f"no {name}: "):
        getattr(tensor([1.0]), name)
    assert not hasattr(tensor([1.0]), "colour")


def test_names_of_pytorch_are_answered_by_modules_optimisers_and_nn():
    net = Dense(2, 1)
    for thing, name, advice in ((net, "zero_grad", "nothing is stored"), (net, "cuda", "cupy"),
                                (Sequential(net), "append", "nn.Sequential(*net, layer)"),
                                (optim.SGD(net.parameters(), 0.1), "zero_grad", "grad(y, xs)"),
                                (nn, "Linear", "nn.Dense"), (nn, "BatchNorm2d", "nn.BatchNorm"),
                                (nn, "Identity", "nn.Sequential()")):
        with pytest.raises(AttributeError, match=f"{name}'?: .*{re.escape(advice)}"):
            getattr(thing, name)
    for thing in (net, nn):
        assert not hasattr(thing, "colour")


def test_what_is_to_be_written_in_place_of_pytorchs_names_exists():
    """The advice names functions and layers of tinygan, and not those that it is the answer for."""
    for name, advice in [*pytorch.TENSOR.items(), *pytorch.MODULE.items(), *pytorch.NN.items()]:
        for module, found in re.findall(r"\b(ops|nn|backend)\.(\w+)", advice):
            assert hasattr({"ops": ops, "nn": nn, "backend": backend}[module], found), advice
        for part in re.findall(r"\bx\.(\w+)", advice):
            assert hasattr(tensor([[1.0]]), part), advice
    for advice in pytorch.MODULE.values():
        for method in re.findall(r"\b(\w+)\(\)", advice):
            assert hasattr(nn.Module, method), advice
    assert not [name for name in pytorch.TENSOR if hasattr(tensor([1.0]), name)]
    assert not [name for name in pytorch.MODULE if hasattr(nn.Module, name)]
    assert not [name for name in pytorch.NN if hasattr(nn, name)]


@pytest.mark.parametrize("x, w, words", [
    ((2, 3), (4,), "4 channels need (m, 4) or (N, 4, H, W), got (2, 3)"),
    ((2, 3, 5), (3,), "3 channels need (m, 3) or (N, 3, H, W), got (2, 3, 5)"),
    ((2, 3), (4, 3), "3 channels need (m, 3) or (N, 3, H, W), got (2, 3) and 4 rows"),
    ((2, 3), (1, 1, 3), "(n,), or (m, n) for each sample, got (1, 1, 3)")])
def test_factors_that_are_not_those_of_the_channels_are_refused(x, w, words):
    assert words in error_of(channels.scale, tensor(normal(*x)), tensor(normal(*w)))


@pytest.mark.host
def test_functions_of_numpy_do_not_take_tensors():
    """They would return arrays without a gradient. Operators between the two are Tensor's own."""
    x = tensor([1.0, 2.0])
    for f in (np.mean, np.sum, np.stack, lambda x: np.concatenate([x, x]),
              lambda x: np.where(x.data > 1, x, 0)):
        assert "takes arrays, not Tensors" in error_of(f, x)
    for f in (np.exp, lambda x: np.maximum(x, 0), lambda x: operator.iadd(x.data, x)):
        assert "does not support ufuncs" in error_of(f, x)
    assert "gradient would be lost: functions of Tensors are in tinygan.ops" in error_of(
        np.asarray, x)
    assert type(x.data * x) is type(np.float32(2) * x) is Tensor
    assert type(x.data < x) is np.ndarray and (x.data < x * 2.0).all()
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 0)) == ((2,), 1, 2, 2)


def test_a_later_write_to_a_constant_number_does_not_change_a_gradient():
    """A game keeps numbers that change in such arrays."""
    k, x = backend.xp.full((1, 1), 3.0), tensor([[2.0]], "float64")
    results = [x * k, k * x, x / k, x @ k, k @ x, channels.scale(x, k[0]), ops.linear(x, k)]
    k += 1
    for y, right in zip(results, (3, 3, 1 / 3, 3, 3, 3, 3)):
        assert grad(y, [x])[0].item() == right
    several = backend.xp.full((1, 2), 3.0)
    assert as_array(several, "float64") is several


def test_a_rule_of_an_input_that_was_broadcast_is_told_how_to_add_up():
    x, w = tensor([1.0, 2.0]), tensor([[1.0], [2.0]])
    y = op(x.data * w.data, (x, lambda g, y: g * w), (w, lambda g, y: sum_to(g * x, w.shape)))
    assert "sum_to(g, x.shape)" in error_of(grad, y.sum(), [x])
    assert grad(y.sum(), [w])[0].numpy().tolist() == [[3.0], [3.0]]


@pytest.mark.host
def test_an_error_inside_a_property_is_shown():
    class Wide(nn.Module):
        @property
        def width(self):
            return [].shapee
    with pytest.raises(AttributeError, match="'list' object has no attribute 'shapee'"):
        Wide().width


def test_the_gradient_of_a_maximum_is_refused_if_x_was_written_to():
    """Its second derivative would be computed from other numbers than the first."""
    x, w = tensor([[1.0, 2.0, 2.0], [5.0, 3.0, 1.0]]), tensor([2.0, 3.0])
    (g,) = grad((w * x.max(1)).sum(), [x], create_graph=True)
    z = (g * device([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum()
    assert grad(z, [w])[0].numpy().tolist() == [2.5, 4.0]
    x.data = x.data + 1
    assert "written to since" in error_of(grad, z, [w])
    y = x.max(1)
    (g,) = grad((w * y).sum(), [x], create_graph=True)
    y.data = y.data + 1
    assert "written to since" in error_of(grad, g.sum(), [w])


def test_bytes_are_no_images():
    """A layer refuses an array of bytes, which would enter as numbers from 0 to 255."""
    x = backend.xp.zeros((2, 1, 4, 4), "uint8")
    for f in (lambda: ops.linear(x.reshape(2, 16), Tensor(backend.xp.zeros((3, 16), "float32"))),
              lambda: conv2d(x, Tensor(backend.xp.zeros((3, 1, 2, 2), "float32")))):
        with pytest.raises(TypeError, match="as_floats"):
            f()


@pytest.mark.host
def test_op_takes_an_array_and_pairs():
    x, rule = tensor(np.ones((2, 3))), lambda g, y: g
    for parents in ((x, rule), (x,), ((x,),), ((x, 2),), ((x, rule, rule),), ([x, rule],)):
        assert "a pair (input, rule)" in error_of(op, x.data, *parents), parents
    assert "compute it from x.data" in error_of(op, x, (x, rule))


def test_a_rule_returns_the_shape_of_its_input():
    x, a = tensor(np.ones((4, 16))), tensor([1.0])
    for bad in (lambda x: op(x.data.sum(1, keepdims=True), (x, lambda g, y: g)),
                lambda x: op(x.data.sum(1), (x, lambda g, y: g))):
        message = error_of(grad, bad(x + a).sum(), [a])
        assert "of shape (4, 16), got shape (4" in message


def test_first_order_gradients_are_constants():
    x = tensor([2.0])
    (g,) = grad(x * x, [x])
    assert g.parents is None


# Arrays that are written to between the forward pass and grad()

def make_players():
    """Return a weight of G, a weight of D, both in float64, and a function that computes a loss."""
    g, d, z = tensor(normal(2, 3)), tensor(normal(3, 1)), tensor(normal(4, 2))
    return g, d, lambda: ops.softplus(-(ops.tanh(z @ g) @ d)).mean()


WRITES = {
    "step": lambda p: optim.SGD([p], 0.5).step([Tensor(backend.xp.ones(p.shape))]),
    "Adam's step": lambda p: optim.Adam([p], 0.5).step([Tensor(backend.xp.ones(p.shape))]),
    "in place": lambda p: setattr(p, "data", p.data.__isub__(0.5 * backend.xp.ones(p.shape))),
    "assignment": lambda p: setattr(p, "data", p.data - 0.5),
    "touch": lambda p: (p.data.__setitem__(0, 0.5), p.touch()),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_gradient_through_weights_changed_since_the_forward_pass_is_refused(write):
    """Such a gradient would mix the weights before and after the change."""
    g, d, loss = make_players()
    g_loss = loss()
    WRITES[write](d)
    for xs, unused in (([g], "error"), ([d], "error"), ([g, d], "zeros"), ([d], "zeros")):
        message = error_of(grad, g_loss, xs, unused=unused)
        assert "written to since" in message and "(3, 1)" in message
        assert "after the write" in message
    # the gradient of a loss computed after the step is right
    (after,) = grad(loss(), [g])
    fresh_g, fresh_d, fresh = make_players()
    WRITES[write](fresh_d)
    assert (after.numpy() == grad(fresh(), [fresh_g])[0].numpy()).all()


def test_orders_of_losses_and_steps_in_a_hand_written_loop():
    """A loop may compute both gradients before a step, or each loss after the other player's step.

    `p.data -= lr * g.data` counts as a step.
    """
    g, d, loss = make_players()
    d_loss, g_loss = -loss(), loss()
    (d_grad,), (g_grad,) = grad(d_loss, [d]), grad(g_loss, [g])
    d.data -= 0.1 * d_grad.data
    g.data -= 0.1 * g_grad.data
    (d_grad,) = grad(-loss(), [d])
    d.data -= 0.1 * d_grad.data
    grad(loss(), [g])
    d_loss, g_loss = -loss(), loss()
    (d_grad,) = grad(d_loss, [d])
    d.data -= 0.1 * d_grad.data
    assert "written to since" in error_of(grad, g_loss, [g])


def test_a_gradient_that_does_not_need_the_changed_weights_is_computed():
    """No operation on the path depends on the changed weight, or the graph is another one."""
    g, d, loss = make_players()
    other, y = loss(), g.sum()
    unrelated = tensor(normal(2))
    z = (unrelated * 2.0).sum()
    d.data -= 1.0
    assert (grad(y, [g])[0].numpy() == 1).all() and (grad(z, [unrelated])[0].numpy() == 2).all()
    assert not grad(y, [g, d], unused="zeros")[1].numpy().any()
    assert "written to since" in error_of(grad, other + y, [g])


def test_a_write_before_an_x_does_not_matter_to_the_gradient_from_there_on():
    """D's gradient by G's samples is right after a step of G, as in PyTorch."""
    w, x = tensor([2.0]), tensor([3.0])
    fake = w * x
    y = fake * fake
    w.data -= 1.0
    assert grad(y, [fake])[0].item() == 2 * 6.0
    assert "written to since" in error_of(grad, y, [fake, w])
    fake = w * x
    fake.data += 1.0            # before y uses it
    y = fake * fake
    assert grad(y, [fake])[0].item() == 2 * 4.0
    fake.data += 1.0
    assert "written to since" in error_of(grad, y, [fake])


@pytest.mark.numpy_only("a device takes no lists as indices")
@pytest.mark.parametrize("make", [
    lambda: [0, 2], lambda: device([0, 2]), lambda: device([True, False, True]),
    lambda: ([0, 2], slice(None)), lambda: device(0)])
def test_an_index_may_be_changed_after_its_use(make):
    x, index = tensor(normal(3, 2)), make()
    expected = grad((x[make()] ** 2).sum(), [x])[0].numpy()
    y = (x[index] ** 2).sum()
    part = index[0] if isinstance(index, tuple) else index
    if isinstance(part, list):
        part[0] = 1
    else:
        part[...] = ~part if part.dtype == bool else 1 - part // 2
    np.testing.assert_array_equal(grad(y, [x])[0].numpy(), expected)


def test_a_mask_of_one_element_may_be_changed_after_its_use():
    x, mask = tensor([1.0]), device([True])
    y = ops.where(mask, x * 2.0, 0.0)
    mask[0] = False
    assert grad(y, [x])[0].item() == 2.0


def test_a_weight_used_before_and_after_a_change_is_refused():
    w = tensor([2.0])
    before = w * w
    w.data -= 1.0
    y = before * w
    assert "written to since" in error_of(grad, y, [w])


def test_an_overwritten_output_is_refused():
    """The rule of exp uses the output of exp."""
    x = tensor([1.0])
    y = ops.exp(x)
    z = y * 1.0
    y.data *= 0.0
    assert "written to since" in error_of(grad, z, [x])


def test_a_second_order_gradient_through_changed_weights_is_refused():
    w, x = tensor(normal(3, 1)), tensor(normal(4, 3))
    (slope,) = grad(ops.tanh(x @ w).sum(), [x], create_graph=True)
    penalty = (slope * slope).sum()
    w.data -= 1.0
    assert "written to since" in error_of(grad, penalty, [w])


@pytest.mark.parametrize("write", [
    lambda net: net.load_state_dict(net.state_dict()), lambda net: net.touch(),
    lambda net: optim.RMSProp(net.parameters()).step(net.parameters())])
def test_a_gradient_through_replaced_weights_of_a_module_is_refused(write):
    net, x = Dense(3, 2), tensor(normal(4, 3), "float32")
    y = net(x).sum()
    write(net)
    assert "written to since" in error_of(grad, y, [x])


def test_a_later_forward_pass_does_not_change_an_earlier_gradient():
    """The later pass changes running means, u and v; sigma is set to another value."""
    for layer, shape in ((BatchNorm(3), (6, 3)), (spectral_norm(Dense(3, 2)), (6, 3)),
                         (spectral_norm(Conv2d(2, 3, 3)), (2, 2, 5, 5)),
                         (GaussianNoise(0.5), (2, 3))):
        for mode in (True, False):
            layer.train(mode)
            x = tensor(normal(*shape), "float32")
            y = ops.tanh(layer(x)).sum()
            wanted = [x, *layer.parameters()]
            expected = [g.numpy() for g in grad(y, wanted)]
            layer.train()
            for _ in range(3):
                layer(tensor(5 * normal(*shape, seed=1), "float32"))
            if isinstance(layer, GaussianNoise):
                layer.sigma[...] = 7.0
            assert all((g.numpy() == e).all() for g, e in zip(grad(y, wanted), expected))


def test_only_an_array_can_be_assigned_to_data():
    """`p.data = p.data - lr * g` would assign a Tensor, because g is a Tensor."""
    p = tensor([1.0])
    for value in (p * 2.0, 1.0, [1.0], None):
        assert "p.data -= lr * g.data" in error_of(setattr, p, "data", value)
    assert p.numpy().tolist() == [1.0]


def test_a_rule_that_returns_no_tensor_is_refused():
    x = tensor([1.0, 2.0])
    for result in (lambda g: g.data * 2.0, lambda g: None, lambda g: 2.0):
        y = op(x.data * 2.0, (x, lambda g, y: result(g))).sum()
        message = error_of(grad, y, [x])
        assert "a rule returns a Tensor, got " + type(result(x)).__name__ in message


# Truth values, comparison, iteration, conversion

def test_the_truth_value_of_a_tensor_is_that_of_its_one_number():
    assert not Tensor(0.0) and Tensor(2.0) and not tensor([[0.0]]) and not (Tensor(1.0) - 1.0)
    for several in (tensor([0.0, 0.0]), tensor(np.zeros((0, 2)))):
        assert str(several.shape) in error_of(bool, several)
        assert "not one number" in error_of(lambda: several or 1)


def test_comparisons_return_arrays_of_booleans():
    x = tensor([1.0, 2.0, 3.0])
    for mask, expected in ((x > 2, [0, 0, 1]), (x >= 2.0, [0, 1, 1]), (x < x * x, [0, 1, 1]),
                           (2 >= x, [1, 1, 0]), (x.data <= x, [1, 1, 1]),
                           (x < [3, 2, 1], [1, 0, 0])):
        assert type(mask) is backend.xp.ndarray and mask.dtype == bool
        assert to_numpy(mask).tolist() == expected
    assert x[x > 1].numpy().tolist() == [2, 3]
    assert ops.where(x > 1, x, 0.0).numpy().tolist() == [0, 2, 3]
    assert "(3,) and (2,)" in error_of(lambda: x > tensor([1.0, 2.0]))
    assert "NoneType" in error_of(lambda: x > None)


def test_equality_is_refused_because_it_has_two_meanings():
    x, y = tensor([1.0]), tensor([1.0])
    for question in (lambda: x == y, lambda: x == 0, lambda: x != y, lambda: 1.0 == x,
                     lambda: x in [y], lambda: [y].index(x), lambda: x.data == x,
                     lambda: x == None):
        message = error_of(question)
        assert "x.data == y" in message and "x is y" in message
    assert x in {x, y} and x in [x] and {x: 1}[x] == 1 and y not in {x}     # compared by identity


def test_where_refuses_a_mask_that_is_no_array_of_booleans():
    x = tensor([1.0, -1.0])
    for mask in (x, tensor([0.0, 0.0]), [True, False], x.data, 1.0, None, "yes"):
        message = error_of(ops.where, mask, x, 0.0)
        assert "x.data > 0" in message and type(mask).__name__ in message


def test_a_tensor_has_a_length_and_can_be_iterated_over():
    x = tensor(normal(3, 2))
    assert len(x) == 3 and len(tensor(np.zeros((0, 2)))) == 0
    assert [row.numpy().tolist() for row in x] == x.numpy().tolist()
    first, *_ = x
    (g,) = grad(first.sum(), [x])
    assert g.numpy().tolist() == [[1, 1], [0, 0], [0, 0]]
    for use in (len, list, iter, tuple, lambda x: [*x]):
        assert "x.item()" in error_of(use, Tensor(3.0))


def test_a_tensor_of_one_number_converts_to_a_number():
    loss = tensor([[1.5]])
    assert float(loss) == loss.item() == 1.5 and f"{loss:.3f}" == "1.500" and f"{loss:8.1e}"
    assert f"{loss}" == repr(loss) == "Tensor([[1.5]])"
    assert float(Tensor(2)) == 2 and round(float(loss)) == 2 and max(tensor([1.0]), loss) is loss
    several = tensor([1.0, 2.0])
    for use in (float, lambda x: f"{x:.2f}", lambda x: x.item(), lambda x: format(x, "d")):
        assert "(2,)" in error_of(use, several)


@pytest.mark.numpy_only("another backend's arrays refuse Tensors by themselves")
def test_numpy_does_not_convert_a_tensor_to_an_array():
    """The conversion would lose the graph without an error."""
    x = Tensor(1.0)
    for use in (np.asarray, lambda x: np.array([x, x]), lambda x: Tensor([x, x]),
                lambda x: tensor([1.0, 2.0]) * [x, x],
                lambda x: np.ones(3)[x]):
        assert "x.numpy()" in error_of(use, x)


# Invalid arguments

def test_error_messages_for_invalid_arguments():
    x, images = tensor(normal(2, 3)), tensor(normal(1, 2, 4, 4))
    cases = {
        "(5, 2)": [lambda: x.reshape(5, 2), lambda: x.reshape((5, 2))],
        "(2, 3) with 6 numbers": [lambda: x.reshape(2.0, 3), lambda: x.reshape("a"),
                                  lambda: x.reshape(-1, -1), lambda: x.reshape(None)],
        "each of its 2 axes once": [lambda: x.transpose(0), lambda: x.transpose(0, 0),
                                    lambda: x.transpose(0, 2), lambda: x.transpose((0, 1, 2)),
                                    lambda: x.transpose(1.0, 0.0)],
        "two whole numbers, (before, after)": [
            lambda: ops.pad(x, 1), lambda: ops.pad(x, [(1, 1)]), lambda: ops.pad(x, [1, 1]),
            lambda: ops.pad(x, [(1, -1), (0, 0)]), lambda: ops.pad(x, [(1, 0.5), (0, 0)])],
        "differ at most in the axis": [
            lambda: ops.concat([x, images]), lambda: ops.concat([x], 2),
            lambda: ops.concat([x, x.T]), lambda: ops.concat([x, x[:, :2]])],
        "at least one Tensor, got none": [lambda: ops.concat([]), lambda: ops.concat(iter([]))],
        "takes a list of Tensors": [lambda: ops.concat(x, 1)],
        "low <= high": [lambda: ops.clip(x, 1, 0), lambda: ops.clip(x, 0, float("nan"))],
        "a bound of clip is a number": [lambda: ops.clip(x, None, 0), lambda: ops.clip(x, "a", 0),
                                        lambda: ops.clip(x, Tensor(0.0), 1)],
        "the slope of leaky_relu is a number": [lambda: ops.leaky_relu(x, Tensor(0.2))],
        "avg_pool": [lambda: resampling.avg_pool(images, 2.0),
                     lambda: resampling.avg_pool(images, (2, 2)),
                     lambda: resampling.avg_pool(x, 2), lambda: resampling.avg_pool(images, 5)],
        "upsample": [lambda: resampling.upsample(images, 1.5),
                     lambda: resampling.upsample(images, "2")],
        "a stride is at least 1": [
            lambda: Conv2d(1, 1, 3, stride=0), lambda: ConvTranspose2d(1, 1, 3, stride=(1, -1)),
            lambda: conv2d(images, tensor(normal(1, 2, 3, 3)), None, 0)],
        "a padding is at least 0": [lambda: Conv2d(1, 1, 3, padding=-1),
                                    lambda: ConvTranspose2d(1, 1, 3, output_padding=-1)],
        "whole numbers above 0": [lambda: Reshape(0, 3), lambda: Reshape((2, 3)),
                                  lambda: Reshape(2.0), lambda: Reshape(-1)],
        "samples of 4 numbers": [lambda: Reshape(2, 2)(x), lambda: Reshape(4)(images)],
        "grad(y, [x])": [lambda: grad(x.sum(), x), lambda: grad(x.sum(), Dense(3, 2)),
                         lambda: grad(x.sum(), None)],
        "grad's xs are Tensors": [lambda: grad(x.sum(), [x.data]),
                                           lambda: grad(x.sum(), [x, "x"])],
        "grad differentiates a Tensor y": [lambda: grad(x.data, [x]), lambda: grad(1.0, [x])],
        "a Module or a function": [lambda: Sequential(Dense(3, 2), 3), lambda: Sequential(Dense),
                                   lambda: Sequential([Dense(3, 2)])],
    }
    for words, calls in cases.items():
        for call in calls:
            assert words in error_of(call)


def test_the_second_derivative_of_a_maximum_that_three_numbers_share():
    """The gradient of y^2, y = max x, is 2 y s, where s has 1/3 at each maximum.

    Two or three roundings leave an error below 1e-15.
    """
    x, c = tensor([2.0, 2.0, 0.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])
    s = np.array([1, 1, 0, 1]) / 3
    (g,) = grad(x.max() ** 2, [x], create_graph=True)
    (h,) = grad((g * tensor(c)).sum(), [x])
    np.testing.assert_allclose(g.numpy(), 4 * s, rtol=1e-15)
    np.testing.assert_allclose(h.numpy(), 2 * (c @ s) * s, rtol=1e-15)


def test_copies_share_arrays_as_the_originals_do():
    """Such as weights that two layers share."""
    a = tensor(normal(2, 3))
    b, c, plain = copy.deepcopy([a, Tensor(a.data), a.data])
    assert b.data is c.data and b.data is not a.data
    plain[:] = 5.0
    assert backend.xp is not np or (b.numpy() == 5).all()      # an array is copied by its library


def test_a_copy_keeps_the_memory_order():
    """A product with another order may have other rounding."""
    for x in (Tensor(backend.to_kernel_first(tensor(normal(2, 3, 4, 5)).data)),
              tensor(normal(3, 4)).T * 2.0):
        assert copy.deepcopy(x).data.strides == x.data.strides and x.data.strides[-1] != 8


@pytest.mark.parametrize("axis", [0, -1, None, ()])
def test_a_0d_tensor_may_be_reduced_over_axis_0(axis):
    for f in (lambda x: x.sum(axis), lambda x: x.mean(axis), lambda x: x.max(axis),
              lambda x: ops.norm(x, axis), lambda x: x.sum(axis, keepdims=True)):
        (g,) = grad(f(Tensor(3.0)) * 2.0, [x := Tensor(3.0)], unused="zeros")
        y = f(x)
        assert y.shape == () and y.item() == 3 and grad(y * 2.0, [x])[0].item() == 2


def test_recording_is_on_again_after_an_exception_in_no_grad():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (tensor([1.0]) * 2.0).parents


def test_error_messages_of_grad():
    x, other = tensor(normal(2, 3)), tensor(normal(4))
    assert "(2, 3)" in error_of(grad, x * x, [x])
    message = error_of(grad, x * x, [x], grad_y=tensor(normal(3)))
    assert "(3,)" in message and "(2, 3)" in message
    assert "grad(y, [x])" in error_of(grad, x.sum(), x)
    assert "'zero'" in error_of(grad, x.sum(), [x], unused="zero")
    message = error_of(grad, x.sum(), [x, other])
    assert "xs[1]" in message and "(4,)" in message
    zeros = grad(x.sum(), [x, other], unused="zeros")[1]
    assert zeros.shape == (4,) and not zeros.numpy().any()


def test_leaky_relu_is_relu_at_the_slope_0_and_the_identity_at_1():
    a = tensor(normal(2, 3))
    assert (ops.leaky_relu(a, 0).numpy() == ops.relu(a).numpy()).all()
    assert (ops.leaky_relu(a, 1).numpy() == a.numpy()).all()


def test_error_messages_of_operations():
    a, b = tensor(normal(2, 3)), tensor(normal(4))
    for message in (error_of(lambda: a + b), error_of(lambda: a * b), error_of(lambda: a @ b),
                    error_of(lambda: a @ a), error_of(lambda: ops.linear(a, tensor(normal(5, 4))))):
        assert "(2, 3)" in message, message
    assert "float32 and float64" in error_of(
        lambda: tensor([1.0], "float32") * tensor([1.0], "float64"))
    assert "exp(n * log(x))" in error_of(lambda: a ** a)
    assert "slope" in error_of(ops.leaky_relu, a, 1.5)
    assert "slope" in error_of(nn.LeakyReLU, -0.2)
    assert "labels" in error_of(ops.cross_entropy, a, backend.xp.zeros(3, "int64"))
    assert "list" in error_of(ops.cross_entropy, a, [0, 1])
    assert "Tensor" in error_of(ops.cross_entropy, a, tensor([0.0, 1.0]))
    if backend.xp is np:
        assert "0 to 2, got -1 to 3" in error_of(ops.cross_entropy, a, np.array([-1, 3]))
    assert "each axis" in error_of(ops.pad, a, [(1, 1)])
    assert "(3, 0)" in error_of(tensor(np.zeros((3, 0))).mean, 1)
    assert "wrap an array" in error_of(ops.maximum, a.data, 2.0)


def test_mixed_dtypes_are_refused():
    a, half = tensor(normal(2, 3)), tensor(normal(2, 3), "float32")
    images, kernel = tensor(normal(1, 2, 4, 4), "float32"), tensor(normal(5, 2, 3, 3))
    for call in (lambda: ops.linear(half, tensor(normal(4, 3))), lambda: conv2d(images, kernel),
                 lambda: ops.where(half.data > 0, half, a), lambda: ops.concat([half, a]),
                 lambda: ops.maximum(half, a), lambda: channels.scale(half, tensor(normal(3)))):
        assert "float32 and float64" in error_of(call)


def test_impossible_sizes_are_refused():
    a, one = tensor(normal(2, 3)), tensor([1.0])
    images, kernel = tensor(normal(1, 2, 4, 4)), tensor(normal(5, 2, 3, 3))
    for call in (lambda: ops.linear(a, tensor(normal(4, 3)), one),
                 lambda: conv2d(images, kernel, one),
                 lambda: channels.scale(a, tensor(normal(3)), one)):
        assert "bias" in error_of(call) and "(1,)" in error_of(call)
    for call in (lambda: Conv2d(1, 1, 0), lambda: Conv2d(1, 1, (3, -1))):
        assert "at least 1x1" in error_of(call)
    for call in (lambda: Conv2d(1, 1, 2.5), lambda: conv2d(images, kernel, None, (1, 1, 1))):
        assert "vertical" in error_of(call)
    for call in (lambda: resampling.avg_pool(images, 0), lambda: resampling.upsample(images, 0),
                 lambda: Maxout(3, 2, 0)):
        assert "0" in error_of(call)
    assert "2x2" in error_of(resampling.avg_pool, tensor(normal(1, 1, 2, 2)), 3)


def test_a_tensor_refuses_other_dtypes_and_arrays_of_other_backends():
    """The messages name the dtype, or tell how to copy the array to the backend."""
    assert "uint8" in error_of(Tensor, backend.xp.zeros(3, "uint8"))
    assert "int64" in error_of(Tensor, backend.xp.zeros(3, "int64"))
    assert "str" in error_of(Tensor, "1.0")
    foreign = standin.asarray([1.0]) if backend.xp is np else np.ones(1)
    assert "backend.xp.asarray" in error_of(Tensor, foreign)
    assert "backend.xp.asarray" in error_of(lambda: tensor([1.0]) + foreign)


def test_a_number_may_stand_on_the_left():
    x = tensor([1.0, 2.0, 4.0])
    for y, expected in ((8 - x, [7, 6, 4]), (8 / x, [8, 4, 2]), (8 + x, [9, 10, 12]),
                        (8 * x, [8, 16, 32])):
        assert y.numpy().tolist() == expected


def test_numbers_and_constants_are_converted_to_the_tensors_dtype():
    """In numpy 2, numpy's scalars and arrays of other dtypes would promote float32 to float64."""
    x = tensor(positive(2, 3), "float32")
    xp = backend.xp
    for constant in (2, 2.0, np.float64(2), np.sqrt(2), xp.full(3, 2.0, "float64"),
                     xp.arange(3), xp.ones(3, "bool"), [1, 2, 3]):
        for y in (x + constant, constant - x, x * constant, constant / x):
            assert y.dtype == np.float32
    assert (x ** 2).dtype == (x ** np.float64(0.5)).dtype == np.float32
    for n in (np.int64(3), np.float32(3)):
        assert (x ** n).dtype == np.float32 and ((x ** n).numpy() == (x ** 3).numpy()).all()
    assert Tensor([1, 2]).dtype == Tensor(3.0).dtype == np.float32
    assert Tensor(np.float64(3)).dtype == np.float64


@pytest.mark.parametrize("f", [
    lambda x: x.sum(), lambda x: x.mean((0, 1)), lambda x: x.max(1), lambda x: ops.norm(x),
    lambda x: ops.sigmoid(x), lambda x: ops.log_softmax(x), lambda x: ops.logsumexp(x),
    lambda x: ops.leaky_relu(x),
    lambda x: ops.clip(x, -1, 1), lambda x: ops.maximum(x, 0.5),
    lambda x: ops.where(x.data > 0, x, 1), lambda x: ops.softplus(x.sum() * 0.1),
    lambda x: ops.cross_entropy(x, backend.xp.arange(3))])
def test_float32_in_float32_out_at_both_orders(f):
    x = tensor(positive(3, 4), "float32")
    y = f(x)
    (g,) = grad((y * y).sum(), [x], create_graph=True)
    (h,) = grad((g * g).sum(), [x])
    assert y.dtype == g.dtype == h.dtype == np.float32
    assert all(type(t.data) is backend.xp.ndarray for t in (y, g, h))


def test_derivatives_at_kinks():
    """Each rule has a fixed value where the derivative does not exist."""
    zero, two = tensor([0.0]), tensor([2.0])

    def slope(f, *xs):
        return [g.item() for g in grad(f(*xs), xs)]
    assert slope(ops.relu, zero) == [0.0]
    assert slope(lambda x: ops.leaky_relu(x, 0.3), zero) == [0.3]
    assert slope(abs, zero) == [0.0]
    assert (slope(lambda x: ops.clip(x, 0, 2), zero) == slope(lambda x: ops.clip(x, 0, 2), two)
            == [1.0])
    assert (slope(ops.maximum, zero, tensor([0.0])) == slope(ops.minimum, zero, tensor([0.0]))
            == [0.5, 0.5])
    x = tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    shares = grad(x.max(1).sum(), [x])[0].numpy()
    np.testing.assert_allclose(shares, [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-15)


@pytest.mark.parametrize("size", [1e-40, 1e-30, 5e-20, 1e-10, 1.0, 1e10, 1e19, 1e38])
def test_norm_of_very_small_and_very_large_numbers(size):
    """|x| and its gradient are right where |x|^2 overflows or underflows in float32.

    The same holds where the derivative of x / |x| does. The tolerance 1e-4 is due to numbers near
    1e-40, which have five digits in float32; cupy's kernels take them for 0.
    """
    if backend.get_name().startswith("cupy"):
        size = max(size, 1e-37)
    x = tensor([[0.6 * size, -0.8 * size], [0.0, 0.0]], "float32")
    y = ops.norm(x, 1)
    np.testing.assert_allclose(y.numpy(), np.float32([size, 0]), rtol=1e-4)
    (g,) = grad(y.sum(), [x], create_graph=True)
    np.testing.assert_allclose(g.numpy(), [[0.6, -0.8], [0, 0]], rtol=1e-4)
    if 1e-30 <= size <= 1e30:           # the second derivative fits into float32
        (h,) = grad((g * tensor([[1.0, 0.0], [1.0, 1.0]], "float32")).sum(), [x])
        expected = np.array([[0.64, 0.48], [0, 0]]) / size
        np.testing.assert_allclose(h.numpy(), expected, rtol=1e-5, atol=1e-6 / size)


def test_norm_is_finite_at_zero_to_third_order():
    """A row of zeros does not turn the gradients of the other rows into NaN."""
    x = tensor([[0.0, 0.0], [3.0, 4.0]])
    y = ((ops.norm(x, 1) - 1.0) ** 2).sum()
    for expected in ([0, 0, 4.8, 6.4], None, None):
        (g,) = grad(y, [x], create_graph=True)
        assert np.isfinite(g.numpy()).all() and not g.numpy()[0].any()
        if expected:
            np.testing.assert_allclose(g.numpy().ravel(), expected, rtol=1e-15)
        y = (g * g).sum()


@pytest.mark.parametrize("f, low, high", [(ops.sigmoid, 0, 1), (ops.softplus, 0, 1e4),
                                          (ops.log_sigmoid, -1e4, 0)])
def test_logistic_functions_of_very_large_numbers(f, low, high):
    x = tensor([-1e4, -90.0, 90.0, 1e4], "float32")
    y = f(x)
    (g,) = grad(y.sum(), [x])
    assert np.isfinite(y.numpy()).all() and np.isfinite(g.numpy()).all()
    assert y.numpy().min() >= low and y.numpy().max() <= high
    # 1 - sigmoid(80) would be 0
    assert ops.sigmoid(tensor([-80.0])).item() == pytest.approx(np.exp(-80.0), rel=1e-12)


def test_softmax_is_over_the_last_axis_unless_another_is_given():
    x = tensor(normal(2, 3, 4))
    for y, axis in ((ops.softmax(x), 2), (ops.softmax(x, np.int64(1)), 1),
                    (ops.exp(ops.log_softmax(x)), 2), (ops.softmax(tensor(1.0)), None)):
        np.testing.assert_allclose(y.numpy().sum(axis), 1.0, rtol=1e-12)


def test_t_needs_two_axes():
    for shape in (), (3,):
        assert f"the shape {shape}" in error_of(lambda: tensor(np.ones(shape)).T)


def test_softmax_of_large_numbers_does_not_overflow():
    x = tensor([[1e4, 1e4, -1e4], [1e4, 0.0, np.log(0.5)]], "float32")
    np.testing.assert_allclose(ops.softmax(x).numpy(), [[0.5, 0.5, 0], [1, 0, 0]], rtol=1e-6)
    x = tensor([[0.0, np.log(3.0)]])
    np.testing.assert_allclose(ops.softmax(x + 1e6).numpy(), [[0.25, 0.75]], rtol=1e-9)


def test_the_gradient_of_logsumexp_is_exact_for_large_numbers():
    """The result, which is rounded to a multiple of 1 here, is not used for it."""
    for scale in 1e3, 1e7:
        x = tensor([[scale, scale], [scale, -scale]], "float32")
        (g,) = grad(ops.logsumexp(x).sum(), [x])
        np.testing.assert_allclose(g.numpy(), [[0.5, 0.5], [1, 0]], rtol=1e-6)


@pytest.mark.numpy_only("a device takes no lists as indices")
def test_a_list_in_an_index_is_copied_whole():
    x, index = tensor(np.arange(5.0)), [[0, 1]]
    y = x[index].sum()
    index[0][0] = 4
    (g,) = grad(y, [x])
    assert g.numpy().tolist() == [1, 1, 0, 0, 0]


@pytest.mark.numpy_only("a device takes no lists as indices")
@pytest.mark.parametrize("index", [[0, 3], True, np.True_, (0, [1, 2])])
def test_what_lists_and_truth_values_choose_is_a_copy(index):
    x, w = tensor(normal(4, 4)), tensor(2.0)
    y = (x[index] * w).sum()
    x.data[...] = 0
    x.touch()
    assert grad(y, [w])[0].item() != 0


@pytest.mark.parametrize("index", [np.array([0, 3]), (slice(None), np.array([0, 1])),
                                   np.arange(4) % 2 == 0])
def test_what_an_index_array_chooses_is_a_copy(index):
    """A later write to x does not concern it, and x is freed before it."""
    index = map_nested(lambda i: device(i) if isinstance(i, np.ndarray) else i, index)
    x, w = tensor(normal(4, 4)), tensor(2.0)
    part = x[index]
    y, kept = (part * w).sum(), weakref.ref(x.data)
    x.data[...] = 0
    x.touch()
    (g,) = grad(y, [w])
    assert g.item() == pytest.approx(part.data.sum().item())
    with no_grad():
        part = x[index]
    del x, y
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("view", [
    *(lambda x, i=i: x[i] for i in (1, np.int64(1), slice(2), (Ellipsis, 0), (None, 1))),
    lambda x: x.T, lambda x: x.reshape(2, 2, 4).T, lambda x: x.transpose(1, 0),
    lambda x: x.reshape(2, 8), lambda x: broadcast_to(x, (3, 4, 4))])
def test_a_write_to_what_a_view_shows_is_refused(view):
    x, w = tensor(normal(4, 4)), tensor(2.0)
    y = (view(x) * w).sum()
    x.data[...] = 0
    x.touch()
    assert "has been written to since" in error_of(grad, y, [w])


def test_none_in_place_of_a_tensor_is_refused():
    x = tensor(normal(2, 2))
    for call in (lambda: ops.maximum(x, None), lambda: ops.where(x.data > 0, x, None),
                 lambda: ops.concat([x, None]), lambda: ops.linear(x, None),
                 lambda: ops.linear(None, x), lambda: channels.scale(x, None)):
        assert "got None in place of a Tensor" in error_of(call)
    for wrong in (None, 1j, "2"):
        assert "neither a Tensor, an array nor a real number" in error_of(lambda: x * wrong)


def test_attributes_of_pytorch_cannot_be_set():
    with pytest.raises(AttributeError, match="no requires_grad: .* names the Tensors"):
        tensor([1.0]).requires_grad = False


def test_an_operation_without_inputs_returns_floats():
    assert "float32 or float64, got int" in error_of(op, device(np.arange(3)))


def test_an_entry_that_is_indexed_twice_gets_the_sum_of_its_gradients():
    x = tensor([1.0, 2.0, 3.0])
    index = backend.xp.asarray(np.array([0, 2, 2]))
    (g,) = grad((x[index] * tensor([1.0, 10.0, 100.0])).sum(), [x])
    assert g.numpy().tolist() == [1, 0, 110]
    (g,) = grad((x[x.data > 1.5] ** 2).sum(), [x])
    np.testing.assert_allclose(g.numpy(), [0, 4, 6], rtol=1e-15)    # a GPU rounds powers


@pytest.mark.numpy_only("cupy takes neither tuples nor ranges inside an index")
@pytest.mark.parametrize("index", [
    ((0, 0), (1, 1)), (slice(None), (0, 0, 2)), ((0, 1, 0),), range(1), (0, range(3)),
    (slice(None), array.array("l", [1, 1])), ([0, 0], slice(None)), np.array([1, 1]),
    (None, [0, 0])])
def test_an_index_of_any_kind_of_sequence_adds_up_its_gradients(index):
    """The gradient counts how often the index chooses each entry."""
    x, count = tensor(normal(2, 3)), np.zeros((2, 3))
    (g,) = grad(x[index].sum(), [x])
    np.add.at(count, index, 1.0)
    np.testing.assert_array_equal(g.numpy(), count)


def test_a_copy_is_a_leaf_and_can_be_differentiated():
    """The same holds for a Tensor from a process that had made more Tensors."""
    w = tensor([2.0])
    w.age = 10 ** 9
    for copied in (copy.deepcopy(w), pickle.loads(pickle.dumps(w)) if backend.xp is np else w):
        if copied is not w:
            assert grad(copied * copied, [copied])[0].item() == 4.0


@pytest.mark.host
def test_a_copy_of_a_result_is_a_constant():
    """It has no gradient, as a result of no_grad() has none, and a copy of a leaf is a leaf."""
    w = tensor([2.0])
    for make_copy in (copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))):
        assert (make_copy(w).parents, make_copy(w * w).parents) == ((), None)
        with pytest.raises(ValueError, match="does not depend|not recorded"):
            grad(make_copy(w * w).sum(), [w])


@pytest.mark.host
def test_no_grad_belongs_to_one_thread():
    """Gradients are recorded after one thread leaves no_grad while another is still in it."""
    x, entered, left = tensor([2.0]), threading.Event(), threading.Event()

    def other():
        with no_grad():
            entered.set()
            left.wait(10)
    thread = threading.Thread(target=other)
    with no_grad():
        thread.start()
        entered.wait(10)
    left.set()
    thread.join()
    assert grad(x * x, [x])[0].item() == 4.0


def test_long_graphs_do_not_reach_the_recursion_limit():
    x = tensor([1.0])
    y = x
    for _ in range(10_000):
        y = y * 1.0
    assert grad(y, [x])[0].item() == 1.0
    del y                   # freeing the chain must not recurse either


def critic():
    return Sequential(Conv2d(1, 2, 4, 2, 1), BatchNorm(2), LeakyReLU(), Flatten(), Maxout(32, 4, 2),
                      Dense(4, 1))


def test_graphs_have_no_reference_cycles_and_do_not_accumulate():
    """First- and second-order passes leave no new objects while the garbage collector is off."""
    D, x = critic(), tensor(normal(3, 1, 8, 8), "float32")
    parameters = D.parameters()

    def passes():
        grad(ops.softplus(D(x)).mean(), parameters)
        (slope,) = grad(D(x).sum(), [x], create_graph=True)
        penalty = ((ops.norm(slope, (1, 2, 3)) - 1.0) ** 2).mean()
        grad(penalty, parameters, unused="zeros")

    passes()                # fills all caches
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(10):
            passes()
        after = len(gc.get_objects())
        garbage = gc.collect()
    finally:
        gc.enable()
    assert after - before <= 2 and garbage == 0      # the test itself may hold a frame or a list


@pytest.mark.numpy_only("measures CPU time")
def test_small_operations_have_little_overhead():
    """Forward and backward take at most 35 times as long as numpy's own operations on 8x8 arrays.

    They took 15 to 24 times as long (an AMD EPYC, 2026-11-28). Both are measured in turn, so that
    other work on the machine slows both down.
    """
    a, b = tensor(normal(8, 8), "float32"), tensor(normal(8, 8, seed=1), "float32")

    def differentiate():
        y = a
        for _ in range(20):
            y = ops.tanh(y * b + a)
        grad(y.sum(), [a, b])

    def compute():
        y = a.data
        for _ in range(20):
            y = np.tanh(y * b.data + a.data)
    times = {differentiate: [], compute: []}
    for _ in range(100):
        for f, measured in times.items():
            start = time.process_time()
            f()
            measured.append(time.process_time() - start)
    ours, numpys = map(statistics.median, times.values())
    assert ours < 35 * numpys


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (16, 2, 256, 256)])
def test_sums_over_channels_are_accurate(shape):
    """The sum of equal float32 numbers has a relative error of at most 2e-5.

    Adding them one after the other has 3.5e-5 for 2^13 numbers, and 2e-3 for 2^20. Pieces of 2^10
    have 1e-5. The mean of a constant channel is then so near to it that what batch normalisation
    makes of the channel is near 0; the factor is 1 / sqrt(eps) = 316.
    """
    x = tensor(np.full(shape, 1.7), "float32")
    exact = shape[0] * shape[2] * shape[3] * float(np.float32(1.7))
    np.testing.assert_allclose(channels.channel_sum(x).numpy(), exact, rtol=2e-5)
    squares = channels.channel_sum(x, x).numpy()
    np.testing.assert_allclose(squares, exact * np.float32(1.7), rtol=2e-5)
    for norm in (nn.BatchNorm(shape[1]), nn.InstanceNorm2d(shape[1])):
        assert abs(to_numpy(norm(x).data)).max() < 2e-5 * 1.7 * 316


def test_the_channel_sums_of_no_images_are_0():
    none = channels.channel_sum(tensor(np.zeros((0, 2, 3, 3)))).numpy()
    assert none.shape == (2,) and not none.any()


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("shape", [(32, 3, 28, 28), (14, 5, 31, 23), (128, 1, 17, 19),
                                   (1, 600, 8, 8)])
def test_operations_on_channels_of_large_images(shape, each):
    """Rows are put side by side there, see backend.widen; the results are those of numpy's sums.

    The tolerances are those of float32 numbers of size 1, and of sums of up to 2^16 of them.
    """
    x, y = normal(*shape) + 1, normal(*shape, seed=1)
    w, b = (normal(*(shape[:2] if each else shape[1:2]), seed=seed) for seed in (2, 3))
    axes, beside = ((2, 3), np.s_[..., None, None]) if each else ((0, 2, 3), np.s_[:, None, None])
    tx, ty = (tensor(a, "float32") for a in (x, y))
    columns = [Tensor(backend.to_channels_last(t.data)) for t in (tx, ty)]
    for a, c in ((tx, ty), columns):
        found = [channels.scale(a, tensor(w, "float32")),
                 channels.scale(a, tensor(w, "float32"), tensor(b, "float32")),
                 channels.channel_sum(a, each=each), channels.channel_sum(a, c, each=each),
                 channels.centre(a, each)[0]]
        expected = [x * w[beside], x * w[beside] + b[beside], x.sum(axes), (x * y).sum(axes),
                    x - x.mean(axes, keepdims=True)]
        for one, other in zip(found, expected):
            assert one.shape == other.shape
            error = 1e-5 if other.shape == shape else 2e-3
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-5, atol=error)


@pytest.mark.host
def test_rows_side_by_side():
    a, row = np.arange(60_000.0).reshape(20_000, 3), np.arange(3.0)
    wide, rows, none = backend.widen(a, row, None)
    assert none is None and wide.shape == (125, 480) and np.shares_memory(wide, a)
    assert (rows == np.resize(row, 480)).all() and ((wide + rows).reshape(a.shape) == a + row).all()
    small = np.zeros((100, 3))
    assert [id(a) for a in backend.widen(small, row)] == [id(small), id(row)]


# Operands that numpy would combine in another way than is meant

@pytest.mark.parametrize("left, right", [((4, 1), (4, 1)), ((4, 1), (4, 5)), ((1, 1), (4, 5)),
                                         ((2, 3), (2, 3)), ((5, 4, 1), (4, 1)), ((3,), (3, 2))])
def test_a_product_of_matrices_that_do_not_fit_is_refused(left, right):
    """A matrix with one column must not be multiplied number by number instead."""
    a, b = tensor(normal(*left)), tensor(normal(*right))
    message = error_of(lambda: a @ b)
    assert f"{left} and {right}" in message and "(..., n, k) @ (..., k, m)" in message


def test_axes_are_one_argument():
    """In x.mean(2, 3), the 3 must not be taken for keepdims."""
    x = tensor(normal(2, 3, 4, 5))
    for reduce in x.sum, x.mean, x.max, lambda *axes: ops.norm(x, *axes):
        assert "several axes as a tuple, such as (2, 3)" in error_of(reduce, 2, 3)
        assert reduce(1, True).shape == (2, 1, 4, 5)


def test_grad_y_has_the_dtype_of_y():
    x = tensor([1.0, 2.0], "float32")
    assert "do not mix" in error_of(grad, x * 2.0, [x], grad_y=tensor([1.0, 1.0], "float64"))


@pytest.mark.numpy_only("subclasses of numpy's arrays")
def test_a_subclass_of_array_has_the_operations_of_an_array():
    """The * of np.matrix is another product, and a mask would be ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix([[1, 2], [3, 4]], np.float32)
    x = Tensor(matrix)
    np.testing.assert_array_equal((x * x).numpy(), [[1, 4], [9, 16]])
    x.data = matrix
    np.testing.assert_array_equal((x * x).numpy(), [[1, 4], [9, 16]])
    masked = np.ma.masked_array(np.float32([1, 2]), [0, 1])
    assert "mask would be ignored" in error_of(Tensor, masked)
    assert "mask would be ignored" in error_of(op, masked, (x, lambda g, y: g))


def test_lists_that_are_no_arrays_of_numbers_are_refused():
    for wrong in ([[1.0, 2.0], [3.0]], ["a"], [None], [1j], [2 ** 70]):
        with pytest.raises(TypeError, match="must hold numbers .*, in rows of equal length"):
            Tensor(wrong)
    x = tensor([1.0, 2.0], "float64")
    assert (x * [0.1, 0.2]).numpy().tolist() == [0.1, 0.4]          # and not in float32


def test_an_assignment_of_a_tensor_or_a_scalar_names_its_type():
    p = tensor([1.0])
    for wrong, name in (p - 1.0, "got Tensor"), (np.float32(1), "got float32"):
        with pytest.raises(TypeError, match=name):
            p.data = wrong


# Numbers that are not finite

def test_an_infinite_logit_of_another_class_has_no_part_in_the_cross_entropy():
    logits = tensor([[1.0, -math.inf, 0.0], [3e38, -3e38, 0.0]], "float32")
    labels = backend.xp.asarray([0, 0])
    with np.errstate(over="ignore"):
        loss = ops.cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)) / 2, rel=1e-6)
    (g,) = grad(loss, [logits])
    assert np.isfinite(g.numpy()).all()


def test_a_norm_of_nan_has_the_gradient_nan():
    x = tensor([[3.0, math.nan], [3.0, 4.0]])
    (g,) = grad(((ops.norm(x, 1) - 1) ** 2).mean(), [x])
    assert np.isnan(g.numpy()[0]).all() and np.isfinite(g.numpy()[1]).all()


def test_outside_the_bounds_of_clip_an_infinite_gradient_is_0():
    x = tensor([-1.0, 0.5])
    with np.errstate(divide="ignore"):
        (g,) = grad(ops.log(ops.clip(x, 0.0, 1.0)).sum(), [x])
    assert g.numpy().tolist() == [0, 2]
    assert (ops.clip(x, 0.25, 0.25).numpy() == 0.25).all()          # the bounds may be equal


def test_gradients_are_constants_even_if_grad_y_has_a_graph():
    w, x = tensor([3.0]), tensor([1.0])
    (r,) = grad(x + 1.0, [x], grad_y=w * w)
    assert r.item() == 9 and r.parents == ()
    (r,) = grad(x + 1.0, [x], grad_y=w * w, create_graph=True)
    assert grad(r, [w])[0].item() == 6


@pytest.mark.numpy_only("cupy has no such arrays")
@pytest.mark.parametrize("array", [
    np.array([1j] * 3), np.array([2, None, 4]), np.array(["2020", "2021", "2022"], "M8[Y]"),
    np.array(["1", "2", "3"])])
def test_arrays_of_anything_but_real_numbers_are_refused(array):
    x = tensor([1.0, 2.0, 3.0])
    for call in (lambda: x * array, lambda: ops.maximum(x, array),
                 lambda: grad(x, [x], grad_y=array)):
        assert str(array.dtype) in error_of(call)


def test_shapes_of_weights_are_checked():
    """A weight (3, 4, 5) had a gradient of shape (5, 3, 4)."""
    x = tensor(normal(2, 4))
    assert "(3, 4, 5)" in error_of(ops.linear, x, tensor(normal(3, 4, 5)))
    assert "(4,)" in error_of(ops.linear, x, tensor(normal(4)))
    assert "()" in error_of(channels.scale, x, tensor(1.0))


@pytest.mark.parametrize("f, at", [(ops.softplus, 1.0), (ops.log_sigmoid, -1.0)])
def test_the_second_derivatives_of_the_logistic_losses_are_precise_far_from_0(f, at):
    """That of softplus is sigmoid(x) sigmoid(-x), that of log_sigmoid its negative.

    The form y (1 - y) is 0 where y rounds to 1. The tolerance is some float32 roundings.
    """
    x = tensor([-30.0, -20.0, -1.0, 0.0, 10.0, 20.0, 30.0], "float32")
    (g,) = grad(f(x).sum(), [x], create_graph=True)
    (h,) = grad(g.sum(), [x], create_graph=True)
    (third,) = grad(h.sum(), [x])
    a = x.numpy().astype(float)
    s = 1 / (1 + np.exp(-a))
    rest = 1 / (1 + np.exp(a))
    np.testing.assert_allclose(h.numpy(), at * s * rest, rtol=1e-6)
    np.testing.assert_allclose(third.numpy(), at * s * rest * (rest - s), rtol=1e-6)


def test_an_infinite_number_passes_a_leaky_relu_of_slope_0():
    x = tensor([np.inf, -np.inf, 2.0, -2.0], "float32")
    assert ops.leaky_relu(x, 0.0).numpy().tolist() == [np.inf, 0, 2, 0]


@pytest.mark.parametrize("call, words", [
    (lambda: ops.softmax(tensor(np.zeros((3, 0)))), "at least one number along it, got axis -1"),
    (lambda: ops.logsumexp(tensor(np.zeros((3, 0)))), "at least one number along it, got axis -1"),
    (lambda: ops.softmax(tensor(np.ones((2, 3))), 5), "need one axis .* got axis 5 of"),
    (lambda: ops.softmax(tensor(np.ones((2, 3))), (0, 1)), r"need one axis .* got axis \(0, 1"),
    (lambda: channels.centre(tensor(np.zeros((0, 3)))), "mean of no numbers"),
    (lambda: nn.InstanceNorm2d(3)(tensor(np.zeros((2, 3, 0, 4)), "float32")), "mean of no numbers"),
    (lambda: channels.channel_sum(tensor(np.zeros((2, 3, 4)))),
     "of images .N, n, H, W., got .*2, 3, 4"),
    (lambda: channels.channel_sum(tensor(np.ones((4, 3))), tensor(np.ones((1, 3)))),
     "have one shape"),
    (lambda: tensor(np.ones((2, 2))).sum([0, 1]), "several axes are a tuple, .*0, 1.*, got"),
    (lambda: resampling.resize(tensor(np.zeros((1, 1, 0, 4))), (2, 2)), "at least one pixel")])
def test_empty_inputs_and_other_shapes_are_refused_in_a_sentence(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.parametrize("end", [list, lambda steps: steps.close()])
def test_a_generator_may_end_in_another_thread_than_it_began_in(end):
    def steps():
        with no_grad():
            yield 1
            yield 2
    x, errors, begun = tensor([2.0]), [], steps()
    contextvars.copy_context().run(next, begun)

    def go_on():
        try:
            end(begun)
            errors.append((x * x).parents is None)
        except ValueError as error:
            errors.append(error)
    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    assert errors == [False] and (x * x).parents is not None


def test_a_context_is_entered_again_and_inside_itself():
    off, x = no_grad(), tensor([1.0])
    for _ in range(2):
        with off, enable_grad(), off:
            with off:
                assert (x * 2).parents is None
            assert (x * 2).parents is None
        assert (x * 2).parents


def test_no_grad_is_a_decorator_of_functions():
    """Each call has a context of its own, also a recursive one. A generator runs after its call."""
    @no_grad()
    def double(x, n=1):
        return double(x * 2, n - 1) if n else x
    x = tensor([1.0])
    assert double(x, 3).parents is None and double(x, 3).item() == 8 and (x * 2).parents
    assert double.__name__ == "double"

    inside, leave = threading.Event(), threading.Event()

    @no_grad()
    def run(*steps):
        for step in steps:
            step()

    def run_in_no_grad():
        with no_grad():
            run(inside.set, lambda: leave.wait(10))
    thread = threading.Thread(target=run_in_no_grad)
    run(thread.start, lambda: inside.wait(10))
    assert (x * 2).parents                      # although the other thread is still in it
    leave.set()
    thread.join()

    def generate():
        yield x * 2

    async def wait():
        return x * 2
    for function in generate, wait:
        with pytest.raises(TypeError, match="runs after its call, .* inside it, and leave it befo"):
            no_grad()(function)


def test_a_rule_keeps_the_dtype_of_its_input():
    x = tensor([1.0, 2.0], "float32")
    y = op(x.data * 2, (x, lambda g, y: Tensor(g.data.astype("float64") * 2)))
    with pytest.raises(TypeError, match="of dtype float32, got float64: convert the constants"):
        grad(y.sum(), [x])


def test_tensors_have_no_subclasses():
    """Operations would return Tensors in their place."""
    with pytest.raises(TypeError, match="Labelled cannot be a subclass of Tensor, because opera"):
        class Labelled(Tensor):
            pass


def test_enable_grad_records_within_no_grad():
    x = tensor([2.0])
    with no_grad():
        with enable_grad():
            y = x * x * x
            (g,) = grad(y, [x], create_graph=True)
        assert (x * x).parents is None
    (h,) = grad(g, [x])
    assert (g.item(), h.item()) == (12.0, 12.0)
