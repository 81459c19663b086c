r"""Tags in model text, by linear scan.

Goes in: a text. Comes out: where its blocks are, and the first thing that is wrong with their
structure. Only `str.find` walks the text: the usual regular expression
``<think>.*?</think>\s*<answer>.*?</answer>`` takes cubic time on an unclosed tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rankreward.parsing.failure import Failure
from rankreward.parsing.schemas import REPEATED

_ANY_TAG = re.compile(r"<(/?)([a-z_]{1,32}+)>")
_MOST = 10_000  # blocks of one tag; no more are kept to be counted
_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


class Span(NamedTuple):
    """A tag's body: ``text[start:stop]``."""

    start: int
    stop: int


class Blocks(NamedTuple):
    """The blocks of a text; what cannot be told is left out.

    Attributes:
        think: the body of the think block, or None.
        bodies: the bodies of the other blocks by tag; each tag has one, but for those that may
            come more than once.
        failure: the first departure from the well-formed text, or None.
    """

    think: Span | None
    bodies: dict[str, tuple[Span, ...]]
    failure: Failure | None


def find_blocks(
    text: str,
    tags: Sequence[str] = ("answer",),
    *,
    think: bool = True,
    stray: bool = False,
    unclosed: bool = False,
) -> Blocks:
    """Find the think block and the blocks after it.

    The well-formed text is one ``<think>`` block, one block of each tag in order, white space
    between them, and nothing else. An answer inside the think block is a draft and never read as
    the answer.

    Args:
        text: the text to look through.
        tags: the tags of the blocks after the think block.
        think: whether there has to be a think block.
        stray: whether other text around the blocks is as good as none.
        unclosed: whether an answer that is never closed goes on to the end.

    Returns:
        The spans, and the first departure from the well-formed text, or None. The answer is
        still given where it is beyond doubt (stray text around the blocks, a missing or draft-
        ridden think block); it is left out where it is not (a tag unclosed, several answers).
    """
    span, failure = _find_think(text, tags) if think else (None, None)
    if failure is not None and failure.code == "unclosed_tag":
        return Blocks(None, {}, failure)
    place = 0
    if think:
        # Where <think> is missing the chat template may have opened it: what stands before the
        # last </think> is reasoning all the same.
        end = text.rfind("</think>") if span is None else span.stop
        place = 0 if end < 0 else end + len("</think>")
    bodies: dict[str, tuple[Span, ...]] = {}
    for tag in tags:
        if tag in REPEATED:
            found, late = _find_all(text, tag, place)
        else:
            found, late = _find_one(text, tag, place, unclosed=unclosed and tag == "answer")
        if found:
            bodies[tag] = found
            place = min(found[-1].stop + len(tag) + 3, len(text))
        failure = failure or late
    if failure is None and not stray:
        failure = _stray(text, span, bodies)
    return Blocks(span, bodies, failure)


def find_bodies(text: str, tag: str, span: Span, source: str) -> tuple[str, ...]:
    """The non-blank bodies of `tag` inside a span, stripped, in order; unclosed ones are left out.

    In nested tags of the same name the innermost body counts. Tags are looked for in `text`, and
    the bodies are those of `source`, which differs from it in the case of letters at most.
    """
    bodies, opening, closing = [], f"<{tag}>", f"</{tag}>"
    place = text.find(opening, span.start, span.stop)
    while place >= 0:
        stop = text.find(closing, place, span.stop)
        if stop < 0:
            break
        start = text.rfind(opening, place, stop) + len(opening)
        body = source[start:stop].strip()
        if body:
            bodies.append(body)
        place = text.find(opening, stop, span.stop)
    return tuple(bodies)


def find_any_bodies(text: str, span: Span, source: str, apart: Sequence[str]) -> tuple[str, ...]:
    """The non-blank bodies of all tags inside a span, but for those of the tags in `apart`.

    As in `find_bodies`, of tags inside each other the innermost body counts.
    """
    bodies: list[str] = []
    opened: dict[str, int] = {}
    for mark in _ANY_TAG.finditer(text, span.start, span.stop):
        closes, tag = mark.groups()
        if tag in apart:
            continue
        if not closes:
            opened[tag] = mark.end()
        elif tag in opened:
            body = source[opened[tag] : mark.start()].strip()
            # What is still open lies around this body, or is never closed.
            opened.clear()
            if body:
                bodies.append(body)
    return tuple(bodies)


def lower_tags(text: str) -> str:
    """The text in lower case, letter for letter: only ASCII, so that nothing changes its place."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _find_think(text: str, tags: Sequence[str]) -> tuple[Span | None, Failure | None]:
    opening = text.find("<think>")
    if opening < 0:
        return None, _missing("think", 0)
    first = f"<{tags[0]}>"
    early = text.find(first, 0, opening)
    if early >= 0:
        return None, Failure("missing_tag", f"expected <think> before {first}", early)
    start = opening + len("<think>")
    stop = text.find("</think>", start)
    if stop < 0:
        return None, Failure("unclosed_tag", "<think> is never closed", opening)
    span = Span(start, stop)
    inner = text.find("<think>", start, stop)
    if inner >= 0:
        return span, Failure("nested_tag", "<think> inside the think block", inner)
    for tag in tags:
        for mark in (f"<{tag}>", f"</{tag}>"):
            inner = text.find(mark, start, stop)
            if inner >= 0:
                return span, Failure("nested_tag", f"{mark} inside the think block", inner)
    return span, None


def _find_one(
    text: str, tag: str, begin: int, *, unclosed: bool
) -> tuple[tuple[Span, ...], Failure | None]:
    """The only block of a tag, or no block and what is wrong."""
    mark = f"<{tag}>"
    opening = text.find(mark, begin)
    if opening < 0:
        return (), _missing(tag, begin)
    start = opening + len(mark)
    stop = text.find(f"</{tag}>", start)
    again = text.find(mark, start)
    if stop < 0:
        if not unclosed or again >= 0:
            return (), Failure("unclosed_tag", f"{mark} is never closed", opening)
        return (Span(start, _cut_tag(text, tag, start)),), None
    if 0 <= again < stop:
        return (), Failure("nested_tag", f"{mark} inside the {tag} block", again)
    if again >= 0:
        return (), Failure("repeated_tag", f"expected one {mark}, got several", again)
    return (Span(start, stop),), None


def _find_all(text: str, tag: str, begin: int) -> tuple[tuple[Span, ...], Failure | None]:
    """All blocks of a tag, or no block and what is wrong."""
    spans: list[Span] = []
    mark, closing = f"<{tag}>", f"</{tag}>"
    opening = text.find(mark, begin)
    if opening < 0:
        return (), _missing(tag, begin)
    while opening >= 0:
        start = opening + len(mark)
        stop = text.find(closing, start)
        if stop < 0:
            return (), Failure("unclosed_tag", f"{mark} is never closed", opening)
        again = text.find(mark, start, stop)
        if again >= 0:
            return (), Failure("nested_tag", f"{mark} inside the {tag} block", again)
        spans.append(Span(start, stop))
        opening = text.find(mark, stop)
        if len(spans) == _MOST and opening >= 0:
            return (), Failure("repeated_tag", f"expected at most {_MOST} {mark}", opening)
    return tuple(spans), None


def _cut_tag(text: str, tag: str, start: int) -> int:
    """Where a body that goes on to the end stops: before a closing tag of which a part is left."""
    closing = f"</{tag}>"
    sizes = range(len(closing) - 1, 0, -1)
    return len(text) - next((size for size in sizes if text.endswith(closing[:size], start)), 0)


def _stray(text: str, think: Span | None, bodies: dict[str, tuple[Span, ...]]) -> Failure | None:
    """The first text outside the blocks, white space between them excepted."""
    place, before = 0, ""
    if think is not None:
        if think.start > len("<think>"):
            return _before("think", think)
        place, before = think.stop + len("</think>"), "think"
    for tag, spans in bodies.items():
        size = len(tag) + 2  # of the opening tag; the closing one has a character more
        for span in spans:
            opening = span.start - size
            if before:
                if opening > place and not text[place:opening].isspace():
                    return Failure("stray_text", f"text between </{before}> and <{tag}>", place)
            elif opening > 0:
                return _before(tag, span)
            place, before = span.stop + size + 1, tag
    if place < len(text):
        left = len(text) - place
        return Failure("stray_text", f"{left} characters after </{before}>", place)
    return None


def _before(tag: str, span: Span) -> Failure:
    count = span.start - len(tag) - 2
    return Failure("stray_text", f"{count} characters before <{tag}>", 0)


def _missing(tag: str, position: int) -> Failure:
    return Failure("missing_tag", f"expected <{tag}>, got none", position)
