"""How far is it? A bar within an epoch, where there is a terminal, and a row of metrics for each."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from train_smarter.fit.module import Model
from train_smarter.run.results import ranking_key
from train_smarter.terminal import format_metric

REFRESH_SECONDS = 1.0  # least time between two drawings
CELL, GAP = 9, 2  # characters: least width of a column, and what is between two
ENDS = 5 + GAP + 7 + len("  best")  # of epoch, seconds, and the mark of the best


class Progress(ProgressBar):
    """A row for each epoch, as wide as the terminal or 80 characters; on a terminal, a bar within the epoch, too.

    Lightning's own bars read the metrics at every step, which on a GPU waits for the step to end, and redraw the lines
    of all epochs: small networks spent half of their time on that.

    Args:
        refresh_rate: steps between two drawings of the bar, which are at least a second apart; 0: no bar.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__()
        self.refresh_rate = refresh_rate
        self.drawn_at = 0.0  # on the monotonic clock
        self.is_enabled = True  # read by `LightningModule.print`
        self._console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
        self._bar: Bar | None = None
        self._line = TaskID(0)
        self._columns: list[str] = []  # metrics of a row; empty until there is one
        self._epoch: int | None = None  # whose row is not printed yet
        self._began = 0.0
        self._validated = False
        self._best = math.inf  # as a ranking key

    def disable(self) -> None:
        self.is_enabled = False

    def enable(self) -> None:
        self.is_enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self.is_enabled:
            (self._console if self._bar is None else self._bar.console).print(*args, **kwargs)

    # ---- the row of an epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        monitored = trainer.checkpoint_callback
        if isinstance(monitored, ModelCheckpoint) and monitored.best_model_score is not None:  # of a resumed run
            self._best = ranking_key(float(monitored.best_model_score), monitored.mode)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._stop()
        self._print_row(trainer)
        self._epoch, self._began, self._validated = trainer.current_epoch, time.monotonic(), False
        self._start(f"epoch {trainer.current_epoch}", self.total_train_batches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._validated = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._stop()
        self._print_row(trainer)

    def _print_row(self, trainer: Trainer) -> None:
        """Print the row of the last epoch: its training metrics are known when the next one begins."""
        if self._epoch is None or not self.is_enabled:
            return
        seconds = time.monotonic() - self._began
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if self._is_current(name)}
        if not self._columns and values:
            order = _in_order(values, trainer.lightning_module, _monitored(trainer))
            self._columns = _fitting(order, self._console.width)
            names = "".join(f"{name:>{_width(name) + GAP}}" for name in self._columns)
            self.print(Text(f"\nepoch{names}{'seconds':>{7 + GAP}}", "bold"))
        cells = "".join(f"{_cell(values.get(name)):>{_width(name) + GAP}}" for name in self._columns)
        mark = "  best" if self._is_best(trainer, values) else ""
        self.print(Text.assemble(f"{self._epoch:>5}{cells}{seconds:>{7 + GAP}.1f}", (mark, "green")))
        self._epoch = None

    def _is_current(self, name: str) -> bool:
        """Whether a metric is of the epoch as a whole, and not of an earlier one."""
        return not name.endswith("_step") and (self._validated or not name.startswith("val"))

    def _is_best(self, trainer: Trainer, values: Mapping[str, float]) -> bool:
        monitor = _monitored(trainer)
        if monitor is None or monitor not in values:
            return False
        key = ranking_key(values[monitor], getattr(trainer.checkpoint_callback, "mode", None))
        better, self._best = key < self._best, min(key, self._best)
        return better

    # ---- the bar

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        self._advance(batch_idx + 1)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._start("evaluating", sum(trainer.num_test_batches))

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._advance(int(self._bar.tasks[0].completed) + 1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._stop()

    def _start(self, title: str, total: float) -> None:
        self._stop()
        if not (self.is_enabled and self.refresh_rate and self._console.is_terminal):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, TimeRemainingColumn(), console=self._console, transient=True, auto_refresh=False)
        self._line = self._bar.add_task(title, total=total if math.isfinite(total) else None)
        self._bar.start()

    def _advance(self, done: int) -> None:
        if self._bar is None:
            return
        due = done % self.refresh_rate == 0 and time.monotonic() - self.drawn_at >= REFRESH_SECONDS
        self._bar.update(self._line, completed=done, refresh=due)
        if due:
            self.drawn_at = time.monotonic()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _monitored(trainer: Trainer) -> str | None:
    return getattr(trainer.checkpoint_callback, "monitor", None)


def _in_order(names: Mapping[str, float], model: LightningModule, monitor: str | None) -> list[str]:
    """The losses, the monitored metric, then the others as the task orders them, training before validation."""
    metrics = ["loss", *model.task.metrics] if isinstance(model, Model) else []
    known = [f"{split}/{metric}" for metric in metrics for split in ("train", "val")]
    wanted = [*known[:2], str(monitor), *known, *sorted(names)]
    return [name for name in dict.fromkeys(wanted) if name in names]


def _fitting(names: Sequence[str], width: int) -> list[str]:
    """The first names whose columns fit between the epoch and the seconds."""
    chosen: list[str] = []
    for name in names:
        if sum(_width(one) + GAP for one in [*chosen, name]) > width - ENDS:
            break
        chosen.append(name)
    return chosen


def _width(name: str) -> int:
    return max(len(name), CELL)


def _cell(value: float | None) -> str:
    return "-" if value is None else format_metric(value)
