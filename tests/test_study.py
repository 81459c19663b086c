"""The study: its variants are what they say, its runs can be resumed, its statistics are right."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import optimize, stats

import evidence
import mechanism
import rankreward as rr
import study
import study_stats
from rankreward import shaping
from rankreward.datasets.digits import scenes
from study_design import Design
from study_run import YARDSTICK, curves, signal_shares

FOLDER = Path(evidence.__file__).parent
DESIGN = Design.load(FOLDER / "study.yaml")
TINY = {
    "name": "tiny",
    "seeds": 2,
    "block": 1,
    "training": {
        "prompts": 2, "rollouts": 4, "steps": 2, "learning_rate": 4e-4, "warmup_steps": 0,
        "max_tokens": 48, "scenes": {"max_digits": 2},
    },
    "held_out": {"in-distribution": {"count": 4}, "more digits": {"count": 2, "max_digits": 5}},
    "registered": {
        "held_out": "in-distribution", "measure": "mean box IoU", "least": 0.01,
        "pairs": [["dr_seg", "raw"]],
    },
    "variants": {
        "dr_seg": {},
        "raw": {"changes": {"accuracy.normalizer": {"kind": "none"}}},
    },
}  # fmt: skip


def write_design(folder: Path, **changes: Any) -> Path:
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def answers(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Completions that miss by some pixels, add, drop, repeat or swap objects, or are unreadable."""
    rng = np.random.default_rng(seed)
    texts, references = [], []
    for scene in scenes(count, seed=seed, max_digits=4):
        entries = [
            {
                "bbox_2d": (entry["bbox_2d"] + rng.integers(-6, 7, 4)).tolist(),
                "point_2d": (entry["point_2d"] + rng.integers(-9, 10, 2)).tolist(),
            }
            for entry in json.loads(scene.reference)
        ]
        rng.shuffle(entries)
        kind = rng.integers(6)
        entries = entries[1:] if kind == 0 else entries + entries[:1] if kind == 1 else entries
        body = "[" if kind == 2 else json.dumps(entries)
        texts.append(f"<think><look>x</look></think><answer>{body}</answer>")
        references.append(scene.reference)
    return texts, references


def raw_of(changes: dict[str, Any], texts: list[str], references: list[str]) -> Any:
    return rr.Scorer(YARDSTICK.override(changes)).score(texts, references).raw


# The design


def test_registered_questions_are_of_variants() -> None:
    """Every question and the two references of the tables are variants of the study."""
    assert DESIGN.registered is not None
    asked = {name for pair in DESIGN.registered.pairs for name in pair}
    assert asked | {"dr_seg", "raw"} <= DESIGN.variants.keys()
    assert DESIGN.seeds >= 8
    assert min(map(DESIGN.seeds_of, asked)) >= 16


def test_first_seeds_come_first() -> None:
    """Stopped at any time, no variant is more than one seed ahead of another."""
    runs = list(DESIGN.runs())
    assert len(runs) == len(set(runs)) == sum(map(DESIGN.seeds_of, DESIGN.variants))
    assert [seed for _, seed in runs] == sorted(seed for _, seed in runs)
    assert {name for name, seed in runs if seed == DESIGN.seeds - 1} == DESIGN.variants.keys()


def test_fingerprint_is_of_what_a_result_depends_on(tmp_path: Path) -> None:
    """More seeds and variants leave results valid; another setting or recipe does not."""
    first = Design.load(write_design(tmp_path)).fingerprint("dr_seg")
    variants = {**TINY["variants"], "other": {"changes": {"accuracy.weight": 2}}}
    more = Design.load(write_design(tmp_path, seeds=9, variants=variants))
    assert more.fingerprint("dr_seg") == first != more.fingerprint("other")
    longer = Design.load(write_design(tmp_path, training={**TINY["training"], "steps": 3}))
    assert longer.fingerprint("dr_seg") != first


def test_a_wrong_design_is_refused(tmp_path: Path) -> None:
    """A misspelt recipe key or option of the scenes is an error before any run."""
    with pytest.raises(rr.ConfigError, match="normaliser"):
        Design.load(write_design(tmp_path, variants={"a": {"changes": {"accuracy.normaliser": 1}}}))
    with pytest.raises(TypeError, match="colour"):
        Design.load(write_design(tmp_path, held_out={"a": {"count": 1, "colour": 1}}))


# Its metrics


def test_pair_metrics_are_those_of_the_library() -> None:
    """With continuous matching and factor 1 they are box_iou, point_ramp and count_ratio."""
    texts, references = answers(300, seed=0)
    mine = raw_of(
        {
            "accuracy.metrics": {
                "iou": {"kind": "pair_iou"},
                "count": {"kind": "scaled_count"},
                "point": {"kind": "pair_point"},
            }
        },
        texts,
        references,
    )
    theirs = raw_of({}, texts, references)
    for name in theirs:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=1e-12)
    assert len({round(value, 6) for value in theirs["count"]}) > 2


def test_factor_multiplies() -> None:
    """A factor scales the metric and nothing else."""
    texts, references = answers(60, seed=1)
    for kind in ("pair_iou", "pair_point", "scaled_count"):
        one, ten = (
            raw_of({"accuracy.metrics": {"iou": {"kind": kind, "factor": f}}}, texts, references)
            for f in (1.0, 10.0)
        )
        np.testing.assert_array_equal(10.0 * one["iou"], ten["iou"])


def released_iou(given: list[Any], there: list[Any]) -> float:
    """What pairs of the released matching, by its definition, are paid; one pair at a time."""
    cost, iou = np.zeros((len(given), len(there))), np.zeros((len(given), len(there)))
    for i, mine in enumerate(given):
        (x1, y1, x2, y2), (px, py) = mine["bbox_2d"], mine["point_2d"]
        for j, true in enumerate(there):
            (a1, b1, a2, b2), (qx, qy) = true["bbox_2d"], true["point_2d"]
            overlap = max(0, min(x2, a2) - max(x1, a1)), max(0, min(y2, b2) - max(y1, b1))
            areas = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1)
            iou[i, j] = overlap[0] * overlap[1] / (areas - overlap[0] * overlap[1])
            wide = max(0, min(x2, a2) - max(x1, a1) + 1)
            high = max(0, min(y2, b2) - max(y1, b1) + 1)
            areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
            of_pixels = wide * high / (areas - wide * high)
            near = abs(x1 - a1) + abs(y1 - b1) + abs(x2 - a2) + abs(y2 - b2) < 4
            close = np.hypot(px - qx, py - qy) < 3 and x1 <= px <= x2 and y1 <= py <= y2
            cost[i, j] = 3 - (of_pixels > 0.5) - near - close
    return float(iou[optimize.linear_sum_assignment(cost)].mean())


def test_released_matching_is_as_defined_and_depends_on_the_order() -> None:
    """It pairs by thresholds met; where none is met the order of the answer decides."""
    texts, references = answers(200, seed=2)
    changes = {"accuracy.metrics": {"iou": {"kind": "pair_iou", "matching": "released"}}}
    checked = 0
    for value, text, reference in zip(
        raw_of(changes, texts, references)["iou"], texts, references, strict=True
    ):
        found = rr.parse(text).answer
        entries = json.loads(text.split("<answer>")[1].split("</answer>")[0]) if found else []
        distinct = [e for k, e in enumerate(entries) if e not in entries[:k]]
        if distinct and json.loads(reference):
            assert value == pytest.approx(released_iou(distinct, json.loads(reference)), abs=1e-12)
            checked += 1
    assert checked > 100
    there = [{"bbox_2d": [x, 10, x + 20, 40], "point_2d": [x + 10, 25]} for x in (0, 50)]
    given = [{"bbox_2d": [x, 20, x + 20, 54], "point_2d": [x + 10, 40]} for x in (0, 50)]
    both = [f"<think>x</think><answer>{json.dumps(g)}</answer>" for g in (given, given[::-1])]
    ordered, swapped = raw_of(changes, both, [json.dumps(there)] * 2)["iou"]
    assert ordered > 0.3 > swapped == 0.0


# Its runs


def paid(changes: dict[str, Any], factor: float) -> list[np.ndarray]:
    """What six steps of answers are paid, with the IoU multiplied."""
    metrics = {
        "iou": {"kind": "pair_iou", "factor": factor},
        "count": {"kind": "count_ratio"},
        "point": {"kind": "pair_point"},
    }
    scorer, totals = rr.Scorer(YARDSTICK.override({"accuracy.metrics": metrics, **changes})), []
    for step in range(6):
        totals.append(scorer.score(*answers(64, seed=step)).total)
        scorer.flush(step=step)
    return totals


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_ranks_cannot_notice_a_scale(factor: float) -> None:
    """Multiplying a metric leaves ranked rewards as they are to the last bit, and not raw ones."""
    normalizer = {"kind": "ecdf", "window": 2048, "warm_start": 128}
    for one, other in zip(
        paid({"accuracy.normalizer": normalizer}, 1.0),
        paid({"accuracy.normalizer": normalizer}, factor),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert any(np.any(a != b) for a, b in zip(paid({}, 1.0), paid({}, factor), strict=True))


def test_zeros_to_start_with_move_all_ranks_alike() -> None:
    """Under weak ties they are one linear map of the ranks of all metrics: advantages stay."""
    rng = np.random.default_rng(2)
    rows = rng.choice([0.0, 0.2, 0.5, 0.9, 1.0], (64, 3)) * rng.random((64, 3))
    some, none = (
        rr.QuantileService(("a", "b", "c"), window=256, warm_start=zeros) for zeros in (128, 0)
    )
    for service in (some, none):
        service.push(rows)
        service.flush(1)
    later = rng.random((40, 3))
    np.testing.assert_allclose(some.rank(later), (128 + 64 * none.rank(later)) / 192, rtol=1e-12)
    one, other = (
        shaping.grpo(service.rank(later).mean(axis=1), 8, eps=0.0) for service in (some, none)
    )
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_shares_are_of_the_advantages_variance() -> None:
    """Each term's share is its covariance with the advantage that the library computes."""
    rng = np.random.default_rng(0)
    terms = {"a": rng.normal(0, 1, 40), "b": rng.normal(0, 0.2, 40), "c": np.ones(40)}
    terms["a"][8:16] = terms["b"][8:16] = 0.5  # a group without signal
    found = signal_shares(terms, 8, one_by_one=False)
    advantages = shaping.grpo(terms["a"] + terms["b"] + terms["c"], 8, eps=1e-4)
    for name, values in terms.items():
        groups = (values.reshape(-1, 8) - values.reshape(-1, 8).mean(axis=1, keepdims=True)).ravel()
        spread = (terms["a"] + terms["b"]).reshape(-1, 8).std(axis=1, ddof=1).repeat(8) + 1e-4
        expected = (groups / spread) @ advantages / (advantages @ advantages)
        assert found[f"share/{name}"] == pytest.approx(expected, abs=1e-9)
    assert found["share/a"] + found["share/b"] == pytest.approx(1.0)
    assert found["share/c"] == 0.0
    assert found["dead"] == pytest.approx(0.2)


def test_shares_of_gdpo_ignore_scale() -> None:
    """Normalised one by one, a term that is a hundred times larger has no larger share."""
    rng = np.random.default_rng(1)
    terms = {"a": rng.normal(0, 1, 64), "b": rng.normal(0, 1, 64)}
    one = signal_shares(terms, 8, one_by_one=True, eps=0.0)
    large = signal_shares({**terms, "a": 100 * terms["a"]}, 8, one_by_one=True, eps=0.0)
    assert large["share/a"] == pytest.approx(one["share/a"])
    assert signal_shares({**terms, "a": 100 * terms["a"]}, 8, one_by_one=False)["share/a"] > 0.99


def test_curves_are_means_of_blocks() -> None:
    """The last block may be shorter; a figure that a step lacks is left out of the mean."""
    steps = [{"a": float(k), **({"b": 1.0} if k else {})} for k in range(5)]
    assert curves(steps, 2) == {"a": [0.5, 2.5, 4.0], "b": [1.0, 1.0, 1.0]}


def test_a_claim_is_one_process_alone(tmp_path: Path) -> None:
    """A claimed run is left alone; the claim of a process that is gone holds nothing."""
    path = tmp_path / "a.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with study.claim(path) as mine:
            assert not mine
    with study.claim(path) as mine:
        assert mine


def test_runs_of_another_design_are_refused(tmp_path: Path) -> None:
    """A result with other settings stops the study, and is never mixed in."""
    design = Design.load(write_design(tmp_path))
    (tmp_path / "raw-0.json").write_text('{"fingerprint": "other"}')
    with pytest.raises(SystemExit, match="take another --out"):
        study.done(tmp_path / "raw-0.json", design, "raw")
    assert not study.done(tmp_path / "raw-1.json", design, "raw")


def test_a_study_goes_on_from_its_results(tmp_path: Path) -> None:
    """Runs of a results' file are put back as they were, and those of the folder are kept."""
    made = [record("raw", seed, 0.5) for seed in range(3)]
    study_stats.save(made, tmp_path / "results.jsonl.gz")
    study.write(tmp_path / "raw-1.json", "mine")
    study.unpack(tmp_path / "results.jsonl.gz", tmp_path)
    assert [json.loads((tmp_path / f"raw-{k}.json").read_text()) for k in (0, 2)] == made[::2]
    assert (tmp_path / "raw-1.json").read_text() == "mine\n"


def test_collecting_drops_nothing(tmp_path: Path) -> None:
    """What was kept earlier stays where the folder lacks it; no folder is an error."""
    design = Design.load(write_design(tmp_path))
    made = {
        seed: {**record("raw", seed, 0.5), "fingerprint": design.fingerprint("raw")}
        for seed in range(2)
    }
    study.write(tmp_path / "raw-1.json", json.dumps({**made[1], "device": "cuda"}))
    found = study_stats.collect(tmp_path, design, [made[0], made[1]])
    assert [(each["seed"], each["device"]) for each in found] == [(0, "cpu"), (1, "cuda")]
    assert "on the CPU (1 runs); " in evidence.made_with(study_stats.Runs(found))
    with pytest.raises(SystemExit, match="expected a folder of runs"):
        study_stats.collect(tmp_path / "none", design, made.values())
    with pytest.raises(SystemExit, match="raw, seed 0: expected a run with the settings"):
        study_stats.collect(tmp_path, design, [{**made[0], "fingerprint": "other"}])


def test_study_runs_resumes_and_reports(tmp_path: Path) -> None:
    """Two workers do four runs once; the same command does no more; the report shows them all.

    A variant whose IoU is multiplied by ten is trained to the same policy, bit for bit.
    """
    metrics = {"count": {"kind": "count_ratio"}, "point": {"kind": "pair_point"}}
    variants = {
        **TINY["variants"],
        **{
            name: {
                "changes": {
                    "accuracy.metrics": {"iou": {"kind": "pair_iou", "factor": f}, **metrics}
                }
            }
            for name, f in (("one", 1.0), ("ten", 10.0))
        },
    }
    design, out = write_design(tmp_path, seeds=1, variants=variants), tmp_path / "runs"
    done = script("study.py", "--design", design, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs" in done.stdout
    records = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert set(records) == {"dr_seg-0", "raw-0", "one-0", "ten-0"}
    assert records["raw-0"]["before"] == records["dr_seg-0"]["before"]
    assert records["raw-0"]["curves"]["raw/iou"][0] == records["dr_seg-0"]["curves"]["raw/iou"][0]
    assert records["one-0"]["after"] == records["ten-0"]["after"]
    assert records["one-0"]["curves"] == records["ten-0"]["curves"]
    assert all(len(json.dumps(record)) < 20_000 for record in records.values())

    (out / "raw-0.json").unlink()  # as if it had been killed, with its claim left behind
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    again = script("study.py", "--design", design, "--out", out)
    assert again.stdout.count(" seed 0: ") == 1
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    repeated = json.loads((out / "raw-0.json").read_text())
    assert repeated["after"] == records["raw-0"]["after"]  # a run can be repeated

    page = tmp_path / "evidence.md"
    shutil.copy(evidence.DOCS / "evidence.md", page)
    results = tmp_path / "results.jsonl.gz"
    arguments = ("--design", design, "--results", results, "--page", page)
    reported = script("evidence.py", "--runs", out, *arguments)
    assert reported.returncode == 0, reported.stderr
    assert "4 of 4 runs are in" in page.read_text()
    for name in ("curves", "differences", "shares"):
        assert "<svg" in (tmp_path / f"evidence-{name}.svg").read_text()
    first = results.read_bytes()
    study_stats.save(study_stats.read(results), results)
    assert results.read_bytes() == first


# Its statistics


def record(variant: str, seed: int, iou: float) -> dict[str, Any]:
    measures = {"mean box IoU": iou, "count accuracy": 0.8, "gIoU": 0.4, "parsable answers": 1.0}
    shares = {f"share/{name}": [0.2, 0.3] for name in study_stats.METRICS}
    raw = {f"raw/{name}": [0.4, iou] for name in study_stats.METRICS}
    return {
        "variant": variant,
        "seed": seed,
        "before": {"in-distribution": {**measures, "mean box IoU": 0.4}},
        "after": {"in-distribution": measures},
        "curves": {**raw, **shares, "dead": [0.0, 0.1]},
        "seconds": {"training": 72.0, "processor": 36.0},
        "versions": {"trl": "1.0"},
        "device": "cpu",
    }


def made_runs(effect: float, seeds: int, noise: float = 0.005) -> study_stats.Runs:
    """`dr_seg` better than `raw` by `effect`, on top of what a seed does to both."""
    rng = np.random.default_rng(3)
    records = []
    for seed in range(seeds):
        of_seed = rng.normal(0.5, 0.05)
        records.append(record("dr_seg", seed, of_seed + effect + rng.normal(0, noise)))
        records.append(record("raw", seed, of_seed))
    return study_stats.Runs(records)


def test_differences_are_paired() -> None:
    """What a seed does to both variants leaves their difference alone."""
    of = study_stats.end("in-distribution", "mean box IoU")
    found = made_runs(0.04, 8).difference("dr_seg", "raw", of)
    assert found.seeds == 8
    assert 0.03 < found.low < found.mean < found.high < 0.05
    back = made_runs(0.04, 8).difference("raw", "dr_seg", of)
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_variants_are_pooled_by_seed() -> None:
    """Of several variants the mean counts, for seeds that all of them have."""
    runs = made_runs(0.04, 4)
    of = study_stats.end("in-distribution", "mean box IoU")
    more = [record("gdpo", seed, of(runs.by["raw", seed]) + 0.1) for seed in range(3)]
    found = study_stats.Runs([*runs.by.values(), *more]).differences(["gdpo", "raw"], ["raw"], of)
    assert found == pytest.approx([0.05] * 3)


def test_interval_and_p_value_are_those_of_scipy() -> None:
    """The bootstrap is the percentile one at a wider level, and the sign-flip test is exact."""
    values = np.random.default_rng(4).normal(0.3, 1.0, 9)
    found = study_stats.difference(values)
    # Of a normal sample of nine, 95% takes t with eight degrees of freedom and not 1.96.
    wide = 1 - 2 * stats.norm.sf(2.306 * np.sqrt(9 / 8))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=50_000, rng=0, confidence_level=wide
    )
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.03)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.03)
    test = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(test.pvalue)


def test_intervals_cover_what_they_say() -> None:
    """Of eight normal differences of mean 0, about 95% of the intervals hold 0."""
    rng = np.random.default_rng(7)
    found = [study_stats.difference(rng.normal(size=8)) for _ in range(2000)]
    assert 0.93 < np.mean([each.low <= 0 <= each.high for each in found]) < 0.98
    two = study_stats.difference(np.array([0.1, 0.2]))
    assert np.isnan([two.low, two.high]).all()
    assert str(two) == "+0.150"


def test_holm() -> None:
    """A worked example: sorted 0.01, 0.02, 0.03, 0.04 become 0.04, 0.06, 0.06, 0.06."""
    assert study_stats.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert study_stats.holm([0.6, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("effect", "seeds", "answer"),
    [
        (0.04, 16, "yes"),
        (-0.04, 16, "the reverse"),
        (0.0, 16, "not shown"),
        (0.04, 15, "not yet"),
    ],
)
def test_registered_answers(effect: float, seeds: int, answer: str) -> None:
    """The rule that was fixed beforehand is what the table applies, once all seeds are in."""
    assert DESIGN.registered is not None
    asked = DESIGN.registered.model_copy(update={"pairs": [("dr_seg", "raw")]})
    design = DESIGN.model_copy(update={"registered": asked})
    assert evidence.registered_table(made_runs(effect, seeds), design).endswith(f"| {answer} |")


def test_registered_questions_are_answered_together() -> None:
    """One whose seeds are all in waits for the others, on which its adjustment depends."""
    runs = made_runs(0.04, 16)
    pairs = [("dr_seg", "raw"), ("dr_seg", "vision_reasoner")]
    assert DESIGN.registered is not None
    asked = DESIGN.registered.model_copy(update={"pairs": pairs})
    design = DESIGN.model_copy(update={"registered": asked})
    extra = [record("vision_reasoner", seed, 0.4) for seed in range(9)]
    table = evidence.registered_table(study_stats.Runs([*runs.by.values(), *extra]), design)
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == ["not yet"] * 2


def test_a_large_p_or_a_small_difference_is_no_win() -> None:
    """A clear difference below the least that matters is not called a win."""
    assert (
        evidence.verdict(study_stats.Difference(8, 0.004, 0.003, 0.005, 0.008), 0.03, 0.01)
        == "not shown"
    )
    assert (
        evidence.verdict(study_stats.Difference(8, 0.04, -0.01, 0.09, 0.2), 0.2, 0.01)
        == "not shown"
    )


def test_tables_show_every_variant() -> None:
    """All variants and the start stand in the main table, with the number of their seeds."""
    table = evidence.main_table(made_runs(0.04, 8))
    assert [line.split("|")[1].strip() for line in table.splitlines()] == [
        "reward", "---", "start", "`dr_seg`", "`raw`",
    ]  # fmt: skip
    assert "+0.04" in table.splitlines()[3]
    assert "30%" in evidence.training_table(made_runs(0.0, 2))


def test_page_is_made_of_the_committed_results() -> None:
    """The tables of the page are those of the results' file."""
    page = (evidence.DOCS / "evidence.md").read_text()
    runs = study_stats.Runs(study_stats.read(evidence.RESULTS))
    for name, table in {
        **evidence.tables(runs, DESIGN),
        "ties": mechanism.ties_table(),
        "rare": mechanism.rare_table(),
    }.items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in page
    for each in runs.by.values():
        assert each["fingerprint"] == DESIGN.fingerprint(each["variant"])


# The mechanism


@pytest.mark.parametrize("normalizer", mechanism.NORMALIZERS)
@pytest.mark.parametrize("factor", [0.1, 1.0])
def test_closed_forms_are_what_sampling_gives(normalizer: str, factor: float) -> None:
    """Shares and correlations agree with the library's window and its advantages."""
    task = mechanism.make_task({"iou": factor})
    chances = task.policy(mechanism.start(task))
    exact = mechanism.pull(task, chances, normalizer)
    drawn = mechanism.simulate(task, chances, normalizer, groups=3000, size=64)
    assert sum(exact.share.values()) == pytest.approx(1.0)
    for name in task.metrics:
        assert drawn.share[name] == pytest.approx(exact.share[name], abs=0.015)
        assert drawn.correlation[name] == pytest.approx(exact.correlation[name], abs=0.01)
    cosine = exact.gradient @ drawn.gradient
    cosine /= np.linalg.norm(exact.gradient) * np.linalg.norm(drawn.gradient)
    assert cosine > 0.995


def test_gradient_is_the_derivative() -> None:
    """For raw rewards it is, over the prompts, the mean derivative of the expected reward.

    Each prompt's is divided by the deviation of the rewards of its answers.
    """
    task = mechanism.make_task()
    weights = mechanism.start(task) + np.random.default_rng(5).normal(
        0, 0.3, task.features.shape[1]
    )
    total = np.sum([*task.metrics.values()], axis=0)
    chances = task.policy(weights)
    means = (chances * total).sum(axis=1, keepdims=True)
    spread = np.sqrt((chances * (total - means) ** 2).sum(axis=1))
    slopes = [
        np.mean(
            ((task.policy(weights + h) - task.policy(weights - h)) * total).sum(axis=1)
            / (2e-5 * spread)
        )
        for h in 1e-5 * np.eye(len(weights))
    ]
    np.testing.assert_allclose(mechanism.pull(task, chances, "raw").gradient, slopes, atol=1e-7)


@pytest.mark.parametrize("normalizer", [n for n in mechanism.NORMALIZERS if n != "raw"])
def test_only_raw_shares_depend_on_scale(normalizer: str) -> None:
    """Shares of ranked and standardised parts stay as they are; raw ones grow with the scale."""
    small, large = mechanism.make_task({"iou": 0.1}), mechanism.make_task({"iou": 10.0})
    chances = small.policy(mechanism.start(small))
    one, other = (mechanism.pull(t, chances, normalizer) for t in (small, large))
    assert one.share == pytest.approx(other.share)
    assert mechanism.pull(small, chances, "raw").share["iou"] < 0.05
    assert mechanism.pull(large, chances, "raw").share["iou"] > 0.8
    assert mechanism.pull(small, chances, "raw").correlation == pytest.approx(
        mechanism.pull(large, chances, "raw").correlation
    )


def test_ties_of_two_values() -> None:
    """Weak ranks of a metric of two values are p apart, p the share of the better one, mid ones always a half."""
    values = np.array([0.0, 1.0])
    for p in (0.02, 0.5, 0.98):
        chances = np.array([1 - p, p])
        assert np.diff(mechanism.weak(values[None], chances[None])[0]) == pytest.approx(p)
        assert np.diff(mechanism.mid(values[None], chances[None])[0]) == pytest.approx(0.5)


def test_weak_ties_do_not_learn_what_few_answers_earn() -> None:
    """Its share is next to nothing, and its metric stays where it was; mid ties and raw sums learn it."""
    task = mechanism.make_task(rare=True)
    ends = {name: mechanism.learn(task, name)["rare"] for name in mechanism.NORMALIZERS}
    assert ends["ranked, weak ties"][-1] < 1.1 * ends["ranked, weak ties"][0]
    assert ends["ranked, mid ties"][-1] > 2 * ends["ranked, mid ties"][0]
    assert min(ends["raw"][-1], ends["zscore"][-1]) > 5 * ends["raw"][0]


def test_a_metric_that_the_prompt_settles_has_little_share() -> None:
    """Alike in the window is not alike in a group: the count is unclear to one prompt of five."""
    task = mechanism.make_task()
    chances = task.policy(mechanism.start(task))
    for normalizer in ("zscore", "ranked, weak ties", "ranked, mid ties"):
        share = mechanism.pull(task, chances, normalizer).share
        assert share["count"] < 0.15
        assert min(share["iou"], share["point"]) > 0.4
    unclear = mechanism.Task(
        {name: values[-1:] for name, values in task.metrics.items()}, task.features, task.plain[-1:]
    )
    alone = mechanism.pull(unclear, unclear.policy(mechanism.start(task)), "zscore").share
    assert alone["count"] > 0.2
