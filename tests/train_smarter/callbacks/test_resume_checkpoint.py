import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim import Adam

from sample_project.model.mlp import MLP
from train_smarter.callbacks.resume_checkpoint import ResumeCheckpoint
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.run.random_state import random_state, restore_random_state
from train_smarter.run.signals import TerminatedBySignal, handle_signals, signals_state
from train_smarter.task.classification import Classification

pytestmark = pytest.mark.results

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


class Random(ImageData):
    """Random 4x4 images of three classes: 40 to train, in 4 steps an epoch."""

    def __init__(self) -> None:
        super().__init__(num_classes=3, shape=[1, 4, 4], batch_size=10)

    def read(self) -> RawDataset:
        return RawDataset(["a", "b", "c"], self.drawn(40), self.drawn(9), self.drawn(9))

    def drawn(self, count: int) -> Examples:
        images = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(count))
        return Examples(images.to(torch.uint8), torch.arange(count) % 3)


class Watch(Callback):
    """Notes which state of the run last.ckpt holds at each step: (steps, batches of the epoch that are done)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen: list[tuple[int, int] | None] = []

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        content = torch.load(self.file, weights_only=True) if self.file.exists() else None
        self.seen.append(content and (content["global_step"], content["resume"]["batch"]))


class Ask(Callback):
    """A signal, in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


def fit(*callbacks: Callback, resume: Path | None = None, **options: Any) -> lightning.Trainer:
    model = MLP(
        shape=[1, 4, 4], task=Classification(num_classes=3), widths=[8], dropout=0.5, optimizer=partial(Adam, lr=0.01)
    )
    trainer = lightning.Trainer(
        **{**BARE, "max_epochs": 2, "enable_checkpointing": False, **options}, callbacks=list(callbacks)
    )
    trainer.fit(model, datamodule=Random(), ckpt_path=resume, weights_only=True)
    return trainer


def seen(folder: Path, *, options: dict[str, Any] | None = None, **last: Any) -> list[tuple[int, int] | None]:
    watch = Watch(folder / "last.ckpt")
    fit(ResumeCheckpoint(dirpath=str(folder), **last), watch, **(options or {}))
    return watch.seen


def test_an_epoch_that_is_over_is_saved_before_the_next_one_begins(tmp_path: Path) -> None:
    assert seen(tmp_path) == [None] * 4 + [(4, 0)] * 4
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (content["epoch"], content["global_step"], content["resume"]["over"]) == (2, 8, True)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_within_an_epoch_it_is_saved_every_so_many_steps(tmp_path: Path) -> None:
    found = seen(tmp_path, every_n_steps=3)
    assert found == [None] * 3 + [(3, 3), (4, 0), (4, 0), (6, 2), (6, 2)]


def test_within_an_epoch_it_is_saved_every_so_many_minutes(tmp_path: Path) -> None:
    found = seen(tmp_path, every_minutes=1e-9)
    assert found == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (5, 1), (6, 2), (7, 3)]


def test_gradients_that_are_half_gathered_are_never_saved(tmp_path: Path) -> None:
    found = seen(tmp_path, every_minutes=1e-9, options={"accumulate_grad_batches": 2})
    assert found == [(0, 0), (0, 0), (1, 2), (1, 2), (2, 0), (2, 0), (3, 2), (3, 2)]


@pytest.mark.parametrize(("step", "batch"), [(1, 2), (3, 0)])
def test_a_signal_saves_before_the_next_batch_and_ends_the_training(tmp_path: Path, step: int, batch: int) -> None:
    with handle_signals(), pytest.raises(TerminatedBySignal):
        fit(ResumeCheckpoint(dirpath=str(tmp_path)), Ask(step))
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (content["global_step"], content["resume"]["batch"]) == (step + 1, batch)
    assert not signals_state.deferred


class Validations(Callback):
    """Notes after which steps a run is validated."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.steps.append(trainer.global_step)


def test_validations_that_count_steps_over_epochs_come_at_the_same_steps_after_a_resume(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_epochs": 3}
    validations = Validations()
    with handle_signals(), pytest.raises(TerminatedBySignal):
        fit(ResumeCheckpoint(dirpath=str(tmp_path)), validations, Ask(4), **options)
    fit(ResumeCheckpoint(dirpath=str(tmp_path)), validations, resume=tmp_path / "last.ckpt", **options)
    assert validations.steps == [3, 6, 9, 12]


def test_a_signal_does_not_wait_for_the_end_of_a_long_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_smarter.callbacks.resume_checkpoint.SYNC_SECONDS", -1)
    with handle_signals(), pytest.raises(TerminatedBySignal):
        fit(ResumeCheckpoint(dirpath=str(tmp_path)), Ask(3))  # in the epoch's last step
    assert not (tmp_path / "last.ckpt").exists()


def test_a_trial_of_the_code_saves_nothing(tmp_path: Path) -> None:
    fit(ResumeCheckpoint(dirpath=str(tmp_path)), fast_dev_run=True)
    assert not list(tmp_path.iterdir())


def test_all_generators_go_on_where_they_were() -> None:
    device = torch.device("cpu")

    def drawn() -> list[float]:
        return [float(torch.rand(())), random.random(), float(np.random.rand())]

    state = random_state(device)
    first = drawn()
    assert drawn() != first
    restore_random_state(state, device)
    assert drawn() == first


def test_the_random_state_of_a_checkpoint_loads_without_code(tmp_path: Path) -> None:
    torch.save(random_state(torch.device("cpu")), tmp_path / "a.pt")
    restore_random_state(torch.load(tmp_path / "a.pt", weights_only=True), torch.device("cpu"))


def kept(folder: Path, **changed: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, filename="best", monitor="val/accuracy", mode="max", enable_version_counter=False, **changed
    )


def test_a_run_that_has_moved_knows_its_best_checkpoint_where_it_lies_now(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first = kept(old)
    fit(ResumeCheckpoint(dirpath=str(old)), first, enable_checkpointing=True)
    old.rename(new)
    again = kept(new)
    fit(ResumeCheckpoint(dirpath=str(new)), again, resume=new / "last.ckpt", enable_checkpointing=True)
    assert again.best_model_path == str(new / "best.ckpt")
    assert again.best_model_score == first.best_model_score


def test_a_checkpoint_makes_nobody_delete_a_file_outside_of_its_folder(tmp_path: Path) -> None:
    home, mine = tmp_path / "run", tmp_path / "mine.txt"
    mine.write_text("dear to me")
    fit(ResumeCheckpoint(dirpath=str(home)), kept(home), enable_checkpointing=True)
    content = torch.load(home / "last.ckpt", weights_only=True)
    (state,) = [s for name, s in content["callbacks"].items() if name.startswith("ModelCheckpoint")]
    state |= {
        "best_model_path": str(mine),
        "kth_best_model_path": str(mine),
        "best_k_models": {str(mine): torch.tensor(0.0)},
    }
    state |= {"best_model_score": torch.tensor(0.0), "kth_value": torch.tensor(0.0), "last_model_path": str(mine)}
    torch.save(content, home / "last.ckpt")
    fit(
        ResumeCheckpoint(dirpath=str(home)),
        kept(home),
        resume=home / "last.ckpt",
        max_epochs=4,
        enable_checkpointing=True,
    )
    assert mine.read_text() == "dear to me"


def test_patience_is_what_is_configured_now(tmp_path: Path) -> None:
    def patient(patience: int) -> EarlyStopping:
        return EarlyStopping("val/loss", patience=patience, min_delta=9.0)  # nothing is an improvement

    last = str(tmp_path)
    assert fit(ResumeCheckpoint(dirpath=last), patient(1), max_epochs=9).current_epoch == 2
    again = fit(ResumeCheckpoint(dirpath=last), patient(4), resume=tmp_path / "last.ckpt", max_epochs=9)
    assert again.current_epoch == 5  # the first epoch, and four without an improvement
