"""Decode many files to rows, in memory or into a cache file on the disk."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train_smarter.data.decoders import Decoder, reason
from train_smarter.data.rows import MemoryRows, Rows

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**25  # of rows that are noted as done together


@dataclass(frozen=True)
class DecodedFiles:
    """Rows of files.

    rows: of all files, in their order; those of broken files hold nothing.
    broken: why a file could not be decoded, by its place.
    """

    rows: Rows
    broken: dict[int, str]


def usable_cpus() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_to_memory(files: Sequence[Path], decoder: Decoder) -> DecodedFiles:
    """Decode files into one tensor; no more than it is held at any time."""
    storage = torch.empty((len(files), *decoder.shape), dtype=torch.uint8)
    array = storage.numpy()

    def decode(place: int) -> None:
        array[place] = decoder(files[place])

    broken: dict[int, str] = {}
    for _, failed in run_in_chunks(decode, range(len(files)), chunk=256, title="reading images"):
        broken |= failed
    return DecodedFiles(MemoryRows(storage), broken)


def run_in_chunks(
    function: Callable[[int], None], places: range, *, chunk: int, title: str, total: int | None = None
) -> Iterator[tuple[int, dict[int, str]]]:
    """Call `function` for each place, in threads, with a progress bar on a terminal.

    Threads, since Pillow decodes and scales outside of Python's lock.

    Yields:
        After each chunk, in order: the place where the next one begins; and why the function failed, by place.
    """

    def work(place: int) -> tuple[int, str | None]:
        try:
            function(place)
        except StorageError:
            raise
        except Exception as error:  # a broken file fails in many ways
            return place, reason(error)
        return place, None

    waiting: deque[tuple[int, list[Future[tuple[int, str | None]]]]] = deque()
    starts = list(places[::chunk])
    with ThreadPoolExecutor(usable_cpus()) as pool, _progress() as progress:
        task = progress.add_task(title, total=total or len(places), completed=places.start)
        try:
            while starts or waiting:
                while starts and len(waiting) < 2:  # the threads have work while a chunk is noted
                    part = range(starts[0], min(starts.pop(0) + chunk, places.stop))
                    waiting.append((part.stop, [pool.submit(work, place) for place in part]))
                stop, futures = waiting.popleft()
                failed = dict[int, str]()
                for future in futures:
                    place, why = future.result()
                    progress.advance(task)
                    failed |= {} if why is None else {place: why}
                yield stop, failed
        finally:
            pool.shutdown(cancel_futures=True)


class StorageError(Exception):
    """The rows cannot be written; its cause is the OSError."""


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
