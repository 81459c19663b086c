"""`rankreward eval`: let a policy answer a data set, and say how well."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli import results
from rankreward.cli.choices import (
    Bar,
    check_segmenter,
    check_stratum,
    make_policy,
    make_segmenter,
    open_samples,
    protocol_names,
    read_shard,
    recipe_names,
    segmenter_names,
    sized_recipe,
    split_names,
)
from rankreward.cli.results import Format
from rankreward.cli.terminal import closing, finite, show_json, stopping
from rankreward.errors import InputError, require

if TYPE_CHECKING:
    import typer

    from rankreward.recipe import Recipe


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

    @group.callback(epilog="rankreward eval DATA ... is short for rankreward eval run DATA ...")
    def _() -> None:
        """Evaluate a policy on a data set."""

    _register_run(group)
    results.register(group)


def _register_run(group: "typer.Typer") -> None:
    import typer

    @group.command(
        "run",
        epilog=closing(
            "rankreward eval digits:20 --frame 84 --policy answers.jsonl \\\n"
            "--segmenter none --out runs/mine",
            writes="settings.json and samples-<i>of<n>.jsonl, a line a sample, in the folder of "
            "--out; when all is answered summary.json, .csv and .md, and index.html, worst.png "
            "and best.png",
            note="A line of answers.jsonl is a JSON object with the sample's id and its "
            "completion. An interrupted run goes on with the same command.",
        ),
    )
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
        recipe: Annotated[
            str,
            typer.Option(
                help="Writes the prompts, reads the answers.", autocompletion=recipe_names
            ),
        ] = "dr_seg",
        frame: Annotated[
            int,
            typer.Option(min=0, help="Side of the policy's images in pixels; 0 is the recipe's."),
        ] = 0,
        segmenter: Annotated[
            str,
            typer.Option(
                help="grabcut, sam2:<name or folder>, or none for boxes alone.",
                autocompletion=segmenter_names,
            ),
        ] = "grabcut",
        protocol: Annotated[
            str,
            typer.Option(
                help="How masks are scored: seg_zero, seg_zero_no_object, dr_seg, rela or lisa.",
                autocompletion=protocol_names,
            ),
        ] = "dr_seg",
        split: Annotated[
            str | None,
            typer.Option(help="Which of several splits in the folder.", autocompletion=split_names),
        ] = None,
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        model: Annotated[str, typer.Option(help="The model's name on a server.")] = "",
        key: Annotated[
            str | None, typer.Option(help="Environment variable that holds a server's key.")
        ] = None,
        adapter: Annotated[str | None, typer.Option(help="A PEFT adapter.")] = None,
        temperature: Annotated[
            float, typer.Option(min=0, callback=finite, help="Of the sampling; 0 is greedy.")
        ] = 0.0,
        top_p: Annotated[
            float,
            typer.Option(
                min=0, max=1, callback=finite, help="Share of the probability to draw from."
            ),
        ] = 1.0,
        seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
        max_tokens: Annotated[
            int, typer.Option(min=1, help="The longest answer, in tokens.")
        ] = 2048,
        batch: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 16,
        limit: Annotated[int, typer.Option(min=0, help="The first so many; 0 is all.")] = 0,
        shard: Annotated[str, typer.Option(help="i/n: every n-th sample from the i-th on.")] = (
            "0/1"
        ),
        ray: Annotated[int, typer.Option(min=0, help="Shards to run on Ray's cluster.")] = 0,
        gpus: Annotated[
            float, typer.Option(min=0, callback=finite, help="GPUs a shard on Ray.")
        ] = 1.0,
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
        as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    ) -> None:
        """Let a policy answer a data set.

        A folder that holds a part of this run is gone on with: nothing is asked twice. Prints a
        summary with 95% intervals. POLICY is a checkpoint, a server or a file of completions.
        """
        from rankreward.evaluation.on_ray import run_on_ray
        from rankreward.evaluation.running import run_policy
        from rankreward.evaluation.summary import find_protocol
        from rankreward.rewards import ClipSimilarity

        format_ = "json" if as_json else format_
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
        with stopping(f"what is in {out} is kept, and the same command goes on"):
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
                with Bar() as progress:
                    run_policy(
                        asked[0], samples, out=out, segmenter=asked[1], shard=part,
                        progress=progress, **options,
                    )  # fmt: skip
            records = _records([out], samples)
            if len(records) < len(samples):
                _say_unfinished(len(records), len(samples), format_)
                return
            results.summarise(records, protocol, by, None, format_, out)
            if pictures:
                page = _draw(out, records, samples, loaded, protocol, by, pictures)
                typer.echo(f"pictures: {page}, {out}/worst.png, {out}/best.png", err=True)


def _say_unfinished(done: int, wanted: int, format_: Format) -> None:
    """Other shards are still to come: there is no summary yet."""
    import typer

    typer.echo("done; when all shards are, give the same command without --shard", err=True)
    if format_ == "json":
        show_json({"complete": False, "answered": done, "samples": wanted})


def _records(runs: list[Path], samples: Any) -> list[Any]:
    """The records of these samples; the folder may hold more, from a larger --limit."""
    from rankreward.evaluation.records import merge

    wanted = set(samples.ids)
    return [record for record in merge(runs) if record["id"] in wanted]


def _draw(
    out: Path,
    records: list[Any],
    samples: Any,
    recipe: "Recipe",
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
