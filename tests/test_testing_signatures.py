"""A reward is called as its trainer calls it, and what the trainer could not read is a finding."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
from typing import Any

import pytest
from defective_rewards import sound

import rankreward as rr
from rankreward.adapters.easyr1 import compute_score
from rankreward.adapters.trl import RankReward
from rankreward.testing import Counterexample, Layout, RewardFailure, assert_reward, check_reward
from rankreward.testing.report import Call
from rankreward.testing.signatures import make_caller
from rankreward.testing.snippets import code_of


def trl(prompts, completions, completion_ids, boxes, difficulty, log_metric, **kwargs):
    """What TRL passes, and a dataset with other names."""
    assert len(prompts) == len(completion_ids) == len(difficulty) == len(completions)
    assert kwargs["trainer_state"].global_step == 1
    log_metric("difficulty", float(difficulty[0]))
    return sound([message["content"] for (message,) in completions], boxes)


async def trl_async(completions, solution, **kwargs):
    return sound([message["content"] for (message,) in completions], solution)


def verl(data_source, solution_str, ground_truth, extra_info):
    (paid,) = sound([solution_str], [ground_truth])
    return {"score": paid, "level": extra_info["level"]}


def verl_number(data_source, solution_str, ground_truth, extra_info=None):
    return sound([solution_str], [ground_truth])[0]


def easyr1(reward_inputs):
    texts = [each["response"] for each in reward_inputs]
    paid = sound(texts, [each["ground_truth"] for each in reward_inputs])
    return [{"overall": each, "half": each / 2} for each in paid]


GOOD: list[tuple[Any, dict[str, Any]]] = [
    (trl, {"signature": "trl", "reference": "boxes", "columns": {"difficulty": 2}}),
    (trl_async, {"signature": "trl"}),
    (verl, {"signature": "verl", "columns": {"level": len}}),
    (verl_number, {"signature": "verl"}),
    (easyr1, {"signature": "easyr1"}),
    (sound, {"signature": "ours"}),
]


@pytest.mark.parametrize(
    ("reward", "options"), GOOD, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_sound_reward_passes_in_each_signature(reward, options) -> None:
    """The invariants that depend on how it is called do not notice."""
    names = ["returns", "finite", "inputs_unchanged", "alone"]
    assert_reward(reward, "boxes", invariants=names, max_examples=15, **options)


def shape(name, *returned):
    def reward(*args, **kwargs):
        return returned[0]

    reward.__name__ = name
    return reward


def varying(data_source, solution_str, ground_truth, extra_info):
    return {"score": 1.0, **({"iou": 1.0} if "cup" in solution_str or "1" in solution_str else {})}


WRONG = [
    ("trl", shape("nothing", None), "expected a sequence of 1 rewards, got None"),
    ("ours", shape("none", [None]), "reward 0: expected a number, got None"),
    ("verl", shape("none", None), "reward 0: expected a number, got None"),
    ("trl", shape("text", ["1.0"]), "reward 0: expected a number, got '1.0'"),
    ("ours", shape("two", [1.0, 2.0]), "expected 1 rewards, one a completion, got 2"),
    ("ours", shape("one", 1.0), "expected a sequence of 1 rewards, got 1.0"),
    ("ours", shape("pairs", [(1.0, 2.0)]), "reward 0: expected a number, got (1.0, 2.0)"),
    ("verl", shape("reward", {"reward": 1.0}), "reward 0: expected a mapping with 'score'"),
    ("verl", varying, "expected the keys score"),
    ("easyr1", shape("numbers", [1.0]), "reward 0: expected a mapping with 'overall', got 1.0"),
    ("easyr1", shape("score", [{"score": 1.0}]), "reward 0: expected a mapping with 'overall'"),
]


@pytest.mark.parametrize(("signature", "reward", "message"), WRONG, ids=lambda e: str(e)[:12])
def test_what_a_trainer_cannot_read_is_said(signature, reward, message) -> None:
    """In one line, and nothing else is checked."""
    report = check_reward(reward, "boxes", signature=signature, max_examples=40)
    assert [each.name for each in report.failures] == ["returns"]
    assert message in report["returns"].counterexample.expected
    assert all(each.status == "skipped" for each in report.findings if each.name != "returns")


def test_what_a_reward_raises_is_shown() -> None:
    """With the text that made it, and under `finite` alone."""

    def raises(completions, references):
        return [float(text.index("</answer>") > 0) for text in completions]

    report = check_reward(raises, "boxes", skip=["linear_cost"], max_examples=50)
    assert "it raised ValueError: substring not found" in str(report["finite"])
    assert report["finite"].counterexample.calls[-1].completions == ("",)
    names = {each.name for each in report.failures}
    assert "alone" not in names


def test_the_assertion_holds_the_whole_report() -> None:
    """Every broken invariant is told in one go, with its reason."""

    def constant(completions, references):
        return [1.0] * len(completions)

    with pytest.raises(RewardFailure) as caught:
        assert_reward(constant, "boxes", max_examples=20)
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert "constant: 6 of 20 invariants are broken" in text
    names = ("right_beats_wrong", "bad_number", "rejection", "extra_object", "missing_object")
    for name in (*names, "whole_frame"):
        assert f"\n{name}: " in text
    assert text.count("why: ") == text.count("expected    ") == text.count("  reproduce") == 6


@pytest.mark.parametrize(("reward", "options"), [GOOD[0], *GOOD[2:]])
def test_the_lines_to_reproduce_run_in_each_signature(reward, options) -> None:
    """The code of a counterexample pays what the trial paid."""
    given = {"signature": "ours", "reference": "solution", "columns": {}, "arguments": {}} | options
    caller = make_caller(reward, layout=Layout.of("boxes"), **given)
    truth = [{"bbox_2d": [0, 0, 10, 10]}]
    text, reference = Layout.of("boxes").text(truth), json.dumps(truth)
    code = caller.code([text], [reference])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(f"{caller.imports(code)}\n{code}", {})  # noqa: S102 - our own report
    assert "2.0" in printed.getvalue()


@pytest.mark.parametrize(
    "text", ["", "a", "[" * 5000, "<a>" * 30 + "b" + "\n" * 40, "'\\\x00\ud800"]
)
def test_values_are_shown_as_the_code_that_makes_them(text: str) -> None:
    """However long, and short where they repeat themselves."""
    shown = code_of({"a": [text, (1, None)]})
    assert eval(shown) == {"a": [text, (1, None)]}  # noqa: S307 - our own
    assert len(shown) < 80


def test_a_scorer_is_not_moved() -> None:
    """Its window holds afterwards what it held before."""
    scorer = rr.Scorer("dr_seg")
    before = scorer.quantiles.state_dict()
    check_reward(scorer, invariants=["returns", "finite", "alone"], max_examples=20)
    assert scorer.quantiles.pending == 0
    assert str(before) == str(scorer.quantiles.state_dict())


def test_our_adapters_keep_the_promises() -> None:
    """In TRL's and in EasyR1's signature."""
    names = ["returns", "finite", "alone", "answer_order", "rejection", "bad_number"]
    options: dict[str, Any] = {"invariants": names, "max_examples": 20}
    reward = RankReward("vision_reasoner")
    by_hand = {"trainer_state": None}
    assert_reward(reward, signature="trl", arguments=by_hand, **options)
    assert_reward(
        compute_score,
        "vision_reasoner",
        signature="easyr1",
        arguments={"recipe": "vision_reasoner"},
        references=lambda objects: json.dumps({"reference": objects, "split": "train"}),
        **options,
    )


@pytest.mark.parametrize(
    ("reward", "options", "message"),
    [
        (sound, {}, "layout: expected a schema or a recipe"),
        (sound, {"layout": "boxs"}, "no schema or recipe 'boxs': did you mean 'boxes'"),
        (sound, {"layout": "boxes", "signature": "TRL"}, "signature: expected ours, trl, verl"),
        (sound, {"layout": "boxes", "skip": ["order"]}, "skip: no invariant 'order'"),
        (sound, {"layout": "boxes", "invariants": ["orders"]}, "invariants: no 'orders'"),
        (sound, {"layout": "boxes", "max_examples": 0}, "max_examples: expected a whole number"),
        (sound, {"layout": "dr_seg", "frame": (84, 84)}, "frame: a recipe has its own"),
        (sound, {"layout": "boxes", "frame": 840}, "frame: expected width and height, whole numb"),
        (sound, {"layout": "boxes", "frame": (10, 10)}, "whole numbers from 12, got (10, 10)"),
        (sound, {"layout": "boxes", "references": "yaml"}, "references: expected json, data, tag"),
        (sound, {"layout": "boxes", "bounds": (0,)}, "bounds: expected two numbers, the least"),
        (sound, {"layout": "boxes", "bounds": (1, 0)}, "the least and the most, got (1, 0)"),
        (sound, {"layout": "boxes", "thought": "<b>"}, "thought: expected a text without tags"),
        (3, {"layout": "boxes"}, "reward: expected a function, a Scorer or a recipe, got 3"),
        (easyr1, {"layout": "boxes", "signature": "easyr1", "columns": {"a": 1}}, "EasyR1 passes"),
    ],
)
def test_wrong_arguments_are_said(reward, options, message) -> None:
    """In one line: what was expected and what came."""
    with pytest.raises(rr.InputError, match=re.escape(message)):
        check_reward(reward, **options)


def test_a_counterexample_names_each_reference_once() -> None:
    """And again only where it changes."""
    call = Call(("a", "b"), ("[]", "[]"), (1.0, 2.0))
    shown = str(Counterexample((call, Call(("c",), ("[1]",), "nothing")), "more"))
    assert shown.count("reference ") == 2
    assert shown.splitlines()[-1] == "expected    more"


def test_a_reward_that_is_wrong_once_is_found() -> None:
    """A broken invariant that does not come again is told, and that it did not."""
    turns = itertools.count()

    def moody(completions, references):
        return [each + (next(turns) == 20) for each in sound(completions, references)]

    report = check_reward(moody, "boxes", invariants=["returns", "draft"], max_examples=50)
    assert report["draft"].status == "passed" or "came once" in str(report["draft"])
    turns = itertools.count(-report["returns"].examples * 3)
    report = check_reward(moody, "boxes", invariants=["deterministic"], max_examples=50)
    assert "this came once and not again" in str(report["deterministic"])
