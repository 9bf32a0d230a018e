"""Runs: train a game, show the progress, keep the results in a folder, and resume the training.

    run = Run("runs/mine", game, Minibatches(images, 64), (d_opt, g_opt), steps=1000)
    run.play()

writes pictures, curves and a checkpoint into the folder. If the process was stopped or killed,

    Run("runs/mine", game, ..., resume=True).play()

resumes the run. At its end, each file is the same as that of a run that was not interrupted. In a
script, the command line makes the Run: see command/.
"""

import contextlib
import json
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import checkpoint, unsaved
from .. import backend
from ..backend import VERSION, Array, UserError
from ..context import use_value
from ..data import Split
from ..games import Game
from ..games.checks import refuse_wrong_pictures
from ..loop import check_first, check_order, play
from ..nn import Module
from ..numbers import is_number, is_whole
from ..optim import Optimizer, list_optimisers
from ..random import rng
from .record import Progress, Record, list_files

try:
    import fcntl
except ImportError:         # Windows
    fcntl = None

CLOSED_OUTPUT = 0           # Run.stopped if standard output was closed: no signal has the number 0


class Run:
    """The training of a game on a data stream, whose results are kept in a folder.

    folder       where the files are written
    game         the Game
    data         the data stream: an endless iterator whose next() is a minibatch, with a `state`,
                 such as Minibatches
    optimisers   (d_opt, g_opt), or {"d_opt": ..., "g_opt": ...}; further ones in the dictionary are
                 saved, and the game or the `iterations` of a subclass of Run steps them
    steps        the number of training iterations
    batch_size   m, the size of a minibatch (default: data.m)
    order        the order of the players' steps, see loop.play
    average      the decay of averages of G's weights, see Game.keep_average. By default, averages
                 that the game keeps already go on; another decay than theirs starts new ones
    source       the data set from which fixed inputs are taken, if the game's G takes images
    save_every   the seconds between two checkpoints
    settings     a dictionary of settings that is kept with the run, as JSON has it
    resume       resume the run in the folder, if there is one
    overwrite    replace the run in the folder

    To train in stages, make a Run in a folder of its own for each stage, and give each the game
    that the one before has trained. A Run that is resumed after its last step only restores its
    game, unless it is given more `steps`: then it goes on to the last of them.

    A subclass may override `iterations` to train in another way, `fixed_inputs` and `pictures` to
    show something else, and `measure` and `panels` to log more. If it overrides the first three,
    `game` may be any Module. Attributes of the subclass are not saved: what a resumed run needs is
    an array or a part of the game.

    All runs of a process draw from tinygan.rng, so they are made and played in one thread at a
    time: simultaneous runs need a process each.

    Raises UserError, ValueError or TypeError for arguments that do not make a run; for a folder
    whose files the run must not replace (see check_folder); for a game, an optimiser or a data
    stream that could not be restored from a checkpoint (see unsaved.check); while another thread
    plays a run; and while a script imports the file of its --module.
    """

    def __init__(self, folder: str | os.PathLike, game: Module, data: Any,
                 optimisers: Sequence[Optimizer] | dict[str, Optimizer], steps: int,
                 batch_size: int | None = None, order: str = "alternating",
                 average: float | None = None, source: Split | None = None,
                 save_every: float = 30.0, settings: dict[str, Any] | None = None,
                 resume: bool = False, overwrite: bool = False) -> None:
        if imported := _imported.get():
            raise UserError(f"{imported} makes a Run when it is imported, which would train again:"
                            " write what trains under `if __name__ == \"__main__\":`")
        if not isinstance(optimisers, dict):
            if not isinstance(optimisers, (list, tuple)) or len(optimisers) != 2:
                raise UserError("a run takes two optimisers, (d_opt, g_opt), or a dictionary of "
                                f"them, got {optimisers!r:.60}")
            optimisers = dict(zip(("d_opt", "g_opt"), optimisers))
        self.folder, self.game, self.data, self.steps = os.fspath(folder), game, data, steps
        self.optimisers, self.order, self.source = optimisers, order, source
        self.batch_size = getattr(data, "m", None) if batch_size is None else batch_size
        self.save_every = save_every
        self._check(resume, overwrite, average)
        self.settings = {"versions": list_versions(), **(settings or {})}
        json.dumps(self.settings)       # raises TypeError now, not after the first step
        self.step = 0               # the number of finished iterations
        self.stopped = None         # the number of the signal that stopped play(), or CLOSED_OUTPUT
        check_folder(self.folder, resume, overwrite)
        path = os.path.join(self.folder, checkpoint.NAME)
        # the checkpoint from which play() goes on, or None
        self._saved = checkpoint.read(path) if resume and os.path.exists(path) else None
        self._has_saved = False     # whether play() has written a checkpoint
        self._begun = None          # the steps that the optimisers had taken when play() began
        if average is not None and (game.averages is None or game.average_decay != average):
            game.keep_average(average)
        with _refuse_other_threads():
            unsaved.check(game, optimisers, data)
        self.fixed = unsaved.list_fixed(game, optimisers, data)

    def _check(self, resume, overwrite, average):
        """Raise an error for arguments that a Run does not take."""
        optimisers, data, m = self.optimisers, self.data, getattr(self.data, "m", None)
        for name, opt in optimisers.items():
            if not isinstance(opt, Optimizer):
                raise TypeError(f"{name} must be an Optimizer, got a {type(opt).__name__}")
        if not isinstance(self.game, Game):
            self._check_module(average)
        if type(self).iterations is Run.iterations:
            own = list_optimisers(self.game)        # what the game may step
            idle = [name for name, opt in optimisers.items()
                    if name not in ("d_opt", "g_opt") and opt not in own]
            if idle or not {"d_opt", "g_opt"} <= optimisers.keys():
                raise UserError("a run steps the optimisers d_opt and g_opt, got "
                                f"{', '.join(optimisers)}: give these two, override `iterations`, "
                                "or set a further optimiser on the game that steps it")
        if not is_whole(self.steps, 1):
            raise UserError(f"a run takes a whole number of steps, at least 1, got {self.steps!r}")
        if self.batch_size is None:
            raise UserError("a run takes a data stream with its batch size m, such as "
                            f"Minibatches(images, 64), got a {type(data).__name__}, which has no "
                            "m: give such a stream, or batch_size")
        if m is not None and self.batch_size != m:
            raise UserError(f"the data stream has minibatches of {m}, but batch_size is "
                            f"{self.batch_size!r}: leave it out")
        check_order(self.order)
        if not is_number(self.save_every, 0):
            raise UserError("save_every is a number of seconds of at least 0, got "
                            f"{self.save_every!r:.60}")
        if resume and overwrite:
            raise UserError("a run is resumed or replaced: give resume or overwrite, not both")

    def _check_module(self, average):
        """Raise TypeError unless this Run can train a Module that is no Game."""
        kind = type(self.game).__name__
        missing = [name for name in ("iterations", "fixed_inputs", "pictures")
                   if getattr(type(self), name) is getattr(Run, name)]
        if not isinstance(self.game, Module) or missing:
            raise TypeError(f"a run trains a Game, got a {kind}: for another Module make a "
                            "subclass of Run that overrides iterations, fixed_inputs and pictures")
        if average is not None:
            raise TypeError(f"a run keeps averages of a Game's weights, but has a {kind}: leave "
                            "`average` out")

    def play(self) -> Module:
        """Train the game to the last step, with a progress line and a Record; return the game.

        SIGINT (Ctrl-C), SIGTERM, SIGHUP and the end of the process that reads standard output stop
        the run after the current iteration, with a checkpoint. play() then raises KeyboardInterrupt
        after Ctrl-C, BrokenPipeError after the end of the reader, and SystemExit after the other
        signals; the attribute `stopped` is the number of the signal, or CLOSED_OUTPUT. Another call
        goes on from the last checkpoint, also after an error. Raises UserError if a loss or a
        weight is no longer finite, if a file cannot be written, if another process is writing the
        run, if another thread plays one, if the checkpoint to resume from does not fit the run, and
        before the first step for images whose range pictures of the samples could not show.
        """
        os.makedirs(self.folder, exist_ok=True)
        steps = [opt.t for opt in self.optimisers.values()]
        if self._has_saved:     # this is not the first call
            self._saved = checkpoint.read(os.path.join(self.folder, checkpoint.NAME))
        elif self._begun not in (None, steps):
            raise UserError("the run has failed after its optimisers' first step and before its "
                            "first checkpoint: make the game, the optimisers and the Run anew")
        self.stopped, self._begun = None, steps
        with (_refuse_other_threads(), lock(self.folder) as check, _catch_signals() as stopped,
              np.errstate(all="ignore")):
            record = Record(self, self._saved, check)
            if record.first[0] is None and type(self).pictures is Run.pictures and not (
                    self.game.overrides("pictures")):
                print("no pictures: G's samples are no images (N, C, H, W); if they are meant as "
                      "such, end G in nn.Reshape(C, H, W)")
            progress = Progress(self.steps, start=record.step)
            try:
                for i, values in self.iterations(record.step):
                    measured = self.measure(i + 1)
                    _check_measured(measured, values)
                    record.add({**values, **measured})
                    try:
                        progress(i, values, measured)
                    except OSError:     # its reader has ended, its terminal is gone, its disk full
                        stopped.append(CLOSED_OUTPUT)
                    if stopped:
                        break
                record.save()
            except FloatingPointError as error:
                last = "nothing has been saved" if record.saved is None else (
                    f"the last checkpoint, {os.path.join(self.folder, checkpoint.NAME)}, is of "
                    f"step {record.saved}")
                raise UserError(f"{error} by step {record.step}: start another run with other "
                                f"settings, such as a smaller learning rate; {last}") from None
            finally:
                self.step, self._has_saved = record.step, record.saved is not None
                if CLOSED_OUTPUT not in stopped:
                    progress.close()
        if stopped:     # during the last step too: a program may have more runs to play
            # a closed output counts more than a signal that came with it
            self.stopped = CLOSED_OUTPUT if CLOSED_OUTPUT in stopped else stopped[0]
            why = f"stopped after step {self.step} of {self.steps} with a checkpoint" + (
                ": play() goes on, and so does a Run with resume=True" * (self.step < self.steps))
            if self.stopped == CLOSED_OUTPUT:
                raise BrokenPipeError(why)
            if self.stopped == signal.SIGINT:
                raise KeyboardInterrupt(why)
            raise SystemExit(128 + self.stopped)
        if self.step < self.steps:
            raise UserError(f"iterations() of the run ended after step {self.step} of "
                            f"{self.steps}: yield every step up to the last")
        return self.game

    # Methods that a subclass may override

    def iterations(self, start: int) -> Iterator[tuple[int, dict[str, Array]]]:
        """Train from iteration `start` on; after each, yield its number and its values to log.

        The values are {name: array of one number}. Steps of a subclass's own call the game's
        begin_iteration(), after_d_step(), after_g_step() and update_averages(), as play() does;
        README.md in this folder has an example.
        """
        data = self.data
        if start == 0:
            data = check_first(data, lambda x: refuse_wrong_pictures(self.game, x))
        for i, d_loss, g_loss in play(
                self.game, data, self.optimisers["d_opt"], self.optimisers["g_opt"],
                self.batch_size, rng, self.steps, start, self.order):
            yield i, {"D loss": d_loss.data, "G loss": g_loss.data, **self.game.logged}

    def measure(self, step: int) -> dict[str, float]:
        """Return further values to log after this number of steps, {name: number}: none here.

        A subclass whose measurements take time may return them at some steps only, see is_due.
        """
        return {}

    def is_due(self, step: int, times: int) -> bool:
        """Return whether `step` is the last one, or one of at least `times` evenly spaced ones.

        In a run of fewer steps it is every step.
        """
        return step % (self.steps // times or 1) == 0 or step == self.steps

    def panels(self, names: list[str]) -> list[list[str]]:
        """Return the panels in which the logged values are drawn: one list of names for each.

        `names` are those of the values that have been logged so far. Other names in a panel are
        left out until they are logged.
        """
        losses = [name for name in names if name in ("D loss", "G loss")]
        others = [name for name in names if name not in losses]
        return [panel for panel in (losses, others) if panel]

    def fixed_inputs(self) -> Any:
        """Return the fixed noise, or other inputs, of the pictures; a run draws it once."""
        return self.game.fixed_inputs(self.source, 64, rng)

    def pictures(self, z: Any) -> tuple[Array | None, int | None]:
        """Return (images, columns), the pictures of the inputs z as a grid; (None, None) for none.

        The images are (N, C, H, W); columns is None for a square grid.
        """
        return self.game.pictures(z)


def _check_measured(measured, logged):
    """Raise TypeError unless measure() has returned {name: finite number}, with other names."""
    if not isinstance(measured, Mapping):
        raise TypeError("measure() of a Run returns a dictionary {name: number}, got a "
                        f"{type(measured).__name__}")
    for name, value in measured.items():
        if not is_number(value, -math.inf) or not math.isfinite(value):
            raise TypeError(f"measure() of a Run returned {value!r:.60} for {name}, which is no "
                            "finite number: leave out what is not measured at a step")
        if name in logged:
            raise TypeError(f"measure() of a Run returned {name}, which the game logs: give the "
                            "measured value another name")


# the file that is being imported in refuse_runs()
_imported = ContextVar("imported", default=None)


def refuse_runs(path: str) -> contextlib.AbstractContextManager:
    """Make each new Run raise UserError inside the context, where the file `path` is imported."""
    return use_value(_imported, path)


_playing = threading.RLock()        # held by the thread that makes or plays a run


@contextlib.contextmanager
def _refuse_other_threads():
    """Raise UserError if another thread is in such a context: both would draw from tinygan.rng."""
    if not _playing.acquire(blocking=False):
        raise UserError("a run is made or played in another thread, and both would draw from "
                        "tinygan.rng: play one after the other, or each in a process of its own")
    try:
        yield
    finally:
        _playing.release()


def list_versions() -> dict[str, str]:
    """Return {software: version} for the software on which the numbers of a run depend."""
    library = backend.xp
    return {"tinygan": VERSION, "python": platform.python_version(), "numpy": np.__version__,
            **({} if library is np else {library.__name__: getattr(library, "__version__", "")})}


def check_folder(folder: str | os.PathLike, resume: bool = False, overwrite: bool = False) -> None:
    """Raise UserError if a run in `folder` would replace files that it must not replace.

    It must not replace another run, unless `resume` or `overwrite` is given; a checkpoint.npz that
    is damaged or is no checkpoint; and files that have the names of a run's files, if there is no
    checkpoint. The folder must not be a file.
    """
    path = os.path.join(folder, checkpoint.NAME)
    above = os.path.abspath(folder)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if os.path.isfile(above):
        what = folder if os.path.isfile(folder) else f"{folder} cannot be made, because {above}"
        raise UserError(f"{what} is a file: choose another folder by --out")
    if os.path.exists(path):
        if resume and not overwrite:
            return                  # the checkpoint is read, and so checked, when it is restored
        try:
            saved = checkpoint.read(path, any_format=True)
        except UserError as error:
            raise UserError(f"{error}; --overwrite replaces only runs, so remove the file and the "
                            "others of the run, or choose another folder by --out") from None
        if not overwrite:
            what, resuming = "a run", "resume it by --resume (resume=True), "
            if (version := saved.about["format"]) != checkpoint.FORMAT:
                what, resuming = f"a run of format {version}, which cannot be resumed", ""
            raise UserError(f"{folder} holds {what}: {resuming}replace it by --overwrite "
                            "(overwrite=True), or choose another folder by --out")
    elif there := list_files(folder):
        raise UserError(f"{folder} holds {os.path.relpath(there[0], folder)}, which a run would "
                        "replace, and no checkpoint: choose another folder by --out, or move the "
                        "file")


def remove_run(folder: str | os.PathLike) -> None:
    """Remove the files of the run in `folder`, but no other files.

    Raises UserError if another process is writing the run.
    """
    with lock(folder):
        # the checkpoint is last: an interrupted removal still leaves a run, which can be removed
        path = os.path.join(folder, checkpoint.NAME)
        if os.path.exists(path):
            for path in [*list_files(folder), path]:
                os.remove(path)


@contextlib.contextmanager
def lock(folder: str | os.PathLike) -> Iterator[Callable]:
    """Lock `folder` against other processes of tinygan, if the system has such locks.

    The value of the context is a function that raises UserError if the folder has been removed
    since: a new folder of the same name would not be locked. Raises UserError if another process
    has locked it.
    """
    if fcntl is None:
        yield lambda: None
        return
    handle = os.open(folder, os.O_RDONLY)
    names = os.fstat(handle).st_nlink       # 0 once it is removed

    def check():
        if names and not os.fstat(handle).st_nlink:
            raise UserError(f"the folder {folder} was removed during the run: start the run again")
    try:
        with contextlib.suppress(OSError):      # some file systems have no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is writing the run in {folder}: wait for it, or "
                                "choose another --out") from None
        yield check
    finally:
        with contextlib.suppress(OSError):      # a process that was forked meanwhile has a copy
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


@contextlib.contextmanager
def _catch_signals():
    """Append the number of the first SIGINT (Ctrl-C), SIGTERM or SIGHUP to the context's list.

    A second signal of the same kind has its usual effect, and so has one in a forked process.
    """
    stopped, before, process = [], {}, os.getpid()

    def stop(number, frame):
        signal.signal(number, before[number])
        if os.getpid() != process:
            signal.raise_signal(number)
            return
        stopped.append(number)
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):      # the reader of standard error has ended
                print("\nstopping after this iteration; Ctrl-C again stops at once",
                      file=sys.stderr, flush=True)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)            # Windows has no SIGHUP
        # Python allows signal handlers in the main thread only; an ignored signal (as SIGHUP under
        # nohup) stays ignored
        if (number is not None and threading.current_thread() is threading.main_thread()
                and signal.getsignal(number) is not signal.SIG_IGN):
            before[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
