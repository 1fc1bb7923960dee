"""Shortcuts within a training step. `speed=false` leaves all of them out.

Measured as a share of the step of the named experiment, on two CPU cores; docs/benchmarks.md has the figures.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from train_smarter.speed.dropout import Dropout

# What Lightning calls at every training batch, in the model and in each callback.
BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def accelerate(trainer: Trainer, model: LightningModule) -> None:
    """Replace what a step may do faster with the same result; only the random numbers of dropout differ."""
    replace_dropout(model)
    if type(model).configure_gradient_clipping is LightningModule.configure_gradient_clipping:
        model.configure_gradient_clipping = partial(clip_gradients, model)  # type: ignore[method-assign]
    skip_idle_hooks(trainer, model)


def replace_dropout(module: nn.Module) -> None:
    """Replace each `nn.Dropout` by one that draws its mask faster on a CPU: 1/7 of the step of `imdb_lstm`."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            faster = Dropout(child.p, child.inplace)
            faster.training = child.training
            setattr(module, name, faster)
        else:
            replace_dropout(child)


def skip_idle_hooks(trainer: Trainer, model: LightningModule) -> None:
    """Remove the batch hooks that are not overridden: Lightning skips a hook that is not callable.

    Otherwise it enters and leaves each of them, sixty per step: 1/3 of the step of `mnist_mlp`.
    """
    parts = [(callback, Callback) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for part, base in [(model, LightningModule), *parts]:
        for hook in BATCH_HOOKS:
            if getattr(type(part), hook) is getattr(base, hook) and hook not in vars(part):
                setattr(part, hook, None)


def clip_gradients(
    model: LightningModule,
    optimizer: Any,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: str | None = None,
) -> None:
    """Clip by norm in three kernels for all weights: the numbers of `clip_grad_norm_`, 1/10 of the step of `mnist_mlp`.

    Lightning clips in several processes, a scaled loss, by value, and gradients that are not dense strided tensors.
    """
    trainer = model.trainer
    alone = trainer.world_size == 1 and trainer.precision != "16-mixed"
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    dense = all(type(gradient) is torch.Tensor and gradient.layout == torch.strided for gradient in gradients)
    if not (alone and dense and gradients and gradient_clip_val) or gradient_clip_algorithm == "value":
        model.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (gradient_clip_val / (norm + 1e-6)).clamp_(max=1.0))


class NoOpProfiler(PassThroughProfiler):
    """Return the same empty context for each of the thirty actions that Lightning profiles per step."""

    context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # noqa: ARG002
        return self.context
