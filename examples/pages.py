"""Write the generated parts of the pages: tables of results.jsonl, and the gallery.

    python examples/pages.py                            the tables and the gallery's layout
    python examples/pages.py --gallery runs/reproduce   the gallery's pictures too, from the runs
                                                        of `reproduce.py`, all tables but theory
                                                        and parzen

A generated part of README.md or examples/README.md lies between the lines <!-- begin: NAME --> and
<!-- end -->. NAME is a table of reproduce.py, "papers" or "gallery".
"""

import os
import pathlib
import re
import shutil
from typing import Any

import mixtures
import numpy as np
import reproduce
import sample

from tinygan import UserError, backend, command, image, load
from tinygan.data import as_floats
from tinygan.data.mixtures import grid
from tinygan.files import write_text
from tinygan.random import Random

ROOT = pathlib.Path(__file__).parent.parent
PAGES = "README.md", "examples/README.md"
# paper, file, command, and the row of a table of reproduce.py that has its figure
PAPERS = [
    ("Goodfellow et al. 2014: GAN", "tinygan/games/gan.py", "gan_mnist.py", "mnist", "GAN"),
    ("Mirza and Osindero 2014: conditional GAN", "tinygan/games/conditional.py",
     "conditional_mnist.py", "conditional", "conditional GAN"),
    ("Radford et al. 2016: DCGAN", "tinygan/networks/dcgan.py", "dcgan_mnist.py", "mnist", "DCGAN"),
    ("Mao et al. 2017: LSGAN", "tinygan/games/lsgan.py", "mixtures.py --game lsgan",
     "mixtures", "grid, lsgan"),
    ("Chen et al. 2016: InfoGAN", "tinygan/games/infogan.py", "infogan_mnist.py --paper", "infogan",
     "InfoGAN, the paper's networks"),
    ("Salimans et al. 2016: feature matching", "tinygan/games/feature_matching.py",
     "mixtures.py --game feature_matching", "mixtures", "grid, feature_matching"),
    ("Salimans et al. 2016: minibatch discrimination", "tinygan/nn/minibatch.py",
     "mixtures.py --game minibatch", "mixtures", "grid, minibatch"),
    ("Metz et al. 2017: unrolled GAN", "tinygan/games/unrolled.py", "mixtures.py --game unrolled",
     "mixtures", "grid, unrolled"),
    ("Lim and Ye 2017: hinge loss", "tinygan/games/hinge.py", "mixtures.py --game hinge",
     "mixtures", "grid, hinge"),
    ("Arjovsky et al. 2017: WGAN", "tinygan/games/wgan.py", "wgan_mnist.py", "mnist", "WGAN"),
    ("Gulrajani et al. 2017: WGAN-GP", "tinygan/games/wgan_gp.py", "wgan_gp_mnist.py",
     "mnist", "WGAN-GP"),
    ("Donahue et al. 2017: BiGAN", "tinygan/games/bigan.py", "bigan_mnist.py", "bigan", "BiGAN"),
    ("Dumoulin et al. 2017: ALI", "tinygan/games/bigan.py", "bigan_mnist.py --ali", "bigan", "ALI"),
    ("Odena et al. 2017: AC-GAN", "tinygan/games/acgan.py", "acgan_mnist.py", "conditional",
     "AC-GAN"),
    ("Isola et al. 2017: pix2pix", "tinygan/games/pix2pix.py", "pix2pix_mnist.py", "pix2pix",
     "L1 + cGAN"),
    ("Zhu et al. 2017: CycleGAN", "tinygan/games/cyclegan.py", "cyclegan_mnist.py", "cyclegan",
     "CycleGAN"),
    ("Miyato et al. 2018: SNGAN", "tinygan/games/sngan.py", "sngan_mnist.py", "mnist", "SNGAN"),
    ("Miyato and Koyama 2018: projection", "tinygan/games/projection.py", "projection_mnist.py",
     "conditional", "projection"),
    ("Mescheder et al. 2018: R1", "tinygan/games/r1.py", "gan_mnist.py --r1", "mnist", "R1"),
    ("Lin et al. 2018: PacGAN", "tinygan/games/pacgan.py",
     "stacked_mnist.py --crippled --game pacgan", "stacked", "small D, PacGAN2"),
    ("Choi et al. 2018: StarGAN", "tinygan/games/stargan.py",
     "stargan_mnist.py --identity 10", "stargan", "identity"),
    ("Jolicoeur-Martineau 2019: RSGAN, RaGAN", "tinygan/games/relativistic.py",
     "dcgan_mnist.py --game ragan", "mnist", "RaGAN"),
    ("Park et al. 2019: GauGAN, SPADE", "tinygan/games/gaugan.py", "spade_scenes.py", "spade",
     "SPADE, instance norm"),
    ("Huang et al. 2024: R3GAN", "tinygan/games/r3gan.py",
     "stacked_mnist.py --crippled --game r3gan", "stacked", "small D, R3GAN"),
]


def make_papers(lines: list[dict[str, Any]]) -> str:
    """Return the table of papers, a row for each."""
    rows = ["| paper | file | command | result |", "|---|---|---|---|"]
    for paper, file, script, table, row in PAPERS:
        now = reproduce.list_commands(table, quick=False)
        found = [line for line in reproduce.select_lines(table, lines, now) if line["row"] == row]
        if len(found) < sum(name == row for name, _ in now):
            found = []
        result = describe_result(table, found) if found else "not measured yet"
        rows.append(f"| {paper} | `{file}` | `python examples/{script}` | {result} |")
    return "\n".join(rows)


def describe_result(table: str, lines: list[dict[str, Any]]) -> str:
    """Return the result of a paper in words, the mean of the lines of a row of a table."""
    def mean(figure):
        return np.mean([line[figure] for line in lines])
    if table == "mixtures":
        return f"{mean('modes'):.3g} of 25 modes, {mean('HQ %'):.0f} % of samples near one"
    if table == "stacked":
        return (f"{mean('modes'):.0f} of 1,000 modes of stacked MNIST with a small D, confidence "
                f"{mean('confidence'):.2f}")
    if table == "spade":
        return (f"{mean('mIoU %'):.0f} % mean IoU of the scenes, {mean('uniform mIoU %'):.0f} % of "
                "maps of one class")
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
    if table == "bigan":
        result += f", G(E(x)) at {mean('ratio'):.2f} times the distance of another image's"
    return result


def name_picture(run: str) -> str:
    """Return the file name of a run's picture in the gallery."""
    return f"{re.sub('[^a-z0-9]+', '_', run.lower())}.png"


def make_gallery() -> str:
    """Return the gallery, a table of pictures with a column for each run on MNIST."""
    names = list(reproduce.MNIST)
    return "\n".join([
        f"| {' | '.join(names)} |", f"{'|---' * len(names)}|",
        f"| {' | '.join(f'![{name}](pictures/{name_picture(name)})' for name in names)} |"])


def save_gallery(folder: str) -> None:
    """Save the gallery's pictures, of the runs of seed 1 in `folder`, for the same noise stream.

    They are 25 samples of each run on MNIST, samples by label of a conditional game and by code of
    InfoGAN, test images with their reconstructions by BiGAN, test images with their translations,
    samples of stacked MNIST, two games on the grid, and curves of the runs on few images.
    """
    pictures = ROOT / "examples" / "pictures"
    for name in reproduce.MNIST:
        game = load(os.path.join(folder, f"{name}-1"))
        image.save_grid(pictures / name_picture(name), game.sample(game.latent(25, Random(0))))
    game = load(os.path.join(folder, "projection, R1-1"))
    images, columns = game.pictures(game.fixed_inputs(None, 120, Random(0)))
    image.save_grid(pictures / "labels.png", images, columns)
    game = load(os.path.join(folder, "InfoGAN, the paper's networks-1"))
    images, columns = game.pictures(game.fixed_inputs(None, 120, Random(0)))
    image.save_grid(pictures / "codes.png", images, columns)
    games = [load(os.path.join(folder, f"{run}-1")) for run in (
        "small D, GAN", "small D, R3GAN", "full size, R1, twice as wide")]
    rows = [backend.to_numpy(game.sample(game.latent(12, Random(0)))) for game in games]
    image.save_grid(pictures / "stacked.png", np.concatenate(rows), 12, scale=2)
    games = [command.load(os.path.join(folder, "mixtures", f"grid-{name}-3"), [mixtures.__file__])
             for name in ("r1", "gan")]
    image.save_grid(pictures / "grid.png", np.stack([
        mixtures.draw(game, grid(), game.latent(2500, Random(2**32)), 128) for game in games]), 2,
        gap=6, scale=2)
    for run, name in (("L1 + cGAN", "pix2pix"), ("CycleGAN", "cyclegan"), ("StarGAN", "stargan")):
        save_translations(os.path.join(folder, f"{run}-1"), pictures / f"{name}.png")
    for run, file, name in (
            ("SPADE, instance norm", "segmented.png", "spade.png"),
            ("1,000 images", "losses.svg", "few.svg"),
            ("1,000 images, translation and cutout", "losses.svg", "few_augmented.svg")):
        shutil.copyfile(os.path.join(folder, f"{run}-1", file), pictures / name)
    run = os.path.join(folder, "BiGAN-1")
    x = as_floats(command.load_data(run).test.images[:32])
    image.save_grid(pictures / "encoded.png", sample.draw_encoded(load(run), x), 12, scale=2,
                    group=3)
    image.save_grid(pictures / "between.png",
                    sample.draw_between(load(run), x[:8], x[8:16], 10), 12)


def save_translations(run: str, path: os.PathLike) -> None:
    """Save the pictures of test images that the game of a run from image to image translates."""
    game = load(run)
    z = game.fixed_inputs(command.load_data(run).test, 48, Random(0))
    image.save_grid(path, *game.pictures(z), scale=2, group=game.group)


def fill_page(page: str, lines: list[dict[str, Any]]) -> str:
    """Return the text of a page with its generated parts made anew from the results `lines`."""
    def make(match):
        name = match[1]
        if name not in ("papers", "gallery", *reproduce.TABLES):
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
    flags.add_argument("--gallery", metavar="DIR", help="the folder with the runs on MNIST")
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
