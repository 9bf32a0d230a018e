"""What the games are played on.

    mnist         handwritten digits: MNIST, or files of its format (Fashion-MNIST, KMNIST)
    mixtures      the ring and the grid of Gaussians, where every lost mode can be counted
    Minibatches   an endless supply of minibatches from either
"""

from . import mixtures, mnist
from .minibatches import Minibatches
