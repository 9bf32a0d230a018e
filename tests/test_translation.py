"""Tests of games from image to image: resampling, layers, networks, tasks, measures."""

import importlib
import itertools
import json
import math

import numpy as np
import pytest

from tinygan import (Tensor, UserError, backend, check_grads, command, data, grad, load, nn, ops,
                     optim, play, resampling, rng)
from tinygan.backend import to_numpy
from tinygan.data import Split, tasks
from tinygan.games import CycleGAN, GauGAN, Pix2Pix, StarGAN, losses, penalties, views
from tinygan.games.catalogue import GAMES
from tinygan.games.translation import join_pictures
from tinygan.loop import make_source
from tinygan.metrics import mean_difference, mean_iou, overlap, predict, train_classifier
from tinygan.metrics.translation import grey_share
from tinygan.networks import dcgan, patch, resnet, spade, unet
from tinygan.networks import digits as digits_networks
from tinygan.nn.init import skip_init
from tinygan.random import Random
from tinygan.schedules import value_at

from helpers import Ending, catch_training, error_of, normal, tensor, to_float64
from test_examples import last_line_of_refusal, read_refusal, run, run_all

CLOSE = dict(rtol=1e-5, atol=1e-6)      # float32 sums of few numbers of size 1
ROUNDING = dict(rtol=0, atol=1e-12)     # float64 sums of a hundred numbers of size 1


def images(*shape, seed=0):
    """Return random float32 images in [0, 1]."""
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


# Resampling

@pytest.mark.parametrize("resampled, expected", [
    (lambda x: resampling.reflection_pad(x, 2),
     lambda x: np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)], "reflect")),
    (lambda x: resampling.resample(x, resampling.reflect(4, 1, 3), resampling.reflect(5, 0, 2)),
     lambda x: np.pad(x, [(0, 0), (0, 0), (1, 3), (0, 2)], "reflect")),
    (lambda x: resampling.resample(x, resampling.select(backend.xp.arange(1, 3), 4),
                                   resampling.select(backend.xp.arange(5)[::-1], 5)),
     lambda x: x[:, :, 1:3, ::-1]),                                     # a crop and a mirror image
    (lambda x: resampling.resample(x, resampling.select(backend.xp.arange(-1, 6), 4),
                                   resampling.select(backend.xp.arange(5), 5)),
     lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 0)])),            # zeros
    (lambda x: resampling.resize(x, (2, 10)), lambda x: x[:, :, ::2].repeat(2, 3)),
    (lambda x: resampling.resize(x, (4, 5), resampling.bilinear), lambda x: x),
    (lambda x: resampling.avg_pool(x, 2, 1), lambda x: (
        x[:, :, 1:, 1:] + x[:, :, 1:, :-1] + x[:, :, :-1, 1:] + x[:, :, :-1, :-1]) / 4),
], ids=["reflect", "reflect unevenly", "crop and flip", "zeros", "nearest", "same size", "pool"])
def test_resampling_equals_indexing(resampled, expected):
    x = normal(2, 3, 4, 5)
    np.testing.assert_allclose(resampled(tensor(x)).numpy(), expected(x), **ROUNDING)


def test_means_at_the_border_are_those_of_the_pixels_inside():
    """The first window of 3 pixels begins one pixel outside; the mean of a constant is itself."""
    x = tensor(np.arange(1.0, 7).reshape(1, 1, 1, 6).repeat(6, 2))
    means = resampling.avg_pool(x, 3, 2, 1).numpy()[0, 0]
    np.testing.assert_allclose(means, [[1.5, 3, 5]] * 3, **ROUNDING)


def test_a_resampling_and_its_transpose_are_adjoint():
    """<A x B^T, y> = <x, A^T y B>."""
    rows, columns = (backend.xp.asarray(normal(*shape)) for shape in ((7, 4), (3, 5)))
    x, y = tensor(normal(2, 3, 4, 5)), tensor(normal(2, 3, 7, 3, seed=1))
    left = (resampling.resample(x, rows, columns) * y).sum().item()
    right = (x * resampling.resample(y, rows.T, columns.T)).sum().item()
    assert left == pytest.approx(right, abs=1e-10)          # 126 terms of size 10


def test_interpolation_keeps_straight_lines_inside_the_border():
    y = resampling.resize(tensor(np.arange(6.0).reshape(1, 1, 1, 6)), (1, 18), resampling.bilinear)
    np.testing.assert_allclose(np.diff(y.numpy()[0, 0, 0, 1:-1]), 1 / 3, **ROUNDING)


@pytest.mark.parametrize("call, words", [
    (lambda x: resampling.reflection_pad(x, 4), "from 0 to 3"),
    (lambda x: resampling.resize(x, (0, 2)), "at least 1"),
    (lambda x: resampling.avg_pool(x, 3, 0), "stride 0"),
    (lambda x: resampling.avg_pool(x, 3, 1, 2), "at most half"),
    (lambda x: resampling.resample(x, x.data[0, 0], x.data[0, 0]), "5, 5), got"),
    (lambda x: resampling.resize(x[0], (2, 2)), "(N, C, H, W)")])
def test_resampling_refuses(call, words):
    assert words in error_of(call, tensor(normal(1, 1, 4, 5)))


# Layers

@pytest.mark.parametrize("layer, least", [(nn.ReflectionPad2d, 0), (nn.Upsample, 1)])
def test_sizes_of_layers_are_whole_numbers(layer, least):
    layer(least)
    for size in (least - 1, 1.5, "2", (1, 1), None):
        assert f"a whole number of at least {least}" in error_of(layer, size)


def test_instance_norm_does_not_depend_on_other_images_or_the_mode():
    layer, x = nn.InstanceNorm2d(3), tensor(normal(4, 3, 5, 6), "float32")
    y = layer(x).numpy()
    assert (layer.eval()(x).numpy() == y).all()
    # a GPU may add up the sums of another number of images in another order: a dozen roundings
    np.testing.assert_allclose(layer(x[1:2]).numpy(), y[1:2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.mean((2, 3)), 0, **CLOSE)
    np.testing.assert_allclose(y.std((2, 3)), 1, rtol=1e-4)     # eps is 1e-5, the variances near 1


def test_instance_norm_computes_its_equation():
    x, w, b = normal(3, 2, 4, 5), normal(2, seed=1), normal(2, seed=2)
    layer = to_float64(nn.InstanceNorm2d(2, eps=0.1, affine=True))
    assert (layer.weight.numpy() == 1).all() and (layer.bias.numpy() == 0).all()
    layer.weight.data, layer.bias.data = (backend.xp.asarray(a) for a in (w, b))
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 0.1) * w[:, None, None] + b[:, None, None]
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-12)      # float64
    assert nn.InstanceNorm2d(2).parameters() == []


def test_instance_norm_removes_constants():
    """A constant channel becomes 0, whatever its value, and has a finite gradient of each order.

    The mean may be wrong by 1e-15, which the division by sqrt(eps) makes 3e-13.
    """
    x = tensor(np.full((1, 2, 3, 3), [[[[5.0]], [[-2.0]]]]))
    y = nn.InstanceNorm2d(2)(x)
    assert abs(y.numpy()).max() < 1e-12
    (g,) = grad((y * tensor(normal(1, 2, 3, 3))).sum(), [x], create_graph=True)
    (h,) = grad((g * g).sum(), [x])
    assert np.isfinite(g.numpy()).all() and np.isfinite(h.numpy()).all()


def test_batch_norm_without_running_averages_has_one_mode():
    layer, x = nn.BatchNorm(3, track_running_stats=False), tensor(normal(4, 3, 2, 2), "float32")
    y = layer(x).numpy()
    np.testing.assert_array_equal(y, nn.BatchNorm(3)(x).numpy())
    np.testing.assert_array_equal(y, layer.eval()(x).numpy())
    with pytest.raises(UserError):
        layer(x[:1, :, :1, :1])
    assert sorted(layer.state_dict()) == ["bias", "weight"]         # as in PyTorch


def test_residual_blocks_add_and_pass_labels_on():
    inner = nn.Sequential(nn.JoinLabels(3), nn.Conv2d(5, 2, 1))
    x, labels = tensor(normal(2, 2, 3, 3), "float32"), backend.xp.asarray([2, 0])
    np.testing.assert_allclose(nn.Residual(inner)(x, labels).numpy(),
                               (x + inner(x, labels)).numpy(), **CLOSE)
    cut = nn.Conv2d(2, 2, 1)
    assert not nn.Residual(cut).conditional and nn.Residual(cut, inner).conditional
    np.testing.assert_allclose(nn.Residual(cut, inner)(x, labels).numpy(),
                               (cut(x) + inner(x, labels)).numpy(), **CLOSE)


def set_to_zero(*layers):
    for layer in layers:
        for p in layer.parameters():
            p.data[...] = 0
            p.touch()


def test_spade_without_gain_and_shift_is_its_norm():
    layer = nn.SPADE(3, 2, hidden=4)
    set_to_zero(layer.gamma, layer.beta)
    x, a = tensor(normal(2, 3, 4, 4), "float32"), tensor(normal(2, 2, 8, 8), "float32")
    np.testing.assert_array_equal(layer(x, a).numpy(), nn.InstanceNorm2d(3)(x).numpy())


def test_bilinear_weights_sum_to_1_at_the_border():
    np.testing.assert_array_equal(to_numpy(resampling.bilinear(2, 4)), [
        [1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_spade_computes_its_equation():
    """gamma and beta are convolutions of the ReLU of a shared one, at the map's nearest pixels."""
    layer = nn.SPADE(3, 2, hidden=4)
    x, a = tensor(normal(2, 3, 4, 4), "float32"), tensor(normal(2, 2, 8, 8), "float32")
    shared = layer.shared(Tensor(a.data[:, :, ::2, ::2])).numpy()
    assert (shared < 0).any()
    hidden = tensor(np.maximum(shared, 0))
    gamma, beta = layer.gamma(hidden).numpy(), layer.beta(hidden).numpy()
    expected = nn.InstanceNorm2d(3)(x).numpy() * (1 + gamma) + beta
    np.testing.assert_allclose(layer(x, a).numpy(), expected, rtol=1e-5, atol=1e-5)     # float32


def uniform_maps():
    """Return the planes of two maps that have one class each."""
    a = np.zeros((2, 2, 6, 6), np.float32)
    a[0, 0], a[1, 1] = 1, 1
    return tensor(a)


def test_normalisation_washes_a_uniform_map_away_and_spade_keeps_it():
    """The reason of SPADE (section 3.1): of a uniform map, instance norm leaves nothing."""
    a = uniform_maps()
    washed = nn.InstanceNorm2d(4)(nn.Conv2d(2, 4, 3)(a)).numpy()
    np.testing.assert_allclose(washed, 0, atol=1e-3)        # rounding of a constant, over sqrt(eps)
    kept = nn.SPADE(2, 2, hidden=4)(a, a).numpy()
    assert abs(kept[0] - kept[1]).max() > 0.01


def test_spade_needs_a_map_for_each_image():
    layer = nn.SPADE(3, 2, hidden=4)
    for maps in (1, 5):
        assert f"got {maps}" in error_of(layer, tensor(normal(2, 3, 4, 4), "float32"),
                                         tensor(normal(maps, 2, 8, 8), "float32"))


def test_reflection_erases_the_planes_of_labels_and_zeros_do_not():
    x, labels = tensor(images(1, 1, 8, 8).repeat(2, 0)), backend.xp.asarray([0, 1])
    for reflect in (True, False):
        G = resnet.generator(1, (1, 8, 8), 2, 0, classes=2, kernel=4, reflect=reflect)
        for i, (_, layer) in enumerate(G.modules()):
            if isinstance(layer, nn.Conv2d):            # the initial weights are small
                layer.weight.data *= 20
                layer.weight.touch()
        y = G(x, labels).numpy()
        assert (abs(y[0] - y[1]).max() < 1e-2) == reflect


# Networks

@pytest.mark.parametrize("n", range(4))
def test_a_patch_discriminator_sees_patches(n):
    """A score depends on as many pixels as receptive_field(n) says."""
    width = patch.receptive_field(n)
    assert width == {0: 1, 1: 16, 2: 34, 3: 70}[n]          # Isola et al. 2017, appendix 6.1.2
    size = 2 * width + 8
    D = patch.discriminator((1, size, size), 1, n, norm=lambda n: nn.Sequential())
    x = tensor(images(1, 1, size, size))
    scores = D(x)
    middle = scores.shape[2] // 2
    (g,) = grad(scores[0, 0, middle, middle], [x])
    seen = np.argwhere(g.numpy()[0, 0])
    assert (np.ptp(seen, 0) + 1 == width).all()


def test_the_scores_of_two_scales_have_equal_weight():
    """The first D has 1x1 kernels, and the second one sees half the size: 20x20 and 10x10."""
    parts = [patch.discriminator((3, 20, 20), 2, 0, norm=nn.InstanceNorm2d) for _ in range(2)]
    D, x = patch.MultiScale(*parts), tensor(images(2, 3, 20, 20))
    scores, features = D(x)
    half = parts[1](resampling.avg_pool(x, 3, 2, 1))
    assert scores.shape == (2, 2, 20, 20) and half.shape == (2, 1, 10, 10)
    for i, mean in enumerate((parts[0](x).mean().item(), half.mean().item())):
        assert scores[:, i].mean().item() == pytest.approx(mean, rel=1e-4)      # 800 numbers
    assert [f.shape for f in features] == [(2, 2, 20, 20), (2, 4, 20, 20),
                                           (2, 2, 10, 10), (2, 4, 10, 10)]


def test_a_scale_whose_features_would_be_missing_is_refused():
    layers = nn.Conv2d(3, 2, 1), nn.LeakyReLU(), nn.Conv2d(2, 1, 1)
    nested = nn.Sequential(nn.Sequential(*layers[:2]), layers[2])
    assert "has a LeakyReLU inside one of its layers" in error_of(patch.MultiScale, nested)
    _, features = patch.MultiScale(nn.Sequential(*layers))(tensor(images(1, 3, 8, 8)))
    assert len(features) == 1


@pytest.mark.parametrize("size", [(28, 28), (16, 20), (19, 17)])
def test_translators_keep_the_size(size):
    x = tensor(images(2, 3, *size))
    for G in (unet.generator(3, (1, *size), 2, (1, 2, 4, 4)),
              *(resnet.generator(3, (1, *size), 2, 1, kernel=kernel) for kernel in (3, 4))):
        y = G(x).numpy()
        assert y.shape == (2, 1, *size) and 0 <= y.min() <= y.max() <= 1


def test_the_u_net_joins_each_level_and_has_dropout_inside():
    """The pixels of the output depend on all levels, and on those above by the shortest way."""
    for n in (2, 1, 0):
        G = unet.generator(1, (1, 16, 16), 2, (1, 2, 4), dropouts=n)
        assert sum(isinstance(layer, nn.Dropout) for _, layer in G.modules()) == n
    assert sum(isinstance(layer, nn.Skip) for _, layer in G.modules()) == 2
    names = [name for name, layer in G.modules() if isinstance(layer, nn.BatchNorm)]
    assert len(names) == 3                  # of 2 + 2 layers inside, all but the innermost one
    inner = G.layers[1]                     # without what is inside, the first level still passes
    set_to_zero(inner)
    a, b = (G(tensor(images(2, 1, 16, 16, seed=seed))).numpy() for seed in (0, 1))
    assert abs(a - b).max() > 1e-4
    with pytest.raises(UserError, match="at least 16x16"):
        unet.generator(1, (1, 15, 16), 2, (1, 2, 4, 4))


def test_the_spade_generator_sees_the_map_and_its_control_does_too():
    for settings in (dict(), dict(join=True), dict(norm=lambda n: nn.BatchNorm(n, affine=False))):
        G = spade.generator(3, (1, 16, 16), 5, 2, 2, 4, **settings)
        z, a = tensor(normal(2, 5), "float32"), tensor(images(2, 3, 16, 16))
        y = G(z, a)
        assert y.shape == (2, 1, 16, 16)
        assert abs(y.numpy() - G(z, a * 0.5).numpy()).max() > 1e-4 < abs(
            y.numpy() - G(z * 0.5, a).numpy()).max()
    count = [sum(isinstance(layer, kind) for _, layer in G.modules())
             for kind in (nn.SPADE, nn.Upsample)]
    assert count == [2 * 3 + 2, 2]          # two in each of three blocks, two shortcuts


@pytest.mark.parametrize("network, z_size", [
    (lambda shape: unet.generator(2, shape, 2, (1, 2, 4)), None),
    (lambda shape: resnet.generator(2, shape, 2, 1), None),
    (lambda shape: spade.generator(2, shape, 5, 2, 1, 4), 5)])
def test_images_need_not_be_square(network, z_size):
    """G draws images of the height and the width that it was made for."""
    z = [tensor(normal(2, z_size), "float32")] if z_size else []
    for shape in (1, 16, 18), (3, 18, 16):
        x = tensor(images(2, 2, *shape[1:]))
        assert network(shape)(*z, x).shape == (2, *shape)


@pytest.mark.numpy_only("large networks, whose parameters are counted")
def test_the_papers_networks_have_the_published_numbers_of_parameters():
    """In millions: pix2pix 54.4 and 2.8, CycleGAN 11.4 and 2.8, StarGAN 53.2 (its table 4).

    Biases before a normalisation, which have no effect, are left out here.
    """
    def count(*networks):
        return round(sum(p.size for net in networks for p in net.parameters()) / 1e6, 1)
    import stargan_mnist
    with skip_init(math.inf):
        assert count(unet.generator(3, (3, 256, 256))) == 54.4
        assert count(resnet.generator(3, (3, 256, 256))) == 11.4
        assert count(patch.discriminator((6, 256, 256))) == 2.8
        assert count(patch.discriminator((3, 256, 256))) == 2.8
        assert count(*stargan_mnist.make_networks((3, 128, 128), 5, paper=True)) == 53.2


@pytest.mark.parametrize("network, slopes, dropouts", [
    (lambda: unet.generator(3, (1, 16, 16), 2, (1, 2, 4, 4)), 3, 3),
    (lambda: patch.discriminator((1, 32, 32), 2), 4, 0),
    (lambda: spade.generator(3, (1, 16, 16), 5, 2, 2, 4), 7, 0)])
def test_the_slopes_and_the_dropout_of_the_papers(network, slopes, dropouts):
    """Leaky ReLUs have the slope 0.2. The dropout of pix2pix has p = 0.5, also when G is used."""
    layers = [layer for _, layer in network().modules()]
    assert [layer.slope for layer in layers if isinstance(layer, nn.LeakyReLU)] == [0.2] * slopes
    assert [(layer.p, layer.always) for layer in layers if isinstance(layer, nn.Dropout)] == [
        (0.5, True)] * dropouts


def test_outputs_of_pix2pixs_paper_network_do_not_depend_on_each_other():
    """The paper's batches are of one image, so its batch normalisation is that of one image."""
    script = importlib.import_module("pix2pix_mnist")
    G, _ = script.make_networks((1, 8, 8), 1, "l1+cgan", 0, paper=True)
    norms = [part for _, part in G.modules() if isinstance(part, nn.InstanceNorm2d)]
    assert norms and all(0.005 < part.weight.numpy().std() < 0.05 for part in norms)   # of 0.02
    x = images(4, 1, 8, 8)
    game = Pix2Pix(G, nn.Sequential())
    assert game.translate(x)[1:2] == pytest.approx(game.translate(x[1:2]), abs=1e-5)   # float32


@pytest.mark.parametrize("make, least, side", [
    (lambda side: importlib.import_module("pix2pix_mnist").make_networks(
        (1, side, side + 2), 1, "l1+cgan", 0, paper=False), 4, 3),
    (lambda side: importlib.import_module("pix2pix_mnist").make_networks(
        (1, side, side + 2), 1, "l1+cgan", 0, paper=True), 4, 1),
    (lambda side: importlib.import_module("spade_scenes").make_discriminator(
        (4, side, side), True), 23, 22),
    (lambda side: importlib.import_module("sngan_mnist").discriminator(
        2, (1, side, side + 2)), 4, 3)])
def test_images_too_small_for_a_scripts_networks_are_refused(make, least, side):
    make(least)
    with pytest.raises(UserError, match=f"images of at least {least}x{least} pixels, not {side}x"):
        make(side)


@pytest.mark.parametrize("make, shapes", [
    (lambda: nn.SPADE(3, 2, hidden=2), [(2, 3, 4, 4), (2, 2, 2, 2)]),
    (lambda: nn.SPADE(3, 2, 2, nn.BatchNorm(3, affine=False)), [(2, 3, 4, 4), (2, 2, 8, 8)]),
    (lambda: nn.JoinMap(), [(2, 3, 4, 4), (2, 2, 2, 2)]),
    (lambda: unet.generator(1, (1, 4, 4), 2, (1, 2), norm=lambda n: nn.BatchNorm(
        n, track_running_stats=False)), [(2, 1, 4, 4)]),
    (lambda: patch.discriminator((2, 9, 8), 1, 1, norm=nn.InstanceNorm2d), [(2, 2, 9, 8)]),
], ids=["SPADE", "SPADE on batch norm", "JoinMap", "unet", "patch"])
def test_derivatives_to_second_order(make, shapes):
    check_grads(make(), *(normal(*shape, seed=i) for i, shape in enumerate(shapes)))


# Games

def log_sigmoid(a):
    return -np.logaddexp(0, -a)


class Stretch(nn.Module):
    """A translator with one parameter: factor * x."""

    def __init__(self, factor=2.0):
        self.factor = tensor(factor, "float32")

    def forward(self, x, *conditions):
        return x * self.factor


class Total(nn.Module):
    """A discriminator whose scores are the channels' weighted sum, a map."""

    def __init__(self, *weights):
        self.weights = tensor(np.reshape(weights, (-1, 1, 1)), "float32")

    def forward(self, x):
        return (x * self.weights).sum(1, keepdims=True)


def test_the_losses_of_pix2pix():
    a, b = images(3, 1, 4, 4), images(3, 1, 4, 4, seed=1)
    x = tensor(a), tensor(b)
    score = lambda a, b: 0.5 * a - 3 * b
    game = Pix2Pix(Stretch(), Total(0.5, -3.0), lam=7.0)
    l1 = abs(b - 2 * a).mean()
    assert game.d_loss(x, ()).item() == pytest.approx(
        -log_sigmoid(score(a, b)).mean() - log_sigmoid(-score(a, 2 * a)).mean(), rel=1e-5)
    assert game.g_loss(x, ()).item() == pytest.approx(
        -log_sigmoid(score(a, 2 * a)).mean() + 7 * l1, rel=1e-5)
    assert float(game.logged["L1"]) == pytest.approx(l1, rel=1e-5)
    plain = Pix2Pix(Stretch(), Total(-3.0), lam=7.0, conditional=False)
    assert plain.g_loss(x, ()).item() == pytest.approx(
        -log_sigmoid(-6 * a).mean() + 7 * l1, rel=1e-5)
    alone = Pix2Pix(Stretch(), Total(0.5, -3.0), lam=7.0, adversarial=False)
    assert alone.g_loss(x, ()).item() == pytest.approx(7 * l1, rel=1e-5)


def test_the_losses_of_cyclegan():
    x, y = images(3, 1, 4, 4), images(3, 1, 4, 4, seed=1)
    make = lambda **choices: CycleGAN(Stretch(2.0), Stretch(0.25), Total(0.5), Total(-3.0),
                                      (1, 4, 4), (1, 4, 4), **choices)
    batch = tensor(x), tensor(y)
    z = backend.xp.arange(3), backend.xp.zeros(3, "bool")
    gan = ((0.5 * 2 * x - 1) ** 2).mean() + ((-3 * 0.25 * y - 1) ** 2).mean()
    there, back = abs(0.5 * x - x).mean(), abs(0.5 * y - y).mean()
    same = abs(2 * y - y).mean() + abs(0.25 * x - x).mean()
    for choices, cycle in [({}, 20 * there + 20 * back), (dict(lam_forward=0), 20 * back),
                           (dict(lam_backward=0, lam_identity=5.0), 20 * there + 5 * same)]:
        assert 2 * make(**choices).g_loss(batch, z).item() == pytest.approx(gan + cycle, rel=1e-5)
    assert 2 * make(adversarial=False).g_loss(batch, z).item() == pytest.approx(
        20 * there + 20 * back, rel=1e-5)
    d = sum(((a - 1) ** 2).mean() + (b ** 2).mean()
            for a, b in ((0.5 * y, 0.5 * 2 * x), (-3 * x, -3 * 0.25 * y)))
    assert 2 * make().d_loss(batch, z).item() == pytest.approx(d, rel=1e-5)
    same = CycleGAN(Stretch(1.0), Stretch(1.0), Total(0.5), Total(-3.0), (1, 4, 4), (1, 4, 4))
    same.g_loss(batch, z)
    assert float(same.logged["L_cyc"]) == 0


def make_cyclegan(**choices):
    return CycleGAN(Stretch(), Stretch(), Total(1.0), Total(1.0), (1, 4, 4), (1, 4, 4), **choices)


def test_d_gets_half_of_the_images_from_a_full_pool():
    """Zhu et al. 2017, section 4: a pool of 50 images, each exchanged with probability 1/2."""
    game = make_cyclegan()
    draws = [[to_numpy(a) for a in game.latent(10, Random(i))] for i in range(100)]
    assert len(game.filled) == 50
    for place, exchange in draws:
        assert len(set(place)) == len(exchange) == 10 and 0 <= min(place) <= max(place) < 50
    # 1,000 draws: the standard error of their mean is 0.016
    assert abs(np.mean([exchange for _, exchange in draws]) - 0.5) < 0.08


def test_a_pool_returns_what_was_put_in_its_places():
    """The slow version, a dictionary for each pool, over ten minibatches of 3 for pools of 4."""
    game, pools = make_cyclegan(pool=4), ({}, {})
    for i in range(10):
        z = game.latent(3, Random(i))
        fake = [images(3, 1, 4, 4, seed=2 * i + side) for side in range(2)]
        found = game.replay(tuple(map(tensor, fake)), z)
        for pool, new, replayed in zip(pools, fake, found):
            for image, place, exchange, y in zip(new, *map(to_numpy, z), replayed.numpy()):
                assert (y == (pool[place] if exchange and place in pool else image)).all()
                if exchange or place not in pool:
                    pool[place] = image


def test_a_pool_of_one_image_is_the_smallest():
    assert make_cyclegan(pool=1).latent(1, Random(0))[0].tolist() == [0]
    with pytest.raises(UserError, match="a pool has a whole number of images, at least 1, got 0"):
        make_cyclegan(pool=0)


def test_a_minibatch_larger_than_the_pool_is_refused():
    game = make_cyclegan(pool=3)
    with pytest.raises(UserError, match="larger than the pool of 3"):
        game.latent(4, Random(0))


class StretchDomain(Stretch):
    """A translator whose factor depends on the domain: factor (1 + c)."""

    def forward(self, x, c):
        return x * self.factor * tensor(1.0 + to_numpy(c).reshape(-1, 1, 1, 1), "float32")


class Domains(nn.Module):
    """A discriminator of two domains: a map of scores, and the logits."""

    def __init__(self):
        self.score, self.slope = Total(0.5), tensor([3.0, -1.0], "float32")

    def forward(self, x):
        return self.score(x), x.mean((1, 2, 3)).reshape(-1, 1) * self.slope


def test_the_losses_of_stargan():
    x, c, target = images(3, 1, 4, 4), np.array([0, 1, 1]), np.array([1, 1, 0])
    game = StarGAN(StretchDomain(), Domains(), 2, lam_cls=2.0, lam_rec=7.0, lam_identity=3.0,
                   lam_gp=0.0, loss=losses.LeastSquares())
    draw = lambda x, c: 2 * x * (1 + c.reshape(-1, 1, 1, 1))
    batch, z = (tensor(x), backend.xp.asarray(c)), backend.xp.asarray(target)

    def cross_entropy(x, labels):
        logits = x.mean((1, 2, 3))[:, None] * [3.0, -1.0]
        return (np.logaddexp(*logits.T) - logits[np.arange(3), labels]).mean()
    fake = draw(x, target)
    d = ((0.5 * x - 1) ** 2).mean() + ((0.5 * fake) ** 2).mean() + 2 * cross_entropy(x, c)
    assert game.d_loss(batch, z).item() == pytest.approx(d, rel=1e-5)
    assert float(game.logged["L_cls"]) == pytest.approx(cross_entropy(x, c), rel=1e-5)
    g = (((0.5 * fake - 1) ** 2).mean() + 2 * cross_entropy(fake, target)
         + 7 * abs(draw(fake, c) - x).mean() + 3 * abs(draw(x, c) - x).mean())
    assert game.g_loss(batch, z).item() == pytest.approx(g, rel=1e-5)
    assert float(game.logged["L_rec"]) == pytest.approx(abs(draw(fake, c) - x).mean(), rel=1e-5)


def test_the_gradient_penalty_of_stargan_is_that_of_the_sum_of_a_map():
    """The gradient of 16 scores 0.5 x has the norm 0.5 sqrt(16) = 2.

    With the target 1 the penalty is lam, and with the target 2 it is 0.
    """
    x = images(3, 1, 4, 4)
    batch = tensor(x), backend.xp.asarray([0, 1, 1])
    for target, penalty in ((1.0, 10.0), (2.0, 0.0)):
        game = StarGAN(Stretch(), Domains(), 2, lam_cls=0.0, lam_gp=10.0, target=target)
        z = game.latent(3, Random(0))
        assert game.d_loss(batch, z).item() == pytest.approx(
            (0.5 * 2 * x).mean() - (0.5 * x).mean() + penalty, rel=1e-5)
    assert game.d_steps == 5


def test_the_gradient_penalty_of_stargan_is_the_papers_for_images_in_minus_1_1():
    """For images in [0, 1], the penalty is 10 (|grad f| - 1)^2 of the critic f on [-1, 1]."""
    class Stretched(Domains):
        def forward(self, x):
            return super().forward(2 * x - 1)
    x = tensor(np.float32(np.random.default_rng(0).uniform(size=(3, 1, 4, 4))))
    c = backend.xp.asarray([0, 1, 1])
    ours = StarGAN(Stretch(1.0), Stretched(), 2, lam_cls=0.0)
    papers = StarGAN(Stretch(1.0), Domains(), 2, lam_cls=0.0, lam_gp=10.0, target=1.0)
    z = ours.latent(3, Random(0))
    # the norm of 16 gradients 0.5 is 2, and the critic's term is 0, because G changes nothing
    assert ours.d_loss((x, c), z).item() == pytest.approx(10.0, rel=1e-5)
    assert papers.d_loss((2 * x - 1, c), z).item() == pytest.approx(10.0, rel=1e-5)


class StretchMap(Stretch):
    """A translator of maps that ignores the noise."""

    def forward(self, z, a):
        return a * self.factor


class Layers(nn.Module):
    """A discriminator of pairs that returns a map of scores and two features."""

    def __init__(self):
        self.score = Total(0.5, -3.0)

    def forward(self, x):
        return self.score(x), (x, x[:, 1:] * 2.0)


class Twice(Layers):
    """A discriminator with two scales: the scores, and twice the scores."""

    def forward(self, x):
        scores, features = super().forward(x)
        return ops.concat([scores, scores * 2.0], 1), features


def test_the_losses_of_gaugan():
    a, b = images(3, 1, 4, 4), images(3, 1, 4, 4, seed=1)
    game = GauGAN(StretchMap(), Layers(), lam=7.0)
    x, score = (tensor(a), tensor(b)), lambda a, b: 0.5 * a - 3 * b
    d = np.maximum(0, 1 - score(a, b)).mean() + np.maximum(0, 1 + score(a, 2 * a)).mean()
    assert game.d_loss(x, ()).item() == pytest.approx(d, rel=1e-5)
    apart = abs(b - 2 * a).mean()
    features = apart / 2 + 2 * apart            # half of the first layer's channels are a itself
    assert game.g_loss(x, ()).item() == pytest.approx(
        -score(a, 2 * a).mean() + 7 * features, rel=1e-5)
    assert game.g_loss((tensor(a), tensor(2 * a)), ()).item() == pytest.approx(
        -score(a, 2 * a).mean(), rel=1e-5)      # the features of equal images are equal
    game.D = Twice()
    assert game.g_loss(x, ()).item() == pytest.approx(       # two scales: the mean of the scores
        -score(a, 2 * a).mean() * 1.5 + 7 * features / 2, rel=1e-5)
    game.D = Total(0.5, 1.0)
    with pytest.raises(UserError, match="features a tuple"):
        game.g_loss(x, ())


@pytest.mark.parametrize("view", [views.Translation, views.InstanceNoise])
def test_random_views_do_not_change_the_features_that_gaugan_compares(view):
    """An output that equals the truth has equal features."""
    a = tensor(images(3, 1, 4, 4))
    game = GauGAN(StretchMap(), Layers(), lam=7.0, views=[view(0.5)])
    with nn.use_random(make_source(0)):
        game.g_loss((a, 2.0 * a), ())
    assert game.logged["features"] == 0


@pytest.mark.parametrize("make, words", [
    (lambda: Pix2Pix(Stretch(), Total(1.0), lam=-1), "at least 0, got -1"),
    (lambda: make_cyclegan(lam_forward=-1), "lam_forward must be a number"),
    (lambda: make_cyclegan(penalties=[penalties.R1()]), "no penalties"),
    (lambda: Pix2Pix(Stretch(), Total(1.0), lam=0, adversarial=False).g_loss(
        (tensor(images(1, 1, 2, 2)), tensor(images(1, 1, 2, 2))), ()), "no term"),
    (lambda: Pix2Pix(Stretch(), Total(1.0)).draw_samples(2, Random(0)), "give images"),
    (lambda: patch.discriminator((1, 11, 28), n=2), "at least 12x12 pixels, not 11x28"),
    (lambda: spade.generator(3, (1, 30, 32)), "multiples of 4, not 30x32"),
    (lambda: StarGAN(Stretch(), Domains(), 2, lam_rec=float("nan")), "lam_rec must be a number"),
    (lambda: StarGAN(Stretch(), Domains(), 2, lam_gp=0, target=-1), "target must be a number"),
    (lambda: StarGAN(Stretch(), Domains(), 0), "classes must be"),
    (lambda: GauGAN(Stretch(), Layers(), lam=-1), "at least 0, got -1"),
    (lambda: make_cyclegan(loss=losses.RelativisticAverage()), "mix the mean scores"),
    (lambda: make_cyclegan(pool=-1), "at least 1, got -1"),
    (lambda: make_cyclegan().d_loss((tensor(images(2, 1, 3, 3)),) * 2, make_cyclegan().latent(
        2, Random(0))), r"\(1, 4, 4\), but a network returned \(1, 3, 3\)"),
    (lambda: StarGAN(Stretch(), Domains(), 2, lam_gp=0, views=[views.Pack(2)]).d_loss(
        (tensor(images(2, 1, 4, 4)), backend.xp.asarray([0, 1])), backend.xp.asarray([1, 0])),
     "leave views.Pack out"),
    (lambda: Pix2Pix(Stretch(), Total(1.0)).inputs(
        Split(images=images(0, 1, 4, 4)), 2, Random(0)), "has no images")])
def test_settings_that_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_view_changes_input_and_output_alike():
    """Equal images are equal to D after a random translation too."""
    seen = []
    game = Pix2Pix(Stretch(), Total(1.0, 1.0), views=[views.Translation(0.5)])
    game.D.forward = lambda x: seen.append(x.numpy()) or x
    x = tensor(images(4, 1, 8, 8))
    game.d_loss((x, x), ())
    assert (seen[0][:, 0] == seen[0][:, 1]).all() and (seen[0][:, 0] != x.numpy()[:, 0]).any()


def test_translations_do_not_depend_on_the_piece_and_use_the_average():
    rng.seed(0)
    G = nn.Sequential(nn.Conv2d(1, 2, 3, 1, 1), nn.BatchNorm(2), nn.Dropout(0.5, always=True),
                      nn.Conv2d(2, 1, 3, 1, 1), nn.Sigmoid())
    game = Pix2Pix(G, Total(1.0, 1.0))
    x = images(5, 1, 4, 4)
    whole = game.translate(x)
    np.testing.assert_array_equal(whole, np.concatenate([game.translate(x[:2]),
                                                         game.translate(x[2:])]))
    np.testing.assert_array_equal(game.translate((255 * x).astype(np.uint8)),
                                  game.translate((255 * x).astype(np.uint8) / 255))
    np.testing.assert_array_equal(whole, to_numpy(game.sample(tensor(x))))
    game.keep_average(0.5)
    set_to_zero(game.G)
    game.touch()            # the average counts as updated
    np.testing.assert_array_equal(whole, game.translate(x))


def test_pictures_show_input_output_and_truth():
    split = Split(images=images(6, 1, 4, 4), targets=images(6, 1, 4, 4, seed=1))
    pictures, columns = (game := Pix2Pix(Stretch(0.5), Total(1.0, 1.0))).pictures(
        game.fixed_inputs(split, 16, Random(0)))
    a, g, b = to_numpy(pictures).reshape(4, 3, 1, 4, 4).swapaxes(0, 1)
    assert columns == 12 and (g == 0.5 * a).all()
    rows = [int(np.argwhere((split.images == each).all((1, 2, 3)))[0, 0]) for each in a]
    assert (b == split["targets"][rows]).all()
    with pytest.raises(UserError, match="'targets'"):
        game.fixed_inputs(Split(images=split.images), 16, Random(0))
    star = StarGAN(Stretch(0.5), Domains(), 2)
    pictures, columns = star.pictures(star.fixed_inputs(split, 6, Random(0)))
    shown = to_numpy(pictures).reshape(2, 3, 1, 4, 4)
    assert columns == 3 and (shown[:, 1:] == 0.5 * shown[:, :1]).all()
    assert [len(star.fixed_inputs(split, n, Random(0))[0]) for n in (1, 3, 5, 12)] == [2, 2, 2, 8]


def test_a_sigmoid_of_either_discriminator_of_cyclegan_is_refused():
    """Also in a network of a class of its own, whose scores are joined to those of the other."""
    image = tensor(np.full((2, 1, 4, 4), 0.5, "float32"))
    for ends in (ops.sigmoid, abs), (abs, ops.sigmoid), (abs, abs):
        game = CycleGAN(Stretch(), Stretch(), *[Ending(Total(1.0), f) for f in ends], (1, 4, 4),
                        (1, 4, 4))
        z = game.latent(2, rng)
        if ops.sigmoid in ends:
            assert "D ends in a sigmoid" in error_of(game.d_loss, (image, image), z)
        else:
            game.d_loss((image, image), z)


def test_the_pictures_of_cyclegan_show_both_cycles():
    """Each row has x, G(x), F(G(x)) and y, F(y), G(F(y)), for G(x) = x / 2 and F(y) = y / 4."""
    split = Split(images=images(6, 1, 4, 4), targets=images(9, 1, 4, 4, seed=1))
    game = CycleGAN(Stretch(0.5), Stretch(0.25), Total(1.0), Total(1.0), (1, 4, 4), (1, 4, 4))
    pictures, columns = game.pictures(game.fixed_inputs(split, 24, Random(0)))
    shown = to_numpy(pictures).reshape(4, 6, 1, 4, 4)
    assert columns == 12
    for first, factors in ((0, (1, 0.5, 0.125)), (3, (1, 0.25, 0.125))):
        for i, factor in enumerate(factors):
            assert (shown[:, first + i] == shown[:, first] * np.float32(factor)).all()
    assert all((split.images == x).all((1, 2, 3)).any() for x in shown[:, 0])
    assert all((split["targets"] == y).all((1, 2, 3)).any() for y in shown[:, 3])


# Tasks

@pytest.fixture(scope="module")
def digits():
    return data.load("sample")


@pytest.fixture(scope="module")
def few(digits):
    """A tenth of the digits."""
    return digits._replace(**{name: getattr(digits, name).part(slice(None, None, 10))
                              for name in ("train", "valid", "test")})


def test_a_colour_keeps_a_digits_grey_in_some_channels():
    """White, red, green, blue and yellow: each pixel has its grey in some channels, 0 in others."""
    grey = np.random.default_rng(0).integers(1, 256, (2, 1, 4, 4), dtype=np.uint8)
    kept = [[bool(channel.any()) for channel in paint(grey).transpose(1, 0, 2, 3)]
            for paint in tasks.PAINTS]
    assert kept == [[True] * 3, [True, False, False], [False, True, False], [False, False, True],
                    [True, True, False]]
    for paint, channels in zip(tasks.PAINTS, kept):
        assert paint(grey).dtype == np.uint8 and (paint(grey)[:, channels] == grey).all()


def test_dilation_and_erosion_are_extrema_over_nine_pixels():
    x = images(2, 1, 5, 6)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    assert (tasks.dilate(x) == windows.max((4, 5))).all()
    assert (tasks.erode(x) == windows.min((4, 5))).all()
    assert (tasks.outline(x) == windows.max((4, 5)) - windows.min((4, 5))).all()


@pytest.mark.host
@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_is_made_from_its_own_digits(name, digits):
    """Each split is made of its own digits alone; what is not paired is made of other digits."""
    made = data.load(f"{name}:sample")
    assert made.place == f"{name}:sample" and "the bundled sample" in made.source
    for part in ("train", "valid", "test"):
        split, source = getattr(made, part), getattr(digits, part)
        if name != "outline" or part != "train":
            assert (split["digits"] == source.labels).all()
        if name in ("half", "coarse"):
            assert (split["targets"] == source.images).all()
        elif name == "outline" and part == "train":
            half = len(source.images) // 2
            assert (split.images == source.images[:half]).all()
            assert (split["targets"] == tasks.outline(source.images[half:])).all()
        elif name == "outline":
            assert (split["targets"] == tasks.outline(split.images)).all()
        else:
            k = split.labels.max() + 1
            assert (split.labels == np.arange(len(source.images)) % k).all()
            if part != "train":
                rows = np.arange(len(split.images))
                assert (split["truths"][rows, split.labels] == split.images).all()
                assert (split["truths"][:, 0].max(1) == source.images[:, 0]).all()


@pytest.mark.host
def test_the_inputs_of_pairs(digits):
    x = digits.test.images[:3].astype(float)
    half = tasks.hide_lower_half(digits.test.images[:3])
    assert (half[:, :, :14] == x[:, :, :14]).all() and not half[:, :, 14:].any()
    coarse = tasks.coarsen(digits.test.images[:3])
    assert (coarse[:, :, 4:8, 8:12] == x[:, :, 4:8, 8:12].mean((2, 3), keepdims=True) // 1).all()


@pytest.mark.host
@pytest.mark.parametrize("change", [tasks.dilate, tasks.erode, tasks.outline,
                                    tasks.hide_lower_half, tasks.coarsen])
def test_tasks_need_images_with_channels(change):
    """The lower half of (N, H, W) would be a right half."""
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(2, 8, 8\)"):
        change(np.zeros((2, 8, 8)))


@pytest.mark.host
@pytest.mark.parametrize("maps", [[[[0, 6]]], [[[0, -1]]], [[[0, 0.5]]], [[0, 1]]])
def test_a_map_of_other_classes_has_no_planes(maps):
    with pytest.raises(ValueError, match="from 0 to 5"):
        tasks.to_planes(np.array(maps))


@pytest.mark.host
def test_a_task_of_the_environment_and_one_of_its_data(tmp_path, monkeypatch):
    """TINYGAN_DATA may name a task and its data; a task given without data takes TINYGAN_DATA's."""
    path = tmp_path / "digits.npy"
    np.save(path, (255 * images(20, 8, 8)).astype("uint8"))
    made = tasks.make_task("half", data.load(path)).train
    for variable, given in ((f"half:{path}", None), (str(path), "half:")):
        monkeypatch.setenv("TINYGAN_DATA", variable)
        train = data.load(given).train
        assert train.keys() == made.keys()
        assert all((train[name] == made[name]).all() for name in made)


@pytest.mark.host
def test_tasks_refuse_other_images(tmp_path, monkeypatch):
    np.savez(tmp_path / "colours.npz", images=images(20, 3, 8, 8))
    np.savez(tmp_path / "pairs.npz", images=images(20, 8, 8), targets=images(20, 8, 8))
    np.savez(tmp_path / "odd.npz", images=images(20, 7, 8))
    monkeypatch.setenv("TINYGAN_DATA", "half:")
    with pytest.raises(UserError, match="a task without data"):
        data.load()
    for place, words in ((f"half:{tmp_path}/colours.npz", "3 channels"),
                         (f"half:{tmp_path}/pairs.npz", "outputs of its own"),
                         (f"coarse:{tmp_path}/odd.npz", "multiples of 4, not 7x8"),
                         ("half:half:sample", "outputs of its own")):
        with pytest.raises(UserError, match=words):
            data.load(place)


@pytest.mark.host
def test_a_map_has_the_class_of_the_nearest_of_six_points():
    """The slow version, with the same points and classes."""
    maps, rng = tasks.draw_maps(3, 8, np.random.default_rng(1)), np.random.default_rng(1)
    points, classes = rng.uniform(0, 8, (3, 6, 2)), rng.integers(tasks.CLASSES, size=(3, 6))
    for i, y, x in np.ndindex(maps.shape):
        distances = [math.dist((y, x), point) for point in points[i]]
        assert maps[i, y, x] == classes[i, distances.index(min(distances))]


@pytest.mark.host
def test_scenes_have_the_textures_of_their_maps():
    """Each class has the mean, the period and the direction that its formula says."""
    scenes = data.load("scenes")
    assert [len(split.images) for split in scenes[:3]] == [4000, 500, 500]
    maps = scenes.test.images.argmax(1)
    assert (tasks.to_planes(maps) == scenes.test.images).all()
    uniform = np.broadcast_to(np.arange(6)[:, None, None], (6, 16, 16))
    x = tasks.draw_scenes(uniform, np.random.default_rng(0))[:, 0] / 255
    assert (x[5] == x[5, 0, 0]).all() and len(np.unique(x[4])) > 100
    step = 1 / 255              # pixels are rounded to bytes
    for wave in x[:3]:          # 0.5 + 0.45 sin t, where one pixel of four is near a crest
        assert 0.05 - step < wave.min() < 0.2 and 0.8 < wave.max() < 0.95 + step
    for k, (down, right) in enumerate([(0, 1), (1, 0)]):
        assert (np.ptp(x[k], 1 - k) == 0).all()                  # constant along the wave's crests
        np.testing.assert_allclose(x[k], np.roll(x[k], 4, k), atol=step)
    np.testing.assert_allclose(x[2, 1:, :-1], x[2, :-1, 1:], atol=step)
    assert (x[3] == np.roll(x[3], (2, 2), (0, 1))).all() and set(np.unique(x[3])) == {26 / 255,
                                                                                   230 / 255}


# Measures

def test_measures_of_translations():
    a, b = np.array([[0.0, 0.3, 0.9, 1.0]]), np.array([[0.0, 0.6, 0.9, 0.0]])
    assert mean_difference(a, b) == pytest.approx((0.3 + 1.0) / 4)
    assert grey_share(a) == 0.25 and overlap(a, b) == 1 / 3
    assert mean_difference(np.array([[255]], np.uint8), np.array([[0]], np.uint8)) == 1
    truth = np.array([0, 0, 1, 1, 2])
    assert mean_iou(np.array([0, 1, 1, 1, 0]), truth, 4) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert mean_iou(truth, truth, 4) == 1
    assert mean_iou(*[np.full(4, 19, np.uint8)] * 2, 20) == 1       # 19 * 20 + 19 is no uint8
    assert "from 0 to 1, got 0 to 2" in error_of(mean_iou, truth, truth, 2)
    assert overlap(np.zeros((1, 4)), np.zeros((1, 4))) == 1
    assert "undefined" in error_of(mean_iou, truth[:0], truth[:0], 4)
    for measure in mean_difference, overlap, lambda a, b: mean_iou(a, b, 2):
        assert "(1, 4) and (4, 1)" in error_of(measure, np.zeros((1, 4)), np.zeros((4, 1)))


@pytest.mark.numpy_only("hundreds of steps")
def test_an_instrument_is_always_the_same_and_learns():
    """It does not change tinygan.rng, does not depend on it, and tells dark from light pixels."""
    x = (images(64, 1, 6, 6) > 0.5).astype(np.float32)
    labels = x[:, 0].astype(int)
    make = lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    rng.seed(5)
    before = rng.state
    net = train_classifier(make, x, labels, 200)
    assert rng.state == before
    rng.seed(6)
    before = rng.state
    again = train_classifier(make, x, labels, 200)
    assert (predict(net, x) == predict(again, x)).all() and (predict(net, x) == labels).all()
    whole = train_classifier(lambda: nn.Sequential(nn.Flatten(), nn.Dense(36, 2)), x,
                             (x.mean((1, 2, 3)) > 0.5).astype(int), 1)
    assert predict(whole, x).shape == (64,)
    with pytest.raises(ZeroDivisionError):          # raised after make() has drawn
        train_classifier(lambda: nn.Dense(3, 3).weight.size / 0, x, labels, 1)
    assert rng.state == before


def test_rows_of_measures_are_read_as_they_were_printed(capsys):
    rows = {"outputs": {"L1": 0.05125, "grey %": 6.0}, "truth": {"L1": 0.0, "mIoU %": 1e-07}}
    print("step 2/2  7.7/s  0:00 left  D loss 1.375\ndata: the file a.npz, 3 images")
    for name, measures in rows.items():
        command.print_row(name, measures)
    assert command.read_rows(capsys.readouterr().out) == rows


# The examples

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with pairs of images and a short run of pix2pix on them."""
    folder = tmp_path_factory.mktemp("pairs")
    x = images(400, 1, 28, 28)
    np.savez(folder / "pairs.npz", images=x, targets=1 - x)
    np.savez(folder / "new.npz", images=images(20, 28, 28, seed=1))
    process = run("pix2pix_mnist.py", "--task", "none", "--data", "pairs.npz", "--steps", 3,
                  "--batch-size", 8, "--out", "run", cwd=folder)
    assert process.returncode == 0, process.stderr
    rows = command.read_rows(process.stdout)
    assert rows["truth"]["L1"] == 0 < rows["outputs"]["L1"] and "accuracy %" not in rows["truth"]
    x = data.load(folder / "pairs.npz").test
    assert rows["inputs"]["L1"] == pytest.approx(abs(1 - 2 * x.images).mean(), rel=1e-3)
    return folder


@pytest.mark.numpy_only("a script's output")
def test_pix2pix_is_measured_on_few_test_images(few, capsys):
    """Without further images there is no Frechet distance; the other measures need none."""
    pix2pix = importlib.import_module("pix2pix_mnist")
    test = tasks.make_task("half", few).test
    game = Pix2Pix(nn.Sequential(), nn.Sequential())
    for n, names in ((len(test.images), {"L1", "grey %", "accuracy %"}),
                     (3, {"L1", "Frechet", "grey %", "accuracy %"})):
        pix2pix.measure(game, test, n)
        printed = capsys.readouterr().out
        assert command.read_rows(printed)["truth"].keys() == names
        assert (f"no digits besides these {n}" in printed) == ("Frechet" not in names)


@pytest.mark.host
def test_a_translation_is_sampled_and_evaluated(folder, tmp_path):
    process = run("sample.py", "run", "--out", tmp_path / "p", cwd=folder)
    assert process.returncode == 0, process.stderr
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "samples.png", "translated.png", "pictures.png", "nearest.png"}
    process = run("evaluate.py", "run", cwd=folder)
    assert process.returncode == 0, process.stderr
    found = json.loads((folder / "run" / "evaluation.json").read_text())["measures"]
    game, test = load(folder / "run"), data.load(folder / "pairs.npz").test
    assert found["outputs"]["L1"] == pytest.approx(
        mean_difference(game.translate(test.images), test["targets"]), rel=1e-6)
    assert found["inputs"]["L1"] == pytest.approx(abs(1 - 2 * test.images).mean(), rel=1e-5)


@pytest.mark.host
def test_new_inputs_are_translated_in_their_order(folder, tmp_path):
    process = run("sample.py", "run", "--inputs", "new.npz", "--out", tmp_path / "p", cwd=folder)
    assert process.returncode == 0, process.stderr
    with np.load(folder / "new.npz") as file:
        expected = load(folder / "run").translate(file["images"][:, None])
    with np.load(tmp_path / "p" / "outputs.npz") as file:
        assert file["images"].dtype == np.uint8
        np.testing.assert_allclose(file["images"] / 255, expected, atol=0.51 / 255)     # bytes
    x = images(400, 1, 28, 28, seed=3)
    np.savez(folder / "other.npz", images=x, targets=1 - x)
    process = run("evaluate.py", "run", "--inputs", "other.npz", "--out", tmp_path / "e.json",
                  cwd=folder)
    assert process.returncode == 0, process.stderr
    test = data.load(folder / "other.npz").test
    assert "data of the run cannot be read" not in process.stdout
    found = json.loads((tmp_path / "e.json").read_text())["measures"]
    assert found["inputs"]["L1"] == pytest.approx(abs(1 - 2 * test.images).mean(), rel=1e-5)


@pytest.mark.host
def test_inputs_that_do_not_fit_are_refused(folder):
    np.savez(folder / "small.npz", images=images(20, 8, 8))
    x = images(100, 28, 28)
    for name, targets in (("planes", images(100, 3, 28, 28)), ("fewer", np.roll(x[:98], 1, 0)),
                          ("doubled", np.repeat(x[:50], 2, 0))):
        np.savez(folder / f"{name}.npz", images=x, targets=targets)
    with np.load(folder / "pairs.npz") as pairs:        # test images are from the other end
        np.savez(folder / "turned.npz", **{name: array[::-1] for name, array in pairs.items()})
    other = "(1, 8, 8), but G was trained on (1, 28, 28)"
    refused = [
        (["sample.py", "run", "--inputs", "small.npz"], [other]),
        (["evaluate.py", "run", "--inputs", "small.npz"], [other]),
        (["pix2pix_mnist.py", "--task", "none", "--data", "new.npz", "--out", "no"],
         ["no array 'targets'", "--task"]),
        (["pix2pix_mnist.py", "--data", "pairs.npz", "--out", "no"],
         ["outputs of its own", "--task none"]),
        (["evaluate.py", "run", "--inputs", "new.npz"], ["no array 'targets'"]),
        (["sample.py", "run", "--inputs", "nothing.npz"], ["no file 'nothing.npz'", "--inputs"]),
        (["sample.py", "run", "--inputs", "nothing"], ["no file 'nothing'", "--inputs"]),
        (["sample.py", "run", "--inputs", ""], ["no file ''", "--inputs"]),
        (["sample.py", "run", "--inputs", "./outputs.npz", "--out", "."],
         ["outputs would replace this file", "--out"]),
        (["evaluate.py", "run", "--inputs", "planes.npz"],
         ["targets have the shape (3, 28, 28)"]),
        (["evaluate.py", "run", "--inputs", "fewer.npz"], ["(98, 1, 28, 28)"]),
        (["evaluate.py", "run", "--inputs", "doubled.npz"], ["part too"]),
        (["evaluate.py", "run", "--inputs", "turned.npz"],
         ["of the test images of turned.npz"]),
        (["evaluate.py", "run", "--inputs", "turned.npz", "--data", "doubled.npz"],
         ["trained on other data than that of", "doubled.npz"]),
        (["sample.py", "run", "--truncation", 0.5, "--out", "no"],
         ["takes no noise, so --truncation has no effect: leave it out"]),
        (["pix2pix_mnist.py", "--dry-run", "--patch", 4], ["at least 48x48 pixels, not 28x28"])]
    for process, (_, words) in zip(run_all([(*call, folder) for call, _ in refused]), refused):
        line = last_line_of_refusal(process)
        assert all(word in line for word in words), line
    x = images(40, 8, 8)
    cases = (
        ("pix2pix_mnist.py", dict(images=x, targets=images(40, 9, 8)), "same height and width"),
        ("pix2pix_mnist.py", dict(images=x, targets=images(38, 8, 8)), "(38, 1, 8, 8)"),
        ("stargan_mnist.py", dict(images=x), "the domain of each image"),
        ("spade_scenes.py", dict(images=images(40, 3, 8, 8), targets=x), "not maps of classes"),
        ("cyclegan_mnist.py", dict(images=images(40, 3, 16, 16),
                                      targets=images(40, 16, 16)), "one shape"),
        ("cyclegan_mnist.py", dict(images=x, targets=images(40, 9, 8)), "same height"),
        ("stargan_mnist.py", dict(images=x, labels=np.arange(40) % 2 * 4), "the label 1"),
        ("stargan_mnist.py", dict(images=x, labels=np.zeros(40, int)), "at least two"),
        ("spade_scenes.py", dict(images=x, targets=x), "images, not maps of classes"),
        ("spade_scenes.py", dict(maps=x, targets=x), "whole numbers, the classes"))
    calls = []
    for i, (script, arrays, _) in enumerate(cases):
        np.savez(folder / f"wrong-{i}.npz", **arrays)
        task = [] if script == "spade_scenes.py" else ["--task", "none"]
        task += ["--identity", 10] if script == "cyclegan_mnist.py" else []
        calls.append((script, *task, "--data", f"wrong-{i}.npz", "--dry-run", folder))
    for process, (_, _, words) in zip(run_all(calls), cases):
        assert words in last_line_of_refusal(process)


@pytest.mark.host
def test_a_task_is_resumed_with_its_data(tmp_path):
    """The place of the data names the task: a resumed run has it, and measures the same."""
    part = data.load("sample").train.part(slice(400))
    np.savez(tmp_path / "digits.npz", images=part.images, labels=part.labels)
    flags = ["cyclegan_mnist.py", "--data", "digits.npz", "--batch-size", 2, "--out", "c"]
    first = run(*flags, "--steps", 1, cwd=tmp_path)
    again = run("cyclegan_mnist.py", "--resume", "--out", "c", cwd=tmp_path)
    assert again.returncode == 0 and "resumed after step 1" in again.stdout, again.stderr
    assert "the task outline, made from the 400 images of" in again.stdout, again.stdout
    rows = command.read_rows(first.stdout)
    assert command.read_rows(again.stdout) == rows
    assert rows["dilated, eroded"]["L1"] < rows["inputs"]["L1"] / 4     # nearly the outlines
    # where the data has moved to is the place of the images, of which the task is made again
    moved = tmp_path / "digits.npz"
    assert command.load_data(tmp_path / "c", str(moved)).place == f"outline:{moved}"


@pytest.mark.host
def test_stargan_is_measured_by_any_number_of_classes(capsys):
    """Letters, say, have more classes than digits."""
    import stargan_mnist
    def make(seed):
        return data.Split(images=images(48, 1, 8, 8, seed=seed), labels=np.arange(48) % 26)
    letters = data.tasks.make_task("styles", data.DataSet(make(0), make(1), make(2), "", ""))
    game = StarGAN(*stargan_mnist.make_networks((1, 8, 8), 4, False), 4)
    stargan_mnist.measure(game, letters, 3, 1)
    rows = command.read_rows(capsys.readouterr().out)
    assert set(rows) == {"outputs", "inputs", "median", "truth"} and rows["truth"]["L1"] == 0
    assert all("accuracy %" in row for row in rows.values())


@pytest.mark.host
def test_maps_of_your_own(tmp_path):
    """Whole numbers become planes, beside their targets."""
    maps = np.arange(40 * 64).reshape(40, 8, 8) % 3
    np.savez(tmp_path / "maps.npz", maps=maps.astype(np.uint8), targets=maps / 2)
    split = data.load(tmp_path / "maps.npz").train
    assert split.images.shape == (32, 3, 8, 8) and set(np.unique(split.images)) == {0, 255}
    assert (split.images.argmax(1) == 2 * split["targets"][:, 0]).all()
    process = run("spade_scenes.py", "--data", "maps.npz", "--steps", 1, "--batch-size", 4,
                  "--channels", 2, "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    np.savez(tmp_path / "new.npz", maps=np.arange(20).repeat(64).reshape(20, 8, 8) % 2)
    process = run("sample.py", "run", "--inputs", "new.npz", "--out", "new", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "new" / "outputs.npz") as file:
        assert file["images"].shape == (20, 1, 8, 8)
    np.savez(tmp_path / "new.npz", maps=np.full((20, 8, 8), 3))
    line = read_refusal("sample.py", "run", "--inputs", "new.npz", cwd=tmp_path)
    assert "classes 3 to 3: give classes from 0 to 2" in line


@pytest.mark.host
def test_the_scenes_dry_run(tmp_path):
    process = run("spade_scenes.py", "--dry-run", "--channels", 4, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    rows = command.read_rows(process.stdout)
    assert set(rows) == {"outputs", "median", "truth"}
    assert all(0 <= value <= 100 for row in rows.values() for value in row.values())    # percent
    assert not any(tmp_path.iterdir())


@pytest.mark.host
def test_what_a_control_of_cyclegan_leaves_out_has_no_weight():
    from cyclegan_mnist import CONTROLS
    game = GAMES["cyclegan"](*GAMES["cyclegan"].networks(4))
    for settings in CONTROLS.values():
        assert not any(settings.values()) and all(getattr(game, name) for name in settings)


def test_integers_are_no_images_to_translate():
    """Bytes and floats are; other whole numbers would enter as numbers from 0 to 255."""
    game = Pix2Pix(nn.Conv2d(1, 1, 1), nn.Conv2d(2, 1, 1))
    x = np.full((2, 1, 4, 4), 255)
    assert game.translate(x.astype("uint8")).shape == x.shape
    for dtype in ("int64", "uint16", "bool"):
        with pytest.raises(UserError, match=f"images of dtype {dtype}: convert"):
            game.translate(x.astype(dtype))


def test_the_range_of_g_is_that_of_the_outputs():
    """In a pair the last images are those that G is to draw; the inputs have another range."""
    game = Pix2Pix(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()), nn.Conv2d(2, 1, 1))
    opts = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    heights, drawn = 2 * images(4, 1, 4, 4) - 1, images(4, 1, 4, 4, seed=1)
    x = tuple(map(backend.xp.asarray, (heights, drawn)))
    assert len(list(play(game, itertools.repeat(x), *opts, 4, rng, 2))) == 2
    with pytest.raises(UserError, match="ends in a sigmoid"):
        next(play(game, itertools.repeat(x[::-1]), *opts, 4, rng, 2))


@pytest.mark.host
def test_networks_that_end_in_a_tanh_are_refused():
    """translate() and the pictures take and show images in [0, 1]."""
    tanh = lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.Tanh())
    with pytest.raises(UserError, match="G ends in a tanh.* end it in a sigmoid"):
        Pix2Pix(tanh(), nn.Conv2d(2, 1, 1))
    with pytest.raises(UserError, match="F ends in a tanh"):
        CycleGAN(nn.Conv2d(1, 1, 1), tanh(), Total(1.0), Total(1.0), (1, 4, 4), (1, 4, 4))


def test_images_of_another_scale_are_not_translated():
    """Bytes of 0 and 1 would enter as black, and floats up to 255 as they are."""
    x = np.float32(normal(3, 3, 4, 4) > 0)
    gaugan, pix2pix = GAMES["gaugan"](), Pix2Pix(Stretch(), Total(1.0, 1.0))
    for game, x in ((gaugan, x), (pix2pix, x[:, :1])):
        expected = game.translate(x)
        np.testing.assert_array_equal(game.translate(255 * x.astype(np.uint8)), expected)
        for wrong, words in ((x.astype(np.uint8), "the largest of these is 1"),
                             (255 * x, "takes pixels from 0 to 1"), (x > 0, "of dtype bool")):
            with pytest.raises(UserError, match=words):
                game.translate(wrong)
        black = np.zeros_like(x)
        np.testing.assert_array_equal(game.translate(black), game.translate(black.astype("uint8")))


@pytest.mark.host
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("colours", [1, 3])
def test_maps_of_classes_are_shown_beside_images(classes, colours):
    """A binary mask has two planes, which are no image of their own."""
    maps = np.eye(classes, dtype=np.float32)[np.arange(2 * 16).reshape(2, 4, 4) % classes]
    shown = join_pictures(maps.transpose(0, 3, 1, 2), images(2, colours, 4, 4))
    assert shown.shape == (4, colours, 4, 4)
    assert set(np.unique(shown[0])) == {np.float32(i / (classes - 1)) for i in range(classes)}


@pytest.mark.parametrize("make", [
    digits_networks.generator, digits_networks.discriminator, dcgan.generator, dcgan.discriminator,
    lambda: unet.generator(1, (1, 16, 16), 4, (1, 2, 4)), lambda: patch.discriminator((2, 28, 28))])
def test_a_layer_before_batch_normalisation_has_no_bias(make):
    """The normalisation subtracts it, so that it would be a parameter without an effect."""
    layers = [[layer for layer in part.layers if not isinstance(layer, nn.Reshape)]
              for _, part in make().modules() if nn.module.is_sequential(part)]
    before = [a for each in layers for a, b in zip(each, each[1:]) if isinstance(b, nn.BatchNorm)]
    assert len(before) >= 2 and all(layer.bias is None for layer in before)


class Seen(nn.Module):
    """A classifier of images of 2x2 pixels that keeps what it was given."""

    def __init__(self):
        self.layer, self.batches = nn.Sequential(nn.Flatten(), nn.Dense(4, 2)), []

    def forward(self, x):
        self.batches.append(x.numpy())
        return self.layer(x)


def test_a_classifier_is_trained_on_minibatches_of_all_images():
    x = np.full((50, 1, 2, 2), np.arange(50, dtype="float32").reshape(50, 1, 1, 1) / 50)
    net = train_classifier(Seen, x, np.arange(50) % 2, 60, m=8)
    assert [len(batch) for batch in net.batches] == [8] * 60
    assert len(np.unique(net.batches)) == 50        # with this seed; of 480 draws one might miss


@pytest.mark.numpy_only("the settings are the same on every backend")
@pytest.mark.parametrize("call, task, betas, rates", [
    ("pix2pix_mnist", "half", (0.5, 0.999), [(2e-4, 2e-4, 2e-4)] * 2),
    ("cyclegan_mnist", "outline", (0.5, 0.999), [(2e-4, 2e-4, 0.0)] * 2),
    ("stargan_mnist", "styles", (0.5, 0.999), [(2e-4, 2e-4, 0.0)] * 2),
    ("stargan_mnist --wgan-gp", "styles", (0.0, 0.9), [(1e-3, 1e-3, 0.0)] * 2),
    ("stargan_mnist --paper", "styles", (0.5, 0.999), [(1e-4, 1e-4, 0.0)] * 2),
    ("spade_scenes", None, (0.0, 0.9), [(8e-4,) * 3, (2e-4,) * 3])])
def test_the_optimisers_of_the_translating_scripts(call, task, betas, rates, few):
    """Adam's betas, and the learning rates at the first step, after half of them and at the end."""
    whole = tasks.make_task(task, few) if task else tasks.load_scenes(16)
    made = whole._replace(test=whole.test.part(slice(0)), place="mine")     # nothing to measure
    script = catch_training(*call.split(), data=made)
    game, args = script.game, script.args
    assert script.batches.m == args.batch_size
    assert game.d_steps == (5 if "--paper" in call else 1)
    for opt, parameters, steps, expected in zip(
            (script.d_opt, script.g_opt), (game.d_parameters(), game.g_parameters()),
            (game.d_steps * args.steps, args.steps), rates, strict=True):
        assert opt.parameters == parameters and opt.betas == betas
        found = [value_at(opt.lr, t) for t in (0, steps / 2, steps)]
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.numpy_only("the settings are the same on every backend")
@pytest.mark.parametrize("flag", ["--paper", "--wgan-gp"])
def test_stargans_penalty_is_the_papers(flag, few, monkeypatch):
    """For y = 2 x - 1, |dD/dx| is 2 |dD/dy|: 10 (|dD/dy| - 1)^2 is 2.5 (|dD/dx| - 2)^2."""
    import stargan_mnist
    made = tasks.make_task("styles", few)._replace(test=few.test.part(slice(0)))
    monkeypatch.setattr(stargan_mnist, "make_networks", lambda *_: (nn.Dense(1, 1), nn.Dense(1, 1)))
    game = catch_training("stargan_mnist", flag, data=made).game
    assert game.penalties == [penalties.GradientPenalty(lam=10 * 0.5 ** 2, target=1 / 0.5)]


def test_the_convolutions_in_the_spade_generators_blocks_have_spectral_normalisation():
    """All but those inside a SPADE layer."""
    for join in (False, True):
        G = spade.generator(3, (1, 16, 16), 5, 2, 2, 4, join=join)
        inside = {part for _, layer in G.modules() if isinstance(layer, nn.SPADE)
                  for _, part in layer.modules()}
        found = [part for block in G.layers if isinstance(block, nn.Residual)
                 for _, part in block.modules() if isinstance(part, nn.Conv2d)
                 and part not in inside]
        assert len(found) == 2 * 3 + 2 and all(hasattr(part, "weight_u") for part in found)


def test_the_u_nets_convolutions_follow_leaky_relus_and_the_transposed_ones_relus():
    """Isola et al. 2017, section 6.1.1; before the first convolution there is nothing."""
    G = unet.generator(3, (1, 16, 16), 2, (1, 2, 4, 4))
    kinds = [type(layer) for _, layer in G.modules() if isinstance(layer, (
        nn.Conv2d, nn.ConvTranspose2d, nn.LeakyReLU, nn.ReLU))]
    assert kinds == [nn.Conv2d, *[nn.LeakyReLU, nn.Conv2d] * 3, *[nn.ReLU, nn.ConvTranspose2d] * 4]


@pytest.mark.parametrize("network", [
    lambda: unet.generator(3, (1, 16, 16), 8, (1, 2, 4)), lambda: resnet.generator(3, (1, 8, 8), 8),
    lambda: patch.discriminator((3, 24, 24), 8, 2)], ids=["unet", "resnet", "patch"])
def test_the_initial_weights_of_translating_networks_are_small(network):
    """They are N(0, 0.02^2) and gains N(1, 0.02^2), as measured within five standard errors."""
    for _, layer in network().modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm)):
            w, mean = layer.weight.numpy(), int(isinstance(layer, nn.BatchNorm))
            assert abs(w.mean() - mean) < 5 * 0.02 / math.sqrt(w.size)
            assert abs(w.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * w.size)


def test_networks_take_batch_normalisation_without_gains():
    """There are none to initialise."""
    norm = lambda n: nn.BatchNorm(n, affine=False)
    for network in (unet.generator(1, (1, 8, 8), 2, (1, 2, 4), norm=norm),
                    patch.discriminator((1, 24, 24), 2, norm=norm)):
        assert not any(p.ndim == 1 and name.endswith("weight")
                       for name, p in network.named_arrays(Tensor).items())


def test_the_residual_generators_normalisation_has_weights_only_if_asked():
    for affine, flags in ((False, {}), (True, dict(affine=True))):
        G = resnet.generator(3, (1, 8, 8), 2, 1, **flags)
        norms = [layer for _, layer in G.modules() if isinstance(layer, nn.InstanceNorm2d)]
        assert len(norms) == 7 and all((norm.weight is not None) == affine for norm in norms)


def test_a_pool_may_be_padded_by_half_its_size():
    x = tensor(np.arange(4.0).reshape(1, 1, 1, 4).repeat(4, 2))
    means = resampling.avg_pool(x, 2, 2, 1).numpy()[0, 0]
    np.testing.assert_allclose(means, [[0, 1.5, 3]] * 3, **ROUNDING)


def test_a_discriminator_of_pixels_takes_one_pixel():
    D = patch.discriminator((3, 1, 1), 2, 0)
    assert D(tensor(normal(2, 3, 1, 1), "float32")).shape == (2, 1, 1, 1)


@pytest.mark.numpy_only("messages are the same on every backend")
def test_the_pictures_of_translations_need_a_data_set():
    for game in (Pix2Pix(Stretch(), Total(1.0)), make_cyclegan()):
        with pytest.raises(UserError, match="source=data.valid"):
            game.fixed_inputs(None, 8, Random(0))


@pytest.mark.host
@pytest.mark.parametrize("name", ["styles", "colours"])
def test_training_images_come_in_one_domain_each(name, few):
    """The same image in all domains is for measuring: it would take as many times the memory."""
    assert ["truths" in split for split in tasks.make_task(name, few)[:3]] == [False, True, True]


def test_the_spade_generators_convolutions_follow_a_leaky_relu():
    """The shortcut's follows its SPADE layer (Park et al. 2019, figure 4)."""
    G = spade.generator(3, (1, 16, 16), 5, 2, 1, 4)
    for block in (layer for layer in G.layers if isinstance(layer, nn.Residual)):
        kinds = [type(layer) for layer in block.inner.layers]
        assert kinds == [nn.SPADE, nn.LeakyReLU, nn.Conv2d] * 2
    assert [type(layer) for layer in block.shortcut.layers] == [nn.SPADE, nn.Conv2d]


@pytest.mark.parametrize("n", [1, 2])
def test_an_image_that_is_moved_by_a_step_has_moved_scores(n):
    """Except at the border; the scores are 2^n pixels apart."""
    step, width = 2 ** n, patch.receptive_field(n)
    size = 4 * width
    D = patch.discriminator((1, size, size), 1, n, norm=lambda n: nn.Sequential())
    x = images(1, 1, size, size)
    scores, moved = (D(tensor(a)).numpy()[0, 0] for a in (x, np.roll(x, step, 3)))
    assert scores.shape == (size // step - 2,) * 2
    inside = slice(width // step + 2, -width // step - 2)
    assert scores[inside, inside].size >= 36
    np.testing.assert_allclose(moved[inside, inside], np.roll(scores, 1, 1)[inside, inside],
                               **CLOSE)


def test_predictions_depend_on_neither_the_piece_nor_the_mode():
    """The network is in evaluation mode meanwhile, and then in the mode that it had."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm(4), nn.Dropout(0.5), nn.Dense(4, 3))
    x = images(7, 1, 2, 2)
    whole = predict(net.eval(), x)
    assert len(whole) == 7
    before = net.train().state_dict()
    for piece in (1, 3, 7):
        assert (predict(net, x, piece=piece) == whole).all()
    assert net.training and all((a == before[name]).all() for name, a in net.state_dict().items())
