"""What every data set, model, scheduler and optimizer in conf/ keeps to; found there, so a new one is held to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from train_smarter.commands.train import run_train
from train_smarter.config.build import build
from train_smarter.config.check import check
from train_smarter.data.examples import SPLITS
from train_smarter.errors import UserError
from train_smarter.paths import CONF
from train_smarter.run.files import read_json

Compose = Callable[..., DictConfig]
Facts = Callable[[str], list[str]]
SMALL = ["debug=limit", "data.batch_size=8", "data.eval_batch_size=16", "trainer=cpu", "callbacks.progress=null"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml") if path.stem != "none")


def refused(cfg: DictConfig) -> str:
    """The check's answer, or nothing."""
    try:
        check(cfg)
    except UserError as answer:
        return str(answer)
    return ""


@pytest.fixture(params=choices("data"))
def data(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_trains_and_evaluates_on_every_data_set_that_it_fits(
    compose: Compose, facts: Facts, tmp_path: Path, data: str, model: str
) -> None:
    narrow = ["model.width=8"] if model == "resnet" else []
    cfg = compose(f"data={data}", f"model={model}", *facts(data), *SMALL, *narrow)
    if refusal := refused(cfg):
        assert f"model={model} does not fit data={data}" in refusal
        return
    best = run_train(cfg)
    assert best is not None
    assert 0 <= best <= 1
    results = read_json(tmp_path / "run" / "results.json")
    assert {f"{split}/accuracy" for split in SPLITS} <= set(results)
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    torch.load(checkpoint, weights_only=True)
    loaded = get_class(cfg.model._target_).load_from_checkpoint(checkpoint)  # type: ignore[attr-defined]
    assert sum(p.numel() for p in loaded.parameters()) > 0


def test_every_model_fits_some_data_set(compose: Compose, facts: Facts) -> None:
    def fits(model: str, data: str) -> bool:
        return not refused(compose(f"data={data}", f"model={model}", *facts(data)))

    assert all(any(fits(model, data) for data in choices("data")) for model in choices("model"))


def test_every_data_set_keeps_its_splits_apart_and_has_every_class_in_each(
    compose: Compose, facts: Facts, data: str
) -> None:
    model = "lstm" if "vocab_size" in compose(f"data={data}", *facts(data)).data else "cnn"
    module = build(compose(f"data={data}", f"model={model}", *facts(data), "logger=none", "callbacks=none")).data
    module.prepare_data()
    module.setup()
    for split in SPLITS:
        examples = module.examples[split]
        assert examples.labels.dtype == torch.long
        assert set(examples.labels.tolist()) == set(range(module.num_classes))
        assert len(examples.inputs) == len(examples.labels)
    assert len(module.class_names) == module.num_classes
    first = module.examples
    module.setup()
    assert module.examples is first, "setup is to find its work done"


def run_with(compose: Compose, *overrides: str) -> Any:
    return build(compose("model=mlp", "logger=none", "callbacks=none", "trainer=cpu", *overrides))


@pytest.mark.parametrize("scheduler", choices("scheduler"))
@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_scheduler_goes_with_every_optimizer(compose: Compose, scheduler: str, optimizer: str) -> None:
    run = run_with(compose, f"scheduler={scheduler}", f"optimizer={optimizer}", "debug=limit")
    before = [parameter.clone() for parameter in run.model.parameters()]
    run.trainer.fit(run.model, datamodule=run.data)
    assert any(not torch.equal(old, new) for old, new in zip(before, run.model.parameters(), strict=True))


@pytest.mark.parametrize("trainer", choices("trainer"))
def test_every_trainer_composes_and_passes_the_check(compose: Compose, trainer: str) -> None:
    check(compose(f"trainer={trainer}"))
    check(compose(f"trainer={trainer}", "+trainer.num_nodes=2"))


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(compose: Compose, precision: str) -> None:
    run = run_with(compose, f"trainer.precision={precision}", "debug=limit")
    run.trainer.fit(run.model, datamodule=run.data)
    assert 0 <= float(run.trainer.callback_metrics["val/accuracy"]) <= 1


@pytest.mark.parametrize("name", choices("callbacks"))
def test_every_callback_can_be_removed_by_a_null(compose: Compose, name: str) -> None:
    if name == "default":
        return
    everything = build(compose())
    without = build(compose(f"callbacks.{name}=null"))
    assert len(without.trainer.callbacks) < len(everything.trainer.callbacks)  # type: ignore[attr-defined]
