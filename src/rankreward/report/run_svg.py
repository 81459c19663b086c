"""Charts as inline SVG, drawn in the page's own colours.

Goes in: a `Chart`. Comes out: a ``figure`` with its title, what to look for, the drawing, a legend
and the numbers. Colours are the style's, by class, so that one drawing serves both themes; each
line has a dash of its own besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rankreward.report.chart import (
    Chart,
    Line,
    bold_values,
    not_drawn,
    running_mean,
    shows_faint,
    smoothing,
    thinned,
)
from rankreward.report.frame import table, visible
from rankreward.tables import Sheet

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 28, 40
HUES, DASHES, HEIGHTS = 6, 4, 6  # how many of each the style has
COLUMNS = 40  # that say their numbers when pointed at
SIGNS = 8  # of a number beside the left axis
ROUNDING, TINY = 1e-9, 1e-300  # distances that are none: relative, absolute


def figure(chart: Chart, place: int) -> str:
    """The chart as HTML.

    Args:
        chart: what to draw; one without lines gives an empty text.
        place: a number that no other chart of the page has.
    """
    if not chart.lines:
        return ""
    draw = {"curves": _curves, "counts": _curves, "areas": _areas, "ecdfs": _ecdfs}[chart.kind]
    said = f"{chart.about} {not_drawn(chart.left_out)}".strip()
    about = f'<p id="about-{place}" class="about">{_text(said)}</p>'
    said = f'aria-labelledby="chart-{place}" aria-describedby="about-{place}"'
    return (
        f'<figure class="chart"><figcaption><h3 id="chart-{place}">{_text(chart.title)}</h3>'
        f'{about}</figcaption>\n<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {said}>'
        f"{draw(chart)}</svg>\n{_legend(chart)}"
        f"<details><summary>Numbers</summary>{table(numbers(chart))}</details></figure>"
    )


def numbers(chart: Chart) -> Sheet:
    """What the chart shows, as a table."""
    if chart.kind == "ecdfs":
        levels = (0.1, 0.25, 0.5, 0.75, 0.9)
        rows = tuple(
            (line.name, *(_quantile(line, each) for each in levels)) for line in chart.lines
        )
        return Sheet(visible(chart.title), ("window", *(f"{each:.0%}" for each in levels)), rows)
    rows = tuple(
        (visible(line.name), *ends(line.y), *map(float, (line.y.min(), line.y.max(), line.y[-1])))
        for line in chart.lines
    )
    header = ("line", "first tenth", "last tenth", "lowest", "highest", "last")
    return Sheet(visible(chart.title), header, rows)


def ends(values: Floats) -> tuple[float, float]:
    """The means of the first and the last tenth of values, at least one each."""
    tenth = max(len(values) // 10, 1)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


def _quantile(line: Line, level: float) -> float:
    """The least value that at least this share is not above."""
    return float(line.x[np.searchsorted(line.y, level - 1e-12)])


class _Scale:
    """Values to pixels; steps are whole."""

    def __init__(
        self, low: float, high: float, begin: float, end: float, *, whole: bool = False
    ) -> None:
        # a mean of equal values differs from them by its rounding, which is nothing to draw
        same = 0.0 if whole else max(ROUNDING * max(abs(low), abs(high)), TINY)
        if high - low <= same:
            around = abs(low) / 10 if abs(low) > TINY else 0.5
            low, high = low - around, high + around
        self.low, self.high, self.begin, self.end, self.whole = low, high, begin, end, whole

    def __call__(self, values: Floats) -> Floats:
        # halves first: the distance of two huge numbers is beyond every float
        share = (values / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return np.asarray(self.begin + share * (self.end - self.begin))

    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers within the scale, about five, and how to write each."""
        rough = (self.high / 2 - self.low / 2) / 2.5
        rough = max(rough, 1.0) if self.whole else rough
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next((each for each in (1, 2, 5) if power * each >= rough), 10)
        first = math.ceil(self.low / step - 1e-6)
        last = math.floor(self.high / step + 1e-6)
        values = [place * step for place in range(first, min(last, first + 11) + 1)]
        low, high = self.low - 1e-6 * step, self.high + 1e-6 * step
        return [(value, _number(value, step)) for value in values if low <= value <= high]


def _axes(chart: Chart, x: _Scale, y: _Scale) -> str:
    """The grid, its numbers, and what the axes say."""
    parts = []
    for value, name in y.ticks():
        at = float(y(np.array(value)))
        narrow = f' textLength="{LEFT - 8}" lengthAdjust="spacingAndGlyphs"' * (len(name) > SIGNS)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="end"{narrow}>{name}</text>')
    for value, name in x.ticks():
        at = float(x(np.array(value)))
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" class="mid">{name}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" class="mid">{_text(chart.x_label)}</text>')
    parts.append(f'<text x="4" y="13">{_text(chart.y_label)}</text>')
    return "".join(parts)


def _number(value: float, step: float) -> str:
    """A number with the decimals that tell it from others that are a step away."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(step) + 1e-9)
    plain = f"{value:.{max(-power, 0)}f}" if abs(value) < 10.0**SIGNS else ""
    if 0 < len(plain) <= SIGNS:
        return plain
    digits = max(math.floor(math.log10(abs(value)) + 1e-9) - power, 0)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _scales(
    xs: Sequence[Floats], low: float, high: float, *, whole: bool = True
) -> tuple[_Scale, _Scale]:
    left, right = min(float(x.min()) for x in xs), max(float(x.max()) for x in xs)
    across = _Scale(left, right, LEFT, WIDTH - RIGHT, whole=whole)
    return across, _Scale(low, high, HEIGHT - BOTTOM, TOP)


def _curves(chart: Chart) -> str:
    """Each line's running mean, and faintly as it was logged."""
    bold = [thinned(line.x, bold_values(chart, line)) for line in chart.lines]
    faint = [thinned(line.x, line.y) for line in chart.lines] if shows_faint(chart) else []
    low = min(float(y.min()) for _, y in bold + faint)
    high = max(float(y.max()) for _, y in bold + faint)
    if 0 <= low < 0.4 * high:
        low = 0.0
    x, y = _scales([line.x for line in chart.lines], low, high)
    drawn = [_axes(chart, x, y)]
    for place, points in enumerate(faint):
        drawn.append(f'<path class="faint {_style(place)}" d="{_path(points, x, y)}"/>')
    for place, points in enumerate(bold):
        drawn.append(f'<path class="line {_style(place)}" d="{_path(points, x, y)}"/>')
        if len(points[0]) == 1:
            at = float(x(points[0])[0]), float(y(points[1])[0])
            drawn.append(
                f'<circle class="{_style(place)}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4"/>'
            )
    return "".join(drawn) + _pointed(chart, x)


def _areas(chart: Chart) -> str:
    """Shares stacked on one another, each with its name where there is room."""
    steps, shares = chart.lines[0].x, [line.y for line in chart.lines]
    if len(steps) == 1:  # a single step is as wide as the chart
        steps, shares = steps + np.array([-0.5, 0.5]), [share.repeat(2) for share in shares]
    x, y = _scales([steps], 0.0, 1.0)
    drawn, names, floor = list[str](), list[str](), np.zeros(1)
    for place, (line, share) in enumerate(zip(chart.lines, shares, strict=True)):
        at, thickness = thinned(steps, running_mean(share, smoothing(len(steps))))
        floor = np.broadcast_to(floor, at.shape)
        top = floor + thickness
        back = _path((at[::-1], floor[::-1]), x, y).replace("M", "L", 1)
        drawn.append(f'<path class="area {_style(place)}" d="{_path((at, top), x, y)}{back}Z"/>')
        drawn.append(f'<path class="line {_style(place)}" d="{_path((at, top), x, y)}"/>')
        names.append(_area_name(line.name, (at, floor, top), x, y))
        floor = top
    return _axes(chart, x, y) + "".join([*drawn, *names]) + _pointed(chart, x)


def _area_name(name: str, area: tuple[Floats, Floats, Floats], x: _Scale, y: _Scale) -> str:
    """The name of an area where that is thickest."""
    at, floor, top = area
    inner = slice(len(at) // 8, len(at) - len(at) // 8)
    widest = inner.start + int((top - floor)[inner].argmax())
    if top[widest] - floor[widest] < 0.09:
        return ""
    across = float(np.clip(x(at[widest : widest + 1])[0], LEFT + 60, WIDTH - RIGHT - 60))
    down = float(y((top[widest : widest + 1] + floor[widest : widest + 1]) / 2)[0]) + 4
    return f'<text x="{across:.1f}" y="{down:.1f}" class="mid name">{_text(_short(name))}</text>'


def _ecdfs(chart: Chart) -> str:
    """Steps that rise to 1, the oldest palest."""
    x, y = _scales([line.x for line in chart.lines], 0.0, 1.0, whole=False)
    drawn = [_axes(chart, x, y)]
    for place, line in enumerate(chart.lines):
        across, up = x(line.x), y(line.y)
        steps = "".join(f"H{a:.1f}V{b:.1f}" for a, b in zip(across, up, strict=True))
        path = f"M{LEFT} {HEIGHT - BOTTOM}{steps}H{WIDTH - RIGHT}"
        drawn.append(f'<path class="line {_age(place, len(chart.lines))}" d="{path}"/>')
    return "".join(drawn)


def _path(points: tuple[Floats, Floats], x: _Scale, y: _Scale) -> str:
    pairs = zip(x(points[0]).tolist(), y(points[1]).tolist(), strict=True)
    return "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in pairs)


def _pointed(chart: Chart, x: _Scale) -> str:
    """Columns that say their numbers when pointed at."""
    steps = np.unique(np.concatenate([line.x for line in chart.lines]))
    edges = np.linspace(0, len(steps), min(COLUMNS, len(steps)) + 1).round().astype(int)
    bounds = [LEFT, *((x(steps[edges[1:-1] - 1]) + x(steps[edges[1:-1]])) / 2), WIDTH - RIGHT]
    columns = []
    for place, (begin, end) in enumerate(pairwise(edges)):
        first, last = steps[begin], steps[end - 1]
        said = [f"step {first:.0f}" if first == last else f"steps {first:.0f} to {last:.0f}"]
        for line in chart.lines:
            values = line.y[(line.x >= first) & (line.x <= last)]
            said += [f"{visible(line.name)}: {values.mean():.4g}"] if len(values) else []
        columns.append(
            f'<rect x="{bounds[place]:.1f}" y="{TOP}" '
            f'width="{max(bounds[place + 1] - bounds[place], 0.1):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(chr(10).join(said))}</title></rect>'
        )
    return f'<g class="pointed">{"".join(columns)}</g>'


def _legend(chart: Chart) -> str:
    if len(chart.lines) == 1 and chart.lines[0].name in chart.title.lower():
        return ""
    count = len(chart.lines)
    style: Callable[[int], str] = (
        (lambda place: _age(place, count)) if chart.kind == "ecdfs" else _style
    )
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 34 10" aria-hidden="true">'
        f'<path class="line {style(place)}" d="M1 5H33"/></svg>{_text(line.name)}</li>'
        for place, line in enumerate(chart.lines)
    )
    return f'<ul class="keys">{items}</ul>'


def _style(place: int) -> str:
    return f"c{place % HUES} d{place % DASHES}"


def _age(place: int, count: int) -> str:
    """The newest is always the strongest, however many there are."""
    return f"q{place + HEIGHTS - min(count, HEIGHTS)}"


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _text(text: str) -> str:
    return escape(visible(text))
