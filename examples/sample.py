"""Pictures from a run: its samples, the ways between them, and what they resemble.

    python examples/sample.py runs/gan_mnist
    python examples/sample.py runs/gan_mnist --seed 3 --truncation 1

Into the folder `pictures` of the run, or --out, go

    samples.png     samples, each from noise of its own
    straight.png    in each row, samples from noise on the straight line between two
    spherical.png   and on the great circle between them
    nearest.png     each sample, and to its right the training image nearest to it, pixel by pixel:
                    if they are the same, G has learnt the data by heart

No sample depends on the others beside it.
"""

import argparse
import os

import numpy as np

import tinygan
from tinygan import backend, image, record, run
from tinygan.data import as_floats
from tinygan.metrics import find_nearest


def noise(game, n, limit, rng):
    """Noise for n samples, each from a stream of its own, so that it is the same for any n. Of its
    numbers those beyond -limit to limit are drawn anew until none is (Brock et al. 2019, section
    3.1): less varied samples, each more typical. A limit of None is none."""
    rows = []
    for _ in range(n):
        own = backend.Random(rng.key())
        z = game.latent(1, own).numpy()
        while limit is not None and (beyond := abs(z) > limit).any():
            z[beyond] = game.latent(1, own).numpy()[beyond]
        rows.append(z)
    return np.concatenate(rows)


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
    add("-n", type=run.positive, default=64, help="how many samples (64)")
    add("--columns", type=run.positive, default=10, help="of the ways between two samples (10)")
    add("--seed", type=run.whole, default=0, help="of the noise (0)")
    add("--truncation", type=run.above_0, metavar="LIMIT",
        help="draw noise beyond -LIMIT to LIMIT anew, LIMIT at least .01 (none is)")
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
    game = tinygan.load(args.run)
    with run.output(args):
        def samples(z):
            return backend.to_numpy(game.sample(tinygan.Tensor(backend.xp.asarray(z, "float32"))))

        def write(name, images, columns=None):
            record.try_to_write(os.path.join(args.out, name), image.save_grid, images, columns,
                                scale=2)

        rng = backend.Random(args.seed)
        z0, z1 = (noise(game, 8, args.truncation, rng) for _ in range(2))
        for way in (straight, spherical):
            z = [way(z0, z1, a) for a in np.linspace(0, 1, args.columns)]
            write(f"{way.__name__}.png", samples(np.stack(z, 1).reshape(-1, z0.shape[1])),
                  args.columns)
        images = samples(noise(game, args.n, args.truncation, rng))
        write("samples.png", images)
        print(f"samples.png, straight.png, spherical.png in {args.out}")
        data = run.data_of(args.run, args.data)         # only what comes now needs it
        index, distance = find_nearest(images, data.train.images)
        found = as_floats(data.train.images[index])
        write("nearest.png", np.stack([images, found], 1).reshape(-1, *images.shape[1:]), 16)
        print(f"nearest.png: the distance to the nearest training image is {distance.min():.2f} to "
              f"{distance.max():.2f}, median {np.median(distance):.2f}")
        if args.dry_run:
            print("dry run: all done once, nothing kept")


if __name__ == "__main__":
    run.main(main)
