"""Functions on nested tuples, the form of a minibatch, of a game's noise and of D's input."""

from collections.abc import Callable
from typing import Any


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


def apply(network: Callable, inputs: Any) -> Any:
    """Return network(inputs), or network(*inputs) if inputs is a tuple."""
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)
