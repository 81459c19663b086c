"""A user's own terms and metrics: registered by name, weighed, ranked, and refused when wrong."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, G2, wrap
from hypothesis import given
from hypothesis import strategies as st

import rankreward as rr
from rankreward import own

BASE = rr.Recipe.load("dr_seg")
SEG_ZERO = {"bbox": [100, 100, 300, 300], "points_1": [200, 180], "points_2": [200, 220]}
TAGGED = "<box>(100,100),(300,300)</box><points>(200,180),(200,220)</points>"


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered before a test, nor left of it."""
    monkeypatch.setattr(own, "_OWN", {})


def brevity(sample: rr.Sample, *, limit: int = 400) -> float:
    return float(len(sample.text) <= limit)


def register(name: str, says: Any) -> None:
    """A kind that always says the same."""
    rr.term(name)(lambda sample: says)


def as_term(kind: str, weight: float = 1.0, **options: Any) -> rr.Recipe:
    return BASE.override({"terms.mine": {"kind": kind, "weight": weight, **options}})


def as_metric(kind: str, **options: Any) -> rr.Recipe:
    return BASE.override({"accuracy.metrics.mine": {"kind": kind, **options}})


def paid(recipe: rr.Recipe, *texts: str, **more: Any) -> list[float]:
    """What the term `mine` pays."""
    batch = rr.Scorer(recipe).score(texts, [G1] * len(texts), **more)
    return [float(value) for value in batch.terms["mine"]]


# -- registering ----------------------------------------------------------------------------------


def test_a_function_is_returned_as_it_is() -> None:
    """The decorator leaves the function alone, so that it can be tested by itself."""
    assert rr.term("brevity")(brevity) is brevity


@pytest.mark.parametrize(
    "name", ["", "Brevity", "brief ", "1st", "_x", "a-b", "a.b", "own term", "é", 3, None, ["x"]]
)
def test_malformed_names_are_refused(name: Any) -> None:
    """A kind is lower-case letters, digits and underscores, and begins with a letter."""
    with pytest.raises(rr.ConfigError, match="term: expected a name of lower-case letters"):
        rr.term(name)(brevity)


@pytest.mark.parametrize(
    "name",
    ["blocks", "answer", "keyword", "non_repeat", "released", "box_iou", "mask_iou", "text_match"],
)
def test_the_librarys_kinds_cannot_be_taken(name: str) -> None:
    """Neither those of terms nor those of metrics."""
    with pytest.raises(rr.ConfigError, match=f"term '{name}': the name is one of the library's"):
        rr.term(name)(brevity)


def test_a_taken_name_stays_taken() -> None:
    """Another function under it would change what a recipe means; the first one is named."""
    rr.term("brevity")(brevity)

    def other(sample: rr.Sample) -> float:
        return 0.0

    with pytest.raises(
        rr.ConfigError, match=r"'brevity': the name is taken by .*test_own\.brevity"
    ):
        rr.term("brevity")(other)
    assert paid(as_term("brevity"), "x") == [1.0]


def test_a_cell_that_runs_again_replaces_its_function() -> None:
    """By place: the same name in the same module; scorers that were made keep the old one."""

    def cell(says: float) -> Callable[[rr.Sample], float]:
        @rr.term("cell")
        def mine(sample: rr.Sample) -> float:
            return says

        return mine

    cell(0.25)
    old = rr.Scorer(as_term("cell"))
    cell(0.75)
    assert old.score(["x"], [G1]).terms["mine"].tolist() == [0.25]
    assert paid(as_term("cell"), "x") == [0.75]


@pytest.mark.parametrize("thing", [3, "brevity", None, [brevity]])
def test_only_functions_and_classes_are_registered(thing: Any) -> None:
    """Anything else could not be called."""
    with pytest.raises(rr.ConfigError, match="term 'mine': expected a function or a class, got"):
        rr.term("mine")(thing)


@pytest.mark.parametrize("option", ["kind", "weight", "share"])
def test_options_cannot_shadow_the_recipes_keys(option: str) -> None:
    """The recipe would take the value for its own."""
    namespace: dict[str, Any] = {}
    exec(f"def mine(sample, *, {option}=1): return 0.0", namespace)  # noqa: S102 - three names
    with pytest.raises(
        rr.ConfigError, match=f"term 'mine': no option can have the name '{option}'"
    ):
        rr.term("mine")(namespace["mine"])


@pytest.mark.parametrize("option", ["pixels", "schema", "copy", "model_extra", "json", "sample"])
def test_any_other_name_serves_as_an_option(option: str) -> None:
    """Names that mean something to the models behind a recipe do no harm."""
    namespace: dict[str, Any] = {}
    exec(f"def mine(each, *, {option}=1): return float({option})", namespace)  # noqa: S102 - likewise
    rr.term("mine")(namespace["mine"])
    assert paid(as_term("mine", **{option: 0.25}), "x") == [0.25]
    resized = as_metric("mine", **{option: 0.25}).resized(84)
    entry = {"bbox_2d": [1, 1, 9, 9], "point_2d": [3, 3]}
    batch = rr.Scorer(resized).score([wrap([entry])], [[entry]])
    assert batch.raw["mine"].tolist() == [0.25]


# -- options --------------------------------------------------------------------------------------


def test_options_come_from_the_recipe() -> None:
    """Or from the function's own defaults."""
    rr.term("brevity")(brevity)
    text = "x" * 300
    assert paid(as_term("brevity"), text) == [1.0]
    assert paid(as_term("brevity", weight=0.5, limit=300), text) == [0.5]
    assert paid(as_term("brevity", limit=299), text) == [0.0]


def test_positional_options_are_options_too() -> None:
    """All parameters after the sample."""

    @rr.term("between")
    def between(sample: rr.Sample, low: int, high: int = 9) -> float:
        return float(low <= len(sample.text) <= high)

    assert paid(as_term("between", low=2), "x", "xx", "x" * 10) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limt": 3}, r"terms\.mine: unknown option 'limt': did you mean 'limit'\?"),
        ({"colour": 3}, r"terms\.mine: unknown option 'colour': expected limit"),
        ({"share": 0.5}, r"terms\.mine: unknown option 'share'"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(options: Any, message: str) -> None:
    """When the recipe is loaded, not when it scores."""
    rr.term("brevity")(brevity)
    with pytest.raises(rr.ConfigError, match=message):
        as_term("brevity", **options)


def test_unknown_options_of_a_metric_are_refused_as_well() -> None:
    """A metric has a share; a weight is none of its options."""
    rr.term("brevity")(brevity)
    for options, message in (
        ({"limt": 3}, r"accuracy\.metrics\.mine: unknown option 'limt': did you mean 'limit'"),
        ({"weight": 3}, r"accuracy\.metrics\.mine: unknown option 'weight'"),
    ):
        with pytest.raises(rr.ConfigError, match=message):
            as_metric("brevity", **options)


def test_missing_options_are_named() -> None:
    """An option without a default has to be given."""

    @rr.term("needs")
    def needs(sample: rr.Sample, *, words: list[str]) -> float:
        return float(sum(word in sample.text for word in words))

    for make in (as_term, as_metric):
        with pytest.raises(rr.ConfigError, match=r"mine: option 'words' is missing"):
            make("needs")
    assert paid(as_term("needs", words=["a", "b"]), "ab", "b", "") == [2.0, 1.0, 0.0]


def test_the_weight_is_the_recipes() -> None:
    """A term without one is refused as any other."""
    rr.term("brevity")(brevity)
    with pytest.raises(rr.ConfigError, match=r"key 'terms\.mine\.weight' is missing"):
        BASE.override({"terms.mine": {"kind": "brevity"}})
    with pytest.raises(rr.ConfigError, match=r"terms\.mine\.weight"):
        as_term("brevity", weight=math.nan)


# -- classes --------------------------------------------------------------------------------------


def test_a_class_is_made_once_a_scorer() -> None:
    """With the options, and not once a completion."""
    made: list[int] = []

    @rr.term("counts")
    class Counts:
        def __init__(self, start: int = 0) -> None:
            made.append(start)
            self.seen = start

        def __call__(self, sample: rr.Sample) -> float:
            self.seen += 1
            return float(self.seen)

    recipe = as_term("counts", start=5)
    assert made == []
    first = rr.Scorer(recipe)
    assert first.score(["a", "b"], [G1] * 2).terms["mine"].tolist() == [6, 7]
    assert first.score(["c"], [G1]).terms["mine"].tolist() == [8]
    assert rr.Scorer(recipe).score(["a"], [G1]).terms["mine"].tolist() == [6]
    assert made == [5, 5]


def test_two_terms_of_one_class_are_two_objects() -> None:
    """Each with its own options."""

    @rr.term("holds")
    class Holds:
        def __init__(self, word: str) -> None:
            self.word = word

        def __call__(self, sample: rr.Sample) -> bool:
            return self.word in sample.text

    recipe = BASE.override(
        {f"terms.{word}": {"kind": "holds", "weight": 1, "word": word} for word in ("cat", "dog")}
    )
    batch = rr.Scorer(recipe).score(["a cat", "a dog"], [G1] * 2)
    assert batch.terms["cat"].tolist() == [1, 0]
    assert batch.terms["dog"].tolist() == [0, 1]


def test_options_of_a_class_are_checked_without_making_it() -> None:
    """Its constructor may be slow."""

    @rr.term("slow")
    class Slow:
        def __init__(self, path: str) -> None:
            raise FileNotFoundError(path)

    with pytest.raises(rr.ConfigError, match="option 'path' is missing"):
        as_term("slow")
    with pytest.raises(rr.ConfigError, match=r"unknown option 'pth': did you mean 'path'\?"):
        as_term("slow", pth="x")
    recipe = as_term("slow", path="words.txt")
    with pytest.raises(FileNotFoundError, match=r"words\.txt"):
        rr.Scorer(recipe)


def test_a_class_whose_objects_cannot_be_called_is_refused() -> None:
    """At the latest when the scorer is made."""

    class Silent:
        pass

    with pytest.raises(rr.ConfigError, match="mine"):
        rr.Scorer((rr.term("mine")(Silent), as_term("mine"))[1])


def test_other_callables_serve_as_well() -> None:
    """A lambda, a partial and an object."""
    rr.term("bound")(functools.partial(brevity, limit=1))
    assert paid(as_term("bound"), "x", "xx") == [1.0, 0.0]

    class Half:
        def __call__(self, sample: rr.Sample, *, times: int = 1) -> float:
            return times / 2

    rr.term("half")(Half())
    assert paid(as_term("half", times=3), "x") == [1.5]


# -- what a sample holds --------------------------------------------------------------------------


def test_a_sample_holds_what_is_known_of_its_completion() -> None:
    """Its text, what it says, its reference twice, its image, and its entry of each column."""
    seen: list[rr.Sample] = []

    @rr.term("looks_on")
    def looks_on(sample: rr.Sample) -> float:
        seen.append(sample)
        return 0.0

    images = [np.full((84, 84, 3), k, dtype=np.uint8) for k in range(2)]
    texts, references = [wrap(G1), "no answer"], [json.dumps(G1), G2]
    columns: dict[str, list[Any]] = {"difficulty": [3, 4], "source": ["a", "b"]}
    rr.Scorer(as_term("looks_on")).score(texts, references, images=images, columns=columns)
    first, second = seen
    assert (first.text, first.reference) == (texts[0], references[0])
    assert first.response.looks == ("the left one",)
    assert first.response.answer is not None
    assert first.target is not None
    assert first.target.objects is not None
    assert first.target.objects.boxes.tolist() == first.response.answer.boxes.tolist()
    assert first.image is images[0]
    assert dict(first.columns) == {"difficulty": 3, "source": "a"}
    assert second.response.answer is None
    assert second.response.failure is not None
    assert (second.reference, dict(second.columns)) == (G2, {"difficulty": 4, "source": "b"})


def test_without_images_a_sample_has_none() -> None:
    """And no columns either."""

    @rr.term("counts_nothing")
    def counts_nothing(sample: rr.Sample) -> float:
        return float(sample.image is None and not sample.columns)

    assert paid(as_term("counts_nothing"), "x") == [1.0]


def test_a_sample_of_a_released_recipe_has_the_reference_as_given() -> None:
    """The released code reads it in its own way, so that there is no target."""

    @rr.term("has_target")
    def has_target(sample: rr.Sample) -> float:
        assert sample.reference == TAGGED
        return float(sample.target is not None)

    recipe = rr.Recipe.load("seg_zero-released").override(
        {"terms.mine": {"kind": "has_target", "weight": 1}}
    )
    batch = rr.Scorer(recipe).score([wrap(SEG_ZERO, think="I compare.")], [TAGGED])
    assert (batch.terms["mine"][0], batch.total[0]) == (0, 5)


def test_texts_and_masks_are_there_where_the_recipe_has_them() -> None:
    """The answer as a text, and the mask of the reference."""

    @rr.term("says_b")
    def says_b(sample: rr.Sample) -> float:
        assert sample.target is not None
        assert sample.target.text == "B"
        return float(sample.response.said == "B")

    recipe = rr.Recipe.load("grpo_care").override(
        {"terms.mine": {"kind": "says_b", "weight": 1}, "terms.consistency.weight": 0}
    )
    texts = ["<think>So.</think><answer>B</answer>", "<think>So.</think><answer></answer>"]
    batch = rr.Scorer(recipe).score(
        texts, ["B"] * 2, groups=[0, 0], columns={"likelihood": [0.5, 0.5]}
    )
    assert batch.terms["mine"].tolist() == [1, 0]


# -- as a term ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.5, 1, -2, True, np.float32(0.5), np.int64(3), np.array(0.25)])
def test_a_term_may_give_any_number(value: Any) -> None:
    """Of Python or of NumPy; the weight multiplies it."""
    register("says", value)
    assert paid(as_term("says", weight=2), "x") == [2 * float(value)]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, None, "much", [1, 2], 1j, np.zeros(2), {}]
)
def test_a_term_has_to_give_a_finite_number(value: Any) -> None:
    """Anything else is a fault of the function; nothing is recorded."""
    register("says", value)
    scorer = rr.Scorer(as_term("says"))
    with pytest.raises(rr.InputError, match=r"mine: expected a .*number for completion 0, got"):
        scorer.score([wrap(G1)], [G1])
    assert scorer.quantiles.pending == 0


def test_a_term_is_asked_about_every_completion() -> None:
    """Also about those that cannot be read."""
    rr.term("brevity")(brevity)
    texts = [wrap(G1), "no answer", "<think>", ""]
    assert paid(as_term("brevity"), *texts) == [1, 1, 1, 1]


def test_a_term_adds_to_the_total_under_its_name() -> None:
    """Beside the library's terms, which stay as they are."""
    rr.term("brevity")(brevity)
    plain = rr.Scorer(BASE).score([wrap(G1)], [G1])
    batch = rr.Scorer(as_term("brevity", weight=0.5)).score([wrap(G1)], [G1])
    assert batch.total[0] == plain.total[0] + 0.5
    assert {name: value[0] for name, value in batch.terms.items() if name != "mine"} == {
        name: value[0] for name, value in plain.terms.items()
    }


# -- as a metric ----------------------------------------------------------------------------------


def spans(sample: rr.Sample) -> float:
    """How wide the first box is; NaN without one."""
    assert sample.response.answer is not None
    boxes = sample.response.answer.boxes
    return float(boxes[0, 2] - boxes[0, 0]) if len(boxes) else math.nan


def wide(width: float) -> str:
    return wrap([{"bbox_2d": [100, 100, 100 + width, 300], "point_2d": [101, 200]}])


def test_a_metric_is_ranked_like_ours() -> None:
    """In the same window, whatever its scale."""
    rr.term("spans")(spans)
    recipe = as_metric("spans").override({"accuracy.normalizer.warm_start": 0})
    scorer = rr.Scorer(recipe)
    scorer.score([wide(width) for width in (10, 20, 30, 40)], [G1] * 4)
    assert scorer.flush(1).added == 4
    batch = scorer.score([wide(width) for width in (5, 25, 400)], [G1] * 3)
    assert batch.raw["mine"].tolist() == [5, 25, 400]
    assert batch.ranks["mine"].tolist() == [0, 0.5, 1]
    assert batch.terms["mine"].tolist() == [0, 0.5 / 4, 1 / 4]


def test_a_metric_that_does_not_apply_leaves_the_mean() -> None:
    """NaN or None: its share goes to the others, and the window does not see it."""

    @rr.term("sometimes")
    def sometimes(sample: rr.Sample) -> Any:
        return sample.columns["says"]

    recipe = as_metric("sometimes").override({"accuracy.normalizer": {"kind": "none"}})
    scorer = rr.Scorer(recipe)
    batch = scorer.score([wide(200)] * 3, [G1] * 3, columns={"says": [1.0, math.nan, None]})
    assert batch.raw["mine"].tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert batch.terms["mine"].tolist() == [0.25, 0, 0]
    assert batch.terms["iou"].tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 3])
    scorer.flush(1)
    assert scorer.quantiles.summary()["mine"].mean == 1.0


def test_a_share_weighs_a_metric() -> None:
    """A share of one half beside three whole ones is a seventh; a negative one is a penalty."""
    register("full", 1.0)
    raw = {"accuracy.normalizer": {"kind": "none"}}
    batch = rr.Scorer(as_metric("full", share=0.5).override(raw)).score([wrap(G1)], [G1])
    assert batch.terms["mine"][0] == pytest.approx(1 / 7)
    assert batch.total[0] == 5
    batch = rr.Scorer(as_metric("full", share=-0.5).override(raw)).score([wrap(G1)], [G1])
    assert batch.terms["mine"][0] == pytest.approx(-1 / 6)
    assert batch.terms["iou"][0] == pytest.approx(1 / 3)


def test_a_metric_is_not_asked_about_what_cannot_be_read() -> None:
    """Such a completion has the recipe's failure value; the others are asked about."""
    asked: list[str] = []

    @rr.term("asked")
    def ask(sample: rr.Sample) -> float:
        asked.append(sample.text)
        return 0.75

    recipe = as_metric("asked").override({"accuracy.failure": 0.25})
    batch = rr.Scorer(recipe).score([wrap(G1), "no answer", wrap("[NaN]")], [G1] * 3)
    assert batch.raw["mine"].tolist() == [0.75, 0.25, 0.25]
    assert asked == [wrap(G1)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, "much", [1, 2], {}])
def test_a_metric_has_to_give_a_number(value: Any) -> None:
    """Infinity has no place in a window."""
    register("says", value)
    scorer = rr.Scorer(as_metric("says"))
    with pytest.raises(rr.InputError, match=r"mine: expected a .*number for completion 1, got"):
        scorer.score(["no answer", wrap(G1)], [G1] * 2)
    assert scorer.quantiles.pending == 0


def test_one_kind_serves_as_term_and_as_metric() -> None:
    """At once, under two names."""
    rr.term("brevity")(brevity)
    recipe = as_term("brevity").override({"accuracy.metrics.short": {"kind": "brevity"}})
    batch = rr.Scorer(recipe).score([wrap(G1)], [G1])
    assert batch.terms["mine"][0] == batch.raw["short"][0] == 1


def test_a_checkpoint_knows_a_metrics_options() -> None:
    """Values measured with other options do not compare."""

    @rr.term("scaled")
    def scaled(sample: rr.Sample, *, by: float = 1.0) -> float:
        return by

    state = rr.Scorer(as_metric("scaled", by=2.0)).state_dict()
    rr.Scorer(as_metric("scaled", by=2.0)).load_state_dict(state)
    with pytest.raises(rr.CheckpointError, match="state: expected accuracy"):
        rr.Scorer(as_metric("scaled", by=3.0)).load_state_dict(state)


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [as_term, as_metric])
def test_what_a_function_raises_names_its_completion(make: Callable[[str], rr.Recipe]) -> None:
    """The exception is the function's own, with a note; nothing is recorded."""

    @rr.term("hard")
    def hard(sample: rr.Sample) -> float:
        return float(sample.columns["difficulty"])

    scorer = rr.Scorer(make("hard"))
    texts = ["no answer", wrap(G1)] if make is as_metric else [wrap(G1)]
    with pytest.raises(KeyError, match="difficulty") as caught:
        scorer.score(texts, [G1] * len(texts))
    place = len(texts) - 1
    assert caught.value.__notes__ == [
        f"while the term or metric 'mine' looked at completion {place}"
    ]
    assert scorer.quantiles.pending == 0
    assert len(scorer.score([], [])) == 0


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    """In terms and in metrics, where each has its own kinds."""
    for make, typo, meant in ((as_term, "blcks", "blocks"), (as_metric, "box_io", "box_iou")):
        with pytest.raises(rr.ConfigError, match=rf"unknown '{typo}': did you mean '{meant}'\?"):
            make(typo)


@pytest.mark.parametrize("make", [as_term, as_metric])
def test_an_own_kind_is_suggested_as_well(make: Callable[[str], rr.Recipe]) -> None:
    """A typo in a registered name is most often just that."""
    rr.term("brevity")(brevity)
    with pytest.raises(rr.ConfigError, match=r"unknown 'brevty': did you mean 'brevity'\?"):
        make("brevty")


def test_a_kind_that_nobody_registered_is_unknown() -> None:
    """As in a process that did not import the module; no internal name shows."""
    with pytest.raises(rr.ConfigError, match=r"terms\.mine\.kind: unknown 'brevity'") as caught:
        as_term("brevity")
    assert "own term" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [max, dict])
def test_a_callable_without_a_signature_is_refused(function: Any) -> None:
    """Its options cannot be known."""
    with pytest.raises(rr.ConfigError, match="term 'mine'"):
        rr.term("mine")(function)


@pytest.mark.parametrize("part", [{"weight": 1}, 3, None])
def test_a_term_without_a_kind_is_said_in_plain_words(part: Any) -> None:
    """Nothing of the machinery that tells kinds apart shows."""
    with pytest.raises(rr.ConfigError, match=r"terms\.mine") as caught:
        BASE.override({"terms.mine": part})
    assert "tag" not in str(caught.value)


def test_a_number_that_no_float_holds_is_refused() -> None:
    """As infinity is."""
    register("says", 10**400)
    with pytest.raises(rr.InputError, match="mine: expected a finite number for completion 0"):
        rr.Scorer(as_term("says")).score(["x"], [G1])


# -- recipes that hold them -----------------------------------------------------------------------


def test_a_recipe_goes_round_through_its_data() -> None:
    """Override, dump and load keep kind, weight and options."""
    rr.term("brevity")(brevity)
    recipe = as_term("brevity", weight=0.5, limit=20).override(
        {"accuracy.metrics.short": {"kind": "brevity", "share": 2.0, "limit": 30}}
    )
    assert rr.Recipe.load(recipe.model_dump(by_alias=True)) == recipe
    assert recipe.override({}) == recipe
    changed = recipe.override({"terms.mine.limit": 10, "terms.mine.weight": 2})
    assert changed.terms["mine"].model_dump() == {"kind": "brevity", "weight": 2, "limit": 10}
    assert changed.accuracy.metrics["short"] == recipe.accuracy.metrics["short"]
    assert paid(changed, "x" * 15) == [0.0]
    assert paid(recipe, "x" * 15) == [0.5]
    with pytest.raises(rr.ConfigError, match=r"unknown option 'lmit': did you mean 'limit'\?"):
        recipe.override({"terms.mine.lmit": 10})


MINE = """
name: mine
response:
  schema: grounding_list
  frame: {width: 840, height: 840}
terms:
  format: {kind: blocks, weight: 1}
  short:  {kind: brevity, weight: 0.5, limit: 200}
accuracy:
  weight: 2
  matching: {cost: scores, over: largest}
  metrics:
    iou:  {kind: box_iou}
    mine: {kind: brevity, limit: 100, share: 3}
  normalizer: {kind: none}
"""


def test_a_file_may_name_them(tmp_path: Path) -> None:
    """As any kind of the library."""
    rr.term("brevity")(brevity)
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    batch = rr.Scorer(path).score([wrap(G1, think="I compare.")], [G1])
    assert batch.terms["short"][0] == 0.5
    assert batch.terms["mine"][0] == 0
    assert batch.terms["iou"][0] == 0.5
    path.write_text(MINE.replace("limit: 200", "limits: 200"))
    with pytest.raises(rr.ConfigError, match=r"mine\.yaml: terms\.short: unknown option 'limits'"):
        rr.Scorer(path)


@given(st.lists(st.text(max_size=30), max_size=6))
def test_a_term_of_your_own_is_bounded_as_its_function_is(texts: list[str]) -> None:
    """Whatever the completions say."""
    own._OWN.setdefault("brevity", brevity)
    batch = rr.Scorer(as_term("brevity", weight=0.5, limit=10)).score(
        texts, [G1] * len(texts), record=False
    )
    assert batch.terms["mine"].tolist() == [0.5 * (len(text) <= 10) for text in texts]


def test_where_no_metric_applies_only_a_right_rejection_is_paid() -> None:
    """A metric that never applies makes no wrong answer right."""
    register("never", float("nan"))
    data = BASE.model_dump(by_alias=True)
    data["accuracy"] |= {"weight": 2, "metrics": {"never": {"kind": "never"}}}
    scorer = rr.Scorer(data)
    batch = scorer.score([wrap([]), wrap([]), wrap(G1)], [G1, [], []])
    assert batch.terms["never"].tolist() == [0, 2, 0]


def test_a_function_of_nothing_is_refused() -> None:
    """It would fail at the first completion."""
    with pytest.raises(rr.ConfigError, match="expected a function of a sample, got one without"):
        rr.term("mine")(lambda: 1.0)


def test_texts_are_no_numbers() -> None:
    """Not even those that look like one."""
    register("says", "1")
    with pytest.raises(rr.InputError, match="mine: expected a number for completion 0, got '1'"):
        rr.Scorer(as_term("says")).score(["x"], [G1])


def test_a_term_without_its_weight_is_told_so() -> None:
    """What an own term lacks is named beside the keys that it has, not beside the recipe's."""
    rr.term("weightless")(lambda sample: 0.0)
    with pytest.raises(rr.ConfigError, match=r"'terms.mine.weight' is missing; .* kind, weight$"):
        rr.Recipe.load("dr_seg").override({"terms.mine": {"kind": "weightless"}})
