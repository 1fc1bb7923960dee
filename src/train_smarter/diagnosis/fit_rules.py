"""Rules about the fit: overfitting, underfitting, length of the training."""

import math
from dataclasses import dataclass
from itertools import pairwise

from train_smarter.diagnosis.findings import (
    Finding,
    Limits,
    Severity,
    chance_accuracy,
    chance_loss,
    error_rate,
    frequent_classes,
    name_of_chance,
    relative_decrease,
)
from train_smarter.diagnosis.measurements import Evidence

# Standard error of an RMSE of normal errors, as a share of it, times the square root of the examples. It serves for
# every metric whose own is unknown; that of a share, such as an accuracy, is smaller.
RMSE_ERROR = 0.71
UNFINISHED = 1.1  # times the loss of a constant prediction: above, it is the training that has not come far

# ---- fit


@dataclass(frozen=True)
class Gap:
    """By how much a metric is worse on validation than on train.

    size: of accuracies the difference; else a share: of the validation value where less is better (0.5: half of the
        error is not there on train), of the train value where more is better.
    noise: the size that chance explains; limit, large: from where on it is a warning, and a problem.
    """

    name: str
    train: float
    val: float
    size: float
    noise: float
    limit: float
    large: float


def measure_gap(evidence: Evidence, limits: Limits) -> Gap | None:
    """The gap of the accuracy where there are classes, else of the headline metric; None: nothing to compare."""
    pair = _accuracies(evidence, limits)
    if pair is None or chance_accuracy(evidence.facts) is None:
        return _headline_gap(evidence, limits)
    noise = limits.min_standard_errors * error_rate(evidence)
    return Gap("accuracy", *pair, pair[0] - pair[1], noise, limits.max_accuracy_gap, limits.large_accuracy_gap)


def _headline_gap(evidence: Evidence, limits: Limits) -> Gap | None:
    """The gap as a share; None where zero or negative values have no share, or where the examples are not counted."""
    facts = evidence.facts
    name, mode = next(iter(facts.metrics.items()), ("loss", "min"))
    pair = _clean_or_last(evidence, name)
    if pair is None or not facts.val_examples or (name == "loss" and not facts.single_loss):
        return None
    train, val = pair
    whole, size = (val, val - train) if mode == "min" else (train, train - val)
    if not whole > 0 or (mode == "min" and train < 0):
        return None
    noise = limits.min_standard_errors * RMSE_ERROR / math.sqrt(facts.val_examples)
    error = limits.max_error_gap, limits.large_error_gap
    score = limits.max_score_gap, limits.large_score_gap
    return Gap(name, train, val, size / whole, noise, *(error if mode == "min" else score))


def _clean_or_last(evidence: Evidence, name: str) -> tuple[float, float] | None:
    """A metric on train and validation: of the best checkpoint where that is known, else of the last epoch."""
    clean, (train, val) = evidence.facts.clean, (evidence.curve(f"{split}/{name}") for split in ("train", "val"))
    if f"train/{name}" in clean and f"val/{name}" in clean:
        return clean[f"train/{name}"], clean[f"val/{name}"]
    return (train[-1], val[-1]) if train and val else None


def _accuracies(evidence: Evidence, limits: Limits) -> tuple[float, float] | None:
    """Accuracy on train and validation: clean ones of the best checkpoint, else those of the last epoch.

    On validation, only of the classes that are not rare in training: what is missing of others is their rarity.
    """
    facts, pair = evidence.facts, _clean_or_last(evidence, "accuracy")
    if pair is None:
        return None
    known = frequent_classes(facts, limits)
    total = sum(sum(facts.confusion[i]) for i in known) if facts.confusion else 0
    if len(known) < len(facts.train_classes) and total:
        pair = pair[0], sum(facts.confusion[i][i] for i in known) / total
    return pair


def overfitting(evidence: Evidence, limits: Limits) -> Finding | None:
    gap = measure_gap(evidence, limits)
    losses = evidence.curve("val/loss")
    if gap is None or len(losses) < 2 or gap.size < max(gap.limit, gap.noise):
        return None
    least, epochs = losses.index(min(losses)), evidence.epochs("val/loss")
    rises = least < len(losses) - 1
    rose = f", val/loss from {losses[least]:.3g} (epoch {epochs[least]}) to {losses[-1]:.3g}" if rises else ""
    severity: Severity = "problem" if gap.size >= gap.large else "warning"
    digits = ".3f" if gap.name == "accuracy" else ".3g"
    told = f"{gap.name} {gap.train:{digits}} on train, {gap.val:{digits}} on validation"
    return Finding("overfitting", severity, f"{told}{rose}")


def underfitting(evidence: Evidence, limits: Limits) -> Finding | None:
    """It has stopped to learn before it fits its own training examples.

    Without classes a note: what is left of the loss may be noise, which no model can learn.
    """
    gap, losses, loss = measure_gap(evidence, limits), evidence.curve("train/loss"), chance_loss(evidence.facts)
    if gap is None or loss is None or not evidence.facts.single_loss or not evidence.facts.training_done:
        return None
    classes = gap.name == "accuracy" and chance_accuracy(evidence.facts) is not None
    # Without classes, half of an overfitting is enough: regularization leaves a part of the training loss on purpose.
    if len(losses) < 4 or gap.size >= (gap.limit if classes else gap.limit / 2):
        return None
    share = losses[-1] / loss if loss else math.inf
    if classes:
        fits = share < limits.fitted_loss_vs_chance or gap.train >= limits.fitted_accuracy
    else:  # what does not even reach a constant prediction has another reason
        fits = share < limits.fitted_loss_without_classes or share > UNFINISHED
    if fits or relative_decrease(losses, max(3, len(losses) // 3)) >= limits.min_loss_drop_per_epoch:
        return None
    stays = f"train/accuracy stays at {gap.train:.3f}, train/loss at" if classes else "train/loss stays at"
    told = f"{stays} {losses[-1]:.3g} where {name_of_chance(evidence.facts)} has {loss:.3g}"
    if not classes:
        return Finding("underfitting", "note", f"{told}: the model cannot hold more, or the rest is noise")
    # A schedule that ends near zero changes nothing in any case.
    annealed = (
        evidence.facts.rate is not None and evidence.facts.rate < limits.annealed_lr_fraction * evidence.facts.peak_rate
    )
    return Finding("underfitting", "note" if annealed else "warning", f"{told}: the model cannot hold more")


def _still_learns(evidence: Evidence, limits: Limits, *, steps: int) -> bool:
    """Both losses fall from epoch to epoch, in the last one as fast as before, and there is something left to gain.

    Where hardly anything was learned yet, any fall will do: networks that read begin slowly.
    """
    facts, curves = evidence.facts, [curve[-steps - 1 :] for curve in evidence.pairs("loss")]
    loss = chance_loss(facts)
    loss = facts.first_loss if loss is None else loss
    if min(map(len, curves)) < 2 or loss is None or not facts.single_loss:
        return False
    if curves[1][-1] < limits.min_loss_worth_training * loss:
        return False
    falls = all(after < before for curve in curves for before, after in pairwise(curve))
    begins = curves[0][-1] > limits.max_loss_vs_chance * loss
    fast = (
        min(relative_decrease(part, len(part)) for curve in curves for part in (curve, curve[-2:]))
        >= limits.min_drop_still_improving
    )
    return falls and (fast or begins)


def training_too_short(evidence: Evidence, limits: Limits) -> Finding | None:
    val, facts = evidence.curve("val/loss"), evidence.facts
    if not facts.training_done or facts.stopped or not _still_learns(evidence, limits, steps=2):
        return None
    told = f"when it ended, val/loss still fell by {relative_decrease(val):.0%} an epoch, to {val[-1]:.3g}"
    return Finding("training_too_short", "warning", told, f"{len(evidence.curves)} epochs")


# ---- when it stops


def early_stopping_too_soon(evidence: Evidence, limits: Limits) -> Finding | None:
    val, facts = evidence.curve("val/loss"), evidence.facts
    if not facts.stopped or not _still_learns(evidence, limits, steps=1):
        return None
    told = (
        f"it stopped while val/loss still fell by {relative_decrease(val, 2):.0%} an epoch; patience {facts.patience}"
    )
    return Finding("early_stopping_too_soon", "warning", told, f"epoch {evidence.epochs('val/loss')[-1]}")


def early_stopping_never(evidence: Evidence, limits: Limits) -> Finding | None:  # noqa: ARG001
    patience, most = evidence.facts.patience, evidence.facts.validations
    if patience is None or most is None or patience < most - 1:
        return None
    told = f"patience {patience} can never stop a run of {most} validations"
    return Finding("early_stopping_never", "note", told)


def accuracy_noise(evidence: Evidence, limits: Limits) -> Finding | None:
    error, values, number = error_rate(evidence), evidence.curve("val/accuracy"), evidence.facts.val_examples
    chance = chance_accuracy(evidence.facts)
    if (
        chance is None
        or not evidence.facts.training_done
        or not values
        or error < limits.max_standard_error
        or max(values) <= chance + limits.min_standard_errors * error
    ):
        return None
    told = f"val/accuracy {max(values):.4f} ± {error:.4f}, its standard error on {number} examples"
    return Finding("accuracy_noise", "note", f"{told}: a run that is better by less may only have been luckier")
