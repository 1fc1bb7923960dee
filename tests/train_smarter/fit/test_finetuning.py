"""Which weights train, from which epoch on, and how fast."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from sample_project.model.cnn import CNN
from train_smarter.callbacks.resume_checkpoint import ResumeCheckpoint
from train_smarter.callbacks.summary import Summary
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.errors import UserError
from train_smarter.fit.finetuning import FineTuning, set_rates, split_blocks
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.fit.module import Model
from train_smarter.task.classification import Classification

BARE: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
BARE |= {"enable_model_summary": False, "enable_checkpointing": False}
ONECYCLE: Any = partial(OneCycleLR, max_lr=0.1, total_steps="auto")  # type: ignore[arg-type]


class Dots(ImageData):
    """Noise of 4x4 pixels in two classes: 12 images to train."""

    def __init__(self) -> None:
        super().__init__(num_classes=2, shape=[1, 4, 4], batch_size=4)

    def read(self) -> RawDataset:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (12, 1, 4, 4), generator=generator, dtype=torch.uint8)
        part = Examples(images, torch.arange(12) % 2)
        return RawDataset(["a", "b"], part, part, part)


class Blocks(Model):
    """A stem with a norm, two layers of a kind, and a head."""

    def __init__(self, **model: Any) -> None:
        super().__init__(**model)
        self.stem = nn.Linear(16, 4, bias=False)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 4))
        self.head = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.layers(self.norm(self.stem(images.flatten(1)))))
        return outputs


def blocks(**model: Any) -> Blocks:
    return Blocks(task=Classification(num_classes=2), **{"optimizer": partial(Adam, lr=0.1), **model})


def fit(model: Model, **options: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(**{**BARE, "max_epochs": 1, **options})
    trainer.fit(model, datamodule=Dots())
    return trainer


def names(model: nn.Module) -> list[str]:
    return [block.name for block in split_blocks(model)]


# ---- blocks


def test_a_norm_belongs_to_the_layer_before_it_and_layers_of_containers_are_blocks() -> None:
    assert names(blocks()) == ["stem", "layers.0", "layers.3", "head"]
    (stem, *_) = split_blocks(blocks())
    assert [type(module).__name__ for module in stem.modules] == ["Linear", "BatchNorm1d"]


def test_all_that_is_not_in_a_backbone_is_the_head() -> None:
    class Two(Blocks):
        def __init__(self, **model: Any) -> None:
            super().__init__(**model)
            self.backbone = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    assert names(Two(task=Classification(num_classes=2))) == ["backbone.0", "backbone.1", "stem, norm, layers, head"]


def test_the_layers_of_a_transformer_are_blocks_and_its_positions_belong_to_the_first_one() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(1, 3, 8))
            layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.head = nn.Linear(8, 2)

    model = Positions()
    layers = [f"encoder.layers.{number}" for number in range(3)]
    assert names(model) == [*layers, "head"]
    assert any(parameter is model.positions for parameter in split_blocks(model)[0].parameters)


@pytest.mark.parametrize("model", [blocks(), CNN(shape=[1, 10, 10], task=Classification(num_classes=3))])
def test_every_parameter_is_in_one_block(model: Model) -> None:
    found = [id(parameter) for block in split_blocks(model) for parameter in block.parameters]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())


# ---- freezing


def trained_names(model: Model) -> set[str]:
    return {name.rpartition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("none", {"stem", "layers.0", "layers.3", "head"}),
        (0, {"stem", "layers.0", "layers.3", "head"}),
        (1, {"layers.0", "layers.3", "head"}),
        (2, {"layers.3", "head"}),
        ("backbone", {"head"}),
        (True, {"head"}),  # of a checkpoint from before freeze had words
        (False, {"stem", "layers.0", "layers.3", "head"}),
    ],
)
def test_the_first_blocks_or_all_but_the_head_are_frozen(freeze: str | int, trained: set[str]) -> None:
    model = blocks(freeze=freeze)
    fit(model, max_steps=1)
    assert trained_names(model) == trained


def test_more_blocks_than_there_are_is_answered_with_their_names() -> None:
    with pytest.raises(UserError, match=r"model\.freeze=4: .* 0 to 3: 1 stem, 2 layers\.0, 3 layers\.3"):
        fit(blocks(freeze=4))


def test_frozen_norms_keep_their_statistics_even_those_without_weights() -> None:
    model = blocks(freeze=1)
    fit(model)
    assert model.state_dict()["norm.running_mean"].tolist() == [0, 0, 0, 0]
    dropout = model.layers[2]
    assert dropout.training
    fit(other := blocks())
    assert other.state_dict()["norm.running_mean"].tolist() != [0, 0, 0, 0]


class Watch(lightning.Callback):
    """Whether the stem trains, and its norm, in each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, bool]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        state = trainer.current_epoch, pl_module.stem.weight.grad is not None, pl_module.norm.training
        self.seen.append(state)


def test_weights_train_from_the_epoch_on_in_which_they_unfreeze(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch()
    fit(blocks(freeze="backbone", unfreeze_epoch=1), max_epochs=3, callbacks=[watch])
    assert watch.seen == [*[(0, False, False)] * 3, *[(1, True, True)] * 3, *[(2, True, True)] * 3]
    assert "frozen: 3 of 4 blocks, stem to layers.3 (104 parameters), until epoch 1" in caplog.text  # 64 + 20 + 20
    assert caplog.text.count("epoch 1: all weights train") == 1


def test_what_a_model_froze_by_itself_stays_frozen() -> None:
    model = blocks(freeze="backbone", unfreeze_epoch=1)
    fixed = dict(model.named_parameters())["layers.0.weight"].requires_grad_(False)
    before = fixed.clone()
    fit(model, max_epochs=2)
    assert fixed.equal(before)


class Stop(lightning.Callback):
    """Breaks the run off before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("broken off")


@pytest.mark.parametrize("stop", [2, 3, 4])  # of 9 steps, 3 an epoch: before, at and after the unfreezing
def test_a_run_that_unfreezes_resumes_bit_for_bit(stop: int, tmp_path: Path, equal: Callable[[Any, Any], bool]) -> None:
    def trained(name: str, *stops: int) -> dict[str, Any]:
        for step in stops:
            torch.manual_seed(1)
            schedule = LRSchedule(torch_scheduler=partial(CosineAnnealingLR, T_max=9), interval="step")
            model = blocks(freeze="backbone", unfreeze_epoch=1, layer_decay=0.5, scheduler=schedule)
            last = ResumeCheckpoint(dirpath=str(tmp_path / name), every_n_steps=1)
            trainer = lightning.Trainer(**BARE, max_epochs=3, callbacks=[last, Stop(step)])
            start = last.file if last.file.exists() else None
            with suppress(RuntimeError):
                trainer.fit(model, datamodule=Dots(), ckpt_path=start, weights_only=True)
        assert trainer.global_step == 9
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        return {key: state[key] for key in ("state_dict", "optimizer_states", "lr_schedulers")}

    assert equal(trained("parts", stop, 9), trained("whole", 9))


def test_several_processes_cannot_unfreeze() -> None:
    model = blocks(freeze="backbone", unfreeze_epoch=1)
    model._trainer = type("Two", (), {"world_size": 2})()
    with pytest.raises(UserError, match=r"model\.unfreeze_epoch: DDP .* 2 processes: type trainer=auto .*train twice"):
        model._freeze()


# ---- learning rates and weight decay


def optimizer_of(model: Model) -> AdamW:
    optimizer = AdamW(model.finetuning.groups(model), lr=1.0, weight_decay=0.1)
    set_rates(optimizer)
    return optimizer


def test_by_default_all_weights_are_one_group_in_the_order_of_the_model() -> None:
    model = blocks()
    (group,) = optimizer_of(model).param_groups
    assert all(one is other for one, other in zip(group["params"], model.parameters(), strict=True))


def test_the_learning_rate_falls_by_a_factor_from_block_to_block_and_the_head_has_all_of_it() -> None:
    groups = optimizer_of(blocks(layer_decay=0.5)).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("head", 1),
        ("layers.3", 0.5),
        ("layers.0", 0.25),
        ("stem", 0.125),
    ]


def test_norms_and_biases_can_be_without_weight_decay() -> None:
    model = blocks(decay_norms=False)
    decayed, plain = optimizer_of(model).param_groups
    assert {parameter.ndim for parameter in decayed["params"]} == {2}
    assert {parameter.ndim for parameter in plain["params"]} == {1}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0)
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_frozen_weights_have_no_group_unless_they_train_later() -> None:
    for epoch, expected in ((None, ["head"]), (1, ["head", "layers.3", "layers.0", "stem"])):
        model = blocks(freeze="backbone", unfreeze_epoch=epoch, layer_decay=0.5)
        model.finetuning.start(model)
        assert [group["name"] for group in optimizer_of(model).param_groups] == expected


def test_one_cycle_keeps_the_ratio_of_the_learning_rates() -> None:
    model = blocks(layer_decay=0.5, scheduler=LRSchedule(torch_scheduler=ONECYCLE, interval="step"))
    rates = list[list[float]]()

    class Rates(lightning.Callback):
        def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    fit(model, max_epochs=4, callbacks=[Rates()])
    assert len(rates) == 12
    for head, *others in rates:
        assert others == pytest.approx([head / 2, head / 4, head / 8])
    assert max(head for head, *_ in rates) == pytest.approx(0.1, rel=0.1)


def test_a_floor_of_the_rates_that_changes_their_ratio_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)]
    schedule = LRSchedule(torch_scheduler=partial(CosineAnnealingLR, T_max=3, eta_min=0.01))
    schedule.build(SGD(groups, lr=1.0), lightning.Trainer(**BARE))
    assert "eta_min=0.01 is the least learning rate of each parameter group" in caplog.text


def test_parameter_groups_are_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = blocks(layer_decay=0.5, decay_norms=False, optimizer=partial(AdamW, lr=0.1, weight_decay=0.2))
    fit(model, max_steps=1, callbacks=[Summary(max_depth=1)])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()[-8:]] == [
        "group                      learning rate  weight decay  parameters",
        "head                                 0.1           0.2           4",
        "head, no weight decay                0.1             0           1",
        "layers.3                            0.05           0.2          16",
        "layers.3, no weight decay           0.05             0           4",
        "layers.0                           0.025           0.2          16",
        "layers.0, no weight decay          0.025             0           4",
        "stem                              0.0125           0.2          64",
    ]


def test_old_words_for_freezing_mean_the_same() -> None:
    assert [FineTuning(freeze=word).freeze for word in (False, True)] == ["none", "backbone"]
