"""Train a pyramid of GANs on MNIST (Denton et al. 2015): from coarse images to their details.

    python examples/lapgan_mnist.py             the recipe: three levels, 14 minutes on one core
    python examples/lapgan_mnist.py --levels 1 --steps 22000
                                                the networks of the coarsest level, for whole
                                                images, for about as long

The coarsest level is a GAN that draws images of 7x7 pixels. The two others draw the details that
turn an enlarged image of 7x7 pixels into one of 14x14, and one of 14x14 into one of 28x28. Each
step trains all levels, and a level gets images of the data alone as its inputs. A sample is drawn
level by level: samples.png shows each sample at 7x7, 14x14 and 28x28 pixels, side by side.

D has the penalty R1 (Mescheder et al. 2018). The published code has dropout in D instead, larger
networks, gradient descent with momentum in place of Adam, and images whose pixels are standardised.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import math

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import LAPGAN, penalties
from tinygan.networks import digits, pyramid

RECIPE = dict(steps=6000, batch_size=64, average=0.998)
Z_SIZE = 100
# of the levels from the finest on; further levels have the settings of the last
SETTINGS = dict(channels=8, kernel=3), dict(channels=32, kernel=5)
LR = 2e-3
GAMMA = 0.3         # the weight of R1 in each level


def make_fine(shape: tuple[int, int, int], channels: int, kernel: int) -> tuple:
    """Return G and D of a level with details: G from noise and blurred images to details."""
    def conv(c_in, c_out):
        return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)
    colours = shape[0]
    G = nn.Sequential(nn.JoinMap(), conv(1 + colours, channels), nn.ReLU(),
                      conv(channels, channels), nn.ReLU(), conv(channels, colours))
    return G, digits.discriminator(shape, batch_norm=False, channels=channels)


def make_coarse(shape: tuple[int, int, int], hidden: int = 512) -> tuple:
    """Return G and D of the coarsest level: G from noise to images."""
    pixels = math.prod(shape)
    G = nn.Sequential(nn.Dense(Z_SIZE, hidden), nn.ReLU(), nn.Dense(hidden, hidden), nn.ReLU(),
                      nn.Dense(hidden, pixels), nn.Sigmoid(), nn.Reshape(*shape))
    D = nn.Sequential(nn.Flatten(), nn.Dense(pixels, hidden), nn.LeakyReLU(0.2),
                      nn.Dense(hidden, hidden), nn.LeakyReLU(0.2), nn.Dense(hidden, 1))
    return G, D


def make_networks(shape: tuple[int, int, int],
                  levels: int) -> tuple[pyramid.Generator, pyramid.Discriminator]:
    """Return G and D of a pyramid for images of `shape`, (C, H, W)."""
    *finer, coarsest = pyramid.list_shapes(shape, levels)
    pairs = [make_fine(each, **SETTINGS[min(k, len(SETTINGS) - 1)]) for k, each in enumerate(finer)]
    Gs, Ds = zip(*pairs, make_coarse(coarsest))
    return pyramid.Generator(shape, *Gs), pyramid.Discriminator(*Ds)


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/lapgan_mnist")
    flags.add_argument("--levels", type=command.positive, default=3,
                       help="number of levels, each of half the resolution of the one before (3)")
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images
        G, D = make_networks(images.shape[1:], args.levels)
        # in each of n levels R1(gamma) has the weight gamma / n, see LAPGAN
        game = LAPGAN(G, D, Z_SIZE, penalties=[penalties.R1(GAMMA * args.levels)])
        d_opt, g_opt = (optim.Adam(player.parameters(), schedules.cosine(LR, 0.0, args.steps),
                                   betas=(0.0, 0.99)) for player in (D, G))
        command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
