"""Feature matching: Improved techniques for training GANs (Salimans et al. 2016, section 3.1)."""

from typing import Any

from ..backend import UserError
from ..tensor import Tensor
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
        """Return the squared distance between the mean features of x and of G(z)."""
        z, _ = self._split(z)
        real, fake = (self.features(inputs) for inputs in (self.real(x), self.fake(x, z)))
        return ((real.mean(0) - fake.mean(0)) ** 2).sum()

    def features(self, inputs: Any) -> Tensor:
        """Return D's features of its inputs. Raises UserError if it returns none."""
        outputs = self.outputs(inputs)
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise UserError("D must return (logits, features): give it two heads, such as "
                            "nn.Heads(trunk, nn.Dense(n, 1), nn.Sequential())")
        return outputs[1]
