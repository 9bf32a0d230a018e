"""Unrolled generative adversarial networks (Metz et al. 2017)."""

from typing import Any

from ..backend import UserError
from ..nn import Module, substitute
from ..tensor import Tensor, grad, is_whole
from .gan import GAN
from .losses import Loss, Saturating


class UnrolledGAN(GAN):
    """The GAN whose G takes into account how D will answer: it descends V(G, D_k) (eq. 5-8).

        theta_0 = theta,  theta_{i+1} = theta_i + eta dV(G, theta_i)/dtheta_i
        G minimises V(G, theta_k);  D maximises V(G, theta), as in the GAN

    theta are D's parameters. The gradient of G's loss also passes through the k steps, in which
    theta_i depends on G: it is a gradient of gradients. So G has no reason to move all samples to
    where the present D is weakest, because the D of k steps later would not be weak there.

    k     the number of unrolled steps; with 0 the game is the GAN with the saturating loss
    eta   their size. The steps are those of gradient descent, on the same x and z

    The loss is the saturating one, of which V is minus D's. Raises UserError for a negative or
    fractional k, and for an eta that is not above 0.
    """

    loss = Saturating()

    def __init__(self, G: Module, D: Module, z_size: int = 100, k: int = 5, eta: float = 0.1,
                 loss: Loss | None = None, **choices) -> None:
        super().__init__(G, D, z_size, loss=loss, **choices)
        if not is_whole(k, 0) or not eta > 0:
            raise UserError("an unrolled GAN takes a whole number k of steps, at least 0, of a "
                            f"size eta above 0, got k={k!r}, eta={eta!r}")
        self.k, self.eta = k, eta

    def unroll(self, real: Any, fake: Any, drawn: list) -> dict[Tensor, Tensor]:
        """Return {parameter of D: theta_k}, as Tensors that depend on G.

        drawn   the penalties' random numbers
        """
        theta = {p: p for p in self.d_parameters()}
        for _ in range(self.k):
            with substitute(self, theta):
                loss = self._d_loss_of_scores(real, fake, self.score(real), self.score(fake), drawn)
            gradients = grad(loss, list(theta.values()), create_graph=True, unused=self.unused)
            theta = {p: t - self.eta * g for (p, t), g in zip(theta.items(), gradients)}
        return theta

    def g_loss(self, x: Any, z: Any) -> Tensor:
        """Return G's loss of the scores of D_k."""
        z, drawn = self._split(z)
        real, fake = self.real(x), self.fake(x, z)
        with substitute(self, self.unroll(real, fake, drawn)):
            return self._g_loss_of_scores(self.score(fake), real)
