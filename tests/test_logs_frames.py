"""A log in another frame than the recipe's is noticed."""

from __future__ import annotations

from typing import Any

import pytest

import rankreward as rr
from rankreward.logs import BadRow, LogRow
from rankreward.logs.frames import LOOKED_AT, watch_frame

CUP = '[{"bbox_2d": [10, 12.5, 80, 84], "point_2d": [40, 40]}]'


def rows(reference: Any, count: int) -> list[LogRow | BadRow]:
    return [LogRow(f"log:{place}", 1, None, "text", reference) for place in range(count)]


@pytest.mark.parametrize("count", [1, LOOKED_AT, 2 * LOOKED_AT])
def test_small_references_are_told_once(count: int) -> None:
    """Boxes within a tenth of the frame bring one line, however long the log is, and no row is lost."""
    said: list[str] = []
    given = [*rows(CUP, count), BadRow("log:x", "no JSON")]
    assert list(watch_frame(given, rr.Recipe.load("dr_seg"), said.append)) == given
    (line,) = said
    assert f"the first {min(count, LOOKED_AT)} references reach to 84" in line
    assert "--frame" in line


@pytest.mark.parametrize(
    ("recipe", "reference"),
    [
        (rr.Recipe.load("dr_seg").resized(84), CUP),
        (rr.Recipe.load("dr_seg"), CUP.replace("84", "600")),
        (rr.Recipe.load("dr_seg"), "[]"),
        (rr.Recipe.load("genseg_r1"), CUP),
        (rr.Recipe.load("grpo_care"), "B"),
    ],
    ids=["its own frame", "one large box", "nothing to find", "a grid", "texts"],
)
def test_others_bring_no_word(recipe: rr.Recipe, reference: str) -> None:
    """References that reach far, that are empty, or whose recipe has no pixels are none to speak of."""
    said: list[str] = []
    assert len(list(watch_frame(rows(reference, 300), recipe, said.append))) == 300
    assert said == []
