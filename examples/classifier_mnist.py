"""Train the classifier of digits whose features the metrics use (tinygan/metrics/classifier.py).

    python examples/classifier_mnist.py

The run in runs/classifier (or --out) ends with the weights, 16-bit floats in mnist_classifier.npz,
and prints the share of test images that they classify correctly. The weights that come with tinygan
were written by

    python examples/classifier_mnist.py --weights tinygan/metrics/mnist_classifier.npz

The optimiser is Adam with a learning rate that falls to 0. Each minibatch is shifted by up to two
pixels in each direction. The classifier is trained on MNIST's 50,000 training images. It does not
use the 10,000 validation images and the test images, so that they can be compared with samples.
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygan import (Run, Tensor, UserError, backend, command, grad, nn, ops, optim, rng,
                     schedules)
from tinygan.backend import Array
from tinygan.data import DataSet, Minibatches, Split
from tinygan.files import atomic_write, read_arrays
from tinygan.metrics import classifier


class ClassifierRun(Run):
    """A run that trains the classifier `game` with its only optimiser; it has no pictures."""

    def iterations(self, start: int) -> Iterator[tuple[int, dict[str, Array]]]:
        (opt,) = self.optimisers.values()
        for i in range(start, self.steps):
            x, labels = next(self.data)
            loss = ops.cross_entropy(self.game(Tensor(shift(x))), labels)
            opt.step(grad(loss, opt.parameters))
            yield i, {"loss": loss.data}

    def fixed_inputs(self) -> None:
        return None

    def pictures(self, z: Any) -> tuple[None, None]:
        return None, None


def shift(x: Array, by: int = 2) -> Array:
    """Return the images (m, C, H, W), all shifted by the same random number of pixels.

    The shift is at most `by` in each direction. Pixels that leave on one side, which are black in
    digits, come back on the other side.
    """
    down, right = (int(step) - by for step in backend.to_numpy(rng.integers(2 * by + 1, (2,))))
    return backend.xp.roll(x, (down, right), (2, 3))


def measure_accuracy(net: nn.Sequential, split: Split) -> float:
    """Return the share of the images that the classifier `net` classifies correctly."""
    return float((classifier.classify(net, split.images).p.argmax(1) == split.labels).mean())


def check(digits: DataSet) -> None:
    """Raise UserError for images of another size and for labels that are not digits."""
    parts = [split for split in (digits.train, digits.valid, digits.test) if len(split.images)]
    if (digits.train.images.shape[1:] != (1, 28, 28)
            or any(split.labels is None or split.labels.min() < 0 or split.labels.max() > 9
                   for split in parts)):
        raise UserError("the classifier is trained on grey images of 28x28 pixels with labels from "
                        f"0 to 9, unlike {digits.source}: give other data by --data")


def train(args: argparse.Namespace, digits: DataSet) -> dict[str, np.ndarray]:
    """Train the classifier, print its accuracy, and return {name: weights} as 16-bit floats."""
    images = digits.train.images
    batches = Minibatches(images, args.batch_size, labels=digits.train.labels)
    steps = args.steps if args.dry_run else args.epochs * (len(images) // args.batch_size)
    net = classifier.make_classifier()
    opt = optim.Adam(net.parameters(), schedules.cosine(args.lr, 0.0, steps), betas=(0.9, 0.999))
    command.play(args, ClassifierRun(
        args.out, net, batches, {"opt": opt}, steps, save_every=args.save_every,
        settings=command.make_settings(args), resume=args.resume, overwrite=args.overwrite))

    weights = {name: a.astype(np.float16) for name, a in net.state_dict().items()}
    net.load_state_dict(weights)
    net.eval()
    for name, split in (("validation", digits.valid), ("test", digits.test)):
        if not len(split.images):
            continue
        print(f"{name}: {100 * measure_accuracy(net, split):.2f} % of {len(split.images)} images "
              "correct")
    return weights


def has_weights(path: str) -> bool:
    """Return whether a file has weights of the classifier, which may be replaced."""
    with contextlib.suppress(UserError, OSError):
        return read_arrays(path).keys() == classifier.make_classifier().arrays().keys()
    return False


def main() -> None:
    """Run the script with the flags of the command line."""
    flags = command.run_parser(__doc__, batch_size=100, out="runs/classifier")
    add = flags.add_argument
    add("--epochs", type=command.positive, default=12,
        help="passes over the training images (12)")
    add("--lr", type=command.above_0, default=1.5e-3,
        help="initial learning rate of Adam, which falls to 0 (1.5e-3)")
    add("--weights", metavar="FILE", type=os.path.expanduser,
        help="file for the trained weights (OUT/mnist_classifier.npz)")
    args = command.parse(flags, "weights")
    if args.weights:        # fails now, not after the training
        folder = os.path.dirname(args.weights) or "."
        if not os.path.isdir(folder):
            raise UserError(f"cannot write {args.weights}: its folder does not exist; choose "
                            "another file by --weights")
        command.check_writable(folder, "--weights")
    path = args.weights or os.path.join(args.out, classifier.WEIGHTS.name)
    if os.path.exists(path) and not has_weights(path):
        raise UserError(f"cannot write {path}, as it is something else than a classifier's "
                        "weights: give a new file by --weights")

    with command.start(args) as digits:
        check(digits)
        weights = train(args, digits)
        if args.dry_run:
            path = os.path.join(args.out, classifier.WEIGHTS.name)
        with atomic_write(path) as file:
            np.savez(file, **weights)
        if not args.dry_run:
            print(f"weights: {path}")


if __name__ == "__main__":
    command.main(main)
