"""Skip what Lightning calls every step although it does nothing."""

from contextlib import AbstractContextManager, nullcontext

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler

# What Lightning calls at every training batch, in the model and in each callback.
BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def skip_idle_hooks(trainer: Trainer, model: LightningModule) -> None:
    """Takes the batch hooks away that nobody has filled: Lightning skips what is no function.

    It would enter and leave each of them, sixty in all: a third of the step of `experiment=mnist_mlp`.
    """
    parts = [(callback, Callback) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for part, base in [(model, LightningModule), *parts]:
        for hook in BATCH_HOOKS:
            if getattr(type(part), hook) is getattr(base, hook) and hook not in vars(part):
                setattr(part, hook, None)


class NoOpProfiler(PassThroughProfiler):
    """Measures nothing, and makes no context for it, some thirty times a step."""

    context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # noqa: ARG002
        return self.context
