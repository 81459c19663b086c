"""A replay: which rollouts are compared, when windows move, what is kept, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from builders import entry, wrap

import rankreward as rr
from rankreward.errors import ConfigError, InputError
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.replay.contestants import Contestant, read_contestants
from rankreward.replay.replaying import Replay, replay

TWO = ("dr_seg", "vision_reasoner")


def rows_of(step: int, groups: int = 4, size: int = 4, seed: int = 0) -> list[LogRow]:
    """Rollouts of a policy that is right by chance, and now and then writes rubbish."""
    rng, rows = np.random.default_rng([seed, step]), []
    for group in range(groups):
        x, y, side = (int(rng.integers(50, high)) for high in (400, 400, 300))
        reference = json.dumps([entry([x, y, x + side, y + side], [x + side / 2, y + side / 2])])
        for place in range(size):
            off = rng.choice([0, 3, 12, 40, 90], 4).tolist()
            box = [x + off[0], y + off[1], x + side + off[0] + 1, y + side + off[1] + 1]
            text = wrap([entry(box, [x + side / 2 + off[2], y + side / 2 + off[3]])])
            text = text if rng.random() > 0.1 else "I see nothing."
            where = f"log:{step}:{group}:{place}"
            rows.append(LogRow(where, step, f"q{group}", text, reference, {"tokens": len(text)}))
    return rows


def log(steps: int, **how: Any) -> Iterator[Chunk]:
    for step in range(1, steps + 1):
        yield Chunk(step, rows_of(step, **how), [], ends=True)


def test_each_recipe_is_paid_as_its_own_scorer_pays() -> None:
    """Mean rewards by step are those of a scorer of that recipe, flushed at each step's end."""
    run = Replay(read_contestants(TWO))
    for chunk in log(5):
        run.add(chunk)
    found = list(run.by_step())
    for name in TWO:
        scorer = rr.Scorer(name)
        for step in range(1, 6):
            rows = rows_of(step)
            batch = scorer.score([r.completion for r in rows], [r.reference for r in rows])
            scorer.flush(step)
            assert found[step - 1]["step"] == step
            assert found[step - 1]["recipes"][name]["reward"] == pytest.approx(batch.total.mean())


def test_a_step_in_parts_is_one_step() -> None:
    """The window moves at the step's end alone, and group measures are those of the whole."""
    whole = replay(log(4), read_contestants(TWO))
    run = Replay(read_contestants(TWO))
    for chunk in log(4):
        run.add(Chunk(chunk.step, chunk.rows[:8], [], ends=False))
        run.add(Chunk(chunk.step, chunk.rows[8:], [], ends=True))
    parts = run.done()
    assert (parts.steps, parts.rows, parts.groups) == (4, 64, 16)
    for name, labels in (("cosine", TWO), ("discordant", TWO), ("reward", TWO[:1])):
        one, other = whole.get(name, *labels), parts.get(name, *labels)
        assert one.value == pytest.approx(other.value)
        assert one.thirds == pytest.approx(other.thirds)


def test_a_reference_that_one_cannot_read_is_bad_for_all() -> None:
    """All recipes are compared on the same rollouts; what was left out is counted and named."""
    chunks = list(log(3))
    bad = [LogRow("log:x", 1, "q0", "text", "no reference"), BadRow("log:y", "no JSON")]
    chunks[0].rows.append(bad[0])
    chunks[1].bad.append(bad[1])
    found, clean = replay(chunks, read_contestants(TWO)), replay(log(3), read_contestants(TWO))
    assert found.bad == 2
    assert [each.place for each in found.bad_shown] == ["log:x", "log:y"]
    assert "dr_seg" in found.bad_shown[0].reason
    assert (found.rows, clean.bad) == (clean.rows, 0)
    values = [[each.value for each in run.measures] for run in (found, clean)]
    assert np.array_equal(*values, equal_nan=True)


def test_released_code_reads_texts_alone() -> None:
    """A reference that is data cannot be read by released code, and is left out for all."""
    chunks = list(log(2))
    first = chunks[0].rows[0]
    chunks[0].rows[0] = LogRow(
        first.place, 1, first.group, first.completion, json.loads(first.reference)
    )
    found = replay(chunks, read_contestants(["dr_seg", "vision_reasoner-released"]))
    assert (found.bad, found.rows) == (1, 31)


def test_many_bad_rows_are_counted_and_the_first_named() -> None:
    """What is kept of bad rows does not grow with them."""
    run = Replay(read_contestants(TWO))
    run.add(Chunk(1, rows_of(1), [BadRow(f"log:{k}", "no JSON") for k in range(500)], ends=True))
    found = run.done()
    assert (found.bad, len(found.bad_shown)) == (500, 20)


def test_a_log_of_bad_rows_is_an_error() -> None:
    """With nothing to compare there are no measures, and the error says why."""
    run = Replay(read_contestants(TWO))
    run.add(Chunk(1, [], [BadRow("log:1", "no JSON")], ends=False))
    with pytest.raises(InputError, match=r"got none, and 1 bad rows; the first: log:1: no JSON"):
        run.done()


def test_groups_are_needed() -> None:
    """Without groups there are no advantages; the error says what to type."""
    rows = rows_of(1)
    lonely = [LogRow(r.place, 1, str(k), r.completion, r.reference) for k, r in enumerate(rows)]
    none = [LogRow(r.place, 1, None, r.completion, r.reference) for r in rows]
    for given in (lonely, none):
        with pytest.raises(InputError, match=r"log:1:0:0: expected groups of two.*--group-size"):
            Replay(read_contestants(TWO)).add(Chunk(1, given, [], ends=True))


def test_groups_of_one_throughout_are_an_error() -> None:
    """A log of steps of one rollout each compares nothing, which is said and not all `-`."""
    with pytest.raises(InputError, match=r"log: expected groups of two.*--group-size"):
        replay(log(3, groups=1, size=1), read_contestants(TWO))


def test_a_recipe_that_needs_what_the_log_lacks_is_named_at_the_start() -> None:
    """The first rollout tells; a later one that lacks it is a bad row."""
    recipes = read_contestants(["dr_seg", "pixel_think"])
    with pytest.raises(InputError, match=r"'difficulty'.*pixel_think needs, got tokens"):
        Replay(recipes).add(Chunk(1, rows_of(1), [], ends=True))
    run = Replay(read_contestants(TWO))
    rows = rows_of(1)
    rows[5] = LogRow(rows[5].place, 1, None, rows[5].completion, rows[5].reference)
    run.add(Chunk(1, rows, [], ends=True))
    found = run.done()
    assert [(each.place, each.reason) for each in found.bad_shown] == [
        ("log:1:1:1", "expected a group, got none")
    ]


REASONED = [
    json.dumps({"bbox": [x, 10, x + 40, 50], "points_1": [x + 20, 30], "points_2": [x + 10, 20]})
    for x in range(10, 50, 10)
]


def reasoned(step: int, **columns: Any) -> list[LogRow]:
    """Two groups of four rollouts for recipes that pay by difficulty and tokens."""
    base = {"tokens": 5, "difficulty": 0.5, "uncertainty": 0.5, **columns}
    texts = [f"<think>a</think><answer>{REASONED[k]}</answer>" for k in (0, 1, 2, 3)]
    return [
        LogRow(f"log:{step}:{group}:{k}", step, group, text, REASONED[0], dict(base))
        for group in "ab"
        for k, text in enumerate(texts)
    ]


@pytest.mark.parametrize("wrong", [None, "many", math.nan])
def test_a_row_that_one_recipe_refuses_is_bad_for_all(wrong: object) -> None:
    """A null or a text among the tokens costs its own row, and windows know nothing of it."""
    recipes = ["pixel_think", "seg_zero+kind=ecdf+warm_start=0"]

    def chunks(*, refused: bool) -> Iterator[Chunk]:
        for step in (1, 2, 3):
            rows = reasoned(step)
            if step == 2:
                odd = LogRow(
                    "log:x", 2, "b", "junk", REASONED[0], reasoned(2, tokens=wrong)[0].columns
                )
                rows += [odd] * refused
            yield Chunk(step, rows, [], ends=True)

    for order in (recipes, recipes[::-1]):
        found = replay(chunks(refused=True), read_contestants(order))
        clean = replay(chunks(refused=False), read_contestants(order))
        assert [each.place for each in found.bad_shown] == ["log:x"]
        assert "pixel_think: tokens: expected" in found.bad_shown[0].reason
        assert (found.bad, found.rows, clean.rows) == (1, 24, 24)
        values = [[each.value for each in run.measures] for run in (found, clean)]
        assert np.array_equal(*values, equal_nan=True)


def test_a_null_that_a_recipe_takes_is_no_fault() -> None:
    """With no initial answer there is nothing to revise: the row is paid, as `score` pays it."""
    columns = [{"initial": None}, {"initial": "none"}] * 8
    rows = [
        LogRow(row.place, 1, row.group, row.completion, row.reference, own)
        for row, own in zip(rows_of(1), columns, strict=True)
    ]
    contestants = read_contestants(["group_revision", "group_revision+kind=none"])
    assert replay([Chunk(1, rows, [], ends=True)], contestants).bad == 0


def test_a_log_that_one_recipe_refuses_throughout_ends_early() -> None:
    """After a thousand rows with none that all can pay the replay says why, and reads no further."""
    seen: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for step in range(1, 200):
            seen.append(step)
            yield Chunk(step, reasoned(step, tokens="many"), [], ends=True)

    with pytest.raises(InputError, match=r"got none, and 1000 bad rows; the first: log:1:a:0: .*"):
        replay(chunks(), read_contestants(["pixel_think", "seg_zero"]))
    assert len(seen) == 125


def test_what_no_row_alone_explains_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts that are refused together and taken one by one end the replay, by recipe and place."""
    contestants = read_contestants(TWO)

    class Sociable:
        recipe = contestants[1].recipe
        quantiles = contestants[1].scorer.quantiles

        def score(self, completions: Sequence[str], *given: Any, **named: Any) -> Any:
            if len(completions) > 1:
                raise InputError("too many")
            return contestants[1].scorer.score(completions, *given, **named)

    odd: Any = Sociable()
    run = Replay([contestants[0], Contestant("odd", contestants[1].recipe, odd)])
    with pytest.raises(InputError, match=r"odd, log:1:0:0 and after: too many"):
        run.add(Chunk(1, rows_of(1), [], ends=True))


def test_images_are_asked_for() -> None:
    """A recipe that looks at images is refused where the log has none."""

    def similarity(images: Sequence[Any], texts: Sequence[str]) -> Any:
        return np.zeros(len(texts))

    recipe = rr.Recipe.load("dpad")
    looking = Contestant("dpad", recipe, rr.Scorer(recipe, similarity=similarity))
    with pytest.raises(InputError, match=r"expected an image, which dpad needs"):
        Replay([*read_contestants(TWO), looking]).add(Chunk(1, rows_of(1), [], ends=True))


def test_masks_need_a_segmenter() -> None:
    """A recipe of masks cannot be made without one; the error names the recipe as typed."""
    with pytest.raises(ConfigError, match=r"segmenter.*sam_r1"):
        read_contestants(["dr_seg", "sam_r1"])


def test_the_groups_kept_are_those_that_differ_most() -> None:
    """Few are kept, and they are the first of all when all are sorted."""
    few = replay(log(6), read_contestants(TWO), most=3).cases
    every = replay(log(6), read_contestants(TWO), most=1000).cases
    assert len(few) == 3 < len(every)
    assert few == every[:3]
    assert [each["distance"] for each in every] == sorted(
        (each["distance"] for each in every), reverse=True
    )


def test_a_case_tells_all_of_its_group() -> None:
    """Completions, rewards, advantages and terms of a case are those of its rollouts."""
    found = replay(log(6), read_contestants(TWO), most=1)
    (case,) = found.cases
    rows = [r for r in rows_of(case["step"]) if r.group == case["group"]]
    assert [each["completion"] for each in case["rollouts"]] == [r.completion for r in rows]
    assert case["reference"] == rows[0].reference
    for place in (0, 1):
        paid = [each["rewards"][place] for each in case["rollouts"]]
        there = [each["advantages"][place] for each in case["rollouts"]]
        assert there == pytest.approx(rr.shaping.grpo(paid, len(paid)).tolist())
        terms = [sum(each["terms"][place].values()) for each in case["rollouts"]]
        assert terms == pytest.approx(paid)
    first, second = (
        np.array([each["advantages"][place] for each in case["rollouts"]]) for place in (0, 1)
    )
    assert case["distance"] == pytest.approx(np.sqrt(((first - second) ** 2).mean()))
    assert sum(map(abs, case["because"].values())) == pytest.approx(1)


def test_the_same_recipe_twice_over_differs_nowhere() -> None:
    """A change that changes nothing gives correlations of 1 and no group to show."""
    found = replay(log(3), read_contestants(["dr_seg", "dr_seg+window=2048"]))
    pair = found.pairs[0]
    assert found.get("correlation", *pair).value == pytest.approx(1)
    assert found.get("one_sided", *pair).value == 0
    assert found.cases == []
