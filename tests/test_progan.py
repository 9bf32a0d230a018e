"""Tests of progressive growing: the networks, the game ProGAN, and the example."""

import numpy as np
import pytest

from tinygan import UserError, nn, optim, play, rng, schedules
from tinygan.data import Minibatches, Split, mnist
from tinygan.games import ProGAN, WGANGP
from tinygan.networks import growing
from tinygan.random import Random

from helpers import catch_stages, copy_parameters, device, error_of, normal, tensor
from test_examples import run

CHANNELS = 4, 3, 2      # at 2x2, 4x4 and 8x8 pixels
SHAPE = 1, 8, 8


def make_networks(stage=None, alpha=1.0):
    """Return G and D of three resolutions at a stage, whose new layers have the weight alpha."""
    rng.seed(0)
    networks = growing.Generator(5, SHAPE, CHANNELS), growing.Discriminator(SHAPE, CHANNELS)
    for network in networks:
        network.stage = network.stage if stage is None else stage
        network.alpha[...] = alpha
    return networks


def draw_images(n=6, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (n, *SHAPE)).astype("float32")


def shrink(images, size):
    """Return images whose pixels are the means of blocks of size x size."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // size, size, w // size, size).mean((3, 5))


def enlarge(images, size):
    return images.repeat(size, 2).repeat(size, 3)


# The networks

@pytest.mark.parametrize("stage, block", [(0, 4), (1, 2), (2, 1)])
def test_images_have_the_resolution_of_the_stage(stage, block):
    """G draws blocks of equal pixels, and D sees only the means of these blocks."""
    G, D = make_networks(stage, 0.5)
    assert G.block == D.block == block and make_networks()[0].stage == 2
    images = G(tensor(normal(3, 5), "float32")).numpy()
    assert images.shape == (3, *SHAPE) and len(np.unique(images)) == images.size / block ** 2
    np.testing.assert_array_equal(images, enlarge(images[:, :, ::block, ::block], block))
    x = draw_images()
    same = enlarge(shrink(x, block), block)
    # float32 means of at most 16 numbers
    np.testing.assert_allclose(D(tensor(x)).numpy(), D(tensor(same)).numpy(), atol=1e-5)
    other = enlarge(shrink(x, 2 * block if stage else 8), 2 * block if stage else 8)
    assert abs(D(tensor(x)).numpy() - D(tensor(other)).numpy()).min() > 1e-4


@pytest.mark.parametrize("stage", [1, 2])
def test_a_new_stage_begins_with_what_the_one_before_has_learned(stage):
    """At alpha = 0 images and scores are those of the stage before; else they lie between.

    Between them images change linearly with alpha (figure 2).
    """
    (G, D), z, x = make_networks(stage - 1), tensor(normal(3, 5), "float32"), tensor(draw_images())
    before, scores = G(z).numpy(), D(x).numpy()

    def compute(alpha):
        for network in (G, D):
            network.stage, network.alpha[...] = stage, alpha
        return G(z).numpy(), D(x).numpy()
    images, new_scores = compute(0.0)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(new_scores, scores, rtol=1e-5, atol=1e-6)      # other sums
    after, quarter = compute(1.0)[0], compute(0.25)[0]
    assert abs(after - before).max() > 0.1
    np.testing.assert_allclose(quarter, 0.75 * before + 0.25 * after, atol=1e-6)


def test_the_layers_of_both_players():
    """The paper's table 2: two convolutions for each resolution, equalised, in mirrored order."""
    G, D = make_networks()

    def list_convs(block):
        return [(layer.c_in, layer.c_out) for layer in block.layers
                if isinstance(layer, nn.Conv2d)]
    assert [list_convs(block) for block in G.blocks] == [[(4, 4)], [(4, 3), (3, 3)],
                                                         [(3, 2), (2, 2)]]
    assert [list_convs(block) for block in D.blocks] == [[(5, 4)], [(3, 3), (3, 4)],
                                                         [(2, 2), (2, 3)]]

    def list_types(block):
        return [type(layer) for layer in block.layers]
    rectified = [nn.Conv2d, nn.LeakyReLU]
    assert list_types(G.blocks[0]) == [     # the first PixelNorm puts z on a sphere
        nn.PixelNorm, nn.Dense, nn.Reshape, nn.LeakyReLU, nn.PixelNorm, *rectified, nn.PixelNorm]
    assert list_types(D.blocks[0]) == [
        nn.MinibatchStddev, *rectified, nn.Flatten, nn.Dense, nn.LeakyReLU, nn.Dense]
    assert D.blocks[0][0].group is None
    for i in 1, 2:
        assert list_types(G.blocks[i]) == [nn.Upsample, *2 * [*rectified, nn.PixelNorm]]
        assert list_types(D.blocks[i]) == [*2 * rectified, nn.AvgPool2d]
    for i in range(3):
        assert list_types(G.to_image[i]) == [nn.Conv2d, nn.Sigmoid]
        assert list_types(D.from_image[i]) == rectified
    others = {G.blocks[0][1]: 2 ** 0.5 / 4, D.blocks[0][-1]: 1,
              **{layers[0]: 1 for layers in G.to_image}}
    for _, layer in (*G.modules(), *D.modules()):
        if isinstance(layer, (nn.Dense, nn.Conv2d)):
            fan_in = layer.weight_raw.size / len(layer.weight_raw)
            assert layer.weight_scale * fan_in ** 0.5 == pytest.approx(others.get(layer, 2 ** 0.5))
        if isinstance(layer, nn.LeakyReLU):
            assert layer.slope == 0.2


@pytest.mark.parametrize("shape, channels", [((3, 8, 12), (4, 3)), ((1, 4, 4), (2, 2)),
                                             ((1, 5, 3), (3,))])
def test_sizes(shape, channels):
    G, D = growing.Generator(5, shape, channels), growing.Discriminator(shape, channels)
    for stage in range(len(channels)):
        game = ProGAN(G, D, 5, stage)
        x = game.generate(game.latent(4, rng))
        assert x.shape == (4, *shape) and D(x).shape == (4, 1)
        assert 0 < x.numpy().min() and x.numpy().max() < 1


# The game

def test_the_loss_is_that_of_wgan_gp_and_the_drift():
    G, D = make_networks()
    x, z = tensor(draw_images()), tensor(normal(6, 5), "float32")
    losses = []
    for game in (WGANGP(G, D, 5), ProGAN(G, D, 5, 2, drift=0.0),
                 ProGAN(G, D, 5, 2, drift=500.0)):
        D.alpha[...] = G.alpha[...] = 1
        with nn.use_random(Random(1)):      # the same x_hat
            losses.append(game.d_loss(x, z).item())
        assert game.g_loss(x, z).item() == pytest.approx(-D(G(z)).numpy().mean(), rel=1e-5)
    assert losses[0] == losses[1]
    assert losses[2] - losses[1] == pytest.approx(500 * (D(x).numpy() ** 2).mean(), rel=1e-3)
    for settings, numbers in ({}, (0.001, 1, 10, 64)), (
            dict(drift=0.2, n_critic=3, lam=4.0, z_size=5), (0.2, 3, 4, 5)):
        game = ProGAN(G, D, **settings)
        assert (game.drift, game.d_steps, game.penalties[0].lam, game.z_size) == numbers


def test_the_data_is_faded_as_the_images_of_g_are():
    """D sees data as a G of this resolution and alpha could have drawn it."""
    x, alpha = draw_images(), 0.25
    for stage, block in (1, 2), (2, 1):
        game = ProGAN(*make_networks(), 5, stage, fade=8)
        game.begin(2)
        expected = (1 - alpha) * enlarge(shrink(x, 2 * block), 2 * block) + alpha * enlarge(
            shrink(x, block), block)
        np.testing.assert_allclose(game.real(tensor(x)).numpy(), expected, atol=1e-6)
    game = ProGAN(*make_networks(), 5)
    np.testing.assert_allclose(game.real(tensor(x)).numpy(), enlarge(shrink(x, 4), 4), atol=1e-6)
    game = ProGAN(*make_networks(), 5, 2, fade=0)
    assert (game.real(tensor(x)).numpy() == x).all()


def test_a_stage_trains_its_own_layers_and_the_next_fades_in():
    (G, D), images = make_networks(), draw_images(32)

    def play_stage(stage, fade):
        game, alphas = ProGAN(G, D, 5, stage, fade), []
        assert G.alpha == D.alpha == (0 if stage and fade else 1)       # before the first step
        game.keep_average(0.5)
        opts = [optim.Adam(p, 1e-2) for p in (game.d_parameters(), game.g_parameters())]
        before = [copy_parameters(network) for network in (G, D)]
        for _ in play(game, Minibatches(images, 8), *opts, 8, rng, 6):
            assert G.alpha == D.alpha
            alphas.append(float(G.alpha))
            game.sample(game.latent(1, rng))
            assert game.averages["G"].alpha == G.alpha and game.averages["G"].stage == stage
        after = [copy_parameters(network) for network in (G, D)]
        return alphas, {name for a, b in zip(before, after) for name in a
                        if (a[name] != b[name]).any()}
    alphas, changed = play_stage(0, 4)
    assert alphas == 6 * [1.0]
    assert {name.split(".")[1] for name in changed} == {"0"}
    alphas, changed = play_stage(1, 4)
    assert alphas == [0, 0.25, 0.5, 0.75, 1, 1]
    assert {name.split(".")[1] for name in changed} == {"0", "1"}
    assert {name.split(".")[1] for name in play_stage(2, 0)[1]} >= {"0", "1", "2"}


def test_samples_are_compared_with_data_of_their_resolution():
    images = np.random.default_rng(0).integers(256, size=(5, *SHAPE), dtype=np.uint8)
    for stage, block in (0, 4), (1, 2), (2, 1):
        found = ProGAN(*make_networks(), 5, stage).reference_images(Split(images=images))
        np.testing.assert_allclose(found, enlarge(shrink(images / 255, block), block), atol=1e-6)


def test_what_is_refused():
    G, D = make_networks()
    assert "of the class networks.growing.Growing, got a Dense" in error_of(
        ProGAN, nn.Dense(5, 4), D)
    for other in growing.Discriminator(SHAPE, (4, 3)), growing.Discriminator((3, 8, 8), CHANNELS):
        assert "G is for (1, 8, 8) and has 3, and D is" in error_of(ProGAN, G, other)
    for stage in 3, -1, 0.5:
        assert f"have the stages 0 to 2, got {stage}" in error_of(ProGAN, G, D, 5, stage)
    assert "layers are faded in" in error_of(ProGAN, G, D, 5, fade=-1)
    assert "drift" in error_of(ProGAN, G, D, drift=-0.1)
    for make in growing.Generator, lambda _, *rest: growing.Discriminator(*rest):
        assert "multiples of 4, not 30x28 pixels" in error_of(make, 5, (1, 30, 28), (4, 4, 4))
        for channels in (), 5:
            assert "at least one resolution" in error_of(make, 5, (1, 28, 28), channels)


def test_data_of_another_shape_is_refused():
    """An early stage could do without the last pixels, and would leave them out in silence."""
    game = ProGAN(*make_networks(), 5)
    opts = [optim.Adam(p) for p in (game.d_parameters(), game.g_parameters())]
    for images in np.zeros((8, 1, 9, 9), "float32"), np.zeros((8, 3, 8, 8), "float32"):
        with pytest.raises(UserError, match="networks are for images of the shape"):
            list(play(game, Minibatches(images, 4), *opts, 4, rng, 1))
    for images in np.full((8, 1, 8, 8), -0.5, "float32"), np.full((8, 1, 8, 8), 255, "float32"):
        with pytest.raises(UserError, match="images lie in .*: scale the data"):
            list(play(game, Minibatches(images, 4), *opts, 4, rng, 1))


def test_minibatches_with_labels_are_refused():
    game = ProGAN(*make_networks(), 5)
    with pytest.raises(UserError, match="takes minibatches .images."):
        game.check_minibatch((tensor(draw_images(4)), device([1, 2, 3, 4])))


def test_the_game_of_an_earlier_stage_is_refused():
    """Its networks have grown; the average of G's weights that it keeps has not."""
    G, D = make_networks()
    first = ProGAN(G, D, 5, 0)
    first.keep_average(0.5)
    z = first.latent(3, rng)
    before = first.sample(z)
    ProGAN(G, D, 5, 2)
    with pytest.raises(UserError, match="G is at stage 2 .* make the game of stage 0 again"):
        first.d_loss(tensor(draw_images()), z)
    assert (first.sample(z) == before).all()
    first.averages = None
    with pytest.raises(UserError, match="G is at stage 2"):
        first.sample(z)


# The example

@pytest.mark.host
def test_the_stages_of_the_example():
    """Each stage has its own optimisers, with the paper's betas and no old state.

    The settings are those of examples/results.jsonl: a recipe that changes needs new results.
    """
    calls = catch_stages("progan_mnist", data=mnist.load_sample())
    args, game = calls[0].args, calls[0].game
    assert (args.steps, args.batch_size, args.average) == (2000, 32, 0.998)
    assert [sum(p.size for p in network.parameters()) for network in (game.D, game.G)] == [
        68_601, 119_915]
    assert [call.stage for call in calls] == ["7x7", "14x14", "28x28"]
    assert [(call.game.stage, call.game.fade) for call in calls] == [(0, 500), (1, 500), (2, 500)]
    assert len({id(call.game.G) for call in calls}) == 1
    for i, call in enumerate(calls):
        for opt, parameters in ((call.d_opt, call.game.d_parameters()),
                                (call.g_opt, call.game.g_parameters())):
            assert opt.parameters == parameters and opt.betas == (0.0, 0.99) and opt.t == 0
            rates = [schedules.value_at(opt.lr, t) for t in (0, 1000, 2000)]
            assert rates == pytest.approx([1e-2, 5e-3, 0] if i == 2 else 3 * [1e-2])
    assert game.z_size == 64
    (call,) = catch_stages("progan_mnist", "--no-growing", data=mnist.load_sample())
    assert (call.stage, call.game.stage, call.game.fade) == ("28x28", 2, 0)
    data = mnist.load_sample()
    data = data._replace(train=Split(images=data.train.images[:, :, :12]))
    calls = catch_stages("progan_mnist", "--fade", 0.29, "--steps", 100, data=data)
    assert [(call.stage, call.game.fade) for call in calls] == [("3x7", 29), ("6x14", 29),
                                                                ("12x28", 29)]


@pytest.mark.host
def test_what_the_example_refuses(tmp_path):
    """No folder of a stage is left behind."""
    for flags, status, message in (["--batch-size", 1], 1, "choose a batch size"), (
            ["--no-growing", "--fade", 0.5], 2, "--fade: it has no effect without growing"):
        failed = run("progan_mnist.py", "--data", "sample", *flags, "--out", "run", cwd=tmp_path)
        assert failed.returncode == status and message in failed.stderr
        assert not any(tmp_path.glob("run*"))
