"""Text: whether a policy repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A sentence ends at any of these marks, but not inside a number such as 12.5. Each pattern looks
# at most one character ahead, so that no text makes it backtrack.
_SENTENCE_END = re.compile(r"[.!?](?!\d)|[。！？]")  # noqa: RUF001
_TAG = re.compile(r"</?[a-z_]+>")
_NO_WORD = re.compile(r"[\W_]+")
# The same for ASCII, as bytes: one pass that makes lower case, ends sentences by a line feed and
# words by a space, after the marks inside numbers are gone. It is several times as fast.
_INSIDE_NUMBER = re.compile(rb"[.!?](?=[0-9])")
_ASCII = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() else 10 if chr(code) in ".!?" else 32
    for code in range(128)
) + bytes(128)


def repeated_sentences(text: str) -> int:
    """How many sentences repeat an earlier one.

    Only words and their order tell sentences apart: not case, white space, quotes, brackets or
    tags such as ``<look>``. A sentence without a word does not count.

    Args:
        text: any text.

    Returns:
        At least 0: the number of sentences less the number of distinct ones.

    Cost:
        O(len(text)).

    Example:
        >>> repeated_sentences("A cat. A dog. a  cat! A cat.")
        2
    """
    text = _TAG.sub(" ", text)
    if text.isascii():
        lines = _INSIDE_NUMBER.sub(b" ", text.encode()).translate(_ASCII).split(b"\n")
        return _repeats([b" ".join(line.split()) for line in lines])
    sentences = _SENTENCE_END.split(text)
    return _repeats([_NO_WORD.sub(" ", each).strip().casefold() for each in sentences])


def _repeats(sentences: Sequence[bytes | str]) -> int:
    """How many of the sentences repeat an earlier one; empty ones do not count."""
    kept = [each for each in sentences if each]
    return len(kept) - len(set(kept))
