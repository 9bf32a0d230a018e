"""Tests of the GAN game (Goodfellow et al. 2014) and of play(): losses, order of steps, theory."""

import itertools
import math
import pathlib
import re
import sys

import numpy as np
import pytest

from tinygan import Tensor, backend, grad, nn, ops, optim, play, rng, to_numpy
from tinygan.backend import UserError
from tinygan.games import GAN, losses
from tinygan.loop import both_step, d_step, draw, g_step, make_source

from helpers import all_equal, copy_parameters, error_of, make_batches, normal, softplus, tensor

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
import evaluate
import sample
import theory


def make_game(loss=None, dropout=0.3, **choices):
    G = nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 2))
    D = nn.Sequential(nn.Dropout(dropout), nn.Maxout(2, 6, 2), nn.Dropout(dropout), nn.Dense(6, 1))
    return GAN(G, D, z_size=3, loss=loss, **choices)


# The losses

def test_losses_equal_equation_1():
    """With p = D(x), q = D(G(z)): d_loss = -log p - log(1 - q), g_loss = -log q or log(1 - q)."""
    game = make_game(dropout=0.0)
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    p = 1 / (1 + np.exp(-np.float64(game.D(x).numpy())))
    q = 1 / (1 + np.exp(-np.float64(game.D(game.G(z)).numpy())))
    rounding = dict(rel=1e-5)       # float32 sums of ten terms
    assert game.d_loss(x, z).item() == pytest.approx(-np.log(p).mean() - np.log(1 - q).mean(),
                                                     **rounding)
    assert game.g_loss(x, z).item() == pytest.approx(-np.log(q).mean(), **rounding)
    saturating = GAN(game.G, game.D, 3, losses.Saturating())
    assert saturating.d_loss(x, z).item() == game.d_loss(x, z).item()
    assert saturating.g_loss(x, z).item() == pytest.approx(np.log(1 - q).mean(), **rounding)
    logged = {name: float(to_numpy(value)) for name, value in game.logged.items()}
    assert logged["D(x)"] == pytest.approx(p.mean(), **rounding)
    assert logged["D(G(z))"] == pytest.approx(q.mean(), **rounding)


def test_only_the_saturating_gradient_vanishes_where_d_rejects_samples():
    """At D's logit a the gradients are -sigmoid(a) and -sigmoid(-a).

    These are the derivatives of log(1 - sigmoid(a)) and of -log sigmoid(a).
    """
    for a in (-20.0, 0.0, 20.0):
        logit = tensor([[a]])
        found = {}
        for loss in (losses.Saturating(), losses.NonSaturating()):
            game = GAN(nn.Sequential(), nn.Sequential(), loss=loss)
            found[type(loss)] = grad(game.g_loss(None, logit), [logit])[0].item()
        assert found[losses.Saturating] == pytest.approx(-1 / (1 + math.exp(-a)), rel=1e-12)
        assert found[losses.NonSaturating] == pytest.approx(-1 / (1 + math.exp(a)), rel=1e-12)


def test_losses_from_one_pass_equal_the_separate_losses():
    game = make_game(dropout=0.0)
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    d_loss, g_loss = game.losses(x, z)
    assert d_loss.item() == game.d_loss(x, z).item() and g_loss.item() == game.g_loss(x, z).item()


def test_noise_has_mean_0_and_variance_1():
    z = make_game().latent(40_000, rng).numpy()
    n = z.size
    assert z.dtype == np.float32 and abs(z).max() <= 3 ** 0.5
    assert abs(z.mean()) < 4 / n ** 0.5             # 4 standard errors; var(z^2) = 9/5 - 1
    assert abs((z ** 2).mean() - 1) < 4 * (0.8 / n) ** 0.5


def test_the_default_loss_is_non_saturating():
    assert make_game().loss == GAN.loss == losses.NonSaturating() != losses.Saturating()


# The loop

def test_each_step_changes_its_own_player_only():
    game = make_game()
    d_opt, g_opt = (optim.SGD(p, 0.1, 0.5) for p in (game.d_parameters(), game.g_parameters()))
    batches = make_batches()
    for step, opt, moved, still in ((d_step, d_opt, game.D, game.G),
                                    (g_step, g_opt, game.G, game.D)):
        before = copy_parameters(moved), copy_parameters(still)
        step(game, opt, *draw(game, batches, 5, rng))
        assert not all_equal(before[0], copy_parameters(moved))
        assert all_equal(before[1], copy_parameters(still))


def test_an_iteration_is_k_steps_of_d_and_one_of_g_each_on_a_new_minibatch():
    game, trace = make_game(d_steps=lambda i: 2 if i == 0 else 1), []
    batches = trace_steps(game, trace)
    assert run_play(game, 2) == [0, 1]
    events = [event for event, _, _ in trace]
    assert events == ["begin", "D", "after D", "D", "after D", "G", "after G",
                      "begin", "D", "after D", "G", "after G"]
    assert len(np.unique(batches(), axis=0)) == 25


def test_g_may_have_several_steps_each_on_a_new_minibatch():
    game, trace = make_game(g_steps=lambda i: i - 2), []
    batches = trace_steps(game, trace)
    assert run_play(game, 5, start=3) == [3, 4]
    events = [event for event, _, _ in trace]
    assert events == ["begin", "D", "after D", "G", "after G",
                      "begin", "D", "after D", "G", "after G", "G", "after G"]
    assert len(np.unique(batches(), axis=0)) == 25


def trace_steps(game, trace):
    """Append (event, x, z) to `trace` for each event of play().

    Returns a function that asserts that each step had new noise, and returns the examples of all
    steps.
    """
    drawn = []
    d_loss, g_loss, latent = game.d_loss, game.g_loss, game.latent
    game.latent = lambda m, rng: drawn.append(latent(m, rng)) or drawn[-1]
    game.d_loss = lambda x, z: trace.append(("D", to_numpy(x.data), z)) or d_loss(x, z)
    game.g_loss = lambda x, z: trace.append(("G", to_numpy(x.data), z)) or g_loss(x, z)
    game.begin = lambda i: trace.append(("begin", None, None))
    game.after_d_step = lambda: trace.append(("after D", None, None))
    game.after_g_step = lambda: trace.append(("after G", None, None))

    def batches():
        steps = [(x, z) for event, x, z in trace if event in "DG"]
        assert [z for _, z in steps] == drawn
        return np.concatenate([x for x, _ in steps])
    return batches


def run_play(game, iterations, order="alternating", **settings):
    """Run play(), and return the numbers of its iterations."""
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    return [i for i, _, _ in play(game, make_batches(), *opts, 5, rng, iterations, order=order,
                                  **settings)]


def test_the_number_of_iterations_may_be_0_but_not_negative():
    assert run_play(make_game(), 0) == []
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 0, got -1"):
        run_play(make_game(), -1)


def test_a_minibatch_of_bytes_is_refused():
    bytes_ = itertools.repeat(backend.xp.zeros((5, 4, 4), "uint8"))
    game = make_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    with pytest.raises(TypeError, match="as_floats"):
        next(play(game, bytes_, *opts, 5, rng, 1))


@pytest.mark.parametrize("minibatch, words", [
    (lambda: backend.xp.full((5, 16), 200, "uint8"), "as_floats"),
    (lambda: backend.xp.full((5, 1, 4, 4), 200, "int64"), "as_floats"),
    (lambda: backend.xp.zeros((5, 2), "bool"), "astype"),
    (lambda: [np.zeros((5, 2), "float32")], "got <class 'list'>"),
    (lambda: None, "got <class 'NoneType'>"),
    (lambda: backend.xp.zeros((4, 2), "float32"), "(4, 2), but m is 5"),
    (lambda: backend.xp.zeros(2, "float32"), "(2,), but m is 5"),
    (lambda: (backend.xp.zeros((5, 2), "float32"), backend.xp.arange(4)), "(4,), but m is 5")])
def test_a_minibatch_of_another_form_is_refused(minibatch, words):
    """D would be trained on numbers that are not pixels from 0 to 1, or on other samples."""
    game = make_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    batches = itertools.repeat(minibatch())
    assert words in error_of(next, play(game, batches, *opts, 5, rng, 1))


def test_a_generator_of_minibatches_goes_on_after_play():
    game = make_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    data = (backend.xp.full((5, 2), i, "float32") for i in itertools.count())
    for _ in play(game, data, *opts, 5, rng, 2):
        pass
    assert float(next(data)[0, 0]) == 4         # two iterations took four
    for _ in play(game, data, *opts, 5, rng, 3, start=2):
        pass


def test_terms_that_are_no_list_are_refused():
    game = make_game()
    game.g_terms = lambda *args: Tensor(backend.xp.ones(()))
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    assert "return a list of Tensors of one number, got a Tensor" in error_of(game.g_loss, x, z)


def test_minibatches_may_be_tensors_and_have_codes_of_several_whole_numbers():
    """A game of one's own may use the codes."""
    game = make_game()
    game.real = lambda x: x[0] * 1.0
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    x = (tensor(normal(5, 2), "float32"), backend.xp.ones((5, 3), "int64"))
    assert next(play(game, itertools.repeat(x), *opts, 5, rng, 1))[0] == 0


def test_data_that_ends_is_refused():
    game = make_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    batches = [next(make_batches()) for _ in range(5)]
    steps = play(game, batches, *opts, 5, rng, 10)
    assert next(steps)[0] == 0 and next(steps)[0] == 1
    with pytest.raises(UserError, match="the data has ended.*itertools.cycle"):
        next(steps)


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_begin_is_called_first_in_each_iteration(order):
    """It is called before the number of steps is asked for and before noise is drawn."""
    game, trace = make_game(d_steps=lambda i: trace.append(("steps", i)) or 1), []
    latent = game.latent
    game.begin = lambda i: trace.append(("begin", i))
    game.latent = lambda m, rng: trace.append(("noise", None)) or latent(m, rng)
    assert run_play(game, 5, order, start=3) == [3, 4]
    draws = [("noise", None)] * (2 if order == "alternating" else 1)
    assert trace == [("begin", 3), ("steps", 3), *draws, ("begin", 4), ("steps", 4), *draws]


@pytest.mark.parametrize("steps", ["d_steps", "g_steps"])
def test_simultaneous_order_refuses_several_steps_of_a_player(steps):
    game = make_game(**{steps: lambda i: 2 if i == 3 else 1})
    assert run_play(game, 3, "simultaneous") == [0, 1, 2]
    with pytest.raises(UserError, match="set d_steps and g_steps to 1, not (2 and 1|1 and 2), or"):
        run_play(game, 4, "simultaneous")


class WithoutLast(nn.Sequential):
    """A Sequential that does not use its last layer, as in the first stage of a growing network."""

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x)
        return x


class Staged(GAN):
    unused = "zeros"


@pytest.mark.parametrize("player", ["D", "G"])
@pytest.mark.parametrize("step", [d_step, g_step, both_step])
def test_unused_parameters_are_an_error_unless_the_game_allows_them(player, step):
    """With `unused = "zeros"` their gradients are zero; otherwise their player's step raises."""
    G, D = nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 1))
    later = nn.Dense(1, 1)
    G, D = (WithoutLast(*net.layers, later) if name == player else net
            for name, net in (("G", G), ("D", D)))

    def gradients(game):
        opts = {d_step: "D", g_step: "G", both_step: "DG"}[step]
        opts = [RecordingSGD(game.d_parameters() if name == "D" else game.g_parameters(), 0.1)
                for name in opts]
        step(game, *opts, *draw(game, make_batches(), 5, rng))
        return {p: g for opt in opts for p, g in zip(opt.parameters, opt.seen)}
    still = {p for p, g in gradients(Staged(G, D, 3)).items() if not g.any()}
    if step in (both_step, {"D": d_step, "G": g_step}[player]):
        assert still == set(later.parameters())
        said = error_of(gradients, GAN(G, D, 3))
        assert re.match(r"[GD]\.1\.weight, of shape .* has no part in [GD]'s loss: a Tensor", said)
    else:
        assert not still
        gradients(GAN(G, D, 3))


class RecordingSGD(optim.SGD):
    """SGD that keeps the gradients of its last step, as arrays, in `seen`."""

    def step(self, grads):
        self.seen = [g.numpy() for g in grads]
        super().step(grads)


def test_simultaneous_order_computes_both_gradients_before_both_steps():
    """Both steps use the same x, z and dropout masks, and G's gradient precedes D's step."""
    def gradients():
        rng.seed(3)
        game = make_game()
        x, z, masks = draw(game, make_batches(), 5, rng)
        with nn.use_random(make_source(masks)):
            d_loss, g_loss = game.losses(x, z)
        return game, grad(d_loss, game.d_parameters()), grad(g_loss, game.g_parameters())
    game, d_grads, g_grads = gradients()
    expected = [p.numpy() - 0.1 * g.numpy() for p, g in
                zip(game.d_parameters() + game.g_parameters(), d_grads + g_grads)]
    rng.seed(3)
    game = make_game()
    d_opt, g_opt = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    for _ in play(game, make_batches(), d_opt, g_opt, 5, rng, 1, order="simultaneous"):
        pass
    for p, e in zip(game.d_parameters() + game.g_parameters(), expected):
        np.testing.assert_allclose(p.numpy(), e, rtol=1e-6, atol=1e-7)      # float32 rounding


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_the_same_seed_gives_the_same_run_bit_for_bit(order):
    def run(seed):
        rng.seed(seed)
        game = make_game()
        d_opt = optim.Adam(game.d_parameters())
        g_opt = optim.Adam(game.g_parameters())
        losses = [(d.item(), g.item()) for _, d, g in
                  play(game, make_batches(), d_opt, g_opt, 5, rng, 20, order=order)]
        return losses, game.state_dict()
    (losses, state), (again, state_again), (other, _) = run(1), run(1), run(2)
    assert losses == again and all_equal(state, state_again) and losses != other


def test_a_step_depends_on_its_arguments_and_the_weights_only():
    """The noise of a step and the seed of its other random numbers are drawn before it."""
    game = make_game()
    x, z, masks = draw(game, make_batches(), 5, rng)
    state, results = game.state_dict(), []
    for _ in range(2):
        game.load_state_dict(state)
        loss = d_step(game, optim.SGD(game.d_parameters(), 0.1), x, z, masks)
        results.append((loss.item(), game.state_dict()))
        rng.normal((7,))                # numbers drawn in between change nothing
    assert results[0][0] == results[1][0] and all_equal(results[0][1], results[1][1])


def test_yielded_losses_hold_no_graph():
    """A graph would keep all arrays of a step in memory as long as its loss."""
    game = make_game()
    d_opt, g_opt = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    for order in ("alternating", "simultaneous"):
        for _, d_loss, g_loss in play(game, make_batches(), d_opt, g_opt, 5, rng, 1, order=order):
            assert d_loss.parents == g_loss.parents == ()


def make_images(low, high):
    """Return an iterator of minibatches of images with values from low to high."""
    return iter([backend.xp.asarray(np.linspace(low, high, 80, dtype="float32")
                                    .reshape(5, 1, 4, 4))] * 4)


def make_image_game(last):
    """Return a GAN of images of 4x4 pixels whose G ends in the layer `last`."""
    return GAN(nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4), nn.Sequential(last)),
               nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)


@pytest.mark.parametrize("last, low, high, fits", [
    (nn.Sigmoid(), 0, 1, True), (nn.Sigmoid(), 0.2, 1.02, True), (nn.Sigmoid(), -1, 1, False),
    (nn.Sigmoid(), 0, 255, False), (nn.Tanh(), -1, 1, True), (nn.Tanh(), 0, 1, False),
    (nn.Tanh(), -1, 255, False), (nn.Tanh(), 0.1, 0.9, False), (nn.ReLU(), -1, 5, True)])
def test_data_of_another_range_than_gs_output_is_refused(last, low, high, fits):
    """D could tell data and samples apart by their range alone."""
    game = make_image_game(last)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    iterations = play(game, make_images(low, high), *opts, 5, rng, 1)
    if fits:
        assert next(iterations)[0] == 0
    else:
        with pytest.raises(UserError, match=f"pixels from {low} to {high}: .*scale the data"):
            next(iterations)


@pytest.mark.parametrize("last", [
    ops.sigmoid, nn.Sequential(nn.Sigmoid(), nn.Reshape(1, 4, 4)),
    nn.Sequential(nn.Sigmoid(), nn.Flatten(), nn.Sequential(nn.Reshape(1, 4, 4))),
    nn.Sequential(ops.sigmoid, nn.Upsample(1)), ops.tanh, nn.Sequential(nn.Tanh(), nn.Flatten()),
    nn.Sequential(nn.Sequential(nn.Tanh()), nn.Sequential(), nn.Sequential(nn.Sequential()))])
def test_layers_that_only_move_numbers_do_not_hide_gs_range(last):
    """The last layer that changes numbers determines the range; it may also be a function."""
    game = make_image_game(last)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    least = 0 if "igmoid" in repr(last) else -1
    assert next(play(game, make_images(least, 1), *opts, 5, rng, 1))[0] == 0
    with pytest.raises(UserError, match="scale the data"):
        next(play(game, make_images(least, 255), *opts, 5, rng, 1))


def test_a_sequential_with_its_own_forward_has_no_known_range():
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)
    game = make_image_game(Residual(nn.Tanh()))
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    assert next(play(game, make_images(0, 5), *opts, 5, rng, 1))[0] == 0
    GAN(game.G, nn.Sequential(nn.Dense(2, 1), Residual(nn.Sigmoid())))


def test_the_range_of_images_in_tuples_is_checked_too():
    class Labelled(GAN):
        def real(self, x):
            return x[1][0]
    game, labels = make_image_game(nn.Sigmoid()), backend.xp.arange(5)
    game = Labelled(game.G, game.D, 3)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    for high in 1, 255:
        data = ((labels, (x,)) for x in make_images(0, high))
        if high == 1:
            assert next(play(game, data, *opts, 5, rng, 1))[0] == 0
        else:
            with pytest.raises(UserError, match="pixels from 0 to 255"):
                next(play(game, data, *opts, 5, rng, 1))


def test_the_range_is_not_checked_for_points():
    game = GAN(nn.Sequential(nn.Dense(3, 2), nn.Tanh()), nn.Dense(2, 1), 3)
    opts = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    data = iter([backend.xp.ones((5, 2), "float32")] * 2)
    assert next(play(game, data, *opts, 5, rng, 1))[0] == 0


def test_minibatches_may_be_nested_tuples_with_labels():
    """Floats become Tensors, and integers stay arrays."""
    labels = backend.xp.arange(5)
    data = iter([(x, (labels, (x,))) for x, _ in zip(make_batches(), range(3))])
    (x, (its, (inner,))), z, _ = draw(make_game(), data, 5, rng)
    assert type(x) is Tensor is type(inner) and its is labels


def test_the_number_of_steps_is_checked():
    for name in ("d_steps", "g_steps"):
        game = make_game(**{name: lambda i: 0})
        opts = optim.SGD(game.d_parameters(), 1e-3), optim.SGD(game.g_parameters(), 1e-3)
        assert f"{name} in iteration 4 must be a whole number of at least 1, got 0" in error_of(
            lambda: next(play(game, make_batches(), *opts, 5, rng, 5, start=4)))
    assert "-1" in error_of(lambda: next(play(game, make_batches(), *opts, 5, rng, -1)))


def test_what_play_cannot_train_with_is_refused():
    """Exchanged optimisers, another source of random numbers, data of another dtype."""
    game = make_game()
    d_opt, g_opt = optim.SGD(game.d_parameters(), 1e-3), optim.SGD(game.g_parameters(), 1e-3)
    for args, words in (((make_batches(), g_opt, d_opt, 5, rng), "game.d_parameters()"),
                        ((make_batches(), d_opt, d_opt, 5, rng), "game.g_parameters()"),
                        ((iter([backend.xp.zeros((5, 2), "float64")]), d_opt, g_opt, 5, rng),
                         'by array.astype("float32")')):
        with pytest.raises(UserError, match=re.escape(words)):
            next(play(game, *args, 1))
    with pytest.raises(TypeError, match="such as tinygan.rng"):
        next(play(game, make_batches(), d_opt, g_opt, 5, np.random.default_rng(0), 1))
    own = Tensor(backend.xp.ones((), "float64"))
    game.d_parameters = lambda: [*GAN.d_parameters(game), own]
    d_opt = optim.SGD(game.d_parameters(), 1e-3)
    with pytest.raises(UserError, match="another parameter is float64 and D.* is float32"):
        next(play(game, make_batches(), d_opt, g_opt, 5, rng, 1))
    del game.d_parameters
    with pytest.raises(TypeError, match=r"latent\(16"):
        game.sample(16)


def test_several_scores_for_each_sample_are_maps_of_one_pixel():
    game = GAN(nn.Dense(3, 2), lambda x: x, 3)
    z = game.latent(5, rng)
    assert "scores.reshape(m, k, 1, 1)" in error_of(game.g_loss, None, z)
    game.D = lambda x: x.reshape(5, 2, 1, 1)
    a = game.generate(z).numpy()        # the loss is the mean over both
    np.testing.assert_allclose(game.g_loss(None, z).item(), softplus(-a).mean(), rtol=1e-5)


@pytest.mark.parametrize("scores", [lambda x: x, lambda x: x[:, 0], lambda x: x.mean(),
                                    lambda x: x.data[:, :1], lambda x: x[:, :1, None]])
def test_d_has_one_score_for_each_sample(scores):
    """Neither two classes, nor (m,), nor one mean, nor an array, nor (m, 1, n)."""
    game = GAN(nn.Dense(3, 2), scores, 3)
    for loss in (game.d_loss, game.g_loss):
        with pytest.raises(UserError, match="one score for each sample"):
            loss(Tensor(backend.xp.zeros((5, 2), "float32")), game.latent(5, rng))


def test_unknown_order_is_refused():
    message = error_of(lambda: next(play(make_game(), make_batches(), None, None, 5, rng, 1,
                                         order="G first")))
    assert "'G first'" in message and "simultaneous" in message


def test_each_step_has_its_own_dropout_masks():
    """D gives another output for the same input and weights in each step."""
    game, probe, seen = make_game(dropout=0.5), tensor(normal(4, 2), "float32"), []

    def loss(x, z):
        seen.append(game.D(probe).numpy())
        return game.D(game.G(z)).mean()
    game.d_loss = game.g_loss = loss
    game.d_steps = 2
    still = [optim.SGD(p, 0.0) for p in (game.d_parameters(), game.g_parameters())]
    for _ in play(game, make_batches(), *still, 5, rng, 2):
        pass
    assert len(seen) == 6
    assert all((a != b).any() for i, a in enumerate(seen) for b in seen[:i])


# Theory

@pytest.mark.numpy_only("theory does not depend on the backend")
@pytest.mark.parametrize("data, model", theory.PAIRS)
def test_optimal_discriminator_and_the_value_of_the_game(data, model):
    """The largest error of D is at most 0.02, and that of the game's value at most 0.005.

    The small network causes an error of about 0.01, and the quantiles one of about 1e-3.
    """
    error, value, expected = theory.optimal_discriminator(data, model)
    assert error <= 0.02 and abs(value - expected) <= 0.005
    if data == model:
        assert expected == pytest.approx(-math.log(4), abs=1e-12)
    else:
        assert expected > -math.log(4) + 0.01


def test_statistics_of_an_average_do_not_depend_on_older_ones():
    """Samples of an average are the same, bit for bit, when its statistics are measured again."""
    game = GAN(nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), nn.Dense(4, 2)), nn.Dense(2, 1), 3)
    game.keep_average(0.9)
    z = game.latent(20, rng)
    first = to_numpy(game.sample(z))
    for old in (1e-3, 10.0, 1e6):
        norm = game.averages["G"].layers[1]
        norm.running_mean[...] = norm.running_var[...] = old
        game.touch()
        assert (to_numpy(game.sample(z)) == first).all()


def test_images_of_a_tanh_are_moved_to_0_1():
    """For pictures and measurements; sample() returns what G computes."""
    G = nn.Sequential(nn.Dense(3, 16), nn.Tanh(), nn.Reshape(1, 4, 4))
    game = GAN(G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    z = game.latent(9, rng)
    x = game.sample(z)
    images, _ = game.pictures(z)
    assert float(x.min()) < 0 and (images == (x + 1) / 2).all()
    measured, _ = evaluate.draw_samples(game, None, 9, 0)
    shown = sample.draw_samples(game, sample.to_host(z))
    assert measured.min() > 0 and (shown == to_numpy(images)).all()
    G.layers[1] = nn.Sigmoid()
    assert (game.pictures(z)[0] == game.sample(z)).all()
