"""InfoGAN (Chen et al. 2016).

    python tests/trials/info.py --data DATA --out DIR

DATA is a file of images of 4x4 pixels.
"""

import math

from tinygan import Tensor, backend, command, nn, ops, optim
from tinygan.data import Minibatches
from tinygan.games import GAN
from tinygan.games.catalogue import Entry


class InfoGAN(GAN):
    """InfoGAN: G's input is the noise z and a code c, which Q predicts from the image (eq. 6).

        min_{G, Q} max_D V(D, G) - lam L_I(G, Q)
        L_I = E log Q(c|G(z, c)) + H(c)                                 (eq. 5)

    c is one of `codes` classes. D returns (scores, Q's logits): Q shares all layers but the last
    with D and is updated in D's step. L_I, a lower bound of the mutual information of c and G(z, c)
    in nats, is logged.
    """

    def __init__(self, G, D, z_size=62, codes=10, lam=1.0, **choices):
        super().__init__(G, D, z_size, **choices)
        self.codes, self.lam = codes, lam

    def latent(self, m, rng):
        return super().latent(m, rng), rng.integers(self.codes, (m,))

    def g_terms(self, x, z, fake, out_fake):
        _, logits = out_fake
        information = math.log(self.codes) - ops.cross_entropy(logits, z[1])
        self.logged = {**self.logged, "L_I": information.data}
        return [-self.lam * information]

    def d_terms(self, x, z, fake, out_real, out_fake):
        return self.g_terms(x, z, fake, out_fake)

    def fixed_inputs(self, split, n, rng):
        noise = super().latent(n // self.codes, rng).data.repeat(self.codes, 0)
        return Tensor(noise), backend.xp.arange(len(noise)) % self.codes

    def pictures(self, z):
        """Return the samples; a row has one noise vector with every code."""
        return self.sample(z), self.codes


class CodedSequential(nn.Sequential):
    """Apply layers to the noise z, concatenated with the one-hot code of c."""

    def forward(self, z, c):
        c = Tensor((c[:, None] == backend.xp.arange(10)).astype(z.dtype))
        return super().forward(ops.concat([z, c], 1))


def networks():
    """Return G and D, with Q as its second head, for images of 4x4 pixels."""
    G = CodedSequential(nn.Dense(15, 16), nn.BatchNorm(16), nn.ReLU(), nn.Dense(16, 16),
                        nn.Sigmoid(), nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU(), nn.Dropout(0.2))
    return G, nn.Heads(trunk, nn.Dense(16, 1), nn.Dense(16, 10))


ENTRY = Entry(InfoGAN, "Chen et al. 2016", dict(z_size=5), networks)


def main():
    """Train the game with the settings of the command line."""
    args = command.parse(command.game_parser(__doc__, steps=30, batch_size=8, out="runs/info"))
    with command.start(args) as data:
        game = ENTRY()
        batches = Minibatches(data.train.images, args.batch_size)
        d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
        command.train(args, game, batches, d_opt, g_opt)


if __name__ == "__main__":
    command.main(main)
