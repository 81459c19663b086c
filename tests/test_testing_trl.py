"""What TRL allows of a reward is no finding: async functions, and rows without a reward."""

from __future__ import annotations

import asyncio

import pytest
from defective_rewards import sound

from rankreward.testing import check_reward

NAMES = ["returns", "finite", "deterministic", "alone", "right_beats_wrong", "extra_object"]


class Session:
    """An async reward that keeps a lock, which is bound to the loop that first waits for it."""

    def __init__(self):
        self.lock, self.loops = asyncio.Lock(), set()

    async def __call__(self, completions, solution, **kwargs):
        self.loops.add(asyncio.get_running_loop())
        await asyncio.gather(self.hold(), self.hold())
        return sound([message["content"] for (message,) in completions], solution)

    async def hold(self):
        async with self.lock:
            await asyncio.sleep(0)


def checked(reward, names=NAMES):
    return check_reward(reward, "boxes", signature="trl", invariants=names, max_examples=8)


def test_an_async_reward_has_one_loop_for_the_whole_check() -> None:
    """So that what it keeps from call to call stays usable."""
    reward = Session()
    report = checked(reward)
    assert report.passed, str(report)
    assert len(reward.loops) == 1


def test_an_async_reward_is_checked_inside_a_running_loop() -> None:
    """As in Jupyter; again in one loop, which is not the one that runs already."""
    reward = Session()

    async def notebook():
        reward.outside = asyncio.get_running_loop()
        return checked(reward)

    report = asyncio.run(notebook())
    assert report.passed, str(report)
    assert len(reward.loops) == 1
    assert reward.outside not in reward.loops


def test_what_an_async_reward_raises_is_shown() -> None:
    """As for any other."""

    async def raises(completions, **kwargs):
        raise ValueError("no service")

    assert "it raised ValueError: no service" in str(checked(raises)["returns"])


def where(applies):
    """A sound reward, and None where it does not apply."""

    def reward(completions, solution, **kwargs):
        paid = sound([message["content"] for (message,) in completions], solution)
        return [
            each if applies(message["content"], truth) else None
            for each, (message,), truth in zip(paid, completions, solution, strict=True)
        ]

    return reward


def test_a_row_without_a_reward_is_no_finding() -> None:
    """TRL leaves such rows out, so a reward for some tasks alone is sound."""
    report = checked(where(lambda _, truth: truth != "[]"), [*NAMES, "rejection", "bad_number"])
    assert report.passed, str(report)
    assert report["rejection"].note == "the reward raised, or paid None, on every example"


def test_a_reward_that_never_applies_passes_nothing_but_what_can_be_read() -> None:
    """What was not compared is skipped, not passed."""
    report = checked(where(lambda *_: False), NAMES)
    passed = [each.name for each in report.findings if each.status == "passed"]
    assert passed == ["returns", "finite"]
    assert not report.failures


def test_none_that_comes_by_chance_is_a_finding() -> None:
    """Whether there is a reward may not depend on who else is in the batch."""

    def reward(completions, solution, **kwargs):
        paid = sound([message["content"] for (message,) in completions], solution)
        return paid if len(paid) < 3 else [None, *paid[1:-1], None]

    report = checked(reward, ["returns", "alone"])
    assert [each.name for each in report.failures] == ["alone"]
    assert "None" in str(report["alone"].counterexample)


@pytest.mark.parametrize("thought", [None, "I look at the cup, then at the dog beside it."])
def test_the_reasoning_of_a_good_completion_can_be_given(thought) -> None:
    """A reward that asks for five words of reasoning pays nothing without, and passes with."""

    def reasoned(completions, references):
        paid = sound(completions, references)
        enough = [len(text.partition("</think>")[0].split()) >= 5 for text in completions]
        return [each * good for each, good in zip(paid, enough, strict=True)]

    names = ["returns", "right_beats_wrong", "bad_number", "extra_object", "draft", "closer"]
    report = check_reward(reasoned, "boxes", invariants=names, thought=thought, max_examples=10)
    assert report.passed == (thought is not None), str(report)


def test_an_unknown_name_of_a_report_is_said() -> None:
    """With those that there are."""
    report = checked(where(lambda *_: True), ["returns", "finite"])
    with pytest.raises(KeyError, match=r"no finding 'retuns', there are returns, finite"):
        report["retuns"]
