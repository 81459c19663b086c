"""`rankreward paths`: what a trainer's configuration wants."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rankreward.cli.choices import recipe_names, trainer_names
from rankreward.cli.terminal import closing, show_json

if TYPE_CHECKING:
    import typer


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command(
        "paths",
        epilog=closing(
            "rankreward paths verl",
            "rankreward paths easyr1 --recipe mine.yaml",
            writes="nothing",
        ),
    )
    def _(
        trainer: Annotated[
            str | None,
            typer.Argument(
                help="trl, verl or easyr1; without it all three.", autocompletion=trainer_names
            ),
        ] = None,
        recipe: Annotated[
            str,
            typer.Option(
                help="Name of a recipe, or path of its file.", autocompletion=recipe_names
            ),
        ] = "dr_seg",
        as_json: Annotated[
            bool, typer.Option("--json", help="A JSON object: trainer to text, for scripts.")
        ] = False,
    ) -> None:
        """Print what a trainer's configuration wants."""
        from rankreward.adapters.paths import TRAINERS, paths
        from rankreward.recipe import Recipe

        known = recipe if Recipe.load(recipe).name == recipe else str(Path(recipe).resolve())
        parts = {name: paths(name, known) for name in ([trainer] if trainer else TRAINERS)}
        if as_json:
            show_json(parts)
        elif trainer:
            typer.echo(parts[trainer], nl=False)
        else:
            typer.echo("\n".join(f"# {name}\n{text}" for name, text in parts.items()), nl=False)
