from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification

WEIGHTS = [1.0, 3.0, 0.5]


def drawn(num_classes: int = 3, count: int = 50) -> tuple[Tensor, Tensor]:
    """Logits and classes; the first classes are more frequent."""
    generator = torch.Generator().manual_seed(num_classes)
    targets = torch.randint(num_classes**2, (count,), generator=generator) // num_classes
    return torch.randn(count, 1 if num_classes == 2 else num_classes, generator=generator), targets


def test_the_loss_is_that_of_scikit_learn() -> None:
    outputs, targets = drawn()
    loss = Classification(num_classes=3).loss(outputs, targets)
    assert float(loss) == pytest.approx(log_loss(targets, outputs.double().softmax(1)), rel=1e-6)


def test_two_classes_have_one_logit() -> None:
    outputs, targets = drawn(2)
    task = Classification(num_classes=2)
    assert task.num_outputs == 1
    assert float(task.loss(outputs, targets)) == pytest.approx(log_loss(targets, outputs.double().sigmoid()), rel=1e-6)
    assert task.probabilities(torch.zeros(1, 1)).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_class_weights_are_factors_on_the_loss_of_each_true_class(num_classes: int) -> None:
    outputs, targets = drawn(num_classes)
    factors = torch.tensor(WEIGHTS[:num_classes])
    task = Classification(num_classes=num_classes, class_weights=WEIGHTS[:num_classes])
    probabilities = Classification(num_classes=num_classes).probabilities(outputs.double())
    wanted = log_loss(targets, probabilities, sample_weight=factors[targets])
    assert float(task.loss(outputs, targets)) == pytest.approx(wanted, rel=1e-6)
    assert float(task.weight(targets)) == pytest.approx(float(factors[targets].sum()))


@pytest.mark.parametrize("options", [{}, {"class_weights": WEIGHTS}, {"label_smoothing": 0.3}])
def test_batches_of_uneven_size_score_as_all_at_once(
    measure: Callable[..., dict[str, float]], options: dict[str, Any]
) -> None:
    outputs, targets = drawn()
    task = Classification(num_classes=3, **options)
    assert measure(task, outputs, targets, [17, 1, 20, 12]) == pytest.approx(measure(task, outputs, targets))


def test_the_metrics_are_those_of_scikit_learn(measure: Callable[..., dict[str, float]]) -> None:
    outputs, targets = drawn()
    scores, predicted = measure(Classification(num_classes=3), outputs, targets), outputs.argmax(1)
    assert scores["accuracy"] == pytest.approx(accuracy_score(targets, predicted))
    assert scores["f1"] == pytest.approx(f1_score(targets, predicted, average="macro"))


@pytest.mark.parametrize(
    "options",
    [{}, {"class_weights": WEIGHTS}, {"label_smoothing": 0.3}, {"class_weights": WEIGHTS, "label_smoothing": 0.3}],
)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_chance_loss_is_the_least_of_a_constant(
    least_constant_loss: Callable[..., float], options: dict[str, Any], num_classes: int
) -> None:
    _, targets = drawn(num_classes)
    options = {name: value[:num_classes] if isinstance(value, list) else value for name, value in options.items()}
    task = Classification(num_classes=num_classes, **options).double()
    start = torch.zeros(1, task.num_outputs or 0)
    least = least_constant_loss(task, start, lambda constant: constant.expand(len(targets), -1), targets)
    assert task.chance_loss(targets) == pytest.approx(least, abs=1e-6)


def test_predictions_are_the_class_its_probability_and_all_probabilities() -> None:
    task = Classification(num_classes=3)
    prediction = task.predict(torch.tensor([[0.0, 1.0, 0.0], [5.0, 0.0, 0.0]]))
    columns = task.columns(prediction, ["cat", "dog", "prediction"])
    assert columns["prediction"] == ["dog", "cat"]
    assert list(columns) == ["prediction", "probability", "cat", "dog", "p(prediction)"]
    assert columns["probability"] == prediction["probabilities"].max(1).values.tolist()


def test_its_config_builds_it_again(rebuilt: Callable[[Task], Task]) -> None:
    outputs, targets = drawn()
    task = Classification(num_classes=3, class_weights=WEIGHTS, label_smoothing=0.1, metrics={"f1": "max"})
    again = rebuilt(task)
    assert again.config() == task.config()
    assert again.metrics == {"f1": "max"}
    assert torch.equal(again.loss(outputs, targets), task.loss(outputs, targets))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.tensor([0, 3]), "a class of train is not in 0 to 2: 3"),
        (torch.tensor([0.5]), r"the targets of train are float32 \(1,\), but this task needs one class an example"),
        (torch.zeros(2, 3, dtype=torch.long), r"int64 \(2, 3\), but this task needs one class an example"),
        ({"mask": torch.zeros(2)}, "the targets of train are dict"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Classification(num_classes=3).check(targets, "train")


def test_weights_of_another_number_are_refused() -> None:
    with pytest.raises(UserError, match=r"task\.class_weights needs 3 numbers, one a class, not 2"):
        Classification(num_classes=3, class_weights=[1, 2])


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"task\.metrics\.accurcy: .* did you mean 'accuracy'\?"):
        Classification(num_classes=3, metrics={"accurcy": "max"})


def test_balanced_weights_are_learned_from_training_and_saved() -> None:
    task = Classification(num_classes=3, class_weights="balanced")
    task.fit([torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 0, 2])])
    assert task.class_weights is not None
    assert torch.allclose(task.class_weights, torch.tensor([8 / 15, 8 / 6, 8 / 3]))  # N / (K n_k)
    assert list(task.state_dict()) == ["class_weights"]
    assert not Classification(num_classes=3, class_weights=[1, 2, 3]).state_dict()
    assert Classification(**task.hparams).balanced


@pytest.mark.parametrize("wrong", ["balance", [], ["a", 1, 2], [1, -1, 2], [1, float("inf"), 2], [0, 0, 0], 2])
def test_class_weights_that_are_no_factors_are_refused(wrong: Any) -> None:
    told = r"task.class_weights=.*: give 3 numbers of at least 0, one a class, balanced, or null"
    with pytest.raises(UserError, match=told):
        Classification(num_classes=3, class_weights=wrong)


# ---- mixed examples


def shares_of(targets: Tensor, num_classes: int, share: Tensor) -> tuple[Tensor, Tensor]:
    """Targets mixed with those of the next examples, and these."""
    others = targets.roll(-1)
    one_hot = torch.nn.functional.one_hot
    mixed = share[:, None] * one_hot(targets, num_classes) + (1 - share)[:, None] * one_hot(others, num_classes)
    return mixed, others


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0, 0.3])
def test_the_loss_of_mixed_examples_is_the_mean_of_those_of_their_parts(
    num_classes: int, weighted: bool, smoothing: float
) -> None:
    """Each part counts by its share, times the weight of its class."""
    outputs, targets = drawn(num_classes)
    weights = WEIGHTS[:num_classes] if weighted else None
    task = Classification(num_classes=num_classes, label_smoothing=smoothing, class_weights=weights)
    share = torch.rand(len(targets), generator=torch.Generator().manual_seed(5))
    mixed, others = shares_of(targets, num_classes, share)
    total = weight = 0.0
    for i in range(len(targets)):
        for part, classes in ((share[i], targets), (1 - share[i], others)):
            one = classes[i : i + 1]
            counted = float(part * task.weight(one))
            total += counted * float(task.loss(outputs[i : i + 1], one))
            weight += counted
    assert float(task.weight(mixed)) == pytest.approx(weight, rel=1e-5)
    assert float(task.loss(outputs, mixed)) == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_shares_of_one_class_are_that_class(num_classes: int) -> None:
    outputs, targets = drawn(num_classes)
    whole = torch.nn.functional.one_hot(targets, num_classes).float()
    task = Classification(num_classes=num_classes, label_smoothing=0.1, class_weights=WEIGHTS[:num_classes])
    assert float(task.loss(outputs, whole)) == pytest.approx(float(task.loss(outputs, targets)), rel=1e-6)
    assert task.metric_inputs(outputs, whole)[1].equal(targets)


def test_a_mixed_example_counts_as_its_larger_class() -> None:
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.6, 0.0, 0.4]])
    predicted, true = Classification(num_classes=3).metric_inputs(torch.tensor([[0.0, 9, 0], [0, 0, 9]]), shares)
    assert predicted.tolist() == [1, 2]
    assert true.tolist() == [1, 0]


def test_a_mixed_example_is_spelled_by_its_shares() -> None:
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    assert Classification(num_classes=3).true_columns(shares, "abc") == {"label": ["b 70% a 30%", "c"]}


@pytest.mark.parametrize("num_classes", [2, 3])
def test_averaged_outputs_have_the_mean_probability(num_classes: int) -> None:
    task = Classification(num_classes=num_classes)
    one, other = drawn(num_classes)[0] * 3, drawn(num_classes)[0].flip(0)
    found = task.average_mirrored(one, other)
    wanted = (task.probabilities(one.double()) + task.probabilities(other.double())) / 2
    torch.testing.assert_close(task.probabilities(found).double(), wanted, rtol=0, atol=1e-6)


def test_averaged_outputs_of_certain_predictions_are_finite() -> None:
    for num_classes in (2, 3):
        logits = torch.full((1, 1 if num_classes == 2 else 3), -200.0)
        logits[0, 0] = 200
        found = Classification(num_classes=num_classes).average_mirrored(logits.half(), logits.half())
        torch.testing.assert_close(found - found[:, -1:], logits - logits[:, -1:])
        assert found.isfinite().all()
