"""All rules, and which findings explain others."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from train_smarter.diagnosis.data_rules import class_imbalance, class_never_predicted, distribution_shift, label_noise
from train_smarter.diagnosis.findings import ORDER, Finding, Limits, Rule
from train_smarter.diagnosis.fit_rules import (
    accuracy_noise,
    early_stopping_never,
    early_stopping_too_soon,
    overfitting,
    training_too_short,
    underfitting,
)
from train_smarter.diagnosis.measurements import Evidence
from train_smarter.diagnosis.optimization_rules import (
    data_starvation,
    dead_relus,
    exploding_gradients,
    learning_rate_too_high,
    learning_rate_too_low,
    nan_loss,
    vanishing_gradients,
)


def diagnose(evidence: Evidence, limits: Limits) -> list[Finding]:
    """What is found, the worst first; what another finding explains is left out."""
    found: list[Finding] = []
    explained: set[str] = set()
    for rule in RULES:  # causes first; what is explained explains nothing itself
        if rule.__name__ not in explained and (finding := rule(evidence, limits)):
            found.append(finding)
            explained |= set(EXPLAINS.get(finding.name, ()))
    return sorted(found, key=lambda finding: ORDER[finding.severity])


RULES: tuple[Rule, ...] = (
    nan_loss,
    exploding_gradients,
    learning_rate_too_high,
    vanishing_gradients,
    dead_relus,
    learning_rate_too_low,
    class_never_predicted,
    class_imbalance,
    distribution_shift,
    label_noise,
    overfitting,
    underfitting,
    training_too_short,
    early_stopping_too_soon,
    early_stopping_never,
    data_starvation,
    accuracy_noise,
)
FIT_RULES = ("overfitting", "underfitting", "training_too_short", "early_stopping_too_soon", "label_noise")
# Findings that another one explains; they are left out.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "nan_loss": (
        *FIT_RULES,
        "learning_rate_too_high",
        "dead_relus",
        "distribution_shift",
        "class_never_predicted",
        "accuracy_noise",
    ),
    "exploding_gradients": ("learning_rate_too_high", "vanishing_gradients", "underfitting", "training_too_short"),
    "learning_rate_too_high": (*FIT_RULES, "vanishing_gradients", "distribution_shift"),
    "vanishing_gradients": ("underfitting", "learning_rate_too_low", "training_too_short", "early_stopping_too_soon"),
    "learning_rate_too_low": ("underfitting", "training_too_short", "early_stopping_too_soon"),
    "dead_relus": ("learning_rate_too_low",),
    "distribution_shift": ("overfitting", "label_noise", "training_too_short", "early_stopping_too_soon"),
    "overfitting": ("training_too_short", "early_stopping_too_soon"),
    "underfitting": ("training_too_short", "early_stopping_too_soon"),
}


def to_json(findings: Sequence[Finding], advice: Callable[[Finding], list[str]]) -> list[dict[str, Any]]:
    """As they are kept in diagnosis.json."""
    return [asdict(finding) | {"advice": advice(finding)} for finding in findings]
