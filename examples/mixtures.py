"""Any game on a mixture of Gaussians in the plane, where mode collapse can be seen.

    python examples/mixtures.py                                     R1 on the grid of 25
    python examples/mixtures.py --mixture ring --game gan wgan_gp --seeds 0 1
    python examples/mixtures.py --game all --steps 8000             each game, a minute or less

The same small networks for all games, for a seed with the same initial weights; and the same data,
as far as a game draws no more numbers than the GAN does. Each game and seed is a run in a folder of
its own, such as runs/mixtures/grid-r1-0. Ten times on the way its log and its curves get, for 2500
samples of an average of G's weights, the modes that they cover, the share of high-quality ones
(within 3 standard deviations of a mode; of true samples 98.9 %) and the reverse KL of their shares
to the uniform distribution (0 is best); at the end these are printed. Its pictures, and one sheet
of all, a row for each seed, show real points grey, samples blue, and the ground the lighter the
more real D takes it to be.
"""

import argparse
import math
import os

import numpy as np

from tinygan import (Run, Tensor, backend, command, image, nn, no_grad, optim, record, rng,
                     schedules)
from tinygan.data import mixtures
from tinygan.games import catalogue, views
from tinygan.games.catalogue import GAMES
from tinygan.metrics import coverage
from tinygan.random import Random
from tinygan.runs.run import check_folder, remove

Z = 2
K = 5           # D's steps in an iteration of those games that have more than one
PLANE = [name for name, entry in GAMES.items() if entry.examples is catalogue.images]
SETTINGS = {    # of the games that have any, for modes of standard deviation std
    "wgan": lambda std: dict(c=0.1, n_critic=K),                # least KL of c = 0.03, 0.1, 0.3
    "wgan_gp": lambda std: dict(lam=0.1, n_critic=K),           # as gan_toy.py has it
    "sngan": lambda std: dict(n_dis=K),
    "r1": lambda std: dict(gamma=8 * std ** 2),                 # D's slopes go as 1 / std
}
MIXTURES = {"ring": (mixtures.ring, 1.0), "grid": (mixtures.grid, 2.828)}   # and their scales


class Scale(nn.Module):
    """x * factor: networks like numbers of size 1."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def mlp(n_in, n_out, width, activation):
    """Return a network with three hidden layers of `width`."""
    layers = []
    for a, b in [(n_in, width), (width, width), (width, width)]:
        layers += [nn.Dense(a, b, init=nn.he), activation()]
    return nn.Sequential(*layers, nn.Dense(width, n_out))


def normalise(D):
    """Put the spectral norm on each of D's layers; return D."""
    for _, layer in D.modules():
        if isinstance(layer, nn.Dense):
            nn.spectral_norm(layer)
    return D


class PlaneRun(Run):
    """The run in `folder` of game `name` from `seed`, with the script's flags `args`. Its pictures
    are of the plane, and what it measures is the Coverage."""

    def __init__(self, folder, name, seed, args):
        make, scale = MIXTURES[args.mixture]
        self.mixture = mixture = make()
        rng.seed(seed)
        G = nn.Sequential(mlp(Z, 2, args.width, nn.ReLU), Scale(scale))
        D = nn.Sequential(Scale(1 / scale), mlp(2, 1, args.width, nn.LeakyReLU))
        settings = SETTINGS[name](mixture.std) if name in SETTINGS else {}
        k = settings.get("n_critic", settings.get("n_dis", 1))          # D's steps in an iteration
        steps = max(args.steps // k, 1)
        noise = [views.InstanceNoise(schedules.linear(args.sigma, 0.0, 0.8 * steps))]
        if name == "sngan":     # with D's slopes up to 1 it covers far fewer modes of the grid
            D = nn.Sequential(*normalise(D).layers, Scale(5.0))
        game = GAMES[name](G, D, **{"z_size": Z, **settings}, views=noise if args.sigma else [])
        optimiser = optim.RMSProp if name == "wgan" else optim.Adam
        # a schedule counts its own player's steps, and both are to end together
        d_opt = optimiser(game.d_parameters(), schedules.cosine(args.lr, steps * k))
        g_opt = optimiser(game.g_parameters(), schedules.cosine(args.lr, steps))
        self.z = game.latent(2500, Random(2**32))       # always the same
        flags = {flag: getattr(args, flag) for flag in (
            "mixture", "steps", "batch_size", "width", "lr", "sigma")}
        super().__init__(
            folder, game, mixture.minibatches(args.batch_size), (d_opt, g_opt), steps,
            average=max(0.0, min(0.999, 1 - 10 / steps)),       # over a tenth of the run or less
            save_every=args.save_every, resume=args.resume,
            settings={"script": "mixtures.py", "flags": {"game": name, "seed": seed, **flags}})

    def cover(self):
        """Return the Coverage of the mixture by the samples."""
        return coverage(self.game.sample(self.z), self.mixture)

    def measure(self, step):
        if step % -(-self.steps // 10) != 0 and step != self.steps:
            return {}
        modes, quality, kl = self.cover()
        # the KL is infinite while no sample is of high quality, and what is logged is finite
        return {"modes": modes, "HQ %": 100 * quality,
                **({"reverse KL": kl} if math.isfinite(kl) else {})}

    def panels(self, names):
        """Return the panels: each number that is measured has its own, as it has its own scale."""
        measured = [name for name in names if name in ("modes", "HQ %", "reverse KL")]
        others = [name for name in names if name not in measured]
        return [*super().panels(others), *([name] for name in measured)]

    def exhibits(self):
        return self.z

    def shown(self, z):
        return draw(self.game, self.mixture, z, 120)[None], 1       # files have it twice as large


def draw(game, mixture, z, size=240):
    """Return the picture of the plane, with real points and the samples from z, (3, size, size)
    uint8."""
    reach = 1.25 * abs(mixture.modes).max()
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 * reach - reach
    x, y = np.meshgrid(axis, -axis)
    with nn.evaluating(game.D), no_grad():
        scores = game.D(Tensor(backend.xp.asarray(np.stack([x.ravel(), y.ravel()], 1)))).numpy()
    rank = scores.ravel().argsort().argsort().reshape(size, size) / size ** 2
    pixels = 90 + 165 * rank[..., None] * np.array([1.0, 0.95, 0.85])
    for points, colour, thickness in [(mixture.sample(500, Random(1)), (110, 110, 110), 3),
                                      (game.sample(z), (0, 50, 220), 1)]:
        column, row = np.floor((backend.to_numpy(points) * (1, -1) + reach)
                               / (2 * reach) * size).astype(int).T
        for a in range(-(thickness // 2), thickness // 2 + 1):
            for b in range(-(thickness // 2), thickness // 2 + 1):
                inside = ((row + a >= 0) & (row + a < size)
                          & (column + b >= 0) & (column + b < size))
                pixels[row[inside] + a, column[inside] + b] = colour
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--game", nargs="+", choices=[*PLANE, "all"], default=["r1"], help="what to play (r1)")
    add("--mixture", choices=MIXTURES, default="grid", help="8 modes or 25 (grid)")
    add("--seeds", nargs="+", type=command.whole, default=[0], help="of everything random (0)")
    add("--steps", type=command.positive, default=24_000, help="discriminator steps (24000)")
    add("--batch-size", type=command.positive, default=256, help="(256)")
    add("--width", type=command.positive, default=128, help="of the networks' three layers (128)")
    add("--lr", type=command.above_0, default=1e-3, help="at the start; falls to 0 (1e-3)")
    add("--sigma", type=command.from_0, default=0.0,
        help="instance noise: its standard deviation at the start, 0 after four fifths (0: none)")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="DIR", default="runs/mixtures", help="for the runs (runs/mixtures)")
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true",
                        help="go on with the runs in --out that were cut off, begin the others")
    either.add_argument("--overwrite", action="store_true", help="replace them")
    add("--save-every", type=command.from_0, default=30.0, metavar="SECONDS",
        help="between checkpoints (30)")
    add("--dry-run", action="store_true", help="20 steps")
    args = flags.parse_args()
    again = command.as_flags(flags, {name: value for name, value in vars(args).items()
                                     if name not in command.PASSING})
    if args.dry_run:
        args.steps = 20
    with command.output(args):
        names = PLANE if "all" in args.game else list(dict.fromkeys(args.game))
        runs = {(seed, name): os.path.join(args.out, f"{args.mixture}-{name}-{seed}")
                for seed in args.seeds for name in names}
        for folder in runs.values():
            check_folder(folder, args.resume, args.overwrite)
        if args.overwrite:      # all now: one that is cut off goes on with new runs alone
            for folder in filter(os.path.isdir, runs.values()):
                remove(folder)
        rows, pictures = [], []
        for (seed, name), folder in runs.items():
            print(f"{args.mixture}, {name}, seed {seed}", flush=True)
            run = PlaneRun(folder, name, seed, args)
            command.play(args, run, again)
            rows.append(f"{name:10} seed {seed}  {run.cover()}")
            pictures.append(draw(run.game, run.mixture, run.z))
        print("\n".join(["", *rows]))
        path = os.path.join(folder, "samples.png")
        if len(rows) > 1:
            path = os.path.join(args.out, f"{args.mixture}.png")
            record.try_to_write(path, image.save_grid, np.stack(pictures), len(names))
        print("dry run: all done once, nothing kept" if args.dry_run else f"picture: {path}")


if __name__ == "__main__":
    command.main(main)
