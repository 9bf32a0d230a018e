"""Train a conditional GAN on MNIST (Mirza and Osindero 2014): G draws the digit that it is told.

    python examples/conditional_mnist.py            the recipe: digits in two minutes on one core
    python examples/conditional_mnist.py --paper    the paper's networks and settings, 20 epochs

With --paper both players are updated at once, as in goodfeli/adversarial, the code of Goodfellow et
al. 2014, which has similar settings. The paper's own code is not published.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import math

import numpy as np

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import ConditionalGAN
from tinygan.networks import digits

RECIPE = dict(steps=4500, batch_size=64)
PAPER = dict(steps=10_000, batch_size=100)


def recipe(steps: int, shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (G, D, d_opt, g_opt): the networks of digits.py, with labels, and Adam."""
    G, D = digits.generator(100, shape, classes), digits.discriminator(shape, classes)
    return G, D, *digits.make_optimisers(G, D, steps)


def paper(images: np.ndarray, batch_size: int, classes: int) -> tuple:
    """Return (G, D, d_opt, g_opt) with the networks and settings of the paper's section 4.1.

    The paper gives neither the initial weights nor how long the momentum rises; both are those of
    goodfeli/adversarial, mnist.yaml. The biases begin at 0, also that of G's output layer, which in
    mnist.yaml begins at the data's mean. Dropout of 0.5 is in the hidden layers of both players. In
    G it is part of the noise, when samples are drawn too: without it, G draws nearly one digit per
    label.
    """
    shape, init = images.shape[1:], nn.uniform(0.05)
    pixels = math.prod(shape)
    G = nn.Sequential(
        nn.Branches(classes, nn.Sequential(nn.Dense(100, 200, init=init), nn.ReLU()),
                    nn.Sequential(nn.Dense(classes, 1000, init=init), nn.ReLU())),
        nn.Dropout(0.5, always=True), nn.Dense(1200, 1200, init=init), nn.ReLU(),
        nn.Dropout(0.5, always=True), nn.Dense(1200, pixels, init=init), nn.Sigmoid(),
        nn.Reshape(*shape))
    init = nn.uniform(0.005)
    D = nn.Sequential(
        nn.Flatten(),
        nn.Branches(classes, nn.Maxout(pixels, 240, pieces=5, init=init),
                    nn.Maxout(classes, 50, pieces=5, init=init)),
        nn.Dropout(0.5), nn.Maxout(290, 240, pieces=4, init=init),
        nn.Dropout(0.5), nn.Dense(240, 1, init=init))
    momentum = schedules.linear(0.5, 0.7, 250 * len(images) / batch_size)       # over 250 epochs
    sgd = lambda player, lr: optim.SGD(
        player.parameters(), schedules.exponential(lr, 1 / 1.00004, floor=1e-6), momentum)
    return G, D, sgd(D, 0.05), sgd(G, 0.1)      # 0.05 and not 0.1: see gan_mnist.py


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/conditional_mnist")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        images, labels = data.train.images, data.train.require("labels")
        classes = data.train.count_classes()
        G, D, d_opt, g_opt = (paper(images, args.batch_size, classes) if args.paper else
                              recipe(args.steps, images.shape[1:], classes))
        game = ConditionalGAN(G, D, classes=classes)
        batches = Minibatches(images, args.batch_size, labels=labels)
        command.train(args, game, batches, d_opt, g_opt,
                      "simultaneous" if args.paper else "alternating")


if __name__ == "__main__":
    command.main(main)
