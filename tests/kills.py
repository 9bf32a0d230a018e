"""Kill runs at random moments, to be run by hand:

    python tests/kills.py --kills 100 --seed 0

Each time a real process plays one of the games or of the trials, is killed (SIGKILL) at a moment
between its start and its end, and is resumed to its end; in between, --again kills the resumed run
too. Then every file of the run must be, byte for byte, that of one that nobody has killed, and
there must be no other file. Ends with 1 at the first that differs.
"""

import argparse
import collections
import math
import pathlib
import random
import shutil
import sys
import tempfile
import time

import numpy as np

from test_run import ANY, begin, contents, finished

from tinygan import checkpoint
from tinygan.backend import UserError
from tinygan.games.catalogue import GAMES

TRIALS = {path.stem: path for path in sorted((ANY.parent / "trials").glob("*.py"))}


def command_of(name):
    """The script and the flags by which a game or a trial is played on the files of write_data."""
    if name in GAMES:
        return ANY, "--data", "small.npz", "--game", name, "--noise", 0.3
    return TRIALS[name], "--data", "large.npz" if name == "growing" else "small.npz"


def write_data(folder, seed=0):
    """Write images of 4x4 pixels with labels and, for themselves, targets; and some of 8x8."""
    generator = np.random.default_rng(seed)

    def images(n, size):
        return generator.integers(256, size=(n, size, size), dtype=np.uint8)
    np.savez(folder / "small.npz", images=images(120, 4), labels=np.arange(120) % 3,
             targets=images(150, 4))
    np.savez(folder / "large.npz", images=images(120, 8))


def has_begun(run):
    """Whether a run, or its first stage, can be gone on with."""
    return any(run.glob("**/" + checkpoint.NAME))


def kill_at(process, path, step, end=math.inf):
    """Kill a process, unless it has ended, once the checkpoint at `path` is of that step or a later
    one before `end`. Return whether it was killed."""
    limit = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:
        try:
            if step <= checkpoint.read(path).about["step"] < end:
                break
        except UserError:       # it is not there yet
            pass
        time.sleep(0.005)
    process.kill()
    process.communicate()
    return process.returncode < 0


def main():
    flags = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--again", type=float, default=0.3, help="how probable a further kill is")
    args = flags.parse_args()
    chance, count, names = random.Random(args.seed), collections.Counter(), [*GAMES, *TRIALS]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder)
        whole = {}
        while count["kills"] < args.kills:
            name = chance.choice(names)
            every = [0, 0.05, 30][names.index(name) % 3]
            script, *new = *command_of(name), "--average", 0.9, "--steps", 40, "--save-every", every
            if name not in whole:
                start = time.monotonic()
                finished(folder, script, *new, "--out", name)
                whole[name] = contents(folder / name), time.monotonic() - start
            expected, seconds = whole[name]
            run = folder / "killed"
            while True:
                mine = ["--resume", "--save-every", every] if has_begun(run) else new
                process = begin(folder, script, *mine, "--out", run)
                time.sleep(chance.uniform(0, 1.1 * seconds))
                count["ended before" if process.poll() is not None else "kills"] += 1
                process.kill()
                process.communicate()
                count["had not begun"] += not has_begun(run)
                count["left a .tmp"] += any(path.endswith(".tmp") for path in contents(run))
                if chance.random() > args.again:
                    break
            finished(folder, script, *(["--resume"] if has_begun(run) else new), "--out", run)
            found = contents(run)
            different = [path for path in {**expected, **found}
                         if expected.get(path) != found.get(path)]
            if different:
                sys.exit(f"seed {args.seed}, after {dict(count)}: {name} differs in {different}")
            count["runs"] += 1
            shutil.rmtree(run)
            print(f"\r{dict(count)}", end="", flush=True)
    print(f"\n{count['runs']} runs, each as if nobody had killed it")


if __name__ == "__main__":
    main()
