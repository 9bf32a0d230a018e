"""Views: transformations of D's input, applied to data and samples alike.

A View is a Module. It is applied to each Tensor in D's input; labels (arrays of whole numbers) stay
as they are. A game takes a list of views: Game(G, D, views=[InstanceNoise(0.1)]). The views belong
to D's score, so a penalty's x_hat passes through them too. A view draws its random numbers through
layers such as nn.GaussianNoise, which use the random source of the training step.
"""

from collections.abc import Callable

from ..nested import map_nested
from ..nn import GaussianNoise, Module
from ..schedules import value_at
from ..tensor import Tensor


class View(Module):
    """The base class of all views; forward(x) is applied to each Tensor in D's input."""

    def begin(self, i: int) -> None:
        """Prepare the view for iteration i; by default nothing."""

    def __call__(self, inputs):
        view = super().__call__
        return map_nested(lambda x: view(x) if type(x) is Tensor else x, inputs)


class InstanceNoise(View):
    """Instance noise N(0, sigma^2) (Sønderby et al. 2017; Arjovsky and Bottou 2017).

    If data and samples lie on low-dimensional sets that do not overlap, D can separate them
    perfectly, and G's gradient vanishes. With noise the two overlap, and the optimal D is finite.
    The noise should vanish as the samples get better: sigma is a number, or a schedule of the
    iteration such as schedules.linear(0.1, 0.0, steps). Raises ValueError for a negative sigma.
    """

    def __init__(self, sigma: float | Callable) -> None:
        self.sigma, self.noise = sigma, GaussianNoise(value_at(sigma, 0))

    def begin(self, i: int) -> None:
        """Set sigma to its value in iteration i."""
        self.noise.set(value_at(self.sigma, i))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with noise in training mode, and x in evaluation mode."""
        return self.noise(x)
