"""Curves: the SVG is parsed, its axes are inverted, and the numbers must come out again."""

import math
import random
import xml.etree.ElementTree

import numpy as np
import pytest

from tinygan.runs.plot import save_curves, ticks

pytestmark = pytest.mark.host

SVG = "{http://www.w3.org/2000/svg}"


class Axis:
    """The mapping from a position in the picture to a value, from ticks [(position, value)]."""

    def __init__(self, marks):
        (p, a), (q, b) = min(marks), max(marks)
        self.per_pixel = (b - a) / (q - p)
        self.value = lambda position: a + (position - p) * self.per_pixel
        # 0.1 pixel: positions have one digit after the point, here and at both ends
        assert all(abs(self.value(position) - value) <= 0.1 * abs(self.per_pixel)
                   for position, value in marks)


class Panel:
    """What a panel shows: its rectangle (left, top, right, bottom), ticks [(position, value)],
    names, and for each curve its points in pixels."""

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
        for element in root:            # a line across the panel, then its label
            if element.get("text-anchor") == "end" and previous.get("d", "").startswith("M"):
                row, end = map(float, previous.get("d").split()[1].split("H"))
                assert end == left + width
                if top <= row <= top + height:
                    assert abs(float(element.get("y")) - row) < 10      # beside it
                    self.y_ticks.append((row, float(element.text)))
            previous = element
        # as one reads it: larger is higher, and further to the right
        assert self.x_ticks == sorted(self.x_ticks, key=lambda tick: tick[1])
        assert sorted(self.y_ticks) == sorted(self.y_ticks, key=lambda tick: -tick[1])

    def values(self):
        """For each curve its points (x, y), and by how much they may be off."""
        x, y = Axis(self.x_ticks), Axis(self.y_ticks)
        # 0.05 pixel for each position; what two ticks are off grows beyond them, at most fourfold:
        # there are two ticks at least, and less than two steps beyond them
        return ([[(x.value(p), y.value(q)) for p, q in points] for points in self.points],
                (0.5 * abs(x.per_pixel), 0.5 * abs(y.per_pixel)))


def panels(path):
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == SVG + "svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    for text in root.iter(SVG + "text"):
        assert 0 < float(text.get("x")) <= float(root.get("width"))
        assert 0 < float(text.get("y")) <= float(root.get("height"))
    return [Panel(root, clip) for clip in root.iter(SVG + "clipPath")]


def texts(path):
    return [text.text for text in xml.etree.ElementTree.parse(path).iter(SVG + "text")]


def drawn(folder, x, curves, **kwargs):
    """The one panel of these curves."""
    save_curves(folder / "a.svg", x, [curves], **kwargs)
    panel, = panels(folder / "a.svg")
    return panel


def close(found, x, y, off):
    return len(found) == len(x) and all(
        abs(a - b) <= off[0] and abs(c - d) <= off[1] for (a, c), b, d in zip(found, x, y))


@pytest.mark.parametrize("x", [np.arange(50), np.arange(0, 100_000, 2000), np.linspace(-3, 9, 50),
                               np.linspace(-9, -3, 50), np.linspace(0, 0.03, 50)])
@pytest.mark.parametrize("scale, shift", [(1, 0), (1, 10), (1e-12, 0), (1e12, 0), (3e-5, -1e-4),
                                          (0.02, 0.7), (1e300, 0), (1e-300, 0)])
def test_points_are_the_numbers(tmp_path, x, scale, shift):
    curves = {"a": scale * np.sin(x / 7) + shift, "b": scale * np.cos(x / 3) + shift}
    panel = drawn(tmp_path, x, curves)
    found, off = panel.values()
    assert panel.names == list(curves) and len(found) == 2
    assert all(close(points, x, y, off) for points, y in zip(found, curves.values()))
    left, top, right, bottom = panel.box
    points = np.concatenate(panel.points)
    # nothing is near enough to extreme to be cut off, and the curves use most of the panel
    assert points[:, 0].min() >= left and points[:, 0].max() == right
    assert top <= points[:, 1].min() < points[:, 1].max() <= bottom
    assert np.ptp(points[:, 1]) > 0.7 * (bottom - top)
    assert 2 <= len(panel.x_ticks) <= 6 and 2 <= len(panel.y_ticks) <= 6


def test_powers_of_ten_change_the_labels_alone(tmp_path):
    y = np.sin(np.arange(40))
    base = drawn(tmp_path, range(40), {"a": y})
    for power in -300, -12, 3, 12, 300:
        panel = drawn(tmp_path, range(40), {"a": y * 10.0 ** power})
        # one digit after the point, which rounding to either side may change by one
        assert np.allclose(panel.points[0], base.points[0], rtol=0, atol=0.11)
        assert [value for _, value in panel.y_ticks] == pytest.approx(
            [value * 10.0 ** power for _, value in base.y_ticks], rel=1e-5)     # labels: 6 digits


def test_panels_lie_below_each_other(tmp_path):
    x, path = np.arange(30), tmp_path / "a.svg"
    several = [{"D": np.sin(x), "G": np.cos(x)}, {"q": x * 1e3}, {"z": -x / 1e3}]
    save_curves(str(path), x, several, label="iteration")
    found = panels(path)
    assert [panel.names for panel in found] == [["D", "G"], ["q"], ["z"]]
    for panel, curves in zip(found, several):
        points, off = panel.values()
        assert all(close(p, x, y, off) for p, y in zip(points, curves.values()))
    for above, below in zip(found, found[1:]):
        assert above.box[3] < below.box[1] and above.box[::2] == below.box[::2]
    assert texts(path).count("iteration") == 1
    save_curves(path, x, several)
    assert texts(path).count("step") == 1 and "iteration" not in texts(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]


def test_curves_differ_in_colour(tmp_path):
    panel = drawn(tmp_path, [0, 1], {name: [0, 1] for name in "abcd"})
    colours = [line.get("stroke") for line in panel.lines]
    assert len(set(colours)) == 4 and all(line.get("fill") == "none" for line in panel.lines)
    root = xml.etree.ElementTree.parse(tmp_path / "a.svg").getroot()
    keys = [(before.get("stroke"), text.text) for before, text in zip(root, list(root)[1:])
            if text.tag == SVG + "text" and text.get("text-anchor") is None]
    assert keys == list(zip(colours, "abcd"))       # in the legend too
    columns = [float(text.get("x")) for text in root.iter(SVG + "text") if text.text in "abcd"]
    assert min(np.diff(columns)) > 50               # where there is room for each name


def test_steps_begin_at_0(tmp_path):
    """Also after those that came first were left out."""
    panel = drawn(tmp_path, range(100, 200), {"a": np.arange(100)})
    assert panel.x_ticks[0] == (panel.box[0], 0)


@pytest.mark.parametrize("name", ["a<b&c", '"quoted"', "it's", "</svg>", "<!--", "&amp;", "∇D"])
def test_names_are_escaped(tmp_path, name):
    panel = drawn(tmp_path, [0, 1], {name: [0, 1], "other": [1, 0]}, label=name)
    assert panel.names == [name, "other"]
    assert texts(tmp_path / "a.svg").count(name) == 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(tmp_path, wrong):
    x, y = np.arange(20), np.sin(np.arange(20))
    y[[0, 5, 6, 19]] = wrong
    keep = np.isfinite(y)
    panel = drawn(tmp_path, x, {"a": y, "never": [wrong] * 20, "b": np.cos(x)})
    found, off = panel.values()
    assert close(found[0], x[keep], y[keep], off) and close(found[2], x, np.cos(x), off)
    assert found[1] == []
    nothing = drawn(tmp_path, x, {"a": [wrong] * 20})
    assert len(nothing.points[0]) == 0 and len(nothing.y_ticks) >= 2


def test_lists_and_whole_numbers(tmp_path):
    found, off = drawn(tmp_path, [0, 10, 20], {"a": [1, 2, 4]}).values()
    assert close(found[0], [0, 10, 20], [1, 2, 4], off)


@pytest.mark.parametrize("x, y", [([], []), (np.zeros(0), np.zeros(0)), ([], [math.nan])])
def test_no_data(tmp_path, x, y):
    panel = drawn(tmp_path, x, {"a": y, "b": []})
    assert panel.names == ["a", "b"] and [len(points) for points in panel.points] == [0, 0]


@pytest.mark.parametrize("x", [0, 1, 12345])
@pytest.mark.parametrize("y", [0.0, -2.5, 1e-12, 3e4])
def test_one_point(tmp_path, x, y):
    panel = drawn(tmp_path, [x], {"a": [y]})
    left, top, right, bottom = panel.box
    (column, row), = panel.points[0]
    assert left <= column <= right and row == pytest.approx((top + bottom) / 2, abs=0.1)
    axis = Axis(panel.y_ticks)
    assert abs(axis.value(row) - y) <= 0.5 * abs(axis.per_pixel)
    assert (column, x) in panel.x_ticks or x == 12345   # the latter is no round number


@pytest.mark.parametrize("value", [0.0, 0.693, -1e-12, 1234.5, 1e16])
def test_constant_data(tmp_path, value):
    panel = drawn(tmp_path, range(10), {"a": [value] * 10})
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
    panel = drawn(tmp_path, x, {"a": y})
    left, top, right, bottom = panel.box
    rows = panel.points[0][:, 1]
    assert len(rows) == 1000
    assert np.ptp(rows[usual]) > 0.7 * (bottom - top)
    assert top <= rows[usual].min() and rows[usual].max() <= bottom
    assert ((rows[~usual] < top) | (rows[~usual] > bottom)).all()       # so cut off
    found, off = panel.values()
    assert close([found[0][i] for i in x[usual]], x[usual], y[usual], off)


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        save_curves(tmp_path / "absent" / "a.svg", [0, 1], [{"a": [0, 1]}])
    drawn(tmp_path, [0, 1], {"a": [0, 1]})
    old = (tmp_path / "a.svg").read_bytes()

    def fail(*args):
        raise OSError("no space left")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        drawn(tmp_path, [0, 1], {"b": [1, 0]})
    assert (tmp_path / "a.svg").read_bytes() == old and len(list(tmp_path.iterdir())) == 1


# Ticks

def is_round(number):
    """Whether it is 1, 2 or 5 times a power of ten."""
    mantissa = float(f"{number:e}".split("e")[0])
    return min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


def check_ticks(low, high, about=5):
    found = ticks(low, high, about)
    assert all(type(tick) is float for tick in found)
    steps = np.diff(found)
    # ticks have 12 digits, of which a step between large ones loses some
    error = 1e-11 * max(abs(low), abs(high))
    # the next smaller step gives more ticks than asked for, and is at most 2.5 times smaller
    assert math.floor(about / 2.5) <= len(found) <= about + 1
    assert low - error <= found[0] and found[-1] <= high + error
    assert steps.min() > 0 and np.ptp(steps) <= 2 * error
    if error < 1e-7 * steps[0]:
        assert is_round(steps[0])
    assert all(abs(tick / steps[0] - round(tick / steps[0])) < 1e-6 + error / steps[0] * max(
        1, abs(tick / steps[0])) for tick in found)
    # no more of them would have fitted in
    assert found[0] - steps[0] < low + error and found[-1] + steps[0] > high - error


def test_ticks_of_thousands_of_ranges():
    draw = random.Random(0)
    for _ in range(4000):
        width = 10 ** draw.uniform(-300, 300)
        # from ranges about 0 to those 10,000 times narrower than they are far from it
        low = draw.choice([0, -width, -width * draw.random(),
                           draw.choice([-1, 1]) * width * 10 ** draw.uniform(-2, 4)])
        check_ticks(low, low + width)


@pytest.mark.parametrize("low, high, expected", [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 5, [0, 1, 2, 3, 4, 5]), (0.05, 0.35, [0.1, 0.2, 0.3]),
    (-1, 1, [-1, -0.5, 0, 0.5, 1]), (0, 3900, [0, 1000, 2000, 3000]), (7, 7, [7])])
def test_ticks_are_what_one_would_write(low, high, expected):
    assert ticks(low, high) == expected


def test_more_or_fewer_ticks():
    draw = random.Random(1)
    for about in 5, 8, 20:
        for _ in range(200):
            low = draw.uniform(-10, 10)
            check_ticks(low, low + 10 ** draw.uniform(-3, 3), about)
