"""What the columns of a log mean.

Goes in: a record, as a file holds it. Comes out: a `LogRow`, or what is wrong with it.

| format | written by | completion | reference | group | step | prompt |
|---|---|---|---|---|---|---|
| plain | you; our EasyR1 adapter | ``completion`` | ``reference`` | ``group`` | ``step`` | ``prompt`` |
| TRL | its completions table | ``completion`` | ``reference`` | ``group`` | ``step`` | ``prompt`` |
| verl | its rollout dumps | ``output`` | ``gts`` | ``uid`` | ``step`` | ``input`` |
| EasyR1, as plain | its ``generations.log`` | ``[output]`` | ``[ground_truth]`` | | | ``[prompt]`` |
"""  # noqa: E501 - a table's rows

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rankreward.logs.rows import BadRow, LogRow

# verl keys a batch by sample, rollout and output; a group is a sample's rollouts.
_VERL_KEY = re.compile(r"(.+)_\d+_\d+", re.DOTALL)


@dataclass(frozen=True)
class Names:
    """What the columns with a log's parts are called; None where the user has not said."""

    completion: str | None = None
    reference: str | None = None
    group: str | None = None
    step: str | None = None


@dataclass(frozen=True)
class Format:
    """A format as found in a file.

    Attributes:
        name: whose it is.
        completion: the column with the policy's text.
        reference: likewise.
        group: likewise; None if there is none.
        step: likewise.
        prompt: likewise.
    """

    name: str
    completion: str
    reference: str | None
    group: str | None
    step: str | None
    prompt: str | None

    def __str__(self) -> str:
        parts = {each: getattr(self, each) for each in ("reference", "group", "step")}
        found = [f"{each} in {column!r}" for each, column in parts.items() if column is not None]
        lacking = [f"no {each}" for each, column in parts.items() if column is None]
        return f"{self.name}: completion in {self.completion!r}, {', '.join(found + lacking)}"


_PLAIN = Format("plain", "completion", "reference", "group", "step", "prompt")
TRL = replace(_PLAIN, name="TRL's completions table")
_VERL = Format("verl's dump", "output", "gts", "uid", "step", "input")


def detect(columns: Iterable[str], names: Names) -> Format | None:
    """The format of a file.

    Args:
        columns: those of one of its records.
        names: what the user says of them, which comes first.

    Returns:
        The format, with the parts that are there; None where no completion is, or not what the
        user named.
    """
    have = set(columns)
    if _absent(have, names):
        return None
    form = _VERL if {"output", "input"} <= have and "completion" not in have else _PLAIN
    if {"completion", "prompt", "advantage"} <= have:
        form = TRL
    completion = names.completion or form.completion
    if completion not in have:
        return None
    parts: dict[str, Any] = {
        part: getattr(names, part) or (column if column in have else None)
        for part in ("reference", "group", "step")
        for column in [getattr(form, part)]
    }
    prompt = form.prompt if form.prompt in have else None
    return replace(form, completion=completion, prompt=prompt, **parts)


def unknown(columns: Iterable[str], names: Names) -> str:
    """Why a record has no format."""
    have = list(columns)
    got = ", ".join(map(repr, have)) or "none"
    absent = _absent(have, names)
    if absent:
        asked = ", ".join(f"{name!r}, as --{part} says" for part, name in absent.items())
        return f"expected a column {asked}, got {got:.200}"
    return (
        "expected a column 'completion' (of verl 'input' and 'output'), got "
        f"{got:.200}; name yours with --completion"
    )


def read_row(place: str, record: dict[str, Any], form: Format) -> LogRow | BadRow:
    """A record as a rollout.

    Args:
        place: where it stands.
        record: its columns; those with a meaning are taken out of it.
        form: what they mean.

    Returns:
        The rollout, its prompt as the column ``prompt``; or what was expected and what came.
    """
    completion = record.pop(form.completion, None)
    text = completion if isinstance(completion, str) else _message(completion)
    if text is None:
        return BadRow(
            place,
            f"expected a text or one chat message as {form.completion!r}, got {_shown(completion)}",
        )
    step = None
    if form.step is not None:
        given = record.pop(form.step, None)
        step = _whole(given)
        if step is None:
            return BadRow(
                place, f"expected a whole number from 0 as {form.step!r}, got {_shown(given)}"
            )
    group = None
    if form.group is not None:
        group = record.pop(form.group, None)
        if group is None or (isinstance(group, float) and math.isnan(group)):
            return BadRow(place, f"expected a group as {form.group!r}, got {_shown(group)}")
        group = str(group)
        if form.name == _VERL.name and (match := _VERL_KEY.fullmatch(group)):
            group = match[1]
    reference = None if form.reference is None else record.pop(form.reference, None)
    if form.prompt is not None and form.prompt != "prompt":
        record["prompt"] = record.pop(form.prompt, None)
    return LogRow(place, step, group, text, reference, record)


def _absent(have: Container[str], names: Names) -> dict[str, str]:
    """What the user named and is not there, by part."""
    return {part: name for part, name in vars(names).items() if name and name not in have}


def _message(completion: Any) -> str | None:
    """The text of a chat message, alone in a list; None for anything else."""
    message = completion[0] if isinstance(completion, list) and len(completion) == 1 else None
    content = message.get("content") if isinstance(message, Mapping) else None
    if message is None or not isinstance(content, str):
        return None
    # TRL keeps a think block apart with the chat templates of some models.
    reasoning = message.get("reasoning_content")
    return f"<think>{reasoning}</think>{content}" if reasoning else content


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def _shown(value: Any) -> str:
    return "none" if value is None else f"{type(value).__name__} {value!r:.40}"
