"""Scripts: their flags, how their runs start and go on, and what is said if they fail."""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import math
import os
import platform
import shlex
import sys
import tempfile
import types

import numpy as np

from . import checkpoint
from .. import backend, data, nn
from ..backend import UserError
from ..random import rng
from .run import Run, check_folder, remove, versions

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
    """Return the parser with the flags that every game on images has, and these defaults."""
    parser = run_flags(description, batch_size, out)
    add = parser.add_argument
    add("--steps", type=positive, default=steps, help=f"iterations to play ({steps})")
    add("--average", type=fraction, metavar="DECAY",
        help="sample from an average of G's weights that keeps DECAY, such as 0.999, at each step")
    add("--explain", action=_Explain, help="what the numbers mean, in two paragraphs")
    return parser


def run_flags(description, batch_size, out):
    """Return the parser with the flags that every run on a data set has, and these defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--batch-size", type=positive, default=batch_size,
        help=f"m, the size of a minibatch ({batch_size})")
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
    add("--dry-run", action="store_true",
        help="2 iterations on the bundled sample, everything done once, nothing kept")
    return parser


class _Explain(argparse.Action):
    def __init__(self, **kwargs):
        super().__init__(nargs=0, **kwargs)

    def __call__(self, parser, *_):
        print(EXPLANATION)
        parser.exit()


FREE = {"steps", "data", "backend", "save_every"}       # flags that may change in a resumed run
PASSING = {"out", "resume", "overwrite", "dry_run", "explain"}      # this process's, not the run's


def parse(parser, *free):
    """Return the command line's flags; with --resume, those that are not given are the run's. Those
    in FREE, and those named in `free`, may change then. Raises UserError if there is no run to
    resume, or one with other flags."""
    args = parser.parse_args()
    if not args.resume or args.dry_run:
        return args
    settings = read(begun(args.out)).about["settings"]
    if settings["script"] != _script():
        raise UserError(f"the run in {args.out} was begun by {settings['script']}: resume it with "
                        "that, or choose another --out")
    there = {name: value for name, value in settings["flags"].items()
             if name in vars(args) and name not in PASSING}
    if "TINYGAN_BACKEND" in os.environ:         # where it is now, not where it was
        there.pop("backend", None)
    # as if they stood on the command line, before what does; so each is checked as there
    args = parser.parse_args([*as_flags(parser, there), *sys.argv[1:]])
    for name, value in there.items():
        if name not in FREE and name not in free and getattr(args, name) != value:
            flag = f"--{name.replace('_', '-')}"
            has = f"no {flag}" if value is None or value is False else f"{flag} {value}"
            raise UserError(f"the run in {args.out} has {has}: resume it with that, or choose "
                            "another --out")
    return args


def as_flags(parser, values):
    """Return {name: value} as a command line has it, a list of words; defaults are left out."""
    words = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            words += [flag, *map(str, value)]
        elif value != parser.get_default(name):
            words.append(flag if value is True else f"{flag}={value}")
    return words


def begun(folder):
    """Return the folder of a run: `folder`, or that of the first of its stages. Raises UserError if
    there is no run."""
    for path in (folder, *below(folder)):
        if os.path.exists(os.path.join(path, checkpoint.NAME)):
            return path
    raise UserError(f"there is no run in {folder} to go on with: check --out, or leave --resume "
                    "out to begin one")


def below(folder):
    """List the paths of the folders in `folder` that hold a run, such as the stages of one."""
    return sorted(entry.path for entry in os.scandir(folder) if os.path.exists(
        os.path.join(entry.path, checkpoint.NAME))) if os.path.isdir(folder) else []


def stages(folder):
    """List the paths of the stages in `folder` that this script has begun."""
    found = []
    for path in below(folder):
        with contextlib.suppress(UserError):        # of a run that no script has begun
            settings = read(path).about["settings"]
            if settings["script"] == _script() and "stage" in settings:
                found.append(path)
    return found


def read(folder):
    """Return the checkpoint.Saved of the run in `folder`. Raises UserError if there is none, or one
    that no script here has begun."""
    saved = checkpoint.read(os.path.join(folder, checkpoint.NAME))
    settings = saved.about.get("settings")
    try:
        kinds = [(settings["script"], str), (settings["flags"], dict),
                 (settings["data"]["place"], str), (settings["data"]["sha256"], str)]
        whole = all(isinstance(thing, kind) for thing, kind in kinds)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{saved.path} is of a run that was not begun by a script with these "
                        "flags: go on with it as it was begun")
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
    UserError if --out holds a run that is neither to be resumed nor to be replaced, or files that
    are no run's; or if the data is not that of the run to resume."""
    if not args.dry_run:
        check_folder(args.out, args.resume, args.overwrite)
    with output(args):
        if args.dry_run:
            args.steps, args.resume = 2, False
        rng.seed(args.seed)
        loaded = data.load(args.data or ("sample" if args.dry_run else None))
        print(f"data: {loaded.source}")
        if args.resume:
            same_data(begun(args.out), loaded)
        args.data, args.backend = loaded.place, backend.xp.__name__
        args.loaded = loaded
        yield loaded


def settings_of(args):
    """Return what settings.json says of a run with these flags."""
    passing = PASSING | {"loaded"}
    return {"script": _script(),
            "flags": {name: value for name, value in vars(args).items() if name not in passing},
            "data": {"place": args.loaded.place,
                     "shape": list(args.loaded.train.images.shape),
                     "sha256": digest(args.loaded.train)},
            "versions": versions()}


def digest(arrays):
    """Return a number that tells whether the arrays of a dictionary by name, such as training
    images and labels, are the same ones."""
    found = hashlib.sha256()
    for _, array in sorted(arrays.items()):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:16]


def data_of(folder, path=None):
    """Return the data that the run in `folder` was trained on; `path`: where it is now. Raises
    UserError if it is no longer there or not the same."""
    loaded = data.load(path or read(folder).about["settings"]["data"]["place"])
    same_data(folder, loaded)
    return loaded


def same_data(folder, loaded):
    """Raise UserError if the run in `folder` was not trained on the loaded arrays."""
    then = read(folder).about["settings"]["data"]
    if then["sha256"] != digest(loaded.train):
        raise UserError(f"the run in {folder} was begun on other data than {loaded.place} now "
                        f"holds: give by --data what {then['place']} was then")


def load(run, modules=()):
    """Return the game of the run in the folder `run`, as tinygan.load does. `modules` are the paths
    of Python files, which are executed: the classes and functions that it was played with and that
    are not tinygan's are those defined there, and the classes imported there."""
    return checkpoint.load(run, *dict.fromkeys(thing for path in modules for thing in _known(path)))


def _known(path):
    """List the functions that the Python file at `path` defines, and the classes of Modules and
    dataclasses that it has."""
    folder, name = os.path.split(os.path.realpath(path))
    if not (os.path.isfile(path) and name.endswith(".py")):
        raise UserError(f"{path} is no Python file: give by --module the script of the run, or the "
                        "file with its classes")
    sys.path.insert(0, folder)          # as it is for a script
    try:
        module = importlib.import_module(name.removesuffix(".py"))
    finally:
        sys.path.remove(folder)
    if os.path.realpath(getattr(module, "__file__", None) or "") != os.path.join(folder, name):
        raise UserError(f"another module has the name of {path}: give the file another name, in "
                        "the folder of the script that the run was played by")
    return [thing for thing in vars(module).values() if (
        isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__
        or isinstance(thing, type) and (issubclass(thing, nn.Module)
                                        or dataclasses.is_dataclass(thing)))]


def train(args, game, batches, d_opt, g_opt, order="alternating", stage=None, steps=None):
    """Play `game` as a Run with these flags, in args.out or, for a stage of several, in its folder
    `stage` and for `steps` of its own; return the game. A run that is stopped ends the script.

    The first stage to be replaced (--overwrite) has the others removed, which went on from it.
    Raises UserError for other steps of a stage that is resumed, from which another may have gone
    on.
    """
    folder = args.out if stage is None else os.path.join(args.out, stage)
    steps, settings = steps or args.steps, settings_of(args)
    if stage is not None:
        settings |= {"stage": stage, "steps": steps}
        if args.resume and folder in stages(args.out):
            then = read(folder).about["settings"].get("steps")
            if then != steps:
                raise UserError(f"the stage in {folder} has {then} steps, not {steps}: resume it "
                                "with that, or choose another --out")
    valid, training = args.loaded.valid, args.loaded.train
    run = Run(folder, game, batches, (d_opt, g_opt), steps, args.batch_size, order, args.average,
              valid if len(valid.images) else training, args.save_every, settings, args.resume,
              args.overwrite or args.dry_run)
    if stage is not None and args.overwrite:
        for path in stages(args.out):
            if path != folder:
                remove(path)
        args.overwrite = False
    play(args, run)
    print("dry run: all done once, nothing kept" if args.dry_run else
          f"samples.png, training.png, losses.svg and more in {folder}")
    return game


def play(args, run, flags=()):
    """Play a Run; if it was stopped, say how to go on, and end the script. `flags` are words that
    the command to go on has beside --out and --resume."""
    run.play()
    if run.stopped is not None:
        again = shlex.join([sys.executable, sys.argv[0], *flags, "--out", args.out, "--resume"])
        print(f"stopped after step {run.step} of {run.steps}, and saved; go on with\n{again}",
              file=sys.stderr)
        if run.stopped == 0:
            raise BrokenPipeError
        sys.exit(128 + run.stopped)


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
