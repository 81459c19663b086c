"""The documents keep their word: links lead somewhere and names exist."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
import report as benchmark_report
import simulate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
PICTURE = re.compile(r"plots/images/sphx_glr_(\w+)_\d{3}\.svg$")  # drawn when the pages are built


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_local_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file of the repository."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            if picture := PICTURE.search(name):
                assert (ROOT / "docs" / "gallery" / f"{picture[1]}.py").exists(), target
                continue
            name = name.replace("plots/index", "gallery/GALLERY_HEADER.rst")
            found = page.parent / name if name else page
            assert found.exists(), target
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


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
    assert checked == 10


def test_readme_names_every_folder() -> None:
    """The table of folders has a line for each stage, and no other."""
    text = (ROOT / "README.md").read_text()
    folders = {
        p.name for p in (ROOT / "src" / "rankreward").iterdir() if (p / "__init__.py").exists()
    }
    named = set(re.findall(r"`(\w+)/`", text[text.index("## Where things are") :]))
    assert named - {"recipes"} == folders


def test_the_page_on_performance_shows_the_committed_figures() -> None:
    """Its tables are those of the benchmark's results and of the simulation."""
    page = (ROOT / "docs" / "performance.md").read_text()
    found = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    for lines in benchmark_report.TABLES.values():
        assert lines(found) in page
    steps = json.loads((ROOT / "benchmarks" / "simulation.json").read_text())["steps"]
    assert simulate.table(steps) in page
