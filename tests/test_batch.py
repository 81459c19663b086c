"""A batch is read as its completions are one by one, to the bit, by kernels and by their twins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import twice

from rankreward.metrics.text import repeated_sentences, repeated_sentences_of
from rankreward.parsing import SCHEMAS, Objects, Response, Schema
from rankreward.parsing.batch import parse_many
from rankreward.parsing.response import TOLERANCES, parse_for
from rankreward.recipe import Frame
from rankreward.recipe import Response as Settings

BLANKS = ["", "", "", " ", "\n", "\r\n\t "]
NUMBERS = [
    "0", "-0", "-0.0", "7", "12.5", "840", "0.1", "-3.25", "1000000", "1000000.0", "999999.999999999",
    "0.00000000000001", "123456.789012345", "-1000000", "1e2", "1.", "01", "1000000.1", "1000001",
    "123456.7890123456", "00", "-", ".5", "NaN", "true", '"3"', "0.000000000000001", "4E0",
]  # fmt: skip
PLAIN = len("0 -0 -0.0 7 12.5 840 0.1 -3.25 1e6 1e6 999 1e-14 1234 -1e6".split())
HOSTILE = [
    "<think>", "</think>", "<answer>", "</answer>", "<caption>", "</caption>", "<look>", "</look>",
    "[", "]", "{", "}", ",", ":", '"', "\\", "0", "9", ".", "-", " ", "\n", "\x00", "\x1c", "\x85",
    "<", "</", "?", "a", "\u00e9", "\U0001f600", "\ud800", "<LOOK>", "</Think>", "<a>", "</a>", "[]",
]  # fmt: skip
THINKING = [
    "", "a cup. ", "\u00e9", "<look>", "</look>", "<look>it</look>", "<look> </look>", "<LOOK>A</LOOK>",
    "<zoom>b</zoom>", "<", "<br>", "\x00", "\x1c",
]  # fmt: skip


def values(response: Response) -> list[Any]:
    """All that a response says, arrays with their shapes and bytes."""
    found: list[Any] = [type(response), list(vars(response))]
    for value in vars(response).values():
        if isinstance(value, Objects):
            assert list(vars(value)) == list(Objects.__dataclass_fields__)
            arrays = [a for a in (value.boxes, value.points, value.signs) if a is not None]
            found += [(a.shape, a.dtype, a.tobytes()) for a in arrays]
            found.append(value.labels)
        else:
            found.append((type(value), value))
    return found


def check(texts: Sequence[str], settings: Settings) -> None:
    """The batch by Python, by the kernels, and each text by itself."""
    one_by_one = [values(parse_for(text, settings)) for text in texts]
    for many in twice(lambda: parse_many(texts, settings)):
        assert [values(response) for response in many] == one_by_one


@st.composite
def responses(draw: st.DrawFn) -> Settings:
    schema = draw(st.sampled_from(list(SCHEMAS)))
    think = draw(st.integers(0, 4)) > 0
    keywords = ["look", "look", "any", "a", "caption", None] if think else [None]
    return Settings(
        schema=schema,
        frame=None if schema == "text" else Frame(width=10, height=10),
        think=think,
        keyword=draw(st.sampled_from(keywords)),
        max_objects=draw(st.sampled_from([1, 2, 120])),
        tolerate=draw(st.one_of(st.just(()), st.lists(st.sampled_from(TOLERANCES), unique=True))),
    )


@st.composite
def completions(draw: st.DrawFn, response: Settings) -> str:
    """Well formed most of the time."""
    schema = SCHEMAS[response.schema_]
    plain = draw(st.integers(0, 3)) > 0

    def blank() -> str:
        return draw(st.sampled_from(BLANKS))

    def numbers(size: int) -> str:
        size = size if plain else draw(st.sampled_from([size, size, size, 0, 1, 3]))
        known = st.sampled_from(NUMBERS[:PLAIN] if plain else NUMBERS)
        each = st.one_of(known, st.integers(-900, 900).map(str), st.floats(0, 900).map(str))
        inside = [blank() + draw(each) + blank() for _ in range(size)]
        return "[" + (",".join(inside) or blank()) + "]"

    def entry() -> str:
        keys = dict(zip(schema.keys, schema.sizes, strict=True))
        names = draw(st.permutations(list(keys)))
        if not plain:
            names = draw(st.sampled_from([names, names[1:], [*names, *names[:1]], [*names, "more"]]))
        parts = [
            f'{blank()}"{name}"{blank()}:{blank()}{numbers(keys.get(name, 1))}{blank()}'
            for name in names
        ]
        if schema.label:
            parts.append(f'"{schema.label}": "cup"')
        return "{" + ",".join(parts) + "}"

    if schema.form == "object":
        body = entry()
    else:
        count = draw(st.sampled_from([0, 1, 1, 2, 2, 3]))
        body = "[" + (",".join(blank() + entry() + blank() for _ in range(count)) or blank()) + "]"
    text = f"<answer>{blank()}{body}{blank()}</answer>"
    if "caption" in schema.blocks:
        said = draw(st.sampled_from(["a cup", " \u00e9 ", "<b>", " ", "", "<look>x</look>"]))
        text += f"{draw(st.sampled_from(BLANKS))}<caption>{said}</caption>"
    if response.think:
        thought = "".join(draw(st.lists(st.sampled_from(THINKING), max_size=5)))
        between = draw(st.sampled_from([*BLANKS, "\x0b\x1f", "\x85"]))
        text = f"<think>{thought}</think>{between}{text}"
    return text


@st.composite
def edited(draw: st.DrawFn, response: Settings) -> str:
    """One place of a text is another, more or less."""
    text = draw(completions(response))
    place = draw(st.integers(0, len(text)))
    cut = draw(st.integers(0, 1))
    new = draw(st.sampled_from(["", *HOSTILE, *text[-40:]]))
    return text[:place] + new + text[place + cut :]


hostile = st.lists(st.sampled_from(HOSTILE), max_size=30).map("".join)


@settings(max_examples=300)
@given(data=st.data(), response=responses())
def test_a_batch_is_read_as_one_by_one(data: st.DataObject, response: Settings) -> None:
    """Well formed, nearly so, and hostile, in one batch, by any schema and with any tolerance."""
    each = st.one_of(completions(response), edited(response), edited(response), hostile)
    check(data.draw(st.lists(each, max_size=6)), response)
