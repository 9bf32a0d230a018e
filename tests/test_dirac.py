"""The Dirac-GAN (Mescheder et al. 2018): the games of examples/dirac.py against theory."""

import math
import pathlib
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))

import dirac

pytestmark = pytest.mark.numpy_only("a matter of arithmetic: 500 steps of two numbers")

# |(theta, psi)| after 500 steps with learning rate 0.2 from (1, -1), simultaneous and alternating:
# computed in float64 from the derivatives of the losses by psi and theta, written out by hand
NORMS = {
    "GAN, saturating": (3.10, 1.41), "GAN, non-saturating": (0.640, 0.271),
    "WGAN, clip 1": (1.00, 0.985), "WGAN-GP, lam 0.35": (1.80, 1.28),
    "R1, gamma 0.3": (2.64e-6, 2.38e-7), "R1, gamma 1": (9.5e-22, 8.5e-17),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    """The distance after 500 steps agrees to half a unit of the last known digit."""
    for order, expected in zip(dirac.ORDERS, NORMS[name]):
        norm = math.hypot(*dirac.play_trajectory(dirac.GAMES[name], order)[-1])
        assert norm == pytest.approx(expected, rel=0.006), order


@pytest.mark.parametrize("name", dirac.GAMES)
@pytest.mark.parametrize("order", dirac.ORDERS)
def test_against_the_derivatives_by_hand(name, order):
    """100 steps of the library in float32 agree with steps by hand in float64.

    Each step rounds numbers of size 1 by 1e-7, and none of these games multiplies an error by more
    than 1.005 per step. The hinge's kinks and the clipping are crossed at the same steps.
    """
    points = dirac.play_trajectory(dirac.GAMES[name], order, steps=100)
    theta, psi = 1.0, -1.0
    for expected in points:
        np.testing.assert_allclose((theta, psi), expected, atol=1e-4)
        new_psi = psi - 0.2 * D_SLOPE[name](theta, psi)
        if name == "WGAN, clip 1":
            new_psi = min(max(new_psi, -1.0), 1.0)
        theta -= 0.2 * G_SLOPE[name](theta, new_psi if order == "alternating" else psi)
        psi = new_psi


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def r1(gamma):
    """Return the derivative of D's loss by psi for R1 with the saturating loss."""
    return lambda theta, psi: sigmoid(psi * theta) * theta + gamma * psi


# The derivatives of D's loss by psi and of G's loss by theta, with D(x) = 0, D(G(z)) = psi theta
D_SLOPE = {
    "GAN, saturating": lambda theta, psi: sigmoid(psi * theta) * theta,
    "GAN, non-saturating": lambda theta, psi: sigmoid(psi * theta) * theta,
    "LSGAN": lambda theta, psi: 2 * psi * theta ** 2,
    "hinge": lambda theta, psi: theta if psi * theta > -1 else 0.0,
    "RSGAN": lambda theta, psi: sigmoid(psi * theta) * theta,
    "RaGAN": lambda theta, psi: 2 * sigmoid(psi * theta) * theta,
    "WGAN, clip 1": lambda theta, psi: theta,
    "WGAN-GP, lam 0.35": lambda theta, psi: theta + 0.7 * (abs(psi) - 1) * math.copysign(1, psi),
    "R1, gamma 0.3": r1(0.3), "R1, gamma 1": r1(1.0),
}
G_SLOPE = {
    **dict.fromkeys(("GAN, saturating", "R1, gamma 0.3", "R1, gamma 1"),
                    lambda theta, psi: -sigmoid(psi * theta) * psi),
    **dict.fromkeys(("GAN, non-saturating", "RSGAN"),
                    lambda theta, psi: -sigmoid(-psi * theta) * psi),
    "RaGAN": lambda theta, psi: -2 * sigmoid(-psi * theta) * psi,
    "LSGAN": lambda theta, psi: 2 * (psi * theta - 1) * psi,
    **dict.fromkeys(("hinge", "WGAN, clip 1", "WGAN-GP, lam 0.35"), lambda theta, psi: -psi),
}


def test_the_saturating_gan_spirals_outwards_at_every_simultaneous_step():
    norms = np.hypot(*dirac.play_trajectory(dirac.GAMES["GAN, saturating"], "simultaneous").T)
    assert (np.diff(norms) > 0).all()


@pytest.mark.parametrize("name", ["R1, gamma 0.3", "R1, gamma 1"])
@pytest.mark.parametrize("order", dirac.ORDERS)
def test_r1_converges_at_the_rate_of_the_steps_jacobian(name, order):
    """The logarithm of the rate is within 5 % of that of the Jacobian's spectral radius.

    For gamma = 1 the two eigenvalues are equal, and the distance at step t is t times a power of
    the radius: at t = 375 it shrinks more slowly by 1 / 375.
    """
    points = dirac.play_trajectory(dirac.GAMES[name], order)
    theory = math.log(dirac.spectral_radius(0.5, dirac.GAMMA[name], order))
    assert math.log(dirac.measure_rate(points)) == pytest.approx(theory, rel=0.05)


def test_the_rate_does_not_depend_on_numbers_that_float32_does_not_have():
    """A long trajectory ends below 1e-38, where float32 rounds to few digits, and stays there.

    The factor tends to 0.9 for gamma = 1, like 0.9 (1 + 1 / t). At 1e-30, t is about 700.
    """
    points = dirac.play_trajectory(dirac.GAMES["R1, gamma 1"], "simultaneous", 2000)
    assert np.hypot(*points[-1]) < 1e-38
    assert dirac.measure_rate(points) == pytest.approx(0.9, rel=0.003)
    assert dirac.measure_rate(np.array([(1, 0), (0, 0)])) == 0


@pytest.mark.parametrize("order", dirac.ORDERS)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 1.5])
def test_the_jacobian_is_that_of_the_step(order, gamma):
    """The spectral radius agrees with that of differences of a step around the equilibrium."""
    make = lambda G, D: dirac.R1(G, D, loss=dirac.losses.Saturating(), gamma=gamma)
    h = 1e-3                # the next terms of a step are of third order: 1e-9, compared with 1e-3
    columns = [dirac.play_trajectory(make, order, 1, start=start)[1] / h
               for start in ((h, 0.0), (0.0, h))]
    measured = abs(np.linalg.eigvals(np.array(columns).T)).max()
    # float32 gives the columns to 1e-7, and the double eigenvalue (gamma 1) to the root of that
    assert measured == pytest.approx(dirac.spectral_radius(0.5, gamma, order), abs=5e-4)


@pytest.mark.host
def test_the_picture_shows_the_points():
    """A square around the origin is drawn through its corners, and the origin is not drawn."""
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1), (1, 1)])
    draw_plane = dirac.draw_plane(corners, size=40, reach=2.0)
    drawn = (draw_plane != 255).any(2) & (draw_plane != 200).any(2)
    assert drawn[10, 30] and drawn[10, 10] and drawn[30, 10] and drawn[30, 30]
    assert not drawn[20, 20] and drawn.sum() == 4 * 20
    assert tuple(draw_plane[10, 30]) == (0, 60, 200)         # the end is drawn over the start
