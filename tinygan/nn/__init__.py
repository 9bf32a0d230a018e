"""Layers: functions with parameters.

    module     the base class: parts, names, training and evaluation mode
    init       initial weights
    layers     dense and convolutional layers, activations, pooling, reshaping, joining
    norm       batch normalisation and layer normalisation
    spectral   spectral normalisation
    noise      dropout, Gaussian noise, samples of a Gaussian
    minibatch  layers that compare the samples of a minibatch
    labels     layers that take labels: embeddings, conditional batch normalisation
"""

from .init import constant, glorot, he, normal, uniform
from .labels import Branches, ConditionalBatchNorm, Embedding, JoinLabels, one_hot
from .layers import (AvgPool2d, Conv2d, ConvTranspose2d, Dense, Flatten, Join, LeakyReLU, Maxout,
                     ReLU, Reshape, Sigmoid, Skip, Tanh, Upsample)
from .minibatch import MinibatchDiscrimination, MinibatchStddev
from .module import Heads, Module, Sequential, eval_mode, substitute
from .noise import Dropout, GaussianNoise, GaussianSample, current_random, use_random
from .norm import BatchNorm, LayerNorm
from .spectral import power_iteration, spectral_norm
