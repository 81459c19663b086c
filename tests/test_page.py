"""Pages: what a policy wrote stays text, and what is clicked is what is shown."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_runs import HOSTILE, PROTOCOL, RECIPE, a_pair, a_run, samples, write, write_pair
from PIL import Image

import rankreward as rr
from rankreward.evaluation.comparison import compare_records
from rankreward.evaluation.samples import Question, Sample
from rankreward.evaluation.summary import summarise
from rankreward.report.cards import pick
from rankreward.report.page import write_comparison, write_page


class Page(HTMLParser):
    """The page as its tags, and the text in each."""

    def __init__(self, file: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(file.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in {"meta", "link", "img", "input"}:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(each["data-facts"] or "") for each in self.of("article")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("two"))


def test_page_is_one_sound_file(file: Path, pair_file: Path) -> None:
    """Every tag is closed, every id is there once, and every label and heading that is named is."""
    for each in (file, pair_file):
        page = Page(each)
        assert not page.open
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        named = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
        assert named <= set(ids)
        assert len(page.of("title")) == len(page.of("h1")) == len(page.of("main")) == 1
        assert page.of("html")[0]["lang"] == "en"


def test_page_takes_nothing_from_elsewhere(file: Path, pair_file: Path) -> None:
    """No address leads out of the page, in tags, style or script."""
    for each in (file, pair_file):
        page = Page(each)
        links = [a[k] for _, a in page.tags for k in ("src", "href", "action", "srcset") if k in a]
        assert all(link.startswith(("data:", "#")) for link in links), links
        assert not {"iframe", "object", "embed", "base", "svg"} & {tag for tag, _ in page.tags}
        code = page.texts["style"][0] + page.texts["script"][0]
        assert not re.search(r"https?:|//\w|@import|url\(|fetch|XMLHttp|innerHTML|eval", code)


def test_hostile_text_is_text(file: Path, pair_file: Path) -> None:
    """What a policy, a query, an id or an error says makes no tag, no handler and no script."""
    for each, images in ((file, 12), (pair_file, 24)):
        page = Page(each)
        assert len(page.of("script")) == len(page.of("style")) == 1
        assert len(page.of("img")) == images
        assert not [a for _, a in page.tags for name in a if name.startswith("on")]
        assert not [a for a in page.of("a") if a["href"] != "#cards"]
        assert not page.of("i")
        shown = HOSTILE.replace("\ud800", "?")
        assert sum(shown in text for text in page.texts["pre"]) > 5
        assert any(shown in text for text in page.texts["mark"])
        assert shown in page.texts["h3"]
        assert "$title" in page.texts["pre"][0]
    assert any(
        shown in text and text.startswith("policy: Broken") for text in Page(file).texts["p"]
    )


def test_policy_names_this_script_alone(file: Path) -> None:
    """The page's Content-Security-Policy allows its own script and style by their hashes."""
    page = Page(file)
    policy = next(a["content"] or "" for a in page.of("meta") if "http-equiv" in a)
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.texts[kind][0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_cards_carry_what_they_are_filtered_by(file: Path) -> None:
    """Each card's score, failure and strata are the record's own; every choice has its cards."""
    page, records = Page(file), a_run(12, errors=(7,))
    facts = page.facts()
    assert [fact["place"] for fact in facts] == list(range(12))
    for fact, record in zip(facts, records, strict=True):
        if "error" in record:
            assert (fact["score"], fact["failures"]) == (None, ["error"])
            continue
        pixels = record["pixels"]
        union = pixels["both"] + pixels["extra"] + pixels["missed"]
        rejected = not union and record["count"] == 0
        assert fact["score"] == (
            None if rejected else pytest.approx(pixels["both"] / max(union, 1))
        )
        assert fact["failures"] == ([record["failure"]["code"]] if record["failure"] else [])
        assert dict(fact["strata"]) == {"kind": "none", **record["strata"]}
    options = Counter(a["value"] for a in page.of("option"))
    for code in {code for fact in facts for code in fact["failures"]}:
        assert options[f"={code}"] == 1
    for value in {value for fact in facts for _, value in fact["strata"]}:
        assert options[f"={value}"] == 1


def test_script_and_page_speak_of_the_same_names(file: Path, pair_file: Path) -> None:
    """Every id, field, fact and order that the script names is on the page, and the other way."""
    for each, pairs in ((file, False), (pair_file, True)):
        page = Page(each)
        script, ids = page.texts["script"][0], {a.get("id") for _, a in page.tags}
        assert set(re.findall(r'getElementById\("(\w+)"\)', script)) <= ids
        fields = {a["name"] for tag in ("select", "input") for a in page.of(tag)}
        asked = set(re.findall(r'wanted\.(?:get|has)\("(\w+)"\)', script))
        assert asked - fields == (set() if pairs else {"changed"})
        assert {name for name in fields if not name.startswith("stratum:")} <= asked
        read = set(re.findall(r"card\.(\w+)", script)) | set(re.findall(r'by\("(\w+)"', script))
        known = {"node", "place", "score", "failures", "strata"}
        pair = {"change", "size_of_change", "changed"}
        assert read | {"place"} == known | pair
        assert all(set(f) | {"node"} == known | (pair if pairs else set()) for f in page.facts())
        orders = set(re.findall(r"^    (\w+): (?:by|\(a, b\))", script, re.MULTILINE))
        plain = {a["value"] or "" for a in page.of("option")} - {"", "none", "any"}
        offered = {value for value in plain if not value.startswith("=")}
        assert offered <= orders
        assert orders - offered == (set() if pairs else {"change", "gain", "loss"})


def test_summary_table_is_the_summary(file: Path) -> None:
    """The table holds each measure's value and interval, with a header for rows and columns."""
    page = Page(file)
    summary = summarise(a_run(12, errors=(7,)), PROTOCOL, resamples=50)
    heads = Counter(a["scope"] for a in page.of("th"))
    assert heads["row"] == len(summary.rows) + 1 + len(summary.failures)
    assert heads["col"] == 6 + 2
    for row in summary.rows:
        if not math.isnan(row.interval.value):
            assert f"{row.interval.value:.4f}" in page.texts["td"]
    assert {row.measure for row in summary.rows} <= set(page.texts["th"])
    assert page.texts["caption"][0] == summary.sheet().title


def test_every_picture_has_words(file: Path, pair_file: Path) -> None:
    """An image's alt says what was asked and the measures; every field has a label around it."""
    for each in (file, pair_file):
        page = Page(each)
        for image in page.of("img"):
            assert re.search(r"thing \d+|onerror", image["alt"] or "")
            assert image["loading"] == "lazy"
        assert any("mask IoU 0." in (image["alt"] or "") for image in page.of("img"))
        order = [tag for tag, _ in page.tags]
        for place, tag in enumerate(order):
            if tag in {"select", "input"}:
                assert order[place - 1] == "label"


def test_pictures_move_out_when_they_are_too_large(tmp_path: Path) -> None:
    """Up to the limit the page holds its pictures; one byte more, and all are files beside it."""
    inside = Page(write(tmp_path / "in" / "run one.html")).of("img")
    encoded = [base64.b64decode((a["src"] or "").partition(",")[2]) for a in inside]
    total = sum(map(len, encoded))
    exact = Page(write(tmp_path / "exact" / "run one.html", embed=total)).of("img")
    assert [a["src"] for a in exact] == [a["src"] for a in inside]
    outside = Page(write(tmp_path / "out" / "run one.html", embed=total - 1)).of("img")
    assert [a["src"] for a in outside] == [f"run%20one-pictures/{n:06d}.jpg" for n in range(12)]
    for content, link, image in zip(encoded, outside, inside, strict=True):
        path = tmp_path / "out" / (link["src"] or "").replace("%20", " ")
        assert path.read_bytes() == content
        size = Image.open(io.BytesIO(content)).size
        assert size == (int(image["width"] or 0), int(image["height"] or 0)) == (640, 427)
    assert not (tmp_path / "exact" / "run one-pictures").exists()


def test_more_records_than_cards(tmp_path: Path) -> None:
    """Of a long run the chosen cards are shown, the page says so, and measures are of all."""
    records = a_run(12, errors=(7,))
    page = Page(write(tmp_path, most=3, which="worst"))
    worst = {record["place"] for record in pick(records, "worst", 3, PROTOCOL)}
    assert {fact["place"] for fact in page.facts()} == worst
    assert "3 samples: the worst, of 12 in the run" in page.texts["p"][0]
    assert page.texts["caption"][0].startswith("11 samples")


def test_pairs_come_in_the_order_of_the_comparison(tmp_path: Path, pair_file: Path) -> None:
    """The pairs that changed most come first, and carry the comparison's own differences."""
    before, after = a_pair(12)
    changes = compare_records(before, after, PROTOCOL, resamples=10, most=12).changes
    page = Page(pair_file)
    facts = page.facts()
    place = {record["id"]: record["place"] for record in before}
    assert [f["place"] for f in facts[: len(changes)]] == [place[c.id] for c in changes]
    assert [f["change"] for f in facts[: len(changes)]] == [c.delta for c in changes]
    assert all(f["change"] == 0 for f in facts[len(changes) :])
    few = Page(write_pair(tmp_path, most=4))
    assert [f["place"] for f in few.facts()] == [f["place"] for f in facts[:4]]
    assert "those that changed most, of 12" in few.texts["p"][0]
    differs = [
        (a["failure"] and a["failure"]["code"], a["count"])
        != (b["failure"] and b["failure"]["code"], b["count"])
        or a["pixels"] != b["pixels"]
        for a, b in zip(before, after, strict=True)
    ]
    assert {f["place"] for f in facts if f["changed"]} == set(np.flatnonzero(differs).tolist())
    assert 0 < sum(differs) < 12
    assert [f["changed"] for f in facts if f["place"] == 2 and f["change"] == 0] == [True]
    assert facts[len(changes)]["place"] == 2


def test_run_of_errors_alone_has_a_page(tmp_path: Path) -> None:
    """Where nothing was judged there is no table, and every card says what went wrong."""
    path = write_page(
        tmp_path, a_run(3, errors=(0, 1, 2)), samples(3), recipe=RECIPE, protocol=PROTOCOL
    )
    page = Page(path)
    assert path == tmp_path / "index.html"
    assert not page.of("table")
    assert [fact["failures"] for fact in page.facts()] == [["error"]] * 3


def test_picture_that_cannot_be_read(tmp_path: Path) -> None:
    """A broken image costs its own picture; the card says why."""

    def broken() -> Question:
        raise rr.InputError("image: cut short")

    some = [Sample("s/0 <i>", 0, broken), *samples(3)[1:]]
    page = Page(
        write_page(tmp_path, a_run(3), some, recipe=RECIPE, protocol=PROTOCOL, resamples=10)
    )
    assert len(page.of("img")) == 2
    assert any("InputError: image: cut short" in text for text in page.texts["p"])


def test_other_samples_are_refused(tmp_path: Path) -> None:
    """Records and samples have to be of one data set."""
    options: Any = {"recipe": RECIPE, "protocol": PROTOCOL, "resamples": 10}
    with pytest.raises(rr.InputError, match="got none for 1, such as"):
        write_page(tmp_path, a_run(3), samples(2), **options)
    records = a_run(3)
    records[1]["size"] = [120, 81]
    with pytest.raises(rr.InputError, match="not the run's samples"):
        write_page(tmp_path, records, samples(3), **options)
    with pytest.raises(rr.InputError, match="at least one record"):
        write_page(tmp_path, [], samples(3), **options)
    with pytest.raises(rr.InputError, match="most: expected at least 1, got 0"):
        write_comparison(tmp_path, a_run(2), a_run(2), samples(2), most=0, **options)
    with pytest.raises(rr.InputError, match="a count of at least 1"):
        write_page(tmp_path, a_run(2), samples(2), most=0, **options)
    with pytest.raises(rr.InputError, match="got an iterator"):
        write_comparison(tmp_path, a_run(2), a_run(2), iter(samples(2)), **options)
