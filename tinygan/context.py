"""Variables with a value of their own in each thread: whether operations are recorded, for example.

    _recording = ContextVar("recording", default=True)
    with use_value(_recording, False):      # _recording.get() is False here, for this thread alone
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any


@contextlib.contextmanager
def use_value(variable: ContextVar, value: Any) -> Iterator[None]:
    """Set a variable to a value inside the context; restore it after it."""
    before = variable.get()
    variable.set(value)
    try:
        yield
    finally:        # reset() would fail in a generator that another thread or task goes on with
        variable.set(before)
