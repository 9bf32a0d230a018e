"""The command line of training scripts: flags, starting and resuming runs, error messages."""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import math
import os
import platform
import re
import shlex
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..numbers import is_whole
from . import checkpoint
from .. import backend, data, nn
from ..backend import UserError
from ..games import Game
from ..optim import Optimizer
from ..random import rng
from .run import Run, check_folder, list_versions, refuse_runs, remove_run

DRY_RUN = "dry run: every part has run once, no files are kept"
EXPLANATION = """\
If D is a discriminator, D(x) and D(G(z)) are the mean probabilities of being real that D gives to
real and to generated images. If both are near 0.5, D cannot tell real from generated images; in
theory, training ends there. If D(x) is near 1 and D(G(z)) near 0, D is ahead of G. A small lead is
normal, but at 0.99 and 0.01 G learns next to nothing. If D's output is no probability (in WGAN,
WGAN-GP, hinge, SNGAN, projection with --paper, LSGAN, CycleGAN, StarGAN, GauGAN, RSGAN, RaGAN and
R3GAN), D(x) and D(G(z)) are mean scores; the larger their difference, the farther D is ahead.
In WGAN and WGAN-GP, W = D(x) - D(G(z)) estimates the distance between the distributions of real and
generated images, and should fall. class loss is D's loss on the classes of real images (AC-GAN),
and should fall. L_I is the information about the code that Q reads from a sample, in nats, and code
error the mean squared error of the code's numbers (InfoGAN): the first should rise and the second
fall. In games from image to image, L1 is the mean absolute difference between G's output and the
true one (pix2pix), L_cyc and L_rec that between an image and its translation there and back
(CycleGAN, StarGAN), L_cls D's loss on the domains of real images (StarGAN), and features the mean
absolute difference of D's layers between G's output and the true one (GauGAN). All should fall.
What else a script measures is explained by its --help. Each printed number is a mean since the line
before. D loss and G loss are what the two players minimise. They play against each other, so
neither loss has to fall while the pictures get better.

A GAN has collapsed if its samples look alike, or if they all change together from a few shapes to a
few others while the losses oscillate. You can see this in training.png, which shows samples of the
same noise from the first step to the last. Training has failed if the losses stay constant, such as
with D(x) = 1 and D(G(z)) = 0, and the pictures no longer change. In either case, try another seed,
a smaller learning rate (--lr, if the script has it), or a game with a penalty on D's gradient or
with spectral normalisation, such as R1 (gan_mnist.py --r1), WGAN-GP or SNGAN."""


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser without flags, whose help has the description as it is."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.presets = {}         # {flag: the defaults that it gives other flags}, see add_preset
    return parser


def game_parser(description: str, steps: int, batch_size: int, out: str,
                data: str | None = None, average: float | None = None) -> argparse.ArgumentParser:
    """Return a parser with the flags that every script for games on images has.

    The arguments are the script's description and the defaults of the flags.
    """
    parser = run_parser(description, batch_size, out, data)
    add = parser.add_argument
    add("--steps", type=positive, default=steps, help=f"number of training iterations ({steps})")
    add("--average", type=fraction, metavar="DECAY", default=average,
        help="draw samples from an exponential moving average of G's weights, with this decay, "
        f"such as 0.999{f' ({average})' if average else ''}")
    add("--explain", action=_Explain, help="explain the logged numbers in two paragraphs, and exit")
    return parser


def run_parser(description: str, batch_size: int, out: str,
               data: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with the flags that every script for runs on a data set has.

    The arguments are the script's description and the defaults of the flags.
    """
    parser = make_parser(description)
    add = parser.add_argument
    add("--batch-size", type=positive, default=batch_size,
        help=f"m, the size of a minibatch ({batch_size})")
    add("--seed", type=whole, default=0, help="seed of all random numbers (0)")
    add("--backend", default=None, metavar="NAME",
        help="numpy, or for a GPU cupy, or cupy-tf32 with less precise products (default: the "
        "environment variable TINYGAN_BACKEND, or else numpy)")
    add("--data", metavar="PATH", default=data, help=(
        f"an .npz file with the arrays that the script needs (default: {data})" if data else
        "a folder with MNIST's four files; an .npz or .npy file of images; or the word sample, for "
        "the bundled digits (default: the environment variable TINYGAN_DATA, or else MNIST, which "
        "is downloaded)"))
    add("--out", metavar="DIR", type=os.path.expanduser, default=out,
        help=f"folder of the run ({out})")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true",
                        help="resume the run in --out from its last checkpoint")
    either.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    add("--save-every", type=from_0, default=30.0, metavar="SECONDS",
        help="seconds between checkpoints (30)")
    add("--dry-run", action="store_true",
        help="do everything once, in 2 iterations on --data or else " + (
            "the default data" if data else "the bundled digits") + ", and keep no files")
    return parser


def add_preset(parser: argparse.ArgumentParser, flag: str, settings: Mapping[str, Any],
               what: str, group: Any = None) -> None:
    """Add a flag such as --paper, with which other flags have the defaults `settings`.

    The command line overrides them. `what` says in the help what the flag chooses, and `group` is a
    group of the parser's flags to which this one belongs.
    """
    average = ""
    if "average" in settings:
        average = f", --average {settings['average']}" if settings["average"] else ", no --average"
    (group or parser).add_argument(
        flag, action="store_true",
        help=f"{what}, {settings['steps']} steps of {settings['batch_size']}{average}")
    parser.presets[flag.lstrip("-").replace("-", "_")] = settings


def add_task(parser: argparse.ArgumentParser, tasks: Sequence[str]) -> None:
    """Add the flag --task: start() makes the chosen task of data/tasks.py, by default the first."""
    parser.add_argument("--task", choices=[*tasks, "none"], default=tasks[0],
                        help="what is made from the images of --data; none if they come with "
                        f"outputs or domains of their own ({tasks[0]})")


def refuse_unused(parser: argparse.ArgumentParser, args: argparse.Namespace, used: bool,
                  needed: str, *names: str) -> None:
    """Check that flags without effect have their default values; exit with an error if not.

    used     whether the flags `names` have an effect
    needed   says in the message what they need, such as "--r1"
    """
    for name in names:
        if not used and getattr(args, name) != parser.get_default(name):
            parser.error(f"argument --{name.replace('_', '-')}: it has no effect without {needed}: "
                         "leave it out")


class _Explain(argparse.Action):
    """A flag that prints EXPLANATION and exits."""

    def __init__(self, **kwargs):
        super().__init__(nargs=0, **kwargs)

    def __call__(self, parser, *_):
        print(EXPLANATION)
        parser.exit()


# flags that may have another value when a run is resumed
FREE = {"steps", "data", "backend", "save_every"}
# flags that are not settings of the run, and are not saved with it
PASSING = {"out", "resume", "overwrite", "dry_run", "explain"}


def parse(parser: argparse.ArgumentParser, *free: str) -> argparse.Namespace:
    """Parse the command line and return its flags.

    With --resume, flags that are not given have the values that are saved with the run. Flags that
    are given must have the saved values too, except for those in FREE and in `free`. Raises
    UserError if there is no run to resume, or if it has other flags.
    """
    _set_presets(parser, vars(parser.parse_args()))
    args = parser.parse_args()
    if not args.resume or args.dry_run:
        return args
    settings = read(find_run(args.out)).about["settings"]
    if settings["script"] != _script():
        raise UserError(f"the run in {args.out} was started by {settings['script']}: resume it "
                        "with that script, or choose another --out")
    there = {name: value for name, value in settings["flags"].items()
             if name in vars(args) and name not in PASSING}
    if "TINYGAN_BACKEND" in os.environ:         # overrides the saved backend
        there.pop("backend", None)
    fixed = {name: value for name, value in there.items() if name not in (*FREE, *free)}
    # before the flags are parsed together, where argparse would refuse some for a saved one
    _refuse_others(args, {name: value for name, value in fixed.items()
                          if getattr(args, name) != parser.get_default(name)}, parser)
    _set_presets(parser, there)
    # parsed together, so that saved values are checked too, and the command line overrides them
    args = parser.parse_args([*to_flags(parser, there), *sys.argv[1:]])
    _refuse_others(args, fixed, parser)
    return args


def _set_presets(parser, flags):
    """Set the defaults of the presets that are chosen in {flag: value}."""
    for name, settings in parser.presets.items():
        if flags.get(name):
            parser.set_defaults(**settings)


def _refuse_others(args, saved, parser):
    """Raise UserError if a flag in `args` has another value than in `saved`."""
    # presets first, as they change other flags
    for name, value in sorted(saved.items(), key=lambda flag: flag[0] not in parser.presets):
        if getattr(args, name) != value:
            flag = f"--{name.replace('_', '-')}"
            if value is None or value is False:
                raise UserError(f"the run in {args.out} has no {flag}: leave it out, or choose "
                                "another --out")
            has = flag if value is True else f"{flag} {value}"
            raise UserError(f"the run in {args.out} has {has}: resume it with that, or choose "
                            "another --out")


def to_flags(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line for {flag: value}; defaults are left out."""
    words = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            words += [flag, *map(str, value)]
        elif value is not None and value != parser.get_default(name):
            words.append(flag if value is True else f"{flag}={value}")
    return words


def find_run(folder: str) -> str:
    """Return `folder` if it holds a run, or else the first of its sub-folders that holds a stage.

    Raises UserError if there is none.
    """
    if os.path.exists(os.path.join(folder, checkpoint.NAME)):
        return folder
    runs = list_runs(folder)
    for path in runs:
        with contextlib.suppress(UserError):        # a run that was not started by a script
            if "stage" in read(path).about["settings"]:
                return path
    raise UserError(f"there is no run in {folder} to resume" + (
        f", but there is one in {runs[0]}: give its folder by --out" if runs else
        ": check --out, or leave --resume out to start a run"))


def list_runs(folder: str) -> list[str]:
    """List the paths of the sub-folders of `folder` that hold a run, such as its stages."""
    return sorted(entry.path for entry in os.scandir(folder) if os.path.exists(
        os.path.join(entry.path, checkpoint.NAME))) if os.path.isdir(folder) else []


def list_stages(folder: str) -> list[str]:
    """List the paths of the stages in `folder` that this script has started."""
    found = []
    for path in list_runs(folder):
        with contextlib.suppress(UserError):        # a run that was not started by a script
            settings = read(path).about["settings"]
            if settings["script"] == _script() and "stage" in settings:
                found.append(path)
    return found


def read(folder: str) -> checkpoint.Checkpoint:
    """Return the checkpoint of the run in `folder`.

    Raises UserError if it cannot be read, or if the run was not started by a script that uses this
    module.
    """
    saved = checkpoint.read(os.path.join(folder, checkpoint.NAME))
    settings = saved.about.get("settings")
    if not (_holds(settings, script=str, flags=dict) and _find_data(settings)):
        raise UserError(f"{saved.path} is of a run that was made in Python or by mixtures.py: "
                        "resume it in the same way as it was started")
    return saved


def read_data(folder: str) -> dict[str, Any] | None:
    """Return what is known of the data of the run in `folder`, or None if nothing is.

    It is the entry "data" of settings.json, see make_settings(). A run that was made in Python has
    none.
    """
    return _find_data(checkpoint.read(os.path.join(folder, checkpoint.NAME)).about.get("settings"))


def _find_data(settings):
    """Return the entry "data" of a run's settings, or None if it is missing or incomplete."""
    found = settings.get("data") if isinstance(settings, dict) else None
    if not _holds(found, place=str, shape=list, sha256=str) or not found["shape"]:
        return None
    numbers = [*found["shape"], found.get("first", 1)]
    return found if all(is_whole(n, 1) for n in numbers) else None


def _holds(found, **kinds):
    """Return whether `found` is a dictionary with these keys and kinds of values."""
    return isinstance(found, dict) and all(
        isinstance(found.get(key), kind) for key, kind in kinds.items())


def _script():
    """Return the name of the running script."""
    return os.path.basename(sys.argv[0])


def _number(kind, fits, wanted):
    """Return an argparse type for numbers of the type `kind`, int or float, for which fits() holds.

    `wanted` says in words which numbers these are.
    """
    def convert(text):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan       # fits nothing
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
def prepare_output(args: argparse.Namespace) -> Iterator[None]:
    """Set the backend and make the output folder, from the flags --backend, --out and --dry-run.

    In a dry run, args.out becomes a temporary folder, which is removed after the context. Raises
    UserError if the folder cannot be written into.
    """
    with contextlib.ExitStack() as stack:
        if args.backend:
            backend.use(args.backend)
        if args.dry_run:
            args.out = stack.enter_context(tempfile.TemporaryDirectory())
        elif not os.path.exists(args.out):
            stack.callback(_remove_empty, args.out)     # after an error before the first file
        check_writable(args.out)
        yield
        if args.dry_run:
            print(DRY_RUN)


def _remove_empty(folder):
    with contextlib.suppress(OSError):          # it is not empty
        os.rmdir(folder)


def check_writable(folder: str, flag: str = "--out") -> None:
    """Make the folder if it is missing. Raises UserError if it cannot be written into.

    A script calls this before it trains or measures for minutes; `flag` chooses the folder.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # makedirs says "File exists" of a file, and of a link to what does not exist
        why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"cannot write into {folder!r} ({why}): choose another folder with {flag}"
                        ) from None


@contextlib.contextmanager
def start(args: argparse.Namespace) -> Iterator[data.DataSet]:
    """Prepare a run with the flags `args`: its output, tinygan.rng and its data.

    The value of the context is the data set. See also prepare_output(). Raises UserError if --out
    holds a run and neither --resume nor --overwrite is given, or files that do not belong to a run;
    or if the data is not that of the run to resume.
    """
    if not args.dry_run:
        check_folder(args.out, args.resume, args.overwrite)
    with prepare_output(args):
        if args.dry_run:
            args.steps, args.resume = 2, False
        rng.seed(args.seed)
        source = args.data or ("sample" if args.dry_run else "")
        if getattr(args, "task", "none") != "none" and not source.startswith(f"{args.task}:"):
            source = f"{args.task}:{source}"
        loaded = data.load(source)
        print(f"data: {loaded.source}")
        if args.resume:
            run = find_run(args.out)
            _check_same(run, read_data(run), loaded)
        args.data, args.backend = loaded.place, backend.get_name()
        args.loaded = loaded
        yield loaded


def make_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the content of settings.json for a run with these flags."""
    passing = PASSING | {"loaded", "first"}
    first = {"first": args.first} if "first" in args else {}
    return {"script": _script(),
            "flags": {name: value for name, value in vars(args).items() if name not in passing},
            "data": {"place": args.loaded.place,
                     "shape": list(args.loaded.train.images.shape),
                     **_find_digests(args.loaded), **first},
            "versions": list_versions()}


def _find_digests(loaded):
    """Return the checksums of the training data, and of the validation and test data."""
    held_out = {f"{part}.{name}": array for part in ("valid", "test")
                for name, array in getattr(loaded, part).items()}
    return {"sha256": digest(loaded.train), "held_out_sha256": digest(held_out)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a checksum of {name: array}, such as training images and labels."""
    found = hashlib.sha256()
    for _, array in sorted(arrays.items()):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:16]


def load_data(folder: str, path: str | None = None) -> data.DataSet:
    """Load the data on which the run in `folder` was trained.

    `path` is where the data is now, if it has moved or the run was made in Python. Raises UserError
    if it is not there, is not known, or is not the same data.
    """
    then = read_data(folder)
    if then is None and not path:
        raise UserError(f"the run in {folder} was made in Python or by mixtures.py, so its data is "
                        "not known: give it by --data (mixtures.py measures its samples itself)")
    task, _, rest = then["place"].partition(":") if then else ("", "", "")
    if path and rest and task in data.tasks.TASKS and not path.startswith(f"{task}:"):
        path = f"{task}:{path}"                         # the data of a task has moved
    loaded = data.load(path or then["place"])
    _check_same(folder, then, loaded)
    first = then and then.get("first")      # the run was trained on so many of the images
    return loaded._replace(train=loaded.train.part(slice(first))) if first else loaded


def _check_same(folder, then, loaded):
    """Raise UserError if the data of the run in `folder` is known to be other data.

    `then` is what is known of the run's data, from read_data().
    """
    if not then:
        return
    now = _find_digests(loaded)
    for name, differs in (("sha256", "was trained on other data"),
                          ("held_out_sha256", "has other validation or test data")):
        if then.get(name, now[name]) != now[name]:      # older runs have only the first
            raise UserError(f"the run in {folder} {differs} than that of {loaded.place}: leave "
                            "--data out, or give the place to which the data of "
                            f"{then['place']} has moved")


def load(run: str, modules: Iterable[str] = ()) -> Game:
    """Return the game of the run in the folder `run`, from its last checkpoint; see tinygan.load.

    `modules` are the paths of Python files, which are executed. The game may use the functions that
    they define, and the classes that they define or import.
    """
    return checkpoint.load(run, *list_known(modules))


def list_known(modules: Iterable[str]) -> list[type | Callable]:
    """List what the Python files `modules` define for load(), each once."""
    return list(dict.fromkeys(thing for path in modules for thing in _list_defined(path)))


def _list_defined(path):
    """List the functions that a Python file defines, and its Module classes and dataclasses."""
    name, suffix = os.path.splitext(os.path.basename(path))     # a checkpoint names the script so
    if not (os.path.isfile(path) and suffix == ".py"):
        raise UserError(f"{path} is no Python file: give by --module the script of the run, or the "
                        "file with its classes")
    here, module = os.path.realpath(path), sys.modules.get(name)
    sys.path.insert(0, os.path.dirname(here))           # as when the file runs as a script
    try:
        if module is None:              # import_module() would split a name at its dots
            spec = importlib.util.spec_from_file_location(name, path)
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            with refuse_runs(path):
                spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)     # a part of a module
        raise
    finally:
        sys.path.remove(os.path.dirname(here))
    if os.path.realpath(getattr(module, "__file__", None) or "") != here:
        raise UserError(f"another module has the name of {path}, and Python cannot import both: "
                        "give the file another name")
    return [thing for thing in vars(module).values() if (
        isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__
        or isinstance(thing, type) and (issubclass(thing, nn.Module)
                                        or dataclasses.is_dataclass(thing)))]


def train(args: argparse.Namespace, game: nn.Module, batches: Any, d_opt: Optimizer,
          g_opt: Optimizer, order: str = "alternating", stage: str | None = None,
          steps: int | None = None, make_run: Callable = Run) -> nn.Module:
    """Train `game` in a Run with the flags `args`, and return it. A stopped run ends the script.

    batches        the data stream
    d_opt, g_opt   the optimisers
    order          the order of the players' steps, see loop.play
    stage          the name of the stage, if the run has several: the stage is a Run in the folder
                   of this name in args.out
    steps          the number of iterations (default: args.steps)
    make_run       Run, or a subclass that measures or shows more

    With --overwrite, the first stage that is replaced has all other stages in args.out removed,
    since they were trained from the old one. Raises UserError if a stage that is resumed had
    another number of steps, since a later stage may have been trained from its end.
    """
    task, _, rest = args.loaded.place.partition(":")
    path = rest if task in data.tasks.TASKS else args.loaded.place
    if os.path.isfile(path) and isinstance(game, Game):
        test, train = map(game.reference_images, (args.loaded.test, args.loaded.train))
        if shared := data.count_shared(test, train):
            print(f"note: {shared} of the test images are training images too, so evaluate.py will "
                  "refuse to measure this run: leave images that are there twice out of the data")
    folder = args.out if stage is None else os.path.join(args.out, stage)
    steps, settings = steps or args.steps, make_settings(args)
    if stage is not None:
        settings |= {"stage": stage, "steps": steps}
        if args.resume and folder in list_stages(args.out):
            then = read(folder).about["settings"].get("steps")
            if then != steps:
                raise UserError(f"the stage in {folder} has {then} steps, not {steps}: resume it "
                                "with that, or choose another --out")
    valid, training = args.loaded.valid, args.loaded.train
    shown = valid if all(map(len, valid.values())) else training
    run = make_run(folder, game, batches, (d_opt, g_opt), steps, args.batch_size, order,
                   args.average, shown, args.save_every,
                   settings, args.resume, args.overwrite or args.dry_run)
    if stage is not None and args.overwrite:
        for path in list_stages(args.out):
            if path != folder:
                remove_run(path)
        args.overwrite = False
    play(args, run)
    if not args.dry_run:
        print(f"samples.png, training.png, losses.svg and more in {folder}")
    return game


def play(args: argparse.Namespace, run: Run, flags: Sequence[str] = ()) -> None:
    """Call run.play(). If the run was stopped, print the command that resumes it, and exit.

    `flags` are words that this command needs beside --out and --resume. A dry run has no such
    command.
    """
    try:
        run.play()
    except (BrokenPipeError, KeyboardInterrupt, SystemExit):
        if run.stopped is None:
            raise
        out = [f"--out={args.out}"] if args.out.startswith("-") else ["--out", args.out]
        again = shlex.join([sys.executable, sys.argv[0], *flags, *out, "--resume"])
        with contextlib.suppress(OSError):          # the reader of standard error may have ended
            print(f"stopped after step {run.step} of {run.steps}" + (
                " of a dry run, which keeps no files" if args.dry_run else
                f" with a checkpoint; resume it with\n{again}"), file=sys.stderr)
        if run.stopped == 0:
            raise
        sys.exit(128 + run.stopped)


def print_row(name: str, measures: Mapping[str, float]) -> None:
    """Print a row of measures, which read_rows() reads; print nothing if there are none."""
    if measures:
        print(f"{name}: " + "  ".join(f"{key} {value:.4g}" for key, value in measures.items()),
              flush=True)


def read_rows(text: str) -> dict[str, dict[str, float]]:
    """Return {name: {measure: value}} of the rows that print_row() has printed."""
    rows = {}
    for name, row in re.findall(r"^([^:\n]+): (\S.* [-+.\dena]+)$", text, re.M):
        with contextlib.suppress(ValueError):       # another line
            rows[name] = {key: float(value) for key, value in (
                part.rsplit(" ", 1) for part in row.split("  "))}
    return rows


def processor_name() -> str:
    """Return the name of this machine's processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file
                        if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(script: Callable[[], None]) -> None:
    """Call script(); print an error that the user can correct as one line, and exit with status 1.

    Such errors are UserError, OSError and MemoryError; the line goes to standard error.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")        # for consoles that lack some letters
    try:
        try:
            script()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()          # here, and not at exit, where an error is not caught
    except BrokenPipeError:
        # the process that read standard output has ended; Python would fail again at exit, when it
        # flushes what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        sys.exit(f"{_script()}: {error}")
    except OSError as error:
        sys.exit(f"{_script()}: {error}" if error.filename is None else
                 f"{_script()}: cannot use {error.filename} ({error.strerror}): check that you may "
                 "read and write there, or choose another place")
    except MemoryError as error:
        sys.exit(f"{_script()}: out of memory ({error}): take smaller networks or minibatches")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
