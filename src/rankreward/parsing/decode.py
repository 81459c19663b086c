"""JSON, with what a recipe tolerates.

Goes in: the body of a block. Comes out: where its entries start, each of which can then be read by
itself, or a `Failure`. Everything takes time linear in the length of the body.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from json import JSONDecodeError
from typing import Any, NamedTuple, NoReturn

from rankreward.kinds import Tolerance
from rankreward.parsing.failure import Failure, FailureCode
from rankreward.parsing.quotes import inside_fence, with_double_quotes

_SIGNS = 100  # closing brackets, colons and commas that an object may have on average
_MOST_SIGNS = 50_000  # and that any block may have, where more objects are tolerated
_DIGITS = 400  # more make no float, and Python refuses integers of several thousand
_FORMS = {"list": list, "object": dict}
_GAP = re.compile(r"[ \t\n\r]*+")
# What may be left of a token outside of quotes where a text was cut.
_REST = re.compile(r"\s*+[,:]?\s*+(?:-|\.|\.?[eE][+-]?|t|tr|tru|f|fa|fal|fals|n|nu|nul|)")


class RefusedError(Exception):
    """Carries a failure's code and message out of a decoder's hooks, or out of an entry."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code: FailureCode = code
        self.message = message


class Source(NamedTuple):
    """A text to decode.

    Attributes:
        text: the text.
        position: where it starts in the completion.
        exact: whether it has the completion's characters, each in its place.
    """

    text: str
    position: int
    exact: bool

    def place(self, index: int) -> int:
        """Where a character of the text stands in the completion, as far as can be told."""
        return self.position + index if self.exact else self.position


def has_too_many_signs(body: str, max_objects: int, tolerate: Collection[Tolerance] = ()) -> bool:
    """No block of so few objects has so many: do not build millions of lists to count them."""
    signs = body.count("]") + body.count("}") + body.count(":") + body.count(",")
    most = _SIGNS * (max_objects + 1)
    return signs > most and ("too_many_objects" not in tolerate or signs > max(most, _MOST_SIGNS))


def prepare(body: str, position: int, tolerate: Collection[Tolerance]) -> Source:
    """The text that is decoded in the place of a body: what is inside its fence, requoted."""
    start = 0
    if "fence" in tolerate:
        start, stop = inside_fence(body, unclosed="truncated" in tolerate)
        body = body[start:stop]
    # No answer has so many quotes: do not put them all in others to find that out.
    if "single_quotes" not in tolerate or body.count("'") > _MOST_SIGNS:
        return Source(body, position + start, exact=True)
    text = with_double_quotes(body)
    return Source(text, position + start, exact=len(text) == len(body))


def find_entries(
    source: Source, form: str, most: int, tolerate: Collection[Tolerance]
) -> list[int] | Failure:
    """Where the entries of a JSON list, or the one JSON object, start.

    Args:
        source: the text.
        form: ``"list"`` or ``"object"``.
        most: more entries are a failure, or left out where that is tolerated.
        tolerate: what is forgiven.

    Returns:
        The starts of at most `most` entries, or a failure.
    """
    try:
        data = decode(source, tolerate)
    except JSONDecodeError as error:
        if form == "list" and "truncated" in tolerate and _is_cut_list(error):
            starts = _starts(source.text, most + 1)
            # Without one complete entry it does not even say that there is nothing.
            if starts:
                return _at_most(starts, len(starts), most, source, tolerate)
        message = f"the answer is not JSON: {error.msg}"
        return Failure("bad_json", message, source.place(error.pos))
    except RefusedError as refused:
        # The decoder that refused it: numbers are looked at before keys that are named twice.
        decoder = LAST if refused.code == "bad_number" else DISTINCT
        start = _refused_start(source.text, decoder, most) if form == "list" else 0
        return Failure(refused.code, refused.message, source.place(start))
    if not isinstance(data, _FORMS[form]):
        code: FailureCode = "not_a_list" if form == "list" else "not_an_object"
        words = code.removeprefix("not_").replace("_", " ")
        return Failure(code, f"expected {words}, got {kind(data)}", source.position)
    if form == "object":
        return [_skip(source.text, 0)]
    starts = _starts(source.text, min(len(data), most))
    return _at_most(starts, len(data), most, source, tolerate)


def decode(source: Source, tolerate: Collection[Tolerance]) -> Any:
    """The JSON value of a text.

    Raises:
        JSONDecodeError: it is no JSON.
        RefusedError: it has a fault that its entries are not looked at for one by one.
        RecursionError: it is nested too deeply.
    """
    if "bad_entry" in tolerate:
        return LENIENT.decode(source.text)
    decoders = (LAST,) if "duplicate_key" in tolerate else (LAST, DISTINCT)
    try:
        for decoder in decoders:
            data = decoder.decode(source.text)
    except JSONDecodeError:
        raise
    except ValueError as error:
        raise RefusedError("bad_number", "an integer has too many digits") from error
    return data


def decode_entry(text: str, start: int, tolerate: Collection[Tolerance]) -> Any:
    """The JSON value of one entry.

    Raises:
        RefusedError: it names a key twice, or has a number that is none.
    """
    decoder = LAST if "duplicate_key" in tolerate else DISTINCT
    try:
        return decoder.raw_decode(text, start)[0]
    except ValueError as error:
        raise RefusedError("bad_number", "an integer has too many digits") from error


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {type(None): "null", bool: "a boolean", str: "a text", dict: "an object"}
    return names.get(type(value), "a list" if isinstance(value, list) else "a number")


def entry_start(source: Source, index: int) -> int:
    """Where entry `index` of a JSON list starts in the completion."""
    starts = _starts(source.text, index + 1)
    return source.place(starts[index] if index < len(starts) else 0)


def _starts(text: str, most: int) -> list[int]:
    """Where the first complete entries of a JSON list start; none of a text that is no list."""
    starts: list[int] = []
    place = _skip(text, 0)
    following = "["
    while len(starts) < most and text.startswith(following, place):
        start = _skip(text, place + 1)
        try:
            _, place = LENIENT.raw_decode(text, start)
        except JSONDecodeError:
            break
        starts.append(start)
        place, following = _skip(text, place), ","
    return starts


def _skip(text: str, place: int) -> int:
    """The place after the white space at a place."""
    gap = _GAP.match(text, place)
    return place if gap is None else gap.end()


def _at_most(
    starts: list[int], count: int, most: int, source: Source, tolerate: Collection[Tolerance]
) -> list[int] | Failure:
    if count > most and "too_many_objects" not in tolerate:
        message = f"expected at most {most} objects, got {count}"
        return Failure("too_many_objects", message, source.position)
    return starts[:most]


def _is_cut_list(error: JSONDecodeError) -> bool:
    """Whether a text departs from JSON because a list stops too early, and for no other reason."""
    if not error.doc.startswith("[", _skip(error.doc, 0)):
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\uXXXX"):
        return len(error.doc) - error.pos < len("\\u0000")
    return _REST.fullmatch(error.doc, error.pos) is not None


def _refused_start(text: str, decoder: json.JSONDecoder, most: int) -> int:
    """Where the first of the entries that a decoder refuses starts; 0 where it comes late."""
    for start in _starts(text, most):
        try:
            decoder.raw_decode(text, start)
        except (RefusedError, ValueError):
            return start
    return 0


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) != len(pairs):
        raise RefusedError("duplicate_key", "an object of the answer names a key twice")
    return entry


def _no_constant(name: str) -> NoReturn:
    raise RefusedError("bad_number", f"expected finite numbers, got {name}")


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _DIGITS else math.inf


# Made once: a decoder costs more to make than a short answer to read.
LAST = json.JSONDecoder(parse_constant=_no_constant)
DISTINCT = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)
# To find the ends of entries, whatever is wrong with them.
LENIENT = json.JSONDecoder(parse_constant=float, parse_int=_integer)
