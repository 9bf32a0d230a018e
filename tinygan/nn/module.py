"""Module: a function with parameters.

A Module's attributes are what it is made of: a Tensor is a parameter, an array a buffer (a number
that is kept but not learned, such as a running mean), and a Module, or each Module in a list or a
dictionary, is a part. A Tensor that forward keeps (an output, an input) is none of these. That is
all the bookkeeping there is. Shapes, names and layouts are PyTorch's, so that weights go back and
forth.
"""

import contextlib
import functools
import threading
import types
from collections.abc import Collection, Mapping

import numpy as np

from .. import backend
from ..backend import UserError
from ..tensor import Tensor, no_grad, now


class _Calls(threading.local):
    """Of each thread: when the innermost call of a Module began; None outside of calls."""

    begin = None


_calls = _Calls()


class Module:
    """Something with parameters that maps Tensors to Tensors: subclasses define forward(x)."""

    # For a checkpoint, how the Module was made: its constructor's arguments, and what was done to
    # it since, [(function, keywords)]. And the names of the Tensors that forward has kept.
    __slots__ = ("_arguments", "_changes", "_kept", "__dict__", "__weakref__")

    training = True     # dropout and batch normalisation differ between training and evaluation
    notes = ()          # the names of attributes that are neither parameters, buffers nor parts

    def __new__(cls, *args, **kwargs):
        module = super().__new__(cls)
        module._arguments, module._changes, module._kept = (args, kwargs), [], set()
        return module

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if not isinstance(value, types.FunctionType):
                    for thing in _inside(value):
                        raise TypeError(f"the class attribute {cls.__name__}.{name} holds a "
                                        f"{type(thing).__name__} that nothing finds there: set it "
                                        "on self, in __init__")

    def __call__(self, *inputs):
        before, _calls.begin = _calls.begin, now()
        try:
            return self.forward(*inputs)
        finally:
            _calls.begin = before

    def __setattr__(self, name, value):
        if type(value) is Tensor and name not in self.notes:
            if _calls.begin is not None:        # what is older is an input
                if value.parents != () or value.age < _calls.begin:
                    self._kept.add(name)
            elif value.parents != ():
                raise TypeError(f"{type(self).__name__}.{name} is set to a computed Tensor, "
                                "which is no parameter: make it one by Tensor(x.data.copy()), or "
                                f"name {name!r} in the class's notes")
            else:
                self._kept.discard(name)
        super().__setattr__(name, value)

    def parts(self):
        """List (name, Module) of each part, in the order in which they were set: an attribute's
        name, with the place in a list or the key in a dictionary after a dot. Raises TypeError if
        two have one name."""
        parts = [part for name, value in vars(self).items() if name not in self.notes
                 for part in _parts(name, value)]
        if len(dict(parts)) < len(parts):
            raise TypeError(f"two parts of {type(self).__name__} have one name among "
                            f"{[name for name, _ in parts]}: give them others")
        return parts

    def modules(self, prefix="", above=()):
        """Yield (prefix of its names, Module) of this Module and everything inside it."""
        yield prefix, self
        above = (*above, self)
        for name, part in self.parts():
            if part not in above:       # a part may refer to what it is a part of
                yield from part.modules(f"{prefix}{name}.", above)

    def _check_found(self):
        """Raise TypeError for a Module, a Tensor or an array that an attribute holds where nothing
        finds it, so that it would be neither trained nor saved: in a set, a function, or a Tensor
        in a list."""
        named = list(self.modules())
        if len(dict(named)) < len(named):
            names = sorted(name for name, _ in named)
            twice = next(a for a, b in zip(names, names[1:]) if a == b)
            raise TypeError(f"two parts of {type(self).__name__} have one name, "
                            f"{twice.rstrip('.')!r}: give the keys of dictionaries other names")
        modules = [module for _, module in named]
        found, others = {id(module) for module in modules}, []
        for module in modules:
            for name, value in vars(module).items():
                if isinstance(value, (Tensor, backend.xp.ndarray)):
                    found.add(id(value))
                elif not isinstance(value, (Module, *_SIMPLE)) and name not in module.notes:
                    others.append((module, name, value))
        for module, name, value in others:
            for thing in _inside(value):
                if id(thing) not in found and not _is_computed(thing):
                    raise TypeError(
                        f"{type(module).__name__}.{name} holds a {type(thing).__name__} that "
                        "nothing finds there: set Tensors and arrays as attributes of their "
                        "own, Modules also in a list or a dictionary; or name the attribute "
                        "in the class's notes")

    def named_arrays(self, kind, above=()):
        """{name: attribute} of all parameters or buffers, as `kind` is Tensor or xp.ndarray."""
        return {prefix + name: value for prefix, module in self.modules(above=above)
                for name, value in module.own_arrays(kind)}

    def own_arrays(self, kind):
        """List (name, attribute) of the parameters or buffers of this Module, without its parts."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, kind)
                and name not in self.notes and name not in self._kept]

    def parameters(self, above=()):
        """Return the list of parameters; one that is shared by two parts comes once. What this is
        a part of, `above`, is no part where one refers to it. Raises TypeError for one that nothing
        finds where it is, such as in a set."""
        self._check_found()
        return list(dict.fromkeys(self.named_arrays(Tensor, above).values()))

    def train(self, training=True):
        """Switch to training, or with train(False) to evaluation; returns self."""
        for _, module in self.modules():
            module.training = training
        return self

    def eval(self):
        """Switch to evaluation; returns self."""
        return self.train(False)

    def state_dict(self):
        """{name: numpy array} of all parameters and buffers, copied to the host.

        In PyTorch: module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}).
        """
        return {name: backend.to_numpy(array).copy(order="C")
                for name, array in self.arrays().items()}

    def load_state_dict(self, state):
        """Copy the arrays of `state`, anything numpy can read, into the parameters and buffers.

        Raises UserError if a name is missing or unknown or a shape differs; then nothing has
        changed. PyTorch's `num_batches_tracked`, which no computation reads, is passed over.
        """
        arrays = self.arrays()
        state = {name: array for name, array in state.items()
                 if name.rpartition(".")[2] != "num_batches_tracked"}
        if missing := sorted(arrays.keys() - state.keys()):
            raise UserError(f"the weights lack {', '.join(missing)}: "
                            "they belong to another network")
        if unknown := sorted(state.keys() - arrays.keys()):
            raise UserError(f"no place for weights {', '.join(unknown)}: "
                            "they belong to another network")
        for name, array in arrays.items():
            if np.shape(state[name]) != array.shape:
                raise UserError(f"weights {name} have shape {np.shape(state[name])}, the "
                                f"network's have {array.shape}: they belong to another network")
        for name, array in arrays.items():
            array[...] = backend.xp.asarray(np.asarray(state[name]), dtype=array.dtype)
        self.touch()

    def touch(self):
        """Note that the parameters' arrays are written to now: see Tensor.touch."""
        for p in self.parameters():
            p.touch()

    def arrays(self):
        """Return {name: array} of all parameters and buffers, themselves. Raises TypeError for one
        that nothing finds where it is."""
        self._check_found()
        parameters = {name: p.data for name, p in self.named_arrays(Tensor).items()}
        buffers = self.named_arrays(backend.xp.ndarray)
        return {**parameters, **buffers}

    def summary(self, *shape):
        """A table of the layers: for an input of `shape` (without the batch), each one's output
        shape and its number of parameters."""
        rows = []
        with evaluating(self), no_grad():
            y = _trace(self, Tensor(backend.xp.zeros((1, *shape), "float32")), "", rows)
        rows += [("", "", y.shape[1:], sum(p.size for p in self.parameters()))]
        width = max(len(f"{name} {layer}") for name, layer, _, _ in rows)
        lines = [f"{f'{name} {layer}':{width}}  {'x'.join(map(str, out)):>12} {count:>12,}"
                 for name, layer, out, count in rows]
        head = f"{'layer':{width}}  {'output':>12} {'parameters':>12}"
        return "\n".join([head, *lines])

    def __repr__(self):
        settings = [f"{name}={value}" for name, value in vars(self).items()
                    if isinstance(value, (int, float, tuple)) and name != "training"]
        return f"{type(self).__name__}({', '.join(settings)})"


_SIMPLE = (int, float, str, bytes, type(None), Tensor, np.ndarray)


def _parts(name, value):
    """Yield (name, Module) of what is found in an attribute's value."""
    if isinstance(value, _SIMPLE):
        return
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _parts(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _parts(f"{name}.{key}", item)


def _inside(value, depth=0):
    """Yield the Modules, Tensors and arrays that are inside a value: in a collection, or in what a
    function holds (but not its arrays, which are constants)."""
    if isinstance(value, (Module, Tensor, backend.xp.ndarray)):
        yield value
    if depth == 8 or isinstance(value, (Module, *_SIMPLE, backend.xp.ndarray)):
        return
    if isinstance(value, types.FunctionType):
        held = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):       # a variable that is not set yet
                held.append(cell.cell_contents)
    elif isinstance(value, functools.partial):
        held = [value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        held = [value.__self__]
    elif isinstance(value, Mapping):
        held = [*value.keys(), *value.values()]
    elif isinstance(value, Collection):
        held = list(value)
    else:
        return
    is_function = callable(value)
    for item in held:
        for thing in _inside(item, depth + 1):
            if not (is_function and isinstance(thing, backend.xp.ndarray)):
                yield thing


def _is_computed(thing):
    return type(thing) is Tensor and thing.parents != ()


@contextlib.contextmanager
def evaluating(module):
    """Context in which `module` is in evaluation; afterwards every part is as it was."""
    before = [(part, part.training) for _, part in module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield module
    finally:
        for part, training in before:
            part.training = training


def _trace(layer, x, name, rows):
    """layer(x), with a row for each layer that it consists of."""
    if getattr(type(layer), "forward", None) is Sequential.forward:     # which no heir overrides
        for i, part in enumerate(layer.layers):
            x = _trace(part, x, f"{name}.{i}".lstrip("."), rows)
        return x
    y = layer(x)
    parameters = layer.parameters() if isinstance(layer, Module) else []
    what = layer if isinstance(layer, Module) else getattr(layer, "__name__", repr(layer))
    rows.append((name, what, y.shape[1:], sum(p.size for p in parameters)))
    return y


class Sequential(Module):
    """The layers one after the other: Modules, or functions of one Tensor such as ops.relu.
    Parameter names are "0.weight", "0.bias", "1.weight", ... Raises TypeError for another layer."""

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not callable(layer) or isinstance(layer, type):
                raise TypeError(f"layer {i} of Sequential is a Module or a function of one Tensor, "
                                f"got {layer if isinstance(layer, type) else type(layer)}")
        self.layers = list(layers)

    def parts(self):
        return [(name.removeprefix("layers."), part) for name, part in super().parts()]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"
