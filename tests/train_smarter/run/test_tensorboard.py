from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from train_smarter.run import tensorboard
from train_smarter.run.tensorboard import MAX_LABEL, job_label, name_job


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


def job(folder: Path, *words: str) -> str:
    """The version of the logger of a job with these words, in a multirun of two models."""
    (folder / "0").mkdir(parents=True, exist_ok=True)
    typed = ["model=cnn,mlp", "report=false", "data.dir=a/b,c"]
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": {"task": typed}}}), folder / "multirun.yaml")
    entry = {"_target_": "x.TensorBoardLogger", "save_dir": str(folder / "0"), "name": "tensorboard", "version": ""}
    cfg = OmegaConf.create({"logger": {"tensorboard": entry}})
    assert isinstance(cfg, DictConfig)
    name_job(cfg, folder / "0", words)
    return str(cfg.logger.tensorboard.version)


def test_a_job_is_named_by_the_words_that_are_its_own(tmp_path: Path) -> None:
    assert job(tmp_path, "model=cnn", "report=False", "data.dir=a/b", "+optimizer.lr=0.00123456") == (
        "model=cnn,data.dir=a_b,optimizer.lr=0.001235"
    )


def test_a_job_that_resumes_continues_in_the_folder_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "0" / "tensorboard" / "model=cnn").mkdir(parents=True)
    assert job(tmp_path, "model=cnn", "trainer.max_epochs=9") == "model=cnn"
    (tmp_path / "old" / "0" / "tensorboard").mkdir(parents=True)
    (tmp_path / "old" / "0" / "tensorboard" / "events.out.tfevents.1").touch()  # of an older version
    assert job(tmp_path / "old", "model=cnn") == ""


def test_a_long_label_is_cut_and_a_run_of_its_own_has_none(tmp_path: Path) -> None:
    assert len(job_label([f"model.a{number}=1" for number in range(100)])) == MAX_LABEL
    cfg = OmegaConf.create({"logger": {"tensorboard": {"_target_": "x.TensorBoardLogger", "version": ""}}})
    assert isinstance(cfg, DictConfig)
    name_job(cfg, tmp_path / "run", ["model=cnn"])
    assert cfg.logger.tensorboard.version == ""
