"""A LightningModule and a LightningDataModule that know nothing of the template run by YAML alone."""

import csv
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from torch import nn

from sample_project.plain import Line, Points
from train_smarter.commands import evaluate
from train_smarter.commands.train import run_train
from train_smarter.errors import UserError
from train_smarter.failures import as_user_error
from train_smarter.history import saved_config
from train_smarter.report.run_page import run_page
from train_smarter.run import record
from train_smarter.run.files import read_json

Compose = Callable[..., DictConfig]
Start = Callable[..., Any]
Typed = Callable[..., tuple[int, str]]
Equal = Callable[[Any, Any], bool]

PLAIN = ["data=plain", "model=plain", "monitor=val_loss", "trainer=cpu", "trainer.max_epochs=3"]
QUIET = ["callbacks.progress=null", "callbacks.summary=null", "callbacks.histograms=null"]
GAN = ["data=plain", "model=plain_gan", "monitor=val_gap", "mode=min", "trainer=cpu", "trainer.max_epochs=3"]


@pytest.fixture
def start(compose: Compose, tmp_path: Path) -> Start:
    """Start a run in a folder, or resume it, as the command would."""

    def started(name: str, *overrides: str, again: bool = False) -> Any:
        folder = tmp_path / name
        words = [*saved_config.past_overrides(folder), *(["resume=x"] if again else []), *overrides]
        cfg = compose(*words, f"paths.run={folder}")
        if again:
            cfg.resume = str(folder)
        else:
            record.save_hydra_config(cfg, folder, overrides)
        return run_train(cfg)

    return started


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def final_state(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: content[name] for name in ("state_dict", "optimizer_states", "global_step", "epoch")}


# ---- training and evaluation


def test_a_plain_module_trains_and_its_best_checkpoint_is_evaluated(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        best = start("run", *PLAIN, *QUIET)
    folder = tmp_path / "run"
    table = rows(folder)
    losses = [float(row["val_loss"]) for row in table]
    assert list(table[0]) == ["epoch", "step", "train_loss", "val_loss"]
    assert [(row["epoch"], row["step"]) for row in table] == [("0", "4"), ("1", "8"), ("2", "12")]
    results = read_json(folder / "results.json")
    assert best == results["best_value"] == results["val_loss"] == min(losses)
    assert results["best_epoch"] == losses.index(min(losses))
    assert not (folder / "preprocess.json").exists()
    left_out = [line for line in caplog.messages if "without a task" in line]
    assert left_out == [
        "Line is a LightningModule without a task; left out, since they need a train_smarter.Model: callbacks "
        "prediction_samples, calibration; predict, export-model"
    ]


def test_the_test_metrics_are_those_of_the_best_checkpoint(start: Start, tmp_path: Path) -> None:
    start("run", *PLAIN, *QUIET)
    weights = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Identity(), nn.Linear(8, 1))
    network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
    data = Points()
    data.setup("test")
    x, y = data.test.tensors
    with torch.no_grad():
        error = network(x) - y
    results = read_json(tmp_path / "run" / "results.json")
    assert results["test_loss"] == pytest.approx(float(error.square().mean()), rel=1e-6)
    assert results["test_mae"] == pytest.approx(float(error.abs().mean()), rel=1e-6)


def test_evaluate_finds_the_same_metrics_again(start: Start, compose: Compose, tmp_path: Path) -> None:
    start("run", *PLAIN, *QUIET)
    folder = tmp_path / "run"
    words = [*saved_config.past_overrides(folder), f"run={folder}"]
    evaluate.run_evaluate(compose(*words, verb="evaluate"))
    found, results = read_json(folder / "evaluate" / "results.json"), read_json(folder / "results.json")
    names = ("val_loss", "test_loss", "test_mae")
    assert {name: found[name] for name in names} == {name: results[name] for name in names}


def test_the_page_shows_the_curves_and_the_results_under_their_own_names(start: Start, tmp_path: Path) -> None:
    start("run", *PLAIN, *QUIET)
    page = run_page(tmp_path / "run")
    assert "loss of train and val over the epochs" in page
    results = read_json(tmp_path / "run" / "results.json")
    for name in ("val_loss", "test_loss", "test_mae"):
        assert re.search(rf"<dt>{name}</dt>\s*<dd>{results[name]:.4f}</dd>", page), name
    assert "preprocess.json" not in page


def test_batches_may_be_dicts(start: Start, tmp_path: Path) -> None:
    start("run", *PLAIN, "data=plain_dicts", "model=plain_dicts", *QUIET)
    assert read_json(tmp_path / "run" / "results.json")["test_mae"] > 0
    assert len(rows(tmp_path / "run")) == 3


def test_a_plain_module_trains_on_data_of_the_template(start: Start, tmp_path: Path) -> None:
    start("run", *PLAIN, "data=digits", "model._target_=sample_project.plain.Brightness", *QUIET)
    results = read_json(tmp_path / "run" / "results.json")
    assert {"val_loss", "test_loss", "test_mae"} <= set(results)
    assert (tmp_path / "run" / "preprocess.json").is_file()


def test_a_model_with_a_task_trains_on_plain_data(start: Start, tmp_path: Path) -> None:
    words = ["data=plain", "task=regression", "task.num_targets=1", "model=mlp", "model.shape=[1,1,1]"]
    start("run", *words, "trainer=cpu", "trainer.max_epochs=3", *QUIET)
    results = read_json(tmp_path / "run" / "results.json")
    assert {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "rmse", "mae", "r2")} <= set(results)
    assert results["val/rmse"] == pytest.approx(results["best_value"])


def test_two_optimizers_step_by_hand_and_all_that_they_log_arrives(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        start("run", *GAN, *QUIET)
    table = rows(tmp_path / "run")
    assert [row["step"] for row in table] == ["8", "16", "24"]  # two steps in each of four batches
    assert all(float(row[name]) > 0 for row in table for name in ("critic_loss", "generator_loss", "val_gap"))
    assert read_json(tmp_path / "run" / "results.json")["best_value"] == min(float(row["val_gap"]) for row in table)
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(content["optimizer_states"]) == 2
    assert any("trainer.gradient_clip_val=1.0 is left out: GAN optimizes manually" in line for line in caplog.messages)


def test_accumulated_batches_are_refused_where_a_module_optimizes_manually(start: Start) -> None:
    with pytest.raises(UserError, match="GAN optimizes manually, so it accumulates gradients in its own"):
        start("run", *GAN, "trainer.accumulate_grad_batches=2", *QUIET)


def test_hyperparameters_that_are_objects_are_left_out_of_checkpoints(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        start("run", *PLAIN, "model._target_=sample_project.plain.WithFunction", *QUIET)
    content = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"] == {"lr": 0.1}
    said = [line for line in caplog.messages if line.startswith("left out of checkpoints")]
    assert len(said) == 1
    assert "hyperparameters activation of WithFunction" in said[0]
    assert "test_mae" in read_json(tmp_path / "run" / "results.json")


# ---- what is monitored


def test_another_spelling_of_the_monitored_metric_is_found_before_the_first_step(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"monitor=val/loss: Line logs val_loss; type .* did you mean 'val_loss'"):
        start("run", *PLAIN, "monitor=val/loss", *QUIET)
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_metric_of_validation_that_is_not_logged_is_missed_at_the_first_validation(start: Start) -> None:
    with pytest.raises(UserError, match=r"monitor=val_accuracy: Line logs .*train_loss.*val_loss"):
        start("run", *PLAIN, "monitor=val_accuracy", "trainer.max_epochs=1", *QUIET)


@pytest.mark.parametrize("callbacks", ["default", "none"])
def test_any_other_metric_that_is_not_logged_is_missed_when_the_first_epoch_has_ended(
    start: Start, tmp_path: Path, callbacks: str
) -> None:
    quiet = QUIET if callbacks == "default" else []
    with pytest.raises((UserError, MisconfigurationException), match=r"(?s)quality_loss.*train_loss.*val_loss") as told:
        start("run", *PLAIN, "monitor=quality_loss", f"callbacks={callbacks}", *quiet)
    assert as_user_error(told.value.with_traceback(None)) is not None  # what the command answers with
    assert not (tmp_path / "run" / "metrics.csv").exists() or len(rows(tmp_path / "run")) == 1


def test_a_metric_of_training_may_be_monitored(start: Start, tmp_path: Path) -> None:
    best = start("run", *PLAIN, "monitor=train_loss", *QUIET)
    assert best == min(float(row["train_loss"]) for row in rows(tmp_path / "run"))


def test_the_direction_of_an_unknown_name_is_to_be_typed(typed: Typed) -> None:
    words = ["data=plain", "model=plain_gan", "monitor=val_gap", "trainer=cpu"]
    code, told = typed(*words)
    assert (code, told.strip()) == (2, "monitor=val_gap: type mode=min if less of it is better, or mode=max")


def test_an_optimizer_that_the_module_does_not_take_is_not_set_in_vain(typed: Typed) -> None:
    code, told = typed(*PLAIN, "optimizer.lr=0.1")
    assert code == 2
    assert told.startswith("optimizer.lr=0.1 has no effect: model=plain makes its own optimizer; to pass it this one")


def test_a_class_from_elsewhere_is_refused_with_the_line_that_allows_it(typed: Typed) -> None:
    code, told = typed(*PLAIN, "model._target_=lightning.pytorch.demos.boring_classes.BoringModel")
    assert code == 2
    assert "conf/allowed.yaml:\n  model: [lightning]" in told


# ---- resume


class Kill(Callback):
    """Ends the process after a step, as far as a test can."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


def killed(start: Start, monkeypatch: pytest.MonkeyPatch, *overrides: str, step: int, again: bool = False) -> None:
    import train_smarter.config.build as building

    real = building.build
    monkeypatch.setattr(building, "build", lambda cfg, *extra: real(cfg, *extra, Kill(step)))
    with pytest.raises(ConnectionAbortedError):
        start("broken", *overrides, again=again)
    monkeypatch.setattr(building, "build", real)


@pytest.mark.results
@pytest.mark.parametrize("words", [PLAIN, GAN], ids=["plain", "gan"])
def test_a_run_resumed_at_the_beginning_of_an_epoch_ends_like_one_that_was_never_interrupted(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, equal: Equal, words: list[str]
) -> None:
    steps = 8 if words is GAN else 4  # of an epoch
    best = start("whole", *words, *QUIET)
    killed(start, monkeypatch, *words, *QUIET, step=steps // 2)  # before the first checkpoint
    killed(start, monkeypatch, step=steps + steps // 2, again=True)  # within the second epoch
    killed(start, monkeypatch, step=3 * steps, again=True)  # the last step of all
    assert start("broken", again=True) == best
    assert equal(final_state(tmp_path / "broken"), final_state(tmp_path / "whole"))
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


@pytest.mark.results
def test_a_finished_run_that_trains_on_ends_like_one_that_was_as_long_from_the_start(
    start: Start, tmp_path: Path, equal: Equal
) -> None:
    start("whole", *PLAIN, *QUIET)
    start("short", *PLAIN, "trainer.max_epochs=2", *QUIET)
    start("short", "trainer.max_epochs=3", again=True)
    assert equal(final_state(tmp_path / "short"), final_state(tmp_path / "whole"))
    assert rows(tmp_path / "short") == rows(tmp_path / "whole")


def test_a_loader_of_its_own_is_saved_at_the_ends_of_epochs_and_the_log_says_so_once(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        killed(start, monkeypatch, *PLAIN, "callbacks.resume_checkpoint.every_minutes=1e-9", *QUIET, step=6)
    assert final_state(tmp_path / "broken")["global_step"] == 4
    said = "last.ckpt is written at the ends of epochs only: DataLoader cannot resume within one"
    assert caplog.messages.count(said) == 1


def test_a_run_that_resumes_within_an_epoch_of_a_loader_of_its_own_says_what_is_not_exact(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    every = "callbacks.resume_checkpoint.every_n_steps=1"
    killed(start, monkeypatch, *PLAIN, every, *QUIET, step=7)
    assert final_state(tmp_path / "broken")["global_step"] == 6
    with caplog.at_level(logging.WARNING):
        start("broken", again=True)
    (said,) = [line for line in caplog.messages if "not exactly" in line]
    assert said.startswith("resumed after batch 2 of an epoch, not exactly: DataLoader begins again at its first batch")
    assert final_state(tmp_path / "broken")["global_step"] == 12


# ---- search and several processes


@pytest.mark.slow
def test_a_search_over_a_plain_module_evaluates_its_winner(typed: Typed, tmp_path: Path) -> None:
    lr = "model.lr=tag(log,interval(1e-3,1e-1))"
    code, told = typed("-m", "search=default", *PLAIN, "report=false", "hydra.sweeper.n_trials=2", lr, *QUIET)
    assert code == 0, told
    assert "2 of 2 done: 2 complete" in told
    assert re.search(r"its checkpoint on the test split, which no trial has seen: test_loss [\d.]+, test_mae", told)
    assert (tmp_path / "train" / "multiruns" / "default_plain" / "0" / "metrics.csv").is_file()


@pytest.mark.slow
def test_two_processes_share_the_examples_of_a_plain_data_module(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("train", *PLAIN, "trainer=ddp_sim", "report=false", *QUIET)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "train" / "runs").iterdir()
    # 64 examples in batches of 16, in each of two processes: 2 steps an epoch, not 4.
    assert [row["step"] for row in rows(folder)] == ["2", "4", "6"]
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    line, data = Line(), Points()
    line.load_state_dict(weights)
    data.setup("test")
    x, y = data.test.tensors
    with torch.no_grad():
        expected = float((line.eval()(x) - y).square().mean())
    assert read_json(folder / "results.json")["test_loss"] == pytest.approx(expected, rel=1e-5)
