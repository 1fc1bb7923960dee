"""Rules about the data: distribution shift, label noise, class imbalance."""

from train_smarter.diagnosis.findings import (
    Finding,
    Limits,
    chance_accuracy,
    chance_loss,
    error_rate,
    frequent_classes,
    join_names,
    late_epochs,
    standard_error,
)
from train_smarter.diagnosis.measurements import Evidence


def distribution_shift(evidence: Evidence, limits: Limits) -> Finding | None:
    far = {
        name: distance
        for name, distance in evidence.facts.shift.items()
        if distance > (limits.max_token_difference if name == "shares of words" else limits.max_mean_shift)
    }
    if far:
        name = max(far, key=lambda feature: far[feature])
        unit = "of them differ" if name == "shares of words" else "standard deviations apart"
        text = f"validation inputs are not like training inputs: {name} {far[name]:.2g} {unit}"
        return Finding("distribution_shift", "warning", text)
    return _shift_from_the_start(evidence, limits)


def _shift_from_the_start(evidence: Evidence, limits: Limits) -> Finding | None:
    """Little can be learned by heart within the first epoch: there, validation is as good as training, or better.

    Not so of few examples, nor of a network that knows them from before.
    """
    (train, val), facts, loss = evidence.pairs("accuracy"), evidence.facts, chance_loss(evidence.facts)
    if chance_accuracy(facts) is None or loss is None:
        return None
    known = facts.first_loss is not None and facts.first_loss < limits.learned_loss_vs_chance * loss
    if not val or evidence.epochs("val/accuracy")[0] or known or sum(facts.train_classes) < limits.min_train_examples:
        return None
    error = standard_error(val[0], facts.val_examples)
    if train[0] - val[0] < max(limits.max_accuracy_gap, 2 * limits.min_standard_errors * error):
        return None
    text = f"already in the first epoch, train/accuracy is {train[0]:.3f} and val/accuracy {val[0]:.3f}"
    return Finding("distribution_shift", "warning", f"{text}: they are not of one distribution", "epoch 0")


def label_noise(evidence: Evidence, limits: Limits) -> Finding | None:
    train, val = evidence.pairs("accuracy")
    losses, loss, chance = evidence.curve("train/loss"), chance_loss(evidence.facts), chance_accuracy(evidence.facts)
    if len(val) < 4 or loss is None or chance is None:
        return None
    error, best = error_rate(evidence), val.index(max(val))
    frequent, learned = frequent_classes(evidence.facts, limits), limits.max_loss_vs_chance * loss
    # The accuracy of guessing is all there is to get where one class has nearly every example.
    guesses = len(frequent) > 1 and max(val) <= chance + limits.min_standard_errors * error
    if guesses and losses[-1] < learned <= min(evidence.curve("val/loss"), default=learned):
        text = (
            f"val/accuracy {max(val):.3f} is that of guessing ({chance:.3f}), while train/loss fell to {losses[-1]:.3g}"
        )
        return Finding("label_noise", "problem", f"{text}: the labels say nothing about the inputs")
    after = val[best + 1 :]
    if len(after) < 3:
        return None
    fall, rise = val[best] - late_epochs(after), train[-1] - train[best]
    counts = evidence.facts.train_classes
    rare = 1 - sum(counts[label] for label in frequent) / sum(counts)  # they alone may cost as much
    if fall < max(limits.min_accuracy_fall, 2 * error, rare) or rise < limits.min_accuracy_fall:
        return None
    epoch = evidence.epochs("val/accuracy")[best]
    text = f"val/accuracy fell from {val[best]:.3f} by {fall:.3f} while train/accuracy went on from {train[best]:.3f}"
    return Finding(
        "label_noise",
        "warning",
        f"{text} to {train[-1]:.3f}: wrong labels are learned by heart",
        f"from epoch {epoch} on",
    )


def class_imbalance(evidence: Evidence, limits: Limits) -> Finding | None:
    counts = [count for count in evidence.facts.train_classes if count]
    if len(counts) < 2 or max(counts) < limits.max_class_ratio * min(counts):
        return None
    rare = evidence.facts.train_classes.index(min(counts))
    text = f"{min(counts)} examples of one class, {max(counts)} of another: accuracy says little, look at f1"
    return Finding("class_imbalance", "warning", text, join_names("class", [evidence.facts.names[rare]]))


def class_never_predicted(evidence: Evidence, limits: Limits) -> Finding | None:
    facts, chance = evidence.facts, chance_accuracy(evidence.facts)
    if chance is None:
        return None
    absent = [name for name, count in zip(facts.names, facts.train_classes, strict=True) if not count]
    if absent:
        text = f"no training example of {len(absent)} of {len(facts.names)} classes: it cannot be learned"
        return Finding("class_never_predicted", "problem", text, join_names("class", absent))
    if max(evidence.curve("val/accuracy"), default=0.0) <= chance + limits.min_standard_errors * error_rate(evidence):
        return None  # it knows nothing: that there are classes which it does not choose says no more
    rows = facts.confusion
    never = [name for i, name in enumerate(facts.names) if rows and sum(rows[i]) and not sum(row[i] for row in rows)]
    if not never:
        return None
    text = f"{len(never)} of {len(facts.names)} classes are never predicted on validation"
    return Finding("class_never_predicted", "warning", text, join_names("class", never))
