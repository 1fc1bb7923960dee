"""What the engine's tests share: a past run, and the comparison of two states."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

Compose = Callable[..., DictConfig]
SHORT = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=32", "callbacks.progress=null"]


@pytest.fixture
def past_run(compose: Compose, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, tmp_path/run, of an MLP that was trained on digits for two epochs: once, each test has a copy."""
    from train_smarter.commands import train
    from train_smarter.run import record

    folder, original = tmp_path / "run", tmp_path_factory.getbasetemp() / "past_run"
    if not original.exists():
        cfg = compose(*SHORT)
        record.save_hydra_config(cfg, folder, SHORT)
        train.run_train(cfg)
        shutil.move(folder, original)
    shutil.copytree(original, folder)
    return folder


@pytest.fixture(scope="session")
def equal() -> Callable[[Any, Any], bool]:
    """Whether two states, of tensors in dicts and lists, are the same to the last bit."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return bool(one == other)

    return same
