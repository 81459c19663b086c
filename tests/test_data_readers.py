"""Readers: annotation files in, rows out, with masks as pycocotools draws them."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_makers import (
    BAR,
    SIZE,
    SQUARE,
    annotation,
    coco,
    coins,
    disc,
    panoptic,
    plain_rle,
    write_json,
)
from PIL import Image, ImageDraw
from pycocotools import mask as coder
from pycocotools.coco import COCO

import rankreward as rr
from rankreward.datasets import coco as coco_module
from rankreward.datasets.checks import Report
from rankreward.datasets.coco import read_instances, read_panoptic
from rankreward.datasets.folder import folder_rows
from rankreward.datasets.multi_object import Filters, multi_object
from rankreward.datasets.pictures import rows_of
from rankreward.datasets.refer import read_expressions, refer_rows
from rankreward.datasets.rows import Row, decode_mask, open_image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _mask(row: Row) -> Any:
    assert row.mask is not None
    return decode_mask(row.mask, row.id)


# COCO


def test_category_rows(tmp_path: Path) -> None:
    """A row for each image and category, named by both, with the objects counted."""
    rows = {row.id: row for row in rows_of(read_instances(coco(tmp_path), tmp_path))}
    assert {name: (row.query, len(row)) for name, row in rows.items()} == {
        "1_cup": ("all cup", 3),
        "1_dinner_plate": ("all dinner plate", 1),
        "2_cup": ("all cup", 1),
        "2_dinner_plate": ("all dinner plate", 2),
    }
    assert rows["1_cup"].strata == {"category": "cup", "size": "small", "count": "2-4"}
    assert open_image(rows["1_cup"]).size == (80, 60)


def test_masks_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Polygons and both kinds of RLE give the masks that pycocotools' own reader gives."""
    data = coco(tmp_path)
    path = write_json(tmp_path / "instances.json", data)
    reader = COCO(str(path))
    rows = {row.id: row for row in rows_of(read_instances(path, tmp_path), per="annotation")}
    assert len(rows) == 7  # all but the crowd
    for row in rows.values():
        name = row.id.split("_")[1]
        expected = reader.annToMask(reader.anns[int(name)]).astype(bool)
        assert np.array_equal(_mask(row), expected)
        ys, xs = np.nonzero(expected)
        assert row.boxes.tolist() == [[xs.min(), ys.min(), xs.max(), ys.max()]]


def test_union_and_crowd(tmp_path: Path) -> None:
    """The mask of a category is the union of its instances; a crowd is kept apart, taken in, or a reason to skip."""
    pictures = read_instances(coco(tmp_path), tmp_path)
    crowd = disc(*SIZE, 60, 40, 8)
    rows = {row.id: row for row in rows_of(pictures)}
    apart = rows["2_cup"]
    assert (apart.void is None, apart.ignore is None) == (False, True)
    assert np.array_equal(decode_mask(apart.void or {}, "x"), crowd)
    assert not (_mask(apart) & crowd).any()
    taken = {row.id: row for row in rows_of(pictures, crowd="object")}["2_cup"]
    assert len(taken) == 2
    assert taken.void is taken.ignore is None
    assert np.array_equal(_mask(taken), _mask(apart) | crowd)
    assert "2_cup" not in {row.id for row in rows_of(pictures, crowd="skip")}
    three = [decode_mask(plain_rle(disc(*SIZE, 60, 40, 8)), "x"), disc(*SIZE, 20, 45, 6)]
    assert (_mask(rows["1_cup"]) & (three[0] | three[1])).sum() == (three[0] | three[1]).sum()


def test_an_object_within_a_crowd_is_an_object(tmp_path: Path) -> None:
    """What a crowd shares with an object is the object's, so that none is lost; none is left over."""
    data, crowd = coco(tmp_path), disc(*SIZE, 20, 20, 18)
    for covered in (crowd, np.zeros(SIZE, bool)):
        data["annotations"] = [annotation(1, 1, 5, [SQUARE])]
        (plain,) = rows_of(read_instances(data, tmp_path))
        data["annotations"].append(
            annotation(2, 1, 5, plain_rle(covered | _mask(plain)), iscrowd=1)
        )
        (row,) = rows_of(read_instances(data, tmp_path))
        assert np.array_equal(_mask(row), _mask(plain))
        void = np.zeros(SIZE, bool) if row.void is None else decode_mask(row.void, "x")
        assert np.array_equal(void, covered & ~_mask(plain))
        assert (row.void is None) == (not covered.any())


@pytest.mark.parametrize(
    "name", ["/etc/hosts", "../outside.png", "a/../../outside.png", "link.png"]
)
def test_files_outside_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    """A `file_name` that is absolute, climbs out or is a link out is named; one below is not."""
    data, folder = coco(tmp_path / "images"), tmp_path / "images"
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    data["images"][1]["file_name"] = name
    with pytest.raises(rr.InputError, match=f"file_name: expected a path within .*{name}"):
        read_instances(data, folder)
    segments = panoptic(folder)
    for part in ("images", "annotations"):
        changed = {**segments, part: [{**segments[part][0], "file_name": name}]}
        with pytest.raises(rr.InputError, match=f"file_name: expected a path within .*{name}"):
            read_panoptic(changed, folder, folder)
    data["images"][1]["file_name"] = "below/../deep/2.png"
    assert read_instances(data, folder)[1].path == folder / "below/../deep/2.png"


def test_coins_as_coco(tmp_path: Path) -> None:
    """Two dozen real coins go through a COCO file and come back, box by box and pixel by pixel."""
    image, masks = coins()
    Image.fromarray(image).save(tmp_path / "coins.png")
    data = {
        "images": [{"id": 1, "file_name": "coins.png", "height": 303, "width": 384}],
        "categories": [{"id": 1, "name": "coins"}],
        "annotations": [annotation(i, 1, 1, plain_rle(mask)) for i, mask in enumerate(masks)],
    }
    (row,) = rows_of(read_instances(data, tmp_path), points=2, second="circles")
    assert row.points.shape == (24, 2, 2)
    assert row.strata["count"] == "10+"
    assert np.array_equal(_mask(row), np.any(masks, axis=0))


def test_broken_annotations_are_named(tmp_path: Path) -> None:
    """Each annotation that cannot be read is named and its row left out; without a report it raises."""
    data = coco(tmp_path)
    broken = {
        31: [[1, 2, 3, 4]],  # a box to pycocotools
        32: [[1, 2, 3, 4, 5]],
        33: [],
        34: None,
        35: {"size": [60, 80], "counts": [5]},
        36: plain_rle(disc(50, 80, 20, 20, 5)),
        37: [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]],  # three corners in one place
        38: [["a", "b", 1, 2, 3, 4]],
    }
    data["annotations"] = [annotation(11, 1, 5, [SQUARE])]
    data["annotations"] += [annotation(i, 1, 9, segmentation) for i, segmentation in broken.items()]
    pictures = read_instances(data, tmp_path)
    report = Report()
    rows = list(rows_of(pictures, per="annotation", report=report))
    assert [row.id for row in rows] == ["1_11"]
    assert [problem.row for problem in report.problems] == [f"1_{i}" for i in broken]
    assert all(f"annotation {p.row[2:]}" in p.message for p in report.problems)
    with pytest.raises(rr.InputError, match=r"row 1_31: .*annotation 31"):
        list(rows_of(pictures, per="annotation"))


def test_broken_files_are_errors(tmp_path: Path) -> None:
    """A file that is none, lacks a part, or names what it does not describe, is an error that says so."""
    data = coco(tmp_path)
    with pytest.raises(rr.InputError, match=r"no\.json: expected a JSON file"):
        read_instances(tmp_path / "no.json", tmp_path)
    with pytest.raises(rr.InputError, match="'categories'"):
        read_instances({**data, "categories": None}, tmp_path)
    stray = {**data, "annotations": [annotation(99, 77, 5, [SQUARE])]}
    with pytest.raises(rr.InputError, match="annotation 99"):
        read_instances(stray, tmp_path)
    for part, broken in (
        ("images", {"id": 1}),
        ("images", "x"),
        ("annotations", {"id": 3}),
        ("categories", {"id": 1}),
    ):
        with pytest.raises(rr.InputError, match="expected a COCO instances file"):
            read_instances({**data, part: [broken]}, tmp_path)
    segments = panoptic(tmp_path / "p")
    for part, broken in (
        ("images", {"id": 2}),
        ("annotations", {"image_id": 1}),
        ("categories", {"id": 1}),
    ):
        with pytest.raises(rr.InputError):
            read_panoptic({**segments, part: [broken]}, tmp_path, tmp_path)


def test_readers_are_lazy(tmp_path: Path) -> None:
    """The first row comes before the second picture is asked for."""
    pictures = read_instances(coco(tmp_path), tmp_path)

    def one_only():
        yield pictures[0]
        raise AssertionError("asked for more than one picture")

    assert next(rows_of(one_only())).id == "1_cup"


def test_progress_sees_every_picture(tmp_path: Path) -> None:
    """`progress` wraps the loop over pictures."""
    seen = []
    pictures = read_instances(coco(tmp_path), tmp_path)
    list(rows_of(pictures, progress=lambda items: (seen.append(i.id) or i for i in items)))
    assert seen == ["1", "2", "3"]


# panoptic and many objects


def test_panoptic_segments(tmp_path: Path) -> None:
    """Segments are found by all three colours of the PNG."""
    pictures = read_panoptic(panoptic(tmp_path), tmp_path, tmp_path)
    rows = {row.query: row for row in rows_of(pictures)}
    expected = disc(*SIZE, 20, 20, 9) | disc(*SIZE, 60, 20, 9) | disc(*SIZE, 40, 45, 9)
    assert np.array_equal(_mask(rows["all coin"]), expected)
    assert len(rows["all coin"]) == 3
    assert rows["all sky"].boxes.tolist() == [[0, 0, 79, 2]]
    (tmp_path / "1_panoptic.png").write_bytes(b"broken")
    report = Report()
    (again,) = read_panoptic(panoptic(tmp_path / "b"), tmp_path, tmp_path)
    coco_module._segments.cache_clear()
    assert not list(rows_of([again], report=report))
    assert [p.row for p in report.problems] == ["1_coin", "1_sky"]


def test_multi_object_asks_for_many(tmp_path: Path) -> None:
    """Only classes with two instances or more make a row; a class with a crowd does not."""
    rows = list(multi_object(read_instances(coco(tmp_path), tmp_path)))
    assert {(row.id, row.query, len(row)) for row in rows} == {
        ("1_cup", "All cup", 3),
        ("2_dinner_plate", "All dinner plate", 2),
    }
    (coin,) = multi_object(read_panoptic(panoptic(tmp_path / "p"), tmp_path / "p", tmp_path / "p"))
    assert coin.query == "All coin"


def test_multi_object_filters(tmp_path: Path) -> None:
    """Each filter by itself removes the rows that it is about, and the mask's share decides exactly."""
    pictures = read_instances(coco(tmp_path), tmp_path)
    rows = {row.id: row for row in multi_object(pictures)}
    share = {name: _mask(row).mean() for name, row in rows.items()}

    def kept(**limits: Any) -> set[str]:
        return {row.id for row in multi_object(pictures, filters=Filters(**limits))}

    least = min(share, key=share.get)  # type: ignore[arg-type]
    assert kept(min_share=share[least]) == set(rows)
    assert kept(min_share=share[least] + 1e-9) == set(rows) - {least}
    assert kept(max_share=share[least]) == {least}
    assert kept(max_instances=2) == {"2_dinner_plate"}
    assert kept(min_instances=3) == {"1_cup"}
    assert kept(min_side=61) == set()
    assert kept(min_box_share=0.5) == set()
    smallest = 13 * 13 / (60 * 80)  # the disc of radius 6 in the picture with three cups
    assert "1_cup" in kept(min_box_share=smallest)
    assert "1_cup" not in kept(min_box_share=smallest + 1e-9)
    with pytest.raises(rr.InputError, match="filters"):
        Filters(min_instances=3, max_instances=2)


def test_multi_object_sample(tmp_path: Path) -> None:
    """The same seed draws the same rows, none twice; too many is an error; other seeds differ."""
    data = coco(tmp_path)
    data["images"] = [{**data["images"][0], "id": i} for i in range(30)]
    data["annotations"] = [
        annotation(i * 2 + j, i, 5, [part])
        for i in range(30)
        for j, part in enumerate((SQUARE, BAR))
    ]
    pictures = read_instances(data, tmp_path)
    draws = [[row.id for row in multi_object(pictures, n=8, seed=seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert len(set(draws[0])) == 8
    assert len(set(draws[0]) | {row.id for row in multi_object(pictures, n=30, seed=0)}) == 30
    with pytest.raises(rr.InputError, match="expected 31 rows, got 30"):
        list(multi_object(pictures, n=31))


# referring expressions


REFS = [
    {"ref_id": 1, "ann_id": 11, "image_id": 1, "split": "train", "sentences": [{"sent": "the square cup"}, {"raw": "upper left cup"}]},
    {"ref_id": 2, "ann_ids": [12, 13], "image_id": 1, "split": "val", "sentences": ["the round cups "]},
    {"ref_id": 3, "ann_ids": [], "image_id": 2, "split": "val", "sentences": ["the red car"]},
    {"ref_id": 4, "ann_id": [-1], "image_id": 2, "split": "val", "sentences": ["a dog"]},
    {"ref_id": 6, "ann_id": [21], "no_target": True, "image_id": 2, "split": "testB", "sentences": ["an owl"]},
    {"ref_id": 7, "ann_id": -1, "image_id": 2, "split": "testB", "sentences": ["a cat"]},
    {"ref_id": 5, "ann_id": 22, "image_id": 2, "split": "train", "sentences": ["the crowd"]},
]  # fmt: skip


def _refer(tmp_path: Path, **how: Any) -> list[Row]:
    pictures = read_instances(coco(tmp_path), tmp_path)
    path = write_json(tmp_path / "refs.json", REFS)
    return list(refer_rows(read_expressions(path), pictures, **how))


def test_expressions(tmp_path: Path) -> None:
    """A row a sentence, with the objects it names; one without annotations has none and an empty mask."""
    rows = {row.id: row for row in _refer(tmp_path)}
    assert {name: (row.query, len(row)) for name, row in rows.items()} == {
        "1_0": ("the square cup", 1),
        "1_1": ("upper left cup", 1),
        "2_0": ("the round cups", 2),
        "3_0": ("the red car", 0),
        "4_0": ("a dog", 0),
        "6_0": ("an owl", 0),
        "7_0": ("a cat", 0),
        "5_0": ("the crowd", 1),
    }
    assert not _mask(rows["3_0"]).any()
    assert _mask(rows["3_0"]).shape == SIZE
    assert rows["3_0"].strata == {"category": "none", "split": "val", "size": "none", "count": "0"}
    assert np.array_equal(_mask(rows["2_0"]), disc(*SIZE, 60, 40, 8) | disc(*SIZE, 20, 45, 6))


def test_splits_and_sentences(tmp_path: Path) -> None:
    """Only the split that is asked for, and only the first sentence if that is wanted."""
    assert [row.id for row in _refer(tmp_path, split="val")] == ["2_0", "3_0", "4_0"]
    assert [row.id for row in _refer(tmp_path, split="train", sentences="first")] == ["1_0", "5_0"]
    with pytest.raises(rr.InputError, match="split"):
        _refer(tmp_path, split="testA")


def test_a_split_of_references_without_splits(tmp_path: Path) -> None:
    """Where no reference has a split, one that is given chooses all; where one has, it does not."""
    pictures = read_instances(coco(tmp_path), tmp_path)
    plain = [{key: ref[key] for key in ref if key != "split"} for ref in REFS]
    found = refer_rows(read_expressions(plain), pictures, split="testA")
    assert [row.id for row in found] == [row.id for row in _refer(tmp_path)]
    with pytest.raises(rr.InputError, match="split"):
        list(refer_rows(read_expressions([*plain, REFS[0]]), pictures, split="testA"))


@pytest.mark.parametrize("name", ["refs(unc).p", "refs.pkl", "refs.json"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    """A pickle is not read, whatever it is called, and the error says how to convert it."""
    path = tmp_path / name
    marker = tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Runs(str(marker))))
    with pytest.raises(rr.InputError, match=r"json\.dump\(pickle\.load"):
        read_expressions(path)
    assert not marker.exists()


class _Runs:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_the_advice_works(tmp_path: Path) -> None:
    """The command in the error turns a pickle into the JSON that is read."""
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(REFS))
    with pytest.raises(rr.InputError) as caught:
        read_expressions(path)
    code = re.search(r'-c "(.*)" ', str(caught.value))
    assert code is not None
    subprocess.run(
        [sys.executable, "-c", code[1], path.name, "refs.json"], cwd=tmp_path, check=True
    )
    assert len(read_expressions(tmp_path / "refs.json")) == 7


def test_stray_expressions_are_named(tmp_path: Path) -> None:
    """A reference to an image or annotation that is not there is named; a malformed one is an error."""
    pictures = read_instances(coco(tmp_path), tmp_path)
    stray = [{**REFS[0], "image_id": 77}, {**REFS[0], "ref_id": 8, "ann_id": 21}, REFS[1]]
    report = Report()
    rows = list(refer_rows(read_expressions(stray), pictures, report=report))
    assert [row.id for row in rows] == ["2_0"]
    assert [p.row for p in report.problems] == ["1", "8"]
    for broken in ({"ref_id": 1}, {**REFS[0], "sentences": []}, {**REFS[0], "sentences": [3]}, "x"):
        with pytest.raises(rr.InputError, match=r"references\[1\]"):
            read_expressions([REFS[0], broken])  # type: ignore[list-item]


# folders


def _folder(tmp_path: Path, **masks: Any) -> Path:
    for name, mask in masks.items():
        height, width = np.asarray(mask).shape
        Image.fromarray(np.full((height, width, 3), 120, dtype=np.uint8)).save(
            tmp_path / f"{name}.jpg"
        )
        Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_folder_values(tmp_path: Path) -> None:
    """Each value is an object; 255 is neither object nor ground and is kept apart."""
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[2:6, 3:9], mask[10:15, 12:20], mask[0:2, 25:30] = 1, 7, 255
    (row,) = folder_rows(_folder(tmp_path, a=mask), queries={"a": "both"})
    assert row.boxes.tolist() == [[3, 2, 8, 5], [12, 10, 19, 14]]
    assert np.array_equal(_mask(row), (mask == 1) | (mask == 7))
    assert np.array_equal(decode_mask(row.ignore or {}, "x"), mask == 255)
    assert row.void is None
    (whole,) = folder_rows(tmp_path, objects="whole", query="x")
    assert whole.boxes.tolist() == [[3, 2, 19, 14]]


def test_folder_components(tmp_path: Path) -> None:
    """Connected parts are objects: the coins of a binary mask are two dozen, 255 being the object."""
    _, masks = coins()
    (row,) = folder_rows(
        _folder(tmp_path, coins=np.any(masks, axis=0) * 255),
        objects="components",
        ignore=None,
        query="all coins",
    )
    assert len(row) == 24
    assert np.array_equal(_mask(row), np.any(masks, axis=0))


def test_folder_queries(tmp_path: Path) -> None:
    """A row for each of an image's queries, from a JSON file; an image without one is left out."""
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[3:6, 3:6] = 1
    folder = _folder(tmp_path, a=mask, b=mask, c=mask * 0)
    path = write_json(tmp_path / "queries.json", {"a": ["one", "two"], "c": "nothing there"})
    rows = list(folder_rows(folder, queries=path))
    assert [(row.id, row.query, len(row)) for row in rows] == [
        ("a_0", "one", 1),
        ("a_1", "two", 1),
        ("c", "nothing there", 0),
    ]


def test_folder_problems_are_named(tmp_path: Path) -> None:
    """A mask that is missing, of many channels, or of 0 and 255 alone is named and left out."""
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[3:6, 3:6] = 1
    folder = _folder(tmp_path, good=mask, lost=mask, only255=mask * 255)
    (folder / "lost.png").unlink()
    Image.new("RGB", (9, 9)).save(folder / "rgb.jpg")
    Image.new("RGB", (9, 9)).save(folder / "rgb.png")
    report, empty = Report(), tmp_path / "empty"
    empty.mkdir()
    assert [row.id for row in folder_rows(folder, query="x", report=report)] == ["good"]
    assert [p.row for p in report.problems] == ["lost", "only255", "rgb"]
    assert "ignore=None" in report.problems[1].message
    with pytest.raises(rr.InputError, match="row lost"):
        list(folder_rows(folder, query="x"))
    with pytest.raises(rr.InputError, match="got none"):
        list(folder_rows(empty))


def test_palette_masks_are_indices(tmp_path: Path) -> None:
    """A PNG with a palette, as annotation tools write them, means its indices, not its colours."""
    picture = Image.new("P", (12, 10), 0)
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    ImageDraw.Draw(picture).rectangle((2, 2, 5, 5), fill=2)
    picture.save(tmp_path / "a.png")
    Image.new("RGB", (12, 10)).save(tmp_path / "a.jpg")
    (row,) = folder_rows(tmp_path, query="x")
    assert row.boxes.tolist() == [[2, 2, 5, 5]]


def test_polygon_area_of_the_twin() -> None:
    """The helper that counts runs agrees with pycocotools, so that it can be an oracle."""
    mask = disc(*SIZE, 33, 21, 9)
    assert coder.area(coder.frPyObjects(plain_rle(mask), *SIZE)) == mask.sum()
    assert json.dumps(plain_rle(mask))
