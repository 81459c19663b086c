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

import rankreward as rr
from rankreward.compiled import as_bytes
from rankreward.metrics import kernels, text
from rankreward.parsing import SCHEMAS, Objects, Response, Schema, parse_objects
from rankreward.parsing.batch import parse_many, read_objects
from rankreward.parsing.response import TOLERANCES, parse_for
from rankreward.recipe import Frame
from rankreward.recipe import Response as Settings

BLANKS = ["", "", "", " ", "\n", "\r\n\t "]
NUMBERS = [
    "0", "-0", "-0.0", "7", "12.5", "840", "0.1", "-3.25", "1000000", "1000000.0", "999999.999999999",
    "0.00000000000001", "123456.789012345", "-1000000", "1e2", "1.", "01", "1000000.1", "1000001",
    "123456.7890123456", "00", "-", ".5", "NaN", "true", '"3"', "0.000000000000001", "4E0",
]  # fmt: skip
PLAIN = NUMBERS.index("1e2")  # what comes before is read by the kernel
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
    one_by_one = [values(parse_for(each, settings)) for each in texts]
    for many in twice(lambda: parse_many(texts, settings)):
        assert [values(response) for response in many] == one_by_one


@st.composite
def responses(draw: st.DrawFn) -> Settings:
    schema = draw(st.sampled_from(list(SCHEMAS)))
    think = draw(st.integers(0, 4)) > 0
    keywords = ["look", "look", "any", "a", None] if think else [None]
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
            names = draw(
                st.sampled_from([names, names[1:], [*names, *names[:1]], [*names, "more"]])
            )
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
    whole = f"<answer>{blank()}{body}{blank()}</answer>"
    if "caption" in schema.blocks:
        said = draw(st.sampled_from(["a cup", " \u00e9 ", "<b>", " ", "", "<look>x</look>"]))
        whole += f"{draw(st.sampled_from(BLANKS))}<caption>{said}</caption>"
    if response.think:
        thought = "".join(draw(st.lists(st.sampled_from(THINKING), max_size=5)))
        between = draw(st.sampled_from([*BLANKS, "\x0b\x1f", "\x85"]))
        whole = f"<think>{thought}</think>{between}{whole}"
    return whole


@st.composite
def edited(draw: st.DrawFn, response: Settings) -> str:
    """One place of a text is another, more or less."""
    whole = draw(completions(response))
    place = draw(st.integers(0, len(whole)))
    cut = draw(st.integers(0, 1))
    new = draw(st.sampled_from(["", *HOSTILE, *whole[-40:]]))
    return whole[:place] + new + whole[place + cut :]


hostile = st.lists(st.sampled_from(HOSTILE), max_size=30).map("".join)


@settings(max_examples=300)
@given(data=st.data(), response=responses())
def test_a_batch_is_read_as_one_by_one(data: st.DataObject, response: Settings) -> None:
    """Well formed, nearly so, and hostile, in one batch, by any schema and with any tolerance."""
    each = st.one_of(completions(response), edited(response), edited(response), hostile)
    check(data.draw(st.lists(each, max_size=6)), response)


@pytest.mark.parametrize(
    "schema", [name for name, each in SCHEMAS.items() if each.keys and not each.label]
)
@pytest.mark.parametrize("think", [True, False])
def test_what_is_well_formed_is_read_by_the_kernel(
    schema: Any, think: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White space, the order of keys and fractions are no reason to read a text the slow way."""
    layout: Schema = SCHEMAS[schema]
    keys = zip(layout.keys[::-1], layout.sizes[::-1], strict=True)
    entry = ",\n".join(f' "{key}" : [ {", ".join(["-12.5"] * size)} ]\t' for key, size in keys)
    bodies = ["{" + entry + "}"]
    if layout.form == "list":
        bodies = ["[]", f"[{{{entry}}}]", f" [ {{{entry}}} , {{{entry}}} ]\n"]
    caption = "\n<caption> a cup </caption>" if "caption" in layout.blocks else ""
    before = "<think>\u00e9 <look> the red one </look></think>\n" if think else ""
    texts = [f"{before}<answer>{body}</answer>{caption}" for body in bodies]
    keyword = "look" if think else None
    asked = Settings(schema=schema, frame=Frame(width=9, height=9), think=think, keyword=keyword)
    check(texts, asked)
    monkeypatch.setattr("rankreward.parsing.batch.parse_for", None)
    read = parse_many(np.array(texts), asked)
    assert all(response.failure is None for response in read)
    assert {response.looks for response in read} == {("the red one",) if think else ()}


@settings(max_examples=300)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["a", "A", "b", "5", "a. ", "a b. ", " ", "\n", "_", ".", "!", "?", "<b>",
                             "</b>", "<", "</", ">", "/", "<B>", "<a_>", "\x00", "\x1f", "\u3002", "\u00e9"]),
            max_size=40,
        ).map("".join),
        max_size=6,
    )
)  # fmt: skip
def test_repetitions_of_a_batch_are_those_of_its_texts(texts: list[str]) -> None:
    """Marks inside numbers, tags, other alphabets: counted as one by one."""
    expected = [text.repeated_sentences(each) for each in texts]
    for counts in twice(lambda: text.repeated_sentences_of(texts)):
        assert counts.dtype == np.int64
        assert counts.tolist() == expected


def test_sentences_are_told_apart_where_their_hashes_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes only say which sentences to compare; too many of one hash are left to Python."""
    monkeypatch.setattr(kernels, "_PRIME", np.uint64(0))
    for count, expected in ((0, 1), (100, 2), (255, 2), (300, -1)):
        words = ". ".join(f"no {k}" for k in range(count))
        found = np.empty(1, np.int64)
        data, stops = as_bytes([f"Yes it. {words}. No 1. yes <b>it"])
        kernels.count_repeats.py_func(data, stops, text._TABLE, found)
        assert found.tolist() == [expected]


def test_sentences_that_all_meet_in_one_place_of_the_table_are_counted() -> None:
    """Who knows the hash makes the kernel give up, not run for ever."""
    letters = np.arange(97, 123, dtype=np.uint64)
    hashes = kernels._BASIS
    for place, letter in enumerate(np.meshgrid(*[letters] * 4, indexing="ij")):
        hashes = (hashes ^ (letter | np.uint64(0 if place else 256))) * kernels._PRIME
    met = np.argwhere((hashes ^ (hashes >> kernels._HALF)) & np.uint64(1023) == 0)
    words = ["".join(chr(97 + k) for k in row) for row in met.tolist()]
    assert 300 < len(words) < 512
    words += [words[-1]]
    found = np.empty(1, np.int64)
    data, stops = as_bytes([". ".join(words)])
    kernels.count_repeats(data, stops, text._TABLE, found)
    assert found.tolist() == [-1]
    assert twice(lambda: text.repeated_sentences_of([". ".join(words)]).tolist()) == [[1], [1]]


@pytest.mark.parametrize(
    "shape", ["<", "<a", "</a>", "a.", "a", ".", " ", "1.", "ab. ", "a b c d. "]
)
def test_repetitions_are_counted_in_linear_time(shape: str) -> None:
    """A hundred thousand characters take milliseconds, whatever they are."""
    rr.warmup()
    numbered = "".join(f"{shape}{k}" for k in range(20_000))
    for long in (shape * (100_000 // len(shape)), numbered):
        expected = text.repeated_sentences(long)
        begin = time.perf_counter()
        assert text.repeated_sentences_of([long, "a. a."]).tolist() == [expected, 1]
        assert time.perf_counter() - begin < 0.5


@given(data=st.data(), response=responses())
def test_references_are_read_as_one_by_one(data: st.DataObject, response: Settings) -> None:
    """What the kernel reads of JSON alone is what the parser reads; of the rest it says nothing."""
    schema = SCHEMAS[response.schema_]
    asked = response.model_copy(update={"think": False, "keyword": None})
    each = st.one_of(completions(asked), edited(asked))
    texts = [
        whole.split("<answer>")[-1].split("</answer>")[0]
        for whole in data.draw(st.lists(each, max_size=6))
    ]
    by_python, by_kernel = twice(lambda: read_objects(texts, schema))
    assert by_python == [None] * len(texts)
    for body, mine in zip(texts, by_kernel, strict=True):
        if mine is not None:
            theirs = parse_objects(body, 0, schema, len(body))
            assert isinstance(theirs, Objects)
            assert mine.boxes.tobytes() == theirs.boxes.tobytes()
            assert mine.points.tobytes() == theirs.points.tobytes()
            assert (mine.boxes.shape, mine.points.shape) == (
                theirs.boxes.shape,
                theirs.points.shape,
            )


@pytest.mark.parametrize(
    ("before", "unit", "after"),
    [
        ("", "<think>", ""),
        ("<think>", "<", "</think><answer>[]</answer>"),
        ("<think>", "</thin", "</think><answer>[]</answer>"),
        ("<think>", "<look>", "</think><answer>[]</answer>"),
        ("<think>", "<look>a</look>", "</think><answer>[]</answer>"),
        ("<think>a</think>", " \n", "<answer>[]</answer>"),
        ("<think>a</think><answer>", " \n", "[]</answer>"),
        ("<think>a</think><answer>", "[", "</answer>"),
        ("<think>a</think><answer>[", "{", "]</answer>"),
        ("<think>a</think><answer>[", '{"bbox_2d":[1,2,3,4],"point_2d":[1,2]},', "0]</answer>"),
        ('<think>a</think><answer>[{"bbox_2d":[', "1", "]</answer>"),
        ('<think>a</think><answer>[{"bbox_2d":[1.', "0", "]</answer>"),
        ('<think>a</think><answer>[{"', "bbox_2d", "]</answer>"),
    ],
)
def test_a_batch_is_read_in_linear_time(before: str, unit: str, after: str) -> None:
    """A hundred thousand characters of anything take the kernel no longer than of prose."""
    asked = Settings(schema="grounding_list", frame=Frame(width=9, height=9), keyword="look")
    long = before + unit * (100_000 // len(unit)) + after
    check([long, "<think>a</think><answer>[]</answer>", long[:-1]], asked)
    begin = time.perf_counter()
    parse_many([long] * 5, asked)
    assert time.perf_counter() - begin < 1.0
