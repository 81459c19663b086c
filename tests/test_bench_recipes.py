"""What the benchmarks of the recipes measure: typical rollouts, free stand-ins, hostile texts."""

from __future__ import annotations

import json
from pathlib import Path

import hostile_scores
import numpy as np
import pytest
import report as benchmark_report
import workload

import rankreward as rr

each_recipe = pytest.mark.parametrize("name", rr.recipes())


@each_recipe
def test_rollouts_are_typical(name: str) -> None:
    """Nearly all can be read, they earn unequal rewards, and a batch is written anew by its seed."""
    recipe = rr.Recipe.load(name)
    batch, same = (workload.make_batch(recipe, 1, rollouts=64, side=84) for _ in range(2))
    assert batch.completions == same.completions
    assert batch.references == same.references
    assert batch.completions != workload.make_batch(recipe, 2, 64, 84).completions
    scored = batch.score(workload.make_scorer(recipe))
    assert len(scored) == 64
    assert sum(failure is None for failure in scored.failures) >= 0.8 * 64
    for values in scored.raw.values():
        if name != "perception_r1_detection":  # whose errors are all 0 where the boxes are near
            assert np.nanstd(values) > 0
    assert (scored.raw[next(iter(scored.raw))] > 0).mean() > 0.3


def test_filled_boxes_are_as_if_made_anew() -> None:
    """The stand-in keeps its masks between two calls, and nothing of the earlier call in them."""
    segmenter = workload.Boxes()
    image = np.zeros((10, 12, 3), dtype=np.uint8)
    for boxes in ([[0, 0, 12, 10], [1, 1, 3, 4]], [[2, 3, 5, 7]], [[0, 0, 1, 1]] * 4):
        masks = segmenter.segment(image, np.array(boxes, dtype=float), None)
        assert masks.shape == (len(boxes), 10, 12)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            assert mask.sum() == (x2 - x1) * (y2 - y1)
            assert mask[y1:y2, x1:x2].all()


def test_run_lengths_are_the_scene() -> None:
    """The mask of a reference, read back, is the union of the scene's boxes."""
    recipe = rr.Recipe.load("genseg_r1_g")
    reference = workload.make_batch(recipe, 3, 8, side=84).references[0]
    mask = rr.rewards.masks.read_mask(reference["mask"], 0)
    whole = np.zeros((84, 84), dtype=bool)
    for entry in reference["objects"]:  # on a grid of 1000
        x1, y1, x2, y2 = np.array(entry["bbox_2d"]) * 0.084
        whole[round(y1) : round(y2), round(x1) : round(x2)] = True
    assert (mask ^ whole).mean() < 0.02


@each_recipe
def test_hostile_texts_never_raise(name: str) -> None:
    """Every shape for every recipe is about as long as asked for, and is scored."""
    make, timed = hostile_scores.scoring(name)
    for shape, text in make(10_000).items():
        assert 5000 < len(text) < 25_000, shape
        timed(text)


def test_worst_finds_the_slow_and_the_bent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few texts those are kept that are slowest, or grow most."""
    costs = {
        **{f"linear {k}": lambda size: size / 50_000 for k in range(9)},
        "slow": lambda size: size / 5000,
        "quadratic": lambda size: (size / 100_000) ** 2,
    }

    def make(size: int) -> dict[str, str]:
        return {name: f"{name}:{size}" for name in costs}

    def spent(timed: object, text: str, repeats: int) -> float:
        name, size = text.split(":")
        return costs[name](int(size))

    monkeypatch.setattr(hostile_scores, "_time", spent)
    rows = hostile_scores.worst(make, len)
    slowest, bent = hostile_scores._two_worst(rows)
    assert (slowest["shape"], slowest["ms"], slowest["texts"]) == ("slow", 20.0, 11)
    assert (bent["shape"], bent["large_ms"]) == ("quadratic", 100.0)
    assert [row["shape"] for row in rows if hostile_scores.misses(row)] == ["quadratic"]


MACHINE = {
    "cpu": {"brand_raw": "made up"},
    "cores": 2,
    "system": "Linux",
    "machine": "x86_64",
    "versions": {"numpy": "2"},
}
ROW = {"rivals": {}, "goal": {}, "limit": None}
BENCHMARKS = [
    ROW | {"row": "import", "ours": [0.2], "limit": 0.3},
    ROW | {"row": "seg_r1", "ours": [0.64, 0.64], "table": "recipes", "rollouts": 128},
    ROW
    | {"row": "dr_seg", "ours": [6.4e-3, 12.8e-3, 6.4e-3], "table": "recipes", "rollouts": 128}
    | {"rivals": {"published": [12.8e-3, 25.6e-3, 25.6e-3]}},
    {
        "table": "hostile",
        "row": "score dr_seg",
        "texts": 129,
        "slowest": {"shape": "stops in <think>", "ms": 20.125},
        "least_linear": {"shape": "quotes", "ratio": 12.5},
        "reached": False,
    },
]


def test_report_writes_a_table_for_each_part(tmp_path: Path) -> None:
    """Recipes a rollout and hostile texts stand between their own comments, and not in the first."""
    raw, results, page = (tmp_path / name for name in ("raw.json", "results.json", "page.md"))
    rows = [{"extra_info": info} for info in BENCHMARKS]
    raw.write_text(json.dumps({"machine_info": MACHINE, "benchmarks": rows}))
    names = ("figures", "recipes", "hostile")
    page.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in names))
    benchmark_report.main(raw, results, None, page)
    found, text = json.loads(results.read_text()), page.read_text()
    assert [row["row"] for row in found["rows"]] == ["import"]
    assert [row["row"] for row in found["recipes"]] == ["seg_r1", "dr_seg"]
    assert "| `seg_r1` | 5,000 (5,000 to 5,000) | 200 |  |  |" in text
    assert "| `dr_seg` | 50 (50 to 75) | 20,000 | published | 2x (2 to 3) |" in text
    assert "| score dr_seg | 129 | stops in `<think>` | 20.1 | quotes | 12.5x | **no** |" in text
    for name, lines in benchmark_report.TABLES.items():
        assert f"<!-- {name} -->\n{lines(found)}\n<!-- /{name} -->" in text


def test_report_of_some_benchmarks_alone(tmp_path: Path) -> None:
    """Parts without a benchmark have no table, and no place on the page."""
    raw, results, page = (tmp_path / name for name in ("raw.json", "results.json", "page.md"))
    rows = [{"extra_info": BENCHMARKS[0]}]
    raw.write_text(json.dumps({"machine_info": MACHINE, "benchmarks": rows}))
    page.write_text("<!-- figures -->\n<!-- /figures -->\n")
    benchmark_report.main(raw, results, None, page)
    assert "| import | 200 ms | | | < 300 ms | yes |" in page.read_text()
