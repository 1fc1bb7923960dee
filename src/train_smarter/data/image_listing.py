"""Which images a data set has, and what belongs to each. Imports neither torch nor PIL."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FileExamples:
    """Image files with what belongs to each.

    targets: of each file: a class as int, a list of floats, or the file of a mask.
    groups: of each file, an int; examples of one group are never divided between splits. None: each is alone.
    """

    files: list[Path]
    targets: list[Any]
    groups: list[int] | None = None

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class ImageListing:
    """Which images there are.

    names: of the classes, labels or target columns; a class is a place in this list.
    splits: of "train", and of "val" and "test" where they have folders of their own.
    ignored: how many files are no images, by suffix.
    notes: what the log is to say about the files, a line each.
    kind: of the targets: classes, numbers, labels or masks.
    mask_values: of the pixels of each class, where a class is not its own value.
    """

    names: list[str]
    splits: dict[str, FileExamples]
    ignored: dict[str, int]
    notes: Sequence[str] = field(default=())
    kind: str = "classes"
    mask_values: tuple[int, ...] | None = None
