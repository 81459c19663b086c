"""Ctrl-C and other ends: real signals to real processes, and what they leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import call
from data_makers import write_json
from PIL import Image

from policy import answer
from rankreward.datasets.digits import scenes
from rankreward.evaluation import read_records

PROGRAM = Path(sys.executable).with_name("rankreward")
SCENES = 100
IMAGES = 2400  # more than one shard of rows


def stop(
    arguments: list[Any], ready: Callable[[], bool], number: int, cwd: Path
) -> tuple[int, str]:
    """Start a command, send it a signal once it is at work; its exit status, and what it said."""
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never got to work"
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)
    return process.returncode, said[1]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored completions of many scenes."""
    path = tmp_path_factory.mktemp("stop") / "answers.jsonl"
    texts = [answer(scene) for scene in scenes(SCENES, seed=0, split="eval")]
    lines = [json.dumps({"id": f"scene-{i}", "completion": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of many images, all of which are one file."""
    folder = tmp_path_factory.mktemp("instances")
    (folder / "images").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "images" / "one.png")
    boxes = [[1, 1, 10, 10], [15, 15, 10, 10]]
    data = {
        "images": [
            {"id": i, "file_name": "one.png", "width": 32, "height": 32} for i in range(IMAGES)
        ],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {
                "id": 2 * i + k, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [x, y, w, h],
                "area": w * h, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for i in range(IMAGES)
            for k, (x, y, w, h) in enumerate(boxes)
        ],
    }  # fmt: skip
    return write_json(folder / "instances.json", data)


def test_an_evaluation_goes_on(answers: Path, tmp_path: Path) -> None:
    """Whole records are kept, and the same command asks for the others alone."""
    command = [
        "eval", f"digits:{SCENES}", "--frame", 84, "--policy", answers, "--segmenter", "grabcut",
        "--pictures", 0, "--batch", 4, "--out", "run", "--json",
    ]  # fmt: skip
    records = tmp_path / "run" / "samples-0of1.jsonl"
    got, said = stop(
        command, lambda: records.exists() and records.stat().st_size > 0, signal.SIGINT, tmp_path
    )
    assert got == 130
    assert said == "rankreward: stopped; what is in run is kept, and the same command goes on\n"
    before = list(read_records(records))
    assert 0 < len(before) < SCENES
    done = call(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == SCENES
    after = list(read_records(records))
    assert after[: len(before)] == before
    assert len({record["id"] for record in after}) == len(after) == SCENES


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("data build coco --for eval", signal.SIGINT, 130),
        ("data multi-object", signal.SIGTERM, 143),
    ],
)
def test_a_build_goes_on(
    instances: Path, tmp_path: Path, command: str, number: int, code: int
) -> None:
    """Shards that are whole stand, none is half, and the same command makes the others."""
    asked = [*command.split(), instances, "--images", instances.parent / "images", "--out", "out"]
    split = "train" if "build" in command else "test"
    first, out = tmp_path / "out" / f"{split}-00000.parquet", tmp_path / "out"
    got, said = stop([*asked, "--json"], first.exists, number, tmp_path)
    assert got == code
    words = "rankreward: stopped; the whole shards in out are kept, and the same command goes on\n"
    assert said == (words if number == signal.SIGINT else "")
    assert [path.name for path in out.iterdir()] == [first.name]
    before = first.stat().st_mtime_ns
    done = call(*asked, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == IMAGES
    assert first.stat().st_mtime_ns == before


def test_a_benchmark_starts_anew(tmp_path: Path) -> None:
    """It has nothing to keep, and says so."""
    started = time.monotonic()
    command = ["bench", "--seconds", 60, "--json", "figures.json"]
    got, said = stop(command, lambda: time.monotonic() > started + 4, signal.SIGINT, tmp_path)
    assert got == 130
    assert said == "rankreward: stopped; nothing was written; the same command starts anew\n"
    assert not [*tmp_path.iterdir()]
