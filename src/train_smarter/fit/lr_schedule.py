"""How the learning rate changes over a run."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from train_smarter.errors import UserError
from train_smarter.failures import explain_construction

log = logging.getLogger(__name__)

GROUP_RATES = ("max_lr", "base_lr", "min_lr")  # arguments of torch's schedulers: a number, or one a parameter group


class LRSchedule:
    """A torch scheduler, how often it steps, and a warm-up before it.

    Args:
        factory: a partial of a torch scheduler; each keyword given as the word "auto" is filled in with the number of
            intervals that the run has after its warm-up.
        interval: what one step of the schedule is, "step" (of the optimizer) or "epoch".
        warmup: intervals over which the rate first rises linearly from a hundredth.
        monitor: the metric that a plateau schedule watches.
    """

    def __init__(
        self,
        *,
        torch_scheduler: Callable[..., LRScheduler],
        interval: Literal["step", "epoch"] = "epoch",
        warmup: int = 0,
        monitor: str | None = None,
    ) -> None:
        self.torch_scheduler, self.interval, self.warmup, self.monitor = torch_scheduler, interval, warmup, monitor

    def build(self, optimizer: Optimizer, trainer: Trainer) -> dict[str, Any]:
        """What `configure_optimizers` returns for an optimizer with this schedule."""
        try:
            scheduler = self._fill_total(self._total_steps(trainer), **self._per_group(optimizer))(optimizer)
        except Exception as error:
            made = getattr(self.torch_scheduler, "func", self.torch_scheduler)  # of a partial
            raise explain_construction(error, "scheduler", getattr(made, "__qualname__", made)) from error
        if self.warmup:
            if isinstance(scheduler, ReduceLROnPlateau):
                raise UserError(
                    "scheduler=plateau takes no warm-up: set scheduler.warmup=0, or choose another schedule"
                )
            self._warn_if_too_short(trainer)
            rise = LinearLR(optimizer, start_factor=0.01, total_iters=self.warmup)
            scheduler = SequentialLR(optimizer, [rise, scheduler], milestones=[self.warmup])
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self.interval}
        if self.monitor:  # an epoch may end before the first validation
            config |= {"monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _warn_if_too_short(self, trainer: Trainer) -> None:
        """Of a warm-up that the run does not finish: the learning rate never arrives."""
        count = self._intervals(trainer)
        if count is not None and 0 < count <= self.warmup:
            share = 0.01 + 0.99 * (count - 1) / self.warmup
            log.warning(
                "scheduler.warmup=%d, but the run has %d %ss: the learning rate ends at %.0f%% of optimizer.lr; type "
                "scheduler.warmup=%d or less",
                *(self.warmup, count, self.interval, 100 * share, count // 10),
            )

    def _intervals(self, trainer: Trainer) -> int | None:
        """How many steps of the schedule the run has; None: it has no end."""
        count = trainer.max_epochs if self.interval == "epoch" else _count_steps(trainer)
        return int(count) if count is not None and 0 < count < float("inf") else None

    def _fill_total(self, total: Callable[[], int], **rates: list[float]) -> Callable[[Optimizer], LRScheduler]:
        keywords = getattr(self.torch_scheduler, "keywords", {})
        filled = {name: total() for name, value in keywords.items() if value == "auto"}
        return partial(self.torch_scheduler, **filled, **rates)

    def _per_group(self, optimizer: Optimizer) -> dict[str, list[float]]:
        """The scheduler's learning rates, in the ratio of those of the optimizer's groups where these differ."""
        given = [float(group["lr"]) for group in optimizer.param_groups]
        if len(set(given)) == 1:
            return {}
        base = float(optimizer.defaults["lr"])
        keywords = getattr(self.torch_scheduler, "keywords", {})
        if keywords.get("eta_min"):
            log.warning(
                "scheduler.torch_scheduler.eta_min=%s is the least learning rate of each parameter group, so their "
                "ratio changes towards the end of the run; 0 keeps it",
                keywords["eta_min"],
            )
        return {
            name: [value * rate / base for rate in given]
            for name, value in keywords.items()
            if name in GROUP_RATES and isinstance(value, int | float)
        }

    def _total_steps(self, trainer: Trainer) -> Callable[[], int]:
        def total() -> int:
            count = self._intervals(trainer)
            if count is None:
                raise UserError("this scheduler needs an end to plan for: set trainer.max_epochs or trainer.max_steps")
            return max(1, count - self.warmup)

        return total


def _count_steps(trainer: Trainer) -> float:
    """Optimizer steps of the run; Lightning's estimate takes the accumulation of its start for all epochs."""
    estimate = trainer.estimated_stepping_batches
    scheduled = [each for each in trainer.callbacks if isinstance(each, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    if not scheduled or trainer.max_epochs in (None, -1):
        return estimate
    together = map(scheduled[0].get_accumulate_grad_batches, range(int(trainer.max_epochs or 0)))
    steps = sum(math.ceil(trainer.num_training_batches / each) for each in together)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
