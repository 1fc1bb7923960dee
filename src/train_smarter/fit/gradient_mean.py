"""The gradient of an optimizer step is one mean over all that was gathered for it, not a mean of means."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from torch import Tensor


class GradientMean:
    """Weighs the batches of an optimizer step: sum(weight * gradient of a batch's mean loss) / sum(weight).

    Lightning divides each loss by `accumulate_grad_batches`, even where the end of an epoch leaves fewer batches, and
    DDP averages over processes, whatever their batches weigh. Where all batches weigh the same, each factor is exactly
    1: no bit changes.

    Attributes:
        weight: what the mean loss of the current batch was divided by; None: unknown, all batches weigh the same.
    """

    def __init__(self) -> None:
        self.weight: int | Tensor | None = None
        self._world = 1
        # Means over processes: the weight of the first batch of a step, and those of all of its batches in that unit.
        self._unit: float | Tensor = 1.0
        self._gathered: float | Tensor | None = None

    def attach(self, module: LightningModule, *, world: int) -> None:
        """Wrap the two hooks of a module with automatic optimization, its own ones too.

        Args:
            world: the number of processes.
        """
        self._world = world
        for hook, wrapper in (("backward", self._backward), ("optimizer_step", self._optimizer_step)):
            original = getattr(module, hook)
            if getattr(original, "func", None) != wrapper:  # not of an earlier fit
                wrapped = partial(wrapper, original, module)
                wrapped.__wrapped__ = original  # type: ignore[attr-defined]  # Lightning looks here for overrides
                setattr(module, hook, wrapped)

    def _backward(
        self, original: Callable[..., None], module: LightningModule, loss: Tensor, *args: Any, **kwargs: Any
    ) -> None:
        if self._world > 1 or _accumulates(module):
            factor = self._factor(module.trainer, loss.device)
            if isinstance(factor, Tensor):
                loss = loss * factor.to(loss.dtype)
            elif factor != 1:
                loss = loss * factor
        original(loss, *args, **kwargs)

    def _factor(self, trainer: Trainer, device: torch.device) -> float | Tensor:
        """The weight of the current batch, in units of the step's first batch."""
        weight, self.weight = 1 if self.weight is None else self.weight, None
        mean = _mean_over_processes(weight, device) if self._world > 1 else weight
        together = trainer.accumulate_grad_batches
        if self._gathered is None or trainer.fit_loop.epoch_loop.batch_idx % together == 0:
            self._unit, self._gathered = _or_one(mean), 0.0
        self._gathered = self._gathered + mean / self._unit
        return weight / self._unit

    def _optimizer_step(
        self,
        original: Callable[..., None],
        module: LightningModule,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        if optimizer_closure is not None and _accumulates(module):
            optimizer_closure = partial(self._gather, optimizer_closure, module)
        original(epoch, batch_idx, optimizer, optimizer_closure)

    def _gather(self, closure: Callable[[], Any], module: LightningModule) -> Any:
        """Compute the gradients of a step's last batch, and divide all of them by what was gathered.

        Here, unscaling, clipping and the callbacks that look at the gradients are still to come.
        """
        output = closure()
        gathered, self._gathered = self._gathered, None
        if gathered is None:  # `training_step` returned no loss
            return output
        factor = module.trainer.accumulate_grad_batches / _or_one(gathered)
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        if gradients and (isinstance(factor, Tensor) or factor != 1):
            torch._foreach_mul_(gradients, factor)
        return output


def _accumulates(module: LightningModule) -> bool:
    # `module.trainer` checks more than a small model's step can afford.
    return module._trainer.accumulate_grad_batches > 1  # type: ignore[union-attr]


def _mean_over_processes(weight: int | Tensor, device: torch.device) -> Tensor:
    total = torch.empty((), dtype=torch.float64, device=device)
    _ = total.copy_(weight) if isinstance(weight, Tensor) else total.fill_(weight)  # neither waits for a GPU
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _or_one(weight: float | Tensor) -> float | Tensor:
    """The weight, or 1 in place of 0: a divisor."""
    return torch.where(weight > 0, weight, 1.0) if isinstance(weight, Tensor) else weight or 1.0
