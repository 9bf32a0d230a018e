"""Conditional generative adversarial nets (Mirza and Osindero 2014)."""

from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..nn import Module
from ..numbers import is_whole
from ..random import Random
from ..tensor import Tensor
from .gan import GAN


class ConditionalGAN(GAN):
    """The two-player game given a label y (eq. 2).

        min_G max_D E_x[log D(x|y)] + E_z[log(1 - D(G(z|y)|y))]

    (Eq. 2 leaves out the last |y, which the paper's text and its figure 1 have.)

    G maps noise and labels to samples; D scores a sample together with its label. The label of a
    sample is the one for which G made it, in both players' steps. A minibatch is a pair (x, y). The
    labels of samples are drawn uniformly from 0 to classes - 1.

    The labels of the data and of G's samples are not the same. So a relativistic loss compares the
    scores of samples with different labels.

    G, D      Modules of two inputs: G(z, y) returns samples, D(x, y) returns logits (m, 1)
    classes   the number of classes

    The paper does not name a loss for G; the default is the non-saturating one, as in the code of
    Goodfellow et al., which has similar settings. The paper's own code is not published. z is the
    GAN's: the paper's noise from the unit hypercube differs from it by a shift and a factor. Raises
    UserError unless `classes` is a whole number of at least 1.
    """

    minibatch = "images", "labels"

    def __init__(self, G: Module, D: Module, z_size: int = 100, classes: int = 10,
                 **choices) -> None:
        super().__init__(G, D, z_size, **choices)
        if not is_whole(classes, 1):
            raise UserError(f"classes must be a whole number of at least 1, got {classes!r}")
        self.classes = classes

    def latent(self, m: int, rng: Random) -> tuple[Tensor, Array]:
        """Draw (z, y): the GAN's noise (m, z_size), and labels (m,)."""
        return super().latent(m, rng), rng.integers(self.classes, (m,))

    def fake(self, x: Any, z: Any) -> tuple[Tensor, Array]:
        """Return (G(z, y), y)."""
        return self.generate(z), z[1]

    def labels(self, z: Any) -> Array:
        """Return the labels of the samples for z."""
        return z[1]

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Array]:
        """Draw about n inputs, as many for each class, in the order of the classes."""
        labels = backend.xp.arange(self.classes).repeat(max(n // self.classes, 1))
        return super().latent(len(labels), rng), labels

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return the samples in a grid with a row for each class."""
        return self.sample_images(z), len(z[1]) // self.classes
