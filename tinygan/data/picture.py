"""A picture drawn by formulas, for GANs of a single image: balloons in the sky above a field."""

import numpy as np

from .arrays import DataSet, Split

BALLOONS = [        # of a picture of width 1: centre (y, x), radius, colour
    ((0.18, 0.16), 0.085, "red"), ((0.16, 0.46), 0.06, "yellow"), ((0.14, 0.78), 0.08, "blue"),
    ((0.40, 0.30), 0.06, "orange"), ((0.42, 0.62), 0.085, "red"), ((0.44, 0.88), 0.05, "yellow"),
    ((0.50, 0.10), 0.05, "blue")]
COLOURS = {"red": (0.85, 0.15, 0.15), "yellow": (0.95, 0.75, 0.1), "blue": (0.2, 0.2, 0.6),
           "orange": (0.9, 0.45, 0.1), "light": (0.45, 0.7, 0.25), "dark": (0.25, 0.55, 0.2)}
HORIZON = 0.68


def draw_balloons(size: int = 48) -> np.ndarray:
    """Return the picture, uint8 (3, size, size), whose pixels are means of 4x4 points."""
    y, x = (np.mgrid[:4 * size, :4 * size] + 0.5) / (4 * size)

    def paint(colour):
        return np.array(COLOURS[colour])[:, None, None]
    depth = (y - HORIZON).clip(1e-3) / (1 - HORIZON)        # stripes are wider in front
    field = np.where(np.sin(9 * np.log(depth)) > 0, paint("dark"), paint("light"))
    sky = np.stack([0.35 + 0.5 * y, 0.6 + 0.3 * y, 0.95 - 0.1 * y])
    image = np.where(y < HORIZON, sky, field)
    for (cy, cx), radius, colour in BALLOONS:
        shade = (1 - 0.25 * (y - cy + x - cx) / radius).clip(0.5, 1.35)     # light from above left
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius ** 2
        image = np.where(inside, paint(colour) * shade, image)
    means = image.reshape(3, size, 4, size, 4).mean((2, 4))
    return (255 * means.clip(0, 1)).round().astype(np.uint8)


def load_balloons() -> DataSet:
    """Return the picture of 48x48 pixels as the only training image, without further parts."""
    image = draw_balloons()[None]
    nothing = Split(images=image[:0])
    return DataSet(Split(images=image), nothing, nothing, "a picture of balloons", "balloons")
