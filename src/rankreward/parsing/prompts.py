"""Prompts: the text that asks for the format a recipe pays.

Goes in: a `Recipe` and what to look for. Comes out: the text of the user's turn, which stands
after the image. The same recipe builds the prompt and scores the answer, so that the two cannot
drift apart. The words are ours; the formats are those of the papers in `SCHEMAS`.
"""

from __future__ import annotations

from rankreward.errors import InputError
from rankreward.parsing.schemas import SCHEMAS, Schema
from rankreward.recipe import Frame, Recipe, Response

# The example in the prompt is filled with these words; a policy that copies them has not
# answered, and the term `non_repeat` says so.
PLACEHOLDERS = ("YOUR REASONING", "WHAT YOU CHECK", "YOUR ANSWER", "YOUR CAPTION", "WHAT IT IS")
_REASONING, _REGION, _SAID, _CAPTION, _LABEL = PLACEHOLDERS
_CAPTIONED = (
    "Last give a short caption between <caption> and </caption> that tells the match from "
    "everything else in the image."
)
_AFTER_BOXES = (
    (
        "After the boxes give all points between <points> and </points>: some on each match, and "
        "some beside it, inside its box, where something else could be taken for it."
    ),
    (
        "Last give, between <labels> and </labels>, 1 for each point that is on a match and 0 for "
        "each that is not, in the order of the points."
    ),
)
_COUNTS = ("", "one point", "two points")


def prompt(recipe: str | Recipe, query: str) -> str:
    """Ask for the objects that `query` describes, in the format that `recipe` pays.

    Args:
        recipe: the recipe that will score the answer, or the name or path of one.
        query: what to find, such as ``"all red cups"``; its surrounding white space and its
            final full stop are dropped. Where the recipe pays a text, the question itself.

    Returns:
        The text of the user's turn; the image goes before it.

    Raises:
        InputError: the query is empty.

    Example:
        >>> print(prompt(Recipe.load("dr_seg"), "all red cups").splitlines()[0])
        Locate all red cups in this image of 840 x 840 pixels.
    """
    recipe = Recipe.load(recipe)
    response = recipe.response
    schema = SCHEMAS[response.schema_]
    query = query.strip() if isinstance(query, str) else ""
    if response.frame is not None:
        query = query.removesuffix(".")
    if not query:
        raise InputError("query: expected a text that describes what to find, got none")
    lines = [_task(query, response.frame), *_think(response, schema)]
    lines += [*_answer(response, schema), *_example(response, schema)]
    return "\n".join(lines)


def revision_prompt(recipe: str | Recipe, query: str, initial: str) -> str:
    """Ask to revise an earlier answer: to keep it if it is right, and else to give a better one.

    Args:
        recipe: as for `prompt`.
        query: as for `prompt`.
        initial: the earlier completion, its reasoning, boxes and points as they stand.

    Returns:
        The text of the user's turn; the image goes before it. The answer has the same format as
        to `prompt`.

    Raises:
        InputError: the query or the earlier completion is empty.

    Example:
        >>> text = revision_prompt("group_revision", "all red cups", "<answer>[]</answer>")
        >>> text.splitlines()[0]
        'An earlier answer to the task below was:'

    Source:
        Group Revision, arXiv 2605.15951; the words are ours.
    """
    if not isinstance(initial, str) or not initial.strip():
        raise InputError("initial: expected the completion to revise, got none")
    return (
        f"An earlier answer to the task below was:\n{initial.strip()}\n"
        "Check it against the image. If it is right, give it again; if it is not, put it aside and "
        f"give a better one.\n{prompt(recipe, query)}"
    )


def _task(query: str, frame: Frame | None) -> str:
    if frame is None:
        return query
    if frame.unit == "pixels":
        return f"Locate {query} in this image of {frame.width} x {frame.height} pixels."
    if frame.width == frame.height:
        return f"Locate {query} in this image, with coordinates from 0 to {frame.width} each way."
    return (
        f"Locate {query} in this image, with coordinates from 0 to {frame.width} across "
        f"and from 0 to {frame.height} down."
    )


def _think(response: Response, schema: Schema) -> list[str]:
    """The line that asks for the think block."""
    if not response.think:
        return []
    what = "reason" if schema.form == "text" else "weigh the candidates against each other"
    line = f"First {what} between <think> and </think>"
    tag = _tag(response)
    if tag is not None:
        line += f"; there, name what you check between <{tag}> and </{tag}>, at least once"
    return [f"{line}."]


def _answer(response: Response, schema: Schema) -> list[str]:
    """The lines that ask for the other blocks."""
    give = "Then give" if response.think else "Give"
    if schema.form == "text":
        return [f"{give} your answer, and nothing else, between <answer> and </answer>."]
    pixels = response.frame is not None and response.frame.unit == "pixels"
    unit = "in pixels" if pixels else "in these coordinates"
    if schema.form == "tags":
        boxes = f"{give} the box of every match, each between its own <bbox> and </bbox>, {unit}."
        return [boxes, *_AFTER_BOXES]
    entry = _parts(schema, unit)
    if schema.form == "list":
        line = f"{give} a JSON list between <answer> and </answer>: for every match {entry}."
        return [f"{line} If nothing matches, give []."]
    line = f"{give} a JSON object between <answer> and </answer>: for the one match {entry}."
    return [line, _CAPTIONED] if "caption" in schema.blocks else [line]


def _parts(schema: Schema, unit: str) -> str:
    """What an entry holds, in words, with its keys."""
    parts = [] if schema.box is None else [f"its box, {schema.box}"]
    if schema.points:
        where = "on it" if schema.box is None else "inside it"
        parts.append(f"{_COUNTS[len(schema.points)]} {where}, {' and '.join(schema.points)}")
    parts[-1] += f", {unit}"
    if schema.label is not None:
        parts.append(f"what it is, {schema.label}")
    return ", and ".join(parts)


def _example(response: Response, schema: Schema) -> list[str]:
    """The blocks in order, filled with placeholders."""
    lines = []
    if response.think:
        tag = _tag(response)
        look = "" if tag is None else f" <{tag}>{_REGION}</{tag}>"
        lines.append(f"<think>{_REASONING}{look}</think>")
    if schema.form == "tags":
        return [
            *lines,
            "<bbox>[x1, y1, x2, y2]</bbox><bbox>[x3, y3, x4, y4]</bbox>",
            "<points>[[x, y], [x, y]]</points>",
            "<labels>[1, 0]</labels>",
        ]
    if schema.form == "text":
        return [*lines, f"<answer>{_SAID}</answer>"]
    entry = _entry(schema)
    lines.append(f"<answer>{entry if schema.form == 'object' else f'[{entry}]'}</answer>")
    if "caption" in schema.blocks:
        lines.append(f"<caption>{_CAPTION}</caption>")
    return lines


def _entry(schema: Schema) -> str:
    parts = [] if schema.box is None else [f'"{schema.box}": [x1, y1, x2, y2]']
    names = ["x, y"] if len(schema.points) < 2 else ["x3, y3", "x4, y4"]
    parts += [f'"{key}": [{name}]' for key, name in zip(schema.points, names, strict=False)]
    if schema.label is not None:
        parts.append(f'"{schema.label}": "{_LABEL}"')
    return "{" + ", ".join(parts) + "}"


def _tag(response: Response) -> str | None:
    """The tag that is asked for; where any tag counts, this one."""
    return "look" if response.keyword == "any" else response.keyword
