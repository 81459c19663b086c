"""Python's quotes and words, put into JSON's; and fences, taken off.

Goes in: the body of an answer block. Comes out: the text that the JSON decoder reads in its place,
where a recipe tolerates it. A text that is JSON already comes out as it went in.
"""

from __future__ import annotations

import re

# A text between quotes is taken in one go, closed or not, and never given back: no place is looked
# at twice. Texts between double quotes, which stay, are taken together with what comes after them.
# The last three are Python's words for JSON's.
_TOKEN = re.compile(
    r'(?:"[^"\\]*+(?:\\(?:.|\Z)[^"\\]*+)*+(?:"|\Z)[^"\'TFN]*+)++'
    r"|'([^'\\]*+(?:\\(?:.|\Z)[^'\\]*+)*+)('|\Z)"
    r"|True|False|None",
    re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_FENCE = re.compile(r"\s*```(?:json)?(?=[\s\[{])")


def with_double_quotes(text: str) -> str:
    """JSON's quotes and words in the place of Python's; what stands between double quotes stays."""
    return _TOKEN.sub(_double_quotes, text)


def inside_fence(text: str, *, unclosed: bool) -> tuple[int, int]:
    """Where the inside of the one Markdown fence around a text starts and stops.

    Args:
        text: any text; where there is no fence around it, all of it is the inside.
        unclosed: whether a fence that is never closed goes on to the end.
    """
    opening = _FENCE.match(text)
    if opening is None:
        return 0, len(text)
    stop = len(text.rstrip())
    if stop >= opening.end() + 3 and text.endswith("```", 0, stop):
        return opening.end(), stop - 3
    if unclosed:
        # Of the closing fence one or two ticks may be left.
        return opening.end(), len(text[:stop].rstrip("`"))
    return 0, len(text)


def _double_quotes(token: re.Match[str]) -> str:
    body, end = token.groups()
    if body is None:
        return _WORDS.get(token[0], token[0])
    if "\\" in body or '"' in body:
        # Split at escaped backslashes: any other backslash escapes what comes after it.
        body = "\\\\".join([part and _escape(part) for part in body.split("\\\\")])
    return f'"{body}"' if end else f'"{body}'


def _escape(part: str) -> str:
    plain = part.replace("\\'", "'").replace('\\"', '"')
    return plain.replace('"', '\\"')
