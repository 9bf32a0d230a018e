"""Mistakes of a user are refused at once, in a sentence that says what to do."""

import argparse
import builtins
import contextlib
import json
import math
import pathlib
import random
import re
import signal
import sys

import numpy as np
import pytest

from tinygan import (Run, Tensor, UserError, channels, check_grads, checkpoint, command, data, grad,
                     metrics, nn, no_grad, op, ops, optim, play, resampling, rng)
from tinygan.data import mixtures
from tinygan.data.arrays import check_scale
from tinygan.games import GAN, WGAN, UnrolledGAN, losses, penalties, views
from tinygan.games.catalogue import GAMES
from tinygan.metrics import classifier
from tinygan.metrics.mmd import mmd2
from tinygan.metrics.parzen import find_centroids
from tinygan.random import Random
from tinygan.runs.record import Progress
from tinygan.runs.run import check_folder

from helpers import normal

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))

pytestmark = pytest.mark.numpy_only("messages are the same on every backend")
ARRAY = np.ones((2, 3), "float32")


class Points:
    """A data stream of random points."""

    m = 4
    state = ()

    def __iter__(self):
        return self

    def __next__(self):
        return rng.normal((self.m, 2))


def make_run(folder, steps, **flags):
    """Return a Run of a small game on points, in `folder`."""
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    opts = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    run = Run(folder, game, Points(), opts, steps, **flags)
    run.pictures = lambda z: (None, None)
    return run


def set_format(path, version):
    """Change the format number of a checkpoint."""
    _, about, arrays = checkpoint.read(path)
    text = np.frombuffer(json.dumps({**about, "format": version}).encode(), np.uint8)
    np.savez(path, about=text, **arrays)


@pytest.mark.parametrize("keep", [0, 100, 1000])
@pytest.mark.parametrize("flags", [{}, {"overwrite": True}])
def test_a_damaged_checkpoint_is_not_offered_to_be_replaced(keep, flags, tmp_path):
    """Without and with --overwrite, the message is that the file is damaged and has to go."""
    make_run(tmp_path, 1).play()
    path = tmp_path / checkpoint.NAME
    damaged = path.read_bytes()[:keep]
    path.write_bytes(damaged)
    with pytest.raises(UserError) as refusal:
        check_folder(tmp_path, **flags)
    message = str(refusal.value)
    assert f"{path} is damaged" in message and "so remove the file" in message
    assert "resume it by --resume" not in message and "replace it by" not in message
    assert path.read_bytes() == damaged


def test_a_whole_checkpoint_can_be_resumed_or_replaced(tmp_path):
    make_run(tmp_path, 1).play()
    with pytest.raises(UserError, match="holds a run: resume it by --resume .*--overwrite"):
        check_folder(tmp_path)
    for flags in ({"resume": True}, {"overwrite": True}):
        check_folder(tmp_path, **flags)


def test_a_run_of_an_older_format_is_replaced_but_not_resumed(tmp_path):
    make_run(tmp_path, 3).play()
    path = tmp_path / checkpoint.NAME
    set_format(path, checkpoint.FORMAT - 1)
    with pytest.raises(UserError) as refusal:
        make_run(tmp_path, 2)
    message = str(refusal.value)
    assert f"holds a run of format {checkpoint.FORMAT - 1}, which cannot be resumed" in message
    assert "replace it by --overwrite" in message and "--resume" not in message
    with pytest.raises(UserError, match=f"reads format {checkpoint.FORMAT}"):
        make_run(tmp_path, 5, resume=True)
    make_run(tmp_path, 2, overwrite=True).play()
    about = checkpoint.read(path).about         # raises an error for another format
    assert about["step"] == 2


@pytest.mark.host
def test_reproduce_refuses_results_that_cannot_be_read(tmp_path, monkeypatch):
    """A folder, and a file without the permission to read it."""
    import reproduce
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "theory", "--show", "--results",
                                      str(tmp_path)])
    words = re.escape(f"cannot read the results in {tmp_path} ")
    with pytest.raises(UserError, match=f"{words}.*--results"):
        reproduce.main()
    path = tmp_path / "results.jsonl"
    path.write_text("")
    assert reproduce.read_results(path) == []

    def refuse(name, *args, **kwargs):
        if name == path:
            raise PermissionError(13, "Permission denied")
        return builtins.open(name, *args, **kwargs)
    monkeypatch.setattr(reproduce, "open", refuse, raising=False)
    with pytest.raises(UserError, match="cannot read .*results.jsonl .Permission denied.: give"):
        reproduce.read_results(path)


@pytest.mark.host
def test_reproduce_quick_takes_no_data(tmp_path, monkeypatch, capsys):
    import reproduce
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "mnist", "--quick", "--data", "mine.npz"])
    monkeypatch.setattr(reproduce, "run_table", lambda args: pytest.fail("a run was started"))
    with pytest.raises(SystemExit) as stop:
        reproduce.main()
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and "--data" in line and "--quick has images of its own" in line


@pytest.mark.host
def test_evaluate_refuses_a_folder_for_its_table_before_it_reads_the_run(tmp_path, monkeypatch):
    """For --out and for the default, evaluation.json in the folder of the run."""
    import evaluate
    (tmp_path / "run" / "evaluation.json").mkdir(parents=True)
    for flags in ([str(tmp_path / "nowhere"), "--out", str(tmp_path)], [str(tmp_path / "run")]):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *flags])
        with pytest.raises(UserError, match="cannot write .*, as it is a folder: .*--out"):
            evaluate.main()


def test_measured_values_are_shown_as_they_are(capsys):
    """The progress line has the mean of logged values, but the last of measured values: half a mode
    would be no measurement."""
    progress = Progress(3)
    progress.every = 1e9
    for i, modes in enumerate([8, 7, 6]):
        progress(i, {"loss": float(i)}, {"modes": modes, "KL": 0.25})
    assert capsys.readouterr().out.split("left  ")[1] == "loss 1.000  modes 6  KL 0.25\n"


def test_a_run_shows_its_last_measurement(tmp_path, capsys):
    """What Run.measure() returns is not averaged in the progress line."""
    run = make_run(tmp_path / "run", 4)
    run.measure = lambda step: {"modes": step}
    run.play()
    assert "  modes 4\n" in capsys.readouterr().out


@pytest.mark.host
def test_reproduce_shows_that_nothing_has_been_run(tmp_path, monkeypatch, capsys):
    import reproduce
    results = tmp_path / "results.jsonl"
    results.touch()
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "theory", "--show", "--results",
                                      str(results)])
    reproduce.main()
    assert capsys.readouterr().out == "nothing has been run yet\n"
    results.unlink()        # a name that was mistyped
    with pytest.raises(SystemExit):
        reproduce.main()
    assert f"there is no file {results}" in capsys.readouterr().err


@pytest.mark.host
@pytest.mark.parametrize("make", [lambda path: path.touch(),
                                  lambda path: path.symlink_to(path.parent / "nowhere")])
def test_an_output_that_is_no_folder_is_refused(make, tmp_path):
    make(tmp_path / "out")
    with pytest.raises(UserError, match="out' .it is no folder.: choose another folder with --out"):
        command.check_writable(str(tmp_path / "out"))


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_dry_run_that_was_stopped_offers_no_resumption(dry_run, tmp_path, capsys):
    run = make_run(tmp_path / "run", 4)
    run.measure = lambda step: signal.raise_signal(signal.SIGINT) or {}
    with pytest.raises(SystemExit):
        command.play(argparse.Namespace(out=str(run.folder), dry_run=dry_run), run)
    told = capsys.readouterr().err
    assert ("--resume" in told) == (not dry_run) == ("with a checkpoint" in told)
    assert ("keeps no files" in told) == dry_run


def test_a_run_leaves_the_handlers_of_signals_as_they_were(tmp_path):
    """Also one that was stopped."""
    run, numbers = make_run(tmp_path / "run", 4), (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    run.measure = lambda step: (signal.raise_signal(signal.SIGINT) or {}) if step == 2 else {}
    with pytest.raises(KeyboardInterrupt):
        run.play()
    assert [signal.getsignal(number) for number in numbers] == before
    run.play()
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.longdouble, np.int8])
def test_a_power_keeps_the_dtype(kind):
    x = Tensor(ARRAY * 3)
    assert (x ** kind(2)).dtype == "float32" and ((x ** kind(2)).data == 9).all()
    assert grad((x ** kind(2)).sum(), [x])[0].dtype == "float32"


@pytest.mark.parametrize("state", [None, [1, 2], nn.Dense(2, 1)])
def test_weights_that_are_no_dictionary_are_refused(state):
    with pytest.raises(UserError, match="takes {name: array}.*got a "):
        nn.Dense(2, 1).load_state_dict(state)


def test_a_size_that_is_one_number_is_refused():
    x = Tensor(np.ones((1, 1, 4, 4), "float32"))
    with pytest.raises(ValueError, match="two whole numbers of at least 1, got 5"):
        resampling.resize(x, 5)
    assert resampling.resize(x, np.array([2, 3])).shape == (1, 1, 2, 3)


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_no_samples_are_refused(n):
    with pytest.raises(ValueError, match="at least 1"):
        GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).draw_samples(n, rng)
    with pytest.raises(ValueError, match=f"in pieces of {n!r}"):
        GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).draw_samples(5, rng, piece=n)


def test_networks_of_float64_are_refused_by_play():
    """Its noise is float32, so no dtype of the data would do."""
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    for p in game.parameters():
        p.data = p.data.astype("float64")
    opts = [optim.SGD(ps, 0.1) for ps in (game.d_parameters(), game.g_parameters())]
    with pytest.raises(UserError, match="D.weight is float64 and the data is float32.* noise"):
        next(play(game, Points(), *opts, 4, rng, 1))


@pytest.mark.parametrize("call", [
    penalties.R1, penalties.GradientPenalty, nn.Dropout, nn.GaussianNoise, losses.Smoothed,
    views.Translation, views.Cutout, GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).keep_average,
    lambda c: WGAN(nn.Dense(2, 2), nn.Dense(2, 1), c=c),
    lambda eta: UnrolledGAN(nn.Dense(2, 2), nn.Dense(2, 1), eta=eta),
    lambda momentum: nn.BatchNorm(2, momentum=momentum), lambda eps: nn.BatchNorm(2, eps=eps),
    lambda eps: nn.LayerNorm(2, eps), lambda eps: nn.InstanceNorm2d(2, eps)])
def test_settings_that_are_no_numbers_of_at_least_0_are_refused(call):
    for wrong in (-1, np.nan, "10", None, np.ones(2)):
        with pytest.raises(ValueError, match=re.escape(repr(wrong))):
            call(wrong)


def test_the_bounds_of_settings_are_allowed():
    for make in penalties.R1, nn.Dropout, nn.GaussianNoise, views.Translation, views.Cutout:
        make(0)
        make(np.array(0.0))
    for make in losses.Smoothed, views.Translation, views.Cutout:
        make(1)
    nn.BatchNorm(2, eps=0, momentum=1)
    WGAN(nn.Dense(2, 2), nn.Dense(2, 1), c=np.inf)      # clips nothing
    GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).keep_average(0)


def make_small(kind):
    """Return a game of the catalogue with small networks."""
    entry = GAMES[kind]
    return entry(*entry.networks(4))


@pytest.mark.parametrize("call", [
    lambda rng: nn.use_random(rng), lambda rng: GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).inputs(
        None, 3, rng), lambda rng: GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2).draw_samples(3, rng),
    *[lambda rng, kind=kind: make_small(kind).latent(4, rng)
      for kind in sorted(set(GAMES) - {"pix2pix"})],           # which draws no noise
    lambda rng: metrics.kid(np.ones((4, 2)), np.ones((4, 2)), rng),
    lambda rng: metrics.run_two_sample_test(np.ones((4, 2)), np.ones((4, 2)), rng),
    lambda rng: find_centroids(np.ones((4, 2), "float32"), 2, rng),
    lambda rng: data.draw_stacked(np.zeros((4, 1, 2, 2), np.uint8), 2, rng)])
def test_random_streams_of_others_are_refused(call):
    """numpy's normal(shape) would be a sample with the mean `shape`."""
    for wrong in (np.random.default_rng(0), np.random.RandomState(0), np.random, random.Random(),
                  0, np.int64(0), None, Random):
        with pytest.raises(TypeError, match="needs a tinygan.random.Random"):
            call(wrong)


@pytest.mark.parametrize("choices", [
    dict(views=[views.InstanceNoise(0.1)]), dict(views=[views.Pack(2)]),
    dict(penalties=[penalties.R1()]), dict(penalties=[penalties.GradientPenalty()])])
def test_samples_that_are_an_array_are_not_taken_for_labels(choices):
    packs = any(isinstance(view, views.Pack) for view in choices.get("views", []))
    game = GAN(nn.Dense(2, 2), nn.Dense(4 if packs else 2, 1), 2, **choices)
    x, z = rng.normal((4, 2)), game.latent(4, rng)
    with pytest.raises(TypeError, match=r"array of float32 of shape \(4, 2\) is no label"):
        game.d_loss(x, z)
    assert game.d_loss(Tensor(x), z).size == 1


@pytest.mark.parametrize("call", [
    metrics.frechet_distance, mmd2, metrics.mean_difference, metrics.find_nearest])
def test_metrics_refuse_masked_arrays(call):
    a = normal(6, 3)
    for pair in ((np.ma.masked_array(a, a > 0), a), (a, np.ma.masked_array(a, a > 0))):
        with pytest.raises(TypeError, match="mask would be ignored"):
            call(*pair)


@pytest.mark.parametrize("call", [
    metrics.count_pairs, lambda a, b: metrics.count_modes(a, 9),
    lambda a, b: metrics.mean_iou(a, b, 9),
    lambda a, b: metrics.classifier_score((a / a).reshape(-1, 1)),
    lambda a, b: metrics.class_shares((a / a).reshape(-1, 1)),
    lambda a, b: metrics.nearest_accuracy(normal(4, 2), a, normal(4, 2), b)])
def test_metrics_refuse_masked_labels(call):
    """The numbers under the mask would be counted."""
    a = np.arange(1, 5)
    with pytest.raises(TypeError, match="mask would be ignored"):
        call(np.ma.masked_array(a, a > 2), a)
    call(a, a)


def test_pixels_of_another_scale_are_not_measured():
    bright = np.full((2, 1, 4, 4), 200.0)
    for call in (lambda: metrics.mean_difference(bright, bright),
                 lambda: metrics.grey_share(bright), lambda: metrics.overlap(bright, bright)):
        with pytest.raises(UserError, match="takes pixels from 0 to 1, but the mean of .* 200"):
            call()


@pytest.mark.parametrize("mean, taken", [(-0.51, False), (-0.49, True), (1.49, True),
                                         (1.51, False)])
def test_the_mean_of_pixels_lies_between_minus_a_half_and_one_and_a_half(mean, taken):
    with (contextlib.nullcontext() if taken else
          pytest.raises(UserError, match="takes pixels from 0 to 1, but the mean of these is")):
        check_scale(np.full((2, 1, 4, 4), mean), "a test")


def test_points_that_are_not_finite_are_not_counted():
    points = np.float32([[1, 0], [np.nan, 0]])
    with pytest.raises(ValueError, match="NaN or infinite"):
        metrics.measure_coverage(points, mixtures.ring())


@pytest.mark.parametrize("make", [
    lambda: mixtures.ring(std=-0.1), lambda: mixtures.ring(std=math.nan),
    lambda: mixtures.grid(std=math.inf), lambda: mixtures.ring(radius=math.inf),
    lambda: mixtures.grid(spacing=math.nan)])
def test_a_mixture_of_no_gaussians_is_refused(make):
    with pytest.raises(ValueError, match="a finite standard deviation of at least 0"):
        make()


@pytest.mark.parametrize("seed", [None, 1.5, -1, [1, 2]])
def test_a_seed_is_a_whole_number(seed):
    """Random(None) would draw other numbers at each call."""
    with pytest.raises(ValueError, match="a seed must be a whole number of at least 0"):
        Random(seed)


def test_masked_weights_and_inputs_are_refused():
    net, masked = nn.Dense(2, 1), np.ma.masked_array([[1.0, 2.0]], [[True, False]])
    for call in (lambda: net.load_state_dict({"weight": masked, "bias": np.zeros(1)}),
                 lambda: check_grads(ops.exp, masked)):
        with pytest.raises(TypeError, match="mask would be ignored"):
            call()


@pytest.mark.parametrize("data", [ARRAY.astype("uint8"), ARRAY > 0, ARRAY.astype("float64")])
def test_an_operation_has_the_dtype_of_its_input(data):
    """Bytes would overflow later, and float64 would meet float32 far from its origin."""
    with pytest.raises(TypeError, match=f"result of {data.dtype}, .* of float32"):
        op(data, (Tensor(ARRAY), lambda g, y: g))


def test_an_operation_needs_a_tensor():
    """Otherwise the result of one's own operation of an array would be a silent constant."""
    with pytest.raises(TypeError, match="at least one argument must be a Tensor"):
        op(ARRAY * 2, (ARRAY, lambda g, y: g * 2.0))


@pytest.mark.parametrize("f", [
    ops.exp, ops.log, ops.sqrt, ops.tanh, ops.relu, ops.leaky_relu, ops.sigmoid, ops.norm,
    ops.softmax, ops.log_softmax, ops.logsumexp, channels.centre, channels.channel_sum,
    lambda x: ops.clip(x, 0, 1),
    lambda x: channels.affine_power(x, 1.0, 0.0, 2.0), lambda x: resampling.upsample(x, 2),
    lambda x: resampling.resample(x, ARRAY, ARRAY)])
def test_functions_of_tensors_refuse_anything_else(f):
    for wrong in (2.0, [1.0, 2.0], np.ones((1, 1, 2, 2), "float32")):
        with no_grad(), pytest.raises(TypeError, match=r"wrap an array as Tensor\(x\)"):
            f(wrong)


def test_cross_entropy_refuses_an_array_in_place_of_logits():
    with pytest.raises(TypeError, match=r"wrap an array as Tensor\(x\)"):
        ops.cross_entropy(ARRAY, np.array([0, 1]))


@pytest.mark.parametrize("change, words", [
    (dict(iterations=3.0), "iterations must be a whole number of at least 0, got 3.0"),
    (dict(start=-2), "start must be a whole number of at least 0, got -2"),
    (dict(m=4.0), "m must be a whole number of at least 1, got 4.0"),
    (dict(game=GAN), "game must be an instance of Game, got <class"),
    (dict(d_opt=None), "d_opt must be an instance of Optimizer, got None"),
    (dict(g_opt=0.1), "g_opt must be an instance of Optimizer, got 0.1")])
def test_arguments_of_play_of_another_kind_are_refused(change, words):
    game = GAN(nn.Dense(2, 2), nn.Dense(2, 1), 2)
    arguments = dict(game=game, data=Points(), d_opt=optim.SGD(game.d_parameters(), 0.1),
                     g_opt=optim.SGD(game.g_parameters(), 0.1), m=4, rng=rng, iterations=1)
    assert len(list(play(**arguments))) == 1
    with pytest.raises((TypeError, ValueError), match=words):
        next(play(**arguments | change))


@pytest.mark.parametrize("call, words", [
    (lambda: nn.Dense(2, 3, init="he"), "a function such as nn.he, got 'he'"),
    (lambda: nn.Dense(2, 3).train("eval"), "True or False, got 'eval'"),
    (lambda: mixtures.ring(0), "at least 1, got 0"),
    (lambda: mixtures.grid(2.5), "at least 1, got 2.5")])
def test_other_arguments_of_another_kind_are_refused(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize("error, said", [
    (UserError("no such flag"), "no such flag"), (OSError("odd"), "odd"),
    (PermissionError(13, "Permission denied", "a.png"),
     r"cannot use a\.png \(Permission denied\): check that you may read and write there"),
    (MemoryError("3 GB"), r"out of memory \(3 GB\): take smaller")])
def test_errors_that_end_a_script_are_one_sentence(error, said):
    def script():
        raise error
    with pytest.raises(SystemExit, match=f": {said}"):
        command.main(script)


def test_a_script_that_ctrl_c_ends_has_the_status_of_shells(capsys):
    """It is 128 plus the number of the signal; nothing but "stopped" is printed."""
    def script():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as stop:
        command.main(script)
    assert stop.value.code == 130 and capsys.readouterr() == ("", "\nstopped\n")


@pytest.mark.host
def test_weights_replace_no_other_file(tmp_path, monkeypatch, capsys):
    """Otherwise --weights could replace the data, or the run's own checkpoint, after hours."""
    import classifier_mnist
    other, folder, old = tmp_path / "data.npz", tmp_path / "folder", tmp_path / "old.npz"
    np.savez(other, images=ARRAY)
    folder.mkdir()
    np.savez(old, **classifier.make_classifier().state_dict())
    for path in (other, folder):
        monkeypatch.setattr(sys, "argv", ["classifier_mnist.py", "--weights", str(path)])
        with pytest.raises(UserError, match="something else than a classifier's weights"):
            classifier_mnist.main()
    assert np.load(other).files == ["images"] and classifier_mnist.has_weights(old)


@pytest.mark.host
def test_the_benchmark_refuses_minibatches_of_one(monkeypatch, capsys):
    import benchmark
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--batch", "1", "--rounds", "1"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--batch: batch normalisation needs a minibatch of at least 2" in capsys.readouterr().err


def test_an_evaluation_without_its_run_is_not_removed(tmp_path):
    """It may be someone's own file; one beside a checkpoint is removed with the run."""
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match="holds evaluation.json, which a run would replace"):
        check_folder(tmp_path)
    make_run(tmp_path / "run", 1).play()
    (tmp_path / "run" / "evaluation.json").write_text("{}")
    make_run(tmp_path / "run", 1, overwrite=True).play()
    assert not (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.host
def test_mixtures_refuse_an_odd_batch_size_before_an_old_run_is_removed(tmp_path, monkeypatch):
    import mixtures as script
    make_run(tmp_path / "grid-pacgan-0", 1).play()
    before = sorted(path.name for path in tmp_path.glob("**/*"))
    monkeypatch.setattr(sys, "argv", ["mixtures.py", "--game", "pacgan", "--batch-size", "33",
                                      "--overwrite", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="33 is odd"):
        script.main()
    assert sorted(path.name for path in tmp_path.glob("**/*")) == before


def test_a_run_whose_folder_was_moved_ends_with_an_error(tmp_path):
    """It would make the folder anew, with a part of its pictures."""
    game = GAN(nn.Sequential(nn.Dense(2, 4), nn.Reshape(1, 2, 2)),
               nn.Sequential(nn.Flatten(), nn.Dense(4, 1)), 2)
    opts = optim.SGD(game.d_parameters(), 0.1), optim.SGD(game.g_parameters(), 0.1)
    images = data.Minibatches(np.float32(np.random.default_rng(0).random((4, 1, 2, 2))), 4)
    run = Run(tmp_path / "run", game, images, opts, 4)

    def move(step):
        if step == 2:
            (tmp_path / "run").rename(tmp_path / "moved")
        return {}
    run.measure = move
    with pytest.raises((OSError, UserError), match="No such file or directory"):
        run.play()
    assert not (tmp_path / "run").exists()


def test_the_range_of_floats_is_shown_with_the_digits_that_matter(tmp_path):
    images = np.linspace(0, 1, 160, dtype="float32").reshape(10, 4, 4)
    images[0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(UserError, match=r"numbers from 0\.00\d+ to 1\.0000001: give floats"):
        data.load(str(tmp_path / "images.npy"))
