"""Search a value for objects of certain classes: what a list, a function or an object holds."""

import contextlib
import dataclasses
import dis
import functools
import io
import types
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from . import backend


def find(value: Any, kinds: tuple[type, ...], leaves: tuple[type, ...] = ()) -> Iterator[Any]:
    """Yield the objects of the classes `kinds` inside a value.

    The search enters collections, dataclass objects, the closures, defaults and bound objects of
    functions, and the attributes of other objects. It does not enter the attributes of an object
    that it found in another object's attributes: a progress bar, for example, leads to the whole
    notebook. Nor does it enter objects of the classes `leaves` or `kinds`, or follow weak
    references. Arrays in functions and objects are constants and are not yielded; neither are
    files.
    """
    leaves = (*leaves, int, float, str, bytes, range, type(None), type, types.ModuleType,
              np.ndarray, backend.xp.ndarray)
    # with each value, whether it lies in an object, and whether arrays in it are constants
    left, seen = [(value, False, False)], {}      # {id: object}, which keeps the objects alive
    while left:
        value, in_object, constant = left.pop()
        if type(value) in weakref.ProxyTypes:       # isinstance() would take it for any iterator
            continue
        if isinstance(value, kinds) and not isinstance(value, io.IOBase):
            if not (constant and isinstance(value, backend.xp.ndarray)):
                yield value
            continue
        if id(value) in seen or isinstance(value, leaves):
            continue
        seen[id(value)] = value
        # iterating over an object of another class may use it up, as a progress bar's stream
        is_collection = isinstance(value, (list, tuple, set, frozenset, Mapping)) or (
            isinstance(value, Collection) and not hasattr(value, "__dict__"))
        if isinstance(value, types.FunctionType):
            held = list_held(value)
        elif isinstance(value, functools.partial):
            held = [value.func, value.args, value.keywords]
        elif isinstance(value, types.MethodType):
            held = [value.__self__]
        elif isinstance(value, Mapping):
            held = [*value.keys(), *value.values()]
        elif is_collection:
            held = list(value)
        elif dataclasses.is_dataclass(value):
            held = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
        elif in_object:
            continue
        else:
            held, in_object = _list_values(value), True
        constant = constant or not is_collection
        left += [(item, in_object, constant) for item in reversed(held)]


def list_held(function: types.FunctionType) -> list[Any]:
    """List a function's default arguments and the values of the variables of its closure."""
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):       # the variable has no value yet
            held.append(cell.cell_contents)
    return held


@functools.lru_cache(1000)
def list_globals(code: types.CodeType) -> list[str]:
    """List the names of global variables that a function's code reads, or a function inside it."""
    names = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return list(dict.fromkeys(names + [name for each in inner for name in list_globals(each)]))


def _list_values(thing):
    """List the values of an object's attributes, also of those in the __slots__ of its class."""
    found = list(getattr(thing, "__dict__", {}).values())
    for base in type(thing).__mro__:
        for slot in vars(base).values() if "__slots__" in vars(base) else ():
            if isinstance(slot, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):       # it has no value yet
                    found.append(slot.__get__(thing))
    return found
