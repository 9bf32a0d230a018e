"""All games by name, each with its paper and a small instance.

    GAMES["wgan"]()                 the small instance, for images of 4x4 pixels
    GAMES["wgan"](G, D, c=0.03)     the game with other networks and another setting

The tests of properties that hold for every game use this table, and so does examples/mixtures.py
for the games with the networks of make_networks(). A new game adds one line.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from .. import nn
from ..backend import Array
from ..random import Random
from . import losses
from .acgan import ACGAN
from .bigan import ALI, BiGAN
from .conditional import ConditionalGAN
from .cyclegan import CycleGAN
from .feature_matching import FeatureMatching
from .gan import GAN
from .gaugan import GauGAN
from .hinge import Hinge
from .infogan import InfoGAN
from .lsgan import LSGAN
from .pacgan import PacGAN
from .pix2pix import Pix2Pix
from .projection import ProjectionDiscriminator, ProjectionGAN
from .r1 import R1
from .r3gan import R3GAN
from .relativistic import RaGAN, RSGAN
from .sngan import SNGAN
from .stargan import StarGAN
from .unrolled import UnrolledGAN
from .wgan import WGAN
from .wgan_gp import WGANGP


def make_networks(width: int = 4,
                  norm: Callable = lambda layer: layer) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels.

    G takes 5 noise variables. D's convolution has `width` channels. `norm` is applied to each of
    D's layers with weights.
    """
    G = nn.Sequential(nn.Dense(5, 16), nn.BatchNorm(16), nn.ReLU(), nn.Reshape(4, 2, 2),
                      nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(norm(nn.Conv2d(1, width, 3, 1, 1)), nn.LeakyReLU(), nn.Dropout(0.2),
                      nn.Flatten(), norm(nn.Dense(16 * width, 1)))
    return G, D


def make_normalised_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return the networks of make_networks(), D with spectral normalisation."""
    return make_networks(width, nn.spectral_norm)


def make_images(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": n random images of 4x4 pixels}."""
    return {"images": rng.uniform(0, 1, (n, 1, 4, 4))}


def make_labelled_networks(width: int = 4,
                           dropout: float = 0.2) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels with a label of three; D has 4 `width` units."""
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(8, 16), nn.BatchNorm(16), nn.ReLU(),
                      nn.Dense(16, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = nn.Sequential(nn.Flatten(), nn.JoinLabels(3), nn.Dense(19, 4 * width), nn.LeakyReLU(),
                      nn.Dropout(dropout), nn.Dense(4 * width, 1))
    return G, D


def make_classifying_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D for such images; D returns scores and the logits of three classes."""
    G, _ = make_labelled_networks(width)
    trunk = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2),
                          nn.Flatten())
    return G, nn.Heads(trunk, nn.Dense(16 * width, 1), nn.Dense(16 * width, 3))


def make_projection_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G with conditional batch normalisation and D with a projection, for such images."""
    G = nn.Sequential(nn.Dense(5, 16), nn.ConditionalBatchNorm(16, 3), nn.ReLU(),
                      nn.Reshape(4, 2, 2), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
    phi = nn.Sequential(nn.spectral_norm(nn.Conv2d(1, width, 3, 1, 1)), nn.LeakyReLU())
    return G, ProjectionDiscriminator(phi, width, 3)


def make_informing_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels and a code of three values and one number."""
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(9, 16), nn.BatchNorm(16), nn.ReLU(),
                      nn.Dense(16, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 4 * width), nn.LeakyReLU(), nn.Dropout(0.2))
    return G, nn.Heads(trunk, nn.Dense(4 * width, 1), nn.Dense(4 * width, 4))


def make_pair_networks(width: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return G, an encoder E, and D for pairs, for images of 4x4 pixels and 5 noise variables."""
    G, _ = make_networks()
    E = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU(), nn.Dense(16, 5))
    D = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2), nn.Flatten(),
                      nn.Join(), nn.Dense(16 * width + 5, 1))
    return G, E, D


def make_sampling_networks(width: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the networks of make_pair_networks(), with an encoder that draws its output."""
    G, E, D = make_pair_networks(width)
    return G, nn.Sequential(*E[:-1], nn.Dense(16, 10), nn.GaussianSample()), D


def make_packing_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G, and D for two images of 4x4 pixels at once."""
    G, D = make_networks(width)
    return G, nn.Sequential(nn.Conv2d(2, width, 3, 1, 1), *D[1:])


def make_featuring_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G, and D that returns its score and its features, for images of 4x4 pixels."""
    G, D = make_networks(width)
    return G, nn.Heads(D[:-1], D[-1], nn.Sequential())


def make_translator(planes: int = 1, classes: int = 0) -> nn.Module:
    """Return a G from images of `planes` channels, and labels if there are classes."""
    join = [nn.JoinLabels(classes)] if classes else []
    return nn.Sequential(*join, nn.Conv2d(planes + classes, 4, 3, 1, 1), nn.BatchNorm(4), nn.ReLU(),
                         nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())


def make_patch_network(width: int = 4, planes: int = 1) -> nn.Module:
    """Return a D from images of 4x4 pixels and `planes` channels to a map of 4x4 scores."""
    return nn.Sequential(nn.Conv2d(planes, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2),
                         nn.Conv2d(width, 1, 1))


def make_translating_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from images to images, with dropout as its noise, and D for pairs of them."""
    G = make_translator()
    return nn.Sequential(*G[:3], nn.Dropout(0.5, always=True), *G[3:]), (
        make_patch_network(width, 2))


def make_cycle_networks(width: int = 4) -> tuple[nn.Module, ...]:
    """Return G, F, D and D_x for images of 4x4 pixels."""
    return (make_translator(), make_translator(),
            make_patch_network(width), make_patch_network(width))


def make_domain_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from images and three domains to images, and D that also names the domain."""
    *trunk, last = make_patch_network(width).layers
    return make_translator(1, 3), nn.Heads(
        nn.Sequential(*trunk), last, nn.Sequential(nn.Flatten(), nn.Dense(16 * width, 3)))


def make_map_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from noise and maps of three classes, and D for maps and images, with features."""
    *trunk, last = make_patch_network(width, 4).layers
    G = nn.Sequential(nn.Dense(5, 16), nn.Reshape(1, 4, 4), nn.SPADE(1, 3, 2), nn.Tanh(),
                      nn.JoinMap(), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())
    return G, nn.Heads(nn.Sequential(*trunk), last,
                       nn.Heads(nn.Sequential(), nn.Sequential()))      # a tuple of one feature


def make_translations(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": ..., "targets": ...} of n random images of 4x4 pixels each."""
    return {name: rng.uniform(0, 1, (n, 1, 4, 4)) for name in ("images", "targets")}


def make_maps(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": n random maps of three classes, "targets": n random images}."""
    return {"images": rng.uniform(0, 1, (n, 3, 4, 4)), "targets": rng.uniform(0, 1, (n, 1, 4, 4))}


def make_labelled_images(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": ..., "labels": ...} of n random images of 4x4 pixels and three classes."""
    return {**make_images(n, rng), "labels": rng.integers(3, (n,))}


@dataclass(frozen=True)
class Entry:
    """An entry of the catalogue; entry(*networks, **settings) makes a game.

    Without networks, entry() makes the small instance.

    game      the class of the game
    paper     the paper, as in "Goodfellow et al. 2014"
    settings  the keyword arguments of the small instance
    networks  networks() returns the networks of the small instance
    examples  examples(n, rng) returns data for the small instance, {name: array of n rows}, in the
              order of the parts of a minibatch
    """

    game: type
    paper: str
    settings: dict = field(default_factory=dict)
    networks: Callable = make_networks
    examples: Callable = make_images

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
    "sngan": Entry(SNGAN, "Miyato et al. 2018", dict(z_size=5, n_dis=2), make_normalised_networks),
    "conditional": Entry(ConditionalGAN, "Mirza and Osindero 2014", dict(z_size=5, classes=3),
                         make_labelled_networks, make_labelled_images),
    "acgan": Entry(ACGAN, "Odena et al. 2017", dict(z_size=5, classes=3),
                   make_classifying_networks, make_labelled_images),
    "projection": Entry(ProjectionGAN, "Miyato and Koyama 2018", dict(z_size=5, classes=3),
                        make_projection_networks, make_labelled_images),
    "infogan": Entry(InfoGAN, "Chen et al. 2016", dict(z_size=5, codes=3, continuous=1),
                     make_informing_networks),
    "bigan": Entry(BiGAN, "Donahue et al. 2017", dict(z_size=5), make_pair_networks),
    "ali": Entry(ALI, "Dumoulin et al. 2017", dict(z_size=5), make_sampling_networks),
    "r1": Entry(R1, "Mescheder et al. 2018", dict(z_size=5, gamma=1.0)),
    "r3gan": Entry(R3GAN, "Huang et al. 2024", dict(z_size=5, gamma=1.0)),
    "pacgan": Entry(PacGAN, "Lin et al. 2018", dict(z_size=5), make_packing_networks),
    "feature_matching": Entry(FeatureMatching, "Salimans et al. 2016", dict(z_size=5),
                              make_featuring_networks),
    "pix2pix": Entry(Pix2Pix, "Isola et al. 2017", {}, make_translating_networks,
                     make_translations),
    "cyclegan": Entry(CycleGAN, "Zhu et al. 2017", dict(
        x_shape=(1, 4, 4), y_shape=(1, 4, 4), pool=20, lam_identity=5.0), make_cycle_networks,
        make_translations),
    "stargan": Entry(StarGAN, "Choi et al. 2018", dict(classes=3, lam_identity=5.0, n_critic=2),
                     make_domain_networks, make_labelled_images),
    "gaugan": Entry(GauGAN, "Park et al. 2019", dict(z_size=5), make_map_networks, make_maps),
    "unrolled": Entry(UnrolledGAN, "Metz et al. 2017", dict(z_size=5, k=2)),
}
