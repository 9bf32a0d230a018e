"""How good are the samples of a finished run?

    python examples/evaluate.py runs/gan_mnist

measures as many samples as there are test images against those, and beside each figure prints the
floor: the same figure for as many training images, which is what a perfect G would have. Test
images that the run was trained on are an error, and figures of the bundled sample say that they are
its. The features are those of this project's own classifier: distances between them compare only
with others by the same weights.

    Frechet      distance between Gaussians of the features (Heusel et al. 2017), and how many times
                 the floor it is
    KID          unbiased MMD of the features with a cubic kernel (Bińkowski et al. 2018)
    precision    the share of samples that look real, and
    recall       of real images that G could have made (Kynkäänniemi et al. 2019)
    score        of the classifier, 1 to 10 (Salimans et al. 2016)
    classes      how many of the ten have a hundredth of the samples or more, and
    rarest       the share in the class that has fewest; a tenth is even
    two-sample   accuracy of a classifier that is to tell samples from test images by their features
                 (Lopez-Paz and Oquab 2017); 1/2 is as it should be
    Parzen       log-likelihood of the test images in nats (Breuleux et al. 2009) and its standard
                 error over them
    nearest      the median distance of a sample (of a thousand) to the training image nearest to
                 it, pixel by pixel; the floor is a test image's: much less means that G copies

The table goes to evaluation.json in the run's folder, too.
"""

import argparse
import json
import os

import numpy as np

from tinygan import UserError, backend, command, record
from tinygan.data import as_floats
from tinygan.files import replaced
from tinygan.metrics import (class_shares, classifier, classifier_score, compute_precision_recall,
                             find_nearest, frechet_distance, kid, parzen_log_likelihood,
                             run_two_sample_test)
from tinygan.metrics.parzen import centroids
from tinygan.random import Random


def refuse_seen(train, test):
    """Raise UserError if a test image is among the training images."""
    seen = {image.tobytes() for image in train}
    if count := sum(image.tobytes() in seen for image in test):
        raise UserError(f"the run was trained on {count} of the test images: leave images that are "
                        "there twice out of the data, and train it again")


def samples_of(game, split, n, seed, piece=500):
    """Return n samples (n, C, H, W), on the host."""
    rng = Random(seed)
    return np.concatenate([
        backend.to_numpy(game.sample(game.inputs(split, min(piece, n - start), rng)))
        for start in range(0, n, piece)])


def of_features(seen, test, seed):
    """{measure: value} of what the classifier sees in samples, against what in test images."""
    precision, recall = compute_precision_recall(test.features, seen.features)
    mean, _ = kid(seen.features, test.features, Random(seed))
    shares = class_shares(seen.p)
    told = run_two_sample_test(seen.features, test.features, Random(seed))
    return {"Frechet": frechet_distance(seen.features, test.features), "KID": mean,
            "precision": precision, "recall": recall, "score": classifier_score(seen.p),
            "classes": int((shares >= 0.01).sum()), "rarest": shares.min(),
            "two-sample": told.accuracy}


def likelihood(images, valid, test):
    """Return that of the test images, the width fitted to the first 1,000 validation images: the
    protocol of Goodfellow et al. 2014."""
    mean, error, _ = parzen_log_likelihood(images, as_floats(valid[:1000]), as_floats(test))
    return {"Parzen": mean, "Parzen error": error}


def measure(images, valid, test, net, seed):
    """Return {measure: value} for images (n, C, H, W), of a game or real."""
    found = {}
    if net is not None:
        found = of_features(*(classifier.see(net, a) for a in (images, test)), seed)
    return {**found, **likelihood(images, valid, test)}


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("run", metavar="RUN", help="the folder of a run, such as runs/gan_mnist")
    add("--seed", type=command.whole, default=0, help="of the samples (0)")
    add("--centroids", action="store_true",
        help="the Parzen figure of k-means centroids as well, which takes minutes")
    add("--last", action="store_true",
        help="the Parzen figure of G's last weights as well, where samples are of their average")
    add("--module", metavar="FILE.py", action="append", default=[],
        help="a file with classes of the run's own, such as its script; it is executed")
    add("--data", metavar="PATH", help="the data of the run, if it has moved since")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="FILE", help="where the table goes (RUN/evaluation.json)")
    add("--dry-run", action="store_true", help="with 50 samples at most, nothing kept")
    args = flags.parse_args()
    out = args.out or os.path.join(args.run, "evaluation.json")

    if args.out and not os.path.isdir(os.path.dirname(out) or "."):
        raise UserError(f"cannot write {out}, as there is no such folder: choose another --out")
    if args.backend:
        backend.use(args.backend)
    game = command.load(args.run, args.module)
    if args.last and game.averages is None:
        raise UserError(f"{args.run} keeps no average of G's weights, so all samples are of the "
                        "last: leave --last out")
    data = command.data_of(args.run, args.data)
    train, valid, test = (game.targets(split) for split in (data.train, data.valid, data.test))
    refuse_seen(train, test)
    test = test[:50] if args.dry_run else test
    n = len(test)
    if n < 10 or len(valid) == 0:
        raise UserError(f"there are {n} test and {len(valid)} validation images, too "
                        "few to measure with: give more data")
    print(f"data: {data.source}")
    net = classifier.trained() if test.shape[1:] == (1, 28, 28) else None
    print("no features: the classifier knows grey images of 28x28 pixels alone" if net is None else
          "features and classes: as a classifier of MNIST's digits sees them")
    images = samples_of(game, data.test, n, args.seed)
    order = backend.to_numpy(Random(args.seed).permutation(len(train)))
    chosen = as_floats(train[order[:n]])
    ours, floor = (measure(x, valid, test, net, args.seed) for x in (images, chosen))
    for table, of in ((ours, images), (floor, test)):
        table["nearest"] = float(np.median(find_nearest(of[:1000], train)[1]))

    sample = "   on the bundled sample" if data.place == "sample" else ""
    print(f"{n} samples against {n} test images; floor: {len(chosen)} training images")
    print(f"{'':12}{'samples':>10}{'floor':>10}")
    for name in ours:
        times = f"   {ours[name] / floor[name]:.1f} times" if name == "Frechet" else ""
        print(f"{name:12}{ours[name]:10.4g}{floor[name]:10.4g}{times}{sample}")
    found = {"samples": ours, "training images": floor}
    if args.centroids:
        k = min(n, len(train))
        centres = centroids(as_floats(train), k, Random(args.seed))
        found["k-means centroids"] = likelihood(centres, valid, test)
        print(f"Parzen of {k} k-means centroids: {found['k-means centroids']['Parzen']:.4g}; so a "
              f"score above that of real images means nothing{sample}")
    if args.last:
        game.averages = None
        found["last weights"] = likelihood(samples_of(game, data.test, n, args.seed), valid, test)
        print(f"Parzen of G's last weights: {found['last weights']['Parzen']:.4g}{sample}")
    if args.dry_run:
        print("dry run: all done once, nothing kept")
        return
    table = {"run": args.run, "data": data.source, "n": n, "seed": args.seed,
             "measures": found}

    def write(path):
        with replaced(path) as file:
            file.write((json.dumps(table, indent=2, default=float) + "\n").encode())
    record.try_to_write(out, write)
    print(f"table: {out}")


if __name__ == "__main__":
    command.main(main)
