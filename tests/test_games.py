"""The games: each one's losses against the formula, what each step may touch, and what a game adds:
clipping, penalties on D's slope, spectral norms, noise, an average of G's weights."""

import copy
import io
import math
import pathlib
import sys

import numpy as np
import pytest

from tinygan import (Tensor, backend, check_grads, grad, nn, ops, optim, play, rng, schedules,
                     to_numpy)
from tinygan.backend import UserError
from tinygan.data import Minibatches
from tinygan.games import (GAN, LSGAN, R1, RSGAN, SNGAN, WGAN, WGANGP, Game, Hinge, RaGAN,
                           gradient_penalty, losses, penalties, views, warm_up)
from tinygan.games.penalties import slope_squared
from tinygan.loop import both_step, d_step, draw, g_step, steps
from tinygan.random import Random
from tinygan.runs.record import Means, Progress

import standin
from helpers import error_of, normal, tensor

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
import theory

EXACT = dict(rel=1e-12, abs=1e-12)      # float64: sums of some tens of terms of size 1
ORDERS = ["alternating", "simultaneous"]


def normalised(D):
    for _, part in D.modules():
        if isinstance(part, nn.Dense):
            nn.spectral_norm(part)
    return D


# Each with z of 3 numbers, one discriminator step (for simultaneous play), and settings that bite.
PLAIN = {
    "GAN": lambda G, D, **c: GAN(G, D, 3, **c),
    "GAN, saturating": lambda G, D, **c: GAN(G, D, 3, losses.Saturating(), **c),
    "LSGAN": lambda G, D, **c: LSGAN(G, D, 3, **c),
    "Hinge": lambda G, D, **c: Hinge(G, D, 3, **c),
    "SNGAN": lambda G, D, **c: SNGAN(G, normalised(D), 3, n_dis=1, **c),
    "WGAN": lambda G, D, **c: WGAN(G, D, 3, c=0.3, n_critic=1, **c),
    "WGANGP": lambda G, D, **c: WGANGP(G, D, 3, lam=3.0, n_critic=1, **c),
    "RSGAN": lambda G, D, **c: RSGAN(G, D, 3, **c),
    "RaGAN": lambda G, D, **c: RaGAN(G, D, 3, **c),
    "R1": lambda G, D, **c: R1(G, D, 3, gamma=3.0, **c),
}


def noisy_and_averaged(make):
    def made(G, D):
        game = make(G, D, views=[views.InstanceNoise(schedules.linear(0.5, 0.1, 10))])
        game.keep_average(0.5)
        return game
    return made


GAMES = {**PLAIN, **{f"{name}, noisy and averaged": noisy_and_averaged(make)
                     for name, make in PLAIN.items()}}


def generator():
    return nn.Sequential(nn.Dense(3, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 2))


def discriminator(dropout=0.3):
    return nn.Sequential(nn.Dense(2, 6), nn.LeakyReLU(), nn.Dropout(dropout), nn.Dense(6, 1))


def smooth_discriminator():
    return nn.Sequential(nn.Dense(2, 5), nn.Tanh(), nn.Dense(5, 1))


def game_named(name):
    return GAMES[name](generator(), discriminator())


def points(m=5):
    return Minibatches(np.float32(normal(40, 2)), m)


def optimisers(game, lr=0.05):
    return optim.SGD(game.d_parameters(), lr), optim.SGD(game.g_parameters(), lr)


def arrays_of(module):
    return {name: p.numpy().copy() for name, p in module.named_arrays(Tensor).items()}


def same(a, b):
    assert a.keys() == b.keys()
    return all((a[name] == b[name]).all() for name in a)


def in_float64(module):
    """`module` with its parameters and buffers in float64."""
    for _, part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                value.data = value.data.astype("float64")
            elif isinstance(value, backend.xp.ndarray):
                setattr(part, name, value.astype("float64"))
    return module


def float64(z):
    """What a game draws, in float64."""
    if isinstance(z, (tuple, list)):
        return type(z)(map(float64, z))
    return tensor(z.numpy(), "float64") if type(z) is Tensor else z


def uniform(*shape):
    return np.random.default_rng(0).uniform(size=shape)


class Formula(nn.Module):
    """A discriminator without parameters."""

    def __init__(self, formula):
        self.formula = formula

    def forward(self, x):
        return self.formula(x)


# The losses

def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def minimax(r, f):
    return -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean()


# name of the loss: D's loss and G's, of the scores r of real samples and f of generated ones
FORMULAS = {
    "Saturating": (minimax, lambda r, f: np.log(1 - sigmoid(f)).mean()),
    "NonSaturating": (minimax, lambda r, f: -np.log(sigmoid(f)).mean()),
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


def by_hand(D, x):
    """D(x) and |dD/dx| of each sample, for a `discriminator` that drops nothing out."""
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


def drawn_game(game, m=30):
    """The game in float64, D evaluating, with x, z, and G(z) as an array."""
    in_float64(game).D.eval()
    for layer in (game.D.layers[0], game.D.layers[-1], game.G.layers[-1]):
        w = layer.weight_orig if hasattr(layer, "weight_u") else layer.weight
        w.data[...] = tensor(normal(*w.shape, seed=2)).data
        layer.bias.data[...] = tensor(normal(*layer.bias.shape)).data
    x, z = tensor(3 * normal(m, 2)), float64(game.noise(m, rng, 0))
    return game, x, z, game.G(z[0] if type(z) is tuple else z).numpy()


@pytest.mark.parametrize("name", PLAIN)
def test_losses_are_the_formulas(name):
    game, x, z, samples = drawn_game(PLAIN[name](generator(), discriminator()))
    r, slopes = by_hand(game.D, x.numpy())
    f, _ = by_hand(game.D, samples)
    assert r.min() < 1 < r.max() and f.min() < -1 < f.max()     # both sides of the hinge's margins
    d_loss, g_loss = (formula(r, f) for formula in FORMULAS[LOSS_OF[name]])
    if name == "R1":
        d_loss += 3.0 / 2 * (slopes ** 2).mean()
    if name == "WGANGP":
        eps = z[1][0].numpy()
        between = [e * a + (1 - e) * b for e, a, b in zip(eps, x.numpy(), samples)]
        d_loss += 3.0 * ((by_hand(game.D, between)[1] - 1) ** 2).mean()
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, **EXACT)
    assert game.g_loss(x, z).item() == pytest.approx(g_loss, **EXACT)
    both = [loss.item() for loss in game.losses(x, z)]
    assert both == pytest.approx([d_loss, g_loss], **EXACT)


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_seen_are_probabilities_or_mean_scores(name, one_pass):
    game, x, z, samples = drawn_game(PLAIN[name](generator(), discriminator()))
    (r, _), (f, _) = by_hand(game.D, x.numpy()), by_hand(game.D, samples)
    if name.startswith("GAN") or name == "R1":
        expected = {"D(x)": sigmoid(r).mean(), "D(G(z))": sigmoid(f).mean()}
    else:
        expected = {"D(x)": r.mean(), "D(G(z))": f.mean()}
    if name.startswith("WGAN"):
        expected["W"] = r.mean() - f.mean()
    assert game.seen == {}
    (game.losses if one_pass else game.d_loss)(x, z)
    assert {key: float(value) for key, value in game.seen.items()} == pytest.approx(expected,
                                                                                    **EXACT)


class DLoss(nn.Module):
    """d_loss as a function of the data and of D's parameters; the noise is a constant."""

    def __init__(self, game, constant, eps):
        self.game, self.constant, self.eps = game, constant, eps

    def noise(self, z):
        drawn = [Tensor(self.eps) if penalty.draws else None for penalty in self.game.penalties]
        return (z, drawn) if any(penalty.draws for penalty in self.game.penalties) else z

    def forward(self, x):
        return self.game.d_loss(x, self.noise(Tensor(self.constant)))


class GLoss(DLoss):
    """g_loss as a function of the noise and of D's parameters; the data is a constant."""

    def forward(self, z):
        return self.game.g_loss(Tensor(self.constant), self.noise(z))


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_of_the_losses(name):
    """To second order: by the data and D's parameters, and by what G made, here its noise."""
    game = PLAIN[name](nn.Sequential(), smooth_discriminator())
    game.D.layers[-1].bias = None           # which cancels in a difference of scores
    x, z, eps = (tensor(a).data for a in (normal(4, 2), normal(4, 2, seed=1),
                                          [0.1, 0.4, 0.6, 0.9]))
    check_grads(DLoss(game, z, eps), x)
    check_grads(GLoss(game, x, eps), z)


# Any loss with any penalties and any view

PENALTIES = {"no penalty": [], "GP": [penalties.GradientPenalty(3.0)], "R1": [penalties.R1(5.0)],
             "GP and R1": [penalties.GradientPenalty(3.0), penalties.R1(5.0)]}


def combined(G, D, loss, penalised, sigma):
    return Game(G, D, 3, getattr(losses, loss)(), PENALTIES[penalised],
                [views.InstanceNoise(sigma)] if sigma else [])


combinations = [pytest.mark.parametrize("sigma", [0, 0.5]),
                pytest.mark.parametrize("penalised", PENALTIES),
                pytest.mark.parametrize("loss", FORMULAS)]


def each_combination(test):
    for mark in combinations:
        test = mark(test)
    return test


@each_combination
def test_each_combination_is_the_formula(loss, penalised, sigma):
    """Each sample by itself; `seen_as(k)` is with the noise that is drawn k-th."""
    game, x, z, samples = drawn_game(combined(generator(), discriminator(), loss, penalised, sigma))

    def seen_as(k, points):
        return np.asarray(points) + sigma * normal(*np.shape(points), seed=k)

    def noisy(f):
        with nn.drawing_from(Given()):
            return f(x, z)
    r, slopes = by_hand(game.D, seen_as(0, x.numpy()))
    f, _ = by_hand(game.D, seen_as(1, samples))
    d_loss, g_loss = (formula(r, f) for formula in FORMULAS[loss])
    if "GP" in penalised:
        eps = z[1][0].numpy()
        between = [e * a + (1 - e) * b for e, a, b in zip(eps, x.numpy(), samples)]
        d_loss += 3.0 * ((by_hand(game.D, seen_as(2, between))[1] - 1) ** 2).mean()
    if "R1" in penalised:
        d_loss += 5.0 / 2 * (slopes ** 2).mean()
    assert noisy(game.d_loss).item() == pytest.approx(d_loss, **EXACT)
    assert [one.item() for one in noisy(game.losses)] == pytest.approx([d_loss, g_loss], **EXACT)
    f, r = by_hand(game.D, seen_as(0, samples))[0], by_hand(game.D, seen_as(1, x.numpy()))[0]
    assert noisy(game.g_loss).item() == pytest.approx(FORMULAS[loss][1](r, f), **EXACT)


class OnePass(DLoss):
    """Both losses as functions of the data, the noise and D's parameters."""

    def forward(self, x, z):
        return self.game.losses(x, self.noise(z))


@pytest.mark.numpy_only("arithmetic that the losses' formulas check on each backend")
@each_combination
def test_gradients_of_each_combination(loss, penalised, sigma):
    """To second order, of each loss alone and of both from one pass."""
    game = combined(nn.Sequential(), smooth_discriminator(), loss, penalised, sigma)
    game.D.layers[-1].bias = None           # which cancels in a difference of scores
    x, z, eps = (tensor(a).data for a in (normal(4, 2), normal(4, 2, seed=1),
                                          [0.1, 0.4, 0.6, 0.9]))
    check_grads(DLoss(game, z, eps), x)
    check_grads(GLoss(game, x, eps), z)
    check_grads(OnePass(game, None, eps), x, z)


@pytest.mark.parametrize("name", ["RSGAN", "RaGAN"])
def test_relativistic_losses_are_each_others_with_the_roles_exchanged(name):
    game = PLAIN[name](nn.Sequential(), smooth_discriminator())     # G returns its noise
    a, b = tensor(normal(6, 2), "float32"), tensor(normal(6, 2, seed=1), "float32")
    assert game.g_loss(a, b).item() == pytest.approx(game.d_loss(b, a).item(), rel=1e-6)  # float32
    assert game.g_loss(a, b).item() != pytest.approx(game.d_loss(a, b).item(), rel=1e-2)


@pytest.mark.parametrize("name", PLAIN)
def test_only_relativistic_generators_look_at_the_data(name):
    game = PLAIN[name](generator(), discriminator(dropout=0))
    game.D.eval()
    z = game.noise(6, rng, 0)
    one, other = (grad(game.g_loss(tensor(normal(6, 2, seed=seed), "float32"), z),
                       game.g_parameters()[-1:])[0].numpy() for seed in (0, 1))
    assert (one != other).any() == (name in ("RSGAN", "RaGAN"))


# What D is shown: labels, pairs

def test_penalties_know_labels():
    """A critic whose slope is |w[label]|: x_hat has the label of its x, and no slope by it."""
    w, labels = normal(3, 2), np.array([0, 2, 2, 1])

    def critic(shown):
        x, labels = shown
        return (x * tensor(w)[labels]).sum(1, keepdims=True)
    x, fake, eps = tensor(normal(4, 2)), tensor(normal(4, 2, seed=1)), tensor(uniform(4))
    slopes = np.array([np.linalg.norm(w[label]) for label in labels])
    labels, others = backend.xp.asarray(labels), backend.xp.asarray(np.array([1, 0, 1, 1]))
    real = x, labels
    assert gradient_penalty(critic, real, (fake, others), eps).item() == pytest.approx(
        ((slopes - 1) ** 2).mean(), **EXACT)
    assert slope_squared(real, critic(real)).item() == pytest.approx((slopes ** 2).mean(), **EXACT)


def test_a_slope_is_over_all_numbers_of_a_pair():
    w, v = normal(2), normal(3, seed=1)

    def critic(shown):
        (x,), code = shown
        return (x * tensor(w)).sum(1) + (code * tensor(v)).sum(1)
    shown, other = (((tensor(normal(4, 2, seed=i)),), tensor(normal(4, 3, seed=i)))
                    for i in (2, 3))
    size = math.sqrt(w @ w + v @ v)
    assert gradient_penalty(critic, shown, other, tensor(uniform(4)), 0.5).item() == pytest.approx(
        (size - 0.5) ** 2, **EXACT)
    assert slope_squared(shown, critic(shown)).item() == pytest.approx(size ** 2, **EXACT)


class Embedding(nn.Module):
    """A network of points and of labels from 0 to 2, and, for a generator, of a code."""

    def __init__(self, n_in, n_out):
        self.of_label = Tensor(rng.normal((3, 2)))
        self.net = nn.Sequential(nn.Dense(n_in + 2, 5), nn.Tanh(), nn.Dense(5, n_out))

    def forward(self, x, labels, *code):
        if isinstance(labels, tuple):
            labels, *code = labels
        return self.net(ops.concat([x, self.of_label[labels], *code], 1))


class Labelled(Game):
    """Conditional: the noise is (z, (labels, code)), and D sees the labels of data and samples."""

    def latent(self, m, rng):
        return super().latent(m, rng), (rng.integers(3, (m,)), Tensor(rng.uniform(-1, 1, (m, 1))))

    def fake(self, x, z):
        return self.G(*z), z[1][0]


def labelled_points(m=5):
    return Minibatches(np.float32(normal(40, 2)), m, labels=np.arange(40) % 3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("penalised", PENALTIES)
@pytest.mark.parametrize("loss", FORMULAS)
def test_a_conditional_game_plays_with_any_loss_and_penalty(loss, penalised, order):
    """Both players move, and its samples are those of the labels that they are asked for."""
    game = Labelled(Embedding(4, 2), Embedding(2, 1), 3, getattr(losses, loss)(),
                    PENALTIES[penalised], [views.InstanceNoise(0.1)])
    game.keep_average(0.5)
    before = arrays_of(game)
    for _ in play(game, labelled_points(), *optimisers(game), 5, rng, 2, order=order):
        pass
    after = arrays_of(game)
    still = [name for name in before if (before[name] == after[name]).all()]
    assert still in ([], ["D.net.2.bias"])      # which cancels in a difference of scores
    z, (labels, code) = game.latent(6, rng)
    ones, twos = (to_numpy(game.sample((z, (labels * 0 + k, code)))) for k in (1, 2))
    assert ones.shape == (6, 2) and (ones != twos).any()


class Pair(nn.Module):
    """A network of pairs."""

    def __init__(self, n_in):
        self.net = nn.Sequential(nn.Dense(n_in, 6), nn.Tanh(), nn.Dense(6, 1))

    def forward(self, x, z):
        return self.net(ops.concat([x, z], 1))


class Inferring(Game):
    """Two networks for each player, as in bidirectional GANs: G makes x of z and E makes z of x, D
    sees pairs (x, E(x)) and (G(z), z), and a judge the z of them."""

    d_players, g_players = ("D", "judge"), ("G", "E")

    def __init__(self, G, E, D, judge, **choices):
        super().__init__(G, D, 3, **choices)
        self.E, self.judge = E, judge

    def real(self, x):
        return x, self.E(x)

    def fake(self, x, z):
        return self.G(z), z

    def verdict(self, shown):
        return super().verdict(shown) + self.judge(shown[1])


def inferring(judge=None, **choices):
    """G and E have a layer in common."""
    shared = nn.Dense(3, 3)
    G, E = nn.Sequential(shared, nn.Tanh(), nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 3), shared)
    choices.setdefault("loss", losses.Relativistic())       # with which E moves
    return Inferring(G, E, Pair(5), judge or nn.Sequential(nn.Dense(3, 2), nn.Tanh(),
                                                           nn.Dense(2, 1)), **choices)


@pytest.mark.parametrize("penalised", PENALTIES)
@pytest.mark.parametrize("loss", FORMULAS)
def test_losses_from_one_pass_are_the_two_losses_of_pairs(loss, penalised):
    """With their gradients by all of the player's parameters: D's loss holds E constant, and R1 is
    on the slopes by x and by E(x) as if E(x) were not computed from x."""
    game = in_float64(inferring(loss=getattr(losses, loss)(), penalties=PENALTIES[penalised]))
    x, z = tensor(normal(6, 2)), float64(game.noise(6, rng, 0))
    for one, other, parameters in zip(game.losses(x, z), (game.d_loss(x, z), game.g_loss(x, z)),
                                      (game.d_parameters(), game.g_parameters())):
        assert one.item() == pytest.approx(other.item(), **EXACT)
        for a, b in zip(*(grad(y, parameters, unused="zeros") for y in (one, other))):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_a_player_of_several_networks_has_the_parameters_of_each_once():
    game = inferring()
    G, E = game.G.layers, game.E.layers
    assert [id(p) for p in game.g_parameters()] == [id(p) for p in (
        G[0].weight, G[0].bias, G[2].weight, G[2].bias, E[0].weight, E[0].bias)]
    assert [id(p) for p in game.d_parameters()] == [id(p) for p in (
        game.D.parameters() + game.judge.parameters())]


def test_each_step_moves_all_networks_of_its_player_only():
    game = inferring()
    (d_opt, g_opt), batches = optimisers(game), points()
    for step, opt, own in ((d_step, d_opt, {"D", "judge"}), (g_step, g_opt, {"G", "E"})):
        before = arrays_of(game)
        step(game, opt, *draw(game, batches, 5, rng, 0))
        moved = {name.partition(".")[0] for name, p in arrays_of(game).items()
                 if (p != before[name]).any()}
        assert moved == own


@pytest.mark.parametrize("order", ORDERS)
def test_each_of_gs_networks_has_an_average(order):
    game = inferring()
    game.keep_average(0.6)
    assert list(game.averages) == ["G", "E"]
    expected = {name: arrays_of(getattr(game, name)) for name in "GE"}
    for _ in play(game, points(), *optimisers(game), 5, rng, 3, order=order):
        for name, average in game.averages.items():
            for key, p in arrays_of(getattr(game, name)).items():
                expected[name][key] = 0.6 * expected[name][key] + 0.4 * p
                np.testing.assert_allclose(arrays_of(average)[key], expected[name][key], rtol=0,
                                           atol=1e-6)       # float32


@pytest.mark.parametrize("averaged", [False, True])
def test_sampling_is_with_gs_networks_in_evaluation_or_their_averages(averaged):
    """In its context alone, which may be entered twice and left by an exception."""
    game = inferring()
    game.G.layers.append(nn.BatchNorm(2))
    own = {name: getattr(game, name) for name in ("G", "E", "D", "judge")}
    if averaged:
        game.keep_average(0.5)
    inside = own | (game.averages or {})
    game.G.layers[0].eval()             # a layer that is frozen stays so
    modes = [part.training for _, part in game.modules()]

    def check(there, evaluated):
        assert all(getattr(game, name) is network for name, network in there.items())
        for name in "GE":
            assert not evaluated or not any(part.training for _, part in there[name].modules())
        assert game.D.training and game.judge.training
    for _ in range(2):
        with pytest.raises(KeyError), game.sampling():
            check(inside, True)
            with game.sampling():
                check(inside, True)
            check(inside, True)
            assert game.G(game.E(tensor(normal(4, 2), "float32"))).parents is None      # no graph
            raise KeyError
        check(own, False)
        assert [part.training for _, part in game.modules()] == modes


def test_sampling_that_cannot_begin_leaves_the_game_as_it_was():
    game = inferring()
    game.keep_average()
    game.averages["E"].layers[1].parts_of_one_name = {1: nn.ReLU(), "1": nn.ReLU()}
    G, E = game.G, game.E
    with pytest.raises(TypeError, match="have one name"), game.sampling():
        raise AssertionError("it has begun")
    assert game.G is G and game.E is E and game.averages["G"].training


@pytest.mark.parametrize("last, choices, words", [
    (nn.Sigmoid, {}, "ends in a sigmoid"),
    (nn.Sigmoid, {"loss": losses.Hinge()}, "ends in a sigmoid"),
    (lambda: nn.BatchNorm(1), {"penalties": [penalties.R1()]}, "layer 2 of D is a BatchNorm"),
    (lambda: nn.BatchNorm(1), {"penalties": [penalties.GradientPenalty()]}, "is a BatchNorm")])
@pytest.mark.parametrize("which", ["D", "judge"])
def test_each_of_ds_networks_is_checked(which, last, choices, words):
    """Before the first step, when all of them are there."""
    D = nn.Sequential(nn.Dense(3, 2), nn.Tanh(), last())
    if which == "D":
        with pytest.raises(UserError, match=words):
            Game(generator(), D, 3, **choices)
        return
    game = inferring(judge=D, **choices)
    for check in (game.check, lambda: next(play(game, points(), *optimisers(game), 5, rng, 1))):
        with pytest.raises(UserError, match=words):
            check()
    game.judge = nn.Sequential(*D.layers[:2], nn.Dense(2, 1))
    game.check()


def test_a_penalty_sees_what_d_is_shown_of_an_older_sample():
    """Between the data and what replay() returns, not what G has just made."""
    class Replaying(LSGAN):
        def replay(self, fake, z):
            return Tensor(fake.data + 1)

    class Seen(penalties.Penalty):
        def __call__(self, score, real, fake, a_real, a_fake, drawn):
            self.seen.append((fake, a_fake))
            return Tensor(0.0)
    Seen.seen = []
    game = Replaying(generator(), smooth_discriminator(), 3, penalties=[Seen()]).eval()
    x, z = tensor(normal(5, 2), "float32"), game.noise(5, rng, 0)
    game.d_loss(x, z)
    shown = game.G(z).numpy() + 1
    ((fake, a_fake),) = Seen.seen
    assert (fake.numpy() == shown).all()
    assert (a_fake.numpy() == game.D(fake).numpy()).all()


def test_a_game_with_a_d_loss_of_its_own_notes_its_scores():
    class Own(Game):
        def d_loss(self, x, z):
            real, fake = self.scores(x, z)
            return fake.mean() - real.mean()
    game = Own(generator(), discriminator(), 3).eval()
    x, z = tensor(normal(5, 2), "float32"), game.noise(5, rng, 0)
    loss = game.d_loss(x, z).item()
    seen = {name: float(to_numpy(value)) for name, value in game.seen.items()}
    assert seen["D(G(z))"] - seen["D(x)"] == pytest.approx(loss, rel=1e-5)     # float32
    assert seen["D(x)"] == pytest.approx(game.D(x).mean().item(), rel=1e-5)


def test_what_a_layer_notes_is_not_averaged():
    class Noting(nn.Module):
        notes = ("last",)

        def __init__(self):
            self.last = backend.xp.zeros(2, "float32")

        def forward(self, x):
            return x
    game = LSGAN(nn.Sequential(generator(), Noting()), discriminator(), 3)
    game.keep_average(0.5)
    game.G.layers[1].last += 1
    game.end_g_step()
    assert not game.averages["G"].layers[1].last.any()


def test_batch_norm_is_refused_by_penalties_alone():
    D = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3), nn.ReLU(), nn.Dense(3, 1))
    for loss in FORMULAS:
        Game(generator(), D, 3, getattr(losses, loss)(), views=[views.InstanceNoise(0.1)])


def test_a_network_that_refers_to_its_game_does_not_make_the_other_player_a_part_of_it():
    game = LSGAN(generator(), discriminator(), 3)
    own = [id(p) for p in game.d_parameters()], [id(p) for p in game.parameters()]
    game.D.game = game.D.layers[0].network = game
    game.D.layers[1].above = game.D
    assert [id(p) for p in game.d_parameters()] == own[0]
    assert [id(p) for p in game.parameters()] == own[1]
    before = arrays_of(game.G)
    for _ in play(game, points(), optim.SGD(game.d_parameters(), 0.1),
                  optim.SGD(game.g_parameters(), 0.0), 5, rng, 2):
        pass
    assert same(arrays_of(game.G), before)


@pytest.mark.parametrize("order", ORDERS)
def test_a_setting_that_refers_to_the_game(order):
    """A function that looks at the game is a setting: nothing in it goes unfound."""
    game = LSGAN(generator(), discriminator(), 3)
    game.k, asked = 1, []
    game.d_steps = lambda i: asked.append(i) or game.k
    game.keep_average()
    arrays = game.state_dict()
    for _ in play(game, points(), *optimisers(game), 5, rng, 2, order=order):
        pass
    assert asked == [0, 1] and game.state_dict().keys() == arrays.keys()


# What is logged

class Telling(LSGAN):
    """It tells something more in every third iteration."""

    def begin(self, i):
        self.tells = i % 3 == 0

    def saw(self, a_real, a_fake):
        super().saw(a_real, a_fake)
        if self.tells:
            self.seen = {**self.seen, "largest": a_real.data.max()}


def test_what_is_seen_may_differ_from_step_to_step():
    """Means are over the steps in which a value came, and so is what is printed of them."""
    game, means, out = Telling(generator(), discriminator(), 3), Means(), io.StringIO()
    values, progress = {}, Progress(7, out)
    progress.every = 1e9                    # seconds: it prints the last step alone
    for i, _, _ in play(game, points(), *optimisers(game), 5, rng, 7):
        assert ("largest" in game.seen) == (i in (0, 3, 6))
        for name, value in game.seen.items():
            values.setdefault(name, []).append(float(value))
        means.add(game.seen)
        progress(i, game.seen)
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
def test_the_generator_is_a_constant_to_ds_loss(name):
    game = game_named(name)
    x, z, _ = draw(game, points(), 5, rng, 0)
    loss = game.d_loss(x, z)
    for p in game.g_parameters():
        assert "does not depend" in error_of(grad, loss, [p])


def run(make, seed=1, order="alternating", iterations=6):
    """Losses and final state of a game that begins at `seed`."""
    rng.seed(seed)
    game = make()
    losses = [(d.item(), g.item()) for _, d, g in
              play(game, points(), *optimisers(game), 5, rng, iterations, order=order)]
    return losses, game.state_dict()


@pytest.mark.parametrize("name", GAMES)
def test_same_seed_same_run_bit_for_bit_in_simultaneous_play(name):
    (losses, state), (again, state_again), (other, _) = (
        run(lambda: game_named(name), seed, "simultaneous") for seed in (1, 1, 2))
    assert losses == again and same(state, state_again) and losses != other


@pytest.mark.parametrize("name", GAMES)
def test_a_step_is_a_function_of_its_arguments(name):
    """And of the game's state: what is drawn in between, and the steps before, do not matter."""
    game = game_named(name)
    game.start(3)
    x, z, masks = draw(game, points(), 5, rng, 3)
    others = [(i, draw(game, points(), 5, rng, i)) for i in (8, 6)]
    state = game.state_dict()
    for step in (lambda *batch: d_step(game, optimisers(game)[0], *batch),
                 lambda *batch: g_step(game, optimisers(game)[1], *batch),
                 lambda *batch: both_step(game, *optimisers(game), *batch)):
        results = []
        for i, other in others:
            game.load_state_dict(state)
            step(x, z, masks)
            results.append(game.state_dict())
            rng.normal((7,))
            game.start(i)
            both_step(game, *optimisers(game), *other)
        assert same(*results) and not same(state, results[0])


@pytest.mark.parametrize("last", [
    nn.Sigmoid, lambda: ops.sigmoid, lambda: nn.Sequential(nn.Sigmoid(), nn.Flatten()),
    lambda: nn.Sequential(nn.Tanh(), nn.Sequential(nn.Sigmoid()))])
@pytest.mark.parametrize("name", GAMES)
def test_a_discriminator_that_ends_in_a_sigmoid_is_refused(name, last):
    D = nn.Sequential(nn.Dense(2, 3), nn.Sigmoid(), nn.Dense(3, 1))
    GAMES[name](generator(), D)             # elsewhere it may
    with pytest.raises(UserError, match="ends in a sigmoid.*leave the sigmoid out"):
        GAMES[name](generator(), nn.Sequential(D, last()))


# Wasserstein: clipping

def test_wgan_plays_algorithm_1():
    """Five times noise, the critic's gradient, its step, the clipping; then the generator's. After
    each clipping every weight, gains and biases too, lies in [-c, c]; before it, some do not."""
    D = nn.Sequential(nn.Dense(2, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 1))
    D.layers[-1].bias.data += 1.0           # whose gradient is 0
    game, trace = WGAN(generator(), D, 3, c=0.05), []

    def recorded(thing, name, note):
        call = getattr(thing, name)

        def noted(*arguments):
            result = call(*arguments)
            trace.append((note, max(abs(p.numpy()).max() for p in D.parameters())))
            return result
        setattr(thing, name, noted)
    d_opt, g_opt = (optim.RMSProp(p, 0.01) for p in (game.d_parameters(), game.g_parameters()))
    for thing, name, note in ((game, "noise", "noise"), (game, "d_loss", "critic loss"),
                              (d_opt, "step", "critic step"), (game, "after_d_step", "clip"),
                              (game, "g_loss", "generator loss"), (g_opt, "step", "G's step")):
        recorded(thing, name, note)
    for _ in play(game, points(), d_opt, g_opt, 5, rng, 2):
        pass
    once = (["noise", "critic loss", "critic step", "clip"] * 5
            + ["noise", "generator loss", "G's step"])
    assert [note for note, _ in trace] == once * 2
    c = np.float32(0.05)
    assert all(largest <= c for note, largest in trace if note == "clip")
    assert all(largest > c for note, largest in trace if note == "critic step")


def test_warm_up_is_the_published_codes():
    game = WGAN(generator(), discriminator(), n_critic=warm_up)
    assert [steps(game, "d_steps", i) for i in (0, 1, 24, 25, 26, 499, 500, 501, 999, 1000)] == [
        100, 100, 100, 5, 5, 5, 100, 5, 5, 100]
    game = WGAN(generator(), discriminator())
    assert steps(game, "d_steps", 0) == 5 and steps(game, "g_steps", 0) == 1


def test_the_critic_scores_data_higher_and_the_generator_follows():
    """The sign: the critic's steps raise D(x) - D(G(z)) (here the data lie at (1, 1), the samples
    begin at (-1, -1)), the generator's D(G(z))."""
    game = WGAN(nn.Dense(3, 2), discriminator(dropout=0), 3, c=0.5)
    game.after_d_step()
    game.G.bias.data -= 1.0
    game.G.weight.data *= 0.0
    x, z = tensor(np.ones((5, 2)), "float32"), game.noise(5, rng, 0)
    d_opt, g_opt = optimisers(game, 0.01)

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
    """(|w| - slope)^2 wherever x_hat lies: the norm is over all of a sample's dimensions."""
    critic = in_float64(nn.Sequential(nn.Flatten(), nn.Dense(math.prod(shape[1:]), 1)))
    size = np.linalg.norm(critic.layers[1].weight.numpy())
    x, fake = tensor(normal(*shape)), tensor(normal(*shape, seed=1))
    for eps in (np.zeros(shape[0]), np.ones(shape[0]), uniform(shape[0])):
        for slope in (1.0, 0.0, 2.5):
            penalty = gradient_penalty(critic, x, fake, tensor(eps), slope)
            assert penalty.item() == pytest.approx((size - slope) ** 2, **EXACT)
        assert gradient_penalty(critic, x, fake, tensor(eps)).item() == pytest.approx(
            (size - 1) ** 2, **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_sample_has_one_eps(shape):
    """The gradient of |x|^2 / 2 is x, so the penalty says where each x_hat is: at
    eps x + (1 - eps) G(z), one eps for all of a sample."""
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
    z, (eps,) = WGANGP(generator(), discriminator(), 3).noise(4000, rng, 0)
    assert z.shape == (4000, 3) and eps.shape == (4000,) and eps.dtype == np.float32
    e = np.float64(eps.numpy())
    assert 0 <= e.min() and e.max() <= 1
    # 4 standard errors, of the mean and of the mean square: var(e) = 1/12, var(e^2) = 4/45
    assert abs(e.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / 4000)
    assert abs((e ** 2).mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / 4000)


class Penalty(nn.Module):
    """The gradient penalty as a function of the critic's parameters too."""

    def __init__(self, critic):
        self.critic = critic

    def forward(self, x, x_fake, eps):
        return gradient_penalty(self.critic, x, x_fake, eps)


def mnist_critic():
    return nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 128, 4, 2, 1),
                         nn.LeakyReLU(), nn.Flatten(), nn.Dense(128 * 7 * 7, 1))


def test_the_penaltys_gradient_through_the_mnist_critic():
    """By every parameter, x, G(z) and eps, to 1e-6 of its norm; check_grads chooses the step, from
    1e-4 down to 1e-7, so that no kink of one of the 37,632 leaky ReLUs lies within it."""
    x, fake = uniform(2, 1, 28, 28), normal(2, 1, 28, 28)
    check_grads(Penalty(mnist_critic()), x, fake, np.array([0.3, 0.8]), order=1)


def test_the_penalty_is_finite_where_a_gradient_vanishes():
    """Of a dead sample the slope is 0, the penalty 1, and nothing of it moves the critic."""
    critic = in_float64(nn.Sequential(nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 1)))
    first, last = critic.layers[::2]
    first.weight.data[...] = abs(first.weight.data) + 0.1
    x = np.array([[1.0, 2.0], [-1.0, -2.0], [0.5, 0.1], [-3.0, -0.1]])     # every other one dead

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
def test_a_dead_critic_stays_finite(order):
    game = WGANGP(generator(), nn.Sequential(nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 1)), 3,
                  n_critic=1)
    game.D.layers[0].bias.data -= 100.0
    for _, d_loss, _ in play(game, points(), *optimisers(game), 5, rng, 3, order=order):
        assert d_loss.item() == pytest.approx(10.0, rel=1e-6)           # lam, and no distance
    assert all(np.isfinite(array).all() for array in game.state_dict().values())


@pytest.mark.parametrize("name", ["WGANGP", "R1"])
def test_gradient_penalties_refuse_batch_norm(name):
    D = nn.Sequential(nn.Dense(2, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm(4)), nn.Dense(4, 1))
    with pytest.raises(UserError, match="layer 1.1 of D is a BatchNorm: .* use nn.LayerNorm"):
        PLAIN[name](generator(), D)
    D.layers[1] = nn.LayerNorm(4)
    game = PLAIN[name](generator(), D)      # whose G may have it
    d_step(game, optimisers(game)[0], *draw(game, points(), 5, rng, 0))


@pytest.mark.parametrize("theta", theory.THETAS)
@pytest.mark.numpy_only("a matter of arithmetic: hundreds of steps of 49 numbers")
def test_two_points_are_as_far_apart_as_the_penalty_lets_them(theta):
    """To 1 %: 32 places between the two stand for all, and the critic learns for 300 steps."""
    gap, expected = theory.two_points(theta)
    assert gap == pytest.approx(expected, rel=0.01) and expected > abs(theta)


# R1

@pytest.mark.parametrize("one_pass", [False, True])
def test_r1_of_a_linear_discriminator(one_pass):
    """gamma / 2 |w|^2, on top of the loss without it."""
    D = in_float64(nn.Sequential(nn.Flatten(), nn.Dense(12, 1)))
    x, z = tensor(normal(4, 3, 2, 2)), tensor(normal(4, 3, 2, 2, seed=1))
    plain, game = GAN(nn.Sequential(), D), R1(nn.Sequential(), D, gamma=7.0)
    expected = plain.d_loss(x, z).item() + 3.5 * (D.layers[1].weight.numpy() ** 2).sum()
    loss = game.losses(x, z)[0] if one_pass else game.d_loss(x, z)
    assert loss.item() == pytest.approx(expected, **EXACT)
    assert R1(nn.Sequential(), D).penalties == [penalties.R1(10.0)]


@pytest.mark.parametrize("one_pass", [False, True])
def test_r1_is_on_the_data_alone(one_pass):
    """The gradient of |x|^2 / 2 is x: the penalty is gamma / 2 E |x|^2, and nothing of z."""
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
    SNGAN(generator(), nn.Sequential(*layers))      # whose G has plain layers


def test_samples_do_not_depend_on_their_neighbours():
    """sample() shows G evaluating and leaves it as it was; an average, where one is kept."""
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
    assert (game.sample(z) == several).all()


def test_sngan_refuses_maxout():
    """It has a weight, and there is no spectral norm for it."""
    D = nn.Sequential(nn.Maxout(2, 3, 2), nn.spectral_norm(nn.Dense(3, 1)))
    with pytest.raises(UserError, match="layer 0 of D is a Maxout"):
        SNGAN(generator(), D)


def test_sngan_has_the_papers_number_of_discriminator_steps():
    D = normalised(discriminator())
    assert steps(SNGAN(generator(), D), "d_steps", 0) == 5
    assert steps(SNGAN(generator(), D, n_dis=1), "d_steps", 0) == 1


# Instance noise

@pytest.mark.parametrize("order", ORDERS)
def test_sigma_follows_its_schedule(order):
    noise, trace = views.InstanceNoise(lambda i: 0.1 * i), []
    game = LSGAN(generator(), discriminator(), 3, views=[noise],
                 d_steps=2 if order == "alternating" else 1)
    for name in ("d_loss", "g_loss", "losses"):
        setattr(game, name, lambda x, z, loss=getattr(game, name):
                trace.append(float(noise.noise.sigma)) or loss(x, z))
    for i, _, _ in play(game, points(), *optimisers(game), 5, rng, 6, start=4, order=order):
        assert trace == pytest.approx([0.1 * i] * (3 if order == "alternating" else 1), rel=1e-6)
        trace.clear()                                                               # float32
    assert i == 5


class Given:
    """A source of noise that remembers what it gave."""

    def __init__(self):
        self.given = []

    def normal(self, shape):
        self.given.append(normal(*shape, seed=len(self.given)))
        return backend.xp.asarray(self.given[-1])


@pytest.mark.parametrize("name", PLAIN)
def test_noise_is_added_to_all_that_d_sees_and_only_in_training(name):
    """Each time with new noise, from the source that masks are drawn from too."""
    seen = []
    D = nn.Sequential(Formula(lambda x: seen.append(x.numpy()) or x), smooth_discriminator())
    game = in_float64(PLAIN[name](nn.Sequential(), D, views=[views.InstanceNoise(0.5)]))
    game.D.eval()                           # SNGAN's power iteration
    x, z = normal(4, 2), normal(4, 2, seed=9)
    eps = uniform(4)
    noise = (tensor(z), [tensor(eps)]) if name == "WGANGP" else tensor(z)
    between = [eps[:, None] * x + (1 - eps[:, None]) * z] * (name == "WGANGP")
    for loss, expected in ((game.d_loss, [x, z, *between]), (game.losses, [x, z, *between]),
                           (game.g_loss, [z, x] if name in ("RSGAN", "RaGAN") else [z])):
        seen.clear()
        source = Given()
        with nn.drawing_from(source):
            loss(tensor(x), noise)
        assert len(seen) == len(expected) == len(source.given)
        for a, clean, n in zip(seen, expected, source.given):
            np.testing.assert_allclose(a, clean + 0.5 * n, atol=1e-12)
        seen.clear()
        with nn.drawing_from(None), nn.evaluating(game):
            loss(tensor(x), noise)
        for a, clean in zip(seen, expected, strict=True):
            np.testing.assert_allclose(a, clean, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PLAIN)
def test_without_noise_it_is_the_plain_game(name, order):
    """Bit for bit, in networks that draw no other noise from where this is drawn."""
    def game(*sigma):
        return lambda: PLAIN[name](generator(), discriminator(dropout=0),
                                   views=[views.InstanceNoise(s) for s in sigma])
    without, state = run(game(), order=order)
    with_none, its_state = run(game(0.0), order=order)
    assert without == with_none
    assert same({**state, "views.0.noise.sigma": np.zeros(())}, its_state)
    assert run(game(0.1), order=order)[0] != without


def test_a_view_belongs_to_no_player():
    plain = WGAN(generator(), discriminator(), 3, n_critic=warm_up)
    game = WGAN(plain.G, plain.D, 3, n_critic=warm_up, views=[views.InstanceNoise(0.1)])
    for mine, its in ((game.d_parameters(), plain.D), (game.g_parameters(), plain.G),
                      (game.parameters(), plain)):
        assert [id(p) for p in mine] == [id(p) for p in its.parameters()]
    game.d_loss(*draw(game, points(), 5, rng, 0)[:2])
    assert set(game.seen) == {"D(x)", "D(G(z))", "W"}


def test_a_view_leaves_labels_as_they_are_and_gives_each_tensor_noise_of_its_own():
    view, source, labels = views.InstanceNoise(0.5), Given(), backend.xp.arange(4)
    x, code = tensor(normal(4, 2)), tensor(normal(4, 3, seed=1))
    with nn.drawing_from(source):
        (a, its), (b,) = view(((x, labels), (code,)))
    assert its is labels and len(source.given) == 2
    for noisy, clean, n in zip((a, b), (x, code), source.given):
        np.testing.assert_allclose(noisy.numpy(), clean.numpy() + 0.5 * n, rtol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_a_noisy_game_can_be_copied_and_saved(name):
    """A copy, and a new game with its weights, play on as the game itself does."""
    def plays_on(game):
        rng.seed(5)
        for _ in play(game, points(), *optimisers(game), 5, rng, 5, start=2):
            pass
        return game.state_dict()
    game = GAMES[f"{name}, noisy and averaged"](generator(), discriminator())
    twin, other = copy.deepcopy(game), GAMES[f"{name}, noisy and averaged"](generator(),
                                                                            discriminator())
    start = game.state_dict()
    other.load_state_dict(start)
    end = plays_on(game)
    assert same(twin.state_dict(), start) and not same(start, end)      # nothing is shared
    assert same(plays_on(twin), end) and same(plays_on(other), end)


def test_negative_noise_is_refused():
    assert "-0.1" in error_of(views.InstanceNoise, -0.1)
    game = LSGAN(generator(), discriminator(), 3,
                 views=[views.InstanceNoise(lambda i: 1.0 - i)])
    game.start(1)
    assert "-1.0" in error_of(game.start, 2)


def test_views_come_one_after_the_other():
    """Noise of 3 and of 4 together is noise of 5."""
    noisy = []
    game = WGAN(generator(), Formula(lambda x: noisy.append(x.numpy()) or x[:, :1]), 3,
                views=[views.InstanceNoise(3.0), views.InstanceNoise(4.0)])
    x = tensor(normal(2000, 2), "float32")
    game.d_loss(x, game.latent(2000, rng))
    # a standard deviation over 4000 numbers is known to 1 / sqrt(8000)
    assert (noisy[0] - x.numpy()).std() == pytest.approx(5.0, rel=4 / 8000 ** 0.5)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_settings_that_mean_nothing_are_refused(wrong):
    for make in (lambda: WGAN(generator(), discriminator(), c=wrong),
                 lambda: WGAN(generator(), discriminator(), c=0.0),
                 lambda: WGANGP(generator(), discriminator(), lam=wrong),
                 lambda: R1(generator(), discriminator(), gamma=wrong),
                 lambda: views.InstanceNoise(wrong),
                 lambda: nn.GaussianNoise(wrong)):
        assert "got" in error_of(make)


def test_a_d_that_is_itself_the_layer_is_refused_by_name():
    with pytest.raises(UserError, match="^D is a Dense: "):
        SNGAN(generator(), nn.Dense(2, 1), 3)


# An average of G's weights

@pytest.mark.parametrize("order", ORDERS)
def test_the_average_is_the_recursion(order):
    """p_average <- decay p_average + (1 - decay) p after each of G's steps and no other; its
    buffers are G's, here batch normalisation's. float32: each of five steps rounds a number of size
    1 by 1e-7 at most."""
    game = Hinge(generator(), discriminator(), 3, d_steps=2 if order == "alternating" else 1)
    game.keep_average(0.6)
    average, = game.averages.values()
    expected = {name: np.float64(p) for name, p in arrays_of(game.G).items()}
    assert same(average.state_dict(), game.G.state_dict())
    for _ in play(game, points(), *optimisers(game, 0.2), 5, rng, 5, order=order):
        for name, p in arrays_of(game.G).items():
            expected[name] = 0.6 * expected[name] + 0.4 * p
            np.testing.assert_allclose(arrays_of(average)[name], expected[name], rtol=0, atol=1e-6)
        assert max(abs(p - expected[name]).max() for name, p in arrays_of(game.G).items()) > 1e-3
        for name, buffer in game.G.named_arrays(backend.xp.ndarray).items():
            kept = average.named_arrays(backend.xp.ndarray)[name]
            assert (to_numpy(kept) == to_numpy(buffer)).all() and kept is not buffer


def test_the_average_of_a_spectrally_normalised_g_has_norms_of_its_own():
    """u and v follow the average's own weights: with G's, its layers' norms were up to a quarter
    above 1. Some per cent remain where the weights move fast, as here."""
    G = nn.Sequential(nn.spectral_norm(nn.Dense(3, 8)), nn.Tanh(), nn.spectral_norm(nn.Dense(8, 2)))
    game = Hinge(G, discriminator(), 3)
    game.keep_average(0.9)
    for _ in play(game, points(), *optimisers(game, 0.2), 5, rng, 200):
        pass
    for there, here in zip(game.averages["G"].layers[::2], G.layers[::2]):
        w = there.weight_orig.numpy().astype("float64")
        largest = np.linalg.svd(w, compute_uv=False)[0]
        sigma = to_numpy(there.weight_u) @ w @ to_numpy(there.weight_v)
        assert largest / sigma == pytest.approx(1, abs=0.01)
        of_g = to_numpy(here.weight_u) @ w @ to_numpy(here.weight_v)
        assert largest / of_g > largest / sigma         # the test tells the two apart


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PLAIN)
def test_an_average_does_not_play(name, order):
    """The run is the same bit for bit without it, and no player's parameters are its own."""
    def averaged():
        game = PLAIN[name](generator(), discriminator())
        game.keep_average(0.9)
        own = set(game.averages["G"].parameters())
        assert not own & set(game.d_parameters() + game.g_parameters())
        return game
    losses, state = run(lambda: PLAIN[name](generator(), discriminator()), order=order)
    averaged_losses, averaged_state = run(averaged, order=order)
    assert losses == averaged_losses
    assert same(state, {key: value for key, value in averaged_state.items()
                        if not key.startswith("averages.G.")})


def test_an_averages_batch_statistics_are_those_of_its_own_samples():
    """Of ten batches of a hundred, always the same ones; measured when it samples, without masks,
    and nobody's noise is moved by it."""
    G = nn.Sequential(nn.Dense(3, 4), nn.Dropout(0.5), nn.BatchNorm(4, momentum=0.3), nn.Tanh(),
                      nn.spectral_norm(nn.Dense(4, 2)))
    game = Hinge(G, discriminator(), 3)
    game.keep_average(0.5)
    for _ in play(game, points(), *optimisers(game, 0.2), 5, rng, 3):
        pass
    average = game.averages["G"]
    norm = average.layers[2]

    def check():
        """To float32's rounding."""
        w, b = (np.float64(p.numpy()) for p in average.layers[0].parameters())
        noise = Random(0)
        batches = [game.latent(100, noise).numpy() @ w.T + b for _ in range(10)]
        for found, expected in ((norm.running_mean, [x.mean(0) for x in batches]),
                                (norm.running_var, [x.var(0, ddof=1) for x in batches])):
            np.testing.assert_allclose(to_numpy(found), np.mean(expected, 0), rtol=1e-5, atol=1e-6)
    before, state, parameters = rng.state, arrays_of(game), game.G.state_dict()
    u, modes = to_numpy(average.layers[4].weight_u).copy(), [p.training for _, p in game.modules()]
    with game.sampling():
        pass
    check()
    assert rng.state == before and same(arrays_of(game), state) and norm.momentum == 0.3
    assert same(game.G.state_dict(), parameters)
    assert (to_numpy(average.layers[4].weight_u) == u).all()
    assert [p.training for _, p in game.modules()] == modes
    measured = to_numpy(norm.running_mean).copy()
    g_step(game, optimisers(game)[1], *draw(game, points(), 5, rng, 0))
    game.sample(game.latent(2, rng))
    check()
    assert abs(to_numpy(norm.running_mean) - measured).max() > 1e-4


def test_no_average_is_kept_unless_asked_for():
    game = LSGAN(generator(), discriminator())
    assert game.averages is None
    game.keep_average()
    assert game.decay == 0.999


def test_an_average_without_memory_is_g():
    game = LSGAN(generator(), discriminator(), 3)
    game.keep_average(0)
    for _ in play(game, points(), *optimisers(game), 5, rng, 2):
        for a, b in zip(game.averages["G"].parameters(), game.g_parameters()):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)     # float32


def test_a_shared_weight_is_averaged_once():
    """A layer that G uses twice has its weights under two names."""
    layer = nn.Dense(3, 3)
    game = LSGAN(nn.Sequential(layer, nn.Tanh(), layer), nn.Dense(3, 1), 3)
    game.keep_average(0.5)
    before = layer.weight.numpy().copy()
    layer.weight.data += 1.0
    game.end_g_step()
    average = game.averages["G"].layers[0].weight
    np.testing.assert_allclose(average.numpy(), before + 0.5, atol=1e-6)        # float32


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5, math.nan])
def test_a_bad_decay_is_refused(decay):
    game = LSGAN(generator(), discriminator())
    assert str(decay) in error_of(game.keep_average, decay)
    assert game.averages is None


# Packs

class Pack(views.View):
    """k samples after one another as one, with k times the channels (Lin et al. 2018)."""

    def __init__(self, k):
        self.k = k

    def forward(self, x):
        return x.reshape(len(x) // self.k, -1)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_penalty_on_packs_is_that_of_the_packs(k):
    """Whether D looks through a view, or is shown packs to begin with."""
    D = nn.Sequential(nn.Dense(2 * k, 5), nn.Tanh(), nn.Dense(5, 1))
    x, fake = (tensor(normal(6, 2, seed=i), "float32") for i in range(2))
    game = Hinge(generator(), D, 3, views=[Pack(k)])
    packs, fakes = (tensor(a.numpy().reshape(6 // k, -1)) for a in (x, fake))
    r1 = penalties.R1(2.0)(game.score, x, None, game.score(x), None, None)
    assert r1.item() == pytest.approx(penalties.slope_squared(packs, D(packs)).item(), rel=1e-5)
    eps = tensor(np.linspace(0.1, 0.9, 6), "float32")
    gp = penalties.GradientPenalty(3.0)(game.score, x, fake, game.score(x), None, eps)
    expected = 3 * gradient_penalty(D, packs, fakes, eps[:6 // k]).item()
    assert gp.item() == pytest.approx(expected, rel=1e-5)          # float32


# What is no choice

@pytest.mark.parametrize("choices, words", [
    (dict(loss=losses.Hinge), "losses.Hinge()"), (dict(loss="hinge"), "losses.Hinge()"),
    (dict(penalties=penalties.R1()), "[R1(10.0)]"), (dict(penalties=[penalties.R1]), "[R1(10.0)]"),
    (dict(views=views.InstanceNoise(0.1)), "[InstanceNoise(0.1)]"),
    (dict(views=[lambda x: x]), "[InstanceNoise(0.1)]")])
def test_what_is_no_choice_is_refused(choices, words):
    assert words in error_of(lambda: GAN(generator(), discriminator(), 3, **choices))


def test_a_game_without_a_loss_is_refused_when_it_is_to_be_played():
    game = Game(generator(), discriminator(), 3)
    played = play(game, points(), *optimisers(game), 5, rng, 1)
    assert "losses.Hinge()" in error_of(lambda: next(played))


def test_a_game_with_a_d_loss_of_its_own_takes_no_penalties():
    class Own(Game):
        def d_loss(self, x, z):
            real, fake = self.scores(x, z)
            return fake.mean() - real.mean()

    assert "leaves the penalties out" in error_of(
        lambda: Own(generator(), discriminator(), 3, penalties=[penalties.R1()]))


def test_hooks_need_no_super():
    """The noise's sigma and the averages go on in a game that has a begin and an after_g_step of
    its own."""
    class Hooked(Hinge):
        def begin(self, i):
            pass

        def after_g_step(self):
            pass
    game = Hooked(generator(), discriminator(), 3,
                  views=[views.InstanceNoise(schedules.linear(1.0, 0.0, 2))])
    game.keep_average(0.5)
    before = [p.numpy().copy() for p in game.averages["G"].parameters()]
    for _ in play(game, points(), *optimisers(game), 5, rng, 3):
        pass
    assert float(game.views[0].noise.sigma) == 0
    assert any((p.numpy() != q).any() for p, q in zip(game.averages["G"].parameters(), before))


# A part of G's in what D is shown of the data

class Encoding(Game):
    """D is shown (x, E(x)) and (G(z), z), as in BiGAN (Donahue et al. 2017)."""

    g_players = ("G", "E")

    def __init__(self, G, E, D, **choices):
        super().__init__(G, D, 3, **choices)
        self.E = E

    def real(self, x):
        return ops.concat([x, self.E(x)], 1)

    def fake(self, x, z):
        return ops.concat([self.G(z), z], 1)


OF_REAL = {         # of the logit or score a of (x, E(x)), what the encoder minimises
    losses.Saturating(): lambda a: -np.log1p(np.exp(-a)).mean(),
    losses.NonSaturating(): lambda a: np.log1p(np.exp(a)).mean(),
    losses.LeastSquares(): lambda a: (a ** 2).mean(),
    losses.Hinge(): lambda a: a.mean(),
    losses.Wasserstein(): lambda a: a.mean(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("loss", OF_REAL, ids=lambda loss: type(loss).__name__)
def test_an_encoder_has_a_loss_of_its_own(loss, order):
    """G's loss has D's scores of the pairs (x, E(x)) in it, with the sign turned; and E moves."""
    def game():
        rng.seed(0)
        return Encoding(nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 3)),
                        nn.Sequential(nn.Dense(5, 4), nn.Tanh(), nn.Dense(4, 1)), loss=loss)
    played = game()
    x, z = (tensor(normal(6, n, seed=n), "float32") for n in (2, 3))
    a = played.score(played.real(x)).numpy()
    fake = played.loss.g(None, played.score(played.fake(x, z))).item()
    for g_loss in (played.g_loss(x, z), played.losses(x, z)[1]):
        assert g_loss.item() - fake == pytest.approx(OF_REAL[loss](a), rel=1e-5, abs=1e-6)
    before = [p.numpy().copy() for p in played.E.parameters()]
    for _ in play(played, points(), *optimisers(played), 5, rng, 2, order=order):
        pass
    assert all((p.numpy() != q).any() for p, q in zip(played.E.parameters(), before))
