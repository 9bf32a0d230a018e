"""What all games have in common."""

import copy

from .. import backend
from ..backend import UserError
from ..nn import BatchNorm, Module, Sequential, Sigmoid, Tanh, evaluating, power_iteration
from ..tensor import Tensor, no_grad


class Game(Module):
    """Two players, G and D, with a loss each. Subclasses define the losses; the loop is in loop.py.

    G maps noise to samples, D samples to one number each, a score or a logit: both Modules. A game
    whose players are more than one network each sets them as further attributes and overrides the
    two lists of parameters.

    x is a minibatch of data, (m, ...), and z what noise() drew; either may be a tuple, where the
    game says so. Raises UserError for a D that ends in a sigmoid.
    """

    notes = ("seen",)
    d_steps = 1         # discriminator steps per iteration, k; may be a function of the iteration
    G_average = None    # see keep_average
    seen = {}           # what the last losses saw, {name: array of one number}, on the device

    def __init__(self, G, D, z_size=100):
        if isinstance(last_layer(D), Sigmoid):
            raise UserError("D ends in a sigmoid, but gives a logit or a score, of any size: leave "
                            "the sigmoid out; where a loss needs one, it is in the loss")
        self.G, self.D = G, D
        self.z_size = z_size

    def latent(self, m, rng):
        """What G maps to m samples: z ~ N(0, I), (m, z_size)."""
        return Tensor(rng.normal((m, self.z_size)))

    def noise(self, m, rng, i):
        """All that a step of iteration i draws at random for m samples: here z."""
        return self.latent(m, rng)

    def sample(self, z):
        """G(z), an array (m, ...), for z as latent() gives it: of the average of G's weights, where
        one is kept; and evaluating, so that no sample depends on the others."""
        G = self.G if self.G_average is None else self.G_average
        with evaluating(G), no_grad():
            return G(z).data

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

    def after_g_step(self):
        """The average of G's weights, if one is kept, follows each of G's steps."""
        if self.G_average is not None:
            follow(self.G_average, self.G, self.decay)

    def keep_average(self, decay=0.999):
        """Keep from now on, as G_average, a copy of G whose parameters are an exponential moving
        average of G's: p_average <- decay p_average + (1 - decay) p after each of G's steps
        (Yazici et al. 2019; the default is the decay of Karras et al. 2018). It samples more
        steadily than G; it does not play. Raises ValueError for a decay not in [0, 1)."""
        if not 0 <= decay < 1:
            raise ValueError(f"an average needs a decay from 0 to below 1, got {decay}")
        self.G_average, self.decay = copy.deepcopy(self.G), decay

    def d_parameters(self):
        return self.D.parameters()

    def g_parameters(self):
        return self.G.parameters()

    def fake(self, z):
        """G(z) for D's step, in which G is a constant: nothing of it is recorded."""
        with no_grad():
            return self.G(z)

    def scores(self, x, z):
        """D(x) and D(G(z)) for D's step, (m, 1) each."""
        real, fake = self.D(x), self.D(self.fake(z))
        self.saw(real, fake)
        return real, fake

    def saw(self, real, fake):
        """Note the mean scores of real and generated samples in `seen`."""
        with no_grad():
            self.seen = {"D(x)": real.mean().data, "D(G(z))": fake.mean().data}


def follow(kept, G, decay):
    """Move the parameters of `kept` towards those of G. Its buffers become G's, but for u and v of
    spectral norm, which follow its own weights by a power iteration."""
    for average, p in zip(kept.parameters(), G.parameters()):
        average.data += (1 - decay) * (p.data - average.data)
    for (_, there), (_, here) in zip(kept.modules(), G.modules()):
        if hasattr(there, "weight_u"):
            power_iteration(there)
        else:
            for name, buffer in vars(here).items():
                if isinstance(buffer, backend.xp.ndarray) and name not in here.notes:
                    vars(there)[name][...] = buffer


def last_layer(network):
    """The layer that computes a network's output, as far as it is Sequential."""
    while isinstance(network, Sequential) and network.layers:
        network = network.layers[-1]
    return network


def refuse_other_range(G, x):
    """Raise UserError if G ends in an activation whose range is not that of a minibatch x of
    images: D could tell them apart by their range alone."""
    ranges = {Sigmoid: ("a sigmoid", 0, 1), Tanh: ("a tanh", -1, 1)}
    activation = ranges.get(type(last_layer(G)))
    if activation is None or type(x) is not Tensor or x.ndim != 4:
        return
    name, low, high = activation
    least, most = float(x.data.min()), float(x.data.max())
    slack = 0.05            # pixels may have a little noise
    if not low - slack <= least <= most <= high + slack or low < 0 <= least:
        raise UserError(f"G ends in {name}, whose images lie in [{low}, {high}], but the data has "
                        f"pixels from {least:.3g} to {most:.3g}: end G in another activation (a "
                        "sigmoid for [0, 1], a tanh for [-1, 1]), or scale the data")


def refuse(D, wrong, why):
    """Raise UserError with the reason `why` if wrong(layer) for a layer of D."""
    for name, layer in D.modules():
        if wrong(layer):
            place = f"layer {name.rstrip('.')} of D" if name else "D"
            raise UserError(f"{place} is a {type(layer).__name__}: {why}")


def refuse_batch_norm(D):
    """Raise UserError if D normalises over the batch: a penalty on the gradient by one sample needs
    a D(x) that depends on no other (Gulrajani et al. 2017, section 4)."""
    refuse(D, lambda layer: isinstance(layer, BatchNorm), "a gradient penalty is one sample's and "
           "rules out normalisation over the batch: leave it out, or use nn.LayerNorm")
