"""Loss and metrics of one split, over one epoch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

BUFFER_SIZE = 64  # steps that are counted together


class SplitMetric(Metric):
    """Sums losses and weights, and updates the task's metrics, on the device; nothing is synchronised before `scores`.

    A step only leaves its tensors here (`append`): counted a few dozen steps at a time, they cost a small model's step
    next to nothing.

    Args:
        metrics: a `torchmetrics.Metric` or `MetricCollection` whose `compute` returns {name: value}, None the value of
            what this split does not measure; None: the loss is the only metric.

    Attributes:
        unmeasured: names of the metrics that the split does not measure; after `scores`.
    """

    full_state_update = False
    loss_sum: Tensor
    weight_sum: Tensor
    count: Tensor

    def __init__(self, metrics: nn.Module | None = None) -> None:
        super().__init__()
        self.metrics = metrics
        self.buffer: list[tuple[Tensor, int | Tensor, tuple[Tensor, ...]]] = []
        self.add_state("loss_sum", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("weight_sum", torch.zeros(()), dist_reduce_fx="sum")  # of weights that are tensors
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")  # of weights that are ints
        self.unmeasured: set[str] = set()
        self._scores: dict[str, float] | None = None

    def append(self, loss: Tensor, weight: int | Tensor, inputs: tuple[Tensor, ...]) -> None:
        """Add one step.

        Args:
            loss: mean over the batch, a scalar.
            weight: what that mean was divided by.
            inputs: of the metrics; tensors whose first dimension may be concatenated with that of other steps.
        """
        self.buffer.append((loss.detach() * weight, weight, inputs))
        if len(self.buffer) >= BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Count the steps of the buffer."""
        if not self.buffer:
            return
        losses, weights, inputs = zip(*self.buffer, strict=True)
        self.buffer = []
        self.update(losses, weights)
        if self.metrics is not None:
            self.metrics.update(*(torch.cat(parts) for parts in zip(*inputs, strict=True)))  # type: ignore[operator]

    def update(self, losses: tuple[Tensor, ...], weights: tuple[int | Tensor, ...]) -> None:
        """Add several steps; losses: each the sum over its batch, a scalar."""
        self._scores = None
        self.loss_sum += torch.stack(losses).sum()
        self.count += sum(weight for weight in weights if isinstance(weight, int))
        if tensors := [weight for weight in weights if isinstance(weight, Tensor)]:
            self.weight_sum += torch.stack(tensors).sum()

    def compute(self) -> Tensor:
        """The mean loss of what has been counted."""
        total = self.count + self.weight_sum
        return self.loss_sum / torch.where(total > 0, total, 1.0)

    def scores(self) -> dict[str, float]:
        """`loss` and the task's metrics, as plain numbers; over all processes. Called in every process."""
        self.flush()
        if self._scores is None:
            values = self.metrics.compute() if self.metrics is not None else {}  # type: ignore[operator]
            self.unmeasured = {name for name, value in values.items() if value is None}
            known = {name: float(value) for name, value in values.items() if value is not None}
            self._scores = {"loss": float(self.compute()), **known}
        return self._scores

    def details(self) -> dict[str, Any]:
        """What the task's metrics keep for reports beside numbers, as JSON values; after `scores`."""
        return self.metrics.details() if hasattr(self.metrics, "details") else {}  # type: ignore[operator, union-attr]

    # ---- its state, for a run that resumes within an epoch

    def buffered_state(self) -> dict[str, Any]:
        """Return the state on the CPU, for `load_buffered_state`. The buffer is not counted: sums stay bit for bit."""
        states = {f"{name}/{key}": _to(value, "cpu") for name, metric in self._parts() for key, value in _state(metric)}
        buffer = [
            (loss.cpu(), _to(weight, "cpu"), [part.cpu() for part in inputs]) for loss, weight, inputs in self.buffer
        ]
        return {"states": states, "buffer": buffer}

    def load_buffered_state(self, saved: dict[str, Any]) -> None:
        """Resume from what `buffered_state` returned."""
        for name, metric in self._parts():
            for key, _ in _state(metric):
                setattr(metric, key, _to(saved["states"][f"{name}/{key}"], self.device))
            metric._update_count = 1  # or torchmetrics warns that it was never updated
        self.buffer = [
            (loss.to(self.device), _to(weight, self.device), tuple(part.to(self.device) for part in inputs))
            for loss, weight, inputs in saved["buffer"]
        ]

    def _parts(self) -> Iterator[tuple[str, Metric]]:
        return ((name, part) for name, part in self.named_modules() if isinstance(part, Metric))


def _state(metric: Metric) -> list[tuple[str, Any]]:
    return [(name, getattr(metric, name)) for name in metric._defaults]


def _to(value: Any, device: Any) -> Any:
    """A tensor, or a list of some, on a device; a number stays what it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    return [each.to(device) for each in value] if isinstance(value, list) else value
