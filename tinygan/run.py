"""What a person sees of a run: its flags, its progress, its pictures, and what went wrong."""

import argparse
import contextlib
import os
import sys
import tempfile
import time

from . import backend, image
from .backend import UserError
from .data import mnist
from .nn import evaluating
from .tensor import no_grad


def flags(description, steps, batch_size, out):
    """The parser with the flags that every example has, and these defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive, default=steps, help=f"iterations to play ({steps})")
    add("--batch-size", type=positive, default=batch_size, help=f"m in the paper ({batch_size})")
    add("--seed", type=whole, default=0, help="of everything random (0)")
    add("--backend", default=None, metavar="NAME",
        help="numpy, or cupy for a GPU (TINYGAN_BACKEND, else numpy)")
    add("--data", metavar="DIR",
        help="a folder with MNIST's four files (TINYGAN_DATA, else a download)")
    add("--out", metavar="DIR", default=out, help=f"where the pictures go ({out})")
    add("--dry-run", action="store_true",
        help="2 iterations on the bundled sample, everything done once, nothing kept")
    return parser


def whole(text):
    """argparse type: an integer >= 0."""
    return _at_least(0, text)


def positive(text):
    """argparse type: an integer >= 1."""
    return _at_least(1, text)


def _at_least(low, text):
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
    return number


@contextlib.contextmanager
def started(args):
    """Context of a run with these flags, on its backend and from its seed: gives the data.

    args.out is made, or in a dry run replaced by a folder that vanishes afterwards.
    """
    with contextlib.ExitStack() as stack:
        if args.backend:
            backend.use(args.backend)
        backend.rng.seed(args.seed)
        if args.dry_run:
            args.steps = 2
            args.out = stack.enter_context(tempfile.TemporaryDirectory())
        try:
            os.makedirs(args.out, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.out):      # now, not after minutes of training
                pass
        except OSError as error:
            raise UserError(f"cannot write into {args.out!r} ({error.strerror}): choose another "
                            "folder with --out") from None
        sample = args.dry_run and not args.data
        data = mnist.load_sample("as this is a dry run") if sample else mnist.load(args.data)
        print(f"data: {data.source}")
        yield data


class Progress:
    """One line that says how far a run is, its rate, the time left, and what the losses saw,
    averaged since the line before: rewritten in place on a terminal, else a new one now and
    then."""

    def __init__(self, steps, file=None):
        self.steps, self.file = steps, file or sys.stdout
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else 10.0         # seconds
        self.begin = self.last = time.monotonic()
        self.count, self.sums = 0, {}

    def __call__(self, i, values):
        """After iteration i (from 0): `values` is {name: array of one number}. They are added up
        where they are and read only when the line is due, so that a GPU need not be waited for."""
        self.count += 1
        self.sums = {name: value + self.sums.get(name, 0.0) for name, value in values.items()}
        now = time.monotonic()
        if now - self.last < self.every and i + 1 < self.steps:
            return
        rate = (i + 1) / (now - self.begin)
        left = int((self.steps - i - 1) / rate)
        means = "  ".join(f"{name} {float(value) / self.count:.3f}"
                          for name, value in self.sums.items())
        line = (f"step {i + 1:>{len(str(self.steps))}}/{self.steps}  {rate:5.1f}/s  "
                f"{left // 60}:{left % 60:02} left  {means}")
        end = "\n" if not self.live or i + 1 == self.steps else ""
        print(f"\r{line}\x1b[K" if self.live else line, end=end, file=self.file, flush=True)
        self.last, self.count, self.sums = now, 0, {}


def save_samples(path, G, z):
    """A grid of G(z) at `path`, G evaluating, so that no sample depends on the others."""
    with evaluating(G), no_grad():
        pixels = G(z).data
    try:
        image.save_grid(path, pixels, scale=2)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        "folder with --out") from None


def main(script):
    """Run `script()`; what the user can mend is told in one line on stderr, with exit status 1."""
    try:
        script()
    except UserError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except BrokenPipeError:         # who read the output has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped")
