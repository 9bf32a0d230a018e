"""Train an SNGAN on MNIST (Miyato et al. 2018): hinge loss and spectral normalisation of D.

    python examples/sngan_mnist.py              the recipe: 6 to 20 minutes on one core
    python examples/sngan_mnist.py --paper      the paper's settings, 20,000 iterations

The recipe has the networks of tinygan/networks/digits.py, with spectral normalisation instead of
batch normalisation in D, and as many steps of D as of G.

With --paper, Adam's settings and n_dis are those of the paper's residual networks. The
discriminator is a smaller version of the plain one in pfnet-research/chainer-gan-lib. Its initial
weights are Glorot's; there they are N(0, 0.02^2). The generator is DCGAN's with larger initial
weights. Both players use minibatches of 64, and the learning rate is constant; in the published
code (pfnet-research/sngan_projection) G's minibatches are twice as large, and the rate falls
linearly to 0.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, nn, optim
from tinygan.data import Minibatches
from tinygan.games import SNGAN
from tinygan.networks import dcgan, digits
from tinygan.nn import spectral_norm

RECIPE = dict(steps=13_000, batch_size=64, average=0.998)
PAPER = dict(steps=20_000, batch_size=64, average=None, lr=2e-4, n_dis=5, channels=64)
Z_SIZE = 128


def recipe(channels: int, shape: tuple[int, int, int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Return (G, D): the networks of digits.py, D with spectral normalisation."""
    G = digits.generator(Z_SIZE, shape, channels=channels)
    return G, normalise(digits.discriminator(shape, batch_norm=False, channels=channels))


def normalise(network: nn.Sequential) -> nn.Sequential:
    """Put dense layers and convolutions under spectral normalisation, and return the network."""
    for _, layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Dense)):
            spectral_norm(layer)
    return network


def paper(channels: int, shape: tuple[int, int, int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Return (G, D): DCGAN's generator and the discriminator below.

    With DCGAN's initial weights N(0, 0.02^2) all images of G change in the same way at the start,
    before this D, which has no batch normalisation, can tell that they are alike. Each of Adam's
    steps changes larger weights relatively less.
    """
    return (dcgan.generator(Z_SIZE, channels, shape, init=nn.normal(0.1)),
            discriminator(channels, shape))


def discriminator(channels: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """Return D, a smaller version of chainer-gan-lib's discriminator for 32 x 32 pixels.

    It consists of pairs of a 3x3 convolution of stride 1 and a 4x4 convolution of stride 2, which
    doubles the channels, with leaky ReLUs and no batch normalisation. The slope 0.1 is that of the
    paper's table 3; the published one has 0.2, one more pair and a last 3x3 convolution. In table 3
    it is the 3x3 convolutions that double the channels.
    """
    colours, height, width = dcgan.check_shape(shape, 4)
    c, layers = channels, []
    for c_in, c_out, kernel, stride in [(colours, c, 3, 1), (c, 2 * c, 4, 2),   # H/2 x W/2
                                        (2 * c, 2 * c, 3, 1), (2 * c, 4 * c, 4, 2)]:
        layers += [spectral_norm(nn.Conv2d(c_in, c_out, kernel, stride, padding=1)),
                   nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Flatten(),                                 # H/4 x W/4
                         spectral_norm(nn.Dense(4 * c * (height // 4) * (width // 4), 1)))


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/sngan_mnist")
    command.add_preset(flags, "--paper", PAPER, "the paper's settings")
    add = flags.add_argument
    add("--lr", type=command.above_0, default=3e-3,
        help="Adam's learning rate (3e-3; with --paper 2e-4)")
    add("--n-dis", type=command.positive, default=1,
        help="discriminator steps in an iteration (1; with --paper 5)")
    add("--channels", type=command.positive, default=16,
        help="channels of D's first layer; the next have 2 times as many, and with --paper 2 and 4 "
        "times (16; with --paper 64)")
    args = command.parse(flags)

    with command.start(args) as data:
        shape = data.train.images.shape[1:]
        G, D = (paper if args.paper else recipe)(args.channels, shape)
        game = SNGAN(G, D, Z_SIZE, args.n_dis)
        d_opt, g_opt = (optim.Adam(player.parameters(), args.lr, betas=(0.0, 0.9))
                        for player in (D, G))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
