"""Train a style-based generator on MNIST (Karras et al. 2019, StyleGAN).

    python examples/stylegan_mnist.py               the recipe: 20 minutes on one core
    python examples/stylegan_mnist.py --mixing 0    each sample of the training has one style
    python examples/stylegan_mnist.py --no-noise    without the noise in G's layers

G has two layers for each of the resolutions 7x7, 14x14 and 28x28, and each layer gets a style. So
samples can be mixed: sample.py draws samples that have the style of one sample in the layers of 7x7
pixels and of another sample in the others. evaluate.py measures what such samples have from whom.

The networks are those of tinygan/networks/stylegan.py. The learning rates are ten times the paper's
for G and five times for D, and fall to 0, because the training is short. R1's weight is smaller
than the paper's 10, because the images are small and their pixels are in [0, 1]. The penalty is
computed in every fourth iteration, with four times its weight.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import Game, losses, penalties
from tinygan.networks import stylegan

RECIPE = dict(steps=4000, batch_size=64, average=0.995)
Z_SIZE = 64


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/stylegan_mnist")
    add = flags.add_argument
    add("--mixing", type=command.share, default=0.9,
        help="share of the training's samples that have two styles (0.9)")
    add("--no-noise", action="store_true", help="leave the noise out of G's layers")
    add("--gamma", type=command.from_0, default=0.2, help="weight of the penalty R1 (0.2)")
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images
        shape = images.shape[1:]
        G = stylegan.Generator(Z_SIZE, shape, mixing=args.mixing, noise=not args.no_noise)
        D = stylegan.discriminator(shape)
        game = Game(G, D, Z_SIZE, losses.NonSaturating(),
                    [penalties.Lazy(penalties.R1(args.gamma), 4)])
        d_opt, g_opt = (optim.Adam(player.parameters(), schedules.cosine(lr, 0.0, args.steps),
                                   betas=(0.0, 0.99)) for player, lr in ((D, 5e-3), (G, 1e-2)))
        command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
