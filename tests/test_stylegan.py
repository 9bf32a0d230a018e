"""Tests of StyleGAN: its layers, its networks, the example, and what is measured of styles."""

import json
import re

import numpy as np
import pytest

from tinygan import (Tensor, check_grads, grad, nn, no_grad, ops, optim, resampling,
                     to_numpy)
from tinygan.conv import conv2d
from tinygan.data import Split, mnist
from tinygan.games import Game, losses
from tinygan.metrics import (classifier, compute_precision_recall, frechet_distance,
                             measure_path_length)
from tinygan.metrics.classifier import Classified
from tinygan.networks import stylegan
from tinygan.random import Random
from tinygan.runs.description import build, describe
from tinygan.tensor import broadcast_to

from helpers import catch_training, device, error_of, normal, tensor
from test_examples import run
from test_image import read_png


def draw(*shape, seed=0):
    """Return a float32 Tensor of this shape from N(0, 1)."""
    return tensor(normal(*shape, seed=seed), "float32")


def make_generator(**settings):
    """Return a small G for images of 8x8 pixels, with noise that matters."""
    G = stylegan.Generator(5, (1, 8, 8), (4, 3), w_size=6, depth=2, **settings)
    for _, layer in G.modules():
        if isinstance(layer, nn.AddNoise):
            layer.weight.data += 0.5
    return G


# Equalised learning rates

EQUALISED = {   # layer, shape of its input, number of weights of an output
    "Dense": (lambda: nn.Dense(200, 150), (2, 200), 200),
    "Conv2d": (lambda: nn.Conv2d(20, 15, (3, 5)), (2, 20, 5, 6), 300),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(20, 15, (3, 5)), (2, 20, 3, 4), 300),
    "Embedding": (lambda: nn.Embedding(150, 200), None, 200),
}


@pytest.mark.parametrize("name", EQUALISED)
@pytest.mark.parametrize("gain, lr_multiplier", [(2 ** 0.5, 1.0), (1.0, 0.01)])
def test_equalise(name, gain, lr_multiplier):
    """w_hat has the standard deviation gain / sqrt(fan_in), and w 1 / lr_multiplier."""
    make, shape, fan_in = EQUALISED[name]
    layer = nn.equalise(make(), gain, lr_multiplier)
    # the deviation of 4,500 numbers or more is exact to 1 / sqrt(2 * 4500), about 1 %
    assert layer.weight_raw.numpy().std() == pytest.approx(1 / lr_multiplier, rel=0.05)
    w_hat = nn.effective_weight(layer)
    assert w_hat.numpy().std() == pytest.approx(gain / fan_in ** 0.5, rel=0.05)
    np.testing.assert_allclose(
        w_hat.numpy(), layer.weight_raw.numpy() * gain / fan_in ** 0.5 * lr_multiplier, rtol=1e-6)
    if shape is not None:       # it computes what a plain layer with w_hat and the scaled bias does
        layer.bias.data += 1.0
        plain, x = make(), draw(*shape)
        plain.weight.data[...], plain.bias.data[...] = w_hat.data, lr_multiplier
        np.testing.assert_allclose(layer(x).numpy(), plain(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.1])
def test_all_equalised_weights_learn_equally_fast(lr_multiplier):
    """Adam's first step is lr for each number of w, so it is c lr for w_hat.

    Relative to its standard deviation gain / sqrt(fan_in), each w_hat changes by lr_multiplier lr,
    whatever fan_in and gain are; and the bias by lr_multiplier lr.
    """
    for n_in, gain in (4, 1.0), (100, 2 ** 0.5):
        layer = nn.equalise(nn.Dense(n_in, 3), gain, lr_multiplier)
        opt = optim.Adam(layer.parameters(), 1e-3)
        w, b = nn.effective_weight(layer).numpy().copy(), nn.effective_bias(layer).numpy().copy()
        opt.step(grad((layer(draw(7, n_in)) ** 2).sum(), opt.parameters))
        change = abs(nn.effective_weight(layer).numpy() - w) * n_in ** 0.5 / gain
        # differences of float32 numbers, and eps of Adam
        np.testing.assert_allclose(change, lr_multiplier * 1e-3, rtol=0.02)
        np.testing.assert_allclose(abs(nn.effective_bias(layer).numpy() - b), lr_multiplier * 1e-3,
                                   rtol=0.02)


def test_what_equalise_refuses():
    dense = nn.Dense(3, 2)
    assert "equalise takes a Dense" in error_of(nn.equalise, nn.ReLU())
    assert "under spectral_norm" in error_of(nn.equalise, nn.spectral_norm(nn.Dense(3, 2)))
    assert "under weight_norm" in error_of(nn.equalise, nn.weight_norm(nn.Dense(3, 2)))
    assert "under equalise" in error_of(nn.spectral_norm, nn.equalise(nn.Dense(3, 2)))
    assert "under equalise" in error_of(nn.weight_norm, nn.equalise(nn.Dense(3, 2)))
    assert "the gain of equalise is a number above 0, got 0" in error_of(nn.equalise, dense, 0)
    assert "the lr_multiplier of equalise is" in error_of(nn.equalise, dense, 1.0, -1)
    assert hasattr(dense, "weight")         # nothing was changed
    assert nn.equalise(nn.equalise(dense)) is dense and len(dense._changes) == 1
    assert "equalised already, with another gain" in error_of(nn.equalise, dense, 1.0)
    with pytest.raises(AttributeError, match="write nn.effective_weight"):
        dense.weight


def test_an_equalised_layer_is_described_with_its_numbers():
    layer, x = nn.equalise(nn.Dense(4, 3), 0.5, 0.1), draw(2, 4)
    layer.bias.data += 1.0
    built = build(json.loads(json.dumps(describe(layer))), [], 100)
    built.load_state_dict(layer.state_dict())
    assert (built(x).numpy() == layer(x).numpy()).all()


# The layers

def test_pixel_norm():
    for shape in (5, 4), (2, 3, 4, 5):
        x = normal(*shape)
        y = nn.PixelNorm()(tensor(x)).numpy()
        np.testing.assert_allclose((y ** 2).mean(1), 1, rtol=1e-6)
        np.testing.assert_allclose(y, x / np.sqrt((x ** 2).mean(1, keepdims=True)), rtol=1e-6)
    assert (nn.PixelNorm()(tensor(np.zeros((2, 3)))).numpy() == 0).all()
    assert "eps" in error_of(nn.PixelNorm, -1) and "eps" in error_of(nn.AdaIN, 3, 6, -1)


def test_adain_gives_each_channel_mean_and_deviation_of_its_style():
    """Whatever mean and deviation the channel had before (eq. 1)."""
    layer, w = nn.AdaIN(3, 6), draw(2, 6)
    style = layer.style(w).numpy()
    for factor in 1.0, 50.0:
        y = layer(draw(2, 3, 5, 4) * factor + factor, w).numpy()
        # float32 sums of 20 numbers
        np.testing.assert_allclose(y.mean((2, 3)), style[:, 3:], atol=1e-5)
        np.testing.assert_allclose(y.std((2, 3)), abs(1 + style[:, :3]), rtol=1e-4)
    layer.style.weight_raw.data[...] = 0        # then the style is (1, 0)
    x = draw(2, 3, 5, 4)
    np.testing.assert_allclose(layer(x, w).numpy(), nn.InstanceNorm2d(3, 1e-8)(x).numpy(),
                               rtol=1e-6, atol=1e-6)
    assert "a style for each, got (2, 3, 5, 4) and (1, 6)" in error_of(layer, x, w[:1])
    assert "more than one pixel" in error_of(layer, draw(2, 3, 1, 1), w)


def test_noise_is_the_same_for_all_channels_and_new_in_each_call():
    layer, x = nn.AddNoise(3), draw(4, 3, 5, 6)
    assert (layer(x).numpy() == x.numpy()).all()
    layer.weight.data[...] = device(np.float32([1, -2, 0]))
    for part in (layer, layer.eval()):
        with nn.use_random(Random(1)):
            one, two = ((part(x) - x).numpy() for _ in range(2))
        for added in one, two:
            np.testing.assert_allclose(added[:, 1], -2 * added[:, 0], atol=1e-5)
            assert (added[:, 2] == 0).all()
        noise = np.concatenate([one[:, 0], two[:, 0]])      # 240 independent numbers
        assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.2
        assert len(np.unique(noise)) == 240
    for shape in (2, 3), (2, 1, 4, 4):
        words = f"AddNoise(3) needs images (N, 3, H, W), got {shape}"
        assert words in error_of(layer, draw(*shape))


def test_the_learned_input_is_the_same_for_all_samples():
    # the deviation of 800 numbers is exact to 1 / sqrt(1600)
    assert nn.LearnedInput(8, 10, 10).weight.numpy().std() == pytest.approx(1, abs=0.1)
    layer = nn.LearnedInput(3, 4, 5)
    y = layer(draw(6, 2))
    assert y.shape == (6, 3, 4, 5) and (y.numpy() == layer.weight.numpy()).all()
    (g,) = grad(y.sum(), [layer.weight])
    assert (g.numpy() == 6).all()


def test_bilinear_enlargement_is_nearest_and_a_binomial_filter():
    """That is how the paper implements it (section 2), except for the pixels at the edge."""
    x = draw(2, 3, 4, 5)
    y = nn.Upsample(2, "bilinear")(x).numpy()
    assert y.shape == (2, 3, 8, 10)
    nearest = np.pad(nn.Upsample(2)(x).numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], "edge")
    rows = nearest[:, :, :-2] + 2 * nearest[:, :, 1:-1] + nearest[:, :, 2:]
    filtered = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
    np.testing.assert_allclose(y, filtered, rtol=1e-5, atol=1e-6)
    assert "nearest" in error_of(nn.Upsample, 2, "cubic")


# The networks

def test_the_generator_is_the_papers():
    """Figure 1b, written out: each layer is a convolution, noise, leaky ReLU and AdaIN."""
    G, z = make_generator().eval(), draw(2, 5)
    p = {name: nn.effective_weight(layer) for name, layer in G.modules()
         if isinstance(layer, (nn.Dense, nn.Conv2d))}
    bias = {name: nn.effective_bias(dict(G.modules())[name]) for name in p}
    for name, b in bias.items():
        b.data[...] = device(normal(*b.shape))
    with nn.use_random(Random(2)):
        y = G(z).numpy()

    w = z / ops.sqrt((z * z).mean(1, keepdims=True))
    for i in 1, 3:
        w = ops.leaky_relu(ops.linear(w, p[f"f.{i}."], G.f[i].bias * 0.01), 0.2)
    noise, x = Random(2), broadcast_to(G.layers[0][0].weight, (2, 4, 4, 4))
    for i, layer in enumerate(G.layers):
        if i == 2:
            x = resampling.resize(x, (8, 8), resampling.bilinear)
        if i > 0:
            name = f"layers.{i}.{int(i == 2)}."
            x = conv2d(x, p[name], bias[name], padding=1)
        B = layer[-3].weight
        assert layer[-3].n == len(B)
        x = x + B.reshape(-1, 1, 1) * noise.normal((2, 1, *x.shape[2:]))
        x = ops.leaky_relu(x, 0.2)
        x = (x - x.mean((2, 3), keepdims=True)) / ops.sqrt(
            ((x - x.mean((2, 3), keepdims=True)) ** 2).mean((2, 3), keepdims=True) + 1e-8)
        style = ops.linear(w, layer[-1].style.weight_raw * (1 / 6 ** 0.5), layer[-1].style.bias)
        n = x.shape[1]
        x = (1 + style[:, :n].reshape(2, n, 1, 1)) * x + style[:, n:].reshape(2, n, 1, 1)
    x = ops.sigmoid(conv2d(x, p["to_image.0."], G.to_image[0].bias))
    # float32 numbers of size 1 through four normalisations
    np.testing.assert_allclose(y, x.numpy(), atol=1e-4)


def test_the_discriminator_and_all_gains():
    """A layer before a leaky ReLU has the gain sqrt(2), and others have 1."""
    D, G = stylegan.discriminator((1, 8, 8), (4, 3, 2)), make_generator()
    conv, rectify, dense = nn.Conv2d, nn.LeakyReLU, nn.Dense
    block = [conv, rectify, nn.AvgPool2d, conv, rectify]
    assert [type(layer) for layer in D.layers] == [
        conv, rectify, *block, *block, nn.MinibatchStddev, conv, rectify, nn.Flatten, dense,
        rectify, dense]
    assert [layer.c_out for layer in D.layers if type(layer) is conv] == [2, 2, 3, 3, 4, 4]
    assert {layer.slope for layer in D.layers if type(layer) is rectify} == {0.2}
    assert D[12].group is None
    plain = {D[-1], G.to_image[0], *(layer[-1].style for layer in G.layers)}
    for _, layer in (*D.modules(), *G.modules()):
        if isinstance(layer, (nn.Dense, nn.Conv2d)):
            fan_in = layer.weight_raw.size / len(layer.weight_raw)
            gain = layer.weight_scale * fan_in ** 0.5 / layer.bias_scale
            assert gain == pytest.approx(1 if layer in plain else 2 ** 0.5)


def test_each_layer_has_its_own_style():
    """A change of w in one layer changes the image, and a change in a later one another way."""
    G, w, other = make_generator().eval(), draw(2, 6), draw(2, 6, seed=1)
    n = len(G.layers)
    assert n == 4       # two for each resolution
    images = []
    for changed in (None, *range(n)):
        with nn.use_random(Random(0)):
            images.append(G.synthesise([other if i == changed else w for i in range(n)]).numpy())
    assert images[0].shape == (2, 1, 8, 8) and 0 < images[0].min() and images[0].max() < 1
    for i, a in enumerate(images):
        assert all(abs(a - b).max() > 1e-3 for b in images[:i])


def test_the_layers_from_the_crossover_on_have_the_other_style():
    G, z, other = make_generator().eval(), draw(3, 5), draw(3, 5, seed=1)
    w, w2 = G.f(z), G.f(other)

    def compute(f, *inputs):
        with nn.use_random(Random(0)):
            return f(*inputs).numpy()
    mixed = compute(G, z, other, device([0, 3, 4]))
    for row, styles in enumerate(([w2] * 4, [w, w, w, w2], [w] * 4)):
        expected = compute(G.synthesise, styles)
        np.testing.assert_allclose(mixed[row], expected[row], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compute(G, z), compute(G.synthesise, [w] * 4), rtol=1e-6)


def test_the_share_of_mixed_samples_in_training():
    """A share `mixing` has two styles, and each layer but the first is as often the crossover."""
    G, seen = make_generator(mixing=0.6), []
    G.synthesise = lambda ws: seen.append([w.numpy().copy() for w in ws]) or ws[0]
    z = draw(4000, 5)
    G(z)
    own = G.f(z).numpy()
    places = sum(np.isclose(w, own, rtol=1e-4, atol=1e-5).all(1).astype(int) for w in seen[0])
    assert places.min() == 1        # the first layer always has the own style
    shares = np.bincount(places, minlength=5) / 4000
    # binomial standard deviations are below 0.008
    np.testing.assert_allclose(shares, [0, 0.2, 0.2, 0.2, 0.4], atol=0.03)
    for G in (make_generator(mixing=0.6).eval(), make_generator(mixing=0)):
        G.synthesise = lambda ws: seen.append(ws) or ws[0]
        G(z)
        assert all((w.numpy() == seen[-1][0].numpy()).all() for w in seen[-1])


def test_truncation_pulls_w_towards_its_mean():
    """w_mean is a moving average of the means of w over the minibatches of the training."""
    G, expected = make_generator(), 0
    for i in range(3):
        z = draw(16, 5, seed=i)
        with no_grad():
            G(z)
        expected = 0.995 * expected + 0.005 * G.f(z).numpy().mean(0)
        np.testing.assert_allclose(to_numpy(G.w_mean), expected, rtol=1e-4, atol=1e-6)
    w = draw(3, 6)
    for psi, found in (1, w.numpy()), (0, expected), (-1, 2 * expected - w.numpy()):
        np.testing.assert_allclose(G.truncate(w, psi).numpy(), np.broadcast_to(found, (3, 6)),
                                   rtol=1e-4, atol=1e-6)
    G.eval()(z)
    np.testing.assert_allclose(to_numpy(G.w_mean), expected, rtol=1e-4, atol=1e-6)


def test_without_noise_an_image_depends_on_z_alone():
    G, z = make_generator(noise=False, mixing=0), draw(3, 5)
    assert (G(z).numpy() == G(z).numpy()).all()
    G = make_generator(mixing=0)
    assert not (G(z).numpy() == G(z).numpy()).all()


@pytest.mark.parametrize("make, shapes", [
    (nn.PixelNorm, [(3, 4)]), (nn.PixelNorm, [(2, 3, 2, 2)]),
    (lambda: nn.AdaIN(3, 4), [(2, 3, 3, 2), (2, 4)]),
    (lambda: nn.AddNoise(3), [(2, 3, 3, 2)]), (lambda: nn.LearnedInput(3, 2, 2), [(2, 3)]),
    (lambda: nn.equalise(nn.Dense(4, 3), lr_multiplier=0.5), [(5, 4)]),
    (lambda: nn.equalise(nn.Conv2d(3, 2, 2)), [(2, 3, 3, 4)]),
    (lambda: nn.Upsample(2, "bilinear"), [(2, 3, 3, 2)]),
    (lambda: stylegan.discriminator((1, 4, 4), (2, 2)), [(3, 1, 4, 4)]),
], ids=["PixelNorm", "PixelNorm of images", "AdaIN", "AddNoise", "LearnedInput", "equalise Dense",
        "equalise Conv2d", "Upsample", "discriminator"])
def test_derivatives_to_second_order(make, shapes):
    check_grads(make(), *[normal(*shape, seed=i) for i, shape in enumerate(shapes)])


@pytest.mark.parametrize("shape, channels", [((1, 28, 28), (32, 16, 8)), ((3, 16, 24), (4, 3))])
def test_sizes(shape, channels):
    G, D = stylegan.Generator(5, shape, channels), stylegan.discriminator(shape, channels)
    x = G(draw(4, 5))
    assert x.shape == (4, *shape) and D(x).shape == (4, 1)
    assert len(G.layers) == 2 * len(channels)
    lowest = G.layers[0][0]
    factor = 2 ** (len(channels) - 1)
    assert lowest.shape == (channels[0], shape[1] // factor, shape[2] // factor)


def test_what_the_networks_refuse():
    for make in stylegan.Generator, lambda _, *rest: stylegan.discriminator(*rest):
        assert "multiples of 4, not 30x28 pixels" in error_of(make, 5, (1, 30, 28), (4, 4, 4))
        for channels in (), 4, (4, 0):
            assert "at least one resolution" in error_of(make, 5, (1, 28, 28), channels)
    assert "mixing is a probability" in error_of(make_generator, mixing=1.5)
    G, z = make_generator(), draw(2, 5)
    for others in [z], [None, device([1, 1])], [z, device([1])], [z[:1], device([1, 1])], [z, 2]:
        assert "are mixed by further noise of that shape" in error_of(G, z, *others)
    for depth in 0, 1.5:
        assert "the number of layers of f" in error_of(stylegan.Generator, depth=depth)
    assert "each of 4 layers needs a w, got 3" in error_of(G.synthesise, [draw(2, 6)] * 3)


# The measures and the pictures

def test_path_length():
    """Of a straight line it is the square of its length, and of a curve the mean square speed."""
    x = normal(1000, 3)
    assert measure_path_length(x, x + np.array([0.03, 0, 0.04]), 0.01) == pytest.approx(25)
    speeds = np.arange(1.0, 1001.0)
    found = measure_path_length(np.zeros((1000, 1)), 0.1 * speeds[:, None], 0.1)
    assert found == pytest.approx((speeds[9:991] ** 2).mean(), rel=1e-9)    # without 1 % each
    assert "two ends" in error_of(measure_path_length, x, x[:5], 0.1)
    for eps in 0, np.inf:
        assert "eps is a finite number above 0" in error_of(measure_path_length, x, x, eps)


@pytest.fixture
def game(monkeypatch):
    """Return a game whose G has six layers and draws one number in each pixel of a sample.

    It is 10 w[0] + w[4] and noise of 0.05, where w[i] is the first number of the w of layer i. The
    weights of G's average are others.
    """
    def synthesise(self, ws):
        noise = nn.current_random().normal((len(ws[0]), 1))
        number = ws[0][:, :1] * 10.0 + ws[4][:, :1] + noise * 0.05
        return broadcast_to(number.reshape(-1, 1, 1, 1), (len(number), 1, 28, 28))
    monkeypatch.setattr(stylegan.Generator, "synthesise", synthesise)
    G = stylegan.Generator(5, (1, 28, 28), (4, 3, 2), w_size=6, depth=1)
    game = Game(G, stylegan.discriminator((1, 28, 28), (4, 3, 2)), 5)
    game.keep_average(0.5)
    for p in G.f.parameters():
        p.data[...] = device(normal(*p.shape, seed=3) * 100)
    G.w_mean[0] = 3
    game.update_averages()
    return game


def first(game, z):
    """Return the first number of the average's w for each z, (m, 5) on the host."""
    return game.averages["G"].f(Tensor(device(np.float32(z)))).numpy()[:, 0].astype(float)


def test_the_picture_of_mixed_styles(game):
    """Row i has the first layers' style of z[i], and column j the other layers' of other[j]."""
    import sample
    z, other = np.float32(normal(2, 5)), np.float32(normal(2, 5, seed=1))
    a, b = first(game, z), first(game, other)
    found = sample.draw_mixed(game, z, other, 2)[:, 0, 0, 0].reshape(3, 3)
    assert found[0, 0] == 1
    for part, expected in ((found[0, 1:], 11 * b), (found[1:, 0], 11 * a),
                           (found[1:, 1:], 10 * a[:, None] + b)):
        np.testing.assert_allclose(part, expected, atol=0.25)       # five times the noise


def test_the_picture_of_truncated_styles(game):
    import sample
    z = np.float32(normal(2, 5))
    found = sample.draw_truncated(game, z, 5)[:, 0, 0, 0].reshape(2, 5)
    psi = np.array([1, 0.5, 0, -0.5, -1])
    noise = found - 11 * (3 + psi * (first(game, z)[:, None] - 3))
    assert (abs(noise) < 0.25).all() and (abs(noise) > 1e-5).all()
    np.testing.assert_allclose(noise, noise[:, :1].repeat(5, 1), atol=1e-4)     # one for each row


def test_what_evaluate_measures_of_styles(game, monkeypatch):
    """The "class" is whether the number is below 0; the style of layer 0 nearly decides it."""
    import evaluate
    from sample import spherical

    def classify(net, images):
        number = images[:, 0, 0, 0].astype(float)
        return Classified(number[:, None], np.stack([number < 0, number >= 0], 1))
    monkeypatch.setattr(classifier, "classify", classify)
    monkeypatch.setattr(evaluate, "PIECE", 30)
    z = to_numpy(game.latent(400, Random(0)).data)
    real = normal(50, 1, 28, 28)
    found = evaluate.measure_styles(game, z, Split(images=real), None, 0)
    stream = Random(1)
    other = to_numpy(game.latent(400, stream).data)
    a, b = first(game, z), first(game, other)
    differ = a * b < 0      # their own samples are 11 a and 11 b
    for k in range(1, 6):
        # with k = 5 the layers 0 and 4 have the style of z
        expected = 1.0 if k == 5 else float((a * (10 * a + b) > 0)[differ].mean())
        # of some samples the noise changes the class
        assert found[f"mixed from {k}"] == pytest.approx(
            {"as z": expected, "as other": 1 - expected}, abs=0.02)
    assert 0.55 < found["mixed from 4"]["as z"] < 0.95

    real = real[:, 0, 0, :1]
    crossover = 1 + to_numpy(stream.integers(5, (400,)))
    for row, number in (("psi 0.7", 11 * (3 + 0.7 * (a - 3))),
                        ("mixed", 10 * a + np.where(crossover > 4, a, b))):
        precision, recall = compute_precision_recall(real, number[:, None])
        expected = {"Frechet": frechet_distance(number[:, None], real), "precision": precision,
                    "recall": recall}
        assert found[row] == pytest.approx(expected, rel=0.05)
    # without noise, since it does not change on a path
    z, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, other))
    t = to_numpy(stream.uniform(0, 1, (400, 1)))
    for row, steps in (
            ("path in w", 11 * (first(game, other) - first(game, z))),
            ("path in z", 11 * (first(game, spherical(z, other, t + 0.01))
                                - first(game, spherical(z, other, t))) / 0.01)):
        expected = np.sort(steps ** 2)[3:-3].mean()
        # differences of float32 numbers of size 30 divided by 0.01
        assert found[row]["path length"] == pytest.approx(expected, rel=0.01)


@pytest.mark.host
def test_a_run_is_sampled_and_evaluated(tmp_path):
    process = run("stylegan_mnist.py", "--steps", 2, "--batch-size", 8, "--data", "sample",
                  "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = run("sample.py", "run", "--columns", 3, cwd=tmp_path)
    assert "mixed-2.png, mixed-4.png, truncated.png in" in process.stdout, process.stderr
    for k in 2, 4:
        shape = read_png(tmp_path / f"run/pictures/mixed-{k}.png").shape[:2]
        assert shape == (9 * 60 - 4, 9 * 60 - 4)
    process = run("evaluate.py", "run", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    for row in "mixed ", "psi 0.7", "path in z", "path in w":
        assert re.search(rf"^{row} .*\d", process.stdout, re.M), row


def test_the_figures_of_the_table_of_styles(tmp_path):
    import tables
    rows = {f"mixed from {k}": {"as z": k / 10, "as other": 1 - k / 10} for k in range(1, 6)}
    usual = dict(precision=0.5, recall=0.25, KID=1.0)
    rows |= {"samples": dict(usual, Frechet=4.0), "training images": dict(usual, Frechet=0.5),
             "mixed": dict(usual, Frechet=6.0), "psi 0.7": dict(usual, Frechet=5.0),
             "path in z": {"path length": 300.0}, "path in w": {"path length": 100.0}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"measures": rows}))
    found = tables.read_styles("A", [["stylegan_mnist.py"], ["evaluate.py", str(tmp_path)]], [])
    shown = {"precision": 0.5, "recall": 0.25}
    assert found == {
        "A": {"Frechet": 4, **shown, "Frechet, mixed": 6, "7x7 %": 20, "7x7, 14x14 %": 40,
              "28x28 %": 60, "path in z": 300, "path in w": 100},
        "A, psi 0.7": {"Frechet": 5, **shown}, "training images": {"Frechet": 0.5, **shown}}


# The example

@pytest.mark.parametrize("flags, mixing, noise", [([], 0.9, 6), (["--mixing", 0], 0, 6),
                                                  (["--mixing", 1], 1, 6),
                                                  (["--no-noise"], 0.9, 0)])
def test_the_settings_of_the_example(flags, mixing, noise):
    """Adam's beta1 is 0 and beta2 0.99, as in the paper; its learning rate falls to 0."""
    call = catch_training("stylegan_mnist", *flags, data=mnist.load_sample())
    G = call.game.G
    assert G.mixing == mixing and call.game.loss == losses.NonSaturating()
    assert [type(layer) for _, layer in G.modules()].count(nn.AddNoise) == noise
    for opt, lr in (call.d_opt, 5e-3), (call.g_opt, 1e-2):
        assert type(opt) is optim.Adam and opt.betas == (0.0, 0.99)
        assert [opt.lr(t) for t in (0, 2000, 4000)] == pytest.approx([lr, lr / 2, 0])
    rates = [layer.bias_scale for layer in G.f.layers if isinstance(layer, nn.Dense)]
    assert rates == [0.01] * 4
