from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from measure.plant import plant
from train_smarter.config.build import Components, build
from train_smarter.data.examples import Examples

Compose = Callable[..., DictConfig]


@pytest.fixture
def run(compose: Compose) -> Components:
    words = ("model=mlp", "model.widths=[8,8]", "trainer=cpu", "logger=none", "callbacks=none")
    return build(compose(*words, "trainer.max_epochs=2", "trainer.limit_val_batches=1"))


def counts(examples: Examples) -> list[int]:
    found: list[int] = examples.targets.bincount(minlength=10).tolist()
    return found


def test_examples_are_kept_thinned_out_and_mislabelled(run: Components) -> None:
    whole = build_examples(run, {})
    assert counts(whole["train"])[3] == 110
    planted = build_examples(run, {"keep": 500, "keep_val": 50, "thin": {3: 4, 7: 0}, "mislabel": 1.0})
    assert len(planted["val"]) == 50
    assert 380 < len(planted["train"]) < 420  # 500, less two classes of ten
    thin = build_examples(run, {"thin": {3: 4, 7: 0}})
    assert (counts(thin["train"])[3], counts(thin["train"])[7]) == (4, 0)
    noisy = build_examples(run, {"mislabel": 0.5})
    same = (noisy["train"].targets == whole["train"].targets).double().mean()
    assert 0.5 < same < 0.6  # half are drawn anew, of those a tenth come out the same
    assert torch.equal(noisy["test"].targets, whole["test"].targets)


def build_examples(run: Components, plan: dict[str, Any]) -> Any:
    run.data.examples = {}
    loaded = run.data.load
    plant(run, plan)
    run.data.load()
    run.data.load = loaded
    return run.data.examples


@pytest.mark.parametrize("kind", ["invert", "noise"])
def test_validation_alone_is_shifted(run: Components, kind: str) -> None:
    whole = build_examples(run, {})
    shifted = build_examples(run, {"shift": kind})
    assert torch.equal(shifted["train"].inputs, whole["train"].inputs)
    assert not torch.equal(shifted["val"].inputs, whole["val"].inputs)
    if kind == "invert":
        assert torch.equal(255 - shifted["val"].inputs, whole["val"].inputs)


def test_a_pixel_is_broken_in_one_batch_of_the_second_epoch(run: Components) -> None:
    seen: list[tuple[int, int]] = []
    forward = run.model.forward

    def look(images: torch.Tensor) -> Any:
        if run.trainer.training and not images.isfinite().all():
            seen.append((run.trainer.current_epoch, run.trainer.fit_loop.batch_idx))
        return forward(images)

    run.model.forward = look
    plant(run, {"pixel": float("nan")})
    run.trainer.fit(run.model, datamodule=run.data)
    assert len(seen) == 1
    assert seen[0][0] == 1


def test_a_network_is_changed_in_its_activations_weights_and_biases(run: Components) -> None:
    weights = [p.detach().clone() for p in run.model.parameters() if p.ndim > 1]
    plant(run, {"activation": "Sigmoid", "weights": 3, "bias": -2})
    assert [type(module) for module in run.model.modules() if isinstance(module, nn.ReLU | nn.Sigmoid)] == [
        nn.Sigmoid
    ] * 2
    changed = [p for p in run.model.parameters() if p.ndim > 1]
    assert all(torch.equal(after, 3 * before) for before, after in zip(weights, changed, strict=True))
    biases = [module.bias for module in run.model.modules() if isinstance(module, nn.Linear)]
    assert [bool((bias == -2).all()) for bias in biases] == [True, True, False]


def test_a_planted_bias_reaches_the_units_behind_batch_norm() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    plant(SimpleNamespace(model=network, data=SimpleNamespace(load=None)), {"bias": -9})  # type: ignore[arg-type]
    outputs = network[:3](torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    assert not outputs.any()  # normalized values reach 9 nowhere


def test_a_weight_that_is_no_number(run: Components) -> None:
    plant(run, {"nan_weight": True})
    assert not all(p.isfinite().all() for p in run.model.parameters())
