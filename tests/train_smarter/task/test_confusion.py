import pytest
import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import Tensor
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score, MulticlassRecall

from train_smarter.task.confusion import Confusion, confusion_scores


def approx(**values: float) -> object:
    return pytest.approx(values)


def counted(predicted: Tensor, labels: Tensor, num_classes: int, batch_size: int = 64) -> Confusion:
    metric = Confusion(num_classes)
    for guesses, truth in zip(predicted.split(batch_size), labels.split(batch_size), strict=True):
        metric.update(guesses, truth)
    return metric


def drawn(num_classes: int, count: int = 500) -> tuple[Tensor, Tensor]:
    """Predictions that are right about half of the time, and labels."""
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.randint(num_classes, (count,), generator=generator)
    guesses = torch.randint(num_classes, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.5, labels, guesses), labels


def test_three_classes_by_hand() -> None:
    confusion = torch.tensor(
        [
            [5, 2, 0],  # 7 of class 0
            [1, 6, 1],  # 8 of class 1
            [0, 3, 2],  # 5 of class 2
        ]
    )  # predicted: 6, 11, 3
    assert confusion_scores(confusion) == approx(
        accuracy=(5 + 6 + 2) / 20,
        precision=(5 / 6 + 6 / 11 + 2 / 3) / 3,
        recall=(5 / 7 + 6 / 8 + 2 / 5) / 3,
        f1=(2 * 5 / (7 + 6) + 2 * 6 / (8 + 11) + 2 * 2 / (5 + 3)) / 3,
    )


def test_two_classes_by_hand() -> None:
    confusion = torch.tensor([[50, 10], [5, 35]])  # 60 negative, 40 positive; 45 predicted positive
    assert confusion_scores(confusion) == approx(
        accuracy=(50 + 35) / 100, precision=35 / 45, recall=35 / 40, f1=2 * 35 / (45 + 40)
    )


def test_all_right_is_one_and_all_wrong_is_zero() -> None:
    assert set(confusion_scores(torch.diag(torch.tensor([3, 4, 5]))).values()) == {1.0}
    assert set(confusion_scores(torch.tensor([[0, 3, 0], [0, 0, 4], [5, 0, 0]])).values()) == {0.0}


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    confusion = torch.tensor([[4, 0, 0], [0, 4, 0], [1, 1, 0]])
    assert confusion_scores(confusion) == approx(
        accuracy=8 / 10,
        precision=(4 / 5 + 4 / 5 + 0) / 3,
        recall=(1 + 1 + 0) / 3,
        f1=(8 / (4 + 5) + 8 / (4 + 5) + 0) / 3,
    )


def test_a_class_that_never_occurs_but_is_predicted_has_recall_zero() -> None:
    confusion = torch.tensor([[4, 0, 1], [0, 4, 1], [0, 0, 0]])
    assert confusion_scores(confusion) == approx(
        accuracy=8 / 10,
        precision=(1 + 1 + 0) / 3,
        recall=(4 / 5 + 4 / 5 + 0) / 3,
        f1=(8 / (5 + 4) + 8 / (5 + 4) + 0) / 3,
    )


def test_a_class_that_neither_occurs_nor_is_predicted_is_left_out() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert confusion_scores(confusion) == approx(
        accuracy=7 / 8, precision=(3 / 3 + 4 / 5) / 2, recall=(3 / 4 + 4 / 4) / 2, f1=(6 / (4 + 3) + 8 / (4 + 5)) / 2
    )


def test_without_any_positive_the_scores_of_two_classes_are_zero_but_accuracy() -> None:
    assert confusion_scores(torch.tensor([[9, 0], [0, 0]])) == approx(accuracy=1, precision=0, recall=0, f1=0)


@pytest.mark.parametrize("num_classes", [3, 10])
@pytest.mark.parametrize("absent", [0, 2])
def test_many_classes_are_those_of_scikit_learn(num_classes: int, absent: int) -> None:
    predicted, labels = drawn(num_classes - absent)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    assert confusion_scores(counted(predicted, labels, num_classes).counts) == approx(
        accuracy=accuracy_score(labels, predicted), precision=precision, recall=recall, f1=f1
    )


def test_two_classes_are_those_of_scikit_learn() -> None:
    predicted, labels = drawn(2)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="binary")
    assert confusion_scores(counted(predicted, labels, 2).counts) == approx(
        accuracy=accuracy_score(labels, predicted), precision=precision, recall=recall, f1=f1
    )


def test_they_are_those_of_torchmetrics() -> None:
    predicted, labels = drawn(5)
    found = confusion_scores(counted(predicted, labels, 7).counts)  # two classes are absent
    assert found["accuracy"] == pytest.approx(float(MulticlassAccuracy(7, average="micro")(predicted, labels)))
    assert found["recall"] == pytest.approx(float(MulticlassRecall(7)(predicted, labels)))
    assert found["f1"] == pytest.approx(float(MulticlassF1Score(7)(predicted, labels)))
    predicted, labels = drawn(2)
    assert confusion_scores(counted(predicted, labels, 2).counts)["f1"] == pytest.approx(
        float(BinaryF1Score()(predicted, labels))
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64, 499, 500])
def test_any_batch_size_counts_the_same_integers(batch_size: int) -> None:
    predicted, labels = drawn(4)
    metric = counted(predicted, labels, 4, batch_size)
    assert metric.counts.dtype == torch.long
    assert metric.counts.equal(counted(predicted, labels, 4, 500).counts)


def test_a_row_is_the_true_class_and_a_column_the_predicted_one() -> None:
    metric = counted(predicted=torch.tensor([2, 2, 0]), labels=torch.tensor([1, 1, 0]), num_classes=3)
    metric.compute()
    assert metric.details() == {"confusion": [[1, 0, 0], [0, 0, 2], [0, 0, 0]]}


def test_it_computes_the_metrics_that_are_named_in_their_order() -> None:
    metric = Confusion(3, ["f1", "accuracy"])
    metric.update(*drawn(3))
    assert list(metric.compute()) == ["f1", "accuracy"]
    assert metric.compute() == {name: confusion_scores(metric.counts)[name] for name in ("f1", "accuracy")}
