"""Descriptions: how a game was made, as JSON, from which it can be made again.

describe() turns a Module into a description: the name of its class, the arguments of its
constructor, and the changes that were made to it afterwards. Arguments that are Modules, losses,
penalties, views or schedules are described in the same way. build() turns the description into a
Module again: it calls the same constructors with the same arguments and makes the same changes.
Weights are no part of a description.

A description has these forms, where ... stands for descriptions:

    5, 0.5, "text", true, null, [...]       values that JSON has itself
    {"tuple": [...]}
    {"dictionary": {key: ...}}
    {"function": name}                      a function, or a class that is itself an argument
    {"class": name, "arguments": {key: ...}}                                a dataclass object
    {"class": name, "arguments": {key: ...}, "changes": [[name, {key: ...}], ...]}      a Module
    {"again": n}                            Module number n, which has been described before

Modules are numbered from 0 in the order in which their descriptions begin.

A checkpoint may come from anybody, so build() does not trust a description. It constructs only
Modules and dataclass objects. The description can name tinygan's public classes, its functions that
compute, and the classes and functions that the caller of build() allows. The numbers of weights and
of parts are limited. Everything else is refused.
"""

import contextlib
import dataclasses
import inspect
import itertools
import json
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import nn
from ..backend import UserError
from ..games import Game
from ..optim import Optimizer
from ..random import rng

# The functions that may have changed a Module after it was made. Such a function appends itself
# and its arguments to the Module's _changes.
CHANGES = {nn.spectral_norm, nn.weight_norm, nn.equalise, Game.keep_average}
# The modules and packages of tinygan whose functions a description may name. None of these
# functions reads or writes a file, or changes the backend.
COMPUTING = {"ops", "conv", "nn", "schedules", "games", "networks"}
MOST = 10_000           # the largest number of parts of a Module that build() makes


# From things to descriptions

def describe(thing: Any, before: dict[int, int] | None = None,
             known: dict[str, type | Callable] | None = None) -> Any:
    """Return the description of a Module, or of any other argument of a constructor.

    before   the numbers of the Modules described so far, {id: number}. A Module that occurs twice
             is described once; its second occurrence is a reference by number
    known    a dictionary to which each class and function is added that the description names,
             {name: class or function}

    Raises TypeError for what cannot be described, such as a lambda.
    """
    before = {} if before is None else before
    known = {} if known is None else known

    def describe_all(things, owner):
        return _describe_each(things, owner, before, known)
    if isinstance(thing, nn.Module):
        if id(thing) in before:
            return {"again": before[id(thing)]}
        before[id(thing)] = len(before)
        return {"class": _qualify_name(type(thing), known),
                "arguments": describe_all(_bind_arguments(thing), type(thing).__name__),
                "changes": [[_qualify_name(function, known), describe_all(keywords, "a change")]
                            for function, keywords in thing._changes]}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {field.name for field in dataclasses.fields(thing)}
        if lost := sorted(getattr(thing, "__dict__", {}).keys() - fields):
            raise TypeError(f"a checkpoint cannot describe {lost[0]} of a {type(thing).__name__}, "
                            "which is no field of the dataclass: decorate the class with "
                            f"@dataclass(frozen=True) and declare {lost[0]} as a field")
        return {"class": _qualify_name(type(thing), known), "arguments": describe_all(
            {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)},
            type(thing).__name__)}
    # lambdas, methods and nested functions could not be found again by name
    if isinstance(thing, (types.FunctionType, type)) and thing.__qualname__.isidentifier():
        return {"function": _qualify_name(thing, known)}
    if isinstance(thing, (list, tuple)):
        parts = [describe(part, before, known) for part in thing]
        return parts if isinstance(thing, list) else {"tuple": parts}
    if isinstance(thing, dict) and all(isinstance(key, str) for key in thing):
        return {"dictionary": describe_all(thing, "dictionary")}
    if isinstance(thing, np.generic):
        thing = thing.item()
    if isinstance(thing, (str, int, float)) or thing is None:
        return thing
    raise TypeError(f"a checkpoint cannot describe a {type(thing).__name__} ({thing!r:.60}) among "
                    "the arguments of a constructor: give numbers, texts, functions that are "
                    "defined at the top level of a file, Modules, objects of a dataclass, or "
                    "lists, tuples or dictionaries (with texts as keys) of these")


def describe_optimiser(opt: Optimizer, known: dict[str, type | Callable] | None = None) -> Any:
    """Return the description of an optimiser: its class and its settings.

    Classes and functions are added to `known`, as by describe().
    """
    known = {} if known is None else known
    settings = {name: value for name, value in vars(opt).items()
                if name not in (*opt.changing, *opt.untracked, *opt.arrays())
                and not name.startswith("_")}
    return {"class": _qualify_name(type(opt), known),
            "arguments": _describe_each(settings, type(opt).__name__, None, known)}


def _describe_each(things, owner, before, known):
    """Return {name: description} of what an owner has by these names.

    Raises TypeError as describe() does, with the names that lead to what cannot be described.
    """
    found = {}
    for name, value in things.items():
        try:
            found[name] = describe(value, before, known)
        except TypeError as error:
            raise TypeError(f"{owner}.{name.lstrip('*')}: {error}") from None
    return found


def _bind_arguments(module):
    """Return {name: argument} of the call of a Module's constructor, defaults included.

    The names of the parameters *args and **kwargs keep their stars. A function `init` is left out:
    it chose the initial weights, and a checkpoint has the trained ones.
    """
    args, kwargs = module._arguments
    bound = inspect.signature(type(module).__init__).bind(module, *args, **kwargs)
    bound.apply_defaults()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = list(bound.signature.parameters.values())[1:]      # without self
    if any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters):
        raise TypeError("a checkpoint has the names of a constructor's arguments, but some of "
                        f"{type(module).__name__}'s have no name: leave out the / among its "
                        "parameters")
    given = bound.arguments
    return {stars.get(p.kind, "") + p.name: given[p.name] for p in parameters if not (
        p.name == "init" and (callable(given["init"]) or given["init"] is p.default is None))}


def _qualify_name(thing, known):
    """Return the qualified name of a class or function, and add it to `known`.

    For a class Net of the running script train.py the name is "train.Net", not "__main__.Net": so
    it has the same name in a script that imports it. Raises TypeError if `known` has something else
    by this name.
    """
    module = thing.__module__
    if module == "__main__":
        path = getattr(sys.modules["__main__"], "__file__", None) or "__main__"
        module = os.path.splitext(os.path.basename(path))[0]
    name = f"{module}.{thing.__qualname__}"
    if known.setdefault(name, thing) is not thing:
        raise TypeError(f"two classes or functions have the one name {name}, so that a checkpoint "
                        "cannot tell them apart: give them different names")
    return name


# From descriptions to things

class InvalidDescription(Exception):
    """A description from which this version of tinygan cannot make a game."""


def build(description: Any, known: Iterable[type | Callable], numbers: float) -> nn.Module:
    """Return the Module that `description` describes, with zeros for weights.

    known     the classes and functions, beside tinygan's, that the description may name
    numbers   the largest number of weights that the Module may have

    tinygan.rng is in the same state afterwards as before. Raises InvalidDescription if the
    description has another form or does not fit tinygan's classes, and UserError if it names a
    class or function that is neither tinygan's nor in `known`, or arguments that a class in `known`
    does not take. An error in the constructor of a class in `known` is raised as it is.
    """
    names = {}
    for thing in known:
        _qualify_name(thing, names)
    state = rng.state               # the constructor of a class in `known` may draw from it
    try:
        with nn.init.skip_init(numbers):
            return _build(description, names, [])
    except RecursionError:
        raise InvalidDescription("it describes no game") from None
    finally:
        rng.state = state


def _build(part, known, modules):
    """Return what a part of a description describes.

    `known` is {name: class or function}. `modules` is the list of the Modules built so far, by
    number; the place of a Module whose arguments are being built is still None.
    """
    def build_all(parts):
        return {name: _build(p, known, modules) for name, p in parts.items()}
    if isinstance(part, list):
        return [_build(p, known, modules) for p in part]
    if not isinstance(part, dict):
        return part
    match part:
        case {"again": int(n)} if 0 <= n < len(modules) and modules[n] is not None:
            return modules[n]
        case {"tuple": list(parts)}:
            return tuple([_build(p, known, modules) for p in parts])
        case {"dictionary": dict(parts)}:
            return build_all(parts)
        case {"function": str(name)}:
            return _look_up(name, known)
        case {"class": str(name), "arguments": dict(arguments)}:
            return _construct(name, arguments, part.get("changes", []), known, modules)
    raise InvalidDescription("it describes no game")


def _construct(name, arguments, changes, known, modules):
    """Return an object of the class `name`: call its constructor, then apply the changes."""
    kind = _look_up(name, known)
    from_tinygan = kind.__module__.startswith("tinygan.")
    is_module = isinstance(kind, type) and issubclass(kind, nn.Module)
    if not is_module and not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise InvalidDescription(f"{_quote(name)} is no class of Modules or settings")
    if is_module:
        number = len(modules)
        modules.append(None)        # describe() numbers a Module before its arguments
    given = {key: _build(p, known, modules) for key, p in arguments.items()}
    args, keywords = [], {}
    try:
        for key, value in given.items():
            if key[:2] == "**":
                keywords.update(value)
            elif key[:1] == "*":        # the parameters before *args are given by position
                args, keywords = [*keywords.values(), *value], {}
            else:
                keywords[key] = value
        inspect.signature(kind.__init__).bind(None, *args, **keywords)
    except (TypeError, ValueError) as error:
        if not from_tinygan:
            raise UserError(f"the class {_quote(name)} has changed since the run was made "
                            f"({error}): keep its old parameters, and give new ones a default"
                            ) from None
        raise InvalidDescription(
            f"{_quote(name)} cannot be constructed in this way ({error})") from None
    with _report_misfit(name) if from_tinygan else contextlib.nullcontext():
        thing = kind(*args, **keywords)
    if not is_module:
        return thing
    modules[number] = thing
    with _report_misfit(name):
        for function, keywords in changes:
            function = _look_up(function, known)
            if function not in CHANGES:
                raise TypeError
            function(thing, **{key: _build(p, known, modules) for key, p in keywords.items()})
        # A Module that is a part twice counts twice. If its own parts are such Modules again, the
        # number of parts grows exponentially with the depth.
        if len(list(itertools.islice(thing.modules(), MOST + 1))) > MOST:
            raise InvalidDescription(f"{_quote(name)} has more than {MOST} parts")
    return thing


@contextlib.contextmanager
def _report_misfit(name):
    """Turn an error in the context, where a `name` is made, into InvalidDescription."""
    try:
        yield
    except (UserError, InvalidDescription):
        raise
    except Exception as error:
        raise InvalidDescription(
            f"{_quote(name)} cannot be constructed in this way ({type(error).__name__})") from None


def _look_up(name, known):
    """Return the class or function with this qualified name, from `known` or from tinygan.

    tinygan's are its public classes, and the public functions of the modules in COMPUTING.
    """
    if name in known:
        return known[name]
    package, _, rest = name.partition(".")
    thing = sys.modules["tinygan"] if package == "tinygan" else None
    for part in rest.split("."):
        is_public = isinstance(thing, (types.ModuleType, type)) and part[:1] != "_"
        thing = vars(thing).get(part) if is_public else None
    # tinygan's modules contain things that they import from elsewhere, which are not meant
    if isinstance(thing, (type, types.FunctionType)) and thing.__module__.startswith("tinygan."):
        if isinstance(thing, type) or thing.__module__.split(".")[1] in COMPUTING:
            return thing
    if package == "tinygan":
        raise InvalidDescription(f"this version of tinygan has no {_quote(name)}")
    last = _quote(name.rpartition(".")[2])
    others = [other for other in known if _quote(other.rpartition(".")[2]) == last]
    raise UserError(f"this run was made with {_quote(name)}, which is not tinygan's: give it to "
                    f"load, as in load(run, {last}), or give a script the file that defines it, by "
                    "--module" + (f" ({_quote(others[0])} was given, but the file must have the "
                                  "same name too)" if others else ""))


# Comparing descriptions

def find_difference(there: Any, here: Any, name: str,
                    known: dict[str, type | Callable]) -> str | None:
    """Return the first difference between two descriptions, in words, or None if there is none.

    there   the description in a checkpoint
    here    the description of the present game or optimiser
    name    the words that name what they describe, such as "game.D"; the answer begins with them,
            as in "game.D.slope was 0.1, now 0.3"
    known   the classes that `here` names, {name: class}, as from describe()

    An argument that a class did not yet take when the checkpoint was written counts there as its
    default.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        kind = here.get("class")
        if isinstance(kind, str) and kind in known and there.get("class") == kind:
            defaults = _describe_defaults(known[kind], here["arguments"].keys())
            there = {**there, "arguments": {**defaults, **there["arguments"]}}
        keys = [*here, *(key for key in there if key not in here)]
        pairs = [(key, there.get(key), here.get(key)) for key in keys]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = zip(range(len(here)), there, here)
    else:
        same = there == here or there != there and here != here         # NaN
        return None if same else f"{name} was {_shorten(there)}, now {_shorten(here)}"
    return next(filter(None, (
        find_difference(a, b, name if key == "arguments" else f"{name}.{_quote(key)}".strip("."),
                        known) for key, a, b in pairs)), None)


def _describe_defaults(kind, names):
    """Return {name: description} of the defaults of the parameters `names` of a constructor.

    Parameters without a default, or with one that cannot be described, are left out.
    """
    defaults = {name: {"dictionary": {}} if name[:2] == "**" else {"tuple": []}
                for name in names if name[:1] == "*"}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in names and parameter.default is not parameter.empty:
            with contextlib.suppress(TypeError):
                defaults[name] = json.loads(json.dumps(describe(parameter.default)))
    return defaults


def _shorten(part):
    """Return the name of a description's class, or the description; at most 60 characters."""
    return json.dumps(part.get("class", part) if isinstance(part, dict) else part)[:60]


def _quote(name):
    """Return a name from a file as printable ASCII on one line."""
    return json.dumps(name).strip('"')
