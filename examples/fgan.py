"""Fit a Gaussian to a mixture of two by f-divergences, as in Nowozin et al. 2016, section 2.5.

    python examples/fgan.py                             six divergences: half a minute
    python examples/fgan.py --divergence kl neyman      these two

The data are drawn from a mixture P of two Gaussians on the line, and G(z) = mean + deviation z is
one Gaussian Q. No Q equals P, so each divergence D_f(P || Q) has a best Q of its own. G and D, a
small network, are trained by the bound F on the divergence and never see a density. For each
divergence the script prints the mean and the deviation that G has learned and the F that D has
reached, each beside its theoretical value: the best mean and deviation, and their D_f, are computed
by numerical integration.

A divergence whose f(u) is large for large u = p / q, such as Pearson's, has a wide Q that covers
all data. One whose f(u) is large near u = 0, such as Neyman's, has a narrow Q that leaves out a
part of the data.

The paper has another mixture, larger networks and minibatches, and other settings of training.
"""

import math
from collections.abc import Iterator

import numpy as np

from tinygan import Tensor, backend, command, nn, optim, play, rng, schedules
from tinygan.backend import Array
from tinygan.games import Game
from tinygan.games.fgan import DIVERGENCES, FDivergence
from tinygan.random import Random

WEIGHTS, MEANS, DEVIATIONS = (0.7, 0.3), (-1.0, 2.0), (0.8, 1.2)        # of P
GRID = np.linspace(-10, 10, 4001)       # for integrals
NAMES = [name for name in DIVERGENCES if name != "gan"]     # the best Q is jensen_shannon's


def compute_density(mean: float, deviation: float) -> np.ndarray:
    """Return the density of N(mean, deviation^2) on GRID."""
    return np.exp(-((GRID - mean) / deviation) ** 2 / 2) / deviation / math.sqrt(2 * math.pi)


P = sum(w * compute_density(m, s) for w, m, s in zip(WEIGHTS, MEANS, DEVIATIONS))


def integrate_divergence(name: str, mean: float, deviation: float) -> float:
    """Return D_f(P || Q), the integral of q f(p / q) (eq. 2), for Q = N(mean, deviation^2)."""
    q = compute_density(mean, deviation)
    with np.errstate(over="ignore"):            # Pearson's is infinite for a narrow Q
        return float((q * DIVERGENCES[name].f(P / q)).sum() * (GRID[1] - GRID[0]))


def find_best(name: str) -> tuple[float, float, float]:
    """Return (mean, deviation, D_f) of the Q with the least divergence, by a search on grids."""
    best, reach = (math.inf, 0.0, 1.5), 1.0
    for _ in range(20):                         # each grid is 0.6 times as large as the last
        _, mean, deviation = best
        best = min((integrate_divergence(name, m, s), m, s)
                   for m in mean + reach * np.linspace(-1, 1, 9)
                   for s in deviation + reach * np.linspace(-1, 1, 9) if s > 0.4)
        reach *= 0.6
    return best[1], best[2], best[0]


def draw(density: np.ndarray, m: int, rng: Random) -> Array:
    """Draw (m, 1) numbers of a density on GRID, one from each of m intervals of equal probability.

    Their mean and variance have less noise than those of independent numbers.
    """
    u = (np.arange(m)[:, None] + backend.to_numpy(rng.uniform(0, 1, (m, 1)))) / m
    cdf = np.cumsum(density) - density / 2      # half of a point's share lies below it
    return backend.xp.asarray(np.interp(u, cdf / density.sum(), GRID).astype(np.float32))


def draw_data(m: int) -> Iterator[Array]:
    """Yield minibatches (m, 1) of samples of P."""
    while True:
        yield draw(P, m, rng)


class OnTheLine(Game):
    """A game whose noise is N(0, 1), drawn like the data."""

    def latent(self, m: int, rng: Random) -> Tensor:
        return Tensor(draw(compute_density(0, 1), m, rng))


def fit(name: str, steps: int, m: int) -> tuple[float, float, float]:
    """Train G and D; return G's mean and deviation, and the mean of F in the last 5 % of steps."""
    D = nn.Sequential(nn.Dense(1, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))
    G = nn.Dense(1, 1)
    G.load_state_dict({"weight": np.ones((1, 1)), "bias": np.zeros(1)})
    game = OnTheLine(G, D, z_size=1, loss=FDivergence(name, saturating=True))
    d_opt, g_opt = (optim.Adam(player.parameters(), schedules.cosine(0.01, 0.0, steps),
                               betas=(0.5, 0.99)) for player in (D, G))
    bounds = [-d_loss.item()
              for _, d_loss, _ in play(game, draw_data(m), d_opt, g_opt, m, rng, steps)]
    return G.bias.item(), abs(G.weight.item()), float(np.mean(bounds[-math.ceil(steps / 20):]))


def main() -> None:
    """Run the script with the flags of the command line."""
    flags = command.make_parser(__doc__)
    flags.add_argument("--divergence", nargs="+", choices=NAMES, default=NAMES,
                       help="the divergences (all)")
    flags.add_argument("--steps", type=command.positive, default=2000,
                       help="number of training iterations (2000)")
    flags.add_argument("--batch-size", type=command.positive, default=400,
                       help="size of a minibatch (400)")
    flags.add_argument("--seed", type=command.whole, default=0,
                       help="seed of the initial weights, the data and the noise (0)")
    args = flags.parse_args()
    print("| | mean | best mean | deviation | best deviation | F | D_f |")
    print("|---|---|---|---|---|---|---|")
    for name in args.divergence:
        rng.seed(args.seed)
        pairs = zip(fit(name, args.steps, args.batch_size), find_best(name))
        print(f"| {name} | {' | '.join(f'{a:.4f} | {b:.4f}' for a, b in pairs)} |", flush=True)


if __name__ == "__main__":
    command.main(main)
