"""Columns of a `datasets.Dataset`: inputs, and targets that are classes, labels or numbers by type and task."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.target_columns import are_classes
from train_smarter.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

TEXT = re.compile(r"(large_)?string")
NUMBER = re.compile(r"u?int\d+|float\d+|double|bool")
TASKS = {"Classification": "classes", "Multilabel": "labels", "Regression": "numbers"}  # what each needs
CHOICES = {"classes": "classification", "labels": "multilabel", "numbers": "regression"}


# ---- which columns


def target_columns(features: Mapping[str, Any], given: Any, *, needed: bool = True) -> list[str]:
    """The columns of targets; `label` or `labels` where none is given."""
    if given is None:
        found = next(([name] for name in ("label", "labels") if name in features), [])
        if not found and needed:
            raise UserError(
                f"data.target has no value yet: type data.target=..., a column of {describe_columns(features)}"
            )
        return found
    return _checked("data.target", given, features)


def input_columns(features: Mapping[str, Any], given: Any, targets: Sequence[str]) -> list[str]:
    """The columns of inputs; the only column of images or of texts where none is given."""
    if given is not None:
        return _checked("data.input", given, features)
    rest = [name for name in features if name not in targets]
    for fits in (is_image, is_text):
        if len(found := [name for name in rest if fits(features[name])]) == 1:
            return found
    raise UserError(f"data.input has no value yet: type data.input=..., a column of {describe_columns(features)}")


def _checked(key: str, given: Any, features: Mapping[str, Any]) -> list[str]:
    columns = [given] if isinstance(given, str) else [str(one) for one in given]
    for column in columns:
        if column not in features:
            raise UserError(
                f"{key}={column}: there is no such column; give one of {describe_columns(features)}"
                f"{did_you_mean(column, list(features))}"
            )
    return columns


def describe_columns(features: Mapping[str, Any]) -> str:
    """Columns with their types, for messages."""
    shown = [f"{name} ({_type_name(feature)})" for name, feature in list(features.items())[:20]]
    return ", ".join(shown) + (" ..." if len(features) > 20 else "")


def _type_name(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    return dtype if type(feature).__name__ == "Value" and dtype else type(feature).__name__


def is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def is_text(feature: Any) -> bool:
    return type(feature).__name__ == "Value" and TEXT.fullmatch(feature.dtype) is not None


def is_number(feature: Any) -> bool:
    return type(feature).__name__ == "Value" and NUMBER.fullmatch(feature.dtype) is not None


# ---- targets


@dataclass(frozen=True)
class Targets:
    """Targets of each split, which may lack one without labels.

    names: of the classes, labels or target columns.
    facts: num_classes or num_targets.
    """

    by_split: dict[str, Tensor]
    names: list[str]
    facts: dict[str, int]


def kind_of(features: Mapping[str, Any], columns: Sequence[str], task: str) -> str:
    """What columns hold for a task: classes, labels or numbers.

    Args:
        task: the name of its class; another one takes what the type decides.

    Raises:
        UserError: the columns hold something else.
    """
    kinds = _possible_kinds(features, columns)
    wanted = TASKS.get(task, kinds[0])
    if wanted not in kinds:
        raise UserError(
            f"task={CHOICES[wanted]} does not fit data.target={','.join(columns)}, which holds {kinds[0]}: type "
            f"task={CHOICES[kinds[0]]}, or another data.target=..."
        )
    return wanted


def _possible_kinds(features: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """What columns may hold by their type; the first is what they hold unless the task needs another."""
    feature = features[columns[0]]
    if type(feature).__name__ in ("List", "LargeList", "Sequence"):
        return ["numbers"] if _dtype(feature.feature).startswith(("float", "double")) else ["labels"]
    if len(columns) > 1:
        return ["numbers", "labels"]
    if (dtype := _dtype(feature)).startswith(("float", "double")):
        return ["numbers"]
    if "int" in dtype and type(feature).__name__ == "Value":
        return ["classes", "numbers"]
    return ["classes"]


def detect_kind(dataset: Any, columns: Sequence[str]) -> tuple[str, str]:
    """What target columns hold: classes, labels or numbers; by their type, of integers by the values, too.

    Returns:
        The kind, and the reason in words.
    """
    kinds = _possible_kinds(dataset.features, columns)
    if len(kinds) == 1:
        return kinds[0], f"data.target={columns[0]} is of the type {_type_name(dataset.features[columns[0]])}"
    if len(columns) > 1:
        binary = all(set(dataset.unique(column)) <= {0, 1, None} for column in columns)
        names = ", ".join(columns[:3]) + ", ..." * (len(columns) > 3)
        return ("labels", f"{names} hold 0 and 1") if binary else ("numbers", f"{names} hold numbers")
    different = len({value for value in dataset.unique(columns[0]) if value is not None})
    kind = "classes" if are_classes(different, len(dataset)) else "numbers"
    return kind, f"{columns[0]} holds {different} different integers"


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def read_targets(splits: Mapping[str, Any], columns: Sequence[str], *, kind: str) -> Targets:
    """The targets of all splits.

    Args:
        splits: a `datasets.Dataset` each.
        kind: see `kind_of`.

    Raises:
        UserError: a value is missing, or does not fit.
    """
    values = {split: _rows(dataset, columns) for split, dataset in splits.items()}
    feature = splits["train"].features[columns[0]]
    if kind == "numbers":
        tensors = {split: _numbers(rows, split, columns) for split, rows in values.items()}
        width = tensors["train"].shape[1]
        return Targets(tensors, list(columns) if len(columns) == width else [], {"num_targets": width})
    if kind == "labels":
        tensors, names = _labels(values, columns, getattr(feature, "feature", None))
    else:
        tensors, names = _classes(values, columns[0], getattr(feature, "names", None))
    return Targets(tensors, names, {"num_classes": len(names)})


def _rows(dataset: Any, columns: Sequence[str]) -> list[Any]:
    """The values of a column, or the rows of several."""
    if len(columns) == 1:
        return list(dataset[columns[0]][:])
    return [list(row) for row in zip(*(dataset[column][:] for column in columns), strict=True)]


def _classes(
    values: Mapping[str, list[Any]], column: str, names: Sequence[str] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Classes (N,) of each split."""
    hidden = [split for split, rows in values.items() if split != "train" and set(rows) <= {None, -1}]
    for split in hidden if names is not None else ():  # competitions publish test examples without their labels
        log.warning("%s has no labels and is not used", split)
    values = {split: rows for split, rows in values.items() if names is None or split not in hidden}
    if names is not None:
        order = {place: place for place in range(len(names))}
        shown = [str(name) for name in names]
    else:
        found = {value for rows in values.values() for value in rows if value is not None}
        count = sum(map(len, values.values()))
        if len(found) > max(2, count / 2):
            raise UserError(
                f"data.target={column} has {len(found)} different values in {count} rows, which are no classes: give "
                "another column, or task=regression for numbers"
            )
        order = {value: place for place, value in enumerate(sorted(found))}
        shown = [str(value).lower() if isinstance(value, bool) else str(value) for value in sorted(found)]
    tensors = {}
    for split, rows in values.items():
        if wrong := [row for row, value in enumerate(rows) if value not in order]:
            raise UserError(f"data.target={column}: row {wrong[0] + 1} of {split} has no class, but {rows[wrong[0]]!r}")
        tensors[split] = torch.tensor([order[value] for value in rows], dtype=torch.long)
    return tensors, shown


def _labels(
    values: Mapping[str, list[Any]], columns: Sequence[str], feature: Any
) -> tuple[dict[str, Tensor], list[str]]:
    """0 or 1 for each label, (N, K) floats, of lists of labels or of a column each."""
    if len(columns) > 1:
        given = {split: _numbers(rows, split, columns) for split, rows in values.items()}
        for split, numbers in given.items():
            if not ((numbers == 0) | (numbers == 1)).all():
                raise UserError(f"task=multilabel needs 0 or 1 in data.target={','.join(columns)} of {split}")
        return given, list(columns)
    names = getattr(feature, "names", None)
    found = (
        range(len(names))
        if names
        else sorted({one for rows in values.values() for row in rows for one in row or () if one is not None})
    )
    order = {value: place for place, value in enumerate(found)}
    tensors = {split: torch.zeros(len(rows), len(order)) for split, rows in values.items()}
    for split, rows in values.items():
        for place, row in enumerate(rows):
            for one in row or ():
                if one not in order:
                    raise UserError(
                        f"data.target={columns[0]}: row {place + 1} of {split} has a label that is none, {one!r}"
                    )
                tensors[split][place, order[one]] = 1
    return tensors, [str(name) for name in names or found]


def _numbers(rows: Sequence[Any], split: str, columns: Sequence[str]) -> Tensor:
    """(N, D) floats."""
    wanted = len(rows[0]) if rows and isinstance(rows[0], list) else 1
    for place, row in enumerate(rows):
        parts = row if isinstance(row, list) else [row]
        if len(parts) != wanted or any(part is None or part != part for part in parts):
            raise UserError(
                f"data.target={','.join(columns)}: row {place + 1} of {split} holds {row!r}, and not {wanted} numbers"
            )
    return torch.tensor(rows, dtype=torch.float).view(len(rows), wanted)
