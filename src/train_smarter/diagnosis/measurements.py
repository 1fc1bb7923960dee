"""What a diagnosis goes by: curves, statistics of the layers, facts about data and settings; and how they are measured.

Pure functions of tensors and files; callbacks/diagnosis.py calls them while a run trains.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning import Trainer
from torch import Tensor

from train_smarter.run.files import read_csv


@dataclass
class Measurements:
    """What does not stand in the run's curves. Everything is a JSON value, kept in diagnosis.json as `measured`.

    names: of the classes; train_classes: training examples of each; both empty where the task is no classification.
    metrics: {name: max | min} of the task, the headline first.
    single_loss: each step makes one loss smaller with one optimizer; False with several optimizers or manual
        optimization: then no rule looks at losses and learning rates.
    val_examples: that a validation looked at; 0: unknown.
    shift: how far validation inputs lie from training inputs, by feature: the distance of the means in standard
        deviations of the training examples, or, of words, the share that would have to be exchanged (0 to 1).
    confusion: (K, K) counts on validation, of the best checkpoint where that is known, else of the latest validation.
    chance_loss: of the best constant prediction; None: unknown.
    zero_loss: of outputs that are all zero, in the first step; None: unknown, or the classes tell it.
    first_loss: of the first training step.
    data_wait: share of the training time that went by between two steps, without a batch; step_wait: seconds a step.
    gradient_peak, update_peak: the largest gradient, and change, of all weights in a measured step, relative to them:
        {size, epoch}.
    rate, peak_rate: the learning rate of the latest epoch's end, and the highest of any.
    nan_location: the first loss that was not finite: {epoch, step, batch, where}.
    clean: metrics of the best checkpoint, without augmentation and dropout: {"train/accuracy": ..., ...}.
    patience: as configured; validations: as many as the run may have; None: there is no such end.
    epochs: done when the training ended.
    stopped: early stopping has ended the run; training_done: the run has ended.
    """

    names: list[str] = field(default_factory=list)
    train_classes: list[int] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    single_loss: bool = True
    val_examples: int = 0
    shift: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    chance_loss: float | None = None
    zero_loss: float | None = None
    first_loss: float | None = None
    data_wait: float | None = None
    step_wait: float | None = None
    gradient_peak: dict[str, float] | None = None
    update_peak: dict[str, float] | None = None
    rate: float | None = None
    peak_rate: float = 0.0
    nan_location: dict[str, Any] | None = None
    clean: dict[str, float] = field(default_factory=dict)
    patience: int | None = None
    validations: int | None = None
    epochs: int = 0
    stopped: bool = False
    training_done: bool = False


Row = dict[str, float]


@dataclass
class Evidence:
    """curves: a row an epoch, as in metrics.csv; layers: by name, a row an epoch, as in layers.csv."""

    curves: list[Row]
    layers: dict[str, list[Row]]
    facts: Measurements

    @classmethod
    def read(cls, folder: Path, facts: Measurements) -> "Evidence":
        layers: dict[str, list[Row]] = {}
        for row in read_csv(folder / "layers.csv"):
            layers.setdefault(row.pop("layer"), []).append(_to_numbers(row))
        return cls([_to_numbers(row) for row in read_csv(folder / "metrics.csv")], layers, facts)

    def curve(self, name: str) -> list[float]:
        """The values of a metric, epoch by epoch, where there are any."""
        return [row[name] for row in self.curves if name in row]

    def epochs(self, name: str) -> list[int]:
        """Those that the values of `curve` belong to."""
        return [int(row["epoch"]) for row in self.curves if name in row]

    def pairs(self, name: str) -> tuple[list[float], list[float]]:
        """A metric on train and on validation, of the epochs that have both."""
        both = [row for row in self.curves if f"train/{name}" in row and f"val/{name}" in row]
        return [row[f"train/{name}"] for row in both], [row[f"val/{name}"] for row in both]


def _to_numbers(row: Mapping[str, str]) -> Row:
    return {name: float(value) for name, value in row.items() if value not in ("", None)}


def track_update_peak(
    known: dict[str, float] | None, norms: Tensor, weights: Tensor, epoch: int
) -> dict[str, float] | None:
    """The larger one: what is known, or that of this epoch's steps.

    norms, weights: (S, L), -1 for a layer without a gradient.
    """
    norm, weight = (values.where(values != -1, 0).norm(dim=1) for values in (norms, weights))
    sizes = (norm / weight)[weight != 0]  # weights that begin at zero have no relative change
    size = float(sizes.max()) if len(sizes) else math.nan
    return {"size": size, "epoch": epoch} if math.isfinite(size) and (not known or size > known["size"]) else known


def validations_per_epoch(trainer: Trainer) -> int | None:
    """How many there are in a run that goes to its last epoch; None: it has none, or they are not counted by epochs."""
    epochs, every = trainer.max_epochs, trainer.check_val_every_n_epoch
    if epochs is None or epochs < 0 or every is None:
        return None
    batches, between = float(trainer.num_training_batches), float(trainer.val_check_batch or math.inf)
    within = int(batches // between) if math.isfinite(batches) and between < batches else 1
    return epochs // every * within
