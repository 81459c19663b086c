"""A log is paid what training with the recipe would have paid, and all of it is written down."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Boxes, wrap
from hypothesis import given, settings
from hypothesis import strategies as st
from log_makers import REFERENCE, rollouts, write_lines

import rankreward as rr
from rankreward.logs import sums
from rankreward.logs.gaps import Gaps, gap_line
from rankreward.logs.reading import read_log
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.logs.running import score_log
from rankreward.logs.scoring import score_chunks
from rankreward.logs.steps import chunks
from rankreward.logs.written import Folder
from rankreward.rewards.figures import WindowLog, batch_log

RECIPE = rr.Recipe.load("dr_seg").override(
    {"accuracy.normalizer.window": 24, "accuracy.normalizer.warm_start": 2}
)
GROUPED = rr.Recipe.load("dr_seg").override({"accuracy.normalizer": {"kind": "group", "eps": 1e-6}})
ROWS = rollouts(6)


def as_rows(rows: list[dict[str, Any]]) -> list[LogRow]:
    return [
        LogRow(f"log:{n}", row["step"], str(row["group"]), row["completion"], row["reference"], row)
        for n, row in enumerate(rows, 1)
    ]


def by_hand(rows: list[LogRow], recipe: rr.Recipe) -> list[float]:
    """Whole steps, scored and flushed one after another."""
    scorer, paid = rr.Scorer(recipe), []
    for step in sorted({row.step for row in rows if row.step is not None}):
        some = [row for row in rows if row.step == step]
        batch = scorer.score(
            [row.completion for row in some],
            [row.reference for row in some],
            groups=[row.group for row in some],
        )
        paid += batch.total.tolist()
        scorer.flush(step)
    return paid


def read_lines(path: Path) -> list[dict[str, Any]]:
    def refuse(text: str) -> Any:
        raise AssertionError(text)

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def run(rows: list[Any], out: Path, recipe: Any = RECIPE, **options: Any) -> dict[str, Any]:
    folder = Folder(out, {"recipe": "r"}, overwrite=False)
    return score_log(chunks(rows, **options), rr.Scorer(recipe), folder, lambda _: None)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from([RECIPE, GROUPED]))
def test_rewards_are_the_scorers_however_chunks_fall(
    limit: int, seed: int, recipe: rr.Recipe
) -> None:
    """Bit for bit those of a loop of score and flush by hand, for ranked and grouped recipes."""
    rows = as_rows(rollouts(5, seed=seed))
    dealt = chunks(rows, limit=limit, grouped=recipe.needs_groups)
    paid = [
        each
        for scored in score_chunks(dealt, rr.Scorer(recipe))
        if scored.batch is not None
        for each in scored.batch.total.tolist()
    ]
    assert paid == by_hand(rows, recipe)


def test_rows_that_cannot_be_scored_are_left_out(tmp_path: Path) -> None:
    """Broken references are bad rows with their reasons; all others are paid as if alone."""
    rows = as_rows(ROWS)
    for place in (0, 7, 8, 30):
        old = rows[place]
        rows[place] = LogRow(old.place, old.step, old.group, old.completion, "[{]", old.columns)
    rows.insert(3, BadRow("log:torn", "torn"))  # type: ignore[arg-type]
    summary = run(rows, tmp_path / "run", limit=5)
    good = [row for row in rows if isinstance(row, LogRow) and row.reference != "[{]"]
    written = read_lines(tmp_path / "run/scored.jsonl")
    assert [line["total"] for line in written] == by_hand(good, RECIPE)
    bad = {line["place"]: line["reason"] for line in read_lines(tmp_path / "run/bad.jsonl")}
    assert set(bad) == {"log:1", "log:torn", "log:8", "log:9", "log:31"}
    assert bad["log:8"].startswith("references: expected a JSON list")
    assert (summary["bad_rows"], summary["rollouts"]) == (5, len(good))


def test_a_bad_completion_is_no_bad_row(tmp_path: Path) -> None:
    """It is paid, and counted by what is wrong with it."""
    rows = as_rows(ROWS)
    codes = Counter(
        code for code in rr.Scorer(RECIPE).score(
            [row.completion for row in rows], [row.reference for row in rows]
        ).codes if code is not None
    )  # fmt: skip
    summary = run(rows, tmp_path / "run")
    assert codes
    assert (summary["failures"], summary["bad_rows"]) == (dict(codes), 0)
    assert summary["unreadable"] == sum(codes.values())


def test_what_a_recipe_needs_comes_from_the_logs_columns(tmp_path: Path) -> None:
    """A row that lacks a column is a bad one; where all do, the log is refused."""
    recipe = rr.Recipe.load("pixel_think")
    answer = wrap({"bbox": [100, 100, 300, 300], "points_1": [150, 150], "points_2": [250, 250]})
    reference = json.dumps(
        {"bbox": [100, 100, 300, 300], "points_1": [150, 150], "points_2": [250, 250]}
    )
    columns = {"tokens": 50, **{name: 0.2 for name in recipe.columns if name != "tokens"}}
    lacking = {name: value for name, value in columns.items() if name != recipe.columns[-1]}
    rows = [LogRow(str(n), 1, "0", answer, reference, columns) for n in range(3)]
    odd = LogRow("odd", 1, "0", answer, reference, lacking)
    summary = run([*rows, odd], tmp_path / "run", recipe)
    assert (summary["rollouts"], summary["bad_rows"]) == (3, 1)
    with pytest.raises(rr.InputError, match=rf"none of the first 1 rows.*{recipe.columns[-1]}"):
        run([odd], tmp_path / "other", recipe)


def test_a_log_that_cannot_be_scored_fails_early() -> None:
    """After a thousand bad rows and none that is good, with the first reason; not at the end."""
    asked = 0

    def endless() -> Any:
        nonlocal asked
        while True:
            asked += 1
            yield BadRow(f"log:{asked}", "expected something else")

    with pytest.raises(rr.InputError, match=r"none of the first \d+ rows.*log:1: expected some"):
        list(score_chunks(chunks(endless(), limit=100), rr.Scorer(RECIPE)))
    assert asked <= 1100
    with pytest.raises(rr.InputError, match="log: expected rows, got none"):
        list(score_chunks(chunks([]), rr.Scorer(RECIPE)))


def test_bad_rows_before_the_first_good_one_are_forgiven(tmp_path: Path) -> None:
    """A header or a torn first line does not make a log hopeless."""
    summary = run([BadRow("log:0", "torn"), *as_rows(ROWS)], tmp_path / "run")
    assert (summary["bad_rows"], summary["rollouts"]) == (1, len(ROWS))


def test_lines_of_steps_are_the_figures_of_a_trainers_log(tmp_path: Path) -> None:
    """The same names and values as `batch_log` gives, also for steps that come in several chunks."""
    rows = as_rows(ROWS)
    run(rows, tmp_path / "one")
    run(rows, tmp_path / "many", limit=4)
    whole, parts = (read_lines(tmp_path / name / "steps.jsonl") for name in ("one", "many"))
    scorer = rr.Scorer(RECIPE)
    for line, part in zip(whole, parts, strict=True):
        some = [row for row in rows if row.step == line["step"]]
        batch = scorer.score([r.completion for r in some], [r.reference for r in some])
        expected = batch_log(batch.raw, batch.ranks, batch.terms, batch.codes)
        assert {name: line[name] for name in expected} == expected
        assert line["rankreward/window/size"] == scorer.quantiles.size
        assert (line["rows"], line["reward"]) == (len(some), pytest.approx(batch.total.mean()))
        assert line["reward_std"] == pytest.approx(batch.total.std())
        assert line["completions/mean_length"] == np.mean([len(r.completion) for r in some])
        assert line["completions/mean_tokens"] == np.mean([r.columns["tokens"] for r in some])
        spreads = [
            np.std([t for t, r in zip(batch.total, some, strict=True) if r.group == group])
            for group in sorted({str(r.group) for r in some})
        ]
        assert line["rankreward/group_std"] == pytest.approx(np.mean(spreads))
        assert line["rankreward/dead_groups"] == np.mean([each == 0 for each in spreads])
        assert part == pytest.approx(line)
        scorer.flush(line["step"])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_groups_that_chunks_cut_are_counted_once(limit: int, random: Any) -> None:
    """Shuffled groups, spread over chunks, have the figures of a slow loop over all of a step."""
    rows = as_rows(rollouts(1, groups=10))
    random.shuffle(rows)
    step, totals = sums.Step(1), {}
    for scored in score_chunks(chunks(rows, limit=limit), rr.Scorer(RECIPE)):
        assert scored.batch is not None
        step.add(scored)
        for each, total in zip(scored.rows, scored.batch.total, strict=True):
            totals.setdefault(each.group, []).append(total)
    line = step.line(WindowLog())
    assert line["rankreward/groups"] == 10
    assert line["rankreward/group_std"] == pytest.approx(np.mean([*map(np.std, totals.values())]))
    dead = [len({*each}) == 1 for each in totals.values()]
    assert line["rankreward/dead_groups"] == np.mean(dead)


def test_bad_rows_make_no_step(tmp_path: Path) -> None:
    """Neither before the first row nor as a step of their own: figures and windows are of rows."""
    run([BadRow("log:0", "torn"), *as_rows(ROWS)[12:24]], tmp_path / "a")
    assert [line["step"] for line in read_lines(tmp_path / "a/steps.jsonl")] == [2]
    assert [path.name for path in (tmp_path / "a/windows").iterdir()] == ["step-00000002.npz"]
    rows: list[Any] = [LogRow(each.place, None, "0", each.completion, each.reference)
                       for each in as_rows(ROWS)[:6]]  # fmt: skip
    rows[2:4] = [BadRow("log:3", "torn"), BadRow("log:4", "torn")]
    run(rows, tmp_path / "b", rows_per_step=2)
    for name in ("steps", "scored"):
        steps = [line["step"] for line in read_lines(tmp_path / "b" / f"{name}.jsonl")]
        assert sorted({*steps}) == [1, 3]


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([1, 2, 3], None),
        ([4, 4, 5], None),
        ([7], None),
        ([1, 2, 5, 6, 7], {"count": 2, "first": 3, "last": 4}),
        ([1, 10, 20, 30], {"count": 26, "first": 2, "last": 29}),
        ([100, 170, 180, 455, 900], None),
    ],
)
def test_steps_that_a_log_lacks_are_named(steps: list[int], missing: Any) -> None:
    """Where its numbers count steps; a clock's do not."""
    gaps = Gaps()
    for step in steps:
        gaps.add(step)
    assert gaps.as_dict() == missing


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ((1, 2, 2), "step 2 is not in the log"),
        ((2, 3, 4), "steps 3 to 4 are not in the log"),
        ((26, 2, 29), "26 of the steps 2 to 29 are not in the log"),
    ],
)
def test_missing_steps_are_said_in_a_line(missing: tuple[int, int, int], line: str) -> None:
    """One, some neighbours, or several gaps."""
    count, first, last = missing
    said = gap_line({"count": count, "first": first, "last": last})
    assert said.startswith(line)
    assert "windows differ" in said


def test_nothing_is_cleared_before_the_first_row(tmp_path: Path) -> None:
    """A log that cannot be read leaves an earlier result as it is."""
    run(as_rows(ROWS), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json*")}
    folder = Folder(tmp_path / "run", {}, overwrite=True)
    with pytest.raises(rr.InputError, match="expected rows, got none"):
        score_log([], rr.Scorer(RECIPE), folder, lambda _: None)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json*")} == before


def test_lines_of_rollouts_hold_what_the_scorer_said(tmp_path: Path) -> None:
    """Terms, raw metrics, ranks and failures to the last bit; null where one is not defined."""
    masked = rr.Recipe.load("dr_seg").override({"accuracy.normalizer.warm_start": 0})
    rows = as_rows(ROWS)[:12]
    rows[2] = LogRow("log:%s", 1, 'a "group"', wrap([]), "[]", {"tokens": math.nan})
    run(rows, tmp_path / "run", masked)
    batch = rr.Scorer(masked).score([r.completion for r in rows], [r.reference for r in rows])
    lines = read_lines(tmp_path / "run/scored.jsonl")
    for index, (row, line) in enumerate(zip(rows, lines, strict=True)):
        assert (line["place"], line["step"], line["group"]) == (row.place, row.step, row.group)
        assert line["total"] == batch.total[index]
        for kind in ("terms", "raw", "ranks"):
            wanted = {name: column[index] for name, column in getattr(batch, kind).items()}
            assert line[kind] == {n: None if np.isnan(v) else v for n, v in wanted.items()}
        failure = batch.failures[index]
        assert line["failure"] == (None if failure is None else vars(failure))
        assert line["length"] == len(row.completion)
        assert line.get("tokens") == (None if index == 2 else row.columns["tokens"])
    assert lines[2]["raw"]["iou"] is None


def test_examples_are_whole_rollouts(tmp_path: Path) -> None:
    """Three of each failure, the best paid, and the worst of the readable, each once."""
    rows = as_rows(ROWS)
    run(rows, tmp_path / "run", limit=5)
    lines = {line["place"]: line for line in read_lines(tmp_path / "run/scored.jsonl")}
    examples = read_lines(tmp_path / "run/examples.jsonl")
    by_place = {row.place: row for row in rows}
    assert len({each["place"] for each in examples}) == len(examples)
    for each in examples:
        assert each["completion"] == by_place[each["place"]].completion
        assert each["reference"] == REFERENCE
        assert each["total"] == lines[each["place"]]["total"]
    kinds = Counter(each["why"] for each in examples)
    assert kinds.pop("best") == kinds.pop("worst") == 3
    assert set(kinds) == {line["failure"]["code"] for line in lines.values() if line["failure"]}
    readable = [line["total"] for line in lines.values() if not line["failure"]]
    worst = [each["total"] for each in examples if each["why"] == "worst"]
    best = [each["total"] for each in examples if each["why"] == "best"]
    assert sorted(worst) == sorted(readable)[:3]
    assert sorted(best) == sorted(readable)[-3:]


@pytest.mark.parametrize("steps", [1, 5, 20, 21, 100])
def test_windows_are_kept_at_a_bounded_number_of_steps(tmp_path: Path, steps: int) -> None:
    """The first and the last step always; each file goes on as the run would have."""
    run(as_rows(rollouts(steps, groups=1, size=2)), tmp_path / "run")
    files = sorted((tmp_path / "run/windows").iterdir())
    kept = [int(file.stem.removeprefix("step-")) for file in files]
    assert (kept[0], kept[-1]) == (1, steps)
    assert min(steps, 10) <= len(kept) <= 21
    assert len(set(np.diff(kept[:-1]))) <= 1
    scorer = rr.Scorer(RECIPE)
    scorer.load(files[-1])
    assert scorer.quantiles.step == steps


def test_the_summary_is_of_the_rollouts(tmp_path: Path) -> None:
    """Means over rollouts, over the first and last tenth of steps, and shares of groups."""
    rows = as_rows(rollouts(20))
    summary = run(rows, tmp_path / "run")
    lines = read_lines(tmp_path / "run/scored.jsonl")
    assert summary["reward"] == pytest.approx(np.mean([line["total"] for line in lines]))
    for name, some in (("reward_first", (1, 2)), ("reward_last", (19, 20))):
        assert summary[name] == pytest.approx(
            np.mean([line["total"] for line in lines if line["step"] in some])
        )
    for metric, figures in summary["metrics"].items():
        raw = [line["raw"][metric] for line in lines if line["raw"][metric] is not None]
        assert figures["raw"] == pytest.approx(np.mean(raw))
    for term, mean in summary["terms"].items():
        assert mean == pytest.approx(np.mean([line["terms"][term] for line in lines]))
    totals: dict[Any, set[float]] = {}
    for line in lines:
        totals.setdefault((line["step"], line["group"]), set()).add(line["total"])
    dead = np.mean([len(each) == 1 for each in totals.values()])
    assert (summary["groups"], summary["dead_groups"]) == (60, pytest.approx(dead))
    assert summary == json.loads((tmp_path / "run/summary.json").read_text())


def test_a_step_without_end_is_summed_up_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a limit every second row counts for the figures, and the line says so."""
    monkeypatch.setattr(sums, "_KEPT", 8)
    rows = as_rows(rollouts(1, groups=10))
    run(rows, tmp_path / "run", limit=4)
    (line,) = read_lines(tmp_path / "run/steps.jsonl")
    every = line["rankreward/every"]
    some = rows[::every]
    batch = rr.Scorer(RECIPE).score([r.completion for r in some], [r.reference for r in some])
    assert every == 8
    assert line["rankreward/raw/iou"] == pytest.approx(np.nanmean(batch.raw["iou"]))
    assert line["rows"] == 40


def test_an_interrupted_run_ends_with_a_whole_step(tmp_path: Path) -> None:
    """Ctrl-C within a step: files hold the steps before it, and the summary says unfinished."""

    def broken() -> Any:
        for number, chunk in enumerate(chunks(as_rows(ROWS), limit=4)):
            if number == 10:
                raise KeyboardInterrupt
            yield chunk

    out = tmp_path / "run"
    folder = Folder(out, {}, overwrite=False)
    summary = score_log(broken(), rr.Scorer(RECIPE), folder, lambda _: None)
    lines, steps = read_lines(out / "scored.jsonl"), read_lines(out / "steps.jsonl")
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert [line["total"] for line in lines] == by_hand(as_rows(ROWS)[:36], RECIPE)
    assert (summary["finished"], summary["rollouts"], summary["steps"]) == (False, 36, 3)
    assert max(each["step"] for each in read_lines(out / "examples.jsonl")) <= 3


def test_an_error_leaves_whole_files(tmp_path: Path) -> None:
    """A log that turns out to be out of order is refused, and what came before is kept as such."""
    rows = [*as_rows(ROWS), as_rows(ROWS)[0]]
    with pytest.raises(rr.InputError, match="log:1: expected a step from 6 on"):
        run(rows, tmp_path / "run")
    assert len(read_lines(tmp_path / "run/steps.jsonl")) == 5
    assert json.loads((tmp_path / "run/summary.json").read_text())["finished"] is False


def test_images_and_a_segmenter_serve_recipes_with_masks(tmp_path: Path) -> None:
    """A log with images is scored by masks as the scorer does."""
    recipe = rr.Recipe.load("sam_r1")
    answer = wrap({"bbox": [0, 0, 420, 840], "points_1": [9, 9], "points_2": [99, 99]})
    mask = np.zeros((8, 8), dtype=int)
    mask[:, :4] = 1
    reference = {"mask": mask.tolist()}
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    rows = [LogRow(str(n), 1, "0", answer, reference, {}, image) for n in range(3)]
    rows[1] = LogRow("1", 1, "0", answer, reference, {}, None)
    scorer = rr.Scorer(recipe, segmenter=Boxes())
    scored = list(score_chunks(chunks(rows), scorer))
    expected = rr.Scorer(recipe, segmenter=Boxes()).score([answer], [reference], images=[image])
    assert scored[0].batch is not None
    assert scored[0].batch.total.tolist() == [expected.total[0]] * 2
    assert "looks at the images" in scored[0].bad[0].reason


def test_a_scorer_is_not_asked_twice_for_what_it_scored(tmp_path: Path) -> None:
    """Looking for bad rows records nothing: the window has each good row once."""
    rows = as_rows(ROWS)
    rows[5] = LogRow("odd", 1, "0", "a", "[{]")
    scorer = rr.Scorer(RECIPE)
    list(score_chunks(chunks(rows[:12]), scorer))
    assert scorer.quantiles.size - 2 == 11


def test_a_log_written_and_read_again_scores_the_same(tmp_path: Path) -> None:
    """From a file, through the reader, to the rewards of the loop by hand."""
    path = write_lines(tmp_path / "log.jsonl", ROWS)
    run(list(read_log([path])), tmp_path / "run")
    written = [line["total"] for line in read_lines(tmp_path / "run/scored.jsonl")]
    assert written == by_hand(as_rows(ROWS), RECIPE)


def test_a_chunk_without_rows_changes_nothing() -> None:
    """Bad rows alone neither score nor flush."""
    (scored, _) = score_chunks(
        [Chunk(0, [], [BadRow("a", "b")], ends=False), Chunk(1, as_rows(ROWS)[:1], [], ends=True)],
        rr.Scorer(RECIPE),
    )
    assert (scored.batch, scored.flush, scored.rows) == (None, None, [])
