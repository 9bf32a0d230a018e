"""Views: transformations of D's input, applied to data and samples alike.

A View is a Module. It is applied to each Tensor in D's input; labels (arrays of whole numbers) stay
as they are. A game takes a list of views: Game(G, D, views=[views.InstanceNoise(0.1)]). The views
belong to D's score, so a penalty's x_hat passes through them too. A view draws its random numbers
from nn.current_random(), the random source of the training step, as layers such as
nn.GaussianNoise do. Of DiffAugment's three transformations, colour is left out.
"""

from collections.abc import Callable

from .. import backend
from ..backend import Array, UserError
from ..nested import flatten_nested, is_sample, map_nested
from ..nn import GaussianNoise, Module, current_random
from ..numbers import is_number, is_whole
from ..schedules import value_at
from ..tensor import Tensor


class View(Module):
    """The base class of all views; forward(x) is applied to each Tensor in D's input.

    Raises TypeError for an array of floats in it.
    """

    def begin(self, i: int) -> None:
        """Prepare the view for iteration i; by default nothing."""

    def __call__(self, inputs):
        view = super().__call__
        return map_nested(lambda x: view(x) if is_sample(x) else x, inputs)


class InstanceNoise(View):
    """Instance noise N(0, sigma^2) (Sønderby et al. 2017; Arjovsky and Bottou 2017).

    If data and samples lie on low-dimensional sets that do not overlap, D can separate them
    perfectly, and G's gradient vanishes. With noise the two overlap, and the optimal D's logits are
    finite. The noise should vanish as the samples get better: sigma is a number, or a schedule of
    the iteration such as schedules.linear(0.1, 0.0, steps). Raises ValueError for a negative sigma.
    """

    def __init__(self, sigma: float | Callable) -> None:
        self.sigma, self.noise = sigma, GaussianNoise(value_at(sigma, 0))

    def begin(self, i: int) -> None:
        """Set sigma to its value in iteration i."""
        self.noise.set(value_at(self.sigma, i))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with noise in training mode, and x in evaluation mode."""
        return self.noise(x)


class Pack(View):
    """k consecutive samples joined as features or channels (Lin et al. 2018).

    (m k, n) -> (m, k n); (m k, C, H, W) -> (m, k C, H, W). Raises UserError for a k below 1, and if
    the view is applied to labels, or to a number of samples that is no multiple of k.
    """

    def __init__(self, k: int) -> None:
        if not is_whole(k, 1):
            raise UserError(f"a pack has a whole number of samples, at least 1, got {k!r}")
        self.k = k

    def __call__(self, inputs):
        if not all(map(is_sample, flatten_nested(inputs))):
            raise UserError("samples with labels cannot be joined to packs: leave views.Pack out, "
                            "or take a game without labels")
        return super().__call__(inputs)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise UserError(f"Pack joins samples (m, n) or (m, C, H, W), got the shape {x.shape}")
        if len(x) % self.k:
            raise UserError(f"{len(x)} samples cannot be split into packs of {self.k}: choose a "
                            f"batch size that is a multiple of {self.k}")
        return x.reshape(len(x) // self.k, self.k * x.shape[1], *x.shape[2:])


class Translation(View):
    """A random translation of each image, zeros at the borders (DiffAugment, Zhao et al. 2020).

    The shift along each axis is a whole number of pixels, uniform up to `reach` times the image's
    size, rounded, in both directions: up to 4 of 28 pixels by default. In evaluation mode nothing
    is changed. Tensors that are no images (m, C, H, W), such as the z of a pair (G(z), z), are
    never changed. Raises ValueError for a reach outside [0, 1].
    """

    def __init__(self, reach: float = 0.125) -> None:
        if not is_number(reach, 0) or reach > 1:
            raise ValueError(f"Translation's reach is a fraction from 0 to 1, got {reach!r}")
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.ndim != 4:
            return x
        # A translation is linear: rows @ x @ columns.T, with a matrix of 0 and 1 for each image
        rows, columns = (self.draw(len(x), n, x.dtype) for n in x.shape[2:])
        return rows @ x @ columns.T

    def draw(self, m: int, n: int, dtype: str) -> Tensor:
        """Draw the matrices (m, 1, n, n) that shift m columns of n pixels."""
        xp, most = backend.xp, int(self.reach * n + 0.5)
        shifts = current_random().integers(2 * most + 1, (m, 1, 1, 1)) - most
        pixels = xp.arange(n)
        return Tensor((pixels[:, None] == pixels + shifts).astype(dtype))


class Cutout(View):
    """A square of each image, at a random place, set to 0 (DiffAugment, Zhao et al. 2020).

    Its sides are `size` times those of the image; its centre is uniform in the image, so that it
    may reach over the border. In evaluation mode nothing is changed. Tensors that are no images
    (m, C, H, W) are never changed. Raises ValueError for a size outside [0, 1].
    """

    def __init__(self, size: float = 0.5) -> None:
        if not is_number(size, 0) or size > 1:
            raise ValueError(f"Cutout's size is a fraction from 0 to 1, got {size!r}")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.ndim != 4:
            return x
        rows, columns = (self.draw(len(x), n) for n in x.shape[2:])
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return x * (~inside).astype(x.dtype)

    def draw(self, m: int, n: int) -> Array:
        """Draw which of n pixels lie inside the square, for each of m images: booleans (m, n)."""
        side = int(self.size * n + 0.5)
        # between two pixels if the side is even, so that all places are symmetric
        centre = current_random().integers(n + 1 - side % 2, (m, 1))
        first = centre - side // 2
        pixels = backend.xp.arange(n)
        return (pixels >= first) & (pixels < first + side)
