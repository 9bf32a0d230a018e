"""Tests of runs that a script starts: files, stops and kills, resumes, refusals, full disks."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinygan
from tinygan import checkpoint
from tinygan.runs import record
from tinygan.runs.record import Progress

from helpers import call_script
from test_image import read_png

ROOT = pathlib.Path(__file__).parent.parent
ANY_GAME = ROOT / "tests" / "any_game.py"
RUN_FILES = {"settings.json", "samples", "samples.png", "training.png", "log.csv", "losses.svg",
             "checkpoint.npz"}

pytestmark = pytest.mark.host


@pytest.mark.parametrize("steps, times", [(1, 20), (7, 20), (20, 20), (45, 20), (1000, 10)])
def test_measurements_are_evenly_spaced(steps, times):
    """The times asked for or more, at most twice as many, in equal distances, and the last step."""
    run = types.SimpleNamespace(steps=steps)
    due = [step for step in range(1, steps + 1) if tinygan.Run.is_due(run, step, times)]
    assert due[-1] == steps and min(times, steps) <= len(due) <= 2 * times
    assert len({*np.diff([0, *due[:-1]])}) <= 1


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return the path of a file of sixty images of 4x4 pixels."""
    path = tmp_path_factory.mktemp("data") / "digits.npy"
    np.save(path, np.random.default_rng(0).integers(256, size=(60, 4, 4), dtype=np.uint8))
    return path


def start_script(cwd, script, *flags, **environment):
    """Start a script in the folder `cwd` and return the process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1",
                   **environment}
    return subprocess.Popen([sys.executable, script, *map(str, flags)], cwd=cwd, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_end(process):
    """Wait for a process and return (exit status, stdout, stderr)."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def run_script(cwd, script, *flags):
    """Run a script that must succeed in a process of its own and return its stdout."""
    status, out, err = wait_for_end(start_script(cwd, script, *flags))
    assert status == 0, err
    return out


def call(cwd, script, *flags):
    """Run a script that must succeed in this process, see call_script, and return its stdout."""
    ended = call_script(cwd, script, *flags)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def read_refusal(cwd, script, *flags):
    """Run a script that must fail in this process and return the last line of its stderr."""
    ended = call_script(cwd, script, *flags)
    assert ended.returncode != 0
    return ended.stderr.strip().splitlines()[-1]


def read_files(folder):
    """Return {path: content} of all files in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.glob("**/*") if path.is_file()}


def same_files(a, b):
    """Assert that two folders have the same files, and return True."""
    a, b = read_files(a), read_files(b)
    assert a.keys() == b.keys()
    assert not [path for path in a if a[path] != b[path]]
    return True


def kill_and_resume(cwd, script, flags, out, delay):
    """Start a run, kill it by SIGKILL after `delay` seconds, and then run it to its end."""
    process = start_script(cwd, script, *flags, "--out", out)
    time.sleep(delay)
    process.kill()
    process.communicate()
    began = (out / "checkpoint.npz").exists()
    return call(cwd, script, *(["--resume", "--save-every", 0] if began else flags), "--out", out)


# Kills and stops

def test_a_killed_run_is_resumed_bit_for_bit(digits, tmp_path):
    """A run that was killed and resumed has the files of a run that was not killed.

    SNGAN has several steps of D, and spectral norms; here also instance noise, an average of G's
    weights and schedules. test_contract.py tests the checkpoints of all games.
    """
    flags = ["--data", digits, "--game", "sngan", "--noise", 0.3, "--average", 0.9, "--save-every",
             0, "--steps", 40]
    start = time.monotonic()
    run_script(tmp_path, ANY_GAME, *flags, "--out", tmp_path / "whole")
    whole = time.monotonic() - start
    delay = random.Random("sngan").uniform(0.2, 0.9) * whole
    kill_and_resume(tmp_path, ANY_GAME, flags, tmp_path / "killed", delay)
    assert same_files(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_a_run_in_two_parts_is_the_whole_run(order, digits, tmp_path):
    """A run of 10 steps that is resumed to 30 has the files of a run of 30 steps.

    SGD's schedules do not depend on the number of steps of the run.
    """
    flags = ["--data", digits, "--order", order]
    call(tmp_path, ANY_GAME, *flags, "--steps", 30, "--out", "whole")
    call(tmp_path, ANY_GAME, *flags, "--steps", 10, "--out", "half")
    assert "resumed after step 10" in call(tmp_path, ANY_GAME, "--resume", "--steps", 30,
                                           "--out", "half")
    assert same_files(tmp_path / "whole", tmp_path / "half")


def test_an_example_that_is_killed_three_times(tmp_path):
    """A run of an example is the same if it is killed and resumed three times."""
    images = np.random.default_rng(0).integers(256, size=(80, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = ROOT / "examples" / "dcgan_mnist.py"
    flags = ["--data", "images.npy", "--channels", 2, "--batch-size", 8, "--steps", 20,
             "--save-every", 0]
    start = time.monotonic()
    run_script(tmp_path, script, *flags, "--out", "whole")
    whole, chance = time.monotonic() - start, random.Random(1)
    for _ in range(3):
        process = start_script(tmp_path, script, *flags, "--out", "killed")
        time.sleep(chance.uniform(0.3, 0.6) * whole)
        process.kill()
        process.communicate()
        if (tmp_path / "killed" / "checkpoint.npz").exists():
            flags = ["--resume", "--save-every", 0]
    call(tmp_path, script, *flags, "--out", "killed")
    assert same_files(tmp_path / "whole", tmp_path / "killed")


def wait_for(path):
    """Wait until there is a file at `path`."""
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.02)


def stop_run(number, cwd, *flags):
    """Start a run in the folder "a run", stop it by a signal and return (its step, its stderr)."""
    process = start_script(cwd, ANY_GAME, *flags, "--out", "a run")
    wait_for(cwd / "a run" / "checkpoint.npz")
    process.send_signal(number)
    status, _, err = wait_for_end(process)
    assert status == 128 + number
    return checkpoint.read(cwd / "a run" / "checkpoint.npz").about["step"], err


def test_sigterm_stops_a_run(digits, tmp_path):
    step, err = stop_run(signal.SIGTERM, tmp_path, "--data", digits, "--steps", 10 ** 6)
    assert step > 0 and f"stopped after step {step} of 1000000 with a checkpoint" in err


def test_a_stopped_run_prints_the_command_that_resumes_it(digits, tmp_path):
    """The printed command resumes the run, whose files are those of a run without a stop.

    The signal comes after some of its 200 steps.
    """
    flags = ["--data", digits, "--steps", 200, "--width", 3]
    step, err = stop_run(signal.SIGINT, tmp_path, *flags)
    assert 0 < step < 200
    command = re.search(rf"stopped after step {step} of 200 with a checkpoint.*\n(.*)\n", err)[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    again = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True,
                           text=True, timeout=120)
    assert again.returncode == 0 and f"resumed after step {step}" in again.stdout
    call(tmp_path, ANY_GAME, *flags, "--out", "whole")
    assert same_files(tmp_path / "whole", tmp_path / "a run")


@pytest.mark.parametrize("wrong", [{"shape": []}, {"shape": ["x", "y"]}, {"shape": [48.0]},
                                   {"shape": "48"}, {"first": "5"}, {"first": 0}, {"place": 1}])
def test_data_of_a_damaged_description_is_not_known(wrong):
    whole = {"place": "digits.npy", "shape": [48, 1, 4, 4], "sha256": "0", "first": 5}
    assert tinygan.command.saved._find_data({"data": whole}) == whole
    assert tinygan.command.saved._find_data({"data": {**whole, **wrong}}) is None


# The files of a run

def test_a_short_run_has_a_picture_of_each_step(digits, tmp_path):
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 3, "--out", "run")
    assert sorted(int(path.stem) for path in (tmp_path / "run/samples").iterdir()) == [0, 1, 2, 3]


def test_the_files_of_a_run(digits, tmp_path):
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 110, "--seed", 7, "--out", "run")
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    # about fifty pictures: one at every other step, and one before the first step
    assert sorted(int(path.stem) for path in (folder / "samples").iterdir()) == [
        *range(0, 111, 2)]
    assert (folder / "samples.png").read_bytes() == (folder / "samples/000110.png").read_bytes()
    assert read_png(folder / "samples.png").shape == (2 * (8 * 6 - 2),) * 2
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["script"] == "any_game.py" and settings["flags"]["seed"] == 7
    assert settings["versions"]["numpy"] == np.__version__
    assert settings["data"]["shape"] == [48, 1, 4, 4] and len(settings["data"]["sha256"]) == 16
    head, *lines = (folder / "log.csv").read_text().splitlines()
    assert head == "step,D loss,G loss,D(x),D(G(z))"
    rows = np.array([line.split(",") for line in lines], float)
    assert (rows[:, 0] == range(1, 111)).all() and np.isfinite(rows).all()
    assert ((rows[:, 3:] > 0) & (rows[:, 3:] < 1)).all()        # probabilities
    svg = ElementTree.parse(folder / "losses.svg").getroot()
    texts = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"D loss", "G loss", "D(x)", "D(G(z))", "step"} <= texts


def test_the_log_has_means_over_equal_intervals(digits, tmp_path, monkeypatch):
    """A row of the log has means over steps // 500 steps: over two in a run of 1000 steps."""
    monkeypatch.setattr(tinygan.Run, "iterations", lambda run, start: (
        (i, {"loss": np.float32(i)}) for i in range(start, run.steps)))
    for steps, interval in ((1000, 2), (999, 1)):
        call(tmp_path, ANY_GAME, "--data", digits, "--steps", steps, "--out", "run", "--overwrite")
        rows = np.loadtxt(tmp_path / "run" / "log.csv", delimiter=",", skiprows=1)
        assert rows.tolist() == [[i + interval, i + (interval - 1) / 2]
                                 for i in range(0, steps, interval)]


def test_the_noise_of_the_pictures_is_in_the_checkpoint(digits, tmp_path):
    """A resumed run takes the noise of its pictures from the checkpoint; it draws no new noise."""
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 2, "--out", "run")
    path = tmp_path / "run" / "checkpoint.npz"
    _, about, arrays = checkpoint.read(path)
    z = arrays["z"][::-1].copy()
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **{**arrays, "z": z})
    call(tmp_path, ANY_GAME, "--resume", "--steps", 3, "--out", "run")
    assert (checkpoint.read(path).arrays["z"] == z).all()


def test_the_last_picture_is_of_the_last_step(digits, tmp_path):
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 103, "--out", "run")
    folder = tmp_path / "run"
    assert sorted(int(path.stem) for path in (folder / "samples").iterdir()) == [
        *range(0, 103, 2), 103]
    assert (folder / "samples.png").read_bytes() == (folder / "samples/000103.png").read_bytes()
    assert (folder / "log.csv").read_text().splitlines()[-1].startswith("103,")


def test_a_closed_output_stops_the_run_with_a_checkpoint(digits, tmp_path):
    """A run whose output is closed, as by `| head -1`, saves a checkpoint and ends."""
    process = start_script(tmp_path, ANY_GAME, "--data", digits, "--steps", 10 ** 6, "--out", "run")
    assert process.stdout.readline().startswith("data:")
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(60) == 1 and "Traceback" not in err
    step = int(re.match(r"stopped after step (\d+) of 1000000 with a checkpoint", err)[1])
    assert checkpoint.read(tmp_path / "run" / "checkpoint.npz").about["step"] == step > 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full, a file whose disk is "
                    "full: it is not tested that a full log stops a run with a checkpoint")
def test_a_full_log_stops_the_run_with_a_checkpoint(digits, tmp_path, monkeypatch):
    """The run ends when its next line cannot be written, as with a terminal that is gone."""
    game = tinygan.games.GAN(tinygan.nn.Sequential(
        tinygan.nn.Dense(3, 16), tinygan.nn.Reshape(1, 4, 4)), tinygan.nn.Sequential(
        tinygan.nn.Flatten(), tinygan.nn.Dense(16, 1)), 3)
    data = tinygan.data.Minibatches(np.load(digits)[:, None], 8)
    opts = [tinygan.optim.SGD(p, 0.1) for p in (game.d_parameters(), game.g_parameters())]
    run = tinygan.Run(tmp_path / "run", game, data, opts, 10 ** 4, save_every=10 ** 6)
    monkeypatch.setattr(record, "time", types.SimpleNamespace(      # the next line is due at once
        monotonic=lambda: 1000 * time.monotonic()))
    with open("/dev/full", "w") as full, contextlib.redirect_stdout(full):
        with pytest.raises(BrokenPipeError, match="with a checkpoint"):
            run.play()
        with contextlib.suppress(OSError):
            full.close()
    assert run.stopped == 0 and 0 < run.step < 10 ** 4
    assert checkpoint.read(tmp_path / "run" / "checkpoint.npz").about["step"] == run.step


def test_a_run_without_a_standard_output(digits, tmp_path):
    """Python has no sys.stdout if it was closed when the process began."""
    command = " ".join(map(str, [sys.executable, ANY_GAME, "--data", digits, "--steps", 2, "--out",
                                 "run", ">&-"]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, text=True,
                             stderr=subprocess.PIPE, timeout=120)
    assert process.returncode == 0 and process.stderr == ""
    assert (tmp_path / "run" / "checkpoint.npz").exists()


# Folders

def test_a_folder_with_a_run_is_refused_resumed_or_replaced(digits, tmp_path):
    flags = ["--data", digits, "--steps", 6, "--out", "run"]
    line = read_refusal(tmp_path, ANY_GAME, "--resume", "--out", "run")
    assert "no run in run" in line and "--out" in line
    call(tmp_path, ANY_GAME, *flags)
    before = read_files(tmp_path / "run")
    line = read_refusal(tmp_path, ANY_GAME, *flags)
    assert "run holds a run" in line and "--resume" in line and "--overwrite" in line
    assert read_files(tmp_path / "run") == before
    call(tmp_path, ANY_GAME, *flags, "--dry-run")          # it writes into another folder
    assert read_files(tmp_path / "run") == before
    # before the data is read, which may be a download
    assert read_refusal(tmp_path, ANY_GAME, *flags, "--data", "nowhere") == line
    assert "resumed after step 6" in call(tmp_path, ANY_GAME, "--resume", "--out", "run")
    assert read_files(tmp_path / "run") == before          # there were no steps left
    assert "not allowed with" in read_refusal(tmp_path, ANY_GAME, *flags, "--resume", "--overwrite")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "samples" / "best.png").write_text("mine")
    (tmp_path / "run" / "evaluation.json").write_text("measured before")     # evaluate.py's
    call(tmp_path, ANY_GAME, *flags, "--steps", 3, "--seed", 1, "--overwrite")
    after = read_files(tmp_path / "run")
    assert after.pop("notes.txt") == after.pop("samples/best.png") == b"mine"
    call(tmp_path, ANY_GAME, *flags, "--steps", 3, "--seed", 1, "--out", "new")
    assert after == read_files(tmp_path / "new")


@pytest.mark.parametrize("flags, words", [
    (["--batch-size", 100], "minibatch of 100"), (["--batch-size", 1], "larger batch"),
    (["--game", "sngan", "--order", "simultaneous"], "simultaneous")])
def test_a_run_that_cannot_take_a_step_replaces_nothing(flags, words, digits, tmp_path):
    """The old run in the folder stays, and a new folder has no files."""
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 3, "--out", "run")
    before = read_files(tmp_path / "run")
    assert words in read_refusal(tmp_path, ANY_GAME, "--data", digits, "--out", "run",
                                 "--overwrite", *flags)
    assert read_files(tmp_path / "run") == before
    assert words in read_refusal(tmp_path, ANY_GAME, "--data", digits, "--out", "new", *flags)
    assert read_files(tmp_path / "new") == {}


def test_files_that_are_not_of_a_run_are_not_replaced(digits, tmp_path):
    for name, content in (("settings.json", b"mine"), ("samples/2024.png", b"mine"),
                          ("checkpoint.npz", b"mine")):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        for flag in ([], ["--overwrite"]):
            line = read_refusal(tmp_path, ANY_GAME, "--data", digits, "--out", "folder", *flag)
            assert "folder" in line and read_files(tmp_path / "folder") == {name: content}
            assert "by --out" in line
        shutil.rmtree(tmp_path / "folder")


def test_a_run_is_resumed_on_the_backend_of_the_environment(digits, tmp_path):
    """TINYGAN_BACKEND replaces the backend of a run, so that a GPU's run is resumed on a CPU."""
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 1, "--out", "run")
    path = tmp_path / "run" / "checkpoint.npz"
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(arrays["about"].tobytes())
    about["settings"]["flags"]["backend"] = "nogpu"
    np.savez(path, **{**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    assert "nogpu" in read_refusal(tmp_path, ANY_GAME, "--resume", "--steps", 2, "--out", "run")
    status, out, err = wait_for_end(start_script(tmp_path, ANY_GAME, "--resume", "--steps", 2,
                                                 "--out", "run", TINYGAN_BACKEND="numpy"))
    assert status == 0 and "resumed" in out, err


def test_two_processes_do_not_write_one_run(digits, tmp_path):
    process = start_script(tmp_path, ANY_GAME, "--data", digits, "--steps", 10**6, "--out", "run")
    try:
        wait_for(tmp_path / "run" / "checkpoint.npz")
        for flag in ("--resume", "--overwrite"):
            line = read_refusal(tmp_path, ANY_GAME, "--data", digits, "--out", "run", flag,
                                "--steps", 1)
            assert "another process" in line
    finally:
        process.kill()
        process.communicate()
    assert "resumed" in call(tmp_path, ANY_GAME, "--resume", "--steps", 1, "--out", "run")


def test_a_resume_with_other_settings_is_refused_and_loses_nothing(digits, tmp_path):
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 4, "--noise", 0.5, "--out", "run")
    before = read_files(tmp_path / "run")
    np.save(tmp_path / "others.npy", np.full((60, 4, 4), 9, np.uint8))
    np.save(tmp_path / "fewer.npy", np.load(digits)[:50])
    other = tmp_path / "other_game.py"      # a script with another name and other networks
    other.write_text(ANY_GAME.read_text().replace("args.width", "5"))
    wider = tmp_path / "wider" / "any_game.py"
    wider.parent.mkdir()
    wider.write_text(ANY_GAME.read_text().replace("args.width", "5"))
    faster = tmp_path / "faster" / "any_game.py"
    faster.parent.mkdir()
    faster.write_text(ANY_GAME.read_text().replace("0.05, 0.99", "0.05, 0.999"))
    cases = [
            (ANY_GAME, ["--game", "r1"], ["has --game gan"]),
            (ANY_GAME, ["--batch-size", 4], ["has --batch-size 8"]),
            (ANY_GAME, ["--seed", 1], ["has --seed 0"]),
            (ANY_GAME, ["--average", 0.9], ["has no --average"]),
            (ANY_GAME, ["--steps", 3], ["at step 4 already"]),
            (ANY_GAME, ["--data", "others.npy"], ["other data", "others.npy", "digits.npy"]),
            (ANY_GAME, ["--data", "fewer.npy"], ["other data", "fewer.npy"]),
            (ANY_GAME, ["--data", "nowhere.npy"], ["nowhere.npy"]),
            (other, [], ["any_game.py"]),
            (wider, [], ["c_out was 4, now 5"]),
            (faster, [], ["d_opt.lr.rate was 0.99, now 0.999"])]
    line = read_refusal(tmp_path, ANY_GAME, "--resume", "--out", ".")
    assert "no run in ." in line and "there is one in ./run" in line
    for script, flags, words in cases:
        line = read_refusal(tmp_path, script, "--resume", "--out", "run", *flags)
        assert all(word in line for word in words), line
        assert read_files(tmp_path / "run") == before
    # the data may be at another path, if it is the same
    shutil.copy(digits, tmp_path / "moved.npy")
    call(tmp_path, ANY_GAME, "--resume", "--data", "moved.npy", "--out", "run")


def test_a_preset_that_a_run_does_not_have_is_refused_by_its_name(digits, tmp_path):
    """The flags that the preset changes are not named, and neither is a flag without a value."""
    script = write_script_with_presets(tmp_path)
    call(tmp_path, script, "--data", digits, "--steps", 1, "--out", "run")
    line = read_refusal(tmp_path, script, "--resume", "--r1", "--out", "run")
    assert "has no --r1: leave it out" in line, line
    call(tmp_path, script, "--data", digits, "--paper", "--steps", 1, "--out", "paper")
    line = read_refusal(tmp_path, script, "--resume", "--r1", "--out", "paper")
    assert "has no --r1: leave it out" in line, line


def test_a_run_with_a_preset_is_resumed_without_naming_it(digits, tmp_path):
    """Its flags keep the preset's values, which are no flags without effect."""
    script = write_script_with_presets(tmp_path)
    for flags in (["--r1"], ["--r1", "--steps", 2]):
        call(tmp_path, script, "--data", digits, *flags, "--out", "run", "--overwrite")
        assert "resumed after step" in call(tmp_path, script, "--resume", "--out", "run")
    line = read_refusal(tmp_path, script, "--resume", "--out", "run", "--noise", 0.3)
    assert "the run in run has --noise 0.2: resume it with that" in line, line


def test_a_preset_turns_an_average_off(tmp_path):
    """The recipe of dcgan_mnist.py keeps an average of G's weights; with --paper it keeps none."""
    script = ROOT / "examples" / "dcgan_mnist.py"
    assert "no --average" in " ".join(call(tmp_path, script, "--help").split())
    small = "--data", "sample", "--channels", 1, "--batch-size", 4, "--steps", 1
    for flags, average in (([], 0.998), (["--paper"], None)):
        call(tmp_path, script, *small, *flags, "--out", "run", "--overwrite")
        assert "resumed" in call(tmp_path, script, "--resume", "--steps", 2, "--out", "run")
        game = tinygan.load(tmp_path / "run")
        assert (game.averages and game.average_decay) == average
    line = read_refusal(tmp_path, script, "--resume", "--average", 0.5, "--out", "run")
    assert "has no --average: leave it out" in line, line


def write_script_with_presets(folder):
    """Write any_game.py with two presets, and with a check of a flag without effect."""
    script = folder / "any_game.py"
    before = "    args = command.parse(flags)\n"
    script.write_text(ANY_GAME.read_text(encoding="utf-8").replace(before, """\
    either = flags.add_mutually_exclusive_group()
    settings = {"steps": 9, "batch_size": 4, "average": 0.9, "noise": 0.2}
    command.add_preset(flags, "--r1", settings, "R1", either)
    command.add_preset(flags, "--paper", {**settings, "noise": 0.1}, "the paper's", either)
    args = command.parse(flags)
    command.refuse_unused(flags, args, False, "another flag", "noise")
"""), encoding="utf-8")
    return script


def test_a_resumed_run_finds_its_data(digits, tmp_path):
    """A run is resumed with its data, also from another folder and in another environment.

    A run on the bundled sample is resumed on the sample.
    """
    shutil.copy(digits, tmp_path / "mine.npy")
    (tmp_path / "elsewhere").mkdir()
    for flags in (["--data", "mine.npy"], []):
        process = start_script(tmp_path, ANY_GAME, *flags, "--steps", 2, "--out", "run",
                               "--overwrite", TINYGAN_DATA="" if flags else "mine.npy")
        assert wait_for_end(process)[0] == 0
        assert "resumed" in call(tmp_path / "elsewhere", ANY_GAME, "--resume", "--out", "../run")
    call(tmp_path, ANY_GAME, "--data", digits, "--resume", "--out", "run")
    sample = ROOT / "examples" / "dcgan_mnist.py"
    call(tmp_path, sample, "--data", "sample", "--channels", 1, "--batch-size", 4,
         "--steps", 1, "--out", "digits")
    assert "bundled sample" in call(tmp_path, sample, "--resume", "--steps", 2, "--out", "digits")


def test_a_checkpoint_with_invalid_settings_is_refused(digits, tmp_path):
    """A checkpoint with valid checksums and invalid settings or log is refused in one line."""
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 3, "--out", "run")
    _, about, arrays = checkpoint.read(tmp_path / "run" / "checkpoint.npz")
    settings = about["settings"]
    flags = settings["flags"]
    wrong = [{"settings": {**settings, "flags": {**flags, "batch_size": "x"}}},
             {"settings": {**settings, "flags": {**flags, "game": []}}},
             {"settings": {**settings, "flags": {**flags, "save_every": -1}}},
             {"settings": {**settings, "data": 5}}, {"settings": None},
             {"step": -5}, {"step": 10 ** 30}, {"step": "x"}, {"columns": [1, 2]},
             {"counts": 3}, {"counts": {"x": 3}}, {"columns": None}, {"played": {}},
             {"z": {"tensor": "nothing"}}, {"data": {"tuple": 3}}, {"t": {"d_opt": "x"}}]
    saved = [({**about, **changes}, arrays) for changes in wrong]
    flags["out"] = "elsewhere"                                  # must have no effect
    saved += [(about, {**arrays, name: array}) for name, array in (
        ("log", np.zeros(2)), ("log", np.zeros((3, 99))), ("z", np.zeros(3)),
        ("data.order", np.zeros(3)))]
    for i, (about, arrays) in enumerate(saved):
        shutil.copytree(tmp_path / "run", tmp_path / str(i))
        np.savez(tmp_path / str(i) / "checkpoint.npz",
                 about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        read_refusal(tmp_path, ANY_GAME, "--resume", "--out", i)
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_checkpoint_is_refused(digits, tmp_path):
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 2, "--out", "run")
    path = tmp_path / "run" / "checkpoint.npz"
    good = path.read_bytes()
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, weights=np.zeros(3))
    # a byte in the numbers of an array, after the 128 bytes of its header
    middle = good.index(b"\x93NUMPY", len(good) // 2) + 130
    another = bytes([good[middle] ^ 1])
    for content in (b"", good[:middle], good[:middle] + another + good[middle + 1:], b"hello",
                    foreign.read_bytes()):
        path.write_bytes(content)
        for command in ((ANY_GAME, "--resume", "--out", "run"),
                        (ROOT / "examples" / "sample.py", "run")):
            line = read_refusal(tmp_path, *command)
            assert "checkpoint.npz" in line and path.read_bytes() == content, line


# Failures

def test_a_loss_that_is_no_longer_finite_ends_the_run(tmp_path):
    """The error names the quantity, the step, and the last checkpoint, which can be loaded."""
    script = ROOT / "examples" / "dcgan_mnist.py"
    images = np.random.default_rng(0).integers(256, size=(80, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    status, _, err = wait_for_end(start_script(tmp_path, script, "--data", "images.npy",
                                               "--channels", 2, "--batch-size", 8, "--lr", 1e8,
                                               "--steps", 99, "--save-every", 0, "--out", "run"))
    (line,) = err.strip().splitlines()          # there are no warnings
    assert status == 1
    found = re.fullmatch(r"dcgan_mnist.py: (\S.*) (?:has become nan|is no longer finite) by step "
                         r"(\d+): start another run with .*; the last checkpoint, (\S+), is of "
                         r"step (\d+)", line)
    assert found, line
    _, step, path, saved = found.groups()
    assert int(step) > int(saved)
    _, about, arrays = checkpoint.read(tmp_path / path)
    assert about["step"] == int(saved)
    assert all(np.isfinite(array).all() for array in arrays.values())
    tinygan.load(tmp_path / "run")


def run_on_small_disk(tmp_path, size, commands):
    """Run shell commands with a file system of `size` bytes mounted at the folder `disk`.

    The test is skipped if the system does not allow users to mount file systems.
    """
    (tmp_path / "disk").mkdir()
    shell = f"mount -t tmpfs -o size={size} none disk && {commands}"
    try:
        probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "disk"],
                               cwd=tmp_path, capture_output=True)
        works = probe.returncode == 0
    except FileNotFoundError:
        works = False
    if not works:
        pytest.skip("this system does not allow users to mount file systems (unshare -rm)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(["unshare", "-rm", "sh", "-c", shell], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=120)


def test_a_run_on_a_full_disk_can_be_resumed(digits, tmp_path):
    """When the disk is full, the checkpoint stays valid, and the run can be resumed later.

    No temporary file is left.
    """
    run = f"{sys.executable} {ANY_GAME} --out disk/run"
    process = run_on_small_disk(
        tmp_path, "120k", f"{run} --data {digits} --steps 120 --save-every 0; echo status $?; "
        f"find disk -name '*.tmp'; mount -o remount,size=20m disk; {run} --resume; echo status $?; "
        "find disk -name '*.tmp'; cp -r disk/run kept")
    lines = [line for line in process.stdout.splitlines() if line.startswith(("status", "resumed"))
             or line.endswith(".tmp")]
    assert lines[0] == "status 1" and lines[2:] == ["status 0"], (process.stdout, process.stderr)
    assert lines[1].startswith("resumed after step ") and int(lines[1].split()[-1]) > 0
    (line,) = process.stderr.strip().splitlines()
    assert re.fullmatch(r"any_game.py: cannot write disk/run/\S+ \(No space left on device\): make "
                        r"room or choose another place with --out; --resume then resumes from step "
                        rf"{lines[1].split()[-1]}", line), line
    call(tmp_path, ANY_GAME, "--data", digits, "--steps", 120, "--save-every", 0, "--out", "whole")
    assert same_files(tmp_path / "whole", tmp_path / "kept")


def test_a_disk_that_is_full_from_the_start(digits, tmp_path):
    """The error mentions --resume only if there is a checkpoint."""
    run = f"{sys.executable} {ANY_GAME} --out disk/run"
    process = run_on_small_disk(
        tmp_path, "8k", f"{run} --data {digits} --steps 9; mount -o remount,size=20m disk; "
        f"{run} --data {digits} --steps 9; dd if=/dev/zero of=disk/fill bs=1k 2> /dev/null; "
        f"{run} --resume --steps 12")
    first, second = process.stderr.strip().splitlines()
    assert "No space left" in first and first.endswith("with --out")
    assert "No space left" in second and second.endswith("--out; --resume then resumes from step 9")


def test_a_read_only_folder_is_refused(digits, tmp_path):
    run = f"{sys.executable} {ANY_GAME} --data {digits} --steps 2 --out disk/run"
    process = run_on_small_disk(tmp_path, "20m",
                                f"{run} && mount -o remount,ro disk; {run} --resume; {run}/new")
    assert process.returncode == 1
    first, second = process.stderr.strip().splitlines()
    assert all("cannot write into" in line and "Read-only" in line and "--out" in line
               for line in (first, second))


# Output

def test_explain_prints_two_paragraphs(tmp_path):
    paragraphs = call(tmp_path, ROOT / "examples" / "gan_mnist.py", "--explain").split("\n\n")
    assert len(paragraphs) == 2 and not any(tmp_path.iterdir())
    assert "D(x)" in paragraphs[0] and "collapsed" in paragraphs[1]


class Terminal:
    """A stream that keeps what is written to it; `live` is the result of isatty()."""

    def __init__(self, live):
        self.live, self.text = live, ""

    def isatty(self):
        return self.live

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("live", [True, False])
def test_progress_shows_averages_since_the_last_line(live):
    """On a terminal the line is rewritten; in a file there are whole lines, the last at the end."""
    terminal = Terminal(live)
    progress = Progress(4, terminal)
    progress.every = 1e9
    progress(0, {"loss": 1.0})
    progress.every = 0.0
    progress(1, {"loss": 2.0})
    progress(2, {"loss": 7.0})
    progress.every = 1e9
    progress(3, {"loss": 4.0})
    lines = terminal.text.replace("\x1b[K", "").replace("\r", "\n" if live else "\r").split("\n")
    losses = [line.split("loss ")[1] for line in lines if line]
    assert losses == ["1.500", "7.000", "4.000"]
    progress.close()        # the line has ended
    assert terminal.text.count("\n") == (1 if live else 3) and terminal.text.endswith("\n")


@pytest.mark.parametrize("live", [True, False])
def test_progress_that_has_printed_nothing_ends_no_line(live):
    terminal = Terminal(live)
    Progress(3, terminal).close()
    assert terminal.text == ""


def test_progress_shows_the_rate_and_the_time_that_is_left(monkeypatch):
    """They are those of the steps since the start of this process: a resumed run had others."""
    clock = [1000.0]
    monkeypatch.setattr(record.time, "monotonic", lambda: clock[0])
    terminal = Terminal(False)
    progress = Progress(1000, terminal, start=500)
    for i in range(500, 520):
        clock[0] += 1.0                     # a second for each step
        progress(i, {"loss": 1.0})
    lines = [re.fullmatch(r"step +(\d+)/1000 +([\d.]+)/s  (\S+) left  loss 1.000", line).groups()
             for line in terminal.text.splitlines()]
    # the first line after a second, then one in ten seconds; 1000 - step seconds are left
    assert lines == [("501", "1.0", "8:19"), ("511", "1.0", "8:09")]


def test_a_value_of_some_steps_stays_in_the_line():
    """A value that is measured at some steps stays in the line until the next one."""
    terminal = Terminal(False)
    progress = Progress(3, terminal)
    progress.every = 0.0
    for i, more in enumerate([{"modes": 8}, {}, {"modes": 7}]):
        progress(i, {"loss": float(i), **more})
    assert [line.split("left  ")[1] for line in terminal.text.splitlines()] == [
        "loss 0.000  modes 8.000", "loss 1.000  modes 8.000", "loss 2.000  modes 7.000"]


def test_a_live_line_is_no_longer_than_the_terminal_is_wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal(True)
    progress = Progress(2, terminal)
    progress.every = 0.0
    progress(0, {"a quantity with a long name": 1.0})
    line = terminal.text.removeprefix("\r").removesuffix("\x1b[K")
    assert len(line) == 39 and line.startswith("step 1/2")
