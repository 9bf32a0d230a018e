"""Tests of games with labels: layers, the conditional GAN, the projection discriminator."""

import json

import numpy as np
import pytest

from tinygan import Tensor, UserError, backend, check_grads, nn, ops, optim, play
from tinygan.backend import to_numpy
from tinygan.data import Minibatches, mnist
from tinygan.games import (ACGAN, ConditionalGAN, ProjectionDiscriminator, ProjectionGAN,
                           losses, penalties)
from tinygan.games.acgan import class_logits
from tinygan.networks import digits
from tinygan.random import Random

from helpers import device, error_of, normal, tensor
from test_examples import read_refusal, run


LABELS = [2, 0, 2, 1]
CLOSE = dict(rtol=1e-5, atol=1e-6)      # float32 sums of few numbers of size 1


# Layers

def test_one_hot():
    expected = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert nn.one_hot(device(LABELS), 3).numpy().tolist() == expected
    for labels, words in [([3, 0], "from 0 to 2, got 0 to 3"), ([-1, 0], "got -1 to 0")]:
        if backend.xp is np:        # on a device the values are not read
            assert words in error_of(nn.one_hot, device(labels), 3)
    for wrong in (device([0.0, 1.0]), device([[0], [1]]), tensor([0.0, 1.0]), [0, 1]):
        assert "labels are an array (m,) of whole numbers" in error_of(nn.one_hot, wrong, 3)


def test_an_embedding_looks_its_rows_up():
    layer = nn.Embedding(3, 5)
    np.testing.assert_array_equal(layer(device(LABELS)).numpy(), layer.weight.numpy()[LABELS])


def test_spectral_norm_of_an_embedding_is_that_of_its_matrix():
    layer = nn.spectral_norm(nn.Embedding(4, 6)).train()
    assert layer.weight_u.shape == (4,) and layer.weight_v.shape == (6,)        # as in PyTorch
    for _ in range(200):
        nn.power_iteration(layer)
    rows = layer.eval()(device([0, 1, 2, 3])).numpy()
    assert np.linalg.svd(rows, compute_uv=False)[0] == pytest.approx(1, rel=1e-4)   # converged u, v


@pytest.mark.parametrize("shape", [(4, 5), (4, 2, 3, 3)])
def test_joined_labels_follow_the_input(shape):
    x = normal(*shape)
    y = nn.JoinLabels(3)(tensor(x), device(LABELS)).numpy()
    assert y.shape == (4, shape[1] + 3, *shape[2:])
    np.testing.assert_array_equal(y[:, :shape[1]], x)
    for sample, label in zip(y[:, shape[1]:], LABELS):
        assert [float(plane.min()) for plane in sample] == [float(k == label) for k in range(3)]
        assert (sample == sample.reshape(3, -1)[:, :1].reshape(3, *[1] * (sample.ndim - 1))).all()


@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 3, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_is_batch_norm_with_the_classes_gain_and_shift(shape, training):
    layer, plain = nn.ConditionalBatchNorm(5, 3), nn.BatchNorm(5)
    x, labels = tensor(normal(*shape), "float32"), device(LABELS * 2)
    rng = Random(1)
    for embedding in (layer.weight, layer.bias):
        embedding.weight.data += rng.normal((3, 5))
    for net in (layer, plain):
        net(x, labels) if net is layer else net(x)          # the running averages change
        net.train(training)
    gain, shift = (e.weight.numpy()[LABELS * 2].reshape(8, 5, *[1] * (len(shape) - 2))
                   for e in (layer.weight, layer.bias))
    y = layer(x, labels).numpy()
    np.testing.assert_allclose(y, plain(x).numpy() * gain + shift, **CLOSE)
    fresh = nn.ConditionalBatchNorm(5, 3).train()
    np.testing.assert_allclose(fresh(x, labels).numpy(), nn.BatchNorm(5)(x).numpy(), **CLOSE)


def test_conditional_batch_norm_passes_its_settings_on():
    layer = nn.ConditionalBatchNorm(3, 2, 0.1, 0.3)
    assert (layer.norm.eps, layer.norm.momentum) == (0.1, 0.3)
    assert {name: p.shape for name, p in layer.named_arrays(Tensor).items()} == {
        "weight.weight": (2, 3), "bias.weight": (2, 3)}     # none of the BatchNorm's own


def test_branches_join_what_they_make_of_the_input_and_of_the_labels():
    layer = nn.Branches(3, nn.Dense(5, 2), nn.Dense(3, 4))
    x = tensor(normal(4, 5), "float32")
    y = layer(x, device(LABELS)).numpy()
    np.testing.assert_array_equal(y[:, :2], layer.samples(x).numpy())
    np.testing.assert_array_equal(y[:, 2:], layer.labels(nn.one_hot(device(LABELS), 3)).numpy())


def test_gradients_of_the_layers_with_labels():
    labels, x = device(LABELS), normal(4, 3, 2, 2)
    for layer in (nn.JoinLabels(3), nn.ConditionalBatchNorm(3, 3),
                  nn.Sequential(nn.ConditionalBatchNorm(3, 3), nn.Tanh())):
        check_grads(layer, x, labels)
    check_grads(nn.Embedding(3, 2), labels)
    check_grads(nn.spectral_norm(nn.Embedding(3, 2)), labels)


def test_sequential_passes_labels_to_conditional_layers_alone():
    """Also to a Sequential inside that has such a layer."""
    net = nn.Sequential(nn.Dense(4, 4), nn.JoinLabels(3), ops.relu, nn.Sequential(
        nn.JoinLabels(3), nn.Dense(10, 2)), nn.Sequential(nn.Tanh()))
    assert [getattr(layer, "conditional", False) for layer in net.layers] == [
        False, True, False, True, False]
    assert net(tensor(normal(4, 4), "float32"), device(LABELS)).shape == (4, 2)
    assert "missing" in error_of(net, tensor(normal(4, 4), "float32"))
    assert "none of its layers takes it" in error_of(
        nn.Sequential(nn.Dense(4, 4)), tensor(normal(4, 4), "float32"), device(LABELS))


# The conditional GAN

def make_conditional(**choices):
    return ConditionalGAN(*digits_networks(), z_size=5, classes=3, **choices)


def digits_networks():
    return digits.generator(5, (1, 8, 8), 3), digits.discriminator((1, 8, 8), 3)


def test_a_forward_of_ones_own_takes_the_labels_that_it_is_given():
    """Also in a subclass of Sequential whose layers take none, and in a function among layers."""
    class Shifted(nn.Sequential):
        def forward(self, x, labels):
            return super().forward(x) + nn.one_hot(labels, 3)[:, :1]

    def shift(x, labels):
        return x + nn.one_hot(labels, 3)[:, :1]
    shift.conditional = True
    x, layer = tensor(normal(4, 2), "float32"), nn.Dense(2, 1)
    expected = layer(x).numpy()[:, 0] + [0, 1, 0, 0]
    for net in (Shifted(layer), nn.Sequential(layer, shift),
                nn.Sequential(nn.Sequential(layer), nn.Sequential(shift))):
        np.testing.assert_allclose(net(x, device(LABELS)).numpy()[:, 0], expected, **CLOSE)


def test_latent_draws_uniform_labels_beside_the_noise():
    """The noise is that of the GAN; the shares of 30,000 labels are 1/3, standard error 0.003."""
    z, labels = make_conditional().latent(30_000, Random(0))
    assert abs(z.numpy()).max() <= 3 ** 0.5 and z.shape == (30_000, 5)
    shares = np.bincount(to_numpy(labels), minlength=3) / 30_000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.012)


def test_both_players_use_the_label_for_which_the_sample_was_made():
    """D scores G(z, y) with the same y, in both players' losses and in the simultaneous one."""
    game, scored = make_conditional(), []
    D = game.D
    game.discriminate = lambda inputs: scored.append(inputs) or D(*inputs)
    x = tensor(normal(4, 1, 8, 8) ** 2, "float32"), device([0, 1, 2, 0])
    z = game.latent(4, Random(3))
    for loss, order in ((game.d_loss, ["x", "z"]), (game.g_loss, ["z"]),
                        (game.losses, ["x", "z"])):
        scored.clear()
        loss(x, z)
        assert len(scored) == len(order)
        for (images, labels), which in zip(scored, order):
            assert (to_numpy(labels) == to_numpy((x if which == "x" else z)[1])).all()


def test_its_losses_are_the_gans_of_d_given_the_label():
    """eq. 2, with the non-saturating loss of G, from D's scores of the pairs."""
    game = make_conditional().eval()
    x = tensor(normal(4, 1, 8, 8) ** 2, "float32"), device([0, 1, 2, 0])
    z = game.latent(4, Random(3))
    a, b = game.D(*x).numpy(), game.D(game.G(*z), z[1]).numpy()
    softplus = lambda t: np.log1p(np.exp(t))
    assert game.d_loss(x, z).item() == pytest.approx(
        softplus(-a).mean() + softplus(b).mean(), rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(softplus(-b).mean(), rel=1e-5)


def test_pictures_have_a_row_for_each_class():
    game = make_conditional()
    z = game.fixed_inputs(None, 30, Random(0))
    images, columns = game.pictures(z)
    assert images.shape == (30, 1, 8, 8) and columns == 10
    assert to_numpy(game.labels(z)).tolist() == [0] * 10 + [1] * 10 + [2] * 10


@pytest.mark.parametrize("classes", [0, 2.5, None])
def test_a_number_of_classes_is_needed(classes):
    with pytest.raises(UserError, match="classes must be a whole number of at least 1"):
        ConditionalGAN(*digits_networks(), classes=classes)


@pytest.mark.numpy_only("the same learning on every backend")
@pytest.mark.parametrize("kind", ["conditional", "projection"])
@pytest.mark.parametrize("told", [True, False])
def test_g_learns_what_the_labels_mean_only_if_they_mean_something(kind, told):
    """On images whose brightness is their label's, G's samples have the brightness of theirs.

    If the labels of the data are drawn at random, the samples' brightness does not depend on them.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=400)
    levels = np.where((labels if told else generator.integers(2, size=400)) == 1, 0.8, 0.2)
    images = np.broadcast_to(levels[:, None, None, None], (400, 1, 4, 4)).astype(np.float32)
    images = images + generator.normal(size=images.shape).astype(np.float32) * 0.05
    G = nn.Sequential(nn.JoinLabels(2), nn.Dense(6, 16), nn.ReLU(), nn.Dense(16, 16),
                      nn.Reshape(1, 4, 4))
    if kind == "conditional":
        D = nn.Sequential(nn.Flatten(), nn.JoinLabels(2), nn.Dense(18, 16), nn.LeakyReLU(),
                          nn.Dense(16, 1))
        game = ConditionalGAN(G, D, 4, 2)
    else:
        phi = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU())
        game = ProjectionGAN(G, ProjectionDiscriminator(phi, 16, 2, normalised=False), 4, 2,
                             loss=losses.NonSaturating())
    opts = [optim.Adam(p, 5e-3) for p in (game.d_parameters(), game.g_parameters())]
    data = Minibatches(images, 32, Random(1), labels)
    for _ in play(game, data, *opts, 32, Random(2), iterations=400):
        pass
    z, _ = game.latent(200, Random(3))
    dark, light = (game.sample((z, np.full(200, k))).mean() for k in (0, 1))
    # the difference of the levels is 0.6; without meaning it is that of two noisy means
    assert (light - dark > 0.4) if told else (abs(light - dark) < 0.3)


# The AC-GAN

def make_acgan(**choices):
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 6), nn.Tanh())
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(8, 16), nn.Reshape(1, 4, 4))
    return ACGAN(G, nn.Heads(trunk, nn.Dense(6, 1), nn.Dense(6, 3)), 5, 3, **choices)


@pytest.mark.parametrize("on_fakes", [True, False])
def test_losses_of_the_acgan(on_fakes):
    """Both players' losses are the GAN's plus the cross-entropies of L_C (eq. 2-3)."""
    game = make_acgan(lam=0.5, on_fakes=on_fakes)
    x = tensor(normal(4, 1, 4, 4), "float32"), device([0, 1, 2, 0])
    z = game.latent(4, Random(3))
    (a, c_real), (b, c_fake) = ([t.numpy() for t in game.D(images)]
                                for images in (x[0], game.G(*z)))
    softplus = lambda t: np.log1p(np.exp(t))

    def class_loss(logits, labels):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return -np.log(p[np.arange(4), to_numpy(labels)]).mean()
    d_loss = softplus(-a).mean() + softplus(b).mean() + 0.5 * class_loss(c_real, x[1])
    g_loss = softplus(-b).mean() + 0.5 * class_loss(c_fake, z[1])
    if on_fakes:
        d_loss += 0.5 * class_loss(c_fake, z[1])
    assert game.d_loss(x, z).item() == pytest.approx(d_loss, rel=1e-5)
    assert game.g_loss(x, z).item() == pytest.approx(g_loss, rel=1e-5)
    assert float(game.logged["class loss"]) == pytest.approx(class_loss(c_real, x[1]), rel=1e-5)
    both = game.losses(x, z)
    assert [loss.item() for loss in both] == pytest.approx([d_loss, g_loss], rel=1e-5)


def test_an_acgan_without_class_logits_or_with_a_negative_weight_is_refused():
    game = ACGAN(make_acgan().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 5, 3)
    x = tensor(normal(4, 1, 4, 4), "float32"), device([0, 1, 2, 0])
    z = game.latent(4, Random(3))
    assert "give it two heads, such as nn.Heads" in error_of(game.d_loss, x, z)
    scores, logits = tensor(normal(4, 1)), tensor(normal(4, 3))
    assert "give it two heads" in error_of(class_logits, (scores,), x[1])
    # a third output is another game's
    assert class_logits((scores, logits, scores), x[1]) is logits
    assert "at least 0, got -1" in error_of(make_acgan, lam=-1)


@pytest.mark.parametrize("penalty", [penalties.R1(2.0), penalties.GradientPenalty()])
def test_penalties_of_an_acgan_are_on_its_scores(penalty):
    """The class logits have no part in them."""
    game = make_acgan(penalties=[penalty])
    x = tensor(normal(4, 1, 4, 4), "float32"), device([0, 1, 2, 0])
    z = game.latent(4, Random(3))
    images, scores = Tensor(game.G(*z).data), lambda images: game.D(images)[0]
    with nn.use_random(Random(0)):
        with_penalty = game.d_loss(x, z).item()
    with nn.use_random(Random(0)):
        expected = penalty(scores, x[0], images, scores(x[0]), scores(images)).item()
    game.penalties = []
    without = game.d_loss(x, z).item()
    assert with_penalty == pytest.approx(without + expected, rel=1e-5)


def test_d_of_an_acgan_runs_once_for_its_scores_and_its_classes():
    game, calls = make_acgan(), []
    trunk = game.D.trunk.forward
    game.D.trunk.forward = lambda *inputs: calls.append(1) or trunk(*inputs)
    x, z = (tensor(normal(4, 1, 4, 4), "float32"), device([0, 1, 2, 0])), game.latent(4, Random(3))
    for loss, count in ((game.d_loss, 2), (game.g_loss, 1), (game.losses, 2)):
        calls.clear()
        loss(x, z)
        assert len(calls) == count


# The projection discriminator

def test_projection_is_its_formula():
    """D(x, y) = <v_y, phi(x)> + psi(phi(x)), with the features summed over the pixels."""
    phi = nn.Conv2d(1, 4, 3)
    D = ProjectionDiscriminator(phi, 4, 3, normalised=False)
    x = tensor(normal(4, 1, 5, 5), "float32")
    features = phi(x).numpy().sum((2, 3))
    v, w, b = D.embedding.weight.numpy(), D.psi.weight.numpy(), D.psi.bias.numpy()
    expected = (v[LABELS] * features).sum(1, keepdims=True) + features @ w.T + b
    np.testing.assert_allclose(D(x, device(LABELS)).numpy(), expected, **CLOSE)


def test_a_projection_needs_one_label_for_each_sample():
    D = ProjectionDiscriminator(nn.Dense(3, 4), 4, 3)
    for samples, labels in ((5, 1), (1, 5), (3, 2)):
        message = error_of(D, tensor(normal(samples, 3), "float32"), device([0] * labels))
        assert f"{labels} labels for {samples} samples" in message


def test_the_score_is_the_same_for_a_label_with_an_embedding_of_zero():
    """Then D(x, y) = psi(phi(x)), whatever y is."""
    D = ProjectionDiscriminator(nn.Dense(3, 4), 4, 3, normalised=False)
    D.embedding.weight.data[...] = 0.0
    D.embedding.weight.touch()
    x = tensor(normal(4, 3), "float32")
    np.testing.assert_array_equal(D(x, device(LABELS)).numpy(), D(x, device([0] * 4)).numpy())


def test_psi_and_the_embedding_are_normalised_by_default():
    D = ProjectionDiscriminator(nn.Dense(3, 4), 4, 3)
    assert hasattr(D.psi, "weight_u") and hasattr(D.embedding, "weight_u")
    assert isinstance(ProjectionGAN(nn.Dense(3, 3), D).loss, losses.Hinge)


def test_gradients_of_the_projection():
    D = ProjectionDiscriminator(nn.Sequential(nn.Conv2d(1, 4, 2), nn.Tanh()), 4, 3)
    check_grads(D, normal(4, 1, 3, 3), device(LABELS))


# The networks of the recipes

@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 13)])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_of_the_recipes_networks(shape, classes):
    G, D = digits.generator(5, shape, classes), digits.discriminator(shape, classes)
    labels = (device(LABELS),) if classes else ()
    x = G(Tensor(Random(0).normal((4, 5))), *labels)
    assert x.shape == (4, *shape) and D(x, *labels).shape == (4, 1)
    assert digits.trunk(shape, classes)(x, *labels).shape == (4, digits.FEATURES)
    assert "at least 4x4" in error_of(digits.generator, 5, (1, 3, 8))


# The scripts

@pytest.fixture(scope="module")
def labelled_run(tmp_path_factory):
    """Return a folder with 600 digits and a short run of projection_mnist.py on them."""
    folder = tmp_path_factory.mktemp("labelled")
    part = mnist.load_sample().train.part(slice(600))
    np.savez(folder / "digits.npz", images=part.images, labels=part.labels)
    process = run("projection_mnist.py", "--data", "digits.npz", "--steps", 2, "--batch-size", 16,
                  "--out", "run", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.host
def test_evaluate_measures_the_labels(labelled_run):
    process = run("evaluate.py", "run", cwd=labelled_run)
    assert process.returncode == 0, process.stderr
    measures = json.loads((labelled_run / "run" / "evaluation.json").read_text())["measures"]
    for row in measures.values():  # 6 test images of a class: too few for a mean
        assert 0 <= row["accuracy"] <= 1 and not {"class Frechet", "class recall"} & row.keys()
    # real digits: the classifier's own accuracy
    assert measures["training images"]["accuracy"] > 0.95


@pytest.mark.host
def test_the_measures_of_the_classes():
    """Means over the classes that have ten samples and ten test images; none without a class."""
    import evaluate
    rng = np.random.default_rng(0)
    real_labels, fake_labels = np.repeat([0, 1, 2], [40, 40, 9]), np.repeat([0, 1, 2], [30, 30, 30])
    p_real, p_fake = np.eye(3)[real_labels], np.eye(3)[fake_labels]
    p_fake[:9] = np.eye(3)[1]                         # 9 of 90 samples look like another class
    real, fake = (evaluate.Classified(rng.normal(size=(len(p), 4)), p) for p in (p_real, p_fake))
    got = evaluate.measure_classes(fake, fake_labels, real, real_labels)
    distances = [evaluate.frechet_distance(fake.features[fake_labels == c],
                                           real.features[real_labels == c]) for c in (0, 1)]
    assert got["accuracy"] == 81 / 90
    assert np.isclose(got["class Frechet"], np.mean(distances), rtol=1e-12)  # one sum of two terms
    assert 0 <= got["class recall"] <= 1
    few = evaluate.Classified(real.features[-9:], p_real[-9:])
    assert evaluate.measure_classes(fake, fake_labels, few, real_labels[-9:]).keys() == {"accuracy"}


@pytest.mark.host
def test_sample_draws_the_label_that_it_is_told(labelled_run):
    process = run("sample.py", "run", "--label", 7, "-n", 4, "--out", "seven", cwd=labelled_run)
    assert process.returncode == 0, process.stderr
    assert {path.stem for path in (labelled_run / "seven").iterdir()} == {
        "samples", "linear", "spherical", "pictures", "nearest"}
    assert "labels from 0 to 9" in read_refusal("sample.py", "run", "--label", 10,
                                                cwd=labelled_run)


@pytest.mark.host
def test_set_label_changes_labels_alone():
    import sample
    z = np.ones((3, 2), np.float32), (np.array([1, 2, 0]), np.ones((3, 1, 4, 4), np.uint8))
    noise, (labels, images) = sample.set_label(z, 7)
    assert labels.tolist() == [7, 7, 7] and noise is z[0] and images is z[1][1]
    assert sample.set_label(z, None)[1][0] is z[1][0]


@pytest.mark.host
@pytest.mark.parametrize("script", ["conditional_mnist.py", "acgan_mnist.py",
                                    "projection_mnist.py"])
def test_images_without_labels_are_refused(script, tmp_path):
    np.save(tmp_path / "images.npy", mnist.load_sample().train.images[:100])
    assert "images with labels" in read_refusal(script, "--data", "images.npy", cwd=tmp_path)


@pytest.mark.host
def test_the_papers_settings_of_the_conditional_gan():
    """The networks of section 4.1: 200 and 1000 units for z and y, 1200 joint; maxout in D."""
    import conditional_mnist
    G, D, d_opt, g_opt = conditional_mnist.paper(np.zeros((1000, 1, 28, 28), np.uint8), 100, 10)
    z, labels = Tensor(Random(0).normal((2, 100))), np.array([3, 4])
    assert G(z, labels).shape == (2, 1, 28, 28) and D(G(z, labels), labels).shape == (2, 1)
    shapes = [p.shape for p in (*G.parameters(), *D.parameters()) if p.ndim == 2]
    assert shapes == [(200, 100), (1000, 10), (1200, 1200), (784, 1200),
                      (5 * 240, 784), (5 * 50, 10), (4 * 240, 290), (1, 240)]
    dropouts = [layer.p for net in (G, D) for _, layer in net.modules()
                if isinstance(layer, nn.Dropout)]
    assert dropouts == [0.5] * 4
    assert (d_opt.lr(0), g_opt.lr(0)) == (0.05, 0.1)
    assert g_opt.lr(1) == pytest.approx(0.1 / 1.00004) and g_opt.lr(10 ** 7) == 1e-6
