"""The U-Net generator of pix2pix (Isola et al. 2017, section 3.2.1)."""

from collections.abc import Callable, Sequence

from .. import nn
from .dcgan import check_shape, double, halve, initialise_gains

WIDTHS = 1, 2, 4, 8, 8, 8, 8, 8        # the paper's, for 256 x 256 pixels


def generator(c_in: int, shape: tuple[int, int, int], channels: int = 64,
              widths: Sequence[int] = WIDTHS, dropouts: int = 3,
              norm: Callable[[int], nn.Module] = nn.BatchNorm) -> nn.Sequential:
    """Return G, from images (m, c_in, H, W) to images of `shape` (C, H, W) in [0, 1].

    channels   the number of channels of the first convolution
    widths     the channels of the convolutions, as multiples of `channels`; each convolution halves
               the size, rounding down
    dropouts   the number of transposed convolutions, from the innermost one on, that are followed
               by dropout, the noise of pix2pix
    norm       norm(n) returns the normalisation of n channels

    Weights are N(0, 0.02^2) and the gains of the normalisation N(1, 0.02^2). What each convolution
    returns is joined with what the inner layers make of it. The first and the innermost convolution
    are not normalised. Raises ValueError for fewer than two convolutions, and UserError if H or W
    is below 2 to the power of their number.
    """
    if len(widths) < 2:
        raise ValueError(f"a U-Net has at least two levels, got the widths {widths}")
    colours, *size = check_shape(shape, 2 ** len(widths))
    n = [channels * width for width in widths]
    sizes = [tuple(side // 2 ** i for side in size) for i in range(len(n))]
    inner, last = None, len(n) - 1
    for i in range(last, 0, -1):        # between sizes[i] and half of it
        if i == last:
            middle, width = [], n[i]
        else:                           # the skip connection has joined n[i] more channels
            middle, width = [norm(n[i]), inner], 2 * n[i]
        dropout = [nn.Dropout(0.5, always=True)] if last - i < dropouts else []
        inner = nn.Skip(nn.Sequential(
            nn.LeakyReLU(0.2), halve(n[i - 1], n[i], bias=False), *middle,
            nn.ReLU(), double(width, n[i - 1], sizes[i], bias=False), norm(n[i - 1]), *dropout))
    return initialise_gains(nn.Sequential(halve(c_in, n[0]), inner, nn.ReLU(),
                                          double(2 * n[0], colours, sizes[0]), nn.Sigmoid()))
