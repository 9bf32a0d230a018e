"""cGANs with projection discriminator (Miyato and Koyama 2018)."""

from ..backend import Array
from ..nn import Dense, Embedding, Module, normal, spectral_norm
from ..tensor import Tensor
from .conditional import ConditionalGAN
from .losses import Hinge


class ProjectionDiscriminator(Module):
    """The discriminator whose score is linear in the label's embedding v_y (section 3).

        D(x, y) = <v_y, phi(x)> + psi(phi(x))

    phi          a Module from samples to features: (m, n), or (N, n, H, W), which are summed over
                 the pixels
    n            the number of features
    classes      the number of classes
    normalised   whether psi and the embedding have spectral normalisation, as in the paper; phi's
                 layers are wrapped where phi is made

    Raises ValueError in forward unless there is one label for each sample.
    """

    def __init__(self, phi: Module, n: int, classes: int = 10, normalised: bool = True) -> None:
        self.phi = phi
        self.psi = Dense(n, 1, init=normal(0.02))
        self.embedding = Embedding(classes, n, init=normal(0.02))
        if normalised:
            spectral_norm(self.psi)
            spectral_norm(self.embedding)

    def forward(self, x: Tensor, labels: Array) -> Tensor:
        features = self.phi(x)
        if features.ndim == 4:
            features = features.sum((2, 3))
        v = self.embedding(labels)
        if len(v) != len(features):
            raise ValueError("a projection discriminator needs one label for each sample, got "
                             f"{len(v)} labels for {len(features)} samples")
        return self.psi(features) + (v * features).sum(1, keepdims=True)


class ProjectionGAN(ConditionalGAN):
    """The conditional GAN with the hinge loss, for a ProjectionDiscriminator.

    In the paper G has conditional batch normalisation (nn.ConditionalBatchNorm), z is normal, and D
    has five steps for each of G (d_steps=5). Here z is the GAN's and D has one step.
    """

    loss = Hinge()
