"""Compare results of training with theory, in a table; takes seconds.

    python examples/theory.py

- For pairs of densities on [-1, 1], a discriminator trained with the GAN's loss is compared with
  the optimal discriminator D*, and the value of the game with -log 4 plus twice the Jensen-Shannon
  divergence (Goodfellow et al. 2014).
- For data at one point and samples at another, the critic of WGAN-GP is compared with the critic
  that minimises its loss (Gulrajani et al. 2017).
- The two-sample test's share of false positives is compared with its significance level (Lopez-Paz
  and Oquab 2017).

For a game of two numbers see dirac.py.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tinygan import Tensor, backend, command, nn, optim, rng, schedules
from tinygan.games import GAN, WGANGP
from tinygan.loop import d_step
from tinygan.metrics import run_two_sample_test
from tinygan.metrics.two_sample import TwoSample
from tinygan.random import Random

DENSITIES = {               # on [-1, 1], nowhere so small that D gets no examples
    "uniform": lambda t: 0.5 + 0 * t,
    "hill": lambda t: 0.65 - 0.45 * t ** 2,
    "ramp": lambda t: 0.5 + 0.4 * t,
}
PAIRS = [("hill", "uniform"), ("ramp", "hill"), ("uniform", "uniform")]
THETAS = 2.0, -1.5


def tensor(array: ArrayLike) -> Tensor:
    """Return the array as a Tensor of float32."""
    return Tensor(backend.xp.asarray(np.asarray(array, np.float32)))


def quantiles(density: Callable[[np.ndarray], np.ndarray], n: int = 400) -> Tensor:
    """Return n points (n, 1) that represent a density: its quantiles at (i + 1/2) / n."""
    t = np.linspace(-1, 1, 10_001)
    pieces = (density(t[1:]) + density(t[:-1])) / 2 * (t[1] - t[0])
    cdf = np.concatenate([[0], np.cumsum(pieces)])
    return tensor(np.interp((np.arange(n) + 0.5) / n, cdf, t)[:, None])


def optimal_discriminator(data: str, model: str, steps: int = 1000) -> tuple[float, float, float]:
    """Train D on two of DENSITIES; return (largest |D - D*|, V(D), -log 4 + 2 JSD(p, q)).

    `data` names the density p of the data, `model` the density q of G's samples. Proposition 1: D*
    = p / (p + q); Theorem 1: V(D*) = -log 4 + 2 JSD(p, q), which is -log 4 if p = q (Goodfellow et
    al. 2014).

    D is trained on 400 quantiles of each density, which represent it to about 1e-3. The rest of the
    error, about 0.01, is that of a small network after 1000 steps.
    """
    D = nn.Sequential(nn.Dense(1, 32, init=nn.he), nn.LeakyReLU(),
                      nn.Dense(32, 32, init=nn.he), nn.LeakyReLU(), nn.Dense(32, 1))
    game = GAN(nn.Sequential(), D)          # G returns its noise, which is a sample of q
    opt = optim.Adam(D.parameters(), schedules.cosine(2e-2, 0.0, steps), betas=(0.9, 0.99))
    x, z = quantiles(DENSITIES[data]), quantiles(DENSITIES[model])
    for _ in range(steps):
        value = -d_step(game, opt, x, z, seed=0).item()

    t = (np.arange(1000) + 0.5) / 500 - 1
    p, q = DENSITIES[data](t), DENSITIES[model](t)
    best = p / (p + q)
    found = 1 / (1 + np.exp(-D(tensor(t[:, None])).numpy().ravel()))
    error = abs(found - best)[np.maximum(p, q) > 1e-3].max()
    twice_jsd = 2 * (p * np.log(2 * best) + q * np.log(2 * (1 - best))).mean()     # over [-1, 1]
    return error, value, -math.log(4) + twice_jsd


def two_points(theta: float, lam: float = 0.5, m: int = 32,
               steps: int = 300) -> tuple[float, float]:
    """Train the critic of WGAN-GP; return the gap D(x) - D(G(z)) and its value in theory.

    All data lie at 0, all samples at theta. If s is the derivative of the critic in the direction
    from theta to 0, its loss is the mean of -|theta| s + lam (|s| - 1)^2 over the points between
    theta and 0 (Gulrajani et al. 2017, eq. 3). The loss is least for s = 1 + |theta| / (2 lam)
    everywhere. The gap is then |theta| s = |theta| + theta^2 / (2 lam), which is more than the
    distance |theta|. (If |theta| < 2 lam, there is another minimum at s = |theta| / (2 lam) - 1,
    which critics with s < 0 at the start may reach.) Each step draws m of the points between theta
    and 0.
    """
    D = nn.Sequential(nn.Dense(1, 16), nn.Tanh(), nn.Dense(16, 1))
    game = WGANGP(nn.Sequential(), D, lam=lam)      # G returns its noise, which is theta
    opt = optim.Adam(D.parameters(), schedules.cosine(2e-2, 0.0, steps), betas=(0.9, 0.99))
    x, z = tensor(np.zeros((m, 1))), tensor(np.full((m, 1), theta))
    for i in range(steps):
        d_step(game, opt, x, z, seed=i)
    return (D(x) - D(z)).mean().item(), abs(theta) + theta ** 2 / (2 * lam)


def two_sample_results(repetitions: int, n: int = 100) -> list[TwoSample]:
    """Test whether n points in the plane differ from n others of the same normal distribution.

    Returns the results for as many such pairs as `repetitions` says.
    """
    draw = np.random.default_rng(0).normal
    return [run_two_sample_test(draw(size=(n, 2)), draw(size=(n, 2)), Random(i), hidden=0,
                                steps=15) for i in range(repetitions)]


def main() -> None:
    """Run the script with the flags of the command line."""
    flags = command.make_parser(__doc__)
    flags.add_argument("--seed", type=command.whole, default=0,
                       help="seed of the networks' initial weights (0)")
    flags.add_argument("--dry-run", action="store_true", help="a few training steps only")
    args = flags.parse_args()
    rng.seed(args.seed)
    short = {"steps": 3} if args.dry_run else {}
    rows = []
    for data, model in PAIRS:
        error, value, theory = optimal_discriminator(data, model, **short)
        rows += [(f"{data} and {model}: largest \\|D - D*\\|", f"{error:.4f}", "0"),
                 (f"{data} and {model}: V", f"{value:.4f}", f"{theory:.4f}")]
    for theta in THETAS:
        gap, theory = two_points(theta, **short)
        rows.append((f"points 0 and {theta}: the critic's gap", f"{gap:.3f}", f"{theory:.3f}"))
    results = two_sample_results(10 if args.dry_run else 500)
    rejected = np.mean([result.p <= 0.05 for result in results])
    rows.append((f"two-sample test, {len(results)} times: share with p <= 0.05", f"{rejected:.3f}",
                 "0.05"))
    print("| | found | theory |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    command.main(main)
