"""The pages run: their Python, the commands that they name, the scripts that draw their plots."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import typer.main
from pages import run

from rankreward import own
from rankreward.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = {"recipes.md", "own_reward.md", "any_trainer.md"}  # in test_recipe_docs
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name not in ELSEWHERE]
PYTHON = [page for page in PAGES if "```python" in page.read_text()]
SCRIPTS = sorted((DOCS / "gallery").glob("plot_*.py"))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", PYTHON, ids=name)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And prints what its comments say; paths are those of the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "_OWN", {})
    run(page, tmp_path)


def commands() -> list[tuple[str, str]]:
    """Every command line of ours on a page."""
    found = []
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ rankreward "):
                    typed, _, _ = line.removeprefix("$ rankreward ").partition(" | ")
                    found += [(page.name, typed)]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_and_their_options_exist(page: str, line: str) -> None:
    """Every command that a page tells to type is one, with the options that it is given."""
    command, words = typer.main.get_command(app()), shlex.split(line, comments=True)
    if words[0] == "--import":  # before any command
        words = words[2:]
    while hasattr(command, "commands") and words and words[0][0] != "-":
        named = words[0] in command.commands
        assert named or "run" in command.commands or words[0] == "COMMAND", line
        if words[0] == "COMMAND":  # any of them
            return
        command = command.commands[words.pop(0) if named else "run"]  # of `eval`, unless told
    known = {option for each in command.params for option in each.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= known, (line, given - known)


def test_the_table_of_the_first_page_is_what_is_printed(tmp_path: Path) -> None:
    """`rankreward score` prints the table that the page shows."""
    page = (DOCS / "start.md").read_text()
    table = re.findall(r"<!-- score -->\n```text\n(.*?)```", page, re.DOTALL)[0]
    log = ROOT / "examples" / "logs" / "digits.jsonl.gz"
    words = [
        "score",
        str(log),
        "--recipe",
        "dr_seg",
        "--frame",
        "84",
        "--out",
        str(tmp_path / "run"),
    ]
    printed = subprocess.run(
        [sys.executable, "-c", "from rankreward.cli import main; main()", *words],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    assert table.splitlines() == lines[lines.index(table.splitlines()[0]) :][: table.count("\n")]


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_a_script_of_the_gallery_draws(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, without Sphinx, and without a warning."""
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(own, "_OWN", {})
    monkeypatch.setattr(plt, "show", lambda: None)
    try:
        runpy.run_path(str(script), run_name="__main__")
        assert plt.get_fignums()
    finally:
        plt.close("all")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebooks_are_kept_without_outputs(notebook: Path) -> None:
    """So that what they show is what the build found; it executes them."""
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], cell["source"][:1]
            assert cell["execution_count"] is None, cell["source"][:1]
