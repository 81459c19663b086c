"""Hostile inputs for the parsers, and what has to hold for each of them.

Goes in: a random generator and a pool of texts. Comes out: `Case`, an input of one of the targets
(a completion, a batch that is scored, a reference, a recipe's YAML), and `check`, which raises
where a parser does. `scripts/fuzz.py` makes millions of them, and `test_fuzz_corpus.py` replays
those that were kept.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

import rankreward as rr
from rankreward.compiled import warmup
from rankreward.metrics import text as sentences
from rankreward.parsing import SCHEMAS, Objects, Response
from rankreward.parsing.batch import parse_many
from rankreward.parsing.failure import FailureCode
from rankreward.parsing.numbers import LIMIT
from rankreward.parsing.response import TOLERANCES, parse_for
from rankreward.recipe import Frame, Recipe
from rankreward.recipe import Response as Settings
from rankreward.rewards.references import read_references

TARGETS = ("completion", "score", "reference", "recipe")
CODES = frozenset(get_args(FailureCode))
SHORT = 4000  # characters of a text that the slow twins are asked about
SIDE = 840
PUMPED_BY = 4  # times as long is the longer of two inputs that are timed against one another


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        target: which parser reads it.
        text: what it reads.
        how: for a completion the settings of `rankreward.recipe.Response`, for the others
            ``{"recipe": name}``, which a recipe's YAML does without.
        why: what it is kept for.
    """

    target: str
    text: str
    how: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    def line(self) -> str:
        """The case as a line of JSON; ASCII, so that half a surrogate pair comes back too."""
        return json.dumps(asdict(self))


def read_cases(path: Path) -> list[Case]:
    """The cases of a file."""
    return [Case(**json.loads(line)) for line in path.read_text(encoding="ascii").splitlines()]


# --- what has to hold -----------------------------------------------------------------------------


def check(cases: Sequence[Case]) -> list[str]:
    """Read cases of one target and one `how`, and say how each came out.

    Returns:
        An outcome a case: texts that differ where a parser went another way.

    Raises:
        Exception: whatever a parser should not have done.
    """
    first, texts = cases[0], [case.text for case in cases]
    if first.target == "completion":
        return _completions(texts, settings_of(first.how))
    if first.target == "score":
        return _scores(texts, first.how["recipe"])
    if first.target == "reference":
        return _references(texts, first.how["recipe"])
    return [_recipe(text) for text in texts]


def read(case: Case) -> None:
    """What a parser does with a text, and no more, to be timed."""
    if case.target == "completion":
        parse_for(case.text, settings_of(case.how))
        sentences.repeated_sentences(case.text)
    else:
        check([case])


def settings_of(how: dict[str, Any]) -> Settings:
    """The settings of a completion's case."""
    frame = None if how["schema"] == "text" else Frame(width=SIDE, height=SIDE)
    return Settings(frame=frame, **{**how, "tolerate": tuple(how.get("tolerate", ()))})


def _completions(texts: Sequence[str], settings: Settings) -> list[str]:
    """The parser's answers are in order, strict ones first, and the same in a batch."""
    warmup()
    responses = [parse_for(text, settings) for text in texts]
    for alone, together in zip(responses, parse_many(texts, settings), strict=True):
        assert facts(alone) == facts(together), "a batch reads otherwise"
    for response in responses:
        _in_order(response, settings)
        if settings.tolerate:
            _strict_first(response, settings)
        elif len(response.text) <= SHORT:
            _as_the_twin(response, settings)
    assert sentences.repeated_sentences_of(texts).tolist() == [
        sentences.repeated_sentences(text) for text in texts
    ]
    return [_outcome(response, settings) for response in responses]


def facts(response: Response) -> list[Any]:
    """All that a response says, arrays with their shapes and bytes."""
    found: list[Any] = []
    for value in vars(response).values():
        if isinstance(value, Objects):
            arrays = (value.boxes, value.points, value.signs)
            found += [None if a is None else (a.shape, a.dtype, a.tobytes()) for a in arrays]
            found.append(value.labels)
        else:
            found.append(value)
    return found


def _in_order(response: Response, settings: Settings) -> None:
    """What a response says is well formed, whatever the text."""
    for failure in (response.format_failure, response.answer_failure):
        if failure is not None:
            assert failure.code in CODES
            assert "\n" not in failure.message
            assert 0 <= failure.position <= len(response.text)
    assert all(look == look.strip() != "" for look in response.looks)
    assert response.think is None or response.think in response.text
    assert response.said is None or response.said == response.said.strip() != ""
    objects = response.answer
    if objects is None:
        return
    assert response.answer_failure is None
    assert len(objects) <= settings.max_objects
    assert objects.boxes.shape == (len(objects), 4)
    assert objects.points.shape[::2] == (len(objects), 2)
    assert bool((np.abs(objects.boxes) <= LIMIT).all())
    filled = np.isnan(objects.points) if objects.signs is not None else False
    assert bool((filled | (np.abs(objects.points) <= LIMIT)).all())


def _strict_first(response: Response, settings: Settings) -> None:
    """A tolerance changes nothing that is well formed, and makes nothing unreadable."""
    strict = parse_for(response.text, settings.model_copy(update={"tolerate": ()}))
    if strict.failure is None and "tag_case" not in settings.tolerate:
        assert facts(strict) == facts(response), "a tolerance changed what is well formed"
    assert response.answered or not strict.answered, "a tolerance made an answer unreadable"


def _as_the_twin(response: Response, settings: Settings) -> None:
    """The slow, short definition of a faultless completion agrees."""
    if settings.schema_ in {"prompt_tags", "text"}:
        return
    rows = faultless(response.text, settings)
    assert (rows is None) == (response.failure is not None), f"the twin reads {rows}"
    if rows is not None and response.answer is not None:
        boxes, points = response.answer.boxes, response.answer.points
        mine = np.hstack([boxes, points.reshape(len(boxes), 2 * points.shape[1])])
        if SCHEMAS[settings.schema_].box is None:
            mine = boxes[:, :2]
        assert mine.tolist() == rows


def faultless(text: str, settings: Settings) -> list[list[float]] | None:  # noqa: PLR0911
    """The numbers of a completion that nothing is wrong with, by string methods and `json`.

    The slow twin of `parse_for` without tolerances, for answers in JSON.
    """
    schema = SCHEMAS[settings.schema_]
    tags = (*(["think"] * settings.think), *schema.blocks)
    marks = {mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")}
    bodies: dict[str, str] = {}
    for tag in tags:
        body, closed, after = text.removeprefix(f"<{tag}>").partition(f"</{tag}>")
        if not text.startswith(f"<{tag}>") or not closed:
            return None
        # In the reasoning no mark may stand, and elsewhere none that opens this block or an earlier
        # one again: what closes a block that is closed, or opens a later one, is text there.
        begun = schema.blocks[: len(bodies) - settings.think + 1]
        wrong = marks if tag == "think" else {f"<{each}>" for each in begun}
        if any(mark in body for mark in wrong):
            return None
        bodies[tag], text = body, after if tag == tags[-1] else after.lstrip()
    if text or not bodies.get("caption", "a").strip():
        return None
    try:
        data = json.loads(bodies["answer"], object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    entries = data if schema.form == "list" else [data]
    if not isinstance(entries, list) or len(entries) > settings.max_objects:
        return None
    signs = sum(bodies["answer"].count(sign) for sign in "]}:,")
    if signs > 100 * (settings.max_objects + 1):
        return None
    rows = [_row(entry, schema) for entry in entries]
    return None if None in rows else rows


def _row(entry: Any, schema: Any) -> list[float] | None:
    if not isinstance(entry, dict):
        return None
    if schema.label and not isinstance(entry.get(schema.label), str):
        return None
    row: list[float] = []
    for key, size in zip(schema.keys, schema.sizes, strict=True):
        values = entry.get(key)
        if not isinstance(values, list) or len(values) != size:
            return None
        if not all(type(value) in {int, float} and abs(value) <= LIMIT for value in values):
            return None
        row += map(float, values)
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def _refuse(name: str) -> None:
    raise ValueError(name)


def _outcome(response: Response, settings: Settings) -> str:
    """How a completion came out, roughly."""
    codes = [
        failure and (failure.code, re.sub(r"\d+|'[^']*'", "", failure.message))
        for failure in (response.format_failure, response.answer_failure)
    ]
    count = None if response.answer is None else min(len(response.answer), 3)
    looks = min(len(response.looks), 2)
    return repr((settings.schema_, settings.think, codes, count, looks, settings.tolerate != ()))


REFERENCES = {
    "grounding_list": '[{"bbox_2d": [100, 100, 300, 300], "point_2d": [200, 200]}]',
    "keypoint_list": '[{"bbox_2d": [10, 10, 30, 30], "point_1": [20, 20], "point_2": [15, 15]}]',
    "grounding_object": '{"bbox": [10, 10, 30, 30], "points_1": [20, 20], "points_2": [15, 15]}',
    "captioned_object": '{"bbox": [10, 10, 30, 30], "points_1": [20, 20], "points_2": [15, 15]}',
    "boxes": '[{"bbox_2d": [10, 10, 30, 30]}]',
    "labelled_boxes": '[{"bbox_2d": [10, 10, 30, 30], "label": "cup"}]',
    "points": '[{"point_2d": [10, 10]}]',
    "text": "a cup",
}


@cache
def recipe_of(name: str) -> Recipe:
    """A recipe that ships with the library."""
    return Recipe.load(name)


@cache
def scored_recipes() -> tuple[str, ...]:
    """The recipes that need nothing but texts."""
    loaded = map(Recipe.load, rr.recipes())
    return tuple(
        each.name for each in loaded
        if not (each.needs_images or each.needs_groups or each.columns)
    )  # fmt: skip


def _scores(texts: Sequence[str], name: str) -> list[str]:
    """Rewards are finite, and those of a batch are those of its texts by themselves."""
    warmup()
    recipe = recipe_of(name)
    reference = REFERENCES[recipe.response.schema_]
    scorer = rr.Scorer(recipe)
    scorer.score(["a", "b"], [reference] * 2)
    scorer.flush(0)
    batch = scorer.score(texts, [reference] * len(texts))
    assert bool(np.isfinite(batch.total).all())
    outcomes = []
    for place, text in enumerate(texts):
        alone = scorer.score([text], [reference])
        assert alone.total[0].tobytes() == batch.total[place].tobytes(), "a batch scores otherwise"
        ours, theirs = (
            [np.asarray(values)[at].tobytes() for part in (each.terms, each.raw) for values in part.values()]
            for each, at in ((alone, 0), (batch, place))
        )  # fmt: skip
        assert ours == theirs, "a batch measures otherwise"
        terms = [round(float(values[0]), 1) for values in alone.terms.values()]
        outcomes.append(repr((name, terms)))
    return outcomes


def _references(texts: Sequence[str], name: str) -> list[str]:
    """A reference is read, or refused in a line; read again it is the same."""
    recipe = recipe_of(name)
    outcomes = []
    good = []
    for text in texts:
        try:
            (target,) = read_references([text], recipe)
        except rr.BadReferenceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - to go on with the others
            outcomes.append(repr((name, re.sub(r"[^a-z ]|got .*?:", "", str(error))[:60])))
            continue
        good.append((text, target))
        outcomes.append(repr((name, target.objects is not None and min(len(target.objects), 3))))
    again = read_references([text for text, _ in good], recipe) if good else []
    for (_, one), many in zip(good, again, strict=True):
        if one.objects is not None and many.objects is not None:
            assert one.objects.boxes.tobytes() == many.objects.boxes.tobytes()
            assert one.objects.points.tobytes() == many.objects.points.tobytes()
        assert one.text == many.text
    return outcomes


def _recipe(text: str) -> str:
    """A recipe's file is loaded, or refused in a line; written out it is the same."""
    with tempfile.NamedTemporaryFile("wb", suffix=".yaml") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        try:
            loaded = Recipe.load(file.name)
        except rr.ConfigError as error:
            said = str(error).removeprefix(file.name)
            assert "\n" not in said
            assert len(said) < 2000 + 2 * len(text)
            return re.sub(r"[^a-z ]", "", said.replace(file.name, ""))[:80]
    assert Recipe.load(loaded.to_dict()) == loaded
    return "loaded"


# --- hostile inputs -------------------------------------------------------------------------------

WORDS = (
    "<think>", "</think>", "<answer>", "</answer>", "<look>", "</look>", "<caption>", "</caption>",
    "<bbox>", "</bbox>", "<points>", "</points>", "<labels>", "</labels>", "<THINK>", "</Answer>",
    "<a>", "</a>", "<", "</", ">", "[", "]", "{", "}", ",", ":", '"', "'", "\\", "\\u00", "\\ud800",
    '"bbox_2d"', '"point_2d"', '"bbox"', '"points_1"', '"points_2"', '"point_1"', '"label"',
    "'bbox_2d'", "[1, 2, 3, 4]", "[5, 6]", "[]", "{}", "NaN", "Infinity", "-Infinity", "1e999", "-0",
    "-0.0", "1e6", "1000001", "9" * 25, "0." + "3" * 30, "true", "null", "True", "None", "```json",
    "```", "``", " ", "\n", "\r\n", "\t", "\x00", "\x1c", "\x85", "\u00e9", "\u2028", "\ufeff",
    "\U0001f600", "\ud800", "\u0130", "\uff11", "<|im_end|>", "a cup. ", ". ", "x",
)  # fmt: skip
YAML = (
    "name: x", "terms:", "accuracy:", "metrics:", "response:", "schema: boxes", "kind: blocks",
    "kind: ecdf", "weight: 1", "window: 8", "frame: {width: 1, height: 1}", "  ", "    ", "- ", ": ",
    "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!int ''", "!!bool x", "!!float ''", "!!timestamp x",
    "!!python/object:os.x {}", "!!set {a}", "!!binary x", "!!omap [a]", "!x y", "? ", "|\n", ">\n",
    "yes", "true", "null", "~", ".nan", ".inf", "1e999", "0x", "0b1", "1:60", "2001-99-99", "1_000",
    "9" * 5000, "'", '"', "#", "%YAML 9.9\n", "---\n", "...\n", "\n", "\t", "\x00", "\ufeff", "\udcff",
)  # fmt: skip


def random_how(rng: random.Random, target: str) -> dict[str, Any]:
    """How a text of that target is read."""
    if target == "recipe":
        return {}
    if target == "score":
        return {"recipe": rng.choice(scored_recipes())}
    if target == "reference":
        return {"recipe": rng.choice(scored_recipes())}
    think = rng.random() < 0.8
    return {
        "schema": rng.choice(list(SCHEMAS)),
        "think": think,
        "keyword": rng.choice(["look", "look", "any", "a", None]) if think else None,
        "max_objects": rng.choice([1, 2, 120]),
        "tolerate": sorted(t for t in TOLERANCES if rng.random() < 0.4) * (rng.random() < 0.5),
    }


def well_formed(rng: random.Random, schema_name: str, *, think: bool) -> str:
    """A completion that nothing is wrong with."""
    schema = SCHEMAS[schema_name]
    before = "<think>A cup. <look>the red one</look> So.</think>\n" if think else ""
    if schema.form == "text":
        return f"{before}<answer>a cup</answer>"
    if schema.form == "tags":
        boxes = "".join(f"<bbox>{_numbers(rng, 4)}</bbox>" for _ in range(rng.randint(1, 3)))
        return f"{before}{boxes}<points>[{_numbers(rng, 2)}]</points><labels>[1]</labels>"
    entries = [entry_of(rng, schema) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    body = f"[{', '.join(entries)}]" if schema.form == "list" else entry_of(rng, schema)
    after = "\n<caption>the left cup</caption>" if "caption" in schema.blocks else ""
    return f"{before}<answer>{body}</answer>{after}"


def entry_of(rng: random.Random, schema: Any) -> str:
    """An object of a JSON answer."""
    parts = [
        f'"{key}": {_numbers(rng, n)}' for key, n in zip(schema.keys, schema.sizes, strict=True)
    ]
    return "{" + ", ".join(parts + ['"label": "cup"'] * (schema.label is not None)) + "}"


def _numbers(rng: random.Random, count: int) -> str:
    kinds = (lambda: rng.randint(0, SIDE), lambda: round(rng.uniform(-9, SIDE), rng.randint(0, 20)))
    return json.dumps([rng.choice(kinds)() for _ in range(count)])


def seed_text(rng: random.Random, case_how: dict[str, Any], target: str) -> str:
    """A text to begin with."""
    if target == "recipe":
        names = rr.recipes()
        path = Path(rr.__file__).parent / "recipes" / f"{rng.choice(names)}.yaml"
        return path.read_text(encoding="utf-8")
    if target == "reference":
        return REFERENCES[recipe_of(case_how["recipe"]).response.schema_]
    if target == "score":
        response = recipe_of(case_how["recipe"]).response
        return well_formed(rng, response.schema_, think=response.think)
    if rng.random() < 0.05:
        return "".join(rng.choices(WORDS, k=rng.randint(0, 30)))
    return well_formed(rng, case_how["schema"], think=case_how["think"])


def mutate(rng: random.Random, text: str, pool: Sequence[str], words: Sequence[str]) -> str:
    """A text like another."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        start = rng.randint(0, len(text))
        stop = min(len(text), start + int(rng.expovariate(0.1)))
        part, what = text[start:stop], rng.randrange(9)
        if what <= 2:
            text = text[:start] + rng.choice(words) + text[start:]
        elif what == 3:
            text = text[:start] + text[stop:]
        elif what == 4:
            text = text[:start] + rng.choice(words) + text[stop:]
        elif what == 5:
            text = text[:stop] + part * rng.choice([1, 1, 2, 5, 50]) + text[stop:]
        elif what == 6:
            place = rng.randint(0, len(text))
            text = text[:place] + part + text[place:]
        elif what == 7:
            text = text[:start] + part.swapcase() + text[stop:]
        elif pool:
            other = rng.choice(pool)
            text = text[:start] + other[rng.randint(0, len(other)) :]
    return text[:20_000]


def pumped(rng: random.Random, text: str, length: int) -> tuple[str, str]:
    """A text in which one part comes over and over, and one `PUMPED_BY` times as long."""
    start = rng.randint(0, len(text))
    part = text[start : start + 1 + int(rng.expovariate(0.1))] or "x"
    count = max(1, length // len(part))
    short, long = (text[:start] + part * n + text[start:] for n in (count, PUMPED_BY * count))
    return short, long


def quiet() -> None:
    """Released recipes warn of what their code would have paid; that is no fault."""
    warnings.simplefilter("ignore")
