"""Measure the speed of tinygan, of PyTorch and JAX on the same cores, and of tinygan's products.

    python examples/benchmark.py                        20 rounds: five to ten minutes
    python examples/benchmark.py --workload gan --rounds 5
    python examples/benchmark.py --cores 1              everything on one core
    python examples/benchmark.py --backend cupy --rounds 5          on a GPU
    python examples/benchmark.py --backend cupy-tf32 --rounds 5     with products of less precision

Four workloads are for MNIST; plane has the small networks of mixtures.py. An iteration is one
training step of each player (wgan_gp: one step of the critic). tinygan, the peers that are
installed, and tinygan's matrix products alone have a process each, which take turns. A round is
five iterations of each, one process after the other, so that other work of the machine slows down
all alike. Wall is the time on the clock, CPU the time of all cores together. Each figure is the
median over the rounds, with the quartiles of the wall time; ratios are computed for each round. The
first step includes what a library prepares or compiles. On a GPU a round is 1,000 iterations,
because a GPU raises its clock only under a long load, and wall is the time between two events on
the GPU. tinygan and PyTorch run both with each operation launched by itself, for fewer iterations,
and with steps launched as CUDA graphs, whose kernels are counted.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import itertools
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

BATCH = {"gan": 100, "dcgan": 64, "sngan": 64, "wgan_gp": 64, "plane": 256}
WARM_UP = 0.3       # seconds before each measurement; a core that was idle is slow for 0.1 s
LIBRARIES = {"tinygan": "tinygan", "eager": "without graphs", "torch": "PyTorch",
             "graphs": "PyTorch, graphs", "jax": "JAX", "products": "products alone"}
GPU_ITERATIONS = {"eager": 50, "torch": 200}    # of a round, if not 1,000: the host limits these
PACKAGES = {"torch": "torch", "graphs": "torch", "jax": "jax"}      # what the peers need


# tinygan

def tinygan_iteration(workload: str, backend: str, graph: bool = True) -> Callable[[], None]:
    """Return a function that runs one iteration of `workload` with tinygan.

    On a GPU, its steps are launched as CUDA graphs unless `graph` is False.
    """
    import tinygan
    from tinygan import nn, optim, rng
    from tinygan.games import GAN, SNGAN, WGANGP
    from tinygan.loop import d_step, draw, g_step, prepare
    tinygan.use(backend)
    m = BATCH[workload]
    x_shape, z_size = ((2,), 2) if workload == "plane" else ((1, 28, 28), 100)
    data = itertools.repeat(rng.uniform(0, 1, (m, *x_shape)))
    if workload == "gan":
        import gan_mnist
        import numpy as np
        G, D, d_opt, g_opt = gan_mnist.paper(np.random.uniform(size=(1000, 1, 28, 28)), m)
    elif workload == "plane":
        from mixtures import mlp
        G, D = mlp(2, 2, 128, nn.ReLU), mlp(2, 1, 128, nn.LeakyReLU)
    else:
        normalised = nn.spectral_norm if workload == "sngan" else lambda layer: layer
        norm = [nn.BatchNorm(128)] if workload == "dcgan" else []
        G = nn.Sequential(nn.Dense(100, 6272), nn.BatchNorm(6272), nn.ReLU(), nn.Reshape(128, 7, 7),
                          nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm(64), nn.ReLU(),
                          nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Sigmoid())
        D = nn.Sequential(normalised(nn.Conv2d(1, 64, 4, 2, 1)), nn.LeakyReLU(),
                          normalised(nn.Conv2d(64, 128, 4, 2, 1)), *norm, nn.LeakyReLU(),
                          nn.Flatten(), normalised(nn.Dense(6272, 1)))
    if workload != "gan":
        d_opt, g_opt = optim.Adam(D.parameters()), optim.Adam(G.parameters())
    game = {"sngan": SNGAN, "wgan_gp": WGANGP}.get(workload, GAN)(G, D, z_size)

    make = prepare if graph else functools.partial
    d_update, g_update = make(d_step, game, d_opt), make(g_step, game, g_opt)

    def iteration():
        d_update(*draw(game, data, m, rng))
        if workload != "wgan_gp":
            g_update(*draw(game, data, m, rng))
    iteration.steps = d_update, g_update
    return iteration


def count_launches(iteration: Callable) -> float:
    """Return how many kernels and copies the recorded steps of an iteration launch, or nan."""
    steps = [step for step in getattr(iteration, "steps", ())
             if getattr(step, "form", None) and step.form.run]
    graphs = [step.form.run.graph.graph for step in steps]  # CUDA's graph in cupy's
    if not graphs or 0 in graphs:                           # some versions of cupy keep no graph
        return math.nan
    total, count = 0, ctypes.c_size_t()
    for graph in graphs:
        ctypes.CDLL("nvcuda" if os.name == "nt" else "libcuda.so.1").cuGraphGetNodes(
            ctypes.c_void_p(graph), None, ctypes.byref(count))
        total += count.value
    return total


# The products alone

# For each layer the shapes of its product, (rows, terms) by (terms, columns), with the rows of one
# sample. A transposed convolution counts as the convolution of which it is the transpose.
GAN_G = [(1, 100, 1200), (1, 1200, 1200), (1, 1200, 784)]
GAN_D = [(1, 784, 1200), (1, 240, 1200), (1, 240, 1)]
CONV_G = [(1, 100, 6272), (49, 1024, 128), (196, 16, 64)]
CONV_D = [(196, 16, 64), (49, 1024, 128), (1, 6272, 1)]
PLANE_G = [(1, 2, 128), (1, 128, 128), (1, 128, 128), (1, 128, 2)]
PLANE_D = [*PLANE_G[:3], (1, 128, 1)]


def products(workload: str) -> list[tuple[int, int, int]]:
    """Return the (rows, terms, columns) of all matrix products that an iteration needs."""
    m = BATCH[workload]
    G, D = {"gan": (GAN_G, GAN_D), "plane": (PLANE_G, PLANE_D)}.get(workload, (CONV_G, CONV_D))

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
    """Return a function that computes the matrix products of one iteration and nothing else.

    On a GPU it launches them as one CUDA graph.
    """
    import tinygan
    tinygan.use(backend)
    ones = tinygan.backend.xp.ones
    operands = [(ones((m, k), "float32"), ones((k, n), "float32"))
                for m, k, n in products(workload)]

    def iteration():
        for a, b in operands:
            tinygan.backend.product(a, b)
    if tinygan.backend.cuda is None:
        return iteration
    from tinygan.graphs import Aside
    aside = Aside()
    with aside:
        iteration()                         # fills the memory pool
        launch = aside.record(iteration)
    launch.operands = operands              # the graph reads their memory
    return launch


# The processes

def serve(library: str, workload: str, backend: str, batch: str, cores: str) -> None:
    """Run the process of a worker.

    It prints the seconds of its first iteration. Then, for each number n on standard input, it
    warms up, runs n iterations and prints the milliseconds of one on the clock and of all cores.
    At the end of the input it prints its peak memory in MB and how many kernels an iteration
    launches, or nan for what is not known.
    """
    BATCH[workload] = m = int(batch)
    if int(cores):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(cores)])
    start = time.perf_counter()
    if library in ("torch", "graphs"):
        import peers
        iteration = peers.torch_iteration(workload, m, backend, library == "graphs")
    elif library == "jax":
        import peers
        iteration = peers.jax_iteration(workload, m, backend)
    elif library == "products":
        iteration = products_iteration(workload, backend)
    else:
        iteration = tinygan_iteration(workload, backend, library == "tinygan")

    def run(n):
        for _ in range(n):
            iteration()
    run(1)
    synchronize(backend, library)
    print(time.perf_counter() - start, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        while time.perf_counter() < start + WARM_UP:
            run(1)
            synchronize(backend, library)
        stop, processor = start_clock(backend, library), time.process_time()
        run(n := int(line))
        wall = stop()
        print(wall / n, 1000 * (time.process_time() - processor) / n, flush=True)
    try:
        import resource
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    except ImportError:                         # Windows has no such module
        memory = math.nan
    print(memory, count_launches(iteration), flush=True)


def start_clock(backend: str, library: str) -> Callable[[], float]:
    """Return a function that returns the milliseconds since this call.

    On a GPU they are those between two events in the library's current stream. To wait for the
    second one takes no processor time.
    """
    if backend == "numpy":
        start = time.perf_counter()
        return lambda: 1000 * (time.perf_counter() - start)
    if library in ("torch", "graphs"):
        import torch
        first, last = (torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(2))
        elapsed = first.elapsed_time
    else:
        import cupy
        first, last = (cupy.cuda.Event(block=True) for _ in range(2))
        elapsed = functools.partial(cupy.cuda.get_elapsed_time, first)
    first.record()

    def stop():
        last.record()
        last.synchronize()
        return elapsed(last)
    return stop


def synchronize(backend: str, library: str) -> None:
    """Wait until the GPU has finished, if there is one."""
    if backend != "numpy" and library in ("torch", "graphs"):
        import torch
        torch.cuda.synchronize()
    elif backend != "numpy":
        import cupy
        cupy.cuda.Device().synchronize()


class Worker:
    """A process that runs iterations of a workload with one of LIBRARIES, see serve."""

    def __init__(self, library: str, workload: str, backend: str, cores: int) -> None:
        command = [sys.executable, __file__, "serve", library, workload, backend,
                   str(BATCH[workload]), str(cores)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def wait(self) -> None:
        """Wait for the first iteration; `first` is then its time in seconds."""
        self.first = self._read()[0]

    def milliseconds(self, n: int) -> tuple[float, float]:
        """Run n iterations; return the mean time of one on the clock and of all cores."""
        print(n, file=self.process.stdin, flush=True)
        return self._read()

    def end(self) -> tuple[float, float]:
        """End the process; return its peak memory in MB and the launches, see serve."""
        self.process.stdin.close()
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"benchmark.py: the worker ended with status {self.process.wait()}")
        return tuple(map(float, line.split()))


class Times(NamedTuple):
    """What was measured of a library."""

    wall: list[float]       # milliseconds of an iteration in each round, on the clock
    processor: list[float]  # the same of all cores together
    first: float            # seconds of the first iteration
    memory: float           # the process's peak, in MB
    launches: float         # of kernels in an iteration, nan if unknown


def measure(workload: str, rounds: int, backend: str, cores: int) -> dict[str, Times]:
    """Return {library: Times} of the libraries that are installed."""
    left_out = ("eager", "graphs") if backend == "numpy" else ("jax",)
    workers = {}
    for library in LIBRARIES:
        if library not in left_out and (
                library not in PACKAGES or importlib.util.find_spec(PACKAGES[library])):
            workers[library] = Worker(library, workload, backend, cores)
            if backend == "numpy":          # its first iteration has the processor for itself
                workers[library].wait()
    if backend != "numpy":
        for worker in workers.values():
            worker.wait()
    times = {library: [] for library in workers}
    for _ in range(rounds):
        for library, worker in workers.items():
            time.sleep(0.2)     # threads of the process before may still spin for a while
            times[library].append(worker.milliseconds(
                5 if backend == "numpy" else GPU_ITERATIONS.get(library, 1000)))
    return {library: Times(*map(list, zip(*times[library])), worker.first, *worker.end())
            for library, worker in workers.items()}


def middle(values: list[float]) -> str:
    """Return the median and the quartiles as text."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def make_rows(workload: str, results: dict[str, Times]) -> list[str]:
    """Return the rows of a workload, one for each library, as text.

    The ratios are those of the library's times to tinygan's; "-" stands for what is not known.
    """
    rows, ours = [], results["tinygan"]
    for library, its in results.items():
        ratios = ["", ""] if library == "tinygan" else [
            f"{statistics.median(b / a for a, b in zip(mine, theirs)):.2f}"
            for mine, theirs in ((ours.wall, its.wall), (ours.processor, its.processor))]
        memory = "-" if math.isnan(its.memory) else f"{its.memory:.0f}"
        launches = "" if math.isnan(its.launches) else f"  {its.launches:.0f} launches"
        rows.append(f"{workload:8} {LIBRARIES[library]:15} {middle(its.wall):>22} "
                    f"{statistics.median(its.processor):>8.2f} {ratios[0]:>12} {ratios[1]:>12} "
                    f"{its.first:>7.1f} {memory:>8}{launches}")
        workload = ""
    return rows


def main() -> None:
    """Run the benchmark with the flags of the command line and print its table."""
    import tinygan
    from tinygan import UserError, command
    flags = command.make_parser(__doc__)
    flags.add_argument("--workload", choices=BATCH, nargs="+", default=list(BATCH),
                       help="what to measure (all)")
    flags.add_argument("--rounds", type=command.positive, default=20, help="number of rounds (20)")
    flags.add_argument("--batch", type=command.positive,
                       help=f"minibatch size ({', '.join(f'{n}: {m}' for n, m in BATCH.items())})")
    flags.add_argument("--cores", type=command.positive, default=0,
                       help="number of cores that each process may use (all)")
    flags.add_argument("--backend", choices=["numpy", "cupy", "cupy-tf32"], default="numpy",
                       help="numpy, or for a GPU cupy or cupy-tf32 (numpy)")
    flags.add_argument("--dry-run", action="store_true", help="one round of one workload")
    args = flags.parse_args()
    if args.dry_run:
        args.workload, args.rounds = ["gan"], 1
    if args.cores and not hasattr(os, "sched_setaffinity"):
        raise UserError("this system cannot restrict a process to some of its cores: leave --cores "
                        "out")
    tinygan.use(args.backend)           # a backend that does not work fails here, not in a worker
    if args.batch == 1:
        flags.error("argument --batch: batch normalisation needs a minibatch of at least 2")
    if args.batch:
        BATCH.update(dict.fromkeys(BATCH, args.batch))

    versions = [f"{title} {importlib.metadata.version(name)}" if importlib.util.find_spec(name) else
                f"no {title}" for name, title in (("numpy", "numpy"), ("torch", "PyTorch"),
                                                  ("jax", "JAX"))]
    print(f"{command.processor_name()}, {os.cpu_count()} cores; Python "
          f"{platform.python_version()}, {', '.join(versions)}; " + ", ".join(
              f"{name} {os.environ.get(name, 'unset')}"
              for name in ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")))
    print(f"{args.rounds} round{'s' if args.rounds > 1 else ''}; milliseconds per iteration: "
          "median (lower-upper quartile)")
    print(f"{'':8} {'':15} {'wall':>22} {'CPU':>8} {'wall/tinygan':>12} {'CPU/tinygan':>12} "
          f"{'first s':>7} {'peak MB':>8}")
    for workload in args.workload:
        results = measure(workload, args.rounds, args.backend, args.cores)
        print("\n".join(make_rows(workload, results)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:      # a peer's worker does not import tinygan
        signal.signal(signal.SIGINT, signal.SIG_IGN)        # the main process ends, then its pipes
        try:
            serve(*sys.argv[2:])
        except BrokenPipeError:
            os._exit(1)
    else:
        from tinygan import command
        command.main(main)
