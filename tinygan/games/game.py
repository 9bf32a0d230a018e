"""What all games have in common."""

import contextlib
import copy

from .. import backend, ops
from ..backend import UserError
from ..nested import map_nested
from ..nn import (BatchNorm, Flatten, Module, Reshape, Sequential, Sigmoid, Tanh, Upsample,
                  evaluating, power_iteration)
from ..random import Random
from ..tensor import Tensor, no_grad
from .losses import Loss
from .penalties import Penalty, tensors_in
from .views import View


class Game(Module):
    """Two players, G and D, and three choices that combine freely:

    what D is shown   real(x) of the data and fake(x, z) of G's work, through the `views`;
                      verdict() is D's on it
    loss              what the scores cost each player, see losses.py
    penalties         on D's slope, added to D's loss, see penalties.py

    A paper is a choice of each, and its own terms, d_terms() and g_terms(). The loop that plays is
    in loop.py.

    G, D       Modules: G maps noise to samples, D what it is shown to scores (m, 1)
    z_size     how many numbers of noise G takes
    d_steps    D's steps in an iteration, k; may be a function of the iteration
    g_steps    G's steps in an iteration; likewise

    x is a minibatch of data and z what latent() drew: Tensors (m, ...), or nested tuples of Tensors
    and arrays of whole numbers (labels), as the game says. What is a Tensor is taken for a sample,
    by views and penalties too. A player may be several networks: they are attributes, named in
    `d_players` and `g_players`. A number that changes while the game is played is an array, so that
    a checkpoint keeps it.

    Raises UserError for a loss, penalties or views that are none, a D that ends in a sigmoid, and
    batch normalisation in D where a penalty rules it out.
    """

    notes = ("seen", "stale")
    loss = None             # of the class, where the constructor is given none
    d_players, g_players = ("D",), ("G",)
    unused = "error"        # "zeros" where a stage leaves some parameters without a gradient
    averages = None         # see keep_average
    stale = True            # whether the averages' batch statistics are still G's
    seen = {}               # what the last losses saw, {name: array of one number}, on the device

    def __init__(self, G, D, z_size=100, loss=None, penalties=(), views=(), d_steps=1, g_steps=1):
        self.G, self.D = G, D
        self.z_size = z_size
        self.loss = self.loss if loss is None else loss
        for name, chosen, kind in (("penalties", penalties, Penalty), ("views", views, View)):
            if not isinstance(chosen, (list, tuple)) or not all(
                    isinstance(each, kind) for each in chosen):
                raise UserError(f"{name} are a list of games.{name}.{kind.__name__} objects, such "
                                f"as [{'R1(10.0)' if kind is Penalty else 'InstanceNoise(0.1)'}], "
                                f"got {chosen!r:.60}")
        self.penalties, self.views = list(penalties), list(views)
        self.d_steps, self.g_steps = d_steps, g_steps
        self.check()

    def check(self, to_play=False):
        """Raise UserError for choices that the game cannot be played with. It is called again
        before the first step, `to_play`, when all networks are there."""
        own = type(self).d_loss is not Game.d_loss
        if not isinstance(self.loss, Loss) and (self.loss is not None or to_play and not own):
            raise UserError("a game's loss is a games.losses.Loss object, such as losses.Hinge(), "
                            f"got {self.loss!r:.60}")
        if own and self.penalties:
            raise UserError(f"{type(self).__name__} defines d_loss itself, which leaves the "
                            "penalties out: define d_terms or a Loss instead")
        for D in [getattr(self, name) for name in self.d_players if hasattr(self, name)]:
            last = last_layer(D, (Reshape, Flatten, Upsample))
            if isinstance(last, Sigmoid) or last is ops.sigmoid:
                raise UserError("D ends in a sigmoid, but gives a logit or a score, of any size: "
                                "leave the sigmoid out; where a loss needs one, it is in the loss")
            if self.penalties:
                refuse_batch_norm(D)

    # What D is shown, and its verdict

    def real(self, x):
        """Return what D is shown of the data: x."""
        return x

    def fake(self, x, z):
        """Return what D is shown of G's work: G(z)."""
        return apply(self.G, z)

    def verdict(self, shown):
        """Return D's scores of what it is shown, (m, 1): D(shown)."""
        return apply(self.D, shown)

    def score(self, shown):
        """Return D's verdict on what it is shown, as it looks through the views."""
        for view in self.views:
            shown = view(shown)
        return self.verdict(shown)

    def replay(self, fake, z):
        """Return what D is shown in its own step for fake(x, z), here itself. A game that keeps
        older samples mixes them in."""
        return fake

    # What a paper's losses have beside the scores' cost and the penalties

    def d_terms(self, x, z, fake):
        """Return the list of further terms of D's loss, Tensors of one number: none."""
        return []

    def g_terms(self, x, z, fake):
        """Return the list of further terms of G's loss: none."""
        return []

    # The losses

    def d_loss(self, x, z):
        """Return what D's parameters minimise, a Tensor of one number: the loss of D's scores, the
        penalties, and the game's own terms."""
        z, drawn = self._split(z)
        with no_grad():                     # constants in D's step
            real = self.real(x)
        a_real = self.score(real)
        with no_grad():
            fake = self.fake(x, z)
            shown = self.replay(fake, z)
        loss = self._d_loss(real, shown, a_real, self.score(shown), drawn)
        return sum(self.d_terms(x, z, fake), loss)

    def g_loss(self, x, z):
        """Return what G's parameters minimise, a Tensor of one number."""
        z, _ = self._split(z)
        fake = self.fake(x, z)
        loss = self._g_loss(self.score(fake), self.real(x))
        return sum(self.g_terms(x, z, fake), loss)

    def losses(self, x, z):
        """Return (d_loss, g_loss) for simultaneous play, from one forward pass; or, of a game that
        defines one of them or replay() itself, from two."""
        if any(getattr(type(self), name) is not getattr(Game, name)
               for name in ("d_loss", "g_loss", "replay")):
            return self.d_loss(x, z), self.g_loss(x, z)
        z, drawn = self._split(z)
        real = self.real(x)
        shown = map_nested(constant, real)      # of (x, E(x)), too, a penalty has partial slopes
        a_real = self.score(shown)
        fake = self.fake(x, z)
        a_fake = self.score(fake)
        d_loss = sum(self.d_terms(x, z, map_nested(constant, fake)),
                     self._d_loss(shown, fake, a_real, a_fake, drawn))
        return d_loss, sum(self.g_terms(x, z, fake), self._g_loss(a_fake, real, a_real))

    def _d_loss(self, real, fake, a_real, a_fake, drawn):
        self.saw(a_real, a_fake)
        loss = self.loss.d(a_real, a_fake)
        for penalty, numbers in zip(self.penalties, drawn):
            loss = loss + penalty(self.score, real, fake, a_real, a_fake, numbers)
        return loss

    def _g_loss(self, a_fake, real, a_real=None):
        """Return G's loss of the scores; `a_real`, if given, are those of the data as constants."""
        # G has a hand in what D is shown of the data where that was computed, as BiGAN's (x, E(x))
        has_part = any(t.parents for t in tensors_in(real))
        if has_part or self.loss.compares and a_real is None:
            a_real = self.score(real)
        if self.loss.compares:
            return self.loss.g(a_real, a_fake)
        loss = self.loss.g(None, a_fake)
        return loss + self.loss.g_real(a_real) if has_part else loss

    def scores(self, x, z):
        """Return D's scores of the data and of G's work for D's step, (m, 1) each, and note their
        means; for a game that defines d_loss itself."""
        a_real = self.score(self.real(x))
        with no_grad():
            fake = self.fake(x, z)
        a_fake = self.score(fake)
        self.saw(a_real, a_fake)
        return a_real, a_fake

    def saw(self, a_real, a_fake):
        """Note in `seen` what is logged of the scores."""
        with no_grad():
            self.seen = (self.loss or Loss()).seen(a_real, a_fake)

    # What is drawn at random

    def latent(self, m, rng):
        """Return what G maps to m samples: z ~ N(0, I), (m, z_size)."""
        return Tensor(rng.normal((m, self.z_size)))

    def noise(self, m, rng, i):
        """Return all that a step of iteration i draws at random for m samples: z, or, where a
        penalty needs random numbers, (z, [those of each penalty])."""
        z = self.latent(m, rng)
        if any(penalty.draws for penalty in self.penalties):
            return z, [penalty.draw(m, rng) for penalty in self.penalties]
        return z

    def _split(self, z):
        if any(penalty.draws for penalty in self.penalties):
            return z
        return z, [None] * len(self.penalties)

    # What happens between the steps

    def begin(self, i):
        """Prepare for iteration i, such as a stage's fade-in: nothing here."""

    def after_d_step(self):
        """Restore a constraint on D's parameters, after each of its steps: nothing here."""

    def after_g_step(self):
        """Do what is to be done after each of G's steps: nothing here."""

    def start(self, i):
        """Start iteration i: the views' noise, and begin(i)."""
        for view in self.views:
            view.begin(i)
        self.begin(i)

    def end_g_step(self):
        """End a step of G: after_g_step(), and the averages of G's weights, where they are kept,
        move."""
        self.after_g_step()
        if self.averages is not None:
            for name, average in self.averages.items():
                follow(average, getattr(self, name), self.decay)
            self.stale = True

    def keep_average(self, decay=0.999):
        """Keep from now on, in `averages`, a copy of each of G's networks whose parameters are
        an exponential moving average of its own: p_average <- decay p_average + (1 - decay) p after
        each of G's steps (Yazici et al. 2019; the default is the decay of Karras et al. 2018). It
        samples more steadily than G; it does not play. Its batch normalisation has a mean and
        variance measured with its own weights, see measure_averages. Raises ValueError for a decay
        not in [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"an average needs a decay from 0 to below 1, got {decay}")
        self.averages = {name: copy.deepcopy(getattr(self, name)) for name in self.g_players}
        self.decay = decay
        self._changes.append((Game.keep_average, {"decay": decay}))

    # Samples and pictures

    def sample(self, z):
        """Return G's samples for z as latent() gives it, an array (m, ...)."""
        with self.sampling():
            return apply(self.G, z).data

    @contextlib.contextmanager
    def sampling(self):
        """Context in which G's networks are their averages, where these are kept, in evaluation, so
        that no sample depends on the others; nothing is recorded."""
        own = {name: getattr(self, name) for name in self.g_players}
        with contextlib.ExitStack() as stack, no_grad():
            stack.callback(vars(self).update, own)
            if self.averages is not None and self.stale:
                self.measure_averages()
                self.stale = False
            for name, network in (self.averages or own).items():
                setattr(self, name, stack.enter_context(evaluating(network)))
            yield

    def touch(self):
        super().touch()
        self.stale = True       # as after load_state_dict

    def measure_averages(self):
        """Set the running mean and variance of batch normalisation in G's average to those of 1,000
        of its own samples, always the same. With G's, which fit its weights less well, its samples
        can be worse than G's own. They stay G's in a game that has its own inputs() or sample(), as
        G may then take something else than latent() draws."""
        if (type(self).inputs, type(self).sample) != (Game.inputs, Game.sample):
            return
        G, rng = self.averages.get("G"), Random(0)
        norms = [layer for _, layer in G.modules() if isinstance(layer, BatchNorm)] if G else []
        if not norms:
            return
        before = [layer.momentum for layer in norms]
        with evaluating(G):             # all but these: dropout would draw masks
            for i in range(10):
                for layer in norms:
                    layer.momentum, layer.training = 1 / (i + 1), True      # the mean of all so far
                apply(G, self.latent(100, rng))
        for layer, momentum in zip(norms, before):
            layer.momentum = momentum

    def inputs(self, split, n, rng):
        """Return what sample() maps to n samples: latent(n, rng). A game whose G takes images takes
        them from `split`, a data set (see data.Split)."""
        return self.latent(n, rng)

    def exhibits(self, split, n, rng):
        """Return the inputs whose pictures a run shows, about n of them: inputs() by default. They
        are drawn once."""
        return self.inputs(split, n, rng)

    def shown(self, z):
        """Return the pictures of z as exhibits() gives it: (images (N, C, H, W), columns), the
        columns None for a square grid."""
        return self.sample(z), None

    def targets(self, split):
        """Return the images of a data set to which samples are to be compared."""
        return split.images

    # The players' parameters

    def d_parameters(self):
        """Return the list of D's parameters."""
        return self._parameters(self.d_players)

    def g_parameters(self):
        """Return the list of G's parameters."""
        return self._parameters(self.g_players)

    def _parameters(self, names):
        # a network may refer to its game, which does not make the other player a part of it
        return list(dict.fromkeys(p for name in names
                                  for p in getattr(self, name).parameters(above=(self,))))


def constant(t):
    """Return a Tensor that was computed as one that was not; others, and labels, as they are."""
    return Tensor(t.data) if type(t) is Tensor and t.parents else t


def apply(network, inputs):
    """Return network(inputs), or, of a tuple of inputs, network(*inputs)."""
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def follow(kept, G, decay):
    """Move the parameters of `kept` towards those of G. Its buffers become G's, but for u and v of
    spectral norm, which follow its own weights by a power iteration."""
    for average, p in zip(kept.parameters(), G.parameters()):
        average.data += (1 - decay) * (p.data - average.data)
    for (_, there), (_, here) in zip(kept.modules(), G.modules()):
        if hasattr(there, "weight_u"):
            power_iteration(there)
        else:
            for name, buffer in here.own_arrays(backend.xp.ndarray):
                vars(there)[name][...] = buffer


def last_layer(network, but=()):
    """Return the layer that computes a network's output, as far as it is Sequential; of the classes
    `but`, which only move numbers, the one before."""
    if not _is_sequential(network) or not network.layers:
        return network
    lasts = (last_layer(layer, but) for layer in reversed(network.layers))
    return next((last for last in lasts if not (isinstance(last, but) or _is_sequential(last))),
                network.layers[-1])


def _is_sequential(network):
    """Return whether it is the layers one after the other: an heir may have its own forward."""
    return getattr(type(network), "forward", None) is Sequential.forward


def refuse_other_range(G, x):
    """Raise UserError if G ends in an activation whose range is not that of a minibatch x of images
    (here: samples of 16 numbers or more): D could tell them apart by their range alone."""
    last = last_layer(G, (Reshape, Flatten, Upsample))
    images = [t for t in tensors_in(x) if t.size >= 16 * len(t) > 0]
    if isinstance(last, Sigmoid) or last is ops.sigmoid:
        name, low, high = "a sigmoid", 0, 1
    elif isinstance(last, Tanh) or last is ops.tanh:
        name, low, high = "a tanh", -1, 1
    else:
        return
    if not images:
        return
    least, most = float(images[0].data.min()), float(images[0].data.max())
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
