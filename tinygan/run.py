"""What a person sees of a run: its flags, its progress, its pictures, and what went wrong."""

import argparse
import contextlib
import math
import os
import sys
import tempfile
import time

from . import backend, image
from .backend import UserError
from .data import mnist
from .nn import evaluating
from .play import play
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
    add("--average", type=fraction, metavar="DECAY",
        help="sample from an average of G's weights that keeps DECAY, such as .999, at each step")
    add("--dry-run", action="store_true",
        help="2 iterations on the bundled sample, everything done once, nothing kept")
    return parser


def _number(kind, fits, wanted):
    """An argparse type: text to a number of this kind, int or float, that fits."""
    def convert(text):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan       # which fits nothing
        if not fits(number):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return number
    return convert


whole = _number(int, lambda n: n >= 0, "a whole number of at least 0")
positive = _number(int, lambda n: n >= 1, "a whole number of at least 1")
fraction = _number(float, lambda n: 0 <= n < 1, "a number from 0 to below 1")
above_0 = _number(float, lambda n: 0 < n < math.inf, "a number above 0")
from_0 = _number(float, lambda n: 0 <= n < math.inf, "a number of at least 0")


@contextlib.contextmanager
def output(args):
    """Context of a script with the flags --backend, --out and --dry-run: computes on that backend,
    and writes into args.out, which is made, or in a dry run replaced by a folder that vanishes
    afterwards."""
    with contextlib.ExitStack() as stack:
        if args.backend:
            backend.use(args.backend)
        if args.dry_run:
            args.out = stack.enter_context(tempfile.TemporaryDirectory())
        try:
            os.makedirs(args.out, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.out):      # now, not after minutes of training
                pass
        except OSError as error:
            raise UserError(f"cannot write into {args.out!r} ({error.strerror}): choose another "
                            "folder with --out") from None
        yield


@contextlib.contextmanager
def started(args):
    """Context of a run with these flags, from its seed: gives the data; see also output()."""
    with output(args):
        backend.rng.seed(args.seed)
        if args.dry_run:
            args.steps = 2
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
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise UserError(f"{name} has become {mean} by step {i + 1}: a smaller learning "
                                "rate may keep it finite")
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        line = (f"step {i + 1:>{len(str(self.steps))}}/{self.steps}  {rate:5.1f}/s  "
                f"{left // 60}:{left % 60:02} left  {means}")
        end = "\n" if not self.live or i + 1 == self.steps else ""
        print(f"\r{line}\x1b[K" if self.live else line, end=end, file=self.file, flush=True)
        self.last, self.count, self.sums = now, 0, {}


def train(args, game, batches, d_opt, g_opt, order="alternating"):
    """Play `game` for args.steps iterations; show how it goes, ten times save 64 samples from the
    same noise into args.out as samples-STEP.png, and at the end as samples.png: of the average of
    G's weights, where the game keeps one."""
    if args.average is not None:
        game.keep_average(args.average)
    z = game.latent(64, backend.rng)
    G = game.G if game.G_average is None else game.G_average
    progress = Progress(args.steps)
    for i, d_loss, g_loss in play(game, batches, d_opt, g_opt, args.batch_size, backend.rng,
                                  args.steps, order=order):
        progress(i, {"D loss": d_loss.data, "G loss": g_loss.data, **game.seen})
        if (i + 1) % (args.steps // 10 or 1) == 0:
            save_samples(os.path.join(args.out, f"samples-{i + 1:06}.png"), G, z)
    picture = os.path.join(args.out, "samples.png")
    save_samples(picture, G, z)
    print("dry run: all done once, nothing kept" if args.dry_run else f"samples: {picture}")


def save_samples(path, G, z):
    """A grid of G(z) at `path`, G evaluating, so that no sample depends on the others."""
    with evaluating(G), no_grad():
        pixels = G(z).data
    save(image.save_grid, path, pixels, scale=2)


def save(function, path, *args, **kwargs):
    """function(path, ...), which writes a file, with a sentence for the user if it cannot."""
    try:
        function(path, *args, **kwargs)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room or choose another "
                        "place with --out") from None


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
