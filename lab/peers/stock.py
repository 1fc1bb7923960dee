"""Stock Lightning, as its documentation shows it: workers, per-sample transforms, `self.log` at every step."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Accuracy, Metric

from peers.ours import Turn
from peers.plain import Loop, dataset, validation
from peers.task import Parts, Task, prepare
from peers.worker import Gate


class Lit(LightningModule):
    """The module of the documentation's first page, with a metric in every step."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts, loop = parts, Loop(parts)
        self.network, self.criterion = loop.network, loop.criterion
        self.train_accuracy, self.val_accuracy = accuracy(parts), accuracy(parts)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        inputs, labels = batch
        logits = self.network(inputs)
        loss = self.criterion(logits, labels)
        self.train_accuracy(self.parts.classification.predict_classes(logits), labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        inputs, labels = batch
        logits = self.network(inputs)
        self.val_accuracy(self.parts.classification.predict_classes(logits), labels)
        self.log("val_loss", self.criterion(logits, labels), prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.parts.optimizer(self.network, fused=None)
        steps = int(self.trainer.estimated_stepping_batches) // self.parts.task.epochs
        scheduler = self.parts.scheduler(optimizer, steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def accuracy(parts: Parts) -> Metric:
    if parts.binary:
        return Accuracy(task="binary")
    return Accuracy(task="multiclass", num_classes=parts.classification.num_classes)


def run(task: Task, gate: Gate) -> None:
    parts = prepare(task)
    module = Lit(parts)
    training, validating = [
        DataLoader(
            examples,
            batch_size=parts.data.batch_size,
            shuffle=shuffle,
            num_workers=2,
            persistent_workers=True,
            pin_memory=task.device == "cuda",
        )
        for examples, shuffle in ((dataset(parts), True), (validation(parts), False))
    ]
    trainer = Trainer(
        max_epochs=task.epochs,
        accelerator="gpu" if task.device == "cuda" else "cpu",
        devices=1,
        gradient_clip_val=parts.cfg.trainer.gradient_clip_val,
        default_root_dir=task.folder,
        callbacks=[Turn(task, gate)],
    )
    trainer.fit(module, training, validating)
    gate.wait("end")
    module.to(torch.device(task.device))
    gate.tell(accuracy=parts.accuracy(module.network), parameters=parts.parameters)
