"""Train an AC-GAN on MNIST (Odena et al. 2017): D names the digit, and G is to be named right.

    python examples/acgan_mnist.py                  the recipe, with the paper's losses
    python examples/acgan_mnist.py --reals-only     D learns the classes of real digits alone

The networks and optimisers are those of gan_mnist.py's recipe, with a second head on D.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, nn
from tinygan.data import Minibatches
from tinygan.games import ACGAN
from tinygan.networks import digits


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, steps=4500, batch_size=64, out="runs/acgan_mnist")
    flags.add_argument("--lam", type=command.from_0, default=1.0,
                       help="weight of the class loss (1)")
    flags.add_argument("--reals-only", action="store_true",
                       help="leave generated images out of D's class loss")
    args = command.parse(flags)

    with command.start(args) as data:
        images, labels = data.train.images, data.train.require_labels()
        shape, classes = images.shape[1:], int(labels.max()) + 1
        D = nn.Heads(digits.trunk(shape), nn.Dense(digits.FEATURES, 1, init=nn.normal(0.02)),
                     nn.Dense(digits.FEATURES, classes, init=nn.normal(0.02)))
        G = digits.generator(100, shape, classes)
        game = ACGAN(G, D, classes=classes, lam=args.lam, on_fakes=not args.reals_only)
        d_opt, g_opt = digits.make_optimisers(G, D, args.steps)
        batches = Minibatches(images, args.batch_size, labels=labels)
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
