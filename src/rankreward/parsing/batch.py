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
from rankreward.parsing.numbers import LIMIT
from rankreward.parsing.response import Response, find_looks, parse_for
from rankreward.parsing.schemas import SCHEMAS, Schema
from rankreward.parsing.tags import Span
from rankreward.recipe import Response as Settings

KERNELS = "rankreward.parsing.kernels"
_CHARACTER = 3e-8  # what `parse_for` takes, in seconds; `compiled` adds it up

_THINK = len("<think>")

T = TypeVar("T")


def parse_many(texts: Sequence[str], response: Settings) -> list[Response]:
    """Read the completions of a batch as a recipe has it; see `parse`.

    Args:
        texts: B texts that the policy wrote.
        response: what a recipe asks of a completion, `Recipe.response`.

    Returns:
        B responses. The numbers of their answers are views of one array.
    """
    schema, keyword, tolerate = SCHEMAS[response.schema_], response.keyword, response.tolerate
    # Of any tag, and of tags in upper case, the kernel knows nothing.
    known = keyword != "any" and "tag_case" not in tolerate
    tags = _tags(["think", *schema.blocks])
    looked = _tags([keyword] if known and keyword else [])
    read = _read(texts, schema, tags, looked, think=response.think, most=response.max_objects)
    if read is None:
        return [parse_for(text, response) for text in texts]
    captioned = "caption" in schema.blocks
    responses = []
    for text, (span, objects) in zip(texts, read, strict=True):
        think, look, look_stop, answer, answer_stop, caption, caption_stop, looks, _ = span
        described = text[caption:caption_stop].strip() if captioned else None
        if objects is None or described == "":
            responses.append(parse_for(text, response))
            continue
        found: tuple[str, ...] = ()
        if known and looks < 2:
            body = text[look:look_stop].strip() if looks else ""
            found = (body,) if body else ()
        elif response.think:
            found = find_looks(text, Span(_THINK, think), keyword, schema, tolerate)
        fields = {
            "text": text,
            "think": text[_THINK:think] if response.think else None,
            "looks": found,
            "answer": objects,
            "caption": described,
            "format_failure": None,
            "answer_failure": None,
            "said": text[answer:answer_stop].strip(),
        }
        responses.append(_made(Response, fields))
    return responses


def read_objects(texts: Sequence[str], schema: Schema) -> list[Objects | None]:
    """The objects of JSON texts, as `parse_objects` gives them; None where it has to look.

    Args:
        texts: B texts, each a JSON list or object, as the schema has it.
        schema: which keys its entries have.

    Example:
        >>> [read is None for read in read_objects(["Two cups."], SCHEMAS["boxes"])]
        [True]
    """
    tags = [""] * 4  # those of think and answer are nothing, and nothing stands everywhere
    read = _read(texts, schema, tags, [], think=False, most=max(map(len, texts), default=0))
    return [None] * len(texts) if read is None else [objects for _, objects in read]


def _read(
    texts: Sequence[str],
    schema: Schema,
    tags: Sequence[str],
    looked: Sequence[str],
    *,
    think: bool,
    most: int,
) -> list[tuple[list[int], Objects | None]] | None:
    """What the kernel says of each text, and the objects in it.

    None as a whole for schemas that it does not know, and until it is loaded; None for the objects
    of a text that it cannot vouch for.
    """
    compiled = None
    if schema.form in {"list", "object"} and schema.label is None and len(texts):
        compiled = kernels(KERNELS, sum(map(len, texts)) * _CHARACTER)
    if compiled is None:
        return None
    data, stops = as_bytes(texts)
    rows = np.empty((int(np.count_nonzero(data == ord("{"))) + 1, schema.width))
    spans = np.empty((len(texts), compiled.ROW + 1), dtype=np.int64)
    compiled.read_faultless(
        data,
        stops,
        *_words([*tags, *looked]),
        len(tags),
        *_words([f'"{key}"' for key in schema.keys]),
        np.array(schema.sizes, dtype=np.int64),
        LIMIT,
        think,
        schema.form == "list",
        most,
        rows,
        spans,
        np.empty(4, dtype=np.int64),
    )
    boxes, points = boxes_and_points(rows, schema)
    read: list[tuple[list[int], Objects | None]] = []
    first = 0
    for span in spans.tolist():
        row = span[-1]
        if row < 0:
            read.append((span, None))
            continue
        fields = {
            "boxes": boxes[first:row],
            "points": points[first:row],
            "labels": None,
            "signs": None,
        }
        read.append((span, _made(Objects, fields)))
        first = row
    return read


def _tags(names: Sequence[str]) -> list[str]:
    return [f"<{close}{name}>" for name in names for close in ("", "/")]


def _words(words: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Words one after the other, and their bounds."""
    bounds = np.cumsum([0, *map(len, words)], dtype=np.int64)
    return np.frombuffer(bytearray("".join(words), "ascii"), np.uint8), bounds


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """An instance of a frozen dataclass, in half the time that its constructor takes."""
    made = object.__new__(kind)
    vars(made).update(fields)
    return made
