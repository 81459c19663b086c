"""Plots draw what they are given, and refuse what they cannot draw."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes

import rankreward as rr
from rankreward import report

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_curves_show_values_and_their_running_mean(ax: Axes) -> None:
    """Each key has its raw line and the mean of its last entries; gaps are left out."""
    log = [{"step": k, "a": float(k), "b": {2: None, 3: np.nan}.get(k, 1.0)} for k in range(1, 6)]
    log.append({"a": 7.0})
    report.plot_curves(ax, log, ["a", "b"], smooth=2)
    mean, raw, flat, _ = ax.lines
    assert raw.get_ydata().tolist() == [1, 2, 3, 4, 5]
    assert mean.get_ydata().tolist() == [1, 1.5, 2.5, 3.5, 4.5]
    assert flat.get_xdata().tolist() == [1, 4, 5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_ecdf_is_the_rank(ax: Axes) -> None:
    """The height of the curve at a value is the rank that the service gives it."""
    column = np.array([0.0, 0.0, 0.5, 1.0, np.nan])
    report.plot_ecdf(ax, column, "step 1")
    x, y = ax.lines[0].get_data()
    service = rr.QuantileService(("a",), window=8, warm_start=0)
    service.push(column[:, None])
    service.flush(1)
    for value in (0.0, 0.5, 1.0):
        assert max(y[x == value]) == service.rank([value])[0]


def test_contact_sheet_draws_every_box() -> None:
    """One column an image, one row a policy; an unreadable answer says so."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    box = np.array([[1.0, 2.0, 4.0, 6.0]])
    figure = report.contact_sheet(
        [image, image],
        ["all 7s", "all 8s"],
        [box, box],
        {"before": [None, box], "after": [box, box]},
    )
    drawn = [len(ax.patches) for ax in figure.axes]
    assert drawn == [1, 2, 2, 2]
    assert figure.axes[0].get_xlabel() == "not readable"
    rectangle = figure.axes[0].patches[0]
    assert rectangle.get_xy() == (0.5, 1.5)
    assert (rectangle.get_width(), rectangle.get_height()) == (3.0, 4.0)
    plt.close(figure)


def test_nothing_to_draw_is_an_error(ax: Axes) -> None:
    """An empty plot would look like a result."""
    with pytest.raises(rr.InputError, match="log: expected entries with 'step' and 'c', got none"):
        report.plot_curves(ax, [{"step": 1, "a": 1.0}], ["c"])
    with pytest.raises(rr.InputError, match="smooth: expected at least 1"):
        report.plot_curves(ax, [], [], smooth=0)
    with pytest.raises(rr.InputError, match="values: expected at least one value"):
        report.plot_ecdf(ax, [np.nan], "x")
    with pytest.raises(rr.InputError, match="contact_sheet: expected n images"):
        report.contact_sheet([], [], [], {})
