"""A run: a game that is played for some steps, shown while it goes, kept in a folder, gone on with.

    run = Run("runs/mine", game, Minibatches(images, 64), (d_opt, g_opt), steps=1000)
    run.play()

leaves pictures, curves and a checkpoint in the folder. Where the process was stopped or killed,

    Run("runs/mine", game, ..., resume=True).play()

goes on, and each file ends as it would have. A script's command line builds a Run: see command.py.
"""

import contextlib
import json
import os
import platform
import signal
import sys
import threading

import numpy as np

from . import checkpoint
from .. import backend
from ..backend import VERSION, UserError
from ..loop import check_order, play
from ..random import rng
from ..tensor import is_whole
from .record import Progress, Record, leftovers

try:
    import fcntl
except ImportError:         # Windows
    fcntl = None


class Run:
    """A game with its data and optimisers, played for `steps` iterations and kept in `folder`.

    data         the data stream: an iterator without end whose next() is a minibatch, with a
                 `state`, such as Minibatches
    optimisers   (d_opt, g_opt), or {"d_opt": ..., "g_opt": ...}
    batch_size   m, the size of a minibatch (default: data.m)
    order        of play, see loop.play
    average      the decay of averages of G's weights, see Game.keep_average (default: none); those
                 that a stage before has kept go on
    source       the data set from which a game whose G takes images has those that are shown
    save_every   seconds between checkpoints
    settings     a dictionary that is kept with the run
    resume       go on with the run in the folder, if there is one
    overwrite    replace the run in the folder

    Stages are runs in sub-folders, each built with the game as the stage before left it: a run that
    had reached its last step restores it. A subclass may play something else (iterations), or show
    and measure it in another way (exhibits, shown, measure, panels). With iterations, exhibits and
    shown of its own, `game` may be any Module.

    Raises UserError if the folder holds a run that is neither to be resumed nor to be replaced, or
    files that are no run's; for a data stream without a state; and for a game that could not be
    loaded from its checkpoint.
    """

    def __init__(self, folder, game, data, optimisers, steps, batch_size=None, order="alternating",
                 average=None, source=None, save_every=30.0, settings=None, resume=False,
                 overwrite=False):
        self.folder, self.game, self.data, self.steps = os.fspath(folder), game, data, steps
        if not isinstance(optimisers, dict):
            if not isinstance(optimisers, (list, tuple)) or len(optimisers) != 2:
                raise UserError("a run takes two optimisers, (d_opt, g_opt), or a dictionary of "
                                f"them, got {optimisers!r:.60}")
            optimisers = dict(zip(("d_opt", "g_opt"), optimisers))
        m = getattr(data, "m", None)
        if not is_whole(steps, 1) or batch_size is None and m is None or (
                None not in (batch_size, m) and batch_size != m):
            raise UserError(f"a run takes a number of steps of at least 1, got {steps!r}, and the "
                            f"batch size of its data stream, which is {m}, got {batch_size!r}")
        check_order(order)
        self.optimisers, self.batch_size = optimisers, m if batch_size is None else batch_size
        self.order, self.source, self.save_every = order, source, save_every
        self.settings = {"versions": versions(), **(settings or {})}
        json.dumps(self.settings)       # raises TypeError now, not after the first step
        self.step = 0               # how many iterations have been played
        self.stopped = None         # the signal that ended play(), or 0 where its reader had left
        check_folder(self.folder, resume, overwrite)
        path = os.path.join(self.folder, checkpoint.NAME)
        self._saved = checkpoint.read(path) if resume and os.path.exists(path) else None
        if average is not None and (game.averages is None or game.decay != average):
            game.keep_average(average)
        checkpoint.check(game, data)

    def play(self):
        """Play the iterations that are left, show how it goes and keep a Record; return the game.

        A signal (Ctrl-C), or whoever reads the output leaving, ends it after the iteration, with a
        checkpoint; which one is then in `stopped`. Raises UserError if a loss or a weight is no
        longer finite, a file cannot be written, or another process writes the run.
        """
        os.makedirs(self.folder, exist_ok=True)
        if self.step:           # played before: go on from where that ended
            self._saved = checkpoint.read(os.path.join(self.folder, checkpoint.NAME))
        self.stopped = None
        with alone(self.folder), _stopped_by_signals() as stopped, np.errstate(all="ignore"):
            record = Record(self, self._saved)
            progress = Progress(self.steps, start=record.step)
            try:
                for i, values in self.iterations(record.step):
                    values = {**values, **self.measure(i + 1)}
                    record.add(values)
                    try:
                        progress(i, values)
                    except BrokenPipeError:
                        stopped.append(0)           # no signal's number
                    if stopped:
                        break
                record.save()
            except FloatingPointError as error:
                last = "nothing has been saved" if record.saved is None else (
                    f"the last checkpoint, {os.path.join(self.folder, checkpoint.NAME)}, is of "
                    f"step {record.saved}")
                raise UserError(f"{error} by step {record.step}: begin another run with other "
                                f"settings, such as a smaller learning rate; {last}") from None
            finally:
                if 0 not in stopped:
                    progress.close()
        self.step = record.step
        if self.step < self.steps:
            self.stopped = 0 if 0 in stopped else stopped[0]
        return self.game

    # What a subclass may change

    def iterations(self, start):
        """Play from iteration `start` on: yield (i, values) after each, values {name: array of one
        number} to log."""
        for i, d_loss, g_loss in play(
                self.game, self.data, self.optimisers["d_opt"], self.optimisers["g_opt"],
                self.batch_size, rng, self.steps, start, self.order):
            yield i, {"D loss": d_loss.data, "G loss": g_loss.data, **self.game.seen}

    def measure(self, step):
        """Return further values to log after so many steps, {name: number}; at some steps only, if
        they take time."""
        return {}

    def panels(self, names):
        """Return how the curves of the values of these names are drawn: lists of names, one for
        each panel."""
        losses = [name for name in names if name in ("D loss", "G loss")]
        others = [name for name in names if name not in losses]
        return [panel for panel in (losses, others) if panel]

    def exhibits(self):
        """Return the inputs of which the pictures are; they are drawn once."""
        return self.game.exhibits(self.source, 64, rng)

    def shown(self, z):
        """Return (images, columns): the pictures of these inputs, or (None, None)."""
        return self.game.shown(z)


def versions():
    """Return {what: version} of all on which the numbers of a run depend."""
    library = backend.xp
    return {"tinygan": VERSION, "python": platform.python_version(), "numpy": np.__version__,
            **({} if library is np else {library.__name__: getattr(library, "__version__", "")})}


def check_folder(folder, resume=False, overwrite=False):
    """Raise UserError if a run in `folder` would replace what it is not asked to."""
    path = os.path.join(folder, checkpoint.NAME)
    if os.path.exists(path):
        if not (resume or overwrite):
            raise UserError(f"{folder} holds a run: go on with it by --resume (resume=True), "
                            "replace it by --overwrite (overwrite=True), or choose another folder "
                            "by --out")
        if overwrite:       # a file of that name that is something else is not replaced
            try:
                checkpoint.read(path, any_format=True)
            except UserError as error:
                raise UserError(f"{error}; --overwrite replaces runs alone, so remove the file, or "
                                "choose another folder by --out") from None
    elif there := leftovers(folder):
        raise UserError(f"{folder} holds {os.path.relpath(there[0], folder)}, but no run to which "
                        "that belongs: choose another folder by --out")


def remove(folder):
    """Remove the run in `folder`; other files stay. Raises UserError if another process is writing
    it."""
    with alone(folder):
        # the checkpoint last: what is left where this is cut off can be removed as well
        path = os.path.join(folder, checkpoint.NAME)
        if os.path.exists(path):
            for path in [*leftovers(folder), path]:
                os.remove(path)


@contextlib.contextmanager
def alone(folder):
    """Context in which no other process writes into `folder`, where the system has such locks."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):      # file systems without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is writing the run in {folder}: wait for it, or "
                                "choose another --out") from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _stopped_by_signals():
    """Context that gives a list, to which a first SIGINT (Ctrl-C), SIGTERM or SIGHUP adds itself; a
    second one stops the process as ever."""
    stopped, before = [], {}

    def stop(number, frame):
        stopped.append(number)
        signal.signal(number, before[number])
        if number == signal.SIGINT:
            print("\nstopping after this iteration; Ctrl-C again stops at once", file=sys.stderr,
                  flush=True)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)            # Windows has no SIGHUP
        # only the main thread is told of signals
        if (number is not None and threading.current_thread() is threading.main_thread()
                and signal.getsignal(number) is not signal.SIG_IGN):
            before[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
