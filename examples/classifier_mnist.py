"""The classifier of digits whose features the metrics use (tinygan/metrics/classifier.py).

    python examples/classifier_mnist.py

is a run in runs/classifier, or --out, which writes the weights there as 16-bit floats,
mnist_classifier.npz, and says how many of the test images they get right. Those that come with
tinygan were written by

    python examples/classifier_mnist.py --weights tinygan/metrics/mnist_classifier.npz

Adam with a learning rate that falls to 0; each minibatch shifted by up to two pixels each way. It
trains on MNIST's 50,000 training images; the 10,000 for validation, which it does not use, and the
test images are left for measuring samples.
"""

import os

import numpy as np

from tinygan import (Run, Tensor, UserError, backend, command, grad, ops, optim, record, rng,
                     schedules)
from tinygan.data import Minibatches
from tinygan.files import replaced
from tinygan.metrics import classifier


class ClassifierRun(Run):
    """A classifier as the Module `game`, trained by the one optimiser; it has no pictures."""

    def iterations(self, start):
        (opt,) = self.optimisers.values()
        for i in range(start, self.steps):
            x, labels = next(self.data)
            loss = ops.cross_entropy(self.game(Tensor(shift(x))), labels)
            opt.step(grad(loss, opt.parameters))
            yield i, {"loss": loss.data}

    def exhibits(self):
        return None

    def shown(self, z):
        return None, None


def shift(x, by=2):
    """Return the images (m, C, H, W), all moved by the same random step of up to `by` pixels each
    way; what leaves on one side, black in digits, comes back on the other."""
    down, right = (int(step) - by for step in backend.to_numpy(rng.integers(2 * by + 1, (2,))))
    return backend.xp.roll(x, (down, right), (2, 3))


def measure_accuracy(net, split):
    """Return the share of the images that the classifier gets right."""
    return float((classifier.see(net, split.images).p.argmax(1) == split.labels).mean())


def check(digits):
    """Raise UserError for images of another size and for labels that are no digits."""
    parts = [split for split in (digits.train, digits.valid, digits.test) if len(split.images)]
    if (digits.train.images.shape[1:] != (1, 28, 28)
            or any(split.labels is None or split.labels.min() < 0 or split.labels.max() > 9
                   for split in parts)):
        raise UserError("the classifier learns from grey images of 28x28 pixels with labels from 0 "
                        f"to 9, which {digits.source} are not: give others by --data")


def train(args, digits):
    """Play the run, and return {name: array} of the network's weights as 16-bit floats; say how
    good they are."""
    images = digits.train.images
    batches = Minibatches(images, args.batch_size, labels=digits.train.labels)
    steps = args.steps if args.dry_run else args.epochs * (len(images) // args.batch_size)
    net = classifier.network()
    opt = optim.Adam(net.parameters(), schedules.cosine(args.lr, steps), betas=(0.9, 0.999))
    command.play(args, ClassifierRun(
        args.out, net, batches, {"opt": opt}, steps, save_every=args.save_every,
        settings=command.settings_of(args), resume=args.resume, overwrite=args.overwrite))

    weights = {name: a.astype(np.float16) for name, a in net.state_dict().items()}
    net.load_state_dict(weights)
    net.eval()
    for name, split in (("validation", digits.valid), ("test", digits.test)):
        print(f"{name}: {100 * measure_accuracy(net, split):.2f} % right of {len(split.images)}")
    return weights


def main():
    flags = command.run_flags(__doc__, batch_size=100, out="runs/classifier")
    add = flags.add_argument
    add("--epochs", type=command.positive, default=12,
        help="times through the training images (12)")
    add("--lr", type=command.above_0, default=1.5e-3,
        help="Adam's, at the start; falls to 0 (1.5e-3)")
    add("--weights", metavar="FILE", help="for the weights (OUT/mnist_classifier.npz)")
    args = command.parse(flags, "weights")
    if args.weights and not os.path.isdir(os.path.dirname(args.weights) or "."):
        raise UserError(f"cannot write {args.weights}, as there is no such folder: choose another "
                        "file by --weights")

    with command.started(args) as digits:
        check(digits)
        weights = train(args, digits)
        path = os.path.join(args.out, classifier.WEIGHTS.name)
        if args.weights and not args.dry_run:
            path = args.weights

        def write(path):
            with replaced(path) as file:
                np.savez(file, **weights)
        record.try_to_write(path, write)
        print("dry run: all done once, nothing kept" if args.dry_run else f"weights: {path}")


if __name__ == "__main__":
    command.main(main)
