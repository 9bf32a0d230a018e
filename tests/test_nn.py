"""Layers: bookkeeping, weights that come and go, initial weights, and what each layer computes.
Their gradients are in test_gradients.py, their agreement with PyTorch in test_against_torch.py."""

import collections
import contextlib
import copy
import functools
import itertools
import math
import threading
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, check_grads, grad, nn, no_grad, ops, to_numpy
from tinygan.backend import UserError
from tinygan.random import Random, rng

from helpers import error_of, normal, tensor

ROUNDING = dict(rtol=0, atol=1e-12)     # float64 sums of at most a few hundred terms of size 1


def network():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm(2), nn.LeakyReLU(), nn.Dropout(), nn.Flatten(),
        nn.Sequential(nn.Dense(32, 5), nn.Tanh()), nn.Dense(5, 1))


def arrays_of(module):
    """{name: the array itself}, without a copy."""
    return {**{name: p.data for name, p in module.named_arrays(Tensor).items()},
            **module.named_arrays(backend.xp.ndarray)}


def images(*shape, seed=0, dtype="float32"):
    return tensor(normal(*shape, seed=seed), dtype)


class TwoHeaded(nn.Module):
    """Parts as attributes and in a list, its own parameter and buffer, one part used twice."""

    def __init__(self):
        self.scale = Tensor(backend.xp.ones(3, "float32"))
        self.count = backend.xp.zeros(1, "float32")
        self.body = nn.Dense(4, 3)
        self.heads = [nn.Dense(3, 1), nn.Sequential(nn.Dense(3, 2), nn.BatchNorm(2))]
        self.again = self.body
        self.tied = nn.Dense(4, 3, bias=False)
        self.tied.weight = self.body.weight
        self.slope, self.note = 0.2, "neither number, array nor part"

    def forward(self, x):
        return self.heads[0](self.body(x) * self.scale)


# Bookkeeping

def test_names_are_those_of_torch_sequential():
    assert list(network().state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "5.0.weight", "5.0.bias", "6.weight", "6.bias",
        "1.running_mean", "1.running_var"]


def test_attributes_and_lists_are_parts():
    module = TwoHeaded()
    assert set(module.named_arrays(Tensor)) == {
        "scale", "body.weight", "body.bias", "heads.0.weight", "heads.0.bias", "heads.1.0.weight",
        "heads.1.0.bias", "heads.1.1.weight", "heads.1.1.bias", "again.weight", "again.bias",
        "tied.weight"}
    assert set(module.named_arrays(backend.xp.ndarray)) == {
        "count", "heads.1.1.running_mean", "heads.1.1.running_var"}


def around(thing):
    return lambda x: thing(x)


def with_default(thing):
    def function(x, by_default=thing):
        return by_default(x)
    return function


def with_keyword(thing):
    def function(x, *, by_default=thing):
        return by_default(x)
    return function


# Places in which nothing finds a Module, nor a Tensor; and those in which nothing finds a Tensor
HIDING = {
    "set": lambda thing: {thing}, "frozenset": lambda thing: frozenset([thing]),
    "deque": lambda thing: collections.deque([thing]),
    "key": lambda thing: {thing: "a"}, "keys": lambda thing: {thing: "a"}.keys(),
    "mapping": lambda thing: types.MappingProxyType({"a": thing}),
    "variable": around, "default": with_default, "keyword": with_keyword,
    "partial": lambda thing: functools.partial(max, thing),
    "keyword of a partial": lambda thing: functools.partial(max, key=thing),
    "function of a partial": lambda thing: functools.partial(around(thing)),
    "function in a variable": lambda thing: around(around(thing)),
    "set in a list": lambda thing: [[1, {thing}]],
    "set in a variable": lambda thing: around({thing}),
    "function in a dictionary": lambda thing: {"a": [around(thing)]},
}
LISTING = {
    "list": lambda thing: [thing], "tuple": lambda thing: (1, thing),
    "list in a list": lambda thing: [[thing]], "dictionary": lambda thing: {"a": thing},
    "dictionary in a dictionary": lambda thing: {"a": {"b": thing}},
}


def with_settings():
    """A network with collections and functions of numbers and texts, which are settings."""
    module = nn.Sequential(nn.Dense(2, 2), nn.ReLU())
    layer = module.layers[1]
    layer.sizes, layer.pairs, layer.names = [1, 2], [(1, 2), [3, 4]], {"a": {1, 2}, "b": "text"}
    layer.functions = [ops.relu, around(3), functools.partial(max, 1), "text".count, len]
    assert len(module.parameters()) == 2
    return module


@pytest.mark.parametrize("place", HIDING)
def test_a_module_that_nothing_would_find_is_refused(place):
    """It would be neither trained nor saved."""
    module = with_settings()
    module.layers[1].things = HIDING[place](nn.Dense(2, 1))
    for use in (module.parameters, module.state_dict, module.touch,
                lambda: module.load_state_dict({})):
        assert "ReLU.things holds a Dense that nothing finds" in error_of(use)


def test_a_method_of_a_module_that_nothing_would_find_is_refused():
    module = with_settings()
    module.layers[1].things = nn.Dense(2, 1).forward
    assert "ReLU.things holds a Dense" in error_of(module.parameters)


@pytest.mark.parametrize("place", {**HIDING, **LISTING})
def test_a_tensor_that_nothing_would_find_is_refused(place):
    module = with_settings()
    module.layers[1].things = {**HIDING, **LISTING}[place](Tensor(1.0))
    for use in (module.parameters, module.state_dict):
        assert "ReLU.things holds a Tensor that nothing finds" in error_of(use)


@pytest.mark.parametrize("place", ["variable", "default", "partial", *LISTING])
def test_an_array_that_nothing_would_find_is_refused_but_what_a_function_holds_is_a_constant(place):
    module = with_settings()
    module.layers[1].things = {**HIDING, **LISTING}[place](backend.xp.zeros(2))
    if place in LISTING:
        assert "ReLU.things holds a ndarray that nothing finds" in error_of(module.parameters)
    else:
        assert len(module.parameters()) == 2


@pytest.mark.parametrize("place", {**HIDING, **LISTING, "method": lambda thing: thing.forward})
def test_what_is_found_elsewhere_may_be_anywhere(place):
    """And so may be what is computed, where Tensors are collected, and all that a class's notes
    name."""
    put = {**HIDING, **LISTING}.get(place, lambda thing: thing.forward)
    module = with_settings()
    dense, layer = module.layers
    before = [id(p) for p in module.parameters()]
    layer.things = put(dense)
    assert [id(p) for p in module.parameters()] == before
    if place == "method":
        return
    layer.things, layer.more = put(dense.weight), put(dense.weight * 2)
    with no_grad():
        layer.others = put(dense.weight * 2)
    assert [id(p) for p in module.parameters()] == before
    layer.things = put(Tensor(1.0))
    layer.notes = ("things",)
    assert [id(p) for p in module.parameters()] == before


@pytest.mark.parametrize("thing", [
    lambda: nn.Dense(2, 1), lambda: Tensor(1.0), lambda: backend.xp.zeros(2),
    lambda: [1, nn.Dense(2, 1)], lambda: {"a": (Tensor(1.0),)}, lambda: {nn.Dense(2, 1)},
    lambda: functools.partial(max, nn.Dense(2, 1))])
@pytest.mark.parametrize("of_a_mixin", [False, True])
def test_a_class_attribute_is_refused(thing, of_a_mixin):
    """Of a class that is a Module, or of one beside it that is none."""
    def define():
        if of_a_mixin:
            return type("Net", (type("Mixin", (), {"layer": thing()}), nn.Module), {})
        return type("Net", (nn.Module,), {"layer": thing()})
    message = error_of(define)
    assert "the class attribute Net.layer holds a" in message and "__init__" in message


def test_settings_may_be_class_attributes():
    class Net(nn.Module):
        sizes, slope, names = [1, 2], 0.2, {"a": (1, "b")}
        activation = staticmethod(ops.relu)
    assert Net().parameters() == []


def test_a_dictionary_of_modules_is_found():
    """As in a network that grows, with a part for each size."""
    class Growing(nn.Module):
        def __init__(self):
            self.blocks = {"4x4": nn.Dense(2, 3), "8x8": [nn.Dense(3, 4), nn.Tanh()]}

        def forward(self, x):
            for layer in (self.blocks["4x4"], *self.blocks["8x8"]):
                x = layer(x)
            return x
    net = Growing()
    assert set(net.state_dict()) == {"blocks.4x4.weight", "blocks.4x4.bias",
                                     "blocks.8x8.0.weight", "blocks.8x8.0.bias"}
    net.eval()
    assert not net.blocks["8x8"][1].training
    check_grads(net, normal(3, 2))


@pytest.mark.parametrize("parts", [
    lambda: {1: nn.Dense(2, 1), "1": nn.Dense(2, 1)},
    lambda: {"a.b": nn.ReLU(), "a": {"b": nn.ReLU()}},
    lambda: {"a.0": nn.Dense(2, 1), "a": [nn.Dense(2, 1)]},
    lambda: {"a.0": nn.Dense(2, 1), "a": nn.Sequential(nn.Dense(2, 1))},
    lambda: [{"a.body": nn.Dense(4, 3), "a": TwoHeaded()}]])
def test_two_parts_of_one_name_are_refused(parts):
    """The weights of one would take the other's place in what is saved."""
    module = nn.Sequential(nn.ReLU())
    module.layers[0].things = parts()
    for use in (module.parameters, module.state_dict):
        assert "have one name" in error_of(use)
    if not isinstance(parts(), list) and "a.0" not in parts():      # within one Module
        assert "two parts of ReLU have one name" in error_of(module.eval)
    del module.layers[0].things
    assert module.parameters() == []


def test_a_part_that_refers_to_what_it_is_a_part_of_does_no_harm():
    """Nor do two parts that refer to each other: nothing is found more often than without, but
    under the names of the one also what is in the other."""
    net, x = network(), images(2, 1, 4, 4)
    names, parameters = list(net.state_dict()), [id(p) for p in net.parameters()]
    y = net.eval()(x).numpy()
    for _, part in list(net.modules()):
        part.above = net
    net.layers[5].layers[0].around = [net.layers[5]]
    assert list(net.state_dict()) == names and [id(p) for p in net.parameters()] == parameters
    assert not any(part.training for _, part in net.eval().modules())
    assert (copy.deepcopy(net)(x).numpy() == y).all()
    assert net.summary(1, 4, 4).split()[-1] == str(sum(p.size for p in net.parameters()))
    net.layers[0].other, net.layers[1].other = net.layers[1], net.layers[0]
    assert {id(p) for p in net.parameters()} == set(parameters)
    assert len(net.parameters()) == len(parameters)
    assert set(net.state_dict()) - set(names) == {
        *(f"0.other.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        "1.other.weight", "1.other.bias"}


class Keeping(nn.Module):
    """Keeps its last output, as a Tensor, an array and in a list."""

    notes = ("array", "outputs")

    def __init__(self):
        self.dense, self.outputs = nn.Dense(2, 3), []

    def forward(self, x):
        self.last = self.dense(x)
        self.array = self.last.data
        self.outputs.append(self.last)
        return self.last


@pytest.mark.parametrize("context", [contextlib.nullcontext, no_grad])
def test_an_output_that_a_layer_keeps_is_no_parameter(context):
    net = Keeping()
    before = list(net.arrays())
    with context():
        net(tensor(normal(4, 2), "float32"))
    assert list(net.arrays()) == before == ["dense.weight", "dense.bias"]
    kept = copy.deepcopy(net)
    assert list(kept.arrays()) == before and kept.last.parents is None


class Remembering(nn.Module):
    """Keeps what it is given and what it makes of it."""

    def __init__(self):
        self.dense = nn.Dense(2, 2)

    def forward(self, x):
        self.input, self.middle = x, x * 2
        self.output = self.dense(self.middle)
        return self.output


class Noisy(nn.Module):
    """Gives a part of it a leaf that its own forward has made."""

    def __init__(self):
        self.inner = Remembering()

    def forward(self, x):
        return self.inner(Tensor(backend.xp.ones((4, 2), "float32"))) + x


@pytest.mark.parametrize("context", [contextlib.nullcontext, no_grad])
@pytest.mark.parametrize("make", [
    Remembering, lambda: nn.Sequential(Remembering(), nn.Sequential(Remembering())), Noisy])
def test_an_input_that_a_layer_keeps_is_no_parameter(make, context):
    """The input is a leaf, as a parameter is. The layer stays trainable, and can be saved."""
    net, x = make(), images(4, 2)
    before, parameters = list(net.arrays()), [id(p) for p in net.parameters()]
    for _ in range(2):
        with context():
            y = net(x)
        assert list(net.arrays()) == before and [id(p) for p in net.parameters()] == parameters
    for part in [part for _, part in net.modules() if type(part) is Remembering]:
        assert part.input.shape == part.middle.shape == part.output.shape == (4, 2)
    if context is not no_grad:
        grad(y.sum(), net.parameters())
    net.load_state_dict(net.state_dict())
    assert list(copy.deepcopy(net).arrays()) == before


def test_layers_that_keep_tensors_are_checked_like_others():
    check_grads(Remembering(), normal(4, 2))


def test_what_was_kept_may_become_a_parameter():
    net, x = Remembering(), images(4, 2)
    net(x)
    net.output = Tensor(x.data[:1])
    assert set(net.named_arrays(Tensor)) == {"dense.weight", "dense.bias", "output"}
    net(x)
    assert set(net.named_arrays(Tensor)) == {"dense.weight", "dense.bias"}


@pytest.mark.parametrize("context", [contextlib.nullcontext, no_grad])
def test_a_computed_tensor_is_refused_outside_of_forward(context):
    """It would look like a parameter, and no step would move it."""
    class Net(nn.Module):
        notes = ("noted",)

        def __init__(self, name):
            setattr(self, name, Tensor([1.0]) * 2)
    with context():
        assert "Net.weight is set to a computed Tensor" in error_of(Net, "weight")
        assert "'weight' in the class's notes" in error_of(Net, "weight")
        net = Net("noted")
        assert "Net.other" in error_of(setattr, net, "other", net.noted)
    assert net.parameters() == [] and not hasattr(net, "other")
    net.other = Tensor(net.noted.data.copy())
    assert len(net.parameters()) == 1


class Lazy(nn.Module):
    """A dense layer without bias that learns from its first input how many numbers it takes."""

    def __init__(self, n_out):
        self.n_out = n_out

    def forward(self, x):
        if not hasattr(self, "weight"):
            self.weight = Tensor(rng.normal((self.n_out, x.shape[1])))
            self.calls = backend.xp.zeros((), "float32")
            self.inner = nn.Dense(self.n_out, self.n_out)
        self.calls += 1
        return self.inner(ops.linear(x, self.weight))


@pytest.mark.parametrize("make, names", [
    (lambda: Lazy(3), ["weight", "inner.weight", "inner.bias", "calls"]),
    (lambda: nn.Sequential(nn.Dense(2, 5), nn.Sequential(Lazy(3))),
     ["0.weight", "0.bias", "1.0.weight", "1.0.inner.weight", "1.0.inner.bias", "1.0.calls"])])
def test_a_weight_that_forward_makes_is_a_parameter(make, names):
    """From the first call on, and so are buffers and parts."""
    net, x = make(), images(4, 2)
    with no_grad():
        net(x)
    assert list(net.state_dict()) == names
    parameters = net.parameters()
    y = net(x)
    assert [id(p) for p in net.parameters()] == [id(p) for p in parameters]
    grad(y.sum(), parameters)
    other = make()
    other(x)
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other(x).numpy(), net(x).numpy())


def test_a_shared_parameter_comes_once():
    module = TwoHeaded()
    parameters = module.parameters()
    assert len(parameters) == len(set(parameters)) == 9
    assert sum(p is module.body.weight for p in parameters) == 1
    assert parameters[:3] == [module.scale, module.body.weight, module.body.bias]


def test_train_and_eval_reach_every_part_and_return_the_module():
    module = TwoHeaded()
    deepest = module.heads[1].layers[1]
    parts = [module, module.body, module.heads[0], module.heads[1], deepest, module.tied]
    assert all(part.training for part in parts)
    assert module.eval() is module and not any(part.training for part in parts)
    assert module.train() is module and all(part.training for part in parts)


def test_evaluating_restores_each_mode_also_after_an_exception():
    module = network()
    module.layers[1].eval()             # a frozen layer stays frozen
    before = [part.training for _, part in module.modules()]
    with pytest.raises(KeyError), nn.evaluating(module) as same:
        assert same is module and not any(part.training for _, part in module.modules())
        raise KeyError
    assert [part.training for _, part in module.modules()] == before
    assert before == [True] * 2 + [False] + [True] * 7


def test_repr_shows_the_settings():
    assert repr(nn.Dense(4, 3)) == "Dense(n_in=4, n_out=3)"
    assert repr(nn.Sequential(nn.LeakyReLU(0.1).eval(), nn.Reshape(2, 3))) == (
        "Sequential(LeakyReLU(slope=0.1), Reshape(shape=(2, 3)))")
    assert "kernel=(4, 4), stride=(2, 2), padding=(1, 1)" in repr(nn.Conv2d(1, 2, 4, 2, 1))


# Weights out and in

def test_state_dict_is_a_copy_in_c_order():
    module = network()
    module.layers[0].weight.data = module.layers[0].weight.data.transpose(0, 1, 3, 2)
    before = {name: to_numpy(a).copy() for name, a in arrays_of(module).items()}
    state = module.state_dict()
    for name, value in state.items():
        assert type(value) is np.ndarray and value.flags.c_contiguous and value.flags.owndata
        assert (value == before[name]).all()
        value[...] = 7.0
    assert all((to_numpy(a) == before[name]).all() for name, a in arrays_of(module).items())


def test_load_state_dict_writes_into_the_arrays_that_are_there():
    """An optimiser, or a captured graph, that holds an array sees the new weights."""
    source, target = network(), network()
    source(images(4, 1, 4, 4))          # so that the running averages are no longer initial
    before, state = arrays_of(target), source.state_dict()
    assert (to_numpy(before["0.weight"]) != state["0.weight"]).any()
    target.load_state_dict(state)
    for name, array in arrays_of(target).items():
        assert array is before[name] and (to_numpy(array) == state[name]).all()
    state["0.weight"][...] = 7.0        # nor do the two networks share anything with the dict
    assert (to_numpy(target.layers[0].weight.data) != 7.0).any()


def test_loading_keeps_the_dtype_and_passes_over_num_batches_tracked():
    module, state = network(), network().state_dict()
    state = {name: value.astype("float64") for name, value in state.items()}
    module.load_state_dict({**state, "1.num_batches_tracked": np.array(3)})
    assert all(a.dtype == np.float32 for a in arrays_of(module).values())


@pytest.mark.parametrize("change, words", [
    (lambda s: [s.pop("1.running_var"), s.pop("6.bias")], ["lack 1.running_var, 6.bias"]),
    (lambda s: s.update({"7.weight": s["6.weight"], "x": s["6.bias"]}),
     ["no place for", "7.weight, x"]),
    (lambda s: s.update({"6.weight": s["6.weight"].T}), ["6.weight", "(5, 1)", "(1, 5)"]),
    (lambda s: s.update({"6.bias": s["6.bias"][0]}), ["6.bias", "()", "(1,)"]),
])
def test_what_load_state_dict_refuses_changes_nothing(change, words):
    module = network()
    before, state = module.state_dict(), network().state_dict()
    change(state)
    with pytest.raises(UserError) as raised:
        module.load_state_dict(state)
    assert all(word in str(raised.value) for word in words), raised.value
    assert all((value == before[name]).all() for name, value in module.state_dict().items())


# summary

def test_summary_shows_every_layer_its_shape_and_its_parameters():
    module = network()
    head, *rows, total = module.summary(1, 4, 4).splitlines()
    shapes = ["2x4x4", "2x4x4", "2x4x4", "2x4x4", "32", "5", "5", "1"]
    counts = [1 * 2 * 9 + 2, 4, 0, 0, 0, 32 * 5 + 5, 0, 6]
    names = ["0", "1", "2", "3", "4", "5.0", "5.1", "6"]
    layers = ["Conv2d", "BatchNorm", "LeakyReLU", "Dropout", "Flatten", "Dense", "Tanh", "Dense"]
    assert head.split() == ["layer", "output", "parameters"]
    for row, name, layer, shape, count in zip(rows, names, layers, shapes, counts, strict=True):
        assert row.startswith(f"{name} {layer}(") and row.split()[-2:] == [shape, str(count)]
    assert total.split() == ["1", str(sum(counts))]
    assert sum(counts) == sum(p.size for p in module.parameters())
    assert len({len(line) for line in [head, *rows, total]}) == 1       # the columns line up


def test_summary_groups_thousands_and_counts_a_shared_weight_once_in_the_total():
    layer = nn.Dense(40, 40)
    lines = nn.Sequential(layer, nn.Tanh(), layer).summary(40).splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["1,640", "0", "1,640", "1,640"]


def test_summary_of_functions_and_of_heirs_of_sequential():
    """A function has a line of its own; an heir with a forward of its own is one layer, without
    one the layers that it consists of."""
    class Plain(nn.Sequential):
        pass

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)
    net = nn.Sequential(nn.Dense(3, 4), ops.relu, Plain(nn.Dense(4, 4), nn.Tanh()),
                        Residual(nn.Dense(4, 4), ops.tanh), lambda x: x[:, :2])
    _, *rows, total = net.summary(3).splitlines()
    assert [row.split()[:2] for row in rows] == [
        ["0", "Dense(n_in=3,"], ["1", "relu"], ["2.0", "Dense(n_in=4,"], ["2.1", "Tanh()"],
        ["3", "Residual(Dense(n_in=4,"], ["4", "<lambda>"]]
    assert [row.split()[-2:] for row in rows] == [
        ["4", "16"], ["4", "0"], ["4", "20"], ["4", "0"], ["4", "20"], ["2", "0"]]
    assert total.split() == ["2", "56"]
    assert "Plain(Dense(" in repr(net.layers[2])


def test_summary_leaves_modes_and_buffers_alone():
    module = network()
    module.layers[3].eval()
    modes, state = [part.training for _, part in module.modules()], module.state_dict()
    random = rng.state
    module.summary(1, 4, 4)
    assert [part.training for _, part in module.modules()] == modes
    assert all((value == state[name]).all() for name, value in module.state_dict().items())
    assert rng.state == random


# Initial weights

@pytest.mark.parametrize("init, variance, bound", [
    (nn.glorot, 2 / (150 + 250), math.sqrt(6 / (150 + 250))),
    (nn.he, 2 / 150, math.inf),
    (nn.uniform(0.05), 0.05 ** 2 / 3, 0.05),
    (nn.normal(0.02), 0.02 ** 2, math.inf),
], ids=["glorot", "he", "uniform", "normal"])
def test_initial_weights_have_the_stated_moments(init, variance, bound):
    """Mean and variance within four standard errors, which a right initialiser fails once in 8000
    seeds; the seed is fixed."""
    w = to_numpy(init((250, 150), 150, 250)).astype("float64")
    fourth = {math.inf: 3.0}.get(bound, 9 / 5)          # E x^4 / variance^2, normal and uniform
    assert abs(w.mean()) < 4 * math.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 4 * math.sqrt((fourth - 1) / w.size)
    # the shape: 3 or 9/5, and the standard error of the larger is sqrt(96 / n)
    assert abs((w ** 4).mean() / variance ** 2 - fourth) < 4 * math.sqrt(96 / w.size)
    assert abs(w).max() <= bound * (1 + 1e-6)           # the bound itself, rounded to float32


def test_constant_weights():
    assert (to_numpy(nn.constant(0.5)((3, 2), 2, 3)) == 0.5).all()


@pytest.mark.parametrize("make, fan_in, fan_out", [
    (lambda init: nn.Dense(5, 3, init=init), 5, 3),
    (lambda init: nn.Maxout(5, 3, 4, init=init), 5, 3),
    (lambda init: nn.Conv2d(5, 3, (2, 4), init=init), 5 * 8, 3 * 8),
    (lambda init: nn.ConvTranspose2d(5, 3, (2, 4), init=init), 5 * 8, 3 * 8),
])
def test_layers_tell_the_initialiser_their_fans(make, fan_in, fan_out):
    told = []
    layer = make(lambda *arguments: told.append(arguments) or nn.glorot(*arguments))
    assert told == [(layer.weight.shape, fan_in, fan_out)]
    assert not layer.bias.numpy().any()


def test_the_same_seed_gives_the_same_weights():
    rng.seed(5)
    first = network().state_dict()
    other = network().state_dict()
    rng.seed(5)
    again = network().state_dict()
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["0.weight"] != other["0.weight"]).any()


def layers_with_weights():
    return [nn.Dense(4, 3), nn.Maxout(4, 3, 2), nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3),
            nn.BatchNorm(3), nn.LayerNorm((2, 3)), nn.Dense(4, 3, bias=False),
            nn.Conv2d(1, 2, 3, init=nn.normal(0.02))]


def test_blank_layers_begin_with_zeros_and_draw_nothing():
    """Their weights are counted, by each context for itself."""
    layers = layers_with_weights()
    numbers = sum(array.size for layer in layers for array in layer.arrays().values())
    state = rng.state
    with nn.init.blank(numbers):
        with nn.init.blank(15), pytest.raises(ValueError, match="more weights"):
            nn.Dense(3, 4)
        blank = layers_with_weights()
        with pytest.raises(ValueError, match="more weights than there are in the file"):
            nn.Dense(1, 1, bias=False)
    assert rng.state == state
    for mine, its in zip(blank, layers):
        assert {name: (a.shape, a.strides) for name, a in mine.arrays().items()} == {
            name: (a.shape, a.strides) for name, a in its.arrays().items()}
        assert not any(to_numpy(a).any() for name, a in mine.arrays().items()
                       if type(mine) not in (nn.BatchNorm, nn.LayerNorm))
    assert to_numpy(nn.Dense(4, 3).weight.data).any()       # outside it is as ever


@pytest.mark.host
def test_another_threads_layers_are_not_blank():
    made = []
    with nn.init.blank(0):
        thread = threading.Thread(target=lambda: made.append(nn.Dense(4, 3)))
        thread.start()
        thread.join()
    assert made[0].weight.numpy().any()


# Batch normalisation

@pytest.mark.parametrize("shape", [(50, 3), (10, 3, 4, 5)])
def test_batchnorm_output_has_mean_0_and_variance_1(shape):
    layer, x = nn.BatchNorm(3, eps=0.0), tensor(5 + 3 * normal(*shape), "float32")
    y = layer(x).numpy().astype("float64")
    axes = (0, 2, 3)[:len(shape) - 1]
    # float32: 5 / 3 standard deviations off zero, rounded by 6e-8 of it
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-5)
    layer.weight.data[...] = 2.0
    layer.bias.data[...] = -1.0
    np.testing.assert_allclose(layer(x).numpy(), 2 * y - 1, atol=1e-5)


def test_batchnorm_remembers_the_data():
    """The running averages settle at the mean and the *unbiased* variance of the batches: with the
    same batch again and again, (1 - momentum)^n is left of their initial values."""
    layer, x = nn.BatchNorm(3, momentum=0.2), tensor(5 + 3 * normal(4, 3, 2, 1), "float32")
    values = x.numpy().astype("float64").transpose(1, 0, 2, 3).reshape(3, -1)
    mean, var = values.mean(1), values.var(1, ddof=1)
    for n in range(1, 61):
        layer(x)
        left = 0.8 ** n
        np.testing.assert_allclose(to_numpy(layer.running_mean), (1 - left) * mean, rtol=1e-5)
        np.testing.assert_allclose(to_numpy(layer.running_var), (1 - left) * var + left, rtol=1e-5)


def test_batchnorm_evaluation_uses_the_memory_and_leaves_it_alone():
    layer = nn.BatchNorm(3)
    layer(images(20, 3, 4, 4))
    mean, var = to_numpy(layer.running_mean).copy(), to_numpy(layer.running_var).copy()
    x = images(5, 3, 4, 4, seed=1)
    trained = layer(x).numpy()
    layer.running_mean[...], layer.running_var[...] = map(backend.xp.asarray, (mean, var))
    together = layer.eval()(x).numpy()
    expected = (x.numpy() - mean.reshape(3, 1, 1)) / np.sqrt(var.reshape(3, 1, 1) + 1e-5)
    np.testing.assert_allclose(together, expected, atol=1e-5)       # float32
    assert abs(together - trained).max() > 0.1
    assert (to_numpy(layer.running_mean) == mean).all()
    assert (to_numpy(layer.running_var) == var).all()
    alone = [layer(x[i:i + 1]).numpy() for i in range(5)]
    assert (np.concatenate(alone) == together).all()                # no image sees its neighbours


def test_batchnorm_writes_its_memory_in_place_and_keeps_it_out_of_the_graph():
    layer, x = nn.BatchNorm(3), images(6, 3)
    before = layer.running_mean, layer.running_var
    y = layer(x)
    first = grad((y * y * y).sum(), [x])[0].numpy()
    layer(images(6, 3, seed=1))                                     # a later batch
    assert (grad((y * y * y).sum(), [x])[0].numpy() == first).all()
    assert layer.running_mean is before[0] and layer.running_var is before[1]


def test_batchnorm_in_training_needs_two_values_of_each_channel():
    layer = nn.BatchNorm(3)
    for shape in ((1, 3), (1, 3, 1, 1)):
        message = error_of(layer, images(*shape))
        assert str(shape) in message and "larger batch" in message
    layer(images(1, 3, 1, 2))
    layer.eval()(images(1, 3))


# Layer normalisation

@pytest.mark.parametrize("shape, of", [((5, 7), 7), ((5, 2, 3, 4), (2, 3, 4)),
                                       ((5, 2, 3, 4), (4,))])
def test_layernorm_normalises_each_sample_by_itself(shape, of):
    layer, x = nn.LayerNorm(of, eps=0.0), tensor(5 + 3 * normal(*shape), "float32")
    y = layer(x).numpy()
    axes = tuple(range(-len(layer.shape), 0))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-6)          # float32, as above
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-5)
    alone = np.concatenate([layer(x[i:i + 1]).numpy() for i in range(5)])
    np.testing.assert_allclose(alone, y, atol=1e-5)
    layer.weight.data[...] = tensor(normal(*layer.shape, seed=1), "float32").data
    layer.bias.data[...] = tensor(normal(*layer.shape, seed=2), "float32").data
    scaled = y * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), scaled, atol=1e-5)


# Maxout

def test_maxout_is_the_largest_piece():
    layer, x = nn.Maxout(4, 3, 5), images(6, 4)
    layer.bias.data[...] = tensor(normal(15), "float32").data
    w, b = layer.weight.numpy(), layer.bias.numpy()
    for i, o in itertools.product(range(6), range(3)):
        pieces = [sum(x.numpy()[i, k] * w[j * 3 + o, k] for k in range(4)) + b[j * 3 + o]
                  for j in range(5)]
        assert layer(x).numpy()[i, o] == pytest.approx(max(pieces), abs=1e-6)       # float32


# Dropout

def test_dropout_drops_the_stated_fraction_and_keeps_the_expectation():
    p, n = 0.3, 40_000
    y = nn.Dropout(p)(tensor(np.ones(n), "float32")).numpy().astype("float64")
    kept = np.float32(1 / (1 - p))
    assert set(np.unique(y)) == {0.0, float(kept)}
    # four standard errors: of the fraction, and of the mean, which is 1 in expectation
    assert abs((y == 0).mean() - p) < 4 * math.sqrt(p * (1 - p) / n)
    assert abs(y.mean() - 1) < 4 * math.sqrt(p / (1 - p) / n)


def test_dropout_does_nothing_in_evaluation_or_at_p_0():
    x = images(5, 4)
    state = rng.state
    assert nn.Dropout(0.9).eval()(x) is x and nn.Dropout(0)(x) is x
    assert rng.state == state
    assert "1.0" in error_of(nn.Dropout, 1.0) and "-0.1" in error_of(nn.Dropout, -0.1)


def test_given_masks_are_used_exactly():
    masks = [normal(5, 4, seed=i) > 0 for i in range(2)]
    asked = []

    class Given:
        def bernoulli(self, p, shape):
            asked.append((p, shape))
            return backend.xp.asarray(masks[len(asked) - 1])
    net, x = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.2)), images(5, 4)
    with nn.drawing_from(Given()):
        y = net(x).numpy()
    assert asked == [(0.5, (5, 4)), (0.8, (5, 4))]
    expected = x.numpy() * masks[0] / 0.5 * masks[1] / 0.8
    np.testing.assert_allclose(y, expected, rtol=1e-6)             # float32


def test_the_same_source_gives_the_same_masks():
    net, x = nn.Sequential(nn.Dropout(), nn.Dropout()), images(5, 4)

    def masked(seed):
        with nn.drawing_from(Random(seed)):
            return net(x).numpy()
    assert (masked(1) == masked(1)).all() and (masked(1) != masked(2)).any()


@pytest.mark.host
def test_threads_draw_from_their_own_source():
    """One thread's step does not get another's masks."""
    class Given:
        def __init__(self, keep):
            self.keep = keep

        def bernoulli(self, p, shape):
            return np.full(shape, self.keep)
    layer, entered, left, seen = nn.Dropout(0.5), threading.Event(), threading.Event(), []

    def other():
        with nn.drawing_from(Given(False)):
            entered.set()
            left.wait(10)
            seen.append(layer(tensor([1.0])).item())
    thread = threading.Thread(target=other)
    with nn.drawing_from(Given(True)):
        thread.start()
        entered.wait(10)
        assert layer(tensor([1.0])).item() == 2
        left.set()
        thread.join()
        assert layer(tensor([1.0])).item() == 2
    assert seen == [0]


def test_drawing_from_hands_back_the_stream_also_after_an_exception():
    x = images(5, 4)
    expected = nn.Dropout()(x).numpy()
    rng.seed(0)
    with pytest.raises(KeyError), nn.drawing_from(Random(1)):
        raise KeyError
    assert (nn.Dropout()(x).numpy() == expected).all()


# Gaussian noise

def test_gaussian_noise_has_mean_0_and_variance_sigma_squared():
    x = tensor(np.full((100, 400), 3.0), "float32")
    noise = nn.GaussianNoise(0.5)(x).numpy().astype("float64") - 3
    n = noise.size
    # four standard errors: of the mean, the variance and the fourth moment, a normal's
    assert abs(noise.mean()) < 4 * 0.5 / math.sqrt(n)
    assert abs((noise ** 2).mean() / 0.25 - 1) < 4 * math.sqrt(2 / n)
    assert abs((noise ** 4).mean() / 0.0625 - 3) < 4 * math.sqrt(96 / n)
    assert len(np.unique(noise)) > n / 2            # each number its own


def test_gaussian_noise_does_nothing_in_evaluation_or_at_sigma_0():
    x = images(5, 4)
    state = rng.state
    assert nn.GaussianNoise(0.9).eval()(x) is x
    assert rng.state == state
    assert (nn.GaussianNoise(0)(x).numpy() == x.numpy()).all()
    assert "-0.1" in error_of(nn.GaussianNoise, -0.1)


def test_given_noise_is_used_exactly():
    asked = []

    class Given:
        def normal(self, shape):
            asked.append(shape)
            return tensor(normal(*shape, seed=len(asked)), "float32").data
    net, x = nn.Sequential(nn.GaussianNoise(0.5), nn.GaussianNoise(2)), images(5, 4)
    with nn.drawing_from(Given()):
        y = net(x).numpy()
    assert asked == [(5, 4), (5, 4)]
    expected = x.numpy() + 0.5 * normal(5, 4, seed=1) + 2 * normal(5, 4, seed=2)
    np.testing.assert_allclose(y, expected, atol=1e-6)             # float32


# Spectral normalisation

SPECTRAL = {    # layer and shape of its input; no biases, so that all of an output scales
    "Dense": (lambda: nn.Dense(6, 4, bias=False), (5, 6)),
    "Conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 0), bias=False), (2, 3, 7, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 5, (3, 2), (2, 1), bias=False), (2, 3, 4, 5)),
}
# the axes of a weight: outputs first
AXES = {"Dense": (0, 1), "Conv2d": (0, 1, 2, 3), "ConvTranspose2d": (1, 0, 2, 3)}


def weight(layer):
    return layer.weight_orig if hasattr(layer, "weight_u") else layer.weight


def unnormalised(layer):
    """A copy without the norm, with the same weight."""
    plain = copy.deepcopy(layer)
    plain.weight = plain.weight_orig
    del plain.weight_u
    return plain


def opened_out(layer):
    """The weight as a matrix with a row for each output."""
    w = weight(layer).numpy().transpose(AXES[type(layer).__name__])
    return w.reshape(len(w), -1)


def folded(matrix, layer):
    """The matrix laid out as the weight."""
    axes = AXES[type(layer).__name__]
    shape = [weight(layer).shape[i] for i in axes]
    return matrix.reshape(shape).transpose(np.argsort(axes))


def uv(layer):
    return to_numpy(layer.weight_u).copy(), to_numpy(layer.weight_v).copy()


def doubled(layer):
    """The layer in float64, its weight moved a little, so that u and v no longer fit it."""
    w = layer.weight_orig
    w.data = tensor(w.numpy() + 0.1 * normal(*w.shape)).data
    layer.weight_u = tensor(to_numpy(layer.weight_u), "float64").data
    layer.weight_v = tensor(to_numpy(layer.weight_v), "float64").data
    return layer


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norm_divides_by_the_largest_singular_value(name):
    """Within 1 %; also in evaluation before any training, as PyTorch's 15 iterations come first."""
    make, shape = SPECTRAL[name]
    plain, x = make(), images(*shape)
    layer = copy.deepcopy(plain)
    assert nn.spectral_norm(layer) is layer
    sigma = np.linalg.svd(opened_out(plain), compute_uv=False)[0]
    in_axis_order = plain.weight.numpy().reshape(len(plain.weight.data), -1)
    of_inputs_first = np.linalg.svd(in_axis_order, compute_uv=False)[0]
    assert (abs(of_inputs_first / sigma - 1) > 0.1) == (name == "ConvTranspose2d")
    for mode in ("before", "in", "after"):
        layer.train(mode == "in")
        for _ in range(100 if mode == "in" else 1):
            y = layer(x)
        np.testing.assert_allclose(y.numpy() * sigma, plain(x).numpy(), rtol=0.01, atol=1e-6)
    assert (layer.weight_orig.numpy() == plain.weight.numpy()).all()


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norm_takes_one_power_iteration_for_each_pass_in_training(name):
    make, shape = SPECTRAL[name]
    layer, x = doubled(nn.spectral_norm(make())), images(*shape, dtype="float64")
    plain, w = unnormalised(layer), opened_out(layer)
    close = dict(rtol=0, atol=2e-11)        # the layer adds 1e-12 to the norms it divides by
    arrays = layer.weight_u, layer.weight_v
    for _ in range(3):
        u, _ = uv(layer)
        v = w.T @ u / np.linalg.norm(w.T @ u)
        u = w @ v / np.linalg.norm(w @ v)
        y = layer(x).numpy()
        for found, expected in zip(uv(layer), (u, v)):
            np.testing.assert_allclose(found, expected, **close)
        np.testing.assert_allclose(y * (u @ w @ v), plain(x).numpy(), **close)
        layer.eval()
        assert (layer(x).numpy() == y).all()
        assert all((a == b).all() for a, b in zip(uv(layer), uv(layer.train())))
    # in place: who holds them sees the new ones
    assert layer.weight_u is arrays[0] and layer.weight_v is arrays[1]


@pytest.mark.parametrize("name", SPECTRAL)
def test_evaluation_leaves_u_and_v_alone(name):
    make, shape = SPECTRAL[name]
    layer = nn.spectral_norm(make())
    layer.weight_orig.data *= 3.0       # so that an iteration would move them
    layer.weight_orig.data[0, 0] += 1.0
    before = uv(layer)
    layer.eval()(images(*shape))
    assert all((a == b).all() for a, b in zip(uv(layer), before))
    layer.train()(images(*shape))
    assert all((a != b).any() for a, b in zip(uv(layer), before))


def test_u_and_v_are_buffers_and_come_and_go_with_the_weights():
    def network():
        return nn.Sequential(nn.spectral_norm(nn.Conv2d(1, 2, 3)), nn.Flatten(),
                             nn.spectral_norm(nn.Dense(8, 1)))
    source, target, x = network(), network(), images(3, 1, 4, 4)
    assert set(source.named_arrays(Tensor)) == {"0.weight_orig", "0.bias", "2.weight_orig",
                                                "2.bias"}
    state = source.state_dict()
    assert set(state) == set(source.named_arrays(Tensor)) | {
        "0.weight_u", "0.weight_v", "2.weight_u", "2.weight_v"}
    assert (source.eval()(x).numpy() != target.eval()(x).numpy()).any()
    target.load_state_dict(state)
    assert (source(x).numpy() == target(x).numpy()).all()
    for _ in range(2):                  # and take the same way from there
        assert (source.train()(x).numpy() == target.train()(x).numpy()).all()


def gradient_by_hand(layer, x, c, u, v):
    """d/dW <c, layer(x)> with W / sigma for W, sigma = u^T W v and u, v constants:
    (G - <G, W / sigma> u v^T) / sigma, where G is the gradient by W / sigma."""
    w = opened_out(layer)
    sigma = u @ w @ v
    plain = unnormalised(layer)
    plain.weight = tensor(folded(w / sigma, layer))
    g = grad((plain(x) * c).sum(), [plain.weight])[0].numpy()
    return (g - (g * plain.weight.numpy()).sum() * folded(np.outer(u, v), layer)) / sigma


@pytest.mark.parametrize("name", SPECTRAL)
def test_u_and_v_are_constants_to_the_gradient(name):
    """And each pass keeps its own: a loss of two passes in training has the gradients of both,
    although the second has moved the buffers on."""
    make, shape = SPECTRAL[name]
    layer = doubled(nn.spectral_norm(make()))
    loss, expected, before = 0.0, 0.0, uv(layer)
    for seed in (1, 2):
        x = images(*shape, seed=seed, dtype="float64")
        y = layer(x)
        c = tensor(normal(*y.shape, seed=3 + seed))
        loss = (y * c).sum() + loss
        expected = gradient_by_hand(layer, x, c, *uv(layer)) + expected
        moved, before = [abs(a - b).max() for a, b in zip(uv(layer), before)], uv(layer)
        assert min(moved) > 1e-4        # far beyond rounding: it matters whose u and v they are
    np.testing.assert_allclose(grad(loss, [layer.weight_orig])[0].numpy(), expected, **ROUNDING)


def test_a_spectrally_normalised_network_has_slope_1():
    """Dense layers and what lies between them change distances by a factor of 1 at most, to the
    1 % to which sigma is known; of a single layer there are points that it keeps apart."""
    layers = [nn.Dense(5, 16), nn.ReLU(), nn.Dense(16, 16), nn.LeakyReLU(), nn.Dense(16, 2)]
    for layer in layers[::2]:
        layer.weight.data *= 4.0
    net, x = nn.Sequential(*layers), images(200, 5)
    far, near = images(200, 5, seed=1), x + 0.1 * images(200, 5, seed=2)

    def slopes(net, others):
        moved = np.linalg.norm(net(x).numpy() - net(others).numpy(), axis=1)
        return moved / np.linalg.norm(x.numpy() - others.numpy(), axis=1)
    assert min(slopes(net, far).max(), slopes(net, near).max()) > 2
    for layer in layers[::2]:
        nn.spectral_norm(layer)
    for _ in range(100):
        net(x)
    net.eval()
    assert max(slopes(net, far).max(), slopes(net, near).max()) <= 1.01
    along = Tensor(layers[0].weight_v[None, :])
    assert slopes(layers[0], x + along).min() == pytest.approx(1, abs=0.01)


def operator_norm(layer, *image):
    """The largest factor by which the layer stretches an image: of its matrix, that has a row for
    each pixel of `image` and what becomes of it."""
    n = math.prod(image)
    pixels = tensor(np.eye(n).reshape(n, *image), "float32")
    return np.linalg.norm(layer.eval()(pixels).numpy().reshape(n, -1), 2)


GEOMETRIES = [(3, 1, 1), (3, 1, 2), (4, 2, 1), (3, 2, 2), ((4, 2), (2, 3), (1, 0)), (2, 2, 0),
              (2, 3, 1), (1, 1, 0)]


@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
def test_how_far_a_normalised_convolution_may_stretch(kernel, stride, padding):
    """By sqrt(ceil(kh / stride) ceil(kw / stride)), a transposed one by sqrt(kh kw): with random
    weights by no more (sigma is known to 1 %), and with one output for each pixel of the window by
    just that, where an image has a pixel that lies in so many windows."""
    def pair(v):
        return v if isinstance(v, tuple) else (v, v)
    area = math.prod(pair(kernel))
    overlap = math.sqrt(math.prod(-(-k // s) for k, s in zip(pair(kernel), pair(stride))))

    def normalised(layer):
        nn.spectral_norm(layer)
        for _ in range(50):
            layer(images(1, layer.c_in, 5, 6))
        return layer
    for seed in range(3):
        rng.seed(seed)
        layer = normalised(nn.Conv2d(2, 3, kernel, stride, padding, bias=False))
        assert operator_norm(layer, 2, 5, 6) <= 1.01 * overlap
        layer = normalised(nn.ConvTranspose2d(2, 3, kernel, stride, padding, bias=False))
        assert operator_norm(layer, 2, 5, 6) <= 1.01 * math.sqrt(area)

    def one_output_each(shape, fan_in, fan_out):
        return tensor(np.eye(area).reshape(shape), "float32").data
    layer = nn.Conv2d(1, area, kernel, stride, padding, bias=False, init=one_output_each)
    assert operator_norm(nn.spectral_norm(layer), 1, 5, 6) == pytest.approx(overlap, rel=1e-5)
    layer = nn.ConvTranspose2d(1, area, kernel, stride, padding, bias=False, init=one_output_each)
    assert operator_norm(nn.spectral_norm(layer), 1, 5, 6) == pytest.approx(math.sqrt(area),
                                                                            rel=1e-5)


@pytest.mark.parametrize("make", [lambda: nn.Maxout(2, 3, 2), lambda: nn.BatchNorm(3), nn.ReLU,
                                  lambda: nn.Sequential(nn.Dense(2, 3))])
def test_spectral_norm_of_another_layer_is_refused(make):
    message = error_of(nn.spectral_norm, make())
    assert type(make()).__name__ in message and "Conv2d" in message
    with pytest.raises(TypeError):
        nn.spectral_norm(make())


# Shrinking and enlarging

def test_avg_pool_and_upsample_against_the_loop():
    x = images(2, 3, 7, 5, dtype="float64")
    pooled, enlarged = nn.AvgPool2d(2)(x).numpy(), nn.Upsample(3)(x).numpy()
    assert pooled.shape == (2, 3, 3, 2) and enlarged.shape == (2, 3, 21, 15)
    for i, j in itertools.product(range(3), range(2)):
        block = x.numpy()[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2]
        np.testing.assert_allclose(pooled[:, :, i, j], block.mean((2, 3)), **ROUNDING)
    for i, j in itertools.product(range(21), range(15)):
        assert (enlarged[:, :, i, j] == x.numpy()[:, :, i // 3, j // 3]).all()


def test_upsample_is_the_adjoint_of_avg_pool_times_the_area():
    """<upsample(x), y> = size^2 <x, avg_pool(y)>, and pooling undoes enlarging."""
    x, y = images(2, 3, 4, 5, dtype="float64"), images(2, 3, 12, 15, seed=1, dtype="float64")
    enlarge, pool = nn.Upsample(3), nn.AvgPool2d(3)
    left, right = (enlarge(x) * y).sum().item(), 9 * (x * pool(y)).sum().item()
    assert left == pytest.approx(right, abs=1e-10)                  # 1080 terms of size 1
    np.testing.assert_allclose(pool(enlarge(x)).numpy(), x.numpy(), **ROUNDING)


def test_flatten_and_reshape_undo_each_other():
    x = images(2, 3, 4, 5)
    flat = nn.Flatten()(x)
    assert flat.shape == (2, 60) and (nn.Reshape(3, 4, 5)(flat).numpy() == x.numpy()).all()


# Every layer

LAYERS = [
    (lambda: nn.Dense(4, 3), (5, 4), (5, 3)),
    (lambda: nn.Maxout(4, 3, 2), (5, 4), (5, 3)),
    (lambda: nn.Conv2d(3, 2, 3), (2, 3, 4, 6), (2, 2, 2, 4)),
    (lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1), (2, 3, 4, 6), (2, 2, 8, 12)),
    (lambda: nn.BatchNorm(3), (2, 3, 4, 6), (2, 3, 4, 6)),
    (lambda: nn.BatchNorm(3).eval(), (2, 3), (2, 3)),
    (lambda: nn.LayerNorm((4, 6)), (2, 3, 4, 6), (2, 3, 4, 6)),
    (lambda: nn.spectral_norm(nn.Dense(4, 3)), (5, 4), (5, 3)),
    (lambda: nn.spectral_norm(nn.Conv2d(3, 2, 3)), (2, 3, 4, 6), (2, 2, 2, 4)),
    (lambda: nn.spectral_norm(nn.ConvTranspose2d(3, 2, 4, 2, 1)), (2, 3, 4, 6), (2, 2, 8, 12)),
    (lambda: nn.Dropout(0.3), (5, 4), (5, 4)),
    (lambda: nn.GaussianNoise(0.3), (5, 4), (5, 4)),
    (nn.ReLU, (5, 4), (5, 4)),
    (nn.LeakyReLU, (5, 4), (5, 4)),
    (nn.Tanh, (5, 4), (5, 4)),
    (nn.Sigmoid, (5, 4), (5, 4)),
    (lambda: nn.AvgPool2d(2), (2, 3, 4, 6), (2, 3, 2, 3)),
    (lambda: nn.Upsample(2), (2, 3, 4, 6), (2, 3, 8, 12)),
    (nn.Flatten, (2, 3, 4), (2, 12)),
    (lambda: nn.Reshape(4, 3), (2, 12), (2, 4, 3)),
]


@pytest.mark.parametrize("make, shape, out", LAYERS)
def test_float32_in_float32_out_and_the_stated_shape(make, shape, out):
    layer, x = make(), images(*shape)
    y = layer(x)
    assert y.shape == out and y.dtype == np.float32 and type(y.data) is backend.xp.ndarray
    gradients = grad((y * y).sum(), [x, *layer.parameters()])
    assert all(g.dtype == np.float32 for g in gradients)
    assert all(a.dtype == np.float32 for a in arrays_of(layer).values())


@pytest.mark.parametrize("call, words", [
    (lambda: nn.Dense(4, 3)(images(5, 6)), ["(3, 4)", "(m, 4)", "(5, 6)"]),
    (lambda: nn.Dense(4, 3)(images(4)), ["(m, 4)", "(4,)"]),
    (lambda: nn.Dense(4, 3)(images(2, 1, 2, 2)), ["(m, 4)", "(2, 1, 2, 2)"]),
    (lambda: nn.Maxout(4, 3, 2)(images(5, 6)), ["(m, 4)", "(5, 6)"]),
    (lambda: nn.Conv2d(3, 2, 3)(images(2, 4, 5, 5)), ["(N, 3, H, W)", "(2, 4, 5, 5)"]),
    (lambda: nn.Conv2d(3, 2, 3)(images(2, 12)), ["(N, 3, H, W)", "(2, 12)"]),
    (lambda: nn.Conv2d(3, 2, 5)(images(2, 3, 4, 4)), ["(5, 5)", "(4, 4)", "more padding"]),
    (lambda: nn.ConvTranspose2d(3, 2, 3)(images(2, 4, 5, 5)), ["(N, 3, H, W)", "(2, 4, 5, 5)"]),
    (lambda: nn.BatchNorm(3)(images(2, 4)), ["BatchNorm(3)", "(m, 3)", "(2, 4)"]),
    (lambda: nn.BatchNorm(3)(images(2, 3, 4)), ["BatchNorm(3)", "(N, 3, H, W)", "(2, 3, 4)"]),
    (lambda: nn.LayerNorm((3, 4))(images(2, 4, 3)), ["(3, 4)", "(2, 4, 3)"]),
    (lambda: nn.LayerNorm((2, 3, 4))(images(3, 4)), ["(2, 3, 4)", "(3, 4)"]),
    (lambda: nn.AvgPool2d(5)(images(2, 3, 4, 4)), ["5", "4x4"]),
])
def test_wrong_shapes_are_named(call, words):
    message = error_of(call)
    assert all(word in message for word in words), message
    assert len(message.split()) > 6                                 # a sentence
