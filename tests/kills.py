"""Kill runs at random moments, to be run by hand:

    python tests/kills.py --kills 100 --seed 0

Each time a real process plays one of the games, is killed (SIGKILL) at a moment between its start
and its end, and is resumed to its end; in between, --again kills the resumed run too. Then every
file of the run must be, byte for byte, that of one that nobody has killed, and there must be no
other file. Ends with 1 at the first that differs.
"""

import argparse
import collections
import pathlib
import random
import shutil
import sys
import tempfile
import time

import numpy as np

from any_game import GAMES
from test_run import ANY, begin, contents, finished


def main():
    flags = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--again", type=float, default=0.3, help="how probable a further kill is")
    args = flags.parse_args()
    chance, count = random.Random(args.seed), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        np.save(folder / "digits.npy", np.random.default_rng(0).integers(
            256, size=(60, 4, 4), dtype=np.uint8))
        whole = {}
        while count["kills"] < args.kills:
            name = chance.choice(list(GAMES))
            every = [0, 0.05, 30][list(GAMES).index(name) % 3]
            new = ["--data", "digits.npy", "--game", name, "--noise", 0.3, "--average", 0.9,
                   "--steps", 40, "--save-every", every]
            if name not in whole:
                start = time.monotonic()
                finished(folder, ANY, *new, "--out", name)
                whole[name] = contents(folder / name), time.monotonic() - start
            expected, seconds = whole[name]
            run = folder / "killed"
            while True:
                has_begun = (run / "checkpoint.npz").exists()
                mine = ["--resume", "--save-every", every] if has_begun else new
                process = begin(folder, ANY, *mine, "--out", run)
                time.sleep(chance.uniform(0, 1.1 * seconds))
                count["ended before" if process.poll() is not None else "kills"] += 1
                process.kill()
                process.communicate()
                count["had not begun"] += not (run / "checkpoint.npz").exists()
                count["left a .tmp"] += any(path.endswith(".tmp") for path in contents(run))
                if chance.random() > args.again:
                    break
            has_begun = (run / "checkpoint.npz").exists()
            finished(folder, ANY, *(["--resume"] if has_begun else new), "--out", run)
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
