"""From a completion's text to what it says.

Goes in: a text that a policy wrote, which may be anything. Comes out: a `Response`, with what was
read and what was wrong with the text. Nothing here raises for a bad text, and every step takes
time linear in its length.
"""

from rankreward.parsing.answers import Objects, parse_objects
from rankreward.parsing.failure import Failure
from rankreward.parsing.prompts import prompt, revision_prompt
from rankreward.parsing.response import Response, parse, parse_for
from rankreward.parsing.schemas import SCHEMAS, Schema

__all__ = [
    "SCHEMAS",
    "Failure",
    "Objects",
    "Response",
    "Schema",
    "parse",
    "parse_for",
    "parse_objects",
    "prompt",
    "revision_prompt",
]
