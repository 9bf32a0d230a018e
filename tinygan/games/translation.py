"""What the games from image to image have in common: inputs, true outputs, pictures."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, UserError, to_numpy
from ..data.arrays import as_floats, check_scale, check_units
from ..nn import RandomRows, use_random
from ..ops import concat
from ..random import Random
from ..tensor import Tensor
from .checks import refuse_tanh
from .game import Game, require


class ImageTranslation(Game):
    """The base class of games whose G maps images to images.

    Unless a subclass says otherwise, a minibatch is a pair (a, b) of images, and the pictures show
    true outputs beside G's: those are the array "targets" of a split, row by row.

    adversarial   False leaves the loss of D's scores out of G's loss, so that G minimises the
                  further terms of the paper alone: a row of its ablations

    Unless a subclass draws some, G gets no noise besides that of its layers, such as
    nn.Dropout(always=True). Images lie in [0, 1]. In the papers they lie in [-1, 1], where
    |b - G(a)| is twice as large; so the default weights of such terms are twice the papers'. Raises
    UserError for a network that draws images and ends in a tanh, and in G's step if its loss has no
    term at all.
    """

    minibatch = "images a", "images b"
    group = 3               # input, output and truth stand side by side

    def __init__(self, G: Any, D: Any, adversarial: bool = True, z_size: int = 0,
                 **choices) -> None:
        super().__init__(G, D, z_size, **choices)
        self.adversarial = adversarial

    def check(self, before_training: bool = False) -> None:
        super().check(before_training)
        for name in self.g_players:
            refuse_tanh(name, getattr(self, name, None))

    def latent(self, m: int, rng: Random) -> Any:
        """Return (): nothing is drawn."""
        return ()

    def g_loss(self, x: Any, z: Any) -> Tensor:
        """Return G's loss; without the loss of D's scores if not `adversarial`."""
        if self.adversarial:
            return super().g_loss(x, z)
        fake = self.fake(x, z)
        terms = self.g_terms(x, z, fake, self.outputs(fake))
        if not terms:
            raise UserError("G's loss has no term: give adversarial=True, or a weight above 0")
        return sum(terms)

    def translate(self, images: np.ndarray, *conditions: np.ndarray) -> np.ndarray:
        """Return G's outputs for images on the host, (n, C, H, W), bytes or floats in [0, 1].

        conditions   the further inputs of G, such as labels (n,)

        G is in evaluation mode; if an average of G is kept, it is used. About 100 images are
        computed at a time, in pieces of nearly equal length, because an output depends on all
        images of its piece if G has batch normalisation without running averages. Raises UserError
        for images that as_floats(), check_units() or check_scale() of data.arrays refuses.
        """
        return self.compute(self.generate, images, *conditions)

    def compute(self, f: Callable, images: np.ndarray, *conditions: np.ndarray) -> np.ndarray:
        """Return f(z) as translate() returns generate(z), of images z or (images, *conditions)."""
        def convert(a):
            is_labels = a.ndim == 1
            return backend.xp.asarray(a) if is_labels else Tensor(backend.xp.asarray(as_floats(a)))
        inputs = images, *conditions
        for a in inputs:
            if a.ndim == 4 and a.size:
                check_units(a)
                if a.dtype.kind == "f":
                    check_scale(a, "translate()")
        outputs, pieces = [], max(-(-len(images) // 100), 1)
        for parts in zip(*(np.array_split(a, pieces) for a in inputs)):
            z = tuple(map(convert, parts)) if conditions else convert(parts[0])
            with self.use_averages(), use_random(RandomRows(z)):
                outputs.append(backend.to_numpy(f(z).data))
        return np.concatenate(outputs)

    def draw_samples(self, n: int, rng: Random, piece: int = 100) -> np.ndarray:
        """Raise UserError: outputs need images."""
        raise UserError(f"{type(self).__name__} draws no samples of noise alone: give images to "
                        "translate()")

    def translate_all(self, images: np.ndarray) -> np.ndarray:
        """Return every output that G has for each of the images, one after the other; here one."""
        return self.translate(images)

    # Inputs and pictures

    def inputs(self, split: Any, n: int, rng: Random) -> Any:
        """Draw n images from the split."""
        return Tensor(split.floats(draw_rows(split, n, rng)))

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> Any:
        """Draw about n / 4 images a from the split; return (a, their true outputs b)."""
        split = require(split, "targets")
        chosen = draw_rows(split, max(n // 4, 1), rng)
        return Tensor(split.floats(chosen)), Tensor(split.floats(chosen, "targets"))

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return triples (input, output, truth), four in a row."""
        a, b = z
        return join_pictures(a.data, self.sample(a), b.data), 12

    def reference_images(self, split: Any) -> Array:
        """Return the targets in the split."""
        return split.require("targets")


class PairTranslation(ImageTranslation):
    """The base class of games that learn from pairs: D sees an output beside its input.

    The channels of both are joined to one image before the views, so that a view changes both in
    the same way.
    """

    def real(self, x: Any) -> Tensor:
        """Return a and b, joined."""
        return concat(x, 1)

    def fake(self, x: Any, z: Any) -> Tensor:
        """Return a and G(a), joined."""
        return concat([x[0], self.generate(x[0])], 1)


def draw_rows(split: Any, n: int, rng: Random, name: str = "images") -> Any:
    """Draw the numbers of n rows of the images `name`, on the host.

    Raises UserError if there are no rows.
    """
    if not len(split[name]):
        raise UserError(f"a part of the data has no {name}, because there are too few of them to "
                        "be split into three parts: give more")
    return to_numpy(rng.integers(len(split[name]), (n,)))


def join_pictures(*columns: Array) -> Array:
    """Return images (N, C, H, W) side by side: the first of each array, then the second of each.

    Grey images beside colour ones become colour images. An image with another number of channels is
    a map of classes, and is shown as one channel of greys.
    """
    xp, shown = backend.xp, []
    for a in columns:
        if a.shape[1] not in (1, 3):
            a = (a.argmax(1)[:, None] / (a.shape[1] - 1)).astype(a.dtype)
        shown.append(a)
    channels = max(a.shape[1] for a in shown)
    shown = [xp.broadcast_to(a, (len(a), channels, *a.shape[2:])) for a in shown]
    return xp.stack(shown, 1).reshape(-1, *shown[0].shape[1:])
