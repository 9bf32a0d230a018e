"""Tests of the f-GAN: its divergences by their definitions, its bound, and the example."""

import math

import numpy as np
import pytest

from tinygan import Tensor, check_grads, grad, nn, optim, play, rng
from tinygan.backend import UserError
from tinygan.games import FGAN, losses
from tinygan.games.fgan import DIVERGENCES, FDivergence
from tinygan.loop import d_step
from tinygan.random import Random

from helpers import normal, tensor
from test_examples import run

NAMES = [*DIVERGENCES]
P, Q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1])      # of four values
RATIO = P / Q
# by the formulas that define them, and not by f
EXPECTED = {
    "kl": (P * np.log(P / Q)).sum(),
    "reverse_kl": (Q * np.log(Q / P)).sum(),
    "pearson": ((P - Q) ** 2 / Q).sum(),
    "neyman": ((P - Q) ** 2 / P).sum(),
    "hellinger": ((np.sqrt(P) - np.sqrt(Q)) ** 2).sum(),
    "jensen_shannon": (P * np.log(2 * P / (P + Q)) + Q * np.log(2 * Q / (P + Q))).sum(),
    "gan": (P * np.log(P / (P + Q)) + Q * np.log(Q / (P + Q))).sum()}


# g_f(v) and f*(t) as in the paper's tables, which scores of another scale would not have
TABLE = {
    "kl": (lambda v: v, lambda t: np.exp(t - 1)),
    "reverse_kl": (lambda v: -np.exp(-v), lambda t: -1 - np.log(-t)),
    "pearson": (lambda v: v, lambda t: t ** 2 / 4 + t),
    "neyman": (lambda v: 1 - np.exp(-v), lambda t: 2 - 2 * np.sqrt(1 - t)),
    "hellinger": (lambda v: 1 - np.exp(-v), lambda t: t / (1 - t)),
    "jensen_shannon": (lambda v: np.log(2) - np.log(1 + np.exp(-v)),
                       lambda t: -np.log(2 - np.exp(t))),
    "gan": (lambda v: -np.log(1 + np.exp(-v)), lambda t: -np.log(1 - np.exp(t)))}


@pytest.mark.parametrize("name", NAMES)
def test_activations_and_conjugates_are_those_of_the_tables(name):
    v = np.linspace(-3, 3, 13)
    (g_f, star), (_, activation, conjugate) = TABLE[name], DIVERGENCES[name]
    np.testing.assert_allclose(activation(tensor(v)).numpy(), g_f(v), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(conjugate(tensor(v)).numpy(), star(g_f(v)), rtol=1e-10, atol=1e-12)


def derivative(f, u, step=1e-6):
    return (f(u + step) - f(u - step)) / (2 * step)


def score_of(name, t):
    """Return the score v with g_f(v) = t, by bisection: g_f is increasing."""
    low, high = np.full(t.shape, -40.0), np.full(t.shape, 40.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = DIVERGENCES[name].activation(tensor(middle)).numpy() < t
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return middle


@pytest.mark.parametrize("name", NAMES)
def test_f_defines_the_divergence(name):
    """Eq. 2: the mean of f(p / q) under q."""
    assert (Q * DIVERGENCES[name].f(RATIO)).sum() == pytest.approx(EXPECTED[name], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_that_of_f(name):
    """Eq. 3: f*(t) is the largest u t - f(u), here over 200,000 values of u."""
    _, activation, conjugate = DIVERGENCES[name]
    v = np.linspace(-1.5, 1.5, 7)
    t = activation(tensor(v)).numpy()
    u = np.exp(np.linspace(-12, 12, 200_001))
    largest = (u * t[:, None] - DIVERGENCES[name].f(u)).max(1)
    # neighbours differ by a factor of 1.00012, and the function is flat at its maximum; Pearson's
    # has its maximum at 1 + t / 2 > 0
    np.testing.assert_allclose(conjugate(tensor(v)).numpy(), largest, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_is_increasing_and_differentiable(name):
    """g_f(v) grows with v, so that a large score speaks for the data."""
    _, activation, conjugate = DIVERGENCES[name]
    t = activation(tensor(np.linspace(-5, 5, 101))).numpy()
    assert (np.diff(t) > 0).all()
    for f in activation, conjugate:
        check_grads(f, tensor(np.linspace(-1.5, 1.5, 5)), order=3)


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_the_divergence_for_the_optimal_scores_alone(name):
    """Eq. 4 and 5: with T = f'(p / q), F = D_f; other scores give less."""
    loss = FDivergence(name)

    def bound(v):
        # each value as often among ten samples as its probability says
        real, fake = (np.repeat(v, np.round(10 * p).astype(int))[:, None] for p in (P, Q))
        return -loss.d(tensor(real), tensor(fake)).item()
    best = score_of(name, derivative(DIVERGENCES[name].f, RATIO))
    assert bound(best) == pytest.approx(EXPECTED[name], rel=1e-6)       # f' by finite differences
    for other in normal(20, 4):
        assert bound(best + other / 4) < EXPECTED[name] - 1e-4


def test_its_gan_is_the_gan():
    """With "gan", losses and gradients are those of Goodfellow et al. 2014."""
    a, b = tensor(normal(5, 1)), tensor(normal(5, 1, seed=1))
    for ours, theirs in ((FDivergence("gan"), losses.NonSaturating()),
                         (FDivergence("gan", saturating=True), losses.Saturating())):
        for pair in ((ours.d(a, b), theirs.d(a, b)), (ours.g(None, b), theirs.g(None, b)),
                     (ours.g_real(a), theirs.g_real(a))):
            assert pair[0].item() == pytest.approx(pair[1].item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_of_g(name):
    """Saturating, G minimises F; else it maximises T of its samples. F is logged."""
    _, activation, conjugate = DIVERGENCES[name]
    a, b = tensor(normal(5, 1)), tensor(normal(5, 1, seed=1))
    T, star = (lambda v: activation(v).numpy().mean()), (lambda v: conjugate(v).numpy().mean())
    for saturating, g, g_real in (True, -star(b), T(a)), (False, -T(b), star(a)):
        loss = FDivergence(name, saturating)
        assert loss.g(None, b).item() == pytest.approx(g, rel=1e-12)
        assert loss.g_real(a).item() == pytest.approx(g_real, rel=1e-12)
        assert float(loss.summarise(a, b)["F"]) == pytest.approx(T(a) - star(b), rel=1e-12)
    saturating = FDivergence(name, True)        # its g() and g_real() are the two terms of F
    assert saturating.d(a, b).item() == pytest.approx(
        -(saturating.g(None, b) + saturating.g_real(a)).item(), rel=1e-12)


def test_the_game():
    G, D = nn.Dense(3, 2), nn.Dense(2, 1)
    assert FGAN(G, D, 3).loss == FDivergence("pearson")
    assert FGAN(G, D, 3, "neyman").loss == FDivergence("neyman")
    game = FGAN(G, D, 3, loss=FDivergence("kl", saturating=True))
    assert game.loss == FDivergence("kl", saturating=True)
    z = game.latent(1000, Random(0)).numpy()
    assert abs(z).max() < 3 ** 0.5              # uniform
    for make in FDivergence, lambda name: FGAN(G, D, 3, name):
        for wrong in "js", ["kl"]:
            with pytest.raises(UserError, match="one of kl, reverse_kl, .* got"):
                make(wrong)


def test_g_of_one_number_finds_the_data():
    """With F alone, samples of N(theta, 1) come to data of N(2, 1), for each divergence.

    The quantiles of both are fixed, so that the end is theta = 2 but for the size of a last step.
    """
    x = Random(0).normal((200, 1))
    for name in NAMES:
        class Shift(nn.Module):
            def __init__(self):
                self.theta = Tensor([[0.5]])

            def forward(self, z):
                return z + self.theta
        rng.seed(0)
        D = nn.Sequential(nn.Dense(1, 8), nn.Tanh(), nn.Dense(8, 1))
        game = FGAN(Shift(), D, 1, loss=FDivergence(name, saturating=True))
        d_opt, g_opt = (optim.Adam(p.parameters(), 0.02, (0.0, 0.99)) for p in (D, game.G))
        data = Tensor(x + 2.0)
        for i in range(300):
            d_step(game, d_opt, data, Tensor(x), seed=i)
            g_opt.step(grad(game.g_loss(data, Tensor(x)), g_opt.parameters))
        assert game.G.theta.item() == pytest.approx(2.0, abs=0.1), name


@pytest.mark.host
def test_the_best_gaussian_of_the_example():
    """Known in closed form: KL(P || Q) is least for Q with the mean and variance of P."""
    import fgan
    mean, deviation, _ = fgan.find_best("kl")
    expected = sum(w * m for w, m in zip(fgan.WEIGHTS, fgan.MEANS))
    second = sum(w * (m ** 2 + s ** 2) for w, m, s in zip(fgan.WEIGHTS, fgan.MEANS,
                                                          fgan.DEVIATIONS))
    assert mean == pytest.approx(expected, abs=1e-3)                    # the last grid's step
    assert deviation == pytest.approx(math.sqrt(second - expected ** 2), abs=1e-3)
    for name in fgan.NAMES:             # no other Q nearby is better
        m, s, least = fgan.find_best(name)
        for dm, ds in (0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02):
            assert fgan.integrate_divergence(name, m + dm, s + ds) > least > 0


@pytest.mark.host
def test_the_samples_of_the_example():
    """They have the mean and variance of their density, with little noise."""
    import fgan
    x = fgan.draw(fgan.P, 100_000, Random(0))
    mean = sum(w * m for w, m in zip(fgan.WEIGHTS, fgan.MEANS))
    assert x.shape == (100_000, 1) and x.dtype == np.float32
    # a fifth of the grid's step; the mean of independent numbers has a deviation of 0.005
    assert float(x.mean(dtype=float)) == pytest.approx(mean, abs=1e-3)
    assert (x != fgan.draw(fgan.P, 100_000, Random(1))).mean() > 0.9    # rounding makes some equal
    z = fgan.OnTheLine(nn.Dense(1, 1), nn.Dense(1, 1), 1).latent(100_000, Random(0)).numpy()
    assert z.mean(dtype=float) == pytest.approx(0, abs=1e-3)
    assert z.std(dtype=float) == pytest.approx(1, abs=1e-3)


@pytest.mark.host
def test_the_example_finds_the_best_gaussian():
    """G's mean and deviation, and F, from a run that is a fifth as long as the script's.

    G starts 0.1 and 0.66 away. With seeds 0 to 4 the largest difference at the end was 0.04.
    """
    import fgan
    rng.seed(0)
    found, best = fgan.fit("kl", 400, 400), fgan.find_best("kl")
    np.testing.assert_allclose(found, best, atol=0.06)


@pytest.mark.host
def test_the_example_prints_its_table(tmp_path):
    import fgan
    import tables
    assert {name for name, _ in tables.list_runs("fgan", "runs", [], False)} == {*fgan.NAMES}
    process = run("fgan.py", "--divergence", "kl", "neyman", "--steps", 2, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["kl", "neyman"]
    rows = tables.read_fgan("kl", [], ["\n".join(lines[:3])])
    assert [*rows["kl"]] == ["mean", "best mean", "deviation", "best deviation", "F", "D_f"]
    assert rows["kl"]["best deviation"] == pytest.approx(1.6643)
    other = run("fgan.py", "--divergence", "kl", "--steps", 2, "--seed", 1, cwd=tmp_path)
    again = run("fgan.py", "--divergence", "kl", "--steps", 2, "--seed", 0, cwd=tmp_path)
    assert again.stdout.splitlines() == lines[:3] != other.stdout.splitlines()
    failed = run("fgan.py", "--divergence", "gan", cwd=tmp_path)
    assert failed.returncode == 2 and "invalid choice: 'gan'" in failed.stderr
