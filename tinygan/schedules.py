"""Schedules: functions of t, the number of steps taken, that can be saved with a run."""

import math
from dataclasses import dataclass


def at(value, t):
    """The value at step t of a number or schedule."""
    return value(t) if callable(value) else value


@dataclass(frozen=True)
class linear:
    """From `start` to `end` in `steps` equal parts, and `end` from there on."""
    start: float
    end: float
    steps: float

    def __call__(self, t):
        return self.start + (self.end - self.start) * min(t / self.steps, 1)


@dataclass(frozen=True)
class exponential:
    """start * rate^t, but not below `floor`."""
    start: float
    rate: float
    floor: float = 0.0

    def __call__(self, t):
        return max(self.start * self.rate ** t, self.floor)


@dataclass(frozen=True)
class cosine:
    """From `start` to `end` along half a cosine (Loshchilov and Hutter 2017, eq. 5)."""
    start: float
    steps: float
    end: float = 0.0

    def __call__(self, t):
        fraction = (1 + math.cos(math.pi * min(t / self.steps, 1))) / 2
        return self.end + (self.start - self.end) * fraction
