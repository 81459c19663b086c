"""`rankreward paths`: what a trainer's configuration wants."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rankreward.adapters.paths import TRAINERS, paths
from rankreward.errors import RankRewardError
from rankreward.recipe import Recipe

if TYPE_CHECKING:
    import typer


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command("paths")
    def _(
        trainer: Annotated[
            str | None, typer.Argument(help="trl, verl or easyr1; without it all three.")
        ] = None,
        recipe: Annotated[
            str, typer.Option(help="Name of a recipe, or path of its file.")
        ] = "dr_seg",
    ) -> None:
        """Print what a trainer's configuration wants, to be copied."""
        try:
            known = recipe if Recipe.load(recipe).name == recipe else str(Path(recipe).resolve())
            parts = {name: paths(name, known) for name in ([trainer] if trainer else TRAINERS)}
        except RankRewardError as error:
            raise typer.BadParameter(str(error)) from None
        if trainer:
            typer.echo(parts[trainer], nl=False)
        else:
            typer.echo("\n".join(f"# {name}\n{text}" for name, text in parts.items()), nl=False)
