"""What is wrong with a recipe, in one line.

Goes in: pydantic's errors and the data they are about. Comes out: one line that names the key,
what was expected, and the nearest valid name where one is near.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from rankreward.own import own_kinds

_EXPECTED = {
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
OWN_TAGS = ("own term", "own metric")  # the models of a user's own kinds


def explain(
    error: ValidationError, data: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> str:
    """One line for the first thing that is wrong.

    Args:
        error: what pydantic found.
        data: what it looked at.
        known: the keys of each section and of each kind of term, metric, normalizer or scale;
            ``""`` is the recipe itself.
    """
    # A misspelt key also shows as a missing one: name the misspelling, not its consequence.
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path, parent = _locate(first["loc"], data)
    name = ".".join(path) or "the recipe"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "missing":
        section, keys = _keys(path, parent, known)
        where = f"{'.'.join(path[:-1])} has" if section else "a recipe has"
        return f"key {name!r} is missing; {where} the keys {', '.join(keys)}{more}"
    if first["type"] == "extra_forbidden":
        section, keys = _keys(path, parent, known)
        return f"unknown key {name!r}: {nearest(path[-1], keys)}{more}"
    if first["type"] in {"union_tag_invalid", "literal_error"}:
        names = [each.strip("' ") for each in _expected(first).replace(" or ", ",").split(",")]
        kinds = [name for name in names if name not in OWN_TAGS]
        got = first["input"].get("kind") if isinstance(first["input"], Mapping) else first["input"]
        place = f"{name}.kind" if first["type"] == "union_tag_invalid" else name
        own = own_kinds() if {"terms", "metrics"} & set(path) else ()
        kinds += [name for name in own if name not in kinds]
        near = difflib.get_close_matches(str(got), kinds, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        if {"terms", "metrics"} & set(path):
            more = f"; one of your own has to be registered first, by an import{more}"
        return f"{place}: unknown {got!r}: {hint}expected one of {', '.join(kinds)}{more}"
    if first["type"] == "union_tag_not_found":
        got = first["input"]
        return f"{name}: expected a mapping with the key 'kind', got {got!r:.60}{more}"
    if first["type"] in _EXPECTED:
        return f"{name}: expected {_EXPECTED[first['type']]}, got {first['input']!r:.60}{more}"
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"{name}: {message[0].lower()}{message[1:]}{got}{more}"


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the name that was meant."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"


def _keys(
    path: Sequence[str], parent: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> tuple[str, Sequence[str]]:
    """The section that a key stands in, and the keys that may stand there."""
    section = path[-2] if len(path) > 1 else ""
    kind = parent.get("kind") if section else None
    group = f"{path[-3]}." if len(path) > 2 and path[-3] in {"terms", "metrics"} else ""
    # A kind of the user's is not among those known; besides its options it has what all have.
    others = ("kind", "weight" if group == "terms." else "share") if group else known[""]
    return section, known.get(f"{group}{kind}" if kind else section, others)


def _expected(error: Any) -> str:
    context = error["ctx"]
    return str(context.get("expected_tags", context.get("expected", "")))


def _locate(
    location: tuple[str | int, ...], data: Mapping[str, Any]
) -> tuple[list[str], Mapping[str, Any]]:
    """The keys that lead to an error, and the mapping that holds the last of them.

    Pydantic also names the kind of a term or metric on the way, which is no key of the recipe.
    """
    path: list[str] = []
    parent: Any = data
    value: Any = data
    for part in location:
        if isinstance(value, Mapping) and part not in value and _is_kind(part, value):
            continue
        path.append(str(part))
        parent, value = value, value.get(part) if isinstance(value, Mapping) else None
    return path, parent if isinstance(parent, Mapping) else {}


def _is_kind(part: str | int, value: Mapping[str, Any]) -> bool:
    return part == value.get("kind") or part in OWN_TAGS
