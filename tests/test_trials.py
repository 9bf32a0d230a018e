"""Four papers that ask more of the library than its own games do, each a script in trials/: they
learn, go on after they were killed, and are sampled and evaluated by the examples' scripts. What
holds for every game they show in test_contract.py."""

import json
import pathlib
import random
import shutil
import sys

import numpy as np
import pytest

from tinygan import Tensor, backend, command, optim, play, rng, to_numpy
from tinygan.backend import UserError
from tinygan.data import Minibatches, Split, Together
from tinygan.games import views
from tinygan.loop import draw
from tinygan.random import Random

from kills import TRIALS, command_of, has_begun, kill_at, write_data
from test_image import read_png
from test_run import ROOT, begin, finished, refused, same

sys.path += [str(ROOT / "tests" / "trials"), str(ROOT / "examples")]
import conditional
import cycle
import growing
import info
import sample

STEPS = 24
STAGES = ("4x4", "8x8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, and of each trial a whole run under its name."""
    folder = tmp_path_factory.mktemp("trials")
    write_data(folder)
    for name in TRIALS:
        finished(folder, *new_run(name), "--out", name)
    return folder


def new_run(name, *more):
    return *command_of(name), "--steps", STEPS, "--average", 0.9, "--save-every", 0, *more


def runs_of(name):
    """The folders of a trial's run: of growing's, its stages."""
    return [f"{name}/{stage}" for stage in STAGES] if name == "growing" else [name]


# Real processes

@pytest.mark.host
@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_killed_at_three_moments_goes_on_byte_for_byte(name, place, tmp_path):
    """After some steps, once more after some more, and a third time; the growing one also in its
    second stage, when its first is left as it is."""
    chance, run, killed = random.Random(name), tmp_path / "run", 0
    folders = [run / stage for stage in STAGES] if name == "growing" else [run]
    for i, step in enumerate((4, 9, 14)):
        path = folders[min(i, len(folders) - 1)] / "checkpoint.npz"
        script, *flags = new_run(name)
        if has_begun(run):
            flags = ["--resume", "--save-every", 0]
        process = begin(place, script, *flags, "--out", run)
        killed += kill_at(process, path, step + chance.randrange(4))
        assert i == 0 or len(folders) == 1 or same(place / name / "4x4", run / "4x4")
    assert killed
    assert "resumed" in finished(place, TRIALS[name], "--resume", "--save-every", 0, "--out", run)
    assert same(place / name, run)


@pytest.mark.host
@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_is_sampled_and_evaluated(name, place, tmp_path):
    """By the scripts, which are given its file; without it, they ask for it."""
    for run in runs_of(name):
        for script, out in (("sample.py", "pictures"), ("evaluate.py", "table.json")):
            script, out = ROOT / "examples" / script, tmp_path / out
            line = refused(place, script, run)
            assert "which is not tinygan's" in line and "--module" in line
            finished(place, script, run, "--module", TRIALS[name], "--out", out)
        written = {path.stem for path in (tmp_path / "pictures").iterdir()}
        ways = set() if name == "cycle" else {"straight", "spherical"}      # it takes no noise
        assert written == {"samples", "nearest"} | ways | (
            {"shown"} if name != "growing" else set())
        size = 8 if run.endswith("8x8") else 4
        side = 2 * (8 * (size + 2) - 2)
        assert read_png(tmp_path / "pictures" / "samples.png").shape == (side, side)
        found = json.loads((tmp_path / "table.json").read_text())
        assert found["n"] == (15 if name == "cycle" else 12)        # a tenth of its targets
        assert all(np.isfinite(list(found["measures"]["samples"].values())))
        shutil.rmtree(tmp_path / "pictures")


@pytest.mark.host
def test_what_is_logged_and_shown(place):
    logged = {name: (place / runs_of(name)[0] / "log.csv").read_text().splitlines()[0].split(",")
              for name in TRIALS}
    plain = ["step", "D loss", "G loss", "D(x)", "D(G(z))"]
    assert logged == {"conditional": plain, "info": [*plain, "L_I"], "cycle": [*plain, "cycle"],
                      "growing": [*plain, "W"]}
    shapes = {run: read_png(place / run / "samples.png").shape
              for name in TRIALS for run in runs_of(name)}
    # rows of a class, rows of ten codes, eight pairs a row, and squares
    assert {run: [(n / 2 + 2) / (10 if run.endswith("8x8") else 6) for n in shape]
            for run, shape in shapes.items()} == {
        "conditional": [3, 21], "info": [6, 10], "cycle": [8, 16], "growing/4x4": [8, 8],
        "growing/8x8": [8, 8]}


@pytest.mark.host
def test_a_conditional_game_with_noise_on_all_that_d_sees(place, tmp_path):
    """Round labels, too: the script plays, goes on, and truncation leaves labels alone."""
    flags = [*new_run("conditional", "--loss", "hinge", "--penalty", "gp", "--noise", 0.3)]
    finished(place, *flags, "--out", tmp_path / "whole")
    process = begin(place, *flags, "--out", tmp_path / "run")
    assert kill_at(process, tmp_path / "run" / "checkpoint.npz", 8)
    finished(place, flags[0], "--resume", "--save-every", 0, "--out", tmp_path / "run")
    assert same(tmp_path / "whole", tmp_path / "run")
    game = command.load(tmp_path / "run", [TRIALS["conditional"]])
    plain, cut = (sample.inputs(game, None, 40, limit, Random(3)) for limit in (None, 0.5))
    assert (plain[1] == cut[1]).all() and set(plain[1]) == {0, 1, 2}
    assert abs(cut[0]).max() <= 0.5 < abs(plain[0]).max()
    assert ((plain[0] == cut[0]) == (abs(plain[0]) <= 0.5)).all()
    finished(place, ROOT / "examples" / "sample.py", tmp_path / "run", "--truncation", 0.5,
             "--module", TRIALS["conditional"])


@pytest.mark.host
def test_stages_are_replaced_from_the_first_on(place, tmp_path):
    """A run of two stages that is to be replaced, and is killed in its first: the old second one is
    not taken for what follows it."""
    run = tmp_path / "run"
    shutil.copytree(place / "growing", run)
    line = refused(place, *new_run("growing"), "--out", run)
    assert "4x4 holds a run" in line and same(place / "growing", run)
    line = refused(place, TRIALS["growing"], "--resume", "--steps", STEPS + 6, "--out", run)
    assert f"has {STEPS} steps, not {STEPS + 6}" in line and same(place / "growing", run)
    (tmp_path / "run" / "notes").mkdir()
    script, *flags = new_run("growing", "--seed", 1)
    process = begin(place, script, *flags, "--overwrite", "--out", run)
    assert kill_at(process, run / "4x4" / "checkpoint.npz", 1, STEPS)       # of the new run
    finished(place, script, "--resume", "--out", run)
    finished(place, script, *flags, "--out", tmp_path / "new")
    assert same(tmp_path / "new", run) and (run / "notes").is_dir()


@pytest.mark.host
def test_a_run_is_on_all_of_its_arrays(place, tmp_path):
    """One with other targets, or other labels, is another."""
    with np.load(place / "small.npz") as file:
        arrays = dict(file)
    for name, key in (("cycle", "targets"), ("conditional", "labels")):
        np.savez(tmp_path / "other.npz", **{**arrays, key: arrays[key][::-1]})
        line = refused(place, TRIALS[name], "--resume", "--data", tmp_path / "other.npz", "--out",
                       name)
        assert "begun on other data" in line


@pytest.mark.host
def test_files_that_hold_no_classes_are_refused(place, tmp_path):
    (tmp_path / "json.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    for path, words in ((tmp_path / "nowhere.py", "no Python file"),
                        (tmp_path / "notes.txt", "no Python file"),
                        (tmp_path / "json.py", "another module has the name")):
        with pytest.raises(UserError, match=words):
            command.load(place / "info", [path])
    assert str(tmp_path) not in sys.path        # where it has looked for json


# What they do

def test_noise_goes_round_labels():
    game = conditional.ENTRY(views=[views.InstanceNoise(0.3)])
    data = Minibatches(grey(np.linspace(0.1, 0.9, 12)), 4, labels=np.arange(12) % 3)
    shown = []
    game.verdict = lambda what: shown.append(what) or type(game).verdict(game, what)
    x, z, _ = draw(game, data, 4, rng, 0)
    game.losses(x, z)
    for (images, labels), clean in zip(shown, [x, game.fake(x, z)], strict=True):
        assert labels.dtype.kind == "i" and (labels == clean[1]).all()
        assert 0.1 < (images.numpy() - clean[0].numpy()).std() < 0.5


# What they learn

def trained(game, data, m, steps, lr=1e-2):
    """Play so many steps; return what was logged, {name: values}."""
    opts = [optim.Adam(p, lr) for p in (game.d_parameters(), game.g_parameters())]
    logged = {}
    for _ in play(game, data, *opts, m, rng, steps):
        for name, value in game.seen.items():
            logged.setdefault(name, []).append(float(value))
    return logged


def grey(levels, size=4):
    """Images, each of about one of these levels of grey."""
    noise = np.random.default_rng(0).normal(size=(len(levels), 1, size, size))
    return np.float32(np.reshape(levels, (-1, 1, 1, 1)) + 0.02 * noise)


@pytest.mark.numpy_only("the contract holds on each backend; this is hundreds of steps")
@pytest.mark.parametrize("penalty", conditional.PENALTIES)
@pytest.mark.parametrize("loss", conditional.LOSSES)
def test_a_conditional_game_learns_what_the_labels_mean(loss, penalty):
    """Of three classes, dark, grey and light, with any loss and any penalty. (With seeds 0 to 2 the
    light samples are lighter than the dark ones by 0.49 or more.)"""
    labels = np.arange(96) % 3
    game = conditional.ENTRY(
        *conditional.networks(dropout=0.0), loss=conditional.LOSSES[loss],
        penalties=conditional.PENALTIES[penalty])
    game.keep_average(0.95)
    trained(game, Minibatches(grey(0.1 + 0.4 * labels), 16, labels=labels), 16, 200)
    images, columns = game.shown(game.exhibits(None, 30, rng))
    dark, _, light = images.reshape(3, columns, -1).mean((1, 2))
    assert light - dark > 0.3


@pytest.mark.numpy_only("the contract holds on each backend; this is hundreds of steps")
def test_an_info_gan_shows_its_codes():
    """In nats, of log 10 = 2.3."""
    game = info.ENTRY()
    logged = trained(game, Minibatches(grey(np.linspace(0.1, 0.9, 96)), 16), 16, 200)
    assert logged["L_I"][0] < 0.3 and np.mean(logged["L_I"][-20:]) > 1.0
    images, codes = game.shown(game.exhibits(None, 30, rng))
    rows = images.reshape(3, codes, -1)
    assert rows.std(1).mean() > 2 * rows.std(0).mean()      # code by code, and noise by noise


@pytest.mark.numpy_only("the contract holds on each backend; this is hundreds of steps")
def test_a_cycle_gan_translates_and_comes_back():
    """Dark images into light ones."""
    game = cycle.ENTRY()
    dark, light = grey(np.linspace(0.1, 0.3, 64)), grey(np.linspace(0.7, 0.9, 80))
    logged = trained(game, Together(Minibatches(dark, 8), Minibatches(light, 8)), 8, 150)
    assert np.mean(logged["cycle"][-20:]) < 0.2 * logged["cycle"][0]
    assert abs(game.sample(Tensor(dark)).mean() - 0.8) < 0.1


def test_the_image_pool():
    """It is filled; then half of the images are exchanged for older ones, and D sees these."""
    game, source, pool = cycle.ENTRY(pool=6), Random(0), {}
    for i in range(12):
        place, exchange = game.latent(4, source)
        new = [Tensor(backend.xp.full((4, 1, 4, 4), 100.0 * (1 + which) + i, "float32"))
               for which in (0, 1)]
        for which, shown in enumerate(game.replay(tuple(new), (place, exchange))):
            for j, (at, old) in enumerate(zip(to_numpy(place), to_numpy(exchange))):
                mine = float(new[which].numpy()[j, 0, 0, 0])
                there = pool.setdefault((which, at), mine)
                assert (shown.numpy()[j] == (there if old else mine)).all()
                pool[which, at] = mine if old else there
    for which, kept in enumerate((game.old_y, game.old_x)):
        assert to_numpy(kept)[:, 0, 0, 0].tolist() == [pool[which, at] for at in range(6)]


def test_a_stage_leaves_later_layers_alone_and_the_next_one_fades_them_in():
    """At alpha = 0 its images are those of the stage before, enlarged."""
    G, D = growing.networks()
    images, z = grey(np.linspace(0.1, 0.9, 32), 8), Random(3).normal((3, 5))

    def of_8():
        return [p.numpy().tobytes() for network in (G, D) for name, p
                in network.named_arrays(Tensor).items() if ".8." in name]
    before = of_8()
    first = growing.ENTRY(G, D, size=4)
    trained(first, Minibatches(growing.shrunk(images, 4), 8), 8, 6)
    small = to_numpy(first.sample(Tensor(z)))
    assert small.shape == (3, 1, 4, 4) and of_8() == before and len(before) == 8
    second = growing.ENTRY(G, D, size=8, fade=4)
    large = to_numpy(second.sample(Tensor(z)))
    assert (large == small.repeat(2, 2).repeat(2, 3)).all()
    data, alphas = Minibatches(images, 8), []
    opts = [optim.Adam(p) for p in (second.d_parameters(), second.g_parameters())]
    for _ in play(second, data, *opts, 8, rng, 6):
        alphas.append((float(G.alpha), float(D.alpha)))
    assert alphas == [(a, a) for a in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0)]
    assert not set(of_8()) & set(before)
    split = Split(images=images)
    assert [game.targets(split).shape for game in (first, second)] == [
        (32, 1, size, size) for size in (4, 8)]
