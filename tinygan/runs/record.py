"""The progress line of a run, and the files in its folder."""

import contextlib
import csv
import glob
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import numpy as np

from . import checkpoint, image, plot, unsaved
from .. import backend
from ..backend import Array, UserError
from ..files import write_text
from ..tensor import Tensor

# what scripts compute from a finished run; the pictures are sample.py's
RESULTS = ("evaluation.json", "segmented.png", "mnist_classifier.npz", *(
    f"pictures/{name}" for name in (
        "samples.png", "linear.png", "spherical.png", "pictures.png", "encoded.png", "between.png",
        "translated.png", "outputs.npz", "nearest.png")))
# the files of a run, beside the checkpoint and the pictures in samples/
NAMES = ("settings.json", "samples.png", "training.png", "log.csv", "losses.svg", *RESULTS)


class Means:
    """Running means of arrays of one number.

    The sums stay on the device until take() reads them, so that each step need not wait for a GPU.
    On a GPU, cuda.TABLE arrays are added up at a time, in the order in which they came.
    """

    def __init__(self) -> None:
        self.counts, self._sums, self._waiting = {}, {}, {}

    def add(self, values: Mapping[str, Array | float]) -> None:
        """Add {name: array of one number}; each call may have other names.

        The arrays must not be written to later. Raises TypeError for an array of several numbers,
        for a Tensor, and for a name that the log could not have.
        """
        for name, value in values.items():
            if not isinstance(name, str) or not name.isprintable() or name in ("", "step"):
                raise TypeError("the name of a logged value is a text of printable characters, and "
                                f"not \"step\", got {name!r:.60}")
            if type(value) is Tensor:
                raise TypeError(f"the logged value {name} is a Tensor: log its array, .data")
            if getattr(value, "size", 1) != 1:
                raise TypeError(f"the logged value {name} must be one number, such as a mean, got "
                                f"an array of shape {value.shape}")
            value = value.reshape(()) if hasattr(value, "reshape") else value
            self.counts[name] = self.counts.get(name, 0) + 1
            if backend.cuda is not None and all(backend.cuda.is_float(v) for v in (
                    value, self._sums.get(name, value))):
                self._waiting.setdefault(name, []).append(value)
                if len(self._waiting[name]) == backend.cuda.TABLE:
                    self._add_waiting(name)
            else:
                self._add_waiting(name)
                self._sums[name] = value + self._sums.get(name, 0.0)

    def _add_waiting(self, name):
        """Add the arrays of this name that wait to its sum."""
        if name in self._waiting:
            self._sums[name] = backend.cuda.add_up(self._waiting.pop(name), self._sums.get(name))

    @property
    def sums(self) -> dict[str, Array | float]:
        """Return {name: sum since the last take()}, to which sums of a resumed run are added."""
        for name in list(self._waiting):
            self._add_waiting(name)
        return self._sums

    def take(self) -> dict[str, float]:
        """Return {name: mean since the last take()}, and start again.

        Raises FloatingPointError if a mean is NaN or infinite.
        """
        sums = self.sums
        means = {name: float(sums[name]) / n for name, n in self.counts.items()}
        self.counts, self._sums = {}, {}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise FloatingPointError(f"{name} has become {mean}")
        return means


class Progress:
    """A line with the step, the rate, the time left, and the means of the logged values.

    On a terminal, the line is rewritten in place twice a second; otherwise a new line is printed
    every ten seconds. The means are those since the line before. A value that is logged or measured
    at some steps only stays in the line until the next value; measured values are not averaged.

    steps   the number of iterations of the run
    file    where the line is printed (default: standard output)
    start   the iteration from which the run is resumed
    """

    def __init__(self, steps: int, file: TextIO | None = None, start: int = 0) -> None:
        self.steps, self.start, self.file = steps, start, file or sys.stdout
        self.live = self.file is not None and self.file.isatty()
        self.every = 0.5 if self.live else 10.0         # seconds
        self.begin = time.monotonic()
        self.last = self.begin - self.every + min(self.every, 1.0)      # the first line within 1 s
        self.means, self.open = Means(), False
        self.newest, self.measured = {}, {}             # {name: text}

    def __call__(self, i: int, values: Mapping[str, Array | float],
                 measured: Mapping[str, float] = {}) -> None:
        """Add the values of iteration i (from 0), {name: array of one number}; print if it is time.

        measured   values to show as they are, {name: number}

        Raises FloatingPointError if a mean is NaN or infinite.
        """
        self.means.add(values)
        self.measured |= {name: f"{value:.4g}" for name, value in measured.items()}
        now = time.monotonic()
        if now - self.last < self.every and i + 1 < self.steps:
            return
        self.last = now
        rate = (i + 1 - self.start) / max(now - self.begin, 1e-9)
        left = int((self.steps - i - 1) / rate)
        self.newest |= {name: f"{mean:.3f}" for name, mean in self.means.take().items()}
        shown = "  ".join(f"{name} {text}" for name, text in {**self.newest,
                                                              **self.measured}.items())
        line = (f"step {i + 1:>{len(str(self.steps))}}/{self.steps}  {rate:5.1f}/s  "
                f"{left // 60}:{left % 60:02} left  {shown}")
        if self.live:       # cut, since a line that the terminal wraps could not be rewritten
            line = f"\r{line[:shutil.get_terminal_size().columns - 1]}\x1b[K"
        self.open = self.live
        if self.file is not None:           # Python has no standard output if it was closed
            print(line, end="" if self.live else "\n", file=self.file, flush=True)
        if i + 1 == self.steps:
            self.close()

    def close(self) -> None:
        """End the line that is being rewritten, if there is one."""
        if self.open:
            self.open = False
            print(file=self.file, flush=True)


class Record:
    """The files of a run.

        checkpoint.npz      the state of the run, from which it can be resumed, and the log
        settings.json       the flags with the seed, the data, the versions of the software
        samples/            pictures of samples from fixed noise: before the first step, after the
                            last one, and at fifty or more steps between
        samples.png         the newest of these pictures
        training.png        all of these pictures as an animation
        log.csv             losses, scores and measurements, as means over a 500th of the run
                            or less
        losses.svg          the log as curves

    run     the Run
    saved   the checkpoint from which it is resumed, or None
    check   is called before each file is written, see lock() in run.py

    The attribute `step` is the number of finished iterations. Nothing is written, and no file of an
    earlier run is replaced, before the first iteration is finished. Raises UserError if a file
    cannot be written or the checkpoint does not fit the run, and FloatingPointError if a loss or a
    weight is not finite.
    """

    def __init__(self, run: Any, saved: checkpoint.Checkpoint | None, check: Callable) -> None:
        self.run, self.step, self.means, self.check = run, 0, Means(), check
        self.columns, self.rows = [], []    # the log: its names, and a [step, {name: mean}] a row
        self.saved = self.when = None       # the step and the time of the last checkpoint
        # whether the training draws from numpy's or Python's own streams, and their states before
        self.draws_elsewhere, self.streams_before = False, checkpoint.read_streams()
        # the game is fixed since the Run was made, the optimisers are from now on
        self.fixed = self._list_fixed() | {
            name: text for name, text in run.fixed.items() if name.startswith("game.")}
        self.z = run.fixed_inputs()
        self.first = self._draw_pictures()
        if saved is not None:
            self._restore(saved)
            self.save()
            if self.step == 1:
                self._save_first()

    def _list_fixed(self):
        return unsaved.list_fixed(self.run.game, self.run.optimisers, self.run.data)

    def _draw_pictures(self):
        """Return the run's (images, columns)."""
        pictures = self.run.pictures(self.z)
        if not isinstance(pictures, (tuple, list)) or len(pictures) != 2:
            raise TypeError("pictures() returns (images, columns), or (None, None) for none, got a "
                            f"{type(pictures).__name__}")
        return pictures

    def add(self, values: Mapping[str, Array | float]) -> None:
        """Record an iteration with its values, {name: array of one number}."""
        self.step += 1
        self.means.add(values)
        if self.run.is_due(self.step, 500):
            means = self.means.take()
            self.columns += [name for name in means if name not in self.columns]
            self.rows.append([self.step, means])
        if self.step == 1:
            self.save()
            self._save_first()
        elif self.run.is_due(self.step, 50):
            self._save_pictures(self.step, self._draw_pictures())
        if time.monotonic() - self.when >= self.run.save_every:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, the settings, the log and its curves.

        Raises UserError if something has changed that the checkpoint would not keep.
        """
        if changed := sorted(self._list_fixed().items() ^ self.fixed.items()):
            name = changed[0][0]
            owner, _, attribute = name.partition(".")
            advice = ("make it an array in the constructor, which is written to in place, or name "
                      "it in the class's `untracked`, if neither samples nor later steps depend on "
                      "the value that it had")
            if owner in self.run.optimisers:
                advice = f"make it a schedule, compute it from `t`, {advice}"
                if attribute == "parameters":
                    advice = "train other parameters in another run or stage"
            raise UserError(f"{name} changes during training, and a checkpoint would not keep it: "
                            f"{advice}")
        rows = np.array([[step, *(means.get(name, math.nan) for name in self.columns)]
                         for step, means in self.rows], float)
        rows = rows.reshape(len(self.rows), 1 + len(self.columns))
        arrays = {"log": rows, **{f"sums.{name}": backend.to_numpy(backend.xp.asarray(value))
                                  for name, value in self.means.sums.items()}}
        about = {"settings": self.run.settings, "step": self.step, "steps": self.run.steps,
                 "played": self._fixed_settings(), "counts": self.means.counts,
                 "columns": self.columns, "z": checkpoint.pack(self.z, "z", arrays)}
        streams = checkpoint.read_streams()
        self.draws_elsewhere = self.draws_elsewhere or streams != self.streams_before
        if self.draws_elsewhere:
            about["streams"] = streams
        self._write(checkpoint.NAME, checkpoint.save, self.run.game, self.run.optimisers,
                    self.run.data, about, arrays)
        self.saved, self.when = self.step, time.monotonic()
        self._write("settings.json", write_text, json.dumps(self.run.settings, indent=2) + "\n")
        log = io.StringIO()
        csv.writer(log, lineterminator="\n").writerows([
            ["step", *self.columns],
            *([int(step), *("" if math.isnan(v) else f"{v:.6g}" for v in means)]
              for step, *means in rows)])
        self._write("log.csv", write_text, log.getvalue())
        curves = dict(zip(self.columns, rows[:, 1:].T))
        panels = self.run.panels(self.columns)
        if any(isinstance(names, str) for names in panels):
            raise TypeError("panels() of a Run returns a list of lists of names, one for each "
                            f"panel, got {panels!r:.60}")
        panels = [{name: curves[name] for name in names if name in curves}      # others come later
                  for names in panels]
        self._write("losses.svg", plot.save_curves, rows[:, 0], [p for p in panels if p])

    def _fixed_settings(self):
        """Return {name: value} of the settings of the Run itself that a resumed run must share."""
        return {"batch size": self.run.batch_size, "order": self.run.order}

    def _save_first(self):
        """Write the first pictures, after the first step.

        A run that is resumed after its first step writes them again, since it may have been killed
        in the middle of this.
        """
        # those of a run that this one replaces
        others = [os.path.join(self.run.folder, name)
                  for name in ("samples.png", "training.png", *RESULTS)]
        for path in [*list_pictures(self.run.folder), *filter(os.path.exists, others)]:
            self._write(os.path.relpath(path, self.run.folder), os.remove)
        self._save_pictures(0, self.first)
        if self.run.is_due(self.step, 50):
            self._save_pictures(self.step, self._draw_pictures())

    def _save_pictures(self, step, pictures):
        """Write the pictures (images, columns) of a step, and the animation of all up to it."""
        images, columns = pictures
        if images is None:                  # the game has no pictures
            return
        self._write("samples", _make_folder)
        for name in (os.path.join("samples", f"{step:06}.png"), "samples.png"):
            self._write(name, image.save_grid, images, columns, scale=2,
                        group=getattr(self.run.game, "group", None))
        self._write("training.png", image.save_animation, list_pictures(self.run.folder, step))

    def _restore(self, saved):
        """Set the run and this Record to the state in a checkpoint."""
        checkpoint.restore(saved, self.run.game, self.run.optimisers, self.run.data)
        about, arrays = saved.about, saved.arrays
        self.draws_elsewhere = "streams" in about
        with checkpoint.report_damage(saved.path, "its log does not fit"):
            for name, value in self._fixed_settings().items():
                if about["played"][name] != value:
                    raise UserError(f"the run in {self.run.folder} has the {name} "
                                    f"{about['played'][name]!r:.60}, not {value!r}: resume it with "
                                    "that, or choose another folder")
            self.step, self.columns, log = int(about["step"]), about["columns"], arrays["log"]
            self._keep_versions(about["settings"])
            z = checkpoint.unpack(about["z"], arrays)
            here = {}
            # the fixed inputs have another form, or arrays of other shapes, than those of this run
            if checkpoint.pack(z, "z", {}) != checkpoint.pack(self.z, "z", here) or any(
                    arrays[name].shape != array.shape or not np.isfinite(arrays[name]).all()
                    for name, array in here.items()):
                raise ValueError("z")
            self.z = z
            self.means.counts = {str(name): int(n) for name, n in about["counts"].items()}
            self.means.sums.update({name: backend.xp.asarray(arrays[f"sums.{name}"].reshape(()))
                                    for name in self.means.counts})
            if (self.step < 1 or log.shape != (len(log), 1 + len(self.columns))
                    or not np.isfinite(log[:, :1]).all()
                    or not all(isinstance(name, str) for name in self.columns)):
                raise ValueError("log")
            self.rows = [[row[0], {name: value for name, value in zip(self.columns, row[1:])
                                   if not math.isnan(value)}] for row in log.tolist()]
        if self.step > self.run.steps:
            raise UserError(f"the run in {self.run.folder} is at step {self.step} already: give "
                            f"steps (--steps) of at least {self.step}")
        self.saved = self.step
        print(f"resumed after step {self.step}")

    def _keep_versions(self, then):
        """Keep the versions of the software that made the steps so far; `then` are its settings."""
        settings, versions = self.run.settings, then.get("versions")
        earlier = list(then.get("earlier versions", ()))
        if self.step == self.run.steps:             # no step is made now
            settings["versions"] = versions
        elif versions != settings["versions"]:
            earlier.append(versions)
        if earlier:
            settings["earlier versions"] = earlier

    def _write(self, name, write, *args, **kwargs):
        """Call write(path, *args, **kwargs) with the path of the run's file `name`.

        An OSError becomes a UserError that names the file and the step from which to resume.
        """
        self.check()
        path = os.path.join(self.run.folder, name)
        more = "" if self.saved is None else f"; --resume then resumes from step {self.saved}"
        try:
            write(path, *args, **kwargs)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                            f"place with --out{more}") from None


def _make_folder(path):
    """Make a folder, if it is missing. It fails if the folder above, a run's, was moved."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)


def list_pictures(folder: str | os.PathLike, step: float = math.inf) -> list[str]:
    """List the paths of a run's pictures in samples/, in the order of their steps, up to `step`.

    There may be later ones, of a run that was killed some time after its last checkpoint.
    """
    paths = {}
    for path in glob.glob(os.path.join(glob.escape(folder), "samples", "*.png")):
        name = os.path.basename(path)[:-4]
        if name.isdecimal() and int(name) <= step:
            paths[int(name)] = path
    return [paths[number] for number in sorted(paths)]


def list_files(folder: str | os.PathLike) -> list[str]:
    """List the paths of a run's files in `folder`, without its checkpoint."""
    paths = [os.path.join(folder, name) for name in NAMES]
    return [path for path in paths if os.path.exists(path)] + list_pictures(folder)
