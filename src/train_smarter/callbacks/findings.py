"""From evidence to findings: a pure function for each kind, causes before what they explain."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from train_smarter.callbacks.evidence import Evidence, Facts, Row

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
    """From where on something is a finding. What each number means, and why it is so, stands in the callback's YAML."""

    broken_first_loss: float
    rising: float
    overshot: float
    slow_update: float
    learned: float
    vanished: float
    stuck: float
    exploded: float
    dead: float
    all_dead: float
    gap: float
    large_gap: float
    errors: float
    fitted: float
    plateau: float
    annealed: float
    improving: float
    worthwhile: float
    fits: float
    enough: float
    shifted: float
    words: float
    falling: float
    imbalance: float
    waiting: float
    wait_ms: float
    luck: float


Rule = Callable[[Evidence, Limits], "Finding | None"]


def diagnose(evidence: Evidence, limits: Limits) -> list[Finding]:
    """What is found, the worst first; what another finding explains is left out."""
    found: list[Finding] = []
    explained: set[str] = set()
    for rule in RULES:  # causes first; what is explained explains nothing itself
        if rule.__name__ not in explained and (finding := rule(evidence, limits)):
            found.append(finding)
            explained |= set(EXPLAINS.get(finding.name, ()))
    return sorted(found, key=lambda finding: ORDER[finding.severity])


# ---- what a number is held against


def guessing(facts: Facts) -> tuple[float, float]:
    """Loss and accuracy of a model that knows how frequent the classes are in training, and nothing else."""
    shares = [count / sum(facts.train_classes) for count in facts.train_classes if count]
    if not shares:
        return math.nan, math.nan
    return -sum(share * math.log(share) for share in shares), max(shares)


def standard_error(accuracy: float, examples: int) -> float:
    """Of an accuracy that was measured on so many examples."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0) / examples) if examples else 0.0


def _error(evidence: Evidence) -> float:
    return standard_error(max(evidence.curve("val/accuracy"), default=0.0), evidence.facts.val_examples)


def _late(values: Sequence[float]) -> float:
    """The mean of the last third, of three values at least."""
    return statistics.fmean(values[-max(3, len(values) // 3) :])


def _pace(values: Sequence[float], over: int = 3) -> float:
    """By what share a loss still falls in an epoch, over the last few: 0.05 is 5%."""
    last = values[-over:]
    if len(last) < 2 or min(last) <= 0:
        return 0.0
    return float(1 - (last[-1] / last[0]) ** (1 / (len(last) - 1)))


# ---- the optimizer


def loss_not_finite(evidence: Evidence, limits: Limits) -> Finding | None:  # noqa: ARG001
    if broken := evidence.facts.broken:
        return Finding(
            "loss_not_finite",
            "problem",
            f"the loss is no number any more from step {broken['step']} on; it began in the {broken['where']}",
            f"epoch {broken['epoch']}, batch {broken['batch']}",
        )
    return None


def learning_rate_too_high(evidence: Evidence, limits: Limits) -> Finding | None:
    loss, _ = guessing(evidence.facts)
    losses, first, peak = evidence.curve("train/loss"), evidence.facts.first_loss, evidence.facts.update_peak
    if not losses or first is None:
        return None
    severity: Severity = "problem" if losses[-1] > limits.stuck * loss else "warning"
    worst = max(losses[:3])
    if worst > limits.rising * max(first, loss):
        told = f"training made the loss worse: {first:.3g} in the first step, {worst:.3g} over an epoch"
        return Finding("learning_rate_too_high", severity, told, f"epoch {losses.index(worst)}")
    if peak and peak["size"] > limits.overshot:
        told = f"a single step changed the weights by {peak['size']:.1f} times their size"
        return Finding("learning_rate_too_high", severity, told, f"epoch {peak['epoch']}")
    return None


def learning_rate_too_low(evidence: Evidence, limits: Limits) -> Finding | None:
    losses, (loss, _) = evidence.curve("train/loss"), guessing(evidence.facts)
    updates = [row["update_ratio"] for rows in evidence.layers.values() for row in rows[:3] if "update_ratio" in row]
    if len(losses) < 2 or not updates or losses[-1] < limits.learned * loss:
        return None
    median = statistics.median(updates)
    if not median < limits.slow_update:
        return None
    told = f"a step changes the weights by {median:.1e} of their size, and train/loss only fell to {losses[-1]:.3g}"
    return Finding("learning_rate_too_low", "problem", told, "all epochs")


# ---- gradients


def _gradients(rows: Sequence[Row]) -> list[float]:
    """Relative to the weights, in the first epochs."""
    return [row["gradient_norm"] / max(row["weight_norm"], 1e-30) for row in rows[:3] if "gradient_norm" in row]


def vanishing_gradients(evidence: Evidence, limits: Limits) -> Finding | None:
    sizes = {name: statistics.median(of) for name, rows in evidence.layers.items() if (of := _gradients(rows))}
    if len(sizes) < 3 or len(evidence.curves) < 2 or not (last := list(sizes.values())[-1]):
        return None  # what begins at zero, as the last norm of a residual block does, has gradients a little later
    weak = [name for name, size in sizes.items() if size < limits.vanished * last]
    if not weak:
        return None
    losses, (loss, _) = evidence.curve("train/loss"), guessing(evidence.facts)
    severity: Severity = "problem" if losses and losses[-1] > limits.stuck * loss else "warning"
    least = min(sizes.values())
    told = f"the gradient of the weakest layer is {least / last:.0e} of the last layer's, each relative to its weights"
    return Finding("vanishing_gradients", severity, told, _listed("layer", weak))


def exploding_gradients(evidence: Evidence, limits: Limits) -> Finding | None:
    first, peak = evidence.facts.first_loss, evidence.facts.gradient_peak
    loss = math.log(max(2, len(evidence.facts.names)))  # of a network that knows nothing, not even what is frequent
    if first is not None and first > limits.broken_first_loss * loss:
        told = f"the first loss is {first:.3g}, where guessing has {loss:.3g}: the weights are too large from the start"
        return Finding("exploding_gradients", "problem", told, "first step")
    step = evidence.facts.update_peak
    overshot = step is not None and step["size"] > limits.overshot  # then they are large because the steps are
    if peak is not None and peak["size"] > limits.exploded and not overshot:
        told = f"a gradient was {peak['size']:.3g} times as large as the weights"
        return Finding("exploding_gradients", "problem", told, f"epoch {peak['epoch']}")
    return None


def dead_relus(evidence: Evidence, limits: Limits) -> Finding | None:
    shares = {name: rows[-1]["dead"] for name, rows in evidence.layers.items() if "dead" in rows[-1]}
    dead = {name: share for name, share in shares.items() if share >= limits.dead}
    if not dead:
        return None
    worst = max(dead.values())
    severity: Severity = "problem" if worst >= limits.all_dead else "warning"
    told = f"{worst:.0%} of a layer's ReLUs let nothing through, for any example"
    return Finding("dead_relus", severity, told, _listed("layer", list(dead)))


# ---- data


def data_starvation(evidence: Evidence, limits: Limits) -> Finding | None:
    share, seconds = evidence.facts.data_wait, evidence.facts.step_wait
    if share is None or seconds is None or share < limits.waiting or seconds * 1000 < limits.wait_ms:
        return None
    told = f"{share:.0%} of the training time went by in waiting for a batch, {seconds * 1000:.1f} ms a step"
    return Finding("data_starvation", "warning", told)


def distribution_shift(evidence: Evidence, limits: Limits) -> Finding | None:
    far = {
        name: distance
        for name, distance in evidence.facts.shift.items()
        if distance > (limits.words if name == "shares of words" else limits.shifted)
    }
    if far:
        name = max(far, key=lambda feature: far[feature])
        unit = "of them differ" if name == "shares of words" else "standard deviations apart"
        told = f"validation inputs are not like training inputs: {name} {far[name]:.2g} {unit}"
        return Finding("distribution_shift", "warning", told)
    return _shift_from_the_start(evidence, limits)


def _shift_from_the_start(evidence: Evidence, limits: Limits) -> Finding | None:
    """Little can be learned by heart within the first epoch: there, validation is as good as training, or better.

    Not so of few examples, nor of a network that knows them from before.
    """
    (train, val), facts = evidence.pairs("accuracy"), evidence.facts
    known = facts.first_loss is not None and facts.first_loss < limits.learned * guessing(facts)[0]
    if not val or evidence.epochs("val/accuracy")[0] or known or sum(facts.train_classes) < limits.enough:
        return None
    error = standard_error(val[0], facts.val_examples)
    if train[0] - val[0] < max(limits.gap, 2 * limits.errors * error):
        return None
    told = f"already in the first epoch, train/accuracy is {train[0]:.3f} and val/accuracy {val[0]:.3f}"
    return Finding("distribution_shift", "warning", f"{told}: they are not of one distribution", "epoch 0")


def label_noise(evidence: Evidence, limits: Limits) -> Finding | None:
    train, val = evidence.pairs("accuracy")
    losses, (loss, chance) = evidence.curve("train/loss"), guessing(evidence.facts)
    if len(val) < 4:
        return None
    error, best = _error(evidence), val.index(max(val))
    if max(val) <= chance + limits.errors * error and losses[-1] < limits.stuck * loss:
        told = (
            f"val/accuracy {max(val):.3f} is that of guessing ({chance:.3f}), while train/loss fell to {losses[-1]:.3g}"
        )
        return Finding("label_noise", "problem", f"{told}: the labels say nothing about the inputs")
    after = val[best + 1 :]
    if len(after) < 3:
        return None
    fall, rise = val[best] - _late(after), train[-1] - train[best]
    if fall < max(limits.falling, 2 * error) or rise < limits.falling:
        return None
    epoch = evidence.epochs("val/accuracy")[best]
    told = f"val/accuracy fell from {val[best]:.3f} by {fall:.3f} while train/accuracy went on from {train[best]:.3f}"
    return Finding(
        "label_noise",
        "warning",
        f"{told} to {train[-1]:.3f}: wrong labels are learned by heart",
        f"from epoch {epoch} on",
    )


def class_imbalance(evidence: Evidence, limits: Limits) -> Finding | None:
    counts = [count for count in evidence.facts.train_classes if count]
    if len(counts) < 2 or max(counts) < limits.imbalance * min(counts):
        return None
    rare = evidence.facts.train_classes.index(min(counts))
    told = f"{min(counts)} examples of one class, {max(counts)} of another: accuracy says little, look at f1"
    return Finding("class_imbalance", "warning", told, _listed("class", [evidence.facts.names[rare]]))


def class_never_predicted(evidence: Evidence, limits: Limits) -> Finding | None:
    facts = evidence.facts
    absent = [name for name, count in zip(facts.names, facts.train_classes, strict=True) if not count]
    if absent:
        told = f"no training example of {len(absent)} of {len(facts.names)} classes: it cannot be learned"
        return Finding("class_never_predicted", "problem", told, _listed("class", absent))
    _, chance = guessing(facts)
    if max(evidence.curve("val/accuracy"), default=0.0) <= chance + limits.errors * _error(evidence):
        return None  # it knows nothing: that there are classes which it does not choose says no more
    rows = facts.confusion
    never = [name for i, name in enumerate(facts.names) if rows and sum(rows[i]) and not sum(row[i] for row in rows)]
    if not never:
        return None
    told = f"{len(never)} of {len(facts.names)} classes are never predicted on validation"
    return Finding("class_never_predicted", "warning", told, _listed("class", never))


# ---- fit


def _fit(evidence: Evidence) -> tuple[float, float] | None:
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
    pair = _fit(evidence)
    losses = evidence.curve("val/loss")
    if pair is None or len(losses) < 2 or pair[0] - pair[1] < max(limits.gap, limits.errors * _error(evidence)):
        return None
    train, val = pair
    least, epochs = losses.index(min(losses)), evidence.epochs("val/loss")
    rises = least < len(losses) - 1
    rose = f", val/loss from {losses[least]:.3g} (epoch {epochs[least]}) to {losses[-1]:.3g}" if rises else ""
    severity: Severity = "problem" if train - val >= limits.large_gap else "warning"
    return Finding("overfitting", severity, f"accuracy {train:.3f} on train, {val:.3f} on validation{rose}")


def underfitting(evidence: Evidence, limits: Limits) -> Finding | None:
    """It has stopped to learn before it fits its own training examples."""
    pair, losses = _fit(evidence), evidence.curve("train/loss")
    loss, _ = guessing(evidence.facts)
    if pair is None or not evidence.facts.over or len(losses) < 4 or pair[0] - pair[1] >= limits.gap:
        return None
    fits = losses[-1] < limits.fitted * loss or pair[0] >= limits.fits
    if fits or _pace(losses, max(3, len(losses) // 3)) >= limits.plateau:
        return None
    told = f"train/accuracy stays at {pair[0]:.3f}, train/loss at {losses[-1]:.3g} where guessing has {loss:.3g}"
    # A schedule that ends near zero stands still in any case.
    annealed = evidence.facts.rate is not None and evidence.facts.rate < limits.annealed * evidence.facts.top_rate
    return Finding("underfitting", "note" if annealed else "warning", f"{told}: the model cannot hold more")


def _still_learns(evidence: Evidence, limits: Limits, *, steps: int) -> bool:
    """Both losses fall from epoch to epoch, in the last one as fast as before, and there is something left to gain.

    Where hardly anything was learned yet, any fall will do: networks that read begin slowly.
    """
    loss, _ = guessing(evidence.facts)
    curves = [curve[-steps - 1 :] for curve in evidence.pairs("loss")]
    if min(map(len, curves)) < 2 or curves[1][-1] < limits.worthwhile * loss:
        return False
    falls = all(after < before for curve in curves for before, after in pairwise(curve))
    begins = curves[0][-1] > limits.stuck * loss
    fast = min(_pace(part, len(part)) for curve in curves for part in (curve, curve[-2:])) >= limits.improving
    return falls and (fast or begins)


def training_too_short(evidence: Evidence, limits: Limits) -> Finding | None:
    val, facts = evidence.curve("val/loss"), evidence.facts
    if not facts.over or facts.stopped or not _still_learns(evidence, limits, steps=2):
        return None
    told = f"when it ended, val/loss still fell by {_pace(val):.0%} an epoch, to {val[-1]:.3g}"
    return Finding("training_too_short", "warning", told, f"{len(evidence.curves)} epochs")


# ---- when it stops


def early_stopping_too_soon(evidence: Evidence, limits: Limits) -> Finding | None:
    val, facts = evidence.curve("val/loss"), evidence.facts
    if not facts.stopped or not _still_learns(evidence, limits, steps=1):
        return None
    told = f"it stopped while val/loss still fell by {_pace(val, 2):.0%} an epoch; patience {facts.patience}"
    return Finding("early_stopping_too_soon", "warning", told, f"epoch {evidence.epochs('val/loss')[-1]}")


def early_stopping_never(evidence: Evidence, limits: Limits) -> Finding | None:  # noqa: ARG001
    patience, most = evidence.facts.patience, evidence.facts.validations
    if patience is None or most is None or patience < most - 1:
        return None
    told = f"patience {patience} can never stop a run of {most} validations"
    return Finding("early_stopping_never", "note", told)


def luck(evidence: Evidence, limits: Limits) -> Finding | None:
    error, values, number = _error(evidence), evidence.curve("val/accuracy"), evidence.facts.val_examples
    _, chance = guessing(evidence.facts)
    if not evidence.facts.over or not values or error < limits.luck or max(values) <= chance + limits.errors * error:
        return None
    told = f"val/accuracy {max(values):.4f} ± {error:.4f}, its standard error on {number} examples"
    return Finding("luck", "note", f"{told}: a run that is better by less may only have been luckier")


def _listed(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{kind} {shown}"


RULES: tuple[Rule, ...] = (
    loss_not_finite,
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
    luck,
)
FIT = ("overfitting", "underfitting", "training_too_short", "early_stopping_too_soon", "label_noise")
# What a finding explains, and so is not told beside it.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "loss_not_finite": (
        *FIT,
        "learning_rate_too_high",
        "dead_relus",
        "distribution_shift",
        "class_never_predicted",
        "luck",
    ),
    "exploding_gradients": ("learning_rate_too_high", "vanishing_gradients", "underfitting", "training_too_short"),
    "learning_rate_too_high": (*FIT, "vanishing_gradients", "distribution_shift"),
    "vanishing_gradients": ("underfitting", "learning_rate_too_low", "training_too_short", "early_stopping_too_soon"),
    "learning_rate_too_low": ("underfitting", "training_too_short", "early_stopping_too_soon"),
    "dead_relus": ("learning_rate_too_low",),
    "distribution_shift": ("overfitting", "label_noise", "training_too_short", "early_stopping_too_soon"),
    "overfitting": ("training_too_short", "early_stopping_too_soon"),
    "underfitting": ("training_too_short", "early_stopping_too_soon"),
}


def contents(findings: Sequence[Finding], advice: Callable[[Finding], list[str]]) -> list[dict[str, Any]]:
    """As they are kept in diagnosis.json."""
    return [asdict(finding) | {"advice": advice(finding)} for finding in findings]
