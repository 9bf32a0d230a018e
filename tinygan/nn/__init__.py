"""Layers: functions with parameters.

    module     the base class: parts, names, training and evaluation mode
    init       initial weights
    layers     dense and convolutional layers, activations, pooling, reshaping, joining
    norm       normalisation by the batch, by the image, by the sample
    spectral   spectral normalisation
    weights    weight normalisation, equalised learning rates
    noise      dropout, Gaussian noise, samples of a Gaussian
    minibatch  layers that compare the samples of a minibatch
    spade      layers that take maps of classes
    style      layers that take styles
    attention  self-attention between pixels
    labels     layers that take labels: embeddings, conditional batch normalisation
"""

from .. import pytorch
from .attention import SelfAttention2d
from .init import constant, glorot, he, normal, uniform
from .labels import Branches, ConditionalBatchNorm, Embedding, JoinLabels, one_hot
from .layers import (AvgPool2d, Conv2d, ConvTranspose2d, Dense, Flatten, Join, LeakyReLU, Maxout,
                     MaxPool2d, ReflectionPad2d, ReLU, Reshape, Residual, Sigmoid, Skip, Tanh,
                     Upsample)
from .minibatch import MinibatchDiscrimination, MinibatchStddev
from .module import Heads, Module, Sequential, eval_mode, is_sequential, substitute
from .noise import (Dropout, GaussianNoise, GaussianSample, RandomRows, current_random,
                    use_random)
from .norm import BatchNorm, InstanceNorm2d, LayerNorm
from .spade import SPADE, JoinMap
from .spectral import effective_weight, power_iteration, spectral_norm
from .style import AdaIN, AddNoise, LearnedInput, PixelNorm
from .weights import effective_bias, equalise, weight_norm


def __getattr__(name):
    raise AttributeError(f"module 'tinygan.nn' has no attribute {name!r}" + (
        f": {pytorch.NN[name]}" if name in pytorch.NN else ""))
