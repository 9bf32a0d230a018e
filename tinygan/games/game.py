"""The base class of all games: players, losses, random draws, samples."""

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, UserError
from ..nested import apply, map_nested
from ..nn import BatchNorm, Module, RandomRows, eval_mode, power_iteration, use_random
from ..numbers import is_number, is_whole
from ..random import Random, check_source
from ..tensor import Tensor, no_grad, op
from .checks import (activation_of, check_averages, check_game, check_latent, check_list,
                     check_terms, check_updates, depends_on, explain_none, find_activation,
                     get_networks, last_activation, list_joined, refuse_number, refuse_sigmoid)
from .losses import Loss
from .penalties import Penalty
from .views import View


class Game(Module):
    """A game of two players: a generator G and a discriminator D.

    A game makes three choices that combine freely:

    D's input   real(x) for the data and fake(x, z) for G's samples; D sees it through the `views`,
                see views.py
    loss        the functions of D's scores that the players minimise, see losses.py
    penalties   terms that depend on D's gradient, added to D's loss, see penalties.py

    A paper's game sets these and may add terms of its own, d_terms() and g_terms(). README.md in
    this folder shows how all of these enter a step, and has the rules for a game of your own. The
    training loop is in loop.py.

    G, D       Modules: G maps noise to samples, D maps its input to scores, (m, 1), or to k maps
               of scores for each sample, (m, k, h, w)
    z_size     the number of noise variables that G takes
    d_steps    the number of D's steps in an iteration, k: a number or a function of the iteration
    g_steps    the same for G

    The methods' argument x is a minibatch of data, and z is noise as latent() draws it. Each is a
    Tensor with m rows, or a nested tuple of such Tensors and label arrays (whole numbers). Views
    and penalties treat every Tensor in D's input as samples.

    A player may consist of several networks: they are attributes of the game, named in `d_players`
    and `g_players`.

    Raises UserError for an invalid loss, penalty or view, for a D that ends in a sigmoid (unless
    d_returns_scores is False), and for batch normalisation in D together with a penalty.
    """

    untracked = ("logged", "averages_are_stale", "always_eval", "penalties_due")
    loss = Loss()           # a subclass sets its default loss
    minibatch = None        # names of the arrays of a minibatch, for a game that takes certain ones
    group = None            # how many pictures side by side belong together, see pictures()
    d_players, g_players = ("D",), ("G",)
    d_returns_scores = True     # False if discriminate() computes scores from D's outputs
    unused = "error"        # passed to grad(); "zeros" if some parameters may get no gradient
    averages = None         # {name: average network}, see keep_average
    averages_are_stale = True            # whether the averages need new batch statistics
    always_eval = ()        # the parts that train() leaves in evaluation mode
    penalties_due = ()      # for each penalty, whether it is due in the present iteration
    logged = {}             # {name: array of one number}: the values to log of the last step

    def __init__(self, G: Module, D: Module, z_size: int = 100, loss: Loss | None = None,
                 penalties: Sequence[Penalty] = (), views: Sequence[View] = (),
                 d_steps: int | Callable = 1, g_steps: int | Callable = 1) -> None:
        if not is_whole(z_size, 0):
            raise UserError(f"z_size must be a whole number of noise variables, got {z_size!r:.60}")
        self.G, self.D = G, D
        self.z_size = z_size
        self.loss = self.loss if loss is None else loss
        check_list("penalties", penalties, Penalty, "R1(10.0)")
        check_list("views", views, View, "InstanceNoise(0.1)")
        self.penalties, self.views = list(penalties), list(views)
        self.d_steps, self.g_steps = d_steps, g_steps
        self.check()

    # D's input and its scores

    def real(self, x: Any) -> Any:
        """Return D's input for the data; by default x."""
        return x

    def generate(self, z: Any) -> Any:
        """Return G's samples for its inputs z; by default G(z), or G(*z) if z is a tuple.

        Every sample of a game comes from here, in training and afterwards.
        """
        return apply(self.G, z)

    def fake(self, x: Any, z: Any) -> Any:
        """Return D's input for G's samples; by default generate(z).

        D's step calls real() and fake() in no_grad(). So both are constants there, and a network in
        d_players is not trained through them: call it in discriminate().
        """
        return self.generate(z)

    def discriminate(self, inputs: Any) -> Any:
        """Return D's scores of its inputs, or a tuple (scores, further outputs...).

        By default it is D(inputs). The terms of both losses get the further outputs, such as the
        logits of classes.
        """
        return apply(self.D, inputs)

    def outputs(self, inputs: Any) -> Any:
        """Return discriminate() of the inputs as seen through the views.

        Raises TypeError for inputs that are None.
        """
        if inputs is None:
            raise TypeError("D's input is None: end real(), fake(), generate() and replay() of "
                            f"{type(self).__name__} with a return")
        for view in self.views:
            inputs = view(inputs)
        return self.discriminate(inputs)

    def score(self, inputs: Any) -> Tensor:
        """Return D's scores of its inputs as seen through the views."""
        return scores_in(self.outputs(inputs))

    def replay(self, fake: Any, z: Any) -> Any:
        """Return the fake inputs for D's step; by default `fake`.

        A game with an image pool returns a mixture of `fake` and older samples.
        """
        return fake

    # Further terms of a paper's losses

    def d_terms(self, x: Any, z: Any, fake: Any, out_real: Any, out_fake: Any) -> list[Tensor]:
        """List the further terms of D's loss, Tensors of one number; by default none.

        fake                D's input for G's samples, a constant
        out_real, out_fake  D's outputs for the data and for what replay() returned, by default G's
                            samples; see discriminate()

        D scored copies of its inputs. So a term that needs the derivative of a score with respect
        to D's input computes the score itself, as self.score(fake).
        """
        return []

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the further terms of G's loss, Tensors of one number; by default none.

        fake       D's input for G's samples
        out_fake   D's outputs for them, see discriminate()
        """
        return []

    # The losses

    def d_loss(self, x: Any, z: Any) -> Tensor:
        """Return D's loss, a Tensor of one number.

        It is the loss of D's scores, plus the penalties, plus d_terms().
        """
        with no_grad():         # D's step does not differentiate with respect to G
            real, fake = self.real(x), self.fake(x, z)
            replayed = self.replay(fake, z)
        # constants, even if fake() has used enable_grad()
        real, fake, replayed = detach(real), detach(fake), detach(replayed)
        # D(x, x) has a derivative with respect to each x alone, see renew()
        real, replayed = renew(real), renew(replayed)
        out_real, out_fake = self.outputs(real), self.outputs(replayed)
        loss = self._d_loss_of_scores(real, replayed, out_real, out_fake)
        return add_terms(loss, self.d_terms(x, z, fake, out_real, out_fake), self.d_parameters)

    def g_loss(self, x: Any, z: Any) -> Tensor:
        """Return G's loss, a Tensor of one number: the loss of D's scores plus g_terms()."""
        fake = self.fake(x, z)
        out_fake, real = self.outputs(fake), self.real(x)
        is_needed = self.loss.compares or depends_on(real, self.g_parameters)
        loss = self._g_loss_of_scores(self.outputs(real) if is_needed else None, out_fake)
        return add_terms(loss, self.g_terms(x, z, fake, out_fake), self.g_parameters)

    def losses(self, x: Any, z: Any) -> tuple[Tensor, Tensor]:
        """Return (d_loss, g_loss) for a simultaneous step.

        It is the same as both methods, but samples are generated once, and both losses use the same
        scores of them. D scores the data again if its real input depends on G's parameters, as
        BiGAN's does. In a game that overrides d_loss, g_loss or replay, or whose samples depend on
        D's parameters, each loss is computed by itself.
        """
        if self.overrides("d_loss", "g_loss", "replay"):
            return self.d_loss(x, z), self.g_loss(x, z)
        real, fake = self.real(x), self.fake(x, z)
        if depends_on(fake, self.d_parameters):         # G and D may share a layer
            return self.d_loss(x, z), self.g_loss(x, z)
        # BiGAN's D gets (x, E(x)) and (G(z), z). A penalty takes the derivative of D with respect
        # to x without that of E(x), and to z without that of G(z), see renew()
        constant, fake = renew(detach(real)), renew(fake)
        out_real, out_fake = self.outputs(constant), self.outputs(fake)
        loss = self._d_loss_of_scores(constant, fake, out_real, out_fake)
        d_terms = self.d_terms(x, z, detach(fake), out_real, out_fake)
        d_loss = add_terms(loss, d_terms, self.d_parameters)
        if depends_on(real, self.g_parameters):
            out_real = self.outputs(real)
        elif not self.loss.compares:
            out_real = None
        loss = self._g_loss_of_scores(out_real, out_fake)
        g_terms = self.g_terms(x, z, fake, out_fake)
        return d_loss, add_terms(loss, g_terms, self.g_parameters)

    def _d_loss_of_scores(self, real, fake, out_real, out_fake):
        """Return the loss of D's scores plus the penalties that are due."""
        a_real, a_fake = scores_in(out_real), scores_in(out_fake)
        if self.d_returns_scores:
            for part in list_joined(a_real):    # such as the scores of several discriminators
                refuse_sigmoid(activation_of(part))
        self.log_scores(a_real, a_fake)
        loss = self.loss.d(a_real, a_fake)
        for penalty in self._list_due():
            term = penalty(self.score, real, fake, a_real, a_fake)
            loss = add_terms(loss, [term], self.d_parameters,
                             f"the penalty {type(penalty).__name__}")
        return loss

    def _g_loss_of_scores(self, out_real, out_fake):
        """Return G's loss of D's scores.

        out_real   D's outputs for the data, if G's loss has a part for them: if it compares, or if
                   they depend on G's parameters, as those for BiGAN's (x, E(x)) do; else None
        """
        a_fake = scores_in(out_fake)
        if self.loss.compares:
            return self.loss.g(scores_in(out_real), a_fake)
        with explain_none(self.loss):
            loss = self.loss.g(None, a_fake)
        return loss if out_real is None else loss + self.loss.g_real(scores_in(out_real))

    def _list_due(self):
        """List the penalties that are a part of D's loss in the present iteration."""
        if len(self.penalties_due) == len(self.penalties):
            return list(itertools.compress(self.penalties, self.penalties_due))
        for penalty in self.penalties:
            if type(penalty).is_due is not Penalty.is_due:
                raise UserError(f"whether the penalty {type(penalty).__name__} is due depends on "
                                "the iteration: call the game's begin_iteration(i) before d_loss()")
        return self.penalties

    def log_scores(self, a_real: Tensor, a_fake: Tensor) -> None:
        """Set `logged` to the summary of the scores that the loss defines."""
        with no_grad():
            self.logged = self.loss.summarise(a_real, a_fake)

    def log(self, name: str, value: Tensor | Array) -> None:
        """Add one number, such as a term of a loss, to what is logged of this step.

        The number is copied, because it may be a state of the game, which changes. Raises TypeError
        if it is neither a Tensor nor an array: a step that was recorded for a GPU could not compute
        it again. Raises ValueError for the names of the losses, which are logged anyway.
        """
        if name in ("D loss", "G loss"):
            raise ValueError(f"the {name} is logged by the run: log this value by another name")
        if not hasattr(value, "dtype"):
            raise TypeError(f"{name} is logged as a Tensor or an array of one number, got a "
                            f"{type(value).__name__}")
        value = value.data if type(value) is Tensor else value
        self.logged = {**self.logged, name: value.copy()}

    # Random draws

    def latent(self, m: int, rng: Random) -> Any:
        """Draw G's input for m samples; by default z ~ N(0, I), (m, z_size).

        It is a Tensor, or a tuple of Tensors and label arrays, which G gets as its arguments.
        Raises TypeError for an rng of numpy's or Python's.
        """
        check_source(rng, "latent")
        return Tensor(rng.normal((m, self.z_size)))

    # Hooks of the training loop

    def begin(self, i: int) -> None:
        """Prepare the game for iteration i, for example fade in a layer; by default do nothing."""

    def after_d_step(self) -> None:
        """Restore a constraint on D's parameters after a step of D; by default nothing."""

    def after_g_step(self) -> None:
        """Update the game after a step of G; by default nothing."""

    def begin_iteration(self, i: int) -> None:
        """Prepare the views, the penalties and the game for iteration i.

        Raises UserError if begin() logs a value.
        """
        for view in self.views:
            view.begin(i)
        due = tuple(penalty.is_due(i) for penalty in self.penalties)
        if None in due:
            raise TypeError("is_due() of a penalty has returned None: end it with a return")
        if due != self.penalties_due:   # an equal tuple stays the same object, see graphs._Watch
            self.penalties_due = due
        before = self.logged
        self.begin(i)
        if self.logged is not before:
            raise UserError("begin() has logged a value, but D's step begins with nothing logged: "
                            "log it in d_terms() or g_terms()")

    # The players' parameters

    def d_parameters(self) -> list[Tensor]:
        """List D's parameters."""
        return self._parameters(self.d_players)

    def g_parameters(self) -> list[Tensor]:
        """List G's parameters."""
        return self._parameters(self.g_players)

    def _parameters(self, names):
        # above=(self,): a network may refer to its game, which is not a part of the network
        return list(dict.fromkeys(p for network in get_networks(self, names)
                                  for p in network.parameters(above=(self,))))

    # The modes

    def train(self, training: bool = True) -> "Game":
        """Switch to training mode, or with False to evaluation mode, and return self.

        Parts that were in evaluation mode before the game was, such as a network that is not to be
        trained, stay in it when the game returns to training mode.
        """
        if self.training:
            self.always_eval = [] if training else [
                part for _, part in self.modules() if not part.training]
        super().train(training)
        if training:
            for part in self.always_eval:
                part.training = False
        return self

    # Samples and pictures

    def sample(self, z: Any) -> Array:
        """Return G's samples for the input z, which latent() or inputs() drew: an array (m, ...).

        G is in evaluation mode, so no sample depends on the others, unless G has batch
        normalisation without running averages. If an average of G is kept, the samples are the
        average's. Layers that draw random numbers in evaluation mode too, such as
        nn.Dropout(always=True), draw the same ones for a sample whenever its input is the same.
        Do not call it while another thread trains the game, whose mode and networks it changes.
        Raises TypeError for a number of samples in place of their inputs, and for a G with several
        outputs.
        """
        refuse_number(z)
        with self.use_averages(), use_random(RandomRows(z)):
            samples = self.generate(z)
        if type(samples) is not Tensor:
            raise TypeError(f"G's output is a {type(samples).__name__} and not one Tensor: define "
                            "sample() in the class of the game, which returns the samples as an "
                            "array, and generates them in `with self.use_averages():`")
        return samples.data

    def sample_images(self, z: Any) -> Array:
        """Return sample(z), mapped from [-1, 1] to [0, 1] if it is computed by a tanh last."""
        images = self.sample(z)
        return (images + 1) / 2 if self._ends_in_tanh(z) else images

    def scale_images(self, images: Array) -> Array:
        """Return images in [0, 1], mapped to [-1, 1] if samples are computed by a tanh last.

        This is the inverse of sample_images(). D and an encoder take images in this range, in which
        they were trained.
        """
        return 2 * images - 1 if self._ends_in_tanh() else images

    def _ends_in_tanh(self, z=None):
        """Return whether samples, such as those for z, are computed by a tanh last."""
        own = self.overrides("sample")
        return (last_activation(self.G) if own else find_activation(self, z)) == "tanh"

    def draw_samples(self, n: int, rng: Random, piece: int = 100) -> np.ndarray:
        """Return n samples on the host, of noise by latent() from `rng`, `piece` at a time.

        Raises ValueError unless n and `piece` are whole numbers of at least 1, and TypeError for an
        rng of numpy's or Python's.
        """
        check_source(rng, "draw_samples")
        if not is_whole(n, 1) or not is_whole(piece, 1):
            raise ValueError("draw_samples draws a whole number of at least 1 samples in pieces of "
                             f"at least 1, got {n!r} in pieces of {piece!r}")
        sizes = [min(piece, n - start) for start in range(0, n, piece)]
        return np.concatenate([
            backend.to_numpy(self.sample(check_latent(self.latent(m, rng), m))) for m in sizes])

    def inputs(self, split: Any, n: int, rng: Random) -> Any:
        """Draw the inputs of n samples for sample(); by default latent(n, rng).

        A game whose G takes images draws them from `split`, a part of a data set (data.Split).
        """
        return check_latent(self.latent(n, rng), n)

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> Any:
        """Draw about n inputs, once per run, for the pictures that the run shows throughout.

        By default they are those of inputs(): for a plain GAN, its fixed noise.
        """
        return self.inputs(split, n, rng)

    def pictures(self, z: Any) -> tuple[Array, int | None]:
        """Return (images (N, C, H, W), columns) that show the samples for the fixed inputs z.

        The images form a grid with `columns` columns; None makes the grid square. The attribute
        `group` is the number of neighbours in a row that belong together, such as input and output.
        Samples that are no images, such as points, are not shown: then it returns (None, None).
        """
        images = self.sample_images(z)
        return images if images.ndim == 4 else None, None

    def reference_images(self, split: Any) -> Array:
        """Return the images in `split` that samples are compared with; by default split.images."""
        return split.images

    # The average of G's weights

    def keep_average(self, decay: float = 0.999) -> None:
        """Keep an exponential moving average of G's weights, to sample from (Yazici et al. 2019).

            p_average <- decay p_average + (1 - decay) p, after each step of G

        play() updates the average; a training loop of your own calls update_averages().

        `averages` holds a copy of each of G's networks with the averaged parameters. Samples of the
        average vary less from step to step than G's. Training does not use the average. The batch
        normalisation of G's average has statistics of its own, see measure_averages; all other
        buffers, and those of further networks of the player, such as an encoder, have the values of
        the trained network. The default decay is that of Karras et al. 2018. Raises ValueError for
        a decay outside [0, 1).
        """
        if not is_number(decay, 0) or decay >= 1:
            raise ValueError("the decay of an average is a number from 0 to below 1, got "
                             f"{decay!r}")
        self.averages = {name: copy.deepcopy(getattr(self, name)) for name in self.g_players}
        self.average_decay = decay
        self._changes += ((Game.keep_average, {"decay": decay}),)

    def update_averages(self) -> None:
        """Update the averages of G's weights after a step of G, if they are kept."""
        if self.averages is not None:
            for name, average in self.averages.items():
                update_average(average, getattr(self, name), self.average_decay)
            self.averages_are_stale = True

    @contextlib.contextmanager
    def use_averages(self) -> Iterator[None]:
        """Replace G's networks by their averages, if kept, inside the context.

        The game is in evaluation mode, and no operation is recorded. A sample() of a game's own
        generates in this context. Raises UserError for an average that was never updated although
        its network has changed.
        """
        own = {name: getattr(self, name) for name in self.g_players}
        check_updates(self)
        with eval_mode(self), no_grad():
            if self.averages is not None and self.averages_are_stale:
                self.measure_averages()
                self.averages_are_stale = False
            vars(self).update(self.averages or {})
            try:
                yield
            finally:
                vars(self).update(own)

    def touch(self) -> None:
        """Record that the parameters have been written to, as by load_state_dict."""
        super().touch()
        self.averages_are_stale = True

    def measure_averages(self) -> None:
        """Measure the batch normalisation statistics of G's average anew, on 1,000 samples of it.

        They are the means over ten batches; of a layer that G calls several times, later calls
        count more. The samples' noise is the same at each call. With the statistics of G, samples
        of the average can be worse than G's own. A game that overrides inputs(), generate() or
        sample() keeps G's statistics, because its G may not take the noise of latent(). play()
        refuses a G with such a layer in evaluation mode, whose statistics are not those of samples.
        """
        G, rng = self.averages.get("G"), Random(0)
        norms = self._norms_to_measure(G)
        if not norms:
            return
        # only batch normalisation is in training mode; its momentum is restored after an error too
        with eval_mode(G), use_random(rng), contextlib.ExitStack() as stack:
            for layer in norms:
                stack.callback(setattr, layer, "momentum", layer.momentum)
                layer.running_mean[...] = layer.running_var[...] = 0
            for i in range(10):
                for layer in norms:     # momentum 1 / (i + 1) gives the mean over the batches
                    layer.momentum, layer.training = 1 / (i + 1), True
                apply(G, self.latent(100, rng))

    def _norms_to_measure(self, G):
        """List the layers of G, or of its average, whose statistics measure_averages() measures."""
        if "G" not in self.averages or self.overrides("inputs", "generate", "sample"):
            return []
        return [layer for _, layer in G.modules()
                if isinstance(layer, BatchNorm) and layer.running_mean is not None]

    # What a game refuses

    def check(self, before_training: bool = False) -> None:
        """Raise UserError for choices that cannot be trained with.

        The constructor calls this method. The training loop calls it again with
        before_training=True before the first step, when a subclass has added all its networks.
        """
        check_game(self, before_training)
        if before_training and self.averages is not None:
            check_averages(self, self._norms_to_measure(self.G))

    def check_minibatch(self, x: Any) -> None:
        """Raise UserError unless the minibatch x has as many arrays as `minibatch` names."""
        n = len(x) if isinstance(x, tuple) else 1
        if self.minibatch is not None and n != len(self.minibatch):
            raise UserError(f"{type(self).__name__} takes minibatches ({', '.join(self.minibatch)})"
                            f", but those of the data have {n} array{'s' * (n != 1)}: see "
                            "data.Minibatches, or set `minibatch` in a game of your own")

    def overrides(self, *names: str) -> bool:
        """Return whether the game's class has a method of its own in place of one of Game's."""
        return any(getattr(type(self), name) is not getattr(Game, name) for name in names)


def add_terms(loss: Tensor, terms: Sequence[Tensor], parameters: Callable,
              what: str = "a term of d_terms() or g_terms()") -> Tensor:
    """Return a player's loss plus further terms, Tensors of one number; `what` says what they are.

    `parameters` is the method d_parameters or g_parameters. Raises TypeError for other terms, and
    for a computed term that depends on none of the player's parameters: it would have no gradient.
    """
    if type(loss) is not Tensor:        # the training loop refuses it, with the player's name
        return loss
    check_terms(loss, terms, parameters, what)
    return sum(terms, loss)


def require(split: Any, name: str) -> Any:
    """Return the split. Raises UserError if it is None or has no array `name`."""
    if split is None:
        raise UserError("the pictures of this game show images: give Run a part of a data set, "
                        "such as source=data.valid")
    split.require(name)
    return split


def detach(inputs: Any) -> Any:
    """Return D's inputs with a new leaf of the same array for each Tensor that was computed."""
    return map_nested(lambda t: Tensor(t.data) if type(t) is Tensor and t.parents else t, inputs)


def renew(inputs: Any) -> Any:
    """Return D's inputs with a Tensor of the same array, computed from it, for each Tensor.

    A gradient with respect to the new one does not pass through other uses of the old one, such as
    a second one among D's inputs.
    """
    return map_nested(lambda t: op(t.data, (t, lambda g, y: g)) if type(t) is Tensor else t, inputs)


def scores_in(outputs: Any) -> Tensor:
    """Return D's scores: its outputs, or the first of them if they are a tuple.

    Raises UserError unless they are a Tensor (m, 1) or (m, k, h, w).
    """
    scores = outputs[0] if isinstance(outputs, tuple) else outputs
    if type(scores) is not Tensor or scores.ndim != 4 and scores.shape[1:] != (1,):
        shape = f" of shape {scores.shape}" if hasattr(scores, "shape") else ""
        raise UserError("D must return one score for each sample, a Tensor (m, 1), or maps of "
                        "scores, (m, k, h, w), or a tuple that begins with them, not a "
                        f"{type(scores).__name__}{shape}" +
                        (": k scores for each sample are maps of one pixel, "
                         "scores.reshape(m, k, 1, 1)" if getattr(scores, "ndim", 0) == 2 else ""))
    return scores


def update_average(average: Module, network: Module, decay: float) -> None:
    """Update an exponential moving average of a network's weights.

    The average's buffers are set to the network's values. Only u and v of spectral norm, which
    belong to the averaged weight, are updated by a power iteration instead.
    """
    with backend.together():
        for p_average, p in zip(average.parameters(), network.parameters()):
            backend.move_average(p.data, 1.0, 1 - decay, p_average.data)
            p_average.touch()
    for (_, part), (_, original) in zip(average.modules(), network.modules()):
        if hasattr(part, "weight_u"):
            power_iteration(part)
        else:
            for name, buffer in original.own_arrays(backend.xp.ndarray):
                if getattr(vars(part).get(name), "shape", None) == buffer.shape:
                    vars(part)[name][...] = buffer
                else:               # an array that forward() has stored
                    vars(part)[name] = buffer.copy()
