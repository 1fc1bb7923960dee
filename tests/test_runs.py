"""Commands as processes of their own, as a user types them: experiments, debug modes, loggers, several processes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from train_smarter.command import CONF, ROOT
from train_smarter.record import read_json

Command = Callable[..., subprocess.CompletedProcess[str]]
Facts = Callable[[str], list[str]]
NARROW = {"cifar10_best": ["model.width=8"], "cifar10_fast": ["model.widths=[16,16,16]"]}  # made for a GPU
TINY = ["data.batch_size=8", "data.eval_batch_size=16"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml") if path.stem != "none")


def only_run(logs: Path) -> Path:
    (folder,) = (logs / "train" / "runs").iterdir()
    return folder


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf8").splitlines()


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_runs(command: Command, facts: Facts, tmp_path: Path, experiment: str) -> None:
    own = [*facts(experiment.split("_")[0]), "trainer.precision=32-true", *NARROW.get(experiment, [])]
    done = command("train", f"experiment={experiment}", "debug=limit", *TINY, *own)
    assert done.returncode == 0, done.stderr
    results = read_json(only_run(tmp_path) / "results.json")
    assert results["epochs"] == 2
    assert "test/f1" in results
    assert "run folder:" in done.stdout
    assert "tensorboard --logdir" in done.stdout


@pytest.mark.parametrize("mode", choices("debug"))
def test_every_debug_mode_runs(command: Command, tmp_path: Path, mode: str) -> None:
    done = command("train", f"debug={mode}", "model=mlp")
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    results = read_json(folder / "results.json")
    if mode == "overfit":
        assert results["best"] == 1.0, "one batch is to be learned by heart"
    if mode == "profiler":
        assert list(folder.glob("*profile*.txt"))
    if mode == "fdr":
        assert not list(folder.glob("checkpoints/*"))


def test_a_multirun_leaves_one_clean_folder_a_job(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "model=cnn,mlp", "seed=1,2", "debug=limit", *TINY)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "train" / "multiruns").iterdir()
    jobs = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert jobs == ["0", "1", "2", "3"]
    for job in jobs:
        assert read_json(sweep / job / "record.json")["status"] == "done"
        assert (sweep / job / "checkpoints" / "best.ckpt").is_file()
        assert len(lines(sweep / job / "metrics.csv")) == 3  # the names and two epochs


def test_two_processes_share_one_folder_one_log_and_one_result(command: Command, tmp_path: Path) -> None:
    same = ["model=mlp", "trainer.max_epochs=3", "data.augment.crop.padding=0"]  # 64 examples a step, either way
    done = command("train", "trainer=ddp_sim", *same, "data.batch_size=32")
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert [path.name for path in folder.glob("*.log")] == ["train.log"]
    assert (folder / "train.log").read_text().count("test: 359 examples") == 1
    assert done.stdout.count("test: 359 examples") == 1
    assert len(lines(folder / "metrics.csv")) == 4
    two = read_json(folder / "results.json")
    one = evaluated(command, folder, "trainer.devices=1", "trainer.strategy=auto")
    again = evaluated(command, folder)
    names = [name for name in two if "/" in name and not name.endswith("loss")]
    assert {name: one[name] for name in names} == {name: two[name] for name in names}
    assert again["confusion"] == one["confusion"] == two["confusion"]
    alone = command("train", "trainer=cpu", *same, "data.batch_size=64")
    assert alone.returncode == 0, alone.stderr
    newest = max((tmp_path / "train" / "runs").iterdir())
    assert abs(read_json(newest / "results.json")["test/accuracy"] - two["test/accuracy"]) <= 0.01


def evaluated(command: Command, folder: Path, *words: str) -> dict:
    done = command("evaluate", f"run={folder}", *words)
    assert done.returncode == 0, done.stderr
    results: dict = read_json(folder / "evaluate" / "results.json")
    return results


def test_wandb_runs_offline_and_mlflow_on_local_files(command: Command, tmp_path: Path) -> None:
    words = ["logger=[wandb,mlflow,csv]", "logger.wandb.offline=true", "model=mlp", "debug=limit"]
    done = command("train", *words, WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert (folder / "csv" / "metrics.csv").is_file()
    assert (tmp_path / "mlflow.db").is_file()


# What the README promises, on the real data in data/; accuracy on the official test split.
FLOORS = {"digits_cnn": 0.965, "phrases_lstm": 0.95, "mnist_mlp": 0.977, "cifar10_cnn": 0.72, "imdb_lstm": 0.845}
FLOORS |= {"cifar10_cpu": 0.9, "imdb_best": 0.905}
THERE = {"cifar10": "cifar-10-batches-*", "imdb": "aclImdb", "mnist": "MNIST/raw"}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", FLOORS)
def test_an_experiment_reaches_its_accuracy_on_the_real_data(command: Command, tmp_path: Path, experiment: str) -> None:
    wanted = THERE.get(experiment.split("_")[0])  # the others need no download
    if wanted and not list((ROOT / "data").glob(wanted)):
        pytest.skip("this data set is not in data/")
    done = command("train", f"experiment={experiment}", timeout=3600, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert read_json(only_run(tmp_path) / "results.json")["test/accuracy"] >= FLOORS[experiment]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("experiment", ["digits_cnn", "phrases_lstm"])
def test_an_experiment_trains_on_a_gpu(command: Command, tmp_path: Path, experiment: str, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    done = command("train", f"experiment={experiment}", "trainer=gpu", f"trainer.precision={precision}")
    assert done.returncode == 0, done.stderr
    assert read_json(only_run(tmp_path) / "results.json")["test/accuracy"] >= FLOORS[experiment] - 0.02
