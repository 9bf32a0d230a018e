"""The games: one file per paper, each a class that makes three choices and adds what else the paper
has.

    game       what all have in common
    losses     what D's scores cost each player
    penalties  on D's slope
    views      what is done to all that D is shown
    catalogue  all games by name
"""

from . import catalogue, losses, penalties, views
from .game import Game
from .gan import GAN
from .hinge import Hinge
from .lsgan import LSGAN
from .penalties import gradient_penalty
from .r1 import R1
from .relativistic import RaGAN, RSGAN
from .sngan import SNGAN
from .wgan import WGAN, warm_up
from .wgan_gp import WGANGP
