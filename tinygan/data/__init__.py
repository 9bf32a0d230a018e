"""Data sets to train on, and minibatches of them.

    load             load images: MNIST, or those in a file or a folder of your own
    mnist            handwritten digits: MNIST, or files of its format (Fashion-MNIST, KMNIST)
    own              images in an .npz or .npy file
    mixtures         a ring and a grid of Gaussians, where every lost mode can be counted
    stacked          stacked MNIST: three digits as the channels of an image, 1,000 modes
    picture          a single picture
    tasks            tasks from image to image, with known answers
    DataSet          three Splits of named arrays: training, validation, test
    Minibatches      an endless stream of minibatches from arrays
    ZipMinibatches   several such streams side by side
    as_floats        pixels as floats, as in minibatches
    count_shared     how many images are in another set too
"""

from . import arrays, minibatches, mixtures, mnist, own, picture, stacked, tasks
from .arrays import DataSet, Split, as_floats, count_shared
from .minibatches import Minibatches, ZipMinibatches
from .own import load
from .stacked import StackedMinibatches, draw_stacked
