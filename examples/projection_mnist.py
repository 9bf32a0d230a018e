"""Train a conditional GAN with projection discriminator on MNIST (Miyato and Koyama 2018).

    python examples/projection_mnist.py             the recipe: digits in two minutes on one core
    python examples/projection_mnist.py --r1        with R1, 9000 steps: the highest recall
    python examples/projection_mnist.py --paper     the paper's settings, 20,000 iterations

With --r1, D has the R1 penalty (Mescheder et al. 2018) and no batch normalisation. With --paper,
the hinge loss, spectral normalisation in D, conditional batch normalisation in G, Adam's settings
and n_dis are the paper's for CIFAR-10. D has the convolutions of `sngan_mnist.py --paper`, and G is
DCGAN's, where the paper has residual networks. G's last batch normalisation is conditional too, and
z is uniform; in the published code it is not, and z is N(0, I). The published code trains for
50,000 iterations, with 128 samples in each step of G.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from sngan_mnist import discriminator

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import ProjectionDiscriminator, ProjectionGAN, losses, penalties
from tinygan.networks import dcgan, digits

RECIPE = dict(steps=4500, batch_size=64)
R1 = dict(steps=9000, batch_size=64)
PAPER = dict(steps=20_000, batch_size=64)


def recipe(steps: int, shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (game, d_opt, g_opt): the networks of digits.py, D with a projection.

    The loss is the non-saturating one, and D has batch normalisation instead of spectral
    normalisation.
    """
    G = digits.generator(100, shape, classes)
    D = ProjectionDiscriminator(digits.trunk(shape), digits.FEATURES, classes, normalised=False)
    game = ProjectionGAN(G, D, classes=classes, loss=losses.NonSaturating())
    return game, *digits.make_optimisers(G, D, steps)


def make_penalised(steps: int, shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (game, d_opt, g_opt): the recipe with R1 instead of batch normalisation in D."""
    G = digits.generator(100, shape, classes)
    D = ProjectionDiscriminator(digits.trunk(shape, batch_norm=False), digits.FEATURES, classes,
                                normalised=False)
    game = ProjectionGAN(G, D, classes=classes, loss=losses.NonSaturating(),
                         penalties=[penalties.R1(1.0)])
    return game, *digits.make_optimisers(G, D, steps, penalised=True)


def paper(steps: int, shape: tuple[int, int, int], classes: int) -> tuple:
    """Return (game, d_opt, g_opt) with the paper's loss, normalisation and optimisers."""
    channels = 64
    # phi is D without Flatten and its last dense layer; it ends with 4 * channels feature maps
    phi = discriminator(channels, shape)[:-2]
    D = ProjectionDiscriminator(phi, 4 * channels, classes)
    G = condition(dcgan.generator(128, channels, shape), classes)
    # an optimiser's schedule counts its own steps, of which D has five times as many
    d_opt, g_opt = (optim.Adam(player.parameters(), schedules.linear(2e-4, 0.0, n * steps),
                               betas=(0.0, 0.9)) for player, n in ((D, 5), (G, 1)))
    return ProjectionGAN(G, D, 128, classes, d_steps=5), d_opt, g_opt


def condition(G: nn.Sequential, classes: int) -> nn.Sequential:
    """Return G with conditional batch normalisation in place of batch normalisation."""
    return nn.Sequential(*[nn.ConditionalBatchNorm(layer.n, classes)
                           if isinstance(layer, nn.BatchNorm) else layer for layer in G.layers])


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/projection_mnist")
    either = flags.add_mutually_exclusive_group()
    command.add_preset(flags, "--r1", R1, "R1 instead of batch normalisation in D", either)
    command.add_preset(flags, "--paper", PAPER, "the paper's settings", either)
    args = command.parse(flags)

    with command.start(args) as data:
        images, labels = data.train.images, data.train.require("labels")
        make = paper if args.paper else make_penalised if args.r1 else recipe
        game, d_opt, g_opt = make(args.steps, images.shape[1:], data.train.count_classes())
        batches = Minibatches(images, args.batch_size, labels=labels)
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
