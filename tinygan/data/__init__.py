"""What the games are played on.

    load          images: MNIST, or those in a file or a folder of the user's
    mnist         handwritten digits: MNIST, or files of its format (Fashion-MNIST, KMNIST)
    own           images in an .npz or .npy file
    mixtures      the ring and the grid of Gaussians, where every lost mode can be counted
    DataSet       three Splits of named arrays: training, validation, test
    Minibatches   minibatches without end from arrays; Together, from several sets at once
    as_floats     pixels as they are in minibatches
"""

from . import arrays, minibatches, mixtures, mnist, own
from .arrays import DataSet, Split, as_floats
from .minibatches import Minibatches, Together
from .own import load
