"""Networks for digits that train within minutes, after InfoGAN's (Chen et al. 2016, appendix C.1).

They have two dense layers and two convolutions in each player, by default at a quarter of the
paper's width or less. gan_mnist.py and the examples whose results are compared with its use them.
`shape` is that of an image, (C, H, W), `channels` the number of feature maps of H/2 x W/2 pixels,
and `hidden` the number of units of a dense layer.
"""

from collections.abc import Callable

from .. import nn, optim, schedules
from .dcgan import check_shape, double, halve

FEATURES = 128      # outputs of trunk()


def generator(n_in: int = 100, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 0,
              hidden: int = FEATURES, channels: int = 16,
              init: Callable = nn.glorot) -> nn.Sequential:
    """Return G, from n_in numbers (m, n_in) to images in [0, 1].

    With `classes`, G takes labels too: their one-hot codes are joined to the n_in numbers. `init`
    is that of the dense layers. Raises UserError if H or W is below 4.
    """
    colours, height, width = check_shape(shape, 4)
    h, w = height // 4, width // 4
    return nn.Sequential(
        *([nn.JoinLabels(classes)] if classes else []),
        nn.Dense(n_in + classes, hidden, bias=False, init=init), nn.BatchNorm(hidden), nn.ReLU(),
        nn.Dense(hidden, 2 * channels * h * w, bias=False, init=init),
        nn.BatchNorm(2 * channels * h * w), nn.ReLU(),
        nn.Reshape(2 * channels, h, w),                                         # 32 x 7 x 7
        double(2 * channels, channels, (height // 2, width // 2), bias=False),
        nn.BatchNorm(channels), nn.ReLU(),                                      # 16 x 14 x 14
        double(channels, colours, (height, width)), nn.Sigmoid())               # 1 x 28 x 28


def trunk(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 0, batch_norm: bool = True,
          code: int = 0, hidden: int = FEATURES, channels: int = 16,
          slope: float = 0.2) -> nn.Sequential:
    """Return D without its last layer, from images to `hidden` features.

    With `classes`, it takes labels too: their one-hot codes are joined before the dense layer. With
    `code`, it takes that many numbers for each image instead, (m, code), joined in the same place.
    Without batch normalisation it suits penalties, and the layers have biases instead. `slope` is
    that of the leaky ReLUs. Raises UserError if H or W is below 4.
    """
    colours, height, width = check_shape(shape, 4)

    def norm(n):
        return [nn.BatchNorm(n)] if batch_norm else []
    return nn.Sequential(
        halve(colours, channels), nn.LeakyReLU(slope),                          # 16 x 14 x 14
        halve(channels, 2 * channels, bias=not batch_norm), *norm(2 * channels),
        nn.LeakyReLU(slope), nn.Flatten(),                                      # 32 x 7 x 7
        *([nn.JoinLabels(classes)] if classes else [nn.Join()] if code else []),
        nn.Dense(2 * channels * (height // 4) * (width // 4) + classes + code, hidden,
                 bias=not batch_norm, init=nn.normal(0.02) if batch_norm else nn.he),
        *norm(hidden), nn.LeakyReLU(slope))                                     # 128


def discriminator(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 0,
                  batch_norm: bool = True, **sizes) -> nn.Sequential:
    """Return D, from images (and labels, if `classes` is given) to a score (m, 1).

    `batch_norm` and `sizes` are arguments of trunk().
    """
    return nn.Sequential(*trunk(shape, classes, batch_norm, **sizes).layers,
                         nn.Dense(sizes.get("hidden", FEATURES), 1, init=nn.normal(0.02)))


def make_optimisers(G: nn.Module, D: nn.Module, steps: int, penalised: bool = False,
                    d_steps: int = 1) -> tuple[optim.Adam, optim.Adam]:
    """Return (d_opt, g_opt) of the recipes, for `steps` iterations with `d_steps` steps of D each.

    Their learning rates are larger than the papers' and fall to 0. With `penalised`, they suit a D
    with a penalty and without batch normalisation.
    """
    d_lr, g_lr, betas = (1e-3, 1e-3, (0.0, 0.99)) if penalised else (3e-3, 4e-3, (0.5, 0.999))
    return (optim.Adam(D.parameters(), schedules.cosine(d_lr, 0.0, d_steps * steps), betas),
            optim.Adam(G.parameters(), schedules.cosine(g_lr, 0.0, steps), betas))
