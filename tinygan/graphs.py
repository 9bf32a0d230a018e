"""Training steps as CUDA graphs. loop.py imports this file if the backend is cupy.

To launch a kernel takes the host several microseconds, and a small network's kernels run for less.
So each form of a training step is recorded once as a CUDA graph, and from then on launched as a
whole: see CapturedStep. A step can be recorded if it copies nothing between host and device. The
Python numbers in it keep the values that they had then.
"""

import contextlib
import dataclasses
import operator
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import backend, cuda
from .nested import flatten_nested, map_nested
from .optim import list_optimisers
from .tensor import Tensor


class CapturedStep:
    """A training step that is recorded as a CUDA graph and then launched as a whole.

    step         loop.d_step, g_step or both_step
    game         the Game
    optimisers   the step's optimisers

    It is called with (x, z, seed) and returns what the step returns. The first WARM_UP calls do the
    step, which compiles its kernels and fills its memory pool. The next one records it. What
    differs from call to call is written to arrays before each launch: x, z and the seed here, and
    the optimisers' numbers by Optimizer.advance. What the step returns and logs is copied out of it
    after each launch.

    Each form of the step has a recording and memory of its own, such as a step with a penalty that
    has a part in every 16th iteration, and one without it. Two calls have the same form if

        the inputs have the same shapes,
        the game's parts have the same classes and modes,
        the numbers and texts among the attributes of the game, its parts, loss, penalties and
        optimisers are the same, but for learning rates and momentum, and
        all of them have the same arrays.

    The FORMS forms that were used last are kept. A step cannot be recorded if it copies between
    host and device, replaces an array, changes a number of the game itself, or steps an optimiser
    that is an attribute of the game. A step that has begun STARTS forms gets no more recordings.
    From then on, a call of a form without one does the step itself, and standard error says so
    once.
    """

    WARM_UP, FORMS, STARTS = 3, 4, 20

    def __init__(self, step: Callable, game: Any, *optimisers: Any) -> None:
        self.step, self.game, self.optimisers = step, game, optimisers
        self.forms, self.form, self.starts, self.why_not = [], None, 0, None
        self.spare = None       # the form of all new states when no more are recorded
        for opt in optimisers:          # this array outlives the step's memory pool
            opt.prepare()

    def __call__(self, x: Any, z: Any, seed: int) -> Any:
        form = self._update_form(x, z)
        if form.run is None and form.calls >= self.WARM_UP and self.why_not is None:
            self._record(form, x, z)
        if form.run is None:
            return self._do(form, x, z, seed)
        return self._launch(form, x, z, seed)

    def _update_form(self, x, z):
        """Set the attribute `form` to the form of this call, and return it."""
        if self.form is None or not self.form.watch.sees_no_change(x, z):
            state = self._describe_call(x, z)
            if self.form is None or self.form.state != state:
                self.form = self._find_form(state)
            self.form.watch = _Watch(x, z, self.game, self.optimisers)
        return self.form

    def _find_form(self, state):
        """Return the form of this state; begin it if there is none."""
        form = next((form for form in self.forms if form.state == state), None)
        if form is None:
            if self.starts == self.STARTS:
                self._give_up("the shapes of its inputs, or numbers of the game that are no "
                              "arrays, change again and again")
            if self.why_not is not None:
                self.spare = self.spare or _Form(state)
                self.spare.state = state
                return self.spare
            self.starts += 1
            form = _Form(state)
        others = [each for each in self.forms if each is not form]
        self.forms = [*others[1 - self.FORMS:], form]
        return form

    def _describe_call(self, x, z):
        """Return all that must stay as it was when the step was recorded."""
        return (_shapes((x, z)), _state(self.game), self._describe_loss(),
                [_describe_optimiser(opt) for opt in self.optimisers])

    def _describe_loss(self):
        """Return what must stay as it was of the loss and the penalties."""
        return [(part, _describe_part(part)) for part in (self.game.loss, *self.game.penalties)]

    def _do(self, form, x, z, seed):
        """Do the step without a graph; find out what it returns and whether it can be recorded."""
        before, own = self.game.logged, list_optimisers(self.game)
        steps = [opt.t for opt in own]
        with form.aside:
            losses = self.step(self.game, *self.optimisers, x, z, seed)
        form.calls += 1
        _, of_game, of_loss, _ = form.state
        for name, value in _state(self.game).items():
            if [of_game.get(name)] != [value]:          # in lists NaN is equal to itself
                self._give_up(f"it changes or replaces {name}")
        if self._describe_loss() != of_loss:
            self._give_up("it changes a number or replaces an array of the loss or a penalty")
        if [opt.t for opt in own] != steps:
            self._give_up("it steps an optimiser that is an attribute of the game")
        form.count = len(losses) if isinstance(losses, tuple) else 1
        # the step may leave other values in `logged`, such as those of the other player's step
        form.names = list(self.game.logged)
        form.own = [name for name, value in self.game.logged.items()
                    if before.get(name) is not value]
        form.dtype = losses[0].dtype if form.count > 1 else losses.dtype
        # copies, because an array from the step's pool would keep the pool's memory
        self.game.logged = {name: value.copy() if name in form.own else value
                            for name, value in self.game.logged.items()}
        return map_nested(lambda loss: Tensor(loss.data.copy()), losses)

    def _record(self, form, x, z):
        """Record the step with arrays of its own for its inputs and results."""
        x, z = map_nested(_copy, x), map_nested(_copy, z)
        form.inputs, form.seed = _arrays((x, z)), backend.xp.zeros((), np.uint64)
        form.results = backend.xp.zeros(form.count + len(form.own), form.dtype)

        def do():
            losses = self.step(self.game, *self.optimisers, x, z, form.seed)
            losses = losses if isinstance(losses, tuple) else (losses,)
            values = [loss.data for loss in losses] + [self.game.logged[n] for n in form.own]
            cuda.write(values, form.results)
        logged = self.game.logged
        try:
            with form.aside, _set_capturing():
                form.run = form.aside.record(do)
        except MemoryError:
            raise
        except Exception as error:          # cupy, CUDA and cuBLAS have exceptions of their own
            self._give_up(f"{type(error).__name__}: {error}")
        self.game.logged = logged

    def _give_up(self, why):
        if self.why_not is None:
            print(f"{self.step.__name__} cannot be recorded as a CUDA graph, so it is slow: {why}",
                  file=sys.stderr)
        self.why_not = why

    def _launch(self, form, x, z, seed):
        """Run the recording for these inputs, and do what the step does on the host."""
        for fixed, new in zip(form.inputs, _arrays((x, z))):
            fixed[...] = new
        form.seed.fill(seed)
        for opt in self.optimisers:
            opt.advance()
        form.run()
        values = form.results.copy()
        for opt in self.optimisers:
            for p in opt.parameters:
                p.touch()
        own = {name: values[form.count + i] for i, name in enumerate(form.own)}
        logged = {**self.game.logged, **own}
        self.game.logged = {name: logged[name] for name in form.names if name in logged}
        if self.game.averages is not None:
            self.game.averages_are_stale = True
            for average in self.game.averages.values():
                average.touch()
        losses = tuple([Tensor(values[i]) for i in range(form.count)])
        return losses if form.count > 1 else losses[0]


class _Form:
    """What is known of a form of a step.

    state    what makes the form, see CapturedStep._describe_call
    aside    its stream and memory pool
    watch    finds out quickly whether the form is still that of the next call
    calls    the number of its calls without a graph
    run      the function that launches its recording, or None before there is one
    inputs, seed, results   the arrays of the recording
    count    the number of losses; `dtype` is theirs
    names    the names in game.logged after the step; `own` are those that the step has set
    """

    def __init__(self, state: Any) -> None:
        self.state, self.aside, self.calls, self.run = state, Aside(), 0, None
        self.watch = None
        self.inputs = self.seed = self.results = self.count = self.dtype = None
        self.names = self.own = ()


class Aside:
    """A context with a stream and a memory pool of its own.

    Its work begins when that of the current stream has ended, and the current stream then waits for
    it. Nothing may take memory from its pool between two launches of a graph: each launch writes to
    the memory that the step used when it was recorded.
    """

    def __init__(self) -> None:
        cuda.allocate()                 # not in the pool, which this memory outlives
        xp = backend.xp
        self.stream, self.pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
        self.before, self.after = (xp.cuda.Event(disable_timing=True) for _ in range(2))
        # a pool of cupy's does not free its memory when it is dropped
        weakref.finalize(self, _free, self.after, self.pool).atexit = False

    def __enter__(self):
        xp = backend.xp
        self.outside = xp.cuda.get_current_stream()
        self.before.record(self.outside)
        self.stream.wait_event(self.before)
        self.contexts = contextlib.ExitStack()
        self.contexts.enter_context(self.stream)
        self.contexts.enter_context(xp.cuda.using_allocator(self._take))

    def __exit__(self, *error):
        self.contexts.close()
        self.after.record(self.stream)
        self.outside.wait_event(self.after)

    def _take(self, size):
        """Return memory from the pool."""
        try:
            return self.pool.malloc(size)
        except MemoryError:             # the default pool may keep memory that is free
            backend.xp.get_default_memory_pool().free_all_blocks()
            return self.pool.malloc(size)

    def record(self, f: Callable) -> Callable:
        """Record f() as a graph and return the function that launches it.

        Raises MemoryError if the pool had to free memory, which may be the graph's.
        """
        taken, before = _Taken(), self.pool.total_bytes()
        self.stream.begin_capture()
        try:
            with taken.hook:
                f()
        except BaseException:
            with contextlib.suppress(Exception):        # the recording is invalid already
                self.stream.end_capture()
            raise
        graph = self.stream.end_capture()
        if self.pool.total_bytes() != before + taken.bytes:
            raise MemoryError("the GPU has too little memory to record a training step")
        graph.upload()                  # a lack of memory shows here and not at the first launch

        def launch():
            graph.launch()              # in the current stream, which needs no other to wait
            self.after.record()
        launch.graph = graph
        return launch


class _Taken:
    """Count the bytes that pools take from the device while `hook`, a context, is open."""

    def __init__(self) -> None:
        def count(hook, device_id, mem_size, mem_ptr):
            self.bytes += mem_size if mem_ptr else 0
        self.bytes = 0
        self.hook = type("Hook", (backend.xp.cuda.MemoryHook,), {
            "name": "tinygan", "alloc_postprocess": count})()


def _free(last, pool):
    """Free a pool's memory when the event `last`, the end of the work with it, has happened."""
    with contextlib.suppress(Exception):        # the device may be lost
        last.synchronize()
        pool.free_all_blocks()


@contextlib.contextmanager
def _set_capturing() -> Iterator[None]:
    backend.capturing = True
    try:
        yield
    finally:
        backend.capturing = False


# What changes with each step: of a game, whose steps do not read it, and of an optimiser, which
# writes it to an array before each launch.
CHANGING = "logged", "averages_are_stale"
VARYING = "t", "lr", "momentum", "_numbers"


class _Watch:
    """Find out quickly whether a step's state may have changed since the Watch was made.

    CapturedStep._describe_call can take longer on the host than the step takes on the GPU. A Watch
    only asks whether the shapes of the inputs are the same, and the attributes of all parts, with
    the entries of the lists and dictionaries in them, are the same objects.
    """

    def __init__(self, x: Any, z: Any, game: Any, optimisers: Sequence) -> None:
        self.shapes, self.entries, self.tensors = _shapes((x, z)), {}, {}
        for _, module in game.modules():
            self._add(vars(module), CHANGING if module is game else ())
        for opt in optimisers:
            self._add(vars(opt), VARYING)
        self.arrays = [t.data for t in self.tensors]

    def _add(self, container, ignored=()):
        """Add a dictionary, list or tuple, and what it contains, to what is watched."""
        if id(container) in self.entries:
            return
        if isinstance(container, dict):
            names = [name for name in container if name not in ignored]
            get, keys = container.get, (names, [container] * len(names))    # a default for each
        else:
            get, keys = container.__getitem__, (range(len(container)),)
        values = list(map(get, *keys))
        self.entries[id(container)] = container, len(container), get, keys, values
        for value in values:
            if type(value) is Tensor:
                self.tensors[value] = None
            elif isinstance(value, (list, dict, tuple)) and not _is_setting(value):
                self._add(value)
            elif dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
                self._add(vars(value))

    def sees_no_change(self, x: Any, z: Any) -> bool:
        """Return whether all is as it was, and the inputs x and z have the same shapes."""
        for container, size, get, keys, values in self.entries.values():
            if len(container) != size or not all(map(operator.is_, map(get, *keys), values)):
                return False
        return all(t.data is a for t, a in zip(self.tensors, self.arrays)) and (
            _shapes((x, z)) == self.shapes)


def _arrays(inputs):
    """List the arrays in nested tuples; they may have other constants beside arrays."""
    return [leaf.data if type(leaf) is Tensor else leaf for leaf in flatten_nested(inputs)
            if hasattr(leaf, "dtype")]


def _shapes(inputs):
    """List (shape, dtype) of the Tensors and arrays in nested tuples, and the constants in them."""
    return [(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf
            for leaf in flatten_nested(inputs)]


def _copy(leaf):
    """Return a Tensor or array with memory of its own, in the same order; a constant as it is."""
    if not hasattr(leaf, "dtype"):
        return leaf
    array = backend.xp.empty_like(leaf.data if type(leaf) is Tensor else leaf)
    return Tensor(array) if type(leaf) is Tensor else array


def _state(game):
    """Return {name: number, or address of the array} of what a game and its parts consist of."""
    state = {}
    for prefix, module in game.modules():
        state[prefix + "training"] = type(module), module.training
        for name, value in module.own_arrays((Tensor, backend.xp.ndarray)):
            array = value.data if type(value) is Tensor else value
            state[prefix + name] = cuda.place(array), array.shape, array.strides
        for name, value in vars(module).items():
            if _is_setting(value) and name not in CHANGING:
                state[prefix + name] = value
    return state


def _describe_part(part):
    """Return {name: setting, or address of an array} of a loss or a penalty, and of those in it."""
    found = {}
    for name, value in getattr(part, "__dict__", {}).items():
        if dataclasses.is_dataclass(value):
            found[name] = _describe_part(value)
        elif isinstance(value, (Tensor, backend.xp.ndarray)):
            found[name] = cuda.place(value.data if type(value) is Tensor else value)
        elif _is_setting(value):
            found[name] = value
    return found


def _is_setting(value):
    """Return whether a value is a number, a text or a tuple of them."""
    return isinstance(value, (int, float, np.generic, str)) or (
        isinstance(value, tuple) and all(map(_is_setting, value)))


def _describe_optimiser(opt):
    """Return what a recorded step keeps of an optimiser: its settings, the places of its arrays."""
    settings = {name: value for name, value in vars(opt).items()
                if _is_setting(value) and name not in VARYING}
    return settings, [cuda.place(a) for a in opt.arrays().values()]
