"""Train a DCGAN on MNIST (Radford et al. 2016).

    python examples/dcgan_mnist.py              the recipe: 6 to 20 minutes on one core
    python examples/dcgan_mnist.py --paper      the paper's settings, 10 epochs: 40 minutes

In the published code, D's first layer has 128 channels for images of 64x64 pixels. With --paper it
has 64, as in the published script for MNIST. The recipe has 16 and a larger learning rate. z is the
game's: U(-sqrt 3, sqrt 3) for gan, and N(0, I) for the others. The published code has U(-1, 1).

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, optim
from tinygan.data import Minibatches
from tinygan.games import GAN, LSGAN, RSGAN, Hinge, RaGAN
from tinygan.networks import dcgan

RECIPE = dict(steps=15_000, batch_size=64, average=0.998)
PAPER = dict(steps=3900, batch_size=128, average=None, lr=2e-4, channels=64)
GAMES = {"gan": GAN, "lsgan": LSGAN, "hinge": Hinge, "rsgan": RSGAN, "ragan": RaGAN}


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/dcgan_mnist")
    command.add_preset(flags, "--paper", PAPER, "the paper's settings")
    flags.add_argument("--lr", type=command.above_0, default=2e-3,
                       help="Adam's learning rate (2e-3; with --paper 2e-4)")
    flags.add_argument("--game", choices=GAMES, default="gan",
                       help="the game to train with these networks (gan, as in the paper)")
    flags.add_argument("--channels", type=command.positive, default=16,
                       help="channels of D's first layer; the next have 2 and 4 times as many (16; "
                       "with --paper 64)")
    args = command.parse(flags)

    with command.start(args) as data:
        shape = data.train.images.shape[1:]
        G, D = dcgan.generator(100, args.channels, shape), dcgan.discriminator(args.channels, shape)
        game = GAMES[args.game](G, D)
        d_opt, g_opt = (optim.Adam(player.parameters(), args.lr, betas=(0.5, 0.999))
                        for player in (D, G))
        command.train(args, game, Minibatches(data.train.images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
