"""The generator of GauGAN (Park et al. 2019, appendix A), and one that joins the map instead."""

from collections.abc import Callable

from .. import nn
from ..backend import UserError
from .dcgan import check_shape


def generator(classes: int, shape: tuple[int, int, int], z_size: int = 256, channels: int = 64,
              halvings: int = 2, hidden: int = 128,
              norm: Callable[[int], nn.Module] = nn.InstanceNorm2d,
              join: bool = False) -> nn.Sequential:
    """Return G, from noise (m, z_size) and maps (m, classes, H, W) to images of `shape` in [0, 1].

    channels   the number of channels at the full size; each halving doubles them
    halvings   how often G doubles the size: it begins with H / 2^halvings x W / 2^halvings pixels
    hidden     the channels inside a SPADE layer
    norm       norm(n) returns the normalisation of n channels, without weights
    join       the map is joined to the input of each convolution of the blocks, beside `norm`,
               instead of SPADE, for comparison

    G begins with the noise, as in the paper's figure 4, and each layer of the blocks sees the map.
    A residual block at each size has two convolutions with spectral normalisation. As in the
    published code, those inside SPADE and the last one have none; in the paper all have it. Raises
    UserError if H or W is no multiple of 2^halvings.
    """
    colours, height, width = check_shape(shape, 2 ** halvings)
    if height % 2 ** halvings or width % 2 ** halvings:
        raise UserError(f"{halvings} halvings need images whose sides are multiples of "
                        f"{2 ** halvings}, not {height}x{width} pixels: pad or crop the images")
    size = height // 2 ** halvings, width // 2 ** halvings

    def normalise(n):
        return [norm(n), nn.JoinMap()] if join else [nn.SPADE(n, classes, hidden, norm(n))]

    def conv(a, b, k, bias=True):
        a += classes if join else 0
        return nn.spectral_norm(nn.Conv2d(a, b, k, padding=k // 2, bias=bias))

    def block(a, b):
        inner = nn.Sequential(*normalise(a), nn.LeakyReLU(0.2), conv(a, min(a, b), 3),
                              *normalise(min(a, b)), nn.LeakyReLU(0.2), conv(min(a, b), b, 3))
        shortcut = None if a == b else nn.Sequential(*normalise(a), conv(a, b, 1, bias=False))
        return nn.Residual(inner, shortcut)
    widths = [channels * 2 ** i for i in reversed(range(halvings + 1))]
    layers = [block(widths[0], widths[0])]
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Upsample(2), block(a, b)]
    return nn.Sequential(
        nn.Dense(z_size, widths[0] * size[0] * size[1]), nn.Reshape(widths[0], *size), *layers,
        nn.LeakyReLU(0.2), nn.Conv2d(channels, colours, 3, padding=1), nn.Sigmoid())
