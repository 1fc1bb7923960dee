"""Where a user's images are, as typed, and what belongs to each of them. Imports neither torch nor PIL by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_smarter.data.class_folders import class_names, list_folder
from train_smarter.data.image_listing import FileExamples, ImageListing
from train_smarter.data.mask_files import MaskPairs, find_pairs
from train_smarter.errors import UserError

if TYPE_CHECKING:
    from train_smarter.data.mask_values import MaskClasses, MaskCount


@dataclass(frozen=True)
class ImageSource:
    """Images with a class by their folder, or with a mask each.

    dir: folder of the images.
    masks: folder of their masks, see `find_pairs`; None: the folders of the images are classes.
    classes: those that are used, in this order; None: all.
    """

    dir: Path
    masks: Path | None = None
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ImageSource:
        """By the keys of data's config; other keys are ignored."""
        folder, masks, classes = (settings.get(key) for key in ("dir", "masks", "classes"))
        if not folder:
            raise UserError("data.dir has no value yet: type data.dir=<folder of images>")
        if classes is not None and (isinstance(classes, str) or not isinstance(classes, Sequence)):
            raise UserError(f"data.classes={classes}: give a list, 'data.classes=[cat,dog]'")
        names = None if classes is None else tuple(map(str, classes))
        if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
            raise UserError(f"data.classes={list(names)}: give two or more different names")
        return cls(Path(folder).expanduser().resolve(), Path(masks) if masks else None, names)

    def count(self) -> dict[str, int | None]:
        """`num_classes` and `num_targets` of the data."""
        if self.masks is None:
            names: Sequence[str] = class_names(self.dir, self.classes)
        else:
            names = self.classes or self._classes_of_masks(find_pairs(self.dir, self.masks)).names
        return {"num_classes": len(names), "num_targets": None}

    def list(self, *, count: int | None = None, known: MaskClasses | None = None) -> ImageListing:
        """The images of each split, with what belongs to each.

        Args:
            count: K of masks, as it may have been typed.
            known: what the values of masks mean in the run that is gone back to.
        """
        if self.masks is None:
            return list_folder(self.dir, self.classes)
        pairs = find_pairs(self.dir, self.masks)
        meaning, counted = known or self._classes_of_masks(pairs, count), _count(pairs)
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

    def _classes_of_masks(self, pairs: MaskPairs, count: int | None = None) -> MaskClasses:
        from train_smarter.data.mask_values import decide_classes

        counted = _count(pairs)
        if not counted.pixels:
            raise UserError(f"{self.dir}: no mask can be used; {next(iter(counted.broken.values()))}")
        return decide_classes(counted.pixels, where=f"data.masks={self.masks}", classes=self.classes, count=count)


_LAST: list[tuple[Any, MaskCount]] = []  # the masks that were counted last, by their state, and what they hold


def _count(pairs: MaskPairs) -> MaskCount:
    """The values in the masks, counted once as long as no mask changes."""
    from train_smarter.data.mask_values import count_values

    key = [(*pair, (status := pair[1].stat()).st_mtime_ns, status.st_size) for pair in pairs.all]
    if not _LAST or _LAST[0][0] != key:
        _LAST[:] = [(key, count_values(pairs.all))]
    return _LAST[0][1]


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
