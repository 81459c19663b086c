"""Plots of a training run, drawn on an axis that the caller gives.

Goes in: a trainer's log, a window's rows, or images with boxes. Comes out: matplotlib artists.
Needs the extra ``report``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_COLOR = "#2ca02c"
PREDICTION_COLOR = "#ff7f0e"


def plot_curves(
    ax: Axes, log: Sequence[Mapping[str, Any]], keys: Sequence[str], *, smooth: int = 10
) -> None:
    """Draw logged values over steps: each as it came, faintly, and its running mean.

    Args:
        ax: the axis to draw on.
        log: entries with ``step`` and values by key, such as `trainer.state.log_history`; an
            entry without a key, or with NaN in it, is left out of that key's curve.
        keys: which values to draw.
        smooth: entries in the running mean, at least 1.

    Raises:
        InputError: no entry holds a key, or `smooth` is below 1.
    """
    if smooth < 1:
        raise InputError(f"smooth: expected at least 1, got {smooth}")
    for key in keys:
        points = [
            (entry["step"], entry[key])
            for entry in log
            if "step" in entry and entry.get(key) is not None and not np.isnan(entry[key])
        ]
        if not points:
            raise InputError(f"log: expected entries with 'step' and {key!r}, got none")
        steps, values = np.array(points, dtype=np.float64).T
        mean = [values[max(k - smooth, 0) : k].mean() for k in range(1, len(values) + 1)]
        (line,) = ax.plot(steps, mean, label=key.removeprefix("rankreward/"))
        ax.plot(steps, values, color=line.get_color(), alpha=0.2, linewidth=1)
    ax.set_xlabel("step")
    ax.legend(fontsize="small")
    ax.grid(alpha=0.3)


def plot_ecdf(ax: Axes, values: ArrayLike, label: str) -> None:
    """Draw the empirical distribution of one metric's window: the rank that each value earns.

    Args:
        ax: the axis to draw on.
        values: (n,) float64, a column of `QuantileService.rows`; NaN is left out.
        label: what the legend calls it, such as ``"step 100"``.

    Raises:
        InputError: no value is left.
    """
    column = np.asarray(values, dtype=np.float64)
    column = column[~np.isnan(column)]
    if not len(column):
        raise InputError("values: expected at least one value that is not NaN, got none")
    ax.ecdf(column, label=label)
    ax.set_xlabel("value")
    ax.set_ylabel("rank (share of the window <= value)")
    ax.set_ylim(0.0, 1.02)
    ax.legend(fontsize="small")
    ax.grid(alpha=0.3)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    titles: Sequence[str],
    references: Sequence[NDArray[np.float64]],
    rows: Mapping[str, Sequence[NDArray[np.float64] | None]],
) -> Figure:
    """Images side by side, one column an image and one row a policy, with reference and answer.

    Args:
        images: n images, (H, W, 3) uint8.
        titles: n texts, such as the queries.
        references: n arrays (K, 4), xyxy, in pixels, drawn dashed.
        rows: row title to n arrays (K, 4) of predicted boxes, or None for an answer that could
            not be read.

    Returns:
        A new figure, which the caller saves and closes.

    Raises:
        InputError: the lengths differ, or there is nothing to draw.
    """
    lengths = {len(images), len(titles), len(references), *(len(row) for row in rows.values())}
    if len(lengths) != 1 or lengths == {0} or not rows:
        raise InputError(
            f"contact_sheet: expected n images, titles, references and boxes a row, got {lengths}"
        )
    plt = require("matplotlib.pyplot", extra="report")
    count = len(images)
    figure, axes = plt.subplots(
        len(rows), count, figsize=(1.5 * count, 1.75 * len(rows)), squeeze=False
    )
    for line, (name, boxes) in zip(axes, rows.items(), strict=True):
        for ax, image, reference, found in zip(line, images, references, boxes, strict=True):
            ax.imshow(image)
            ax.set_xticks([])
            ax.set_yticks([])
            _draw_boxes(ax, reference, REFERENCE_COLOR, "--")
            if found is None:
                ax.set_xlabel("not readable", fontsize=7)
            else:
                _draw_boxes(ax, found, PREDICTION_COLOR, "-")
        line[0].set_ylabel(name)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=7)
    figure.suptitle("dashed green: reference, orange: answer", fontsize=8)
    figure.tight_layout()
    return figure  # type: ignore[no-any-return]


def _draw_boxes(ax: Axes, boxes: NDArray[np.float64], color: str, style: str) -> None:
    from matplotlib.patches import Rectangle

    for x1, y1, x2, y2 in boxes:
        # imshow puts the centre of pixel 0 at 0, so that its left edge is at -0.5
        corner, width, height = (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linestyle=style))
