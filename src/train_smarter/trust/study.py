"""What a study has stored, before a trial is run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def check_trials(
    trials: Sequence["FrozenTrial"], drawn: Mapping[str, "BaseDistribution"], *, more: bool, study: str
) -> None:
    """Refuse a study that holds anything but values of what is searched.

    Args:
        trials: all that the study has; one that waits may bring values.
        drawn: what is searched, by key.
        more: a function of the user's own draws further keys.

    Raises:
        UserError: a trial has another key, another distribution, or a value outside of it.
    """
    for trial in trials:
        if trial.state.name == "WAITING" and trial.params:  # one that is put in line has its values elsewhere
            raise UserError(f"study {study} is refused: its waiting trial {trial.number} has parameters already")
        waiting = trial.system_attrs.get("fixed_params") or {}
        values = {**(waiting if isinstance(waiting, dict) else {"fixed_params": waiting}), **trial.params}
        for key, value in values.items():
            known = drawn.get(key)
            if known is None and more and key in trial.distributions:
                continue
            if known is None or trial.distributions.get(key, known) != known or not is_value_of(known, value):
                raise UserError(
                    f"study {study} is refused: its trial {trial.number} has {key}={value!r}, which is not a value of "
                    "what is searched; begin a new study, hydra.sweeper.study_name=..."
                )


def is_value_of(distribution: "BaseDistribution", value: Any) -> bool:
    """Whether a value is one of a distribution."""
    if isinstance(value, str) and not hasattr(distribution, "choices"):
        return False
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False
