"""Translate digits between four styles, or five colours, by one StarGAN (Choi et al. 2018).

    python examples/stargan_mnist.py                        plain, bold, very bold, outline
    python examples/stargan_mnist.py --rec 0                without the reconstruction loss
    python examples/stargan_mnist.py --task colours         where the paper's losses do not suffice
    python examples/stargan_mnist.py --task colours --identity 10
    python examples/stargan_mnist.py --wgan-gp --identity 10    the paper's loss
    python examples/stargan_mnist.py --paper                the paper's networks and settings
    python examples/stargan_mnist.py --task none --data images_and_labels.npz

Each training image is in one domain only; G learns to draw it in all. Since the domains are
computed, the true translation is known. The recipe has the least squares loss. With --wgan-gp it
has the paper's loss, WGAN-GP, with one step of D for each of G, where the paper has five, and with
a larger learning rate.

At the end, 500 test images are translated into every domain:

    L1              the mean absolute difference of a pixel from the true translation, 0 to 1
    domain error %  the outputs that a classifier of domains takes for another domain than asked
    accuracy %      the outputs that a classifier of digits takes for the digit of the input

Beside them are the same measures of images that are not translated, of each domain's pixelwise
median, and of true translations. The two classifiers are trained on real images of all domains at
the end.

Initial weights are N(0, 0.02^2) in G and Glorot's in D; the published code has PyTorch's. Pictures,
curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import numpy as np

from tinygan import UserError, command, nn, optim, schedules
from tinygan.data import DataSet, Minibatches, as_floats
from tinygan.games import StarGAN, losses
from tinygan.metrics import mean_difference, predict, train_classifier
from tinygan.networks import resnet

RECIPE = dict(steps=4000, batch_size=16)
PAPER = dict(steps=40_000, batch_size=16)       # 200,000 steps of D


def make_networks(shape: tuple[int, int, int], classes: int,
                  paper: bool) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of `shape` (C, H, W) in so many domains.

    D halves the size, rounding down, until it is at most 4 pixels; with `paper` six times, or as
    often as the images allow.
    """
    colours, height, width = shape
    channels, blocks, d_channels = (64, 6, 64) if paper else (10, 2, 20)
    G = resnet.generator(colours, shape, channels, blocks, classes, kernel=4, reflect=False,
                         affine=True)
    layers, c, size = [], colours, (height, width)
    for i in range(6):
        if min(size) <= (1 if paper else 4):
            break
        layers += [nn.Conv2d(c, d_channels * 2 ** i, 4, 2, 1), nn.LeakyReLU(0.01)]
        c, size = d_channels * 2 ** i, tuple(side // 2 for side in size)
    scores = nn.Conv2d(c, 1, 3, 1, 1, bias=False)
    domains = nn.Sequential(nn.Conv2d(c, classes, size, bias=False), nn.Flatten())
    return G, nn.Heads(nn.Sequential(*layers), scores, domains)


def make_judge(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return an untrained classifier of images."""
    colours, height, width = shape
    return nn.Sequential(
        nn.Conv2d(colours, 16, 4, 2, 1, init=nn.he), nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1, init=nn.he), nn.ReLU(), nn.Flatten(),
        nn.Dense(32 * (height // 4) * (width // 4), 64, init=nn.he), nn.ReLU(),
        nn.Dense(64, classes))


def measure(game: StarGAN, data: DataSet, n: int, steps: int) -> None:
    """Print the measures of n test images in every domain, and what they are compared with.

    steps   the number of training steps of the classifiers
    """
    k, train, test = game.classes, data.train, data.test
    truths = as_floats(test["truths"][:n])
    shape = truths.shape[2:]
    def judge(classes, labels):
        net = train_classifier(lambda: make_judge(shape, classes), train.images, labels, steps)
        return lambda images: predict(net, images)
    name_domain = judge(k, train.labels)
    name_digit = judge(int(max(train["digits"].max(), test["digits"].max())) + 1,
                       train["digits"]) if "digits" in train else None
    asked = np.tile(np.arange(k), len(truths))
    medians = np.tile(np.median(truths, 0), (len(truths), 1, 1, 1))
    inputs, truths = as_floats(test.images[:n]).repeat(k, 0), truths.reshape(-1, *shape)
    for name, images in {"outputs": game.translate(inputs, asked), "inputs": inputs,
                         "median": medians, "truth": truths}.items():
        found = {"L1": mean_difference(images, truths),
                 "domain error %": 100 * (name_domain(images) != asked).mean()}
        if name_digit:
            digits = test["digits"][:n].repeat(k)
            found["accuracy %"] = 100 * (name_digit(images) == digits).mean()
        command.print_row(name, found)


def main() -> None:
    """Train with the command line's settings, and measure the translations."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/stargan_mnist")
    command.add_task(flags, ["styles", "colours"])
    add = flags.add_argument
    add("--wgan-gp", action="store_true",
        help="the paper's loss, WGAN-GP, and settings of Adam that suit it")
    add("--rec", type=command.from_0, default=20.0, metavar="LAM",
        help="weight of the reconstruction loss (20; the paper's 10 is for images in [-1, 1])")
    add("--identity", type=command.from_0, default=0.0, metavar="LAM",
        help="weight of an identity loss, which the paper does not have (0)")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        images, labels = data.train.images, data.train.labels
        if labels is None:
            raise UserError("the data has no labels: give the domain of each image, whole numbers "
                            "from 0 on, as the array \"labels\" of an .npz file by --data")
        if (k := data.train.count_classes()) < 2:
            raise UserError("all images have the label 0: give at least two domains")
        chosen = ({} if args.paper or args.wgan_gp else
                  dict(loss=losses.LeastSquares(), lam_gp=0.0))
        lr, betas, n_critic = ((1e-4, (0.5, 0.999), 5) if args.paper else
                               (1e-3, (0.0, 0.9), 1) if args.wgan_gp else (2e-4, (0.5, 0.999), 1))
        game = StarGAN(*make_networks(images.shape[1:], k, args.paper), k, lam_rec=args.rec,
                       lam_identity=args.identity, n_critic=n_critic, **chosen)
        # The rate falls to 0 in the second half. By a mistake in the published code it hardly does.
        d_opt, g_opt = (
            optim.Adam(parameters, schedules.linear(lr, 0.0, half, begin=half), betas)
            for parameters, half in ((game.d_parameters(), n_critic * args.steps / 2),
                                     (game.g_parameters(), args.steps / 2)))
        command.train(args, game, Minibatches(images, args.batch_size, labels=labels),
                      d_opt, g_opt)
        if args.task != "none" and len(data.test.images):
            print("measuring: classifiers are trained on the images", flush=True)
            measure(game, data, *((20, 2) if args.dry_run else (500, 3000)))


if __name__ == "__main__":
    command.main(main)
