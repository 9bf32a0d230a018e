"""Networks for all scales of a single image: those of SinGAN (Shaham et al. 2019).

An image x_0 is shrunk to x_1, ..., x_N, each smaller than the one before by the same factor r. The
networks of a scale are fully convolutional. Every output depends on a patch of 11x11 pixels, which
is a large part of x_N and a detail of x_0. The game is SinGAN in games/singan.py.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from .. import backend, nn, resampling
from ..backend import UserError
from ..numbers import is_number, is_whole
from ..random import rng
from ..tensor import Tensor
from .dcgan import check_shape, initialise_gains

PATCH = 11          # the width of the patch that five convolutions of 3x3 pixels see


def list_shapes(shape: tuple[int, int, int], least: int = 25,
                factor: float = 4 / 3) -> list[tuple[int, int, int]]:
    """List the shapes (C, H, W) of x_0, ..., x_N, the finest first.

    shape    the shape of x_0
    least    the length of the shorter side of x_N in pixels
    factor   about the number r; r itself is chosen so that N is a whole number

    Raises UserError for an image smaller than `least`, for a `least` below the width of a patch,
    and for a factor that is not above 1.
    """
    if not is_whole(least, PATCH):
        raise UserError(f"the coarsest scale needs at least {PATCH} pixels, the width of the "
                        f"patches that the networks see, got {least!r}")
    if not is_number(factor, 1) or factor == 1:
        raise UserError(f"a scale is smaller than the one before by a factor above 1, got {factor}")
    colours, *sides = check_shape(shape, least)
    ratio = min(sides) / least
    N = round(math.log(ratio, factor))
    r = ratio ** (1 / N) if N else 1.0
    return [(colours, *(round(side / r ** n) for side in sides)) for n in range(N + 1)]


def rescale(shapes: Sequence[tuple[int, int, int]],
            size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """List the shapes of all scales for an image of another size, (H, W).

    The scales have the same ratios. Raises UserError for a size that is none.
    """
    colours, *sides = shapes[0]
    check_shape((colours, *size), 1)
    return [(colours, *(max(round(side * new / old), 1) for side, new, old in
                        zip(shape[1:], size, sides))) for shape in shapes]


def shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image at a smaller size: the means over the areas of its new pixels."""
    return resampling.resize(image, size, resampling.area)


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image at a larger size, by linear interpolation."""
    return resampling.resize(image, size, resampling.bilinear)


def make_body(c_in: int, c_out: int, channels: int, padding: int) -> nn.Sequential:
    """Return five convolutions of 3x3 pixels, with normalisation and leaky ReLUs between them.

    The first convolution pads its input by zeros, `padding` wide. No other one pads, so that the
    output is smaller than the padded input by 5 pixels on each side.

    Each image is normalised by its own mean and variance. So is the published code's minibatch of
    one image in training, by batch normalisation; its samples are normalised by running averages.
    """
    layers, init = [], nn.normal(0.02)
    for a, b in pairwise((c_in, *[channels] * 4)):
        layers += [nn.Conv2d(a, b, 3, padding=0 if layers else padding, bias=False, init=init),
                   nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.2)]
    return initialise_gains(nn.Sequential(*layers, nn.Conv2d(channels, c_out, 3, init=init)))


def discriminator(colours: int, channels: int = 32) -> nn.Sequential:
    """Return D, from images (m, colours, h, w) to the scores of patches (m, 1, h - 10, w - 10)."""
    return make_body(colours, 1, channels, 0)


def copy_weights(network: nn.Module, coarser: nn.Module) -> None:
    """Give a network the weights of that of the next coarser scale, if both have the same shapes.

    The published code begins the training of a scale so.
    """
    own, weights = network.state_dict(), coarser.state_dict()
    if [a.shape for a in own.values()] == [a.shape for a in weights.values()]:
        network.load_state_dict(weights)


class Generator(nn.Module):
    """The generators of all scales, from the finest to the coarsest.

        ~x_N = psi_N(z_N)                                                               (eq. 1)
        ~x_n = l_n + psi_n(z_n + l_n),  where l_n is ~x_{n+1}, enlarged                 (eq. 3)

    shapes     the shapes of x_0, ..., x_N, as list_shapes() returns them
    channels   the number of channels in psi_N; it doubles with every fourth scale, up to four times

    z_n is noise N(0, I) times sigma_n. The buffer `sigma` has (sigma_0, ..., sigma_N): sigma_N is
    1, and the others are 0 until SinGAN sets them. The buffer `z_star` is the noise z* from which
    the image is reconstructed, drawn once. In the published code z_N is the same in all colours,
    and z* is drawn in each iteration.

    Raises UserError without a scale, and for shapes that are none.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], channels: int = 32) -> None:
        if not shapes:
            raise UserError("an image has at least one scale: give the shapes of list_shapes()")
        self.shapes = [tuple(check_shape(shape, 1)) for shape in shapes]
        N, colours = len(shapes) - 1, shapes[0][0]
        self.channels = [channels * min(2 ** ((N - n) // 4), 4) for n in range(N + 1)]
        self.psi = [nn.Sequential(*make_body(colours, colours, width, PATCH // 2), nn.Tanh())
                    for width in self.channels]
        self.sigma = backend.xp.zeros(N + 1, "float32")
        self.sigma[N] = 1
        self.z_star = rng.normal((1, *self.shapes[N]))

    def forward(self, *noise: Tensor) -> Tensor:
        """Return ~x_n for noise (m, C, H, W) of the scales n, ..., N.

        The image of a scale has the size of its noise. Raises ValueError without noise, and for
        more of it than there are scales.
        """
        n = len(self.shapes) - len(noise)
        if not 0 <= n < len(self.shapes):
            raise ValueError(f"the generator of {len(self.shapes)} scales takes noise of the "
                             f"coarsest scale or of more, got {len(noise)} inputs")
        if len(noise) == 1:
            return self.psi[n](self.sigma[n] * noise[0])
        return self.refine(n, noise[0], self.forward(*noise[1:]))

    def refine(self, n: int, noise: Tensor, coarser: Tensor) -> Tensor:
        """Return ~x_n for the noise of scale n and an image ~x_{n+1} of any size (eq. 3)."""
        l = enlarge(coarser, noise.shape[2:])
        return l + self.psi[n](self.sigma[n] * noise + l)
