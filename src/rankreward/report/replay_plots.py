"""Plots of a replay, drawn on an axis that the caller gives.

Goes in: shares and correlations by recipe, or a `Replayed`. Comes out: matplotlib artists, or one
picture of them all. Needs the extra ``report``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankreward.errors import InputError, require
from rankreward.replay.replaying import Replayed
from rankreward.replay.tables import correlations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 0.7  # of a bar
_DARK = 0.6  # a correlation whose cell wants white letters


def plot_shares(ax: Axes, shares: Mapping[str, Mapping[str, float]]) -> None:
    """Draw what each recipe's reward is driven by: a stacked bar a recipe.

    Args:
        ax: the axis to draw on.
        shares: recipe to term to its share; shares below 0 go to the left of 0, NaN is left out.
            A term has one colour in all recipes.

    Raises:
        InputError: there is no recipe.
    """
    if not shares:
        raise InputError("shares: expected at least one recipe, got none")
    names = list(dict.fromkeys(name for terms in shares.values() for name in terms))
    right, left = np.zeros(len(shares)), np.zeros(len(shares))
    for place, name in enumerate(names):
        values = np.array([terms.get(name, 0.0) for terms in shares.values()])
        values = np.nan_to_num(values, nan=0.0)
        start = np.where(values < 0, left, right)
        color = f"C{place}" if place < 10 else str(0.2 + 0.6 * (place % 10) / 10)
        ax.barh(range(len(shares)), values, _WIDTH, left=start, label=name, color=color)
        right, left = right + np.maximum(values, 0), left + np.minimum(values, 0)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("share of what drives the advantages")
    ax.legend(fontsize="small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))


def plot_correlations(ax: Axes, labels: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """Draw a matrix of correlations with its numbers.

    Args:
        ax: the axis to draw on.
        labels: C names.
        values: (C, C), in [-1, 1], NaN where undefined.

    Raises:
        InputError: the shape is another.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != (len(labels), len(labels)):
        raise InputError(
            f"values: expected shape ({len(labels)}, {len(labels)}), got {matrix.shape}"
        )
    ax.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu")
    for (row, column), value in np.ndenumerate(matrix):
        text, color = f"{value:.2f}", "white" if abs(value) > _DARK else "black"
        ax.text(
            column, row, "-" if math.isnan(value) else text, color=color, ha="center", va="center"
        )
    ax.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    ax.set_yticks(range(len(labels)), labels)


def plot_dead_groups(ax: Axes, shares: Mapping[str, tuple[float, float, float]]) -> None:
    """Draw the share of groups that get no signal: a bar a recipe, with its interval.

    Args:
        ax: the axis to draw on.
        shares: recipe to its share and the ends of its interval, NaN where there is none.

    Raises:
        InputError: there is no recipe.
    """
    if not shares:
        raise InputError("shares: expected at least one recipe, got none")
    for place, (value, low, high) in enumerate(shares.values()):
        ends = None if math.isnan(low) else [[max(value - low, 0)], [max(high - value, 0)]]
        ax.barh(place, value, _WIDTH, xerr=ends, color="0.6", capsize=3)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of groups without a signal")


def write_plots(file: Path, found: Replayed) -> None:
    """Write one picture of a replay: shares, correlations, and groups without a signal.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figures = require("matplotlib.figure", extra="report")
    count = len(found.labels)
    figure = figures.Figure(figsize=(9, 5 + 1.1 * count), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    terms = {label: found.of("advantage", label) for label in found.labels}
    values = {label: {k: each.value for k, each in of.items()} for label, of in terms.items()}
    plot_shares(figure.add_subplot(grid[0, :]), values)
    matrix = figure.add_subplot(grid[1, 0])
    matrix.set_title("rank correlation of rewards", fontsize="medium")
    plot_correlations(matrix, found.labels, correlations(found))
    dead = {label: found.get("no_signal", label) for label in found.labels}
    ends = {label: (each.value, each.low, each.high) for label, each in dead.items()}
    plot_dead_groups(figure.add_subplot(grid[1, 1]), ends)
    part = file.with_name(f".{file.name}.part")  # a write that is cut short leaves no picture
    figure.savefig(part, dpi=120, format="png")
    part.replace(file)
