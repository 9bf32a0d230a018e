"""What D's scores cost each player: one class for each loss.

A loss is a function of the scores that D gives to the data and to G's work, `real` and `fake`,
Tensors (m, 1):

    d(real, fake)    what D minimises
    g(real, fake)    what G minimises; `real` is None unless the loss compares the two
    g_real(real)     what it minimises besides where it has a part in what D is shown of the data,
                     as BiGAN's encoder has, unless the loss compares the two

Any game takes any of them: Game(G, D, loss=losses.Hinge()). In a loss that reads probabilities the
scores are logits: D(x) = sigmoid(a), so that log D(x) = log_sigmoid(a) and log(1 - D(x)) =
log_sigmoid(-a), neither computed in two steps.
"""

from dataclasses import dataclass

from ..ops import log_sigmoid, relu, sigmoid, softplus


@dataclass(frozen=True)
class Loss:
    """The base of all losses."""

    compares = False        # whether g needs the scores of the data

    def d(self, real, fake):
        raise NotImplementedError

    def g(self, real, fake):
        raise NotImplementedError

    def g_real(self, real):
        raise NotImplementedError(f"{type(self).__name__} has no g_real, which a game needs whose "
                                  "G has a part in what D is shown of the data")

    def seen(self, real, fake):
        """Return {name: array} of what is logged of the scores: here their means."""
        return {"D(x)": real.mean().data, "D(G(z))": fake.mean().data}


@dataclass(frozen=True)
class Saturating(Loss):
    """The minimax loss as Algorithm 1 of Goodfellow et al. 2014 prints it. Where D rejects every
    sample, G's gradient vanishes."""

    def d(self, real, fake):
        """-1/m sum [log D(x) + log(1 - D(G(z)))]: Algorithm 1's, with the sign to descend it."""
        return -(log_sigmoid(real).mean() + log_sigmoid(-fake).mean())

    def g(self, real, fake):
        """1/m sum log(1 - D(G(z)))."""
        return log_sigmoid(-fake).mean()

    def g_real(self, real):
        """1/m sum log D(x)."""
        return log_sigmoid(real).mean()

    def seen(self, real, fake):
        """Return the mean probabilities D(x) and D(G(z))."""
        return super().seen(sigmoid(real), sigmoid(fake))


@dataclass(frozen=True)
class NonSaturating(Saturating):
    """The same for D; G maximises log D(G(z)) instead (Goodfellow et al. 2014, section 3)."""

    def g(self, real, fake):
        """-1/m sum log D(G(z))."""
        return -log_sigmoid(fake).mean()

    def g_real(self, real):
        """-1/m sum log(1 - D(x))."""
        return -log_sigmoid(-real).mean()


@dataclass(frozen=True)
class LeastSquares(Loss):
    """D regresses on 1 for the data and 0 for samples, G wants its samples at 1 (Mao et al. 2017,
    eq. 2 with a = 0, b = c = 1: eq. 9; without the factors 1/2)."""

    def d(self, real, fake):
        """E (D(x) - 1)^2 + E D(G(z))^2."""
        return ((real - 1) ** 2).mean() + (fake ** 2).mean()

    def g(self, real, fake):
        """E (D(G(z)) - 1)^2."""
        return ((fake - 1) ** 2).mean()

    def g_real(self, real):
        """E D(x)^2."""
        return (real ** 2).mean()


@dataclass(frozen=True)
class Hinge(Loss):
    """D separates the data from samples by a margin of 1 on each side of 0 (Lim and Ye 2017; Tran
    et al. 2017)."""

    def d(self, real, fake):
        """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def g(self, real, fake):
        """-E D(G(z))."""
        return -fake.mean()

    def g_real(self, real):
        """E D(x)."""
        return real.mean()


@dataclass(frozen=True)
class Wasserstein(Loss):
    """The difference of the mean scores (Arjovsky et al. 2017, eq. 2), for a D whose slope is
    bounded by something else. W, the estimate of the distance, is logged."""

    def d(self, real, fake):
        """-(E D(x) - E D(G(z)))."""
        return fake.mean() - real.mean()

    def g(self, real, fake):
        """-E D(G(z))."""
        return -fake.mean()

    def g_real(self, real):
        """E D(x)."""
        return real.mean()

    def seen(self, real, fake):
        return {**super().seen(real, fake), "W": (real.mean() - fake.mean()).data}


@dataclass(frozen=True)
class Relativistic(Loss):
    """The probability that a real sample looks more real than a generated one is
    sigmoid(D(x) - D(G(z))), x and z in pairs; D maximises it, G minimises it (Jolicoeur-Martineau
    2019, section 4, RSGAN). -log sigmoid(a) = softplus(-a)."""

    compares = True

    def d(self, real, fake):
        """-E log sigmoid(D(x) - D(G(z)))."""
        return softplus(fake - real).mean()

    def g(self, real, fake):
        """-E log sigmoid(D(G(z)) - D(x))."""
        return softplus(real - fake).mean()


@dataclass(frozen=True)
class RelativisticAverage(Loss):
    """The same with each sample compared with the mean score of the other kind
    (Jolicoeur-Martineau 2019, section 4, RaSGAN). The published code halves both losses; the
    paper's equations do not."""

    compares = True

    def d(self, real, fake):
        """-E log sigmoid(D(x) - E D(G(z))) - E log(1 - sigmoid(D(G(z)) - E D(x)))."""
        return softplus(-(real - fake.mean())).mean() + softplus(fake - real.mean()).mean()

    def g(self, real, fake):
        """The same with the roles exchanged, both terms of it."""
        return self.d(fake, real)
