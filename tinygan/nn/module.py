"""The base class of layers and networks: a function with parameters.

The attributes of a Module decide what belongs to it:

    a Tensor    is a parameter
    an array    is a buffer, which is saved but not learned, such as a running mean
    a Module    is a part, and so is each Module in a list, a tuple or a dictionary

forward() may set attributes too:

    a Tensor that it makes by Tensor(...)   is a parameter
    a computed Tensor, or an input Tensor   is only stored: neither trained nor saved
    an input array                          is only stored, unless a buffer has this name
    any other array                         is a buffer, and copied, since loading writes to buffers

What forward() has only stored stays so, whatever forward() sets in its place later.

Names, shapes and the order of axes are PyTorch's, so weights can be exchanged with PyTorch.
"""

import contextlib
import dataclasses
import functools
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from .. import backend, pytorch, search
from ..backend import Array, UserError
from ..nested import flatten_nested
from ..numbers import is_real, is_whole
from ..tensor import Tensor, no_grad, now


# the age at which the innermost call of a Module began, or None outside one, and the call's inputs
_call = ContextVar("call", default=(None, ()))


class Module:
    """A function of Tensors with parameters; subclasses define forward().

    training    True in training mode, False in evaluation mode; dropout and batch normalisation
                compute differently in the two modes
    untracked   the names of attributes that are not parameters, buffers or parts
    """

    # _arguments are the constructor's arguments. _changes are pairs (function, keywords): what has
    # changed the Module later, such as spectral_norm. A checkpoint saves both (see
    # runs/description.py).
    # _stored are the names of what forward() has only stored. All three are replaced, and not
    # changed in place, because a shallow copy of the Module has the same objects.
    __slots__ = ("_arguments", "_changes", "_stored", "__dict__", "__weakref__")

    training = True
    untracked = ()

    def forward(self, *inputs: Any) -> Any:
        """Return the output for these inputs. Call the Module itself, which calls forward."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *inputs):
        token = _call.set((now(), inputs))     # by hand in 0.15 us, use_value() takes 0.9
        try:
            y = self.forward(*inputs)
        except (AttributeError, TypeError) as error:
            x = inputs[0] if inputs else None
            if isinstance(x, backend.xp.ndarray) and x.dtype.kind == "f":
                raise TypeError(f"{type(self).__name__} got an array as its input: write "
                                f"Tensor(array), unless it takes arrays ({error})") from error
            raise
        finally:
            _call.reset(token)
        if y is None:
            raise TypeError(f"{type(self).__name__}.forward() returned None: end it with a return")
        return y

    def parts(self) -> list[tuple[str, "Module"]]:
        """List (name, Module) of each part, in the order in which they were set.

        A part's name is that of the attribute. The index in a list or the key in a dictionary
        follows after a dot. Raises TypeError if two parts have the same name.
        """
        parts = [part for name, value in vars(self).items()
                 if not isinstance(value, _SIMPLE) and name not in self.untracked
                 for part in _parts(name, value)]
        if len(dict(parts)) < len(parts):
            raise TypeError(f"two parts of {type(self).__name__} have the same name among "
                            f"{[name for name, _ in parts]}: give them other names")
        return parts

    def modules(self, prefix: str = "", above: tuple = ()) -> Iterator[tuple[str, "Module"]]:
        """Yield (prefix, Module) for this Module and all Modules inside it, at any depth.

        The names of a Module's arrays begin with its prefix. `above` are the Modules that contain
        this one; an attribute that refers to one of them is not a part.
        """
        yield prefix, self
        above = (*above, self)
        for name, part in self.parts():
            if not any(part is other for other in above):       # a class may define ==
                yield from part.modules(f"{prefix}{name}.", above)

    def own_arrays(self, kind: type | tuple[type, ...]) -> list[tuple[str, Any]]:
        """List (name, attribute) of this Module's parameters or buffers, without its parts."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, kind)
                and name not in self.untracked and name not in self._stored]

    def named_arrays(self, kind: type, above: tuple = ()) -> dict[str, Any]:
        """Return {name: attribute} of all parameters (kind Tensor) or buffers (kind xp.ndarray)."""
        return {prefix + name: value for prefix, module in self.modules(above=above)
                for name, value in module.own_arrays(kind)}

    def parameters(self, above: tuple = ()) -> list[Tensor]:
        """List the parameters; a parameter that two parts share is listed once.

        `above` is as in modules(). Raises TypeError for a parameter in a place that is not
        searched, such as a set.
        """
        _check_found(self)
        return list(dict.fromkeys(self.named_arrays(Tensor, above).values()))

    def arrays(self) -> dict[str, Array]:
        """Return {name: array} of all parameters and buffers, not copied.

        Raises TypeError for a Tensor or an array in a place that is not searched.
        """
        _check_found(self)
        parameters = {name: p.data for name, p in self.named_arrays(Tensor).items()}
        buffers = self.named_arrays(backend.xp.ndarray)
        return {**parameters, **buffers}

    def touch(self) -> None:
        """Record that the parameters' arrays have been written to, see Tensor.touch."""
        for p in self.parameters():
            p.touch()

    def train(self, training: bool = True) -> "Module":
        """Switch to training mode, or with False to evaluation mode, and return self.

        Raises TypeError for anything but True and False.
        """
        if not isinstance(training, (bool, np.bool_)):
            raise TypeError(f"train() takes True or False, got {training!r:.60}")
        for _, module in self.modules():
            module.training = training
        return self

    def eval(self) -> "Module":
        """Switch to evaluation mode and return self."""
        return self.train(False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return {name: numpy array} of all parameters and buffers, copied to the host.

        In PyTorch: module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}).
        """
        return {name: backend.to_numpy(array).copy(order="C")
                for name, array in self.arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the values of `state` into the parameters and buffers.

        The values are arrays, or anything that numpy converts to arrays. PyTorch's
        `num_batches_tracked`, which no computation uses, is ignored. Raises UserError if a name is
        missing or unknown, if a shape differs, for values that are no numbers, if an array of the
        network is read-only, and if `state` is no dictionary. Raises TypeError for a masked array.
        Nothing is changed then.
        """
        if not isinstance(state, Mapping):
            raise UserError("load_state_dict takes {name: array}, as state_dict() returns it, got "
                            f"a {type(state).__name__}")
        arrays = self.arrays()
        state = {name: value for name, value in state.items() if name in arrays
                 or name.rpartition(".")[2] != "num_batches_tracked"}
        if missing := sorted(arrays.keys() - state.keys()):
            raise UserError(f"the weights lack {', '.join(missing)}: "
                            "they belong to another network")
        if unknown := sorted(state.keys() - arrays.keys()):
            raise UserError(f"the network has no weights {', '.join(unknown)}: "
                            "they belong to another network")
        values = {}
        for name, array in arrays.items():
            backend.refuse_masked(state[name])
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                values[name] = np.asarray(state[name]).copy()       # it may be a view of a weight
            if name not in values or values[name].dtype.kind not in "biuf":
                raise UserError(f"weights {name!r} are a {type(state[name]).__name__}, which numpy "
                                "cannot convert to numbers: give an array")
            if values[name].shape != array.shape:
                raise UserError(f"weights {name!r} have shape {values[name].shape}, the "
                                f"network's have {array.shape}: they belong to another network")
            if not getattr(array.flags, "writeable", True):     # cupy's arrays are all writeable
                raise UserError(f"the array {name} is read-only: replace it by its .copy()")
        for name, array in arrays.items():
            array[...] = backend.xp.asarray(values[name], dtype=array.dtype)
        self.touch()

    def summary(self, *shape: int) -> str:
        """Return a table of the layers, with output shapes and numbers of parameters.

        `shape` is the shape of one input, without the batch axis. Networks that take labels have no
        summary.
        """
        rows, parameters = [], self.parameters()
        dtype = parameters[0].dtype if parameters else "float32"
        with eval_mode(self), no_grad():
            # two inputs or more, as there are layers that compare the samples of a minibatch
            groups = [group for _, part in self.modules()
                      if is_whole(group := getattr(part, "group", None), 1)]
            y = _trace(self, Tensor(backend.xp.zeros((math.lcm(2, *groups), *shape), dtype)), "",
                       rows)
        rows += [("", "", _output_shapes(y), sum(p.size for p in parameters))]
        width = max(len(f"{name} {layer}") for name, layer, _, _ in rows)
        lines = [f"{f'{name} {layer}':{width}}  {out:>12} {count:>12,}"
                 for name, layer, out, count in rows]
        head = f"{'layer':{width}}  {'output':>12} {'parameters':>12}"
        return "\n".join([head, *lines])

    def __repr__(self):
        settings = [f"{name}={value}" for name, value in vars(self).items()
                    if isinstance(value, (int, float, tuple))
                    and name not in ("training", *self.untracked)]
        return f"{type(self).__name__}({', '.join(settings)})"

    # What is noted when a Module is made and when an attribute is set

    def __new__(cls, /, *args, **kwargs):
        if ((args or kwargs) and cls.__init__ is object.__init__
                and cls.__new__ is Module.__new__):
            raise TypeError(f"{cls.__name__}() takes no arguments, got "
                            + ", ".join([*map(repr, args), *kwargs])[:60])
        module = super().__new__(cls)
        try:
            module._arguments = _copy_lists(args, kwargs)
        except dataclasses.FrozenInstanceError:
            raise TypeError(f"{cls.__name__} is a frozen dataclass, but the attributes of a Module "
                            "are set: leave frozen=True out") from None
        module._changes, module._stored = (), frozenset()
        return module

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        check_names(cls, "untracked")
        cls.untracked = tuple(dict.fromkeys(        # a subclass adds names to those of its bases
            name for base in reversed(cls.__mro__) for name in vars(base).get("untracked", ())))
        _check_class(cls)

    def __getattr__(self, name):
        if name in pytorch.MODULE:
            raise AttributeError(f"a Module has no {name}: {pytorch.MODULE[name]}")
        if name == "weight" and {"weight_orig", "weight_g", "weight_raw"} & vars(self).keys():
            raise AttributeError(f"{type(self).__name__} is under spectral_norm, weight_norm or "
                                 "equalise: in its forward() write nn.effective_weight(self) in "
                                 "place of self.weight")
        return object.__getattribute__(self, name)      # raises Python's own error

    def __setattr__(self, name, value):
        """Set an attribute, and note in _stored whether forward() only stores it."""
        before, (begin, inputs) = vars(self).get(name), _call.get()
        in_forward = begin is not None
        is_array = isinstance(value, backend.xp.ndarray)
        is_tensor = type(value) is Tensor and name not in self.untracked
        # a Tensor that was computed, or made before this call of forward(), as its inputs are
        is_foreign = is_tensor and not (in_forward and value is before) and (
            value.parents != () or in_forward and value.age < begin)
        _check_attribute(self, name, value, before, in_forward, is_foreign)
        if is_tensor or is_array:
            # an input array that replaces a buffer is one
            is_input = (is_array and not isinstance(before, backend.xp.ndarray)
                        and any(value is x for x in inputs))
            stored = in_forward and (name in self._stored or is_foreign or is_input)
            names = self._stored | {name} if stored else self._stored - {name}
            super().__setattr__("_stored", names)
            if (is_array and in_forward and not stored and value is not before
                    and name not in self.untracked):
                value = value.copy("K")         # a buffer, which may be written to
        if isinstance(value, np.generic) and isinstance(before, np.ndarray):
            value = np.asarray(value)       # arithmetic of numpy turns 0-d arrays into numbers
        elif (isinstance(before, backend.xp.ndarray) and is_real(value)
                and np.can_cast(type(value), before.dtype, "same_kind")):
            # max(array, 1.0) may be a number, too; a fraction does not become a whole number
            value = backend.xp.asarray(value, before.dtype)
        super().__setattr__(name, value)


_SIMPLE = (int, float, str, bytes, range, type(None), Tensor, np.ndarray)   # contain no Modules


def _copy_lists(args, kwargs):
    """Return (args, kwargs) with copies of lists and dictionaries, which may be changed later."""
    def copy(value):
        return value.copy() if type(value) in (list, dict) else value
    return tuple(map(copy, args)), {name: copy(value) for name, value in kwargs.items()}


def _parts(name, value):
    """Yield (name, Module) for each Module in the value of the attribute `name`."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _parts(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _parts(f"{name}.{key}", item)


def find_names(module: Module) -> dict[Tensor, str]:
    """Return {parameter: its name} of a Module; of a shared parameter, its first name."""
    return {p: name for name, p in reversed(module.named_arrays(Tensor).items())}


@contextlib.contextmanager
def eval_mode(module: Module) -> Iterator[Module]:
    """Put `module` into evaluation mode inside the context; restore each part's mode after it."""
    before = [(part, part.training) for _, part in module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield module
    finally:
        for part, training in before:
            part.training = training


@contextlib.contextmanager
def substitute(module: Module, values: Mapping[Tensor, Tensor]) -> Iterator[Module]:
    """Replace parameters of `module` by other Tensors, {parameter: Tensor}, inside the context.

    The Tensors may have been computed: so a network is a function of its parameters, too. Raises
    ValueError for a key that is no parameter of `module`, and for a Tensor of another shape.
    """
    replaced = [(vars(part), name, p) for _, part in module.modules()
                for name, p in part.own_arrays(Tensor) if p in values]
    if unknown := set(values) - {p for *_, p in replaced}:
        raise ValueError(f"{len(unknown)} of the Tensors to replace are no parameters of the "
                         f"{type(module).__name__}")
    for p, value in values.items():
        if p.shape != value.shape:
            raise ValueError(f"a parameter of shape {p.shape} cannot be replaced by a Tensor of "
                             f"shape {value.shape}")
    for attributes, name, p in replaced:
        attributes[name] = values[p]
    try:
        yield module
    finally:
        for attributes, name, p in replaced:
            attributes[name] = p


def _trace(layer, x, name, rows):
    """Return layer(x), and append a row to `rows` for each layer inside."""
    if is_sequential(layer):
        for i, part in enumerate(layer.layers):
            x = _trace(part, x, f"{name}.{i}".lstrip("."), rows)
        return x
    y = layer(x)
    parameters = layer.parameters() if isinstance(layer, Module) else []
    rows.append((name, getattr(layer, "__name__", layer), _output_shapes(y),
                 sum(p.size for p in parameters)))
    return y


def _output_shapes(y):
    """Return the shape of an output, or of each output in a tuple, without the batch axis."""
    return ", ".join("x".join(map(str, t.shape[1:])) for t in flatten_nested(y))


def is_sequential(network: Any) -> bool:
    """Return whether a network's forward() is that of Sequential, not one of its own."""
    return getattr(type(network), "forward", None) is Sequential.forward


# What a Module refuses

def find_inside(value: Any, kinds: tuple[type, ...] | None = None) -> Iterator[Any]:
    """Yield the Modules, Tensors and arrays inside a value, or the objects of other `kinds`.

    search.find says which places are searched. It does not look inside Modules and Tensors.
    """
    kinds = kinds or (Module, Tensor, backend.xp.ndarray)
    return search.find(value, kinds, leaves=(Module, Tensor))


def check_names(owner: type, *attributes: str) -> None:
    """Raise TypeError if a class has a text where a tuple of names is meant."""
    for name in attributes:
        if isinstance(value := getattr(owner, name, ()), str):
            names = tuple(value.replace(",", " ").split())
            raise TypeError(f"{owner.__name__}.{name} is a tuple of names, got the text {value!r}: "
                            f"write {name} = {names}" + ", with a comma" * (len(names) == 1))


def _check_class(cls):
    """Raise TypeError for a Module, Tensor or array that is an attribute of a class."""
    for base in cls.__mro__:
        for name, value in vars(base).items():
            # methods and properties have __get__, from Python 3.14 on partial functions too
            if isinstance(value, functools.partial) or not hasattr(value, "__get__"):
                for thing in find_inside(value):
                    raise TypeError(f"the class attribute {cls.__name__}.{name} holds "
                                    f"{type(thing).__name__}, which is not found there: set it "
                                    "on self, in __init__")


def _check_attribute(module, name, value, before, in_forward, is_foreign):
    """Raise TypeError for a value that an attribute of a Module cannot have.

    It is one that would take a parameter's or a buffer's place, a computed Tensor that is set
    outside forward(), or one that would hide a method of tinygan's.

    before       the attribute's present value, or None
    is_foreign   whether it is a Tensor that was computed, or made before the call of forward()
    """
    attribute = f"{type(module).__name__}.{name}"
    method = getattr(type(module), name, None)
    if (isinstance(method, types.FunctionType) and not callable(value)
            and method.__module__.startswith(f"{__package__.partition('.')[0]}.")):
        raise TypeError(f"{attribute} is a method, which the attribute of this name would hide: "
                        "choose another name")
    is_parameter = (type(before) is Tensor and name not in module._stored
                    and name not in module.untracked)
    if is_parameter and value is not None and not isinstance(value, (Tensor, Module)):
        raise TypeError(f"{attribute} is a parameter, which only a Tensor, a Module or None can "
                        f"replace, got {type(value).__name__}: write .{name}.data[...] = array for "
                        "new numbers")
    if is_foreign and not in_forward:
        raise TypeError(f"{attribute} is set to a computed Tensor, which cannot be a parameter: "
                        f"make it a leaf by Tensor(x.data.copy()), or name {name!r} in the "
                        "class's `untracked`; if it is set in forward(), call the Module and not "
                        "forward() itself")
    is_buffer = isinstance(before, backend.xp.ndarray) and name not in module._stored
    if is_foreign and (is_parameter or is_buffer):
        kind, array = ("parameter", f"{name}.data") if is_parameter else ("buffer", name)
        raise TypeError(f"{attribute} is a {kind}, which forward() would replace: give "
                        f"the Tensor another name, or write self.{array}[...] = x.data for new "
                        f"numbers, or name {name!r} in the class's `untracked`")


def _check_found(module):
    """Raise TypeError for a Module, Tensor or array in a place that is not searched.

    It would be neither trained nor saved. Such places are sets, functions, objects of other
    classes, lists of Tensors, and global variables that are Tensors and that a function reads.
    """
    names, found, others = set(), set(), []
    for prefix, part in module.modules():
        if prefix in names:
            raise TypeError(f"two parts of {type(module).__name__} have the same name, "
                            f"{prefix.rstrip('.')!r}: give the keys of dictionaries other names")
        names.add(prefix)
        found.add(id(part))
        for name, value in vars(part).items():
            if isinstance(value, (Tensor, backend.xp.ndarray)):
                found.add(id(value))
            elif not isinstance(value, (Module, *_SIMPLE)) and name not in part.untracked:
                others.append((f"{type(part).__name__}.{name}", value))
    for attribute, value in others:
        if isinstance(value, (list, tuple)) and all(
                id(item) in found or isinstance(item, (int, float, str)) for item in value):
            continue        # layers that are parts, or numbers: most lists are, and this is faster
        for function in find_inside(value, (types.FunctionType,)):
            for variable in search.list_globals(function.__code__):
                if type(function.__globals__.get(variable)) is Tensor:
                    raise TypeError(
                        f"{attribute} has a function, {function.__name__}, that reads the global "
                        f"variable {variable}, a Tensor, which is neither trained nor saved: write "
                        f"{variable}.data if it is a constant, or a Module with the Tensor as an "
                        "attribute")
        for thing in find_inside(value):
            is_computed = type(thing) is Tensor and thing.parents != ()
            if id(thing) not in found and not is_computed:
                raise TypeError(
                    f"{attribute} holds {type(thing).__name__}, which is not found there, and so "
                    "neither trained nor saved: set Tensors and arrays as attributes of their own, "
                    "Modules also in a list or a dictionary; or name the attribute in the class's "
                    "`untracked`")


# Networks of layers

class Composite(Module):
    """The base class of Modules that pass inputs after the first to the parts that take them.

    A part takes labels, or other inputs after the first, if it has the attribute `conditional` (see
    nn/labels.py). forward() of tinygan's classes raises TypeError for such inputs if no part takes
    them.
    """

    @property
    def conditional(self) -> bool:
        """Whether a part takes inputs after the first; then this Module takes them too."""
        parts = [part for value in vars(self).values()
                 for part in (value if isinstance(value, list) else [value])]
        return any(getattr(part, "conditional", False) for part in parts)

    def refuse_unused(self, conditions: tuple) -> None:
        """Raise TypeError if there are inputs after the first and no part takes them."""
        if conditions and not self.conditional:
            raise TypeError(f"{type(self).__name__} got a second input, but none of its layers "
                            "takes it: add a layer that does, such as nn.JoinLabels(classes) for "
                            "labels or nn.Join() for numbers, or set conditional = True in a layer "
                            "of your own")


def check_layers(owner: str, layers: Sequence[Any]) -> list[Module | Callable]:
    """List the layers of `owner`. Raises TypeError for anything but Modules and functions."""
    for i, layer in enumerate(layers):
        if not callable(layer) or isinstance(layer, type):
            got = layer if isinstance(layer, type) else type(layer)
            advice = ": write *layers for a list" if isinstance(layer, list) else ""
            raise TypeError(f"layer {i} of {owner} is a Module or a function of Tensors, got "
                            f"{got}{advice}")
    return list(layers)


def call_part(part: Callable, x: Tensor, conditions: tuple) -> Any:
    """Return part(x), or part(x, *conditions) if the part takes them.

    Raises TypeError if it is a function that returns None; a Module raises it itself.
    """
    takes_them = conditions and getattr(part, "conditional", False)
    y = part(x, *conditions) if takes_them else part(x)
    if y is None:
        raise TypeError(f"the layer {getattr(part, '__name__', part)} returned None: end it with a "
                        "return")
    return y


class Sequential(Composite):
    """The layers applied one after the other.

    A layer is a Module or a function of one Tensor such as ops.relu. Parameters are named
    "0.weight", "0.bias", "1.weight" and so on. net[0] is the first layer, and net[1:] a Sequential
    of the others, which are not copied. Raises TypeError for anything else as a layer.
    """

    def __init__(self, *layers: Module | Callable[[Tensor], Tensor]) -> None:
        self.layers = check_layers(type(self).__name__, layers)

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, i):
        found = self.layers[i]
        return Sequential(*found) if isinstance(i, slice) else found

    def parts(self):
        return [(name.removeprefix("layers."), part) for name, part in super().parts()]

    def forward(self, x: Tensor, *conditions: Any) -> Tensor:
        self.refuse_unused(conditions)
        for layer in self.layers:
            x = call_part(layer, x, conditions)
        return x

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Heads(Composite):
    """Several layers, the heads, on the output of one trunk: forward returns a tuple of outputs.

    Raises TypeError for anything but Modules and functions.
    """

    def __init__(self, trunk: Module, *heads: Module) -> None:
        self.trunk, *self.heads = check_layers("Heads", (trunk, *heads))

    def forward(self, x: Tensor, *conditions: Any) -> tuple[Tensor, ...]:
        """Return a tuple of head(trunk(x)) for each head."""
        self.refuse_unused(conditions)
        features = call_part(self.trunk, x, conditions)
        return tuple([call_part(head, features, conditions) for head in self.heads])
