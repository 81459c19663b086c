"""`rankreward replay` on the terminal: what is typed, printed and written, and how it fails."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_replay import rows_of
from typer.testing import CliRunner

from rankreward import cli
from rankreward.cli.replaying import spread
from rankreward.errors import InputError, MissingExtraError
from rankreward.logs.rows import Chunk, LogRow
from rankreward.replay.contestants import read_contestants
from rankreward.replay.replaying import replay
from rankreward.report import replay_plots

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "logs" / "digits.jsonl.gz"
TWO = ("dr_seg", "vision_reasoner")
EVIL = "\x1b[2J<script>alert(1)</script>\u202e]]>"


def run(*arguments: Any) -> Any:
    """The result, with what was printed on either side."""
    result = CliRunner().invoke(cli.app(), ["replay", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """Six steps of sixteen rollouts, one of which no terminal or page should obey."""
    lines = []
    for step in range(1, 7):
        for row in rows_of(step):
            text = row.completion if "see nothing" not in row.completion else EVIL
            lines.append(
                {"step": step, "group": row.group, "completion": text, "reference": row.reference}
            )
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("LOG --recipes a b c", "LOG --recipes a --recipes b --recipes c"),
        ("--recipes a b --frame 84 LOG", "--recipes a --recipes b --frame 84 LOG"),
        ("LOG --recipes=a b --json", "LOG --recipes=a --recipes b --json"),
        ("LOG --recipes a --recipes b", "LOG --recipes a --recipes b"),
        ("--recipes a b -- LOG", "--recipes a --recipes b -- LOG"),
        ("one two --out x", "one two --out x"),
    ],
)
def test_several_recipes_after_one_option(typed: str, meant: str) -> None:
    """All words up to the next option are recipes."""
    assert spread(typed.split()) == meant.split()


def test_json_for_scripts(rollouts: Path) -> None:
    """Standard output is one document with every measure, and nothing undefined is NaN."""
    found = json.loads(run(rollouts, "--recipes", *TWO, "dr_seg+window=512", "--json").stdout)
    assert list(found["recipes"]) == [*TWO, "dr_seg+window=512"]
    assert (found["pairs"][0]["first"], found["pairs"][0]["second"]) == TWO
    assert (found["rows"], found["groups"], found["steps"], found["bad"]) == (96, 24, 6, 0)
    chunks = [Chunk(step, list(step_rows), [], ends=True) for step, step_rows in again(rollouts)]
    whole = replay(chunks, read_contestants([*TWO, "dr_seg+window=512"]))
    told = found["pairs"][0]["measures"]["correlation"]
    assert told["value"] == whole.get("correlation", *TWO).value
    assert len(told["thirds"]) == 3
    assert found["disagreements"]


def again(path: Path) -> list[tuple[int, Any]]:
    """The rollouts as the file has them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [
        LogRow(str(k), each["step"], each["group"], each["completion"], each["reference"])
        for k, each in enumerate(lines)
    ]
    return [(step, [row for row in rows if row.step == step]) for step in range(1, 7)]


def test_the_folder(rollouts: Path, tmp_path: Path) -> None:
    """Every file can be read, they agree with one another, and nothing else is left."""
    out = tmp_path / "out"
    assert run(rollouts, "--recipes", *TWO, "--out", out).exit_code == 0
    tables = [
        f"{n}.{e}" for n in ("signal", "agreement", "terms", "metrics") for e in ("csv", "md")
    ]
    others = ["summary.json", "steps.jsonl", "disagreements.jsonl", "replay.png", "index.html"]
    assert sorted(each.name for each in out.iterdir()) == sorted([*tables, *others])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["log"] == [str(rollouts)]
    assert summary["settings"]["recipes"]["dr_seg"]["name"] == "dr_seg"
    rows = list(csv.DictReader(io.StringIO((out / "agreement.csv").read_text())))
    for row in rows:
        value = summary["pairs"][0]["measures"][row["measure"]]["value"]
        assert float(row["value"]) == value
    steps = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    mean = np.mean([step["recipes"]["dr_seg"]["reward"] for step in steps])
    assert mean == pytest.approx(summary["recipes"]["dr_seg"]["reward"]["value"])
    cases = [json.loads(line) for line in (out / "disagreements.jsonl").read_text().splitlines()]
    assert 0 < len(cases) <= 10
    assert (out / "replay.png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_s_text_is_text(rollouts: Path, tmp_path: Path) -> None:
    """Neither the terminal nor the page obeys what a completion holds."""
    out = tmp_path / "out"
    arguments = (rollouts, "--recipes", *TWO, "--out", out, "--show", "50", "--keep", "50")
    printed = run(*arguments).stdout
    assert "alert(1)" in printed
    assert "\x1b[2J" not in printed
    assert "\u202e" not in printed
    page = (out / "index.html").read_text()
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert "script" not in tags
    assert tags.count("img") == 1
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_groups_to_show(rollouts: Path) -> None:
    """--show prints so many groups of the first two recipes, with what each rollout earns."""
    none = run(rollouts, "--recipes", *TWO, "--show", "0").stdout
    two = run(rollouts, "--recipes", *TWO, "--show", "2").stdout
    assert none.count("because of:") == 0
    assert two.count("because of:") == 2
    paid = re.findall(r": first \d\.\d{3} \([+-]\d\.\d\d\), second \d\.\d{3} \([+-]\d\.\d\d\)", two)
    assert len(paid) == 2 * 4


def test_a_terminal_of_80_columns_breaks_no_name(
    rollouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said is at most 80 wide and every name is whole; only a policy's text is longer."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    recipes = (*TWO, "dr_seg+kind=none")
    result = run(rollouts, "--recipes", *recipes, "--show", "1")
    printed = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    own = [line for line in printed.splitlines() if not line.startswith(("    ", "reference:"))]
    assert max(map(len, own)) <= 80
    tables = [line for line in own if line.startswith(("│", "┃"))]
    words = {word for line in tables for word in line.split()}
    assert {*recipes, "correlation", "reward", "advantages"} <= words
    assert max(map(len, tables)) <= 80


def test_a_row_that_one_recipe_refuses_is_named(tmp_path: Path) -> None:
    """A null in one row of a log costs that row alone."""
    reference = '{"bbox": [10, 10, 50, 50], "points_1": [30, 30], "points_2": [20, 20]}'
    base = {"reference": reference, "tokens": 5, "difficulty": 0.5, "uncertainty": 0.5}
    texts = ("junk", f"<think>a</think><answer>{reference}</answer>") * 2
    lines = [
        {"step": step, "group": group, "completion": text, **base}
        for step in (1, 2)
        for group in (1, 2)
        for text in texts
    ]
    lines[10]["tokens"] = None
    log = tmp_path / "null.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    result = run(log, "--recipes", "seg_zero", "pixel_think")
    assert result.exit_code == 0
    assert "null.jsonl:11: refused by pixel_think: tokens: expected" in result.stderr
    assert "15 rollouts" in result.stdout


def test_without_matplotlib(
    rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the plot is written, and the reason is said."""

    def missing(module: str, *, extra: str) -> Any:
        raise MissingExtraError(f"no {module}: rankreward[{extra}]")

    monkeypatch.setattr(replay_plots, "require", missing)
    result = run(rollouts, "--recipes", *TWO, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "no plots: no matplotlib.figure: rankreward[report]" in result.stderr
    assert not (tmp_path / "out" / "replay.png").exists()
    assert (tmp_path / "out" / "index.html").exists()


def test_what_is_wrong_is_said(rollouts: Path, tmp_path: Path) -> None:
    """Too few recipes, a frame of another shape and groups of one are errors before any file."""
    out = tmp_path / "out"
    with pytest.raises(InputError, match="expected two or more"):
        run(rollouts, "--recipes", "dr_seg", "--out", out)
    with pytest.raises(InputError, match=r"dr_seg-released.*distances built in"):
        run(rollouts, "--recipes", "dr_seg", "dr_seg-released", "--frame", 84, "--out", out)
    lines = [json.loads(line) for line in rollouts.read_text().splitlines()]
    lonely = tmp_path / "lonely.jsonl"
    lonely.write_text(
        "".join(f"{json.dumps({**line, 'group': k})}\n" for k, line in enumerate(lines))
    )
    with pytest.raises(InputError, match="--group-size"):
        run(lonely, "--recipes", *TWO, "--out", out)
    assert run(lonely, "--recipes", *TWO, "--group-size", 4).exit_code == 0
    assert run(rollouts).exit_code == 2
    assert not out.exists()


def test_bad_rows_are_named(rollouts: Path) -> None:
    """A row that is no rollout is told on standard error, and costs only itself."""
    rollouts.write_text("{]\n" + rollouts.read_text())
    result = run(rollouts, "--recipes", *TWO)
    assert result.exit_code == 0
    assert "rollouts.jsonl:1: " in result.stderr
    assert "1 bad rows were left out" in " ".join(result.stdout.split())


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    """An interrupted replay ends with 130 and has written no file."""
    rollouts = tmp_path / "rollouts.jsonl"
    lines = gzip.decompress(DIGITS.read_bytes()).decode()
    rollouts.write_text(lines * 8)  # the steps fall where it begins again, long after the signal
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from rankreward.cli import main; main()", "replay"]
    command += [str(rollouts), "--recipes", *TWO, "--out", str(out), "--frame", "84"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the format of the log: it is being read
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "nothing was written" in said
    assert not out.exists()


def test_plots_refuse_what_does_not_fit() -> None:
    """Nothing to draw, or a matrix of another shape, is an error."""
    for draw in (replay_plots.plot_shares, replay_plots.plot_dead_groups):
        with pytest.raises(InputError, match="at least one recipe"):
            draw(None, {})
    with pytest.raises(InputError, match=r"expected shape \(2, 2\), got \(1, 2\)"):
        replay_plots.plot_correlations(None, ["a", "b"], [[1.0, 0.5]])


def test_plots_draw_the_numbers() -> None:
    """Bars are as long as the shares, to either side of 0; cells say the correlations."""
    left, middle, right = Figure().subplots(1, 3)
    shares = {"a": {"iou": 0.7, "look": -0.2, "count": 0.5}, "b": {"iou": 1.0}}
    replay_plots.plot_shares(left, shares)
    widths = sorted(round(bar.get_width(), 6) for bar in left.patches)
    assert widths == [-0.2, 0.0, 0.0, 0.5, 0.7, 1.0]
    assert min(bar.get_x() + bar.get_width() for bar in left.patches) == pytest.approx(-0.2)
    assert max(bar.get_x() + bar.get_width() for bar in left.patches) == pytest.approx(1.2)
    replay_plots.plot_correlations(middle, ["a", "b"], [[1.0, np.nan], [np.nan, 1.0]])
    assert [text.get_text() for text in middle.texts] == ["1.00", "-", "-", "1.00"]
    replay_plots.plot_dead_groups(right, {"a": (0.4, 0.3, 0.5), "b": (0.1, np.nan, np.nan)})
    assert [bar.get_width() for bar in right.patches] == [0.4, 0.1]


def test_the_page_on_replays_keeps_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command prints the paragraph that it quotes, and its Python what the comment says."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "replay.md").read_text()
    (command,) = re.findall(r"^\$ rankreward replay (examples/.*)$", page, re.MULTILINE)
    printed = " ".join(run(*command.split()).stdout.split())
    (quoted,) = re.findall(r"((?:^>.*\n)+)", page, re.MULTILINE)
    assert " ".join(quoted.replace(">", "").split()) in printed
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(block, {})  # noqa: S102 - our own page
    (promise,) = re.findall(r"# (.*)$", block, re.MULTILINE)
    assert said.getvalue().strip() == promise
    assert DIGITS.samefile(command.split()[0])
