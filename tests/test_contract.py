"""Properties of every game of the catalogue and of three further ones.

Those are a trial of tests/trials, a game with a lazy penalty, and one with StyleGAN's networks.
"""

import dataclasses
import pathlib
import sys
import types

import numpy as np
import pytest

from tinygan import (Tensor, UserError, backend, check_grads, checkpoint, command, grad, image, nn,
                     optim, play, rng, schedules, to_numpy)
from tinygan.data import Minibatches, Split
from tinygan.games import GAN, catalogue, losses, penalties, views
from tinygan.loop import both_step, d_step, draw, g_step
from tinygan.nested import map_nested
from tinygan.networks import stylegan
from tinygan.random import Random
from tinygan.runs import unsaved

import standin
from helpers import to_float64
from test_image import read_png

sys.path.append(str(pathlib.Path(__file__).parent / "trials"))
import labelled

LAZY = dataclasses.replace(catalogue.GAMES["r1"], game=GAN, settings=dict(
    z_size=5, penalties=[penalties.Lazy(penalties.R1(1.0), 2)]))
# the layers of StyleGAN, and in D self-attention too
STYLE = dataclasses.replace(catalogue.GAMES["gan"], networks=lambda: (
    stylegan.Generator(5, (1, 4, 4), (2,), w_size=3, depth=1),
    nn.Sequential(nn.Conv2d(1, 8, 1), nn.SelfAttention2d(8),
                  stylegan.discriminator((8, 4, 4), (2,)))))
GAMES = {**catalogue.GAMES, "labelled": labelled.ENTRY, "lazy": LAZY, "style": STYLE}
M = 4

each_game = pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)


def make_parts(entry, seed=0, **choices):
    """Return the small instance of a game with the weights of a seed, its optimisers and data."""
    rng.seed(seed)
    game = entry(**choices)
    optimisers = {"d_opt": optim.Adam(game.d_parameters(), 1e-2),
                  "g_opt": optim.RMSProp(game.g_parameters(), 1e-3)}
    arrays = tuple(entry.examples(18, Random(1)).values())
    return game, optimisers, Minibatches(arrays if len(arrays) > 1 else arrays[0], M)


def make_averaged_parts(entry, seed=0):
    """Return what make_parts() returns, with instance noise and an average of G."""
    parts = make_parts(entry, seed, views=[views.InstanceNoise(schedules.linear(0.3, 0.1, 4))])
    parts[0].keep_average(0.5)
    return parts


def train(game, optimisers, data, iterations, start=0):
    """Train for the iterations start ... iterations - 1 and return their losses."""
    return [(d_loss.item(), g_loss.item()) for _, d_loss, g_loss in play(
        game, data, *optimisers.values(), M, rng, iterations, start)]


def to_bytes(arrays):
    """Return the bytes of each array, to compare arrays bit for bit."""
    return [to_numpy(a).tobytes() for a in arrays]


def read_state(game, optimisers, data):
    """Return everything that the next iteration depends on."""
    arrays = {name: to_bytes([a]) for name, a in game.arrays().items()}
    return arrays, [(opt.t, {name: to_bytes(each) for name, each in opt.state.items()})
                    for opt in optimisers.values()], rng.state, {
        name: np.asarray(value).tolist() for name, value in data.state.items()}


def make_split(entry):
    """Return a data set of 20 examples for a game."""
    return Split({name: to_numpy(a) for name, a in entry.examples(20, Random(2)).items()})


# The losses

class LossOf(nn.Module):
    """A loss of a game as a function of parameters only, for check_grads.

    D's loss is a function of D's parameters, because G's samples are constants in it. G's loss is a
    function of the parameters of both players.
    """

    untracked = ("game", "x", "z", "buffers")

    def __init__(self, game, loss, x, z):
        self.game, self.loss, self.x, self.z = game, loss, x, z
        self.buffers = {name: a.copy() for name, a in
                        game.named_arrays(backend.xp.ndarray).items()}
        players = game.d_players if loss == "d_loss" else (*game.d_players, *game.g_players)
        self.networks = [getattr(game, name) for name in players]

    def forward(self):
        for name, a in self.game.named_arrays(backend.xp.ndarray).items():
            a[...] = self.buffers[name]         # the previous call may have changed a pool
        return getattr(self.game, self.loss)(to_float64(self.x), to_float64(self.z))


@each_game
def test_another_loss_can_be_chosen(entry):
    """Each game takes any loss as the argument `loss`."""
    loss = losses.LeastSquares()
    assert entry(loss=loss).loss is loss


@each_game
def test_what_is_no_loss_is_refused(entry):
    """A game that checks more than the base class does checks that too."""
    with pytest.raises(UserError, match="a game's loss must be"):
        entry(loss="hinge")


@pytest.mark.numpy_only("a path through the code")
@each_game
def test_all_samples_come_from_generate(entry):
    """Otherwise a game that overrides generate() would train another G than the one it samples."""
    game, optimisers, data = make_parts(entry)
    game.keep_average(0.5)
    inside = []                 # not empty while generate() runs

    class Generating(type(game)):
        def generate(self, z):
            inside.append(True)
            samples = super().generate(z)
            inside.pop()
            return samples

    class Guarded(type(game.G)):
        def forward(self, *inputs):
            assert inside, "G was called outside generate()"
            return super().forward(*inputs)
    game.__class__ = Generating
    game.G.__class__ = game.averages["G"].__class__ = Guarded
    train(game, optimisers, data, 2)
    split = make_split(entry)
    game.sample(game.inputs(split, 4, rng))
    game.pictures(game.fixed_inputs(split, 8, rng))
    if hasattr(game, "translate_all"):
        game.translate_all(split.images)


@pytest.mark.numpy_only("the operations are tested on each backend, as are steps of each game")
@each_game
@pytest.mark.parametrize("loss", ["d_loss", "g_loss"])
def test_gradients_of_both_losses(loss, entry):
    """The gradients of both losses pass check_grads; D's with penalties to second order."""
    game, optimisers, data = make_parts(entry)
    train(game, optimisers, data, 1)            # with biases of 0, inputs lie on kinks of ReLU
    game.begin_iteration(4)     # a lazy penalty is due, new layers of ProGAN have the weight 0.4
    x, z, _ = draw(to_float64(game), data, M, rng)
    check_grads(LossOf(game, loss, *map(to_float64, (x, z))), training=True,
                order=2 if game.penalties and loss == "d_loss" else 1)


@pytest.mark.numpy_only("test_no_step_copies_between_host_and_device does steps on each backend")
@each_game
def test_the_losses_of_simultaneous_play_are_the_two_losses(entry):
    """The gradients of losses() are those of d_loss() and g_loss(), too.

    What layers and penalties draw is constant here, also in evaluation mode.
    """
    game, optimisers, data = make_parts(entry)
    train(game, optimisers, data, 3)            # puts images into a pool
    game.begin_iteration(0)
    x, z, _ = map(to_float64, draw(to_float64(game).eval(), data, M, rng))
    with nn.use_random(types.SimpleNamespace(
            bernoulli=lambda p, shape: backend.xp.ones(shape, "bool"),
            uniform=lambda low, high, shape: backend.xp.full(shape, (low + high) / 2, "float32"),
            normal=lambda shape: backend.xp.ones(shape, "float32"))):
        compare_losses(game, x, z)


def compare_losses(game, x, z):
    """Compare losses() with d_loss() and g_loss(), and their gradients."""
    at = game.state_dict()
    both = game.losses(x, z)
    logged = set(game.logged)
    game.load_state_dict(at)
    game.d_loss(x, z)
    game.g_loss(x, z)
    assert logged == set(game.logged)       # the terms of both losses log their values
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
def test_a_step_does_not_change_the_other_player(entry):
    """A step does not change the other player's parameters and optimiser, bit for bit.

    D's step does not change the averages of G. The buffers of batch normalisation and spectral
    normalisation do change, in every forward pass.
    """
    game, optimisers, data = make_averaged_parts(entry)
    sides = {"d_opt": (d_step, game.d_parameters()), "g_opt": (g_step, game.g_parameters())}
    assert not set(game.d_parameters()) & set(game.g_parameters())

    def of(name):
        parameters = sides[name][1]
        if name == "g_opt":
            parameters = parameters + [p for each in game.averages.values()
                                       for p in each.parameters()]
        opt = optimisers[name]
        return (to_bytes(p.data for p in parameters), opt.t,
                [to_bytes(a) for a in opt.state.values()])
    for name, other in (("d_opt", "g_opt"), ("g_opt", "d_opt")):
        for _ in range(2):
            mine, before = of(name), of(other)
            game.begin_iteration(0)
            sides[name][0](game, optimisers[name], *draw(game, data, M, rng))
            assert of(other) == before and of(name)[0] != mine[0]


@each_game
def test_no_step_copies_between_host_and_device(entry, monkeypatch):
    """A step copies nothing between host and device, except the random numbers of its layers.

    Dropout masks, noise and eps are drawn on the host; here they are made on the device instead.
    """
    game, optimisers, data = make_parts(entry)
    game.keep_average(0.5)
    for i in range(2):
        game.begin_iteration(i)
        monkeypatch.undo()
        batches = [draw(game, data, M, rng) for _ in range(3)]
        monkeypatch.setattr(Random, "bernoulli", lambda _, p, shape: backend.xp.ones(shape, "bool"))
        monkeypatch.setattr(Random, "normal", lambda _, shape: backend.xp.ones(shape, "float32"))
        monkeypatch.setattr(Random, "uniform",
                            lambda _, low, high, shape: backend.xp.ones(shape, "float32"))
        with standin.forbid_transfers():
            d_step(game, optimisers["d_opt"], *batches[0])
            g_step(game, optimisers["g_opt"], *batches[1])
            both_step(game, *optimisers.values(), *batches[2])


@pytest.mark.numpy_only("test_no_step_copies_between_host_and_device does steps on each backend")
@each_game
def test_the_same_seed_is_the_same_run(entry):
    runs = []
    for seed in (1, 1, 2):
        parts = make_averaged_parts(entry, seed)
        runs.append((train(*parts, 2), read_state(*parts)))
    assert runs[0] == runs[1] and runs[0][0] != runs[2][0]


# Averages of G

@each_game
def test_averages_of_g_follow_it_and_do_not_change_the_training(entry):
    """p_average <- decay p_average + (1 - decay) p after each of G's steps.

    A run without averages is the same bit for bit.
    """
    (game, *rest), (plain, *others) = make_parts(entry), make_parts(entry)
    game.keep_average(0.75)
    own = {id(p) for p in game.d_parameters() + game.g_parameters()}
    averages = [p for each in game.averages.values() for p in each.parameters()]
    assert not own & set(map(id, averages))
    networks = [getattr(game, name) for name in game.g_players]
    parameters = [p for network in networks for p in network.parameters()]
    expected = [p.numpy().copy() for p in parameters]
    rng.seed(3)
    for i in range(3):
        train(game, *rest, i + 1, i)
        for a, p in zip(expected, parameters):
            a += 0.25 * (p.numpy() - a)
        for a, p in zip(expected, averages, strict=True):
            np.testing.assert_allclose(p.numpy(), a, rtol=0, atol=1e-6)         # float32
    rng.seed(3)
    train(plain, *others, 3)
    arrays, *then = read_state(game, *rest)
    arrays_without, *then_without = read_state(plain, *others)
    assert then == then_without
    assert arrays_without == {name: a for name, a in arrays.items()
                              if not name.startswith("averages.")}


@each_game
def test_samples_come_from_the_averages(entry):
    game, *_ = make_averaged_parts(entry)
    z = game.inputs(make_split(entry), 3, rng)
    before = to_bytes([game.sample(z)])
    for p in game.g_parameters():
        p.data += 1.0
    game.touch()            # the averages count as updated
    assert to_bytes([game.sample(z)]) == before
    for average in game.averages.values():
        for p in average.parameters():
            p.data *= -2.0
    assert to_bytes([game.sample(z)]) != before


# Checkpoints

@each_game
def test_a_restored_game_continues_as_without_a_break(entry, tmp_path):
    """Three iterations, a checkpoint restored into another game, and two more equal five."""
    whole = make_averaged_parts(entry)
    losses = train(*whole, 5)
    end, path = read_state(*whole), tmp_path / checkpoint.NAME
    first = make_averaged_parts(entry)
    assert train(*first, 3) == losses[:3]
    checkpoint.save(path, *first, {}, {})
    z = first[0].inputs(make_split(entry), 3, Random(4))
    other = make_averaged_parts(entry, seed=9)
    train(*other, 1)
    other[0].sample(z)
    checkpoint.restore(checkpoint.read(path), *other)
    assert to_bytes([other[0].sample(z)]) == to_bytes([first[0].sample(z)])
    assert train(*other, 5, start=3) == losses[3:]
    assert read_state(*other) == end


@each_game
def test_a_loaded_game_has_the_same_samples(entry, tmp_path):
    """A game that is loaded from its checkpoint has the same samples and weights.

    The networks are in evaluation mode, so a sample does not depend on the others.
    """
    parts = game, *_ = make_averaged_parts(entry)
    train(*parts, 2)
    unsaved.check(game, {}, parts[-1])
    checkpoint.save(tmp_path / checkpoint.NAME, *parts, {}, {})
    own = sys.modules[entry.game.__module__].__file__
    loaded = command.load(tmp_path, [own] if entry is labelled.ENTRY else [])
    assert type(loaded) is entry.game and not any(part.training for _, part in loaded.modules())
    z = loaded.inputs(make_split(entry), 5, Random(3))
    samples = loaded.sample(z)
    assert to_bytes([samples]) == to_bytes([game.sample(z)])
    assert (to_bytes(a for a in loaded.arrays().values())
            == to_bytes(a for a in game.arrays().values()))
    alone = loaded.sample(map_nested(
        lambda a: Tensor(a.data[2:3]) if type(a) is Tensor else a[2:3], z))
    np.testing.assert_allclose(to_numpy(alone)[0], to_numpy(samples)[2], rtol=1e-5, atol=1e-6)


@each_game
def test_a_game_has_pictures(entry, tmp_path):
    """A checkpoint keeps the inputs of the pictures, and the same inputs give the same pictures."""
    game, *_ = make_parts(entry)
    z = game.fixed_inputs(make_split(entry), 30, rng)
    arrays = {}
    kept = checkpoint.unpack(checkpoint.pack(z, "z", arrays), arrays)
    (images, columns), (again, _) = game.pictures(z), game.pictures(kept)
    assert len(images) >= 20 and to_bytes([images]) == to_bytes([again])
    image.save_grid(tmp_path / "shown.png", images, columns)
    picture = read_png(tmp_path / "shown.png")
    size = images.shape[-1] + 2
    assert picture.shape[1] == size * (columns or 6) - 2


@pytest.mark.parametrize("name", [name for name in GAMES if GAMES[name].game.minibatch])
def test_a_minibatch_with_another_number_of_arrays_is_refused(name):
    """Games with labels or pairs, and those with an encoder, say which arrays they take."""
    game, optimisers, data = make_parts(GAMES[name])
    x = next(data)
    x = x if isinstance(x, tuple) else (x,)
    assert len(x) == len(game.minibatch)
    for wrong in (*x, x[0]), x[0] if len(x) > 1 else (x[0],) * 2:
        n = len(wrong) if isinstance(wrong, tuple) else 1
        with pytest.raises(UserError, match=f"takes minibatches .*have {n} array"):
            next(play(game, iter([wrong]), *optimisers.values(), M, rng, 1))


def test_nested_tuples_of_different_forms_are_refused():
    """A part of the longer one would be dropped."""
    with pytest.raises(ValueError):
        map_nested(lambda a, b: a, (1, 2, 3), (4, 5))
