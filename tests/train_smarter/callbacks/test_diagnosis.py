import logging
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from omegaconf import OmegaConf
from torch.optim import SGD

from sample_project.model.mlp import MLP
from train_smarter.callbacks.diagnosis import Diagnosis
from train_smarter.callbacks.epoch_logger import EpochLogger
from train_smarter.data.examples import Batch, Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.diagnosis.findings import Finding
from train_smarter.errors import UserError
from train_smarter.paths import CONF
from train_smarter.run import tensorboard
from train_smarter.run.files import read_csv, read_json

LIMITS: Any = OmegaConf.to_container(OmegaConf.load(CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits)
RATE = 0.1
TASK = {"_target_": "train_smarter.task.classification.Classification", "num_classes": 2}


class Drawn(ImageData):
    """Random 4x4 images of two classes: 40 to train, 4 steps an epoch; one fault or another."""

    def __init__(
        self, *, broken: tuple[int, int] | None = None, wait: float = 0.0, slow_val: float = 0.0, rare: int = 20
    ) -> None:
        super().__init__(num_classes=2, shape=[1, 4, 4], batch_size=10, eval_batch_size=5)
        self.broken, self.wait, self.slow_val, self.rare = broken, wait, slow_val, rare

    def read(self) -> RawDataset:
        return RawDataset(["no", "yes"], self.drawn(40, self.rare), self.drawn(20, 10), self.drawn(20, 10))

    def drawn(self, count: int, positive: int) -> Examples:
        images = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(count))
        return Examples(images.to(torch.uint8), (torch.arange(count) < positive).long())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        assert self.trainer is not None
        time.sleep(self.wait if self.trainer.training else self.slow_val)
        # the batch is fetched before its number is counted up
        here = (self.trainer.current_epoch, self.trainer.fit_loop.batch_idx + 1)
        if self.trainer.training and self.broken == here:
            images[3] = torch.nan
        return images, labels


def diagnosis(folder: Path, **settings: Any) -> Diagnosis:
    return Diagnosis(folder=str(folder), limits=LIMITS, **settings)


def trained(folder: Path, data: Drawn, own: Diagnosis, *, epochs: int = 2, more: Any = (), **words: Any) -> Any:
    lightning.seed_everything(1, verbose=False)
    model = MLP(task=TASK, shape=[1, 4, 4], widths=[8], optimizer=partial(SGD, lr=RATE))
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        max_epochs=epochs,
        callbacks=[EpochLogger(folder), own, *more],
        **{"enable_checkpointing": False, **words},
    )
    trainer.fit(model, datamodule=data)
    return trainer


def test_a_run_ends_with_what_was_found_and_what_was_measured(tmp_path: Path) -> None:
    own = diagnosis(tmp_path)
    trainer = trained(tmp_path, Drawn(), own)
    content = read_json(tmp_path / "diagnosis.json")
    measured = content["measured"]
    assert measured["names"] == ["no", "yes"]
    assert measured["train_classes"] == [20, 20]
    assert 0.5 < measured["first_loss"] < 1
    assert 0 < measured["data_wait"] < 1
    assert (measured["training_done"], measured["stopped"], measured["validations"]) == (True, False, 2)
    assert measured["val_examples"] == 20
    assert sum(map(sum, measured["confusion"])) == 20
    assert {finding["name"] for finding in content["findings"]} == {finding.name for finding in own.findings}
    assert measured["clean"] == {}
    trainer.datamodule.splits = ("train", "val")
    trainer.test(trainer.lightning_module, datamodule=trainer.datamodule, verbose=False)
    clean = read_json(tmp_path / "diagnosis.json")["measured"]["clean"]
    assert clean["val/accuracy"] == trainer.callback_metrics["val/accuracy"]
    assert "train/loss" in clean


def test_each_epoch_has_a_row_for_each_layer_and_each_relu(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(), diagnosis(tmp_path))
    found = read_csv(tmp_path / "layers.csv")
    assert [(row["epoch"], row["layer"]) for row in found] == [
        (epoch, layer) for epoch in "01" for layer in ("layers.1", "layers.3", "layers.2")
    ]
    assert [bool(row["dead_relu_fraction"]) for row in found[:3]] == [False, False, True]
    assert [bool(row["update_ratio"]) for row in found[:3]] == [True, True, False]


class Spare(MLP):
    """Has a layer that it never uses."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.spare = torch.nn.Linear(3, 3)


def test_a_layer_that_is_not_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "MLP", Spare)
    trained(tmp_path, Drawn(), diagnosis(tmp_path), epochs=1)
    assert [row["layer"] for row in read_csv(tmp_path / "layers.csv")] == ["layers.1", "layers.3", "layers.2"]


def test_of_plain_descent_a_step_is_the_rate_times_the_gradient(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(), diagnosis(tmp_path, samples=4), epochs=1, limit_train_batches=1)
    row = read_csv(tmp_path / "layers.csv")[0]
    gradient, weight, update = (float(row[name]) for name in ("grad_norm", "weight_norm", "update_ratio"))
    assert update == pytest.approx(RATE * gradient / weight, rel=2e-3)
    peak = read_json(tmp_path / "diagnosis.json")["measured"]["update_peak"]
    assert peak["epoch"] == 0
    assert 0 < peak["size"] < 1


def test_a_broken_batch_is_named_and_ends_the_training(tmp_path: Path) -> None:
    trainer = trained(tmp_path, Drawn(broken=(1, 2)), diagnosis(tmp_path), epochs=5)
    assert trainer.current_epoch <= 2
    content = read_json(tmp_path / "diagnosis.json")
    # 4 steps an epoch: step 6 is the third of the second epoch
    assert content["measured"]["nan_location"] == {
        "epoch": 1,
        "step": 6,
        "batch": 2,
        "where": "inputs of the batch (examples 3)",
    }
    assert [finding["name"] for finding in content["findings"] if finding["severity"] == "problem"] == ["nan_loss"]


def test_a_run_goes_on_with_a_broken_loss_if_that_is_asked_for(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(broken=(0, 2)), diagnosis(tmp_path, stop=False), epochs=3)
    assert len(read_csv(tmp_path / "metrics.csv")) == 3


def test_what_is_sure_is_told_once_while_the_run_trains(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, Drawn(rare=2), diagnosis(tmp_path), epochs=4)
    told = [record.getMessage() for record in caplog.records if "class imbalance" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("warning: class imbalance: 2 examples of one class, 38 of another")


def test_time_between_two_steps_is_waiting_and_validation_is_not(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(wait=0.05), diagnosis(tmp_path))
    measured = read_json(tmp_path / "diagnosis.json")["measured"]
    assert measured["data_wait"] > 0.5
    assert measured["step_wait"] > 0.05


def test_a_validation_in_the_middle_of_an_epoch_is_no_waiting(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(slow_val=0.1), diagnosis(tmp_path), val_check_interval=2)
    assert read_json(tmp_path / "diagnosis.json")["measured"]["step_wait"] < 0.05


def test_early_stopping_is_asked_what_it_was_set_to_and_whether_it_stopped(tmp_path: Path) -> None:
    stopping = EarlyStopping(monitor="val/loss", mode="min", patience=1, min_delta=100)
    trained(tmp_path, Drawn(), diagnosis(tmp_path), epochs=9, more=[stopping])
    measured = read_json(tmp_path / "diagnosis.json")["measured"]
    assert (measured["patience"], measured["stopped"]) == (1, True)


def test_advice_comes_from_the_config_in_the_runs_folder(tmp_path: Path) -> None:
    config = {"task": {"class_weights": None, "metrics": {"f1": "max"}}, "monitor": "val/accuracy"}
    OmegaConf.save(config, tmp_path / "config.yaml")
    trained(tmp_path, Drawn(rare=2), diagnosis(tmp_path))
    found = {one["name"]: one["advice"] for one in read_json(tmp_path / "diagnosis.json")["findings"]}
    # the mean of 2 and 38 is 20; 20 / 38 and at most 10
    assert found["class_imbalance"] == ["task.class_weights=[0.53,10]", "monitor=val/f1"]


def test_a_run_that_goes_on_keeps_what_it_saw(tmp_path: Path) -> None:
    kept = ModelCheckpoint(dirpath=tmp_path, filename="best")
    trained(tmp_path, Drawn(), diagnosis(tmp_path), more=[kept], enable_checkpointing=True)
    state = torch.load(tmp_path / "best.ckpt", weights_only=True)["callbacks"]["Diagnosis"]
    again = diagnosis(tmp_path)
    again.load_state_dict(state)
    assert again.facts.first_loss == read_json(tmp_path / "diagnosis.json")["measured"]["first_loss"]


def test_what_another_run_saw_is_not_taken_over(tmp_path: Path) -> None:
    state = diagnosis(tmp_path / "other").state_dict() | {"first_loss": 0.5}
    own = diagnosis(tmp_path)
    own.load_state_dict(state)
    assert own.facts.first_loss is None


def test_steps_of_an_epoch_that_broke_off_are_kept(tmp_path: Path) -> None:
    first, second = diagnosis(tmp_path), diagnosis(tmp_path)
    step = torch.tensor([[1.0], [2.0], [3.0]])
    first._probe.steps = [step]
    second.load_state_dict(first.state_dict())
    assert torch.equal(second._probe.steps[0], step)


def test_a_run_whose_training_had_ended_is_judged_by_its_clean_metrics_all_the_same(tmp_path: Path) -> None:
    trainer = trained(tmp_path, Drawn(), diagnosis(tmp_path))
    later = diagnosis(tmp_path)  # that of a start that only evaluates
    trainer.callbacks = [later]
    trainer.datamodule.splits = ("train", "val")
    trainer.test(trainer.lightning_module, datamodule=trainer.datamodule, verbose=False)
    measured = read_json(tmp_path / "diagnosis.json")["measured"]
    assert measured["clean"]["val/accuracy"] == trainer.callback_metrics["val/accuracy"]
    assert measured["first_loss"] is not None


def test_an_evaluation_alone_leaves_no_diagnosis(tmp_path: Path) -> None:
    trainer = trained(tmp_path, Drawn(), diagnosis(tmp_path))
    (tmp_path / "diagnosis.json").unlink()
    trainer.callbacks = [diagnosis(tmp_path)]
    trainer.test(trainer.lightning_module, datamodule=trainer.datamodule, verbose=False)
    assert not (tmp_path / "diagnosis.json").exists()


def test_a_loss_that_mixed_precision_has_scaled_is_told_as_it_was(tmp_path: Path) -> None:
    own = diagnosis(tmp_path)
    scaler = SimpleNamespace(get_scale=lambda: 65536.0)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), accumulate_grad_batches=1)
    own.on_before_backward(trainer, None, torch.tensor(2.0 * 65536))  # type: ignore[arg-type]
    assert own.facts.first_loss == 2


@pytest.mark.parametrize("together", [2, 3])
def test_steps_over_several_batches_are_measured_where_they_are_made(tmp_path: Path, together: int) -> None:
    trained(tmp_path, Drawn(), diagnosis(tmp_path), accumulate_grad_batches=together)
    assert [row["epoch"] for row in read_csv(tmp_path / "layers.csv") if row["update_ratio"]] == ["0", "0", "1", "1"]


def test_validations_are_counted_as_the_run_makes_them(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(), diagnosis(tmp_path), epochs=3, val_check_interval=2)
    assert read_json(tmp_path / "diagnosis.json")["measured"]["validations"] == 6
    trained(tmp_path, Drawn(), diagnosis(tmp_path), epochs=3, check_val_every_n_epoch=2)
    assert read_json(tmp_path / "diagnosis.json")["measured"]["validations"] == 1


def test_the_checkpoint_that_is_evaluated_takes_nothing_back(tmp_path: Path) -> None:
    own = diagnosis(tmp_path)
    own.facts.training_done, own.facts.first_loss = True, 0.5
    own.load_state_dict({})
    assert own.facts.first_loss == 0.5


def test_of_several_processes_all_stop_at_the_first_broken_loss_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = ({"epoch": 0, "step": step, "batch": step, "where": "loss"} for step in (9, 8))
    monkeypatch.setattr(tensorboard, "all_gather", lambda _, own: [own, late, early])
    own = diagnosis(tmp_path)
    trainer = SimpleNamespace(should_stop=False)
    own._sync_findings(trainer)  # type: ignore[arg-type]
    assert (own.facts.nan_location, trainer.should_stop) == (early, True)
    monkeypatch.setattr(tensorboard, "all_gather", lambda _, own: [own, None])
    trainer.should_stop, own.facts.nan_location = False, None
    own._sync_findings(trainer)  # type: ignore[arg-type]
    assert trainer.should_stop is False


def test_a_try_out_of_one_batch_leaves_nothing(tmp_path: Path) -> None:
    trained(tmp_path, Drawn(), diagnosis(tmp_path), fast_dev_run=True)
    assert not (tmp_path / "diagnosis.json").exists()
    assert not (tmp_path / "layers.csv").exists()


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"limits": {**LIMITS, "max_accuracy_gapp": 1}}, "has no max_accuracy_gapp; did you mean 'max_accuracy_gap'"),
        ({"limits": {**LIMITS, "max_accuracy_gap": "x"}}, "limits.max_accuracy_gap=x: give a number"),
        ({"limits": LIMITS, "samples": 0}, "samples=0: give a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_answered(tmp_path: Path, settings: Any, answer: str) -> None:
    with pytest.raises(UserError, match=answer):
        Diagnosis(folder=str(tmp_path), **settings)


def test_limits_that_the_config_of_an_older_run_lacks_have_the_values_of_today(tmp_path: Path) -> None:
    older = {name: value for name, value in LIMITS.items() if "error_gap" not in name} | {"max_class_ratio": 7}
    assert asdict(Diagnosis(folder=str(tmp_path), limits=older).limits) == {**LIMITS, "max_class_ratio": 7}
    assert asdict(Diagnosis(folder=str(tmp_path), limits={}).limits) == LIMITS


def test_a_problem_is_told_when_it_has_stayed_for_three_epochs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = diagnosis(tmp_path)
    own.findings = [Finding("vanishing_gradients", "problem", "small")]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            own._log_findings()
        own.findings, problem = [], own.findings
        own._log_findings()
        own.findings = problem
        for _ in range(2):
            own._log_findings()
        assert not caplog.records
        own._log_findings()
        own._log_findings()
    assert [record.getMessage() for record in caplog.records] == ["problem: vanishing gradients: small"]
