"""How large are the steps that the loss asks for, and how often does clipping cut them?"""

from lightning import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class GradientNorm(Callback):
    """Logs the norm of all gradients together as `train/grad_norm`, every `trainer.log_every_n_steps` steps.

    Seen before clipping, after accumulation, the mean over processes and the unscaling of mixed precision; so the share
    of points above `trainer.gradient_clip_val` is the share of clipped steps. A scalar, so every logger takes it.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:  # noqa: ARG002
        if not trainer.loggers or not self._due(trainer):
            return
        gradients = [p.grad.detach() for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            pl_module.log("train/grad_norm", get_total_norm(gradients))  # stays on the device until it is logged

    def _due(self, trainer: Trainer) -> bool:
        """Whether Lightning hands this step's values to the loggers."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return bool(every) and (trainer.global_step + 1) % every == 0
