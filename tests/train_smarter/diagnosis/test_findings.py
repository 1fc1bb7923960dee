"""Each rule by scripted evidence: two classes that are equally frequent, so guessing has a loss of ln 2 = 0.693."""

from collections.abc import Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from train_smarter.diagnosis.findings import Finding, Limits, chance_accuracy, chance_loss, standard_error
from train_smarter.diagnosis.measurements import Evidence, Measurements, Row
from train_smarter.diagnosis.rules import EXPLAINS, RULES, diagnose, to_json
from train_smarter.paths import CONF

LIMITS = Limits(**OmegaConf.load(CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits)
HEALTHY = [0.65, 0.4, 0.2, 0.1, 0.06, 0.05, 0.045, 0.044]
Curve = Sequence[float]


def evidence(
    train: Curve = HEALTHY,
    val: Curve | None = None,
    *,
    accuracy: tuple[Curve, Curve] | None = None,
    layers: dict[str, list[Row]] | None = None,
    **facts: Any,
) -> Evidence:
    """A run with these losses; accuracies are 1 - loss / 2, unless they are given, as (train, val)."""
    val = train if val is None else val
    right = accuracy or ([1 - loss / 2 for loss in train], [1 - loss / 2 for loss in val])
    columns = {"train/loss": train, "val/loss": val, "train/accuracy": right[0], "val/accuracy": right[1]}
    curves = [{"epoch": float(i), **{name: values[i] for name, values in columns.items()}} for i in range(len(train))]
    usual = {"names": ["no", "yes"], "train_classes": [500, 500], "val_examples": 100_000, "first_loss": 0.7}
    return Evidence(
        curves,
        layers or {},
        Measurements(**{**usual, "training_done": True, "validations": 20, "patience": 5, **facts}),
    )


def layer(gradient: float = 0.1, *, update: float = 0.01, dead: float | None = None) -> list[Row]:
    row = {"weight_norm": 1.0, "grad_norm": gradient, "update_ratio": update}
    return [row if dead is None else {"dead_relu_fraction": dead}] * 3


def told(given: Evidence) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(given, LIMITS)}


def test_a_healthy_run_is_told_no_more_than_how_exact_its_accuracy_is() -> None:
    assert list(told(evidence(layers={"a": layer(), "b": layer(), "c": layer()}))) == []
    few = told(evidence(val_examples=100))
    assert few.keys() == {"accuracy_noise"}
    # 0.978 (1 - 0.044 / 2): sqrt(0.978 * 0.022 / 100)
    assert "0.9780 ± 0.0147" in few["accuracy_noise"].evidence
    assert few["accuracy_noise"].severity == "note"


def test_guessing_knows_how_frequent_the_classes_are() -> None:
    facts = Measurements(train_classes=[75, 25, 0])
    assert chance_loss(facts) == pytest.approx(0.5623, abs=1e-4)  # -0.75 ln 0.75 - 0.25 ln 0.25
    assert chance_accuracy(facts) == 0.75


def test_the_standard_error_of_an_accuracy() -> None:
    assert standard_error(0.8, 400) == pytest.approx(0.02)  # sqrt(0.8 * 0.2 / 400)
    assert standard_error(0.8, 0) == 0


def test_a_loss_that_is_no_number_is_the_only_thing_that_is_told_of_the_training() -> None:
    broken = {"epoch": 1, "step": 36, "batch": 2, "where": "weights of head"}
    found = told(evidence([9.0, 9.0, 9.0, 9.0], nan_location=broken, layers={"relu": layer(dead=1.0)}))
    assert list(found) == ["nan_loss"]
    assert "from step 36 on" in found["nan_loss"].evidence
    assert "weights of head" in found["nan_loss"].evidence
    assert found["nan_loss"].where == "epoch 1, batch 2"


def test_a_rate_is_too_high_if_the_first_epochs_make_the_loss_worse() -> None:
    assert told(evidence([0.9, 0.8, 0.75, 0.7]))["learning_rate_too_high"].severity == "problem"
    assert told(evidence([0.9, 0.5, 0.3, 0.2]))["learning_rate_too_high"].severity == "warning"
    assert "learning_rate_too_high" not in told(evidence([0.8, 0.5, 0.3, 0.2]))  # 0.8 / 0.7 = 1.14


def test_a_rate_is_too_high_if_a_step_changes_the_weights_by_more_than_their_size() -> None:
    found = told(evidence(update_peak={"size": 2.5, "epoch": 0}))["learning_rate_too_high"]
    assert "2.5 times their size" in found.evidence
    assert "learning_rate_too_high" not in told(evidence(update_peak={"size": 0.5, "epoch": 0}))


def test_a_rate_is_too_low_if_steps_are_tiny_and_the_loss_stays_high() -> None:
    slow = {"a": layer(update=1e-6), "b": layer(update=2e-6)}
    assert told(evidence([0.69, 0.689, 0.688, 0.687], layers=slow)).keys() == {"learning_rate_too_low"}
    assert "learning_rate_too_low" not in told(evidence(layers=slow))  # it has learned
    assert "learning_rate_too_low" not in told(evidence([0.69, 0.68, 0.67, 0.66], layers={"a": layer()}))
    assert "learning_rate_too_low" in told(evidence([0.69, 0.69], layers={"a": layer(update=0.0)}))
    dead = {"a": layer(update=0.0), "relu": layer(dead=1.0)}
    assert "learning_rate_too_low" not in told(evidence([0.69, 0.69, 0.69, 0.69], layers=dead))


def test_gradients_vanish_if_a_layers_is_a_thousandth_of_the_last_ones() -> None:
    layers = {"a": layer(1e-6), "b": layer(1e-2), "c": layer(0.1)}
    stuck = told(evidence([0.693] * 5, layers=layers))["vanishing_gradients"]
    assert (stuck.severity, stuck.where) == ("problem", "layer a")
    assert told(evidence(layers=layers))["vanishing_gradients"].severity == "warning"
    assert "vanishing_gradients" not in told(evidence(layers={"a": layer(1e-3), "b": layer(), "c": layer(0.1)}))
    assert "vanishing_gradients" not in told(evidence([0.69], layers=layers))  # what begins at zero is still there
    small = {name: layer(1e-5) for name in "abc"}  # all alike: a network that has learned
    assert "vanishing_gradients" not in told(evidence(layers=small))


def test_gradients_explode_if_the_first_loss_or_a_gradient_is_huge() -> None:
    assert "exploding_gradients" not in told(evidence(first_loss=3.0))
    assert "the first loss is 5" in told(evidence(first_loss=5.0))["exploding_gradients"].evidence
    huge = told(evidence(gradient_peak={"size": 100.0, "epoch": 2}))["exploding_gradients"]
    assert huge.where == "epoch 2"


def test_a_large_first_loss_is_the_weights_and_not_the_rate() -> None:
    assert "learning_rate_too_high" not in told(evidence([70.0, 4.0, 1.0, 0.5], first_loss=50.0))


def test_relus_are_dead_if_nine_tenths_of_a_layer_let_nothing_through() -> None:
    assert told(evidence(layers={"relu": layer(dead=0.95)}))["dead_relus"].severity == "warning"
    assert told(evidence(layers={"relu": layer(dead=1.0)}))["dead_relus"].severity == "problem"
    assert "dead_relus" not in told(evidence(layers={"relu": layer(dead=0.6)}))


def test_data_are_waited_for_if_half_the_time_goes_by_and_it_is_worth_a_thought() -> None:
    assert "60% of the training time" in told(evidence(data_wait=0.6, step_wait=0.02))["data_starvation"].evidence
    assert "data_starvation" not in told(evidence(data_wait=0.6, step_wait=0.0005))
    assert "data_starvation" not in told(evidence(data_wait=0.2, step_wait=0.02))


def test_inputs_that_lie_apart_are_a_shift_and_explain_the_gap_in_accuracy() -> None:
    gap = ([0.7, 0.8, 0.9, 0.95], [0.7, 0.7, 0.7, 0.7])
    found = told(evidence([0.6, 0.5, 0.4, 0.3], accuracy=gap, shift={"sharpness": 2.0, "length": 0.1}))
    assert "overfitting" not in found
    assert "sharpness 2" in found["distribution_shift"].evidence
    assert "shares of words 0.3" in told(evidence(shift={"shares of words": 0.3}))["distribution_shift"].evidence
    assert "distribution_shift" not in told(evidence(shift={"sharpness": 0.3, "shares of words": 0.1}))


def test_a_first_epoch_that_trains_much_better_than_it_validates_is_a_shift() -> None:
    apart = ([0.8, 0.85, 0.9, 0.95], [0.6, 0.62, 0.63, 0.64])
    assert told(evidence([0.5, 0.4, 0.3, 0.2], accuracy=apart))["distribution_shift"].where == "epoch 0"
    for known in ({"first_loss": 0.1}, {"train_classes": [100, 100]}):  # from before, or soon by heart
        assert "distribution_shift" not in told(evidence([0.5, 0.4, 0.3, 0.2], accuracy=apart, **known))
    later = ([0.6, 0.75, 0.9, 0.95], [0.6, 0.62, 0.63, 0.64])
    assert "distribution_shift" not in told(evidence([0.5, 0.4, 0.3, 0.2], accuracy=later))


def test_labels_are_doubted_if_validation_is_that_of_guessing_while_training_goes_on() -> None:
    nothing = ([0.5, 0.6, 0.8, 0.9, 0.95], [0.5, 0.502, 0.49, 0.5, 0.5])
    found = told(evidence([0.69, 0.6, 0.4, 0.3, 0.2], [0.7, 0.8, 0.9, 1.0, 1.1], accuracy=nothing))
    assert found["label_noise"].severity == "problem"


def test_labels_are_doubted_if_validation_falls_while_training_rises() -> None:
    falls = ([0.6, 0.7, 0.75, 0.8, 0.9, 0.95], [0.65, 0.75, 0.7, 0.68, 0.66, 0.65])
    found = told(evidence([0.6, 0.5, 0.45, 0.4, 0.3, 0.2], [0.6, 0.5, 0.55, 0.6, 0.7, 0.8], accuracy=falls))
    # the mean of the last three: 0.6633
    assert "fell from 0.750 by 0.087" in found["label_noise"].evidence
    assert found["label_noise"].where == "from epoch 1 on"
    stands = ([0.7] * 6, falls[1])
    assert "label_noise" not in told(evidence([0.6, 0.5, 0.45, 0.4, 0.3, 0.2], accuracy=stands))
    stays = (falls[0], [0.65, 0.75, 0.75, 0.745, 0.75, 0.75])
    assert "label_noise" not in told(evidence([0.6, 0.5, 0.45, 0.4, 0.3, 0.2], accuracy=stays))


def test_classes_are_imbalanced_from_five_to_one_on() -> None:
    assert told(evidence(train_classes=[1000, 190]))["class_imbalance"].where == "class yes"
    assert "class_imbalance" not in told(evidence(train_classes=[1000, 210]))


@pytest.mark.parametrize("counts", [[900, 100], [950, 50], [990, 10]])
def test_a_rare_class_is_no_reason_to_doubt_labels_or_to_call_it_overfitting(counts: list[int]) -> None:
    """The rare examples are learned by heart: validation stays at guessing, then a few of the others are wrong."""
    share = counts[0] / 1000
    losses = [0.3, 0.1, 0.05, 0.02, 0.01, 0.005], [0.34, 0.4, 0.5, 0.6, 0.7, 0.8]
    guessing = ([share, share, 0.995, 1.0, 1.0, 1.0], [share] * 6)
    falls = ([share, share, 0.995, 1.0, 1.0, 1.0], [share, share, *[share - 0.8 * counts[1] / 1000] * 4])
    rare = [[counts[0], 0], [counts[1], 0]]  # of validation: all are predicted to be of the frequent class
    clean = {"train/accuracy": 1.0, "val/accuracy": share}
    for accuracy in (guessing, falls):
        found = told(evidence(*losses, accuracy=accuracy, train_classes=counts, confusion=rare, clean=clean))
        assert "class_imbalance" in found
        assert not {"label_noise", "overfitting"} & found.keys()


def test_a_frequent_class_that_is_not_recognized_is_overfitting_beside_a_rare_one() -> None:
    losses = [0.3, 0.1, 0.05, 0.02], [0.5, 0.6, 0.8, 1.0]
    mixed = [[300, 150, 0], [150, 300, 0], [100, 0, 0]]
    clean = {"train/accuracy": 1.0, "val/accuracy": 0.6}
    facts: dict[str, Any] = {"names": ["a", "b", "c"], "train_classes": [450, 450, 50], "confusion": mixed}
    accuracy = [0.6, 0.8, 0.95, 1.0], [0.58, 0.6, 0.6, 0.6]
    found = told(evidence(*losses, accuracy=accuracy, clean=clean, **facts))
    assert "accuracy 1.000 on train, 0.667 on validation" in found["overfitting"].evidence  # 600 of 900


def test_labels_are_not_doubted_where_the_validation_loss_is_below_that_of_guessing() -> None:
    nothing = ([0.8, 0.8, 0.85, 0.9, 0.95], [0.8] * 5)
    found = told(
        evidence([0.5, 0.4, 0.3, 0.2, 0.1], [0.45, 0.4, 0.35, 0.4, 0.5], accuracy=nothing, train_classes=[800, 200])
    )
    assert "label_noise" not in found  # guessing has 0.5004


def test_a_class_without_training_examples_is_a_problem_and_one_never_predicted_a_warning() -> None:
    absent = told(evidence(train_classes=[1000, 0], confusion=[[500, 0], [500, 0]]))["class_never_predicted"]
    assert (absent.severity, absent.where) == ("problem", "class yes")
    assert told(evidence(confusion=[[500, 0], [500, 0]]))["class_never_predicted"].severity == "warning"
    assert "class_never_predicted" not in told(evidence(confusion=[[499, 1], [500, 0]]))


def test_what_knows_nothing_is_not_told_that_it_predicts_one_class() -> None:
    assert "class_never_predicted" not in told(
        evidence([0.693] * 5, accuracy=([0.5] * 5, [0.5] * 5), confusion=[[500, 0], [500, 0]])
    )


def test_overfitting_is_a_gap_of_the_best_checkpoint_that_chance_does_not_explain() -> None:
    clean = {"train/accuracy": 0.95, "val/accuracy": 0.85}
    rising = [0.6, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    found = told(evidence(HEALTHY, rising, clean=clean))["overfitting"]
    assert found.severity == "warning"
    assert found.evidence == "accuracy 0.950 on train, 0.850 on validation, val/loss from 0.4 (epoch 1) to 1"
    assert told(evidence(clean=clean | {"val/accuracy": 0.7}))["overfitting"].severity == "problem"
    assert "overfitting" not in told(evidence(clean=clean | {"val/accuracy": 0.9}))
    # 40 examples: three standard errors of 0.978 are 0.0696, of the given curve 0.7 they are 0.217
    few = evidence(accuracy=([0.8] * 8, [0.7] * 8), clean={"train/accuracy": 0.8, "val/accuracy": 0.7}, val_examples=40)
    assert "overfitting" not in told(few)


def test_a_class_that_is_absent_from_training_is_no_overfitting() -> None:
    clean = {"train/accuracy": 1.0, "val/accuracy": 0.5}
    found = told(evidence(clean=clean, train_classes=[1000, 0], confusion=[[499, 1], [500, 0]]))
    assert "overfitting" not in found


def test_underfitting_stands_still_far_from_its_training_examples() -> None:
    stands = [0.62, 0.60, 0.595, 0.594, 0.593, 0.593]
    assert told(evidence(stands))["underfitting"].severity == "warning"
    assert told(evidence(stands, rate=1e-6, peak_rate=1e-3))["underfitting"].severity == "note"  # its schedule ended
    assert "underfitting" not in told(evidence([0.6, 0.5, 0.45, 0.4, 0.35, 0.3]))  # it still learns
    assert "underfitting" not in told(evidence([0.6, 0.3, 0.21, 0.2, 0.2, 0.2]))  # it fits
    assert "underfitting" not in told(evidence(stands, training_done=False))
    smoothed = ([0.99] * 6, [0.98] * 6)  # label smoothing keeps the loss up
    assert "underfitting" not in told(evidence(stands, accuracy=smoothed))


def test_training_is_too_short_if_both_losses_still_fell_at_its_last_epoch() -> None:
    falls = [0.6, 0.5, 0.4, 0.3]
    assert told(evidence(falls)).keys() == {"training_too_short"}
    assert "training_too_short" not in told(evidence(falls, [0.6, 0.5, 0.49, 0.48]))
    assert "training_too_short" not in told(evidence([0.2, 0.1, 0.07, 0.05]))  # what is left is not worth it
    assert "training_too_short" not in told(evidence(falls, training_done=False))


def test_early_stopping_came_too_soon_if_both_losses_still_fell() -> None:
    falls = [0.6, 0.5, 0.4]
    assert told(evidence(falls, stopped=True, patience=1)).keys() == {"early_stopping_too_soon"}
    assert "early_stopping_too_soon" not in told(evidence(falls, [0.6, 0.5, 0.55], stopped=True))


def test_patience_that_outlasts_the_run_never_stops_it() -> None:
    assert told(evidence(patience=19))["early_stopping_never"].severity == "note"
    assert "early_stopping_never" not in told(evidence(patience=18))
    assert "early_stopping_never" not in told(evidence(patience=None))
    assert "early_stopping_never" not in told(evidence(patience=19, validations=None))


def test_epochs_without_a_validation_are_no_gap_in_the_rules() -> None:
    given = evidence([0.6, 0.55, 0.5, 0.45, 0.4, 0.3])
    for row in given.curves[::2]:
        del row["val/loss"], row["val/accuracy"]
    assert given.epochs("val/loss") == [1, 3, 5]
    assert given.pairs("loss") == ([0.55, 0.45, 0.3], [0.55, 0.45, 0.3])
    assert told(given)["training_too_short"].where == "6 epochs"


def test_an_accuracy_of_guessing_is_no_luck() -> None:
    assert "accuracy_noise" not in told(evidence([0.693] * 5, accuracy=([0.5] * 5, [0.51] * 5), val_examples=100))


def test_what_is_explained_explains_nothing_itself() -> None:
    # dead units do not move, which looks like a low rate; that would explain why it stands still
    stands = evidence([0.69] * 6, layers={"a": layer(0.0, update=0.0), "relu": layer(dead=1.0)})
    assert told(stands).keys() == {"dead_relus", "underfitting"}


def test_gradients_that_large_steps_have_made_large_are_the_rates_fault() -> None:
    both: dict[str, Any] = {
        "gradient_peak": {"size": 100.0, "epoch": 0},
        "update_peak": {"size": 10.0, "epoch": 0},
    }
    assert "exploding_gradients" not in told(evidence(**both))
    assert "learning_rate_too_high" in told(evidence(**both))


def test_a_run_that_ends_before_it_has_learned_is_too_short_however_slow_it_begins() -> None:
    begins = [0.692, 0.689, 0.684]
    assert told(evidence(begins)).keys() == {"training_too_short"}
    assert told(evidence(begins, stopped=True)).keys() == {"early_stopping_too_soon"}
    assert "training_too_short" not in told(evidence([0.692, 0.684, 0.689]))
    late = evidence([0.69, 0.66, 0.42], [0.685, 0.59, 0.12])  # slow, then fast
    assert told(late).keys() == {"training_too_short"}
    bumpy = evidence([0.2, 0.19, 0.15], [0.215, 0.258, 0.172])
    assert "training_too_short" not in told(bumpy)


def test_the_worst_comes_first() -> None:
    found = diagnose(evidence(train_classes=[1000, 90], patience=50, layers={"relu": layer(dead=1.0)}), LIMITS)
    assert [finding.severity for finding in found][:2] == ["problem", "warning"]
    assert found[-1].severity == "note"


@pytest.mark.parametrize("curve", [[], [0.6], [float("nan")], [0.0, 0.0, 0.0, 0.0]])
def test_no_rule_minds_a_run_that_is_short_or_strange(curve: list[float]) -> None:
    diagnose(evidence(curve), LIMITS)
    diagnose(Evidence([], {}, Measurements()), LIMITS)
    diagnose(Evidence([], {}, Measurements(training_done=True, stopped=True)), LIMITS)


def test_what_explains_and_what_is_explained_are_findings() -> None:
    names = {rule.__name__ for rule in RULES}
    assert set(EXPLAINS) <= names
    assert {name for explained in EXPLAINS.values() for name in explained} <= names


def test_a_finding_is_a_json_value_with_its_advice() -> None:
    finding = Finding("dead_relus", "problem", "all of them", "layer a")
    assert to_json([finding], lambda _: ["optimizer.lr=0.001"]) == [
        {
            "name": "dead_relus",
            "severity": "problem",
            "evidence": "all of them",
            "where": "layer a",
            "advice": ["optimizer.lr=0.001"],
        }
    ]
