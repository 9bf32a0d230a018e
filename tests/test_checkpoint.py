"""Tests of checkpoints: restored games, refused games, and damaged or malicious files."""

import dataclasses
import functools
import json
import math
import sys
import types

import numpy as np
import pytest

import tinygan
from tinygan import (Run, Tensor, backend, checkpoint, nn, ops, optim, play, rng, schedules,
                     to_numpy)
from tinygan.backend import UserError
from tinygan.data import Minibatches, mixtures
from tinygan.games import (GAN, LSGAN, R1, WGAN, Game, catalogue, losses, penalties, small, views,
                           warm_up)
from tinygan.random import Random
from tinygan.runs import description, unsaved

from fuzz import attempt
from helpers import error_of, normal, to_float64

GAMES = {name: entry for name, entry in catalogue.GAMES.items()
         if entry.examples is small.make_images}


def make_networks(normalised=False):
    """Return G and D with every kind of layer.

    With `normalised`, D has spectral normalisation and no Maxout, which cannot be normalised.
    """
    norm = nn.spectral_norm if normalised else lambda layer: layer
    G = nn.Sequential(nn.Dense(5, 8), nn.BatchNorm(8), nn.ReLU(), nn.Reshape(2, 2, 2),
                      nn.Upsample(2), nn.ConvTranspose2d(2, 2, 3, padding=1), nn.Tanh(),
                      nn.AvgPool2d(2), nn.ConvTranspose2d(2, 1, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(norm(nn.Conv2d(1, 3, 3, padding=(1, 1))), nn.LeakyReLU(0.1),
                      nn.LayerNorm((3, 4, 4)), nn.Flatten(), nn.GaussianNoise(0.1),
                      nn.Dropout(0.25), *([] if normalised else [nn.Maxout(48, 48, 2)]),
                      nn.Sequential(norm(nn.Dense(48, 1))))
    return G, D


def make_game(name, G=None, D=None, **choices):
    """Return a game on images of 4x4 pixels, with instance noise and an average of G."""
    networks = make_networks(GAMES[name].networks is small.make_normalised_networks)
    choices.setdefault("views", [views.InstanceNoise(schedules.cosine(0.3, 0.0, 10))])
    game = GAMES[name](G or networks[0], D or networks[1], **choices)
    game.keep_average(0.5)
    return game


def make_parts(game, batches=None, **settings):
    """Return a game, its optimisers and its data stream."""
    opts = {"d_opt": optim.Adam(game.d_parameters(), schedules.linear(1e-2, 1e-3, 9), **settings),
            "g_opt": optim.RMSProp(game.g_parameters(), 1e-3)}
    return game, opts, batches or Minibatches(np.float32(normal(30, 1, 4, 4) % 1), 4)


def train(name, steps, start=None, seed=0):
    """Train a game up to this step and return it with its optimisers and its data stream.

    The training begins at the checkpoint at the path `start`, if it is given.
    """
    rng.seed(seed)
    game, opts, batches = make_parts(make_game(name))
    first = 0
    if start:
        saved = checkpoint.read(start)
        checkpoint.restore(saved, game, opts, batches)
        first = saved.about["step"]
    for _ in play(game, batches, *opts.values(), 4, rng, steps, first):
        pass
    return game, opts, batches


def save(path, game, opts, batches, step=0):
    """Save a checkpoint of these parts."""
    checkpoint.save(path, game, opts, batches, {"step": step}, {})


def save_and_load(folder, game, *known):
    """Save a checkpoint of a game in `folder` and load the game from it."""
    unsaved.check(game, {}, Points())
    save(folder / checkpoint.NAME, game, {}, Points())
    return tinygan.load(folder, *known)


class Points:
    """A data stream of random points, defined outside of tinygan."""

    m = 2

    def __init__(self, state=()):
        self.state = state

    def __iter__(self):
        return self

    def __next__(self):
        return rng.normal((self.m, 2))


def make_small_game(loss=None, **choices):
    """Return a small game on points."""
    return GAN(nn.Sequential(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 2)), nn.Dense(2, 1), 2, loss,
               **choices)


# Restored games

def read_state(game, opts, batches):
    """Return the state of these parts and of tinygan.rng, as bytes and Python values."""
    arrays = [*game.state_dict().values(), *[to_numpy(a) for opt in opts.values()
                                             for each in opt.state.values() for a in each]]
    return [a.tobytes() for a in arrays], [opt.t for opt in opts.values()], rng.state, {
        name: np.asarray(value).tolist() for name, value in batches.state.items()}


@pytest.mark.parametrize("name", ["gan", "sngan"])     # test_contract.py has all games
def test_a_restored_game_continues_bit_for_bit(name, tmp_path):
    """Four steps, a checkpoint restored into a new game, and three more equal seven steps."""
    path = tmp_path / "c.npz"
    save(path, *train(name, 4), step=4)
    assert read_state(*train(name, 7, start=path)) == read_state(*train(name, 7))
    assert read_state(*train(name, 7, start=path)) != read_state(*train(name, 8))


@pytest.mark.parametrize("name", ["gan", "sngan"])
def test_load_returns_the_trained_game(name, tmp_path):
    """load() returns the game with its samples, scores, parameters and settings."""
    game, *rest = train(name, 3)
    save(tmp_path / checkpoint.NAME, game, *rest)
    loaded = tinygan.load(tmp_path)
    assert type(loaded) is type(game)
    assert not any(f"{name}=" in repr(loaded) for name in loaded.untracked)
    assert not any(part.training for _, part in loaded.modules())
    z = loaded.latent(6, Random(3))
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    x = Tensor(backend.xp.asarray(np.float32(normal(2, 1, 4, 4))))
    with nn.eval_mode(game):
        assert (loaded.D(x).numpy() == game.D(x).numpy()).all()
    state = loaded.state_dict()
    assert state.keys() == game.state_dict().keys()
    assert all((state[key] == value).all() for key, value in game.state_dict().items())
    for player in ("G", "D"):   # the memory layout matters for the speed of convolutions
        for mine, theirs in zip(getattr(loaded, player).parameters(),
                                getattr(game, player).parameters(), strict=True):
            assert mine.data.strides == theirs.data.strides
    settings = {key: value for key, value in vars(game).items()
                if isinstance(value, (int, float)) and key not in ("training", *game.untracked)}
    assert len(settings) > 3 and settings == {key: vars(loaded)[key] for key in settings}
    assert loaded.loss == game.loss and loaded.penalties == game.penalties
    assert loaded.views[0].sigma == game.views[0].sigma == schedules.cosine(0.3, 0.0, 10)


def make_generator(activation):
    """Return a generator with this activation."""
    return nn.Sequential(nn.Dense(5, 16), activation, nn.Reshape(1, 4, 4))


class Growing(nn.Module):
    """A generator with a dictionary of parts. It keeps its last output in two attributes."""

    untracked = ("outputs",)

    def __init__(self):
        self.parts_by_size = {"small": make_generator(ops.relu), "flat": nn.Flatten()}

    def forward(self, z):
        self.last = self.parts_by_size["small"](z)
        self.outputs = {"last": self.last.data}
        return self.last


def test_dictionaries_functions_and_attributes_of_a_forward_pass(tmp_path):
    """Attributes that a forward pass has set are not in the checkpoint."""
    def make():
        return LSGAN(Growing(), nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 5)
    game, opts, batches = make_parts(make())
    for _ in play(game, batches, *opts.values(), 4, rng, 2):
        pass
    unsaved.check(game, {}, batches)
    save(tmp_path / checkpoint.NAME, game, opts, batches)
    loaded, z = tinygan.load(tmp_path, Growing), game.latent(3, rng)
    assert not hasattr(loaded.G, "last")
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    other, *rest = make_parts(make())
    checkpoint.restore(checkpoint.read(tmp_path / checkpoint.NAME), other, *rest)
    assert (to_numpy(other.sample(z)) == to_numpy(game.sample(z))).all()


def halve(x):
    return x * 0.5


def two(i):
    return 2


@dataclasses.dataclass(frozen=True)
class Triple:
    """A dataclass with a number and a Module as fields."""

    layer: nn.Module
    factor: float = 3.0


class TakesAnything(nn.Module):
    """A Module whose constructor has parameters of every kind."""

    def __init__(self, first, *layers, scale=1.0, of=None, **more):
        self.arguments = {"first": first, "layers": layers, "scale": scale, "of": of, **more}

    def forward(self, x):
        return x


class Scaled(nn.Sequential):
    """A Sequential whose output is multiplied by a factor."""

    def __init__(self, *layers, factor=2.0):
        super().__init__(*layers)
        self.factor = factor

    def forward(self, x):
        return super().forward(x) * self.factor


@pytest.mark.parametrize("arguments, keywords", [
    ((1,), {}), ((None, nn.ReLU), {"scale": 2.5}), ((True, 1, "a", ops.relu), {}),
    (("a\nb",), {"of": [1, (2, [3, ()])], "more": {"x": {"y": (1,)}, "": None}}),
    ((np.float32(0.5), np.int64(3)), {"scale": np.bool_(True)}),
    ((math.inf, 1e300, 10 ** 30), {"factor": losses.Hinge(), "init": nn.normal(0.5)}),
    ((halve,), {"of": Triple, "another": schedules.linear(1.0, 0.0, 5)}),
    (({"class": "tinygan.games.gan.GAN", "arguments": {}}, {"again": 0}), {"of": {"tuple": [1]}}),
    ((), {"first": {"**": 1, "*": (2,)}})])
def test_arguments_are_restored(arguments, keywords, tmp_path):
    """A loaded game has the arguments of its constructors, with their types.

    numpy's numbers become Python's.
    """
    game = LSGAN(TakesAnything(*arguments, **keywords), nn.Dense(2, 1), 2)
    loaded = save_and_load(tmp_path, game, TakesAnything, Triple, halve)

    def to_python(value):
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return {name: to_python(part) for name, part in value.items()}
        return type(value)(map(to_python, value)) if isinstance(value, (list, tuple)) else value
    assert repr(loaded.G.arguments) == repr(to_python(game.G.arguments))


def test_modules_among_the_arguments_are_restored_once_each(tmp_path):
    """A Module that occurs twice is one object, in lists, dictionaries, objects and networks."""
    shared, other = nn.Dense(2, 2), nn.spectral_norm(nn.Dense(2, 2))
    G = TakesAnything([shared, (other,)], Scaled(other, shared, factor=3.0),
                      of={"a": {"b": shared}}, more=Triple(shared, 4.0))
    game = LSGAN(G, nn.Sequential(other, nn.Dense(2, 1)), 2)
    loaded = save_and_load(tmp_path, game, TakesAnything, Scaled, Triple)
    a = loaded.G.arguments
    mine, (others,) = a["first"]
    assert a["layers"][0].layers == [others, mine] and a["layers"][0].factor == 3.0
    assert a["of"]["a"]["b"] is mine is a["more"].layer and a["more"].factor == 4.0
    assert loaded.D.layers[0] is others and hasattr(others, "weight_u")
    assert (others.weight_orig.numpy() == other.weight_orig.numpy()).all()
    assert (mine.weight.numpy() == shared.weight.numpy()).all()
    assert len(loaded.parameters()) == len(game.parameters())


@pytest.mark.parametrize("init", [nn.he, nn.normal(0.1), lambda *shape: backend.xp.ones(shape[0])])
def test_initialisers_are_not_saved(init, tmp_path):
    """An initialiser need not be described, because the checkpoint has the weights."""
    game = make_small_game()
    game = GAN(nn.Dense(2, 2, init=init), game.D, 2)
    assert (save_and_load(tmp_path, game).G.weight.numpy() == game.G.weight.numpy()).all()


def test_a_game_of_float64_is_loaded_as_one(tmp_path):
    """Also if its weights were converted after its constructors had made them."""
    game = to_float64(make_small_game())
    game.G.layers[0].weight.data += 1e-12           # float32 would lose it
    loaded = save_and_load(tmp_path, game)
    assert {a.dtype for a in loaded.arrays().values()} == {np.dtype("float64")}
    assert all((a == game.state_dict()[name]).all() for name, a in loaded.state_dict().items())


@pytest.mark.parametrize("changes", [[0.5], [0.5, 0.9]])
def test_averages_and_spectral_norms_are_restored(changes, tmp_path):
    """keep_average() and spectral_norm() are repeated in their order when a game is loaded."""
    game = make_small_game()
    for layer in game.D, game.G.layers[0], game.G.layers[0]:
        nn.spectral_norm(layer)
    for decay in changes:
        game.keep_average(decay)
    game.averages["G"].layers[2].weight.data += 1.0
    loaded = save_and_load(tmp_path, game)
    assert loaded.average_decay == changes[-1] and list(loaded.averages) == ["G"]
    assert loaded.averages["G"] is not loaded.G
    state = loaded.state_dict()
    assert {"D.weight_u", "D.weight_v", "averages.G.0.weight_orig"} <= state.keys()
    assert all((state[key] == value).all() for key, value in game.state_dict().items())
    z = game.latent(4, rng)
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()


# Names

def make_python_module(monkeypatch, name, factor):
    """Return a new Python module with a class Net and a function relu."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(f"""
from tinygan import nn

class Net(nn.Module):
    factor = {factor}

    def __init__(self, n):
        self.dense = nn.Dense(n, n)

    def forward(self, x):
        return self.dense(x) * self.factor

def relu(x):
    return x * {factor}
""", vars(module))
    return module


def test_two_classes_of_one_name_are_told_apart(monkeypatch, tmp_path):
    """Classes with the same name in two modules are told apart by the modules' names."""
    one, other = (make_python_module(monkeypatch, f"nets.{name}", factor)
                  for name, factor in (("one", 2.0), ("other", 3.0)))
    game = LSGAN(nn.Sequential(one.Net(2), other.Net(2), one.relu), nn.Dense(2, 1), 2)
    known = [other.relu, one.Net, one.relu, other.Net]
    for _ in range(2):
        loaded = save_and_load(tmp_path, game, *known)
        assert [type(layer) for layer in loaded.G.layers[:2]] == [one.Net, other.Net]
        assert loaded.G.layers[2] is one.relu
        known.reverse()
    for missing in one.Net, other.Net, one.relu:
        with pytest.raises(UserError) as raised:
            tinygan.load(tmp_path, *[thing for thing in known if thing is not missing])
        name = missing.__name__
        assert f"{missing.__module__}.{name}, which is not tinygan's" in str(raised.value)
        given = {"nets.one": "nets.other", "nets.other": "nets.one"}[missing.__module__]
        assert f"({given}.{name} was given, but the file must have the same" in str(raised.value)
        assert f"load(run, {name})" in str(raised.value)
    swapped = LSGAN(nn.Sequential(other.Net(2), one.Net(2), one.relu), nn.Dense(2, 1), 2)
    with pytest.raises(UserError, match='was "nets.one.Net", now "nets.other.Net"'):
        checkpoint.restore(checkpoint.read(tmp_path / checkpoint.NAME), swapped, {}, Points())


def test_two_classes_of_one_name_and_module_are_refused(tmp_path):
    """A function can define two classes with the same qualified name, which are ambiguous."""
    def make(factor):
        class Net(nn.Dense):
            def forward(self, x):
                return super().forward(x) * factor
        return Net
    one, other = make(1.0), make(2.0)
    game = LSGAN(nn.Sequential(one(2, 2), other(2, 2)), nn.Dense(2, 1), 2)
    message = error_of(unsaved.check, game, {}, Points())
    assert "two classes or functions have the one name test_checkpoint." in message
    game = LSGAN(one(2, 2), nn.Dense(2, 1), 2)
    assert type(save_and_load(tmp_path, game, one, one).G) is one
    assert "make.<locals>.Net" in error_of(tinygan.load, tmp_path, one, other)


def relu(x):
    return x * -1.0


def test_a_users_function_with_the_name_of_tinygans(tmp_path):
    game = LSGAN(nn.Sequential(relu, ops.relu, nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    loaded = save_and_load(tmp_path, game, relu)
    assert loaded.G.layers[:2] == [relu, ops.relu]
    with pytest.raises(UserError, match="test_checkpoint.relu, which is not tinygan's"):
        tinygan.load(tmp_path)
    game = LSGAN(nn.Sequential(ops.relu, nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    for known in ([], [relu]):
        assert save_and_load(tmp_path, game, *known).G.layers[0] is ops.relu


def test_a_class_of_the_running_script(monkeypatch, tmp_path):
    """A class of the module __main__ is saved with the name of the script's file.

    Another script that imports it can then load the game.
    """
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/train.py", raising=False)
    net = type("Net", (nn.Dense,), {"__module__": "__main__"})
    game = LSGAN(net(2, 2), nn.Dense(2, 1), 2)
    with pytest.raises(UserError, match="train.Net, which is not tinygan's"):
        save_and_load(tmp_path, game)
    imported = type("Net", (nn.Dense,), {"__module__": "train"})
    assert type(tinygan.load(tmp_path, imported).G) is imported


def test_functions_and_classes_of_the_user(tmp_path):
    class Double(nn.Module):
        def forward(self, x):
            return x * 2.0
    G, D = nn.Sequential(nn.Dense(2, 2), Double()), nn.Dense(2, 1)
    game = WGAN(G, D, 2, n_critic=warm_up)
    with pytest.raises(UserError, match="Double, which is not tinygan's"):
        save_and_load(tmp_path, game)
    assert tinygan.load(tmp_path, Double).d_steps is warm_up
    game = WGAN(G, D, 2, n_critic=two)
    with pytest.raises(UserError, match=r"load\(run, two\)"):
        save_and_load(tmp_path, game, Double)
    assert tinygan.load(tmp_path, Double, two).d_steps is two


class Nameless(nn.Module):
    def __init__(self, n, /):
        self.weight = Tensor([1.0] * n)


def test_arguments_without_names_are_refused():
    """A description has each argument by its name."""
    game = LSGAN(nn.Dense(2, 2), nn.Sequential(Nameless(3)), 2)
    with pytest.raises(TypeError, match="some of Nameless's have no name: leave out the / among"):
        unsaved.check(game, {}, Points())


def test_what_cannot_be_described_is_named():
    """The names lead from the game, or from the optimiser, to it."""
    game = LSGAN(nn.Dense(2, 2), nn.Sequential(nn.Dense(2, 1), Filled({"a": 1j})), 2)
    opt = optim.SGD(game.d_parameters(), lambda t: 0.1)
    for describe, thing, names in ((description.describe, game,
                                    r"LSGAN\.D: Sequential\.layers: Filled\.fill: dictionary\.a"),
                                   (description.describe_optimiser, opt, r"SGD\.lr")):
        with pytest.raises(TypeError, match=f"^{names}: a checkpoint cannot describe a "):
            describe(thing)


class Filled(nn.Module):
    def __init__(self, fill=math.nan):
        self.weight, self.fill = Tensor([1.0]), fill

    def forward(self, x):
        return x * self.weight


def test_an_argument_that_is_nan_does_not_differ_from_itself(tmp_path):
    def make():
        game = LSGAN(nn.Dense(2, 2), nn.Sequential(Filled(), nn.Dense(2, 1)), 2)
        opts = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
        return game, mixtures.ring().minibatches(4), opts
    Run(tmp_path / "run", *make(), 2).play()
    assert math.isnan(Run(tmp_path / "run", *make(), 4, resume=True).play().D[0].fill)


@pytest.mark.parametrize("argument, words", [
    (lambda: np.longdouble(1), "a longdouble"), (lambda: np.complex64(1j), "a complex"),
    (lambda: lambda i: 2, "a function"), (lambda: functools.partial(two), "a partial"),
    (lambda: object(), "an? object"), (lambda: {1, 2}, "a set"), (lambda: {1: 2}, "a dict"),
    (lambda: [{"a": object()}], "an? object"), (lambda: 1j, "a complex"),
    (lambda: np.zeros(2), "a ndarray"), (lambda: Tensor([1.0]), "a Tensor"),
    (lambda: "text".count, "a builtin_function_or_method")])
def test_an_argument_that_cannot_be_described_is_refused(argument, words, tmp_path):
    game = LSGAN(nn.Dense(2, 2), nn.Dense(2, 1), 2, d_steps=argument())
    for use in (lambda: unsaved.check(game, {}, Points()),
                lambda: save(tmp_path / "c.npz", game, {}, Points())):
        with pytest.raises(TypeError, match=f"cannot describe {words}.* give numbers, texts"):
            use()
    assert not any(tmp_path.iterdir())


def test_a_game_of_the_user_can_be_saved(tmp_path):
    """A subclass of Game without a loss is saved and loaded, with a stream of random points."""
    class Mine(Game):
        pass
    game = Mine(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    opts = {"opt": optim.SGD(game.d_parameters(), 0.1)}
    save(tmp_path / checkpoint.NAME, game, opts, mixtures.ring().minibatches(2))
    assert type(tinygan.load(tmp_path, Mine)) is Mine


# Files of earlier versions of a class

class Net(nn.Module):
    def __init__(self, n, layers=()):
        self.n, self.dense = n, nn.Dense(n, n)

    def forward(self, x):
        return self.dense(x)


def make_net_game(*arguments, **keywords):
    """Return a game whose G is Net(*arguments, **keywords)."""
    return LSGAN(Net(*arguments, **keywords), nn.Dense(2, 1), 2)


@pytest.fixture
def saved_net(tmp_path):
    """Return the folder of a checkpoint of a game with a Net, and the game."""
    game = make_net_game(2, layers=[1])
    save(tmp_path / checkpoint.NAME, game, {}, Points())
    return tmp_path, game


def restore(folder, game, opts=None, data=None):
    """Restore the checkpoint in `folder` into a game, and return the game."""
    checkpoint.restore(checkpoint.read(folder / checkpoint.NAME), game, opts or {},
                       data or Points())
    return game


def init_later_net(self, n, slope):
    """Set the attributes of a later version of Net."""
    self.dense, self.slope = nn.Dense(n, n), slope


@pytest.mark.parametrize("constructor", [
    lambda self, n, layers=(), slope=0.2: init_later_net(self, n, slope),
    lambda self, n, slope=0.2, layers=(): init_later_net(self, n, slope),
    lambda self, n, layers=(), *, slope=0.2: init_later_net(self, n, slope),
    lambda self, n, layers=(), *more, slope=0.2: init_later_net(self, n, slope),
    lambda self, n, layers=(), slope=0.2, **more: init_later_net(self, n, slope)])
def test_a_new_argument_has_its_default(constructor, saved_net, monkeypatch):
    """An older file can be loaded and resumed if a new argument has its default value."""
    folder, game = saved_net
    monkeypatch.setattr(Net, "__init__", constructor)
    for other in tinygan.load(folder, Net), restore(folder, make_net_game(2, layers=[1])):
        assert (other.G.dense.weight.numpy() == game.G.dense.weight.numpy()).all()
        assert other.G.slope == 0.2
    with pytest.raises(UserError, match=r"\(game.G.slope was 0.2, now 0.5\)"):
        restore(folder, make_net_game(2, layers=[1], slope=0.5))


@pytest.mark.parametrize("constructor, arguments, keywords", [
    (lambda self, n, layers=(), *more: init_later_net(self, n, 0.2), (2, [1], 7), {}),
    (lambda self, n, layers=(), **more: init_later_net(self, n, 0.2), (2, [1]), {"x": 7})])
def test_new_variadic_arguments_are_empty_by_default(constructor, arguments, keywords, saved_net,
                                                     monkeypatch):
    folder, _ = saved_net
    monkeypatch.setattr(Net, "__init__", constructor)
    tinygan.load(folder, Net)
    restore(folder, make_net_game(2, [1]))
    with pytest.raises(UserError, match=r"game.G.\*+more"):
        restore(folder, make_net_game(*arguments, **keywords))


def test_a_new_default_need_not_be_described(
        saved_net, monkeypatch):
    monkeypatch.setattr(
        Net, "__init__",
        lambda self, n, layers=(), slope=lambda x: x: init_later_net(self, n, slope(0.2)))
    assert tinygan.load(saved_net[0], Net).G.slope == 0.2


def test_a_new_argument_of_a_class_of_tinygan(monkeypatch, tmp_path):
    """A new argument of a layer and of an optimiser has its default in an older file."""
    def make():
        game = GAN(nn.Sequential(nn.LeakyReLU(0.1), nn.Dense(2, 2)), nn.Dense(2, 1), 2,
                   losses.Hinge())
        return game, {"opt": optim.SGD(game.d_parameters(), schedules.linear(1.0, 0.0, 5))}
    game, opts = make()
    save(tmp_path / checkpoint.NAME, game, opts, Points())

    def more(kind, names):
        first = kind.__init__
        exec(f"def __init__(self, {names}, *, more=7):\n"
             f"    first(self, {names.replace('=0.0', '')})\n"
             "    object.__setattr__(self, 'more', more)", namespace := {"first": first})
        monkeypatch.setattr(kind, "__init__", namespace["__init__"])
    more(nn.LeakyReLU, "slope")
    more(optim.SGD, "parameters, lr, momentum=0.0")
    game, opts = make()
    assert game.G.layers[0].more == opts["opt"].more == 7
    restore(tmp_path, game, opts)
    assert tinygan.load(tmp_path).G.layers[0].more == 7
    opts["opt"].more = 8
    with pytest.raises(UserError, match=r"\(opt.more was 7, now 8\)"):
        restore(tmp_path, game, opts)


def test_a_class_with_another_buffer_than_before_is_refused(saved_net, monkeypatch, tmp_path):
    folder, game = saved_net
    first = Net.__init__

    def count_too(self, n, layers=()):
        first(self, n, layers)
        self.count = backend.xp.zeros(2)
    monkeypatch.setattr(Net, "__init__", count_too)
    counting = make_net_game(2, layers=[1])
    with pytest.raises(UserError, match="lacks game.G.count, and the game has it: its classes "):
        restore(folder, counting)
    (tmp_path / "counting").mkdir()
    save(tmp_path / "counting" / checkpoint.NAME, counting, {}, Points())
    with pytest.raises(UserError, match="has game.G.count, and the game lacks it: its classes "):
        restore(tmp_path / "counting", game)


def test_a_removed_argument_is_refused(saved_net, monkeypatch):
    folder, _ = saved_net
    first = Net.__init__
    monkeypatch.setattr(Net, "__init__", lambda self, n: first(self, n))
    with pytest.raises(UserError, match="Net has changed since .*unexpected .* 'layers'"):
        tinygan.load(folder, Net)
    with pytest.raises(UserError, match=r"game.G.layers was \[1\], now null"):
        restore(folder, make_net_game(2))
    save_and_load(folder, LSGAN(nn.LeakyReLU(0.1), nn.Dense(2, 1), 2))
    monkeypatch.setattr(nn.LeakyReLU, "__init__", lambda self: None)
    with pytest.raises(UserError, match="layers.LeakyReLU cannot be constructed .*'slope'"):
        tinygan.load(folder)


def test_a_constructor_may_set_other_attributes(saved_net, monkeypatch):
    """A later version of a constructor may set other attributes, but not other weights."""
    folder, game = saved_net
    first = Net.__init__

    def init_later(self, n, layers=()):
        first(self, n, layers)
        del self.n
        self.slope, self.names, self.act = 0.2, ["a"], nn.Tanh()
    monkeypatch.setattr(Net, "__init__", init_later)
    for other in (tinygan.load(folder, Net), restore(folder, make_net_game(2, layers=[1]))):
        assert other.G.slope == 0.2 and not hasattr(other.G, "n")
        assert (other.G.dense.weight.numpy() == game.G.dense.weight.numpy()).all()

    def with_weight(self, n, layers=()):
        first(self, n, layers)
        self.scale = Tensor([1.0])
    monkeypatch.setattr(Net, "__init__", with_weight)
    with pytest.raises(UserError, match="the weights lack G.scale"):
        tinygan.load(folder, Net)


# Errors in the user's code

@pytest.mark.parametrize("error", [KeyError("mine"), ValueError("mine"), TypeError("mine"),
                                   AttributeError("mine"), ZeroDivisionError("mine")])
def test_an_error_in_a_users_constructor_is_not_changed(error, saved_net, monkeypatch):
    def wrong(self, n, layers=()):
        raise error
    monkeypatch.setattr(Net, "__init__", wrong)
    with pytest.raises(type(error)) as raised:
        tinygan.load(saved_net[0], Net)
    assert raised.value is error and raised.traceback[-1].name == "wrong"


def test_a_user_error_in_a_users_constructor_gets_the_path(saved_net, monkeypatch):
    def wrong(self, n, layers=()):
        raise UserError("n is to be 3")
    monkeypatch.setattr(Net, "__init__", wrong)
    with pytest.raises(UserError, match=f"{checkpoint.NAME}: n is to be 3$"):
        tinygan.load(saved_net[0], Net)


class Failing(Points):
    """A stream whose state cannot be set."""

    error = KeyError("mine")

    @property
    def state(self):
        return {"place": 3}

    @state.setter
    def state(self, state):
        if vars(self).setdefault("begun", False):
            raise self.error
        self.begun = True


@pytest.mark.parametrize("error", [KeyError("mine"), ValueError("mine"), UserError("mine")])
def test_an_error_in_a_users_stream_is_not_changed(error, tmp_path, monkeypatch):
    """Nothing is restored if the data stream raises an error."""
    monkeypatch.setattr(Failing, "error", error)
    game, opts, data = *make_parts(make_small_game())[:2], Failing()
    save(tmp_path / checkpoint.NAME, game, opts, data)
    other, its, _ = make_parts(make_small_game())
    before = other.state_dict(), rng.state
    with pytest.raises(type(error)) as raised:
        restore(tmp_path, other, its, data)
    assert raised.value is error
    assert rng.state == before[1]
    assert all((value == before[0][key]).all() for key, value in other.state_dict().items())


def test_an_indescribable_game_is_not_reported_as_damage(saved_net):
    folder, _ = saved_net
    with pytest.raises(TypeError, match="cannot describe a function"):
        restore(folder, LSGAN(nn.Dense(2, 2), nn.Dense(2, 1), 2, d_steps=lambda i: 1))


# Data streams

@pytest.mark.parametrize("data", [
    iter([]), (x for x in []), [1, 2], map(abs, []), None, object()])
def test_a_stream_without_a_state_is_refused_at_the_start(data, tmp_path):
    """Such a stream could not be resumed. The error comes before any file is written."""
    game = make_small_game()
    with pytest.raises(UserError, match=f"{type(data).__name__}, has no `state`.*Minibatches"):
        unsaved.check(game, {}, data)
    with pytest.raises(UserError, match="has no `state`"):
        Run(tmp_path / "run", game, data, [optim.SGD(game.d_parameters(), 0.1),
                                           optim.SGD(game.g_parameters(), 0.1)], 3, 2)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("state, words", [
    ({1: 2}, "data, a dict"), ({"a": {"b": {None: 1}}}, "data.a.b, a dict"),
    ([1, {2}], "data.1, a set"), ({"a": (object(),)}, "data.a.0, a object"),
    ({"a": 1j}, "data.a, a complex"), ({"a": np.complex64(1)}, "data.a, a complex"),
    ({"a": b"x"}, "data.a, a bytes"), ({"a": np.array(["x"])}, "data.a, a <U1 array"),
    ({"a": np.array([None])}, "data.a, a object array"),
    ({"a": np.zeros(2, complex)}, "data.a, a complex128 array"),
    ({"a": two}, "data.a, a function")])
def test_a_state_that_cannot_be_saved_is_refused_at_the_start(state, words, tmp_path):
    for use in (lambda: unsaved.check(make_small_game(), {}, Points(state)),
                lambda: save(tmp_path / "c.npz", make_small_game(), {}, Points(state))):
        with pytest.raises(TypeError) as raised:
            use()
        assert words in str(raised.value) and "by text" in str(raised.value)
    assert not any(tmp_path.iterdir())


def make_nested_state():
    """Return a state with every kind of value and with unusual names."""
    def array(*numbers, dtype="float32"):
        return backend.xp.asarray(np.array(numbers, dtype))
    names = ["a.b", "a", "", ".", "a\nb", "a\0b", "\ud800", "é", "file", "about", "rng", "data",
             "game.G.0.weight", "order", "x/y", "x\\y", "..", "x" * 300, "tuple", "array",
             "tensor", "dictionary", "again", "data.data", "1", "*", "**", "a#1", "data#0",
             "allow_pickle", "a.npy", "log", "z"]
    return {
        "a": {"b": array(1, 2), "b.c": [array(3)]}, "a.b": array(4), "a.b.c": {"0": array(5)},
        "each": {name: array(i, dtype="int64") for i, name in enumerate(names)},
        "numbers": [0, -1, 10 ** 30, 0.1, 1e-320, math.inf, True, False, None, "", "a\nb\ud800"],
        "of numpy": (np.float64(0.1), np.int8(3), np.bool_(True), np.str_("x")),
        "nothing": {"list": [], "tuple": (), "dictionary": {}, "array": array(),
                    "more": np.zeros((0, 3), "int32") if backend.xp is np else array()},
        "nested": [({"x": [(array(6),), [array(7), (8,)]]},)],
        "kinds": [array(0, 1, dtype=d) for d in ("bool", "uint8", "int16", "uint64", "float16",
                                                 "float64")],
        "one number": array(9).reshape(()), "matrix": array(1, 2, 3, 4, 5, 6).reshape(3, 2).T,
        "Tensors": [Tensor(array(1.5, 2.5)), (Tensor(array(3, dtype="float64")),)]}


def show_types(value):
    """Return a nested value in a form that shows all types and values."""
    if isinstance(value, dict):
        return {name: show_types(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [show_types(part) for part in value]
    if isinstance(value, (Tensor, backend.xp.ndarray)):
        array = value.numpy() if type(value) is Tensor else to_numpy(value)
        return type(value), array.dtype, array.shape, array.tolist()
    return repr(value.item() if isinstance(value, np.generic) else value)


def test_a_state_of_any_form_is_restored(tmp_path):
    """A state may be nested to any depth, and its names may be those of other arrays."""
    game, opts, _ = make_parts(make_small_game())
    save(tmp_path / checkpoint.NAME, game, opts, Points(make_nested_state()))
    data = Points()
    restore(tmp_path, game, opts, data)
    assert show_types(data.state) == show_types(make_nested_state())
    assert list(data.state) == list(make_nested_state())        # in their order
    assert tinygan.load(tmp_path).z_size == 2


@pytest.mark.parametrize("value", [(), 3, None, "text", [1], Tensor([1.0, 2.0])])
def test_a_state_need_not_be_a_dictionary(value, tmp_path):
    save(tmp_path / checkpoint.NAME, make_small_game(), {}, Points(value))
    data = Points("another")
    restore(tmp_path, make_small_game(), {}, data)
    assert show_types(data.state) == show_types(value)


# Refused at the start

class Wrapper(nn.Module):
    def __init__(self, inside):
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


def init_without_bias(game):
    game.G.layers[0].__init__(2, 3, bias=False)


@pytest.mark.parametrize("change, words", [
    (lambda game: game.G.layers.append(nn.Dense(2, 2)), "G.3, G.3.bias, G.3.weight"),
    (lambda game: game.G.layers.append(nn.Tanh()), "G.3"),
    (lambda game: game.G.layers.pop(1), "G.1"),
    (lambda game: game.G.layers.__setitem__(1, nn.Tanh()), "G.1"),
    (lambda game: game.G.layers.__setitem__(2, nn.Dense(3, 2, bias=False)), "G.2.bias"),
    (lambda game: setattr(game, "D", Wrapper(game.D)), "D, D.bias, D.inside"),
    (lambda game: setattr(game, "D", nn.Conv2d(1, 1, 1)), "D"),
    (lambda game: setattr(game, "Q", nn.Dense(2, 1)), "Q, Q.bias, Q.weight"),
    (lambda game: setattr(game, "scale", Tensor([1.0])), "scale"),
    (lambda game: setattr(game.D, "scale", backend.xp.zeros(2)), "D.scale"),
    (lambda game: delattr(game.D, "bias"), "D.bias"),
    (lambda game: game.views.append(views.InstanceNoise(0.1)), "views.0"),
    (lambda game: game.keep_average() or nn.spectral_norm(game.G.layers[0]), "averages.G.0.weight"),
    (init_without_bias, "G.0.bias")])
def test_a_game_that_was_changed_after_its_constructor_is_refused(change, words, tmp_path):
    """load() would call the constructors and so get other networks."""
    game = make_small_game()
    unsaved.check(game, {}, Points())
    change(game)
    message = error_of(unsaved.check, game, {}, Points())
    assert "other parts or weights" in message and f"({words}" in message
    assert "in their constructors" in message
    with pytest.raises(UserError, match="other parts or weights"):
        Run(tmp_path / "run", game, Points(), [optim.SGD(game.d_parameters(), 0.1)] * 2, 3)
    assert not any(tmp_path.iterdir())


def test_a_game_that_cannot_be_described_is_refused_at_the_start():
    """A network that contains itself, and one with too many parts, are refused."""
    layers = []
    G = TakesAnything(layers)
    layers.append(G)
    D, part = nn.Dense(2, 1), nn.ReLU()
    for _ in range(14):
        part = nn.Sequential(part, part)
    for game, words in ((LSGAN(G, D, 2), "G.arguments has been changed since the game was made"),
                        (LSGAN(part, D, 2), "not be loaded from its .* more than 10000 parts")):
        with pytest.raises(UserError, match=words):
            unsaved.check(game, {}, Points())


def test_training_does_not_count_as_a_change():
    """check() accepts a game after training, spectral_norm() and keep_average()."""
    game, opts, data = make_parts(make_small_game(), Points())
    nn.spectral_norm(game.D)
    game.keep_average()
    opts = [optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)]
    for _ in play(game, data, *opts, 2, rng, 2):
        pass
    game.eval()
    state = rng.state
    unsaved.check(game, {}, data)
    assert rng.state == state


@pytest.mark.numpy_only("the file is read and checked on the host")
def test_a_checkpoint_has_printable_names_and_a_text_of_bytes(tmp_path):
    save(tmp_path / "a.npz", *train("gan", 1)[:1], {}, Points())
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    about = arrays["about"]
    for changed in ({"a\x1b[2J": np.zeros(1)}, {"about": about.view(np.int8)},
                    {"about": np.zeros(len(about) // 4 + 1, "int32")}):
        np.savez(tmp_path / "b.npz", **{**arrays, **changed})
        with pytest.raises(UserError, match="is no checkpoint of tinygan's"):
            checkpoint.read(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", **arrays)
    checkpoint.read(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\ud800", "\x1b[2J"])
def test_unprintable_names_of_weights_are_refused_at_the_start(name):
    class Named(nn.Module):
        def __init__(self, name):
            self.parts_by_name = {name: nn.Dense(2, 2)}
    message = error_of(unsaved.check, LSGAN(Named(name), nn.Dense(2, 1), 2), {}, Points())
    assert repr(name)[1:-1] in message and message.isprintable()
    unsaved.check(LSGAN(Named("é and others"), nn.Dense(2, 1), 2), {}, Points())


def test_a_checkpoint_with_nan_does_not_replace_a_good_one(tmp_path):
    path, (game, opts, batches) = tmp_path / "c.npz", train("gan", 1)
    save(path, game, opts, batches)
    good = path.read_bytes()
    for array in (game.D.layers[0].weight.data, opts["g_opt"].state["s"][1]):
        before = array[0].copy()
        array[0] = math.nan
        with pytest.raises(FloatingPointError, match=r"^(game\.D\.0\.weight|g_opt\.s\.1) is no"):
            save(path, game, opts, batches)
        array[0] = before
        assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["c.npz"]


# Restoring into another game

def make_other_parts(**choices):
    return make_parts(make_game("gan", **choices))


def make_parts_with_layers(player, change):
    """Return the parts of a game after change(layers) for the layers of one player."""
    G, D = make_networks()
    layers = list((G if player == "G" else D).layers)
    change(layers)
    return make_other_parts(**{player: nn.Sequential(*layers)})


@pytest.mark.parametrize("make, words", [
    (lambda: make_parts_with_layers("D", lambda layers: layers.__setitem__(1, nn.LeakyReLU(0.3))),
     ["game.D.*layers.tuple.1.slope was 0.1, now 0.3"]),
    (lambda: make_parts_with_layers("G", lambda layers: layers.append(nn.Tanh())),
     ["game.G.*layers.tuple was"]),
    (lambda: make_parts_with_layers("G", lambda layers: layers.__setitem__(2, nn.Tanh())),
     ['"tinygan.nn.layers.ReLU"', '"tinygan.nn.layers.Tanh"']),
    (lambda: make_parts_with_layers(
        "G", lambda layers: layers.__setitem__(0, nn.Dense(5, 8, bias=False))),
     ["game.G.*layers.tuple.0.bias was true, now false"]),
    (lambda: make_parts_with_layers("G", lambda layers: layers.__setitem__(6, ops.tanh)),
     ["ops.tanh"]),
    (lambda: make_parts_with_layers("D", lambda layers: nn.spectral_norm(layers[0])),
     ["game.D.*layers.tuple.0.changes was []", "spectral_norm"]),
    (lambda: make_other_parts(loss=losses.Saturating()),
     ["game.loss was null", "losses.Saturating"]),
    (lambda: make_other_parts(penalties=[penalties.R1(3.0)]), ["game.penalties was"]),
    (lambda: make_other_parts(views=[views.InstanceNoise(0.3)]),
     ["sigma was", "cosine", "now 0.3"]),
    (lambda: make_other_parts(views=[views.InstanceNoise(schedules.cosine(0.3, 0.0, 11))]),
     ["sigma.steps was 10, now 11"]),
    (lambda: make_other_parts(d_steps=2), ["game.d_steps was 1, now 2"]),
    (lambda: make_parts(make_game("lsgan")), ["gan.GAN", "lsgan.LSGAN"]),
    (lambda: make_parts(make_game("gan"), betas=(0.9, 0.999)),
     ["d_opt.betas.tuple.0 was 0.5, now 0.9"]),
    (lambda: make_parts(make_game("gan"), Minibatches(np.float32(normal(28, 1, 4, 4) % 1), 4)),
     ["30 examples", "28"])])
def test_restoring_into_another_game_names_the_difference(make, words, tmp_path):
    """The error names the difference, and nothing is restored."""
    path = tmp_path / "c.npz"
    save(path, *train("gan", 1))
    game, opts, batches = make()
    before = read_state(game, opts, batches)
    with pytest.raises(UserError) as raised:
        checkpoint.restore(checkpoint.read(path), game, opts, batches)
    assert all(word in str(raised.value) for word in words), raised.value
    assert read_state(game, opts, batches) == before


@pytest.mark.parametrize("change, words", [
    (lambda game, opts: setattr(opts["g_opt"], "lr", 2e-3), "g_opt.lr was 0.001, now 0.002"),
    (lambda game, opts: opts.update(g_opt=optim.Adam(game.g_parameters(), 1e-3)),
     'was "tinygan.optim.RMSProp", now "tinygan.optim.Adam"'),
    (lambda game, opts: opts.pop("g_opt"), "g_opt was .*RMSProp.*now null"),
    (lambda game, opts: opts.update(q_opt=opts["g_opt"]), "q_opt was null, now .*RMSProp"),
    (lambda game, opts: game.keep_average(0.9), "game.changes was")])
def test_restoring_into_other_optimisers_names_the_difference(change, words, tmp_path):
    path = tmp_path / "c.npz"
    save(path, *train("gan", 1))
    game, opts, batches = make_other_parts()
    change(game, opts)
    with pytest.raises(UserError, match=words):
        checkpoint.restore(checkpoint.read(path), game, opts, batches)


@pytest.mark.parametrize("choices", [
    {"loss": losses.Hinge()}, {"d_steps": 2}, {"views": [views.InstanceNoise(0.1)]},
    {"loss": losses.Hinge(), "g_steps": 1}])
def test_arguments_for_the_base_class_may_not_change(choices, tmp_path):
    """R1 passes further arguments to its base class, and they are compared, too."""
    def make_r1(**choices):
        return R1(nn.Dense(2, 2), nn.Dense(2, 1), 2, gamma=1.0, **choices)
    save(tmp_path / checkpoint.NAME, make_r1(**choices), {}, Points())
    restore(tmp_path, make_r1(**choices))
    with pytest.raises(UserError, match=rf"choices.*{next(iter(choices))} was .*, now null"):
        restore(tmp_path, make_r1())
    save(tmp_path / checkpoint.NAME, make_r1(), {}, Points())
    with pytest.raises(UserError, match=rf"choices.*{next(iter(choices))} was null, now "):
        restore(tmp_path, make_r1(**choices))


@pytest.mark.numpy_only("the file is read and checked on the host")
def test_inconsistent_parts_are_refused(tmp_path):
    path, (game, opts, batches) = tmp_path / checkpoint.NAME, train("gan", 2)
    save(path, game, opts, batches)
    _, about, arrays = checkpoint.read(path)

    def write_parts(about, arrays):
        np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        return path
    checkpoint.restore(checkpoint.read(write_parts(about, arrays)), game, opts, batches)
    name = next(iter(arrays))
    lacks = {key: value for key, value in arrays.items() if key != name}
    order = about["data"]["dictionary"]["order"]

    def data(**state):
        return {**about, "data": {"dictionary": {"order": order, "position": 4, "epoch": 0,
                                                 **state}}}
    for wrong_about, wrong_arrays in [
            (about, lacks), (about, {**arrays, name: arrays[name][:1]}),
            (about, {**arrays, name: arrays[name] * np.nan}),
            ({**about, "rng": 3}, arrays),
            ({**about, "rng": {**about["rng"], "state": {}}}, arrays),
            ({**about, "t": {**about["t"], "d_opt": "x"}}, arrays), ({**about, "t": {}}, arrays),
            ({**about, "optimisers": 3}, arrays), ({**about, "data": {}}, arrays),
            ({**about, "data": 3}, arrays), ({**about, "data": {"array": "nothing"}}, arrays),
            ({**about, "data": {"tensor": [1]}}, arrays), ({**about, "data": {"x": 1}}, arrays),
            ({**about, "data": {"tuple": [1], "array": "log"}}, arrays),
            (about, {**arrays, order["array"]: arrays[order["array"]] * 0}),
            (data(position=31), arrays), (data(position="x"), arrays),
            (data(order={"array": name}), arrays)]:
        before = read_state(game, opts, batches)
        with pytest.raises(UserError, match=checkpoint.NAME + "|the saved order") as raised:
            checkpoint.restore(checkpoint.read(write_parts(wrong_about, wrong_arrays)), game, opts,
                               batches)
        assert "\n" not in str(raised.value) and read_state(game, opts, batches) == before


# Malicious files

GAME = {"class": "tinygan.games.gan.GAN", "arguments": {
    "G": {"class": "tinygan.nn.layers.Dense", "arguments": {"n_in": 2, "n_out": 2}},
    "D": {"class": "tinygan.nn.layers.Dense", "arguments": {"n_in": 2, "n_out": 1}}, "z_size": 2}}


def describe(name, *layers, changes=(), **arguments):
    """Return the description of an object of a class of tinygan."""
    arguments = {**arguments, **({"*layers": {"tuple": list(layers)}} if layers else {})}
    return {"class": f"tinygan.{name}", "arguments": arguments, "changes": list(changes)}


def dense(**arguments):
    """Return the description of a Dense layer."""
    return describe("nn.layers.Dense", **{"n_in": 2, "n_out": 2, **arguments})


def sequential(*layers):
    """Return the description of a Sequential."""
    return describe("nn.module.Sequential", *layers)


def game_with(G=None, **choices):
    """Return the description of a game with this G."""
    return {**GAME, "arguments": {**GAME["arguments"], "G": G or dense(), **choices}}


def nest(n):
    """Return the description of n nested Sequentials."""
    part = dense()
    for _ in range(n):
        part = sequential(part)
    return part


def nest_twice(n):
    """Return the description of n nested Sequentials, each of which has the next one twice.

    There are 2^n paths to the innermost layer.
    """
    part = describe("nn.layers.ReLU")
    for i in range(n, 0, -1):
        part = sequential(part, {"again": i + 1})       # part 0 is the game, 1 the outermost
    return part


def change_game(*changes, G=None):
    """Return the description of a game with these changes."""
    return {**game_with(G), "changes": list(changes)}


NORM, AVERAGE = "tinygan.nn.spectral.spectral_norm", "tinygan.games.game.Game.keep_average"
NO_GAME, WRONG_ARGS = "describes no game", "cannot be constructed in this way"
RELU = describe("nn.layers.ReLU")

MALICIOUS = {     # {name: (description, words of the error)}
    "a tuple": ({"tuple": [GAME]}, NO_GAME),
    "a schedule": (describe("schedules.linear", start=1, end=2, steps=3), NO_GAME),
    "an empty dictionary": ({}, NO_GAME),
    "a function": ({"function": "tinygan.ops.relu"}, NO_GAME),
    "arguments missing": ({"class": GAME["class"]}, NO_GAME),
    "arguments that are a list": ({**GAME, "arguments": []}, NO_GAME),
    "a class that is no text": ({**GAME, "class": ["tinygan"]}, NO_GAME),
    "a parameter": (game_with({"parameter": [2, 2]}), NO_GAME),
    "no game": (describe("nn.layers.Dense", n_in=2, n_out=3), "a Dense, which is no game"),
    # names of classes and functions
    "an unknown class": (game_with(describe("nn.layers.Nonesuch")), "has no tinygan.nn.lay"),
    "an unknown function": (game_with({"function": "tinygan.ops.nonesuch"}), "has no tiny"),
    "a function of Python": (
        game_with({"function": "os.system"}), "os.system, which is not tinygan's"),
    "a builtin of Python": (game_with({"function": "exec"}), "exec, which is not tinygan's"),
    "a function of Python through tinygan.runs": (
        game_with({"function": "tinygan.runs.run.os.makedirs"}), "has no"),
    "a function of Python through tinygan.nn": (
        game_with({"function": "tinygan.nn.module.contextlib.contextmanager"}), "has no tinygan"),
    "an empty name": (game_with({"function": ""}), "which is not tinygan's"),
    "a dot as name": (game_with({"function": "."}), "which is not tinygan's"),
    "tinygan itself": (game_with({"function": "tinygan"}), "has no tinygan"),
    "a module": (game_with({"function": "tinygan.ops"}), "has no tinygan.ops"),
    "a private class": ({**GAME, "class": "tinygan.runs.checkpoint._arrays"}, "has no tinygan"),
    "a private function": (game_with({"function": "tinygan.nn.module._inside"}), "has no tinygan"),
    "a special method": (game_with({"function": "tinygan.nn.module.Module.__init__"}), "has no"),
    "an object": (game_with({"function": "tinygan.rng"}), "has no tinygan.rng"),
    "an object's method": (game_with({"function": "tinygan.rng.seed"}), "has no tinygan.rng.seed"),
    "a name of several lines": (
        game_with({"function": "a\nb\x1b[2J"}), r"with a\\nb\\u001b\[2J, which is"),
    "a name of several lines in tinygan": (
        game_with(describe("nn.a\nb")), r"has no tinygan.nn.a\\nb"),
    "a long name": (game_with({"function": "tinygan." + "a." * 10 ** 5}), "has no tinygan.a.a"),
    "no class of Modules": (game_with(describe("tensor.Tensor", data=1.0)), "no class of Modules"),
    "an exception as a class": (game_with(describe("backend.UserError")), "no class of Modules"),
    "a function as a class": (game_with(describe("ops.relu")), "no class of Modules"),
    # arguments
    "an argument too few": (
        game_with(describe("nn.layers.Dense", n_in=2)), f"{WRONG_ARGS}.*'n_out'"),
    "an argument too many": (game_with(dense(more=1)), f"{WRONG_ARGS}.*unexpected.*'more'"),
    "an argument with an odd name": (
        game_with(dense(**{"a\nb c": 1})), rf"{WRONG_ARGS}.*'a\\nb c'"),
    "an argument twice": (game_with({**dense(), "arguments": {
        "n_in": 2, "**x": {"dictionary": {"self": 3}}, "n_out": 2}}), f"{WRONG_ARGS}.*'self'"),
    "a text for a number": (game_with(dense(n_in="a\nb")), WRONG_ARGS),
    "None for a number": (game_with(dense(n_out=None)), WRONG_ARGS),
    "a list for a number": (game_with(dense(n_out=[2])), WRONG_ARGS),
    "a number as a layer": (game_with(sequential(3)), WRONG_ARGS),
    "layers that are a number": (
        game_with({**sequential(), "arguments": {"*layers": 3}}), WRONG_ARGS),
    "keywords that are a number": (
        game_with({**sequential(), "arguments": {"**more": 3}}), WRONG_ARGS),
    "a bad setting": (game_with(describe("nn.noise.Dropout", p=7)), f"Dropout {WRONG_ARGS}"),
    "a bad penalty": (
        game_with(penalties=[describe("games.penalties.R1", gamma=-1)]),
        "gamma must be a number of at least 0, got -1"),
    "a sigmoid": (game_with(D=sequential(describe("nn.layers.Sigmoid"))), "D ends in a sigmoid"),
    # shapes
    "a large layer": (game_with(dense(n_in=10 ** 9, n_out=10 ** 9)), WRONG_ARGS),
    "an even larger layer": (game_with(dense(n_out=10 ** 30)), WRONG_ARGS),
    "a float as size": (game_with(dense(n_out=1e9)), WRONG_ARGS),
    "an infinite size": (game_with(dense(n_out=math.inf)), WRONG_ARGS),
    "NaN as size": (game_with(dense(n_out=math.nan)), WRONG_ARGS),
    "a negative size": (game_with(dense(n_out=-1)), WRONG_ARGS),
    "two negative sizes": (game_with(dense(n_in=-10 ** 5, n_out=-10 ** 5)), WRONG_ARGS),
    "one layer too many for the weights": (
        game_with(sequential(dense(), describe("nn.norm.LayerNorm", shape=1))), WRONG_ARGS),
    "a huge norm": (game_with(describe("nn.norm.BatchNorm", n=10 ** 10)), WRONG_ARGS),
    "a huge and negative shape": (
        game_with(describe("nn.norm.LayerNorm", shape={"tuple": [-1, -10 ** 10]})), WRONG_ARGS),
    "a huge layer norm": (
        game_with(describe("nn.norm.LayerNorm", shape={"tuple": [10 ** 5, 10 ** 5]})), WRONG_ARGS),
    "a huge kernel": (
        game_with(describe("nn.layers.Conv2d", c_in=1, c_out=1, kernel=10 ** 5)), WRONG_ARGS),
    "a huge maxout": (
        game_with(describe("nn.layers.Maxout", n_in=1, n_out=1, pieces=10 ** 10)), WRONG_ARGS),
    "many large layers": (game_with(sequential(*[dense(n_in=100, n_out=100)] * 1000)), WRONG_ARGS),
    # references and nesting
    "the game in itself": (game_with({"again": 0}), NO_GAME),
    "a network in itself": (game_with(sequential(dense(), {"again": 1})), NO_GAME),
    "a later part": (game_with({"again": 2}), NO_GAME),
    "a part of a huge number": (game_with({"again": 10 ** 20}), NO_GAME),
    "a part of a negative number": (game_with(D={"again": -1}), NO_GAME),
    "a text as part number": (game_with({"again": "1"}), NO_GAME),
    "a float as part number": (game_with(D={"again": 1.0}), NO_GAME),
    "nested 100,000 times": (None, "no checkpoint|" + NO_GAME),
    # how deep a description may be depends on the version of Python
    "nested 200 times": (game_with(nest(200)), NO_GAME + "|weights lack"),
    "nested 100 times": (game_with(nest(100)), "weights lack"),
    "too many paths": (game_with(nest_twice(40)), "has more than 10000 parts"),
    "lists nested 900 times": (
        game_with(functools.reduce(lambda part, _: [part], range(900), 1)),
        NO_GAME + "|belong to another network"),
    # changes
    "changes that are a number": ({**GAME, "changes": 3}, WRONG_ARGS),
    "changes that are no pairs": (change_game(3), WRONG_ARGS),
    "changes that are a text": ({**GAME, "changes": "spectral_norm"}, WRONG_ARGS),
    "a function that is no change": (change_game(["tinygan.ops.relu", {}]), WRONG_ARGS),
    "a method that is no change": (change_game(["tinygan.nn.module.Module.eval", {}]), WRONG_ARGS),
    "an unknown change": (change_game(["tinygan.nonesuch", {}]), "has no tinygan.nonesuch"),
    "a function of Python as change": (
        change_game(["os.remove", {"path": "x"}]), "os.remove, which is not"),
    "a spectral norm of a game": (change_game([NORM, {}]), f"GAN {WRONG_ARGS}"),
    "an average of a layer": (
        game_with(dense() | {"changes": [[AVERAGE, {"decay": 0.5}]]}), f"Dense {WRONG_ARGS}"),
    "a bad decay": (change_game([AVERAGE, {"decay": 7}]), WRONG_ARGS),
    "a number as keywords": (change_game([AVERAGE, 3]), WRONG_ARGS),
    "an unknown keyword": (change_game([AVERAGE, {"more": 7}]), WRONG_ARGS),
    "a spectral norm of a batch norm": (
        game_with(describe("nn.norm.BatchNorm", n=1, changes=[[NORM, {}]])),
        f"BatchNorm {WRONG_ARGS}"),
    # weights
    "weights with names of several lines": (
        game_with({"dictionary": {"a\nb\x1b": dense()}}), "lack G.a b .bias"),
    "two parts of one name": (
        game_with({"dictionary": {"a": sequential(RELU), "a.0": RELU}}), "the same name"),
    "two parts of one name in dictionaries": (
        game_with({"dictionary": {"a.b": RELU, "a": {"dictionary": {"b": RELU}}}}), WRONG_ARGS),
    "weights of another shape": (
        game_with(describe("nn.layers.Dense", n_in=1, n_out=2)), r"shape \(2, 2\)"),
}


@pytest.fixture(scope="module")
def valid_arrays():
    """Return the arrays of a checkpoint of the game that GAME describes."""
    backend.use("numpy")
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    return {f"game.{name}": array for name, array in game.state_dict().items()}


def write_checkpoint(path, game, arrays, **about):
    """Write a checkpoint with the description `game` and these arrays."""
    about = {"format": checkpoint.FORMAT, "game": game, "evaluating": [], **about}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, about=text, **arrays)


@pytest.mark.numpy_only("the file is read on the host")
def test_the_description_that_is_changed_is_valid(valid_arrays, tmp_path):
    write_checkpoint(tmp_path / checkpoint.NAME, GAME, valid_arrays)
    assert attempt(lambda: tinygan.load(tmp_path), 8 << 20) == "read"


@pytest.mark.numpy_only("the file is refused before the backend is used")
@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_description_is_refused(name, valid_arrays, tmp_path):
    """A malicious description is refused in one line, within 1 second and 8 MB.

    No random number is drawn.
    """
    path, (description, words) = tmp_path / checkpoint.NAME, MALICIOUS[name]
    write_checkpoint(path, description, valid_arrays)
    if name == "nested 100,000 times":      # too deep for json.dumps
        text = json.dumps({"format": checkpoint.FORMAT, "game": game_with({"G": 0})})
        text = text.replace('{"G": 0}', '{"tuple": [' * 10 ** 5 + "]}" * 10 ** 5)
        np.savez(path, about=np.frombuffer(text.encode(), np.uint8), **valid_arrays)
    before = rng.state
    for known in ([], [Net, TakesAnything, relu]):
        def load():
            with pytest.raises(UserError, match=f"{checkpoint.NAME}.*({words})") as raised:
                tinygan.load(tmp_path, *known)
            assert str(raised.value).isprintable()
            raise raised.value
        assert attempt(load, 8 << 20) == "refused"
        assert rng.state == before


@pytest.mark.numpy_only("the file is refused before the backend is used")
@pytest.mark.parametrize("function", [
    "files.read_arrays", "backend.use", "data.mnist.load", "runs.command.main", "loop.play",
    "runs.run.check_folder", "cpu.run_in_pieces", "metrics.parzen.log_likelihood", "tensor.grad"])
def test_a_malicious_description_calls_no_function_with_side_effects(function, valid_arrays,
                                                                     tmp_path):
    """A function in the place of a schedule would be called with 0.

    files.read_arrays(0), for example, would read from standard input.
    """
    view = describe("games.views.InstanceNoise", sigma={"function": f"tinygan.{function}"})
    write_checkpoint(tmp_path / checkpoint.NAME, game_with(views=[view]), valid_arrays)
    with pytest.raises(UserError, match=f"this version of tinygan has no tinygan.{function}"):
        tinygan.load(tmp_path)


@pytest.mark.numpy_only("the file is read on the host")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value, valid_arrays, tmp_path):
    weights = {**valid_arrays, "game.G.bias": np.array([1.0, value])}
    write_checkpoint(tmp_path / checkpoint.NAME, GAME, weights)
    with pytest.raises(UserError, match="is damaged: it has weights that are not finite"):
        tinygan.load(tmp_path)


MALICIOUS_NETS = {
    "changes that are a number": {"changes": 3}, "no pairs": {"changes": [3]},
    "a change of another thing": {"changes": [[NORM, {}]]},
    "another function": {"changes": [["test_checkpoint.relu", {}]]},
    "an argument too few": {"arguments": {}}, "an argument too many": {
        "arguments": {"n": 2, "layers": 3, "more": 4}},
    "many arguments": {"arguments": {"n": 2, "*more": 4}},
    "itself": {"arguments": {"n": 2, "layers": {"again": 1}}},
    "huge": {"arguments": {"n": 10 ** 10}}}


@pytest.mark.numpy_only("the file is refused before the backend is used")
@pytest.mark.parametrize("name", MALICIOUS_NETS)
def test_a_malicious_description_of_a_users_class(name, valid_arrays, tmp_path):
    """A malicious description of a user's class is refused; its constructor may raise itself."""
    net = {"class": "test_checkpoint.Net", "arguments": {"n": 2}}
    write_checkpoint(tmp_path / checkpoint.NAME, game_with({**net, **MALICIOUS_NETS[name]}),
                     valid_arrays)
    before = rng.state
    if name == "huge":
        with pytest.raises(ValueError, match="more weights than there are in the file"):
            tinygan.load(tmp_path, Net)
    else:
        assert attempt(lambda: tinygan.load(tmp_path, Net, relu), 8 << 20) == "refused"
    assert rng.state == before


@pytest.mark.numpy_only("the file is read on the host")
@pytest.mark.parametrize("known", [False, True])
def test_loading_draws_no_random_number(known, tmp_path):
    """tinygan.rng is unchanged, also if a user's layer draws its weights and if loading fails."""
    class Drawing(nn.Module):
        def __init__(self, n):
            self.weight = Tensor(rng.normal((n, n)))

        def forward(self, x):
            return ops.linear(x, self.weight)
    game = LSGAN(Drawing(2) if known else nn.spectral_norm(nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    state = rng.state
    unsaved.check(game, {}, Points())
    loaded = save_and_load(tmp_path, game, Drawing)
    if known:
        assert (loaded.G.weight.numpy() == game.G.weight.numpy()).all()
    with pytest.raises(UserError):
        write_checkpoint(tmp_path / checkpoint.NAME, game_with(D=dense(n_in=10 ** 9)), {})
        tinygan.load(tmp_path, Drawing)
    assert rng.state == state


@pytest.mark.numpy_only("the file is read on the host")
@pytest.mark.parametrize("content", [
    [], "x", {}, 3, None, {"format": 2}, {"game": GAME}, {"game": 3, "format": 2},
    {"game": [GAME], "format": 2}, {"game": GAME, "format": "2"}, {"game": GAME, "format": None}])
def test_other_files_are_refused(content, valid_arrays, tmp_path):
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    np.savez(tmp_path / checkpoint.NAME, about=text, **valid_arrays)
    with pytest.raises(UserError, match=f"{checkpoint.NAME} is no checkpoint of tinygan's"):
        tinygan.load(tmp_path)


@pytest.mark.numpy_only("the file is read on the host")
@pytest.mark.parametrize("version", [1, 2, -1, 10 ** 100])
def test_another_format_is_refused(version, valid_arrays, tmp_path):
    write_checkpoint(tmp_path / checkpoint.NAME, GAME, valid_arrays, format=version)
    said = f"has format {version}, .* reads format {checkpoint.FORMAT}.*again"
    with pytest.raises(UserError, match=said):
        tinygan.load(tmp_path)
    checkpoint.read(tmp_path / checkpoint.NAME, any_format=True)


@pytest.mark.host
def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="give the folder of a run$"):
        tinygan.load(tmp_path / "nowhere")
    for stage in "7x7", "14x14":
        (tmp_path / stage).mkdir()
        (tmp_path / stage / checkpoint.NAME).touch()
    with pytest.raises(UserError, match="the folder of a run, such as .*14x14$"):
        tinygan.load(tmp_path)
