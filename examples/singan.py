"""Learn the patches of a single picture, and draw others like it (Shaham et al. 2019: SinGAN).

    python examples/singan.py                           a picture of balloons, four scales
    python examples/singan.py --data cat.npy            a picture of your own
    python examples/singan.py --paper                   the paper's widths, steps and learning rate

The picture is the only training image. Each scale is a GAN: the coarsest draws a small picture, and
each finer one enlarges it and adds details. The scales are trained one after the other, --steps
steps each. Each is a run in a folder of its own in --out, named by the size of its pictures. So
sample.py takes such a folder, as runs/singan/48x48.

At the end, 50 samples of each kind are compared with the picture:

    SIFID       Fréchet distance between features at the places of a sample and of the picture, the
                mean over the samples. The features are the first ones of this project's classifier
                of digits
    diversity   standard deviation of a pixel over the samples, its mean over the pixels, divided by
                the standard deviation of the picture
    nearest     root mean square difference of the picture and the sample nearest to it

"From scale n" is of samples whose noise is random from scale n on: in coarser scales it is that of
the reconstruction, which is drawn from fixed noise. Beside them are pictures that are made without
learning: of the same spectrum with random phases, and with blocks of an eighth of the width, or
pixels, in random order.

scales.png shows the picture, its reconstruction and 14 samples, then a row from each finer scale.
wide.png shows two pictures of twice the width.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import os

import numpy as np

from tinygan import UserError, backend, command, image, optim, schedules
from tinygan.data import Minibatches, as_floats
from tinygan.games import SinGAN
from tinygan.metrics import classifier, measure_diversity, measure_sifid, nearest_rmse
from tinygan.networks import single_image
from tinygan.random import Random

RECIPE = dict(steps=600, batch_size=1)
PAPER = dict(steps=2000, batch_size=1, least=25, channels=32)


def randomise_phases(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with random phases in its Fourier transform, and the same amplitudes."""
    noise = np.angle(np.fft.fft2(rng.normal(size=picture.shape[1:])))
    return np.fft.ifft2(np.fft.fft2(picture) * np.exp(1j * noise)).real.astype(np.float32)


def shuffle_blocks(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with its blocks of size x size pixels in random order.

    Pixels on the right and below that fill no block stay where they are.
    """
    (c, *sides), shuffled = picture.shape, picture.copy()
    h, w = (n // size for n in sides)
    whole = shuffled[:, :h * size, :w * size]
    blocks = whole.reshape(c, h, size, w, size).transpose(1, 3, 0, 2, 4).reshape(h * w, -1)
    blocks = blocks[rng.permutation(h * w)].reshape(h, w, c, size, size)
    whole[...] = blocks.transpose(2, 0, 3, 1, 4).reshape(whole.shape)
    return shuffled


def measure(game: SinGAN, picture: np.ndarray, n: int) -> list[np.ndarray]:
    """Print the measures of n samples from each scale on, and of pictures that are not learned.

    Returns images for scales.png.
    """
    net, own, numpy_rng = classifier.load_classifier(), Random(0), np.random.default_rng(0)

    def sample(z):
        return backend.to_numpy(game.sample(z)).clip(0, 1)

    def compare(name, samples):
        command.print_row(name, {"SIFID": measure_sifid(samples, picture, net),
                                 "diversity": measure_diversity(samples, picture),
                                 "nearest": nearest_rmse(samples, picture)})
    reconstruction = sample(game.fixed_noise())
    shown = [picture[None], reconstruction]
    for start in range(game.N, -1, -1):
        samples = sample(game.vary(n, own, start))
        compare("samples" if start == game.N else f"from scale {start}", samples)
        shown.append(samples[:14 if start == game.N else 8])
    compare("reconstruction", reconstruction)
    size = max(min(picture.shape[1:]) // 8, 1)
    for name, change in (("random phases", lambda: randomise_phases(picture, numpy_rng)),
                         ("blocks", lambda: shuffle_blocks(picture, size, numpy_rng)),
                         ("pixels", lambda: shuffle_blocks(picture, 1, numpy_rng))):
        compare(name, np.stack([change() for _ in range(n)]).clip(0, 1))
    return shown


def main() -> None:
    """Train all scales with the command line's settings, and measure the samples."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/singan", data="balloons")
    add = flags.add_argument
    add("--image", type=command.whole, default=0,
        help="number of the training image (0); those of a file are in random order")
    add("--least", type=command.positive, default=20,
        help="shorter side of the coarsest scale in pixels (20; with --paper 25)")
    add("--channels", type=command.positive, default=24,
        help="channels of the networks of the coarsest scale (24; with --paper 32)")
    add("--alpha", type=command.from_0, default=20.0,
        help="weight of the reconstruction loss (20)")
    command.add_preset(flags, "--paper", PAPER, "the paper's widths and learning rate")
    args = command.parse(flags)

    with command.start(args) as data:
        images = data.train.images[args.image:args.image + 1]
        if not len(images):
            raise UserError(f"there is no training image {args.image}: the data has "
                            f"{len(data.train.images)}, numbered from 0")
        if images.max() == images.min():
            raise UserError("the picture has one colour alone: give one that shows something")
        print(f"picture: training image {args.image} of {len(data.train.images)}, "
              f"{'grey' if images.shape[1] == 1 else 'colour'}, "
              f"{images.shape[2]}x{images.shape[3]} pixels")
        shapes = single_image.list_shapes(images.shape[1:], args.least)
        G, D = single_image.Generator(shapes, args.channels), None
        lr = 5e-4 if args.paper else 1e-3
        for n in reversed(range(len(shapes))):
            coarser, D = D, single_image.discriminator(shapes[0][0], G.channels[n])
            if coarser is not None:
                single_image.copy_weights(D, coarser)
                single_image.copy_weights(G.psi[n], G.psi[n + 1])
            game = SinGAN(G, D, n, args.alpha)
            # a tenth for the last fifth of the steps
            rate = schedules.linear(lr, lr / 10, 1, begin=round(0.8 * args.steps))
            d_opt, g_opt = (optim.Adam(parameters, rate, betas=(0.5, 0.999))
                            for parameters in (game.d_parameters(), game.g_parameters()))
            _, height, width = shapes[n]
            command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt,
                          stage=f"{height}x{width}")
        shown = measure(game, as_floats(images[0]), 2 if args.dry_run else 50)
        image.save_grid(os.path.join(args.out, "scales.png"), np.concatenate(shown), 8, scale=3)
        wide = game.sample(game.latent(2, Random(1), (height, 2 * width)))
        image.save_grid(os.path.join(args.out, "wide.png"), wide, 1, scale=3)


if __name__ == "__main__":
    command.main(main)
