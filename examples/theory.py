"""What theory says of these games, and what they do: a table, in seconds.

    python examples/theory.py

On two densities on [-1, 1] the discriminator that the GAN's own loss trains is compared with the
optimal one, and the value of the game with -log 4 and twice the Jensen-Shannon divergence
(Goodfellow et al. 2014); between two points the gradient penalty's critic with its optimum
(Gulrajani et al. 2017); and the two-sample test with the rate at which it may be wrong (Lopez-Paz
and Oquab 2017). For the game on two numbers see dirac.py.
"""

import argparse
import math

import numpy as np

from tinygan import Tensor, backend, command, nn, optim, rng, schedules
from tinygan.games import GAN, WGANGP
from tinygan.loop import d_step
from tinygan.metrics import run_two_sample_test
from tinygan.random import Random

DENSITIES = {               # on [-1, 1], where none becomes so small that D sees nothing of it
    "uniform": lambda t: 0.5 + 0 * t,
    "hill": lambda t: 0.65 - 0.45 * t ** 2,
    "ramp": lambda t: 0.5 + 0.4 * t,
}
PAIRS = [("hill", "uniform"), ("ramp", "hill"), ("uniform", "uniform")]
THETAS = 2.0, -1.5


def tensor(array):
    return Tensor(backend.xp.asarray(np.asarray(array, np.float32)))


def quantiles(density, n=400):
    """n points that stand for the density: the middles of n stretches of equal probability."""
    t = np.linspace(-1, 1, 10_001)
    pieces = (density(t[1:]) + density(t[:-1])) / 2 * (t[1] - t[0])
    cdf = np.concatenate([[0], np.cumsum(pieces)])
    return tensor(np.interp((np.arange(n) + 0.5) / n, cdf, t)[:, None])


def optimal_discriminator(data, model, steps=1000):
    """(largest |D - D*|, V, -log 4 + 2 JSD) for two names of DENSITIES, p of the data and q of G's
    samples. Proposition 1: D* = p / (p + q); Theorem 1: V(D*) = -log 4 + 2 JSD(p, q), -log 4 if
    p = q (Goodfellow et al. 2014).

    D trains on 400 quantiles of each, which stand for the densities to about 1e-3; what is left is
    how well a small network fits in 1000 steps, which is about .01.
    """
    D = nn.Sequential(nn.Dense(1, 32, init=nn.he), nn.LeakyReLU(),
                      nn.Dense(32, 32, init=nn.he), nn.LeakyReLU(), nn.Dense(32, 1))
    game = GAN(nn.Sequential(), D)          # a generator that returns its noise
    opt = optim.Adam(D.parameters(), schedules.cosine(2e-2, steps), betas=(0.9, 0.99))
    x, z = quantiles(DENSITIES[data]), quantiles(DENSITIES[model])
    for _ in range(steps):
        value = -d_step(game, opt, x, z, masks=0).item()

    t = (np.arange(1000) + 0.5) / 500 - 1
    p, q = DENSITIES[data](t), DENSITIES[model](t)
    best = p / (p + q)
    found = 1 / (1 + np.exp(-D(tensor(t[:, None])).numpy().ravel()))
    error = abs(found - best)[np.maximum(p, q) > 1e-3].max()
    twice_jsd = 2 * (p * np.log(2 * best) + q * np.log(2 * (1 - best))).mean()     # over [-1, 1]
    return error, value, -math.log(4) + twice_jsd


def two_points(theta, lam=0.5, m=32, steps=300):
    """(D(x) - D(G(z)), |theta| + theta^2 / (2 lam)) for all data at 0 and all samples at theta.

    With s the critic's slope from theta towards 0, its loss is the mean over the way of
    -|theta| s + lam (|s| - 1)^2 (Gulrajani et al. 2017, eq. 3); least at s = 1 + |theta| / (2 lam),
    which is where the gap comes from: more than the distance. (With |theta| < 2 lam there is
    another minimum, at s = |theta| / (2 lam) - 1, for critics that begin with s < 0.) m places
    between the two stand for all.
    """
    D = nn.Sequential(nn.Dense(1, 16), nn.Tanh(), nn.Dense(16, 1))
    game = WGANGP(nn.Sequential(), D, lam=lam)      # a generator that returns its noise
    opt = optim.Adam(D.parameters(), schedules.cosine(2e-2, steps), betas=(0.9, 0.99))
    x, z, eps = tensor(np.zeros((m, 1))), tensor(np.full((m, 1), theta)), (np.arange(m) + 0.5) / m
    for _ in range(steps):
        d_step(game, opt, x, (z, [tensor(eps)]), masks=0)
    return (D(x) - D(z)).mean().item(), abs(theta) + theta ** 2 / (2 * lam)


def two_sample_results(repetitions, n=100):
    """The TwoSample of as many pairs of n points of one normal distribution in the plane."""
    draw = np.random.default_rng(0).normal
    return [run_two_sample_test(draw(size=(n, 2)), draw(size=(n, 2)), Random(i), hidden=0,
                                steps=15) for i in range(repetitions)]


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seed", type=command.whole, default=0, help="of the networks (0)")
    flags.add_argument("--dry-run", action="store_true", help="a few steps of each")
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
    rows.append((f"two-sample test, {len(results)} times: share with p <= .05", f"{rejected:.3f}",
                 ".05"))
    print("| | found | theory |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    command.main(main)
