"""Train any game of the catalogue on images of 4x4 pixels.

    python tests/any_game.py --game r1 --noise 0.3 --out DIR

The script takes the flags of the examples. It is fast enough for tests that kill it many times.
"""

from tinygan import command, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import views
from tinygan.games.catalogue import GAMES
from tinygan.random import Random


def main():
    flags = command.game_parser(__doc__, steps=30, batch_size=8, out="runs/any")
    flags.add_argument("--game", choices=GAMES, default="gan")
    flags.add_argument("--noise", type=command.from_0, default=0.0)
    flags.add_argument("--width", type=command.positive, default=4)
    flags.add_argument("--order", default="alternating")
    args = command.parse(flags)
    with command.start(args) as data:
        noise = [views.InstanceNoise(schedules.linear(args.noise, 0.0, 40))] if args.noise else []
        entry = GAMES[args.game]
        game = entry(*entry.networks(args.width), views=noise)
        d_opt = optim.SGD(game.d_parameters(), schedules.exponential(0.05, 0.99),
                          schedules.linear(0.5, 0.7, 30))
        g_opt = (optim.RMSProp if args.game == "wgan" else optim.Adam)(game.g_parameters(), 1e-3)
        arrays = [data.train["images" if name == "unlabelled" else name]
                  for name in entry.examples(1, Random())]
        batches = Minibatches(tuple(arrays) if len(arrays) > 1 else arrays[0], args.batch_size)
        command.train(args, game, batches, d_opt, g_opt, args.order)


if __name__ == "__main__":
    command.main(main)
