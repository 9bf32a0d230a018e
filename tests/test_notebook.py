"""Tests of Run as it is used in a notebook: in the process of the test, without a command line."""

import csv
import dataclasses
import gc
import io
import itertools
import json
import logging
import math
import os
import queue
import random
import shutil
import signal
import sys
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

import tinygan
from tinygan import (Random, Run, Tensor, backend, checkpoint, command, nn, ops, optim, rng,
                     schedules, to_numpy)
from tinygan.data import Minibatches, ZipMinibatches
from tinygan.data.mixtures import ring
from tinygan.games import GAN, R1, Game, losses, penalties, views
from tinygan.runs import unsaved

from helpers import Ending, error_of, normal, without_reader
from test_image import read_png
from test_run import read_files, same_files

pytestmark = pytest.mark.numpy_only("the files do not depend on the backend")


def make_game(D=None, **choices):
    """Return a small GAN with the same weights each time."""
    rng.seed(0)
    G = nn.Sequential(nn.Dense(3, 16), nn.BatchNorm(16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = D or nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Dense(16, 1))
    return GAN(G, D, 3, **choices)


def make_data(m=4, **named):
    """Return minibatches of m of 30 images."""
    return Minibatches(np.float32(normal(30, 1, 4, 4) % 1), m, **named)


def make_run(folder, steps=20, game=None, batches=None, **settings):
    """Return a Run that saves a checkpoint after each step. Its default game is make_game()."""
    game = make_game() if game is None else game
    optimisers = (optim.Adam(game.d_parameters(), schedules.cosine(1e-2, 0.0, 100)),
                  optim.SGD(game.g_parameters(), 0.1, 0.5))
    return Run(folder, game, batches or make_data(), optimisers, steps, save_every=0, **settings)


def test_a_run_in_two_parts_is_the_whole_run(tmp_path):
    whole = make_run(tmp_path / "whole").play()
    half = make_run(tmp_path / "half")
    assert not (tmp_path / "half").exists()                 # no file before play()
    play_and_stop_after(half, 9)
    assert half.step == 9 and half.stopped == 2
    again = make_run(tmp_path / "half", 20, resume=True)
    again.play()
    assert again.step == 20 and again.stopped is None
    assert same_files(tmp_path / "whole", tmp_path / "half")
    z = whole.latent(3, rng)
    assert (to_numpy(again.game.sample(z)) == to_numpy(whole.sample(z))).all()
    assert (to_numpy(tinygan.load(tmp_path / "half").sample(z)) == to_numpy(whole.sample(z))).all()


def play_and_stop_after(run, steps, number=signal.SIGINT, error=KeyboardInterrupt):
    """Play the run, which sends itself a signal, that of Ctrl-C, after this number of steps.

    play() raises `error`, whose text is returned.
    """
    measure = run.measure

    def stop(step):
        if step == steps:
            signal.raise_signal(number)
        return measure(step)
    run.measure = stop
    with pytest.raises(error) as caught:
        run.play()
    run.measure = measure
    assert run.step == steps and run.stopped == number
    return str(caught.value)


def test_a_stopped_run_ends_its_line_on_a_terminal(tmp_path, monkeypatch):
    """What is printed next is not written into the line of the progress."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(time, "monotonic", map(float, itertools.count()).__next__)
    play_and_stop_after(make_run(tmp_path / "run"), 3)
    assert "\rstep  3/20" in terminal.getvalue() and terminal.getvalue().endswith("\x1b[K\n")


def test_a_signal_ends_the_program_and_not_only_the_run(tmp_path):
    said = play_and_stop_after(make_run(tmp_path / "one"), 3)
    assert said.startswith("stopped after step 3 of 20 with a checkpoint")
    assert play_and_stop_after(make_run(tmp_path / "two"), 2, signal.SIGTERM, SystemExit) == "143"


def test_a_signal_during_the_last_step_ends_the_program_too(tmp_path):
    """A program may have more runs to play."""
    run = make_run(tmp_path / "run", 3)
    assert play_and_stop_after(run, 3) == "stopped after step 3 of 3 with a checkpoint"
    assert same_files(tmp_path / "run", make_whole(tmp_path, 3))
    assert make_run(tmp_path / "run", 3, resume=True).play().training


def make_whole(folder, steps):
    """Return the folder of a run that was not stopped."""
    make_run(folder / "whole", steps).play()
    return folder / "whole"


def test_play_goes_on_after_an_error(tmp_path):
    """From the last checkpoint: after an error in the first call too."""
    run, failed = make_run(tmp_path / "run", 6), []

    def measure(step):
        if step == 4 and not failed:
            failed.append(step)
            raise ZeroDivisionError
        return {}
    run.measure = measure
    with pytest.raises(ZeroDivisionError):
        run.play()
    assert run.step == 3
    run.play()
    assert same_files(tmp_path / "run", make_whole(tmp_path, 6))


def test_a_run_that_failed_before_its_first_checkpoint_is_not_played_again(tmp_path):
    """Its game has been trained. Before the optimisers' first step, an error changes nothing."""
    run = make_run(tmp_path / "run", 2)
    m, run.batch_size = run.batch_size, 7
    assert "minibatch" in error_of(run.play)
    run.batch_size, run.measure = m, lambda step: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.play()
    assert "make the game, the optimisers and the Run anew" in error_of(run.play)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.numpy_only("nothing is computed in the child")
def test_a_process_that_a_run_forks_has_neither_its_signals_nor_its_lock(tmp_path):
    """A worker, such as one that measures, ends by SIGTERM, and the folder is free after the run.

    Python 3.12 and newer warn of a fork while there are other threads, as those of the products.
    """
    run, children = make_run(tmp_path / "run", 2), []

    def fork(step):
        if not children:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                children.append(os.fork())
            if not children[0]:
                try:
                    time.sleep(60)
                finally:
                    os._exit(3)
        return {}
    run.measure = fork
    run.play()
    try:
        make_run(tmp_path / "run", 3, resume=True).play()
    finally:
        os.kill(children[0], signal.SIGTERM)
    assert os.waitpid(children[0], 0)[1] == signal.SIGTERM      # as the kernel ends a process


def test_runs_are_not_played_in_two_threads(tmp_path):
    """They would draw from one stream, tinygan.rng, in an order that nothing repeats."""
    run, other, said = make_run(tmp_path / "run", 2), make_run(tmp_path / "other", 2), []

    def measure(step):
        for call in (other.play, lambda: make_run(tmp_path / "third", 2)):
            thread = threading.Thread(target=lambda: said.append(error_of(call)))
            thread.start()
            thread.join()
        return {}
    run.measure = measure
    run.play()
    assert len(said) == 4 and all("in a process of its own" in message for message in said)
    other.play()


def test_a_run_is_not_resumed_and_replaced(tmp_path):
    make_run(tmp_path / "run", 3).play()
    before = read_files(tmp_path / "run")
    assert "not both" in error_of(make_run, tmp_path / "run", 3, resume=True, overwrite=True)
    assert read_files(tmp_path / "run") == before


def test_a_game_that_was_loaded_is_trained_in_training_mode(tmp_path):
    """load() returns a game in evaluation mode, which would keep its batch statistics.

    A part that is in evaluation mode in a game that is not stays so.
    """
    def make():
        rng.seed(0)
        G = nn.Sequential(nn.Dense(3, 16), nn.BatchNorm(16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
        return GAN(G, nn.Sequential(nn.Flatten(), nn.Dense(16, 4), nn.BatchNorm(4), nn.Dense(4, 1)),
                   3)
    make_run(tmp_path / "first", 2, make()).play()
    game = tinygan.load(tmp_path / "first")
    means = [layer.running_mean.copy() for layer in (game.G.layers[1], game.D.layers[2])]
    make_run(tmp_path / "second", 2, game).play()
    assert game.training and game.G.layers[1].training
    assert all((a != layer.running_mean).any() for a, layer in zip(
        means, (game.G.layers[1], game.D.layers[2])))
    game = make()
    game.D.layers[2].eval()
    make_run(tmp_path / "third", 2, game).play()
    assert game.G.layers[1].training and not game.D.layers[2].training
    assert not game.D.layers[2].running_mean.any()


def test_an_optimiser_resumes_with_its_own_parameters(tmp_path):
    """Two layers of the same shapes have other averages of their gradients."""
    def make(*chosen, resume=False):
        rng.seed(0)
        game = GAN(nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4)), nn.Sequential(
            nn.Flatten(), nn.Dense(16, 16), nn.Dense(16, 16), nn.Dense(16, 1)), 3)
        parts = [p for i in chosen for p in game.D.layers[i].parameters()]
        return Run(tmp_path / "run", game, make_data(), (
            optim.Adam(parts), optim.Adam(game.g_parameters())), 4, save_every=0, resume=resume)
    play_and_stop_after(make(1, 2), 2)
    before = read_files(tmp_path / "run")
    for chosen in ((2, 1), (1, 3), (1,), (1, 2, 3)):
        message = error_of(make(*chosen, resume=True).play)
        assert "other parameters in d_opt (it had D.1.weight, D.1.bias," in message
        assert read_files(tmp_path / "run") == before
    make(1, 2, resume=True).play()


def test_numbers_that_parts_share_are_refused_unless_a_constructor_shares_them(tmp_path):
    """A game that is made again would have two copies of them."""
    class Tied(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Dense(16, 16), nn.Dense(16, 16)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    def make(*layers):
        return GAN(nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4)), nn.Sequential(
            nn.Flatten(), *layers, nn.Dense(16, 1)), 3)
    a, b = nn.Dense(16, 16), nn.Dense(16, 16)
    for i, layers in enumerate(([a, a], [Tied()])):
        make_run(tmp_path / f"run{i}", 2, make(*layers)).play()
    b.weight = a.weight
    message = error_of(make_run, tmp_path / "tied", 2, make(a, b))
    assert "D.2.weight shares its numbers" in message and not (tmp_path / "tied").exists()


def test_a_resumed_run_at_its_last_step_changes_nothing(tmp_path):
    first = make_run(tmp_path / "run")
    first.play()
    before = read_files(tmp_path / "run")
    again = make_run(tmp_path / "run", resume=True)
    again.play()
    assert again.step == 20 and read_files(tmp_path / "run") == before
    for a, b in zip(again.game.arrays().values(), first.game.arrays().values()):
        assert (a == b).all()


def test_a_run_in_the_folder_is_kept_until_the_first_step(tmp_path):
    make_run(tmp_path / "run", 3).play()
    before = read_files(tmp_path / "run")
    message = error_of(make_run, tmp_path / "run", 3)
    assert "resume=True" in message and "overwrite=True" in message
    replacing = make_run(tmp_path / "run", 4, overwrite=True)
    assert read_files(tmp_path / "run") == before           # not before the first step
    replacing.play()
    assert read_files(tmp_path / "run") != before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log.csv").write_text("mine")
    assert "holds log.csv, which a run would replace" in error_of(make_run, tmp_path / "other", 3)


def test_a_run_whose_iterations_end_early_is_refused(tmp_path):
    class Short(Run):
        def iterations(self, start):
            yield from itertools.islice(super().iterations(start), 2)
    game = make_game()
    run = Short(tmp_path, game, make_data(), make_run(tmp_path / "other", game=game).optimisers, 5)
    assert "ended after step 2 of 5: yield every step" in error_of(run.play)


def test_play_resumes_a_stopped_run(tmp_path):
    """A second play() resumes a stopped run; a third play() changes nothing."""
    make_run(tmp_path / "whole").play()
    half = make_run(tmp_path / "half")
    play_and_stop_after(half, 9)
    half.play()
    assert half.step == 20 and half.stopped is None and half.optimisers["d_opt"].t == 20
    half.play()
    assert half.step == 20 and same_files(tmp_path / "whole", tmp_path / "half")


def test_a_stream_with_its_own_random_order_is_resumed(tmp_path):
    for folder, steps in (("whole", [20]), ("half", [9, None])):
        for i, stop in enumerate(steps):
            one = make_run(tmp_path / folder, batches=make_data(rng=Random(5)), resume=i > 0)
            if stop != 20 and stop is not None:
                play_and_stop_after(one, stop)
            else:
                one.play()
    assert same_files(tmp_path / "whole", tmp_path / "half")


def test_a_second_stage_keeps_the_averages_of_the_first(tmp_path):
    game = make_game()
    make_run(tmp_path / "one", 5, game=game, average=0.9).play()
    before = [p.numpy() for p in game.averages["G"].parameters()]
    second = make_run(tmp_path / "two", 5, game=game, average=0.9)
    for p, q in zip(game.averages["G"].parameters(), before):
        assert (p.numpy() == q).all()
    assert len(second.play()._changes) == 1


@pytest.mark.parametrize("settings, words", [
    (dict(steps=2.5), "2.5"), (dict(steps=0), "at least 1"),
    (dict(batch_size=8), "minibatches of 4"),
    (dict(order="both"), "'both'")])
def test_invalid_settings_are_refused_at_the_start(settings, words, tmp_path):
    assert words in error_of(make_run, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_invalid_arguments_are_refused(tmp_path):
    game = make_game()
    opts = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    for wrong in (opts[0], opts[:1], [*opts, opts[0]], None):
        assert "two optimisers" in error_of(Run, tmp_path / "run", game, make_data(), wrong, 3)
    assert "JSON" in error_of(Run, tmp_path / "run", game, make_data(), opts, 3,
                              settings={"a": np.float32(1)})
    assert "has no m: give such a stream, or batch_size" in error_of(
        Run, tmp_path / "run", game, itertools.repeat(np.zeros((4, 1, 4, 4), "float32")), opts, 3)
    mine = {"name": "mine"}
    Run(tmp_path / "run", game, make_data(), opts, 3, settings=mine)
    assert mine == {"name": "mine"}
    assert "minibatches of one size" in error_of(ZipMinibatches, make_data(4), make_data(5))


@pytest.mark.parametrize("change", [
    lambda game: setattr(game, "loss", losses.Hinge()), lambda game: setattr(game, "d_steps", 3),
    lambda game: game.penalties.append(penalties.R1(1.0)),
    lambda game: setattr(game.D.layers[1], "p", 0.5)])
def test_a_setting_that_was_changed_after_the_constructor_is_refused(change, tmp_path):
    """The checkpoint would have the arguments of the constructor instead."""
    game = make_game()
    change(game)
    assert "to the constructor" in error_of(make_run, tmp_path / "run", game=game)


@pytest.mark.parametrize("change", [
    lambda game: setattr(game, "loss", losses.Hinge()), lambda game: setattr(game, "d_steps", 3)])
def test_a_setting_of_the_game_that_was_changed_after_the_run_was_made_is_refused(change, tmp_path):
    run = make_run(tmp_path / "run", 3)
    change(run.game)
    assert "a checkpoint would not keep it" in error_of(run.play)
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_another_run_is_not_resumed_in_its_place(tmp_path):
    make_run(tmp_path / "run", 5, average=0.9).play()
    before = read_files(tmp_path / "run")
    for words, changed in {
            "batch size": dict(batches=make_data(5)),
            "order": dict(order="simultaneous"),
            "loss": dict(game=make_game(loss=losses.Hinge())),
            "penalties": dict(game=make_game(penalties=[penalties.R1(1.0)])),
            "views": dict(game=make_game(views=[views.InstanceNoise(0.1)])),
            "d_steps": dict(game=make_game(d_steps=2)),
            "examples are not those": dict(batches=Minibatches(np.float32(normal(
                30, 1, 4, 4, seed=1) % 1), 4)),
            "n_out was 1, now 2": dict(game=make_game(nn.Sequential(
                nn.Flatten(), nn.Dropout(0.2), nn.Dense(16, 2)))),
            "decay was 0.9, now 0.8": dict(average=0.8),
            "at step 5 already": dict(steps=3)}.items():
        again = make_run(tmp_path / "run", **{"steps": 9, "average": 0.9, **changed}, resume=True)
        assert words in error_of(again.play)
        assert read_files(tmp_path / "run") == before


def test_a_stream_without_state_is_refused_at_the_start(tmp_path):
    arrays = itertools.repeat(np.zeros((4, 1, 4, 4), "float32"))
    message = error_of(make_run, tmp_path / "run", batches=arrays, batch_size=4)
    assert "a repeat, has no `state`" in message and not (tmp_path / "run").exists()


def test_a_game_that_could_not_be_made_again_is_refused_at_the_start(tmp_path):
    changed = make_game()
    changed.D.layers.append(nn.Dense(1, 1))
    message = error_of(make_run, tmp_path / "run", game=changed)
    assert "made again" in message and "D.3.bias, D.3.weight" in message
    lambdas = GAN(nn.Sequential(nn.Dense(3, 16), lambda x: x.reshape(-1, 1, 4, 4)),
                  nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    assert "cannot describe a function" in error_of(make_run, tmp_path / "run", game=lambdas)


def test_a_run_in_another_thread(tmp_path):
    """A run in another thread gets no signals, and has the same files."""
    make_run(tmp_path / "whole").play()
    other = make_run(tmp_path / "thread")
    thread = threading.Thread(target=other.play)
    thread.start()
    thread.join(60)
    assert other.step == 20 and same_files(tmp_path / "whole", tmp_path / "thread")


def test_two_runs_do_not_write_one_folder(tmp_path):
    first, seen = make_run(tmp_path / "run", 3), []

    def another(step):
        seen.append(error_of(make_run(tmp_path / "run", 3, resume=True).play))
        return {}
    first.measure = another
    first.play()
    assert len(seen) == 3 and all("another process is writing" in message for message in seen)


def test_a_resumed_run_is_saved_before_its_first_step(tmp_path):
    """The files then have the new settings, and a file that was missing is there again."""
    folder, found = tmp_path / "run", []
    make_run(folder, 3, settings={"note": "old"}).play()
    (folder / "log.csv").unlink()       # as if the run had been killed before it wrote the log
    again = make_run(folder, 4, settings={"note": "new"}, resume=True)

    def measure(step):                  # Run.play calls it before it saves the step
        saved = checkpoint.read(folder / checkpoint.NAME).about
        found.append((saved["step"], saved["settings"]["note"],
                      json.loads((folder / "settings.json").read_text())["note"],
                      len((folder / "log.csv").read_text().splitlines())))
        return {}
    again.measure = measure
    again.play()
    assert found == [(3, "new", "new", 1 + 3)]


class Counting(Run):
    """A run that trains nothing and logs the number of each step."""

    def iterations(self, start):
        for i in range(start, self.steps):
            yield i, {"number": np.float64(i + 1)}

    def fixed_inputs(self):
        return ()

    def pictures(self, z):
        return None, None


def test_a_run_of_a_module_needs_methods_of_its_own(tmp_path):
    class Fitting(Run):
        def iterations(self, start):
            return iter(())
    module = nn.Dense(2, 2)
    optimisers = {"opt": optim.SGD(module.parameters(), 0.1)}
    for kind, said, flags in ((Run, "fixed_inputs and pictures", {}), (Fitting, "fixed_inputs", {}),
                              (Counting, "leave `average` out", {"average": 0.9})):
        with pytest.raises(TypeError, match=f"Dense.*{said}"):
            kind(tmp_path, module, make_data(), optimisers, 2, **flags)
    with pytest.raises(TypeError, match="a run trains a Game, got a function"):
        Counting(tmp_path, lambda x: x, make_data(), optimisers, 2)


def test_a_run_of_a_module_that_is_no_game_has_pictures(tmp_path):
    class Drawing(Counting):
        def pictures(self, z):
            return backend.xp.ones((4, 1, 4, 4), "float32"), 2
    module = nn.Sequential(nn.Dense(2, 2))
    Drawing(tmp_path / "run", module, make_data(), {"opt": optim.SGD(module.parameters(), 0.1)},
            2).play()
    assert read_png(tmp_path / "run" / "samples.png").shape == (20, 20)


def test_the_log_has_means_since_the_previous_row_and_a_row_of_the_last_step(tmp_path):
    """A run of 1001 steps logs a row every two steps, and one for step 1001."""
    game = make_game()
    optimisers = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    Counting(tmp_path / "run", game, make_data(), optimisers, 1001).play()
    head, *rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert head == "step,number"
    assert rows == [*(f"{step},{step - 0.5:.6g}" for step in range(2, 1001, 2)), "1001,1001"]


class LogsSometimes(Game):
    """A game that logs another number in every second step."""

    untracked = ("i",)

    loss = losses.LeastSquares()

    def g_loss(self, x, z):
        loss = super().g_loss(x, z)
        self.i = getattr(self, "i", 0) + 1
        if self.i % 2 == 0:
            self.logged = {**self.logged, "sometimes": loss.data * 0 + self.i}
        return loss


def test_the_logged_names_may_change_from_step_to_step(tmp_path):
    rng.seed(0)
    game = LogsSometimes(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    make_run(tmp_path / "run", 6, game=game).play()
    head, *rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert head == "step,D loss,G loss,D(x),D(G(z)),sometimes"
    assert [row.rpartition(",")[2] for row in rows] == ["", "2", "", "4", "", "6"]
    # a run that is stopped after step 3 has the column, too
    half = make_run(tmp_path / "half", 6, game=LogsSometimes(*make_players(), 3))
    play_and_stop_after(half, 3)
    text = (tmp_path / "half" / "log.csv").read_text()
    assert text.splitlines() == [head, *rows[:3]]


def make_players():
    """Return G and D with the same weights each time."""
    rng.seed(0)
    return make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1))


def test_both_streams_of_a_zip_are_resumed(tmp_path):
    """A resumed run restores both streams of ZipMinibatches. The game uses only the first."""
    class First(GAN):
        def real(self, x):
            return x[0]

    def make_streams():
        return ZipMinibatches(make_data(4), Minibatches(np.float32(normal(22, 1, 4, 4) % 1), 4))

    def make_first():
        rng.seed(0)
        return First(*make_players(), 3)
    make_run(tmp_path / "whole", 20, make_first(), make_streams()).play()
    half = make_run(tmp_path / "half", 20, make_first(), make_streams())
    play_and_stop_after(half, 11)
    make_run(tmp_path / "half", 20, make_first(), make_streams(), resume=True).play()
    assert same_files(tmp_path / "whole", tmp_path / "half")


def test_stages_are_runs_in_folders(tmp_path):
    """The second stage begins with the game of the first. Both are restored from their folders."""
    def play_stages(folder, **settings):
        game = make_game()
        batches = make_data()
        for name, loss in (("one", losses.Saturating()), ("two", losses.Hinge())):
            game.loss = loss
            staged = GAN(game.G, game.D, 3, loss=loss)
            make_run(tmp_path / folder / name, 10, staged, batches, **settings).play()
        return game
    whole = play_stages("whole")
    before = read_files(tmp_path / "whole")
    again = play_stages("whole", resume=True)
    assert read_files(tmp_path / "whole") == before
    for a, b in zip(again.arrays().values(), whole.arrays().values()):
        assert (a == b).all()


def test_another_batch_size_than_the_streams_is_refused(tmp_path):
    assert "minibatches of 4, but batch_size is 5" in error_of(
        make_run, tmp_path / "run", batch_size=5)


def test_an_average_with_another_decay_begins_anew(tmp_path):
    game = make_game()
    make_run(tmp_path / "one", 5, game=game, average=0.9).play()
    make_run(tmp_path / "two", 5, game=game, average=0.5)
    assert game.average_decay == 0.5
    for p, q in zip(game.averages["G"].parameters(), game.G.parameters()):
        assert (p.data == q.data).all()


def test_r1_cannot_resume_a_run_of_gan(tmp_path):
    """R1 is refused, although its networks are those of the run."""
    make_run(tmp_path / "run", 3).play()
    game = R1(*make_players(), 3)
    assert "was saved with other networks or settings" in error_of(
        make_run(tmp_path / "run", 4, game, resume=True).play)


def test_a_learning_rate_that_falls_fixes_the_number_of_steps(tmp_path):
    make_run(tmp_path / "run", 3).play()
    for lr in (schedules.cosine(1e-2, 0.0, 200), schedules.cosine(2e-2, 0.0, 100)):
        longer = make_run(tmp_path / "run", 4, resume=True)
        longer.optimisers["d_opt"].lr = lr
        assert "the same --steps, on which a learning rate may depend" in error_of(longer.play)


def test_a_run_whose_folder_was_removed_ends(tmp_path):
    """Another run may have the folder of its name, which the first one has not locked."""
    first, second = make_run(tmp_path / "run", 9), make_run(tmp_path / "run", 3)
    measure, seen = first.measure, []

    def replace(step):
        if step == 4:
            shutil.rmtree(tmp_path / "run")
            second.play()
            seen.append(read_files(tmp_path / "run"))
        return measure(step)
    first.measure = replace
    assert "run was removed during the run" in error_of(first.play)
    assert [read_files(tmp_path / "run")] == seen
    third = make_run(tmp_path / "third", 9)
    third.measure = lambda step: step == 4 and shutil.rmtree(third.folder) or {}
    assert "third was removed during the run" in error_of(third.play)


def test_the_versions_with_which_a_run_was_made(tmp_path, monkeypatch):
    """A finished run keeps them; a run that goes on with others has both."""
    def read():
        return json.loads((tmp_path / "run" / "settings.json").read_text())
    make_run(tmp_path / "run", 2).play()
    first = read()["versions"]
    for steps, version, now, earlier in [(2, "9.8", first, None),
                                         (3, "9.9", {**first, "tinygan": "9.9"}, [first]),
                                         (4, "9.9", {**first, "tinygan": "9.9"}, [first])]:
        monkeypatch.setattr(tinygan.runs.run, "VERSION", version)
        make_run(tmp_path / "run", steps, resume=True).play()
        assert read()["versions"] == now and read().get("earlier versions") == earlier


@pytest.mark.parametrize("value", [math.nan, math.inf, "3", None, np.ones(2)])
def test_a_measured_value_is_a_finite_number(value, tmp_path):
    run = make_run(tmp_path / "run", 3)
    run.measure = lambda step: {"length": value} if step == 2 else {"length": np.float32(1)}
    assert "for length, which is no finite number" in error_of(run.play)


class Keeping(nn.Module):
    """A layer that stores its input and results in attributes that the constructor declares."""

    def __init__(self):
        self.seen, self.results, self.layer = None, [], nn.Dense(2, 1)

    def forward(self, x):
        self.seen, self.results = x, [x * 2]
        return self.layer(x)


@pytest.mark.parametrize("called", [False, True])
def test_what_forward_stores_may_be_declared_as_none(called, tmp_path):
    """The network may have been called before the run is made."""
    def make():
        return GAN(nn.Dense(3, 2), Keeping(), 3)
    game = make()
    if called:
        game.D(Tensor(np.ones((1, 2), "float32")))
    points = ring(std=0.1).minibatches(4)
    make_run(tmp_path / "run", 3, game, points).play()
    make_run(tmp_path / "run", 4, make(), points, resume=True).play()


def test_a_run_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in tmp_path / "file", tmp_path / "file" / "a" / "run":
        assert f"{tmp_path / 'file'} is a file" in error_of(make_run, folder, 3)


def test_a_run_whose_folder_was_renamed_says_where_it_resumes(tmp_path):
    run = make_run(tmp_path / "run", 9)
    run.save_every = 1000
    run.measure = lambda step: step == 4 and os.rename(tmp_path / "run", tmp_path / "new") or {}
    message = error_of(run.play)
    assert "cannot write" in message and "resumes from step 1" in message


def test_results_of_a_replaced_run_are_removed(tmp_path):
    """They would be taken for those of the new run. Other files stay."""
    make_run(tmp_path / "run", 2).play()
    names = ["evaluation.json", "segmented.png", "pictures/nearest.png", "pictures/mine.png"]
    (tmp_path / "run" / "pictures").mkdir()
    for name in names:
        (tmp_path / "run" / name).touch()
    make_run(tmp_path / "run", 2, overwrite=True).play()
    assert [(tmp_path / "run" / name).exists() for name in names] == [False] * 3 + [True]


def test_ctrl_c_saves_without_a_reader_of_standard_error(tmp_path, monkeypatch):
    """The message that the run stops cannot be printed."""
    run = make_run(tmp_path / "run", 20)
    run.save_every = 1000
    with without_reader(monkeypatch):
        play_and_stop_after(run, 5)
    assert run.step == 5 and make_run(tmp_path / "run", 20, resume=True).play() is not None
    whole = make_run(tmp_path / "whole").play()
    assert same_files(tmp_path / "whole", tmp_path / "run"), whole


def test_a_run_without_pictures_says_so(tmp_path, capsys):
    """Points need no pictures, but images in rows of numbers may have been meant as such."""
    flat = GAN(nn.Sequential(nn.Dense(3, 16), nn.Sigmoid()), nn.Sequential(
        nn.Flatten(), nn.Dense(16, 1)), 3)
    make_run(tmp_path / "flat", 1, flat).play()
    assert "no pictures: G's samples are no images" in capsys.readouterr().out
    assert not (tmp_path / "flat" / "samples.png").exists()

    class Silent(GAN):
        def pictures(self, z):
            return None, None
    make_run(tmp_path / "silent", 1, Silent(flat.G, flat.D, 3)).play()
    make_run(tmp_path / "images", 1).play()
    assert "no pictures" not in capsys.readouterr().out


def make_signed(x):
    return 2 * ops.sigmoid(x) - 1


class Shown(GAN):
    """A game that maps samples in [-1, 1] to pixels itself."""

    def sample_images(self, z):
        return (self.sample(z) + 1) / 2

    def scale_images(self, images):
        return 2 * images - 1


class Faked(GAN):
    """A game with a fake() of its own, as BiGAN's, which sample_images() does not use."""

    def fake(self, x, z):
        return super().fake(x, z)


@pytest.mark.parametrize("kind, f, low, high, allowed", [
    (Faked, ops.tanh, -1, 1, True), (Faked, make_signed, -1, 1, False),
    (GAN, make_signed, -1, 1, False), (GAN, ops.relu, 0, 255, False), (GAN, ops.relu, 0, 1, True),
    (GAN, ops.relu, -0.04, 1.04, True),     # pixels with a little noise
    (GAN, ops.tanh, -1, 1, True), (GAN, ops.sigmoid, 0, 1, True), (Shown, make_signed, -1, 1, True),
])
def test_pictures_that_would_be_wrong_are_refused(tmp_path, kind, f, low, high, allowed):
    """G learns the range of the data, but pictures and measures are of pixels from 0 to 1."""
    net = nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4))
    D = nn.Sequential(nn.Flatten(), nn.Dense(16, 1))
    data = np.linspace(low, high, 30 * 16, dtype=np.float32).reshape(30, 1, 4, 4)
    for G in Ending(net, f), nn.Sequential(net, f):
        run = make_run(tmp_path / type(G).__name__, 1, kind(G, D, 3), Minibatches(data, 30))
        if allowed:
            run.play()
            images, _ = run.pictures(run.fixed_inputs())
            assert 0 <= images.min() and (images.max() <= 1 or f is ops.relu)
        else:
            assert "the pictures of a run show G's samples as pixels from 0 to 1" in error_of(
                run.play)
            assert not os.listdir(run.folder)


class Augmented:
    """A data stream that adds noise of numpy's own stream to the images of another stream."""

    def __init__(self, stream):
        self.stream, self.m = stream, stream.m

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.stream) + 0.01 * np.random.rand(4, 1, 4, 4).astype("float32")

    @property
    def state(self):
        return self.stream.state

    @state.setter
    def state(self, state):
        self.stream.state = state


def test_a_stream_that_draws_from_numpy_is_taken_and_left_as_it_was(tmp_path):
    """The first minibatch is drawn twice to compare them, and all streams are set back then."""
    game, batches = make_game(), Augmented(make_data())
    before = batches.state["position"], rng.state, repr(np.random.get_state())
    run = make_run(tmp_path / "run", 3, game, batches)
    assert (batches.state["position"], rng.state, repr(np.random.get_state())) == before
    run.play()


def test_samples_that_are_no_images_have_any_range(tmp_path):
    """Numbers in rows are not shown; play() trains on images of any range."""
    rng.seed(0)
    game = GAN(nn.Sequential(nn.Dense(3, 16)), nn.Sequential(nn.Dense(16, 1)), 3)
    make_run(tmp_path / "rows", 1, game, Minibatches(5 * np.float32(normal(30, 16)), 4)).play()
    game = GAN(nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4)), nn.Sequential(
        nn.Flatten(), nn.Dense(16, 1)), 3)
    d_opt, g_opt = (optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters()))
    next(tinygan.play(game, Minibatches(5 * np.float32(normal(30, 1, 4, 4)), 4), d_opt, g_opt, 4,
                      rng, 1))


class Drifting(GAN):
    """A game with a number that changes and is no array, and one that is."""

    def __init__(self, *args, change=True, **choices):
        super().__init__(*args, **choices)
        self.change, self.k, self.kept = change, 0.0, np.zeros((), np.float32)

    def after_d_step(self):
        self.k += 0.01 * self.change
        self.kept = np.clip(self.kept + np.float32(0.25), 0, 1)     # a number, not an array


def test_a_number_that_a_checkpoint_would_not_keep_is_refused(tmp_path):
    players = make_players()
    run = make_run(tmp_path / "refused", game=Drifting(*players, 3))
    assert "game.k changes during training" in error_of(run.play)
    assert not (tmp_path / "refused" / "checkpoint.npz").exists()


@dataclasses.dataclass(frozen=True)
class OneRow(losses.Loss):
    """A loss of shape (1,)."""

    def d(self, real, fake):
        return (fake - real).mean(0)

    def g(self, real, fake):
        return -fake.mean(0)


class OneRowLogged(GAN):
    """A game that logs an array of shape (1, 1)."""

    def after_g_step(self):
        self.log("seven", np.full((1, 1), 7.0))


def test_arrays_of_one_number_may_have_any_shape(tmp_path):
    made = make_game()
    make_run(tmp_path / "run", 3, OneRowLogged(made.G, made.D, 3, loss=OneRow())).play()
    first, *_ = csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines())
    assert first["seven"] == "7" and float(first["D loss"]) == pytest.approx(
        float(first["D(G(z))"]) - float(first["D(x)"]), abs=2e-5)       # it has six digits


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file is a file: choose another folder" in error_of(make_run, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


class Appearing(GAN):
    """A game that gets an array in its first step."""

    def d_terms(self, x, z, fake, out_real, out_fake):
        self.q = out_real.mean().data
        return []


class Freezing(GAN):
    """A game that puts a part of G into evaluation mode in its third iteration."""

    def begin(self, i):
        if i == 2:
            self.G.layers[1].eval()


def test_a_part_that_was_put_into_evaluation_mode_stays_there(tmp_path):
    """A resumed run continues with the same parts in evaluation mode."""
    def make(folder, steps, **flags):
        game = Freezing(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
        return make_run(tmp_path / folder, steps, game, **flags)
    make("whole", 8).play()
    play_and_stop_after(make("parts", 8), 5)
    again = make("parts", 8, resume=True)
    game = again.play()
    assert same_files(tmp_path / "whole", tmp_path / "parts")
    assert game.training and not game.G.layers[1].training and game.G.layers[0].training
    loaded = tinygan.load(tmp_path / "parts", Freezing)
    assert not loaded.training and not loaded.G.layers[0].training
    loaded.train()
    assert loaded.G.layers[0].training and not loaded.G.layers[1].training


class Slowing(optim.Adam):
    """An optimiser whose learning rate is changed by hand."""

    def step(self, grads):
        super().step(grads)
        self.lr /= 2


class Clipping(optim.Adam):
    """An optimiser with a running mean of the sum of all |g|, an array of one number."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.mean = backend.xp.zeros((), "float32")

    def step(self, grads):
        self.mean[...] = 0.9 * self.mean + 0.1 * sum(abs(g.data).sum() for g in grads)
        super().step([g * (1 / self.mean) for g in grads])


def test_an_array_of_an_optimiser_is_resumed(tmp_path):
    def make(folder, **flags):
        game = make_game()
        optimisers = Clipping(game.d_parameters()), optim.Adam(game.g_parameters())
        return Run(tmp_path / folder, game, make_data(), optimisers, 6, save_every=0, **flags)
    make("whole").play()
    play_and_stop_after(make("parts"), 3)
    make("parts", resume=True).play()
    assert same_files(tmp_path / "whole", tmp_path / "parts")
    assert "d_opt.mean" in checkpoint.read_run(tmp_path / "parts").arrays


class Common(Clipping):
    """An optimiser whose array belongs to the class, and so to all optimisers of it."""

    mean = np.zeros((), "float32")

    def __init__(self, parameters):
        optim.Adam.__init__(self, parameters)


class Late(Clipping):
    """An optimiser that makes its array in its first step, so that a new one has none."""

    def __init__(self, parameters):
        optim.Adam.__init__(self, parameters)

    def step(self, grads):
        self.mean = backend.xp.ones(())
        super().step(grads)


class Shrinking(optim.Adam):
    """An optimiser that gives up parameters in its first step."""

    def step(self, grads):
        super().step(grads)
        self.parameters = self.parameters[:1]
        self.state = {name: arrays[:1] for name, arrays in self.state.items()}


class StepCounter(optim.Adam):
    """An optimiser that counts its steps in a number of its own."""

    n = 0

    def step(self, grads):
        super().step(grads)
        self.n += 1


class Accumulating(optim.Adam):
    """An optimiser that takes a step for every two gradients."""

    _sum = None

    def step(self, grads):
        self._sum = list(grads)


class Averaging(optim.Adam):
    """An optimiser that has another one."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self._slow = optim.Adam(self.parameters)


class Pool:
    """An object of a class that is not tinygan's, with arrays, as of older images."""

    def __init__(self, *images):
        self.images, self.key = list(images), lambda image: 0


class Pooling(GAN):
    """A game whose D is shown the images of the step before, which no checkpoint would keep."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(Tensor(np.zeros(3, "float32")) * 1.0)

    def replay(self, fake, z):
        self.pool.images = [fake]
        return fake


class Writing(GAN):
    """A game with an object whose array is written to in place."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(np.zeros(3))

    def replay(self, fake, z):
        self.pool.images[0][1] += 1.0
        return fake


class PoolingOptimizer(optim.Adam):
    """An optimiser with an object whose numbers change."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.pool = Pool(1.0)

    def step(self, grads):
        super().step(grads)
        self.pool.images[0] += 1.0


class Deep(Writing):
    """A game with an object in an object, which draws from a stream of its own."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(Pool(Random(1)))

    def replay(self, fake, z):
        self.pool.images[0].images[0].key()
        return fake


class Shadowing(Writing):
    """A game whose object has, in an object, a network of its own that follows G."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(Pool(nn.Dense(2, 2)))

    def replay(self, fake, z):
        self.pool.images[0].images[0].weight.data += 1.0
        return fake


class Remembering(Writing):
    """A game whose object has, in an object, a Tensor for the samples of the step before."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(Pool(Tensor(np.zeros(3, "float32"))))

    def replay(self, fake, z):
        self.pool.images[0].images = [Tensor(fake.data)]
        return fake


class Buffering(Writing):
    """A game with a buffer for several threads, which has a lock."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(np.zeros(3), threading.Lock(), threading.RLock(), queue.Queue())


def make_counter():
    """Return a function that counts its calls."""
    n = 0

    def count():
        nonlocal n
        n += 1
    return count


class Tallying(Writing):
    """A game with a function that counts."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool, self.count = Pool(np.zeros(3)), make_counter()

    def replay(self, fake, z):
        self.count()
        return fake


class Weak(Writing):
    """A game with an object that refers to the game weakly, as a controller of the game may."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pool = Pool(np.zeros(3))
        self.pool.owner = weakref.ref(self)


class Replacing(Writing):
    """A game whose object has the array that one of the game was at first."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.p = np.zeros(3)
        self.pool = Pool(self.p)

    def replay(self, fake, z):
        self.p = self.p + 1.0
        return fake * (1 + float(self.pool.images[0].sum()))


class OfItsClass(Writing):
    """A game whose class has a list that changes."""

    counts = [0.0]

    def __init__(self, *arguments):
        GAN.__init__(self, *arguments)

    def replay(self, fake, z):
        self.counts[0] += 1.0
        return fake


class NumberOfItsClass(OfItsClass):
    """A game whose class has a number that changes."""

    k = 0

    def replay(self, fake, z):
        type(self).k += 1
        return fake


class RandomOfItsClass(Writing):
    """A game whose class has a random stream."""

    pool = Random(3)

    def __init__(self, *arguments):
        GAN.__init__(self, *arguments)


class CountingAdam(optim.Adam):
    """An optimiser whose class has a number that changes."""

    n = 0

    def step(self, grads):
        super().step(grads)
        type(self).n += 1


class Locked(optim.Adam):
    """An optimiser with an attribute that pickle does not take, until its first step."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.pool = Pool(memoryview(b""))

    def step(self, grads):
        super().step(grads)
        self.pool = 3


@pytest.mark.parametrize("make, kind, said", [
    (GAN, Locked, "d_opt.pool changes during training"),
    (Pooling, optim.Adam, "game.pool changes during training, and a checkpoint would not keep it"),
    (Writing, optim.Adam, "game.pool changes during training"),
    (Deep, optim.Adam, "game.pool changes during training"),
    (Buffering, optim.Adam, "game.pool changes during training"),
    (Tallying, optim.Adam, "game.count changes during training"),
    (Replacing, optim.Adam, "game.pool changes during training"),
    (OfItsClass, optim.Adam, "game.counts changes during training"),
    (RandomOfItsClass, optim.Adam, r"game's pool \(Random\) has a state that a checkpoint"),
    (GAN, CountingAdam, "d_opt.n changes during training"),
    (NumberOfItsClass, optim.Adam, "game.k changes during training"),
    (Weak, optim.Adam, "game.pool changes during training"),
    (Shadowing, optim.Adam, "game.pool changes during training"),
    (Remembering, optim.Adam, "game.pool changes during training"),
    (GAN, PoolingOptimizer, "d_opt.pool changes during training"),
    (GAN, Averaging, "d_opt's _slow holds arrays that a checkpoint would not keep"),
    (Appearing, optim.Adam, "game.q changes during training.* an array in the constructor"),
    (GAN, Slowing, "d_opt.lr changes during training.* make it a schedule"),
    (GAN, StepCounter, "d_opt.n changes during training.* compute it from `t`"),
    (GAN, Common, "d_opt's mean holds arrays that a checkpoint would not keep"),
    (GAN, Late, "d_opt.mean changes during training.* make it an array in the constructor"),
    (GAN, Shrinking, "d_opt.parameters changes during training.*: train other parameters in anot"),
    (GAN, Accumulating, "d_opt's _sum holds arrays that a checkpoint would not keep")])
def test_state_that_a_resumed_run_would_lose_is_refused(tmp_path, make, kind, said):
    game = make(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    optimisers = kind(game.d_parameters()), optim.Adam(game.g_parameters())
    with pytest.raises((ValueError, TypeError), match=said):
        Run(tmp_path / "run", game, make_data(), optimisers, 3, save_every=0).play()


def count_calls(f):
    """Return a method that counts the calls of f, as a profiler does."""
    n = 0

    def counted(*args):
        nonlocal n
        n += 1
        return f(*args)
    return counted


class Profiled(GAN):
    replay = count_calls(GAN.replay)


def test_a_method_may_count_its_calls(tmp_path):
    made = make_game()
    make_run(tmp_path / "run", 3, Profiled(made.G, made.D, 3)).play()


def test_checksums_do_not_keep_what_they_were_computed_from():
    game, pool = make_game(), Pool(Pool())
    game.pool, dropped = pool, weakref.ref(pool.images[0])
    gc.disable()
    try:
        unsaved.list_fixed(game, {}, None)
        del pool.images[0]
        assert dropped() is None
    finally:
        gc.enable()


class Foreign(GAN):
    """A game that draws from the streams of numpy and of Python."""

    def d_terms(self, x, z, fake, out_real, out_fake):
        noise = np.float32(np.random.normal(0, random.random(), x.shape))
        return [((self.score(x + noise) - out_real) ** 2).mean()]


def test_the_streams_of_numpy_and_python_are_resumed_if_a_game_draws_from_them(tmp_path):
    before = np.random.get_state(), random.getstate()

    def make(folder, kind=Foreign, **flags):
        np.random.seed(3)
        random.seed(3)
        game = make_game()
        return make_run(tmp_path / folder, 8, kind(game.G, game.D, 3), **flags)
    try:
        make("whole").play()
        play_and_stop_after(make("parts"), 5)
        for _ in range(2):              # the second one has no step left
            make("parts", resume=True).play()
            assert same_files(tmp_path / "whole", tmp_path / "parts")
        make("other", GAN).play()
        for folder, kept in (("whole", True), ("other", False)):
            about = checkpoint.read(tmp_path / folder / "checkpoint.npz").about
            assert ("streams" in about) == kept
        run = make("whole", resume=True)
        run._saved.about["streams"]["numpy"]["state"]["key"].pop()
        with pytest.raises(ValueError, match="is damaged: its parts do not fit together"):
            run.play()
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def test_another_bit_generator_of_numpy_is_told(tmp_path):
    before = np.random.get_bit_generator()

    def make(**flags):
        game = make_game()
        return make_run(tmp_path / "run", 8, Foreign(game.G, game.D, 3), **flags)
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        play_and_stop_after(make(), 5)
        run = make(resume=True)
        np.random.set_bit_generator(np.random.MT19937(3))
        with pytest.raises(ValueError, match="np.random drew from 'PCG64', not from MT19937"):
            run.play()
        np.random.set_bit_generator(np.random.PCG64(4))
        make(resume=True).play()
    finally:
        np.random.set_bit_generator(before)


class ForeignNoise(nn.Module):
    """A generator that draws from numpy's stream, and ends in a sigmoid."""

    def __init__(self):
        self.net = nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4))

    def forward(self, z):
        y = self.net(z)
        return ops.sigmoid(y + np.float32(np.random.normal(0, 0.1, y.shape)))


def test_a_g_that_draws_from_numpys_stream_is_resumed(tmp_path):
    """The samples that show whether it ends in a sigmoid are drawn at the start alone."""
    before = np.random.get_state()

    def make(folder, **flags):
        np.random.seed(3)
        game = make_game()
        return make_run(tmp_path / folder, 8, GAN(ForeignNoise(), game.D, 3), **flags)
    try:
        make("whole").play()
        play_and_stop_after(make("parts"), 5)
        make("parts", resume=True).play()
        assert same_files(tmp_path / "whole", tmp_path / "parts")
    finally:
        np.random.set_state(before)


def test_names_in_the_log_may_have_commas(tmp_path):
    class Logging(GAN):
        def d_terms(self, x, z, fake, out_real, out_fake):
            self.logged = {**self.logged, "a, b": out_real.data.mean()}
            return []
    game = make_game()
    make_run(tmp_path / "run", 3, Logging(game.G, game.D, 3)).play()
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-1] == "a, b" and {len(row) for row in rows} == {len(rows[0])}


def test_tensors_and_arrays_are_logged(tmp_path):
    class Logging(GAN):
        def d_terms(self, x, z, fake, out_real, out_fake):
            self.log("tensor", out_real.mean())
            self.log("array", out_real.data.mean())
            with pytest.raises(TypeError, match="number is logged as a Tensor or an array"):
                self.log("number", 3.0)
            return []
    game = make_game()
    make_run(tmp_path / "run", 3, Logging(game.G, game.D, 3)).play()
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert row["tensor"] == row["array"]


def test_a_logged_tensor_is_named(tmp_path):
    class Logging(GAN):
        def d_terms(self, x, z, fake, out_real, out_fake):
            self.logged = {**self.logged, "distance": out_real.mean()}
            return []
    game = make_game()
    with pytest.raises(TypeError, match="the logged value distance is a Tensor: log its array"):
        make_run(tmp_path / "run", 3, Logging(game.G, game.D, 3)).play()


class Scale(nn.Module):
    """A layer of one's own whose argument is named as that of tinygan's layers."""

    def __init__(self, init=None):
        self.f = (lambda x: x) if init is None or callable(init) else (lambda x: x * init)

    def forward(self, x):
        return self.f(x)


class Halved(nn.Module):
    """A layer of one's own whose argument `init` may be None, which is not its default."""

    def __init__(self, init=0.5):
        self.f = (lambda x: x) if init is None else (lambda x: x * init)

    def forward(self, x):
        return self.f(x)


class Chain(nn.Module):
    """A network whose constructor takes its list apart, and its dictionary."""

    def __init__(self, widths, more):
        self.net = nn.Sequential(nn.Flatten(), nn.Dense(widths.pop(0), widths.pop(0)),
                                 nn.Dense(more.pop("n_in"), more.pop("n_out")))

    def forward(self, x):
        return self.net(x)


def test_arguments_are_described_as_they_were_given(tmp_path):
    """Even if the constructor changes lists, or has an argument `init` that is no function."""
    game = make_game(nn.Sequential(Chain([16, 4], more={"n_in": 4, "n_out": 1}), Scale(3.0),
                                   Scale(nn.normal(0.1)), Halved(None)))
    make_run(tmp_path / "run", 1, game).play()
    x = Tensor(normal(2, 1, 4, 4).astype("float32"))
    loaded = tinygan.load(tmp_path / "run", Chain, Scale, Halved)
    assert (loaded.D(x).numpy() == game.eval().D(x).numpy()).all()


class Shaky(views.View):
    """A view that draws from a Random of its own."""

    def __init__(self):
        self.own = Random(1)


@dataclasses.dataclass(frozen=True)
class Perceptual(penalties.Penalty):
    """A penalty with a network."""

    net: nn.Module


@pytest.mark.parametrize("change, said", [
    (lambda game: setattr(game, "own", Random(1)), "the game's own .Random. has a state"),
    (lambda game: setattr(game, "own", np.random.default_rng(1)), "the game's own .Generator. has"),
    (lambda game: setattr(game, "own", [Random(1)]), "the game's own .Random. has"),
    (lambda game: setattr(game, "own", {"a": Random(1)}), "the game's own .Random. has"),
    (lambda game: game.views.append(Shaky()), "the game's views.0.own .Random. has"),
    (lambda game: setattr(game, "own", random.Random(1)), "the game's own .Random. has"),
    (lambda game: setattr(game, "own", Pool(Random(1))), "the game's own .Random. has"),
    (lambda game: setattr(game, "own", make_data()),
     "the game's own .Minibatches. has a state .* make it a part of the data stream"),
    (lambda game: setattr(game, "own", (i for i in [1])), "the game's own .generator. has"),
    (lambda game: setattr(game, "own", Pool(nn.Dense(2, 2))), "GAN.own holds Dense, which is not"),
    (lambda game: setattr(game, "opt", optim.Adam(game.D.parameters())),
     "the game's opt .Adam. has a state that a checkpoint would not keep: give it to the Run"),
    (lambda game: setattr(game, "latent", lambda m, rng: None),
     "latent replaces a method of the game"),
    (lambda game: game.penalties.append(Perceptual(nn.Dense(2, 2))),
     "GAN.penalties holds Dense, which is not found there")])
def test_a_game_that_a_checkpoint_would_not_hold_is_refused(tmp_path, change, said):
    game = make_game()
    change(game)
    with pytest.raises((ValueError, TypeError), match=said):
        make_run(tmp_path / "run", game=game)


def test_a_file_with_classes_does_not_train_again(tmp_path):
    """A script that makes a Run as soon as it is imported would replace the run to be measured."""
    make_run(tmp_path / "run", 1).play()
    before = read_files(tmp_path / "run")
    file = tmp_path / "trains_at_once.py"
    file.write_text("from test_notebook import make_run\n"
                    f"make_run({str(tmp_path / 'run')!r}, 5, overwrite=True).play()\n")
    for _ in range(2):          # no part of the module is kept
        with pytest.raises(ValueError, match="trains_at_once.py makes a Run when it is imported.*"
                           "if __name__ == \"__main__\":"):
            command.load(tmp_path / "run", [file])
    assert read_files(tmp_path / "run") == before
    make_run(tmp_path / "another", 1)       # is made as before


@pytest.mark.parametrize("save_every", ["x", None, float("nan"), -1])
def test_seconds_between_checkpoints_are_a_number(tmp_path, save_every):
    game = make_game()
    optimisers = optim.Adam(game.d_parameters()), optim.Adam(game.g_parameters())
    with pytest.raises(ValueError, match="save_every is a number of seconds of at least 0, got"):
        Run(tmp_path / "run", game, make_data(), optimisers, 3, save_every=save_every)


@pytest.mark.parametrize("change", [
    lambda saved: saved.about["t"].update(d_opt=-5),
    lambda saved: saved.arrays["log"].fill(np.nan),
    lambda saved: saved.arrays["z"].fill(np.nan)])
def test_numbers_that_no_run_has_saved_are_damage(tmp_path, change):
    make_run(tmp_path / "run", 3).play()
    run = make_run(tmp_path / "run", 4, resume=True)
    change(run._saved)
    with pytest.raises(ValueError, match="is damaged"):
        run.play()


class Vague(losses.NonSaturating):
    """A loss that logs all scores and not their mean."""

    def summarise(self, real, fake):
        return {"D(x)": real.data}


@pytest.mark.parametrize("method, words", [
    ("measure", "returns a dictionary .* got a NoneType"),
    ("pictures", "returns .images, columns., .* got a ndarray")])
def test_what_a_run_returns_is_checked(tmp_path, method, words):
    run = make_run(tmp_path / "run")
    setattr(run, method, {"measure": lambda step: None,
                          "pictures": lambda z: run.game.sample(z)}[method])
    with pytest.raises(TypeError, match=words):
        run.play()


def test_a_logged_array_of_several_numbers_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"logged value D\(x\) must be one number.*\(4, 1\)"):
        make_run(tmp_path / "run", game=make_game(loss=Vague())).play()


def test_load_takes_classes_one_after_the_other(tmp_path):
    make_run(tmp_path / "run", 1).play()
    for known in (views, [GAN, R1], "GAN"):
        with pytest.raises(TypeError, match="one after the other as in load.run, MyGame, MyLayer"):
            tinygan.load(tmp_path / "run", known)


class Bent(nn.Module):
    """A layer whose class has a default for a function that its constructor chooses."""

    bend = staticmethod(ops.relu)

    def __init__(self, bend):
        self.bend = bend

    def forward(self, x):
        return self.bend(x)


def test_a_constructor_may_choose_a_function(tmp_path):
    """It chooses it again when the game is loaded."""
    D = nn.Sequential(nn.Flatten(), nn.Dense(16, 1), Bent(ops.tanh))
    make_run(tmp_path / "run", 1, make_game(D)).play()


def test_a_game_may_hold_the_default_stream(tmp_path):
    """A checkpoint has the state of tinygan.rng, whoever refers to it."""
    game = make_game()
    game.own = rng
    make_run(tmp_path / "run", 1, game).play()


class Working(StepCounter):
    """An optimiser with attributes that a resumed run does not need."""

    untracked = "n", "work"

    def __init__(self, parameters):
        super().__init__(parameters)
        self.work, self._group = np.zeros(3), self.parameters[:1]


class Around:
    """A data stream of one's own around another one, whose state it saves."""

    def __init__(self, inner):
        self.inner, self.m = inner, inner.m

    state = property(lambda self: self.inner.state,
                     lambda self, state: setattr(self.inner, "state", state))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)


def test_a_game_may_refer_to_what_its_data_stream_keeps(tmp_path):
    game = make_game()
    game.data = make_data()
    optimisers = optim.Adam(game.d_parameters()), optim.Adam(game.g_parameters())
    Run(tmp_path / "run", game, Around(game.data), optimisers, 3, save_every=0).play()


class Adapting(GAN):
    """A game with an object that writes to a number of the game, which checkpoints keep."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.p = np.zeros(())
        self.controller = Pool(self.p)

    def replay(self, fake, z):
        self.controller.images[0][...] += 0.1
        return fake * (1 + float(self.p))


def test_an_object_may_write_to_an_array_of_its_game(tmp_path):
    def make(folder, **flags):
        game = Adapting(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
        return make_run(tmp_path / folder, 8, game, **flags)
    make("whole").play()
    play_and_stop_after(make("parts"), 5)
    make("parts", resume=True).play()
    assert same_files(tmp_path / "whole", tmp_path / "parts")


def test_what_a_resumed_run_does_not_need_is_allowed(tmp_path):
    """Work arrays, an optimiser's own parameters, what is kept elsewhere, objects as they were."""
    class Holding(GAN):
        untracked = ("shown",)
    game = Holding(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    game.own, game.shown = Random(5), Random(6)
    game.data = make_data(rng=game.own)
    game.helper = [Pool(np.zeros(3), game.G, game.D.layers[1].weight, game.own, rng), {Pool()}]
    game.helper[0].images += [game.helper[0], np.random.normal, random.gauss, Pool(game.data)]
    optimisers = Working(game.d_parameters()), optim.Adam(game.g_parameters())
    Run(tmp_path / "run", game, game.data, optimisers, 3, save_every=0).play()


def test_a_weak_proxy_of_a_game_or_another_object_is_no_stream(tmp_path):
    game, pool = make_game(), Pool()
    game.pool = Pool(pool)
    game.pool.owner, game.pool.friend = weakref.proxy(game), weakref.proxy(pool)
    make_run(tmp_path / "run", 2, game).play()


class Recalling(nn.Module):
    """A layer that keeps its last output."""

    def __init__(self):
        self.net = nn.Dense(16, 2)

    def forward(self, x):
        self.last = self.net(x)
        return self.last


class Judging(GAN):
    """A game with an object that has, in an object, a network that judges samples."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.judge = Pool(Pool(Recalling()))

    def replay(self, fake, z):
        self.judge.images[0].images[0](fake.reshape(-1, 16))
        return fake


def test_a_network_that_only_judges_may_keep_its_outputs(tmp_path):
    game = Judging(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    make_run(tmp_path / "run", 3, game).play()


class Kernel:
    """What a file of a notebook refers to, and through it all that the notebook has."""

    def __init__(self):
        self.names = {"x": Tensor(np.zeros(3)), "net": nn.Dense(2, 2), "own": Random(1)}


class Output(io.StringIO):
    """The standard output in a notebook."""

    def __init__(self):
        super().__init__()
        self.kernel = Kernel()


class ForeignArray:
    """An array of another library, which is a collection but cannot be listed."""

    def __len__(self):
        return 1

    def __iter__(self):
        raise TypeError("iteration over a 0-d tensor")

    def __contains__(self, item):
        return False


def test_an_object_that_can_be_iterated_over_is_not(tmp_path):
    """It may be a progress bar, whose iteration would use up a stream; its attributes are seen."""
    class Bar(Pool):
        def __len__(self):
            return 1

        def __iter__(self):
            raise AssertionError("used up")

        def __contains__(self, item):
            return False
    game = make_game()
    game.bar = Bar()
    game.parameters()
    game.bar = Bar(nn.Dense(2, 2))
    with pytest.raises(TypeError, match="GAN.bar holds Dense, which is not found there"):
        game.parameters()


def test_a_function_that_refers_to_the_kernel_of_a_notebook_is_allowed():
    """There sys.stdout.write is such a function, which a progress bar has."""
    kernel, game = Kernel(), make_game()
    game.bar = Pool(lambda text: kernel)
    game.parameters()
    unsaved.check(game, {}, make_data())


def test_files_loggers_and_foreign_arrays_are_allowed(tmp_path):
    """They neither train nor have a state that a resumed run needs, whatever they refer to."""
    logger = logging.Logger("own")
    logger.addHandler(logging.StreamHandler(Output()))

    class Logging(GAN):
        log_to = logger
    game = Logging(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
    game.logger, game.out, game.pool = logger, Output(), Pool(Output(), ForeignArray(), logger)
    optimisers = optim.Adam(game.d_parameters()), optim.Adam(game.g_parameters())
    Run(tmp_path / "run", game, make_data(), optimisers, 3, save_every=0).play()


class Showing(GAN):
    """A game with a progress bar, which counts and writes to a file."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.bar = Pool(Output(), 0)

    def begin(self, i):
        self.bar.images[1] = i


def test_an_object_that_writes_to_a_file_may_change(tmp_path):
    game = make_game()
    make_run(tmp_path / "run", 3, Showing(game.G, game.D, 3)).play()


class Three(GAN):
    """A game that steps a third optimiser, which is the run's as well."""

    def after_g_step(self):
        p = self.G.parameters()[:1]
        self.e_opt.step([Tensor(p[0].data * 0.1)])


def test_a_third_optimiser_of_the_game_is_resumed(tmp_path):
    def make(folder, steps, **flags):
        game = Three(make_game().G, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3)
        game.e_opt = optim.Adam(game.G.parameters()[:1])
        opts = {"d_opt": optim.Adam(game.d_parameters()), "g_opt": optim.Adam(game.g_parameters()),
                "e_opt": game.e_opt}
        return Run(tmp_path / folder, game, make_data(), opts, steps, save_every=0, **flags)
    make("whole", 8).play()
    play_and_stop_after(make("parts", 8), 5)
    make("parts", 8, resume=True).play()
    assert same_files(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("names", [("d", "g"), ("d_opt", "g_opt", "d2_opt"), ("d_opt",)])
def test_optimisers_that_no_step_uses_are_refused(tmp_path, names):
    game = make_game()
    optimisers = {name: optim.Adam(game.d_parameters()) for name in names}
    with pytest.raises(ValueError, match="steps the optimisers d_opt and g_opt, got d"):
        Run(tmp_path / "run", game, make_data(), optimisers, 3)


def test_a_buffer_of_one_number_stays_a_buffer(tmp_path):
    """numpy's arithmetic of 0-d arrays returns numbers; a resumed run has the buffer's value."""
    game = Drifting(*make_players(), 3, change=False)
    make_run(tmp_path / "run", 3, game=game).play()
    assert type(game.kept) is np.ndarray and game.kept == 0.75
    again = Drifting(*make_players(), 3, change=False)
    make_run(tmp_path / "run", 3, game=again, resume=True).play()
    assert again.kept == 0.75


class Margin(losses.NonSaturating):
    """A loss with a setting that is no field."""

    def __init__(self, m=1.0):
        vars(self)["m"] = m


def test_a_loss_whose_settings_are_no_fields_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot describe m of a Margin.*frozen"):
        make_run(tmp_path / "run", game=make_game(loss=Margin(5.0)))


class LateRun(Run):
    """A run that measures at its last step, and has a panel for that value from the beginning."""

    def measure(self, step):
        return {"late": 0.5} if step == self.steps else {}

    def panels(self, names):
        return [["D loss", "G loss"], ["late"]]


def test_a_panel_of_a_value_that_is_not_logged_yet(tmp_path):
    """Curves are drawn before the first measurement, and have the value afterwards."""
    game, counts = make_game(), []
    optimisers = [optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    run = LateRun(tmp_path / "run", game, make_data(), optimisers, 3, save_every=0)
    for steps in (2, 3):
        if steps == 2:
            play_and_stop_after(run, steps)
        else:
            run.play()
        counts.append((tmp_path / "run" / "losses.svg").read_text().count("<clipPath"))
    assert counts == [1, 2]


def test_a_game_of_points_is_run_without_pictures(tmp_path):
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    optimisers = optim.Adam(game.d_parameters()), optim.Adam(game.g_parameters())
    folder = tmp_path / "run"
    data = ring().minibatches(8, Random(0))
    Run(folder, game, data, optimisers, steps=3, batch_size=8).play()
    assert (folder / "losses.svg").exists() and not list(folder.glob("**/*.png"))
