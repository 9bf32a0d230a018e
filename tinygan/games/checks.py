"""Checks of a game's networks: their last activations, and layers that a game refuses."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .. import ops
from ..backend import UserError
from ..nested import flatten_nested, tensors_in
from ..nn import (BatchNorm, Flatten, Heads, Module, Reshape, Sigmoid, Tanh, Upsample, eval_mode,
                  is_sequential, use_random)
from ..numbers import is_number
from ..random import Random
from ..tensor import NoTensorError, Tensor, enable_grad

SLACK = 0.05        # how far pixels may be outside their range: they may have a little noise
REARRANGING = Reshape, Flatten, Upsample       # layers that only rearrange or repeat numbers


def last_layer(network: Any, skip: tuple[type, ...] = ()) -> Any:
    """Return the layer that computes the output of a network of Sequentials.

    Layers of the classes `skip` are passed over. Of Heads it is the layer of the first output.
    """
    if isinstance(network, Heads) and network.heads:
        return last_layer(network.heads[0], skip)
    if not is_sequential(network) or not network.layers:
        return network
    for layer in reversed(network.layers):
        last = last_layer(layer, skip)
        if not (isinstance(last, skip) or is_sequential(last)):     # an empty Sequential is one
            return last
    return network.layers[-1]


def last_activation(network: Any) -> str | None:
    """Return "sigmoid" or "tanh" if a network of Sequentials ends in it, else None."""
    last = last_layer(network, REARRANGING)
    if isinstance(last, Sigmoid) or last is ops.sigmoid:
        return "sigmoid"
    return "tanh" if isinstance(last, Tanh) or last is ops.tanh else None


def activation_of(y: Tensor) -> str | None:
    """Return "sigmoid" or "tanh" if the Tensor y was computed by it last, else None.

    Changes of shape are passed over, and of joined Tensors the first counts. If the computation was
    not recorded, it is None.
    """
    while y.base is not None:
        y = y.base
    first, rule = y.parents[0] if y.parents else (None, None)
    if getattr(rule, "func", None) is ops.concat_rule:
        return activation_of(first)
    return "sigmoid" if rule is ops.sigmoid_rule else "tanh" if rule is ops.tanh_rule else None


def refuse_sigmoid(activation: str | None) -> None:
    """Raise UserError if the last activation of D, or of what computed its scores, is a sigmoid."""
    if activation == "sigmoid":
        raise UserError(
            "D ends in a sigmoid, but its output must be a logit or a score, any real number: "
            "remove the sigmoid, since a loss that needs one applies it; or, if scores in (0, 1) "
            "are meant, or discriminate() computes scores from other outputs of D, set "
            "d_returns_scores = False in the game's class")


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
                        "[0, 1]; or scale it to [-1, 1] and end G in nn.Tanh(); or define "
                        "sample_images() in the game's class, which maps the samples to [0, 1], "
                        "and its inverse scale_images()")


def _find_range(images):
    """Return (least, most) of the last images: in a pair from image to image, of the outputs."""
    last = images[-1].data if type(images[-1]) is Tensor else images[-1]
    return float(last.min()), float(last.max())


def find_activation(game: Any, z: Any = None) -> str | None:
    """Return "sigmoid" or "tanh" if a game's samples are computed by it last, else None.

    The last layer of G tells it. A G or a generate() of a class of its own computes samples: those
    for z, or two for the noise of latent(), if it can do so from the noise alone.
    """
    G, is_own = getattr(game, "G", None), game.overrides("generate")
    if is_own or not type(last_layer(G, REARRANGING)).__module__.startswith("tinygan."):
        with contextlib.suppress(Exception):    # it may need more inputs, or more of them
            rng = Random(0)
            with eval_mode(game), enable_grad(), use_random(rng):
                y = game.generate(game.latent(2, rng) if z is None else z)
            if type(y) is Tensor:       # 2 G(z) - 1 does not end in G's sigmoid
                return activation_of(y) or (None if is_own else last_activation(G))
    return last_activation(G)


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


def check_weights(**weights: float) -> None:
    """Raise UserError unless the numbers of penalties or terms, by name, are at least 0."""
    for name, weight in weights.items():
        if not is_number(weight, 0):
            raise UserError(f"{name} must be a number of at least 0, got {weight!r}: "
                            "choose another")
