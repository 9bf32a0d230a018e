"""The games: each one's losses against the formula, what each step may touch, and what a game adds:
clipping, penalties on D's slope, spectral norms, noise, an average of G's weights."""

import copy
import math
import pathlib
import sys

import numpy as np
import pytest

from tinygan import Tensor, backend, check_grads, grad, nn, optim, play, rng, to_numpy
from tinygan.backend import Random, UserError
from tinygan.data import Minibatches
from tinygan.games import (GAN, LSGAN, R1, SNGAN, WGAN, WGANGP, Game, Hinge, InstanceNoise, RaGAN,
                           RSGAN, gradient_penalty, warm_up)
from tinygan.loop import both_step, d_step, draw, g_step, steps

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
    "GAN": lambda G, D: GAN(G, D, 3),
    "GAN, saturating": lambda G, D: GAN(G, D, 3, "saturating"),
    "LSGAN": lambda G, D: LSGAN(G, D, 3),
    "Hinge": lambda G, D: Hinge(G, D, 3),
    "SNGAN": lambda G, D: SNGAN(G, normalised(D), 3, n_dis=1),
    "WGAN": lambda G, D: WGAN(G, D, 3, c=0.3, n_critic=1),
    "WGANGP": lambda G, D: WGANGP(G, D, 3, lam=3.0, n_critic=1),
    "RSGAN": lambda G, D: RSGAN(G, D, 3),
    "RaGAN": lambda G, D: RaGAN(G, D, 3),
    "R1": lambda G, D: R1(G, D, 3, gamma=3.0),
}


def noisy_and_averaged(make):
    def made(G, D):
        game = InstanceNoise(make(G, D), optim.linear(0.5, 0.1, 10))
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
    return tuple(map(float64, z)) if isinstance(z, tuple) else tensor(z.numpy(), "float64")


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


# name: D's loss and G's, of the scores r of real samples and f of generated ones
FORMULAS = {
    "GAN": (lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
            lambda r, f: -np.log(sigmoid(f)).mean()),
    "LSGAN": (lambda r, f: ((r - 1) ** 2).mean() + (f ** 2).mean(),
              lambda r, f: ((f - 1) ** 2).mean()),
    "Hinge": (lambda r, f: (np.mean([max(0, 1 - a) for a in r])
                            + np.mean([max(0, 1 + b) for b in f])), lambda r, f: -f.mean()),
    "WGAN": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "RSGAN": (lambda r, f: np.mean([-np.log(sigmoid(a - b)) for a, b in zip(r, f)]),
              lambda r, f: np.mean([-np.log(sigmoid(b - a)) for a, b in zip(r, f)])),
    "RaGAN": (lambda r, f: (np.mean([-np.log(sigmoid(a - f.mean())) for a in r])
                            + np.mean([-np.log(1 - sigmoid(b - r.mean())) for b in f])),
              lambda r, f: (np.mean([-np.log(sigmoid(b - r.mean())) for b in f])
                            + np.mean([-np.log(1 - sigmoid(a - f.mean())) for a in r]))),
}
FORMULAS["GAN, saturating"] = (FORMULAS["GAN"][0], lambda r, f: np.log(1 - sigmoid(f)).mean())
FORMULAS |= {"R1": FORMULAS["GAN"], "SNGAN": FORMULAS["Hinge"], "WGANGP": FORMULAS["WGAN"]}


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


def drawn_game(name, m=30):
    """The game in float64, D evaluating, with x, z, and G(z) as an array."""
    game = in_float64(PLAIN[name](generator(), discriminator()))
    game.D.eval()
    for layer in (game.D.layers[0], game.D.layers[-1], game.G.layers[-1]):
        w = layer.weight_orig if hasattr(layer, "weight_u") else layer.weight
        w.data[...] = tensor(normal(*w.shape, seed=2)).data
        layer.bias.data[...] = tensor(normal(*layer.bias.shape)).data
    x, z = tensor(3 * normal(m, 2)), float64(game.noise(m, rng, 0))
    return game, x, z, game.G(z[0] if type(z) is tuple else z).numpy()


@pytest.mark.parametrize("name", PLAIN)
def test_losses_are_the_formulas(name):
    game, x, z, samples = drawn_game(name)
    r, slopes = by_hand(game.D, x.numpy())
    f, _ = by_hand(game.D, samples)
    assert r.min() < 1 < r.max() and f.min() < -1 < f.max()     # both sides of the hinge's margins
    d_loss, g_loss = (formula(r, f) for formula in FORMULAS[name])
    if name == "R1":
        d_loss += 3.0 / 2 * (slopes ** 2).mean()
    if name == "WGANGP":
        between = [e * a + (1 - e) * b for e, a, b in zip(z[1].numpy(), x.numpy(), samples)]
        d_loss += 3.0 * ((by_hand(game.D, between)[1] - 1) ** 2).mean()
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, **EXACT)
    assert game.g_loss(x, z).item() == pytest.approx(g_loss, **EXACT)
    both = [loss.item() for loss in game.losses(x, z)]
    assert both == pytest.approx([d_loss, g_loss], **EXACT)


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_seen_are_probabilities_or_mean_scores(name, one_pass):
    game, x, z, samples = drawn_game(name)
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
        return (z, Tensor(self.eps)) if type(self.game) is WGANGP else z

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


# The steps

@pytest.mark.parametrize("name", GAMES)
def test_each_step_moves_its_own_player_only(name):
    game = game_named(name)
    (d_opt, g_opt), batches = optimisers(game), points()
    for step, opt, moved, still in ((d_step, d_opt, game.D, game.G),
                                    (g_step, g_opt, game.G, game.D)):
        before = arrays_of(moved), arrays_of(still)
        step(game, opt, *draw(game, batches, 5, rng, 0))
        assert not same(before[0], arrays_of(moved)) and same(before[1], arrays_of(still))


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


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", GAMES)
def test_same_seed_same_run_bit_for_bit(name, order):
    (losses, state), (again, state_again), (other, _) = (
        run(lambda: game_named(name), seed, order) for seed in (1, 1, 2))
    assert losses == again and same(state, state_again) and losses != other


@pytest.mark.parametrize("name", GAMES)
def test_a_step_is_a_function_of_its_arguments(name):
    """And of the weights: what is drawn in between, and the steps before, do not matter."""
    game = game_named(name)
    x, z, masks = draw(game, points(), 5, rng, 3)
    others = [draw(game, points(), 5, rng, i) for i in (8, 6)]
    state = game.state_dict()
    for step in (lambda *batch: d_step(game, optimisers(game)[0], *batch),
                 lambda *batch: g_step(game, optimisers(game)[1], *batch),
                 lambda *batch: both_step(game, *optimisers(game), *batch)):
        results = []
        for other in others:
            game.load_state_dict(state)
            step(x, z, masks)
            results.append(game.state_dict())
            rng.normal((7,))
            both_step(game, *optimisers(game), *other)
        assert same(*results) and not same(state, results[0])


@pytest.mark.parametrize("name", PLAIN)
def test_no_step_waits_for_the_device(name):
    """Not a number comes back to the host, as long as nobody looks at one."""
    game = PLAIN[name](generator(), discriminator())
    game.keep_average()
    batch = draw(game, points(), 5, rng, 0)
    opts = optimisers(game)
    standin.transfers.reset()
    d_step(game, opts[0], *batch)
    g_step(game, opts[1], *batch)
    both_step(game, *opts, *batch)
    assert standin.transfers.to_host == 0


@pytest.mark.parametrize("last", [lambda: nn.Sigmoid(),
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
    assert [steps(game, i) for i in (0, 1, 24, 25, 26, 499, 500, 501, 999, 1000)] == [
        100, 100, 100, 5, 5, 5, 100, 5, 5, 100]
    assert steps(WGAN(generator(), discriminator()), 0) == 5


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
    z, eps = WGANGP(generator(), discriminator(), 3).noise(4000, rng, 0)
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
    assert R1(nn.Sequential(), D).gamma == 10.0


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
    """sample() shows G evaluating, the average where one is kept, and leaves it as it was."""
    G = nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), nn.Sigmoid())
    game, z = Game(G, nn.Dense(4, 1), 3), tensor(normal(8, 3), "float32")
    G(z)
    before = G.state_dict()
    several, one = game.sample(z), game.sample(Tensor(z.data[2:3]))
    np.testing.assert_allclose(to_numpy(several)[2:3], to_numpy(one), atol=1e-6)   # float32
    assert all(part.training for _, part in G.modules())
    assert all((value == before[name]).all() for name, value in G.state_dict().items())
    game.keep_average(0.5)
    G.layers[0].weight.data += 1.0
    assert (game.sample(z) == several).all()


def test_sngan_refuses_maxout():
    """It has a weight, and there is no spectral norm for it."""
    D = nn.Sequential(nn.Maxout(2, 3, 2), nn.spectral_norm(nn.Dense(3, 1)))
    with pytest.raises(UserError, match="layer 0 of D is a Maxout"):
        SNGAN(generator(), D)


def test_sngan_has_the_papers_number_of_discriminator_steps():
    D = normalised(discriminator())
    assert steps(SNGAN(generator(), D), 0) == 5 and steps(SNGAN(generator(), D, n_dis=1), 0) == 1


# Instance noise

@pytest.mark.parametrize("order", ORDERS)
def test_sigma_follows_its_schedule(order):
    plain, trace = LSGAN(generator(), discriminator(), 3), []
    game = InstanceNoise(plain, lambda i: 0.1 * i)
    for name in ("d_loss", "g_loss"):
        setattr(plain, name, lambda x, z, loss=getattr(plain, name):
                trace.append(float(game.layer.sigma)) or loss(x, z))
    plain.d_steps = 2 if order == "alternating" else 1
    for i, _, _ in play(game, points(), *optimisers(game), 5, rng, 6, start=4, order=order):
        assert trace == pytest.approx([0.1 * i] * (plain.d_steps + 1), rel=1e-6)    # float32
        trace.clear()
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
    """Real samples first, then generated ones; from the source that masks are drawn from too."""
    seen = []
    D = nn.Sequential(Formula(lambda x: seen.append(x.numpy()) or x), smooth_discriminator())
    game = in_float64(InstanceNoise(PLAIN[name](nn.Sequential(), D), 0.5))
    game.game.D.layers[1].eval()            # SNGAN's power iteration
    x, z = normal(4, 2), normal(4, 2, seed=9)
    eps = uniform(4)
    noise = (tensor(z), tensor(eps)) if name == "WGANGP" else tensor(z)
    between = eps[:, None] * x + (1 - eps[:, None]) * z
    for losses, expected in (
            ([game.d_loss], [x, z] + [between] * (name == "WGANGP")),
            ([game.g_loss], {"RSGAN": [x, z], "RaGAN": [z, x]}.get(name, [z]))):
        seen.clear()
        source = Given()
        with nn.drawing_from(source):
            losses[0](tensor(x), (noise, 0.5))
        assert len(seen) == len(expected) == len(source.given)
        for a, clean, n in zip(seen, expected, source.given):
            np.testing.assert_allclose(a, clean + 0.5 * n, atol=1e-12)
        seen.clear()
        with nn.drawing_from(None), nn.evaluating(game):
            losses[0](tensor(x), (noise, 0.5))
        for a, clean in zip(seen, expected, strict=True):
            np.testing.assert_allclose(a, clean, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PLAIN)
def test_without_noise_it_is_the_plain_game(name, order):
    """Bit for bit, in networks that draw no other noise from where this is drawn."""
    def plain():
        return PLAIN[name](generator(), discriminator(dropout=0))
    losses, state = run(plain, order=order)
    noisy_losses, noisy_state = run(lambda: InstanceNoise(plain(), 0.0), order=order)
    assert losses == noisy_losses
    renamed = {name.replace("game.D.1.", "D.").removeprefix("game."): value
               for name, value in noisy_state.items() if not name.endswith(".sigma")}
    assert same(state, renamed)
    losses, _ = run(lambda: InstanceNoise(plain(), 0.1), order=order)
    assert losses != noisy_losses


def test_the_noisy_game_shows_what_the_plain_one_has():
    plain = WGAN(generator(), discriminator(), 3, n_critic=warm_up)
    game = InstanceNoise(plain, 0.1)
    assert game.G is plain.G and game.D is plain.D and game.d_steps is warm_up and game.c == 0.01
    assert game.d_parameters() == plain.D.parameters() and game.parameters() == plain.parameters()
    game.d_loss(*draw(game, points(), 5, rng, 0)[:2])
    assert set(game.seen) == {"D(x)", "D(G(z))", "W"}
    with pytest.raises(AttributeError, match="'WGAN'.*'lam'"):
        game.lam


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
    assert "-0.1" in error_of(InstanceNoise, LSGAN(generator(), discriminator()), -0.1)
    game = InstanceNoise(LSGAN(generator(), discriminator(), 3), lambda i: 1.0 - i)
    assert "-1.0 in iteration 2" in error_of(game.noise, 5, rng, 2)


def test_what_is_set_on_the_noisy_game_is_set_on_the_game():
    """So that noise can be added twice, as any other game can have it."""
    plain = WGAN(generator(), discriminator(), 3)
    D = plain.D
    game = InstanceNoise(InstanceNoise(plain, 3.0), 4.0)
    game.c = 0.3
    assert plain.c == 0.3 and plain.D is game.D and game.D.layers[1].layers[1] is D
    x, source = tensor(normal(2000, 2), "float32"), Random(0)
    with nn.drawing_from(source):
        game.d_loss(x, ((plain.latent(2000, rng), 3.0), 4.0))
    noisy = []
    D.forward = lambda x: noisy.append(x.numpy()) or x[:, :1]
    with nn.drawing_from(source):
        game.d_loss(x, ((plain.latent(2000, rng), 3.0), 4.0))
    # a standard deviation over 4000 numbers is known to 1 / sqrt(8000)
    assert (noisy[0] - x.numpy()).std() == pytest.approx(5.0, rel=4 / 8000 ** 0.5)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_settings_that_mean_nothing_are_refused(wrong):
    for make in (lambda: WGAN(generator(), discriminator(), c=wrong),
                 lambda: WGAN(generator(), discriminator(), c=0.0),
                 lambda: WGANGP(generator(), discriminator(), lam=wrong),
                 lambda: R1(generator(), discriminator(), gamma=wrong),
                 lambda: InstanceNoise(LSGAN(generator(), discriminator()), wrong),
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
    game = Hinge(generator(), discriminator(), 3)
    game.d_steps = 2 if order == "alternating" else 1
    game.keep_average(0.6)
    expected = {name: np.float64(p) for name, p in arrays_of(game.G).items()}
    assert same(game.G_average.state_dict(), game.G.state_dict())
    for _ in play(game, points(), *optimisers(game, 0.2), 5, rng, 5, order=order):
        for name, p in arrays_of(game.G).items():
            expected[name] = 0.6 * expected[name] + 0.4 * p
            np.testing.assert_allclose(arrays_of(game.G_average)[name], expected[name], rtol=0,
                                       atol=1e-6)
        assert max(abs(p - expected[name]).max() for name, p in arrays_of(game.G).items()) > 1e-3
        for name, buffer in game.G.named_arrays(backend.xp.ndarray).items():
            kept = game.G_average.named_arrays(backend.xp.ndarray)[name]
            assert (to_numpy(kept) == to_numpy(buffer)).all() and kept is not buffer


def test_the_average_of_a_spectrally_normalised_g_has_norms_of_its_own():
    """u and v follow the average's own weights: with G's, its layers' norms were up to a quarter
    above 1. Some per cent remain where the weights move fast, as here."""
    G = nn.Sequential(nn.spectral_norm(nn.Dense(3, 8)), nn.Tanh(), nn.spectral_norm(nn.Dense(8, 2)))
    game = Hinge(G, discriminator(), 3)
    game.keep_average(0.9)
    for _ in play(game, points(), *optimisers(game, 0.2), 5, rng, 200):
        pass
    for there, here in zip(game.G_average.layers[::2], G.layers[::2]):
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
        own = set(game.G_average.parameters())
        assert not own & set(game.d_parameters() + game.g_parameters())
        return game
    losses, state = run(lambda: PLAIN[name](generator(), discriminator()), order=order)
    averaged_losses, averaged_state = run(averaged, order=order)
    assert losses == averaged_losses
    assert same(state, {key: value for key, value in averaged_state.items()
                        if not key.startswith("G_average.")})


def test_no_average_is_kept_unless_asked_for():
    game = LSGAN(generator(), discriminator())
    assert game.G_average is None
    game.keep_average()
    assert game.decay == 0.999


def test_an_average_without_memory_is_g():
    game = LSGAN(generator(), discriminator(), 3)
    game.keep_average(0)
    for _ in play(game, points(), *optimisers(game), 5, rng, 2):
        for a, b in zip(game.G_average.parameters(), game.g_parameters()):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)     # float32


def test_a_shared_weight_is_averaged_once():
    """A layer that G uses twice has its weights under two names."""
    layer = nn.Dense(3, 3)
    game = LSGAN(nn.Sequential(layer, nn.Tanh(), layer), nn.Dense(3, 1), 3)
    game.keep_average(0.5)
    before = layer.weight.numpy().copy()
    layer.weight.data += 1.0
    game.after_g_step()
    np.testing.assert_allclose(game.G_average.layers[0].weight.numpy(), before + 0.5, atol=1e-6)


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5, math.nan])
def test_a_bad_decay_is_refused(decay):
    game = LSGAN(generator(), discriminator())
    assert str(decay) in error_of(game.keep_average, decay)
    assert game.G_average is None
