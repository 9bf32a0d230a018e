"""Networks that several papers or examples share."""

from . import dcgan, digits, patch, resnet, spade, stylegan, unet
