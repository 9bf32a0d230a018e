"""Networks that several papers or examples share."""

from . import (dcgan, digits, growing, patch, pyramid, resnet, single_image, spade, stylegan,
               unet)
