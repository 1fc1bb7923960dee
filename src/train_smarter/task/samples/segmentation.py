"""The best and the worst masks of a segmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.task.samples.base import Kept, Samples
from train_smarter.task.samples.views import IGNORED, View, image_of, image_png, images, mask_color, mask_png, names_of


class SegmentationSamples(Samples):
    """Half of the examples have the worst masks, half the best, by the mean IoU over the classes of the image.

    Content of an example: image (C, H, W), where the input is one, true and predicted mask (H, W).
    """

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        true, predicted = self.task.targets(batch).long(), outputs.argmax(1)  # (B, H, W)
        iou = example_iou(true, predicted, self.task.num_classes, self.task.ignore_index)
        picture = image_of(batch[0])
        content = (*([] if picture is None else [picture]), true, predicted)
        self.keep("worst", -iou, content, indices, count=self.count)
        self.keep("best", iou, content, indices, count=self.count)

    def views(self, data: Any, network: Any) -> list[View]:  # noqa: ARG002
        worst = self.groups.get("worst", [])[: max(1, self.count // 2)]
        shown = {kept.index for kept in worst}
        best = [kept for kept in self.groups.get("best", []) if kept.index not in shown]
        kinds = {"worst": worst, "best": best[: self.count - len(worst)]}
        return [self._view(name, kept, data) for name, kept in kinds.items() if kept]

    def _view(self, name: str, group: Sequence[Kept], data: Any) -> View:
        parts = "image, true and predicted mask" if len(group[0].content) == 3 else "true and predicted mask"
        names = names_of(data, self.task.num_classes)
        legend = [(text, mask_color(k)) for k, text in enumerate(names)]
        if any(int((kept.content[-2] == self.task.ignore_index).sum()) for kept in group):
            legend.append(("not counted", IGNORED))
        items = [(self._pictures(kept, data), f"example {kept.index}: IoU {abs(kept.score):.3f}") for kept in group]
        return images(f"{name} masks: {parts}", items, legend=legend)

    def _pictures(self, kept: Kept, data: Any) -> list[str]:
        *picture, true, predicted = kept.content
        masks = [mask_png(mask, self.task.num_classes) for mask in (true, predicted)]
        return [*(image_png(image, data) for image in picture), *masks]


def example_iou(true: Tensor, predicted: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Mean IoU of each example over the classes that it has or is predicted to have; NaN without any pixel that counts.

    true, predicted: (B, H, W) int64. Returns (B,).
    """
    known = true != ignore_index
    offset = torch.arange(len(true), device=true.device).view(-1, 1, 1) * num_classes

    def count(mask: Tensor, of: Tensor) -> Tensor:
        return (of + offset)[mask].bincount(minlength=len(true) * num_classes).view(-1, num_classes).float()

    hits = count(known & (true == predicted), predicted)
    union = count(known, predicted) + count(known, true) - hits  # (B, K)
    return (hits / union).nanmean(1)  # 0 / 0 where a class does not occur
