"""The ground: one array library behind the name `xp`, and the one random stream.

Everything above computes with `backend.xp`, looked up at each call, so that the same code runs on
the CPU (numpy) and on an NVIDIA GPU (cupy, which has numpy's interface):

    tinygan.use("cupy")            # or the environment variable TINYGAN_BACKEND=cupy
    a = backend.xp.zeros((2, 3))   # lives on the GPU
    backend.to_numpy(a)            # a copy on the host

Choose before anything is built: arrays do not move when the backend changes.
"""

import os

import numpy as np

xp = np


class UserError(ValueError):
    """What was asked for cannot be done; the message says what was wrong and what to do instead.

    Scripts print it as one line and exit with a non-zero status.
    """


def use(library):
    """Compute with `library` from now on: "numpy", "cupy", or a module with numpy's interface and
    an `asnumpy` function (as cupy has; the tests bring one).

    Raises UserError for an unknown name, and for cupy where it or a GPU is missing.
    """
    global xp
    if library == "numpy":
        xp = np
    elif library == "cupy":
        xp = _working_cupy()
    elif hasattr(library, "asnumpy"):
        xp = library
    else:
        raise UserError(f"unknown backend {library!r}: choose \"numpy\" (CPU) or \"cupy\" (GPU)")


def _working_cupy():
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            f"the cupy backend needs cupy ({error}): pip install 'tinygan[cuda12]' for CUDA 12 or "
            "'tinygan[cuda13]' for CUDA 13, or choose the numpy backend") from None
    try:
        cupy.zeros(1) + 1
    except Exception as error:      # no driver, no device, wrong CUDA: each its own exception class
        raise UserError(
            f"cupy is installed but no GPU answers ({error}): check the driver with nvidia-smi and "
            "that cupy was built for your CUDA version, or choose the numpy backend") from None
    return cupy


def to_numpy(array):
    """`array` as a numpy array on the host (the same one if it is there already)."""
    return array if isinstance(array, np.ndarray) else xp.asnumpy(array)


class Random:
    """A seeded stream of random arrays, float32 unless said otherwise, on the current backend.

    Numbers are drawn on the host and copied over, so every backend sees the same ones.
    """

    def __init__(self, seed=0):
        self.seed(seed)

    def seed(self, seed):
        """Begin the stream of `seed` (an integer >= 0)."""
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low, high, shape):
        """U(low, high)."""
        low, high = float(low), float(high)     # a numpy float64 would make the array one
        return xp.asarray(self._generator.random(shape, np.float32) * (high - low) + low)

    def normal(self, shape):
        """N(0, 1)."""
        return xp.asarray(self._generator.standard_normal(shape, np.float32))

    def bernoulli(self, p, shape):
        """True with probability p."""
        return xp.asarray(self._generator.random(shape, np.float32) < p)

    def integers(self, high, shape):
        """Whole numbers 0 ... high - 1, each as likely."""
        return xp.asarray(self._generator.integers(high, size=shape))

    def permutation(self, n):
        """The numbers 0 ... n - 1 in random order."""
        return xp.asarray(self._generator.permutation(n))

    def key(self):
        """A number to seed another stream with: Random(key) starts at the same place each time."""
        return int(self._generator.integers(2**63))

    @property
    def state(self):
        """Where the stream is, as plain Python values; assign it back to continue from there."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, state):
        self._generator.bit_generator.state = state


rng = Random(0)     # the one stream: initial weights, data order and noise all come from it

try:
    use(os.environ.get("TINYGAN_BACKEND") or "numpy")
except UserError as error:      # nobody importing this could catch it in time to say it in a line
    raise SystemExit(f"TINYGAN_BACKEND: {error}") from None
