"""Read what is to be predicted: files, standard input, or a split."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from train_smarter.inference.predictor import IdColumns
from train_smarter.sanitize import escape_controls

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    import torch

    from train_smarter.data.base import Data
    from train_smarter.data.examples import Batch, RawInput, SplitName

log = logging.getLogger(__name__)


def iter_split(data: Data, name: SplitName) -> Iterator[tuple[IdColumns, Batch]]:
    """The examples of a split, in its order, with their true classes."""
    data.prepare_data()
    data.setup()
    index = count()

    def told(labels: torch.Tensor) -> IdColumns:
        return [{"index": next(index), "label": data.names[label]} for label in labels.tolist()]

    return ((told(batch[1]), batch) for batch in data.loader(name))


class InputReader:
    """A user's inputs in their order, read in threads, about two batches ahead; the broken ones are left out.

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
        whole = self._complete_batches()
        while batch := list(islice(whole, self.data.eval_batch_size)):
            yield [one.id_columns for one in batch], self.data.collate([one.content for one in batch])

    def _complete_batches(self) -> Iterator[RawInput]:
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


def empty_input_message(given: str | None, batches: Any) -> str:
    if isinstance(batches, InputReader) and batches.unreadable:
        count = f"{batches.unreadable} {batches.data.kind}"
        return f"input={given}: none of {count} could be read; the last is {batches.reason}"
    return f"input={given}: nothing is there to predict"
