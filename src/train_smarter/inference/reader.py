"""Read what is to be predicted: files, standard input, or a split."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count, groupby, islice
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError
from train_smarter.inference.predictor import IdColumns
from train_smarter.sanitize import escape_controls

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from lightning import LightningDataModule

    from train_smarter.data.base import Data
    from train_smarter.data.examples import Batch, RawInput, SplitName
    from train_smarter.task.base import Task

log = logging.getLogger(__name__)


def iter_inputs(data: LightningDataModule, given: str) -> Iterator[Any]:
    """What `input=` names, one by one; only a Data of this package reads it.

    Raises:
        UserError: the data read no input, or there is nothing of that name.
    """
    from train_smarter.data.base import Data

    if not isinstance(data, Data):
        raise UserError(f"input={given}: {type(data).__name__} reads no input of your own; type split=test")
    return data.iter_inputs(given)


def iter_split(
    data: LightningDataModule, name: SplitName, *, task: Task, names: Sequence[str]
) -> Iterator[tuple[IdColumns, Batch]]:
    """The examples of a split, in its order, with their true targets."""
    from train_smarter.data.base import Data
    from train_smarter.data.examples import count_rows

    index = count()
    for batch in split_batches(data, name, task):
        columns: dict[str, Sequence[Any]] = {"index": list(islice(index, count_rows(batch[0])))}
        columns |= data.id_columns(batch[0]) if isinstance(data, Data) else {}
        if batch[1] is not None:
            columns |= task.true_columns(task.targets(batch), names)
        yield [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], batch


def split_batches(data: LightningDataModule, name: SplitName, task: Task) -> Iterator[Batch]:
    """Batches of a split, (inputs, targets), of a Data or of any LightningDataModule; targets may be None.

    Raises:
        UserError: there is no such split, or its targets do not fit the task.
    """
    from train_smarter.data.base import Data
    from train_smarter.task.base import check_targets

    data.prepare_data()
    if not isinstance(data, Data):
        yield from _foreign_batches(data, name)
        return
    data.setup()
    examples = data.examples[name]
    if examples.targets is not None:
        check_targets(task, examples, name)
    yield from data.loader(name)


def _foreign_batches(data: LightningDataModule, name: SplitName) -> Iterator[Batch]:
    """Batches of a LightningDataModule that is not of this package."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    stage, hook = {
        "train": ("fit", data.train_dataloader),
        "val": ("validate", data.val_dataloader),
        "test": ("test", data.test_dataloader),
    }[name]
    data.setup(stage)
    try:
        loaders = hook()
    except MisconfigurationException as error:  # Lightning's own hook, which is not replaced
        raise UserError(f"{type(data).__name__} has no {name} split; give another one, split=...") from error
    for batch in chain.from_iterable(loaders if isinstance(loaders, list | tuple) else [loaders]):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        yield (batch[0], batch[1]) if pair else (batch, None)


class InputReader:
    """A user's inputs in their order, read in threads, about two batches ahead; the broken ones are left out.

    A batch holds inputs of one shape: consecutive prompts of different lengths come one by one.

    Attributes:
        whole, broken: how many could be read, and how many not.
        reason: why the latest could not.
        changes: how many were changed in each way.
    """

    def __init__(self, data: Data, sources: Iterator[Any]) -> None:
        self.data, self.sources = data, sources
        self.whole, self.unreadable, self.reason = 0, 0, ""
        self.conversions: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[IdColumns, Batch]]:
        for _, equal in groupby(self._readable_inputs(), lambda one: _shapes(one.content)):
            while batch := list(islice(equal, self.data.eval_batch_size)):
                yield [one.id_columns for one in batch], self.data.collate([one.content for one in batch])

    def _readable_inputs(self) -> Iterator[RawInput]:
        for source, read in self._read():
            if isinstance(read, Exception):
                self.unreadable, self.reason = (
                    self.unreadable + 1,
                    f"{escape_controls(source)}: {escape_controls(read)}",
                )
                log.warning("%s (left out)", self.reason)
            else:
                self.whole += 1
                self.conversions.update(read.conversions)
                yield read

    def _read(self) -> Iterator[tuple[Any, RawInput | Exception]]:
        """Each source with what is in it."""
        threads = os.cpu_count() or 1
        share = -(-self.data.eval_batch_size // threads)
        waiting: deque[Future[list[tuple[Any, RawInput | Exception]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            while part := list(islice(self.sources, share)):
                waiting.append(pool.submit(self._readable, part))
                if len(waiting) > threads:  # a batch: the threads are busy while the model is
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _readable(self, sources: Sequence[Any]) -> list[tuple[Any, RawInput | Exception]]:
        read: list[tuple[Any, RawInput | Exception]] = []
        for source in sources:
            try:
                read.append((source, self.data.load_input(source)))
            except Exception as error:  # a broken file fails in any way
                read.append((source, error))
        return read

    def log_unreadable(self) -> bool:
        """Says what had to be done to the inputs, and whether some could not be read."""
        if ways := [f"{number} {way}" for way, number in self.conversions.most_common()]:
            log.info("of %d %s: %s", self.whole, self.data.kind, ", ".join(ways))
        if self.unreadable:
            log.warning("%d of %d %s could not be read", self.unreadable, self.whole + self.unreadable, self.data.kind)
        return bool(self.unreadable)


def _shapes(content: Any) -> Any:
    """What contents need to have in common to be stacked into a batch."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda part: getattr(part, "shape", None), content)


def empty_input_message(given: str | None, batches: Any) -> str:
    if isinstance(batches, InputReader) and batches.unreadable:
        count = f"{batches.unreadable} {batches.data.kind}"
        return f"input={given}: none of {count} could be read; the last is {batches.reason}"
    return f"input={given}: nothing is there to predict"
