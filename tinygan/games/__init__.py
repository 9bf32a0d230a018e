"""The games: one file per paper, each a class that says two losses and what else the paper adds."""

from . import dcgan
from .game import Game
from .gan import GAN
from .hinge import Hinge
from .instance_noise import InstanceNoise
from .lsgan import LSGAN
from .r1 import R1
from .relativistic import RaGAN, RSGAN
from .sngan import SNGAN
from .wgan import WGAN, warm_up
from .wgan_gp import WGANGP, gradient_penalty
