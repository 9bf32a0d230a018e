"""Views: what is done to all that D is shown, the data and G's work alike.

A View is a Module that D looks through: it is applied to each Tensor of what D is shown, and labels
(arrays of whole numbers) stay as they are. Any game takes several: Game(G, D,
views=[InstanceNoise(0.1)]). They are part of D's verdict, so that a penalty's x_hat is seen through
them as well. What a view draws at random comes from layers such as nn.GaussianNoise, whose source
is the step's own.
"""

from ..nested import map_nested
from ..nn import GaussianNoise, Module
from ..schedules import at
from ..tensor import Tensor


class View(Module):
    """The base of all views. forward(x) is applied to each Tensor that D is shown."""

    def begin(self, i):
        """Prepare for iteration i."""

    def __call__(self, shown):
        view = super().__call__
        return map_nested(lambda x: view(x) if type(x) is Tensor else x, shown)


class InstanceNoise(View):
    """Instance noise: N(0, sigma^2) added to all that D sees (Sønderby et al. 2017; Arjovsky and
    Bottou 2017).

    Data and samples on thin sets do not overlap, and D can be right about all of them; noise makes
    them overlap, so that D's optimum, and with it G's gradient, is finite. It is to vanish as the
    samples get better: sigma is a number or a schedule, a function of the iteration, such as
    schedules.linear(0.1, 0.0, steps). Raises ValueError for a negative sigma.
    """

    def __init__(self, sigma):
        self.sigma, self.noise = sigma, GaussianNoise(at(sigma, 0))

    def begin(self, i):
        self.noise.set(at(self.sigma, i))

    def forward(self, x):
        return self.noise(x)
