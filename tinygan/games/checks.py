"""What a game refuses, and what it finds out about its networks and samples to do so.

find_activation() also tells how samples become pictures, and depends_on() which losses need D's
scores of the data.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend, ops
from ..backend import UserError
from ..nested import flatten_nested, map_nested, tensors_in
from ..nn import (BatchNorm, Flatten, Heads, Module, Reshape, Sigmoid, Tanh, Upsample, eval_mode,
                  is_sequential, use_random)
from ..nn.module import check_names
from ..numbers import is_number
from ..random import Random
from ..tensor import NoTensorError, Tensor, ancestors, enable_grad
from .losses import Loss

SLACK = 0.05        # how far pixels may be outside their range: they may have a little noise


def last_layer(network: Any) -> Any:
    """Return the layer that computes the output of a network of Sequentials.

    Layers that only rearrange or repeat numbers are passed over. Of Heads it is the layer of the
    first output.
    """
    if isinstance(network, Heads) and network.heads:
        return last_layer(network.heads[0])
    if not is_sequential(network) or not network.layers:
        return network
    for layer in reversed(network.layers):
        last = last_layer(layer)
        # an empty Sequential is its own last layer
        if not (isinstance(last, (Reshape, Flatten, Upsample)) or is_sequential(last)):
            return last
    return network.layers[-1]


def last_activation(network: Any) -> str | None:
    """Return "sigmoid" or "tanh" if a network of Sequentials ends in it, else None."""
    last = last_layer(network)
    if isinstance(last, Sigmoid) or last is ops.sigmoid:
        return "sigmoid"
    return "tanh" if isinstance(last, Tanh) or last is ops.tanh else None


def activation_of(y: Tensor) -> str | None:
    """Return "sigmoid" or "tanh" if the Tensor y was computed by it last, else None.

    Changes of shape are passed over, and of joined Tensors the first counts. If the computation was
    not recorded, it is None.
    """
    y = next(list_joined(y))
    _, rule = y.parents[0] if y.parents else (None, None)
    return "sigmoid" if rule is ops.sigmoid_rule else "tanh" if rule is ops.tanh_rule else None


def list_joined(y: Tensor) -> Iterator[Tensor]:
    """Yield the Tensors that the Tensor y joins, or y itself; changes of shape are passed over."""
    while y.base is not None:
        y = y.base
    if y.parents and getattr(y.parents[0][1], "func", None) is ops.concat_rule:
        for part, _ in y.parents:
            yield from list_joined(part)
    else:
        yield y


def find_activation(game: Any, z: Any = None) -> str | None:
    """Return "sigmoid" or "tanh" if a game's samples are computed by it last, else None.

    The last layer of G may tell it. Otherwise, and if the game has a generate() of its own, such as
    2 G(z) - 1, two samples are computed: for the first two inputs of z, or all samples for z if
    they need each other; without z, for noise of latent(), which may not be all that G needs.
    """
    of_G, rng = last_activation(getattr(game, "G", None)), Random(0)
    if of_G and not game.overrides("generate"):
        return of_G
    inputs = [lambda: game.latent(2, rng)] if z is None else [
        lambda: map_nested(lambda a: a[:2], z), lambda: z]
    for draw in inputs:
        with contextlib.suppress(Exception), eval_mode(game), enable_grad(), use_random(rng):
            if type(y := game.generate(draw())) is Tensor:
                return activation_of(y)
    return of_G


def refuse_number(z: Any) -> None:
    """Raise TypeError if the inputs of sample() are a number."""
    if isinstance(z, (int, np.integer)):
        raise TypeError(f"sample takes the inputs of G, such as latent({z}, tinygan.rng), not "
                        "the number of samples")


def refuse_sigmoid(activation: str | None) -> None:
    """Raise UserError if the last activation of D, or of what computed its scores, is a sigmoid."""
    if activation == "sigmoid":
        raise UserError("D ends in a sigmoid, but its output must be a logit or a score, any real "
                        "number: remove the sigmoid, since a loss that needs one applies it; or, "
                        "if the sigmoid is meant, set d_returns_scores = False in the game's class")


def refuse_other_range(game: Any, x: Any) -> None:
    """Raise UserError if the range of G's last activation is not that of the images in x.

    D could tell data and samples apart by their range alone. Samples of 16 numbers or more are
    taken for images here, flattened ones too.
    """
    images = [t for t in tensors_in(x) if t.size >= 16 * len(t) > 0]
    if not images:
        return
    # a fake() of the game's own may return another range than generate(): G's last layer counts
    name = (last_activation(getattr(game, "G", None)) if game.overrides("fake") else
            find_activation(game))
    if name is None:
        return
    low, high = (0, 1) if name == "sigmoid" else (-1, 1)
    least, most = _find_range(images)
    if not low - SLACK <= least <= most <= high + SLACK or low < 0 <= least:
        raise UserError(f"G ends in a {name}, whose images lie in [{low}, {high}], but the data "
                        f"has pixels from {least:.3g} to {most:.3g}: end G in another activation "
                        "(a sigmoid for [0, 1], a tanh for [-1, 1]), or scale the data")


def refuse_wrong_pictures(game: Any, x: Any) -> None:
    """Raise UserError if pictures of G's samples would be wrong, because x is not in [0, 1].

    G learns the range of the images in the minibatch x, (m, C, H, W). Game.sample_images() knows it
    if G ends in a tanh; otherwise it returns the samples as pixels from 0 to 1, unless the game has
    a sample_images() of its own.
    """
    images = [a for a in flatten_nested(x) if getattr(a, "ndim", 0) == 4 and a.dtype.kind == "f"]
    if not images or game.overrides("sample_images") or find_activation(game):
        return
    least, most = _find_range(images)
    if not -SLACK <= least <= most <= 1 + SLACK:
        raise UserError("the pictures of a run show G's samples as pixels from 0 to 1, but the "
                        f"data has pixels from {least:.3g} to {most:.3g}: scale the data to "
                        "[0, 1], or to [-1, 1] with a G that ends in nn.Tanh(), or define the "
                        "game's sample_images(), to [0, 1], and its inverse scale_images()")


def _find_range(images):
    """Return (least, most) of the last images: in a pair from image to image, of the outputs."""
    last = images[-1].data if type(images[-1]) is Tensor else images[-1]
    return float(last.min()), float(last.max())


@contextlib.contextmanager
def explain_none(loss: Any) -> Iterator[None]:
    """Raise TypeError for an error of loss.g() in the context that is due to a_real = None."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        if "NoneType" not in str(error) and not isinstance(error, NoTensorError):
            raise
        raise TypeError(f"{error} (in {type(loss).__name__}.g() the scores of the data are None, "
                        "unless the class sets compares = True)") from error


def refuse(D: Module, is_wrong: Callable[[Module], bool], why: str) -> None:
    """Raise UserError with the reason `why` if is_wrong(layer) for a layer of D."""
    for name, layer in D.modules():
        if is_wrong(layer):
            place = f"layer {name.rstrip('.')} of D" if name else "D"
            raise UserError(f"{place} is a {type(layer).__name__}: {why}")


def refuse_batch_norm(D: Module) -> None:
    """Raise UserError if D has batch normalisation (Gulrajani et al. 2017, section 4).

    A gradient penalty uses the gradient of D(x) with respect to one sample x, so D(x) must not
    depend on the other samples.
    """
    refuse(D, lambda layer: isinstance(layer, BatchNorm), "a gradient penalty needs a D(x) that "
           "depends on one sample alone: leave batch normalisation out, or use nn.LayerNorm")


def refuse_tanh(name: str, network: Any) -> None:
    """Raise UserError if a network, by the name `name`, ends in a tanh."""
    if last_activation(network) == "tanh":
        raise UserError(f"{name} ends in a tanh, whose images lie in [-1, 1], but this game's "
                        "images lie in [0, 1]: end it in a sigmoid, and scale the data to [0, 1]")


def check_images(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise UserError unless images in a minibatch lie in [0, 1] and have the shape (C, H, W)."""
    if x.shape[1:] != shape:
        raise UserError(f"the networks are for images of the shape {shape}, but those of the data "
                        f"have {x.shape[1:]}: make the networks for these")
    least, most = _find_range([x])
    if not -SLACK <= least <= most <= 1 + SLACK:
        raise UserError("this game's images lie in [0, 1], but the data has pixels from "
                        f"{least:.3g} to {most:.3g}: scale the data to [0, 1]")


def check_weights(**weights: float) -> None:
    """Raise UserError unless the numbers of penalties or terms, by name, are at least 0."""
    for name, weight in weights.items():
        if not is_number(weight, 0):
            raise UserError(f"{name} must be a number of at least 0, got {weight!r}")


def check_game(game: Any, before_training: bool) -> None:
    """Raise UserError for a game's choices that cannot be trained with, see Game.check()."""
    check_made(game)
    check_names(type(game), "d_players", "g_players", "minibatch")
    own = game.overrides("d_loss")
    if not isinstance(game.loss, Loss):
        raise UserError("a game's loss must be a games.losses.Loss, such as losses.Hinge(), got "
                        f"{game.loss!r:.60}")
    if before_training and type(game.loss) is Loss and not own:
        raise UserError("the game has no loss: give one, such as loss=losses.Hinge()")
    if own and game.penalties:
        raise UserError(f"{type(game).__name__} defines d_loss itself, so its penalties would have "
                        "no effect: define d_terms or a Loss instead")
    for D in [getattr(game, name) for name in game.d_players if hasattr(game, name)]:
        if game.d_returns_scores:
            refuse_sigmoid(last_activation(D))
        if game.penalties:
            refuse_batch_norm(D)


def check_made(game: Any) -> None:
    """Raise UserError unless the constructor of Game has been called."""
    if "penalties" not in vars(game):
        raise UserError(f"{type(game).__name__}.__init__() has not called super().__init__(G, D, "
                        "...), which sets a game's networks and choices")


def check_list(name: str, chosen: Any, kind: type, example: str) -> None:
    """Raise UserError unless the penalties or views of a game are a list of their kind."""
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(each, kind) for each in chosen):
        raise UserError(f"{name} must be a list of games.{name}.{kind.__name__} objects, such as "
                        f"[{name}.{example}], got {chosen!r:.60}")


def get_networks(game: Any, names: tuple[str, ...]) -> list[Module]:
    """Return a player's networks. Raises UserError for a name that is not that of a Module."""
    check_made(game)
    for name in names:
        if not isinstance(network := getattr(game, name, None), Module):
            raise UserError(f"{name} must be a Module, such as nn.Sequential(...), " + (
                f"got {network!r:.60}" if hasattr(game, name) else
                f"but {type(game).__name__} has no attribute of this name"))
    return [getattr(game, name) for name in names]


def check_averages(game: Any, norms: list[Module]) -> None:
    """Raise UserError for averages that do not fit the networks, or `norms`, layers of G."""
    for name, average in game.averages.items():
        if [p.shape for p in average.parameters()] != [
                p.shape for p in getattr(game, name).parameters()]:
            raise UserError(f"{name} has other parameters than its average: call keep_average() "
                            "again after changing a network")
    if game.training and not all(layer.training for layer in norms):
        raise UserError("G has batch normalisation in evaluation mode, and the average of G would "
                        "measure its statistics anew: leave all of G in training mode, or keep no "
                        "average")


def check_updates(game: Any) -> None:
    """Raise UserError for an average that was never updated although its network has changed."""
    for name, average in (game.averages or {}).items():
        for p_average, p in zip(average.parameters(), getattr(game, name).parameters()):
            if p_average.touched == p_average.age < p.touched:
                raise UserError(f"the average of {name} has not been updated since {name} was "
                                "changed: a training loop of your own calls "
                                "game.update_averages() after each step of G")


def check_latent(z: Any, m: int) -> Any:
    """Return z. Raises an error unless latent(m, rng) may return it: its first array has m rows."""
    arrays = Tensor, np.ndarray, backend.xp.ndarray
    if not isinstance(z, (tuple, *arrays)):
        raise TypeError(f"latent() returned a {type(z).__name__}: return a Tensor, or a tuple, "
                        "whose parts G gets as its arguments")
    first = next((part for part in flatten_nested(z) if isinstance(part, arrays)), None)
    if first is not None and first.shape[:1] != (m,):
        raise UserError(f"latent({m}, rng) returned an array of shape {first.shape}: its first "
                        f"axis must be that of the samples, {m}")
    return z


def check_terms(loss: Tensor, terms: Any, parameters: Callable, what: str) -> None:
    """Raise TypeError for further terms of a loss that add_terms() cannot add."""
    if type(terms) is Tensor or terms is None:
        raise TypeError("d_terms() and g_terms() return a list of Tensors of one number, got a "
                        f"{type(terms).__name__}")
    for term in terms:
        if type(term) is not Tensor or term.size != 1:
            raise TypeError(f"{what} must be a Tensor of one number, got "
                            f"{getattr(term, 'shape', ()) or term!r:.60}")
        # a leaf, such as the 0 of a term that is switched off, is meant as a constant
        if loss.parents and term.parents != () and (
                not depends_on(term, parameters) and parameters()):
            raise TypeError(f"{what} has no gradient, because it depends on no parameter of the "
                            "player whose loss it is: use grad() with create_graph=True, and no "
                            "no_grad() or Tensor(x.data), or give the term to the other player")


def depends_on(inputs: Any, parameters: Callable) -> bool:
    """Return whether a Tensor in `inputs` was computed with one of a player's parameters.

    `parameters` is the method d_parameters or g_parameters.
    """
    computed = [t for t in tensors_in(inputs) if t.parents]
    return bool(computed) and not set(parameters()).isdisjoint(ancestors(computed))
