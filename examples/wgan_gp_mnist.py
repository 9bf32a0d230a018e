"""Train a WGAN with gradient penalty on MNIST (Gulrajani et al. 2017).

    python examples/wgan_gp_mnist.py            the recipe: 6 to 20 minutes on one core
    python examples/wgan_gp_mnist.py --paper    the published code's settings, 20,000 iterations

The recipe has the networks of tinygan/networks/digits.py, without batch normalisation in the
critic, a larger learning rate, and Adam's beta1 of 0, as in the paper. It has as many steps of the
critic as of G, where the paper trains the critic towards its optimum.

With --paper, the networks and settings are those of the published code (igul222/
improved_wgan_training, gan_mnist.py), with three differences: all layers have Glorot's initial
weights, there are a tenth of the iterations, and the padding before an image is larger than the
padding after it (in the published code it is the reverse).

W in the output is the critic's estimate of the Wasserstein distance between digits and samples, for
the Euclidean distance between images. At the critic's optimum the estimate is too large, because
the penalty only approximates the Lipschitz constraint.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, nn, optim
from tinygan.data import Minibatches
from tinygan.games import WGANGP
from tinygan.networks import digits

RECIPE = dict(steps=13_000, batch_size=64, average=0.998)
PAPER = dict(steps=20_000, batch_size=50, average=None, lr=1e-4, beta1=0.5, n_critic=5, channels=64)
Z_SIZE = 128


def recipe(channels: int, shape: tuple[int, int, int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Return (G, D): the networks of digits.py, D without batch normalisation.

    The penalty needs a score that depends on one sample alone.
    """
    return (digits.generator(Z_SIZE, shape, channels=channels),
            digits.discriminator(shape, batch_norm=False, channels=channels))


def paper(channels: int, shape: tuple[int, int, int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Return (G, D): the networks of the published code."""
    return generator(channels, shape), critic(channels, shape)


def sizes(n: int) -> tuple[int, int, int, int]:
    """Return the side of an image of side n after 0, 1, 2 and 3 convolutions of stride 2."""
    return n, -(-n // 2), -(-n // 4), -(-n // 8)


def generator(channels: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """Return G, from noise (m, Z_SIZE) to images of any `shape` (C, H, W)."""
    colours, height, width = shape
    h, w = sizes(height), sizes(width)

    def double(c_in, c_out, i):
        """Return the transposed convolution that undoes the i-th halving in the critic.

        From s pixels it makes 2 s - 1, or 2 s with output padding.
        """
        ends = tuple(s[i] - (2 * s[i + 1] - 1) for s in (h, w))
        return nn.ConvTranspose2d(c_in, c_out, 5, 2, 2, output_padding=ends)
    return nn.Sequential(
        nn.Dense(Z_SIZE, 4 * channels * h[3] * w[3]), nn.ReLU(),
        nn.Reshape(4 * channels, h[3], w[3]),                                   # 4 x 4
        double(4 * channels, 2 * channels, 2), nn.ReLU(),                       # 7 x 7
        double(2 * channels, channels, 1), nn.ReLU(),                           # 14 x 14
        double(channels, colours, 0), nn.Sigmoid())                             # 28 x 28


def critic(channels: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """Return D, from images of `shape` (C, H, W) to scores, without batch normalisation."""
    colours, height, width = shape
    return nn.Sequential(
        nn.Conv2d(colours, channels, 5, 2, 2), nn.LeakyReLU(0.2),               # 14 x 14
        nn.Conv2d(channels, 2 * channels, 5, 2, 2), nn.LeakyReLU(0.2),          # 7 x 7
        nn.Conv2d(2 * channels, 4 * channels, 5, 2, 2), nn.LeakyReLU(0.2),      # 4 x 4
        nn.Flatten(), nn.Dense(4 * channels * sizes(height)[3] * sizes(width)[3], 1))


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/wgan_gp_mnist")
    command.add_preset(flags, "--paper", PAPER, "the published code's settings")
    add = flags.add_argument
    add("--lr", type=command.above_0, default=3e-3,
        help="Adam's learning rate (3e-3; with --paper 1e-4)")
    add("--beta1", type=command.fraction, default=0.0, help="Adam's beta1 (0; with --paper 0.5)")
    add("--lam", type=command.from_0, default=10.0, help="weight of the penalty (10)")
    add("--n-critic", type=command.positive, default=1,
        help="critic steps in an iteration (1; with --paper 5)")
    add("--channels", type=command.positive, default=16,
        help="channels of the critic's first layer; the next have 2 times as many, and with "
        "--paper 2 and 4 times (16; with --paper 64, DIM in the published code)")
    args = command.parse(flags)

    with command.start(args) as data:
        shape = data.train.images.shape[1:]
        G, D = (paper if args.paper else recipe)(args.channels, shape)
        game = WGANGP(G, D, Z_SIZE, args.lam, args.n_critic)
        d_opt, g_opt = (optim.Adam(player.parameters(), args.lr, betas=(args.beta1, 0.9))
                        for player in (D, G))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
