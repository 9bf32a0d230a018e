"""Train networks that grow on MNIST (Karras et al. 2018, progressive growing).

    python examples/progan_mnist.py                 the recipe: three stages, 14 minutes on one core
    python examples/progan_mnist.py --no-growing    the networks of the last stage from the start

The resolution is 7x7 pixels in the first stage, 14x14 in the second and 28x28 in the third. Each
stage has --steps steps, and in the first quarter of them its new layers are faded in. Each is a run
in a folder of its own in --out, named by the resolution. So sample.py and evaluate.py take such a
folder, as runs/progan_mnist/28x28.

The loss is WGAN-GP's with a further term, with one step of D for one of G. The networks are those
of tinygan/networks/growing.py. The learning rate is ten times the paper's and falls to 0 in the
last stage, because the training is short.

Pictures, curves and checkpoints are written to --out. --explain explains the printed numbers.
"""

from tinygan import command, optim, schedules
from tinygan.data import Minibatches
from tinygan.games import ProGAN
from tinygan.networks import growing

RECIPE = dict(steps=2000, batch_size=32, average=0.998)
Z_SIZE = 64
LR = 1e-2


def main() -> None:
    """Train with the command line's settings."""
    flags = command.game_parser(__doc__, **RECIPE, out="runs/progan_mnist")
    add = flags.add_argument
    add("--fade", type=command.share, default=0.25,
        help="share of a stage's steps in which its new layers are faded in (0.25)")
    add("--no-growing", action="store_true",
        help="train the networks of the last stage from the start")
    args = command.parse(flags)
    command.refuse_unused(flags, args, not args.no_growing, "growing", "fade")

    with command.start(args) as data:
        images = data.train.images
        shape = images.shape[1:]
        G, D = growing.Generator(Z_SIZE, shape), growing.Discriminator(shape)
        last = G.stages - 1
        for stage in range(last if args.no_growing else 0, G.stages):
            fade = 0 if args.no_growing else round(args.fade * args.steps)
            game = ProGAN(G, D, Z_SIZE, stage, fade)
            lr = schedules.cosine(LR, 0.0, args.steps) if stage == last else LR
            d_opt, g_opt = (optim.Adam(player.parameters(), lr, betas=(0.0, 0.99))
                            for player in (D, G))
            height, width = (n // D.block for n in shape[1:])
            command.train(args, game, Minibatches(images, args.batch_size), d_opt, g_opt,
                          stage=f"{height}x{width}")


if __name__ == "__main__":
    command.main(main)
