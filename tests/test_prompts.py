"""The prompt asks for what the recipe pays, in every schema."""

from __future__ import annotations

import pytest

import rankreward as rr
from rankreward.kinds import SchemaName
from rankreward.parsing import SCHEMAS, parse_for
from rankreward.parsing.prompts import PLACEHOLDERS, prompt
from rankreward.recipe import Frame, Recipe, Response

# A policy of the demo was trained on these very words.
DR_SEG = """\
Locate all red cups in this image of 84 x 84 pixels.
First weigh the candidates against each other between <think> and </think>; there, name what you \
check between <look> and </look>, at least once.
Then give a JSON list between <answer> and </answer>: for every match its box, bbox_2d, and one \
point inside it, point_2d, in pixels. If nothing matches, give [].
<think>YOUR REASONING <look>WHAT YOU CHECK</look></think>
<answer>[{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]</answer>"""


def with_response(
    schema: SchemaName,
    *,
    think: bool = True,
    keyword: str | None = None,
    frame: Frame | None = None,
) -> Recipe:
    """A recipe that differs from Dr. Seg's in what it asks for."""
    if frame is None and schema != "text":
        frame = Frame(width=420, height=300)
    response = Response(schema=schema, think=think, keyword=keyword, frame=frame)
    return Recipe.load("dr_seg").model_copy(update={"response": response})


def test_the_words_of_dr_seg_stay() -> None:
    """Not a character of the prompt that the demo's policy knows has changed."""
    assert prompt(Recipe.load("dr_seg").resized(84), " all red cups. ") == DR_SEG


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("think", [True, False])
def test_prompt_names_what_the_schema_holds(schema: SchemaName, think: bool) -> None:
    """Its blocks, its keys, its frame, and the empty list where there is one."""
    text = prompt(with_response(schema, think=think), "a cup")
    layout = SCHEMAS[schema]
    for tag in layout.blocks:
        count = 3 if tag == "bbox" else 2  # the example has two of these
        assert text.count(f"<{tag}>") == text.count(f"</{tag}>") == count
    assert ("<think>" in text) == think
    assert "<look>" not in text
    for key in (*layout.keys, layout.label):
        assert key is None or key in text.partition("<answer>[")[0]
    assert ("give []" in text) == (layout.form == "list")
    assert ("420 x 300 pixels" in text) == (schema != "text")
    assert "None" not in text


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("think", [True, False])
def test_the_example_is_no_answer(schema: SchemaName, think: bool) -> None:
    """Its blocks are right, its answer says nothing, and whoever copies it is found out."""
    recipe = with_response(schema, think=think, keyword="look" if think else None)
    lines = prompt(recipe, "a cup").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("<"))
    example = "\n".join(lines[first:])
    response = parse_for(example, recipe.response)
    assert response.format_failure is None
    assert not response.looks or response.looks == ("WHAT YOU CHECK",)
    assert response.answer is None
    copied = any(placeholder in example for placeholder in PLACEHOLDERS)
    assert copied or not response.answered


def test_example_pays_the_format_alone() -> None:
    """In Dr. Seg's reward the copied example has its blocks, and nothing else."""
    recipe = Recipe.load("dr_seg").resized(420)
    example = "\n".join(prompt(recipe, "a cup").splitlines()[-2:])
    batch = rr.Scorer(recipe).score([example], ["[]"])
    assert batch.terms["think_format"].tolist() == [1.0]
    assert batch.terms["answer_format"].tolist() == [0.0]
    assert batch.terms["non_repeat"].tolist() == [0.0]


def test_prompt_follows_the_keyword() -> None:
    """Another keyword is another tag; where any counts, one is named all the same."""
    assert "<wait>" in prompt(with_response("boxes", keyword="wait"), "a cup")
    assert "<look>" not in prompt(with_response("boxes", keyword="wait"), "a cup")
    assert "<look>" in prompt(with_response("boxes", keyword="any"), "a cup")
    assert "<any>" not in prompt(with_response("boxes", keyword="any"), "a cup")


def test_prompt_follows_the_frame() -> None:
    """A grid has no pixels; one that is not square has two spans."""
    grid = Frame(width=1000, height=1000, unit="grid")
    text = prompt(with_response("points", frame=grid), "a cup")
    assert "coordinates from 0 to 1000 each way" in text
    assert "pixels" not in text
    grid = Frame(width=1000, height=500, unit="grid")
    text = prompt(with_response("prompt_tags", frame=grid), "a cup")
    assert "from 0 to 1000 across and from 0 to 500 down" in text


def test_a_question_is_asked_as_it_stands() -> None:
    """Where the answer is a text the query is no phrase to be put into another sentence."""
    text = prompt(with_response("text"), " Describe the second half. ")
    assert text.splitlines()[0] == "Describe the second half."
    assert "Locate" not in text


@pytest.mark.parametrize("query", [" . ", "", 3])
def test_empty_query_is_refused(query: object) -> None:
    """A prompt without a query would ask for nothing."""
    with pytest.raises(rr.InputError, match="query: expected"):
        prompt("dr_seg", query)  # type: ignore[arg-type]
