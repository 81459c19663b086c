"""One page of a replay: what it says in words, its tables, its plots, and where recipes disagree.

Goes in: `Replayed`. Comes out: one HTML file that loads nothing, in which every text from a log is
text and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from rankreward.replay.replaying import Replayed
from rankreward.replay.tables import detail_sheets, terminal_sheets, verdict
from rankreward.report.frame import (
    content_policy,
    page_file,
    read_part,
    table,
    visible,
    write_file,
)


def write_page(path: str | Path, found: Replayed, picture: Path | None = None) -> Path:
    """Write the page.

    Args:
        path: its file, or the folder of an ``index.html``.
        found: the replay.
        picture: a PNG of the plots, which the page then holds.

    Returns:
        The page's file.

    Raises:
        OSError: it cannot be written, or the picture cannot be read.
    """
    style = read_part("page.css") + read_part("run_page.css")
    shown = [*terminal_sheets(found), *detail_sheets(found)]
    sheets = "\n".join(table(sheet) for sheet in shown if sheet.rows)
    parts = {"figures": ("Figures", sheets)}
    if picture is not None:
        parts["plots"] = ("Plots", _image(picture))
    cases = "\n".join(_case(place, case) for place, case in enumerate(found.cases))
    if cases:
        title = "Groups that two recipes disagree about most"
        parts["groups"] = (title, f'<div id="cards">{cases}</div>')
    page = Template(read_part("run_page.html")).substitute(
        policy=content_policy(style, ""),
        title="Replay",
        notice=_text(" ".join(verdict(found))),
        style=style,
        links="".join(
            f'<li><a href="#{key}">{title}</a></li>' for key, (title, _) in parts.items()
        ),
        sections="\n".join(_section(key, *part) for key, part in parts.items()),
    )
    return write_file(page_file(path), page)


def _section(key: str, title: str, inside: str) -> str:
    return f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n{inside}\n</section>'


def _image(picture: Path) -> str:
    code = base64.b64encode(picture.read_bytes()).decode()
    alt = (
        "Shares of variance by recipe, rank correlations, groups without a signal; as in the tables"
    )
    return f'<img src="data:image/png;base64,{code}" alt="{alt}">'


def _case(place: int, case: Mapping[str, Any]) -> str:
    labels = (case["first"], case["second"])
    near = "no signal from one" if case["cosine"] is None else f"cosine {case['cosine']:.2f}"
    why = ", ".join(f"{name} {share:.0%}" for name, share in case["because"].items())
    said = f"{near}; because of {why}; reference {case['reference']}"
    rollouts = "".join(_rollout(each, labels) for each in case["rollouts"])
    return (
        f'<article class="card" aria-labelledby="case-{place}">\n'
        f'<h3 id="case-{place}">{_text(" against ".join(labels))}: step {case["step"]}, '
        f"group {_text(str(case['group']))}</h3>\n"
        f'<p class="about">{_text(said)}</p>\n{rollouts}\n</article>'
    )


def _rollout(each: Mapping[str, Any], labels: Sequence[str]) -> str:
    paid = zip(labels, each["rewards"], each["advantages"], strict=True)
    said = "".join(
        f"<div><dt>{_text(label)}</dt><dd>{reward:.3f}, advantage {advantage:+.2f}</dd></div>"
        for label, reward, advantage in paid
    )
    failure = f'<p class="problem">{_text(each["failure"])}</p>' if each["failure"] else ""
    return (
        f"<h4>{_text(each['place'])}</h4><dl>{said}</dl>{failure}"
        f'<pre dir="auto">{_text(each["completion"])}</pre>'
    )


def _text(text: str) -> str:
    return escape(visible(text))
