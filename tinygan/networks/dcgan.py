"""Deep convolutional GANs (Radford et al. 2016): the game is the GAN, what is new are networks that
train.

Their guidelines (section 3): strides instead of pooling, batch normalisation in both players, no
dense hidden layers, ReLU in G, leaky ReLU in D; and, against collapse, no batch normalisation at
G's output and D's input. All weights begin as N(0, .02^2) (section 4), the gains of batch
normalisation as N(1, .02^2) (published code).
"""

from .. import nn
from ..backend import UserError
from ..random import rng


def generator(z_size=100, channels=64, shape=(1, 28, 28), init=nn.normal(0.02)):
    """Noise (m, z_size) to images of `shape` (C, H, W) in [0, 1]: H/8 x W/8, rounded down, with
    4 `channels`, then three transposed convolutions that double it (the paper has four, from 4 x 4
    to 64 x 64), all with weights of `init`. The paper's tanh and data in [-1, 1] are here a sigmoid
    and data in [0, 1], so that D sees black as 0.

    Raises UserError if H or W is below 8.
    """
    colours, height, width = check(shape, 8)
    h, w = height // 8, width // 8
    return _begun(nn.Sequential(
        nn.Dense(z_size, 4 * channels * h * w, bias=False, init=init),
        nn.Reshape(4 * channels, h, w), nn.BatchNorm(4 * channels), nn.ReLU(),      # H/8 x W/8
        doubled(4 * channels, 2 * channels, (height // 4, width // 4), False, init),
        nn.BatchNorm(2 * channels), nn.ReLU(),                                      # H/4 x W/4
        doubled(2 * channels, channels, (height // 2, width // 2), False, init),
        nn.BatchNorm(channels), nn.ReLU(),                                          # H/2 x W/2
        doubled(channels, colours, (height, width), True, init), nn.Sigmoid()))     # H x W


def discriminator(channels=64, shape=(1, 28, 28)):
    """Images of `shape` (C, H, W) to one logit or score, (m, 1), by three convolutions that halve
    them, rounding down. Raises UserError if H or W is below 8."""
    colours, height, width = check(shape, 8)
    return _begun(nn.Sequential(
        halved(colours, channels), nn.LeakyReLU(0.2),                               # H/2 x W/2
        halved(channels, 2 * channels, bias=False),
        nn.BatchNorm(2 * channels), nn.LeakyReLU(0.2),                              # H/4 x W/4
        halved(2 * channels, 4 * channels, bias=False),
        nn.BatchNorm(4 * channels), nn.LeakyReLU(0.2), nn.Flatten(),                # H/8 x W/8
        nn.Dense(4 * channels * (height // 8) * (width // 8), 1, init=nn.normal(0.02))))


def halved(c_in, c_out, bias=True):
    """The convolution from H x W to H/2 x W/2, rounded down."""
    return nn.Conv2d(c_in, c_out, 4, 2, 1, bias=bias, init=nn.normal(0.02))


def doubled(c_in, c_out, size, bias=True, init=nn.normal(0.02)):
    """The transposed convolution to `size` (H, W) from H/2 x W/2, rounded down."""
    return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, tuple(n % 2 for n in size), bias, init)


def check(shape, least):
    """`shape`, (C, H, W); raises UserError if H or W is below `least`."""
    if len(shape) != 3 or min(shape[1:]) < least:
        raise UserError(f"these networks make images of at least {least}x{least} pixels, not "
                        f"{'x'.join(map(str, shape[1:]))}: enlarge or pad the images")
    return shape


def _begun(network):
    for _, part in network.modules():
        if isinstance(part, nn.BatchNorm):
            part.weight.data += 0.02 * rng.normal((part.n,))
    return network
