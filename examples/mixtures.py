"""Any game on a mixture of Gaussians in the plane, where mode collapse can be seen.

    python examples/mixtures.py                                     R1 on the grid of 25
    python examples/mixtures.py --mixture ring --game gan wgan_gp --seeds 0 1
    python examples/mixtures.py --game all --steps 8000             each game, a minute or less

The same small networks for all games, for a seed with the same initial weights; and the same data,
as far as a game draws no more numbers than the GAN does. While it trains it prints, for 2500
samples of an average of G's weights, the modes that they cover, the share of high-quality ones
(within 3 standard deviations of a mode; of true samples 98.9 %) and the reverse KL of their shares
to the uniform distribution (0 is best). Pictures go to --out, one for each run and one sheet of
all, a row for each seed: real points grey, samples blue, and the ground the lighter the more real D
takes it to be.
"""

import argparse
import os
import time

import numpy as np

from tinygan import (Tensor, UserError, backend, checkpoint, image, nn, no_grad, optim, play,
                     record, rng, run)
from tinygan.data import mixtures
from tinygan.games import (GAN, LSGAN, R1, RSGAN, SNGAN, WGAN, WGANGP, Hinge, InstanceNoise, RaGAN)
from tinygan.metrics import coverage

Z = 2
GAMES = {       # for modes of standard deviation std
    "saturating": lambda G, D, std: GAN(G, D, Z, "saturating"),
    "gan": lambda G, D, std: GAN(G, D, Z),
    "lsgan": lambda G, D, std: LSGAN(G, D, Z),
    "hinge": lambda G, D, std: Hinge(G, D, Z),
    "rsgan": lambda G, D, std: RSGAN(G, D, Z),
    "ragan": lambda G, D, std: RaGAN(G, D, Z),
    "wgan": lambda G, D, std: WGAN(G, D, Z, c=0.1),             # least KL of .03, .1, .3
    "wgan_gp": lambda G, D, std: WGANGP(G, D, Z, lam=0.1),      # as gan_toy.py has it
    # with D's slopes up to 1 it covers far fewer modes of the grid
    "sngan": lambda G, D, std: SNGAN(G, nn.Sequential(*normalised(D).layers, Scale(5.0)), Z),
    "r1": lambda G, D, std: R1(G, D, Z, gamma=8 * std ** 2),    # D's slopes go as 1 / std
}
MIXTURES = {"ring": (mixtures.ring, 1.0), "grid": (mixtures.grid, 2.828)}   # and their scales


class Scale(nn.Module):
    """x * factor: networks like numbers of size 1."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def mlp(n_in, n_out, width, activation):
    """Three hidden layers of `width`."""
    layers = []
    for a, b in [(n_in, width), (width, width), (width, width)]:
        layers += [nn.Dense(a, b, init=nn.he), activation()]
    return nn.Sequential(*layers, nn.Dense(width, n_out))


def normalised(D):
    """D with the spectral norm on each of its layers."""
    for _, layer in D.modules():
        if isinstance(layer, nn.Dense):
            nn.spectral_norm(layer)
    return D


def trained(name, mixture, scale, seed, args, path=None):
    """Play game `name`; returns it and its Coverage at the end. Ten times on the way it is saved to
    a checkpoint at `path`, if that is given, and goes on from there if there is one. Raises
    UserError if that is of other settings, or if a weight is no longer finite."""
    rng.seed(seed)
    G = nn.Sequential(mlp(Z, 2, args.width, nn.ReLU), Scale(scale))
    D = nn.Sequential(Scale(1 / scale), mlp(2, 1, args.width, nn.LeakyReLU))
    game = GAMES[name](G, D, mixture.std)
    steps = max(args.steps // game.d_steps, 1)
    game.keep_average(max(0.0, min(0.999, 1 - 10 / steps)))     # over a tenth of the run or less
    if args.sigma:
        game = InstanceNoise(game, optim.linear(args.sigma, 0.0, 0.8 * steps))
    optimiser = optim.RMSProp if name == "wgan" else optim.Adam
    # a schedule counts its own player's steps, and both are to end together
    d_opt = optimiser(game.d_parameters(), optim.cosine(args.lr, steps * game.d_steps))
    g_opt = optimiser(game.g_parameters(), optim.cosine(args.lr, steps))
    begin, done, batches = time.monotonic(), 0, mixture.minibatches(args.batch_size)
    if path and os.path.exists(path):
        saved = checkpoint.read(path)
        if saved.about.get("batch_size") != args.batch_size:
            raise UserError(f"the run in {path} has another --batch-size: resume it with that, or "
                            "choose another --out")
        checkpoint.restore(saved, game, d_opt, g_opt, batches)
        done = saved.about["step"]
    with np.errstate(all="ignore"):         # of a run that diverges, its checkpoint tells
        for i, _, _ in play(game, batches, d_opt, g_opt, args.batch_size, rng, steps, done):
            if (i + 1) % -(-steps // 10) == 0 or i + 1 == steps:
                if path:
                    save(path, game, d_opt, g_opt, batches,
                         {"step": i + 1, "batch_size": args.batch_size})
                print(f"{name} seed {seed}  step {(i + 1) * game.d_steps}/{steps * game.d_steps}  "
                      f"{time.monotonic() - begin:.0f} s  {coverage(samples(game, 2500), mixture)}",
                      flush=True)
    return game, coverage(samples(game, 2500), mixture)


def save(path, game, d_opt, g_opt, batches, about):
    """Write the checkpoint, or raise UserError."""
    try:
        record.try_to_write(path, checkpoint.save, game, d_opt, g_opt, batches, about, {})
    except FloatingPointError as error:
        raise UserError(f"{error} by step {about['step']} of {path}: take a smaller --lr, or leave "
                        "this game out") from None


def samples(game, n):
    """n samples of the averaged G, from noise that is always the same."""
    return game.sample(game.latent(n, backend.Random(2**32)))


def picture(game, mixture, reach, size=240):
    """The plane from -reach to reach, (3, size, size) uint8."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 * reach - reach
    x, y = np.meshgrid(axis, -axis)
    with nn.evaluating(game.D), no_grad():
        scores = game.D(Tensor(backend.xp.asarray(np.stack([x.ravel(), y.ravel()], 1)))).numpy()
    rank = scores.ravel().argsort().argsort().reshape(size, size) / size ** 2
    pixels = 90 + 165 * rank[..., None] * np.array([1.0, 0.95, 0.85])
    for points, colour, thickness in [(mixture.sample(500, backend.Random(1)), (110, 110, 110), 3),
                                      (samples(game, 2500), (0, 50, 220), 1)]:
        column, row = np.floor((backend.to_numpy(points) * (1, -1) + reach)
                               / (2 * reach) * size).astype(int).T
        for a in range(-(thickness // 2), thickness // 2 + 1):
            for b in range(-(thickness // 2), thickness // 2 + 1):
                inside = ((row + a >= 0) & (row + a < size)
                          & (column + b >= 0) & (column + b < size))
                pixels[row[inside] + a, column[inside] + b] = colour
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def begin_anew(paths, args):
    """Remove checkpoints of earlier runs; raises UserError if nobody has said what is to become of
    them."""
    there = [] if args.resume else [path for path in paths if os.path.exists(path)]
    if there and not args.overwrite:
        raise UserError(f"{there[0]} is of an earlier run: go on with it by --resume, replace it "
                        "by --overwrite, or choose another folder by --out")
    for path in there:
        os.remove(path)


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--game", nargs="+", choices=[*GAMES, "all"], default=["r1"], help="what to play (r1)")
    add("--mixture", choices=MIXTURES, default="grid", help="8 modes or 25 (grid)")
    add("--seeds", nargs="+", type=run.whole, default=[0], help="of everything random (0)")
    add("--steps", type=run.positive, default=24_000, help="discriminator steps (24000)")
    add("--batch-size", type=run.positive, default=256, help="(256)")
    add("--width", type=run.positive, default=128, help="of the networks' three layers (128)")
    add("--lr", type=run.above_0, default=1e-3, help="at the start; falls to 0 (1e-3)")
    add("--sigma", type=run.from_0, default=0.0,
        help="instance noise: its standard deviation at the start, 0 after four fifths (0: none)")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="DIR", default="runs/mixtures", help="for the pictures (runs/mixtures)")
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true",
                        help="go on with the runs in --out that were cut off")
    either.add_argument("--overwrite", action="store_true", help="replace them")
    add("--dry-run", action="store_true", help="20 steps")
    args = flags.parse_args()
    if args.dry_run:
        args.steps = 20
    with run.output(args):
        names = list(GAMES) if "all" in args.game else list(dict.fromkeys(args.game))
        make, scale = MIXTURES[args.mixture]
        mixture, rows, pictures = make(), [], []
        reach = 1.25 * abs(mixture.modes).max()
        runs = {(seed, name): os.path.join(args.out, f"{args.mixture}-{name}-{seed}")
                for seed in args.seeds for name in names}
        begin_anew([f"{path}.npz" for path in runs.values()], args)
        for (seed, name), path in runs.items():
            game, covered = trained(name, mixture, scale, seed, args, f"{path}.npz")
            rows.append(f"{name:10} seed {seed}  {covered}")
            pictures.append(picture(game, mixture, reach))
            path = f"{path}.png"
            record.try_to_write(path, image.save_grid, pictures[-1][None])
        print("\n".join(["", *rows]))
        if len(rows) > 1:
            path = os.path.join(args.out, f"{args.mixture}.png")
            record.try_to_write(path, image.save_grid, np.stack(pictures), len(names))
        print("dry run: all done once, nothing kept" if args.dry_run else f"picture: {path}")


if __name__ == "__main__":
    run.main(main)
