"""What a recipe tolerates is read, what it does not is not, and nothing well formed changes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, wrap
from hypothesis import example, given
from hypothesis import strategies as st

from rankreward.kinds import SchemaName, Tolerance
from rankreward.parsing import SCHEMAS, Objects, Response, parse
from rankreward.parsing.decode import decode_entry
from rankreward.parsing.quotes import inside_fence, with_double_quotes
from rankreward.parsing.response import TOLERANCES
from rankreward.parsing.tags import lower_tags

GOOD = json.dumps(G1)
ENTRY = GOOD[1:-1]
ENTRY_2 = json.dumps(G2)[1:-1]
ONE = [[100, 100, 300, 300]]
TWO = [*ONE, [500, 500, 700, 700]]
T = "<think>a</think>"
BIG = "9" * 5000


@pytest.mark.parametrize(
    ("name", "text", "boxes"),
    [
        ("tag_case", f"<THINK>a</Think><ANSWER>{GOOD}</answer>", ONE),
        ("stray_text", f"Well. {wrap(GOOD)}<|im_end|>\n", ONE),
        ("stray_text", f"{T} so <answer>{GOOD}</answer>", ONE),
        ("fence", wrap(f"```json\n{GOOD}\n```"), ONE),
        ("fence", wrap(f" ```\n{GOOD}```\n"), ONE),
        ("fence", wrap(f"```{GOOD}```"), ONE),
        ("single_quotes", wrap(GOOD.replace('"', "'")), ONE),
        ("single_quotes", wrap(GOOD.replace('"bbox_2d"', "'bbox_2d'")), ONE),
        ("single_quotes", wrap(f"[{ENTRY[:-1]}, 'a': True, 'b': [None, False], \"it's\": '\"'}}]"), ONE),
        ("single_quotes", wrap(f"[{ENTRY[:-1]}, 'it\\'s': '\\\\', 'b': '\\n\\u0131'}}]"), ONE),
        ("truncated", f"{T}<answer>{GOOD}", ONE),
        ("truncated", f"{T}<answer>{GOOD}</answ", ONE),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"bbox_2d": [1, 2', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"bbox', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"bbox_2d": [1, 2, -', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"a": tru', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"a": 1e', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"a":', TWO),
        ("truncated", f'{T}<answer>[{ENTRY_2}, {{"a": "\\u12', TWO),
        ("truncated", wrap(f"[{ENTRY_2},"), TWO),
        ("truncated", wrap(f"[{ENTRY_2}"), TWO),
        ("duplicate_key", wrap(f'[{{"point_2d": 3, {ENTRY[1:]}]'), ONE),
        ("duplicate_key", wrap(f'[{ENTRY[:-1]}, "a": {{"b": 1, "b": 2}}}}]'), ONE),
        ("numeric_text", wrap(GOOD.replace("300", '"3e2"').replace("200", '"200.00"')), ONE),
        ("numeric_text", wrap(GOOD.replace("300", '"300.' + "0" * 28 + '"')), ONE),
        ("bad_entry", wrap(f"[3, {ENTRY}, {{}}, null, [], {ENTRY.replace('200', 'NaN', 1)}]"), ONE),
        ("bad_entry", wrap(f"[{ENTRY}, {ENTRY.replace('300', 'true', 1)}, {BIG}]"), ONE),
        ("bad_entry", wrap(f"[{ENTRY}, {ENTRY.replace('300', '1e999', 1)}, -Infinity]"), ONE),
        ("bad_entry", wrap(f'[{ENTRY}, {ENTRY[:-1]}, "a": NaN}}]'), ONE),
        ("bad_entry", wrap(f'[{ENTRY}, {ENTRY[:-1]}, "a": {BIG}}}]'), ONE),
        ("too_many_objects", wrap(G2 + G1 * 119), TWO + ONE * 118),
        ("too_many_objects", wrap(G1 * 4000), ONE * 120),
    ],
)  # fmt: skip
def test_each_fault_is_forgiven_by_its_own_tolerance_alone(
    name: Tolerance, text: str, boxes: list[list[float]]
) -> None:
    """With its tolerance a fault is none; with all the others it stays one."""
    for tolerate in ((name,), TOLERANCES):
        response = parse(text, tolerate=tolerate)
        assert response.failure is None, (tolerate, response.failure)
        assert response.answer is not None
        assert response.answer.boxes.tolist() == boxes
        assert len(response.answer.points) == len(boxes)
    assert parse(text).failure is not None
    # An entry that cannot be read may also be left out.
    if name not in {"numeric_text", "duplicate_key"}:
        others = tuple(other for other in TOLERANCES if other != name)
        assert parse(text, tolerate=others).failure is not None


def test_an_entry_that_names_a_key_twice_is_read_or_left_out() -> None:
    """Whichever is tolerated; where both are it is read."""
    text = wrap(f'[{ENTRY}, {ENTRY[:-1]}, "a": 1, "a": 1}}]')
    for tolerate, count in ((("bad_entry",), 1), (("duplicate_key",), 2), (TOLERANCES, 2)):
        answer = parse(text, tolerate=tolerate).answer
        assert answer is not None
        assert len(answer) == count


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (wrap(GOOD.replace("300", "NaN")), "bad_number"),
        (wrap(GOOD.replace("300", "1e999")), "bad_number"),
        (wrap(GOOD.replace("300", "-Infinity")), "bad_number"),
        (wrap(GOOD.replace("300", "1000001")), "bad_number"),
        (wrap(GOOD.replace("300", "true")), "bad_number"),
        (wrap(GOOD.replace("300", "True")), "bad_number"),
        (wrap(GOOD.replace("300", "null")), "bad_number"),
        (wrap(GOOD.replace("300", BIG)), "bad_number"),
        (wrap(GOOD.replace("300", '"NaN"')), "bad_number"),
        (wrap(GOOD.replace("300", '"inf"')), "bad_number"),
        (wrap(GOOD.replace("300", '"1e999"')), "bad_number"),
        (wrap(GOOD.replace("300", '"1000001"')), "bad_number"),
        (wrap(GOOD.replace("300", '"1_0"')), "bad_number"),
        (wrap(GOOD.replace("300", '"e"')), "bad_number"),
        (wrap(GOOD.replace("300", '""')), "bad_number"),
        (wrap(GOOD.replace("300", '" 1"')), "bad_number"),
        (wrap(GOOD.replace("300", '"\u0661"')), "bad_number"),
        (wrap(GOOD.replace("300", '"300.' + "0" * 29 + '"')), "bad_number"),
        (wrap(f"[{ENTRY}, oops"), "bad_json"),
        (wrap(f"[{ENTRY}] and more"), "bad_json"),
        (wrap(f"[{ENTRY} {ENTRY}]"), "bad_json"),
        (wrap(f"x ```json\n{GOOD}\n```"), "bad_json"),
        (wrap(f"```json\n```json\n{GOOD}\n```\n```"), "bad_json"),
        (wrap(f"```python\n{GOOD}\n```"), "bad_json"),
        (wrap(f"[{ENTRY[:-1]}, 'a': 'b\nc'}}]"), "bad_json"),
        (wrap(f"[{ENTRY[:-1]}, 'a': '\0'}}]"), "bad_json"),
        (wrap(f"[{ENTRY[:-1]}, 'a': '\\x41'}}]"), "bad_json"),
        (wrap(f"[{ENTRY}, {'[' * 3000}"), "bad_json"),
        (wrap(ENTRY), "not_a_list"),
        (wrap(ENTRY[:-1]), "bad_json"),
        (wrap(""), "bad_json"),
        (wrap("[" + "[]," * 200_000 + "[]]"), "too_many_objects"),
        (f"<think>a<answer>{GOOD}</answer>", "unclosed_tag"),
        (f"{T}<answer>[<answer>{GOOD}", "unclosed_tag"),
        (f"{T}<\u0410NSWER>{GOOD}</answer>", "missing_tag"),  # a Cyrillic letter
        (f"<th\u0131nk>a</think><answer>{GOOD}</answer>", "missing_tag"),  # a dotless i
        (f"<TH\u0130NK>a</THINK><answer>{GOOD}</answer>", "missing_tag"),  # a dotted I
        (f"<think>a</think\ud800><answer>{GOOD}</answer>", "unclosed_tag"),
    ],
)  # fmt: skip
def test_nothing_else_is_forgiven(text: str, code: str) -> None:
    """With all tolerances but the one that leaves entries out, these are faults still."""
    tolerate = tuple(name for name in TOLERANCES if name != "bad_entry")
    failure = parse(text, tolerate=tolerate).failure
    assert failure is not None
    assert failure.code == code
    assert 0 <= failure.position <= len(text)
    assert "\n" not in failure.message


def test_a_tolerated_fault_does_not_hide_another() -> None:
    """What is reported is what is not tolerated, at its place behind fences and quotes."""
    text = wrap("```json\n[{'bbox_2d': oops}]\n```")
    failure = parse(text, tolerate=("fence", "single_quotes")).failure
    assert failure is not None
    assert text[failure.position :].startswith("oops")
    text = wrap(f"[{GOOD[1:-1]}, {{'bbox_2d': [1]}}]")
    failure = parse(text, tolerate=("single_quotes",)).failure
    assert failure is not None
    assert (failure.code, text[failure.position :][:9]) == ("bad_entry", "{'bbox_2d")
    # Escaped quotes change places: then the body's start has to do.
    text = wrap("['\"\\'\\'', {}]")
    failure = parse(text, tolerate=("single_quotes",)).failure
    assert failure is not None
    assert text[failure.position] == "["
    failure = parse(f"<THINK>a</THINK><ANSWER>{GOOD}", tolerate=("tag_case",)).failure
    assert failure is not None
    assert failure.code == "unclosed_tag"
    failure = parse("<THINK>a</THINK><ANSWER>oops</ANSWER>", tolerate=("tag_case",)).failure
    assert failure is not None
    assert failure.code == "bad_json"


def test_too_many_complete_entries_of_a_cut_list() -> None:
    """A list that was cut short may still be too long."""
    text = wrap(G1 * 122)[:-20]
    failure = parse(text, tolerate=("truncated",)).failure
    assert failure is not None
    assert failure.code == "too_many_objects"
    answer = parse(text, tolerate=("truncated", "too_many_objects")).answer
    assert answer is not None
    assert len(answer) == 120


def test_a_text_that_is_cut_short_is_read() -> None:
    """Free text and captioned objects are read to the end; the caption is missing all the same."""
    assert parse(f"{T}<answer> a cup", "text", tolerate=("truncated",)).said == "a cup"
    body = '{"bbox": [1, 2, 3, 4], "points_1": [1, 2], "points_2": [1, 2]}'
    response = parse(f"{T}<answer>{body}", "captioned_object", tolerate=("truncated",))
    assert response.answered
    assert response.failure is not None
    assert response.failure.code == "missing_tag"


def test_upper_case_looks_count_where_tags_may_be_upper_case() -> None:
    """Also in a completion that is well formed without them; their bodies keep their case."""
    text = wrap("[]", think="<LOOK>Red</LOOK> \u0130 <look>blue</Look>")
    assert parse(text).looks == ()
    assert parse(text, tolerate=("tag_case",)).looks == ("Red", "blue")
    assert parse(text, keyword="any", tolerate=("tag_case",)).looks == ("Red", "blue")


def test_a_draft_in_capitals_stays_reasoning() -> None:
    """Words in the think block of a well-formed completion never become its blocks."""
    text = f"<think>in <ANSWER>[]</ANSWER>?</think><answer>{GOOD}</answer>"
    for tolerate in ((), TOLERANCES):
        response = parse(text, tolerate=tolerate)
        assert response.failure is None
        assert response.answer is not None
        assert len(response.answer) == 1


@pytest.mark.parametrize(
    ("name", "text", "boxes", "signs"),
    [
        ("tag_case", "<BBOX>[0,0,9,9]</bbox><Points>[[1,1]]</POINTS><labels>[1]</labels>", 1, [[1]]),
        ("fence", "<bbox>```[0,0,9,9]```</bbox><points>```json\n[[1,1]]\n```</points><labels>[1]</labels>", 1, [[1]]),
        ("single_quotes", "<bbox>[0,0,9,9]</bbox><points>[[1,1]]</points><labels>[None]</labels>", None, []),
        ("numeric_text", '<bbox>["0",0,9,9]</bbox><points>[["1",1]]</points><labels>["1"]</labels>', 1, [[1]]),
        ("bad_entry", "<bbox>[NaN,0,9,9]</bbox><bbox>x</bbox><bbox>[0,0,9,9]</bbox><points>[[1,1],3,[1,2],[3,3]]</points><labels>[1,1,2]</labels>", 1, [[1]]),
        ("too_many_objects", "<bbox>[0,0,9,9]</bbox>" + "<bbox>[0,0,1,1]</bbox>" * 120 + "<points>[[1,1]]</points><labels>[1]</labels>", 120, None),
        ("too_many_objects", f"<bbox>[0,0,9,9]</bbox><points>[{'[1,1],' * 1200}[2,2]]</points><labels>[{'1,' * 1200}1]</labels>", 1, [[1] * 1200]),
        ("stray_text", "so <bbox>[0,0,9,9]</bbox> and <points>[[1,1]]</points><labels>[1]</labels>.", 1, [[1]]),
    ],
)  # fmt: skip
def test_tolerance_of_prompts_in_tags(
    name: Tolerance, text: str, boxes: int | None, signs: list[list[int]] | None
) -> None:
    """The same tolerances hold in the tags of a segmenter's prompts."""
    assert parse(text, "prompt_tags", think=False).failure is not None
    response = parse(text, "prompt_tags", think=False, tolerate=(name,))
    if boxes is None:
        assert response.answer is None
        return
    assert response.failure is None
    assert response.answer is not None
    assert len(response.answer) == boxes
    assert response.answer.signs is not None
    assert signs is None or response.answer.signs.tolist() == signs


def test_objects_are_not_left_out() -> None:
    """Where one object is asked for, there is none to leave out."""
    response = parse(f"{T}<answer>{{}}</answer>", "grounding_object", tolerate=TOLERANCES)
    assert response.answer is None


subsets = st.sets(st.sampled_from(TOLERANCES)).map(lambda names: tuple(sorted(names)))
schemas = st.sampled_from(list(SCHEMAS))
keywords = st.sampled_from([None, "look", "any"])
PARTS = [
    "<think>", "</think>", "<THINK>", "</Think>", "<look>", "</look>", "<answer>", "</answer>",
    "<ANSWER>", "</ANSWER>", "</ans", "<caption>", "</caption>", "<bbox>", "</bbox>", "<points>",
    "</points>", "<labels>", "</labels>", "<BBOX>", GOOD, ENTRY, "[", "]", "{", "}", ",", ":", '"',
    "'", "\\", "\\'", "\\u0131", "\u0131", "\ud800", "\0", "```", "```json\n", "`", "NaN", "1e999",
    "True", "None", "true", '"12.5"', "9" * 400, "9" * 5000, "-", " ", "\n", "a. ", "<|im_end|>",
    "[1,2,3,4]", "[[1,1],[2,2]]", "[1,0]", '"bbox_2d"', "'point_2d'", "'label'", "[1, 2]",
    '{"bbox": [1, 2, 3, 4], "points_1": [1, 2], "points_2": [1, 2]}', T, f"{T}<answer>", "<", ">",
]  # fmt: skip
anything = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PARTS), max_size=25).map("".join),
    st.lists(st.sampled_from(PARTS), max_size=25).map(lambda parts: wrap("".join(parts))),
    st.lists(st.sampled_from(PARTS[20:]), max_size=8).map(lambda parts: wrap(f"[{''.join(parts)}]")),
    # A well-formed text with a stretch taken out, doubled, or put in capitals.
    st.builds(
        lambda text, start, size, how: (
            text[:start] + how(text[start : start + size]) + text[start + size :]
        ),
        st.sampled_from([
            wrap(G2), wrap(G2).replace('"', "'"), wrap(f"```json\n{GOOD}\n```"),
            f"{T}<bbox>[0,0,9,9]</bbox><points>[[1,1],[2,2]]</points><labels>[1,0]</labels>",
            f"{T}<answer>{PARTS[-6]}</answer><caption>a</caption>",
        ]),
        st.integers(0, 250), st.integers(0, 60),
        st.sampled_from([lambda _: "", lambda part: part * 2, str.upper, lambda part: part[::-1]]),
    ),
)  # fmt: skip


@given(anything, schemas, st.booleans(), keywords, subsets)
@example("\ud800", "text", False, "any", TOLERANCES)
def test_no_text_raises(
    text: str, schema: SchemaName, think: bool, keyword: str | None, tolerate: tuple[Tolerance, ...]
) -> None:
    """Whatever a policy writes and a recipe tolerates, `parse` returns, and what it says holds."""
    response = parse(text, schema, think=think, keyword=keyword, max_objects=3, tolerate=tolerate)
    assert response.text == text
    for failure in (response.format_failure, response.answer_failure):
        if failure is not None:
            assert 0 <= failure.position <= len(text)
            assert "\n" not in failure.message
    if response.failure is None:
        assert response.answered
        assert (response.think is not None) == think
    if response.answer is not None:
        assert response.answer_failure is None
        assert len(response.answer) <= 3
        assert abs(response.answer.boxes).max(initial=0) <= 1e6


@given(anything, schemas, st.booleans(), subsets, subsets)
def test_more_tolerance_never_makes_a_text_unreadable(
    text: str, schema: SchemaName, think: bool, few: tuple[Tolerance, ...], more: tuple[Tolerance, ...]
) -> None:  # fmt: skip
    """What is read with some tolerances is read with more; what has no failure gets none."""
    less = parse(text, schema, think=think, max_objects=3, tolerate=few)
    all_of_them = parse(text, schema, think=think, max_objects=3, tolerate={*few, *more})
    assert all_of_them.answered >= less.answered
    assert less.failure is not None or all_of_them.failure is None


number = st.one_of(st.integers(-9999, 9999), st.floats(-1e6, 1e6))
pair, box = (st.lists(number, min_size=n, max_size=n) for n in (2, 4))
label = st.text()


def entries(schema: SchemaName) -> st.SearchStrategy[dict[str, Any]]:
    """Well-formed entries of a schema, with another key now and then."""
    layout = SCHEMAS[schema]
    keys: dict[str, Any] = dict.fromkeys(layout.points, pair)
    if layout.box is not None:
        keys[layout.box] = box
    if layout.label is not None:
        keys[layout.label] = label
    return st.fixed_dictionaries(keys, optional={"other": label})


@st.composite
def well_formed(draw: st.DrawFn) -> tuple[SchemaName, str]:
    """A well-formed completion of any schema, whatever its texts say."""
    schema: SchemaName = draw(schemas)
    plain = st.text().map(lambda text: text.replace("<", ""))
    blocks = [f"<think>{draw(plain)}<look>{draw(plain)}</look></think>"]
    if schema == "text":
        blocks.append(f"<answer>{draw(plain)}a</answer>")
    elif schema == "prompt_tags":
        boxes = draw(st.lists(box, min_size=1, max_size=3))
        points = draw(st.lists(pair, max_size=4))
        signs = [draw(st.integers(0, 1)) for _ in points]
        blocks += [f"<bbox>{json.dumps(each)}</bbox>" for each in boxes]
        blocks += [f"<points>{points}</points>", f"<labels>{signs}</labels>"]
    else:
        layout = SCHEMAS[schema]
        one = entries(schema)
        data = draw(one if layout.form == "object" else st.lists(one, max_size=4))
        ascii_only = draw(st.booleans())
        body = json.dumps(data, ensure_ascii=ascii_only).replace("<", "\\u003c")
        blocks.append(f"<answer>{body}</answer>")
    if schema == "captioned_object":
        blocks.append(f"<caption>{draw(plain)}a</caption>")
    return schema, draw(st.sampled_from(["", " ", "\n\n"])).join(blocks)


def same(one: Response, other: Response) -> bool:
    """Whether two responses say the same, NaN and all."""
    fields = ("text", "think", "looks", "caption", "format_failure", "answer_failure", "said")
    if any(getattr(one, field) != getattr(other, field) for field in fields):
        return False
    if one.answer is None or other.answer is None:
        return one.answer is other.answer
    return _exact(one.answer) == _exact(other.answer)


def _exact(answer: Objects) -> str:
    arrays = (answer.boxes, answer.points, np.array(answer.signs))
    return repr([answer.labels, *((array.shape, array.tolist()) for array in arrays)])


@given(well_formed(), subsets, keywords)
def test_what_is_well_formed_reads_the_same(
    completion: tuple[SchemaName, str], tolerate: tuple[Tolerance, ...], keyword: str | None
) -> None:
    """No tolerance changes what a well-formed completion says."""
    schema, text = completion
    strict = parse(text, schema, keyword=keyword)
    assert strict.failure is None
    assert strict.answered
    assert same(strict, parse(text, schema, keyword=keyword, tolerate=tolerate))
    assert same(strict, parse(text, schema, keyword=keyword, tolerate=TOLERANCES))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(json_values, st.booleans())
def test_json_keeps_its_quotes(value: Any, ascii_only: bool) -> None:
    """A text that is JSON already has nothing to be put in other quotes."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert with_double_quotes(text) == text


@given(st.lists(st.one_of(st.booleans(), st.none(), st.text(st.characters(min_codepoint=32)))))
def test_python_lists_are_read(value: list[Any]) -> None:
    """What Python prints is what JSON reads, quotes, backslashes and words."""
    printed = repr(value)
    if "\\x" not in printed and "\\U" not in printed:
        assert json.loads(with_double_quotes(printed)) == value


@given(st.text(st.sampled_from("\"'\\aT")))
def test_quotes_close_where_python_closes_them(text: str) -> None:
    """Text outside of quotes stays, and no character is read twice."""
    assert len(with_double_quotes(text)) <= 2 * len(text)


@given(st.text())
def test_tags_in_lower_case_stay_in_place(text: str) -> None:
    """Lower case changes A to Z alone, and the place of nothing."""
    lower = lower_tags(text)
    assert len(lower) == len(text)
    assert all(a == b or (a.isascii() and a.lower() == b) for a, b in zip(text, lower, strict=True))


@pytest.mark.parametrize(
    ("text", "unclosed", "inside"),
    [
        ("[]", False, "[]"),
        ("```[]```", False, "[]"),
        ("``` []", False, "``` []"),
        ("``` []", True, " []"),
        ("``` []``", True, " []"),
        ("```", True, "```"),
        ("``````", False, "``````"),
        ("```jsonl\n[]```", False, "```jsonl\n[]```"),
    ],
)
def test_inside_of_a_fence(text: str, unclosed: bool, inside: str) -> None:
    """One fence, closed unless it may be open, of JSON or of no language."""
    start, stop = inside_fence(text, unclosed=unclosed)
    assert text[start:stop] == inside


def test_an_entry_is_read_where_it_starts() -> None:
    """What stands around an entry does not count."""
    assert decode_entry('oops [1, {"a": 2}', 9, ()) == {"a": 2}


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("tolerate", [(), TOLERANCES])
@pytest.mark.parametrize(
    "unit",
    [
        "'",
        '"',
        "\\",
        "'\"",
        "[",
        "{",
        "```",
        "9",
        ":",
        "'\\'",
        "[],",
        "<a>",
        "<a></a>",
        "\u0131",
        "\ud800",
    ],
)
def test_a_megabyte_of_anything_is_read(
    schema: SchemaName, tolerate: tuple[Tolerance, ...], unit: str
) -> None:  # fmt: skip
    """Text that makes the usual patterns run for days is read like any other."""
    body = unit * (1_000_000 // len(unit))
    tag = SCHEMAS[schema].blocks[0]
    for text in (f"{T}<{tag}>[{body}", f"<think>{body}</think><{tag}>['{body}]</{tag}>"):
        parse(text, schema, keyword="any", tolerate=tolerate)


@pytest.mark.parametrize(
    ("body", "tolerate", "code"),
    [
        ("[", ("truncated",), "bad_json"),
        (f"[{ENTRY[:-1]}", ("truncated",), "bad_json"),
        ("[NaN]", ("bad_entry",), "bad_number"),
        (f"[{ENTRY[:-1]}, 3]", TOLERANCES, "bad_json"),
        ("[3, {}, null]", TOLERANCES, "bad_entry"),
    ],
)
def test_nothing_readable_is_no_empty_answer(
    body: str, tolerate: tuple[str, ...], code: str
) -> None:
    """To say that there is nothing takes an empty list; debris must not be paid for a rejection."""
    response = parse(wrap(body), tolerate=tolerate)
    assert not response.answered
    assert response.failure is not None
    assert response.failure.code == code
