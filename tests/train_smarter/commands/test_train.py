import csv
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor

from train_smarter.commands.evaluate import evaluate
from train_smarter.commands.train import fit, run_train
from train_smarter.config.build import build
from train_smarter.run.files import read_json

pytestmark = pytest.mark.results

Compose = Callable[..., DictConfig]
SHORT = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "callbacks.progress=null", "callbacks.summary=null"]


def weights(folder: Path, name: str = "last") -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return state


def test_a_run_leaves_a_complete_folder_and_returns_its_best_value(compose: Compose, tmp_path: Path) -> None:
    began = time.perf_counter()
    best = run_train(compose(*SHORT))
    took = time.perf_counter() - began
    folder = tmp_path / "run"
    names = {
        ".lock",
        "calibration.json",
        "checkpoints",
        "config.yaml",
        "examples.json",
        "metrics.csv",
        "diagnosis.json",
        "layers.csv",
        "preprocess.json",
        "record.json",
        "results.json",
        "tensorboard",
    }
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    results, record = read_json(folder / "results.json"), read_json(folder / "record.json")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    # The best epoch's own value, which is that of the checkpoint evaluated again.
    assert best == results["best_value"] == max(float(row["val/accuracy"]) for row in rows)
    assert results["val/accuracy"] == pytest.approx(best, abs=1e-6)
    assert took > results["seconds"] > results["train_epoch_seconds_median"] > 0
    assert (record["status"], record["seed"]) == ("done", 1)


def test_a_run_that_was_tested_ends_with_its_page(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_train(compose(*SHORT, "report=true"))
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf8")
    assert f"report:      {tmp_path}/run/report.html" in capsys.readouterr().out
    assert '<span class="state done">done</span>' in text
    assert re.findall(r"(\w+\.\w+) is not in this run", text) == []
    assert text.count('<img src="data:image/png;base64') == 16
    assert text.count("<svg") == 10  # three curves, confusion matrix, calibration, four of the layers, seconds


@pytest.mark.parametrize("words", [["report=false"], ["report=true", "test=false"]])
def test_a_run_that_was_not_tested_or_wants_none_has_no_page(
    compose: Compose, tmp_path: Path, words: list[str]
) -> None:
    run_train(compose(*SHORT, "debug=limit", *words))
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_page_that_cannot_be_drawn_costs_the_run_nothing(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr("train_smarter.report.page.write_page", broken)
    run_train(compose(*SHORT, "debug=limit", "report=true"))
    assert "report.html is not written: no ink" in caplog.text
    assert read_json(tmp_path / "run" / "record.json")["status"] == "done"


class Spoil(Callback):
    """Ruins the weights after the last epoch, when every checkpoint has been written."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.zero_()


def test_the_best_checkpoint_is_the_one_tested(compose: Compose) -> None:
    spoilt = build(compose(*SHORT, "logger=none"), Spoil())
    results = fit(spoilt, monitor="val/accuracy")
    # Weights of zero guess one class of ten.
    assert results.metrics["test/accuracy"] > 0.5
    assert results.best_epoch is not None


def test_a_run_that_ends_before_its_first_validation_is_evaluated_as_it_is(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="train_smarter")
    assert run_train(compose(*SHORT, "trainer.max_steps=2")) is None
    assert "no checkpoint was saved: the weights of the last step are evaluated" in caplog.text
    results = read_json(tmp_path / "run" / "results.json")
    assert (results["best_value"], results["epochs"]) == (None, 1)
    assert 0 < results["test/accuracy"] < 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(compose: Compose, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((7, 7, 8)):
        run_train(compose(*SHORT, f"seed={seed}", f"paths.run={tmp_path}/{number}", "data.augment.crop.padding=2"))
        found.append(weights(tmp_path / str(number)))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


@pytest.mark.slow
def test_without_a_seed_each_run_has_one_of_its_own_and_notes_it(compose: Compose, tmp_path: Path) -> None:
    seeds = []
    for name in ("one", "two"):
        run_train(compose(*SHORT, "debug=limit", "seed=null", f"paths.run={tmp_path}/{name}"))
        seeds.append(read_json(tmp_path / name / "record.json")["seed"])
    assert seeds[0] != seeds[1]


def test_a_checkpoint_is_evaluated_without_training(compose: Compose, tmp_path: Path) -> None:
    run_train(compose(*SHORT))
    first = read_json(tmp_path / "run" / "results.json")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run_train(compose(*SHORT, "train=false", f"ckpt_path={checkpoint}", f"paths.run={tmp_path}/again"))
    again = read_json(tmp_path / "again" / "results.json")
    assert {name: again[name] for name in first if name.startswith("test/")} == {
        name: first[name] for name in first if name.startswith("test/")
    }


def test_training_goes_on_from_a_checkpoint(compose: Compose, tmp_path: Path) -> None:
    run_train(compose(*SHORT))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    run_train(compose(*SHORT, "trainer.max_epochs=3", f"ckpt_path={last}", f"paths.run={tmp_path}/more"))
    with (tmp_path / "more" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["2"]


def test_evaluation_counts_every_example_at_any_batch_size(compose: Compose) -> None:
    def counts(size: int) -> Any:
        run = build(
            compose("model=mlp", "logger=none", "callbacks=none", f"data.eval_batch_size={size}", "trainer=cpu")
        )
        torch.manual_seed(0)
        for parameter in run.model.parameters():
            torch.nn.init.normal_(parameter)
        return evaluate(run, ("val", "test"))

    (small, small_details), (large, large_details) = counts(7), counts(1000)
    assert small_details["confusion"] == large_details["confusion"]
    assert sum(map(sum, small_details["confusion"]["test"])) == 359
    assert all(small[name] == large[name] for name in small if not name.endswith("loss"))


def test_a_run_that_breaks_is_recorded_as_failed(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: Any) -> None:
        raise ZeroDivisionError

    cfg = compose(*SHORT)
    monkeypatch.setattr("sample_project.model.mlp.MLP.forward", forward)
    with pytest.raises(ZeroDivisionError):
        run_train(cfg)
    assert read_json(tmp_path / "run" / "record.json")["status"] == "failed"
