"""What all games have in common."""

from ..nn import Module
from ..tensor import Tensor, no_grad


class Game(Module):
    """Two players, G and D, with a loss each. Subclasses define the losses; the loop is in play.py.

    G maps noise to samples, D samples to one number each: both Modules. A game whose players are
    more than one network each sets them as further attributes and overrides the two lists of
    parameters.

    x is a minibatch of data and z what noise() drew; either may be a tuple.
    """

    d_steps = 1         # discriminator steps per iteration, k; may be a function of the iteration

    def __init__(self, G, D, z_size=100):
        self.G, self.D = G, D
        self.z_size = z_size
        self.seen = {}      # what the last losses saw, {name: array of one number}, on the device

    def noise(self, m, rng, i):
        """All that iteration i draws at random for m samples: here z ~ N(0, I), (m, z_size)."""
        return Tensor(rng.normal((m, self.z_size)))

    def d_loss(self, x, z):
        """What D's parameters minimise: a Tensor of one number."""
        raise NotImplementedError

    def g_loss(self, x, z):
        """What G's parameters minimise: a Tensor of one number."""
        raise NotImplementedError

    def losses(self, x, z):
        """(d_loss, g_loss) on the same x and z, for simultaneous play."""
        return self.d_loss(x, z), self.g_loss(x, z)

    def after_d_step(self):
        """A constraint on D's parameters, restored after each of its steps."""

    def d_parameters(self):
        return self.D.parameters()

    def g_parameters(self):
        return self.G.parameters()

    def fake(self, z):
        """G(z) for D's step, in which G is a constant: nothing of it is recorded."""
        with no_grad():
            return self.G(z)
