"""The parser reads what is well formed, names what is not, and never raises or hangs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import G1, G2, wrap
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr
from rankreward.parsing import answers
from rankreward.parsing.prompts import PLACEHOLDERS

GOOD = json.dumps(G1)
TAGS = ("<think>", "</think>", "<look>", "</look>", "<answer>", "</answer>")


def test_well_formed_completion() -> None:
    """Every part of a good completion is read."""
    response = rr.parse(wrap(G2, think="a <look> red </look> b <look>blue</look><look> </look>"))
    assert response.failure is None
    assert response.looks == ("red", "blue")
    assert response.answer is not None
    assert response.answer.boxes.tolist() == [[100, 100, 300, 300], [500, 500, 700, 700]]
    assert response.answer.points.tolist() == [[200, 200], [600, 600]]


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
    assert answer.points.tolist() == [[float(v) for v in item["point_2d"]] for item in items]


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


def test_prompt_asks_for_what_the_recipe_pays() -> None:
    """The prompt names the frame, the keyword and the keys, and its example is no valid answer."""
    recipe = rr.Recipe.load("dr_seg").resized(420)
    text = rr.prompt(recipe, " all red cups. ")
    assert text.startswith("Locate all red cups in this image of 420 x 420 pixels.")
    for word in ("<think>", "<look>", "</look>", "<answer>", "bbox_2d", "point_2d", *PLACEHOLDERS):
        assert word in text
    example = "\n".join(text.splitlines()[-2:])
    batch = rr.Scorer(recipe).score([example], ["[]"])
    assert batch.terms["think_format"].tolist() == [1.0]
    assert batch.terms["answer_format"].tolist() == [0.0]
    assert batch.terms["non_repeat"].tolist() == [0.0]


def test_prompt_follows_the_keyword() -> None:
    """Another keyword in the recipe is another tag in the prompt."""
    recipe = rr.Recipe.load("dr_seg")
    response = recipe.response.model_copy(update={"keyword": "wait"})
    text = rr.prompt(recipe.model_copy(update={"response": response}), "a cup")
    assert "<wait>" in text
    assert "<look>" not in text


def test_empty_query_is_refused() -> None:
    """A prompt without a query would ask for nothing."""
    with pytest.raises(rr.InputError, match="query: expected"):
        rr.prompt(rr.Recipe.load("dr_seg"), " . ")


@pytest.mark.parametrize(
    ("args", "message"), [((b"x",), "text: expected"), (("x", "y"), "schema: ")]
)
def test_wrong_arguments_raise(args: tuple[object, ...], message: str) -> None:
    """A wrong argument is the caller's error, unlike a wrong completion."""
    with pytest.raises(rr.InputError, match=message):
        rr.parse(*args)  # type: ignore[arg-type]


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
    quick, careful = answers._plain_objects(data), answers._to_objects(data, 0)
    if quick is not None:
        assert isinstance(careful, answers.Objects)
        assert quick.boxes.tolist() == careful.boxes.tolist()
        assert quick.points.tolist() == careful.points.tolist()
    elif isinstance(careful, answers.Objects):
        pytest.fail("a faultless answer went the careful way")


def test_a_key_named_twice_is_found_beside_any_colons() -> None:
    """In an entry, in a nested one, and with colons in texts that make up for the lost key."""
    good = '{"bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2]'
    for body in (f'[{good}, "point_2d": [3, 4]}}]', f'[{good}, "a": {{"b": 1, "b": 2}}}}]'):
        failure = rr.parse(wrap_text(body)).failure
        assert failure is not None
        assert failure.code == "duplicate_key"
    for body in (f'[{good}, "a": ":::"}}]', f'[{good}, "a": {{"b": 1, "c": 2}}}}]'):
        assert rr.parse(wrap_text(body)).failure is None


def wrap_text(body: str) -> str:
    return f"<think>a</think><answer>{body}</answer>"


def test_millions_of_brackets_are_not_built() -> None:
    """An answer of brackets alone has too many objects, said before they are read."""
    failure = rr.parse(wrap_text("[" + "[]," * 300_000 + "[]]")).failure
    assert failure is not None
    assert (failure.code, failure.message) == (
        "too_many_objects", "expected at most 120 objects, got a hundred brackets for each",
    )  # fmt: skip
