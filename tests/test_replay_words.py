"""What a replay says: its tables, and its paragraphs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from test_replay import TWO, log

from rankreward.replay.agreement import PAIR
from rankreward.replay.contestants import read_contestants
from rankreward.replay.replaying import Replayed, replay
from rankreward.replay.sums import Measured
from rankreward.replay.tables import detail_sheets, overview_sheet, pairs_sheet, sheets, verdict


def test_tables_and_words_hold_the_measures() -> None:
    """A table has a line for each measure, and the paragraph says its numbers."""
    found = replay(log(12, groups=2), read_contestants([*TWO, "dr_seg+kind=zscore"]))
    tables = sheets(found)
    assert len(tables["agreement"].rows) == 3 * 11
    lines = {(row[0], row[1], row[2]): row[3] for row in tables["agreement"].rows}
    assert lines[(*TWO, "spearman")] == found.get("spearman", *TWO).value
    shares = [row for row in tables["terms"].rows if row[0] == "dr_seg" and row[2] == "within"]
    assert sum(row[3] for row in shares) == pytest.approx(1)
    assert {sheet.title for sheet in detail_sheets(found)} >= {"dr_seg against vision_reasoner"}
    said = " ".join(verdict(found))
    assert "96 rollouts in 24 groups of 12 steps were paid by 3 recipes" in said
    dead = found.get("no_signal", "vision_reasoner").value
    assert f"{dead:.0%} from vision_reasoner" in said or f"{100 * dead:.1f}%" in said
    near = found.get("correlation", *TWO)
    assert f"correlate at {near.value:.2f} ({near.low:.2f} to {near.high:.2f})" in said


def test_words_where_a_recipe_gives_no_signal() -> None:
    """A recipe that pays all alike is said to, and nothing undefined becomes a number."""
    dead = "dr_seg+accuracy.weight=0+terms={flat: {kind: blocks, weight: 0}}"
    found = replay(log(3), read_contestants(["dr_seg", dead]))
    assert found.get("no_signal", found.labels[1]).value == 1
    assert math.isnan(found.get("spearman", *found.pairs[0]).value)
    said = " ".join(verdict(found))
    assert "100% from dr_seg+weight=0" in said
    silent = found.labels[1]
    assert f"Of dr_seg and {silent} {silent} gives no signal, so that they cannot" in said
    assert "nan" not in said


def test_words_where_neither_recipe_gives_a_signal() -> None:
    """Of two recipes that both pay all alike it is not said that one does."""
    dead = "dr_seg+accuracy.weight=0+terms={flat: {kind: blocks, weight: 0}}"
    found = replay(log(3), read_contestants([dead, f"{dead}+window=512"]))
    said = verdict(found)[-1]
    assert said.startswith("Neither dr_seg+weight=0")
    assert said.endswith("gives a signal, so that they cannot be compared.")


def told(
    labels: Sequence[str],
    correlations: Sequence[float] = (),
    shares: dict[str, float] | None = None,
    thirds: tuple[float, float, float] = (0.2, 0.2, 0.2),
) -> Replayed:
    """A replay of which only what is said matters; intervals are of no width."""
    nan = (math.nan,) * 3
    measures = []
    for label in labels:
        measures += [Measured((label,), "reward", 1.0, 1.0, 1.0, 8, nan)]
        measures += [Measured((label,), "no_signal", 0.2, math.nan, math.nan, 8, thirds)]
        for name, value in (shares or {}).items():
            measures += [Measured((label,), f"advantage/{name}", value, value, value, 8, nan)]
    found = Replayed(tuple(labels), 9, 64, 8, 0, [], measures, [])
    for pair, value in zip(found.pairs, correlations or [0.5] * 99, strict=False):
        known = dict.fromkeys(PAIR, 0.5) | {"correlation": value}
        measures += [Measured(pair, name, each, each, each, 8, nan) for name, each in known.items()]
    return found


def test_terms_that_work_against_the_others_are_named() -> None:
    """Shares below 0 are said; where there is none, there are no such words."""
    shares = {"iou": 0.65, "look": -0.05, "count": 0.1, "point": -0.2, "think": -0.0001}
    found = told(["a", "b"], shares=shares)
    assert (
        "a's advantages are driven 65% by iou and 10% by count; against it: point -20%, look -5.0%."
    ) in verdict(found)
    cells = overview_sheet(found).rows[0]
    assert cells[-1] == "iou 65%, count 10%; against it: point -20%, look -5.0%"
    assert "against" not in " ".join(verdict(told(["a", "b"], shares={"iou": 0.6, "look": 0.4})))


def test_of_many_pairs_the_two_ends_are_told() -> None:
    """The pair that agrees least and the one that agrees most, whatever lies between."""
    values = [0.4, 0.9, math.nan, 0.3, 0.6, 0.5]
    said = [line for line in verdict(told("abcd", values)) if "correlate" in line]
    assert [line[:37] for line in said] == [
        "The advantages of b and c correlate a",
        "The advantages of a and c correlate a",
    ]


@pytest.mark.parametrize(
    ("thirds", "said"),
    [
        ((0.4, 0.2, 0.1), "From a it is 40% in the first third of the steps and 10% in the last"),
        ((0.1, 0.2, 0.4), "From a it is 10% in the first third of the steps and 40% in the last"),
        ((0.2, 0.6, 0.22), ""),
    ],
)
def test_a_share_that_moves_is_told_either_way(
    thirds: tuple[float, float, float], said: str
) -> None:
    """What falls over a run is said as what rises is; what ends where it began is not."""
    counted = verdict(told("ab", thirds=thirds))[0]
    assert said in counted
    assert ("first third" in counted) == bool(said)


def test_no_interval_is_a_dash() -> None:
    """Tables say of a value without an interval that it has none."""
    found = replay(log(3), read_contestants(TWO))
    assert overview_sheet(found).rows[0][2].endswith("% (-)")
    assert pairs_sheet(found).rows[0][1].endswith(" (-)")
    assert "nan" not in " ".join(verdict(found))
