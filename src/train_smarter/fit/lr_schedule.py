"""How the learning rate changes over a run."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from train_smarter.errors import UserError
from train_smarter.failures import explain_construction


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
            scheduler = self._fill_total(self._total_steps(trainer))(optimizer)
        except Exception as error:
            made = getattr(self.torch_scheduler, "func", self.torch_scheduler)  # of a partial
            raise explain_construction(error, "scheduler", getattr(made, "__qualname__", made)) from error
        if self.warmup:
            if isinstance(scheduler, ReduceLROnPlateau):
                raise UserError(
                    "scheduler=plateau takes no warm-up: set scheduler.warmup=0, or choose another schedule"
                )
            rise = LinearLR(optimizer, start_factor=0.01, total_iters=self.warmup)
            scheduler = SequentialLR(optimizer, [rise, scheduler], milestones=[self.warmup])
        config = {"scheduler": scheduler, "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config | ({"monitor": self.monitor} if self.monitor else {})}

    def _fill_total(self, total: Callable[[], int]) -> Callable[[Optimizer], LRScheduler]:
        keywords = getattr(self.torch_scheduler, "keywords", {})
        return partial(self.torch_scheduler, **{name: total() for name, value in keywords.items() if value == "auto"})

    def _total_steps(self, trainer: Trainer) -> Callable[[], int]:
        def total() -> int:
            count = trainer.max_epochs if self.interval == "epoch" else trainer.estimated_stepping_batches
            if count is None or not 0 < count < float("inf"):
                raise UserError("this scheduler needs an end to plan for: set trainer.max_epochs or trainer.max_steps")
            return max(1, int(count) - self.warmup)

        return total
