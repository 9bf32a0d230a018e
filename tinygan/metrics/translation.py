"""How near translated images are to the true ones, by their pixels."""

import numpy as np

from .. import backend
from ..backend import UserError
from ..data.arrays import as_floats, check_scale, check_units
from ..numbers import check_whole


def mean_difference(images: np.ndarray, truths: np.ndarray) -> float:
    """Return the mean absolute difference |a - b| of all pixels, on a scale from 0 to 1.

    Raises ValueError for arrays of different shapes, and UserError as grey_share does.
    """
    _check_shapes(images, truths)
    a, b = _as_pixels(images, truths)
    return float(abs(a - b).mean())


def grey_share(images: np.ndarray) -> float:
    """Return the share of pixels between 0.2 and 0.8, of which blurred digits have many.

    Raises UserError if there are none, if a number is not finite, and for images that
    data.arrays.check_scale() or check_units() refuses.
    """
    (pixels,) = _as_pixels(images)
    return float(((pixels > 0.2) & (pixels < 0.8)).mean())


def overlap(images: np.ndarray, truths: np.ndarray) -> float:
    """Return the pixels that are above 1/2 in both images, as a share of those in either.

    It is 1 if there are none in either. Raises ValueError for arrays of different shapes.
    """
    _check_shapes(images, truths)
    a, b = (pixels > 0.5 for pixels in _as_pixels(images, truths))
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else 1.0


def mean_iou(found: np.ndarray, truths: np.ndarray, classes: int) -> float:
    """Return the mean over the classes of the intersection over union of their pixels.

    found, truths   arrays of one shape, the class of each pixel, below `classes`. Classes that
                    occur in neither are left out

    Raises ValueError for another class or a number that is not whole, for arrays of different
    shapes and for empty ones.
    """
    _check_shapes(found, truths)
    check_whole(classes, 1, "the number of classes")
    if not {found.dtype.kind, truths.dtype.kind} <= set("iu"):
        raise ValueError(f"the classes of pixels are whole numbers, got {found.dtype} and "
                         f"{truths.dtype}")
    if not found.size:
        raise ValueError("the mean IoU of no pixels is undefined")
    if not all(((0 <= a) & (a < classes)).all() for a in (found, truths)):
        raise ValueError(f"the classes of pixels are from 0 to {classes - 1}, got "
                         f"{min(found.min(), truths.min())} to {max(found.max(), truths.max())}")
    pairs = truths.ravel().astype(int) * classes + found.ravel().astype(int)
    both = np.bincount(pairs, minlength=classes ** 2)
    both = both.reshape(classes, classes)
    union = both.sum(0) + both.sum(1) - both.diagonal()
    return float((both.diagonal()[union > 0] / union[union > 0]).mean())


def _as_pixels(*sets):
    """Return the images of each set as floats. Raises UserError as grey_share does."""
    backend.check_arrays(*sets)
    check_units(*sets)
    sets = [as_floats(images) for images in sets]
    if any(not pixels.size or not np.isfinite(pixels).all() for pixels in sets):
        raise UserError("images are measured by their pixels, but there are none, or some are NaN "
                        "or infinite: look for NaN in the data or in the network that drew them")
    for pixels in sets:
        check_scale(pixels, "the comparison of images")
    return sets


def _check_shapes(a, b):
    backend.check_arrays(a, b)
    if a.shape != b.shape:
        raise ValueError(f"images are compared with others of the same shape, got {a.shape} and "
                         f"{b.shape}")
