"""Nested tuples: a minibatch, a game's noise, what D is shown may each be one value or tuples."""


def map_nested(f, *values):
    """Return f(*values), or, of tuples of one form, the tuple of map_nested(f, ...) of their
    parts."""
    if isinstance(values[0], tuple):
        return tuple([map_nested(f, *parts) for parts in zip(*values)])
    return f(*values)


def leaves(value):
    """List what is in nested tuples, in order."""
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]
