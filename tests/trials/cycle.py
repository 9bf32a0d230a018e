"""A CycleGAN of a user's own, on two sets of images that are not paired.

    python tests/trials/cycle.py --data DATA --out DIR

DATA is an .npz file with two sets of images of 4x4 pixels, "images" and "targets".
"""

from tinygan import command, optim
from tinygan.data import Minibatches, ZipMinibatches
from tinygan.games import CycleGAN
from tinygan.games.catalogue import Entry
from tinygan.games.small import make_cycle_networks, make_translations


class Cycle(CycleGAN):
    """CycleGAN, as a class that is not tinygan's."""


ENTRY = Entry(Cycle, "Zhu et al. 2017", dict(x_shape=(1, 4, 4), y_shape=(1, 4, 4), pool=20),
              make_cycle_networks, make_translations)


def main():
    """Train the game with the settings of the command line."""
    args = command.parse(command.game_parser(__doc__, steps=30, batch_size=8, out="runs/cycle"))
    with command.start(args) as data:
        game = ENTRY()
        batches = ZipMinibatches(*(Minibatches(data.train[name], args.batch_size)
                                   for name in ("images", "targets")))
        d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
