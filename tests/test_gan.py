"""The GAN game (Goodfellow et al. 2014) and the loop that plays it: formulas, order and theory."""

import itertools
import math
import pathlib
import sys

import numpy as np
import pytest

from tinygan import Tensor, backend, grad, nn, ops, optim, play, rng, to_numpy
from tinygan.backend import UserError
from tinygan.data import Minibatches
from tinygan.games import GAN, losses
from tinygan.loop import both_step, d_step, draw, g_step
from tinygan.random import Random

from helpers import error_of, normal, tensor

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
import theory


def small_game(loss=None, dropout=0.3, **choices):
    G = nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 2))
    D = nn.Sequential(nn.Dropout(dropout), nn.Maxout(2, 6, 2), nn.Dropout(dropout), nn.Dense(6, 1))
    return GAN(G, D, z_size=3, loss=loss, **choices)


def points(m=5):
    return Minibatches(np.float32(normal(40, 2)), m)


def weights(player):
    return {name: p.numpy().copy() for name, p in player.named_arrays(Tensor).items()}


def same(a, b):
    return all((a[name] == b[name]).all() for name in a)


# The losses

def test_losses_are_equation_1():
    """With p = D(x) and q = D(G(z)): d_loss = -log p - log(1 - q), g_loss log(1 - q) or -log q."""
    game = small_game(dropout=0.0)
    x, z = tensor(normal(5, 2), "float32"), game.noise(5, rng, 0)
    p = 1 / (1 + np.exp(-np.float64(game.D(x).numpy())))
    q = 1 / (1 + np.exp(-np.float64(game.D(game.G(z)).numpy())))
    rounding = dict(rel=1e-5)       # float32 sums of ten terms
    assert game.d_loss(x, z).item() == pytest.approx(-np.log(p).mean() - np.log(1 - q).mean(),
                                                     **rounding)
    assert game.g_loss(x, z).item() == pytest.approx(-np.log(q).mean(), **rounding)
    saturating = GAN(game.G, game.D, 3, losses.Saturating())
    assert saturating.d_loss(x, z).item() == game.d_loss(x, z).item()
    assert saturating.g_loss(x, z).item() == pytest.approx(np.log(1 - q).mean(), **rounding)
    seen = {name: float(to_numpy(value)) for name, value in game.seen.items()}
    assert seen["D(x)"] == pytest.approx(p.mean(), **rounding)
    assert seen["D(G(z))"] == pytest.approx(q.mean(), **rounding)


def test_the_saturating_gradient_vanishes_where_d_rejects_and_the_other_does_not():
    """d/da log(1 - sigmoid(a)) = -sigmoid(a), d/da -log sigmoid(a) = -sigmoid(-a) at D's
    logit a."""
    for a in (-20.0, 0.0, 20.0):
        logit = tensor([a])
        slopes = {}
        for loss in (losses.Saturating(), losses.NonSaturating()):
            game = GAN(nn.Sequential(), nn.Sequential(), loss=loss)
            slopes[type(loss)] = grad(game.g_loss(None, logit), [logit])[0].item()
        assert slopes[losses.Saturating] == pytest.approx(-1 / (1 + math.exp(-a)), rel=1e-12)
        assert slopes[losses.NonSaturating] == pytest.approx(-1 / (1 + math.exp(a)), rel=1e-12)


def test_losses_from_one_pass_are_the_two_losses():
    game = small_game(dropout=0.0)
    x, z = tensor(normal(5, 2), "float32"), game.noise(5, rng, 0)
    d_loss, g_loss = game.losses(x, z)
    assert d_loss.item() == game.d_loss(x, z).item() and g_loss.item() == game.g_loss(x, z).item()


def test_noise_has_mean_0_and_variance_1():
    z = small_game().noise(40_000, rng, 0).numpy()
    n = z.size
    assert z.dtype == np.float32 and abs(z).max() <= 3 ** 0.5
    assert abs(z.mean()) < 4 / n ** 0.5             # 4 standard errors; var(z^2) = 9/5 - 1
    assert abs((z ** 2).mean() - 1) < 4 * (0.8 / n) ** 0.5


def test_the_loss_is_by_default_the_non_saturating_one():
    assert small_game().loss == GAN.loss == losses.NonSaturating() != losses.Saturating()


# The loop

def test_each_step_moves_its_own_player_only():
    game = small_game()
    d_opt, g_opt = (optim.SGD(p, 0.1, 0.5) for p in (game.d_parameters(), game.g_parameters()))
    batches = points()
    for step, opt, moved, still in ((d_step, d_opt, game.D, game.G),
                                    (g_step, g_opt, game.G, game.D)):
        before = weights(moved), weights(still)
        step(game, opt, *draw(game, batches, 5, rng, 0))
        assert not same(before[0], weights(moved)) and same(before[1], weights(still))


def test_algorithm_1_k_discriminator_steps_on_fresh_minibatches_then_one_generator_step():
    game, trace = small_game(d_steps=lambda i: 2 if i == 0 else 1), []
    batches = traced(game, trace)
    assert played(game, 2) == [0, 1]
    assert [who for who, _, _ in trace] == ["begin", "D", "after D", "D", "after D", "G", "after G",
                                            "begin", "D", "after D", "G", "after G"]
    assert len(np.unique(batches(), axis=0)) == 25


def test_several_generator_steps_each_on_a_fresh_minibatch():
    game, trace = small_game(g_steps=lambda i: i - 2), []
    batches = traced(game, trace)
    assert played(game, 5, start=3) == [3, 4]
    assert [who for who, _, _ in trace] == ["begin", "D", "after D", "G", "after G",
                                            "begin", "D", "after D", "G", "after G", "G", "after G"]
    assert len(np.unique(batches(), axis=0)) == 25


def traced(game, trace):
    """Note in `trace` what play() does, (what, x, z). The function that is returned gives all
    examples that the steps were on, after a look at their noise: each step has its own, which was
    drawn just for it."""
    drawn = []
    d_loss, g_loss, noise = game.d_loss, game.g_loss, game.noise
    game.noise = lambda m, rng, i: drawn.append(noise(m, rng, i)) or drawn[-1]
    game.d_loss = lambda x, z: trace.append(("D", to_numpy(x.data), z)) or d_loss(x, z)
    game.g_loss = lambda x, z: trace.append(("G", to_numpy(x.data), z)) or g_loss(x, z)
    game.begin = lambda i: trace.append(("begin", None, None))
    game.after_d_step = lambda: trace.append(("after D", None, None))
    game.after_g_step = lambda: trace.append(("after G", None, None))

    def batches():
        steps = [(x, z) for who, x, z in trace if who in "DG"]
        assert [z for _, z in steps] == drawn
        return np.concatenate([x for x, _ in steps])
    return batches


def played(game, iterations, order="alternating", **settings):
    """The numbers of the iterations that are played."""
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    return [i for i, _, _ in play(game, points(), *opts, 5, rng, iterations, order=order,
                                  **settings)]


def test_no_iterations_are_none():
    assert played(small_game(), 0) == []
    with pytest.raises(ValueError, match="at least 0 iterations, got -1"):
        played(small_game(), -1)


def test_a_minibatch_of_bytes_is_refused():
    bytes_ = itertools.repeat(backend.xp.zeros((5, 4, 4), "uint8"))
    game = small_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    with pytest.raises(TypeError, match="as_floats"):
        next(play(game, bytes_, *opts, 5, rng, 1))


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_begin_comes_before_all_else_of_an_iteration(order):
    """The number of steps too: what is set there is what the iteration sees."""
    game, trace = small_game(d_steps=lambda i: trace.append(("steps", i)) or 1), []
    noise = game.noise
    game.begin = lambda i: trace.append(("begin", i))
    game.noise = lambda m, rng, i: trace.append(("noise", i)) or noise(m, rng, i)
    assert played(game, 5, order, start=3) == [3, 4]
    draws = ["noise"] * (2 if order == "alternating" else 1)
    assert trace == [(what, i) for i in (3, 4) for what in ("begin", "steps", *draws)]


@pytest.mark.parametrize("steps", ["d_steps", "g_steps"])
def test_in_simultaneous_play_each_player_moves_once(steps):
    game = small_game(**{steps: lambda i: 2 if i == 3 else 1})
    assert played(game, 3, "simultaneous") == [0, 1, 2]
    with pytest.raises(UserError, match="one step of each, not (2 and 1|1 and 2), or in alter"):
        played(game, 4, "simultaneous")


class Stage(nn.Sequential):
    """A network whose last part is not used yet."""

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x)
        return x


class Staged(GAN):
    unused = "zeros"


@pytest.mark.parametrize("player", ["D", "G"])
@pytest.mark.parametrize("step", [d_step, g_step, both_step])
def test_parameters_that_a_stage_does_not_use(player, step):
    """Their gradient is zero where the game says so: they stay, the others move. Else it is an
    error, by the step of that player alone."""
    G, D = nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 1))
    later = nn.Dense(1, 1)
    G, D = (Stage(*net.layers, later) if name == player else net
            for name, net in (("G", G), ("D", D)))

    def gradients(game):
        opts = {d_step: "D", g_step: "G", both_step: "DG"}[step]
        opts = [Noting(game.d_parameters() if name == "D" else game.g_parameters(), 0.1)
                for name in opts]
        step(game, *opts, *draw(game, points(), 5, rng, 0))
        return {p: g for opt in opts for p, g in zip(opt.parameters, opt.seen)}
    still = {p for p, g in gradients(Staged(G, D, 3)).items() if not g.any()}
    if step in (both_step, {"D": d_step, "G": g_step}[player]):
        assert still == set(later.parameters())
        assert "does not depend" in error_of(gradients, GAN(G, D, 3))
    else:
        assert not still
        gradients(GAN(G, D, 3))


class Noting(optim.SGD):
    """It keeps the gradients of its last step, as arrays."""

    def step(self, grads):
        self.seen = [g.numpy() for g in grads]
        super().step(grads)


def test_simultaneous_play_moves_both_from_where_both_were():
    """One x, one z, one set of masks; G's gradient does not see D's step."""
    def gradients():
        rng.seed(3)
        game = small_game()
        x, z, masks = draw(game, points(), 5, rng, 0)
        with nn.drawing_from(Random(masks)):
            d_loss, g_loss = game.losses(x, z)
        return game, grad(d_loss, game.d_parameters()), grad(g_loss, game.g_parameters())
    game, d_grads, g_grads = gradients()
    expected = [p.numpy() - 0.1 * g.numpy() for p, g in
                zip(game.d_parameters() + game.g_parameters(), d_grads + g_grads)]
    rng.seed(3)
    game = small_game()
    d_opt, g_opt = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    for _ in play(game, points(), d_opt, g_opt, 5, rng, 1, order="simultaneous"):
        pass
    for p, e in zip(game.d_parameters() + game.g_parameters(), expected):
        np.testing.assert_allclose(p.numpy(), e, rtol=1e-6, atol=1e-7)      # float32 rounding


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_same_seed_same_run_bit_for_bit(order):
    def run(seed):
        rng.seed(seed)
        game = small_game()
        d_opt = optim.Adam(game.d_parameters())
        g_opt = optim.Adam(game.g_parameters())
        losses = [(d.item(), g.item()) for _, d, g in
                  play(game, points(), d_opt, g_opt, 5, rng, 20, order=order)]
        return losses, game.state_dict()
    (losses, state), (again, state_again), (other, _) = run(1), run(1), run(2)
    assert losses == again and same(state, state_again) and losses != other


def test_a_step_is_a_function_of_its_arguments():
    """Everything random was drawn before: the same step from the same weights is the same."""
    game = small_game()
    x, z, masks = draw(game, points(), 5, rng, 0)
    state, results = game.state_dict(), []
    for _ in range(2):
        game.load_state_dict(state)
        loss = d_step(game, optim.SGD(game.d_parameters(), 0.1), x, z, masks)
        results.append((loss.item(), game.state_dict()))
        rng.normal((7,))                # what others draw in between does not matter
    assert results[0][0] == results[1][0] and same(results[0][1], results[1][1])


def test_what_is_yielded_holds_no_graph():
    """Or all of a step's arrays would be kept for as long as its loss is looked at."""
    game = small_game()
    d_opt, g_opt = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    for order in ("alternating", "simultaneous"):
        for _, d_loss, g_loss in play(game, points(), d_opt, g_opt, 5, rng, 1, order=order):
            assert d_loss.parents == g_loss.parents == ()


def pictures(low, high):
    """Minibatches of pictures from low to high, of which the first has both ends."""
    return iter([backend.xp.asarray(np.linspace(low, high, 80, dtype="float32")
                                    .reshape(5, 1, 4, 4))] * 4)


def drawing(last):
    return GAN(nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4), nn.Sequential(last)),
               nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)


@pytest.mark.parametrize("last, low, high, fits", [
    (nn.Sigmoid(), 0, 1, True), (nn.Sigmoid(), 0.2, 1.02, True), (nn.Sigmoid(), -1, 1, False),
    (nn.Sigmoid(), 0, 255, False), (nn.Tanh(), -1, 1, True), (nn.Tanh(), 0, 1, False),
    (nn.Tanh(), -1, 255, False), (nn.Tanh(), 0.1, 0.9, False), (nn.ReLU(), -1, 5, True)])
def test_images_of_another_range_than_gs_are_refused(last, low, high, fits):
    """D could tell them apart by their range alone."""
    game = drawing(last)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    played = play(game, pictures(low, high), *opts, 5, rng, 1)
    if fits:
        assert next(played)[0] == 0
    else:
        with pytest.raises(UserError, match=f"pixels from {low} to {high}: .*scale the data"):
            next(played)


@pytest.mark.parametrize("last", [
    ops.sigmoid, nn.Sequential(nn.Sigmoid(), nn.Reshape(1, 4, 4)),
    nn.Sequential(nn.Sigmoid(), nn.Flatten(), nn.Sequential(nn.Reshape(1, 4, 4))),
    nn.Sequential(ops.sigmoid, nn.Upsample(1)), ops.tanh, nn.Sequential(nn.Tanh(), nn.Flatten()),
    nn.Sequential(nn.Sequential(nn.Tanh()), nn.Sequential(), nn.Sequential(nn.Sequential()))])
def test_the_range_is_that_of_the_last_layer_that_changes_numbers(last):
    """A function is as good as a layer, and what only moves numbers does not count."""
    game = drawing(last)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    least = 0 if "igmoid" in repr(last) else -1
    assert next(play(game, pictures(least, 1), *opts, 5, rng, 1))[0] == 0
    with pytest.raises(UserError, match="scale the data"):
        next(play(game, pictures(least, 255), *opts, 5, rng, 1))


def test_a_sequential_with_a_forward_of_its_own_ends_in_no_layer():
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)
    game = drawing(Residual(nn.Tanh()))
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    assert next(play(game, pictures(0, 5), *opts, 5, rng, 1))[0] == 0
    GAN(game.G, nn.Sequential(nn.Dense(2, 1), Residual(nn.Sigmoid())))


def test_the_range_of_images_in_tuples_is_checked_too():
    class Labelled(GAN):
        def real(self, x):
            return x[1][0]
    game, labels = drawing(nn.Sigmoid()), backend.xp.arange(5)
    game = Labelled(game.G, game.D, 3)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    for high in 1, 255:
        data = ((labels, (x,)) for x in pictures(0, high))
        if high == 1:
            assert next(play(game, data, *opts, 5, rng, 1))[0] == 0
        else:
            with pytest.raises(UserError, match="pixels from 0 to 255"):
                next(play(game, data, *opts, 5, rng, 1))


def test_the_range_of_points_is_their_own():
    game = GAN(nn.Sequential(nn.Dense(3, 2), nn.Tanh()), nn.Dense(2, 1), 3)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    data = iter([backend.xp.ones((5, 2), "float32")] * 2)
    assert next(play(game, data, *opts, 5, rng, 1))[0] == 0


def test_minibatches_may_be_tuples_with_labels():
    """Nested as their game says: floats become Tensors, whole numbers stay arrays."""
    labels = backend.xp.arange(5)
    data = iter([(x, (labels, (x,))) for x, _ in zip(points(), range(3))])
    (x, (its, (same,))), z, _ = draw(small_game(), data, 5, rng, 0)
    assert type(x) is Tensor is type(same) and its is labels


def test_the_number_of_steps_is_checked():
    game = small_game()
    for name in ("d_steps", "g_steps"):
        game = small_game(**{name: lambda i: 0})
        assert f"{name} is 0 in iteration 4" in error_of(
            lambda: next(play(game, points(), None, None, 5, rng, 5, start=4)))
    assert "-1" in error_of(lambda: next(play(game, points(), None, None, 5, rng, -1)))


def test_unknown_order_is_refused():
    message = error_of(lambda: next(play(small_game(), points(), None, None, 5, rng, 1,
                                         order="G first")))
    assert "'G first'" in message and "simultaneous" in message


def test_each_step_drops_out_its_own_units():
    """Given the same input and weights, D gives another output in each step."""
    game, probe, seen = small_game(dropout=0.5), tensor(normal(4, 2), "float32"), []

    def loss(x, z):
        seen.append(game.D(probe).numpy())
        return game.D(game.G(z)).mean()
    game.d_loss = game.g_loss = loss
    game.d_steps = 2
    still = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    for _ in play(game, points(), *still, 5, rng, 2):
        pass
    assert len(seen) == 6
    assert all((a != b).any() for i, a in enumerate(seen) for b in seen[:i])


# The theory

@pytest.mark.parametrize("data, model", theory.PAIRS)
def test_optimal_discriminator_and_the_value_of_the_game(data, model):
    """What the network and the quantiles miss is about .01 and 1e-3; they must not miss .02 and
    .005."""
    error, value, expected = theory.optimal_discriminator(data, model)
    assert error <= 0.02 and abs(value - expected) <= 0.005
    if data == model:
        assert expected == pytest.approx(-math.log(4), abs=1e-12)
    else:
        assert expected > -math.log(4) + 0.01
