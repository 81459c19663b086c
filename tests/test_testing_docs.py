"""The page on testing says what the kit does."""

from __future__ import annotations

from pathlib import Path

import test_recipe_docs as pages
from defective_rewards import DEFECTS
from test_testing_recipes import RELEASED

from rankreward.testing import INVARIANTS

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"


def invariants() -> list[str]:
    """The rows of the table of invariants."""
    return [f"| `{each.name}` | {each.statement} | {each.reason} |" for each in INVARIANTS]


def defects() -> list[str]:
    """What the rows of the table of published defects begin with."""
    rows = []
    for defect, (_, name, _) in DEFECTS.items():
        system, _, what = defect.__doc__.rstrip(".").partition(": ")
        rows.append(f"| {system} | {what} | `{name}` | ")
    return rows


def released() -> list[str]:
    """What each released recipe breaks."""
    return [
        f"- `{name}`: {', '.join(f'`{each}`' for each in sorted(broken))}"
        for name, broken in RELEASED.items()
    ]


def test_the_page_shows_the_invariants_and_the_defects() -> None:
    """Its tables are those of the code."""
    text = PAGE.read_text("utf-8")
    for rows in (invariants(), released()):
        assert "\n".join(rows) in text
    assert all(text.count(row) == 1 for row in defects())


def test_every_block_of_the_page_runs(tmp_path) -> None:
    """And prints what its comments say."""
    assert pages.run(PAGE, tmp_path) == 17
