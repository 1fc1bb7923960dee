import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from sample_project.model.cnn import CNN
from sample_project.model.mlp import MLP
from train_smarter.data.examples import SPLITS, Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.data.mixing import MixUp
from train_smarter.errors import UserError
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.fit.module import Model
from train_smarter.task.classification import Classification
from train_smarter.task.regression import Regression

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
SCORES = ("loss", "accuracy", "precision", "recall", "f1")
ADAM = partial(Adam, lr=0.01)
STILL = partial(SGD, lr=0.0)  # changes nothing, so that scores can be computed again


class Stripes(ImageData):
    """Noisy 10x10 images in which row k is bright for class k: 50 to train, 21 and 17 to evaluate."""

    def __init__(self, num_classes: int = 3, **data: Any) -> None:
        super().__init__(num_classes=num_classes, shape=[1, 10, 10], **{"batch_size": 16, "eval_batch_size": 8, **data})

    def read(self) -> RawDataset:
        return RawDataset(list("abcdefg")[: self.num_classes], self.drawn(50), self.drawn(21), self.drawn(17))

    def drawn(self, count: int) -> Examples:
        generator = torch.Generator().manual_seed(count)
        labels = torch.arange(count) % (self.num_classes or 1)
        images = torch.randint(0, 128, (count, 1, 10, 10), generator=generator, dtype=torch.uint8)
        images[torch.arange(count), 0, labels] += 64
        return Examples(images, labels)


def task(num_classes: int = 3, **options: Any) -> Classification:
    return Classification(num_classes=num_classes, **options)


class Logits(Model):
    """Its inputs are its logits."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits


class Memory(Logger):
    """Keeps what is logged: name -> values."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[float]] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # noqa: ARG002
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Lightning hands hyperparameters to every logger."""


def cnn(num_classes: int = 3, *, of_task: Mapping[str, Any] | None = None, **options: Any) -> CNN:
    chosen = task(num_classes, **(of_task or {}))
    return CNN(shape=[1, 10, 10], task=chosen, **{"hidden": 8, "optimizer": ADAM, **options})


def mlp(num_classes: int = 3, *, of_task: Mapping[str, Any] | None = None, **options: Any) -> MLP:
    chosen = task(num_classes, **(of_task or {}))
    return MLP(shape=[1, 10, 10], task=chosen, **{"widths": [8], "optimizer": ADAM, **options})


def task_of(model: Model) -> Classification:
    assert isinstance(model.task, Classification)
    return model.task


def fit(model: Model, data: ImageData | None = None, **options: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(**{**BARE, "max_epochs": 1, **options})
    trainer.fit(model, datamodule=data or Stripes(task_of(model).num_classes))
    return trainer


def evaluated(model: Model, data: ImageData, trainer: lightning.Trainer | None = None) -> dict[str, float]:
    """The scores of a test run over all splits."""
    data.splits, trainer = SPLITS, trainer or lightning.Trainer(**BARE)
    trainer.test(model, datamodule=data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def by_hand(model: Model, data: ImageData, split: Any) -> tuple[float, float]:
    """Loss and accuracy of all examples of a split at once, without dropout."""
    model.eval()
    with torch.no_grad():
        logits = model(data.normalize(data.examples[split].inputs.float() / 255))
    labels = data.examples[split].targets
    model.train()
    return float(model.task.loss(logits, labels)), float(
        (task_of(model).predict_classes(logits) == labels).float().mean()
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: nn.Module) -> set[str]:
    return {name for name, value in after.state_dict().items() if not value.equal(before[name])}


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


# ---- the loss


def test_the_loss_of_many_classes_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0, 0], [0, 1.0, 0]]), torch.tensor([0, 2])
    first = math.log(math.exp(2) + 2) - 2  # minus the logarithm of the true class's softmax
    second = math.log(math.exp(1) + 2)
    assert float(task(3).loss(logits, labels)) == pytest.approx((first + second) / 2)
    weighted = (1 * first + 4 * second) / (1 + 4)
    assert float(task(3, class_weights=[1, 2, 4]).loss(logits, labels)) == pytest.approx(weighted)


def test_the_smoothed_loss_of_many_classes_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0, 0]]), torch.tensor([0])
    total = math.log(math.exp(2) + 2)
    # 0.9 of the target on the true class and 0.1 spread over all three
    expected = 0.9 * (total - 2) + 0.1 * ((total - 2) + total + total) / 3
    assert float(task(3, label_smoothing=0.1).loss(logits, labels)) == pytest.approx(expected)


def test_the_loss_of_two_classes_by_hand() -> None:
    logits, labels = torch.tensor([[0.0], [2.0]]), torch.tensor([1, 0])
    first, second = math.log(2), math.log(1 + math.exp(2))  # -log sigmoid(0), -log (1 - sigmoid(2))
    assert float(task(2).loss(logits, labels)) == pytest.approx((first + second) / 2)
    weighted = (3 * first + 1 * second) / (3 + 1)
    assert float(task(2, class_weights=[1, 3]).loss(logits, labels)) == pytest.approx(weighted)


def test_the_smoothed_loss_of_two_classes_by_hand() -> None:
    logits, labels = torch.tensor([[2.0]]), torch.tensor([1])
    # 0.2 of the target spread over both: 0.9 on the true class, 0.1 on the other
    expected = 0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2))
    assert float(task(2, label_smoothing=0.2).loss(logits, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_logit_loses_as_much_as_two_logits_with_the_same_difference(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(20, 1, generator=generator), torch.randint(2, (20,), generator=generator)
    two = F.cross_entropy(torch.cat([torch.zeros(20, 1), logits], 1), labels, label_smoothing=smoothing)
    assert float(task(2, label_smoothing=smoothing).loss(logits, labels)) == pytest.approx(float(two))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_wrong_number_of_class_weights_is_refused(num_classes: int) -> None:
    with pytest.raises(UserError, match=f"task.class_weights needs {num_classes} numbers, one a class, not 4"):
        task(num_classes, class_weights=[1, 1, 1, 1])


# ---- the prediction


def test_the_most_probable_class_is_predicted() -> None:
    assert task(3).predict_classes(torch.tensor([[0.0, 2, 1], [3, 2, 1]])).tolist() == [1, 0]
    assert task(2).predict_classes(torch.tensor([[0.1], [-0.1], [0.0]])).tolist() == [1, 0, 0]


def test_probabilities_are_softmax_or_sigmoid() -> None:
    many = task(3).probabilities(torch.tensor([[math.log(1), math.log(2), math.log(5)]]))
    assert many[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    two = task(2).probabilities(torch.tensor([[math.log(3)], [0.0]]))  # odds of 3 to 1, and of 1 to 1
    assert two.flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


# ---- what is trained


def test_a_short_training_learns() -> None:
    model, data = mlp(), Stripes()
    fit(model, data, max_epochs=15)
    assert evaluated(model, data)["test/accuracy"] > 0.9


def test_two_classes_are_learned_from_one_logit() -> None:
    model, data = mlp(2), Stripes(2)
    fit(model, data, max_epochs=15)
    assert evaluated(model, data)["test/f1"] > 0.9


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_any_precision_trains_and_evaluates(num_classes: int, precision: Any) -> None:
    model, data = mlp(num_classes, of_task={"class_weights": [1.0] * num_classes}), Stripes(num_classes)
    trainer = fit(model, data, precision=precision)
    assert 0 <= evaluated(model, data, trainer)["test/accuracy"] <= 1


def test_the_same_seed_gives_the_same_weights() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        lightning.seed_everything(seed, verbose=False)
        model = cnn(dropout=0.5)
        fit(model, Stripes(seed=seed))
        return weights(model)

    one, again, other = trained(1), trained(1), trained(2)
    assert all(one[name].equal(again[name]) for name in one)
    assert not any(one[name].equal(other[name]) for name in one)


def test_a_model_without_an_optimizer_says_so_when_it_is_to_train() -> None:
    with pytest.raises(UserError, match="give it an `optimizer` to train it"):
        fit(mlp(optimizer=None))


def test_a_schedule_moves_the_learning_rate() -> None:
    model = mlp(
        optimizer=partial(SGD, lr=1.0), scheduler=LRSchedule(torch_scheduler=partial(StepLR, step_size=1, gamma=0.5))
    )
    trainer = fit(model, max_epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.125  # 1 x 0.5 x 0.5 x 0.5


@pytest.mark.filterwarnings("ignore:.*ReduceLROnPlateau conditioned on metric.*")
@pytest.mark.parametrize(
    ("monitor", "options", "rates"),
    [
        ("val/loss", {"check_val_every_n_epoch": 2}, [1, 1, 1, 1, 0.5, 0.5]),  # measured after 2, 4 and 6 epochs
        ("train/loss", {"check_val_every_n_epoch": 2}, [1, 1, 0.5, 0.25, 0.125, 0.0625]),
        ("val/loss", {"check_val_every_n_epoch": None, "val_check_interval": 10}, [1, 1, 1, 1, 1, 0.5]),  # of 24 steps
    ],
)
def test_a_plateau_schedule_sees_each_value_of_its_metric_once(
    monitor: str, options: dict[str, Any], rates: list[float]
) -> None:
    """No value is an improvement: the threshold is out of reach."""
    found: list[float] = []

    class Rates(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            found.append(trainer.optimizers[0].param_groups[0]["lr"] / 1e-3)

    plateau: Any = partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=1.0, threshold_mode="abs")
    model = mlp(optimizer=partial(SGD, lr=1e-3), scheduler=LRSchedule(torch_scheduler=plateau, monitor=monitor))
    fit(model, max_epochs=6, callbacks=[Rates()], **options)
    assert found == pytest.approx(rates)


def test_gradients_are_clipped_by_value_where_that_is_asked_for() -> None:
    model = mlp(optimizer=partial(SGD, lr=1.0))
    before = weights(model)
    fit(model, max_steps=1, gradient_clip_val=1e-3, gradient_clip_algorithm="value")
    assert max(float((new - before[name]).abs().max()) for name, new in weights(model).items()) <= 1.001e-3


def test_a_compiled_forward_trains_to_the_same_weights_and_an_ordinary_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled: list[str] = []
    modes: list[bool] = []

    def compile(function: Any, *, mode: str) -> Any:  # noqa: A001 (the real one takes half a minute)
        def run(inputs: Tensor) -> Tensor:
            modes.append(function.__self__.training)
            outputs: Tensor = function(inputs)
            return outputs

        compiled.append(mode)
        return run

    monkeypatch.setattr(torch, "compile", compile)

    def trained(mode: str | None) -> dict[str, Tensor]:
        lightning.seed_everything(1, verbose=False)
        model = mlp(compile=mode)
        fit(model).save_checkpoint(tmp_path / "last.ckpt")
        return dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])

    plain, mode = trained(None), trained("reduce-overhead")
    assert compiled == ["reduce-overhead"]
    assert modes  # in training
    assert all(modes)  # alone
    assert plain.keys() == mode.keys()
    assert all(plain[name].equal(mode[name]) for name in plain)


@pytest.mark.slow
def test_a_model_that_is_really_compiled_learns() -> None:
    model, data = mlp(compile="default"), Stripes(3)
    fit(model, data, max_epochs=15)
    assert evaluated(model, data)["test/accuracy"] > 0.9


class Lines(lightning.LightningDataModule):
    """A plain datamodule: x -> 100 + 10 x, with x from 0 to 3."""

    def train_dataloader(self) -> Any:
        x = torch.arange(4.0)[:, None]
        return DataLoader(TensorDataset(x, 100 + 10 * x), batch_size=2)

    val_dataloader = train_dataloader


class Same(Model):
    """Its outputs are its inputs and a bias."""

    def __init__(self, **model: Any) -> None:
        super().__init__(**model)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.bias


def test_a_task_learns_its_scaling_from_a_plain_datamodule_too() -> None:
    model = Same(task=Regression(num_targets=1), optimizer=STILL)
    lightning.Trainer(**BARE, max_epochs=1).fit(model, datamodule=Lines())
    assert isinstance(model.task, Regression)
    assert model.task.mean.tolist() == [115.0]  # of 100, 110, 120 and 130
    assert model.task.std.tolist() == pytest.approx([math.sqrt(125)])


def test_targets_in_a_dict_are_counted_by_their_rows() -> None:
    assert Regression().weight({"first": torch.zeros(7, 1), "second": torch.zeros(7, 1)}) == 7


# ---- the head alone


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_frozen_model_trains_its_head_alone(batch_norm: bool) -> None:
    model = cnn(freeze="backbone", batch_norm=batch_norm)
    before = weights(model)
    fit(model, max_epochs=2, val_check_interval=0.5)
    assert changed(before, model) == {"head.4.weight", "head.4.bias"}


def test_a_frozen_model_still_drops_out_in_training() -> None:
    model = cnn(freeze="backbone", batch_norm=True, dropout=0.5)
    fit(model)
    assert [type(module).__name__ for module in model.modules() if not module.training] == [
        *["Conv2d", "BatchNorm2d"] * 2,
        "Linear",
    ]


def test_the_body_is_frozen_before_processes_agree_on_what_gets_gradients() -> None:
    model, frozen = mlp(freeze="backbone"), list[str]()

    class Watch(lightning.Callback):
        """DDP counts parameters right after Lightning's setup hooks, before the optimizer is made."""

        def setup(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
            configure = model.configure_optimizers

            def watched() -> Any:
                frozen.extend(name for name, value in model.named_parameters() if not value.requires_grad)
                return configure()

            model.configure_optimizers = watched  # type: ignore[method-assign]
            assert not trainer.optimizers

    fit(model, callbacks=[Watch()])
    assert frozen == ["layers.1.weight", "layers.1.bias"]


def test_an_unfrozen_model_trains_all_its_weights() -> None:
    model = cnn()
    before = weights(model)
    fit(model)
    assert changed(before, model) == set(before)


# ---- checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> tuple[CNN, str]:
    """A trained model and its checkpoint."""
    model = cnn(
        of_task={"class_weights": [1, 2, 3], "label_smoothing": 0.1},
        batch_norm=True,
        scheduler=LRSchedule(torch_scheduler=partial(StepLR, step_size=1), warmup=1),
    )
    path = str(tmp_path / "model.ckpt")
    fit(model).save_checkpoint(path)
    return model, path


def test_a_checkpoint_loads_with_its_weights_alone(saved: tuple[CNN, str]) -> None:
    content = torch.load(saved[1], weights_only=True)
    assert set(content["state_dict"]) == set(saved[0].state_dict())


def test_a_checkpoint_alone_makes_the_same_model_again(saved: tuple[CNN, str]) -> None:
    model, path = saved
    again = CNN.load_from_checkpoint(path)
    images = torch.rand(4, 1, 10, 10)
    assert again.eval()(images).equal(model.eval()(images))
    labels = torch.tensor([0, 1, 2, 2])
    assert again.task.loss(again(images), labels).equal(model.task.loss(model(images), labels))


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(plain(key) and plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(plain(part) for part in value)
    return type(value) in (int, float, str, bool, type(None))


def test_hyperparameters_are_plain_numbers_and_strings(saved: tuple[CNN, str]) -> None:
    parameters = torch.load(saved[1], weights_only=True)["hyper_parameters"]
    assert plain(dict(parameters))
    assert {"shape", "dropout", "batch_norm", "task"} <= set(parameters)
    assert {"num_classes": 3, "class_weights": [1, 2, 3], "label_smoothing": 0.1}.items() <= parameters["task"].items()
    assert not {"optimizer", "scheduler"} & set(parameters)


def test_a_running_count_is_no_part_of_a_checkpoint(saved: tuple[CNN, str]) -> None:
    assert not [name for name in saved[0].state_dict() if "tally" in name or "confusion" in name or "class" in name]


def test_a_training_goes_on_from_a_checkpoint_within_an_epoch(tmp_path: Path) -> None:
    class Save(lightning.Callback):
        """After the second of 4 batches: 50 = 3 x 16 + 2."""

        def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "within.ckpt")

    fit(mlp(), callbacks=[Save()])
    trainer = lightning.Trainer(**BARE, max_epochs=1)
    with pytest.warns(UserWarning, match="resuming from a checkpoint that ended before the epoch ended"):
        trainer.fit(mlp(), datamodule=Stripes(), ckpt_path=tmp_path / "within.ckpt", weights_only=True)
    assert trainer.global_step == 4
    assert "train/accuracy" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_size": 1}, r"batches of a single example: type data.batch_size=2 or more, or model.batch_norm=false"),
        ({"count": 1}, r"train has 1: give more data or a smaller data.val_fraction .*, or model.batch_norm=false"),
    ],
)
def test_batch_norm_needs_two_examples(options: dict[str, int], told: str) -> None:
    class Few(Stripes):
        def read(self) -> RawDataset:
            return RawDataset(list("abc"), self.drawn(options.get("count", 4)), self.drawn(3), self.drawn(3))

    with pytest.raises(UserError, match=told):
        fit(mlp(batch_norm=True), Few(batch_size=options.get("batch_size", 16)))


def test_another_mistake_in_a_step_keeps_its_error() -> None:
    class Wrong(MLP):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError(f"a mistake with {len(images)} examples")

    with pytest.raises(ValueError, match="a mistake with 16 examples"):
        fit(Wrong(shape=[1, 10, 10], task=task(), optimizer=ADAM), limit_val_batches=0)


# ---- weights to start from


def test_given_weights_are_taken_where_they_fit(saved: tuple[CNN, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model, path = saved
    wider = cnn(5, batch_norm=True, optimizer=STILL, pretrained=path)  # its head is for a to e, not for a to c
    before = weights(wider)
    fit(wider, max_steps=1, max_epochs=-1)
    frozen = {name: value for name, value in weights(model).items() if not name.startswith("head.4")}
    for name in frozen:
        if "running" not in name and "tracked" not in name:  # batch statistics have moved by a step
            assert wider.state_dict()[name].equal(frozen[name])
    head = wider.state_dict()["head.4.weight"]
    assert head[:3].equal(model.state_dict()["head.4.weight"])
    assert head[3:].equal(before["head.4.weight"][3:])
    assert f"{len(before)} of {len(before)} weights start from {path}; head.4.weight" in caplog.text


def test_given_weights_are_not_taken_again_for_a_test(saved: tuple[CNN, str]) -> None:
    model, data = cnn(batch_norm=True, pretrained=saved[1]), Stripes()
    before = weights(model)
    evaluated(model, data)
    assert not changed(before, model)


def test_weights_that_fit_nowhere_are_refused(saved: tuple[CNN, str]) -> None:
    with pytest.raises(UserError, match="holds no weight that fits MLP"):
        fit(mlp(pretrained=saved[1]))


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n", b"PK\x03\x04 half a zip file", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"wrong.ckpt (cannot be used|is no checkpoint that can be read)"):
        fit(mlp(pretrained=str(tmp_path / "wrong.ckpt")))


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [1, 2], {"weights": 1}, {"state_dict": 1}, {"state_dict": {"a": 1}}]
)
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(UserError, match=r"model.pretrained=.*wrong.pt (is no checkpoint|holds no weight)"):
        fit(mlp(pretrained=str(tmp_path / "wrong.pt")))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.pretrained=nowhere.ckpt cannot be used: No such file"):
        fit(mlp(pretrained="nowhere.ckpt"))


# ---- scores


def test_every_score_of_train_and_val_is_logged_once_an_epoch() -> None:
    memory = Memory()
    fit(mlp(), max_epochs=2, logger=memory, log_every_n_steps=1)
    expected = {f"{split}/{name}": 2 for split in ("train", "val") for name in SCORES}
    counts = {name: len(values) for name, values in memory.values.items() if "/" in name}
    assert counts == {**expected, "train/loss_step": 8}  # 2 epochs of 4 steps


@pytest.mark.parametrize(("every", "count"), [(1, 8), (3, 2)])
def test_the_loss_of_a_step_is_logged_every_so_often(every: int, count: int) -> None:
    memory = Memory()
    fit(mlp(), max_epochs=2, logger=memory, log_every_n_steps=every, limit_train_batches=4)
    assert len(memory.values.get("train/loss_step", [])) == count


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 0.5}])
def test_the_curves_count_every_example_of_the_epoch(options: dict[str, Any]) -> None:
    model, data = mlp(optimizer=STILL), Stripes()
    metrics = fit(model, data, max_epochs=2, **options).callback_metrics
    for split in ("train", "val"):
        loss, accuracy = by_hand(model, data, split)
        assert float(metrics[f"{split}/loss"]) == pytest.approx(loss, abs=1e-6)
        assert float(metrics[f"{split}/accuracy"]) == pytest.approx(accuracy)
    assert [int(model.epoch_metrics[split].count) for split in ("train", "val")] == [50, 21]


def test_a_test_run_returns_clean_scores_of_every_split() -> None:
    model, data = cnn(dropout=0.5, batch_norm=True), Stripes(augment={"black": lambda images, _: images * 0})
    found = evaluated(model, data, fit(model, data))
    assert set(found) == {f"{split}/{name}" for split in SPLITS for name in SCORES}
    for split in SPLITS:
        loss, accuracy = by_hand(model, data, split)
        assert found[f"{split}/loss"] == pytest.approx(loss, abs=1e-6)
        assert found[f"{split}/accuracy"] == pytest.approx(accuracy)
    assert [int(metric.count) for metric in model.test_metrics.values()] == [50, 21, 17]


def test_the_size_of_a_batch_changes_no_score() -> None:
    model = cnn()
    one, other = (evaluated(model, Stripes(eval_batch_size=size)) for size in (1, 100))
    assert all(one[f"{split}/{name}"] == other[f"{split}/{name}"] for split in SPLITS for name in SCORES[1:])


def test_a_test_run_leaves_the_curves_of_the_training_alone() -> None:
    model, data, memory = mlp(), Stripes(), Memory()
    evaluated(model, data, fit(model, data, logger=memory, log_every_n_steps=1))
    assert [len(memory.values[f"{split}/accuracy"]) for split in SPLITS] == [1, 1, 1]


def test_without_a_datamodule_a_test_run_is_of_the_test_split() -> None:
    data = Stripes()
    data.setup()
    batches = [(data.normalize(images / 255), labels) for images, labels in data.loader("val")]
    trainer = lightning.Trainer(**BARE)
    trainer.test(mlp(), dataloaders=DataLoader(batches, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert set(trainer.callback_metrics) == {f"test/{name}" for name in SCORES}


def test_callbacks_receive_the_logits_of_a_test() -> None:
    shapes: list[tuple[int, ...]] = []

    class Watch(lightning.Callback):
        def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
            shapes.append(tuple(outputs.shape))

    evaluated(mlp(), Stripes(eval_batch_size=50), lightning.Trainer(**BARE, callbacks=[Watch()]))
    assert shapes == [(50, 3), (21, 3), (17, 3)]


# ---- mixed examples


class Measured(Stripes):
    """The same with a number instead of a class."""

    def drawn(self, count: int) -> Examples:
        examples = super().drawn(count)
        return Examples(examples.inputs, examples.targets[:, None].float())


def test_a_task_that_cannot_mix_is_refused_before_the_first_step() -> None:
    model = MLP(shape=[1, 10, 10], task=Regression(num_targets=1), optimizer=ADAM)
    data = Measured(augment={"mixup": MixUp(alpha=1), "second": MixUp(alpha=1)})
    with pytest.raises(UserError) as refused:
        lightning.Trainer(**BARE, max_epochs=1).fit(model, datamodule=data)
    assert str(refused.value) == (
        "data.augment.mixup, data.augment.second: the targets of Regression cannot be mixed, only those of "
        "classification, multilabel and reconstruction: type data.augment.mixup=null data.augment.second=null"
    )


def test_a_classification_trains_on_mixed_images_and_is_evaluated_on_whole_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model = mlp(of_task={"class_weights": "balanced", "label_smoothing": 0.1})
    data = Stripes(augment={"mixup": MixUp(alpha=1)})
    trainer = lightning.Trainer(**BARE, max_epochs=2)
    trainer.fit(model, datamodule=data)
    assert "train/ metrics are of mixed images, and compare with the label of the larger share" in caplog.text
    assert set(model.epoch_metrics["train"].scores()) == set(SCORES)
    data.splits = SPLITS
    trainer.test(model, datamodule=data, verbose=False)
    assert sum(map(sum, model.test_metrics["train"].details()["confusion"])) == 50


# ---- a penalty


class Shrinking(Logits):
    """One weight, whose square is the penalty."""

    def __init__(self, **model: Any) -> None:
        super().__init__(**model)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, logits: Tensor) -> Tensor:
        return logits + 0 * self.weight

    def penalty(self, batch: Any) -> Tensor:  # noqa: ARG002
        return self.weight.square()


def test_a_penalty_is_trained_on_and_no_part_of_the_loss_that_is_shown() -> None:
    rows = TensorDataset(torch.zeros(8, 3), torch.arange(8) % 3)
    model = Shrinking(task=task(), optimizer=partial(SGD, lr=0.25))
    trainer = lightning.Trainer(max_epochs=1, **BARE)
    trainer.fit(model, DataLoader(rows, batch_size=8), DataLoader(rows, batch_size=8))
    assert float(model.weight.detach()) == 2.0 - 0.25 * 4.0  # the gradient of the square is 4
    for split in ("train", "val"):
        assert float(trainer.callback_metrics[f"{split}/loss"]) == pytest.approx(math.log(3))
