"""Charts on a matplotlib axis.

Goes in: a `Chart` and an axis. Comes out: matplotlib artists. Needs the extra ``report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankreward.errors import InputError
from rankreward.report.chart import Chart, bold_values, running_mean, shows_faint, smoothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HUES = ("#0060a8", "#b84a00", "#00755a", "#a8287a", "#7d6000", "#565656")
DASHES = ("-", (0, (4, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)))


def draw(ax: Axes, chart: Chart) -> None:
    """Draw a chart.

    Args:
        ax: the axis to draw on.
        chart: what to draw.

    Raises:
        InputError: it has no lines.
    """
    if not chart.lines:
        raise InputError(f"run: expected figures for {chart.title!r}, got none in its log")
    {"areas": _areas, "ecdfs": _ecdfs}.get(chart.kind, _curves)(ax, chart)
    ax.set_title(chart.title, fontsize="medium", loc="left", parse_math=False)
    ax.set_xlabel(chart.x_label)
    if chart.x_label == "step":
        ax.locator_params("x", integer=True)
    ax.set_ylabel(chart.y_label)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    legend = ax.legend(fontsize="small", framealpha=0.8, ncols=1 + len(chart.lines) // 5)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names are no formulas


def _label(name: str) -> str:
    """The name; matplotlib would leave out one that begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def _curves(ax: Axes, chart: Chart) -> None:
    for place, line in enumerate(chart.lines):
        color, dash = HUES[place % len(HUES)], DASHES[place % len(DASHES)]
        if shows_faint(chart):
            ax.plot(line.x, line.y, color=color, alpha=0.25, linewidth=0.8)
        marker = "o" if len(line.x) == 1 else ""
        mean = bold_values(chart, line)
        ax.plot(line.x, mean, color=color, linestyle=dash, marker=marker, label=_label(line.name))


def _areas(ax: Axes, chart: Chart) -> None:
    floor = np.zeros(len(chart.lines[0].x))
    for place, line in enumerate(chart.lines):
        color, dash = HUES[place % len(HUES)], DASHES[place % len(DASHES)]
        top = floor + running_mean(line.y, smoothing(len(line.y)))
        ax.fill_between(line.x, floor, top, color=color, alpha=0.3, linewidth=0)
        ax.plot(line.x, top, color=color, linestyle=dash, label=_label(line.name))
        floor = top
    ax.set_ylim(0.0, 1.0)


def _ecdfs(ax: Axes, chart: Chart) -> None:
    from matplotlib import colormaps

    shades = colormaps["Blues"](np.linspace(0.4, 1.0, len(chart.lines))[::-1])[::-1]
    for place, line in enumerate(chart.lines):
        x, y = np.concatenate([line.x[:1], line.x]), np.concatenate([[0.0], line.y])
        width = 1.0 + 1.2 * (place + 1) / len(chart.lines)
        ax.step(x, y, where="post", color=shades[place], linewidth=width, label=_label(line.name))
    ax.set_ylim(0.0, 1.02)
