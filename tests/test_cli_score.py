"""`rankreward score` as it is typed: tables, JSON, folders, faults, memory, and Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import call
from log_makers import rollouts, write_lines, write_verl
from typer.testing import CliRunner

import rankreward as rr
from rankreward import cli

FILES = {
    "settings.json",
    "scored.jsonl",
    "steps.jsonl",
    "bad.jsonl",
    "examples.jsonl",
    "windows",
    "summary.json",
}
COMMAND = [sys.executable, "-c", "from rankreward.cli import main; main()", "score"]


def score(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app(), ["score", *map(str, arguments)])


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_is_summed_up(tmp_path: Path) -> None:
    """Without a folder it prints what the rollouts were paid, and writes nothing."""
    log = write_lines(tmp_path / "log.jsonl", rollouts(4))
    result = score(log, "--recipe", "dr_seg")
    assert result.exit_code == 0, result.output
    for part in ("rollouts", "48", "bad rows", "iou", "variance share", "unclosed_tag"):
        assert part in result.stdout
    assert "plain: completion in 'completion'" in result.stderr
    assert list(tmp_path.iterdir()) == [log]


def test_json_is_one_document_on_standard_output(tmp_path: Path) -> None:
    """What a script reads is the summary alone; it is the folder's summary, too."""
    folder = write_verl(tmp_path / "dump", rollouts(12))
    result = score(folder, "--recipe", "dr_seg", "--json", "--out", tmp_path / "run")
    summary = json.loads(result.stdout)
    assert (summary["rollouts"], summary["steps"], summary["finished"]) == (144, 12, True)
    assert summary == json.loads((tmp_path / "run/summary.json").read_text())
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_settings_make_the_recipe_again(tmp_path: Path) -> None:
    """They hold the recipe as it was used, the log, and the options that were given."""
    log = write_lines(tmp_path / "log.jsonl", [{**row, "step": None} for row in rollouts(2)])
    rows = [{k: v for k, v in row.items() if k != "step"} for row in rollouts(2)]
    write_lines(log, rows)
    out = tmp_path / "run"
    result = score(log, "--recipe", "dr_seg", "--rows-per-step", 12, "--frame", 1680, "--out", out)
    assert result.exit_code == 0, result.output
    settings = json.loads((out / "settings.json").read_text())
    assert rr.Recipe.load(settings["recipe"]) == rr.Recipe.load("dr_seg").resized(1680)
    assert settings["log"] == [str(log)]
    assert settings["rankreward"] == rr.__version__
    assert (settings["rows_per_step"], settings["frame"]) == (12, 1680)
    assert [line["step"] for line in read_lines(out / "steps.jsonl")] == [1, 2]


def test_an_earlier_result_is_replaced_only_when_told(tmp_path: Path) -> None:
    """Otherwise it stays as it is; what else the folder holds is never touched."""
    log = write_lines(tmp_path / "log.jsonl", rollouts(3))
    out = tmp_path / "run"
    assert score(log, "--recipe", "dr_seg", "--out", out).exit_code == 0
    (out / "notes.txt").write_text("mine")
    before = (out / "scored.jsonl").read_bytes()
    refused = score(log, "--recipe", "vision_reasoner", "--out", out)
    assert isinstance(refused.exception, rr.InputError)
    assert "--overwrite" in str(refused.exception)
    assert (out / "scored.jsonl").read_bytes() == before
    write_lines(log, rollouts(2))
    assert score(log, "--recipe", "vision_reasoner", "--out", out, "--overwrite").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert len(read_lines(out / "steps.jsonl")) == 2
    assert [path.name for path in sorted((out / "windows").iterdir())] == [
        "step-00000001.npz", "step-00000002.npz",
    ]  # fmt: skip


def test_bad_rows_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    """On standard error with their places, all of them in the folder; the rest is scored."""
    log = write_lines(tmp_path / "log.jsonl", rollouts(2))
    log.write_text(log.read_text() + "{\n" * 8)
    result = score(log, "--recipe", "dr_seg", "--out", tmp_path / "run")
    assert result.exit_code == 0
    assert result.stderr.count("bad row log.jsonl:") == 5
    assert "bad row log.jsonl:25: expected a JSON object" in result.stderr
    assert "8 bad rows were not scored" in result.stderr
    assert len(read_lines(tmp_path / "run/bad.jsonl")) == 8


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        ([{"text": "a"}], [], "name yours with --completion"),
        ([{"completion": "a", "step": 1}], [], "--references"),
        ([{"completion": "a", "reference": "[]"}], [], "--rows-per-step"),
        ([{"completion": "a", "reference": "{]", "step": 1}], [], "expected a JSON list"),
        ([], [], "expected rows, got none"),
        (rollouts(1), ["--segmenter", "grabcut"], "has no use for it"),
        (rollouts(1), ["--segmenter", "odd"], "expected grabcut"),
        (rollouts(1), ["--recipe", "dr_sg"], "did you mean"),
        (rollouts(1), ["--recipe", "sam_r1"], "segmenter"),
        (rollouts(1), ["--from-window", "gone.npz"], "gone.npz"),
    ],
)
def test_a_log_of_which_nothing_can_be_scored_fails_in_one_line(
    tmp_path: Path, rows: list[Any], options: list[str], reason: str
) -> None:
    """The message says what is missing and how to give it; the exit status is 1."""
    log = write_lines(tmp_path / "log.jsonl", rows)
    arguments = [str(log), "--recipe", "dr_seg", *options]
    done = call("score", *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_result_among_the_logs_files_is_refused(tmp_path: Path) -> None:
    """The next run would read it as a part of the log."""
    write_lines(tmp_path / "log.jsonl", rollouts(1))
    result = score(tmp_path, "--recipe", "dr_seg", "--out", tmp_path)
    assert "expected another folder than the log's" in str(result.exception)


def test_a_result_that_is_the_log_is_not_overwritten(tmp_path: Path) -> None:
    """It would be deleted before it is read."""
    log = write_lines(tmp_path / "log.jsonl", rollouts(2))
    assert score(log, "--recipe", "dr_seg", "--out", tmp_path / "run").exit_code == 0
    examples = tmp_path / "run/examples.jsonl"
    before = examples.read_bytes()
    result = score(examples, "--recipe", "dr_seg", "--out", tmp_path / "run", "--overwrite")
    assert "expected another folder than that of the log" in str(result.exception)
    assert examples.read_bytes() == before


def test_missing_steps_are_said_and_summed_up(tmp_path: Path) -> None:
    """A log of every third step has other windows than its training had."""
    rows = [{**row, "step": 3 * row["step"]} for row in rollouts(3)]
    log = write_lines(tmp_path / "log.jsonl", rows)
    result = score(log, "--recipe", "dr_seg", "--json")
    assert json.loads(result.stdout)["missing_steps"] == {"count": 4, "first": 4, "last": 8}
    assert result.stderr.count("4 of the steps 4 to 8 are not in the log") == 1


def test_a_shuffled_log_without_groups_is_grouped_by_its_prompts(tmp_path: Path) -> None:
    """As verl writes it, which reorders a batch and names no groups; chunks change nothing."""
    rows = rollouts(1, groups=1500)
    rows = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    for row in rows:
        del row["group"]
    result = score(write_lines(tmp_path / "log.jsonl", rows), "--recipe", "dr_seg", "--json")
    assert json.loads(result.stdout)["groups"] == 1500


def test_a_full_disk_is_named_and_leaves_whole_steps(tmp_path: Path) -> None:
    """The message names the file; lines end with a step, and the summary says unfinished."""
    log, out = write_lines(tmp_path / "log.jsonl", rollouts(40)), tmp_path / "run"
    command = [*COMMAND, str(log), "--recipe", "dr_seg", "--out", str(out)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("rankreward: [Errno 27] File too large")
    assert str(out / "scored.jsonl") in done.stderr
    steps, lines = read_lines(out / "steps.jsonl"), read_lines(out / "scored.jsonl")
    summary = json.loads((out / "summary.json").read_text())
    assert 0 < len(steps) == summary["steps"] < 40
    assert len(lines) == sum(line["rows"] for line in steps)
    assert summary["finished"] is False


def test_scoring_goes_on_from_a_saved_window(tmp_path: Path) -> None:
    """A log in two parts pays what it pays in one piece, if the second begins with the window."""
    rows = rollouts(6)
    whole = write_lines(tmp_path / "whole.jsonl", rows)
    parts = [
        write_lines(tmp_path / f"{name}.jsonl", [row for row in rows if (row["step"] > 3) == late])
        for name, late in (("early", False), ("late", True))
    ]
    for path in (whole, parts[0]):
        assert score(path, "--recipe", "dr_seg", "--out", tmp_path / path.stem).exit_code == 0
    window = tmp_path / "early/windows/step-00000003.npz"
    late = ["--recipe", "dr_seg", "--from-window", window, "--out", tmp_path / "late"]
    assert score(parts[1], *late).exit_code == 0
    paid = {
        name: [line["total"] for line in read_lines(tmp_path / name / "scored.jsonl")]
        for name in ("whole", "early", "late")
    }
    assert paid["early"] + paid["late"] == paid["whole"]


def test_ctrl_c_leaves_whole_steps(tmp_path: Path) -> None:
    """A process stopped in the middle ends with 130; its files are valid and end with a step."""
    rows = rollouts(400)
    log = tmp_path / "log.jsonl"
    with log.open("w") as file:
        for turn in range(25):
            for row in rows:
                file.write(json.dumps({**row, "step": row["step"] + 400 * turn}) + "\n")
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, str(log), "--recipe", "dr_seg", "--out", str(out), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "steps.jsonl").exists() or (out / "steps.jsonl").stat().st_size < 50_000:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "stopped" in stderr
    summary = json.loads(stdout)
    steps, lines = read_lines(out / "steps.jsonl"), read_lines(out / "scored.jsonl")
    assert summary["finished"] is False
    assert summary == json.loads((out / "summary.json").read_text())
    assert 0 < len(steps) == summary["steps"] < 10_000
    assert len(lines) == sum(line["rows"] for line in steps) == summary["rollouts"]
    assert lines[-1]["step"] == steps[-1]["step"]
    assert read_lines(out / "examples.jsonl")


def peak(log: Path) -> int:
    """The most memory that scoring a log takes, in KiB."""
    # What getrusage says of a process may be what its parent had.
    code = (
        "import re\n"
        "from rankreward.cli import app\n"
        "app()(standalone_mode=False)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    out = log.with_suffix("")
    command = [
        sys.executable,
        "-c",
        code,
        "score",
        str(log),
        "--recipe",
        "dr_seg",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    return int(done.stdout.splitlines()[-1])


def test_long_prompts_take_no_memory(tmp_path: Path) -> None:
    """A step of 2000 prompts of 100 kB each takes a quarter of that at most."""
    log = tmp_path / "log.jsonl"
    with log.open("w") as file:
        for n, row in enumerate(rollouts(1, groups=500)):
            del row["group"]
            file.write(json.dumps({**row, "prompt": f"{n // 4} " * 25_000}) + "\n")
    short = write_lines(tmp_path / "short.jsonl", rollouts(1, groups=500))
    assert log.stat().st_size > 150_000_000
    assert peak(log) < peak(short) + 50_000


@pytest.mark.parametrize("stepped", [True, False])
def test_memory_does_not_grow_with_the_log(tmp_path: Path, stepped: bool) -> None:
    """A log of 30 MB takes no more than 8 MB above one of 10 MB, in steps or as a single one."""
    rows = rollouts(1, groups=64, size=8)
    for row in rows:
        row["prompt"] = "where? " * 300
        if not stepped:
            row["step"] = 1
    text = "".join(json.dumps(row) + "\n" for row in rows)
    sizes = {}
    for turns in (8, 24):
        log = tmp_path / f"{turns}.jsonl"
        with log.open("w") as file:
            for turn in range(turns):
                file.write(text.replace('"step": 1,', f'"step": {turn if stepped else 1},'))
        sizes[turns] = peak(log)
        assert log.stat().st_size > turns * 1_200_000
    assert sizes[24] < sizes[8] + 8_000


def test_the_page_shows_what_is_printed() -> None:
    """Each line of its table is one of the command's, on the log that comes with the library."""
    root = Path(__file__).parents[1]
    page = (root / "docs/logs.md").read_text()
    log = root / "examples/logs/digits.jsonl.gz"
    printed = score(log, "--recipe", "dr_seg", "--frame", 84).stdout.splitlines()
    shown = [line for line in page.splitlines() if line[:1] in "┃│" and line]
    assert len(shown) == 15
    assert [line for line in shown if line not in printed] == []
