"""Curves as SVG files, which a browser shows at any size."""

import html
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from ..files import write_text

# each is readable on white and on black
COLOURS, GREY = ("#3b82f6", "#f97316", "#22a06b", "#b35cc4"), "#7d8590"
WIDTH, HEIGHT = 720, 220        # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 30, 26               # its margins


def save_curves(path: str | os.PathLike, x: Sequence[float] | np.ndarray,
                panels: Sequence[Mapping[str, Sequence[float] | np.ndarray]],
                label: str = "step") -> None:
    """Save panels of curves over a common x axis as an SVG file.

    x        the x values of all curves
    panels   one dictionary {name: y values} for each panel, from top to bottom, with at most four
             curves each
    label    the name of the x axis

    A panel shows the range from the 1st to the 99th percentile of its values, with a margin of 8 %,
    so that a few extreme values do not flatten the rest; curves are clipped at its edges. NaN and
    infinite values are left out. The background is transparent, for light and dark pages. Raises
    ValueError for an x that is not finite, for a panel without curves and for a curve that has not
    one value for each of x, and OSError if the file cannot be written.
    """
    if not np.isfinite(np.asarray(x, float)).all():
        raise ValueError("curves are drawn over finite numbers x, but some are NaN or infinite")
    for curves in panels:
        if not curves:
            raise ValueError("a panel needs at least one curve")
        for name, y in curves.items():
            if len(y) != len(x):
                raise ValueError(f"the curve {name!r} has {len(y)} values, but x has {len(x)}")
    height = len(panels) * HEIGHT + 14
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" '
             f'fill="{GREY}">']
    for i, curves in enumerate(panels):
        parts += _draw_panel(np.asarray(x, float), curves, i, label if i + 1 == len(panels) else "")
    write_text(path, "\n".join([*parts, "</svg>", ""]))


def _draw_panel(x, curves, i, label):
    """Yield the SVG elements of panel i; `label` names its x axis."""
    top = i * HEIGHT
    x_low, x_high = (min(x.min(), 0), x.max()) if len(x) else (0, 1)
    values = np.concatenate([np.asarray(y, float) for y in curves.values()])
    values = values[np.isfinite(values)]
    y_low, y_high = np.percentile(values, [1, 99]) if len(values) else (0, 1)
    margin = 0.08 * (y_high - y_low) or 0.1 * abs(y_high) or 0.5
    y_low, y_high = y_low - margin, y_high + margin

    def column(x):
        return LEFT + (x - x_low) / (x_high - x_low or 1) * (WIDTH - LEFT - RIGHT)

    def row(y):
        return top + TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    for y in choose_ticks(y_low, y_high):
        yield (f'<path d="M{LEFT} {row(y):.1f}H{WIDTH - RIGHT}" stroke="#888" '
               f'stroke-opacity="0.3"/><text x="{LEFT - 8}" y="{row(y) + 4:.1f}" '
               f'text-anchor="end">{y:.10g}</text>')
    for t in choose_ticks(x_low, x_high):
        yield (f'<text x="{column(t):.1f}" y="{top + HEIGHT - 8}" text-anchor="middle">{t:.10g}'
               "</text>")
    yield (f'<text x="{WIDTH - RIGHT}" y="{top + HEIGHT + 8}" text-anchor="end">'
           f'{html.escape(label)}</text><clipPath id="panel{i}"><rect x="{LEFT}" y="{top + TOP}" '
           f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/></clipPath>')
    for j, (name, y) in enumerate(curves.items()):
        points = " ".join(f"{column(a):.1f},{row(b):.1f}" for a, b in zip(x, y) if math.isfinite(b))
        colour, at = COLOURS[j % len(COLOURS)], LEFT + 130 * j
        yield (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5" '
               f'clip-path="url(#panel{i})"/>'
               f'<path d="M{at} {top + 16}h18" stroke="{colour}" stroke-width="3"/>'
               f'<text x="{at + 24}" y="{top + 20}">{html.escape(name)}</text>')


def choose_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers from `low` to `high` for the ticks of an axis, at most about + 1.

    They are all multiples in that range of a step that is 1, 2 or 5 times a power of ten. If the
    range is empty, not finite, or smaller than 1e-8 of its larger end, the only tick is `low`: the
    ten digits of the labels would not tell more ticks apart.
    """
    if not 1e-8 * max(abs(low), abs(high)) < high - low < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(s * power for s in (1, 2, 5, 10) if (high - low) / (s * power) <= about)
    rounded = [float(f"{k * step:.12g}")        # in floats, 3 * 0.1 is not 0.3
               for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return list(dict.fromkeys(rounded))
