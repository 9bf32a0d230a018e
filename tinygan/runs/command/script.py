"""A training script from its start to its end: output folder, data, run, error messages."""

import argparse
import contextlib
import os
import platform
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ... import backend, data, nn
from ...backend import UserError
from ...games import Game
from ...optim import Optimizer
from ...random import rng
from .. import checkpoint
from ..run import CLOSED_OUTPUT, Run, check_folder, remove_run
from .saved import check_same, find_run, list_stages, make_settings, read, read_data, script_name

DRY_RUN = "dry run: every part has run once, no files are kept"


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
            check_same(run, read_data(run), loaded)
        args.data, args.backend = loaded.place, backend.get_name()
        args.loaded = loaded
        yield loaded


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
    another number of steps, since a later stage may have been trained from its end, and for stages
    in the folder of a run, which may be a stage itself.
    """
    _, path = data.tasks.split_place(args.loaded.place)
    if os.path.isfile(path) and isinstance(game, Game):
        test, train = map(game.reference_images, (args.loaded.test, args.loaded.train))
        if shared := data.count_shared(test, train):
            print(f"note: {shared} of the test images are training images too, so evaluate.py will "
                  "refuse to measure this run: leave images that are there twice out of the data")
    folder = args.out if stage is None else os.path.join(args.out, stage)
    steps, settings = steps or args.steps, make_settings(args)
    if stage is not None:
        settings |= {"stage": stage, "steps": steps}
        if os.path.exists(os.path.join(args.out, checkpoint.NAME)):
            raise UserError(f"{args.out} is the folder of a single run: choose another --out, or "
                            "if it is a stage, the folder that it is in")
        if args.resume and folder in list_stages(args.out):
            then = read(folder).about["settings"].get("steps")
            if then != steps:
                raise UserError(f"the stage in {folder} has {then} steps, not {steps}: resume it "
                                "with that, or choose another --out")
    valid, training = args.loaded.valid, args.loaded.train
    shown = valid if all(map(len, valid.values())) else training
    with contextlib.ExitStack() as stack:
        if not os.path.exists(folder):
            stack.callback(_remove_empty, folder)       # after an error before the first file
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
                f" with a checkpoint in {run.folder}; resume it with\n{again}"), file=sys.stderr)
        if run.stopped == CLOSED_OUTPUT:
            raise
        sys.exit(128 + run.stopped)


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
        sys.exit(f"{script_name()}: {error}")
    except OSError as error:
        sys.exit(f"{script_name()}: " + (
            f"{error}" if error.filename is None else
            f"cannot use {error.filename} ({error.strerror}): check that you may read and write "
            "there and that there is room, or choose another place"))
    except MemoryError as error:
        sys.exit(f"{script_name()}: out of memory ({error}): take smaller networks or minibatches")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


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
