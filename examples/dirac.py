"""The Dirac-GAN (Mescheder et al. 2018, section 2), the smallest GAN.

    python examples/dirac.py

All data lie at 0, all samples of G at theta, and D(x) = psi x. The equilibrium is (theta, psi) =
(0, 0). These two numbers show whether a game converges to it, circles around it or diverges.

The script plays ten games with the library's loop, with simultaneous and with alternating steps; in
the latter, D's step comes first, as in Algorithm 1. It prints the distance |(theta, psi)| from the
equilibrium after the last step. For the saturating GAN and R1 two numbers in brackets follow:

- the factor by which a step changes the distance, measured over the second half of the steps, or
  of those before a distance below 1e-30
- the spectral radius of the step's Jacobian at the equilibrium, which is the same factor in theory
  while the game is near the equilibrium

The picture in --out has a column for each game, with simultaneous steps above and alternating steps
below. It shows the plane from -2 to 2, theta to the right and psi upwards, and in it the trajectory
from its start (yellow) to its end (blue).
"""

import math
import os
from collections.abc import Callable

import numpy as np

from tinygan import Tensor, UserError, backend, command, image, nn, optim, play, rng
from tinygan.games import GAN, LSGAN, R1, RSGAN, WGAN, WGANGP, Game, Hinge, RaGAN, losses

GAMES = {
    "GAN, saturating": lambda G, D: GAN(G, D, loss=losses.Saturating()),
    "GAN, non-saturating": GAN, "LSGAN": LSGAN, "hinge": Hinge, "RSGAN": RSGAN, "RaGAN": RaGAN,
    "WGAN, clip 1": lambda G, D: WGAN(G, D, c=1.0, n_critic=1),
    "WGAN-GP, lam 0.35": lambda G, D: WGANGP(G, D, lam=0.35, n_critic=1),
    "R1, gamma 0.3": lambda G, D: R1(G, D, loss=losses.Saturating(), gamma=0.3),
    "R1, gamma 1": lambda G, D: R1(G, D, loss=losses.Saturating(), gamma=1.0),
}
GAMMA = {"GAN, saturating": 0.0, "R1, gamma 0.3": 0.3, "R1, gamma 1": 1.0}
ORDERS = ("simultaneous", "alternating")


class Point(nn.Module):
    """The generator: all its samples lie at theta."""

    def __init__(self, theta: float) -> None:
        self.theta = Tensor([[theta]])

    def forward(self, z: Tensor) -> Tensor:
        return self.theta * 1.0


class Slope(nn.Module):
    """The discriminator: D(x) = psi x."""

    def __init__(self, psi: float) -> None:
        self.psi = Tensor([[psi]])

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.psi


def play_trajectory(make: Callable[[nn.Module, nn.Module], Game], order: str, steps: int = 500,
                    lr: float = 0.2, start: tuple[float, float] = (1.0, -1.0)) -> np.ndarray:
    """Return the trajectory (steps + 1, 2): (theta, psi) at the start and after each step.

    `make` is one of GAMES and `order` one of ORDERS.
    """
    game = make(Point(start[0]), Slope(start[1]))
    d_opt, g_opt = optim.SGD(game.d_parameters(), lr), optim.SGD(game.g_parameters(), lr)
    data = iter(lambda: backend.xp.zeros((1, 1), "float32"), None)
    points = [start]
    for _ in play(game, data, d_opt, g_opt, 1, rng, steps, order=order):
        points.append((game.G.theta.item(), game.D.psi.item()))
    return np.array(points)


def spectral_radius(slope: float, gamma: float, order: str, lr: float = 0.2) -> float:
    """Return the factor by which a step changes a small (theta, psi), according to theory.

    It is the largest |eigenvalue| of the step's Jacobian at the equilibrium. There, the derivative
    of D's loss by psi is slope * theta + gamma * psi, and that of G's loss by theta -slope * psi.
    """
    d = np.array([[1, 0], [-lr * slope, 1 - lr * gamma]])       # psi <- psi - lr (...)
    g = np.array([[1, lr * slope], [0, 1]])                     # theta <- theta - lr (...)
    step = g @ d if order == "alternating" else d + g - np.eye(2)
    return abs(np.linalg.eigvals(step)).max()


def measure_rate(points: np.ndarray) -> float:
    """Return the factor by which |(theta, psi)| changes per step in the second half of the steps.

    `points` is a trajectory; the factor is the geometric mean over the steps. Steps after a
    distance below 1e-30 are left out: numbers below 1e-38 are rounded to fewer digits in float32,
    or to 0.
    """
    norms = np.hypot(*points.T)
    tiny = np.flatnonzero(norms < 1e-30)
    norms = norms[:max(tiny[0], 2)] if len(tiny) else norms
    half = (len(norms) - 1) // 2
    return (norms[-1] / norms[half]) ** (1 / (len(norms) - 1 - half))


def draw_plane(points: np.ndarray, size: int = 160, reach: float = 2.0) -> np.ndarray:
    """Return the picture (size, size, 3), uint8, of a trajectory on white with grey axes.

    The plane is shown from -reach to reach.
    """
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[size // 2], picture[:, size // 2] = 200, 200
    n = len(points)
    between = np.linspace(0, n - 1, 40 * (n - 1) + 1)       # on the lines from point to point
    x, y = (np.interp(between, np.arange(n), points[:, axis]) for axis in (0, 1))
    column = ((x + reach) / (2 * reach) * size).astype(int)
    row = ((reach - y) / (2 * reach) * size).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    age = (between / (n - 1))[inside, None] ** 0.5          # the game moves fastest at the start
    picture[row[inside], column[inside]] = (1 - age) * (255, 176, 0) + age * (0, 60, 200)
    return picture


def main() -> None:
    """Run the script with the flags of the command line."""
    flags = command.make_parser(__doc__)
    flags.add_argument("--steps", type=command.positive, default=500, help="training steps (500)")
    flags.add_argument("--lr", type=command.above_0, default=0.2,
                       help="learning rate of both players (0.2)")
    flags.add_argument("--backend", default=None, metavar="NAME", help="numpy, or cupy for a GPU")
    flags.add_argument("--out", metavar="DIR", type=os.path.expanduser, default="runs/dirac",
                       help="folder for the picture (runs/dirac)")
    flags.add_argument("--dry-run", action="store_true", help="10 steps, and keep no files")
    args = flags.parse_args()
    if args.dry_run:
        args.steps = 10
    if args.lr > 10:
        raise UserError(f"with a learning rate of {args.lr} the games leave the plane at once: "
                        "choose an --lr up to 10")

    with command.prepare_output(args), np.errstate(all="ignore"):       # some games overflow
        print(f"|(theta, psi)| after {args.steps} steps with learning rate {args.lr}; it is "
              f"{math.sqrt(2):.3f} at the start\n"
              f"{'':20} {'simultaneous':>28} {'alternating':>28}")
        pictures = []
        for name, make in GAMES.items():
            cells = []
            for order in ORDERS:
                points = play_trajectory(make, order, args.steps, args.lr)
                pictures.append(draw_plane(points))
                cells.append(f"{math.hypot(*points[-1]):.3g}")
                if name in GAMMA:
                    # the derivative of the GAN's losses by a score of 0 is sigmoid(0) = 1/2
                    theory = spectral_radius(0.5, GAMMA[name], order, args.lr)
                    cells[-1] += f"  ({measure_rate(points):.4f}, {theory:.4f})"
            print(f"{name:20} {cells[0]:>28} {cells[1]:>28}", flush=True)
        pictures = np.stack(pictures[::2] + pictures[1::2]).transpose(0, 3, 1, 2)
        path = os.path.join(args.out, "trajectories.png")
        image.save_grid(path, pictures, len(GAMES), gap=4)
        if not args.dry_run:
            print(f"picture: {path}")


if __name__ == "__main__":
    command.main(main)
