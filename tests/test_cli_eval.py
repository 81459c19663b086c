"""`rankreward eval` on the terminal, with the demo's tiny policy and stored completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import rankreward as rr
from policy import START, answer
from rankreward import cli
from rankreward.datasets.digits import scenes
from rankreward.evaluation.records import merge

pytestmark = pytest.mark.filterwarnings("ignore::Warning:(transformers|torch).*")
DATA = ("digits:6", "--frame", 84)


def run(*arguments: Any) -> tuple[int, str]:
    """Exit code, and standard output."""
    result = CliRunner().invoke(cli.app(), ["eval", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A file of right answers, but for one that is not to be read and one that is empty."""
    texts = [answer(scene) for scene in scenes(6, seed=0, split="eval")]
    texts[1], texts[2] = "no answer", answer(next(scenes(1, seed=0, split="eval")), "[]")
    path = tmp_path / "answers.jsonl"
    lines = [{"id": f"scene-{place}", "completion": text} for place, text in enumerate(texts)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def measures(text: str) -> dict[tuple[str, str], float]:
    return {(row["stratum"], row["measure"]): row["value"] for row in json.loads(text)["rows"]}


def test_a_policy_is_asked_judged_and_drawn(tmp_path: Path) -> None:
    """One command leaves records, tables and pictures; the same one again asks nothing."""
    arguments = (*DATA, "--policy", START, "--out", tmp_path, "--max-tokens", 64, "--by", "count")
    code, text = run(*arguments)
    assert code == 0
    assert "mean box IoU" in text
    names = {"index.html", "summary.csv", "summary.md", "summary.json", "settings.json"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.width > 600
    before = (tmp_path / "samples-0of1.jsonl").read_bytes()
    assert run(*arguments, "--format", "json", "--pictures", 0)[0] == 0
    assert (tmp_path / "samples-0of1.jsonl").read_bytes() == before
    strata = {row["stratum"] for row in json.loads((tmp_path / "summary.json").read_text())["rows"]}
    assert {"all", "1"} <= strata


def test_shards_are_one_run(stored: Path, tmp_path: Path) -> None:
    """The last shard to be done finds the run whole; its summary is that of one process."""
    common = (*DATA, "--policy", stored, "--segmenter", "none", "--pictures", 0)
    whole = measures(run(*common, "--out", tmp_path / "whole", "--format", "json")[1])
    code, text = run(*common, "--out", tmp_path / "parts", "--shard", "0/2")
    assert (code, text) == (0, "")
    last = run(*common, "--out", tmp_path / "parts", "--shard", "1/2", "--format", "json")[1]
    assert measures(last) == whole
    assert len(merge(tmp_path / "parts")) == 6
    again = run("summary", tmp_path / "parts", "--ap", "area", "--format", "json")[1]
    assert whole.items() <= measures(again).items()
    assert ("all", "parsable answers") in whole


def test_two_runs_are_compared(stored: Path, tmp_path: Path) -> None:
    """Differences with intervals, what changed most, and a page with both answers."""
    empty = tmp_path / "empty.jsonl"
    lines = [{**json.loads(line), "completion": "?"} for line in stored.read_text().splitlines()]
    empty.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, policy in (("good", stored), ("bad", empty)):
        run(*DATA, "--policy", policy, "--segmenter", "none", "--pictures", 0,
            "--out", tmp_path / name)  # fmt: skip
    code, text = run("compare", tmp_path / "bad", tmp_path / "good", "--format", "json")
    assert code == 0
    rows = {row["measure"]: row for row in json.loads(text)["rows"]}
    assert rows["mean box IoU"]["difference"] > 0.5
    page = tmp_path / "page.html"
    code, text = run(
        "compare", tmp_path / "bad", tmp_path / "good", "--page", page, "--data", "digits:6",
    )  # fmt: skip
    assert code == 0
    assert "changed most" in text
    assert "scene-0" in page.read_text()
    assert run("compare", tmp_path / "bad", tmp_path / "good", "--format", "csv")[1].startswith("s")
    by = json.loads(
        run("compare", tmp_path / "bad", tmp_path / "good", "--by", "count", "--format", "json")[1]
    )
    assert {"all", "1"} <= {row["stratum"] for row in by["rows"]}


def test_a_smaller_limit_is_of_fewer_samples(stored: Path, tmp_path: Path) -> None:
    """Though the folder holds more, and their summary is of those asked for."""
    common = (
        "--policy", stored, "--segmenter", "none", "--pictures", 0, "--out", tmp_path / "out",
    )  # fmt: skip
    run("digits:6", "--frame", 84, *common)
    code, text = run("digits:6", "--frame", 84, *common, "--limit", 2, "--format", "json")
    assert (code, json.loads(text)["samples"]) == (0, 2)


def test_an_answer_that_cannot_be_read_is_never_right(tmp_path: Path) -> None:
    """Not where nothing is asked for, either; and a mean is compared over the same samples."""
    texts = [answer(scene) for scene in scenes(40, seed=0, split="eval")]
    for name, given in (
        ("right", texts),
        ("odd", ["?" if i % 2 else t for i, t in enumerate(texts)]),
    ):
        lines = [{"id": f"scene-{i}", "completion": text} for i, text in enumerate(given)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        run("digits:40", "--frame", 84, "--policy", path, "--segmenter", "none", "--pictures", 0,
            "--out", tmp_path / name)  # fmt: skip
    odd = measures((tmp_path / "odd" / "summary.json").read_text())
    assert odd["all", "count accuracy"] == 0.5
    rows = json.loads(run("compare", tmp_path / "right", tmp_path / "odd", "--format", "json")[1])
    found = {row["measure"]: row for row in rows["rows"]}
    assert found["count accuracy"]["difference"] == -0.5
    assert found["macro precision"]["difference"] == 0
    assert found["macro precision"]["n"] <= 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--segmenter", "sam3:x"), "expected grabcut, sam2:<model> or none"),
        (("--shard", "one"), "--shard: expected i/n"),
        (("--shard", "2/2"), "expected 0 <= i < n"),
        (("--protocol", "sam"), "protocol: expected one of"),
        (("--by", "colour"), "--by: expected one of count, got 'colour'"),
    ],
)
def test_what_is_not_known_is_named(
    stored: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """Before anything is asked."""
    with pytest.raises(rr.InputError, match=message):
        run(*DATA, "--policy", stored, "--out", tmp_path / "out", *arguments)


def test_a_server_needs_the_models_name(tmp_path: Path) -> None:
    """And says so."""
    with pytest.raises(rr.InputError, match="--model: expected the model's name"):
        run(*DATA, "--policy", "http://localhost:1/v1", "--out", tmp_path)


def test_other_settings_are_another_run(stored: Path, tmp_path: Path) -> None:
    """A folder holds one run; the difference is named."""
    common = (*DATA, "--policy", stored, "--out", tmp_path / "out", "--pictures", 0)
    run(*common, "--segmenter", "none")
    with pytest.raises(rr.CheckpointError, match="segmenter"):
        run(*common, "--segmenter", "grabcut")
