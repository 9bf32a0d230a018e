"""Pictures from a run: its samples, the ways between them, and what they resemble.

    python examples/sample.py runs/gan_mnist
    python examples/sample.py runs/gan_mnist --seed 3 --truncation 1

Into the folder `pictures` of the run, or --out, go

    samples.png     samples, each from noise of its own
    straight.png    in each row, samples from noise on the straight line between two
    spherical.png   and on the great circle between them
    shown.png       what the game says shows it, where it says more than samples: rows by class, or
                    (input, output)
    nearest.png     each sample, and to its right the training image nearest to it, pixel by pixel:
                    if they are the same, G has learnt the data by heart

No sample depends on the others beside it.
"""

import argparse
import os

import numpy as np

from tinygan import Tensor, backend, command, image, record
from tinygan.data import as_floats
from tinygan.games import Game
from tinygan.metrics import find_nearest
from tinygan.nested import leaves, map_nested
from tinygan.random import Random


def inputs(game, split, n, limit, rng):
    """Return the inputs of n samples, as host arrays, each from a stream of its own, so that it is
    the same for any n. Of the numbers of noise those beyond -limit to limit are drawn anew until
    none is (Brock et al. 2019, section 3.1): less varied samples, each more typical. A limit of
    None is none."""
    rows = []
    for _ in range(n):
        own = Random(rng.key())
        z = on_host(game.inputs(split, 1, own))
        while limit is not None and any((abs(a) > limit).any() for a in leaves(z) if is_noise(a)):
            z = map_nested(lambda a, new: np.where(abs(a) > limit, new, a) if is_noise(a) else a,
                           z, on_host(game.inputs(split, 1, own)))
        rows.append(z)
    return map_nested(lambda *parts: np.concatenate(parts), *rows)


def on_host(z):
    return map_nested(lambda a: a.numpy().copy() if type(a) is Tensor else backend.to_numpy(a), z)


def is_noise(a):
    """Whether an array is noise, (m, n) floats, rather than labels or images."""
    return a.ndim == 2 and a.dtype.kind == "f"


def between(way, z0, z1, a):
    """Return the inputs at the fraction a of the way from z0 to z1; labels and images are z0's."""
    return map_nested(lambda p, q: way(p, q, a) if is_noise(p) else p, z0, z1)


def straight(z0, z1, a):
    """The point between z0 and z1, (n, z_size) each, at the fraction a."""
    return (1 - a) * z0 + a * z1


def spherical(z0, z1, a):
    """The same on the great circle through both (White 2016, section 2.1): noise has a length that
    points on the straight line between do not have.

        sin((1 - a) t) / sin(t) z0 + sin(a t) / sin(t) z1,  t the angle between z0 and z1
    """
    cosine = (z0 * z1).sum(1) / (np.linalg.norm(z0, axis=1) * np.linalg.norm(z1, axis=1))
    t = np.arccos(cosine.clip(-1, 1))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (np.sin((1 - a) * t) * z0 + np.sin(a * t) * z1) / np.sin(t)
    return np.where(np.sin(t) > 1e-6, between, straight(z0, z1, a))     # no circle through one line


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("run", metavar="RUN", help="the folder of a run, such as runs/gan_mnist")
    add("-n", type=command.positive, default=64, help="how many samples (64)")
    add("--columns", type=command.positive, default=10, help="of the ways between two samples (10)")
    add("--seed", type=command.whole, default=0, help="of the noise (0)")
    add("--truncation", type=command.above_0, metavar="LIMIT",
        help="draw noise beyond -LIMIT to LIMIT anew, LIMIT at least .01 (none is)")
    add("--module", metavar="FILE.py", action="append", default=[],
        help="a file with classes of the run's own, such as its script; it is executed")
    add("--data", metavar="PATH", help="the data of the run, if it has moved since")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="DIR", help="where the pictures go (RUN/pictures)")
    add("--dry-run", action="store_true", help="all done once, nothing kept")
    args = flags.parse_args()
    if args.truncation is not None and args.truncation < 0.01:
        flags.error("argument --truncation: noise hardly ever lies so near to 0: give .01 or more")
    args.out = args.out or os.path.join(args.run, "pictures")
    if os.path.realpath(args.out) == os.path.realpath(args.run):
        flags.error("argument --out: the run's own samples.png is there: give another folder")

    if args.backend:
        backend.use(args.backend)
    game = command.load(args.run, args.module)
    # noise needs no data; what is made of images does
    data = (None if type(game).inputs is Game.inputs else
            command.data_of(args.run, args.data))
    split = data and data.test
    with command.output(args):
        def on_device(a):
            return (Tensor(backend.xp.asarray(a, dtype="float32")) if a.dtype.kind == "f" else
                    backend.xp.asarray(a))

        def samples(z):
            return backend.to_numpy(game.sample(map_nested(on_device, z)))

        def write(name, images, columns=None):
            record.try_to_write(os.path.join(args.out, name), image.save_grid, images, columns,
                                scale=2)

        rng = Random(args.seed)
        z0, z1 = (inputs(game, split, 8, args.truncation, rng) for _ in range(2))
        names = ["samples.png"]
        for way in (straight, spherical) if any(map(is_noise, leaves(z0))) else ():
            z = [between(way, z0, z1, a) for a in np.linspace(0, 1, args.columns)]
            z = map_nested(lambda *a: np.stack(a, 1).reshape(-1, *a[0].shape[1:]), *z)
            names.append(f"{way.__name__}.png")
            write(names[-1], samples(z), args.columns)
        images = samples(inputs(game, split, args.n, args.truncation, rng))
        write("samples.png", images)
        if (type(game).exhibits, type(game).shown) != (Game.exhibits, Game.shown):
            names.append("shown.png")
            write("shown.png", *game.shown(game.exhibits(split, 64, rng)))
        print(f"{', '.join(names)} in {args.out}")
        data = data or command.data_of(args.run, args.data)     # only what comes now needs it
        real = game.targets(data.train)
        index, distance = find_nearest(images, real)
        found = as_floats(real[index])
        write("nearest.png", np.stack([images, found], 1).reshape(-1, *images.shape[1:]), 16)
        print(f"nearest.png: the distance to the nearest training image is {distance.min():.2f} to "
              f"{distance.max():.2f}, median {np.median(distance):.2f}")
        if args.dry_run:
            print("dry run: all done once, nothing kept")


if __name__ == "__main__":
    command.main(main)
