"""`rankreward report`: a training run as a page to look at."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rankreward.cli.terminal import closing, show_json, stopping
from rankreward.errors import InputError

if TYPE_CHECKING:
    import typer


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command(
        "report",
        epilog=closing(
            "rankreward report runs/demo",
            "rankreward report runs/a runs/b --out compared.html",
            writes="the page: RUN/report.html, or where --out says",
            note="What was looked for and not found, or is damaged, stands on the page and on "
            "standard error.",
        ),
    )
    def _(
        runs: Annotated[
            list[Path],
            typer.Argument(
                metavar="RUN...",
                help="The folder that rankreward score, TRL, verl, EasyR1 or the demo wrote, or "
                "the file of a trainer's log; several are drawn over one another.",
                show_default=False,
            ),
        ],
        out: Annotated[
            Path | None,
            typer.Option(help="The page's file, or its folder. Of one run RUN/report.html."),
        ] = None,
        title: Annotated[str, typer.Option(help="The page's heading; the runs' names.")] = "",
        json_: Annotated[
            bool, typer.Option("--json", help="Print the figures of the summary, too.")
        ] = False,
    ) -> None:
        """Draw a training run: one HTML file that works offline, without scripts."""
        from rankreward.report.run_page import summary, write_run_page
        from rankreward.runs import read_run

        target = _target(runs, out)
        with stopping("an earlier page is as it was"):
            read = [read_run(run) for run in runs]
            page = write_run_page(target, read, title=title)
        for run in read:
            for note in run.notes:
                print(f"rankreward: {run.name}: {note}", file=sys.stderr)
        if json_:
            show_json({"page": str(page), "runs": [summary(run) for run in read]})
        else:
            print(page)


def _target(runs: list[Path], out: Path | None) -> Path:
    if out is not None:
        return out
    if len(runs) > 1:
        raise InputError("--out: expected the page's file, as there are several runs, got none")
    return runs[0] / "report.html" if runs[0].is_dir() else runs[0].with_name("report.html")
