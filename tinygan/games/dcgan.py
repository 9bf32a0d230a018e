"""Deep convolutional GANs (Radford et al. 2016): the game is the GAN, what is new are networks that
train.

Their guidelines (section 3): strides instead of pooling, batch normalisation in both players, no
dense hidden layers, ReLU in G, leaky ReLU in D; and, against collapse, no batch normalisation at
G's output and D's input. All weights begin as N(0, .02^2) (section 4), the gains of batch
normalisation as N(1, .02^2) (published code).
"""

from .. import nn
from ..backend import UserError, rng


def generator(z_size=100, channels=64, shape=(1, 28, 28)):
    """Noise (m, z_size) to images of `shape` (C, H, W) in [0, 1]: H/4 x W/4 with 2 `channels`, then
    two transposed convolutions that double it (the paper has four, to 64 x 64). The paper's tanh
    and data in [-1, 1] are here a sigmoid and data in [0, 1], so that D sees black as 0.

    Raises UserError if H and W are no multiples of 4.
    """
    colours, height, width = check(shape)
    return _begun(nn.Sequential(
        nn.Dense(z_size, 2 * channels * height * width // 16, bias=False, init=nn.normal(0.02)),
        nn.Reshape(2 * channels, height // 4, width // 4),
        nn.BatchNorm(2 * channels), nn.ReLU(),                                  # H/4 x W/4
        nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1, bias=False, init=nn.normal(0.02)),
        nn.BatchNorm(channels), nn.ReLU(),                                      # H/2 x W/2
        nn.ConvTranspose2d(channels, colours, 4, 2, 1, init=nn.normal(0.02)),
        nn.Sigmoid()))                                                          # H x W


def discriminator(channels=64, shape=(1, 28, 28)):
    """Images of `shape` (C, H, W) to one logit or score, (m, 1), by two convolutions that halve
    them. Raises UserError if H and W are no multiples of 4."""
    colours, height, width = check(shape)
    return _begun(nn.Sequential(
        nn.Conv2d(colours, channels, 4, 2, 1, init=nn.normal(0.02)),
        nn.LeakyReLU(0.2),                                                      # H/2 x W/2
        nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False, init=nn.normal(0.02)),
        nn.BatchNorm(2 * channels), nn.LeakyReLU(0.2),                          # H/4 x W/4
        nn.Flatten(),
        nn.Dense(2 * channels * height * width // 16, 1, init=nn.normal(0.02))))


def check(shape):
    """`shape`, (C, H, W); raises UserError if H and W are no multiples of 4."""
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4 or not (shape[1] and shape[2]):
        raise UserError("these networks make images whose height and width are multiples of 4, "
                        f"such as 28x28 or 32x32, not {'x'.join(map(str, shape[1:]))}: pad or crop "
                        "the images, or train networks for all sizes, as wgan_gp_mnist.py has")
    return shape


def _begun(network):
    for _, part in network.modules():
        if isinstance(part, nn.BatchNorm):
            part.weight.data += 0.02 * rng.normal((part.n,))
    return network
