"""Helpers of several test files."""

import contextlib
import importlib
import io
import os
import runpy
import subprocess
import sys
import tracemalloc
import types

import numpy as np
import pytest

from tinygan import Tensor, backend, command, nn, rng
from tinygan.data import Minibatches


def normal(*shape, seed=0):
    """Return an array of this shape from a standard normal distribution."""
    return np.random.default_rng(seed).normal(size=shape)


def positive(*shape, seed=0):
    """Return an array of numbers of at least 0.5."""
    return abs(normal(*shape, seed=seed)) + 0.5


def tensor(array, dtype=None):
    """Return an array as a Tensor on the current backend."""
    return Tensor(backend.xp.asarray(np.asarray(array, dtype)))


def device(array):
    """Return an array on the current backend."""
    return backend.xp.asarray(np.asarray(array))


def to_float64(value):
    """Convert a Tensor, a Module (in place) or a nested tuple to float64, except its integers."""
    if isinstance(value, nn.Module):
        for _, part in value.modules():
            for name, a in list(vars(part).items()):
                if isinstance(a, Tensor):
                    a.data = a.data.astype("float64")
                elif isinstance(a, backend.xp.ndarray) and a.dtype.kind == "f":
                    setattr(part, name, a.astype("float64"))
        return value
    if isinstance(value, (tuple, list)):
        return type(value)(map(to_float64, value))
    return Tensor(value.data.astype("float64")) if type(value) is Tensor else value


class Ending(nn.Module):
    """A network of a class of its own that ends in a function, before a change of shape."""

    def __init__(self, net, f):
        self.net, self.f = net, f

    def forward(self, x):
        y = self.f(self.net(x))
        return y.reshape(y.shape)


def make_batches(m=5):
    """Return minibatches of m of the same forty points in the plane."""
    return Minibatches(np.float32(normal(40, 2)), m)


def copy_parameters(module):
    """Return {name: array} of a Module's parameters, copied to the host."""
    return {name: p.numpy().copy() for name, p in module.named_arrays(Tensor).items()}


def all_equal(a, b):
    """Return whether two dictionaries of arrays have the same keys and numbers."""
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def softplus(a):
    """Return log(1 + exp(a)) of an array, by the formula."""
    return np.log1p(np.exp(a))


def error_of(f, *args, **kwargs):
    """Call f and return the message of the ValueError or TypeError that it raises."""
    try:
        f(*args, **kwargs)
    except (ValueError, TypeError) as error:
        return str(error)
    raise AssertionError("nothing was raised")


def peak_memory(call):
    """Return the largest number of bytes that Python and numpy held during call()."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def without_reader(monkeypatch):
    """Make standard error a pipe whose reader has ended, inside the context."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        yield
        with contextlib.suppress(OSError):      # what is left in it cannot be written
            closed.close()


def catch_training(script, *flags, data):
    """Return what a script of examples/ gives command.train(), which does not train here.

    The result has the attributes args, game, batches, d_opt, g_opt, order, stage and make_run. The
    data is what command.start() yields.
    """
    (call,) = catch_stages(script, *flags, data=data)
    return call


def catch_stages(script, *flags, data):
    """Return the same for each call of command.train(), in a list."""
    seen = []

    def train(args, game, batches, d_opt, g_opt, order="alternating", stage=None, make_run=None):
        seen.append(types.SimpleNamespace(**locals()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script}.py", *map(str, flags)])
        patch.setattr(command, "start", lambda args: contextlib.nullcontext(data))
        patch.setattr(command, "train", train)
        importlib.import_module(script).main()
    return seen


def call_script(cwd, script, *flags, **environment):
    """Run a script in this process, and return what subprocess.run() returns of a process.

    To start a process takes 0.15 s, which is more than most scripts take on the data of a test. An
    exception that the script does not catch is raised here. The global random stream begins as in
    a process, so that a script that does not seed it is found.
    """
    words, status = list(map(str, (script, *flags))), 0
    rng.seed(0)
    with (pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out,
          contextlib.redirect_stderr(io.StringIO()) as err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "path", [os.path.dirname(words[0]), *sys.path])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
    if isinstance(status, str):
        print(status, file=err)
        status = 1
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
