"""Look at a run's data as training gets them: everything that data.json and its page show."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils._pytree import tree_leaves

from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, count_rows, split_rows
from train_smarter.data.image_data import ImageData
from train_smarter.data.interaction_data import InteractionData
from train_smarter.data.rows import Rows
from train_smarter.diagnosis.findings import Finding
from train_smarter.errors import UserError
from train_smarter.failures import as_user_error
from train_smarter.fit.module import ROWS_AT_ONCE, Model
from train_smarter.inspection.batch_views import show_batch
from train_smarter.inspection.checks import check_data
from train_smarter.inspection.duplicates import find_duplicates
from train_smarter.inspection.initial_loss import measure_step
from train_smarter.inspection.input_path import InputPath, read_batches
from train_smarter.inspection.interaction_counts import count_interactions
from train_smarter.inspection.sampling import Sample, place_of, take_sample
from train_smarter.inspection.target_counts import count_targets
from train_smarter.inspection.values import describe_batch, describe_columns, named_parts, split_batch
from train_smarter.task.base import Task

Content = dict[str, Any]
VALUE_BYTES = 64_000_000  # of a split, of which ranges and targets are counted
HASHED_BYTES = 1_000_000_000  # of a split, which are compared with the others


def inspect_data(
    data: LightningDataModule,
    task: Task | None,
    model: Model | None,
    make_trainer: Callable[[], Trainer],
    *,
    examples: int,
) -> Content:
    """Read, count and measure; nothing is trained.

    Args:
        task: None: the targets are shown as numbers.
        model: None: no loss is measured.
        make_trainer: called for each pass over some batches.
        examples: shown of the batch.

    Returns:
        The content of data.json.
    """
    first = read_batches(data, make_trainer())
    plain = _read_without_augmentation(data, make_trainer)
    splits = data.examples if isinstance(data, Data) else {}
    found: Content = {
        "data": type(data).__name__,
        "kind": getattr(data, "kind", "batches"),
        "splits": [_describe_split(name, of) for name, of in splits.items()],
        "batch": describe_batch(first.batch),
        "columns": _describe_columns(data),
        "normalized_by": [data.mean, data.std] if isinstance(data, ImageData) else None,
        "targets": _count_targets(data),
        "interactions": count_interactions(data),
        "duplicates": _find_duplicates(data),
        "words": _count_words(data),
        "time": _describe_time(first, plain),
    }
    problems = [*_fit_task(task, data)]
    found["loss"] = None
    if model is not None and not problems:
        try:
            found["loss"] = measure_step(model, data, first.batch)
        except Exception as error:
            problems.append(_explain_model(model, error))
    found["findings"] = [asdict(finding) for finding in [*problems, *check_data(found)]]
    found["views"] = show_batch(first.batch, None if plain is None else plain.batch, data, task, examples)
    return found


def _read_without_augmentation(data: Any, make_trainer: Callable[[], Trainer]) -> InputPath | None:
    """The same batches; None where there is no augmentation."""
    if not isinstance(data, ImageData) or not data.augment or not data.shuffle:
        return None
    augment, data.augment = data.augment, {}
    try:
        return read_batches(data, make_trainer())
    finally:
        data.augment = augment


def _describe_split(name: str, examples: Examples) -> Content:
    compared = len(take_sample(examples, HASHED_BYTES).index)
    where = place_of(examples)
    return {"split": name, "examples": len(examples), "bytes": examples.bytes, "where": where, "compared": compared}


def _find_duplicates(data: Any) -> Content | None:
    """Inputs that repeat others; of interactions, no pair of user and item does."""
    if isinstance(data, InteractionData):
        return None
    splits = data.examples if isinstance(data, Data) else {}
    return find_duplicates({name: take_sample(of, HASHED_BYTES) for name, of in splits.items()})


def _describe_columns(data: Any) -> dict[str, list[Content]]:
    """The ranges of the training inputs as they are stored, with the name of each column or channel."""
    if not isinstance(data, Data) or isinstance(data, InteractionData):  # an index has no range
        return {}
    train = data.examples["train"]
    found = describe_columns(take_sample(Examples(train.inputs), VALUE_BYTES))
    for name, rows in found.items():
        known = list(getattr(data, "columns", None) or ()) if name == "inputs" else []
        head = "channel " if isinstance(data, ImageData) else "column "
        for place, row in enumerate(rows):
            row["name"] = str(known[place]) if len(known) == len(rows) else f"{head}{place}" if len(rows) > 1 else name
    return found


def _count_targets(data: Any) -> list[Content]:
    ranked = isinstance(data, InteractionData) and data.rows != "ratings"  # targets are indices of items
    splits = data.examples if isinstance(data, Data) and not ranked else {}
    samples: dict[str, Sample] = {
        name: take_sample(Examples(of.targets), VALUE_BYTES) for name, of in splits.items() if of.targets is not None
    }
    return count_targets(samples, data.names) if samples else []


def _count_words(data: Any) -> Content | None:
    """The share of words of val without an id, and of training texts that fill all their places."""
    if not isinstance(data, Data) or not data.has_token_inputs or not isinstance(data.examples["val"].inputs, Tensor):
        return None
    train, val = (data.examples[name].inputs for name in ("train", "val"))
    words = int((val > 0).sum())
    return {"unknown": int((val == 1).sum()) / max(1, words), "cut": float((train[:, -1] != 0).float().mean())}


def _describe_time(first: InputPath, plain: InputPath | None) -> Content:
    inputs = split_batch(first.batch)[0]
    size = count_rows(inputs) if named_parts(inputs, "inputs") else None
    rate = size / first.seconds if size and first.seconds else None
    without = None if plain is None else plain.seconds
    return {"batch_size": size, "seconds": first.seconds, "without_augmentation": without, "examples_per_second": rate}


def _fit_task(task: Task | None, data: Any) -> Iterator[Finding]:
    """Targets that do not fit the task; else the task learns from them, as before a training."""
    if task is None or not isinstance(data, Data):
        return
    wrong = False
    for split, examples in data.examples.items():
        try:
            for targets in _iter_targets(task, examples):
                task.check(targets, split)
        except UserError as error:
            wrong = True
            yield Finding("targets_do_not_fit", "problem", str(error))
    if not wrong:
        parts = _iter_targets(task, data.examples["train"])
        task.fit(piece for targets in parts for piece in split_rows(targets, ROWS_AT_ONCE))


def _iter_targets(task: Task, examples: Examples) -> Iterator[Any]:
    """What the task gets: all targets of a split, or a part of them in pieces where they are not in memory."""
    targets = task.targets((examples.inputs, examples.targets))
    if any(isinstance(part, Rows) for part in tree_leaves(targets)):
        yield from map(task.targets, take_sample(examples, VALUE_BYTES).pieces())
    else:
        yield targets


def _explain_model(model: Model, error: Exception) -> Finding:
    why = as_user_error(error) or f"{type(error).__name__}: {error}"
    return Finding("model_does_not_fit", "problem", f"{type(model).__name__} cannot take the batch: {why}")
