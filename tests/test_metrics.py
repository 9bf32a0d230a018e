"""The metrics against slow, obvious versions, closed forms and their stated properties."""

import inspect
import itertools
import math
import pathlib
import sys
import time
import types
from statistics import NormalDist

import numpy as np
import pytest

from tinygan import Tensor, backend, nn
from tinygan.backend import UserError
from tinygan.data import as_floats, mixtures
from tinygan.metrics import (class_shares, classifier, classifier_score, compute_precision_recall,
                             count_pairs, find_nearest, frechet_distance, grey_share, kid,
                             mean_difference, mean_iou, measure_coverage, measure_stacked,
                             nearest_accuracy, overlap, parzen_log_likelihood, predict,
                             run_two_sample_test, train_classifier)
from tinygan.metrics.mmd import cubic_kernel, mmd2
from tinygan.metrics.modes import count_modes
from tinygan.metrics.parzen import SIGMAS, find_centroids, log_likelihood
from tinygan.random import Random, rng

from helpers import error_of, normal

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
import benchmark
import theory


# Mode coverage

def slowly(points, mixture):
    """Return the number of modes, the share and the reverse KL, computed point by point."""
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
    """Of samples near and far from the modes; the modes of the last mixture overlap."""
    x = mixture.sample(300) * rng.uniform(0.9, 1.1, (300, 1))
    found = measure_coverage(x, mixture)
    modes, quality, kl = slowly(backend.to_numpy(x), mixture)
    assert (found.modes, found.quality) == (modes, quality)
    assert found.kl == pytest.approx(kl, abs=1e-12)             # float64 sums


@pytest.mark.parametrize("mixture, floor", [(mixtures.ring(), 0.0014), (mixtures.grid(), 0.0048)])
def test_coverage_of_true_samples(mixture, floor):
    """Samples of the mixture itself cover all modes and have the share and KL of theory.

    The share is 1 - exp(-9/2), and the mean of the reverse KL is (K - 1) / 2n with n = 2500, both
    within 4 standard errors.
    """
    found = [measure_coverage(mixture.sample(2500), mixture) for _ in range(20)]
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
    assert measure_coverage(everywhere, mixture) == (25, 1.0, pytest.approx(0, abs=1e-12))
    assert measure_coverage(mixture.modes[:1], mixture)[:2] == (1, 1.0)
    one = measure_coverage(mixture.modes[[7] * 9], mixture)
    assert one == (1, 1.0, pytest.approx(math.log(25)))
    nowhere = measure_coverage(np.full((5, 2), 99.0), mixture)
    assert nowhere == (0, 0.0, math.inf)
    assert str(nowhere) == "modes 0  HQ 0.0 %  reverse KL inf"


# Nearest neighbours

def nearest_slowly(samples, images):
    """Return the index, the distance and the distance of the second nearest, in float64."""
    found = []
    for s in np.float64(samples):
        squares = [float(((s - x) ** 2).sum()) for x in np.float64(images)]
        first = squares.index(min(squares))
        second = min((d for j, d in enumerate(squares) if j != first), default=math.inf)
        found.append((first, math.sqrt(squares[first]), math.sqrt(second)))
    return [np.array(column) for column in zip(*found)]


def check_nearest(found, samples, images):
    """Check the result of find_nearest against that of nearest_slowly."""
    index, distance = found
    assert type(index) is type(distance) is np.ndarray
    assert index.shape == distance.shape == (len(samples),) and index.dtype == np.int64
    expected, exact, second = nearest_slowly(samples, images)
    assert (second - exact).min() > 1e-4        # more than float32 rounding could change
    assert index.tolist() == expected.tolist()
    # float32 differences and sums of up to 200 squares, without cancellation
    assert np.allclose(distance, exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n, size, shape", [
    (1, 1, (3,)), (5, 1, (4,)), (1, 30, (2,)), (20, 50, (1, 5, 6)), (7, 40, (3, 8, 8))])
@pytest.mark.parametrize("shift", [0, 3])
def test_nearest_pair_by_pair(n, size, shape, shift):
    draw = np.random.default_rng(n)
    samples, images = (np.float32(draw.normal(size=(k, *shape)) + shift) for k in (n, size))
    found = find_nearest(backend.xp.asarray(samples), images)
    check_nearest(found, samples, images)
    for piece in 1, 3, size, size + 1:      # the result is bitwise the same in pieces
        again = find_nearest(backend.xp.asarray(samples), images, piece=piece)
        assert all(map(np.array_equal, again, found))


def test_nearest_among_images_on_the_device():
    draw = np.random.default_rng(0)
    samples, images = draw.random((6, 5), dtype=np.float32), draw.random((20, 5), dtype=np.float32)
    found = find_nearest(backend.xp.asarray(samples), backend.xp.asarray(images))
    check_nearest(found, samples, images)


def test_nearest_takes_host_arrays_and_any_float():
    draw = np.random.default_rng(0)
    samples, images = draw.random((6, 1, 4, 4)), draw.random((20, 1, 4, 4))
    samples = np.float32(samples)
    check_nearest(find_nearest(samples, np.float32(images)), samples, np.float32(images))
    check_nearest(find_nearest(backend.xp.asarray(samples), images, piece=7), samples, images)


def test_an_image_finds_itself():
    images = np.random.default_rng(0).integers(256, size=(40, 1, 7, 7), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(40)
    for mine, theirs in [(images, images), (np.float32(images / 255), np.float32(images / 255))]:
        for piece in 4096, 3:
            index, distance = find_nearest(backend.xp.asarray(mine[order]), theirs, piece)
            assert index.tolist() == order.tolist() and not distance.any()


def test_bytes_are_scaled():
    """uint8 samples or images give the same result as floats that are divided by 255."""
    draw = np.random.default_rng(0)
    samples, images = (draw.integers(256, size=(n, 1, 6, 6), dtype=np.uint8) for n in (9, 50))
    for s in samples, np.float32(samples / 255):
        for x in images, np.float32(images / 255):
            check_nearest(find_nearest(backend.xp.asarray(s), x), samples / 255, images / 255)


@pytest.mark.parametrize("piece", [1, 2, 3, 4096])
def test_nearest_of_equals_is_the_first(piece):
    a, b = np.eye(2, dtype=np.float32)
    index, distance = find_nearest(backend.xp.asarray(np.stack([a, b, b + 1, (a + b) / 2])),
                                   np.stack([b, a, b, a, a, b]), piece)
    assert index.tolist() == [1, 0, 0, 0]       # the last sample is equally far from all images
    assert np.allclose(distance, [0, 0, math.sqrt(2), math.sqrt(0.5)], rtol=1e-6)


def test_a_copy_is_nearer_than_what_differs_in_one_pixel():
    """The pixel differs by one of 255 grey levels, the smallest possible difference."""
    images = np.random.default_rng(0).integers(256, size=(50, 1, 28, 28), dtype=np.uint8)
    almost = images.copy()
    almost[:, :, 0, 0] ^= 1
    index, distance = find_nearest(backend.xp.asarray(images), np.concatenate([almost, images]))
    assert index.tolist() == list(range(50, 100)) and not distance.any()


@pytest.mark.numpy_only("arithmetic of the host")
def test_distances_far_from_the_origin_are_as_precise_as_near_it():
    """A translation of all points changes no result: it is exact for these numbers in float64."""
    draw = np.random.default_rng(0)
    a, b = (np.round(draw.normal(size=(n, 5)) * 1024) / 1024 for n in (200, 300))
    far = 2.0 ** 40
    for x, y in zip(find_nearest(a, b), find_nearest(a + far, b + far)):
        assert (x == y).all()
    x, y = (log_likelihood(a + shift, b + shift, [0.3, 1.0]) for shift in (0, far))
    assert (x == y).all()


@pytest.mark.numpy_only("arithmetic of the host")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_image_far_from_the_others_changes_no_distance_to_them(place):
    images = np.insert(np.array([[0.0], [1.0]]), place, 1e20, axis=0)
    index, distance = find_nearest(np.array([[0.9], [0.3]]), images)
    assert images[index].tolist() == [[1.0], [0.0]] and np.allclose(distance, [0.1, 0.3])
    expected = [math.log(sum(math.exp(-(x - c) ** 2 / 0.02) for c in (0, 1)) / 3)
                - math.log(0.1 * math.sqrt(2 * math.pi)) for x in (0.9, 0.3)]
    assert np.allclose(log_likelihood(np.array([[0.9], [0.3]]), images, [0.1]), expected)
    # images that are sorted, the far ones first
    images = np.concatenate([np.full((60, 2), 1e9), np.random.default_rng(0).normal(size=(500, 2))])
    assert find_nearest(images[100:] + 1e-6, images)[0].tolist() == list(range(100, 560))


def test_images_in_other_units_are_refused():
    """Bytes of 0 and 1 would be nearly black, and floats up to 255 far from all bytes."""
    x = np.random.default_rng(0).integers(0, 256, (9, 1, 28, 28)).astype("uint8")
    x = backend.xp.asarray(x)
    as_numbers, binary = x.astype("float32"), (x > 127).astype("uint8")
    net = classifier.load_classifier()
    for f in (lambda a: find_nearest(a, x), lambda a: find_nearest(x, a),
              lambda a: parzen_log_likelihood(a, x, x)):
        assert "from 0 to 1, but the mean" in error_of(f, as_numbers)
    for f in (lambda a: find_nearest(a, a), lambda a: parzen_log_likelihood(a, a, a),
              lambda a: mean_difference(*[backend.to_numpy(a)] * 2),
              lambda a: classifier.classify(net, a)):
        assert "the largest of these is 1" in error_of(f, binary)
        f(0 * binary)                       # black in both units
    host = backend.to_numpy(as_numbers)
    assert "comparison of images takes pixels" in error_of(mean_difference, host, host)
    dark = 0 * x[:1]
    dark[0, 0, 0, 0] = 1
    find_nearest(dark, x)                   # a dark image among others
    codes = device(np.float32(normal(5, 3)) + 100)                  # floats may be no pixels
    assert (find_nearest(codes, codes)[0] == np.arange(5)).all()


@pytest.mark.numpy_only("arithmetic of the host")
def test_features_without_numbers_and_huge_ones_are_refused():
    """Their squares and cubes would be NaN or infinite, or lose all digits."""
    x = normal(8, 3)
    for f in (frechet_distance, mmd2, lambda a, b: kid(a, b, Random(0)), compute_precision_recall,
              lambda a, b: run_two_sample_test(a, b, Random(0))):
        for scale in (1e21, 1e160, 1e200):
            assert "huge ones" in error_of(f, x * scale, x * scale)
        assert np.isfinite(f(x * 1e19, x * 1e19 + 1e19)).all()
        assert "d of at least 1" in error_of(f, x[:, :0], x[:, :0])
    assert "huge ones" in error_of(find_nearest, x * 1e200, x * 1e200)


@pytest.mark.numpy_only("arithmetic of the host")
def test_a_likelihood_is_at_most_that_of_the_centre():
    """Rounding may make the squared distance of a point from itself negative."""
    x, sigma = np.random.default_rng(0).uniform(size=(30, 5)), 1e-9
    largest = -math.log(30) - 5 * math.log(sigma * math.sqrt(2 * math.pi))
    # the exponents of one centre in thirty are 0; the others' exponentials vanish
    assert (log_likelihood(x, x, [sigma]) <= largest * (1 + 1e-12)).all()


def test_nearest_refuses():
    samples = backend.xp.zeros((3, 1, 4, 4), "float32")
    for shape in (0, 1, 4, 4), (5, 1, 4, 5), (5, 4, 4), (5, 3, 4, 4):
        message = error_of(find_nearest, samples, backend.xp.zeros(shape, "float32"))
        assert str(shape) in message and "(3, 1, 4, 4)" in message


def device(array):
    return backend.xp.asarray(np.float32(array))


# Parzen windows

def test_log_likelihood_is_its_definition():
    """log p is that of the sum of N densities, computed point by point and centre by centre.

    float32 inputs are exact in float64, where the expanded square loses a few of sixteen digits.
    """
    x, s, sigmas = np.float32(normal(7, 2, 3)), np.float32(normal(5, 2, 3, seed=1)), (0.6, 1.1)
    expected = np.empty((2, 7))
    for (i, sigma), (j, point) in itertools.product(enumerate(sigmas), enumerate(x.astype(float))):
        densities = [math.exp(-((point - centre) ** 2).sum() / (2 * sigma ** 2))
                     / (sigma * math.sqrt(2 * math.pi)) ** 6 for centre in s.astype(float)]
        expected[i, j] = math.log(sum(densities) / 5)
    for piece in (3, 500):
        found = log_likelihood(device(x), device(s), sigmas, piece)
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_widths_of_windows_may_have_any_dtype():
    """The square of a uint8 or a float16 may overflow or vanish."""
    x = normal(4, 2)
    for width in (np.uint8(20), np.float16(1e-3)):
        np.testing.assert_array_equal(log_likelihood(device(x), device(x), np.array([width])),
                                      log_likelihood(device(x), device(x), [float(width)]))


@pytest.mark.numpy_only("arithmetic of the host")
def test_parzen_windows_refuse():
    x = normal(7, 3)
    for sigmas in ([], [0.0, 1.0], [-1.0], [math.nan], [math.inf], 0.5, [[1.0]], ["a"], None):
        message = error_of(log_likelihood, x, x, sigmas)
        assert "a number from 1e-50 to 1e50" in message and str(sigmas) in message
    for points, centres in ((x, x[:, :2]), (x[:0], x), (x, x[:0])):
        message = error_of(log_likelihood, points, centres, [1.0])
        assert str(points.shape) in message and str(centres.shape) in message
    assert "at least 2 test points, got 1" in error_of(parzen_log_likelihood, x, x, x[:1])


@pytest.mark.numpy_only("arithmetic of the host")
def test_log_likelihood_neither_underflows_nor_overflows():
    """Far from equal centres it is -|x - s|^2 / 2 sigma^2 - d log(sigma sqrt(2 pi))."""
    (far,) = log_likelihood(np.full((1, 784), 1.0), np.zeros((2, 784)), [0.1])
    expected = -784 / 0.02 - 784 * math.log(0.1 * math.sqrt(2 * math.pi))
    assert far[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.numpy_only("arithmetic of the host")
def test_parzen_of_a_gaussian_has_its_entropy():
    """Points of N(0, I) have a known log-likelihood under windows on 20,000 other such points.

    Its mean in 2-D is that of N(0, (1 + sigma^2) I): -log(2 pi s) - 1 / s with s = 1 + sigma^2. As
    the centres are a sample, it is lower by half the effective number of parameters over 20,000,
    which is below 0.02.
    """
    points = normal(22_000, 2)
    found = parzen_log_likelihood(points[:20_000], points[20_000:21_000], points[21_000:],
                                  sigmas=[0.2, 0.02, 3.0])
    assert found.sigma == 0.2
    s = 1 + 0.2 ** 2
    # four times the standard error of 1,000 points
    assert abs(found.mean - (-math.log(2 * math.pi * s) - 1 / s)) < 4 * found.error + 0.02
    (ll,) = log_likelihood(points[21_000:], points[:20_000], [0.2])
    assert found.error == pytest.approx(ll.std() / math.sqrt(1000))


def test_the_published_settings():
    """The published tables have these settings, and the widths of the next test."""
    default = lambda f, name: inspect.signature(f).parameters[name].default
    assert default(compute_precision_recall, "k") == 3
    assert default(kid, "subsets") == 100 and default(kid, "size") == 1000
    assert [default(run_two_sample_test, name) for name in ("hidden", "steps", "batch", "lr")] == [
        32, 200, 64, 0.01]


def test_the_original_widths():
    np.testing.assert_allclose(SIGMAS, [10 ** (-1 + i / 9) for i in range(10)], rtol=1e-12)


# Frechet distance

def frechet_gaussians(mean_1, cov_1, mean_2, cov_2):
    """Return the distance of points whose means and covariances are these."""
    def points(mean, cov):
        values, vectors = np.linalg.eigh(np.atleast_2d(cov))
        a = vectors * np.sqrt(values.clip(0) * (len(values) - 0.5))
        return np.concatenate([mean + a.T, mean - a.T])
    return frechet_distance(points(mean_1, cov_1), points(mean_2, cov_2))


@pytest.mark.numpy_only("arithmetic of the host")
def test_frechet_of_gaussians_with_closed_forms():
    """Commuting covariances have the distance sum (sqrt l_i - sqrt m_i)^2 + |mu - nu|^2.

    In one dimension it is (mu - nu)^2 + (s - t)^2. A rotation of both Gaussians changes it only by
    the square root of the rounding of an eigenvalue 0.
    """
    a, b = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.0])
    mu, nu = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 3.0])
    expected = 4 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_gaussians(mu, np.diag(a), nu, np.diag(b)) == pytest.approx(expected)
    q, _ = np.linalg.qr(normal(3, 3))
    turned = frechet_gaussians(q @ mu, q * a @ q.T, q @ nu, q * b @ q.T)
    assert turned == pytest.approx(expected, rel=1e-7)
    assert frechet_gaussians([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(5.0)


@pytest.mark.numpy_only("arithmetic of the host")
def test_frechet_against_the_square_root_of_the_product():
    """With full rank, tr (C_1 C_2)^(1/2) is the sum of the roots of the product's eigenvalues."""
    c, d = (w @ w.T for w in (normal(6, 9), normal(6, 9, seed=1)))
    root = np.sqrt(np.linalg.eigvals(c @ d).real).sum()
    expected = np.trace(c) + np.trace(d) - 2 * root
    assert frechet_gaussians(np.zeros(6), c, np.zeros(6), d) == pytest.approx(expected)


@pytest.mark.numpy_only("arithmetic of the host")
def test_frechet_of_singular_covariances_is_exact():
    """For covariances of rank 2 in 60 dimensions the distance is exact to rounding."""
    w = normal(60, 2)
    c = w @ w.T
    assert abs(frechet_gaussians(np.zeros(60), c, np.zeros(60), c)) < 1e-12 * np.trace(c)
    # standard deviations twice as large: (2 - 1)^2 times each eigenvalue
    assert frechet_gaussians(np.zeros(60), c, np.zeros(60), 4 * c) == pytest.approx(
        np.trace(c), rel=1e-12)
    zero = np.zeros((60, 60))
    assert frechet_gaussians(np.zeros(60), c, np.zeros(60), zero) == pytest.approx(
        np.trace(c), rel=1e-12)


def test_frechet_of_features_takes_their_means_and_covariances():
    """Features that are stretched by 2 and shifted have the squared distance |shift|^2 + tr C.

    C is numpy's covariance, with n - 1. Singular covariances, of features in a plane or of fewer
    features than dimensions, give results exact to rounding.
    """
    x = np.float32(normal(50, 4))
    found = frechet_distance(device(x), device(2 * x + 3 - x.mean(0)))
    c = np.cov(x.astype(float), rowvar=False)
    mean = x.mean(0)
    expected = ((2 * mean + 3 - mean - mean) ** 2).sum() + np.trace(c)
    assert found == pytest.approx(expected, rel=1e-5)       # float32 features
    for few in (normal(50, 2) @ normal(2, 30, seed=1), normal(3, 30)):
        assert frechet_distance(few, few + 1) == pytest.approx(30, rel=1e-12)
        assert frechet_distance(few, few[::-1]) == pytest.approx(0, abs=1e-12 * (few ** 2).sum())


# MMD and KID

@pytest.mark.numpy_only("arithmetic of the host")
def test_mmd_is_its_definition():
    x, y = normal(5, 3), normal(4, 3, seed=1)

    def k(a, b):
        return (a @ b / 3 + 1) ** 3
    expected = (np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
                + np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
                - 2 * np.mean([k(a, b) for a in x for b in y]))
    assert mmd2(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.numpy_only("arithmetic of the host")
def test_mmd_is_unbiased():
    """The mean over 2,000 pairs of samples is the true value, within four standard errors.

    It is 0 for equal distributions, and |mu - nu|^2 for the linear kernel.
    """
    random = np.random.default_rng(0)

    def mean_of(shift, kernel):
        values = [mmd2(random.normal(size=(6, 2)), random.normal(size=(5, 2)) + shift, kernel)
                  for _ in range(2000)]
        return np.mean(values), np.std(values) / math.sqrt(2000)
    mean, error = mean_of(0.0, cubic_kernel)
    assert abs(mean) < 4 * error
    mean, error = mean_of(1.5, lambda x, y: x @ y.T)
    assert abs(mean - 2 * 1.5 ** 2) < 4 * error


def test_kid_draws_subsets():
    """Subsets of all features have the same mmd2; smaller subsets vary around it."""
    x, y = device(normal(40, 3)), device(normal(40, 3, seed=1) + 0.5)
    whole = mmd2(x, y)
    assert kid(x, y, Random(0), subsets=3) == pytest.approx((whole, 0.0), abs=1e-9)
    mean, spread = kid(x, y, Random(0), subsets=200, size=20)
    # the spread is far more than the rounding of sums in another order
    assert spread > 1e-3 * abs(whole) and abs(mean - whole) < 4 * spread / math.sqrt(200) + 1e-9
    assert kid(x, y, Random(0), subsets=5, size=20) == kid(x, y, Random(0), 5, 20)
    two = x[:2], y[:2]
    assert kid(*two, Random(0), subsets=2)[0] == pytest.approx(mmd2(*two), rel=1e-12)


# Precision and recall

@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_their_definition(k):
    """Both agree with their definition, point by point; no point lies on an edge in float64."""
    real, fake = np.float32(normal(30, 2)), np.float32(0.7 * normal(20, 2, seed=1) + 0.4)

    def share(points, members):
        inside = 0
        for p in points.astype(float):
            for m in members.astype(float):
                radius = sorted(np.linalg.norm(members - m, axis=1))[k]
                if np.linalg.norm(p - m) <= radius:
                    inside += 1
                    break
        return inside / len(points)
    assert compute_precision_recall(device(real), device(fake), k) == (
        share(fake, real), share(real, fake))
    assert 0.3 < share(fake, real) < 1 and 0.3 < share(real, fake) < 1


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_of_points_on_an_edge(seed):
    """A point at the very distance of a member's neighbour lies within, as for whole numbers."""
    draw = np.random.default_rng(seed).integers
    real, fake = draw(0, 3, (25, 4)).astype(float), draw(0, 3, (20, 4)).astype(float)

    def share(points, members):
        squares = [[((p - m) ** 2).sum() for m in members] for p in points]     # exact
        radius = [sorted(((m - n) ** 2).sum() for n in members)[3] for m in members]
        return float((np.array(squares) <= radius).any(1).mean())
    assert compute_precision_recall(device(real), device(fake)) == (
        share(fake, real), share(real, fake))


def test_the_frechet_distance_is_not_below_0():
    """Its square root is a number: rounding could leave -1e-15 for equal sets."""
    for seed in range(30):
        x = device(normal(20, 5, seed=seed))
        assert 0 <= frechet_distance(x, x) < 1e-12


def test_precision_and_recall_tell_collapse_from_noise():
    """A tight cluster within the data has high precision and low recall, wide noise the reverse.

    Both are 0 for points far from the data, and 1 for the data itself. The unit of the features
    does not matter.
    """
    real = normal(300, 2)
    precision, recall = compute_precision_recall(device(real), device(0.05 * normal(300, 2)))
    assert precision > 0.95 and recall < 0.1
    precision, recall = compute_precision_recall(device(real), device(6 * normal(300, 2)))
    assert precision < 0.3 and recall > 0.9
    for scale in (2.0 ** -30, 2.0 ** 30):       # powers of two, which change no rounding
        assert compute_precision_recall(device(scale * real), device(
            6 * scale * normal(300, 2))) == (precision, recall)
    assert compute_precision_recall(device(real), device(real + 100)) == (0, 0)
    assert compute_precision_recall(device(real), device(real)) == (1, 1)


# Two-sample test

def test_two_samples_of_one_distribution_and_of_two():
    x, y = normal(400, 3), normal(400, 3, seed=1)
    same, other = (run_two_sample_test(device(x), device(y + shift), Random(0), steps=60)
                   for shift in (0.0, [2.0, 0, 0]))
    assert same.p > 0.01 and other.p < 1e-10
    # the best possible accuracy, Phi(|mu - nu| / 2) = Phi(1) = 0.841, within four standard errors
    assert other.accuracy == pytest.approx(0.841, abs=4 * math.sqrt(0.841 * 0.159 / 400))
    assert other.low < other.accuracy < other.high
    assert other.high - other.low == pytest.approx(
        2 * 1.96 * math.sqrt(other.accuracy * (1 - other.accuracy) / 400))
    for result in (same, other):        # the standard deviation for 400 held-out rows is 1/40
        assert result.p == pytest.approx(1 - NormalDist(0.5, 1 / 40).cdf(result.accuracy), abs=1e-9)
    again = run_two_sample_test(device(x), device(y), Random(0), steps=60)
    assert again == same


def test_two_sample_test_measures_on_held_out_rows():
    """Overfitting to 40 points in 20 dimensions does not change the accuracy on held-out points.

    It is 1/2 within three standard deviations for 40 points.
    """
    x, y = normal(40, 20), normal(40, 20, seed=1)
    found = run_two_sample_test(device(x), device(y), Random(0), hidden=64, steps=300)
    assert abs(found.accuracy - 0.5) < 3 / math.sqrt(4 * 40)


@pytest.mark.numpy_only("500 runs that would show the same")
def test_two_sample_test_has_its_nominal_level():
    """Of 500 pairs of samples of the same distribution, a twentieth has p <= 0.05.

    Their number is binomial, 25 +- 4.9, and lies within three standard deviations. The accuracy on
    n = 100 held-out rows has the mean 1/2 and the variance 1 / 4n, within four standard errors.
    """
    results = theory.two_sample_results(500)
    rejected = sum(result.p <= 0.05 for result in results)
    assert abs(rejected - 25) <= 3 * 4.9
    accuracies = np.array([result.accuracy for result in results])
    assert abs(accuracies.mean() - 0.5) < 4 * 0.05 / math.sqrt(500)
    assert abs(accuracies.var() / (0.25 / 100) - 1) < 4 * math.sqrt(2 / 500)


def test_two_sample_test_needs_four_rows():
    assert "at least 4" in error_of(run_two_sample_test, normal(3, 2), normal(9, 2), Random(0))


# The classifier and its score

@pytest.mark.numpy_only("arithmetic of the host")
def test_classifier_score_in_known_cases():
    """The score is 1 if all samples have the same class probabilities.

    If the class of each sample is certain, it is exp of the entropy of the classes' frequencies,
    which is the number of classes if all are equally frequent.
    """
    assert classifier_score(np.full((9, 10), 0.1)) == pytest.approx(1)
    assert classifier_score(np.tile(np.eye(10), (3, 1))) == pytest.approx(10)
    p = np.eye(3)[[0, 0, 0, 1]]
    assert classifier_score(p) == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert list(class_shares(p)) == [0.75, 0.25, 0]


def test_classify_gives_features_and_probabilities():
    """The features times the last layer are the logits.

    Pieces give the same as a whole, and bytes the same as floats.
    """
    net = classifier.make_classifier().eval()
    images = np.random.default_rng(0).integers(256, size=(7, 1, 28, 28), dtype=np.uint8)
    seen = classifier.classify(net, images)
    assert seen.features.shape == (7, 128) and (seen.features >= 0).all()
    np.testing.assert_allclose(seen.p.sum(1), 1, rtol=1e-5)
    w, b = net.layers[-1].weight.numpy(), net.layers[-1].bias.numpy()
    logits = seen.features @ w.T + b
    np.testing.assert_allclose(np.log(seen.p), logits - np.log(np.exp(logits).sum(1))[:, None],
                               atol=1e-4)           # float32, sums of 128
    for other in (classifier.classify(net, images, piece=3),
                  classifier.classify(net, device(images / 255.0))):
        np.testing.assert_allclose(other.features, seen.features, atol=1e-4)
    with pytest.raises(UserError, match="28x28"):
        classifier.classify(net, images[:, :, :27])


def test_the_weights_that_come_with_tinygan_classify_digits():
    """They classify 99 % of bundled images correctly, most of which are training images."""
    from tinygan.data import mnist
    valid = mnist.load_sample().valid
    net = classifier.load_classifier()
    right = (classifier.classify(net, valid.images).p.argmax(1) == valid.labels).mean()
    assert right >= 0.99
    assert classifier.WEIGHTS.stat().st_size < 1_000_000


@pytest.mark.host
def test_any_network_classifies_in_evaluation_mode():
    """The result is the softmax of the whole network for each image alone, and nothing changes."""
    rng.seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dense(784, 20), nn.BatchNorm(20), nn.ReLU(),
                        nn.Dense(20, 10), nn.ReLU())
    images = np.float32(normal(7, 1, 28, 28) ** 2 % 1)
    before = {name: a.copy() for name, a in net.state_dict().items()}
    seen = classifier.classify(net, images)
    assert net.training and net[2].training
    assert all((a == before[name]).all() for name, a in net.state_dict().items())
    with nn.eval_mode(net):
        logits = net(Tensor(images)).numpy()
        inputs = net[:-1](Tensor(images)).numpy()
    e = np.exp(logits)
    np.testing.assert_allclose(seen.p, e / e.sum(1, keepdims=True), rtol=1e-5)      # float32
    np.testing.assert_allclose(seen.features, inputs, rtol=1e-5, atol=1e-6)
    pieces = classifier.classify(net, images, piece=2)
    np.testing.assert_allclose(pieces.features, seen.features, rtol=1e-5, atol=1e-6)


@pytest.mark.host
@pytest.mark.filterwarnings("ignore::RuntimeWarning")       # of numpy, for infinity times 0
def test_a_classifier_that_has_diverged_names_no_class():
    """Of scores that are NaN, argmax would make class 0."""
    images = np.float32(normal(6, 1, 28, 28) ** 2 % 1)
    net = nn.Sequential(nn.Flatten(), nn.Dense(784, 10))
    for number in (math.nan, 1e38):             # with 1e38, sums are infinite
        net[1].weight.data[...] = number
        for call in (lambda: classifier.classify(net, images), lambda: predict(net, images)):
            with pytest.raises(FloatingPointError, match="outputs are NaN or infinite"):
                call()
    with pytest.raises(FloatingPointError, match="outputs are NaN or infinite"):
        run_two_sample_test(normal(40, 2), normal(40, 2) + 5, Random(0), lr=1e20)


@pytest.mark.host
@pytest.mark.parametrize("piece", [0, -1, 2.5, None])
def test_a_piece_has_at_least_one_row(piece):
    """With a piece of -1 no image would be looked at."""
    images, net = np.float32(normal(5, 1, 28, 28) ** 2 % 1), classifier.load_classifier()
    for call in (lambda: find_nearest(images, images, piece=piece),
                 lambda: log_likelihood(images, images, [1.0], piece=piece),
                 lambda: classifier.classify(net, images, piece=piece),
                 lambda: predict(net, images, piece=piece)):
        with pytest.raises(ValueError, match=f"at least 1, got {piece}"):
            call()


@pytest.mark.host
@pytest.mark.parametrize("call", [
    lambda a: find_nearest(a, a), lambda a: log_likelihood(a, a, [1.0]), grey_share,
    lambda a: mean_difference(a, a), lambda a: overlap(a, a), lambda a: count_pairs(a, a),
    lambda a: count_modes(a, 9), class_shares, lambda a: classifier.classify(None, a),
    lambda a: predict(None, a), lambda a: mean_iou(a, a, 9), as_floats])
def test_lists_are_refused(call):
    with pytest.raises(TypeError, match=r"not a list: give numpy.asarray\(x\)"):
        call([[0, 1], [1, 0]])


@pytest.mark.numpy_only("arithmetic of the host")
def test_centroids_are_the_means_of_their_clusters():
    """The result is a fixed point of k-means: each centre is the mean of the points nearest it."""
    points = np.concatenate([0.1 * normal(40, 2, 1, seed=i) + 10 * i for i in range(4)])
    found = find_centroids(points, 12, Random(0), iterations=50)
    nearest_to = ((points[:, None] - found) ** 2).sum((2, 3)).argmin(1)
    for j in set(nearest_to):
        mean = points[nearest_to == j].mean(0)
        np.testing.assert_allclose(found[j], mean, atol=1e-5)       # float32, numbers up to 30
    assert found.shape == (12, 2, 1)


@pytest.mark.numpy_only("arithmetic of the host")
def test_one_cluster_has_the_mean_and_as_many_as_images_have_the_images():
    points = np.float32(normal(6, 3))
    (mean,) = find_centroids(points, 1, Random(0))
    np.testing.assert_allclose(mean, points.mean(0), atol=1e-6)     # float32
    found = find_centroids(points, 6, Random(0))
    assert {row.tobytes() for row in found} == {row.tobytes() for row in points}


# The benchmark

def test_the_clock_of_a_cpu_has_milliseconds():
    stop = benchmark.start_clock("numpy", "tinygan")
    time.sleep(0.05)
    assert 50 <= stop() < 5000          # another process may run in between


def test_the_clock_of_a_gpu_is_that_of_its_events(monkeypatch):
    """The time is read when the second event has been reached."""
    calls = []

    class Event:
        def __init__(self, block):
            assert block

        def record(self):
            calls.append(("record", self))

        def synchronize(self):
            calls.append(("wait", self))

    def elapsed(first, last):
        assert calls == [("record", first), ("work", None), ("record", last), ("wait", last)]
        return 2.5
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(
        cuda=types.SimpleNamespace(Event=Event, get_elapsed_time=elapsed)))
    stop = benchmark.start_clock("cupy", "tinygan")
    calls.append(("work", None))
    assert stop() == 2.5


@pytest.mark.host
def test_the_rows_of_the_benchmark():
    """Ratios are medians over the rounds of the times of a round; "-" is what is not known."""
    results = {"tinygan": benchmark.Times([2.0, 4.0, 1.0], [3.0, 3.0, 6.0], 0.25, 97.4, 209),
               "jax": benchmark.Times([4.0, 4.0, 4.0], [3.0, 6.0, 6.0], 2.0, math.nan, math.nan)}
    ours, theirs = benchmark.make_rows("gan", results)
    assert ours.split() == ["gan", "tinygan", "2.00", "(1.00-4.00)", "3.00", "0.2", "97", "209",
                            "launches"]
    assert theirs.split() == ["JAX", "4.00", "(4.00-4.00)", "6.00", "2.00", "1.00", "2.0", "-"]
    one = benchmark.make_rows("gan", {
        "tinygan": benchmark.Times([2.0], [3.0], 0.25, 97.4, math.nan)})
    assert one[0].split()[2:4] == ["2.00", "(2.00-2.00)"]


# What cannot be measured

METRICS = {"frechet": (2, frechet_distance), "mmd": (2, mmd2),
           "kid": (2, lambda x, y: kid(x, y, Random(0), 2, 5)),
           "precision": (4, compute_precision_recall),
           "two samples": (4, lambda x, y: run_two_sample_test(x, y, Random(0), steps=1))}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("first", [True, False])
def test_features_that_cannot_be_compared_are_refused(name, first):
    """One NaN would make all sets alike to the two-sample test; too few rows have no variance."""
    least, measure = METRICS[name]
    good = backend.xp.asarray(normal(least, 3))
    measure(good, good)
    bad = good.copy()
    bad[1, 2] = math.nan
    for wrong, words in ((bad, "NaN"), (good[1:], f"at least {least}"), (good[0], "(3,)")):
        assert words in error_of(measure, *((wrong, good) if first else (good, wrong)))


@pytest.mark.parametrize("call, words", [
    (lambda: compute_precision_recall(normal(5, 2), normal(5, 2), k=0), "at least 1, got 0"),
    (lambda: compute_precision_recall(normal(5, 2), normal(5, 2), k=2.5), "the k of the k-th"),
    (lambda: kid(normal(9, 2), normal(9, 2), Random(0), size=5.0), "100 of 5.0"),
    (lambda: find_centroids(normal(3, 2), 4, Random(0)), "from 1 to 3"),
    (lambda: measure_stacked(None, np.zeros((2, 4, 28, 28))), "(2, 4, 28, 28)"),
    (lambda: classifier.classify(None, np.zeros((0, 1, 28, 28))), "no images"),
    (lambda: classifier.classify(None, np.full((2, 1, 28, 28), 200.0)), "mean of these is 200"),
    (lambda: classifier.classify(None, np.full((2, 1, 28, 28), -1.0)), "scale the images"),
    (lambda: classifier.classify(None, np.full((2, 1, 28, 28), np.nan)), "G has diverged"),
    (lambda: count_pairs(np.array([0.5]), np.array([0])), "codes (1,) of float64"),
    (lambda: count_pairs(np.zeros((3, 3), int), np.arange(3)), "codes (3, 3)"),
    (lambda: nearest_accuracy(normal(4, 2), np.arange(4), normal(4, 2), np.zeros((4, 1), int)),
     "(4, 1)"),
    (lambda: nearest_accuracy(normal(4, 2), np.arange(1), normal(4, 2), np.arange(4)), "(1,)"),
    (lambda: measure_coverage(np.zeros((5, 1)), mixtures.grid()), "(5, 1)"),
    (lambda: measure_coverage(np.zeros((0, 2)), mixtures.grid()), "at least one sample"),
    (lambda: count_modes(np.array([0, 5]), 2), "from 0 to 1, got numbers from 0 to 5"),
    (lambda: count_modes(np.array([0, -1]), 2), "from 0 to 1, got numbers from -1 to 0"),
    (lambda: overlap(np.full((2, 1, 4, 4), math.nan), np.zeros((2, 1, 4, 4))), "NaN"),
    (lambda: mean_difference(np.zeros((2, 1, 4, 4)), np.full((2, 1, 4, 4), math.inf)), "NaN"),
    (lambda: grey_share(np.full((2, 1, 4, 4), math.nan)), "NaN"),
    (lambda: grey_share(np.zeros((0, 1, 4, 4))), "there are none"),
    (lambda: train_classifier(None, np.zeros((5, 1, 4, 4)), np.zeros(3, int), 1), "5 images and"),
    (lambda: train_classifier(None, np.zeros((0, 1, 4, 4)), np.zeros(0, int), 1), "0 images and"),
    (lambda: predict(None, np.zeros((0, 1, 4, 4))), "no images"),
    (lambda: classifier_score(np.full((4, 3), math.nan)), "add up to 1"),
    (lambda: classifier_score(np.eye(3) * 5), "add up to 1"),
    (lambda: class_shares(np.full((4, 3), math.nan)), "add up to 1"),
    (lambda: class_shares(np.full(3, 1 / 3)), "(3,) are no probabilities"),
    (lambda: class_shares(np.zeros((0, 3))), "(0, 3) are no probabilities"),
    (lambda: class_shares(np.array([[1.5, -0.5]])), "are no probabilities"),
    (lambda: mean_iou(np.array([0, 1]), np.array([0.9, 1.9]), 2), "float64"),
    (lambda: mean_iou(np.array([0, 1]), np.array([0, 1]), 2.0), "at least 1, got 2.0"),
    (lambda: measure_coverage(np.zeros((5, 2)) > 0, mixtures.grid()), "got bool"),
    (lambda: count_modes(np.array([0.0, 1.0]), 2), "float64 of shape (2,)"),
    (lambda: count_modes(np.array([[0, 1]]), 2), "of shape (1, 2)"),
    (lambda: measure_coverage(np.zeros((5, 2)) + 1j, mixtures.grid()), "complex128"),
    (lambda: log_likelihood(normal(3, 2), normal(3, 2), np.array(0.1)), "at least one width"),
    (lambda: find_centroids(normal(3, 2), 2.0, Random(0)), "2.0 clusters"),
    (lambda: find_centroids(normal(3, 2), 2, Random(0), iterations=-1), "-1 iterations"),
    (lambda: run_two_sample_test(normal(9, 2), normal(9, 2), Random(0), batch=0), "of 0 rows"),
    (lambda: run_two_sample_test(normal(9, 2), normal(9, 2), Random(0), hidden=-1), "-1 ReLUs"),
    (lambda: run_two_sample_test(normal(9, 2), normal(9, 2), Random(0), steps=2.5), "2.5 steps"),
    (lambda: predict(None, np.full((2, 1, 28, 28), math.nan)), "the data has NaN"),
    (lambda: predict(None, np.full((2, 1, 28, 28), 200.0)), "mean of these is 200"),
    (lambda: predict(None, np.ones((2, 1, 28, 28), np.uint8)), "the largest of these is 1"),
    (lambda: train_classifier(None, np.full((2, 1, 4, 4), math.nan), np.arange(2), 1), "has NaN"),
    (lambda: train_classifier(None, np.ones((2, 1, 4, 4), "uint8"), np.arange(2), 1), "is 1"),
    (lambda: kid(normal(9, 2), normal(9, 2), Random(0), size=-1), "100 of -1"),
    (lambda: kid(normal(9, 2), normal(9, 2), Random(0), subsets=0), "0 of 1000"),
    (lambda: frechet_distance(normal(9, 2) + 1j, normal(9, 2)), "complex128")])
def test_arguments_that_are_refused(call, words):
    assert words in error_of(call)


def test_images_that_are_not_finite_have_no_neighbours():
    """Of a row with one NaN, argmin returns the place of the NaN."""
    good = normal(4, 2)
    for number in (math.nan, math.inf):
        bad = good.copy()
        bad[3] = number
        for call in (lambda: find_nearest(good, bad), lambda: find_nearest(bad, good),
                     lambda: find_centroids(bad, 2, Random(0)),
                     lambda: log_likelihood(good, bad, [0.1])):
            assert "NaN or infinite" in error_of(call)


def test_classes_may_be_of_any_type_of_whole_numbers():
    codes, labels = np.array([0, 255], "uint8"), np.array([0, 1], "uint64")
    assert count_pairs(codes, labels).sum() == 2
    assert mean_iou(labels, labels.astype("int8"), 2) == 1


def test_centroids_of_bytes_are_scaled():
    """They are compared with images in [0, 1]."""
    images = np.random.default_rng(0).integers(256, size=(20, 1, 2, 2)).astype(np.uint8)
    np.testing.assert_allclose(find_centroids(images, 3, Random(0)),
                               find_centroids(images / np.float32(255), 3, Random(0)), rtol=1e-6)


# Precision of the metrics

@pytest.mark.numpy_only("the metrics compute on the host")
def test_features_far_from_zero():
    """Metrics of differences do not change with the place of the origin.

    At 10^6, float64 has ten digits for these features. The classifier's accuracy may change by a
    few of 1,000 rows.
    """
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(1000, 4)), generator.normal(size=(1000, 4)) + 1
    near, far = ([run_two_sample_test(x + c, y + c, Random(0)).accuracy,
                  *compute_precision_recall(x + c, y + c), frechet_distance(x + c, y + c)]
                 for c in (0.0, 1e6))
    assert near[0] > 0.8 and far == pytest.approx(near, abs=0.01)


@pytest.mark.numpy_only("the metrics compute on the host")
def test_copies_lie_within_a_set_of_duplicates():
    """The third neighbour of each member is a copy: the radius is 0, and a copy's distance too."""
    generator = np.random.default_rng(4)
    for _ in range(300):        # rounding leaves a distance in one of a hundred
        members = generator.random((7, 128))
        copies = members[generator.integers(7, size=9)]
        assert compute_precision_recall(np.repeat(members, 6, 0), copies)[0] == 1


@pytest.mark.numpy_only("the metrics compute on the host")
@pytest.mark.parametrize("metric", [
    frechet_distance, mmd2, compute_precision_recall, lambda x, y: kid(x, y, Random(0)),
    lambda x, y: run_two_sample_test(x, y, Random(0))])
def test_other_numbers_of_features_are_refused(metric):
    with pytest.raises(ValueError, match=r"feature by feature.*\(9, 3\), \(9, 2\)"):
        metric(np.random.default_rng(0).random((9, 3)), np.random.default_rng(1).random((9, 2)))


def test_images_of_other_numbers_are_not_compared():
    """Whole numbers from 0 to 255 in other dtypes than bytes were not scaled."""
    x = np.random.default_rng(0).integers(256, size=(4, 1, 3, 3))
    for dtype in ("int64", "uint16", "bool"):
        with pytest.raises(UserError, match="astype"):
            find_nearest(x.astype("uint8"), x.astype(dtype))


def test_two_sample_test_takes_equally_many_rows_of_both():
    """Of 30 and 90 rows it takes 30 each and holds out 15 each, which give the interval."""
    x, y = normal(30, 2), normal(90, 2, seed=1)
    for sets in ((x, y), (y, x)):
        found = run_two_sample_test(*map(device, sets), Random(0), steps=5)
        spread = 1.96 * math.sqrt(found.accuracy * (1 - found.accuracy) / 30)
        assert found.high - found.accuracy == pytest.approx(spread)


def test_distances_of_float64_points_are_computed_in_float64():
    x, y = (backend.xp.asarray(np.array([[a]])) for a in (1.0, 1.0 + 1e-7))
    _, distance = find_nearest(x, y)
    assert distance == pytest.approx(1e-7, rel=1e-6)


@pytest.mark.host
def test_the_classifiers_hidden_layers_are_initialised_for_relus():
    """By N(0, 2 / fan_in), as measured within five standard errors."""
    for layer in classifier.make_classifier().layers[:-1]:
        if hasattr(layer, "weight"):
            w = layer.weight.numpy()
            assert w.std() == pytest.approx(math.sqrt(2 * len(w) / w.size),
                                            rel=5 / math.sqrt(2 * w.size))
