"""Reproduce the project's tables, each by one command, with every seed.

    python examples/reproduce.py theory                 what theory can calculate: seconds
    python examples/reproduce.py fgan                   f-divergences: one minute
    python examples/reproduce.py first --jobs 2         the README's first run: ten minutes
    python examples/reproduce.py orders --jobs 2        the order of the players' steps: 30 minutes
    python examples/reproduce.py mixtures --jobs 2      ring and grid, 18 games: 3 hours
    python examples/reproduce.py mnist --jobs 2         examples on digits: 3.5 hours
    python examples/reproduce.py sngan --jobs 2         SNGAN's one image: 40 minutes
    python examples/reproduce.py conditional --jobs 2   games with labels: one hour
    python examples/reproduce.py infogan --jobs 2       codes that get a meaning: one hour
    python examples/reproduce.py bigan --jobs 2         encoders: two hours
    python examples/reproduce.py stacked --jobs 2       modes of stacked MNIST: one hour
    python examples/reproduce.py few --jobs 2           1,000 training images: 25 minutes
    python examples/reproduce.py labels --jobs 2        digits from few labels: one hour
    python examples/reproduce.py growing --jobs 2       networks that grow: one hour
    python examples/reproduce.py pyramid --jobs 2       details of coarse images: one hour
    python examples/reproduce.py singan --jobs 2        samples of one picture: 25 minutes
    python examples/reproduce.py styles --jobs 2        styles that are mixed: one hour
    python examples/reproduce.py pix2pix --jobs 2       the lower half of a digit: two hours
    python examples/reproduce.py cyclegan --jobs 2      digits and outlines: ten minutes
    python examples/reproduce.py stargan --jobs 2       four styles and five colours: one hour
    python examples/reproduce.py spade --jobs 2         scenes from maps: one hour
    python examples/reproduce.py parzen                 the papers' networks: eight hours
    python examples/reproduce.py mixtures --show        print the table of the runs so far
    python examples/reproduce.py mixtures --quick       one seed of each run, with few steps; keep
                                                        no files

A table is a list of runs. A run is one or more commands of the other examples, on one thread. The
script appends the figures that they print to the file --results, with the commands, the processor
time that they took, the machine and the date. If the script was interrupted, the same command
continues: runs that have results are not repeated, and a run that has a checkpoint is resumed.
A result counts only for the command that made it. A run that was made by another command, such as
that of an older version, is neither resumed nor replaced: remove it, or choose another --out.
pages.py writes the tables into the pages. The times above are for one core, or for two with --jobs
2. They are rough: one processor took three to four times as long as another.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from typing import Any

import numpy as np
from tables import TABLES, list_runs

from tinygan import UserError, command, data
from tinygan.data.mnist import load_sample
from tinygan.files import write_text

HERE = os.path.dirname(os.path.abspath(__file__))
DIGEST = "7881f167fae3a2c7"      # command.digest() of MNIST's training images


_running = set()            # the processes of run_commands()
_stopped = threading.Event()        # set by stop_commands()
_lock = threading.Lock()            # for both


def stop_commands() -> None:
    """End the commands of run_commands() in all threads, and start no more.

    A run saves a checkpoint first.
    """
    with _lock:
        _stopped.set()
        for process in _running:
            with contextlib.suppress(ProcessLookupError):       # it has ended
                os.kill(process.pid, signal.SIGTERM)


def run_commands(commands: list[list[str]], clock: str,
                 typed: list[str]) -> tuple[list[str], float]:
    """Run the commands; return the outputs and the processor time of the first one, in seconds.

    The file `clock` keeps the time of a command that is interrupted, and the time of the resumed
    command is added to it. If the script itself was killed before it could write the time, the
    result is NaN. The file also keeps `typed`, the commands as a user would type them. Raises
    UserError if a command fails, and for a run in the folder that is not known to be of `typed`.
    """
    environment, outputs = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}, []
    is_same, seconds = False, 0.0
    if os.path.exists(clock):
        with open(clock) as file, contextlib.suppress(ValueError, KeyError, TypeError):
            kept = json.load(file)
            if kept["commands"] == typed:
                is_same, seconds = True, kept["seconds"]
    for script, *flags in commands:
        run = flags[-1] if "--out" in flags else None
        if run and "--resume" not in flags and _has_begun(run):
            if not is_same:
                raise UserError(f"the run in {run} is not known to be of the command "
                                f"{typed[0]}: remove it, or choose another --out")
            flags.append("--resume")
        if not outputs:
            if run and not os.path.exists(run):     # it was removed, and starts again
                seconds = 0.0
            _save_clock(clock, typed, math.nan)
        with _lock:
            if _stopped.is_set():
                raise UserError(f"{script} was not started: stopped")
            process = subprocess.Popen([sys.executable, os.path.join(HERE, script), *flags],
                                       env=environment, stdout=subprocess.PIPE, text=True)
            _running.add(process)
        try:
            with process.stdout:
                outputs.append(process.stdout.read())
            code, took = _wait_for(process)
        finally:
            with _lock:
                _running.discard(process)
        if len(outputs) == 1:
            seconds += took
            _save_clock(clock, typed, seconds)
        if code != 0:
            raise UserError(f"{' '.join([script, *flags])} has ended with {code}: see above")
    return outputs, seconds


def _has_begun(folder):
    """Return whether `folder` holds a run, or stages of one."""
    return os.path.exists(os.path.join(folder, "checkpoint.npz")) or bool(command.list_runs(folder))


def _save_clock(clock, typed, seconds):
    os.makedirs(os.path.dirname(clock), exist_ok=True)
    write_text(clock, json.dumps({"commands": typed, "seconds": seconds}) + "\n")


def _wait_for(process):
    """Wait for a process and return its exit status and its processor time in seconds."""
    if not hasattr(os, "wait4"):        # Windows cannot measure a single process
        return process.wait(), math.nan
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def list_commands(table: str, quick: bool) -> dict[tuple[str, int], list[str]]:
    """Return {(run, seed): commands} with each command as a user would type it.

    Folders are separated by / on every system, so that the results of one are found on another.
    """
    return {key: [" ".join(command).replace(os.sep, "/") for command in commands]
            for key, commands in list_runs(table, "runs/reproduce", [], quick).items()}


def make_lines(args: argparse.Namespace, key: tuple[str, int], commands: list[list[str]],
               dataset: str) -> list[dict[str, Any]]:
    """Do the run `key`, (name, seed), and return its lines for --results, one for each row.

    `dataset` is the name of the data, from name_data().
    """
    name, seed = key
    folder = commands[0][-1] if "--out" in commands[0] else args.out
    typed = list_commands(args.table, args.quick)[key]
    clock = os.path.join(folder, f"{name}-{seed}.seconds")
    outputs, seconds = run_commands(commands, clock, typed)
    where = "" if dataset in ("", "MNIST") else f", of {dataset}"
    return [{"table": args.table, "run": name, "row": f"{row}{where}", "seed": seed, **values,
             **({"seconds": round(seconds)} if row == name and seconds == seconds else {}),
             "data": dataset, "command": typed,
             "date": datetime.date.today().isoformat(), "machine": command.processor_name(),
             "numpy": np.__version__}
            for row, values in TABLES[args.table].read(name, commands, outputs).items()]


# the keys of a line of results that are not figures; only one line of a run has "seconds"
KNOWN = ("table", "run", "row", "seed", "seconds", "data", "command", "date", "machine", "numpy")


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of the results file, or an empty list if there is no file.

    Raises UserError if the file cannot be read, or holds something else.
    """
    if not os.path.exists(path):
        return []
    try:
        with open(path) as file:
            lines = [json.loads(line) for line in file if line.strip()]
        if not all(set(KNOWN) - {"seconds"} <= line.keys() and type(line["seed"]) is int
                   for line in lines):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(f"{path} is no file of results: give another by --results") from None
    except OSError as error:
        raise UserError(f"cannot read the results in {path} ({error.strerror}): give another file "
                        "by --results") from None
    return lines


def append_lines(path: str, lines: list[dict[str, Any]]) -> None:
    """Append lines to the file of results.

    It is one write: another process may append to the file as well. Raises UserError if the disk is
    full, with the file as it was.
    """
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with open(path, "ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size and file.seek(size - 1) and file.read(1) != b"\n":
            text = b"\n" + text
        if file.write(text) != len(text):
            file.truncate(size)
            raise UserError(f"cannot write {path}: its disk is full")


def select_lines(table: str, lines: list[dict[str, Any]],
                 now: dict[tuple[str, int], list[str]]) -> list[dict[str, Any]]:
    """Return the lines of a table whose commands are still those in `now`, from list_commands()."""
    return [line for line in lines if line["table"] == table
            and now.get((line["run"], line["seed"])) == line["command"]]


def make_table(table: str, lines: list[dict[str, Any]], quick: bool = False) -> str:
    """Return the table as on the page examples/results.md, with a caption.

    A cell has the mean and the values of all seeds, or one value if they are equal. The rows that
    several runs have measured, such as the true images, come last.
    """
    now = list_commands(table, quick)
    lines = select_lines(table, lines, now)
    if not lines:
        return "nothing has been run yet"
    order = list(dict.fromkeys(name for name, _ in now))
    runs_of = {}
    for line in lines:
        runs_of.setdefault(line["row"], set()).add(line["run"])
    lines.sort(key=lambda line: (len(runs_of[line["row"]]) > 1, order.index(line["run"]),
                                 line["seed"]))
    rows = {row: {figure: [value] for figure, value in figures.items()}
            for row, figures in TABLES[table].published.items()}
    for line in lines:
        for figure, value in line.items():
            rows.setdefault(line["row"], {}).setdefault(figure, []).append(value)
    figures = list(dict.fromkeys(name for line in lines for name in line if name not in KNOWN))
    if any("seconds" in row for row in rows.values()):
        figures.append("seconds")
    text = [f"| | {' | '.join(figures)} |", f"{'|---' * (len(figures) + 1)}|"]
    text += [f"| {name} | {' | '.join(_cell(row.get(figure, [])) for figure in figures)} |"
             for name, row in rows.items()]
    values = lambda name: ", ".join(map(str, sorted({line[name] for line in lines})))
    done = len({(line["run"], line["seed"]) for line in lines})
    runs = f"{done} of {len(now)} runs so far, " if done < len(now) else ""
    seeds = "seeds" if "," in values("seed") else "seed"
    return "\n".join([*text, "", *textwrap.wrap(
        f"`python examples/reproduce.py {table}`: {runs}{seeds} {values('seed')}, one core of an "
        f"{values('machine')}, numpy {values('numpy')}, {values('date')}.", 100)])


def _cell(values):
    """Return the text of a cell: the mean and the values, or one value if they are equal.

    Of more than ten values it has the mean, the least and the largest.
    """
    def show(value):
        return (value if isinstance(value, str) else f"{value:.3g}" if abs(value) < 100 else
                f"{value:.1f}".removesuffix(".0"))
    text = [show(value) for value in values]
    if len(set(text)) < 2:
        return "".join(text[:1])
    every = ", ".join(text)
    if len(values) > 10:        # a reference that every run has measured
        every = f"{show(min(values))} to {show(max(values))}"
    return every if any(isinstance(value, str) for value in values) else (
        f"{show(np.mean(values))} ({every})")


def name_data(source: str | None) -> tuple[str, str]:
    """Load the data; return its name for the rows of a table, and the --data that loads it again.

    Raises UserError for images that the classifier behind the measures does not take.
    """
    loaded = data.load(source)
    print(f"data: {loaded.source}")
    if loaded.train.images.shape[1:] != (1, 28, 28):
        raise UserError("the classifier behind the measures takes grey images of 28x28 pixels: "
                        "give MNIST by --data")
    found = command.digest({"images": loaded.train.images})
    return ("the bundled sample" if loaded.place == "sample" else
            "MNIST" if found == DIGEST else f"other data {found}"), loaded.place


def run_table(args: argparse.Namespace) -> None:
    """Do all runs of the table that have no results yet, and append their results."""
    dataset, place = name_data(args.data) if TABLES[args.table].takes_data else ("", None)
    try:
        with open(args.results, "a"):       # fails now, not after hours
            pass
    except OSError as error:
        raise UserError(f"cannot write {args.results!r} ({error.strerror}): choose another file by "
                        "--results") from None
    lines = select_lines(args.table, read_results(args.results),
                         list_commands(args.table, args.quick))
    done = {(line["run"], line["seed"]) for line in lines if line["data"] == dataset}
    # given although it may be the default: a run that is resumed would take the data that it had
    source = ["--data", place] if place else []
    runs = {key: commands for key, commands in
            list_runs(args.table, args.out, source, args.quick).items() if key not in done}
    print(f"{len(runs)} runs, {len(done)} done before", flush=True)
    begin, count, failed = time.monotonic(), 0, []
    _stopped.clear()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(make_lines, args, *item, dataset): item[0] for item in runs.items()}
        try:
            for future in concurrent.futures.as_completed(futures):
                name, seed = futures[future]
                try:
                    lines = future.result()
                except (UserError, OSError) as error:
                    print(error, file=sys.stderr)
                    failed.append(f"{name} seed {seed}")
                    continue
                append_lines(args.results, lines)
                count += 1
                left = (time.monotonic() - begin) / count * (len(runs) - count)
                print(f"{count}/{len(runs)}  {left / 60:.0f} min left  {name} seed {seed}",
                      flush=True)
        except BaseException:       # such as Ctrl-C
            for future in futures:
                future.cancel()
            stop_commands()
            raise
    if failed:
        raise UserError(f"{len(failed)} of {len(runs)} runs have failed ({', '.join(failed)}): see "
                        "above; the results of the others are kept")


def main() -> None:
    """Do the runs of the table that the command line names, and print the table."""
    flags = command.make_parser(__doc__)
    add = flags.add_argument
    add("table", choices=TABLES, help="the table to reproduce")
    add("--jobs", type=command.positive, default=1, help="number of runs at a time (1)")
    add("--show", action="store_true", help="only print the table of the runs so far")
    add("--quick", action="store_true", help="do one seed and a few steps, and keep no files")
    add("--data", metavar="DIR", help="a folder with MNIST's four files (default: the environment "
        "variable TINYGAN_DATA, or else MNIST, which is downloaded)")
    add("--out", metavar="DIR", type=os.path.expanduser, default="runs/reproduce",
        help="folder of the runs (runs/reproduce)")
    add("--results", metavar="FILE", type=os.path.expanduser,
        default=os.path.join(HERE, "results.jsonl"),
        help="file of the figures (results.jsonl, beside this script)")
    args = flags.parse_args()
    for name in ("data", "out", "results"):
        if args.quick and getattr(args, name) != flags.get_default(name):
            flags.error(f"argument --{name}: --quick has images of its own and keeps no files: "
                        "leave one of the two out")
    if args.data and not TABLES[args.table].takes_data:
        flags.error(f"argument --data: the table {args.table} takes no images: leave it out")
    if args.show and args.results != flags.get_default("results") and (
            not os.path.exists(args.results)):
        flags.error(f"argument --results: there is no file {args.results}: give the results of "
                    "runs, or leave --show out to do them")
    with tempfile.TemporaryDirectory() as scratch:
        if args.quick:
            args.out, args.results = scratch, os.path.join(scratch, "results.jsonl")
            args.data = os.path.join(scratch, "digits.npz")
            few = load_sample().train.part(slice(300))
            np.savez(args.data, images=few.images, labels=few.labels)
        if not args.show:
            run_table(args)
        print(make_table(args.table, read_results(args.results), args.quick))


if __name__ == "__main__":
    command.main(main)
