"""From evidence to findings: a pure function for each kind, causes before what they explain."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.diagnosis.measurements import Evidence, Measurements
from train_smarter.errors import UserError, did_you_mean

Severity = Literal["note", "warning", "problem"]
ORDER: dict[Severity, int] = {"problem": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """name: of what was found; evidence: the numbers behind it; where: epochs, layers or classes, or empty."""

    name: str
    severity: Severity
    evidence: str
    where: str = ""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the findings. The callback's YAML explains what each number means, and why it has this value."""

    max_first_loss_vs_chance: float
    max_loss_rise: float
    max_update_ratio: float
    min_update_ratio: float
    learned_loss_vs_chance: float
    min_gradient_ratio: float
    max_loss_vs_chance: float
    max_gradient_vs_weight: float
    max_dead_relu_fraction: float
    blocking_dead_relu_fraction: float
    max_accuracy_gap: float
    large_accuracy_gap: float
    min_standard_errors: float
    fitted_loss_vs_chance: float
    fitted_loss_without_classes: float
    min_loss_drop_per_epoch: float
    annealed_lr_fraction: float
    min_drop_still_improving: float
    min_loss_worth_training: float
    fitted_accuracy: float
    min_train_examples: float
    max_mean_shift: float
    max_token_difference: float
    min_accuracy_fall: float
    max_error_gap: float
    large_error_gap: float
    max_score_gap: float
    large_score_gap: float
    max_class_ratio: float
    max_data_wait_fraction: float
    min_data_wait_ms: float
    max_standard_error: float


Rule = Callable[[Evidence, Limits], "Finding | None"]


# ---- what a number is held against


def chance_loss(facts: Measurements) -> float | None:
    """Loss of the best constant prediction; None: unknown, or no measure of a loss (zero, negative, NaN).

    Of classes: that of a model that knows how frequent they are in training, and nothing else.
    """
    shares = [count / sum(facts.train_classes) for count in facts.train_classes if count]
    loss = -sum(share * math.log(share) for share in shares) if shares else facts.chance_loss
    return loss if shares or (loss is not None and loss > 0 and math.isfinite(loss)) else None


def chance_accuracy(facts: Measurements) -> float | None:
    """Accuracy of predicting the most frequent class; None: the task has no classes."""
    return max(facts.train_classes) / sum(facts.train_classes) if any(facts.train_classes) else None


def frequent_classes(facts: Measurements, limits: Limits) -> list[int]:
    """The classes that have training examples, and not so few that the classes are imbalanced."""
    most = max(facts.train_classes, default=0)
    return [label for label, count in enumerate(facts.train_classes) if count * limits.max_class_ratio > most]


def name_of_chance(facts: Measurements) -> str:
    """How a message calls what `chance_loss` is the loss of."""
    return "guessing" if facts.train_classes else "the best constant prediction"


def standard_error(accuracy: float, examples: int) -> float:
    """Of an accuracy that was measured on so many examples."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0) / examples) if examples else 0.0


def error_rate(evidence: Evidence) -> float:
    """Standard error of the best validation accuracy."""
    return standard_error(max(evidence.curve("val/accuracy"), default=0.0), evidence.facts.val_examples)


def late_epochs(values: Sequence[float]) -> float:
    """The mean of the last third, of three values at least."""
    return statistics.fmean(values[-max(3, len(values) // 3) :])


def relative_decrease(values: Sequence[float], over: int = 3) -> float:
    """By what share a loss still falls in an epoch, over the last few: 0.05 is 5%."""
    last = values[-over:]
    if len(last) < 2 or min(last) <= 0:
        return 0.0
    return float(1 - (last[-1] / last[0]) ** (1 / (len(last) - 1)))


def join_names(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{kind} {shown}"


def make_limits(given: Any) -> Limits:
    """The given limits; those that are absent, as in the config of an older run, have today's values of conf/."""
    names = [field.name for field in fields(Limits)]
    limits = dict(given or {})
    for name, value in limits.items():
        if name not in names:
            raise UserError(f"callbacks.diagnosis.limits has no {name}{did_you_mean(str(name), names)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"callbacks.diagnosis.limits.{name}={value}: give a number")
    if not limits.keys() >= set(names):
        limits = {**OmegaConf.load(paths.CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits, **limits}
    return Limits(**limits)
