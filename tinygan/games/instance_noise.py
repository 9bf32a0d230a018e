"""Instance noise (Sønderby et al. 2017; Arjovsky and Bottou 2017)."""

from ..nn import GaussianNoise, Module, Sequential
from ..optim import at


class InstanceNoise(Module):
    """Any game, with N(0, sigma^2) added to all that D sees, real and generated.

    Data and samples on thin sets do not overlap, and D can be right about all of them; noise makes
    them overlap, so that D's optimum, and with it G's gradient, is finite. It is to vanish as the
    samples get better: sigma is a number or a schedule, a function of the iteration, such as
    optim.linear(0.1, 0.0, steps).

    All else is that game's: `InstanceNoise(LSGAN(G, D), sigma)` has its G, losses and so on. Its D
    is from now on the noise and D, so that a penalty's x_hat has noise as well.
    """

    def __init__(self, game, sigma):
        self.game, self.sigma = game, sigma
        self.layer = GaussianNoise(at(sigma, 0))
        game.D = Sequential(self.layer, game.D)

    def __getattr__(self, name):            # what is not here
        if name == "game":                  # nor there: a copy in the making
            raise AttributeError(name)
        return getattr(self.game, name)

    def __setattr__(self, name, value):
        if name in ("game", "sigma", "layer", "training"):
            super().__setattr__(name, value)
        else:
            setattr(self.game, name, value)

    def noise(self, m, rng, i):
        """(what the game draws, sigma in iteration i). Raises ValueError for a negative sigma."""
        sigma = float(at(self.sigma, i))
        if not sigma >= 0:
            raise ValueError(f"instance noise has a standard deviation of at least 0, got {sigma} "
                             f"in iteration {i}")
        return self.game.noise(m, rng, i), sigma

    def d_loss(self, x, z):
        z, self.layer.sigma[...] = z
        return self.game.d_loss(x, z)

    def g_loss(self, x, z):
        z, self.layer.sigma[...] = z
        return self.game.g_loss(x, z)

    def losses(self, x, z):
        z, self.layer.sigma[...] = z
        return self.game.losses(x, z)
