"""The documents keep their word: links lead somewhere and names exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_readme_prints_what_its_comments_say() -> None:
    """Each `print(...)  # comment` of the README prints what the comment begins with."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    namespace: dict[str, object] = {}
    checked = 0
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, namespace)  # noqa: S102 - our own README
        promised = re.findall(r"^print\(.*\)  # ([^:\n]*)", block, re.MULTILINE)
        for line, promise in zip(printed.getvalue().splitlines(), promised, strict=False):
            assert line == promise
            checked += 1
    assert checked == 4


def test_readme_names_every_folder() -> None:
    """The table of folders has a line for each stage, and no other."""
    text = (ROOT / "README.md").read_text()
    folders = {
        p.name for p in (ROOT / "src" / "rankreward").iterdir() if (p / "__init__.py").exists()
    }
    named = set(re.findall(r"`(\w+)/`", text[text.index("## Where things are") :]))
    assert named - {"recipes"} == folders
