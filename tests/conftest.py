"""What tests of several places share: a composed config, and runs as a process of their own."""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image

import train_smarter.config.resolvers  # noqa: F401
from train_smarter import paths
from train_smarter.config.build import build_data
from train_smarter.config.check import choices
from train_smarter.data.base import Data
from train_smarter.errors import UserError
from train_smarter.speed.startup import block_tensorflow

# Beside the benchmark's peers TensorBoard would load TensorFlow, whose log handler closes the streams pytest reads.
block_tensorflow()
# Tiny networks: a second thread only waits for the first, and on a busy machine for long.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--speed", choices=["on", "off"], default="on", help="off: every run with speed=false")


@pytest.fixture(scope="session")
def speed(request: pytest.FixtureRequest) -> list[str]:
    """The override of `pytest --speed=off`, with which the tests marked `results` have to pass, too."""
    return ["speed=false"] if request.config.getoption("--speed") == "off" else []


Compose = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def compose(tmp_path: Path, speed: list[str]) -> Iterator[Compose]:
    """Composes a verb's config with overrides, as its command would; the run's folder is tmp_path/run.

    A page is drawn only where a test asks for it: it takes as long as a run.
    """

    def composed(*overrides: str, verb: str = "train") -> DictConfig:
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(paths.CONF))
        words = ["report=false", *speed, *overrides] if verb == "train" else overrides
        conf = tuple((path, path.stat().st_mtime_ns) for path in paths.CONF.rglob("*.yaml"))
        cfg = _in_folder(pickle.loads(_compose(conf, verb, *words)), tmp_path)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    yield composed
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


FOLDER = "/folder-of-the-test"  # in place of tmp_path, in a config that several tests have a copy of


@lru_cache(maxsize=100)
def _compose(conf: object, verb: str, *overrides: str) -> bytes:  # noqa: ARG001 (the configs' state: a part of the key)
    """A composed config, pickled: Hydra needs 0.5 s for it, a copy 0.01 s."""
    places = [f"paths.run={FOLDER}/run", f"paths.logs={FOLDER}"]
    return pickle.dumps(hydra.compose(verb, [*places, *overrides], return_hydra_config=True))


def _in_folder(cfg: DictConfig, folder: Path) -> DictConfig:
    """Put a test's folder where `_compose` left its place."""
    for node, key in ((cfg.paths, "run"), (cfg.paths, "logs"), *((cfg.hydra.overrides.task, i) for i in (0, 1))):
        node[key] = node[key].replace(FOLDER, str(folder))
    return cfg


@pytest.fixture
def command(tmp_path: Path, speed: list[str]) -> Command:
    """Runs a verb as a process of its own, from a strange working directory, with its logs under tmp_path."""

    def run(
        verb: str, *words: str, timeout: float = 120, logs: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        switch = _fast(words, speed) if verb == "train" else []
        return subprocess.run(
            [sys.executable, "-m", f"train_smarter.commands.{verb}", *switch, *words, f"paths.logs={logs}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(paths.ENGINE.parent), "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def typed(
    tmp_path: Path, speed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Typed]:
    """Runs `train` with words in this process, logs under tmp_path; returns its exit code and what it told.

    Without the seconds that a process of its own takes to begin.
    """

    def run(*words: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train", *_fast(words, speed), *words, f"paths.logs={tmp_path}"])
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


def _fast(words: Sequence[str], speed: list[str]) -> list[str]:
    """Return the overrides of every test's `train`: no report page, unless a test names it; none for a past run."""
    keys = {word.partition("=")[0] for word in words}
    if keys & {"resume", "rerun"}:
        return []
    return speed if "report" in keys else ["report=false", *speed]


# ---- what a data set reads, and how small a model can be


def tests_of(group: str, choice: str) -> ModuleType | None:
    """Load tests/<package>/<group>/test_<choice>.py, which may help the contract tests with its choice.

    Of a data set: `write_sample(folder) -> overrides` writes a few files in the layout that it would download into
    paths.data. Of a model: `CONTRACT_OVERRIDES`, the overrides that make it small.
    """
    return _load_module(paths.ROOT / "tests" / paths.PROJECT / group / f"test_{choice}.py")


@lru_cache
def _load_module(file: Path) -> ModuleType | None:
    if not file.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"contract_{file.parent.name}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_sample(data: str) -> bool:
    return data in OWN_FILES or hasattr(tests_of("data", data), "write_sample")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Write a data set's sample, once for each project; return the overrides that read it."""
    folders, written = dict[Path, Path](), dict[tuple[Path, str], list[str]]()

    def write(data: str) -> list[str]:
        if paths.ROOT not in folders:
            folders[paths.ROOT] = tmp_path_factory.mktemp("data")
        folder = folders[paths.ROOT]
        if (folder, data) not in written:
            own = OWN_FILES.get(data) or getattr(tests_of("data", data), "write_sample")  # noqa: B009
            written[folder, data] = [f"paths.data={folder}", *own(folder)]
        return written[folder, data]

    return write


@pytest.fixture
def data_folder(samples: Callable[[str], list[str]]) -> Path:
    """A folder with the samples of every data set that has one."""
    names = sorted(path.stem for path in (paths.CONF / "data").glob("[!_]*.yaml"))
    folders = [samples(name)[0] for name in names if has_sample(name)]
    return Path(folders[0].partition("=")[2])


@pytest.fixture(scope="session")
def facts(samples: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Return the overrides that fit a data set's config to its sample; none for a data set without one."""
    return lambda data: samples(data) if has_sample(data) else []


@pytest.fixture(scope="session")
def small() -> Callable[[str], list[str]]:
    """Return the overrides that make a model small; none for a model whose tests name none."""
    return lambda model: list(getattr(tests_of("model", model), "CONTRACT_OVERRIDES", []))


@pytest.fixture(scope="session")
def skip_without_files() -> Callable[[DictConfig], None]:
    """Skip the test if the composed data set has no sample and would have to be downloaded first."""
    reasons: dict[str, str] = {}

    def skip(cfg: DictConfig) -> None:
        name = choices()["data"]
        if not has_sample(name) and name not in reasons:
            reasons[name] = _missing_files(cfg)
        if reason := reasons.get(name):
            hint = f"tests/{paths.PROJECT}/data/test_{name}.py may write some in a function write_sample(folder)"
            pytest.skip(f"data={name} has no files here; {hint} ({reason})")

    return skip


def _missing_files(cfg: DictConfig) -> str:
    """Return why a data set cannot be read without a download; nothing if it can."""
    if missing := OmegaConf.missing_keys(cfg.data):
        return f"no value for {', '.join(f'data.{key}' for key in sorted(missing))}"
    data = build_data(cfg)
    if type(data).download is Data.download:
        return ""
    try:
        data.read()
    except (UserError, OSError) as error:
        return str(error)
    return ""


def _write_images(folder: Path) -> list[str]:
    """Write a folder for each class, and a file of texts."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = noise.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    (folder / "images" / "texts.txt").write_text("a fine film\nand a dull one\n", encoding="utf8")
    return [f"data.dir={folder}/images", "data.size=16"]


def _write_table(folder: Path) -> list[str]:
    """Write rows of a number, a category and a class."""
    rows = [f"{number * 7 % 31},{'abc'[number % 3]},{['no', 'yes'][number % 2]}" for number in range(60)]
    (folder / "table.csv").write_text("\n".join(["size,city,sold", *rows]), encoding="utf8")
    return [f"data.file={folder}/table.csv", "data.target=sold"]


def _write_texts(folder: Path) -> list[str]:
    """Write texts and their class."""
    rows = [f"a film of {number} hours,{['bad', 'good'][number % 2]}" for number in range(60)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]), encoding="utf8")
    return [f"data.file={folder}/texts.csv", "data.target=label", "data.vocab_size=100", "data.max_length=8"]


def _write_interactions(folder: Path) -> list[str]:
    """Write ratings of 12 users for 20 items."""
    rows = [f"{user},{item},{(user + item) % 5 + 1},{user * item}" for user in range(12) for item in range(20)]
    (folder / "interactions.csv").write_text("\n".join(["user,item,rating,time", *rows]), encoding="utf8")
    return [f"data.file={folder}/interactions.csv"]


OWN_FILES = {  # the engine's data sets
    "images": _write_images,
    "interactions": _write_interactions,
    "table": _write_table,
    "texts": _write_texts,
}
