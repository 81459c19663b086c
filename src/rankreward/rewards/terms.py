"""Terms: what is paid beside the accuracy, and what the whole is multiplied by.

Goes in: a batch and a term's settings. Comes out: a value a completion, before its weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.kinds import (
    Answer,
    Blocks,
    Caption,
    Consistency,
    Discriminative,
    Keyword,
    LengthBudget,
    NonRepeat,
    OwnTerm,
    Released,
    RevisionGain,
    Term,
)
from rankreward.metrics.text import discriminative, length_score, repeated_sentences_of
from rankreward.parsing import Failure, Objects, Response
from rankreward.parsing.prompts import PLACEHOLDERS
from rankreward.parsing.response import parse_for
from rankreward.recipe import Recipe
from rankreward.rewards.accuracy import Own, own_value, revision_potentials
from rankreward.rewards.images import crop
from rankreward.rewards.released import components, dpad
from rankreward.rewards.rollouts import Rollouts
from rankreward.rewards.similarity import Similarity
from rankreward.shaping import revision_gain
from rankreward.shaping.groups import group_index

Floats = NDArray[np.float64]

_FIRST_WORDS = {placeholder.split()[0] for placeholder in PLACEHOLDERS}


def term_values(  # noqa: C901 - one case a kind
    name: str,
    term: Term,
    rollouts: Rollouts,
    raw: dict[str, Floats],
    recipe: Recipe,
    own: Own,
    similarity: Similarity | None,
) -> Floats:
    """(B,) what one term says of each completion, before its weight.

    Args:
        name: the term's name in the recipe.
        term: its settings.
        rollouts: the batch.
        raw: its raw metrics.
        recipe: the recipe.
        own: the user's functions.
        similarity: compares images with texts, where the recipe needs it.

    Raises:
        InputError: a column or an image is missing or malformed, or a user's function or the
            similarity gives what it should not.
    """
    responses = rollouts.responses
    values: Sequence[bool] | NDArray[np.bool_]
    match term:
        case Blocks():
            values = [response.format_failure is None for response in responses]
        case Answer():
            values = rollouts.answered
        case Caption():
            values = [_captions(response.caption) for response in responses]
        case Keyword():
            values = [bool(response.looks) for response in responses]
        case NonRepeat():
            values = _fresh(responses, term.max_repeats)
        case Released():
            return np.array([each[name] for each in components(term.system, rollouts)], dtype=float)
        case OwnTerm():
            return np.array(
                [own_value(own, name, rollouts, i, term=True) for i in range(len(rollouts))],
                dtype=np.float64,
            )
        case RevisionGain():
            return _revision_gain(term, rollouts, recipe)
        case Consistency():
            return _consistency(term, rollouts, raw[term.metric])
        case Discriminative():
            assert similarity is not None
            return _discriminative(term, rollouts, recipe, similarity)
    return np.array(values, dtype=np.float64)


def length_factor(scale: LengthBudget, rollouts: Rollouts) -> Floats:
    r"""(B,) the factor of the whole reward, in [0, 1].

    .. math:: \min(1, \max(0, 1 - slope (L - B)))

    for a length L and a budget B; 1 where there is no limit.

    Source:
        PixelThink, whose released code counts words although it speaks of tokens.
    """
    difficulty = rollouts.numbers("difficulty", -np.inf)
    uncertainty = rollouts.numbers("uncertainty", 0, 1)
    if scale.unit == "tokens":
        length = rollouts.numbers("tokens", 0)
    else:
        length = np.array([len(each.text.split()) for each in rollouts.responses], dtype=float)
    hard = scale.hard + scale.per_uncertainty * uncertainty
    budget = np.where(difficulty >= scale.hard_from, hard, np.inf)
    budget[difficulty < scale.easy_below] = scale.easy
    return length_score(length, budget, scale.slope)


def _captions(caption: str | None) -> bool:
    """Whether a caption says something, and not what the prompt has in its place."""
    return bool(caption) and caption not in PLACEHOLDERS


def _fresh(responses: Sequence[Response], max_repeats: int) -> NDArray[np.bool_]:
    """The reasoning is judged where there is any; coordinates of the answer are no sentences."""
    texts = [each.text if each.think is None else each.think for each in responses]
    fresh = repeated_sentences_of(texts) <= max_repeats
    together = "".join(texts)  # in which a few searches find that nobody copied
    if any(word in together for word in _FIRST_WORDS):
        fresh &= [not any(each in text for each in PLACEHOLDERS) for text in texts]
    return fresh


def _revision_gain(term: RevisionGain, rollouts: Rollouts, recipe: Recipe) -> Floats:
    """A revision or an initial answer that cannot be read gains nothing."""
    assert recipe.response.frame is not None
    initials = rollouts.columns["initial"]
    first: dict[str, Objects | None] = {}  # revisions of one answer are read once
    for index, text in enumerate(initials):
        if text is not None and not isinstance(text, str):
            raise InputError(
                f"initial[{index}]: expected a completion or None, got {type(text).__name__}"
            )
        if text is None or text in first:
            continue
        first[text] = parse_for(text, recipe.response).answer
    gains = np.zeros(len(rollouts))
    rows, before, after = [], [], []
    for index, text in enumerate(initials):
        revised, original = rollouts.responses[index].answer, first.get(text)
        if revised is not None and original is not None:
            rows.append(index)
            before.append(original)
            after.append(revised)
    targets = [rollouts.objects(index) for index in rows]
    if rows:
        frame, surplus = recipe.response.frame, term.surplus
        start = revision_potentials(before, targets, frame, surplus=surplus)
        end = revision_potentials(after, targets, frame, surplus=surplus)
        gains[rows] = revision_gain(end, start)
    return gains


def _consistency(term: Consistency, rollouts: Rollouts, accuracy: Floats) -> Floats:
    """The accuracy of those right answers that the likelihood speaks for, else 0."""
    if rollouts.groups is None:
        raise InputError(
            "groups: expected one id a completion, which 'consistency' needs, got none"
        )
    likelihood = np.minimum(rollouts.numbers("likelihood", 0, 1), term.ceiling)
    # What does not apply is right where there was nothing to find, and counts for nothing else.
    accuracy = np.where(np.isnan(accuracy), rollouts.rightly_empty, accuracy)
    index = group_index(rollouts.groups, len(rollouts))
    groups = int(index.max(initial=-1)) + 1
    size = np.maximum(np.bincount(index, minlength=groups), 1)
    mean = (np.bincount(index, accuracy, groups) / size)[index]
    # Equal accuracies have a mean that is theirs but for its rounding.
    right = (accuracy > term.least) & (accuracy >= mean - 1e-12)
    count = np.maximum(np.bincount(index, right, groups), 1)
    usual = (np.bincount(index, likelihood * right, groups) / count)[index]
    return np.where(right & (likelihood >= usual - term.margin), accuracy, 0.0)


def _discriminative(
    term: Discriminative, rollouts: Rollouts, recipe: Recipe, similarity: Similarity
) -> Floats:
    """The caption against the crop of the reference's box and against the whole image."""
    assert recipe.response.frame is not None
    assert rollouts.images is not None
    frame = recipe.response.frame
    rows, crops, captions = [], [], []
    for index, response in enumerate(rollouts.responses):
        if recipe.released:
            caption, box = dpad.caption(response.text), dpad.target(rollouts.references[index])
        else:
            caption, box = response.caption, rollouts.objects(index).boxes[0]
        if caption and box is not None and (recipe.released or _captions(caption)):
            rows.append(index)
            try:
                crops.append(crop(rollouts.images[index], box, frame.width, frame.height))
            except InputError as error:
                error.add_note(f"in the image of completion {index}")
                raise
            captions.append(caption)
    values = np.zeros(len(rollouts))
    if not rows:
        return values
    wholes = [rollouts.images[index] for index in rows]
    both = _similarities(similarity, [*crops, *wholes], [*captions, *captions])
    target, whole = both[: len(rows)], both[len(rows) :]
    comparable = ~(np.isnan(target) | np.isnan(whole))
    for index in np.array(rows)[~comparable]:
        if rollouts.failures[index] is None:
            place = max(rollouts.responses[index].text.find("<caption>"), 0)
            message = "the caption cannot be compared with the image: it may be too long"
            rollouts.failures[index] = Failure("long_caption", message, place)
    values[np.array(rows)[comparable]] = discriminative(
        target[comparable], whole[comparable], term.form, term.temperature
    )
    return values


def _similarities(similarity: Similarity, images: Sequence[Any], texts: Sequence[str]) -> Floats:
    try:
        found = np.asarray(similarity(images, texts), dtype=np.float64)
    except Exception as error:
        error.add_note(f"while comparing {len(texts)} captions with crops and images")
        raise
    if found.shape != (len(texts),):
        raise InputError(
            f"similarity: expected one number a text, shape ({len(texts)},), got {found.shape}"
        )
    if (np.abs(found) > 1 + 1e-3).any():
        worst = found[np.argmax(np.abs(np.nan_to_num(found)))]
        raise InputError(f"similarity: expected cosines in [-1, 1], got {worst:g}")
    return found
