"""Rules about the optimization: loss, learning rate, gradients, dead units, waiting for data."""

import math
import statistics
from collections.abc import Sequence

from train_smarter.diagnosis.findings import Finding, Limits, Severity, chance_loss, join_names
from train_smarter.diagnosis.measurements import Evidence, Measurements, Row

# ---- the optimizer


def nan_loss(evidence: Evidence, limits: Limits) -> Finding | None:  # noqa: ARG001
    if broken := evidence.facts.nan_location:
        return Finding(
            "nan_loss",
            "problem",
            f"the loss is no number any more from step {broken['step']} on; it began in the {broken['where']}",
            f"epoch {broken['epoch']}, batch {broken['batch']}",
        )
    return None


def learning_rate_too_high(evidence: Evidence, limits: Limits) -> Finding | None:
    losses, first, peak = evidence.curve("train/loss"), evidence.facts.first_loss, evidence.facts.update_peak
    if not losses or first is None or not evidence.facts.single_loss:
        return None
    severity: Severity = "warning" if _has_learned(evidence, limits) else "problem"
    worst = max(losses[:3])
    if _has_risen(evidence, limits, worst, first):
        told = f"training made the loss worse: {first:.3g} in the first step, {worst:.3g} over an epoch"
        return Finding("learning_rate_too_high", severity, told, f"epoch {losses.index(worst)}")
    if peak and peak["size"] > limits.max_update_ratio:
        told = f"a single step changed the weights by {peak['size']:.1f} times their size"
        return Finding("learning_rate_too_high", severity, told, f"epoch {peak['epoch']}")
    return None


def _has_risen(evidence: Evidence, limits: Limits, worst: float, first: float) -> bool:
    """Whether the first epochs made the loss worse than it was in the first step, and than chance.

    Where chance is unknown, a first batch may have been an easy one: only a loss that ends worse than it began counts.
    """
    chance = chance_loss(evidence.facts)
    if chance is not None:
        return worst > limits.max_loss_rise * max(first, chance)
    return first > 0 and worst > limits.max_loss_rise * first and evidence.curve("train/loss")[-1] > first


def _has_learned(evidence: Evidence, limits: Limits) -> bool:
    """Whether the training loss has fallen below that of chance; where that is unknown, below the first one."""
    losses, reference = evidence.curve("train/loss"), chance_loss(evidence.facts)
    reference = evidence.facts.first_loss if reference is None else reference
    return not losses or reference is None or not losses[-1] > limits.max_loss_vs_chance * reference


def learning_rate_too_low(evidence: Evidence, limits: Limits) -> Finding | None:
    losses, loss = evidence.curve("train/loss"), chance_loss(evidence.facts)
    if loss is None or not evidence.facts.single_loss:
        return None
    updates = [row["update_ratio"] for rows in evidence.layers.values() for row in rows[:3] if "update_ratio" in row]
    if len(losses) < 2 or not updates or losses[-1] < limits.learned_loss_vs_chance * loss:
        return None
    median = statistics.median(updates)
    if not median < limits.min_update_ratio:
        return None
    told = f"a step changes the weights by {median:.1e} of their size, and train/loss only fell to {losses[-1]:.3g}"
    return Finding("learning_rate_too_low", "problem", told, "all epochs")


# ---- gradients


def _gradient_norms(rows: Sequence[Row]) -> list[float]:
    """Relative to the weights, in the first epochs."""
    return [row["grad_norm"] / max(row["weight_norm"], 1e-30) for row in rows[:3] if "grad_norm" in row]


def vanishing_gradients(evidence: Evidence, limits: Limits) -> Finding | None:
    sizes = {name: statistics.median(of) for name, rows in evidence.layers.items() if (of := _gradient_norms(rows))}
    if len(sizes) < 3 or len(evidence.curves) < 2 or not evidence.facts.single_loss:
        return None
    if not (last := list(sizes.values())[-1]):
        return None  # what begins at zero, as the last norm of a residual block does, has gradients a little later
    weak = [name for name, size in sizes.items() if size < limits.min_gradient_ratio * last]
    if not weak:
        return None
    severity: Severity = "warning" if _has_learned(evidence, limits) else "problem"
    least = min(sizes.values())
    told = f"the gradient of the weakest layer is {least / last:.0e} of the last layer's, each relative to its weights"
    return Finding("vanishing_gradients", severity, told, join_names("layer", weak))


def exploding_gradients(evidence: Evidence, limits: Limits) -> Finding | None:
    first, peak, (loss, name) = evidence.facts.first_loss, evidence.facts.gradient_peak, _loss_at_start(evidence.facts)
    if loss is None or not evidence.facts.single_loss:
        return None
    if first is not None and first > limits.max_first_loss_vs_chance * loss:
        told = f"the first loss is {first:.3g}, where {name} {loss:.3g}: the weights are too large from the start"
        return Finding("exploding_gradients", "problem", told, "first step")
    # A gradient grows with its loss. Losses of classes are a few nats; others have any unit.
    most = limits.max_gradient_vs_weight * (1 if evidence.facts.train_classes else max(1, loss))
    step = evidence.facts.update_peak
    overshot = step is not None and step["size"] > limits.max_update_ratio  # then they are large because the steps are
    if peak is not None and peak["size"] > most and not overshot:
        told = f"a gradient was {peak['size']:.3g} times as large as the weights"
        return Finding("exploding_gradients", "problem", told, f"epoch {peak['epoch']}")
    return None


def _loss_at_start(facts: Measurements) -> tuple[float | None, str]:
    """Loss of a network that knows nothing, not even what is frequent, and what a message calls it."""
    if facts.train_classes:
        return math.log(max(2, len(facts.names))), "guessing has"
    known = [loss for loss in (facts.zero_loss, chance_loss(facts)) if loss is not None and loss > 0]
    return max(known, default=None), "outputs of zero have" if facts.zero_loss else "the best constant prediction has"


def dead_relus(evidence: Evidence, limits: Limits) -> Finding | None:
    shares = {
        name: rows[-1]["dead_relu_fraction"]
        for name, rows in evidence.layers.items()
        if "dead_relu_fraction" in rows[-1]
    }
    dead = {name: share for name, share in shares.items() if share >= limits.max_dead_relu_fraction}
    if not dead:
        return None
    worst = max(dead.values())
    severity: Severity = "problem" if worst >= limits.blocking_dead_relu_fraction else "warning"
    told = f"{worst:.0%} of a layer's ReLUs let nothing through, for any example"
    return Finding("dead_relus", severity, told, join_names("layer", list(dead)))


# ---- data


def data_starvation(evidence: Evidence, limits: Limits) -> Finding | None:
    share, seconds = evidence.facts.data_wait, evidence.facts.step_wait
    if (
        share is None
        or seconds is None
        or share < limits.max_data_wait_fraction
        or seconds * 1000 < limits.min_data_wait_ms
    ):
        return None
    told = f"{share:.0%} of the training time went by in waiting for a batch, {seconds * 1000:.1f} ms a step"
    return Finding("data_starvation", "warning", told)
