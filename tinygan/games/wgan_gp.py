"""Improved training of Wasserstein GANs (Gulrajani et al. 2017)."""

from ..ops import norm
from ..tensor import Tensor, grad
from .game import refuse_batch_norm
from .wgan import WGAN


class WGANGP(WGAN):
    """WGAN whose critic is held to slope 1 by a penalty instead of clipping (eq. 3, Algorithm 1):

        L = E D(G(z)) - E D(x) + lam E (|dD/dx_hat|_2 - 1)^2,  x_hat = eps x + (1 - eps) G(z)

    with eps ~ U(0, 1), one for each sample, and the norm over all of a sample's dimensions. W, the
    critic's estimate, is then in the data's own units, but may exceed the distance: between two
    points theta apart it is theta + theta^2 / (2 lam).

    Raises ValueError for a negative lam, and UserError if the critic has batch normalisation: the
    penalty is one sample's, and with it D(x_hat) would depend on the other samples (section 4,
    "No critic batch normalization").
    """

    def __init__(self, G, D, z_size=128, lam=10.0, n_critic=5):
        super().__init__(G, D, z_size, n_critic=n_critic)
        refuse_batch_norm(D)
        if not lam >= 0:
            raise ValueError(f"the penalty's weight lam is at least 0, got {lam}")
        self.lam = lam

    def noise(self, m, rng, i):
        """(z, eps), eps (m,)."""
        return self.latent(m, rng), Tensor(rng.uniform(0, 1, (m,)))

    def d_loss(self, x, z):
        z, eps = z
        real, fake = self.D(x), self.D(x_fake := self.fake(z))
        self.saw(real, fake)
        return (fake.mean() - real.mean()
                + self.lam * gradient_penalty(self.D, x, x_fake, eps))

    def g_loss(self, x, z):
        z, _ = z
        return super().g_loss(x, z)

    def after_d_step(self):
        """No clipping."""


def gradient_penalty(critic, x, x_fake, eps, slope=1.0):
    """1/m sum (|dD/dx_hat|_2 - slope)^2 at x_hat = eps x + (1 - eps) x_fake (Algorithm 1, lines 6
    and 7), to be differentiated: double backprop.

    critic      maps samples to scores, each of its own sample alone
    x, x_fake   (m, ...), real and generated samples, constants both (see Game.fake)
    eps         (m,), where between them each x_hat lies

    |.|_2 is over all of a sample's dimensions; where the gradient is 0 so is the derivative of its
    norm, and the penalty stays finite. Raises ValueError for an eps of another shape.
    """
    if eps.shape != (len(x.data),):
        raise ValueError(f"eps has one number for each of {len(x.data)} samples, got shape "
                         f"{eps.shape}")
    eps = eps.reshape(-1, *[1] * (x.ndim - 1))
    x_hat = eps * x + (1 - eps) * x_fake
    (g,) = grad(critic(x_hat).sum(), [x_hat], create_graph=True)
    return ((norm(g, tuple(range(1, g.ndim))) - slope) ** 2).mean()
