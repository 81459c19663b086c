"""A chart as plain numbers with names.

Goes in: nothing. Comes out: the records that `rankreward.report.run_charts` makes, and that
`rankreward.report.run_svg` draws on a page and `rankreward.report.run_axes` on an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST = 12  # lines in one chart
POINTS = 240  # of one line
NAMED = 20  # of what is not drawn


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart.

    Attributes:
        name: what the legend calls it.
        x: (n,) float64, rising: steps, or the values of a distribution.
        y: (n,) float64.
    """

    name: str
    x: Floats
    y: Floats


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart, whatever draws it.

    Attributes:
        title: what it shows.
        about: what to look for in it.
        lines: at most `MOST`.
        kind: ``"curves"``, drawn as running means; ``"counts"``, as they are;
            ``"areas"``, shares of a whole stacked on
            one another, which all have the same `x`; or ``"ecdfs"``, in order of their steps.
        x_label: what the lower axis says.
        y_label: what the left axis says.
        left_out: the names of further lines, which are not drawn.
    """

    title: str
    about: str
    lines: tuple[Line, ...]
    kind: Literal["curves", "counts", "areas", "ecdfs"] = "curves"
    x_label: str = "step"
    y_label: str = ""
    left_out: tuple[str, ...] = ()


def not_drawn(names: Sequence[str]) -> str:
    """What to say of lines or charts that there is no room for; of many names only the first."""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} more not drawn: {', '.join(names[:NAMED])}{more}" if names else ""


def running_mean(values: Floats, count: int) -> Floats:
    """(n,) the mean of each value and those up to `count` - 1 before it."""
    # each window by itself: a running sum would carry a spike's rounding along
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, (count - 1, 0)), count)
    return np.asarray(windows.sum(axis=1) / np.minimum(np.arange(1, len(values) + 1), count))


def bold_values(chart: Chart, line: Line) -> Floats:
    """(n,) what a line is drawn as: its running mean, or what it counts."""
    return line.y if chart.kind == "counts" else running_mean(line.y, smoothing(len(line.y)))


def shows_faint(chart: Chart) -> bool:
    """Whether lines are drawn as logged, too: more than three would hide the means."""
    return chart.kind == "curves" and len(chart.lines) <= 3


def smoothing(count: int) -> int:
    """How many entries of so many make a running mean: 10, or a fiftieth of many up to 200."""
    return min(max(10, count // 50), 200)


def thinned(x: Floats, y: Floats, most: int = POINTS) -> tuple[Floats, Floats]:
    """At most so many points, each the mean of neighbours; the line keeps its ends in `x`."""
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most + 1).round().astype(int)[:-1]
    sizes = np.diff([*edges, len(x)])
    means = [np.add.reduceat(values, edges) / sizes for values in (x, y)]
    means[0][0], means[0][-1] = x[0], x[-1]
    return means[0], means[1]
