"""`rankreward data` on the terminal: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from calling import call
from data_makers import coco, coins, disc, panoptic, write_json
from PIL import Image
from typer.testing import CliRunner

import rankreward as rr
from rankreward import cli


def run(*arguments: Any) -> tuple[int, str]:
    """Exit code, and standard output."""
    result = CliRunner().invoke(cli.app(), ["data", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """An instances file beside its images."""
    return write_json(tmp_path / "instances.json", coco(tmp_path / "images"))


@pytest.mark.parametrize("layout", ["training", "trl", "verl", "easyr1", "eval"])
def test_coco_to_every_layout(instances: Path, tmp_path: Path, layout: str) -> None:
    """What is built can be loaded, and a second call finds it as it stands."""
    arguments = ("build", "coco", instances, "--images", tmp_path / "images", "--for", layout)
    out = tmp_path / layout
    code, text = run(*arguments, "--out", out, "--json")
    assert code == 0
    first = json.loads(text)
    assert (first["rows"], first["reused"], first["left_out"]) == (4, False, {})
    again = json.loads(run(*arguments, "--out", out, "--json")[1])
    assert again["reused"]
    table = datasets.Dataset.from_parquet(first["paths"], cache_dir=str(tmp_path / "cache"))
    assert len(table) == 4
    if layout == "training":
        scorer = rr.Scorer("dr_seg")
        for row in table:
            text = f"<think><look>it</look></think><answer>{row['solution']}</answer>"
            assert scorer.score([text], [row["solution"]]).total[0] == 5


def test_what_was_left_out_is_told(instances: Path, tmp_path: Path) -> None:
    """A bad annotation costs its row, by name; --strict stops there."""
    data = json.loads(instances.read_text())
    data["annotations"][0]["segmentation"] = [[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]]
    bad = write_json(tmp_path / "bad.json", data)
    arguments = ("build", "coco", bad, "--images", tmp_path / "images", "--per", "annotation")
    code, text = run(*arguments, "--out", tmp_path / "a")
    assert code == 0
    assert "left out: 1 problems" in text
    with pytest.raises(rr.InputError, match=r"row .*: annotation"):
        run(*arguments, "--out", tmp_path / "b", "--strict")


def test_expressions(instances: Path, tmp_path: Path) -> None:
    """References become questions; one without a target asks for nothing that is there."""
    references = [
        {"ref_id": 1, "image_id": 1, "ann_ids": [11], "split": "train", "sentences": ["the cup"]},
        {"ref_id": 2, "image_id": 2, "ann_ids": [], "split": "train", "sentences": ["a horse"]},
    ]
    code, text = run(
        "build", "expressions", write_json(tmp_path / "refs.json", references),
        "--instances", instances, "--images", tmp_path / "images", "--out", tmp_path / "out",
        "--for", "trl", "--json",
    )  # fmt: skip
    assert code == 0
    table = datasets.Dataset.from_parquet(
        json.loads(text)["paths"], cache_dir=str(tmp_path / "cache")
    )
    assert [len(json.loads(solution)) for solution in table["solution"]] == [1, 0]


def test_a_folder_of_masks_and_a_look_at_it(tmp_path: Path) -> None:
    """The coins that scikit-image ships: 24 objects, counted, drawn and plotted."""
    image, masks = coins()
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "coins.png")
    labels = sum((place + 1) * mask for place, mask in enumerate(masks)).astype("uint8")
    Image.fromarray(labels).save(tmp_path / "masks" / "coins.png")
    code, text = run(
        "build", "folder", tmp_path / "images", "--masks", tmp_path / "masks",
        "--query", "every coin", "--for", "eval", "--split", "test", "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, text.splitlines()[0]) == (0, f"1 rows in 1 files of {tmp_path / 'out'}")
    code, text = run("inspect", tmp_path / "out", "--split", "test", "--json")
    assert json.loads(text)["objects"] == len(masks) == 24
    for name in ("sheet", "distributions"):
        with Image.open(tmp_path / "out" / f"test-{name}.png") as picture:
            assert picture.width > 300
    assert "objects a row" in run("inspect", tmp_path / "out", "--split", "test")[1]


def test_multi_object(instances: Path, tmp_path: Path) -> None:
    """Only classes with two instances or more, and the question that Dr. Seg asks."""
    code, text = run(
        "multi-object", instances, "--images", tmp_path / "images", "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert code == 0
    paths = json.loads(text)["paths"]
    table = datasets.Dataset.from_parquet(paths, cache_dir=str(tmp_path / "cache"))
    assert len(table) >= 1
    assert all(row["problem"].startswith("All ") and len(row["boxes"]) >= 2 for row in table)
    made = write_json(tmp_path / "panoptic.json", panoptic(tmp_path / "segments"))
    with pytest.raises(rr.InputError, match="row"):
        run(
            "multi-object", made, "--images", tmp_path / "images", "--out", tmp_path / "p",
            "--panoptic", tmp_path / "segments", "--n", 99,
        )  # fmt: skip


def test_published_sets_that_were_downloaded(tmp_path: Path) -> None:
    """A name with a folder of its Parquet files; an unknown name lists those there are."""
    image = Image.fromarray(disc(840, 840, 400, 400, 50).astype("uint8") * 255).convert("RGB")
    solution = json.dumps([{"bbox_2d": [350, 350, 450, 450], "point_2d": [400, 400]}])
    row = {"id": "1", "problem": "the disc", "solution": solution, "image": image}
    made = datasets.Dataset.from_list([{**row, "img_height": 840, "img_width": 840}])
    made = made.cast_column("image", datasets.Image())
    (tmp_path / "hub").mkdir()
    made.to_parquet(str(tmp_path / "hub" / "train-0.parquet"))
    code, text = run(
        "build", "published", "visionreasoner_7k", "--folder", tmp_path / "hub",
        "--for", "verl", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert (code, json.loads(text)["rows"]) == (0, 1)
    with pytest.raises(rr.InputError, match=r"expected one of .*visionreasoner_7k"):
        run("build", "published", "visionreasoner_8k", "--out", tmp_path)


def test_errors_are_one_line(tmp_path: Path) -> None:
    """On the real command line there is no traceback, and the exit code is not 0."""
    done = call("data", "inspect", tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"rankreward: {tmp_path}: expected shards of one split, or --split, got none"
    )
    assert "Traceback" not in done.stderr
