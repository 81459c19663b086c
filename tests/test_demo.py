"""The demo and the script that made its start, run as a user runs them, only shorter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from policy import RECIPE, START, generate, load
from rankreward.datasets.digits import scenes
from rankreward.evaluation import GrabCut, evaluate

FOLDER = START.parent


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_start_is_small() -> None:
    """The committed start is a tiny Qwen2.5-VL of 1 to 2 M parameters, under 6 MB in all."""
    model, _ = load()
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert 1e6 < sum(parameter.numel() for parameter in model.parameters()) < 2e6
    assert sum(file.stat().st_size for file in START.iterdir()) < 6e6


@pytest.mark.parametrize("sample", [False, True])
def test_the_start_answers_in_the_format_and_not_yet_well(sample: bool) -> None:
    """At least 90% of its answers parse, and its boxes leave room to improve."""
    model, processor = load()
    held_out = list(scenes(200, seed=0, split="eval"))
    torch.manual_seed(0)
    texts = generate(model, processor, held_out, sample=sample, title="start")
    result = evaluate(
        texts,
        [scene.reference for scene in held_out],
        [scene.image for scene in held_out],
        [scene.mask for scene in held_out],
        recipe=RECIPE,
        segmenter=GrabCut(),
    )
    summary = result.summary()
    assert summary["parsable answers"] >= 0.9
    assert 0.2 < summary["mean box IoU"] < 0.5
    lengths = [len(processor.tokenizer(text)["input_ids"]) for text in texts]
    assert np.mean(lengths) < 32


def test_demo_runs_and_resumes(tmp_path: Path) -> None:
    """It prints one table and writes results, log, policy and three pictures; a resumed run goes on."""
    arguments = ("--eval-scenes", 12, "--out", tmp_path)
    done = script("demo.py", "--steps", 2, *arguments)
    assert done.returncode == 0, done.stderr
    for measure in ("parsable answers", "mean box IoU", "count accuracy", "gIoU", "cIoU"):
        for mode in ("greedy", "sampled"):
            assert f"{measure}, {mode}" in done.stdout
    for picture in ("curves.png", "ecdf.png", "contact_sheet.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["measures"]) == 10
    assert (tmp_path / "policy" / "model.safetensors").exists()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]

    trained, _ = load(weights=tmp_path / "trainer" / "checkpoint-2")
    start, _ = load()
    assert not torch.equal(trained.lm_head.weight, start.lm_head.weight)
    resumed = script("demo.py", "--steps", 4, "--resume", *arguments)
    assert resumed.returncode == 0, resumed.stderr
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]


def test_demo_says_when_there_is_nothing_to_resume(tmp_path: Path) -> None:
    """Resuming without a checkpoint is one line, not a traceback."""
    done = script("demo.py", "--resume", "--steps", 1, "--eval-scenes", 4, "--out", tmp_path)
    assert done.returncode == 1
    assert "--resume: expected a checkpoint in" in done.stderr.splitlines()[-1]


def test_warm_start_makes_a_start(tmp_path: Path) -> None:
    """The script that made the start makes another one that the demo can load."""
    done = script("warm_start.py", "--steps", 2, "--scenes", 70, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    model, processor = load(tmp_path)
    texts = generate(model, processor, list(scenes(2, seed=0)), sample=False, title="made")
    assert len(texts) == 2
