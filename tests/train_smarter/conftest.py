"""What the engine's tests share: the sample project, a past run, and the comparison of two states."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from train_smarter import paths

Compose = Callable[..., DictConfig]
SHORT = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=32", "callbacks.progress=null"]


# ---- the sample project

CHECKOUT = paths.ENGINE.parents[1]
SAMPLE = Path(__file__).parent / "project"
PROJECT_GROUPS = ("data", "model", "experiment", "search", "local")  # groups whose choices the sample does not share
ENGINE_CHOICES = ("images", "table", "texts", "none", "default")  # choices of these groups that belong to the engine
TRAIN = {  # values of conf/train.yaml, which a project may have changed
    "task": "classification",
    "data": "digits",
    "model": "cnn",
    "optimizer": "adam",
    "scheduler": "none",
    "trainer": "auto",
    "callbacks": "default",
    "logger": "tensorboard",
    "experiment": "none",
    "search": "none",
    "debug": "none",
    "seed": "1",
    "num_threads": "null",
}


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the sample project: `project/` next to this file, with the checkout's configs of the engine."""
    root = tmp_path_factory.mktemp("sample") / "project"
    shutil.copytree(SAMPLE, root, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("logs", "conf/local"):
        (root / folder).mkdir()
    for file in filter(_is_shared, (CHECKOUT / "conf").rglob("*.yaml")):
        target = root / "conf" / file.relative_to(CHECKOUT / "conf")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(file, target)
    train = root / "conf" / "train.yaml"
    train.write_text(_set_values(train.read_text(encoding="utf8"), TRAIN), encoding="utf8")
    return root


def _is_shared(file: Path) -> bool:
    """Whether a config of the checkout belongs to the engine: none with a class of the checkout's project does."""
    group, name = file.relative_to(CHECKOUT / "conf").parts[0], file.stem
    if group == "allowed.yaml" or (group in PROJECT_GROUPS and name[0] != "_" and name not in ENGINE_CHOICES):
        return False
    content = file.read_text(encoding="utf8")
    return not any(f"_target_: {package}." in content for package in paths._named_in(CHECKOUT))


def _set_values(content: str, values: dict[str, str]) -> str:
    """Set keys of a YAML file, at its top or in its defaults; keep the comments."""
    for key, value in values.items():
        content = re.sub(rf"^((?: *- )?{key}: +)[^\s#]+", rf"\g<1>{value}", content, flags=re.MULTILINE)
    return content


@pytest.fixture(scope="module", autouse=True)
def _use_sample_project(sample_root: Path) -> Iterator[None]:
    """Use the sample project here and in processes that a test starts; other tests use the checkout's."""
    before = os.environ.get(paths.VARIABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(paths.VARIABLE, str(sample_root))
        paths.use(sample_root)
        yield
    paths.use(before)


# ---- runs and states


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
