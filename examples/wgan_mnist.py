"""Train a Wasserstein GAN on MNIST (Arjovsky et al. 2017) with DCGAN's networks.

    python examples/wgan_mnist.py       the paper's settings, 20,000 iterations

W in the output is the critic's estimate of the Wasserstein distance between digits and samples. Its
units depend on the clipping, so only its decrease is meaningful.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, optim
from tinygan.data import Minibatches
from tinygan.games import WGAN, warm_up
from tinygan.networks import dcgan


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, steps=20_000, batch_size=64, out="runs/wgan_mnist")
    add = flags.add_argument
    add("--lr", type=command.above_0, default=5e-5, help="RMSProp's learning rate (5e-5)")
    add("--c", type=command.above_0, default=0.01,
        help="the critic's weights stay in [-c, c] (0.01)")
    add = flags.add_mutually_exclusive_group().add_argument
    add("--n-critic", type=command.positive, default=5, help="critic steps in an iteration (5)")
    add("--warm-up", action="store_true",
        help="the published code's schedule: 100 critic steps in iterations 0 to 24 and in every "
        "500th, else 5")
    flags.add_argument("--channels", type=command.positive, default=64,
                       help="channels of D's first layer; the next have 2 and 4 times as many (64)")
    args = command.parse(flags)

    with command.start(args) as data:
        shape = data.train.images.shape[1:]
        G, D = dcgan.generator(100, args.channels, shape), dcgan.discriminator(args.channels, shape)
        game = WGAN(G, D, c=args.c, n_critic=warm_up if args.warm_up else args.n_critic)
        d_opt, g_opt = (optim.RMSProp(player.parameters(), args.lr) for player in (D, G))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
