"""What the games are played on.

    load          images: MNIST, or those in a file or a folder of the user's
    mnist         handwritten digits: MNIST, or files of its format (Fashion-MNIST, KMNIST)
    own           images in an .npz or .npy file
    mixtures      the ring and the grid of Gaussians, where every lost mode can be counted
    Minibatches   an endless supply of minibatches from either
    as_floats     pixels as they are in minibatches
"""

from . import mixtures, mnist, own
from .arrays import as_floats
from .minibatches import Minibatches
from .own import load
