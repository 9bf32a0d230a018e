"""Tests of Laplacian pyramids: the networks of their levels, the game LAPGAN, and the example."""

import json
import re

import numpy as np
import pytest

from tinygan import Tensor, grad, nn, no_grad, ops, optim, play, rng, schedules
from tinygan.backend import UserError, to_numpy
from tinygan.data import Minibatches, Split, mnist
from tinygan.games import LAPGAN, losses, penalties
from tinygan.metrics import frechet_distance
from tinygan.networks import pyramid
from tinygan.random import Random

from helpers import Ending, all_equal, catch_training, copy_parameters, error_of, normal, tensor
from test_examples import run

SHAPE = 2, 8, 12
SHAPES = [(2, 8, 12), (2, 4, 6), (2, 2, 3)]
Z = 5


def make_networks(seed=0):
    """Return the networks of three levels: lists of generators and of discriminators."""
    rng.seed(seed)
    details = [nn.Sequential(nn.JoinMap(), nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(),
                             nn.Conv2d(4, 2, 3, padding=1)) for _ in range(2)]
    coarse = nn.Sequential(nn.Dense(Z, 12), nn.Sigmoid(), nn.Reshape(*SHAPES[-1]))
    scores = [nn.Sequential(nn.Flatten(), nn.Dense(c * h * w, 6), nn.Tanh(), nn.Dense(6, 1))
              for c, h, w in SHAPES]
    return [*details, coarse], scores


def make_game(seed=0, **choices):
    Gs, Ds = make_networks(seed)
    return LAPGAN(pyramid.Generator(SHAPE, *Gs), pyramid.Discriminator(*Ds), Z, **choices)


def draw_images(n=4, seed=0):
    return tensor(np.random.default_rng(seed).uniform(0, 1, (n, *SHAPE)), "float32")


def shrink(images):
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def enlarge(images):
    """Return images at twice their size; along each axis a new pixel is 3/4 old + 1/4 neighbour."""
    for axis in 2, 3:
        n = images.shape[axis]
        before, after = (images.take(np.arange(n) + i, axis, mode="clip") for i in (-1, 1))
        images = np.stack([(3 * images + before) / 4, (3 * images + after) / 4], axis + 1)
        images = images.reshape(*images.shape[:axis], 2 * n, *images.shape[axis + 2:])
    return images


# Pyramids and their networks

def test_the_gaussian_pyramid():
    """I_{k+1} = d(I_k): means of blocks; u interpolates between the centres of pixels."""
    images = draw_images()
    found = pyramid.make_gaussian(images, 3)
    expected = [images.numpy()]
    for _ in range(2):
        expected.append(shrink(expected[-1]))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, atol=1e-6)
    np.testing.assert_allclose(pyramid.up(images).numpy(), enlarge(expected[0]), atol=1e-6)
    assert pyramid.make_gaussian(images, 1) == (images,)
    assert "multiples of 8" in error_of(pyramid.make_gaussian, images, 4)


class TrueDetails(nn.Module):
    """The generator that knows the data: it returns I_k - l_k, or I_K without an l."""

    def __init__(self, image):
        self.image = image

    def forward(self, z, l=None):
        return Tensor(self.image) if l is None else Tensor(self.image) - l


def test_an_image_is_the_sum_of_its_details():
    """Eq. 4: generators that return the details of an image draw the image, level by level."""
    images = pyramid.make_gaussian(draw_images(), 3)
    G = pyramid.Generator(SHAPE, *(TrueDetails(image.data) for image in images))
    z = tensor(normal(4, Z))
    for drawn, image in zip(G(z, z, z), images, strict=True):
        np.testing.assert_allclose(drawn.numpy(), image.numpy(), atol=1e-6)


def test_samples_are_drawn_from_the_coarsest_level_on():
    """Eq. 5, and its first levels alone, from a blurred image that is given."""
    game = make_game()
    (G_0, G_1, G_2), z = game.G.levels, game.latent(3, Random(1))
    I_2 = G_2(z[2]).numpy()
    l_1 = enlarge(I_2)
    I_1 = l_1 + G_1(z[1], tensor(l_1)).numpy()
    l_0 = enlarge(I_1)
    I_0 = l_0 + G_0(z[0], tensor(l_0)).numpy()
    for found in game.sample_levels(z), [a.data for a in game.generate(z)]:
        for a, b in zip(found, (I_0, I_1, I_2), strict=True):
            np.testing.assert_allclose(to_numpy(a), b, atol=1e-5)
    np.testing.assert_array_equal(to_numpy(game.sample(z)), to_numpy(game.sample_levels(z)[0]))
    given = z[0], (z[1], tensor(l_1))
    assert [a.shape[1:] for a in game.generate(given)] == SHAPES[:2]
    np.testing.assert_allclose(to_numpy(game.sample(given)), I_0, atol=1e-5)
    for wrong in (), z[:2], (*z, z[2]), (z,), (*z[:2], (z[2], z[2])), (*z, (z[0], tensor(l_0))):
        message = error_of(game.G, *wrong)
        assert "3 levels takes the noise" in message and f"got {len(wrong)} inputs" in message


# The game

def test_the_noise():
    """z_k ~ U(-1, 1), a plane in the levels with details."""
    z = make_game().latent(400, Random(0))
    assert [a.shape for a in z] == [(400, 1, 8, 12), (400, 1, 4, 6), (400, Z)]
    for a in map(Tensor.numpy, z):
        assert -1 <= a.min() < -0.99 and 0.99 < a.max() <= 1
        assert a.var() == pytest.approx(1 / 3, abs=0.02)        # of 2,000 numbers or more


def test_what_d_sees():
    """D_k sees I_k, or l_k + G_k(z_k, l_k) with the l_k of the data; D_K sees G_K(z_K)."""
    game, x = make_game(), draw_images()
    z = game.latent(4, Random(0))
    images = [x.numpy(), shrink(x.numpy()), shrink(shrink(x.numpy()))]
    for a, b in zip(game.real(x), images, strict=True):
        np.testing.assert_allclose(a.numpy(), b, atol=1e-6)
    fake = game.fake(x, z)
    for k in range(2):
        l = enlarge(images[k + 1])
        np.testing.assert_allclose(fake[k].numpy(), l + game.G.levels[k](z[k], tensor(l)).numpy(),
                                   atol=1e-5)
    np.testing.assert_array_equal(fake[2].numpy(), game.G.levels[2](z[2]).numpy())
    scores = game.discriminate(fake)
    assert scores.shape == (4, 3, 1, 1)
    for k, D in enumerate(game.D.levels):
        np.testing.assert_array_equal(scores.numpy()[:, k, :, 0], D(fake[k]).numpy())


def level_losses(game, k, x, z, gamma):
    """Return D's and G's loss of level k alone, a GAN with R1 on the images of this level."""
    real, fake = game.real(x)[k], game.fake(x, z)[k]
    D, loss = game.D.levels[k], losses.NonSaturating()
    score = Tensor(real.data)
    penalty = penalties.R1(gamma)(D, score, fake, D(score), None)
    return loss.d(D(real), D(fake)) + penalty, loss.g(None, D(fake))


def test_each_level_is_trained_as_if_it_were_alone():
    """The losses are the means of those of the levels, and R1 has the weight gamma / levels."""
    game, x = make_game(penalties=[penalties.R1(6.0)]), draw_images()
    z = game.latent(4, Random(0))
    alone = [level_losses(game, k, x, z, gamma=2.0) for k in range(3)]
    both = [(game.d_loss(x, z), game.D), (game.g_loss(x, z), game.G)]
    for i, (loss, networks) in enumerate(both):
        assert loss.item() == pytest.approx(np.mean([each[i].item() for each in alone]), rel=1e-5)
        together = dict(zip(networks.parameters(), grad(loss, networks.parameters())))
        for k, level in enumerate(networks.levels):
            for p, g in zip(level.parameters(), grad(alone[k][i], level.parameters())):
                # float32 sums in another order
                np.testing.assert_allclose(3 * together[p].numpy(), g.numpy(), rtol=1e-4, atol=1e-6)


def test_no_level_depends_on_another_one():
    """Training with other networks in the other levels gives a level the same weights."""
    images = np.asarray(draw_images(32).numpy())
    for k in range(3):
        found = []
        for seed in 1, 2:
            (Gs, Ds), (other_Gs, other_Ds) = make_networks(), make_networks(seed)
            other_Gs[k], other_Ds[k] = Gs[k], Ds[k]
            game = LAPGAN(pyramid.Generator(SHAPE, *other_Gs), pyramid.Discriminator(*other_Ds), Z)
            opts = [optim.Adam(p, 1e-2) for p in (game.d_parameters(), game.g_parameters())]
            rng.seed(3)
            for _ in play(game, Minibatches(images, 8), *opts, 8, rng, 3):
                pass
            found.append({**copy_parameters(Gs[k]), **{
                f"D.{name}": a for name, a in copy_parameters(Ds[k]).items()}})
        assert all_equal(*found)
        assert not all_equal(found[0], {**copy_parameters(make_networks()[0][k]), **{
            f"D.{name}": a for name, a in copy_parameters(make_networks()[1][k]).items()}})


def test_a_level_alone_is_a_gan():
    """With one level the game is a GAN of whole images."""
    (*_, G), (*_, D) = make_networks()
    game = LAPGAN(pyramid.Generator(SHAPES[-1], G), pyramid.Discriminator(D), Z)
    x = tensor(normal(4, *SHAPES[-1]), "float32")
    (z,) = game.latent(4, rng)
    loss = losses.NonSaturating()
    assert game.d_loss(x, (z,)).item() == pytest.approx(loss.d(D(x), D(G(z))).item(), rel=1e-6)
    assert game.g_loss(x, (z,)).item() == pytest.approx(loss.g(None, D(G(z))).item(), rel=1e-6)


def test_pictures_show_all_levels():
    """A group has the images of a sample, the coarsest first, with pixels as large as needed."""
    game = make_game()
    z = game.fixed_inputs(None, 64, Random(0))
    images, columns = game.pictures(z)
    assert images.shape == (60, *SHAPE) and columns == 12 and game.group == 3
    levels = [to_numpy(a) for a in game.sample_levels(z)]
    for k, level in enumerate(levels):
        np.testing.assert_array_equal(to_numpy(images)[2 - k::3],
                                      level.repeat(2 ** k, 2).repeat(2 ** k, 3))
    assert len(game.pictures(game.fixed_inputs(None, 1, rng))[0]) == 12


def test_what_is_refused():
    Gs, Ds = make_networks()
    G, D = pyramid.Generator(SHAPE, *Gs), pyramid.Discriminator(*Ds)
    assert "pyramid.Discriminator, got a Generator and a Sequential" in error_of(LAPGAN, G, Ds[0])
    assert "got a Sequential and a Discriminator" in error_of(LAPGAN, Gs[2], D)
    assert "G has 3 levels, and D 2" in error_of(LAPGAN, G, pyramid.Discriminator(*Ds[1:]))
    assert "at least one level" in error_of(pyramid.Generator, SHAPE)
    for size in (8, 10), (10, 8):
        assert f"whose sides are multiples of 4, not {size[0]}x{size[1]} pixels" in error_of(
            pyramid.Generator, (2, *size), *Gs)
    for k in range(3):      # in any level
        levels = [nn.Sequential(*D, nn.Sigmoid()) if i == k else D for i, D in enumerate(Ds)]
        assert "D ends in a sigmoid" in error_of(LAPGAN, G, pyramid.Discriminator(*levels))
        class Returning(LAPGAN):        # computes scores from D's outputs
            d_returns_scores = False

        Returning(G, pyramid.Discriminator(*levels))
        networks = [Ending(D, ops.sigmoid) if i == k else D for i, D in enumerate(Ds)]
        game = LAPGAN(G, pyramid.Discriminator(*networks), Z)
        assert "D ends in a sigmoid" in error_of(game.d_loss, draw_images(), game.latent(4, rng))
    for k in range(2):
        levels = [nn.Sequential(*G, nn.Sigmoid()) if i == k else G for i, G in enumerate(Gs)]
        assert f"G_{k} ends in a sigmoid, but details are also negative" in error_of(
            LAPGAN, pyramid.Generator(SHAPE, *levels), D)
    assert "latent(5, tinygan.rng)" in error_of(LAPGAN(G, D, Z).sample, 5)
    tanh = pyramid.Generator(SHAPE, *Gs[:2], nn.Sequential(Gs[2], nn.Tanh()))
    assert "G_K ends in a tanh" in error_of(LAPGAN, tanh, D, Z)
    for make in (lambda *levels: pyramid.Generator(SHAPE, *levels)), pyramid.Discriminator:
        message = error_of(make, [Gs[0]])
        assert "layer 0 of a pyramid's" in message and "got <class 'list'>" in message
    assert "at least one level" in error_of(pyramid.list_shapes, SHAPE, 1.5)
    game = LAPGAN(G, D, Z)
    for wrong in normal(4, 2, 8, 16), normal(4, 1, 8, 12):
        with pytest.raises(UserError, match="the networks are for images of the shape"):
            game.check_minibatch(tensor(wrong))


def test_data_of_another_range_is_refused():
    """Pictures and measures of all levels are those of images in [0, 1]."""
    game, x = make_game(), draw_images().numpy()
    for wrong in 2 * x - 1, 255 * x:
        message = error_of(game.check_minibatch, tensor(wrong))
        assert "images lie in [0, 1]" in message and "scale the data to [0, 1]" in message
    game.check_minibatch(tensor(x))


def test_images_and_scores_of_another_shape_are_refused():
    """A level whose output would be broadcast or reshaped to another level's is refused by name."""
    Gs, Ds = make_networks()
    x, z = draw_images(), LAPGAN(pyramid.Generator(SHAPE, *Gs), pyramid.Discriminator(*Ds),
                                 Z).latent(4, Random(0))
    grey = nn.Sequential(nn.JoinMap(), nn.Conv2d(3, 1, 3, padding=1))   # one colour, added to two
    small = nn.Sequential(nn.Dense(Z, 4), nn.Reshape(1, 2, 2))
    class Mean(nn.Module):          # one image of details for all samples

        def forward(self, z, l):
            return l.mean(0, keepdims=True)
    for k, level, got in ((0, grey, (4, 1, 8, 12)), (1, Mean(), (1, 2, 4, 6)),
                          (2, small, (4, 1, 2, 2))):
        G = pyramid.Generator(SHAPE, *[level if i == k else each for i, each in enumerate(Gs)])
        message = error_of(G, *z)
        assert f"the generator of level {k} must return" in message and str(got) in message
        assert str((4, *SHAPES[k])) in message
    images = pyramid.make_gaussian(x, 3)
    for k in range(3):
        D = pyramid.Discriminator(*[nn.Flatten() if i == k else each for i, each in enumerate(Ds)])
        assert f"the discriminator of level {k} must return scores (m, 1)" in error_of(D, *images)
    assert "takes an image of each" in error_of(pyramid.Discriminator(*Ds), *images[:2])


# The measures and the example

class Scaled(TrueDetails):
    """A generator of the true details times a factor."""

    def __init__(self, image, factor):
        self.image, self.factor = image, factor

    def forward(self, z, l=None):
        details = super().forward(z, l)
        return details if l is None else self.factor * details


def test_evaluate_measures_what_each_level_adds():
    """True details have the energy 1 and the distance 0; no details, those of a blurred image."""
    import evaluate
    digits = mnist.load_sample().test.part(slice(40))
    net = evaluate.classifier.load_classifier()
    images = [image.data for image in pyramid.make_gaussian(Tensor(digits.floats(slice(None))), 3)]

    def measure(factor, net=net):
        G = pyramid.Generator((1, 28, 28), *(Scaled(image, factor) for image in images))
        D = pyramid.Discriminator(*(nn.Flatten() for _ in images))
        return evaluate.measure_levels(LAPGAN(G, D, Z), digits, net, 0)
    found = measure(1.0)
    assert list(found) == ["from 14x14", "blurred 14x14", "from 7x7", "blurred 7x7"]
    for size in "14x14", "7x7":
        assert found[f"from {size}"]["details"] == pytest.approx(1, abs=1e-5)
        assert found[f"from {size}"]["Frechet"] < 1e-3 < 1 < found[f"blurred {size}"]["Frechet"]
    without = measure(0.0)
    for size in "14x14", "7x7":
        assert without[f"from {size}"]["details"] == 0
        assert without[f"from {size}"]["Frechet"] == pytest.approx(
            without[f"blurred {size}"]["Frechet"], rel=1e-4)
        assert found[f"blurred {size}"] == without[f"blurred {size}"]
    # details that lead out of [0, 1] are cut off, as in pictures
    fine, blurred = digits.floats(slice(None)), pyramid.up(Tensor(images[1])).data
    edges = (blurred + 3 * (fine - blurred)).clip(0, 1)
    true, drawn = (evaluate.classifier.classify(net, a).features for a in (fine, edges))
    assert measure(3.0)["from 14x14"]["Frechet"] == pytest.approx(
        frechet_distance(drawn, true), rel=1e-3)
    assert measure(0.5, None) == {f"from {size}": {"details": pytest.approx(0.25, abs=1e-5)}
                                  for size in ("14x14", "7x7")}


def test_a_sample_has_noise_of_its_own_in_layers():
    """A layer that always draws does so for each sample by its input, as in any game's sample()."""
    Gs, Ds = make_networks()
    Gs[0] = nn.Sequential(*Gs[0][:3], nn.Dropout(0.5, always=True), Gs[0][3])
    game = LAPGAN(pyramid.Generator(SHAPE, *Gs), pyramid.Discriminator(*Ds), Z)
    z = game.latent(6, Random(0))
    samples = to_numpy(game.sample(z))
    np.testing.assert_array_equal(to_numpy(game.sample(z)), samples)
    alone = to_numpy(game.sample(tuple(tensor(a.numpy()[4:5]) for a in z)))
    np.testing.assert_allclose(alone[0], samples[4], atol=1e-6)


def test_samples_are_measured_as_they_are_shown():
    """Details may lead out of [0, 1]; evaluate.py clips such pixels, as pictures do."""
    import evaluate
    game = make_game()
    samples, z = evaluate.draw_samples(game, None, 20, 0)
    drawn = to_numpy(game.sample(tuple(map(tensor, z))))
    assert drawn.min() < 0
    np.testing.assert_allclose(samples, drawn.clip(0, 1), atol=1e-6)


def test_the_figures_of_the_table_of_pyramids(tmp_path):
    import tables
    usual = dict(precision=0.5, recall=0.25)
    rows = {"samples": dict(usual, Frechet=4.0, KID=1.0), "training images": dict(usual, Frechet=2),
            "from 14x14": {"details": 0.9, "Frechet": 3.0}, "blurred 14x14": {"Frechet": 9.0}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"measures": rows}))
    found = tables.read_pyramid("A", [["lapgan_mnist.py"], ["evaluate.py", str(tmp_path)]], [])
    assert found == {
        "A": {"Frechet": 4, "times the floor": 2, **usual},
        "A, from 14x14": {"Frechet": 3, "details": 0.9}, "blurred 14x14": {"Frechet": 9},
        "training images": {"Frechet": 2, "times the floor": 1, **usual}}


@pytest.mark.host
def test_evaluate_measures_a_run_of_the_example(tmp_path):
    flags = "--data", "sample", "--steps", 2, "--batch-size", 8, "--out", "run"
    trained = run("lapgan_mnist.py", *flags, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    process = run("evaluate.py", "run", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    for row in "from 14x14", "blurred 14x14", "from 7x7", "blurred 7x7":
        assert re.search(rf"^{row} .*\d", process.stdout, re.M), row


@pytest.mark.host
def test_the_recipe_of_the_example():
    """It is that of examples/results.jsonl: a recipe that changes needs new results."""
    made = catch_training("lapgan_mnist", data=mnist.load_sample())
    args, game = made.args, made.game
    assert (args.steps, args.batch_size, args.average) == (6000, 64, 0.998)
    assert [[sum(p.size for p in level.parameters()) for level in player.levels]
            for player in (game.D, game.G)] == [
        [102_809, 107_361, 288_769], [809, 28_065, 339_505]]
    assert [G[1].weight.shape for G in game.G.levels[:2]] == [(8, 2, 3, 3), (32, 2, 5, 5)]
    # in each of the three levels 0.3, see test_each_level_is_trained_as_if_it_were_alone
    (penalty,) = game.penalties
    assert type(penalty) is penalties.R1 and penalty.gamma == pytest.approx(0.9)
    assert game.z_size == 100
    for opt, parameters in ((made.d_opt, game.d_parameters()), (made.g_opt, game.g_parameters())):
        assert opt.parameters == parameters and opt.betas == (0.0, 0.99)
        assert [schedules.value_at(opt.lr, t) for t in (0, 3000, 6000)] == pytest.approx(
            [2e-3, 1e-3, 0])


@pytest.mark.host
def test_the_levels_of_the_example(tmp_path):
    """Images of another shape have levels of their own, as many as --levels says."""
    data = mnist.load_sample()
    wide = data._replace(train=Split(images=data.train.images[:, :, :24]))
    for levels, shapes in (1, [(24, 28)]), (3, [(24, 28), (12, 14), (6, 7)]):
        game = catch_training("lapgan_mnist", "--levels", levels, data=wide).game
        assert [shape[1:] for shape in game.G.shapes] == shapes
        assert game.penalties[0].gamma == pytest.approx(0.3 * levels)
        game.check_minibatch(Tensor(wide.train.floats(slice(4))))
        with no_grad():
            drawn = game.generate(game.latent(2, rng))
            assert [image.shape[2:] for image in drawn] == shapes
            assert game.score(drawn).shape == (2, levels, 1, 1)
    failed = run("lapgan_mnist.py", "--data", "sample", "--levels", 4, "--out", "run", cwd=tmp_path)
    assert failed.returncode == 1 and "4 levels needs images whose sides are mul" in failed.stderr
    assert not (tmp_path / "run").exists()
