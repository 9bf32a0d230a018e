"""Tests of runs/plot.py: the numbers are recovered from the curves and the axes of the SVG."""

import math
import random
import xml.etree.ElementTree

import numpy as np
import pytest

from tinygan.runs.plot import choose_ticks, save_curves

pytestmark = pytest.mark.host

SVG = "{http://www.w3.org/2000/svg}"


class Axis:
    """The map from a position in the picture to a value, given ticks [(position, value)]."""

    def __init__(self, ticks):
        (p, a), (q, b) = min(ticks), max(ticks)
        self.per_pixel = (b - a) / (q - p)
        self.value = lambda position: a + (position - p) * self.per_pixel
        # 0.1 pixel: the positions of this tick and of the two at the ends are rounded to 0.1
        assert all(abs(self.value(position) - value) <= 0.1 * abs(self.per_pixel)
                   for position, value in ticks)


class Panel:
    """A panel of the SVG.

    box               its rectangle, (left, top, right, bottom)
    x_ticks, y_ticks  [(position, value)]
    names             the names of the curves
    points            for each curve its points in pixels
    """

    def __init__(self, root, clip):
        left, top, width, height = (float(clip[0].get(key))
                                    for key in ("x", "y", "width", "height"))
        self.box = left, top, left + width, top + height
        self.lines = [line for line in root.iter(SVG + "polyline")
                      if line.get("clip-path") == f"url(#{clip.get('id')})"]
        self.points = [np.array([list(map(float, point.split(",")))
                                 for point in line.get("points").split()]).reshape(-1, 2)
                       for line in self.lines]
        self.x_ticks, self.y_ticks, self.names = [], [], []
        for text in root.iter(SVG + "text"):
            x, y = float(text.get("x")), float(text.get("y"))
            if text.get("text-anchor") == "middle" and 0 < y - self.box[3] < 30:
                self.x_ticks.append((x, float(text.text)))
            elif text.get("text-anchor") is None and 0 < top - y < 30:
                self.names.append(text.text)
        previous = None
        for element in root:            # a tick is a line across the panel, followed by its label
            if element.get("text-anchor") == "end" and previous.get("d", "").startswith("M"):
                row, end = map(float, previous.get("d").split()[1].split("H"))
                assert end == left + width
                if top <= row <= top + height:
                    assert abs(float(element.get("y")) - row) < 10      # the label is beside it
                    self.y_ticks.append((row, float(element.text)))
            previous = element
        # larger values are higher, and further to the right
        assert self.x_ticks == sorted(self.x_ticks, key=lambda tick: tick[1])
        assert sorted(self.y_ticks) == sorted(self.y_ticks, key=lambda tick: -tick[1])

    def values(self):
        """Return the points (x, y) of each curve, and the largest errors of x and y."""
        x, y = Axis(self.x_ticks), Axis(self.y_ticks)
        # A position has an error of 0.05 pixel. The errors of two ticks grow by at most a factor of
        # 4 outside them: there are at least two ticks, and less than two tick steps outside them.
        return ([[(x.value(p), y.value(q)) for p, q in points] for points in self.points],
                (0.5 * abs(x.per_pixel), 0.5 * abs(y.per_pixel)))


def read_panels(path):
    """Return the Panels of an SVG file."""
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == SVG + "svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    for text in root.iter(SVG + "text"):
        assert 0 < float(text.get("x")) <= float(root.get("width"))
        assert 0 < float(text.get("y")) <= float(root.get("height"))
    return [Panel(root, clip) for clip in root.iter(SVG + "clipPath")]


def read_texts(path):
    """Return the list of the texts in an SVG file."""
    return [text.text for text in xml.etree.ElementTree.parse(path).iter(SVG + "text")]


def draw_panel(folder, x, curves, **kwargs):
    """Draw curves in one panel and return the Panel."""
    save_curves(folder / "a.svg", x, [curves], **kwargs)
    panel, = read_panels(folder / "a.svg")
    return panel


def is_close(found, x, y, off):
    """Return whether the points `found` are (x, y) up to the errors `off`."""
    return len(found) == len(x) and all(
        abs(a - b) <= off[0] and abs(c - d) <= off[1] for (a, c), b, d in zip(found, x, y))


@pytest.mark.parametrize("x", [np.arange(50), np.arange(0, 100_000, 2000), np.linspace(-3, 9, 50),
                               np.linspace(-9, -3, 50), np.linspace(0, 0.03, 50)])
@pytest.mark.parametrize("scale, shift", [(1, 0), (1, 10), (1e-12, 0), (1e12, 0), (3e-5, -1e-4),
                                          (0.02, 0.7), (1e300, 0), (1e-300, 0)])
def test_the_points_have_the_values_of_the_data(tmp_path, x, scale, shift):
    curves = {"a": scale * np.sin(x / 7) + shift, "b": scale * np.cos(x / 3) + shift}
    panel = draw_panel(tmp_path, x, curves)
    found, off = panel.values()
    assert panel.names == list(curves) and len(found) == 2
    assert all(is_close(points, x, y, off) for points, y in zip(found, curves.values()))
    left, top, right, bottom = panel.box
    points = np.concatenate(panel.points)
    # no value is cut off as an extreme one, and the curves use most of the panel
    assert points[:, 0].min() >= left and points[:, 0].max() == right
    assert top <= points[:, 1].min() < points[:, 1].max() <= bottom
    assert np.ptp(points[:, 1]) > 0.7 * (bottom - top)
    assert 2 <= len(panel.x_ticks) <= 6 and 2 <= len(panel.y_ticks) <= 6


def test_powers_of_ten_change_only_the_labels(tmp_path):
    y = np.sin(np.arange(40))
    base = draw_panel(tmp_path, range(40), {"a": y})
    for power in -300, -12, 3, 12, 300:
        panel = draw_panel(tmp_path, range(40), {"a": y * 10.0 ** power})
        # positions are rounded to 0.1, and may be rounded in the other direction
        assert np.allclose(panel.points[0], base.points[0], rtol=0, atol=0.11)
        assert [value for _, value in panel.y_ticks] == pytest.approx(
            [value * 10.0 ** power for _, value in base.y_ticks], rel=1e-5)     # labels: 6 digits


def test_panels_lie_below_each_other(tmp_path):
    x, path = np.arange(30), tmp_path / "a.svg"
    several = [{"D": np.sin(x), "G": np.cos(x)}, {"q": x * 1e3}, {"z": -x / 1e3}]
    save_curves(str(path), x, several, label="iteration")
    found = read_panels(path)
    assert [panel.names for panel in found] == [["D", "G"], ["q"], ["z"]]
    for panel, curves in zip(found, several):
        points, off = panel.values()
        assert all(is_close(p, x, y, off) for p, y in zip(points, curves.values()))
    for above, below in zip(found, found[1:]):
        assert above.box[3] < below.box[1] and above.box[::2] == below.box[::2]
    assert read_texts(path).count("iteration") == 1
    save_curves(path, x, several)
    assert read_texts(path).count("step") == 1 and "iteration" not in read_texts(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]


def test_curves_differ_in_colour(tmp_path):
    panel = draw_panel(tmp_path, [0, 1], {name: [0, 1] for name in "abcd"})
    colours = [line.get("stroke") for line in panel.lines]
    assert len(set(colours)) == 4 and all(line.get("fill") == "none" for line in panel.lines)
    root = xml.etree.ElementTree.parse(tmp_path / "a.svg").getroot()
    keys = [(before.get("stroke"), text.text) for before, text in zip(root, list(root)[1:])
            if text.tag == SVG + "text" and text.get("text-anchor") is None]
    assert keys == list(zip(colours, "abcd"))       # in the legend too
    columns = [float(text.get("x")) for text in root.iter(SVG + "text") if text.text in "abcd"]
    assert min(np.diff(columns)) > 50               # there is room for each name


def test_the_x_axis_begins_at_0(tmp_path):
    """The x axis begins at 0, also if the data begins later."""
    panel = draw_panel(tmp_path, range(100, 200), {"a": np.arange(100)})
    assert panel.x_ticks[0] == (panel.box[0], 0)


@pytest.mark.parametrize("name", ["a<b&c", '"quoted"', "it's", "</svg>", "<!--", "&amp;", "∇D"])
def test_names_are_escaped(tmp_path, name):
    panel = draw_panel(tmp_path, [0, 1], {name: [0, 1], "other": [1, 0]}, label=name)
    assert panel.names == [name, "other"]
    assert read_texts(tmp_path / "a.svg").count(name) == 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_left_out(tmp_path, wrong):
    x, y = np.arange(20), np.sin(np.arange(20))
    y[[0, 5, 6, 19]] = wrong
    keep = np.isfinite(y)
    panel = draw_panel(tmp_path, x, {"a": y, "never": [wrong] * 20, "b": np.cos(x)})
    found, off = panel.values()
    assert is_close(found[0], x[keep], y[keep], off) and is_close(found[2], x, np.cos(x), off)
    assert found[1] == []
    nothing = draw_panel(tmp_path, x, {"a": [wrong] * 20})
    assert len(nothing.points[0]) == 0 and len(nothing.y_ticks) >= 2


def test_lists_and_whole_numbers(tmp_path):
    found, off = draw_panel(tmp_path, [0, 10, 20], {"a": [1, 2, 4]}).values()
    assert is_close(found[0], [0, 10, 20], [1, 2, 4], off)


def test_a_curve_of_another_length_than_x_is_refused(tmp_path):
    for y in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=f"'b' has {len(y)} values, but x has 3"):
            draw_panel(tmp_path, [0, 10, 20], {"a": [1, 2, 4], "b": y})


@pytest.mark.parametrize("x", [[0, math.nan, 2], [0, 1, math.inf]])
def test_an_x_that_is_not_finite_is_refused(tmp_path, x):
    with pytest.raises(ValueError, match="finite numbers x"):
        draw_panel(tmp_path, x, {"a": [1, 2, 4]})


def test_a_panel_has_curves(tmp_path):
    with pytest.raises(ValueError, match="at least one curve"):
        save_curves(tmp_path / "a.svg", [0, 1], [{"a": [1, 2]}, {}])


@pytest.mark.parametrize("x, y", [([], []), (np.zeros(0), np.zeros(0)), ([5], [math.nan])])
def test_curves_without_data(tmp_path, x, y):
    panel = draw_panel(tmp_path, x, {"a": y, "b": y})
    assert panel.names == ["a", "b"] and [len(points) for points in panel.points] == [0, 0]


@pytest.mark.parametrize("x", [0, 1, 12345])
@pytest.mark.parametrize("y", [0.0, -2.5, 1e-12, 3e4])
def test_one_point(tmp_path, x, y):
    panel = draw_panel(tmp_path, [x], {"a": [y]})
    left, top, right, bottom = panel.box
    (column, row), = panel.points[0]
    assert left <= column <= right and row == pytest.approx((top + bottom) / 2, abs=0.1)
    axis = Axis(panel.y_ticks)
    assert abs(axis.value(row) - y) <= 0.5 * abs(axis.per_pixel)
    assert (column, x) in panel.x_ticks or x == 12345   # 12345 is no tick: it is not round


@pytest.mark.parametrize("value", [0.0, 0.693, -1e-12, 1234.5, 1e16])
def test_constant_data(tmp_path, value):
    panel = draw_panel(tmp_path, range(10), {"a": [value] * 10})
    _, top, _, bottom = panel.box
    assert np.allclose(panel.points[0][:, 1], (top + bottom) / 2, atol=0.1)
    assert np.ptp(panel.points[0][:, 0]) > 600 and len(panel.y_ticks) >= 2
    axis = Axis(panel.y_ticks)
    assert abs(axis.value((top + bottom) / 2) - value) <= 0.5 * abs(axis.per_pixel)


@pytest.mark.parametrize("extreme", [1e3, -1e6, 1e12])
def test_a_few_extremes_do_not_flatten_the_rest(tmp_path, extreme):
    x = np.arange(1000)
    y = np.sin(x / 50)
    y[[3, 400, 401, 800, 999]] = extreme
    usual = abs(y) <= 1
    panel = draw_panel(tmp_path, x, {"a": y})
    left, top, right, bottom = panel.box
    rows = panel.points[0][:, 1]
    assert len(rows) == 1000
    assert np.ptp(rows[usual]) > 0.7 * (bottom - top)
    assert top <= rows[usual].min() and rows[usual].max() <= bottom
    assert ((rows[~usual] < top) | (rows[~usual] > bottom)).all()       # outside: cut off
    found, off = panel.values()
    assert is_close([found[0][i] for i in x[usual]], x[usual], y[usual], off)


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        save_curves(tmp_path / "absent" / "a.svg", [0, 1], [{"a": [0, 1]}])
    draw_panel(tmp_path, [0, 1], {"a": [0, 1]})
    old = (tmp_path / "a.svg").read_bytes()

    def fail(*args):
        raise OSError("no space left")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        draw_panel(tmp_path, [0, 1], {"b": [1, 0]})
    assert (tmp_path / "a.svg").read_bytes() == old and len(list(tmp_path.iterdir())) == 1


# Ticks

def is_round(number):
    """Return whether a number is 1, 2 or 5 times a power of ten."""
    mantissa = float(f"{number:e}".split("e")[0])
    return min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


def check_ticks(low, high, about=5):
    """Assert that the ticks are round, evenly spaced, and about as many as asked for."""
    found = choose_ticks(low, high, about)
    assert all(type(tick) is float for tick in found)
    steps = np.diff(found)
    # ticks have 12 digits, so the difference of two large ticks has fewer correct digits
    error = 1e-11 * max(abs(low), abs(high))
    # the next smaller step, at most 2.5 times smaller, would give more ticks than asked for
    assert math.floor(about / 2.5) <= len(found) <= about + 1
    assert low - error <= found[0] and found[-1] <= high + error
    assert steps.min() > 0 and np.ptp(steps) <= 2 * error
    if error < 1e-7 * steps[0]:
        assert is_round(steps[0])
    assert all(abs(tick / steps[0] - round(tick / steps[0])) < 1e-6 + error / steps[0] * max(
        1, abs(tick / steps[0])) for tick in found)
    # there is no room for another tick at either end
    assert found[0] - steps[0] < low + error and found[-1] + steps[0] > high - error


def test_ticks_of_thousands_of_ranges():
    draw = random.Random(0)
    for _ in range(4000):
        width = 10 ** draw.uniform(-300, 300)
        # ranges around 0, and ranges whose distance from 0 is up to 10,000 times their width
        low = draw.choice([0, -width, -width * draw.random(),
                           draw.choice([-1, 1]) * width * 10 ** draw.uniform(-2, 4)])
        check_ticks(low, low + width)


@pytest.mark.parametrize("low, high, expected", [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 5, [0, 1, 2, 3, 4, 5]), (0.05, 0.35, [0.1, 0.2, 0.3]),
    (-1, 1, [-1, -0.5, 0, 0.5, 1]), (0, 3900, [0, 1000, 2000, 3000]), (7, 7, [7]),
    (1 + 1e-9, 1 + 3e-9, [1 + 1e-9]), (123456789012345, 123456789012349, [123456789012345]),
    (100, 100 + 2e-6, [100 + k * 5e-7 for k in range(5)])])
def test_ticks_of_simple_ranges(low, high, expected):
    assert choose_ticks(low, high) == expected


def test_more_or_fewer_ticks():
    draw = random.Random(1)
    for about in 5, 8, 20:
        for _ in range(200):
            low = draw.uniform(-10, 10)
            check_ticks(low, low + 10 ** draw.uniform(-3, 3), about)
