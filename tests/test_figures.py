"""The figures that every trainer's log shows are what their names say."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
from builders import G1, wrap
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rankreward as rr
from rankreward.quantiles.distributed import DistributedQuantileService
from rankreward.rewards import figures as log
from rankreward.rewards.figures import CODES, WindowLog, batch_log

NAN = float("nan")
values = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN]) | st.floats(0, 1)
columns = st.integers(0, 12).flatmap(
    lambda count: st.tuples(*(hnp.arrays(np.float64, count, elements=values) for _ in range(4)))
)


def figures(raw: Any, ranks: Any, terms: Any, failures: Any) -> dict[str, float]:
    """The same from the names' meaning, value by value."""
    if not failures:
        return {}
    found: dict[str, float] = {}
    spread = {}
    for kind, group in (("raw", raw), ("rank", ranks), ("term", terms)):
        for name, column in group.items():
            there = [value for value in column.tolist() if not math.isnan(value)]
            if not there:
                continue
            mean = math.fsum(there) / len(there)
            found[f"rankreward/{kind}/{name}"] = mean
            spread[kind, name] = math.fsum((value - mean) ** 2 for value in there) / len(there)
            if kind == "raw":
                found[f"rankreward/raw_std/{name}"] = math.sqrt(spread[kind, name])
                pairs = list(itertools.combinations(there, 2))
                if pairs:
                    same = sum(a == b for a, b in pairs) / len(pairs)
                    found[f"rankreward/ties/{name}"] = same
    for kind, title in (("raw", "variance_share"), ("rank", "rank_variance_share")):
        own = {name: part for (k, name), part in spread.items() if k == kind}
        if sum(own.values()) > 1e-30:
            for name, part in own.items():
                found[f"rankreward/{title}/{name}"] = part / sum(own.values())
    found["rankreward/failures"] = sum(code is not None for code in failures) / len(failures)
    for code in CODES:
        found[f"rankreward/failure/{code}"] = failures.count(code) / len(failures)
    return found


@given(columns, st.data())
def test_figures_are_those_of_their_definition(data: Any, draw: st.DataObject) -> None:
    """Means, spreads, shares, ties and counts agree with sums taken value by value."""
    count = len(data[0])
    code = st.sampled_from(CODES) | st.none()
    failures = draw.draw(st.lists(code, min_size=count, max_size=count))
    names = {"iou": data[0], "count": data[1]}, {"iou": data[2], "count": data[3]}
    terms = {"look": np.nan_to_num(data[3])}
    ours, theirs = batch_log(*names, terms, failures), figures(*names, terms, failures)
    shares = {name for name in ours.keys() ^ theirs.keys() if "share" in name}
    assert ours.keys() ^ theirs.keys() == shares  # rounding may leave a constant a trace of spread
    for name in ours.keys() & theirs.keys():
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


def test_an_empty_batch_has_no_figures() -> None:
    """There is nothing to average."""
    assert batch_log({"iou": np.array([])}, {}, {}, []) == {}


def test_the_window_is_counted_by_its_flushes() -> None:
    """A flush that added nothing is none."""
    scorer, window = rr.Scorer("dr_seg"), WindowLog()
    assert window.figures(128) == {"rankreward/window/size": 128, "rankreward/window/flushes": 0}
    for step in (1, 2):
        scorer.score([wrap(G1)] * 3, [G1] * 3, record=step == 1)
        window.flushed(scorer.flush(step))
    assert window.figures(131) == {
        "rankreward/window/size": 131,
        "rankreward/window/flushes": 1,
        "rankreward/window/added": 3,
        "rankreward/window/evicted": 0,
    }


def test_the_table_of_names_is_complete() -> None:
    """The module's table has each name that comes out, and no other."""
    table = set(re.findall(r"``(rankreward/[^`]+)``", log.__doc__ or ""))
    scorer, window = rr.Scorer("dr_seg"), WindowLog()
    for step in (1, 2):  # against zeros alone all ranks are alike
        batch = scorer.score([wrap(G1), "x"], [G1] * 2)
        window.flushed(scorer.flush(step))
    out = {
        **batch_log(batch.raw, batch.ranks, batch.terms, [None, "missing_tag"]),
        **window.figures(130),
        "rankreward/seconds": 0.0,  # the adapters measure it
    }
    general = {
        re.sub(r"/(iou|count|point)$", "/<metric>", re.sub(r"(failure)/\w+", r"\1/<code>", name))
        for name in out
    }
    general = {re.sub(r"term/.*", "term/<term>", name) for name in general}
    assert general == table


def test_a_window_that_moves_takes_its_rows_along() -> None:
    """`share` changes where the window lives, not what is in it."""
    scorer, twin = rr.Scorer("dr_seg"), rr.Scorer("dr_seg")
    for each in (scorer, twin):
        each.score([wrap(G1)] * 3, [G1] * 3)
        each.flush(1)
        each.score(["x"], [G1])
    made = []

    def make(**arguments: Any) -> rr.QuantileService:
        made.append(rr.QuantileService(**arguments))
        return made[-1]

    scorer.share(make)
    assert scorer.quantiles is made[0]
    assert scorer.flush(2) == twin.flush(2)
    assert scorer.quantiles.rows.tobytes() == twin.quantiles.rows.tobytes()
    with pytest.raises(rr.StateError, match="process group"):
        scorer.share(DistributedQuantileService)
    assert scorer.quantiles is made[0]


@pytest.mark.parametrize(
    ("recipe", "images", "groups"),
    [
        ("dr_seg", False, False),
        ("dpad", True, False),
        ("genseg_r1_g", True, False),
        ("sam_r1", True, False),
        ("grpo_care", False, True),
    ],
)
def test_a_recipe_says_what_it_looks_at(recipe: str, images: bool, groups: bool) -> None:
    """So that a trainer that has no images, or splits groups, can refuse it at once."""
    loaded = rr.Recipe.load(recipe)
    assert (loaded.needs_images, loaded.needs_groups) == (images, groups)


def test_a_normalizer_by_group_needs_groups() -> None:
    """Whatever the recipe."""
    changed = rr.Recipe.load("dr_seg").override(
        {"accuracy.normalizer": {"kind": "group", "eps": 1e-4}}
    )
    assert changed.needs_groups
