"""The scorer pays what the paper says, and one bad completion costs only itself."""

from __future__ import annotations

import functools
import json
import math
import threading
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, entry, wrap
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr

METRICS = ("iou", "count", "point")


def with_history(ties: str = "weak") -> rr.Scorer:
    """A scorer whose window is the specification's controlled history of 1,000 rows.

    x1 is uniform on .001 to 1, x2 is .5 in 40% and 1 in 60%, x3 is 0 in 30% and 1 in 70%.
    """
    data = rr.Recipe.load("dr_seg").model_dump(by_alias=True)
    data["accuracy"]["normalizer"] |= {"window": 1000, "warm_start": 0, "ties": ties}
    scorer = rr.Scorer(data)
    x1 = np.arange(1, 1001) / 1000
    x2, x3 = np.where(x1 <= 0.4, 0.5, 1.0), np.where(x1 <= 0.3, 0.0, 1.0)
    scorer.quantiles.push(np.column_stack([x1, x2, x3]))
    scorer.flush(0)
    return scorer


def accuracy(batch: rr.RewardBatch) -> list[float]:
    total: list[float] = sum(batch.terms[name] for name in METRICS).tolist()  # type: ignore[union-attr]
    return total


RIGHT_80 = [entry([v + 80 if i % 2 == 0 else v for i, v in enumerate(e["bbox_2d"])],
                  [e["point_2d"][0] + 80, e["point_2d"][1]]) for e in G2]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reference", "raw", "expected"),
    [
        # the paper's rule on the worked cases D5 to D17 of the published code; IoU is continuous
        pytest.param(wrap(G1), G1, (1, 1, 1), 1.0, id="D5 exact"),
        pytest.param("garbage", G1, (0, 0, 0), 0.1, id="D6 garbage"),
        pytest.param(
            wrap([entry([110, 110, 310, 310], [300, 200])]), G1, (0.8223, 1, 0.5882), 0.7073, id="D7"
        ),
        pytest.param(wrap(G1), G2, (1, 0.5, 1), 0.8, id="D8 one of two"),
        pytest.param(wrap(RIGHT_80[::-1]), G2, (0.4286, 1, 0.7059), 0.576, id="D10 swapped"),
        pytest.param(wrap(RIGHT_80), G2, (0.4286, 1, 0.7059), 0.576, id="D10b in order"),
        pytest.param(wrap([]), [], (math.nan, 1, math.nan), 1.0, id="D11 correct rejection"),
        pytest.param(wrap(G1), [], (0, 0, 0), 0.1, id="D12 false positive"),
        pytest.param(
            wrap('[{"bbox_2d": [NaN, 1, 2, 3], "point_2d": [1, 2]}]'), G1, (0, 0, 0), 0.1, id="D13 NaN"
        ),
        pytest.param(wrap([*G1, {"bbox_2d": [1, 2, 3, 4]}]), G1, (0, 0, 0), 0.1, id="D15 half"),
        pytest.param(wrap(json.dumps(G1).replace('"', "'")), G1, (0, 0, 0), 0.1, id="D16 quotes"),
        pytest.param(
            wrap([*G1, entry([0, 0, 50, 50], [25, 25]), entry([0, 800, 40, 840], [20, 820])]),
            G1, (1, 1 / 3, 1), 2 / 3, id="D17 three for one",
        ),
    ],
)  # fmt: skip
def test_worked_examples(
    text: str, reference: Any, raw: tuple[float, ...], expected: float
) -> None:
    """Raw metrics and the mean of their ranks, on the controlled history."""
    batch = with_history().score([text], [reference])
    for name, value in zip(METRICS, raw, strict=True):
        assert batch.raw[name][0] == pytest.approx(value, abs=5e-5, nan_ok=True)
    assert accuracy(batch) == pytest.approx([expected], abs=5e-4)


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        pytest.param(wrap(G1), (1, 1, 1, 1), id="exact"),
        pytest.param(wrap(G1, think="no keyword"), (1, 1, 0, 1), id="D3 no look"),
        pytest.param(wrap(G1, think="YOUR REASONING <look>x</look>"), (1, 1, 1, 0), id="D4 copied"),
        pytest.param(wrap(G1, think="<look>a. a. a.</look>"), (1, 1, 1, 0), id="repeats"),
        pytest.param(wrap(G1, think="<look>a. a.</look>"), (1, 1, 1, 1), id="one repeat"),
        pytest.param(wrap(G1) + "\n", (0, 1, 1, 1), id="trailing newline"),
        pytest.param(wrap("oops"), (1, 0, 1, 1), id="no JSON"),
        pytest.param("garbage", (0, 0, 0, 1), id="garbage"),
    ],
)
def test_format_terms(text: str, formats: tuple[float, ...]) -> None:
    """Four terms of one point each, in full or not at all."""
    terms = rr.Scorer("dr_seg").score([text], [G1]).terms
    names = ("think_format", "answer_format", "look", "non_repeat")
    assert tuple(terms[name][0] for name in names) == formats


def test_only_the_reasoning_can_repeat_itself() -> None:
    """Where there is a think block, what stands outside it is no reasoning."""
    text = wrap(G1) + " a. a. a. a. YOUR REASONING"
    assert rr.Scorer("dr_seg").score([text], [G1]).terms["non_repeat"].tolist() == [1.0]


def test_cold_start_is_the_papers() -> None:
    """Against a window of zeros every answer ranks 1, garbage too; the total is 5 at most."""
    batch = rr.Scorer("dr_seg").score([wrap(G1), "garbage"], [G1, G1])
    assert batch.total.tolist() == [5.0, 2.0]


coordinate = st.integers(0, 840)
items = st.lists(
    st.builds(
        entry, st.tuples(*[coordinate] * 4).map(list), st.tuples(*[coordinate] * 2).map(list)
    ),
    max_size=4,
)
side = st.tuples(st.integers(0, 800), st.integers(1, 40)).map(lambda s: (s[0], s[0] + s[1]))
targets = st.lists(
    st.builds(
        lambda x, y, point: entry([x[0], y[0], x[1], y[1]], point),
        side,
        side,
        st.tuples(coordinate, coordinate).map(list),
    ),
    max_size=4,
)
completion = st.one_of(
    items.map(wrap), st.sampled_from(["", "garbage", wrap("oops"), wrap("[NaN]"), "<think>"])
)


@given(st.lists(st.tuples(completion, targets), min_size=1, max_size=6))
def test_terms_add_up_and_stay_in_range(rows: list[tuple[str, Any]]) -> None:
    """Totals are sums of terms, ranks and metrics are shares, and the reward is 0 to 5."""
    texts, references = zip(*rows, strict=True)
    batch = with_history().score(texts, references)
    np.testing.assert_allclose(sum(batch.terms.values()), batch.total, atol=1e-12)
    assert np.all((batch.total >= 0) & (batch.total <= 5))
    for values in (*batch.raw.values(), *batch.ranks.values()):
        defined = values[~np.isnan(values)]
        assert np.all((defined >= 0) & (defined <= 1))


@given(items, targets, st.randoms(use_true_random=False))
def test_order_of_an_answer_never_matters(answer: Any, reference: Any, random: Any) -> None:
    """Permuting predictions or references changes no bit of the reward."""
    scorer = with_history()
    mixed_answer, mixed_reference = list(answer), list(reference)
    random.shuffle(mixed_answer)
    random.shuffle(mixed_reference)
    first = scorer.score([wrap(answer)], [reference])
    second = scorer.score([wrap(mixed_answer)], [mixed_reference])
    assert first.total.tobytes() == second.total.tobytes()
    for name in METRICS:
        assert first.raw[name].tobytes() == second.raw[name].tobytes()


def test_order_never_matters_where_pairs_tie() -> None:
    """Boxes that pair one way and points that pair the other tie, and still order is nothing."""
    crossed = [
        entry(G2[0]["bbox_2d"], G2[1]["point_2d"]),
        entry(G2[1]["bbox_2d"], G2[0]["point_2d"]),
    ]
    raws = [
        rr.Scorer("dr_seg").score([wrap(answer)], [reference]).raw
        for answer in (crossed, crossed[::-1])
        for reference in (G2, G2[::-1])
    ]
    assert len({(raw["iou"][0], raw["point"][0]) for raw in raws}) == 1


def test_reference_may_hold_any_number_of_objects() -> None:
    """The cap is on answers; a crowd in the data is a crowd."""
    crowd = [entry([k, 0, k + 5, 9], [k + 2, 4]) for k in range(130)]
    raw = rr.Scorer("dr_seg").score([wrap(crowd[:65])], [crowd]).raw
    assert (raw["count"][0], raw["iou"][0]) == (0.5, 1.0)


def test_nothing_defined_is_paid_in_full() -> None:
    """In a recipe without a count, rejecting a no-target sample earns all of the accuracy."""
    data = rr.Recipe.load("dr_seg").model_dump(by_alias=True)
    del data["accuracy"]["metrics"]["count"]
    data["accuracy"]["normalizer"]["ties"] = "mid"
    total = rr.Scorer(data).score([wrap([]), wrap(G1)], [[], []]).total
    assert total.tolist() == [5.0, 4.5]


@given(items.filter(bool), st.sampled_from(["weak", "strict", "mid"]), st.booleans())
def test_rejection_beats_a_false_positive(boxes: Any, ties: str, cold: bool) -> None:
    """With nothing to find, `[]` earns more than any box, whatever the history."""
    recipe = with_history(ties).recipe
    scorer = rr.Scorer(recipe) if cold else with_history(ties)
    total = scorer.score([wrap([]), wrap(boxes)], [[], []]).total
    assert total[0] > total[1]


@given(st.lists(st.tuples(completion, targets), min_size=1, max_size=6), st.integers(0, 6))
def test_one_bad_completion_costs_only_itself(rows: list[tuple[str, Any]], place: int) -> None:
    """The other rewards of a batch are bit-identical beside garbage."""
    texts, references = map(list, zip(*rows, strict=True))
    alone = with_history().score(texts, references).total
    texts.insert(min(place, len(rows)), "\x00<answer>")
    references.insert(min(place, len(rows)), [])
    beside = with_history().score(texts, references)
    kept = np.delete(beside.total, min(place, len(rows)))
    assert kept.tobytes() == alone.tobytes()
    assert beside.failures[min(place, len(rows))] is not None


def test_batch_size_does_not_matter() -> None:
    """Scoring one by one or all at once pays the same and leaves the same window."""
    rng = np.random.default_rng(0)
    texts = [
        wrap([entry(rng.integers(0, 840, 4).tolist(), rng.integers(0, 840, 2).tolist())])
        for _ in range(64)
    ]
    together, apart = with_history(), with_history()
    whole = together.score(texts, [G1] * 64).total
    parts = [apart.score([text], [G1]).total[0] for text in texts]
    assert whole.tolist() == parts
    together.flush(1)
    apart.flush(1)
    assert together.quantiles.rows.tobytes() == apart.quantiles.rows.tobytes()


def test_threads_share_a_scorer() -> None:
    """Sixteen threads scoring at once pay and record what one would."""
    texts = [wrap(G1), wrap([]), "garbage", wrap(G2)] * 8
    alone, shared = with_history(), with_history()
    expected = alone.score(texts, [G2] * len(texts)).total
    results: dict[int, float] = {}

    def work(part: range) -> None:
        for index in part:
            results[index] = shared.score([texts[index]], [G2]).total[0]

    threads = [threading.Thread(target=work, args=(range(k, 32, 16),)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(32)] == expected.tolist()
    alone.flush(1)
    shared.flush(1)
    assert alone.quantiles.rows.tobytes() == shared.quantiles.rows.tobytes()


def test_record_false_leaves_the_window_alone() -> None:
    """Evaluation ranks against the window and adds nothing to it."""
    scorer = rr.Scorer("dr_seg")
    scorer.score([wrap(G1)], [G1], record=False)
    assert scorer.quantiles.pending == 0
    assert scorer.flush(1) == rr.FlushStats(added=0, evicted=0, size=128, step=1)
    scorer.score([wrap(G1)], [G1])
    assert scorer.flush(1).added == 1


def test_undefined_metrics_stay_out_of_the_window() -> None:
    """A correct rejection leaves its box and point columns undefined, and its count counts."""
    scorer = with_history()
    scorer.score([wrap([])], [[]])
    scorer.flush(1)
    assert np.isnan(scorer.quantiles.rows[-1]).tolist() == [True, False, True]


def test_references_as_text_or_data() -> None:
    """A reference is the JSON text or the list it stands for, arrays included."""
    as_array = [{"bbox_2d": np.array(G1[0]["bbox_2d"]), "point_2d": np.array(G1[0]["point_2d"])}]
    batch = rr.Scorer("dr_seg").score([wrap(G1)] * 3, [json.dumps(G1), G1, as_array])
    assert batch.raw["iou"].tolist() == [1.0, 1.0, 1.0]


def test_empty_batch() -> None:
    """No completions, no rewards, no rows."""
    scorer = rr.Scorer("dr_seg")
    batch = scorer.score([], [])
    assert (len(batch), batch.failures, scorer.quantiles.pending) == (0, [], 0)
    assert all(values.shape == (0,) for values in (*batch.terms.values(), *batch.raw.values()))


@pytest.mark.parametrize(
    ("completions", "arguments", "error", "message"),
    [
        (
            ["a", "b"],
            {"references": ["[]"]},
            "InputError",
            "references: expected 2, one a completion",
        ),
        (["a"], {"references": ["[]"], "groups": []}, "InputError", "groups: expected 1, .*got 0"),
        (["a"], {"references": ["[]"], "images": [1, 2]}, "InputError", "images: expected 1"),
        (
            "abc",
            {"references": ["[]"] * 3},
            "InputError",
            "completions: expected a sequence, .*got str",
        ),
        (["a"], {"references": "x"}, "InputError", "references: expected a sequence, .*got str"),
        (
            ["a"],
            {"references": None},
            "InputError",
            "references: expected a sequence, .*got NoneType",
        ),
        (
            ["a"],
            {"references": iter(["[]"])},
            "InputError",
            "references: expected a sequence, .*got li",
        ),
        (
            [None],
            {"references": ["[]"]},
            "InputError",
            r"completions\[0\]: expected a string, got No",
        ),
        (
            ["a", "b"],
            {"references": ["[]", "{"]},
            "BadReferenceError",
            r"references\[1\]: expected a JS",
        ),
        (["a"], {"references": ["NaN"]}, "BadReferenceError", "expected finite numbers, got NaN"),
        (["a"], {"references": [3]}, "BadReferenceError", r"references\[0\]: expected .*, got int"),
        (
            ["a"],
            {"references": [[{"bbox": 1}]]},
            "BadReferenceError",
            "expected 4 numbers in 'bbox_2d",
        ),
        (
            ["a"],
            {"references": [[entry([300, 300, 100, 100], [1, 1])]]},
            "BadReferenceError",
            r"expected boxes x1 < x2, y1 < y2 and points inside .* of 840 x 840, got \[300.0, 300.0, 1",
        ),
        (["a"], {"references": [[entry([5, 5, 5, 9], [1, 1])]]}, "BadReferenceError", "x1 < x2"),
        (
            ["a"],
            {"references": [[entry([900, 5, 950, 9], [1, 1])]]},
            "BadReferenceError",
            "inside the",
        ),
        (["a"], {"references": [[object()]]}, "BadReferenceError", "has no attribute 'tolist'"),
    ],
)
def test_bad_arguments_raise_and_record_nothing(
    completions: Any, arguments: dict[str, Any], error: str, message: str
) -> None:
    """A broken argument is one line that says what was expected and what came."""
    scorer = rr.Scorer("dr_seg")
    with pytest.raises(getattr(rr, error), match=message) as caught:
        scorer.score(completions, **arguments)
    assert "\n" not in str(caught.value)
    assert scorer.quantiles.pending == 0


def test_each_task_is_ranked_within_itself() -> None:
    """With windows by key, what one task earned does not move the ranks of another."""
    recipe = rr.Recipe.load("dr_seg").model_dump(by_alias=True)
    recipe["accuracy"]["normalizer"] |= {"warm_start": 0}
    scorer = rr.Scorer(recipe, quantiles=functools.partial(rr.QuantileService, keys=("a", "b")))
    texts, references = [wrap(G1), wrap([])], [G1, G1]
    scorer.score(texts, references, keys=["a", "b"])
    scorer.flush(1)
    batch = scorer.score(texts[:1] * 2, references, keys=["a", "b"])
    assert batch.ranks["iou"].tolist() == [1.0, 1.0]
    batch = scorer.score(texts[1:] * 2, references, keys=["a", "b"])
    assert batch.ranks["iou"].tolist() == [0.0, 1.0]
    with pytest.raises(
        rr.InputError, match="keys: expected 2, one a row, or one for all, got None"
    ):
        scorer.score(texts, references)
    assert scorer.quantiles.pending == 4


def normalized(kind: dict[str, Any]) -> rr.Scorer:
    recipe = rr.Recipe.load("dr_seg").model_dump(by_alias=True)
    recipe["name"] = "mine"
    recipe["accuracy"]["normalizer"] = kind
    return rr.Scorer(recipe)


def three() -> tuple[list[str], list[Any]]:
    """Three answers to one question, each worse than the one before."""
    shifted = [entry([110, 100, 310, 300], [260, 200])]
    return [wrap(G1), wrap(shifted), wrap([])], [G1] * 3


def test_without_a_normalizer_the_raw_metrics_are_paid() -> None:
    """Their mean is the accuracy; the window still fills, for its summary."""
    scorer = normalized({"kind": "none"})
    batch = scorer.score(*three())
    for name, raw in batch.raw.items():
        assert batch.ranks[name].tolist() == raw.tolist()
        assert batch.terms[name] == pytest.approx(raw / 3)
    assert scorer.flush(1).size == 3
    assert scorer.quantiles.summary()["iou"].mean == pytest.approx(batch.raw["iou"].mean())


def test_running_standard_scores_are_numpys() -> None:
    """Against the rows of the window as it stood; 0 where there is no spread yet."""
    scorer = normalized({"kind": "zscore", "window": 100})
    first = scorer.score(*three())
    assert all(values.tolist() == [0.0, 0.0, 0.0] for values in first.ranks.values())
    scorer.flush(1)
    batch = scorer.score(*three())
    for name, raw in batch.raw.items():
        history = first.raw[name]
        assert batch.ranks[name] == pytest.approx((raw - history.mean()) / history.std())


def test_standard_scores_in_the_group_are_those_of_each_group_alone() -> None:
    """Other groups of the batch do not matter, nor where its rows stand; the ids are needed."""
    scorer = normalized({"kind": "group", "eps": 1e-4})
    texts, references = three()
    alone = scorer.score(texts, references, groups=["a"] * 3)
    mixed = scorer.score(
        [texts[0], wrap([]), *texts[1:]], [*references, G1], groups=["a", "b", "a", "a"]
    )
    for name, raw in alone.raw.items():
        expected = (raw - raw.mean()) / (raw.std(ddof=1) + 1e-4)
        assert alone.ranks[name] == pytest.approx(expected)
        assert mixed.ranks[name][[0, 2, 3]].tolist() == alone.ranks[name].tolist()
        assert mixed.ranks[name][1] == 0.0  # one answer has nobody to be compared with
    with pytest.raises(rr.InputError, match="one id a completion, which the normalizer 'group'"):
        scorer.score(texts, references)


@pytest.mark.parametrize(
    "kind", [{"kind": "none"}, {"kind": "zscore", "window": 50}, {"kind": "group", "eps": 1e-4}]
)
def test_a_rejection_beats_a_false_positive_under_any_normalizer(kind: dict[str, Any]) -> None:
    """Where there is nothing to find, an empty answer earns more than a box."""
    scorer = normalized(kind)
    scorer.score(*three(), groups=["a"] * 3)
    scorer.flush(1)
    batch = scorer.score([wrap([]), wrap(G1)], ["[]", "[]"], groups=["b", "b"])
    assert batch.total[0] > batch.total[1]


@pytest.mark.parametrize("kind", [{"kind": "none"}, {"kind": "group", "eps": 1e-4}])
def test_keys_are_checked_under_any_normalizer(kind: dict[str, Any]) -> None:
    """Also where they are not used, and in evaluation."""
    scorer = normalized(kind)
    with pytest.raises(rr.InputError, match="keys: expected none"):
        scorer.score(*three(), groups=["a"] * 3, keys="x", record=False)


def test_unknown_normalizer_is_named() -> None:
    """With the kinds that there are."""
    with pytest.raises(
        rr.ConfigError, match=r"accuracy\.normalizer\.kind: .*ecdf, released_ecdf, none, zs"
    ):
        normalized({"kind": "rank"})
