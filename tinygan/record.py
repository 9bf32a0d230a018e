"""What is shown of a run while it goes, and what is kept of it."""

import glob
import json
import math
import os
import sys
import time

import numpy as np

from . import backend, checkpoint, image, plot
from .backend import UserError
from .files import replaced


class Means:
    """Means of arrays of one number, added up where they are and read only when asked for, so that
    a GPU need not be waited for."""

    def __init__(self):
        self.count, self.sums = 0, {}

    def add(self, values):
        """`values` is {name: array}, with the same names each time."""
        self.count += 1
        self.sums = {name: value + self.sums.get(name, 0.0) for name, value in values.items()}

    def take(self):
        """{name: mean since the last take()}."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.count, self.sums = 0, {}
        return means


class Progress:
    """One line that says how far a run is, its rate, the time left, and what the losses saw,
    averaged since the line before: rewritten in place on a terminal, else a new one now and
    then."""

    def __init__(self, steps, file=None, start=0):
        self.steps, self.start, self.file = steps, start, file or sys.stdout
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else 10.0         # seconds
        self.begin = self.last = time.monotonic()
        self.means = Means()

    def __call__(self, i, values):
        """After iteration i (from 0): `values` is {name: array of one number}."""
        self.means.add(values)
        now = time.monotonic()
        if now - self.last < self.every and i + 1 < self.steps:
            return
        rate = (i + 1 - self.start) / (now - self.begin)
        left = int((self.steps - i - 1) / rate)
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in self.means.take().items())
        line = (f"step {i + 1:>{len(str(self.steps))}}/{self.steps}  {rate:5.1f}/s  "
                f"{left // 60}:{left % 60:02} left  {means}")
        end = "\n" if not self.live or i + 1 == self.steps else ""
        print(f"\r{line}\x1b[K" if self.live else line, end=end, file=self.file, flush=True)
        self.last = now


class Record:
    """What is kept of a run, in the folder args.out:

        settings.json       the flags, with the seed; the data; versions
        samples/            fifty times, and before the first step: 64 samples from the same noise
        samples.png         the newest of them
        training.png        all of them, animated
        log.csv             losses and what they saw, means over a 500th of the run each
        losses.svg          the same as curves
        checkpoint.npz      all that it takes to go on, the log included

    `step` is the number of iterations done.
    """

    def __init__(self, args, game, batches, d_opt, g_opt):
        self.args, self.players = args, (game, d_opt, g_opt, batches)
        self.path = os.path.join(args.out, checkpoint.NAME)
        self.step, self.means, self.columns, self.rows = 0, Means(), [], []
        self.z = game.latent(64, backend.rng)
        if args.resume:
            self._restore()
        self.save()
        if self.step == 0:
            for path in self._pictures():       # of a run that this one replaces
                os.remove(path)
            self.sample()
        self._write("settings.json", lambda path: _write_text(path, json.dumps(
            args.settings, indent=2)))

    def add(self, values):
        """After an iteration: `values` is {name: array of one number}. Raises UserError if one has
        become NaN or infinite."""
        steps = self.args.steps
        self.step += 1
        self.means.add(values)
        if self.step % (steps // 500 or 1) == 0 or self.step == steps:
            means = self.means.take()
            for name, mean in means.items():
                if not math.isfinite(mean):
                    self._fail(f"{name} has become {mean}")
            self.columns = list(means)
            self.rows.append([self.step, *means.values()])
        if self.step % (steps // 50 or 1) == 0:
            self.sample()
        if time.monotonic() - self.saved >= self.args.save_every:
            self.save()

    def sample(self):
        """The pictures of this step."""
        pixels = self.players[0].sample(self.z)
        os.makedirs(os.path.join(self.args.out, "samples"), exist_ok=True)
        for name in (os.path.join("samples", f"{self.step:06}.png"), "samples.png"):
            self._write(name, lambda path: image.save_grid(path, pixels, scale=2))
        self._write("training.png", lambda path: image.save_animation(path, self._pictures()))

    def save(self):
        """The checkpoint, the log and its curves."""
        about = {"settings": self.args.settings, "step": self.step, "count": self.means.count,
                 "columns": self.columns}
        sums = {f"sums.{name}": backend.to_numpy(backend.xp.asarray(value))
                for name, value in self.means.sums.items()}
        rows = np.array(self.rows, float).reshape(len(self.rows), 1 + len(self.columns))
        try:
            self._write(checkpoint.NAME, lambda path: checkpoint.save(
                path, *self.players, about, {"log": rows, **sums}))
        except UserError as error:
            self._fail(str(error))
        lines = [["step", *self.columns], *([int(row[0]), *(f"{v:.6g}" for v in row[1:])]
                                            for row in self.rows)]
        self._write("log.csv", lambda path: _write_text(
            path, "".join(",".join(map(str, line)) + "\n" for line in lines)))
        curves = dict(zip(self.columns, rows[:, 1:].T))
        losses = {name: curves.pop(name) for name in ("D loss", "G loss") if name in curves}
        self._write("losses.svg", lambda path: plot.save_curves(
            path, rows[:, 0], [panel for panel in (losses, curves) if panel]))
        self.saved, self.safe = time.monotonic(), self.step

    def _restore(self):
        about, arrays = checkpoint.restore(self.path, *self.players)
        try:
            same_data(self.args.out, about["settings"], self.args.settings["data"]["sha256"])
            self.step, self.means.count = int(about["step"]), int(about["count"])
            self.means.sums = {name.removeprefix("sums."): backend.xp.asarray(array)
                               for name, array in arrays.items() if name.startswith("sums.")}
            self.columns, self.rows = list(about["columns"]), arrays["log"].tolist()
        except UserError:
            raise
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.path} is damaged: its log is not there") from None
        print(f"resumed after step {self.step}")

    def _pictures(self):
        """The paths in samples/, in order; up to this step, as a run that was killed may have got
        further than it was saved, and of all of them before the first."""
        paths = {}
        for path in glob.glob(os.path.join(glob.escape(self.args.out), "samples", "*.png")):
            name = os.path.basename(path)[:-4]
            if name.isdecimal() and (self.step == 0 or int(name) <= self.step):
                paths[int(name)] = path
        return [paths[step] for step in sorted(paths)]

    def _write(self, name, write):
        save(write, os.path.join(self.args.out, name))

    def _fail(self, what):
        raise UserError(f"{what} by step {self.step}: a smaller learning rate may keep it finite; "
                        f"the last checkpoint, {self.path}, is of step {self.safe}")


def _write_text(path, text):
    with replaced(path) as file:
        file.write(text.encode())


def same_data(folder, settings, digest):
    """Raises UserError if a run with these settings was not on data of this digest."""
    if settings["data"].get("sha256") != digest:
        raise UserError(f"the run in {folder} was begun on other data than this, which has changed "
                        f"since or is not the same: give {settings['data'].get('source')} by --data"
                        )


def save(function, path, *args, **kwargs):
    """function(path, ...), which writes a file, with a sentence for the user if it cannot."""
    try:
        function(path, *args, **kwargs)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        "place with --out") from None
