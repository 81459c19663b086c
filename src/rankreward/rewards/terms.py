"""Terms that judge one completion by itself: format, keyword, repetition.

Goes in: a `Response` and a term's settings. Comes out: a value in [0, 1], before its weight.
"""

from __future__ import annotations

from rankreward.metrics.text import repeated_sentences
from rankreward.parsing import Response
from rankreward.parsing.prompts import PLACEHOLDERS
from rankreward.recipe import AnswerJson, Keyword, NonRepeat, Term, ThinkAnswer


def term_value(term: Term, response: Response) -> float:
    """What one term pays one response, in [0, 1]."""
    match term:
        case ThinkAnswer():
            return float(response.format_failure is None)
        case AnswerJson():
            return float(response.answer is not None)
        case Keyword():
            return float(bool(response.looks))
        case NonRepeat():
            return _non_repeat(response, term.max_repeats)


def _non_repeat(response: Response, max_repeats: int) -> float:
    """The reasoning is judged where there is any; coordinates of the answer are no sentences."""
    text = response.text if response.think is None else response.think
    copied = any(placeholder in text for placeholder in PLACEHOLDERS)
    return float(not copied and repeated_sentences(text) <= max_repeats)
