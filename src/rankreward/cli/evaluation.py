"""`rankreward eval`: let a policy answer a data set, and say how well."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rankreward.cli.choices import (
    Bar,
    check_segmenter,
    check_stratum,
    make_policy,
    make_segmenter,
    open_samples,
    read_shard,
    recipe_of,
    sized_recipe,
)
from rankreward.cli.terminal import show_json
from rankreward.errors import InputError, require
from rankreward.recipe import Recipe

if TYPE_CHECKING:
    import typer

Format = Literal["table", "markdown", "csv", "json"]


def register(commands: "typer.Typer") -> None:
    """Add the group."""
    import typer
    from typer.core import TyperGroup

    class RunUnlessTold(TyperGroup):
        """`rankreward eval DATA ...` is `rankreward eval run DATA ...`."""

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in {*self.commands, "--help", "-h"}:
                args = ["run", *args]
            return super().parse_args(ctx, args)

    group = typer.Typer(no_args_is_help=True, cls=RunUnlessTold)
    commands.add_typer(group, name="eval")

    @group.callback()
    def _() -> None:
        """Evaluate a policy: completions, masks, measures with intervals, pictures."""

    _register_run(group)
    _register_summary(group)
    _register_compare(group)


def _register_run(group: "typer.Typer") -> None:
    import typer

    @group.command("run")
    def _(
        data: Annotated[str, typer.Argument(help="A folder of Parquet files, or digits:<scenes>.")],
        policy: Annotated[
            str,
            typer.Option(
                help="A checkpoint's name or folder; the http address of an OpenAI-compatible "
                "server; or a .jsonl of completions."
            ),
        ],
        out: Annotated[Path, typer.Option(help="The folder for records, tables and pictures.")],
        recipe: Annotated[str, typer.Option(help="Writes the prompts, reads the answers.")] = (
            "dr_seg"
        ),
        frame: Annotated[
            int, typer.Option(help="Side of the policy's images in pixels; 0 is the recipe's.")
        ] = 0,
        segmenter: Annotated[
            str, typer.Option(help="grabcut, sam2:<name or folder>, or none for boxes alone.")
        ] = "grabcut",
        protocol: Annotated[
            str, typer.Option(help="seg_zero, seg_zero_no_object, dr_seg, rela or lisa.")
        ] = "dr_seg",
        split: Annotated[
            str | None, typer.Option(help="Which of several splits in the folder.")
        ] = None,
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        model: Annotated[str, typer.Option(help="The model's name on a server.")] = "",
        key: Annotated[
            str | None, typer.Option(help="Environment variable that holds a server's key.")
        ] = None,
        adapter: Annotated[str | None, typer.Option(help="A PEFT adapter.")] = None,
        temperature: Annotated[float, typer.Option(min=0, help="0 for greedy answers.")] = 0.0,
        top_p: Annotated[float, typer.Option(help="Share of the probability.")] = 1.0,
        seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
        max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 2048,
        batch: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 16,
        limit: Annotated[int, typer.Option(min=0, help="The first so many; 0 is all.")] = 0,
        shard: Annotated[str, typer.Option(help="i/n: every n-th sample from the i-th on.")] = (
            "0/1"
        ),
        ray: Annotated[int, typer.Option(min=0, help="Shards to run on Ray's cluster.")] = 0,
        gpus: Annotated[float, typer.Option(min=0, help="GPUs a shard on Ray.")] = 1.0,
        keep_masks: Annotated[bool, typer.Option("--keep-masks", help="Store masks.")] = False,
        captions: Annotated[
            bool, typer.Option("--captions", help="Compare captions with images by CLIP (dpad).")
        ] = False,
        retry_errors: Annotated[
            bool, typer.Option("--retry-errors", help="Ask again where there was an error.")
        ] = False,
        pictures: Annotated[
            int, typer.Option(min=0, help="Cards on the page with pictures; 0 for no page.")
        ] = 500,
        format_: Annotated[Format, typer.Option("--format", help="Of the summary.")] = "table",
    ) -> None:
        """Run, or go on with a run: what is in the folder is not asked again."""
        from rankreward.evaluation.on_ray import run_on_ray
        from rankreward.evaluation.running import run_policy
        from rankreward.evaluation.summary import find_protocol
        from rankreward.rewards import ClipSimilarity

        part = read_shard(shard)
        check_segmenter(segmenter)
        find_protocol(protocol)
        loaded = sized_recipe(recipe, frame)
        samples = open_samples(data, loaded, split)
        samples = samples.limit(limit) if limit else samples
        if by is not None:
            check_stratum(by, samples)
        how = {
            "max_new_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed,
        }  # fmt: skip

        def policy_of_task() -> Any:
            return make_policy(policy, model, key, adapter, batch, how)

        def segmenter_of_task() -> Any:
            return make_segmenter(segmenter, protocol)

        options: dict[str, Any] = {
            "recipe": loaded, "batch_size": batch, "keep_masks": keep_masks,
            "retry_errors": retry_errors, "similarity": ClipSimilarity() if captions else None,
        }  # fmt: skip
        if ray:
            if shard != "0/1":
                raise InputError(f"--ray: expected no --shard beside it, got {shard}")
            require("ray", extra="ray").init(ignore_reinit_error=True)
            run_on_ray(
                policy_of_task, samples, shards=ray, out=out, make_segmenter=segmenter_of_task,
                resources={"num_gpus": gpus}, **options,
            )  # fmt: skip
        else:
            asked = policy_of_task(), segmenter_of_task()
            try:
                with Bar() as progress:
                    run_policy(
                        asked[0], samples, out=out, segmenter=asked[1], shard=part,
                        progress=progress, **options,
                    )  # fmt: skip
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped; what is in {out} is kept, and the same command goes on", err=True
                )
                raise typer.Exit(130) from None
        records = _records([out], samples)
        if len(records) < len(samples):
            typer.echo("done; when all shards are, give the same command without --shard", err=True)
            return
        _summarise(records, protocol, by, None, format_, out)
        if pictures:
            page = _draw(out, records, samples, loaded, protocol, by, pictures)
            typer.echo(f"pictures: {page}, {out}/worst.png, {out}/best.png", err=True)


def _register_summary(group: "typer.Typer") -> None:
    import typer

    @group.command("summary")
    def _(
        runs: Annotated[list[Path], typer.Argument(exists=True, help="Runs, or their files.")],
        protocol: Annotated[str, typer.Option(help="How masks are scored.")] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        ap: Annotated[
            Literal["area", "constant", "order"] | None,
            typer.Option(help="Also COCO's average precision, with this in place of scores."),
        ] = None,
        format_: Annotated[Format, typer.Option("--format", help="Of the summary.")] = "table",
        out: Annotated[Path | None, typer.Option(help="A folder to write the tables to.")] = None,
    ) -> None:
        """Merge shards, and sum them up by any protocol; nothing is run again."""
        from rankreward.evaluation.records import merge

        _summarise(merge(runs), protocol, by, ap, format_, out)


def _register_compare(group: "typer.Typer") -> None:
    import typer

    @group.command("compare")
    def _(
        before: Annotated[Path, typer.Argument(exists=True, help="A run.")],
        after: Annotated[Path, typer.Argument(exists=True, help="Another of the same samples.")],
        protocol: Annotated[str, typer.Option(help="How masks are scored.")] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        most: Annotated[int, typer.Option(min=0, help="Samples to show that changed most.")] = 10,
        page: Annotated[
            Path | None, typer.Option(help="A page with both answers side by side; needs --data.")
        ] = None,
        data: Annotated[str, typer.Option(help="What the runs were of, for the page.")] = "",
        format_: Annotated[Format, typer.Option("--format", help="Of the table.")] = "table",
    ) -> None:
        """Paired differences with intervals, and the samples that changed most."""
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
        if format_ == "json":
            show_json(found.as_dict())
            return
        _print(found.sheet(), format_)
        rows = tuple((each.id, each.before, each.after, each.delta) for each in found.changes)
        if rows and format_ == "table":
            title = f"changed most, by {found.score}"
            _print(Sheet(title, ("sample", "before", "after", "difference"), rows), format_)


def _records(runs: list[Path], samples: Any) -> list[Any]:
    """The records of these samples; the folder may hold more, from a larger --limit."""
    from rankreward.evaluation.records import merge

    wanted = set(samples.ids)
    return [record for record in merge(runs) if record["id"] in wanted]


def _draw(
    out: Path,
    records: list[Any],
    samples: Any,
    recipe: Recipe,
    protocol: str,
    by: str | None,
    most: int,
) -> Path:
    """The page, and one picture each of the worst and the best samples."""
    from rankreward.cli.terminal import progress
    from rankreward.report.cards import make_cards, pick
    from rankreward.report.page import write_page
    from rankreward.report.sheets import card_sheet

    for which in ("worst", "best"):
        chosen = pick(records, which, 8, protocol)
        few = samples.without(set(samples.ids) - {record["id"] for record in chosen})
        cards = list(make_cards(chosen, few, recipe=recipe, protocol=protocol))
        if cards:
            card_sheet(cards).save(out / f"{which}.png")
    return write_page(
        out / "index.html", records, samples, recipe=recipe, protocol=protocol, by=by, most=most,
        title=out.name, progress=progress("pictures"),
    )  # fmt: skip


def _summarise(
    records: list[Any],
    protocol: str,
    by: str | None,
    ap: Any,
    format_: Format,
    out: Path | None,
) -> None:
    """Print the summary, and keep it as JSON, CSV and Markdown."""
    from rankreward.evaluation.summary import summarise

    summary = summarise(records, protocol, ap=ap)
    if by is not None:
        rows = [*summary.rows, *summarise(records, protocol, by=by, ap=ap).rows]
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
        require("rich.console", extra="cli").Console().print(sheet.rich())
    else:
        print(sheet.csv() if format_ == "csv" else sheet.markdown(), end="")
