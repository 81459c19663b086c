"""Every recipe: 128 rollouts, as `workload` writes them, and hostile texts.

Segmenter and similarity are stand-ins that cost next to nothing, so that what is timed is our own
share; reading the references and the images is a part of it.
"""

from __future__ import annotations

import itertools

import hostile_scores
import published
import pytest
import workload

import rankreward as rr
from rankreward.parsing import SCHEMAS

HISTORY = 16  # batches before the timed ones, which fill a window of 2048
RIVALS = {"dr_seg", "dr_seg-released"}  # whose published code has a stand-in


@pytest.mark.parametrize("name", rr.recipes())
def test_recipe(versus, benchmark, name):
    """Score 128 rollouts never seen before; the window takes them in between two rounds.

    The published reward of Dr. Seg is called rollout by rollout, its service in this process.
    """
    recipe = rr.Recipe.load(name)
    scorer, step = workload.make_scorer(recipe), itertools.count(1)
    queue = published.PublishedQueue()
    masked = workload.is_masked(recipe)

    def ours(batch):
        batch.score(scorer)

    def theirs(batch):
        for one, reference in zip(batch.completions, batch.references, strict=True):
            published.reward(one, reference, queue)

    def fresh(number):
        scorer.flush(next(step))
        queue.flush()
        return workload.make_batch(recipe, number)

    rivals = {"published, in process": theirs} if name in RIVALS else {}
    for number in range(0 if masked else HISTORY):  # a window is nothing beside the masks
        batch = fresh(1000 + number)
        for score in (ours, *rivals.values()):
            score(batch)
    versus(name, ours, rivals, fresh=fresh, rounds=11 if masked else 31)
    benchmark.extra_info.update(table="recipes", rollouts=workload.ROLLOUTS)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_hostile_parse(benchmark, schema):
    """The slowest and the least linear of all hostile texts, with every tolerance."""
    hostile_scores.record(benchmark, f"parse {schema}", *hostile_scores.parsing(schema))


@pytest.mark.parametrize("name", rr.recipes())
def test_hostile_score(benchmark, name):
    """Likewise through `Scorer.score`, one completion at a time: all terms and metrics."""
    hostile_scores.record(benchmark, f"score {name}", *hostile_scores.scoring(name))
