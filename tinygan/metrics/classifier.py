"""Classifiers: one of MNIST's digits, whose features the other metrics compare, and any other.

examples/classifier_mnist.py trains that of the digits. Its features differ from those of other
classifiers: a distance between features can be compared only with distances by the same weights.
Those that judge translated images are trained by train_classifier() on real images alone, always
with the same seed. Their error on other real images is printed beside the results.
"""

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import backend, nn, ops, optim
from ..backend import Array, UserError
from ..data.arrays import as_floats, check_pixels
from ..files import read_arrays
from ..random import Random, rng
from ..tensor import Tensor, grad, no_grad
from .features import check_logits, slices

WEIGHTS = pathlib.Path(__file__).parent / "mnist_classifier.npz"


def make_classifier() -> nn.Sequential:
    """Return an untrained network: (m, 1, 28, 28) pixels in [0, 1] to 10 logits.

    Its layers are like LeNet's (LeCun et al. 1998, section II.B), with one hidden dense layer
    fewer, wider, and with ReLUs. The features are the 128 inputs of the last layer.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, init=nn.he), nn.ReLU(), nn.AvgPool2d(2),            # 32 x 12 x 12
        nn.Conv2d(32, 64, 5, init=nn.he), nn.ReLU(), nn.AvgPool2d(2),           # 64 x 4 x 4
        nn.Flatten(), nn.Dense(64 * 4 * 4, 128, init=nn.he), nn.ReLU(),         # 128
        nn.Dropout(0.5), nn.Dense(128, 10))                                     # 10 logits


def load_classifier(path: str | os.PathLike = WEIGHTS) -> nn.Sequential:
    """Return the trained network, in evaluation mode.

    Its weights are those that come with tinygan, or those in the .npz file at `path`. Raises
    UserError if the file is damaged or holds the weights of another network.
    """
    net = make_classifier()
    net.load_state_dict(read_arrays(path))
    return net.eval()


class Classified(NamedTuple):
    """Features and class probabilities of n images, on the host."""

    features: np.ndarray    # (n, 128) float32 by the network of load_classifier()
    p: np.ndarray           # (n, 10) float32


def classify(net: nn.Sequential, images: Array, piece: int = 500) -> Classified:
    """Return the features and class probabilities that `net` computes of images (n, 1, 28, 28).

    The features are the inputs of the last layer of `net`, and the probabilities are the softmax of
    its output. See predict() for the images, `piece` and errors; images of another shape raise
    UserError too.
    """
    backend.check_arrays(images)
    if images.shape[1:] != (1, 28, 28):
        raise UserError("the classifier takes images of the shape (1, 28, 28), 28x28 grey pixels, "
                        f"not {images.shape[1:]}: train another classifier for those")

    def compute(x):
        y = net[:-1](x)
        logits = backend.to_numpy(net[-1](y).data)
        check_logits(logits)
        e = np.exp(logits - logits.max(1, keepdims=True))
        return backend.to_numpy(y.data), e / e.sum(1, keepdims=True)
    features, p = zip(*_compute_in_pieces(net, compute, images, piece))
    return Classified(np.concatenate(features), np.concatenate(p))


def _compute_in_pieces(net, compute, images, piece):
    """Return a list of compute(x) for Tensors x of `piece` images, `net` in evaluation mode."""
    if not len(images):
        raise UserError("there are no images to classify: give at least one")
    check_pixels(images, "the classifier")
    with nn.eval_mode(net), no_grad():
        return [compute(Tensor(as_floats(backend.xp.asarray(images[rows]))))
                for rows in slices(len(images), piece)]


def classifier_score(p: np.ndarray) -> float:
    """Return the score exp(E_x KL(p(y|x) | p(y))) of class probabilities p (n, classes).

    It lies between 1 and the number of classes. It is high if each sample is clearly of one class
    and all classes are equally frequent. This is the Inception score (Salimans et al. 2016, section
    4) with another classifier. Raises ValueError unless each row of p adds up to 1.
    """
    backend.refuse_masked(p)
    p = np.asarray(p, np.float64)
    _check_probabilities(p)
    log_p, log_mean = (np.log(np.maximum(a, 1e-300)) for a in (p, p.mean(0)))     # 0 log 0 is 0
    terms = p * (log_p - log_mean)
    return float(np.exp(terms.sum(1).mean()))


def class_shares(p: np.ndarray) -> np.ndarray:
    """Return, for each class, the share of samples for which it is most probable, (classes,).

    Raises ValueError unless each row of the probabilities p (n, classes) adds up to 1.
    """
    backend.check_arrays(p)
    _check_probabilities(p)
    return np.bincount(np.argmax(p, 1), minlength=p.shape[1]) / len(p)


def _check_probabilities(p):
    # a classifier's float32 probabilities add up to 1 within some 1e-7 for each class
    if p.ndim != 2 or not len(p) or not (abs(p.sum(1) - 1) < 1e-3).all() or p.min() < 0:
        raise ValueError(f"the rows of this array {p.shape} are no probabilities of classes, which "
                         "are at least 0 and add up to 1")


# Classifiers of other images

def train_classifier(make: Callable[[], nn.Module], images: np.ndarray, labels: np.ndarray,
                     steps: int, m: int = 32, lr: float = 2e-3) -> nn.Module:
    """Return the network make(), trained by Adam to classify images or pixels.

    images   (N, C, H, W), on the host: uint8, or floats in [0, 1]
    labels   (N,), or (N, h, w) for a network that returns logits (m, classes, h, w)

    The weights and the minibatches are always the same; tinygan.rng keeps its state. The network
    is returned in evaluation mode. Raises ValueError unless there is an image, and labels for each,
    and UserError for images that data.arrays.check_pixels() refuses.
    """
    if not len(images) or len(images) != len(labels):
        raise ValueError("a classifier needs at least one image and labels for each, got "
                         f"{len(images)} images and labels for {len(labels)}")
    check_pixels(images, "the classifier")
    state, own = rng.state, Random(0)
    try:
        rng.seed(0)
        net = make()
    finally:
        rng.state = state
    opt = optim.Adam(net.parameters(), lr)
    for _ in range(steps):
        chosen = backend.to_numpy(own.integers(len(images), (m,)))
        with nn.use_random(own):
            logits = net(Tensor(backend.xp.asarray(as_floats(images[chosen]))))
        if logits.ndim == 4:            # a row for each pixel
            logits = logits.transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
        loss = ops.cross_entropy(logits, backend.xp.asarray(labels[chosen].ravel()))
        opt.step(grad(loss, opt.parameters))
    return net.eval()


def predict(net: nn.Module, images: Array, piece: int = 200) -> np.ndarray:
    """Return the most probable class of each image, (n,), or of each pixel, (n, h, w).

    The network is in evaluation mode meanwhile. The images are uint8, or floats in [0, 1]; `piece`
    of them are computed at a time. Raises UserError if there is no image, and for images that
    data.arrays.check_pixels() refuses; ValueError for a `piece` below 1; and FloatingPointError if
    an output of the network is NaN or infinite.
    """
    backend.check_arrays(images)

    def compute(x):
        logits = backend.to_numpy(net(x).data)
        check_logits(logits)
        return logits.argmax(1)
    return np.concatenate(_compute_in_pieces(net, compute, images, piece))
