"""Checkpoints: every game comes back as it was, what cannot come back says why, and what somebody
has made up does nothing."""

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
from tinygan.games import GAN, LSGAN, R1, WGAN, Game, catalogue, losses, penalties, views, warm_up
from tinygan.random import Random

from fuzz import attempt
from helpers import error_of, normal

GAMES = {name: entry for name, entry in catalogue.GAMES.items()
         if entry.examples is catalogue.images}


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


def new(name, G=None, D=None, **choices):
    """A game on pictures of 4x4 pixels, with noise and an average of G."""
    plain = networks(GAMES[name].networks is catalogue.normalised)
    choices.setdefault("views", [views.InstanceNoise(schedules.cosine(0.3, 10))])
    game = GAMES[name](G or plain[0], D or plain[1], **choices)
    game.keep_average(0.5)
    return game


def parts(game, batches=None, **settings):
    """The game, its optimisers and its data."""
    opts = {"d_opt": optim.Adam(game.d_parameters(), schedules.linear(1e-2, 1e-3, 9), **settings),
            "g_opt": optim.RMSProp(game.g_parameters(), 1e-3)}
    return game, opts, batches or Minibatches(np.float32(normal(30, 1, 4, 4) % 1), 4)


def played(name, steps, start=None, seed=0):
    """A game after so many steps, with all that belongs to it; from the checkpoint `start` on, if
    given."""
    rng.seed(seed)
    game, opts, batches = parts(new(name))
    first = 0
    if start:
        saved = checkpoint.read(start)
        checkpoint.restore(saved, game, opts, batches)
        first = saved.about["step"]
    for _ in play(game, batches, *opts.values(), 4, rng, steps, first):
        pass
    return game, opts, batches


def save(path, game, opts, batches, step=0):
    checkpoint.save(path, game, opts, batches, {"step": step}, {})


def kept(folder, game, *known):
    """The game as it is loaded from a checkpoint of it."""
    checkpoint.check(game, Points())
    save(folder / checkpoint.NAME, game, {}, Points())
    return tinygan.load(folder, *known)


class Points:
    """A data stream of one's own."""

    m = 2

    def __init__(self, state=()):
        self.state = state

    def __iter__(self):
        return self

    def __next__(self):
        return rng.normal((self.m, 2))


def small(loss=None, **choices):
    """A game on points."""
    return GAN(nn.Sequential(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 2)), nn.Dense(2, 1), 2, loss,
               **choices)


# What comes back

def state(game, opts, batches):
    """All of it as host arrays and values."""
    arrays = [*game.state_dict().values(), *[to_numpy(a) for opt in opts.values()
                                             for each in opt.state.values() for a in each]]
    return [a.tobytes() for a in arrays], [opt.t for opt in opts.values()], rng.state, {
        name: np.asarray(value).tolist() for name, value in batches.state.items()}


@pytest.mark.parametrize("name", ["gan", "sngan"])     # test_contract.py has all
def test_a_restored_game_is_the_game(name, tmp_path):
    """Seven steps are four, a checkpoint, and three in a new process's fresh game; bit for bit."""
    path = tmp_path / "c.npz"
    save(path, *played(name, 4), step=4)
    assert state(*played(name, 7, start=path)) == state(*played(name, 7))
    assert state(*played(name, 7, start=path)) != state(*played(name, 8))


@pytest.mark.parametrize("name", ["gan", "sngan"])
def test_load_gives_the_trained_game_back(name, tmp_path):
    """From the file alone: its samples, scores and parameters, and the settings of the game."""
    game, *rest = played(name, 3)
    save(tmp_path / checkpoint.NAME, game, *rest)
    loaded = tinygan.load(tmp_path)
    assert type(loaded) is type(game)
    assert not any(part.training for _, part in loaded.modules())
    z = loaded.latent(6, Random(3))
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    x = Tensor(backend.xp.asarray(np.float32(normal(2, 1, 4, 4))))
    with nn.evaluating(game):
        assert (loaded.D(x).numpy() == game.D(x).numpy()).all()
    state = loaded.state_dict()
    assert state.keys() == game.state_dict().keys()
    assert all((state[key] == value).all() for key, value in game.state_dict().items())
    for player in ("G", "D"):   # and as they lie in memory, on which a convolution's speed hangs
        for mine, theirs in zip(getattr(loaded, player).parameters(),
                                getattr(game, player).parameters(), strict=True):
            assert mine.data.strides == theirs.data.strides
    settings = {key: value for key, value in vars(game).items()
                if isinstance(value, (int, float)) and key not in ("training", *game.notes)}
    assert len(settings) > 3 and settings == {key: vars(loaded)[key] for key in settings}
    assert loaded.loss == game.loss and loaded.penalties == game.penalties
    assert loaded.views[0].sigma == game.views[0].sigma == schedules.cosine(0.3, 10)


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
    def fresh():
        return LSGAN(Growing(), nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 5)
    game, opts, batches = parts(fresh())
    for _ in play(game, batches, *opts.values(), 4, rng, 2):
        pass
    checkpoint.check(game, batches)
    save(tmp_path / checkpoint.NAME, game, opts, batches)
    loaded, z = tinygan.load(tmp_path, Growing), game.latent(3, rng)
    assert not hasattr(loaded.G, "last")
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()
    other, *rest = parts(fresh())
    checkpoint.restore(checkpoint.read(tmp_path / checkpoint.NAME), other, *rest)
    assert (to_numpy(other.sample(z)) == to_numpy(game.sample(z))).all()


def halved(x):
    return x * 0.5


def two(i):
    return 2


@dataclasses.dataclass(frozen=True)
class Tripled:
    """A function with a setting and a Module in it."""

    layer: nn.Module
    factor: float = 3.0


class Taking(nn.Module):
    """It takes arguments of every kind."""

    def __init__(self, first, *layers, scale=1.0, of=None, **more):
        self.arguments = {"first": first, "layers": layers, "scale": scale, "of": of, **more}

    def forward(self, x):
        return x


class Doubled(nn.Sequential):
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
    ((halved,), {"of": Tripled, "another": schedules.linear(1.0, 0.0, 5)}),
    (({"class": "tinygan.games.gan.GAN", "arguments": {}}, {"again": 0}), {"of": {"tuple": [1]}}),
    ((), {"first": {"**": 1, "*": (2,)}})])
def test_arguments_come_back(arguments, keywords, tmp_path):
    """In their places, under their names, and of their types, but for numpy's numbers, which become
    Python's."""
    game = LSGAN(Taking(*arguments, **keywords), nn.Dense(2, 1), 2)
    loaded = kept(tmp_path, game, Taking, Tripled, halved)

    def plain(value):
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value
    assert repr(loaded.G.arguments) == repr(plain(game.G.arguments))


def test_modules_among_the_arguments_come_back_once_each(tmp_path):
    """Wherever they are: in lists, dictionaries, objects and other networks."""
    shared, other = nn.Dense(2, 2), nn.spectral_norm(nn.Dense(2, 2))
    G = Taking([shared, (other,)], Doubled(other, shared, factor=3.0), of={"a": {"b": shared}},
               more=Tripled(shared, 4.0))
    game = LSGAN(G, nn.Sequential(other, nn.Dense(2, 1)), 2)
    loaded = kept(tmp_path, game, Taking, Doubled, Tripled)
    a = loaded.G.arguments
    mine, (others,) = a["first"]
    assert a["layers"][0].layers == [others, mine] and a["layers"][0].factor == 3.0
    assert a["of"]["a"]["b"] is mine is a["more"].layer and a["more"].factor == 4.0
    assert loaded.D.layers[0] is others and hasattr(others, "weight_u")
    assert (others.weight_orig.numpy() == other.weight_orig.numpy()).all()
    assert (mine.weight.numpy() == shared.weight.numpy()).all()
    assert len(loaded.parameters()) == len(game.parameters())


@pytest.mark.parametrize("init", [nn.he, nn.normal(0.1), lambda *shape: backend.xp.ones(shape[0])])
def test_how_weights_began_is_not_kept(init, tmp_path):
    """The file has the weights."""
    game = small()
    game = GAN(nn.Dense(2, 2, init=init), game.D, 2)
    assert (kept(tmp_path, game).G.weight.numpy() == game.G.weight.numpy()).all()


@pytest.mark.parametrize("changes", [[0.5], [0.5, 0.9]])
def test_averages_and_spectral_norms_come_back(changes, tmp_path):
    """What was done to a game and to its layers after they were made, in that order."""
    game = small()
    for layer in game.D, game.G.layers[0], game.G.layers[0]:
        nn.spectral_norm(layer)
    for decay in changes:
        game.keep_average(decay)
    game.averages["G"].layers[2].weight.data += 1.0
    loaded = kept(tmp_path, game)
    assert loaded.decay == changes[-1] and list(loaded.averages) == ["G"]
    assert loaded.averages["G"] is not loaded.G
    state = loaded.state_dict()
    assert {"D.weight_u", "D.weight_v", "averages.G.0.weight_orig"} <= state.keys()
    assert all((state[key] == value).all() for key, value in game.state_dict().items())
    z = game.latent(4, rng)
    assert (to_numpy(loaded.sample(z)) == to_numpy(game.sample(z))).all()


# Names

def module_with_a_net(monkeypatch, name, factor):
    """A Python module that has a class Net and a function relu."""
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


def test_two_classes_of_one_name_never_mix(monkeypatch, tmp_path):
    """Of two modules, of which neither has to be there."""
    one, other = (module_with_a_net(monkeypatch, f"nets.{name}", factor)
                  for name, factor in (("one", 2.0), ("other", 3.0)))
    game = LSGAN(nn.Sequential(one.Net(2), other.Net(2), one.relu), nn.Dense(2, 1), 2)
    known = [other.relu, one.Net, one.relu, other.Net]
    for _ in range(2):
        loaded = kept(tmp_path, game, *known)
        assert [type(layer) for layer in loaded.G.layers[:2]] == [one.Net, other.Net]
        assert loaded.G.layers[2] is one.relu
        known.reverse()
    for missing in one.Net, other.Net, one.relu:
        with pytest.raises(UserError) as raised:
            tinygan.load(tmp_path, *[thing for thing in known if thing is not missing])
        name = missing.__name__
        assert f"{missing.__module__}.{name}, which is not tinygan's" in str(raised.value)
        assert f"load(run, {name})" in str(raised.value)
    swapped = LSGAN(nn.Sequential(other.Net(2), one.Net(2), one.relu), nn.Dense(2, 1), 2)
    with pytest.raises(UserError, match='was "nets.one.Net", now "nets.other.Net"'):
        checkpoint.restore(checkpoint.read(tmp_path / checkpoint.NAME), swapped, {}, Points())


def test_two_classes_of_one_name_and_module_are_refused(tmp_path):
    """As a function makes them: a name would not tell which is which."""
    def make(factor):
        class Net(nn.Dense):
            def forward(self, x):
                return super().forward(x) * factor
        return Net
    one, other = make(1.0), make(2.0)
    game = LSGAN(nn.Sequential(one(2, 2), other(2, 2)), nn.Dense(2, 1), 2)
    message = error_of(checkpoint.check, game, Points())
    assert "two classes or functions have the one name test_checkpoint." in message
    game = LSGAN(one(2, 2), nn.Dense(2, 1), 2)
    assert type(kept(tmp_path, game, one, one).G) is one
    assert "make.<locals>.Net" in error_of(tinygan.load, tmp_path, one, other)


def relu(x):
    return x * -1.0


def test_a_function_of_ones_own_is_not_taken_for_tinygans_of_that_name(tmp_path):
    game = LSGAN(nn.Sequential(relu, ops.relu, nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    loaded = kept(tmp_path, game, relu)
    assert loaded.G.layers[:2] == [relu, ops.relu]
    with pytest.raises(UserError, match="test_checkpoint.relu, which is not tinygan's"):
        tinygan.load(tmp_path)
    game = LSGAN(nn.Sequential(ops.relu, nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    for known in ([], [relu]):
        assert kept(tmp_path, game, *known).G.layers[0] is ops.relu


def test_what_the_running_script_defines_has_the_scripts_name(monkeypatch, tmp_path):
    """So that another script that imports it finds it."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/train.py", raising=False)
    net = type("Net", (nn.Dense,), {"__module__": "__main__"})
    game = LSGAN(net(2, 2), nn.Dense(2, 1), 2)
    with pytest.raises(UserError, match="train.Net, which is not tinygan's"):
        kept(tmp_path, game)
    imported = type("Net", (nn.Dense,), {"__module__": "train"})
    assert type(tinygan.load(tmp_path, imported).G) is imported


def test_functions_and_classes_of_ones_own(tmp_path):
    class Double(nn.Module):
        def forward(self, x):
            return x * 2.0
    G, D = nn.Sequential(nn.Dense(2, 2), Double()), nn.Dense(2, 1)
    game = WGAN(G, D, 2, n_critic=warm_up)
    with pytest.raises(UserError, match="Double, which is not tinygan's"):
        kept(tmp_path, game)
    assert tinygan.load(tmp_path, Double).d_steps is warm_up
    game = WGAN(G, D, 2, n_critic=two)
    with pytest.raises(UserError, match=r"load\(run, two\)"):
        kept(tmp_path, game, Double)
    assert tinygan.load(tmp_path, Double, two).d_steps is two


@pytest.mark.parametrize("argument, words", [
    (lambda: lambda i: 2, "a function"), (lambda: functools.partial(two), "a partial"),
    (lambda: object(), "an? object"), (lambda: {1, 2}, "a set"), (lambda: {1: 2}, "a dict"),
    (lambda: [{"a": object()}], "an? object"), (lambda: 1j, "a complex"),
    (lambda: np.zeros(2), "a ndarray"), (lambda: Tensor([1.0]), "a Tensor"),
    (lambda: "text".count, "a builtin_function_or_method")])
def test_an_argument_that_cannot_be_described_is_refused(argument, words, tmp_path):
    game = LSGAN(nn.Dense(2, 2), nn.Dense(2, 1), 2, d_steps=argument())
    for use in (lambda: checkpoint.check(game, Points()),
                lambda: save(tmp_path / "c.npz", game, {}, Points())):
        with pytest.raises(TypeError, match=f"cannot describe {words}.* give numbers, texts"):
            use()
    assert not any(tmp_path.iterdir())


def test_a_game_of_ones_own_can_be_saved(tmp_path):
    """One whose batches keep no place, and whose losses nobody here knows."""
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


def with_net(*arguments, **keywords):
    return LSGAN(Net(*arguments, **keywords), nn.Dense(2, 1), 2)


@pytest.fixture
def written(tmp_path):
    """The folder of a checkpoint of a Net as it is now, and the game."""
    game = with_net(2, layers=[1])
    save(tmp_path / checkpoint.NAME, game, {}, Points())
    return tmp_path, game


def restored(folder, game, opts=None, data=None):
    checkpoint.restore(checkpoint.read(folder / checkpoint.NAME), game, opts or {},
                       data or Points())
    return game


def later(self, n, slope):
    self.dense, self.slope = nn.Dense(n, n), slope


@pytest.mark.parametrize("constructor", [
    lambda self, n, layers=(), slope=0.2: later(self, n, slope),
    lambda self, n, slope=0.2, layers=(): later(self, n, slope),
    lambda self, n, layers=(), *, slope=0.2: later(self, n, slope),
    lambda self, n, layers=(), *more, slope=0.2: later(self, n, slope),
    lambda self, n, layers=(), slope=0.2, **more: later(self, n, slope)])
def test_an_argument_that_came_later_has_its_default(constructor, written, monkeypatch):
    """In an older file: it loads, and a run goes on; another value than the default is told."""
    folder, game = written
    monkeypatch.setattr(Net, "__init__", constructor)
    for other in tinygan.load(folder, Net), restored(folder, with_net(2, layers=[1])):
        assert (other.G.dense.weight.numpy() == game.G.dense.weight.numpy()).all()
        assert other.G.slope == 0.2
    with pytest.raises(UserError, match=r"\(game.G.slope was 0.2, now 0.5\)"):
        restored(folder, with_net(2, layers=[1], slope=0.5))


@pytest.mark.parametrize("constructor, arguments, keywords", [
    (lambda self, n, layers=(), *more: later(self, n, 0.2), (2, [1], 7), {}),
    (lambda self, n, layers=(), **more: later(self, n, 0.2), (2, [1]), {"x": 7})])
def test_more_arguments_that_came_later_are_none_by_default(constructor, arguments, keywords,
                                                           written, monkeypatch):
    folder, _ = written
    monkeypatch.setattr(Net, "__init__", constructor)
    tinygan.load(folder, Net)
    restored(folder, with_net(2, [1]))
    with pytest.raises(UserError, match=r"game.G.\*+more"):
        restored(folder, with_net(*arguments, **keywords))


def test_a_later_default_that_cannot_be_described_does_not_keep_a_file_from_loading(
        written, monkeypatch):
    monkeypatch.setattr(Net, "__init__",
                        lambda self, n, layers=(), slope=lambda x: x: later(self, n, slope(0.2)))
    assert tinygan.load(written[0], Net).G.slope == 0.2


def test_an_argument_that_tinygans_own_got_later(monkeypatch, tmp_path):
    """A layer, a schedule, a loss and an optimiser."""
    def made():
        game = GAN(nn.Sequential(nn.LeakyReLU(0.1), nn.Dense(2, 2)), nn.Dense(2, 1), 2,
                   losses.Hinge())
        return game, {"opt": optim.SGD(game.d_parameters(), schedules.linear(1.0, 0.0, 5))}
    game, opts = made()
    save(tmp_path / checkpoint.NAME, game, opts, Points())

    def more(kind, names):
        first = kind.__init__
        exec(f"def __init__(self, {names}, *, more=7):\n"
             f"    first(self, {names.replace('=0.0', '')})\n"
             "    object.__setattr__(self, 'more', more)", namespace := {"first": first})
        monkeypatch.setattr(kind, "__init__", namespace["__init__"])
    more(nn.LeakyReLU, "slope")
    more(optim.SGD, "parameters, lr, momentum=0.0")
    game, opts = made()
    assert game.G.layers[0].more == opts["opt"].more == 7
    restored(tmp_path, game, opts)
    assert tinygan.load(tmp_path).G.layers[0].more == 7
    opts["opt"].more = 8
    with pytest.raises(UserError, match=r"\(opt.more was 7, now 8\)"):
        restored(tmp_path, game, opts)


def test_an_argument_that_a_class_no_longer_takes_is_told(written, monkeypatch):
    folder, _ = written
    first = Net.__init__
    monkeypatch.setattr(Net, "__init__", lambda self, n: first(self, n))
    with pytest.raises(UserError, match="Net has changed since .*unexpected .* 'layers'"):
        tinygan.load(folder, Net)
    with pytest.raises(UserError, match=r"game.G.layers was \[1\], now null"):
        restored(folder, with_net(2))
    kept(folder, LSGAN(nn.LeakyReLU(0.1), nn.Dense(2, 1), 2))
    monkeypatch.setattr(nn.LeakyReLU, "__init__", lambda self: None)
    with pytest.raises(UserError, match="layers.LeakyReLU is not made like that .*'slope'"):
        tinygan.load(folder)


def test_an_attribute_that_a_constructor_sets_later_does_no_harm(written, monkeypatch):
    """Nor does one that it no longer sets. (A weight is another matter.)"""
    folder, game = written
    first = Net.__init__

    def later(self, n, layers=()):
        first(self, n, layers)
        del self.n
        self.slope, self.names, self.act = 0.2, ["a"], nn.Tanh()
    monkeypatch.setattr(Net, "__init__", later)
    for other in (tinygan.load(folder, Net), restored(folder, with_net(2, layers=[1]))):
        assert other.G.slope == 0.2 and not hasattr(other.G, "n")
        assert (other.G.dense.weight.numpy() == game.G.dense.weight.numpy()).all()

    def with_weight(self, n, layers=()):
        first(self, n, layers)
        self.scale = Tensor([1.0])
    monkeypatch.setattr(Net, "__init__", with_weight)
    with pytest.raises(UserError, match="the weights lack G.scale"):
        tinygan.load(folder, Net)


# Errors that are nobody's damage

@pytest.mark.parametrize("error", [KeyError("mine"), ValueError("mine"), TypeError("mine"),
                                   AttributeError("mine"), ZeroDivisionError("mine")])
def test_an_error_in_a_constructor_of_ones_own_stays_what_it_is(error, written, monkeypatch):
    def wrong(self, n, layers=()):
        raise error
    monkeypatch.setattr(Net, "__init__", wrong)
    with pytest.raises(type(error)) as raised:
        tinygan.load(written[0], Net)
    assert raised.value is error and raised.traceback[-1].name == "wrong"


def test_a_user_error_in_a_constructor_of_ones_own_is_told_with_the_file(written, monkeypatch):
    def wrong(self, n, layers=()):
        raise UserError("n is to be 3")
    monkeypatch.setattr(Net, "__init__", wrong)
    with pytest.raises(UserError, match=f"{checkpoint.NAME}: n is to be 3$"):
        tinygan.load(written[0], Net)


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
def test_an_error_in_a_stream_of_ones_own_stays_what_it_is(error, tmp_path, monkeypatch):
    """And nothing has been restored then."""
    monkeypatch.setattr(Failing, "error", error)
    game, opts, data = *parts(small())[:2], Failing()
    save(tmp_path / checkpoint.NAME, game, opts, data)
    other, its, _ = parts(small())
    before = other.state_dict(), rng.state
    with pytest.raises(type(error)) as raised:
        restored(tmp_path, other, its, data)
    assert raised.value is error
    assert rng.state == before[1]
    assert all((value == before[0][key]).all() for key, value in other.state_dict().items())


def test_what_cannot_be_described_here_is_no_damage_of_the_file(written):
    folder, _ = written
    with pytest.raises(TypeError, match="cannot describe a function"):
        restored(folder, LSGAN(nn.Dense(2, 2), nn.Dense(2, 1), 2, d_steps=lambda i: 1))


# Data streams

@pytest.mark.parametrize("data", [
    iter([]), (x for x in []), [1, 2], map(abs, []), None, object()])
def test_a_stream_without_a_state_is_refused_at_the_start(data, tmp_path):
    """A resumed run would not go on with it: before anything is written."""
    game = small()
    with pytest.raises(UserError, match=f"{type(data).__name__}, has no `state`.*Minibatches"):
        checkpoint.check(game, data)
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
def test_a_state_that_cannot_be_kept_is_refused_at_the_start(state, words, tmp_path):
    for use in (lambda: checkpoint.check(small(), Points(state)),
                lambda: save(tmp_path / "c.npz", small(), {}, Points(state))):
        with pytest.raises(TypeError) as raised:
            use()
        assert words in str(raised.value) and "by text" in str(raised.value)
    assert not any(tmp_path.iterdir())


def nested():
    """A state with everything in it, of the backend's arrays."""
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


def plain(value):
    """Nested values with all that tells their types."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [plain(part) for part in value]
    if isinstance(value, (Tensor, backend.xp.ndarray)):
        array = value.numpy() if type(value) is Tensor else to_numpy(value)
        return type(value), array.dtype, array.shape, array.tolist()
    return repr(value.item() if isinstance(value, np.generic) else value)


def test_a_state_of_any_form_and_names_comes_back(tmp_path):
    """In dictionaries, lists and tuples of any depth; beside the arrays of the run itself."""
    game, opts, _ = parts(small())
    save(tmp_path / checkpoint.NAME, game, opts, Points(nested()))
    data = Points()
    restored(tmp_path, game, opts, data)
    assert plain(data.state) == plain(nested())
    assert list(data.state) == list(nested())           # in their order
    assert tinygan.load(tmp_path).z_size == 2


@pytest.mark.parametrize("value", [(), 3, None, "text", [1], Tensor([1.0, 2.0])])
def test_a_state_need_be_no_dictionary(value, tmp_path):
    save(tmp_path / checkpoint.NAME, small(), {}, Points(value))
    data = Points("another")
    restored(tmp_path, small(), {}, data)
    assert plain(data.state) == plain(value)


# Refused at the start

class Wrapped(nn.Module):
    def __init__(self, inside):
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


def build_is_another(game):
    game.G.layers[0].__init__(2, 3, bias=False)


@pytest.mark.parametrize("change, words", [
    (lambda game: game.G.layers.append(nn.Dense(2, 2)), "G.3, G.3.bias, G.3.weight"),
    (lambda game: game.G.layers.append(nn.Tanh()), "G.3"),
    (lambda game: game.G.layers.pop(1), "G.1"),
    (lambda game: game.G.layers.__setitem__(1, nn.Tanh()), "G.1"),
    (lambda game: game.G.layers.__setitem__(2, nn.Dense(3, 2, bias=False)), "G.2.bias"),
    (lambda game: setattr(game, "D", Wrapped(game.D)), "D, D.bias, D.inside"),
    (lambda game: setattr(game, "D", nn.Conv2d(1, 1, 1)), "D"),
    (lambda game: setattr(game, "Q", nn.Dense(2, 1)), "Q, Q.bias, Q.weight"),
    (lambda game: setattr(game, "scale", Tensor([1.0])), "scale"),
    (lambda game: setattr(game.D, "scale", backend.xp.zeros(2)), "D.scale"),
    (lambda game: delattr(game.D, "bias"), "D.bias"),
    (lambda game: game.views.append(views.InstanceNoise(0.1)), "views.0"),
    (lambda game: game.keep_average() or nn.spectral_norm(game.G.layers[0]), "averages.G.0.weight"),
    (build_is_another, "G.0.bias")])
def test_a_game_that_was_changed_after_it_was_made_is_refused_at_the_start(change, words, tmp_path):
    """It would be loaded as it was made."""
    game = small()
    checkpoint.check(game, Points())
    change(game)
    message = error_of(checkpoint.check, game, Points())
    assert "other parts or weights" in message and f"({words}" in message
    assert "in their constructors" in message
    with pytest.raises(UserError, match="other parts or weights"):
        Run(tmp_path / "run", game, Points(), [optim.SGD(game.d_parameters(), 0.1)] * 2, 3)
    assert not any(tmp_path.iterdir())


def test_a_game_that_could_not_be_made_again_is_refused_at_the_start():
    """Of a network that was put into what it was made of, and of one with too many parts."""
    layers = []
    G = Taking(layers)
    layers.append(G)
    D, part = nn.Dense(2, 1), nn.ReLU()
    for _ in range(14):
        part = nn.Sequential(part, part)
    for game, words in ((LSGAN(G, D, 2), NONE), (LSGAN(part, D, 2), "more than 10000 parts")):
        with pytest.raises(UserError, match=f"could not be loaded from its checkpoint: .*{words}"):
            checkpoint.check(game, Points())


def test_what_playing_changes_is_no_change():
    """Weights, what was seen, modes; and what a checkpoint knows of."""
    game, opts, data = parts(small(), Points())
    nn.spectral_norm(game.D)
    game.keep_average()
    opts = [optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)]
    for _ in play(game, data, *opts, 2, rng, 2):
        pass
    game.eval()
    state = rng.state
    checkpoint.check(game, data)
    assert rng.state == state


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\ud800", "\x1b[2J"])
def test_weights_by_a_name_that_no_file_keeps_are_refused_at_the_start(name):
    class Named(nn.Module):
        def __init__(self, name):
            self.parts_by_name = {name: nn.Dense(2, 2)}
    message = error_of(checkpoint.check, LSGAN(Named(name), nn.Dense(2, 1), 2), Points())
    assert repr(name)[1:-1] in message and message.isprintable()
    checkpoint.check(LSGAN(Named("é and others"), nn.Dense(2, 1), 2), Points())


def test_a_checkpoint_that_is_not_finite_does_not_replace_one_that_is(tmp_path):
    path, (game, opts, batches) = tmp_path / "c.npz", played("gan", 1)
    save(path, game, opts, batches)
    good = path.read_bytes()
    for array in (game.D.layers[0].weight.data, opts["g_opt"].state["s"][1]):
        before = array[0].copy()
        array[0] = math.nan
        with pytest.raises(FloatingPointError, match=r"^(game\.D\.0\.weight|g_opt\.s\.1) is no"):
            save(path, game, opts, batches)
        array[0] = before
        assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["c.npz"]


# Restoring into something else

def another(**choices):
    return parts(new("gan", **choices))


def with_layers(player, change):
    """The networks with another list of layers for one of them."""
    G, D = networks()
    layers = list((G if player == "G" else D).layers)
    change(layers)
    return another(**{player: nn.Sequential(*layers)})


@pytest.mark.parametrize("make, words", [
    (lambda: with_layers("D", lambda layers: layers.__setitem__(1, nn.LeakyReLU(0.3))),
     ["game.D.*layers.tuple.1.slope was 0.1, now 0.3"]),
    (lambda: with_layers("G", lambda layers: layers.append(nn.Tanh())),
     ["game.G.*layers.tuple was"]),
    (lambda: with_layers("G", lambda layers: layers.__setitem__(2, nn.Tanh())),
     ['"tinygan.nn.layers.ReLU"', '"tinygan.nn.layers.Tanh"']),
    (lambda: with_layers("G", lambda layers: layers.__setitem__(0, nn.Dense(5, 8, bias=False))),
     ["game.G.*layers.tuple.0.bias was true, now false"]),
    (lambda: with_layers("G", lambda layers: layers.__setitem__(6, ops.tanh)), ["ops.tanh"]),
    (lambda: with_layers("D", lambda layers: nn.spectral_norm(layers[0])),
     ["game.D.*layers.tuple.0.changes was []", "spectral_norm"]),
    (lambda: another(loss=losses.Saturating()), ["game.loss was null", "losses.Saturating"]),
    (lambda: another(penalties=[penalties.R1(3.0)]), ["game.penalties was"]),
    (lambda: another(views=[views.InstanceNoise(0.3)]), ["sigma was", "cosine", "now 0.3"]),
    (lambda: another(views=[views.InstanceNoise(schedules.cosine(0.3, 11))]),
     ["sigma.steps was 10, now 11"]),
    (lambda: another(d_steps=2), ["game.d_steps was 1, now 2"]),
    (lambda: parts(new("lsgan")), ["gan.GAN", "lsgan.LSGAN"]),
    (lambda: parts(new("gan"), betas=(0.9, 0.999)), ["d_opt.betas.tuple.0 was 0.5, now 0.9"]),
    (lambda: parts(new("gan"), Minibatches(np.float32(normal(28, 1, 4, 4) % 1), 4)),
     ["30 examples", "28"])])
def test_restoring_into_something_else_says_what_differs(make, words, tmp_path):
    """And changes nothing of it."""
    path = tmp_path / "c.npz"
    save(path, *played("gan", 1))
    game, opts, batches = make()
    before = state(game, opts, batches)
    with pytest.raises(UserError) as raised:
        checkpoint.restore(checkpoint.read(path), game, opts, batches)
    assert all(word in str(raised.value) for word in words), raised.value
    assert state(game, opts, batches) == before


@pytest.mark.parametrize("change, words", [
    (lambda game, opts: setattr(opts["g_opt"], "lr", 2e-3), "g_opt.lr was 0.001, now 0.002"),
    (lambda game, opts: opts.update(g_opt=optim.Adam(game.g_parameters(), 1e-3)),
     'was "tinygan.optim.RMSProp", now "tinygan.optim.Adam"'),
    (lambda game, opts: opts.pop("g_opt"), "g_opt was .*RMSProp.*now null"),
    (lambda game, opts: opts.update(q_opt=opts["g_opt"]), "q_opt was null, now .*RMSProp"),
    (lambda game, opts: game.keep_average(0.9), "game.changes was")])
def test_restoring_into_other_optimisers_or_averages_says_what_differs(change, words, tmp_path):
    path = tmp_path / "c.npz"
    save(path, *played("gan", 1))
    game, opts, batches = another()
    change(game, opts)
    with pytest.raises(UserError, match=words):
        checkpoint.restore(checkpoint.read(path), game, opts, batches)


@pytest.mark.parametrize("choices", [
    {"loss": losses.Hinge()}, {"d_steps": 2}, {"penalties": [penalties.R1(1.0)]},
    {"loss": losses.Hinge(), "g_steps": 1}])
def test_a_choice_that_a_paper_leaves_open_may_not_change(choices, tmp_path):
    """R1 passes them on to the game below it."""
    def made(**choices):
        return R1(nn.Dense(2, 2), nn.Dense(2, 1), 2, gamma=1.0, **choices)
    save(tmp_path / checkpoint.NAME, made(**choices), {}, Points())
    restored(tmp_path, made(**choices))
    with pytest.raises(UserError, match=rf"choices.*{next(iter(choices))} was .*, now null"):
        restored(tmp_path, made())
    save(tmp_path / checkpoint.NAME, made(), {}, Points())
    with pytest.raises(UserError, match=rf"choices.*{next(iter(choices))} was null, now "):
        restored(tmp_path, made(**choices))


@pytest.mark.numpy_only("the file and what is made of it are the host's")
def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    path, (game, opts, batches) = tmp_path / checkpoint.NAME, played("gan", 2)
    save(path, game, opts, batches)
    _, about, arrays = checkpoint.read(path)

    def written(about, arrays):
        np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        return path
    checkpoint.restore(checkpoint.read(written(about, arrays)), game, opts, batches)
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
        before = state(game, opts, batches)
        with pytest.raises(UserError, match=checkpoint.NAME + "|the saved order") as raised:
            checkpoint.restore(checkpoint.read(written(wrong_about, wrong_arrays)), game, opts,
                               batches)
        assert "\n" not in str(raised.value) and state(game, opts, batches) == before


# What somebody has made up

MADE = {"class": "tinygan.games.gan.GAN", "arguments": {
    "G": {"class": "tinygan.nn.layers.Dense", "arguments": {"n_in": 2, "n_out": 2}},
    "D": {"class": "tinygan.nn.layers.Dense", "arguments": {"n_in": 2, "n_out": 1}}, "z_size": 2}}


def made(name, *layers, changes=(), **arguments):
    """The description of an object of tinygan's."""
    arguments = {**arguments, **({"*layers": {"tuple": list(layers)}} if layers else {})}
    return {"class": f"tinygan.{name}", "arguments": arguments, "changes": list(changes)}


def dense(**arguments):
    return made("nn.layers.Dense", **{"n_in": 2, "n_out": 2, **arguments})


def sequential(*layers):
    return made("nn.module.Sequential", *layers)


def game_of(G=None, **choices):
    """The description of a game whose G is this."""
    return {**MADE, "arguments": {**MADE["arguments"], "G": G or dense(), **choices}}


def deep(n):
    """n Sequentials, one inside the other."""
    part = dense()
    for _ in range(n):
        part = sequential(part)
    return part


def doubled(n):
    """n Sequentials, each with the one before in it, twice: 2^n paths lead to the innermost."""
    part = made("nn.layers.ReLU")
    for i in range(n, 0, -1):
        part = sequential(part, {"again": i + 1})       # the game is 0, the outermost 1
    return part


def changed(*changes, G=None):
    return {**game_of(G), "changes": list(changes)}


NORM, AVERAGE = "tinygan.nn.spectral.spectral_norm", "tinygan.games.game.Game.keep_average"
NONE, UNLIKE = "describes no game", "is not made like that"
RELU = made("nn.layers.ReLU")

MADE_UP = {     # name: description, what is said of it
    "a tuple": ({"tuple": [MADE]}, NONE), "a schedule": (
        made("schedules.linear", start=1, end=2, steps=3), NONE),
    "nothing": ({}, NONE), "a function": ({"function": "tinygan.ops.relu"}, NONE),
    "no arguments": ({"class": MADE["class"]}, NONE),
    "arguments that are none": ({**MADE, "arguments": []}, NONE),
    "a class that is no text": ({**MADE, "class": ["tinygan"]}, NONE),
    "another kind of thing": (game_of({"parameter": [2, 2]}), NONE), "no game": (
        made("nn.layers.Dense", n_in=2, n_out=3), "a Dense, which is no game"),
    # names
    "a class that there is not": (game_of(made("nn.layers.Nonesuch")), "has no tinygan.nn.lay"),
    "a function that there is not": (game_of({"function": "tinygan.ops.nonesuch"}), "has no tiny"),
    "of Python": (game_of({"function": "os.system"}), "os.system, which is not tinygan's"),
    "a builtin": (game_of({"function": "exec"}), "exec, which is not tinygan's"),
    "of Python through tinygan": (game_of({"function": "tinygan.runs.run.os.makedirs"}), "has no"),
    "of Python through what computes": (
        game_of({"function": "tinygan.nn.module.contextlib.contextmanager"}), "has no tinygan"),
    "no name": (game_of({"function": ""}), "which is not tinygan's"),
    "a dot": (game_of({"function": "."}), "which is not tinygan's"),
    "tinygan itself": (game_of({"function": "tinygan"}), "has no tinygan"),
    "a module": (game_of({"function": "tinygan.ops"}), "has no tinygan.ops"),
    "a private class": ({**MADE, "class": "tinygan.runs.checkpoint._arrays"}, "has no tinygan"),
    "a private function": (game_of({"function": "tinygan.nn.module._inside"}), "has no tinygan"),
    "a special method": (game_of({"function": "tinygan.nn.module.Module.__init__"}), "has no"),
    "an object": (game_of({"function": "tinygan.rng"}), "has no tinygan.rng"),
    "an object's method": (game_of({"function": "tinygan.rng.seed"}), "has no tinygan.rng.seed"),
    "several lines": (game_of({"function": "a\nb\x1b[2J"}), r"with a\\nb\\u001b\[2J, which is"),
    "several lines of tinygan": (game_of(made("nn.a\nb")), r"has no tinygan.nn.a\\nb"),
    "a long name": (game_of({"function": "tinygan." + "a." * 10 ** 5}), "has no tinygan.a.a"),
    "no class of Modules": (game_of(made("tensor.Tensor", data=1.0)), "no class of Modules"),
    "an error as a class": (game_of(made("backend.UserError")), "no class of Modules"),
    "a function as a class": (game_of(made("ops.relu")), "no class of Modules"),
    # arguments
    "an argument too few": (game_of(made("nn.layers.Dense", n_in=2)), f"{UNLIKE}.*'n_out'"),
    "an argument too many": (game_of(dense(more=1)), f"{UNLIKE}.*unexpected.*'more'"),
    "an argument with an odd name": (game_of(dense(**{"a\nb c": 1})), rf"{UNLIKE}.*'a\\nb c'"),
    "an argument twice": (game_of({**dense(), "arguments": {
        "n_in": 2, "**x": {"dictionary": {"self": 3}}, "n_out": 2}}), f"{UNLIKE}.*'self'"),
    "a text for a number": (game_of(dense(n_in="a\nb")), UNLIKE),
    "nothing for a number": (game_of(dense(n_out=None)), UNLIKE),
    "a list for a number": (game_of(dense(n_out=[2])), UNLIKE),
    "no layers": (game_of(sequential(3)), UNLIKE),
    "layers that are a number": (game_of({**sequential(), "arguments": {"*layers": 3}}), UNLIKE),
    "settings that are a number": (game_of({**sequential(), "arguments": {"**more": 3}}), UNLIKE),
    "a bad setting": (game_of(made("nn.noise.Dropout", p=7)), f"Dropout {UNLIKE}"),
    "a bad penalty": (game_of(penalties=[made("games.penalties.R1", gamma=-1)]), f"R1 {UNLIKE}"),
    "a sigmoid": (game_of(D=sequential(made("nn.layers.Sigmoid"))), "D ends in a sigmoid"),
    # shapes
    "huge": (game_of(dense(n_in=10 ** 9, n_out=10 ** 9)), UNLIKE),
    "huger": (game_of(dense(n_out=10 ** 30)), UNLIKE),
    "a float": (game_of(dense(n_out=1e9)), UNLIKE),
    "infinite": (game_of(dense(n_out=math.inf)), UNLIKE),
    "no number": (game_of(dense(n_out=math.nan)), UNLIKE),
    "negative": (game_of(dense(n_out=-1)), UNLIKE),
    "twice negative": (game_of(dense(n_in=-10 ** 5, n_out=-10 ** 5)), UNLIKE),
    "a weight more than there are": (
        game_of(sequential(dense(), made("nn.norm.LayerNorm", shape=1))), UNLIKE),
    "huge norm": (game_of(made("nn.norm.BatchNorm", n=10 ** 10)), UNLIKE),
    "huge and negative": (
        game_of(made("nn.norm.LayerNorm", shape={"tuple": [-1, -10 ** 10]})), UNLIKE),
    "huge layer norm": (
        game_of(made("nn.norm.LayerNorm", shape={"tuple": [10 ** 5, 10 ** 5]})), UNLIKE),
    "huge kernel": (game_of(made("nn.layers.Conv2d", c_in=1, c_out=1, kernel=10 ** 5)), UNLIKE),
    "huge maxout": (
        game_of(made("nn.layers.Maxout", n_in=1, n_out=1, pieces=10 ** 10)), UNLIKE),
    "many": (game_of(sequential(*[dense(n_in=100, n_out=100)] * 1000)), UNLIKE),
    # again and again
    "itself": (game_of({"again": 0}), NONE), "inside itself": (
        game_of(sequential(dense(), {"again": 1})), NONE),
    "later": (game_of({"again": 2}), NONE), "far": (game_of({"again": 10 ** 20}), NONE),
    "before all": (game_of(D={"again": -1}), NONE), "a text again": (game_of({"again": "1"}), NONE),
    "a float again": (game_of(D={"again": 1.0}), NONE), "deep": (None, "no checkpoint|" + NONE),
    "not so deep": (game_of(deep(200)), NONE), "not deep": (game_of(deep(100)), "weights lack"),
    "too many paths": (game_of(doubled(40)), "has more than 10000 parts"),
    "deep lists": (game_of(functools.reduce(lambda part, _: [part], range(900), 1)), NONE),
    # changes
    "changes that are a number": ({**MADE, "changes": 3}, UNLIKE),
    "no pairs": (changed(3), UNLIKE), "a text": ({**MADE, "changes": "spectral_norm"}, UNLIKE),
    "another function": (changed(["tinygan.ops.relu", {}]), UNLIKE),
    "a method": (changed(["tinygan.nn.module.Module.eval", {}]), UNLIKE),
    "a change that there is not": (changed(["tinygan.nonesuch", {}]), "has no tinygan.nonesuch"),
    "of Python as change": (changed(["os.remove", {"path": "x"}]), "os.remove, which is not"),
    "a change of another thing": (changed([NORM, {}]), f"GAN {UNLIKE}"),
    "another change of another thing": (
        game_of(dense() | {"changes": [[AVERAGE, {"decay": 0.5}]]}), f"Dense {UNLIKE}"),
    "a bad decay": (changed([AVERAGE, {"decay": 7}]), UNLIKE),
    "no keywords": (changed([AVERAGE, 3]), UNLIKE),
    "another keyword": (changed([AVERAGE, {"more": 7}]), UNLIKE),
    "a norm of a norm": (
        game_of(made("nn.norm.BatchNorm", n=1, changes=[[NORM, {}]])), f"BatchNorm {UNLIKE}"),
    # weights
    "names on several lines": (
        game_of({"dictionary": {"a\nb\x1b": dense()}}), "lack G.a b .bias"),
    "two of one name": (
        game_of({"dictionary": {"a": sequential(RELU), "a.0": RELU}}), "have one name"),
    "two of one name at once": (
        game_of({"dictionary": {"a.b": RELU, "a": {"dictionary": {"b": RELU}}}}), UNLIKE),
    "other weights": (game_of(made("nn.layers.Dense", n_in=1, n_out=2)), r"shape \(2, 2\)"),
}


@pytest.fixture(scope="module")
def good():
    """The arrays of a checkpoint of the game that MADE describes."""
    backend.use("numpy")
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    return {f"game.{name}": array for name, array in game.state_dict().items()}


def write(path, game, arrays, **about):
    about = {"format": checkpoint.FORMAT, "game": game, **about}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, about=text, **arrays)


@pytest.mark.numpy_only("nothing comes as far as the backend")
@pytest.mark.parametrize("name", MADE_UP)
def test_a_made_up_description_is_one_sentence(name, good, tmp_path):
    """In less than a second and 8 MB, without a random number, whatever classes are known."""
    path, (description, words) = tmp_path / checkpoint.NAME, MADE_UP[name]
    write(path, MADE, good)
    assert attempt(lambda: tinygan.load(tmp_path), 8 << 20) == "read"
    write(path, description, good)
    if name == "deep":          # deeper than json writes
        text = json.dumps({"format": checkpoint.FORMAT, "game": game_of({"G": 0})})
        text = text.replace('{"G": 0}', '{"tuple": [' * 10 ** 5 + "]}" * 10 ** 5)
        np.savez(path, about=np.frombuffer(text.encode(), np.uint8), **good)
    before = rng.state
    for known in ([], [Net, Taking, relu]):
        assert attempt(lambda: tinygan.load(tmp_path, *known), 8 << 20) == "refused"
        with pytest.raises(UserError, match=f"{checkpoint.NAME}.*({words})") as raised:
            tinygan.load(tmp_path, *known)
        assert str(raised.value).isprintable()
        assert rng.state == before


@pytest.mark.numpy_only("nothing comes as far as the backend")
@pytest.mark.parametrize("function", [
    "files.read_arrays", "backend.use", "data.mnist.load", "runs.command.main", "loop.play",
    "runs.run.check_folder", "cpu.in_pieces", "metrics.parzen.log_likelihoods", "tensor.grad"])
def test_a_made_up_description_calls_no_function_that_does_more_than_compute(function, good,
                                                                            tmp_path):
    """Where a schedule stands it would be called, with 0: files.read_arrays(0) waits for somebody
    to type."""
    view = made("games.views.InstanceNoise", sigma={"function": f"tinygan.{function}"})
    write(tmp_path / checkpoint.NAME, game_of(views=[view]), good)
    with pytest.raises(UserError, match=f"this version of tinygan has no tinygan.{function}"):
        tinygan.load(tmp_path)


@pytest.mark.numpy_only("the file is the host's")
@pytest.mark.parametrize("value", [math.nan, math.inf, -1e300])
def test_weights_that_are_not_finite_are_refused(value, good, tmp_path):
    """As no run saves them; nor numbers that are too large for the network's own type."""
    weights = {**good, "game.G.bias": np.array([1.0, value])}
    write(tmp_path / checkpoint.NAME, MADE, weights)
    with pytest.raises(UserError, match="is damaged: it has weights that are not finite"):
        tinygan.load(tmp_path)


KNOWN_MADE_UP = {
    "changes that are a number": {"changes": 3}, "no pairs": {"changes": [3]},
    "a change of another thing": {"changes": [[NORM, {}]]},
    "another function": {"changes": [["test_checkpoint.relu", {}]]},
    "an argument too few": {"arguments": {}}, "an argument too many": {
        "arguments": {"n": 2, "layers": 3, "more": 4}},
    "many arguments": {"arguments": {"n": 2, "*more": 4}},
    "itself": {"arguments": {"n": 2, "layers": {"again": 1}}},
    "huge": {"arguments": {"n": 10 ** 10}}}


@pytest.mark.numpy_only("nothing comes as far as the backend")
@pytest.mark.parametrize("name", KNOWN_MADE_UP)
def test_a_made_up_description_of_a_class_of_ones_own(name, good, tmp_path):
    """The same, but for what its constructor itself raises."""
    net = {"class": "test_checkpoint.Net", "arguments": {"n": 2}}
    write(tmp_path / checkpoint.NAME, game_of({**net, **KNOWN_MADE_UP[name]}), good)
    before = rng.state
    if name == "huge":
        with pytest.raises(ValueError, match="more weights than there are in the file"):
            tinygan.load(tmp_path, Net)
    else:
        assert attempt(lambda: tinygan.load(tmp_path, Net, relu), 8 << 20) == "refused"
    assert rng.state == before


@pytest.mark.numpy_only("the file is the host's")
@pytest.mark.parametrize("known", [False, True])
def test_loading_draws_no_random_number(known, tmp_path):
    """Not even for layers of one's own that draw their weights themselves, or in vain."""
    class Drawing(nn.Module):
        def __init__(self, n):
            self.weight = Tensor(rng.normal((n, n)))

        def forward(self, x):
            return ops.linear(x, self.weight)
    game = LSGAN(Drawing(2) if known else nn.spectral_norm(nn.Dense(2, 2)), nn.Dense(2, 1), 2)
    state = rng.state
    checkpoint.check(game, Points())
    loaded = kept(tmp_path, game, Drawing)
    if known:
        assert (loaded.G.weight.numpy() == game.G.weight.numpy()).all()
    with pytest.raises(UserError):
        write(tmp_path / checkpoint.NAME, game_of(D=dense(n_in=10 ** 9)), {})
        tinygan.load(tmp_path, Drawing)
    assert rng.state == state


@pytest.mark.numpy_only("the file is the host's")
@pytest.mark.parametrize("content", [
    [], "x", {}, 3, None, {"format": 2}, {"game": MADE}, {"game": 3, "format": 2},
    {"game": [MADE], "format": 2}, {"game": MADE, "format": "2"}, {"game": MADE, "format": None}])
def test_no_checkpoint(content, good, tmp_path):
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    np.savez(tmp_path / checkpoint.NAME, about=text, **good)
    with pytest.raises(UserError, match=f"{checkpoint.NAME} is no checkpoint of tinygan's"):
        tinygan.load(tmp_path)


@pytest.mark.numpy_only("the file is the host's")
@pytest.mark.parametrize("version", [1, 3, -1, 10 ** 100])
def test_another_format_is_told(version, good, tmp_path):
    write(tmp_path / checkpoint.NAME, MADE, good, format=version)
    with pytest.raises(UserError, match=f"has format {version}, .* reads format 2.*again"):
        tinygan.load(tmp_path)
    checkpoint.read(tmp_path / checkpoint.NAME, any_format=True)


@pytest.mark.host
def test_no_folder_no_run(tmp_path):
    with pytest.raises(UserError, match="give the folder of a run"):
        tinygan.load(tmp_path / "nowhere")
