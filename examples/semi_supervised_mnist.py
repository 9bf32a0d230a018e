"""Learn to read digits from 100 labels and 50,000 images (Salimans et al. 2016, section 5).

    python examples/semi_supervised_mnist.py                ten labels for each digit, in half an
                                                            hour on one core
    python examples/semi_supervised_mnist.py --labels 20    two
    python examples/semi_supervised_mnist.py --lam 0        D learns from the labels alone
    python examples/semi_supervised_mnist.py --paper        for 300 epochs, as the paper's code

D is a classifier of digits. The images with labels are drawn at random, as many of each class;
their number is printed. Twenty times during a run D classifies the test images:

    test error   the share of them, in percent, that D names wrong

The networks are those of the paper's code, with its weight normalisation and its initial weights by
data; G's batch normalisation has a scale, which is not learned there. The learning rate of 3e-3
falls to 0 in the last third of the steps. With --paper it is constant, as in the code; but that
measures an average of D's weights, and here D itself is measured.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import functools
import math

import numpy as np

from tinygan import Run, Tensor, UserError, command, nn, no_grad, ops, optim, schedules, to_numpy
from tinygan.data import Minibatches, Split, ZipMinibatches
from tinygan.games import SemiSupervisedGAN
from tinygan.metrics.classifier import predict
from tinygan.random import Random, rng

LR = 3e-3
FEATURES = 250
# The code's Adam divides by sqrt(v + 1e-8), which for a small v is 1e-4, as with this eps. G's eps
# is larger, because G's loss is a sum over the features here, and their mean in the code.
EPS = 1e-4
RECIPE = dict(steps=10_800, batch_size=100)
PAPER = dict(steps=150_000, batch_size=100)


def make_networks(shape: tuple[int, int, int], classes: int) -> tuple[nn.Module, nn.Module]:
    """Return (G, D) of the paper's code; D has noise in front of every layer."""
    pixels = math.prod(shape)
    G = nn.Sequential(nn.Dense(100, 500, bias=False), nn.BatchNorm(500), ops.softplus,
                      nn.Dense(500, 500, bias=False), nn.BatchNorm(500), ops.softplus,
                      nn.weight_norm(nn.Dense(500, pixels)), nn.Sigmoid(), nn.Reshape(*shape))

    def dense(n_in, n_out, learn_norms=False):
        return nn.weight_norm(nn.Dense(n_in, n_out, init=nn.normal(0.1)), learn_norms)
    units = pixels, 1000, 500, 250, 250, FEATURES
    layers = [nn.Flatten(), nn.GaussianNoise(0.3)]
    for n_in, n_out in zip(units, units[1:]):
        layers += [dense(n_in, n_out), nn.ReLU(), nn.GaussianNoise(0.5)]
    # the features are the last layer's inputs without their noise
    *trunk, noise = layers
    classify = nn.Sequential(noise, dense(FEATURES, classes, learn_norms=True))
    return G, nn.Heads(nn.Sequential(*trunk), classify, nn.Sequential())


def initialise(layers: list[nn.Module], x: Tensor) -> None:
    """Set g and the bias of each dense layer under weight_norm by its outputs.

    Then the outputs have mean 0 and variance 1 for the inputs x of the first layer; the layers are
    called one after the other (Salimans and Kingma 2016, section 3). The g of an output that is the
    same for all inputs stays as it is.
    """
    with no_grad():
        for layer in layers:
            if hasattr(layer, "weight_g"):
                y = layer(x).data
                std = y.std(0)
                std[std < 1e-6] = 1
                layer.arrays()["weight_g"][...] /= std[:, None]
                layer.bias.data[...] = (layer.bias.data - y.mean(0)) / std
            x = layer(x)


def choose_labelled(split: Split, n: int, rng: Random) -> np.ndarray:
    """Return the places of n random examples of a data set, as many of each class.

    Raises UserError if n is no multiple of the number of classes, or if a class has too few.
    """
    labels, classes = split.require("labels"), split.count_classes()
    if n % classes:
        raise UserError(f"{n} labels cannot be as many of each of {classes} classes: give a "
                        f"multiple of {classes} by --labels")
    order = to_numpy(rng.permutation(len(labels)))
    chosen = [order[labels[order] == label][:n // classes] for label in range(classes)]
    if (most := min(map(len, chosen))) < n // classes:
        raise UserError(f"{n // classes} examples of each class are needed, but one has {most}: "
                        f"give --labels of at most {most * classes}")
    return np.concatenate(chosen)


class SemiSupervisedRun(Run):
    """A run that measures how many of the images in `test` the game's D names wrong.

    choices   the arguments of Run
    """

    def __init__(self, test: Split, *choices) -> None:
        super().__init__(*choices)
        self.test = test

    def measure(self, step: int) -> dict[str, float]:
        if not self.is_due(step, 20):
            return {}
        D = self.game.D
        named = predict(nn.Sequential(D.trunk, D.heads[0]), self.test.images)
        return {"test error": 100 * float((named != self.test.require("labels")).mean())}

    def panels(self, names: list[str]) -> list[list[str]]:
        """Return the panels; the test error has one of its own."""
        return [*super().panels([name for name in names if name != "test error"]), ["test error"]]


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/semi_supervised_mnist")
    flags.add_argument("--labels", type=command.positive, default=100,
                       help="number of images with labels, as many of each class (100)")
    flags.add_argument("--lam", type=command.from_0, default=0.5,
                       help="weight of the loss without labels (0.5)")
    command.add_preset(flags, "--paper", PAPER, "300 epochs of MNIST and a constant learning rate, "
                       "as in the paper's code")
    args = command.parse(flags)

    with command.start(args) as data:
        if not len(data.test.images):
            raise UserError("there are no test images, whose labels D is to find: give more images "
                            "by --data")
        images, classes = data.train.images, data.train.count_classes()
        labelled = choose_labelled(data.train, args.labels, rng)
        print(f"{args.labels} of {len(images)} training images have labels")
        G, D = make_networks(images.shape[1:], classes)
        some = to_numpy(rng.permutation(len(images)))[:500]
        initialise([*D.trunk.layers, *D.heads[0].layers], Tensor(data.train.floats(some)))
        lr = LR if args.paper else schedules.linear(LR, 0.0, args.steps / 3, 2 * args.steps / 3)
        game = SemiSupervisedGAN(G, D, lam=args.lam)
        d_opt = optim.Adam(D.parameters(), lr, eps=EPS)
        g_opt = optim.Adam(G.parameters(), lr, eps=EPS * FEATURES)
        # a minibatch may have more images with labels than there are
        labelled = np.tile(labelled, -(-args.batch_size // args.labels))
        known = Minibatches(images[labelled], args.batch_size, labels=data.train.labels[labelled])
        command.train(args, game, ZipMinibatches(known, Minibatches(images, args.batch_size)),
                      d_opt, g_opt, make_run=functools.partial(SemiSupervisedRun, data.test))


if __name__ == "__main__":
    command.main(main)
