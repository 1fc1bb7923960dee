"""Predicted against true numbers, residuals and the largest errors of a regression."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from train_smarter.task.samples.base import Kept, Samples, spread
from train_smarter.task.samples.views import View, histogram, names_of, scatter, table

MAX_POINTS = 400  # examples in the plots
MAX_TARGETS = 6  # that have plots


class RegressionSamples(Samples):
    """A random choice of examples for the plots, and those with the largest errors.

    An error is counted in standard deviations of its target on the training split. Content of an example: true and
    predicted numbers (D,).
    """

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        predicted = self.task.predict(outputs.float())["prediction"]  # (B, D)
        true = self.task.targets(batch).view_as(predicted).to(predicted.dtype)
        error = ((predicted - true).abs() / self.task.std).amax(1)  # (B,)
        finite = predicted.isfinite().all(1)
        chosen = spread(indices).to(finite.device).masked_fill(~finite, -float("inf"))
        content = self.content_of(batch, true, predicted)
        self.keep("points", chosen, content, indices, count=MAX_POINTS)
        self.keep("errors", error, content, indices, count=self.count)

    def content_of(self, batch: Any, true: Tensor, predicted: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """What is kept of a batch: these two first."""
        return true, predicted

    def identify(self, kept: Kept, data: Any) -> dict[str, Any]:  # noqa: ARG002
        """What names an example in the table of the largest errors, by column."""
        return {"example": kept.index}

    def views(self, data: Any, network: Any) -> list[View]:  # noqa: ARG002
        points = self.groups.get("points", [])
        if not points:
            return []
        names = names_of(data, self.task.num_targets)
        plots = []
        for place, name in enumerate(names[:MAX_TARGETS]):
            of = f" of {name}" if len(names) > 1 else ""
            pairs = [(float(kept.content[0][place]), float(kept.content[1][place])) for kept in points]
            plots.append(scatter(f"predicted against true{of}", pairs, x="true", y="predicted"))
            errors = [predicted - true for true, predicted in pairs]
            plots.append(histogram(f"residuals{of}", errors, x="predicted - true"))
        return [*plots, self._largest_errors(names, data)]

    def _largest_errors(self, names: Sequence[str], data: Any) -> View:
        named = [self.identify(kept, data) for kept in self.groups["errors"]]
        rows = [
            [*of.values(), *self._error_row(kept, names)] for of, kept in zip(named, self.groups["errors"], strict=True)
        ]
        head = [*(["target"] if len(names) > 1 else []), "true", "predicted", "predicted - true"]
        return table("largest errors", [*(named[0] if named else {}), *head], rows)

    def _error_row(self, kept: Kept, names: Sequence[str]) -> list[str | float]:
        """The target with the largest error."""
        true, predicted = kept.content[:2]
        place = int(((predicted - true).abs() / self.task.std.cpu()).argmax())
        numbers = [float(true[place]), float(predicted[place]), float(predicted[place] - true[place])]
        return [*([names[place]] if len(names) > 1 else []), *numbers]
