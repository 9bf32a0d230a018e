"""Train a Wasserstein GAN on MNIST (Arjovsky et al. 2017).

    python examples/wgan_mnist.py               the recipe: 6 to 20 minutes on one core
    python examples/wgan_mnist.py --paper       the paper's settings, 20,000 iterations

The recipe has the networks of tinygan/networks/digits.py, larger learning rates, G's twice the
critic's, and a larger c. It has as many steps of the critic as of G, where the paper trains the
critic towards its optimum. With --paper, the networks are DCGAN's.

W in the output is the critic's estimate of the Wasserstein distance between digits and samples. Its
units depend on the clipping, so it can only be compared with other values of the same run.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, optim
from tinygan.data import Minibatches
from tinygan.games import WGAN, warm_up
from tinygan.networks import dcgan, digits

RECIPE = dict(steps=13_000, batch_size=64, average=0.998)
PAPER = dict(steps=20_000, batch_size=64, average=None, lr=5e-5, c=0.01, n_critic=5, channels=64)


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/wgan_mnist")
    command.add_preset(flags, "--paper", PAPER, "the paper's settings")
    add = flags.add_argument
    add("--lr", type=command.above_0, default=1e-3,
        help="RMSProp's learning rate, without --paper doubled for G (1e-3; with --paper 5e-5)")
    add("--c", type=command.above_0, default=0.1,
        help="the critic's weights stay in [-c, c] (0.1; with --paper 0.01)")
    add = flags.add_mutually_exclusive_group().add_argument
    add("--n-critic", type=command.positive, default=1,
        help="critic steps in an iteration (1; with --paper 5)")
    add("--warm-up", action="store_true",
        help="the published code's schedule: 100 critic steps in iterations 0 to 24 and in every "
        "500th, else 5")
    flags.add_argument("--channels", type=command.positive, default=16,
                       help="channels of the critic's first layer; the next have 2 times as many, "
                       "and with --paper 2 and 4 times (16; with --paper 64)")
    args = command.parse(flags)

    with command.start(args) as data:
        shape = data.train.images.shape[1:]
        networks = dcgan if args.paper else digits
        G = networks.generator(100, shape=shape, channels=args.channels)
        D = networks.discriminator(shape=shape, channels=args.channels)
        game = WGAN(G, D, c=args.c, n_critic=warm_up if args.warm_up else args.n_critic)
        g_lr = args.lr if args.paper else 2 * args.lr
        d_opt, g_opt = (optim.RMSProp(player.parameters(), lr)
                        for player, lr in ((D, args.lr), (G, g_lr)))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
