"""Draw samples from a finished run, interpolations, and the nearest training images.

    python examples/sample.py runs/gan_mnist
    python examples/sample.py runs/gan_mnist --seed 3 --truncation 1

The pictures are written into the folder `pictures` of the run, or into --out:

    samples.png     samples, each from noise of its own
    linear.png      linear interpolation: each row has the samples from noise on the straight line
                    between two points
    spherical.png   spherical interpolation: the same two points, and the great circle between them
    pictures.png    only of games that have pictures of their own, and without --inputs: samples in
                    rows by class or by code, groups of an input and its outputs, or groups of one
                    sample at all resolutions (LAPGAN). -n, --truncation, --label and --code do
                    not change it
    encoded.png     only of BiGAN and ALI: test images x, their codes E(x) as grey squares (row by
                    row, black is the smallest number) and their reconstructions G(E(x))
    between.png     likewise: two test images, and between them the samples on the straight line
                    between their codes
    mixed-2.png     only of a style-based G (StyleGAN): the first row and the first column are
                    samples; each other sample has the style of the one at the left in the layers 0
                    and 1, which have the lowest resolution, and the style of the one above in the
                    others
    mixed-4.png     likewise, with the style of the sample at the left in the layers 0 to 3; and so
                    on for each further resolution
    truncated.png   likewise: in each row the style goes from that of a sample (psi = 1) to the mean
                    of all styles (psi = 0) and beyond (psi = -1)
    attention.png   only of a G that is a Sequential with a layer of self-attention (SAGAN): in each
                    row a sample three times, each time with another pixel of the layer's feature
                    maps marked, and to its right the weights with which this pixel attends to all
                    pixels, white the largest. The marked pixels are the lightest of the upper half,
                    that of the lower half, and a corner
    translated.png  only of games whose G takes images: pairs of an input and G's output. With
                    --inputs, the outputs for all images are in outputs.npz too, in the order of the
                    file; of StarGAN those of all domains for the first image, then for the second,
                    and so on
    nearest.png     each sample, and to its right the training image at the smallest Euclidean
                    distance: if the two are the same, G has memorised the training data

No sample depends on the other samples of a picture, unless G normalises by the batch when it draws
(pix2pix).
"""

import argparse
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygan import Tensor, UserError, backend, command, image, nn
from tinygan.backend import Array
from tinygan.data import DataSet, Split, as_floats, load, own, tasks
from tinygan.files import atomic_write
from tinygan.games import BiGAN, Game, ImageTranslation
from tinygan.games.translation import join_pictures
from tinygan.metrics import find_nearest
from tinygan.nested import apply, flatten_nested, map_nested
from tinygan.networks import stylegan
from tinygan.random import Random


def draw_inputs(game: Game, split: Split | None, n: int, limit: float | None, rng: Random) -> Any:
    """Draw the inputs of G for n samples, as arrays on the host.

    split   the data set, for a game whose G takes images
    limit   the limit of the truncation trick (Brock et al. 2019, section 3.1), or None: noise
            outside [-limit, limit] is drawn again until it lies inside. A small limit makes each
            sample more typical, and the samples less varied

    Each sample has a random stream of its own, so that it is the same for any n.
    """
    rows = []
    for _ in range(n):
        stream = Random(rng.key())
        z = to_host(game.inputs(split, 1, stream))
        while limit is not None and any((abs(a) > limit).any()
                                        for a in flatten_nested(z) if is_noise(a)):
            z = map_nested(lambda a, new: np.where(abs(a) > limit, new, a) if is_noise(a) else a,
                           z, to_host(game.inputs(split, 1, stream)))
        rows.append(z)
    return map_nested(lambda *parts: np.concatenate(parts), *rows)


def to_host(z: Any) -> Any:
    """Return nested Tensors and arrays as nested numpy arrays."""
    return map_nested(lambda a: a.numpy().copy() if type(a) is Tensor else backend.to_numpy(a), z)


def to_device(z: Any) -> Any:
    """Return nested numpy arrays on the backend: floats as Tensors, whole numbers as arrays."""
    return map_nested(lambda a: Tensor(backend.xp.asarray(a, dtype="float32"))
                      if a.dtype.kind == "f" else backend.xp.asarray(a), z)


def is_noise(a: np.ndarray) -> bool:
    """Return whether an input of G is noise, floats (m, n), and not labels or images."""
    return a.ndim == 2 and a.dtype.kind == "f"


def interpolate(way: Callable, z0: Any, z1: Any, a: float) -> Any:
    """Return way(noise of z0, noise of z1, a) for inputs z0 and z1; labels and images are z0's.

    `way` is linear or spherical; a goes from 0, at z0, to 1, at z1.
    """
    return map_nested(lambda p, q: way(p, q, a) if is_noise(p) else p, z0, z1)


def linear(z0: np.ndarray, z1: np.ndarray, a: float) -> np.ndarray:
    """Return the point at the fraction a of the straight line from z0 to z1, (n, z_size) each."""
    return (1 - a) * z0 + a * z1


def spherical(z0: np.ndarray, z1: np.ndarray, a: float) -> np.ndarray:
    """Return the point at the fraction a of the great circle from z0 to z1, (n, z_size) each.

        sin((1 - a) t) / sin(t) z0 + sin(a t) / sin(t) z1,  t the angle between z0 and z1

    (White 2016, section 2.1). Vectors of normal noise have almost the same length; points between
    them on a straight line are shorter.
    """
    cosine = (z0 * z1).sum(1) / (np.linalg.norm(z0, axis=1) * np.linalg.norm(z1, axis=1))
    t = np.arccos(cosine.clip(-1, 1))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (np.sin((1 - a) * t) * z0 + np.sin(a * t) * z1) / np.sin(t)
    # the great circle is not defined if z0 and z1 have the same or opposite directions
    return np.where(np.sin(t) > 1e-6, between, linear(z0, z1, a))


def set_label(z: Any, label: int | None) -> Any:
    """Return the inputs z with all labels or codes set to `label`; as they are if it is None.

    Labels and codes are (m,) whole numbers.
    """
    return z if label is None else map_nested(
        lambda a: np.full_like(a, label) if a.ndim == 1 and a.dtype.kind in "iu" else a, z)


def has_styles(game: Game, z: Any) -> bool:
    """Return whether the game's G is style-based, and its inputs z are noise alone."""
    return isinstance(getattr(game, "G", None), stylegan.Generator) and not isinstance(z, tuple)


def draw_codes(codes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return codes (n, k) as images of `shape` (C, H, W), in which a grey square is a number."""
    side = math.ceil(codes.shape[1] ** 0.5)
    size = max(min(shape[1:]) // side, 1)       # of a square, in pixels
    low, high = codes.min(), codes.max()
    squares = np.zeros((len(codes), side * side), np.float32)
    squares[:, :codes.shape[1]] = (codes - low) / max(high - low, 1e-12)
    squares = squares.reshape(-1, side, side).repeat(size, 1).repeat(size, 2)
    images = np.zeros((len(codes), *shape), np.float32)
    squares = squares[:, :shape[1], :shape[2]]
    images[:, :, :squares.shape[1], :squares.shape[2]] = squares[:, None]
    return images


def draw_samples(game: Game, z: Any) -> np.ndarray:
    """Return the samples for inputs z, both on the host."""
    return backend.to_numpy(game.sample_images(to_device(z)))


def scale(game: Game, images: np.ndarray) -> Array:
    """Return images on the host as D and an encoder take them: on the backend, in G's range."""
    return game.scale_images(backend.xp.asarray(as_floats(images)))


def infer(game: BiGAN, x: np.ndarray) -> np.ndarray:
    """Return the codes E(x) of images x, both on the host."""
    return backend.to_numpy(game.infer(scale(game, x)))


def draw_encoded(game: Game, x: np.ndarray) -> np.ndarray:
    """Return for each image in x (n, C, H, W) itself, its code E(x) and G(E(x)), in this order."""
    codes = infer(game, x)
    triples = np.stack([x, draw_codes(codes, x.shape[1:]), draw_samples(game, codes)], 1)
    return triples.reshape(-1, *x.shape[1:])


def draw_between(game: Game, x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Return rows of an image of x, n samples on the line between two codes, and one of y.

    The line goes from E(x) to E(y); x and y are (rows, C, H, W).
    """
    z0, z1 = infer(game, x), infer(game, y)
    z = np.stack([linear(z0, z1, a) for a in np.linspace(0, 1, n)], 1)
    between = draw_samples(game, z.reshape(-1, z.shape[2])).reshape(len(x), n, *x.shape[1:])
    return np.concatenate([x[:, None], between, y[:, None]], 1).reshape(-1, *x.shape[1:])


def synthesise(game: Game, noise: Any, choose: Callable, *inputs: np.ndarray) -> np.ndarray:
    """Return the samples of a style-based G whose w choose(G, *inputs) returns, on the host.

    The noise in G's layers is the same whenever the arrays `noise` (m, ...) are.
    """
    with game.use_averages(), nn.use_random(nn.RandomRows(noise)):
        w = choose(game.G, *map(to_device, inputs))
        return backend.to_numpy(game.G.synthesise([w] * len(game.G.layers)).data)


def draw_mixed(game: Game, z: np.ndarray, other: np.ndarray, crossover: int) -> np.ndarray:
    """Return a square of samples whose styles are mixed, in rows (Karras et al. 2019, figure 3).

    A sample in row i and column j has the styles of z[i - 1] before layer `crossover`, and those of
    other[j - 1] from there on. The first column has the samples of z, and the first row those of
    `other`; their corner is white.
    """
    n, layers = len(z) + 1, len(game.G.layers)
    rows, columns = np.divmod(np.arange(n * n), n)
    start = np.where(rows == 0, 0, np.where(columns == 0, layers, crossover))
    mixed = draw_samples(game, (z[rows - 1], other[columns - 1], start))
    return np.concatenate([np.ones_like(mixed[:1]), mixed[1:]])


def draw_truncated(game: Game, z: np.ndarray, n: int) -> np.ndarray:
    """Return for each z a row of n samples with styles truncated by a psi from 1 to -1."""
    # the samples of a row have one noise, so that they differ in their styles alone
    images = np.stack([synthesise(game, z, lambda G, z: G.truncate(G.f(z), psi), z)
                       for psi in np.linspace(1, -1, n)], 1)
    return images.reshape(-1, *images.shape[2:])


def find_attention(game: Game) -> int | None:
    """Return the index of the last layer of self-attention in G, a Sequential, or None."""
    layers = game.G.layers if nn.is_sequential(getattr(game, "G", None)) else []
    return max((i for i, layer in enumerate(layers) if isinstance(layer, nn.SelfAttention2d)),
               default=None)


def draw_attention(game: Game, z: Any) -> np.ndarray:
    """Return rows of three marked samples, each beside what the marked pixel attends to.

    This is figure 5 of Zhang et al. 2019.
    """
    i = find_attention(game)
    with game.use_averages(), nn.use_random(nn.RandomRows(z)):
        layer, before, inputs = game.G[i], game.G[:i], to_device(z)
        x = apply(before, inputs if before.conditional else flatten_nested(inputs)[0])
        beta = backend.to_numpy(layer.attend(x).data)
    images, (h, w) = draw_samples(game, z), x.shape[2:]
    height, width = images.shape[2:]
    # the row and column of the feature maps for each row and column of an image
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    found = []
    for picture, weights in zip(images, beta):
        light, half = picture.mean(0), height // 2
        top, bottom = light[:half].argmax(), half * width + light[half:].argmax()
        for a, b in (divmod(pixel, width) for pixel in (top, bottom, 0)):
            mark = np.outer(rows == rows[a], columns == columns[b])
            pooled = weights[rows[a] * w + columns[b]].reshape(h // layer.pool, w // layer.pool)
            pooled = np.pad(pooled, (0, layer.pool - 1))    # the pixels that are left out have 0
            attention = pooled[np.ix_(rows // layer.pool, columns // layer.pool)]
            found += [np.where(mark, light[a, b] < 0.5, picture),
                      np.broadcast_to(attention / attention.max(), picture.shape)]
    return np.stack(found)


def save_images(path: str, images: np.ndarray) -> None:
    """Save images, floats in [0, 1], as the bytes "images" of an .npz file."""
    with atomic_write(path) as file:
        np.savez_compressed(file, images=(255 * images.clip(0, 1)).round().astype(np.uint8))


def read_shape(run: str) -> tuple[int, ...] | None:
    """Return the shape (C, H, W) of the images of the run in the folder `run`, if it is known."""
    data = command.read_data(run)
    return data and tuple(data["shape"][1:])


def load_inputs(game: Game, run: str, path: str) -> DataSet:
    """Load the data set at `path`, whose images the game of the folder `run` is to translate.

    Raises UserError for a game whose G takes no images, and for images of another shape than those
    of the run.
    """
    if not isinstance(game, ImageTranslation):
        raise UserError(f"the run in {run} has a game whose G takes no images: leave --inputs out")
    _, file = tasks.split_place(path)
    if file not in own.NAMED and not os.path.exists(os.path.expanduser(file)):
        raise UserError(f"there is no file {file!r}: give an .npz or .npy file of images by "
                        "--inputs")
    shape = read_shape(run)
    loaded = load(path, classes=shape[0] if shape and shape[0] > 1 else None)
    if shape and loaded.train.images.shape[1:] != shape:
        raise UserError(f"{path} has images of the shape {loaded.train.images.shape[1:]}, but G "
                        f"was trained on {shape}: give images of that shape by --inputs")
    return loaded


def load_images(game: Game, run: str, path: str) -> np.ndarray:
    """Return the images in the file at `path` in their order, or all images of another data set.

    See load_inputs().
    """
    loaded = load_inputs(game, run, path)
    if os.path.isfile(os.path.expanduser(path)):
        shape = read_shape(run) or loaded.train.images.shape[1:]
        return own.load_images(os.path.expanduser(path), shape[0])
    return np.concatenate([split.images for split in loaded[:3]])


def sampling_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of the scripts that draw samples of a run."""
    parser = command.make_parser(description)
    add = parser.add_argument
    add("run", metavar="RUN", help="the folder of a run, such as runs/gan_mnist")
    add("--seed", type=command.whole, default=0, help="seed of the samples (0)")
    add("--module", metavar="FILE.py", action="append", default=[],
        help="a Python file with the classes of the run that are not tinygan's, such as its "
        "script; it is executed, without what is under if __name__ == \"__main__\"; give the flag "
        "once for each file")
    add("--data", metavar="PATH", help="the data of the run, if it has moved since")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    return parser


def draw_pictures(game: Game, split: Split | None, args: argparse.Namespace) -> Iterator[tuple]:
    """Yield (file name, images, columns, group) of the pictures that need no training images.

    `split` has the images for a game whose G takes some. The first picture has the samples.
    """
    rng = Random(args.seed)
    chosen = args.code if args.label is None else args.label
    draw = lambda n: set_label(draw_inputs(game, split, n, args.truncation, rng), chosen)
    z0, z1, z = draw(8), draw(8), draw(args.n)
    images = draw_samples(game, z)
    if images.ndim != 4:
        raise UserError(f"the run in {args.run} has samples of the shape {images.shape[1:]}, which "
                        "are no images: mixtures.py draws its own pictures of points")
    yield "samples.png", images, None, None
    for way in (linear, spherical) if any(map(is_noise, flatten_nested(z0))) else ():
        z = [interpolate(way, z0, z1, a) for a in np.linspace(0, 1, args.columns)]
        z = map_nested(lambda *a: np.stack(a, 1).reshape(-1, *a[0].shape[1:]), *z)
        yield f"{way.__name__}.png", draw_samples(game, z), args.columns, None
    if isinstance(game, ImageTranslation):
        z = draw(min(args.n, 32))
        x = next(a for a in flatten_nested(z) if a.ndim == 4)
        pairs = join_pictures(*map(backend.xp.asarray, (x, draw_samples(game, z))))
        yield "translated.png", pairs, 8, 2
    if args.inputs is None and game.overrides("fixed_inputs", "pictures"):
        yield "pictures.png", *game.pictures(game.fixed_inputs(split, 64, rng)), game.group
    if has_styles(game, z0):
        for k in range(2, len(game.G.layers), 2):       # each resolution has two layers
            yield f"mixed-{k}.png", draw_mixed(game, z0, z1, k), len(z0) + 1, None
        yield "truncated.png", draw_truncated(game, z0, args.columns), args.columns, None
    if find_attention(game) is not None:
        yield "attention.png", draw_attention(game, z0), 6, 2
    if isinstance(game, BiGAN) and len(split.images) >= 3:
        x = as_floats(split.images[:24])
        pairs = len(x) // 3         # 8, unless there are fewer images
        yield "encoded.png", draw_encoded(game, x), 12, 3
        yield ("between.png", draw_between(game, x[:pairs], x[pairs:2 * pairs], args.columns),
               args.columns + 2, None)


def draw_nearest(images: np.ndarray, real: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Return each image beside its nearest one of `real`, and a sentence on their distances.

    In place of the images it is None if those of `real` have another shape.
    """
    if real.shape[1:] != images.shape[1:]:
        return None, (f"no nearest.png: the samples have the shape {images.shape[1:]}, and the "
                      f"images of the data {real.shape[1:]}")
    index, distance = find_nearest(images, real)
    pairs = np.stack([images, as_floats(real[index])], 1).reshape(-1, *images.shape[1:])
    return pairs, ("nearest.png: the distance to the nearest training image is "
                   f"{distance.min():.2f} to {distance.max():.2f}, median "
                   f"{np.median(distance):.2f}")


def main() -> None:
    """Draw the pictures that the command line asks for."""
    flags = sampling_parser(__doc__)
    add = flags.add_argument
    add("-n", type=command.positive, default=64, help="number of samples (64)")
    add("--columns", type=command.positive, default=10,
        help="number of samples in a row of an interpolation (10)")
    add("--truncation", type=command.above_0, metavar="LIMIT",
        help="draw noise outside [-LIMIT, LIMIT] again; at least 0.01 (default: no limit)")
    add("--label", type=command.whole, metavar="N",
        help="draw samples of the label N, of a game that is given labels (all labels)")
    add("--code", type=command.whole, metavar="N",
        help="draw samples of the code N, of a game that has codes (all codes)")
    add("--inputs", metavar="PATH", help="images to translate instead of the run's test images, "
        "an .npz or .npy file; for a game whose G takes images")
    add("--out", metavar="DIR", type=os.path.expanduser,
        help="folder for the pictures (RUN/pictures)")
    add("--dry-run", action="store_true", help="do everything, but keep no files")
    args = flags.parse_args()
    if args.truncation is not None and args.truncation < 0.01:
        flags.error("argument --truncation: it would take too long to draw noise so near to 0: "
                    "give 0.01 or more")
    args.out = args.out or os.path.join(args.run, "pictures")
    if os.path.exists(os.path.join(args.out, "checkpoint.npz")):
        flags.error("argument --out: this folder has the samples.png of a run: give another folder")
    if args.inputs and os.path.realpath(args.inputs) == os.path.realpath(
            os.path.join(args.out, "outputs.npz")):
        flags.error("argument --inputs: the outputs would replace this file: give another --out")

    if args.backend:
        backend.use(args.backend)
    game = command.load(args.run, args.module)
    for flag, value, number in (("label", args.label, getattr(game, "classes", 0)),
                                ("code", args.code, getattr(game, "codes", 0))):
        if value is not None and not value < number:
            raise UserError(f"the run in {args.run} has " + (
                f"{flag}s from 0 to {number - 1}: give one of them by --{flag}" if number else
                f"a game without {flag}s: leave --{flag} out"))
    # Game.inputs draws noise; one that overrides it may take images from the data. If --data is
    # wrong, this is said before a picture is written.
    data = (command.load_data(args.run, args.data)
            if args.data or game.overrides("inputs") or isinstance(game, BiGAN) else None)
    split = data and data.test
    given = None if args.inputs is None else load_images(game, args.run, args.inputs)
    if given is not None:
        split = Split(images=given)
    noise = any(map(is_noise, flatten_nested(draw_inputs(game, split, 1, None, Random(0)))))
    for name in ("truncation", "columns"):
        if not noise and getattr(args, name) != flags.get_default(name):
            raise UserError(f"the run in {args.run} has a game whose G takes no noise, so --{name} "
                            "has no effect: leave it out")
    with command.prepare_output(args):
        drawn = {}
        for name, images, columns, group in draw_pictures(game, split, args):
            drawn[name] = images
            image.save_grid(os.path.join(args.out, name), images, columns, scale=2, group=group)
        if given is not None:
            drawn["outputs.npz"] = game.translate_all(as_floats(given))
            save_images(os.path.join(args.out, "outputs.npz"), drawn["outputs.npz"])
        if not args.dry_run:
            print(f"{', '.join(drawn)} in {args.out}")
        for name, part in game.modules():
            if isinstance(part, nn.SelfAttention2d):
                print(f"gamma of the self-attention {name.rstrip('.')}: {part.gamma.item():.3g}")
        # not before: the other pictures can be drawn without the data
        if data is None and command.read_data(args.run) is None:
            print("no nearest.png: the run was made in Python, so its data is not known; give it "
                  "by --data")
            return
        data = data or command.load_data(args.run, args.data)
        pairs, sentence = draw_nearest(drawn["samples.png"], game.reference_images(data.train))
        if pairs is not None:
            image.save_grid(os.path.join(args.out, "nearest.png"), pairs, 16, scale=2, group=2)
        print(sentence)


if __name__ == "__main__":
    command.main(main)
