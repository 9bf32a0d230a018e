"""Layers: functions with parameters, one file for each idea.

    module     what a layer is: its parts, names and modes
    init       initial weights
    layers     dense layers and convolutions, and the functions between them
    norm       normalisation over the batch and over a sample
    spectral   a weight over its largest singular value
    noise      dropout and Gaussian noise
"""

from .init import constant, glorot, he, normal, uniform
from .layers import (AvgPool2d, Conv2d, ConvTranspose2d, Dense, Flatten, LeakyReLU, Maxout, ReLU,
                     Reshape, Sigmoid, Tanh, Upsample)
from .module import Module, Sequential, evaluating
from .noise import Dropout, GaussianNoise, drawing_from
from .norm import BatchNorm, LayerNorm
from .spectral import power_iteration, spectral_norm
