"""Translate digits into outlines and back, without pairs, by CycleGAN (Zhu et al. 2017).

    python examples/cyclegan_mnist.py
    python examples/cyclegan_mnist.py --without cycle       the GAN alone
    python examples/cyclegan_mnist.py --without gan         the cycle alone
    python examples/cyclegan_mnist.py --without backward    the GAN and the forward cycle
    python examples/cyclegan_mnist.py --paper               the paper's networks and settings, two
                                                            of its 200 epochs
    python examples/cyclegan_mnist.py --task none --data two_sets.npz

The images x are digits; the images y are the outlines of other digits (dilation minus erosion). So
the true outline of a digit is known. At the end, 1,000 test images of each set are translated:

    L1          the mean absolute difference of a pixel of G(x) and the true outline, from 0 to 1
    back L1     the same of F(y) and the digit whose outline is y
    overlap %   the pixels above 1/2 in both G(x) and the outline, of those in either
    accuracy %  the F(y) that a classifier takes for the right digit
    cycle L1    the mean absolute difference of F(G(x)) and x

Beside them are the same measures of images that are not translated, of the pixelwise median, and of
digits that are dilated and outlines that are eroded: strokes are so thin that an outline is nearly
the dilated digit, with few dark pixels inside.
Two sets of your own are the arrays "images" and "targets" of an .npz file.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import numpy as np

from tinygan import UserError, command, nn, optim, schedules
from tinygan.data import Minibatches, Split, ZipMinibatches, as_floats, tasks
from tinygan.games import CycleGAN
from tinygan.metrics import mean_difference, overlap
from tinygan.metrics.classifier import classify, load_classifier
from tinygan.networks import patch, resnet

CONTROLS = {"cycle": dict(lam_forward=0.0, lam_backward=0.0), "gan": dict(adversarial=False),
            "forward": dict(lam_forward=0.0), "backward": dict(lam_backward=0.0)}
RECIPE = dict(steps=1200, batch_size=8)
PAPER = dict(steps=50_000, batch_size=1)


def make_networks(x: tuple[int, int, int], y: tuple[int, int, int],
                  paper: bool) -> tuple[nn.Module, ...]:
    """Return G, F, D and D_x for images of the shapes x and y."""
    channels, blocks = (64, 9) if paper else (10, 2)
    G, F = (resnet.generator(a[0], b, channels, blocks) for a, b in ((x, y), (y, x)))
    D, D_x = (patch.discriminator(shape, channels if paper else 2 * channels, 3 if paper else 2,
                                  norm=nn.InstanceNorm2d) for shape in (y, x))
    return G, F, D, D_x


def measure(game: CycleGAN, test: Split, n: int) -> None:
    """Print the measures of n translated images of each set, and what they are compared with."""
    x, y = as_floats(test.images[:n]), as_floats(test["targets"][:n])
    there = game.translate(x)
    rows = {"outputs": (there, game.translate_back(y)), "inputs": (x, y),
            "median": [np.broadcast_to(np.median(a, 0), a.shape) for a in (y, x)],
            "dilated, eroded": (tasks.dilate(x), tasks.erode(y))}
    for name, (forward, backward) in rows.items():
        found = {"L1": mean_difference(forward, y), "back L1": mean_difference(backward, x),
                 "overlap %": 100 * overlap(forward, y)}
        if "digits" in test and x.shape[1:] == (1, 28, 28):
            classes = classify(load_classifier(), backward).p.argmax(1)
            found["accuracy %"] = 100 * (classes == test["digits"][:n]).mean()
        if name == "outputs":
            found["cycle L1"] = mean_difference(game.translate_back(there), x)
        command.print_row(name, found)


def main() -> None:
    """Train with the command line's settings, and measure the translations."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/cyclegan_mnist")
    command.add_task(flags, ["outline"])
    flags.add_argument("--without", choices=CONTROLS, help="a part of the loss that is left out")
    flags.add_argument("--identity", type=command.from_0, default=0.0, metavar="LAM",
                       help="weight of the identity loss (0; the paper's is 10 on this scale)")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        x, y = data.train.images, data.train.require("targets")
        shapes = x.shape[1:], y.shape[1:]
        if shapes[0][1:] != shapes[1][1:]:
            raise UserError(f"the data has images of the shapes {shapes[0]} and {shapes[1]}: give "
                            "two sets of the same height and width")
        game = CycleGAN(*make_networks(*shapes, args.paper), *shapes,
                        lam_identity=args.identity, **CONTROLS.get(args.without, {}))
        half = args.steps / 2
        d_opt, g_opt = (optim.Adam(parameters, schedules.linear(2e-4, 0.0, half, begin=half),
                                   betas=(0.5, 0.999))
                        for parameters in (game.d_parameters(), game.g_parameters()))
        batches = ZipMinibatches(*(Minibatches(a, args.batch_size) for a in (x, y)))
        command.train(args, game, batches, d_opt, g_opt)
        if args.task == "outline" and len(data.test.images):
            measure(game, data.test, 100 if args.dry_run else 1000)


if __name__ == "__main__":
    command.main(main)
