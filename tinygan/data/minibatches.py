"""Minibatches: the "sample minibatch of m examples from the data" of Algorithm 1."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import backend
from ..backend import UserError
from ..random import Random, check_random, rng
from .arrays import as_floats, check_images, check_labels


class Minibatches:
    """An endless stream of minibatches of m examples: next() returns the next minibatch.

    images   (N, ...): uint8 pixels, which are scaled to [0, 1] (x / 255), or floats (images,
             points), which keep their values. The array may be on the device, or anything that
             numpy.asarray takes. Or a tuple of several such arrays and arrays of labels, which
             belong together row by row
    m        the size of a minibatch
    rng      the Random from which the order is drawn (default: `tinygan.rng`)
    labels   (N,) whole numbers of at least 0, one for each image: minibatches are then pairs
             (x, labels)

    A minibatch is a float32 array (m, ...) on the current backend, or a tuple of arrays, in which
    labels stay whole numbers. Every epoch has its own random order and N // m minibatches, in which
    no example comes twice. The N % m examples left over are skipped, so that every minibatch is
    full. The attribute `epoch` is the number of finished epochs. The constructor copies the data to
    a GPU. On a CPU the stream may read the arrays themselves, so they must not be written to.

    Raises TypeError for an m that is no whole number, for an rng that is no Random and for a masked
    array. Raises UserError if m is not from 1 to N, for arrays of different lengths, and for arrays
    that check_images and check_labels refuse, such as bytes that are all 0 or 1, and NaN. Floats
    from 0 to 255 are not refused.
    """

    def __init__(self, images: Any, m: int, rng: Random = rng, labels: Any = None) -> None:
        several = isinstance(images, tuple)
        arrays = [_as_array(a, "images") for a in (images if several else [images])]
        n = len(arrays[0]) if arrays and arrays[0].ndim else 0
        if any(a.shape[:1] != (n,) for a in arrays[1:]):
            raise UserError("the arrays of a tuple must have the same length, got the shapes "
                            f"{[a.shape for a in arrays]}: for sets that do not belong together "
                            "row by row, give ZipMinibatches(Minibatches(...), Minibatches(...))")
        arrays = [_check_array(a, several) for a in arrays]
        if n == 0:
            raise UserError("there are no training examples: give data that has some")
        if not isinstance(m, (int, np.integer)):
            raise TypeError("the size m of a minibatch is a whole number, got a "
                            f"{type(m).__name__}: write Minibatches(images, m, labels=labels)")
        if not 1 <= m <= n:
            examples, sizes = ("1 training example", "of 1") if n == 1 else (
                f"{n} training examples", f"from 1 to {n}")
            raise UserError(f"a minibatch of {m} cannot be drawn from {examples}: choose m "
                            f"(--batch-size) {sizes}")
        if labels is not None:
            labels = _as_array(labels, "labels")
            check_labels(labels, n, "Minibatches got")
            arrays.append(labels)
        check_random(rng, "Minibatches(images, m, rng)")
        self.m, self.rng, self.epoch = m, rng, 0
        self._arrays = [backend.xp.asarray(a) for a in arrays]
        self._is_tuple = several or labels is not None
        # checksums of 50 to 100 of the examples, by which a resumed run recognises its data
        some = slice(None, None, max(1, n // 50))
        self._sum = [zlib.crc32(np.ascontiguousarray(backend.to_numpy(a[some])))
                     for a in self._arrays]
        self._order = backend.xp.arange(n)              # replaced when the first epoch begins
        self._position = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self._position == 0:
            self._order = self.rng.permutation(len(self._order))
        chosen = self._order[self._position:self._position + self.m]
        self._position += self.m
        if self._position + self.m > len(self._order):
            self.epoch += 1
            self._position = 0
        # arrays that are neither floats nor uint8 pixels are labels
        parts = [as_floats(x) if x.dtype == np.uint8 and x.ndim > 1 or x.dtype.kind == "f" else x
                 for x in (a[chosen] for a in self._arrays)]
        return tuple(parts) if self._is_tuple else parts[0]

    @property
    def state(self) -> dict[str, Any]:
        """Return the stream's state, which a checkpoint keeps; assign it to continue from there.

        It includes the state of the stream's own Random, but not that of tinygan.rng, which the
        checkpoint keeps itself. Assigning it raises UserError if it is damaged, or was saved with
        other data or by a stream that drew from another Random.
        """
        state = {"order": backend.to_numpy(self._order), "position": self._position,
                 "epoch": self.epoch, "sum": self._sum}
        return state if self.rng is rng else {**state, "rng": self.rng.state}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        damaged = UserError("the saved order is damaged: it does not hold each example once, or "
                            "the position in it or the epoch is missing or wrong")
        names = {"order", "position", "epoch", "sum"}
        if not isinstance(state, Mapping) or not names <= set(state):
            raise damaged
        if ("rng" in state) != (self.rng is not rng):
            raise UserError("the saved stream drew from another Random: give Minibatches the same "
                            "arguments as then")
        order, position, epoch = (
            backend.to_numpy(a) if isinstance(a, backend.xp.ndarray) else np.asarray(a)
            for a in (state["order"], state["position"], state["epoch"]))
        n = len(self._order)
        if order.ndim == 1 and len(order) != n:
            raise UserError(f"the saved order has {len(order)} examples, but the data has {n}: "
                            "resume with the data that the run was started with")
        if (order.ndim, position.ndim, epoch.ndim) != (1, 0, 0) or not (
                {order.dtype.kind, position.dtype.kind, epoch.dtype.kind} <= set("iu")
                and (np.sort(order) == np.arange(n)).all()
                and 0 <= position <= n - self.m and epoch >= 0):
            raise damaged
        if state["sum"] != self._sum:
            raise UserError("the examples are not those of the saved run: resume with the data "
                            "that it was started with")
        if self.rng is not rng:
            self.rng.state = state["rng"]
        self._order = backend.xp.asarray(order)
        self._position, self.epoch = int(position), int(epoch)


class ZipMinibatches:
    """An endless stream of tuples: one minibatch from each of several streams.

    Each stream has an order of its own, as for two sets of images that are not paired. Raises
    UserError if the streams have different sizes m of minibatches.
    """

    def __init__(self, *streams: Any) -> None:
        if len({stream.m for stream in streams}) != 1:
            raise UserError("ZipMinibatches takes streams with minibatches of one size, got the "
                            f"sizes {[stream.m for stream in streams]}")
        self.streams, self.m = streams, streams[0].m

    def __iter__(self):
        return self

    def __next__(self):
        return tuple([next(stream) for stream in self.streams])

    @property
    def state(self) -> list[Any]:
        """Return the list of the streams' states; assign it to continue from there."""
        return [stream.state for stream in self.streams]

    @state.setter
    def state(self, state: list[Any]) -> None:
        if not isinstance(state, (list, tuple)) or len(state) != len(self.streams):
            raise UserError("the saved state of ZipMinibatches is not that of "
                            f"{len(self.streams)} streams: give it the same streams as then")
        before = self.state
        try:
            for stream, its in zip(self.streams, state):
                stream.state = its
        except Exception:           # all streams continue from the state, or none of them
            for stream, its in zip(self.streams, before):
                stream.state = its
            raise


def _check_array(array, or_labels):
    """Check an array of images and return it; if `or_labels`, a 1-D array is taken for labels.

    Floats are returned as float32, as a device may lack dtypes that numpy has.
    """
    if or_labels and array.ndim == 1:
        if array.dtype.kind == "f":
            raise UserError(f"Minibatches got floats of shape {array.shape}: give labels as whole "
                            "numbers, and other numbers as an array (N, 1), a[:, None]")
        check_labels(array, len(array), "Minibatches got")
        return array
    check_images(array, "Minibatches got")
    return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)


def _as_array(values, what):
    """Return `values` as a numpy array, or as they are if they are an array on the device.

    Raises TypeError for a masked array, and UserError for values that numpy cannot convert to an
    array of numbers. `what` names the values in the message.
    """
    backend.refuse_masked(values)
    if backend.xp is not np and isinstance(values, backend.xp.ndarray):
        return values
    try:
        array = np.asarray(values)
    except Exception as error:      # each library's arrays raise exceptions of their own
        reason = " ".join(str(error).split())
        raise UserError(f"Minibatches got {what} that numpy cannot convert to an array ({reason}): "
                        "give an array of numpy or of the backend") from None
    if array.ndim == 0 and array.dtype.kind not in "biufc":
        raise UserError(f"Minibatches got a {type(values).__name__} (to numpy, {array.dtype}) as "
                        f"{what}: give an array, such as load().train.images")
    return array
