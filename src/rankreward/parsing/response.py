"""A completion, read.

Goes in: a completion's text and the schema it should follow. Comes out: a `Response`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, get_args

from rankreward.errors import InputError
from rankreward.explain import nearest
from rankreward.kinds import SchemaName, Tolerance
from rankreward.parsing.answers import Objects, parse_objects
from rankreward.parsing.failure import Failure
from rankreward.parsing.prompt_tags import parse_prompt_tags
from rankreward.parsing.schemas import SCHEMAS, Schema
from rankreward.parsing.tags import (
    Blocks,
    Span,
    find_any_bodies,
    find_blocks,
    find_bodies,
    lower_tags,
)
from rankreward.recipe import Response as Settings

TOLERANCES: tuple[Tolerance, ...] = get_args(Tolerance)
_USUAL_KEYWORDS = frozenset({None, "look", "any"})


@dataclass(frozen=True, eq=False)
class Response:
    """What a completion says, and what is wrong with it.

    Attributes:
        text: the completion.
        think: the body of its think block, or None.
        looks: the non-blank bodies of the keyword's tag inside the think block, in order.
        answer: the objects of its answer, or None where they cannot be read; always None for
            ``text``.
        caption: what its caption block says, or None where it says nothing or there is none.
        format_failure: what is wrong with the blocks, or None.
        answer_failure: what is wrong with the answer, or None; None too where there is no answer
            to read.
        said: what its answer block says, as it stands there but for the white space around it, or
            None where it says nothing or there is none.
    """

    text: str
    think: str | None
    looks: tuple[str, ...]
    answer: Objects | None
    caption: str | None
    format_failure: Failure | None
    answer_failure: Failure | None
    said: str | None = None

    @property
    def failure(self) -> Failure | None:
        """The failure that costs most: the answer's, else the format's, else None."""
        return self.answer_failure or self.format_failure

    @property
    def answered(self) -> bool:
        """Whether the answer, objects or a text, could be read."""
        return self.answer is not None or (self.said is not None and self.answer_failure is None)


def parse(
    text: str,
    schema: SchemaName = "grounding_list",
    *,
    think: bool = True,
    keyword: str | None = "look",
    max_objects: int = 120,
    tolerate: Collection[Tolerance] = (),
) -> Response:
    """Read a completion. Never raises for its content; takes time linear in its length.

    What is wrong with a completion is a failure, unless `tolerate` names it:

    - ``tag_case``: tags in upper case count as tags.
    - ``stray_text``: text around and between the blocks, such as a final ``<|im_end|>``.
    - ``fence``: JSON inside a Markdown fence.
    - ``single_quotes``: JSON with Python's quotes, ``True``, ``False`` and ``None``.
    - ``truncated``: an answer that is never closed goes on to the end, and a JSON list that was
      cut short keeps its complete entries.
    - ``duplicate_key``: of a key that is named twice the last counts.
    - ``numeric_text``: a text of a number is that number.
    - ``bad_entry``: entries of a list that cannot be read are left out.
    - ``too_many_objects``: of a longer list the first `max_objects` are kept.

    Only ``[]`` says that there is nothing: a list of which no entry can be read stays a failure.
    NaN, Infinity, numbers beyond +-1e6 and booleans are never coordinates.

    Args:
        text: what the policy wrote.
        schema: how it should be laid out; see `rankreward.parsing.SCHEMAS`. The first is
            ``"grounding_list"``, the format of Dr. Seg (arXiv 2603.00152):
            ``<think>... <look>...</look> ...</think> <answer>[...]</answer>`` with a JSON list
            of objects that have ``bbox_2d`` (x1, y1, x2, y2) and ``point_2d`` (x, y).
        think: whether a think block has to come first.
        keyword: the tag that marks what was looked at, ``"any"`` for whichever tag, or None.
        max_objects: longer lists are a failure.
        tolerate: names of faults that are forgiven.

    Returns:
        The response. The answer is read strictly: one malformed entry, and there is no answer.
        A fault that is tolerated is no failure.

    Raises:
        InputError: a name is unknown, or `text` is no string.

    Example:
        >>> parse("<think>one</think><answer>[]</answer>").failure is None
        True
        >>> parse("<think>one</think><answer>[NaN]</answer>").failure.code
        'bad_number'
        >>> parse("<answer>A red cup.</answer>", "text", think=False).said
        'A red cup.'
    """
    layout = SCHEMAS.get(schema) if isinstance(schema, str) else None
    if layout is None:
        raise InputError(f"schema: unknown {schema!r}: {nearest(str(schema), tuple(SCHEMAS))}")
    if not isinstance(keyword, str | None) or keyword not in _USUAL_KEYWORDS:
        _check_keyword(keyword)
    if tolerate:
        _check_tolerances(tolerate)
    return _read(text, keyword, _Layout(layout, think, max_objects, frozenset(tolerate)))


def parse_for(text: str, response: Settings) -> Response:
    """Read a completion as a recipe has it; see `parse`.

    Args:
        text: what the policy wrote.
        response: what a recipe asks of a completion, `Recipe.response`.

    Raises:
        InputError: `text` is no string.
    """
    layout = _Layout(
        SCHEMAS[response.schema_],
        response.think,
        response.max_objects,
        frozenset(response.tolerate),
    )
    return _read(text, response.keyword, layout)


def find_looks(
    text: str, think: Span, keyword: str | None, schema: Schema, tolerate: Collection[Tolerance]
) -> tuple[str, ...]:
    """What stands in the keyword's tags inside a think block; see `Response.looks`."""
    tags = lower_tags(text) if "tag_case" in tolerate else text
    if keyword == "any":
        return find_any_bodies(tags, think, text, ("think", "answer", *schema.blocks))
    return () if keyword is None else find_bodies(tags, keyword, think, text)


class _Layout(NamedTuple):
    """How a completion should be laid out, and what is forgiven."""

    schema: Schema
    think: bool
    max_objects: int
    tolerate: frozenset[Tolerance]


class _Reading(NamedTuple):
    """One way to read a completion."""

    blocks: Blocks
    answer: Objects | None
    said: str | None
    answer_failure: Failure | None

    @property
    def perfect(self) -> bool:
        """Whether nothing is wrong."""
        return self.blocks.failure is None and self.answer_failure is None

    @property
    def merit(self) -> tuple[bool, bool, bool]:
        """What makes it a better way to read than another."""
        found = self.answer is not None or self.said is not None
        return found and self.answer_failure is None, self.blocks.failure is None, found


def _read(text: str, keyword: str | None, layout: _Layout) -> Response:
    if not isinstance(text, str):
        raise InputError(f"text: expected a string, got {type(text).__name__}")
    blocks, answer, said, failure = _best(text, layout)
    thought: str | None = None
    looks: tuple[str, ...] = ()
    if blocks.think is not None:
        thought = text[blocks.think.start : blocks.think.stop]
        looks = find_looks(text, blocks.think, keyword, layout.schema, layout.tolerate)
    caption, blank = _caption(text, blocks)
    return Response(text, thought, looks, answer, caption, blocks.failure or blank, failure, said)


def _best(text: str, layout: _Layout) -> _Reading:
    """The first way to read a completion without a failure, else the best of all.

    The strict way comes first, so that a tolerance never changes what is well formed; and all that
    fewer tolerances allow are among those of more, so that none makes a completion unreadable.
    """
    schema, think, _, tolerate = layout
    stray = "stray_text" in tolerate
    blocks = find_blocks(text, schema.blocks, think=think, stray=stray)
    reading = _Reading(blocks, *_read_answer(text, blocks, layout))
    if reading.perfect or not tolerate:
        return reading
    readings = [reading]
    for tags, unclosed in _ways(text, schema, tolerate):
        blocks = find_blocks(tags, schema.blocks, think=think, stray=stray, unclosed=unclosed)
        if blocks == readings[-1].blocks:
            continue
        reading = _Reading(blocks, *_read_answer(text, blocks, layout))
        if reading.perfect:
            return reading
        readings.append(reading)
    # Of equals the most tolerant one, which does not complain of what is tolerated.
    return max(reversed(readings), key=lambda reading: reading.merit)


def _ways(text: str, schema: Schema, tolerate: frozenset[Tolerance]) -> Iterator[tuple[str, bool]]:
    """The ways to look for tags after the strict one.

    Yields:
        The text to look in, and whether an answer may be left open.
    """
    texts = [text]
    if "tag_case" in tolerate:
        texts.append(lower_tags(text))
        yield texts[1], False
    if "truncated" in tolerate and schema.form != "tags":
        for tags in texts:
            yield tags, True


def _read_answer(
    text: str, blocks: Blocks, layout: _Layout
) -> tuple[Objects | None, str | None, Failure | None]:
    """The objects of an answer, its text, and what is wrong with it."""
    schema, _, max_objects, tolerate = layout
    if schema.form == "tags":
        if len(blocks.bodies) < len(schema.blocks):
            return None, None, None
        read = parse_prompt_tags(text, blocks.bodies, max_objects, tolerate)
        return (None, None, read) if isinstance(read, Failure) else (read, None, None)
    if "answer" not in blocks.bodies:
        return None, None, None
    ((start, stop),) = blocks.bodies["answer"]
    body = text[start:stop]
    said = body.strip() or None
    if schema.form == "text":
        blank = Failure("empty_answer", "expected an answer, got none", start)
        return None, said, blank if said is None else None
    read = parse_objects(body, start, schema, max_objects, tolerate)
    return (None, said, read) if isinstance(read, Failure) else (read, said, None)


def _caption(text: str, blocks: Blocks) -> tuple[str | None, Failure | None]:
    """What the caption block says; a failure where it says nothing."""
    for start, stop in blocks.bodies.get("caption", ()):
        caption = text[start:stop].strip()
        if caption:
            return caption, None
        return None, Failure("empty_caption", "expected a caption, got none", start)
    return None, None


def _check_keyword(keyword: object) -> None:
    if isinstance(keyword, str) and re.fullmatch(r"[a-z][a-z_]*", keyword):
        if keyword not in {"think", "answer"}:
            return
        raise InputError(f"keyword: expected a tag of its own, got {keyword!r}")
    hint = nearest(str(keyword).strip("<>/ ").lower(), ("look", "any"))
    raise InputError(
        f"keyword: expected a tag of lower-case letters and underscores or None, "
        f"got {keyword!r}: {hint}"
    )


def _check_tolerances(tolerate: object) -> None:
    if isinstance(tolerate, str) or not isinstance(tolerate, Collection):
        raise InputError(f"tolerate: expected a sequence of names, got {tolerate!r}")
    for name in tolerate:
        if name not in TOLERANCES:
            raise InputError(f"tolerate: unknown {name!r}: {nearest(str(name), TOLERANCES)}")
