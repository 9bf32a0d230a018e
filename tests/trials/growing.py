"""Progressive growing of GANs (Karras et al. 2018), in two stages.

    python tests/trials/growing.py --data DATA --out DIR

DATA is a file of images of 8x8 pixels. The stages are the runs DIR/4x4 and DIR/8x8.
"""

from tinygan import backend, command, nn, optim, resampling
from tinygan.data import Minibatches, as_floats
from tinygan.games import WGANGP
from tinygan.games.catalogue import Entry


class ProGAN(WGANGP):
    """WGAN-GP with growing networks: each stage doubles the size of the images (section 2).

    In the first `fade` iterations of a stage, the weight alpha of its new layers rises from 0 to 1
    (fig. 2).

    G, D   a Generator and a Discriminator (below), with the weights from the previous stage
    size   the size of the stage's images, 4 or 8
    fade   the number of iterations in which alpha rises
    """

    unused = "zeros"        # the layers of later stages get no gradient

    def __init__(self, G, D, z_size=512, size=4, fade=100, **choices):
        super().__init__(G, D, z_size, n_critic=1, **choices)
        self.size, self.fade, G.size, D.size = size, fade, size, size
        self.begin(0)

    def begin(self, i):
        for network in (self.G, self.D):
            network.alpha[...] = 1.0 if self.size == 4 else min(i / self.fade, 1.0)

    def reference_images(self, split):
        return shrink(split.images, self.size)


class Generator(nn.Module):
    """Map z to images of 4x4 or, with a further block, 8x8 pixels."""

    def __init__(self, z_size=5, channels=4):
        self.size, self.alpha = 4, backend.xp.ones((), "float32")
        self.blocks = {
            "4": nn.Sequential(nn.Dense(z_size, 16 * channels), nn.LeakyReLU(),
                               nn.Reshape(channels, 4, 4)),
            "8": nn.Sequential(nn.Upsample(), nn.Conv2d(channels, channels, 3, 1, 1),
                               nn.LeakyReLU())}
        self.to_image = {size: nn.Conv2d(channels, 1, 1) for size in ("4", "8")}

    def forward(self, z):
        h = self.blocks["4"](z)
        image = self.to_image["4"](h)
        if self.size == 4:
            return image
        larger = self.to_image["8"](self.blocks["8"](h))
        return resampling.upsample(image, 2) * (1 - self.alpha) + larger * self.alpha


class Discriminator(nn.Module):
    """Map images of 4x4 or 8x8 pixels to scores; the layers mirror those of the Generator."""

    def __init__(self, channels=4):
        self.size, self.alpha = 4, backend.xp.ones((), "float32")
        self.from_image = {size: nn.Conv2d(1, channels, 1) for size in ("4", "8")}
        self.blocks = {
            "8": nn.Sequential(nn.LeakyReLU(), nn.Conv2d(channels, channels, 3, 1, 1),
                               nn.AvgPool2d(2)),
            "4": nn.Sequential(nn.LeakyReLU(), nn.Flatten(), nn.Dense(16 * channels, 1))}

    def forward(self, x):
        if self.size == 4:
            return self.blocks["4"](self.from_image["4"](x))
        smaller = self.from_image["4"](resampling.avg_pool(x, 2))
        h = self.blocks["8"](self.from_image["8"](x))
        return self.blocks["4"](smaller * (1 - self.alpha) + h * self.alpha)


def shrink(images, size):
    """Return images of size x size pixels as floats; a pixel is the mean of a block of pixels."""
    k = images.shape[-1] // size
    blocks = as_floats(images).reshape(len(images), -1, size, k, size, k)
    return blocks.mean((3, 5))


def networks():
    """Return G and D for images of up to 8x8 pixels."""
    return Generator(), Discriminator()


def examples(n, rng):
    """Return n random images of 8x8 pixels."""
    return {"images": rng.uniform(0, 1, (n, 1, 8, 8))}


ENTRY = Entry(ProGAN, "Karras et al. 2018", dict(z_size=5, size=8, fade=10), networks, examples)


def main():
    """Train both stages with the settings of the command line."""
    args = command.parse(command.game_parser(__doc__, steps=20, batch_size=8, out="runs/growing"))
    with command.start(args) as data:
        G, D = networks()
        for size in (4, 8):
            game = ENTRY(G, D, size=size)
            batches = Minibatches(shrink(data.train.images, size), args.batch_size)
            d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
            command.train(args, game, batches, d_opt, g_opt, stage=f"{size}x{size}",
                          steps=args.steps)


if __name__ == "__main__":
    command.main(main)
