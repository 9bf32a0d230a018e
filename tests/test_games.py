"""Tests of the games: losses, steps, penalties, clipping, spectral norms, noise and averages."""

import contextlib
import copy
import inspect
import io
import math
import pathlib
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from tinygan import (Tensor, backend, check_grads, enable_grad, grad, nn, no_grad, op, ops, optim,
                     play, resampling, rng, schedules, to_numpy)
from tinygan.backend import UserError
from tinygan.data import Minibatches
from tinygan.games import (ACGAN, GAN, LSGAN, R1, RSGAN, SNGAN, WGAN, WGANGP, BiGAN, ConditionalGAN,
                           CycleGAN, Game, GauGAN, Hinge, InfoGAN, Pix2Pix, RaGAN, StarGAN,
                           UnrolledGAN, gradient_penalty, losses, penalties, views, warm_up)
from tinygan.games.checks import refuse_other_range
from tinygan.games.penalties import squared_gradient_norm
from tinygan.loop import both_step, count_steps, d_step, draw, g_step
from tinygan.random import Random
from tinygan.runs.record import Means, Progress

from helpers import (Ending, all_equal, copy_parameters, error_of, make_batches, normal, tensor,
                     to_float64)

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
import theory

EXACT = dict(rel=1e-12, abs=1e-12)      # float64: sums of some tens of terms of size 1
ORDERS = ["alternating", "simultaneous"]


def normalise(D):
    """Apply spectral_norm to the Dense layers of D, and return it."""
    for _, part in D.modules():
        if isinstance(part, nn.Dense):
            nn.spectral_norm(part)
    return D


# Each game has z of 3 numbers, one discriminator step per iteration (as simultaneous order needs),
# and settings with a clear effect.
PLAIN = {
    "GAN": lambda G, D, **c: GAN(G, D, 3, **c),
    "GAN, saturating": lambda G, D, **c: GAN(G, D, 3, losses.Saturating(), **c),
    "LSGAN": lambda G, D, **c: LSGAN(G, D, 3, **c),
    "Hinge": lambda G, D, **c: Hinge(G, D, 3, **c),
    "SNGAN": lambda G, D, **c: SNGAN(G, normalise(D), 3, n_dis=1, **c),
    "WGAN": lambda G, D, **c: WGAN(G, D, 3, c=0.3, n_critic=1, **c),
    "WGANGP": lambda G, D, **c: WGANGP(G, D, 3, lam=3.0, n_critic=1, **c),
    "RSGAN": lambda G, D, **c: RSGAN(G, D, 3, **c),
    "RaGAN": lambda G, D, **c: RaGAN(G, D, 3, **c),
    "R1": lambda G, D, **c: R1(G, D, 3, gamma=3.0, **c),
}


def add_noise_and_average(make):
    """Return a function like `make` whose games have instance noise and an average of G."""
    def make_noisy(G, D):
        game = make(G, D, views=[views.InstanceNoise(schedules.linear(0.5, 0.1, 10))])
        game.keep_average(0.5)
        return game
    return make_noisy


GAMES = {**PLAIN, **{f"{name}, noisy and averaged": add_noise_and_average(make)
                     for name, make in PLAIN.items()}}


def generator():
    return nn.Sequential(nn.Dense(3, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 2))


def discriminator(dropout=0.3):
    return nn.Sequential(nn.Dense(2, 6), nn.LeakyReLU(), nn.Dropout(dropout), nn.Dense(6, 1))


def smooth_discriminator():
    return nn.Sequential(nn.Dense(2, 5), nn.Tanh(), nn.Dense(5, 1))


def make_game(name):
    return GAMES[name](generator(), discriminator())


def make_optimisers(game, lr=0.05):
    return optim.SGD(game.d_parameters(), lr), optim.SGD(game.g_parameters(), lr)


def uniform(*shape):
    return np.random.default_rng(0).uniform(size=shape)


class Formula(nn.Module):
    """A discriminator without parameters, given as a function."""

    def __init__(self, formula):
        self.formula = formula

    def forward(self, x):
        return self.formula(x)


class Recorded:
    """A source of random numbers that records the normal ones in `given`."""

    def __init__(self):
        self.given = []

    def normal(self, shape):
        self.given.append(normal(*shape, seed=len(self.given)))
        return backend.xp.asarray(self.given[-1])

    def uniform(self, low, high, shape):
        return backend.xp.asarray(low + (high - low) * uniform(*shape))


# The losses

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def minimax(r, f):
    return -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean()


# name of the loss: D's loss and G's loss, functions of the scores r of real and f of fake samples
FORMULAS = {
    "Saturating": (minimax, lambda r, f: np.log(1 - sigmoid(f)).mean()),
    "NonSaturating": (minimax, lambda r, f: -np.log(sigmoid(f)).mean()),
    "ReverseKL": (minimax, lambda r, f: -f.mean()),
    "LeastSquares": (lambda r, f: ((r - 1) ** 2).mean() + (f ** 2).mean(),
                     lambda r, f: ((f - 1) ** 2).mean()),
    "Hinge": (lambda r, f: (np.mean([max(0, 1 - a) for a in r])
                            + np.mean([max(0, 1 + b) for b in f])), lambda r, f: -f.mean()),
    "Wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "Relativistic": (lambda r, f: np.mean([-np.log(sigmoid(a - b)) for a, b in zip(r, f)]),
                     lambda r, f: np.mean([-np.log(sigmoid(b - a)) for a, b in zip(r, f)])),
    "RelativisticAverage": (lambda r, f: (np.mean([-np.log(sigmoid(a - f.mean())) for a in r])
                                          + np.mean([-np.log(1 - sigmoid(b - r.mean()))
                                                     for b in f])),
                            lambda r, f: (np.mean([-np.log(sigmoid(b - r.mean())) for b in f])
                                          + np.mean([-np.log(1 - sigmoid(a - f.mean()))
                                                     for a in r]))),
}
LOSS_OF = {"GAN": "NonSaturating", "GAN, saturating": "Saturating", "LSGAN": "LeastSquares",
           "Hinge": "Hinge", "SNGAN": "Hinge", "WGAN": "Wasserstein", "WGANGP": "Wasserstein",
           "RSGAN": "Relativistic", "RaGAN": "RelativisticAverage", "R1": "NonSaturating"}


def score_by_hand(D, x):
    """Return D(x) and |dD/dx| of each sample, for a discriminator() in evaluation."""
    def weight(layer):
        if not hasattr(layer, "weight_u"):
            return layer.weight.numpy()
        w = layer.weight_orig.numpy()
        return w / (to_numpy(layer.weight_u) @ w @ to_numpy(layer.weight_v))
    first, _, _, last = D.layers
    w, v = weight(first), weight(last)[0]
    hidden = [w @ sample + first.bias.numpy() for sample in x]
    slopes = [np.array([1.0 if a > 0 else 0.2 for a in h]) for h in hidden]
    return (np.array([v @ (s * h) + last.bias.item() for s, h in zip(slopes, hidden)]),
            np.array([np.linalg.norm(w.T @ (v * s)) for s in slopes]))


def prepare(game, m=30):
    """Return the game in float64 with D in evaluation, x, z, and G(z) as an array."""
    to_float64(game).D.eval()
    for layer in (game.D.layers[0], game.D.layers[-1], game.G.layers[-1]):
        w = layer.weight_orig if hasattr(layer, "weight_u") else layer.weight
        w.data[...] = tensor(normal(*w.shape, seed=2)).data
        layer.bias.data[...] = tensor(normal(*layer.bias.shape)).data
    x, z = tensor(3 * normal(m, 2)), to_float64(game.latent(m, rng))
    return game, x, z, game.G(z[0] if type(z) is tuple else z).numpy()


@pytest.mark.parametrize("name", PLAIN)
def test_losses_equal_the_formulas(name):
    game, x, z, samples = prepare(PLAIN[name](generator(), discriminator()))
    r, norms = score_by_hand(game.D, x.numpy())
    f, _ = score_by_hand(game.D, samples)
    assert r.min() < 1 < r.max() and f.min() < -1 < f.max()     # both sides of the hinges
    d_loss, g_loss = (formula(r, f) for formula in FORMULAS[LOSS_OF[name]])
    if name == "R1":
        d_loss += 3.0 / 2 * (norms ** 2).mean()
    if name == "WGANGP":
        eps = Recorded().uniform(0, 1, (30,))
        between = [e * a + (1 - e) * b for e, a, b in zip(to_numpy(eps), x.numpy(), samples)]
        d_loss += 3.0 * ((score_by_hand(game.D, between)[1] - 1) ** 2).mean()
    with nn.use_random(Recorded()):
        assert game.d_loss(x, z).item() == pytest.approx(d_loss, **EXACT)
        assert game.g_loss(x, z).item() == pytest.approx(g_loss, **EXACT)
        both = [loss.item() for loss in game.losses(x, z)]
        assert both == pytest.approx([d_loss, g_loss], **EXACT)


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_logged_are_mean_probabilities_or_mean_scores(name, one_pass):
    game, x, z, samples = prepare(PLAIN[name](generator(), discriminator()))
    (r, _), (f, _) = score_by_hand(game.D, x.numpy()), score_by_hand(game.D, samples)
    if name.startswith("GAN") or name == "R1":
        expected = {"D(x)": sigmoid(r).mean(), "D(G(z))": sigmoid(f).mean()}
    else:
        expected = {"D(x)": r.mean(), "D(G(z))": f.mean()}
    if name.startswith("WGAN"):
        expected["W"] = r.mean() - f.mean()
    assert game.logged == {}
    (game.losses if one_pass else game.d_loss)(x, z)
    logged = {key: float(value) for key, value in game.logged.items()}
    assert logged == pytest.approx(expected, **EXACT)


class DLoss(nn.Module):
    """The loss of D as a function of the data and of D's parameters, for constant noise."""

    def __init__(self, game, constant):
        self.game, self.constant = game, constant

    def forward(self, x):
        return self.game.d_loss(x, Tensor(self.constant))


class GLoss(DLoss):
    """The loss of G as a function of the noise and of D's parameters, for constant data."""

    def forward(self, z):
        return self.game.g_loss(Tensor(self.constant), z)


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_of_the_losses_to_second_order(name):
    """They are the gradients by D's parameters, the data and the samples; G returns its noise."""
    game = PLAIN[name](nn.Sequential(), smooth_discriminator())
    game.D.layers[-1].bias = None           # it cancels in a difference of scores
    x, z = (tensor(normal(4, 2, seed=seed)).data for seed in (0, 1))
    check_grads(DLoss(game, z), x, training=True)           # the two modes are the same here
    check_grads(GLoss(game, x), z, training=True)


# Any loss with any penalties and any view

PENALTIES = {"no penalty": [], "GP": [penalties.GradientPenalty(3.0)], "R1": [penalties.R1(5.0)],
             "GP and R1": [penalties.GradientPenalty(3.0), penalties.R1(5.0)]}


def combine(G, D, loss, penalised, sigma):
    """Return a Game with the loss and the penalties of these names, and with instance noise."""
    return Game(G, D, 3, getattr(losses, loss)(), PENALTIES[penalised],
                [views.InstanceNoise(sigma)] if sigma else [])


def each_combination(test):
    """Parametrise a test with all losses and penalties."""
    test = pytest.mark.parametrize("penalised", PENALTIES)(test)
    return pytest.mark.parametrize("loss", FORMULAS)(test)


@pytest.mark.parametrize("sigma", [0, 0.5])
@each_combination
def test_losses_of_each_combination_equal_the_formulas(loss, penalised, sigma):
    """The losses are computed by hand, sample by sample, with the same instance noise."""
    game, x, z, samples = prepare(combine(generator(), discriminator(), loss, penalised, sigma))

    def add_noise(k, points):
        """Return the points with the noise that is drawn k-th."""
        return np.asarray(points) + sigma * normal(*np.shape(points), seed=k)

    def evaluate(f):
        with nn.use_random(Recorded()):
            return f(x, z)
    r, norms = score_by_hand(game.D, add_noise(0, x.numpy()))
    f, _ = score_by_hand(game.D, add_noise(1, samples))
    d_loss, g_loss = (formula(r, f) for formula in FORMULAS[loss])
    if "GP" in penalised:
        eps = Recorded().uniform(0, 1, (30,))
        between = [e * a + (1 - e) * b for e, a, b in zip(to_numpy(eps), x.numpy(), samples)]
        d_loss += 3.0 * ((score_by_hand(game.D, add_noise(2, between))[1] - 1) ** 2).mean()
    if "R1" in penalised:
        d_loss += 5.0 / 2 * (norms ** 2).mean()
    assert evaluate(game.d_loss).item() == pytest.approx(d_loss, **EXACT)
    assert [one.item() for one in evaluate(game.losses)] == pytest.approx([d_loss, g_loss], **EXACT)
    f, _ = score_by_hand(game.D, add_noise(0, samples))
    r, _ = score_by_hand(game.D, add_noise(1, x.numpy()))
    assert evaluate(game.g_loss).item() == pytest.approx(FORMULAS[loss][1](r, f), **EXACT)


class OnePass(DLoss):
    """Both losses from one pass, as functions of the data, the noise and D's parameters."""

    def forward(self, x, z):
        return self.game.losses(x, z)


@pytest.mark.numpy_only("the losses are tested on each backend")
@each_combination
def test_gradients_of_each_combination_to_second_order(loss, penalised):
    """Gradients are tested of each loss alone and of both losses from one pass."""
    game = combine(nn.Sequential(), smooth_discriminator(), loss, penalised, 0.5)
    game.D.layers[-1].bias = None           # it cancels in a difference of scores
    x, z = (tensor(normal(4, 2, seed=seed)).data for seed in (0, 1))
    for f, inputs in ((DLoss(game, z), [x]), (GLoss(game, x), [z]), (OnePass(game, None), [x, z])):
        check_grads(f, *inputs, training=True)          # the losses are those of training


@pytest.mark.parametrize("name", ["RSGAN", "RaGAN"])
def test_relativistic_g_loss_is_d_loss_with_data_and_samples_exchanged(name):
    game = PLAIN[name](nn.Sequential(), smooth_discriminator())     # G returns its noise
    a, b = tensor(normal(6, 2), "float32"), tensor(normal(6, 2, seed=1), "float32")
    assert game.g_loss(a, b).item() == pytest.approx(game.d_loss(b, a).item(), rel=1e-6)  # float32
    assert game.g_loss(a, b).item() != pytest.approx(game.d_loss(a, b).item(), rel=1e-2)


@pytest.mark.parametrize("name", PLAIN)
def test_only_relativistic_g_losses_depend_on_the_data(name):
    game = PLAIN[name](generator(), discriminator(dropout=0))
    game.D.eval()
    z = game.latent(6, rng)
    one, other = (grad(game.g_loss(tensor(normal(6, 2, seed=seed), "float32"), z),
                       game.g_parameters()[-1:])[0].numpy() for seed in (0, 1))
    assert (one != other).any() == (name in ("RSGAN", "RaGAN"))


# Inputs of D with labels, and pairs

def test_penalties_use_labels_and_do_not_differentiate_by_them():
    """In a gradient penalty x_hat has the label of x; the critic's gradient norm is |w[label]|."""
    w, labels = normal(3, 2), np.array([0, 2, 2, 1])

    def critic(inputs):
        x, labels = inputs
        return (x * tensor(w)[labels]).sum(1, keepdims=True)
    x, fake, eps = tensor(normal(4, 2)), tensor(normal(4, 2, seed=1)), tensor(uniform(4))
    norms = np.array([np.linalg.norm(w[label]) for label in labels])
    labels, others = backend.xp.asarray(labels), backend.xp.asarray(np.array([1, 0, 1, 1]))
    real = x, labels
    assert gradient_penalty(critic, real, (fake, others), eps).item() == pytest.approx(
        ((norms - 1) ** 2).mean(), **EXACT)
    found = squared_gradient_norm(real, critic(real)).item()
    assert found == pytest.approx((norms ** 2).mean(), **EXACT)


def test_the_gradient_norm_is_over_both_parts_of_a_pair():
    w, v = normal(2), normal(3, seed=1)

    def critic(inputs):
        (x,), code = inputs
        return (x * tensor(w)).sum(1) + (code * tensor(v)).sum(1)
    inputs, other = (((tensor(normal(4, 2, seed=i)),), tensor(normal(4, 3, seed=i)))
                    for i in (2, 3))
    size = math.sqrt(w @ w + v @ v)
    assert gradient_penalty(critic, inputs, other, tensor(uniform(4)), 0.5).item() == pytest.approx(
        (size - 0.5) ** 2, **EXACT)
    assert squared_gradient_norm(inputs, critic(inputs)).item() == pytest.approx(size ** 2, **EXACT)


class Embedding(nn.Module):
    """A network for points or noise with a label from 0 to 2 and, in a generator, a code."""

    def __init__(self, n_in, n_out):
        self.of_label = Tensor(rng.normal((3, 2)))
        self.net = nn.Sequential(nn.Dense(n_in + 2, 5), nn.Tanh(), nn.Dense(5, n_out))

    def forward(self, x, labels, *code):
        if isinstance(labels, tuple):
            labels, *code = labels
        return self.net(ops.concat([x, self.of_label[labels], *code], 1))


class Labelled(Game):
    """A conditional game: the noise is (z, (labels, code)), and D's input is (x, labels)."""

    def latent(self, m, rng):
        return super().latent(m, rng), (rng.integers(3, (m,)), Tensor(rng.uniform(-1, 1, (m, 1))))

    def fake(self, x, z):
        return self.G(*z), z[1][0]


def make_labelled_batches(m=5):
    return Minibatches(np.float32(normal(40, 2)), m, labels=np.arange(40) % 3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("penalised", PENALTIES)
@pytest.mark.parametrize("loss", FORMULAS)
def test_a_conditional_game_trains_with_any_loss_and_penalty(loss, penalised, order):
    """All parameters change, and samples depend on their labels."""
    game = Labelled(Embedding(4, 2), Embedding(2, 1), 3, getattr(losses, loss)(),
                    PENALTIES[penalised], [views.InstanceNoise(0.1)])
    game.keep_average(0.5)
    before = copy_parameters(game)
    for _ in play(game, make_labelled_batches(), *make_optimisers(game), 5, rng, 2, order=order):
        pass
    after = copy_parameters(game)
    still = [name for name in before if (before[name] == after[name]).all()]
    assert still in ([], ["D.net.2.bias"])      # it cancels in a difference of scores
    z, (labels, code) = game.latent(6, rng)
    ones, twos = (to_numpy(game.sample((z, (labels * 0 + k, code)))) for k in (1, 2))
    assert ones.shape == (6, 2) and (ones != twos).any()


class Pair(nn.Module):
    """A network that takes pairs."""

    def __init__(self, n_in):
        self.net = nn.Sequential(nn.Dense(n_in, 6), nn.Tanh(), nn.Dense(6, 1))

    def forward(self, x, z):
        return self.net(ops.concat([x, z], 1))


class Inferring(Game):
    """A game with two networks for each player, similar to a bidirectional GAN.

    G maps z to x, and E maps x to z. D scores pairs (x, E(x)) and (G(z), z), and `judge` scores
    the second part of a pair.
    """

    d_players, g_players = ("D", "judge"), ("G", "E")

    def __init__(self, G, E, D, judge, **choices):
        super().__init__(G, D, 3, **choices)
        self.E, self.judge = E, judge

    def real(self, x):
        return x, self.E(x)

    def fake(self, x, z):
        return self.G(z), z

    def discriminate(self, inputs):
        return super().discriminate(inputs) + self.judge(inputs[1])


def make_inferring(judge=None, **choices):
    """Return an Inferring game whose G and E share a layer."""
    shared = nn.Dense(3, 3)
    G, E = nn.Sequential(shared, nn.Tanh(), nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 3), shared)
    choices.setdefault("loss", losses.Relativistic())       # gives E a gradient
    return Inferring(G, E, Pair(5), judge or nn.Sequential(nn.Dense(3, 2), nn.Tanh(),
                                                           nn.Dense(2, 1)), **choices)


@pytest.mark.parametrize("penalised", PENALTIES)
@pytest.mark.parametrize("loss", FORMULAS)
def test_losses_of_pairs_from_one_pass_equal_the_separate_losses(loss, penalised):
    """The gradients by all parameters of the player are equal too.

    In D's loss E(x) is a constant, and R1 penalises D's partial derivatives by x and by E(x) as if
    E(x) did not depend on x.
    """
    game = to_float64(make_inferring(loss=getattr(losses, loss)(), penalties=PENALTIES[penalised]))
    x, z = tensor(normal(6, 2)), to_float64(game.latent(6, rng))
    with nn.use_random(Recorded()):
        both, each = game.losses(x, z), (game.d_loss(x, z), game.g_loss(x, z))
    for one, other, parameters in zip(both, each, (game.d_parameters(), game.g_parameters())):
        assert one.item() == pytest.approx(other.item(), **EXACT)
        for a, b in zip(*(grad(y, parameters, unused="zeros") for y in (one, other))):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_a_player_has_the_parameters_of_all_its_networks_once():
    game = make_inferring()
    G, E = game.G.layers, game.E.layers
    assert [id(p) for p in game.g_parameters()] == [id(p) for p in (
        G[0].weight, G[0].bias, G[2].weight, G[2].bias, E[0].weight, E[0].bias)]
    assert [id(p) for p in game.d_parameters()] == [id(p) for p in (
        game.D.parameters() + game.judge.parameters())]


def test_each_step_changes_all_networks_of_its_player_only():
    game = make_inferring()
    (d_opt, g_opt), batches = make_optimisers(game), make_batches()
    for step, opt, own in ((d_step, d_opt, {"D", "judge"}), (g_step, g_opt, {"G", "E"})):
        before = copy_parameters(game)
        step(game, opt, *draw(game, batches, 5, rng))
        moved = {name.partition(".")[0] for name, p in copy_parameters(game).items()
                 if (p != before[name]).any()}
        assert moved == own


@pytest.mark.parametrize("order", ORDERS)
def test_each_network_of_g_has_an_average(order):
    game = make_inferring()
    game.keep_average(0.6)
    assert list(game.averages) == ["G", "E"]
    expected = {name: copy_parameters(getattr(game, name)) for name in "GE"}
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 3, order=order):
        for name, average in game.averages.items():
            for key, p in copy_parameters(getattr(game, name)).items():
                expected[name][key] = 0.6 * expected[name][key] + 0.4 * p
                np.testing.assert_allclose(copy_parameters(average)[key], expected[name][key],
                                           rtol=0, atol=1e-6)       # float32


@pytest.mark.parametrize("averaged", [False, True])
def test_use_averages_replaces_the_networks_of_g_within_its_context(averaged):
    """In the context, game.G and game.E are the averages, if any are kept; all is in evaluation.

    Contexts may be nested. After a context, also after an exception in it, all is as before.
    """
    game = make_inferring()
    game.G.layers.append(nn.BatchNorm(2))
    own = {name: getattr(game, name) for name in ("G", "E", "D", "judge")}
    if averaged:
        game.keep_average(0.5)
    inside = own | (game.averages or {})
    game.G.layers[0].eval()             # a layer in evaluation stays so after the context
    modes = [part.training for _, part in game.modules()]

    def check(there, evaluated):
        assert all(getattr(game, name) is network for name, network in there.items())
        for network in there.values() if evaluated else ():       # judge is of no player
            assert not any(part.training for _, part in network.modules())
    for _ in range(2):
        with pytest.raises(KeyError), game.use_averages():
            check(inside, True)
            with game.use_averages():
                check(inside, True)
            check(inside, True)
            assert game.G(game.E(tensor(normal(4, 2), "float32"))).parents is None      # no graph
            raise KeyError
        check(own, False)
        assert [part.training for _, part in game.modules()] == modes


def test_an_average_that_is_not_updated_is_refused():
    game = GAN(generator(), discriminator(), 3)
    game.keep_average(0.5)
    z = game.latent(4, rng)
    game.sample(z)
    optim.SGD(game.g_parameters(), 0.1).step(grad(game.g_loss(None, z), game.g_parameters()))
    with pytest.raises(UserError, match=r"not been updated since G .* game.update_averages\(\)"):
        game.sample(z)
    game.update_averages()
    game.sample(z)


def test_use_averages_that_fails_leaves_the_game_unchanged():
    game = make_inferring()
    game.keep_average()
    game.averages["E"].layers[1].parts_of_one_name = {1: nn.ReLU(), "1": nn.ReLU()}
    G, E = game.G, game.E
    with pytest.raises(TypeError, match="have the same name"), game.use_averages():
        raise AssertionError("the context has begun")
    assert game.G is G and game.E is E and game.averages["G"].training


@pytest.mark.parametrize("last, choices, words", [
    (nn.Sigmoid, {}, "ends in a sigmoid"),
    (nn.Sigmoid, {"loss": losses.Hinge()}, "ends in a sigmoid"),
    (lambda: nn.BatchNorm(1), {"penalties": [penalties.R1()]}, "layer 2 of D is a BatchNorm"),
    (lambda: nn.BatchNorm(1), {"penalties": [penalties.GradientPenalty()]}, "is a BatchNorm")])
@pytest.mark.parametrize("which", ["D", "judge"])
def test_each_network_of_d_is_checked(which, last, choices, words):
    """The constructor of Game checks D; play() checks `judge`, which is set after it."""
    D = nn.Sequential(nn.Dense(3, 2), nn.Tanh(), last())
    if which == "D":
        with pytest.raises(UserError, match=words):
            Game(generator(), D, 3, **choices)
        return
    game = make_inferring(judge=D, **choices)
    opts = make_optimisers(game)
    for check in (game.check, lambda: next(play(game, make_batches(), *opts, 5, rng, 1))):
        with pytest.raises(UserError, match=words):
            check()
    game.judge = nn.Sequential(*D.layers[:2], nn.Dense(2, 1))
    game.check()


def test_a_penalty_is_computed_on_replayed_samples():
    """The penalty gets the samples that replay() returns, not G's new ones."""
    class Replaying(LSGAN):
        def replay(self, fake, z):
            return Tensor(fake.data + 1)

    class Recording(penalties.Penalty):
        def __call__(self, score, real, fake, a_real, a_fake):
            self.calls.append((fake, a_fake))
            return Tensor(0.0)
    Recording.calls = []
    game = Replaying(generator(), smooth_discriminator(), 3, penalties=[Recording()]).eval()
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    game.d_loss(x, z)
    inputs = game.G(z).numpy() + 1
    ((fake, a_fake),) = Recording.calls
    assert (fake.numpy() == inputs).all()
    assert (a_fake.numpy() == game.D(fake).numpy()).all()


def test_a_game_with_its_own_d_loss_and_no_loss_logs_its_scores():
    class WithDLoss(Game):
        def d_loss(self, x, z):
            real, fake = self.score(self.real(x)), self.score(self.fake(x, z))
            self.log_scores(real, fake)
            return fake.mean() - real.mean()
    game = WithDLoss(generator(), discriminator(), 3).eval()
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    loss = game.d_loss(x, z).item()
    logged = {name: float(to_numpy(value)) for name, value in game.logged.items()}
    assert logged["D(G(z))"] - logged["D(x)"] == pytest.approx(loss, rel=1e-5)     # float32


class Balancing(GAN):
    """A game with a state k, which d_terms() changes before the gradient is taken and logs."""

    def __init__(self, *args):
        super().__init__(*args)
        self.k = backend.xp.zeros((), "float32")

    def d_terms(self, x, z, fake, out_real, out_fake):
        term = self.k * out_fake.mean()
        self.log("k", self.k)
        self.k += 1
        return [term]


def test_a_number_that_changes_is_a_constant_in_what_was_computed_before():
    """So the gradient is that of the loss, and the value that was used is logged."""
    game = Balancing(generator(), smooth_discriminator(), 3)
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    parameters = game.d_parameters()
    plain = grad(GAN(game.G, game.D, 3).d_loss(x, z), parameters)
    ours = grad(game.d_loss(x, z), parameters)
    assert float(game.k) == 1 and float(game.logged["k"]) == 0
    for a, b in zip(plain, ours):       # k was 0
        assert (a.data == b.data).all()


def test_untracked_arrays_are_not_averaged():
    class WithUntracked(nn.Module):
        untracked = ("last",)

        def __init__(self):
            self.last = backend.xp.zeros(2, "float32")

        def forward(self, x):
            return x
    game = LSGAN(nn.Sequential(generator(), WithUntracked()), discriminator(), 3)
    game.keep_average(0.5)
    game.G.layers[1].last += 1
    game.after_g_step()
    game.update_averages()
    assert not game.averages["G"].layers[1].last.any()


def test_an_average_with_batch_norm_without_running_averages_is_sampled():
    """Such a layer has no statistics to measure anew."""
    G = nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8, track_running_stats=False), nn.Dense(8, 2))
    game = LSGAN(G, discriminator(), 3)
    z = game.latent(5, rng)
    expected = game.sample(z)
    game.keep_average(0.5)
    assert (game.sample(z) == expected).all()


@pytest.mark.parametrize("draw", [lambda source, shape: source.uniform(2.0, 3.0, shape),
                                  lambda source, shape: source.integers(5, shape)])
def test_samples_of_a_g_that_draws_depend_on_their_own_noise_only(draw):
    class Drawing(nn.Module):
        def forward(self, x):
            return Tensor(draw(nn.current_random(), x.shape).astype("float32"))
    game = LSGAN(Drawing(), discriminator(), 2)
    z = game.latent(50, rng)
    samples = backend.to_numpy(game.sample(z))
    assert (samples[30:] == backend.to_numpy(game.sample(z[30:]))).all()
    assert samples.min() >= 0 and samples.max() < 5 and len(np.unique(samples)) > 4


def test_batch_norm_in_d_is_allowed_without_penalties():
    D = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3), nn.ReLU(), nn.Dense(3, 1))
    for loss in FORMULAS:
        Game(generator(), D, 3, getattr(losses, loss)(), views=[views.InstanceNoise(0.1)])


def test_a_network_that_refers_to_its_game_has_only_its_own_parameters():
    game = LSGAN(generator(), discriminator(), 3)
    own = [id(p) for p in game.d_parameters()], [id(p) for p in game.parameters()]
    game.D.game = game.D.layers[0].network = game
    game.D.layers[1].above = game.D
    assert [id(p) for p in game.d_parameters()] == own[0]
    assert [id(p) for p in game.parameters()] == own[1]
    before = copy_parameters(game.G)
    for _ in play(game, make_batches(), optim.SGD(game.d_parameters(), 0.1),
                  optim.SGD(game.g_parameters(), 0.0), 5, rng, 2):
        pass
    assert all_equal(copy_parameters(game.G), before)


@pytest.mark.parametrize("order", ORDERS)
def test_a_schedule_may_refer_to_the_game(order):
    """The game's state_dict has the same names if d_steps is a function that holds the game."""
    game = LSGAN(generator(), discriminator(), 3)
    game.k, asked = 1, []
    game.d_steps = lambda i: asked.append(i) or game.k
    game.keep_average()
    arrays = game.state_dict()
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 2, order=order):
        pass
    assert asked == [0, 1] and game.state_dict().keys() == arrays.keys()


# What is logged

class LoggingMore(LSGAN):
    """LSGAN that logs one more value in every third iteration."""

    def begin(self, i):
        self.logs_more = i % 3 == 0

    def log_scores(self, a_real, a_fake):
        super().log_scores(a_real, a_fake)
        if self.logs_more:
            self.logged = {**self.logged, "largest": a_real.data.max()}


def test_logged_values_may_differ_from_step_to_step():
    """Logged and printed means are over the steps in which a value was logged."""
    game, means, out = LoggingMore(generator(), discriminator(), 3), Means(), io.StringIO()
    values, progress = {}, Progress(7, out)
    progress.every = 1e9                    # seconds: only the last step is printed
    for i, _, _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 7):
        assert ("largest" in game.logged) == (i in (0, 3, 6))
        for name, value in game.logged.items():
            values.setdefault(name, []).append(float(value))
        means.add(game.logged)
        progress(i, game.logged)
    assert {name: len(each) for name, each in values.items()} == {
        "D(x)": 7, "D(G(z))": 7, "largest": 3}
    expected = {name: np.mean(each) for name, each in values.items()}
    assert means.take() == pytest.approx(expected, rel=1e-6)        # float32
    assert means.take() == {}
    line, = out.getvalue().splitlines()
    for name, mean in expected.items():
        assert f"  {name} {mean:.3f}" in line


# The steps

@pytest.mark.parametrize("name", GAMES)
def test_d_loss_does_not_depend_on_gs_parameters(name):
    game = make_game(name)
    x, z, _ = draw(game, make_batches(), 5, rng)
    loss = game.d_loss(x, z)
    for p in game.g_parameters():
        assert "does not depend" in error_of(grad, loss, [p])


@pytest.mark.numpy_only("on a GPU a step's noise is drawn there, see test_cuda.py")
def test_a_steps_noise_is_drawn_from_the_runs_own_stream():
    """First the noise, then the seed of the layers' draws: results depend on the order."""
    rng, same = Random(7), Random(7)
    game = GAN(generator(), discriminator(), 3)
    _, z, seed = draw(game, make_batches(), 5, rng)
    assert (z.data == game.latent(5, same).data).all() and seed == same.key()
    assert rng.state == same.state


def train(make, seed=1, order="alternating", iterations=6):
    """Return the losses and the final state of a game that is made and trained with `seed`."""
    rng.seed(seed)
    game = make()
    losses = [(d.item(), g.item()) for _, d, g in
              play(game, make_batches(), *make_optimisers(game), 5, rng, iterations, order=order)]
    return losses, game.state_dict()


@pytest.mark.numpy_only("test_contract.py trains each game on each backend")
@pytest.mark.parametrize("name", GAMES)
def test_the_same_seed_gives_the_same_run_in_simultaneous_order(name):
    (losses, state), (again, state_again), (other, _) = (
        train(lambda: make_game(name), seed, "simultaneous") for seed in (1, 1, 2))
    assert losses == again and all_equal(state, state_again) and losses != other


@pytest.mark.parametrize("name", GAMES)
def test_a_step_depends_on_its_arguments_and_the_games_state_only(name):
    """Random numbers drawn in between and earlier steps change nothing."""
    game = make_game(name)
    game.begin_iteration(3)
    x, z, masks = draw(game, make_batches(), 5, rng)
    others = [(i, draw(game, make_batches(), 5, rng)) for i in (8, 6)]
    state = game.state_dict()
    for step in (lambda *batch: d_step(game, make_optimisers(game)[0], *batch),
                 lambda *batch: g_step(game, make_optimisers(game)[1], *batch),
                 lambda *batch: both_step(game, *make_optimisers(game), *batch)):
        results = []
        for i, other in others:
            game.load_state_dict(state)
            step(x, z, masks)
            results.append(game.state_dict())
            rng.normal((7,))
            game.begin_iteration(i)
            both_step(game, *make_optimisers(game), *other)
        assert all_equal(*results) and not all_equal(state, results[0])


@pytest.mark.parametrize("last", [
    nn.Sigmoid, lambda: ops.sigmoid, lambda: nn.Sequential(nn.Sigmoid(), nn.Flatten()),
    lambda: nn.Sequential(nn.Tanh(), nn.Sequential(nn.Sigmoid()))])
@pytest.mark.parametrize("name", GAMES)
def test_a_discriminator_that_ends_in_a_sigmoid_is_refused(name, last):
    D = nn.Sequential(nn.Dense(2, 3), nn.Sigmoid(), nn.Dense(3, 1))
    GAMES[name](generator(), D)             # a sigmoid inside is allowed
    with pytest.raises(UserError, match="ends in a sigmoid.*remove the sigmoid"):
        GAMES[name](generator(), nn.Sequential(D, last()))


def test_a_sigmoid_after_the_first_head_of_d_is_refused():
    trunk = nn.Dense(2, 3)
    Game(generator(), nn.Heads(trunk, nn.Dense(3, 1), nn.Sigmoid()), 3, losses.Hinge())
    with pytest.raises(UserError, match="ends in a sigmoid"):
        Game(generator(), nn.Sequential(nn.Heads(trunk, nn.Sequential(nn.Dense(3, 1), nn.Sigmoid()),
                                                 nn.Dense(3, 2))), 3, losses.Hinge())


def test_scores_that_are_no_pairs_are_refused():
    """numpy would compare one score with all others."""
    loss = losses.Relativistic()
    for method in loss.d, loss.g:
        message = error_of(method, tensor(normal(6, 1)), tensor(normal(1, 1)))
        assert "(6, 1)" in message and "(1, 1)" in message


# Wasserstein: clipping

def test_wgan_follows_algorithm_1():
    """An iteration is five critic steps, each with new noise and clipping, and one step of G.

    After each clipping all weights of the critic, gains and biases included, lie in [-c, c]; before
    it, some do not.
    """
    D = nn.Sequential(nn.Dense(2, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 1))
    D.layers[-1].bias.data += 1.0           # the gradient of this bias is 0
    game, trace = WGAN(generator(), D, 3, c=0.05), []

    def record(thing, name, note):
        call = getattr(thing, name)

        def call_and_record(*arguments):
            result = call(*arguments)
            trace.append((note, max(abs(p.numpy()).max() for p in D.parameters())))
            return result
        setattr(thing, name, call_and_record)
    d_opt, g_opt = (optim.RMSProp(p, 0.01) for p in (game.d_parameters(), game.g_parameters()))
    for thing, name, note in ((game, "latent", "noise"), (game, "d_loss", "critic loss"),
                              (d_opt, "step", "critic step"), (game, "after_d_step", "clip"),
                              (game, "g_loss", "generator loss"), (g_opt, "step", "G's step")):
        record(thing, name, note)
    for _ in play(game, make_batches(), d_opt, g_opt, 5, rng, 2):
        pass
    once = (["noise", "critic loss", "critic step", "clip"] * 5
            + ["noise", "generator loss", "G's step"])
    assert [note for note, _ in trace] == once * 2
    c = np.float32(0.05)
    assert all(largest <= c for note, largest in trace if note == "clip")
    assert any(largest > c for note, largest in trace if note == "critic step")


@pytest.mark.parametrize("z_size", [-1, 2.5, None, (20,)])
def test_a_z_size_that_is_no_number_of_variables_is_refused(z_size):
    with pytest.raises(UserError, match="z_size must be a whole number of noise variables, got"):
        GAN(nn.Sequential(), nn.Sequential(), z_size)


# Weights of |b - G(a)| are twice the papers', because images lie in [0, 1] and not in [-1, 1]; so a
# penalty's target is twice StarGAN's 1, and its weight a quarter of 10.
DEFAULTS = {
    penalties.GradientPenalty: dict(lam=10.0, target=1.0), penalties.R1: dict(gamma=10.0),
    penalties.R2: dict(gamma=10.0), penalties.Lazy: dict(k=16), losses.Smoothed: dict(target=0.9),
    views.Translation: dict(reach=0.125), views.Cutout: dict(size=0.5),
    GAN: dict(z_size=100), R1: dict(gamma=10.0), SNGAN: dict(z_size=128, n_dis=5),
    WGAN: dict(z_size=100, c=0.01, n_critic=5), WGANGP: dict(z_size=128, lam=10.0, n_critic=5),
    UnrolledGAN: dict(k=5), ConditionalGAN: dict(z_size=100, classes=10),
    InfoGAN: dict(z_size=62, codes=10, continuous=2, lam=1.0),
    BiGAN: dict(z_size=50), ACGAN: dict(lam=1.0), Pix2Pix: dict(lam=2 * 100.0),
    CycleGAN: dict(lam_forward=2 * 10.0, lam_backward=2 * 10.0, pool=50),
    StarGAN: dict(lam_cls=1.0, lam_rec=2 * 10.0, lam_gp=10.0 / 4, target=2 * 1.0, n_critic=5),
    GauGAN: dict(z_size=256, lam=10.0)}


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_default_settings_are_the_papers(kind):
    parameters = inspect.signature(kind.__init__).parameters
    assert {name: parameters[name].default for name in DEFAULTS[kind]} == DEFAULTS[kind]


def test_default_settings_reach_the_penalty_and_the_steps():
    wgan, wgan_gp = WGAN(generator(), discriminator()), WGANGP(generator(), discriminator())
    assert count_steps(wgan, 0) == count_steps(wgan_gp, 0) == (5, 1)
    assert wgan_gp.penalties == [penalties.GradientPenalty(lam=10.0)]


def test_warm_up_equals_the_published_code():
    game = WGAN(generator(), discriminator(), n_critic=warm_up)
    iterations = (0, 1, 24, 25, 26, 499, 500, 501, 999, 1000)
    assert [count_steps(game, i) for i in iterations] == [
        (k, 1) for k in (100, 100, 100, 5, 5, 5, 100, 5, 5, 100)]
    assert count_steps(WGAN(generator(), discriminator()), 0) == (5, 1)


def test_signs_of_the_wasserstein_losses():
    """The critic's steps increase D(x) - D(G(z)), and G's steps increase D(G(z)).

    The data lie at (1, 1), and the samples start at (-1, -1).
    """
    game = WGAN(nn.Dense(3, 2), discriminator(dropout=0), 3, c=0.5)
    game.after_d_step()
    game.G.bias.data -= 1.0
    game.G.weight.data *= 0.0
    x, z = tensor(np.ones((5, 2)), "float32"), game.latent(5, rng)
    d_opt, g_opt = make_optimisers(game, 0.01)

    def scores():
        return game.D(x).mean().item(), game.D(game.G(z)).mean().item()
    for _ in range(3):
        real, fake = scores()
        d_step(game, d_opt, x, z, 0)
        assert scores()[0] - scores()[1] > real - fake
        _, fake = scores()
        g_step(game, g_opt, x, z, 0)
        assert scores()[1] > fake


# Wasserstein: the gradient penalty

SHAPES = [(5, 3), (4, 2, 5), (4, 1, 3, 2), (3, 3, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_penalty_of_a_linear_critic(shape):
    """The penalty is (|w| - slope)^2 for every x_hat; the norm is over all axes of a sample."""
    critic = to_float64(nn.Sequential(nn.Flatten(), nn.Dense(math.prod(shape[1:]), 1)))
    size = np.linalg.norm(critic.layers[1].weight.numpy())
    x, fake = tensor(normal(*shape)), tensor(normal(*shape, seed=1))
    for eps in (np.zeros(shape[0]), np.ones(shape[0]), uniform(shape[0])):
        for slope in (1.0, 0.0, 2.5):
            penalty = gradient_penalty(critic, x, fake, tensor(eps), slope)
            assert penalty.item() == pytest.approx((size - slope) ** 2, **EXACT)
        assert gradient_penalty(critic, x, fake, tensor(eps)).item() == pytest.approx(
            (size - 1) ** 2, **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_penalty_has_one_eps_per_sample(shape):
    """x_hat is eps x + (1 - eps) G(z) with one eps for all numbers of a sample.

    The gradient of the critic |x|^2 / 2 is x, so the penalty depends on |x_hat|.
    """
    x, fake, eps = normal(*shape), normal(*shape, seed=1), uniform(shape[0])
    expected = np.mean([(np.linalg.norm(e * a + (1 - e) * b) - 1) ** 2
                        for e, a, b in zip(eps, x, fake)])
    critic = Formula(lambda x: (x * x).sum(tuple(range(1, x.ndim))) * 0.5)
    penalty = gradient_penalty(critic, tensor(x), tensor(fake), tensor(eps))
    assert penalty.item() == pytest.approx(expected, **EXACT)
    assert "(4,)" in error_of(gradient_penalty, critic, tensor(x)[:3], tensor(fake)[:3],
                              tensor(np.ones(4)))
    assert "(3, 1)" in error_of(gradient_penalty, critic, tensor(x)[:3], tensor(fake)[:3],
                                tensor(np.ones((3, 1))))


def test_eps_is_uniform():
    """The data is 1 and the samples are 0, so x_hat is eps. It is drawn from the step's source."""
    seen = []
    D = Formula(lambda x: seen.append(x.numpy()) or x)
    game = WGANGP(Formula(lambda z: z * 0.0), D, 1)
    x = tensor(np.ones((4000, 1)), "float32")
    for seed in (1, 1, 2):
        with nn.use_random(Random(seed)):
            game.d_loss(x, game.latent(4000, rng))
    first, again, other = (e[:, 0] for e in seen[2::3])      # after D(x) and D(G(z))
    assert (first == again).all() and (first != other).any()
    e = np.float64(first)
    assert 0 <= e.min() and e.max() <= 1
    # 4 standard errors, of the mean and of the mean square: var(e) = 1/12, var(e^2) = 4/45
    assert abs(e.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / 4000)
    assert abs((e ** 2).mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / 4000)


class Penalty(nn.Module):
    """The gradient penalty as a Module, so that the critic's parameters are inputs too."""

    def __init__(self, critic):
        self.critic = critic

    def forward(self, x, x_fake, eps):
        return gradient_penalty(self.critic, x, x_fake, eps)


def mnist_critic():
    return nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 128, 4, 2, 1),
                         nn.LeakyReLU(), nn.Flatten(), nn.Dense(128 * 7 * 7, 1))


@pytest.mark.numpy_only("the operations are tested on each backend")
def test_gradient_of_the_penalty_of_the_mnist_critic():
    """The gradients by every parameter, x, G(z) and eps are right.

    check_grads shrinks its step until no kink of one of the 37,632 leaky ReLUs lies within it.
    """
    x, fake = uniform(2, 1, 28, 28), normal(2, 1, 28, 28)
    check_grads(Penalty(mnist_critic()), x, fake, np.array([0.3, 0.8]), order=1)


def test_the_penalty_is_finite_where_ds_gradient_is_0():
    """A sample for which all ReLUs are 0 has the penalty 1, and no effect on the gradient."""
    critic = to_float64(nn.Sequential(nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 1)))
    first, last = critic.layers[::2]
    first.weight.data[...] = abs(first.weight.data) + 0.1
    # all ReLUs are 0 for the second and the fourth sample
    x = np.array([[1.0, 2.0], [-1.0, -2.0], [0.5, 0.1], [-3.0, -0.1]])

    def penalty(x):
        x = tensor(x)
        value = gradient_penalty(critic, x, x, tensor(np.ones(len(x.data))))
        return value.item(), [g.numpy() for g in
                              grad(value, [first.weight, last.weight], unused="zeros")]
    (value, gradients), (alive, alive_gradients) = penalty(x), penalty(x[::2])
    assert value == pytest.approx((alive + 1) / 2, **EXACT)
    for g, h in zip(gradients, alive_gradients):
        np.testing.assert_allclose(g, h / 2, rtol=1e-12)
        assert g.any()
    value, gradients = penalty(x[1::2])
    assert value == 1.0 and not any(g.any() for g in gradients)


@pytest.mark.parametrize("order", ORDERS)
def test_training_a_critic_of_dead_relus_stays_finite(order):
    game = WGANGP(generator(), nn.Sequential(nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 1)), 3,
                  n_critic=1)
    game.D.layers[0].bias.data -= 100.0
    for _, d_loss, _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 3, order=order):
        assert d_loss.item() == pytest.approx(10.0, rel=1e-6)       # lam times 1, and no distance
    assert all(np.isfinite(array).all() for array in game.state_dict().values())


@pytest.mark.parametrize("name", ["WGANGP", "R1"])
def test_gradient_penalties_refuse_batch_norm(name):
    D = nn.Sequential(nn.Dense(2, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm(4)), nn.Dense(4, 1))
    with pytest.raises(UserError, match="layer 1.1 of D is a BatchNorm: .* use nn.LayerNorm"):
        PLAIN[name](generator(), D)
    D.layers[1] = nn.LayerNorm(4)
    game = PLAIN[name](generator(), D)      # G may have batch normalisation
    d_step(game, make_optimisers(game)[0], *draw(game, make_batches(), 5, rng))


@pytest.mark.parametrize("theta", theory.THETAS)
@pytest.mark.numpy_only("hundreds of steps with 49 parameters; nothing depends on the backend")
def test_the_critic_between_two_points_reaches_its_optimum(theta):
    """D(x) - D(G(z)) is the theoretical optimum to 1 %, with the data and samples at two points.

    It is the optimum under the gradient penalty, see two_points() in examples/theory.py.
    """
    gap, expected = theory.two_points(theta)
    assert gap == pytest.approx(expected, rel=0.01) and expected > abs(theta)


# R1

@pytest.mark.parametrize("one_pass", [False, True])
def test_r1_of_a_linear_discriminator(one_pass):
    """R1 adds gamma / 2 |w|^2 to the loss."""
    D = to_float64(nn.Sequential(nn.Flatten(), nn.Dense(12, 1)))
    x, z = tensor(normal(4, 3, 2, 2)), tensor(normal(4, 3, 2, 2, seed=1))
    plain, game = GAN(nn.Sequential(), D), R1(nn.Sequential(), D, gamma=7.0)
    expected = plain.d_loss(x, z).item() + 3.5 * (D.layers[1].weight.numpy() ** 2).sum()
    loss = game.losses(x, z)[0] if one_pass else game.d_loss(x, z)
    assert loss.item() == pytest.approx(expected, **EXACT)
    assert R1(nn.Sequential(), D).penalties == [penalties.R1(10.0)]


@pytest.mark.parametrize("one_pass", [False, True])
def test_r1_depends_on_the_data_only(one_pass):
    """The gradient of |x|^2 / 2 is x, so the penalty is gamma / 2 E |x|^2 of the data."""
    D = Formula(lambda x: (x * x).sum(1, keepdims=True) * 0.5)
    plain, game = GAN(nn.Sequential(), D), R1(nn.Sequential(), D, gamma=7.0)
    x, z = tensor(normal(4, 3)), tensor(normal(4, 3, seed=1))
    loss = game.losses(x, z)[0] if one_pass else game.d_loss(x, z)
    expected = 3.5 * np.mean([sample @ sample for sample in x.numpy()])
    assert loss.item() - plain.d_loss(x, z).item() == pytest.approx(expected, **EXACT)


# Spectral normalisation

@pytest.mark.parametrize("plain, name", [
    (lambda: nn.Dense(12, 1), "2.1"), (lambda: nn.Conv2d(2, 3, 2), "0"),
    (lambda: nn.ConvTranspose2d(2, 3, 2), "0")], ids=["Dense", "Conv2d", "ConvTranspose2d"])
def test_sngan_refuses_a_layer_that_is_not_normalised(plain, name):
    layer = plain()
    layers = [nn.Conv2d(2, 3, 2), nn.LeakyReLU(),
              nn.Sequential(nn.Flatten(), nn.Dense(12, 1))]
    if isinstance(layer, nn.Dense):
        nn.spectral_norm(layers[0])
        layers[2].layers[1] = layer
    else:
        nn.spectral_norm(layers[2].layers[1])
        layers[0] = layer
    with pytest.raises(UserError) as raised:
        SNGAN(generator(), nn.Sequential(*layers))
    assert f"layer {name} of D is a {type(layer).__name__}: its weight is not normalised" in str(
        raised.value)
    assert "nn.spectral_norm" in str(raised.value)
    nn.spectral_norm(layer)
    SNGAN(generator(), nn.Sequential(*layers))      # G may have plain layers


def test_samples_do_not_depend_on_the_rest_of_the_batch():
    """sample() uses G in evaluation, or its average where one is kept, and changes neither."""
    G = nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), nn.Sigmoid())
    game, z = Game(G, nn.Dense(4, 1), 3), tensor(normal(8, 3), "float32")
    G(z)
    before = G.state_dict()
    several, one = game.sample(z), game.sample(Tensor(z.data[2:3]))
    np.testing.assert_allclose(to_numpy(several)[2:3], to_numpy(one), atol=1e-6)   # float32
    assert all(part.training for _, part in G.modules())
    assert all((value == before[name]).all() for name, value in G.state_dict().items())
    game.keep_average(0.5)
    several = game.sample(z)
    G.layers[0].weight.data += 1.0
    game.touch()            # the average counts as updated
    assert (game.sample(z) == several).all()


def test_sngan_refuses_maxout():
    """Maxout has a weight, but spectral_norm does not support it."""
    D = nn.Sequential(nn.Maxout(2, 3, 2), nn.spectral_norm(nn.Dense(3, 1)))
    with pytest.raises(UserError, match="layer 0 of D is a Maxout"):
        SNGAN(generator(), D)


def test_sngan_has_the_papers_number_of_discriminator_steps():
    D = normalise(discriminator())
    assert count_steps(SNGAN(generator(), D), 0) == (5, 1)
    assert count_steps(SNGAN(generator(), D, n_dis=1), 0) == (1, 1)


# Instance noise

@pytest.mark.parametrize("order", ORDERS)
def test_sigma_follows_its_schedule(order):
    noise, trace = views.InstanceNoise(lambda i: 0.1 * i), []
    game = LSGAN(generator(), discriminator(), 3, views=[noise],
                 d_steps=2 if order == "alternating" else 1)
    for name in ("d_loss", "g_loss", "losses"):
        setattr(game, name, lambda x, z, loss=getattr(game, name):
                trace.append(float(noise.noise.sigma)) or loss(x, z))
    opts = make_optimisers(game)
    for i, _, _ in play(game, make_batches(), *opts, 5, rng, 6, start=4, order=order):
        assert trace == pytest.approx([0.1 * i] * (3 if order == "alternating" else 1), rel=1e-6)
        trace.clear()                                                               # float32
    assert i == 5


@pytest.mark.parametrize("name", PLAIN)
def test_instance_noise_is_added_to_all_inputs_of_d_only_in_training(name):
    """Each input has new noise, from the source of the dropout masks."""
    seen = []
    D = nn.Sequential(Formula(lambda x: seen.append(x.numpy()) or x), smooth_discriminator())
    game = to_float64(PLAIN[name](nn.Sequential(), D, views=[views.InstanceNoise(0.5)]))
    game.D.eval()                           # without SNGAN's power iteration
    x, z = normal(4, 2), normal(4, 2, seed=9)
    eps = uniform(4)
    between = [eps[:, None] * x + (1 - eps[:, None]) * z] * (name == "WGANGP")
    for loss, expected in ((game.d_loss, [x, z, *between]), (game.losses, [x, z, *between]),
                           (game.g_loss, [z, x] if name in ("RSGAN", "RaGAN") else [z])):
        seen.clear()
        source = Recorded()
        with nn.use_random(source):
            loss(tensor(x), tensor(z))
        assert len(seen) == len(expected) == len(source.given)
        for a, clean, n in zip(seen, expected, source.given):
            np.testing.assert_allclose(a, clean + 0.5 * n, atol=1e-12)
        seen.clear()
        source.given.clear()
        with nn.use_random(source), nn.eval_mode(game):
            loss(tensor(x), tensor(z))
        assert source.given == []
        for a, clean in zip(seen, expected, strict=True):
            np.testing.assert_allclose(a, clean, atol=1e-12)


@pytest.mark.numpy_only("test_contract.py trains each game on each backend")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "WGANGP"])
def test_a_game_with_sigma_0_is_the_game_without_noise(name, order):
    """The runs are equal bit for bit, if the step draws no other random numbers, such as eps."""
    def game(*sigma):
        return lambda: PLAIN[name](generator(), discriminator(dropout=0),
                                   views=[views.InstanceNoise(s) for s in sigma])
    without, state = train(game(), order=order)
    with_none, its_state = train(game(0.0), order=order)
    assert without == with_none
    assert all_equal({**state, "views.0.noise.sigma": np.zeros(())}, its_state)
    assert train(game(0.1), order=order)[0] != without


def test_a_view_adds_no_parameters_and_logs_nothing():
    plain = WGAN(generator(), discriminator(), 3, n_critic=warm_up)
    game = WGAN(plain.G, plain.D, 3, n_critic=warm_up, views=[views.InstanceNoise(0.1)])
    for mine, its in ((game.d_parameters(), plain.D), (game.g_parameters(), plain.G),
                      (game.parameters(), plain)):
        assert [id(p) for p in mine] == [id(p) for p in its.parameters()]
    game.d_loss(*draw(game, make_batches(), 5, rng)[:2])
    assert set(game.logged) == {"D(x)", "D(G(z))", "W"}


def test_a_view_adds_separate_noise_to_each_tensor_and_none_to_labels():
    view, source, labels = views.InstanceNoise(0.5), Recorded(), backend.xp.arange(4)
    x, code = tensor(normal(4, 2)), tensor(normal(4, 3, seed=1))
    with nn.use_random(source):
        (a, its), (b,) = view(((x, labels), (code,)))
    assert its is labels and len(source.given) == 2
    for noisy, clean, n in zip((a, b), (x, code), source.given):
        np.testing.assert_allclose(noisy.numpy(), clean.numpy() + 0.5 * n, rtol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_a_game_with_noise_and_averages_can_be_copied_and_saved(name):
    """A copy, and a new game with the game's state, continue the training as the game does."""
    def train_on(game):
        rng.seed(5)
        for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 5, start=2):
            pass
        return game.state_dict()
    game = GAMES[f"{name}, noisy and averaged"](generator(), discriminator())
    twin, other = copy.deepcopy(game), GAMES[f"{name}, noisy and averaged"](generator(),
                                                                            discriminator())
    start = game.state_dict()
    other.load_state_dict(start)
    end = train_on(game)
    assert all_equal(twin.state_dict(), start) and not all_equal(start, end)   # nothing is shared
    assert all_equal(train_on(twin), end) and all_equal(train_on(other), end)


def test_a_negative_sigma_is_refused():
    assert "-0.1" in error_of(views.InstanceNoise, -0.1)
    game = LSGAN(generator(), discriminator(), 3,
                 views=[views.InstanceNoise(lambda i: 1.0 - i)])
    game.begin_iteration(1)
    assert "-1.0" in error_of(game.begin_iteration, 2)


def test_views_are_applied_one_after_the_other():
    """Noise of standard deviation 3 plus noise of 4 has the standard deviation 5."""
    noisy = []
    game = WGAN(generator(), Formula(lambda x: noisy.append(x.numpy()) or x[:, :1]), 3,
                views=[views.InstanceNoise(3.0), views.InstanceNoise(4.0)])
    x = tensor(normal(2000, 2), "float32")
    game.d_loss(x, game.latent(2000, rng))
    # 4 standard errors; that of the standard deviation of n numbers is 1 / sqrt(2n) of it
    assert (noisy[0] - x.numpy()).std() == pytest.approx(5.0, rel=4 / 8000 ** 0.5)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_negative_and_nan_settings_are_refused(wrong):
    for make in (lambda: WGAN(generator(), discriminator(), c=wrong),
                 lambda: WGAN(generator(), discriminator(), c=0.0),
                 lambda: WGANGP(generator(), discriminator(), lam=wrong),
                 lambda: R1(generator(), discriminator(), gamma=wrong),
                 lambda: views.InstanceNoise(wrong),
                 lambda: nn.GaussianNoise(wrong)):
        assert "got" in error_of(make)


def test_the_error_message_names_d_if_d_is_one_layer():
    with pytest.raises(UserError, match="^D is a Dense: "):
        SNGAN(generator(), nn.Dense(2, 1), 3)


# An average of G's weights

@pytest.mark.parametrize("order", ORDERS)
def test_the_average_of_g_equals_the_recursion(order):
    """After each step of G, p_average <- decay p_average + (1 - decay) p.

    D's steps do not change it. Its buffers, those of batch normalisation, are copies of G's. In
    float32 each of five steps rounds a number of size 1 by 1e-7 at most.
    """
    game = Hinge(generator(), discriminator(), 3, d_steps=2 if order == "alternating" else 1)
    game.keep_average(0.6)
    average, = game.averages.values()
    expected = {name: np.float64(p) for name, p in copy_parameters(game.G).items()}
    assert all_equal(average.state_dict(), game.G.state_dict())
    for _ in play(game, make_batches(), *make_optimisers(game, 0.2), 5, rng, 5, order=order):
        for name, p in copy_parameters(game.G).items():
            expected[name] = 0.6 * expected[name] + 0.4 * p
            np.testing.assert_allclose(copy_parameters(average)[name], expected[name],
                                       rtol=0, atol=1e-6)
        parameters = copy_parameters(game.G)
        assert max(abs(p - expected[name]).max() for name, p in parameters.items()) > 1e-3
        for name, buffer in game.G.named_arrays(backend.xp.ndarray).items():
            kept = average.named_arrays(backend.xp.ndarray)[name]
            assert (to_numpy(kept) == to_numpy(buffer)).all() and kept is not buffer


def test_the_average_of_a_spectrally_normalised_g_has_its_own_u_and_v():
    """u and v belong to the average's own weights W: u = W v / |W v|. G's u and v do not.

    So the average's layers have the spectral norm 1. An error of up to 1 % remains, because the
    weights change fast here. u is rounded to float32, which is exact to 6e-8.
    """
    G = nn.Sequential(nn.spectral_norm(nn.Dense(3, 8)), nn.Tanh(), nn.spectral_norm(nn.Dense(8, 2)))
    game = Hinge(G, discriminator(), 3)
    game.keep_average(0.9)
    for _ in play(game, make_batches(), *make_optimisers(game, 0.2), 5, rng, 200):
        pass
    for averaged, own in zip(game.averages["G"].layers[::2], G.layers[::2]):
        w = averaged.weight_orig.numpy().astype("float64")
        u, v, its_u, its_v = (to_numpy(a) for a in (averaged.weight_u, averaged.weight_v,
                                                    own.weight_u, own.weight_v))
        largest = np.linalg.svd(w, compute_uv=False)[0]
        assert largest / (u @ w @ v) == pytest.approx(1, abs=0.01)
        assert np.allclose(u, w @ v / np.linalg.norm(w @ v), rtol=0, atol=1e-6)
        assert not np.allclose(its_u, w @ its_v / np.linalg.norm(w @ its_v), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PLAIN)
def test_an_average_does_not_change_the_training(name, order):
    """The run without it is the same bit for bit, and no player has its parameters."""
    def make_averaged():
        game = PLAIN[name](generator(), discriminator())
        game.keep_average(0.9)
        own = set(game.averages["G"].parameters())
        assert not own & set(game.d_parameters() + game.g_parameters())
        return game
    losses, state = train(lambda: PLAIN[name](generator(), discriminator()), order=order)
    averaged_losses, averaged_state = train(make_averaged, order=order)
    assert losses == averaged_losses
    assert all_equal(state, {key: value for key, value in averaged_state.items()
                             if not key.startswith("averages.G.")})


def test_batch_statistics_of_an_average_are_those_of_its_own_samples():
    """They are the means over ten fixed batches of a hundred samples.

    They are measured before sampling, without dropout masks, and without any other effect.
    """
    G = nn.Sequential(nn.Dense(3, 4), nn.Dropout(0.5), nn.BatchNorm(4, momentum=0.3), nn.Tanh(),
                      nn.spectral_norm(nn.Dense(4, 2)))
    game = Hinge(G, discriminator(), 3)
    game.keep_average(0.5)
    for _ in play(game, make_batches(), *make_optimisers(game, 0.2), 5, rng, 3):
        pass
    average = game.averages["G"]
    norm = average.layers[2]

    def check():
        """Assert that the statistics are right, up to float32's rounding."""
        w, b = (np.float64(p.numpy()) for p in average.layers[0].parameters())
        noise = Random(0)
        batches = [game.latent(100, noise).numpy() @ w.T + b for _ in range(10)]
        for found, expected in ((norm.running_mean, [x.mean(0) for x in batches]),
                                (norm.running_var, [x.var(0, ddof=1) for x in batches])):
            np.testing.assert_allclose(to_numpy(found), np.mean(expected, 0), rtol=1e-5, atol=1e-6)
    before, state, parameters = rng.state, copy_parameters(game), game.G.state_dict()
    u, modes = to_numpy(average.layers[4].weight_u).copy(), [p.training for _, p in game.modules()]
    with game.use_averages():
        pass
    check()
    assert rng.state == before and all_equal(copy_parameters(game), state) and norm.momentum == 0.3
    assert all_equal(game.G.state_dict(), parameters)
    assert (to_numpy(average.layers[4].weight_u) == u).all()
    assert [p.training for _, p in game.modules()] == modes
    measured = to_numpy(norm.running_mean).copy()
    g_step(game, make_optimisers(game)[1], *draw(game, make_batches(), 5, rng))
    game.sample(game.latent(2, rng))
    check()
    assert abs(to_numpy(norm.running_mean) - measured).max() > 1e-4


def test_the_rule_of_the_last_operation_may_be_any_function():
    """It is compared with that of a sigmoid, also if it is an object without a hash value."""
    @dataclass
    class Rule:
        factor: float

        def __call__(self, g, y):
            return g * self.factor

    class Doubled(nn.Sequential):
        def forward(self, x):
            y = super().forward(x)
            return op(y.data * 2, (y, Rule(2.0)))
    game = GAN(nn.Sequential(nn.Dense(3, 2)), Doubled(nn.Dense(2, 1)), 3)
    x, z = Tensor(Random(1).normal((5, 2))), game.latent(5, Random(2))
    check = grad(game.d_loss(x, z), game.d_parameters())
    assert len(check) == 2


def test_by_default_no_average_is_kept():
    game = LSGAN(generator(), discriminator())
    assert game.averages is None
    game.keep_average()
    assert game.average_decay == 0.999


def test_an_average_with_decay_0_equals_g():
    game = LSGAN(generator(), discriminator(), 3)
    game.keep_average(0)
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 2):
        for a, b in zip(game.averages["G"].parameters(), game.g_parameters()):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)     # float32


def test_a_shared_weight_is_averaged_once():
    """A layer that G contains twice has its weights under two names."""
    layer = nn.Dense(3, 3)
    game = LSGAN(nn.Sequential(layer, nn.Tanh(), layer), nn.Dense(3, 1), 3)
    game.keep_average(0.5)
    before = layer.weight.numpy().copy()
    layer.weight.data += 1.0
    game.after_g_step()
    game.update_averages()
    average = game.averages["G"].layers[0].weight
    np.testing.assert_allclose(average.numpy(), before + 0.5, atol=1e-6)        # float32


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5, math.nan])
def test_a_decay_outside_0_to_1_is_refused(decay):
    game = LSGAN(generator(), discriminator())
    assert str(decay) in error_of(game.keep_average, decay)
    assert game.averages is None


# Packs

class Pack(views.View):
    """Join k consecutive samples to one with k times the channels (Lin et al. 2018)."""

    def __init__(self, k):
        self.k = k

    def forward(self, x):
        return x.reshape(len(x) // self.k, -1)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_penalties_of_a_pack_view_equal_those_of_the_packs(k):
    """The same D scores packs directly, or through a view that makes the packs."""
    D = nn.Sequential(nn.Dense(2 * k, 5), nn.Tanh(), nn.Dense(5, 1))
    x, fake = (tensor(normal(6, 2, seed=i), "float32") for i in range(2))
    game = Hinge(generator(), D, 3, views=[Pack(k)])
    packs, fakes = (tensor(a.numpy().reshape(6 // k, -1)) for a in (x, fake))
    r1 = penalties.R1(2.0)(game.score, x, None, game.score(x), None)
    expected = penalties.squared_gradient_norm(packs, D(packs)).item()
    assert r1.item() == pytest.approx(expected, rel=1e-5)
    with nn.use_random(Recorded()):
        gp = penalties.GradientPenalty(3.0)(game.score, x, fake, game.score(x), None)
    eps = tensor(uniform(6 // k), "float32")
    expected = 3 * gradient_penalty(D, packs, fakes, eps).item()
    assert gp.item() == pytest.approx(expected, rel=1e-5)          # float32


@pytest.mark.parametrize("penalty", [penalties.R1(2.0), penalties.GradientPenalty(3.0)])
def test_a_lazy_penalty_has_k_times_its_weight_in_every_kth_iteration(penalty):
    G, D, x = generator(), smooth_discriminator(), tensor(normal(4, 2))
    plain, whole, lazy = (Game(G, D, 3, losses.NonSaturating(), chosen) for chosen in (
        [], [penalty], [penalties.Lazy(penalty, 3)]))
    for game in plain, whole, lazy:
        to_float64(game).eval()
    for i in range(7):
        z = to_float64(lazy.latent(4, Random(i)))
        lazy.begin_iteration(i)
        with nn.use_random(Recorded()):
            without, with_penalty, found = (
                game.d_loss(x, z).item() for game in (plain, whole, lazy))
        if i % 3:
            assert found == without
        else:
            term = with_penalty - without
            assert term > 0 and found == pytest.approx(without + 3 * term, **EXACT)


def test_a_lazy_penalty_needs_the_iteration():
    game = GAN(generator(), discriminator(), 3, penalties=[penalties.Lazy(penalties.R1(1.0))])
    x, z = tensor(normal(4, 2), "float32"), game.latent(4, rng)
    for loss in game.d_loss, game.losses:
        assert "call the game's begin_iteration(i)" in error_of(loss, x, z)
    game.begin_iteration(0)
    game.penalties.append(penalties.R2(1.0))        # not known to be due in iteration 0
    assert "call the game's begin_iteration(i)" in error_of(game.d_loss, x, z)
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 2):
        pass
    assert "call the game's begin_iteration(i)" in error_of(game.d_loss, x, z)


def test_a_lazy_penalty_is_due_when_its_penalty_is():
    class Odd(penalties.R1):
        def is_due(self, i):
            return i % 2 == 1

    class Silent(penalties.R1):
        def is_due(self, i):
            i % 2 == 1
    assert [i for i in range(9) if penalties.Lazy(Odd(1.0), 3).is_due(i)] == [3]
    game = GAN(generator(), discriminator(), 3, penalties=[Silent(1.0)])
    assert "returned None: end it with a return" in error_of(game.begin_iteration, 0)


@pytest.mark.parametrize("wrong", [(None,), (penalties.R1(1.0), 0), (penalties.R1(1.0), 1.5),
                                   (penalties.Lazy(penalties.R1(1.0)), 2)])
def test_a_lazy_penalty_takes_a_penalty_and_a_number(wrong):
    assert "takes a penalty, such as penalties.R1(10.0)" in error_of(penalties.Lazy, *wrong)


@pytest.mark.parametrize("value, got", [
    (None, "got None"), (3.0, "got 3.0"), (tensor([1.0, 2.0], "float32"), r"got \(2,\)")])
def test_a_penalty_returns_one_number(value, got):
    class Wrong(penalties.Penalty):
        def __call__(self, *args):
            return value
    game = GAN(generator(), discriminator(), 3, penalties=[Wrong()])
    with pytest.raises(TypeError, match=f"Wrong must be a Tensor of one number, {got}"):
        game.d_loss(tensor(normal(4, 2), "float32"), game.latent(4, rng))


@pytest.mark.parametrize("make", [penalties.R1, penalties.R2])
def test_penalties_do_not_depend_on_the_size_of_a_map_of_scores(make):
    """The losses are means over the map, and so a map of equal scores has the penalty of one."""
    x = tensor(normal(4, 2, 3, 3))
    w = tensor(normal(2, 3, 3, seed=1))

    def score(x, size):
        one = (x * w).sum((1, 2, 3)).reshape(4, 1, 1, 1)
        return one * tensor(np.ones((1, 1, size, size)))
    values = [make(2.0)(None, x, x, score(x, size), score(x, size)).item()
              for size in (1, 2, 5)]
    assert values == pytest.approx([(w.numpy() ** 2).sum()] * 3, **EXACT)


# Invalid arguments

@pytest.mark.parametrize("choices, words", [
    (dict(loss=losses.Hinge), "losses.Hinge()"), (dict(loss="hinge"), "losses.Hinge()"),
    (dict(penalties=penalties.R1()), "[penalties.R1(10.0)]"),
    (dict(penalties=[penalties.R1]), "[penalties.R1(10.0)]"),
    (dict(views=views.InstanceNoise(0.1)), "[views.InstanceNoise(0.1)]"),
    (dict(views=[lambda x: x]), "[views.InstanceNoise(0.1)]")])
def test_invalid_losses_penalties_and_views_are_refused(choices, words):
    assert words in error_of(lambda: GAN(generator(), discriminator(), 3, **choices))


def test_play_refuses_a_game_without_a_loss():
    game = Game(generator(), discriminator(), 3)
    iterations = play(game, make_batches(), *make_optimisers(game), 5, rng, 1)
    assert "losses.Hinge()" in error_of(lambda: next(iterations))
    x, z = next(make_batches()), game.latent(5, rng)
    for f in (game.d_loss, game.g_loss, game.losses):
        with pytest.raises(NotImplementedError, match=r"losses.Hinge\(\)"):
            f(Tensor(x), z)


@pytest.mark.parametrize("make", [lambda a: float(a.mean()), lambda a: None, lambda a: a,
                                  lambda a: (a.mean(), a.mean())])
@pytest.mark.parametrize("player", ["D", "G"])
def test_a_loss_that_is_not_one_number_is_refused_in_a_step(player, make):
    class Odd(losses.Wasserstein):
        def d(self, real, fake):
            return make(fake) if player == "D" else super().d(real, fake)

        def g(self, real, fake):
            return make(fake) if player == "G" else super().g(real, fake)
    game = Game(generator(), discriminator(), 3, loss=Odd())
    with pytest.raises(TypeError, match=f"{player}'s loss in Game must be a Tensor of one number"):
        next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


@pytest.mark.parametrize("g", [lambda real, fake: (real - fake).mean(),
                               lambda real, fake: ops.relu(real).mean()])
def test_a_loss_that_needs_scores_of_the_data_is_told_how_to_get_them(g):
    class Relative(losses.Hinge):
        def g(self, real, fake):
            return g(real, fake)
    x, z = Tensor(next(make_batches())), GAN(generator(), discriminator(), 3).latent(5, rng)
    game = Game(generator(), discriminator(), 3, loss=Relative())
    message = error_of(game.g_loss, x, z)
    assert "Relative.g() the scores of the data are None, unless the class sets comp" in message
    Relative.compares = True
    assert game.g_loss(x, z).size == 1


def test_a_game_with_its_own_d_loss_refuses_penalties():
    class WithDLoss(Game):
        def d_loss(self, x, z):
            return self.score(self.fake(x, z)).mean() - self.score(self.real(x)).mean()

    class WithBoth(WithDLoss):
        def g_loss(self, x, z):
            return -self.score(self.fake(x, z)).mean()
    game = WithBoth(generator(), discriminator(), 3)
    assert len(list(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))) == 1
    assert "penalties would have no effect" in error_of(
        lambda: WithDLoss(generator(), discriminator(), 3, penalties=[penalties.R1()]))


def test_overridden_hooks_need_not_call_super():
    """Sigma and the averages change also in a game that overrides begin and after_g_step."""
    class Hooked(Hinge):
        def begin(self, i):
            pass

        def after_g_step(self):
            pass
    game = Hooked(generator(), discriminator(), 3,
                  views=[views.InstanceNoise(schedules.linear(1.0, 0.0, 2))])
    game.keep_average(0.5)
    before = [p.numpy().copy() for p in game.averages["G"].parameters()]
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 3):
        pass
    assert float(game.views[0].noise.sigma) == 0
    assert any((p.numpy() != q).any() for p, q in zip(game.averages["G"].parameters(), before))


# An encoder, which is a part of G and contributes to D's input for the data

class Encoding(Game):
    """A game in which D scores (x, E(x)) and (G(z), z), as in BiGAN (Donahue et al. 2017)."""

    g_players = ("G", "E")

    def __init__(self, G, E, D, **choices):
        super().__init__(G, D, 3, **choices)
        self.E = E

    def real(self, x):
        return ops.concat([x, self.E(x)], 1)

    def fake(self, x, z):
        return ops.concat([self.G(z), z], 1)


# loss: what the encoder minimises, as a function of D's scores a of (x, E(x))
ENCODER_LOSSES = {
    losses.Saturating(): lambda a: -np.log1p(np.exp(-a)).mean(),
    losses.NonSaturating(): lambda a: np.log1p(np.exp(a)).mean(),
    losses.ReverseKL(): lambda a: a.mean(),
    losses.LeastSquares(): lambda a: (a ** 2).mean(),
    losses.Hinge(): lambda a: a.mean(),
    losses.Wasserstein(): lambda a: a.mean(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_encoder_has_its_own_loss_term(loss, order):
    """G's loss has a term with D's scores of (x, E(x)), and training changes E."""
    def make_encoding():
        rng.seed(0)
        return Encoding(nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 3)),
                        nn.Sequential(nn.Dense(5, 4), nn.Tanh(), nn.Dense(4, 1)), loss=loss)
    game = make_encoding()
    x, z = (tensor(normal(6, n, seed=n), "float32") for n in (2, 3))
    a = game.score(game.real(x)).numpy()
    fake = game.loss.g(None, game.score(game.fake(x, z))).item()
    for g_loss in (game.g_loss(x, z), game.losses(x, z)[1]):
        assert g_loss.item() - fake == pytest.approx(ENCODER_LOSSES[loss](a), rel=1e-5, abs=1e-6)
    before = [p.numpy().copy() for p in game.E.parameters()]
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 2, order=order):
        pass
    assert all((p.numpy() != q).any() for p, q in zip(game.E.parameters(), before))


def test_the_samples_of_a_gradient_penalty_have_the_shape_of_the_data():
    """A flat G's samples would otherwise broadcast, or fail somewhere inside."""
    game = WGANGP(nn.Dense(3, 16), nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    x = Tensor(backend.xp.zeros((5, 1, 4, 4), "float32"))
    with pytest.raises(ValueError, match=r"the same shape, got \(5, 1, 4, 4\) and \(5, 16\)"):
        game.d_loss(x, game.latent(5, rng))


class Wrapped(nn.Module):
    """A generator that is no Sequential: what it ends in cannot be read from its parts."""

    def __init__(self, net, activation):
        self.net, self.activation = net, activation

    def forward(self, z):
        return self.activation(self.net(z)).reshape(-1, 1, 4, 4)


class Tan(nn.Module):
    """An activation of one's own."""

    def forward(self, x):
        return ops.tanh(x)


@pytest.mark.parametrize("activation, low", [
    (nn.Tanh(), -1), (ops.tanh, -1), (Tan(), -1), (lambda x: ops.tanh(x), -1), (nn.Sigmoid(), 0),
    (ops.relu, 0), (lambda x: x, 0), (lambda x: ops.tanh(x) * 0.5 + 0.5, 0), (abs, 0)])
def test_the_pictures_of_a_generator_do_not_depend_on_how_it_is_written(activation, low):
    """Samples in [-1, 1] are mapped to [0, 1], whatever computes the tanh, and no others are.

    Small numbers equal their tanh; an identity is no tanh for them either.
    """
    net = nn.Sequential(nn.Dense(3, 16), nn.BatchNorm(16))
    for factor in (1.0, 1e-5):
        z = tensor(factor * normal(5, 3), "float32")
        samples = GAN(Wrapped(net, activation), discriminator(), 3).sample(z)
        expected = (samples + 1) / 2 if low else samples
        for G in (Wrapped(net, activation), nn.Sequential(net, activation, nn.Reshape(1, 4, 4))):
            game = GAN(G, discriminator(), 3)
            for context in (contextlib.nullcontext, no_grad):
                with context():
                    assert to_numpy(game.sample_images(z) == expected).all()


@pytest.mark.parametrize("last", [
    lambda x: resampling.avg_pool(x, 2), lambda x: resampling.upsample(x, 2), nn.Upsample(2),
    lambda x: x.sum(3), lambda x: ops.concat([x, x])])
def test_generators_that_end_in_another_operation_are_shown_as_they_are(last):
    G = Wrapped(nn.Dense(3, 16), ops.sigmoid)
    G.forward = lambda z: last(Wrapped.forward(G, z))
    game = GAN(G, discriminator(), 3)
    z = game.latent(3, rng)
    assert to_numpy(game.sample_images(z) == game.sample(z)).all()


def test_a_game_with_a_sample_of_its_own_shows_that():
    class Halved(GAN):
        def sample(self, z):
            return self.G(z * 0.5).data
    G = nn.Sequential(nn.Dense(3, 4), nn.Tanh())
    game = Halved(G, nn.Dense(4, 1), 3)
    z = game.latent(3, rng)
    assert to_numpy(game.sample_images(z) == (game.sample(z) + 1) / 2).all()


class Pieces(nn.Module):
    """Dropout of each number as a sample of its own: it draws (m n, 1) masks for (m, n) numbers."""

    def __init__(self):
        self.dropout = nn.Dropout(0.5, always=True)

    def forward(self, x):
        return self.dropout(x.reshape(-1, 1)).reshape(*x.shape)


def test_random_numbers_of_a_layer_that_draws_several_rows_for_a_sample():
    """The numbers of a sample differ from each other, and do not depend on the other samples."""
    game = GAN(nn.Sequential(nn.Dense(3, 40), Pieces()), nn.Dense(40, 1), 3)
    z = tensor(normal(6, 3), "float32")
    together = to_numpy(game.sample(z))
    alone = [to_numpy(game.sample(z[i:i + 1])) for i in range(6)]
    # the products of one row and of six may round differently
    assert together == pytest.approx(np.concatenate(alone), rel=1e-5)
    kept = (together != 0).mean(1)
    assert (0.1 < kept).all() and (kept < 0.9).all()        # 40 numbers: 5 standard deviations


def test_two_layers_draw_different_numbers_for_a_sample():
    game = GAN(nn.Sequential(nn.Dense(3, 40), nn.Dropout(0.5, always=True),
                             nn.Dropout(0.5, always=True)), nn.Dense(40, 1), 3)
    kept = to_numpy(game.sample(tensor(normal(6, 3), "float32"))) != 0
    # 1/4 of 240 numbers, not 1/2 as with one mask for both: 1/4 is 9 standard errors below that
    assert abs(kept.mean() - 0.25) < 0.12


def test_a_layer_that_draws_for_the_whole_minibatch_is_refused_in_evaluation():
    class Shared(nn.Module):
        def forward(self, x):
            return x + nn.current_random().normal(x.shape[1:])
    game = GAN(nn.Sequential(nn.Dense(3, 7), Shared()), nn.Dense(7, 1), 3)
    with pytest.raises(UserError, match=r"draws an array \(7,\) while 5 samples"):
        game.sample(game.latent(5, rng))


def test_one_row_for_all_samples_is_one_for_each_in_evaluation():
    """So samples do not depend on the others. No samples take no random numbers."""
    class Shared(nn.Module):
        def forward(self, x):
            return x + nn.current_random().normal((1, 7))
    game = GAN(nn.Sequential(nn.Dense(3, 7), Shared()), nn.Dense(7, 1), 3)
    z = game.latent(5, rng)
    noise = game.sample(z) - game.G.layers[0](z).data
    assert noise.shape == (5, 7) and to_numpy(abs(noise[0] - noise[1])).min() > 1e-6
    assert game.sample(game.latent(5, rng)[:0]).shape == (0, 7)


def test_samples_of_several_outputs_and_numbers_of_samples_are_refused():
    G = nn.Heads(nn.Dense(3, 4), nn.Dense(4, 2), nn.Dense(4, 2))
    game = GAN(G, nn.Dense(2, 1), 3)
    with pytest.raises(TypeError, match="G's output is a tuple .* define sample"):
        game.sample(game.latent(5, rng))
    for n in (5, np.int64(5)):
        with pytest.raises(TypeError, match="sample takes the inputs of G, such as latent.5,"):
            game.sample(n)


def test_a_player_that_is_no_module_has_no_parameters():
    for G, D, name in ((nn.Dense, nn.Dense(2, 1), "G"), (nn.Dense(3, 2), lambda x: x, "D")):
        with pytest.raises(UserError, match=f"{name} must be a Module, such as .* got <"):
            make_optimisers(GAN(G, D, 3))


@pytest.mark.parametrize("names, fix", [("G", "('G',), with a comma"), ("G, E", "('G', 'E')"),
                                        ("G E", "('G', 'E')")])
def test_a_text_for_the_names_of_a_player_is_refused(names, fix):
    class Several(GAN):
        g_players = names
    assert error_of(Several, nn.Dense(3, 2), nn.Dense(2, 1), 3).endswith(f"g_players = {fix}")


def test_a_name_of_a_player_that_is_no_attribute_is_refused():
    class Several(GAN):
        g_players = "G, E",
    game = Several(nn.Dense(3, 2), nn.Dense(2, 1), 3)
    with pytest.raises(UserError, match="^G, E must be a Module, .* but Several has no attribute"):
        game.g_parameters()


def test_a_player_of_another_kind_may_list_its_parameters_itself():
    """Such as a D of several scales, in a list."""
    class Several(GAN):
        def discriminate(self, x):
            return sum(D(x) for D in self.D)

        def d_parameters(self):
            return [p for D in self.D for p in D.parameters()]
    game = Several(generator(), [discriminator(), discriminator()], 3)
    next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


def test_an_autoencoder_as_d_may_end_in_a_sigmoid():
    """As in BEGAN, whose scores are the errors of D's reconstructions."""
    class Autoencoding(GAN):
        d_returns_scores = False

        def discriminate(self, x):
            return abs(self.D(x) - x).mean(1, keepdims=True)
    game = Autoencoding(generator(), nn.Sequential(nn.Dense(2, 2), nn.Sigmoid()), 3,
                        loss=losses.Wasserstein())
    next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))
    with pytest.raises(UserError, match="set d_returns_scores = False"):
        GAN(generator(), nn.Sequential(nn.Dense(2, 1), nn.Sigmoid()), 3)


class Latent(GAN):
    """A game whose noise moves along D's gradient, as in LOGAN (Wu et al. 2019)."""

    def fake(self, x, z):
        with enable_grad():
            (step,) = grad(self.score(self.G(z)).sum(), [z], create_graph=True)
        return self.G(z + 0.5 * step)


class LatentInside(Latent):
    """The same game, which also computes its samples in enable_grad()."""

    def fake(self, x, z):
        with enable_grad():
            (step,) = grad(self.score(self.G(z)).sum(), [z], create_graph=True)
            return self.G(z + 0.5 * step)


def test_samples_are_constants_in_ds_step_even_if_their_computation_was_recorded():
    """D's gradient does not pass through its own gradient, by which the noise has moved."""
    class Seeing(LatentInside):
        def d_terms(self, x, z, fake, out_real, out_fake):
            assert not fake.parents
            return []
    G, D = generator(), nn.Sequential(nn.Dense(2, 4), nn.Tanh(), nn.Dense(4, 1))
    x, z = tensor(normal(4, 2), "float32"), tensor(normal(4, 3, seed=1), "float32")
    gradients = []
    for kind in (Latent, LatentInside, Seeing):
        game = kind(G, D, 3)
        for loss in (game.d_loss(x, z), game.losses(x, z)[0]):
            gradients.append([g.numpy() for g in grad(loss, game.d_parameters())])
    for each in gradients[1:]:
        for ours, expected in zip(each, gradients[0], strict=True):
            np.testing.assert_array_equal(ours, expected)


class Autoencoder(GAN):
    """A game whose samples are computed by an encoder that D's player trains, by a term of its own.

    Its real input is as in GAN.
    """

    d_players = "D", "E"

    def __init__(self, G, D, E):
        super().__init__(G, D, 3)
        self.E = E

    def fake(self, x, z):
        return self.G(self.E(x))

    def d_terms(self, x, z, fake, out_real, out_fake):
        return [((self.E(x) - z) ** 2).mean()]


def make_sharing_game():
    """Return a GAN whose players have a layer in common."""
    shared = nn.Dense(2, 2)
    return GAN(nn.Sequential(nn.Dense(3, 2), shared),
               nn.Sequential(shared, nn.Tanh(), nn.Dense(2, 1)), 3)


@pytest.mark.parametrize("make", [
    lambda: Latent(nn.Dense(3, 2), smooth_discriminator(), 3),
    lambda: Autoencoder(nn.Dense(3, 2), smooth_discriminator(), nn.Dense(2, 3)),
    make_sharing_game])
def test_samples_that_depend_on_d_are_constants_in_its_loss(make):
    """In both orders: a simultaneous step has the gradients of the separate losses."""
    game = to_float64(make())
    x, z = tensor(normal(6, 2)), to_float64(game.latent(6, rng))
    with nn.use_random(Recorded()):
        both, each = game.losses(x, z), (game.d_loss(x, z), game.g_loss(x, z))
    for one, other, parameters in zip(both, each, (game.d_parameters(), game.g_parameters())):
        assert one.item() == pytest.approx(other.item(), **EXACT)
        for a, b in zip(*(grad(y, parameters) for y in (one, other))):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_the_latent_step_is_that_of_its_formula():
    """For linear G and D, D(G(z)) has the constant slope W_G^T w_D."""
    game = to_float64(Latent(nn.Dense(3, 2), nn.Dense(2, 1), 3))
    (W, b), (w, _) = ([p.numpy() for p in part.parameters()] for part in (game.G, game.D))
    z = normal(4, 3)
    with no_grad():
        fake = game.fake(None, tensor(z))
    np.testing.assert_allclose(fake.numpy(), (z + 0.5 * w @ W) @ W.T + b, rtol=1e-12)


class OwnTerm(GAN):
    """A game with the term `term(scores)` in D's loss."""

    term = None

    def d_terms(self, x, z, fake, out_real, out_fake):
        return [type(self).term(self.real(x), out_real)]


class OwnPenalty(penalties.Penalty):
    """A penalty whose gradient was computed without a graph."""

    def __call__(self, score, real, fake, a_real, a_fake):
        (g,) = grad(a_real.sum(), [real])
        return (g * g).sum()


@pytest.mark.parametrize("term, said", [
    (lambda x, a: a.mean().item(), r"a term of d_terms\(\) or g_terms\(\) must be a Tensor of one"),
    (lambda x, a: None, "must be a Tensor of one number, got None"),
    (lambda x, a: a.data.mean(), "must be a Tensor of one number, got (np.float32|array)"),
    (lambda x, a: a, r"must be a Tensor of one number, got \(5, 1\)"),
    (lambda x, a: (grad(a.sum(), [x])[0] ** 2).sum(), "has no gradient.* create_graph=True")])
def test_a_term_that_is_no_number_or_has_no_gradient_is_refused(term, said):
    game = OwnTerm(generator(), smooth_discriminator(), 3)
    OwnTerm.term = staticmethod(term)
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    with pytest.raises(TypeError, match=said):
        game.d_loss(x, z)
    with pytest.raises(TypeError, match=said):
        game.losses(x, z)


def test_a_penalty_without_a_gradient_is_refused_where_gradients_are_recorded():
    game = GAN(generator(), smooth_discriminator(), 3, penalties=[OwnPenalty()])
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    with pytest.raises(TypeError, match="the penalty OwnPenalty has no gradient"):
        game.d_loss(x, z)
    with no_grad():                     # the value alone
        other = GAN(game.G, game.D, 3)
        OwnTerm.term = staticmethod(lambda x, a: (a ** 2).mean())
        game = OwnTerm(game.G, game.D, 3)
        assert game.d_loss(x, z).item() > other.d_loss(x, z).item()


def test_a_d_of_ones_own_that_ends_in_a_sigmoid_is_refused():
    class Probabilities(GAN):
        d_returns_scores = False
    for make, fails in ((GAN, True), (Probabilities, False)):
        for order in ORDERS:
            game = make(generator(), Ending(nn.Dense(2, 1), ops.sigmoid), 3)
            steps = play(game, make_batches(), *make_optimisers(game), 5, rng, 1, order=order)
            with (pytest.raises(UserError, match="D ends in a sigmoid") if fails else
                  contextlib.nullcontext()):
                next(steps)


@pytest.mark.parametrize("f, low, high, allowed", [
    (ops.tanh, 0, 1, False), (ops.tanh, -1, 1, True), (ops.sigmoid, -1, 1, False),
    (ops.sigmoid, 0, 1, True), (ops.relu, -3, 3, True)])
def test_the_range_of_a_g_of_ones_own_is_compared_with_the_data(f, low, high, allowed):
    def make(G):
        return GAN(G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    rng.seed(5)
    net = nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4))
    data = low + (high - low) * np.float32(uniform(20, 1, 4, 4))
    for G in (Ending(net, f), nn.Sequential(net, f)):
        game = make(G)
        before, state = game.state_dict(), rng.state
        steps = play(game, Minibatches(data, 5, Random(4)), *make_optimisers(game, 0.0), 5,
                     Random(3), 1)
        with (contextlib.nullcontext() if allowed else
              pytest.raises(UserError, match="pixels from")):
            next(steps)
        assert all_equal(before, game.state_dict()) and rng.state == state


def test_the_range_of_g_is_found_without_a_change_of_its_buffers():
    net = nn.Sequential(nn.Dense(3, 16), nn.BatchNorm(16), nn.Dropout(always=True))
    game = GAN(Ending(net, ops.tanh), nn.Dense(16, 1), 3)
    before, state = game.state_dict(), rng.state
    with pytest.raises(UserError, match="G ends in a tanh"):
        refuse_other_range(game, tensor(uniform(5, 16), "float32"))
    assert all_equal(before, game.state_dict()) and rng.state == state and net.layers[1].training


def test_a_g_that_takes_more_than_noise_is_not_called_with_noise_alone():
    class Scaled(GAN):
        def fake(self, x, z):
            return self.G(z, 2.0)

    class G(nn.Module):
        def __init__(self):
            self.net = nn.Dense(3, 16)

        def forward(self, z, scale):
            return ops.tanh(self.net(z)) * scale
    game = Scaled(G(), nn.Dense(16, 1), 3)
    data = Minibatches(np.float32(uniform(5, 16)), 5)
    next(play(game, data, *make_optimisers(game), 5, rng, 1))


def test_samples_that_a_game_computes_from_gs_output_have_their_own_range():
    class Scaled(GAN):
        def fake(self, x, z):
            return 2.0 * self.G(z) - 1.0
    game = Scaled(Ending(nn.Dense(3, 16), ops.sigmoid), nn.Dense(16, 1), 3)
    data = Minibatches(np.float32(2 * uniform(5, 16) - 1), 5)
    next(play(game, data, *make_optimisers(game), 5, rng, 1))


@pytest.mark.parametrize("last, generate, low, high, shown", [
    (nn.Sigmoid, lambda y: 2.0 * y - 1.0, -1, 1, lambda y: 2 * y - 1),      # shown as it is
    (nn.Tanh, lambda y: (y + 1.0) * 0.5, 0, 1, lambda y: (y + 1) / 2),      # shown as it is
    (nn.Sigmoid, ops.tanh, -1, 1, lambda y: (np.tanh(y) + 1) / 2),
    (nn.Tanh, lambda y: y.reshape(len(y), -1, 1), -1, 1, lambda y: (y[..., None] + 1) / 2)])
def test_samples_of_a_generate_of_ones_own_have_the_range_that_it_gives_them(
        last, generate, low, high, shown):
    """What generate() computes last counts, and not G's last activation."""
    class Mapped(GAN):
        def generate(self, z):
            return generate(self.G(z))
    rng.seed(3)
    D = nn.Sequential(nn.Flatten(), nn.Dense(16, 1))
    game = Mapped(nn.Sequential(nn.Dense(3, 16), last()), D, 3)
    data = Minibatches(np.float32(low + (high - low) * uniform(20, 16)), 5)
    z = game.latent(5, rng)
    y = to_numpy(game.G(z).data)
    images = to_numpy(game.sample_images(z))
    np.testing.assert_allclose(images, shown(y), rtol=1e-5, atol=1e-6)
    samples, scaled = to_numpy(game.sample(z)), game.scale_images(images)
    np.testing.assert_allclose(scaled, samples, rtol=1e-5, atol=1e-6)     # the inverse
    next(play(game, data, *make_optimisers(game), 5, rng, 1))       # is not refused


def test_the_range_of_a_generate_of_ones_own_is_compared_with_the_data():
    class Mapped(GAN):
        def generate(self, z):
            return ops.tanh(self.G(z))
    game = Mapped(nn.Dense(3, 16), nn.Dense(16, 1), 3)
    data = Minibatches(np.float32(2 * uniform(20, 16)), 5)
    with pytest.raises(UserError, match="tanh, whose images lie in .-1, 1., but the data"):
        next(play(game, data, *make_optimisers(game), 5, rng, 1))


@pytest.mark.parametrize("forward", [
    lambda net, z, *scale: ops.tanh(net(z)) * scale[0],
    lambda net, z, *scale: ops.tanh(net(z) + backend.xp.zeros((5, 16), "float32"))])
def test_a_g_that_only_the_games_own_losses_can_call_is_not_refused(forward):
    """It may need another input, or as many rows as there are in a minibatch."""
    class Own(GAN):
        def d_loss(self, x, z):
            with no_grad():
                fake = self.G(z, 2.0)
            return self.loss.d(self.D(x), self.D(fake))

        def g_loss(self, x, z):
            return self.loss.g(None, self.D(self.G(z, 2.0)))

    class G(nn.Module):
        def __init__(self):
            self.net = nn.Dense(3, 16)

        def forward(self, z, *scale):
            return forward(self.net, z, *scale)
    game = Own(G(), nn.Dense(16, 1), 3)
    next(play(game, Minibatches(np.float32(uniform(5, 16)), 5), *make_optimisers(game), 5, rng, 1))


def test_an_optimiser_without_one_of_the_networks_is_refused():
    """It would not be trained; a network that is none of the player's is not trained either."""
    class Frozen(Inferring):
        g_players = ("G",)
    for make, name, said in ((make_inferring, "G", "g_opt has no parameter of E"),
                             (make_inferring, "judge", "d_opt has no parameter of D")):
        game = make()
        d_opt, g_opt = make_optimisers(game)
        own = optim.SGD(game.judge.parameters(), 0.1) if name == "judge" else d_opt
        only = optim.SGD(game.G.layers[2].parameters(), 0.1) if name == "G" else g_opt
        with pytest.raises(UserError, match=said + ", which would not be trained: make it of"):
            next(play(game, make_batches(), own, only, 5, rng, 1))
    game = make_inferring()
    game = Frozen(game.G, nn.Dense(2, 3), game.D, game.judge, loss=losses.Hinge())
    before = copy_parameters(game.E)
    next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))
    assert all_equal(before, copy_parameters(game.E))
    part = optim.SGD(game.G.layers[2].parameters(), 0.1)        # some of a network's are frozen
    next(play(game, make_batches(), make_optimisers(game)[0], part, 5, rng, 1))

    class Choosing(Inferring):
        def g_parameters(self):
            return self.G.parameters()
    game = Choosing(game.G, nn.Dense(2, 3), game.D, game.judge, loss=losses.Hinge())
    next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


def test_a_network_may_be_trained_by_an_optimiser_of_the_game():
    game = make_inferring()
    game.opt = optim.SGD(game.E.parameters(), 0.1)
    only = optim.SGD(game.G.layers[2].parameters(), 0.1)
    next(play(game, make_batches(), make_optimisers(game)[0], only, 5, rng, 1))


def test_losses_are_refused_in_the_order_that_does_not_call_them():
    class Consensus(GAN):
        def losses(self, x, z):
            d_loss, g_loss = super().losses(x, z)
            return d_loss + d_loss * d_loss, g_loss

    class Separate(Consensus):
        def d_loss(self, x, z):
            return super().d_loss(x, z)
    for make, order in ((Consensus, "simultaneous"), (Separate, "alternating")):
        game = make(generator(), discriminator(), 3)
        next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1, order=order))
    game = Consensus(generator(), discriminator(), 3)
    with pytest.raises(UserError, match=r"Consensus defines losses\(\), which the alternating"):
        next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


def test_an_average_has_the_arrays_that_forward_stores():
    class Keeping(nn.Module):
        def forward(self, x):
            self.last = x.data * 2.0
            return x
    game = GAN(nn.Sequential(nn.Dense(3, 2), Keeping()), discriminator(), 3)
    game.keep_average(0.5)
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 2):
        average = game.averages["G"].layers[1].last
        assert (average == game.G.layers[1].last).all()
        assert average is not game.G.layers[1].last
        game.sample(game.latent(3, rng))        # stores an array of another shape


def test_samples_are_drawn_as_they_are_trained():
    """A game with a mapping network M in front of G samples G(M(z)), or that of the averages."""
    class Mapping(GAN):
        g_players = "G", "M"

        def __init__(self, G, D, M):
            super().__init__(G, D, 3)
            self.M = M

        def generate(self, z):
            return self.G(self.M(z))
    G = nn.Sequential(nn.Dense(4, 2), nn.BatchNorm(2))
    game = Mapping(G, smooth_discriminator(), nn.Dense(3, 4))
    z = game.latent(5, rng)
    with nn.eval_mode(game):
        assert (game.sample(z) == game.fake(None, z).data).all()
    game.keep_average(0.5)
    for _ in play(game, make_batches(), *make_optimisers(game), 5, rng, 1):
        with nn.eval_mode(game):
            average = game.averages["G"](game.averages["M"](z)).data
            assert (game.sample(z) == average).all() and (average != game.generate(z).data).all()


def test_a_parameter_is_trained_by_one_player():
    game = make_sharing_game()
    with pytest.raises(UserError, match="d_opt and g_opt share parameters"):
        next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))
    own = optim.SGD(game.G[0].parameters(), 0.1)
    next(play(game, make_batches(), make_optimisers(game)[0], own, 5, rng, 1))


def test_noise_in_a_list_is_refused():
    class Listing(GAN):
        def latent(self, m, rng):
            return [super().latent(m, rng)]
    game = Listing(generator(), discriminator(), 3)
    with pytest.raises(TypeError, match=r"latent\(\) returned a list: return a Tensor, or a tuple"):
        game.inputs(None, 4, rng)
    game.latent = lambda m, rng: {"z": rng.normal((m, 3))}
    with pytest.raises(TypeError, match=r"latent\(\) returned a dict"):
        game.inputs(None, 4, rng)
    for latent, words in (None, "a NoneType: return"), (0.5, "a float: return"):
        game.latent = lambda m, rng: latent
        with pytest.raises(TypeError, match=rf"latent\(\) returned {words}"):
            game.inputs(None, 4, rng)
    z = Tensor(rng.normal((4, 3)))
    for shared in 0.5, None, Tensor(rng.normal((7, 2))):        # a condition of all samples
        game.latent = lambda m, rng: (z, shared)
        assert game.inputs(None, 4, rng) == (z, shared)


def test_samples_are_not_drawn_from_a_stream_of_numpys():
    """A latent() of one's own may not look, and normal((2, 3)) of numpy draws two numbers."""
    game = GAN(generator(), discriminator(), 3)
    game.latent = lambda m, rng: Tensor(rng.normal((m, 3)))
    assert "draw_samples needs a tinygan.random.Random" in error_of(
        game.draw_samples, 4, np.random.default_rng(0))


def test_noise_has_a_row_for_each_sample():
    """Otherwise m samples of data would be compared with another number of G's."""
    game = GAN(generator(), discriminator(), 3)
    for latent in (lambda m, rng: Tensor(rng.normal((5, 3))),
                   lambda m, rng: ((Tensor(rng.normal((5, 3))),), rng.integers(2, (m,))),
                   lambda m, rng: Tensor(backend.xp.zeros((), "float32"))):
        game.latent = latent
        for f in (lambda: draw(game, iter([tensor(normal(4, 2))]), 4, rng),
                  lambda: game.draw_samples(4, rng), lambda: game.inputs(None, 4, rng)):
            with pytest.raises(UserError, match=r"latent\(4, rng\) returned an array of shape"):
                f()


@pytest.mark.parametrize("name", ["real", "fake", "generate", "replay"])
def test_an_input_of_d_that_is_none_is_refused(name):
    game = GAN(generator(), discriminator(), 3)
    setattr(game, name, lambda *args: None)
    with pytest.raises(TypeError, match="D's input is None"):
        game.d_loss(Tensor(rng.normal((4, 2))), game.latent(4, rng))


def test_a_loss_that_is_no_tensor_is_refused_with_the_name_of_its_game():
    """With further terms too: a number would leave the terms alone to be trained on."""
    class Forgetful(losses.NonSaturating):
        def d(self, real, fake):
            return self.value(super().d(real, fake))

    class Further(GAN):
        def d_terms(self, x, z, fake, out_real, out_fake):
            return [(out_real ** 2).mean()]
    for value in (lambda loss: None, lambda loss: loss.item(), lambda loss: loss.data):
        Forgetful.value = staticmethod(value)
        game = Further(generator(), discriminator(), 3, loss=Forgetful())
        with pytest.raises(TypeError, match="D's loss in Further must be a Tensor of one number"):
            next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


def test_a_value_that_begin_logs_is_refused():
    """D's step would replace it."""
    class Logging(GAN):
        def begin(self, i):
            if i == 1:
                self.log("i", backend.xp.full((), float(i)))
    game = Logging(generator(), discriminator(), 3)
    steps = play(game, make_batches(), *make_optimisers(game), 5, rng, 3)
    next(steps)
    with pytest.raises(UserError, match=r"begin\(\) has logged a value"):
        next(steps)


def test_a_game_whose_constructor_does_not_call_that_of_game_is_refused():
    class Bare(GAN):
        def __init__(self, G, D):
            self.G, self.D = G, D
    game = Bare(generator(), discriminator())
    with pytest.raises(UserError, match=r"Bare.__init__\(\) has not called super\(\).__init__"):
        next(play(game, make_batches(), *make_optimisers(game), 5, rng, 1))


@pytest.mark.parametrize("shared", [None, 0.5, (7, 2)])
def test_the_range_of_samples_with_a_shared_input_is_found(shared):
    """Not every part of z has a row for each sample, and the samples may need each other."""
    shared = Tensor(rng.normal(shared)) if isinstance(shared, tuple) else shared

    class Own(GAN):
        def latent(self, m, rng):
            return super().latent(m, rng), shared

        def generate(self, z):
            assert len(z[0]) % 4 == 0 and (type(shared) is not Tensor or len(z[1]) == 7)
            return ops.tanh(self.G(z[0]))
    game = Own(nn.Dense(2, 3), nn.Dense(3, 1), 2)
    z = game.latent(8, rng)
    assert (game.sample_images(z) == (game.sample(z) + 1) / 2).all()


@pytest.mark.parametrize("last", [nn.Dropout(0.1), nn.GaussianNoise(0.1), nn.Sequential()])
def test_layers_after_a_tanh_that_do_nothing_in_evaluation_are_passed_over(last):
    game = GAN(nn.Sequential(nn.Dense(2, 3), nn.Tanh(), last), nn.Dense(3, 1), 2)
    z = game.latent(5, rng)
    assert (game.sample_images(z) == (game.sample(z) + 1) / 2).all()


def test_the_range_of_many_samples_is_found_from_two_of_them():
    counts = []

    class Own(GAN):
        def generate(self, z):
            counts.append(len(z))
            return ops.tanh(super().generate(z))
    game = Own(nn.Dense(2, 3), nn.Dense(3, 1), 2)
    z = game.latent(500, rng)
    assert (game.sample_images(z) == (game.sample(z) + 1) / 2).all()
    assert sum(counts) == 500 + 2 + 500
