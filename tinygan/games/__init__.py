"""The games: one file per paper, each a class that says two losses and what else the paper adds."""

from .gan import GAN
from .game import Game
