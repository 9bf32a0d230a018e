"""The flags of training scripts: their defaults, their presets such as --paper, and --resume."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...backend import UserError
from .saved import NOT_SAVED, find_run, read, script_name


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
    add("--explain", action="version", version=EXPLANATION,     # prints the text and exits
        help="explain the logged numbers in two paragraphs, and exit")
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
share = _number(float, lambda n: 0 <= n <= 1, "a number from 0 to 1")
above_0 = _number(float, lambda n: 0 < n < math.inf, "a number above 0")
from_0 = _number(float, lambda n: 0 <= n < math.inf, "a number of at least 0")


# flags that may have another value when a run is resumed
MAY_CHANGE = {"steps", "data", "backend", "save_every"}


def parse(parser: argparse.ArgumentParser, *free: str) -> argparse.Namespace:
    """Parse the command line and return its flags.

    With --resume, flags that are not given have the values that are saved with the run. Flags that
    are given must have the saved values too, except for those in MAY_CHANGE and in `free`. Raises
    UserError if there is no run to resume, or if it has other flags.
    """
    _set_presets(parser, vars(parser.parse_args()))
    args = parser.parse_args()
    if not args.resume or args.dry_run:
        return args
    settings = read(find_run(args.out)).about["settings"]
    if settings["script"] != script_name():
        raise UserError(f"the run in {args.out} was started by {settings['script']}: resume it "
                        "with that script, or choose another --out")
    there = {name: value for name, value in settings["flags"].items()
             if name in vars(args) and name not in NOT_SAVED}
    if "TINYGAN_BACKEND" in os.environ:         # overrides the saved backend
        there.pop("backend", None)
    _set_presets(parser, there)
    saved = parser.parse_args(to_flags(parser, there))      # so saved values are checked too
    args = parser.parse_args(namespace=saved)               # the command line overrides them
    _refuse_others(args, {name: value for name, value in there.items()
                          if name not in (*MAY_CHANGE, *free)}, parser)
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


EXPLANATION = """\
If D is a discriminator, D(x) and D(G(z)) are the mean probabilities of being real that D gives to
real and to generated images. If both are near 0.5, D cannot tell real from generated images; in
theory, training ends there. If D(x) is near 1 and D(G(z)) near 0, D is ahead of G. A small lead is
normal, but at 0.99 and 0.01 G learns next to nothing. If D's output is no probability (in WGAN,
WGAN-GP, ProGAN, SinGAN, hinge, SNGAN, projection with --paper, LSGAN, CycleGAN, StarGAN, GauGAN,
RSGAN, RaGAN, R3GAN and f-GAN), D(x) and D(G(z)) are mean scores; the larger their difference, the
farther D is ahead. In LAPGAN D(x) and D(G(z)) are means over the levels. In WGAN, WGAN-GP, ProGAN
and SinGAN, W = D(x) - D(G(z)) estimates the distance between the distributions of real and
generated images, and should fall. In f-GAN F is a lower bound on the divergence between them. class
loss is D's loss on the classes of real images (AC-GAN, semi-supervised GAN), and should fall. L_I
is the information about the code that Q reads from a sample, in nats, and code error the mean
squared error of the code's numbers (InfoGAN): the first should rise and the second fall. z error is
the mean squared distance between the noise and what the encoder recovers of it (VEEGAN): it is
z_size if that is nothing, and should fall. In SinGAN L_rec is the mean squared difference between
the picture and its reconstruction. In games from image to image, L1 is the mean absolute difference
between G's output and the true one (pix2pix), L_cyc and L_rec that between an image and its
translation there and back (CycleGAN, StarGAN), L_cls D's loss on the domains of real images
(StarGAN), and features the mean absolute difference of D's layers between G's output and the true
one (GauGAN). All should fall. What else a script measures is explained by its --help. Each printed
number is a mean since the line before. D loss and G loss are what the two players minimise. They
play against each other, so neither loss has to fall while the pictures get better.

A GAN has collapsed if its samples look alike, or if they all change together from a few shapes to a
few others while the losses oscillate. You can see this in training.png, which shows samples of the
same noise from the first step to the last. Training has failed if the losses stay constant, such as
with D(x) = 1 and D(G(z)) = 0, and the pictures no longer change. In either case, try another seed,
a smaller learning rate (--lr, if the script has it), or a game with a penalty on D's gradient or
with spectral normalisation, such as R1 (gan_mnist.py --r1), WGAN-GP or SNGAN."""
