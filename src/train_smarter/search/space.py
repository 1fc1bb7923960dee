"""The search space: what is drawn in each trial, and what is the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException

from train_smarter.errors import UserError
from train_smarter.quoting import to_cli

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Words that change nothing of what a trial comes to.
CHANGEABLE = (
    "paths.",
    "num_threads",
    "tags",
    "logger",
    "data.dir",
    "data.download",
    "data.on_device",
    "model.download",
    "callbacks.progress",
)


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, and what is the same in every trial.

    drawn: a distribution for each key; fixed: the value of each other key that was typed, and deletions as they were.
    """

    distributions: Mapping[str, BaseDistribution]
    fixed: Mapping[str, str]
    deleted: Sequence[str]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Words for a job; `params` are the values that were drawn."""
        typed = {**params, **self.fixed}
        return [*(f"{key}={to_cli(value)}" for key, value in typed.items()), *self.deleted]

    def describe(self, objective: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """In words, by which a study knows its search again."""
        fixed = {key: value for key, value in self.fixed.items() if not key.lstrip("+").startswith(CHANGEABLE)}
        drawn = {key: str(distribution) for key, distribution in self.distributions.items()}
        return {"drawn": drawn, "fixed": fixed | dict.fromkeys(self.deleted, "deleted"), "objective": dict(objective)}


def parse_space(words: Sequence[str], *, more: bool = False) -> SearchSpace:
    """Parse the typed overrides of a search.

    Args:
        more: a function of the user's draws more, so that nothing needs to be searched here.

    Raises:
        UserError: an override cannot be parsed, or nothing is searched.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    for part in ([word] for word in words):  # one by one: an error does not name its word
        try:
            create_params_from_overrides(part)
        except (HydraException, ValueError, NotImplementedError) as error:
            raise UserError(
                f"this search space cannot be read: {part[0]}: {str(error).splitlines()[0]}\n"
                "Type choice(a,b), interval(low,high), int(interval(low,high)), tag(log,interval(low,high)), in quotes"
            ) from error
    drawn, fixed, deleted = create_params_from_overrides(list(words))
    drawn = {key: distribution for key, distribution in drawn.items() if key not in fixed}
    if not drawn and not more:
        raise UserError(
            "there is nothing to search: type what is, for example 'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    return SearchSpace(drawn, fixed, deleted)
