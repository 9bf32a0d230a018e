"""Unrolled generative adversarial networks (Metz et al. 2017)."""

import contextlib
import math
from typing import Any

from .. import backend
from ..backend import UserError
from ..nn import Module, substitute
from ..numbers import is_number, is_whole
from ..tensor import Tensor, grad
from .game import Game, add_terms, renew
from .losses import Saturating


class UnrolledGAN(Game):
    """The GAN whose G descends V(G, theta_k), the value after k steps of D (section 2.2).

        theta_0 = theta,  theta_{i+1} = theta_i + eta dV(G, theta_i)/dtheta_i
        G minimises V(G, theta_k);  D maximises V(G, theta), as in the GAN

    theta are all of D's parameters, also those that D's optimiser does not have, and V is minus the
    loss of D's scores. In the unrolled steps this loss includes the penalties, but not d_terms().
    The gradient of V(G, theta_k) also passes through the k steps, in which theta_i depends on G: it
    contains second derivatives. So G has no reason to move all samples to where the present D is
    weakest, because the D of k steps later would not be weak there.

    G minimises loss.g() + loss.g_real() of the scores by theta_k. Both depend on G, the scores of
    the data through theta_k. For Saturating() the sum is V(G, theta_k). If the loss compares real
    and fake scores, G minimises loss.g() alone.

    k     the number of unrolled steps; with 0, G's gradient is that of the game without them
    eta   their size. The steps are those of gradient descent, on the same x and z; in the paper's
          experiments they are Adam's

    The unrolled steps leave D's parameters and buffers as they are. Raises UserError unless k is a
    whole number of at least 0 and eta a number above 0.
    """

    loss = Saturating()

    def __init__(self, G: Module, D: Module, z_size: int = 100, k: int = 5, eta: float = 0.01,
                 **choices) -> None:
        super().__init__(G, D, z_size, **choices)
        if not is_whole(k, 0) or not is_number(eta, 0) or not 0 < eta < math.inf:
            raise UserError("an unrolled GAN takes a whole number k of steps, at least 0, of a "
                            f"size eta above 0, got k={k!r}, eta={eta!r}")
        self.k, self.eta = k, eta

    def unroll(self, real: Any, fake: Any) -> dict[Tensor, Tensor]:
        """Return {parameter of D: theta_k}, as Tensors that depend on G."""
        theta = {p: p for p in self.d_parameters()}         # theta_0 = theta
        logged = self.logged            # the unrolled steps log nothing
        for _ in range(self.k):         # theta_{i+1} = theta_i - eta dL/dtheta_i, with L = -V
            if self.penalties:      # their gradients with respect to x do not pass through theta
                real, fake = renew(real), renew(fake)
            with substitute(self, theta):
                loss = self._d_loss_of_scores(real, fake, self.score(real), self.score(fake))
            gradients = grad(loss, list(theta.values()), create_graph=True, unused=self.unused)
            theta = {p: t - self.eta * g for (p, t), g in zip(theta.items(), gradients)}
        self.logged = logged
        return theta

    def g_loss(self, x: Any, z: Any) -> Tensor:
        """Return V(G, theta_k), or another loss of the scores by theta_k, plus g_terms()."""
        real, fake = self.real(x), self.fake(x, z)
        with self._keep_buffers(), substitute(self, self.unroll(real, fake)):
            a_real, out_fake = self.score(real), self.outputs(fake)     # by theta_k
        loss = self._g_loss_of_scores(a_real, out_fake)
        return add_terms(loss, self.g_terms(x, z, fake, out_fake), self.g_parameters)

    @contextlib.contextmanager
    def _keep_buffers(self):
        """Restore the buffers of D's networks, such as running means, at the end of the context."""
        buffers = [(vars(part), name, a, a.copy()) for player in self.d_players
                   for _, part in getattr(self, player).modules()
                   for name, a in part.own_arrays(backend.xp.ndarray)]
        try:
            yield
        finally:
            for attributes, name, a, before in buffers:
                a[...] = before
                attributes[name] = a        # forward() may have put another array in its place
