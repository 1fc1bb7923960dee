"""Keeps a few examples of a test run for the report, without holding a whole split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from train_smarter.data.examples import first_tensor, map_tensors, take_rows
from train_smarter.task.samples.views import View


@dataclass(frozen=True)
class Kept:
    """An example that is kept.

    score: the larger, the sooner it is shown; index: of the example in its split; content: its tensors, on the CPU.
    """

    score: float
    index: int
    content: Any


class Samples:
    """Keeps examples of a split while its batches pass, in every process, and makes views of them in the first one.

    A subclass implements `add`, which calls `keep`, and `views`.

    Args:
        task: the task that made it.
        count: examples to show.

    Attributes:
        groups: kept examples by the name of their group, the first to show first.
    """

    file: ClassVar[str] = "samples.json"  # in the run folder

    def __init__(self, task: Any, count: int) -> None:  # Any: the module of a task imports its samples
        self.task, self.count = task, count
        self.groups: dict[str, list[Kept]] = {}
        self._counts: dict[str, int] = {}  # kept at most, by group

    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:
        """Keep what is worth showing of a batch; indices: of its examples in the split."""
        raise NotImplementedError

    def views(self, data: Any, network: Any) -> list[View]:
        """What to show; see `train_smarter.task.samples.views`.

        Args:
            data: the datamodule.
            network: inputs of a batch -> outputs, in evaluation mode.
        """
        raise NotImplementedError

    def content(self, split: str, data: Any, network: Any) -> Any:
        """The content of `file`."""
        return {"split": split, "views": self.views(data, network) if self.count else []}

    def keep(self, group: str, scores: Tensor, content: Any, indices: Sequence[int], *, count: int) -> None:
        """Keep the `count` examples with the largest scores of all batches; of equal ones, the first.

        Args:
            group: its name.
            scores: (B,); what is NaN or -inf is not kept.
            content: a tree of tensors with B rows.
            indices: of the examples in the split.
            count: how many are kept.
        """
        scores = scores.detach().double().nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        best = scores.argsort(descending=True, stable=True)[:count]
        best = best[scores[best] > -torch.inf]
        rows = take_rows(content, best.to(first_tensor(content).device))
        rows = map_tensors(lambda part: part.detach().cpu(), rows)
        found = zip(best.tolist(), scores[best].tolist(), strict=True)
        # Cloned: a view would keep, and send to other processes, all that it is a view of.
        new = [Kept(score, indices[row], _row(rows, place)) for place, (row, score) in enumerate(found)]
        self.groups[group] = _sorted([*self.groups.get(group, []), *new])[:count]
        self._counts[group] = count

    def merge(self, shares: Sequence[Mapping[str, list[Kept]]]) -> None:
        """Take over the groups of all processes, this one included."""
        names = dict.fromkeys(name for share in shares for name in share)
        together = {name: [kept for share in shares for kept in share.get(name, [])] for name in names}
        self.groups = {name: _sorted(kept)[: self._counts.get(name)] for name, kept in together.items()}


def _sorted(kept: list[Kept]) -> list[Kept]:
    return sorted(kept, key=lambda one: (-one.score, one.index))


def _row(rows: Any, place: int) -> Any:
    return map_tensors(lambda part: part[place].clone(), rows)


def spread(indices: Sequence[int]) -> Tensor:
    """A number for each example that depends on its index alone: the largest ones are a random choice of a split."""
    return torch.tensor([index * 2654435761 % 2**32 for index in indices], dtype=torch.double)
