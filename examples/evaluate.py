"""Measure how good the samples of a finished run are.

    python examples/evaluate.py runs/gan_mnist

The script draws as many samples as there are test images (or training images, if these are fewer)
and compares the two sets. Beside each measure of the samples it prints the floor: the same measure
of equally many training images, which is what a perfect G would have. The script refuses data in
which a test image is also a training image. If the data is the bundled sample of MNIST, a line
above the table says so. The features are those of this project's own classifier, so distances can
only be compared with distances that were measured with the same weights of the classifier.

    Frechet        distance between Gaussians fitted to the features (Heusel et al. 2017), and its
                   ratio to the floor
    KID            unbiased MMD of the features with a cubic kernel (Bińkowski et al. 2018)
    precision      fraction of the samples that lie among the test images, by distances between
                   features (Kynkäänniemi et al. 2019). A test image far from all others makes a
                   large region count, so samples unlike any digit may have a high precision: read
                   it beside the Fréchet distance
    recall         fraction of the test images that lie among the samples (the same paper)
    score          "Inception" score by the classifier, from 1 to 10 (Salimans et al. 2016)
    classes        number of the ten classes that have at least 1 % of the samples
    rarest         fraction of the samples in the class that has the fewest; 0.1 is ideal
    two-sample     test accuracy of a classifier that is trained to tell samples from test images by
                   their features (Lopez-Paz and Oquab 2017); 0.5 is ideal
    Parzen         log-likelihood of the test images in nats, by Parzen windows on the samples
                   (Breuleux et al. 2011); blurred samples may have a larger one than the floor
    Parzen error   its standard error over the test images
    nearest        median of the Euclidean distances from 1,000 samples to their nearest training
                   images; the floor is that of test images, and a much smaller distance means that
                   G copies training images, or that its samples are blurred

For a game that is given labels:

    accuracy       fraction of the samples that the classifier assigns to the label that G was
                   given, if the labels are the digits
    class Frechet  the Fréchet distance within a class, the mean over the classes
    class recall   the recall within a class, the mean over the classes

For a game whose G gets a code without a given meaning (InfoGAN):

    information    L_I of the discrete part of the code, in nats: a lower bound of what a sample
                   tells about it; at most log(codes)
    code error     mean squared error of the continuous part as inferred from the samples; it is
                   1/3 if they do not show it
    purity         fraction of the samples of a code that are of its most frequent class, by the
                   classifier
    majority       fraction of the test images that are of the most frequent class of their code, as
                   inferred by Q
    one-to-one     the same, if each code stands for another class

    The last two stand beside those of ten clusters of pixels (k-means) and of random codes.

For a game with an encoder E (BiGAN):

    distance       mean Euclidean distance of a test image x from its reconstruction G(E(x))
    ratio          its ratio to the mean distance of x from the reconstruction of another image
    same class     fraction of the reconstructions that the classifier assigns to the class of x;
                   0.1 if they do not depend on x
    1-NN           accuracy of the class of the nearest training image, by the output of the network
                   E; and by "features", the inputs of its last dense layer. They stand beside those
                   of an encoder with random weights, and beside 1-NN by pixels

For a game with levels (LAPGAN), of test images that are reduced, such as to 14x14 pixels, and from
which G draws images of full size:

    details        mean square of the details that G adds to the reduced images, in the coarsest
                   of the levels that it draws, divided by that of the true ones
    Frechet        of G's images ("from 14x14"), and of the same images enlarged by interpolation
                   ("blurred 14x14")

For a game that learns from pairs (pix2pix, GauGAN):

    L1             mean absolute difference of a pixel between G's output for a test image and the
                   true one, on a scale from 0 to 1, beside that of the input itself

For a style-based G (StyleGAN), by 2,000 pairs of noise vectors, z and another:

    as z           fraction of the mixed samples that are of the class of z's own sample, by the
                   classifier. "From 2" means that the layers before layer 2 have the style of z,
                   and the others that of the other noise. Pairs of one class are left out
    as other       fraction that are of the class of the other noise's own sample
    path length    perceptual path length: squared change of the classifier's features by a small
                   step on the path between two z, or between their w, divided by the squared step;
                   the mean without the least and the largest hundredth

They stand beside the distance, precision and recall of samples whose styles are mixed from a random
layer on, and of samples with truncated styles (psi 0.7). On a path the noise in G's layers stays
the same; each mixed sample has noise of its own.

With --inputs, the images that G translates, and those that its outputs are compared with, are those
of another data set: its test images, a tenth of a file. They must not be training images of the run
either; a line says so if this cannot be checked, as the data of the run cannot be read. The table
is also written to evaluation.json in the folder of the run, or to --out.
"""

import argparse
import copy
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import sample
from sample import has_styles, scale, spherical, synthesise, to_device, to_host

from tinygan import Tensor, UserError, backend, checkpoint, command, nn, no_grad
from tinygan.backend import Array
from tinygan.data import DataSet, Split, as_floats, count_shared, tasks
from tinygan.files import write_text
from tinygan.games import BiGAN, ConditionalGAN, Game, ImageTranslation, InfoGAN, LAPGAN
from tinygan.games.translation import PairTranslation
from tinygan.metrics import (class_shares, classifier, classifier_score, compute_precision_recall,
                             count_pairs, find_nearest, frechet_distance, kid, majority_accuracy,
                             mean_difference, measure_path_length, nearest_accuracy,
                             one_to_one_accuracy, parzen_log_likelihood, run_two_sample_test)
from tinygan.metrics.classifier import Classified
from tinygan.metrics.parzen import find_centroids
from tinygan.nested import flatten_nested, map_nested
from tinygan.networks import pyramid
from tinygan.nn import Module
from tinygan.random import Random


def refuse_seen(game: Game, data: DataSet, args: argparse.Namespace) -> None:
    """Raise UserError if a test image of the data is also a training image, of it or of the run.

    With --inputs, the data is another than the run's.
    """
    test = game.reference_images(data.test)
    if count := count_shared(test, game.reference_images(data.train)):
        raise UserError(
            f"the run was trained on {count} of the test images: leave images that are there twice "
            "out of the data, and train again" if args.inputs is None else
            f"{args.inputs} has {count} of its test images in its training part too: leave images "
            "that are there twice out")
    if args.inputs is None:
        return
    try:
        seen = command.load_data(args.run, args.data).train
    except (UserError, OSError):
        if args.data is not None:
            raise
        print("the data of the run cannot be read, so whether it was trained on these test images "
              "is not known")
        return
    if count := count_shared(test, game.reference_images(seen)):
        raise UserError(f"the run was trained on {count} of the test images of {args.inputs}: give "
                        "other images by --inputs")


def check_targets(game: ImageTranslation, data: DataSet) -> None:
    """Raise UserError unless the data has targets that G's outputs can be compared with."""
    if "targets" not in data.train:
        raise UserError("the data has no array 'targets' to compare outputs with: give an .npz "
                        "file that has it beside \"images\" (or \"maps\") by --inputs")
    shape = data.train["targets"].shape[1:]
    ours = game.translate(data.train.images[:1]).shape[1:]
    if shape != ours:
        raise UserError(f"the targets have the shape {shape}, but G's outputs {ours}: give targets "
                        "of that shape by --inputs")
    if isinstance(game, PairTranslation):
        tasks.check_pairs(data)


PIECE = 500             # images that pass through the networks at a time
PAIRS = 2000            # pairs of noise whose styles are mixed


def draw_samples(game: Game, split: Split, n: int, seed: int) -> tuple[np.ndarray, Any]:
    """Draw n samples (n, C, H, W) and return them and G's inputs, on the host.

    `split` is the data set, for a game whose G takes images.
    """
    rng, samples, inputs = Random(seed), [], []
    for start in range(0, n, PIECE):
        z = game.inputs(split, min(PIECE, n - start), rng)
        samples.append(backend.to_numpy(game.sample_images(z)).clip(0, 1))      # as in pictures
        inputs.append(to_host(z))
    return np.concatenate(samples), map_nested(lambda *parts: np.concatenate(parts), *inputs)


def compute_in_pieces(f: Callable, *arrays: Any) -> Any:
    """Return f(*arrays), computed for a piece of the rows at a time; f returns numpy arrays."""
    found = [f(*[map_nested(lambda a: a[start:start + PIECE], each) for each in arrays])
             for start in range(0, len(flatten_nested(arrays)[0]), PIECE)]
    return map_nested(lambda *parts: np.concatenate(parts), *found)


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
    found = parzen_log_likelihood(images, as_floats(valid[:1000]), as_floats(test))
    return {"Parzen": found.mean, "Parzen error": found.error}


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


def measure_codes(game: Game, images: np.ndarray, z: Any, data: DataSet, test: Split,
                  net: Module | None, seed: int) -> dict[str, dict[str, float]]:
    """Return {row: {measure: value}} of the codes of a game such as InfoGAN.

    images   the samples for G's inputs z
    test     the test images
    net      the classifier, or None
    """
    def infer(x):
        return backend.to_numpy(game.infer(scale(game, x))[0])

    def score(images, z):
        with nn.eval_mode(game.D), no_grad():
            found = game.measure_code(to_device(z), game.D(Tensor(scale(game, images))))
        # each is a mean over the rows of the piece
        return tuple([np.full(len(images), a.item()) for a in found if a is not None])
    found = {"code": {name: values.mean() for name, values in zip(
        ("information", "code error"), compute_in_pieces(score, images, z))}}
    if net is not None:
        classes = classifier.classify(net, images).p.argmax(1)
        found["code"]["purity"] = majority_accuracy(count_pairs(game.discrete_codes(z), classes))
    if test.labels is not None:
        rng = Random(seed)
        centres = find_centroids(as_floats(data.train.images[:10_000]), game.codes, rng, 20)
        for row, codes in (
                ("code", compute_in_pieces(infer, test.images)),
                ("k-means", find_nearest(test.images, centres)[0]),
                ("random codes", backend.to_numpy(rng.integers(game.codes, (len(test.images),))))):
            table = count_pairs(codes, test.labels)
            found.setdefault(row, {})["majority"] = majority_accuracy(table)
            if table.shape[1] <= 16:
                found[row]["one-to-one"] = one_to_one_accuracy(table)
    return found


def measure_levels(game: LAPGAN, test: Split, net: Module | None,
                   seed: int) -> dict[str, dict[str, float]]:
    """Return {row: {measure: value}} of what G draws of reduced test images, level by level.

    net   the classifier, or None
    """
    x, rng, found = as_floats(test.images), Random(seed), {}
    real = None if net is None else classifier.classify(net, x).features
    for k in range(1, len(game.G.levels)):
        def draw(images):
            *_, image, reduced = pyramid.make_gaussian(Tensor(scale(game, images)), k + 1)
            *z, last = game.latent(len(images), rng)[:k]
            blurred = pyramid.up(reduced)
            levels = game.sample_levels((*z, (last, blurred)))
            energies = [((level - blurred.data) ** 2).mean((1, 2, 3))
                        for level in (levels[-1], image.data)]
            for _ in range(k - 1):
                blurred = pyramid.up(blurred)
            return tuple(map(backend.to_numpy, (levels[0], blurred.data, *energies)))
        samples, blurred, drawn, true = compute_in_pieces(draw, x)
        size = f"{x.shape[2] >> k}x{x.shape[3] >> k}"
        found[f"from {size}"] = {"details": drawn.mean() / true.mean()}
        if net is not None:
            for row, images in (f"from {size}", samples.clip(0, 1)), (f"blurred {size}", blurred):
                found.setdefault(row, {})["Frechet"] = frechet_distance(
                    classifier.classify(net, images).features, real)
    return found


def measure_encoder(game: Game, data: DataSet, test: Split, net: Module | None,
                    seed: int) -> dict[str, dict[str, float]]:
    """Return {row: {measure: value}} of the encoder of a game such as BiGAN on test images.

    net   the classifier, or None
    """
    def compute(network, images):
        def f(x):
            with no_grad():
                return backend.to_numpy(network(Tensor(scale(game, x))).data)
        return compute_in_pieces(f, images)

    def distance(a, b):
        return float(np.sqrt(((a - b).reshape(len(a), -1) ** 2).sum(1)).mean())
    x = as_floats(test.images)
    again = compute_in_pieces(
        lambda x: backend.to_numpy(game.sample_images(Tensor(game.infer(scale(game, x))))), x)
    found = {"encoder": {"distance": distance(x, again)}}
    found["encoder"]["ratio"] = distance(x, again) / distance(np.roll(x, 1, 0), again)
    if net is not None:
        one, other = (classifier.classify(net, images).p.argmax(1) for images in (x, again))
        found["encoder"]["same class"] = float((one == other).mean())
    if test.labels is None:
        return found
    train = data.train

    def compare(f):
        return nearest_accuracy(f(test.images), test.labels, f(train.images), train.labels)
    with game.use_averages():
        E = game.E
    randomised = randomise(E, scale(game, train.images[:1000]), Random(seed))
    for row, network in ("encoder", E), ("random weights", randomised):
        for name, part in (("1-NN", network), ("features", cut_features(network))):
            if part is not None:
                found.setdefault(row, {})[name] = compare(lambda images: compute(part, images))
    found["pixels"] = {"1-NN": compare(as_floats)}
    return found


def measure_pairs(game: Game, split: Split) -> dict[str, dict[str, float]]:
    """Return the rows of the mean difference to the true outputs: of G's outputs and its inputs."""
    inputs, truths = split.images, split["targets"]
    found = {"outputs": {"L1": mean_difference(game.translate(inputs), truths)}}
    if inputs.shape == truths.shape:
        found["inputs"] = {"L1": mean_difference(inputs, truths)}
    return found


def measure_styles(game: Game, z: np.ndarray, test: Split, net: Module,
                   seed: int) -> dict[str, dict[str, float]]:
    """Return {row: {measure: value}} of mixed and truncated styles, and of paths."""
    rng = Random(seed + 1)      # z is from the stream of `seed`
    real = classifier.classify(net, test.images).features
    other = to_host(game.latent(len(z), rng))
    layers = len(game.G.layers)

    def classify(f, *inputs):
        return classifier.classify(net, compute_in_pieces(f, *inputs))

    def mix(z, other, crossover):
        return backend.to_numpy(game.sample_images(to_device((z, other, crossover))))

    found = {}
    few, others = z[:PAIRS], other[:PAIRS]
    own, foreign = (classify(mix, few, others, np.full(len(few), k)).p.argmax(1)
                    for k in (layers, 0))
    differ = own != foreign
    for k in range(1, layers) if differ.any() else ():
        mixed = classify(mix, few[differ], others[differ], np.full(differ.sum(), k)).p.argmax(1)
        found[f"mixed from {k}"] = {"as z": float((mixed == own[differ]).mean()),
                                    "as other": float((mixed == foreign[differ]).mean())}

    def truncate(z):
        return synthesise(game, z, lambda G, z: G.truncate(G.f(z), 0.7), z)
    crossover = 1 + backend.to_numpy(rng.integers(layers - 1, (len(z),)))
    for row, samples in (("mixed", classify(mix, z, other, crossover)),
                         ("psi 0.7", classify(truncate, z))):
        precision, recall = compute_precision_recall(real, samples.features)
        found[row] = {"Frechet": frechet_distance(samples.features, real), "precision": precision,
                      "recall": recall}

    # l_Z and l_W (Karras et al. 2019, section 4.1): the path in z lies on a sphere, because f takes
    # the direction of z alone; the path in w is straight
    few, others = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (few, others))

    def at_z(z, other, t):
        return synthesise(game, (z, other), lambda G, z: G.f(z), spherical(z, other, t))

    def at_w(z, other, t):
        return synthesise(game, (z, other),
                          lambda G, z, other, t: G.f(z) * (1 - t) + G.f(other) * t, z, other, t)
    t, eps = backend.to_numpy(rng.uniform(0, 1, (len(few), 1))), 0.01
    for row, at in ("path in z", at_z), ("path in w", at_w):
        start, end = (classify(at, few, others, np.float32(a)).features for a in (t, t + eps))
        found[row] = {"path length": measure_path_length(start, end, eps)}
    return found


def randomise(network: Module, images: Array, rng: Random) -> Module:
    """Return a copy of a network with random weights, N(0, 1/fan_in), in evaluation mode.

    The statistics of batch normalisation are those of `images`.
    """
    network = copy.deepcopy(network)
    for _, layer in network.modules():
        for name, p in layer.own_arrays(Tensor):
            fan_in = p.size / len(p)
            p.data[...] = rng.normal(p.shape) * fan_in ** -0.5 if p.ndim > 1 else name == "weight"
            p.touch()
        if isinstance(layer, nn.BatchNorm):
            layer.momentum, layer.training = 1.0, True
    with no_grad():
        network(Tensor(images))
    return network.eval()


def cut_features(network: Module) -> Module | None:
    """Return the layers before the last dense layer of a Sequential, or None for other networks."""
    layers = network.layers if isinstance(network, nn.Sequential) else []
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Dense)]
    return nn.Sequential(*layers[:dense[-1]]).eval() if dense and dense[-1] else None


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


def print_rows(rows: dict[str, dict[str, float]]) -> None:
    """Print {row: {measure: value}} as a table."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    for name, row in {"": dict.fromkeys(names), **rows}.items():
        cells = [f"{row[m]:13.4g}" if name and m in row else f"{'' if name else m:>13}"
                 for m in names]
        print(f"{name:14}{''.join(cells)}")


def is_evaluation(path: str) -> bool:
    """Return whether a file is one that this script has written."""
    try:
        with open(path) as file:
            return "measures" in json.load(file)
    except (OSError, ValueError, TypeError):
        return False


def check_output(args: argparse.Namespace, out: str) -> None:
    """Raise UserError unless the table can be written to the file `out`."""
    folder = os.path.dirname(out) or "."
    if args.out and not os.path.isdir(folder):
        raise UserError(f"cannot write {out}, as there is no such folder: choose another --out")
    if os.path.isdir(out):
        raise UserError(f"cannot write {out}, as it is a folder: give a file by --out")
    if os.path.exists(out) and not (os.path.isfile(out) and is_evaluation(out)):
        raise UserError(f"cannot write {out}, as it is another file than an evaluation: give a new "
                        "one by --out")
    if not args.dry_run and os.path.isdir(folder):
        command.check_writable(folder)


def print_beside(ours: dict[str, float], floor: dict[str, float]) -> None:
    """Print the measures of samples beside those of training images."""
    print(f"{'':14}{'samples':>12}{'floor':>12}")
    for name in {**ours, **floor}:      # one of them may lack the means over classes
        times = f"   {ours[name] / floor[name]:.1f} times" if name == "Frechet" else ""
        cells = [f"{table[name]:12.4g}" if name in table else f"{'-':>12}"
                 for table in (ours, floor)]
        print(f"{name:14}{''.join(cells)}{times}")


def measure_further(game: Game, images: np.ndarray, z: Any, data: DataSet, test: Split,
                    net: Module | None, seed: int) -> dict[str, dict[str, float]]:
    """Return {row: {measure: value}}, the further measures of some games and networks.

    They are games with codes, encoders, levels or pairs, and style-based generators.

    images   the samples for G's inputs z
    """
    if isinstance(game, InfoGAN):
        return measure_codes(game, images, z, data, test, net, seed)
    if isinstance(game, BiGAN):
        return measure_encoder(game, data, test, net, seed)
    if isinstance(game, LAPGAN):
        return measure_levels(game, test, net, seed)
    if has_styles(game, z) and net is not None:
        return measure_styles(game, z, test, net, seed)
    return measure_pairs(game, test) if isinstance(game, PairTranslation) else {}


def main() -> None:
    """Print the table of the run that the command line names, and write it to a file."""
    flags = sample.sampling_parser(__doc__)
    add = flags.add_argument
    add("--centroids", action="store_true",
        help="also measure the Parzen log-likelihood of k-means centroids, which takes minutes")
    add("--last", action="store_true",
        help="also measure the Parzen log-likelihood of G's last weights, if the samples are drawn "
        "from an average of its weights")
    add("--inputs", metavar="PATH", help="another data set to translate and to compare with, for "
        "a game whose G takes images")
    add("--out", metavar="FILE", type=os.path.expanduser,
        help="file for the table (RUN/evaluation.json)")
    add("--dry-run", action="store_true", help="measure at most 50 samples, and keep no files")
    args = flags.parse_args()
    out = args.out or os.path.join(args.run, "evaluation.json")
    check_output(args, out)         # fails now, not after minutes
    if args.backend:
        backend.use(args.backend)
    saved = checkpoint.read_run(args.run)       # once, as the run may be in training
    game = checkpoint.make_game(saved, command.list_known(args.module))
    step = saved.about["step"]
    if args.last and game.averages is None:
        raise UserError(f"{args.run} keeps no average of G's weights, so all samples are of the "
                        "last: leave --last out")
    data = (command.load_data(args.run, args.data) if args.inputs is None else
            sample.load_inputs(game, args.run, args.inputs))
    # a game whose outputs are compared with targets
    if args.inputs is not None and type(game).reference_images is ImageTranslation.reference_images:
        check_targets(game, data)
    refuse_seen(game, data, args)
    train, valid = (game.reference_images(split) for split in (data.train, data.valid))
    test_split = data.test.part(slice(50)) if args.dry_run else data.test
    test, test_labels = game.reference_images(test_split), test_split.labels
    n = min(len(test), len(train))
    if n < 10 or len(valid) == 0:
        raise UserError(f"there are {len(train)} training, {len(test)} test and {len(valid)} "
                        "validation images, too few for the "
                        "measures: " + ("train on a larger data set" if args.inputs is None else
                                        "give more images by --inputs"))
    print(f"data: {data.source}")
    net = classifier.load_classifier() if test.shape[1:] == (1, 28, 28) else None
    print("no features: the classifier takes only grey images of 28x28 pixels" if net is None else
          "features and classes: by a classifier of MNIST's digits")
    shape = draw_samples(game, data.test, 2, args.seed)[0].shape[1:]
    if shape != test.shape[1:]:
        raise UserError(f"G's samples have the shape {shape}, but the images of the data "
                        f"{test.shape[1:]}, so they cannot be compared: give the data of the run "
                        "by --data (stacked_mnist.py and mixtures.py measure their samples "
                        "themselves)")
    images, z = draw_samples(game, data.test, n, args.seed)
    labels = game.labels(z) if isinstance(game, ConditionalGAN) else None
    order = backend.to_numpy(Random(args.seed).permutation(len(train)))[:n]
    chosen = as_floats(train[order])
    chosen_labels = None if labels is None else data.train.require("labels")[order]
    ours, floor = (measure(x, y, valid, test, test_labels, net, args.seed)
                   for x, y in ((images, labels), (chosen, chosen_labels)))
    for table, of in ((ours, images), (floor, test)):
        table["nearest"] = float(np.median(find_nearest(of[:1000], train)[1]))

    further = measure_further(game, images, z, data, test_split, net, args.seed)
    found = {"samples": ours, "training images": floor, **further}
    if args.centroids:
        centres = find_centroids(as_floats(train), n, Random(args.seed))
        found["k-means centroids"] = measure_likelihood(centres, valid, test)
    if args.last:
        game.averages = None
        last, _ = draw_samples(game, data.test, n, args.seed)
        found["last weights"] = measure_likelihood(last, valid, test)
    if not args.dry_run:        # before it is printed, as the reader of the output may have ended
        table = {"run": args.run, "step": step, "data": data.source, "n": n, "seed": args.seed,
                 "measures": found}
        write_text(out, json.dumps(table, indent=2, default=float) + "\n")

    if step < (steps := saved.about.get("steps", step)):        # older runs do not have it
        print(f"the run is not finished: this is its checkpoint of step {step} of {steps}")
    print(f"{n} samples against {len(test)} test images; floor: {len(chosen)} training images")
    if "sample" in data.place.split(":"):
        print("measured on the bundled sample: compare with the floor, not with other test sets")
    print_beside(ours, floor)
    if further:
        print_rows(further)
    if args.centroids:
        print(f"Parzen of {n} k-means centroids: {found['k-means centroids']['Parzen']:.4g}; so a "
              "value above that of real images means nothing")
    if args.last:
        print(f"Parzen of G's last weights: {found['last weights']['Parzen']:.4g}")
    print(command.DRY_RUN if args.dry_run else f"table: {out}")


if __name__ == "__main__":
    command.main(main)
