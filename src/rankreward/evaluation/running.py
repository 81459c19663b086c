"""Run a policy over samples, so that a kill costs a batch and no more.

Goes in: a policy, samples, a recipe and a segmenter. Comes out: a folder with ``settings.json`` and
``samples-<i>of<n>.jsonl``, a line a sample, which `rankreward.evaluation.records.merge` reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rankreward.errors import InputError, MissingExtraError, StateError
from rankreward.evaluation.facts import facts_of, framed
from rankreward.evaluation.policies import Completion, Completions, Policy
from rankreward.evaluation.protocols import PROTOCOLS
from rankreward.evaluation.records import (
    Record,
    RecordFile,
    has_records,
    read_records,
    record_files,
)
from rankreward.evaluation.samples import Question, Sample, Samples
from rankreward.evaluation.segmenters import Segmenter
from rankreward.evaluation.settings import describe, keep_settings
from rankreward.parsing.prompts import prompt
from rankreward.recipe import Recipe
from rankreward.rewards.similarity import Similarity

_FIRST = 8  # if as many samples fail the same way before any succeeds, the fault is not theirs


def run_policy(
    policy: Policy,
    samples: Samples,
    *,
    recipe: str | Recipe,
    out: str | Path,
    segmenter: Segmenter | None = None,
    similarity: Similarity | None = None,
    shard: tuple[int, int] = (0, 1),
    batch_size: int = 16,
    keep_masks: bool = False,
    protocol: str | None = None,
    retry_errors: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Let a policy answer samples, and keep what it said.

    A run that was killed goes on when it is called again: a sample with a line in any file of the
    folder is not asked again. Each batch is on the disk before the next one begins. What goes wrong
    with one sample costs that sample, whose line then says what; if the first 8 all fail the same
    way the run stops.

    Args:
        policy: answers prompts.
        samples: what is asked; `Samples.limit` makes fewer of them.
        recipe: writes the prompts, sizes the images and reads the answers.
        out: the folder.
        segmenter: makes masks of boxes and points, at the images' original size; None for boxes
            alone.
        similarity: for captions, such as `rankreward.ClipSimilarity`.
        shard: i and n, for every n-th sample from the i-th on; several processes may run shards
            of one run in one folder.
        batch_size: how many samples the policy is given at a time.
        keep_masks: whether to keep the predicted masks.
        protocol: name of the protocol that the run is meant for, kept with its settings; every
            protocol can be computed from its files.
        retry_errors: whether samples with an error are asked again.
        progress: called with the numbers of finished samples and of all in the shard.

    Returns:
        The shard's file.

    Raises:
        CheckpointError: the folder holds a run with other settings.
        InputError: an argument is another one, or the policy knows that it lacks answers.
        MissingExtraError: an optional package is missing.
        StateError: the first 8 samples fail the same way, or another process runs this shard.
    """
    recipe, folder = _checked(recipe, protocol, batch_size), Path(out)
    mine = samples.shard(*shard)
    settings = {
        "policy": describe(policy),
        "recipe": recipe.to_dict(),
        "prompt": prompt(recipe, "QUERY"),  # its words may be others in another release
        "segmenter": describe(segmenter),
        "similarity": describe(similarity),
        "protocol": protocol,
        "data": samples.fingerprint,
        "masks": keep_masks,
    }
    keep_settings(folder, settings, begun=has_records(folder))
    judge = partial(
        facts_of,
        recipe=recipe,
        segmenter=segmenter,
        similarity=similarity,
        keep_mask=keep_masks,
    )
    with RecordFile(folder / f"samples-{shard[0]}of{shard[1]}.jsonl") as file:
        todo = mine.without(_finished(folder, retry_errors=retry_errors))
        if hasattr(policy, "check"):
            policy.check(todo.ids)
        done, lines = len(mine) - len(todo), _Lines(file)
        for part in _batches(todo, batch_size):
            lines.write(_Batch(part, recipe).records(policy, judge))
            done += len(part)
            if progress is not None:
                progress(done, len(mine))
        lines.flush()
    return file.path


def _checked(recipe: str | Recipe, protocol: str | None, batch_size: int) -> Recipe:
    loaded = Recipe.load(recipe)
    if loaded.response.frame is None:
        raise InputError(f"recipe {loaded.name!r}: expected one that pays objects, not texts")
    if protocol is not None and protocol not in PROTOCOLS:
        raise InputError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
    return loaded


def _finished(folder: Path, *, retry_errors: bool) -> set[str]:
    return {
        record["id"]
        for file in record_files(folder)
        for record in read_records(file)
        if not (retry_errors and "error" in record)
    }


def _batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    part: list[Sample] = []
    for sample in samples:
        part.append(sample)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


class _Lines:
    """Where records go: to the file, but for failures that may be all there is.

    They are held back until one sample succeeds; so a run that stops leaves none of them behind,
    and asks these samples again when it is mended.
    """

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._held: list[Record] | None = []

    def write(self, records: list[Record]) -> None:
        if self._held is None:
            self._file.write(records)
            return
        self._held += records
        first = self._held[:_FIRST]
        kinds = {(record.get("stage"), _kind(record)) for record in first}
        if len(kinds) > 1 or None in {stage for stage, _ in kinds}:
            self.flush()
        elif len(first) == _FIRST:
            raise StateError(
                f"the first {_FIRST} samples all failed at the stage {first[0]['stage']!r}: "
                f"{first[0]['error']}"
            )

    def flush(self) -> None:
        """Write what was held back, and hold no more."""
        if self._held:
            self._file.write(self._held)
        self._held = None


def _kind(record: Record) -> str:
    """The class of an error."""
    return str(record.get("error", "")).partition(":")[0]


@dataclass(frozen=True)
class _Asked:
    sample: Sample
    question: Question
    image: Any
    prompt: str


class _Batch:
    """Some samples on their way to records."""

    def __init__(self, samples: Sequence[Sample], recipe: Recipe) -> None:
        self.samples, self.recipe = samples, recipe
        self._errors: dict[str, Record] = {}

    def records(self, policy: Policy, judge: Callable[..., dict[str, Any]]) -> list[Record]:
        """A record a sample, in order."""
        asked = [each for each in map(self._ask, self.samples) if each is not None]
        start = time.perf_counter()
        completions = _complete(policy, asked) if asked else []
        share = (time.perf_counter() - start) / max(len(asked), 1)
        judged = {
            each.sample.id: self._judge(each, completion, judge, share)
            for each, completion in zip(asked, completions, strict=True)
        }
        return [self._errors.get(s.id) or judged[s.id] for s in self.samples]

    def _ask(self, sample: Sample) -> _Asked | None:
        try:
            question = sample.load()
            image = framed(question.image, self.recipe)
            return _Asked(sample, question, image, prompt(self.recipe, question.query))
        except Exception as error:  # noqa: BLE001 - it costs this sample alone
            self._errors[sample.id] = _failed(sample, "sample", error)
            return None

    def _judge(
        self,
        asked: _Asked,
        completion: Completion | Exception,
        judge: Callable[..., dict[str, Any]],
        share: float,
    ) -> Record:
        if isinstance(completion, Exception):
            return _failed(asked.sample, "policy", completion)
        start = time.perf_counter()
        try:
            facts = judge(asked.question, completion.text)
        except Exception as error:  # noqa: BLE001 - likewise
            return _failed(asked.sample, "judgement", error)
        return {
            "id": asked.sample.id,
            "place": asked.sample.place,
            "completion": completion.text,
            "tokens": completion.tokens,
            "finish": completion.finish,
            **facts,
            "seconds": round(share + time.perf_counter() - start, 4),
        }


def _complete(policy: Policy, asked: Sequence[_Asked]) -> Completions:
    """The policy's answers; where it fails for all, one by one, to find whose fault it is."""
    try:
        answers = policy.complete(
            [each.image for each in asked],
            [each.prompt for each in asked],
            [each.sample.id for each in asked],
        )
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001 - likewise
        if len(asked) == 1:
            return [error]
        return [_complete(policy, [each])[0] for each in asked]
    if len(answers) != len(asked) or not all(
        isinstance(answer, Completion | Exception) for answer in answers
    ):
        raise InputError(
            f"policy: expected {len(asked)} of Completion or Exception, got {len(answers)} of "
            f"{sorted({type(answer).__name__ for answer in answers})}"
        )
    return answers


def _failed(sample: Sample, stage: str, error: Exception) -> Record:
    if isinstance(error, MissingExtraError):
        raise error
    said = f"{type(error).__name__}: {error}"
    return {"id": sample.id, "place": sample.place, "stage": stage, "error": said}
