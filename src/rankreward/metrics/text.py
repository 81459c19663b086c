"""Text: whether a policy repeats itself."""

from __future__ import annotations

import re
from collections import Counter

# A sentence ends at a mark followed by white space, or at a CJK mark; so "12.5" is no end. The
# look-behind makes each white-space run cost one step: the pattern cannot backtrack.
_TAG = re.compile(r"</?[a-z_]+>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[。！？]")  # noqa: RUF001


def repeated_sentences(text: str) -> int:
    """How many sentences repeat an earlier one.

    Case, runs of white space, the final marks and tags such as ``<look>`` do not tell sentences
    apart; blank ones do not count.

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
    sentences = _SENTENCE_END.split(_TAG.sub(" ", text))
    normal = (" ".join(s.casefold().split()).rstrip(" .!?") for s in sentences)
    counts = Counter(sentence for sentence in normal if sentence)
    return sum(counts.values()) - len(counts)
