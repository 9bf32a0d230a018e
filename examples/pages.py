"""Write the generated parts of the pages: tables of results.jsonl, and the gallery.

    python examples/pages.py                            the tables and the gallery's layout
    python examples/pages.py --gallery runs/reproduce   the pages' pictures too, of those runs of
                                                        `reproduce.py` that are in the folder;
                                                        but not training.png and losses.svg

A generated part of the pages in PAGES lies between the lines <!-- begin: NAME --> and
<!-- end -->. NAME is a table of reproduce.py, "papers" or "gallery".
"""

import os
import pathlib
import re
import shutil
from functools import partial
from typing import Any

import mixtures
import numpy as np
import reproduce
import sample
from tables import TABLES

from tinygan import UserError, backend, checkpoint, command, image, load
from tinygan.data import as_floats
from tinygan.data.mixtures import grid
from tinygan.files import write_text
from tinygan.random import Random

ROOT = pathlib.Path(__file__).parent.parent
PAGES = "README.md", "examples/README.md", "examples/results.md"
# paper, file, and the table and row of reproduce.py that have its command and its result
PAPERS = [
    ("Goodfellow et al. 2014: GAN", "tinygan/games/gan.py", "mnist", "GAN"),
    ("Mirza and Osindero 2014: conditional GAN", "tinygan/games/conditional.py",
     "conditional", "conditional GAN"),
    ("Denton et al. 2015: LAPGAN", "tinygan/games/lapgan.py", "pyramid", "LAPGAN"),
    ("Nowozin et al. 2016: f-GAN", "tinygan/games/fgan.py", "fgan", "kl"),
    ("Radford et al. 2016: DCGAN", "tinygan/networks/dcgan.py", "mnist", "DCGAN"),
    ("Mao et al. 2017: LSGAN", "tinygan/games/lsgan.py", "mixtures", "grid, lsgan"),
    ("Chen et al. 2016: InfoGAN", "tinygan/games/infogan.py",
     "infogan", "InfoGAN, the paper's networks"),
    ("Salimans et al. 2016: feature matching", "tinygan/games/feature_matching.py",
     "mixtures", "grid, feature_matching"),
    ("Salimans et al. 2016: minibatch discrimination", "tinygan/nn/minibatch.py",
     "mixtures", "grid, minibatch"),
    ("Salimans et al. 2016: semi-supervised learning", "tinygan/games/semi_supervised.py",
     "labels", "100 labels"),
    ("Metz et al. 2017: unrolled GAN", "tinygan/games/unrolled.py", "mixtures", "grid, unrolled"),
    ("Lim and Ye 2017: hinge loss", "tinygan/games/hinge.py", "mixtures", "grid, hinge"),
    ("Arjovsky et al. 2017: WGAN", "tinygan/games/wgan.py", "mnist", "WGAN"),
    ("Gulrajani et al. 2017: WGAN-GP", "tinygan/games/wgan_gp.py", "mnist", "WGAN-GP"),
    ("Donahue et al. 2017: BiGAN", "tinygan/games/bigan.py", "bigan", "BiGAN"),
    ("Dumoulin et al. 2017: ALI", "tinygan/games/bigan.py", "bigan", "ALI"),
    ("Srivastava et al. 2017: VEEGAN", "tinygan/games/veegan.py", "mixtures", "grid, veegan"),
    ("Odena et al. 2017: AC-GAN", "tinygan/games/acgan.py", "conditional", "AC-GAN"),
    ("Isola et al. 2017: pix2pix", "tinygan/games/pix2pix.py", "pix2pix", "L1 + cGAN"),
    ("Zhu et al. 2017: CycleGAN", "tinygan/games/cyclegan.py", "cyclegan", "CycleGAN"),
    ("Miyato et al. 2018: SNGAN", "tinygan/games/sngan.py", "mnist", "SNGAN"),
    ("Miyato and Koyama 2018: projection", "tinygan/games/projection.py",
     "conditional", "projection"),
    ("Mescheder et al. 2018: R1", "tinygan/games/r1.py", "mnist", "R1"),
    ("Lin et al. 2018: PacGAN", "tinygan/games/pacgan.py", "stacked", "small D, PacGAN2"),
    ("Choi et al. 2018: StarGAN", "tinygan/games/stargan.py", "stargan", "identity"),
    ("Karras et al. 2018: ProGAN", "tinygan/games/progan.py", "growing", "ProGAN"),
    ("Jolicoeur-Martineau 2019: RSGAN, RaGAN", "tinygan/games/relativistic.py", "mnist", "RaGAN"),
    ("Zhang et al. 2019: SAGAN", "tinygan/nn/attention.py", "conditional", "SAGAN"),
    ("Park et al. 2019: GauGAN, SPADE", "tinygan/games/gaugan.py", "spade", "SPADE, instance norm"),
    ("Shaham et al. 2019: SinGAN", "tinygan/games/singan.py", "singan", "SinGAN"),
    ("Karras et al. 2019: StyleGAN", "tinygan/networks/stylegan.py", "styles", "StyleGAN"),
    ("Huang et al. 2024: R3GAN", "tinygan/games/r3gan.py", "stacked", "small D, R3GAN"),
]


def make_papers(lines: list[dict[str, Any]]) -> str:
    """Return the table of papers, a row for each, with the command that gives the result."""
    rows = ["| paper | file | command | result |", "|---|---|---|---|"]
    for paper, file, table, row in PAPERS:
        commands = reproduce.list_commands(table, quick=False)
        now = {seed: each for (name, seed), each in commands.items() if name == row}
        if not now:
            raise UserError(f"reproduce.py has no row {row!r} in the table {table!r}: correct the "
                            f"line of {paper} in PAPERS, or add the row")
        found = [line for line in reproduce.select_lines(table, lines, commands)
                 if line["row"] == row]
        result = describe_result(table, found) if len(found) == len(now) else "not measured yet"
        # the first command of a run, without the flags that differ from seed to seed
        words = re.sub(r" --(seeds? \d+|resume|out .*)", "", next(iter(now.values()))[0])
        rows.append(f"| {paper} | `{file}` | `python examples/{words}` | {result} |")
    return "\n".join(rows)


def describe_result(table: str, lines: list[dict[str, Any]]) -> str:
    """Return the result of a paper in words, the mean of the lines of a row of a table."""
    def mean(figure):
        return np.mean([line[figure] for line in lines])
    if table == "mixtures":
        return f"{mean('modes'):.3g} of 25 modes, {mean('HQ %'):.0f} % of samples near one"
    if table == "fgan":
        return (f"a Gaussian fitted to a mixture has the deviation {mean('deviation'):.3f}, the "
                f"best one {mean('best deviation'):.3f}")
    if table == "stacked":
        return (f"{mean('modes'):.0f} of 1,000 modes of stacked MNIST with a small D, confidence "
                f"{mean('confidence'):.2f}")
    if table == "spade":
        return (f"{mean('mIoU %'):.0f} % mean IoU of the scenes, {mean('uniform mIoU %'):.0f} % of "
                "maps of one class")
    if table == "singan":
        return (f"samples of one picture: SIFID {mean('SIFID'):.2g}, diversity "
                f"{mean('diversity'):.2f}")
    if table == "labels":
        return f"D names {mean('test error'):.2g} % of the test images wrong, from 100 labels"
    if table in ("cyclegan", "stargan"):
        more = ", with an identity term" if table == "stargan" else ""
        return f"mean difference to the true image {mean('L1'):.3f} of 1{more}"
    result = f"Fréchet distance {mean('Frechet'):.3g}"
    if table == "pix2pix":
        result += f" of completed digits, mean difference {mean('L1'):.3f} of 1"
    if table == "conditional":
        result += f", {mean('accuracy %'):.1f} % of labels right"
    if table == "infogan":
        result += f", codes name {mean('majority %'):.0f} % of the digits"
    if table == "styles":
        result += (", mixed samples show the digit of the style at 7x7 and 14x14 pixels in "
                   f"{mean('7x7, 14x14 %'):.0f} %")
    if table == "bigan":
        result += (f", x is {mean('ratio'):.2f} times as far from its reconstruction G(E(x)) as "
                   "from another image's")
    return result


def name_picture(run: str) -> str:
    """Return the file name of a run's picture in the gallery."""
    return f"{re.sub('[^a-z0-9]+', '_', run.lower())}.png"


def make_gallery() -> str:
    """Return the gallery, a table with a column for each run on MNIST that has a picture."""
    names = [name for name in TABLES["mnist"].runs
             if (ROOT / "examples" / "pictures" / name_picture(name)).exists()]
    return "\n".join([
        f"| {' | '.join(names)} |", f"{'|---' * len(names)}|",
        f"| {' | '.join(f'![{name}](pictures/{name_picture(name)})' for name in names)} |"])


def save_gallery(folder: str) -> None:
    """Save the pictures of the pages whose runs are in `folder`, for the same noise stream.

    The runs are those of seed 1, on the grid of seed 3.
    """
    pictures = {
        **{name_picture(name): (save_samples, name) for name in TABLES["mnist"].runs},
        "labels.png": (save_rows, "projection, R1"),
        "attention.png": (save_attention, "SAGAN"),
        "codes.png": (save_rows, "InfoGAN, the paper's networks"),
        "stacked.png": (save_row_of_each, "small D, GAN", "small D, R3GAN",
                        "full size, R1, twice as wide"),
        "grid.png": (save_planes, "mixtures/grid-r1-3", "mixtures/grid-gan-3"),
        "pix2pix.png": (save_groups, "L1 + cGAN"),
        "cyclegan.png": (save_groups, "CycleGAN"),
        "stargan.png": (save_groups, "StarGAN"),
        "spade.png": (partial(copy_file, "segmented.png"), "SPADE, instance norm"),
        "few.svg": (partial(copy_file, "losses.svg"), "1,000 images"),
        "few_augmented.svg": (partial(copy_file, "losses.svg"),
                              "1,000 images, translation and cutout"),
        "pyramid.png": (save_groups, "LAPGAN"),
        "growing.png": (save_row_of_each, "ProGAN-1/7x7", "ProGAN-1/14x14", "ProGAN-1/28x28"),
        "styles.png": (save_mixed, "StyleGAN"),
        "singan.png": (save_variants, "SinGAN-1/48x48"),
        "singan_wide.png": (partial(copy_file, "../wide.png"), "SinGAN-1/48x48"),
        "encoded.png": (save_encoded, "BiGAN"),
        "between.png": (save_between, "BiGAN")}
    for picture, (save, *names) in pictures.items():
        runs = [os.path.join(folder, name if "/" in name else f"{name}-1") for name in names]
        if missing := [run for run in runs
                       if not os.path.exists(os.path.join(run, checkpoint.NAME))]:
            print(f"{picture}: left as it is, since there is no run in {missing[0]}")
        else:
            save(ROOT / "examples" / "pictures" / picture, *runs)


def save_samples(path: os.PathLike, run: str) -> None:
    """Save 25 samples of a run."""
    game = load(run)
    image.save_grid(path, game.sample(game.latent(25, Random(0))))


def save_rows(path: os.PathLike, run: str) -> None:
    """Save the rows of samples, by label or by code, that a run's game shows."""
    game = load(run)
    images, columns = game.pictures(game.fixed_inputs(None, 120, Random(0)))
    image.save_grid(path, images, columns)


def save_row_of_each(path: os.PathLike, *runs: str) -> None:
    """Save a row of 12 samples of each run, or stage, for the same noise."""
    rows = [backend.to_numpy(game.sample(game.latent(12, Random(0)))) for game in map(load, runs)]
    image.save_grid(path, np.concatenate(rows), 12, scale=2)


def save_attention(path: os.PathLike, run: str) -> None:
    """Save five samples with what three pixels of each attend to."""
    game = load(run)
    z = sample.draw_inputs(game, None, 5, None, Random(0))
    image.save_grid(path, sample.draw_attention(game, z), 6, scale=2, group=2)


def save_mixed(path: os.PathLike, run: str) -> None:
    """Save two squares of samples whose styles are mixed, from layer 2 on and from layer 4 on."""
    game = load(run)
    z, other = (game.latent(6, Random(seed)).numpy() for seed in (0, 1))
    squares = [np.split(sample.draw_mixed(game, z, other, k), 7) for k in (2, 4)]
    rows = [row for pair in zip(*squares) for row in pair]
    image.save_grid(path, np.concatenate(rows), 14, scale=2)


def save_planes(path: os.PathLike, *runs: str) -> None:
    """Save the pictures of runs on the grid of Gaussians side by side."""
    games = [command.load(run, [mixtures.__file__]) for run in runs]
    image.save_grid(path, np.stack([mixtures.draw(
        game, grid(), game.latent(2500, Random(2**32)), 128) for game in games]), 2, gap=6, scale=2)


def save_variants(path: os.PathLike, run: str) -> None:
    """Save a picture, five samples of its game, and one that varies from the second scale on."""
    game, rng = load(run), Random(0)
    shown = [as_floats(command.load_data(run).train.images[:1]),
             *(backend.to_numpy(game.sample(z)) for z in (
                 game.latent(5, rng), game.vary(1, rng, game.N - 1)))]
    image.save_grid(path, np.concatenate(shown), 8)


def copy_file(name: str, path: os.PathLike, run: str) -> None:
    """Copy a file of a run."""
    shutil.copyfile(os.path.join(run, name), path)


def save_encoded(path: os.PathLike, run: str) -> None:
    """Save test images with their codes and reconstructions by the encoder of a run."""
    x = as_floats(command.load_data(run).test.images[:32])
    image.save_grid(path, sample.draw_encoded(load(run), x), 12, scale=2, group=3)


def save_between(path: os.PathLike, run: str) -> None:
    """Save the samples between the codes of test images."""
    x = as_floats(command.load_data(run).test.images[:16])
    image.save_grid(path, sample.draw_between(load(run), x[:8], x[8:], 10), 12)


def save_groups(path: os.PathLike, run: str) -> None:
    """Save the groups of pictures that a run's game shows, such as inputs and their outputs."""
    game = load(run)
    z = game.fixed_inputs(command.load_data(run).test, 48, Random(0))
    image.save_grid(path, *game.pictures(z), scale=2, group=game.group)


def fill_page(page: str, lines: list[dict[str, Any]]) -> str:
    """Return the text of a page with its generated parts made anew from the results `lines`."""
    def make(match):
        name = match[1]
        if name not in ("papers", "gallery", *TABLES):
            raise UserError(f"a page asks for the part {name!r}: name it papers, gallery or as a "
                            "table of reproduce.py")
        part = (make_papers(lines) if name == "papers" else
                make_gallery() if name == "gallery" else reproduce.make_table(name, lines))
        return f"<!-- begin: {name} -->\n{part}\n<!-- end -->"
    return re.sub(r"<!-- begin: (\w+) -->\n(?:(?!<!-- begin: ).)*?<!-- end -->", make, page,
                  flags=re.S)


def main() -> None:
    """Write the pages."""
    flags = command.make_parser(__doc__)
    flags.add_argument("--gallery", metavar="DIR", help="the folder with the runs")
    flags.add_argument("--dry-run", action="store_true", help="write nothing")
    args = flags.parse_args()
    if args.gallery and not args.dry_run:
        save_gallery(args.gallery)
    lines = reproduce.read_results(ROOT / "examples" / "results.jsonl")
    if not lines:
        raise UserError("examples/results.jsonl is missing, so the tables would be empty")
    for name in PAGES:
        page = (ROOT / name).read_text(encoding="utf-8")
        filled = fill_page(page, lines)
        print(f"{name}: {'unchanged' if filled == page else 'changed'}")
        if not args.dry_run:
            write_text(ROOT / name, filled)


if __name__ == "__main__":
    command.main(main)
