"""Where a user's images are, as typed, and what belongs to each of them. Imports neither torch nor PIL by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_smarter.data.class_folders import SEARCHED, class_names, list_folder
from train_smarter.data.image_files import list_folders
from train_smarter.data.image_listing import FileExamples, ImageListing
from train_smarter.data.mask_counts import count_masks
from train_smarter.data.mask_files import MaskPairs, find_pairs
from train_smarter.errors import UserError

if TYPE_CHECKING:
    from train_smarter.data.mask_values import MaskClasses, MaskCount
    from train_smarter.data.table_source import TableSource

# Arguments of a data set of images that say what these are.
TABLE_KEYS = (
    "file",
    "val_file",
    "test_file",
    "target",
    "target_type",
    "split_column",
    "group",
    "delimiter",
    "encoding",
)
SOURCE_KEYS = ("dir", "masks", "classes", "image", *TABLE_KEYS)


@dataclass(frozen=True)
class ImageSource:
    """Images with a class by their folder, with a mask each, or with the targets of a table.

    dir: folder of the images; of a table, where its paths begin.
    masks: folder of their masks, see `find_pairs`; None: the folders of the images are classes.
    classes: those that are used, in this order; None: all.
    table: names the images.
    image: the table's column of paths; None: the one that holds names of images.
    cache_dir: of cache files, where the count of the masks is recorded; None: nowhere.
    writable: a cache file may be made.
    """

    dir: Path | None = None
    masks: Path | None = None
    classes: tuple[str, ...] | None = None
    table: TableSource | None = None
    image: str | None = None
    cache_dir: Path | None = None
    writable: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ImageSource:
        """By the keys of data's config, `cache_dir` and `download` among them; other keys are ignored."""
        folder, masks, classes, file = (settings.get(key) for key in ("dir", "masks", "classes", "file"))
        _reject_misfits(settings)
        names = None if classes is None else tuple(map(str, classes))
        table, image = None, settings.get("image")
        if file:
            from train_smarter.data.table_source import pop_source

            table = pop_source({key: settings[key] for key in TABLE_KEYS if key in settings})
        return cls(
            Path(str(folder)).expanduser().resolve() if folder else None,  # a folder 2024 is typed as a number
            Path(str(masks)) if masks else None,
            names,
            table,
            None if image is None else str(image),
            Path(str(cache)).expanduser().resolve() if (cache := settings.get("cache_dir")) else None,
            settings.get("download") is True,
        )

    @property
    def root(self) -> Path:
        """The folder that files are named from."""
        return self.dir or next(iter(self._table.paths().values()))[0].parent

    @property
    def _table(self) -> TableSource:
        assert self.table is not None, "there is a folder or a table"
        return self.table

    def count(self) -> dict[str, int | None]:
        """`num_classes` and `num_targets` of the data."""
        if self.dir is None or self.table:
            from train_smarter.data.table_source import count_targets

            return count_targets(vars(self._table))
        state = self, *(_state(folder, deep=not self.masks) for folder in (self.dir, self.masks) if folder)
        if state not in _COUNTED:
            _COUNTED.clear()
            _COUNTED[state] = self._count_classes()
        return {"num_classes": _COUNTED[state], "num_targets": None}

    def _count_classes(self) -> int:
        assert self.dir is not None
        if self.masks is None:
            return len(class_names(self.dir, self.classes))
        pairs = find_pairs(self.dir, self.masks)
        return len(self.classes or self._classes_of_masks(pairs).names)

    def list(
        self, *, count: int | None = None, names: Sequence[str] = (), mask_values: Sequence[int] | None = None
    ) -> ImageListing:
        """The images of each split, with what belongs to each.

        Args:
            count: K of masks, as it may have been typed.
            names: of the classes in the run that is gone back to.
            mask_values: of the pixels of these classes, where they are not 0, 1, 2, ...
        """
        if self.dir is None or self.table:
            from train_smarter.data.image_table import list_table

            return list_table(self._table, self.image, folder=self.dir, names=names)
        if self.masks is None:
            return list_folder(self.dir, self.classes)
        return self._list_masks(find_pairs(self.dir, self.masks), count, names, mask_values)

    def _list_masks(
        self, pairs: MaskPairs, count: int | None, names: Sequence[str], values: Sequence[int] | None
    ) -> ImageListing:
        from train_smarter.data.mask_values import MaskClasses

        known = MaskClasses(list(names), None if values is None else tuple(values)) if names else None
        meaning, counted = known or self._classes_of_masks(pairs, count), self._count(pairs)
        notes = [*pairs.notes, *_describe_masks(meaning, counted)]
        notes += [f"{photo} is left out: {why}" for photo, why in counted.broken.items()]
        splits = {
            split: FileExamples([photo for photo, _ in whole], [mask for _, mask in whole])
            for split, found in pairs.splits.items()
            if (whole := [pair for pair in found if pair[0] not in counted.broken])
        }
        if "train" not in splits:
            raise UserError(f"{self.dir}: no mask of train can be used; {next(iter(counted.broken.values()))}")
        return ImageListing(meaning.names, splits, pairs.ignored, notes, "masks", meaning.values)

    def _count(self, pairs: MaskPairs) -> MaskCount:
        return count_masks(pairs.all, self.cache_dir, writable=self.writable)

    def _classes_of_masks(self, pairs: MaskPairs, count: int | None = None) -> MaskClasses:
        from train_smarter.data.mask_values import decide_classes

        counted = self._count(pairs)
        if not counted.pixels:
            raise UserError(f"{self.dir}: no mask can be used; {next(iter(counted.broken.values()))}")
        return decide_classes(counted.pixels, where=f"data.masks={self.masks}", classes=self.classes, count=count)


def _reject_misfits(settings: Mapping[str, Any]) -> None:
    """Raise a UserError where the keys of data's config say two things, or nothing."""
    folder, masks, classes, file = (settings.get(key) for key in ("dir", "masks", "classes", "file"))
    if not folder and not file:
        raise UserError(
            "data.dir has no value yet: type data.dir=<folder of images>, or data.file=<table> data.target=<column>"
        )
    if file and masks:
        raise UserError("data.file and data.masks both say what belongs to an image: give one of them")
    if file and classes:
        raise UserError("data.classes chooses folders or names values of masks; with data.file, leave it out")
    for key in ("image", "target", "split_column", "group"):
        if settings.get(key) is not None and not file:
            raise UserError(f"data.{key}={settings[key]} is a column of a table: type data.file=<table>, too")
    kind = settings.get("target_type")
    if not file and kind in ("numbers", "labels"):
        has = "a class for each pixel" if masks else "one class by their folder"
        raise UserError(
            f"the images have {has}, but the task needs {kind}: type data.file=<table> data.target=<column>"
        )
    if classes is not None:
        _reject_bad_names(classes)


def _reject_bad_names(classes: Any) -> None:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise UserError(f"data.classes={classes}: give a list, 'data.classes=[cat,dog]'")
    names = list(map(str, classes))
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"data.classes={names}: give two or more different names")


# A config asks a hundred times while it is composed and checked: the last answer, by the settings and the state.
_COUNTED: dict[tuple[Any, ...], int] = {}


def _state(folder: Path, *, deep: bool) -> tuple[int, ...]:
    """Changes when a file or folder in a folder is added, removed or renamed; deep: in the first of its folders, too.

    A folder of all images is too large to be listed so often.
    """
    try:
        inner = [child.stat().st_mtime_ns for child in list_folders(folder)[:SEARCHED]] if deep else []
        return folder.stat().st_mtime_ns, *inner
    except OSError:
        return ()


def _describe_masks(meaning: MaskClasses, counted: MaskCount) -> list[str]:
    """How much of the pixels each class has."""
    values = meaning.values or range(len(meaning.names))
    total = sum(counted.pixels.values())
    shares = [
        f"{name} {counted.pixels.get(value, 0) / total:.1%}" for name, value in zip(meaning.names, values, strict=True)
    ]
    spread = f" (values {', '.join(map(str, meaning.values))})" if meaning.values else ""
    none = counted.pixels.get(255, 0) if 255 not in values else 0
    shown = ", ".join([*shares[:20], *(["..."] if len(shares) > 20 else [])])
    return [f"pixels of the masks: {shown}{f', no class {none / total:.1%}' if none else ''}{spread}"]
