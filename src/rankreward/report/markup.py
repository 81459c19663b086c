"""HTML of cards and tables.

Goes in: cards, what they are filtered by, and tables. Comes out: the text of one page, made of
``page.html``, ``page.css`` and ``page.js``. Every text from outside passes `escape` on its way in.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from rankreward.report.cards import Card
from rankreward.report.frame import content_policy, read_part, table
from rankreward.tables import Sheet

_NO_STRATUM = "none"  # as in `rankreward.evaluation.summary`


class Source(NamedTuple):
    """What an ``img`` is made of: its address, and its size in pixels."""

    address: str
    width: int
    height: int


class Pictures:
    """The pictures of a page: in it while they are small together, else in a folder beside it.

    Args:
        page: the page's file.
        embed: how many bytes of JPEG the page may hold itself; with one more, all are files.
    """

    def __init__(self, page: Path, embed: int) -> None:
        self.folder = page.with_name(f"{page.stem}-pictures")
        self.room = embed
        self.held: list[bytes] = []
        self.sizes: list[tuple[int, int]] = []
        self.in_files = False

    def add(self, picture: Any) -> int | None:
        """Keep a PIL.Image; its place among the sources, None for None."""
        if picture is None:
            return None
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=85)
        self.held.append(content.getvalue())
        self.room -= len(self.held[-1])
        self.sizes.append(picture.size)
        if self.in_files or self.room < 0:
            self._spill()
        return len(self.sizes) - 1

    def sources(self) -> list[Source]:
        """One for each picture: a data URL, or a relative link."""
        if self.in_files:
            folder = quote(self.folder.name)
            links = [f"{folder}/{place:06d}.jpg" for place in range(len(self.sizes))]
        else:
            codes = [base64.b64encode(each).decode() for each in self.held]
            links = [f"data:image/jpeg;base64,{code}" for code in codes]
        return [Source(link, *size) for link, size in zip(links, self.sizes, strict=True)]

    def _spill(self) -> None:
        self.in_files = True
        self.folder.mkdir(exist_ok=True)
        for place, content in enumerate(self.held, len(self.sizes) - len(self.held)):
            (self.folder / f"{place:06d}.jpg").write_bytes(content)
        self.held.clear()


@dataclass(frozen=True, eq=False)
class Entry:
    """A sample on a page.

    Attributes:
        id: its name.
        sides: its cards, each with the name of its run, which is empty where there is one run. They
            need no pictures any more.
        pictures: for each side the place of its picture, None where there is none.
        facts: plain values that the page filters and sorts by: ``place``, ``score``, ``failures``,
            ``strata``; of a pair ``change``, ``size_of_change`` and ``changed``, too.
    """

    id: str
    sides: Sequence[tuple[str, Card]]
    pictures: Sequence[int | None]
    facts: Mapping[str, Any]


def page_of(
    title: str,
    notice: str,
    sheets: Sequence[Sheet],
    entries: Sequence[Entry],
    sources: Sequence[Source],
    *,
    label: str,
    kind: Literal["singles", "pairs"],
) -> str:
    """The page's text.

    Args:
        title: its heading.
        notice: a line below it.
        sheets: tables.
        entries: the samples, in the order in which they stand.
        sources: of the pictures, by place.
        label: what the score is called.
        kind: whether entries have one side or two.
    """
    style, script, entries = read_part("page.css"), read_part("page.js"), _with_all_strata(entries)
    cards = [_article(place, entry, sources) for place, entry in enumerate(entries)]
    # One pass: what is put in is not looked through for names again.
    return Template(read_part("page.html")).substitute(
        policy=content_policy(style, script),
        title=escape(title),
        notice=escape(notice),
        style=style,
        script=script,
        kind=kind,
        tables="\n".join(map(table, sheets)),
        filters="\n".join(_filters(entries, label, kind)),
        shown=f"{len(entries)} of {len(entries)} samples",
        cards="\n".join(cards),
    )


def _with_all_strata(entries: Sequence[Entry]) -> list[Entry]:
    """Entries that name every stratum that any of them names."""
    names = sorted({name for entry in entries for name, _ in entry.facts["strata"]})
    whole = [{**dict.fromkeys(names, _NO_STRATUM), **dict(e.facts["strata"])} for e in entries]
    return [
        replace(entry, facts={**entry.facts, "strata": list(strata.items())})
        for entry, strata in zip(entries, whole, strict=True)
    ]


def _filters(entries: Sequence[Entry], label: str, kind: str) -> list[str]:
    failures = Counter(code for entry in entries for code in entry.facts["failures"])
    options = [("", "all"), ("none", "nothing wrong"), ("any", "anything wrong")]
    options += [(f"={code}", f"{code} ({n})") for code, n in failures.most_common()]
    fields = [_select("failure", "Failure", options)]
    strata: dict[str, Counter[str]] = {}
    for entry in entries:
        for name, value in entry.facts["strata"]:
            strata.setdefault(name, Counter())[value] += 1
    for name, values in sorted(strata.items()):
        choices = [(f"={value}", f"{value} ({n})") for value, n in sorted(values.items())]
        fields.append(_select(f"stratum:{name}", name, [("", "all"), *choices]))
    fields += [_number("low", f"{label} from"), _number("high", "to")]
    orders = [
        ("data", "order of the data"),
        ("worst", f"lowest {label}"),
        ("best", f"highest {label}"),
    ]
    if kind == "pairs":
        changes = [("change", "largest change"), ("gain", "largest gain"), ("loss", "largest loss")]
        orders = [*changes, *orders]
        fields.append(
            '<label class="tick"><input type="checkbox" name="changed" value="1"> only changed'
            "</label>"
        )
    return [*fields, _select("sort", "Sort", orders)]


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f'<option value="{escape(v)}">{escape(text)}</option>' for v, text in options)
    return f'<label>{escape(label)}<select name="{escape(name)}">{inner}</select></label>'


def _number(name: str, label: str) -> str:
    return (
        f'<label>{escape(label)}<input type="number" name="{name}" min="0" max="1" step="0.05">'
        "</label>"
    )


def _article(place: int, entry: Entry, sources: Sequence[Source]) -> str:
    query = next((card.query for _, card in entry.sides if card.query), "") or "(no query)"
    strata = [f"{name} {value}" for name, value in entry.facts["strata"]]
    sides = [
        _side(name, card, None if picture is None else sources[picture])
        for (name, card), picture in zip(entry.sides, entry.pictures, strict=True)
    ]
    return (
        f'<article class="card" id="card-{place}" aria-labelledby="query-{place}" '
        f'data-facts="{escape(json.dumps(entry.facts))}">\n'
        f'<h3 id="query-{place}" dir="auto">{escape(query)}</h3>\n'
        f'<p class="about">{escape("; ".join([entry.id, *strata]))}</p>\n'
        f'<div class="sides">{"".join(sides)}</div>\n</article>'
    )


def _side(name: str, card: Card, source: Source | None) -> str:
    numbers = card.numbers()
    said = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in numbers.items())
    head = f"<h4>{escape(name)}</h4>" if name else ""
    parts = [f"<dl>{said}</dl>"]
    if card.problem:
        parts.append(f'<p class="problem" dir="auto">{escape(card.problem)}</p>')
    for block, stretches in card.texts.items():
        text = "".join(
            f"<mark>{escape(part.text)}</mark>" if part.looked else escape(part.text)
            for part in stretches
        )
        parts.append(f'<h4>{block}</h4><div class="text" dir="auto">{text}</div>')
    if card.completion:
        written = f'<pre dir="auto">{escape(card.completion)}</pre>'
        parts.append(f"<details><summary>As written</summary>{written}</details>")
    picture = "<p>(no picture)</p>" if source is None else _image(name, card, source)
    words = f'<div class="words">{"".join(parts)}</div>'
    return f'<div class="side">{head}<div>{picture}</div>{words}</div>'


def _image(name: str, card: Card, source: Source) -> str:
    numbers = ", ".join(f"{key} {value}" for key, value in card.numbers().items())
    alt = ": ".join(filter(None, (name, card.query, card.problem or "", numbers)))
    return (
        f'<img src="{escape(source.address)}" alt="{escape(alt)}" '
        f'width="{source.width}" height="{source.height}" '
        'loading="lazy" decoding="async">'
    )
