"""Numbers to curves: an SVG file, which a browser shows at any size."""

import html
import math

import numpy as np

from ..files import replaced

# each readable on white and on black
COLOURS, GREY = ("#3b82f6", "#f97316", "#22a06b", "#b35cc4"), "#7d8590"
WIDTH, HEIGHT = 720, 220        # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 30, 26               # its margins


def save_curves(path, x, panels, label="step"):
    """Save an SVG of `panels`, one below the other, each a dict {name: y values} of at most four
    curves over x; on a transparent ground, for light and dark pages.

    A panel reaches from the 1st to the 99th percentile of its values, a little more, so that a few
    extremes do not flatten the rest; what is beyond is cut off. NaN and infinities are left out.
    Raises OSError if the file cannot be written.
    """
    height = len(panels) * HEIGHT + 14
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" '
             f'fill="{GREY}">']
    for i, curves in enumerate(panels):
        parts += _panel(np.asarray(x, float), curves, i, label if i + 1 == len(panels) else "")
    with replaced(path) as file:
        file.write("\n".join([*parts, "</svg>", ""]).encode())


def _panel(x, curves, i, label):
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

    for y in ticks(y_low, y_high):
        yield (f'<path d="M{LEFT} {row(y):.1f}H{WIDTH - RIGHT}" stroke="#888" stroke-opacity=".3"/>'
               f'<text x="{LEFT - 8}" y="{row(y) + 4:.1f}" text-anchor="end">{y:.10g}</text>')
    for t in ticks(x_low, x_high):
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


def ticks(low, high, about=5):
    """Round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten, of which
    about as many as asked for lie there."""
    if not 0 < high - low < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(s * power for s in (1, 2, 5, 10) if (high - low) / (s * power) <= about)
    rounded = [float(f"{k * step:.12g}")        # .1 + .2 is not .3
               for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return list(dict.fromkeys(rounded))
