"""The games: one file per paper. README.md in this folder maps equations to functions.

    game       the base class
    losses     functions of D's scores
    penalties  terms on the gradient of D
    views      transformations of D's input
    checks     what a game refuses
    catalogue  all games by name
    small      the small networks and data of the catalogue
"""

from . import catalogue, losses, penalties, views
from .acgan import ACGAN
from .bigan import ALI, BiGAN
from .conditional import ConditionalGAN
from .cyclegan import CycleGAN
from .game import Game
from .feature_matching import FeatureMatching
from .fgan import FGAN
from .gan import GAN
from .gaugan import GauGAN
from .hinge import Hinge
from .infogan import InfoGAN
from .lapgan import LAPGAN
from .lsgan import LSGAN
from .pacgan import PacGAN
from .penalties import gradient_penalty
from .pix2pix import Pix2Pix
from .progan import ProGAN
from .projection import ProjectionDiscriminator, ProjectionGAN
from .r1 import R1
from .r3gan import R3GAN
from .relativistic import RaGAN, RSGAN
from .semi_supervised import SemiSupervisedGAN
from .singan import SinGAN
from .sngan import SNGAN
from .stargan import StarGAN
from .translation import ImageTranslation
from .unrolled import UnrolledGAN
from .veegan import VEEGAN
from .wgan import WGAN, warm_up
from .wgan_gp import WGANGP
