"""Metrics against slow obvious versions and closed forms."""

import math

import numpy as np
import pytest

from tinygan import backend
from tinygan.data import mixtures
from tinygan.metrics import coverage


def slowly(points, mixture):
    """Modes, share and reverse KL, point by point."""
    counts = [0] * len(mixture.modes)
    for x in points:
        distances = [math.dist(x, mode) for mode in mixture.modes]
        nearest = distances.index(min(distances))
        if distances[nearest] <= 3 * mixture.std:
            counts[nearest] += 1
    good = sum(counts)
    kl = sum(c / good * math.log(c / good * len(counts)) for c in counts if c)
    return sum(c > 0 for c in counts), good / len(points), kl


@pytest.mark.parametrize("mixture", [mixtures.ring(), mixtures.grid(), mixtures.ring(3, 1.0, 0.5)])
def test_coverage_point_by_point(mixture):
    """Of samples that are good, bad and between the modes; the modes of the last overlap."""
    x = mixture.sample(300) * backend.rng.uniform(0.9, 1.1, (300, 1))
    found = coverage(x, mixture)
    modes, quality, kl = slowly(backend.to_numpy(x), mixture)
    assert (found.modes, found.quality) == (modes, quality)
    assert found.kl == pytest.approx(kl, abs=1e-12)             # float64 sums


@pytest.mark.parametrize("mixture, floor", [(mixtures.ring(), 0.0014), (mixtures.grid(), 0.0048)])
def test_coverage_of_true_samples(mixture, floor):
    """All modes; a share of 1 - exp(-9/2), of 50,000 within 4 standard errors; a reverse KL whose
    mean is (K - 1) / 2n, the floor that is known for n = 2500."""
    found = [coverage(mixture.sample(2500), mixture) for _ in range(20)]
    assert {c.modes for c in found} == {len(mixture.modes)}
    share = 1 - math.exp(-4.5)
    error = math.sqrt(share * (1 - share) / 50_000)
    assert abs(np.mean([c.quality for c in found]) - share) < 4 * error
    # 2n KL is chi-squared with K - 1 degrees of freedom: variance 2 (K - 1)
    k = len(mixture.modes)
    error = math.sqrt(2 * (k - 1)) / 5000 / math.sqrt(20)
    assert (k - 1) / 5000 == pytest.approx(floor, abs=0.00005)
    assert abs(np.mean([c.kl for c in found]) - floor) < 4 * error


@pytest.mark.numpy_only("the points are counted on the host")
def test_coverage_at_its_ends():
    mixture = mixtures.grid()
    everywhere = np.tile(mixture.modes, (4, 1))
    assert coverage(everywhere, mixture) == (25, 1.0, pytest.approx(0, abs=1e-12))
    assert coverage(mixture.modes[[7] * 9], mixture) == (1, 1.0, pytest.approx(math.log(25)))
    nowhere = coverage(np.full((5, 2), 99.0), mixture)
    assert nowhere == (0, 0.0, math.inf)
    assert str(nowhere) == "modes 0  HQ 0.0 %  reverse KL inf"
