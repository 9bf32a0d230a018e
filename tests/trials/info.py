"""InfoGAN (Chen et al. 2016).

    python tests/trials/info.py --data DIGITS --out DIR
"""

import math

from tinygan import Tensor, backend, command, nn, ops, optim
from tinygan.data import Minibatches
from tinygan.games import GAN
from tinygan.games.catalogue import Entry


class InfoGAN(GAN):
    """G takes beside the noise a code c, one of `codes`, and is to show it (eq. 6):

        min_{G, Q} max_D V(D, G) - lam L_I(G, Q)
        L_I = E log Q(c|G(z, c)) + H(c)                                 (eq. 5)

    Q shares its layers with D, all but the last, and moves with it. L_I, a lower bound of the
    information between c and G(z, c), in nats, is logged.
    """

    d_players = ("D", "Q")

    def __init__(self, G, D, Q, z_size=62, codes=10, lam=1.0, **choices):
        super().__init__(G, D, z_size, **choices)
        self.Q, self.codes, self.lam = Q, codes, lam

    def latent(self, m, rng):
        return super().latent(m, rng), rng.integers(self.codes, (m,))

    def d_terms(self, x, z, fake):
        information = math.log(self.codes) - ops.cross_entropy(self.Q(fake), z[1])
        self.seen = {**self.seen, "L_I": information.data}
        return [-self.lam * information]

    g_terms = d_terms

    def exhibits(self, split, n, rng):
        noise = super().latent(n // self.codes, rng).data.repeat(self.codes, 0)
        return Tensor(noise), backend.xp.arange(len(noise)) % self.codes

    def shown(self, z):
        """Return the samples, in each row the same noise with each code."""
        return self.sample(z), self.codes


class Coded(nn.Sequential):
    """A network of (z, c): the noise, and beside it the code c as a one-hot code."""

    def forward(self, z, c):
        c = Tensor((c[:, None] == backend.xp.arange(10)).astype(z.dtype))
        return super().forward(ops.concat([z, c], 1))


def networks():
    G = Coded(nn.Dense(15, 16), nn.BatchNorm(16), nn.ReLU(), nn.Dense(16, 16), nn.Sigmoid(),
              nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU(), nn.Dropout(0.2))
    return G, nn.Sequential(trunk, nn.Dense(16, 1)), nn.Sequential(trunk, nn.Dense(16, 10))


ENTRY = Entry(InfoGAN, "Chen et al. 2016", dict(z_size=5), networks)


def main():
    args = command.parse(command.flags(__doc__, steps=30, batch_size=8, out="runs/info"))
    with command.started(args) as data:
        game = ENTRY()
        batches = Minibatches(data.train.images, args.batch_size)
        d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
