"""Tests of the semi-supervised GAN, and of the example that learns digits from few labels."""

import numpy as np
import pytest

from tinygan import (Tensor, UserError, backend, grad, load, nn, no_grad, ops, optim, play, rng,
                     schedules, to_numpy)
from tinygan.data import Minibatches, Split, ZipMinibatches, as_floats, mnist
from tinygan.games import SemiSupervisedGAN, penalties, views
from tinygan.random import Random

from helpers import Ending, catch_training, device, error_of, normal, tensor
from test_examples import read_refusal, run

LABELS = [0, 2, 1, 0]


def make_game(**choices):
    """Return a game with three classes whose D has four features."""
    G = nn.Sequential(nn.Dense(5, 16), nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 4), nn.Tanh())
    return SemiSupervisedGAN(G, nn.Heads(trunk, nn.Dense(4, 3), nn.Sequential()), 5, **choices)


def make_minibatch():
    """Return (images with labels, labels, images without)."""
    return (tensor(normal(4, 1, 4, 4), "float32"), device(LABELS),
            tensor(normal(4, 1, 4, 4, seed=1), "float32"))


def softmax(logits):
    """Return the probabilities of logits (m, k), by the formula."""
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


class Halves(views.View):
    """A view that leaves every second sample out, as views.Pack leaves fewer samples."""

    def __call__(self, x):
        return x[::2]


# The game

@pytest.mark.parametrize("lam", [0.5, 3.0])
def test_losses_are_those_of_a_classifier_with_a_class_for_samples(lam):
    """D is a classifier of K + 1 classes, of which the logit of the last, "generated", is 0.

    It is to find the labels of the images that have some, given that they are real; that the others
    are not of the last class; and that samples are.
    """
    game, z = make_game(lam=lam), tensor(normal(4, 5, seed=2), "float32")
    x = images, _, others = make_minibatch()
    logits, features = zip(*[[to_numpy(t.data).astype(float) for t in game.D(inputs)]
                             for inputs in (images, others, game.G(z))])
    p_labelled, p_real, p_fake = (softmax(np.pad(each, [(0, 0), (0, 1)])) for each in logits)
    supervised = -np.log(p_labelled[range(4), LABELS] / (1 - p_labelled[:, 3])).mean()
    unsupervised = -np.log(1 - p_real[:, 3]).mean() - np.log(p_fake[:, 3]).mean()
    difference = features[1].mean(0) - features[2].mean(0)
    # float32 sums of a few numbers of size 1
    assert game.d_loss(x, z).item() == pytest.approx(supervised + lam * unsupervised, rel=1e-5)
    assert game.logged["class loss"].item() == pytest.approx(supervised, rel=1e-5)
    assert game.logged["D(x)"].item() == pytest.approx(1 - p_real[:, 3].mean(), rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx((difference ** 2).sum(), rel=1e-5)
    both = [loss.item() for loss in game.losses(x, z)]
    assert both == [game.d_loss(x, z).item(), game.g_loss(x, z).item()]


def test_the_score_is_finite_for_large_logits():
    """D(x) = Z / (Z + 1) is computed from log Z, since Z itself would overflow."""
    game = make_game()
    for logit in (-1e3, 1e3):
        game.D.heads[0].weight.data[...], game.D.heads[0].bias.data[...] = 0, logit
        (score,) = set(game.score(make_minibatch()[2]).numpy().ravel().tolist())
        assert score == pytest.approx(logit + np.log(3), rel=1e-6)


def test_without_the_loss_of_images_without_labels_d_is_a_classifier():
    """With lam = 0, its gradient is that of the cross-entropy, for any images without labels."""
    game, z = make_game(lam=0), tensor(normal(4, 5, seed=2), "float32")
    images, labels, others = make_minibatch()
    expected = grad(ops.cross_entropy(game.D(images)[0], labels), game.d_parameters())
    for x in (images, labels, others), (images, labels, others * 100):
        for g, e in zip(grad(game.d_loss(x, z), game.d_parameters()), expected, strict=True):
            np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-6, atol=1e-7)


def test_both_forms_of_a_minibatch_are_the_same():
    game, z = make_game(), tensor(normal(4, 5, seed=2), "float32")
    images, labels, others = make_minibatch()
    assert game.d_loss(((images, labels), others), z).item() == (
        game.d_loss((images, labels, others), z).item())
    for x in (images, labels, others), ((images, labels), others):
        game.check_minibatch(x)


def test_the_range_of_both_kinds_of_images_is_checked():
    """G of make_game() is linear; with a sigmoid, images with labels lie in [0, 1] too."""
    images, labels, others = make_minibatch()
    game = make_game()
    game.check_minibatch((images * 100, labels, others))
    bounded = SemiSupervisedGAN(nn.Sequential(game.G, nn.Sigmoid()), game.D, 5)
    with pytest.raises(UserError, match="G ends in a sigmoid"):
        bounded.check_minibatch((images * 100, labels, others))


def test_all_images_pass_the_views():
    """Those with labels too: with a view, D's loss is that of the images as the view shows them."""
    class Mirror(views.View):
        def __call__(self, x):
            return x[..., ::-1]
    z, (images, labels, others) = tensor(normal(4, 5, seed=2), "float32"), make_minibatch()
    game = make_game(lam=0, views=[Mirror()])
    found = game.d_loss((images, labels, others), z).item()
    expected = ops.cross_entropy(game.D(images[..., ::-1])[0], labels).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_penalties_belong_to_the_loss_without_labels():
    """They are on the score log Z, and have the weight lam."""
    penalty, z = penalties.R1(2.0), tensor(normal(4, 5, seed=2), "float32")
    game, x = make_game(lam=3.0, penalties=[penalty]), make_minibatch()
    found = game.d_loss(x, z).item()
    expected = penalty(game.score, x[2], None, game.score(x[2]), None).item()
    game.penalties = []
    assert found == pytest.approx(game.d_loss(x, z).item() + 3 * expected, rel=1e-5)


def test_what_the_game_refuses():
    x, z = make_minibatch(), tensor(normal(4, 5), "float32")
    assert "lam must be a number of at least 0, got -1" in error_of(make_game, lam=-1)
    assert make_game().lam == 0.5       # that of the published code
    G, D = make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 3))
    assert "nn.Dense(n, classes)" in error_of(SemiSupervisedGAN(G, D, 5).d_loss, x, z)
    ending = nn.Heads(Ending(nn.Flatten(), ops.sigmoid), nn.Sequential(), nn.Sequential())
    assert "D ends in a sigmoid" in error_of(SemiSupervisedGAN(G, ending, 5).d_loss, x, z)
    assert "leave views.Pack out" in error_of(make_game(views=[Halves()]).d_loss, x, z)
    if backend.xp is np:        # on a device the values are not read
        assert "from 0 to 2, got 0 to 3" in error_of(
            make_game().d_loss, (x[0], device([0, 3, 1, 2]), x[2]), z)
    game, images = make_game(), np.zeros((8, 1, 4, 4), np.float32)
    without, labelled = Minibatches(images, 4), Minibatches(images, 4, labels=np.arange(8) % 3)
    for data, found in ((without, "images"), (labelled, "images, labels"),
                        (ZipMinibatches(without, labelled), "images, images, labels"),
                        (ZipMinibatches(without, without, without), "images, images, images"),
                        (iter([[images]]), None)):
        words = "an array or a tuple of arrays, got <class 'list'>" if found is None else (
            f"have {found}: give data.ZipMinibatches")
        with pytest.raises((TypeError, UserError), match=words):
            next(play(game, data, optim.SGD(game.d_parameters(), 0.1),
                      optim.SGD(game.g_parameters(), 0.1), 4, rng, 1))


@pytest.mark.numpy_only("learning; the stand-in device computes the same")
def test_images_without_labels_show_where_the_classes_end():
    """Two long parallel clusters have one label each, at opposite ends.

    With the labels alone, D's boundary lies between the two labels and cuts both clusters. The
    points without labels show that it lies between the clusters. G's samples, which are spread
    evenly over the plane, do not change here. Of ten seeds nine pass, seven of them without an
    error in the second case.
    """
    random = np.random.default_rng(1)

    def draw(n):
        labels = np.arange(n) % 2
        along, across = random.uniform(-2, 2, n), random.normal(0, 0.1, n) + 2 * labels - 1
        return np.float32(np.stack([along, across], 1)), labels
    points, test, labels = draw(2000)[0], *draw(1000)
    known = Minibatches(np.float32([[-2, -1], [2, 1]]).repeat(32, 0), 64,
                        labels=np.arange(2).repeat(32))
    errors = {}
    for lam in 0.0, 1.0:
        rng.seed(1)
        G = nn.Dense(2, 2)
        G.weight.data[...] = 1.5 * np.eye(2)
        trunk = nn.Sequential(nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 64), nn.ReLU())
        game = SemiSupervisedGAN(G, nn.Heads(trunk, nn.Dense(64, 2), nn.Sequential()), 2, lam)
        data = ZipMinibatches(known, Minibatches(points, 64))
        for _ in play(game, data, optim.Adam(game.d_parameters(), 3e-3),
                      optim.SGD(game.g_parameters(), 0.0), 64, rng, 250):
            pass
        with nn.eval_mode(game), no_grad():
            errors[lam] = (game.D(Tensor(test))[0].numpy().argmax(1) != labels).mean()
    assert errors[1.0] < errors[0.0] / 2


# The example

def test_initial_weights_by_data():
    """Each layer's outputs for these inputs have mean 0 and variance 1, one by one.

    The scale of an output that is the same for all inputs is kept.
    """
    import semi_supervised_mnist
    layers = [nn.weight_norm(nn.Dense(6, 5), learn_norms=False), nn.ReLU(),
              nn.weight_norm(nn.Dense(5, 4))]
    numbers = normal(50, 6) * 3 + 1
    numbers[:, 0] = 2
    layers[0].weight_v.data[0] = device(np.eye(6)[0])       # the first output is g times the 2
    layers[0].weight_g[0] = 5
    x = y = tensor(numbers, "float32")
    semi_supervised_mnist.initialise(layers, x)
    assert layers[0].weight_g[0] == 5 and layers[0].bias.data[0] == -10
    for i, layer in enumerate(layers):
        y = layer(y)
        if isinstance(layer, nn.Dense):
            found = y.numpy()[:, i == 0:]       # without the first output of the first layer
            np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)         # float32, size 1
            np.testing.assert_allclose(found.std(0), 1, rtol=1e-5)


def test_as_many_labels_of_each_class():
    import semi_supervised_mnist
    labels = np.array([0, 1, 2, 1, 0, 2, 2, 1, 0, 1])
    split = Split({"images": np.zeros((10, 2)), "labels": labels})
    choose = lambda n, seed=0: semi_supervised_mnist.choose_labelled(split, n, Random(seed))
    for n in 3, 6, 9:
        chosen = choose(n)
        assert len(set(chosen.tolist())) == n
        assert np.bincount(labels[chosen]).tolist() == [n // 3] * 3
    assert len({tuple(sorted(choose(3, seed).tolist())) for seed in range(10)}) > 1
    assert "give a multiple of 3 by --labels" in error_of(choose, 4)
    assert "but one has 3: give --labels of at most 9" in error_of(choose, 12)


@pytest.mark.parametrize("flags, n, lam, rates", [
    ([], 100, 0.5, [3e-3, 3e-3, 1.5e-3, 0]), (["--labels", 20, "--lam", 2], 20, 2, None),
    (["--paper"], 100, 0.5, [3e-3] * 4)])
def test_the_settings_of_the_example(flags, n, lam, rates):
    """The networks are those of the paper's code; few images have labels, and all are seen."""
    import semi_supervised_mnist
    data = mnist.load_sample()
    call = catch_training("semi_supervised_mnist", *flags, data=data)
    steps = 150_000 if "--paper" in flags else 10_800
    assert (call.args.steps, call.args.batch_size, call.game.lam) == (steps, 100, lam)
    shapes = [p.shape for net in (call.game.G, call.game.D) for p in net.parameters()
              if p.ndim == 2 and p.shape[1] > 1]        # without the norms g
    assert shapes == [(500, 100), (500, 500), (784, 500),
                      (1000, 784), (500, 1000), (250, 500), (250, 250), (250, 250), (10, 250)]
    norms = [name for name in call.game.arrays() if name.endswith("weight_g")]
    learnt = [name for name in call.game.named_arrays(Tensor) if name.endswith("weight_g")]
    assert len(norms) == 7 and learnt == ["G.6.weight_g", "D.heads.0.1.weight_g"]
    assert [layer.sigma.item() for _, layer in call.game.D.modules()
            if isinstance(layer, nn.GaussianNoise)] == pytest.approx([0.3] + [0.5] * 5)
    for opt in call.d_opt, call.g_opt:
        assert type(opt) is optim.Adam and opt.betas == (0.5, 0.999)
        assert opt.eps == pytest.approx(1e-4 if opt is call.d_opt else 250e-4)
        if rates:
            found = [schedules.value_at(opt.lr, steps * i / 6) for i in (0, 4, 5, 6)]
            assert found == pytest.approx(rates, abs=1e-9)
    (images, labels), others = next(call.batches)
    assert len(images) == len(labels) == len(others) == 100
    there = {as_floats(image).tobytes(): label
             for image, label in zip(data.train.images, data.train.labels)}
    found = {image.tobytes(): label for image, label in zip(to_numpy(images), labels.tolist())}
    assert len(found) == n and np.bincount(to_numpy(labels)).tolist() == [10] * 10
    assert all(there[image] == label for image, label in found.items())
    assert len({image.tobytes() for image in to_numpy(others)} - found.keys()) > 90
    with no_grad():     # D's initial weights are by data: noise alone has other outputs
        y = call.game.D.trunk[:3](Tensor(data.train.floats(slice(1000)))).numpy()
    # of 500 other images, mean and deviation differ by some 1 / sqrt(500)
    assert abs(y.mean()) < 0.1 and abs(y.std() - 1) < 0.1
    assert call.game.G.layers.count(ops.softplus) == 2
    assert [type(layer) for layer in call.game.D.trunk.layers].count(nn.ReLU) == 5
    assert call.make_run.args[0] is data.test
    assert call.make_run.func is semi_supervised_mnist.SemiSupervisedRun


@pytest.mark.host
def test_the_error_is_that_of_d_in_evaluation_mode(tmp_path):
    process = run("semi_supervised_mnist.py", "--steps", 2, "--data", "sample", "--out", "run",
                  cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "100 of 8000 training images have labels" in process.stdout
    game, test = load(tmp_path / "run"), mnist.load_sample().test
    with no_grad():
        named = game.D(Tensor(test.floats(slice(None))))[0].numpy().argmax(1)
    import tables
    (last,) = tables.read_labels("run", [["--out", str(tmp_path / "run")]], []).values()
    # log.csv has six digits
    assert last["test error"] == pytest.approx(100 * (named != test.labels).mean(), rel=1e-5)


@pytest.mark.host
def test_the_example_refuses_data_without_test_images_or_labels(tmp_path):
    images = np.full((9, 8, 8), 255, np.uint8)
    np.save(tmp_path / "images.npy", np.full((100, 8, 8), 255, np.uint8))
    np.savez(tmp_path / "few.npz", images=images, labels=np.zeros(9, np.int64))
    for file, words in ("images.npy", "images with labels"), ("few.npz", "no test images"):
        line = read_refusal("semi_supervised_mnist.py", "--data", file, cwd=tmp_path)
        assert words in line
