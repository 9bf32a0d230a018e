"""A conditional GAN of a user's own, with any loss, penalty and instance noise.

    python tests/trials/labelled.py --loss hinge --penalty r1 --data DATA --out DIR
"""

from tinygan import command, optim
from tinygan.data import Minibatches
from tinygan.games import ConditionalGAN, losses, penalties, views
from tinygan.games.catalogue import Entry
from tinygan.games.small import make_labelled_images, make_labelled_networks


class Conditional(ConditionalGAN):
    """The conditional GAN, as a class that is not tinygan's."""


ENTRY = Entry(Conditional, "Mirza and Osindero 2014", dict(z_size=5, classes=3),
              make_labelled_networks, make_labelled_images)
LOSSES = {"gan": losses.NonSaturating(), "lsgan": losses.LeastSquares(), "hinge": losses.Hinge(),
          "ragan": losses.RelativisticAverage()}
PENALTIES = {"none": [], "gp": [penalties.GradientPenalty()], "r1": [penalties.R1()]}


def main():
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, steps=30, batch_size=8, out="runs/labelled")
    flags.add_argument("--loss", choices=LOSSES, default="gan")
    flags.add_argument("--penalty", choices=PENALTIES, default="none")
    flags.add_argument("--noise", type=command.from_0, default=0.0)
    args = command.parse(flags)
    with command.start(args) as data:
        game = ENTRY(loss=LOSSES[args.loss], penalties=PENALTIES[args.penalty],
                     views=[views.InstanceNoise(args.noise)])
        batches = Minibatches(data.train.images, args.batch_size, labels=data.train.labels)
        d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
