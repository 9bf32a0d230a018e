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
from .backend import VERSION, UserError
from .loop import play
from .record import NAMES, Progress, Record

try:
    import fcntl
except ImportError:         # Windows
    fcntl = None

EXPLANATION = """\
A discriminator's D(x) and D(G(z)) are the mean probabilities that it gives to real and to generated
images of being real; both near 0.5: it cannot tell them apart, where theory says that training
ends. D(x) near 1 and D(G(z)) near 0 mean that D wins: a little of that is as it should be, but at
.99 and .01 G learns next to nothing. A critic (WGAN and its kin, hinge, LSGAN, the relativistic
games) gives scores, of which only the difference says something; WGAN's and WGAN-GP's, W = D(x) -
D(G(z)), estimates the distance between the two distributions and is to fall. The losses are what
each player minimises against the other, so that neither has to fall while the pictures get better.

A GAN has collapsed when its samples look alike, or all turn together from a few shapes to a few
others while the losses swing: open training.png, which shows the same noise at all times. It has
failed when the losses settle at a constant, as with D(x) = 1 and D(G(z)) = 0, and the pictures stay
as they are. In either case try a smaller learning rate or another seed, or a game that holds D's
slope, such as WGAN-GP, SNGAN or R1."""


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
    add("--data", metavar="PATH", help="a folder with MNIST's four files, an .npz or .npy file of "
        "images, or sample: the bundled digits (TINYGAN_DATA, else a download)")
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


FREE = {"steps", "data", "backend", "save_every"}       # flags that may change in a resumed run
PASSING = {"out", "resume", "overwrite", "dry_run", "explain"}      # this process's, not the run's


def parse(parser):
    """The command line's flags; with --resume, those that are not given are the run's, and its
    checkpoint is `saved`. Raises UserError if there is no run to resume, or one with other
    flags."""
    args = parser.parse_args()
    if not args.resume or args.dry_run:
        return args
    if not os.path.exists(os.path.join(args.out, checkpoint.NAME)):
        raise UserError(f"there is no run in {args.out} to go on with: check --out, or leave "
                        "--resume out to begin one")
    saved = read(args.out)
    settings = saved.about["settings"]
    if settings["script"] != _script():
        raise UserError(f"the run in {args.out} was begun by {settings['script']}: resume it with "
                        "that, or choose another --out")
    there = {name: value for name, value in settings["flags"].items()
             if name in vars(args) and name not in PASSING}
    if "TINYGAN_BACKEND" in os.environ:         # where it is now, not where it was
        there.pop("backend", None)
    # as if they stood on the command line, before what does; so each is checked as there
    kept = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in there.items() if value != parser.get_default(name)]
    args = parser.parse_args([*kept, *sys.argv[1:]])
    for name, value in there.items():
        if name not in FREE and getattr(args, name) != value:
            flag = f"--{name.replace('_', '-')}"
            has = f"no {flag}" if value is None or value is False else f"{flag} {value}"
            raise UserError(f"the run in {args.out} has {has}: resume it with that, or choose "
                            "another --out")
    args.saved = saved
    return args


def read(folder):
    """The checkpoint.Saved of the run in `folder`. Raises UserError if there is none, or one that
    no script here has begun."""
    saved = checkpoint.read(os.path.join(folder, checkpoint.NAME))
    settings = saved.about.get("settings")
    try:
        kinds = [(settings["script"], str), (settings["flags"], dict),
                 (settings["data"]["place"], str), (settings["data"]["sha256"], str)]
        whole = all(isinstance(thing, kind) for thing, kind in kinds)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{saved.path} is of a run that no script here has begun: go on with it as "
                        "it was begun")
    return saved


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
    being written, or files that are no run's; or if the data is not that of the run to resume."""
    if not args.dry_run:
        _check_folder(args)
    with output(args), _alone(args.out):
        if args.dry_run:
            args.steps, args.resume = 2, False
        backend.rng.seed(args.seed)
        loaded = data.load(args.data or ("sample" if args.dry_run else None))
        print(f"data: {loaded.source}")
        if args.resume:
            same_data(args.out, args.saved, loaded)
        args.data, args.backend = loaded.place, backend.xp.__name__
        args.settings = {
            "script": _script(),
            "flags": {name: value for name, value in vars(args).items()
                      if name not in PASSING | {"saved"}},
            "data": {"place": loaded.place, "shape": list(loaded.train.images.shape),
                     "sha256": digest(loaded)},
            "versions": {"tinygan": VERSION, "python": platform.python_version(),
                         "numpy": np.__version__, **({} if backend.xp is np else {
                             backend.xp.__name__: getattr(backend.xp, "__version__", "")})},
        }
        yield loaded


def _check_folder(args):
    """Raises UserError if the run would replace what it is not asked to."""
    if os.path.exists(os.path.join(args.out, checkpoint.NAME)):
        if not (args.resume or args.overwrite):
            raise UserError(f"{args.out} holds a run: go on with it by --resume, replace it by "
                            "--overwrite, or choose another folder by --out")
        if args.overwrite:      # a file of that name that is something else is not replaced
            try:
                read(args.out)
            except UserError as error:
                raise UserError(f"{error}; --overwrite replaces runs alone, so remove the file, or "
                                "choose another folder by --out") from None
    elif there := [name for name in NAMES if os.path.exists(os.path.join(args.out, name))]:
        raise UserError(f"{args.out} holds {', '.join(there)}, but no run to which that belongs: "
                        "choose another folder by --out")


def digest(loaded):
    """A number that tells whether training images are the same ones."""
    images = loaded.train.images
    form = f"{images.dtype} {images.shape}".encode()
    return hashlib.sha256(form + np.ascontiguousarray(images).tobytes()).hexdigest()[:16]


def data_of(folder, path=None):
    """The data that the run in `folder` was trained on; `path`: where it is now. Raises UserError
    if it is no longer there or not the same."""
    saved = read(folder)
    loaded = data.load(path or saved.about["settings"]["data"]["place"])
    same_data(folder, saved, loaded)
    return loaded


def same_data(folder, saved, loaded):
    """Raises UserError if the run in `folder` was not trained on the loaded images."""
    then = saved.about["settings"]["data"]
    if then["sha256"] != digest(loaded):
        raise UserError(f"the run in {folder} was begun on other data than {loaded.place} now "
                        f"holds: give by --data what {then['place']} was then")


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
    keep a Record of it in args.out. Ctrl-C, or whoever reads the output leaving, ends it after the
    iteration, with a checkpoint. Raises UserError if a loss or a weight is no longer finite, or a
    file cannot be written."""
    if args.average is not None:
        game.keep_average(args.average)
    record = Record(args, game, batches, d_opt, g_opt)
    progress = Progress(args.steps, start=record.step)
    with _stopped_by_signals() as stopped, np.errstate(all="ignore"):
        try:
            for i, d_loss, g_loss in play(game, batches, d_opt, g_opt, args.batch_size,
                                          backend.rng, args.steps, record.step, order):
                values = {"D loss": d_loss.data, "G loss": g_loss.data, **game.seen}
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
                f"the last checkpoint, {os.path.join(args.out, checkpoint.NAME)}, is of step "
                f"{record.saved}")
            raise UserError(f"{error} by step {record.step}: begin another run with other "
                            f"settings, such as a smaller learning rate; {last}") from None
        finally:
            if 0 not in stopped:
                progress.close()
    if record.step < args.steps:
        again = shlex.join([sys.executable, sys.argv[0], "--out", args.out, "--resume"])
        print(f"stopped after step {record.step} of {args.steps}, and saved; go on with\n{again}",
              file=sys.stderr)
        if 0 in stopped:
            raise BrokenPipeError
        sys.exit(128 + stopped[0])
    print("dry run: all done once, nothing kept" if args.dry_run else
          f"samples.png, training.png, losses.svg and more in {args.out}")


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
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processor():
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file
                        if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
    except MemoryError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: out of memory ({error}): take smaller networks "
                 "or minibatches")
    except KeyboardInterrupt:
        sys.exit("\nstopped")
