"""Minibatches: the "sample minibatch of m examples from the data" of Algorithm 1."""

import zlib

import numpy as np

from .. import backend, random
from .arrays import as_floats, check_images, check_labels


class Minibatches:
    """Minibatches of `m` examples without end; an epoch takes each example at most once.

    images   (N, ...): uint8 pixels, which are scaled to [0, 1] (x / 255), or floats (images,
             points), which are left as they are; on the device, or anything numpy.asarray takes; or
             a tuple of several such arrays and of labels, which belong together row by row
    rng      where the order comes from, a `Random` (default: `tinygan.rng`)
    labels   (N,) whole numbers from 0, one for each image: minibatches are then pairs (x, labels)
    epoch    epochs finished so far

    Each is a float32 array (m, ...) on the current backend, or a tuple of arrays. Every epoch has
    its own random order and N // m minibatches; the N % m examples left over are skipped, so that
    every minibatch is full. The data moves to the device once, here.

    Raises UserError if N examples do not make a minibatch of m, and for what check_images and
    check_labels refuse, such as pixels at another scale and NaN.
    """

    def __init__(self, images, m, rng=None, labels=None):
        several = isinstance(images, tuple)
        arrays = [_array(a, "images") for a in (images if several else [images])]
        n = len(arrays[0]) if arrays and arrays[0].ndim else 0
        if any(a.shape[:1] != (n,) for a in arrays[1:]):
            raise backend.UserError("arrays that belong together have one length, got shapes "
                                    f"{[a.shape for a in arrays]}: give Together(Minibatches(...), "
                                    "Minibatches(...)) for sets that do not")
        arrays = [_checked(a, several) for a in arrays]
        if not 1 <= m <= n:
            raise backend.UserError(f"{n} training examples do not make a minibatch of "
                                    f"{m}: choose a --batch-size from 1 to {n}")
        if labels is not None:
            labels = _array(labels, "labels")
            check_labels(labels, n, "Minibatches got")
            arrays.append(labels)
        self.m = m
        self.rng = random.rng if rng is None else rng
        self.epoch = 0
        self._arrays = [backend.xp.asarray(a) for a in arrays]
        self._is_tuple = several or labels is not None
        # a checksum of fifty of the examples
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
        # whole numbers other than bytes are labels
        parts = [as_floats(x) if x.dtype == np.uint8 and x.ndim > 1 or x.dtype.kind == "f" else x
                 for x in (a[chosen] for a in self._arrays)]
        return tuple(parts) if self._is_tuple else parts[0]

    @property
    def state(self):
        """What a checkpoint needs beside rng's state, as a host array and two ints; assign it back
        to continue from there. Raises UserError if it was saved over other data."""
        state = {"order": backend.to_numpy(self._order), "position": self._position,
                 "epoch": self.epoch, "sum": self._sum}
        return state if self.rng is random.rng else {**state, "rng": self.rng.state}

    @state.setter
    def state(self, state):
        if len(state["order"]) != len(self._order):
            raise backend.UserError(
                f"the saved order is one of {len(state['order'])} examples, but the data has "
                f"{len(self._order)}: resume with the data that the run was started with")
        order, position = backend.to_numpy(state["order"]), int(state["position"])
        if not (np.sort(order) == np.arange(len(order))).all() or not (
                0 <= position <= len(order) - self.m):
            raise backend.UserError("the saved order is damaged: it has not each example once")
        if state["sum"] != self._sum:
            raise backend.UserError("the examples are not those of the saved run: resume with the "
                                    "data that it was started with")
        if self.rng is not random.rng:
            self.rng.state = state["rng"]
        self._order = backend.xp.asarray(order)
        self._position, self.epoch = position, int(state["epoch"])


class Together:
    """Minibatches of several streams at once, each in an order of its own: a tuple of theirs, as
    for two sets of images that are not paired."""

    def __init__(self, *streams):
        if len({stream.m for stream in streams}) != 1:
            raise backend.UserError("streams that are taken together have minibatches of one size, "
                                    f"got {[stream.m for stream in streams]}")
        self.streams, self.m = streams, streams[0].m

    def __iter__(self):
        return self

    def __next__(self):
        return tuple([next(stream) for stream in self.streams])

    @property
    def state(self):
        """Those of the streams; assign it back to continue from there."""
        return [stream.state for stream in self.streams]

    @state.setter
    def state(self, state):
        for stream, its in zip(self.streams, state, strict=True):
            stream.state = its


def _checked(array, or_labels):
    """Return an array of images or points, or of labels if there may be any, once it is checked;
    floats as float32, since a device has not all of numpy's."""
    if or_labels and array.ndim == 1:
        check_labels(array, len(array), "Minibatches got")
        return array
    check_images(array, "Minibatches got")
    return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)


def _array(values, what):
    """Return `values`, as a numpy array unless they are an array on the device.

    Raises UserError for a masked array, whose mask numpy would drop, and for what is no array.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise backend.UserError(f"Minibatches got a masked array of {what}, of which every number "
                                f"would count: give {what}.filled(x) with an x for those masked")
    if backend.xp is not np and isinstance(values, backend.xp.ndarray):
        return values
    try:
        return np.asarray(values)
    except Exception as error:      # each library's arrays have their own reasons
        reason = " ".join(str(error).split())
        raise backend.UserError(f"Minibatches got {what} of which numpy makes no array ({reason}): "
                                "give a numpy array, or one of the backend") from None
