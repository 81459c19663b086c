"""Inspection: what a data set holds, as numbers, bars and pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from data_makers import coins, digit_rows, disc, row_from
from PIL import Image

import rankreward as rr
from rankreward.datasets.inspection import (
    BOX,
    IGNORED,
    MASK,
    POINT,
    contact_sheet,
    inspect,
    plot_distributions,
)
from rankreward.datasets.rows import Row, encode_mask

mpl.use("Agg")
import matplotlib.pyplot as plt


def _coin_row() -> Row:
    image, masks = coins()
    return row_from("coins", Image.fromarray(image), "all coins", masks)


def test_numbers_are_those_of_plain_counting() -> None:
    """Objects, shares and strata are what one counts by hand over the same rows."""
    rows = [*digit_rows(40), _coin_row()]
    found = inspect(iter(rows), show=4)
    assert found.objects.tolist() == [len(row) for row in rows]
    shares = [
        (x2 - x1) * (y2 - y1) / (row.width * row.height)
        for row in rows
        for x1, y1, x2, y2 in row.boxes.tolist()
    ]
    assert np.allclose(found.shares, shares)
    assert found.strata["count"] == Counter(row.strata["count"] for row in rows)
    numbers = found.numbers()
    assert numbers["rows"] == 41
    assert numbers["no-target rows"] == sum(not len(row) for row in rows) > 0
    assert numbers["objects"] == sum(len(row) for row in rows)
    assert numbers["objects a row, most"] == 24
    assert numbers["box area share, median"] == pytest.approx(np.median(shares))


def test_no_box_is_nan() -> None:
    """A set of no-target rows has no box share, and says so."""
    rows = [row for row in digit_rows(60) if not len(row)]
    assert np.isnan(inspect(rows).numbers()["box area share, median"])


def test_the_sheet_draws_what_the_row_holds() -> None:
    """Box, point, mask rim and the rims of ignored and void pixels are in their colours and places."""
    mask, aside = disc(320, 320, 100, 120, 50), disc(320, 320, 250, 250, 30)
    row = row_from("x", Image.new("RGB", (320, 320)), "the disc", [mask])
    ignored, void = (
        np.asarray(contact_sheet([replace(row, **{name: encode_mask(aside)})], tile=320))  # type: ignore[arg-type]
        for name in ("ignore", "void")
    )
    np.testing.assert_array_equal(ignored, void)
    sheet = ignored
    assert sheet.shape == (360, 320, 3)
    picture = sheet[40:]

    def places(colour: Any) -> Any:
        ys, xs = np.nonzero((picture == colour).all(axis=2))
        return xs.min(), ys.min(), xs.max(), ys.max()

    assert places(BOX) == (50, 70, 150, 170)
    assert places(IGNORED) == (220, 220, 280, 280)
    assert np.abs(np.array(places(POINT)) - [97, 117, 103, 123]).max() <= 1
    rim = (picture == MASK).all(axis=2)
    assert rim.sum() > 100
    assert not rim[~mask].any()
    assert (sheet[:40] != 255).any()  # the query


def test_the_sheet_takes_any_size() -> None:
    """Wide and tall images, no boxes, no query, and boxes that leave the image fit on a sheet."""
    wide = row_from("wide", Image.new("RGB", (400, 20)), "", [])
    tall = row_from(
        "tall", Image.new("L", (3, 900)), "a very long query " * 30, [disc(900, 3, 1, 400, 2)]
    )
    out = replace(_coin_row(), boxes=_coin_row().boxes + 500)
    assert contact_sheet([wide, tall, out], columns=2, tile=100).size == (200, 280)
    for broken in ({"rows": []}, {"rows": [wide], "columns": 0}, {"rows": [wide], "tile": 10}):
        with pytest.raises(rr.InputError, match="contact_sheet"):
            contact_sheet(**broken)  # type: ignore[arg-type]


def test_the_choice_is_seeded_and_fair() -> None:
    """The same seed shows the same rows; each row is shown about as often as any other."""
    rows = digit_rows(6)
    assert np.array_equal(
        np.asarray(inspect(rows, show=2).sheet), np.asarray(inspect(rows, show=2).sheet)
    )
    colours = [
        replace(row_from(str(i), Image.new("RGB", (64, 64), (40 * i, 7, 9)), "x", []))
        for i in range(6)
    ]
    counts = np.zeros(6)
    for seed in range(300):
        sheet = np.asarray(inspect(colours, show=2, tile=64, seed=seed).sheet)
        for column in (32, 96):
            counts[sheet[60, column, 0] // 40] += 1
    assert counts.sum() == 600
    assert np.abs(counts - 100).max() < 40  # four standard deviations


def test_bars_are_the_counts() -> None:
    """The axes given by the caller get the counts: rows by objects, boxes by share, rows by stratum."""
    rows = [*digit_rows(30), _coin_row()]
    found = inspect(rows)
    figure, axes = plt.subplots(1, 3)
    plot_distributions(axes, found, "count")
    heights = [bar.get_height() for bar in axes[0].patches]
    assert heights == np.bincount([len(row) for row in rows]).tolist()
    assert sum(bar.get_height() for bar in axes[1].patches) == sum(len(row) for row in rows)
    names = [label.get_text() for label in axes[2].get_yticklabels()]
    assert (
        dict(zip(names, [bar.get_width() for bar in axes[2].patches], strict=True))
        == found.strata["count"]
    )
    for few, stratum in ((axes[:2], "count"), (axes, "colour"), (axes[:1], None)):
        with pytest.raises(rr.InputError, match="plot_distributions"):
            plot_distributions(few, found, stratum)
    plt.close(figure)


def test_bad_arguments_raise() -> None:
    """No rows, and nothing to show, are errors."""
    with pytest.raises(rr.InputError, match="at least one"):
        inspect([])
    with pytest.raises(rr.InputError, match="show"):
        inspect(digit_rows(1), show=0)


def test_progress_sees_every_row() -> None:
    """`progress` wraps the loop over rows."""
    seen: list[str] = []
    inspect(digit_rows(3), progress=lambda rows: (seen.append(r.id) or r for r in rows))
    assert len(seen) == 3
