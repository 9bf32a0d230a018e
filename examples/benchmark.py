"""Measure the speed of tinygan, of PyTorch on the same cores, and of tinygan's matrix products.

    python examples/benchmark.py                              four workloads, 20 rounds: two minutes
    python examples/benchmark.py --workload gan --rounds 5

An iteration is one training step of each player (wgan_gp: one step of the critic). Three processes
take turns: tinygan, PyTorch (if it is installed), and tinygan's matrix products alone. A round is
five iterations of each, one process after the other, so that other work of the machine slows down
all three alike. Each figure is the median over the rounds; ratios are computed for each round.
"""

import argparse
import importlib.metadata
import importlib.util
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCH = {"gan": 100, "dcgan": 64, "sngan": 64, "wgan_gp": 64}
LIBRARIES = ("tinygan", "torch", "products")


# tinygan

def tinygan_iteration(workload: str, backend: str) -> Callable[[], None]:
    """Return a function that runs one iteration of `workload` with tinygan."""
    import tinygan
    from tinygan import Tensor, nn, optim, rng
    from tinygan.games import GAN, SNGAN, WGANGP
    from tinygan.loop import d_step, g_step
    tinygan.use(backend)
    m = BATCH[workload]
    x = Tensor(rng.uniform(0, 1, (m, 1, 28, 28)))
    if workload == "gan":
        import gan_mnist
        import numpy as np
        G, D, d_opt, g_opt = gan_mnist.paper(np.random.randint(0, 256, (1000, 1, 28, 28)), m)
    else:
        normalised = nn.spectral_norm if workload == "sngan" else lambda layer: layer
        norm = [nn.BatchNorm(128)] if workload == "dcgan" else []
        G = nn.Sequential(nn.Dense(100, 6272), nn.BatchNorm(6272), nn.ReLU(), nn.Reshape(128, 7, 7),
                          nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm(64), nn.ReLU(),
                          nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Sigmoid())
        D = nn.Sequential(normalised(nn.Conv2d(1, 64, 4, 2, 1)), nn.LeakyReLU(),
                          normalised(nn.Conv2d(64, 128, 4, 2, 1)), *norm, nn.LeakyReLU(),
                          nn.Flatten(), normalised(nn.Dense(6272, 1)))
        d_opt, g_opt = optim.Adam(D.parameters()), optim.Adam(G.parameters())
    game = {"gan": GAN, "dcgan": GAN, "sngan": SNGAN, "wgan_gp": WGANGP}[workload](G, D, 100)

    def iteration():
        d_step(game, d_opt, x, game.noise(m, rng, 0), rng.key())
        if workload != "wgan_gp":
            g_step(game, g_opt, x, game.noise(m, rng, 0), rng.key())
    return iteration


# PyTorch

def torch_iteration(workload: str, backend: str) -> Callable[[], None]:
    """Return a function that runs one iteration of the same workload with PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import softplus
    from torch.nn.utils.parametrizations import spectral_norm
    device = "cuda" if backend == "cupy" else "cpu"
    m = BATCH[workload]
    x = torch.rand(m, 1, 28, 28, device=device)

    class Maxout(nn.Linear):
        def __init__(self, n_in, n_out, pieces):
            super().__init__(n_in, n_out * pieces)
            self.shape = (-1, pieces, n_out)

        def forward(self, x):
            return super().forward(x).view(self.shape).amax(1)

    if workload == "gan":
        G = nn.Sequential(nn.Linear(100, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(),
                          nn.Linear(1200, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        D = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), Maxout(784, 240, 5),
                          nn.Dropout(0.5), Maxout(240, 240, 5), nn.Dropout(0.5), nn.Linear(240, 1))
        optimizer = lambda player: torch.optim.SGD(player.parameters(), 0.1, 0.5)
    else:
        normalised = spectral_norm if workload == "sngan" else lambda layer: layer
        norm = [nn.BatchNorm2d(128)] if workload == "dcgan" else []
        G = nn.Sequential(nn.Linear(100, 6272), nn.BatchNorm1d(6272), nn.ReLU(),
                          nn.Unflatten(1, (128, 7, 7)),
                          nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
                          nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Sigmoid())
        D = nn.Sequential(normalised(nn.Conv2d(1, 64, 4, 2, 1)), nn.LeakyReLU(0.2),
                          normalised(nn.Conv2d(64, 128, 4, 2, 1)), *norm, nn.LeakyReLU(0.2),
                          nn.Flatten(), normalised(nn.Linear(6272, 1)))
        optimizer = lambda player: torch.optim.Adam(player.parameters(), 2e-4, (0.5, 0.999))
    G.to(device), D.to(device)
    d_opt, g_opt = optimizer(D), optimizer(G)

    def d_loss(z):
        with torch.no_grad():
            x_fake = G(z)
        if workload == "sngan":
            return (1 - D(x)).relu().mean() + (1 + D(x_fake)).relu().mean()
        if workload == "wgan_gp":
            eps = torch.rand(m, 1, 1, 1, device=device)
            x_hat = (eps * x + (1 - eps) * x_fake).requires_grad_()
            (gradient,) = torch.autograd.grad(D(x_hat).sum(), x_hat, create_graph=True)
            penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
            return D(x_fake).mean() - D(x).mean() + 10 * penalty
        return softplus(-D(x)).mean() + softplus(D(x_fake)).mean()

    def g_loss(z):
        return -D(G(z)).mean() if workload == "sngan" else softplus(-D(G(z))).mean()

    def iteration():
        d_opt.zero_grad(set_to_none=True)
        d_loss(torch.randn(m, 100, device=device)).backward()
        d_opt.step()
        if workload != "wgan_gp":
            D.requires_grad_(False)             # good practice in PyTorch: G's step does not need
            g_opt.zero_grad(set_to_none=True)   # the gradients of D's weights
            g_loss(torch.randn(m, 100, device=device)).backward()
            g_opt.step()
            D.requires_grad_(True)
        if device == "cuda":
            torch.cuda.synchronize()
    return iteration


# The products alone

# For each layer the shapes of its product, (rows, terms) by (terms, columns), with the rows of one
# sample. A transposed convolution counts as the convolution of which it is the transpose.
GAN_G = [(1, 100, 1200), (1, 1200, 1200), (1, 1200, 784)]
GAN_D = [(1, 784, 1200), (1, 240, 1200), (1, 240, 1)]
CONV_G = [(1, 100, 6272), (49, 1024, 128), (196, 16, 64)]
CONV_D = [(196, 16, 64), (49, 1024, 128), (1, 6272, 1)]


def products(workload: str) -> list[tuple[int, int, int]]:
    """Return the (rows, terms, columns) of all matrix products that an iteration needs."""
    m = BATCH[workload]
    G, D = (GAN_G, GAN_D) if workload == "gan" else (CONV_G, CONV_D)

    def forward(layers):
        return [(m * r, k, n) for r, k, n in layers]

    def weights(layers):
        return [(k, m * r, n) for r, k, n in layers]

    def inputs(layers):
        return [(m * r, n, k) for r, k, n in layers]

    d_pass = forward(D) + weights(D) + inputs(D[1:])            # no gradient with respect to x
    if workload == "wgan_gp":
        # at x_hat: D and its gradient by x_hat; then the derivative of that by D's weights
        return forward(G) + 2 * d_pass + 2 * forward(D) + inputs(D) + weights(D)
    return (forward(G) + 2 * d_pass
            + forward(G) + forward(D) + inputs(D) + weights(G) + inputs(G[1:]))


def products_iteration(workload: str, backend: str) -> Callable[[], None]:
    """Return a function that computes the matrix products of one iteration and nothing else."""
    import tinygan
    tinygan.use(backend)
    ones = tinygan.backend.xp.ones
    operands = [(ones((m, k), "float32"), ones((k, n), "float32"))
                for m, k, n in products(workload)]

    def iteration():
        for a, b in operands:
            tinygan.backend.product(a, b)
    return iteration


# The processes

def serve(library: str, workload: str, backend: str, batch: str) -> None:
    """Run the process of a worker.

    For each number n on standard input it runs n iterations and prints the milliseconds of one. At
    the end of the input it prints its peak memory in MB, or nan if that is not known.
    """
    BATCH[workload] = int(batch)
    iteration = {"tinygan": tinygan_iteration, "torch": torch_iteration,
                 "products": products_iteration}[library](workload, backend)
    for line in sys.stdin:
        synchronize(backend, library)
        start = time.perf_counter()
        for _ in range(int(line)):
            iteration()
        synchronize(backend, library)
        print(1000 * (time.perf_counter() - start) / int(line), flush=True)
    try:
        import resource
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    except ImportError:                         # Windows has no such module
        print("nan", flush=True)


def synchronize(backend: str, library: str) -> None:
    """Wait until the GPU has finished, if tinygan or its products run on one."""
    if backend == "cupy" and library != "torch":
        import cupy
        cupy.cuda.Device().synchronize()


class Worker:
    """A process that runs iterations of a workload with one of LIBRARIES, see serve."""

    def __init__(self, library: str, workload: str, backend: str) -> None:
        command = [sys.executable, __file__, "serve", library, workload, backend,
                   str(BATCH[workload])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def milliseconds(self, n: int) -> float:
        """Run n iterations; return the mean time of one in milliseconds."""
        print(n, file=self.process.stdin, flush=True)
        return float(self._line())

    def peak_memory(self) -> float:
        """End the process; return its peak memory in MB, nan if it is not known."""
        self.process.stdin.close()
        return float(self._line())

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"benchmark.py: the worker ended with status {self.process.wait()}")
        return line


def measure(workload: str, rounds: int, backend: str) -> dict[str, tuple[list[float], float]]:
    """Return {library: (milliseconds of an iteration in each round, peak memory in MB)}."""
    with_torch = importlib.util.find_spec("torch") is not None
    workers = {library: Worker(library, workload, backend)
               for library in LIBRARIES if library != "torch" or with_torch}
    for worker in workers.values():
        worker.milliseconds(5)                  # warm up
    times = {library: [] for library in workers}
    for _ in range(rounds):
        for library, worker in workers.items():
            time.sleep(0.2)     # threads of the process before may still spin for a while
            times[library].append(worker.milliseconds(5))
    return {library: (times[library], worker.peak_memory()) for library, worker in workers.items()}


def middle(values: list[float]) -> str:
    """Return the median and the quartiles as text."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def format_memory(megabytes: float) -> str:
    """Return a number of megabytes as text, "-" for nan."""
    return "-" if math.isnan(megabytes) else f"{megabytes:.0f}"


def main() -> None:
    """Run the benchmark with the flags of the command line and print its table."""
    import tinygan
    from tinygan import command
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workload", choices=BATCH, nargs="+", default=list(BATCH),
                       help="what to measure (all)")
    flags.add_argument("--rounds", type=command.positive, default=20, help="number of rounds (20)")
    flags.add_argument("--batch", type=command.positive,
                       help=f"minibatch size ({', '.join(f'{n}: {m}' for n, m in BATCH.items())})")
    flags.add_argument("--backend", choices=["numpy", "cupy"], default="numpy",
                       help="numpy, or cupy for a GPU (numpy)")
    flags.add_argument("--dry-run", action="store_true", help="one round of one workload")
    args = flags.parse_args()
    if args.dry_run:
        args.workload, args.rounds = ["gan"], 1
    tinygan.use(args.backend)           # a backend that does not work fails here, not in a worker
    if args.batch:
        BATCH.update(dict.fromkeys(BATCH, args.batch))

    import numpy
    torch = importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None
    print(f"{command.processor_name()}, {os.cpu_count()} cores; Python "
          f"{platform.python_version()}, "
          f"numpy {numpy.__version__}, PyTorch {torch or 'not installed'}; "
          f"OPENBLAS_NUM_THREADS {os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}")
    print(f"{args.rounds} round{'s' if args.rounds > 1 else ''}; milliseconds per iteration: "
          "median (lower-upper quartile)")
    print(f"{'':8} {'tinygan':>22} {'PyTorch':>22} {'PyTorch / tinygan':>20} "
          f"{'products':>22} {'tinygan / products':>20} {'peak MB':>8} {'PyTorch':>8}")
    for workload in args.workload:
        results = measure(workload, args.rounds, args.backend)
        ours, memory = results["tinygan"]
        torch, torch_memory = results.get("torch", (None, math.nan))
        alone, _ = results["products"]
        print(f"{workload:8} {middle(ours):>22} {middle(torch) if torch else '-':>22} "
              f"{middle([b / a for a, b in zip(ours, torch)]) if torch else '-':>20} "
              f"{middle(alone):>22} {middle([a / b for a, b in zip(ours, alone)]):>20} "
              f"{format_memory(memory):>8} {format_memory(torch_memory):>8}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:      # PyTorch's worker does not import tinygan
        serve(*sys.argv[2:])
    else:
        from tinygan import command
        command.main(main)
