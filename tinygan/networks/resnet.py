"""The residual generators of CycleGAN (Zhu et al. 2017) and StarGAN (Choi et al. 2018).

They follow Johnson et al. 2016: two convolutions of stride 2, residual blocks at a quarter of the
size, two transposed convolutions.
"""

from .. import nn
from .dcgan import check_shape


def generator(c_in: int, shape: tuple[int, int, int], channels: int = 64, blocks: int = 9,
              classes: int = 0, kernel: int = 3, reflect: bool = True,
              affine: bool = False) -> nn.Sequential:
    """Return G, from images (m, c_in, H, W) to images of `shape` (C, H, W) in [0, 1].

    channels   the number of channels of the first convolution
    blocks     the number of residual blocks
    classes    with classes, G takes labels too, as planes beside the image
    kernel     that of the convolutions which change the size: 3, or 4 as in StarGAN
    reflect    whether images are padded by reflection, or by zeros
    affine     whether instance normalisation has weights

    With labels, give reflect=False. A label's plane is constant: padded by reflection, it adds the
    same number to all pixels after the first convolution, and instance normalisation removes that.
    Padded by zeros, it adds another number at the border. The last convolution has a bias;
    in StarGAN's published code it has none. Raises UserError if H or W is below 8.
    """
    colours, *size = check_shape(shape, 8)
    init, n = nn.normal(0.02), channels

    def norm(n):
        return [nn.InstanceNorm2d(n, affine=affine), nn.ReLU()]

    def conv(a, b, k, last=False):          # keeps the size
        pad = [nn.ReflectionPad2d(k // 2)] if reflect else []
        return [*pad, nn.Conv2d(a, b, k, 1, 0 if reflect else k // 2, bias=last, init=init)]

    def half(side):
        return (side + 2 - kernel) // 2 + 1

    def enlarge(a, b, size):
        extra = tuple(side - ((half(side) - 1) * 2 - 2 + kernel) for side in size)
        return nn.ConvTranspose2d(a, b, kernel, 2, 1, extra, bias=False, init=init)
    sizes = [tuple(size), tuple(map(half, size))]
    body = [nn.Residual(nn.Sequential(*conv(4 * n, 4 * n, 3), *norm(4 * n), *conv(4 * n, 4 * n, 3),
                                      nn.InstanceNorm2d(4 * n, affine=affine)))
            for _ in range(blocks)]
    return nn.Sequential(
        *([nn.JoinLabels(classes)] if classes else []),
        *conv(c_in + classes, n, 7), *norm(n),
        nn.Conv2d(n, 2 * n, kernel, 2, 1, bias=False, init=init), *norm(2 * n),         # H/2 x W/2
        nn.Conv2d(2 * n, 4 * n, kernel, 2, 1, bias=False, init=init), *norm(4 * n),     # H/4 x W/4
        *body,
        enlarge(4 * n, 2 * n, sizes[1]), *norm(2 * n),
        enlarge(2 * n, n, sizes[0]), *norm(n),
        *conv(n, colours, 7, last=True), nn.Sigmoid())
