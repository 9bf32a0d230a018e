"""The classifier two-sample test (Lopez-Paz and Oquab 2017)."""

import math
from typing import NamedTuple

import numpy as np

from .. import backend, nn, ops, optim, schedules
from ..backend import Array
from ..numbers import is_whole
from ..random import Random, check_random
from ..tensor import Tensor, grad, no_grad
from .features import as_features, check_logits


class TwoSample(NamedTuple):
    """The result of a two-sample test with n held-out rows.

    accuracy   the classifier's accuracy a on the held-out half of the rows
    low, high  its 95 % confidence interval, a +- 1.96 sqrt(a (1 - a) / n)
    p          the probability of this or a higher accuracy if both sets are samples of the same
               distribution: the accuracy is then distributed as N(1/2, 1/(4n)) (Lopez-Paz and Oquab
               2017, section 3)
    """

    accuracy: float
    low: float
    high: float
    p: float


def run_two_sample_test(x: Array, y: Array, rng: Random, hidden: int = 32, steps: int = 200,
                        batch: int = 64, lr: float = 1e-2) -> TwoSample:
    """Return how well a classifier can tell features x (n, d) from features y (m, d).

    An equal number of rows of x and y is used, scaled to mean 0 and variance 1; features whose
    standard deviation is far below 1e-6 count as constant. One half of the rows trains a network
    with one layer of `hidden` ReLUs (with none, if hidden = 0) by Adam; the result is that of the
    other half. `rng` draws the split, the initial weights and the minibatches.
    Raises ValueError if x or y has fewer than 4 rows, for numbers that are not finite, and unless
    hidden, steps and batch are whole numbers of at least 0, 0 and 1, and FloatingPointError if the
    classifier's logits have become NaN or infinite.
    """
    check_random(rng, "run_two_sample_test")
    if not is_whole(hidden, 0) or not is_whole(steps, 0) or not is_whole(batch, 1):
        raise ValueError(f"a two-sample test has no network of {hidden} ReLUs that is trained in "
                         f"{steps} steps of {batch} rows: give whole numbers of at least 0, 0, 1")
    x, y = as_features(4, x, y)
    n = min(len(x), len(y)) // 2 * 2
    x, y = (a[backend.to_numpy(rng.permutation(len(a)))[:n]] for a in (x, y))
    both = np.concatenate([x, y])
    x, y = (np.float32((a - both.mean(0)) / (both.std(0) + 1e-6)) for a in (x, y))
    half = n // 2
    z = backend.xp.asarray(np.concatenate([x[:half], y[:half]]))
    labels = backend.xp.asarray(np.repeat([0, 1], half))
    init = lambda shape, fan_in, _: rng.normal(shape) * (2 / fan_in) ** 0.5     # nn.he, by rng
    layers = [nn.Dense(z.shape[1], hidden, init=init), nn.ReLU()] if hidden else []
    net = nn.Sequential(*layers, nn.Dense(hidden or z.shape[1], 2, init=init))
    opt = optim.Adam(net.parameters(), schedules.cosine(lr, 0.0, steps), betas=(0.9, 0.999))
    for _ in range(steps):
        i = rng.integers(len(labels), (batch,))
        loss = ops.cross_entropy(net(Tensor(z[i])), labels[i])
        opt.step(grad(loss, opt.parameters))
    with no_grad():
        logits = np.stack([backend.to_numpy(net(Tensor(backend.xp.asarray(a[half:]))).data)
                           for a in (x, y)])
    check_logits(logits)
    accuracy = float((logits.argmax(2) == [[0], [1]]).mean())
    count = 2 * (n - half)
    spread = 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)
    p = 0.5 * math.erfc((accuracy - 0.5) * math.sqrt(2 * count))
    return TwoSample(accuracy, accuracy - spread, accuracy + spread, p)
