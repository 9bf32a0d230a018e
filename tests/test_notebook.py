"""A Run in a notebook: no command line, no process of its own."""

import itertools
import os
import signal
import threading

import numpy as np
import pytest

import tinygan
from tinygan import Random, Run, nn, optim, rng, schedules, to_numpy
from tinygan.data import Minibatches, Together
from tinygan.games import GAN, R1, Game, losses, penalties, views

from helpers import error_of, normal
from test_run import contents, same

pytestmark = pytest.mark.numpy_only("files are the same whatever the arrays")


def game(D=None, **choices):
    rng.seed(0)
    G = nn.Sequential(nn.Dense(3, 16), nn.BatchNorm(16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = D or nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Dense(16, 1))
    return GAN(G, D, 3, **choices)


def data(m=4, **named):
    return Minibatches(np.float32(normal(30, 1, 4, 4) % 1), m, **named)


def run(folder, steps=20, played=None, batches=None, **settings):
    """A run of a fresh game, as a cell of a notebook makes it."""
    played = game() if played is None else played
    optimisers = (optim.Adam(played.d_parameters(), schedules.cosine(1e-2, 100)),
                  optim.SGD(played.g_parameters(), 0.1, 0.5))
    return Run(folder, played, batches or data(), optimisers, steps, save_every=0, **settings)


def test_half_and_half_is_the_whole(tmp_path):
    whole = run(tmp_path / "whole").play()
    half = run(tmp_path / "half")
    assert not (tmp_path / "half").exists()                 # nothing is written before it plays
    stop_after(half, 9)
    half.play()
    assert half.step == 9 and half.stopped == 2
    again = run(tmp_path / "half", 20, resume=True)
    again.play()
    assert again.step == 20 and again.stopped is None
    assert same(tmp_path / "whole", tmp_path / "half")
    z = whole.latent(3, rng)
    assert (to_numpy(again.game.sample(z)) == to_numpy(whole.sample(z))).all()
    assert (to_numpy(tinygan.load(tmp_path / "half").sample(z)) == to_numpy(whole.sample(z))).all()


def stop_after(run, steps):
    """Have the run stopped by Ctrl-C after so many steps."""
    measure = run.measure

    def stop(step):
        if step == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(step)
    run.measure = stop


def test_a_finished_run_is_restored_and_not_played_again(tmp_path):
    first = run(tmp_path / "run")
    first.play()
    before = contents(tmp_path / "run")
    again = run(tmp_path / "run", resume=True)
    again.play()
    assert again.step == 20 and contents(tmp_path / "run") == before
    for a, b in zip(again.game.arrays().values(), first.game.arrays().values()):
        assert (a == b).all()


def test_what_a_folder_holds_is_not_lost(tmp_path):
    run(tmp_path / "run", 3).play()
    before = contents(tmp_path / "run")
    message = error_of(run, tmp_path / "run", 3)
    assert "resume=True" in message and "overwrite=True" in message
    replacing = run(tmp_path / "run", 4, overwrite=True)
    assert contents(tmp_path / "run") == before             # not before the first step
    replacing.play()
    assert contents(tmp_path / "run") != before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log.csv").write_text("mine")
    assert "no run to which that belongs" in error_of(run, tmp_path / "other", 3)


def test_a_run_that_was_stopped_is_played_on_by_the_same_object(tmp_path):
    """As by the next cell of a notebook; and one that has ended is not played again."""
    run(tmp_path / "whole").play()
    half = run(tmp_path / "half")
    stop_after(half, 9)
    half.play()
    half.play()
    assert half.step == 20 and half.stopped is None and half.optimisers["d_opt"].t == 20
    half.play()
    assert half.step == 20 and same(tmp_path / "whole", tmp_path / "half")


def test_a_stream_with_an_order_of_its_own_goes_on(tmp_path):
    for folder, steps in (("whole", [20]), ("half", [9, None])):
        for i, stop in enumerate(steps):
            one = run(tmp_path / folder, batches=data(rng=Random(5)), resume=i > 0)
            if stop != 20 and stop is not None:
                stop_after(one, stop)
            one.play()
    assert same(tmp_path / "whole", tmp_path / "half")


def test_a_second_stage_keeps_the_averages_of_the_first(tmp_path):
    played = game()
    run(tmp_path / "one", 5, played=played, average=0.9).play()
    before = [p.numpy() for p in played.averages["G"].parameters()]
    second = run(tmp_path / "two", 5, played=played, average=0.9)
    for p, q in zip(played.averages["G"].parameters(), before):
        assert (p.numpy() == q).all()
    assert len(second.play()._changes) == 1


@pytest.mark.parametrize("settings, words", [
    (dict(steps=2.5), "2.5"), (dict(steps=0), "at least 1"), (dict(batch_size=8), "which is 4"),
    (dict(order="both"), "'both'")])
def test_what_cannot_be_played_is_refused_at_the_start(settings, words, tmp_path):
    assert words in error_of(run, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_what_a_run_cannot_take(tmp_path):
    played = game()
    opts = [optim.SGD(p, 0.1) for p in (played.d_parameters(), played.g_parameters())]
    for wrong in (opts[0], opts[:1], [*opts, opts[0]], None):
        assert "two optimisers" in error_of(Run, tmp_path / "run", played, data(), wrong, 3)
    assert "JSON" in error_of(Run, tmp_path / "run", played, data(), opts, 3,
                              settings={"a": np.float32(1)})
    mine = {"name": "mine"}
    Run(tmp_path / "run", played, data(), opts, 3, settings=mine)
    assert mine == {"name": "mine"}
    assert "minibatches of one size" in error_of(Together, data(4), data(5))


@pytest.mark.parametrize("change", [
    lambda game: setattr(game, "loss", losses.Hinge()), lambda game: setattr(game, "d_steps", 3),
    lambda game: game.penalties.append(penalties.R1(1.0)),
    lambda game: setattr(game.D.layers[1], "p", 0.5)])
def test_a_setting_that_was_changed_after_the_constructor_is_refused(change, tmp_path):
    """A checkpoint would tell of the constructor's."""
    played = game()
    change(played)
    assert "give it to the constructor" in error_of(run, tmp_path / "run", played=played)


def test_another_run_is_not_resumed_in_its_place(tmp_path):
    run(tmp_path / "run", 5, average=0.9).play()
    before = contents(tmp_path / "run")
    for words, changed in {
            "batch size": dict(batches=data(5)),
            "order": dict(order="simultaneous"),
            "loss": dict(played=game(loss=losses.Hinge())),
            "penalties": dict(played=game(penalties=[penalties.R1(1.0)])),
            "views": dict(played=game(views=[views.InstanceNoise(0.1)])),
            "d_steps": dict(played=game(d_steps=2)),
            "examples are not those": dict(batches=Minibatches(np.float32(normal(
                30, 1, 4, 4, seed=1) % 1), 4)),
            "n_out was 1, now 2": dict(played=game(nn.Sequential(
                nn.Flatten(), nn.Dropout(0.2), nn.Dense(16, 2)))),
            "decay was 0.9, now 0.8": dict(average=0.8),
            "at step 5 already": dict(steps=3)}.items():
        again = run(tmp_path / "run", **{"steps": 9, "average": 0.9, **changed}, resume=True)
        assert words in error_of(again.play)
        assert contents(tmp_path / "run") == before


def test_a_stream_without_state_is_refused_at_the_start(tmp_path):
    arrays = itertools.repeat(np.zeros((4, 1, 4, 4), "float32"))
    message = error_of(run, tmp_path / "run", batches=arrays, batch_size=4)
    assert "a repeat, has no `state`" in message and not (tmp_path / "run").exists()


def test_a_game_that_could_not_be_made_again_is_refused_at_the_start(tmp_path):
    changed = game()
    changed.D.layers.append(nn.Dense(1, 1))
    message = error_of(run, tmp_path / "run", played=changed)
    assert "made again" in message and "D.3.bias, D.3.weight" in message
    lambdas = GAN(nn.Sequential(nn.Dense(3, 16), lambda x: x.reshape(-1, 1, 4, 4)),
                  nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    assert "cannot describe a function" in error_of(run, tmp_path / "run", played=lambdas)


def test_a_run_in_another_thread(tmp_path):
    """It hears of no signals there, and is otherwise the same."""
    run(tmp_path / "whole").play()
    other = run(tmp_path / "thread")
    thread = threading.Thread(target=other.play)
    thread.start()
    thread.join(60)
    assert other.step == 20 and same(tmp_path / "whole", tmp_path / "thread")


def test_two_runs_do_not_write_one_folder(tmp_path):
    first, seen = run(tmp_path / "run", 3), []

    def another(step):
        seen.append(error_of(run(tmp_path / "run", 3, resume=True).play))
        return {}
    first.measure = another
    first.play()
    assert len(seen) == 3 and all("another process is writing" in message for message in seen)


class Alternating(Game):
    """Logs another number in every second step."""

    loss = losses.LeastSquares()

    def g_loss(self, x, z):
        loss = super().g_loss(x, z)
        self.i = getattr(self, "i", 0) + 1
        if self.i % 2 == 0:
            self.seen = {**self.seen, "sometimes": loss.data * 0 + self.i}
        return loss


def test_what_is_logged_may_differ_from_step_to_step(tmp_path):
    rng.seed(0)
    played = Alternating(game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    run(tmp_path / "run", 6, played=played).play()
    head, *rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert head == "step,D loss,G loss,D(x),D(G(z)),sometimes"
    assert [row.rpartition(",")[2] for row in rows] == ["", "2", "", "4", "", "6"]
    # one that ends between the two goes on with both
    half = run(tmp_path / "half", 6, played=Alternating(*players(), 3))
    stop_after(half, 3)
    half.play()
    text = (tmp_path / "half" / "log.csv").read_text()
    assert text.splitlines() == [head, *rows[:3]]


def players():
    rng.seed(0)
    return game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1))


def test_two_sets_that_are_not_paired_keep_their_orders(tmp_path):
    """A game that takes the first of two sets; the state is that of both streams."""
    class First(GAN):
        def real(self, x):
            return x[0]

    def both():
        return Together(data(4), Minibatches(np.float32(normal(22, 1, 4, 4) % 1), 4))

    def first():
        rng.seed(0)
        return First(*players(), 3)
    run(tmp_path / "whole", 20, first(), both()).play()
    half = run(tmp_path / "half", 20, first(), both())
    stop_after(half, 11)
    half.play()
    run(tmp_path / "half", 20, first(), both(), resume=True).play()
    assert same(tmp_path / "whole", tmp_path / "half")


def test_stages_are_runs_in_folders(tmp_path):
    """The second takes the game as the first has left it; both are restored from their folders."""
    def stages(steps, **settings):
        played = game()
        batches = data()
        for name, loss in (("one", losses.Saturating()), ("two", losses.Hinge())):
            played.loss = loss
            staged = GAN(played.G, played.D, 3, loss=loss)
            run(tmp_path / steps / name, 10, staged, batches, **settings).play()
        return played
    whole = stages("whole")
    before = contents(tmp_path / "whole")
    again = stages("whole", resume=True)
    assert contents(tmp_path / "whole") == before
    for a, b in zip(again.arrays().values(), whole.arrays().values()):
        assert (a == b).all()


def test_the_batch_size_is_the_streams(tmp_path):
    assert "batch size of its data stream, which is 4, got 5" in error_of(
        run, tmp_path / "run", batch_size=5)


def test_an_average_of_another_decay_begins_anew(tmp_path):
    played = game()
    run(tmp_path / "one", 5, played=played, average=0.9).play()
    run(tmp_path / "two", 5, played=played, average=0.5)
    assert played.decay == 0.5
    for p, q in zip(played.averages["G"].parameters(), played.G.parameters()):
        assert (p.data == q.data).all()


def test_r1_on_a_run_of_gan_is_another_run(tmp_path):
    """R1 is a GAN with a penalty: its class is told apart, though its weights fit."""
    run(tmp_path / "run", 3).play()
    played = R1(*players(), 3)
    assert "was saved with other networks or settings" in error_of(
        run(tmp_path / "run", 4, played, resume=True).play)
