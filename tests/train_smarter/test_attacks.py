"""A folder from a stranger, whatever is planted in it: nothing runs, nothing outside is written, nothing is sent."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from train_smarter.paths import ENGINE

Plant = Callable[[Path, "World"], object]
Run = Callable[..., Any]
SECRET = f"secret-{os.urandom(8).hex()}"  # a record holds the changes of the project, this file's included
PL = "lightning.pytorch."


class World:
    """What an attack must leave alone, and how commands are run beside it.

    outside: a folder of the user's; here: the folder in which commands are typed; marker: exists once code has run.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.outside, self.here, self.marker = home, home / "outside", home / "here", home / "marker"
        self.logs = home / "logs"
        for folder in (self.outside / "deep", self.here):
            folder.mkdir(parents=True)
        (self.outside / "precious.txt").write_text("precious")
        (self.outside / "results.json").write_text("{}")
        (self.outside / "deep" / "metrics.csv").write_text("epoch\n")
        self.asked: list[str] = []  # paths that a server of the stranger's was asked for
        self.before = self.seen()

    def seen(self) -> dict[str, str]:
        """Each file outside, with its content."""
        files = [path for folder in (self.outside, self.here) for path in sorted(folder.rglob("*"))]
        return {str(path): path.read_text(errors="replace") if path.is_file() else "" for path in files}

    def check(self) -> None:
        """Nothing has happened."""
        assert not self.marker.exists(), "code of the stranger's ran"
        assert self.seen() == self.before, "files outside of the run's folder were changed"
        assert not self.asked, "the stranger's server was asked for something"
        assert "evilmod" not in sys.modules
        assert "antigravity" not in sys.modules


def matrix(attacks: Iterable[str], commands: Sequence[str]) -> pytest.MarkDecorator:
    """Each attack on one of the commands; on all of them where slow tests run, too."""
    return pytest.mark.parametrize(
        ("name", "command"),
        [
            pytest.param(name, command, marks=[pytest.mark.slow] * (place != number % len(commands)))
            for number, name in enumerate(attacks)
            for place, command in enumerate(commands)
        ],
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "world")
    for name in ("evilmod", "antigravity"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(made.here)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return made


@pytest.fixture
def server(world: World) -> Iterator[int]:
    """A server of the stranger's on this machine; notes what it is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    world.asked.append(connection.recv(4096).decode(errors="replace"))
                    connection.sendall(b"HTTP/1.0 404 no\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


TINY = [
    *("model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=32", "callbacks.progress=null"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
    *("callbacks.histograms=null", "callbacks.prediction_samples=null", "callbacks.summary=null"),
]


@pytest.fixture
def stranger(compose: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """A whole run, as it comes from a stranger: trained once, each test has a copy."""
    from train_smarter.commands import train
    from train_smarter.run import record

    folder, original = world.home / "stranger", tmp_path_factory.getbasetemp() / "stranger"
    if not original.exists():
        cfg = compose(*TINY)
        record.save_hydra_config(cfg, tmp_path / "run", TINY)
        train.run_train(cfg)
        shutil.move(tmp_path / "run", original)
    shutil.copytree(original, folder)
    (folder / "payload.py").write_text(f"open({str(world.marker)!r}, 'w')\n")
    return folder


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process; returns its exit code and what it printed."""

    def typed(verb: str, *words: str) -> tuple[Any, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [verb, *words, f"paths.logs={world.logs}"])
        capsys.readouterr()
        code: Any = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # here, they would be errors, and end an attack too soon
                importlib.import_module(f"train_smarter.commands.{verb}").main()
        except SystemExit as end:
            code = end.code
        except Exception as error:  # a traceback, which is a riddle, but no harm
            code = f"{type(error).__name__}: {error}"
        told = capsys.readouterr()
        return code, told.out + told.err

    yield typed
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def commands(folder: Path) -> dict[str, list[str]]:
    """Everything that reads a run, by name."""
    return {
        "evaluate": ["evaluate", f"run={folder}", "splits=[test]"],
        "predict": ["predict", f"run={folder}", "split=test"],
        "export": ["export", f"run={folder}", "format=torch", "examples=8"],
        "resume": ["train", f"resume={folder}", "trainer.max_epochs=3", "report=false"],
        "rerun": ["train", f"rerun={folder}", "trainer.max_epochs=1", "report=false"],
        "report": ["report", f"run={folder}"],
    }


def config(folder: Path, change: dict[str, Any]) -> None:
    """Plants values in every saved config of a run."""
    for file in [*folder.glob(".hydra*/config.yaml"), folder / "config.yaml"]:
        saved = OmegaConf.load(file)
        for key, value in change.items():
            OmegaConf.update(saved, key, value, force_add=True, merge=False)
        OmegaConf.save(saved, file)


def overrides(folder: Path, *words: str) -> None:
    """Plants overrides behind a run's own."""
    for file in folder.glob(".hydra*/overrides.yaml"):
        own: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        OmegaConf.save(OmegaConf.create([*own, *words]), file)


def linked(place: str, target: str) -> Plant:
    """A link in the folder to a place outside."""

    def plant(folder: Path, world: World) -> None:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(world.outside / target)

    return plant


def gadget(folder: Path, world: World) -> None:
    """S1: a link on the path of modules by a static method, then an import by a private function."""
    link = {
        "_target_": f"{PL}callbacks.ModelCheckpoint._link_checkpoint",
        "filepath": str(folder / "payload.py"),
        "linkpath": str(world.outside / "evilmod.py"),
        "trainer": {"_target_": f"{PL}Trainer", "logger": False, "accelerator": "cpu"},
    }
    load = {"_target_": "torch.nn.attention._fa3._fa3_import_module", "module_path": "evilmod"}
    config(folder, {"data.augment.x": link, "data.augment.y": load})


def targets(place: str, content: Any) -> Plant:
    return lambda folder, world: config(
        folder,
        {
            place: json.loads(
                json.dumps(content).replace("OUTSIDE", str(world.outside)).replace("MARKER", str(world.marker))
            )
        },
    )


def words(*planted: str) -> Plant:
    return lambda folder, world: overrides(folder, *(word.replace("OUTSIDE", str(world.outside)) for word in planted))


# ---- S1, S10, S11: targets

CODE: dict[str, Plant] = {
    "S1": gadget,
    "S10": targets(
        "data.augment.x", {"_target_": "torch.nn.attention._fa3._fa3_import_module", "module_path": "antigravity"}
    ),
    "S11": targets(
        "callbacks.x",
        {
            "_target_": f"{PL}callbacks.Timer",
            "duration": {"_target_": f"{PL}loggers.csv_logs.ExperimentWriter", "log_dir": "OUTSIDE/deep"},
        },
    ),
    "S11 in the model": targets(
        "model.x", {"_target_": f"{PL}loggers.csv_logs.ExperimentWriter", "log_dir": "OUTSIDE/deep"}
    ),
    "a trainer in the data": targets("data.augment.x", {"_target_": f"{PL}Trainer", "default_root_dir": "OUTSIDE"}),
    "a metric that downloads": targets(
        "model.x", {"_target_": "torchmetrics.text.bert.BERTScore", "model_name_or_path": "OUTSIDE"}
    ),
    "a function": targets("model.x", {"_target_": "torch.nn.utils.clip_grad_norm_"}),
    "a class of another slot": targets(
        "optimizer", {"_target_": f"{PL}callbacks.ModelCheckpoint", "dirpath": "OUTSIDE"}
    ),
    "a schedule of any class": targets(
        "scheduler", {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    ),
    "a private class": targets("callbacks.x", {"_target_": f"{PL}callbacks.progress.rich_progress._RichProgress"}),
    "a name through a module": targets("callbacks.x", {"_target_": f"{PL}callbacks.model_checkpoint.os.system"}),
    "a list of targets": targets(
        "callbacks.x",
        {"_target_": f"{PL}callbacks.ModelSummary", "max_depth": [{"_target_": "os.system"}]},
    ),
    "positional arguments": targets(
        "callbacks.x", {"_target_": f"{PL}callbacks.ModelCheckpoint", "_args_": ["OUTSIDE/deep"]}
    ),
    "Hydra's allowlist": targets(
        "callbacks.x", {"_target_": "os.system", "_args_": ["touch MARKER"], "_execution_whitelist_": ["os.*"]}
    ),
    "a target that is put together": targets("callbacks.x", {"_target_": "${x}.system", "_args_": ["touch MARKER"]}),
    "a target that is an escape": targets("callbacks.x", {"_target_": "\\${x}.system"}),
    "DeepSpeed": targets(
        "trainer.strategy",
        {"_target_": f"{PL}strategies.DeepSpeedStrategy", "config": "OUTSIDE/results.json"},
    ),
    "plugins": targets("trainer.plugins", {"_target_": f"{PL}plugins.io.AsyncCheckpointIO"}),
    "a registry of models": targets("trainer.model_registry", "stranger/model"),
    "the whole trainer": targets("trainer", {"_target_": "os.system"}),
    "the whole config": lambda folder, _: [
        f.write_text("_target_: os.system\n") for f in folder.glob(".hydra*/config.yaml")
    ],
}


@matrix(CODE, ["evaluate", "rerun"])
def test_no_planted_target_runs(
    name: str, command: str, stranger: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(world.outside))
    CODE[name](stranger, world)
    run(*commands(stranger)[command])
    world.check()


@pytest.mark.parametrize("command", ["predict", "export", "resume", "report"])
def test_the_gadget_runs_in_no_command(
    command: str, stranger: Path, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(world.outside))
    gadget(stranger, world)
    code, told = run(*commands(stranger)[command])
    assert command == "report" or (code == 2 and "is refused" in told)
    world.check()


# ---- S5, S7, F1: files outside

WRITES: dict[str, Plant] = {
    "S5": words("paths.run=OUTSIDE"),
    "S5 by the logs": words("paths.logs=OUTSIDE"),
    "S5 by the root": words("paths.root=OUTSIDE"),
    "a checkpoint": targets("callbacks.checkpoint.dirpath", "OUTSIDE/deep"),
    "a relative checkpoint": targets("callbacks.checkpoint.dirpath", "deep"),
    "a checkpoint by its name": targets("callbacks.checkpoint.filename", "../../outside/x"),
    "a checkpoint by a format": targets("callbacks.checkpoint.filename", "{step:c}{step:c}/x"),
    "a checkpoint by a scheme": targets("callbacks.checkpoint.dirpath", "file://OUTSIDE/deep"),
    "a checkpoint by a chain": targets("callbacks.checkpoint.dirpath", "simplecache::file://OUTSIDE/deep"),
    "a checkpoint on GitHub": targets("callbacks.checkpoint.dirpath", "github://o:r@/deep"),
    "no folder for checkpoints": lambda folder, _: config(
        folder,
        {"callbacks.checkpoint.dirpath": None, "trainer.default_root_dir": None, "logger": {}},
    ),
    "last.ckpt": targets("callbacks.resume_checkpoint.dirpath", "OUTSIDE"),
    "our own callbacks": targets("callbacks.calibration.folder", "OUTSIDE"),
    "TensorBoard": targets("logger.tensorboard.save_dir", "OUTSIDE"),
    "TensorBoard in the environment's folder": targets("logger.tensorboard.save_dir", "$SECRET"),
    "TensorBoard at home": targets("logger.tensorboard.save_dir", "~/x"),
    "TensorBoard by its version": targets("logger.tensorboard.version", "../../../outside/x"),
    "TensorBoard by a suffix": targets("logger.tensorboard.filename_suffix", "/../../../outside/x"),
    "TensorBoard without a folder": targets("logger.tensorboard.save_dir", ""),
    "the root of the trainer": targets("trainer.default_root_dir", "OUTSIDE"),
    "a profiler": targets(
        "trainer.profiler",
        {"_target_": f"{PL}profilers.SimpleProfiler", "dirpath": "OUTSIDE", "filename": "x"},
    ),
    "a profiler in the current folder": targets(
        "trainer.profiler", {"_target_": f"{PL}profilers.SimpleProfiler", "dirpath": ".", "filename": "x"}
    ),
    "spikes in the current folder": targets(
        "callbacks.x",
        {"_target_": f"{PL}callbacks.spike.SpikeDetection", "mode": "min", "window": 1, "warmup": 1},
    ),
    "an exception's checkpoint": targets(
        "callbacks.x", {"_target_": f"{PL}callbacks.OnExceptionCheckpoint", "dirpath": "OUTSIDE"}
    ),
    "through a broken neighbour": lambda folder, world: config(
        folder, {"callbacks.checkpoint.dirpath": str(world.outside / "deep"), "callbacks.a": "${nowhere}"}
    ),
    "through a group that is an interpolation": lambda folder, world: config(
        folder,
        {
            "planted": {
                "_target_": f"{PL}callbacks.ModelCheckpoint",
                "dirpath": str(world.outside / "deep"),
            },
            "callbacks.a": "${planted}",
        },
    ),
    "a checkpoint by a field's name": lambda folder, world: config(
        folder,
        {
            "callbacks.checkpoint.filename": f"{{{world.outside}/x}}",
            "callbacks.checkpoint.auto_insert_metric_name": True,
        },
    ),
    "an interpolation that leads nowhere yet": lambda folder, world: config(
        folder, {"seed": None, "a": {"1": str(world.outside)}, "callbacks.checkpoint.dirpath": "${a.${seed}}"}
    ),
    "paths as a dict": words("paths={run: OUTSIDE, logs: OUTSIDE}"),
    "an output": words("+output=OUTSIDE/results.json"),
    "an output that predict has": words("output=OUTSIDE/results.json"),
    "a checkpoint's links": lambda folder, _: _plant_checkpoint_state(folder),
}


def test_a_checkpoints_state_deletes_neither_the_run_nor_its_neighbours(stranger: Path, world: World, run: Run) -> None:
    import torch

    (stranger / "neighbour").mkdir()
    file = stranger / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            state |= {"best_k_models": {"/x/..": torch.tensor(0.0)}, "kth_best_model_path": "/x/.."}
            state |= {"kth_value": torch.tensor(0.0)}
    torch.save(content, file)
    code, told = run(*commands(stranger)["resume"])
    assert code == 0, told
    assert (stranger / "neighbour").is_dir()
    assert (stranger / "results.json").is_file()
    world.check()


def test_what_is_typed_wins_also_where_conf_says_the_same(stranger: Path, world: World, run: Run) -> None:
    planted = {"optimizer.lr": 0.5, "callbacks.checkpoint.filename": f"{world.outside}/x"}
    config(stranger, planted)
    typed = ["optimizer.lr=0.001", "callbacks.checkpoint.filename=best"]
    code, told = run(*commands(stranger)["rerun"], *typed)
    assert code == 0, told
    (new,) = (world.logs / "train" / "runs").iterdir()
    assert OmegaConf.load(new / "config.yaml").optimizer.lr == 0.001
    world.check()


def test_a_multiruns_words_are_not_the_users(world: World, run: Run) -> None:
    """Words of its folder trust nothing, and a job whose turn had not come is checked as well."""
    small = [*TINY, "logger=none", "test=false", "report=false"]
    sweep = world.logs / "train" / "multiruns" / "m"
    code, told = run("train", "-m", "seed=1,2", *small, f"hydra.sweep.dir={sweep}")
    assert code == 0, told
    file = sweep / "multirun.yaml"
    saved = OmegaConf.load(file)
    planted = ["callbacks={}", "tags=[]", "trainer.max_epochs=3", "trainer.default_root_dir=null"]
    planted += ["callbacks.checkpoint.dirpath=null"]
    saved.hydra.overrides.task = [*saved.hydra.overrides.task, *planted]
    OmegaConf.save(saved, file)
    config(sweep / "0", {"tags": ["${oc.env:SECRET}"], "callbacks.checkpoint.dirpath": str(world.outside / "deep")})
    shutil.rmtree(sweep / "1")
    _, told = run("train", "-m", f"resume={sweep}")
    assert SECRET not in told
    assert not [p for p in sweep.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    world.check()


def _plant_checkpoint_state(folder: Path) -> None:
    """Names of checkpoints in the state of ModelCheckpoint, which it deletes when a better one comes."""
    import torch

    file = folder / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            precious = f"{folder}/checkpoints/../../outside/precious.txt"
            state |= {
                "kth_best_model_path": precious,
                "best_model_path": precious,
                "best_k_models": {precious: torch.tensor(0.0)},
            }
            state |= {
                "kth_value": torch.tensor(0.0),
                "best_model_score": torch.tensor(0.0),
                "last_model_path": precious,
            }
    torch.save(content, file)


@matrix(WRITES, ["resume", "rerun", "predict"])
def test_nothing_is_written_outside(name: str, command: str, stranger: Path, world: World, run: Run) -> None:
    WRITES[name](stranger, world)
    run(*commands(stranger)[command])
    world.check()


LINKS = {
    "config.yaml": "precious.txt",
    "train.log": "precious.txt",
    "results.json": "results.json",
    "record.json.part": "precious.txt",
    "metrics.csv": "deep/metrics.csv",
    "evaluate": "deep",
    "evaluate/evaluate.log": "precious.txt",
    "evaluate/results.json.part": "precious.txt",
    "predict": "deep",
    "predict/predictions.csv.part": "precious.txt",
    "predict/predict.log": "precious.txt",
    "export": "deep",
    "export/model.pt2.part": "precious.txt",
    "checkpoints": "deep",
    "checkpoints/last.ckpt.part": "precious.txt",
    "checkpoints/best.ckpt": "precious.txt",
    "tensorboard": "deep",
    ".hydra_2.part": "deep",
    "report.html.part": "precious.txt",
    "nowhere": "not there yet",
}


@matrix(LINKS, ["evaluate", "predict", "export", "resume", "report"])
def test_no_link_is_followed(name: str, command: str, stranger: Path, world: World, run: Run) -> None:
    linked(name, LINKS[name])(stranger, world)
    code, told = run(*commands(stranger)[command])
    assert code == 2, told
    assert "link that leads out" in told
    world.check()


def test_no_hard_link_is_written_through(stranger: Path, world: World, run: Run) -> None:
    (stranger / "config.yaml").unlink()
    os.link(world.outside / "precious.txt", stranger / "config.yaml")
    code, told = run(*commands(stranger)["resume"])
    assert code == 2
    assert "hard link" in told
    world.check()


def test_a_pipe_is_not_waited_for(stranger: Path, world: World, run: Run) -> None:
    (stranger / "preprocess.json").unlink()
    os.mkfifo(stranger / "preprocess.json")
    code, told = run(*commands(stranger)["evaluate"])
    assert code == 2
    assert "not a regular file" in told
    world.check()


def test_a_run_without_hydras_folder_is_done_again_in_a_folder_of_its_own(
    stranger: Path, world: World, run: Run
) -> None:
    """F1: its config.yaml has absolute paths, those of the old run."""
    for kept in stranger.glob(".hydra*"):
        shutil.rmtree(kept)
    files = {path: path.read_bytes() for path in stranger.rglob("*") if path.is_file()}
    code, told = run(*commands(stranger)["rerun"])
    assert code == 0, told
    assert {path: path.read_bytes() for path in stranger.rglob("*") if path.is_file()} == files
    (new,) = (world.logs / "train" / "runs").iterdir()
    assert (new / "checkpoints" / "best.ckpt").is_file()
    assert new.name.endswith("_digits_mlp")
    world.check()


def lightnings_callbacks() -> list[str]:
    offered = importlib.import_module(f"{PL}callbacks")
    return [name for name in offered.__all__ if name not in ("Callback", "Checkpoint", "LambdaCallback")]


@pytest.mark.slow
@pytest.mark.parametrize("name", lightnings_callbacks())
def test_no_callback_of_lightnings_leaves_anything_outside(name: str, stranger: Path, world: World, run: Run) -> None:
    """Each one at work in a run, with what it needs."""
    needed: dict[str, Any] = {
        "BackboneFinetuning": {"unfreeze_backbone_at_epoch": 9},
        "GradientAccumulationScheduler": {"scheduling": {0: 1}},
        "ModelPruning": {"pruning_fn": "l1_unstructured"},
        "OnExceptionCheckpoint": {"dirpath": "${paths.run}/broken"},
        "StochasticWeightAveraging": {"swa_lrs": 0.01},
    }
    config(stranger, {"callbacks.x": {"_target_": f"{PL}callbacks.{name}", **needed.get(name, {})}})
    run(*commands(stranger)["rerun"])
    world.check()


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.file),)


@pytest.mark.parametrize("place", ["best.ckpt", "last.ckpt", "../hpc_ckpt_1.ckpt", "../checkpoints.ckpt"])
@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_no_pickle_is_opened(place: str, command: str, stranger: Path, world: World, run: Run) -> None:
    import torch

    torch.save({"state_dict": {}, "x": Bomb(str(world.marker))}, stranger / "checkpoints" / place)
    run(*commands(stranger)[command])
    world.check()


@pytest.mark.slow
def test_nothing_in_the_current_folder_is_run(stranger: Path, world: World) -> None:
    """Typed within a stranger's folder: modules of well-known names, and settings of matplotlib, lie there."""
    for name in ("torch", "yaml", "json", "train_smarter", "sample_project", "sitecustomize", "numpy", "hydra_plugins"):
        (stranger / f"{name}.py").write_text(f"open({str(world.marker)!r}, 'w').close()\n")
    (stranger / "matplotlibrc").write_text("text.usetex: True\nbackend: module://antigravity\n")
    (world.home / "bin").mkdir()
    for program in ("latex", "git", "nvidia-smi"):
        (stranger / program).write_text(f"#!/bin/sh\ntouch {world.marker}\n")
        (stranger / program).chmod(0o755)
    shutil.copy(stranger / "latex", world.home / "bin")  # as it is installed
    environment = {
        **os.environ,
        "PATH": f"{world.home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    start = "import sys; from train_smarter.commands.{0} import main; sys.argv = {1!r}; main()"
    for verb, *given in (["train", "rerun=.", "trainer.max_epochs=1"], ["report", "run=."]):
        words = [verb, *given, f"paths.logs={world.logs}"]
        done = subprocess.run(
            [sys.executable, "-P", "-c", start.format(verb, words)],
            cwd=stranger,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        world.check()


@pytest.mark.slow
def test_a_multirun_from_a_stranger_starts_its_jobs_outside_of_the_current_folder(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own would take a module of the current folder for one of Python's."""
    for name in ("torch", "yaml", "train_smarter", "sample_project"):
        (world.here / f"{name}.py").write_text(f"open({str(world.marker)!r}, 'w').close()\n")
    world.before = world.seen()
    monkeypatch.setenv("PYTHONPATH", str(ENGINE.parent))
    small = ["model=mlp", "trainer=cpu", "trainer.max_epochs=1", "logger=none", "callbacks=none", "test=false"]
    code, told = run("train", "-m", "hydra/launcher=process", "seed=1", *small)
    assert code == 0, told
    world.check()


# ---- S8: what is sent, and where data go


def data(urls: Any, folder: Path, md5: str = "0") -> dict[str, Any]:
    """A data set that has to be downloaded first."""
    settings = {"num_classes": 10, "shape": [1, 28, 28], "mean": 0.5, "std": 0.5}
    return {
        "_target_": "sample_project.data.figures.Figures",
        "dir": str(folder),
        "urls": urls,
        "md5": md5,
        **settings,
    }


def hugging_face(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A data set that `datasets` loads."""
    settings = {"num_classes": 2, "vocab_size": 9, "max_length": 4, "input": ["text"], "target": ["label"]}
    return {"_target_": "train_smarter.data.huggingface.HuggingFaceTexts", "dir": str(folder), **source, **settings}


def readme(port: int, world: World) -> str:
    """A folder whose description names a server."""
    (folder := world.home / "described").mkdir()
    files = f"http://127.0.0.1:{port}/x.csv"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {files}\n---\n")
    return str(folder)


EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # the md5 of nothing
NETWORK: dict[str, Callable[[int, World], dict[str, Any]]] = {
    "S8": lambda port, world: {"data": data([f"http://127.0.0.1:{port}/${{oc.env:SECRET}}"], world.outside / "data")},
    "S8 with an escape": lambda port, world: {
        "data": data([f"http://127.0.0.1:{port}/\\${{oc.env:SECRET}}"], world.outside / "data")
    },
    "a server for a data set": lambda port, world: {
        "data": data([f"http://127.0.0.1:{port}/x"], world.home / "data", md5=EMPTY)
    },
    "a server in the usual folder": lambda port, world: {
        "data": data([f"http://127.0.0.1:{port}/x"], world.home / "data") | {"dir": "${paths.logs}/data"}
    },
    "a server through tags": lambda port, world: {
        "tags": data([f"http://127.0.0.1:{port}/"], world.home / "data"),
        "data": "${tags}",
    },
    "a server as a key": lambda port, world: {
        "data": data({f"http://127.0.0.1:{port}/x": 1}, world.home / "data") | {"dir": "${paths.logs}/data"}
    },
    "a mirror in a dict": lambda port, world: {
        "data": data({0: f"http://127.0.0.1:{port}/x"}, world.home / "data", md5=EMPTY)
    },
    "a file for datasets": lambda port, world: {
        "data": hugging_face({"path": "csv", "data_files": f"http://127.0.0.1:{port}/x.csv"}, world.home / "data")
    },
    "files for datasets, in a dict": lambda port, world: {
        "data": hugging_face(
            {"path": "csv", "data_files": {"train": [f"zip://a::http://127.0.0.1:{port}/x.zip"]}, "download": True},
            world.home / "data",
        )
    },
    "a folder for datasets that names a server": lambda port, world: {
        "data": hugging_face({"path": readme(port, world), "download": True}, world.home / "data")
    },
    "a checkpoint from a server": lambda port, _: {"ckpt_path": f"http://127.0.0.1:{port}/x.ckpt"},
    "a server behind W&B": lambda port, _: {
        "logger.x": {"_target_": f"{PL}loggers.WandbLogger", "settings": {"base_url": f"http://127.0.0.1:{port}"}}
    },
    "a host by its name": lambda port, _: {
        "logger.x": {"_target_": f"{PL}loggers.MLFlowLogger", "tracking_uri": f"127.0.0.1:{port}"}
    },
    "MLflow's server": lambda port, _: {
        "logger.x": {"_target_": f"{PL}loggers.MLFlowLogger", "tracking_uri": f"http://127.0.0.1:{port}"}
    },
    "a name from the environment": lambda *_: {"callbacks.checkpoint.filename": "${oc.env:SECRET}"},
    "a name from the environment, put together": lambda *_: {
        "a": "oc.env",
        "callbacks.checkpoint.filename": "${${a}:SECRET}",
    },
    "a tag from the environment": lambda *_: {"tags": ["${oc.env:SECRET}"]},
    "a tag decoded from the environment": lambda *_: {"tags": ["${oc.decode:'${oc.env:SECRET}'}"]},
}


@matrix(NETWORK, ["evaluate", "resume", "rerun"])
def test_nothing_is_sent(name: str, command: str, stranger: Path, world: World, server: int, run: Run) -> None:
    config(stranger, NETWORK[name](server, world))
    if name == "a checkpoint from a server":
        shutil.rmtree(stranger / "checkpoints")
    _, told = run(*commands(stranger)[command])
    world.check()
    assert not (world.home / "data").exists()
    files = [path for folder in (stranger, world.logs) for path in folder.rglob("*") if path.is_file()]
    leaked = [path for path in files if SECRET.encode() in path.read_bytes() or SECRET in str(path)]
    assert not leaked
    assert SECRET not in told


@pytest.mark.parametrize(
    "word", ["tags=[${oc.env:SECRET}]", "+x=\\${oc.env:SECRET}", "'+x=${oc.env:SECRET}'", "+x=${oc.select:a}"]
)
@pytest.mark.parametrize("command", ["evaluate", "rerun"])
def test_a_saved_override_reads_no_environment(word: str, command: str, stranger: Path, world: World, run: Run) -> None:
    overrides(stranger, word)
    code, told = run(*commands(stranger)[command])
    assert code in (0, 2), told  # it is left out
    assert SECRET not in told
    files = [path for folder in (stranger, world.logs) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    world.check()


# ---- S14: Hydra's own part


@pytest.mark.parametrize(
    "word",
    [
        "+model@hydra.callbacks.evil=mlp",
        "+data@_global_=digits",
        "hydra.run.dir=/tmp",
        "+hydra={run: {dir: /tmp}}",
        "hydra/launcher=process",
        "data=../../../etc/x",
        "--config-dir=/tmp",
        "checkpoint=/etc/passwd",
    ],
)
def test_a_saved_override_sets_nothing_of_hydras(word: str, stranger: Path, world: World, run: Run) -> None:
    overrides(stranger, word)
    code, told = run(*commands(stranger)["rerun"])
    assert code in (0, 2), told  # what is no choice of conf/ is left out
    assert word.startswith("data=") or code == 2
    assert "Traceback" not in told
    world.check()


# ---- S12: output


def test_control_characters_of_a_class_name_reach_no_terminal_and_no_table(
    stranger: Path, world: World, run: Run
) -> None:
    import numpy as np
    import torch
    from PIL import Image

    facts = json.loads((stranger / "preprocess.json").read_text())
    names = ["\x1b[31mred", "=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1", "\tx", "\x9b31m", "7", "8", "9"]
    (stranger / "preprocess.json").write_text(json.dumps(facts | {"names": names}))
    best = stranger / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    (own,) = (part for part in content.values() if isinstance(part, dict) and "preprocess" in part)
    own["preprocess"]["names"] = names
    torch.save(content, best)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(world.home / "x.png")
    code, told = run("predict", f"run={stranger}", f"input={world.home}/x.png")
    assert code == 0, told
    assert "\x1b" not in told
    table = (stranger / "predict" / "predictions.csv").read_text()
    header = table.splitlines()[0]
    assert "'=cmd" in header
    assert "'@SUM(1)" in header
    assert "'+1+1" in header
    assert ",-1," in header  # a number is no formula
    for command in ("evaluate", "report"):
        _, told = run(*commands(stranger)[command])
        assert "\x1b" not in told
        assert "\x9b" not in told


def test_control_characters_of_a_folder_reach_no_terminal(stranger: Path, run: Run) -> None:
    odd = stranger.with_name("a\x1b[31mb")
    stranger.rename(odd)
    for command in ("evaluate", "report", "resume"):
        _, told = run(*commands(odd)[command])
        assert "\x1b" not in told, command


# ---- S3, S4: studies and multiruns are in tests/test_sweeper.py and tests/test_past.py
