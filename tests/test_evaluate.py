from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from train_smarter import evaluate, train
from train_smarter.error import UserError
from train_smarter.record import read_json, reading

Compose = Callable[..., DictConfig]


@pytest.fixture
def past_run(compose: Compose, tmp_path: Path) -> Path:
    """A short run's folder, with the overrides that Hydra would have kept."""
    overrides = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "data.batch_size=32", "callbacks.progress=null"]
    cfg = compose(*overrides)
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, tmp_path / "run" / ".hydra" / "config.yaml")
    train.act(cfg)
    OmegaConf.save(overrides, tmp_path / "run" / ".hydra" / "overrides.yaml")
    return tmp_path / "run"


@pytest.fixture
def evaluated(compose: Compose, tmp_path: Path, past_run: Path) -> Callable[..., Any]:
    def run(*words: str) -> Any:
        typed = [word for word in reading([f"run={past_run}", *words], "evaluate", tmp_path) if "hydra." not in word]
        cfg = compose(*typed, verb="evaluate")
        evaluate.act(cfg)
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


def test_one_split_can_be_chosen(evaluated: Callable[..., Any]) -> None:
    assert {name for name in evaluated("split=[val]") if "/" in name} == {
        f"val/{name}" for name in ("loss", "accuracy", "precision", "recall", "f1")
    }


def test_the_recorded_config_wins_over_a_conf_edited_since(evaluated: Callable[..., Any], past_run: Path) -> None:
    kept = past_run / ".hydra" / "config.yaml"
    recorded = OmegaConf.load(kept)
    recorded.model.widths = [16]  # as if conf/model/mlp.yaml had said so then
    OmegaConf.save(recorded, kept)
    with pytest.raises(RuntimeError, match="size mismatch"):
        evaluated()


def test_a_run_needs_none_of_the_files_that_it_started_from(evaluated: Callable[..., Any], past_run: Path) -> None:
    kept = past_run / ".hydra" / "config.yaml"
    recorded = OmegaConf.load(kept)
    recorded.model.pretrained = "/gone.ckpt"
    OmegaConf.save(recorded, kept)
    assert evaluated("split=[val]")["val/accuracy"] > 0


def test_a_data_set_that_does_not_fit_is_refused(evaluated: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="model=mlp does not fit data=imdb"):
        evaluated("data=imdb")


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(evaluated: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="has best, last"):
        evaluated("checkpoint=first")
