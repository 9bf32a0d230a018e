"""All games by name, each with its paper and a small instance.

    GAMES["wgan"]()                 the small instance, for images of 4x4 pixels
    GAMES["wgan"](G, D, c=0.03)     the game with other networks and another setting

The tests of properties that hold for every game use this table, and so does examples/mixtures.py
for the games with the networks of small.make_networks(). A new game adds one line.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from . import losses, small
from .acgan import ACGAN
from .bigan import ALI, BiGAN
from .conditional import ConditionalGAN
from .cyclegan import CycleGAN
from .feature_matching import FeatureMatching
from .fgan import FGAN
from .gan import GAN
from .gaugan import GauGAN
from .hinge import Hinge
from .infogan import InfoGAN
from .lapgan import LAPGAN
from .lsgan import LSGAN
from .pacgan import PacGAN
from .pix2pix import Pix2Pix
from .progan import ProGAN
from .projection import ProjectionGAN
from .r1 import R1
from .r3gan import R3GAN
from .relativistic import RaGAN, RSGAN
from .semi_supervised import SemiSupervisedGAN
from .singan import SinGAN
from .sngan import SNGAN
from .stargan import StarGAN
from .unrolled import UnrolledGAN
from .veegan import VEEGAN
from .wgan import WGAN
from .wgan_gp import WGANGP


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
    networks: Callable = small.make_networks
    examples: Callable = small.make_images

    def __call__(self, *networks, **choices):
        return self.game(*(networks or self.networks()), **{**self.settings, **choices})


GAMES = {
    "saturating": Entry(GAN, "Goodfellow et al. 2014", dict(z_size=5, loss=losses.Saturating())),
    "gan": Entry(GAN, "Goodfellow et al. 2014", dict(z_size=5)),
    "fgan": Entry(FGAN, "Nowozin et al. 2016", dict(z_size=5)),
    "lsgan": Entry(LSGAN, "Mao et al. 2017", dict(z_size=5)),
    "hinge": Entry(Hinge, "Lim and Ye 2017", dict(z_size=5)),
    "rsgan": Entry(RSGAN, "Jolicoeur-Martineau 2019", dict(z_size=5)),
    "ragan": Entry(RaGAN, "Jolicoeur-Martineau 2019", dict(z_size=5)),
    "lapgan": Entry(LAPGAN, "Denton et al. 2015", dict(z_size=5), small.make_pyramid_networks),
    "wgan": Entry(WGAN, "Arjovsky et al. 2017", dict(z_size=5, c=0.1, n_critic=2)),
    "wgan_gp": Entry(WGANGP, "Gulrajani et al. 2017", dict(z_size=5, n_critic=2)),
    "progan": Entry(ProGAN, "Karras et al. 2018", dict(z_size=5, stage=1, fade=10),
                    small.make_growing_networks),
    "singan": Entry(SinGAN, "Shaham et al. 2019", dict(d_steps=2, g_steps=1),
                    small.make_scale_networks),
    "sngan": Entry(SNGAN, "Miyato et al. 2018", dict(z_size=5, n_dis=2),
                   small.make_normalised_networks),
    "conditional": Entry(ConditionalGAN, "Mirza and Osindero 2014", dict(z_size=5, classes=3),
                         small.make_labelled_networks, small.make_labelled_images),
    "acgan": Entry(ACGAN, "Odena et al. 2017", dict(z_size=5, classes=3),
                   small.make_classifying_networks, small.make_labelled_images),
    "projection": Entry(ProjectionGAN, "Miyato and Koyama 2018", dict(z_size=5, classes=3),
                        small.make_projection_networks, small.make_labelled_images),
    "infogan": Entry(InfoGAN, "Chen et al. 2016", dict(z_size=5, codes=3, continuous=1),
                     small.make_informing_networks),
    "bigan": Entry(BiGAN, "Donahue et al. 2017", dict(z_size=5), small.make_pair_networks),
    "ali": Entry(ALI, "Dumoulin et al. 2017", dict(z_size=5), small.make_sampling_networks),
    "veegan": Entry(VEEGAN, "Srivastava et al. 2017", dict(z_size=5), small.make_pair_networks),
    "r1": Entry(R1, "Mescheder et al. 2018", dict(z_size=5, gamma=1.0)),
    "r3gan": Entry(R3GAN, "Huang et al. 2024", dict(z_size=5, gamma=1.0)),
    "pacgan": Entry(PacGAN, "Lin et al. 2018", dict(z_size=5), small.make_packing_networks),
    "feature_matching": Entry(FeatureMatching, "Salimans et al. 2016", dict(z_size=5),
                              small.make_featuring_networks),
    "semi_supervised": Entry(SemiSupervisedGAN, "Salimans et al. 2016", dict(z_size=5),
                             small.make_recognising_networks, small.make_partly_labelled_images),
    "pix2pix": Entry(Pix2Pix, "Isola et al. 2017", {}, small.make_translating_networks,
                     small.make_translations),
    "cyclegan": Entry(CycleGAN, "Zhu et al. 2017", dict(
        x_shape=(1, 4, 4), y_shape=(1, 4, 4), pool=20, lam_identity=5.0), small.make_cycle_networks,
        small.make_translations),
    "stargan": Entry(StarGAN, "Choi et al. 2018", dict(classes=3, lam_identity=5.0, n_critic=2),
                     small.make_domain_networks, small.make_labelled_images),
    "gaugan": Entry(GauGAN, "Park et al. 2019", dict(z_size=5), small.make_map_networks,
                    small.make_maps),
    "unrolled": Entry(UnrolledGAN, "Metz et al. 2017", dict(z_size=5, k=2)),
}
