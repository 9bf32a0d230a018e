"""Tests of the optimisers, against their equations, and of the schedules."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from tinygan import backend, grad, nn, optim, schedules, to_numpy

from helpers import error_of, normal, tensor

SHAPES = [(2, 3), (4,), ()]


# The equations: each function yields the value of one parameter p after each of the gradients gs

def sgd(p, gs, lr, momentum):
    v = 0.0
    for g in gs:
        v = momentum * v - lr * g
        p = p + v
        yield p


def rmsprop(p, gs, lr, rho, eps):
    s = 0.0
    for g in gs:
        s = rho * s + (1 - rho) * g ** 2
        p = p - lr * g / (math.sqrt(s) + eps)
        yield p


def adam(p, gs, lr, beta1, beta2, eps, decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gs, start=1):
        g = g + decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        m_hat, v_hat = m / (1 - beta1 ** t), v / (1 - beta2 ** t)
        p = p - lr * m_hat / (math.sqrt(v_hat) + eps)
        yield p


OPTIMISERS = {
    "SGD": (lambda p: optim.SGD(p, 0.1), lambda p, gs: sgd(p, gs, 0.1, 0.0)),
    "momentum": (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p, gs: sgd(p, gs, 0.1, 0.9)),
    "RMSProp": (optim.RMSProp, lambda p, gs: rmsprop(p, gs, 1e-3, 0.99, 1e-8)),
    "RMSProp settings": (lambda p: optim.RMSProp(p, 0.1, rho=0.5, eps=0.1),
                         lambda p, gs: rmsprop(p, gs, 0.1, 0.5, 0.1)),
    "Adam": (optim.Adam, lambda p, gs: adam(p, gs, 2e-4, 0.5, 0.999, 1e-8)),
    "Adam settings": (lambda p: optim.Adam(p, 0.1, betas=(0.9, 0.8), eps=0.1),
                      lambda p, gs: adam(p, gs, 0.1, 0.9, 0.8, 0.1)),
}
# with a gradient of 0 it changes the parameters, as the others do not
DECAY = {"Adam decay": (lambda p: optim.Adam(p, 0.1, weight_decay=0.3),
                        lambda p, gs: adam(p, gs, 0.1, 0.5, 0.999, 1e-8, 0.3))}

every_optimiser = pytest.mark.parametrize("name", OPTIMISERS)


def parameters(dtype="float64"):
    return [tensor(normal(*shape, seed=i), dtype) for i, shape in enumerate(SHAPES)]


def gradients(step, dtype="float64"):
    return [tensor(normal(*shape, seed=100 * step + i), dtype) for i, shape in enumerate(SHAPES)]


@pytest.mark.parametrize("name", [*OPTIMISERS, *DECAY])
def test_each_step_equals_the_equations(name):
    """In float64 optimiser and equation differ by rounding only, in each of twelve steps.

    A few operations in each step round numbers of size 1, which gives errors of some 1e-15.
    """
    make, textbook = {**OPTIMISERS, **DECAY}[name]
    ps = parameters()
    start, opt = [p.numpy().copy() for p in ps], make(ps)
    history = [gradients(step) for step in range(12)]
    path = []
    for grads in history:
        opt.step(grads)
        path.append([p.numpy().copy() for p in ps])
    for i, shape in enumerate(SHAPES):
        for index in np.ndindex(*shape):
            gs = [float(grads[i].numpy()[index]) for grads in history]
            expected = list(textbook(float(start[i][index]), gs))
            np.testing.assert_allclose([values[i][index] for values in path], expected,
                                       rtol=0, atol=1e-13)


def test_sgd_without_momentum_is_gradient_descent():
    ps = parameters()
    start, opt = [p.numpy().copy() for p in ps], optim.SGD(ps, 0.25)
    total = [np.zeros(shape) for shape in SHAPES]
    for step in range(5):
        opt.step(gradients(step))
        total = [t + g.numpy() for t, g in zip(total, gradients(step))]
        for p, s, t in zip(ps, start, total):
            np.testing.assert_allclose(p.numpy(), s - 0.25 * t, rtol=0, atol=1e-14)     # rounding


def test_the_first_step_of_adam_has_size_lr():
    """The first step is lr g / (|g| + eps), where eps / |g| is 1e-5 at most."""
    g = np.array([1e-3, -1e-3, 1.0, -1.0, 1e3, -1e3])
    p = tensor(np.zeros(6))
    optim.Adam([p], lr=0.01).step([tensor(g)])
    np.testing.assert_allclose(p.numpy(), -0.01 * np.sign(g), rtol=2e-5)


@every_optimiser
def test_zero_gradients_change_nothing_in_the_first_step(name):
    ps = parameters()
    OPTIMISERS[name][0](ps).step([tensor(np.zeros(shape)) for shape in SHAPES])
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(ps, parameters()))


@pytest.mark.numpy_only("on a GPU a parameter is not divided")
@every_optimiser
def test_a_parameter_in_pieces_is_updated_as_a_whole(name):
    """A parameter that does not fit into the cache has the values of many small ones."""
    n, size = 300_001, 1_000
    start, *grads = (np.float32(normal(n, seed=seed)) for seed in range(4))

    def cut(a):
        return [tensor(a[i:i + size], "float32") for i in range(0, n, size)]
    whole, parts = [tensor(start.copy())], cut(start.copy())
    for ps in (whole, parts):
        opt = OPTIMISERS[name][0](ps)
        for g in grads:
            opt.step([tensor(g, "float32")] if ps is whole else cut(g))
    assert (whole[0].numpy() == np.concatenate([p.numpy() for p in parts])).all()


@every_optimiser
def test_parameters_and_averages_are_updated_in_place(name):
    """The arrays stay float32, and the gradients are not changed."""
    ps, grads = parameters("float32"), gradients(0, "float32")
    opt = OPTIMISERS[name][0](ps)
    arrays = [p.data for p in ps] + [a for averages in opt.state.values() for a in averages]
    before = [p.numpy().copy() for p in ps]
    for _ in range(2):
        opt.step(grads)
    after = [p.data for p in ps] + [a for averages in opt.state.values() for a in averages]
    assert all(a is b and a.dtype == np.float32 for a, b in zip(arrays, after, strict=True))
    assert all((p.numpy() != b).all() for p, b in zip(ps, before))
    assert all((g.numpy() == h.numpy()).all() for g, h in zip(grads, gradients(0, "float32")))


@every_optimiser
def test_t_and_state_are_the_whole_state(name):
    """A new optimiser with the t and the state of another one makes the same steps."""
    make, _ = OPTIMISERS[name]
    ps, qs = parameters(), parameters()
    opt = make(ps)
    for step in range(3):
        opt.step(gradients(step))
    resumed = make(qs)
    for p, q in zip(ps, qs):
        q.data[...] = p.data
    resumed.t = opt.t
    for key, averages in opt.state.items():
        for mine, its in zip(resumed.state[key], averages):
            mine[...] = its
    for step in range(3, 6):
        opt.step(gradients(step)), resumed.step(gradients(step))
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(ps, qs))


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, schedules.linear(0.1, 0.0, 300)),
    lambda p: optim.SGD(p, schedules.linear(0.1, 0.0, 300), momentum=0.8),
    lambda p: optim.RMSProp(p, schedules.linear(0.1, 0.0, 300), rho=0.9),
    lambda p: optim.Adam(p, schedules.cosine(0.1, 0.0, 300)),
], ids=["SGD", "momentum", "RMSProp", "Adam"])
def test_each_optimiser_minimises_a_quadratic(make):
    """The function is 1/2 sum a (x - b)^2 with curvatures a from 1/2 to 5, in float32.

    The learning rate falls to 0, because RMSProp and Adam oscillate about the minimum by the size
    of the learning rate.
    """
    a, b = tensor([0.5, 1.0, 2.0, 5.0], "float32"), tensor([1.0, -2.0, 0.0, 3.0], "float32")
    x = tensor(np.zeros(4), "float32")
    opt = make([x])
    for _ in range(300):
        opt.step(grad((a * (x - b) ** 2).sum() * 0.5, [x]))
    np.testing.assert_allclose(x.numpy(), b.numpy(), atol=2e-3)


# Schedules

@pytest.mark.host
def test_linear_schedule():
    lr = schedules.linear(0.1, 0.02, 8)
    assert [lr(0), lr(8), lr(9), lr(1000)] == pytest.approx([0.1, 0.02, 0.02, 0.02], rel=1e-14)
    assert np.diff([lr(t) for t in range(9)]) == pytest.approx([-0.01] * 8, rel=1e-12)
    momentum = schedules.linear(0.5, 0.7, 4)                            # a rising schedule
    assert [momentum(t) for t in (0, 2, 4, 5)] == pytest.approx([0.5, 0.6, 0.7, 0.7], rel=1e-14)


@pytest.mark.host
def test_exponential_schedule():
    lr = schedules.exponential(0.1, 0.9, floor=0.01)
    assert lr(0) == 0.1 and lr(10_000) == 0.01
    values = [lr(t) for t in range(40)]
    above = [v for v in values if v > 0.01]
    assert np.divide(above[1:], above[:-1]) == pytest.approx([0.9] * (len(above) - 1), rel=1e-12)
    assert len(above) == 22 and set(values[22:]) == {0.01}          # 0.9^22 is the first below 1/10
    assert schedules.exponential(0.1, 0.9)(2000) == pytest.approx(0, abs=1e-90)
    assert schedules.exponential(0.0, 2.0)(2000) == 0       # 2^2000 is no float
    assert [schedules.exponential(1.0, 0.5, begin=2)(t) for t in (0, 2, 3)] == [1, 1, 0.5]


@pytest.mark.host
def test_cosine_schedule():
    lr = schedules.cosine(0.1, 0.02, 10)
    assert [lr(0), lr(5), lr(10)] == pytest.approx([0.1, 0.06, 0.02], rel=1e-14)
    assert lr(10) == lr(11) == lr(99)
    values = np.array([lr(t) for t in range(11)])
    steps = -np.diff(values)
    assert (steps > 0).all() and steps.argmax() in (4, 5) and steps[0] < steps[4] / 5
    assert values + values[::-1] == pytest.approx(np.full(11, 0.12), rel=1e-12)
    assert schedules.cosine(0.1, 0.0, 10)(10) == 0


@pytest.mark.host
@pytest.mark.parametrize("make", [
    lambda: schedules.linear(0.1, 0.0, 0), lambda: schedules.cosine(0.1, 0.0, -1)])
def test_a_schedule_of_no_steps_is_refused(make):
    with pytest.raises(ValueError, match="steps above 0"):
        make()


def test_a_growing_learning_rate_ends_in_a_sentence():
    """As in a test of the range of rates; Python's power raises OverflowError at some step."""
    lr = schedules.exponential(1e-5, 1.01)
    assert lr(100) == pytest.approx(1e-5 * 1.01 ** 100, rel=1e-12) and lr(10 ** 5) == math.inf
    opt = optim.SGD([tensor([1.0])], lr)
    opt.t = 10 ** 5
    assert "lr at step 100000 must be a number of at least 0" in error_of(
        opt.step, [tensor([1.0])])


def test_schedules_are_called_with_the_number_of_steps_taken():
    asked = {"lr": [], "momentum": []}

    def schedule(name, values):
        return lambda t: asked[name].append(t) or values[t]
    p = tensor([0.0])
    opt = optim.SGD([p], schedule("lr", [1.0, 10.0, 100.0]), schedule("momentum", [0.9, 0.5, 0.0]))
    positions = []
    for t in range(3):
        assert opt.t == t
        opt.step([tensor([1.0])])
        positions.append(p.item())
    # v = -1, then 0.5 * -1 - 10, then -100
    assert positions == [-1.0, -11.5, -111.5]
    assert asked == {"lr": [0, 1, 2], "momentum": [0, 1, 2]}


@pytest.mark.parametrize("make", [optim.SGD, optim.RMSProp, optim.Adam])
def test_a_schedule_is_the_same_for_all_parameters(make):
    """Two equal parameters with equal gradients stay equal.

    A constant schedule is the same as the number.
    """
    ps, qs = parameters(), parameters()
    falling = lambda t: 0.1 / (1 + t)
    twice, once = make(ps + parameters(), falling), make(qs, falling)
    for step in range(4):
        twice.step(gradients(step) * 2), once.step(gradients(step))
    n = len(SHAPES)
    for p, other, q in zip(twice.parameters[:n], twice.parameters[n:], qs):
        assert (p.numpy() == other.numpy()).all() and (p.numpy() == q.numpy()).all()
    number, schedule = make(ps, 0.1), make(qs, lambda t: 0.1)
    for step in range(4):
        number.step(gradients(step)), schedule.step(gradients(step))
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(ps, qs))


# Refused arguments

@pytest.mark.parametrize("spoil, words", [
    (lambda gs: gs[:-1], ["[(2, 3), (4,), ()]", "[(2, 3), (4,)]"]),
    (lambda gs: gs + gs[:1], ["[(2, 3), (4,), ()]", "[(2, 3), (4,), (), (2, 3)]"]),
    (lambda gs: [gs[1], gs[0], gs[2]], ["[(2, 3), (4,), ()]", "[(4,), (2, 3), ()]"]),
    # these shapes would broadcast
    (lambda gs: [gs[0].sum(0), gs[1], gs[2]], ["[(2, 3), (4,), ()]", "[(3,), (4,), ()]"]),
    (lambda gs: [], ["[(2, 3), (4,), ()]", "[]"]),
])
@every_optimiser
def test_gradients_of_other_shapes_are_refused_and_nothing_changes(name, spoil, words):
    ps = parameters()
    opt = OPTIMISERS[name][0](ps)
    message = error_of(opt.step, spoil(gradients(0)))
    assert all(word in message for word in words), message
    assert opt.t == 0 and all((p.numpy() == q.numpy()).all() for p, q in zip(ps, parameters()))
    assert not any(to_numpy(a).any() for averages in opt.state.values() for a in averages)


@every_optimiser
def test_parameters_that_are_no_list_of_leaves_are_refused(name):
    make, net = type(OPTIMISERS[name][0](parameters())), nn.Dense(2, 3)
    for nothing in ([], (), {}, iter([]), nn.ReLU().parameters()):
        assert "at least one parameter" in error_of(make, nothing, 0.1)
    for no_list in (net.weight, net, None, 3):
        assert "a list of Tensors" in error_of(make, no_list, 0.1)
    for no_tensor in ([net.weight.data], ["weight"], net.state_dict(), [net]):
        assert "an optimiser updates Tensors" in error_of(make, no_tensor, 0.1)
    for computed in (net.weight * 1.0, net.weight.T):
        assert "updates leaves" in error_of(make, [computed], 0.1)


@every_optimiser
def test_learning_rates_are_numbers_of_at_least_0(name):
    make = type(OPTIMISERS[name][0](parameters()))
    for wrong in (-0.1, float("nan"), float("inf"), "fast", None, [0.1, 0.2], -1e-300):
        message = error_of(make, parameters(), wrong)
        assert "lr" in message and repr(wrong) in message
        if not isinstance(wrong, str):      # a schedule is checked in each step
            ps = parameters()
            opt = make(ps, lambda t: 0.1 if t < 1 else wrong)
            opt.step(gradients(0))
            before = [p.numpy().copy() for p in ps]
            assert "lr at step 1" in error_of(opt.step, gradients(1)) and opt.t == 1
            assert all((p.numpy() == b).all() for p, b in zip(ps, before))
    make(parameters(), 0.0).step(gradients(0))


def test_the_other_settings_are_checked_too():
    ps = parameters()
    for make in (lambda: optim.SGD(ps, 0.1, momentum=1.0), lambda: optim.SGD(ps, 0.1, -0.5),
                 lambda: optim.RMSProp(ps, 0.1, rho=1.5), lambda: optim.RMSProp(ps, eps=-1e-8),
                 lambda: optim.Adam(ps, betas=(1.0, 0.9)), lambda: optim.Adam(ps, betas=0.9),
                 lambda: optim.Adam(ps, betas=(0.5, float("nan"))),
                 lambda: optim.Adam(ps, betas=(0.5,)), lambda: optim.Adam(ps, eps=float("nan")),
                 lambda: optim.SGD(ps, 0.1, lambda t: 1.0).step(gradients(0))):
        assert "got" in error_of(make)


@pytest.mark.parametrize("sizes", [(1.0, 1e-4), (1.0, 1e-6), (1e3, 1e-6), (1e-3, 1e-12)])
def test_adam_with_betas_0_moves_by_the_learning_rate(sizes):
    """With both betas 0, m = g and v = g^2, so each step is lr g / |g|.

    This must hold after a much larger gradient too: v + (g^2 - v) would be 0 in float32 where v is
    more than 2^24 times g^2.
    """
    p = tensor([0.0, 0.0], "float32")
    opt = optim.Adam([p], 0.5, betas=(0.0, 0.0), eps=0.0)
    for size in sizes:
        opt.step([tensor([size, -size], "float32")])
    assert p.numpy().tolist() == [-1.0, 1.0]


def test_parameters_and_gradients_may_come_from_a_generator():
    ps = parameters()
    opt = optim.SGD((p for p in ps), 0.1)
    opt.step(g for g in gradients(0))
    assert opt.t == 1 and all((p.numpy() != q.numpy()).all() for p, q in zip(ps, parameters()))
    assert all(type(a) is backend.xp.ndarray for a in opt.state["v"])


def test_a_parameter_given_twice_is_updated_once():
    p = tensor([1.0])
    opt = optim.SGD([p, p], 0.5)
    opt.step([tensor([1.0])])
    assert p.item() == 0.5


def test_a_parameter_that_is_not_contiguous_is_refused():
    """The update works on a flat view, and an array that is not contiguous has none."""
    p = tensor(normal(3, 2))
    p.data = p.data[:, :1]
    assert "contiguous" in error_of(optim.SGD([p], 0.5).step, [p])
    q = tensor(normal(3, 2))
    opt = optim.SGD([q], 0.5)
    q.data = q.data.T.copy().T                  # the averages exist already, in the old order
    assert "in place, as in p.data[...] = values" in error_of(opt.step, [q]) and opt.t == 0


@pytest.mark.numpy_only("cupy's arrays are all writeable")
def test_a_read_only_parameter_is_refused():
    """Nothing has changed then."""
    p, q = tensor([1.0]), tensor(np.ones(2))
    opt = optim.Adam([p, q], 0.5)
    q.data.flags.writeable = False
    message = error_of(opt.step, [p, q])
    assert "read-only" in message and opt.t == 0 and p.item() == 1 and opt.state["m"][0] == 0


def test_a_parameter_of_another_dtype_needs_another_optimiser():
    """Its moments would stay in the old one."""
    p = tensor([1.0], "float32")
    opt = optim.Adam([p], 0.5)
    p.data = p.data.astype("float64")
    assert "another dtype" in error_of(opt.step, [p]) and opt.t == 0


def test_what_is_no_list_of_gradients_is_refused():
    p = tensor([1.0])
    for wrong in p.data, 1.0, None:
        assert "step takes Tensors, as grad() returns them" in error_of(
            optim.SGD([p], 0.5).step, [wrong])
    assert "step takes a list of gradients" in error_of(optim.SGD([p], 0.5).step, (p * p).sum())


@pytest.mark.parametrize("optimiser", [optim.SGD, optim.RMSProp, optim.Adam])
def test_memory_order_of_parameter_and_gradient_does_not_matter(optimiser):
    start, g = normal(3, 4, 5), normal(3, 4, 5)
    moved = []
    for of_p, of_g in itertools.product(itertools.permutations(range(3)), repeat=2):
        p, back = tensor(start.transpose(of_p).copy()), np.argsort(of_p)
        p.data = p.data.transpose([int(i) for i in back])
        gradient = tensor(g.transpose(of_g).copy()).transpose(*[int(i) for i in np.argsort(of_g)])
        opt = optimiser([p], 0.1)
        opt.step([gradient]), opt.step([gradient])
        moved.append(p.numpy())
    assert all((m == moved[0]).all() for m in moved) and (moved[0] != start).all()


@pytest.mark.numpy_only("cupy's products return other layouts")
@pytest.mark.parametrize("make, shape", [
    (lambda: nn.Dense(5, 4), (3, 5)), (lambda: nn.Maxout(5, 4, 2), (3, 5)),
    (lambda: nn.Conv2d(2, 3, 2), (3, 2, 4, 4)),
    (lambda: nn.ConvTranspose2d(2, 3, 2), (3, 2, 4, 4))])
def test_the_gradient_of_a_weight_lies_in_memory_as_the_weight(make, shape):
    """So the optimiser reads both without a copy."""
    layer = make()
    y = layer(tensor(np.random.default_rng(0).normal(size=shape), "float32"))
    (g,) = grad((y * y).sum(), [layer.weight])
    order = lambda a: sorted(range(a.ndim), key=lambda i: -a.strides[i])
    assert order(g.data) == order(layer.weight.data) != list(range(g.ndim))
    assert g.data.transpose(order(g.data)).flags.c_contiguous


def test_a_linear_schedule_can_begin_later():
    rate = schedules.linear(2.0, 0.0, 10, begin=5)
    assert [rate(t) for t in (0, 5, 10, 15, 99)] == [2.0, 2.0, 1.0, 0.0, 0.0]


@pytest.mark.host
@pytest.mark.parametrize("make", [
    lambda: schedules.cosine("a", 0, 10), lambda: schedules.cosine(1e-3, None, 10),
    lambda: schedules.cosine(1e-3, 0.0, "10"), lambda: schedules.linear(1.0, 0.0, math.nan),
    lambda: schedules.exponential(1.0, "0.9"), lambda: schedules.exponential(1.0, 0.9, math.nan),
    lambda: schedules.linear(1, 0, 10 ** 400)])
def test_a_schedule_is_made_of_numbers(make):
    with pytest.raises(ValueError, match="made of numbers, got "):
        make()


@pytest.mark.host
def test_a_schedule_of_ones_own_may_have_other_fields():
    @dataclasses.dataclass(frozen=True)
    class Named(schedules.linear):
        name: str = "lr"
    assert Named(1.0, 0.0, 10)(5) == 0.5
    with pytest.raises(ValueError, match="made of numbers, got "):
        Named("1", 0.0, 10)


@pytest.mark.host
@pytest.mark.parametrize("steps", [0, -5])
def test_a_schedule_has_a_number_of_steps_above_0(steps):
    for make in (lambda: schedules.linear(1.0, 0.0, steps), lambda: schedules.cosine(1, 0, steps)):
        with pytest.raises(ValueError, match="above 0"):
            make()


def test_a_parameter_of_another_shape_needs_a_new_optimiser():
    """Averages (2, 3) would be added to a parameter (3, 2) in the order of memory."""
    for shape in ((3, 2), (4,)):
        p = tensor(normal(2, 3), "float32")
        opt = optim.SGD([p], 1.0, 0.5)
        opt.step([tensor(normal(2, 3), "float32")])
        p.data = backend.xp.zeros(shape, "float32")
        with pytest.raises(ValueError, match="state have the shapes of its parameters"):
            opt.step([tensor(np.zeros(shape), "float32")])
        assert not p.numpy().any() and opt.t == 1


def test_an_update_of_ones_own_gets_whole_arrays():
    """It may need a norm of all numbers, and draws random numbers in a fixed order.

    The arrays are flat, because reshape(-1) would copy a weight whose inputs lie first in memory.
    """
    class Normalised(optim.Optimizer):
        state_names = ("total",)

        def update(self, numbers, p, g, total):
            total += g
            p -= numbers[0] * g / backend.xp.sqrt((g * g).sum())
            seen.append((p.shape, g.shape, total.shape))
    seen, n = [], 700_000                       # 2.8 MB: more than a piece
    p, q = tensor(np.zeros(n), "float32"), nn.Dense(2, 3).weight
    q.data[...] = 0
    Normalised([p, q], 0.5).step([tensor(np.ones(x.shape), "float32") for x in (p, q)])
    assert seen == [((n,),) * 3, ((6,),) * 3]
    for moved in (p, q):                        # sums of squares of float32 round by 1e-7
        assert np.linalg.norm(np.float64(moved.numpy())) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.host
def test_numbers_of_ones_own_are_a_tuple():
    class Bare(optim.SGD):
        def numbers(self):
            return 0.1
    p = tensor([1.0])
    opt = Bare([p], 0.5)
    assert "numbers() of Bare returns a tuple" in error_of(opt.step, [tensor([1.0])])
    assert p.item() == 1.0 and opt.t == 0


def test_an_update_that_changes_nothing_in_place_is_refused():
    """One that makes another array would train nothing, without a word."""
    class Rebinding(optim.SGD):
        def update(self, numbers, p, g, v):
            p = p - numbers[0] * g

    class Returning(optim.SGD):
        def update(self, numbers, p, g, v):
            p -= numbers[0] * g
            return p

    class Misplaced(optim.SGD):
        def update(self, numbers, p, g, v):
            g *= numbers[0]
            p = p - g
    for kind in (Rebinding, Returning, Misplaced):
        with pytest.raises(TypeError, match=rf"update\(\) of {kind.__name__} .* in place"):
            kind([tensor([1.0, 2.0])], 0.5).step([tensor([0.0, 1.0])])


def test_an_update_may_do_nothing():
    """It does so for gradients of 0 and a rate of 0; one that adds up gradients changes v alone."""
    class Own(optim.SGD):
        def update(self, numbers, p, g, v):
            p -= numbers[0] * g

    class Adding(optim.SGD):
        def update(self, numbers, p, g, v):
            v += g
            if self.t % 2 == 0:
                p -= numbers[0] * v
                v[...] = 0
    p, one = tensor([1.0, 2.0]), tensor([0.0, 1.0])
    Own([p], 0.5).step([tensor([0.0, 0.0])])
    opt = Own([p], lambda t: 0.5 * t, momentum=0.9)         # a warm-up
    opt.step([one])
    assert p.numpy().tolist() == [1.0, 2.0]
    opt.step([one])
    assert p.numpy().tolist() == [1.0, 1.5]
    opt = Adding([p], 0.5)
    opt.step([one])
    opt.step([one])
    assert p.numpy().tolist() == [1.0, 0.5]


def test_a_step_that_fails_leaves_no_graph_that_would_be_wrong():
    """The first parameter has been changed when the second one cannot be: y is refused."""
    class Failing(optim.SGD):
        def update(self, numbers, p, g, v):
            if len(p) == 1:
                raise RuntimeError
            super().update(numbers, p, g, v)
    p, q = tensor([1.0, 2.0]), tensor([3.0])
    y = (p * p).sum() + q.sum()
    with pytest.raises(RuntimeError):
        Failing([p, q], 0.1).step(grad(y, [p, q]))
    assert p.numpy()[0] == 1.0 - 0.1 * 2.0
    assert "written to since" in error_of(grad, y, [p])


@pytest.mark.numpy_only("a GPU updates each array by one launch")
def test_only_large_parameters_are_updated_in_pieces(monkeypatch):
    """The operations on a small parameter's pieces would take less time than to share them."""
    pieces = []
    monkeypatch.setattr(optim, "_adam", lambda numbers, g, *_: pieces.append(len(g)))
    for n, count in (64, 1), (256, 1), (512, 4):
        p = tensor(normal(n, n), "float32")
        optim.Adam([p]).step([p])
        assert len(pieces) == count and sum(pieces) == n * n
        pieces.clear()
