"""Variables with a value of their own in each thread: whether operations are recorded, for example.

    _recording = ContextVar("recording", default=True)
    with use_value(_recording, False):      # _recording.get() is False here, for this thread alone
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class use_value(contextlib.AbstractContextManager):
    """A context inside which a variable has another value; its old one is restored at the end.

    The context can be entered again, and is a decorator of functions.
    """

    def __init__(self, variable: ContextVar, value: Any) -> None:
        self.variable, self.value, self.before = variable, value, []

    def __enter__(self):
        self.before.append(self.variable.get())
        self.variable.set(self.value)

    def __exit__(self, *error):
        # reset() would fail in a generator that another thread or task goes on with
        self.variable.set(self.before.pop())

    def __call__(self, function: Callable) -> Callable:
        """Return the function, which runs in a context of its own at each call.

        Raises TypeError for a generator function, which runs after the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__}() runs after its call, so a decorator would have "
                            "no effect on it: enter the context inside it, and leave it before "
                            "each yield")

        @functools.wraps(function)
        def call(*args, **kwargs):
            with use_value(self.variable, self.value):      # not `self`, which threads would share
                return function(*args, **kwargs)
        return call
