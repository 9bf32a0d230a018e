"""Small networks and data, for the small instances of all games in catalogue.py."""

from collections.abc import Callable

from .. import nn
from ..backend import Array
from ..networks import growing, pyramid, single_image
from ..random import Random
from .projection import ProjectionDiscriminator


def make_networks(width: int = 4,
                  norm: Callable = lambda layer: layer) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels.

    G takes 5 noise variables. D's convolution has `width` channels. `norm` is applied to each of
    D's layers with weights.
    """
    G = nn.Sequential(nn.Dense(5, 16), nn.BatchNorm(16), nn.ReLU(), nn.Reshape(4, 2, 2),
                      nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
    D = nn.Sequential(norm(nn.Conv2d(1, width, 3, 1, 1)), nn.LeakyReLU(), nn.Dropout(0.2),
                      nn.Flatten(), norm(nn.Dense(16 * width, 1)))
    return G, D


def make_normalised_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return the networks of make_networks(), D with spectral normalisation."""
    return make_networks(width, nn.spectral_norm)


def make_images(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": n random images of 4x4 pixels}."""
    return {"images": rng.uniform(0, 1, (n, 1, 4, 4))}


def make_labelled_networks(width: int = 4,
                           dropout: float = 0.2) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels with a label of three; D has 4 `width` units."""
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(8, 16), nn.BatchNorm(16), nn.ReLU(),
                      nn.Dense(16, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = nn.Sequential(nn.Flatten(), nn.JoinLabels(3), nn.Dense(19, 4 * width), nn.LeakyReLU(),
                      nn.Dropout(dropout), nn.Dense(4 * width, 1))
    return G, D


def make_classifying_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D for such images; D returns scores and the logits of three classes."""
    G, _ = make_labelled_networks(width)
    trunk = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2),
                          nn.Flatten())
    return G, nn.Heads(trunk, nn.Dense(16 * width, 1), nn.Dense(16 * width, 3))


def make_projection_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G with conditional batch normalisation and D with a projection, for such images."""
    G = nn.Sequential(nn.Dense(5, 16), nn.ConditionalBatchNorm(16, 3), nn.ReLU(),
                      nn.Reshape(4, 2, 2), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid())
    phi = nn.Sequential(nn.spectral_norm(nn.Conv2d(1, width, 3, 1, 1)), nn.LeakyReLU())
    return G, ProjectionDiscriminator(phi, width, 3)


def make_informing_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D for images of 4x4 pixels and a code of three values and one number."""
    G = nn.Sequential(nn.JoinLabels(3), nn.Dense(9, 16), nn.BatchNorm(16), nn.ReLU(),
                      nn.Dense(16, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    trunk = nn.Sequential(nn.Flatten(), nn.Dense(16, 4 * width), nn.LeakyReLU(), nn.Dropout(0.2))
    return G, nn.Heads(trunk, nn.Dense(4 * width, 1), nn.Dense(4 * width, 4))


def make_pair_networks(width: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return G, an encoder E, and D for pairs, for images of 4x4 pixels and 5 noise variables."""
    G, _ = make_networks()
    E = nn.Sequential(nn.Flatten(), nn.Dense(16, 16), nn.LeakyReLU(), nn.Dense(16, 5))
    D = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2), nn.Flatten(),
                      nn.Join(), nn.Dense(16 * width + 5, 1))
    return G, E, D


def make_sampling_networks(width: int = 4) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the networks of make_pair_networks(), with an encoder that draws its output."""
    G, E, D = make_pair_networks(width)
    return G, nn.Sequential(*E[:-1], nn.Dense(16, 10), nn.GaussianSample()), D


def make_packing_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G, and D for two images of 4x4 pixels at once."""
    G, D = make_networks(width)
    return G, nn.Sequential(nn.Conv2d(2, width, 3, 1, 1), *D[1:])


def make_growing_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D that grow from 2x2 to 4x4 pixels."""
    return growing.Generator(5, (1, 4, 4), (4, 3)), growing.Discriminator((1, 4, 4), (width, 3))


def make_pyramid_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G and D for the levels of 4x4 and 2x2 pixels."""
    _, D = make_networks(width)
    fine = nn.Sequential(nn.JoinMap(), nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(),
                         nn.Conv2d(4, 1, 3, 1, 1))
    coarse = nn.Sequential(nn.Dense(5, 4), nn.BatchNorm(4), nn.Sigmoid(), nn.Reshape(1, 2, 2))
    return (pyramid.Generator((1, 4, 4), fine, coarse),
            pyramid.Discriminator(D, nn.Sequential(nn.Flatten(), nn.Dense(4, 1))))


def make_scale_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G for the scales of 4x4 and 3x3 pixels, and D for a map of scores."""
    return single_image.Generator([(1, 4, 4), (1, 3, 3)], 4), make_patch_network(width)


def make_featuring_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G, and D that returns its score and its features, for images of 4x4 pixels."""
    G, D = make_networks(width)
    return G, nn.Heads(D[:-1], D[-1], nn.Sequential())


def make_recognising_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G, and D that returns the logits of three classes, for images, and its features."""
    G, D = make_networks(width)
    return G, nn.Heads(D[:-1], nn.Dense(16 * width, 3), nn.Sequential())


def make_translator(classes: int = 0) -> nn.Module:
    """Return a G from grey images, and labels if there are classes, to grey images."""
    join = [nn.JoinLabels(classes)] if classes else []
    return nn.Sequential(*join, nn.Conv2d(1 + classes, 4, 3, 1, 1), nn.BatchNorm(4), nn.ReLU(),
                         nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())


def make_patch_network(width: int = 4, planes: int = 1) -> nn.Module:
    """Return a D from images of 4x4 pixels and `planes` channels to a map of 4x4 scores."""
    return nn.Sequential(nn.Conv2d(planes, width, 3, 1, 1), nn.LeakyReLU(), nn.Dropout(0.2),
                         nn.Conv2d(width, 1, 1))


def make_translating_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from images to images, with dropout as its noise, and D for pairs of them."""
    G = make_translator()
    return nn.Sequential(*G[:3], nn.Dropout(0.5, always=True), *G[3:]), (
        make_patch_network(width, 2))


def make_cycle_networks(width: int = 4) -> tuple[nn.Module, ...]:
    """Return G, F, D and D_x for images of 4x4 pixels."""
    return (make_translator(), make_translator(),
            make_patch_network(width), make_patch_network(width))


def make_domain_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from images and three domains to images, and D that also names the domain."""
    *trunk, last = make_patch_network(width).layers
    return make_translator(3), nn.Heads(
        nn.Sequential(*trunk), last, nn.Sequential(nn.Flatten(), nn.Dense(16 * width, 3)))


def make_map_networks(width: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return G from noise and maps of three classes, and D for maps and images, with features."""
    *trunk, last = make_patch_network(width, 4).layers
    G = nn.Sequential(nn.Dense(5, 16), nn.Reshape(1, 4, 4), nn.SPADE(1, 3, 2), nn.Tanh(),
                      nn.JoinMap(), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())
    return G, nn.Heads(nn.Sequential(*trunk), last,
                       nn.Heads(nn.Sequential(), nn.Sequential()))      # a tuple of one feature


def make_partly_labelled_images(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": ..., "labels": ..., "unlabelled": ...}: n random images of each kind."""
    return {**make_labelled_images(n, rng), "unlabelled": rng.uniform(0, 1, (n, 1, 4, 4))}


def make_translations(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": ..., "targets": ...} of n random images of 4x4 pixels each."""
    return {name: rng.uniform(0, 1, (n, 1, 4, 4)) for name in ("images", "targets")}


def make_maps(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": n random maps of three classes, "targets": n random images}."""
    return {"images": rng.uniform(0, 1, (n, 3, 4, 4)), "targets": rng.uniform(0, 1, (n, 1, 4, 4))}


def make_labelled_images(n: int, rng: Random) -> dict[str, Array]:
    """Return {"images": ..., "labels": ...} of n random images of 4x4 pixels and three classes."""
    return {**make_images(n, rng), "labels": rng.integers(3, (n,))}
