"""Tests of what helps against mode collapse and overfitting: games, penalties, views and layers."""

import math
import re
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, check_grads, grad, nn, ops, optim, rng
from tinygan.backend import to_numpy
from tinygan.data import StackedMinibatches, as_floats, draw_stacked
from tinygan.data.mnist import load_sample
from tinygan.games import (GAN, R3GAN, ConditionalGAN, FeatureMatching, Game, PacGAN,
                           UnrolledGAN, losses, views)
from tinygan.games.penalties import R1, R2
from tinygan.metrics import count_modes, measure_stacked
from tinygan.nn import use_random
from tinygan.random import Random

from helpers import catch_training, error_of, normal, softplus, tensor, to_float64
from test_examples import make_plane_run, read_refusal


def log_sigmoid(t):
    return -softplus(-t)


CLOSE = dict(rtol=1e-5, atol=1e-6)      # float32 sums of few numbers of size 1


# Losses and penalties

def test_r2_is_r1_at_the_samples():
    D = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1))
    real, fake = tensor(normal(5, 3), "float32"), tensor(normal(5, 3, seed=1), "float32")
    got = R2(2.0)(D, real, fake, D(real), D(fake)).item()
    assert got == R1(2.0)(D, fake, real, D(fake), D(real)).item()
    (g,) = grad(D(fake).sum(), [fake])
    assert got == pytest.approx((g.numpy() ** 2).sum(1).mean(), rel=1e-5)
    assert "at least 0, got -1" in error_of(R2, -1)


def test_losses_of_r3gan():
    """The relativistic loss of pairs, and the squared slopes of D at data and at samples."""
    D = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1))
    game = R3GAN(nn.Dense(2, 3), D, 2, gamma=0.6)
    x, z = tensor(normal(5, 3), "float32"), tensor(normal(5, 2, seed=1), "float32")
    fake = Tensor(game.G(z).data)
    a, b = D(x).numpy(), D(fake).numpy()
    slopes = [grad(D(inputs).sum(), [inputs])[0].numpy() for inputs in (x, fake)]
    d_loss = softplus(b - a).mean() + 0.3 * sum((g ** 2).sum(1).mean() for g in slopes)
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(softplus(a - b).mean(), rel=1e-5)


def test_smoothed_labels():
    """D's target for data is t. For densities p and q its optimum is D* = t p / (p + q) (sec. 3.4).

    At the optimum the derivative of the loss with respect to D's logit is 0 at each point.
    """
    t, a, b = 0.7, normal(5, 1), normal(5, 1, seed=1)
    loss = losses.Smoothed(t)
    expected = -(t * log_sigmoid(a) + (1 - t) * log_sigmoid(-a)).mean() - log_sigmoid(-b).mean()
    assert loss.d(tensor(a), tensor(b)).item() == pytest.approx(expected, rel=1e-12)
    assert loss.g(None, tensor(b)).item() == losses.NonSaturating().g(None, tensor(b)).item()
    for p, q in ((0.5, 0.5), (0.9, 0.1), (0.2, 0.8)):
        D = t * p / (p + q)
        logit = tensor([[math.log(D / (1 - D))]])
        of_data, of_samples = (grad(f, [logit])[0].item() for f in (
            loss.d(logit, Tensor(logit.data)), losses.NonSaturating().d(tensor([[0.0]]), logit)))
        assert p * of_data + q * of_samples == pytest.approx(0, abs=1e-12)
    assert losses.Smoothed(1.0).d(tensor(a), tensor(b)).item() == pytest.approx(
        losses.NonSaturating().d(tensor(a), tensor(b)).item(), rel=1e-12)
    for wrong in (0, 1.5):
        assert f"at most 1, got {wrong}" in error_of(losses.Smoothed, wrong)


# Packs

@pytest.mark.parametrize("shape", [(6, 2), (6, 2, 3, 3)])
def test_a_pack_joins_consecutive_samples_as_channels(shape):
    x = normal(*shape)
    y = views.Pack(3)(tensor(x)).numpy()
    assert y.shape == (2, 6, *shape[2:])
    for i in range(2):
        np.testing.assert_array_equal(y[i], np.concatenate(x[3 * i:3 * i + 3]))
    assert "multiple of 4" in error_of(views.Pack(4), tensor(x))
    for wrong in (0, 1.5):
        assert "at least 1, got" in error_of(views.Pack, wrong)


def test_losses_of_pacgan_are_those_of_its_packs():
    """eq. 1: D scores two samples at once; there are half as many scores as samples."""
    D = nn.Sequential(nn.Dense(6, 4), nn.Tanh(), nn.Dense(4, 1))
    game = PacGAN(nn.Dense(2, 3), D, 2, k=2)
    x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
    pairs = [np.stack([np.concatenate([s[i], s[i + 1]]) for i in (0, 2, 4)])
             for s in (x.numpy(), game.G(z).numpy())]
    a, b = (D(tensor(p)).numpy() for p in pairs)
    assert len(a) == 3
    assert game.d_loss(x, z).item() == pytest.approx(
        softplus(-a).mean() + softplus(b).mean(), rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(softplus(-b).mean(), rel=1e-5)


# Random changes of D's input

def test_translations_shift_each_image_by_whole_pixels():
    """Each result is the image, shifted by up to a quarter of its size, in all 5 x 5 ways.

    A quarter of the sides is 2.25 and 1.5 pixels, 2 if rounded.
    """
    view, x, found = views.Translation(0.25), normal(300, 2, 9, 6), set()
    with use_random(Random(0)):
        y = view(tensor(x)).numpy()
    wide = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i in range(300):
        fits = [(a, b) for a in range(5) for b in range(5)
                if (wide[i, :, a:a + 9, b:b + 6] == y[i]).all()]
        assert len(fits) == 1
        found.update(fits)
    assert len(found) == 25


def test_cutouts_are_squares_of_zeros():
    """Its sides are half the image's; its centre is anywhere, and it is cut off at the border.

    For sides of 4 of 8 pixels and 2 of 4 there are 9 x 5 places, in a symmetric distribution.
    """
    view = views.Cutout(0.5)
    with use_random(Random(0)):
        y = view(tensor(np.ones((2000, 1, 8, 4)))).numpy()[:, 0]
    places = set()
    for image in y:
        rows, columns = (np.flatnonzero((image == 0).any(axis)) for axis in (1, 0))
        assert (image == 0).sum() == len(rows) * len(columns)       # a rectangle
        for found, side, n in ((rows, 4, 8), (columns, 2, 4)):
            assert (np.diff(found) == 1).all() and side // 2 <= len(found) <= side
            assert len(found) == side or found[0] == 0 or found[-1] == n - 1
        places.add((rows[0], rows[-1], columns[0], columns[-1]))
    assert len(places) == 9 * 5
    share = (y == 0).mean(0)        # the standard error is 0.011
    np.testing.assert_allclose(share, share[::-1, ::-1], atol=0.05)


@pytest.mark.parametrize("view", [views.Translation(0.5), views.Cutout(0.5)])
def test_random_changes_are_differentiable_and_stop_in_evaluation(view):
    """The gradient of a sum of squares is twice the changed image, changed back."""
    x = tensor(normal(4, 2, 6, 6))
    with use_random(Random(0)):
        y = view(x)
    (g,) = grad((y * y).sum(), [x])
    assert (g.numpy() != 0).mean() == (y.numpy() != 0).mean() < 1
    np.testing.assert_array_equal(np.sort(g.numpy()[g.numpy() != 0]),
                                  np.sort(2 * y.numpy()[y.numpy() != 0]))
    assert view.eval()(x) is x
    view.train()
    kind = type(view)
    for wrong in (-0.1, 1.5):
        assert f"from 0 to 1, got {wrong}" in error_of(kind, wrong)


def test_both_players_see_changed_images():
    """D's losses for data and samples, and G's, depend on the view's random numbers."""
    G = nn.Sequential(nn.Dense(2, 16), nn.Reshape(1, 4, 4))
    game = Game(G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 2, losses.NonSaturating(),
                views=[views.Translation(0.5), views.Cutout(0.25)])
    x, z = tensor(normal(4, 1, 4, 4), "float32"), game.latent(4, Random(0))
    seen = []
    for seed in (0, 0, 1):
        with use_random(Random(seed)):
            seen.append((game.score(x).numpy(), game.score(G(z)).numpy(),
                         game.g_loss(x, z).numpy()))
    for first, again, other in zip(*seen):
        assert (first == again).all() and (first != other).all()


def test_random_changes_leave_what_is_no_image_as_it_is():
    x, z = tensor(normal(4, 1, 4, 4), "float32"), tensor(normal(4, 5), "float32")
    for view in (views.Translation(0.5), views.Cutout(0.5)):
        with use_random(Random(0)):
            images, other = view((x, z))
        assert other is z and (images.numpy() != x.numpy()).any()


# Layers that compare the samples of a minibatch

@pytest.mark.parametrize("m", [5, 2])
def test_minibatch_discrimination_is_its_formula(m):
    layer, x = nn.MinibatchDiscrimination(3, kernels=2, dims=4), normal(m, 3)
    y = layer(tensor(x, "float32")).numpy()
    M = (x @ layer.weight.numpy()).reshape(m, 2, 4)
    for i in range(m):
        for b in range(2):
            expected = sum(math.exp(-abs(M[i, b] - M[j, b]).sum()) for j in range(m) if j != i)
            assert y[i, 3 + b] == pytest.approx(expected / (m - 1), rel=1e-5)
    np.testing.assert_array_equal(y[:, :3], np.float32(x))
    same = layer(tensor(np.ones((m, 3)), "float32")).numpy()
    np.testing.assert_allclose(same[:, 3:], 1.0, rtol=1e-6)
    assert (layer(tensor(x[:1], "float32")).numpy()[:, 3:] == 0).all()      # there is no other


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 2, 2)])
@pytest.mark.parametrize("group", [None, 4, 2])
def test_minibatch_stddev_is_its_formula(shape, group):
    x = normal(*shape)
    y = nn.MinibatchStddev(group, eps=0.0)(tensor(x)).numpy()
    np.testing.assert_array_equal(y[:, :3], x)
    count = 8 // (group or 8)
    for i in range(count):
        feature = y[i::count, 3:]
        assert (feature == feature.flat[0]).all()
        assert feature.flat[0] == pytest.approx(x[i::count].std(0).mean(), rel=1e-12)


def test_minibatch_stddev_refuses_what_it_cannot_divide():
    for wrong in (1, 2.5):
        assert "at least 2 samples, got" in error_of(nn.MinibatchStddev, wrong)
    assert "cannot be divided into groups of 4" in error_of(
        nn.MinibatchStddev(4), tensor(normal(6, 3)))
    assert "no two samples to compare" in error_of(nn.MinibatchStddev(), tensor(normal(1, 3)))


def test_gradients_of_the_layers_to_second_order():
    for layer in (nn.MinibatchDiscrimination(3, 2, 2), nn.MinibatchStddev(2)):
        check_grads(layer, normal(4, 3), order=2)


def test_terms_of_a_subclass_are_added():
    """Also in the games that define g_loss themselves."""
    def g_terms(game, x, z, fake, out_fake):
        return [Tensor(backend.xp.asarray(100.0, dtype="float32"))]
    for game in (make_matching(), make_unrolled(k=1)):
        x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
        without = game.g_loss(x, z).item()
        game.g_terms = g_terms.__get__(game)
        assert game.g_loss(x, z).item() == pytest.approx(100 + without, rel=1e-6)


# Feature matching

def make_matching():
    trunk = nn.Sequential(nn.Dense(3, 4), nn.Tanh())
    return FeatureMatching(nn.Dense(2, 3), nn.Heads(trunk, nn.Dense(4, 1), nn.Sequential()), 2)


def test_losses_of_feature_matching():
    """G's loss is |E f(x) - E f(G(z))|^2, D's that of the GAN."""
    game = make_matching()
    x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
    (a, f), (b, h) = ([t.numpy() for t in game.D(inputs)] for inputs in (x, game.G(z)))
    assert game.d_loss(x, z).item() == pytest.approx(
        softplus(-a).mean() + softplus(b).mean(), rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(
        ((f.mean(0) - h.mean(0)) ** 2).sum(), rel=1e-5)
    plain = FeatureMatching(game.G, nn.Dense(3, 1), 2)
    assert "D must return (logits, features)" in error_of(plain.g_loss, x, z)


# Unrolling

def make_unrolled(**choices):
    D = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1))
    return UnrolledGAN(nn.Sequential(nn.Dense(2, 3), nn.Tanh()), D, 2, **choices)


def play_ahead(game, x, z):
    """Return V(G, D_k(G)): take k steps of SGD with D's own parameters, and put them back."""
    start = [p.data.copy() for p in game.D.parameters()]
    opt = optim.SGD(game.D.parameters(), game.eta)
    for _ in range(game.k):
        opt.step(grad(GAN(game.G, game.D, 2, loss=losses.Saturating()).d_loss(x, z),
                      opt.parameters))
    value = -losses.Saturating().d(game.D(x), game.D(game.G(z))).item()
    for p, before in zip(game.D.parameters(), start):
        p.data[...] = before
        p.touch()
    return value


@pytest.mark.parametrize("k", [0, 1, 4])
def test_the_loss_of_an_unrolled_gan_is_that_of_d_after_k_steps(k):
    """D's own parameters are as before."""
    game = to_float64(make_unrolled(k=k, eta=0.5))
    x, z = tensor(normal(6, 3)), tensor(normal(6, 2, seed=1))
    before = [p.numpy().copy() for p in game.D.parameters()]
    assert game.g_loss(x, z).item() == pytest.approx(play_ahead(game, x, z), rel=1e-12)
    for p, then in zip(game.D.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), then)


@pytest.mark.parametrize("loss", [losses.LeastSquares(), losses.NonSaturating(), losses.Hinge(),
                                  losses.RelativisticAverage()])
def test_without_unrolled_steps_g_has_the_gradient_of_the_plain_game(loss):
    """A loss that is no zero-sum game has a loss of its own for G, which raises the scores."""
    rng.seed(0)
    game = to_float64(make_unrolled(k=0, loss=loss))
    x, z = tensor(normal(6, 3)), tensor(normal(6, 2, seed=1))
    plain = GAN(game.G, game.D, 2, loss=loss)
    parameters = game.G.parameters()
    for g, expected in zip(*(grad(each.g_loss(x, z), parameters) for each in (game, plain)),
                           strict=True):
        np.testing.assert_allclose(g.numpy(), expected.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_of_an_unrolled_gan_passes_through_ds_steps(k):
    """It is the derivative of V(G, D_k(G)) by finite differences, unlike that for a constant D_k.

    The differences have an error of about 1e-16 / 1e-6 by rounding and 1e-12 by curvature.
    """
    rng.seed(0)
    game = to_float64(make_unrolled(k=k, eta=2.0))
    x, z = tensor(normal(6, 3)), tensor(normal(6, 2, seed=1))
    weight = game.G.layers[0].weight
    (g,) = grad(game.g_loss(x, z), [weight])
    theta = game.unroll(x, game.fake(x, z))
    with nn.substitute(game, {p: Tensor(t.data) for p, t in theta.items()}):
        (constant,) = grad(-losses.Saturating().d(game.D(x), game.D(game.G(z))), [weight])
    assert abs(g.numpy() - constant.numpy()).max() > 1e-3
    for index in np.ndindex(*weight.shape):
        values = []
        for step in (1e-6, -1e-6):
            weight.data[index] += step
            weight.touch()
            values.append(play_ahead(game, x, z))
            weight.data[index] -= step
        assert g.numpy()[index] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-8)


def test_unrolled_steps_leave_d_and_the_log_as_they_are():
    """Also the running means of batch normalisation and the vectors of spectral normalisation."""
    D = nn.Sequential(nn.spectral_norm(nn.Dense(3, 4)), nn.BatchNorm(4), nn.Tanh(), nn.Dense(4, 1))
    game = UnrolledGAN(nn.Dense(2, 3), D, 2, k=3, eta=2.0)
    x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
    game.d_loss(x, z)
    before, logged = D.state_dict(), {name: float(a) for name, a in game.logged.items()}
    game.g_loss(x, z)
    assert {name: float(a) for name, a in game.logged.items()} == logged
    for name, array in D.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_unrolled_steps_leave_an_array_that_forward_replaces_as_it_was():
    """A running mean that is a new array at each call, and not written to in place."""
    class Centred(nn.Module):
        def __init__(self):
            self.mean = backend.xp.zeros(3, "float32")

        def forward(self, x):
            self.mean = 0.5 * self.mean + 0.5 * x.data.mean(0)
            return x - self.mean
    x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
    game = UnrolledGAN(nn.Dense(2, 3), nn.Sequential(Centred(), nn.Dense(3, 1)), 2, k=3)
    mean = game.D.layers[0].mean
    game.g_loss(x, z)
    assert game.D.layers[0].mean is mean and not to_numpy(mean).any()


def test_an_error_in_an_unrolled_step_leaves_ds_buffers_as_they_were():
    D = nn.Sequential(nn.BatchNorm(3), nn.Dense(3, 1))
    game = UnrolledGAN(nn.Dense(2, 3), D, 2, k=3)
    before = D.state_dict()
    game.score = lambda inputs: GAN.score(game, inputs) * None      # fails after the first score
    with pytest.raises(TypeError):
        game.g_loss(tensor(normal(4, 3), "float32"), tensor(normal(4, 2), "float32"))
    after = D.state_dict()
    assert all((after[name] == before[name]).all() for name in before)


def test_unrolled_steps_include_the_penalties():
    game = make_unrolled(k=2, eta=0.5, penalties=[R1(5.0)])
    x, z = tensor(normal(6, 3), "float32"), tensor(normal(6, 2, seed=1), "float32")
    with_penalty = game.g_loss(x, z).item()
    game.penalties = []
    assert abs(game.g_loss(x, z).item() - with_penalty) > 1e-3


def test_penalties_of_unrolled_steps_are_of_ds_own_gradient():
    """D(x) = w x descends w G(z) - w x + w^2 / 2, with R1, from w = 1 at x = 2 and G(z) = 1.

    theta_1 depends on x too, but |dD/dx|^2 is w^2 in the second step as well. G minimises the loss
    of the scores alone.
    """
    G, D = nn.Dense(1, 1), nn.Dense(1, 1)
    for p, value in ((G.weight, 0.0), (G.bias, 1.0), (D.weight, 1.0), (D.bias, 0.0)):
        p.data[...] = value
        p.touch()
    game = UnrolledGAN(G, D, z_size=1, k=2, eta=0.1, loss=losses.Wasserstein(),
                       penalties=[R1(1.0)])
    w = 1.0
    for _ in range(2):
        w -= 0.1 * (1 - 2 + w)
    found = game.g_loss(tensor([[2.0]], "float32"), tensor([[0.0]], "float32"))
    assert found.item() == pytest.approx(2 * w - w, rel=1e-5)       # float32


def test_only_grey_images_are_stacked():
    images = np.full((5, 3, 4, 4), 9, np.uint8)
    for make in (lambda: StackedMinibatches(images, 2), lambda: draw_stacked(images, 2),
                 lambda: StackedMinibatches(images[:, 0], 2),
                 lambda: draw_stacked(images[:0, :1], 2)):
        assert "grey images" in error_of(make)
    assert draw_stacked(images[:, :1].tolist(), 2).shape == (2, 3, 4, 4)


def test_noise_and_steps_of_the_cures_are_the_papers():
    """Noise is normal in PacGAN and the unrolled GAN; eta = 0.1 diverges on the ring."""
    z = [make_unrolled().latent(1000, Random(0)),
         PacGAN(nn.Dense(2, 3), nn.Dense(6, 1), 2).latent(1000, Random(0))]
    assert all(abs(t.numpy()).max() > 3 for t in z)
    assert (make_unrolled().k, make_unrolled().eta) == (5, 0.01)


def test_unrolled_settings_are_checked():
    for wrong in (dict(k=-1), dict(k=1.5), dict(eta=0), dict(eta=math.inf)):
        assert "a whole number k of steps" in error_of(make_unrolled, **wrong)


def test_substitute_replaces_parameters_inside_the_context_alone():
    """The output has derivatives with respect to what the replacements were computed from."""
    net, x = nn.Sequential(nn.Dense(3, 2), nn.Tanh()), tensor(normal(4, 3), "float32")
    weight = net.layers[0].weight
    before, double = net(x).numpy(), 2 * weight
    with nn.substitute(net, {weight: double}):
        y = net(x)
        assert net.layers[0].weight is double
    assert net.layers[0].weight is weight and (net(x).numpy() == before).all()
    assert (y.numpy() != before).all()
    (g,) = grad(y.sum(), [weight])
    (h,) = grad(ops.tanh(x @ (2 * weight).T + net.layers[0].bias).sum(), [weight])
    np.testing.assert_allclose(g.numpy(), h.numpy(), **CLOSE)
    with pytest.raises(ZeroDivisionError), nn.substitute(net, {weight: double}):
        1 / 0
    assert net.layers[0].weight is weight
    for key, value, words in ((x, x, "are no parameters of the Sequential"),
                              (weight, x, "cannot be replaced by a Tensor of shape (4, 3)")):
        with pytest.raises(ValueError, match=re.escape(words)), nn.substitute(net, {key: value}):
            pass


# Choices of a user beside those of a game

def test_a_game_keeps_the_penalties_and_views_that_it_is_given():
    """PacGAN's other views change each sample before the packs are made."""
    G, D = nn.Dense(2, 3), nn.Dense(3, 1)
    assert R3GAN(G, D, 2, 1.0, penalties=[R1(7.0)]).penalties == [R1(1.0), R2(1.0), R1(7.0)]
    noise = views.InstanceNoise(0.1)
    first, pack = PacGAN(G, nn.Dense(6, 1), 2, views=[noise]).views
    assert first is noise and pack.k == 2


def test_packs_of_labelled_samples_are_refused():
    game = ConditionalGAN(nn.Dense(2, 3), nn.Dense(3, 1), 2, 3, views=[views.Pack(2)])
    labels = backend.xp.asarray(np.array([0, 1, 2, 0]))
    assert "samples with labels cannot be joined" in error_of(
        game.score, (tensor(normal(4, 3), "float32"), labels))
    assert "got the shape (4,)" in error_of(views.Pack(2), tensor(normal(4)))


# Stacked MNIST

def test_stacked_minibatches_have_three_different_orders():
    """Each channel is an epoch of the images in an order of its own; the state restores it."""
    images = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1) / 12
    stream = StackedMinibatches(images, 4, Random(0))
    batches = [to_numpy(next(stream)) for _ in range(3)]
    assert all(batch.shape == (4, 3, 1, 1) for batch in batches)
    channels = np.concatenate(batches)[:, :, 0, 0].T
    for channel in channels:
        np.testing.assert_array_equal(np.sort(channel), images.ravel())
    assert len({tuple(channel) for channel in channels}) == 3
    first = StackedMinibatches(images, 4)
    next(first)
    state, at = first.state, rng.state
    expected = to_numpy(next(first))
    other = StackedMinibatches(images, 4)
    other.state, rng.state = state, at
    np.testing.assert_array_equal(to_numpy(next(other)), expected)


def test_drawn_stacked_images_are_triples_of_images():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    drawn = draw_stacked(images, 4000, Random(0))
    assert drawn.shape == (4000, 3, 1, 1) and drawn.dtype == np.uint8
    counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)[1]
    assert len(counts) == 125 and abs(counts - 32).max() < 6 * 32 ** 0.5


def test_the_floor_of_the_kl_is_that_of_the_protocol():
    """25,600 uniform triples have a KL of about 999 / 51,200 = 0.0195, standard error 0.001."""
    found = np.random.default_rng(0).integers(1000, size=25_600)
    modes, kl = count_modes(found, 1000)
    assert modes == 1000 and kl == pytest.approx(999 / 51_200, abs=0.003)
    assert count_modes(np.zeros(50, int), 1000) == (1, pytest.approx(math.log(1000)))
    assert count_modes(np.zeros(0, int), 1000) == (0, math.inf)


@pytest.mark.host
def test_stacked_digits_are_counted_by_channel():
    """A classifier that reads the mean of a channel names each of its digits.

    It is sure of a one, and gives a zero the probability 1/2.
    """
    def read(x):
        digit = np.round(x.numpy().mean((1, 2, 3)) * 10).astype(int)
        logit = np.where(digit == 1, 30, math.log(9))[:, None]
        return Tensor(np.float32(np.eye(10)[digit] * logit))

    net = nn.Sequential(lambda x: x, nn.ReLU(), read)
    triples = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    images = np.zeros((5, 3, 28, 28), np.float32) + triples[:, :, None, None] / 10
    found = measure_stacked(net, images)
    assert found.modes == 4 and found.confidence == pytest.approx((4 + 11 / 2) / 15, abs=1e-6)
    p = np.array([0.4, 0.2, 0.2, 0.2])
    assert found.kl == pytest.approx((p * np.log(1000 * p)).sum())
    assert str(found) == f"modes 4  KL {found.kl:.4f}  confidence 0.633"
    assert count_modes(np.array([0, 1, 1], np.uint64), 4)[0] == 2
    assert count_modes(np.zeros(0), 4) == (0, math.inf)
    nines = measure_stacked(net, np.full((1, 3, 28, 28), np.float32(0.9)))     # the last mode
    assert nines.modes == 1 and nines.kl == pytest.approx(math.log(1000))


@pytest.mark.host
@pytest.mark.parametrize("game", ["gan", "pacgan", "minibatch", "r1", "r3gan"])
@pytest.mark.parametrize("crippled", [True, False])
def test_networks_for_stacked_digits(game, crippled):
    """The small D has 4, 8 and 16 channels; games with penalties have no batch normalisation."""
    import stacked_mnist
    G, D = (stacked_mnist.make_crippled(game) if crippled else stacked_mnist.make_full(game, 1))
    made = stacked_mnist.make_game(game, G, D, 0.5)
    x = G(made.latent(8, Random(0)))
    assert x.shape == (8, 3, 28, 28)
    assert made.score(x).shape == (4 if game == "pacgan" else 8, 1)
    norms = [layer for _, layer in D.modules() if isinstance(layer, nn.BatchNorm)]
    assert bool(norms) == (game not in ("r1", "r3gan")) and len(made.penalties) == {
        "r1": 1, "r3gan": 2}.get(game, 0)
    if crippled:
        assert [p.shape[0] for p in D.parameters() if p.ndim == 4] == [4, 8, 16]


@pytest.mark.parametrize("name, batch_norm, gammas", [
    ("gan", True, []), ("pacgan", True, []), ("minibatch", True, []), ("r1", False, [0.5]),
    ("r3gan", False, [0.5, 0.5])])
def test_the_settings_of_the_small_d(name, batch_norm, gammas, monkeypatch):
    import stacked_mnist
    measured = []
    monkeypatch.setattr(stacked_mnist, "measure_stacked", lambda net, x: measured.append(x))
    call = catch_training("stacked_mnist", "--crippled", "--game", name, "--samples", 6,
                          "--seed", 5, data=load_sample())
    game = call.game
    assert [x.shape for x in measured] == [(6, 3, 28, 28)] * 2
    # another seed, other real triples
    assert (measured[1] == as_floats(draw_stacked(load_sample().train.images, 6, Random(5)))).all()
    assert stacked_mnist.SAMPLES == 25_600
    assert call.args.steps == 4000 and next(call.batches).shape == (64, 3, 28, 28)
    for opt in (call.d_opt, call.g_opt):
        assert (type(opt), opt.lr, opt.betas) == (optim.Adam, 2e-3, (0.0, 0.99))
    assert [penalty.gamma for penalty in game.penalties] == gammas
    assert isinstance(game.loss, losses.Relativistic if name == "r3gan" else losses.NonSaturating)
    assert [view.k for view in game.views] == ([2] if name == "pacgan" else [])
    z = game.latent(1000, Random(0)).numpy()
    assert z.shape == (1000, 256) and (abs(z).max() > 3) == (name != "r1")      # normal
    kinds = [type(layer) for layer in game.D.layers]
    block = [nn.Conv2d, *([nn.BatchNorm] if batch_norm else []), nn.LeakyReLU]
    assert kinds == [*block * 3, nn.Flatten, *(
        [nn.MinibatchDiscrimination] if name == "minibatch" else []), nn.Dense]
    assert {layer.slope for layer in game.D.layers if type(layer) is nn.LeakyReLU} == {0.3}


def test_gamma_and_lr_of_stacked_digits(monkeypatch):
    import stacked_mnist
    monkeypatch.setattr(stacked_mnist, "measure_stacked", lambda net, x: None)
    call = catch_training("stacked_mnist", "--gamma", 3, "--lr", 0.1, "--width", 2, "--samples", 2,
                          data=load_sample())
    assert [penalty.gamma for penalty in call.game.penalties] == [3.0]
    assert (call.d_opt.lr, call.g_opt.lr) == (0.1, 0.1)
    assert call.game.D.layers[0].c_out == 32


@pytest.mark.parametrize("flags, kinds", [([], []), (["--augment"], [
    views.Translation, views.Cutout])])
def test_few_trains_on_few_images(flags, kinds):
    """Held-out images are validation images; samples are compared with test images."""
    import few_mnist
    data = load_sample()
    call = catch_training("few_mnist", *flags, data=data)
    assert [type(view) for view in call.game.views] == kinds
    assert (call.d_opt.lr, call.g_opt.lr) == (1e-3, 1e-3)
    seen, held_out, test = call.make_run.args
    assert call.make_run.func is few_mnist.FewRun and len(seen) == len(held_out) == 1000
    assert (seen == data.train.images[:1000]).all()
    assert (held_out == data.valid.images).all() and (test == data.test.images).all()
    drawn = np.concatenate([to_numpy(next(call.batches)) for _ in range(15)])        # an epoch
    drawn = (255 * drawn).round().astype(np.uint8)
    assert {image.tobytes() for image in drawn} <= {image.tobytes() for image in seen}


def test_few_scores_images_in_evaluation_mode():
    import few_mnist
    D = nn.Sequential(nn.Flatten(), nn.Dense(4, 1), nn.BatchNorm(1), nn.Dropout(0.5))
    run = types.SimpleNamespace(game=GAN(nn.Dense(2, 4), D, 2))
    x = np.random.default_rng(0).integers(256, size=(50, 1, 2, 2), dtype=np.uint8)
    layer, norm = D.layers[1:3]
    logits = (x.reshape(50, 4) / 255) @ layer.weight.numpy().T + layer.bias.numpy()
    expected = (1 / (1 + np.exp(-logits / (1 + norm.eps) ** 0.5))).mean()
    for _ in range(2):      # running means stay as they are
        assert few_mnist.FewRun.score(run, x) == pytest.approx(expected, rel=1e-5)


def test_settings_of_the_cures_on_mixtures(tmp_path):
    """An unrolled step costs as much as one of D's own. Some games have other learning rates."""
    runs = {name: make_plane_run(tmp_path / name, name, steps=600, lr=0.1)
            for name in ("gan", "minibatch", "pacgan", "unrolled", "r1", "r3gan")}
    assert {name: run.steps for name, run in runs.items()} == {
        name: 100 if name == "unrolled" else 600 for name in runs}
    for name, run in runs.items():
        factors = {"r1": (2, 2), "r3gan": (3, 3), "unrolled": (0.1, 1)}.get(name, (1, 1))
        for opt, factor in zip(run.optimisers.values(), factors):
            assert opt.lr(0) == pytest.approx(0.1 * factor)
    game = runs["unrolled"].game
    assert (game.k, game.eta) == (5, 0.01)
    has_layer = [name for name, run in runs.items() if any(
        isinstance(layer, nn.MinibatchDiscrimination) for _, layer in run.game.D.modules())]
    assert has_layer == ["minibatch"]


@pytest.mark.host
@pytest.mark.parametrize("script", ["stacked_mnist.py", "few_mnist.py"])
def test_the_laboratories_refuse_other_images(script, tmp_path):
    np.save(tmp_path / "images.npy", np.full((100, 16, 16), 255, np.uint8))
    assert "grey images of 28x28 pixels" in read_refusal(script, "--data", "images.npy",
                                                         cwd=tmp_path)


@pytest.mark.host
def test_few_refuses_data_without_test_images(tmp_path):
    for n, found in ((9, "0 validation and 0"), (15, "1 validation and 1")):
        np.save(tmp_path / "images.npy", np.full((n, 28, 28), 255, np.uint8))
        line = read_refusal("few_mnist.py", "--images", 2, "--data", "images.npy", cwd=tmp_path)
        assert f"{found} test images, too few" in line


@pytest.mark.host
def test_few_refuses_more_images_than_there_are(tmp_path):
    np.save(tmp_path / "images.npy", np.full((100, 28, 28), 255, np.uint8))
    line = read_refusal("few_mnist.py", "--data", "images.npy", cwd=tmp_path)
    assert "there are 80 training images" in line and "--images" in line


def test_samples_in_pieces():
    """They are those of one draw after the other; the last piece may be smaller."""
    game = GAN(nn.Dense(2, 3), nn.Dense(3, 1), 2)
    rng = Random(3)
    pieces = [backend.to_numpy(game.sample(game.latent(m, rng))) for m in (4, 4, 2)]
    assert (game.draw_samples(10, Random(3), 4) == np.concatenate(pieces)).all()


def test_a_pack_of_one_sample_is_the_sample():
    x = tensor(normal(4, 3))
    assert (views.Pack(1)(x).numpy() == x.numpy()).all()


def test_the_largest_translation_and_cutout_are_those_of_the_image():
    x = tensor(abs(normal(64, 1, 4, 4)) + 1, "float32")
    moved, cut = views.Translation(1.0)(x).numpy(), views.Cutout(1.0)(x).numpy()
    for y in (moved, cut):
        assert ((y == 0).any((1, 2, 3)).mean() > 0.5) and (y != 0).any()


class MatchingSizes(FeatureMatching):
    """Feature matching whose G also matches the mean of the data."""

    def g_terms(self, x, z, fake, out_fake):
        return [((x.mean(0) - fake.mean(0)) ** 2).sum()]


def test_feature_matching_adds_the_terms_of_a_subclass():
    D = nn.Heads(nn.Sequential(nn.Dense(3, 4)), nn.Dense(4, 1), nn.Sequential())
    G, x, z = nn.Dense(2, 3), tensor(normal(5, 3), "float32"), tensor(normal(5, 2), "float32")
    more, plain = (game(G, D, 2).g_loss(x, z).item() for game in (MatchingSizes, FeatureMatching))
    difference = ((x.mean(0) - G(z).mean(0)) ** 2).sum().item()
    assert more - plain == pytest.approx(difference, rel=1e-4)
