"""The tables of results: the commands of their rows, and how the figures are read.

reproduce.py does the runs of a table and stores the figures; pages.py writes the tables into the
pages. Seeds were chosen before the first run.
"""

import csv
import json
import math
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan import command

Rows = dict[str, dict[str, Any]]        # {row: {figure: value}}


class Table(NamedTuple):
    """A table of results.

    runs        {run: command}; each run is done with every seed. Or, for runs that differ in more,
                a function (out, source, quick) that returns what list_runs() does
    read        a function (run, commands, outputs) -> the Rows that the run adds to the table
    seeds       the seeds
    fewer       {run: number of seeds}, for runs with fewer seeds than the others
    evaluate    whether evaluate.py measures the samples; else the script itself does
    takes_data  whether the scripts take images
    quick       flags that shorten a quick run, besides --steps 1 and --batch-size 8
    published   the Rows of the papers
    """

    runs: dict[str, str] | Callable
    read: Callable
    seeds: tuple[int, ...] = (1, 2, 3)
    fewer: dict[str, int] = {}
    evaluate: bool = True
    takes_data: bool = True
    quick: tuple[str, ...] = ()
    published: Rows = {}


# Functions that read the figures of a run: of the text that its commands print, or of its files

def read_evaluation(run: str, commands: list) -> Rows:
    """Return the measures of evaluate.py of the run's samples, of training images and so on."""
    with open(os.path.join(commands[-1][1], "evaluation.json")) as file:
        rows = json.load(file)["measures"]
    for measures in rows.values():
        if "Frechet" in measures:
            measures["times the floor"] = measures["Frechet"] / rows["training images"]["Frechet"]
        measures |= {f"{name} %": 100 * value for name, value in measures.items()}
    return {run if row == "samples" else row: measures for row, measures in rows.items()}


def figures_of_samples(*names: str, **renamed: str) -> Callable:
    """Return a function that reads these figures of samples and of training images."""
    def read(run, commands, outputs):
        rows = read_evaluation(run, commands)
        return {row: {figure: rows[row].get(name, math.nan)
                      for figure, name in {**dict(zip(names, names)), **renamed}.items()}
                for row in (run, "training images")}
    return read


def pick(measures: dict[str, float], *names: str) -> dict[str, float]:
    """Return {name: measure} of the measures that there are."""
    return {name: measures[name] for name in names if name in measures}


def read_log(folder: str, figure: str) -> list[dict[str, float]]:
    """Return the lines of a run's log.csv that have the figure, {column: value}."""
    with open(os.path.join(folder, "log.csv"), newline="") as file:
        return [{name: float(value) for name, value in line.items() if value}
                for line in csv.DictReader(file) if line[figure]]


def read_theory(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the rows of the table that theory.py prints, or the rates in that of dirac.py."""
    rows = {row: {"found": value, "theory": expected} for row, value, expected in
            re.findall(r"^\| (\w.+) \| (\S+) \| (\S+) \|$", outputs[0], re.M)}
    for game, *rates in re.findall(
            r"^(.*?)  .*\((\S+), (\S+)\).*\((\S+), (\S+)\)$", outputs[0], re.M):
        for order, i in (("simultaneous", 0), ("alternating", 2)):
            rows[f"{game}: factor of a step, {order}"] = {
                "found": rates[i], "theory": rates[i + 1]}
    return rows


def read_fgan(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the row of a divergence in the table that fgan.py prints."""
    names, _, values = ([cell.strip() for cell in line.split("|")[2:-1]]
                        for line in outputs[0].strip().splitlines())
    return {run: dict(zip(names, map(float, values), strict=True))}


def read_mixtures(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the last measurement that mixtures.py prints."""
    modes, quality, kl = re.findall(r"modes (\d+)  HQ (\S+) %  reverse KL (\S+)", outputs[-1])[-1]
    return {run: {"modes": int(modes), "HQ %": float(quality), "reverse KL": float(kl)}}


def read_orders(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the last D(x) and D(G(z)) of the log."""
    last = read_log(commands[0][-1], "D(x)")[-1]
    return {run: {figure: last[figure] for figure in ("D(x)", "D(G(z))")}}


def read_infogan(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of evaluate.py of the code, of k-means and of random codes."""
    rows = read_evaluation(run, commands)
    return {run: {"information": rows["code"]["information"],
                  "code error": rows["code"]["code error"],
                  **pick(rows["code"], "majority %", "one-to-one %", "purity %"),
                  "Frechet": rows[run]["Frechet"]},
            **{row: pick(rows[row], "majority %", "one-to-one %")
               for row in ("k-means", "random codes")}}


def read_bigan(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of evaluate.py of the encoder, of one with random weights, of pixels."""
    rows = read_evaluation(run, commands)
    return {run: {"ratio": rows["encoder"]["ratio"],
                  **pick(rows["encoder"], "same class %", "1-NN %", "features %"),
                  "Frechet": rows[run]["Frechet"]},
            f"{run}: random weights": pick(rows["random weights"], "1-NN %", "features %"),
            "pixels": pick(rows["pixels"], "1-NN %")}


def read_styles(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of evaluate.py of samples, of mixed and truncated styles, and of paths.

    The class of a mixed sample may be that of the style in the layers of 7x7 pixels (layers 0 and
    1), of 7x7 and 14x14 (0 to 3), or of 28x28 (4 and 5).
    """
    rows = read_evaluation(run, commands)

    # the rows are missing if all samples of an untrained G are of one class
    from_2, from_4 = (rows.get(f"mixed from {k}", {}) for k in (2, 4))
    usual = "Frechet", "precision", "recall"
    return {run: {**pick(rows[run], *usual), "Frechet, mixed": rows["mixed"]["Frechet"],
                  "7x7 %": from_2.get("as z %", math.nan),
                  "7x7, 14x14 %": from_4.get("as z %", math.nan),
                  "28x28 %": from_4.get("as other %", math.nan),
                  "path in z": rows["path in z"]["path length"],
                  "path in w": rows["path in w"]["path length"]},
            f"{run}, psi 0.7": pick(rows["psi 0.7"], *usual),
            "training images": pick(rows["training images"], *usual)}


def read_pyramid(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of evaluate.py of samples, and of reduced test images that G enlarges."""
    rows = read_evaluation(run, commands)
    found = {row: pick(rows[row], "Frechet", "times the floor", "precision", "recall")
             for row in (run, "training images")}
    for row, measures in rows.items():
        if row.startswith("from "):
            found[f"{run}, {row}"] = pick(measures, "Frechet", "details")
        elif row.startswith("blurred "):
            found[row] = pick(measures, "Frechet")
    return found


def read_growing(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of evaluate.py of the samples of each stage.

    They are compared with images of the stage's resolution, as are the training images beside them.
    The row of the run is that of its last stage.
    """
    rows = {}
    for evaluate in commands[1:]:
        found = read_evaluation(run, [evaluate])
        stage = "" if evaluate is commands[-1] else f", {os.path.basename(evaluate[1])}"
        for row in run, "training images":
            rows[row + stage] = pick(found[row], "Frechet", "times the floor", "precision",
                                     "recall")
    return rows


def read_stacked(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the measures of the samples and of real triples, which stacked_mnist.py prints."""
    found = re.findall(r"^\d+ (.*): modes (\d+)  KL (\S+)  confidence (\S+)$", outputs[0], re.M)
    return {run if of == "samples" else of: {"modes": int(modes), "KL": float(kl),
                                             "confidence": float(confidence)}
            for of, modes, kl, confidence in found}


def read_few(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the least Frechet distance of the log, and the measures at the end of the run."""
    log = read_log(commands[0][-1], "Frechet")
    least = min(log, key=lambda line: line["Frechet"])
    return {run: {"least Frechet": least["Frechet"], "at step": int(least["step"]),
                  "Frechet": log[-1]["Frechet"], "D(train)": log[-1]["train"],
                  "D(held-out)": log[-1]["held-out"]}}


def read_labels(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the test error at the end of the run, of the log."""
    return {run: {"test error": read_log(commands[0][-1], "test error")[-1]["test error"]}}


def read_translations(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the rows of measures that the scripts from image to image print at their end."""
    # of the same data, the rows of inputs, true outputs and so on are the same for all runs
    task = run.partition(",")[0] if "--task" in commands[0] else ""
    return {run if row == "outputs" else f"{task}: {row}" if task else row: measures
            for row, measures in command.read_rows(outputs[0]).items()}


def read_single_image(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the rows that singan.py prints; those of pictures without learning have names alone."""
    return {run if row == "samples" else f"{run}, {row}" if row.startswith(("from", "recon")) else
            row: measures for row, measures in command.read_rows(outputs[0]).items()}


def read_parzen(run: str, commands: list, outputs: list[str]) -> Rows:
    """Read the log-likelihoods of the run, of real images and of k-means centroids.

    The row with the name of the run is that of G's last weights. If the average was measured during
    the run, a row has the figure of the step with the largest one of the validation images.
    """
    rows = read_evaluation(run, commands)
    rows = {run: rows.pop("last weights"), f"{run}, average of G": rows.pop(run), **rows}
    found = {row: (table["Parzen"], table["Parzen error"]) for row, table in rows.items()}
    if "--parzen" in commands[0]:
        best = max(read_log(commands[0][-1], "validation nats"),
                   key=lambda line: line["validation nats"])
        found[f"{run}, average of G, step chosen by validation"] = (
            best["test nats"], best["standard error"])
    return {row: {"nats": round(mean, 1), "standard error": round(error, 1)}
            for row, (mean, error) in found.items()}


# The runs of a table

def list_runs(name: str, out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """Return {(run, seed): commands} of the table `name`.

    out      the folder for the runs
    source   the flag --data, or nothing
    quick    whether to list only one seed, with few steps

    A command is a list of words; if it has --out, this flag comes last. The folder of a run has its
    name, after that of the table if the table "mnist" has a run of the same name.
    """
    table = TABLES[name]
    if callable(table.runs):
        return table.runs(out, source, quick)
    short = ["--steps", "1", "--batch-size", "8", *table.quick] if quick else []
    runs = {}
    for seed in table.seeds[:1] if quick else table.seeds:
        for run, words in table.runs.items():
            if seed in table.seeds[:table.fewer.get(run)]:
                there = f"{name}, {run}" if name != "mnist" and run in TABLES["mnist"].runs else run
                commands = run_and_measure(
                    [*words.split(), *short, "--seed", str(seed),
                     *(source if table.takes_data else [])], os.path.join(out, f"{there}-{seed}"))
                runs[run, seed] = commands if table.evaluate else commands[:1]
    return runs


def run_and_measure(command: list[str], folder: str, *flags: str) -> list[list[str]]:
    """Return two commands: one makes a run in `folder`, the other evaluates it with `flags`."""
    return [[*command, "--out", folder], ["evaluate.py", folder, *flags]]


def list_theory(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "theory": theory.py and dirac.py."""
    quickly = ["--dry-run"] if quick else []
    return {("densities", 0): [["theory.py", *quickly]],
            ("Dirac-GAN", 0): [["dirac.py", *quickly, "--out", os.path.join(out, "dirac")]]}


def list_fgan(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "fgan": each divergence with each seed."""
    quickly = ["--steps", "2"] if quick else []
    return {(name, seed): [["fgan.py", "--divergence", name, "--seed", str(seed), *quickly]]
            for seed in ((2,) if quick else (2, 3, 4))     # the mixture was chosen on 0 and 1
            for name in ("kl", "reverse_kl", "pearson", "neyman", "hellinger", "jensen_shannon")}


def list_mixtures(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "mixtures": each has 24,000 discriminator steps, for any game.

    A run takes one to seven minutes.
    """
    steps = ["--steps", "10", "--width", "8"] if quick else ["--steps", "24000"]
    return {(f"{mixture}, {game}", seed): [
        ["mixtures.py", "--mixture", mixture, "--game", game, "--seeds", str(seed), *steps,
         "--resume", "--out", os.path.join(out, "mixtures")]]
        for seed in (MANY[:1] if quick else MANY) for mixture in ("ring", "grid") for game in GAMES}


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
        return run_and_measure(
            [*script.split(), "--paper", *length, "--average", average, "--seed", str(seed),
             *source],
            os.path.join(out, f"{name}-{seed}"), "--last", *([] if quick else flags))
    runs = {("Algorithm 1, simultaneous steps", 1): make(
        "gan_mnist.py", "500000", 1, "parzen", "--centroids")}
    for seed in ((1,) if quick else (1, 2, 3)):
        runs["GAN, 50 epochs", seed] = make("gan_mnist.py --parzen", "25000", seed,
                                            "short-parzen", average="0.9999")
        runs["conditional GAN, 20 epochs", seed] = make(
            "conditional_mnist.py", "10000", seed, "conditional-parzen")
    return runs


def list_growing(out: str, source: list[str], quick: bool) -> dict[tuple[str, int], list]:
    """List the runs of the table "growing", whose stages are measured one by one.

    Without growing, the networks of the last stage are trained from the start, for about as long.
    """
    runs = {}
    for seed in (1,) if quick else (1, 2, 3):
        for run, stages, flags in (("ProGAN", ("7x7", "14x14", "28x28"), []),
                                   ("without growing", ("28x28",),
                                    ["--no-growing", "--steps", "3300"])):
            folder = os.path.join(out, f"{run}-{seed}")
            short = ["--steps", "1", "--batch-size", "8"] if quick else []
            runs[run, seed] = [
                ["progan_mnist.py", *flags, *short, "--seed", str(seed), *source, "--out", folder],
                *(["evaluate.py", os.path.join(folder, stage)] for stage in stages)]
    return runs


GAMES = ("saturating", "gan", "fgan", "lsgan", "hinge", "rsgan", "wgan", "wgan_gp", "sngan",
         "ragan", "r1", "feature_matching", "minibatch", "unrolled", "ali", "veegan", "pacgan",
         "r3gan")
MANY = 1, 2, 3, 4, 5
MNIST_FIGURES = figures_of_samples("Frechet", "times the floor", "KID", "precision", "recall",
                                   "classes")
TABLES = {
    "theory": Table(list_theory, read_theory, takes_data=False),
    "fgan": Table(list_fgan, read_fgan, takes_data=False),
    "first": Table(
        {"gan_mnist.py": "gan_mnist.py"},
        figures_of_samples("Frechet", "times the floor", "KID", "precision", "recall", **{
            "classifier score": "score", "classes": "classes", "rarest class": "rarest",
            "two-sample test": "two-sample", "Parzen": "Parzen", "nearest": "nearest"}),
        seeds=(0, 1)),
    # eight epochs; simultaneous is the script's order with --paper
    "orders": Table({
        "simultaneous": "gan_mnist.py --paper --steps 4000",
        "alternating": "gan_mnist.py --paper --steps 4000 --order alternating",
    }, read_orders, seeds=MANY, evaluate=False),
    "mixtures": Table(list_mixtures, read_mixtures, takes_data=False, published={
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
    }),
    # six or seven minutes on one core, but for "twice as wide" and the paper's settings; the
    # settings of the recipes were found on seed 0
    "mnist": Table({
        "GAN": "gan_mnist.py --steps 14000 --average 0.998",
        "DCGAN": "dcgan_mnist.py",
        "DCGAN, the paper's settings": "dcgan_mnist.py --paper --average 0.998",
        "RaGAN": "dcgan_mnist.py --game ragan",
        "WGAN": "wgan_mnist.py",
        "WGAN-GP": "wgan_gp_mnist.py",
        "SNGAN": "sngan_mnist.py",
        "R1": "gan_mnist.py --r1",
        "R1, lazy, as many steps": "gan_mnist.py --r1 --lazy 16",
        "R1, lazy, as long": "gan_mnist.py --r1 --lazy 16 --steps 16300",
        "R1, twice as wide": "gan_mnist.py --r1 --width 2 --steps 15000",
    }, MNIST_FIGURES),
    # the paper's settings, with narrower networks and fewer steps
    "sngan": Table({
        "SNGAN, 16 channels": "sngan_mnist.py --paper --channels 16 --steps 1000",
        "SNGAN, 32 channels": "sngan_mnist.py --paper --channels 32 --steps 1000",
    }, MNIST_FIGURES, fewer={"SNGAN, 32 channels": 1}),
    "parzen": Table(list_parzen, read_parzen, published={
        "Goodfellow et al. 2014, table 1": {"nats": 225, "standard error": 2},
        "Mirza and Osindero 2014, table 1": {"nats": 132, "standard error": 1.8},
    }),
    # the recipes of games with labels; the settings were found on seed 0
    "conditional": Table({
        "conditional GAN": "conditional_mnist.py --steps 4500 --average 0.998",
        "AC-GAN": "acgan_mnist.py --steps 4500 --average 0.998",
        "AC-GAN, D's class loss on data alone": "acgan_mnist.py --reals-only --steps 4500 "
            "--average 0.998",
        "projection": "projection_mnist.py --steps 4500 --average 0.998",
        "projection, R1": "projection_mnist.py --r1 --average 0.998",
        "SAGAN": "sagan_mnist.py",
        "SAGAN, a residual block in place of attention": "sagan_mnist.py --block residual",
        "SAGAN without attention": "sagan_mnist.py --block none",
    }, figures_of_samples("accuracy %", "Frechet", "times the floor", "recall", "class Frechet",
                          "class recall")),
    # the recipe, and the control; the weight lam was found on the seeds 100 to 103
    "infogan": Table({
        "InfoGAN": "infogan_mnist.py --steps 3000 --average 0.998",
        "Q on the side": "infogan_mnist.py --side --steps 3000 --average 0.998",
        "InfoGAN, the paper's networks": "infogan_mnist.py --paper --average 0.998",
    }, read_infogan, seeds=tuple(range(1, 11)),
        fewer={"Q on the side": 3, "InfoGAN, the paper's networks": 3},
        published={"Chen et al. 2016, section 7.2": {"one-to-one %": 95}}),
    # the settings of the recipes were found on seed 0; the last has 165 epochs
    "bigan": Table({
        "BiGAN": "bigan_mnist.py --steps 6000 --average 0.998",
        "ALI": "bigan_mnist.py --ali --steps 6000 --average 0.998",
        "BiGAN, the paper's networks": "bigan_mnist.py --paper --steps 64350 --average 0.999",
    }, read_bigan, fewer={"BiGAN, the paper's networks": 1}, published={
        "Donahue et al. 2017, published log": {"ratio": 0.62, "1-NN %": 92.1,
                                               "features %": 97.35}}),
    # the small D of Metz et al. 2017, with which methods differ; full size
    "stacked": Table({
        "small D, GAN": "stacked_mnist.py --crippled --game gan --average 0.999",
        "small D, minibatch discrimination": "stacked_mnist.py --crippled --game minibatch "
            "--average 0.999",
        "small D, PacGAN2": "stacked_mnist.py --crippled --game pacgan --average 0.999",
        "small D, R3GAN": "stacked_mnist.py --crippled --game r3gan --average 0.999",
        "full size, R1": "stacked_mnist.py --average 0.999",
        "full size, R1, twice as wide": "stacked_mnist.py --width 2 --steps 25000 --average 0.999",
    }, read_stacked, evaluate=False, quick=("--samples", "100"), published={
        # those with a small D are of 500,000 steps
        "small D, GAN (Metz et al. 2017)": {"modes": 628, "KL": 2.58},
        "small D, unrolled 10 (Metz et al. 2017)": {"modes": 817, "KL": 1.43},
        "small D, GAN (Lin et al. 2018)": {"modes": 488, "KL": 2.24},
        "small D, PacGAN2 (Lin et al. 2018)": {"modes": 841, "KL": 1.00},
        "full size, DCGAN (Srivastava et al. 2017)": {"modes": 99, "KL": 3.40},
        "full size, PacDCGAN2 (Lin et al. 2018)": {"modes": 1000, "KL": 0.06},
        "full size, R3GAN (Huang et al. 2024)": {"modes": 1000, "KL": 0.029},
    }),
    # the settings of the recipe were found on seed 0
    "styles": Table({
        "StyleGAN": "stylegan_mnist.py",
        "StyleGAN, trained without mixing": "stylegan_mnist.py --mixing 0",
    }, read_styles),
    # the settings of the recipe were found on seed 0; with one level, its networks are trained on
    # whole images, for about as long
    "pyramid": Table({
        "LAPGAN": "lapgan_mnist.py",
        "one level": "lapgan_mnist.py --levels 1 --steps 22000",
    }, read_pyramid),
    # the settings of the recipe were found on seed 0
    "growing": Table(list_growing, read_growing),
    # the settings of the recipe were found on seed 0
    "singan": Table({
        "SinGAN": "singan.py",
        "coarsest scale of 24 pixels": "singan.py --least 24",
        "without L_rec": "singan.py --alpha 0",
    }, read_single_image, evaluate=False, takes_data=False,
        quick=("--channels", "4", "--batch-size", "1")),
    "few": Table({
        "1,000 images": "few_mnist.py --average 0.998",
        "1,000 images, translation and cutout": "few_mnist.py --augment --average 0.998",
    }, read_few, evaluate=False, quick=("--images", "100")),
    # the paper's settings, but for fewer steps and a learning rate that falls at the end; with
    # "labels alone" D learns nothing of the other images. The published code tests an average of D
    "labels": Table({
        "100 labels": "semi_supervised_mnist.py",
        "100 labels alone": "semi_supervised_mnist.py --lam 0 --steps 2000",
    }, read_labels, evaluate=False, published={
        "100 labels (Salimans et al. 2016, table 1)": {"test error": 0.93},
    }),
    "pix2pix": Table({
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
    }, read_translations, evaluate=False),
    "cyclegan": Table({
        "CycleGAN": "cyclegan_mnist.py",
        "GAN alone": "cyclegan_mnist.py --without cycle",
        "cycle alone": "cyclegan_mnist.py --without gan",
        "GAN and forward cycle": "cyclegan_mnist.py --without backward",
    }, read_translations, evaluate=False),
    "stargan": Table({
        "StarGAN": "stargan_mnist.py",
        "identity": "stargan_mnist.py --identity 10",
        "no reconstruction": "stargan_mnist.py --rec 0",
        "WGAN-GP": "stargan_mnist.py --wgan-gp",
        "WGAN-GP, identity": "stargan_mnist.py --wgan-gp --identity 10",
        "colours": "stargan_mnist.py --task colours",
        "colours, identity": "stargan_mnist.py --task colours --identity 10",
    }, read_translations, evaluate=False),
    # the channels give the rows nearly the same number of parameters
    "spade": Table({
        "SPADE, instance norm": "spade_scenes.py",
        "SPADE, batch norm": "spade_scenes.py --norm batch",
        "map joined, instance norm": "spade_scenes.py --join --channels 19",
        "map joined, batch norm": "spade_scenes.py --join --channels 19 --norm batch",
    }, read_translations, evaluate=False, takes_data=False, quick=("--channels", "4")),
}
