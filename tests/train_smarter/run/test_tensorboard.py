from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from train_smarter.run import tensorboard


def trainer_with(*loggers: Logger) -> Trainer:
    return Trainer(accelerator="cpu", logger=list(loggers), enable_progress_bar=False)


def test_every_tensorboard_logger_is_written_to_and_no_other(tmp_path: Path) -> None:
    first, second = TensorBoardLogger(tmp_path / "a", name=""), TensorBoardLogger(tmp_path / "b", name="")
    trainer = trainer_with(first, CSVLogger(tmp_path / "c"), second)
    assert tensorboard.has_tensorboard(trainer)
    assert tensorboard.tensorboard_writers(trainer) == [first.experiment, second.experiment]


def test_without_tensorboard_nothing_is_wanted(tmp_path: Path) -> None:
    for trainer in (trainer_with(), trainer_with(CSVLogger(tmp_path))):
        assert not tensorboard.has_tensorboard(trainer)
        assert tensorboard.tensorboard_writers(trainer) == []


def test_other_processes_than_the_first_write_nothing_but_know_that_it_is_wanted(tmp_path: Path) -> None:
    second_process: Any = SimpleNamespace(is_global_zero=False, loggers=[TensorBoardLogger(tmp_path)])
    assert tensorboard.has_tensorboard(second_process)
    assert tensorboard.tensorboard_writers(second_process) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("steps", "latest"), [(0, 0), (1, 0), (17, 16)])
def test_steps_are_counted_from_zero_as_the_scalars_are(steps: int, latest: int) -> None:
    trainer: Any = SimpleNamespace(global_step=steps)
    assert tensorboard.latest_step(trainer) == latest


def test_a_process_on_its_own_gathers_what_it_has() -> None:
    assert tensorboard.all_gather(trainer_with(), {"a": 1}) == [{"a": 1}]


def test_metrics_stand_in_an_event_file_of_their_own(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard.write_scalars(tmp_path, {"test/accuracy": 0.5, "confusion": {"test": [[1]]}}, step=7)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["test/accuracy"]
    assert [(e.step, e.value) for e in events.Scalars("test/accuracy")] == [(7, 0.5)]
