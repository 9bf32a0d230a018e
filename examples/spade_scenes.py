"""Draw scenes from maps of classes by GauGAN, and see what SPADE is for (Park et al. 2019).

    python examples/spade_scenes.py
    python examples/spade_scenes.py --norm batch            SPADE on batch normalisation
    python examples/spade_scenes.py --join                  without SPADE: the map is joined to the
                                                            input of each convolution of the blocks
    python examples/spade_scenes.py --paper                 networks as wide as the paper's
    python examples/spade_scenes.py --data maps_and_images.npz

The scenes are drawn by formulas: a map has cells of six classes, and each class has its texture. A
map of one class alone shows why SPADE was made. A convolution turns it into a constant (except at
the border, where it meets the padding), and instance normalisation turns any constant into 0. Only
the border, and the last convolution with the map, which nothing normalises, tell G which class it
was. (G begins with noise, not with the map.)

Maps and images of your own are the arrays "maps", (N, H, W) whole numbers, and "targets" of an .npz
file.

The recipe has no feature matching: the waves' phases are random, so the features of one scene say
little about those of another one with the same map.

At the end, the outputs for 500 test maps, and for 300 maps of one class each, are given to a
segmenter, which is trained on real scenes:

    pixels %            the pixels that it assigns to the class of the map
    mIoU %              intersection over union of the pixels of a class, the mean over the classes
    uniform pixels %, uniform mIoU %    the same of the maps of one class

Beside them are the same measures of the pixelwise median of the real scenes, and of real scenes.
segmented.png shows maps, the outputs for them, the classes that the segmenter sees there, and the
real scenes.

--paper has the paper's widths, batch normalisation, two scales, feature matching and learning
rates. The sizes fit 32x32 pixels: G has three blocks, where the paper's seven begin at 4x4, and D
two convolutions of stride 2, where the published code has three. There is no VGG loss, and beta2 of
Adam is that of the published code, 0.9.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import functools
import os

import numpy as np

from tinygan import UserError, backend, command, image, nn, optim
from tinygan.data import DataSet, Minibatches, as_floats, tasks
from tinygan.games import GauGAN
from tinygan.games.translation import join_pictures
from tinygan.metrics import mean_iou, predict, train_classifier
from tinygan.networks import patch, spade

NORMS = {"instance": nn.InstanceNorm2d, "batch": functools.partial(nn.BatchNorm, affine=False)}
RECIPE = dict(steps=4000, batch_size=16)
PAPER = dict(steps=12_500, batch_size=16, norm="batch", channels=64, lam=10.0,
             z_size=256)        # 50 epochs


def make_discriminator(shape: tuple[int, int, int], paper: bool) -> patch.MultiScale:
    """Return D for maps and scenes, joined to images of `shape`, with spectral normalisation.

    With `paper`, it has two scales, and instance normalisation besides. All its convolutions have
    spectral normalisation, as in the paper; in the published code the first and the last have none.
    """
    scales, channels, n = (2, 64, 2) if paper else (1, 32, 1)
    norm = nn.InstanceNorm2d if paper else lambda n: nn.Sequential()
    Ds = [patch.discriminator(shape, channels, n, norm=norm, halvings=i) for i in range(scales)]
    for D in Ds:
        for layer in D.layers:
            if isinstance(layer, nn.Conv2d):
                nn.spectral_norm(layer)
    return patch.MultiScale(*Ds)


def make_segmenter(classes: int, colours: int) -> nn.Module:
    """Return an untrained network from scenes to logits of the classes of their pixels."""
    layers = []
    for a, b in ((colours, 16), (16, 16), (16, 16)):
        layers += [nn.Conv2d(a, b, 5, padding=2, init=nn.he), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, classes, 1))


def measure(game: GauGAN, data: DataSet, n: int, steps: int) -> np.ndarray:
    """Print the measures of n test maps and of maps of one class, by a segmenter.

    steps   the number of training steps of the segmenter

    Returns the images of segmented.png.
    """
    train, test = data.train, data.test
    k, size = train.images.shape[1], train.images.shape[2]
    segmenter = train_classifier(
        lambda: make_segmenter(k, train["targets"].shape[1]), train["targets"],
        train.images.argmax(1), steps, m=16)
    maps = test.images[:n].argmax(1)
    uniform = np.broadcast_to((np.arange(max(3 * n // 5, k)) % k)[:, None, None],
                              (max(3 * n // 5, k), size, size))
    rng = np.random.default_rng(3)
    scenes = test["targets"][:n]
    median = np.median(scenes, 0)[None].astype(scenes.dtype)
    rows = {"outputs": [game.translate(tasks.to_planes(m)) for m in (maps, uniform)],
            "median": [median.repeat(len(m), 0) for m in (maps, uniform)],
            "truth": [scenes, tasks.draw_scenes(uniform, rng)]}
    for name, pictures in rows.items():
        found = {}
        for kind, images, truth in zip(("", "uniform "), pictures, (maps, uniform)):
            classes = predict(segmenter, images)
            found[f"{kind}pixels %"] = 100 * (classes == truth).mean()
            found[f"{kind}mIoU %"] = 100 * mean_iou(classes, truth, k)
        command.print_row(name, found)
    outputs = rows["outputs"][0][:8]
    shown = map(as_floats, (test.images[:8], outputs,
                            tasks.to_planes(predict(segmenter, outputs)), scenes[:8]))
    return backend.to_numpy(join_pictures(*map(backend.xp.asarray, shown)))


def main() -> None:
    """Train with the command line's settings, and measure the scenes."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/spade_scenes", data="scenes")
    add = flags.add_argument
    add("--norm", choices=NORMS, default="instance",
        help="the normalisation in G (instance; with --paper batch)")
    add("--join", action="store_true", help="join the map to each convolution's input, no SPADE")
    add("--channels", type=command.positive, default=16,
        help="channels of G at the full size (16; with --paper 64)")
    add("--z-size", type=command.positive, default=64,
        help="number of noise variables (64; with --paper 256)")
    add("--lam", type=command.from_0, default=0.0,
        help="weight of feature matching (0; with --paper 10)")
    command.add_preset(flags, "--paper", PAPER, "networks as wide as the paper's")
    args = command.parse(flags)

    with command.start(args) as data:
        train = data.train
        tasks.check_pairs(data)
        planes = train.images
        if planes.shape[1] < 2 or (planes.sum(1) != planes.max()).any() or (
                planes.max(1) != planes.max()).any():
            raise UserError("the data has images, not maps of classes: give the array \"maps\", "
                            "(N, H, W) whole numbers, and \"targets\" in an .npz file by --data")
        shape, k = train["targets"].shape[1:], train.images.shape[1]
        G = spade.generator(k, shape, args.z_size, args.channels, 2, 128 if args.paper else 16,
                            NORMS[args.norm], args.join)
        D = make_discriminator((shape[0] + k, *shape[1:]), args.paper)
        game = GauGAN(G, D, args.z_size, args.lam)
        print(f"G has {sum(p.size for p in G.parameters())} parameters")
        lrs = (4e-4, 1e-4) if args.paper else (8e-4, 2e-4)
        d_opt, g_opt = (optim.Adam(player.parameters(), lr, betas=(0.0, 0.9))
                        for player, lr in zip((D, G), lrs))
        batches = Minibatches((train.images, train["targets"]), args.batch_size)
        command.train(args, game, batches, d_opt, g_opt)
        if data.place == "scenes":
            print("measuring: a segmenter is trained on the scenes", flush=True)
            pictures = measure(game, data, *((20, 2) if args.dry_run else (500, 1500)))
            image.save_grid(os.path.join(args.out, "segmented.png"), pictures, 16, scale=2, group=4)


if __name__ == "__main__":
    command.main(main)
