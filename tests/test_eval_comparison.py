"""Comparisons: paired, over what both runs have, against a slow loop."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_makers import SCENES, answers, run, write

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.evaluation.comparison import Difference


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    policies = [ev.StoredPolicy(write(folder / f"{s}.answers", answers(s))) for s in (0, 1)]
    return tuple(run(folder / str(s), policy).parent for s, policy in enumerate(policies))


def test_differences_are_those_of_a_slow_loop(runs: tuple[Path, Path]) -> None:
    """Every difference is of the two values; the interval of a mean is a bootstrap's of pairs."""
    found = ev.compare_files(*runs, "lisa", resamples=4000)
    before, after = (ev.measures_of(ev.merge(r), ev.PROTOCOLS["lisa"]) for r in runs)
    shared = 0
    for row in found.rows:
        values = before[row.measure].value, after[row.measure].value
        sides = before[row.measure], after[row.measure]
        if all(isinstance(each, ev.Ratio) and set(each.bottom) <= {0, 1} for each in sides):
            both = [bool(a and b) for a, b in zip(*(each.bottom for each in sides), strict=True)]
            shared += sum(both) < min(sum(each.bottom) for each in sides)
            tops = [[t for t, ok in zip(each.top, both, strict=True) if ok] for each in sides]
            values = tuple(sum(top) / len(top) if top else float("nan") for top in tops)
            if sides[0].root:
                values = tuple(value**0.5 for value in values)
        assert found.values["all", row.measure] == pytest.approx(values, nan_ok=True)
        assert row.interval.value == pytest.approx(values[1] - values[0], nan_ok=True)
    rows = {row.measure: row for row in found.rows}
    pairs = list(zip(*(ev.merge(r) for r in runs), strict=True))
    change = np.array([(b["failure"] is None) - (a["failure"] is None) for a, b in pairs], float)
    rng = np.random.default_rng(5)
    means = [change[rng.integers(0, len(change), len(change))].mean() for _ in range(4000)]
    interval = rows["parsable answers"].interval
    assert interval.value == pytest.approx(change.mean())
    assert interval.low == pytest.approx(np.percentile(means, 2.5), abs=0.05)
    assert interval.high == pytest.approx(np.percentile(means, 97.5), abs=0.05)
    assert interval.low < interval.high
    assert shared  # some mean is over fewer samples than either run defines it for
    one = ev.difference(before["cIoU"], after["cIoU"], paired=True, resamples=4000)
    assert rows["cIoU"].interval == one


def test_a_run_differs_from_itself_by_nothing(runs: tuple[Path, Path]) -> None:
    """All differences and their intervals are 0, and no sample changed."""
    found = ev.compare_files(runs[0], runs[0], "seg_zero", resamples=50)
    for row in found.rows:
        assert row.interval.value == 0.0 or np.isnan(row.interval.value)
        assert row.interval.low == 0.0 or np.isnan(row.interval.low)
    assert found.changes == []


def test_samples_that_one_run_has_alone_are_counted(runs: tuple[Path, Path]) -> None:
    """Errors and samples of one run alone enter no difference."""
    before, after = (ev.merge(r) for r in runs)
    after[0] = {"id": "scene-0", "place": 0, "stage": "policy", "error": "E: e"}
    found = ev.compare_records(before[:20], after[:22], "lisa", resamples=20)
    assert (found.both, found.alone) == (19, (1, 2))
    expected = ev.compare_records(before[1:20], after[1:20], "lisa", resamples=20)
    assert found.rows == expected.rows
    with pytest.raises(rr.InputError, match="none that both judged, of 3 and 2"):
        ev.compare_records(before[:3], after[5:7], "lisa")


def test_the_samples_that_changed_most(runs: tuple[Path, Path]) -> None:
    """Ranked by how much their IoU changed, with both completions."""
    found = ev.compare_files(*runs, "lisa", most=5, resamples=20)
    before, after = (ev.merge(r) for r in runs)

    def iou(record: dict[str, Any]) -> float:
        pixels = record["pixels"]
        union = pixels["both"] + pixels["extra"] + pixels["missed"]
        empty = pixels["both"] + pixels["missed"] == 0
        return pixels["both"] / union if union else float(empty)

    deltas = {a["id"]: iou(b) - iou(a) for a, b in zip(before, after, strict=True)}
    order = sorted(deltas, key=lambda name: -abs(deltas[name]))[:5]
    assert [change.id for change in found.changes] == order
    assert found.score == "gIoU"
    for change in found.changes:
        assert change.delta == pytest.approx(deltas[change.id])
        place = int(change.id.removeprefix("scene-"))
        texts = before[place]["completion"], after[place]["completion"]
        assert change.completions == texts
    boxes = [[{**r, "pixels": None} for r in side] for side in (before, after)]
    assert ev.compare_records(*boxes, "lisa", resamples=20).score == "mean box IoU"


def test_runs_on_other_data_are_refused(runs: tuple[Path, Path]) -> None:
    """The same name with another reference is another sample."""
    before, after = (ev.merge(r) for r in runs)
    after[4] = {**after[4], "reference_boxes": [[0, 0, 1, 1]]}
    with pytest.raises(rr.InputError, match="same data, sample 'scene-4' differs in reference_box"):
        ev.compare_records(before, after, "lisa")


def test_a_comparison_by_stratum_and_as_text(runs: tuple[Path, Path]) -> None:
    """Strata have their own differences, and CSV and plain values hold them."""
    found = ev.compare_files(*runs, "lisa", by="count", resamples=50)
    rows = list(csv.DictReader(io.StringIO(found.sheet().csv())))
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert len(rows) == len(found.rows) == len(plain["rows"])
    assert {row["stratum"] for row in rows} == {"0", "1", "2"}
    part = [[r for r in ev.merge(run) if r["strata"]["count"] == "1"] for run in runs]
    alone = {r.measure: r.interval for r in ev.compare_records(*part, "lisa", resamples=50).rows}
    for row, text in zip(found.rows, rows, strict=True):
        if row.stratum == "1":
            assert row.interval.value == pytest.approx(alone[row.measure].value, nan_ok=True)
            shown = float(text["after"]) - float(text["before"]) if text["after"] else None
            expected = float(text["difference"]) if text["difference"] else None
            assert shown == pytest.approx(expected) if expected is not None else shown is None
    assert plain["changes"][0]["delta"] == found.changes[0].delta
    assert f"{len(SCENES)} samples in both runs" in found.sheet().title


def test_a_difference_is_a_measure(runs: tuple[Path, Path]) -> None:
    """Over resamples and parts it is the difference of the two, draw by draw."""
    before, after = (ev.measures_of(ev.merge(r), ev.PROTOCOLS["lisa"])["gIoU"] for r in runs)
    both = Difference(before, after)
    counts = np.random.default_rng(0).multinomial(24, np.ones(24) / 24, 7).astype(float)
    np.testing.assert_array_equal(both.over(counts), after.over(counts) - before.over(counts))
    index = np.array([3, 3, 8])
    assert both.take(index).value == after.take(index).value - before.take(index).value
    assert (len(both), both.size) == (24, 24)
