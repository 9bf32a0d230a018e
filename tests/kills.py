"""Kill runs at random moments and resume them. This script is run by hand.

    python tests/kills.py --kills 100 --seed 0

A process trains a game of the catalogue or of tests/trials, or the stages of ProGAN, is killed by
SIGKILL at a random moment and is resumed to its end. With the probability --again, a resumed
process is killed, too. The files of the run must then be those of a run that was not killed, byte
for byte. The script exits with status 1 at the first difference.
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

from test_run import ANY_GAME, ROOT, read_files, run_script, start_script

from tinygan import checkpoint
from tinygan.backend import UserError
from tinygan.games.catalogue import GAMES

SCRIPTS = {path.stem: path for path in (*sorted((ANY_GAME.parent / "trials").glob("*.py")),
                                        ROOT / "examples" / "progan_mnist.py")}


def get_command(name):
    """Return a script, with flags, that trains a game or stages on the files of write_data()."""
    if name in GAMES:
        return ANY_GAME, "--data", "small.npz", "--game", name, "--noise", 0.3
    return SCRIPTS[name], "--data", "large.npz" if name == "progan_mnist" else "small.npz"


def write_data(folder, seed=0):
    """Write small.npz (images of 4x4 pixels, labels, targets) and large.npz (images of 8x8)."""
    generator = np.random.default_rng(seed)

    def images(n, size):
        return generator.integers(256, size=(n, size, size), dtype=np.uint8)
    np.savez(folder / "small.npz", images=images(120, 4), labels=np.arange(120) % 3,
             targets=images(150, 4))
    np.savez(folder / "large.npz", images=images(120, 8))


def has_begun(run):
    """Return whether a run, or its first stage, has a checkpoint."""
    return any(run.glob("**/" + checkpoint.NAME))


def kill_at(process, path, step, end=math.inf):
    """Kill a process when its checkpoint at `path` has reached `step`, and return True.

    A checkpoint of step `end` or later is that of an older run and is ignored. Returns False if the
    process ended first.
    """
    limit = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:
        try:
            if step <= checkpoint.read(path).about["step"] < end:
                break
        except UserError:       # there is no checkpoint yet
            pass
        time.sleep(0.005)
    process.kill()
    process.communicate()
    return process.returncode < 0


def main():
    """Kill and resume runs until --kills processes have been killed."""
    flags = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--again", type=float, default=0.3, help="probability of a further kill")
    args = flags.parse_args()
    chance, count, names = random.Random(args.seed), collections.Counter(), [*GAMES, *SCRIPTS]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder)
        whole = {}
        while count["kills"] < args.kills:
            name = chance.choice(names)
            every = [0, 0.05, 30][names.index(name) % 3]
            script, *new = (*get_command(name), "--average", 0.9, "--steps", 40,
                            "--save-every", every)
            if name not in whole:
                start = time.monotonic()
                run_script(folder, script, *new, "--out", name)
                whole[name] = read_files(folder / name), time.monotonic() - start
            expected, seconds = whole[name]
            run = folder / "killed"
            while True:
                mine = ["--resume", "--save-every", every] if has_begun(run) else new
                process = start_script(folder, script, *mine, "--out", run)
                time.sleep(chance.uniform(0, 1.1 * seconds))
                count["ended before" if process.poll() is not None else "kills"] += 1
                process.kill()
                process.communicate()
                count["had not begun"] += not has_begun(run)
                count["left a .tmp"] += any(path.endswith(".tmp") for path in read_files(run))
                if chance.random() > args.again:
                    break
            run_script(folder, script, *(["--resume"] if has_begun(run) else new), "--out", run)
            found = read_files(run)
            different = [path for path in {**expected, **found}
                         if expected.get(path) != found.get(path)]
            if different:
                sys.exit(f"seed {args.seed}, after {dict(count)}: {name} differs in {different}")
            count["runs"] += 1
            shutil.rmtree(run)
            print(f"\r{dict(count)}", end="", flush=True)
    print(f"\n{count['runs']} runs have the files of a run that was not killed")


if __name__ == "__main__":
    main()
