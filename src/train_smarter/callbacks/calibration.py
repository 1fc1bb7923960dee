"""Can its probabilities be believed?"""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from train_smarter.data.examples import Batch
from train_smarter.fit.module import Model
from train_smarter.run.files import write_json
from train_smarter.run.tensorboard import warn_skipped
from train_smarter.task.classification import Classification

BINS = 15  # of equal width


class Calibration(Callback):
    """After a test run: how often the model is right where it is how sure, for each split, in calibration.json.

    A classification alone has it; other tasks are left alone.
    Counted in bins on the device, batch by batch; fetched once, at the end.

    Args:
        folder: the run's.
    """

    needs_task = True

    def __init__(self, *, folder: str) -> None:
        self.folder = Path(folder)
        self.counts: dict[int, Tensor] = {}  # by the split's place, (3, BINS)
        self.unusable = ""  # why the model has no such thing

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.counts, self.unusable = {}, ""

    def on_test_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        task = getattr(pl_module, "task", None)
        if not isinstance(task, Classification):
            return
        self.unusable = self.unusable or task.why_unusable(outputs, batch)
        if not self.unusable:
            sure, guess = task.probabilities(outputs.float()).max(1)  # (B,), (B,)
            before = self.counts.get(dataloader_idx, 0)
            self.counts[dataloader_idx] = before + bin_confidences(sure, guess == batch[1])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Model) or not isinstance(pl_module.task, Classification):
            return
        nothing = torch.zeros(3, BINS, device=pl_module.device)  # a process may have no example of a small split
        own = torch.stack([self.counts.get(place, nothing) for place in range(len(pl_module.test_metrics))])
        counts = trainer.strategy.reduce(own, reduce_op="sum").cpu()
        if trainer.is_global_zero and self.unusable:
            warn_skipped(self, self.unusable)
        elif trainer.is_global_zero:
            content = {split: calibration(part) for split, part in zip(pl_module.test_metrics, counts, strict=True)}
            write_json(self.folder / "calibration.json", content)


def bin_confidences(confidence: Tensor, right: Tensor) -> Tensor:
    """confidence: (B,) in 0..1; right: (B,) bool -> examples, their confidence and the right ones by bin, (3, BINS).

    A bin holds its upper end; what is no number is held for no confidence at all.
    """
    sure = confidence.nan_to_num(0.0)
    bins = (sure * BINS).ceil().long().clamp(1, BINS) - 1  # (B,)
    rows = torch.stack([torch.ones_like(sure), sure, right.to(sure.dtype)])  # (3, B)
    return torch.zeros(3, BINS, device=sure.device).index_add_(1, bins, rows)


def calibration(counts: Tensor) -> dict[str, Any]:
    """The means of each bin, and the expected calibration error: |accuracy - confidence|, weighted by examples.

    Guo et al., On Calibration of Modern Neural Networks, 2017. counts: (3, BINS), of `bin_confidences`.
    """
    total = max(1.0, float(counts[0].sum()))
    bins = [_make_bin(place, *column) for place, column in enumerate(counts.T.tolist())]
    gaps = [one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins if one["count"]]
    return {"ece": sum(gaps) / total, "bins": bins}


def _make_bin(place: int, count: float, confidence: float, right: float) -> dict[str, Any]:
    means = {"confidence": confidence / count, "accuracy": right / count} if count else {}
    ends = {"low": place / BINS, "high": (place + 1) / BINS}
    return {**ends, "count": int(count), "confidence": None, "accuracy": None, **means}
