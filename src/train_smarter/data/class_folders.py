"""Finds images, in a folder for each class, or by what a user types.

Imports neither torch nor PIL: a config counts its classes by it.
"""

import glob
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from train_smarter.errors import UserError, did_you_mean

log = logging.getLogger(__name__)


# What Pillow opens, and people keep photos and drawings in.
SUFFIXES = [".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
SPLIT_FOLDERS = {"train": ["train"], "val": ["val", "valid", "validation"], "test": ["test"]}


@dataclass(frozen=True)
class FileExamples:
    """Image files with what belongs to each.

    targets: of each file; classes as int.
    """

    files: list[Path]
    targets: list[Any]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class ImageListing:
    """Which images there are.

    names: the classes, sorted; a label is a place in this list.
    splits: of "train", and of "val" and "test" where they have folders of their own.
    ignored: how many files are no images, by suffix.
    """

    names: list[str]
    splits: dict[str, FileExamples]
    ignored: dict[str, int]


def class_names(folder: str | os.PathLike[str]) -> list[str]:
    """The classes: the names of the folders in `folder`, or in its `train` where that has folders itself, sorted.

    Raises:
        UserError: there is no such folder, or it has fewer than two classes.
    """
    root = Path(folder).expanduser().resolve()
    names = [child.name for child in _list_folders(split_folders(root)["train"])]
    if len(names) < 2:
        raise UserError(f"data.dir={root} needs a folder of images for each of at least two classes, not {names}")
    return names


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; of train alone, the whole, where `root/train` has no folders."""
    if not root.is_dir():
        raise UserError(f"data.dir={root} is not a folder: give one that has a folder of images for each class")
    if not _list_folders(root / "train"):
        return {"train": root}
    found = {
        split: [root / name for name in names if _list_folders(root / name)] for split, names in SPLIT_FOLDERS.items()
    }
    if len(found["val"]) > 1:
        raise UserError(f"{root} has several validation folders, {[f.name for f in found['val']]}: keep one of them")
    return {split: folders[0] for split, folders in found.items() if folders}


def list_folder(folder: str | os.PathLike[str]) -> ImageListing:
    """All images of a folder per class, in an order that depends on their names alone.

    Raises:
        UserError: see `class_names`; or a class has no image in train, or val or test have a class that train lacks.
    """
    root = Path(folder).expanduser().resolve()
    names, ignored = class_names(root), Counter[str]()
    splits = {split: _list_examples(home, names, ignored) for split, home in split_folders(root).items()}
    if not any(splits.values()):
        raise UserError(f"{root} holds no image ({' '.join(SUFFIXES)}) in the folders of its classes")
    present = set(splits["train"].targets)
    if empty := [name for label, name in enumerate(names) if label not in present]:
        raise UserError(f"{split_folders(root)['train']}: no image in {empty}; fill or remove what is no class")
    return ImageListing(names, splits, dict(ignored))


def _list_examples(home: Path, names: Sequence[str], ignored: Counter[str]) -> FileExamples:
    folders = _list_folders(home)
    if unknown := [folder.name for folder in folders if folder.name not in names]:
        raise UserError(f"{home} has classes that train lacks: {unknown}; train has {names}")
    label = {name: number for number, name in enumerate(names)}
    pairs = [(file, label[folder.name]) for folder in folders for file in sorted(_list_images(folder, ignored))]
    return FileExamples([file for file, _ in pairs], [label for _, label in pairs])


def _list_images(folder: Path, ignored: Counter[str]) -> Iterator[Path]:
    """The image files at any depth, sorted folder by folder; hidden files and folders are passed over."""
    for where, folders, files in os.walk(folder, onerror=_raise_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(where, name) for name in sorted(files) if not name.startswith(".")):
            if file.suffix.lower() in SUFFIXES:
                yield file
            else:
                ignored[file.suffix.lower()] += 1


def _raise_error(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _list_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


# ---- by what a user types


def expand_input(given: str) -> Iterator[Path]:
    """Image files, listed one folder at a time, as they are asked for.

    Args:
        given: a file; a folder, of which all images at any depth are taken; a glob, of which all files are; or `-` for
            standard input, a path a line.

    Raises:
        UserError: there is no such file or folder.
    """
    path = os.path.expanduser(given)  # noqa: PTH111 (pathlib's fails at ~nobody)
    if given == "-":
        return (Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip())
    if os.path.isdir(path):  # noqa: PTH112 (pathlib's fails at a name that is too long)
        return _files_within(Path(path))
    if os.path.exists(path):  # noqa: PTH110
        return iter([Path(path)])
    if glob.has_magic(path):
        return _files_matching(path)
    parent, name = os.path.split(path)
    beside = os.listdir(parent or ".") if os.path.isdir(parent or ".") else []  # noqa: PTH112, PTH208
    raise UserError(
        f"input={given}: there is no such image; give a file, a folder, a glob in quotes, or - for standard input, a "
        f"path a line{did_you_mean(name, beside)}"
    )


def _files_within(folder: Path) -> Iterator[Path]:
    ignored = Counter[str]()
    yield from _list_images(folder, ignored)
    if ignored:
        log.warning("%s: files that are no known images, by kind: %s", folder, dict(ignored))


def _files_matching(pattern: str) -> Iterator[Path]:
    for _, paths in groupby(glob.iglob(pattern, recursive=True), key=os.path.dirname):  # noqa: PTH207 (takes a whole path)
        yield from (Path(path) for path in sorted(paths) if not os.path.isdir(path))  # noqa: PTH112
