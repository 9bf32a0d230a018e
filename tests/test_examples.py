"""Tests of the example scripts: what they print, write and refuse."""

import csv
import importlib
import io
import json
import math
import ntpath
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from tinygan import (Run, Tensor, UserError, backend, checkpoint, command, cpu, load, nn, optim)
from tinygan.data import Minibatches, as_floats, mnist, tasks
from tinygan.data.own import load_arrays
from tinygan.games import GAN, Hinge, catalogue, penalties, small
from tinygan.games.penalties import Lazy, R1
from tinygan.metrics import parzen_log_likelihood
from tinygan.networks import digits
from tinygan.random import Random

import numpy as np

from helpers import call_script, catch_training, without_reader
from test_data import idx, write
from test_image import read_png
from test_run import RUN_FILES, read_files, start_script, wait_for

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "examples"))
TRAINING = sorted(path.name for path in (ROOT / "examples").glob("*_mnist.py")
                  if path.name != "classifier_mnist.py")

pytestmark = pytest.mark.host


def run(script, *flags, cwd):
    """Run an example in this process, without a network or the user's cache; see call_script."""
    return call_script(cwd, ROOT / "examples" / script, *flags, **without_network(cwd))


def run_process(script, *flags, cwd, **environment):
    """Do the same in a process with this environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1",
                   **without_network(cwd), **environment}
    return subprocess.run([sys.executable, ROOT / "examples" / script, *map(str, flags)], cwd=cwd,
                          env=environment, capture_output=True, text=True, timeout=120)


def without_network(cwd):
    """Return the environment without a network, and with a cache in the folder `cwd`."""
    return {"XDG_CACHE_HOME": str(cwd / "cache"), "LOCALAPPDATA": str(cwd / "cache"),
            "https_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}


def run_all(calls):
    """Return the results of run(*call[:-1], cwd=call[-1]) for each call."""
    return [run(*call[:-1], cwd=call[-1]) for call in calls]


def read_refusal(*args, cwd):
    """Run an example that must fail and return the last line of its stderr."""
    return last_line_of_refusal(run(*args, cwd=cwd))


def last_line_of_refusal(process):
    """Return the last line of the stderr of an example that must have failed."""
    assert process.returncode != 0 and "Traceback" not in process.stderr, process.stderr
    return process.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory):
    """Return {script: (the process of its dry run, the folder in which it ran)}."""
    folders = {script: tmp_path_factory.mktemp("dry") for script in TRAINING}
    small = [["--channels", 8] if "--channels" in (ROOT / "examples" / script).read_text(
        encoding="utf-8") else [] for script in TRAINING]
    processes = run_all([(script, "--dry-run", *flags, folders[script])
                         for script, flags in zip(TRAINING, small)])
    return {script: (process, folders[script]) for script, process in zip(TRAINING, processes)}


@pytest.mark.parametrize("script", TRAINING)
def test_dry_run_does_everything_once_and_keeps_nothing(script, dry_runs):
    process, folder = dry_runs[script]
    assert process.returncode == 0, process.stderr
    assert "step 2/2" in process.stdout and "bundled sample" in process.stdout
    assert not any(folder.iterdir())


def test_benchmark_dry_run(tmp_path):
    """A dry run has a row for each library that is installed."""
    process = run_process("benchmark.py", "--dry-run", "--cores", 1, "--batch", 8, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    head, _, _, ours, *peers = process.stdout.splitlines()
    assert len(peers) == 1 + sum(f"no {peer}" not in head for peer in ("PyTorch", "JAX"))
    name, library, milliseconds, *_, megabytes = ours.split()
    assert (name, library) == ("gan", "tinygan")
    assert float(milliseconds) > 0 and float(megabytes) > 10


def test_the_benchmarks_workers_have_its_settings(monkeypatch):
    """Each worker is told the batch size and the number of cores, and uses this batch size."""
    import benchmark
    commands, sizes = [], []

    def popen(words, **kwargs):
        commands.append(words[3:])
        raise SystemExit
    monkeypatch.setattr(benchmark, "BATCH", dict(benchmark.BATCH))
    monkeypatch.setattr(sys, "argv", "benchmark.py --batch 7 --cores 1 --workload dcgan".split())
    monkeypatch.setattr(benchmark.subprocess, "Popen", popen)
    with pytest.raises(SystemExit):
        benchmark.main()
    assert commands == [["tinygan", "dcgan", "numpy", "7", "1"]]
    monkeypatch.setattr(benchmark, "tinygan_iteration", lambda workload, *_: lambda: sizes.append(
        benchmark.BATCH[workload]))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    benchmark.serve("tinygan", "sngan", "numpy", "9", "0")
    assert sizes == [9]


@pytest.mark.parametrize("script", ["dirac.py", "mixtures.py"])
def test_dry_run_of_the_scripts_in_the_plane(script, tmp_path):
    process = run(script, "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "no files are kept" in process.stdout and not any(tmp_path.iterdir())


def test_theory_prints_its_table(tmp_path):
    """The numbers are tested by the tests that call the same functions."""
    process = run("theory.py", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert len(re.findall(r"^\|.*\| -?[.\d]+ \| -?[.\d]+ \|$", process.stdout, re.M)) == 9


def test_dirac_prints_its_table_and_draws_trajectories(tmp_path):
    """The numbers are tested in test_dirac.py."""
    process, far = run_all([("dirac.py", "--steps", 20, "--out", "d", tmp_path),
                            ("dirac.py", "--lr", 10, "--steps", 60, "--out", "far", tmp_path)])
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) == 2 + 10 + 1 and "WGAN-GP, lam 0.35" in process.stdout
    picture = read_png(tmp_path / "d" / "trajectories.png")         # two rows of ten planes
    assert picture.shape == (2 * 160 + 4, 10 * 160 + 9 * 4, 3)
    # most games diverge with --lr 10
    assert far.returncode == 0 and far.stderr == "" and "nan" in far.stdout


def test_mixtures_trains_every_game_from_the_same_seeds(tmp_path):
    """Each run has a line in the summary and a folder; there is one picture of all runs.

    A run depends on its seed, and not on the runs before it.
    """
    flags = ["--steps", 5, "--batch-size", 16, "--width", 16]
    first, again = run_all([
        ("mixtures.py", "--game", "all", "--seeds", 1, *flags, "--out", "a", tmp_path),
        ("mixtures.py", "--game", "wgan", "r1", "--seeds", 0, 1, *flags, "--out", "b", tmp_path)])
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    read = lambda process: re.findall(r"^(\w+) +seed (\d)  modes \d+  HQ \d.* %  reverse KL ",
                                      process.stdout, re.M)
    assert sorted(read(again)) == [("r1", "0"), ("r1", "1"), ("wgan", "0"), ("wgan", "1")]
    runs = read(first)
    import mixtures
    assert len(runs) == len(set(runs)) == len(mixtures.PLANE)
    # all games without labels, codes, stages and levels, and one that needs no class of its own
    assert set(mixtures.PLANE) == {"minibatch"} | {
        name for name, entry in catalogue.GAMES.items()
        if entry.examples is small.make_images} - {"infogan", "progan", "lapgan", "singan"}
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"grid-{game}-{seed}" for game, seed in runs} | {"grid.png"}
    for folder in ("grid-wgan-1", "grid-r1-1"):
        assert read_files(tmp_path / "a" / folder) == read_files(tmp_path / "b" / folder)
    assert {path.name for path in (tmp_path / "a" / "grid-gan-1").iterdir()} == RUN_FILES
    assert read_png(tmp_path / "a" / "grid-gan-1" / "samples.png").shape == (240, 240, 3)
    shapes = [read_png(tmp_path / out / "grid.png").shape for out in ("a", "b")]
    assert shapes == [(rows * 242 - 2, columns * 242 - 2, 3)
                      for rows, columns in ((1, len(mixtures.PLANE)), (2, 2))]


def stop_mixtures(monkeypatch, tmp_path, folder, step, *flags):
    """Run mixtures.py in this process, with a Ctrl-C at this step of the run in `folder`."""
    import mixtures

    def measure(run, i, measure=mixtures.PlaneRun.measure):
        if run.folder == folder and i == step:
            signal.raise_signal(signal.SIGINT)
        return measure(run, i)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", [str(ROOT / "examples" / "mixtures.py"), *map(str, flags)])
        patch.setattr(mixtures.PlaneRun, "measure", measure)
        with pytest.raises(SystemExit) as stop:
            mixtures.main()
    assert stop.value.code == 128 + signal.SIGINT


def test_mixtures_that_were_stopped_are_resumed(tmp_path, monkeypatch, capsys):
    """After a stop in the second of three runs, the printed command completes all of them.

    It restores the first run, resumes the second and begins the third. The files are those of runs
    that were not stopped.
    """
    flags = ["--game", "gan", "wgan_gp", "r1", "--width", 8, "--batch-size", 16, "--sigma", 0.1,
             "--steps", 15]
    whole = run("mixtures.py", *flags, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    stop_mixtures(monkeypatch, tmp_path, "a part/grid-wgan_gp-0", 2, *flags, "--out", "a part")
    told = r"stopped after step 2 of 3 with a checkpoint in a part/grid-wgan_gp-0; .*\n(.*)\n"
    python, script, *words = shlex.split(re.search(told, capsys.readouterr().err)[1])
    assert python == sys.executable and script == str(ROOT / "examples" / "mixtures.py")
    assert not (tmp_path / "a part" / "grid-r1-0").exists()
    rest = run("mixtures.py", *words, cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert re.findall(r"^resumed after step (\d+)", rest.stdout, re.M) == ["15", "2"]
    assert rest.stdout.splitlines()[-4:-1] == whole.stdout.splitlines()[-4:-1]
    assert read_files(tmp_path / "a part") == read_files(tmp_path / "whole")


def test_the_command_that_resumes_a_run(tmp_path, monkeypatch, capsys):
    """A folder that begins with a dash is no flag. Without a reader of stderr, nothing is said."""
    run = types.SimpleNamespace(stopped=2, step=1, steps=3, folder="x", play=mock_stop)
    monkeypatch.setattr(sys, "argv", ["gan_mnist.py"])
    for out, words in (("-x", "--out=-x --resume"), ("a b", "--out 'a b' --resume")):
        args = types.SimpleNamespace(out=out, dry_run=False)
        with pytest.raises(SystemExit) as stop:
            command.play(args, run)
        assert stop.value.code == 130
        assert capsys.readouterr().err.endswith(f"gan_mnist.py {words}\n")
    with without_reader(monkeypatch), pytest.raises(SystemExit) as stop:
        command.play(args, run)
    assert stop.value.code == 130


def mock_stop():
    raise KeyboardInterrupt


def test_a_home_folder_is_found_in_out(tmp_path, monkeypatch):
    """The shell leaves ~ as it is in --out=~/run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for make in (command.run_parser, command.game_parser):
        args = make("", *([5] if make is command.game_parser else []), 8, "runs/x").parse_args(
            ["--out=~/run"])
        assert args.out == str(tmp_path / "run")


def test_mixtures_measure_ten_times_during_a_run(tmp_path):
    """The measures are in the log and in the curves; the last ones are printed."""
    process = run("mixtures.py", "--game", "gan", "--width", 8, "--batch-size", 16, "--steps", 50,
                  "--out", "m", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "m" / "grid-gan-0"
    head, *lines = ((folder / "log.csv").read_text()).splitlines()
    rows = [dict(zip(head.split(","), line.split(","))) for line in lines]
    assert [int(row["step"]) for row in rows if row["modes"]] == [*range(5, 51, 5)]
    modes, quality = re.findall(r"^gan +seed 0  modes (\d+)  HQ (\S+) %", process.stdout, re.M)[0]
    assert rows[-1]["modes"] == modes and f"{float(rows[-1]['HQ %']):.1f}" == quality
    svg = (folder / "losses.svg").read_text()
    assert svg.count("<clipPath") == 2 + 2 + ("reverse KL" in head)         # one for each panel


def test_mixtures_refuse_another_run_and_lose_nothing(tmp_path):
    flags = {"--game": "gan", "--width": 8, "--batch-size": 16, "--sigma": 0.1, "--steps": 3}

    def words(**other):
        new = flags | {f"--{name.replace('_', '-')}": value for name, value in other.items()}
        return ["mixtures.py", *(word for flag in new.items() for word in flag), "--out", "m"]
    process = run(*words(), cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    before = read_files(tmp_path / "m")
    for other, said in [(dict(batch_size=8), "has the batch size 16, not 8"),
                        (dict(width=9), "other networks or settings"),
                        (dict(sigma=0.2), "other networks or settings"),
                        (dict(lr=0.1), "other networks or settings"),
                        (dict(steps=4), "other networks or settings")]:
        assert said in read_refusal(*words(**other), "--resume", cwd=tmp_path)
    line = read_refusal("mixtures.py", "--game", "r1", "gan", "--steps", 3, "--out", "m",
                        cwd=tmp_path)
    assert "m/grid-gan-0 holds a run: resume it by --resume" in line
    assert read_files(tmp_path / "m") == before         # and no other run has been started


def test_mixtures_that_replace_others_resume_the_new_ones_only(tmp_path, monkeypatch, capsys):
    """--overwrite removes all old runs at the start, so that --resume finds new ones only."""
    flags = ["--game", "gan", "r1", "--width", 8, "--batch-size", 16, "--out", "m"]
    assert run("mixtures.py", *flags, "--steps", 3, cwd=tmp_path).returncode == 0
    for name in ("notes.txt", "samples/best.png"):
        (tmp_path / "m" / "grid-r1-0" / name).write_text("mine")
    checkpoint_file = tmp_path / "m" / "grid-r1-0" / "checkpoint.npz"
    good, before = checkpoint_file.read_bytes(), read_files(tmp_path / "m")
    checkpoint_file.write_bytes(b"mine")
    assert "replaces only runs" in read_refusal("mixtures.py", *flags, "--overwrite", cwd=tmp_path)
    checkpoint_file.write_bytes(good)
    assert read_files(tmp_path / "m") == before
    stop_mixtures(monkeypatch, tmp_path, "m/grid-gan-0", 2, *flags, "--steps", 3, "--overwrite")
    assert read_files(tmp_path / "m" / "grid-r1-0") == {"notes.txt": b"mine",
                                                        "samples/best.png": b"mine"}
    words = shlex.split(capsys.readouterr().err.splitlines()[-1])[2:]
    assert "--resume" in words and "--overwrite" not in words
    assert run("mixtures.py", *words, cwd=tmp_path).returncode == 0
    assert read_files(tmp_path / "m") == before


def test_mixtures_do_not_resume_another_experiment(tmp_path):
    """--resume alone would start the default game beside the runs that are there."""
    flags = ["--mixture", "ring", "--game", "gan", "--width", 8, "--steps", 5, "--out", "m"]
    assert run("mixtures.py", *flags, cwd=tmp_path).returncode == 0
    line = read_refusal("mixtures.py", "--resume", "--out", "m", cwd=tmp_path)
    assert "m holds ring-gan-0, but no run of the default game" in line
    assert run("mixtures.py", "--resume", "--game", "r1", "--width", 8, "--steps", 5, "--out", "m",
               cwd=tmp_path).returncode == 0


def test_the_picture_of_the_plane_is_the_right_way_up():
    """x increases to the right and y upwards, for the scores of D and for the points."""
    import mixtures
    # the picture shows the square [-1, 1] x [-1, 1]
    one = mixtures.mixtures.Mixture(np.array([[-0.4, 0.8]], np.float32), 0.01)
    D = nn.Sequential(nn.Dense(2, 1))
    D.load_state_dict({"0.weight": [[1.0, 2.0]], "0.bias": [0.0]})
    game = GAN(mixtures.Scale(0.0), D, 2)      # all samples are at (0, 0)
    pixels = mixtures.draw(game, one, game.latent(9, Random(0)), 80).astype(int)
    bright = pixels.sum(0)
    assert bright[0, -1] > bright[0, 0] > bright[-1, -1] > bright[-1, 0]    # scores 3, 1, -1, -3
    rows, columns = np.nonzero((pixels.T == (240, 130, 0)).all(2).T)
    assert abs(rows.mean() - 8) < 1 and abs(columns.mean() - 24) < 1        # (-0.4, 0.8)
    rows, columns = np.nonzero((pixels.T == (0, 50, 220)).all(2).T)
    assert (rows, columns) == (40, 40)


def make_plane_run(folder, name, **flags):
    """Return a small run of mixtures.py on the ring with these flags."""
    import mixtures
    small = dict(mixture="ring", width=5, steps=10, sigma=0.0, lr=0.1, batch_size=4,
                 save_every=30.0, resume=False)
    return mixtures.PlaneRun(folder, name, 3, types.SimpleNamespace(**{**small, **flags}))


def test_mixtures_begin_from_the_same_weights(tmp_path):
    """With the same seed, all games have the same initial G, and D if theirs is that of the GAN."""
    import mixtures
    other_D, networks = {"bigan", "ali", "veegan", "pacgan", "minibatch", "feature_matching"}, []
    for name in mixtures.PLANE:
        game = make_plane_run(tmp_path, name).game
        networks.append({key.removesuffix("_orig"): p.numpy() for key, p in
                         game.named_arrays(Tensor).items()
                         if name not in other_D or key.startswith("G.")})
    for name, arrays in zip(mixtures.PLANE, networks):
        assert name in other_D or arrays.keys() == networks[0].keys()
        assert all((a == networks[0][key]).all() for key, a in arrays.items()), name


@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp", "sngan"])
def test_the_learning_rates_of_both_players_end_together(name, tmp_path):
    """Both learning rates reach 0 at the last step, for any number of steps of D.

    Instance noise has ended by then.
    """
    run = make_plane_run(tmp_path, name, sigma=0.3)
    (noise,) = run.game.views
    assert noise.noise.sigma == pytest.approx(0.3)
    run.play()
    for opt in run.optimisers.values():
        assert opt.lr(opt.t) == pytest.approx(0.0, abs=1e-12) and opt.lr(opt.t - 1) > 1e-3
    assert noise.noise.sigma == pytest.approx(0.0 if name == "gan" else 0.3 - 0.3 / 1.6)


def test_every_flag_of_the_paper_examples_makes_a_difference(tmp_path):
    """Any two settings of a script give different weights after two steps with the same seed."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(
        256, size=(40, 8, 8), dtype=np.uint8))
    small = ["--channels", 2, "--steps", 2, "--batch-size", 8, "--data", "images.npy"]
    for script, settings in {
            "dcgan_mnist.py": [["--lr", 1e-2], ["--channels", 3], ["--average", 0.5],
                               ["--game", "ragan"], ["--game", "hinge"], ["--paper"]],
            "wgan_mnist.py": [["--lr", 1e-2], ["--c", 0.2], ["--n-critic", 2], ["--warm-up"],
                              ["--paper"]],
            "wgan_gp_mnist.py": [["--lr", 1e-2], ["--beta1", 0.5], ["--lam", 0.0],
                                 ["--n-critic", 2], ["--paper"]],
            "sngan_mnist.py": [["--lr", 1e-2], ["--n-dis", 2], ["--paper"]]}.items():
        outs = [tmp_path / script / str(i) for i in range(1 + len(settings))]
        for process in run_all([(script, *small, *flags, "--out", out, tmp_path)
                                for out, flags in zip(outs, [[], *settings])]):
            assert process.returncode == 0, process.stderr
        assert len({read_weights(out) for out in outs}) == len(outs), script


def read_weights(folder):
    """Return the bytes of all arrays of the game in a run's checkpoint."""
    arrays = checkpoint.read(folder / "checkpoint.npz").arrays
    return b"".join(a.tobytes() for name, a in arrays.items() if name.startswith("game."))


def test_bad_input_to_other_scripts_is_refused_in_one_line(tmp_path):
    cases = [
        ("dcgan_mnist.py", ["--lr", -1], ["'-1'", "above 0"]),
        ("dcgan_mnist.py", ["--lr", 1e30, "--dry-run"], ["nan", "learning rate"]),
        ("wgan_mnist.py", ["--c", 0], ["--c", "above 0"]),
        ("wgan_mnist.py", ["--warm-up", "--n-critic", 3], ["--n-critic", "--warm-up"]),
        ("wgan_gp_mnist.py", ["--beta1", 1], ["'1'", "below 1"]),
        ("wgan_gp_mnist.py", ["--lam", "nan"], ["'nan'", "at least 0"]),
        ("sngan_mnist.py", ["--n-dis", 0], ["'0'", "at least 1"]),
        ("mixtures.py", ["--sigma", -1], ["'-1'", "at least 0"]),
        ("mixtures.py", ["--game", "gans"], ["'gans'", "ragan"]),
        ("mixtures.py", ["--lr", 1e9, "--steps", 40, "--width", 8],
         ["loss has become", "by step 1", "smaller learning rate"]),
        ("dirac.py", ["--lr", 1e300], ["--lr up to 10"])]
    processes = run_all([(script, *flags, tmp_path) for script, flags, _ in cases])
    for process, (_, _, words) in zip(processes, cases):
        line = last_line_of_refusal(process)
        assert all(word in line for word in words), line


def test_flags_without_effect_are_refused(tmp_path):
    cases = [("gan_mnist.py", ["--width", 2], "--width: it has no effect without --r1"),
             ("gan_mnist.py", ["--paper", "--gamma", 1], "--gamma: it has no effect without --r1"),
             ("gan_mnist.py", ["--lazy", 4], "--lazy: it has no effect without --r1"),
             ("gan_mnist.py", ["--r1", "--lazy", 4, "--gamma", 0],
              "--lazy: it has no effect without a --gamma above 0"),
             ("acgan_mnist.py", ["--reals-only", "--lam", 0],
              "--reals-only: it has no effect without a --lam above 0"),
             ("stacked_mnist.py", ["--game", "gan", "--gamma", 0.1], "--gamma: it has no effect"),
             ("stacked_mnist.py", ["--crippled", "--width", 2], "without networks of full size")]
    processes = run_all([(script, "--dry-run", *flags, tmp_path) for script, flags, _ in cases])
    for process, (*_, words) in zip(processes, cases):
        assert process.returncode == 2 and words in last_line_of_refusal(process)


def test_help_is_printed_where_letters_are_missing(tmp_path):
    process = run_process("evaluate.py", "--help", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert process.returncode == 0, process.stderr


def test_labels_with_gaps_are_refused(tmp_path):
    """A network would have a class that no training image has, and G would be asked to draw it."""
    images = np.random.default_rng(0).uniform(size=(40, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "gap.npz", images=images, labels=np.arange(40) % 4 * 10 ** 12)
    np.savez(tmp_path / "from1.npz", images=images, labels=np.arange(40) % 4 + 1)
    scripts = "conditional_mnist.py", "acgan_mnist.py", "projection_mnist.py", "stargan_mnist.py"
    calls = [(script, "--data", file, "--steps", 1, *(["--task", "none"] if "stargan" in script
                                                      else []), tmp_path)
             for script, file in zip(scripts, ("gap.npz", "from1.npz") * 2)]
    for process, (_, _, file, *_) in zip(run_all(calls), calls):
        label, most = (1, 3 * 10 ** 12) if file == "gap.npz" else (0, 4)
        line = last_line_of_refusal(process)
        assert f"go up to {most}, but no training image has the label {label}" in line


def test_every_setting_of_gan_mnist_makes_a_difference(tmp_path):
    """Any two settings give different weights after two steps with the same seed."""
    settings = [[], ["--k", 2], ["--g-loss", "saturating"], ["--order", "simultaneous"],
                ["--r1"], ["--r1", "--lazy", 2], ["--paper"], ["--paper", "--order", "alternating"]]
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(
        256, size=(200, 8, 8), dtype=np.uint8))
    outs = [tmp_path / str(i) for i in range(len(settings))]
    for process in run_all([("gan_mnist.py", *flags, "--steps", 2, "--data", "images.npy",
                             *(["--batch-size", 16] if "--paper" not in flags else []),
                             "--out", out, tmp_path) for out, flags in zip(outs, settings)]):
        assert process.returncode == 0, process.stderr
    assert len({read_weights(out) for out in outs}) == len(settings)
    about = checkpoint.read(outs[1] / "checkpoint.npz").about        # of --k 2: D has four steps
    assert "'steps': 4" in str(about["optimisers"]["d_opt"]["arguments"]["lr"])


ADAM = dict(kind=optim.Adam, eps=1e-8)
OF_WGAN_GP = dict(z_size=128, penalties=[penalties.GradientPenalty(10.0)])
# {call: (settings of both optimisers, learning rates of D and G, (steps, batch size, average),
# (slope of D's LeakyReLU, channels of its first layer, number of its batch normalisations),
# standard deviation of the initial weights of G's first layer, settings of the game)}
SETTINGS = {
    "dcgan_mnist --paper": (dict(ADAM, betas=(0.5, 0.999)), (2e-4, 2e-4), (3900, 128, None),
                            (0.2, 64, 2), 0.02, dict(d_steps=1)),
    "wgan_mnist --paper": (dict(kind=optim.RMSProp), (5e-5, 5e-5), (20_000, 64, None),
                           (0.2, 64, 2), 0.02, dict(d_steps=5, c=0.01)),
    "wgan_gp_mnist --paper": (dict(ADAM, betas=(0.5, 0.9)), (1e-4, 1e-4), (20_000, 50, None),
                              (0.2, 64, 0), math.sqrt(2 / (128 + 4096)),
                              dict(OF_WGAN_GP, d_steps=5)),
    "sngan_mnist --paper": (dict(ADAM, betas=(0.0, 0.9)), (2e-4, 2e-4), (20_000, 64, None),
                            (0.1, 64, 0), 0.1, dict(d_steps=5, z_size=128)),
    "dcgan_mnist": (dict(ADAM, betas=(0.5, 0.999)), (2e-3, 2e-3), (15_000, 64, 0.998),
                    (0.2, 16, 2), 0.02, dict(d_steps=1)),
    "wgan_mnist": (dict(kind=optim.RMSProp), (1e-3, 2e-3), (13_000, 64, 0.998),
                   (0.2, 16, 2), math.sqrt(2 / (100 + 128)), dict(d_steps=1, c=0.1)),
    "wgan_gp_mnist": (dict(ADAM, betas=(0.0, 0.9)), (3e-3, 3e-3), (13_000, 64, 0.998),
                      (0.2, 16, 0), math.sqrt(2 / (128 + 128)), dict(OF_WGAN_GP, d_steps=1)),
    "sngan_mnist": (dict(ADAM, betas=(0.0, 0.9)), (3e-3, 3e-3), (13_000, 64, 0.998),
                    (0.2, 16, 0), math.sqrt(2 / (128 + 128)), dict(d_steps=1, z_size=128)),
}


@pytest.mark.parametrize("call", SETTINGS)
def test_the_settings_of_recipes_and_of_papers(call):
    """With --paper, the settings are those of the paper or its code, and no average is kept.

    Without, they are those of the results in examples/results.jsonl, whose commands have no flags:
    a recipe that changes needs new results.
    """
    made = catch_training(*call.split(), data=mnist.load_sample())
    game, args = made.game, made.args
    settings, (d_lr, g_lr), training, of_d, std, own = SETTINGS[call]
    for opt, lr, parameters in ((made.d_opt, d_lr, game.d_parameters()),
                                (made.g_opt, g_lr, game.g_parameters())):
        assert {"kind": type(opt), **{name: getattr(opt, name) for name in settings
                                      if name != "kind"}} == settings
        assert opt.lr == lr and opt.parameters == parameters
    assert (args.steps, args.batch_size, args.average) == training
    assert len(next(made.batches)) == args.batch_size
    leaky, convs, norms = [[layer for layer in game.D.layers if isinstance(layer, kind)]
                            for kind in (nn.LeakyReLU, nn.Conv2d, nn.BatchNorm)]
    assert (leaky[0].slope, convs[0].c_out, len(norms)) == of_d
    assert len({layer.slope for layer in leaky}) == 1
    assert {name: getattr(game, name) for name in own} == own
    # the standard error of the standard deviation is std / sqrt(2n); the tolerance is 5 times that
    weights = game.G.layers[0].weight.numpy()
    assert math.isclose(weights.std(), std, rel_tol=5 / math.sqrt(2 * weights.size))


# {call: ((steps, batch size, average), (number of D's parameters, of G's), settings of the game)}
RECIPES = {
    "gan_mnist": ((7000, 64, None), (209_617, 225_377), dict(d_steps=1)),
    "gan_mnist --r1": ((13_000, 64, 0.9995), (209_457, 225_377), dict(penalties=[R1(0.3)])),
    "conditional_mnist": ((4500, 64, None), (210_897, 226_657), dict(d_steps=1)),
    "acgan_mnist": ((4500, 64, None), (210_907, 226_657), dict(lam=1, on_fakes=True)),
    "acgan_mnist --reals-only": ((4500, 64, None), (210_907, 226_657), dict(on_fakes=False)),
    "projection_mnist": ((4500, 64, None), (210_897, 226_657), dict(penalties=[])),
    "projection_mnist --r1": ((9000, 64, None), (210_737, 226_657), dict(penalties=[R1(1.0)])),
    "projection_mnist --paper": ((20_000, 64, None), (806_785, 960_257),
                                 dict(d_steps=5, z_size=128, penalties=[])),
    "infogan_mnist": ((3000, 64, None), (218_717, 222_049), dict(lam=0.1, on_g=True, z_size=62)),
    "infogan_mnist --side": ((3000, 64, None), (218_717, 222_049), dict(lam=0.1, on_g=False)),
    "infogan_mnist --paper": ((5000, 128, None), None, dict(lam=1)),
    "bigan_mnist": ((6000, 64, None), (232_369, 434_915), dict(penalties=[R1(0.1)])),
    "bigan_mnist --ali": ((6000, 64, None), (232_369, 441_365), dict(penalties=[R1(0.1)])),
    "semi_supervised_mnist": ((10_800, 100, None), None, dict(lam=0.5)),
    "sagan_mnist": ((4000, 64, 0.998), (211_058, 256_514), dict(d_steps=1, z_size=100)),
    "stylegan_mnist": ((4000, 64, 0.995), (251_705, 93_065),
                       dict(penalties=[Lazy(R1(0.2), 4)], z_size=64)),
    "few_mnist": ((20_000, 64, None), (209_617, 225_377), dict(views=[])),
    "stacked_mnist --samples 2": ((20_000, 64, None), (209_969, 245_859),
                                  dict(penalties=[R1(1.0)])),
    "pix2pix_mnist": ((5000, 32, None), (34_977, 255_153), dict(lam=200)),
    "cyclegan_mnist": ((1200, 8, None), (131_242, 153_162),
                       dict(lam_forward=20, lam_backward=20, lam_identity=0)),
    "stargan_mnist": ((4000, 16, None), (68_060, 93_061),
                      dict(lam_cls=1, lam_rec=20, lam_identity=0, penalties=[])),
    "spade_scenes": ((4000, 16, None), (37_409, 291_537), dict(lam=0, z_size=64)),
}
TASKS = {"pix2pix_mnist": "half", "cyclegan_mnist": "outline", "stargan_mnist": "styles"}


@pytest.mark.parametrize("call", RECIPES)
def test_the_recipes_of_the_published_results(call, monkeypatch):
    """They are those of examples/results.jsonl: a recipe that changes needs new results."""
    import stacked_mnist
    monkeypatch.setattr(stacked_mnist, "measure_stacked", lambda net, x: None)
    script = call.split()[0]
    data = mnist.load_sample()
    if script in TASKS:
        few = data._replace(train=data.train.part(slice(64)), valid=data.valid.part(slice(64)),
                            test=data.test.part(slice(0)))      # nothing to measure
        data = tasks.make_task(TASKS[script], few)
    elif script == "spade_scenes":
        data = tasks.load_scenes(16)._replace(place="mine")     # measures nothing either
    made = catch_training(*call.split(), data=data)
    training, sizes, settings = RECIPES[call]
    assert (made.args.steps, made.args.batch_size, made.args.average) == training
    assert made.batches.m == made.args.batch_size
    parameters = made.game.d_parameters(), made.game.g_parameters()
    assert sizes in (None, tuple(sum(p.size for p in player) for player in parameters))
    assert {name: getattr(made.game, name) for name in settings} == settings


@pytest.mark.parametrize("penalised, rates, betas", [
    (False, (3e-3, 4e-3), (0.5, 0.999)), (True, (1e-3, 1e-3), (0.0, 0.99))])
def test_the_settings_that_several_recipes_share(penalised, rates, betas):
    """They too are those of the results in examples/results.jsonl."""
    G, D = digits.generator(), digits.discriminator(batch_norm=not penalised)
    shapes = [[p.shape for p in net.parameters() if p.ndim > 1] for net in (G, D)]
    assert shapes == [[(128, 100), (1568, 128), (32, 16, 4, 4), (16, 1, 4, 4)],
                      [(16, 1, 4, 4), (32, 16, 4, 4), (128, 1568), (1, 128)]]
    assert [layer.slope for _, layer in D.modules() if isinstance(layer, nn.LeakyReLU)] == [0.2] * 3
    he = math.sqrt(2 / 1568)
    stds = [math.sqrt(2 / (100 + 128)), math.sqrt(2 / (128 + 1568)), 0.02, 0.02,     # Glorot's
            0.02, 0.02, he if penalised else 0.02, 0.02]
    for p, std in zip([p for p in (*G.parameters(), *D.parameters()) if p.ndim > 1], stds,
                      strict=True):
        # of a standard deviation, the standard error is std / sqrt(2n)
        assert math.isclose(p.numpy().std(), std, rel_tol=5 / math.sqrt(2 * p.size))
    optimisers = digits.make_optimisers(G, D, 90, penalised, d_steps=2)
    for opt, network, rate, steps in zip(optimisers, (D, G), rates, (180, 90)):
        assert type(opt) is optim.Adam and opt.betas == betas
        assert opt.parameters == network.parameters()
        assert [opt.lr(t) for t in (0, steps // 3, steps)] == pytest.approx([rate, rate * 0.75, 0])


def test_paper_has_the_papers_networks_and_settings():
    """The networks and optimisers have the numbers of the published mnist.yaml.

    The images are grey, except for one black pixel.
    """
    import gan_mnist
    images = np.full((100, 1, 28, 28), 51, np.uint8)
    images[:, 0, 0, 0] = 0
    G, D, d_opt, g_opt = gan_mnist.paper(images, 10)        # an epoch is 10 steps
    dense = [layer for layer in G.layers if isinstance(layer, nn.Dense)]
    assert [layer.weight.shape for layer in dense] == [(1200, 100), (1200, 1200), (784, 1200)]
    dropped, maxouts = [[layer for layer in D.layers if isinstance(layer, kind)]
                        for kind in (nn.Dropout, nn.Maxout)]
    assert [layer.p for layer in dropped] == [0.2, 0.5, 0.5]
    assert [layer.pieces for layer in maxouts] == [5, 5]
    assert [layer.weight.shape for layer in maxouts] == [(5 * 240, 784), (5 * 240, 240)]
    for layers, bound in ((dense, 0.05), ([*maxouts, D.layers[-1]], 0.005)):
        for layer in layers:        # the largest of n weights is about bound / n below the bound
            largest = abs(layer.weight.numpy()).max()
            assert bound * (1 - 20 / layer.weight.data.size) <= largest <= bound * (1 + 1e-6)
    pixels = 1 / (1 + np.exp(-dense[-1].bias.numpy()))      # G's initial samples: the mean image
    assert abs(pixels[1:] - 0.2).max() < 1e-6 and pixels[0] < 1e-6
    for opt, lr in ((d_opt, 0.05), (g_opt, 0.1)):
        assert isinstance(opt, optim.SGD) and opt.lr(0) == lr
        assert math.isclose(opt.lr(1000), lr / 1.000004 ** 1000)
        assert opt.lr(10**7) == 1e-6
        assert [opt.momentum(t) for t in (0, 1250, 2500, 9999)] == pytest.approx(
            [0.5, 0.6, 0.7, 0.7])       # from 0.5 to 0.7 over 250 epochs


def test_paper_has_the_papers_batch_size(tmp_path):
    """The batch size is 100: a file with 99 training and 19 validation images is refused."""
    images, labels = np.full((118, 28, 28), 9, np.uint8), np.zeros(118, np.uint8)
    folder = write(tmp_path / "data", dict(zip(mnist.FILES, map(idx, [images, labels] * 2))))
    line = read_refusal("gan_mnist.py", "--paper", "--data", folder, cwd=tmp_path)
    assert "99 training examples" in line and "minibatch of 100" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_and_closed_pipe_end_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "examples" / "gan_mnist.py", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True,
                                 timeout=60, env=environment)
    assert process.returncode != 0 and "No space left" in process.stderr
    assert "Traceback" not in process.stderr


def test_gan_mnist_offline_trains_on_the_sample_and_repeats_bit_for_bit(tmp_path):
    """Without a network, one line says that the sample is used; a seed gives the same files."""
    flags = ["--steps", 12, "--batch-size", 16]
    first, other = run_all([("gan_mnist.py", *flags, "--seed", seed, "--out", out, tmp_path)
                            for seed, out in ((1, "a"), (2, "c"))])
    # another process has other hashes; the rounding of products depends on the number of threads
    again = run_process("gan_mnist.py", *flags, "--seed", 1, "--out", "b", cwd=tmp_path,
                        OPENBLAS_NUM_THREADS=str(cpu.THREADS))
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    source = first.stdout.splitlines()[0]
    assert "bundled sample" in source and "because" in source and "--data DIR" in source
    last = first.stdout.splitlines()[-2]
    assert re.search(r"step 12/12 .*/s .* left .*D loss .*G loss "
                     r".*D\(x\) 0\.\d+ .*D\(G\(z\)\) 0\.\d+", last)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "settings.json", "samples", "samples.png", "training.png", "log.csv", "losses.svg",
        "checkpoint.npz"}
    pictures = sorted(path.name for path in (tmp_path / "a" / "samples").iterdir())
    assert pictures == [f"{i:06}.png" for i in range(13)]
    # 8x8 digits with 2 black pixels between them, each pixel doubled
    assert read_png(tmp_path / "a" / "samples.png").shape == (2 * (8 * 30 - 2),) * 2
    for path in (tmp_path / "a").glob("**/*.*"):
        name = path.relative_to(tmp_path / "a")
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    last = pathlib.Path("samples", pictures[-1])
    assert (tmp_path / "a" / last).read_bytes() != (tmp_path / "c" / last).read_bytes()


# The user's images

def test_networks_are_made_for_the_images(tmp_path):
    """The samples have the size and the colours of the images, grey or RGB."""
    cases = [("gan_mnist.py", [], (12, 3, 7, 12)), ("gan_mnist.py", ["--paper"], (12, 5, 7)),
             ("dcgan_mnist.py", [], (12, 8, 13)), ("wgan_mnist.py", [], (12, 3, 12, 9)),
             ("wgan_mnist.py", ["--paper"], (12, 3, 12, 9)),
             ("wgan_gp_mnist.py", [], (12, 3, 13, 6)),
             ("wgan_gp_mnist.py", ["--paper"], (12, 3, 13, 6)),
             ("wgan_gp_mnist.py", ["--paper"], (12, 1, 1)),
             ("sngan_mnist.py", [], (12, 5, 7)), ("sngan_mnist.py", ["--paper"], (12, 3, 8, 15))]
    calls = []
    for i, (script, flags, shape) in enumerate(cases):
        images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
        np.savez(tmp_path / f"images-{i}.npz", images=images, labels=np.arange(12))
        channels = ["--channels", 2] if script != "gan_mnist.py" else []
        calls.append((script, *flags, *channels, "--batch-size", 3, "--steps", 1, "--data",
                      f"images-{i}.npz", "--out", f"out-{i}", tmp_path))
    for i, (process, (_, _, shape)) in enumerate(zip(run_all(calls), cases)):
        assert process.returncode == 0, process.stderr
        assert f"12 images of images-{i}.npz" in process.stdout
        height, width = shape[-2:]
        size = 2 * (8 * (height + 2) - 2), 2 * (8 * (width + 2) - 2)
        picture = read_png(tmp_path / f"out-{i}" / "samples.png")
        assert picture.shape == size + (3,) * (len(shape) == 4)


@pytest.mark.parametrize("script", ["gan_mnist.py", "dcgan_mnist.py", "wgan_mnist.py",
                                    "sngan_mnist.py"])
def test_an_impossible_image_size_is_refused_with_the_possible_ones(script, tmp_path):
    np.save(tmp_path / "images.npy", np.full((20, 1, 28, 3), 9, np.uint8))
    line = read_refusal(script, "--batch-size", 2, "--data", "images.npy", cwd=tmp_path)
    assert "at least" in line and "28x3" in line


# Pictures from a run

@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Return the folder of a run of two steps on images of 8x8 pixels."""
    folder = tmp_path_factory.mktemp("finished")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(
        256, size=(40, 8, 8), dtype=np.uint8))
    process = run("dcgan_mnist.py", "--channels", 2, "--batch-size", 8, "--steps", 2, "--lr", 0.1,
                  "--data", "images.npy", "--out", "run", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


def test_the_files_of_others_are_not_replaced(finished_run, tmp_path):
    """Neither the pictures of another run, nor data and checkpoints by a table."""
    lines = [last_line_of_refusal(process) for process in run_all([
        ("sample.py", "run", "--out", "run", finished_run),
        ("evaluate.py", "run", "--out", "run/checkpoint.npz", finished_run),
        ("evaluate.py", "run", "--out", "images.npy", finished_run),
        ("evaluate.py", "run", "--out", "run/settings.json", finished_run)])]
    assert "samples.png of a run" in lines[0]
    assert all("another file than an evaluation: give a new" in line for line in lines[1:])


def test_an_output_that_is_closed_at_the_end(tmp_path):
    """A script that ends before its output is read has no traceback either."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    process = subprocess.run(f"{sys.executable} {ROOT}/examples/theory.py --dry-run | true",
                             shell=True, cwd=tmp_path, env=environment, text=True,
                             stderr=subprocess.PIPE, timeout=120)
    assert process.stderr == ""


def test_lines_of_results_are_whole(tmp_path, monkeypatch):
    """A file that does not end in a newline gets one; a write that is cut short is taken back."""
    import reproduce
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}')
    reproduce.append_lines(path, [{"b": 2}, {"c": 3}])
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n{"c": 3}\n'

    class Full(io.FileIO):
        def write(self, content):
            return super().write(content[:5])
    monkeypatch.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode[:-1] + "+"))
    with pytest.raises(UserError, match="disk is full"):
        reproduce.append_lines(path, [{"d": 4}])
    monkeypatch.undo()
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n{"c": 3}\n'


@pytest.mark.parametrize("k", [1, 3])
def test_learning_rates_fall_to_0_at_the_last_iteration(k):
    """D has k steps in an iteration, and so k times as many."""
    import gan_mnist
    _, _, d_opt, g_opt = gan_mnist.recipe(10, (1, 8, 8), k)
    assert d_opt.lr(10 * k) == g_opt.lr(10) == 0 and d_opt.lr(10 * k - 1) > 0 < g_opt.lr(9)


def test_the_training_images_of_a_run_on_few_are_those_it_had(tmp_path):
    """few_mnist.py takes the first --images of its data."""
    images = np.random.default_rng(0).integers(256, size=(200, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    process = run("few_mnist.py", "--images", 20, "--steps", 1, "--batch-size", 4, "--data",
                  "images.npy", "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert len(command.load_data(tmp_path / "run").train.images) == 20


def test_likelihoods_during_a_run(finished_run, tmp_path):
    """The last logged figures are those of 10,000 samples of the finished game's average of G."""
    source = finished_run / "images.npy"
    process = run("gan_mnist.py", "--parzen", "--average", 0.5, "--steps", 2, "--batch-size", 8,
                  "--data", source, "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with open(tmp_path / "run" / "log.csv") as file:
        last = list(csv.DictReader(file))[-1]
    game, data, rng = load(tmp_path / "run"), load_arrays(source), Random(0)
    samples = np.concatenate([game.sample(game.latent(100, rng)) for _ in range(100)])
    found = parzen_log_likelihood(samples, as_floats(data.valid.images),
                                  as_floats(data.test.images))
    for name, value in (("validation nats", found.valid), ("test nats", found.mean),
                        ("standard error", found.error)):
        assert float(last[name]) == pytest.approx(value, rel=1e-4)      # the log has six digits


def read_cells(path, rows, columns, group=None):
    """Return the images of a grid before their scaling, (rows, columns, 8, 8)."""
    picture = np.pad(read_png(path)[::2, ::2], ((0, 2), (0, 2)))
    ends = np.arange(group or columns, columns, group or columns) * 10      # without wider gaps
    picture = np.delete(picture, [i + 6 * j + k for j, i in enumerate(ends) for k in range(6)], 1)
    return picture.reshape(rows, 10, columns, 10).transpose(0, 2, 1, 3)[:, :, :8, :8]


def test_sample_draws_samples_interpolations_and_nearest_images(finished_run, tmp_path):
    """Both interpolations have the same ends and differ in between.

    The picture of nearest images has the training image that a search over all images finds.
    """
    process = run("sample.py", "run", "-n", 20, "--columns", 5, "--out", tmp_path, cwd=finished_run)
    assert process.returncode == 0 and "nearest training image" in process.stdout, process.stderr
    samples = read_cells(tmp_path / "samples.png", 4, 5).reshape(20, 8, 8)
    linear, spherical = (read_cells(tmp_path / f"{way}.png", 8, 5)
                         for way in ("linear", "spherical"))
    for ends in (0, -1):
        assert abs(linear[:, ends] - 1.0 * spherical[:, ends]).max() <= 1       # rounding
    assert (linear[:, 2] != spherical[:, 2]).any()
    pairs = read_cells(tmp_path / "nearest.png", 3, 16, group=2).reshape(-1, 2, 8, 8)[:20]
    assert (pairs[:, 0] == samples).all()
    data = load_arrays(finished_run / "images.npy").train.images[:, 0]
    for sample, found in pairs.astype(float):
        distances = [((sample - image) ** 2).sum() for image in data]
        assert ((sample - found) ** 2).sum() <= min(distances) + 8 * 8 * 255    # of rounded samples


@pytest.mark.parametrize("script", ["sample.py", "evaluate.py"])
def test_dry_run_of_the_scripts_for_a_run(script, digits_run):
    before = {path: path.read_bytes() for path in digits_run.glob("**/*") if path.is_file()}
    process = run(script, "run", "--dry-run", cwd=digits_run)
    assert process.returncode == 0 and "no files are kept" in process.stdout, process.stderr
    assert before == {path: path.read_bytes() for path in digits_run.glob("**/*")
                      if path.is_file()}


def test_samples_depend_on_the_seed_and_not_on_each_other(finished_run, tmp_path):
    def samples(out, n, *flags):
        process = run("sample.py", "run", "-n", n, "--out", tmp_path / out, *flags,
                      cwd=finished_run)
        assert process.returncode == 0, process.stderr
        return read_cells(tmp_path / out / "samples.png", 1, n)
    one, two = samples("one", 1), samples("two", 2)
    assert abs(one[0, 0] - 1.0 * two[0, 0]).max() <= 1      # rounding
    assert (two[0, 0] != two[0, 1]).any()
    assert (samples("again", 2) == two).all() and (samples("other", 2, "--seed", 1) != two).any()
    assert (samples("truncated", 2, "--truncation", 0.1) != two).any()
    assert not (finished_run / "run" / "pictures").exists()


def test_samples_with_other_data_leave_the_pictures_as_they_are(finished_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "samples.png").write_bytes(b"of before")
    np.savez(tmp_path / "other.npz", images=np.random.default_rng(0).random((30, 1, 8, 8)))
    process = run("sample.py", "run", "--data", tmp_path / "other.npz", "--out", tmp_path / "out",
                  cwd=finished_run)
    assert process.returncode == 1 and "trained on other data" in process.stderr
    assert read_files(tmp_path / "out") == {"samples.png": b"of before"}


def test_truncation_redraws_only_values_beyond_the_limit():
    import sample
    game = Hinge(nn.Dense(50, 1), nn.Dense(1, 1), 50)
    free, limited = (sample.draw_inputs(game, None, 200, limit, Random(0)) for limit in (None, 0.7))
    assert abs(limited).max() <= 0.7 and abs(free).max() > 2
    assert (sample.draw_inputs(game, None, 3, 0.7, Random(0)) == limited[:3]).all()
    inside = abs(free) <= 0.7
    assert (limited[inside] == free[inside]).all()
    # The variance of a normal distribution truncated at a = 0.7 is
    # 1 - 2 a phi(a) / (2 Phi(a) - 1) = 0.153. The tolerance is about 5 standard errors.
    assert limited.var() == pytest.approx(0.153, abs=0.01)


def test_interpolations():
    """linear() takes equal steps on a line; spherical() takes equal angles at the same length."""
    import sample
    z0, z1 = np.array([[3.0, 0, 0], [0, 2, 0]]), np.array([[0, 3.0, 0], [0, 2, 0]])
    np.testing.assert_allclose(sample.linear(z0, z1, 0.25), [[2.25, 0.75, 0], [0, 2, 0]])
    third = sample.spherical(z0, z1, 1 / 3)
    np.testing.assert_allclose(third[0], [3 * np.cos(np.pi / 6), 1.5, 0], atol=1e-12)
    np.testing.assert_allclose(third[1], [0, 2, 0], atol=1e-12)     # both ends are the same


def test_sample_refuses_in_one_line(finished_run, tmp_path):
    np.save(tmp_path / "others.npy", np.full((40, 8, 8), 9, np.uint8))
    for flags, words in [
            ([tmp_path / "nowhere"], ["nowhere", "checkpoint.npz"]),
            (["run", "-n", 0], ["'0'", "at least 1"]),
            (["run", "--truncation", 0.001], ["--truncation", "0.01"]),
            (["run", "--data", tmp_path / "others.npy"], ["other data", "--data"]),
            (["run", "--out", "run/"], ["--out", "another folder"]),
            (["run", "--out", finished_run / "images.npy"], ["images.npy", "--out"])]:
        line = read_refusal("sample.py", *flags, cwd=finished_run)
        assert all(word in line for word in words), line
    assert not (tmp_path / "nowhere").exists()


# Measures of a run

@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """Return the folder of a run of two steps on 400 of the bundled digits."""
    folder = tmp_path_factory.mktemp("digits")
    sample = mnist.load_sample()
    np.savez(folder / "images.npz", images=sample.train.images[:400],
             labels=sample.train.labels[:400])
    process = run("dcgan_mnist.py", "--paper", "--channels", 2, "--batch-size", 8, "--steps", 2,
                  "--data", "images.npz", "--out", "run", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


def test_evaluate_prints_and_saves_a_table(digits_run):
    """The table has all measures; training images are better than samples after two steps.

    Their precision may be the same: some of 40 images have only distant neighbours.
    """
    process = run("evaluate.py", "run", "--centroids", cwd=digits_run)
    assert process.returncode == 0, process.stderr
    table = json.loads((digits_run / "run" / "evaluation.json").read_text())
    noise, real, centroids = table["measures"].values()
    assert "a classifier of MNIST's digits" in process.stdout
    assert table["n"] == 40 and "images.npz" in table["data"]
    for name in ("Frechet", "KID", "two-sample", "nearest"):
        assert real[name] < noise[name], name
    for name in ("recall", "score", "Parzen"):
        assert real[name] > noise[name], name
    assert real["precision"] >= noise["precision"] and real["nearest"] > 0
    # the paper's protocol: the width is fitted to the validation images, and the likelihood is
    # that of the test images
    data = load_arrays(str(digits_run / "images.npz"))
    chosen = Random(0).permutation(len(data.train.images))[:40]
    mean, error, *_ = parzen_log_likelihood(*(as_floats(images) for images in (
        data.train.images[backend.to_numpy(chosen)], data.valid.images, data.test.images)))
    assert real["Parzen"] == pytest.approx(mean) and real["Parzen error"] == pytest.approx(error)
    assert centroids["Parzen"] > real["Parzen"] and real.keys() == noise.keys()
    assert real["classes"] == 10 > noise["classes"] and real["Parzen error"] > 0
    for name, value in noise.items():
        assert re.search(rf"^{name} +{re.escape(f'{value:.4g}')} ", process.stdout, re.M), name
    again = run("evaluate.py", "run", "--out", "again.json", cwd=digits_run)
    assert again.returncode == 0
    assert json.loads((digits_run / "again.json").read_text())["measures"]["samples"] == noise


def test_evaluate_measures_the_last_weights_and_their_average(digits_run):
    """--last measures the last weights, which are those of the same run without an average.

    The average is still close to the initial weights, so its measure is another one.
    """
    process = run("dcgan_mnist.py", "--paper", "--channels", 2, "--batch-size", 8, "--steps", 2,
                  "--data", "images.npz", "--average", 0.9, "--out", "averaged", cwd=digits_run)
    assert process.returncode == 0, process.stderr
    figures = {}
    for folder, flags in (("run", []), ("averaged", ["--last"])):
        process = run("evaluate.py", folder, *flags, "--out", f"{folder}.json", cwd=digits_run)
        assert process.returncode == 0, process.stderr
        table = json.loads((digits_run / f"{folder}.json").read_text())["measures"]
        figures |= {f"{folder} {row}": values["Parzen"] for row, values in table.items()}
    assert figures["averaged last weights"] == figures["run samples"]
    assert figures["averaged last weights"] != figures["averaged samples"]
    assert f"last weights: {figures['run samples']:.4g}" in process.stdout
    line = read_refusal("evaluate.py", "run", "--last", cwd=digits_run)
    assert line.endswith("run keeps no average of G's weights, so all samples are of the last: "
                         "leave --last out")


def test_evaluate_marks_measures_on_the_bundled_sample(tmp_path):
    process = run("dcgan_mnist.py", "--channels", 2, "--batch-size", 8, "--steps", 1, "--data",
                  "sample", "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = run("evaluate.py", "run", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("measured on the bundled sample: compare with the floor") == 1
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_a_measure_that_one_column_lacks(finished_run, monkeypatch, capsys):
    """There may be enough samples of a class for a mean over classes, and too few images."""
    import evaluate
    tables = iter([{"Parzen": 1.0, "class Frechet": 2.0}, {"Parzen": 1.5, "class recall": 0.5}])
    monkeypatch.setattr(evaluate, "measure", lambda *args: next(tables))
    monkeypatch.chdir(finished_run)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "wide", "--dry-run"])
    make_wide_run(finished_run)
    evaluate.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["class", "Frechet", "2", "-"] in rows and ["class", "recall", "-", "0.5"] in rows


def make_wide_run(folder):
    """Make a run of one step on 120 images of 8x8 pixels, the fewest that can be measured."""
    np.save(folder / "many.npy", np.random.default_rng(0).integers(
        256, size=(120, 8, 8), dtype=np.uint8))
    process = run("dcgan_mnist.py", "--channels", 2, "--batch-size", 8, "--steps", 1, "--data",
                  "many.npy", "--out", "wide", cwd=folder)
    assert process.returncode == 0, process.stderr


def test_evaluate_names_the_step_that_it_measures(digits_run, tmp_path, monkeypatch):
    """The run is in training: its checkpoint is replaced while the script measures its game."""
    import evaluate
    flags = ["--paper", "--channels", 2, "--batch-size", 8, "--data", digits_run / "images.npz"]
    for steps in (1, 2):
        process = run("dcgan_mnist.py", *flags, "--steps", steps, "--out", str(steps), cwd=tmp_path)
        assert process.returncode == 0, process.stderr

    def measure_meanwhile(*args, measure=evaluate.measure):
        shutil.copy(tmp_path / "2" / "checkpoint.npz", tmp_path / "1")
        return measure(*args)
    monkeypatch.setattr(evaluate, "measure", measure_meanwhile)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(tmp_path / "1")])
    evaluate.main()
    found = json.loads((tmp_path / "1" / "evaluation.json").read_text())
    assert found["step"] == 1 != checkpoint.read(tmp_path / "1" / "checkpoint.npz").about["step"]


def test_evaluate_says_that_a_run_is_not_finished(digits_run, tmp_path):
    """The file has the step that was measured."""
    shutil.copytree(digits_run / "run", tmp_path / "run")
    saved = checkpoint.read(tmp_path / "run" / "checkpoint.npz")
    assert saved.about["step"] == saved.about["steps"] == 2
    np.savez(tmp_path / "run" / "checkpoint.npz", **saved.arrays, about=np.frombuffer(json.dumps(
        {**saved.about, "steps": 5}).encode(), np.uint8))
    process = run("evaluate.py", "run", "--data", digits_run / "images.npz", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "not finished: this is its checkpoint of step 2 of 5" in process.stdout
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["step"] == 2


def test_evaluate_writes_its_table_before_it_prints_it(digits_run, tmp_path, monkeypatch):
    """The reader of its output may have ended, such as head."""
    import evaluate

    def end(*args):
        raise BrokenPipeError
    monkeypatch.setattr(evaluate, "print_beside", end)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(digits_run / "run"), "--out",
                                      str(tmp_path / "e.json")])
    monkeypatch.chdir(digits_run)
    with pytest.raises(BrokenPipeError):
        evaluate.main()
    assert evaluate.is_evaluation(tmp_path / "e.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_evaluate_refuses_a_pipe(digits_run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    line = read_refusal("evaluate.py", "run", "--out", tmp_path / "pipe", cwd=digits_run)
    assert "pipe, as it is another file than an evaluation" in line


def test_other_held_out_images_are_other_data(digits_run, tmp_path):
    """They are what evaluate.py compares samples with."""
    with np.load(digits_run / "images.npz") as file:
        arrays = dict(file)
    test = load_arrays(str(digits_run / "images.npz")).test.images[0]
    is_test = (arrays["images"].reshape(-1, *test.shape) == test).all((1, 2, 3))
    assert is_test.sum() == 1
    arrays["images"][is_test] ^= 255
    np.savez(tmp_path / "other.npz", **arrays)
    for script, *flags in (("evaluate.py", "run"), ("dcgan_mnist.py", "--resume", "--out", "run")):
        line = read_refusal(script, *flags, "--data", tmp_path / "other.npz", cwd=digits_run)
        assert "has other validation or test data than that of" in line


def test_evaluate_refuses_data_that_was_trained_on(digits_run, tmp_path):
    """Test images that are also training images are refused. The file has each image twice."""
    images = np.load(digits_run / "images.npz")["images"]
    np.save(tmp_path / "twice.npy", np.concatenate([images, images]))
    flags = "--batch-size", 8, "--steps", 1, "--data", "twice.npy", "--out"
    for call in (("pix2pix_mnist.py", *flags, "pairs"),
                 ("dcgan_mnist.py", "--channels", 2, *flags, "run")):
        process = run(*call, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert re.search(r"note: \d+ of the test images are training images too", process.stdout)
    line = read_refusal("evaluate.py", "run", cwd=tmp_path)
    assert re.search(r"was trained on \d+ of the test images: leave images that are there twice",
                     line)
    line = read_refusal("evaluate.py", "run", "--out", "there/e.json", cwd=tmp_path)
    assert "cannot write there/e.json" in line
    assert "no checkpoint.npz" in read_refusal("evaluate.py", "nowhere", cwd=tmp_path)


def test_a_run_that_was_made_in_python_is_sampled_and_measured_with_its_data(digits_run, tmp_path):
    """The data of such a run is not known, so --data names it. Samples need no data."""
    G = nn.Sequential(nn.Dense(2, 784), nn.Sigmoid(), nn.Reshape(1, 28, 28))
    game = GAN(G, nn.Sequential(nn.Flatten(), nn.Dense(784, 1)), 2)
    opts = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    images = load_arrays(digits_run / "images.npz").train.images
    Run(tmp_path / "run", game, Minibatches(images, 8), opts, 1).play()
    scripts, flags = ("sample.py", "evaluate.py"), ("--data", digits_run / "images.npz")
    sampled, refused = run_all([(script, "run", tmp_path) for script in scripts])
    assert sampled.returncode == 0, sampled.stderr
    assert "no nearest.png: the run was made in Python" in sampled.stdout
    assert "made in Python or by mixtures.py, so its data is not known: give it by --data" in (
        last_line_of_refusal(refused))
    for process in run_all([(script, "run", *flags, tmp_path) for script in scripts]):
        assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "pictures" / "nearest.png").exists()
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_samples_of_another_shape_than_the_data_are_not_compared_with_it(digits_run, tmp_path):
    """Those of stacked MNIST have three channels; a run of mixtures.py draws points."""
    process = run("stacked_mnist.py", "--crippled", "--game", "gan", "--steps", 1, "--samples", 10,
                  "--data", digits_run / "images.npz", "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    make_plane_run(tmp_path / "plane", "gan").play()
    process, refused, plane = run_all([
        ("sample.py", "run", tmp_path), ("evaluate.py", "run", tmp_path),
        ("sample.py", "plane", "--module", ROOT / "examples" / "mixtures.py", tmp_path)])
    assert process.returncode == 0, process.stderr
    assert "no nearest.png: the samples have the shape (3, 28, 28)" in process.stdout
    assert "(3, 28, 28), but the images of the data (1, 28, 28)" in last_line_of_refusal(refused)
    assert "are no images" in last_line_of_refusal(plane)


def test_evaluate_compares_equal_numbers_of_samples_and_training_images(tmp_path):
    """The Fréchet distance of fewer images is larger, whatever they are."""
    pixels = mnist.load_sample().train.images[:90]
    np.savez(tmp_path / "few.npz", x_train=pixels[:24], x_test=pixels[24:])
    process = run("dcgan_mnist.py", "--channels", 2, "--batch-size", 2, "--steps", 1, "--data",
                  "few.npz", "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = run("evaluate.py", "run", cwd=tmp_path)
    assert "20 samples against 66 test images; floor: 20 training images" in process.stdout


def test_evaluate_needs_validation_images(tmp_path):
    """Five training images leave no validation images, so the run is refused."""
    pixels = np.random.default_rng(0).uniform(size=(25, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "few.npz", x_train=pixels[:5], x_test=pixels[5:])
    process = run("dcgan_mnist.py", "--channels", 2, "--batch-size", 2, "--steps", 1, "--data",
                  "few.npz", "--out", "run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "20 test and 0 validation images" in read_refusal("evaluate.py", "run", cwd=tmp_path)


def test_evaluate_of_images_without_a_classifier(finished_run):
    """Images for which there is no classifier have the measures that need none."""
    np.save(finished_run / "more.npy", np.random.default_rng(0).uniform(
        size=(120, 3, 8, 8)).astype(np.float32))
    process = run("wgan_gp_mnist.py", "--channels", 2, "--batch-size", 8, "--steps", 1, "--data",
                  "more.npy", "--out", "colours", cwd=finished_run)
    assert process.returncode == 0, process.stderr
    process = run("evaluate.py", "colours", cwd=finished_run)
    assert process.returncode == 0 and "no features" in process.stdout, process.stderr
    assert "Parzen" in process.stdout and "Frechet" not in process.stdout


def test_reproduce_runs_what_is_missing(tmp_path, capsys):
    """All runs of a table are done, and a second call does those without a result.

    The table is the first three runs of the mixtures', which has every game of the plane.
    """
    import mixtures
    import reproduce
    import tables
    assert sorted(tables.GAMES) == sorted({*mixtures.PLANE} - {"bigan"})     # bigan is as ali
    count = 2 * len(tables.GAMES)                       # ring and grid
    assert len(tables.list_mixtures("out", [], True)) == count
    assert len(tables.list_mixtures("out", [], False)) == 5 * count
    few = lambda *args: dict(list(tables.list_mixtures(*args).items())[:3])
    read = lambda *args: {args[0]: {"x": 1, **tables.read_mixtures(*args)}}
    args = types.SimpleNamespace(table="mixtures", out=str(tmp_path / "out"), data=None, quick=True,
                                 jobs=1, results=str(tmp_path / "results.jsonl"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tables.TABLES, "mixtures", tables.Table(few, read, takes_data=False))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(tmp_path)
        for count in (3, 0):
            reproduce.run_table(args)
            assert f"{count} runs, {3 - count} done before" in capsys.readouterr().out
            before = reproduce.read_results(args.results)
            assert len(before) == 3 and all(line["x"] == 1 for line in before)
        assert str(tmp_path) not in str(before)         # commands without paths of this machine
        kept = [line for line in before if line["run"] != "ring, gan"]
        (tmp_path / "results.jsonl").write_text("".join(json.dumps(k) + "\n" for k in kept))
        reproduce.run_table(args)
        after = reproduce.read_results(args.results)
        assert after[:2] == kept and after[2]["run"] == "ring, gan"
    (tmp_path / "results.jsonl").write_text("{")
    line = read_refusal("reproduce.py", "mixtures", "--show", "--results", "results.jsonl",
                        cwd=tmp_path)
    assert "results.jsonl is no file of results" in line


def test_reproduce_adds_the_times_of_interrupted_runs(tmp_path, monkeypatch):
    """The time of a command that fails is kept and added to that of the next attempt."""
    import reproduce
    monkeypatch.setattr(reproduce, "HERE", str(tmp_path))
    (tmp_path / "work.py").write_text(
        "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(time.process_time())\n"
        "sys.exit(int(sys.argv[1]))\n")
    clock = str(tmp_path / "folder" / "clock")
    with pytest.raises(UserError, match="work.py 3 has ended with 3"):
        reproduce.run_commands([["work.py", "3"]], clock, ["work"])
    outputs, seconds = reproduce.run_commands([["work.py", "0"], ["work.py", "0"]], clock, ["work"])
    # two parts of at least 0.3 s, and the time that a process uses after its last line
    assert 0.6 <= seconds < 2 * float(outputs[0]) + 0.2
    # while a command runs, and so after it was killed, the clock says "nan"
    (tmp_path / "look.py").write_text("import sys\nprint(open(sys.argv[1]).read())\n")
    assert "NaN" in reproduce.run_commands([["look.py", clock]], clock, ["work"])[0][0]
    (tmp_path / "folder" / "clock").write_text('{"commands": ["work"], "seconds": NaN}')
    assert math.isnan(reproduce.run_commands([["work.py", "0"]], clock, ["work"])[1])
    # the time of another command, and that in a damaged file, do not count
    for text in ('{"commands": ["more work"], "seconds": 1e6}', "1e6"):
        (tmp_path / "folder" / "clock").write_text(text)
        assert reproduce.run_commands([["look.py", clock]], clock, ["work"])[1] < 1e6


def test_the_time_of_a_run_that_was_removed_does_not_count(tmp_path, monkeypatch):
    import reproduce
    monkeypatch.setattr(reproduce, "HERE", str(tmp_path))
    (tmp_path / "train.py").write_text("")
    clock, run = tmp_path / "clock", tmp_path / "run"
    for is_kept in (False, True):
        clock.write_text('{"commands": ["train.py"], "seconds": 1000.0}')
        run.mkdir() if is_kept else None
        _, seconds = reproduce.run_commands([["train.py", "--out", str(run)]], str(clock),
                                            ["train.py"])
        assert (seconds >= 1000) == is_kept


@pytest.mark.parametrize("file", ["checkpoint.npz", "7x7/checkpoint.npz"])
def test_reproduce_resumes_runs_of_the_same_command_only(file, tmp_path, monkeypatch):
    """A run of another command is not resumed: flags that are not given would be the old ones.

    The run may have stages.
    """
    import reproduce
    monkeypatch.setattr(reproduce, "HERE", str(tmp_path))
    (tmp_path / "train.py").write_text(
        "import sys, pathlib\nprint(sys.argv[-1])\npath = pathlib.Path(sys.argv[2]) / "
        f"'{file}'\npath.parent.mkdir(exist_ok=True)\npath.touch()\n")
    clock = str(tmp_path / "run" / "clock")
    do = lambda *typed: reproduce.run_commands(
        [["train.py", "--out", str(tmp_path / "run")]], clock, list(typed))[0][0].strip()
    assert do("train.py") == str(tmp_path / "run") and do("train.py") == "--resume"
    for typed in (["train.py --average 0.5"], ["train.py", "evaluate.py"]):
        with pytest.raises(UserError, match="is not known to be of the command train.py"):
            do(*typed)
    assert do("train.py") == "--resume"
    os.remove(clock)
    with pytest.raises(UserError, match="not known to be of the command"):
        do("train.py")


def test_reproduce_stops_its_runs_when_it_is_stopped(tmp_path, monkeypatch):
    """Ctrl-C may have reached reproduce.py alone."""
    import reproduce
    import tables
    monkeypatch.setattr(reproduce, "HERE", str(tmp_path))
    (tmp_path / "sleep.py").write_text("import time\ntime.sleep(60)\n")
    # of the run b, the first command has ended when the script is stopped
    (tmp_path / "end.py").write_text("")
    runs = {("a", 1): [["sleep.py"]], ("b", 1): [["end.py"], ["sleep.py"]]}
    monkeypatch.setattr(reproduce, "_stopped", threading.Event())       # others stay unstopped
    wait_for, ended = reproduce._wait_for, threading.Event()

    def wait_and_hold(process):
        found = wait_for(process)
        if "end.py" in process.args[1]:
            ended.set()
            while not reproduce._stopped.is_set():
                time.sleep(0.01)
        return found
    monkeypatch.setattr(reproduce, "_wait_for", wait_and_hold)
    monkeypatch.setitem(tables.TABLES, "mixtures", tables.Table(lambda *_: runs, None,
                                                                takes_data=False))
    args = types.SimpleNamespace(table="mixtures", out=str(tmp_path), data=None, quick=False,
                                 jobs=2, results=str(tmp_path / "results.jsonl"))

    def interrupt(futures):
        assert ended.wait(30)
        while len(reproduce._running) < 2:      # sleep.py, and end.py, which has ended
            time.sleep(0.01)
        raise KeyboardInterrupt
    monkeypatch.setattr(reproduce.concurrent.futures, "as_completed", interrupt)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        reproduce.run_table(args)
    assert time.monotonic() - begin < 50 and not reproduce._running     # not 60 s


def test_reproduce_keeps_finished_runs(tmp_path, monkeypatch, capsys):
    """The results of other runs are kept if a run fails.

    Results of other commands are not used. Nothing is run if the results cannot be written.
    """
    import reproduce
    import tables
    monkeypatch.setattr(reproduce, "HERE", str(tmp_path))
    (tmp_path / "work.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    table = {"a": "3", "b": "0", "c": "0"}
    monkeypatch.setitem(tables.TABLES, "mixtures", tables.Table(
        lambda *_: {(name, 1): [["work.py", code]] for name, code in table.items()},
        lambda name, *_: {name: {"x": 1}}, takes_data=False))
    args = types.SimpleNamespace(table="mixtures", out=str(tmp_path / "an out"), data=None,
                                 quick=False, jobs=2, results=str(tmp_path / "results.jsonl"))
    with pytest.raises(UserError, match="1 of 3 runs have failed .a seed 1."):
        reproduce.run_table(args)
    assert {line["run"] for line in reproduce.read_results(args.results)} == {"b", "c"}
    lines = reproduce.read_results(args.results)
    assert "2 of 3 runs so far" in reproduce.make_table("mixtures", lines)
    table.update(a="0", b="00")
    with pytest.MonkeyPatch.context() as patch:         # a clock that cannot be written
        patch.setattr(reproduce, "write_text", lambda *_: open(tmp_path / "no" / "file", "w"))
        with pytest.raises(UserError, match="2 of 2 runs have failed"):
            reproduce.run_table(args)
    reproduce.run_table(args)
    assert "2 runs, 1 done before" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot write .* by --results"):
        args.results = str(tmp_path / "nowhere" / "results.jsonl")
        reproduce.run_table(args)


def test_no_two_runs_of_the_tables_have_one_folder():
    import reproduce
    import tables
    folders = [commands[0].partition(" --out ")[2] for table in tables.TABLES
               if table != "mixtures"       # one folder, in which each run has another
               for commands in reproduce.list_commands(table, False).values()]
    folders = [folder for folder in folders if folder]
    assert len(folders) > 100 and len(set(folders)) == len(folders)


def test_the_commands_of_tables_are_the_same_on_windows(monkeypatch):
    """Otherwise results of another system would count as those of other commands."""
    import reproduce
    import tables
    here = {table: reproduce.list_commands(table, False) for table in tables.TABLES}
    monkeypatch.setattr(os, "path", ntpath)
    monkeypatch.setattr(os, "sep", ntpath.sep)
    there = {table: reproduce.list_commands(table, False) for table in tables.TABLES}
    monkeypatch.undo()
    assert there == here


def test_reproduce_shows_mean_and_every_seed():
    import reproduce
    line = {"table": "mixtures", "run": "grid, r1", "row": "grid, r1", "machine": "a PC",
            "numpy": "2.0", "date": "2026-01-01", "data": "", "HQ %": 90.0}
    now = reproduce.list_commands("mixtures", False)
    lines = [{**line, "seed": 2, "modes": 24, "seconds": 70},
             {**line, "seed": 1, "modes": 25, "seconds": 1060},
             {**line, "run": "ring, gan", "row": "ring, gan", "seed": 1, "modes": 8, "seconds": 50}]
    lines = [{**line, "command": now[line["run"], line["seed"]]} for line in lines]
    lines.append({**lines[0], "command": ["another.py"], "modes": 3})       # is not used
    table, caption = reproduce.make_table("mixtures", lines).split("\n\n")
    head, _, *rows = table.splitlines()
    assert head == "| | HQ % | modes | seconds |"
    assert rows[0] == "| ring, GAN (Lin et al. 2018) | 98.2 | 6.3 |  |"
    assert rows[-2:] == ["| ring, gan | 90 | 8 | 50 |",
                         "| grid, r1 | 90 | 24.5 (25, 24) | 565 (1060, 70) |"]
    assert f"3 of {len(now)} runs" in caption and "a PC" in caption and "2026-01-01" in caption


def test_reproduce_lists_what_several_runs_have_measured_last():
    import reproduce
    now = reproduce.list_commands("stacked", False)
    line = {"table": "stacked", "machine": "a PC", "numpy": "2.0", "date": "2026-01-01", "data": ""}
    lines = [{**line, "run": run, "row": row, "seed": 1, "command": now[run, 1], "modes": 9}
             for run in ("small D, GAN", "full size, R1") for row in ("real triples", run)]
    rows = reproduce.make_table("stacked", lines).splitlines()
    assert [row.split(" | ")[0] for row in rows if row.endswith("| 9 |")] == [
        "| small D, GAN", "| full size, R1", "| real triples"]


def test_reproduce_names_the_data(tmp_path):
    """The bundled sample and other data have names for their rows; other sizes are refused."""
    import reproduce
    assert reproduce.name_data("sample") == ("the bundled sample", "sample")
    names = []
    for grey in (9, 10):
        path = str(tmp_path / f"{grey}.npy")
        np.save(path, np.full((60, 28, 28), grey, np.uint8))
        name, place = reproduce.name_data(path)
        assert name.startswith("other data ") and place == path
        names.append(name)
    assert names[0] != names[1]
    np.save(tmp_path / "large.npy", np.full((60, 32, 32), 9, np.uint8))
    with pytest.raises(UserError, match="28x28 pixels"):
        reproduce.name_data(str(tmp_path / "large.npy"))


def test_reproduce_reads_the_output_of_the_examples(tmp_path):
    """reproduce.py reads the outputs of mixtures.py, theory.py, dirac.py and evaluate.py.

    Of mixtures.py it reads the last line. The Frechet distance is divided by that of the training
    images.
    """
    import tables
    lines = ("modes 3  HQ 11.1 %  reverse KL 0.5\n"
             "\nr1  seed 1  modes 8  HQ 98.4 %  reverse KL 0.0040\n")
    assert tables.read_mixtures("ring, r1", [], [lines]) == {
        "ring, r1": {"modes": 8, "HQ %": 98.4, "reverse KL": 0.004}}
    table = "| | found | theory |\n|---|---|---|\n| a gap | 3.7 | 3.75 |\n"
    rates = "GAN, saturating   3.10  (1.0006, 1.0050)   1.41  (1.0001, 1.0000)\nWGAN  1  2\n"
    assert tables.read_theory("theory", [], [table + rates, ""]) == {
        "a gap": {"found": "3.7", "theory": "3.75"},
        "GAN, saturating: factor of a step, simultaneous": {"found": "1.0006", "theory": "1.0050"},
        "GAN, saturating: factor of a step, alternating": {"found": "1.0001", "theory": "1.0000"}}
    measures = {row: {"Frechet": value, "KID": 0.1, "precision": 0.7, "recall": 0.8, "classes": 10}
                for row, value in (("samples", 6.0), ("training images", 0.5))}
    (tmp_path / "evaluation.json").write_text(json.dumps({"measures": measures}))
    rows = tables.TABLES["mnist"].read("GAN", [["evaluate.py", str(tmp_path)]], [])
    assert rows["GAN"]["times the floor"] == 12 and rows["training images"]["times the floor"] == 1
    assert rows["GAN"]["precision"] == 0.7 and rows["GAN"]["recall"] == 0.8


def test_reproduce_reads_the_likelihoods(tmp_path):
    """The row of the paper has the last weights; evaluate.py's "samples" are of the average."""
    import tables
    measures = {row: {"Parzen": nats, "Parzen error": 2} for row, nats in (
        ("samples", 220), ("training images", 240), ("k-means centroids", 250),
        ("last weights", 210))}
    (tmp_path / "evaluation.json").write_text(json.dumps({"measures": measures}))
    rows = tables.read_parzen("alg", [["evaluate.py", str(tmp_path), "--last"]], [])
    assert rows == {row: {"nats": nats, "standard error": 2} for row, nats in (
        ("alg", 210), ("alg, average of G", 220), ("training images", 240),
        ("k-means centroids", 250))}
    assert list(rows)[0] == "alg"
    (tmp_path / "log.csv").write_text(
        "step,validation nats,test nats,standard error\n1,,,\n2,230,225,3\n3,228,226,2\n")
    rows = tables.read_parzen("alg", [["gan_mnist.py", "--parzen", "--out", str(tmp_path)],
                                      ["evaluate.py", str(tmp_path), "--last"]], [])
    assert rows["alg, average of G, step chosen by validation"] == {
        "nats": 225, "standard error": 3}


def test_reproduce_reads_what_examples_measure(tmp_path):
    """stacked_mnist.py prints its measures; few_mnist.py logs them, at some of the log's steps."""
    import tables
    output = ("100 samples: modes 7  KL 0.250  confidence 0.500\n"
              "100 real triples: modes 9  KL 0.125  confidence 0.990\n")
    assert tables.read_stacked("GAN", [], [output]) == {
        "GAN": {"modes": 7, "KL": 0.25, "confidence": 0.5},
        "real triples": {"modes": 9, "KL": 0.125, "confidence": 0.99}}
    (tmp_path / "log.csv").write_text(
        "step,D loss,train,held-out,Frechet\n1,1,,,\n2,1,0.5,0.5,30\n4,1,0.6,0.5,20\n"
        "6,1,0.9,0.1,25\n")
    assert tables.read_few("GAN", [["few_mnist.py", "--out", str(tmp_path)]], []) == {
        "GAN": {"least Frechet": 20, "at step": 4, "Frechet": 25, "D(train)": 0.9,
                "D(held-out)": 0.1}}
    (tmp_path / "log.csv").write_text("step,D loss,D(x),D(G(z))\n1,2,0.5,0.4\n2,1,0.75,0.25\n")
    assert tables.read_orders("GAN", [["gan_mnist.py", "--out", str(tmp_path)]], []) == {
        "GAN": {"D(x)": 0.75, "D(G(z))": 0.25}}
    names = ("Frechet", "KID", "precision", "recall", "score", "classes", "rarest", "two-sample",
             "Parzen", "nearest")
    measures = {row: {name: i + k for i, name in enumerate(names)}
                for k, row in enumerate(("samples", "training images"), 1)}
    (tmp_path / "evaluation.json").write_text(json.dumps({"measures": measures}))
    rows = tables.TABLES["first"].read("GAN", [["evaluate.py", str(tmp_path)]], [])
    assert list(rows["GAN"].values()) == [1, 0.5, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert list(rows["training images"].values()) == [2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_reproduce_gives_its_data_to_each_run(monkeypatch, tmp_path):
    """So a run that another data set has made, which --resume would take, is refused."""
    import reproduce
    import tables
    seen = []
    monkeypatch.setenv("TINYGAN_DATA", "sample")
    monkeypatch.setitem(tables.TABLES, "first", tables.Table(lambda out, source, quick: (
        seen.append(source) or {}), None))
    args = types.SimpleNamespace(table="first", out=str(tmp_path), data=None, quick=False, jobs=1,
                                 results=str(tmp_path / "results.jsonl"))
    reproduce.run_table(args)
    assert seen[-1] == ["--data", "sample"]


def test_reproduce_quick_takes_no_folders(tmp_path):
    for flag in ("--data", "--out", "--results"):
        process = run("reproduce.py", "theory", "--quick", flag, "mine", cwd=tmp_path)
        assert process.returncode == 2 and flag in process.stderr and "--quick" in process.stderr
    process = run("reproduce.py", "theory", "--data", "mine", cwd=tmp_path)
    assert process.returncode == 2 and "the table theory takes no images" in process.stderr


@pytest.mark.parametrize("table, rows", [
    ("first", 2), ("orders", 2), ("parzen", 8), ("theory", 15), ("mnist", 3), ("few", 2),
    ("conditional", 3), ("infogan", 4), ("bigan", 5), ("stacked", 3), ("cyclegan", 5),
    ("growing", 7)])
def test_reproduce_quick(table, rows, tmp_path, monkeypatch, capsys):
    """The tables have a row for each run, and others for what they are compared with.

    Tables of many commands have their first two here. theory has one row for each quantity.
    """
    import reproduce
    import tables

    def run_commands(commands, clock, typed):
        processes = [run(*command, cwd=tmp_path) for command in commands]
        assert not any(process.returncode for process in processes), processes
        return [process.stdout for process in processes], math.nan
    monkeypatch.setattr(reproduce, "run_commands", run_commands)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", table, "--quick"])
    runs = tables.TABLES[table].runs
    for name in [] if callable(runs) else reversed(list(runs)[2:]):
        monkeypatch.delitem(runs, name)     # they are put back in their order
    reproduce.main()
    printed = capsys.readouterr().out
    count = {"parzen": 3, "first": 1}.get(table, 2)
    assert f"{count} runs, 0 done before" in printed and not any(tmp_path.iterdir())
    found = re.findall(r"^\| (\w.*?) \| .* \|$", printed, re.M)
    found = [row for row in found if row not in tables.TABLES[table].published]
    assert len(set(found)) == len(found) == rows, printed
    assert table == "theory" or all(", of other data " in row for row in found)


def test_the_description_of_reproduce_lists_each_table():
    import reproduce
    listed = re.findall(r"reproduce.py (\w+) ", reproduce.__doc__)
    assert set(listed) == set(reproduce.TABLES)


def test_quick_runs_have_the_flags_of_the_runs():
    import tables
    for table in set(tables.TABLES) - {"theory"}:
        runs = tables.list_runs(table, "runs", [], False)
        for key, (quick, *_) in tables.list_runs(table, "runs", [], True).items():
            assert set(filter(re.compile("--").match, runs[key][0])) <= set(quick), key


def test_the_commands_of_the_tables_are_understood(monkeypatch):
    """Each script accepts the flags that the tables give it; nothing is trained here."""
    import tables

    class Understood(Exception):
        pass

    def start(args):
        raise Understood
    monkeypatch.setattr(command, "start", start)
    count = 0
    for table in tables.TABLES:
        for (script, *flags), *_ in tables.list_runs(table, "runs", [], False).values():
            # tested otherwise
            if script not in ("mixtures.py", "theory.py", "dirac.py", "fgan.py"):
                monkeypatch.setattr(sys, "argv", [script, *flags])
                with pytest.raises(Understood):
                    importlib.import_module(script.removesuffix(".py")).main()
                count += 1
    assert count > 150


def test_classifier_dry_run(tmp_path):
    process = run("classifier_mnist.py", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "test: " in process.stdout and not any(tmp_path.iterdir())


@pytest.mark.parametrize("flags, words", [
    (["--lr", 1e30, "--dry-run"], ["loss has become nan", "smaller learning rate"]),
    (["--weights", "nowhere/weights.npz"], ["nowhere/weights.npz", "--weights"]),
    # nobody can write into /proc, where there is one
    (["--weights", "/proc/weights.npz", "--dry-run"], ["cannot write", "/proc", "--weights"]),
    (["--data", "sample", "--out", "images.npz"], ["images.npz", "another folder"]),
    (["--data", "sample", "--out", "mine"], ["mine/mnist_classifier.npz", "something else"]),
    (["--data", "images.npz"], ["labels from 0 to 9", "images.npz", "--data"]),
    (["--data", "letters.npz"], ["labels from 0 to 9", "letters.npz", "--data"])])
def test_classifier_refuses_in_one_line(flags, words, tmp_path):
    """Invalid data and paths are refused before the training, which takes minutes."""
    images = np.full((60, 28, 28), 9, np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    np.savez(tmp_path / "letters.npz", images=images, labels=np.arange(60) % 26)
    (tmp_path / "mine").mkdir()
    np.savez(tmp_path / "mine" / "mnist_classifier.npz", images=images)
    line = read_refusal("classifier_mnist.py", *flags, cwd=tmp_path)
    assert all(word in line for word in words), line


def test_a_killed_classifier_is_resumed(tmp_path):
    """A run that was killed and resumed has the same files; --weights chooses another file."""
    images = np.random.default_rng(0).integers(256, size=(100, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=np.arange(100) % 10)
    flags = ["--data", "digits.npz", "--batch-size", 8, "--epochs", 4, "--save-every", 0]
    whole = run("classifier_mnist.py", *flags, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {
        "settings.json", "log.csv", "losses.svg", "checkpoint.npz", "mnist_classifier.npz"}
    assert (tmp_path / "whole" / "log.csv").read_text().startswith("step,loss\n1,")
    process = start_script(tmp_path, ROOT / "examples" / "classifier_mnist.py", *flags,
                           "--out", "killed")
    wait_for(tmp_path / "killed" / "checkpoint.npz")
    time.sleep(0.2)
    process.kill()
    process.communicate()
    rest = run("classifier_mnist.py", "--resume", "--out", "killed", cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert 0 < int(re.search(r"resumed after step (\d+)", rest.stdout)[1]) < 40
    assert read_files(tmp_path / "killed") == read_files(tmp_path / "whole")
    again = run("classifier_mnist.py", "--resume", "--out", "killed", "--weights", "mine.npz",
                cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.endswith("weights: mine.npz\n"), again.stderr
    weights = (tmp_path / "whole" / "mnist_classifier.npz").read_bytes()
    assert (tmp_path / "mine.npz").read_bytes() == weights
    line = read_refusal("classifier_mnist.py", "--resume", "--out", "killed", "--lr", 0.1,
                        cwd=tmp_path)
    assert "has --lr 0.0015" in line
    with pytest.raises(UserError, match="a Sequential, which is no game"):
        load(tmp_path / "whole")


def test_bad_input_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    np.save(tmp_path / "twelve.npy", np.full((12, 8, 8), 255, np.uint8))
    cases = [
        (["--parzen", "--batch-size", 2, "--data", tmp_path / "twelve.npy"],
         ["--parzen", "2 test images", "1 and 1"]),
        (["--steps", -5], ["--steps", "'-5'", "at least 1"]),
        (["--step", 5, "--dry-run"], ["unrecognized", "--step 5"]),
        (["--batch-size", 0], ["--batch-size", "'0'"]),
        (["--batch-size", 9000, "--dry-run"], ["8000", "9000"]),
        (["--seed", "x"], ["--seed", "'x'"]),
        (["--average", 1], ["--average", "'1'", "below 1"]),
        (["--k", 0], ["--k", "'0'"]),
        (["--backend", "torch"], ["'torch'", "numpy", "cupy"]),
        (["--backend", "cupy"], ["cupy", "pip install 'cupy-cuda12x[ctk]'"]),
        (["--order", "simultaneous", "--k", 5, "--dry-run"], ["simultaneous", "5"]),
        (["--batch-size", 1, "--dry-run"], ["BatchNorm", "larger batch"]),
        (["--g-loss", "hinge"], ["'hinge'", "saturating"]),
        (["--data", tmp_path / "nowhere"], ["nowhere", "train-images-idx3-ubyte"]),
        (["--out", tmp_path / "file" / "out", "--steps", 1], ["file/out", "--out"])]
    if _has_cupy():
        cases = [case for case in cases if "cupy" not in case[0]]
    processes = run_all([("gan_mnist.py", *flags, tmp_path) for flags, _ in cases])
    for process, (_, words) in zip(processes, cases):
        line = last_line_of_refusal(process)
        assert all(word in line for word in words), line
    for name, value, word in (("BACKEND", "abacus", "TINYGAN_BACKEND"),
                              ("DATA", "nowhere", "nowhere")):
        process = run_process("gan_mnist.py", "--steps", 1, cwd=tmp_path,
                              **{f"TINYGAN_{name}": value})
        assert word in last_line_of_refusal(process)
    assert not (tmp_path / "runs" / "gan_mnist").exists()


def _has_cupy():
    try:
        import cupy
    except ImportError:
        return False
    return True


def test_each_convolution_of_wgan_gps_critic_has_its_leaky_relu():
    import wgan_gp_mnist
    D = wgan_gp_mnist.critic(2, (1, 28, 28))
    assert [type(layer) for layer in D.layers] == [
        *[nn.Conv2d, nn.LeakyReLU] * 3, nn.Flatten, nn.Dense]


@pytest.mark.parametrize("workload", ["gan", "dcgan", "sngan", "wgan_gp", "plane"])
def test_each_workload_of_the_benchmark_trains(workload, monkeypatch):
    import benchmark
    monkeypatch.setitem(benchmark.BATCH, workload, 2)
    benchmark.tinygan_iteration(workload, "numpy")()


@pytest.mark.parametrize("workload", ["gan", "plane"])
def test_the_products_alone_are_those_of_an_iteration(workload, monkeypatch):
    """The order of factors does not matter, since (a b)^T = b^T a^T."""
    import benchmark
    monkeypatch.setitem(benchmark.BATCH, workload, 3)
    iteration, product, shapes = benchmark.tinygan_iteration(workload, "numpy"), backend.product, []

    def record(a, b):
        shapes.append((len(a), *b.shape))
        return product(a, b)
    monkeypatch.setattr(backend, "product", record)
    iteration()
    assert sorted(map(sorted, shapes)) == sorted(map(sorted, benchmark.products(workload)))
