"""Speed and memory of a training step by batch size, up to the size that does not fit."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from train_smarter.data.storage import free_memory

WARM_UP = 2  # steps that are not timed
SATURATED = 0.95  # of the highest speed: a smaller batch with that is as good
RESOLUTION = 1 / 8  # of a size: the search between the last that fits and the first that does not ends


@dataclass(frozen=True)
class Measured:
    """One batch size.

    Attributes:
        speed: examples per second of a training step, or None: the batch did not fit.
        memory: the peak in bytes: on a GPU what torch reserves, on a CPU what the whole process holds.
    """

    size: int
    speed: float | None
    memory: int | None


class StepTimer(Callback):
    """Times each step from the end of the one before, the batch's way to the device included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since: float | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ARG002
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        if self._since is not None:
            self.seconds.append(now - self._since)
        self._since = now

    @property
    def median(self) -> float:
        return statistics.median(self.seconds[WARM_UP - 1 :])


def search_sizes(
    measure: Callable[[int], Measured], *, smallest: int, largest: int, room: Callable[[list[Measured]], bool]
) -> list[Measured]:
    """Double the size until it does not fit, and bisect.

    Args:
        measure: one size.
        largest: a size never exceeds this.
        room: whether to double once more, by what was measured so far.

    Returns:
        What was measured, by size.
    """
    found: list[Measured] = []
    size = min(smallest, largest)
    while True:
        found.append(measure(size))
        if found[-1].speed is None or size == largest or not room(found):
            break
        size = min(2 * size, largest)
    if found[-1].speed is None:
        low, high = (found[-2].size if len(found) > 1 else 0), size
        while high - low > max(1, low * RESOLUTION):
            middle = (low + high) // 2
            found.append(measure(middle))
            low, high = (middle, high) if found[-1].speed is not None else (low, middle)
    return sorted(found, key=lambda one: one.size)


def has_room(found: list[Measured]) -> bool:
    """On a CPU, where too large a batch ends the process: whether the next size fits, and may be faster."""
    last, free = found[-1], free_memory()
    if last.memory is not None and free is not None:
        earlier = found[-2].memory if len(found) > 1 else None
        growth = last.memory - (earlier or last.memory)
        if 4 * growth > free:  # doubling a size about doubles what it adds
            return False
    speeds = [one.speed or 0.0 for one in found]
    return len(speeds) <= 4 or max(speeds[-3:]) * SATURATED > max(speeds[:-3])


def choose_size(found: list[Measured], *, most: int) -> Measured | None:
    """The smallest size that is about as fast as any up to `most`; None: not even the smallest fits."""
    fit = [one for one in found if one.speed is not None]
    fit = [one for one in fit if one.size <= most] or fit[:1]
    best = max((one.speed or 0.0 for one in fit), default=0.0)
    return next((one for one in fit if (one.speed or 0.0) >= SATURATED * best), None)


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
