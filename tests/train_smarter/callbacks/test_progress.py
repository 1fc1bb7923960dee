from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from rich.progress import Progress as Bar

from train_smarter.callbacks.progress import Progress
from train_smarter.fit.module import Model

METRICS = {"accuracy": "max", "precision": "max", "recall": "max"}


def make_trainer(**changes: Any) -> Any:
    """A trainer as Progress sees it, of a model with four metrics."""
    model = Mock(spec=Model)
    model.task = Mock(metrics=METRICS)
    checkpoint = Mock(spec=ModelCheckpoint, monitor="val/accuracy", mode="max", best_model_score=None)
    made = {
        "lightning_module": model,
        "checkpoint_callback": checkpoint,
        "num_training_batches": 40,
        "current_epoch": 0,
    }
    return Mock(**(made | {"callback_metrics": {}, "num_test_batches": [3]} | changes))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def train(bar: Progress, trainer: Any, epochs: list[dict[str, float]], clock: list[float], seconds: float = 2) -> None:
    """Epochs that end with such metrics."""
    bar._trainer = trainer
    bar.on_train_start(trainer, Mock())
    for epoch, metrics in enumerate(epochs):
        trainer.current_epoch = epoch
        bar.on_train_epoch_start(trainer, Mock())
        trainer.callback_metrics = {name: torch.tensor(value) for name, value in metrics.items()}
        if any(name.startswith("val/") for name in metrics):
            bar.on_validation_end(trainer, Mock())
        clock[0] += seconds
    bar.on_train_end(trainer, Mock())


def epoch(accuracy: float) -> dict[str, float]:
    losses = {"train/loss": 1.25, "val/loss": 12345.6, "train/loss_step": 7.0}
    return losses | {"train/accuracy": 0.5, "val/accuracy": accuracy, "val/recall": 0.25, "val/precision": 0.75}


def test_an_epoch_is_a_row_with_the_losses_and_the_monitored_metric_first(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    train(Progress(), make_trainer(), [epoch(0.5), epoch(0.25), epoch(0.75)], clock)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "epoch  train/loss   val/loss  val/accuracy  train/accuracy  seconds",
        "    0      1.2500      12346        0.5000          0.5000      2.0  best",
        "    1      1.2500      12346        0.2500          0.5000      2.0",
        "    2      1.2500      12346        0.7500          0.5000      2.0  best",
    ]


def test_a_wide_terminal_shows_more_metrics_and_a_narrow_one_fewer(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, names in ((40, ["train/loss"]), (100, ["train/loss", "val/loss", "val/accuracy", "train/accuracy"])):
        monkeypatch.setenv("COLUMNS", str(columns))
        train(Progress(), make_trainer(), [epoch(0.5)], clock)
        lines = capsys.readouterr().out.splitlines()[1:]
        assert lines[0].split()[1 : 1 + len(names)] == names
        assert max(map(len, lines)) <= columns


def test_the_value_of_an_earlier_validation_is_not_shown_again(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar, trainer = Progress(), make_trainer()
    stale = dict(epoch(0.5))
    train(bar, trainer, [stale], clock)
    bar.on_train_epoch_start(trainer, Mock())  # without a validation: Lightning keeps the old values
    bar.on_train_end(trainer, Mock())
    assert capsys.readouterr().out.splitlines()[-1].split() == ["0", "1.2500", "-", "-", "0.5000", "0.0"]


def test_a_resumed_run_knows_the_best_value_so_far(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer()
    trainer.checkpoint_callback.best_model_score = torch.tensor(0.625)
    train(Progress(), trainer, [epoch(0.5), epoch(0.75)], clock)
    assert [line.endswith("best") for line in capsys.readouterr().out.splitlines()[2:]] == [False, True]


def test_a_module_without_a_task_shows_what_it_logs(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(lightning_module=Mock(), checkpoint_callback=None)
    train(Progress(), trainer, [{"g_loss": 1.0, "d_loss": 0.5, "d_loss_step": 9.0}], clock)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "epoch     d_loss     g_loss  seconds",
        "    0     0.5000     1.0000      2.0",
    ]


def test_a_further_process_prints_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress()
    bar.disable()
    train(bar, make_trainer(), [epoch(0.5)], clock)
    bar.print("line")
    assert capsys.readouterr().out == ""


def drawn(monkeypatch: pytest.MonkeyPatch, clock: list[float], *, refresh_rate: int, seconds: float) -> list[int]:
    """The batches of 29, counted from one, after which the bar is drawn; each takes so many seconds."""
    found: list[int] = []

    def update(self: Any, task: Any, *, completed: int, refresh: bool) -> None:  # noqa: ARG001
        found.extend([completed] * refresh)

    monkeypatch.setattr(Bar, "update", update)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    bar, trainer = Progress(refresh_rate=refresh_rate), make_trainer()
    bar._trainer = trainer
    bar.on_train_epoch_start(trainer, Mock())
    for place in range(29):
        clock[0] += seconds
        bar.on_train_batch_end(trainer, Mock(), None, None, place)
    bar.on_train_end(trainer, Mock())
    return found


def test_the_bar_rests_between_two_refreshes(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    assert drawn(monkeypatch, clock, refresh_rate=10, seconds=1.0) == [10, 20]


def test_the_bar_is_drawn_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    # A second is 10 batches of 0.1 s: of every fourth, those 12 after the last one that was drawn.
    assert drawn(monkeypatch, clock, refresh_rate=4, seconds=0.1000001) == [4, 16, 28]


def test_without_a_refresh_rate_there_is_no_bar(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    assert drawn(monkeypatch, clock, refresh_rate=0, seconds=1.0) == []


def test_a_model_can_print_while_it_trains(capsys: pytest.CaptureFixture[str]) -> None:
    """`LightningModule.print` reads `is_enabled` of the progress bar."""

    class Talking(BoringModel):
        def on_train_epoch_start(self) -> None:
            self.print("a line of the model")

    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        logger=False,
        callbacks=[Progress()],
        enable_checkpointing=False,
    )
    trainer.fit(Talking())
    assert "a line of the model\n" in capsys.readouterr().out
