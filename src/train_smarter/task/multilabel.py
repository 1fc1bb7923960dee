"""Any number of labels an example."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision

from train_smarter.errors import UserError
from train_smarter.task.base import Columns, Task, average_binary_logits, check_shape, entropy
from train_smarter.task.samples.multilabel import MultilabelSamples


class Multilabel(Task):
    """Outputs are logits (B, K); targets are 0 or 1 for each label, (B, K); of mixed examples, from 0 to 1.

    Args:
        num_labels: K.
        threshold: probability from which a label is predicted.
        pos_weight: K factors on the loss of the present labels.
    """

    METRICS: ClassVar[Mapping[str, str]] = {"map": "max", "f1_micro": "max", "f1_macro": "max"}
    MIXES: ClassVar[bool] = True
    pos_weight: Tensor | None

    def __init__(
        self,
        *,
        num_labels: int,
        threshold: float = 0.5,
        pos_weight: Sequence[float] | None = None,
        **task: Any,
    ) -> None:
        super().__init__(**task)
        if pos_weight is not None and len(pos_weight) != num_labels:
            raise UserError(f"task.pos_weight needs {num_labels} numbers, one a label, not {len(pos_weight)}")
        if not 0 < threshold < 1:
            raise UserError(f"task.threshold={threshold}: give a number between 0 and 1")
        self.num_labels = self.num_outputs = num_labels
        self.threshold = threshold
        factors = None if pos_weight is None else torch.tensor(pos_weight, dtype=torch.float)
        self.register_buffer("pos_weight", factors, persistent=False)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), pos_weight=self.pos_weight)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"probabilities": outputs.sigmoid()}

    def average_mirrored(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        return average_binary_logits(outputs, mirrored)

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The predicted labels, separated by spaces, and the probability of each label."""
        rows = prediction["probabilities"]
        columns: Columns = {"labels": _join_present(rows > self.threshold, names)}
        for name, column in zip(names, rows.T, strict=True):
            columns[f"p({name})" if name in columns else name] = column.tolist()
        return columns

    def true_columns(self, targets: Tensor, names: Sequence[str]) -> Columns:
        return {"true": _join_present(targets > 0.5, names)}

    def decisions(self, prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"set of labels": prediction["probabilities"] > self.threshold}

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return outputs.float().sigmoid(), targets > 0.5  # of a mixed example, the labels of the larger share

    def make_metrics(self) -> Metric:
        return MultilabelMetrics(self.num_labels, self.metrics, threshold=self.threshold)

    def make_samples(self, count: int) -> MultilabelSamples:
        return MultilabelSamples(self, count)

    def check(self, targets: Any, split: str) -> None:
        fits = isinstance(targets, Tensor) and targets.ndim == 2 and targets.shape[1] == self.num_labels
        check_shape(fits, split, f"0 or 1 for each label, (N, {self.num_labels})", targets)
        if not ((targets == 0) | (targets == 1)).all():
            raise UserError(f"the targets of {split} hold numbers other than 0 and 1")

    def chance_loss(self, targets: Tensor) -> float | None:
        """The mean entropy of the labels."""
        if self.pos_weight is not None:
            return None
        present = targets.double().sum(0)  # (K,)
        pairs = torch.stack([present, len(targets) - present], 1)  # (K, 2)
        return sum(entropy(pair) for pair in pairs) / len(pairs)


def _join_present(present: Tensor, names: Sequence[str]) -> list[str]:
    """(B, K) bool -> the names of each example's labels, separated by spaces."""
    return [" ".join(name for name, on in zip(names, row, strict=True) if on) for row in present.tolist()]


class MultilabelMetrics(Metric):
    """Mean average precision, F1 micro and macro. mAP needs all probabilities: they are kept on the device.

    Args:
        num_labels: K.
        names: which of map, f1_micro and f1_macro.
        threshold: probability from which a label is predicted.
    """

    full_state_update = False
    counts: Tensor
    probabilities: list[Tensor]
    present: list[Tensor]

    def __init__(self, num_labels: int, names: Iterable[str], *, threshold: float) -> None:
        super().__init__()
        self.num_labels, self.names, self.threshold = num_labels, tuple(names), threshold
        # Rows: true positives, false positives, false negatives.
        self.add_state("counts", torch.zeros(3, num_labels, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("present", [], dist_reduce_fx="cat")
        self.by_label: dict[str, list[float | None]] = {}

    def update(self, probabilities: Tensor, present: Tensor) -> None:
        """probabilities: (N, K), floats; present: (N, K), bool."""
        chosen = probabilities > self.threshold
        self.counts += torch.stack([(chosen & present).sum(0), (chosen & ~present).sum(0), (~chosen & present).sum(0)])
        if "map" in self.names:
            self.probabilities.append(probabilities)
            self.present.append(present)

    def compute(self) -> dict[str, float]:
        hits, wrong, missed = self.counts.cpu().double()
        f1 = 2 * hits / (2 * hits + wrong + missed).clamp(min=1)
        precision, recall = hits / (hits + wrong).clamp(min=1), hits / (hits + missed).clamp(min=1)
        self.by_label = {"precision": precision.tolist(), "recall": recall.tolist(), "f1": f1.tolist()}
        self.by_label["examples"] = (hits + missed).tolist()
        scores = {
            "f1_micro": float(2 * hits.sum() / (2 * hits.sum() + wrong.sum() + missed.sum()).clamp(min=1)),
            "f1_macro": float(f1.mean()),
        }
        if "map" in self.names:
            self.by_label["average_precision"] = average = self._average_precision()
            known = [each for each in average if each is not None]
            scores["map"] = sum(known) / len(known) if known else 0.0
        return {name: scores[name] for name in self.names}

    def _average_precision(self) -> list[float | None]:
        """Of each label; None without an example that has it."""
        both = [torch.cat(part) if isinstance(part, list) else part for part in (self.probabilities, self.present)]
        pairs = zip(both[0].T, both[1].T, strict=True)
        return [float(binary_average_precision(*pair)) if pair[1].any() else None for pair in pairs]

    def details(self) -> dict[str, Any]:
        return {"labels": self.by_label}
