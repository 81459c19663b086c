"""Published sets: local Parquet files of the same schema, and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from data_makers import digit_rows, disc
from PIL import Image

import rankreward as rr
from rankreward.datasets.build import build
from rankreward.datasets.checks import Report, check
from rankreward.datasets.layouts import from_eval
from rankreward.datasets.published import PUBLISHED, load, published_rows
from rankreward.datasets.rows import decode_mask
from rankreward.datasets.solutions import solution_of

IMAGE = Image.new("RGB", (840, 840), (9, 99, 199))
BOXES = '[{"bbox_2d": [10, 20, 300, 400], "point_2d": [100, 200]}, {"bbox_2d": [400, 20, 500, 80], "point_2d": [450, 50]}]'
TAGGED = "<box>(10,20),(300,400)</box><points>(100,200),(150,250)</points>"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _training(folder: Path, solutions: list[str]) -> Path:
    """Parquet of the columns that VisionReasoner's and Seg-Zero's training data have."""
    kinds = {
        "id": "string",
        "problem": "string",
        "solution": "string",
        "img_height": "int64",
        "img_width": "int64",
    }
    columns = {name: datasets.Value(kind) for name, kind in kinds.items()} | {
        "image": datasets.Image()
    }
    rows = [
        {
            "id": f"r{i}",
            "problem": "the mugs",
            "solution": text,
            "image": IMAGE,
            "img_height": 480,
            "img_width": 640,
        }
        for i, text in enumerate(solutions)
    ]
    folder.mkdir()
    datasets.Dataset.from_list(rows, features=datasets.Features(columns)).to_parquet(
        str(folder / "train.parquet")
    )
    return folder


def _evaluation(folder: Path, masks: list[Any]) -> Path:
    """Parquet of the columns that the ReasonSeg sets have; the mask is a list of lists of booleans."""
    text, whole = datasets.Value("string"), datasets.Value("int64")
    columns = {
        "image": datasets.Image(),
        "mask": datasets.List(datasets.List(datasets.Value("bool"))),
        "text": text,
    }
    columns |= {"image_id": text, "ann_id": text, "img_height": whole, "img_width": whole}
    rows = [
        {
            "image": Image.new("RGB", (60, 40)),
            "mask": np.asarray(mask).tolist(),
            "text": "what barks",
            "image_id": "7",
            "ann_id": "7",
            "img_height": 40,
            "img_width": 60,
        }
        for mask in masks
    ]
    folder.mkdir()
    datasets.Dataset.from_list(rows, features=datasets.Features(columns)).to_parquet(
        str(folder / "test.parquet")
    )
    return folder


def test_training_rows(tmp_path: Path) -> None:
    """Both published forms of references become rows, in pixels of the resized image."""
    rows = list(published_rows("visionreasoner_7k", _training(tmp_path / "a", [BOXES, "[]"])))
    assert [(row.id, row.query, len(row), row.width) for row in rows] == [
        ("r0", "the mugs", 2, 840),
        ("r1", "the mugs", 0, 840),
    ]
    assert rows[0].boxes.tolist() == [[10, 20, 300, 400], [400, 20, 500, 80]]
    assert rows[0].points.tolist() == [[[100, 200]], [[450, 50]]]
    (row,) = published_rows("refcocog_9k", _training(tmp_path / "b", [TAGGED]))
    assert row.points.tolist() == [[[100, 200], [150, 250]]]
    for part in (rows, [row]):
        assert not check(part, "dr_seg", report=Report(strict=True))


def test_published_rows_make_the_same_solutions(tmp_path: Path) -> None:
    """Read and written again, the published references come out as they went in."""
    (row,) = published_rows("visionreasoner_7k", _training(tmp_path / "a", [BOXES]))
    assert json.loads(solution_of(row, rr.Recipe.load("vision_reasoner"))) == json.loads(BOXES)
    (row,) = published_rows("refcocog_9k", _training(tmp_path / "b", [TAGGED]))
    assert solution_of(row, rr.Recipe.load("seg_zero")) == TAGGED


def test_what_this_library_writes_can_stand_for_it(tmp_path: Path) -> None:
    """Shards of the training layout are read as if they were the published data."""
    rows = digit_rows(5)
    build(rows, tmp_path / "out", layout="training", recipe="dr_seg", origin="x")
    back = list(published_rows("visionreasoner_7k", tmp_path / "out"))
    assert [(row.id, row.query, len(row)) for row in back] == [
        (row.id, row.query, len(row)) for row in rows
    ]
    for row, kept in zip(rows, back, strict=True):
        assert np.abs(kept.boxes - row.boxes * 10).max(initial=0) <= 0.5


def test_evaluation_rows(tmp_path: Path) -> None:
    """A published mask is one object; a mask of nothing is nothing to find; it goes on to evaluation."""
    masks = [disc(40, 60, 20, 20, 9), np.zeros((40, 60), dtype=bool)]
    rows = list(published_rows("reasonseg_val", _evaluation(tmp_path / "a", masks)))
    assert [(row.id, row.query, len(row)) for row in rows] == [
        ("reasonseg_val_0", "what barks", 1),
        ("reasonseg_val_1", "what barks", 0),
    ]
    for row, mask in zip(rows, masks, strict=True):
        assert np.array_equal(decode_mask(row.mask or {}, "x"), mask)
    built = build(rows, tmp_path / "out", layout="eval", origin="x", split="val")
    data = datasets.load_dataset("parquet", data_files=str(built.paths[0]), split="train")
    assert [len(from_eval(columns)) for columns in data] == [1, 0]


def test_broken_rows_are_named(tmp_path: Path) -> None:
    """A reference that cannot be read, or a mask of another size, is named and left out."""
    report = Report()
    folder = _training(tmp_path / "a", [BOXES, "[1, 2]", BOXES])
    assert len(list(published_rows("visionreasoner_7k", folder, report=report))) == 2
    assert [p.row for p in report.problems] == ["visionreasoner_7k_1"]
    folder = _evaluation(tmp_path / "b", [disc(30, 60, 20, 20, 9)])
    with pytest.raises(rr.InputError, match=r"row reasonseg_test_0: .*60 x 40"):
        list(published_rows("reasonseg_test", folder))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """An unknown name, a folder without files, a broken file and a missing column are errors."""
    with pytest.raises(rr.InputError, match="visionreasoner_7k"):
        load("mscoco")
    with pytest.raises(
        rr.InputError, match=r"hf download Ricky06662/ReasonSeg_val --repo-type dataset"
    ):
        load("reasonseg_val", tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.parquet").write_text("no Parquet")
    with pytest.raises(rr.InputError, match="cannot be read"):
        load("reasonseg_val", tmp_path / "x")
    folder = _evaluation(tmp_path / "b", [disc(40, 60, 20, 20, 9)])
    with pytest.raises(rr.InputError, match="lacks id, problem, solution"):
        load("visionreasoner_7k", folder)


def test_without_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    """Offline, the real call fails with the command that downloads the very revision."""
    code = "from rankreward.datasets.published import load\nload('visionreasoner_7k')\n"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(rr.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "InputError" in run.stderr
    assert (
        "hf download Ricky06662/VisionReasoner_multi_object_7k_840 --repo-type dataset "
        "--revision 8056f125d15bda2c0cdc75ca84b47bbdd83dbfc7 --local-dir visionreasoner_7k"
    ) in run.stderr


def test_the_download_asks_for_name_revision_and_split(monkeypatch: Any, tmp_path: Path) -> None:
    """With network the Hub is asked for exactly what the table says."""
    asked: dict[str, Any] = {}
    local = datasets.load_dataset(
        "parquet",
        data_files=str(_training(tmp_path / "a", [BOXES]) / "train.parquet"),
        split="train",
    )

    def hub(name: str, **how: Any) -> Any:
        asked.update(how, name=name)
        return local

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert len(load("visionreasoner_7k")) == 1
    which = PUBLISHED["visionreasoner_7k"]
    assert asked == {"name": which.repository, "revision": which.revision, "split": "train"}
