"""Tests of SAGAN: max pooling, self-attention, the networks, the example and its picture."""

import itertools
import json
import re

import numpy as np
import pytest

from tinygan import check_grads, grad, nn, optim, resampling, rng
from tinygan.data import mnist
from tinygan.games import ConditionalGAN, losses
from tinygan.runs.description import build, describe

from helpers import catch_training, device, error_of, normal, tensor, to_float64
from test_examples import run
from test_image import read_png


def make_attention(**settings):
    """Return a layer in float64 with gamma = 0.75, in evaluation mode."""
    layer = nn.SelfAttention2d(8, **settings).eval()
    layer.gamma.data += 0.75
    return to_float64(layer)


# Max pooling

def test_max_pool_is_the_maximum_of_each_block():
    x = normal(2, 3, 7, 5)
    y = nn.MaxPool2d(2)(tensor(x)).numpy()
    assert y.shape == (2, 3, 3, 2)
    for i, j in itertools.product(range(3), range(2)):
        assert (y[:, :, i, j] == x[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].max((2, 3))).all()
    assert (nn.MaxPool2d(1)(tensor(x)).numpy() == x).all()
    for h, w in (4, 5), (5, 4):         # pixels are left over in one direction
        assert (nn.MaxPool2d(2)(tensor(x[:, :, :h, :w])).numpy() == y[:, :, :2, :2]).all()


def test_the_maxima_of_a_block_share_its_gradient():
    x = tensor(np.zeros((1, 1, 4, 4)))
    x.data[0, 0, 1, 2] = 1.0
    x.data[0, 0, 2, 0] = -1.0
    (g,) = grad(resampling.max_pool(x, 2).sum(), [x])
    expected = np.full((4, 4), 1 / 4)       # four equal numbers in a block
    expected[:2, 2:] = [[0, 0], [1, 0]]     # one larger number
    expected[2:, :2] = [[0, 1 / 3], [1 / 3, 1 / 3]]
    np.testing.assert_allclose(g.numpy()[0, 0], expected, rtol=1e-15)


def test_what_max_pool_refuses():
    x = tensor(normal(2, 3, 4, 5))
    for size in 0, 5, 2.0, (2, 2):
        assert "image of 4x5" in error_of(resampling.max_pool, x, size)
    assert "needs images" in error_of(resampling.max_pool, tensor(normal(4, 4)), 2)
    assert "MaxPool2d's size" in error_of(nn.MaxPool2d, 0)


# Self-attention

@pytest.mark.parametrize("pool", [1, 2, 3])
def test_self_attention_equals_a_loop_over_pixels(pool):
    """Equations 1 to 3 of Zhang et al. 2019, for each pixel j by itself."""
    layer, x = make_attention(pool=pool), 3 * normal(2, 8, 4, 6)
    y, beta = layer(tensor(x)).numpy(), layer.attend(tensor(x)).numpy()
    f, g, h, v = (nn.effective_weight(part).numpy()[:, :, 0, 0] for part in
                  (layer.f, layer.g, layer.h, layer.v))
    for n in range(2):
        blocks = [(slice(a, a + pool), slice(b, b + pool)) for a in range(0, 4 - pool + 1, pool)
                  for b in range(0, 6 - pool + 1, pool)]
        f_x, h_x = ([np.einsum("oc,chw->ohw", w, x[n])[:, a, b].max((1, 2)) for a, b in blocks]
                    for w in (f, h))
        for j, (a, b) in enumerate(np.ndindex(4, 6)):
            s = np.array([f_i @ (g @ x[n, :, a, b]) for f_i in f_x])
            weights = np.exp(s) / np.exp(s).sum()
            o = v @ sum(weight * h_i for weight, h_i in zip(weights, h_x))
            np.testing.assert_allclose(beta[n, j], weights, rtol=1e-12)
            np.testing.assert_allclose(y[n, :, a, b], 0.75 * o + x[n, :, a, b], rtol=1e-12)
    assert beta.std() > 0.1     # far from equal weights, with which much would be right


def test_self_attention_begins_as_the_identity():
    layer, x = nn.SelfAttention2d(16), tensor(normal(2, 16, 4, 4), "float32")
    assert (layer(x).numpy() == x.numpy()).all()
    # and only gamma learns at first: the gradient of the other parameters has the factor gamma
    *others, gamma = grad((layer(x) ** 2).sum(), [
        *(part.weight_orig for part in (layer.f, layer.g, layer.h, layer.v)), layer.gamma])
    assert abs(gamma.numpy()) > 0 and not any(g.numpy().any() for g in others)
    assert layer.gamma.shape == (1,)


def test_self_attention_takes_an_empty_batch():
    x = tensor(np.zeros((0, 8, 4, 4)), "float32")
    assert nn.SelfAttention2d(8)(x).shape == x.shape


def test_each_pixel_depends_on_all_others():
    """A corner of the output has a derivative with respect to each pixel of the input."""
    layer, x = make_attention(pool=1), tensor(normal(1, 8, 5, 6))
    (g,) = grad(layer(x)[:, :, 0, 0].sum(), [x])
    assert (abs(g.numpy()).sum(1) > 0).all()


def test_self_attention_does_not_know_where_a_pixel_is():
    """Pixels in another order give the outputs in that order, if they are not pooled."""
    layer, x = make_attention(pool=1), normal(2, 8, 3, 4)
    order = np.random.default_rng(0).permutation(12)

    def permute(a):
        return a.reshape(2, 8, 12)[:, :, order].reshape(2, 8, 3, 4)
    # sums over pixels in another order
    np.testing.assert_allclose(layer(tensor(permute(x))).numpy(),
                               permute(layer(tensor(x)).numpy()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalised", [True, False])
def test_derivatives_to_second_order(normalised):
    check_grads(make_attention(normalised=normalised), normal(2, 8, 2, 4))
    check_grads(make_attention(normalised=normalised, pool=1), normal(1, 8, 2, 3))


@pytest.mark.parametrize("normalised, name", [(True, "weight_orig"), (False, "weight")])
def test_the_layers_have_spectral_normalisation_if_normalised(normalised, name):
    layer = nn.SelfAttention2d(16, normalised=normalised)
    names = {key for key in layer.state_dict() if not key.endswith(("_u", "_v"))}
    assert names == {"gamma", *(f"{part}.{name}" for part in "fghv")}
    shapes = [getattr(part, name).shape[:2] for part in (layer.f, layer.g, layer.h, layer.v)]
    assert shapes == [(2, 16), (2, 16), (8, 16), (16, 8)]
    built = build(json.loads(json.dumps(describe(layer))), [], 10_000)
    built.load_state_dict(layer.state_dict())


def test_what_self_attention_refuses():
    for channels in 0, 4, 12, 8.0:
        assert f"a multiple of 8, got {channels}" in error_of(nn.SelfAttention2d, channels)
    assert "SelfAttention2d's pool" in error_of(nn.SelfAttention2d, 8, 0)
    layer = nn.SelfAttention2d(8, pool=3)
    assert "image of 2x4" in error_of(layer, tensor(normal(1, 8, 2, 4), "float32"))
    assert "(N, 8, H, W)" in error_of(layer, tensor(normal(1, 16, 4, 4), "float32"))


# The example

@pytest.mark.parametrize("flags, kind", [
    ([], nn.SelfAttention2d), (["--block", "residual"], nn.Residual),
    (["--block", "none"], nn.Sequential)])
def test_the_networks_and_settings_of_the_example(flags, kind):
    """Both players have the block at half the size of the image, and spectral normalisation."""
    call = catch_training("sagan_mnist", *flags, data=mnist.load_sample())
    G, D = call.game.G, call.game.D
    assert call.game.loss == losses.Hinge()
    z, y = call.game.latent(2, rng)
    for network, i, x in (G, -3, G[:-3](z, y)), (D.phi, 2, D.phi[:2](G(z, y))):
        block = network[i]
        assert type(block) is kind and x.shape == block(x).shape == (2, 16, 14, 14)
        n = sum(p.size for p in block.parameters() if p.ndim > 1)
        assert n == (0 if kind is nn.Sequential else 320)
    if kind is nn.Residual:
        assert [type(layer) for layer in block.inner.layers] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert all("weight_u" in vars(part) for player in (G, D) for _, part in player.modules()
               if isinstance(part, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)))
    norms = {type(layer) for layer in G.layers} & {nn.BatchNorm, nn.ConditionalBatchNorm}
    assert norms == {nn.ConditionalBatchNorm}
    for opt in call.d_opt, call.g_opt:
        assert type(opt) is optim.Adam and opt.betas == (0.0, 0.99)
        assert [opt.lr(t) for t in (0, 2000, 4000)] == pytest.approx([3e-3, 1.5e-3, 0])


def make_game(pool=2, size=(4, 6), labels_first=True):
    """Return a game with 2 labels whose G has attention at `size`, for images of twice this size.

    An average of G is kept, which differs from G. The images have 3 colours.
    """
    rng.seed(0)
    h, w = size
    first = [nn.JoinLabels(2), nn.Dense(7, 8 * h * w)] if labels_first else [nn.Dense(5, 8 * h * w)]
    G = nn.Sequential(*first, nn.Reshape(8, h, w), nn.SelfAttention2d(8, pool),
                      nn.ConditionalBatchNorm(8, 2), nn.ReLU(),
                      nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(nn.Flatten(), nn.JoinLabels(2), nn.Dense(12 * h * w + 2, 1))
    game = ConditionalGAN(G, D, 5, 2)
    game.keep_average(0.5)
    for p in G.parameters():
        p.data = p.data * 3
    game.update_averages()
    return game


@pytest.mark.parametrize("pool, size, labels_first", [
    (1, (4, 6), True), (2, (4, 6), True), (2, (5, 3), True), (2, (4, 6), False)])
def test_the_picture_of_attention(pool, size, labels_first):
    """The map beside a marked sample has the weights of the marked pixel, in G's average.

    Pixels that are not pooled, in the last row or column, get no attention.
    """
    import sample
    game, (h, w) = make_game(pool, size, labels_first), size
    z = sample.draw_inputs(game, None, 4, None, rng)
    drawn, plain = sample.draw_attention(game, z), sample.draw_samples(game, z)
    assert drawn.shape == (24, 3, 2 * h, 2 * w)
    with game.use_averages():
        i = sample.find_attention(game)
        x = game.G[:i](tensor(z[0]), *([device(z[1])] if labels_first else []))
        beta = game.G[i].attend(x).numpy()
    assert beta.std() > 0.01        # else a wrong pixel would not be seen
    colours = set()
    for n, column in itertools.product(range(4), range(3)):
        marked, weights = drawn[6 * n + 2 * column:][:2]
        light = plain[n].mean(0)
        changed = np.argwhere((marked != plain[n]).any(0))
        a, b = changed.min(0) // 2              # the pixel of the feature maps
        assert (changed // 2 == (a, b)).all() and len(changed) == 4
        block = light[2 * a:2 * a + 2, 2 * b:2 * b + 2]
        if column == 2:
            assert (a, b) == (0, 0)
            chosen = block[0, 0]
        else:           # the lightest pixel of a half of the image
            chosen = light[h * column:h * column + h].max()
            assert chosen == block.max()
        colour, = set(marked[:, 2 * a:2 * a + 2, 2 * b:2 * b + 2].ravel())
        assert colour == (chosen < 0.5)
        colours.add(colour)
        small = beta[n, w * a + b].reshape(h // pool, w // pool)
        expected = np.zeros((2 * h, 2 * w))
        large = np.kron(small / small.max(), np.ones((2 * pool, 2 * pool)))
        expected[:len(large), :large.shape[1]] = large
        np.testing.assert_allclose(weights, np.broadcast_to(expected, weights.shape), rtol=1e-4)
    assert colours == {0, 1}


def test_only_a_sequential_g_with_self_attention_has_the_picture():
    import sample
    game = make_game()
    assert sample.find_attention(game) == 3
    game.G = nn.Sequential(nn.SelfAttention2d(8), *game.G)
    assert sample.find_attention(game) == 4         # the last one
    game.G = nn.Sequential(*game.G[1:4], *game.G[5:])
    assert sample.find_attention(game) is None
    game.G = nn.Residual(nn.SelfAttention2d(8))
    assert sample.find_attention(game) is None


@pytest.mark.host
def test_a_run_is_sampled(tmp_path):
    process = run("sagan_mnist.py", "--steps", 2, "--batch-size", 8, "--data", "sample",
                  "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = run("sample.py", "run", cwd=tmp_path)
    assert "attention.png in" in process.stdout, process.stderr
    for name in "G.10", "D.phi.2", "averages.G.10":
        found = re.search(rf"gamma of the self-attention {name}: (\S+)$", process.stdout, re.M)
        assert 0 < abs(float(found[1])) < 0.01      # after two of Adam's steps from 0, of 3e-3
    # 8 rows of three pairs; images of 56x56 pixels, between them 4 pixels, between pairs 16
    shape = read_png(tmp_path / "run/pictures/attention.png").shape[:2]
    assert shape == (8 * 60 - 4, 3 * (2 * 56 + 4) + 2 * 16)
