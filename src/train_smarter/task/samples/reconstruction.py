"""Inputs beside outputs of a reconstruction."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from train_smarter.task.samples.base import Kept, Samples
from train_smarter.task.samples.views import View, image_png, images, table

MAX_VALUES = 8  # shown of an input that is no image


class ReconstructionSamples(Samples):
    """Half of the examples have the largest errors, half the smallest, by the root of the mean squared error.

    Content of an example: input and output, and the target where the input is not the target.
    """

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        inputs, targets = batch[0], self.task.targets(batch)
        error = (outputs - targets).float().square().flatten(1).mean(1).sqrt()  # (B,)
        content = (inputs, outputs.float(), *([] if targets is inputs else [targets]))
        self.keep("worst", error, content, indices, count=self.count)
        self.keep("best", -error, content, indices, count=self.count)

    def views(self, data: Any, network: Any) -> list[View]:  # noqa: ARG002
        worst = self.groups.get("worst", [])[: max(1, self.count // 2)]
        shown = {kept.index for kept in worst}
        best = [kept for kept in self.groups.get("best", []) if kept.index not in shown]
        kinds = {"largest errors": worst, "smallest errors": best[: self.count - len(worst)]}
        return [self._view(name, kept, data) for name, kept in kinds.items() if kept]

    def _view(self, name: str, group: Sequence[Kept], data: Any) -> View:
        parts = ["input", "output", "target"][: len(group[0].content)]
        if all(isinstance(part, Tensor) and part.ndim == 3 for part in group[0].content):
            items = [
                ([image_png(part, data) for part in kept.content], f"example {kept.index}: RMSE {abs(kept.score):.4g}")
                for kept in group
            ]
            return images(f"{name}: {', '.join(parts)}", items)
        rows = [[kept.index, abs(kept.score), *map(_values, kept.content)] for kept in group]
        return table(name, ["example", "RMSE", *parts], rows)


def _values(part: Any) -> str:
    if not isinstance(part, Tensor):
        return type(part).__name__
    values = part.flatten().tolist()
    return " ".join(f"{value:.3g}" for value in values[:MAX_VALUES]) + (" …" if len(values) > MAX_VALUES else "")
