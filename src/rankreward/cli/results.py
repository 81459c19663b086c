"""`rankreward eval summary` and `compare`: what records of runs say."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rankreward.cli.choices import open_samples, protocol_names, recipe_of
from rankreward.cli.terminal import closing, print_table, show_json, there
from rankreward.errors import InputError

if TYPE_CHECKING:
    import typer

Format = Literal["table", "markdown", "csv", "json"]


def register(group: "typer.Typer") -> None:
    """Add the commands to the group."""
    _register_summary(group)
    _register_compare(group)


def _register_summary(group: "typer.Typer") -> None:
    import typer

    @group.command(
        "summary",
        epilog=closing(
            "rankreward eval summary runs/mine --protocol rela",
            "rankreward eval summary runs/mine --json",
            writes="summary.json, .csv and .md in the folder of --out, and nothing without it",
        ),
    )
    def _(
        runs: Annotated[list[Path], typer.Argument(callback=there, help="Runs, or their files.")],
        protocol: Annotated[
            str,
            typer.Option(
                help="How masks are scored: seg_zero, seg_zero_no_object, dr_seg, rela or lisa.",
                autocompletion=protocol_names,
            ),
        ] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        ap: Annotated[
            Literal["area", "constant", "order"] | None,
            typer.Option(help="Also COCO's average precision, with this in place of scores."),
        ] = None,
        format_: Annotated[Format, typer.Option("--format", help="Of the summary.")] = "table",
        as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
        out: Annotated[Path | None, typer.Option(help="A folder to write the tables to.")] = None,
    ) -> None:
        """Sum up runs, by any protocol.

        Merges the shards of a run; nothing is run again.
        """
        from rankreward.evaluation.records import merge

        format_ = "json" if as_json else format_
        summarise(merge(runs), protocol, by, ap, format_, out)


def _register_compare(group: "typer.Typer") -> None:
    import typer

    @group.command(
        "compare",
        epilog=closing(
            "rankreward eval compare runs/before runs/after --by count",
            "rankreward eval compare runs/before runs/after --page page.html \\\n--data digits:20",
            writes="the page of --page, and nothing without it",
        ),
    )
    def _(
        before: Annotated[Path, typer.Argument(callback=there, help="A run.")],
        after: Annotated[Path, typer.Argument(callback=there, help="Another of the same samples.")],
        protocol: Annotated[
            str,
            typer.Option(
                help="How masks are scored: seg_zero, seg_zero_no_object, dr_seg, rela or lisa.",
                autocompletion=protocol_names,
            ),
        ] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        most: Annotated[int, typer.Option(min=0, help="Samples to show that changed most.")] = 10,
        page: Annotated[
            Path | None, typer.Option(help="A page with both answers side by side; needs --data.")
        ] = None,
        data: Annotated[str, typer.Option(help="What the runs were of, for the page.")] = "",
        format_: Annotated[Format, typer.Option("--format", help="Of the table.")] = "table",
        as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    ) -> None:
        """Compare two runs, sample by sample.

        Prints paired differences with 95% intervals, and the samples that changed most.
        """
        from rankreward.evaluation.comparison import compare_files
        from rankreward.evaluation.records import merge
        from rankreward.report.page import write_comparison
        from rankreward.tables import Sheet

        if page is not None:
            if not data:
                raise InputError("--page: expected --data, what the runs were of, got none")
            recipes = [recipe_of(run) for run in (before, after)]
            runs = merge(before), merge(after)
            names = (before.name, after.name)
            written = write_comparison(
                page, *runs, open_samples(data, recipes[1]), recipe=recipes[1],
                recipe_before=recipes[0], protocol=protocol, by=by,
                names=names if len(set(names)) == 2 else (str(before), str(after)),
            )  # fmt: skip
            typer.echo(f"page: {written}", err=True)

        found = compare_files(before, after, protocol, most=most)
        if by is not None:
            parts = compare_files(before, after, protocol, by=by)
            values = {**found.values, **parts.values}
            found = replace(found, rows=[*found.rows, *parts.rows], values=values)
        if as_json or format_ == "json":
            show_json(found.as_dict())
            return
        _print(found.sheet(), format_)
        rows = tuple((each.id, each.before, each.after, each.delta) for each in found.changes)
        if rows and format_ == "table":
            title = f"changed most, by {found.score}"
            _print(Sheet(title, ("sample", "before", "after", "difference"), rows), format_)


def summarise(
    records: list[Any],
    protocol: str,
    by: str | None,
    ap: Any,
    format_: Format,
    out: Path | None,
) -> None:
    """Print the summary, and keep it as JSON, CSV and Markdown."""
    from rankreward.evaluation import summary as summaries

    summary = summaries.summarise(records, protocol, ap=ap)
    if by is not None:
        rows = [*summary.rows, *summaries.summarise(records, protocol, by=by, ap=ap).rows]
        summary = replace(summary, rows=rows)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        sheet = summary.sheet()
        (out / "summary.csv").write_text(sheet.csv())
        (out / "summary.md").write_text(sheet.markdown())
        (out / "summary.json").write_text(json.dumps(summary.as_dict(), indent=1) + "\n")
    if format_ == "json":
        show_json(summary.as_dict())
        return
    _print(summary.sheet(), format_)
    if summary.errors:
        print(
            f"{summary.errors} samples could not be judged and are in no measure; the records say "
            "why, --retry-errors asks again",
            file=sys.stderr,
        )
    if format_ == "table":
        for code, count in summary.failures.items():
            print(f"{code}: {count} answers")


def _print(sheet: Any, format_: Format) -> None:
    if format_ == "table":
        print_table(sheet.rich())
    else:
        print(sheet.csv() if format_ == "csv" else sheet.markdown(), end="")
