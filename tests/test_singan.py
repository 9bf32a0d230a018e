"""Tests of the GANs of a single image: their networks, the game SinGAN, measures, the example."""

import re

import numpy as np
import pytest

from tinygan import Tensor, grad, nn, no_grad, optim, play, resampling, rng, schedules
from tinygan import data as datasets
from tinygan.backend import UserError, to_numpy
from tinygan.data import DataSet, Minibatches, Split, mnist, picture
from tinygan.games import SinGAN, gradient_penalty
from tinygan.metrics import classifier, frechet_distance, measure_diversity, measure_sifid
from tinygan.metrics import nearest_rmse
from tinygan.networks import single_image
from tinygan.random import Random

from helpers import all_equal, catch_stages, copy_parameters, error_of, normal, tensor
from test_examples import run
from test_image import read_png

SHAPES = [(2, 15, 20), (2, 12, 16), (2, 11, 14)]
N = len(SHAPES) - 1


def make_game(scale=0, seed=0, **choices):
    """Return the game of a scale; all scales have noise of some strength."""
    rng.seed(seed)
    G = single_image.Generator(SHAPES, 4)
    G.sigma[:N] = tensor([0.3, 0.2]).data
    return SinGAN(G, single_image.discriminator(2, 4), scale, **choices)


def draw_image(n=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (n, *SHAPES[0])).astype("float32")


def take(game, steps):
    """Train for some steps on one image."""
    opts = [optim.Adam(p, 1e-2) for p in (game.d_parameters(), game.g_parameters())]
    for _ in play(game, Minibatches(draw_image(), 1), *opts, 1, rng, steps):
        pass


# Scales

def test_an_image_is_shrunk_by_the_means_of_areas():
    """As if every pixel were many equal ones, of which each new pixel gets as many."""
    images = normal(2, 3, 5, 7)
    for size in (3, 4), (5, 7), (1, 1), (2, 7):
        found = resampling.resize(tensor(images), size, resampling.area).numpy()
        fine = images.repeat(size[0], 2).repeat(size[1], 3)
        expected = fine.reshape(2, 3, size[0], 5, size[1], 7).mean((3, 5))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_scales():
    """Each is r times as small as the one before, and the shorter side of the coarsest is given."""
    shapes = single_image.list_shapes((3, 48, 96), 20)
    r = (48 / 20) ** (1 / 3)            # of the whole numbers N, 3 gives the r nearest to 4/3
    assert shapes == [(3, round(48 / r ** n), round(96 / r ** n)) for n in range(4)]
    assert shapes[0] == (3, 48, 96) and shapes[3] == (3, 20, 40)
    assert single_image.list_shapes((1, 30, 28), 28) == [(1, 30, 28)]
    assert len(single_image.list_shapes((1, 64, 64), 16, 2)) == 3
    assert "at least 25x25 pixels" in error_of(single_image.list_shapes, (1, 24, 30))
    assert "at least 11 pixels" in error_of(single_image.list_shapes, (1, 24, 30), 10)
    for factor in 1, 0.75, "2":
        assert "factor above 1" in error_of(single_image.list_shapes, (1, 48, 48), 25, factor)
    assert single_image.rescale(shapes, (24, 96)) == [
        (3, round(height / 2), width) for _, height, width in shapes]
    assert single_image.rescale(shapes, (1, 2))[-1] == (3, 1, 1)
    assert "three whole numbers" in error_of(single_image.rescale, shapes, (24, 0))


# The networks

def test_d_scores_patches():
    """A score depends on 11x11 pixels, if each image is not normalised."""
    D = single_image.discriminator(2, 4)
    assert D(tensor(normal(3, 2, 14, 20), "float32")).shape == (3, 1, 4, 10)
    convolutions = nn.Sequential(*[layer for layer in D.layers
                                   if not isinstance(layer, nn.InstanceNorm2d)])
    x = tensor(normal(1, 2, 20, 20), "float32")
    (g,) = grad(convolutions(x)[:, :, 3, 5].sum(), [x])
    rows, columns = np.nonzero(g.numpy().any((0, 1)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 13, 5, 15)


def test_a_scale_adds_details_to_the_enlarged_image_of_the_coarser_one():
    """Eq. 1 and 3."""
    game = make_game()
    G, z = game.G, game.latent(3, Random(1))
    assert [a.shape for a in z] == [(3, *shape) for shape in SHAPES]
    G.sigma[N] = 0.7
    sigma, image = [0.3, 0.2, 0.7], None
    for n in 2, 1, 0:
        noise = tensor(np.float32(sigma[n]) * z[n].numpy())
        if image is None:
            image = G.psi[n](noise)
        else:
            l = resampling.resize(image, SHAPES[n][1:], resampling.bilinear)
            image = l + G.psi[n](noise + l)
        found = G(*z[n:])
        np.testing.assert_allclose(found.numpy(), image.numpy(), atol=1e-6)
    np.testing.assert_array_equal(to_numpy(game.sample(z)), G(*z).numpy())


def test_the_networks_of_a_scale():
    """Five convolutions with the published normalisation, slopes and initial weights."""
    rng.seed(0)
    G, D = single_image.Generator(SHAPES, 32).psi[0], single_image.discriminator(2)
    body = [nn.Conv2d, nn.InstanceNorm2d, nn.LeakyReLU] * 4 + [nn.Conv2d]
    assert [type(layer) for layer in D.layers] == body
    assert [type(layer) for layer in G.layers] == [*body, nn.Tanh]
    for network, padding in (G, 5), (D, 0):
        convolutions, norms = network.layers[0:13:3], network.layers[1:12:3]
        assert [layer.padding for layer in convolutions] == [(padding, padding)] + [(0, 0)] * 4
        assert [layer.bias is None for layer in convolutions] == [True] * 4 + [False]
        assert all(layer.weight.shape[2:] == (3, 3) for layer in convolutions)
        # 9,216 weights and 128 gains
        assert convolutions[1].weight.numpy().std() == pytest.approx(0.02, rel=0.05)
        gains = np.concatenate([layer.weight.numpy() for layer in norms])
        assert gains.std() == pytest.approx(0.02, rel=0.2) and abs(gains.mean() - 1) < 0.01
        assert {layer.slope for layer in network.layers[2:13:3]} == {0.2}


def test_the_widths_double_with_every_fourth_scale():
    shapes = [(1, 11 + n, 11 + n) for n in reversed(range(14))]
    G = single_image.Generator(shapes, 2)
    assert G.channels[::-1] == [2] * 4 + [4] * 4 + [8] * 6
    for psi, width in zip(G.psi, G.channels):
        assert [layer.weight.shape[0] for layer in psi.layers[0:13:3]] == [width] * 4 + [1]
    assert to_numpy(G.sigma).tolist() == [0] * 13 + [1]


def test_a_scale_begins_with_the_weights_of_the_coarser_one():
    a, b, wide = (single_image.discriminator(2, width) for width in (4, 4, 8))
    before = copy_parameters(wide)
    for network in b, wide:
        single_image.copy_weights(network, a)
    assert all_equal(copy_parameters(a), copy_parameters(b))
    assert all_equal(before, copy_parameters(wide))


# The game

def test_images_of_another_size():
    game = make_game()
    z = game.latent(2, rng, (30, 20))
    assert [a.shape for a in z] == [(2, 2, 30, 20), (2, 2, 24, 16), (2, 2, 22, 14)]
    assert game.sample(z).shape == (2, 2, 30, 20)


def test_the_reconstruction():
    """Eq. 5: the loss compares the image with what the noise (0, ..., 0, z*) gives."""
    x = draw_image()
    for scale in range(N + 1):
        game = make_game(scale)
        zeros = [tensor(np.zeros((1, *shape), "float32")) for shape in SHAPES[scale:N]]
        whole = game.G(*zeros, Tensor(game.G.z_star)).numpy()
        np.testing.assert_allclose(game.reconstruct().numpy(), whole, atol=1e-6)
        size = SHAPES[scale][1:]
        x_n = resampling.resize(tensor(x), size, resampling.area).numpy()
        np.testing.assert_array_equal(game.real(tensor(x)).numpy(), x_n)
        z = game.latent(1, Random(3))
        fake = game.fake(tensor(x), z)
        (term,) = game.g_terms(tensor(x), z, fake, game.score(fake))
        assert 20 * float(game.logged["L_rec"]) == pytest.approx(term.item(), rel=1e-6)
        assert term.item() == pytest.approx(20 * ((whole - x_n) ** 2).mean(), rel=1e-5)
        np.testing.assert_array_equal(
            game.reference_images(Split(images=x)), x_n)


def test_the_noise_is_a_tenth_of_the_missing_details():
    x = draw_image()
    for scale in 0, 1:
        game = make_game(scale)
        before = to_numpy(game.G.sigma).copy()
        game.d_loss(tensor(x), game.latent(1, rng))
        with no_grad():
            coarser = game.G(*game.fixed_noise()[1:])
        l = resampling.resize(coarser, SHAPES[scale][1:], resampling.bilinear).numpy()
        expected = 0.1 * np.sqrt(((game.real(tensor(x)).numpy() - l) ** 2).mean())
        after = to_numpy(game.G.sigma)
        assert after[scale] == pytest.approx(expected, rel=1e-5)
        assert [n for n in range(N + 1) if before[n] != after[n]] == [scale]


def test_the_games_of_all_scales_may_be_made_first():
    """A game reconstructs with the coarser networks as they are when it is trained."""
    first = make_game(N)
    games = [first, *[SinGAN(first.G, single_image.discriminator(2, 4), n) for n in (1, 0)]]
    for game in games:
        take(game, 2)
    for game in games:
        whole = game.G(*game.fixed_noise()).numpy()
        np.testing.assert_array_equal(game.reconstruct().numpy(), whole)
    fresh = single_image.Generator(SHAPES, 4)
    with pytest.raises(UserError, match="coarser than 0 have not all been trained: begin with sc"):
        take(SinGAN(fresh, first.D, 0), 1)
    for n in 2, 1, 0:
        take(SinGAN(fresh, single_image.discriminator(2, 4), n), 1)


def test_training_changes_its_own_scale_alone():
    for scale in range(N + 1):
        game = make_game(scale)
        assert game.g_parameters() == game.G.psi[scale].parameters()
        before, sigma = copy_parameters(game.G), to_numpy(game.G.sigma).copy()
        take(game, 2)
        after = copy_parameters(game.G)
        changed = {name.split(".")[1] for name in before if (before[name] != after[name]).any()}
        assert changed == {str(scale)}
        assert (to_numpy(game.G.sigma) == sigma)[[n for n in range(N + 1) if n != scale]].all()


def test_images_in_0_1_have_half_the_loss_of_images_in_minus_1_1():
    """So the published alpha = 10 and lam = 0.1 become 20 and 0.05.

    The shift by 1 changes no difference of images or of scores.
    """
    real, fake, rec = (tensor(normal(1, 3, 4, 4, seed=seed)) for seed in range(3))
    eps, w = tensor([0.3]), normal(1, 3, 4, 4, seed=4)

    def D(x):               # scores of pixels; they have the same slope for images of any range
        return (x * tensor(w)).sum(1, keepdims=True)

    def losses(width, lam, alpha):
        a, b, c = (width * t for t in (real, fake, rec))
        penalty = gradient_penalty(D, a, b, eps, per_pixel=True)
        return np.array([(D(b).mean() - D(a).mean() + lam * penalty).item(),
                         (alpha * ((c - a) ** 2).mean() - D(b).mean()).item()])
    np.testing.assert_allclose(2 * losses(1, 0.05, 20), losses(2, 0.1, 10), rtol=1e-12)
    game = make_game()
    (penalty,) = game.penalties
    assert (game.alpha, penalty.lam, penalty.per_pixel) == (20, 0.05, True)


def test_the_norm_of_a_pixel():
    """per_pixel: the mean over pixels of (|dD/dx|_2 - 1)^2, with the norm over the colours."""
    x, fake = (tensor(normal(2, 3, 4, 5, seed=seed)) for seed in (0, 1))
    w, eps = normal(2, 3, 4, 5, seed=2), tensor([0.2, 0.7])

    def D(x):               # dD/dx = 2 w x
        return (tensor(w) * x * x).sum(1, keepdims=True)
    e = eps.numpy()[:, None, None, None]
    g = 2 * w * (e * x.numpy() + (1 - e) * fake.numpy())
    norms = [[[np.sqrt(sum(g[n, c, i, j] ** 2 for c in range(3))) for j in range(5)]
              for i in range(4)] for n in range(2)]
    found = gradient_penalty(D, x, fake, eps, 1.0, per_pixel=True).item()
    assert found == pytest.approx(np.mean((np.array(norms) - 1) ** 2), rel=1e-10)


def test_variants_of_the_image():
    """The noise of a variant is random from a scale on, and that of the reconstruction before."""
    game = make_game()
    fixed = [a.numpy() for a in game.fixed_noise()]
    assert [a.shape for a in fixed] == [(1, *shape) for shape in SHAPES]
    assert not fixed[0].any() and not fixed[1].any() and fixed[2].std() > 0.5
    for start in range(N + 1):
        z = game.vary(3, Random(0), start)
        for n, (a, b) in enumerate(zip(z, fixed, strict=True)):
            assert a.shape == (3, *SHAPES[n])
            assert (a.numpy() == b).all() if n > start else (a.numpy() != b).any((1, 2, 3)).all()
        assert game.sample(z).shape == (3, *SHAPES[0])
    for wrong in -1, 3, 0.5:
        assert "from 0 to 2" in error_of(game.vary, 3, rng, wrong)
    assert "from 1 to 2" in error_of(make_game(1).vary, 3, rng, 0)
    z = make_game(1).vary(3, Random(0), 1)
    assert (z[0].numpy() != fixed[1]).all() and (z[1].numpy() == fixed[2]).all()


def test_the_loss_is_that_of_wgan_gp():
    game, x = make_game(1, alpha=0.0), tensor(draw_image())
    z = game.latent(1, rng)
    real, fake = game.real(x), game.fake(x, z)
    with nn.use_random(Random(5)):
        d_loss = game.d_loss(x, z)
    with nn.use_random(Random(5)):
        eps = Tensor(nn.current_random().uniform(0, 1, (1,)))
    penalty = gradient_penalty(game.D, real, Tensor(fake.data), eps, per_pixel=True)
    expected = game.D(fake).mean() - game.D(real).mean() + 0.05 * penalty
    assert d_loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(-game.D(fake).mean().item(), rel=1e-5)
    assert (game.d_steps, game.g_steps) == (3, 3)


def test_what_is_refused():
    game = make_game()
    assert "single_image.Generator, got a Sequential" in error_of(SinGAN, game.D, game.D)
    for scale in -1, 3, 1.5, None:
        assert f"G has the scales 0 to 2, got {scale}" in error_of(SinGAN, game.G, game.D, scale)
    for name in "alpha", "lam":
        assert name in error_of(SinGAN, game.G, game.D, **{name: -1.0})
    for wrong in draw_image()[:, :1], draw_image()[:, :, :14]:
        with pytest.raises(UserError, match="networks are for images of the shape"):
            game.check_minibatch(tensor(wrong))
    with pytest.raises(UserError, match=re.escape("images lie in [0, 1]")):
        game.check_minibatch(tensor(2 * draw_image() - 1))
    assert "three whole numbers" in error_of(single_image.Generator, [(2, 15)])
    assert "at least one scale" in error_of(single_image.Generator, [])
    for wrong in (), (*game.latent(1, rng), tensor(normal(1, 2, 15, 20))):
        assert f"of the coarsest scale or of more, got {len(wrong)}" in error_of(game.G, *wrong)


# The measures

def test_the_distance_of_places():
    """SIFID is the Fréchet distance between the features at all places of two images."""
    net = classifier.load_classifier()
    image, samples = (np.random.default_rng(seed).uniform(0, 1, shape).astype("float32")
                      for seed, shape in ((0, (2, 20, 24)), (1, (3, 2, 16, 20))))

    def places(x):
        with no_grad():
            maps = [net[2](net[1](net[0](tensor(x[None, c:c + 1])))).numpy()[0] for c in range(2)]
        return np.concatenate(maps).reshape(64, -1).T
    expected = np.mean([frechet_distance(places(x), places(image)) for x in samples])
    assert measure_sifid(samples, image, net) == pytest.approx(expected, rel=1e-6)
    assert measure_sifid(image[None], image, net) < 1e-6 < 0.01 < expected
    assert measure_sifid((255 * samples).astype("uint8"), image, net) == pytest.approx(
        expected, rel=0.05)         # pixels are rounded down
    assert "pixels from 0 to 1" in error_of(measure_sifid, 255 * samples, image, net)


def test_the_diversity_and_the_nearest_sample():
    image = np.array([[[0.2, 0.6], [0.2, 0.6]]])        # a standard deviation of 0.2
    samples = np.stack([image + 0.1, image - 0.1, image + 0.1, image - 0.1])
    assert measure_diversity(samples, image) == pytest.approx(0.5)
    assert measure_diversity(samples[::2], image) == 0
    assert "are equal" in error_of(measure_diversity, samples, np.full((1, 2, 2), 0.4))
    assert "got (1, 2, 1)" in error_of(nearest_rmse, samples, image[:, :, :1])
    assert nearest_rmse(samples, image) == pytest.approx(0.1)
    assert nearest_rmse(np.stack([image + 0.3, image - 0.05]), image) == pytest.approx(0.05)


# The picture and the example

def test_the_picture():
    data = datasets.load("balloons")
    assert [len(split.images) for split in data[:3]] == [1, 0, 0]
    image = data.train.images[0]
    assert image.shape == (3, 48, 48) and image.dtype == np.uint8
    assert (image == picture.draw_balloons()).all()
    for (y, x), _, colour in picture.BALLOONS:        # between four pixels or beside one
        assert image[:, int(48 * y), int(48 * x)] / 255 == pytest.approx(
            np.array(picture.COLOURS[colour]), abs=0.1)
    greens = {tuple(pixel) for pixel in image[:, 40:].reshape(3, -1).T}
    assert all(g > r > b for r, g, b in greens)
    # the middle of a pixel of 16 pixels is that of nine of 48
    means = image.reshape(3, 16, 3, 16, 3).mean((2, 4))
    np.testing.assert_allclose(picture.draw_balloons(16), means, atol=60)
    assert abs(picture.draw_balloons(16) - means).mean() < 3


def test_pictures_that_are_not_learned():
    import singan
    x = picture.draw_balloons(24) / 255
    phases = singan.randomise_phases(x, np.random.default_rng(0))
    np.testing.assert_allclose(abs(np.fft.fft2(phases)), abs(np.fft.fft2(x)), atol=1e-3)
    assert abs(phases - x).mean() > 0.05
    for size in 1, 5:
        shuffled = singan.shuffle_blocks(x, size, np.random.default_rng(0))
        side = 24 // size * size
        assert shuffled.shape == x.shape and (shuffled != x)[:, :side, :side].any()
        assert not (shuffled != x)[:, side:].any() and not (shuffled != x)[:, :, side:].any()
        blocks = [sorted(image[:, i:i + size, j:j + size].tobytes()
                         for i in range(0, side, size) for j in range(0, side, size))
                  for image in (x, shuffled)]
        assert blocks[0] == blocks[1]


@pytest.mark.host
def test_the_scales_of_the_example():
    """The settings are those of examples/results.jsonl: a recipe that changes needs new results."""
    import singan
    data = datasets.load("balloons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(singan, "measure", lambda game, image, n: [image[None]])
        patch.setattr(singan.image, "save_grid", lambda *arguments, **choices: None)
        calls = catch_stages("singan", data=data)
        paper = catch_stages("singan", "--paper", data=data)
        digit = catch_stages("singan", "--image", 7, "--alpha", 3, data=mnist.load_sample())
    args = calls[0].args
    assert (args.steps, args.batch_size, args.average, args.alpha) == (600, 1, None, 20)
    assert [call.stage for call in calls] == ["20x20", "27x27", "36x36", "48x48"]
    assert [call.game.scale for call in calls] == [3, 2, 1, 0]
    assert len({id(call.game.G) for call in calls}) == 1
    assert calls[0].game.G.channels == [24] * 4
    for before, call in zip([None, *calls], calls):
        for opt, parameters in ((call.d_opt, call.game.d_parameters()),
                                (call.g_opt, call.game.g_parameters())):
            assert opt.parameters == parameters and opt.betas == (0.5, 0.999) and opt.t == 0
            assert [schedules.value_at(opt.lr, t) for t in (0, 480, 481)] == pytest.approx(
                [1e-3, 1e-3, 1e-4])
        if before:      # not trained here, so that they are still equal
            G, n = call.game.G, call.game.scale
            assert all_equal(copy_parameters(call.game.D), copy_parameters(before.game.D))
            assert all_equal(copy_parameters(G.psi[n]), copy_parameters(G.psi[n + 1]))
        assert (next(call.batches) == data.train.images / np.float32(255)).all()
    assert [call.stage for call in paper] == ["25x25", "35x35", "48x48"]
    assert (paper[0].args.steps, paper[0].game.G.channels) == (2000, [32] * 3)
    assert [schedules.value_at(paper[0].g_opt.lr, t) for t in (1600, 1601)] == pytest.approx(
        [5e-4, 5e-5])
    assert [call.stage for call in digit] == ["20x20", "28x28"]
    assert [call.game.alpha for call in calls + digit] == [20] * 4 + [3] * 2
    assert (to_numpy(next(digit[0].batches)) ==
            mnist.load_sample().train.images[7:8] / np.float32(255)).all()


@pytest.mark.host
def test_the_example(tmp_path):
    process = run("singan.py", "--steps", 2, "--channels", 4, "--least", 36, "--out", "run",
                  cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    from tinygan.runs.command import script
    rows = script.read_rows(process.stdout)
    assert [*rows] == ["samples", "from scale 0", "reconstruction", "random phases", "blocks",
                       "pixels"]
    assert all([*row] == ["SIFID", "diversity", "nearest"] for row in rows.values())
    assert rows["samples"]["diversity"] > rows["from scale 0"]["diversity"] > 0
    assert rows["reconstruction"]["diversity"] == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "36x36", "48x48", "scales.png", "wide.png"}
    shown = [read_png(tmp_path / "run" / name) for name in ("scales.png", "wide.png")]
    assert [picture.shape for picture in shown] == [(3 * 150 - 6, 8 * 150 - 6, 3),
                                                    (2 * 150 - 6, 3 * 96, 3)]
    again = run("singan.py", "--resume", "--out", "run", cwd=tmp_path)
    assert again.returncode == 0 and script.read_rows(again.stdout) == rows
    assert all((read_png(tmp_path / "run" / name) == picture).all()
               for name, picture in zip(("scales.png", "wide.png"), shown))
    failed = run("singan.py", "--image", 1, "--out", "other", cwd=tmp_path)
    assert failed.returncode == 1 and "there is no training image 1: the data has 1" in (
        failed.stderr)
    assert "picture: training image 0 of 1, colour, 48x48 pixels\n" in process.stdout
    np.save(tmp_path / "plain.npy", np.full((1, 3, 30, 30), 0.4, "float32"))
    failed = run("singan.py", "--data", "plain.npy", "--out", "other", cwd=tmp_path)
    assert failed.returncode == 1 and "the picture has one colour alone" in failed.stderr
    failed = run("singan.py", "--least", 60, "--out", "other", cwd=tmp_path)
    assert failed.returncode == 1 and "at least 60x60 pixels" in failed.stderr
    assert not (tmp_path / "other").exists()
