"""Each invariant finds what breaks it, and is not broken by what breaks another."""

from __future__ import annotations

import json
import re

import pytest
from defective_rewards import backtracks, iou, matched, read, soft, sound

from rankreward.testing import INVARIANTS, check_reward


def each_row(pay):
    """A reward of one completion and the objects to find, as a reward of a batch."""

    def reward(completions, references):
        return [
            pay(text, json.loads(reference))
            for text, reference in zip(completions, references, strict=True)
        ]

    return reward


def base(text, truth):
    said = read(text)
    return 0.0 if said is None else 1.0 + soft(said, truth)


def too_few(completions, references):
    return sound(completions, references)[1:]


@each_row
def no_number(text, truth):
    return base(text, truth) if text.startswith("<think>") else float("nan")


@each_row
def long_numbers(text, truth):
    if re.search(r"[0-9]{4301}", text):
        raise ValueError("more digits than Python takes")
    return base(text, truth)


class Remembers:
    """Pays more for the batch that it was asked about last."""

    def __init__(self):
        self.last = None

    def __call__(self, completions, references):
        asked, again = (list(completions), list(references)), self.last
        self.last = asked
        return [each + 0.01 * (asked == again) for each in sound(completions, references)]


def takes_away(completions, references):
    paid = sound(completions, references)
    completions.clear()
    return paid


def counts_others(completions, references):
    return [each + (len(completions) > 2) for each in sound(completions, references)]


@each_row
def likes_manners(text, truth):
    return base(text, truth) if text.startswith("<think>") else 5.0


@each_row
def counts_alone(text, truth):
    said = read(text) or []
    places = {tuple(each["bbox_2d"]) for each in said} - {(0, 0, 840, 840)}
    return 2.0 if len(places) == len(said) == len(truth) > 0 else base(text, truth)


@each_row
def best_first(text, truth):
    said = read(text) or []
    worth = [max((iou(one, other) for other in truth), default=0.0) for one in said]
    behind = len(worth) > 1 and worth[0] < 0.5 <= worth[-1]
    return base(text, truth) - 0.001 * behind


@each_row
def looks_at_the_first(text, truth):
    return base(text, truth) + 0.01 * first_is_left(truth)


def first_is_left(truth):
    return len(truth) > 1 and truth[0]["bbox_2d"] < truth[1]["bbox_2d"]


@each_row
def nan_is_right(text, truth):
    return 2.0 if "NaN" in text else base(text, truth)


@each_row
def nothing_is_anything(text, truth):
    return 2.0 if not truth and read(text) is not None else base(text, truth)


@each_row
def reads_thoughts(text, truth):
    return max(base(text, truth), base_of(re.findall(r"\[\{[^<]*(?=</think>)", text), truth))


def base_of(thoughts, truth):
    ends = "</answer>" if thoughts else ""
    return base(f"<answer>{''.join(thoughts[:1])}{ends}", truth) if thoughts else 0.0


@each_row
def dislikes_drafts(text, truth):
    return base(text, truth) - 0.1 * ("[" in text.partition("</think>")[0])


@each_row
def likes_a_third(text, truth):
    said = read(text)
    if said is None or not said or not truth:
        return base(text, truth)
    worth = [iou(*pair) for pair in matched(said, truth, iou)]
    bent = [0.9 if 0.2 < each < 0.4 else each for each in worth]
    return 1.0 + sum(bent) / max(len(said), len(truth))


def share(said, truth, count):
    return 1.0 + sum(iou(*pair) for pair in matched(said, truth, iou)) / count


@each_row
def likes_copies(text, truth):
    said = read(text) or []
    return base(text, truth) + 0.05 * (len({str(each) for each in said}) < len(said))


@each_row
def extras_are_free(text, truth):
    said = read(text)
    return share(said, truth, len(truth)) if said and truth else base(text, truth)


@each_row
def omissions_are_free(text, truth):
    said = read(text)
    return share(said, truth, len(said)) if said and truth else base(text, truth)


@each_row
def likes_the_frame(text, truth):
    everything = read(text) == [{"bbox_2d": [0, 0, 840, 840]}] and len(truth) == 1
    return 2.0 if everything else base(text, truth)


BREAKS = {
    "returns": too_few,
    "finite": no_number,
    "extremes": long_numbers,
    "bounded": sound,
    "deterministic": Remembers(),
    "inputs_unchanged": takes_away,
    "alone": counts_others,
    "perfect_pays_most": likes_manners,
    "right_beats_wrong": counts_alone,
    "answer_order": best_first,
    "reference_order": looks_at_the_first,
    "duplicates": likes_copies,
    "extra_object": extras_are_free,
    "missing_object": omissions_are_free,
    "whole_frame": likes_the_frame,
    "bad_number": nan_is_right,
    "rejection": nothing_is_anything,
    "answer_block": reads_thoughts,
    "draft": dislikes_drafts,
    "closer": likes_a_third,
    "linear_cost": backtracks,
}


def test_every_invariant_has_a_reward_that_breaks_it() -> None:
    """None is left out, here and in the report of a reward."""
    assert list(BREAKS) == [each.name for each in INVARIANTS]


@pytest.mark.parametrize("name", BREAKS)
def test_each_invariant_alone_is_broken(name: str) -> None:
    """A reward that breaks one promise, and keeps all others, is found by that one alone."""
    report = check_reward(
        BREAKS[name],
        "boxes",
        bounds=(0.0, 1.5) if name == "bounded" else None,
        skip=() if name == "linear_cost" else ("linear_cost",),
        max_examples=25,
    )
    assert [each.name for each in report.failures] == [name], str(report)
