"""The networks of StyleGAN (Karras et al. 2019).

The game is the GAN with the penalty R1; the paper's contribution is G. A mapping network f turns z
into w, and w enters G's synthesis network at each layer, as a style. So the layers of low
resolution can get one w and those of high resolution another: style mixing.

The networks here are small, and differ from the published ones for faces in more than size: they
do not grow during the training, G ends in a sigmoid for data in [0, 1], f has 4 layers and not 8,
and D does not blur images before it reduces them.
"""

from collections.abc import Sequence

from .. import backend, nn, ops
from ..backend import Array, UserError
from ..numbers import check_whole, is_number
from ..tensor import Tensor
from .growing import conv, dense, find_lowest


class Generator(nn.Module):
    """The style-based generator G = g(f(z)), whose images are in [0, 1].

    z_size     the number of noise variables, z ~ N(0, I)
    shape      (C, H, W), that of an image
    channels   the numbers of channels, from the lowest resolution to the highest; each resolution
               is twice the one before
    w_size     the size of w
    depth      the number of layers of the mapping network f
    mixing     the probability that a sample of the training is mixed from two w; 0 in a game whose
               D gets z too, such as BiGAN
    noise      whether the layers add noise

    Each resolution has two layers. A layer is a convolution, noise, leaky ReLU and AdaIN with a
    style (figure 1b); the very first has a learned input in place of the convolution. Images are
    enlarged by bilinear interpolation before the convolution. (The published code repeats each
    pixel, convolves, and then blurs with 1 2 1, which is the same except at the edge.) Raises
    UserError if H or W is no multiple of 2^(len(channels) - 1), and for a mixing outside [0, 1].
    """

    def __init__(self, z_size: int = 64, shape: tuple[int, int, int] = (1, 28, 28),
                 channels: Sequence[int] = (64, 16, 8), w_size: int = 64, depth: int = 4,
                 mixing: float = 0.9, noise: bool = True) -> None:
        colours, height, width = find_lowest(shape, channels)
        if not is_number(mixing, 0) or mixing > 1:
            raise UserError(f"mixing is a probability from 0 to 1, got {mixing!r}")
        check_whole(depth, 1, "the number of layers of f")
        self.mixing = mixing
        sizes = [z_size] + depth * [w_size]
        f = [nn.PixelNorm()]
        for a, b in zip(sizes, sizes[1:]):
            f += [dense(a, b, lr_multiplier=0.01), nn.LeakyReLU(0.2)]
        self.f = nn.Sequential(*f)
        self.w_mean = backend.xp.zeros(w_size, "float32")

        def layer(n, *first):
            return nn.Sequential(*first, *([nn.AddNoise(n)] if noise else []), nn.LeakyReLU(0.2),
                                 nn.AdaIN(n, w_size))
        n = channels[0]
        self.layers = [layer(n, nn.LearnedInput(n, height, width)),
                       layer(n, conv(n, n, 3))]
        for a, b in zip(channels, channels[1:]):
            self.layers += [layer(b, nn.Upsample(2, "bilinear"), conv(a, b, 3)),
                            layer(b, conv(b, b, 3))]
        self.to_image = nn.Sequential(conv(channels[-1], colours, 1, gain=1.0), nn.Sigmoid())

    def forward(self, z: Tensor, other: Tensor | None = None,
                crossover: Array | None = None) -> Tensor:
        """Return images (m, C, H, W) for noise z (m, z_size).

        With `other`, further noise (m, z_size), and the whole numbers `crossover` (m,), the layers
        from number `crossover` on get the w of the other noise. In training mode both are drawn for
        a share `mixing` of the samples (section 3.1); the published code draws one crossover for
        all samples of a minibatch. Raises ValueError for other shapes of these two.
        """
        shapes = [getattr(a, "shape", None) for a in (other, crossover)]
        if shapes not in ([None, None], [z.shape, z.shape[:1]]):
            raise ValueError(f"styles of samples for noise {z.shape} are mixed by further noise of "
                             f"that shape and an array of crossovers {z.shape[:1]}, got "
                             f"{shapes[0]} and {shapes[1]}")
        w = self.f(z)
        if self.training:
            backend.move_average(w.data.mean(0), 1.0, 0.005, self.w_mean)
            if other is None and self.mixing:
                other, crossover = self._draw_mixing(z)
        ws = [w] * len(self.layers)
        if other is not None:
            w2 = self.f(other)
            ws = [ops.where(crossover[:, None] > i, w, w2) for i in range(len(self.layers))]
        return self.synthesise(ws)

    def synthesise(self, ws: Sequence[Tensor]) -> Tensor:
        """Return g's images (m, C, H, W) for the w of each layer, (m, w_size) each.

        Raises ValueError unless there is one w for each layer.
        """
        if len(ws) != len(self.layers):
            raise ValueError(f"each of {len(self.layers)} layers needs a w, got {len(ws)}")
        x = ws[0]       # the learned input takes only the number of samples from it
        for layer, w in zip(self.layers, ws):
            x = layer(x, w)
        return self.to_image(x)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Return w_mean + psi (w - w_mean), the truncation trick in W (appendix B).

        w_mean is a moving average of the mean of w during the training, at first 0. With a psi
        below 1 samples are more typical and less varied. The paper truncates the w of the layers of
        low resolution alone.
        """
        return psi * w + (1 - psi) * self.w_mean

    def _draw_mixing(self, z):
        """Draw the second noise of each sample, and the number of the layer that it begins with."""
        source, n = nn.current_random(), len(self.layers)
        place = source.uniform(0, 1, (len(z),))
        # layer 1 to n - 1 for those below `mixing`, else n, which is no layer
        crossover = backend.xp.where(place < self.mixing,
                                     1 + place / self.mixing * (n - 1), n).astype("int64")
        return Tensor(source.normal(z.shape).astype(z.dtype, copy=False)), crossover


def discriminator(shape: tuple[int, int, int] = (1, 28, 28),
                  channels: Sequence[int] = (64, 16, 8)) -> nn.Sequential:
    """Return D, from images of `shape` (C, H, W) to one score (m, 1).

    `channels` are the numbers of channels, from the lowest resolution to the highest. From one
    resolution to the next there are two convolutions, with the pooling between them; in the
    published code it comes after both, at four times the cost of the second. Before the last
    convolution all samples are compared (nn.MinibatchStddev), in the published code groups of 4.
    Raises UserError if H or W is no multiple of 2^(len(channels) - 1).
    """
    colours, height, width = find_lowest(shape, channels)
    layers = [conv(colours, channels[-1], 1), nn.LeakyReLU(0.2)]
    down = channels[::-1]
    for a, b in zip(down, down[1:]):
        layers += [conv(a, a, 3), nn.LeakyReLU(0.2), nn.AvgPool2d(2),
                   conv(a, b, 3), nn.LeakyReLU(0.2)]
    n = channels[0]
    return nn.Sequential(
        *layers, nn.MinibatchStddev(), conv(n + 1, n, 3), nn.LeakyReLU(0.2), nn.Flatten(),
        dense(n * height * width, n), nn.LeakyReLU(0.2), dense(n, 1, gain=1.0))
