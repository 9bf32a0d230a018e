"""Checkpoints: the state of a run in one file, from which the run can be resumed.

A checkpoint is an .npz file of plain arrays, which contains nothing that could be executed:

    game.G.0.weight ...     the game's parameters and buffers
    d_opt.m.0 ...           the optimisers' arrays, such as one for each of their parameters
    data.order ...          the arrays in the state of the data stream
    about                   everything else, as a JSON text: the description of the game, the step,
                            the state of the random stream, and more

load() makes the game again from its description (see description.py).
"""

import contextlib
import glob
import json
import os
import random
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import backend, nn
from ..backend import UserError
from ..files import read_arrays, atomic_write
from ..games import Game
from ..nn.module import find_names
from ..optim import Optimizer
from ..random import rng
from ..tensor import Tensor
from .description import InvalidDescription, build, describe, describe_optimiser, find_difference

FORMAT = 3                  # the number of the file format that this version writes and reads
NAME = "checkpoint.npz"     # the name of the file in the folder of a run


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

    The state of tinygan.rng is saved too. Raises FloatingPointError if a weight or an average is
    NaN or infinite: such a checkpoint could not be resumed, so it must not replace a good one.
    Raises OSError if the file cannot be written.
    """
    state = {name: backend.to_numpy(a) for name, a in _arrays(game, optimisers).items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f"{name} is no longer finite")
    about = {**about, "format": FORMAT, "game": describe(game), "rng": rng.state,
             "data": pack(data.state, "data", state),
             "evaluating": [prefix for prefix, part in game.modules() if not part.training],
             "optimisers": {name: describe_optimiser(opt) for name, opt in optimisers.items()},
             "parameters": name_parameters(game, optimisers),
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
            same = "resume with the same ones" + (
                " and the same --steps, on which a learning rate may depend"
                if re.match(r"._opt\.lr\.\w+ was", found) else "")
            raise UserError(f"{path} was saved with other networks or settings ({found}): {same}, "
                            "or start another run")
        for name, mine in name_parameters(game, optimisers).items():
            if mine != (theirs := about["parameters"][name]):
                had, has = (textwrap.shorten(", ".join(map(str, names)), 100, placeholder="...")
                            for names in (theirs, mine))
                raise UserError(f"{path} was saved with other parameters in {name} (it had {had}, "
                                f"not {has}): resume with the same ones in their order, or start "
                                "another run")
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
        evaluating = set(about["evaluating"])
        state, stream = unpack(about["data"], arrays), about["rng"]
        type(rng)().state = stream          # raises an error if it is no state of a random stream
        if streams := about.get("streams"):
            new = type(np.random.get_bit_generator())()
            if (was := streams["numpy"]["bit_generator"]) != type(new).__name__:
                raise UserError(f"{path} was saved while np.random drew from {was!r:.60}, not from "
                                f"{type(new).__name__}: call np.random.set_bit_generator() before "
                                "resuming")
            set_streams(streams, np.random.RandomState(new), random.Random())
    ours = type(data).__module__.startswith("tinygan.")
    with report_damage(path, "the state of its data does not fit", ours):
        data.state = state
    rng.state = stream
    if streams:
        set_streams(streams)
    for name, array in _arrays(game, optimisers).items():
        array[...] = backend.xp.asarray(values[name])
    for name, opt in optimisers.items():
        opt.t = steps[name]
    _set_modes(game, evaluating)
    game.touch()


@contextlib.contextmanager
def report_damage(path: str | os.PathLike, what: str, ours: bool = True) -> Iterator[None]:
    """Turn any error in the context into a UserError that the file at `path` is damaged.

    `what` says what is wrong with it. UserErrors stay as they are, and so do all errors unless the
    code in the context is `ours`, which is tinygan's: a user's code may have faults of its own.
    """
    try:
        yield
    except UserError:
        raise
    except Exception:
        if not ours:
            raise
        raise UserError(f"{path} is damaged: {what}") from None


def load(run: str | os.PathLike, *known: type | Callable) -> Game:
    """Return the game of the run in the folder `run`, from its last checkpoint.

        game = tinygan.load("runs/gan_mnist")
        images = game.sample(game.latent(64, tinygan.rng))

    The game is in evaluation mode, and so are its networks. play() switches the game to training
    mode, but for parts that the run had in evaluation mode. If you make another game of its
    networks, call their train() first, or play() refuses them. `known` are the classes and
    functions that it uses and that are not tinygan's. Raises UserError if one of them is missing,
    or if there is no checkpoint or a damaged one, and TypeError for anything else in `known`. An
    error in the constructor of a class in `known` is raised as it is.
    """
    for thing in known:
        if not isinstance(thing, (type, types.FunctionType)):
            raise TypeError("load takes the classes and functions of the game, one after the other "
                            f"as in load(run, MyGame, MyLayer), got a {type(thing).__name__}")
    return make_game(read_run(run), known)


def read_run(run: str | os.PathLike) -> Checkpoint:
    """Return the last checkpoint of the run in the folder `run`; raise what load() raises."""
    path = os.path.join(run, NAME)
    if not os.path.exists(path):
        inside = sorted(glob.glob(os.path.join(glob.escape(run), "*", NAME)))
        raise UserError(f"there is no {NAME} in {run}: give the folder of a run" + (
            f", such as {os.path.dirname(inside[0])}" if inside else ""))
    return read(path)


def make_game(saved: Checkpoint, known: Sequence[type | Callable]) -> Game:
    """Return the game of a checkpoint; see load()."""
    path, about, arrays = saved
    weights = {name.removeprefix("game."): array for name, array in arrays.items()
               if name.startswith("game.")}
    try:
        game = build(about["game"], known, sum(array.size for array in weights.values()))
        if not isinstance(game, nn.Module):
            raise InvalidDescription("it describes no game")
        if not isinstance(game, Game):
            raise UserError(f"the run trained a {type(game).__name__}, which is no game: give the "
                            "folder of a run that trained a game")
        _set_dtypes(game, weights)
        try:
            with np.errstate(over="ignore"):
                game.load_state_dict(weights)
        except TypeError as error:      # two parts have one name, or nothing finds a part
            raise InvalidDescription(error) from None
        if not all(np.isfinite(array).all() for array in game.state_dict().values()):
            raise InvalidDescription("it has weights that are not finite")
        with report_damage(path, "its parts do not fit together"):
            _set_modes(game, set(about["evaluating"]))
    except (InvalidDescription, UserError) as error:
        said = f"{path} is damaged" if isinstance(error, InvalidDescription) else path
        # names from the file may have line breaks and terminal commands in them
        reason = "".join(c if c.isprintable() else " " for c in str(error))
        raise UserError(f"{said}: {reason}") from None
    return game.eval()


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


def name_parameters(game: nn.Module, optimisers: dict[str, Optimizer]) -> dict[str, list]:
    """Return {optimiser: the names of its parameters in the game}; None for others' parameters."""
    names = find_names(game)
    return {name: [names.get(p) for p in opt.parameters] for name, opt in optimisers.items()}


def _arrays(game, optimisers):
    """Return {name: array} of all arrays that training changes, not copied."""
    return {f"{owner}.{name}": array for owner, each in {"game": game, **optimisers}.items()
            for name, array in each.arrays().items()}


def _set_dtypes(game, weights):
    """Give the game's arrays of floats the dtypes, float32 or float64, of the saved ones."""
    for prefix, part in game.modules():
        for name, value in part.own_arrays((Tensor, backend.xp.ndarray)):
            saved = weights.get(prefix + name, value)
            if {saved.dtype.name, value.dtype.name} != {"float32", "float64"}:
                continue
            if type(value) is Tensor:
                value.data = value.data.astype(saved.dtype)
            else:
                setattr(part, name, value.astype(saved.dtype))


def _set_modes(game, evaluating):
    """Put the parts whose prefixes are in `evaluating` into evaluation mode, others in training."""
    for prefix, part in game.modules():
        part.training = prefix not in evaluating
