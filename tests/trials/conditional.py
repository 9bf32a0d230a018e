"""Conditional generative adversarial nets (Mirza and Osindero 2014).

    python tests/trials/conditional.py --loss hinge --penalty r1 --data DATA --out DIR

DATA is an .npz file with images of 4x4 pixels and their labels, 0 to 2.
"""

from tinygan import Tensor, backend, command, nn, ops, optim
from tinygan.data import Minibatches
from tinygan.games import Game, losses, penalties, views
from tinygan.games.catalogue import Entry


class Conditional(Game):
    """A conditional GAN: G and D are given a label y (eq. 2).

        min_G max_D E_x[log D(x|y)] + E_z[log(1 - D(G(z|y)|y))]

    D's input is an image and its label. The labels for G are drawn uniformly, with the noise.
    """

    loss = losses.NonSaturating()

    def __init__(self, G, D, z_size=100, classes=10, **choices):
        super().__init__(G, D, z_size, **choices)
        self.classes = classes

    def latent(self, m, rng):
        return super().latent(m, rng), rng.integers(self.classes, (m,))

    def fake(self, x, z):
        return self.G(*z), z[1]

    def fixed_inputs(self, split, n, rng):
        labels = backend.xp.arange(self.classes).repeat(n // self.classes)
        return super().latent(len(labels), rng), labels

    def pictures(self, z):
        """Return the samples, one row for each class."""
        return self.sample(z), len(z[1]) // self.classes


class LabelledSequential(nn.Sequential):
    """Apply layers to x, flattened, concatenated with the one-hot code of the label y."""

    def __init__(self, classes, *layers):
        super().__init__(*layers)
        self.classes = classes

    def forward(self, x, y):
        code = y[:, None] == backend.xp.arange(self.classes)
        return super().forward(ops.concat([x.reshape(len(x), -1), Tensor(code.astype(x.dtype))], 1))


def networks(classes=3, dropout=0.2):
    """Return G and D for images of 4x4 pixels."""
    G = LabelledSequential(classes, nn.Dense(5 + classes, 16), nn.BatchNorm(16), nn.ReLU(),
                           nn.Dense(16, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = LabelledSequential(classes, nn.Dense(16 + classes, 16), nn.LeakyReLU(),
                           nn.Dropout(dropout), nn.Dense(16, 1))
    return G, D


def examples(n, rng):
    """Return n random images of 4x4 pixels and their labels."""
    return {"images": rng.uniform(0, 1, (n, 1, 4, 4)), "labels": rng.integers(3, (n,))}


ENTRY = Entry(Conditional, "Mirza and Osindero 2014", dict(z_size=5, classes=3), networks, examples)
LOSSES = {"gan": losses.NonSaturating(), "lsgan": losses.LeastSquares(), "hinge": losses.Hinge(),
          "ragan": losses.RelativisticAverage()}
PENALTIES = {"none": [], "gp": [penalties.GradientPenalty()], "r1": [penalties.R1()]}


def main():
    """Train the game with the settings of the command line."""
    flags = command.game_parser(__doc__, steps=30, batch_size=8, out="runs/conditional")
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
