import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from train_smarter import past, record, resume
from train_smarter.callbacks.last import Last
from train_smarter.error import UserError
from train_smarter.record import read_json
from train_smarter.train import act

Compose = Callable[..., DictConfig]
Start = Callable[..., Any]

# All that draws random numbers or keeps a state of its own. 17 steps an epoch.
FULL = [
    "trainer=cpu",
    "trainer.max_epochs=4",
    "model.dropout=0.3",
    "model.hidden=16",
    "data.batch_size=64",
    "data.augment.rotation.degrees=10",
    "data.augment.flip.p=0.5",
    "callbacks.last.every_n_steps=2",
    "callbacks.early_stopping.patience=2",
    "callbacks.progress=null",
    "callbacks.summary=null",
    "callbacks.histograms=null",
    "callbacks.pictures=null",
]


@pytest.fixture
def start(compose: Compose, tmp_path: Path) -> Start:
    """Starts a run in a folder, or goes on with it, as the command would."""

    def started(name: str, *overrides: str, again: bool = False) -> Any:
        folder = tmp_path / name
        words = [*past.past_overrides(folder), *(["resume=x"] if again else []), *overrides]
        cfg = compose(*words, f"paths.run={folder}")
        if again:
            cfg.resume = str(folder)
        else:
            record.keep(cfg, folder, overrides)
        return act(cfg)

    return started


class Kill(Callback):
    """Ends the process after a step, as far as a test can."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


def killed(start: Start, monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str, step: int, again: bool) -> None:
    """A run that ends with a step; what it would have noted at its end, it has not."""
    import train_smarter.build as building

    real = building.build
    with monkeypatch.context() as patch, pytest.raises(ConnectionAbortedError):
        patch.setattr(building, "build", lambda cfg, *extra: real(cfg, *extra, Kill(step)))
        start(name, *overrides, again=again)


def state(folder: Path) -> dict[str, Any]:
    """Weights, the optimizer's and the schedules' state at the end of a run."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: content[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars, as it shows them: what a later start takes back is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


VARIANTS = {
    "cosine": ["scheduler=cosine", "scheduler.warmup=5", "trainer.check_val_every_n_epoch=2"],
    "plateau": ["scheduler=plateau", "scheduler.factory.patience=0", "optimizer=sgd", "optimizer.lr=0.3"],
    "accumulated": ["trainer.accumulate_grad_batches=2", "trainer.val_check_interval=0.5", "scheduler=step"],
    "one batch an epoch": ["trainer.limit_train_batches=1", "trainer.max_epochs=60", "scheduler=onecycle"],
}


@pytest.mark.parametrize(
    ("variant", "kills"),
    [
        # Before the first checkpoint; within an epoch; at an epoch's last and first batch.
        ("cosine", (2, 8, 17, 35)),
        *(pytest.param(name, (2, 8, 8, 16, 17, 18, 30, 33, 34, 35, 50), marks=pytest.mark.slow) for name in VARIANTS),
    ],
)
def test_a_run_killed_anywhere_ends_where_one_that_never_stopped_does(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, kills: tuple[int, ...]
) -> None:
    words = [*FULL, *VARIANTS[variant]]
    best = start("whole", *words)
    last = state(tmp_path / "whole")["global_step"]
    for number, step in enumerate(step for step in kills if step < last):
        killed(start, monkeypatch, "broken", *(words if not number else []), step=step, again=number > 0)
    assert start("broken", again=True) == best
    assert equal(state(tmp_path / "broken"), state(tmp_path / "whole"))
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")
    results = [read_json(tmp_path / name / "results.json") for name in ("broken", "whole")]
    assert results[0]["confusion"] == results[1]["confusion"]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]
