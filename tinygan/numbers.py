"""Tests of numbers that a user gives, Python's or numpy's; True and False count as 1 and 0."""

import contextlib
from typing import Any

import numpy as np


def is_whole(value: Any, least: int) -> bool:
    """Return whether `value` is a whole number of at least `least`."""
    return isinstance(value, (int, np.integer)) and value >= least


def check_whole(value: Any, least: int, what: str) -> None:
    """Raise ValueError unless `value`, named by `what`, is a whole number of at least `least`."""
    if not is_whole(value, least):
        raise ValueError(f"{what} must be a whole number of at least {least}, got {value!r:.60}")


def is_real(value: Any) -> bool:
    """Return whether `value` is a real number; an array is none."""
    return isinstance(value, (int, float, np.integer, np.floating))


def is_number(value: Any, least: float) -> bool:
    """Return whether `value` is a number, or an array of one, of at least `least`."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return not isinstance(value, str) and float(value) >= least
    return False
