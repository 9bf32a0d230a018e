"""A game in words: how it was made, so that it can be made anew.

A Module is described by the qualified name of its class and the arguments of its constructor, and
so is each Module, loss, penalty or schedule among these. build() makes it from that, with classes
of tinygan's modules or of those that the caller names: nothing in a description is executed but
their constructors.
"""

import contextlib
import dataclasses
import inspect
import itertools
import json
import os
import sys
import types

import numpy as np

from .. import nn
from ..backend import UserError
from ..games import Game
from ..random import rng

CHANGES = {nn.spectral_norm, Game.keep_average}     # what may be done to a Module after it is made
COMPUTING = {"ops", "conv", "nn", "schedules", "games", "networks"}     # a file's functions' rooms
MOST = 10_000           # parts of a Module that is made from a file


def describe(thing, before=None, known=None):
    """Return how a Module, a schedule or an argument was made, as JSON has it.

    A Module that is in two places is described once, and then by its number. Classes and functions
    are noted in the dictionary `known`. Raises TypeError for what cannot be described.
    """
    before, known = ({} if d is None else d for d in (before, known))

    def all_of(things):
        return {name: describe(value, before, known) for name, value in things.items()}
    if isinstance(thing, nn.Module):
        if id(thing) in before:
            return {"again": before[id(thing)]}
        before[id(thing)] = len(before)
        return {"class": _name(type(thing), known), "arguments": all_of(_arguments(thing)),
                "changes": [[_name(function, known), all_of(keywords)]
                            for function, keywords in thing._changes]}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {"class": _name(type(thing), known), "arguments": all_of(
            {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)})}
    if isinstance(thing, (types.FunctionType, type)) and thing.__qualname__.isidentifier():
        return {"function": _name(thing, known)}
    if isinstance(thing, (list, tuple)):
        parts = [describe(part, before, known) for part in thing]
        return parts if isinstance(thing, list) else {"tuple": parts}
    if isinstance(thing, dict) and all(isinstance(key, str) for key in thing):
        return {"dictionary": all_of(thing)}
    if isinstance(thing, np.generic):
        return thing.item()
    if isinstance(thing, (str, int, float)) or thing is None:
        return thing
    raise TypeError(f"a checkpoint cannot describe a {type(thing).__name__} ({thing!r:.60}) that a "
                    "constructor was given: give numbers, texts, named functions, Modules, or "
                    "lists, tuples or dictionaries (by text) of these")


def _arguments(module):
    """{name: argument} of a Module's constructor, with * before the name of those that it takes any
    number of. Initial weights are left out: the file has the weights."""
    args, kwargs = module._arguments
    bound = inspect.signature(type(module).__init__).bind(module, *args, **kwargs)
    bound.apply_defaults()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = list(bound.signature.parameters.values())[1:]
    return {stars.get(p.kind, "") + p.name: bound.arguments[p.name]
            for p in parameters if p.name != "init"}


def _name(thing, known):
    """The qualified name of a class or function; "script.Class" for one of the running script."""
    module = thing.__module__
    if module == "__main__":
        path = getattr(sys.modules["__main__"], "__file__", None) or "__main__"
        module = os.path.splitext(os.path.basename(path))[0]
    name = f"{module}.{thing.__qualname__}"
    if known.setdefault(name, thing) is not thing:
        raise TypeError(f"two classes or functions have the one name {name}, by which a checkpoint "
                        "could not tell them apart: give them others")
    return name


class MadeUp(Exception):
    """A description that no game of this version has."""


def build(description, known, numbers):
    """Return the Module that describe() told of, its weights zeros, `numbers` of them at most.

    Raises MadeUp for a description of nothing, UserError for a class that is neither tinygan's nor
    `known`.
    """
    names = {}
    for thing in known:
        _name(thing, names)
    state = rng.state               # a known class may draw from it
    try:
        with nn.init.blank(numbers):
            return _build(description, names, [])
    except RecursionError:
        raise MadeUp("it describes no game") from None
    finally:
        rng.state = state


def _build(part, known, before):
    def all_of(things):
        return {name: _build(p, known, before) for name, p in things.items()}
    if isinstance(part, list):
        return [_build(p, known, before) for p in part]
    if not isinstance(part, dict):
        return part
    match part:
        case {"again": int(number)} if 0 <= number < len(before) and before[number] is not None:
            return before[number]
        case {"tuple": list(parts)}:
            return tuple([_build(p, known, before) for p in parts])
        case {"dictionary": dict(parts)}:
            return all_of(parts)
        case {"function": str(name)}:
            return _find(name, known)
        case {"class": str(name), "arguments": dict(arguments)}:
            return _make(name, arguments, part.get("changes", []), known, before)
    raise MadeUp("it describes no game")


def _make(name, arguments, changes, known, before):
    """The object of the class of this name, made by its constructor."""
    kind = _find(name, known)
    ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    is_module = isinstance(kind, type) and issubclass(kind, nn.Module)
    if not is_module and not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise MadeUp(f"{_word(name)} is no class of Modules")
    if is_module:
        number = len(before)
        before.append(None)         # as describe() counts: a Module before what it consists of
    given = {name: _build(p, known, before) for name, p in arguments.items()}
    args, keywords = [], {}
    try:
        for each, value in given.items():
            if each[:2] == "**":
                keywords.update(value)
            elif each[:1] == "*":       # what comes before a * is given by its place
                args, keywords = [*keywords.values(), *value], {}
            else:
                keywords[each] = value
        inspect.signature(kind.__init__).bind(None, *args, **keywords)
    except (TypeError, ValueError) as error:
        if not ours:
            raise UserError(f"the class {_word(name)} has changed since the run was played "
                            f"({error}): give what is new a default") from None
        raise MadeUp(f"{_word(name)} is not made like that ({error})") from None
    try:
        thing = kind(*args, **keywords)
    except UserError:
        raise
    except Exception as error:
        if not ours:
            raise
        raise MadeUp(f"{_word(name)} is not made like that ({type(error).__name__})") from None
    if is_module:
        before[number] = thing
        _change(thing, name, changes, known, before)
    return thing


def _change(module, name, changes, known, before):
    """Do to a Module what was done after it was made."""
    try:
        for function, keywords in changes:
            function = _find(function, known)
            if function not in CHANGES:
                raise TypeError
            function(module, **{key: _build(p, known, before) for key, p in keywords.items()})
        # a part may be in many parts, each of which is in many ...
        if len(list(itertools.islice(module.modules(), MOST + 1))) > MOST:
            raise MadeUp(f"{_word(name)} has more than {MOST} parts")
    except (UserError, MadeUp):
        raise
    except Exception as error:
        raise MadeUp(f"{_word(name)} is not made like that ({type(error).__name__})") from None


def _find(name, known):
    """The class or function of this qualified name: among the known, else below tinygan."""
    if name in known:
        return known[name]
    module, _, rest = name.partition(".")
    thing = sys.modules[__name__.partition(".")[0]] if module == "tinygan" else None
    for part in rest.split(".") if thing else ():
        if not isinstance(thing, (types.ModuleType, type)) or part[:1] == "_":
            thing = None
            break
        thing = vars(thing).get(part)
    if isinstance(thing, (type, types.FunctionType)) and thing.__module__.startswith("tinygan."):
        if isinstance(thing, type) or thing.__module__.split(".")[1] in COMPUTING:
            return thing
    if module == "tinygan":
        raise MadeUp(f"this version of tinygan has no {_word(name)}")
    last = _word(name.rpartition(".")[2])
    raise UserError(f"this run was played with {_word(name)}, which is not tinygan's: give it to "
                    f"load, as in load(run, {last}), or to a script by --module")


def describe_optimiser(opt, known=None):
    """Return the class and the settings of an optimiser, as JSON has them; see describe()."""
    known = {} if known is None else known
    work = ("parameters", "state", "t")
    return {"class": _name(type(opt), known), "arguments": {
        name: describe(value, known=known) for name, value in vars(opt).items()
        if name not in work and not name.startswith("_")}}


def difference(there, here, name, known):
    """Where two descriptions differ first, in words; None if nowhere. An argument that came after
    the older one was written has its default there."""
    if isinstance(there, dict) and isinstance(here, dict):
        kind = here.get("class")
        if isinstance(kind, str) and kind in known and there.get("class") == kind:
            later = _defaults(known[kind], here["arguments"].keys())
            there = {**there, "arguments": {**later, **there["arguments"]}}
        keys = [*here, *(key for key in there if key not in here)]
        pairs = [(key, there.get(key), here.get(key)) for key in keys]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = zip(range(len(here)), there, here)
    else:
        return None if there == here else f"{name} was {_short(there)}, now {_short(here)}"
    return next(filter(None, (
        difference(a, b, name if key == "arguments" else f"{name}.{_word(key)}".strip("."), known)
        for key, a, b in pairs)), None)


def _defaults(kind, names):
    """{name: description of its default} of those of a constructor's arguments that have one."""
    defaults = {name: {"dictionary": {}} if name[:2] == "**" else {"tuple": []}
                for name in names if name[:1] == "*"}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in names and parameter.default is not parameter.empty:
            with contextlib.suppress(TypeError):        # no default that can be described
                defaults[name] = json.loads(json.dumps(describe(parameter.default)))
    return defaults


def _short(part):
    return json.dumps(part.get("class", part) if isinstance(part, dict) else part)[:60]


def _word(name):
    """A name from a file, on one line."""
    return json.dumps(name).strip('"')
