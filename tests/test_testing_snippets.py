"""The lines of a report can be pasted: run, they pay what the report says."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rankreward.testing import check_reward
from rankreward.testing.snippets import code_of, nothing


def constant(completions, references, weight=1.0, **columns):
    """What the columns of the first row add up to, whatever was said."""
    more = sum(float(np.nansum(values[0])) for values in columns.values())
    return [weight + more] * len(completions)


async def constant_async(completions, **kwargs):
    return [1.0] * len(completions)


class Pays:
    def __call__(self, completions, references):
        return [1.0] * len(completions)

    def method(self, completions, references):
        return [1.0] * len(completions)


class PaysLater:
    async def __call__(self, completions, **kwargs):
        return [1.0] * len(completions)


class Odd:
    """A value of a column that has no code."""

    def __float__(self):
        return 1.0


ODD = Odd()
unnamed = lambda completions, references: [1.0] * len(completions)  # noqa: E731 - it has no name
REWARDS = {
    "a function": (constant, {}),
    "an object": (Pays(), {}),
    "a method": (Pays().method, {}),
    "a partial": (functools.partial(constant, weight=2.0), {}),
    "a lambda": (unnamed, {}),
    "async": (constant_async, {"signature": "trl"}),
    "an async object": (PaysLater(), {"signature": "trl"}),
    "an async partial": (functools.partial(constant_async, more=1), {"signature": "trl"}),
    "NaN": (constant, {"columns": {"level": float("nan")}}),
    "an array": (constant, {"columns": {"mask": np.arange(4.0).reshape(2, 2)}}),
    "zeros": (constant, {"columns": {"mask": np.zeros((30, 30), np.uint8)}}),
    "a large array": (constant, {"columns": {"mask": np.ones((30, 30))}}),
    "a tuple": (constant, {"columns": {"size": (1, 2)}}),
    "a value without code": (constant, {"columns": {"odd": ODD}}),
}
OWN = {"your_array": np.ones((30, 30)), "your_Odd": ODD}


def filled(code, reward):
    """The lines with what the reader is to set, and what it is set to."""
    own = OWN | {"fn": reward}
    lines = code.split("\n")
    for index, line in enumerate(lines):
        name, equals, rest = line.partition(" = ")
        if equals and rest.startswith("...  # "):
            lines[index] = f"{name} = own[{name!r}]"
    return "\n".join(lines), {"own": own}


@pytest.mark.parametrize("kind", REWARDS)
def test_lines_that_reproduce_do(kind: str) -> None:
    """For each kind of function and of value; what cannot be written is left to the reader."""
    reward, options = REWARDS[kind]
    report = check_reward(
        reward, "boxes", invariants=["returns", "right_beats_wrong"], max_examples=5, **options
    )
    found = report["right_beats_wrong"].counterexample
    code, names = filled(found.code, reward)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)  # noqa: S102 - our own report
    assert printed.getvalue().split("\n")[:-1] == [str(list(call.paid)) for call in found.calls]


def test_what_can_be_imported_is_imported() -> None:
    """And what cannot is named in the line that leaves a place for it."""
    for reward, line in [
        (constant, f"from {constant.__module__} import constant"),
        (Pays().method, "fn = ...  # your reward, Pays.method"),
        (Pays(), "fn = ...  # your reward, Pays"),
    ]:
        report = check_reward(
            reward, "boxes", invariants=["returns", "right_beats_wrong"], max_examples=5
        )
        assert report["right_beats_wrong"].counterexample.code.split("\n")[0] == line
    assert constant.__module__ in sys.modules


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.5, True, None, b"a", "a", [], (), (1,), (1, "a"), [0, 1, 2, 3, 4], {"a": {1: 2}}),
        *(float("inf"), -float("inf"), np.float64(1.5), np.float32(0.1), np.int64(3)),
    ],
)
def test_code_makes_the_same_value_of_the_same_type(value) -> None:
    """Lists and tuples, numbers of Python and of NumPy, infinite ones too."""
    made = eval(code_of(value), {"np": np})  # noqa: S307 - our own
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 4)),
        np.array([[1, 2], [3, 4]], np.int16),
        np.array([True, False]),
        np.array([np.nan, 1.0], np.float32),
    ],
)
def test_code_makes_the_same_array(array) -> None:
    """Values, shape and type."""
    made = eval(code_of(array), {"np": np})  # noqa: S307 - our own
    assert made.dtype == array.dtype
    np.testing.assert_array_equal(made, array)
    assert made.shape == array.shape


def test_what_stands_in_for_a_trainer_has_code() -> None:
    """Its state, and what it logs with."""
    assert code_of(SimpleNamespace(step=1, rate=float("nan"))) == (
        'types.SimpleNamespace(step=1, rate=float("nan"))'
    )
    assert eval(code_of(nothing))("loss", 1.0) is None  # noqa: S307 - our own
