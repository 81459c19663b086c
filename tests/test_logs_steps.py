"""Rows become steps, groups and chunks, however large a step is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.logs.steps import chunks


def row(step: int | None, group: Any = None, n: int = 0, prompt: str = "q") -> LogRow:
    return LogRow(f"log:{n}", step, group, str(n), "[]", {"prompt": prompt})


def log(steps: list[list[int]]) -> list[LogRow]:
    """Rows of steps, each given by the sizes of its groups."""
    made: list[LogRow] = []
    for step, sizes in enumerate(steps):
        for group, size in enumerate(sizes):
            made += [row(step, str(group), len(made) + index) for index in range(size)]
    return made


LOGS = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=5)


@given(LOGS, st.integers(1, 12), st.booleans(), st.sets(st.integers(0, 60)))
def test_chunks_are_the_log(
    steps: list[list[int]], limit: int, grouped: bool, odd: set[int]
) -> None:
    """No row is lost or moved; a step ends once; a group is never split; chunks are bounded."""
    rows: list[Any] = log(steps)
    for place in sorted(odd, reverse=True):
        rows.insert(min(place, len(rows)), BadRow(f"bad:{place}", "why"))
    made = list(chunks(rows, grouped=grouped, limit=limit))
    good = [each for each in rows if isinstance(each, LogRow)]
    assert [each.place for chunk in made for each in chunk.rows] == [each.place for each in good]
    assert [each for chunk in made for each in chunk.bad] == [
        each for each in rows if isinstance(each, BadRow)
    ]
    assert [chunk.step for chunk in made if chunk.ends] == list(range(len(steps)))
    homes: dict[Any, int] = {}
    for index, chunk in enumerate(made):
        largest = max(
            (sum(r.group == each.group for r in chunk.rows) for each in chunk.rows), default=0
        )
        assert len(chunk.rows) <= limit - 1 + largest
        assert len(chunk.bad) <= limit
        for each in chunk.rows:
            assert each.step == chunk.step
            assert homes.setdefault((each.step, each.group), index) == index


def test_rows_of_one_prompt_and_reference_are_a_group_wherever_they_stand() -> None:
    """Where the log names no groups, as trainers reorder a batch; a new step has its own groups."""
    said: list[str] = []
    rows = [row(1, prompt=each) for each in "aabba"] + [row(2, prompt="b")]
    rows[3] = LogRow("log:3", 1, None, "c", "[1]", {"prompt": "b"})
    made = list(chunks(rows, say=said.append))
    assert [[each.group for each in chunk.rows] for chunk in made] == [
        ["0", "0", "1", "2", "0"],
        ["0"],
    ]
    assert said == []


def test_without_prompts_neighbours_of_one_reference_are_a_group() -> None:
    """A reference that comes back is another group, and it is said once that this may be wrong."""
    said: list[str] = []
    rows = [LogRow(f"log:{n}", n // 9, None, "c", each, {}) for n, each in enumerate("aabab" * 3)]
    made = [[each.group for each in c.rows] for c in chunks(rows, say=said.append)]
    assert made == [list("001234456"), list("011234")]
    assert len(said) == 1
    assert said[0].startswith("log:3: the log has neither groups nor prompts")
    assert "--group-size" in said[0]
    said.clear()
    list(chunks(rows, group_size=3, say=said.append))
    assert said == []


def test_guessed_groups_that_are_mixed_are_held_together_where_they_count() -> None:
    """As given ones are: no chunk ends before all of a shuffled step is there."""
    rows = [row(1, n=n, prompt="abc"[n % 3]) for n in range(12)]
    (chunk,) = chunks(rows, grouped=True, limit=4)
    assert [each.group for each in chunk.rows] == list("012") * 4


def test_group_size_overrides_and_counts_bad_rows() -> None:
    """A torn line leaves its group one smaller and the others as they are."""
    rows: list[Any] = [row(1, "g", n) for n in range(6)]
    rows[1] = BadRow("log:1", "torn")
    (chunk,) = chunks(rows, group_size=2)
    assert [each.group for each in chunk.rows] == ["0", "1", "1", "2", "2"]


def test_rows_per_step_counts_bad_rows() -> None:
    """Steps are counted from 1, and a torn line leaves its step one smaller."""
    rows: list[Any] = [row(None, "g", n) for n in range(5)]
    rows[0] = BadRow("log:0", "torn")
    made = list(chunks(rows, rows_per_step=2))
    assert [(c.step, len(c.rows), len(c.bad), c.ends) for c in made] == [
        (1, 1, 1, True), (2, 2, 0, True), (3, 1, 0, True),
    ]  # fmt: skip
    with pytest.raises(rr.InputError, match="log:0: expected a log without steps"):
        list(chunks([row(3)], rows_per_step=2))


def test_a_log_without_steps_is_one_where_nothing_depends_on_them() -> None:
    """Unranked recipes take it as step 1; ranked ones ask how many rows a step has."""
    rows = [row(None, "g", n) for n in range(5)]
    made = list(chunks(rows, ranked=False, limit=2))
    assert [(chunk.step, chunk.ends) for chunk in made] == [(1, True)]
    with pytest.raises(rr.InputError, match=r"log:0: expected a step.*--rows-per-step"):
        list(chunks(rows))


def test_a_step_that_falls_is_an_error_with_its_place() -> None:
    """Also where one file has steps and the next none."""
    with pytest.raises(
        rr.InputError, match=r"log:7: expected a step from 3 on, which log:6 has, got 2"
    ):
        list(chunks([row(3, n=6), row(2, n=7)]))
    with pytest.raises(rr.InputError, match="log:8: expected a step in every file or in none"):
        list(chunks([row(3, n=6), row(None, n=8)], ranked=False))


def test_mixed_groups_are_held_together_where_they_count() -> None:
    """A step whose groups alternate is one chunk; one where a group comes back too late, an error."""
    mixed = [row(1, "ab"[n % 2], n) for n in range(10)]
    assert [len(chunk.rows) for chunk in chunks(mixed, grouped=True, limit=4)] == [10]
    assert [len(chunk.rows) for chunk in chunks(mixed, limit=4)] == [4, 4, 2]
    late = [row(1, "a", 0), row(1, "b", 1), row(1, "c", 2), row(1, "a", 3)]
    with pytest.raises(rr.InputError, match=r"log:3: expected the rows of a group together.*'a'"):
        list(chunks(late, grouped=True, limit=2))


@pytest.mark.parametrize("where", ["completion", "reference", "columns", "nested"])
def test_long_rows_make_smaller_chunks(where: str) -> None:
    """A chunk is bounded in bytes, whichever part of a row has them."""
    text = "x" * (1 << 24)
    columns = {"columns": {"prompt": text}, "nested": {"prompt": [{"content": [{"t": text}]}]}}
    rows = [
        LogRow(
            str(n), 1, str(n), text if where == "completion" else "c",
            [{"mask": text}] if where == "reference" else "[]", columns.get(where, {}),
        )
        for n in range(5)
    ]  # fmt: skip
    assert [len(chunk.rows) for chunk in chunks(rows)] == [2, 2, 1]


def test_columns_that_nobody_needs_are_not_held() -> None:
    """Prompts tell groups apart, and are let go: they count for no chunk's size."""
    prompts = [letter * (1 << 24) for letter in "aab"]
    rows = [LogRow(str(n), 1, None, "c", "[]", {"prompt": p, "tokens": 3})
            for n, p in enumerate(prompts)]  # fmt: skip
    (chunk,) = chunks(rows, columns={"tokens"})
    assert [each.columns for each in chunk.rows] == [{"tokens": 3}] * 3
    assert [each.group for each in chunk.rows] == ["0", "0", "1"]


def test_large_images_make_smaller_chunks() -> None:
    """An image counts once for the neighbours that share it."""
    images = [np.broadcast_to(np.zeros(3, np.uint8), (1 << 13, 1 << 12, 3)) for _ in range(3)]
    rows = [LogRow(str(n), 1, str(n), "c", "[]", {}, images[n // 4]) for n in range(12)]
    assert [len(chunk.rows) for chunk in chunks(rows)] == [5, 4, 3]


def test_bad_rows_alone_end_no_step() -> None:
    """A log of nothing else gives them in bounded chunks, and no step."""
    made: list[Chunk] = list(chunks([BadRow(str(n), "why") for n in range(5)], limit=2))
    assert [(len(chunk.bad), chunk.ends) for chunk in made] == [(2, False), (2, False), (1, False)]
