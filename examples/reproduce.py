"""The project's tables, each from one command, with every seed.

    python examples/reproduce.py mixtures --jobs 2      ring and grid, eight games: two hours
    python examples/reproduce.py mnist --jobs 2         six games on digits: an hour and a half
    python examples/reproduce.py parzen                 Algorithm 1 as published: two hours
    python examples/reproduce.py mixtures --show        the table of what has been run so far
    python examples/reproduce.py mixtures --quick       one seed of all, in seconds, nothing kept

A table is a list of runs, each a command of another example, on one thread, whose figures become a
line of --results: with the command, the time it took, machine and date. Whoever starts the same
command again goes on where it was cut off, with the runs that have no line yet, and the one that
had begun from its last checkpoint (its time is then that of the last part). The times above are
estimates from the first runs, on an AMD EPYC.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

from tinygan import UserError, run
from tinygan.data.mnist import load_sample
from tinygan.files import replaced

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
# fixed before any of them was run
SEEDS = {"mixtures": (1, 2, 3, 4, 5), "mnist": (1, 2, 3), "parzen": (1,)}
# as many steps as one core takes in nine minutes
MNIST = {
    "GAN": "gan_mnist.py --steps 5500",
    "DCGAN": "dcgan_mnist.py --batch-size 64 --steps 2700",
    "RaGAN": "dcgan_mnist.py --game ragan --batch-size 64 --steps 2400",
    "WGAN": "wgan_mnist.py --channels 32 --lr 2e-4 --steps 2200",
    "WGAN-GP": "wgan_gp_mnist.py --channels 16 --lr 5e-4 --steps 2000",
    "SNGAN": "sngan_mnist.py --channels 16 --n-dis 1 --lr 1e-3 --steps 3600",
}
GAMES = "saturating", "gan", "lsgan", "wgan", "wgan_gp", "sngan", "ragan", "r1"


def mixtures(out, data, quick):
    """{(row, seed): commands}: equal numbers of discriminator steps, 3 minutes a run or less."""
    steps = ["--steps", "10", "--width", "8"] if quick else ["--steps", "24000"]
    return {(f"{mixture} {game}", seed): [
        ["mixtures.py", "--mixture", mixture, "--game", game, "--seeds", str(seed), *steps,
         "--resume", "--out", os.path.join(out, "mixtures")]]
        for mixture in ("ring", "grid") for game in GAMES for seed in _seeds("mixtures", quick)}


def coverage(outputs, _):
    """{figure: value} of a run of mixtures.py."""
    modes, quality, kl = re.findall(r"modes (\d+)  HQ (\S+) %  reverse KL (\S+)", outputs[-1])[-1]
    return {"modes": int(modes), "HQ %": float(quality), "reverse KL": float(kl)}


def mnist(out, data, quick):
    """Six games, each with the average of G's weights, at an equal budget of time."""
    quickly = ["--steps", "1", "--batch-size", "8"] if quick else []
    return {(row, seed): _run_and_measure(
        [*command.split(), "--average", "0.99", *quickly, "--seed", str(seed), *data],
        os.path.join(out, f"{row}-{seed}"))
        for row, command in MNIST.items() for seed in _seeds("mnist", quick)}


def quality(_, commands):
    """{figure: value} of a run that evaluate.py has measured."""
    samples, floor = _evaluation(commands)
    return {"Frechet": samples["Frechet"], "times the floor": samples["Frechet"] / floor["Frechet"],
            **{name: samples[name] for name in ("KID", "precision", "recall", "score", "rarest")}}


def parzen(out, data, quick):
    """The paper's networks and settings for 300 epochs, and the original protocol."""
    length = ["--steps", "2", "--batch-size", "10"] if quick else ["--steps", "150000"]
    return {("Algorithm 1", seed): _run_and_measure(
        ["gan_mnist.py", "--paper", *length, "--seed", str(seed), *data],
        os.path.join(out, f"parzen-{seed}"), *([] if quick else ["--centroids"]))
        for seed in _seeds("parzen", quick)}


def likelihood(_, commands):
    """The same, for the figure of that paper and what it should be held against."""
    samples, floor = _evaluation(commands)
    return {"Parzen": samples["Parzen"], "of training images": floor["Parzen"],
            **{"of centroids": value for name, value in floor.items() if "centroids" in name}}


def _seeds(table, quick):
    return SEEDS[table][:1] if quick else SEEDS[table]


def _run_and_measure(command, folder, *flags):
    begun = ["--resume"] if os.path.exists(os.path.join(folder, "checkpoint.npz")) else []
    return [[*command, *begun, "--out", folder], ["evaluate.py", folder, *flags]]


def _evaluation(commands):
    with open(os.path.join(commands[-1][1], "evaluation.json")) as file:
        table = json.load(file)
    return table["samples"], table["floor"]


TABLES = {"mixtures": (mixtures, coverage), "mnist": (mnist, quality),
          "parzen": (parzen, likelihood)}


def one(table, row, seed, commands, figures):
    """Run the commands of a line of a table; returns the line."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    start, outputs = time.monotonic(), []
    for script, *flags in commands:
        process = subprocess.run([sys.executable, os.path.join(HERE, script), *flags],
                                 env=environment, stdout=subprocess.PIPE, text=True)
        if process.returncode != 0:
            raise UserError(f"{' '.join([script, *flags])} has ended with {process.returncode}: "
                            "see above; what is finished is kept")
        outputs.append(process.stdout)
    return {"table": table, "row": row, "seed": seed, **figures(outputs, commands),
            "seconds": round(time.monotonic() - start), "command": [" ".join(c) for c in commands],
            "date": datetime.date.today().isoformat(), "machine": platform.machine(),
            "numpy": np.__version__}


def read_results(path):
    """The lines of the results file; none if there is none."""
    if not os.path.exists(path):
        return []
    try:
        with open(path) as file:
            lines = [json.loads(line) for line in file]
        if not all({"table", "row", "seed"} <= line.keys() for line in lines):
            raise ValueError
    except (ValueError, AttributeError):
        raise UserError(f"{path} is no file of results: give another by --results") from None
    return lines


def show(table, lines):
    """Print the table as README.md has it: a row for each row, mean and every seed."""
    lines = [line for line in lines if line["table"] == table]
    if not lines:
        print("nothing has been run yet")
        return
    known = ("table", "row", "seed", "seconds", "command", "date", "machine", "numpy")
    figures = [name for name in lines[0] if name not in known]
    print(f"| | {' | '.join(figures)} | seconds |\n{'|---' * (len(figures) + 2)}|")
    for row in dict.fromkeys(line["row"] for line in lines):
        mine = sorted((line for line in lines if line["row"] == row), key=lambda l: l["seed"])
        cells = []
        for name in figures:
            values = [line[name] for line in mine]
            every = f" ({', '.join(f'{v:.4g}' for v in values)})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4g}{every}")
        print(f"| {row} | {' | '.join(cells)} | {max(line['seconds'] for line in mine)} |")


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("table", choices=TABLES, help="which")
    add("--jobs", type=run.positive, default=1, help="runs at a time (1)")
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
        show(args.table, read_results(args.results))


def complete(args):
    """All runs of the table that have no result yet."""
    make, figures = TABLES[args.table]
    data = ["--data", args.data] if args.data else []
    done = {(line["row"], line["seed"]) for line in read_results(args.results)
            if line["table"] == args.table}
    runs = {key: commands for key, commands in make(args.out, data, args.quick).items()
            if key not in done}
    print(f"{len(runs)} runs, {len(done)} done before", flush=True)
    begin, count = time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(one, args.table, *key, commands, figures)
                   for key, commands in runs.items()]
        try:
            for future in concurrent.futures.as_completed(futures):
                line = future.result()
                lines = [*read_results(args.results), line]
                with replaced(args.results) as file:
                    file.write("".join(json.dumps(each) + "\n" for each in lines).encode())
                count += 1
                left = (time.monotonic() - begin) / count * (len(runs) - count)
                print(f"{count}/{len(runs)}  {left / 60:.0f} min left  "
                      f"{line['row']} seed {line['seed']}  {line['seconds']} s", flush=True)
        finally:
            for future in futures:
                future.cancel()


if __name__ == "__main__":
    run.main(main)
