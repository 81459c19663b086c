"""The pytest plugin: rewards from the command line, a test an invariant, short failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import json


def sound(completions, solution, **kwargs):
    paid = []
    for (message,), reference in zip(completions, solution):
        text = message["content"]
        said = text.rpartition("<answer>")[2].removesuffix("</answer>")
        paid.append(float(said == reference))
    return paid


def first(completions, solution, **kwargs):
    paid = []
    for (message,), reference in zip(completions, solution):
        start, _, rest = message["content"].partition("[")
        paid.append(float((_ + rest).startswith(reference)))
    return paid
"""
TESTS = """
from mine import first, sound

from rankreward.testing import assert_reward, reward_tests

NAMES = ["returns", "finite", "bounded", "answer_block"]
TestSound = reward_tests(sound, "boxes", signature="trl", invariants=NAMES, max_examples=20)
TestFirst = reward_tests(first, "boxes", signature="trl", invariants=NAMES, max_examples=20)


def test_by_hand():
    assert_reward(first, "boxes", signature="trl", invariants=["answer_block"], max_examples=20)


def test_of_another_kind():
    assert first is sound
"""


def run(folder: Path, *arguments: str, block: str = "") -> subprocess.CompletedProcess[str]:
    """A pytest of its own, with this plugin and no other."""
    (folder / "mine.py").write_text(MODULE)
    (folder / "test_mine.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    begin = f"import sys; sys.modules[{block!r}] = None; " if block else "import sys; "
    code = f"{begin}import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "-p", "rankreward.testing.pytest_plugin", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


def test_a_reward_from_the_command_line_is_a_test_an_invariant(tmp_path: Path) -> None:
    """What does not apply is skipped, files are not collected, and it ends with 0 or 1."""
    given = (
        "--rankreward-layout",
        "boxes",
        "--rankreward-signature",
        "trl",
        "--rankreward-examples",
        "15",
    )
    skip = (
        "--rankreward-skip",
        "linear_cost,answer_order,duplicates,reference_order,closer,draft",
        "-v",
    )
    done = run(tmp_path, "--rankreward", "mine:sound", *given, *skip)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::mine:sound::finite PASSED" in done.stdout
    assert "::mine:sound::bounded SKIPPED (no bounds were given)" in done.stdout
    assert "14 passed, 1 skipped" in done.stdout
    assert "test_mine" not in done.stdout
    done = run(tmp_path, "--rankreward", "mine:first", *given, *skip)
    assert done.returncode == 1
    assert "answer_block: an answer that stands in the reasoning alone pays nothing" in done.stdout


def test_a_class_of_tests_shows_the_report_alone(tmp_path: Path) -> None:
    """No traceback for a broken promise, the usual one for any other failure."""
    done = run(tmp_path, "test_mine.py")
    assert "3 failed, 5 passed, 2 skipped" in done.stdout, done.stdout
    # Where CI is set, pytest repeats whole messages in its summary.
    failures = done.stdout.partition("short test summary info")[0]
    assert failures.count("why: Seg-Zero's released code") == 2
    assert "check.py" not in done.stdout
    assert "assert first is sound" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rankreward", "mine:none", "--rankreward-layout", "boxes"), "has no attribute 'none'"),
        (
            ("--rankreward", "nowhere:f", "--rankreward-layout", "boxes"),
            "No module named 'nowhere'",
        ),
        (("--rankreward", "mine:sound"), "layout: expected a schema or a recipe"),
        (("--rankreward", "dr_segg"), "no schema or recipe 'dr_segg'"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, arguments, message) -> None:
    """And pytest ends with its code for wrong usage."""
    done = run(tmp_path, *arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_other_runs_load_nothing_heavy(tmp_path: Path) -> None:
    """pytest loads the plugin in every run; it brings nothing along, nor needs the extra."""
    (tmp_path / "test_light.py").write_text(
        "import sys\n\n\ndef test_light():\n"
        "    heavy = {'numpy', 'scipy', 'numba', 'pydantic', 'yaml', 'torch'} & set(sys.modules)\n"
        "    assert not heavy\n"
        "    assert sys.modules['hypothesis'] is None\n"
    )
    done = run(tmp_path, "test_light.py", block="hypothesis")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_project_may_have_an_option_for_its_reward(tmp_path: Path) -> None:
    """The options begin with the name of the library, so that theirs are free."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    for name in ('', '-layout', '-signature', '-column', '-skip', '-examples'):\n"
        "        parser.addoption('--reward' + name)\n"
    )
    (tmp_path / "test_one.py").write_text(
        "def test_one(pytestconfig):\n    assert pytestconfig.getoption('--reward') == 'theirs'\n"
    )
    done = run(tmp_path, "test_one.py", "--reward", "theirs")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """Where it is used."""
    done = run(tmp_path, "--rankreward", "dr_seg", block="hypothesis")
    assert done.returncode == 4
    assert "pip install 'rankreward[testing]'" in done.stderr
