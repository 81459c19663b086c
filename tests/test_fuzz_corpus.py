"""Inputs that fuzzing kept: hostile completions, batches, references and recipes, read again.

`scripts/fuzz.py` makes more of them. Each says why it is kept; see `fuzzing` for what has to hold.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from fuzzing import (
    PUMPED_BY,
    TARGETS,
    WORDS,
    YAML,
    Case,
    check,
    faultless,
    mutate,
    pumped,
    random_how,
    read,
    read_cases,
    seed_text,
    settings_of,
    well_formed,
)

from rankreward.parsing import SCHEMAS
from rankreward.parsing.response import parse_for

CORPUS = Path(__file__).parent / "corpus"
CASES = {path.stem: read_cases(path) for path in sorted(CORPUS.glob("*.jsonl"))}

pytestmark = pytest.mark.filterwarnings("ignore:references")  # what released code reads otherwise


def test_the_corpus_is_small_and_says_why() -> None:
    """Each input is there once, for a reason, and all of them are below 300 kB."""
    cases = [case for kept in CASES.values() for case in kept]
    assert {case.target for case in cases} == set(TARGETS)
    assert all(case.why for case in cases)
    assert len({(case.target, case.text, json.dumps(case.how)) for case in cases}) == len(cases)
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000


@pytest.mark.parametrize("name", CASES)
def test_what_was_kept_is_read_as_it_should_be(name: str) -> None:
    """No exception; alone as in a batch; strictly as the slow twin; tolerantly no worse."""
    together: dict[str, list[Case]] = {}
    for case in CASES[name]:
        check([case])
        together.setdefault(json.dumps([case.target, case.how]), []).append(case)
    for cases in together.values():
        check(cases)


def test_what_was_kept_takes_linear_time() -> None:
    """A part of it that comes over and over takes no more than its length says."""
    rng = random.Random(0)  # noqa: S311 - the same ones in each run
    for case in rng.sample(CASES["completion"], 40):
        short, long = (Case(case.target, text, case.how) for text in pumped(rng, case.text, 20_000))
        if cpu_seconds(long) > 0.1:
            ratio = min(cpu_seconds(long) for _ in range(3)) / min(
                cpu_seconds(short) for _ in range(3)
            )
            assert ratio < 3 * PUMPED_BY, case


def cpu_seconds(case: Case) -> float:
    begin = time.thread_time()
    read(case)
    return time.thread_time() - begin


@pytest.mark.parametrize("target", TARGETS)
def test_new_inputs_are_read_too(target: str) -> None:
    """A few hundred that were never seen, the same ones in each run."""
    rng = random.Random(f"new {target}")  # noqa: S311 - likewise
    for _ in range({"completion": 40, "score": 8, "reference": 8, "recipe": 1}[target]):
        how = random_how(rng, target)
        words = YAML if target == "recipe" else WORDS
        texts = [mutate(rng, seed_text(rng, how, target), [], words) for _ in range(16)]
        check([Case(target, text, how) for text in texts])


@pytest.mark.parametrize(
    "schema", [name for name in SCHEMAS if SCHEMAS[name].form in {"list", "object"}]
)
def test_the_twin_reads_what_is_well_formed(schema: str) -> None:
    """It would be no witness if it refused everything."""
    rng = random.Random(schema)  # noqa: S311 - likewise
    for think in (True, False):
        how = {"schema": schema, "think": think, "keyword": None, "max_objects": 9}
        text = well_formed(rng, schema, think=think)
        assert faultless(text, settings_of(how)) is not None
        assert parse_for(text, settings_of(how)).failure is None
        assert faultless(text[:-1], settings_of(how)) is None
