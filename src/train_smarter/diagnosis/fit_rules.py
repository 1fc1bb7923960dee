"""Rules about the fit: overfitting, underfitting, length of the training."""

from itertools import pairwise

from train_smarter.diagnosis.findings import Finding, Limits, Severity, chance_level, error_rate, relative_decrease
from train_smarter.diagnosis.measurements import Evidence

# ---- fit


def _judge_fit(evidence: Evidence) -> tuple[float, float] | None:
    """Accuracy on train and validation: clean ones of the best checkpoint, else those of the last epoch.

    Only of the classes that there are in training.
    """
    facts, clean = evidence.facts, evidence.facts.clean
    train, val = evidence.curve("train/accuracy"), evidence.curve("val/accuracy")
    if "train/accuracy" in clean and "val/accuracy" in clean:
        pair = clean["train/accuracy"], clean["val/accuracy"]
    elif train and val:
        pair = train[-1], val[-1]
    else:
        return None
    known = [i for i, count in enumerate(facts.train_classes) if count]
    total = sum(sum(facts.confusion[i]) for i in known) if facts.confusion else 0
    if len(known) < len(facts.train_classes) and total:
        pair = pair[0], sum(facts.confusion[i][i] for i in known) / total
    return pair


def overfitting(evidence: Evidence, limits: Limits) -> Finding | None:
    pair = _judge_fit(evidence)
    losses = evidence.curve("val/loss")
    if (
        pair is None
        or len(losses) < 2
        or pair[0] - pair[1] < max(limits.max_accuracy_gap, limits.min_standard_errors * error_rate(evidence))
    ):
        return None
    train, val = pair
    least, epochs = losses.index(min(losses)), evidence.epochs("val/loss")
    rises = least < len(losses) - 1
    rose = f", val/loss from {losses[least]:.3g} (epoch {epochs[least]}) to {losses[-1]:.3g}" if rises else ""
    severity: Severity = "problem" if train - val >= limits.large_accuracy_gap else "warning"
    return Finding("overfitting", severity, f"accuracy {train:.3f} on train, {val:.3f} on validation{rose}")


def underfitting(evidence: Evidence, limits: Limits) -> Finding | None:
    """It has stopped to learn before it fits its own training examples."""
    pair, losses = _judge_fit(evidence), evidence.curve("train/loss")
    loss, _ = chance_level(evidence.facts)
    if (
        pair is None
        or not evidence.facts.training_done
        or len(losses) < 4
        or pair[0] - pair[1] >= limits.max_accuracy_gap
    ):
        return None
    fits = losses[-1] < limits.fitted_loss_vs_chance * loss or pair[0] >= limits.fitted_accuracy
    if fits or relative_decrease(losses, max(3, len(losses) // 3)) >= limits.min_loss_drop_per_epoch:
        return None
    told = f"train/accuracy stays at {pair[0]:.3f}, train/loss at {losses[-1]:.3g} where guessing has {loss:.3g}"
    # A schedule that ends near zero stands still in any case.
    annealed = (
        evidence.facts.rate is not None and evidence.facts.rate < limits.annealed_lr_fraction * evidence.facts.peak_rate
    )
    return Finding("underfitting", "note" if annealed else "warning", f"{told}: the model cannot hold more")


def _still_learns(evidence: Evidence, limits: Limits, *, steps: int) -> bool:
    """Both losses fall from epoch to epoch, in the last one as fast as before, and there is something left to gain.

    Where hardly anything was learned yet, any fall will do: networks that read begin slowly.
    """
    loss, _ = chance_level(evidence.facts)
    curves = [curve[-steps - 1 :] for curve in evidence.pairs("loss")]
    if min(map(len, curves)) < 2 or curves[1][-1] < limits.min_loss_worth_training * loss:
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
    _, chance = chance_level(evidence.facts)
    if (
        not evidence.facts.training_done
        or not values
        or error < limits.max_standard_error
        or max(values) <= chance + limits.min_standard_errors * error
    ):
        return None
    told = f"val/accuracy {max(values):.4f} ± {error:.4f}, its standard error on {number} examples"
    return Finding("accuracy_noise", "note", f"{told}: a run that is better by less may only have been luckier")
