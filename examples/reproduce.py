"""Reproduce the project's tables, each by one command, with every seed.

    python examples/reproduce.py theory                 what theory can calculate: seconds
    python examples/reproduce.py first --jobs 2         the README's first run: ten minutes
    python examples/reproduce.py orders --jobs 2        the order of the players' steps: 30 minutes
    python examples/reproduce.py mixtures --jobs 2      ring and grid, 16 games: 2.5 hours
    python examples/reproduce.py mnist --jobs 2         examples on digits: 2.5 hours
    python examples/reproduce.py sngan --jobs 2         SNGAN's one image: 40 minutes
    python examples/reproduce.py conditional --jobs 2   games with labels: half an hour
    python examples/reproduce.py infogan --jobs 2       codes that get a meaning: one hour
    python examples/reproduce.py bigan --jobs 2         encoders: two hours
    python examples/reproduce.py stacked --jobs 2       modes of stacked MNIST: one hour
    python examples/reproduce.py few --jobs 2           1,000 training images: 25 minutes
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
import csv
import datetime
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from functools import partial
from typing import Any

import numpy as np

from tinygan import UserError, command, data
from tinygan.data.mnist import load_sample
from tinygan.files import write_text

HERE = os.path.dirname(os.path.abspath(__file__))
# chosen before the first run
SEEDS = {"first": (0, 1), "orders": (1, 2, 3, 4, 5), "mixtures": (1, 2, 3, 4, 5),
         "mnist": (1, 2, 3), "sngan": (1, 2, 3), "conditional": (1, 2, 3),
         "infogan": tuple(range(1, 11)), "bigan": (1, 2, 3), "stacked": (1, 2, 3),
         "few": (1, 2, 3), "pix2pix": (1, 2, 3), "cyclegan": (1, 2, 3), "stargan": (1, 2, 3),
         "spade": (1, 2, 3), "parzen": (1, 2, 3)}
# {run: number of seeds}, if it has fewer than the others of its table
FEWER = {"SNGAN, 32 channels": 1, "Q on the side": 3, "InfoGAN, the paper's networks": 3,
         "BiGAN, the paper's networks": 1}
FIRST = {"gan_mnist.py": "gan_mnist.py"}
ORDERS = {          # eight epochs; simultaneous is the script's order with --paper
    "simultaneous": "gan_mnist.py --paper --steps 4000",
    "alternating": "gan_mnist.py --paper --steps 4000 --order alternating",
}
# Six or seven minutes on one core, but for "twice as wide". The settings were found on seed 0.
MNIST = {
    "GAN": "gan_mnist.py --steps 14000 --average 0.998",
    "DCGAN": "dcgan_mnist.py",
    "RaGAN": "dcgan_mnist.py --game ragan",
    "WGAN": "wgan_mnist.py",
    "WGAN-GP": "wgan_gp_mnist.py",
    "SNGAN": "sngan_mnist.py",
    "R1": "gan_mnist.py --r1",
    "R1, lazy, as many steps": "gan_mnist.py --r1 --lazy 16",
    "R1, lazy, as long": "gan_mnist.py --r1 --lazy 16 --steps 16300",
    "R1, twice as wide": "gan_mnist.py --r1 --width 2 --steps 15000",
}
SNGAN = {           # the paper's settings, with narrower networks and fewer steps
    "SNGAN, 16 channels": "sngan_mnist.py --paper --channels 16 --steps 1000",
    "SNGAN, 32 channels": "sngan_mnist.py --paper --channels 32 --steps 1000",
}
CONDITIONAL = {     # the recipes of games with labels; the settings were found on seed 0
    "conditional GAN": "conditional_mnist.py --steps 4500 --average 0.998",
    "AC-GAN": "acgan_mnist.py --steps 4500 --average 0.998",
    "AC-GAN, D's class loss on data alone": "acgan_mnist.py --reals-only --steps 4500 "
                                            "--average 0.998",
    "projection": "projection_mnist.py --steps 4500 --average 0.998",
    "projection, R1": "projection_mnist.py --r1 --average 0.998",
}
INFOGAN = {         # the recipe, and the control; the weight lam was found on the seeds 100 to 103
    "InfoGAN": "infogan_mnist.py --steps 3000 --average 0.998",
    "Q on the side": "infogan_mnist.py --side --steps 3000 --average 0.998",
    "InfoGAN, the paper's networks": "infogan_mnist.py --paper --average 0.998",
}
BIGAN = {           # the settings of the recipes were found on seed 0; the last has 165 epochs
    "BiGAN": "bigan_mnist.py --steps 6000 --average 0.998",
    "ALI": "bigan_mnist.py --ali --steps 6000 --average 0.998",
    "BiGAN, the paper's networks": "bigan_mnist.py --paper --steps 64350 --average 0.999",
}
STACKED = {         # the small D of Metz et al. 2017, with which methods differ; full size
    "small D, GAN": "stacked_mnist.py --crippled --game gan --average 0.999",
    "small D, minibatch discrimination": "stacked_mnist.py --crippled --game minibatch "
                                         "--average 0.999",
    "small D, PacGAN2": "stacked_mnist.py --crippled --game pacgan --average 0.999",
    "small D, R3GAN": "stacked_mnist.py --crippled --game r3gan --average 0.999",
    "full size, R1": "stacked_mnist.py --average 0.999",
    "full size, R1, twice as wide": "stacked_mnist.py --width 2 --steps 25000 --average 0.999",
}
FEW = {
    "1,000 images": "few_mnist.py --average 0.998",
    "1,000 images, translation and cutout": "few_mnist.py --augment --average 0.998",
}
PIX2PIX = {
    "L1": "pix2pix_mnist.py --loss l1",
    "GAN": "pix2pix_mnist.py --loss gan",
    "cGAN": "pix2pix_mnist.py --loss cgan",
    "L1 + GAN": "pix2pix_mnist.py --loss l1+gan",
    "L1 + cGAN": "pix2pix_mnist.py",
    "L1 + cGAN, patches of 1 pixel": "pix2pix_mnist.py --patch 0",
    "L1 + cGAN, patches of 34 pixels": "pix2pix_mnist.py --patch 2",
    "L1 + cGAN, the paper's networks": "pix2pix_mnist.py --paper",
    "4x4 blocks, L1": "pix2pix_mnist.py --task coarse --loss l1",
    "4x4 blocks, L1 + cGAN": "pix2pix_mnist.py --task coarse",
}
CYCLEGAN = {
    "CycleGAN": "cyclegan_mnist.py",
    "GAN alone": "cyclegan_mnist.py --without cycle",
    "cycle alone": "cyclegan_mnist.py --without gan",
    "GAN and forward cycle": "cyclegan_mnist.py --without backward",
}
STARGAN = {
    "StarGAN": "stargan_mnist.py",
    "identity": "stargan_mnist.py --identity 10",
    "no reconstruction": "stargan_mnist.py --rec 0",
    "WGAN-GP": "stargan_mnist.py --wgan-gp",
    "WGAN-GP, identity": "stargan_mnist.py --wgan-gp --identity 10",
    "colours": "stargan_mnist.py --task colours",
    "colours, identity": "stargan_mnist.py --task colours --identity 10",
}
SPADE = {           # the channels give the rows nearly the same number of parameters
    "SPADE, instance norm": "spade_scenes.py",
    "SPADE, batch norm": "spade_scenes.py --norm batch",
    "map joined, instance norm": "spade_scenes.py --join --channels 19",
    "map joined, batch norm": "spade_scenes.py --join --channels 19 --norm batch",
}
GAMES = ("saturating", "gan", "lsgan", "hinge", "rsgan", "wgan", "wgan_gp", "sngan", "ragan", "r1",
         "feature_matching", "minibatch", "unrolled", "ali", "pacgan", "r3gan")
DATALESS = "theory", "mixtures", "spade"        # tables whose scripts take no images
DIGEST = "7881f167fae3a2c7"      # command.digest() of MNIST's training images
PUBLISHED = {       # figures of the papers, {table: {row: {figure: value}}}
    "mixtures": {
        "ring, GAN (Lin et al. 2018)": {"modes": 6.3, "HQ %": 98.2, "reverse KL": 0.45},
        "ring, PacGAN2 (Lin et al. 2018)": {"modes": 7.9, "HQ %": 95.6, "reverse KL": 0.07},
        "ring, VEEGAN (Srivastava et al. 2017)": {"modes": 8, "HQ %": 52.9},
        "ring, unrolled (Srivastava et al. 2017)": {"modes": 7.6, "HQ %": 35.6},
        "grid, GAN (Lin et al. 2018)": {"modes": 17.3, "HQ %": 94.8, "reverse KL": 0.70},
        "grid, PacGAN2 (Lin et al. 2018)": {"modes": 23.8, "HQ %": 91.3, "reverse KL": 0.13},
        "grid, VEEGAN (Srivastava et al. 2017)": {"modes": 24.6, "HQ %": 40},
        "grid, unrolled (Srivastava et al. 2017)": {"modes": 23.6, "HQ %": 16},
        "grid, ALI (Dumoulin et al. 2017)": {"modes": 13.4},
        "grid, GAN (Dumoulin et al. 2017)": {"modes": 10.4},
    },
    "infogan": {"Chen et al. 2016, section 7.2": {"one-to-one %": 95}},
    "bigan": {"Donahue et al. 2017, published log": {"ratio": 0.62, "1-NN %": 92.1,
                                                     "features %": 97.35}},
    "stacked": {     # those with a small D are of 500,000 steps
        "small D, GAN (Metz et al. 2017)": {"modes": 628, "KL": 2.58},
        "small D, unrolled 10 (Metz et al. 2017)": {"modes": 817, "KL": 1.43},
        "small D, GAN (Lin et al. 2018)": {"modes": 488, "KL": 2.24},
        "small D, PacGAN2 (Lin et al. 2018)": {"modes": 841, "KL": 1.00},
        "full size, DCGAN (Srivastava et al. 2017)": {"modes": 99, "KL": 3.40},
        "full size, PacDCGAN2 (Lin et al. 2018)": {"modes": 1000, "KL": 0.06},
        "full size, R3GAN (Huang et al. 2024)": {"modes": 1000, "KL": 0.029}},
    "parzen": {"Goodfellow et al. 2014, table 1": {"nats": 225, "standard error": 2},
               "Mirza and Osindero 2014, table 1": {"nats": 132, "standard error": 1.8}},
}


# A function list_TABLE(out, source, quick), which may be _list_examples(), returns the runs of a
# table, {(run, seed): commands}. A command is a list of words; if it has --out, this flag comes
# last. `out` is the folder for the runs, `source` the flag --data or nothing, `quick` shortens the
# runs. A function read_TABLE(name, commands, outputs) returns the rows that the run `name` adds to
# the table, {row: {figure: value}}.

def list_theory(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "theory": theory.py and dirac.py."""
    quickly = ["--dry-run"] if quick else []
    return {("densities", 0): [["theory.py", *quickly]],
            ("Dirac-GAN", 0): [["dirac.py", *quickly, "--out", os.path.join(out, "dirac")]]}


def read_theory(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the rows of the table that theory.py prints, or the rates in that of dirac.py."""
    rows = {row: {"found": value, "theory": expected} for row, value, expected in
            re.findall(r"^\| (\w.+) \| (\S+) \| (\S+) \|$", outputs[0], re.M)}
    for game, *rates in re.findall(
            r"^(.*?)  .*\((\S+), (\S+)\).*\((\S+), (\S+)\)$", outputs[0], re.M):
        for order, i in (("simultaneous", 0), ("alternating", 2)):
            rows[f"{game}: factor of a step, {order}"] = {
                "found": rates[i], "theory": rates[i + 1]}
    return rows


def list_mixtures(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "mixtures": each has 24,000 discriminator steps, for any game.

    A run takes one to six minutes.
    """
    steps = ["--steps", "10", "--width", "8"] if quick else ["--steps", "24000"]
    return {(f"{mixture}, {game}", seed): [
        ["mixtures.py", "--mixture", mixture, "--game", game, "--seeds", str(seed), *steps,
         "--resume", "--out", os.path.join(out, "mixtures")]]
        for seed in _seeds("mixtures", quick) for mixture in ("ring", "grid") for game in GAMES}


def read_mixtures(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the last measurement that mixtures.py prints."""
    modes, quality, kl = re.findall(r"modes (\d+)  HQ (\S+) %  reverse KL (\S+)", outputs[-1])[-1]
    return {name: {"modes": int(modes), "HQ %": float(quality), "reverse KL": float(kl)}}


def read_first(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read all measures by evaluate.py of a run's samples and of training images."""
    rows = _read_evaluation(name, commands)
    _, floor = rows.values()
    return {row: {"Frechet": table["Frechet"],
                  "times the floor": table["Frechet"] / floor["Frechet"], "KID": table["KID"],
                  "precision": table["precision"], "recall": table["recall"],
                  "classifier score": table["score"], "classes": table["classes"],
                  "rarest class": table["rarest"], "two-sample test": table["two-sample"],
                  "Parzen": table["Parzen"], "nearest": table["nearest"]}
            for row, table in rows.items()}


def read_orders(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the last D(x) and D(G(z)) of the log."""
    last = _read_log(commands[0][-1], "D(x)")[-1]
    return {name: {figure: last[figure] for figure in ("D(x)", "D(G(z))")}}


def read_mnist(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the measures by evaluate.py of a run's samples and of training images."""
    rows = _read_evaluation(name, commands)
    _, floor = rows.values()
    return {row: {"Frechet": table["Frechet"],
                  "times the floor": table["Frechet"] / floor["Frechet"],
                  **{key: table[key] for key in ("KID", "precision", "recall", "classes")}}
            for row, table in rows.items()}


def read_conditional(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the measures of evaluate.py of the samples and of training images, with labels."""
    rows = _read_evaluation(name, commands)
    _, floor = rows.values()
    return {row: {"accuracy %": 100 * table["accuracy"], "Frechet": table["Frechet"],
                  "times the floor": table["Frechet"] / floor["Frechet"],
                  "recall": table["recall"],
                  # missing if no class has ten test images
                  **{key: table.get(key, math.nan) for key in ("class Frechet", "class recall")}}
            for row, table in rows.items()}


def read_infogan(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the measures of evaluate.py of the code, of k-means and of random codes."""
    rows = _read_evaluation(name, commands)
    return {name: {"information": rows["code"]["information"],
                   "code error": rows["code"]["code error"],
                   **_percent(rows["code"], "majority", "one-to-one", "purity"),
                   "Frechet": rows[name]["Frechet"]},
            **{row: _percent(rows[row], "majority", "one-to-one")
               for row in ("k-means", "random codes")}}


def read_bigan(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the measures of evaluate.py of the encoder, of one with random weights, of pixels."""
    rows = _read_evaluation(name, commands)
    return {name: {"ratio": rows["encoder"]["ratio"],
                   **_percent(rows["encoder"], "same class", "1-NN", "features"),
                   "Frechet": rows[name]["Frechet"]},
            f"{name}: random weights": _percent(rows["random weights"], "1-NN", "features"),
            "pixels": _percent(rows["pixels"], "1-NN")}


def read_stacked(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the measures of the samples and of real triples, which stacked_mnist.py prints."""
    found = re.findall(r"^\d+ (.*): modes (\d+)  KL (\S+)  confidence (\S+)$", outputs[0], re.M)
    return {name if of == "samples" else of: {"modes": int(modes), "KL": float(kl),
                                              "confidence": float(confidence)}
            for of, modes, kl, confidence in found}


def read_few(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the least Frechet distance of the log, and the measures at the end of the run."""
    log = _read_log(commands[0][-1], "Frechet")
    least = min(log, key=lambda line: line["Frechet"])
    return {name: {"least Frechet": least["Frechet"], "at step": int(least["step"]),
                   "Frechet": log[-1]["Frechet"], "D(train)": log[-1]["train"],
                   "D(held-out)": log[-1]["held-out"]}}


def read_translations(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the rows of measures that the scripts from image to image print at their end."""
    # of the same data, the rows of inputs, true outputs and so on are the same for all runs
    task = name.partition(",")[0] if "--task" in commands[0] else ""
    return {name if row == "outputs" else f"{task}: {row}" if task else row: measures
            for row, measures in command.read_rows(outputs[0]).items()}


def list_parzen(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "parzen": networks and settings of two papers.

    They are the GAN (Goodfellow et al. 2014) for 1,000 epochs, with simultaneous steps as in its
    code and one seed, the same for 50 epochs with an average over more steps, and the conditional
    GAN (Mirza and Osindero 2014) for 20 epochs. The log-likelihood is measured by the original
    protocol, of G's last weights and of an average of its weights. In the 50 epochs the average is
    measured twenty times.
    """
    def make(script, steps, seed, name, *flags, average="0.999"):
        length = ["--steps", "2", "--batch-size", "10"] if quick else ["--steps", steps]
        return _run_and_measure(
            [*script.split(), "--paper", *length, "--average", average, "--seed", str(seed),
             *source],
            os.path.join(out, f"{name}-{seed}"), "--last", *([] if quick else flags))
    runs = {("Algorithm 1, simultaneous steps", 1): make(
        "gan_mnist.py", "500000", 1, "parzen", "--centroids")}
    for seed in _seeds("parzen", quick):
        runs["GAN, 50 epochs", seed] = make("gan_mnist.py --parzen", "25000", seed,
                                            "short-parzen", average="0.9999")
        runs["conditional GAN, 20 epochs", seed] = make(
            "conditional_mnist.py", "10000", seed, "conditional-parzen")
    return runs


def read_parzen(name: str, commands: list, outputs: list[str]) -> dict[str, dict[str, Any]]:
    """Read the log-likelihoods of the run, of real images and of k-means centroids.

    The row with the name of the run is that of G's last weights. If the average was measured during
    the run, a row has the figure of the step with the largest one of the validation images.
    """
    rows = _read_evaluation(name, commands)
    rows = {name: rows.pop("last weights"), f"{name}, average of G": rows.pop(name), **rows}
    found = {row: (table["Parzen"], table["Parzen error"]) for row, table in rows.items()}
    if "--parzen" in commands[0]:
        best = max(_read_log(commands[0][-1], "validation nats"),
                   key=lambda line: line["validation nats"])
        found[f"{name}, average of G, step chosen by validation"] = (
            best["test nats"], best["standard error"])
    return {row: {"nats": round(mean, 1), "standard error": round(error, 1)}
            for row, (mean, error) in found.items()}


def _read_log(folder, figure):
    """Return the lines of a run's log.csv that have the figure, {column: value}."""
    with open(os.path.join(folder, "log.csv"), newline="") as file:
        return [{name: float(value) for name, value in line.items() if value}
                for line in csv.DictReader(file) if line[figure]]


def _percent(row, *measures):
    """Return {measure in %: value} of the measures that the row has."""
    return {f"{name} %": 100 * row[name] for name in measures if name in row}


def _seeds(table, quick):
    return SEEDS[table][:1] if quick else SEEDS[table]


def _list_examples(table, commands, out, source, quick, less=(), evaluate=True):
    """Return the runs of the commands {name: command} with each seed of the table.

    A quick run is shortened by the flags `less` too. If the script does not measure its samples,
    evaluate.py does. A run has a folder with its name; beside one of the table "mnist" with the
    same name, the table's name is added.
    """
    quickly = ["--steps", "1", "--batch-size", "8", *less] if quick else []
    source = [] if table in DATALESS else source
    runs = {(name, seed): _run_and_measure(
        [*command.split(), *quickly, "--seed", str(seed), *source],
        os.path.join(out, f"{table}, {name}-{seed}" if table != "mnist" and name in MNIST else
                     f"{name}-{seed}"))
        for seed in _seeds(table, quick) for name, command in commands.items()
        if seed in SEEDS[table][:FEWER.get(name)]}
    return runs if evaluate else {key: run[:1] for key, run in runs.items()}


def _run_and_measure(command, folder, *flags):
    """Return two commands: one makes a run in `folder`, the other evaluates it with `flags`."""
    return [[*command, "--out", folder], ["evaluate.py", folder, *flags]]


def _read_evaluation(name, commands):
    """Return {row: measures} of the run `name` and of real images, from evaluation.json."""
    with open(os.path.join(commands[-1][1], "evaluation.json")) as file:
        table = json.load(file)
    return {name if row == "samples" else row: measures
            for row, measures in table["measures"].items()}


# {table: (the function that lists its runs, the function that reads their figures)}
TABLES = {"theory": (list_theory, read_theory),
          "first": (partial(_list_examples, "first", FIRST), read_first),
          "orders": (partial(_list_examples, "orders", ORDERS, evaluate=False), read_orders),
          "mixtures": (list_mixtures, read_mixtures),
          "mnist": (partial(_list_examples, "mnist", MNIST), read_mnist),
          "sngan": (partial(_list_examples, "sngan", SNGAN), read_mnist),
          "parzen": (list_parzen, read_parzen),
          "conditional": (partial(_list_examples, "conditional", CONDITIONAL), read_conditional),
          "infogan": (partial(_list_examples, "infogan", INFOGAN), read_infogan),
          "bigan": (partial(_list_examples, "bigan", BIGAN), read_bigan),
          "stacked": (partial(_list_examples, "stacked", STACKED, less=["--samples", "100"],
                              evaluate=False), read_stacked),
          "few": (partial(_list_examples, "few", FEW, less=["--images", "100"], evaluate=False),
                  read_few),
          **{table: (partial(_list_examples, table, runs, evaluate=False), read_translations)
             for table, runs in (("pix2pix", PIX2PIX), ("cyclegan", CYCLEGAN),
                                 ("stargan", STARGAN))},
          "spade": (partial(_list_examples, "spade", SPADE, less=["--channels", "4"],
                            evaluate=False), read_translations)}


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
        if "--out" in flags and os.path.exists(os.path.join(flags[-1], "checkpoint.npz")):
            if not is_same:
                raise UserError(f"the run in {flags[-1]} is not known to be of the command "
                                f"{typed[0]}: remove it, or choose another --out")
            flags.append("--resume")
        if not outputs:
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
            for key, commands in TABLES[table][0]("runs/reproduce", [], quick).items()}


def make_lines(args: argparse.Namespace, key: tuple[str, int], commands: list[list[str]],
               of: str) -> list[dict[str, Any]]:
    """Do the run `key`, (name, seed), and return its lines for --results, one for each row.

    `of` is the name of the data, from name_data().
    """
    name, seed = key
    folder = commands[0][-1] if "--out" in commands[0] else args.out
    typed = list_commands(args.table, args.quick)[key]
    clock = os.path.join(folder, f"{name}-{seed}.seconds")
    outputs, seconds = run_commands(commands, clock, typed)
    where = "" if of in ("", "MNIST") else f", of {of}"
    return [{"table": args.table, "run": name, "row": f"{row}{where}", "seed": seed, **values,
             **({"seconds": round(seconds)} if row == name and seconds == seconds else {}),
             "data": of, "command": typed,
             "date": datetime.date.today().isoformat(), "machine": command.processor_name(),
             "numpy": np.__version__}
            for row, values in TABLES[args.table][1](name, commands, outputs).items()]


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
    """Return the table as on the page examples/README.md, with a caption.

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
    of = lambda name: ", ".join(map(str, sorted({line[name] for line in lines})))
    done = len({(line["run"], line["seed"]) for line in lines})
    runs = f"{done} of {len(now)} runs so far, " if done < len(now) else ""
    seeds = "seeds" if "," in of("seed") else "seed"
    return "\n".join([*text, "", *textwrap.wrap(
        f"`python examples/reproduce.py {table}`: {runs}{seeds} {of('seed')}, one core of an "
        f"{of('machine')}, numpy {of('numpy')}, {of('date')}.", 100)])


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
    of, place = name_data(args.data) if args.table not in DATALESS else ("", None)
    try:
        with open(args.results, "a"):       # fails now, not after hours
            pass
    except OSError as error:
        raise UserError(f"cannot write {args.results!r} ({error.strerror}): choose another file by "
                        "--results") from None
    lines = select_lines(args.table, read_results(args.results),
                         list_commands(args.table, args.quick))
    done = {(line["run"], line["seed"]) for line in lines if line["data"] == of}
    # given although it may be the default: a run that is resumed would take the data that it had
    source = ["--data", place] if place else []
    runs = {key: commands for key, commands in
            TABLES[args.table][0](args.out, source, args.quick).items() if key not in done}
    print(f"{len(runs)} runs, {len(done)} done before", flush=True)
    begin, count, failed = time.monotonic(), 0, []
    _stopped.clear()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(make_lines, args, *item, of): item[0] for item in runs.items()}
        try:
            for future in concurrent.futures.as_completed(futures):
                name, seed = futures[future]
                try:
                    lines = future.result()
                except UserError as error:
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


if __name__ == "__main__":
    command.main(main)
