r"""What the released codes' regular expressions find, in linear time.

Goes in: a text. Comes out: what ``re`` would say of it. A lazy ``.*?`` that fails starts over at
every tag, so that the expressions themselves take quadratic to cubic time on hostile text.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

# What a completion can make the released codes raise; they catch everything and pay nothing.
CAUGHT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def has_only_blocks(text: str, *tags: str) -> bool:
    r"""Whether a text is one block a tag, in order, with nothing but white space between them.

    Args:
        text: any text.
        tags: names of tags, such as ``"think", "answer"``.

    Returns:
        What ``re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)`` says:
        only the seams count, so that any text, further tags included, may stand in a block.

    Cost:
        O(len(text)) a tag.

    Example:
        >>> has_only_blocks("<think>a</think> <answer>b</answer>", "think", "answer")
        True
        >>> has_only_blocks("<think>a</think> <answer>b</answer> ", "think", "answer")
        False
    """
    opening, closing = f"<{tags[0]}>", f"</{tags[-1]}>"
    if not (text.startswith(opening) and text.endswith(closing)):
        return False
    place, end = len(opening), len(text) - len(closing)
    for left, right in pairwise(tags):
        # Seams do not overlap, so that the first one leaves the most room to the others.
        seam = _seam(left, right).search(text, place, end)
        if seam is None:
            return False
        place = seam.end()
    return place <= end


def first_body(text: str, tag: str) -> str | None:
    """The text between the first ``<tag>`` and the first ``</tag>`` after it.

    Args:
        text: any text.
        tag: the tag's name.

    Returns:
        The body as it stands, tags inside it included; None if there is none.

    Cost:
        O(len(text)).

    Example:
        >>> first_body("<answer> a <answer> b </answer> c </answer>", "answer")
        ' a <answer> b '
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    if start < 0:
        return None
    start += len(opening)
    stop = text.find(closing, start)
    return None if stop < 0 else text[start:stop]


@cache
def _seam(left: str, right: str) -> re.Pattern[str]:
    """Where a block ends and the next begins. White space is scanned once: linear."""
    return re.compile(rf"</{left}>\s*<{right}>")
