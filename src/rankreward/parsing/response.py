"""A completion, read.

Goes in: a completion's text and the schema it should follow. Comes out: a `Response`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rankreward.errors import InputError
from rankreward.parsing.answers import Objects, parse_grounding_list
from rankreward.parsing.failure import Failure
from rankreward.parsing.tags import find_blocks, find_bodies

Schema = Literal["grounding_list"]


@dataclass(frozen=True, eq=False)
class Response:
    """What a completion says, and what is wrong with it.

    Attributes:
        text: the completion.
        think: the body of its think block, or None.
        looks: the non-blank bodies of the keyword's tag inside the think block, in order.
        answer: the objects of its answer block, or None where they cannot be read.
        caption: always None for ``grounding_list``, which has no caption block.
        format_failure: what is wrong with the blocks, or None.
        answer_failure: what is wrong with the answer's JSON, or None; None too where there is
            no answer block to read.
    """

    text: str
    think: str | None
    looks: tuple[str, ...]
    answer: Objects | None
    caption: str | None
    format_failure: Failure | None
    answer_failure: Failure | None

    @property
    def failure(self) -> Failure | None:
        """The failure that costs most: the answer's, else the format's, else None."""
        return self.answer_failure or self.format_failure


def parse(
    text: str,
    schema: Schema = "grounding_list",
    *,
    keyword: str = "look",
    max_objects: int = 120,
) -> Response:
    """Read a completion. Never raises for its content; takes time linear in its length.

    Args:
        text: what the policy wrote.
        schema: ``"grounding_list"``, the format of Dr. Seg (arXiv 2603.00152):
            ``<think>... <look>...</look> ...</think> <answer>[...]</answer>`` with a JSON list
            of objects that have ``bbox_2d`` (x1, y1, x2, y2) and ``point_2d`` (x, y).
        keyword: the tag that marks what was looked at.
        max_objects: longer lists are a failure.

    Returns:
        The response. The answer is read strictly: one malformed entry, and there is no answer.

    Raises:
        InputError: `schema` is unknown, or `text` is no string.

    Example:
        >>> parse("<think>one</think><answer>[]</answer>").failure is None
        True
        >>> parse("<think>one</think><answer>[NaN]</answer>").failure.code
        'bad_number'
    """
    if schema != "grounding_list":
        raise InputError(f"schema: expected 'grounding_list', got {schema!r}")
    if not isinstance(text, str):
        raise InputError(f"text: expected a string, got {type(text).__name__}")
    blocks = find_blocks(text)
    think: str | None = None
    looks: tuple[str, ...] = ()
    if blocks.think is not None:
        think = text[blocks.think.start : blocks.think.stop]
        looks = find_bodies(text, keyword, blocks.think)
    answer: Objects | None = None
    failure: Failure | None = None
    if blocks.answer is not None:
        body = text[blocks.answer.start : blocks.answer.stop]
        read = parse_grounding_list(body, blocks.answer.start, max_objects)
        answer, failure = (None, read) if isinstance(read, Failure) else (read, None)
    return Response(text, think, looks, answer, None, blocks.failure, failure)
