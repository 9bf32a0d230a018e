"""Count the modes of stacked MNIST, images of three digits as channels, that a game finds.

    python examples/stacked_mnist.py                            R1, networks of full size
    python examples/stacked_mnist.py --crippled --game gan      the small D of Metz et al. 2017
    python examples/stacked_mnist.py --crippled --game r3gan

There are 1,000 triples of digits. At the end 25,600 samples of G are classified channel by channel:

    modes        the number of triples that occur
    KL           the reverse KL of their shares from the uniform distribution; 0 is best
    confidence   the mean probability that the classifier gives to the digit it names; it scatters
                 blurred digits over the classes

The same measures of real triples are printed beside them. Their KL is not 0, because 25,600 samples
are few for 1,000 modes, and because MNIST's digits are not equally frequent.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import UserError, command, nn, optim
from tinygan.data import StackedMinibatches, as_floats, draw_stacked
from tinygan.games import R1, R3GAN, Game, PacGAN, losses
from tinygan.metrics import measure_stacked
from tinygan.metrics.classifier import load_classifier
from tinygan.networks import digits
from tinygan.random import Random

GAMES = "gan", "pacgan", "minibatch", "r1", "r3gan"     # minibatch: GAN, minibatch discrimination
SAMPLES = 25_600            # as in Metz et al. 2017
FULL = dict(steps=20_000, batch_size=64)
CRIPPLED = dict(steps=4000, batch_size=64, lr=2e-3, gamma=0.5)
SHAPE = 3, 28, 28


def make_crippled(name: str) -> tuple[nn.Module, nn.Module]:
    """Return (G, D) after Metz et al. 2017: D has 4, 8 and 16 channels, half of G's.

    Games with penalties have no batch normalisation in D.
    """
    c = 3 * (2 if name == "pacgan" else 1)
    batch_norm = name not in ("r1", "r3gan")
    init = nn.normal(0.02)

    def enlarge(c_in, c_out, extra):
        return [nn.ConvTranspose2d(c_in, c_out, 3, 2, 1, extra, bias=False, init=init),
                nn.BatchNorm(c_out), nn.ReLU()]
    G = nn.Sequential(
        nn.Dense(256, 64 * 4 * 4, bias=False, init=init), nn.Reshape(64, 4, 4), nn.BatchNorm(64),
        nn.ReLU(), *enlarge(64, 32, 0), *enlarge(32, 16, 1), *enlarge(16, 8, 1),    # 7, 14, 28
        nn.Conv2d(8, 3, 3, 1, 1, init=init), nn.Sigmoid())
    layers = []
    for c_in, c_out in ((c, 4), (4, 8), (8, 16)):       # 14, 7, 4
        layers += [nn.Conv2d(c_in, c_out, 3, 2, 1, init=init if batch_norm else nn.he),
                   *([nn.BatchNorm(c_out)] if batch_norm else []), nn.LeakyReLU(0.3)]
    return G, nn.Sequential(*layers, nn.Flatten(), *make_end(name, 16 * 4 * 4))


def make_full(name: str, width: int) -> tuple[nn.Module, nn.Module]:
    """Return (G, D): the networks of digits.py for three channels, `width` times as wide."""
    sizes = dict(hidden=128 * width, channels=16 * width)
    G = digits.generator(256, SHAPE, **sizes)
    shape = (6 if name == "pacgan" else 3, 28, 28)
    trunk = digits.trunk(shape, batch_norm=name not in ("r1", "r3gan"), **sizes)
    return G, nn.Sequential(*trunk.layers, *make_end(name, 128 * width))


def make_end(name: str, n: int) -> list[nn.Module]:
    """Return D's last layers, from n features to the score."""
    more = [nn.MinibatchDiscrimination(n, 16, 4)] if name == "minibatch" else []
    return [*more, nn.Dense(n + 16 * len(more), 1, init=nn.normal(0.02))]


def make_game(name: str, G: nn.Module, D: nn.Module, gamma: float) -> Game:
    """Return the game of this name."""
    if name == "pacgan":
        return PacGAN(G, D, 256, k=2)
    if name in ("r1", "r3gan"):
        return (R1 if name == "r1" else R3GAN)(G, D, 256, gamma=gamma)
    return Game(G, D, 256, losses.NonSaturating())      # a GAN with normal noise, as PacGAN's


def main() -> None:
    """Train with the command line's settings, and measure the samples."""
    flags = command.game_parser(__doc__, **FULL, out="runs/stacked_mnist")
    flags.add_argument("--game", choices=GAMES, default="r1", help="the game (r1)")
    command.add_preset(flags, "--crippled", CRIPPLED, "the networks of Metz et al. 2017")
    flags.add_argument("--width", type=command.positive, default=1,
                       help="width of the networks of full size, as a multiple (1)")
    flags.add_argument("--gamma", type=command.from_0, default=1.0,
                       help="weight of the penalties of r1 and r3gan (1; with --crippled 0.5)")
    flags.add_argument("--lr", type=command.above_0, default=1e-3,
                       help="Adam's learning rate (1e-3; with --crippled 2e-3)")
    flags.add_argument("--samples", type=command.positive, default=SAMPLES,
                       help=f"number of samples that are measured at the end ({SAMPLES})")
    args = command.parse(flags, "samples")
    command.refuse_unused(flags, args, args.game in ("r1", "r3gan"), "--game r1 or r3gan", "gamma")
    command.refuse_unused(flags, args, not args.crippled, "networks of full size", "width")

    with command.start(args) as data:
        images = data.train.images
        if images.shape[1:] != (1, 28, 28):
            raise UserError("the classifier that counts the modes takes grey images of 28x28 "
                            "pixels: give others by --data")
        G, D = make_crippled(args.game) if args.crippled else make_full(args.game, args.width)
        game = make_game(args.game, G, D, args.gamma)
        d_opt, g_opt = (optim.Adam(player.parameters(), args.lr, betas=(0.0, 0.99))
                        for player in (D, G))
        command.train(args, game, StackedMinibatches(images, args.batch_size), d_opt, g_opt)

        n, net = 100 if args.dry_run else args.samples, load_classifier()
        print(f"measuring {n} samples", flush=True)
        print(f"{n} samples: {measure_stacked(net, game.draw_samples(n, Random(0)))}")
        real = as_floats(draw_stacked(images, n, Random(args.seed)))
        print(f"{n} real triples: {measure_stacked(net, real)}")


if __name__ == "__main__":
    command.main(main)
