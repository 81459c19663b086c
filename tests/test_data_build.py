"""Building: rows in, Parquet out; resumed, reused, refused and mended."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import wrap
from data_makers import coco, digit_rows, write_json
from PIL import Image

import rankreward as rr
from rankreward.datasets import shards
from rankreward.datasets.build import build
from rankreward.datasets.checks import Problem, Report, check
from rankreward.datasets.coco import read_instances
from rankreward.datasets.layouts import LAYOUTS, from_eval
from rankreward.datasets.pictures import rows_of
from rankreward.datasets.rows import Row
from rankreward.datasets.shards import origin_of
from rankreward.datasets.written import read_rows

RECIPE = rr.Recipe.load("dr_seg").resized(84)
ROWS = digit_rows(10)
HOW: dict[str, Any] = {"layout": "training", "recipe": RECIPE, "origin": "digits", "shard_rows": 4}


def _load(folder: Path, split: str = "train") -> Any:
    files = sorted(str(path) for path in folder.glob(f"{split}-*.parquet"))
    return datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(folder / "cache")
    )


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


class Counted:
    """Rows, and how many were taken."""

    def __init__(self, rows: list[Row], fail_after: int | None = None) -> None:
        self.rows, self.taken, self.fail_after = rows, 0, fail_after

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            if self.taken == self.fail_after:
                raise KeyboardInterrupt
            self.taken += 1
            yield row


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_by_datasets(tmp_path: Path, layout: Any) -> None:
    """`datasets` reads each layout's shards, in order, and the images are images."""
    built = build(ROWS, tmp_path, **{**HOW, "layout": layout})
    assert [path.name for path in built.paths] == [f"train-0000{i}.parquet" for i in range(3)]
    assert (built.rows, built.reused, bool(built.report)) == (10, False, False)
    data = _load(tmp_path)
    assert len(data) == 10
    if layout in ("easyr1", "trl"):
        asked = (
            data["problem"]
            if layout == "easyr1"
            else [turn[0]["content"] for turn in data["prompt"]]
        )
        assert list(map(str.__contains__, asked, [row.query for row in ROWS])) == [True] * 10
    else:
        names = data["id"] if layout != "verl" else [each["id"] for each in data["extra_info"]]
        assert list(names) == [row.id for row in ROWS]
    for row, kept in zip(ROWS, data, strict=True):
        image = kept["image"] if "image" in kept else kept["images"][0]
        assert np.array_equal(np.asarray(image), np.asarray(row.image))
    if layout == "verl":
        assert [each["index"] for each in data["extra_info"]] == list(range(10))


def test_what_is_written_is_paid_in_full(tmp_path: Path) -> None:
    """References read back from verl's shards pay a perfect answer in full."""
    build(ROWS, tmp_path, **{**HOW, "layout": "verl"})
    solutions = [each["ground_truth"] for each in _load(tmp_path)["reward_model"]]
    batch = rr.Scorer(RECIPE).score([wrap(each) for each in solutions], solutions)
    assert batch.total.tolist() == [5.0] * 10


def test_coco_to_evaluation_and_back(tmp_path: Path) -> None:
    """From a COCO file to evaluation shards and back to rows; a stratum that a row lacks stays away."""
    rows = list(rows_of(read_instances(coco(tmp_path / "images"), tmp_path / "images")))
    rows.append(replace(ROWS[0], strata={"size": "small"}))
    build(rows, tmp_path / "out", layout="eval", origin="x", split="val")
    back = [from_eval(columns) for columns in _load(tmp_path / "out", "val")]
    assert [row.id for row in back] == [row.id for row in rows]
    for row, kept in zip(rows, back, strict=True):
        assert np.array_equal(kept.boxes, row.boxes)
        assert dict(kept.strata) == dict(row.strata)


def test_row_groups_are_small(tmp_path: Path) -> None:
    """A shard is written in row groups of 64 at most, so that memory is bounded."""
    rows = [replace(ROWS[i % 10], id=str(i)) for i in range(150)]
    (path,) = build(rows, tmp_path, **{**HOW, "shard_rows": 1000}).paths
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 22]


def test_writing_is_lazy(tmp_path: Path) -> None:
    """No more rows are taken than a row group holds before the first is written."""
    writes: list[int] = []
    source = Counted([replace(ROWS[i % 10], id=str(i)) for i in range(150)])
    original = pq.ParquetWriter.write_table

    def spy(self: Any, table: Any, *rest: Any, **more: Any) -> Any:
        writes.append(source.taken)
        return original(self, table, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", spy)
        build(source, tmp_path, **{**HOW, "shard_rows": 1000})
    assert writes == [64, 128, 150]


# again


def test_complete_output_is_reused(tmp_path: Path) -> None:
    """The same input and settings again: nothing is read, nothing is written."""
    first = build(ROWS, tmp_path, **HOW)
    before, source = _bytes(tmp_path), Counted(ROWS)
    again = build(source, tmp_path, **HOW)
    assert again.reused
    assert (again.paths, again.rows) == (first.paths, first.rows)
    assert source.taken == 0
    assert _bytes(tmp_path) == before


@pytest.mark.parametrize("change", [
    {"origin": "other"},
    {"recipe": rr.Recipe.load("vision_reasoner").resized(84)},
    {"layout": "trl"},
    {"quality": 90},
    {"shard_rows": 5},
])  # fmt: skip
def test_other_output_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """The output of another input or other settings is an error that says so, and stays as it is."""
    build(ROWS, tmp_path, **HOW)
    before = _bytes(tmp_path)
    with pytest.raises(
        rr.InputError, match="got that of others; delete it or write to another folder"
    ):
        build(ROWS, tmp_path, **{**HOW, **change})
    assert _bytes(tmp_path) == before
    assert build(ROWS, tmp_path, **{**HOW, **change}, split="val").rows == 10  # beside it


@pytest.mark.parametrize("after", [0, 3, 4, 6, 9])
def test_a_broken_run_goes_on(tmp_path: Path, after: int) -> None:
    """Interrupted anywhere, a second run keeps whole shards and ends with the files of an unbroken one."""
    with pytest.raises(KeyboardInterrupt):
        build(Counted(ROWS, fail_after=after), tmp_path / "a", **HOW)
    left = _bytes(tmp_path / "a")
    assert sorted(left) == [f"train-0000{i}.parquet" for i in range(after // 4)]  # no half shard
    stamps = {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in left}
    built = build(ROWS, tmp_path / "a", **HOW)
    assert not built.reused
    assert stamps == {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in left}
    build(ROWS, tmp_path / "b", **HOW)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_data_build import HOW, ROWS
from rankreward.datasets.build import build

def rows():
    for place, row in enumerate(ROWS):
        if place == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row

build(rows(), sys.argv[2], **HOW)
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed with no chance to tidy up, a run leaves whole shards alone under their names, and the next ends as an unbroken one."""
    here, source = Path(__file__).parent, Path(rr.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(here), str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
        capture_output=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [path.name for path in tmp_path.glob("a/*.parquet")] == ["train-00000.parquet"]
    assert build(ROWS, tmp_path / "a", **HOW).rows == 10
    build(ROWS, tmp_path / "b", **HOW)
    left = {
        name: data for name, data in _bytes(tmp_path / "a").items() if not name.endswith(".half")
    }
    assert left == _bytes(tmp_path / "b")


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damaged_shards_are_made_again(tmp_path: Path, damage: str, caplog: Any) -> None:
    """A listed shard that was cut short, changed by one bit or lost is made again, and only that."""
    build(ROWS, tmp_path, **HOW)
    before, path = _bytes(tmp_path), tmp_path / "train-00001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    stamp = (tmp_path / "train-00000.parquet").stat().st_mtime_ns
    built = build(ROWS, tmp_path, **HOW)
    assert not built.reused
    assert "train-00001.parquet missing or damaged" in caplog.text
    assert _bytes(tmp_path) == before
    assert (tmp_path / "train-00000.parquet").stat().st_mtime_ns == stamp


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    """A file in a shard's place that this library did not write is never written over."""
    path = tmp_path / "train-00000.parquet"
    path.write_text("mine")
    with pytest.raises(rr.InputError, match="expected a Parquet file"):
        build(ROWS, tmp_path, **HOW)
    datasets.Dataset.from_dict({"a": [1]}).to_parquet(str(path))
    with pytest.raises(rr.InputError, match="got that of others"):
        build(ROWS, tmp_path, **HOW)
    path.unlink()
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(rr.InputError, match="list of shards"):
        build(ROWS, tmp_path, **HOW)
    assert sorted(_bytes(tmp_path)) == ["train.json"]


def test_a_list_alone_says_whose_it_is(tmp_path: Path) -> None:
    """With its shards gone the list still keeps another output away, and lets its own be made again."""
    paths = build(ROWS, tmp_path, **HOW).paths
    for path in paths:
        path.unlink()
    with pytest.raises(rr.InputError, match=r"train\.json: .*that of others"):
        build(ROWS, tmp_path, **{**HOW, "origin": "other"})
    assert build(ROWS, tmp_path, **HOW).paths == paths


# back


@pytest.mark.parametrize("layout", ["eval", "training"])
def test_rows_are_read_back(tmp_path: Path, layout: Any) -> None:
    """Rows of both layouts come back in order and pass the checks; `progress` sees each."""
    big = rr.Recipe.load("dr_seg")
    build(ROWS, tmp_path, **{**HOW, "layout": layout, "recipe": big})
    seen: list[str] = []
    back = list(read_rows(tmp_path, progress=lambda rows: (seen.append(r.id) or r for r in rows)))
    assert seen == [row.id for row in back] == [row.id for row in ROWS]
    for row, kept in zip(ROWS, back, strict=True):
        scale = kept.width / row.width
        assert (kept.width, kept.query) == (84 if layout == "eval" else 840, row.query)
        assert np.abs(kept.boxes - row.boxes * scale).max(initial=0) <= 0.5
    assert not check(back, big)


def test_what_cannot_be_read_back_is_said(tmp_path: Path) -> None:
    """No shards, a broken one, and a trainer's own layout are errors."""
    with pytest.raises(rr.InputError, match="got none"):
        list(read_rows(tmp_path))
    build(ROWS, tmp_path, **{**HOW, "layout": "verl"})
    with pytest.raises(rr.InputError, match="'eval' or 'training'"):
        list(read_rows(tmp_path))
    (tmp_path / "val-00000.parquet").write_text("x")
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(rr.InputError, match="Parquet file"):
        list(read_rows(tmp_path, "val"))


def test_splits_that_begin_alike_are_two(tmp_path: Path) -> None:
    """`train` and `train-hard` in one folder are each read by themselves."""
    build(ROWS[:6], tmp_path, **{**HOW, "layout": "eval"})
    build(ROWS[6:], tmp_path, **{**HOW, "layout": "eval", "split": "train-hard"})
    assert [row.id for row in read_rows(tmp_path)] == [row.id for row in ROWS[:6]]
    assert [row.id for row in read_rows(tmp_path, "train-hard")] == [row.id for row in ROWS[6:]]


def test_a_broken_build_is_not_read(tmp_path: Path) -> None:
    """Shards without their list are half a data set, and the error says to finish it."""
    how = {**HOW, "layout": "eval"}
    with pytest.raises(KeyboardInterrupt):
        build(Counted(ROWS, fail_after=6), tmp_path, **how)
    assert (tmp_path / "train-00000.parquet").is_file()
    with pytest.raises(rr.InputError, match=r"expected train\.json.*finish the build"):
        list(read_rows(tmp_path))
    build(ROWS, tmp_path, **how)
    assert [row.id for row in read_rows(tmp_path)] == [row.id for row in ROWS]


# bad rows


BAD = [*ROWS[:3], replace(ROWS[3], query=""), *ROWS[4:], ROWS[0]]


def test_bad_rows_are_left_out_and_told(tmp_path: Path) -> None:
    """A row with a fault is left out and named; a duplicate in a later shard is found; the rest is written."""
    built = build(BAD, tmp_path, **HOW)
    assert built.rows == 9
    assert [(p.row, p.code) for p in built.report.problems] == [
        ("digits_3", "query_empty"),
        ("digits_0", "duplicate_id"),
    ]
    assert "digits_3" not in list(_load(tmp_path)["id"])


@pytest.mark.parametrize("after", [5, 9, None])
def test_findings_survive_a_restart(tmp_path: Path, after: int | None) -> None:
    """What a broken or complete run had found, rows and annotations, is in the report of the next, once."""

    def rows(report: Report, last: int | None) -> Iterator[Row]:
        for place, row in enumerate(BAD):
            if place == last:
                raise KeyboardInterrupt
            if place in (1, 6):
                report.add(Problem(f"reader_{place}", "annotation", "as a reader finds it"))
            yield row
        report.add(Problem("reader_end", "annotation", "after the last row"))

    first, second = Report(), Report()
    try:
        build(rows(first, after), tmp_path, **HOW, report=first)
    except KeyboardInterrupt:
        assert after is not None
    build(rows(second, None), tmp_path, **HOW, report=second)
    whole = Report()
    build(rows(whole, None), tmp_path / "whole", **HOW, report=whole)
    assert str(second) == str(whole)
    assert whole.counts == {"annotation": 3, "query_empty": 1, "duplicate_id": 1}


def test_strict_writes_nothing_of_a_bad_shard(tmp_path: Path) -> None:
    """A strict report raises at the first fault, from the rows or from an earlier run's findings."""
    with pytest.raises(rr.InputError, match="row digits_3: query_empty"):
        build(BAD, tmp_path, **HOW, report=Report(strict=True))
    assert _bytes(tmp_path) == {}
    build(BAD, tmp_path, **HOW)
    with pytest.raises(rr.InputError, match="row digits_3: query_empty"):
        build(BAD, tmp_path, **HOW, report=Report(strict=True))


def test_nothing_good_is_an_error(tmp_path: Path) -> None:
    """No row at all, or none without a fault, is an error that tells the faults."""
    with pytest.raises(rr.InputError, match="at least one good row"):
        build([], tmp_path / "a", **HOW)
    with pytest.raises(rr.InputError, match="query_empty 1"):
        build([replace(ROWS[0], query="")], tmp_path / "b", **HOW)


def test_flat_boxes_in_the_frame_are_found(tmp_path: Path) -> None:
    """A box that is one thing in the image and nothing in a small frame is left out with the scorer's words."""
    row = replace(
        ROWS[0],
        id="tiny",
        image=Image.new("RGB", (8400, 84)),
        width=8400,
        boxes=np.array([[100.0, 10, 140, 40]]),
        points=np.array([[[120.0, 20]]]),
        mask=None,
    )
    built = build([ROWS[1], row], tmp_path, **HOW)
    assert [(p.row, p.code) for p in built.report.problems] == [("tiny", "reference")]
    assert "84 x 84" in built.report.problems[0].message


# arguments and origins


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": None},
        {"shard_rows": 0},
        {"split": "../x"},
        {"split": ""},
        {"layout": "csv"},
        {"recipe": "grpo_care"},
    ],
)
def test_bad_arguments_raise(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """An unknown layout, a missing recipe, and a split that is no name are errors."""
    with pytest.raises(rr.InputError):
        build(ROWS, tmp_path, **{**HOW, **wrong})


def test_origin_tells_inputs_apart(tmp_path: Path) -> None:
    """A file's content, a folder's files and each setting make an origin; places and times do not."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "x.json", {"k": 1})
    a, b = tmp_path / "a", tmp_path / "b"
    assert origin_of(a / "x.json", n=1) == origin_of(b / "x.json", n=1)
    assert origin_of(a) == origin_of(b)
    assert origin_of(a, n=1) != origin_of(a, n=2) != origin_of(a)
    write_json(b / "x.json", {"k": 2})
    assert origin_of(a / "x.json") != origin_of(b / "x.json")
    write_json(b / "y.json", {"k": 2})
    assert origin_of(a) != origin_of(b)
    for broken in (lambda: origin_of(tmp_path / "none"), lambda: origin_of(n=object())):
        with pytest.raises(rr.InputError, match="origin"):
            broken()


def test_the_list_says_what_there_is(tmp_path: Path) -> None:
    """The list of shards holds their names, rows and hashes, as another program counts them."""
    build(ROWS, tmp_path, **HOW)
    listed = json.loads((tmp_path / "train.json").read_text())["shards"]
    assert [each["rows"] for each in listed] == [4, 4, 2]
    for each in listed:
        content = (tmp_path / each["name"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert pq.read_table(io.BytesIO(content)).num_rows == each["rows"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """A disk that is full leaves no half file behind, under whatever name."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setattr(shards, "_settle", full)
    with pytest.raises(OSError, match="No space"):
        build(ROWS, tmp_path, **HOW)
    assert _bytes(tmp_path) == {}
