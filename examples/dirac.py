"""The Dirac-GAN (Mescheder et al. 2018, section 2), the smallest GAN there is.

    python examples/dirac.py

All data lies at 0, all that G makes at theta, and D(x) = psi x. The equilibrium is (0, 0); whether
a game comes to it, stays on a circle around it or leaves can be seen from two numbers. The
library's games are played by its loop, simultaneously and alternating, D first, as in Algorithm 1.
Printed is the distance |(theta, psi)| at the end and, for the saturating GAN and R1, in brackets by
which factor a step changes it: measured over the second half, and the spectral radius of the step's
Jacobian at the equilibrium, which holds as far as the game comes near it. The picture in --out has
a column for each game in turn, above simultaneous and below alternating: theta to the right, psi
upwards, from -2 to 2, and the trajectory from its start (yellow) to its end (blue).
"""

import argparse
import math
import os

import numpy as np

from tinygan import Tensor, UserError, backend, command, image, nn, optim, play, record, rng
from tinygan.games import GAN, LSGAN, R1, RSGAN, WGAN, WGANGP, Hinge, RaGAN, losses

GAMES = {
    "GAN, saturating": lambda G, D: GAN(G, D, loss=losses.Saturating()),
    "GAN, non-saturating": lambda G, D: GAN(G, D),
    "LSGAN": lambda G, D: LSGAN(G, D),
    "hinge": lambda G, D: Hinge(G, D),
    "RSGAN": lambda G, D: RSGAN(G, D),
    "RaGAN": lambda G, D: RaGAN(G, D),
    "WGAN, clip 1": lambda G, D: WGAN(G, D, c=1.0, n_critic=1),
    "WGAN-GP, lam .35": lambda G, D: WGANGP(G, D, lam=0.35, n_critic=1),
    "R1, gamma .3": lambda G, D: R1(G, D, loss=losses.Saturating(), gamma=0.3),
    "R1, gamma 1": lambda G, D: R1(G, D, loss=losses.Saturating(), gamma=1.0),
}
GAMMA = {"GAN, saturating": 0.0, "R1, gamma .3": 0.3, "R1, gamma 1": 1.0}
ORDERS = ("simultaneous", "alternating")


class Point(nn.Module):
    """The generator: all its mass at theta."""

    def __init__(self, theta):
        self.theta = Tensor([[theta]])

    def forward(self, z):
        return self.theta * 1.0


class Slope(nn.Module):
    """The discriminator: D(x) = psi x."""

    def __init__(self, psi):
        self.psi = Tensor([[psi]])

    def forward(self, x):
        return x @ self.psi


def trajectory(make, order, steps=500, lr=0.2, start=(1.0, -1.0)):
    """(theta, psi) before and after each of the steps: (steps + 1, 2)."""
    game = make(Point(start[0]), Slope(start[1]))
    d_opt, g_opt = optim.SGD(game.d_parameters(), lr), optim.SGD(game.g_parameters(), lr)
    data = iter(lambda: backend.xp.zeros((1, 1), "float32"), None)
    points = [start]
    for _ in play(game, data, d_opt, g_opt, 1, rng, steps, order=order):
        points.append((game.G.theta.item(), game.D.psi.item()))
    return np.array(points)


def spectral_radius(slope, gamma, order, lr=0.2):
    """The factor by which a step shrinks small (theta, psi): the largest |eigenvalue| of its
    Jacobian at the equilibrium, where D's loss has the derivative slope * theta + gamma * psi by
    psi, and G's -slope * psi by theta."""
    d = np.array([[1, 0], [-lr * slope, 1 - lr * gamma]])       # psi <- psi - lr (...)
    g = np.array([[1, lr * slope], [0, 1]])                     # theta <- theta - lr (...)
    step = g @ d if order == "alternating" else d + g - np.eye(2)
    return abs(np.linalg.eigvals(step)).max()


def rate(points):
    """The factor by which |(theta, psi)| changes in a step, over the second half of them."""
    norms = np.hypot(*points.T)
    half = (len(norms) - 1) // 2
    return (norms[-1] / norms[half]) ** (1 / (len(norms) - 1 - half))


def plane(points, size=160, reach=2.0):
    """The trajectory in the plane, (size, size, 3) uint8, on white with grey axes."""
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[size // 2], picture[:, size // 2] = 200, 200
    n = len(points)
    between = np.linspace(0, n - 1, 40 * (n - 1) + 1)           # the lines between the points
    x, y = (np.interp(between, np.arange(n), points[:, axis]) for axis in (0, 1))
    column = ((x + reach) / (2 * reach) * size).astype(int)
    row = ((reach - y) / (2 * reach) * size).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    age = (between / (n - 1))[inside, None] ** 0.5              # the beginning is the fastest
    picture[row[inside], column[inside]] = (1 - age) * (255, 176, 0) + age * (0, 60, 200)
    return picture


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--steps", type=command.positive, default=500, help="to play (500)")
    flags.add_argument("--lr", type=command.above_0, default=0.2, help="of both players (.2)")
    flags.add_argument("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    flags.add_argument("--out", metavar="DIR", default="runs/dirac",
                       help="for the picture (runs/dirac)")
    flags.add_argument("--dry-run", action="store_true", help="10 steps")
    args = flags.parse_args()
    if args.dry_run:
        args.steps = 10
    if args.lr > 10:
        raise UserError(f"steps of {args.lr} leave the plane at once: choose an --lr up to 10")

    with command.output(args), np.errstate(all="ignore"):       # some leave the plane
        print(f"|(theta, psi)| after {args.steps} steps of {args.lr}, from {math.sqrt(2):.3f}\n"
              f"{'':20} {'simultaneous':>28} {'alternating':>28}")
        pictures = []
        for name, make in GAMES.items():
            cells = []
            for order in ORDERS:
                points = trajectory(make, order, args.steps, args.lr)
                pictures.append(plane(points))
                cells.append(f"{math.hypot(*points[-1]):.3g}")
                if name in GAMMA:
                    # at 0, the GAN's losses have the slope sigmoid(0) = 1/2
                    theory = spectral_radius(0.5, GAMMA[name], order, args.lr)
                    cells[-1] += f"  ({rate(points):.4f}, {theory:.4f})"
            print(f"{name:20} {cells[0]:>28} {cells[1]:>28}", flush=True)
        pictures = np.stack(pictures[::2] + pictures[1::2]).transpose(0, 3, 1, 2)
        path = os.path.join(args.out, "trajectories.png")
        record.try_to_write(path, image.save_grid, pictures, len(GAMES), gap=4)
        print("dry run: all done once, nothing kept" if args.dry_run else f"picture: {path}")


if __name__ == "__main__":
    command.main(main)
