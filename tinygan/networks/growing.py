"""The networks of progressive growing (Karras et al. 2018).

They draw and judge images of low resolution at first. In each stage of the training they get
further layers, for twice the resolution, which are faded in. See ProGAN in games/progan.py.

An image has its full size in all stages: if the resolution is lower, each of its pixels is a block
of equal pixels, as in the published code. So all stages have the same data, pictures and metrics,
and the gradient of D with respect to an image is that with respect to its full size.
"""

from collections.abc import Sequence

from .. import backend, nn, resampling
from ..backend import UserError
from ..numbers import is_whole
from ..tensor import Tensor
from .dcgan import check_shape


def conv(c_in: int, c_out: int, kernel: int, **settings) -> nn.Conv2d:
    """Return a convolution that keeps the size of images, with the `settings` of equalise."""
    return nn.equalise(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), **settings)


def dense(n_in: int, n_out: int, **settings) -> nn.Dense:
    """Return a dense layer with the `settings` of equalise."""
    return nn.equalise(nn.Dense(n_in, n_out), **settings)


class Growing(nn.Module):
    """A network that grows: the base class of both players.

    shape    (C, H, W), that of an image
    stages   the number of resolutions, each of which is twice the one before
    stage    the number of the present one, from 0; at first it is the highest. The layers of higher
             ones are not used
    alpha    the weight of the path through this stage's layers, an array of one number. While they
             are new it is below 1, and the path without them has the rest (figure 2)
    """

    def __init__(self, shape: tuple[int, int, int], stages: int) -> None:
        self.shape, self.stages, self.stage = tuple(shape), stages, stages - 1
        self.alpha = backend.xp.ones((), "float32")

    @property
    def block(self) -> int:
        """The side of the blocks of pixels that are one pixel of the present resolution."""
        return 2 ** (self.stages - 1 - self.stage)

    def blend(self, old: Tensor, new: Tensor) -> Tensor:
        """Return (1 - alpha) old + alpha new."""
        return (1 - self.alpha) * old + self.alpha * new


class Generator(Growing):
    """G, from noise to images of all resolutions (table 2, with fewer and narrower layers).

    z_size     the number of noise variables, z ~ N(0, I), which are normalised to a sphere
    shape      (C, H, W), that of an image
    channels   the numbers of channels, from the lowest resolution to the highest

    Images end in a sigmoid, for data in [0, 1]. In the published code they end in a tanh for
    stacked MNIST and in no activation otherwise. Raises UserError if H or W is no multiple of
    2^(len(channels) - 1).
    """

    def __init__(self, z_size: int = 64, shape: tuple[int, int, int] = (1, 28, 28),
                 channels: Sequence[int] = (32, 16, 8)) -> None:
        colours, height, width = find_lowest(shape, channels)
        super().__init__(shape, len(channels))
        n = channels[0]

        def activate():
            return nn.LeakyReLU(0.2), nn.PixelNorm()
        self.blocks = [nn.Sequential(
            nn.PixelNorm(), dense(z_size, n * height * width, gain=2 ** 0.5 / 4),
            nn.Reshape(n, height, width), *activate(), conv(n, n, 3), *activate())]
        self.blocks += [nn.Sequential(
            nn.Upsample(2), conv(a, b, 3), *activate(), conv(b, b, 3), *activate())
            for a, b in zip(channels, channels[1:])]
        self.to_image = [nn.Sequential(conv(n, colours, 1, gain=1.0), nn.Sigmoid())
                         for n in channels]

    def forward(self, z: Tensor) -> Tensor:
        """Return images (m, C, H, W) of the present resolution for noise z (m, z_size)."""
        x, last = z, self.stage
        for block in self.blocks[:last]:
            x = block(x)
        image = self.to_image[last](self.blocks[last](x))
        if last:
            image = self.blend(resampling.upsample(self.to_image[last - 1](x), 2), image)
        return resampling.upsample(image, self.block)


class Discriminator(Growing):
    """D, from images (m, C, H, W) of all resolutions to scores (m, 1): the mirror image of G.

    shape      (C, H, W), that of an image
    channels   the numbers of channels, from the lowest resolution to the highest

    Before the last convolution all samples are compared (nn.MinibatchStddev), in the published code
    groups of 4. Raises UserError if H or W is no multiple of 2^(len(channels) - 1).
    """

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28),
                 channels: Sequence[int] = (32, 16, 8)) -> None:
        colours, height, width = find_lowest(shape, channels)
        super().__init__(shape, len(channels))
        n = channels[0]
        self.from_image = [nn.Sequential(conv(colours, n, 1), nn.LeakyReLU(0.2)) for n in channels]
        self.blocks = [nn.Sequential(
            nn.MinibatchStddev(), conv(n + 1, n, 3), nn.LeakyReLU(0.2), nn.Flatten(),
            dense(n * height * width, n), nn.LeakyReLU(0.2), dense(n, 1, gain=1.0))]
        self.blocks += [nn.Sequential(
            conv(b, b, 3), nn.LeakyReLU(0.2), conv(b, a, 3), nn.LeakyReLU(0.2), nn.AvgPool2d(2))
            for a, b in zip(channels, channels[1:])]

    def forward(self, x: Tensor) -> Tensor:
        x, last = resampling.avg_pool(x, self.block), self.stage
        y = self.blocks[last](self.from_image[last](x))
        if last:
            y = self.blend(self.from_image[last - 1](resampling.avg_pool(x, 2)), y)
        for block in self.blocks[:last][::-1]:
            y = block(y)
        return y


def find_lowest(shape: tuple[int, int, int], channels: Sequence[int]) -> tuple[int, int, int]:
    """Return the colours of images of `shape`, and height and width at the lowest resolution.

    Raises UserError if there is no such resolution, and for numbers of channels that are none.
    """
    if not isinstance(channels, (list, tuple)) or not all(is_whole(n, 1) for n in channels or [0]):
        raise UserError("the networks need the numbers of channels of at least one resolution, "
                        f"such as (64, 16, 8), got {channels!r}")
    colours, height, width = check_shape(shape, 2 ** len(channels))
    factor = 2 ** (len(channels) - 1)
    if height % factor or width % factor:
        raise UserError(f"{len(channels)} resolutions need images whose sides are multiples of "
                        f"{factor}, not {height}x{width} pixels: pad or crop the images")
    return colours, height // factor, width // factor
