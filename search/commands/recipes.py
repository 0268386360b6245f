"""`ctsearch recipes`: named configurations with their source, what was reported of them, and what they mean here."""

from __future__ import annotations

from rich.console import Console

from trainable.recipes import RECIPES, Recipe


def describe_reported(recipe: Recipe) -> str:
    """The project's own figures, in one line."""
    if not recipe.reported:
        return "no figures"
    figures = ", ".join(f"{name} {value:.3f}" for name, value in recipe.reported.items())
    return figures + (f" on {recipe.reported_on}" if recipe.reported_on else "")


def show_recipes(console: Console | None = None) -> None:
    """Print every recipe."""
    console = console or Console()
    for recipe in RECIPES.values():
        console.print(recipe.name, style="bold", highlight=False)
        lines = [recipe.summary, f"reported: {describe_reported(recipe)}"]
        lines.append(", ".join(f"{name} {value}" for name, value in recipe.params.items()))
        lines.append(
            f"{recipe.max_epochs} epochs, {recipe.image_size} px"
            + f", patience {recipe.patience}" * (recipe.patience > 0)
        )
        for line in [*lines, *(f"- {note}" for note in recipe.notes)]:
            console.print(f"  {line}", markup=False, highlight=False)
        console.print()
