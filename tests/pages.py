"""Runs the Python of a page in Markdown, and says what its comments promise.

Goes in: a page. Comes out: how many lines it printed that it promised to print.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any


def promises(block: str) -> list[str]:
    """What the prints of a block say that they print: in a comment beside, or in those below."""
    lines: list[str] = []
    pattern = r"^ *print\(.*?\)(?:  # (.*))?\n((?: *# .*\n)*)"
    for said_by in re.finditer(pattern, block, re.MULTILINE):
        below = [line.strip().removeprefix("# ") for line in said_by[2].splitlines()]
        assert below or said_by[1], said_by[0]
        lines += below or [said_by[1]]
    return lines


def run(page: Path, folder: Path) -> int:
    """Run a page's blocks in order, as one program, and count the lines that came true.

    A YAML block is saved under the name in its first line, ``# name.yaml``.
    """
    namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    checked = 0
    for kind, block in re.findall(
        r"```(python|yaml)\n(.*?)```", page.read_text("utf-8"), re.DOTALL
    ):
        if kind == "yaml":
            name, _, _ = block.removeprefix("# ").partition("\n")
            (folder / name).write_text(block)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, namespace)  # noqa: S102 - our own pages
        promised = promises(block)
        shown = printed.getvalue().splitlines()
        assert shown == promised, (page.name, shown, promised)
        checked += len(promised)
    return checked
