"""A run in one file: the two players, their optimisers, the random stream, and how far it is.

A checkpoint is an .npz of plain arrays, nothing that could be executed:

    game.G.0.weight ...     the game's parameters and buffers
    d_opt.m.0 ...           the averages that the optimisers keep, one for each of their parameters
    order                   the order of the data in this epoch
    about                   all else, a JSON text: which layers, games and settings these arrays
                            belong to, the step, the state of the random stream

It is all that a run needs to go on. Whoever saves one may add arrays and entries of their own, as
record.py does for the log.
"""

import dataclasses
import json
import math
import os
import types
from typing import NamedTuple

import numpy as np

from . import backend, games, nn, ops, optim
from .backend import UserError
from .files import read_arrays, replaced
from .tensor import Tensor

FORMAT = 1              # of what is written below
NAME = "checkpoint.npz"


class Saved(NamedTuple):
    """A checkpoint as it is in the file at `path`."""

    path: str
    about: dict
    arrays: dict


def save(path, game, d_opt, g_opt, batches, about, arrays):
    """Save the state of a run between two iterations, with further entries `about` and `arrays`.

    Of the random streams it is that of the backend which is saved: a run that gives another one to
    play() or Minibatches() saves its `state` itself.

    Raises FloatingPointError if a weight or an average is NaN or infinite: a file from which nobody
    can go on must not replace one from which they can. Raises OSError if it cannot be written.
    """
    about = {**about, "format": FORMAT, "game": describe(game), "rng": backend.rng.state,
             "batches": {}, "d_opt": describe(d_opt), "d_t": d_opt.t, "g_opt": describe(g_opt),
             "g_t": g_opt.t}
    state = {name: backend.to_numpy(a) for name, a in _arrays(game, d_opt, g_opt).items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"{name} is no longer finite")
    for name, value in getattr(batches, "state", {}).items():
        (state if isinstance(value, np.ndarray) else about["batches"])[name] = value
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replaced(path) as file:
        np.savez(file, about=text, **state, **arrays)


def read(path):
    """The checkpoint at `path`. Raises UserError if it is none, damaged, or of another format."""
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
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, and this version of tinygan reads format "
                        f"{FORMAT}: use the version that wrote it")
    return Saved(path, about, arrays)


def restore(saved, game, d_opt, g_opt, batches):
    """Bring all of them and the random stream to where they were `saved`.

    Raises UserError if they are other networks, losses or optimisers than then, or the file is
    damaged.
    """
    path, about, arrays = saved
    try:
        for name, thing in (("game", game), ("d_opt", d_opt), ("g_opt", g_opt)):
            here = json.loads(json.dumps(describe(thing)))
            if found := _difference(about[name], here, name):
                raise UserError(f"{path} was saved with other networks or settings ({found}): "
                                "resume with the same ones, or begin another run")
        for name, array in _arrays(game, d_opt, g_opt).items():
            with np.errstate(over="ignore"):
                value = arrays[name].astype(array.dtype, copy=False)
            if value.shape != array.shape or not np.isfinite(value).all():
                raise ValueError
            array[...] = backend.xp.asarray(value)
        game.touch()
        if hasattr(batches, "state"):
            batches.state = {**about["batches"], "order": arrays["order"]}
        d_opt.t, g_opt.t = int(about["d_t"]), int(about["g_t"])
        backend.rng.state = about["rng"]
    except UserError:
        raise
    except Exception:       # whatever a made-up file leads to
        raise UserError(f"{path} is damaged: its parts do not fit together") from None


def load(run, *known):
    """The game of the run in the folder `run` as its last checkpoint has it, evaluating:

        game = tinygan.load("runs/gan_mnist")
        images = game.sample(game.latent(64, tinygan.rng))

    `known` are classes and functions that it was played with and that are not tinygan's. Raises
    UserError if one of those is missing, or there is no checkpoint, or a damaged one.
    """
    path = os.path.join(run, NAME)
    if not os.path.exists(path):
        raise UserError(f"there is no {NAME} in {run}: give the folder of a run")
    _, about, arrays = read(path)
    names = {(isinstance(thing, type), thing.__name__): thing for thing in
             [*(thing for module in (ops, nn, optim, games) for thing in vars(module).values()),
              *known]
             if isinstance(thing, (type, types.FunctionType))}
    try:
        game = _build(about["game"], names, [sum(array.size for array in arrays.values())], [])
        if not isinstance(game, (games.Game, games.InstanceNoise)):
            raise ValueError
        game.load_state_dict({name.removeprefix("game."): array for name, array in arrays.items()
                              if name.startswith("game.")})
        return game.eval()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception:       # whatever a made-up description leads to
        raise UserError(f"{path} is damaged: it describes no game") from None


def describe(thing, before=None):
    """What a Module, optimiser or schedule is made of, without its numbers, as JSON has it; what
    is in two places comes once, and then as the number of that time."""
    before = {} if before is None else before
    if isinstance(thing, (nn.Module, Tensor, backend.xp.ndarray)):
        if id(thing) in before:
            return {"again": before[id(thing)]}
        before[id(thing)] = len(before)
    if isinstance(thing, Tensor):
        return {"parameter": list(thing.shape), "dtype": str(thing.dtype)}
    if isinstance(thing, backend.xp.ndarray):
        return {"buffer": list(thing.shape), "dtype": str(thing.dtype)}
    if isinstance(thing, (list, tuple)):
        return [describe(part, before) for part in thing]
    if isinstance(thing, dict) and all(isinstance(key, str) for key in thing):
        return {"dictionary": {key: describe(part, before) for key, part in thing.items()}}
    if isinstance(thing, types.FunctionType) and thing.__name__.isidentifier():
        return {"function": thing.__name__}
    if isinstance(thing, (nn.Module, optim.Optimizer)) or dataclasses.is_dataclass(thing):
        # beside its settings an optimiser has what it works on, a Module what it notes
        work = ("parameters", "state", "t", "training", *getattr(thing, "notes", ()))
        return {"class": type(thing).__name__, **{
            name: describe(part, before) for name, part in vars(thing).items()
            if name not in work and not name.startswith("_") and not _is_computed(part)}}
    if isinstance(thing, (str, int, float)) or thing is None:
        return thing
    raise TypeError(f"a checkpoint cannot describe a {type(thing).__name__}: set Tensors, arrays, "
                    "numbers, texts, named functions, Modules, or lists or dictionaries (by text) "
                    "of Modules as attributes")


def _is_computed(thing):
    """Whether it is a Tensor that a layer has kept of its last pass, which is no part of it."""
    return isinstance(thing, Tensor) and thing.parents != ()


def _build(part, names, numbers, before):
    """The thing that describe() told of, its arrays 0; `numbers` is a list of how many numbers they
    may have together, `before` one of what has been built."""
    if isinstance(part, list):
        parts = [_build(p, names, numbers, before) for p in part]
        return parts if any(isinstance(p, nn.Module) for p in parts) else tuple(parts)
    if not isinstance(part, dict):
        return part
    if part.keys() == {"again"}:
        return before[part["again"]]
    if part.keys() == {"dictionary"}:
        return {key: _build(p, names, numbers, before) for key, p in part["dictionary"].items()}
    name = part.get("class") or part.get("function")
    if name is None:
        shape, dtype = part.get("parameter", part.get("buffer")), np.dtype(part["dtype"])
        numbers[0] -= math.prod(shape)
        if numbers[0] < 0 or dtype.kind not in "biuf":
            raise ValueError("more than the file holds")
        array = backend.xp.zeros(shape, dtype)
        if len(shape) == 4:
            array = backend.kernel_first(array)         # a convolution's weights
        before.append(Tensor(array) if "parameter" in part else array)
        return before[-1]
    if ("class" in part, name) not in names:
        name = _word(name)
        raise UserError(f"this run was played with {name}, which is not tinygan's: give it to "
                        f"load, as in load(run, {name})")
    if "class" not in part:
        return names[False, name]
    if not all(map(str.isidentifier, part)):
        raise ValueError("attributes have names")
    thing = object.__new__(names[True, name])
    if isinstance(thing, nn.Module):
        before.append(thing)
    vars(thing).update({key: _build(p, names, numbers, before) for key, p in part.items()
                        if key != "class"})
    return thing


def _arrays(game, d_opt, g_opt):
    """{name: array} of all that a run changes, themselves."""
    arrays = {f"game.{name}": array for name, array in game.arrays().items()}
    for player, opt in (("d_opt", d_opt), ("g_opt", g_opt)):
        for average, each in opt.state.items():
            arrays |= {f"{player}.{average}.{i}": array for i, array in enumerate(each)}
    return arrays


def _difference(there, here, name):
    """Where two descriptions differ first, in words; None if nowhere."""
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = [(key, there.get(key), here.get(key)) for key in {**there, **here}]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = zip(range(len(here)), there, here)
    else:
        return None if there == here else f"{name} was {_short(there)}, now {_short(here)}"
    return next(filter(None, (_difference(a, b, f"{name}.{_word(key)}")
                              for key, a, b in pairs)), None)


def _short(part):
    return json.dumps(part.get("class", part) if isinstance(part, dict) else part)[:60]


def _word(name):
    """A name from a file, on one line."""
    return json.dumps(name).strip('"')
