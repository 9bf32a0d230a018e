"""Discriminators that score patches of an image: PatchGAN (Isola et al. 2017, section 3.2.2).

Such a D returns a map of scores (m, 1, h, w), each of a patch of the image. The losses take the
mean over the map.
"""

from collections.abc import Callable

from .. import nn, ops
from ..backend import UserError
from ..resampling import avg_pool, resize
from ..tensor import Tensor
from .dcgan import check_shape, initialise_gains


def discriminator(shape: tuple[int, int, int], channels: int = 64, n: int = 3,
                  norm: Callable[[int], nn.Module] = nn.BatchNorm, halvings: int = 0
                  ) -> nn.Sequential:
    """Return D, from images of `shape` (C, H, W) to a map of scores.

    channels   the number of channels of the first convolution; each later one has twice as many as
               the one before, up to 8 times these
    n          the number of convolutions of stride 2, before two of stride 1. The patches have the
               width of receptive_field(n): 16, 34, 70, 142 and 286 pixels for n = 1 to 5. With
               n = 0 all kernels are 1x1, and D scores pixels
    norm       norm(c) returns the normalisation of c channels; the first and the last convolution
               are not normalised
    halvings   how often MultiScale halves the size of the images, rounding up, before D sees them

    The convolutions pad by 1, as those of pix2pix do; those of pix2pixHD and GauGAN pad by 2.
    Raises UserError for images that are too small for so many convolutions.
    """
    least = 3 * 2 ** n if n else 1
    least = (least - 1) * 2 ** halvings + 1
    if min(check_shape(shape, 1)[1:]) < least:
        raise UserError(f"a patch discriminator with {n} convolutions of stride 2"
                        f"{' of a reduced image' if halvings else ''} takes images of "
                        f"at least {least}x{least} pixels, not {shape[1]}x{shape[2]}: "
                        "enlarge the images, or take fewer convolutions")
    init, widths = nn.normal(0.02), [channels * min(2 ** i, 8) for i in range(max(n, 1) + 1)]
    kernels = _list_kernels(n)
    layers = [nn.Conv2d(shape[0], widths[0], *kernels[0], init=init), nn.LeakyReLU(0.2)]
    for a, b, kernel in zip(widths, widths[1:], kernels[1:]):
        layers += [nn.Conv2d(a, b, *kernel, bias=False, init=init), norm(b), nn.LeakyReLU(0.2)]
    return initialise_gains(
        nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, *kernels[-1], init=init)))


def receptive_field(n: int) -> int:
    """Return the width in pixels of the patches that discriminator(n=n) scores."""
    width = 1
    for kernel, stride, _ in reversed(_list_kernels(n)):
        width = (width - 1) * stride + kernel
    return width


def _list_kernels(n):
    """List (kernel, stride, padding) of the convolutions of discriminator(n=n)."""
    return [(4, 2, 1)] * n + [(4, 1, 1)] * 2 if n else [(1, 1, 0)] * 3


class MultiScale(nn.Module):
    """Discriminators of an image and of its reductions (Wang et al. 2018, pix2pixHD, section 3.2).

    Returns (scores, features): scores (m, k, h, w) with a channel for each of the k discriminators,
    and features, a tuple of the outputs of their leaky ReLUs. Each discriminator but the first sees
    the image at half the size of the one before. Its map of scores is enlarged to h x w by nearest
    pixels. So the mean over all scores is the mean over the discriminators' own, exactly if the
    sizes are multiples, and otherwise nearly.

    Ds   Sequentials, from images to maps of scores

    Raises UserError for leaky ReLUs inside a part of one of them, which would give no features.
    """

    def __init__(self, *Ds: nn.Sequential) -> None:
        for D in Ds:
            if any(isinstance(layer, nn.LeakyReLU) and layer not in D.layers
                   for _, layer in D.modules()):
                raise UserError("a discriminator of MultiScale has a LeakyReLU inside one of its "
                                "layers, whose output would be no feature: make it one Sequential "
                                "without Sequentials in it")
        self.Ds = list(Ds)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        scores, features = [], []
        for i, D in enumerate(self.Ds):
            x = y = avg_pool(x, 3, 2, 1) if i else x
            for layer in D.layers:
                y = layer(y)
                if isinstance(layer, nn.LeakyReLU):
                    features.append(y)
            scores.append(y)
        size = scores[0].shape[2:]
        return (ops.concat([y if y.shape[2:] == size else resize(y, size) for y in scores], 1),
                tuple(features))
