"""The examples, run as a user runs them: what they print, write and refuse."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tinygan.run import Progress

from test_image import read_png

ROOT = pathlib.Path(__file__).parent.parent
TRAINING = sorted(path.name for path in (ROOT / "examples").glob("*_mnist.py"))

pytestmark = pytest.mark.host


def run(script, *flags, cwd, **environment):
    """The finished process; it can reach no network and no cache of the user's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cwd / "cache"),
                   "LOCALAPPDATA": str(cwd / "cache"), "https_proxy": "http://127.0.0.1:9",
                   "OPENBLAS_NUM_THREADS": "2", **environment}
    return subprocess.run([sys.executable, ROOT / "examples" / script, *map(str, flags)], cwd=cwd,
                          env=environment, capture_output=True, text=True, timeout=120)


def refusal(*args, **kwargs):
    """The one line on stderr of a run that must fail."""
    process = run(*args, **kwargs)
    assert process.returncode != 0 and "Traceback" not in process.stderr, process.stderr
    return process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("script", TRAINING)
def test_dry_run_does_everything_once_and_keeps_nothing(script, tmp_path):
    process = run(script, "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "step 2/2" in process.stdout and "bundled sample" in process.stdout
    assert not any(tmp_path.iterdir())


def test_benchmark_dry_run(tmp_path):
    """One round of the smallest workload: with or without PyTorch it fills its columns."""
    process = run("benchmark.py", "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    name, ours, *_ = process.stdout.splitlines()[-1].split()
    assert name == "gan" and float(ours) > 0


@pytest.mark.parametrize("flags", [["--paper"], ["--paper", "--order", "alternating"],
                                   ["--k", 2, "--g-loss", "saturating"],
                                   ["--order", "simultaneous"]])
def test_gan_mnist_settings(flags, tmp_path):
    process = run("gan_mnist.py", "--dry-run", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr


def test_gan_mnist_offline_trains_on_the_sample_and_repeats_bit_for_bit(tmp_path):
    """No network, no cache: one line says so; then the same seed gives the same pictures."""
    flags = ["--steps", 12, "--batch-size", 16]
    first, again, other = (run("gan_mnist.py", *flags, "--seed", seed, "--out", out, cwd=tmp_path)
                           for seed, out in ((1, "a"), (1, "b"), (2, "c")))
    assert first.returncode == 0, first.stderr
    source = first.stdout.splitlines()[0]
    assert "bundled sample" in source and "because" in source and "--data DIR" in source
    last = first.stdout.splitlines()[-2]
    assert re.search(r"step 12/12 .*/s .* left .*D loss .*G loss "
                     r".*D\(x\) 0\.\d+ .*D\(G\(z\)\) 0\.\d+", last)
    pictures = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert pictures == [f"samples-{i:06}.png" for i in range(1, 13)] + ["samples.png"]
    # 8x8 digits with 2 black pixels between, each pixel doubled
    assert read_png(tmp_path / "a" / "samples.png").shape == (2 * (8 * 30 - 2),) * 2
    for name in pictures:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_bad_input_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for flags, words in [
            (["--steps", -5], ["--steps", "'-5'", "at least 1"]),
            (["--batch-size", 0], ["--batch-size", "'0'"]),
            (["--batch-size", 9000, "--dry-run"], ["8000", "9000"]),
            (["--seed", "x"], ["--seed", "'x'"]),
            (["--k", 0], ["--k", "'0'"]),
            (["--backend", "torch"], ["'torch'", "numpy", "cupy"]),
            (["--backend", "cupy"], ["cupy", "pip install 'tinygan[cuda12]'"]),
            (["--g-loss", "hinge"], ["'hinge'", "saturating"]),
            (["--data", tmp_path / "nowhere"], ["nowhere", "train-images-idx3-ubyte"]),
            (["--out", tmp_path / "file" / "out", "--steps", 1], ["file/out", "--out"])]:
        if "cupy" in flags and _has_cupy():
            continue
        line = refusal("gan_mnist.py", *flags, cwd=tmp_path)
        assert all(word in line for word in words), line
    assert "TINYGAN_BACKEND" in refusal("gan_mnist.py", "--dry-run", cwd=tmp_path,
                                        TINYGAN_BACKEND="abacus")
    assert "nowhere" in refusal("gan_mnist.py", cwd=tmp_path, TINYGAN_DATA="nowhere")


def _has_cupy():
    try:
        import cupy
    except ImportError:
        return False
    return True


class Terminal:
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
    """One line that is rewritten on a terminal, whole lines in a file; the end is always told."""
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
    assert terminal.text.count("\n") == (1 if live else 3) and terminal.text.endswith("\n")
