"""Train a BiGAN on MNIST (Donahue et al. 2017): E learns the way back from an image to its noise.

    python examples/bigan_mnist.py            the recipe: four minutes on one core
    python examples/bigan_mnist.py --ali      ALI (Dumoulin et al. 2017): E draws from q(z | x)
    python examples/bigan_mnist.py --paper    the paper's networks and settings, 400 epochs

The pictures show pairs of an image x and its reconstruction G(E(x)), and then samples G(z).

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import math

from tinygan import command, nn, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import ALI, BiGAN, penalties
from tinygan.networks import digits

RECIPE = dict(steps=6000, batch_size=64)
PAPER = dict(steps=400 * 390, batch_size=128)       # 400 epochs of 50,000 images
Z = 50


def recipe(steps: int, shape: tuple[int, int, int], ali: bool) -> tuple:
    """Return (game, d_opt, g_opt): the networks of digits.py, with D's convolutions for E.

    D has a further dense layer, so that it can compare the image with z. It has R1 instead of batch
    normalisation: with the latter, reconstructions are hardly nearer than other images.
    """
    n = digits.FEATURES
    G = digits.generator(Z, shape)
    E = nn.Sequential(*digits.trunk(shape).layers, *(
        [nn.Dense(n, 2 * Z, init=nn.normal(0.02)), nn.GaussianSample()] if ali else
        [nn.Dense(n, Z)]))
    D = nn.Sequential(*digits.trunk(shape, batch_norm=False, code=Z).layers,
                      nn.Dense(n, n, init=nn.he), nn.LeakyReLU(),
                      nn.Dense(n, 1, init=nn.normal(0.02)))
    game = (ALI if ali else BiGAN)(G, E, D, Z, penalties=[penalties.R1(0.1)])
    # G and E are one player
    return game, *digits.make_optimisers(nn.Sequential(G, E), D, steps, penalised=True)


def paper(steps: int, shape: tuple[int, int, int]) -> tuple:
    """Return (game, d_opt, g_opt) with the settings of the paper's code for MNIST.

    The code is jeffdonahue/bigan, train_mnist.sh. Its layers have neither biases nor gains, its
    decay of the weights is 2.5e-5 for halved losses, and its learning rates fall to 1 % in the
    second half of the run. It halves all losses, which are whole here, and updates both players at
    once, as is done here.
    """
    pixels, n, init = math.prod(shape), 1024, nn.normal(0.02)
    dense = lambda n_in, n_out: nn.Dense(n_in, n_out, bias=False, init=init)
    norm = lambda: nn.BatchNorm(n, eps=1e-8, affine=False)
    G = nn.Sequential(
        nn.Skip(nn.Sequential(dense(Z, n), norm(), nn.ReLU())),     # z enters the second layer too
        dense(n + Z, n), norm(), nn.ReLU(), dense(n, pixels), nn.Sigmoid(), nn.Reshape(*shape))
    E = nn.Sequential(nn.Flatten(), dense(pixels, n), nn.LeakyReLU(0.2),
                      dense(n, n), norm(), nn.LeakyReLU(0.2), dense(n, Z))
    D = nn.Sequential(nn.Flatten(), dense(pixels, n), nn.LeakyReLU(0.2), nn.Join(),
                      dense(n + Z, n), norm(), nn.LeakyReLU(0.2),
                      nn.Dense(n, 1, bias=False, init=nn.constant(0.0)))
    game = BiGAN(G, E, D, Z)
    lr = schedules.exponential(2e-4, 0.01 ** (2 / steps), begin=steps / 2)
    d_opt, g_opt = (optim.Adam(parameters, lr, weight_decay=5e-5)
                    for parameters in (game.d_parameters(), game.g_parameters()))
    return game, d_opt, g_opt


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/bigan_mnist")
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--ali", action="store_true", help="the stochastic encoder of ALI")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings", either)
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images
        shape = images.shape[1:]
        game, d_opt, g_opt = (paper(args.steps, shape) if args.paper else
                              recipe(args.steps, shape, args.ali))
        command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt,
                      "simultaneous" if args.paper else "alternating")


if __name__ == "__main__":
    command.main(main)
