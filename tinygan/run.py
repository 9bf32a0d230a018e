"""What a person sees of a run: its flags, its progress, its pictures, and what went wrong."""

import argparse
import contextlib
import glob
import hashlib
import json
import math
import os
import platform
import shlex
import signal
import sys
import tempfile
import time

import numpy as np

from . import backend, checkpoint, data, image, plot
from .backend import UserError
from .data import mnist
from .files import replaced
from .play import play

try:
    import fcntl
except ImportError:         # Windows
    fcntl = None

EXPLANATION = """\
A discriminator's D(x) and D(G(z)) are the mean probabilities that it gives to real and to generated
images of being real; both near 0.5: it cannot tell them apart, where theory says that training
ends. D(x) near 1 and D(G(z)) near 0 mean that D wins: a little of that is as it should be, but at
.99 and .01 G learns next to nothing. A critic (WGAN and its kin, hinge, LSGAN) gives scores, of
which only the difference says something: W = D(x) - D(G(z)) estimates the distance between the two
distributions and is to fall. The losses are what each player minimises against the other, so that
neither has to fall while the pictures get better.

A GAN has collapsed when its samples look alike, or turn from one few shapes to another few while
the losses swing: open training.png, which shows the same noise at all times. It has failed when the
losses leave for a constant, D(x) = 1 and D(G(z)) = 0 say, and the pictures stay as they are. Either
way: a smaller learning rate or another seed, more steps of D, or a game that holds D's slope, such
as WGAN-GP, SNGAN or R1."""


def flags(description, steps, batch_size, out):
    """The parser with the flags that every example has, and these defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive, default=steps, help=f"iterations to play ({steps})")
    add("--batch-size", type=positive, default=batch_size, help=f"m in the paper ({batch_size})")
    add("--seed", type=whole, default=0, help="of everything random (0)")
    add("--backend", default=None, metavar="NAME",
        help="numpy, or cupy for a GPU (TINYGAN_BACKEND, else numpy)")
    add("--data", metavar="PATH", help="a folder with MNIST's four files, or an .npz or .npy file "
        "of images (TINYGAN_DATA, else a download)")
    add("--out", metavar="DIR", default=out, help=f"the run's folder ({out})")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true",
                        help="go on with the run in --out, from its last checkpoint")
    either.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    add("--save-every", type=from_0, default=30.0, metavar="SECONDS",
        help="between checkpoints (30)")
    add("--average", type=fraction, metavar="DECAY",
        help="sample from an average of G's weights that keeps DECAY, such as .999, at each step")
    add("--dry-run", action="store_true",
        help="2 iterations on the bundled sample, everything done once, nothing kept")
    add("--explain", action=_Explain, help="what the numbers mean, in two paragraphs")
    return parser


class _Explain(argparse.Action):
    def __init__(self, **kwargs):
        super().__init__(nargs=0, **kwargs)

    def __call__(self, parser, *_):
        print(EXPLANATION)
        parser.exit()


# Flags that do not change what a run computes; of --steps, how long
FREE = {"steps", "backend", "data", "out", "resume", "overwrite", "save_every", "dry_run",
        "explain"}


def parse(parser):
    """The command line's flags; with --resume, those that are not given are the run's. Raises
    UserError if there is no run to resume, or one with other flags."""
    args = parser.parse_args()
    if args.resume and not args.dry_run:
        if not os.path.exists(os.path.join(args.out, checkpoint.NAME)):
            raise UserError(f"there is no run in {args.out} to go on with: check --out, or leave "
                            "--resume out to begin one")
        settings = settings_of(args.out)
        there = settings["flags"]
        if settings["script"] != _script():
            raise UserError(f"the run in {args.out} was begun by {settings['script']}: resume it "
                            "with that, or choose another --out")
        parser.set_defaults(**there)
        args = parser.parse_args()
        for name, value in there.items():
            if name not in FREE and getattr(args, name) != value:
                raise UserError(f"the run in {args.out} has --{name.replace('_', '-')} {value}, "
                                f"not {getattr(args, name)}: leave the flag out, or choose another "
                                "--out")
    return args


def settings_of(folder):
    """The settings of the run in `folder`, as its settings.json has them. Raises UserError if there
    is none, or one that no script here has begun."""
    path = os.path.join(folder, checkpoint.NAME)
    settings = checkpoint.read(path)[0].get("settings")
    form = {"script": str, "flags": dict, "data": dict}
    if not isinstance(settings, dict) or not all(isinstance(settings.get(name), kind)
                                                 for name, kind in form.items()):
        raise UserError(f"{path} is not from a script with these flags: go on as it was begun")
    return settings


def _script():
    return os.path.basename(sys.argv[0])


def _number(kind, fits, wanted):
    """An argparse type: text to a number of this kind, int or float, that fits."""
    def convert(text):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan       # which fits nothing
        if not fits(number):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return number
    return convert


whole = _number(int, lambda n: n >= 0, "a whole number of at least 0")
positive = _number(int, lambda n: n >= 1, "a whole number of at least 1")
fraction = _number(float, lambda n: 0 <= n < 1, "a number from 0 to below 1")
above_0 = _number(float, lambda n: 0 < n < math.inf, "a number above 0")
from_0 = _number(float, lambda n: 0 <= n < math.inf, "a number of at least 0")


@contextlib.contextmanager
def output(args):
    """Context of a script with the flags --backend, --out and --dry-run: computes on that backend,
    and writes into args.out, which is made, or in a dry run replaced by a folder that vanishes
    afterwards."""
    with contextlib.ExitStack() as stack:
        if args.backend:
            backend.use(args.backend)
        if args.dry_run:
            args.out = stack.enter_context(tempfile.TemporaryDirectory())
        try:
            os.makedirs(args.out, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.out):      # now, not after minutes of training
                pass
        except OSError as error:
            raise UserError(f"cannot write into {args.out!r} ({error.strerror}): choose another "
                            "folder with --out") from None
        yield


@contextlib.contextmanager
def started(args):
    """Context of a run with these flags, from its seed: gives the data; see also output(). Raises
    UserError if --out holds a run that is neither to be resumed nor to be replaced, one that is
    being written, or one on other data."""
    path = os.path.join(args.out, checkpoint.NAME)
    if not (args.resume or args.overwrite or args.dry_run) and os.path.exists(path):
        raise UserError(f"{args.out} holds a run: go on with it by --resume, replace it by "
                        "--overwrite, or choose another folder by --out")
    with output(args), _alone(args.out):
        if args.dry_run:
            args.steps, args.resume = 2, False
        backend.rng.seed(args.seed)
        sample = args.dry_run and not args.data
        loaded = mnist.load_sample("as this is a dry run") if sample else data.load(args.data)
        print(f"data: {loaded.source}")
        # vars(args) as they are now: the script may have changed some of them
        args.settings = {
            "script": _script(),
            "flags": {name: value for name, value in vars(args).items()
                      if name not in FREE or name in ("steps", "data")},
            "data": {"source": loaded.source, "shape": list(loaded.train.images.shape),
                     "sha256": _digest(loaded)},
            "versions": {"tinygan": checkpoint.VERSION, "python": platform.python_version(),
                         backend.xp.__name__: getattr(backend.xp, "__version__", "")},
        }
        yield loaded


def _digest(loaded):
    return hashlib.sha256(np.ascontiguousarray(loaded.train.images)).hexdigest()[:16]


def data_of(folder, path=None):
    """The data that the run in `folder` was trained on; `path`: where it is now. Raises UserError
    if it is no longer the same."""
    settings = settings_of(folder)
    loaded = data.load(path or settings["flags"].get("data"))
    _compare(folder, settings, _digest(loaded))
    return loaded


def _compare(folder, settings, digest):
    if settings["data"].get("sha256") != digest:
        raise UserError(f"the run in {folder} was begun on other data than this, which has changed "
                        f"since or is not the same: give {settings['data'].get('source')} by --data"
                        )


@contextlib.contextmanager
def _alone(folder):
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
            _compare(self.args.out, about["settings"], self.args.settings["data"]["sha256"])
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


def train(args, game, batches, d_opt, g_opt, order="alternating"):
    """Play `game` for args.steps iterations, or those that are left of them, show how it goes and
    keep a Record of it in args.out. Ctrl-C ends it after the iteration, with a checkpoint."""
    if args.average is not None:
        game.keep_average(args.average)
    record = Record(args, game, batches, d_opt, g_opt)
    progress = Progress(args.steps, start=record.step)
    with _stopped_by_signals() as stopped:
        for i, d_loss, g_loss in play(game, batches, d_opt, g_opt, args.batch_size, backend.rng,
                                      args.steps, record.step, order):
            values = {"D loss": d_loss.data, "G loss": g_loss.data, **game.seen}
            record.add(values)
            progress(i, values)
            if stopped:
                break
        record.save()
    if record.step < args.steps:
        again = shlex.join(["python", sys.argv[0], "--out", args.out, "--resume"])
        print("\n" * progress.live + f"stopped after step {record.step} of {args.steps}, and "
              f"saved; go on with\n{again}", file=sys.stderr)
        sys.exit(128 + stopped[0])
    print("dry run: all done once, nothing kept" if args.dry_run else
          f"samples.png, training.png, losses.svg and more in {args.out}")


@contextlib.contextmanager
def _stopped_by_signals():
    """Context that gives a list, to which a first SIGINT (Ctrl-C) or SIGTERM adds itself; a second
    one stops the process as ever."""
    stopped, before = [], {}

    def stop(number, frame):
        stopped.append(number)
        signal.signal(number, before[number])
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.getsignal(number)
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save(function, path, *args, **kwargs):
    """function(path, ...), which writes a file, with a sentence for the user if it cannot."""
    try:
        function(path, *args, **kwargs)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        "place with --out") from None


def main(script):
    """Run `script()`; what the user can mend is told in one line on stderr, with exit status 1."""
    try:
        script()
    except UserError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except BrokenPipeError:         # who read the output has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped")
