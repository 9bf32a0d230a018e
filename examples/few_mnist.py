"""Train a GAN on few digits, with and without random changes of D's input (Zhao et al. 2020).

    python examples/few_mnist.py --out runs/few                 1,000 training images
    python examples/few_mnist.py --augment --out runs/augment   D sees them translated and cut

Twenty times during a run these are measured, logged and drawn as curves:

    train, held-out   the mean probability D(x) of the training images, and of validation images. If
                      D has memorised its training images, the first is far larger
    Frechet           the distance of 2,000 samples from the test images, by the classifier's
                      features

The networks are those of tinygan/networks/digits.py; Adam's learning rate is 1e-3 throughout.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

import functools

import numpy as np

from tinygan import Run, Tensor, UserError, backend, command, nn, no_grad, ops, optim
from tinygan.data import Minibatches, as_floats
from tinygan.games import GAN, views
from tinygan.metrics import classifier, frechet_distance
from tinygan.networks import digits
from tinygan.random import Random


class FewRun(Run):
    """A run that measures D's scores of training and held-out images, and the samples.

    seen, held_out   training images, and others
    test             the images with which samples are compared
    choices          the arguments of Run
    """

    def __init__(self, seen: np.ndarray, held_out: np.ndarray, test: np.ndarray, *choices) -> None:
        super().__init__(*choices)
        self.seen, self.held_out, self.net = seen, held_out, classifier.load_classifier()
        self.test = classifier.classify(self.net, test)

    def measure(self, step: int) -> dict[str, float]:
        if not self.is_due(step, 20):
            return {}
        found = classifier.classify(self.net, self.game.draw_samples(2000, Random(0)))
        return {"train": self.score(self.seen), "held-out": self.score(self.held_out),
                "Frechet": frechet_distance(found.features, self.test.features)}

    def score(self, images: np.ndarray) -> float:
        """Return the mean probability D(x) of images, without the views."""
        with nn.eval_mode(self.game), no_grad():
            x = Tensor(backend.xp.asarray(as_floats(images)))
            return ops.sigmoid(self.game.score(x)).mean().item()

    def panels(self, names: list[str]) -> list[list[str]]:
        """Return the panels; D's scores and the Frechet distance have panels of their own."""
        own = [["train", "held-out"], ["Frechet"]]
        others = [name for name in names if name not in sum(own, [])]
        return [*super().panels(others), *own]


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, steps=20_000, batch_size=64, out="runs/few_mnist")
    flags.add_argument("--images", type=command.positive, default=1000,
                       help="number of training images (1000)")
    flags.add_argument("--augment", action="store_true",
                       help="translate D's images by up to 4 pixels and cut squares out of them")
    args = command.parse(flags)

    with command.start(args) as data:
        if data.train.images.shape[1:] != (1, 28, 28):
            raise UserError("the classifier behind the measures takes grey images of 28x28 pixels: "
                            "give others by --data")
        if args.images > len(data.train.images):
            raise UserError(f"there are {len(data.train.images)} training images: give a smaller "
                            f"number than {args.images} by --images")
        if not len(data.valid.images) or len(data.test.images) < 2:
            raise UserError(f"there are {len(data.valid.images)} validation and "
                            f"{len(data.test.images)} test images, too few for the measures: give "
                            "more images by --data")
        args.first = args.images        # kept in the settings, from which load_data() takes it
        images = data.train.images[:args.images]
        G, D = digits.generator(), digits.discriminator()
        changes = [views.Translation(), views.Cutout()] if args.augment else []
        game = GAN(G, D, views=changes)
        d_opt, g_opt = (optim.Adam(player.parameters(), 1e-3) for player in (D, G))
        held_out = data.valid.images[:args.images]
        command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt,
                      make_run=functools.partial(FewRun, images, held_out, data.test.images))


if __name__ == "__main__":
    command.main(main)
