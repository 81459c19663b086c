"""A training run as a page to look at, or several runs with their curves over one another.

Goes in: runs, as `rankreward.runs.reading.read_run` reads them. Comes out: one HTML file that works
offline, without scripts and in both themes. What a policy or a log says is text in it and nothing
else; the page's own policy (a Content-Security-Policy) lets nothing run and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from itertools import count
from pathlib import Path
from string import Template
from typing import Any

from rankreward.errors import InputError
from rankreward.report import run_charts
from rankreward.report.chart import MOST, Chart, not_drawn
from rankreward.report.frame import (
    content_policy,
    page_file,
    read_part,
    table,
    visible,
    write_file,
)
from rankreward.report.run_svg import ends, figure
from rankreward.runs import Example, Run
from rankreward.runs.names import CHARACTERS, DEAD, ENTROPY, GROUP_STD, REWARD, TOKENS
from rankreward.tables import Sheet

EXAMPLES = 60  # on a page at most
_HERE = re.compile(r"\s*\S{0,12}")  # what is marked, from where it went wrong
AROUND = 1500  # characters of a completion on either side of what is wrong

_MEASURES = (
    *(REWARD, "rankreward/raw/", "rankreward/failures", DEAD, GROUP_STD),
    *(TOKENS, CHARACTERS, ENTROPY),
)

Section = tuple[str, str, str]  # heading, what to say where it is empty, HTML


def write_run_page(path: str | Path, runs: Sequence[Run], *, title: str = "") -> Path:
    """Write the page of one run; or of several, a line a run.

    Args:
        path: the file, which ends in ``.html`` or ``.htm``; or a folder, for its ``index.html``.
        runs: what to draw; of several each figure that is logged is one chart, without the windows'
            distributions and the examples.
        title: the page's heading; the runs' names unless given.

    Returns:
        The page's file. Lines are thinned to 240 points, so that it stays below 3 MB for a run of
        any length.

    Raises:
        InputError: there is no run, or there are more than 12.

    Example:
        >>> from rankreward.runs import read_run
        >>> from rankreward.report import write_run_page
        >>> # write_run_page("report.html", [read_run("runs/demo")])
    """
    if not 0 < len(runs) <= MOST:
        raise InputError(f"runs: expected 1 to {MOST}, got {len(runs)}")
    runs = _told_apart(runs)
    title = title or " and ".join(run.name for run in runs)
    sections = _one(runs[0]) if len(runs) == 1 else _several(runs)
    return write_file(page_file(path), _page(title, _notice(runs), sections))


def summary(run: Run) -> dict[str, Any]:
    """The figures at the head of the page, as plain values.

    Returns:
        ``run``, ``source``, ``recipe`` (None where unknown), ``steps`` (how many were logged),
        ``first_step``, ``last_step``, ``rollouts`` (None where the log does not count them),
        ``windows``, ``notes``, and ``measures``: name to its mean over the first and the last tenth
        of the entries that have it.
    """
    rows = run.figure("rows")[1]
    measures = {
        name: dict(zip(("first", "last"), ends(run.figure(name)[1]), strict=True))
        for prefix in _MEASURES
        for name in run.names(prefix)
        if name == prefix or prefix.endswith("/")
    }
    return {
        "run": run.name,
        "source": run.source,
        "recipe": run.recipe or None,
        "steps": len(run.entries),
        "first_step": run.steps[0] if run.entries else None,
        "last_step": run.steps[-1] if run.entries else None,
        "rollouts": int(rows.sum()) if len(rows) else None,
        "windows": len(run.windows),
        "measures": measures,
        "notes": list(run.notes),
    }


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """The same runs, with names that differ."""
    names = [run.name for run in runs]
    taken, told = set(names), []
    for run in runs:
        if names.count(run.name) > 1:
            new = next(n for k in count(1) if (n := f"{run.name} ({k})") not in taken)
            taken.add(new)
            run = replace(run, name=new)  # noqa: PLW2901
        told.append(run)
    return told


def _notice(runs: Sequence[Run]) -> str:
    sources = ", ".join(dict.fromkeys(run.source for run in runs))
    return (
        f"{sources}. Bold lines are running means over 10 entries, of a long run over a fiftieth "
        "of it. Faint ones, where there are few, are as logged, of a long run means of neighbours."
    )


def _page(title: str, notice: str, sections: Sequence[Section]) -> str:
    style = read_part("page.css") + read_part("run_page.css")
    names = [heading.lower().replace(" ", "-") for heading, _, _ in sections]
    links = "".join(
        f'<li><a href="#{name}">{escape(heading)}</a></li>'
        for name, (heading, _, _) in zip(names, sections, strict=True)
    )
    parts = [
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>\n'
        f"{inner or f'<p>{escape(empty)}</p>'}\n</section>"
        for name, (heading, empty, inner) in zip(names, sections, strict=True)
    ]
    # One pass: what is put in is not looked through for names again.
    return Template(read_part("run_page.html")).substitute(
        policy=content_policy(style, ""),
        title=escape(visible(title)),
        notice=escape(visible(notice)),
        style=style,
        links=links,
        sections="\n".join(parts),
    )


def _one(run: Run) -> list[Section]:
    """The sections of one run."""
    charts = run_charts
    drawn: list[tuple[str, str, list[Chart]]] = [
        ("Reward", "", [charts.reward_chart(run), charts.terms_chart(run)]),
        ("Metrics", "", [charts.rank_chart(run), charts.ties_chart(run)]),
        ("Variance", "", charts.share_charts(run)),
        ("Distributions", "No window was saved.", []),
        ("Failures", "", [charts.failures_chart(run)]),
        ("Groups", "", [charts.spread_chart(run), charts.dead_chart(run)]),
        ("Policy", "", _policy_charts(run)),
        ("Window and time", "", _window_charts(run)),
    ]
    many = {"Metrics": charts.raw_charts(run), "Distributions": charts.ecdf_charts(run)}
    sections, place = [("Summary", "", _summary(run))], 0
    for heading, empty, others in drawn:
        first = many.get(heading, [])
        each = [*first[:MOST], *others]
        rest = not_drawn([chart.title for chart in first[MOST:]])
        inner = _charts(each, place) + (f"<p>{escape(visible(rest))}</p>" if rest else "")
        if heading == "Failures":
            inner += _examples(run)
        sections.append((heading, empty or "The log has no figure of this.", inner))
        place += len(each)
    return sections


def _policy_charts(run: Run) -> list[Chart]:
    charts = run_charts
    policy = (charts.length_chart, charts.entropy_chart, charts.kl_chart, charts.gradient_chart)
    return [chart(run) for chart in policy]


def _window_charts(run: Run) -> list[Chart]:
    charts = run_charts
    return [each(run) for each in (charts.window_chart, charts.flushes_chart, charts.seconds_chart)]


def _several(runs: Sequence[Run]) -> list[Section]:
    """The sections of runs over one another."""
    rows = [
        (*map(_plain, (run.name, run.source, run.recipe or "-")), len(run.entries), run.steps[-1])
        for run in runs
    ]
    heads = [Sheet("Runs", ("run", "source", "recipe", "steps", "last step"), tuple(rows))]
    heads += [_measures(run) for run in runs]
    notes = "".join(_notes(run) for run in runs)
    curves = _charts(run_charts.compared_charts(runs), 0)
    return [("Summary", "", "\n".join(map(table, heads)) + notes), ("Curves", "", curves)]


def _charts(charts: Sequence[Chart], place: int) -> str:
    figures = [figure(chart, place + number) for number, chart in enumerate(charts)]
    inner = "\n".join(filter(None, figures))
    return f'<div class="charts">\n{inner}\n</div>' if inner else ""


def _summary(run: Run) -> str:
    known = summary(run)
    facts = {
        "run": known["run"],
        "written by": known["source"],
        "recipe": known["recipe"] or "unknown",
        "steps": f"{known['steps']} logged, {known['first_step']} to {known['last_step']}",
        "rollouts": "not logged" if known["rollouts"] is None else f"{known['rollouts']:,}",
        "windows": str(known["windows"]),
    }
    said = "".join(
        f"<div><dt>{name}</dt><dd>{escape(_plain(value))}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{said}</dl>\n{table(_measures(run))}\n{_notes(run)}'


def _measures(run: Run) -> Sheet:
    rows = tuple(
        (
            _plain(name.removeprefix("rankreward/")),
            both["first"],
            both["last"],
            both["last"] - both["first"],
        )
        for name, both in summary(run)["measures"].items()
    )
    header = ("measure", "first tenth", "last tenth", "difference")
    return Sheet(f"{_plain(run.name)}: means over the first and the last tenth", header, rows)


def _notes(run: Run) -> str:
    items = "".join(f"<li>{escape(_plain(note))}</li>" for note in run.notes)
    head = f"<h3>Not found, or left out, in {escape(_plain(run.name))}</h3>"
    return f'{head}<ul class="notes">{items}</ul>' if items else ""


def _examples(run: Run) -> str:
    """Cards of rollouts: failures by what was wrong, then what was readable."""
    ordered = sorted(run.examples, key=lambda each: (each.code is None, each.code or each.why))
    cards = "\n".join(map(_card, ordered[:EXAMPLES]))
    if not cards:
        return ""
    more = len(ordered) - EXAMPLES
    rest = f"<p>{more} more are not shown.</p>" if more > 0 else ""
    return f'<h3>Examples</h3>\n<div class="examples">\n{cards}\n</div>{rest}'


def _card(example: Example) -> str:
    about = [_plain(example.place)]
    about += [] if example.step is None else [f"step {example.step}"]
    about += [] if example.total is None else [f"paid {example.total:.4g}"]
    problem = f'<p class="problem" dir="auto">{escape(_plain(example.message))}</p>'
    reference = _cut(example.reference, 0)
    asked = f'<pre dir="auto">{escape("".join(map(visible, reference)))}</pre>'
    heading = escape(_plain(example.code or example.why or "readable"))
    return (
        f'<article class="card"><h4>{heading}</h4>'
        f'<p class="about">{escape("; ".join(about))}</p>'
        f"{problem if example.message else ''}"
        f'<pre dir="auto" tabindex="0">{_marked(example)}</pre>'
        + (f"<details><summary>Reference</summary>{asked}</details>" if example.reference else "")
        + "</article>"
    )


def _marked(example: Example) -> str:
    """The completion, or what stands around its failure, with a mark where that is."""
    text, at = example.completion, example.position
    if at is None or not 0 <= at <= len(text):
        return "".join(escape(visible(part)) for part in _cut(text, 0))
    before, after = _cut(text[:at], at), _cut(text[at:], 0)
    here = "".join(_HERE.findall(after[0])[:1])
    rest = escape(visible(after[0][len(here) :])) + after[1]
    marked = escape(visible(here)) or "(here it ends)"
    return f"{before[1]}{escape(visible(before[0]))}<mark>{marked}</mark>{rest}"


def _cut(text: str, end: int) -> tuple[str, str]:
    """The `AROUND` characters at the begin, or before `end`, and what says that there are more."""
    kept = text[-AROUND:] if end else text[:AROUND]
    return kept, "" if kept == text else f"… ({len(text) - len(kept):,} more characters)"


def _plain(text: str) -> str:
    """One line of a text from outside, of bounded length."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= 300 else f"{line[:299]}…"
