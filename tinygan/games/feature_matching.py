"""Feature matching: Improved techniques for training GANs (Salimans et al. 2016, section 3.1)."""

from typing import Any

from ..backend import UserError
from ..tensor import Tensor
from .game import add_terms
from .gan import GAN


class FeatureMatching(GAN):
    """The GAN whose G matches the mean features of the data instead of raising D's scores.

        G minimises |E f(x) - E f(G(z))|^2

    f(x) are the values of an intermediate layer of D; D's loss is the GAN's.

    D   a Module that returns (logits (m, 1), features (m, n)), for example
        nn.Heads(trunk, nn.Dense(n, 1), nn.Sequential())

    Raises UserError in G's step for a D that does not.
    """

    def g_loss(self, x: Any, z: Any) -> Tensor:
        """Return the squared distance between the mean features of x and G(z), plus g_terms()."""
        real, fake = self.outputs(self.real(x)), self.fake(x, z)
        out_fake = self.outputs(fake)
        difference = features_in(real).mean(0) - features_in(out_fake).mean(0)
        return add_terms((difference ** 2).sum(), self.g_terms(x, z, fake, out_fake),
                         self.g_parameters)


def features_in(outputs: Any, n_out: str = "1") -> Tensor:
    """Return the features among D's outputs.

    Raises UserError if there are none; then it says that D has n_out logits.
    """
    if not isinstance(outputs, tuple) or len(outputs) < 2:
        raise UserError("D must return (logits, features): give it two heads, such as "
                        f"nn.Heads(trunk, nn.Dense(n, {n_out}), nn.Sequential())")
    return outputs[1]
