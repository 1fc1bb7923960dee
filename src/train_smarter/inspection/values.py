"""Ranges of numbers: of a batch, and of a training split in pieces."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from train_smarter.inspection.sampling import Sample

Content = dict[str, Any]


def named_parts(tree: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a dict or tuple by name, `inputs.image` or `inputs[0]`; a tensor itself is `inputs`."""
    if isinstance(tree, Tensor):
        return {name: tree}
    if isinstance(tree, Mapping):
        parts = {f"{name}.{key}": part for key, part in tree.items()}
    elif isinstance(tree, tuple | list):
        parts = {f"{name}[{place}]": part for place, part in enumerate(tree)}
    else:
        return {}
    return {path: tensor for key, part in parts.items() for path, tensor in named_parts(part, key).items()}


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch; of one that is no pair, all of it as inputs."""
    return (batch[0], batch[1]) if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)


def describe_batch(batch: Any) -> list[Content]:
    """Range, type and shape of each tensor of a batch."""
    inputs, targets = split_batch(batch)
    parts = named_parts(inputs, "inputs") | named_parts(targets, "targets")
    found = []
    for name, part in parts.items():
        values = ValueRange(per_column=False)
        for piece in part.detach().cpu().split(256) if part.ndim else [part.detach().cpu().reshape(1)]:
            values.add(piece)
        dtype = str(part.dtype).removeprefix("torch.")
        found.append({"part": name, "dtype": dtype, "shape": list(part.shape), **values.to_rows()[0]})
    return found


def describe_columns(sample: Sample) -> dict[str, list[Content]]:
    """Range of each column of a table (N, D) and of each channel of images (N, C, H, W), as they are stored."""
    ranges: dict[str, ValueRange] = {}
    for inputs, _ in sample.pieces():
        for name, part in named_parts(inputs, "inputs").items():
            ranges.setdefault(name, ValueRange(per_column=_has_columns(part))).add(part)
    return {name: values.to_rows() for name, values in ranges.items()}


def _has_columns(part: Tensor) -> bool:
    return part.ndim == 4 or (part.ndim == 2 and part.is_floating_point())


class ValueRange:
    """Minimum, maximum, mean and deviation of finite values, in pieces; NaN and infinite values are counted.

    Args:
        per_column: of each column or channel (dimension 1), instead of all values together.
    """

    def __init__(self, *, per_column: bool) -> None:
        self.per_column = per_column
        self._pieces: list[Tensor] = []  # (7, D) each: see `add`

    def add(self, part: Tensor) -> None:
        """Part: (n, ...)."""
        flat = (part.movedim(1, 0).flatten(1) if self.per_column else part.reshape(1, -1)).double()
        finite = flat.isfinite()
        count, total = finite.sum(1), flat.where(finite, 0).sum(1)
        squares = ((flat - (total / count)[:, None]) ** 2).where(finite, 0).sum(1)
        low, high = flat.where(finite, torch.inf).amin(1), flat.where(finite, -torch.inf).amax(1)
        self._pieces.append(torch.stack([count, total, squares, low, high, flat.isnan().sum(1), flat.isinf().sum(1)]))

    def to_rows(self) -> list[Content]:
        """A dict for each column; None where there is no finite value."""
        count, total, squares, low, high, missing, infinite = torch.stack(self._pieces, 1)  # (pieces, D) each
        mean = total.sum(0) / count.sum(0)
        # The pieces' own deviations, and those of their means: a sum of squares would lose its digits.
        between = (count * (total / count.clamp(min=1) - mean) ** 2).sum(0)
        std = ((squares.sum(0) + between) / count.sum(0)).sqrt()
        columns = {"min": low.amin(0), "max": high.amax(0), "mean": mean, "std": std}
        counts = {"nan": missing.sum(0), "infinite": infinite.sum(0)}
        return [
            {name: float(of[place]) if count[:, place].any() else None for name, of in columns.items()}
            | {name: int(of[place]) for name, of in counts.items()}
            for place in range(len(mean))
        ]
