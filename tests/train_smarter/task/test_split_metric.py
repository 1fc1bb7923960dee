import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.confusion import Confusion
from train_smarter.task.language_model import LanguageModel
from train_smarter.task.multilabel import MultilabelMetrics
from train_smarter.task.segmentation import Segmentation
from train_smarter.task.split_metric import BUFFER_SIZE, SplitMetric


class Largest(Metric):
    """The largest value so far; counts its updates."""

    full_state_update = False
    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("largest", torch.tensor(-torch.inf), dist_reduce_fx="max")
        self.updates = 0

    def update(self, values: Tensor) -> None:
        self.updates += 1
        self.largest = torch.maximum(self.largest, values.max())

    def compute(self) -> dict[str, Tensor]:
        return {"largest": self.largest}


def step(number: int) -> tuple[Tensor, int, tuple[Tensor, ...]]:
    """A loss, a weight, and predicted and true classes of five examples."""
    generator = torch.Generator().manual_seed(number)
    inputs = tuple(torch.randint(0, 3, (5,), generator=generator) for _ in range(2))
    return torch.rand((), generator=generator), 5, inputs


def test_the_loss_is_the_mean_over_what_was_weighed_and_not_over_batches() -> None:
    metric = SplitMetric()
    metric.append(torch.tensor(1.0), 3, ())
    metric.append(torch.tensor(5.0), 1, ())
    assert metric.scores() == {"loss": 2.0}  # (3 x 1 + 1 x 5) / 4


def test_weights_may_be_tensors() -> None:
    metric = SplitMetric()
    metric.append(torch.tensor(1.0), torch.tensor(0.5), ())
    metric.append(torch.tensor(5.0), torch.tensor(1.5), ())
    assert metric.scores() == {"loss": 4.0}  # (0.5 x 1 + 1.5 x 5) / 2


def test_weights_may_be_ints_and_tensors_by_turns() -> None:
    metric = SplitMetric()
    metric.append(torch.tensor(1.0), 3, ())
    metric.append(torch.tensor(5.0), torch.tensor(1), ())
    assert metric.scores() == {"loss": 2.0}


def test_a_loss_is_added_up_without_its_gradient() -> None:
    metric = SplitMetric()
    metric.append(torch.tensor(1.0, requires_grad=True), 1, ())
    metric.flush()
    assert not metric.loss_sum.requires_grad


def test_the_scores_are_plain_numbers_the_loss_first() -> None:
    metric = SplitMetric(Confusion(3))
    metric.append(*step(0))
    assert list(metric.scores()) == ["loss", "accuracy", "precision", "recall", "f1"]
    assert {type(value) for value in metric.scores().values()} == {float}


def test_details_are_those_of_the_tasks_metric() -> None:
    metric = SplitMetric(Confusion(3))
    metric.append(torch.tensor(0.0), 2, (torch.tensor([0, 2]), torch.tensor([0, 1])))
    metric.scores()
    assert metric.details() == {"confusion": [[1, 0, 0], [0, 0, 1], [0, 0, 0]]}
    assert SplitMetric().details() == {}


def test_steps_are_counted_many_at_a_time() -> None:
    largest = Largest()
    metric = SplitMetric(largest)
    for number in range(2 * BUFFER_SIZE + 1):
        metric.append(torch.tensor(0.0), 1, (torch.tensor([float(number)]),))
    assert largest.updates == 2
    assert metric.scores() == {"loss": 0.0, "largest": 2.0 * BUFFER_SIZE}
    assert largest.updates == 3


def test_scores_that_were_read_are_computed_again_after_more_steps() -> None:
    metric = SplitMetric(Largest())
    metric.append(torch.tensor(2.0), 1, (torch.tensor([1.0]),))
    assert metric.scores() == {"loss": 2.0, "largest": 1.0}
    metric.append(torch.tensor(4.0), 1, (torch.tensor([3.0]),))
    assert metric.scores() == {"loss": 3.0, "largest": 3.0}


def test_a_collection_of_torchmetrics_is_a_metric_too() -> None:
    metric = SplitMetric(MetricCollection({"mae": MeanAbsoluteError(), "mse": MeanSquaredError()}))
    metric.append(torch.tensor(0.0), 2, (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])))
    assert metric.scores() == {"loss": 0.0, "mae": 1.5, "mse": 4.5}  # (0 + 3) / 2, (0 + 9) / 2


@pytest.mark.parametrize("done", [1, 63, 64, 100])
def test_a_state_that_was_saved_continues_bit_for_bit(done: int) -> None:
    whole, first, second = (SplitMetric(Confusion(3)) for _ in range(3))
    for number in range(150):  # 64 are counted at a time: sums of floats depend on where they are cut
        whole.append(*step(number))
        (first if number < done else second).append(*step(number))
        if number == done - 1:
            second.load_buffered_state(first.buffered_state())
    assert second.scores() == whole.scores()
    assert second.details() == whole.details()


def test_a_metric_that_keeps_all_predictions_continues_too() -> None:
    def labels(number: int) -> tuple[Tensor, int, tuple[Tensor, ...]]:
        drawn = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(number))
        return drawn.mean(), 4, (drawn[0], drawn[1] < 0.5)

    def new() -> SplitMetric:
        return SplitMetric(MultilabelMetrics(3, ["map", "f1_micro"], threshold=0.5))

    whole, first, second = new(), new(), new()
    for number in range(150):
        whole.append(*labels(number))
        (first if number < 100 else second).append(*labels(number))
        if number == 99:
            second.load_buffered_state(first.buffered_state())
    assert second.scores() == whole.scores()


def test_reading_the_state_counts_nothing() -> None:
    metric = SplitMetric(Largest())
    metric.append(torch.tensor(1.0), 1, (torch.tensor([1.0]),))
    state = metric.buffered_state()
    assert len(metric.buffer) == len(state["buffer"]) == 1
    assert state["states"]["/loss_sum"] == 0


@pytest.mark.parametrize(
    ("task", "shape", "targets"),
    [
        (Classification(num_classes=3, class_weights=[0, 1, 5]), (3,), torch.tensor([0, 0, 1, 2])),
        (Classification(num_classes=2, class_weights=[0, 5]), (1,), torch.tensor([0, 0, 1, 0])),
        (LanguageModel(vocab_size=4, ignore_index=0), (4, 2), torch.tensor([[0, 0], [0, 0], [1, 0], [3, 2]])),
        (Segmentation(num_classes=2), (2, 1, 1), torch.tensor([255, 255, 1, 0]).view(4, 1, 1)),
        (Segmentation(num_classes=2, class_weights=[1, 5]), (2, 1, 1), torch.tensor([255, 255, 1, 0]).view(4, 1, 1)),
    ],
)
def test_a_batch_in_which_nothing_counts_changes_no_loss(task: Task, shape: tuple[int, ...], targets: Tensor) -> None:
    outputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    parts, whole = task.new_metric(), task.new_metric()
    for given, true in zip(outputs.split(2), targets.split(2), strict=True):
        parts.append(task.loss(given, true), task.weight(true), task.metric_inputs(given, true))
    whole.append(task.loss(outputs, targets), task.weight(targets), task.metric_inputs(outputs, targets))
    assert parts.scores()["loss"] == pytest.approx(whole.scores()["loss"], rel=1e-6)
