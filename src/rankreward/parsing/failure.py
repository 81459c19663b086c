"""What can be wrong with a completion, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureCode = Literal[
    "missing_tag",
    "unclosed_tag",
    "nested_tag",
    "repeated_tag",
    "stray_text",
    "empty_caption",
    "long_caption",
    "empty_answer",
    "bad_json",
    "duplicate_key",
    "not_a_list",
    "not_an_object",
    "bad_entry",
    "bad_number",
    "too_many_objects",
]


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong with a completion.

    Attributes:
        code: which kind; see `FailureCode`.
        message: what was expected and what came, in one line.
        position: where in the text, in characters from its start.
    """

    code: FailureCode
    message: str
    position: int
