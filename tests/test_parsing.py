"""The parser reads what is well formed, names what is not, and never raises or hangs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, wrap
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr
from rankreward.errors import InputError
from rankreward.kinds import SchemaName
from rankreward.parsing import SCHEMAS, answers, decode, tags
from rankreward.parsing.response import parse, parse_for
from rankreward.recipe import Frame
from rankreward.recipe import Response as Settings

GOOD = json.dumps(G1)
TAGS = ("<think>", "</think>", "<look>", "</look>", "<answer>", "</answer>")


def test_well_formed_completion() -> None:
    """Every part of a good completion is read."""
    response = rr.parse(wrap(G2, think="a <look> red </look> b <look>blue</look><look> </look>"))
    assert response.failure is None
    assert response.looks == ("red", "blue")
    assert response.answer is not None
    assert response.answer.boxes.tolist() == [[100, 100, 300, 300], [500, 500, 700, 700]]
    assert response.answer.points.tolist() == [[[200, 200]], [[600, 600]]]


def test_empty_list_is_an_answer() -> None:
    """`[]` is a correct way to say that there is nothing."""
    response = rr.parse(wrap("[]"))
    assert response.failure is None
    assert response.answer is not None
    assert len(response.answer) == 0


@pytest.mark.parametrize(
    ("text", "code", "answer"),
    [
        ("", "missing_tag", False),
        ("a cat", "missing_tag", False),
        (f"<answer>{GOOD}</answer>", "missing_tag", True),
        (f"<answer>{GOOD}</answer><think>a</think>", "missing_tag", False),
        (f"draft <answer>{GOOD}</answer></think>", "missing_tag", False),
        (f"a</think><answer>{GOOD}</answer>", "missing_tag", True),
        (f"<think>a</answer></think><answer>{GOOD}</answer>", "nested_tag", True),
        (" " + wrap("oops"), "bad_json", False),
        (f"<THINK>a</THINK><answer>{GOOD}</answer>", "missing_tag", True),
        ("<think>a</think>", "missing_tag", False),
        (f"<think>a<answer>{GOOD}</answer>", "unclosed_tag", False),
        (f"<think>a</think><answer>{GOOD}", "unclosed_tag", False),
        (f"<think>a<think>b</think><answer>{GOOD}</answer>", "nested_tag", True),
        (f"<think>a</think><answer><answer>{GOOD}</answer></answer>", "nested_tag", False),
        (wrap(GOOD) + wrap(GOOD), "repeated_tag", False),
        (wrap(GOOD) + "\n", "stray_text", True),
        (" " + wrap(GOOD), "stray_text", True),
        (wrap(GOOD) + "<|im_end|>", "stray_text", True),
        (f"<think>a</think> so <answer>{GOOD}</answer>", "stray_text", True),
        (wrap(f"```json\n{GOOD}\n```"), "bad_json", False),
        (wrap(GOOD.replace('"', "'")), "bad_json", False),
        (wrap(GOOD[:-3]), "bad_json", False),
        (wrap(""), "bad_json", False),
        (wrap("[" * 100_000), "bad_json", False),
        (wrap(G1[0]), "not_a_list", False),
        (wrap("[1]"), "bad_entry", False),
        (wrap('[{"bbox_2d": [1, 2, 3, 4]}]'), "bad_entry", False),
        (wrap('[{"bbox_2d": [1, 2, 3], "point_2d": [1, 2]}]'), "bad_entry", False),
        (wrap('[{"bbox_2d": "1234", "point_2d": [1, 2]}]'), "bad_entry", False),
        (wrap('[{"bbox_2d": [1, 2, 3, NaN], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, -Infinity], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, 1e999], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, 1e7], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, "4"], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, true], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap('[{"bbox_2d": [1, 2, 3, null], "point_2d": [1, 2]}]'), "bad_number", False),
        (wrap(f"[{'9' * 5000}]"), "bad_number", False),
        (wrap(f'[{{"bbox_2d": [1, 2, 3, {"9" * 400}], "point_2d": [1, 2]}}]'), "bad_number", False),
        (
            wrap('[{"bbox_2d": [], "bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2]}]'),
            "duplicate_key",
            False,
        ),
        (wrap(G1 * 121), "too_many_objects", False),
    ],
)
def test_malformed_completion(text: str, code: str, answer: bool) -> None:
    """Each kind of malformed text has its code, and keeps its answer only where beyond doubt."""
    response = rr.parse(text)
    assert response.failure is not None
    assert response.failure.code == code
    assert (response.answer is not None) == answer
    assert 0 <= response.failure.position <= len(text)
    assert "\n" not in response.failure.message


def test_draft_in_the_reasoning_is_not_the_answer() -> None:
    """A box quoted while thinking is never scored in place of the answer."""
    draft = f"<think>maybe <answer>{GOOD}</answer></think>"
    assert rr.parse(draft + "<answer></answer>").answer is None
    answer = rr.parse(draft + "<answer>[]</answer>").answer
    assert answer is not None
    assert len(answer) == 0


def test_numbers_up_to_a_million_are_coordinates() -> None:
    """The limit itself is inside."""
    text = '[{"bbox_2d": [0, 0, 1e6, -1e6], "point_2d": [1000000, 0]}]'
    assert rr.parse(wrap(text)).failure is None
    failure = rr.parse(wrap(text.replace("1000000", "1000001"))).failure
    assert failure is not None
    assert failure.code == "bad_number"


def test_innermost_look_counts() -> None:
    """A look that is opened twice is the inner one."""
    assert rr.parse(wrap("[]", think="<look>a<look>b</look></look><look>c")).looks == ("b",)


def test_position_points_at_the_fault() -> None:
    """The position of a JSON error is where the text departs from JSON."""
    text = wrap('[{"bbox_2d": oops}]')
    failure = rr.parse(text).failure
    assert failure is not None
    assert text[failure.position :].startswith("oops")


def test_keyword_counts_inside_the_reasoning_only() -> None:
    """A look in the answer is no look, and another keyword is another tag."""
    assert rr.parse("<think>a</think><answer><look>x</look></answer>").looks == ()
    text = wrap("[]", think="<wait>x</wait>")
    assert rr.parse(text).looks == ()
    assert rr.parse(text, keyword="wait").looks == ("x",)


@given(st.lists(st.sampled_from([*TAGS, GOOD, " ", "\n", "a. b! ", "[", "{", '"', "\\", "NaN"])))
def test_no_sequence_of_parts_raises(parts: list[str]) -> None:
    """Whatever a policy writes, `parse` returns."""
    text = "".join(parts)
    response = rr.parse(text)
    assert response.text == text
    if response.failure is None:
        assert response.answer is not None
        assert response.think is not None


@given(st.text())
def test_no_text_raises(text: str) -> None:
    """Nor does text without any tags, in the answer or around it."""
    rr.parse(text)
    rr.parse(wrap(text))


coordinate = st.one_of(st.integers(-1000, 1000), st.floats(-1e6, 1e6))
objects = st.lists(
    st.fixed_dictionaries(
        {
            "bbox_2d": st.lists(coordinate, min_size=4, max_size=4),
            "point_2d": st.lists(coordinate, min_size=2, max_size=2),
        }
    ),
    max_size=8,
)


@given(objects)
def test_round_trip(items: list[dict[str, list[float]]]) -> None:
    """What JSON holds is what is read, to the last bit."""
    answer = rr.parse(wrap(items)).answer
    assert answer is not None
    assert answer.boxes.tolist() == [[float(v) for v in item["bbox_2d"]] for item in items]
    assert answer.points.tolist() == [[[float(v) for v in item["point_2d"]]] for item in items]


@pytest.mark.parametrize(
    "hostile",
    [
        "<think>" * 150_000,
        "<answer>" + " " * 1_000_000,
        "<think>" + "<look>" * 150_000 + "</look>" * 10 + "</think><answer>[]</answer>",
        "<think>" + "<look>" * 100_000 + "</look>" * 100_000 + "</think><answer>[]</answer>",
        "<think>a</think>" + " " * 1_000_000,
        wrap("[" + "{" * 500_000),
        wrap("[" + "[]," * 300_000 + "[]]"),
        wrap("[" + "1" * 1_000_000 + "]"),
        wrap("[]", think="." * 1_000_000),
        wrap("[]", think=" " * 1_000_000 + "x"),
        wrap("[]", think="a. " * 300_000),
    ],
)
def test_a_megabyte_of_hostile_text_is_scored(hostile: str) -> None:
    """Text that makes the usual patterns run for days is scored like any other."""
    assert len(rr.Scorer("dr_seg").score([hostile], ["[]"])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": b"x"}, "text: expected a string, got bytes"),
        ({"schema": "y"}, "schema: unknown 'y': expected one of grounding_list"),
        ({"schema": "grounding-list"}, "schema: .* did you mean 'grounding_list'?"),
        ({"schema": ["boxes"]}, "schema: unknown"),
        ({"keyword": "Look"}, "keyword: .* got 'Look': did you mean 'look'?"),
        ({"keyword": "<any>"}, "keyword: .* did you mean 'any'?"),
        ({"keyword": "think"}, "keyword: expected a tag of its own, got 'think'"),
        ({"keyword": 3}, "keyword: expected a tag"),
        ({"tolerate": ("fences",)}, "tolerate: unknown 'fences': did you mean 'fence'?"),
        ({"tolerate": "fence"}, "tolerate: expected a sequence of names, got 'fence'"),
        ({"tolerate": 3}, "tolerate: expected a sequence"),
    ],
)
def test_wrong_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is the caller's error, unlike a wrong completion."""
    with pytest.raises(InputError, match=message):
        parse(**{"text": "x", **arguments})


scalar = st.one_of(
    st.integers(-5, 5), st.floats(-9, 9), st.just(10**400), st.just(2e6), st.booleans(), st.none(),
    st.text(max_size=2), st.just([1]),
)  # fmt: skip
entry_like = st.one_of(
    scalar,
    st.dictionaries(
        st.sampled_from(["bbox_2d", "point_2d", "label"]),
        st.one_of(
            st.lists(scalar, min_size=2, max_size=4),
            st.lists(st.integers(0, 9), min_size=4, max_size=4),
            scalar,
        ),
    ),
    st.builds(
        lambda box, point: {"bbox_2d": box, "point_2d": point},
        st.lists(st.integers(0, 9), min_size=4, max_size=4),
        st.lists(st.floats(0, 9), min_size=2, max_size=2),
    ),
)


@given(st.lists(entry_like, max_size=5))
def test_the_short_way_reads_what_the_careful_one_reads(data: list[Any]) -> None:
    """Answers without a fault are read at once; the careful way agrees on every answer."""
    body = json.dumps(data)
    for name in ("grounding_list", "labelled_boxes", "points"):
        schema = SCHEMAS[name]
        quick = answers._quick(body, schema, 120)
        careful = answers._careful(body, 0, schema, 120, ())
        if quick is None:
            assert isinstance(careful, rr.Failure), "a faultless answer went the careful way"
        else:
            assert isinstance(careful, rr.Objects)
            assert quick.boxes.tolist() == careful.boxes.tolist()
            assert quick.points.tolist() == careful.points.tolist()
            assert quick.labels == careful.labels


def test_a_key_named_twice_is_found_beside_any_colons() -> None:
    """In an entry, in a nested one, and with colons in texts that make up for the lost key."""
    good = '{"bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2]'
    for body in (f'[{good}, "point_2d": [3, 4]}}]', f'[{good}, "a": {{"b": 1, "b": 2}}}}]'):
        failure = rr.parse(wrap_text(body)).failure
        assert failure is not None
        assert failure.code == "duplicate_key"
    for body in (f'[{good}, "a": ":::"}}]', f'[{good}, "a": {{"b": 1, "c": 2}}}}]'):
        assert rr.parse(wrap_text(body)).failure is None


def test_millions_of_brackets_are_not_built() -> None:
    """An answer of brackets alone has too many objects, said before they are read."""
    for tolerate in ((), ("too_many_objects",)):
        failure = parse(wrap_text("[" + "[]," * 300_000 + "[]]"), tolerate=tolerate).failure
        assert failure is not None
        assert (failure.code, failure.message) == (
            "too_many_objects", "expected at most 120 objects, got a hundred signs for each",
        )  # fmt: skip


LABEL = "\u0131: {"
BOX, P, Q = [1.0, 2.0, 30.0, 40.0], [5.0, 6.0], [7.0, 8.0]
KEYS = {"bbox": BOX, "points_1": P, "points_2": Q}
TAGGED = "<bbox>[0,0,9,9]</bbox>\n<bbox>[2,2,4,4]</bbox><points>[[3,3],[8,8],[50,50],[3.5,2]]</points><labels>[1,0,1,0]</labels>"
CAPTION = "<caption> the left cup </caption>"
# A well-formed completion of each schema, without its think block, and what it says.
WELL_FORMED: dict[SchemaName, tuple[str, list[Any], list[Any]]] = {
    "grounding_list": (f"<answer>{json.dumps([{'bbox_2d': BOX, 'point_2d': P}])}</answer>", [BOX], [[P]]),
    "keypoint_list": (
        f"<answer>{json.dumps([{'bbox_2d': BOX, 'point_1': P, 'point_2': Q}])}</answer>", [BOX], [[P, Q]],
    ),
    "grounding_object": (f"<answer>\n{json.dumps(KEYS)} </answer>", [BOX], [[P, Q]]),
    "captioned_object": (f"<answer>{json.dumps(KEYS)}</answer>\n{CAPTION}", [BOX], [[P, Q]]),
    "boxes": (f"<answer>{json.dumps([{'bbox_2d': BOX}, {'bbox_2d': BOX}])}</answer>", [BOX, BOX], [[], []]),
    "labelled_boxes": (f"<answer>{json.dumps([{'bbox_2d': BOX, 'label': LABEL}])}</answer>", [BOX], [[]]),
    "points": (f"<answer>{json.dumps([{'point_2d': P}, {'point_2d': Q}])}</answer>", [P + P, Q + Q], [[P], [Q]]),
    "prompt_tags": (TAGGED, [[0, 0, 9, 9], [2, 2, 4, 4]], [[[8, 8], [-1, -1]], [[3, 3], [3.5, 2]]]),
    "text": ("<answer> a red cup\n</answer>", [], []),
}  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("think", [True, False])
def test_well_formed_completion_of_each_schema(schema: SchemaName, think: bool) -> None:
    """Every schema reads its boxes, its points in their number, and its texts, with or without think."""
    body, boxes, points = WELL_FORMED[schema]
    text = f"<think>a <look>b</look></think> \n{body}" if think else body
    response = parse(text, schema, think=think)
    assert response.failure is None
    assert response.answered
    assert (response.think, response.looks) == (
        ("a <look>b</look>", ("b",)) if think else (None, ())
    )
    assert response.caption == ("the left cup" if schema == "captioned_object" else None)
    if schema == "text":
        assert (response.said, response.answer) == ("a red cup", None)
        return
    assert response.answer is not None
    assert response.answer.boxes.tolist() == boxes
    assert np.isnan(response.answer.points).sum() == (2 if schema == "prompt_tags" else 0)
    assert np.nan_to_num(response.answer.points, nan=-1).tolist() == points
    assert response.answer.points.shape[::2] == (len(boxes), 2)
    assert response.answer.labels == ((LABEL,) if schema == "labelled_boxes" else None)
    if schema == "prompt_tags":
        assert response.said is None
        assert response.answer.signs is not None
        assert response.answer.signs.tolist() == [[0, -1], [1, 0]]
        assert str(response.answer.signs.dtype) == "int8"
    else:
        assert response.said == body.partition("</answer>")[0].removeprefix("<answer>").strip()
        assert response.answer.signs is None


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_think_block_is_asked_for_or_is_stray(schema: SchemaName) -> None:
    """Without the one that is asked for a tag is missing; the one that is not is stray text."""
    body = WELL_FORMED[schema][0]
    bare, thought = parse(body, schema), parse(f"<think>a</think>{body}", schema, think=False)
    assert bare.format_failure is not None
    assert thought.format_failure is not None
    assert (bare.format_failure.code, bare.format_failure.position) == ("missing_tag", 0)
    assert (thought.format_failure.code, thought.format_failure.position) == ("stray_text", 0)
    assert bare.answered
    assert thought.answered
    assert thought.think is None


@pytest.mark.parametrize("schema", [name for name in SCHEMAS if SCHEMAS[name].form == "list"])
def test_an_empty_list_keeps_its_shape(schema: SchemaName) -> None:
    """Nothing found is no objects, with as many points each as any."""
    answer = parse("<think>a</think><answer>[]</answer>", schema).answer
    assert answer is not None
    assert answer.boxes.shape == (0, 4)
    assert answer.points.shape == (0, len(SCHEMAS[schema].points), 2)


T = "<think>a</think>"
A = "<answer>"
GOOD_ENTRY = '{"bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2]}'


@pytest.mark.parametrize(
    ("schema", "text", "code", "marked", "answered"),
    [
        # The fault stands at the sign @, which is taken out.
        ("grounding_list", f"{T}{A}[{GOOD_ENTRY}, @[1]]</answer>", "bad_entry", False, False),
        ("grounding_list", f"{T}{A}[{GOOD_ENTRY}, @{{}}]</answer>", "bad_entry", False, False),
        ("grounding_list", f'{T}{A} [ @{{"bbox_2d": [1, 2, 3, NaN]}}]</answer>', "bad_number", False, False),
        ("grounding_list", f'{T}{A}[{GOOD_ENTRY}, @{{"a": 1, "a": 1}}]</answer>', "duplicate_key", False, False),
        ("grounding_list", f"{T}{A}[{GOOD_ENTRY}, @{'9' * 5000}]</answer>", "bad_number", False, False),
        ("grounding_list", f'{T}{A}[{{"a": 1, "a": 2}}, @{{"a": NaN}}]</answer>', "bad_number", False, False),
        ("grounding_list", f'{T}{A}[@{{"a": NaN}}, {{"a": oops}}]</answer>', "bad_number", False, False),
        ("grounding_object", f'{T}{A}@{{"a": 1, "a": NaN}}</answer>', "bad_number", False, False),
        ("grounding_object", f'{T}{A}@{{"a": 1, "a": 2}}</answer>', "duplicate_key", False, False),
        ("grounding_list", f"{T}{A}@{'[' * 3000}</answer>", "bad_json", False, False),
        ("keypoint_list", f"{T}{A}[@{GOOD_ENTRY}]</answer>", "bad_entry", False, False),
        ("grounding_object", f"{T}{A}@[]</answer>", "not_an_object", False, False),
        ("grounding_object", f"{T}{A}@[{json.dumps(KEYS)}]</answer>", "not_an_object", False, False),
        ("grounding_object", f'{T}{A} @{{"bbox": [1, 2, 3, 4]}}</answer>', "bad_entry", False, False),
        ("grounding_object", f"{T}{A}{json.dumps(KEYS)[:-1]}@</answer>", "bad_json", False, False),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer>@", "missing_tag", True, True),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer><caption>@ </caption>", "empty_caption", True, True),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer>@<caption>a", "unclosed_tag", True, True),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer>@ so {CAPTION}", "stray_text", True, True),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer>{CAPTION}@.", "stray_text", True, True),
        ("captioned_object", f"{T}{A}{json.dumps(KEYS)}</answer>{CAPTION}@{CAPTION}", "repeated_tag", True, True),
        ("captioned_object", f"{T}{CAPTION}{A}{json.dumps(KEYS)}</answer>@", "missing_tag", True, True),
        ("boxes", f'{T}{A}[@{{"bbox_2d": [1, 2, 3]}}]</answer>', "bad_entry", False, False),
        ("labelled_boxes", f'{T}{A}[@{{"bbox_2d": [1, 2, 3, 4]}}]</answer>', "bad_entry", False, False),
        ("labelled_boxes", f'{T}{A}[@{{"bbox_2d": [1, 2, 3, 4], "label": 3}}]</answer>', "bad_entry", False, False),
        ("points", f'{T}{A}[@{{"point_2d": [1, 1e999]}}]</answer>', "bad_number", False, False),
        ("points", f'{T}{A}@{{"point_2d": [1, 2]}}</answer>', "not_a_list", False, False),
        ("text", f"{T}{A}@ \n</answer>", "empty_answer", False, False),
        ("text", f"{T}@{A}a", "unclosed_tag", True, False),
        ("text", f"{T}{A}a</answer>@{A}b</answer>", "repeated_tag", True, False),
        ("text", f"{T}{A}a@{A}b</answer>", "nested_tag", True, False),
        ("prompt_tags", f"{T}@<points>[]</points><labels>[]</labels>", "missing_tag", True, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>[]</points>@", "missing_tag", True, False),
        ("prompt_tags", f"{T}@<bbox>[0,0,1,1]<points>[]</points><labels>[]</labels>", "unclosed_tag", True, False),
        ("prompt_tags", f"{T}<bbox>@<bbox>[0,0,1,1]</bbox><points>[]</points><labels>[]</labels>", "nested_tag", True, False),
        ("prompt_tags", f"{T}{TAGGED}@<points>[]</points>", "repeated_tag", True, False),
        ("prompt_tags", f"{T}<points>[]</points><bbox>[0,0,1,1]</bbox>@<labels>[]</labels>", "missing_tag", True, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox>@ and <points>[]</points><labels>[]</labels>", "stray_text", True, True),
        ("prompt_tags", f"<think>@<bbox></think>{TAGGED}", "nested_tag", True, True),
        ("prompt_tags", f"{T}<bbox>@[0,0,1]</bbox><points>[]</points><labels>[]</labels>", "bad_entry", False, False),
        ("prompt_tags", f"{T}<bbox>@[0,0,1,NaN]</bbox><points>[]</points><labels>[]</labels>", "bad_number", False, False),
        ("prompt_tags", f"{T}<bbox>[0,@x]</bbox><points>[]</points><labels>[]</labels>", "bad_json", False, False),
        ("prompt_tags", f"{T}<bbox>@{'[' * 3000}</bbox><points>[]</points><labels>[]</labels>", "bad_json", False, False),
        ("prompt_tags", f"{T}<bbox>@[{'[],' * 300}[]]</bbox><points>[]</points><labels>[]</labels>", "too_many_objects", False, False),
        ("prompt_tags", f"{T}<bbox>@[0,0,1,1]</bbox>{'<bbox>[0,0,1,1]</bbox>' * 120}<points>[]</points><labels>[]</labels>", "too_many_objects", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>@[{'[1,1],' * 1200}[1,1]]</points><labels>[{'1,' * 1200}1]</labels>", "too_many_objects", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>@3</points><labels>[]</labels>", "not_a_list", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>[[1,1]]</points><labels>@[]</labels>", "bad_entry", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>[[1,1], @[1]]</points><labels>[1,1]</labels>", "bad_entry", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>[[1,1]]</points><labels>[@2]</labels>", "bad_number", False, False),
        ("prompt_tags", f"{T}<bbox>[0,0,1,1]</bbox><points>[[1,1]]</points><labels>[@true]</labels>", "bad_number", False, False),
    ],
)  # fmt: skip
def test_fault_of_each_schema(
    schema: SchemaName, text: str, code: str, marked: bool, answered: bool
) -> None:
    """Every fault has its code and place, in the format or in the answer."""
    place = text.find("@")
    text = text.replace("@", "")
    response = parse(text, schema)
    failure = response.format_failure if marked else response.answer_failure
    assert failure is not None
    assert failure.code == code
    assert "\n" not in failure.message
    assert failure.position == place
    assert response.answered == answered


def test_any_tag_is_a_look() -> None:
    """With "any" each innermost pair of tags counts, but not those of the blocks."""
    think = (
        "<zoom>a</zoom> <b><look> b </look></b> <i>c <br> d</i> <B>no</B> <x1>no</x1> <u> </u>"
        "<answer>draft</answer> <open>no </close>" + f"<{'a' * 33}>no</{'a' * 33}>"
    )
    text = f"<think>{think}</think><answer>[]</answer>"
    assert parse(text, keyword="any").looks == ("a", "b", "c <br> d")
    assert parse(text, keyword=None).looks == ()
    assert parse(text, keyword="zoom").looks == ("a",)


@given(st.lists(st.sampled_from(["<a>", "</a>", "<b>", "</b>", "x", " ", "<", "</"]), max_size=30))
def test_any_tag_agrees_with_the_one_tag_there_is(parts: list[str]) -> None:
    """In a text with one kind of tag, "any" finds what its name finds."""
    think = "".join(parts).replace("b>", "a>")
    text = f"<think>{think}</think><answer>[]</answer>"
    named, either = parse(text, keyword="a").looks, parse(text, keyword="any").looks
    assert named == either


@pytest.mark.parametrize("schema", SCHEMAS)
def test_parse_for_reads_as_the_recipe_has_it(schema: SchemaName) -> None:
    """The settings of a recipe are the arguments of `parse`."""
    settings = Settings(
        schema=schema,
        frame=None if schema == "text" else Frame(width=10, height=10),
        think=False,
        max_objects=1,
        tolerate=("stray_text", "too_many_objects"),
    )
    text = WELL_FORMED[schema][0] + "<|im_end|>"
    response = parse_for(text, settings)
    assert response.failure is None
    assert response.answered
    assert response.answer is None or len(response.answer) == 1
    tolerate = settings.tolerate
    named = parse(text, schema, think=False, keyword=None, max_objects=1, tolerate=tolerate)
    assert repr(response) == repr(named)


def test_points_go_to_the_smallest_box_around_them() -> None:
    """Edges belong to a box, the first of equals wins, and a box inside out holds nothing."""
    text = (
        "<bbox>[0,0,10,10]</bbox><bbox>[0,0,10,10]</bbox><bbox>[4,4,2,2]</bbox><bbox>[5,5,6,6]</bbox>"
        "<points>[[6,6],[10,0],[3,3],[11,0]]</points><labels>[1,1,0,1]</labels>"
    )
    answer = parse(text, "prompt_tags", think=False).answer
    assert answer is not None
    assert answer.signs is not None
    assert answer.signs.tolist() == [[1, 0], [-1, -1], [-1, -1], [1, -1]]
    assert answer.points[0].tolist() == [[10, 0], [3, 3]]
    assert answer.points[3, 0].tolist() == [6, 6]


def test_no_point_at_all_leaves_the_boxes() -> None:
    """Boxes without points are readable, with no points each."""
    text = "<bbox>[0,0,1,1]</bbox><points>[]</points><labels>[]</labels>"
    answer = parse(text, "prompt_tags", think=False).answer
    assert answer is not None
    assert answer.points.shape == (1, 0, 2)


def test_blocks_beyond_count_are_not_kept() -> None:
    """Ten thousand boxes are too many to be told apart, whatever is tolerated."""
    text = "<bbox></bbox>" * 20_000
    failure = parse(text, "prompt_tags", think=False, tolerate=("too_many_objects",)).failure
    assert failure is not None
    assert failure.code == "repeated_tag"
    assert failure.position == 10_000 * len("<bbox></bbox>")


class Counted(str):
    """A text that counts how many characters its searches may look at."""

    __slots__ = ("looked",)

    def find(self, part: str, start: int = 0, stop: int | None = None) -> int:
        """As `str.find`, counted up to where it stops."""
        end = len(self) if stop is None else stop
        place = super().find(part, start, end)
        self.looked = getattr(self, "looked", 0) + (end if place < 0 else place) - start
        return place


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "<@>", "</@>", "<@></@>", "<@>[1]</@>", "<@", " "]
)
@pytest.mark.parametrize("before", ["", "<think>a</think>", "<think>a</think><@>", "<think>"])
def test_tags_are_found_in_linear_time(schema: SchemaName, unit: str, before: str) -> None:
    """However tags follow each other, a text is gone through some dozen times at most."""
    for tag in SCHEMAS[schema].blocks:
        text = Counted((before + unit * 3000).replace("@", tag))
        tags.find_blocks(text, SCHEMAS[schema].blocks)
        tags.find_blocks(text, SCHEMAS[schema].blocks, think=False, unclosed=True)
        assert text.looked <= 40 * len(text)


def test_entries_are_decoded_once_to_be_found() -> None:
    """The careful way looks at no more entries than it keeps, however many there are."""
    text = "[" + "1, " * 30_000 + "1]"
    assert decode._starts(text, 5) == [1, 4, 7, 10, 13]
    assert decode._starts("{}", 5) == []


def wrap_text(body: str) -> str:
    return f"<think>a</think><answer>{body}</answer>"
