"""What all pages share: their style, their tables, and how they are written.

Goes in: plain values and texts from anywhere. Comes out: HTML in which they are text and nothing
else.
"""

from __future__ import annotations

import base64
import hashlib
import math
import unicodedata
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from rankreward.tables import Sheet


def page_file(path: str | Path) -> Path:
    """The file of a page: itself, or a folder's ``index.html``; its folder is made."""
    file = Path(path)
    if file.suffix.lower() not in (".html", ".htm"):
        file = file / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def write_file(file: Path, page: str) -> Path:
    """Write a page; a write that is cut short leaves an older one as it was."""
    # Half a surrogate pair is no character, and a policy can write one.
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(page.encode("utf-8", "replace"))
    part.replace(file)
    return file


def read_part(name: str) -> str:
    """One of the files that pages are made of, such as ``"page.css"``."""
    return (files("rankreward.report") / name).read_text(encoding="utf-8")


def content_policy(style: str, script: str) -> str:
    """Run this script and no other, wear this style, and load nothing but pictures from here.

    Args:
        style: the page's style.
        script: its script; where that is empty nothing runs at all.
    """
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    runs = f"'sha256-{hashes[1]}'" if script else "'none'"
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src 'self' data: file:; "
        f"style-src 'sha256-{hashes[0]}'; script-src {runs}"
    )


def table(sheet: Sheet) -> str:
    """A table that scrolls in its own region, not the page."""
    texts = [any(isinstance(row[i], str) for row in sheet.rows) for i in range(len(sheet.header))]
    head = "".join(
        f'<th scope="col"{_word(is_text)}>{escape(name)}</th>'
        for name, is_text in zip(sheet.header, texts, strict=True)
    )
    name = sheet.header.index("measure") if "measure" in sheet.header else 0
    rows = [
        "".join(_cell(value, head=place == name) for place, value in enumerate(row))
        for row in sheet.rows
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    title = escape(sheet.title)
    return (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table>'
        f"<caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _word(is_text: bool) -> str:  # noqa: FBT001
    return ' class="word"' if is_text else ""


def _cell(value: Any, *, head: bool) -> str:
    text = "-" if value is None or value != value else str(value)  # noqa: PLR0124 - NaN is not itself
    if isinstance(value, float) and not math.isnan(value):
        text = f"{value:.4f}"
    word = _word(isinstance(value, str))
    return (
        f'<th scope="row"{word}>{escape(text)}</th>' if head else f"<td{word}>{escape(text)}</td>"
    )


def visible(text: str) -> str:
    r"""A text in which nothing hides: signs that are not seen are there by their code points.

    Example:
        >>> from rankreward.report.frame import visible
        >>> visible("a\x00b\u202ec")
        'a[U+0000]b[U+202E]c'
    """
    return "".join(f"[U+{ord(sign):04X}]" if _hides(sign) else sign for sign in text)


def _hides(sign: str) -> bool:
    return sign not in "\n\t" and unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
