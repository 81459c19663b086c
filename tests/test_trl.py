"""The adapter inside TRL's released trainer: steps, evaluation, logs, terms, resume, errors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import G1, Boxes, entry, wrap
from tiny import BATCH, GROUP, rows, trainer
from transformers import TrainerCallback

import rankreward as rr
from policy import RECIPE
from rankreward.adapters.trl import RankReward

# TRL and PyTorch warn of their own deprecations; what this library does raises all the same.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:(trl|transformers|torch|accelerate).*")


class Flushes(TrainerCallback):
    """Notes the window's size after each step."""

    def __init__(self, reward: RankReward) -> None:
        self.reward, self.sizes = reward, []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sizes.append((state.global_step, self.reward.scorer.quantiles.size))
        assert self.reward.scorer.quantiles.pending == 0


def test_training_fills_the_window_step_by_step(tmp_path: Path) -> None:
    """Every step's rollouts enter the window at its end, and the log has every name."""
    reward = RankReward(RECIPE)
    seen = Flushes(reward)
    run = trainer(tmp_path, reward, callbacks=[reward.callback(), seen], log_completions=True)
    run.train()
    assert seen.sizes == [(step, 128 + BATCH * step) for step in (1, 2, 3)]
    entry = next(entry for entry in run.state.log_history if "reward" in entry)
    metrics = ("iou", "count", "point")
    formats = ("think_format", "answer_format", "look", "non_repeat")
    expected = {f"rankreward/{kind}/{name}" for kind in ("raw", "rank") for name in metrics}
    expected |= {f"rankreward/term/{name}" for name in (*formats, *metrics)}
    expected |= {"rankreward/failures", "rewards/dr_seg/mean"}
    assert expected <= entry.keys()
    shares = [entry[f"rankreward/term/{name}"] for name in (*formats, *metrics)]
    assert sum(shares) == pytest.approx(entry["reward"], abs=1e-5)
    table = pd.read_parquet(next(tmp_path.glob("completions/*.parquet")))
    assert "failure" in table.columns
    bad = table["dr_seg"] < 4 - 1e-6
    assert (table.loc[bad, "failure"] != "").all()


def test_evaluation_enters_no_window(tmp_path: Path) -> None:
    """Evaluation batches are scored by the same object and recorded nowhere."""
    reward = RankReward(RECIPE)
    run = trainer(
        tmp_path, reward,
        eval_dataset=rows(4, split="eval"), eval_strategy="steps", eval_steps=1,
        per_device_eval_batch_size=BATCH, num_generations_eval=GROUP,
    )  # fmt: skip
    run.train()
    assert reward.scorer.quantiles.size == 128 + 3 * BATCH
    assert reward.scorer.quantiles.pending == 0
    evaluated = [entry for entry in run.state.log_history if "eval_reward" in entry]
    assert len(evaluated) == 3
    assert "eval_rankreward/raw/iou" in evaluated[0]
    run.evaluate()
    assert reward.scorer.quantiles.pending == 0


@pytest.mark.parametrize(
    ("accumulation", "per_generation", "iterations", "calls", "sizes"),
    [
        (2, None, 1, 2, [16, 32]),
        (2, 1, 1, 4, [16, 32]),
        (1, 2, 1, 1, [16, 16]),
        (4, 2, 1, 4, [32, 64]),
        (1, 4, 1, 1, [32, 32]),
        (1, 1, 2, 1, [8, 8]),
        (2, 2, 2, 1, [16, 16]),
        (1, 2, 2, 1, [16, 16]),
        (4, 1, 2, 4, [16, 32]),
    ],
)
def test_steps_that_generate_more_or_less_often(
    tmp_path: Path,
    accumulation: int,
    per_generation: int | None,
    iterations: int,
    calls: int,
    sizes: list[int],
) -> None:
    """Each generated rollout enters once, at the end of the step that scored it."""
    reward = RankReward(RECIPE)
    seen, spy = Flushes(reward), Spy(reward.scorer)
    trainer(
        tmp_path, reward, callbacks=[reward.callback(), seen], max_steps=2,
        gradient_accumulation_steps=accumulation, steps_per_generation=per_generation,
        num_iterations=iterations, max_completion_length=8,
    ).train()  # fmt: skip
    assert [size - 128 for _, size in seen.sizes] == sizes
    assert spy.calls == calls


class Spy:
    """Counts the batches that a scorer scores."""

    def __init__(self, scorer: rr.Scorer) -> None:
        self.calls, self._score = 0, scorer.score
        scorer.score = self  # type: ignore[method-assign, assignment]

    def __call__(self, *args: Any, **kwargs: Any) -> rr.RewardBatch:
        self.calls += 1
        return self._score(*args, **kwargs)


def test_terms_as_separate_rewards_score_once(tmp_path: Path) -> None:
    """For GDPO each term is a reward of its own; a batch is still parsed and recorded once."""
    reward = RankReward(RECIPE)
    spy = Spy(reward.scorer)
    run = trainer(
        tmp_path, reward, funcs=reward.terms(),
        multi_objective_aggregation="normalize_then_sum", max_steps=2,
    )  # fmt: skip
    run.train()
    assert spy.calls == 2
    assert reward.scorer.quantiles.size == 128 + 2 * BATCH
    entry = next(entry for entry in run.state.log_history if "reward" in entry)
    names = [*RECIPE.terms, *RECIPE.accuracy.metrics]
    for name in names:
        assert entry[f"rewards/{name}/mean"] == pytest.approx(
            entry[f"rankreward/term/{name}"], abs=1e-6
        )


def test_reward_and_terms_together_are_refused(tmp_path: Path) -> None:
    """Passing both would pay everything twice."""
    reward = RankReward(RECIPE)
    run = trainer(tmp_path, reward, funcs=[reward, *reward.terms()])
    with pytest.raises(rr.StateError, match="expected the reward or its terms, got both"):
        run.train()


def test_terms_sum_to_the_reward() -> None:
    """Called by hand, the terms add up to what the object itself pays."""
    reward = RankReward("dr_seg")
    completions = [[{"role": "assistant", "content": text}] for text in (wrap(G1), "x", wrap([]))]
    columns = {"solution": [json.dumps(G1)] * 3}
    total = reward(completions=completions, prompts=["p"] * 3, **columns)
    parts = [term(completions=completions, **columns) for term in reward.terms()]
    assert np.sum(parts, axis=0) == pytest.approx(total)
    assert [term.__name__ for term in reward.terms()] == list(
        rr.Scorer("dr_seg").score([""], ["[]"]).terms
    )
    assert reward.scorer.quantiles.pending == 3


def test_a_list_that_is_used_again_is_scored_again() -> None:
    """What is shared is one batch among the terms, never yesterday's answer."""
    reward, completions = RankReward("dr_seg"), [wrap(G1)]
    iou = next(term for term in reward.terms() if term.__name__ == "iou")
    for call, good, bad in ((reward, [5.0], [4 + 1 / 3]), (iou, [1 / 3], [0.0])):
        reward.scorer.quantiles.reset()
        reward.scorer.quantiles.push([[0.5, 1.0, 0.5]] * 2048)
        reward.scorer.flush(0)
        assert call(completions=completions, solution=[json.dumps(G1)]) == pytest.approx(good)
        far = [entry([700, 700, 800, 800], [750, 750])]
        assert call(completions=completions, solution=[json.dumps(far)]) == pytest.approx(bad)


def test_resumed_run_has_the_window_of_an_unbroken_one(tmp_path: Path) -> None:
    """The window is kept with the checkpoint and comes back with it."""
    first = RankReward(RECIPE)
    trainer(tmp_path, first, max_steps=2, save_strategy="steps", save_steps=2).train()
    assert (tmp_path / "checkpoint-2" / "rankreward.npz").exists()
    second = RankReward(RECIPE)
    seen = Flushes(second)
    resumed = trainer(tmp_path, second, max_steps=3, callbacks=[second.callback(), seen])
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert seen.sizes == [(3, 128 + 3 * BATCH)]
    window = first.scorer.quantiles.rows
    assert second.scorer.quantiles.rows[: len(window)].tobytes() == window.tobytes()


def test_resume_without_the_window_is_an_error(tmp_path: Path) -> None:
    """A run never goes on with an empty window in silence."""
    first = RankReward(RECIPE)
    trainer(tmp_path, first, max_steps=1, save_strategy="steps", save_steps=1).train()
    saved = tmp_path / "checkpoint-1" / "rankreward.npz"
    saved.rename(tmp_path / "elsewhere.npz")
    second = RankReward(RECIPE)
    run = trainer(tmp_path, second, max_steps=2)
    with pytest.raises(rr.StateError, match=r"resuming at step 1, expected the window in .*npz"):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    second.scorer.load(tmp_path / "elsewhere.npz")
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert second.scorer.quantiles.step == 2


def test_resume_in_the_same_process_forgets_the_broken_step(tmp_path: Path) -> None:
    """Rows of a step that was broken off do not enter the window twice."""
    reward = RankReward(RECIPE)
    seen = Flushes(reward)

    class Break(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    run = trainer(
        tmp_path, reward, callbacks=[reward.callback(), seen, Break()],
        save_strategy="steps", save_steps=1,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert reward.scorer.quantiles.pending == BATCH
    again = trainer(tmp_path, reward, callbacks=[reward.callback(), seen], max_steps=3)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert seen.sizes[-1] == (3, 128 + 3 * BATCH)


def test_a_second_run_needs_a_fresh_window(tmp_path: Path) -> None:
    """A new run on an old window says so before it pays for a single rollout."""
    reward = RankReward(RECIPE)
    trainer(tmp_path, reward, max_steps=1).train()
    second = trainer(tmp_path, reward, max_steps=1)
    with pytest.raises(rr.StateError, match=r"rows up to step 1: call reward.scorer.quantiles.re"):
        second.train()
    reward.scorer.quantiles.reset()
    second.train()
    assert reward.scorer.quantiles.size == 128 + BATCH


def test_resume_refuses_the_window_of_another_run(tmp_path: Path) -> None:
    """A checkpoint of one run is not resumed with what another left in the output folder."""
    for name, lr in (("a", 1e-3), ("b", 1e-2)):
        reward = RankReward(RECIPE)
        trainer(
            tmp_path / name, reward, max_steps=2, save_strategy="steps", save_steps=2,
            learning_rate=lr,
        ).train()  # fmt: skip
    reward = RankReward(RECIPE)
    run = trainer(tmp_path / "b", reward, max_steps=3)
    with pytest.raises(rr.StateError, match="got another run's"):
        run.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))


def test_trainer_without_the_callback_is_an_error(tmp_path: Path) -> None:
    """Without its callback no step would ever end; the first batch says so."""
    run = trainer(tmp_path, RankReward(RECIPE), callbacks=[])
    with pytest.raises(rr.StateError, match=r"callbacks=\[reward.callback\(\)\]"):
        run.train()


def test_dataset_without_the_reference_column(tmp_path: Path) -> None:
    """A missing column is named beside those that are there."""
    reward = RankReward(RECIPE)
    run = trainer(tmp_path, reward, train_dataset=rows(8).rename_column("solution", "answer"))
    with pytest.raises(
        rr.InputError, match=r"expected a column .solution. .* got the columns answer, image; name"
    ):
        run.train()


def test_reference_column_by_name(tmp_path: Path) -> None:
    """Another column may hold the references."""
    reward = RankReward(RECIPE, reference="answer")
    run = trainer(
        tmp_path, reward, train_dataset=rows(8).rename_column("solution", "answer"), max_steps=1
    )
    run.train()
    assert reward.scorer.quantiles.size == 128 + BATCH


@pytest.mark.parametrize(
    "completion", [[], [{"role": "assistant"}], 3, [{"content": 1}], [{"content": "a"}] * 2]
)
def test_completions_of_another_shape(completion: Any) -> None:
    """What is neither a text nor a chat message is the trainer's fault, and said."""
    with pytest.raises(
        rr.InputError, match=r"completions\[0\]: expected a text or a list with one"
    ):
        RankReward("dr_seg")(completions=[completion], solution=["[]"])


def test_reasoning_that_was_taken_out_is_put_back() -> None:
    """With some chat templates TRL hands over the think block apart from the rest."""
    reasoning, content = "Two cups. <look>the red one</look>", f"<answer>{json.dumps(G1)}</answer>"
    message = {"role": "assistant", "reasoning_content": reasoning, "content": content}
    assert RankReward("dr_seg")(completions=[[message]], solution=[json.dumps(G1)]) == [5.0]


def test_a_copy_for_another_process_is_refused() -> None:
    """A trainer that scores in a child process could never end a step there."""
    with pytest.raises(rr.StateError, match="cannot go to another process"):
        pickle.dumps(RankReward("dr_seg"))


def test_plain_texts_are_completions_too() -> None:
    """Data that is not conversational arrives as strings."""
    assert RankReward("dr_seg")(completions=[wrap(G1)], solution=[json.dumps(G1)]) == [5.0]


def test_what_a_recipe_needs_comes_from_the_datasets_columns() -> None:
    """Columns by their names, lengths from the tokens, images from `image` or `images`."""
    seg_zero = {"bbox": [100, 100, 300, 300], "points_1": [200, 180], "points_2": [200, 220]}
    text = f"<think>It.</think><answer>{json.dumps(seg_zero)}</answer>"
    columns = {"solution": [seg_zero] * 2, "difficulty": [1, 1], "uncertainty": [0.5, 0.5]}
    reward = RankReward("pixel_think")
    totals = reward([text, text], completion_ids=[[0] * 96, [0] * 196], **columns)
    assert totals == pytest.approx([5, 4])
    with pytest.raises(rr.InputError, match="columns: expected difficulty, uncertainty, tokens"):
        reward([text], solution=[seg_zero])

    mask = np.zeros((100, 100), dtype=bool)
    mask[20:60, 20:60] = True
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    found = {"bbox_2d": [200, 200, 600, 400], "point_1": [300, 300], "point_2": [400, 300]}
    in_the_loop = RankReward("genseg_r1_g", segmenter=Boxes())
    for images in ({"image": [image]}, {"images": [[image]]}):
        totals = in_the_loop([wrap([found], think="It.")], solution=[{"mask": mask}], **images)
        assert totals == pytest.approx([3])
    with pytest.raises(rr.InputError, match="looks at the images, got none"):
        in_the_loop([wrap([found])], solution=[{"mask": mask}])


def test_terms_of_a_clipped_recipe_add_up() -> None:
    """What the clip takes is a function of its own, so that their sum is the reward."""
    reward = RankReward("perception_r1_detection")
    truth = [{"bbox_2d": [100, 100, 300, 300], "label": "cup"}]
    texts = ['<answer>[{"bbox_2d": [0, 0, 9, 9], "label": "cup"}]</answer>']
    terms = reward.terms()
    values = [term(texts, solution=[truth])[0] for term in terms]
    assert [term.__name__ for term in terms][-1] == "clip"
    assert sum(values) == pytest.approx(reward(texts, solution=[truth])[0])


def test_groups_are_the_trainers(tmp_path: Path) -> None:
    """A normalizer that looks at groups is told them: neighbours, as many as the trainer samples."""
    seen: list[Any] = []
    reward = RankReward(RECIPE.override({"accuracy.normalizer": {"kind": "group", "eps": 1e-4}}))
    score = reward.scorer.score

    def spy(*args: Any, **kwargs: Any) -> rr.RewardBatch:
        seen.append(kwargs["groups"])
        return score(*args, **kwargs)

    reward.scorer.score = spy  # type: ignore[method-assign]
    trainer(tmp_path, reward, callbacks=[reward.callback()]).train()
    assert seen
    for groups in seen:
        assert groups == [index // GROUP for index in range(len(groups))]


def test_groups_by_hand_are_a_column() -> None:
    """Where no trainer calls."""
    reward = RankReward("grpo_care")
    text = "<think>So.</think><answer>B</answer>"
    columns = {"solution": ["B"] * 4, "likelihood": [0.9, 0.1, 0.9, 0.1], "groups": [0, 0, 1, 1]}
    assert reward([text] * 4, **columns) == [2.5, 2, 2.5, 2]


def test_images_are_looked_for_in_the_trainers_order() -> None:
    """`images` before `image`, whichever is filled; a row without one is named."""
    mask = np.zeros((100, 100), dtype=bool)
    mask[20:60, 20:60] = True
    image, small = np.zeros((100, 100, 3), dtype=np.uint8), np.zeros((9, 9, 3), dtype=np.uint8)
    found = {"bbox_2d": [200, 200, 600, 400], "point_1": [300, 300], "point_2": [400, 300]}
    reward = RankReward("genseg_r1_g", segmenter=Boxes())
    text, solution = wrap([found], think="It."), [{"mask": mask}]
    assert reward([text], solution=solution, images=[[image]], image=[small]) == [3]
    assert reward([text], solution=solution, images=[None], image=[image]) == [3]
    with pytest.raises(rr.InputError, match=r"images\[1\]: recipe 'genseg_r1_g' looks at"):
        reward([text] * 2, solution=solution * 2, image=[image, None])
