"""References from a file of their own, for logs that hold none.

Goes in: a file with the columns ``prompt`` and ``reference``. Comes out: the references by the
text of their prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankreward.errors import InputError
from rankreward.logs.records import read_records
from rankreward.logs.rows import BadRow


def read_pairs(file: str | Path) -> dict[str, Any]:
    """References by the text of their prompts.

    Args:
        file: JSON lines or Parquet, with the columns ``prompt`` and ``reference``.

    Raises:
        InputError: a row lacks either, or two rows of one prompt have other references.
    """
    path = Path(file)
    pairs: dict[str, Any] = {}
    for record in read_records(path, path.name, images=False, progress=lambda _: None):
        if isinstance(record, BadRow):
            raise InputError(f"{record.place}: {record.reason}")
        place, columns = record
        prompt, reference = text_of(columns.get("prompt")), columns.get("reference")
        if prompt is None or reference is None:
            got = ", ".join(map(repr, columns)) or "none"
            raise InputError(
                f"{place}: expected the columns 'prompt' and 'reference', got {got:.80}"
            )
        if pairs.setdefault(prompt, reference) != reference:
            raise InputError(
                f"{place}: expected one reference a prompt, got another of {prompt!r:.60}"
            )
    return pairs


def text_of(prompt: Any) -> str | None:
    """The text of a prompt: itself, or that of its chat messages, line by line; or None."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Mapping):
        return text_of(prompt.get("content", prompt.get("text")))
    if isinstance(prompt, list):
        return "\n".join(text for each in prompt if (text := text_of(each)) is not None)
    return None
