"""How often each target occurs in each split, or how its numbers are distributed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from train_smarter.inspection.sampling import Sample
from train_smarter.inspection.values import named_parts

Content = dict[str, Any]
Pieces = dict[str, list[Tensor]]  # of one part of the targets, by split
QUANTILES = {"min": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "max": 1.0}
MAX_NUMBERS = 1_000_000  # of a column, of which quantiles are computed


def count_targets(samples: Mapping[str, Sample], names: Sequence[str]) -> list[Content]:
    """Describe each part of the targets.

    Args:
        samples: of the targets of each split, as the inputs of examples without targets.
        names: of the classes, labels or target columns.

    Returns:
        A dict for each part: `part`; `kind`, one of classes, labels, pixels and numbers; and `counts`, a count by name
        and split, or, of numbers, `quantiles`, a dict of them by name and split.
    """
    parts: dict[str, Pieces] = {}
    for split, sample in samples.items():
        for targets, _ in sample.pieces():
            for name, part in named_parts(targets, "targets").items():
                parts.setdefault(name, {}).setdefault(split, []).append(part)
    return [{"part": name, **_describe(pieces, list(names))} for name, pieces in parts.items()]


def _describe(pieces: Pieces, names: list[str]) -> Content:
    first = next(iter(pieces.values()))[0]
    whole = not first.is_floating_point()
    if whole and first.ndim != 2:
        counts = {split: _count_values(of) for split, of in pieces.items()}
        return {"kind": "classes" if first.ndim == 1 else "pixels", "counts": _counts(counts, names)}
    if first.ndim == 2 and len(names) == first.shape[1] and all(map(_is_binary, chain(*pieces.values()))):
        present = {split: dict(enumerate(torch.cat(of).sum(0).long().tolist())) for split, of in pieces.items()}
        return {"kind": "labels", "counts": _counts(present, names)}
    return {"kind": "numbers", "quantiles": _quantiles(pieces, names)}


def _is_binary(part: Tensor) -> bool:
    return bool(((part == 0) | (part == 1)).all())


def _count_values(pieces: Sequence[Tensor]) -> Mapping[int, int]:
    counts: Counter[int] = Counter()
    for piece in pieces:
        values, times = piece.unique(return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return counts


def _counts(found: Mapping[str, Mapping[int, int]], names: list[str]) -> dict[str, dict[str, int]]:
    """By name and split; a class that has a name and no example counts 0."""
    values = sorted({*range(len(names)), *(value for counts in found.values() for value in counts)})
    spelled = {value: names[value] if 0 <= value < len(names) else str(value) for value in values}
    return {spelled[value]: {split: counts.get(value, 0) for split, counts in found.items()} for value in values}


def _quantiles(pieces: Pieces, names: list[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for split, of in pieces.items():
        rows = torch.cat([piece.reshape(len(piece), -1) for piece in of]).double()
        # Of tokens (N, T), a place in the sequence is no column.
        columns = rows.T if of[0].is_floating_point() else rows.reshape(1, -1)
        known = names if len(names) == len(columns) else [str(place) for place in range(len(columns))]
        for name, column in zip(known, columns, strict=True):
            found.setdefault(name, {})[split] = _describe_numbers(column)
    return found


def _describe_numbers(column: Tensor) -> dict[str, float | None]:
    finite = column[column.isfinite()][:MAX_NUMBERS].sort().values
    if not len(finite):
        return dict.fromkeys([*QUANTILES, "mean", "std"])
    places = {name: finite[round(share * (len(finite) - 1))] for name, share in QUANTILES.items()}
    places |= {"mean": finite.mean(), "std": finite.std(correction=0)}
    return {name: float(value) for name, value in places.items()}
