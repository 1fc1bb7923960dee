"""What became of the trials of a search, or of the jobs of a grid: as the study tells it, else as their folders do."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_smarter.run.results import epochs_done, ranking_key

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


MIN_FOR_IMPORTANCE = 4  # complete trials, for the importance of a parameter to be told
STATES = ("complete", "pruned", "failed", "running", "waiting")
RUN_STATES = {"done": "complete", "interrupted": "failed", "killed": "failed", "damaged": "failed", "unknown": "failed"}


@dataclass(frozen=True)
class Trial:
    """name: of its folder in the multirun; values: one for each objective, or of a pruned one the last it reported."""

    name: str
    state: str
    values: tuple[float, ...]
    params: Mapping[str, Any]
    epochs: int = 0
    seconds: float | None = None
    reason: str = ""  # why it was pruned, or failed
    trace: str = ""  # ... at length
    best: bool = False  # or on the Pareto front


@dataclass(frozen=True)
class Trials:
    """objectives: max or min, by name; trials: the best first.

    importances: of each parameter, by objective; log: parameters drawn on a logarithmic scale; searched: of a study.
    """

    objectives: Mapping[str, str]
    trials: Sequence[Trial]
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    log_scaled: Collection[str] = ()
    is_study: bool = False

    @property
    def params(self) -> list[str]:
        """The names of what differs, the most important first."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.params)
        weights: Mapping[str, float] = next(iter(self.importances.values()), {})
        return sorted(names, key=lambda name: -weights.get(name, 0.0))

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def load_study(log: Path) -> Study:
    """The study that a search has in its folder; nothing is written to it."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(log)))
    (only,) = storage.get_all_studies()
    return optuna.load_study(study_name=only.study_name, storage=storage, sampler=optuna.samplers.RandomSampler())


def from_study(study: Study, folder: Path) -> Trials:
    """Those that count: one that was cut off is asked again, and is another trial then."""
    objectives = _study_objectives(study)
    ended = [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get("cut_off")]
    front = {trial.number for trial in study.best_trials} if any(trial.values for trial in ended) else set()
    trials = [_trial_from_study(trial, folder / str(trial.number), trial.number in front) for trial in ended]
    drawn = [item for trial in ended for item in trial.distributions.items()]
    log = {name for name, distribution in drawn if getattr(distribution, "log", False)}
    importances = _param_importances(study, objectives)
    return Trials(objectives, _sort_trials(trials, objectives), importances, log, is_study=True)


def _study_objectives(study: Study) -> dict[str, str]:
    modes = [direction.name.lower()[:3] for direction in study.directions]
    names = list(study.user_attrs.get("search", {}).get("objective", {}))
    if len(names) != len(modes):
        names = [f"objective {place}" for place in range(1, len(modes) + 1)]
    return dict(zip(names, modes, strict=True))


def _trial_from_study(trial: FrozenTrial, folder: Path, best: bool) -> Trial:
    state, last = state_of(trial), list(trial.intermediate_values.values())[-1:]
    error = str(trial.user_attrs.get("error") or "")
    reasons = {"pruned": _is_pruned(trial), "failed": last_error_line(error)}
    return Trial(
        name=str(trial.number),
        state=state,
        values=tuple(trial.values or last),
        params=dict(trial.params),
        epochs=epochs_done(folder),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        reason=reasons.get(state, ""),
        trace=error,
        best=best,
    )


def _is_pruned(trial: FrozenTrial) -> str:
    """At which validation, counted from 1, and what it had come to: other trials had come to more by then."""
    told = trial.intermediate_values
    at = trial.user_attrs.get("pruned", max(told, default=None))
    value = f" with {told[at]:.4f}" if at in told else ""
    return f"stopped at validation {at}{value}: others were ahead by then"


def _param_importances(study: Study, objectives: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """How much of what the trials came to hangs on each parameter (fANOVA); empty where that cannot be told."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if complete < MIN_FOR_IMPORTANCE:
        return {}
    trees = max(8, min(64, 6400 // complete))  # Optuna's 64 take a quarter of a minute for a thousand trials
    evaluator = FanovaImportanceEvaluator(n_trees=trees, seed=0)
    found = {}
    for place, name in enumerate(objectives):
        target = None if len(objectives) == 1 else _value_at(place)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that all trials are alike
                found[name] = get_param_importances(study, evaluator=evaluator, target=target)
        except (RuntimeError, ValueError):  # nothing varies
            continue
    return {name: weights for name, weights in found.items() if len(weights) > 1}


def _value_at(place: int) -> Any:
    return lambda trial: trial.values[place]


def from_folders(content: Mapping[str, Any]) -> Trials:
    """Those of a multirun as `list_jobs` tells it: what was chosen is what not all jobs have."""
    known: Mapping[str, Any] = next((run for run in content["jobs"] if run.get("monitor")), {})
    objectives = {str(known.get("monitor", "best")): str(known.get("mode") or "max")}
    return Trials(
        objectives, _sort_trials([_trial_from_folder(run) for run in content["jobs"]], objectives, first=True)
    )


def _trial_from_folder(run: Mapping[str, Any]) -> Trial:
    best, status = run.get("best"), str(run["status"])
    reason = run.get("error") or run.get("damage") or (status if status in ("interrupted", "killed") else "")
    folder = Path(run["folder"])
    return Trial(
        name=folder.name,
        state=RUN_STATES.get(status, status),
        values=() if best is None or not math.isfinite(best) else (float(best),),
        params=dict(map(_parse_override, run["overrides"])),
        epochs=epochs_done(folder),
        seconds=run.get("seconds"),
        reason=str(reason),
    )


def _parse_override(word: str) -> tuple[str, Any]:
    key, _, value = word.lstrip("+").partition("=")
    if re.fullmatch(r"[+-]?\d+", value):
        return key, int(value)
    try:
        number = float(value)
    except ValueError:
        return key, value
    return key, number if math.isfinite(number) else value


def _sort_trials(trials: Sequence[Trial], objectives: Mapping[str, str], *, first: bool = False) -> list[Trial]:
    """The best first, by the first objective, then what is not complete; `first`: that one is marked as the best."""
    mode = next(iter(objectives.values()))

    def key(trial: Trial) -> tuple[int, float]:
        return STATES.index(trial.state), ranking_key(next(iter(trial.values), None), mode)

    order = sorted(trials, key=key)
    if first and order and order[0].state == "complete" and order[0].values:
        order[0] = replace(order[0], best=True)
    return order


def state_of(trial: FrozenTrial) -> str:
    """complete, pruned, failed, running or waiting."""
    return {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def last_error_line(error: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line for line in error.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or ["no reason known"])[-1].strip()
