"""The networks of deep convolutional GANs (Radford et al. 2016).

The game is the GAN; the paper's contribution is networks that train well. Its guidelines
(section 3) are: strided convolutions instead of pooling, batch normalisation in both players, no
dense hidden layers, ReLU in G and leaky ReLU in D. To avoid instability, G's output layer and D's
input layer have no batch normalisation. Initial weights are N(0, 0.02^2) (section 4), and the
initial gains of batch normalisation are N(1, 0.02^2) (published code).

Kernels are 4 x 4 here, and 5 x 5 in the published code. In that code, D's first layer has 128
channels for images of 64 x 64 pixels, and 64 in the script for MNIST, which has labels.
"""

from collections.abc import Callable

from .. import nn
from ..backend import UserError
from ..numbers import is_whole
from ..random import rng


def generator(z_size: int = 100, channels: int = 64, shape: tuple[int, int, int] = (1, 28, 28),
              init: Callable = nn.normal(0.02)) -> nn.Sequential:
    """Return G, from noise (m, z_size) to images of `shape` (C, H, W) in [0, 1].

    It starts with 4 * `channels` feature maps of H/8 x W/8 pixels, rounded down, and has three
    transposed convolutions, each of which doubles the size. (The paper has four, from 4 x 4 to
    64 x 64.) The paper has a tanh and data in [-1, 1]; here, and in the published script for MNIST,
    G ends in a sigmoid and data is in [0, 1]. Raises UserError if H or W is below 8.
    """
    colours, height, width = check_shape(shape, 8)
    h, w = height // 8, width // 8
    return initialise_gains(nn.Sequential(
        nn.Dense(z_size, 4 * channels * h * w, bias=False, init=init),
        nn.Reshape(4 * channels, h, w), nn.BatchNorm(4 * channels), nn.ReLU(),      # H/8 x W/8
        double(4 * channels, 2 * channels, (height // 4, width // 4), False, init),
        nn.BatchNorm(2 * channels), nn.ReLU(),                                      # H/4 x W/4
        double(2 * channels, channels, (height // 2, width // 2), False, init),
        nn.BatchNorm(channels), nn.ReLU(),                                          # H/2 x W/2
        double(channels, colours, (height, width), True, init), nn.Sigmoid()))      # H x W


def discriminator(channels: int = 64, shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Sequential:
    """Return D, from images of `shape` (C, H, W) to one score (m, 1).

    It has three convolutions, each of which halves the size, rounding down. Raises UserError if H
    or W is below 8.
    """
    colours, height, width = check_shape(shape, 8)
    return initialise_gains(nn.Sequential(
        halve(colours, channels), nn.LeakyReLU(0.2),                                # H/2 x W/2
        halve(channels, 2 * channels, bias=False),
        nn.BatchNorm(2 * channels), nn.LeakyReLU(0.2),                              # H/4 x W/4
        halve(2 * channels, 4 * channels, bias=False),
        nn.BatchNorm(4 * channels), nn.LeakyReLU(0.2), nn.Flatten(),                # H/8 x W/8
        nn.Dense(4 * channels * (height // 8) * (width // 8), 1, init=nn.normal(0.02))))


def halve(c_in: int, c_out: int, bias: bool = True) -> nn.Conv2d:
    """Return the convolution from H x W to H/2 x W/2 pixels, rounded down."""
    return nn.Conv2d(c_in, c_out, 4, 2, 1, bias=bias, init=nn.normal(0.02))


def double(c_in: int, c_out: int, size: tuple[int, int], bias: bool = True,
           init: Callable = nn.normal(0.02)) -> nn.ConvTranspose2d:
    """Return the transposed convolution from H/2 x W/2, rounded down, to `size` (H, W)."""
    return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, tuple(n % 2 for n in size), bias, init)


def check_shape(shape: tuple[int, int, int], least: int) -> tuple[int, int, int]:
    """Return `shape`. Raises UserError unless it is (C, H, W) with H and W of at least `least`."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3 or not all(
            is_whole(n, 1) for n in shape):
        raise UserError("the shape of an image is (C, H, W), three whole numbers of at least 1, "
                        f"got {shape!r}")
    if min(shape[1:]) < least:
        raise UserError(f"these networks are for images of at least {least}x{least} pixels, not "
                        f"{'x'.join(map(str, shape[1:]))}: enlarge or pad the images")
    return shape


def initialise_gains(network: nn.Module) -> nn.Module:
    """Draw the gains of normalisation layers from N(1, 0.02^2); return the network."""
    for _, part in network.modules():
        if isinstance(part, (nn.BatchNorm, nn.InstanceNorm2d)) and part.weight is not None:
            part.weight.data += 0.02 * rng.normal((part.n,))
    return network
