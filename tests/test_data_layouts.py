"""Layouts: rows in, what scorers, trainers and evaluation read out."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from builders import wrap
from data_makers import coco, coins, digit_rows, disc, row_from
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import rankreward as rr
from rankreward.datasets.coco import read_instances
from rankreward.datasets.layouts import (
    LAYOUTS,
    features,
    from_eval,
    to_easyr1,
    to_eval,
    to_training,
    to_trl,
    to_verl,
)
from rankreward.datasets.pictures import rows_of
from rankreward.datasets.rows import Row, decode_mask, encode_mask
from rankreward.datasets.solutions import solution_of
from rankreward.rewards.references import read_references

DR_SEG = rr.Recipe.load("dr_seg")


def _coin_row(**how: Any) -> Row:
    image, masks = coins()
    return row_from("coins", Image.fromarray(image), "all coins", masks, **how)


def _all_rows(tmp_path: Path, points: int = 1) -> list[Row]:
    """Rows of every source that needs no download."""
    made = rows_of(read_instances(coco(tmp_path), tmp_path), points=points)
    return [*made, *digit_rows(30, points=points), _coin_row(points=points)]


def test_perfect_answers_are_paid_in_full(tmp_path: Path) -> None:
    """COCO, digits and coins: an answer that is the reference is paid in full, for every row."""
    rows = _all_rows(tmp_path)
    assert {0, 1, 2, 24} <= {len(row) for row in rows}
    made = [to_training(row, DR_SEG) for row in rows]
    solutions = [each["solution"] for each in made]
    scorer = rr.Scorer(DR_SEG)
    batch = scorer.score([wrap(solution) for solution in solutions], solutions)
    assert batch.total.tolist() == [5.0] * len(rows)
    found = np.array([len(row) > 0 for row in rows])
    assert np.all(batch.raw["iou"][found] == 1.0)
    assert not any(batch.failures)


def test_a_wrong_answer_is_not(tmp_path: Path) -> None:
    """With the rows swapped against one another the same answers overlap less."""
    rows = [row for row in _all_rows(tmp_path) if len(row)]
    solutions = [solution_of(row, DR_SEG) for row in rows]
    shifted = solutions[1:] + solutions[:1]
    batch = rr.Scorer(DR_SEG).score([wrap(each) for each in solutions], shifted)
    assert batch.raw["iou"].mean() < 0.5


def test_frame_is_scaled_to_the_pixel(tmp_path: Path) -> None:
    """Each coordinate of the frame, scaled back, is within half a pixel of the frame of the original."""
    for row in _all_rows(tmp_path):
        entries = json.loads(solution_of(row, DR_SEG))
        assert len(entries) == len(row)
        factors = np.array([840 / row.width, 840 / row.height])
        for entry, box, points in zip(entries, row.boxes, row.points, strict=True):
            assert (
                np.abs(np.array(entry["bbox_2d"]).reshape(2, 2) - box.reshape(2, 2) * factors).max()
                <= 0.5
            )
            assert np.abs(np.array(entry["point_2d"]) - points[0] * factors).max() <= 0.5
            x1, y1, x2, y2 = entry["bbox_2d"]
            assert x1 <= entry["point_2d"][0] <= x2
            assert y1 <= entry["point_2d"][1] <= y2


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.lists(st.floats(0, 1), min_size=4, max_size=4)
)
def test_rounding_is_that_of_the_published_data(
    width: int, height: int, shares: list[float]
) -> None:
    """`int(v * f + 0.5)` for each axis, in plain Python, and never outside the frame."""
    x1, x2 = sorted(share * width for share in shares[:2])
    y1, y2 = sorted(share * height for share in shares[2:])
    row = Row(
        "x", None, "x", np.array([[x1, y1, x2, y2]]), np.array([[[x1, y1]]]), None, width, height
    )
    (entry,) = json.loads(solution_of(row, DR_SEG))
    fx, fy = 840 / width, 840 / height
    assert entry["bbox_2d"] == [
        int(x1 * fx + 0.5),
        int(y1 * fy + 0.5),
        int(x2 * fx + 0.5),
        int(y2 * fy + 0.5),
    ]
    assert max(entry["bbox_2d"] + entry["point_2d"]) <= 840
    outside = replace(row, boxes=np.array([[-9.0, -9.0, width + 9.0, height + 9.0]]))
    assert json.loads(solution_of(outside, DR_SEG))[0]["bbox_2d"] == [0, 0, 840, 840]


def test_images_have_the_frame(tmp_path: Path) -> None:
    """The image is resized to the frame, and the original size is beside it; a PNG loses nothing."""
    for row in _all_rows(tmp_path)[:8]:
        made = to_training(row, DR_SEG)
        with Image.open(io.BytesIO(made["image"]["bytes"])) as image:
            assert (image.size, image.mode, image.format) == ((840, 840), "RGB", "PNG")
        assert (made["img_width"], made["img_height"]) == (row.width, row.height)
    (row,) = digit_rows(1)
    same = to_training(row, DR_SEG.resized(84))
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(same["image"]["bytes"]))), np.asarray(row.image)
    )
    small = to_training(row, DR_SEG, quality=80)["image"]["bytes"]
    assert Image.open(io.BytesIO(small)).format == "JPEG"
    with pytest.raises(rr.InputError, match="quality"):
        to_training(row, DR_SEG, quality=0)


def test_grids_leave_the_image() -> None:
    """A frame that is a grid scales places, not pixels."""
    row, recipe = _coin_row(), rr.Recipe.load("perception_r1")
    made = to_training(row, recipe)
    assert Image.open(io.BytesIO(made["image"]["bytes"])).size == (384, 303)
    boxes = np.array([entry["bbox_2d"] for entry in json.loads(made["solution"])])
    assert np.abs(boxes - row.boxes * np.tile([1000 / 384, 1000 / 303], 2)).max() <= 0.5


@pytest.mark.parametrize(
    "name", [name for name in rr.recipes() if not rr.Recipe.load(name).released]
)
def test_every_recipe_reads_its_reference(name: str) -> None:
    """Whatever a recipe of objects or masks asks for, its references are made of the same row and can be read."""
    recipe = rr.Recipe.load(name)
    mask = disc(60, 80, 30, 30, 14)
    row = row_from("x", Image.new("RGB", (80, 60)), "the disc", [mask], points=2)
    row = replace(row, strata={"category": "disc"})
    if recipe.response.frame is None:
        with pytest.raises(rr.InputError, match="not texts"):
            solution_of(row, recipe)
        return
    (target,) = read_references([solution_of(row, recipe)], recipe)
    if target.mask is not None:
        frame = recipe.response.frame
        size = (frame.height, frame.width) if frame.unit == "pixels" else (60, 80)
        assert target.mask.shape == size
        assert abs(target.mask.mean() - mask.mean()) < 0.01
    if target.objects is not None:
        assert len(target.objects) == 1
    assert target.mask is not None or target.objects is not None


def test_seg_zero_is_tagged() -> None:
    """One object and two points become the tagged text of Seg-Zero's data; several objects are an error."""
    recipe = rr.Recipe.load("seg_zero").resized(80)
    row = row_from("x", Image.new("RGB", (80, 80)), "x", [disc(80, 80, 30, 30, 9)], points=2)
    (x1, y1, x2, y2), ((a, b), (c, d)) = row.boxes[0].astype(int), row.points[0].astype(int)
    assert (
        solution_of(row, recipe)
        == f"<box>({x1},{y1}),({x2},{y2})</box><points>({a},{b}),({c},{d})</points>"
    )
    with pytest.raises(rr.InputError, match="expected one object"):
        solution_of(_coin_row(points=2), recipe)
    with pytest.raises(rr.InputError, match="points=2"):
        solution_of(row_from("x", row.image, "x", [disc(80, 80, 30, 30, 9)]), recipe)


def test_masks_and_labels_have_to_be_there() -> None:
    """A recipe of masks wants one, one of labels the category; both errors say so."""
    row = _coin_row(points=2)
    with pytest.raises(rr.InputError, match="expected a mask"):
        solution_of(replace(row, mask=None), rr.Recipe.load("seg_r1"))
    labelled = [n for n in rr.recipes() if rr.Recipe.load(n).response.schema_ == "labelled_boxes"]
    for name in labelled:
        with pytest.raises(rr.InputError, match="category"):
            solution_of(row, rr.Recipe.load(name))


# what trainers read


def test_trainers_rows() -> None:
    """Each trainer's row has the recipe's own prompt, the image's mark where it is text, and the reference."""
    row = to_training(digit_rows(1)[0], DR_SEG)
    asked = rr.prompt(DR_SEG, row["problem"])
    trl = to_trl(row, DR_SEG)
    assert trl["prompt"] == [{"role": "user", "content": asked}]
    assert trl["solution"] == row["solution"]
    assert trl["image"] == row["image"]
    verl = to_verl(row, DR_SEG, split="train", index=3, data_source="digits")
    assert verl["prompt"] == [{"role": "user", "content": f"<image>{asked}"}]
    assert verl["reward_model"] == {"style": "rule", "ground_truth": row["solution"]}
    assert verl["extra_info"] == {"split": "train", "index": 3, "id": "digits_0"}
    assert (verl["images"], verl["data_source"]) == ([row["image"]], "digits")
    easy = to_easyr1(row, DR_SEG, split="val")
    assert easy == {
        "problem": f"<image>{asked}",
        "images": [row["image"]],
        "answer": {"reference": row["solution"], "split": "val"},
    }


def test_placeholders_in_queries_raise() -> None:
    """A query that holds an image's mark would ask for a second image."""
    row = {**to_training(digit_rows(1)[0], DR_SEG), "problem": "the <image>"}
    with pytest.raises(rr.InputError, match="digits_0"):
        to_verl(row, DR_SEG, split="train", index=0, data_source="x")
    with pytest.raises(rr.InputError, match="digits_0"):
        to_easyr1(row, DR_SEG, split="train")


def test_features_fit_the_rows() -> None:
    """`datasets` takes each layout's rows with its features and gives them back, image and all."""
    row = digit_rows(1)[0]
    made = to_training(row, DR_SEG)
    rows = {
        "training": made,
        "trl": to_trl(made, DR_SEG),
        "verl": to_verl(made, DR_SEG, split="train", index=0, data_source="x"),
        "easyr1": to_easyr1(made, DR_SEG, split="train"),
        "eval": to_eval(row, ["size"]),
    }
    assert set(rows) == set(LAYOUTS)
    for layout, columns in rows.items():
        kept = datasets.Dataset.from_list([columns], features=features(layout, ["size"]))[0]  # type: ignore[arg-type]
        assert set(kept) == set(columns)
        image = kept["image"] if "image" in kept else kept["images"][0]
        assert image.size == ((84, 84) if layout == "eval" else (840, 840))
    with pytest.raises(rr.InputError, match="layout"):
        features("csv")  # type: ignore[arg-type]


# what evaluation reads


def test_eval_layout_and_back(tmp_path: Path) -> None:
    """Rows survive the evaluation layout whole, at their own size, with the file's own bytes."""
    rows = [*rows_of(read_instances(coco(tmp_path), tmp_path)), *digit_rows(12), _coin_row()]
    rows.append(replace(rows[-1], ignore=encode_mask(disc(303, 384, 9, 9, 8))))
    names = sorted(set(chain.from_iterable(row.strata for row in rows)))
    for row in rows:
        columns = to_eval(row, names)
        if isinstance(row.image, Path):
            assert columns["image"]["bytes"] == row.image.read_bytes()
        back = from_eval(columns)
        assert (back.id, back.query, back.width, back.height) == (
            row.id,
            row.query,
            row.width,
            row.height,
        )
        assert np.array_equal(back.boxes, row.boxes)
        assert np.array_equal(back.points, row.points) or not len(row)
        assert back.strata == row.strata
        assert back.image.size == (row.width, row.height)
        pairs = (row.mask, back.mask), (row.ignore, back.ignore), (row.void, back.void)
        for ours, theirs in pairs:
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                assert np.array_equal(decode_mask(ours, "x"), decode_mask(theirs, "x"))
    assert [
        sum(mask is not None for mask in kind)
        for kind in zip(*((r.ignore, r.void) for r in rows), strict=True)
    ] == [1, 1]
    with pytest.raises(rr.InputError, match="lacks"):
        from_eval({"id": "x"})


def test_rows_check_their_shapes() -> None:
    """A row whose points do not belong to its boxes, or without a size, is an error."""
    box, point = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[[2.0, 3.0]]])
    assert len(Row("x", None, "x", box, point, None, 9, 9)) == 1
    assert Row("x", None, "x", [], [], None, 9, 9).points.shape == (0, 0, 2)  # type: ignore[arg-type]
    for broken in (
        (box, point[0]),
        (box, np.zeros((2, 1, 2))),
        (box[0], point),
        (box * np.nan, point),
    ):
        with pytest.raises(rr.InputError):
            Row("x", None, "x", *broken, None, 9, 9)
    with pytest.raises(rr.InputError, match="sides"):
        Row("x", None, "x", box, point, None, 0, 9)
