"""`rankreward recipes`: the recipes that ship with the library, and a look at one's own."""

from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli.choices import recipe_names
from rankreward.cli.terminal import closing, show, show_json

if TYPE_CHECKING:
    import typer

    from rankreward.recipe import Recipe


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer

    @commands.command(
        "recipes",
        epilog=closing(
            "rankreward recipes",
            "rankreward recipes dr_seg > mine.yaml",
            "rankreward recipes mine.yaml",
            "rankreward recipes dr_seg --json",
            writes="nothing",
        ),
    )
    def _(
        recipe: Annotated[
            str | None,
            typer.Argument(
                help="A name, to print its YAML, or the path of a .yaml file, to check it.",
                autocompletion=recipe_names,
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="The list, or the recipe as loaded, as JSON.")
        ] = False,
    ) -> None:
        """List, print and check recipes.

        Without RECIPE the recipes that ship are listed, with what each needs besides texts and
        references. A file of your own is checked: what is wrong with it is said in one line.
        """
        from rankreward.recipe import Recipe, recipes

        if recipe is None:
            _list([Recipe.load(name) for name in recipes()], as_json=as_json)
            return
        loaded = Recipe.load(recipe)
        if as_json:
            show_json(loaded.to_dict())
        elif recipe in recipes():
            text = (files("rankreward") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")
            typer.echo(text, nl=False)
        else:
            needs = ", ".join(needs_of(loaded)) or "nothing"
            print(f"{recipe}: a recipe, {loaded.name!r}; beside texts and references: {needs}")


def needs_of(recipe: "Recipe") -> list[str]:
    """What a scorer has to be given besides completions and references."""
    from rankreward.kinds import MASKED, Discriminative

    compares = any(isinstance(term, Discriminative) for term in recipe.terms.values())
    segments = any(isinstance(metric, MASKED) for metric in recipe.accuracy.metrics.values())
    needs = {
        "images": recipe.needs_images,
        "a segmenter": segments,
        "CLIP": compares,
        "groups": recipe.needs_groups,
    }
    return [*(name for name, needed in needs.items() if needed), *recipe.columns]


def _list(loaded: list["Recipe"], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": recipe.name,
            "answer": recipe.response.schema_,
            "needs": needs_of(recipe),
            "source": recipe.source,
        }
        for recipe in loaded
    ]
    if as_json:
        show_json({"recipes": rows})
        return
    lines = [
        (row["name"], ", ".join(row["needs"]) or "-", row["answer"], row["source"]) for row in rows
    ]
    show("", ("recipe", "needs beside texts", "answer", "source"), lines)
