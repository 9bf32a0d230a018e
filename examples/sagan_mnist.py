"""Train a SAGAN on MNIST (Zhang et al. 2019): self-attention in both players.

    python examples/sagan_mnist.py                      the recipe: ten minutes on one core
    python examples/sagan_mnist.py --block none         no player has self-attention
    python examples/sagan_mnist.py --block residual     both have a residual block in its place

As in the paper, the game is the GAN with labels, projection and the hinge loss, D takes one step
for each of G, both players have spectral normalisation, and G has conditional batch normalisation.
Each player has one layer of self-attention, at half the size of the image; in the published code,
for images of 128x128 pixels, it is at a quarter.

The residual block is the paper's control (table 1). It has as many weights as self-attention, 320,
and 26 biases. It does not begin as the identity, as self-attention does.

The networks are those of tinygan/networks/digits.py, where the paper has residual ones. Samples are
those of averaged weights. Both players have the learning rate 3e-3, which falls to 0, and Adam's
beta2 is 0.99; in the published code G has 1e-4, D has 4e-4, and beta2 is 0.999. There z is N(0, I),
and G's last batch normalisation is not conditional; here z is uniform, and it is.

sample.py draws what pixels attend to. Pictures, curves and checkpoints are written to --out.
--explain explains the printed numbers.
"""

from projection_mnist import condition
from sngan_mnist import normalise

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import ProjectionDiscriminator, ProjectionGAN
from tinygan.networks import digits

RECIPE = dict(steps=4000, batch_size=64, average=0.998)
CHANNELS = 16           # of the feature maps at half the size of the image


def make_residual() -> nn.Residual:
    """Return the control of the paper's table 1: a residual block with the same 320 weights."""
    return nn.Residual(normalise(nn.Sequential(nn.Conv2d(CHANNELS, 10, 1), nn.ReLU(),
                                               nn.Conv2d(10, CHANNELS, 1))))


BLOCKS = {"attention": lambda: nn.SelfAttention2d(CHANNELS), "residual": make_residual,
          "none": nn.Sequential}


def make_networks(shape: tuple[int, int, int], classes: int,
                  block: str) -> tuple[nn.Sequential, ProjectionDiscriminator]:
    """Return (G, D): the networks of digits.py with a block of BLOCKS at half the image's size."""
    def insert(network, i):     # before layer i
        return nn.Sequential(*network[:i], BLOCKS[block](), *network[i:])
    G = normalise(condition(digits.generator(100, shape, channels=CHANNELS), classes))
    phi = normalise(digits.trunk(shape, batch_norm=False, channels=CHANNELS))
    # G ends with a transposed convolution, which doubles the size, and a sigmoid; phi begins with a
    # convolution, which halves it, and a leaky ReLU
    return insert(G, -2), ProjectionDiscriminator(insert(phi, 2), digits.FEATURES, classes)


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/sagan_mnist")
    flags.add_argument("--block", choices=BLOCKS, default="attention",
                       help="what both players have at half the size of the image (attention)")
    args = command.parse(flags)

    with command.start(args) as data:
        images, labels = data.train.images, data.train.require("labels")
        classes = data.train.count_classes()
        G, D = make_networks(images.shape[1:], classes, args.block)
        game = ProjectionGAN(G, D, classes=classes)
        d_opt, g_opt = (optim.Adam(player.parameters(), schedules.cosine(3e-3, 0.0, args.steps),
                                   betas=(0.0, 0.99)) for player in (D, G))
        batches = Minibatches(images, args.batch_size, labels=labels)
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
