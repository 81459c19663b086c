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
from rankreward.replay.tables import detail_sheets, sheets, verdict

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
    assert sum(case["because"].values()) == pytest.approx(1)


def test_the_same_recipe_twice_over_differs_nowhere() -> None:
    """A change that changes nothing gives correlations of 1 and no group to show."""
    found = replay(log(3), read_contestants(["dr_seg", "dr_seg+window=2048"]))
    pair = found.pairs[0]
    assert found.get("correlation", *pair).value == pytest.approx(1)
    assert found.get("one_sided", *pair).value == 0
    assert found.cases == []


def test_tables_and_words_hold_the_measures() -> None:
    """A table has a line for each measure, and the paragraph says its numbers."""
    found = replay(log(6), read_contestants([*TWO, "dr_seg+kind=zscore"]))
    tables = sheets(found)
    assert len(tables["agreement"].rows) == 3 * 11
    lines = {(row[0], row[1], row[2]): row[3] for row in tables["agreement"].rows}
    assert lines[(*TWO, "spearman")] == found.get("spearman", *TWO).value
    shares = [row for row in tables["terms"].rows if row[0] == "dr_seg" and row[2] == "within"]
    assert sum(row[3] for row in shares) == pytest.approx(1)
    assert {sheet.title for sheet in detail_sheets(found)} >= {"dr_seg against vision_reasoner"}
    said = " ".join(verdict(found))
    assert "96 rollouts in 24 groups of 6 steps were paid by 3 recipes" in said
    dead = found.get("no_signal", "vision_reasoner").value
    assert f"{dead:.0%} from vision_reasoner" in said or f"{100 * dead:.1f}%" in said
    near = found.get("correlation", *TWO)
    assert f"correlate at {near.value:.2f} ({near.low:.2f} to {near.high:.2f})" in said


def test_words_where_a_recipe_gives_no_signal() -> None:
    """A recipe that pays all alike is said to, and nothing undefined becomes a number."""
    dead = "dr_seg+accuracy.weight=0+terms={flat: {kind: blocks, weight: 0}}"
    found = replay(log(3), read_contestants(["dr_seg", dead]))
    assert found.get("no_signal", found.labels[1]).value == 1
    assert math.isnan(found.get("spearman", *found.pairs[0]).value)
    said = " ".join(verdict(found))
    assert "100% from dr_seg+weight=0" in said
    assert "cannot be compared" in said
    assert "nan" not in said


@pytest.mark.parametrize(
    ("typed", "label", "expected"),
    [
        ("dr_seg+accuracy.normalizer.window=512", "dr_seg+window=512", {"window": 512}),
        ("dr_seg+window=64+warm_start=0", None, {"window": 64, "warm_start": 0}),
        ("dr_seg+normalizer.kind=zscore", None, {"kind": "zscore", "window": 2048}),
        ("dr_seg+window=256+kind=zscore", None, {"kind": "zscore", "window": 256}),
        ("dr_seg+kind=none", None, {"kind": "none"}),
        ("dr_seg+kind=group+eps=1e-2", None, {"kind": "group", "eps": 0.01}),
        ("vision_reasoner+normalizer=ecdf", None, {"kind": "ecdf", "warm_start": 128}),
        ("dr_seg+ties=mid", None, {"ties": "mid"}),
    ],
)
def test_a_changed_recipe(typed: str, label: str | None, expected: dict[str, Any]) -> None:
    """A change names a key by the end of its path; the label is what was typed, shortened."""
    made, _ = read_contestants([typed, "seg_zero"])
    assert made.label == (label or typed)
    normalizer = made.recipe.accuracy.normalizer
    assert {name: getattr(normalizer, name) for name in expected} == expected


def test_terms_and_metrics_are_changed_by_name() -> None:
    """A term's weight, a metric's limit and a term taken away."""
    made, _ = read_contestants(["dr_seg+look.weight=0.5+point.near=20.0+non_repeat=null", "dr_seg"])
    assert made.recipe.terms["look"].weight == 0.5
    assert made.recipe.accuracy.metrics["point"].near == 20
    assert "non_repeat" not in made.recipe.terms


def test_changes_are_in_the_pixels_of_the_log() -> None:
    """A frame resizes the recipe first; what is typed is not scaled again."""
    plain, changed = read_contestants(["dr_seg", "dr_seg+point.near=2.0"], frame=84)
    assert plain.recipe.accuracy.metrics["point"].near == 3
    assert changed.recipe.accuracy.metrics["point"].near == 2
    assert changed.recipe.response.frame.width == 84


def test_a_file_is_called_by_its_name(tmp_path: Any) -> None:
    """A file's label is its stem; two that share it are called as they were typed."""
    recipe = json.dumps(rr.Recipe.load("dr_seg").to_dict())
    for folder in ("one", "a+two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(recipe)
    one, two = str(tmp_path / "one" / "mine.yaml"), str(tmp_path / "a+two" / "mine.yaml")
    assert read_contestants([one, "dr_seg"])[0].label == "mine"
    assert [each.label for each in read_contestants([one, two])] == [one, two]
    assert read_contestants([f"{two}+window=512", one])[0].label == "mine+window=512"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["dr_seg"], "expected two or more to compare, got dr_seg"),
        (["dr_seg", "dr_seg"], "expected each once, got 'dr_seg' again"),
        (["dr_seg", "dr_sg"], "unknown recipe 'dr_sg': did you mean 'dr_seg'"),
        (["dr_seg", "dr_seg+windw=3"], "unknown key 'windw'"),
        (["dr_seg", "dr_seg+window=["], "expected a value in JSON or YAML, got '\\['"),
        (["dr_seg", "dr_seg+window=64"], "warm_start must be at most window \\(64\\), got 128"),
        (["dr_seg", "dr_seg+lok=null"], "unknown key 'lok'"),
    ],
)
def test_what_cannot_be_read_is_named(typed: list[str], said: str) -> None:
    """An error says what was typed and what is wrong with it."""
    with pytest.raises((InputError, ConfigError), match=said):
        read_contestants(typed)
