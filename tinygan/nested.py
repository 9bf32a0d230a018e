"""Functions on nested tuples, the form of a minibatch, of a game's noise and of D's input."""

from collections.abc import Callable
from typing import Any

from .tensor import Tensor


def map_nested(f: Callable, *values: Any) -> Any:
    """Return f(*values), or for nested tuples of equal form the tuple of f's results.

        map_nested(f, (a, (b, c)), (p, (q, r))) == (f(a, p), (f(b, q), f(c, r)))
    """
    if isinstance(values[0], tuple):
        return tuple([map_nested(f, *parts) for parts in zip(*values, strict=True)])
    return f(*values)


def flatten_nested(value: Any) -> list:
    """List the values in nested tuples, in order."""
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in flatten_nested(part)]
    return [value]


def is_sample(part: Any) -> bool:
    """Return whether a part of D's input is a Tensor, and not an array of labels.

    Raises TypeError for an array of floats, which would be taken for labels.
    """
    if type(part) is Tensor:
        return True
    if getattr(getattr(part, "dtype", None), "kind", None) == "f":
        raise TypeError(f"an array of {part.dtype} of shape {part.shape} is no label: write "
                        "Tensor(array) for samples, as play() does")
    return False


def tensors_in(value: Any) -> list[Tensor]:
    """List the Tensors in a value, a Tensor or a nested tuple of Tensors and labels.

    Raises TypeError for an array of floats.
    """
    return [t for t in flatten_nested(value) if is_sample(t)]


def apply(network: Callable, inputs: Any) -> Any:
    """Return network(inputs), or network(*inputs) if inputs is a tuple."""
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)
