"""`rankreward paths` prints lines that the trainers take as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from calling import call

import rankreward as rr
from rankreward.adapters.paths import TRAINERS, easyr1_entry, paths


def run(*arguments: str) -> tuple[int, str]:
    done = call("paths", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_lines_for_trl_are_python_that_runs() -> None:
    """They make a reward and name its callback."""
    code, text = run("trl", "--recipe", "seg_zero")
    assert code == 0
    namespace: dict[str, object] = {}
    exec("\n".join(text.splitlines()[:-1]), namespace)  # noqa: S102 - our own lines
    assert namespace["reward"].scorer.recipe.name == "seg_zero"  # type: ignore[attr-defined]
    assert "callbacks=[reward.callback()]" in text


def test_lines_for_easyr1_are_yaml_with_a_file_that_is_there(tmp_path: Path) -> None:
    """The entry is a file; a recipe of one's own becomes an absolute path."""
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(rr.Recipe.load("dr_seg").override({"name": "own"}).to_dict()))
    reward = yaml.safe_load(run("easyr1", "--recipe", str(own))[1])["worker"]["reward"]
    file, _, function = reward["reward_function"].rpartition(":")
    assert (Path(file), function) == (easyr1_entry(), "compute_score")
    assert reward["reward_function_kwargs"]["recipe"] == str(own)
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['REWARD_TYPE'])"
    loaded = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "batch\n"


def test_lines_for_verl_are_overrides() -> None:
    """One a line, each a key and a value; that verl takes them is tested with verl."""
    lines = run("verl")[1].splitlines()
    assert all(re.fullmatch(r"\+?[a-z0-9_.]+=[\w:/.]+", line) for line in lines)
    assert "+rankreward.recipe=dr_seg" in lines


def test_the_docs_show_what_is_printed() -> None:
    """Line by line, but for the path on this machine."""
    page = (Path(__file__).parents[1] / "docs" / "trainers.md").read_text()
    assert run("verl")[1] in page
    for line in run("easyr1")[1].splitlines():
        if "reward_function:" not in line:
            assert line.partition("  #")[0] in page


def test_without_a_trainer_all_are_shown() -> None:
    """Each under its name."""
    code, text = run()
    assert code == 0
    assert re.findall(r"^# (\w+)$", text, re.MULTILINE) == list(TRAINERS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verl", "--recipe", "dr_sge"], "unknown recipe 'dr_sge'"),
        (["trll"], "expected one of trl, verl, easyr1"),
    ],
)
def test_what_is_not_known_is_named(arguments: list[str], message: str) -> None:
    """With what there is."""
    code, text = run(*arguments)
    assert code == 1
    assert message in re.sub(r"[│\s]+", " ", text)


def test_paths_of_an_unknown_trainer() -> None:
    """The function says so, too."""
    with pytest.raises(rr.InputError, match="trainer: expected one of trl, verl, easyr1"):
        paths("openrlhf")
