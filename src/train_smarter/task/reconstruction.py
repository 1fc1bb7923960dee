"""The input itself: autoencoders, denoising."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from train_smarter.errors import UserError, did_you_mean
from train_smarter.task.base import Columns, Task
from train_smarter.task.samples.reconstruction import ReconstructionSamples

LOSSES = {"mse": F.mse_loss, "mae": F.l1_loss}


class Reconstruction(Task):
    """Outputs have the shape of the inputs, as the network got them (normalized); the inputs are the targets.

    Args:
        loss: mse or mae.
    """

    METRICS: ClassVar[Mapping[str, str]] = {"rmse": "min", "psnr": "max"}
    MIXES: ClassVar[bool] = True  # the targets are the mixed images

    def __init__(self, *, loss: str = "mse", **task: Any) -> None:
        super().__init__(**task)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: give one of {', '.join(LOSSES)}{did_you_mean(str(loss), [*LOSSES])}")
        self.loss_name = loss

    def targets(self, batch: Any) -> Tensor:
        inputs: Tensor = batch[0]
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.shape != targets.shape:
            raise UserError(f"the network returns {tuple(outputs.shape)} for inputs of {tuple(targets.shape)}")
        return LOSSES[self.loss_name](outputs, targets)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": outputs}

    def true_columns(self, targets: Any, names: Sequence[str]) -> Columns:  # noqa: ARG002
        """None: the true targets are the inputs."""
        return {}

    def chance_loss(self, targets: Tensor) -> float:
        """Loss of the mean input, or the median one, as a constant prediction."""
        rows = targets.float()
        best = rows.mean(0) if self.loss_name == "mse" else rows.median(0).values
        return float(LOSSES[self.loss_name](best.expand_as(rows), rows))

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        error = (outputs - targets).float().square().flatten(1).mean(1)  # (B,)
        return error, targets.amin()[None].float(), targets.amax()[None].float()

    def make_metrics(self) -> Metric:
        return ReconstructionMetrics(self.metrics)

    def make_samples(self, count: int) -> ReconstructionSamples:
        return ReconstructionSamples(self, count)


class ReconstructionMetrics(Metric):
    """RMSE over all values, and the peak signal-to-noise ratio in dB: 10 log10(range^2 / MSE), of the split's range.

    Args:
        names: which of rmse and psnr.
    """

    full_state_update = False
    squared: Tensor
    count: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("squared", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("low", torch.tensor(torch.inf), dist_reduce_fx="min")
        self.add_state("high", torch.tensor(-torch.inf), dist_reduce_fx="max")

    def update(self, error: Tensor, low: Tensor, high: Tensor) -> None:
        """error: mean squared error of each example, (N,); low, high: range of N batches' values."""
        self.squared += error.sum()
        self.count += len(error)
        self.low, self.high = torch.minimum(self.low, low.min()), torch.maximum(self.high, high.max())

    def compute(self) -> dict[str, float]:
        mse = self.squared / self.count.clamp(min=1)
        psnr = 10 * torch.log10((self.high - self.low).square() / mse.clamp(min=1e-20))
        scores = {"rmse": float(mse.sqrt()), "psnr": float(psnr)}
        return {name: scores[name] for name in self.names}
