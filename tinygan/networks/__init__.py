"""Networks that several papers or examples share."""

from . import dcgan, digits, growing, patch, resnet, spade, stylegan, unet
