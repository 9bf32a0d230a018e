"""What holds for every game: those of the catalogue, and those of the trials."""

import pathlib
import sys

import numpy as np
import pytest

from tinygan import (Tensor, backend, check_grads, checkpoint, command, grad, image, nn, optim,
                     play, rng, schedules, to_numpy)
from tinygan.data import Minibatches, Split
from tinygan.games import catalogue, views
from tinygan.loop import both_step, d_step, draw, g_step
from tinygan.nested import map_nested
from tinygan.random import Random

import standin
from test_image import read_png

sys.path.append(str(pathlib.Path(__file__).parent / "trials"))
import conditional
import cycle
import growing
import info

TRIALS = {module.__name__: module.ENTRY for module in (conditional, info, cycle, growing)}
GAMES = {**catalogue.GAMES, **TRIALS}
M = 4

each_game = pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)


def begun(entry, seed=0, **choices):
    """The small instance as it begins from a seed; its optimisers; its data."""
    rng.seed(seed)
    game = entry(**choices)
    optimisers = {"d_opt": optim.Adam(game.d_parameters(), 1e-2),
                  "g_opt": optim.RMSProp(game.g_parameters(), 1e-3)}
    arrays = tuple(entry.examples(18, Random(1)).values())
    return game, optimisers, Minibatches(arrays if len(arrays) > 1 else arrays[0], M)


def noisy_and_averaged(entry, seed=0):
    parts = begun(entry, seed, views=[views.InstanceNoise(schedules.linear(0.3, 0.1, 4))])
    parts[0].keep_average(0.5)
    return parts


def played(game, optimisers, data, iterations, start=0):
    """The losses of these iterations."""
    return [(d_loss.item(), g_loss.item()) for _, d_loss, g_loss in play(
        game, data, *optimisers.values(), M, rng, iterations, start)]


def bits(arrays):
    return [to_numpy(a).tobytes() for a in arrays]


def state(game, optimisers, data):
    """All that the next iteration depends on."""
    arrays = {name: bits([a]) for name, a in game.arrays().items()}
    return arrays, [(opt.t, {name: bits(each) for name, each in opt.state.items()})
                    for opt in optimisers.values()], rng.state, {
        name: np.asarray(value).tolist() for name, value in data.state.items()}


def in_float64(value):
    """A Tensor, a Module, or what is drawn, in float64; whole numbers as they are."""
    if isinstance(value, nn.Module):
        for _, part in value.modules():
            for name, a in list(vars(part).items()):
                if isinstance(a, Tensor):
                    a.data = a.data.astype("float64")
                elif isinstance(a, backend.xp.ndarray) and a.dtype.kind == "f":
                    setattr(part, name, a.astype("float64"))
        return value
    if isinstance(value, (tuple, list)):
        return type(value)(map(in_float64, value))
    return Tensor(value.data.astype("float64")) if type(value) is Tensor else value


def split_of(entry):
    return Split({name: to_numpy(a) for name, a in entry.examples(20, Random(2)).items()})


# The losses

class LossOf(nn.Module):
    """A loss of a game as a function of parameters alone: D's of its own, as G's work is a constant
    to it, G's of both players'."""

    notes = ("game", "x", "z", "buffers")

    def __init__(self, game, loss, x, z):
        self.game, self.loss, self.x, self.z = game, loss, x, z
        self.buffers = {name: a.copy() for name, a in
                        game.named_arrays(backend.xp.ndarray).items()}
        players = game.d_players if loss == "d_loss" else (*game.d_players, *game.g_players)
        self.networks = [getattr(game, name) for name in players]

    def forward(self):
        for name, a in self.game.named_arrays(backend.xp.ndarray).items():
            a[...] = self.buffers[name]         # a pool, which the call before has moved
        return getattr(self.game, self.loss)(in_float64(self.x), in_float64(self.z))


@each_game
@pytest.mark.parametrize("loss", ["d_loss", "g_loss"])
def test_gradients_of_both_losses(loss, entry):
    """To second order where a penalty is differentiated twice."""
    game, optimisers, data = begun(entry)
    played(game, optimisers, data, 1)           # biases of 0 lie on kinks
    x, z, _ = draw(in_float64(game), data, M, rng, 1)
    check_grads(LossOf(game, loss, *map(in_float64, (x, z))), training=True,
                order=2 if game.penalties and loss == "d_loss" else 1)


@each_game
def test_the_losses_of_simultaneous_play_are_the_two_losses(entry):
    """And so are their gradients."""
    game, optimisers, data = begun(entry)
    played(game, optimisers, data, 3)           # so that a pool has something
    x, z, _ = map(in_float64, draw(in_float64(game).eval(), data, M, rng, 0))
    at = game.state_dict()
    both = game.losses(x, z)
    for i, (loss, parameters) in enumerate([(game.d_loss, game.d_parameters()),
                                            (game.g_loss, game.g_parameters())]):
        game.load_state_dict(at)
        one = game.losses(x, z)[i]
        gradients = grad(one, parameters, unused="zeros")
        game.load_state_dict(at)
        other = loss(x, z)
        assert one.item() == both[i].item() == pytest.approx(other.item(), rel=1e-12)
        for a, b in zip(gradients, grad(other, parameters, unused="zeros")):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)     # rounding


# The steps

@each_game
def test_a_step_leaves_the_other_player_alone(entry):
    """Its parameters, its optimiser, and in D's step the averages of G, bit for bit. Not its
    buffers: a forward pass moves those of batch normalisation and of spectral norm."""
    game, optimisers, data = noisy_and_averaged(entry)
    sides = {"d_opt": (d_step, game.d_parameters()), "g_opt": (g_step, game.g_parameters())}
    assert not set(game.d_parameters()) & set(game.g_parameters())

    def of(name):
        parameters = sides[name][1]
        if name == "g_opt":
            parameters = parameters + [p for each in game.averages.values()
                                       for p in each.parameters()]
        opt = optimisers[name]
        return bits(p.data for p in parameters), opt.t, [bits(a) for a in opt.state.values()]
    for name, other in (("d_opt", "g_opt"), ("g_opt", "d_opt")):
        for _ in range(2):
            mine, before = of(name), of(other)
            sides[name][0](game, optimisers[name], *draw(game, data, M, rng, 0))
            assert of(other) == before and of(name)[0] != mine[0]


@each_game
def test_no_step_copies_between_host_and_device(entry):
    """All that a step needs lies there when it begins, but for dropout's masks, which come from the
    host; so here nothing is dropped."""
    game, optimisers, data = begun(entry)
    game.keep_average(0.5)
    for _, part in game.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for i in range(2):
        game.start(i)
        batches = [draw(game, data, M, rng, i) for _ in range(3)]
        with standin.forbid_transfers():
            d_step(game, optimisers["d_opt"], *batches[0])
            g_step(game, optimisers["g_opt"], *batches[1])
            both_step(game, *optimisers.values(), *batches[2])


@each_game
def test_the_same_seed_is_the_same_run(entry):
    runs = []
    for seed in (1, 1, 2):
        parts = noisy_and_averaged(entry, seed)
        runs.append((played(*parts, 2), state(*parts)))
    assert runs[0] == runs[1] and runs[0][0] != runs[2][0]


# Averages of G

@each_game
def test_averages_of_g_follow_it_and_do_not_play(entry):
    """p_average <- decay p_average + (1 - decay) p after each of G's steps. Without them the run is
    the same bit for bit."""
    (game, *rest), (plain, *others) = begun(entry), begun(entry)
    game.keep_average(0.75)
    own = {id(p) for p in game.d_parameters() + game.g_parameters()}
    averages = [p for each in game.averages.values() for p in each.parameters()]
    assert not own & set(map(id, averages))
    expected = [p.numpy().copy() for p in game.g_parameters()]
    rng.seed(3)
    for i in range(3):
        played(game, *rest, i + 1, i)
        for a, p in zip(expected, game.g_parameters()):
            a += 0.25 * (p.numpy() - a)
        for a, p in zip(expected, averages, strict=True):
            np.testing.assert_allclose(p.numpy(), a, rtol=0, atol=1e-6)         # float32
    rng.seed(3)
    played(plain, *others, 3)
    (arrays, *then), (arrays_without, *then_without) = state(game, *rest), state(plain, *others)
    assert then == then_without
    assert arrays_without == {name: a for name, a in arrays.items()
                              if not name.startswith("averages.")}


@each_game
def test_samples_are_of_the_averages(entry):
    game, *_ = noisy_and_averaged(entry)
    z = game.inputs(split_of(entry), 3, rng)
    before = bits([game.sample(z)])
    for p in game.g_parameters():
        p.data += 1.0
    assert bits([game.sample(z)]) == before
    for average in game.averages.values():
        for p in average.parameters():
            p.data *= -2.0
    assert bits([game.sample(z)]) != before


# Kept and gone on with

@each_game
def test_a_restored_game_goes_on_as_the_whole(entry, tmp_path):
    """Five iterations are three, a checkpoint, and two of a game that began elsewhere."""
    whole = noisy_and_averaged(entry)
    losses = played(*whole, 5)
    end, path = state(*whole), tmp_path / checkpoint.NAME
    first = noisy_and_averaged(entry)
    assert played(*first, 3) == losses[:3]
    checkpoint.save(path, *first, {}, {})
    z = first[0].inputs(split_of(entry), 3, Random(4))
    other = noisy_and_averaged(entry, seed=9)
    played(*other, 1)
    other[0].sample(z)
    checkpoint.restore(checkpoint.read(path), *other)
    assert bits([other[0].sample(z)]) == bits([first[0].sample(z)])
    assert played(*other, 5, start=3) == losses[3:]
    assert state(*other) == end


@each_game
def test_a_game_is_loaded_and_sampled(entry, tmp_path):
    """From the file alone, and in evaluation: no sample depends on the others."""
    parts = game, *_ = noisy_and_averaged(entry)
    played(*parts, 2)
    checkpoint.check(game, parts[-1])
    checkpoint.save(tmp_path / checkpoint.NAME, *parts, {}, {})
    own = sys.modules[entry.game.__module__].__file__
    loaded = command.load(tmp_path, [own] if entry in TRIALS.values() else [])
    assert type(loaded) is entry.game and not any(part.training for _, part in loaded.modules())
    z = loaded.inputs(split_of(entry), 5, Random(3))
    samples = loaded.sample(z)
    assert bits([samples]) == bits([game.sample(z)])
    assert bits(a for a in loaded.arrays().values()) == bits(a for a in game.arrays().values())
    alone = loaded.sample(map_nested(
        lambda a: Tensor(a.data[2:3]) if type(a) is Tensor else a[2:3], z))
    np.testing.assert_allclose(to_numpy(alone)[0], to_numpy(samples)[2], rtol=1e-5, atol=1e-6)


@each_game
def test_a_game_shows_pictures(entry, tmp_path):
    """Of inputs that a checkpoint can keep; the same ones for the same inputs."""
    game, *_ = begun(entry)
    z = game.exhibits(split_of(entry), 30, rng)
    arrays = {}
    kept = checkpoint.unpack(checkpoint.pack(z, "z", arrays), arrays)
    (images, columns), (again, _) = game.shown(z), game.shown(kept)
    assert len(images) >= 20 and bits([images]) == bits([again])
    image.save_grid(tmp_path / "shown.png", images, columns)
    picture = read_png(tmp_path / "shown.png")
    size = images.shape[-1] + 2
    assert picture.shape[1] == size * (columns or 6) - 2
