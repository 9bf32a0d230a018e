"""The project's tables, each from one command, with every seed.

    python examples/reproduce.py theory                 what can be calculated: seconds
    python examples/reproduce.py mixtures --jobs 2      ring and grid, eight games: 80 minutes
    python examples/reproduce.py mnist --jobs 2         six examples on digits: an hour and a half
    python examples/reproduce.py parzen                 the paper's networks: seven hours
    python examples/reproduce.py mixtures --show        the table of what has been run so far
    python examples/reproduce.py mixtures --quick       one seed of all, in seconds, nothing kept

A table is a list of runs, each some commands of other examples, on one thread, whose figures become
lines of --results: with the commands, the time on a core that they took, machine and date. Whoever
starts the same command again goes on where it was cut off, with the runs that have no lines yet,
and the one that had begun from its last checkpoint. Lines of commands that have changed since do
not count. README.md has the tables that have been run, as --show prints them; the times above are
estimates where it has none.
"""

import argparse
import concurrent.futures
import datetime
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time

import numpy as np

from tinygan import UserError, command, data
from tinygan.data.mnist import load_sample
from tinygan.files import replaced

HERE = os.path.dirname(os.path.abspath(__file__))
# fixed before any of them was run
SEEDS = {"mixtures": (1, 2, 3, 4, 5), "mnist": (1, 2, 3), "parzen": (1,)}
# about as many steps as one core takes in nine minutes (eight to eleven); found on seed 0
MNIST = {
    "GAN": "gan_mnist.py --steps 14000 --average 0.998",
    "DCGAN": "dcgan_mnist.py --channels 16 --lr 1e-3 --batch-size 64 --steps 15000 --average 0.998",
    "RaGAN": "dcgan_mnist.py --game ragan --channels 16 --lr 1e-3 --batch-size 64 --steps 12500 "
             "--average 0.998",
    "WGAN": "wgan_mnist.py --channels 16 --lr 1e-3 --c 0.03 --steps 4700 --average 0.998",
    "WGAN-GP": "wgan_gp_mnist.py --channels 16 --lr 1e-3 --steps 2400 --average 0.998",
    "SNGAN": "sngan_mnist.py --channels 16 --n-dis 1 --lr 1e-3 --steps 4000 --average 0.99",
}
GAMES = "saturating", "gan", "lsgan", "wgan", "wgan_gp", "sngan", "ragan", "r1"
DIGEST = "7881f167fae3a2c7"      # of MNIST's training images
PUBLISHED = {       # {table: {row: {figure: value}}}
    "mixtures": {
        "ring, GAN (Lin et al. 2018)": {"modes": 6.3, "HQ %": 98.2, "reverse KL": 0.45},
        "ring, PacGAN4 (Lin et al. 2018)": {"modes": 7.8, "HQ %": 95.9, "reverse KL": 0.07},
        "ring, VEEGAN (Srivastava et al. 2017)": {"modes": 8, "HQ %": 52.9},
        "grid, GAN (Lin et al. 2018)": {"modes": 17.3, "HQ %": 94.8, "reverse KL": 0.70},
        "grid, PacGAN4 (Lin et al. 2018)": {"modes": 24.8, "HQ %": 93.6, "reverse KL": 0.04},
        "grid, VEEGAN (Srivastava et al. 2017)": {"modes": 24.6, "HQ %": 40},
    },
    "parzen": {"Goodfellow et al. 2014, table 1": {"nats": "225 +- 2"}},
}


def theory(out, source, quick):
    """{(run, seed): commands}: what these two print."""
    quickly = ["--dry-run"] if quick else []
    return {("densities", 0): [["theory.py", *quickly]],
            ("Dirac-GAN", 0): [["dirac.py", *quickly, "--out", os.path.join(out, "dirac")]]}


def found(name, commands, outputs):
    """{row: {figure: text}} of both: the rows of the one's table, and the rates in the other's."""
    rows = {row: {"found": value, "theory": expected} for row, value, expected in
            re.findall(r"^\| (\w.+) \| (\S+) \| (\S+) \|$", outputs[0], re.M)}
    for game, *rates in re.findall(
            r"^(.*?)  .*\((\S+), (\S+)\).*\((\S+), (\S+)\)$", outputs[0], re.M):
        for order, i in (("simultaneous", 0), ("alternating", 2)):
            rows[f"{game}: factor of a step, {order}"] = {
                "found": rates[i], "theory": rates[i + 1]}
    return rows


def mixtures(out, source, quick):
    """{(run, seed): commands}: equal numbers of discriminator steps, about 3 minutes a run."""
    steps = ["--steps", "10", "--width", "8"] if quick else ["--steps", "24000"]
    return {(f"{mixture}, {game}", seed): [
        ["mixtures.py", "--mixture", mixture, "--game", game, "--seeds", str(seed), *steps,
         "--resume", "--out", os.path.join(out, "mixtures")]]
        for seed in _seeds("mixtures", quick) for mixture in ("ring", "grid") for game in GAMES}


def coverage(name, commands, outputs):
    """{row: {figure: value}} of a run of mixtures.py."""
    modes, quality, kl = re.findall(r"modes (\d+)  HQ (\S+) %  reverse KL (\S+)", outputs[-1])[-1]
    return {name: {"modes": int(modes), "HQ %": float(quality), "reverse KL": float(kl)}}


def mnist(out, source, quick):
    """Six of the examples, with an average of G's weights, at an equal budget of time."""
    quickly = ["--steps", "1", "--batch-size", "8"] if quick else []
    return {(name, seed): _run_and_measure(
        [*command.split(), *quickly, "--seed", str(seed), *source],
        os.path.join(out, f"{name}-{seed}"))
        for seed in _seeds("mnist", quick) for name, command in MNIST.items()}


def quality(name, commands, outputs):
    """{row: {figure: value}} of a run that evaluate.py has measured, and of training images."""
    rows = _evaluation(name, commands)
    _, floor = rows.values()
    return {row: {"Frechet": table["Frechet"],
                  "times the floor": table["Frechet"] / floor["Frechet"],
                  **{key: table[key] for key in ("KID", "precision", "recall", "classes")}}
            for row, table in rows.items()}


def parzen(out, source, quick):
    """The paper's networks and settings, as its code plays them, for 1000 epochs; and the original
    protocol, for G as the last step left it and for an average of its weights."""
    length = ["--steps", "2", "--batch-size", "10"] if quick else ["--steps", "500000"]
    return {("Algorithm 1, simultaneous steps", seed): _run_and_measure(
        ["gan_mnist.py", "--paper", *length, "--average", "0.999", "--seed", str(seed), *source],
        os.path.join(out, f"parzen-{seed}"), "--last", *([] if quick else ["--centroids"]))
        for seed in _seeds("parzen", quick)}


def likelihood(name, commands, outputs):
    """{row: {figure: text}} of the same, also of k-means centroids; the run's own row is of G."""
    rows = _evaluation(name, commands)
    rows = {name: rows.pop("last weights"), f"{name}, average of G": rows.pop(name), **rows}
    return {row: {"nats": f"{table['Parzen']:.1f} +- {table['Parzen error']:.1f}"}
            for row, table in rows.items()}


def _seeds(table, quick):
    return SEEDS[table][:1] if quick else SEEDS[table]


def _run_and_measure(command, folder, *flags):
    return [[*command, "--out", folder], ["evaluate.py", folder, *flags]]


def _evaluation(name, commands):
    """{row: measures} that evaluate.py has left: of the run's samples, and of real images."""
    with open(os.path.join(commands[-1][1], "evaluation.json")) as file:
        table = json.load(file)
    return {name if row == "samples" else row: measures
            for row, measures in table["measures"].items()}


# what makes a table's runs, and what reads their figures; a command that has an --out ends with it
TABLES = {"theory": (theory, found), "mixtures": (mixtures, coverage), "mnist": (mnist, quality),
          "parzen": (parzen, likelihood)}


def measured(commands, clock):
    """Run the commands; returns what each printed, and the seconds on a core that the first took,
    together with those that the file `clock` holds of earlier parts of it; nan if a part was killed
    before it could say."""
    environment, outputs, seconds = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}, [], 0.0
    if os.path.exists(clock):
        with open(clock) as file:
            seconds = float(file.read())
    for script, *flags in commands:
        if "--out" in flags and os.path.exists(os.path.join(flags[-1], "checkpoint.npz")):
            flags.append("--resume")
        if not outputs:
            _keep(clock, math.nan)
        process = subprocess.Popen([sys.executable, os.path.join(HERE, script), *flags],
                                   env=environment, stdout=subprocess.PIPE, text=True)
        with process.stdout:
            outputs.append(process.stdout.read())
        code, took = _ended(process)
        if len(outputs) == 1:
            seconds += took
            _keep(clock, seconds)
        if code != 0:
            raise UserError(f"{' '.join([script, *flags])} has ended with {code}: see above")
    return outputs, seconds


def _keep(clock, seconds):
    os.makedirs(os.path.dirname(clock), exist_ok=True)
    with replaced(clock) as file:
        file.write(f"{seconds}\n".encode())


def _ended(process):
    """(exit status, seconds on a core) of a process that is waited for."""
    if not hasattr(os, "wait4"):        # Windows does not tell the time of one process
        return process.wait(), math.nan
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def commands_now(table, quick):
    """{(run, seed): the commands as anyone would type them}."""
    return {key: [" ".join(command) for command in commands]
            for key, commands in TABLES[table][0]("runs/reproduce", [], quick).items()}


def lines_of(args, key, commands, of):
    """The lines of --results that a run on data named `of` gives: one for each row of the table
    that it knows something of."""
    name, seed = key
    folder = commands[0][-1] if "--out" in commands[0] else args.out
    outputs, seconds = measured(commands, os.path.join(folder, f"{name}-{seed}.seconds"))
    where = "" if of in ("", "MNIST") else f", of {of}"
    return [{"table": args.table, "run": name, "row": f"{row}{where}", "seed": seed, **values,
             **({"seconds": round(seconds)} if row == name and seconds == seconds else {}),
             "data": of, "command": commands_now(args.table, args.quick)[key],
             "date": datetime.date.today().isoformat(), "machine": command.processor(),
             "numpy": np.__version__}
            for row, values in TABLES[args.table][1](name, commands, outputs).items()]


# what a line of results has beside its figures; the seconds are the run's own row's
KNOWN = ("table", "run", "row", "seed", "seconds", "data", "command", "date", "machine", "numpy")


def read_results(path):
    """The lines of the results file; none if there is none."""
    if not os.path.exists(path):
        return []
    try:
        with open(path) as file:
            lines = [json.loads(line) for line in file]
        if not all(set(KNOWN) - {"seconds"} <= line.keys() and type(line["seed"]) is int
                   for line in lines):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(f"{path} is no file of results: give another by --results") from None
    return lines


def counting(table, lines, now):
    """Those lines of the table whose commands are still the same."""
    return [line for line in lines if line["table"] == table
            and now.get((line["run"], line["seed"])) == line["command"]]


def shown(table, lines, quick=False):
    """The table as README.md has it: for each row the mean and every seed, or what they share."""
    now = commands_now(table, quick)
    lines = counting(table, lines, now)
    if not lines:
        return "nothing has been run yet"
    order = list(dict.fromkeys(name for name, _ in now))
    lines.sort(key=lambda line: (order.index(line["run"]), line["seed"]))
    rows = {row: {figure: [value] for figure, value in figures.items()}
            for row, figures in PUBLISHED.get(table, {}).items()}
    for line in lines:
        for figure, value in line.items():
            rows.setdefault(line["row"], {}).setdefault(figure, []).append(value)
    figures = [figure for figure in lines[0] if figure not in KNOWN]
    if any("seconds" in row for row in rows.values()):
        figures.append("seconds")
    text = [f"| | {' | '.join(figures)} |", f"{'|---' * (len(figures) + 1)}|"]
    text += [f"| {name} | {' | '.join(_cell(row.get(figure, [])) for figure in figures)} |"
             for name, row in rows.items()]
    of = lambda name: ", ".join(sorted({str(line[name]) for line in lines}))
    done = len({(line["run"], line["seed"]) for line in lines})
    runs = f"{done} of {len(now)} runs so far, " if done < len(now) else ""
    return "\n".join([*text, "", *textwrap.wrap(
        f"`python examples/reproduce.py {table}`: {runs}seed {of('seed')}, one core of an "
        f"{of('machine')}, numpy {of('numpy')}, {of('date')}.", 100)])


def _cell(values):
    """One value, or the mean and each."""
    text = [value if isinstance(value, str) else f"{value:.0f}" if abs(value) >= 100 else
            f"{value:.3g}" for value in values]
    if len(set(text)) < 2:
        return "".join(text[:1])
    every = ", ".join(text)
    return every if any(isinstance(value, str) for value in values) else (
        f"{np.mean(values):.3g} ({every})")


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("table", choices=TABLES, help="which")
    add("--jobs", type=command.positive, default=1, help="runs at a time (1)")
    add("--show", action="store_true", help="run nothing")
    add("--quick", action="store_true", help="one seed, a few steps, nothing kept")
    add("--data", metavar="DIR", help="a folder with MNIST's four files")
    add("--out", metavar="DIR", default="runs/reproduce", help="the runs (runs/reproduce)")
    add("--results", metavar="FILE", default=os.path.join(HERE, "results.jsonl"),
        help="the figures (results.jsonl, beside this script)")
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.quick:
            args.out, args.results = scratch, os.path.join(scratch, "results.jsonl")
            args.data = os.path.join(scratch, "images.npy")
            np.save(args.data, load_sample().train.images[:300])
        if not args.show:
            complete(args)
        print(shown(args.table, read_results(args.results), args.quick))


def named(source):
    """What the data is, for a row of a table; raises UserError if nothing here can measure it."""
    loaded = data.load(source)
    print(f"data: {loaded.source}")
    if loaded.train.images.shape[1:] != (1, 28, 28):
        raise UserError("the features that are compared are of grey images of 28x28 pixels: give "
                        "MNIST by --data")
    if loaded.place == "sample":
        return "the bundled sample"
    return "MNIST" if command.digest({"images": loaded.train.images}) == DIGEST else "other data"


def complete(args):
    """All runs of the table that have no results yet."""
    of = named(args.data) if args.table in ("mnist", "parzen") else ""
    try:
        with open(args.results, "a"):       # now, not after hours
            pass
    except OSError as error:
        raise UserError(f"cannot write {args.results!r} ({error.strerror}): choose another file by "
                        "--results") from None
    lines = counting(args.table, read_results(args.results), commands_now(args.table, args.quick))
    done = {(line["run"], line["seed"]) for line in lines if line["data"] == of}
    source = ["--data", args.data] if args.data else []
    runs = {key: commands for key, commands in
            TABLES[args.table][0](args.out, source, args.quick).items() if key not in done}
    print(f"{len(runs)} runs, {len(done)} done before", flush=True)
    begin, count, failed = time.monotonic(), 0, []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(lines_of, args, *item, of): item[0] for item in runs.items()}
        try:
            for future in concurrent.futures.as_completed(futures):
                name, seed = futures[future]
                try:
                    lines = future.result()
                except UserError as error:
                    print(error, file=sys.stderr)
                    failed.append(f"{name} seed {seed}")
                    continue
                # in one piece at the end, as another table may be written at the same time
                with open(args.results, "ab", buffering=0) as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
                count += 1
                left = (time.monotonic() - begin) / count * (len(runs) - count)
                print(f"{count}/{len(runs)}  {left / 60:.0f} min left  {name} seed {seed}",
                      flush=True)
        finally:
            for future in futures:
                future.cancel()
    if failed:
        raise UserError(f"{len(failed)} of {len(runs)} runs have failed ({', '.join(failed)}): see "
                        "above; the figures of the others are kept")


if __name__ == "__main__":
    command.main(main)
