"""The classifier of digits whose features the metrics use (tinygan/metrics/classifier.py).

    python examples/classifier_mnist.py --out tinygan/metrics

writes the weights that come with tinygan, mnist_classifier.npz, as 16-bit floats, and says how many
of the test images they get right. Adam with a learning rate that falls to 0; each minibatch shifted
by up to two pixels each way. It trains on MNIST's 50,000 training images; the 10,000 for
validation, which it does not use, and the test images are left for measuring samples.
"""

import argparse
import os

import numpy as np

from tinygan import Tensor, UserError, backend, data, grad, ops, optim, record, rng, run
from tinygan.data import Minibatches
from tinygan.files import replaced
from tinygan.metrics import classifier


def shifted(x, by=2):
    """The images (m, C, H, W), all moved by the same random step of up to `by` pixels each way;
    what leaves on one side, black in digits, comes back on the other."""
    down, right = (int(step) - by for step in backend.to_numpy(rng.integers(2 * by + 1, (2,))))
    return backend.xp.roll(x, (down, right), (2, 3))


def accuracy(net, split):
    return float((classifier.see(net, split.images).p.argmax(1) == split.labels).mean())


def trained(digits, args):
    """{name: array} of the network's weights, as 16-bit floats; says how good they are."""
    images, labels = digits.train
    if (images.shape[1:] != (1, 28, 28) or labels is None
            or any(s.labels.min() < 0 or s.labels.max() > 9 for s in digits[:3] if len(s.labels))):
        raise UserError("the classifier learns from grey images of 28x28 pixels with labels from 0 "
                        f"to 9, which {digits.source} are not: give others by --data")
    batches = Minibatches(images, args.batch_size, labels=labels)
    steps = 3 if args.dry_run else args.epochs * (len(images) // args.batch_size)
    net = classifier.network()
    opt = optim.Adam(net.parameters(), optim.cosine(args.lr, steps), betas=(0.9, 0.999))
    progress = record.Progress(steps)
    with np.errstate(all="ignore"):
        for i in range(steps):
            x, y = next(batches)
            loss = ops.cross_entropy(net(Tensor(shifted(x))), y)
            opt.step(grad(loss, opt.parameters))
            try:
                progress(i, {"loss": loss.data})
            except FloatingPointError as error:
                raise UserError(f"the {error} by step {i + 1}: take a smaller --lr") from None

    weights = {name: a.astype(np.float16) for name, a in net.state_dict().items()}
    net.load_state_dict(weights)
    net.eval()
    for name, split in (("validation", digits.valid), ("test", digits.test)):
        print(f"{name}: {100 * accuracy(net, split):.2f} % right of {len(split.images)}")
    return weights


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--epochs", type=run.positive, default=12, help="times through the training images (12)")
    add("--batch-size", type=run.positive, default=100, help="(100)")
    add("--lr", type=run.above_0, default=1.5e-3, help="Adam's, at the start; falls to 0 (1.5e-3)")
    add("--seed", type=run.whole, default=0, help="of everything random (0)")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--data", metavar="PATH", help="a folder with MNIST's four files, an .npz file with images "
        "and labels, or sample: the bundled digits (TINYGAN_DATA, else a download)")
    add("--out", metavar="DIR", default="runs/classifier",
        help="for the weights (runs/classifier)")
    add("--dry-run", action="store_true", help="three steps on the bundled sample, nothing kept")
    args = flags.parse_args()

    with run.output(args):
        rng.seed(args.seed)
        digits = data.load("sample" if args.dry_run else args.data)
        print(f"data: {digits.source}")
        weights = trained(digits, args)
        path = os.path.join(args.out, classifier.WEIGHTS.name)

        def write(path):
            with replaced(path) as file:
                np.savez(file, **weights)
        record.try_to_write(path, write)
        print("dry run: all done once, nothing kept" if args.dry_run else f"weights: {path}")


if __name__ == "__main__":
    run.main(main)
