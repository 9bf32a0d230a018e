"""The tests that need a GPU: python -m pytest tests/gpu.py tests

    kernels, products and random numbers    against numpy
    every game                              100 steps against numpy, with the same random numbers;
                                            recorded steps against steps, bit for bit
    10,000 launches                         in constant memory
    a run                                   resumed bit for bit; out of memory in one line

With the folder `tests` as a second argument, the whole suite runs on cupy too.
"""

import dataclasses
import functools
import gc

import numpy as np
import pytest

from tinygan import (Tensor, backend, channels, checkpoint, conv, cuda, graphs, loop, ops, optim,
                     play, rng, to_numpy)
from tinygan.data import Minibatches
from tinygan.games import GAN
from tinygan.nested import map_nested
from tinygan.random import Random

from helpers import to_float64
from test_contract import GAMES, M, each_game, make_parts, read_state
from test_cuda import (KERNELS, check_add_up, check_column_sums, check_write, layouts,
                       make_cases)
from test_graphs import keep_steps
from test_run import ANY_GAME, run_script, same_files, start_script, wait_for_end

pytestmark = pytest.mark.host           # once, and not on each backend of the suite


@pytest.fixture(autouse=True)
def cupy(why_no_gpu, request):
    """Use cupy, and return it."""
    if why_no_gpu is not None:
        pytest.skip(f"no GPU answers here: {why_no_gpu}")
    backend.use("cupy")
    yield backend.xp
    backend.use("numpy")


# Kernels, products and random numbers

@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_computes_what_its_lines_of_numpy_compute(name, cupy):
    """The tolerances are those of the kernels compiled for the CPU, see test_cuda.py."""
    function = KERNELS[name]
    count = function.source[1].count(",") + 1
    for dtype in ("float32", "float64") if "T " in function.source[0] else ("float32",):
        tolerance = 1e-5 if name == "normal" else 32 * np.finfo(dtype).eps
        for args in make_cases(name, dtype):
            mine = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
            its = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
            function(*its)
            with np.errstate(all="ignore"):
                backend.use("numpy")
                function(*mine)
                backend.use("cupy")
            for x, y in zip(mine[-count:], its[-count:]):
                exact = x.dtype.kind != "f"             # words and booleans
                assert np.allclose(x, to_numpy(y), rtol=0 if exact else tolerance,
                                   atol=0 if exact else tolerance, equal_nan=not exact)


@pytest.mark.parametrize("a, b", [((30, 40), (40, 50)), ((1, 4), (4, 5)), ((3, 1), (1, 5)),
                                  ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)),
                                  ((2, 1, 3, 4), (2, 6, 4, 5))])
@pytest.mark.parametrize("name", ["cupy", "cupy-tf32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_any_layout(a, b, dtype, name, cupy):
    """Products of small whole numbers are exact, with TensorFloat-32 too."""
    backend.use(name)
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-4, 5, shape).astype(dtype) for shape in (a, b))
    for x in layouts(a):
        for y in layouts(b):
            # asarray keeps the memory order, but makes slices contiguous
            assert (to_numpy(cuda.product(cupy.asarray(x), cupy.asarray(y))) == a @ b).all()
    wide = cupy.asarray(np.repeat(a, 2, -1))[..., ::2]
    assert (to_numpy(cuda.product(wide, cupy.asarray(b))) == a @ b).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [
    (1, 1), (0, 3), (3, 0), (70, 33), (12544, 64), (64, 6272), (100_003, 1), (2, 3, 4), (0, 3, 4),
    (300, 49, 65), (2, 20_000, 3), (70_000, 4, 2)])
def test_column_sums(shape, dtype, cupy):
    check_column_sums(cupy, shape, dtype)


def test_values_are_written_together(cupy):
    check_write(cupy)


def test_numbers_are_added_up_in_their_order(cupy):
    check_add_up(cupy)


@pytest.mark.parametrize("make", [
    lambda ps: optim.SGD(ps, 0.1, 0.5), lambda ps: optim.RMSProp(ps), lambda ps: optim.Adam(ps)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_optimiser_updates_many_parameters_as_on_numpy(make, dtype, cupy):
    """150 parameters need three launches. In three steps a dozen roundings add up."""
    generator = np.random.default_rng(0)
    sizes = [(1,), (5, 7), (3, 2, 4, 4), (0,), (70_000,)] * 30
    drawn = [[generator.normal(size=size).astype(dtype) for size in sizes] for _ in range(4)]
    results = []
    for name in ("cupy", "numpy"):
        backend.use(name)
        first, *others = [[Tensor(backend.xp.asarray(a)) for a in arrays] for arrays in drawn]
        first = [Tensor(p.data.copy()) for p in first]
        opt = make(first)
        for gradients in others:
            opt.step(gradients)
        results.append([p.numpy() for p in first])
    for x, y in zip(*results, strict=True):
        assert np.allclose(x, y, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps)


def test_products_of_more_than_65535_matrices(cupy):
    """So many blocks of threads fit into one dimension of CUDA's grids."""
    b = np.random.default_rng(0).integers(-4, 5, (70000, 5, 3)).astype("float32")
    a = np.arange(20, dtype="float32").reshape(4, 5)
    assert (to_numpy(cuda.product(cupy.asarray(a), cupy.asarray(b))) == a @ b).all()


def test_tf32_is_a_choice(cupy):
    """A product with 1 + 2^-20 is exact without TensorFloat-32, and is rounded with it."""
    x, one = cupy.full((512, 512), 1 + 2.0 ** -20, "float32"), cupy.eye(512, dtype="float32")
    assert (cuda.product(x, one) == x).all()
    backend.use("cupy-tf32")
    assert backend.get_name() == "cupy-tf32" and (cuda.product(x, one) == 1).all()
    assert (cuda.product(x, one, exact=True) == x).all()


def test_images_keep_their_memory_order(cupy):
    """Arithmetic and the functions with kernels keep the order of their inputs."""
    x = Tensor(backend.to_channels_last(cupy.ones((2, 3, 4, 5), "float32")))
    for y in (x + x, x * 2.0, x - x, ops.relu(x), ops.leaky_relu(x), channels.scale(x, Tensor(
            cupy.ones(3, "float32"))), conv.conv2d(x, Tensor(cupy.ones((2, 3, 1, 1), "float32")))):
        assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous


# Games

def play_in_float64(entry, name, monkeypatch, steps):
    """Return the losses and weights of steps with random numbers drawn on the host."""
    backend.use(name)
    game, optimisers, data = make_parts(entry)
    to_float64(game)
    optimisers = [type(opt)(parameters, 1e-3) for opt, parameters in zip(
        optimisers.values(), (game.d_parameters(), game.g_parameters()))]

    def draw(game, data, m, rng):
        return next(data), map_nested(to_float64, game.latent(m, rng)), rng.key()
    data = (map_nested(to_float64, loop._as_tensors(x)) for x in data)
    monkeypatch.setattr(loop, "draw", draw)
    monkeypatch.setattr(loop, "make_source", Random)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    losses = [(d.item(), g.item()) for _, d, g in play(game, data, *optimisers, M, rng, steps)]
    return losses, {name: to_numpy(a) for name, a in game.arrays().items()}


@each_game
def test_a_game_plays_on_a_gpu_as_on_numpy(entry, monkeypatch):
    """100 steps in float64: the two differ by rounding of 1e-16, which a game can make grow.

    The tolerance leaves room for a factor of 1e8; another computation differs in the first digits.
    """
    (losses, arrays), (its, others) = (play_in_float64(entry, name, monkeypatch, 100)
                                       for name in ("numpy", "cupy"))
    assert np.allclose(losses, its, rtol=1e-8, atol=1e-8)
    for name, array in arrays.items():
        assert np.allclose(array, others[name], rtol=1e-8, atol=1e-8), name


def train(entry, steps, order, kind=None):
    """Train and return the losses with the logged values, and the state at the end.

    kind   the class of the optimisers, if it is not the entry's
    """
    game, optimisers, data = make_parts(entry)
    if kind is not None:
        optimisers = {"d_opt": kind(game.d_parameters(), 1e-3),
                      "g_opt": kind(game.g_parameters(), 1e-3)}
    game.keep_average(0.5)
    if order == "simultaneous":
        game.d_steps = game.g_steps = 1
    # read at the end: no launch may write to what an earlier one has returned
    kept = [(d, g, game.logged) for _, d, g in play(
        game, data, *optimisers.values(), M, rng, steps, order=order)]
    losses = [(d.item(), g.item(), {name: float(v) for name, v in logged.items()})
              for d, g, logged in kept]
    return losses, read_state(game, optimisers, data)


@each_game
@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_recorded_steps_do_what_steps_do(entry, order, monkeypatch, capsys):
    """Losses, weights, buffers and optimisers agree bit for bit after 20 iterations."""
    steps = keep_steps(monkeypatch, graphs.CapturedStep)
    recorded = train(entry, 20, order)
    assert capsys.readouterr().err == ""
    assert all(form.run is not None for step in steps for form in step.forms)
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, 20, order)


class SignOfMean(optim.Optimizer):
    """An optimiser of one's own: its rate rises, and the gradients' global norm is at most 1."""

    state_names = ("m",)

    def numbers(self):
        return *super().numbers(), min(1.0, (self.t + 1) / 15)

    def step(self, grads):
        grads = list(grads)
        norm = ops.norm(ops.concat([g.reshape(-1) for g in grads]))
        super().step([g / ops.maximum(norm, 1.0) for g in grads])

    def update(self, numbers, p, g, m):
        lr, w = numbers
        m += 0.1 * (g - m)
        p -= w * lr * backend.xp.sign(m)


def test_recorded_steps_of_an_optimiser_of_ones_own(monkeypatch, capsys):
    """What changes from step to step is read at each launch."""
    recorded = train(GAMES["gan"], 20, "alternating", SignOfMean)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(GAMES["gan"], 20, "alternating", SignOfMean)


class Reading(GAN):
    """A game whose step reads a number from the GPU."""

    def after_d_step(self):
        self.d_parameters()[0].data.sum().item()


class Copying(GAN):
    """A game whose step copies numbers to the GPU."""

    def d_terms(self, *args):
        return [(Tensor([1.0, 2.0]) * self.d_parameters()[0].sum()).sum()]


@pytest.mark.parametrize("kind", [Reading, Copying])
def test_a_step_that_cannot_be_recorded_is_done(kind, monkeypatch, capsys):
    entry = dataclasses.replace(GAMES["gan"], game=kind)
    recorded = train(entry, 20, "alternating")
    assert "d_step cannot be recorded" in capsys.readouterr().err
    monkeypatch.setattr(loop, "prepare", functools.partial)
    assert recorded == train(entry, 20, "alternating")


def test_launches_take_no_memory(cupy, monkeypatch):
    """10,000 launches leave the steps' pools as they are after the first ten.

    The default pool, which also has the minibatches and the losses, may be divided in other ways:
    it may grow by 64 kB, which is 7 bytes for each launch.
    """
    steps = keep_steps(monkeypatch, graphs.CapturedStep)
    game, optimisers, data = make_parts(GAMES["gan"])
    used = []
    for i, _, _ in play(game, data, *optimisers.values(), M, rng, 5000):
        if i in (10, 4999):
            used.append([cupy.get_default_memory_pool().total_bytes(),
                         *[form.aside.pool.total_bytes() for step in steps
                           for form in step.forms]])
    assert used[0][1:] == used[1][1:] and used[1][0] <= used[0][0] + 65536


def test_the_data_stays_on_the_gpu(cupy):
    images = np.random.default_rng(0).integers(256, size=(60, 1, 4, 4), dtype=np.uint8)
    data = Minibatches(images, 8)
    assert isinstance(data._arrays[0], cupy.ndarray) and isinstance(next(data), cupy.ndarray)


# Runs

def test_a_run_is_resumed_bit_for_bit(tmp_path):
    np.save(tmp_path / "digits.npy", np.random.default_rng(0).integers(
        256, size=(60, 4, 4), dtype=np.uint8))
    flags = ["--data", "digits.npy", "--backend", "cupy"]
    run_script(tmp_path, ANY_GAME, *flags, "--steps", 30, "--out", "whole")
    run_script(tmp_path, ANY_GAME, *flags, "--steps", 13, "--out", "parts")
    run_script(tmp_path, ANY_GAME, "--resume", "--steps", 30, "--out", "parts")
    arrays = [checkpoint.read(tmp_path / name / "checkpoint.npz").arrays
              for name in ("whole", "parts")]
    assert all((arrays[0][name] == arrays[1][name]).all() for name in arrays[0])
    assert same_files(tmp_path / "whole" / "samples", tmp_path / "parts" / "samples")


def test_out_of_memory_is_one_line(tmp_path):
    np.save(tmp_path / "digits.npy", np.random.default_rng(0).integers(
        256, size=(60, 4, 4), dtype=np.uint8))
    for width, expected in ((4, 0), (10 ** 6, 1)):      # cuBLAS's workspace alone has 32 MiB
        process = start_script(tmp_path, ANY_GAME, "--data", "digits.npy", "--backend", "cupy",
                               "--width", width, "--steps", 6, "--out", f"run{width}",
                               CUPY_GPU_MEMORY_LIMIT="200000000")
        status, _, err = wait_for_end(process)
        assert status == expected, err
    assert "out of memory" in err and "smaller networks" in err


def test_the_memory_of_steps_is_freed(cupy):
    """A training's graphs and pools are gone when it has ended."""
    game, optimisers, data = make_parts(GAMES["gan"])
    free = []
    for _ in range(20):
        for _ in play(game, data, *optimisers.values(), M, rng, 6):
            pass
        gc.collect()
        free.append(cupy.cuda.runtime.memGetInfo()[0])
    assert free[-1] >= free[3] - (4 << 20)      # CUDA takes memory in steps of 2 MiB
