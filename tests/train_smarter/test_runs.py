"""Whole commands, as a user types them: debug modes, loggers, several processes, interrupted runs."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from train_smarter.paths import ENGINE
from train_smarter.run.files import read_json
from train_smarter.run.record import status

Command = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., tuple[int, str]]
TINY = ["data.batch_size=8", "data.eval_batch_size=16"]


def only_run(logs: Path) -> Path:
    (folder,) = (logs / "train" / "runs").iterdir()
    return folder


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf8").splitlines()


@pytest.mark.parametrize("mode", ["fdr", "limit", "overfit", "profiler"])
def test_every_debug_mode_runs(typed: Typed, tmp_path: Path, mode: str) -> None:
    code, told = typed(f"debug={mode}", "model=mlp")
    assert code == 0, told
    folder = only_run(tmp_path)
    results = read_json(folder / "results.json")
    if mode == "overfit":
        assert results["best_value"] == 1.0, "one batch is to be learned by heart"
    if mode == "profiler":
        assert list(folder.glob("*profile*.txt"))
    if mode == "fdr":
        assert not list(folder.glob("checkpoints/*"))


def test_a_multirun_leaves_one_clean_folder_a_job(typed: Typed, tmp_path: Path) -> None:
    code, told = typed("-m", "model=cnn,mlp", "seed=1,2", "debug=limit", *TINY)
    assert code == 0, told
    (sweep,) = (tmp_path / "train" / "multiruns").iterdir()
    jobs = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert jobs == ["0", "1", "2", "3"]
    for job in jobs:
        assert read_json(sweep / job / "record.json")["status"] == "done"
        assert (sweep / job / "checkpoints" / "best.ckpt").is_file()
        assert len(lines(sweep / job / "metrics.csv")) == 3  # the names and two epochs


@pytest.mark.slow
def test_two_processes_share_one_folder_one_log_and_one_result(command: Command, typed: Typed, tmp_path: Path) -> None:
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
    code, told = typed("trainer=cpu", *same, "data.batch_size=64")
    assert code == 0, told
    newest = max((tmp_path / "train" / "runs").iterdir())
    assert abs(read_json(newest / "results.json")["test/accuracy"] - two["test/accuracy"]) <= 0.01


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(command: Command, typed: Typed, tmp_path: Path) -> None:
    """Augmented, with class weights, and steps of 55 examples at the ends of epochs: 28 and 27."""
    weights = "task.class_weights=[1,2,3,4,5,6,7,8,9,10]"
    same = ["model=cnn", "model.dropout=0", "data.augment.rotation.degrees=10", "trainer.max_steps=20", weights]
    quiet = ["callbacks.diagnosis=null", "callbacks.histograms=null", "test=false"]
    done = command("train", "trainer=ddp_sim", *same, *quiet, "data.batch_size=32", timeout=300)
    assert done.returncode == 0, done.stderr
    two = only_run(tmp_path)
    code, told = typed("trainer=cpu", *same, *quiet, "data.batch_size=64")
    assert code == 0, told
    (one,) = (folder for folder in (tmp_path / "train" / "runs").iterdir() if folder != two)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two)]
    for name, expected in states[0].items():
        distance = float((states[1][name] - expected).norm() / expected.norm())
        assert distance < 1e-5, f"{name}: {distance:.1e}"


@pytest.mark.slow
def test_two_processes_resume_a_finished_run_for_more_epochs(command: Command, tmp_path: Path) -> None:
    same = ["model=mlp", "data.batch_size=256", "callbacks.diagnosis=null", "callbacks.prediction_samples=null"]
    done = command("train", "trainer=ddp_sim", *same, "trainer.max_epochs=1", timeout=300)
    assert done.returncode == 0, done.stderr
    done = command("train", "resume=last", "trainer.max_epochs=3", timeout=300)  # a hang, if they disagree
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert len(lines(folder / "metrics.csv")) == 4
    assert read_json(folder / "results.json")["epochs"] == 3


def evaluated(command: Command, folder: Path, *words: str) -> dict:
    done = command("evaluate", f"run={folder}", *words)
    assert done.returncode == 0, done.stderr
    results: dict = read_json(folder / "evaluate" / "results.json")
    return results


@pytest.mark.slow
def test_wandb_runs_offline_and_mlflow_on_local_files(command: Command, tmp_path: Path) -> None:
    words = ["logger=[wandb,mlflow,csv]", "logger.wandb.offline=true", "model=mlp", "debug=limit"]
    done = command("train", *words, WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert (folder / "csv" / "metrics.csv").is_file()
    assert (tmp_path / "mlflow.db").is_file()


# ---- runs that are broken off, as processes of their own

Equal = Callable[[Any, Any], bool]
Begun = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Begun]:
    """Starts `train`, returns when `reached`, a pattern in its run's folder, is there, and lets it run on."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str, logs: Path = tmp_path, reached: str, timeout: float = 120) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "train_smarter.commands.train", *words, f"paths.logs={logs}"],
            env={**os.environ, "PYTHONPATH": str(ENGINE.parent), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        end = time.monotonic() + timeout
        while not list(logs.glob(f"train/*/{reached}")):
            assert time.monotonic() < end, f"no {reached} after {timeout} s"
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_that_is_terminated_is_saved_within_seconds_and_goes_on(
    begun: Begun, typed: Typed, tmp_path: Path
) -> None:
    words = ["model=mlp", "trainer.max_epochs=200", "callbacks.early_stopping=null", "report=false"]
    process = begun(*words, reached="*/metrics.csv")
    code, busy = typed("resume=last")
    assert (code, "is in use: process" in busy) == (2, True), busy
    process.terminate()
    told, _ = process.communicate(timeout=20)
    folder = only_run(tmp_path)
    assert process.returncode == 143
    assert f"interrupted; to resume, type: train resume={folder}" in told
    assert status(folder) == "interrupted"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    epochs = len(lines(folder / "metrics.csv")) - 1
    code, told = typed("resume=last", f"trainer.max_epochs={epochs + 1}")
    assert code == 0, told
    assert "resuming after" in told
    assert [line.split(",")[0] for line in lines(folder / "metrics.csv")[1:]] == [str(e) for e in range(epochs + 1)]
    assert len(list((tmp_path / "train" / "runs").iterdir())) == 1


@pytest.mark.slow
def test_a_grid_that_is_killed_goes_on_with_the_jobs_that_are_not_done(
    begun: Begun, command: Command, equal: Equal, tmp_path: Path
) -> None:
    begun("-m", "model=mlp", "seed=1,2,3", "trainer.max_epochs=8", reached="*/1/metrics.csv").kill()
    (sweep,) = (tmp_path / "train" / "multiruns").iterdir()
    first = (sweep / "0" / "results.json").stat().st_mtime_ns
    done = command("train", "-m", "resume=last", timeout=300)
    assert done.returncode == 0, done.stderr
    assert [status(sweep / job) for job in "012"] == ["done"] * 3
    assert (sweep / "0" / "results.json").stat().st_mtime_ns == first
    assert [read_json(sweep / job / "record.json")["seed"] for job in "012"] == [1, 2, 3]
    alone = command("train", "model=mlp", "seed=2", "trainer.max_epochs=8")
    assert alone.returncode == 0, alone.stderr
    assert same_end(only_run(tmp_path), sweep / "1", equal)


TEN = {
    "digits_cnn": [
        "model.dropout=0.3",
        "data.augment.rotation.degrees=10",
        "scheduler=cosine",
        "callbacks.early_stopping.patience=4",
        "callbacks.resume_checkpoint.every_n_steps=5",
    ],
    "phrases_lstm": [
        "scheduler=plateau",
        "callbacks.early_stopping.patience=4",
        "callbacks.resume_checkpoint.every_n_steps=5",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", TEN)
def test_ten_runs_killed_at_random_moments_end_as_the_one_never_killed(
    begun: Begun, command: Command, equal: Equal, tmp_path: Path, experiment: str
) -> None:
    words = [f"experiment={experiment}", *TEN[experiment]]
    assert command("train", *words, logs=tmp_path / "whole", timeout=600).returncode == 0
    whole, chance, within, kills = only_run(tmp_path / "whole"), random.Random(1), 0, 0
    took = read_json(whole / "results.json")["seconds"]
    for number in range(10):
        logs = tmp_path / str(number)
        process = begun(*words, logs=logs, reached="*/preprocess.json")
        while True:
            time.sleep(chance.uniform(0, took))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            folder = only_run(logs)
            assert status(folder) in ("killed", "done")
            within += batches_done(folder) > 0
            if status(folder) == "done" or chance.random() < 0.5:  # half of them are killed once more
                break
            process = begun("resume=last", logs=logs, reached="*/.hydra_2")
        done = command("train", "resume=last", logs=logs, timeout=600)
        assert done.returncode == 0, done.stderr
        assert same_end(whole, only_run(logs), equal)
    logging.getLogger(__name__).info(
        "%s: %d kills, %d of them within an epoch; ten equal ends", experiment, kills, within
    )
    assert within >= 4


def batches_done(folder: Path) -> int:
    """Of the epoch in which last.ckpt was taken."""
    last = folder / "checkpoints" / "last.ckpt"
    return int(torch.load(last, weights_only=True)["resume"]["batch"]) if last.exists() else 0


def same_end(one: Path, other: Path, equal: Equal) -> bool:
    """Whether two runs have the same weights, optimizer, schedule, rows and results; times apart."""
    ends = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)]
    parts = [(end["state_dict"], end["optimizer_states"], end["lr_schedulers"], end["global_step"]) for end in ends]
    timeless = [
        [line.split(",")[:2] + line.split(",")[3:] for line in lines(run / "metrics.csv")] for run in (one, other)
    ]
    results = [read_json(run / "results.json") for run in (one, other)]
    kept = [
        {name: value for name, value in r.items() if name.partition("/")[1] or name == "confusion"} for r in results
    ]
    return equal(parts[0], parts[1]) and timeless[0] == timeless[1] and kept[0] == kept[1]
