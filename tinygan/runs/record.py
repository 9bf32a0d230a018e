"""What is shown of a run while it goes, and what is kept of it."""

import glob
import json
import math
import os
import shutil
import sys
import time

import numpy as np

from . import checkpoint, image, plot
from .. import backend
from ..backend import UserError
from ..files import replaced

# What a run writes into its folder, beside the checkpoint and the pictures in samples/
NAMES = "settings.json", "samples.png", "training.png", "log.csv", "losses.svg"


class Means:
    """Means of arrays of one number, added up where they are and read only when asked for, so that
    a GPU need not be waited for."""

    def __init__(self):
        self.counts, self.sums = {}, {}

    def add(self, values):
        """Add {name: array}; the names may be others each time."""
        for name, value in values.items():
            self.counts[name] = self.counts.get(name, 0) + 1
            self.sums[name] = value + self.sums.get(name, 0.0)

    def take(self):
        """Return {name: mean since the last take()}. Raises FloatingPointError if one is not
        finite."""
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        self.counts, self.sums = {}, {}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise FloatingPointError(f"{name} has become {mean}")
        return means


class Progress:
    """One line that says how far a run is, its rate, the time left, and what the losses saw,
    averaged since the line before: rewritten in place on a terminal, else a new one now and then. A
    value that comes at some steps only stays in the line until the next."""

    def __init__(self, steps, file=None, start=0):
        self.steps, self.start, self.file = steps, start, file or sys.stdout
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else 10.0         # seconds
        self.begin = time.monotonic()
        self.last = self.begin - self.every + min(self.every, 1.0)      # the first comes soon
        self.means, self.newest, self.open = Means(), {}, False

    def __call__(self, i, values):
        """Show iteration i (from 0): `values` is {name: array of one number}. Raises
        FloatingPointError if a mean of one is not finite."""
        self.means.add(values)
        now = time.monotonic()
        if now - self.last < self.every and i + 1 < self.steps:
            return
        self.last = now
        rate = (i + 1 - self.start) / max(now - self.begin, 1e-9)
        left = int((self.steps - i - 1) / rate)
        self.newest |= self.means.take()
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in self.newest.items())
        line = (f"step {i + 1:>{len(str(self.steps))}}/{self.steps}  {rate:5.1f}/s  "
                f"{left // 60}:{left % 60:02} left  {means}")
        if self.live:       # a line that is longer than the terminal is wide could not be rewritten
            line = f"\r{line[:shutil.get_terminal_size().columns - 1]}\x1b[K"
        self.open = self.live
        print(line, end="" if self.live else "\n", file=self.file, flush=True)
        if i + 1 == self.steps:
            self.close()

    def close(self):
        """End the line that is being rewritten, if there is one."""
        if self.open:
            self.open = False
            print(file=self.file, flush=True)


class Record:
    """What is kept of a run, in its folder:

        checkpoint.npz      all that it takes to go on, the log included
        settings.json       the settings, with the seed; the data; versions
        samples/            pictures of the same inputs: before the first step, at the last, and
                            fifty times or somewhat more on the way
        samples.png         the newest of them
        training.png        all of them, animated
        log.csv             losses, what they saw and what is measured, means over a 500th of the
                            run each, or less
        losses.svg          the same as curves

    `run` is a Run, `saved` the checkpoint from which it goes on, or None. `step` is the number of
    iterations done. Nothing is written, and nothing of an earlier run replaced, before the first
    one is done. Raises UserError if something cannot be written, and FloatingPointError if a loss
    or a weight is not finite.
    """

    def __init__(self, run, saved):
        self.run, self.step, self.means = run, 0, Means()
        self.columns, self.rows = [], []        # of the log: names, and [step, {name: mean}]
        self.saved = self.when = None       # the step of the last checkpoint, and the time of it
        self.z = run.exhibits()
        self.first = run.shown(self.z)
        if saved is not None:
            self._restore(saved)
            self.save()
            if self.step == 1:
                self._begin()

    def add(self, values):
        """Keep an iteration: `values` is {name: array of one number}."""
        steps = self.run.steps
        self.step += 1
        self.means.add(values)
        if self.step % (steps // 500 or 1) == 0 or self.step == steps:
            means = self.means.take()
            self.columns += [name for name in means if name not in self.columns]
            self.rows.append([self.step, means])
        if self.step == 1:
            self.save()
            self._begin()
        elif self._is_pictured():
            self._picture(self.step, self.run.shown(self.z))
        if time.monotonic() - self.when >= self.run.save_every:
            self.save()

    def save(self):
        """Write the checkpoint, the settings, the log and its curves."""
        rows = np.array([[step, *(means.get(name, math.nan) for name in self.columns)]
                         for step, means in self.rows], float)
        rows = rows.reshape(len(self.rows), 1 + len(self.columns))
        arrays = {"log": rows, **{f"sums.{name}": backend.to_numpy(backend.xp.asarray(value))
                                  for name, value in self.means.sums.items()}}
        about = {"settings": self.run.settings, "step": self.step, "played": self._played(),
                 "counts": self.means.counts, "columns": self.columns,
                 "z": checkpoint.pack(self.z, "z", arrays)}
        self._write(checkpoint.NAME, checkpoint.save, self.run.game, self.run.optimisers,
                    self.run.data, about, arrays)
        self.saved, self.when = self.step, time.monotonic()
        self._write("settings.json", _write_text, json.dumps(self.run.settings, indent=2) + "\n")
        lines = [["step", *self.columns], *([int(row[0]), *("" if math.isnan(v) else f"{v:.6g}"
                                                            for v in row[1:])] for row in rows)]
        self._write("log.csv", _write_text, "".join(",".join(map(str, line)) + "\n"
                                                    for line in lines))
        curves = dict(zip(self.columns, rows[:, 1:].T))
        self._write("losses.svg", plot.save_curves, rows[:, 0],
                    [{name: curves[name] for name in names}
                     for names in self.run.panels(self.columns)])

    def _played(self):
        """What a resumed run may not change, beside what it was made of."""
        return {"batch size": self.run.batch_size, "order": self.run.order}

    def _begin(self):
        """After the first step. It is done again when a run is resumed from there, as it may have
        been killed in the middle of this."""
        for path in pictures(self.run.folder):      # of a run that this one replaces
            os.remove(path)
        self._picture(0, self.first)
        if self._is_pictured():
            self._picture(self.step, self.run.shown(self.z))

    def _is_pictured(self):
        return self.step % (self.run.steps // 50 or 1) == 0 or self.step == self.run.steps

    def _picture(self, step, shown):
        images, columns = shown
        if images is None:                  # a game without pictures
            return
        os.makedirs(os.path.join(self.run.folder, "samples"), exist_ok=True)
        for name in (os.path.join("samples", f"{step:06}.png"), "samples.png"):
            self._write(name, image.save_grid, images, columns, scale=2)
        self._write("training.png", image.save_animation, pictures(self.run.folder, step))

    def _restore(self, saved):
        checkpoint.restore(saved, self.run.game, self.run.optimisers, self.run.data)
        about, arrays = saved.about, saved.arrays
        with checkpoint.damage(saved.path, "its log does not fit"):
            for name, value in self._played().items():
                if about["played"][name] != value:
                    raise UserError(f"the run in {self.run.folder} has the {name} "
                                    f"{about['played'][name]!r:.60}, not {value!r}: resume it with "
                                    "that, or choose another folder")
            self.step, self.columns, log = int(about["step"]), about["columns"], arrays["log"]
            z = checkpoint.unpack(about["z"], arrays)
            here = {}
            if checkpoint.pack(z, "z", {}) != checkpoint.pack(self.z, "z", here) or any(
                    arrays[name].shape != array.shape for name, array in here.items()):
                raise ValueError("z")
            self.z = z
            self.means.counts = {str(name): int(n) for name, n in about["counts"].items()}
            self.means.sums = {name: backend.xp.asarray(arrays[f"sums.{name}"].reshape(()))
                               for name in self.means.counts}
            if (self.step < 1 or log.shape != (len(log), 1 + len(self.columns))
                    or not all(isinstance(name, str) for name in self.columns)):
                raise ValueError("log")
            self.rows = [[row[0], {name: value for name, value in zip(self.columns, row[1:])
                                   if not math.isnan(value)}] for row in log.tolist()]
        if self.step > self.run.steps:
            raise UserError(f"the run in {self.run.folder} is at step {self.step} already: give "
                            "--steps of at least that")
        self.saved = self.step
        print(f"resumed after step {self.step}")

    def _write(self, name, write, *args, **kwargs):
        more = "" if self.saved is None else f"; --resume then goes on from step {self.saved}"
        try_to_write(os.path.join(self.run.folder, name), write, *args, more=more, **kwargs)


def pictures(folder, step=math.inf):
    """List the paths of a run's pictures in samples/ in order, up to this step: a run that was
    killed may have got further than it was saved."""
    paths = {}
    for path in glob.glob(os.path.join(glob.escape(folder), "samples", "*.png")):
        name = os.path.basename(path)[:-4]
        if name.isdecimal() and int(name) <= step:
            paths[int(name)] = path
    return [paths[number] for number in sorted(paths)]


def leftovers(folder):
    """List the paths of what a run has left in `folder` beside its checkpoint."""
    paths = [os.path.join(folder, name) for name in NAMES]
    return [path for path in paths if os.path.exists(path)] + pictures(folder)


def _write_text(path, text):
    with replaced(path) as file:
        file.write(text.encode())


def try_to_write(path, write, *args, more="", **kwargs):
    """Call write(path, ...), with a sentence for the user if the file cannot be written."""
    try:
        write(path, *args, **kwargs)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        f"place with --out{more}") from None
