"""Prompts: the text that asks for the format a recipe pays.

Goes in: a `Recipe` and what to look for. Comes out: the text of the user's turn, which stands
after the image. The same recipe builds the prompt and scores the answer, so that the two cannot
drift apart. The format is the Look-to-Confirm format of Dr. Seg (arXiv 2603.00152).
"""

from __future__ import annotations

from rankreward.errors import InputError
from rankreward.recipe import Recipe

# The example in the prompt is filled with these words; a policy that copies them has not
# answered, and the term `non_repeat` says so.
PLACEHOLDERS = ("YOUR REASONING", "WHAT YOU CHECK")


def prompt(recipe: str | Recipe, query: str) -> str:
    """Ask for the objects that `query` describes, in the format that `recipe` pays.

    Args:
        recipe: the recipe that will score the answer, or the name or path of one.
        query: what to find, such as ``"all red cups"``; its surrounding white space and its
            final full stop are dropped.

    Returns:
        The text of the user's turn; the image goes before it.

    Raises:
        InputError: the query is empty.

    Example:
        >>> print(prompt(Recipe.load("dr_seg"), "all red cups").splitlines()[0])
        Locate all red cups in this image of 840 x 840 pixels.
    """
    query = query.strip().removesuffix(".") if isinstance(query, str) else ""
    if not query:
        raise InputError("query: expected a text that describes what to find, got none")
    recipe = Recipe.load(recipe)
    response, (reasoning, region) = recipe.response, PLACEHOLDERS
    frame, tag = response.frame, response.keyword
    return (
        f"Locate {query} in this image of {frame.width} x {frame.height} pixels.\n"
        "First weigh the candidates against each other between <think> and </think>; "
        f"there, name what you check between <{tag}> and </{tag}>, at least once.\n"
        "Then give a JSON list between <answer> and </answer>: for every match its box, bbox_2d, "
        "and one point inside it, point_2d, in pixels. If nothing matches, give [].\n"
        f"<think>{reasoning} <{tag}>{region}</{tag}></think>\n"
        '<answer>[{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]</answer>'
    )
