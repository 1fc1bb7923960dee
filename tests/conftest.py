"""What tests of several places share: a composed config, and runs as a process of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image

import train_smarter.config.resolvers  # noqa: F401
from train_smarter.paths import CONF, ROOT
from train_smarter.speed.startup import block_tensorflow

# Beside the benchmark's peers TensorBoard would load TensorFlow, whose log handler closes the streams pytest reads.
block_tensorflow()
# Tiny networks: a second thread only waits for the first, and on a busy machine for long.
torch.set_num_threads(1)

Compose = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """Composes a verb's config with overrides, as its command would; the run's folder is tmp_path/run.

    A page is drawn only where a test asks for it: it takes as long as a run.
    """

    def composed(*overrides: str, verb: str = "train") -> DictConfig:
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(CONF))
        places = [f"paths.run={tmp_path}/run", f"paths.logs={tmp_path}"]
        places += ["report=false"] if verb == "train" else []
        cfg = hydra.compose(verb, [*places, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    yield composed
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs a verb as a process of its own, from a strange working directory, with its logs under tmp_path."""

    def run(
        verb: str, *words: str, timeout: float = 120, logs: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"train_smarter.commands.{verb}", *words, f"paths.logs={logs}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    """Runs `train` with words in this process, logs under tmp_path; returns its exit code and what it told.

    Without the seconds that a process of its own takes to begin.
    """

    def run(*words: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train", *words, f"paths.logs={tmp_path}"])
        capsys.readouterr()
        from train_smarter.commands.train import main

        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        return code, told.out + told.err

    yield run
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


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


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every data set that is downloaded or given by the user, in its official layout, filled with noise."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    _cifar10(folder / "cifar-10-batches-bin", noise)
    _mnist(folder / "MNIST" / "raw", noise)
    _reviews(folder / "aclImdb", noise)
    _images(folder / "images", noise)
    return folder


@pytest.fixture(scope="session")
def facts(data_folder: Path) -> Callable[[str], list[str]]:
    """The overrides that fit a data set's config to the noise in `data_folder`."""
    own = {"imdb": [f"data.files_per_folder={REVIEWS}"], "images": [f"data.dir={data_folder}/images", "data.size=16"]}
    return lambda data: [f"paths.data={data_folder}", *own.get(data, [])]


REVIEWS = 30  # in each folder


def _cifar10(folder: Path, noise: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    rows = np.tile(noise.integers(0, 256, (100, 3073), dtype=np.uint8), (100, 1))
    rows[:, 0] = np.arange(len(rows)) % 10
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        rows.tofile(folder / f"{name}.bin")


def _mnist(folder: Path, noise: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        sizes = b"".join(side.to_bytes(4, "big") for side in (count, 28, 28))
        images = np.tile(noise.integers(0, 256, (100, 784), dtype=np.uint8), (count // 100, 1))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + images.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + sizes[:4] + labels.tobytes())


def _reviews(folder: Path, noise: np.random.Generator) -> None:
    words = np.array(
        [
            "a",
            "the",
            "film",
            "plot",
            "was",
            "good",
            "bad",
            "fine",
            "dull",
            "great",
            "awful<br",
            "/><br",
            "/>and",
            "it",
            "is",
        ]
    )
    for part in ("train/neg", "train/pos", "test/neg", "test/pos"):
        (folder / part).mkdir(parents=True)
        for number in range(REVIEWS):
            text = " ".join(noise.choice(words, 40)) + f" {part} {number}"
            (folder / part / f"{number}_1.txt").write_text(text, encoding="utf8")


def _images(folder: Path, noise: np.random.Generator) -> None:
    for name in ("cat", "dog", "owl"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = noise.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "texts.txt").write_text("a fine film\nand a dull one\n", encoding="utf8")
