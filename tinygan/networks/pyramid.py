"""Laplacian pyramids of images, and networks for their levels (Denton et al. 2015).

    I_0 = I,  I_{k+1} = d(I_k)                  the Gaussian pyramid, k = 0, ..., K - 1
    h_k = I_k - u(I_{k+1}),  h_K = I_K          the Laplacian pyramid (eq. 3)

d halves the size of an image, and u doubles it. h_k are the details of I_k that u(I_{k+1}) lacks.
With them the image can be made again, from the smallest one on: I_k = u(I_{k+1}) + h_k (eq. 4). In
level k a generator draws such details for an image l_k = u(I_{k+1}), which lacks them. The game is
LAPGAN in games/lapgan.py.
"""

from typing import Any

from .. import nn, ops, resampling
from ..backend import UserError
from ..nn.module import check_layers
from ..numbers import is_whole
from ..tensor import Tensor
from .dcgan import check_shape


def down(image: Tensor) -> Tensor:
    """Return d(I), the means of blocks of 2x2 pixels."""
    return resampling.avg_pool(image, 2)


def up(image: Tensor) -> Tensor:
    """Return u(I), the image at twice its size by linear interpolation."""
    return resampling.upsample(image, 2, resampling.bilinear)


def make_gaussian(image: Tensor, levels: int) -> tuple[Tensor, ...]:
    """Return the Gaussian pyramid (I_0, ..., I_K) of images (m, C, H, W), with K = levels - 1.

    Raises UserError as list_shapes() does.
    """
    list_shapes(image.shape[1:], levels)
    images = [image]
    for _ in range(levels - 1):
        images.append(down(images[-1]))
    return tuple(images)


def list_shapes(shape: tuple[int, int, int], levels: int) -> list[tuple[int, int, int]]:
    """List the shapes (C, H / 2^k, W / 2^k) of the images of all levels, for images of `shape`.

    Raises UserError if there is no level, and if H or W is no multiple of 2^(levels - 1).
    """
    if not is_whole(levels, 1):
        raise UserError("a pyramid has at least one level: give the networks of one or more")
    colours, height, width = check_shape(shape, 1)
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        raise UserError(f"a pyramid of {levels} levels needs images whose sides are multiples of "
                        f"{factor}, not {height}x{width} pixels: pad or crop the images, or take "
                        "fewer levels")
    return [(colours, height >> k, width >> k) for k in range(levels)]


class Generator(nn.Module):
    """The generators (G_0, ..., G_K) of all levels, from the finest to the coarsest.

    shape    (C, H, W), that of an image I_0
    levels   G_0, ..., G_{K-1} are Modules of two inputs, G_k(z_k, l_k): they take noise
             (m, 1, H / 2^k, W / 2^k) and images (m, C, H / 2^k, W / 2^k), and return details of
             the images' shape. G_K is a Module from noise z_K to images

    Raises UserError without a level, and if H or W is no multiple of 2^K, and TypeError for a level
    that is no Module.
    """

    def __init__(self, shape: tuple[int, int, int], *levels: nn.Module) -> None:
        self.levels = check_layers("a pyramid's Generator", levels)
        self.shapes = list_shapes(shape, len(levels))

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Return the images (~I_0, ..., ~I_K) of all levels for their inputs.

            ~I_k = l_k + G_k(z_k, l_k),  ~I_K = G_K(z_K)                                (eq. 5)

        The input of a level is z_k, and then l_k = u(~I_{k+1}): the coarsest image is drawn first.
        Or the input is a pair (z_k, l_k), where l_k has the size of the level, such as an enlarged
        image of the data. Then the coarser levels may be left out: G(z_0, (z_1, l_1)) draws the
        images of two levels.

        Raises ValueError for other inputs, and if an output has another shape than the level.
        """
        last = inputs[-1] if inputs else None
        is_pair = isinstance(last, tuple) and len(last) == 2
        has_coarsest = len(inputs) == len(self.levels)      # the level that takes no l
        if len(inputs) > len(self.levels) or is_pair == has_coarsest:
            raise ValueError(f"a pyramid of {len(self.levels)} levels takes the noise of each, as "
                             "LAPGAN gives it, or that of its first levels, of which the last has "
                             f"a pair (z, l), got {len(inputs)} inputs")
        images = []                     # from the coarsest to the finest
        for k, z in reversed([*enumerate(inputs)]):
            if k == len(self.levels) - 1:
                images.append(self.draw(k, z))
            else:
                z, l = z if isinstance(z, tuple) else (z, up(images[-1]))
                images.append(l + self.draw(k, z, l))
        return tuple(reversed(images))

    def draw(self, k: int, *inputs: Tensor) -> Tensor:
        """Return G_k(z_k, l_k), or G_K(z_K). Raises ValueError if its shape is not that of I_k."""
        y, shape = self.levels[k](*inputs), (len(inputs[0]), *self.shapes[k])
        if y.shape != shape:
            raise ValueError(f"the generator of level {k} must return (m, C, H, W), here {shape}, "
                             f"got the shape {y.shape}")
        return y


class Discriminator(nn.Module):
    """The discriminators (D_0, ..., D_K) of all levels, from images (I_0, ..., I_K) to scores.

    levels   Modules from images (m, C, H / 2^k, W / 2^k) to scores (m, 1), the finest level first

    The scores of all levels are returned as (m, K + 1, 1, 1), like K + 1 maps of one pixel. The
    losses take the mean over all scores, and so over the levels. Raises TypeError for a level that
    is no Module.
    """

    def __init__(self, *levels: nn.Module) -> None:
        self.levels = check_layers("a pyramid's Discriminator", levels)

    def forward(self, *images: Tensor) -> Tensor:
        """Return the scores. Raises ValueError for other numbers of images or of scores."""
        if len(images) != len(self.levels):
            raise ValueError(f"a pyramid of {len(self.levels)} levels takes an image of each, such "
                             f"as of make_gaussian(), got {len(images)}")
        scores = [D(image) for D, image in zip(self.levels, images)]
        for k, score in enumerate(scores):
            if score.shape[1:] != (1,):
                raise ValueError(f"the discriminator of level {k} must return scores (m, 1), got "
                                 f"the shape {score.shape}")
        return ops.concat(scores, 1).reshape(len(scores[0]), len(scores), 1, 1)
