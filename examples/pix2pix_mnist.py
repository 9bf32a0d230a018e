"""Complete digits, or make coarse ones sharp, by pix2pix (Isola et al. 2017).

    python examples/pix2pix_mnist.py                    draw the lower half of a digit
    python examples/pix2pix_mnist.py --task coarse      draw a digit from a mosaic of 4x4 blocks
    python examples/pix2pix_mnist.py --loss l1          a row of the paper's table 1
    python examples/pix2pix_mnist.py --paper            the paper's networks and settings, 1 epoch
    python examples/pix2pix_mnist.py --task none --data pairs.npz       pairs of your own

--loss chooses what G minimises: `l1`, the GAN of outputs alone (`gan`), of pairs (`cgan`), or one
of them and L1 (`l1+gan`, `l1+cgan`). Pairs of your own are the arrays "images" and "targets" of an
.npz file, (N, H, W) or (N, C, H, W) each.

At the end, 2,000 translated test images are compared with the true ones:

    L1          the mean absolute difference of a pixel, on a scale from 0 to 1
    Frechet     the Fréchet distance to 4,000 other digits, by the features of a classifier
    grey %      the pixels between 0.2 and 0.8, of which blurred digits have many
    accuracy %  the outputs that the classifier takes for the digit which was the input

Beside them are the same measures of the inputs, of the pixelwise median of the true digits, and of
the true digits. Batch normalisation uses the batch when outputs are drawn, too, as in the paper; so
an output depends a little on the images that are translated with it. With one image in a batch (the
published code's default; the paper has 1 to 10), batch normalisation is instance normalisation,
which G has with --paper.

The paper's networks are those for 256x256 pixels, with as many halvings as the images allow. Its
random crops and flips of the training images are left out.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import numpy as np

from tinygan import command, nn, optim
from tinygan.data import Minibatches, Split, as_floats, tasks
from tinygan.games import Pix2Pix
from tinygan.metrics import frechet_distance, grey_share, mean_difference
from tinygan.metrics.classifier import classify, load_classifier
from tinygan.networks import patch, unet

LOSSES = {      # settings of the game
    "l1": dict(adversarial=False), "gan": dict(lam=0.0, conditional=False), "cgan": dict(lam=0.0),
    "l1+gan": dict(conditional=False), "l1+cgan": {}}
RECIPE = dict(steps=5000, batch_size=32)
PAPER = dict(steps=50_000, batch_size=1, patch=3)       # one of the paper's 200 epochs


def batch_norm(n: int) -> nn.BatchNorm:
    """Return batch normalisation by the batch, also when samples are drawn, as in the paper."""
    return nn.BatchNorm(n, track_running_stats=False)


def instance_norm(n: int) -> nn.InstanceNorm2d:
    """Return what batch normalisation is in the paper's batches of one image."""
    return nn.InstanceNorm2d(n, affine=True)


def make_networks(shape: tuple[int, int, int], c_in: int, loss: str, n: int,
                  paper: bool) -> tuple[nn.Module, nn.Module]:
    """Return G and D for outputs of `shape` and inputs of c_in channels.

    n is the number of D's convolutions of stride 2. With `paper`, the first convolutions have 64
    channels, and G has instance normalisation and as many halvings as the images allow, up to the
    paper's eight.
    """
    most = max(min(shape[1:]).bit_length() - 1, 2)      # unet refuses smaller images than 4x4
    channels, widths = (64, unet.WIDTHS[:most]) if paper else (16, (1, 2, 4, 4)[:most])
    G = unet.generator(c_in, shape, channels, widths, 3 if paper else 2,
                       instance_norm if paper else batch_norm)
    # a D that has no part in G's loss is small
    channels = 1 if loss == "l1" else channels if paper else 2 * channels
    pair = shape[0] if "gan" in loss and "cgan" not in loss else shape[0] + c_in
    return G, patch.discriminator((pair, *shape[1:]), channels, n)


def measure(game: Pix2Pix, test: Split, n: int) -> None:
    """Print the measures of n outputs for test images, and of what they are compared with."""
    inputs, truths = as_floats(test.images[:n]), as_floats(test["targets"][:n])
    if not len(inputs):
        return
    rows = {"outputs": game.translate(inputs), "inputs": inputs,
            "median": np.broadcast_to(np.median(truths, 0), truths.shape), "truth": truths}
    others, net, real = test["targets"][n:3 * n], None, None
    if truths.shape[1:] != (1, 28, 28):
        print("only L1: the other measures are those of digits of 28x28 pixels")
    else:
        net = load_classifier()
        if len(others) > 1:
            real = classify(net, others).features
        else:
            print(f"no Frechet: the test part has no digits besides these {len(inputs)}")
    for name, images in rows.items():
        found = {"L1": mean_difference(images, truths)} if images.shape == truths.shape else {}
        if net is not None and images.shape == truths.shape:
            seen = classify(net, images)
            if real is not None:
                found["Frechet"] = frechet_distance(seen.features, real)
            found["grey %"] = 100 * grey_share(images)
            if "digits" in test:
                found["accuracy %"] = 100 * (seen.p.argmax(1) == test["digits"][:n]).mean()
        command.print_row(name, found)


def main() -> None:
    """Train with the command line's settings, and measure the outputs."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/pix2pix_mnist")
    command.add_task(flags, ["half", "coarse"])
    flags.add_argument("--loss", choices=LOSSES, default="l1+cgan", help="G's loss (l1+cgan)")
    flags.add_argument("--patch", type=command.whole, default=1, metavar="N",
                       help="D's convolutions of stride 2: it scores patches of 1, 16, 34, 70, ... "
                       "pixels for N = 0, 1, 2, 3, ... (1; with --paper 3)")
    command.add_preset(flags, "--paper", PAPER, "the paper's networks and settings")
    args = command.parse(flags)

    with command.start(args) as data:
        train = data.train
        tasks.check_pairs(data)
        shape, c_in = train["targets"].shape[1:], train.images.shape[1]
        G, D = make_networks(shape, c_in, args.loss, args.patch, args.paper)
        game = Pix2Pix(G, D, **LOSSES[args.loss])
        d_opt, g_opt = (optim.Adam(player.parameters(), 2e-4, betas=(0.5, 0.999))
                        for player in (D, G))
        batches = Minibatches((train.images, train["targets"]), args.batch_size)
        command.train(args, game, batches, d_opt, g_opt)
        measure(game, data.test, 100 if args.dry_run else 2000)


if __name__ == "__main__":
    command.main(main)
