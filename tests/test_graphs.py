"""Tests of graphs.py that need no GPU: the recording of graphs is imitated.

What needs a GPU is in gpu.py.
"""

import ctypes
import dataclasses
import functools
import math
import typing

import numpy as np
import pytest

from tinygan import (Tensor, backend, cuda, grad, graphs, loop, nn, optim, play, rng,
                     schedules)
from tinygan.games import GAN, losses, penalties

from test_contract import GAMES, M, each_game, make_parts, read_state

pytestmark = pytest.mark.host

class Aside:
    """An imitation of graphs.Aside whose recorded functions are called again at each launch."""

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass

    def record(self, f):
        def launch():
            backend.capturing = True
            try:
                f()
            finally:
                backend.capturing = False
        return launch


class CapturedStep(graphs.CapturedStep):
    """A step whose launches change no host state and find no logged values of earlier steps."""

    def _record(self, form, x, z):
        super()._record(form, x, z)
        if (run := self.form.run) is not None:
            def launch():
                logged, stale = self.game.logged, self.game.averages_are_stale
                averages = (self.game.averages or {}).values()
                touched = [(p, p.touched) for owner in (*self.optimisers, *averages)
                           for p in (owner.parameters if owner in self.optimisers else
                                     owner.parameters())]
                self.game.logged = {name: value * math.nan for name, value in logged.items()}
                run()
                self.game.logged, self.game.averages_are_stale = logged, stale
                for p, age in touched:
                    p.touched = age
            self.form.run = launch


@pytest.fixture
def recording(monkeypatch):
    """Let play() record its steps, with cuda.Philox as the source of their random numbers."""
    def write(values, array):
        array = np.empty(len(values)) if array is None else array
        array[:] = [float(value) for value in values]
        return array
    monkeypatch.setattr(graphs, "Aside", Aside)
    monkeypatch.setattr(cuda, "write", write)
    monkeypatch.setattr(cuda, "_address", lambda x: ctypes.c_void_p(x.ctypes.data))
    monkeypatch.setattr(loop, "make_source", cuda.Philox)
    monkeypatch.setattr(loop, "prepare", CapturedStep)


def keep_steps(monkeypatch, kind):
    """Return a list of the steps of a class that play() makes from now on."""
    steps = []

    def prepare(*args):
        steps.append(kind(*args))
        return steps[-1]
    monkeypatch.setattr(loop, "prepare", prepare)
    return steps


def train(entry, order, iterations=7):
    """Train and return all losses and logged values, and the state at the end."""
    game, optimisers, data = make_parts(entry)
    for opt in optimisers.values():
        opt.lr = schedules.exponential(1e-2, 0.5)
    game.keep_average(0.5)
    if order == "simultaneous":
        game.d_steps = game.g_steps = 1
    values = [(d_loss.item(), g_loss.item(), {name: float(v) for name, v in game.logged.items()})
              for _, d_loss, g_loss in play(game, data, *optimisers.values(), M, rng, iterations,
                                            order=order)]
    return values, read_state(game, optimisers, data)


@each_game
@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_a_recorded_step_does_what_the_step_does(entry, order, monkeypatch, recording, capsys):
    """Losses, logged values, weights, buffers and optimisers are the same, bit for bit.

    The learning rate falls at each step, and no schedule is read during a launch.
    """
    recorded = train(entry, order)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, order)
    assert capsys.readouterr().err == ""


def test_a_recorded_step_reads_no_schedule(monkeypatch, recording):
    """What a recorded step reads from the host keeps the value that it had then."""
    game, optimisers, data = make_parts(GAMES["gan"])
    asked = []

    def lr(t):
        assert not backend.capturing
        asked.append(t)
        return 1e-3
    optimisers["d_opt"].lr = lr
    for _ in play(game, data, *optimisers.values(), M, rng, 8):
        pass
    assert asked == list(range(8)) and optimisers["d_opt"].t == 8


class Weighted(losses.NonSaturating):
    """A loss with a number of its own, which may change."""

    def __init__(self):
        vars(self).update(weight=1.0, array=np.float32([1.0]))


class Own(GAN):
    """A GAN with an optimiser of its own, which D's step uses."""

    def after_d_step(self):
        p = self.own.parameters[0]
        self.own.step([Tensor(backend.xp.ones_like(p.data))])


class Rescaling(losses.NonSaturating):
    """A loss that replaces an array of its own in each step."""

    def d(self, real, fake):
        vars(self)["scale"] = np.float32([1.0])
        return super().d(real, fake) * self.scale[0]


@pytest.mark.parametrize("kind, why", [
    (Own, "steps an optimiser that is an attribute of the game"),
    (Rescaling, "replaces an array of the loss")])
def test_what_the_host_must_do_in_each_step_is_not_recorded(kind, why, monkeypatch, recording,
                                                             capsys):
    def play_it():
        game, optimisers, data = make_parts(GAMES["gan"])
        if kind is Own:
            game.__class__ = Own
            game.own = optim.Adam(game.D.parameters()[:1], schedules.exponential(1e-2, 0.5))
        else:
            game.loss = kind()
        return [(d.item(), g.item()) for _, d, g in play(
            game, data, *optimisers.values(), M, rng, 8)]
    steps = keep_steps(monkeypatch, CapturedStep)
    found = play_it()
    assert why in capsys.readouterr().err and steps[0].form.run is None
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert found == play_it()


def test_a_lack_of_memory_ends_the_training(monkeypatch, recording):
    """A step that does not fit into the memory is not done without a recording in its place."""
    def fail(self, f):
        raise MemoryError("full")
    monkeypatch.setattr(Aside, "record", fail)
    game, optimisers, data = make_parts(GAMES["gan"])
    with pytest.raises(MemoryError, match="full"):
        for _ in play(game, data, *optimisers.values(), M, rng, 6):
            pass


def test_a_number_that_is_nan_stays_the_same(recording, capsys):
    game, optimisers, data = make_parts(GAMES["gan"])
    game.best = math.nan
    for _ in play(game, data, *optimisers.values(), M, rng, 6):
        pass
    assert capsys.readouterr().err == ""


class Pair(typing.NamedTuple):
    layers: list
    number: int


@pytest.mark.parametrize("change", [
    lambda game, opt: setattr(game, "share", np.float32(0.5)),
    lambda game, opt: game.pair.layers.append(nn.ReLU()),
    lambda game, opt: (vars(game).pop("nothing"), setattr(game, "something", 1)),
    lambda game, opt: setattr(game, "sizes", (3, 4)),
    lambda game, opt: setattr(game, "hidden", 2),
    lambda game, opt: setattr(game, "loss", losses.Hinge()),
    lambda game, opt: vars(game.loss).update(weight=0.5),
    lambda game, opt: vars(game.loss).update(array=np.float32([1.0])),
    lambda game, opt: setattr(game, "mode", "b"),
    lambda game, opt: setattr(opt, "eps", np.float32(10)),
    lambda game, opt: game.penalties.append(penalties.R2(3.0)),
    lambda game, opt: vars(game.penalties[0]).update(gamma=3.0),
    lambda game, opt: vars(game.penalties[1].penalty).update(gamma=3.0),
    lambda game, opt: game.D.layers.__setitem__(1, nn.Tanh()),      # neither has a number
    lambda game, opt: opt.state.update(v=[a.copy("K") for a in opt.state["v"]]),
    lambda game, opt: setattr(opt, "betas", (0.4, 0.99)),
    lambda game, opt: game.D.eval(),
    lambda game, opt: setattr(game, "square", game.square.T),       # the same memory
    lambda game, opt: setattr(opt.parameters[0], "data", opt.parameters[0].data.copy("K"))])
def test_what_a_recorded_step_would_not_see_is_recorded_anew(change, recording):
    game, optimisers, _ = make_parts(GAMES["r1"])
    game.share, game.sizes, game.loss = np.float32(0.25), (3, 3), Weighted()
    game.pair, game.nothing = Pair([nn.ReLU()], 1), None
    game.penalties.append(penalties.Lazy(penalties.R2(1.0), 1))
    game.D.layers[1], game.hidden, game.mode = nn.ReLU(), 1, "a"
    game.square = np.zeros((2, 2), "float32")
    vars(game)["untracked"] = *game.untracked, "hidden"
    optimisers["d_opt"].eps = np.float32(1e-8)
    step = graphs.CapturedStep(loop.d_step, game, optimisers["d_opt"])

    def call():
        game.begin_iteration(0)
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.latent(M, rng), 0)
        return step.form.run is not None
    assert [call() for _ in range(5)] == [False] * 3 + [True] * 2
    change(game, optimisers["d_opt"])
    assert [call() for _ in range(5)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("name", ["gan", "r1"])
def test_the_whole_state_is_compared_only_after_a_change(name, monkeypatch, recording):
    """It takes longer on the host than small steps on a GPU, see graphs._Watch."""
    asked, state = [], graphs.CapturedStep._describe_call
    monkeypatch.setattr(graphs.CapturedStep, "_describe_call",
                        lambda *args: asked.append(1) or state(*args))
    counts = []
    game, optimisers, data = make_parts(GAMES[name])
    game.keep_average(0.5)
    for _ in play(game, data, *optimisers.values(), M, rng, 20):
        counts.append(len(asked))
    assert 2 <= counts[5] == counts[-1] < 20


class Constant(GAN):
    """A game whose noise comes with a constant."""

    def latent(self, m, rng):
        return super().latent(m, rng), None, 0.5

    def generate(self, z):
        return self.G(z[0]) * z[2]


def test_noise_may_have_constants_beside_arrays(recording, monkeypatch):
    entry = dataclasses.replace(GAMES["gan"], game=Constant)
    steps = keep_steps(monkeypatch, CapturedStep)
    recorded = train(entry, "alternating")
    assert [form.run is not None for step in steps[:2] for form in step.forms] == [True, True]
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating")


def test_a_launch_tells_the_host_what_has_changed(recording):
    """Gradients of older results are refused, and the statistics of averages are measured anew."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    game.keep_average(0.5)
    step = CapturedStep(loop.g_step, game, optimisers["g_opt"])
    for i in range(6):
        averaged = game.averages["G"].parameters()
        y, average = (sum((p * p).sum() for p in own) for own in (game.g_parameters(), averaged))
        game.averages_are_stale = False
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.latent(M, rng), i)
        assert game.averages_are_stale
        for result, own in ((y, game.g_parameters()), (average, averaged)):
            with pytest.raises(ValueError, match="written to since"):
                grad(result, own)
    assert step.form.run is not None


def test_results_of_a_step_that_was_not_recorded_are_copies(recording, monkeypatch):
    """An array of the step's memory pool would keep the pool's memory."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    losses, logged = [], []

    def d_step(*args):
        losses.append(loop.d_step(*args))
        logged.append(game.logged)
        return losses[-1]
    step = CapturedStep(d_step, game, optimisers["d_opt"])
    found = step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.latent(M, rng), 0)
    assert found.item() == losses[0].item() and not np.shares_memory(found.data, losses[0].data)
    assert game.logged == logged[0] and game.logged is not logged[0]


def test_a_recorded_step_copies_no_list(monkeypatch):
    monkeypatch.setattr(backend, "capturing", True)
    with pytest.raises(TypeError, match="before the step"):
        Tensor([1.0, 2.0])


def test_other_shapes_are_recorded_anew(recording, monkeypatch):
    """A minibatch of another size is another form, and the first one is not recorded again."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    step, recorded = graphs.CapturedStep(loop.d_step, game, optimisers["d_opt"]), []
    record = Aside.record
    monkeypatch.setattr(Aside, "record", lambda self, f: recorded.append(1) or record(self, f))
    for i, m in enumerate([4] * 6 + [6] * 6 + [4] * 2):
        x = Tensor(rng.uniform(0, 1, (m, 1, 4, 4)))
        step(x, game.latent(m, rng), i)
        assert len(recorded) == (i >= 3) + (i >= 9)


class Fading(GAN):
    """A game that changes a number between its steps, in the first four iterations."""

    share = 0.0

    def begin(self, i):
        self.share = min(i, 4) / 4

    def g_terms(self, x, z, fake, out_fake):
        return [self.share * (fake * fake).mean()]


class Untracked(Fading):
    """The same game, whose number is not tracked, because it is set anew in each iteration."""

    untracked = ("share",)


def test_untracked_numbers_are_seen_by_recorded_steps(recording, monkeypatch):
    """A subclass's `untracked` adds to those of its bases."""
    assert set(Untracked.untracked) == {*GAN.untracked, "share"}
    entry = dataclasses.replace(GAMES["gan"], game=Untracked)
    recorded = train(entry, "alternating", 12)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 12)


def test_a_number_that_changes_between_steps(recording, monkeypatch):
    """The step is recorded when the number has its last value; it never has an old one."""
    entry = dataclasses.replace(GAMES["gan"], game=Fading)
    recorded = train(entry, "alternating", 12)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 12)


class Sometimes(GAN):
    """A game with a further term in every third iteration of D."""

    untracked = ("due",)

    def begin(self, i):
        self.due = i % 3 == 0

    def d_terms(self, x, z, fake, out_real, out_fake):
        if not self.due:
            return []
        term = (out_real * out_real).mean()
        self.logged = {**self.logged, "term": term.data}
        return [term]


TWO = dict(z_size=5, penalties=[penalties.Lazy(penalties.R1(1.0), 2),
                                penalties.Lazy(penalties.R2(1.0), 3)])


@pytest.mark.parametrize("entry, forms", [
    (dataclasses.replace(GAMES["gan"], game=Sometimes), 2), (GAMES["lazy"], 2),
    (dataclasses.replace(GAMES["lazy"], settings=TWO), 4)], ids=["term", "penalty", "penalties"])
def test_each_form_of_a_step_is_recorded_once(entry, forms, recording, monkeypatch):
    """Steps with and without the term have a recording each, and are played WARM_UP times."""
    steps = keep_steps(monkeypatch, CapturedStep)
    recorded = train(entry, "alternating", 30)
    # D's and G's steps, which both get the numbers, and the simultaneous step, which is not used
    assert [[(form.calls, form.run is not None) for form in step.forms] for step in steps] == [
        [(3, True)] * forms, [(3, True)] * forms, []]
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 30)


class Cycling(GAN):
    """A game that changes a number in each iteration, to one of `period` numbers."""

    period = 1

    def begin(self, i):
        self.place = i % self.period


@pytest.mark.parametrize("more", [0, 1])
def test_so_many_forms_are_kept(more, recording, monkeypatch, capsys):
    """With one more, each form has been forgotten when it comes again."""
    steps = keep_steps(monkeypatch, CapturedStep)
    monkeypatch.setattr(Cycling, "period", CapturedStep.FORMS + more)
    entry = dataclasses.replace(GAMES["gan"], game=Cycling)
    recorded = train(entry, "alternating", 32)
    assert {form.run is not None for step in steps for form in step.forms} == {not more}
    assert ("change again and again" in capsys.readouterr().err) == bool(more)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 32)


def make_numbered_step():
    """Return (step, call): call(n) does D's step of a game whose number `place` is n."""
    game, optimisers, _ = make_parts(GAMES["gan"])
    step = CapturedStep(loop.d_step, game, optimisers["d_opt"])

    def call(n):
        game.place = n
        step(Tensor(rng.uniform(0, 1, (M, 1, 4, 4))), game.latent(M, rng), 0)
        return step.form
    return step, call


def test_the_form_that_is_used_is_kept(recording):
    """Rare forms replace each other, and not the one that is used between them."""
    step, call = make_numbered_step()
    for _ in range(4):
        form = call(0)
    for n in range(1, 2 * step.FORMS):
        assert call(n) is not form and call(0) is form and form.run is not None


def test_a_recorded_form_is_kept_when_no_more_are_recorded(recording, capsys):
    step, call = make_numbered_step()
    for _ in range(4):
        form = call(0)
    for n in range(1, 2 * step.STARTS):
        call(n)
        assert call(0) is form and form.run is not None
    assert "change again and again" in capsys.readouterr().err


class Restless(GAN):
    """A game that changes a number before each step."""

    def begin(self, i):
        self.share = float(i)


class Counting(GAN):
    """A game that changes a number in its step."""

    count = 0

    def after_d_step(self):
        self.count = self.count + 1


class Replacing(GAN):
    """A game that replaces an array in its step."""

    def after_d_step(self):
        p = self.d_parameters()[0]
        p.data = p.data * 1.0


@pytest.mark.parametrize("kind, why", [(Counting, "it changes or replaces count"),
                                       (Replacing, "it changes or replaces D."),
                                       (Restless, "change again and again"),
                                       (None, "RuntimeError: a copy")])
def test_a_step_that_cannot_be_recorded_is_played(kind, why, recording, monkeypatch, capsys):
    """One line says why, and the results are those of the step."""
    entry, tried = GAMES["gan"], []
    if kind is None:
        def record(self, f):
            tried.append(1)
            raise RuntimeError("a copy from the device")
        monkeypatch.setattr(Aside, "record", record)
    else:
        entry = dataclasses.replace(entry, game=kind)
    recorded = train(entry, "alternating", 30)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if why in line]) >= 1 and len(lines) <= 2, lines
    assert len(tried) <= 2              # once for each player
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, "alternating", 30)


@pytest.mark.host
def test_the_games_of_the_script_for_a_gpu_can_be_trained():
    """gpu.py runs on a GPU alone; a game or optimiser of it that no longer trains is seen here."""
    import gpu
    for kind in (gpu.Reading, gpu.Copying):
        gpu.train(dataclasses.replace(GAMES["gan"], game=kind), 2, "alternating")
    gpu.train(GAMES["gan"], 2, "alternating", gpu.SignOfMean)
