"""What every classifier shares: loss, steps, metrics and optimizers. A model's own file holds layers and `forward`.

Shape letters, everywhere in this project: B batch, C channels, H W image, T tokens, D features, K classes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from train_smarter.data.examples import Batch
from train_smarter.errors import UserError
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.task.confusion_metric import ConfusionMetric

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class Classifier(LightningModule):
    """Trains and evaluates a network that returns logits: (B, K), or (B, 1) for K = 2.

    A subclass builds its layers in `__init__`, ends it with `self.save_hyperparameters(ignore=FACTORIES)`, has
    `self.num_logits` logits and defines `forward`. Hyperparameters are plain numbers and strings, so a checkpoint loads
    with `weights_only=True` and by `load_from_checkpoint(path)` alone.

    Args:
        num_classes: K; two classes make one logit and binary cross-entropy, more make K logits and cross-entropy.
        optimizer: parameters -> optimizer; needed to train, not to evaluate.
        scheduler: the learning rate's schedule, or None for a constant one.
        class_weights: K factors on the loss of each true class.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
        pretrained: a checkpoint to start from; weights are taken where name and shape agree.
        freeze: train the head (the last layer with parameters) only.
        compile: a mode of torch.compile for the forward pass in training ("default", "reduce-overhead" with CUDA
            graphs, "max-autotune"), or None; checkpoints are the same.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        optimizer: OptimizerFactory | None = None,
        scheduler: LRSchedule | None = None,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        pretrained: str | None = None,
        freeze: bool = False,
        compile: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__()
        if class_weights is not None and len(class_weights) != num_classes:
            raise UserError(f"model.class_weights needs {num_classes} numbers, one a class, not {len(class_weights)}")
        self.num_classes, self.num_logits = num_classes, 1 if num_classes == 2 else num_classes
        self.optimizer, self.scheduler = optimizer, scheduler
        self.label_smoothing, self.pretrained, self.freeze_backbone = label_smoothing, pretrained, freeze
        self.compile_mode = compile
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float)
        self.register_buffer("class_weights", weights, persistent=False)
        # Plain dicts: a running count is neither a part of the network nor of its checkpoint.
        self.epoch_metrics: dict[str, ConfusionMetric] = {}  # by split, of the epoch under way
        self.test_metrics: dict[str, ConfusionMetric] = {}  # by split, of the latest test run

    # ---- from logits to a loss and a prediction

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch. logits: (B, K) or (B, 1); labels: (B,) -> scalar."""
        if self.num_logits > 1:
            return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=self.label_smoothing)
        target = labels * (1 - self.label_smoothing) + self.label_smoothing / 2  # (B,)
        weight = None if self.class_weights is None else self.class_weights[labels]
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype), weight, reduction="sum")
        return loss / (len(labels) if weight is None else weight.sum())

    def predict_classes(self, logits: Tensor) -> Tensor:
        """(B, K) or (B, 1) -> the most probable class (B,), int64."""
        return logits.argmax(1) if self.num_logits > 1 else (logits[:, 0] > 0).long()

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) or (B, 1) -> (B, K), each row summing to 1."""
        if self.num_logits > 1:
            return logits.softmax(1)
        positive = logits.sigmoid()  # (B, 1)
        return torch.cat([1 - positive, positive], 1)

    # ---- Lightning's hooks

    def _step(self, batch: Batch, metric: ConfusionMetric) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        logits = self(inputs)
        loss = self.loss(logits, labels)
        metric.append(loss, self.predict_classes(logits.detach()), labels)
        return loss, logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss, _ = self._step(batch, self.epoch_metrics["train"])
        # Only when Lightning hands it on: a log call costs as much as a small model's step.
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss, prog_bar=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._step(batch, self.epoch_metrics["val"])

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:  # noqa: ARG002
        """Returns the logits, (B, K) or (B, 1): callbacks receive them as `outputs`."""
        return self._step(batch, list(self.test_metrics.values())[dataloader_idx])[1]

    def on_train_start(self) -> None:
        self.epoch_metrics["train"] = self._new_metric()  # a run that goes on within an epoch skips that epoch's start
        if self.freeze_backbone:
            for module in self._backbone():
                module.training = False  # batch norm keeps its statistics

    def on_train_epoch_start(self) -> None:
        self.epoch_metrics["train"] = self._new_metric()

    def on_validation_epoch_start(self) -> None:
        self.epoch_metrics["val"] = self._new_metric()

    def on_test_epoch_start(self) -> None:
        splits = getattr(self.trainer.datamodule, "splits", ("test",))  # type: ignore[attr-defined]
        self.test_metrics = {name: self._new_metric() for name in splits}

    def _new_metric(self) -> ConfusionMetric:
        return ConfusionMetric(self.num_classes).to(self.device)

    def on_train_epoch_end(self) -> None:
        self._log_scores("train", self.epoch_metrics["train"], prog_bar=("accuracy",))

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self.epoch_metrics["val"], prog_bar=("loss", "accuracy"))

    def on_test_epoch_end(self) -> None:
        for name, tally in self.test_metrics.items():
            self._log_scores(name, tally)

    def _log_scores(self, split: str, tally: ConfusionMetric, prog_bar: Sequence[str] = ()) -> None:
        for name, value in tally.scores().items():
            # The tally has summed over all processes: each holds the same value. A test run that goes through train
            # and val as well returns their clean scores, and leaves the curves of the training alone.
            drawn = bool(self.trainer.loggers) and (not self.trainer.testing or split == "test")
            self.log(f"{split}/{name}", value, prog_bar=name in prog_bar, logger=drawn)

    # ---- what is trained, and how

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.pretrained:
            self._load_pretrained(self.pretrained)
        if stage == "fit" and self.freeze_backbone:  # here, before DDP looks which parameters get gradients
            for module in self._backbone():
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
            self.print("frozen up to the head")
        if stage == "fit" and self.compile_mode:
            # The function, not the module: names in checkpoints stay as they are. An evaluation would have to be
            # compiled anew, for its mode and its batches' sizes, and is too short to earn that back.
            eager, compiled = self.forward, torch.compile(self.forward, mode=self.compile_mode)
            self.forward = lambda *given: (compiled if self.training else eager)(*given)  # type: ignore[method-assign]

    def _load_pretrained(self, path: str) -> None:
        """Takes the weights of a checkpoint where name and shape agree (a head for other classes starts afresh)."""
        try:
            given = dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        except Exception as error:  # what torch raises depends on how the file is broken
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"model.pretrained={path} is no checkpoint that can be read: {first}") from error
        own = self.state_dict()
        fitting = {k: v for k, v in given.items() if k in own and own[k].shape == getattr(v, "shape", None)}
        if not fitting:
            raise UserError(f"model.pretrained={path} holds no weight that fits {type(self).__name__}")
        self.load_state_dict(fitting, strict=False)
        self.print(f"{len(fitting)} of {len(own)} weights start from {path}")

    def _backbone(self) -> list[nn.Module]:
        """All modules with parameters of their own, but the last one: the head."""
        return [m for m in self.modules() if any(True for _ in m.parameters(recurse=False))][:-1]

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise UserError("this model was loaded to be evaluated; give it an `optimizer` to train it")
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        return optimizer if self.scheduler is None else self.scheduler.build(optimizer, self.trainer)


def why_unusable(model: LightningModule, outputs: Any, batch: Any) -> str:
    """Why a test step's outputs are not the logits of classes that `Classifier` has; "" where they are.

    For callbacks that draw predictions: a subclass may have another kind of target, metric or output.
    """
    if not isinstance(model, Classifier):
        return f"{type(model).__name__} is not a Classifier"
    if not all(isinstance(tally, ConfusionMetric) for tally in model.test_metrics.values()):
        return f"{type(model).__name__} does not count classes with train_smarter.task.confusion_metric.ConfusionMetric"
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(labels := batch[1], Tensor):
        return "a batch is not (inputs, labels)"
    if labels.ndim != 1 or labels.is_floating_point():
        return f"labels are {labels.dtype} of shape {tuple(labels.shape)}, not one class an example"
    shape = (len(labels), model.num_logits)
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or tuple(outputs.shape) != shape:
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        return f"outputs are {given}, not logits of shape {shape}"
    return ""


# Kept out of the hyperparameters: functions cannot be loaded with `weights_only=True`.
NOT_HPARAMS = ("optimizer", "scheduler")
