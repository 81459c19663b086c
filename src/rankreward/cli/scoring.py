"""`rankreward score`: score a log of rollouts by a recipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli.choices import (
    check_kept,
    check_out,
    check_segmenter,
    make_segmenter,
    recipe_names,
    sized_recipe,
)
from rankreward.cli.terminal import ByteBar, closing, print_table, show_json

if TYPE_CHECKING:
    import typer

    from rankreward.recipe import Recipe


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command(
        "score",
        epilog=closing(
            "rankreward score rollouts.jsonl --recipe dr_seg",
            "rankreward score runs/mine/completions --recipe dr_seg --out runs/scored",
            "rankreward score log.parquet --recipe mine.yaml \\\n"
            "--completion text --reference truth",
            writes="nothing without --out; with it a line for each rollout and each step, the bad "
            "rows, examples, windows and a summary, step by step as the log is read",
            note="Stopped by Ctrl-C it leaves what is of complete steps, and prints its summary.",
        ),
    )
    def _(
        log: Annotated[
            list[Path],
            typer.Argument(
                help="Files and folders of rollouts: .jsonl, .jsonl.gz, .parquet, EasyR1's .log."
            ),
        ],
        recipe: Annotated[
            str, typer.Option(help="A recipe's name or file.", autocompletion=recipe_names)
        ],
        out: Annotated[
            Path | None,
            typer.Option(file_okay=False, help="A folder for rewards, figures, windows."),
        ] = None,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace an earlier result there.")
        ] = False,
        frame: Annotated[
            int,
            typer.Option(min=0, help="Side of the policy's images in pixels; 0 is the recipe's."),
        ] = 0,
        completion: Annotated[str | None, typer.Option(help="The completions' column.")] = None,
        reference: Annotated[str | None, typer.Option(help="The references' column.")] = None,
        group: Annotated[str | None, typer.Option(help="The groups' column.")] = None,
        step: Annotated[str | None, typer.Option(help="The steps' column.")] = None,
        references: Annotated[
            Path | None, typer.Option(help="A file of prompts and references, where LOG has none.")
        ] = None,
        rows_per_step: Annotated[
            int | None, typer.Option(min=1, help="How many rows are a step, where LOG has none.")
        ] = None,
        group_size: Annotated[
            int | None, typer.Option(min=1, help="How many neighbours are a group.")
        ] = None,
        segmenter: Annotated[
            str, typer.Option(help="For recipes with masks: grabcut or sam2:<name or folder>.")
        ] = "none",
        from_window: Annotated[
            Path | None, typer.Option(help="Begin with this saved window (.npz).")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    ) -> None:
        """Pay a log's rollouts by a recipe, step by step, as training with it would have."""
        from rankreward.logs.frames import watch_frame
        from rankreward.logs.gaps import Gaps
        from rankreward.logs.reading import read_log, size_of
        from rankreward.logs.running import score_log
        from rankreward.logs.scoring import columns_of
        from rankreward.logs.steps import LIMIT, WITH_IMAGES, chunks
        from rankreward.logs.written import Folder

        loaded = sized_recipe(recipe, frame)
        scorer = _scorer(loaded, segmenter, from_window)
        check_out(out, log)
        check_kept(out, log)
        columns = {
            "completion": completion, "reference": reference, "group": group, "step": step,
        }  # fmt: skip
        asked = {
            **columns, "references": references and str(references), "group_size": group_size,
            "rows_per_step": rows_per_step, "frame": frame, "segmenter": segmenter,
            "from_window": from_window and str(from_window),
        }  # fmt: skip
        size = size_of(log)
        folder = None
        if out is not None:
            folder = Folder(out, _settings(loaded, log, asked), overwrite=overwrite)
        gaps = Gaps()
        with ByteBar("scoring", size) as bar:
            rows = read_log(
                log, **columns, references=references, images=loaded.needs_images, say=bar.say,
                progress=bar.advance_to, gaps=gaps,
            )  # fmt: skip
            steps = chunks(
                watch_frame(rows, loaded, bar.say),
                ranked=loaded.needs_steps, grouped=loaded.needs_groups,
                rows_per_step=rows_per_step, group_size=group_size,
                limit=WITH_IMAGES if loaded.needs_images else LIMIT,
                columns=columns_of(loaded), say=bar.say,
            )  # fmt: skip
            summary = score_log(steps, scorer, folder, bar.say, gaps)
        _show(summary, out, as_json=json_)
        if not summary["finished"]:
            raise typer.Exit(130)


def _scorer(recipe: "Recipe", segmenter: str, window: Path | None) -> Any:
    from rankreward.rewards import Scorer

    check_segmenter(segmenter)
    scorer = Scorer(recipe, segmenter=make_segmenter(segmenter, "dr_seg"))
    if window is not None:
        scorer.load(window)
    return scorer


def _settings(recipe: "Recipe", log: list[Path], asked: dict[str, Any]) -> dict[str, Any]:
    from rankreward import __version__

    return {
        "recipe": recipe.to_dict(),
        "log": [str(path) for path in log],
        "rankreward": __version__,
        **{name: value for name, value in asked.items() if value not in (None, 0, "none")},
    }


def _show(summary: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    from rankreward.logs.sums import sheets

    if as_json:
        show_json(summary)
    else:
        for sheet in sheets(summary):
            print_table(sheet.rich())
    if not summary["finished"]:
        print("rankreward: stopped; what is written is of complete steps", file=sys.stderr)
    elif summary["bad_rows"]:
        where = "give --out to have all of them listed" if out is None else f"see {out}/bad.jsonl"
        print(f"{summary['bad_rows']} bad rows were not scored: {where}", file=sys.stderr)
