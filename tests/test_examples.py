"""The examples, run as a user runs them: what they print, write and refuse."""

import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

from tinygan import Tensor, optim
from tinygan.data import mnist

import numpy as np

from test_data import idx, write
from test_image import read_png

ROOT = pathlib.Path(__file__).parent.parent
TRAINING = sorted(path.name for path in (ROOT / "examples").glob("*_mnist.py"))

pytestmark = pytest.mark.host


def run(script, *flags, cwd, **environment):
    """The finished process; it can reach no network and no cache of the user's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cwd / "cache"),
                   "LOCALAPPDATA": str(cwd / "cache"), "https_proxy": "http://127.0.0.1:9",
                   "no_proxy": "", "NO_PROXY": "",
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
    """One round of the smallest workload: with or without PyTorch it fills its columns. A batch of
    1 takes less than one of 100: a tenth, but the machine may be busy."""
    milliseconds = []
    for flags in [[], ["--batch", 1]]:
        process = run("benchmark.py", "--dry-run", *flags, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        name, ours, *_ = process.stdout.splitlines()[-1].split()
        assert name == "gan" and float(ours) > 0
        milliseconds.append(float(ours))
    assert milliseconds[1] < milliseconds[0]


@pytest.mark.parametrize("script", ["dirac.py", "mixtures.py"])
def test_dry_run_in_the_plane(script, tmp_path):
    process = run(script, "--dry-run", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "nothing kept" in process.stdout and not any(tmp_path.iterdir())


def test_dirac_prints_the_table_and_draws_it(tmp_path):
    """What the numbers are is test_dirac.py's concern."""
    process = run("dirac.py", "--steps", 20, "--out", "d", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) == 2 + 10 + 1 and "WGAN-GP, lam .35" in process.stdout
    picture = read_png(tmp_path / "d" / "trajectories.png")         # two rows of ten planes
    assert picture.shape == (2 * 160 + 4, 10 * 160 + 9 * 4, 3)


def test_mixtures_plays_every_game_from_paired_seeds(tmp_path):
    """A line for each run in the summary, a picture for each and a sheet; the same seed again gives
    the same."""
    flags = ["--game", "all", "--seeds", 0, 1, "--steps", 10, "--batch-size", 16]
    first, again = (run("mixtures.py", *flags, "--out", out, cwd=tmp_path) for out in "ab")
    assert first.returncode == 0, first.stderr
    runs = re.findall(r"^(\w+) +seed (\d)  modes \d+  HQ \d.* %  reverse KL ", first.stdout, re.M)
    assert len(runs) == len(set(runs)) == 20
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"grid-{game}-{seed}.png" for game, seed in runs} | {"grid.png"}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_png(tmp_path / "a" / "grid-gan-0.png").shape == (240, 240, 3)
    assert read_png(tmp_path / "a" / "grid.png").shape == (2 * 242 - 2, 10 * 242 - 2, 3)


def test_mixtures_begin_from_the_same_weights():
    """Whatever the game, a seed gives G and D the same initial weights."""
    sys.path.append(str(ROOT / "examples"))
    import mixtures
    args = types.SimpleNamespace(width=5, steps=1, sigma=0.0, lr=1e-9, batch_size=4)
    mixture, networks = mixtures.mixtures.ring(), []
    for name in mixtures.GAMES:
        game, _ = mixtures.trained(name, mixture, 1.0, 3, args)
        networks.append({name.removesuffix("_orig"): p.numpy() for name, p in
                         game.named_arrays(Tensor).items() if not name.startswith("G_average")})
    # steps of 1e-9; but the critic's weights are clipped to .1, after which G's are compared only
    for name, arrays in zip(mixtures.GAMES, networks):
        assert arrays.keys() == networks[0].keys()
        assert all(np.allclose(a, networks[0][key], atol=1e-6) for key, a in arrays.items()
                   if name != "wgan" or key.startswith("G")), name


@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp"])
def test_the_learning_rates_of_both_players_end_together(name, monkeypatch):
    """At 0 with the last step, and not before, however many steps D takes for one of G."""
    sys.path.append(str(ROOT / "examples"))
    import mixtures
    built = []
    for kind in ("Adam", "RMSProp"):
        def remembered(*args, make=getattr(optim, kind)):
            built.append(make(*args))
            return built[-1]
        monkeypatch.setattr(optim, kind, remembered)
    args = types.SimpleNamespace(width=5, steps=10, sigma=0.0, lr=0.1, batch_size=4)
    mixtures.trained(name, mixtures.mixtures.ring(), 1.0, 0, args)
    assert len(built) == 2
    for opt in built:
        assert opt.lr(opt.t) == pytest.approx(0.0, abs=1e-12) and opt.lr(opt.t - 1) > 1e-3


def test_every_flag_of_the_paper_examples_makes_a_difference(tmp_path):
    """Pictures after two steps from the same seed differ between any two settings of a script."""
    small = ["--channels", 2, "--steps", 2, "--batch-size", 8]
    for script, settings in {
            "dcgan_mnist.py": [["--lr", 1e-2], ["--channels", 3], ["--average", 0.5]],
            "wgan_mnist.py": [["--lr", 1e-2], ["--c", 0.1], ["--n-critic", 1], ["--warm-up"]],
            "wgan_gp_mnist.py": [["--lr", 1e-2], ["--beta1", 0.0], ["--lam", 0.0],
                                 ["--n-critic", 1]],
            "sngan_mnist.py": [["--lr", 1e-2], ["--n-dis", 1]]}.items():
        pictures = set()
        for i, flags in enumerate([[], *settings]):
            out = tmp_path / script / str(i)
            # a learning rate of its own, at which two steps can be seen in 8-bit pixels
            lr = [] if "--lr" in flags else ["--lr", 3e-2]
            process = run(script, *small, *lr, *flags, "--out", out, cwd=tmp_path)
            assert process.returncode == 0, process.stderr
            pictures.add((out / "samples.png").read_bytes())
        assert len(pictures) == 1 + len(settings), script


@pytest.mark.parametrize("script, flags, words", [
    ("dcgan_mnist.py", ["--lr", -1], ["'-1'", "above 0"]),
    ("dcgan_mnist.py", ["--lr", 1e30, "--dry-run"], ["nan", "learning rate"]),
    ("wgan_mnist.py", ["--c", 0], ["--c", "above 0"]),
    ("wgan_mnist.py", ["--warm-up", "--n-critic", 3], ["--n-critic", "--warm-up"]),
    ("wgan_gp_mnist.py", ["--beta1", 1], ["'1'", "below 1"]),
    ("wgan_gp_mnist.py", ["--lam", "nan"], ["'nan'", "at least 0"]),
    ("sngan_mnist.py", ["--n-dis", 0], ["'0'", "at least 1"]),
    ("mixtures.py", ["--sigma", -1], ["'-1'", "at least 0"]),
    ("mixtures.py", ["--game", "gans"], ["'gans'", "ragan"]),
    ("dirac.py", ["--lr", 1e300], ["--lr up to 10"])])
def test_bad_input_to_the_others_is_one_sentence(script, flags, words, tmp_path):
    line = refusal(script, *flags, cwd=tmp_path)
    assert all(word in line for word in words), line


def test_every_setting_of_gan_mnist_makes_a_difference(tmp_path):
    """Pictures after two steps from the same seed differ between any two settings."""
    settings = [[], ["--k", 2], ["--g-loss", "saturating"], ["--order", "simultaneous"],
                ["--paper"], ["--paper", "--order", "alternating"]]
    pictures = []
    for i, flags in enumerate(settings):
        out = tmp_path / str(i)
        flags = [*flags, "--steps", 2] + (["--batch-size", 16] if "--paper" not in flags else [])
        process = run("gan_mnist.py", *flags, "--out", out, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        pictures.append((out / "samples.png").read_bytes())
    assert len(set(pictures)) == len(settings)


def test_paper_has_the_papers_batch_size(tmp_path):
    """100: with 99 training images there is no minibatch."""
    images, labels = np.zeros((118, 28, 28), np.uint8), np.zeros(118, np.uint8)     # 19 to validate
    folder = write(tmp_path / "data", dict(zip(mnist.FILES, map(idx, [images, labels] * 2))))
    line = refusal("gan_mnist.py", "--paper", "--data", folder, cwd=tmp_path)
    assert "99 examples" in line and "minibatch of 100" in line


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
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "settings.json", "samples", "samples.png", "training.png", "log.csv", "losses.svg",
        "checkpoint.npz"}
    pictures = sorted(path.name for path in (tmp_path / "a" / "samples").iterdir())
    assert pictures == [f"{i:06}.png" for i in range(13)]
    # 8x8 digits with 2 black pixels between, each pixel doubled
    assert read_png(tmp_path / "a" / "samples.png").shape == (2 * (8 * 30 - 2),) * 2
    for path in (tmp_path / "a").glob("**/*.*"):
        name = path.relative_to(tmp_path / "a")
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    last = pathlib.Path("samples", pictures[-1])
    assert (tmp_path / "a" / last).read_bytes() != (tmp_path / "c" / last).read_bytes()


def test_bad_input_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for flags, words in [
            (["--steps", -5], ["--steps", "'-5'", "at least 1"]),
            (["--batch-size", 0], ["--batch-size", "'0'"]),
            (["--batch-size", 9000, "--dry-run"], ["8000", "9000"]),
            (["--seed", "x"], ["--seed", "'x'"]),
            (["--average", 1], ["--average", "'1'", "below 1"]),
            (["--k", 0], ["--k", "'0'"]),
            (["--backend", "torch"], ["'torch'", "numpy", "cupy"]),
            (["--backend", "cupy"], ["cupy", "pip install cupy-cuda12x"]),
            (["--order", "simultaneous", "--k", 5, "--dry-run"], ["simultaneous", "5"]),
            (["--batch-size", 1, "--dry-run"], ["BatchNorm", "larger batch"]),
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
