"""Penalties on D's slope, which are added to D's loss.

A penalty is a function of D's verdict and of what D was shown:

    penalty(score, real, fake, a_real, a_fake, drawn)

    score            the function from what D is shown to its scores
    real, fake       what D was shown of the data and of G's work: Tensors, or tuples of Tensors and
                     labels; constants both
    a_real, a_fake   their scores
    drawn            what draw() gave for this step

Any game takes several: Game(G, D, penalties=[R1(gamma=10.0)]). Each is one score's, that of a
sample, or of a pack of samples that follow one another, so that it must not depend on others: batch
normalisation in D is refused (Gulrajani et al. 2017, section 4). A penalty that draws random
numbers says so by `draws`.
"""

from dataclasses import dataclass

from ..nested import leaves, map_nested
from ..ops import concat, norm
from ..tensor import Tensor, broadcast_to, grad


@dataclass(frozen=True)
class Penalty:
    """The base of all penalties."""

    draws = False       # whether it needs random numbers

    def draw(self, m, rng):
        """Return the random numbers that a step with m samples needs."""

    def __call__(self, score, real, fake, a_real, a_fake, drawn):
        raise NotImplementedError


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """lam E (|dD/dx_hat|_2 - 1)^2, x_hat = eps x + (1 - eps) G(z) (Gulrajani et al. 2017, eq. 3),
    eps ~ U(0, 1), one for each sample. Raises ValueError for a negative lam."""

    lam: float = 10.0
    draws = True

    def __post_init__(self):
        if not self.lam >= 0:
            raise ValueError(f"the penalty's weight lam is at least 0, got {self.lam}")

    def draw(self, m, rng):
        """Return eps, (m,)."""
        return Tensor(rng.uniform(0, 1, (m,)))

    def __call__(self, score, real, fake, a_real, a_fake, eps):
        return self.lam * gradient_penalty(score, real, fake, eps[:len(a_real)])


@dataclass(frozen=True)
class R1(Penalty):
    """gamma/2 E |dD/dx|^2 on the data (Mescheder et al. 2018, eq. 9). Raises ValueError for a
    negative gamma."""

    gamma: float = 10.0

    def __post_init__(self):
        if not self.gamma >= 0:
            raise ValueError(f"the penalty's weight gamma is at least 0, got {self.gamma}")

    def __call__(self, score, real, fake, a_real, a_fake, drawn):
        return self.gamma / 2 * slope_squared(real, a_real)


def gradient_penalty(critic, x, x_fake, eps, slope=1.0):
    """Return 1/m sum (|dD/dx_hat|_2 - slope)^2 at x_hat = eps x + (1 - eps) x_fake (Gulrajani et
    al. 2017, Algorithm 1, lines 6 and 7), to be differentiated: double backprop.

    critic      maps samples to scores, each of its own sample alone
    x, x_fake   (m, ...), real and generated samples, constants both; or tuples of such and of
                labels, of which x_hat has those of x
    eps         (m,), where between them each x_hat lies; or (m / k,), one for each score of a
                critic that sees packs of k samples

    |.|_2 is over all of a sample's (or a pack's) dimensions; where the gradient is 0 so is the
    derivative of its norm, and the penalty stays finite. Raises ValueError for an eps of another
    shape.
    """
    x_hat = map_nested(lambda real, fake: _between(real, fake, eps), x, x_fake)
    slopes = grad(critic(x_hat).sum(), tensors_in(x_hat), create_graph=True)
    if len(slopes) > 1 or len(slopes[0]) > len(eps):
        slopes = [concat([g.reshape(len(eps), -1) for g in slopes], 1)]
    (g,) = slopes
    return ((norm(g, tuple(range(1, g.ndim))) - slope) ** 2).mean()


def slope_squared(x, y):
    """Return 1/m sum |dy/dx|^2 for the m scores y of samples x, to be differentiated."""
    slopes = grad(y.sum(), tensors_in(x), create_graph=True)
    return sum((g * g).sum() for g in slopes) * (1 / len(y))


def tensors_in(shown):
    """List the Tensors in what D is shown, a Tensor or a nested tuple of Tensors and labels."""
    return [t for t in leaves(shown) if type(t) is Tensor]


def _between(x, x_fake, eps):
    if type(x) is not Tensor:
        return x
    if eps.ndim != 1 or not len(eps) or len(x) % len(eps):
        raise ValueError(f"eps has one number for each of {len(x)} samples, got shape {eps.shape}")
    if len(eps) < len(x):               # a pack's samples follow one another
        eps = broadcast_to(eps.reshape(-1, 1), (len(eps), len(x) // len(eps)))
    eps = eps.reshape(-1, *[1] * (x.ndim - 1))
    return eps * x + (1 - eps) * x_fake
