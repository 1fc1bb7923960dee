"""Each rule by scripted evidence of a task without classes: the best constant prediction has a loss of 1."""

from collections.abc import Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from train_smarter.diagnosis.findings import Finding, Limits, chance_accuracy, chance_loss
from train_smarter.diagnosis.measurements import Evidence, Measurements, Row
from train_smarter.diagnosis.rules import diagnose
from train_smarter.paths import CONF

LIMITS = Limits(**OmegaConf.load(CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits)
HEALTHY = [0.9, 0.5, 0.3, 0.15, 0.1, 0.098, 0.097, 0.097]
STANDS = [0.9, 0.75, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
Curve = Sequence[float]


def evidence(
    train: Curve = HEALTHY,
    val: Curve | None = None,
    *,
    metrics: dict[str, str] | None = None,
    scores: tuple[float, float] = (1.0, 1.0),
    layers: dict[str, list[Row]] | None = None,
    **facts: Any,
) -> Evidence:
    """A regression with these losses; scores: the headline metric of every epoch, on train and validation."""
    val, metrics = train if val is None else val, {"rmse": "min"} if metrics is None else metrics
    curves: list[Row] = [
        {"epoch": float(i), "train/loss": a, "val/loss": b} for i, (a, b) in enumerate(zip(train, val, strict=True))
    ]
    for name in list(metrics)[:1]:
        for row in curves:
            row |= {f"train/{name}": scores[0], f"val/{name}": scores[1]}
    usual = {"metrics": metrics, "val_examples": 10_000, "first_loss": 1.1, "chance_loss": 1.0, "zero_loss": 1.0}
    return Evidence(
        curves,
        layers or {},
        Measurements(**{**usual, "training_done": True, "validations": 20, "patience": 5, **facts}),
    )


def layer(gradient: float = 0.1, *, update: float = 0.01) -> list[Row]:
    return [{"weight_norm": 1.0, "grad_norm": gradient, "update_ratio": update}] * 3


def found(given: Evidence) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(given, LIMITS)}


def test_a_healthy_regression_has_no_finding() -> None:
    assert found(evidence(layers={name: layer() for name in "abc"})) == {}


@pytest.mark.parametrize("loss", [None, float("nan"), 0.0, -1.0])
def test_a_chance_loss_that_measures_nothing_is_unknown(loss: float | None) -> None:
    assert chance_loss(Measurements(chance_loss=loss)) is None
    assert chance_accuracy(Measurements(chance_loss=loss)) is None


def test_overfitting_is_half_of_the_error_that_only_validation_has() -> None:
    clean = {"train/rmse": 0.46, "val/rmse": 0.84}
    finding = found(evidence(clean=clean))["overfitting"]
    assert finding.evidence.startswith("rmse 0.46 on train, 0.84 on validation")
    assert finding.severity == "warning"  # (0.84 - 0.46) / 0.84 = 0.45
    assert found(evidence(clean=clean | {"train/rmse": 0.4}))["overfitting"].severity == "problem"  # 0.52
    assert "overfitting" not in found(evidence(clean=clean | {"train/rmse": 0.7}))  # 0.17
    assert "overfitting" not in found(evidence(clean={"train/rmse": 0.84, "val/rmse": 0.46}))


def test_overfitting_of_a_score_is_a_share_of_its_training_value() -> None:
    metrics = {"map": "max", "f1": "max"}
    clean = {"train/map": 0.9, "val/map": 0.75}
    assert found(evidence(metrics=metrics, clean=clean))["overfitting"].severity == "warning"  # 0.15 / 0.9 = 0.17
    assert "overfitting" not in found(evidence(metrics=metrics, clean={"train/map": 0.9, "val/map": 0.85}))
    assert found(evidence(metrics=metrics, scores=(0.9, 0.4)))["overfitting"].severity == "problem"  # last epoch
    assert "overfitting" not in found(evidence(metrics={"r2": "max"}, scores=(-0.5, -0.9)))  # no share of less than 0


def test_few_validation_examples_are_no_evidence_of_overfitting() -> None:
    clean = {"train/rmse": 0.6, "val/rmse": 0.84}  # 0.286; three standard errors of 50 examples: 3 * 0.71 / 7.07 = 0.30
    assert "overfitting" not in found(evidence(clean=clean, val_examples=50))
    assert "overfitting" in found(evidence(clean=clean, val_examples=60))  # 0.275
    assert "overfitting" not in found(evidence(clean=clean, val_examples=0))  # nobody knows how many


def test_a_task_without_metrics_is_judged_by_its_loss() -> None:
    rising = [0.9, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    finding = found(evidence(HEALTHY, rising, metrics={}))["overfitting"]
    assert finding.evidence == "loss 0.097 on train, 0.7 on validation, val/loss from 0.5 (epoch 1) to 0.7"
    negative = [loss - 2 for loss in HEALTHY]
    assert found(evidence(negative, rising, metrics={}, first_loss=-0.9, chance_loss=None, zero_loss=None)) == {}


def test_underfitting_stands_still_between_the_best_constant_prediction_and_a_fit_and_may_be_noise() -> None:
    finding = found(evidence(STANDS))["underfitting"]
    told = "train/loss stays at 0.7 where the best constant prediction has 1: the model cannot hold more, or the rest"
    assert (finding.severity, finding.evidence) == ("note", f"{told} is noise")
    assert "underfitting" not in found(evidence([0.9, 0.3, *[0.19] * 6]))  # an R2 of 0.81
    assert "underfitting" not in found(evidence([1.4, 1.3, *[1.2] * 6], first_loss=1.4))  # worse than a constant
    assert "underfitting" not in found(evidence(STANDS, chance_loss=None, zero_loss=None))
    assert "underfitting" not in found(evidence(STANDS, scores=(0.87, 1.0)))  # it holds more than validation shows


def test_a_large_first_loss_of_targets_that_are_far_from_zero_is_no_exploding_gradient() -> None:
    # Targets with mean 150 and deviation 77: zero has 28,429, the mean 5,929; 0.693 would be that of two classes.
    raw: dict[str, Any] = {"first_loss": 28_000.0, "zero_loss": 28_429.0, "chance_loss": 5_929.0}
    falls = [9_000.0, 5_000.0, 4_000.0, 3_500.0, 3_300.0, 3_200.0, 3_200.0]
    steep = {"size": 400.0, "epoch": 0}  # of a gradient that grows with the loss
    assert "exploding_gradients" not in found(evidence(falls, gradient_peak=steep, **raw))
    assert "exploding_gradients" in found(evidence(falls, **{**raw, "first_loss": 150_000.0}))
    assert "exploding_gradients" in found(evidence(falls, gradient_peak={"size": 1e6, "epoch": 0}, **raw))


def test_a_first_loss_is_held_against_outputs_of_zero_or_the_best_constant() -> None:
    finding = found(evidence(first_loss=12.0))["exploding_gradients"]
    assert finding.evidence.startswith("the first loss is 12, where outputs of zero have 1")
    finding = found(evidence(first_loss=12.0, zero_loss=None))["exploding_gradients"]
    assert finding.evidence.startswith("the first loss is 12, where the best constant prediction has 1")
    assert found(evidence(first_loss=1e4, zero_loss=None, chance_loss=None)) == {}


def test_a_rate_is_judged_by_the_chance_loss() -> None:
    assert found(evidence([2.0, 1.5, 1.2, 1.1]))["learning_rate_too_high"].severity == "problem"
    assert found(evidence([2.0, 0.5, 0.2, 0.1]))["learning_rate_too_high"].severity == "warning"
    slow = {name: layer(update=1e-6) for name in "ab"}
    assert found(evidence([0.999, 0.998, 0.997], layers=slow)).keys() == {"learning_rate_too_low"}
    assert "learning_rate_too_low" not in found(evidence([0.999, 0.998], layers=slow, chance_loss=None))


def test_without_a_chance_loss_a_rate_is_too_high_only_if_the_loss_ends_worse_than_it_began() -> None:
    unknown: dict[str, Any] = {"chance_loss": None, "zero_loss": None, "first_loss": 1.0}
    assert found(evidence([5.0, 4.0, 3.0], **unknown))["learning_rate_too_high"].severity == "problem"
    assert "learning_rate_too_high" not in found(evidence([5.0, 0.9, 0.5], **unknown))  # an easy first batch
    assert "learning_rate_too_high" not in found(evidence([-5.0, -4.0, -3.0], **{**unknown, "first_loss": -6.0}))
    jumped = found(evidence([0.9, 0.5, 0.3], update_peak={"size": 2.5, "epoch": 0}, **unknown))
    assert jumped["learning_rate_too_high"].severity == "warning"


def test_of_several_optimizers_no_loss_and_no_rate_is_judged() -> None:
    adversaries = evidence(
        [1.0, 2.0, 3.0, 4.0],
        [1.0, 2.0, 3.0, 9.0],
        metrics={},
        layers={"a": layer(1e-9, update=1e-9), "b": layer(), "c": layer(100.0)},
        gradient_peak={"size": 1e4, "epoch": 0},
        update_peak={"size": 9.0, "epoch": 0},
        first_loss=90.0,
        single_loss=False,
    )
    assert found(adversaries) == {}
    falls = evidence([0.9, 0.6, 0.4, 0.3], metrics={}, single_loss=False, stopped=True)
    assert found(falls) == {}


def test_of_several_optimizers_a_broken_loss_and_dead_units_are_found() -> None:
    broken = {"epoch": 1, "step": 36, "batch": 2, "where": "loss"}
    assert found(evidence(single_loss=False, nan_location=broken)).keys() == {"nan_loss"}
    assert "dead_relus" in found(evidence(single_loss=False, layers={"relu": [{"dead_relu_fraction": 1.0}]}))


def test_rules_about_classes_need_classes_whatever_the_names_of_the_metrics() -> None:
    falls = evidence([0.9, 0.6, 0.5, 0.4, 0.3, 0.2], metrics={"accuracy": "max"}, scores=(0.8, 0.1), val_examples=40)
    for i, row in enumerate(falls.curves):
        row["val/accuracy"] = 0.5 - 0.05 * i
    assert found(falls).keys() == {"overfitting"}
    assert "0.250 on validation" in found(falls)["overfitting"].evidence
    few = evidence(metrics={"accuracy": "max"}, scores=(0.8, 0.8), val_examples=40)
    assert found(few) == {}  # no standard error of an accuracy


def test_training_that_still_learns_is_too_short_by_the_chance_loss_or_the_first_one() -> None:
    falls = [0.9, 0.7, 0.55, 0.4]
    assert found(evidence(falls)).keys() == {"training_too_short"}
    assert found(evidence(falls, chance_loss=None)).keys() == {"training_too_short"}
    assert "training_too_short" not in found(evidence(falls, chance_loss=None, first_loss=9.0, zero_loss=None))
    assert "training_too_short" not in found(evidence([-0.2, -0.4, -0.6, -0.9], chance_loss=None, first_loss=0.1))
