import pytest
import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import Tensor
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score, MulticlassRecall
from train_smarter.task.confusion_metric import ConfusionMetric, confusion_scores


def approx(**values: float) -> object:
    return pytest.approx(values)


def counted(predicted: Tensor, labels: Tensor, num_classes: int, batch_size: int = 64) -> ConfusionMetric:
    tally = ConfusionMetric(num_classes)
    for guesses, truth in zip(predicted.split(batch_size), labels.split(batch_size), strict=True):
        tally.append(torch.tensor(0.0), guesses, truth)
    tally.flush()
    return tally


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
    assert confusion_scores(counted(predicted, labels, num_classes).confusion) == approx(
        accuracy=accuracy_score(labels, predicted), precision=precision, recall=recall, f1=f1
    )


def test_two_classes_are_those_of_scikit_learn() -> None:
    predicted, labels = drawn(2)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="binary")
    assert confusion_scores(counted(predicted, labels, 2).confusion) == approx(
        accuracy=accuracy_score(labels, predicted), precision=precision, recall=recall, f1=f1
    )


def test_they_are_those_of_torchmetrics() -> None:
    predicted, labels = drawn(5)
    found = confusion_scores(counted(predicted, labels, 7).confusion)  # two classes are absent
    assert found["accuracy"] == pytest.approx(float(MulticlassAccuracy(7, average="micro")(predicted, labels)))
    assert found["recall"] == pytest.approx(float(MulticlassRecall(7)(predicted, labels)))
    assert found["f1"] == pytest.approx(float(MulticlassF1Score(7)(predicted, labels)))
    predicted, labels = drawn(2)
    assert confusion_scores(counted(predicted, labels, 2).confusion)["f1"] == pytest.approx(
        float(BinaryF1Score()(predicted, labels))
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64, 499, 500])
def test_any_batch_size_counts_the_same_integers(batch_size: int) -> None:
    predicted, labels = drawn(4)
    tally = counted(predicted, labels, 4, batch_size)
    assert tally.confusion.dtype == torch.long
    assert tally.confusion.equal(counted(predicted, labels, 4, 500).confusion)


def test_a_row_is_the_true_class_and_a_column_the_predicted_one() -> None:
    tally = counted(predicted=torch.tensor([2, 2, 0]), labels=torch.tensor([1, 1, 0]), num_classes=3)
    assert tally.confusion.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_the_loss_is_the_mean_over_examples_not_over_batches() -> None:
    tally = ConfusionMetric(2)
    tally.append(torch.tensor(1.0), torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    tally.append(torch.tensor(5.0), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert tally.scores()["loss"] == 2.0  # (3 x 1 + 1 x 5) / 4


def test_a_loss_is_added_up_without_its_gradient() -> None:
    tally, loss = ConfusionMetric(2), torch.tensor(1.0, requires_grad=True)
    tally.append(loss, torch.tensor([0]), torch.tensor([0]))
    assert not tally.loss.requires_grad


def test_the_result_is_plain_numbers_and_the_counts_stay_for_pictures() -> None:
    tally = counted(*drawn(3), num_classes=3)
    result = tally.scores()
    assert list(result) == ["loss", "accuracy", "precision", "recall", "f1"]
    assert {type(value) for value in result.values()} == {float}
    assert tally.confusion_matrix.equal(tally.confusion)
    assert tally.confusion_matrix.sum() == 500


def test_counts_that_were_kept_go_on_as_if_nothing_had_happened() -> None:
    def step(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(number)
        drawn = [torch.randint(0, 3, (5,), generator=generator) for _ in range(2)]
        return torch.rand((), generator=generator), drawn[0], drawn[1]

    whole, first, second = ConfusionMetric(3), ConfusionMetric(3), ConfusionMetric(3)
    for number in range(150):  # 64 are counted at a time: sums of floats hang on where they are cut
        whole.append(*step(number))
        (first if number < 100 else second).append(*step(number))
        if number == 99:
            second.load_buffered_state(first.buffered_state())
    assert second.scores() == whole.scores()
    assert second.confusion_matrix.equal(whole.confusion_matrix)
