"""Read what is to be predicted: files, standard input, or a split."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from train_smarter.inference.predictor import Told
from train_smarter.sanitize import printable

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    import torch

    from train_smarter.data.base import Data
    from train_smarter.data.examples import Batch, Input, SplitName

log = logging.getLogger(__name__)


def of_split(data: Data, name: SplitName) -> Iterator[tuple[Told, Batch]]:
    """The examples of a split, in its order, with their true classes."""
    data.prepare_data()
    data.setup()
    index = count()

    def told(labels: torch.Tensor) -> Told:
        return [{"index": next(index), "label": data.names[label]} for label in labels.tolist()]

    return ((told(batch[1]), batch) for batch in data.loader(name))


class Inputs:
    """A user's inputs in their order, read in threads, about two batches ahead; the broken ones are left out.

    Attributes:
        whole, broken: how many could be read, and how many not.
        reason: why the latest could not.
        changes: how many were changed in each way.
    """

    def __init__(self, data: Data, sources: Iterator[Any]) -> None:
        self.data, self.sources = data, sources
        self.whole, self.broken, self.reason = 0, 0, ""
        self.changes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[Told, Batch]]:
        whole = self._whole()
        while batch := list(islice(whole, self.data.eval_batch_size)):
            yield [one.told for one in batch], self.data.batch([one.content for one in batch])

    def _whole(self) -> Iterator[Input]:
        for source, read in self._read():
            if isinstance(read, Exception):
                self.broken, self.reason = self.broken + 1, f"{printable(source)}: {printable(read)}"
                log.warning("%s (left out)", self.reason)
            else:
                self.whole += 1
                self.changes.update(read.changes)
                yield read

    def _read(self) -> Iterator[tuple[Any, Input | Exception]]:
        """Each source with what is in it."""
        threads = os.cpu_count() or 1
        share = -(-self.data.eval_batch_size // threads)
        waiting: deque[Future[list[tuple[Any, Input | Exception]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            while part := list(islice(self.sources, share)):
                waiting.append(pool.submit(self._tried, part))
                if len(waiting) > threads:  # a batch: the threads are busy while the model is
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _tried(self, sources: Sequence[Any]) -> list[tuple[Any, Input | Exception]]:
        read: list[tuple[Any, Input | Exception]] = []
        for source in sources:
            try:
                read.append((source, self.data.example(source)))
            except Exception as error:  # a broken file fails in any way
                read.append((source, error))
        return read

    def conclude(self) -> bool:
        """Says what had to be done to the inputs, and whether some could not be read."""
        if ways := [f"{number} {way}" for way, number in self.changes.most_common()]:
            log.info("of %d %s: %s", self.whole, self.data.kind, ", ".join(ways))
        if self.broken:
            log.warning("%d of %d %s could not be read", self.broken, self.whole + self.broken, self.data.kind)
        return bool(self.broken)


def nothing(given: str | None, batches: Any) -> str:
    if isinstance(batches, Inputs) and batches.broken:
        return (
            f"input={given}: none of {batches.broken} {batches.data.kind} could be read; the last is {batches.reason}"
        )
    return f"input={given}: nothing is there to predict"
