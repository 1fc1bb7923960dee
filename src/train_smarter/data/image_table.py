"""Lists images by a table: a column of paths, and columns of targets. Imports neither torch nor PIL."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train_smarter.data.image_files import SUFFIXES, is_image, list_images
from train_smarter.data.image_listing import FileExamples, ImageListing
from train_smarter.data.table_file import StringTable, shorten
from train_smarter.data.table_source import SPLITS, SplitTable, TableSource, left_out_note
from train_smarter.data.target_columns import Targets
from train_smarter.errors import UserError

LOOKED_AT = 100  # cells that say whether a column is of paths


def list_table(
    source: TableSource, image: str | None = None, *, folder: Path | None = None, names: Sequence[str] = ()
) -> ImageListing:
    """The images that a table names, with the targets of their rows.

    Args:
        image: the column of paths; None: the one whose cells end like the names of images.
        folder: that paths begin from, beside that of the table.
        names: of the classes that a past run knows.

    Raises:
        UserError: a column is missing or holds something else, or no image is there.
    """
    if not source.target:
        table = source.read().table
        raise UserError(
            f"data.target has no value yet: type data.target=<column>; {table.where} has {shorten(table.names)}"
        )
    found = source.read(None if image is None else [image])
    column = image or _find_column(found.table, source)
    found.table.require([column], "data.image")
    targets = source.read_targets(found.table, names)
    found.check_classes(targets)
    files = _Paths(found, folder).resolve(column)
    kept = [place for place, row in enumerate(targets.rows.tolist()) if files[row] is not None]
    notes = [found.table.describe(), *left_out_note(found.table, targets.rows, source.target, "a target")]
    notes += _missing_note(found.table, column, files, targets.rows)
    if not kept:
        first = int(targets.rows[0])
        cell = found.table.texts(column)[first]
        where = f"from {folder} or " if folder else "from "
        raise found.table.error(
            first,
            column,
            f"there is no image {cell!r} {where}the table's folder, nor that of any other row: type data.dir=<folder "
            "that the paths begin from>",
        )
    splits = _splits(found, targets, files, np.array(kept))
    notes += _repeated_note(splits, column)
    return ImageListing(list(targets.names), splits, {}, [*notes, *found.notes], targets.kind)


def _find_column(table: StringTable, source: TableSource) -> str:
    """The only column whose cells are names of images."""
    names = [name for name in table.names if name not in source.role_columns]
    found = [name for name in names if _holds_images(table, name)]
    if len(found) == 1:
        return found[0]
    what = f"{shorten(found)} hold names of images" if found else f"{table.where} has {shorten(names)}"
    raise UserError(f"data.image has no value yet: type data.image=<column of the paths>; {what}")


def _holds_images(table: StringTable, name: str) -> bool:
    cells = [cell for cell in table.column(name)[:LOOKED_AT].to_pylist() if cell]
    return bool(cells) and all(is_image(Path(cell)) for cell in cells)


class _Paths:
    """Finds the files that the cells of a table name: from a folder, or from that of the table."""

    def __init__(self, found: SplitTable, folder: Path | None) -> None:
        self.table, self.folder = found.table, folder
        self.by_name: dict[Path, dict[str, Path]] = {}

    def resolve(self, column: str) -> list[Path | None]:
        """The file of each row; None where there is none."""
        homes = [part.path.parent for part in self.table.parts for _ in range(part.rows)]
        cells = self.table.texts(column)
        return [self._find(cell, home) if cell else None for cell, home in zip(cells, homes, strict=True)]

    def _find(self, cell: str, home: Path) -> Path | None:
        bases = [base for base in (self.folder, home) if base]
        for name in (cell, cell.replace("\\", "/")):
            for base in bases:
                if os.path.isfile(file := base / name):  # noqa: PTH113 (pathlib's fails at a name that is too long)
                    return file
        if Path(cell).suffix.lower() in SUFFIXES:
            return None
        return next((found for base in bases if (found := self._names(base).get(cell))), None)

    def _names(self, base: Path) -> dict[str, Path]:
        """The images in a folder by their names without a suffix."""
        if base not in self.by_name:
            self.by_name[base] = {file.stem: file for file in list_images(base, Counter())}
        return self.by_name[base]


def _missing_note(table: StringTable, column: str, files: Sequence[Path | None], rows: Any) -> list[str]:
    missing = [row for row in rows.tolist() if files[row] is None]
    if not missing:
        return []
    cell = table.texts(column)[missing[0]]
    named = f"there is no {cell}" if cell else "no path"
    return [
        f"images that are not there are left out, {len(missing)} of {len(rows)}: {table.place(missing[0])}, {named}"
    ]


def _repeated_note(splits: dict[str, FileExamples], column: str) -> list[str]:
    """That one image would be in several splits, where a split is cut from rows without groups."""
    train = splits["train"]
    repeated = [file for file, count in Counter(train.files).items() if count > 1]
    if train.groups is not None or not repeated or len(splits) == len(SPLITS):
        return []
    return [
        f"{len(repeated)} images are in several rows, {repeated[0]} for example, and may be in train and in another "
        f"split: to never divide their rows, type data.image={column} data.group={column}"
    ]


def _splits(found: SplitTable, targets: Targets, files: Sequence[Path | None], kept: Any) -> dict[str, FileExamples]:
    """The examples of each split.

    Args:
        files: of each row of the table.
        kept: places in the rows that have a target, of those with a file.
    """
    rows, values = targets.rows[kept], targets.values[kept]
    groups = found.groups(rows)
    splits = {}
    for split in SPLITS:
        if len(places := found.rows_of(split, rows)):
            paths = [file for row in rows[places].tolist() if (file := files[row])]
            of_split = None if groups is None else groups[places].tolist()
            splits[split] = FileExamples(paths, values[places].tolist(), of_split)
    if "train" not in splits:
        raise UserError(f"{found.table.where}: no row of train has an image that is there")
    return splits
