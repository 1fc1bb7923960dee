"""Every experiment, search and debug mode in conf/ runs, as a user types it. A new file needs no edit here."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from train_smarter.config.check import choices as chosen
from train_smarter.paths import CONF, ROOT
from train_smarter.run.files import read_json

Command = Callable[..., subprocess.CompletedProcess[str]]
Compose = Callable[..., DictConfig]
Typed = Callable[..., tuple[int, str]]
Overrides = Callable[[str], list[str]]
Skip = Callable[[DictConfig], None]
Fitting = Callable[..., list[str]]
TINY = ["data.batch_size=8", "data.eval_batch_size=16", "trainer=cpu", "trainer.precision=32-true"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml") if path.stem not in ("none", "default"))


def experiments() -> list[Any]:
    """Every experiment; slow where its data set is one that is downloaded, of which a test has a sample at most."""
    found = []
    for name in choices("experiment"):
        data = re.search(r"override /data: (\w+)", (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf8"))
        config = CONF / "data" / f"{data[1] if data else 'none'}.yaml"
        downloaded = config.is_file() and re.search(r"^urls?:", config.read_text(encoding="utf8"), re.MULTILINE)
        found.append(pytest.param(name, marks=[pytest.mark.slow] * bool(downloaded)))
    return found


def only_run(logs: Path) -> Path:
    (folder,) = (logs / "train" / "runs").iterdir()
    return folder


@pytest.fixture
def fitting(compose: Compose, facts: Overrides, small: Overrides, skip_without_files: Skip) -> Fitting:
    """Return the overrides that let a command run on samples of its data set, with a small model."""

    def overrides(*words: str) -> list[str]:
        compose(*words)
        data, model = (chosen()[group] for group in ("data", "model"))
        own = [*facts(data), *small(model)]
        skip_without_files(compose(*words, *own))
        return own

    return overrides


@pytest.mark.parametrize("experiment", experiments())
def test_every_experiment_runs(typed: Typed, fitting: Fitting, tmp_path: Path, experiment: str) -> None:
    words = [f"experiment={experiment}", "logger=tensorboard", *fitting(f"experiment={experiment}"), *TINY]
    code, told = typed(*words, "debug=limit")
    assert code == 0, told
    assert read_json(only_run(tmp_path) / "results.json")["epochs"] >= 1
    assert "run folder:" in told
    assert "tensorboard --logdir" in told


@pytest.mark.parametrize("search", choices("search"))
def test_every_search_runs(typed: Typed, fitting: Fitting, search: str) -> None:
    words = [f"search={search}", *fitting(f"search={search}"), *TINY[1:], "debug=limit", "test=false"]
    code, told = typed("-m", *words, "hydra.sweeper.n_trials=1")
    assert code == 0, told
    assert "1 of 1 done: 1 complete" in told


@pytest.mark.parametrize("mode", choices("debug"))
def test_every_debug_mode_runs(typed: Typed, fitting: Fitting, mode: str) -> None:
    code, told = typed(f"debug={mode}", *fitting(), "trainer=cpu", "trainer.max_epochs=1")
    assert code == 0, told


# What the README promises, on the real data in data/; accuracy on the official test split.
FLOORS = {"digits_cnn": 0.945, "phrases_lstm": 0.95, "mnist_mlp": 0.977, "cifar10_cnn": 0.72, "imdb_lstm": 0.84}
FLOORS |= {"cifar10_cpu": 0.9, "imdb_best": 0.905}
THERE = {"cifar10": "cifar-10-batches-*", "imdb": "aclImdb", "mnist": "MNIST/raw"}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [name for name in FLOORS if name in choices("experiment")])
def test_an_experiment_reaches_its_accuracy_on_the_real_data(command: Command, tmp_path: Path, experiment: str) -> None:
    wanted = THERE.get(experiment.split("_")[0])  # the others need no download
    if wanted and not list((ROOT / "data").glob(wanted)):
        pytest.skip("this data set is not in data/")
    done = command("train", f"experiment={experiment}", timeout=3600, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert read_json(only_run(tmp_path) / "results.json")["test/accuracy"] >= FLOORS[experiment]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "experiment", [name for name in ("digits_cnn", "phrases_lstm") if name in choices("experiment")]
)
def test_an_experiment_trains_on_a_gpu(command: Command, tmp_path: Path, experiment: str, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    done = command("train", f"experiment={experiment}", "trainer=gpu", f"trainer.precision={precision}")
    assert done.returncode == 0, done.stderr
    assert read_json(only_run(tmp_path) / "results.json")["test/accuracy"] >= FLOORS[experiment] - 0.02
