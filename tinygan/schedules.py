"""Schedules: functions of the steps an optimiser has taken, or of a game's iteration.

They are dataclasses, so that a run can save them. They raise ValueError for a field that is no
number, and for `steps` that are not above 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from .numbers import is_number


def value_at(value: float | Callable, t: int) -> float:
    """Return the value of a number or schedule at step t."""
    return value(t) if callable(value) else value


class _Schedule:
    """A schedule whose fields are checked."""

    def __post_init__(self):
        # a subclass may have fields of other types, such as a name
        numbers = [getattr(self, field.name) for field in fields(self) if field.type is float]
        if not all(is_number(value, -math.inf) for value in numbers):
            raise ValueError(f"a schedule is made of numbers, got {self}")
        if not getattr(self, "steps", 1) > 0:
            raise ValueError(f"a schedule changes during a number of steps above 0, got {self}")


@dataclass(frozen=True)
class linear(_Schedule):
    """`start` until step `begin`, a linear change to `end` during `steps` steps, then `end`."""
    start: float
    end: float
    steps: float
    begin: float = 0

    def __call__(self, t):
        return self.start + (self.end - self.start) * min(max(t - self.begin, 0) / self.steps, 1)


@dataclass(frozen=True)
class exponential(_Schedule):
    """The decay start * rate^(t - begin) after step `begin`, limited from below by `floor`."""
    start: float
    rate: float
    floor: float = 0.0
    begin: float = 0

    def __call__(self, t):
        try:
            return max(self.start * self.rate ** max(t - self.begin, 0), self.floor)
        except OverflowError:       # of a rate above 1; an optimiser refuses infinity at its step
            return math.inf if self.start > 0 else self.floor


@dataclass(frozen=True)
class cosine(_Schedule):
    """Half a cosine from `start` to `end` in `steps` steps (Loshchilov and Hutter 2017, eq. 5)."""
    start: float
    end: float
    steps: float

    def __call__(self, t):
        fraction = (1 + math.cos(math.pi * min(t / self.steps, 1))) / 2
        return self.end + (self.start - self.end) * fraction
