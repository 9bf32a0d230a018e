"""Networks that several papers or examples share."""

from . import dcgan, digits, growing, patch, pyramid, resnet, spade, stylegan, unet
