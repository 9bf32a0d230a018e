"""All games by name, each with its paper and a small instance.

    GAMES["wgan"]()                 the small instance: it makes images of 4x4 pixels
    GAMES["wgan"](G, D, c=0.03)     with other networks, and another setting

The tests of what holds for every game, the scripts that play several, and the README's table of
papers go by it: a new game enters one line here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from .. import nn
from . import losses
from .gan import GAN
from .hinge import Hinge
from .lsgan import LSGAN
from .r1 import R1
from .relativistic import RaGAN, RSGAN
from .sngan import SNGAN
from .wgan import WGAN
from .wgan_gp import WGANGP


def networks(width=4, norm=lambda layer: layer):
    """Return G and D for images of 4x4 pixels. G takes 5 numbers, D's convolution has `width`
    channels, and its layers with weights go through `norm`."""
    G = nn.Sequential(nn.Dense(5, 16), nn.BatchNorm(16), nn.ReLU(), nn.Reshape(4, 2, 2),
                      nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(norm(nn.Conv2d(1, width, 3, 1, 1)), nn.LeakyReLU(), nn.Dropout(0.2),
                      nn.Flatten(), norm(nn.Dense(16 * width, 1)))
    return G, D


def normalised(width=4):
    """Return the same, D under spectral norm."""
    return networks(width, nn.spectral_norm)


def images(n, rng):
    """Return {name: array of n rows}: images of 4x4 pixels."""
    return {"images": rng.uniform(0, 1, (n, 1, 4, 4))}


@dataclass(frozen=True)
class Entry:
    """A game: called with networks and choices it makes one, by default the small instance.

    game      its class
    paper     that it is from
    settings  of the small instance: the constructor's arguments after the networks
    networks  makes the networks that the constructor begins with
    examples  examples(n, rng) makes what the small instance is played on, {name: array of n rows},
              in the order in which a minibatch has them
    """

    game: type
    paper: str
    settings: dict = field(default_factory=dict)
    networks: Callable = networks
    examples: Callable = images

    def __call__(self, *networks, **choices):
        return self.game(*(networks or self.networks()), **{**self.settings, **choices})


GAMES = {
    "saturating": Entry(GAN, "Goodfellow et al. 2014", dict(z_size=5, loss=losses.Saturating())),
    "gan": Entry(GAN, "Goodfellow et al. 2014", dict(z_size=5)),
    "lsgan": Entry(LSGAN, "Mao et al. 2017", dict(z_size=5)),
    "hinge": Entry(Hinge, "Lim and Ye 2017", dict(z_size=5)),
    "rsgan": Entry(RSGAN, "Jolicoeur-Martineau 2019", dict(z_size=5)),
    "ragan": Entry(RaGAN, "Jolicoeur-Martineau 2019", dict(z_size=5)),
    "wgan": Entry(WGAN, "Arjovsky et al. 2017", dict(z_size=5, c=0.1, n_critic=2)),
    "wgan_gp": Entry(WGANGP, "Gulrajani et al. 2017", dict(z_size=5, n_critic=2)),
    "sngan": Entry(SNGAN, "Miyato et al. 2018", dict(z_size=5, n_dis=2), normalised),
    "r1": Entry(R1, "Mescheder et al. 2018", dict(z_size=5, gamma=1.0)),
}
