"""Minibatches: the "sample minibatch of m examples from the data" of Algorithm 1."""

import numpy as np

from .. import backend
from .arrays import as_floats, check_images, check_labels


class Minibatches:
    """Minibatches of `m` examples without end; an epoch takes each example at most once.

    images   (N, ...): uint8 pixels, which are scaled to [0, 1] (x / 255), or floats (images,
             points), which are left as they are; on the device, or anything numpy.asarray takes
    rng      where the order comes from, a `backend.Random` (default: `backend.rng`)
    labels   (N,) whole numbers from 0, one for each image: minibatches are then pairs (x, labels)
    epoch    epochs finished so far

    Each is a float32 array (m, ...) on the current backend. Every epoch has its own random order
    and N // m minibatches; the N % m examples left over are skipped, so that every minibatch is
    full. The data moves to the device once, here.

    Raises UserError if N examples do not make a minibatch of m, and for what check_images and
    check_labels refuse, such as pixels at another scale and NaN.
    """

    def __init__(self, images, m, rng=None, labels=None):
        images = _array(images, "images")
        check_images(images, "Minibatches got")
        if not 1 <= m <= len(images):
            raise backend.UserError(f"{len(images)} training examples do not make a minibatch of "
                                    f"{m}: choose a --batch-size from 1 to {len(images)}")
        if labels is not None:
            labels = _array(labels, "labels")
            check_labels(labels, len(images), "Minibatches got")
        if images.dtype != np.uint8:        # a device has not all of numpy's floats
            images = images.astype(np.float32, copy=False)
        self.m = m
        self.rng = backend.rng if rng is None else rng
        self.epoch = 0
        self._images = backend.xp.asarray(images)
        self._labels = None if labels is None else backend.xp.asarray(labels)
        self._order = backend.xp.arange(len(images))    # replaced when the first epoch begins
        self._position = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self._position == 0:
            self._order = self.rng.permutation(len(self._images))
        chosen = self._order[self._position:self._position + self.m]
        x = self._images[chosen]
        self._position += self.m
        if self._position + self.m > len(self._images):
            self.epoch += 1
            self._position = 0
        return as_floats(x) if self._labels is None else (as_floats(x), self._labels[chosen])

    @property
    def state(self):
        """What a checkpoint needs beside rng's state, as a host array and two ints; assign it back
        to continue from there. Raises UserError if it was saved over other data."""
        return {"order": backend.to_numpy(self._order), "position": self._position,
                "epoch": self.epoch}

    @state.setter
    def state(self, state):
        if len(state["order"]) != len(self._images):
            raise backend.UserError(
                f"the saved order is one of {len(state['order'])} examples, but the data has "
                f"{len(self._images)}: resume with the data that the run was started with")
        order, position = np.asarray(state["order"]), int(state["position"])
        if not (np.sort(order) == np.arange(len(order))).all() or not (
                0 <= position <= len(order) - self.m):
            raise backend.UserError("the saved order is damaged: it has not each example once")
        self._order = backend.xp.asarray(order)
        self._position, self.epoch = position, int(state["epoch"])


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
