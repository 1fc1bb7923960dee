import csv
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback
from torch.optim import Adam

from sample_project.model.mlp import MLP
from train_smarter.callbacks.epoch_logger import EpochLogger
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.task.classification import Classification

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
SCORES = ("loss", "accuracy", "precision", "recall", "f1")
METRICS = [f"{split}/{name}" for split in ("train", "val") for name in SCORES]


class Random(ImageData):
    """Random 4x4 images of three classes: 40 to train, 9 to evaluate."""

    def __init__(self, **data: Any) -> None:
        super().__init__(num_classes=3, shape=[1, 4, 4], **{"batch_size": 10, **data})

    def read(self) -> RawDataset:
        return RawDataset(["a", "b", "c"], self.drawn(40), self.drawn(9), self.drawn(9))

    def drawn(self, count: int) -> Examples:
        images = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(count))
        return Examples(images.to(torch.uint8), torch.arange(count) % 3)


class Watch(Callback):
    """Keeps the scores of each epoch, straight from the counts."""

    def __init__(self) -> None:
        self.scores: list[dict[str, float]] = []

    def on_train_epoch_end(self, _: Any, pl_module: Any) -> None:
        tallies = pl_module.epoch_metrics.items()
        self.scores.append({f"{split}/{k}": v for split, tally in tallies for k, v in tally.scores().items()})


def fit(folder: Path, *callbacks: Callback, resume: Path | None = None, **options: Any) -> EpochLogger:
    journal, model = (
        EpochLogger(folder),
        MLP(shape=[1, 4, 4], task=Classification(num_classes=3), widths=[8], optimizer=partial(Adam, lr=0.01)),
    )
    trainer = lightning.Trainer(**{**BARE, "max_epochs": 3, **options}, callbacks=[journal, *callbacks])
    trainer.fit(model, datamodule=Random(), ckpt_path=resume, weights_only=True)
    if resume is None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.save_checkpoint(folder / "last.ckpt")
    return journal


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_epoch_has_a_row_with_the_scores_of_that_very_epoch(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, watch)
    found = rows(tmp_path)
    assert list(found[0]) == ["epoch", "step", "seconds", *METRICS]
    assert [(row["epoch"], row["step"]) for row in found] == [("0", "4"), ("1", "8"), ("2", "12")]  # 4 steps an epoch
    for row, scores in zip(found, watch.scores, strict=True):
        assert {name: float(row[name]) for name in METRICS} == pytest.approx(scores, abs=1e-6)
    assert len({row["train/loss"] for row in found}) == 3


def test_an_epoch_without_validation_has_no_validation_scores(tmp_path: Path) -> None:
    fit(tmp_path, check_val_every_n_epoch=2, max_epochs=4)
    assert [bool(row["val/accuracy"]) for row in rows(tmp_path)] == [False, True, False, True]
    assert all(row["train/accuracy"] for row in rows(tmp_path))


def test_the_loss_of_a_step_is_no_score_of_an_epoch(tmp_path: Path) -> None:
    fit(tmp_path, log_every_n_steps=1)
    assert "train/loss_step" not in rows(tmp_path)[0]


def test_a_score_of_ones_own_gets_a_column(tmp_path: Path) -> None:
    class Own(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.log("train/own", float(trainer.current_epoch))

    fit(tmp_path, Own())
    assert [row["train/own"] for row in rows(tmp_path)] == ["0.0", "1.0", "2.0"]


def test_a_resumed_training_goes_on_where_the_rows_end(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=2)
    fit(tmp_path, max_epochs=4, resume=tmp_path / "last.ckpt")
    assert [row["epoch"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]


def test_every_epoch_takes_time(tmp_path: Path) -> None:
    journal = fit(tmp_path)
    assert len(journal.seconds) == 3
    assert min(journal.seconds) > 0
    assert [float(row["seconds"]) for row in rows(tmp_path)] == journal.seconds


@pytest.mark.parametrize("interval", [1.0, 0.5])
def test_validation_is_not_counted(tmp_path: Path, interval: float) -> None:
    class Slow(Callback):
        def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
            time.sleep(0.5)

    journal = fit(tmp_path, Slow(), max_epochs=1, val_check_interval=interval)
    assert 0 < journal.seconds[0] < 0.5


def test_the_training_between_two_validations_is_counted(tmp_path: Path) -> None:
    class Slow(Callback):
        def on_train_batch_start(self, *_: Any, **__: Any) -> None:
            time.sleep(0.05)

    assert fit(tmp_path, Slow(), max_epochs=1, val_check_interval=0.5).seconds[0] > 0.2  # 4 x 0.05


def test_an_epoch_cut_short_has_taken_time_too(tmp_path: Path) -> None:
    journal = fit(tmp_path, max_steps=6, max_epochs=-1)
    assert len(journal.seconds) == 2
    assert min(journal.seconds) > 0
    assert [row["step"] for row in rows(tmp_path)] == ["4", "6"]


@pytest.mark.parametrize(
    ("seconds", "median"),
    [([], None), ([9.0], 9.0), ([9.0, 1.0, 5.0, 3.0], 3.0)],  # the median of 1, 5 and 3
)
def test_the_first_epoch_warms_up(seconds: list[float], median: float | None) -> None:
    journal = EpochLogger(Path())
    journal.seconds = seconds
    assert journal.seconds_per_epoch == median


def test_the_run_keeps_how_inputs_are_treated(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1)
    expected = {"names": ["a", "b", "c"], "shape": [1, 4, 4], "mean": [0.5], "std": [0.5]}
    assert json.loads((tmp_path / "preprocess.json").read_text()) == expected


def test_what_a_run_has_kept_already_stays(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text('{"names": ["first"]}')
    fit(tmp_path, max_epochs=1)
    assert (tmp_path / "preprocess.json").read_text() == '{"names": ["first"]}'


def test_a_test_run_writes_no_row(tmp_path: Path) -> None:
    model = MLP(shape=[1, 4, 4], task=Classification(num_classes=3))
    lightning.Trainer(**BARE, callbacks=[EpochLogger(tmp_path)]).test(model, datamodule=Random(), verbose=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["preprocess.json"]


def test_a_fast_dev_run_writes_no_row(tmp_path: Path) -> None:
    fit(tmp_path, fast_dev_run=True)
    assert not (tmp_path / "metrics.csv").exists()
