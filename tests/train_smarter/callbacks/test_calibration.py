import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from train_smarter.callbacks.calibration import BINS, Calibration, bin_confidences, calibration
from train_smarter.fit.module import Model
from train_smarter.run.files import read_json
from train_smarter.task.classification import Classification
from train_smarter.task.regression import Regression
from train_smarter.task.split_metric import SplitMetric

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Given(Model):
    """Its inputs are its logits."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(task=Classification(num_classes=num_classes))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * inputs


class Splits(LightningDataModule):
    """The same examples in each split, in batches of two."""

    def __init__(self, logits: Tensor, labels: Tensor, *splits: str) -> None:
        super().__init__()
        self.examples, self.splits = TensorDataset(logits, labels), splits

    def test_dataloader(self) -> list[DataLoader]:
        return [DataLoader(self.examples, batch_size=2) for _ in self.splits]


def evaluated(model: LightningModule, data: Splits, folder: Path) -> Calibration:
    callback = Calibration(folder=str(folder))
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    trainer.test(model, datamodule=data, verbose=False)
    return callback


def test_examples_are_counted_in_the_bin_of_their_confidence() -> None:
    # fifteenths: 0.05 is in the first bin, 1/15 still is, 0.5 is the eighth's (7/15 to 8/15), 1 the last's
    counts = bin_confidences(torch.tensor([0.05, 1 / 15, 0.5, 1.0]), torch.tensor([True, False, True, True]))
    assert counts.shape == (3, BINS)
    assert [int(count) for count in counts[0]] == [2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert counts[1, 0].item() == pytest.approx(0.05 + 1 / 15)
    assert [int(right) for right in counts[2]] == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_what_is_no_number_is_no_confidence() -> None:
    assert bin_confidences(torch.tensor([torch.nan]), torch.tensor([False]))[:2, 0].tolist() == [1, 0]


def test_the_error_is_the_distance_of_confidence_and_accuracy_weighted_by_examples() -> None:
    counts = torch.zeros(3, BINS)
    counts[:, 9] = torch.tensor([4.0, 2.5, 1.0])  # 0.625 sure, 0.25 right: 0.375 apart
    counts[:, 14] = torch.tensor([12.0, 12.0, 9.0])  # 1.0 sure, 0.75 right: 0.25 apart
    found = calibration(counts)
    assert found["ece"] == pytest.approx((4 * 0.375 + 12 * 0.25) / 16)
    assert found["bins"][9] == {
        "low": 9 / 15,
        "high": 10 / 15,
        "count": 4,
        "confidence": pytest.approx(0.625),
        "accuracy": pytest.approx(0.25),
    }
    assert found["bins"][0] == {"low": 0.0, "high": 1 / 15, "count": 0, "confidence": None, "accuracy": None}


def test_no_example_has_no_error() -> None:
    assert calibration(torch.zeros(3, BINS))["ece"] == 0


def test_each_tested_split_has_its_bins_in_the_runs_folder(tmp_path: Path) -> None:
    # three classes, logits log 2 ahead of two zeros: sure by 2 / (2 + 1 + 1) = 0.5; of three examples two are right
    logits = torch.tensor([[2.0, 1, 1], [2, 1, 1], [1, 2, 1]]).log()
    data = Splits(logits, torch.tensor([0, 1, 1]), "val", "test")
    evaluated(Given(num_classes=3), data, tmp_path)
    content = read_json(tmp_path / "calibration.json")
    assert list(content) == ["val", "test"]
    for split in content.values():
        assert split["ece"] == pytest.approx(2 / 3 - 0.5)
        assert [one["count"] for one in split["bins"] if one["count"]] == [3]


def test_of_two_classes_the_likelier_one_is_the_confidence(tmp_path: Path) -> None:
    # sigmoid(-log 3) = 0.25: class 0 is 0.75 sure, and right
    evaluated(Given(num_classes=2), Splits(-torch.tensor([[3.0]]).log(), torch.tensor([0]), "test"), tmp_path)
    (found,) = (one for one in read_json(tmp_path / "calibration.json")["test"]["bins"] if one["count"])
    assert (found["confidence"], found["accuracy"]) == (pytest.approx(0.75), 1.0)


def test_a_second_test_run_starts_afresh(tmp_path: Path) -> None:
    data = Splits(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), "test")
    callback, model = Calibration(folder=str(tmp_path)), Given(num_classes=3)
    trainer = Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    for _ in range(2):
        trainer.test(model, datamodule=data, verbose=False)
    assert sum(one["count"] for one in read_json(tmp_path / "calibration.json")["test"]["bins"]) == 4


def test_the_counts_of_all_processes_are_added_by_all_and_written_by_the_first(tmp_path: Path) -> None:
    """A process that has seen no example of a split takes part with zeros: else the others would wait for it."""
    model = Given(num_classes=3)
    model.test_metrics = dict.fromkeys(("val", "test"))  # type: ignore[assignment]
    handed = []

    def reduce(own: Tensor, *, reduce_op: str) -> Tensor:
        handed.append((own.shape, reduce_op))
        return own + 1

    for first in (False, True):
        strategy: Any = type("Strategy", (), {"reduce": staticmethod(reduce)})
        trainer: Any = type("Two", (), {"strategy": strategy, "is_global_zero": first})
        Calibration(folder=str(tmp_path)).on_test_end(trainer, model)
        assert (tmp_path / "calibration.json").exists() == first
    assert handed == [((2, 3, BINS), "sum")] * 2
    assert read_json(tmp_path / "calibration.json")["val"]["bins"][0]["count"] == 1


def test_another_kind_of_model_is_left_alone(tmp_path: Path) -> None:
    callback, trainer = Calibration(folder=str(tmp_path)), Trainer(accelerator="cpu", logger=False)
    callback.on_test_batch_end(trainer, LightningModule(), torch.zeros(1), (torch.zeros(1), torch.zeros(1)), 0)
    callback.on_test_end(trainer, LightningModule())
    assert not list(tmp_path.iterdir())


class Several(Given):
    """A subclass for another kind of task, with a loss of its own."""

    def _step(self, batch: Any, metric: SplitMetric) -> tuple[Tensor, Any]:
        logits = self(batch[0])
        none = torch.zeros(len(logits), dtype=torch.long)
        metric.append(logits.sum(), len(logits), (none, none))
        return logits.sum(), logits


@pytest.mark.parametrize(
    ("model", "labels", "why"),
    [
        (Several(num_classes=3), torch.ones(4, 3, dtype=torch.long), "labels are torch.int64 of shape"),
        (Several(num_classes=3), torch.ones(4), "labels are torch.float32 of shape"),
        (Several(num_classes=4), torch.ones(4, dtype=torch.long), "outputs are .*, not logits of shape"),
    ],
)
def test_a_model_of_another_task_is_left_out_with_the_reason_and_nothing_breaks(
    model: LightningModule, labels: Tensor, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    evaluated(model, Splits(torch.randn(4, 3), labels, "test"), tmp_path)
    assert not (tmp_path / "calibration.json").exists()
    assert len([line for line in caplog.messages if line.startswith("callbacks.calibration is left out")]) == 1
    assert re.search(why, caplog.text)


def test_another_task_has_no_calibration_and_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model = Given(num_classes=3)
    model.task = Regression(num_targets=3)
    evaluated(model, Splits(torch.randn(4, 3), torch.randn(4, 3), "test"), tmp_path)
    assert not (tmp_path / "calibration.json").exists()
    assert "calibration" not in caplog.text
