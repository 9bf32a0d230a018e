"""Losses: functions of D's scores, one class for each loss.

a_real and a_fake are D's scores of the data and of G's samples: Tensors (m, 1), or (m, k, h, w) for
k maps of scores.

    d(a_real, a_fake)   D's loss
    g(a_real, a_fake)   G's loss; a_real is None unless the loss compares real and fake scores
    g_real(a_real)      a second term of G's loss, for games in which D's scores of the data depend
                        on G's parameters: through D's input, as in BiGAN, or through D's weights,
                        as in UnrolledGAN; not used if the loss compares

A game takes any of them: Game(G, D, loss=losses.Hinge()). (CycleGAN takes no RelativisticAverage;
FeatureMatching and SemiSupervisedGAN use d() alone.) In losses that use probabilities the scores
are logits a, with D(x) = sigmoid(a): log D(x) is log_sigmoid(a), and log(1 - D(x)) is
log_sigmoid(-a). Each is computed in one step, so it does not overflow. In the other losses D(x) is
the score itself.
"""

from dataclasses import dataclass

from ..backend import Array
from ..numbers import is_number
from ..ops import log_sigmoid, relu, sigmoid
from ..tensor import Tensor


@dataclass(frozen=True)
class Loss:
    """The base class of all losses."""

    compares = False        # whether g() needs the scores of the data

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return D's loss, a Tensor of one number."""
        raise NotImplementedError(f"{type(self).__name__} must define d(), as losses.Hinge() does")

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return G's loss, a Tensor of one number."""
        raise NotImplementedError(f"{type(self).__name__} must define g(), as losses.Hinge() does")

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return the term of G's loss for scores of the data that depend on G's parameters."""
        raise NotImplementedError(f"{type(self).__name__} must define g_real(a_real): in this game "
                                  "D's scores of the data depend on G's parameters")

    def summarise(self, a_real: Tensor, a_fake: Tensor) -> dict[str, Array]:
        """Return {name: array of one number}: the values to log, here the mean scores."""
        return {"D(x)": a_real.mean().data, "D(G(z))": a_fake.mean().data}


@dataclass(frozen=True)
class Saturating(Loss):
    """The minimax loss of Goodfellow et al. 2014, Algorithm 1.

    G's gradient vanishes if D rejects all samples with certainty.
    """

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -1/m sum [log D(x) + log(1 - D(G(z)))]; Algorithm 1 ascends its negative."""
        return -(log_sigmoid(a_real).mean() + log_sigmoid(-a_fake).mean())

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return 1/m sum log(1 - D(G(z)))."""
        return log_sigmoid(-a_fake).mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return 1/m sum log D(x)."""
        return log_sigmoid(a_real).mean()

    def summarise(self, a_real: Tensor, a_fake: Tensor) -> dict[str, Array]:
        """Return the mean probabilities D(x) and D(G(z))."""
        return super().summarise(sigmoid(a_real), sigmoid(a_fake))


@dataclass(frozen=True)
class NonSaturating(Saturating):
    """The non-saturating loss: G maximises log D(G(z)) (Goodfellow et al. 2014, section 3).

    D's loss is that of Saturating.
    """

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return -1/m sum log D(G(z))."""
        return -log_sigmoid(a_fake).mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return -1/m sum log(1 - D(x))."""
        return -log_sigmoid(-a_real).mean()


@dataclass(frozen=True)
class Smoothed(NonSaturating):
    """One-sided label smoothing (Salimans et al. 2016, section 3.4).

    D's target for data is `target`, below 1, and that for samples stays 0. If samples had a target
    beta above 0, the optimal D would be (target p_data + beta p_G) / (p_data + p_G). Where p_data
    is near 0, that is nearly beta, and samples there would have little reason to move. Raises
    ValueError for a target outside (0, 1].
    """

    target: float = 0.9

    def __post_init__(self):
        if not is_number(self.target, 0) or self.target == 0 or self.target > 1:
            raise ValueError("the target for data is a number above 0 and at most 1, got "
                             f"{self.target!r}")

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -1/m sum [t log D(x) + (1 - t) log(1 - D(x)) + log(1 - D(G(z)))]."""
        smooth = self.target * log_sigmoid(a_real) + (1 - self.target) * log_sigmoid(-a_real)
        return -(smooth.mean() + log_sigmoid(-a_fake).mean())


@dataclass(frozen=True)
class ReverseKL(NonSaturating):
    """The loss of VEEGAN, whose G minimises a mean log-ratio (Srivastava et al. 2017, Algorithm 1).

    D's loss is that of Saturating. The logit a of an optimal D is log p_data(x) / p_G(x), if both
    densities exist. Then G's loss is the divergence KL(p_G || p_data).
    """

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return -1/m sum a, the logits of samples."""
        return -a_fake.mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return 1/m sum a, the logits of data."""
        return a_real.mean()


@dataclass(frozen=True)
class LeastSquares(Loss):
    """The least squares loss (Mao et al. 2017, eq. 2 with a = 0, b = c = 1: eq. 9).

    D's target is 1 for data and 0 for samples; G's target for its samples is 1. The paper's factors
    1/2 are left out. So a penalty or a further term weighs half as much beside this loss as beside
    the paper's.
    """

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return E (D(x) - 1)^2 + E D(G(z))^2."""
        return ((a_real - 1) ** 2).mean() + (a_fake ** 2).mean()

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return E (D(G(z)) - 1)^2."""
        return ((a_fake - 1) ** 2).mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return E D(x)^2."""
        return (a_real ** 2).mean()


@dataclass(frozen=True)
class Hinge(Loss):
    """The hinge loss: D separates data and samples by a margin (Lim and Ye 2017; Tran et al. 2017).

    Real scores above 1 and fake scores below -1 do not contribute to D's gradient.
    """

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
        return relu(1 - a_real).mean() + relu(1 + a_fake).mean()

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return -E D(G(z))."""
        return -a_fake.mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return E D(x)."""
        return a_real.mean()


@dataclass(frozen=True)
class Wasserstein(Loss):
    """The difference of the mean scores (Arjovsky et al. 2017, eq. 3).

    The game must bound the Lipschitz constant of D by other means. W, the estimate of the
    Wasserstein distance, is logged.
    """

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -(E D(x) - E D(G(z)))."""
        return a_fake.mean() - a_real.mean()

    def g(self, a_real: Tensor | None, a_fake: Tensor) -> Tensor:
        """Return -E D(G(z))."""
        return -a_fake.mean()

    def g_real(self, a_real: Tensor) -> Tensor:
        """Return E D(x)."""
        return a_real.mean()

    def summarise(self, a_real: Tensor, a_fake: Tensor) -> dict[str, Array]:
        """Return the mean scores and W = E D(x) - E D(G(z))."""
        return {**super().summarise(a_real, a_fake), "W": (a_real.mean() - a_fake.mean()).data}


@dataclass(frozen=True)
class Relativistic(Loss):
    """The relativistic loss (Jolicoeur-Martineau 2019, section 4, RSGAN).

    sigmoid(D(x) - D(G(z))) is the probability that x is more realistic than G(z), for x and z in
    pairs. D maximises its logarithm; G maximises log sigmoid(D(G(z)) - D(x)). D(x) is the paper's
    C(x). Raises ValueError for scores that are no pairs.
    """

    compares = True

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -E log sigmoid(D(x) - D(G(z)))."""
        if a_real.shape != a_fake.shape:
            raise ValueError("the relativistic loss compares pairs of scores, got the shapes "
                             f"{a_real.shape} and {a_fake.shape}: give as many samples as data")
        return -log_sigmoid(a_real - a_fake).mean()

    def g(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return the loss of d() with real and fake scores exchanged."""
        return self.d(a_fake, a_real)


@dataclass(frozen=True)
class RelativisticAverage(Loss):
    """The relativistic average loss (Jolicoeur-Martineau 2019, section 4, RaSGAN).

    Each score is compared with the mean score of the other kind, which is that of the same map if D
    returns several. The paper's equations are used; the published code halves both losses.
    """

    compares = True

    def d(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return -E log sigmoid(D(x) - E D(G(z))) - E log(1 - sigmoid(D(G(z)) - E D(x)))."""
        axes = tuple(i for i in range(a_real.ndim) if i != 1)         # axis 1: the maps
        return -(log_sigmoid(a_real - a_fake.mean(axes, keepdims=True)).mean()
                 + log_sigmoid(-(a_fake - a_real.mean(axes, keepdims=True))).mean())

    def g(self, a_real: Tensor, a_fake: Tensor) -> Tensor:
        """Return the loss of d() with real and fake scores exchanged."""
        return self.d(a_fake, a_real)
