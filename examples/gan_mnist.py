"""Train a GAN on MNIST by Algorithm 1 of Goodfellow et al. 2014.

    python examples/gan_mnist.py            the recipe: digits in three minutes on two cores
    python examples/gan_mnist.py --r1       R1 (Mescheder et al. 2018) instead of batch
                                            normalisation in D, 13,000 steps
    python examples/gan_mnist.py --paper    the paper's networks and settings, 20 epochs

With --parzen, the paper's measure is taken twenty times during the run, logged and drawn: the mean
log-likelihoods, in nats, of the first 1,000 validation images and of the test images under Parzen
windows around 10,000 samples. The step with the largest "validation nats" is a choice that does not
depend on the test images.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import functools
import math

import numpy as np

from tinygan import Run, UserError, command, nn, optim, schedules
from tinygan.data import Minibatches, as_floats
from tinygan.games import GAN, losses, penalties
from tinygan.metrics import parzen_log_likelihood
from tinygan.networks import digits
from tinygan.random import Random

LOSSES = {"non-saturating": losses.NonSaturating, "saturating": losses.Saturating}
RECIPE = dict(steps=7000, batch_size=64)
R1 = dict(steps=13_000, batch_size=64, average=0.9995)
# 20 epochs; in the published code the momentum rises for 250, so here it ends below its maximum
PAPER = dict(steps=10_000, batch_size=100, order="simultaneous")


def recipe(steps: int, shape: tuple[int, int, int], k: int = 1) -> tuple:
    """Return (G, D, d_opt, g_opt): settings with which three minutes give good samples.

    Networks and optimisers are those of networks/digits.py for images of `shape` (C, H, W), and for
    `steps` iterations with k steps of D. The networks are narrow, which leaves time for more steps.
    Raises UserError if H or W is below 4.
    """
    G, D = digits.generator(100, shape), digits.discriminator(shape)
    return G, D, *digits.make_optimisers(G, D, steps, d_steps=k)


def make_penalised(shape: tuple[int, int, int], width: int) -> tuple:
    """Return (G, D, d_opt, g_opt) for R1: the recipe's networks, `width` times as wide.

    The learning rates are constant, since the samples are those of averaged weights. G's is twice
    D's.
    """
    sizes = dict(hidden=128 * width, channels=16 * width)
    G = digits.generator(100, shape, **sizes)
    D = digits.discriminator(shape, batch_norm=False, **sizes)
    return G, D, *(optim.Adam(player.parameters(), lr, betas=(0.0, 0.99))
                   for player, lr in ((D, 1e-3), (G, 2e-3)))


def paper(images: np.ndarray, batch_size: int) -> tuple:
    """Return (G, D, d_opt, g_opt) with the settings of the paper's code for MNIST.

    The code is goodfeli/adversarial, mnist.yaml.
    """
    shape, init = images.shape[1:], nn.uniform(0.05)
    pixels = math.prod(shape)
    G = nn.Sequential(
        nn.Dense(100, 1200, init=init), nn.ReLU(),
        nn.Dense(1200, 1200, init=init), nn.ReLU(),
        nn.Dense(1200, pixels, init=init), nn.Sigmoid(), nn.Reshape(*shape))
    mean = (images.mean(0) / (255 if images.dtype == np.uint8 else 1)).clip(1e-7, 1 - 1e-7).ravel()
    G[4].load_state_dict({"weight": G[4].weight.numpy(),
                          "bias": np.log(mean / (1 - mean))})       # G starts at the mean image
    init = nn.uniform(0.005)
    D = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.2), nn.Maxout(pixels, 240, pieces=5, init=init),
        nn.Dropout(0.5), nn.Maxout(240, 240, pieces=5, init=init),
        nn.Dropout(0.5), nn.Dense(240, 1, init=init))
    momentum = schedules.linear(0.5, 0.7, 250 * len(images) / batch_size)       # over 250 epochs
    sgd = lambda player, lr: optim.SGD(
        player.parameters(), schedules.exponential(lr, 1 / 1.000004, floor=1e-6), momentum)
    return G, D, sgd(D, 0.05), sgd(G, 0.1)      # 0.05 and not 0.1, because the code halves D's loss


class ParzenRun(Run):
    """A run that measures G's samples by Parzen windows (section 5 of the paper).

    valid, test   the images whose log-likelihoods it logs; the first also fit the windows' width
    choices       the arguments of Run
    """

    def __init__(self, valid: np.ndarray, test: np.ndarray, *choices) -> None:
        if len(valid) < 1 or len(test) < 2:
            raise UserError("--parzen needs at least 1 validation and 2 test images, but there are "
                            f"{len(valid)} and {len(test)}: leave it out, or give more by --data")
        super().__init__(*choices)
        self.valid, self.test = as_floats(valid), as_floats(test)

    def measure(self, step: int) -> dict[str, float]:
        if not self.is_due(step, 20):
            return {}
        samples = self.game.draw_samples(10_000, Random(0))
        found = parzen_log_likelihood(samples, self.valid, self.test)
        return {"validation nats": found.valid, "test nats": found.mean,
                "standard error": found.error}

    def panels(self, names: list[str]) -> list[list[str]]:
        """Return the panels; the log-likelihoods have one of their own."""
        own = [name for name in names if name.endswith("nats")]
        others = [name for name in names if name not in own and name != "standard error"]
        return [*super().panels(others), *([own] if own else [])]


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/gan_mnist")
    flags.add_argument("--k", type=command.positive, default=1,
                       help="discriminator steps in an iteration (1)")
    flags.add_argument("--g-loss", choices=LOSSES,
                       default="non-saturating", help="the generator's loss (non-saturating)")
    flags.add_argument("--order", choices=["alternating", "simultaneous"], default="alternating",
                       help="the order of the players' updates (alternating; with --paper "
                       "simultaneous)")
    flags.add_argument("--gamma", type=command.from_0, default=0.3,
                       help="weight of the penalty, with --r1 (0.3)")
    flags.add_argument("--lazy", type=command.positive, default=1, metavar="K",
                       help="compute the penalty in every K-th iteration, with K times its weight, "
                       "with --r1 (1)")
    flags.add_argument("--width", type=command.positive, default=1,
                       help="width of the networks as a multiple of the recipe's, with --r1 (1)")
    flags.add_argument("--parzen", action="store_true",
                       help="measure the samples by Parzen windows twenty times during the run")
    either = flags.add_mutually_exclusive_group()
    command.add_preset(flags, "--r1", R1, "R1 instead of batch normalisation in D", either)
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings", either)
    args = command.parse(flags)
    command.refuse_unused(flags, args, args.r1, "--r1", "width", "gamma", "lazy")
    command.refuse_unused(flags, args, args.gamma > 0, "a --gamma above 0", "lazy")

    with command.start(args) as data:
        images = data.train.images
        shape = images.shape[1:]
        G, D, d_opt, g_opt = (
            paper(images, args.batch_size) if args.paper else
            make_penalised(shape, args.width) if args.r1 else recipe(args.steps, shape, args.k))
        penalty = penalties.R1(args.gamma)
        if args.lazy > 1:
            penalty = penalties.Lazy(penalty, args.lazy)
        game = GAN(G, D, loss=LOSSES[args.g_loss](), d_steps=args.k,
                   penalties=[penalty] if args.r1 else [])
        batches = Minibatches(images, args.batch_size)
        make_run = (functools.partial(ParzenRun, data.valid.images[:1000], data.test.images)
                    if args.parzen else Run)
        command.train(args, game, batches, d_opt, g_opt, args.order, make_run=make_run)


if __name__ == "__main__":
    command.main(main)
