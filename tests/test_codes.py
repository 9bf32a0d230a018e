"""Tests of games that infer G's input: InfoGAN, BiGAN, ALI, VEEGAN, their layers and measures."""

import itertools
import json
import math
import types
from statistics import NormalDist

import numpy as np
import pytest

from tinygan import (Tensor, UserError, backend, check_grads, grad, nn, ops, optim, play, rng,
                     schedules)
from tinygan.backend import to_numpy
from tinygan.data import Minibatches, Split, mnist
from tinygan.games import ALI, GAN, VEEGAN, BiGAN, InfoGAN, losses, penalties, views
from tinygan.games.catalogue import GAMES
from tinygan.metrics import (count_pairs, majority_accuracy, nearest_accuracy,
                             one_to_one_accuracy)
from tinygan.networks import digits
from tinygan.nn import use_random
from tinygan.random import Random

from helpers import device, error_of, normal, softplus, tensor
from test_examples import read_refusal, run
from test_image import read_png


# Layers

@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_join_and_skip_concatenate_features(shape):
    x, other = tensor(normal(*shape), "float32"), tensor(normal(4, 2, *shape[2:]), "float32")
    y = nn.Join()(x, other).numpy()
    np.testing.assert_array_equal(y, np.concatenate([x.numpy(), other.numpy()], 1))
    y = nn.Skip(nn.Tanh())(x).numpy()
    np.testing.assert_array_equal(y, np.concatenate([nn.Tanh()(x).numpy(), x.numpy()], 1))


def test_a_sequential_gives_its_second_input_to_join_alone():
    net = nn.Sequential(nn.Dense(3, 4), nn.Join(), nn.Dense(6, 1))
    x, z = tensor(normal(4, 3), "float32"), tensor(normal(4, 2), "float32")
    expected = net.layers[2](nn.Join()(net.layers[0](x), z)).numpy()
    np.testing.assert_array_equal(net(x, z).numpy(), expected)


def test_a_gaussian_sample_has_the_mean_and_deviation_that_it_is_given():
    """For 20,000 samples the standard errors are sigma / 141 and sigma / 200."""
    layer, n = nn.GaussianSample(), 20_000
    x = np.tile(np.float32([1.0, -2.0, math.log(0.5), math.log(3.0)]), (n, 1))
    with use_random(Random(0)):
        y = layer(tensor(x)).numpy()
    np.testing.assert_allclose(y.mean(0), [1.0, -2.0], atol=4 * 3 / 141)
    np.testing.assert_allclose(y.std(0), [0.5, 3.0], rtol=4 / 200)
    assert (layer.eval()(tensor(x)).numpy() == x[:, :2]).all()
    for wrong in ((3, 5), (3, 2, 2, 2), (4,)):
        assert "(m, 2 n), got" in error_of(layer, tensor(normal(*wrong)))


def test_gradients_of_the_layers():
    x = normal(4, 6)
    for layer in (nn.GaussianSample(), nn.Skip(nn.Sequential(nn.Dense(6, 2), nn.Tanh()))):
        check_grads(layer, x)
    check_grads(nn.Join(), x, normal(4, 2, seed=1))


# Dropout as noise

def test_dropout_that_is_always_on_makes_samples_of_the_noise_z_alone():
    """The same z has the same samples, alone or among others; without dropout they differ."""
    G = nn.Sequential(nn.Dense(5, 30), nn.Dropout(0.5, always=True), nn.Dense(30, 4))
    game = GAN(G, nn.Dense(4, 1), 5)
    z, other = game.latent(40, Random(0)), game.latent(40, Random(1))
    samples = game.sample(z)
    game.sample(other)
    np.testing.assert_array_equal(to_numpy(game.sample(z)), to_numpy(samples))
    for i in (0, 7):        # a product of one row may round differently
        np.testing.assert_allclose(to_numpy(game.sample(Tensor(z.data[i:i + 1])))[0],
                                   to_numpy(samples)[i], rtol=1e-5, atol=1e-6)
    G.layers[1].always = False
    without = to_numpy(game.sample(z))
    assert (to_numpy(samples) != without).mean() > 0.9
    G.layers[1].always = True
    with use_random(Random(3)), nn.eval_mode(G):        # another mask
        assert (G(z).numpy() != to_numpy(samples)).mean() > 0.9


def test_statistics_of_an_average_are_measured_with_dropout_that_is_always_on():
    """They are the same each time, and tinygan's default stream is not drawn from."""
    game = GAN(nn.Sequential(nn.Dense(5, 8, init=nn.constant(0.3)), nn.Dropout(0.5, True),
                             nn.BatchNorm(8)), nn.Dense(8, 1), 5)
    game.keep_average(0.5)
    found, state = [], rng.state
    for _ in range(2):
        game.measure_averages()
        found.append(to_numpy(game.averages["G"].layers[2].running_var).copy())
    np.testing.assert_array_equal(*found)
    assert rng.state == state
    # each unit is kept with probability 1/2 and doubled, which doubles its mean square; the
    # standard error of a variance from 1,000 samples is about 6 %
    assert found[0] == pytest.approx(2 * 5 * 0.3 ** 2, rel=0.25)


# InfoGAN

def make_info(**choices):
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(10, 16), nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 6), nn.Tanh())
    return InfoGAN(G, nn.Heads(trunk, nn.Dense(6, 1), nn.Dense(6, 5)),
                   **{"z_size": 5, "codes": 3, "continuous": 2, **choices})


def test_packs_of_samples_have_no_codes():
    game = InfoGAN(make_info().G, make_info().D, 5, 3, 2, views=[views.Pack(2)])
    game.D.trunk = nn.Sequential(nn.Flatten(), nn.Dense(32, 6), nn.Tanh())
    x = tensor(normal(4, 1, 4, 4), "float32")
    assert "leave views.Pack out" in error_of(game.d_loss, x, game.latent(4, Random(0)))


def test_codes_are_uniform():
    """The discrete part has shares of 1/3, the continuous part mean 0 and variance 1/3."""
    noise, c = make_info().latent(30_000, Random(0))
    assert noise.shape == (30_000, 7) and 0.99 < abs(noise.numpy()).max() <= 1
    np.testing.assert_allclose(np.bincount(to_numpy(c)) / 30_000, 1 / 3, atol=0.012)
    np.testing.assert_allclose((noise.numpy() ** 2).mean(0), 1 / 3, atol=0.01)


@pytest.mark.parametrize("on_g", [True, False])
@pytest.mark.parametrize("lam", [1.0, 0.3])
def test_losses_of_the_infogan(lam, on_g):
    """eq. 6: both losses are the GAN's minus lam L_I; for the control, D's alone.

    L_I is log(3) + E log Q(c|x) of the discrete part, and E log N(c; mean, 1) of the continuous
    part, without its constants.
    """
    game = make_info(lam=lam, on_g=on_g)
    x, z = tensor(normal(4, 1, 4, 4), "float32"), game.latent(4, Random(3))
    (a, _), (b, q) = ([t.numpy() for t in game.D(images)] for images in (x, game.G(*z)))
    p = np.exp(q[:, :3]) / np.exp(q[:, :3]).sum(1, keepdims=True)
    discrete = math.log(3) + np.log(p[np.arange(4), to_numpy(z[1])]).mean()
    square = ((z[0].numpy()[:, 5:] - q[:, 3:]) ** 2).sum(1).mean()
    information = discrete - square / 2
    d_loss = softplus(-a).mean() + softplus(b).mean() - lam * information
    g_loss = softplus(-b).mean() - lam * information * on_g
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, rel=1e-5)
    assert float(game.logged["L_I"]) == pytest.approx(discrete, rel=1e-4)
    assert float(game.logged["code error"]) == pytest.approx(square / 2, rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(g_loss, rel=1e-5)
    assert [t.item() for t in game.losses(x, z)] == pytest.approx([d_loss, g_loss], rel=1e-5)


def test_information_is_that_of_the_code_when_q_knows_it_and_0_when_q_guesses():
    """log(codes) nats for certain and correct logits, 0 for equal ones."""
    game = make_info(continuous=0)
    z = game.latent(50, Random(0))
    certain = Tensor(100.0 * nn.one_hot(z[1], 3).data)
    for logits, expected in ((certain, math.log(3)), (Tensor(0.0 * certain.data), 0.0)):
        information, error = game.measure_code(z, (logits, logits))
        assert information.item() == pytest.approx(expected, abs=1e-6) and error is None


def test_q_and_the_shared_layers_move_with_d():
    """Its gradient reaches the trunk and Q's head by D's loss; G's parameters have none of it."""
    game = make_info()
    x, z = tensor(normal(4, 1, 4, 4), "float32"), game.latent(4, Random(3))
    (*_, head), parameters = game.D.heads, game.d_parameters()
    assert set(head.parameters()) < set(parameters) and not set(parameters) & set(
        game.g_parameters())
    game.lam = 0.0
    without = grad(game.d_loss(x, z), parameters, unused="zeros")
    game.lam = 1.0
    for p, a, b in zip(parameters, grad(game.d_loss(x, z), parameters), without):
        changed = p in set(game.D.trunk.parameters()) | set(head.parameters())
        assert (a.numpy() != b.numpy()).any() == changed


def test_a_d_without_qs_outputs_and_impossible_codes_are_refused():
    x = tensor(normal(4, 1, 4, 4), "float32")
    for D in (nn.Sequential(nn.Flatten(), nn.Dense(16, 1)),
              nn.Heads(nn.Flatten(), nn.Dense(16, 1), nn.Dense(16, 4))):
        game = InfoGAN(make_info().G, D, 5, 3, 2)
        assert "Q's outputs (m, 5)" in error_of(game.d_loss, x, game.latent(4, Random(3)))
    for wrong in (dict(codes=1), dict(codes=2.5), dict(continuous=-1)):
        assert "a discrete part of at least 2 values" in error_of(make_info, **wrong)
    assert "at least 0, got -1" in error_of(make_info, lam=-1)


def test_each_row_of_the_pictures_changes_one_part_of_the_code():
    game = make_info()
    noise, c = game.fixed_inputs(None, 20, Random(0))
    rows, codes = noise.numpy().reshape(-1, 3, 7), to_numpy(c).reshape(-1, 3)
    assert len(rows) == 6           # two for each part: 20 // 3 // 3
    for i, (row, code) in enumerate(zip(rows, codes)):
        part = i // 2
        assert (row[:, :5] == row[0, :5]).all()
        assert code.tolist() == ([0, 1, 2] if part == 0 else [code[0]] * 3)
        for k in (0, 1):
            assert (row[:, 5 + k] == ([-2, 0, 2] if part == 1 + k else row[0, 5 + k])).all()
    assert game.pictures((noise, c))[1] == 3


def test_infer_returns_what_q_says():
    game = make_info()
    x = tensor(normal(4, 1, 4, 4), "float32")
    q = game.D.eval()(x)[1].numpy()
    codes, means = game.infer(x.data)
    assert to_numpy(codes).tolist() == q[:, :3].argmax(1).tolist()
    np.testing.assert_array_equal(to_numpy(means), q[:, 3:])


@pytest.mark.numpy_only("the same learning on every backend")
@pytest.mark.parametrize("on_g", [True, False])
def test_samples_show_the_code_if_g_is_rewarded_for_it(on_g):
    """The information rises to that of a code of two values; the control's stays below it."""
    rng.seed(0)
    generator = np.random.default_rng(0)
    levels = np.where(generator.integers(2, size=400) == 1, 0.8, 0.2)
    images = np.float32(levels[:, None, None, None]
                        + 0.05 * generator.normal(size=(400, 1, 4, 4)))
    G = nn.Sequential(nn.JoinLabels(2), nn.Dense(6, 16), nn.ReLU(), nn.Dense(16, 16),
                      nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU())
    game = InfoGAN(G, nn.Heads(trunk, nn.Dense(16, 1), nn.Dense(16, 2)), 4, 2, 0, on_g=on_g)
    opts = [optim.Adam(p, 3e-3) for p in (game.d_parameters(), game.g_parameters())]
    found = []
    for _ in play(game, Minibatches(images, 32, Random(1)), *opts, 32, Random(2), iterations=500):
        found.append(float(game.logged["L_I"]))
    information = np.mean(found[-50:])          # at most log 2 = 0.69
    # with the seeds 0 to 5 it was 0.64 to 0.68, and 0.13 to 0.40 for the control
    assert information > 0.6 if on_g else information < 0.5


def test_infer_uses_evaluation_mode():
    """So what Q says about an image does not depend on the others."""
    game = make_info()
    game.D.trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 6), nn.BatchNorm(6), nn.Dropout(0.5))
    x = tensor(normal(4, 1, 4, 4), "float32")
    alone = [to_numpy(game.infer(x.data[i:i + 1])[1]) for i in range(4)]
    np.testing.assert_allclose(to_numpy(game.infer(x.data)[1]), np.concatenate(alone), atol=1e-6)
    assert game.D.training


# BiGAN and ALI

def make_pair(kind=BiGAN, **choices):
    name = "ali" if kind is ALI else "bigan"
    return GAMES[name](**choices).eval()


@pytest.mark.parametrize("kind", [BiGAN, ALI])
def test_losses_of_the_bigan(kind):
    """eq. 3: D's loss is that of the pairs; E and G have both terms with the targets exchanged."""
    game = make_pair(kind)
    x, z = tensor(normal(4, 1, 4, 4) ** 2, "float32"), game.latent(4, Random(3))
    a, b = game.D(x, game.encode(x)).numpy(), game.D(game.G(z), z).numpy()
    d_loss = softplus(-a).mean() + softplus(b).mean()
    g_loss = softplus(a).mean() + softplus(-b).mean()
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(g_loss, rel=1e-5)
    assert [t.item() for t in game.losses(x, z)] == pytest.approx([d_loss, g_loss], rel=1e-5)


@pytest.mark.parametrize("kind", [BiGAN, ALI])
def test_the_encoder_is_trained_with_g(kind):
    """E's gradient comes from D's score of (x, E(x)) alone, and G's from that of (G(z), z)."""
    game = make_pair(kind)
    x, z = tensor(normal(4, 1, 4, 4) ** 2, "float32"), game.latent(4, Random(3))
    assert set(game.E.parameters()) <= set(game.g_parameters())
    for network, term in ((game.E, losses.NonSaturating().g_real(game.D(x, game.encode(x)))),
                          (game.G, losses.NonSaturating().g(None, game.D(game.G(z), z)))):
        p = network.parameters()
        for got, expected in zip(grad(game.g_loss(x, z), p), grad(term, p)):
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-7)


def test_codes_of_the_bigan_have_the_range_of_its_noise():
    """U(-1, 1): E(x) = 2 sigmoid(a) - 1. ALI's noise is N(0, 1), and its E draws."""
    game = make_pair()
    x = tensor(50 * normal(50, 1, 4, 4), "float32")
    codes = to_numpy(game.infer(x.data))
    np.testing.assert_allclose(codes, np.tanh(game.E(x).numpy() / 2), atol=1e-6)
    z = game.latent(1000, Random(0)).numpy()
    assert -1 <= z.min() < -0.99 and 0.99 < z.max() <= 1 and abs(codes).max() > 0.99
    ali, x = make_pair(ALI), tensor(normal(50, 1, 4, 4), "float32")
    assert abs(ali.latent(1000, Random(0)).numpy()).max() > 2
    draws = []
    for seed in (0, 1):
        with use_random(Random(seed)):
            draws.append(ali.train().encode(x).numpy())
    assert (draws[0] != draws[1]).all()


@pytest.mark.parametrize("kind", [BiGAN, VEEGAN])
@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Tanh(), ops.sigmoid, ops.tanh])
def test_an_encoder_with_a_range_of_its_own_is_refused(last, kind):
    game = make_pair()
    for end in ([last], [last, nn.Flatten()]):
        with pytest.raises(UserError, match="E ends in a sigmoid or a tanh"):
            kind(game.G, nn.Sequential(*game.E.layers, *end), game.D, 5)


def test_an_encoder_of_ali_that_draws_nothing_is_refused():
    game = make_pair()
    with pytest.raises(UserError, match="end it in nn.Dense"):
        ALI(game.G, game.E, game.D, 5)


@pytest.mark.parametrize("kind", [BiGAN, ALI])
def test_infer_uses_the_average_of_e(kind):
    game = make_pair(kind)
    game.keep_average(0.5)
    x = tensor(normal(4, 1, 4, 4), "float32").data
    before = to_numpy(game.infer(x))
    for p in game.E.parameters():
        p.data += 1.0
    game.touch()            # the average counts as updated
    np.testing.assert_array_equal(to_numpy(game.infer(x)), before)
    for p in game.averages["E"].parameters():
        p.data += 1.0
    assert (to_numpy(game.infer(x)) != before).any()


def test_pictures_of_a_bigan_need_images():
    with pytest.raises(UserError, match="give Run a part of a data set"):
        make_pair().fixed_inputs(None, 16, Random(0))


def test_pictures_of_a_bigan_are_pairs_and_samples():
    game = make_pair()
    split = Split(images=to_numpy(normal(20, 1, 4, 4) ** 2).astype(np.float32).clip(0, 1))
    z = game.fixed_inputs(split, 16, Random(0))
    images, columns = game.pictures(z)
    assert images.shape == (2 * 4 + 8, 1, 4, 4) and columns == 8
    np.testing.assert_array_equal(to_numpy(images)[:8:2], split.images[:4])
    again = game.sample(Tensor(game.infer(device(split.images[:4]))))
    np.testing.assert_array_equal(to_numpy(images)[1:8:2], to_numpy(again))
    np.testing.assert_array_equal(to_numpy(images)[8:], to_numpy(game.sample(z[0])))


@pytest.mark.numpy_only("the same learning on every backend")
def test_the_encoder_learns_to_invert_g():
    """On images of one grey level each, reconstructions are nearer than those of other images.

    Theorem 2: at the optimum E and G are inverses; no loss compares x with G(E(x)). The ratio of
    the distances was 0.28 to 0.42 with the seeds 0 to 4, and is 1 if G(E(x)) does not depend on x.
    """
    rng.seed(0)
    generator = np.random.default_rng(0)
    images = np.float32(generator.uniform(0.1, 0.9, (600, 1, 1, 1))
                        + 0.05 * generator.normal(size=(600, 1, 4, 4)))
    G = nn.Sequential(nn.Dense(2, 32), nn.ReLU(), nn.Dense(32, 16), nn.Reshape(1, 4, 4))
    E = nn.Sequential(nn.Flatten(), nn.Dense(16, 32), nn.LeakyReLU(), nn.Dense(32, 2))
    D = nn.Sequential(nn.Flatten(), nn.Join(), nn.Dense(18, 32), nn.LeakyReLU(),
                      nn.Dense(32, 32), nn.LeakyReLU(), nn.Dense(32, 1))
    game = BiGAN(G, E, D, 2, penalties=[penalties.R1(0.1)])
    opts = [optim.Adam(p, schedules.cosine(3e-3, 0.0, 800))
            for p in (game.d_parameters(), game.g_parameters())]
    for _ in play(game, Minibatches(images, 64, Random(1)), *opts, 64, Random(2), iterations=800):
        pass
    again = game.sample(Tensor(game.infer(images)))
    own, other = (abs(again - x).mean() for x in (images, np.roll(images, 1, 0)))
    assert own < 0.75 * other


def make_both_ranges(kind, z_size, make_D, *make_E):
    """Return two games whose images are the same: in [0, 1], and in [-1, 1].

    tanh(a / 2) = 2 sigmoid(a) - 1, so a G that ends in tanh(a / 2) draws the images of a G that
    ends in sigmoid(a). The other networks of the second game begin with x -> (x + 1) / 2.
    """
    games = []
    for end, begin in (([nn.Sigmoid()], []),
                       ([lambda a: a * 0.5, nn.Tanh()], [lambda x: (x + 1.0) * 0.5])):
        rng.seed(0)
        first = [nn.JoinLabels(3)] if kind is InfoGAN else []
        G = nn.Sequential(*first, nn.Dense(z_size + 3 * len(first), 16, init=nn.normal(1.0)), *end,
                          nn.Reshape(1, 4, 4))
        games.append(kind(G, *[make(begin) for make in (*make_E, make_D)], z_size))
    return games


def make_split(seed, n=40):
    generator = np.random.default_rng(seed)
    return Split(images=np.float32(generator.uniform(size=(n, 1, 4, 4))), labels=np.arange(n) % 3)


@pytest.mark.parametrize("own", [False, True])
def test_a_bigan_whose_g_ends_in_a_tanh_has_the_pictures_and_measures_of_its_twin(own):
    """Data and reconstructions are compared and shown in [0, 1]; E gets them in [-1, 1]."""
    import evaluate
    import sample
    games = make_both_ranges(
        BiGAN, 2, lambda begin: nn.Sequential(nn.Flatten(), nn.Join(), nn.Dense(18, 1)),
        lambda begin: nn.Sequential(*begin, nn.Flatten(), nn.Dense(16, 8, init=nn.normal(1.0)),
                                    nn.BatchNorm(8), nn.LeakyReLU(),
                                    nn.Dense(8, 2, init=nn.normal(1.0))))
    if own:             # a class of its own, whose last activation is seen from its output alone
        games[1].G = Wrapped(games[1].G)
    split, data = make_split(1), types.SimpleNamespace(train=make_split(0))
    x = split.images[:6]
    shown = [(game.pictures(game.fixed_inputs(split, 16, Random(0)))[0],
              sample.draw_encoded(game, x), sample.draw_between(game, x[:3], x[3:], 4))
             for game in games]
    for ours, twins in zip(*shown):
        # float32 numbers that are mapped forth and back
        np.testing.assert_allclose(to_numpy(ours), to_numpy(twins), atol=2e-6)
    ours, twins = (evaluate.measure_encoder(game, data, split, None, 0) for game in games)
    assert ours.keys() == twins.keys() >= {"encoder", "random weights"}
    for row in ours:
        assert ours[row] == pytest.approx(twins[row], rel=1e-5)


class Wrapped(nn.Module):
    """A network in a class that is no Sequential."""

    def __init__(self, network):
        self.network = network

    def forward(self, *inputs):
        return self.network(*inputs)


@pytest.mark.parametrize("own", [False, True])
def test_an_infogan_whose_g_ends_in_a_tanh_has_the_measures_of_its_twin(own):
    import evaluate
    games = make_both_ranges(InfoGAN, 4, lambda begin: nn.Heads(
        nn.Sequential(*begin, nn.Flatten(), nn.Dense(16, 8, init=nn.normal(1.0))),
        nn.Dense(8, 1), nn.Dense(8, 5, init=nn.normal(1.0))))
    if own:
        games[1].G = Wrapped(games[1].G)
    split, tables = make_split(1), []
    for game in games:
        game.codes, game.continuous, game.z_size = 3, 2, 2
        z = game.latent(50, Random(0))
        images = to_numpy(game.sample_images(z))
        tables.append(evaluate.measure_codes(
            game, images, tuple(map(to_numpy, (z[0].data, z[1]))),
            types.SimpleNamespace(train=make_split(0)), split, None, 0))
    ours, twins = tables
    assert ours["code"] == pytest.approx(twins["code"], rel=1e-5)
    assert ours["code"].keys() == {"information", "code error", "majority", "one-to-one"}


# VEEGAN

def test_losses_of_veegan():
    """Algorithm 1: D compares (x, E(x) + sigma eps) with (G(z), z); G and E recover the noise."""
    game = GAMES["veegan"](lam=0.3, sigma=0.6).eval()
    x, z = tensor(normal(4, 1, 4, 4) ** 2, "float32"), game.latent(4, Random(3))
    eps = np.float32(normal(4, 5, seed=2))
    a = game.D(x, game.E(x) + 0.6 * device(eps)).numpy()
    b = game.D(game.G(z), z).numpy()
    error = ((z.numpy() - game.E(game.G(z)).numpy()) ** 2).sum(1).mean()
    expected = [softplus(-a).mean() + softplus(b).mean(), -b.mean() + 0.3 * error]
    with use_random(types.SimpleNamespace(normal=lambda shape: device(eps))):
        assert [game.d_loss(x, z).item(), game.g_loss(x, z).item()] == pytest.approx(
            expected, rel=1e-5)
        assert [t.item() for t in game.losses(x, z)] == pytest.approx(expected, rel=1e-5)
    assert float(game.logged["z error"]) == pytest.approx(error, rel=1e-5)
    assert abs(game.latent(1000, Random(0)).numpy()).max() > 2      # N(0, 1)


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_the_encoder_of_veegan_learns_from_the_noise_alone(lam):
    """E has no gradient from D's scores; G has that of both terms."""
    game = GAMES["veegan"](lam=lam).eval()
    x, z = tensor(normal(4, 1, 4, 4) ** 2, "float32"), game.latent(4, Random(3))
    error = lam * ((z - game.E(game.G(z))) ** 2).sum() / 4
    score = game.D(game.G(z), z).mean()
    for loss in (game.g_loss(x, z), game.losses(x, z)[1]):
        for network, term in ((game.E, error), (game.G, error - score)):
            p = network.parameters()
            for got, expected in zip(grad(loss, p), grad(term, p)):
                np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4,
                                           atol=1e-7)           # float32


@pytest.mark.numpy_only("theory does not depend on the backend")
def test_noise_that_g_does_not_use_cannot_be_recovered():
    """The error of the best E is that of E[z | G(z)]: the variance of what G leaves out.

    G(z) is the first of three noise variables, so the least error is 2. It is a mean over 4096
    draws, with a standard error of 0.03; E is found by least squares.
    """
    game = VEEGAN(nn.Dense(3, 1), nn.Dense(1, 3), nn.Sequential(nn.Join(), nn.Dense(4, 1)), 3)
    game.G.weight.data[...], game.G.bias.data[...] = [[1.0, 0.0, 0.0]], 0.0
    z = game.latent(4096, Random(0))
    fit, *_ = np.linalg.lstsq(np.c_[z.numpy()[:, :1], np.ones(4096)], z.numpy(), rcond=None)
    game.E.weight.data[...], game.E.bias.data[...] = fit[:1].T, fit[1]
    (error,) = game.g_terms(None, z, game.fake(None, z), None)
    assert error.item() == pytest.approx(2.0, abs=0.1)


def test_the_mean_log_ratio_is_a_divergence():
    """For scores log p(x) / q(x), G's loss is KL(q || p); here q = N(1, 1), p = N(0, 4).

    The sample is the quantiles of q, whose error in a mean of a quadratic function is below 1e-3.
    """
    x = 1 + np.array([NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)])
    score = (np.log(1 / 2) - x ** 2 / 8) + (x - 1) ** 2 / 2
    expected = np.log(2) + (1 + 1) / 8 - 1 / 2
    assert losses.ReverseKL().g(None, tensor(score)).item() == pytest.approx(expected, abs=1e-3)


def test_the_encoder_of_veegan_returns_as_many_numbers_as_z():
    """Fewer would be repeated. This D takes any number."""
    D = nn.Sequential(nn.Join(), lambda x: x.sum(1, keepdims=True), nn.Dense(1, 1))
    game = VEEGAN(nn.Dense(3, 2), nn.Dense(2, 1), D, 3)
    with pytest.raises(UserError, match=r"of the shape of z, \(4, 3\), got \(4, 1\)"):
        game.g_loss(tensor(normal(4, 2), "float32"), game.latent(4, Random(0)))
    with pytest.raises(UserError, match=r"of the shape of z, \(4, 3\), got \(4, 1\)"):
        game.d_loss(tensor(normal(4, 2), "float32"), game.latent(4, Random(0)))     # comes first


@pytest.mark.parametrize("name", ["lam", "sigma"])
def test_weights_of_veegan_are_not_negative(name):
    with pytest.raises(UserError, match=f"{name} must be a number of at least 0, got -1"):
        GAMES["veegan"](**{name: -1})


# Measures

def test_accuracies_of_codes():
    """Three codes stand for two classes: 9 of 10 by majority, 7 of 10 with a code per class."""
    codes, labels = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    table = count_pairs(np.array(codes), np.array(labels))
    assert table.tolist() == [[3, 1], [2, 0], [0, 4]]
    assert majority_accuracy(table) == 0.9 and one_to_one_accuracy(table) == 0.7
    assert "at most 16 classes, got 17" in error_of(one_to_one_accuracy, np.ones((2, 17), int))
    for wrong in (([0, -1], [0, 1]), ([0, 1], [0]), ([], [])):
        assert "of at least one whole number of at least 0" in error_of(
            count_pairs, *map(np.array, wrong))


@pytest.mark.parametrize("seed", range(10))
def test_the_best_assignment_is_that_of_all_permutations(seed):
    generator = np.random.default_rng(seed)
    table = generator.integers(0, 20, generator.integers(1, 6, 2)) + 1
    square = np.zeros((5, 5), int)
    square[:table.shape[0], :table.shape[1]] = table
    best = max(sum(square[i, j] for i, j in enumerate(order))
               for order in itertools.permutations(range(5)))
    assert one_to_one_accuracy(table) == best / table.sum()


def test_accuracy_of_the_nearest_neighbour():
    known, labels = np.array([[0.0], [1.0], [2.0]]), np.array([5, 6, 7])
    assert nearest_accuracy(np.array([[0.1], [0.9], [0.4]]), np.array([5, 6, 6]), known,
                            labels) == pytest.approx(2 / 3)


# The scripts

@pytest.mark.host
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 13, 10)])
def test_the_papers_settings(shape):
    """Sizes of the published networks for MNIST: InfoGAN, BiGAN, and AC-GAN's of CIFAR-10."""
    import acgan_mnist
    import bigan_mnist
    import infogan_mnist
    z, labels = Tensor(Random(0).normal((2, 64))), np.array([3, 4])
    G, D, d_opt, g_opt = infogan_mnist.paper(shape)
    x = G(z, labels)
    assert x.shape == (2, *shape) and [y.shape for y in D(x)] == [(2, 1), (2, 12)]
    assert (d_opt.lr, g_opt.lr, g_opt.betas[0]) == (2e-4, 1e-3, 0.5)
    if shape[0] == 1:
        sizes = [p.shape for p in D.parameters() if p.ndim > 1]
        assert sizes == [(64, 1, 4, 4), (128, 64, 4, 4), (1024, 128 * 49), (1, 1024), (128, 1024),
                         (12, 128)]
    game, d_opt, g_opt = bigan_mnist.paper(1000, shape)
    z, pixels = Tensor(Random(0).normal((2, 50))), math.prod(shape)
    x = game.G(z)
    assert x.shape == (2, *shape) and game.D(x, game.encode(x)).shape == (2, 1)
    assert [p.shape for p in game.d_parameters()] == [(1024, pixels), (1024, 1074), (1, 1024)]
    assert len(game.g_parameters()) == 6        # three weights of G and three of E: no biases
    assert [d_opt.lr(t) for t in (0, 500)] == [2e-4, 2e-4]
    assert d_opt.lr(1000) == pytest.approx(2e-6) and g_opt.weight_decay == 5e-5
    G, D, d_opt, g_opt = acgan_mnist.paper(shape, 10)
    x = G(Tensor(Random(0).normal((2, 100))), labels)
    assert x.shape == (2, *shape) and [y.shape for y in D(x)] == [(2, 1), (2, 10)]
    assert [p.shape[0] for p in D.parameters() if p.ndim == 4] == [16, 32, 64, 128, 256, 512]
    layers = [layer for _, layer in D.modules()]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.5] * 6
    assert {layer.slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    for network, slope in ((infogan_mnist.paper(shape)[1], 0.1), (game.D, 0.2), (game.E, 0.2)):
        assert {layer.slope for _, layer in network.modules()
                if isinstance(layer, nn.LeakyReLU)} == {slope}


def test_the_recipes_networks_with_a_code():
    D = digits.trunk((1, 28, 28), code=7)
    x, z = tensor(normal(3, 1, 28, 28), "float32"), tensor(normal(3, 7), "float32")
    assert D(x, z).shape == (3, digits.FEATURES)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with 600 digits and short runs of InfoGAN and BiGAN on them."""
    folder = tmp_path_factory.mktemp("codes")
    part = mnist.load_sample().train.part(slice(600))
    np.savez(folder / "digits.npz", images=part.images, labels=part.labels)
    for script, flags in (("infogan_mnist.py", []), ("bigan_mnist.py", []),
                          ("bigan_mnist.py", ["--ali"])):
        name = script[:4] + "".join(flags)
        process = run(script, "--data", "digits.npz", "--steps", 2, "--batch-size", 16,
                      "--average", 0.5, "--out", name, *flags, cwd=folder)
        assert process.returncode == 0, process.stderr
    return folder


class KnownInfo(nn.Module):
    """A stand-in for an InfoGAN: the mean of a sample is its code, and Q knows it."""

    codes = 3

    def __init__(self):
        self.D = nn.Sequential()

    def scale_images(self, images):
        return images

    def infer(self, x):
        return (x.mean((1, 2, 3)) * 2 + 0.5).astype(int), None

    def measure_code(self, z, images):
        noise, c = z
        right = (self.infer(images.numpy())[0] == c).mean()
        return Tensor(np.float32(right)), ((noise - images.mean()) ** 2).mean()

    def discrete_codes(self, z):
        return z[1]


def make_levels(labels):
    """Return an image of the grey level label / 2 for each label 0, 1 or 2."""
    return np.zeros((len(labels), 1, 28, 28), np.float32) + np.reshape(labels, (-1, 1, 1, 1)) / 2


@pytest.mark.host
def test_measures_of_a_known_code(monkeypatch):
    """All samples show their codes; 3 of 4 test images are of the class of theirs, by majority.

    The classifier of this test sees two classes, so that purity and information differ.
    """
    import evaluate
    labels = np.array([0, 1, 2, 1])
    codes = np.tile([0, 1, 2, 2], 200)      # more than a piece
    z = np.zeros((800, 1), np.float32), codes
    data = types.SimpleNamespace(train=Split(images=make_levels([0, 1, 2, 0])))
    test = Split(images=make_levels([0, 2, 2, 1]), labels=np.array([0, 1, 1, 1]) * labels)
    seen = evaluate.Classified(None, np.eye(3)[codes // 2 + (np.arange(800) < 80)])
    monkeypatch.setattr(evaluate.classifier, "classify", lambda net, images: seen)
    rows = evaluate.measure_codes(KnownInfo(), make_levels(codes), z, data, test, object(), 0)
    assert rows["code"]["information"] == 1
    assert rows["code"]["code error"] == pytest.approx((make_levels(codes).mean()) ** 2, rel=0.1)
    assert rows["code"]["purity"] == 0.9        # the first 80 of 800 look like another class
    # the codes 0, 2, 2, 1 of the labels 0, 1, 2, 1
    assert rows["code"]["majority"] == 0.75 and rows["code"]["one-to-one"] == 0.75
    assert rows["k-means"]["majority"] == 0.75


@pytest.mark.host
def test_measures_of_a_known_encoder(monkeypatch):
    """E adds a known number that G keeps, so that white images look like another class."""
    import evaluate
    rng.seed(0)
    E = nn.Sequential(nn.Flatten(), nn.Dense(784, 784, bias=False), nn.Dense(784, 784))
    for layer in E.layers[1:]:
        layer.weight.data[...] = np.eye(784)
    E.layers[2].bias.data[...] = 0.1
    game = BiGAN(nn.Reshape(1, 28, 28), E, nn.Sequential(nn.Flatten(), nn.Join(),
                                                         nn.Dense(1568, 1)), 784)
    game.encode = lambda x: game.E(x)
    labels = np.arange(600) % 3
    split = Split(images=make_levels(labels), labels=labels)
    data = types.SimpleNamespace(train=split)
    monkeypatch.setattr(evaluate.classifier, "classify", lambda net, images: evaluate.Classified(
        None, np.eye(4)[np.round(images.mean((1, 2, 3)) * 2).astype(int)
                        + (images.mean((1, 2, 3)) > 1.05)]))
    found = evaluate.measure_encoder(game, data, split, object(), 0)
    assert found["encoder"]["same class"] == pytest.approx(2 / 3)
    assert found["encoder"]["distance"] == pytest.approx(28 * 0.1, rel=1e-4)
    # the image before is lighter by 1, -0.5 and -0.5; less 0.1, these are 0.9, -0.6 and -0.6
    other = 28 * (0.9 + 0.6 + 0.6) / 3
    assert found["encoder"]["ratio"] == pytest.approx(2.8 / other, rel=1e-4)
    assert found["encoder"]["1-NN"] == found["encoder"]["features"] == found["pixels"]["1-NN"] == 1
    assert found.keys() == {"encoder", "random weights", "pixels"}
    features = evaluate.cut_features(E)
    assert len(features.layers) == 2 and evaluate.cut_features(nn.Tanh()) is None


def test_penalties_of_pairs_are_of_ds_partial_derivatives():
    """D(x, z) = x + 2z has |dD/d(x, z)|^2 = 5 at (G(z), z), although G(z) = 5z, in both orders."""
    G, E, D = nn.Dense(1, 1), nn.Dense(1, 1), nn.Sequential(nn.Join(), nn.Dense(2, 1))
    for p, value in ((G.weight, 5.0), (E.weight, 3.0), (D.layers[1].weight, [[1.0, 2.0]])):
        p.data[...] = backend.xp.asarray(value)
        p.touch()
    for penalty in (penalties.R1(2.0), penalties.R2(2.0)):
        game = BiGAN(G, E, D, z_size=1, penalties=[penalty], loss=losses.Wasserstein())
        zero = Tensor(backend.xp.zeros((4, 1), "float32"))
        assert game.d_loss(zero, zero).item() == game.losses(zero, zero)[0].item() == 5


@pytest.mark.host
def test_random_weights_are_new_and_batch_norm_is_measured():
    import evaluate
    net = nn.Sequential(nn.Flatten(), nn.Dense(784, 20), nn.BatchNorm(20))
    images = np.float32(Random(0).uniform(0, 1, (500, 1, 28, 28)))
    other = evaluate.randomise(net, images, Random(1))
    assert not any(part.training for _, part in other.modules()) and net.training
    assert (other.layers[1].weight.numpy() != net.layers[1].weight.numpy()).all()
    # N(0, 1/fan_in): 15,680 numbers, whose standard deviation has an error of 0.6 %
    assert other.layers[1].weight.numpy().std() == pytest.approx(784 ** -0.5, rel=0.03)
    y = other(Tensor(images)).numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-3)         # float32 means of 500 numbers
    np.testing.assert_allclose(y.std(0), 1, atol=0.01)


@pytest.mark.host
def test_evaluate_measures_codes(runs):
    process = run("evaluate.py", "info", cwd=runs)
    assert process.returncode == 0, process.stderr
    rows = json.loads((runs / "info" / "evaluation.json").read_text())["measures"]
    assert rows["code"]["information"] <= math.log(10) and rows["code"]["code error"] >= 0
    for row in ("code", "k-means", "random codes"):
        assert rows[row]["one-to-one"] <= rows[row]["majority"] <= 1
    assert rows["k-means"]["majority"] > 0.4            # 60 test images: about 0.6
    assert "k-means" in process.stdout and "purity" in process.stdout


@pytest.mark.host
@pytest.mark.parametrize("name", ["biga", "biga--ali"])
def test_evaluate_measures_an_encoder(runs, name):
    """1-NN of random features is about as good as 1-NN of pixels; two steps reconstruct nothing."""
    process = run("evaluate.py", name, cwd=runs)
    assert process.returncode == 0, process.stderr
    rows = json.loads((runs / name / "evaluation.json").read_text())["measures"]
    assert 0.8 < rows["encoder"]["ratio"] < 1.2 and rows["encoder"]["distance"] > 5
    assert rows["encoder"].keys() == {"distance", "ratio", "same class", "1-NN", "features"}
    assert rows["pixels"]["1-NN"] > 0.7
    assert rows["random weights"]["features"] > 0.6


@pytest.mark.host
def test_sample_draws_a_code_and_encodes_images(runs):
    for code in (7, 7, 2):
        process = run("sample.py", "info", "--code", code, "-n", 4, "--out", f"code{code}",
                      cwd=runs)
        assert process.returncode == 0, process.stderr
    seven, two = (read_png(runs / f"code{code}" / "samples.png") for code in (7, 2))
    assert (seven != two).any()
    for flags, words in ((["info", "--code", 10], "codes from 0 to 9: give one of them by --code"),
                         (["info", "--label", 1], "a game without labels: leave --label out"),
                         (["biga", "--code", 0], "a game without codes: leave --code out")):
        assert words in read_refusal("sample.py", *flags, cwd=runs)
    process = run("sample.py", "biga", "-n", 4, "--out", "pictures", cwd=runs)
    assert process.returncode == 0, process.stderr
    written = {path.stem: read_png(path).shape for path in (runs / "pictures").iterdir()}
    assert written.keys() == {"samples", "linear", "spherical", "pictures", "nearest", "encoded",
                              "between"}
    # 24 triples, four in a row, 6 pixels further apart; 8 pairs of images with ten samples between
    assert written["encoded"] == (2 * (6 * 30 - 2), 2 * (12 * 30 - 2 + 3 * 6))
    assert written["between"] == (2 * (8 * 30 - 2), 2 * (12 * 30 - 2))


@pytest.mark.host
def test_a_code_is_drawn_as_squares():
    import sample
    codes = np.float32([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    images = sample.draw_codes(codes, (1, 9, 9))        # 3x3 squares of 3 pixels
    assert images.shape == (2, 1, 9, 9)
    assert images[0, 0, ::3, ::3].ravel().tolist() == [0, 0.25, 0.5, 0.75, 1, 0, 0, 0, 0]
    assert (images[0, 0, :3, 3:6] == 0.25).all()


@pytest.mark.host
def test_the_initial_weights_of_the_papers_acgan():
    """All are N(0, 0.02^2), as measured within five standard errors."""
    import acgan_mnist
    G, D, _, _ = acgan_mnist.paper((1, 28, 28), 10)
    for w in [p.numpy() for player in (G, D) for p in player.parameters() if p.ndim > 1]:
        assert w.std() == pytest.approx(0.02, rel=5 / math.sqrt(2 * w.size))
