"""Recipes as the first points of a search: which of them this device can train, and where the champion stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from search.core.space import Space, find_point
from trainable.recipes import RECIPES, Recipe, name_recipe
from trainable.report import Outcome

if TYPE_CHECKING:
    from search.core.ledger import Ledger, TrialEntry
    from search.engine.cluster import Cluster
    from trainable.images.prepare import TrainingData


@dataclass(frozen=True, kw_only=True)
class ChosenRecipes:
    """The recipes that a search begins with; `skipped` says why the device cannot train the others that were asked."""

    recipes: tuple[Recipe, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(recipe.config.architecture for recipe in self.recipes))

    @property
    def forgone_architectures(self) -> tuple[str, ...]:
        return tuple(RECIPES[name].config.architecture for name in self.skipped)

    def tags(self) -> dict[str, str]:
        """For the search's run in MLflow."""
        skipped = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
        tags = {"recipes": ", ".join(recipe.name for recipe in self.recipes), "recipes_left_out": skipped}
        return {name: text for name, text in tags.items() if text}

    def lines(self, *, joined: Sequence[str], pretrained: Iterable[str], max_epochs: int) -> list[str]:
        """What the terminal says of them before the first trial; `joined` models are tried on their account alone."""
        if not self.recipes and not self.skipped:
            return []
        lines = [f"first points: {', '.join(recipe.name for recipe in self.recipes) or 'none'}"]
        lines += [f"{name} skipped: {reason}" for name, reason in self.skipped.items()]
        if joined:
            lines.append(f"models that join the search with them: {', '.join(joined)}")
        bare = {recipe.config.architecture for recipe in self.recipes if recipe.wants_weights} - set(pretrained)
        if bare:
            lines.append(f"from scratch, for want of --weights: {', '.join(sorted(bare))}")
        longer = [f"{r.name} {r.max_epochs}" for r in self.recipes if r.max_epochs != max_epochs]
        if longer:
            lines.append(f"{max_epochs} epochs here, stages being fractions of them, and not: {', '.join(longer)}")
        return lines


def choose_recipes(config: SearchConfig, home: SearchFolder, cluster: Cluster, data: TrainingData) -> ChosenRecipes:
    """The recipes asked for that a worker can train; decided once, and read by a resumed search."""
    if not config.recipes:
        return ChosenRecipes()
    skipped = home.read_record().get("recipes_left_out")
    if skipped is None:
        skipped = find_obstacles([RECIPES[name] for name in config.recipes], data, cluster)
        home.update_record(recipes_left_out=skipped)
    able = tuple(RECIPES[name] for name in config.recipes if name not in skipped)
    return ChosenRecipes(recipes=able, skipped=skipped)


def find_obstacles(recipes: Sequence[Recipe], data: TrainingData, cluster: Cluster) -> dict[str, str]:
    """Why a worker cannot train some of the recipes, by name. One after another: the check itself may break one."""
    import ray

    from trainable.model_facts import find_obstacle

    options = {"num_cpus": cluster.trial_cpus, "num_gpus": cluster.trial_gpus, "max_retries": 0}
    check = ray.remote(**options)(find_obstacle)
    num_at_once = -(-cluster.num_slots // cluster.num_nodes)
    obstacles = {}
    for recipe in recipes:
        asked = check.remote(
            recipe.config, image_size=data.image_size, num_at_once=num_at_once, num_channels=data.num_channels
        )
        try:
            obstacle = ray.get(asked)
        except ray.exceptions.RayError as error:
            obstacle = f"the worker that tried it died ({type(error).__name__})"
        if obstacle:
            obstacles[recipe.name] = obstacle
    return obstacles


def fine_tuned_by(recipes: Iterable[Recipe]) -> set[str]:
    """Architectures that a recipe freezes in part, or gives a head, be it without weights: the space must too."""
    return {
        recipe.config.architecture
        for recipe in recipes
        if recipe.wants_weights and (recipe.config.unfreezing != "all" or recipe.config.head_depth > 0)
    }


def find_points(recipes: Iterable[Recipe], space: Space) -> list[dict[str, Any]]:
    """The recipes in Optuna's names. Raises ValueError for one that the space, as the user narrowed it, lacks."""
    points = []
    for recipe in recipes:
        try:
            points.append(find_point(space, recipe.config))
        except ValueError as error:
            raise ValueError(
                f"the space does not contain the recipe {recipe.name}: {error}; widen --range or --space, or leave it "
                "out of --recipes"
            ) from error
    return points


def find_trials(ledger: Ledger, recipes: Iterable[Recipe]) -> dict[str, TrialEntry]:
    """The first trial of each recipe: the one that has its configuration."""
    wanted = {recipe.name for recipe in recipes}
    found: dict[str, TrialEntry] = {}
    for entry in sorted(ledger.entries.values(), key=lambda entry: entry.number):
        name = name_recipe(entry.params)
        if name in wanted:
            found.setdefault(name, entry)
    return found


def describe_standing(ledger: Ledger, chosen: ChosenRecipes, *, metric: str, champion: int | None) -> list[str]:
    """Where the champion stands against the recipes, and what became of each: for the terminal and the report."""
    trials = find_trials(ledger, chosen.recipes)
    numbers = {entry.number: name for name, entry in trials.items()}
    best = next((entry for entry in ledger.ranked() if entry.number in numbers), None)
    lines = []
    if champion in numbers:
        lines.append(f"the champion is {numbers[champion]}")
    elif champion is not None and best is not None:
        lines.append(
            f"the champion, trial {champion}, has validation {metric} {ledger.entries[champion].best_value:.4f}; "
            f"the best recipe, {numbers[best.number]}, {best.best_value:.4f}"
        )
    lines += [f"{recipe.name}: {describe_trial(trials.get(recipe.name), recipe)}" for recipe in chosen.recipes]
    return [*lines, *(f"{name}: skipped, {reason}" for name, reason in chosen.skipped.items())]


def describe_baselines(ledger: Ledger, numbers: Iterable[int], *, metric: str) -> list[str]:
    """What the sound first configurations came to, each trained to the end: for the terminal and the report."""
    found = [ledger.entries[number] for number in numbers if number in ledger.entries]
    return [
        f"trial {entry.number}, {entry.params['architecture']} as one would train it without a search: validation "
        f"{metric} {entry.best_value:.4f} at epoch {entry.best_epoch}"
        for entry in found
        if entry.best_value is not None
    ]


def describe_trial(entry: TrialEntry | None, recipe: Recipe) -> str:
    if entry is None:
        return "not tried, the budget ended before it"
    if entry.outcome is Outcome.FAILED:
        return f"trial {entry.number}, failed: {entry.error or 'the run in MLflow says why'}"
    if entry.best_value is None:
        return f"trial {entry.number}, no epoch finished"
    line = f"trial {entry.number}, {entry.best_value:.4f} at epoch {entry.best_epoch}"
    if entry.outcome is Outcome.STOPPED:
        return f"{line}; stopped by ASHA after epoch {entry.num_epochs}: how far it would have come is not known"
    if entry.outcome is Outcome.INTERRUPTED:
        return f"{line}; interrupted after epoch {entry.num_epochs}"
    shorter = f" of its {recipe.max_epochs}" if entry.num_epochs < recipe.max_epochs else ""
    return f"{line}; completed {entry.num_epochs}{shorter} epochs"


def record_standing(ledger: Ledger, chosen: ChosenRecipes) -> dict[str, Any]:
    """The same for other programs: `result.json`."""
    keys = ("number", "outcome", "best_value", "best_epoch", "num_epochs")
    tried = {
        name: {key: getattr(entry, key) for key in keys} for name, entry in find_trials(ledger, chosen.recipes).items()
    }
    return {"recipes": tried, "recipes_left_out": dict(chosen.skipped)} if tried or chosen.skipped else {}
