"""Networks for digits that train within minutes, after InfoGAN's (Chen et al. 2016, appendix C.1).

They have two dense layers and two convolutions in each player, at a quarter of the paper's width or
less. The recipes of the examples use them. `shape` is that of an image, (C, H, W).
"""

from .. import nn, optim, schedules
from .dcgan import check_shape, double, halve

FEATURES = 128      # outputs of trunk()


def generator(n_in: int = 100, shape: tuple[int, int, int] = (1, 28, 28),
              classes: int = 0) -> nn.Sequential:
    """Return G, from n_in numbers (m, n_in) to images in [0, 1].

    With `classes`, G takes labels too: their one-hot codes are joined to the n_in numbers. Raises
    UserError if H or W is below 4.
    """
    colours, height, width = check_shape(shape, 4)
    h, w = height // 4, width // 4
    return nn.Sequential(
        *([nn.JoinLabels(classes)] if classes else []),
        nn.Dense(n_in + classes, 128, bias=False), nn.BatchNorm(128), nn.ReLU(),
        nn.Dense(128, 32 * h * w, bias=False), nn.BatchNorm(32 * h * w), nn.ReLU(),
        nn.Reshape(32, h, w),                                                   # 32 x 7 x 7
        double(32, 16, (height // 2, width // 2), bias=False),
        nn.BatchNorm(16), nn.ReLU(),                                            # 16 x 14 x 14
        double(16, colours, (height, width)), nn.Sigmoid())                     # 1 x 28 x 28


def trunk(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 0,
          batch_norm: bool = True) -> nn.Sequential:
    """Return D without its last layer, from images to 128 features.

    With `classes`, it takes labels too: their one-hot codes are joined before the dense layer.
    Without batch normalisation it suits penalties, and the layers have biases instead. Raises
    UserError if H or W is below 4.
    """
    colours, height, width = check_shape(shape, 4)

    def norm(n):
        return [nn.BatchNorm(n)] if batch_norm else []
    return nn.Sequential(
        halve(colours, 16), nn.LeakyReLU(),                                     # 16 x 14 x 14
        halve(16, 32, bias=not batch_norm), *norm(32), nn.LeakyReLU(), nn.Flatten(),
        *([nn.JoinLabels(classes)] if classes else []),                         # 32 x 7 x 7
        nn.Dense(32 * (height // 4) * (width // 4) + classes, FEATURES, bias=not batch_norm,
                 init=nn.normal(0.02) if batch_norm else nn.he),
        *norm(FEATURES), nn.LeakyReLU())                                        # 128


def discriminator(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 0) -> nn.Sequential:
    """Return D, from images (and labels, if `classes` is given) to a score (m, 1)."""
    return nn.Sequential(*trunk(shape, classes).layers, nn.Dense(FEATURES, 1, init=nn.normal(0.02)))


def make_optimisers(G: nn.Module, D: nn.Module, steps: int) -> tuple[optim.Adam, optim.Adam]:
    """Return (d_opt, g_opt) of the recipes, for `steps` steps of each player.

    Their learning rates are larger than the papers' and fall to 0.
    """
    d_opt = optim.Adam(D.parameters(), schedules.cosine(3e-3, 0.0, steps), betas=(0.5, 0.999))
    g_opt = optim.Adam(G.parameters(), schedules.cosine(4e-3, 0.0, steps), betas=(0.5, 0.999))
    return d_opt, g_opt
