"""What does the model confuse, and what do its mistakes look like?"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from train_smarter.data.examples import Batch
from train_smarter.fit.module import Model
from train_smarter.report.figures import (
    Sample,
    confusion_figure,
    pixels,
    png,
    samples_figure,
    samples_table,
    to_visible,
)
from train_smarter.run import tensorboard
from train_smarter.run.files import write_json
from train_smarter.run.tensorboard import warn_skipped
from train_smarter.task.classification import Classification, why_unusable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


MAX_TEXT = 4000  # ... and kept of it in examples.json


class PredictionSamples(Callback):
    """After a test run: each split's confusion matrix, and sample predictions of the last one (usually test).

    For TensorBoard, if the run has it, images are shown as a grid; texts, of a datamodule that has `decode`
    (tokens (T,) -> words), as a table. For the report, each is an entry of examples.json.

    Args:
        samples: predictions shown: half of them mistakes, the surest first, half of them right, the least sure first;
            where one kind is short, the other fills up.
        folder: the run's; None: no examples.json.
    """

    needs_task = True

    def __init__(self, *, samples: int = 16, folder: str | None = None) -> None:
        self.samples = samples
        self.folder = None if folder is None else Path(folder)
        self.top_k = TopKSamples(samples)
        self.unusable = ""  # why the model has no such predictions

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.top_k, self.unusable = TopKSamples(self.samples), ""

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Every process keeps samples of its own share."""
        self.unusable = self.unusable or why_unusable(getattr(pl_module, "task", None), outputs, batch)
        if not self._is_enabled(trainer) or self.unusable:
            return
        assert isinstance(pl_module, Model)
        assert isinstance(pl_module.task, Classification)
        if dataloader_idx == len(pl_module.test_metrics) - 1:
            inputs, labels = batch
            task = pl_module.task
            predicted, probabilities = task.predict_classes(outputs), task.probabilities(outputs.float())
            self.top_k.add(inputs, labels, predicted, probabilities, batch_idx=batch_idx, rank=trainer.global_rank)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_enabled(trainer) or not isinstance(pl_module, Model):
            return
        samples = self.top_k.select(_gather_samples(trainer, self.top_k.samples))
        if self.unusable:
            if trainer.is_global_zero:
                warn_skipped(self, self.unusable)
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        task = pl_module.task
        assert isinstance(task, Classification)
        names = list(getattr(data, "names", None) or map(str, range(task.num_classes)))
        if self.folder is not None and trainer.is_global_zero:
            split = list(pl_module.test_metrics)[-1]
            content = [{"split": split, **sample_entry(sample, names, data)} for sample in samples]
            write_json(self.folder / "examples.json", content)
        for writer in tensorboard.tensorboard_writers(trainer):
            for split, metric in pl_module.test_metrics.items():
                picture = pixels(confusion_figure(torch.tensor(metric.details()["confusion"]), names, title=split))
                writer.add_image(f"confusion/{split}", picture, trainer.global_step, dataformats="HWC")
            if samples:
                tag = f"predictions/{list(pl_module.test_metrics)[-1]}"
                _write_samples(writer, tag, samples, names, data, step=trainer.global_step)

    def _is_enabled(self, trainer: Trainer) -> bool:
        """The same answer in every process."""
        return self.folder is not None or tensorboard.has_tensorboard(trainer)


def _write_samples(
    writer: "SummaryWriter", tag: str, samples: "list[Sample]", names: list[str], data: Any, *, step: int
) -> None:
    """Texts as text, images as an image; other inputs have no picture."""
    if hasattr(data, "decode"):
        writer.add_text(tag, samples_table(samples, names, data.decode), step)
    elif samples[0].input.ndim == 3:
        picture = pixels(samples_figure(samples, names, **_normalization(data)))
        writer.add_image(tag, picture, step, dataformats="HWC")


def _normalization(data: Any) -> dict[str, Any]:
    """A number per channel, as the images were normalised by."""
    return {"mean": getattr(data, "mean", [0.0]), "std": getattr(data, "std", [1.0])}


def sample_entry(sample: "Sample", names: Sequence[str], data: Any) -> dict[str, Any]:
    """An entry of examples.json: what the model made of an input, and the input as an image or a text, if it is one."""
    said = {"true": names[sample.true], "predicted": names[sample.predicted]}
    entry = {**said, "probability": sample.probability, "right": sample.right}
    if hasattr(data, "decode"):
        return entry | {"text": textwrap.shorten(data.decode(sample.input), MAX_TEXT, placeholder=" …")}
    if sample.input.ndim == 3:
        return entry | {"image": png(to_visible(sample.input, **_normalization(data)))}
    return entry


class TopKSamples:
    """Keeps the `count` most telling mistakes and as many hits while batches pass, never a whole split."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.samples: list[Sample] = []

    def add(
        self, inputs: Tensor, labels: Tensor, predicted: Tensor, probabilities: Tensor, *, batch_idx: int, rank: int
    ) -> None:
        """inputs: (B, ...); labels, predicted: (B,) int64; probabilities: (B, K)."""
        sure = probabilities.gather(1, predicted[:, None])[:, 0]  # (B,)
        right = predicted == labels
        for kind, score in ((~right, sure), (right, -sure)):
            # Stable: equals stay in the data set's order.
            best = score.masked_fill(~kind, -torch.inf).argsort(descending=True, stable=True)
            best = best[: min(self.count, int(kind.sum()))]
            columns = (best, labels[best], predicted[best], sure[best])
            found = zip(inputs[best].cpu(), *(column.tolist() for column in columns), strict=True)
            # Cloned: a view would keep, and send to other processes, all that it is a view of.
            self.samples += [Sample(x.clone(), true, guess, p, (batch_idx, i, rank)) for x, i, true, guess, p in found]
        self.samples = self._best(self.samples)

    def _best(self, samples: list[Sample]) -> list[Sample]:
        wrong, right = self._sorted(samples)
        return wrong[: self.count] + right[: self.count]

    def select(self, samples: list[Sample]) -> list[Sample]:
        """`count` of them: mistakes and hits half and half, as far as there are enough of both."""
        wrong, right = self._sorted(samples)
        mistakes = min(len(wrong), max(self.count // 2, self.count - len(right)))
        return wrong[:mistakes] + right[: self.count - mistakes]

    @staticmethod
    def _sorted(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
        ordered = sorted(samples, key=lambda sample: sample.sort_key)
        return [s for s in ordered if not s.right], [s for s in ordered if s.right]


def _gather_samples(trainer: Trainer, samples: list[Sample]) -> list[Sample]:
    """The samples of all processes, in every process: all have to call it."""
    return [sample for share in tensorboard.all_gather(trainer, samples) for sample in share]
