"""A run, or two runs side by side, as a page to look at.

Goes in: records, as `rankreward.evaluation.records.merge` reads them, and the samples they are of.
Comes out: one HTML file with a table of measures and a card a sample, to be filtered and sorted. It
works offline and takes nothing from elsewhere. What a policy wrote is text in it and nothing else;
the page's own policy (a Content-Security-Policy) would refuse to run it even so.

Needs the extra ``eval`` (Pillow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankreward.errors import InputError
from rankreward.evaluation.comparison import Comparison, compare_records
from rankreward.evaluation.protocols import Protocol
from rankreward.evaluation.records import Record, judged
from rankreward.evaluation.samples import Sample
from rankreward.evaluation.summary import find_protocol, summarise
from rankreward.recipe import Recipe
from rankreward.report.cards import Card, Which, make_cards, pick, scored_by
from rankreward.report.frame import page_file, write_file
from rankreward.report.markup import Entry, Pictures, page_of
from rankreward.tables import Sheet

EMBEDDED = 20_000_000  # bytes of images that a page holds itself, unless told otherwise


def write_page(
    path: str | Path,
    records: Sequence[Record],
    samples: Iterable[Sample],
    *,
    recipe: str | Recipe,
    protocol: str | Protocol,
    title: str = "Evaluation",
    by: str | None = None,
    which: Which = "first",
    most: int = 500,
    side: int = 640,
    embed: int = EMBEDDED,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[Iterable[Card]], Iterable[Card]] = iter,
) -> Path:
    """Write the page of one run.

    Args:
        path: the file, which ends in ``.html`` or ``.htm``; or a folder, for its ``index.html``.
        records: of the run, all of them: the measures are of all.
        samples: what the run was of.
        recipe: that of the run, which says how completions are laid out.
        protocol: how masks are scored.
        title: the page's heading.
        by: name of a stratum that a second table tells measures apart by; the cards can be filtered
            by any.
        which: of more than `most` records, which have a card; see `rankreward.report.cards.pick`.
        most: how many cards there are at most.
        side: the pictures' longer side in pixels.
        embed: how many bytes of JPEG the page holds itself. If the pictures together have more,
            all are files in a folder beside it, named as the page with ``-pictures``; 0 always
            makes files.
        resamples: of the intervals.
        level: of the intervals.
        seed: of the intervals.
        progress: wraps the loop over cards, as `tqdm.tqdm` does.

    Returns:
        The page's file.

    Raises:
        InputError: there is no record, samples are missing or other ones, or an argument is out of
            its range.

    Cost:
        Memory for the pictures up to `embed`, and for the texts.
    """
    if not records:
        raise InputError("write_page: expected at least one record, got none")
    file, protocol = page_file(path), find_protocol(protocol)
    chosen = list(records) if len(records) <= most else pick(records, which, most, protocol)
    cards = make_cards(chosen, samples, recipe=recipe, protocol=protocol, side=side)
    label, store = scored_by(records), Pictures(file, embed)
    entries = [_entry([("", card)], label, store) for card in progress(cards)]
    ends: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed}
    sheets = _sheets(records, protocol, by, ends)
    how = "" if len(chosen) == len(records) else f": the {which}, of {len(records)} in the run"
    notice = f"{len(chosen)} samples{how}. low, high: {level:.0%} interval over samples."
    page = page_of(title, notice, sheets, entries, store.sources(), label=label, kind="singles")
    return write_file(file, page)


def write_comparison(
    path: str | Path,
    before: Sequence[Record],
    after: Sequence[Record],
    samples: Iterable[Sample],
    *,
    recipe: str | Recipe,
    protocol: str | Protocol,
    recipe_before: str | Recipe | None = None,
    names: tuple[str, str] = ("before", "after"),
    title: str = "Comparison",
    by: str | None = None,
    most: int = 200,
    side: int = 560,
    embed: int = EMBEDDED,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Path:
    """Write the page of two runs on the same samples, a pair of cards a sample.

    The pairs whose score changed most come first: mask IoU as the protocol has it, else box IoU.
    Then come those of which only the failure or the count changed, then the rest.

    Args:
        path: as in `write_page`.
        before: records of the first run.
        after: records of the second.
        samples: what both were of; gone through twice.
        recipe: of the second run, and of the first one unless there is another.
        protocol: how masks are scored.
        recipe_before: of the first run.
        names: what the page calls the runs.
        title: the page's heading.
        by: as in `write_page`.
        most: how many pairs there are at most; only samples that both runs judged have one.
        side: as in `write_page`.
        embed: likewise.
        resamples: likewise.
        level: likewise.
        seed: likewise.
        progress: wraps the loop over pairs.

    Returns:
        The page's file.

    Raises:
        InputError: as in `write_page`; the runs have no judged sample in common, or differ in
            their references.
    """
    file, protocol = page_file(path), find_protocol(protocol)
    if most < 1:
        raise InputError(f"most: expected at least 1, got {most}")
    if iter(samples) is samples:
        raise InputError("samples: expected what can be gone through twice, got an iterator")
    ends: dict[str, Any] = {
        "most": len(after),
        "resamples": resamples,
        "level": level,
        "seed": seed,
    }
    comparison = compare_records(before, after, protocol, **ends)
    sheets = [comparison.sheet()]
    if by is not None:
        sheets.append(compare_records(before, after, protocol, by=by, **ends).sheet())
    first, second = ({r["id"]: r for r in judged(each)} for each in (before, after))
    deltas = {change.id: change.delta for change in comparison.changes}
    both = [name for name in first if name in second]
    ids = sorted(both, key=lambda name: _rank(first[name], second[name], deltas))[:most]
    makers = [
        make_cards(
            [run[name] for name in ids], samples, recipe=layout, protocol=protocol, side=side
        )
        for run, layout in ((first, recipe_before or recipe), (second, recipe))
    ]
    label = "mask IoU" if comparison.score == "gIoU" else "box IoU"
    store = Pictures(file, embed)
    entries = [
        _entry(list(zip(names, pair, strict=True)), label, store, deltas)
        for pair in progress(zip(*makers, strict=True))
    ]
    entries.sort(key=lambda entry: ids.index(entry.id))
    notice = _notice(comparison, len(ids), names, level)
    page = page_of(title, notice, sheets, entries, store.sources(), label=label, kind="pairs")
    return write_file(file, page)


def _sheets(
    records: Sequence[Record], protocol: Protocol, by: str | None, ends: Mapping[str, Any]
) -> list[Sheet]:
    """The measures of all, then by stratum, then what was wrong; nothing if nothing was judged."""
    if not judged(records):
        return []
    whole = summarise(records, protocol, **ends)
    sheets = [whole.sheet()]
    if by is not None:
        sheets.append(summarise(records, protocol, by=by, **ends).sheet())
    if whole.failures:
        rows = tuple(whole.failures.items())
        sheets.append(Sheet("What was wrong", ("failure", "samples"), rows))
    return sheets


def _entry(
    cards: Sequence[tuple[str, Card]],
    label: str,
    store: Pictures,
    deltas: Mapping[str, float] | None = None,
) -> Entry:
    """A sample's entry: its cards by the name of their run, and what the page filters by."""
    last = cards[-1][1]
    score = last.mask_iou if label == "mask IoU" else last.box_iou
    delta = (deltas or {}).get(last.id, 0.0)
    facts = {
        "place": last.place,
        "score": None if math.isnan(score) else score,
        "failures": [code for code in dict.fromkeys(card.code for _, card in cards) if code],
        "strata": list(last.strata.items()),
    }
    if deltas is not None:
        other = len({(card.code, card.count) for _, card in cards}) > 1
        facts |= {"change": delta, "size_of_change": abs(delta), "changed": delta != 0 or other}
    places = [store.add(card.picture) for _, card in cards]
    bare = [(name, replace(card, picture=None)) for name, card in cards]
    return Entry(last.id, bare, places, facts)


def _rank(
    before: Record, after: Record, deltas: Mapping[str, float]
) -> tuple[float, bool, int, str]:
    codes = [record["failure"] and record["failure"]["code"] for record in (before, after)]
    same = codes[0] == codes[1] and before["count"] == after["count"]
    return -abs(deltas.get(after["id"], 0.0)), same, after.get("place", 0), after["id"]


def _notice(comparison: Comparison, count: int, names: tuple[str, str], level: float) -> str:
    how = "" if count == comparison.both else f": those that changed most, of {comparison.both}"
    called = f"before: {names[0]}, after: {names[1]}; "
    return (
        f"{count} samples{how}. {'' if names == ('before', 'after') else called}difference: after "
        f"less before; low, high: its {level:.0%} interval over samples."
    )
