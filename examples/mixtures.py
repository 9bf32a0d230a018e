"""Play any game on a mixture of Gaussians in the plane, where mode collapse can be seen.

    python examples/mixtures.py                                     R1 on the grid of 25
    python examples/mixtures.py --mixture ring --game gan wgan_gp --seeds 0 1
    python examples/mixtures.py --game all --steps 8000             each game: 20 s to 2 minutes

All games have the same small networks, with the same initial weights for the same seed; those that
show D pairs or packs, or change its layers or outputs, have the same G. The noise is that of each
game: uniform for the GAN, the saturating GAN, f-GAN, R1, feature matching, minibatch discrimination
and BiGAN, and normal for the others. f-GAN has Pearson's divergence. Each game and seed is a run in
a folder of its own, such as runs/mixtures/grid-r1-0.

Ten times during a run, 2500 samples of G with averaged weights are measured. The figures go to the
log and the curves, and the last ones are printed at the end:

    modes        the number of modes that the samples cover
    HQ %         the share of high-quality samples, which lie within 3 standard deviations of a mode
                 (98.9 % of samples of the mixture itself)
    reverse KL   the divergence of the modes' shares from the uniform distribution; 0 is best

The pictures show real points in orange and samples in blue. The lighter the background, the larger
is D's score there. One further picture shows all runs, with a row for each seed.
"""

import argparse
import math
import os
import sys
from typing import Any

import numpy as np

from tinygan import (Run, Tensor, UserError, backend, command, image, nn, no_grad, optim,
                     rng, schedules)
from tinygan.data import mixtures
from tinygan.games import Game, small, views
from tinygan.games.catalogue import GAMES
from tinygan.metrics import measure_coverage
from tinygan.metrics.modes import Coverage
from tinygan.random import Random
from tinygan.runs.run import check_folder, remove_run

Z = 2           # z_size
K = 5           # D's steps per iteration, in games that have several
# the games whose D differs from the GAN's, besides "minibatch": the GAN with minibatch
# discrimination in D
OTHERS = {"sngan", "bigan", "ali", "veegan", "pacgan", "feature_matching"}
PLANE = [name for name, entry in GAMES.items()
         if name in OTHERS or entry.networks is small.make_networks] + ["minibatch"]
SETTINGS = {    # settings other than the default, for modes of standard deviation std
    "wgan": lambda std: dict(c=0.1, n_critic=K),                # least KL of c = 0.03, 0.1, 0.3
    # lam as in the published gan_toy.py. Its grid is 2.828 times smaller, and its ring 1.414 times
    # larger: for the same penalty lam would be 0.28 on this grid, and 0.07 on this ring
    "wgan_gp": lambda std: dict(lam=0.1, n_critic=K),
    "sngan": lambda std: dict(n_dis=K),
    "veegan": lambda std: dict(sigma=0.3),      # with 0.1 and 1.0 it covers less of the grid
    "r1": lambda std: dict(gamma=8 * std ** 2),                 # D's gradients grow as 1 / std
    "r3gan": lambda std: dict(gamma=4 * std ** 2),
    "unrolled": lambda std: dict(k=5, eta=0.01),                # with eta = 0.1 it diverges
}
# factors of D's and G's learning rates; that of the unrolled GAN's D is the published notebook's
RATES = {"r1": (2, 2), "r3gan": (3, 3), "unrolled": (0.1, 1)}
WITHOUT_MOMENTUM = {"r1", "r3gan"}      # games with penalties
MIXTURES = {"ring": (mixtures.ring, 1.0), "grid": (mixtures.grid, 2.828)}   # with their scales


class Scale(nn.Module):
    """Return x * factor, so that a network's other layers have inputs and outputs of size 1."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def mlp(n_in: int, n_out: int, width: int, activation: type[nn.Module]) -> nn.Sequential:
    """Return a network with three hidden layers of `width` units."""
    layers = []
    for a, b in [(n_in, width), (width, width), (width, width)]:
        layers += [nn.Dense(a, b, init=nn.he), activation()]
    return nn.Sequential(*layers, nn.Dense(width, n_out))


def make_networks(name: str, width: int, scale: float) -> tuple[nn.Module, ...]:
    """Return the networks of the game `name` for points of about the size `scale`.

    G has the same initial weights in all games, and D in all games but minibatch and those in
    OTHERS.
    """
    G = nn.Sequential(mlp(Z, 2, width, nn.ReLU), Scale(scale))
    if name in ("bigan", "ali", "veegan"):  # an encoder, and a D that joins its two inputs
        E = nn.Sequential(Scale(1 / scale), *(
            [mlp(2, 2 * Z, width, nn.LeakyReLU), nn.GaussianSample()] if name == "ali" else
            [mlp(2, Z, width, nn.LeakyReLU)]))
        return G, E, nn.Sequential(Scale(1 / scale), nn.Join(), mlp(2 + Z, 1, width, nn.LeakyReLU))
    D = mlp(4 if name == "pacgan" else 2, 1, width, nn.LeakyReLU)
    if name == "minibatch":
        D = nn.Sequential(*D[:-1], nn.MinibatchDiscrimination(width, 8, 2), nn.Dense(width + 8, 1))
    D = nn.Sequential(Scale(1 / scale), D)
    if name == "feature_matching":
        return G, nn.Heads(nn.Sequential(D[0], *D[1][:-1]), D[1][-1], nn.Sequential())
    if name == "sngan":         # a Lipschitz constant of 1 covers far fewer modes of the grid
        for _, layer in D.modules():
            if isinstance(layer, nn.Dense):
                nn.spectral_norm(layer)
        D = nn.Sequential(*D.layers, Scale(5.0))
    return G, D


def make_optimiser(name: str, parameters: list[Tensor], lr: float, steps: int) -> optim.Optimizer:
    """Return the optimiser of a player of the game `name`, whose learning rate falls to 0."""
    falling = schedules.cosine(lr, 0.0, steps)
    if name == "wgan":
        return optim.RMSProp(parameters, falling)
    return optim.Adam(parameters, falling,
                      (0.0, 0.99) if name in WITHOUT_MOMENTUM else (0.5, 0.999))


class PlaneRun(Run):
    """A run in `folder` of the game `name` with `seed` and the script's flags `args`.

    Its pictures show the plane, and it measures the Coverage.
    """

    def __init__(self, folder: str, name: str, seed: int, args: argparse.Namespace) -> None:
        make, scale = MIXTURES[args.mixture]
        self.mixture = mixture = make()
        rng.seed(seed)
        networks = make_networks(name, args.width, scale)
        settings = SETTINGS[name](mixture.std) if name in SETTINGS else {}
        k = settings.get("n_critic", settings.get("n_dis", 1))          # D's steps per iteration
        unrolled = settings["k"] if name == "unrolled" else 0       # they cost as much as D's own
        steps = max(args.steps // (k + unrolled), 1)
        noise = [views.InstanceNoise(schedules.linear(args.sigma, 0.0, 0.8 * steps))]
        make_game = GAMES["gan" if name == "minibatch" else name]
        game = make_game(*networks, views=noise if args.sigma else [],
                         **{"z_size": Z, **settings})
        # each schedule counts the steps of its own player, and both are to end together
        d_rate, g_rate = (args.lr * factor for factor in RATES.get(name, (1, 1)))
        d_opt = make_optimiser(name, game.d_parameters(), d_rate, steps * k)
        g_opt = make_optimiser(name, game.g_parameters(), g_rate, steps)
        self.z = game.latent(2500, Random(2**32))       # the same for all runs of a game
        flags = {flag: getattr(args, flag) for flag in (
            "mixture", "steps", "batch_size", "width", "lr", "sigma")}
        super().__init__(
            folder, game, mixture.minibatches(args.batch_size), (d_opt, g_opt), steps,
            average=max(0.0, min(0.999, 1 - 10 / steps)),       # over at most a tenth of the run
            save_every=args.save_every, resume=args.resume,
            settings={"script": "mixtures.py", "flags": {"game": name, "seed": seed, **flags}})

    def cover(self) -> Coverage:
        """Return the Coverage of the mixture by G's samples."""
        return measure_coverage(self.game.sample(self.z), self.mixture)

    def measure(self, step: int) -> dict[str, float]:
        if not self.is_due(step, 10):
            return {}
        modes, quality, kl = self.cover()
        # the KL is infinite if no sample is of high quality, but logged values must be finite
        return {"modes": modes, "HQ %": 100 * quality,
                **({"reverse KL": kl} if math.isfinite(kl) else {})}

    def panels(self, names: list[str]) -> list[list[str]]:
        """Return the panels; each measured figure has its own, as its scale differs."""
        measured = [name for name in names if name in ("modes", "HQ %", "reverse KL")]
        others = [name for name in names if name not in measured]
        return [*super().panels(others), *([name] for name in measured)]

    def fixed_inputs(self) -> Any:
        return self.z

    def pictures(self, z: Any) -> tuple[np.ndarray, int]:
        return draw(self.game, self.mixture, z, 120)[None], 1       # a run enlarges it to 240


def draw(game: Game, mixture: mixtures.Mixture, z: Any, size: int = 240) -> np.ndarray:
    """Return a picture of the plane, (3, size, size) uint8.

    It shows D's scores (as ranks), 500 points of the mixture and G's samples from z.
    """
    reach = 1.25 * abs(mixture.modes).max()
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 * reach - reach
    x, y = np.meshgrid(axis, -axis)
    points = np.stack([x.ravel(), y.ravel()], 1)
    # A pack has the same point several times. Minibatches in a random order are for a D that
    # compares their samples.
    copies = math.prod(v.k for v in game.views if isinstance(v, views.Pack))
    order, scores = np.random.default_rng(0).permutation(len(points)), np.zeros(len(points))
    with nn.eval_mode(game), no_grad():
        for chosen in np.split(order, size):
            inputs = Tensor(backend.xp.asarray(points[chosen].repeat(copies, 0)))
            scores[chosen] = game.score(game.real(inputs)).numpy().ravel()
    rank = scores.argsort().argsort().reshape(size, size) / size ** 2
    pixels = 90 + 165 * rank[..., None] * np.array([1.0, 0.95, 0.85])
    for points, colour, thickness in [(mixture.sample(500, Random(1)), (240, 130, 0), 3),
                                      (game.sample(z), (0, 50, 220), 1)]:
        column, row = np.floor((backend.to_numpy(points) * (1, -1) + reach)
                               / (2 * reach) * size).astype(int).T
        for a in range(-(thickness // 2), thickness // 2 + 1):
            for b in range(-(thickness // 2), thickness // 2 + 1):
                inside = ((row + a >= 0) & (row + a < size)
                          & (column + b >= 0) & (column + b < size))
                pixels[row[inside] + a, column[inside] + b] = colour
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def main() -> None:
    """Run the script with the flags of the command line."""
    flags = command.make_parser(__doc__)
    add = flags.add_argument
    add("--game", nargs="+", choices=[*PLANE, "all"], default=["r1"], help="games to play (r1)")
    add("--mixture", choices=MIXTURES, default="grid",
        help="a ring of 8 modes or a grid of 25 (grid)")
    add("--seeds", nargs="+", type=command.whole, default=[0], help="seeds; one run for each (0)")
    add("--steps", type=command.positive, default=24_000, help="discriminator steps (24000)")
    add("--batch-size", type=command.positive, default=256, help="minibatch size (256)")
    add("--width", type=command.positive, default=128,
        help="units in each of the networks' three hidden layers (128)")
    add("--lr", type=command.above_0, default=1e-3,
        help="initial learning rate, which falls to 0; that of r1 is twice as large, that of r3gan "
        "three times, that of unrolled's D a tenth (1e-3)")
    add("--sigma", type=command.from_0, default=0.0,
        help="initial standard deviation of instance noise, which falls to 0 within four fifths of "
        "the run (0: no noise)")
    add("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    add("--out", metavar="DIR", type=os.path.expanduser, default="runs/mixtures",
        help="folder for the runs (runs/mixtures)")
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true",
                        help="resume the runs in --out that were stopped, and start the others; "
                        "the other flags must be given again")
    either.add_argument("--overwrite", action="store_true", help="replace the runs in --out")
    add("--save-every", type=command.from_0, default=30.0, metavar="SECONDS",
        help="time between checkpoints (30)")
    add("--dry-run", action="store_true", help="20 steps, and keep no files")
    args = flags.parse_args()
    again = command.to_flags(flags, {name: value for name, value in vars(args).items()
                                     if name not in command.NOT_SAVED})
    if args.dry_run:
        args.steps = 20
    with command.prepare_output(args):
        names = PLANE if "all" in args.game else list(dict.fromkeys(args.game))
        runs = {(seed, name): os.path.join(args.out, f"{args.mixture}-{name}-{seed}")
                for seed in args.seeds for name in names}
        if "pacgan" in names and args.batch_size % 2:
            raise UserError(f"pacgan's packs are pairs, and {args.batch_size} is odd: give an even "
                            "--batch-size")
        for folder in runs.values():
            check_folder(folder, args.resume, args.overwrite)
        there = command.list_runs(args.out)
        given = any(word.startswith(("--mixture", "--game", "--seeds")) for word in sys.argv)
        if args.resume and not given and there and not set(there) & set(runs.values()):
            raise UserError(f"{args.out} holds {os.path.basename(there[0])}, but no run of the "
                            "default game: give --mixture, --game and --seeds as at the start")
        if args.overwrite:      # all before the first run: a later --resume must find no old run
            for folder in filter(os.path.isdir, runs.values()):
                remove_run(folder)
        rows, pictures = [], []
        for (seed, name), folder in runs.items():
            print(f"{args.mixture}, {name}, seed {seed}", flush=True)
            run = PlaneRun(folder, name, seed, args)
            command.play(args, run, again)
            rows.append(f"{name:16} seed {seed}  {run.cover()}")
            pictures.append(draw(run.game, run.mixture, run.z))
        print("\n".join(["", *rows]))
        path = os.path.join(folder, "samples.png")
        if len(rows) > 1:
            path = os.path.join(args.out, f"{args.mixture}.png")
            image.save_grid(path, np.stack(pictures), len(names))
        if not args.dry_run:
            print(f"picture: {path}")


if __name__ == "__main__":
    command.main(main)
