"""Lists images by a table: a column of paths, and columns of targets. Imports neither torch nor PIL."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
        folder: that paths begin from, in addition to that of the table.
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
    notes += _group_repeated(splits)
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
        self.by_name: dict[Path, dict[str, list[Path]]] = {}

    def resolve(self, column: str) -> list[Path | None]:
        """The file of each row; None where there is none.

        Raises:
            UserError: a cell without a suffix is the name of several files.
        """
        homes = [part.path.parent for part in self.table.parts for _ in range(part.rows)]
        cells = enumerate(zip(self.table.texts(column), homes, strict=True))
        return [self._find(cell, home, row) if cell else None for row, (cell, home) in cells]

    def _find(self, cell: str, home: Path, row: int) -> Path | None:
        bases = [base for base in (self.folder, home) if base]
        for name in (cell, cell.replace("\\", "/")):
            for base in bases:
                if os.path.isfile(file := base / name):  # noqa: PTH113 (pathlib's fails at a name that is too long)
                    return file
        if Path(cell).suffix.lower() in SUFFIXES:
            return None
        found: list[Path] = next((named for base in bases if (named := self._names(base).get(cell))), [])
        if len(found) > 1:
            where = self.table.place(row)
            raise UserError(
                f"{where}: {cell} is the name of several images, {shorten([*map(str, found)], count=3)}: write the "
                "path with its suffix into the table, or keep one of them"
            )
        return found[0] if found else None

    def _names(self, base: Path) -> dict[str, list[Path]]:
        """The images in a folder by their names without a suffix."""
        if base not in self.by_name:
            self.by_name[base] = {}
            for file in list_images(base, Counter()):
                self.by_name[base].setdefault(file.stem, []).append(file)
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


def _group_repeated(splits: dict[str, FileExamples]) -> list[str]:
    """Make the rows of one image a group of train, where images are in several rows and have no groups yet.

    Returns:
        A line for the log, where a split is cut from train.
    """
    train = splits["train"]
    files = [os.path.normpath(file) for file in train.files]  # cells may spell one path in two ways
    number = {file: place for place, file in enumerate(dict.fromkeys(files))}
    if train.groups is not None or len(number) == len(files):
        return []
    splits["train"] = replace(train, groups=[number[file] for file in files])
    file, rows = Counter(files).most_common(1)[0]
    note = (
        f"{len(files)} rows of train name {len(number)} images, {rows} of them {file}: rows of one image are never "
        "divided between splits"
    )
    return [note] if len(splits) < len(SPLITS) else []


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
