"""Numbers: one or several targets an example."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from train_smarter.errors import UserError, did_you_mean
from train_smarter.task.base import Task, check_shape
from train_smarter.task.samples.regression import RegressionSamples

LOSSES = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.smooth_l1_loss}


class Regression(Task):
    """Outputs are (B, D), in standard deviations of the training targets; targets are floats, (B,) or (B, D).

    The scaling of the targets is learned on the training split and undone in predictions and metrics.

    Args:
        num_targets: D.
        loss: mse, mae or huber (of scaled targets, linear beyond one standard deviation).
        scale_targets: False: outputs and loss are in the unit of the targets.
    """

    OUTPUT_ARGS: ClassVar[Sequence[str]] = ("scale_targets",)
    METRICS: ClassVar[Mapping[str, str]] = {"rmse": "min", "mae": "min", "r2": "max"}
    mean: Tensor
    std: Tensor

    def __init__(self, *, num_targets: int = 1, loss: str = "mse", scale_targets: bool = True, **task: Any) -> None:
        super().__init__(**task)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: give one of {', '.join(LOSSES)}{did_you_mean(str(loss), [*LOSSES])}")
        self.num_targets = self.num_outputs = num_targets
        self.loss_name, self.scale_targets = loss, scale_targets
        self.register_buffer("mean", torch.zeros(num_targets))
        self.register_buffer("std", torch.ones(num_targets))

    def fit(self, targets: Iterable[Tensor]) -> None:
        """Mean and standard deviation of each target; a constant target is only shifted."""
        count, origin = 0, torch.zeros(self.num_targets).double()
        total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
        for batch in targets:
            rows = _rows(batch).cpu().double()
            origin = rows.mean(0) if count == 0 else origin  # squares of large numbers would cancel
            count += len(rows)
            total += (rows - origin).sum(0)
            squares += (rows - origin).square().sum(0)
        shift = total / max(1, count)
        std = (squares / max(1, count) - shift.square()).clamp(min=0).sqrt()
        self.mean.copy_(origin + shift)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def _scaled(self, targets: Tensor) -> Tensor:
        return (_rows(targets) - self.mean) / self.std

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return LOSSES[self.loss_name](outputs, self._scaled(targets) if self.scale_targets else _rows(targets))

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"prediction": outputs * self.std + self.mean if self.scale_targets else outputs}  # (B, D)

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        predicted = outputs.float()
        return predicted if self.scale_targets else self._scaled(predicted), self._scaled(targets)

    def make_metrics(self) -> Metric:
        return RegressionMetrics(self.std, self.metrics)

    def make_samples(self, count: int) -> RegressionSamples:
        return RegressionSamples(self, count)

    def check(self, targets: Any, split: str) -> None:
        floats = isinstance(targets, Tensor) and targets.is_floating_point()
        fits = floats and _rows(targets).ndim == 2 and _rows(targets).shape[1] == self.num_targets
        check_shape(fits, split, f"floats of shape (N, {self.num_targets})", targets)
        if not targets.isfinite().all():
            raise UserError(
                f"{int((~targets.isfinite()).sum())} targets of {split} are NaN or infinite: leave those examples out"
            )

    def chance_loss(self, targets: Tensor) -> float:
        """Loss of the best constant prediction: the mean for mse, the median for mae, between them for huber."""
        rows = _rows(targets).to(self.mean.device)
        rows = self._scaled(rows) if self.scale_targets else rows
        if self.loss_name == "mse":
            best = rows.mean(0)
        else:
            best = rows.median(0).values if self.loss_name == "mae" else _huber_center(rows)
        return float(LOSSES[self.loss_name](best.expand_as(rows), rows))


def _rows(targets: Tensor) -> Tensor:
    """(B,) or (B, D) -> (B, D)."""
    return targets[:, None] if targets.ndim == 1 else targets


def _huber_center(rows: Tensor) -> Tensor:
    """(N, D) -> the constant (D,) with the least Huber loss: where the clipped errors sum to 0, by bisection."""
    low, high = rows.amin(0), rows.amax(0)
    for _ in range(60):
        middle = (low + high) / 2
        above = (rows - middle).clamp(-1, 1).sum(0) > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


class RegressionMetrics(Metric):
    """RMSE, MAE and R2 of one or several targets: their mean over the targets. Only sums are kept.

    Args:
        std: (D,); what predictions and targets were divided by, after their mean was subtracted.
        names: which of rmse, mae and r2.
    """

    full_state_update = False
    std: Tensor
    sums: Tensor
    count: Tensor

    def __init__(self, std: Tensor, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("std", std.clone())
        # Rows: squared errors, absolute errors, targets, squared targets.
        self.add_state("sums", torch.zeros(4, len(std)), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.by_target: dict[str, list[float]] = {}

    def update(self, predicted: Tensor, targets: Tensor) -> None:
        """predicted, targets: (N, D), scaled."""
        error = predicted - targets
        self.sums += torch.stack([error.square().sum(0), error.abs().sum(0), targets.sum(0), targets.square().sum(0)])
        self.count += len(targets)

    def compute(self) -> dict[str, float]:
        squared, absolute, mean, squares = self.sums.cpu().double() / self.count.cpu().clamp(min=1)
        std = self.std.cpu()
        scores = {
            "rmse": squared.sqrt() * std,
            "mae": absolute * std,
            "r2": 1 - squared / (squares - mean.square()).clamp(min=1e-12),
        }
        self.by_target = {name: scores[name].tolist() for name in self.names}
        return {name: float(scores[name].mean()) for name in self.names}

    def details(self) -> dict[str, Any]:
        """The metrics of each target, where there are several."""
        return {"targets": self.by_target} if len(self.std) > 1 else {}
