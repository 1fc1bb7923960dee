"""Weights that are validated, saved and evaluated in place of the trained ones: their average, or schedule-free."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class EvaluationWeights(Callback):
    """Validates and saves other weights than those that are trained.

    They are in the model from the start of a validation to its end, and after the training. A checkpoint holds them as
    `state_dict`, so whatever reads it uses the weights that were validated; `current_model_state` has the trained
    weights, for a run that is resumed.

    Attributes:
        description: what the weights in the latest checkpoint are; "": the trained ones.
    """

    def __init__(self) -> None:
        self.description = ""
        self._trained: list[Tensor] | None = None  # the trained weights, while the others are in the model
        self._over = False  # training: the others stay in the model

    # ---- of a subclass

    @property
    def name(self) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        """What the evaluation weights are; "": there are none yet, and the trained weights are evaluated."""
        raise NotImplementedError

    def fill(self, weights: dict[str, Tensor]) -> None:
        """Write the evaluation weights into the tensors of the model."""
        raise NotImplementedError

    def empty(self) -> None:
        """Called before the trained weights are back in the model."""

    # ---- exchange

    @torch.no_grad()
    def _put_in(self, module: LightningModule) -> None:
        self.description = self.description if self._over else self.describe()
        if self._over or self._trained is not None or not self.description:
            return
        weights = weights_of(module)
        self._trained = [weight.clone() for weight in weights.values()]
        self.fill(weights)

    @torch.no_grad()
    def _take_out(self, module: LightningModule) -> None:
        if self._trained is None:
            return
        self.empty()
        torch._foreach_copy_(list(weights_of(module).values()), self._trained)
        self._trained = None

    @contextmanager
    def _exchanged(self, module: LightningModule) -> Iterator[None]:
        inside = self._trained is not None
        self._put_in(module)
        yield
        if not inside:
            self._take_out(module)

    # ---- Lightning's hooks

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._over = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._put_in(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._take_out(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._take_out(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._put_in(pl_module)
        self._trained, self._over = None, True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._over:
            checkpoint["weights"] = self.description
        elif self.describe():
            with self._exchanged(pl_module):
                copies = {name: value.clone() for name, value in trainer.strategy.lightning_module_state_dict().items()}
            checkpoint["current_model_state"], checkpoint["state_dict"] = checkpoint["state_dict"], copies
            checkpoint["weights"] = self.description

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING and "current_model_state" in checkpoint:
            pl_module.load_state_dict(checkpoint["current_model_state"], strict=pl_module.strict_loading)


def weights_of(module: LightningModule) -> dict[str, Tensor]:
    """The floating-point tensors of a module's state by name, tied ones once. A counter has no average."""
    state = module.state_dict(keep_vars=True)
    seen: set[int] = set()
    found = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dtype.is_floating_point and id(value) not in seen:
            seen.add(id(value))
            found[name] = value
    return found


class AveragedWeights(EvaluationWeights):
    """Averages the weights of the steps, or of the ends of epochs; batch norm's statistics as well.

    Args:
        decay: share of the average that an update keeps (Polyak and Juditsky 1992); over the first updates it rises to
            that, as (1 + n) / (10 + n). None: the plain mean (Izmailov et al. 2018).
        interval: what is averaged: the weights after each "step" of the optimizer, or at the end of each "epoch".
        start: the first epoch whose weights count: its number, or as a float the share of the run before it.
    """

    def __init__(self, *, decay: float | None, interval: Literal["step", "epoch"] = "step", start: float = 0) -> None:
        super().__init__()
        self.decay, self.interval, self.start = decay, interval, start
        self.updates = 0
        self._first = 0  # epoch
        self._step = 0  # of the optimizer, at the latest update
        self._average: dict[str, Tensor] = {}
        self._current: list[Tensor] = []  # the model's own tensors, in the order of the average

    @property
    def name(self) -> str:
        return f"an average with decay={'null' if self.decay is None else self.decay}"

    def describe(self) -> str:
        if not self.updates:
            return ""
        kind = "mean" if self.decay is None else f"moving average (decay {self.decay:g})"
        return f"{kind} of the weights of {self.updates} {self.interval}{'s' * (self.updates != 1)}"

    def fill(self, weights: dict[str, Tensor]) -> None:
        torch._foreach_copy_([weights[name] for name in self._average], list(self._average.values()))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        current, loaded = weights_of(pl_module), self._average
        self._current = list(current.values())
        self._average = {
            name: loaded.get(name, value).detach().to(value.device, copy=True) for name, value in current.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._step, self._first = trainer.global_step, _first_epoch(self.start, trainer)
        if self.updates and trainer.current_epoch < self._first:
            self.updates = 0  # a run that is resumed for more epochs starts to average later
        since = f" from epoch {self._first} on" if self._first else ""
        log.info(
            "weights are averaged%s: validation, checkpoints and results use the average; train/ metrics, gradients "
            "and layers.csv are of the trained weights",
            since,
        )
        monitor = str(getattr(trainer.checkpoint_callback, "monitor", None))
        if monitor.startswith("train/"):
            log.warning("monitor=%s measures the trained weights, and best.ckpt holds the average of them", monitor)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step == self._step:  # gradients are accumulated
            return
        self._step = step
        if trainer.current_epoch < self._first or (self.interval == "epoch" and not trainer.is_last_batch):
            return
        self._update()

    @torch.no_grad()
    def _update(self) -> None:
        average, done = list(self._average.values()), self.updates
        if done == 0:
            torch._foreach_copy_(average, self._current)
        else:
            kept = done / (done + 1) if self.decay is None else min(self.decay, (1 + done) / (10 + done))
            torch._foreach_lerp_(average, self._current, 1 - kept)
        self.updates = done + 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if not self.updates:
            log.warning(
                "the weights were not averaged: the run ended before epoch %d; type a smaller start", self._first
            )
        self._average, self._current = {}, []

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if trainer.state.fn == TrainerFn.FITTING and "current_model_state" in checkpoint:
            self._average = dict(checkpoint["state_dict"])


class ScheduleFreeWeights(EvaluationWeights):
    """Evaluates the average that a schedule-free optimizer makes; part of each run that has one.

    Its `eval` and `train` move the weights and back, up to rounding; here they come back to the last bit.
    """

    name = "optimizer=schedulefree"

    def __init__(self) -> None:
        super().__init__()
        self._optimizers: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        self._optimizers = [optimizer for optimizer in trainer.optimizers if is_schedule_free(optimizer)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        log.info(
            "schedule-free: validation, checkpoints and results use the average of the optimizer; train/ metrics, "
            "gradients and layers.csv are of the weights at which gradients are taken"
        )
        self.empty()

    def describe(self) -> str:
        return "schedule-free average" if any(optimizer.state for optimizer in self._optimizers) else ""

    def fill(self, weights: dict[str, Tensor]) -> None:  # noqa: ARG002
        for optimizer in self._optimizers:
            optimizer.eval()

    def empty(self) -> None:
        for optimizer in self._optimizers:
            optimizer.train()


def is_schedule_free(optimizer: Any) -> bool:
    """Whether an optimizer, or its class, evaluates other weights than it trains."""
    return callable(getattr(optimizer, "eval", None)) and callable(getattr(optimizer, "train", None))


def _first_epoch(start: float, trainer: Trainer) -> int:
    if isinstance(start, int):
        return start
    steps, batches = trainer.estimated_stepping_batches, trainer.num_training_batches
    if math.isinf(steps) or math.isinf(batches):
        raise UserError(
            f"averaging from {start:g} of the run on needs to know its length: give the number of an epoch, "
            "callbacks.swa.start=10, or set trainer.max_epochs"
        )
    epochs = math.ceil(steps / max(1, math.ceil(batches / trainer.accumulate_grad_batches)))
    return math.ceil(start * epochs)
