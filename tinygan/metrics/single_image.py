"""How samples of a single image's GAN differ from the image, and from each other (SinGAN)."""

import numpy as np

from .. import backend, nn
from ..backend import Array
from ..data.arrays import as_floats, check_pixels
from ..tensor import Tensor, no_grad
from .frechet import frechet_distance


def measure_sifid(samples: Array, image: Array, net: nn.Sequential) -> float:
    """Return the single image Fréchet distance, its mean over samples (n, C, H, W).

    It is the Fréchet distance between two sets of features: those at all places of a sample, and
    those at all places of the image (C, H', W') (Shaham et al. 2019, section 3). So it compares how
    patches are distributed, and not where they are.

    net   a network whose first three layers are a convolution of grey images, an activation and a
          pooling, such as load_classifier(). The features are the outputs of these layers for each
          colour. In the paper they are Inception's: such distances cannot be compared with these

    Raises UserError for images that data.arrays.check_pixels() refuses.
    """
    there = _features(net, image[None])[0]
    return float(np.mean([frechet_distance(here, there) for here in _features(net, samples)]))


def _features(net, images):
    """Return, for each image, the features of its places (places, features)."""
    check_pixels(images, "measure_sifid")
    n, colours = images.shape[:2]
    x = as_floats(backend.xp.asarray(images)).reshape(n * colours, 1, *images.shape[2:])
    with nn.eval_mode(net), no_grad():
        y = net[:3](Tensor(x))
    return backend.to_numpy(y.data).reshape(n, colours * y.shape[1], -1).transpose(0, 2, 1)


def measure_diversity(samples: Array, image: Array) -> float:
    """Return how much samples (n, C, H, W) of an image (C, H, W) differ from each other.

    It is the standard deviation of a pixel over the samples, the mean of this over the pixels,
    divided by the standard deviation of the image (Shaham et al. 2019, section 3). Raises
    ValueError for an image whose numbers are all equal.
    """
    samples, image = (as_floats(backend.to_numpy(a)) for a in (samples, image))
    if image.max() == image.min():
        raise ValueError("the diversity is measured in standard deviations of the image, but all "
                         "numbers of this image are equal")
    return float(samples.std(0).mean() / image.std())


def nearest_rmse(samples: Array, image: Array) -> float:
    """Return the least root mean square difference of samples (n, C, H, W) from an image.

    Raises ValueError for an image of another shape.
    """
    samples, image = (as_floats(backend.to_numpy(a)) for a in (samples, image))
    if samples.shape[1:] != image.shape:
        raise ValueError(f"samples of shape {samples.shape[1:]} are compared pixel by pixel with "
                         f"an image of this shape, got {image.shape}")
    return float(np.sqrt(((samples - image) ** 2).mean((1, 2, 3))).min())
