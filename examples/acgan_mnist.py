"""Train an AC-GAN on MNIST (Odena et al. 2017): D names the digit, and G is to be named right.

    python examples/acgan_mnist.py                  the recipe: digits in two minutes on one core
    python examples/acgan_mnist.py --reals-only     D learns the classes of real digits alone
    python examples/acgan_mnist.py --paper          the paper's settings for CIFAR-10, 50,000 steps

The recipe's networks and optimisers are those of tinygan/networks/digits.py, with a second head on
D.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, nn, optim
from tinygan.data import Minibatches
from tinygan.games import ACGAN
from tinygan.networks import dcgan, digits

RECIPE = dict(steps=4500, batch_size=64)
PAPER = dict(steps=50_000, batch_size=100)


def recipe(steps: int, shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (G, D, d_opt, g_opt): the networks of digits.py, D with two heads, and Adam."""
    G = digits.generator(100, shape, classes)
    D = nn.Heads(digits.trunk(shape), nn.Dense(digits.FEATURES, 1, init=nn.normal(0.02)),
                 nn.Dense(digits.FEATURES, classes, init=nn.normal(0.02)))
    return G, D, *digits.make_optimisers(G, D, steps)


def paper(shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (G, D, d_opt, g_opt) with the networks and settings for CIFAR-10 (table 2).

    The paper searches for the learning rate and for a noise on activations; here they are 2e-4 and
    none. Its images have 32x32 pixels; here the maps have H/8, H/4, H/2 and H pixels, rounded down,
    in G, and half as many, rounded up, after each strided convolution in D. G ends in a sigmoid, as
    the data is in [0, 1]. Raises UserError if H or W is below 8.
    """
    colours, height, width = dcgan.check_shape(shape, 8)
    init = nn.normal(0.02)
    sizes = [(height // n, width // n) for n in (8, 4, 2, 1)]

    def double(c_in, c_out, size):      # from n pixels to 2 n, or 2 n + 1 if `size` is odd
        return nn.ConvTranspose2d(c_in, c_out, 5, 2, tuple(2 - n % 2 for n in size),
                                  tuple(1 - n % 2 for n in size), init=init)

    G = nn.Sequential(
        nn.JoinLabels(classes), nn.Dense(100 + classes, 384 * sizes[0][0] * sizes[0][1], init=init),
        nn.ReLU(), nn.Reshape(384, *sizes[0]),
        double(384, 192, sizes[1]), nn.BatchNorm(192), nn.ReLU(),
        double(192, 96, sizes[2]), nn.BatchNorm(96), nn.ReLU(),
        double(96, colours, sizes[3]), nn.Sigmoid())
    channels = [colours, 16, 32, 64, 128, 256, 512]
    trunk = []
    for i, (c_in, c_out) in enumerate(zip(channels, channels[1:])):
        trunk += [nn.Conv2d(c_in, c_out, 3, 2 - i % 2, 1, init=init),
                  *([nn.BatchNorm(c_out)] if i else []), nn.LeakyReLU(0.2), nn.Dropout(0.5)]
    features = 512 * -(-height // 8) * -(-width // 8)
    D = nn.Heads(nn.Sequential(*trunk, nn.Flatten()), nn.Dense(features, 1, init=init),
                 nn.Dense(features, classes, init=init))
    return G, D, optim.Adam(D.parameters(), 2e-4), optim.Adam(G.parameters(), 2e-4)


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/acgan_mnist")
    flags.add_argument("--lam", type=command.from_0, default=1.0,
                       help="weight of the class loss (1)")
    flags.add_argument("--reals-only", action="store_true",
                       help="leave generated images out of D's class loss")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)
    command.refuse_unused(flags, args, args.lam > 0, "a --lam above 0", "reals_only")

    with command.start(args) as data:
        images, labels = data.train.images, data.train.require("labels")
        shape, classes = images.shape[1:], data.train.count_classes()
        G, D, d_opt, g_opt = (paper(shape, classes) if args.paper else
                              recipe(args.steps, shape, classes))
        game = ACGAN(G, D, classes=classes, lam=args.lam, on_fakes=not args.reals_only)
        batches = Minibatches(images, args.batch_size, labels=labels)
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
