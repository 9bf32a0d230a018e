"""A script like the examples, small enough to be killed often: any game on images of 4x4 pixels.

    python tests/any_game.py --game R1 --noise .3 --out DIR [the examples' flags]
"""

from tinygan import nn, optim, run
from tinygan.data import Minibatches
from tinygan.games import (GAN, LSGAN, R1, RSGAN, SNGAN, WGAN, WGANGP, Hinge, InstanceNoise, RaGAN)

GAMES = {
    "GAN": lambda G, D: GAN(G, D, 5),
    "saturating": lambda G, D: GAN(G, D, 5, "saturating"),
    "LSGAN": lambda G, D: LSGAN(G, D, 5),
    "Hinge": lambda G, D: Hinge(G, D, 5),
    "SNGAN": lambda G, D: SNGAN(G, D, 5, n_dis=2),
    "WGAN": lambda G, D: WGAN(G, D, 5, c=0.1, n_critic=2),
    "WGANGP": lambda G, D: WGANGP(G, D, 5, n_critic=2),
    "RSGAN": lambda G, D: RSGAN(G, D, 5),
    "RaGAN": lambda G, D: RaGAN(G, D, 5),
    "R1": lambda G, D: R1(G, D, 5, gamma=1.0),
}


def main():
    flags = run.flags(__doc__, steps=30, batch_size=8, out="runs/any")
    flags.add_argument("--game", choices=GAMES, default="GAN")
    flags.add_argument("--noise", type=run.from_0, default=0.0)
    flags.add_argument("--width", type=run.positive, default=4)
    flags.add_argument("--order", default="alternating")
    args = run.parse(flags)
    with run.started(args) as data:
        norm = nn.spectral_norm if args.game == "SNGAN" else lambda layer: layer
        G = nn.Sequential(nn.Dense(5, 16), nn.BatchNorm(16), nn.ReLU(), nn.Reshape(4, 2, 2),
                          nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
        D = nn.Sequential(norm(nn.Conv2d(1, args.width, 3, 1, 1)), nn.LeakyReLU(),
                          nn.Dropout(0.2), nn.Flatten(), norm(nn.Dense(16 * args.width, 1)))
        game = GAMES[args.game](G, D)
        if args.noise:
            game = InstanceNoise(game, optim.linear(args.noise, 0.0, 40))
        d_opt = optim.SGD(game.d_parameters(), optim.exponential(0.05, 0.99),
                          optim.linear(0.5, 0.7, 30))
        g_opt = (optim.RMSProp if args.game == "WGAN" else optim.Adam)(game.g_parameters(), 1e-3)
        batches = Minibatches(data.train.images, args.batch_size)
        run.train(args, game, batches, d_opt, g_opt, args.order)


if __name__ == "__main__":
    run.main(main)
