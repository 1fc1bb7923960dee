"""One class a pixel."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from train_smarter.errors import UserError
from train_smarter.task.base import (
    Columns,
    Files,
    Task,
    average_logits,
    balanced_factors,
    check_shape,
    class_factors,
    entropy,
)
from train_smarter.task.samples.segmentation import SegmentationSamples


class Segmentation(Task):
    """Outputs are logits (B, K, H, W); targets are masks of classes (B, H, W), integers.

    Args:
        num_classes: K, the background included.
        class_weights: K factors on the loss of each true class; "balanced": N / (K n_k) of the N training pixels, n_k
            of which are of class k.
        ignore_index: class of pixels that count neither in the loss nor in the metrics.
        dice_weight: share of the Dice loss in the loss, 0 to 1; the rest is cross-entropy.
    """

    METRICS: ClassVar[Mapping[str, str]] = {"miou": "max", "dice": "max", "accuracy": "max"}
    class_weights: Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        class_weights: Sequence[float] | str | None = None,
        ignore_index: int = 255,
        dice_weight: float = 0.0,
        **task: Any,
    ) -> None:
        super().__init__(**task)
        if not 0 <= dice_weight <= 1:
            raise UserError(f"task.dice_weight={dice_weight}: give a number from 0 to 1")
        self.num_classes = self.num_outputs = num_classes
        self.ignore_index, self.dice_weight = ignore_index, dice_weight
        self.balanced = class_weights == "balanced"
        factors = class_factors(class_weights, num_classes)
        self.register_buffer("class_weights", factors, persistent=self.balanced)  # others are in the config

    def fit(self, targets: Iterable[Tensor]) -> None:
        if self.balanced and self.class_weights is not None:
            known = (masks[masks != self.ignore_index].long().cpu() for masks in targets)
            counts = torch.stack([pixels.bincount(minlength=self.num_classes) for pixels in known]).sum(0)
            self.class_weights.copy_(balanced_factors(counts))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        masks = targets.long()
        loss = F.cross_entropy(outputs, masks, self.class_weights, ignore_index=self.ignore_index, reduction="sum")
        loss = loss / self.weight(masks).clamp(min=1e-12)  # nothing to divide by: a batch of ignored pixels alone
        if self.dice_weight:
            loss = (1 - self.dice_weight) * loss + self.dice_weight * self._dice_loss(outputs, masks)
        return loss

    def weight(self, targets: Tensor) -> Tensor:
        known = targets != self.ignore_index
        if self.class_weights is None:
            return known.sum()
        return self.class_weights[targets[known].long()].sum()

    def _dice_loss(self, outputs: Tensor, masks: Tensor) -> Tensor:
        """1 - Dice of soft predictions, mean over the classes that occur."""
        known = (masks != self.ignore_index)[:, None]  # (B, 1, H, W)
        true = F.one_hot(masks.where(known[:, 0], 0), self.num_classes).movedim(-1, 1) * known
        soft = outputs.softmax(1) * known
        overlap, sizes = (soft * true).sum((0, 2, 3)), (soft + true).sum((0, 2, 3))  # (K,)
        occurs = true.sum((0, 2, 3)) > 0
        return (1 - (2 * overlap / sizes.clamp(min=1e-12)))[occurs].mean() if occurs.any() else outputs.sum() * 0

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"mask": outputs.argmax(1), "probabilities": outputs.softmax(1)}  # (B, H, W), (B, K, H, W)

    def average_mirrored(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        return average_logits(outputs, mirrored.flip(-1))

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The share of the pixels that each class has."""
        masks = prediction["mask"].flatten(1)
        return {f"share {name}": (masks == k).float().mean(1).tolist() for k, name in enumerate(names)}

    def files(self, prediction: Mapping[str, Tensor]) -> Files:
        """The masks as images whose pixel values are the classes."""
        return {"mask.png": [_to_png(mask, self.num_classes) for mask in prediction["mask"]]}

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        known = targets != self.ignore_index
        cells = targets[known].long() * self.num_classes + outputs.argmax(1)[known]
        counts = cells.bincount(minlength=self.num_classes**2)
        return (counts.view(1, self.num_classes, self.num_classes),)

    def make_metrics(self) -> Metric:
        return SegmentationMetrics(self.num_classes, self.metrics)

    def make_samples(self, count: int) -> SegmentationSamples:
        return SegmentationSamples(self, count)

    def check(self, targets: Any, split: str) -> None:
        fits = isinstance(targets, Tensor) and targets.ndim == 3 and not targets.is_floating_point()
        check_shape(fits, split, "masks of classes, integers (N, H, W)", targets)
        known = targets[targets != self.ignore_index]
        if len(known) and not (int(known.min()) >= 0 and int(known.max()) < self.num_classes):
            raise UserError(
                f"a mask of {split} holds class {int(known.max())}, but task.num_classes={self.num_classes}; "
                f"pixels of no class have task.ignore_index={self.ignore_index}"
            )

    def chance_loss(self, targets: Tensor) -> float | None:
        """The entropy of the pixels' classes, as far as they are weighted."""
        if self.dice_weight:
            return None
        counts = targets[targets != self.ignore_index].long().bincount(minlength=self.num_classes).cpu()
        return entropy(counts if self.class_weights is None else counts * self.class_weights.cpu().double())


def _to_png(mask: Tensor, num_classes: int) -> bytes:
    """A mask (H, W) -> PNG: a color of the palette for each class, or 16 bits of gray for more than 256 classes."""
    from PIL import Image

    buffer = io.BytesIO()
    if num_classes > 256:
        image = Image.fromarray(mask.cpu().numpy().astype(np.uint16))
    else:
        image = Image.fromarray(mask.cpu().numpy().astype(np.uint8)).convert("L")
        image.putpalette([value for label in range(num_classes) for value in class_color(label)])
    image.save(buffer, format="png")
    return buffer.getvalue()


def class_color(label: int) -> tuple[int, int, int]:
    """Red, green and blue of a class, as in PASCAL VOC: 0 is black, and near classes differ clearly."""
    channels = [0, 0, 0]
    for position in range(8):  # the bits of the class go to the high bits of red, green and blue in turn
        for channel in range(3):
            channels[channel] |= (label >> (3 * position + channel) & 1) << (7 - position)
    return channels[0], channels[1], channels[2]


class SegmentationMetrics(Metric):
    """Mean IoU, mean Dice and pixel accuracy from one (K, K) count of pixels; classes that never occur are left out.

    Args:
        num_classes: K.
        names: which of miou, dice and accuracy.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("counts", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.by_class: dict[str, list[float | None]] = {}

    def update(self, counts: Tensor) -> None:
        """counts: (N, K, K) of N batches, row = true class, column = predicted."""
        self.counts += counts.sum(0)

    def compute(self) -> dict[str, float]:
        matrix = self.counts.cpu().double()
        hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        iou = hits / (true + predicted - hits).clamp(min=1)
        dice = 2 * hits / (true + predicted).clamp(min=1)
        occurs = (true + predicted) > 0
        self.by_class = {
            name: [value if there else None for value, there in zip(values.tolist(), occurs.tolist(), strict=True)]
            for name, values in (("iou", iou), ("dice", dice), ("pixels", true))
        }
        scores = {
            "miou": float(iou[occurs].mean()) if occurs.any() else 0.0,
            "dice": float(dice[occurs].mean()) if occurs.any() else 0.0,
            "accuracy": float(hits.sum() / matrix.sum().clamp(min=1)),
        }
        return {name: scores[name] for name in self.names}

    def details(self) -> dict[str, Any]:
        return {"classes": self.by_class}
