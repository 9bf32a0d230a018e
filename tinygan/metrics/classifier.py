"""A classifier of MNIST's digits, whose features the metrics compare, and its score.

It is trained by examples/classifier_mnist.py with this library's engine. Other classifiers have
other features: distances between them compare only with distances by the same weights.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from .. import backend, nn
from ..backend import UserError
from ..data import as_floats
from ..files import read_arrays
from ..tensor import Tensor, no_grad

WEIGHTS = pathlib.Path(__file__).parent / "mnist_classifier.npz"


def network():
    """LeNet's layers (LeCun et al. 1998, section II.B), wider, with ReLUs: (m, 1, 28, 28) pixels in
    [0, 1] to 10 logits; 128 features before the last layer."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, init=nn.he), nn.ReLU(), nn.AvgPool2d(2),            # 32 x 12 x 12
        nn.Conv2d(32, 64, 5, init=nn.he), nn.ReLU(), nn.AvgPool2d(2),           # 64 x 4 x 4
        nn.Flatten(), nn.Dense(64 * 4 * 4, 128, init=nn.he), nn.ReLU(),         # 128
        nn.Dropout(0.5), nn.Dense(128, 10))                                     # 10 logits


def trained(path=WEIGHTS):
    """The network with the weights that come with tinygan, or those at `path`; evaluating. Raises
    UserError if they are damaged or another network's."""
    net = network()
    net.load_state_dict(read_arrays(path))
    return net.eval()


class Seen(NamedTuple):
    features: np.ndarray    # (n, 128) float32
    p: np.ndarray           # (n, 10) float32, the probabilities of the classes


def see(net, images, piece=500):
    """What the network `net` sees in images, (n, 1, 28, 28), uint8 or floats in [0, 1]; on the
    host. Raises UserError for other images."""
    if images.shape[1:] != (1, 28, 28):
        raise UserError(f"the classifier knows grey images of 28x28 pixels, not "
                        f"{images.shape[1:]}: train another for those")
    features, p = [], []
    for start in range(0, len(images), piece):
        x = as_floats(backend.xp.asarray(images[start:start + piece]))
        with no_grad():
            y = nn.Sequential(*net.layers[:-2])(Tensor(x))
            logits = backend.to_numpy(net.layers[-1](y).data)
        features.append(backend.to_numpy(y.data))
        e = np.exp(logits - logits.max(1, keepdims=True))
        p.append(e / e.sum(1, keepdims=True))
    return Seen(np.concatenate(features), np.concatenate(p))


def classifier_score(p):
    """exp(E_x KL(p(y|x) | p(y))) for class probabilities p (n, classes), from 1 to the number of
    classes: high where each sample is clearly of one class and all classes are as frequent
    (Salimans et al. 2016, section 4: the Inception score, here with another classifier)."""
    p = np.asarray(p, np.float64)
    terms = np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(p.mean(0) + 1e-300)), 0.0)
    return float(np.exp(terms.sum(1).mean()))


def class_shares(p):
    """The share of samples that are of each class before all others, (classes,)."""
    return np.bincount(np.argmax(p, 1), minlength=p.shape[1]) / len(p)
