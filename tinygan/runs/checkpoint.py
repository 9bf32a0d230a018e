"""A run in one file: the game, the optimisers, the data stream, the random stream, and the step.

A checkpoint is an .npz of plain arrays, nothing that could be executed:

    game.G.0.weight ...     the game's parameters and buffers
    d_opt.m.0 ...           the averages that the optimisers keep, one for each of their parameters
    data.order ...          the arrays of the data stream's state
    about                   all else, a JSON text: how the game was made, the step, the state of the
                            random stream

It is all that a run needs to go on. A game is described by how it was made (see description.py),
and load() makes it anew from that.
"""

import contextlib
import json
import math
import os
import re
from typing import NamedTuple

import numpy as np

from .. import backend, nn
from ..backend import UserError
from ..files import read_arrays, replaced
from ..games import Game
from ..random import rng
from ..tensor import Tensor
from .description import MadeUp, build, describe, describe_optimiser, difference

FORMAT = 2              # of what is written below
NAME = "checkpoint.npz"


class Saved(NamedTuple):
    """A checkpoint as it is in the file at `path`."""

    path: str
    about: dict
    arrays: dict


def save(path, game, optimisers, data, about, arrays):
    """Save the state of a run between two iterations, with further entries `about` and `arrays`.

    optimisers   {name: Optimizer}
    data         the data stream, with a `state`: numbers, texts and arrays, in dictionaries, lists
                 and tuples

    Of the random streams it is tinygan.rng which is saved: a run that gives another one to play()
    or Minibatches() saves its `state` itself.

    Raises FloatingPointError if a weight or an average is NaN or infinite: a file from which nobody
    can go on must not replace one from which they can. Raises OSError if it cannot be written.
    """
    state = {name: backend.to_numpy(a) for name, a in _arrays(game, optimisers).items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"{name} is no longer finite")
    about = {**about, "format": FORMAT, "game": describe(game), "rng": rng.state,
             "data": pack(data.state, "data", state),
             "optimisers": {name: describe_optimiser(opt) for name, opt in optimisers.items()},
             "t": {name: opt.t for name, opt in optimisers.items()}}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replaced(path) as file:
        np.savez(file, about=text, **state, **arrays)


def read(path, any_format=False):
    """Return the checkpoint at `path`, Saved. Raises UserError if it is none or damaged, or, unless
    `any_format` is asked for, of another format."""
    arrays = read_arrays(path)
    try:
        text = arrays.pop("about")
        if text.dtype != np.uint8 or not all(name.isprintable() for name in arrays):
            raise ValueError
        about = json.loads(text.tobytes())
        game, version = about["game"], about["format"]
        if not isinstance(game, dict) or not isinstance(version, int):
            raise ValueError
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path} is no checkpoint of tinygan's: give that of a run") from None
    if version != FORMAT and not any_format:
        raise UserError(f"{path} has format {version}, and this version of tinygan reads format "
                        f"{FORMAT}: use the version that wrote it, or train the run again")
    return Saved(path, about, arrays)


def restore(saved, game, optimisers, data):
    """Bring the game, the optimisers, the data stream and tinygan.rng to where they were `saved`.

    Raises UserError if they are other networks, losses or optimisers than then, or the file is
    damaged.
    """
    path, about, arrays = saved
    known = {}
    here = json.loads(json.dumps({"game": describe(game, known=known), **{
        name: describe_optimiser(opt, known) for name, opt in optimisers.items()}}))
    with damage(path, "its parts do not fit together"):
        there = {"game": about["game"], **about["optimisers"]}
        if found := difference(there, here, "", known):
            raise UserError(f"{path} was saved with other networks or settings ({found}): resume "
                            "with the same ones, or begin another run")
        now = _arrays(game, optimisers)
        prefixes = ("game.", *(f"{name}." for name in optimisers))
        kept = {name for name in arrays if name.startswith(prefixes)}
        if other := sorted(kept ^ now.keys()):
            raise UserError(f"{path} {'has' if other[0] in kept else 'lacks'} {other[0]}, and the "
                            f"game {'lacks' if other[0] in kept else 'has'} it: its classes have "
                            "changed since, so begin another run")
        values = {}
        for name, array in now.items():
            with np.errstate(over="ignore"):
                values[name] = arrays[name].astype(array.dtype, copy=False)
            if values[name].shape != array.shape or not np.isfinite(values[name]).all():
                raise ValueError
        steps = {name: int(about["t"][name]) for name in optimisers}
        state, stream = unpack(about["data"], arrays), about["rng"]
        type(rng)().state = stream          # raises, for a stream that it is not
    with damage(path, "the state of its data does not fit", made_up=_is_ours(data)):
        data.state = state
    rng.state = stream
    for name, array in _arrays(game, optimisers).items():
        array[...] = backend.xp.asarray(values[name])
    for name, opt in optimisers.items():
        opt.t = steps[name]
    game.touch()


@contextlib.contextmanager
def damage(path, what, made_up=True):
    """Context in which whatever a made-up file leads to is told as damage; UserErrors stay."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not made_up or isinstance(error, NotImplementedError):
            raise
        raise UserError(f"{path} is damaged: {what}") from None


def load(run, *known):
    """Return the game of the run in the folder `run` as its last checkpoint has it, in evaluation:

        game = tinygan.load("runs/gan_mnist")
        images = game.sample(game.latent(64, tinygan.rng))

    `known` are classes and functions that it was played with and that are not tinygan's. Raises
    UserError if one of those is missing, or there is no checkpoint, or a damaged one. An error in
    the constructor of a known class stays what it is.
    """
    path = os.path.join(run, NAME)
    if not os.path.exists(path):
        raise UserError(f"there is no {NAME} in {run}: give the folder of a run")
    saved = read(path)
    return load_saved(saved, *known)


def load_saved(saved, *known):
    """Return the game of a checkpoint that has been read; see load()."""
    path, about, arrays = saved
    weights = {name.removeprefix("game."): array for name, array in arrays.items()
               if name.startswith("game.")}
    try:
        game = build(about["game"], known, sum(array.size for array in weights.values()))
        if not isinstance(game, nn.Module):
            raise MadeUp("it describes no game")
        if not isinstance(game, Game):
            raise UserError(f"what was trained is a {type(game).__name__}, which is no game: give "
                            "the folder of a game's run")
        try:
            with np.errstate(over="ignore"):
                game.load_state_dict(weights)
        except TypeError as error:      # parts of one name, or where nothing finds them
            raise MadeUp(error) from None
        if not all(np.isfinite(array).all() for array in game.state_dict().values()):
            raise MadeUp("it has weights that are not finite")
    except (MadeUp, UserError) as error:
        said = f"{path} is damaged" if isinstance(error, MadeUp) else path
        reason = "".join(c if c.isprintable() else " " for c in str(error))     # names are a file's
        raise UserError(f"{said}: {reason}") from None
    return game.eval()


def check(game, data):
    """Refuse a game that could not be loaded from its checkpoint, or a data stream that has no
    state, before a run begins. Raises UserError, and TypeError for what cannot be described."""
    if not hasattr(data, "state"):
        raise UserError(f"the data stream, a {type(data).__name__}, has no `state` by which a "
                        "resumed run would go on with it: give Minibatches, or an iterator with a "
                        "`state` that can be read and assigned")
    classes = {}
    description = json.loads(json.dumps(describe(game, known=classes)))
    try:
        made = build(description, classes.values(), math.inf)
    except MadeUp as error:
        raise UserError(f"the game could not be loaded from its checkpoint: {error}") from None
    there, here = ({**{name.rstrip("."): type(part) for name, part in each.modules()},
                    **{name: a.shape for name, a in each.arrays().items()}}
                   for each in (game, made))
    if there != here:
        names = sorted({name for name, _ in set(there.items()) ^ set(here.items())})
        raise UserError(f"made again from its constructors' arguments, the game has other parts or "
                        f"weights ({', '.join(names)[:200]}): change networks in their "
                        "constructors, not after these have run")
    for (name, part), (_, again) in zip(game.modules(), made.modules()):
        if changed := sorted(_settings(part).items() ^ _settings(again).items()):
            raise UserError(f"{name}{changed[0][0]} has been changed since the game was made, "
                            "which its checkpoint would not tell: give it to the constructor")
    if odd := [name for name in game.arrays() if not name.isprintable()]:
        raise UserError(f"a checkpoint cannot keep weights by the name {odd[0]!r}: give the keys "
                        "of dictionaries in the networks other names")
    pack(data.state, "data", {})        # raises TypeError for what cannot be kept


# Nested values with arrays in them, such as the state of a data stream or a game's latents

def pack(value, name, arrays):
    """Return `value`, numbers, texts, Tensors and arrays in dictionaries, lists and tuples, as JSON
    has it, with its arrays put into the dictionary `arrays` under names that begin with `name`."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dictionary": {key: pack(part, f"{name}.{key}", arrays)
                               for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        parts = [pack(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if type(value) is Tensor or (isinstance(value, (np.ndarray, backend.xp.ndarray))
                                 and value.dtype.kind in "biuf"):
        if name in arrays or not re.fullmatch(r"[\w.]+", name):    # no name in a file
            name = f"{name.partition('.')[0]}#{len(arrays)}"
        is_tensor = type(value) is Tensor
        arrays[name] = value.numpy() if is_tensor else backend.to_numpy(value)
        return {"tensor" if is_tensor else "array": name}
    if isinstance(value, np.generic):
        return pack(value.item(), name, arrays)
    if isinstance(value, (str, int, float)) or value is None:
        return value
    what = f"{value.dtype} array" if hasattr(value, "dtype") else type(value).__name__
    raise TypeError(f"a checkpoint cannot keep {name}, a {what}: give numbers, texts, Tensors or "
                    "arrays of numbers in lists, tuples and dictionaries, these by text")


def unpack(value, arrays):
    """Return what pack() was given, its arrays on the current backend. Raises KeyError and others
    for a made-up value."""
    if isinstance(value, list):
        return [unpack(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    (kind, content), = value.items()
    match kind:
        case "dictionary":
            return {key: unpack(part, arrays) for key, part in content.items()}
        case "tuple":
            return tuple([unpack(part, arrays) for part in content])
        case "tensor":
            return Tensor(backend.xp.asarray(arrays[content]))
        case "array":
            return backend.xp.asarray(arrays[content])
    raise ValueError(kind)


def _settings(module):
    """{name: text} of a Module's attributes that are numbers, texts, or losses and the like."""
    found = {}
    for name, value in vars(module).items():
        if name not in (*module.notes, "training") and not isinstance(value, nn.Module):
            with contextlib.suppress(TypeError):        # what cannot be described is no setting
                found[name] = json.dumps(describe(value))
    return found


def _is_ours(thing):
    return type(thing).__module__.startswith("tinygan.")


def _arrays(game, optimisers):
    """{name: array} of all that the steps change, themselves."""
    arrays = {f"game.{name}": array for name, array in game.arrays().items()}
    for player, opt in optimisers.items():
        for average, each in opt.state.items():
            arrays |= {f"{player}.{average}.{i}": array for i, array in enumerate(each)}
    return arrays
