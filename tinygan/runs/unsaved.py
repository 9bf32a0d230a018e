"""Checks of what a checkpoint does not save: training must not change it.

A checkpoint describes how the game and its optimisers were made, and has the arrays that training
changes. A game may have more: numbers, objects of other classes, random streams. check() refuses,
before a run starts, what could not be restored. A run compares list_fixed() at each checkpoint, and
ends if something in it has changed.
"""

import contextlib
import io
import json
import math
import pickle
import random
import threading
import types
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend, nn
from ..backend import UserError
from ..nested import flatten_nested
from ..nn.module import find_inside
from ..optim import Optimizer
from ..random import Random, rng
from ..search import list_held
from ..tensor import Tensor
from .checkpoint import name_parameters, pack, read_streams, set_streams, unpack
from .description import InvalidDescription, build, describe

# classes of objects that change when they are used: a game may only have those in _list_kept()
STATEFUL = (Random, np.random.Generator, np.random.RandomState, random.Random, Optimizer, Iterator)
# classes of objects without a state that a run needs: weak references and locks
STATELESS = (weakref.ref, *weakref.ProxyTypes, type(threading.Lock()), type(threading.RLock()))


def check(game: nn.Module, optimisers: dict[str, Optimizer], data: Any) -> None:
    """Check before a run starts that its game and its data stream can be saved and restored.

    Raises UserError for a data stream without a `state` that continues it, for a game whose
    description would make a different game, for a random stream or an optimiser of the game that
    would not be saved, and for an optimiser of parameters that are not the game's. Raises TypeError
    for what cannot be described or saved.
    """
    if not hasattr(data, "state"):
        raise UserError(f"the data stream, a {type(data).__name__}, has no `state`, from which a "
                        "resumed run would continue it: give Minibatches, or an iterator with a "
                        "`state` that can be read and assigned")
    _refuse_hidden_state(game, optimisers, data)
    for player, names in name_parameters(game, optimisers).items():
        if None in names:
            raise UserError(f"{player} has parameters that are not the game's, which a checkpoint "
                            "would not keep: make their network an attribute of the game")
    classes = {}
    description = json.loads(json.dumps(describe(game, known=classes)))
    try:
        made = build(description, classes.values(), math.inf)
    except InvalidDescription as error:
        raise UserError(f"the game could not be loaded from its checkpoint: {error}") from None
    wanted, found = ({**{name.rstrip("."): type(part) for name, part in each.modules()},
                      **{name: a.shape for name, a in each.arrays().items()}}
                     for each in (game, made))
    if wanted != found:
        names = sorted({name for name, _ in set(wanted.items()) ^ set(found.items())})
        raise UserError("when it is made again by its constructors, the game has other parts or "
                        f"weights ({', '.join(names)[:200]}): change networks in their "
                        "constructors, not afterwards")
    if tied := [name for (name, a), b in zip(_find_ties(game).items(), _find_ties(made).values())
                if a != b]:
        raise UserError(f"{tied[0]} shares its numbers with another part, which a checkpoint does "
                        "not record: share the layer, or share them in a constructor")
    settings, its = (list_settings(each, _describe_as_text) for each in (game, made))
    if changed := sorted(settings.items() ^ its.items()):
        raise UserError(f"{changed[0][0]} has been changed since the game was made, which a "
                        "checkpoint does not record: give its value to the constructor, or make "
                        "it an array there if training changes it")
    if replaced := sorted(_list_replaced(game) ^ _list_replaced(made)):
        raise UserError(f"{replaced[0]} replaces a method of the game, which a checkpoint does not "
                        "record: define a subclass with the method")
    if odd := [name for name in game.arrays() if not name.isprintable()]:
        raise UserError(f"a checkpoint cannot keep weights by the name {odd[0]!r}: give the keys "
                        "of dictionaries in the networks other names")
    _check_stream(data)


def _check_stream(data):
    """Raise UserError unless the state of the data stream determines its next minibatch.

    The minibatch is drawn twice. Afterwards the stream and the random streams are as before.
    Raises TypeError for a state that cannot be saved.
    """
    arrays = {}
    state, ours, others = pack(data.state, "data", arrays), rng.state, read_streams()
    arrays = {name: array.copy() for name, array in arrays.items()}     # they may be the stream's

    def set_state():
        rng.state = ours
        set_streams(others)
        data.state = unpack(state, arrays)

    def draw():
        set_state()
        parts = [x.data if type(x) is Tensor else x for x in flatten_nested(next(data))]
        return [backend.to_numpy(a).tobytes() for a in parts
                if isinstance(a, (np.ndarray, backend.xp.ndarray))]
    try:
        with contextlib.suppress(StopIteration):        # play() says that the data has ended
            if draw() != draw():
                raise UserError(f"the data stream, a {type(data).__name__}, gives another "
                                "minibatch after its `state` has been assigned to it: make all "
                                "that its next minibatch depends on a part of the state")
        set_state()
    except AttributeError as error:
        raise UserError(f"the `state` of the data stream, a {type(data).__name__}, cannot be "
                        f"assigned ({error}): give it a setter") from None


def _describe_as_text(value):
    """Return the description of a value as a text, or None if describe() does not take it."""
    with contextlib.suppress(TypeError):
        return json.dumps(describe(value))


class _Checksum(pickle.Pickler):
    """Compute `sum`, a checksum of the objects given to dump(); nothing is ever loaded from it.

    What is in `kept`, see _list_kept(), is left out, since a checkpoint has it. So is what is
    STATELESS. dump() raises an error for a file, and so for an object that has one, such as a
    progress bar: it may change, and in a notebook all variables can be reached from it.
    """

    def __init__(self, kept):
        super().__init__(self, 5, buffer_callback=lambda buffer: self.write(buffer.raw()))
        self.sum, self.kept = 0, kept

    def write(self, data):
        self.sum = zlib.crc32(data, self.sum)

    def persistent_id(self, thing):
        # isinstance() would raise an error for a proxy of what is gone
        if id(thing) in self.kept or issubclass(type(thing), STATELESS):
            return 0
        if isinstance(thing, io.IOBase) and type(thing) not in (io.StringIO, io.BytesIO):
            raise pickle.PicklingError
        return thing.numpy().tobytes() if type(thing) is Tensor else None

    def reducer_override(self, thing):
        if isinstance(thing, nn.Module):        # one that is not the game's, such as a classifier
            left_out = *thing.untracked, *thing._stored
            return str, (type(thing).__qualname__,), {
                name: value for name, value in vars(thing).items() if name not in left_out}
        # pickle itself refuses classes and functions that it could not find again by name
        if thing is str or not isinstance(thing, (type, types.FunctionType)):
            return NotImplemented
        # a function may hold a counter; of what it holds, only what describe() takes is compared
        held = list_held(thing) if isinstance(thing, types.FunctionType) else []
        return str, (thing.__qualname__,), [_describe_as_text(each) for each in held]


def _fingerprint(value, kept):
    """Return a text that changes if the value changes, or None for a value that has no such text.

    It is the description, or else a checksum. There is none for lists of Tensors, such as the
    features of D in a loss, because they are computed anew in each step.
    """
    text = _describe_as_text(value)
    if text is None and not (isinstance(value, (list, tuple, dict)) and any(
            type(thing) is Tensor for thing in find_inside(value))):
        checksum = _Checksum(kept)
        with contextlib.suppress(Exception):        # pickle does not take it
            checksum.dump(value)
            text = f"checksum {checksum.sum}"
        checksum.clear_memo()       # it refers to itself, and would keep alive what it was given
    return text


def list_settings(game: nn.Module, text: Callable) -> dict[str, str]:
    """Return {name: text} of the numbers and other settings of a game and its parts.

    Settings are attributes of the parts or of their classes, but no Modules, Tensors or arrays.
    `text` returns the text of a value, or None for one that is left out. None and empty collections
    are left out too: they may stand for a result that forward() has not stored yet.
    """
    others = nn.Module, Tensor, backend.xp.ndarray
    texts = {prefix + name: text(value) for prefix, part in game.modules()
             for name, value in _list_attributes(part).items()
             if name not in (*part.untracked, "training") and not isinstance(value, others)
             and not (value is None or isinstance(value, (list, tuple, dict)) and not value)}
    return {name: each for name, each in texts.items() if each is not None}


def _list_attributes(thing):
    """Return {name: value} of the attributes of an object and of its classes, without methods.

    A method may change: the decorator of a profiler counts its calls.
    """
    of_classes = {name: value for base in reversed(type(thing).__mro__)
                  for name, value in vars(base).items()
                  if not (name.startswith("__") or callable(value) or hasattr(value, "__get__"))}
    return {**of_classes, **vars(thing)}


def list_fixed(game: nn.Module, optimisers: dict[str, Optimizer], data: Any) -> dict[str, str]:
    """Return {name: text} of what training must not change: restore() does not set it.

    These are the settings of the game and of the optimisers, the shapes of their arrays, and
    objects of other classes that they have, if pickle takes them: a file or a generator in such an
    object ends the comparison. Raises TypeError for arrays of an optimiser that a checkpoint would
    not keep.
    """
    kept = _list_kept(game, optimisers, data)       # anew each time: an array may be replaced
    shapes = {name: str(array.shape) for name, array in game.arrays().items()}
    texts = {**list_settings(game, lambda value: _fingerprint(value, kept)), **shapes}
    found = {f"game.{name}": text for name, text in texts.items()}
    for player, opt in optimisers.items():
        parameters, saved = {id(p) for p in opt.parameters}, opt.arrays()
        found[f"{player}.parameters"] = str([id(p) for p in opt.parameters])
        for name, value in _list_attributes(opt).items():
            if name in (*opt.changing, *opt.untracked):
                continue
            if name in saved:
                found[f"{player}.{name}"] = str(value.shape)
                continue
            if isinstance(value, Optimizer) or any(
                    id(thing) not in parameters for thing in find_inside(value)):
                raise TypeError(f"{player}'s {name} holds arrays that a checkpoint would not keep: "
                                "make an array an attribute of its own in the constructor, name "
                                "the arrays that belong to the parameters in the class's "
                                "`state_names`, or name the attribute in `untracked` if a resumed "
                                "run does not need it")
            if (text := _fingerprint(value, kept)) is not None:
                found[f"{player}.{name}"] = text
    return found


def _list_kept(game, optimisers, data):
    """Return {id: object} of the objects with a state that a checkpoint of a run keeps.

    They are the Modules of the game, its parameters and buffers, the random streams, the data
    stream with the streams that it has, and the optimisers.
    """
    streams = data, *getattr(data, "streams", ())
    inside = [value for stream in streams for value in getattr(stream, "__dict__", {}).values()]
    parts = [thing for _, part in game.modules()
             for thing in (part, *dict(part.own_arrays((Tensor, backend.xp.ndarray))).values())]
    kept = (*parts, rng, *streams, *find_inside(inside, STATEFUL), *optimisers.values(),
            np.random.normal.__self__, random.random.__self__)
    return {id(thing): thing for thing in kept}


def _refuse_hidden_state(game, optimisers, data):
    """Raise UserError for a random stream, iterator or optimiser that a checkpoint leaves out."""
    kept = _list_kept(game, optimisers, data)
    for prefix, part in game.modules():
        for name, value in _list_attributes(part).items():
            for each in find_inside(value, STATEFUL) if name not in part.untracked else ():
                if id(each) in kept:
                    continue
                advice = ("give it to the Run in its dictionary of optimisers"
                          if isinstance(each, Optimizer) else
                          "make it a part of the data stream, as data.ZipMinibatches does"
                          if isinstance(each, Iterator) else
                          "draw from the rng that latent() gets, in a layer or a penalty from "
                          "nn.current_random()")
                raise UserError(f"the game's {prefix}{name} ({type(each).__name__}) has a state "
                                f"that a checkpoint would not keep: {advice}; or name it in the "
                                "class's `untracked`, if a resumed run does not need it")


def _list_replaced(game):
    """Return the names of the attributes that hide a method of their class."""
    return {prefix + name for prefix, part in game.modules() for name in vars(part)
            if callable(getattr(type(part), name, None))}


def _find_ties(game):
    """Return {name: the first name of the same array} of a game's arrays, in sorted order."""
    first, arrays = {}, game.arrays()
    return {name: first.setdefault(id(arrays[name]), name) for name in sorted(arrays)}
