"""Tests of DCGAN's networks: shapes, the paper's guidelines, initial weights."""

import math

import pytest

from tinygan import Tensor, nn, rng
from tinygan.networks import dcgan

from helpers import error_of


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 13), (1, 8, 25), (1, 25, 8)])
def test_shapes(shape):
    """G gives images with values in [0, 1], and D gives one number per sample."""
    G, D = dcgan.generator(5, 4, shape), dcgan.discriminator(4, shape)
    x = G(Tensor(rng.normal((3, 5))))
    assert x.shape == (3, *shape) and D(x).shape == (3, 1)
    assert 0 <= float(x.numpy().min()) and float(x.numpy().max()) <= 1


@pytest.mark.parametrize("shape, words", [
    ((1, 28, 7), "at least 8x8"), ((1, 7, 28), "at least 8x8"),
    *((shape, f"(C, H, W), three whole numbers of at least 1, got {shape!r}")
      for shape in (28, (28, 28), (1, 28.0, 28), (0, 28, 28), None))])
def test_other_sizes_are_refused(shape, words):
    for make in (lambda: dcgan.generator(5, 4, shape), lambda: dcgan.discriminator(4, shape)):
        assert words in error_of(make)


def test_the_networks_follow_the_papers_guidelines():
    """The networks follow the guidelines of Radford et al. 2016, section 3.

    There is no pooling. G has ReLUs and D leaky ReLUs. Each has one dense layer, for the noise or
    the score. Batch normalisation follows each layer with weights, except G's last, D's first and
    D's last. A layer before it has no bias, because the normalisation would subtract the bias.
    """
    kinds = lambda network: [type(layer) for layer in network.layers]
    block = [nn.BatchNorm, nn.ReLU]
    assert kinds(dcgan.generator()) == [nn.Dense, nn.Reshape, *block, nn.ConvTranspose2d, *block,
                                        nn.ConvTranspose2d, *block, nn.ConvTranspose2d, nn.Sigmoid]
    block = [nn.Conv2d, nn.BatchNorm, nn.LeakyReLU]
    assert kinds(dcgan.discriminator()) == [nn.Conv2d, nn.LeakyReLU, *block, *block, nn.Flatten,
                                            nn.Dense]
    for network in (dcgan.generator(), dcgan.discriminator()):
        layers = network.layers
        for layer, after in zip(layers, layers[1:]):
            if hasattr(layer, "bias") and not isinstance(layer, nn.BatchNorm):
                normalised = isinstance(after, (nn.BatchNorm, nn.Reshape))
                assert (layer.bias is None) == normalised


@pytest.mark.parametrize("make, std", [
    (dcgan.generator, 0.02), (dcgan.discriminator, 0.02),
    (lambda: dcgan.generator(init=nn.normal(0.1)), 0.1)])
def test_initial_weights_are_small(make, std):
    """Weights are N(0, 0.02^2) or as `init` says, gains are N(1, 0.02^2), biases are 0.

    The standard error of the standard deviation of n numbers is std / sqrt(2n), and that of their
    mean is std / sqrt(n).
    """
    network = make()
    for name, p in network.named_arrays(Tensor).items():
        values, n = p.numpy().astype("float64"), p.size
        gain = isinstance(network.layers[int(name.split(".")[0])], nn.BatchNorm)
        mean, scale = (1.0, 0.02) if gain else (0.0, std)
        if name.endswith("bias"):
            assert (values == 0).all(), name
        else:
            assert abs(values.mean() - mean) < 4 * scale / math.sqrt(n), name
            assert abs(values.std() - scale) < 4 * scale / math.sqrt(2 * n), name
