"""Train an InfoGAN on MNIST (Chen et al. 2016): codes get a meaning, although no label is given.

    python examples/infogan_mnist.py            the recipe: 80 seconds on one core
    python examples/infogan_mnist.py --paper    the paper's networks and settings, 5,000 steps
    python examples/infogan_mnist.py --side     the control: Q learns on the side, G ignores it

G gets a code beside its noise: one of ten values, which mostly comes to stand for a digit, and two
numbers from -1 to 1, for example for slant and width. Each row of the pictures changes one part of
the code.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, nn, optim
from tinygan.data import Minibatches
from tinygan.games import InfoGAN
from tinygan.networks import digits

RECIPE = dict(steps=3000, batch_size=64, lam=0.1)
PAPER = dict(steps=5000, batch_size=128, lam=1.0)       # 50 "epochs" of 100 in openai/InfoGAN
Z, CODES, CONTINUOUS = 62, 10, 2


def recipe(steps: int, shape: tuple[int, int, int]) -> tuple:
    """Return (G, D, d_opt, g_opt): the networks of digits.py, Q as D's second head, and Adam.

    lam is a tenth of the paper's: with 1 the codes are as clear, but the samples are worse.
    """
    G = digits.generator(Z + CONTINUOUS, shape, CODES)
    D = nn.Heads(digits.trunk(shape), nn.Dense(digits.FEATURES, 1, init=nn.normal(0.02)),
                 make_q(digits.FEATURES, 64))
    return G, D, *digits.make_optimisers(G, D, steps)


def paper(shape: tuple[int, int, int]) -> tuple:
    """Return (G, D, d_opt, g_opt) with the paper's networks and settings (appendix C.1).

    The slope of the leaky ReLUs and the learning rates are those of the paper's text. Batch
    normalisation begins with gains of 1 and not N(1, 0.02^2).
    """
    init, sizes = nn.normal(0.02), dict(hidden=1024, channels=64)
    G = digits.generator(Z + CONTINUOUS, shape, CODES, **sizes, init=init)
    D = nn.Heads(digits.trunk(shape, **sizes, slope=0.1), nn.Dense(1024, 1, init=init),
                 make_q(1024, 128, slope=0.1))
    return G, D, optim.Adam(D.parameters(), 2e-4), optim.Adam(G.parameters(), 1e-3)


def make_q(n_in: int, hidden: int, slope: float = 0.2) -> nn.Sequential:
    """Return Q's layers after the trunk: to the logits of the codes and two means."""
    init = nn.normal(0.02)
    return nn.Sequential(nn.Dense(n_in, hidden, bias=False, init=init), nn.BatchNorm(hidden),
                         nn.LeakyReLU(slope), nn.Dense(hidden, CODES + CONTINUOUS, init=init))


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, RECIPE["steps"], RECIPE["batch_size"],
                                out="runs/infogan_mnist")
    flags.add_argument("--lam", type=command.from_0, default=RECIPE["lam"],
                       help="weight of the information L_I (0.1; with --paper 1)")
    flags.add_argument("--side", action="store_true",
                       help="leave the information out of G's loss")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images
        shape = images.shape[1:]
        G, D, d_opt, g_opt = paper(shape) if args.paper else recipe(args.steps, shape)
        game = InfoGAN(G, D, Z, CODES, CONTINUOUS, args.lam, on_g=not args.side)
        command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
