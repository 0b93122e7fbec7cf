"""What takes more than one table of a recipe to see."""

from __future__ import annotations

from specs_eval.errors import ConfigError
from specs_eval.training.arguments import save_every
from specs_eval.training.config import TRAINED, Recipe, RLSettings


def check_recipe(recipe: Recipe) -> None:
    """What takes more than one table of the recipe to see.

    Raises:
        ConfigError: numbers that do not fit together.
    """
    for stage in TRAINED:
        if stage not in recipe.stages.chosen:
            continue
        settings, saved, every = recipe.trained(stage), save_every(recipe, stage), recipe.evaluates_every(stage)
        if every is not None and every <= settings.steps and every % saved:
            raise ConfigError(
                f"stages.{stage} evaluates every {every} steps and saves every {saved}: make the first a multiple of the second"
            )
        if not isinstance(settings, RLSettings):
            continue
        # TRL's num_iterations goes over the same generation several times.
        updates = settings.updates_per_generation * int(settings.more.get("num_iterations", 1))
        if saved < settings.steps and saved % updates:
            raise ConfigError(
                f"stages.{stage} saves every {saved} steps in the middle of {updates} updates on one generation, which could "
                "not be continued exactly: make evaluate_every (and save_every) a multiple of updates_per_generation"
            )
