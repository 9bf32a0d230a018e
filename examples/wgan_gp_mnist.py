"""WGAN with gradient penalty on MNIST (Gulrajani et al. 2017), with the networks and settings of
the published code (igul222/improved_wgan_training, gan_mnist.py), but Glorot's initial weights in
every layer, a tenth of its iterations, and padding that is larger before an image than after it.

    python examples/wgan_gp_mnist.py

W in its output is the critic's estimate of the Wasserstein distance between digits and samples, for
the Euclidean distance between images; a little too large, as the penalty gives way.

Pictures, curves and checkpoints go to --out; --explain says what the numbers mean.
"""

from tinygan import command, nn, optim
from tinygan.data import Minibatches
from tinygan.games import WGANGP


def sizes(n):
    """How long a side of n pixels is after none, one, two and three convolutions of stride 2."""
    return n, -(-n // 2), -(-n // 4), -(-n // 8)


def generator(z_size, channels, shape):
    """Noise (m, z_size) to images of `shape`, any (C, H, W)."""
    colours, height, width = shape
    h, w = sizes(height), sizes(width)

    def doubled(c_in, c_out, i):
        """Step i of the critic the other way: from 2 s - 1 or, with the padding, 2 s pixels."""
        ends = tuple(s[i] - (2 * s[i + 1] - 1) for s in (h, w))
        return nn.ConvTranspose2d(c_in, c_out, 5, 2, 2, output_padding=ends)
    return nn.Sequential(
        nn.Dense(z_size, 4 * channels * h[3] * w[3]), nn.ReLU(),
        nn.Reshape(4 * channels, h[3], w[3]),                                   # 4 x 4
        doubled(4 * channels, 2 * channels, 2), nn.ReLU(),                      # 7 x 7
        doubled(2 * channels, channels, 1), nn.ReLU(),                          # 14 x 14
        doubled(channels, colours, 0), nn.Sigmoid())                            # 28 x 28


def critic(channels, shape):
    """No batch normalisation: the penalty is on each sample's own slope."""
    colours, height, width = shape
    return nn.Sequential(
        nn.Conv2d(colours, channels, 5, 2, 2), nn.LeakyReLU(0.2),               # 14 x 14
        nn.Conv2d(channels, 2 * channels, 5, 2, 2), nn.LeakyReLU(0.2),          # 7 x 7
        nn.Conv2d(2 * channels, 4 * channels, 5, 2, 2), nn.LeakyReLU(0.2),      # 4 x 4
        nn.Flatten(), nn.Dense(4 * channels * sizes(height)[3] * sizes(width)[3], 1))


def main():
    flags = command.flags(__doc__, steps=20_000, batch_size=50, out="runs/wgan_gp_mnist")
    add = flags.add_argument
    add("--lr", type=command.above_0, default=1e-4, help="Adam's learning rate (1e-4)")
    add("--beta1", type=command.fraction, default=0.5, help="Adam's (.5; in the paper 0)")
    add("--lam", type=command.from_0, default=10.0, help="weight of the penalty (10)")
    add("--n-critic", type=command.positive, default=5, help="critic steps for one of G (5)")
    add("--channels", type=command.positive, default=64,
        help="DIM in the code, of the critic's first layer; the others have 2 and 4 times (64)")
    args = command.parse(flags)

    with command.started(args) as data:
        shape = data.train.images.shape[1:]
        G, D = generator(128, args.channels, shape), critic(args.channels, shape)
        game = WGANGP(G, D, 128, args.lam, args.n_critic)
        d_opt, g_opt = (optim.Adam(player.parameters(), args.lr, betas=(args.beta1, 0.9))
                        for player in (D, G))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
