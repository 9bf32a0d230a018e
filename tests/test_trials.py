"""Tests of the scripts in trials/, two games that are not the library's, and of runs in stages.

The games learn, are resumed after they were killed, and work with examples/sample.py and
examples/evaluate.py. The stages are those of examples/progan_mnist.py.
"""

import json
import random
import shutil
import sys

import numpy as np
import pytest

from tinygan import Tensor, backend, command, optim, play, rng, to_numpy
from tinygan.backend import UserError
from tinygan.data import Minibatches, Split, ZipMinibatches
from tinygan.games import views
from tinygan.games.small import make_labelled_networks
from tinygan.loop import draw
from tinygan.random import Random

from kills import SCRIPTS, get_command, has_begun, kill_at, write_data
from test_image import read_png
from test_run import ROOT, call, read_refusal, same_files, start_script

sys.path += [str(ROOT / "tests" / "trials"), str(ROOT / "examples")]
import cycle
import labelled
import sample

STEPS = {"cycle": 24, "labelled": 24, "progan_mnist": 7}
STAGES = ("2x2", "4x4", "8x8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with the data and, for each script, a run in a folder with its name."""
    folder = tmp_path_factory.mktemp("trials")
    write_data(folder)
    for name in SCRIPTS:
        call(folder, *make_flags(name), "--out", name)
    return folder


def make_flags(name, *more):
    """Return a script and the flags of a new run."""
    more += ("--batch-size", 4) if name == "progan_mnist" else ()
    return *get_command(name), "--steps", STEPS[name], "--average", 0.9, "--save-every", 0, *more


def list_runs(name):
    """Return the folders of a script's run, or of its stages."""
    return [f"{name}/{stage}" for stage in STAGES] if name == "progan_mnist" else [name]


# Real processes

@pytest.mark.host
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_killed_three_times(name, place, tmp_path):
    """Killed three times and resumed, it has the files of a run that was not killed.

    The growing networks are killed in each stage, which leaves those before it unchanged.
    """
    chance, run, killed = random.Random(name), tmp_path / "run", 0
    folders = [tmp_path / folder.replace(name, "run", 1) for folder in list_runs(name)]
    for i, step in enumerate((3, 3, 3) if len(folders) > 1 else (4, 9, 14)):
        path = folders[i % len(folders)] / "checkpoint.npz"
        script, *flags = make_flags(name)
        if has_begun(run):
            flags = ["--resume", "--save-every", 0]
        process = start_script(place, script, *flags, "--out", run)
        killed += kill_at(process, path, step + chance.randrange(4))
        assert len(folders) == 1 or all(same_files(place / name / stage, run / stage)
                                        for stage in STAGES[:i])
    assert killed
    assert "resumed" in call(place, SCRIPTS[name], "--resume", "--save-every", 0, "--out", run)
    assert same_files(place / name, run)


@pytest.mark.host
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sampled_and_evaluated(name, place, tmp_path):
    """sample.py and evaluate.py work with it; for a trial they need --module with its file."""
    module = [] if name == "progan_mnist" else ["--module", SCRIPTS[name]]
    for run in list_runs(name):
        commands = [(ROOT / "examples" / script, run) for script in ("sample.py", "evaluate.py")]
        for command, out in zip(commands, ("pictures", "table.json")):
            if module:
                line = read_refusal(place, *command)
                assert "which is not tinygan's" in line and "--module" in line
            call(place, *command, *module, "--out", tmp_path / out)
        written = {path.stem for path in (tmp_path / "pictures").iterdir()}
        ways = set() if name == "cycle" else {"linear", "spherical"}      # cycle has no noise
        assert written == {"samples", "nearest"} | ways | (
            {"pictures"} if module else set()) | (
            {"translated"} if name == "cycle" else set())
        size = 4 if module else 8
        side = 2 * (8 * (size + 2) - 2)
        assert read_png(tmp_path / "pictures" / "samples.png").shape == (side, side)
        found = json.loads((tmp_path / "table.json").read_text())
        assert found["n"] == (15 if name == "cycle" else 12)        # a tenth of the images
        assert all(np.isfinite(list(found["measures"]["samples"].values())))
        shutil.rmtree(tmp_path / "pictures")


@pytest.mark.host
@pytest.mark.parametrize("name, link", [("train.v2.py", None), ("link.py", "real.py")])
def test_a_script_is_found_by_its_file(name, link, place, tmp_path):
    """Its name may have dots, which are not those of packages, and it may be a link."""
    shutil.copy(SCRIPTS["labelled"], tmp_path / (link or name))
    if link:
        (tmp_path / name).symlink_to(link)
    _, *flags = make_flags("labelled")
    call(place, tmp_path / name, *flags, "--steps", 1, "--out", tmp_path / "run")
    call(place, ROOT / "examples" / "sample.py", tmp_path / "run", "--module", tmp_path / name)


@pytest.mark.host
def test_the_log_and_the_pictures_of_the_scripts(place):
    logged = {name: (place / list_runs(name)[0] / "log.csv").read_text().splitlines()[0].split(",")
              for name in SCRIPTS}
    plain = ["step", "D loss", "G loss", "D(x)", "D(G(z))"]
    assert logged == {"labelled": plain, "cycle": [*plain, "L_cyc"], "progan_mnist": [*plain, "W"]}
    shapes = {run: read_png(place / run / "samples.png").shape
              for name in SCRIPTS for run in list_runs(name)}
    # rows of one class, rows of two cycles there and back, and square grids; between four groups
    # of three there are three gaps of 6 more pixels
    assert {run: [(n / 2 + 2) / (10 if "progan" in run else 6) for n in shape]
            for run, shape in shapes.items()} == {
        "labelled": [3, 21], "cycle": [5, 12 + 3],
        **{f"progan_mnist/{stage}": [8, 8] for stage in STAGES}}


@pytest.mark.host
def test_a_conditional_game_with_instance_noise(place, tmp_path):
    """A conditional game with instance noise is trained and resumed; truncation keeps labels."""
    flags = [*make_flags("labelled", "--loss", "hinge", "--penalty", "gp", "--noise", 0.3)]
    call(place, *flags, "--out", tmp_path / "whole")
    process = start_script(place, *flags, "--out", tmp_path / "run")
    assert kill_at(process, tmp_path / "run" / "checkpoint.npz", 8)
    call(place, flags[0], "--resume", "--save-every", 0, "--out", tmp_path / "run")
    assert same_files(tmp_path / "whole", tmp_path / "run")
    game = command.load(tmp_path / "run", [SCRIPTS["labelled"]])
    plain, cut = (sample.draw_inputs(game, None, 40, limit, Random(3)) for limit in (None, 0.5))
    assert (plain[1] == cut[1]).all() and set(plain[1]) == {0, 1, 2}
    assert abs(cut[0]).max() <= 0.5 < abs(plain[0]).max()
    assert ((plain[0] == cut[0]) == (abs(plain[0]) <= 0.5)).all()
    call(place, ROOT / "examples" / "sample.py", tmp_path / "run", "--truncation", 0.5,
         "--module", SCRIPTS["labelled"])


@pytest.mark.host
def test_all_stages_are_replaced_before_the_first_step(place, tmp_path):
    """A replaced run that is killed in its first stage is not resumed with the old second stage."""
    run = tmp_path / "run"
    name = "progan_mnist"
    shutil.copytree(place / name, run)
    line = read_refusal(place, *make_flags(name), "--out", run)
    assert "2x2 holds a run" in line and same_files(place / name, run)
    line = read_refusal(place, SCRIPTS[name], "--resume", "--steps", 16, "--out", run)
    assert "has 7 steps, not 16" in line and same_files(place / name, run)
    for flag in "--overwrite", "--resume":
        line = read_refusal(place, *make_flags(name), flag, "--out", run / "8x8")
        assert "8x8 is the folder of a single run" in line and same_files(place / name, run)
    (tmp_path / "run" / "notes").mkdir()
    script, *flags = make_flags(name, "--seed", 1)
    process = start_script(place, script, *flags, "--overwrite", "--out", run)
    assert kill_at(process, run / "2x2" / "checkpoint.npz", 1, 7)        # in the new run
    call(place, script, "--resume", "--out", run)
    call(place, script, *flags, "--out", tmp_path / "new")
    assert same_files(tmp_path / "new", run) and (run / "notes").is_dir()


@pytest.mark.host
def test_a_run_depends_on_all_arrays_of_its_data(place, tmp_path):
    """A run cannot be resumed with other targets or other labels."""
    with np.load(place / "small.npz") as file:
        arrays = dict(file)
    for name, key in (("cycle", "targets"), ("labelled", "labels")):
        np.savez(tmp_path / "other.npz", **{**arrays, key: arrays[key][::-1]})
        line = read_refusal(place, SCRIPTS[name], "--resume", "--data", tmp_path / "other.npz",
                            "--out", name)
        assert "trained on other data" in line


@pytest.mark.host
def test_files_that_hold_no_classes_are_refused(place, tmp_path):
    (tmp_path / "json.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "reads.py").write_text("open('no such file')")
    (tmp_path / "half.py").write_text("class Half(:")
    for path, words in ((tmp_path / "nowhere.py", "no Python file"),
                        (tmp_path / "reads.py", "reads.py cannot be imported: FileNotFoundError: "),
                        (tmp_path / "half.py", "half.py cannot be imported: SyntaxError: invalid"),
                        (tmp_path / "notes.txt", "no Python file"),
                        (tmp_path / "json.py", "another module has the name")):
        with pytest.raises(UserError, match=words):
            command.load(place / "labelled", [path])
    assert str(tmp_path) not in sys.path        # failed loads leave it unchanged


# Views

def test_instance_noise_does_not_change_labels():
    game = labelled.ENTRY(views=[views.InstanceNoise(0.3)])
    data = Minibatches(make_grey_images(np.linspace(0.1, 0.9, 12)), 4, labels=np.arange(12) % 3)
    inputs = []
    game.discriminate = lambda what: inputs.append(what) or type(game).discriminate(game, what)
    x, z, _ = draw(game, data, 4, rng)
    game.losses(x, z)
    for (images, labels), clean in zip(inputs, [x, game.fake(x, z)], strict=True):
        assert labels.dtype.kind == "i" and (labels == clean[1]).all()
        assert 0.1 < (images.numpy() - clean[0].numpy()).std() < 0.5


# Learning

def train(game, data, m, steps, lr=1e-2):
    """Train a game for this number of steps and return the logged values, {name: values}."""
    opts = [optim.Adam(p, lr) for p in (game.d_parameters(), game.g_parameters())]
    logged = {}
    for _ in play(game, data, *opts, m, rng, steps):
        for name, value in game.logged.items():
            logged.setdefault(name, []).append(float(value))
    return logged


def make_grey_images(levels, size=4):
    """Return a nearly uniform image for each of these levels of grey."""
    noise = np.random.default_rng(0).normal(size=(len(levels), 1, size, size))
    return np.float32(np.reshape(levels, (-1, 1, 1, 1)) + 0.02 * noise)


@pytest.mark.numpy_only("hundreds of steps; test_contract.py tests each backend")
@pytest.mark.parametrize("loss, penalty", [
    *((loss, "none") for loss in labelled.LOSSES),
    *(("gan", penalty) for penalty in labelled.PENALTIES if penalty != "none")])
def test_a_conditional_game_learns_what_the_labels_mean(loss, penalty):
    """The samples of three classes are dark, grey and light, with any loss and any penalty.

    With the seeds 0 to 2, the mean light sample is at least 0.49 above the mean dark one.
    """
    labels = np.arange(96) % 3
    game = labelled.ENTRY(
        *make_labelled_networks(dropout=0.0), loss=labelled.LOSSES[loss],
        penalties=labelled.PENALTIES[penalty])
    game.keep_average(0.95)
    train(game, Minibatches(make_grey_images(0.1 + 0.4 * labels), 16, labels=labels), 16, 200)
    images, columns = game.pictures(game.fixed_inputs(None, 30, rng))
    dark, _, light = images.reshape(3, columns, -1).mean((1, 2))
    assert light - dark > 0.3


@pytest.mark.numpy_only("hundreds of steps; test_contract.py tests each backend")
def test_a_cycle_gan_learns_both_maps():
    """CycleGAN learns to map dark images to light ones and back."""
    game = cycle.ENTRY()
    dark, light = make_grey_images(np.linspace(0.1, 0.3, 64)), make_grey_images(np.linspace(0.7,
                                                                                            0.9,
                                                                                            80))
    logged = train(game, ZipMinibatches(Minibatches(dark, 8), Minibatches(light, 8)), 8, 150)
    assert np.mean(logged["L_cyc"][-20:]) < 0.2 * logged["L_cyc"][0]
    assert abs(game.sample(Tensor(dark)).mean() - 0.8) < 0.1


def test_the_image_pool():
    """replay() fills the pool; then it exchanges half of the images with older ones."""
    game, source, pool = cycle.ENTRY(pool=6), Random(0), {}
    for i in range(12):
        place, exchange = game.latent(4, source)
        new = [Tensor(backend.xp.full((4, 1, 4, 4), 100.0 * (1 + which) + i, "float32"))
               for which in (0, 1)]
        for which, replayed in enumerate(game.replay(tuple(new), (place, exchange))):
            for j, (at, old) in enumerate(zip(to_numpy(place), to_numpy(exchange))):
                mine = float(new[which].numpy()[j, 0, 0, 0])
                there = pool.setdefault((which, at), mine)
                assert (replayed.numpy()[j] == (there if old else mine)).all()
                pool[which, at] = mine if old else there
    for which, kept in enumerate((game.old_y, game.old_x)):
        assert to_numpy(kept)[:, 0, 0, 0].tolist() == [pool[which, at] for at in range(6)]
