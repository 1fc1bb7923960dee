"""The learning-rate range test: a few steps, each with a higher rate (Smith 2017)."""

import math
from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer

SMOOTHING = 0.9  # share of the moving average of the losses that a step keeps
DIVERGED = 4.0  # times the lowest smoothed loss: the test ends
MIN_STEPS = 10  # fewer make no curve
WINDOW = 0.03  # of all steps, on each side of one, over which its loss is averaged
LEAST_FALL = 0.02  # share of the first loss by which it has to fall
NOISE = 0.2  # share of the whole fall: a smaller one may be noise
RISE = 0.25  # share of the fall so far: such a rise ends the range


class LRSweep(Callback):
    """Sets the rate of each step, and records its loss; parameter groups keep their ratio.

    Args:
        low, high: the first and the last rate.
        steps: of the optimizer.

    Attributes:
        losses: (rate, mean training loss of the step's batches), one a step.
    """

    def __init__(self, *, low: float, high: float, steps: int) -> None:
        self.low, self.high, self.steps = low, high, steps
        self.losses: list[tuple[float, float]] = []
        self._batches: list[float] = []  # losses of the step under way
        self._ratios: list[list[float]] = []
        self._average = self._lowest = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        for optimizer in trainer.optimizers:
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            self._ratios.append([rate / max(rates) for rate in rates])

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        for optimizer, ratios in zip(trainer.optimizers, self._ratios, strict=True):
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = self._rate * ratio

    @property
    def _rate(self) -> float:
        share = len(self.losses) / max(1, self.steps - 1)
        return self.low * math.pow(self.high / self.low, share)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:  # noqa: ARG002
        # Lightning divides a loss by the number of batches that are accumulated.
        self._batches.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if trainer.global_step <= len(self.losses):  # gradients are accumulated
            return
        loss, self._batches = sum(self._batches) / len(self._batches), []
        self.losses.append((self._rate, loss))
        self._average = smooth([loss for _, loss in self.losses])[-1]
        self._lowest = min(self._lowest, self._average)
        if not math.isfinite(loss) or self._average > DIVERGED * self._lowest:
            trainer.should_stop = True


def smooth(losses: Sequence[float]) -> list[float]:
    """The moving average, without the pull of its start at zero."""
    average, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**number))
    return found


def steepest_rate(losses: Sequence[tuple[float, float]]) -> float | None:
    """The rate at which the loss falls fastest, before it first rises again; None: it does not fall.

    Rates are on a logarithmic scale, so equal steps are equal distances. Rounded to two digits.
    """
    finite = [(rate, loss) for rate, loss in losses if math.isfinite(loss)]
    if len(finite) < MIN_STEPS:
        return None
    width = max(1, round(len(losses) * WINDOW))
    curve = [_mean_around(finite, place, width) for place in range(len(finite))]  # not `smooth`, which lags
    slopes = [(curve[place + 1] - curve[place - 1], place) for place in range(1, _first_rise(curve))]
    if not slopes or min(slopes)[0] >= 0 or min(curve) > (1 - LEAST_FALL) * curve[0]:
        return None
    return float(f"{finite[min(slopes)[1]][0]:.1e}")


def _mean_around(losses: Sequence[tuple[float, float]], place: int, width: int) -> float:
    near = [loss for _, loss in losses[max(0, place - width) : place + width + 1]]
    return sum(near) / len(near)


def _first_rise(curve: Sequence[float]) -> int:
    """Where the lowest loss is, before it rises by a share of its fall; the fall itself is not noise."""
    whole, lowest = curve[0] - min(curve), 0
    for place, loss in enumerate(curve):
        if loss < curve[lowest]:
            lowest = place
        fall = curve[0] - curve[lowest]
        if fall > NOISE * whole and loss - curve[lowest] > RISE * fall:
            break
    return lowest
