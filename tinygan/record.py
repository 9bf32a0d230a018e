"""What is shown of a run while it goes, and what is kept of it."""

import glob
import json
import math
import os
import shutil
import sys
import time

import numpy as np

from . import backend, checkpoint, image, plot
from .backend import UserError
from .files import replaced
from .tensor import Tensor

# All that a run writes into its folder, beside the checkpoint
NAMES = "settings.json", "samples", "samples.png", "training.png", "log.csv", "losses.svg"


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
        """{name: mean since the last take()}. Raises FloatingPointError if one is not finite."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.count, self.sums = 0, {}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise FloatingPointError(f"{name} has become {mean}")
        return means


class Progress:
    """One line that says how far a run is, its rate, the time left, and what the losses saw,
    averaged since the line before: rewritten in place on a terminal, else a new one now and
    then."""

    def __init__(self, steps, file=None, start=0):
        self.steps, self.start, self.file = steps, start, file or sys.stdout
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else 10.0         # seconds
        self.begin = time.monotonic()
        self.last = self.begin - self.every + min(self.every, 1.0)      # the first comes soon
        self.means, self.open = Means(), False

    def __call__(self, i, values):
        """After iteration i (from 0): `values` is {name: array of one number}. Raises
        FloatingPointError if a mean of one is not finite."""
        self.means.add(values)
        now = time.monotonic()
        if now - self.last < self.every and i + 1 < self.steps:
            return
        self.last = now
        rate = (i + 1 - self.start) / max(now - self.begin, 1e-9)
        left = int((self.steps - i - 1) / rate)
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in self.means.take().items())
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
    """What is kept of a run, in the folder args.out:

        checkpoint.npz      all that it takes to go on, the log included
        settings.json       the flags, with the seed; the data; versions
        samples/            64 samples from the same noise: before the first step, at the last, and
                            fifty times or somewhat more on the way
        samples.png         the newest of them
        training.png        all of them, animated
        log.csv             losses and what they saw, means over a 500th of the run each, or less
        losses.svg          the same as curves

    `step` is the number of iterations done. Nothing is written, and nothing of an earlier run
    replaced, before the first one is done. Raises UserError if something cannot be written, and
    FloatingPointError if a loss or a weight is not finite.
    """

    def __init__(self, args, game, batches, d_opt, g_opt):
        self.args, self.players = args, (game, d_opt, g_opt, batches)
        self.step, self.means, self.columns, self.rows = 0, Means(), [], []
        self.saved = self.when = None       # the step of the last checkpoint, and the time of it
        self.z = game.latent(64, backend.rng)
        self.first = game.sample(self.z)
        if args.resume:
            self._restore(args.saved)
            self.save()
            if self.step == 1:
                self._begin()

    def add(self, values):
        """After an iteration: `values` is {name: array of one number}."""
        steps = self.args.steps
        self.step += 1
        self.means.add(values)
        if self.step % (steps // 500 or 1) == 0 or self.step == steps:
            means = self.means.take()
            self.columns = list(means)
            self.rows.append([self.step, *means.values()])
        if self.step == 1:
            self.save()
            self._begin()
        elif self._is_pictured():
            self._picture(self.step, self.players[0].sample(self.z))
        if time.monotonic() - self.when >= self.args.save_every:
            self.save()

    def save(self):
        """The checkpoint, the settings, the log and its curves."""
        about = {"settings": self.args.settings, "step": self.step, "count": self.means.count,
                 "columns": self.columns}
        rows = np.array(self.rows, float).reshape(len(self.rows), 1 + len(self.columns))
        arrays = {"z": self.z.numpy(), "log": rows, **{
            f"sums.{name}": backend.to_numpy(backend.xp.asarray(value))
            for name, value in self.means.sums.items()}}
        self._write(checkpoint.NAME, checkpoint.save, *self.players, about, arrays)
        self.saved, self.when = self.step, time.monotonic()
        self._write("settings.json", _write_text, json.dumps(self.args.settings, indent=2) + "\n")
        lines = [["step", *self.columns], *([int(row[0]), *(f"{v:.6g}" for v in row[1:])]
                                            for row in self.rows)]
        self._write("log.csv", _write_text, "".join(",".join(map(str, line)) + "\n"
                                                    for line in lines))
        curves = dict(zip(self.columns, rows[:, 1:].T))
        losses = {name: curves.pop(name) for name in ("D loss", "G loss") if name in curves}
        self._write("losses.svg", plot.save_curves, rows[:, 0],
                    [panel for panel in (losses, curves) if panel])

    def _begin(self):
        """After the first step. It is done again when a run is resumed from there, as it may have
        been killed in the middle of this."""
        for path in self._pictures():       # of a run that this one replaces
            os.remove(path)
        self._picture(0, self.first)
        if self._is_pictured():
            self._picture(self.step, self.players[0].sample(self.z))

    def _is_pictured(self):
        return self.step % (self.args.steps // 50 or 1) == 0 or self.step == self.args.steps

    def _picture(self, step, images):
        os.makedirs(os.path.join(self.args.out, "samples"), exist_ok=True)
        for name in (os.path.join("samples", f"{step:06}.png"), "samples.png"):
            self._write(name, image.save_grid, images, scale=2)
        self._write("training.png", image.save_animation, self._pictures(step))

    def _pictures(self, step=math.inf):
        """The paths in samples/ in order, up to this step: a run that was killed may have got
        further than it was saved."""
        paths = {}
        for path in glob.glob(os.path.join(glob.escape(self.args.out), "samples", "*.png")):
            name = os.path.basename(path)[:-4]
            if name.isdecimal() and int(name) <= step:
                paths[int(name)] = path
        return [paths[number] for number in sorted(paths)]

    def _restore(self, saved):
        checkpoint.restore(saved, *self.players)
        about, arrays = saved.about, saved.arrays
        try:
            self.step, self.means.count = int(about["step"]), int(about["count"])
            self.columns, log = about["columns"], arrays["log"]
            self.z = Tensor(backend.xp.asarray(arrays["z"].reshape(self.z.shape)))
            self.rows = log.tolist()
            self.means.sums = {name.removeprefix("sums."): backend.xp.asarray(array.reshape(()))
                               for name, array in arrays.items() if name.startswith("sums.")}
            if (self.step < 1 or log.shape != (len(log), 1 + len(self.columns))
                    or not all(isinstance(name, str) for name in self.columns)
                    or (self.means.count > 0) != bool(self.means.sums)):
                raise ValueError
        except (KeyError, OverflowError, TypeError, ValueError):
            raise UserError(f"{saved.path} is damaged: its log does not fit") from None
        if self.step > self.args.steps:
            raise UserError(f"the run in {self.args.out} is at step {self.step} already: give "
                            "--steps of at least that")
        self.saved = self.step
        print(f"resumed after step {self.step}")

    def _write(self, name, write, *args, **kwargs):
        more = "" if self.saved is None else f"; --resume then goes on from step {self.saved}"
        try_to_write(os.path.join(self.args.out, name), write, *args, more=more, **kwargs)


def _write_text(path, text):
    with replaced(path) as file:
        file.write(text.encode())


def try_to_write(path, write, *args, more="", **kwargs):
    """write(path, ...), with a sentence for the user if the file cannot be written."""
    try:
        write(path, *args, **kwargs)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        f"place with --out{more}") from None
