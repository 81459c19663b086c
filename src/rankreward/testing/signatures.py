"""Signatures: how trainers call a reward function, and what they read of its answer.

Goes in: completions and references. Comes out: the arguments of a trainer's call, and of what the
function returned the rewards, or `WrongReturn` where the trainer could not use it.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, get_args

from rankreward.errors import InputError
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer
from rankreward.testing.awaiting import Loop
from rankreward.testing.layouts import Layout
from rankreward.testing.snippets import laid_out, nothing
from rankreward.testing.stand_ins import score_arguments, warmed

SignatureName = Literal["ours", "trl", "verl", "easyr1"]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
WIDE = 80  # characters of a line of code
_PROMPT = [{"role": "user", "content": "Find it."}]


class WrongReturn(Exception):  # noqa: N818 - data of a check, never raised to users
    """What a reward returned is not what its trainer reads."""


@dataclass(frozen=True)
class Caller:
    """Calls a reward function as a trainer does.

    Attributes:
        function: the function; for a scorer its method `score`.
        signature: whose convention.
        layout: what completions and references look like.
        reference: the dataset's column of the references, for TRL.
        columns: further columns: to a value for all rows, or a function of the completion.
        arguments: further arguments, passed as they are.
        scorer: how a snippet makes the scorer, if there is one.
        loop: where an async function runs.
    """

    function: Callable[..., Any]
    signature: SignatureName
    layout: Layout
    reference: str = "solution"
    columns: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    scorer: str = ""
    loop: Loop = field(default_factory=Loop)

    def calls(self, texts: Sequence[str], references: Sequence[Any]) -> list[Arguments]:
        """The arguments of the calls that score a batch: one call, or for verl one a completion."""
        columns = {
            name: [value(text) if callable(value) else value for text in texts]
            for name, value in self.columns.items()
        }
        if self.scorer:
            given = score_arguments(self.layout, texts)
            if columns:
                given["columns"] = given.get("columns", {}) | columns
            return [((list(texts), list(references)), {"record": False, **given, **self.arguments})]
        make = {"ours": _ours, "trl": _trl, "verl": _verl, "easyr1": _easyr1}[self.signature]
        made = make(texts, references, columns, self.reference)
        return [(args, kwargs | dict(self.arguments)) for args, kwargs in made]

    def pay(self, calls: Sequence[Arguments], count: int) -> list[float | None]:
        """Make the calls and read the rewards; for TRL None is one, "not applicable".

        Raises:
            WrongReturn: what came is no sequence of as many numbers.
            Exception: what the function raises.
        """
        returned = [self._call(*each) for each in calls]
        if self.scorer:
            return [float(value) for value in returned[0].total]
        if self.signature == "verl":
            return _read_verl(returned)
        rows = _rows(returned[0], count)
        if self.signature == "easyr1":
            rows = [_entry(row, "overall", index) for index, row in enumerate(rows)]
        masks = self.signature == "trl"
        return [
            None if row is None and masks else _number(row, f"reward {index}")
            for index, row in enumerate(rows)
        ]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = self.function(*args, **kwargs)
        return self.loop.value_of(value) if inspect.isawaitable(value) else value

    def code(self, texts: Sequence[str], references: Sequence[Any]) -> str:
        """The lines that make these calls and print what is paid."""
        called = []
        for args, kwargs in self.calls(texts, references):
            shown = [laid_out(value) for value in args]
            shown += [f"{name}={laid_out(value)}" for name, value in kwargs.items()]
            inside = ", ".join(shown)
            if len(inside) > WIDE:
                inside = "".join(f"\n    {each}," for each in shown) + "\n"
            called.append(f"print({self._called(inside)})")
        return "\n".join(called)

    def imports(self, code: str) -> str:
        """The lines that come before them."""
        needed = {"asyncio.": "import asyncio", "types.": "import types"}
        needed["np."] = "import numpy as np"
        lines = [line for name, line in needed.items() if name in code]
        values = sorted(set(re.findall(r"\byour_\w+", code)))
        lines += [f"{name} = ...  # a value of yours that has no code" for name in values]
        return "\n".join([*lines, self.scorer or self._found])

    def _called(self, inside: str) -> str:
        if self.scorer:
            return f"scorer.score({inside}).total"
        call = f"{self._importable or 'fn'}({inside})"
        function: Any = self.function
        either = (function, getattr(function, "__call__", None))  # noqa: B004 - its method
        return f"asyncio.run({call})" if any(map(inspect.iscoroutinefunction, either)) else call

    @property
    def _found(self) -> str:
        """The line that imports the function, or leaves a place for it."""
        if self._importable:
            return f"from {self.function.__module__} import {self._importable}"
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"fn = ...  # your reward, {name}"

    @property
    def _importable(self) -> str:
        """By which name its module has the function; empty where it has not."""
        module = getattr(self.function, "__module__", None) or "__main__"
        name = str(getattr(self.function, "__name__", ""))
        found = getattr(sys.modules.get(module), name, None)
        here = module != "__main__" and name.isidentifier()
        return name if here and found is self.function else ""


def make_caller(
    reward: Any,
    signature: SignatureName,
    layout: Layout,
    reference: str,
    columns: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Caller:
    """Who calls the reward under test.

    Args:
        reward: a function, a `Scorer`, or a recipe: its name, a `Recipe`.
        signature: for a function: whose convention.
        layout: what completions and references look like.
        reference: the dataset's column of the references, for TRL.
        columns: see `Caller`.
        arguments: see `Caller`.

    Raises:
        InputError: the signature is unknown, or the reward can be none of these.
    """
    if signature not in get_args(SignatureName):
        known = ", ".join(get_args(SignatureName))
        raise InputError(f"signature: expected {known}, got {signature!r}")
    scorer = ""
    if isinstance(reward, Scorer):
        scorer, reward = "scorer = ...  # your Scorer", reward.score
    elif isinstance(reward, str | Recipe):
        name = repr(reward) if isinstance(reward, str) else f"Recipe.load({reward.to_dict()!r})"
        needed = "from rankreward.testing import warmed"
        needed += "\nfrom rankreward import Recipe" * isinstance(reward, Recipe)
        scorer, reward = f"{needed}\nscorer = warmed({name})", warmed(reward).score
    if not callable(reward):
        raise InputError(f"reward: expected a function, a Scorer or a recipe, got {reward!r:.60}")
    return Caller(reward, signature, layout, reference, columns, arguments, scorer)


def _ours(
    texts: Sequence[str], references: Sequence[Any], columns: dict[str, list[Any]], _: str
) -> list[Arguments]:
    return [((list(texts), list(references)), dict(columns))]


def _trl(
    texts: Sequence[str], references: Sequence[Any], columns: dict[str, list[Any]], name: str
) -> list[Arguments]:
    """Keywords: chat messages, every column of the dataset, and the trainer's own."""
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    own = {
        "prompts": [_PROMPT] * len(texts),
        "completions": messages,
        "completion_ids": [list(range(len(text) // 4 + 1)) for text in texts],
        "trainer_state": SimpleNamespace(global_step=1, max_steps=100, epoch=0.0),
        "log_extra": nothing,
        "log_metric": nothing,
    }
    return [((), own | {name: list(references)} | columns)]


def _verl(
    texts: Sequence[str], references: Sequence[Any], columns: dict[str, list[Any]], _: str
) -> list[Arguments]:
    """Keywords, one completion a call."""
    return [
        (
            (),
            {
                "data_source": "rankreward",
                "solution_str": text,
                "ground_truth": reference,
                "extra_info": {
                    "index": index,
                    "split": "train",
                    **{name: values[index] for name, values in columns.items()},
                },
            },
        )
        for index, (text, reference) in enumerate(zip(texts, references, strict=True))
    ]


def _easyr1(
    texts: Sequence[str], references: Sequence[Any], columns: dict[str, list[Any]], _: str
) -> list[Arguments]:
    """One list of mappings, in which EasyR1 passes no other column."""
    if columns:
        raise InputError("columns: EasyR1 passes none; put them into the reference")
    inputs = [
        {"response": text, "response_length": len(text) // 4 + 1, "ground_truth": reference}
        for text, reference in zip(texts, references, strict=True)
    ]
    return [((inputs,), {})]


def _rows(returned: Any, count: int) -> list[Any]:
    if isinstance(returned, str | bytes | Mapping) or not isinstance(returned, Iterable):
        raise WrongReturn(f"expected a sequence of {count} rewards, got {returned!r:.80}")
    rows = list(returned)
    if len(rows) != count:
        raise WrongReturn(f"expected {count} rewards, one a completion, got {len(rows)}")
    return rows


def _entry(row: Any, key: str, index: int) -> Any:
    if not isinstance(row, Mapping) or key not in row:
        raise WrongReturn(f"reward {index}: expected a mapping with {key!r}, got {row!r:.80}")
    return row[key]


def _read_verl(returned: Sequence[Any]) -> list[float | None]:
    """Numbers, or mappings with a score; verl gathers the other keys, which must not vary."""
    keys = [tuple(each) if isinstance(each, Mapping) else None for each in returned]
    for index, each in enumerate(keys):
        if each is not None and keys[0] is not None and set(each) != set(keys[0]):
            raise WrongReturn(
                f"reward {index}: expected the keys {', '.join(map(str, keys[0]))} of reward 0, "
                f"got {', '.join(map(str, each))}"
            )
        if (each is None) != (keys[0] is None):
            raise WrongReturn(f"reward {index}: expected a mapping for all rows, or for none")
    rows = [
        row if keys[0] is None else _entry(row, "score", index)
        for index, row in enumerate(returned)
    ]
    return [_number(row, f"reward {index}") for index, row in enumerate(rows)]


def _number(value: Any, name: str) -> float:
    """A number as a float; NaN and infinity too, which are a matter of the invariants."""
    if value is None or isinstance(value, str | bytes):
        raise WrongReturn(f"{name}: expected a number, got {value!r:.60}")
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError) as error:
        raise WrongReturn(f"{name}: expected a number, got {value!r:.60}") from error
