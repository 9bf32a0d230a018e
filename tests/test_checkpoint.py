"""Checkpoints: every game comes back as it was, and what cannot come back says why."""

import json
import math

import numpy as np
import pytest

import tinygan
from tinygan import Tensor, backend, checkpoint, nn, ops, optim, play, rng, to_numpy
from tinygan.backend import Random, UserError
from tinygan.data import Minibatches, mixtures
from tinygan.games import LSGAN, WGAN, Game, InstanceNoise, warm_up

from any_game import GAMES
from helpers import normal


def networks(normalised=False):
    """A bit of every layer that there is (SNGAN takes no layer that it cannot normalise)."""
    norm = nn.spectral_norm if normalised else lambda layer: layer
    G = nn.Sequential(nn.Dense(5, 8), nn.BatchNorm(8), nn.ReLU(), nn.Reshape(2, 2, 2),
                      nn.Upsample(2), nn.ConvTranspose2d(2, 2, 3, padding=1), nn.Tanh(),
                      nn.AvgPool2d(2), nn.ConvTranspose2d(2, 1, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(norm(nn.Conv2d(1, 3, 3, padding=(1, 1))), nn.LeakyReLU(0.1),
                      nn.LayerNorm((3, 4, 4)), nn.Flatten(), nn.GaussianNoise(0.1),
                      nn.Dropout(0.25), *([] if normalised else [nn.Maxout(48, 48, 2)]),
                      nn.Sequential(norm(nn.Dense(48, 1))))
    return G, D


def played(name, steps, start=None, seed=0):
    """A game on pictures of 4x4 pixels after so many steps, with all that belongs to it; from the
    checkpoint `start` on, if given."""
    rng.seed(seed)
    game = InstanceNoise(GAMES[name](*networks(name == "SNGAN")), optim.cosine(0.3, 10))
    game.keep_average(0.5)
    d_opt = optim.Adam(game.d_parameters(), optim.linear(1e-2, 1e-3, 9))
    g_opt = optim.RMSProp(game.g_parameters(), 1e-3)
    batches = Minibatches(np.float32(normal(30, 1, 4, 4) % 1), 4)
    first = 0
    if start:
        saved = checkpoint.read(start)
        checkpoint.restore(saved, game, d_opt, g_opt, batches)
        first = saved.about["step"]
    for _ in play(game, batches, d_opt, g_opt, 4, rng, steps, first):
        pass
    return game, d_opt, g_opt, batches


def around(activation):
    return nn.Sequential(nn.Dense(5, 16), activation, nn.Reshape(1, 4, 4))


class Growing(nn.Module):
    """A dictionary of parts, an output that is kept, and notes of the last pass."""

    notes = ("outputs",)

    def __init__(self):
        self.parts_by_size = {"small": around(ops.relu), "flat": nn.Flatten()}

    def forward(self, z):
        self.last = self.parts_by_size["small"](z)
        self.outputs = {"last": self.last.data}
        return self.last


def test_dictionaries_functions_and_kept_outputs(tmp_path):
    """A game that has played loads as one that has not: what it kept is no part of it."""
    game = LSGAN(Growing(), nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 5)
    d_opt, g_opt = optim.Adam(game.d_parameters()), optim.Adam(game.g_parameters())
    batches = Minibatches(np.float32(normal(30, 1, 4, 4) % 1), 4)
    for _ in play(game, batches, d_opt, g_opt, 4, rng, 2):
        pass
    save(tmp_path / checkpoint.NAME, game, d_opt, g_opt, batches)
    loaded, z = checkpoint.load(tmp_path, Growing), game.latent(3, rng)
    assert not hasattr(loaded.G, "last")
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    fresh = LSGAN(Growing(), nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 5)
    checkpoint.restore(checkpoint.read(tmp_path / checkpoint.NAME), fresh,
                       optim.Adam(fresh.d_parameters()), optim.Adam(fresh.g_parameters()), batches)
    assert (to_numpy(fresh.sample(z)) == to_numpy(game.sample(z))).all()


def save(path, game, d_opt, g_opt, batches, step=0, **about):
    checkpoint.save(path, game, d_opt, g_opt, batches, {"step": step, **about}, {})


def state(game, d_opt, g_opt, batches):
    """All of it as host arrays and values."""
    arrays = [*game.state_dict().values(), *[to_numpy(a) for opt in (d_opt, g_opt)
                                             for each in opt.state.values() for a in each]]
    return [a.tobytes() for a in arrays], d_opt.t, g_opt.t, rng.state, {
        name: np.asarray(value).tolist() for name, value in batches.state.items()}


@pytest.mark.parametrize("name", GAMES)
def test_a_restored_game_is_the_game(name, tmp_path):
    """Seven steps are four, a checkpoint, and three in a new process's fresh game; bit for bit."""
    path = tmp_path / "c.npz"
    save(path, *played(name, 4), step=4)
    assert state(*played(name, 7, start=path)) == state(*played(name, 7))
    assert state(*played(name, 7, start=path)) != state(*played(name, 8))


@pytest.mark.parametrize("name", GAMES)
def test_load_gives_the_trained_game_back(name, tmp_path):
    """From the file alone: its samples, scores and parameters, and the settings of the game."""
    game, *rest = played(name, 3)
    save(tmp_path / checkpoint.NAME, game, *rest)
    loaded = tinygan.load(tmp_path)
    assert type(loaded) is InstanceNoise and type(loaded.game) is type(game.game)
    assert not any(part.training for _, part in loaded.modules())
    z = loaded.latent(6, Random(3))
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    x = Tensor(backend.xp.asarray(np.float32(normal(2, 1, 4, 4))))
    with nn.evaluating(game):
        assert (loaded.D(x).numpy() == game.D(x).numpy()).all()
    assert len(loaded.parameters()) == len(game.parameters())
    for player in ("G", "D"):   # and as they lie in memory, on which a convolution's speed hangs
        for mine, theirs in zip(getattr(loaded, player).parameters(),
                                getattr(game, player).parameters(), strict=True):
            assert mine.data.strides == theirs.data.strides
    settings = {key: value for key, value in vars(game.game).items()
                if isinstance(value, (int, float)) and key != "training"}
    assert settings and settings == {key: vars(loaded.game)[key] for key in settings}
    assert loaded.sigma == game.sigma and loaded.layer is loaded.D.layers[0]


def test_functions_and_classes_of_ones_own(tmp_path):
    class Double(nn.Module):
        def forward(self, x):
            return x * 2.0

    def two(i):
        return 2
    G, D = nn.Sequential(nn.Dense(2, 2), Double()), nn.Dense(2, 1)
    game = WGAN(G, D, 2, n_critic=warm_up)
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    save(tmp_path / checkpoint.NAME, game, *opts, mixtures.ring().minibatches(2))
    with pytest.raises(UserError, match="Double, which is not tinygan's"):
        tinygan.load(tmp_path)
    assert tinygan.load(tmp_path, Double).d_steps is warm_up
    game.d_steps = two
    save(tmp_path / checkpoint.NAME, game, *opts, mixtures.ring().minibatches(2))
    with pytest.raises(UserError, match=r"load\(run, two\)"):
        tinygan.load(tmp_path, Double)
    assert tinygan.load(tmp_path, Double, two).d_steps is two
    game.wrong = object()
    with pytest.raises(TypeError, match="object"):
        save(tmp_path / checkpoint.NAME, game, *opts, mixtures.ring().minibatches(2))


def test_a_checkpoint_that_is_not_finite_does_not_replace_one_that_is(tmp_path):
    path, parts = tmp_path / "c.npz", played("GAN", 1)
    save(path, *parts)
    good = path.read_bytes()
    for array in (parts[0].D.layers[1].layers[0].weight.data, parts[2].state["s"][1]):
        before = array[0].copy()
        array[0] = math.nan
        with pytest.raises(FloatingPointError,
                           match=r"^(game\.game\.D\.1\.0\.weight|g_opt\.s\.1) is no"):
            save(path, *parts)
        array[0] = before
        assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("change, words", [
    (lambda parts: setattr(parts[0].game.D.layers[1].layers[1], "slope", 0.3),
     ["game.game.D.layers.1.layers.1.slope was 0.1, now 0.3"]),
    (lambda parts: parts[0].game.G.layers.append(nn.Tanh()), ["game.game.G.layers was"]),
    (lambda parts: parts[0].game.G.layers.__setitem__(2, nn.Tanh()), ['"ReLU"', '"Tanh"']),
    (lambda parts: parts[0].game.G.layers.__setitem__(0, nn.Dense(5, 8, bias=False)),
     ["game.game.G.layers.0.bias was", "now null"]),
    (lambda parts: setattr(parts[0].game, "g_loss", 1), ["g_loss was null, now 1"]),
    (lambda parts: setattr(parts[0], "sigma", 0.3), ["game.sigma was \"cosine\", now 0.3"]),
    (lambda parts: setattr(parts[1], "betas", (0.9, 0.999)), ["d_opt.betas.0 was 0.5, now 0.9"]),
    (lambda parts: setattr(parts[2], "lr", 2e-3), ["g_opt.lr was 0.001, now 0.002"]),
    (lambda parts: setattr(parts[3], "_images", parts[3]._images[:28]), ["30 examples", "28"])])
def test_restoring_into_something_else_says_what_differs(change, words, tmp_path):
    path, parts = tmp_path / "c.npz", played("GAN", 1)
    save(path, *parts)
    change(parts)
    with pytest.raises(UserError) as raised:
        checkpoint.restore(checkpoint.read(path), *parts)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.numpy_only("the file and what is made of it are the host's")
def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    path, parts = tmp_path / checkpoint.NAME, played("GAN", 2)
    save(path, *parts)
    _, about, arrays = checkpoint.read(path)

    def written(about, arrays):
        np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        return path
    checkpoint.restore(checkpoint.read(written(about, arrays)), *parts)
    name = next(iter(arrays))
    lacks = {key: value for key, value in arrays.items() if key != name}
    for wrong_about, wrong_arrays in [
            (about, lacks), (about, {**arrays, name: arrays[name][:1]}),
            ({**about, "rng": 3}, arrays),
            ({**about, "rng": {**about["rng"], "state": {}}}, arrays),
            ({**about, "d_t": "x"}, arrays), ({**about, "batches": {}}, arrays),
            (about, {**arrays, "order": arrays["order"] * 0}),
            ({**about, "batches": {"position": 31, "epoch": 0}}, arrays)]:
        with pytest.raises(UserError):
            checkpoint.restore(checkpoint.read(written(wrong_about, wrong_arrays)), *parts)
    for wrong in ([], "x", {}, {**about, "game": 3}, {**about, "game": {"class": "Tensor"}},
                  {**about, "game": {"class": "GAN", "G": {"parameter": [10 ** 9], "dtype": "f4"}}},
                  {**about, "game": {"class": "cosine"}}, {**about, "game": {"class": "Dense"}},
                  {**about, "game": {**about["game"], "eval": 1}}, {**about, "format": 2},
                  {**about, "game": {**about["game"], "class": "a\nb"}}):
        with pytest.raises(UserError, match=checkpoint.NAME) as raised:
            tinygan.load(written(wrong, arrays).parent)
        assert "\n" not in str(raised.value)


@pytest.mark.host
def test_no_folder_no_run(tmp_path):
    with pytest.raises(UserError, match="give the folder of a run"):
        tinygan.load(tmp_path / "nowhere")


def test_a_game_of_ones_own_can_be_saved(tmp_path):
    """One whose batches keep no place, and whose losses nobody here knows."""
    class Mine(Game):
        pass
    game = Mine(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    save(tmp_path / checkpoint.NAME, game, *opts, mixtures.ring().minibatches(2))
    assert type(tinygan.load(tmp_path, Mine)) is Mine


