import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from train_smarter.commands import evaluate
from train_smarter.commands.train import run_train
from train_smarter.config.build import build_data
from train_smarter.errors import UserError
from train_smarter.history.arguments import argv_for_reader
from train_smarter.run.files import read_json

Compose = Callable[..., DictConfig]


@pytest.fixture
def evaluated(compose: Compose, tmp_path: Path, past_run: Path) -> Callable[..., Any]:
    def run(*words: str) -> Any:
        typed = [
            word for word in argv_for_reader([f"run={past_run}", *words], "evaluate", tmp_path) if "hydra." not in word
        ]
        cfg = compose(*typed, verb="evaluate")
        evaluate.run_evaluate(cfg)
        return read_json(past_run / "evaluate" / "results.json")

    return run


def test_a_run_evaluated_from_its_folder_gives_its_own_results_to_the_last_digit(
    evaluated: Callable[..., Any], past_run: Path
) -> None:
    results, again = read_json(past_run / "results.json"), evaluated()
    names = [name for name in results if "/" in name]
    assert len(names) == 15
    assert {name: again[name] for name in names} == {name: results[name] for name in names}
    assert again["confusion"] == results["confusion"]


def test_any_batch_size_gives_the_same_metrics(evaluated: Callable[..., Any], past_run: Path) -> None:
    results, again = read_json(past_run / "results.json"), evaluated("data.eval_batch_size=7")
    names = [name for name in results if "/" in name and not name.endswith("loss")]
    assert {name: again[name] for name in names} == {name: results[name] for name in names}


def test_test_time_augmentation_has_results_of_its_own(evaluated: Callable[..., Any], past_run: Path) -> None:
    plain = evaluated("splits=[val]")
    again = evaluated("splits=[val]", "tta=flip")
    found = read_json(past_run / "evaluate" / "tta_flip" / "results.json")
    assert again == plain, "evaluate/results.json is that of the checkpoint, as other commands read it"
    assert found["tta"] == "flip"
    assert found["val/loss"] != plain["val/loss"]
    assert sum(map(sum, found["confusion"]["val"])) == sum(map(sum, plain["confusion"]["val"]))


def test_an_unknown_test_time_augmentation_is_refused(evaluated: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="tta='rotate': give flip, or null"):
        evaluated("tta=rotate")


def test_one_split_can_be_chosen(evaluated: Callable[..., Any]) -> None:
    assert {name for name in evaluated("splits=[val]") if "/" in name} == {
        f"val/{name}" for name in ("loss", "accuracy", "precision", "recall", "f1")
    }


def test_the_recorded_config_wins_over_a_conf_edited_since(evaluated: Callable[..., Any], past_run: Path) -> None:
    kept = past_run / ".hydra" / "config.yaml"
    recorded = OmegaConf.load(kept)
    recorded.model.widths = [16]  # as if conf/model/mlp.yaml had said so then
    OmegaConf.save(recorded, kept)
    with pytest.raises(UserError, match=r"best\.ckpt does not fit MLP: .* size mismatch"):
        evaluated()


def test_a_run_needs_none_of_the_files_that_it_started_from(evaluated: Callable[..., Any], past_run: Path) -> None:
    kept = past_run / ".hydra" / "config.yaml"
    recorded = OmegaConf.load(kept)
    recorded.model.pretrained = "/gone.ckpt"
    OmegaConf.save(recorded, kept)
    assert evaluated("splits=[val]")["val/accuracy"] > 0


def test_a_data_set_that_does_not_fit_is_refused(evaluated: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="model=mlp does not fit data=phrases"):
        evaluated("data=phrases")


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(evaluated: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="has best, last"):
        evaluated("checkpoint=first")


# ---- a run of a stranger's runs nothing


@pytest.mark.parametrize("group", ["data", "model", "trainer", "callbacks.progress"])
@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "torch.utils.collect_env.run"])
def test_a_recorded_config_calls_nothing(
    evaluated: Callable[..., Any], past_run: Path, tmp_path: Path, group: str, target: str
) -> None:
    kept = past_run / ".hydra" / "config.yaml"
    recorded = OmegaConf.load(kept)
    OmegaConf.update(recorded, group, {"_target_": target, "_args_": [f"touch {tmp_path}/owned"]}, merge=True)
    OmegaConf.save(recorded, kept)
    with pytest.raises(UserError, match=f"{group}[^ ]*=.* is refused"):
        evaluated()
    assert not (tmp_path / "owned").exists()


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_checkpoint_with_code_in_it_is_refused(evaluated: Callable[..., Any], past_run: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": Bomb(f"touch {tmp_path}/owned")}, past_run / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt is refused: it holds \w+\.system, which is code"):
        evaluated()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(evaluated: Callable[..., Any], past_run: Path, content: bytes) -> None:
    (past_run / "checkpoints" / "best.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"best\.ckpt cannot be used: it is (empty|cut off).*type checkpoint=last"):
        evaluated()


def test_a_folder_without_what_is_needed_is_told_what(evaluated: Callable[..., Any], past_run: Path) -> None:
    (past_run / "preprocess.json").unlink()
    assert evaluated("splits=[val]")  # the checkpoint has a copy
    best = past_run / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "Digits"}, best)  # as older runs saved it
    with pytest.raises(UserError, match=r"holds no preprocess\.json"):
        evaluated()
    (past_run / "preprocess.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"preprocess\.json: its preprocessing does not fit Digits: KeyError\('names'\)"
    ):
        evaluated()


def test_other_data_with_the_same_classes_are_normalised_as_the_run_was(
    evaluated: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels, noise = np.arange(200) % 10, np.random.default_rng(0)
    images = noise.integers(0, 256, (200, 1, 28, 28), dtype=np.uint8)
    arrays: Any = {f"{split}_images": images for split in ("train", "test")}
    arrays |= {f"{split}_labels": labels for split in ("train", "test")}
    np.savez(tmp_path / "figures.npz", **arrays)
    results = evaluated("data=figures", f"paths.data={tmp_path}", "splits=[test]")
    assert sum(map(sum, results["confusion"]["test"])) == 200
    assert "is used: mean [0.5], std [0.5] instead of mean [0.1307], std [0.3081]" in caplog.text


def test_data_with_other_classes_are_refused(evaluated: Callable[..., Any], data_folder: Path) -> None:
    with pytest.raises(UserError, match="trained on images of 1 channels, and these have 3"):
        evaluated("data=images", f"data.dir={data_folder}/images", "data.size=28")


def test_the_metrics_stand_in_tensorboard_at_the_step_of_the_checkpoint(
    evaluated: Callable[..., Any], past_run: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = evaluated("splits=[test]")
    events = EventAccumulator(str(past_run / "evaluate"))
    events.Reload()
    (accuracy,) = events.Scalars("test/accuracy")
    assert accuracy.value == pytest.approx(results["test/accuracy"], abs=1e-6)
    assert accuracy.step == torch.load(past_run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]


def test_a_refit_is_measured_on_train_and_test_alone(compose: Compose, tmp_path: Path) -> None:
    words = ["model=mlp", "trainer=cpu", "data.batch_size=32", "callbacks.progress=null"]
    words += ["++data.refit=true", "monitor=train/loss", "trainer.max_epochs=2", "++trainer.limit_val_batches=0"]
    words += ["++callbacks.early_stopping=null", "++callbacks.checkpoint.monitor=null"]
    run_train(compose(*words))
    results = read_json(tmp_path / "run" / "results.json")
    assert {name.partition("/")[0] for name in results if "/" in name} == {"train", "test"}
    assert results["best_epoch"] == 1  # the last one
    data = build_data(compose(*words))
    with pytest.raises(UserError, match=r"splits=\[val\]: the run was trained on val, too"):
        evaluate._measured_splits(data, ["val"])
