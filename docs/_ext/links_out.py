"""Links that leave the folder of the pages, so that they lead somewhere in the HTML, too.

Goes in: Markdown that links files of the repository, as they stand beside it there. Comes out: the
same with links to pages. What is no page becomes a download. `PAGES` are Markdown files elsewhere
in the repository that are pages here: the file in this folder only holds their place. A script of
the gallery has a page of its own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "examples/trl/README.md": "examples/trl",
    "examples/verl/README.md": "examples/verl",
    "examples/easyr1/README.md": "examples/easyr1",
}
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def mended(text: str, source: Path, page: Path) -> str:
    """The text of `source` with its links as they have to be on `page`."""

    def link(found: re.Match[str]) -> str:
        name, anchor = found[1], found[2] or ""
        target = Path(os.path.normpath(source.parent / name))
        if not target.exists():
            return found[0]  # MyST says that it leads nowhere
        place = target.relative_to(ROOT).as_posix()
        if place == "README.md":
            target, anchor = ROOT / "docs/index.md", ""
        elif place in PAGES:
            target = ROOT / f"docs/{PAGES[place]}.md"
        elif script := re.fullmatch(r"docs/gallery/(plot_\w+)\.py", place):
            target = ROOT / f"docs/plots/{script[1]}.rst"
        elif target.is_dir():
            target, anchor = ROOT / "docs/examples/index.md", ""
        return f"]({os.path.relpath(target, page.parent)}{anchor})"

    return _LINK.sub(link, text)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Mend a page as it is read."""
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        homes = {value: ROOT / key for key, value in PAGES.items()}
        home = homes.get(name, page)
        text = home.read_text(encoding="utf-8") if home != page else source[0]
        app.env.note_dependency(str(home))
        source[0] = mended(text, home, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
