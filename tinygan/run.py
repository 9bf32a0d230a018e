"""Scripts: their flags, how a run starts, goes on and is stopped, and what is said if it fails."""

import argparse
import contextlib
import hashlib
import math
import os
import platform
import shlex
import signal
import sys
import tempfile

import numpy as np

from . import backend, checkpoint, data
from .backend import UserError
from .data import mnist
from .play import play
from .record import Progress, Record, same_data

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
                         "numpy": np.__version__, **({} if backend.xp is np else {
                             backend.xp.__name__: getattr(backend.xp, "__version__", "")})},
        }
        yield loaded


def _digest(loaded):
    return hashlib.sha256(np.ascontiguousarray(loaded.train.images)).hexdigest()[:16]


def data_of(folder, path=None):
    """The data that the run in `folder` was trained on; `path`: where it is now. Raises UserError
    if it is no longer the same."""
    settings = settings_of(folder)
    loaded = data.load(path or settings["flags"].get("data"))
    same_data(folder, settings, _digest(loaded))
    return loaded


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
