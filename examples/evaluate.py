"""Measure how good the samples of a finished run are.

    python examples/evaluate.py runs/gan_mnist

The script draws as many samples as there are test images and compares the two sets. Beside each
measure of the samples it prints the floor: the same measure of equally many training images, which
is what a perfect G would have. The script refuses data in which a test image is also a training
image. If the data is the bundled sample of MNIST, each line of the table says so. The features are
those of this project's own classifier, so distances can only be compared with distances that were
measured with the same weights of the classifier.

    Frechet        distance between Gaussians fitted to the features (Heusel et al. 2017), and its
                   ratio to the floor
    KID            unbiased MMD of the features with a cubic kernel (Bińkowski et al. 2018)
    precision      fraction of the samples that look real (Kynkäänniemi et al. 2019)
    recall         fraction of the test images that G could have made (the same paper)
    score          "Inception" score by the classifier, from 1 to 10 (Salimans et al. 2016)
    classes        number of the ten classes that have at least 1 % of the samples
    rarest         fraction of the samples in the class that has the fewest; 0.1 is ideal
    two-sample     test accuracy of a classifier that is trained to tell samples from test images by
                   their features (Lopez-Paz and Oquab 2017); 0.5 is ideal
    Parzen         log-likelihood of the test images in nats, by Parzen windows on the samples
                   (Breuleux et al. 2009)
    Parzen error   its standard error over the test images
    nearest        median of the Euclidean distances from 1,000 samples to their nearest training
                   images; the floor is that of test images, and a much smaller distance means that
                   G copies training images

Of a game that is given labels:

    accuracy       fraction of the samples that the classifier assigns to the label that G was given
    class Frechet  the Fréchet distance within a class, the mean over the classes
    class recall   the recall within a class, the mean over the classes

The table is also written to evaluation.json in the folder of the run, or to --out.
"""

import argparse
import json
import os

import numpy as np

from tinygan import UserError, backend, command, record
from tinygan.data import Split, as_floats
from tinygan.files import atomic_write
from tinygan.games import Game
from tinygan.metrics import (class_shares, classifier, classifier_score, compute_precision_recall,
                             find_nearest, frechet_distance, kid, parzen_log_likelihood,
                             run_two_sample_test)
from tinygan.metrics.classifier import Classified
from tinygan.metrics.parzen import find_centroids
from tinygan.nn import Module
from tinygan.random import Random


def refuse_seen(train: np.ndarray, test: np.ndarray) -> None:
    """Raise UserError if a test image is also a training image."""
    seen = {image.tobytes() for image in train}
    if count := sum(image.tobytes() in seen for image in test):
        raise UserError(f"the run was trained on {count} of the test images: leave images that are "
                        "there twice out of the data, and train again")


def draw_samples(game: Game, split: Split, n: int, seed: int,
                 piece: int = 500) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw n samples (n, C, H, W), `piece` at a time, and their labels or None, on the host.

    `split` is the data set, for a game whose G takes images.
    """
    rng, samples, labels = Random(seed), [], []
    for start in range(0, n, piece):
        z = game.inputs(split, min(piece, n - start), rng)
        samples.append(backend.to_numpy(game.sample(z)))
        if hasattr(game, "labels"):
            labels.append(backend.to_numpy(game.labels(z)))
    return np.concatenate(samples), np.concatenate(labels) if labels else None


def measure_features(samples: Classified, test: Classified, seed: int) -> dict[str, float]:
    """Return {measure: value} of the measures on the classifier's features and probabilities."""
    precision, recall = compute_precision_recall(test.features, samples.features)
    mean, _ = kid(samples.features, test.features, Random(seed))
    shares = class_shares(samples.p)
    result = run_two_sample_test(samples.features, test.features, Random(seed))
    return {"Frechet": frechet_distance(samples.features, test.features), "KID": mean,
            "precision": precision, "recall": recall, "score": classifier_score(samples.p),
            "classes": int((shares >= 0.01).sum()), "rarest": shares.min(),
            "two-sample": result.accuracy}


def measure_likelihood(images: np.ndarray, valid: np.ndarray,
                       test: np.ndarray) -> dict[str, float]:
    """Return {measure: value} of the log-likelihood of the test images by windows on `images`.

    The width of the windows is fitted to the first 1,000 validation images, which is the protocol
    of Goodfellow et al. 2014.
    """
    mean, error, _ = parzen_log_likelihood(images, as_floats(valid[:1000]), as_floats(test))
    return {"Parzen": mean, "Parzen error": error}


def measure_classes(samples: Classified, labels: np.ndarray, test: Classified,
                    test_labels: np.ndarray) -> dict[str, float]:
    """Return {measure: value} of the measures of samples with labels.

    Classes with fewer than ten samples or test images are left out of the means; if no class is
    left, there are no means.
    """
    distances, recalls = [], []
    for label in np.unique(test_labels):
        real, fake = test.features[test_labels == label], samples.features[labels == label]
        if min(len(real), len(fake)) >= 10:
            distances.append(frechet_distance(fake, real))
            recalls.append(compute_precision_recall(real, fake)[1])
    means = {"class Frechet": float(np.mean(distances)),
             "class recall": float(np.mean(recalls))} if distances else {}
    return {"accuracy": float((samples.p.argmax(1) == labels).mean()), **means}


def measure(images: np.ndarray, labels: np.ndarray | None, valid: np.ndarray, test: np.ndarray,
            test_labels: np.ndarray | None, net: Module | None, seed: int) -> dict[str, float]:
    """Return {measure: value} of images (n, C, H, W), samples or real images.

    labels   those for which the images were made, or None
    net      the classifier, or None if it does not take images of this shape
    """
    found = {}
    if net is not None:
        ours, real = (classifier.classify(net, a) for a in (images, test))
        found = measure_features(ours, real, seed)
        if labels is not None and test_labels is not None:
            found |= measure_classes(ours, labels, real, test_labels)
    return {**found, **measure_likelihood(images, valid, test)}


def main() -> None:
    """Print the table of the run that the command line names, and write it to a file."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("run", metavar="RUN", help="the folder of a run, such as runs/gan_mnist")
    add("--seed", type=command.whole, default=0, help="seed of the samples (0)")
    add("--centroids", action="store_true",
        help="also measure the Parzen log-likelihood of k-means centroids, which takes minutes")
    add("--last", action="store_true",
        help="also measure the Parzen log-likelihood of G's last weights, if the samples are drawn "
        "from an average of its weights")
    add("--module", metavar="FILE.py", action="append", default=[],
        help="a Python file with the classes of the run that are not tinygan's, such as its "
        "script; it is executed")
    add("--data", metavar="PATH", help="the data of the run, if it has moved since")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="FILE", help="file for the table (RUN/evaluation.json)")
    add("--dry-run", action="store_true", help="measure at most 50 samples, and keep no files")
    args = flags.parse_args()
    out = args.out or os.path.join(args.run, "evaluation.json")

    # fails now, not after minutes
    if args.out and not os.path.isdir(os.path.dirname(out) or "."):
        raise UserError(f"cannot write {out}, as there is no such folder: choose another --out")
    if os.path.isdir(out):
        raise UserError(f"cannot write {out}, as it is a folder: give a file by --out")
    if args.backend:
        backend.use(args.backend)
    game = command.load(args.run, args.module)
    if args.last and game.averages is None:
        raise UserError(f"{args.run} keeps no average of G's weights, so all samples are of the "
                        "last: leave --last out")
    data = command.load_data(args.run, args.data)
    train, valid, test = (game.reference_images(split)
                          for split in (data.train, data.valid, data.test))
    refuse_seen(train, test)
    test_labels = data.test.labels
    if args.dry_run:
        test, test_labels = test[:50], None if test_labels is None else test_labels[:50]
    n = len(test)
    if n < 10 or len(valid) == 0:
        raise UserError(f"there are {n} test and {len(valid)} validation images, too few for the "
                        "measures: train on a larger data set")
    print(f"data: {data.source}")
    net = classifier.load_classifier() if test.shape[1:] == (1, 28, 28) else None
    print("no features: the classifier takes only grey images of 28x28 pixels" if net is None else
          "features and classes: by a classifier of MNIST's digits")
    images, labels = draw_samples(game, data.test, n, args.seed)
    order = backend.to_numpy(Random(args.seed).permutation(len(train)))[:n]
    chosen = as_floats(train[order])
    chosen_labels = None if labels is None else data.train.require_labels()[order]
    ours, floor = (measure(x, y, valid, test, test_labels, net, args.seed)
                   for x, y in ((images, labels), (chosen, chosen_labels)))
    for table, of in ((ours, images), (floor, test)):
        table["nearest"] = float(np.median(find_nearest(of[:1000], train)[1]))

    sample = "   on the bundled sample" if data.place == "sample" else ""
    print(f"{n} samples against {n} test images; floor: {len(chosen)} training images")
    print(f"{'':14}{'samples':>10}{'floor':>10}")
    for name in ours:
        times = f"   {ours[name] / floor[name]:.1f} times" if name == "Frechet" else ""
        print(f"{name:14}{ours[name]:10.4g}{floor[name]:10.4g}{times}{sample}")
    found = {"samples": ours, "training images": floor}
    if args.centroids:
        k = min(n, len(train))
        centres = find_centroids(as_floats(train), k, Random(args.seed))
        found["k-means centroids"] = measure_likelihood(centres, valid, test)
        print(f"Parzen of {k} k-means centroids: {found['k-means centroids']['Parzen']:.4g}; so a "
              f"value above that of real images means nothing{sample}")
    if args.last:
        game.averages = None
        last, _ = draw_samples(game, data.test, n, args.seed)
        found["last weights"] = measure_likelihood(last, valid, test)
        print(f"Parzen of G's last weights: {found['last weights']['Parzen']:.4g}{sample}")
    if args.dry_run:
        print("dry run: every part has run once, no files are kept")
        return
    table = {"run": args.run, "data": data.source, "n": n, "seed": args.seed,
             "measures": found}

    def write(path):
        with atomic_write(path) as file:
            file.write((json.dumps(table, indent=2, default=float) + "\n").encode())
    record.try_to_write(out, write)
    print(f"table: {out}")


if __name__ == "__main__":
    command.main(main)
