"""Checkpoints: the state of a run in one file, from which the run can be resumed.

A checkpoint is an .npz file of plain arrays, which contains nothing that could be executed:

    game.G.0.weight ...     the game's parameters and buffers
    d_opt.m.0 ...           the averages that the optimisers keep, one for each of their parameters
    data.order ...          the arrays in the state of the data stream
    about                   everything else, as a JSON text: the description of the game, the step,
                            the state of the random stream, and more

load() makes the game again from its description (see description.py).
"""

import contextlib
import io
import json
import math
import os
import pickle
import random
import re
import threading
import types
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import backend, nn
from ..backend import UserError
from ..files import read_arrays, atomic_write
from ..games import Game
from ..nn.module import find_inside, list_held
from ..optim import Optimizer
from ..random import Random, rng
from ..tensor import Tensor
from .description import InvalidDescription, build, describe, describe_optimiser, find_difference

FORMAT = 2                  # the number of the file format that this version writes and reads
NAME = "checkpoint.npz"     # the name of the file in the folder of a run
# what changes when it is used; a game may have such an object if the checkpoint keeps it elsewhere
STATEFUL = (Random, np.random.Generator, np.random.RandomState, random.Random, Optimizer, Iterator)
# what has no state of its own for a run: weak references and locks
STATELESS = (weakref.ref, *weakref.ProxyTypes, type(threading.Lock()), type(threading.RLock()))


class Checkpoint(NamedTuple):
    """The content of a checkpoint file."""

    path: str                       # where the file was read
    about: dict[str, Any]           # the JSON entry
    arrays: dict[str, np.ndarray]   # all other entries


def save(path: str | os.PathLike, game: nn.Module, optimisers: dict[str, Optimizer], data: Any,
         about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Save the state of a run between two iterations.

    optimisers   {name: Optimizer}
    data         the data stream; its attribute `state` consists of numbers, texts and arrays in
                 dictionaries, lists and tuples
    about        further entries of the checkpoint's `about`
    arrays       further arrays

    The states of tinygan.rng and of the data stream's Random are saved. A run that gives another
    Random to play() has to save its `state` itself, in `about`.

    Raises FloatingPointError if a weight or an average is NaN or infinite. Such a checkpoint could
    not be resumed, so it must not replace a good one. Raises OSError if the file cannot be written.
    """
    state = {name: backend.to_numpy(a) for name, a in _arrays(game, optimisers).items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"{name} is no longer finite")
    about = {**about, "format": FORMAT, "game": describe(game), "rng": rng.state,
             "data": pack(data.state, "data", state),
             "evaluating": [prefix for prefix, part in game.modules() if not part.training],
             "optimisers": {name: describe_optimiser(opt) for name, opt in optimisers.items()},
             "parameters": _name_parameters(game, optimisers),
             "t": {name: opt.t for name, opt in optimisers.items()}}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, about=text, **state, **arrays)


def read(path: str | os.PathLike, any_format: bool = False) -> Checkpoint:
    """Return the checkpoint in the file at `path`.

    Raises UserError if the file is damaged or is no checkpoint, or, unless `any_format` is True, if
    it has another format than FORMAT.
    """
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
        raise UserError(f"{path} is no checkpoint of tinygan's: give the checkpoint of a run"
                        ) from None
    if version != FORMAT and not any_format:
        raise UserError(f"{path} has format {version}, and this version of tinygan reads format "
                        f"{FORMAT}: use the version that wrote it, or train the run again")
    return Checkpoint(path, about, arrays)


def restore(saved: Checkpoint, game: nn.Module, optimisers: dict[str, Optimizer],
            data: Any) -> None:
    """Set the game, the optimisers, the data stream and tinygan.rng to the state in a checkpoint.

    The streams of np.random and random are set too, if the run has drawn from them.

    Raises UserError if the game, its networks, the optimisers or np.random's bit generator are not
    the ones that were saved, or if the file is damaged. The game, the optimisers and tinygan.rng
    have not changed then.
    """
    path, about, arrays = saved
    known = {}
    here = json.loads(json.dumps({"game": describe(game, known=known), **{
        name: describe_optimiser(opt, known) for name, opt in optimisers.items()}}))
    with report_damage(path, "its parts do not fit together"):
        there = {"game": about["game"], **about["optimisers"]}
        if found := find_difference(there, here, "", known):
            same = ("a learning rate that changes during a run's steps fixes their number: resume "
                    "with the same --steps" if re.match(r"._opt\.lr\.steps was", found) else
                    "resume with the same ones")
            raise UserError(f"{path} was saved with other networks or settings ({found}): {same}, "
                            "or start another run")
        for name, mine in _name_parameters(game, optimisers).items():
            theirs = about.get("parameters", {}).get(name, mine)    # runs of older versions lack it
            if mine != theirs:
                raise UserError(f"{path} was saved with other parameters in {name} (it had "
                                f"{_list_briefly(theirs)}, not {_list_briefly(mine)}): resume with "
                                "the same ones in their order, or start another run")
        now = _arrays(game, optimisers)
        prefixes = ("game.", *(f"{name}." for name in optimisers))
        kept = {name for name in arrays if name.startswith(prefixes)}
        if other := sorted(kept ^ now.keys()):
            raise UserError(f"{path} {'has' if other[0] in kept else 'lacks'} {other[0]}, and the "
                            f"game {'lacks' if other[0] in kept else 'has'} it: its classes have "
                            "changed since, so start another run")
        values = {}
        for name, array in now.items():
            with np.errstate(over="ignore"):
                values[name] = arrays[name].astype(array.dtype, copy=False)
            if values[name].shape != array.shape or not np.isfinite(values[name]).all():
                raise ValueError
        steps = {name: int(about["t"][name]) for name in optimisers}
        if min(steps.values(), default=0) < 0:
            raise ValueError
        # the parts in evaluation mode; older runs lack the entry
        evaluating = set(about["evaluating"]) if "evaluating" in about else None
        state, stream = unpack(about["data"], arrays), about["rng"]
        type(rng)().state = stream          # raises an error if it is no state of a random stream
        if streams := about.get("streams"):
            new = type(np.random.get_bit_generator())()
            there, here = streams["numpy"]["bit_generator"], type(new).__name__
            if there != here:
                raise UserError(f"{path} was saved while np.random drew from {there!r:.60}, not "
                                f"from {here}: call np.random.set_bit_generator() before resuming")
            set_streams(streams, np.random.RandomState(new), random.Random())
    with report_damage(path, "the state of its data does not fit", made_up=_is_from_tinygan(data)):
        data.state = state
    rng.state = stream
    if streams:
        set_streams(streams)
    for name, array in _arrays(game, optimisers).items():
        array[...] = backend.xp.asarray(values[name])
    for name, opt in optimisers.items():
        opt.t = steps[name]
    if evaluating is not None:
        for prefix, part in game.modules():
            part.training = prefix not in evaluating
    game.touch()


@contextlib.contextmanager
def report_damage(path: str | os.PathLike, what: str, made_up: bool = True) -> Iterator[None]:
    """Turn any error in the context into a UserError that the file at `path` is damaged.

    `what` says what is wrong with it. UserErrors stay as they are. So do all errors if `made_up` is
    False: in that case, code that is not tinygan's may have caused them.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not made_up or isinstance(error, NotImplementedError):
            raise
        raise UserError(f"{path} is damaged: {what}") from None


def load(run: str | os.PathLike, *known: type | Callable) -> Game:
    """Return the game of the run in the folder `run`, from its last checkpoint.

        game = tinygan.load("runs/gan_mnist")
        images = game.sample(game.latent(64, tinygan.rng))

    The game is in evaluation mode. `known` are the classes and functions that it uses and that are
    not tinygan's. Raises UserError if one of them is missing, or if there is no checkpoint or a
    damaged one, and TypeError for anything else in `known`. An error in the constructor of a class
    in `known` is raised as it is.
    """
    for thing in known:
        if not isinstance(thing, (type, types.FunctionType)):
            raise TypeError("load takes the classes and functions of the game, one after the other "
                            f"as in load(run, MyGame, MyLayer), got a {type(thing).__name__}")
    path = os.path.join(run, NAME)
    if not os.path.exists(path):
        raise UserError(f"there is no {NAME} in {run}: give the folder of a run")
    _, about, arrays = read(path)
    weights = {name.removeprefix("game."): array for name, array in arrays.items()
               if name.startswith("game.")}
    try:
        game = build(about["game"], known, sum(array.size for array in weights.values()))
        if not isinstance(game, nn.Module):
            raise InvalidDescription("it describes no game")
        if not isinstance(game, Game):
            raise UserError(f"the run trained a {type(game).__name__}, which is no game: give the "
                            "folder of a run that trained a game")
        try:
            with np.errstate(over="ignore"):
                game.load_state_dict(weights)
        except TypeError as error:      # two parts have one name, or nothing finds a part
            raise InvalidDescription(error) from None
        if not all(np.isfinite(array).all() for array in game.state_dict().values()):
            raise InvalidDescription("it has weights that are not finite")
    except (InvalidDescription, UserError) as error:
        said = f"{path} is damaged" if isinstance(error, InvalidDescription) else path
        # names from the file may have line breaks and terminal commands in them
        reason = "".join(c if c.isprintable() else " " for c in str(error))
        raise UserError(f"{said}: {reason}") from None
    return game.eval()


def check(game: nn.Module, optimisers: dict[str, Optimizer], data: Any) -> None:
    """Check before a run starts that its game and its data stream can be saved and restored.

    Raises UserError for a data stream without a `state`, for a game whose description would make a
    different game, and for a random stream or an optimiser of the game that would not be saved.
    Raises TypeError for what cannot be described or saved.
    """
    if not hasattr(data, "state"):
        raise UserError(f"the data stream, a {type(data).__name__}, has no `state`, from which a "
                        "resumed run would continue it: give Minibatches, or an iterator with a "
                        "`state` that can be read and assigned")
    _refuse_hidden_state(game, optimisers, data)
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
    if changed := sorted(list_settings(game).items() ^ list_settings(made).items()):
        raise UserError(f"{changed[0][0]} has been changed since the game was made, which a "
                        "checkpoint does not record: give its value to the constructor")
    if replaced := sorted(_list_replaced(game) ^ _list_replaced(made)):
        raise UserError(f"{replaced[0]} replaces a method of the game, which a checkpoint does not "
                        "record: define a subclass with the method")
    if odd := [name for name in game.arrays() if not name.isprintable()]:
        raise UserError(f"a checkpoint cannot keep weights by the name {odd[0]!r}: give the keys "
                        "of dictionaries in the networks other names")
    pack(data.state, "data", {})        # raises TypeError for what cannot be saved


def read_streams() -> dict[str, Any]:
    """Return the states of np.random and of Python's random, for games that draw from them."""
    state = json.dumps(np.random.get_state(legacy=False), default=lambda array: array.tolist())
    return {"numpy": json.loads(state), "python": random.getstate()}


def set_streams(states: dict[str, Any], numpy: Any = np.random, python: Any = random) -> None:
    """Set the streams to the states that read_streams() returned, by default the global ones."""
    numpy.set_state(states["numpy"])
    version, key, gauss = states["python"]
    python.setstate((version, tuple(key), gauss))


# Nested values with arrays in them, such as the state of a data stream or the noise of a game

def pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Convert a nested value to JSON and arrays; unpack() is the inverse.

    value    numbers, texts, Tensors and arrays, in dictionaries, lists and tuples
    name     what the value is, such as "data"; the names of its arrays begin with it
    arrays   a dictionary to which the arrays are added as host arrays; the JSON refers to their
             names

    Raises TypeError for any other value.
    """
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dictionary": {key: pack(part, f"{name}.{key}", arrays)
                               for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        parts = [pack(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if type(value) is Tensor or (isinstance(value, (np.ndarray, backend.xp.ndarray))
                                 and value.dtype.kind in "biuf"):
        # a name that is taken, or that an .npz file may not keep, is replaced
        if name in arrays or not re.fullmatch(r"[\w.]+", name):
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
                    "arrays of numbers, in lists, tuples and dictionaries that are keyed by text")


def unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the value that pack() converted, with its arrays on the current backend.

    Raises an Exception of some type for a value that pack() cannot have made.
    """
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


def _describe_as_text(value):
    """Return the description of a value as a text, or None if describe() does not take it."""
    with contextlib.suppress(TypeError):
        return json.dumps(describe(value))


class _Checksum(pickle.Pickler):
    """Compute `sum`, a checksum of the objects given to dump(); nothing is ever loaded from it.

    What is in `kept`, see list_kept(), is left out, since a checkpoint has it. So is what is
    STATELESS. dump() raises an error for a file: an object that writes to one, such as a progress
    bar, may change, and all of a notebook can be reached from it.
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
            left_out = *thing.untracked, *thing._kept
            return str, (type(thing).__qualname__,), {
                name: value for name, value in vars(thing).items() if name not in left_out}
        # pickle itself refuses classes and functions that it could not find again by name
        if thing is str or not isinstance(thing, (type, types.FunctionType)):
            return NotImplemented
        # what a function holds may be a counter; other objects there are not followed
        held = list_held(thing) if isinstance(thing, types.FunctionType) else []
        return str, (thing.__qualname__,), [_describe_as_text(each) for each in held]


def _fingerprint(value, kept):
    """Return a text that is another one when the value has changed, or None if there is none.

    It is the description, or else a checksum. Lists of Tensors have none: they are computed anew in
    each step, such as the features of D in a loss.
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


def list_settings(game: nn.Module, text: Callable = _describe_as_text) -> dict[str, str]:
    """Return {name: text} of the numbers and other settings of a game and its parts.

    Settings are numbers, texts, losses and other values that describe() takes, but no Modules.
    """
    others = nn.Module, Tensor, backend.xp.ndarray
    texts = {prefix + name: text(value) for prefix, part in game.modules()
             for name, value in vars(part).items()
             if name not in (*part.untracked, "training") and not isinstance(value, others)}
    return {name: each for name, each in texts.items() if each is not None}


def list_fixed(game: nn.Module, kept: dict[int, Any]) -> dict[str, str]:
    """Return {name: text} of what training must not change of a game: restore() does not set it.

    These are its settings, the shapes of its arrays, and objects of other classes that it has, if
    pickle takes them: a file or a generator in such an object ends the comparison. `kept` is what
    may change in these objects, see list_kept().
    """
    shapes = {name: str(array.shape) for name, array in game.arrays().items()}
    texts = {**list_settings(game, lambda value: _fingerprint(value, kept)), **shapes}
    return {f"game.{name}": text for name, text in texts.items()}


def list_optimiser_settings(optimisers: dict[str, Optimizer],
                            kept: dict[int, Any]) -> dict[str, str]:
    """Return {name: text} of the optimisers' settings, which training must not change either.

    Raises TypeError for arrays that a checkpoint would not keep.
    """
    found = {}
    for player, opt in optimisers.items():
        parameters = {id(p) for p in opt.parameters}
        for name, value in vars(opt).items():
            if name in (*opt.changing, *opt.untracked):
                continue
            if isinstance(value, Optimizer) or any(
                    id(thing) not in parameters for thing in find_inside(value)):
                raise TypeError(f"{player}'s {name} holds arrays that a checkpoint would not keep: "
                                "name the arrays of an optimiser in its class's `averages`, or in "
                                "`untracked` if a resumed run does not need them")
            if (text := _fingerprint(value, kept)) is not None:
                found[f"{player}.{name}"] = text
    return found


def list_kept(game: nn.Module, optimisers: dict[str, Optimizer], data: Any) -> dict[int, Any]:
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
    kept = list_kept(game, optimisers, data)
    for prefix, part in game.modules():
        for name, value in vars(part).items():
            for each in find_inside(value, STATEFUL) if name not in part.untracked else ():
                if id(each) in kept:
                    continue
                advice = ("give it to the Run in its dictionary of optimisers"
                          if isinstance(each, Optimizer) else
                          "make it a part of the data stream, as data.ZipMinibatches does"
                          if isinstance(each, Iterator) else
                          "draw from the rng that latent() and noise() get, in a layer from "
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


def _name_parameters(game, optimisers):
    """Return {optimiser: the names of its parameters in the game}; None for others' parameters."""
    names = {p: name for name, p in reversed(game.named_arrays(Tensor).items())}
    return {name: [names.get(p) for p in opt.parameters] for name, opt in optimisers.items()}


def _list_briefly(names):
    """Return a list of names as a text of at most a hundred letters."""
    text = ", ".join(map(str, names))
    return text if len(text) <= 100 else f"{text[:97]}..."


def _is_from_tinygan(thing):
    return type(thing).__module__.startswith("tinygan.")


def _arrays(game, optimisers):
    """Return {name: array} of all arrays that training changes, not copied."""
    arrays = {f"game.{name}": array for name, array in game.arrays().items()}
    for player, opt in optimisers.items():
        for average, each in opt.state.items():
            arrays |= {f"{player}.{average}.{i}": array for i, array in enumerate(each)}
    return arrays
