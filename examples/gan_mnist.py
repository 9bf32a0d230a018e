"""Train a GAN on MNIST by Algorithm 1 of Goodfellow et al. 2014.

    python examples/gan_mnist.py            the recipe: digits in three minutes on two cores
    python examples/gan_mnist.py --paper    the paper's networks and settings, 20 epochs

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import math

import numpy as np

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import GAN, losses
from tinygan.networks import digits

LOSSES = {"non-saturating": losses.NonSaturating, "saturating": losses.Saturating}
RECIPE = dict(steps=4500, batch_size=64)
# 20 epochs; the paper's own run had hundreds
PAPER = dict(steps=10_000, batch_size=100, order="simultaneous")


def recipe(steps: int, shape: tuple[int, int, int]) -> tuple:
    """Return (G, D, d_opt, g_opt): the settings with the best samples found for three minutes.

    Networks and optimisers are those of networks/digits.py for images of `shape` (C, H, W). The
    networks are narrow, which leaves time for more steps. Raises UserError if H or W is below 4.
    """
    G, D = digits.generator(100, shape), digits.discriminator(shape)
    return G, D, *digits.make_optimisers(G, D, steps)


def paper(images: np.ndarray, batch_size: int) -> tuple:
    """Return (G, D, d_opt, g_opt) with the settings of the paper's code for MNIST.

    The code is goodfeli/adversarial, mnist.yaml.
    """
    shape, init = images.shape[1:], nn.uniform(0.05)
    pixels = math.prod(shape)
    G = nn.Sequential(
        nn.Dense(100, 1200, init=init), nn.ReLU(),
        nn.Dense(1200, 1200, init=init), nn.ReLU(),
        nn.Dense(1200, pixels, init=init), nn.Sigmoid(), nn.Reshape(*shape))
    mean = (images.mean(0) / (255 if images.dtype == np.uint8 else 1)).clip(1e-7, 1 - 1e-7).ravel()
    G.layers[4].load_state_dict({"weight": G.layers[4].weight.numpy(),
                                 "bias": np.log(mean / (1 - mean))})    # G starts at the mean image
    init = nn.uniform(0.005)
    D = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.2), nn.Maxout(pixels, 240, pieces=5, init=init),
        nn.Dropout(0.5), nn.Maxout(240, 240, pieces=5, init=init),
        nn.Dropout(0.5), nn.Dense(240, 1, init=init))
    momentum = schedules.linear(0.5, 0.7, 250 * len(images) / batch_size)       # over 250 epochs
    sgd = lambda player, lr: optim.SGD(
        player.parameters(), schedules.exponential(lr, 1 / 1.000004, floor=1e-6), momentum)
    return G, D, sgd(D, 0.05), sgd(G, 0.1)      # 0.05 and not 0.1, because the code halves D's loss


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/gan_mnist")
    flags.add_argument("--k", type=command.positive, default=1,
                       help="discriminator steps in an iteration (1)")
    flags.add_argument("--g-loss", choices=LOSSES,
                       default="non-saturating", help="the generator's loss (non-saturating)")
    flags.add_argument("--order", choices=["alternating", "simultaneous"], default="alternating",
                       help="the order of the players' updates (alternating; with --paper "
                       "simultaneous)")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images
        G, D, d_opt, g_opt = (paper(images, args.batch_size) if args.paper else
                              recipe(args.steps, images.shape[1:]))
        game = GAN(G, D, loss=LOSSES[args.g_loss](), d_steps=args.k)
        batches = Minibatches(images, args.batch_size)
        command.train(args, game, batches, d_opt, g_opt, args.order)


if __name__ == "__main__":
    command.main(main)
