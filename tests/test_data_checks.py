"""Checks: each names the row and says what is wrong with it, and the rest goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import digit_rows, disc, row_from
from PIL import Image

import rankreward as rr
from rankreward.datasets.checks import Problem, Report, check
from rankreward.datasets.rows import Row, encode_mask

HEIGHT = WIDTH = 80


def _good(name: str = "good", **changes: Any) -> Row:
    row = row_from(
        name,
        Image.new("RGB", (WIDTH, HEIGHT)),
        "the discs",
        [disc(HEIGHT, WIDTH, 20, 20, 8), disc(HEIGHT, WIDTH, 55, 35, 9)],
    )
    return replace(row, **changes)


def _moved(place: int, box: list[float]) -> Any:
    boxes = _good().boxes.copy()
    boxes[place] = box
    return boxes


def _pointing(x: float, y: float) -> Any:
    points = _good().points.copy()
    points[1, 0] = x, y
    return points


NONE: dict[str, Any] = {"boxes": np.zeros((0, 4)), "points": np.zeros((0, 1, 2))}
BROKEN = {
    "box_outside": {"boxes": _moved(1, [46, 26, 80.5, 44])},
    "box_without_area": {"boxes": _moved(1, [55, 26, 55, 44])},
    "point_outside_box": {"points": _pointing(20, 20)},
    "point_outside_mask": {"points": _pointing(47, 27)},
    "mask_empty": {
        "mask": encode_mask(np.zeros((HEIGHT, WIDTH), dtype=bool)),
        "points": _pointing(55, 35),
    },
    "mask_without_objects": NONE,
    "mask_size": {"mask": encode_mask(disc(70, 80, 20, 20, 9))},
    "mask_unreadable": {"mask": {"size": [HEIGHT, WIDTH], "counts": [3]}},
    "unreadable_image": {"image": "there/is/none.png"},
    "image_size": {"image": Image.new("RGB", (WIDTH + 1, HEIGHT))},
    "query_empty": {"query": "  "},
    "placeholder": {"query": "the <image> of it"},
    "reference": {"boxes": _moved(1, [54.9, 34, 55.1, 36])},  # no wider than a pixel of the frame
}


def test_good_rows_have_no_problem() -> None:
    """Good rows, no-target rows among them, leave the report empty, for training and evaluation."""
    rows = [_good(), *digit_rows(40)]
    assert any(not len(row) for row in rows)
    for recipe in (None, "dr_seg", "vision_reasoner"):
        report = check(rows, recipe)
        assert not report, str(report)


@pytest.mark.parametrize("code", BROKEN)
def test_each_check_names_its_row(code: str) -> None:
    """Each kind of fault is found, in the row that has it and in no other, and said in words."""
    recipe = rr.Recipe.load("dr_seg").resized(WIDTH)
    rows = [_good("a"), _good("guilty", **BROKEN[code]), _good("z")]
    report = check(rows, recipe)
    assert {(p.row, p.code) for p in report.problems} >= {("guilty", code)}
    assert {p.row for p in report.problems} == {"guilty"}
    assert f"row guilty: {code}: " in str(report)
    with pytest.raises(rr.InputError, match=f"row guilty: {code}"):
        check(rows, recipe, report=Report(strict=True))


@pytest.mark.parametrize("code", [code for code in BROKEN if code != "mask_empty"])
def test_a_fault_is_said_once(code: str) -> None:
    """A fault brings no others with it (but that an empty mask holds no points either)."""
    recipe = rr.Recipe.load("dr_seg").resized(WIDTH)
    report = check([_good("guilty", **BROKEN[code])], recipe)
    assert report.counts == {code: 1}


def test_duplicates_are_named() -> None:
    """An id that comes again is a problem at its second place."""
    report = check([_good("a"), _good("b"), _good("a")])
    assert [(p.row, p.code) for p in report.problems] == [("a", "duplicate_id")]


@pytest.mark.parametrize("name", ["ignore", "void"])
def test_ignored_pixels_are_checked_too(name: str) -> None:
    """A mask of pixels to ignore, and of void ones, has to be of the image's size as well."""
    report = check([_good(**{name: encode_mask(disc(70, 80, 20, 20, 9))})])
    assert report.counts == {"mask_size": 1}
    assert name in report.problems[0].message


def test_broken_image_files_are_named(tmp_path: Path) -> None:
    """A file that is cut short, no image, or of 16 bits is unreadable."""
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    ).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.full((HEIGHT, WIDTH), 900, dtype=np.uint16)).save(tmp_path / "deep.png")
    rows = [
        _good(name, image=tmp_path / f"{name}.png") for name in ("whole", "cut", "text", "deep")
    ]
    report = check(rows)
    assert [(p.row, p.code) for p in report.problems] == [
        (n, "unreadable_image") for n in ("cut", "text", "deep")
    ]


def test_several_faults_of_a_row_are_all_told() -> None:
    """A row's faults are collected, not only its first."""
    row = _good("guilty", query="", boxes=_moved(1, [46, 26, 90, 44]), image="none.png")
    assert set(check([row]).counts) == {"query_empty", "box_outside", "unreadable_image"}
    assert "query_empty" not in check([row], needs_query=False).counts


def test_limit_keeps_words_and_counts_all() -> None:
    """Beyond the limit problems are counted, not kept; there is no report without a word."""
    report = check([_good(str(i), query="") for i in range(9)], report=Report(limit=4))
    assert report.counts == {"query_empty": 9}
    assert len(report.problems) == 4
    assert str(report).startswith("9 problems: query_empty 9\n")
    assert str(report).endswith("and 5 more")
    with pytest.raises(rr.InputError, match="limit"):
        Report(limit=0)


def test_reports_are_drained_and_recalled() -> None:
    """What is drained from a report and recalled by another is the same, through JSON."""
    report = Report(limit=2)
    for i in range(3):
        report.add(Problem(str(i), "code", "words"))
    said = str(report)
    kept = json.loads(json.dumps(report.drain()))
    assert not report
    other = Report(limit=2)
    other.recall(kept)
    assert str(other) == said
    with pytest.raises(rr.InputError, match="row 0"):
        Report(strict=True).recall(kept)


def test_progress_sees_every_row() -> None:
    """`progress` wraps the loop over rows."""
    seen: list[str] = []
    check([_good("a"), _good("b")], progress=lambda rows: (seen.append(r.id) or r for r in rows))
    assert seen == ["a", "b"]
