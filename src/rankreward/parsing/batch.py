"""The completions of a batch, read.

Goes in: the texts of a batch. Comes out: the `Response` to each that `response.parse_for` gives, to
the bit. The compiled `kernels` read those without any fault, and `parse_for` reads the others, and
all until the kernels are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankreward.compiled import as_bytes, kernels
from rankreward.parsing.answers import Objects, boxes_and_points
from rankreward.parsing.response import Response, find_looks, parse_for
from rankreward.parsing.schemas import SCHEMAS
from rankreward.parsing.tags import Span
from rankreward.recipe import Response as Settings

KERNELS = "rankreward.parsing.kernels"
_CHARACTER = 3e-8  # what `parse_for` takes, in seconds; `compiled` adds it up

T = TypeVar("T")


def parse_many(texts: Sequence[str], response: Settings) -> list[Response]:
    """Read the completions of a batch as a recipe has it; see `parse`.

    Args:
        texts: B texts that the policy wrote.
        response: what a recipe asks of a completion, `Recipe.response`.

    Returns:
        B responses. The numbers of their answers are views of one array.
    """
    schema = SCHEMAS[response.schema_]
    compiled = None
    if schema.form in {"list", "object"} and schema.label is None and len(texts):
        compiled = kernels(KERNELS, sum(map(len, texts)) * _CHARACTER)
    if compiled is None:
        return [parse_for(text, response) for text in texts]
    keyword, tolerate = response.keyword, response.tolerate
    # Of any tag, and of tags in upper case, the kernel knows nothing.
    known = keyword != "any" and "tag_case" not in tolerate
    names = ["think", *schema.blocks]
    tags = 2 * len(names)
    if known and keyword is not None:
        names.append(keyword)
    data, stops = as_bytes(texts)
    rows = np.empty((int(np.count_nonzero(data == ord("{"))) + 1, schema.width))
    spans = np.empty((len(texts), compiled.ROW + 1), dtype=np.int64)
    compiled.read_faultless(
        data,
        stops,
        *_words([f"<{close}{name}>" for name in names for close in ("", "/")]),
        tags,
        *_words([f'"{key}"' for key in schema.keys]),
        np.array(schema.sizes, dtype=np.int64),
        response.think,
        schema.form == "list",
        response.max_objects,
        rows,
        spans,
        np.empty(4, dtype=np.int64),
    )
    boxes, points = boxes_and_points(rows, schema)
    captioned = "caption" in schema.blocks
    responses = []
    first = 0
    for text, span in zip(texts, spans.tolist(), strict=True):
        think, look, look_stop, answer, answer_stop, caption, caption_stop, looks, row = span
        described = text[caption:caption_stop].strip() if captioned else None
        if row < 0 or described == "":
            responses.append(parse_for(text, response))
            first = max(first, row)  # the numbers of the one without a caption are left out
            continue
        if not response.think:
            found: tuple[str, ...] = ()
        elif known and looks < compiled.MANY:
            body = text[look:look_stop].strip() if looks else ""
            found = (body,) if body else ()
        else:
            found = find_looks(text, Span(_THINK, think), keyword, schema, tolerate)
        objects = {
            "boxes": boxes[first:row],
            "points": points[first:row],
            "labels": None,
            "signs": None,
        }
        fields = {
            "text": text,
            "think": text[_THINK:think] if response.think else None,
            "looks": found,
            "answer": _made(Objects, objects),
            "caption": described,
            "format_failure": None,
            "answer_failure": None,
            "said": text[answer:answer_stop].strip(),
        }
        responses.append(_made(Response, fields))
        first = row
    return responses


_THINK = len("<think>")


def _words(words: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Words one after the other, and their bounds."""
    bounds = np.cumsum([0, *map(len, words)], dtype=np.int64)
    return np.frombuffer(bytearray("".join(words), "ascii"), np.uint8), bounds


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """An instance of a frozen dataclass, in half the time that its constructor takes."""
    made = object.__new__(kind)
    vars(made).update(fields)
    return made
