"""CycleGAN (Zhu et al. 2017).

    python tests/trials/cycle.py --data DATA --out DIR

DATA is an .npz file with two sets of images of 4x4 pixels, "images" and "targets".
"""

from tinygan import Tensor, backend, command, nn, ops, optim
from tinygan.backend import to_numpy
from tinygan.data import Minibatches, ZipMinibatches
from tinygan.games import Game, losses
from tinygan.games.catalogue import Entry


class CycleGAN(Game):
    """CycleGAN: G maps images x of one set to images y of another, and F maps y to x (eq. 3).

        L = L_GAN(G, D) + L_GAN(F, D_x) + lam L_cyc
        L_cyc = E |F(G(x)) - x|_1 + E |G(F(y)) - y|_1                   (eq. 2)

    L_GAN is the least-squares loss (section 4). The losses here are L / 2, because the mean of the
    two L_GAN is taken, not their sum. In D's step, half of the generated images are replaced by
    earlier ones from a pool of `pool` images of each set (Shrivastava et al. 2017).
    """

    loss = losses.LeastSquares()
    d_players, g_players = ("D", "D_x"), ("G", "F")

    def __init__(self, G, F, D, D_x, shape, lam=10.0, pool=50, **choices):
        super().__init__(G, D, **choices)
        self.F, self.D_x, self.lam = F, D_x, lam
        self.old_y, self.old_x = (backend.xp.zeros((pool, *shape), "float32") for _ in range(2))
        self.filled = backend.xp.zeros(pool, "bool")

    def latent(self, m, rng):
        """Return for each image an index into the pool, and whether D gets the pool's image."""
        return rng.permutation(len(self.filled))[:m], rng.bernoulli(0.5, (m,))

    def real(self, x):
        return x[1], x[0]

    def fake(self, x, z):
        return self.G(x[0]), self.F(x[1])

    def discriminate(self, inputs):
        return ops.concat([self.D(inputs[0]), self.D_x(inputs[1])])

    def replay(self, fake, z):
        place, exchange = z
        filled = self.filled[place]
        old, kept = (a[:, None, None, None] for a in (exchange & filled, exchange | ~filled))
        replayed = []
        for pool, new in zip((self.old_y, self.old_x), fake):
            there = pool[place]
            replayed.append(Tensor(backend.xp.where(old, there, new.data)))
            pool[place] = backend.xp.where(kept, new.data, there)
        self.filled[place] = True
        return tuple(replayed)

    def g_terms(self, x, z, fake, out_fake):
        cycle = abs(self.F(fake[0]) - x[0]).mean() + abs(self.G(fake[1]) - x[1]).mean()
        self.logged = {**self.logged, "cycle": cycle.data}
        return [self.lam / 2 * cycle]

    def inputs(self, split, n, rng):
        chosen = to_numpy(rng.integers(len(split.images), (n,)))
        return Tensor(split.floats(chosen))

    def pictures(self, z):
        """Return pairs of images, (input, output)."""
        pairs = backend.xp.stack([z.data, self.sample(z)], 1)
        return pairs.reshape(-1, *z.shape[1:]), 16

    def reference_images(self, split):
        return split["targets"]


def networks():
    """Return G, F, D and D_x for images of 4x4 pixels."""
    def translator():
        return nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm(4), nn.ReLU(),
                             nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())

    def discriminator():
        return nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2),
                             nn.Flatten(), nn.Dense(64, 1))
    return translator(), translator(), discriminator(), discriminator()


def examples(n, rng):
    """Return n random images of 4x4 pixels of each set."""
    return {name: rng.uniform(0, 1, (n, 1, 4, 4)) for name in ("images", "targets")}


ENTRY = Entry(CycleGAN, "Zhu et al. 2017", dict(shape=(1, 4, 4), pool=20), networks, examples)


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
