"""Metrics against slow obvious versions and closed forms."""

import math

import numpy as np
import pytest

from tinygan import backend
from tinygan.data import mixtures
from tinygan.metrics import coverage, nearest

from helpers import error_of


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


# Nearest neighbours

def nearest_slowly(samples, images):
    """Index and distance, pair by pair, in float64; and the distance of the second nearest."""
    found = []
    for s in np.float64(samples):
        squares = [float(((s - x) ** 2).sum()) for x in np.float64(images)]
        first = squares.index(min(squares))
        second = min((d for j, d in enumerate(squares) if j != first), default=math.inf)
        found.append((first, math.sqrt(squares[first]), math.sqrt(second)))
    return [np.array(column) for column in zip(*found)]


def check_nearest(found, samples, images):
    index, distance = found
    assert type(index) is type(distance) is np.ndarray
    assert index.shape == distance.shape == (len(samples),) and index.dtype == np.int64
    expected, exact, second = nearest_slowly(samples, images)
    assert (second - exact).min() > 1e-4        # more than float32 rounding: it cannot decide
    assert index.tolist() == expected.tolist()
    # a float32 difference and the sum of up to 200 squares; nothing cancels
    assert np.allclose(distance, exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n, size, shape", [
    (1, 1, (3,)), (5, 1, (4,)), (1, 30, (2,)), (20, 50, (1, 5, 6)), (7, 40, (3, 8, 8))])
@pytest.mark.parametrize("shift", [0, 3])
def test_nearest_pair_by_pair(n, size, shape, shift):
    draw = np.random.default_rng(n)
    samples, images = (np.float32(draw.normal(size=(k, *shape)) + shift) for k in (n, size))
    found = nearest(backend.xp.asarray(samples), images)
    check_nearest(found, samples, images)
    for piece in 1, 3, size, size + 1:      # in pieces it is the same, to the last bit
        again = nearest(backend.xp.asarray(samples), images, piece=piece)
        assert all(map(np.array_equal, again, found))


def test_nearest_among_images_on_the_device():
    draw = np.random.default_rng(0)
    samples, images = draw.random((6, 5), dtype=np.float32), draw.random((20, 5), dtype=np.float32)
    check_nearest(nearest(backend.xp.asarray(samples), backend.xp.asarray(images)), samples, images)


def test_nearest_takes_host_arrays_and_any_float():
    draw = np.random.default_rng(0)
    samples, images = draw.random((6, 1, 4, 4)), draw.random((20, 1, 4, 4))
    samples = np.float32(samples)
    check_nearest(nearest(samples, np.float32(images)), samples, np.float32(images))
    check_nearest(nearest(backend.xp.asarray(samples), images, piece=7), samples, images)


def test_an_image_finds_itself():
    images = np.random.default_rng(0).integers(256, size=(40, 1, 7, 7), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(40)
    for mine, theirs in [(images, images), (np.float32(images / 255), np.float32(images / 255))]:
        for piece in 4096, 3:
            index, distance = nearest(backend.xp.asarray(mine[order]), theirs, piece)
            assert index.tolist() == order.tolist() and not distance.any()


def test_bytes_are_scaled():
    """Bytes against bytes, and against floats, either way, are as floats against floats."""
    draw = np.random.default_rng(0)
    samples, images = (draw.integers(256, size=(n, 1, 6, 6), dtype=np.uint8) for n in (9, 50))
    for s in samples, np.float32(samples / 255):
        for x in images, np.float32(images / 255):
            check_nearest(nearest(backend.xp.asarray(s), x), samples / 255, images / 255)


@pytest.mark.parametrize("piece", [1, 2, 3, 4096])
def test_nearest_of_equals_is_the_first(piece):
    a, b = np.eye(2, dtype=np.float32)
    index, distance = nearest(backend.xp.asarray(np.stack([a, b, b + 1, (a + b) / 2])),
                              np.stack([b, a, b, a, a, b]), piece)
    assert index.tolist() == [1, 0, 0, 0]       # the last is as far from all
    assert np.allclose(distance, [0, 0, math.sqrt(2), math.sqrt(0.5)], rtol=1e-6)


def test_a_copy_is_nearer_than_what_differs_in_one_pixel():
    """By one of 255 levels: the least there is."""
    images = np.random.default_rng(0).integers(256, size=(50, 1, 28, 28), dtype=np.uint8)
    almost = images.copy()
    almost[:, :, 0, 0] ^= 1
    index, distance = nearest(backend.xp.asarray(images), np.concatenate([almost, images]))
    assert index.tolist() == list(range(50, 100)) and not distance.any()


def test_nearest_refuses():
    samples = backend.xp.zeros((3, 1, 4, 4), "float32")
    for shape in (0, 1, 4, 4), (5, 1, 4, 5), (5, 4, 4), (5, 3, 4, 4):
        message = error_of(nearest, samples, backend.xp.zeros(shape, "float32"))
        assert str(shape) in message and "(3, 1, 4, 4)" in message
