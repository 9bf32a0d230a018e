"""Penalties on the gradient of D with respect to its input, added to D's loss.

A penalty pulls the norm of the gradient towards a number: towards 1 between data and samples
(WGAN-GP), or towards 0 at the data (R1) or at the samples (R2). It is a function

    penalty(score, real, fake, a_real, a_fake)

    score            the function from D's input to its scores
    real, fake       D's inputs for the data and for G's samples: Tensors, or nested tuples of
                     Tensors and labels; real is constant, fake may depend on G's parameters
    a_real, a_fake   D's scores of them

It returns a Tensor of one number. Gradients in it are computed by grad(..., create_graph=True):
otherwise they are constants, and the penalty has no effect. Random numbers in it are drawn from
nn.current_random(), the random source of the training step. A network that it uses is an attribute
of the game too, or else it is neither trained nor saved.

A game takes a list of penalties: Game(G, D, penalties=[penalties.R1(10.0)]). A penalty treats each
score as a function of one sample, or of one pack of consecutive samples if D scores several samples
together, as in PacGAN. So a game with a penalty raises an error for batch normalisation in D
(Gulrajani et al. 2017, section 4). Layers that compare the samples of a minibatch are allowed, as
in Karras et al. 2018, although a score then depends on the other samples a little.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backend import UserError
from ..nested import is_sample, map_nested, tensors_in
from ..nn import current_random
from ..numbers import is_whole
from ..ops import concat, norm
from ..tensor import Tensor, broadcast_to, grad
from .checks import check_weights


@dataclass(frozen=True)
class Penalty:
    """The base class of all penalties."""

    def is_due(self, i: int) -> bool:
        """Return whether the penalty is a part of D's loss in iteration i; by default True."""
        return True

    def __call__(self, score, real, fake, a_real, a_fake):
        raise NotImplementedError(f"{type(self).__name__} must define __call__(score, real, fake, "
                                  "a_real, a_fake)")


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """The gradient penalty of WGAN-GP (Gulrajani et al. 2017, eq. 3).

        lam E (|dD/dx_hat|_2 - target)^2,  x_hat = eps x + (1 - eps) G(z),  eps ~ U(0, 1)

    There is an eps for each score, that is, for each sample or pack of samples. The paper's target
    is 1. With `per_pixel`, the norm is that of the gradient at a pixel, over its colours, and E is
    also the mean over the pixels, as in SinGAN's published code. Raises UserError for a negative
    lam or target.
    """

    lam: float = 10.0
    target: float = 1.0
    per_pixel: bool = False

    def __post_init__(self):
        check_weights(lam=self.lam, target=self.target)

    def __call__(self, score, real, fake, a_real, a_fake):
        eps = current_random().uniform(0, 1, (len(a_real),)).astype(a_real.dtype, copy=False)
        return self.lam * gradient_penalty(score, real, fake, Tensor(eps), self.target,
                                           self.per_pixel)


@dataclass(frozen=True)
class R1(Penalty):
    """The penalty gamma/2 E |dD/dx|^2 on the data (Mescheder et al. 2018, eq. 9).

    Raises UserError for a negative gamma.
    """

    gamma: float = 10.0

    def __post_init__(self):
        check_weights(gamma=self.gamma)

    def __call__(self, score, real, fake, a_real, a_fake):
        return self.gamma / 2 * squared_gradient_norm(real, a_real)


@dataclass(frozen=True)
class R2(R1):
    """The penalty gamma/2 E |dD/dx|^2 on G's samples (Mescheder et al. 2018, eq. 10)."""

    def __call__(self, score, real, fake, a_real, a_fake):
        return self.gamma / 2 * squared_gradient_norm(fake, a_fake)


@dataclass(frozen=True)
class Lazy(Penalty):
    """A penalty in every k-th iteration, with k times its weight (Karras et al. 2020, section 3.1).

    StyleGAN2's lazy regularisation: the penalty's mean over the iterations is the same, and all but
    1/k of its time is saved. (The paper also adapts Adam's settings to k.) If D has several steps
    in an iteration, all of them have the penalty or none. A training loop of your own calls the
    game's begin_iteration(i) first. Raises UserError for anything but a penalty that is not lazy
    itself, and a whole number k of at least 1.
    """

    penalty: Penalty
    k: int = 16

    def __post_init__(self):
        if (not isinstance(self.penalty, Penalty) or isinstance(self.penalty, Lazy)
                or not is_whole(self.k, 1)):
            raise UserError("a lazy penalty takes a penalty, such as penalties.R1(10.0), and a "
                            f"whole number k of at least 1, got {self.penalty!r:.60} and "
                            f"{self.k!r}")

    def is_due(self, i: int) -> bool:
        """Return whether k divides i."""
        return i % self.k == 0 and self.penalty.is_due(i)

    def __call__(self, score, real, fake, a_real, a_fake):
        return self.k * self.penalty(score, real, fake, a_real, a_fake)


def gradient_penalty(critic: Callable, x: Any, x_fake: Any, eps: Tensor,
                     target: float = 1.0, per_pixel: bool = False) -> Tensor:
    """Return 1/m sum (|dD/dx_hat|_2 - target)^2 at x_hat = eps x + (1 - eps) x_fake.

    This is Gulrajani et al. 2017, Algorithm 1, lines 6 and 7. The result can be differentiated with
    respect to the critic's parameters, by double backprop.

    critic      the function D from samples to scores; each score depends on one sample
    x, x_fake   real and generated samples (m, ...), or nested tuples of Tensors and labels; x_hat
                gets the labels of x
    eps         the interpolation factors, (m,), or (m / k,) if the critic scores packs of k samples

    The norm |.|_2 is over all dimensions of a sample (or pack); with `per_pixel` it is over the
    channels of an image, and the mean is also over its pixels. If D returns a map of scores for
    each sample, D is their sum, as in StarGAN's published code. Where the gradient is 0, the
    derivative of its norm is defined as 0, so the penalty's gradient is finite. Raises ValueError
    for an eps of another shape, and if x and x_fake have different shapes.
    """
    x_hat = map_nested(lambda real, fake: _interpolate(real, fake, eps), x, x_fake)
    gradients = grad(critic(x_hat).sum(), tensors_in(x_hat), create_graph=True)
    if per_pixel:
        return sum(((norm(g, 1) - target) ** 2).mean() for g in gradients)
    rows = concat([g.reshape(len(eps), -1) for g in gradients], 1)      # one for each score
    return ((norm(rows, 1) - target) ** 2).mean()


def squared_gradient_norm(x: Any, y: Tensor) -> Tensor:
    """Return 1/m sum_i |dy_i/dx_i|^2 for the scores y of m samples x, as a differentiable Tensor.

    If D returns a map of scores for each sample, y_i is their mean, as in the losses. Several maps
    count as one: of several discriminators, y_i is the mean of all their scores.
    """
    gradients = grad(y.sum(), tensors_in(x), create_graph=True)
    # y_i is the mean of s = y.size / m scores, so the factor is 1 / (m s^2) = m / y.size^2
    return sum((g * g).sum() for g in gradients) * (len(y) / y.size ** 2)


def _interpolate(x, x_fake, eps):
    """Return eps x + (1 - eps) x_fake, or x if it is an array of labels."""
    if not is_sample(x):
        return x
    if eps.ndim != 1 or not len(eps) or len(x) % len(eps):
        raise ValueError(f"a critic gives a score, and x_hat has an eps, for each of the {len(x)} "
                         f"samples or of their packs, got an eps of shape {eps.shape}")
    if len(eps) < len(x):               # the samples of a pack are consecutive
        eps = broadcast_to(eps.reshape(-1, 1), (len(eps), len(x) // len(eps)))
    if x.shape != x_fake.shape:
        raise ValueError("x_hat lies between x and G(z), so they need the same shape, got "
                         f"{x.shape} and {x_fake.shape}")
    eps = eps.reshape(-1, *[1] * (x.ndim - 1))
    return eps * x + (1 - eps) * x_fake
