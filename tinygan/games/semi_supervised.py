"""Semi-supervised learning with a GAN (Salimans et al. 2016, section 5)."""

from typing import Any

from ..backend import UserError
from ..nested import apply, flatten_nested, is_sample
from ..nn import Module
from ..ops import cross_entropy, logsumexp
from ..tensor import Tensor
from .acgan import class_logits
from .checks import activation_of, check_weights, refuse_other_range, refuse_sigmoid
from .feature_matching import FeatureMatching, features_in


class SemiSupervisedGAN(FeatureMatching):
    """The GAN whose D learns K classes from few labels and many images without labels.

    D is a classifier with logits l_1, ..., l_K. A sample of G is a further class, "generated",
    whose logit is fixed at 0. Then the probability that x is real is

        D(x) = Z(x) / (Z(x) + 1),  Z(x) = sum_k exp l_k(x)

    so the score, the logit of D(x), is log Z(x). D minimises L_supervised + lam L_unsupervised:

        L_supervised   = -E log p(y | x),  p = softmax(l), for images x with labels y
        L_unsupervised = -E log D(x) - E log(1 - D(G(z))), for images x without labels

    G matches the features of the images without labels, see FeatureMatching. A minibatch is (images
    with labels, their labels, images without labels); or ((images, labels), images), as
    ZipMinibatches returns it.

    D     a Module that returns (logits (m, K), features (m, n)), for example
          nn.Heads(trunk, nn.Dense(n, K), nn.Sequential())
    lam   the weight of L_unsupervised. It is 1 in the paper and 0.5, the default, in its code; with
          0, D learns from the labels alone

    Penalties count as a part of L_unsupervised. L_supervised is logged as "class loss". Raises
    UserError for a negative lam, for other minibatches, and in a step for a D that returns
    something else.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 100, lam: float = 0.5,
                 **choices) -> None:
        super().__init__(G, D, z_size, **choices)
        check_weights(lam=lam)
        self.lam = lam

    def check_minibatch(self, x: Any) -> None:
        """Raise UserError unless the minibatch x has images, labels and images, in this order.

        The range of the first images must be that of G's, as the training loop checks for the last.
        """
        kinds = ["images" if is_sample(part) else "labels" for part in flatten_nested(x)]
        if kinds != ["images", "labels", "images"]:
            raise UserError(f"{type(self).__name__} takes minibatches of images with labels, their "
                            "labels, and images without labels, but those of the data have "
                            f"{', '.join(kinds)}: give data.ZipMinibatches(Minibatches(images, m, "
                            "labels=labels), Minibatches(others, m))")
        refuse_other_range(self, flatten_nested(x)[0])

    def real(self, x: Any) -> Tensor:
        """Return the images without labels of a minibatch."""
        _, _, others = flatten_nested(x)
        return others

    def discriminate(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return (log Z, features, logits)."""
        outputs = apply(self.D, inputs)
        features, logits = features_in(outputs, "classes"), outputs[0]
        refuse_sigmoid(activation_of(logits))
        return logsumexp(logits, keepdims=True), features, logits

    def d_terms(self, x: Any, z: Any, fake: Any, out_real: Any, out_fake: Any) -> list[Tensor]:
        """List L_supervised."""
        images, labels, _ = flatten_nested(x)
        _, *outputs = self.outputs(images)
        loss = cross_entropy(class_logits(tuple(outputs), labels), labels)
        self.log("class loss", loss)
        return [loss]

    def _d_loss_of_scores(self, *scores):
        return self.lam * super()._d_loss_of_scores(*scores)
